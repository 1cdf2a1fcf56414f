"""The gateway under test: the whole application on a real socket, in this event loop or as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa
import uvicorn

from gateway.api.serving import server_config
from gateway.app import create_app
from gateway.config import Settings
from gateway.demo.provider import FakeProvider, running
from gateway.resources import Resources, open_resources
from gateway.storage import tables
from tests.support.http_client import open_client
from tests.support.ports import free_port

ADMIN_KEY = "admin-key-of-the-tests"
PATH = "/v1/images/generations"


def settings_for(
    data_dir: Path,
    provider_url: str,
    *,
    port: int,
    provider_timeout_s: float = 20,
    books_lag_s: float = 900,
    provider_keys: Sequence[Mapping[str, Any]] = ({"value": "provider-secret", "max_concurrency": 1000},),
    **overrides: Any,
) -> Settings:
    """Settings with the fake as the live provider. `overrides` replace whole top-level settings."""
    provider = {
        "kind": "aimlapi",
        "base_url": provider_url,
        "image_hosts": [urlsplit(provider_url).netloc],
        "api_keys": list(provider_keys),
        "timeout_s": provider_timeout_s,
        "books_lag_s": books_lag_s,
    }
    values: dict[str, Any] = {
        "server": {"port": port, "drain_s": 20},
        "data_dir": data_dir,
        "security": {"admin_key": ADMIN_KEY},
        "providers": [provider, {"kind": "sandbox", "delay_s": 0}],
        **overrides,
    }
    return Settings(**values)


@dataclass
class Gateway:
    """A running gateway and a client for it. `opened`: its resources, when it runs in this event loop."""

    base_url: str
    http: httpx.AsyncClient
    opened: Resources | None = None

    @property
    def resources(self) -> Resources:
        assert self.opened is not None, "a process of its own"
        return self.opened

    async def admin(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        """A call of the admin API that must succeed."""
        response = await self.try_admin(method, path, json, **params)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def try_admin(self, method: str, path: str, json: Any = None, **params: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        url = f"{self.base_url}/admin/v1{path}"
        return await self.http.request(method, url, json=json, params=params, headers=headers)

    async def age(self, generation_id: str, *, hours: float) -> None:
        """What no code does: a generation that was sent so long ago."""
        g = tables.generations.c
        older = g.sent_ms - int(hours * 3_600_000)
        changed = sa.update(tables.generations).where(g.id == generation_id).values(sent_ms=older)
        await self.resources.database.write(lambda conn: conn.execute(changed))

    async def new_user(self, *, limits: Sequence[Mapping[str, Any]] = (), **fields: Any) -> str:
        user = await self.admin("POST", "/users", {"name": "A user", **fields})
        if limits:
            await self.admin("PUT", f"/users/{user['id']}/limits", list(limits))
        return str(user["id"])

    async def new_key(
        self, *, limits: Sequence[Mapping[str, Any]] = (), user_id: str | None = None, **fields: Any
    ) -> str:
        """The text of a new key, of a new user with these limits unless one is named."""
        user_id = user_id or await self.new_user(limits=limits)
        key = await self.admin("POST", "/keys", {"user_id": user_id, **fields})
        return str(key["key"])

    async def generate(self, key: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> httpx.Response:
        """One call; `fields` over a minimal valid body, None leaves a field out."""
        body = {"model": "flux-pro", "prompt": "A lighthouse at dawn", **fields}
        return await self.post(key, {k: v for k, v in body.items() if v is not None}, headers=headers)

    async def post(
        self, key: str, body: Any, *, path: str = PATH, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {"Authorization": f"Bearer {key}", **(headers or {})}
        raw = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self.http.post(f"{self.base_url}{path}", headers=sent, **raw)

    async def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        url = path if path.startswith("http") else self.base_url + path
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        return await self.http.get(url, headers={**sent, **headers})

    async def usage(self, *, mode: str = "live", **params: Any) -> dict[str, Any]:
        report: dict[str, Any] = (await self.admin("GET", "/usage", mode=mode, **params))["total"]
        return report

    async def generations(self, **params: Any) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = (await self.admin("GET", "/generations", limit=1000, **params))["data"]
        return page

    async def requests(self, **params: Any) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = (await self.admin("GET", "/requests", limit=1000, **params))["data"]
        return page


@asynccontextmanager
async def running_gateway(settings: Settings, *, thin_path: bool = True) -> AsyncIterator[Gateway]:
    """Serve the application in this event loop; on the way out it shuts down as `serve` does after draining."""
    async with open_resources(settings) as resources:
        app = create_app(settings, resources=resources)
        async with (
            _serving(server_config(app, settings, resources if thin_path else None), settings) as base_url,
            open_client(connect_timeout_s=30) as http,
        ):
            yield Gateway(base_url, http, resources)


@asynccontextmanager
async def _serving(config: uvicorn.Config, settings: Settings) -> AsyncIterator[str]:
    config.backlog = 4096
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    await asyncio.wait({serving, asyncio.ensure_future(server.listening.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
        raise RuntimeError("the gateway did not start")
    try:
        yield settings.server.base_url
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Says when it listens, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    def capture_signals(self) -> Any:
        from contextlib import nullcontext  # noqa: PLC0415

        return nullcontext()


@asynccontextmanager
async def gateway_and_provider(
    data_dir: Path, fake: FakeProvider | None = None, *, thin_path: bool = True, **overrides: Any
) -> AsyncIterator[tuple[Gateway, FakeProvider]]:
    """A gateway in front of a fake provider, both on real sockets."""
    fake = fake or FakeProvider()
    async with running(fake) as provider_url:
        settings = settings_for(data_dir, provider_url, port=free_port(), **overrides)
        async with running_gateway(settings, thin_path=thin_path) as gateway:
            yield gateway, fake


class GatewayProcess:
    """`darkroom serve` as a process of its own, to be killed. `start` returns once it is ready."""

    def __init__(
        self,
        data_dir: Path,
        provider_url: str,
        log: Path,
        *,
        provider: Mapping[str, Any] | None = None,
        others: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        **server: Any,
    ) -> None:
        """`provider` and `server`: settings of these sections; `others`: whole top-level settings."""
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.config = data_dir.parent / "config.yaml"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = environment or {}
        chosen = {
            "kind": "aimlapi",
            "base_url": provider_url,
            "image_hosts": [urlsplit(provider_url).netloc],
            "timeout_s": 20,
            "api_keys": [{"value": "provider-secret", "max_concurrency": 1000}],
            **(provider or {}),
        }
        settings = {
            "server": {"port": self.port, "drain_s": 5, **server},
            "data_dir": str(data_dir),
            "security": {"admin_key": ADMIN_KEY},
            "log": {"format": "json"},
            "providers": [chosen],
            **(others or {}),
        }
        self.config.write_text(json.dumps(settings))

    async def start(self, *, stderr: int | None = None) -> None:
        """`stderr`: a descriptor in place of the log, which gets nothing then."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  (`kill` is for callers that are not async)
                [sys.executable, "-m", "gateway", "--config", str(self.config), "serve"],
                stdout=log if stderr is None else subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONWARNINGS": "ignore", **self._environment},
            )
        async with httpx.AsyncClient(base_url=self.base_url) as http:
            while True:
                if self._process.poll() is not None:
                    raise RuntimeError(self._log.read_text())
                try:
                    if (await http.get("/readyz")).is_success:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, and don't wait."""
        os.kill(self.pid, number)

    async def exit_code(self) -> int:
        """Once it has ended by itself."""
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait)
        self._process = None
        return code

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None
