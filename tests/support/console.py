"""The console as somebody who is signed in: pages, and forms with the secret of the page that they are on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.support.gateway import ADMIN_KEY, Gateway

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """A browser with one cookie. Addresses are below /console/."""

    gateway: Gateway
    cookie: str | None = None

    async def request(self, method: str, path: str, **sent: Any) -> httpx.Response:
        headers = {**sent.pop("headers", {}), **({"cookie": self.cookie} if self.cookie else {})}
        url = f"{self.gateway.base_url}/console/{path}".rstrip("/")
        response = await self.gateway.http.request(method, url, headers=headers, **sent)
        self.gateway.http.cookies.clear()  # the client is shared: each visitor has a jar of its own
        if given := response.headers.get("set-cookie"):
            pair = given.split(";")[0]
            self.cookie = pair if pair.partition("=")[2].strip('"') else None
        return response

    async def get(self, path: str, **params: str) -> httpx.Response:
        return await self.request("GET", path, params=params)

    async def text(self, path: str, **params: str) -> str:
        """What a page that must be there says, without its markup."""
        response = await self.get(path, **params)
        assert response.status_code == 200, (path, response.status_code, words_of(response.text))
        return words_of(response.text)

    async def send(self, path: str, action: str, **form: Any) -> httpx.Response:
        """What the button of this action of a page does, the question answered with yes, unless `confirmed` says no."""
        said = {"csrf": await self.csrf(path), "action": action, "confirmed": "1", **form}
        return await self.request("POST", path, data=said)

    async def csrf(self, path: str = "live/teams") -> str:
        page = (await self.get(path)).text
        found = _CSRF.search(page)
        assert found is not None, words_of(page)
        return found[1]

    async def sign_in(self, key: str, *, target: str = "", **headers: str) -> httpx.Response:
        path = f"sign-in?next={target}" if target else "sign-in"
        return await self.request("POST", path, data={"key": key}, headers=headers)


async def signed_in(gateway: Gateway, key: str = ADMIN_KEY) -> Visitor:
    who = Visitor(gateway)
    response = await who.sign_in(key)
    assert response.status_code == 303, words_of(response.text)
    return who


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.words.append(data.strip())


def words_of(html: str) -> str:
    """The text of a page, in one line."""
    parser = _Words()
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(parser.words))
