"""One visit to a page: who looks, in which mode, at what; and how it is answered."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.api import Api
from gateway.console.navigation import navigation
from gateway.console.templating import render
from gateway.domain.administrator import Administrator, Permission
from gateway.domain.caller import Caller
from gateway.errors import DarkroomError, InvalidRequest

ROOT = "/console"
DONE = {
    "created": "Created.",
    "saved": "Saved.",
    "deleted": "Deleted.",
    "disabled": "Disabled. It is refused everywhere within seconds.",
    "enabled": "Enabled.",
    "purged": "Removed. Its address answers 410 from now on.",
    "nothing-purged": "Nothing was there to remove.",
    "settled": "Settled.",
    "adjusted": "Corrected.",
    "erased": "Erased. The money rows stay, under a pseudonym.",
    "closed": "Closed. Later corrections come into the months after it.",
    "delivered": "The test was delivered.",
    "not-delivered": "The test was not delivered: the log below says why.",
    "queued": "It will be delivered again within seconds.",
}
"""What an address may say that was done: never text of its own, which a link could forge."""

Form = ImmutableMultiDict[str, str]
_MAX_FIELDS = 4000
_MAX_DIGITS = 15


class Stale(DarkroomError):
    """A form whose secret is not this session's."""

    code = "stale_form"
    status = 403
    type = "permission_error"


@dataclass(slots=True)
class Page:
    """`base_url`: where callers reach the gateway.

    `problem`: what was refused of a form that this page now shows again, `form` with what it said.
    """

    request: Request
    api: Api
    who: Administrator | Caller
    mode: str
    csrf: str
    base_url: str
    problem: str | None = None
    issues: list[str] = field(default_factory=list)
    form: Form = field(default_factory=ImmutableMultiDict)

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def path(self) -> str:
        return self.request.url.path

    @property
    def administrator(self) -> Administrator:
        assert isinstance(self.who, Administrator)
        return self.who

    @property
    def is_administrator(self) -> bool:
        return isinstance(self.who, Administrator)

    @property
    def name(self) -> str:
        """Who is signed in, as the menu says it."""
        return self.who.name if isinstance(self.who, Administrator) else f"{self.who.key_prefix}…"

    @property
    def role(self) -> str:
        return self.who.role.value if isinstance(self.who, Administrator) else f"caller, {self.who.mode} key"

    def may(self, permission: str) -> bool:
        """Whether to show what needs it. The API decides again."""
        return isinstance(self.who, Administrator) and self.who.may(Permission[permission.upper()])

    def id(self) -> str:
        """Of the thing that the address names. What is no id, `Api` finds out."""
        value: str = self.request.path_params["id"]
        return value

    def posted_id(self, name: str) -> str:
        """Of the thing that a form names."""
        return self.form.get(name, "")

    def place(self, rest: str, **query: str | None) -> str:
        """An address of this mode."""
        given = {name.rstrip("_"): value for name, value in query.items() if value not in {None, ""}}
        return f"{ROOT}/{self.mode}/{rest}" + (f"?{urlencode(given)}" if given else "")

    def here(self, **changes: str | None) -> str:
        """This address with other parameters; None takes one out. What was said to be done is not said again."""
        given = {**self.query, **changes}
        kept = {name: value for name, value in given.items() if value not in {None, ""} and name != "done"}
        return self.path + (f"?{urlencode(kept)}" if kept else "")

    def in_mode(self, mode: str) -> str:
        """What is seen here, in the other view; of one thing the list that it is in: it lives in one mode alone."""
        rest = self.path.removeprefix(f"{ROOT}/{self.mode}/")
        kept = {name: value for name, value in self.query.items() if name in {"period", "from", "to", "group"}}
        query = f"?{urlencode(kept)}" if kept else ""
        return f"{ROOT}/{mode}/{rest.split('/')[0]}{query}"

    def done(self, what: str, place: str | None = None) -> Response:
        """Back to the page, which says so."""
        target = place or self.path
        return RedirectResponse(f"{target}{'&' if '?' in target else '?'}done={what}", status_code=303)

    def show(self, template: str, *, status_code: int = 200, **context: Any) -> Response:
        body = render(
            template,
            page=self,
            nav=navigation(self.who, self.path, self.place),
            said=DONE.get(self.query.get("done", "")) if self.problem is None else None,
            csrf=_masked(self.csrf),
            **context,
        )
        return HTMLResponse(body, status_code=400 if self.problem is not None else status_code)


async def read_fields(request: Request) -> list[tuple[str, str]]:
    """What a form says, whoever sent it. Raises InvalidRequest for more fields than any page has."""
    body = (await request.body()).decode(errors="replace")
    try:
        return parse_qsl(body, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise InvalidRequest(f"A form has {_MAX_FIELDS} fields at most.", param=None) from exc


def whole_number(name: str, text: str, like: str) -> int:
    """Raises InvalidRequest, which shows what it should look like, for all but some digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InvalidRequest(f"{name}: a whole number is due, like {like}.", param=name)
    return int(text)


async def read_form(page: Page) -> Form:
    """The form that was posted. Raises Stale unless it comes from a page of this session."""
    form: Form = ImmutableMultiDict(await read_fields(page.request))
    if not hmac.compare_digest(_unmasked(form.get("csrf", "")), page.csrf.encode()):
        raise Stale("This page was made for another session. Nothing was changed: load it again, then repeat.")
    return form


def _masked(token: str) -> str:
    """Never the same twice: pages are compressed, and what is repeated in them could be guessed by their length."""
    plain = token.encode()
    pad = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(pad + _xor(pad, plain)).decode()


def _unmasked(masked: str) -> bytes:
    try:
        both = base64.urlsafe_b64decode(masked.encode())
    except (ValueError, binascii.Error):
        return b""
    half = len(both) // 2
    return _xor(both[:half], both[half:])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))


Show = Callable[[Page], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Action:
    """What a form of a page does. `confirm`: what is asked first, or what finds out what to ask. Where the API refuses,
    the page is shown again.
    """

    run: Show
    confirm: str | Callable[[Page], Awaitable[str]] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A page below `/console/{mode}/`: for whom, how it is shown, and what its forms do by the name of their action."""

    path: str
    show: Show
    actions: Mapping[str, Action] = field(default_factory=dict)
    for_administrators: bool = True
    for_callers: bool = False
