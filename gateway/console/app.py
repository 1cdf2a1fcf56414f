"""The console's routes: who is signed in, what the browser may do with a page, and every page behind the door."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.console.api import Api, ApiRefusal
from gateway.console.page import ROOT, Page, View, read_fields, read_form
from gateway.console.pages import VIEWS
from gateway.console.templating import ASSETS, VERSION, render
from gateway.console.throttle import SignInThrottle
from gateway.domain.administrator import Administrator
from gateway.domain.api_key import Mode
from gateway.errors import DarkroomError, InvalidApiKey, InvalidRequest
from gateway.resources import Resources

COOKIE = "darkroom_console"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"cross-origin-opener-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=()",
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
_log = structlog.get_logger(__name__)


class Console:
    """`inner`: the application with all routes, which pages call. `for_administrators` False: only callers come in."""

    def __init__(self, inner: ASGIApp, resources: Resources, *, for_administrators: bool) -> None:
        self._inner = inner
        self._resources = resources
        self._for_administrators = for_administrators
        self._throttle = SignInThrottle()

    def routes(self) -> list[Route]:
        return [
            Route(f"{ROOT}/assets/{{version}}/{{name}}", _asset),
            Route(f"{ROOT}/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route(f"{ROOT}/sign-out", self._sign_out, methods=["POST"]),
            Route(ROOT, self._start),
            Route(f"{ROOT}/", self._start),
            *(Route(f"{ROOT}/{{mode}}/{view.path}", self._serving(view), methods=["GET", "POST"]) for view in VIEWS),
        ]

    # -- the door --------------------------------------------------------------------------------------------

    async def _sign_in(self, request: Request) -> Response:
        target = _inside(request.query_params.get("next", ""))
        if request.method != "POST":
            return self._sign_in_page(target)
        if _is_foreign(request):
            return self._sign_in_page(target, "The form came from another site. Sign in here.", status=403)
        address = request.client.host if request.client else ""
        wait_s = self._throttle.wait_s(address, time.monotonic())
        if wait_s > 0:
            said = f"Too many attempts from your address. Try again in {wait_s:.0f} seconds."
            response = self._sign_in_page(target, said, status=429)
            response.headers["retry-after"] = f"{wait_s:.0f}"
            return response
        form = dict(await read_fields(request))
        try:
            token = await self._resources.sessions.sign_in(form.get("key", ""))
            signed_in = await self._resources.sessions.find(token)
            if signed_in is not None and not self._lets_in(signed_in.identity):
                await self._resources.sessions.sign_out(token)
                raise InvalidApiKey("Administrators sign in at the management port (management.port).")
        except DarkroomError as refusal:
            if refusal.status < 500:  # an outage of ours is no guess
                self._throttle.failed(address, time.monotonic())
            return self._sign_in_page(target, _why_not(refusal), status=refusal.status)
        response = RedirectResponse(target or ROOT, status_code=303)
        self._set_cookie(request, response, token, self._resources.sessions.life_s)
        return response

    def _sign_in_page(self, target: str, problem: str | None = None, *, status: int = 200) -> Response:
        administrators = self._for_administrators
        generated = self._resources.settings.security.admin_key is None
        body = render(
            "sign_in.html", problem=problem, target=quote(target), administrators=administrators, generated=generated
        )
        return HTMLResponse(body, status_code=status)

    async def _sign_out(self, request: Request) -> Response:
        page = await self._visit(request)
        if page is not None:
            await read_form(page)
            await self._resources.sessions.sign_out(request.cookies[COOKIE])
        response = RedirectResponse(f"{ROOT}/sign-in", status_code=303)
        self._set_cookie(request, response, "", 0)
        return response

    def _set_cookie(self, request: Request, response: Response, token: str, life_s: int) -> None:
        response.set_cookie(
            COOKIE, token, max_age=life_s, path=ROOT, httponly=True, samesite="lax", secure=self._is_secure(request)
        )

    def _is_secure(self, request: Request) -> bool:
        public = self._resources.settings.server.base_url
        return request.url.scheme == "https" or (
            urlsplit(public).netloc == request.url.netloc and public.startswith("https")
        )

    def _lets_in(self, identity: Any) -> bool:
        return self._for_administrators or not isinstance(identity, Administrator)

    # -- pages -----------------------------------------------------------------------------------------------

    async def _start(self, request: Request) -> Response:
        page = await self._page(request, "live")
        if isinstance(page, Response):
            return page
        if not isinstance(page.who, Administrator):
            return RedirectResponse(f"{ROOT}/{page.who.mode}/mine", status_code=303)
        return RedirectResponse(f"{ROOT}/{await _first_mode(page)}/overview", status_code=303)

    def _serving(self, view: View) -> Any:
        async def serve(request: Request) -> Response:
            page = await self._page(request, request.path_params["mode"])
            if isinstance(page, Response):
                return page
            if not _may_look(page, view):
                return page.show("problem.html", status_code=403, title="Not for you", message=_not_yours(page))
            try:
                return await (_act(page, view) if request.method == "POST" else view.show(page))
            except (ApiRefusal, DarkroomError) as refusal:
                return page.show(
                    "problem.html", status_code=refusal.status, title="That did not work", message=refusal.message
                )

        return serve

    async def _visit(self, request: Request) -> Page | None:
        """Of whoever is signed in, in the live view; None: nobody is."""
        token = request.cookies.get(COOKIE, "")
        signed_in = await self._resources.sessions.find(token) if token else None
        if signed_in is None:
            return None
        identity, csrf = signed_in
        return Page(
            request, Api(self._inner, identity), identity, "live", csrf, self._resources.settings.server.base_url
        )

    async def _page(self, request: Request, mode: str) -> Page | Response:
        """The visit; for who is not signed in the way to the door."""
        page = await self._visit(request)
        if page is None or not self._lets_in(page.who):
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            query = f"?next={quote(target)}" if request.method != "POST" and target != ROOT else ""
            return RedirectResponse(f"{ROOT}/sign-in{query}", status_code=303)
        if mode not in list(Mode):
            return page.show("problem.html", status_code=404, title="No such page", message=_NO_SUCH_PAGE)
        page.mode = mode
        return page


_NO_SUCH_PAGE = "Nothing is at this address."


async def _act(page: Page, view: View) -> Response:
    """What a form asks for; where it is refused, the page once more with what was wrong."""
    page.form = await read_form(page)
    action = view.actions.get(page.form.get("action", ""))
    if action is None:
        return page.show(
            "problem.html", status_code=400, title="That did not work", message="The form names no action."
        )
    if action.confirm is not None and page.form.get("confirmed") != "1":
        question = action.confirm if isinstance(action.confirm, str) else await action.confirm(page)
        return page.show("confirm.html", question=question, fields=_repeated(page))
    try:
        return await action.run(page)
    except ApiRefusal as refusal:
        page.problem, page.issues = refusal.message, refusal.issues
    except InvalidRequest as refusal:  # what the form itself can't make a request of
        page.problem = refusal.message
    return await view.show(page)


def _repeated(page: Page) -> Sequence[tuple[str, str]]:
    return [(name, value) for name, value in page.form.multi_items() if name not in {"csrf", "confirmed"}]


def _may_look(page: Page, view: View) -> bool:
    if isinstance(page.who, Administrator):
        return view.for_administrators
    return view.for_callers and page.mode == page.who.mode


def _not_yours(page: Page) -> str:
    if isinstance(page.who, Administrator):
        return "This page is for callers: sign in with a key dk_live_... or dk_test_... to see it."
    return "This page is for administrators. What your key spends is under “Spend and limits”."


async def _first_mode(page: Page) -> str:
    """Live, once there is something to see of it."""
    month = dt.datetime.now(dt.UTC) - dt.timedelta(days=90)
    report = await page.api.get("/admin/v1/usage", from_=month.strftime("%Y-%m-%dT00:00:00Z"))
    return "live" if report["total"]["requests"] else "test"


def _why_not(refusal: DarkroomError) -> str:
    if isinstance(refusal, InvalidApiKey):
        return f"This key does not fit. {refusal.message}"
    return refusal.message


def _inside(target: str) -> str:
    """A way back that leads nowhere else."""
    return target if target.startswith(ROOT + "/") and "\\" not in target and "//" not in target else ""


def _is_foreign(request: Request) -> bool:
    """Whether the browser says that another site made this request."""
    return request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}


async def _asset(request: Request) -> Response:
    """By their version, so for ever."""
    file = ASSETS / request.path_params["name"]
    if request.path_params["version"] != VERSION or file.parent != ASSETS or not file.is_file():
        return Response(status_code=404)
    return FileResponse(file, headers={"cache-control": "public, max-age=31536000, immutable"})


class _Guarded:
    """Puts on every answer what browsers must hold to. What is not an asset is not kept by anybody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in _HEADERS.items() if n not in given)]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._app(scope, receive, headed)


def make_console(inner: ASGIApp, resources: Resources, *, for_administrators: bool = True) -> ASGIApp:
    """The console, around the application whose API its pages call."""
    console = Console(inner, resources, for_administrators=for_administrators)
    app = Starlette(routes=console.routes())
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(DarkroomError, _refused)
    app.add_exception_handler(Exception, _failed)
    return _Guarded(GZipMiddleware(app, minimum_size=1000))


async def _not_found(_request: Request, _exc: Exception) -> Response:
    return HTMLResponse(render("standalone.html", title="No such page", message=_NO_SUCH_PAGE), status_code=404)


async def _refused(_request: Request, exc: Exception) -> Response:
    """Before it is known who looks: the database is gone, or a form is none."""
    status = exc.status if isinstance(exc, DarkroomError) else 500
    return HTMLResponse(render("standalone.html", title="That did not work", message=str(exc)), status_code=status)


async def _failed(_request: Request, exc: Exception) -> Response:
    _log.error("console_failed", exc_info=exc)
    said = "The gateway's log says why. If you were changing something, look whether it was changed."
    return HTMLResponse(render("standalone.html", title="Something broke on our side", message=said), status_code=500)
