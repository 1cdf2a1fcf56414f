"""`darkroom demo`: what it promises, shown on this machine with a fake provider."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from gateway.cli.output import AsJson, console, show_json

demo = typer.Typer(no_args_is_help=True, help="See it work, with a fake provider or the sandbox.")

_PROVIDER_DELAY_S = 4.0
_READY_S = 30.0
_LONGEST_S = 120.0
_ADMIN_KEY = "admin-key-of-the-demo"


@dataclass
class Outcome:
    """Money in dollars, as text."""

    equal_calls: int
    different_calls: int
    answered: int = 0
    asked_again: int = 0
    charged_calls: int = 0
    bill_usd: str = "0"
    books_usd: str = "0"
    equal_cost_usd: str = "0"
    saved_usd: str = "0"
    recovered_s: float = 0.0
    seconds: float = 0.0
    drift: bool = False
    unanswered: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        even = Decimal(self.bill_usd) == Decimal(self.books_usd) and not self.drift
        return even and self.answered == self.equal_calls + self.different_calls


@demo.command("plug")
def plug(
    *,
    equal: Annotated[int, typer.Option("--equal", min=1, help="Calls for one and the same picture.")] = 200,
    different: Annotated[int, typer.Option("--different", min=1, help="Calls for a picture each.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Pull the plug in the middle of 400 purchases, and compare the provider's bill with the books afterwards.

    Starts a fake provider and the gateway on this machine, in a folder that is removed again.
    """
    outcome = asyncio.run(_Plug(equal, different, quiet=as_json).run())
    if as_json:
        show_json({**asdict(outcome), "good": outcome.good})
    else:
        _show(outcome)
    if not outcome.good:
        raise typer.Exit(1)


class _Plug:
    def __init__(self, equal: int, different: int, *, quiet: bool) -> None:
        self._outcome = Outcome(equal, different)
        self._provider_url = ""
        self._console = console(stderr=True)
        self._quiet = quiet

    async def run(self) -> Outcome:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="darkroom-demo-") as name, _provider() as provider_url:
            self._provider_url = provider_url
            gateway = _Gateway(Path(name), provider_url)
            limits = httpx.Limits(max_connections=None)
            try:
                gateway.start()
                async with httpx.AsyncClient(base_url=gateway.url, limits=limits, timeout=_LONGEST_S) as http:
                    await self._play(gateway, http)
                    await self._account(http)
            finally:
                gateway.kill()
        self._outcome.seconds = round(time.monotonic() - started, 1)
        return self._outcome

    async def _play(self, gateway: _Gateway, http: httpx.AsyncClient) -> None:
        await gateway.ready(http)
        self._say("The gateway is up, in front of a provider that takes 4 s a picture.")
        user = await _admin(http, "POST", "/users", {"name": "Demo"})
        key = (await _admin(http, "POST", "/keys", {"user_id": user["id"]}))["key"]
        calls = [asyncio.create_task(self._equal(http, key)) for _ in range(self._outcome.equal_calls)]
        calls += [asyncio.create_task(self._different(http, key, i)) for i in range(self._outcome.different_calls)]
        total = len(calls)
        self._say(f"{total} calls are on their way: {self._outcome.equal_calls} equal, the others all different.")
        under_way = await self._in_the_middle()
        gateway.kill()
        self._say(f"Pulled the plug: kill -9, with the provider at work on {under_way} of them.")
        began = time.monotonic()
        gateway.start()
        await gateway.ready(http)
        self._outcome.recovered_s = round(time.monotonic() - began, 1)
        self._say(f"It is back after {self._outcome.recovered_s} s; every caller asks again.")
        settling = asyncio.create_task(self._settle(http))
        await asyncio.gather(*calls)
        settling.cancel()

    async def _in_the_middle(self) -> int:
        """Once the provider has half of the orders. Returns how many it has."""
        async with httpx.AsyncClient(base_url=self._provider_url) as provider:
            calls = 0
            while calls < self._outcome.different_calls / 2:
                await asyncio.sleep(0.02)
                calls = (await provider.get("/_bill")).json()["calls"]
        return calls

    @staticmethod
    async def _settle(http: httpx.AsyncClient) -> None:
        """The gateway looks into the provider's books once a minute; a demonstration is not that patient."""
        while True:
            await _admin(http, "POST", "/reconcile", {})
            await asyncio.sleep(1)

    async def _equal(self, http: httpx.AsyncClient, key: str) -> None:
        body = {"model": "flux-pro", "prompt": "One lighthouse for all", "seed": 7}
        await self._ask(http, key, body, {})

    async def _different(self, http: httpx.AsyncClient, key: str, number: int) -> None:
        body = {"model": "flux-pro", "prompt": f"Lighthouse number {number}"}
        await self._ask(http, key, body, {"Idempotency-Key": f"demo-{number}"})

    async def _ask(self, http: httpx.AsyncClient, key: str, body: dict[str, Any], extra: dict[str, str]) -> None:
        """As a careful client does: the same call again while it is told to, or its connection broke.

        An outcome that is unknown is asked about until the books have settled it.
        """
        headers = {"Authorization": f"Bearer {key}", **extra}
        body = {**body, "image_size": {"width": 256, "height": 256}}
        deadline = time.monotonic() + _LONGEST_S
        told = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = await http.post("/v1/images/generations", json=body, headers=headers)
            except httpx.TransportError:
                told = "a broken connection"
            else:
                if answer.is_success:
                    self._outcome.answered += 1
                    return
                told = f"{answer.status_code} {answer.json()['error']['code']}"
                if "charged for it all the same" in answer.text:  # its picture is lost: a new order
                    headers["Idempotency-Key"] = f"demo-{secrets.token_hex(8)}"
            self._outcome.asked_again += 1
            await asyncio.sleep(0.25)
        self._outcome.unanswered.append(told)

    async def _account(self, http: httpx.AsyncClient) -> None:
        found = await _admin(http, "POST", "/reconcile", {})
        usage = (await _admin(http, "GET", "/usage"))["total"]
        async with httpx.AsyncClient() as provider:
            bill = (await provider.get(f"{self._provider_url}/_bill")).json()["bill"]
        outcome = self._outcome
        outcome.charged_calls = len(bill)
        outcome.bill_usd = _sum(bill)
        equal = [row for row in bill if row["body"].get("seed") == 7]
        outcome.equal_cost_usd = _sum(equal)
        outcome.books_usd, outcome.saved_usd = usage["cost_usd"], usage["saved_usd"]
        outcome.drift = found["drift"]

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(f"[dim]{text}[/dim]")


class _Gateway:
    """`darkroom serve` as a process, to be killed."""

    def __init__(self, folder: Path, provider_url: str) -> None:
        self._folder = folder
        host = provider_url.removeprefix("http://")
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "server": {"port": port},
            "data_dir": str(folder / "data"),
            "security": {"admin_key": _ADMIN_KEY},
            "log": {"level": "error"},
            "providers": [
                {
                    "kind": "aimlapi",
                    "base_url": provider_url,
                    "image_hosts": [host],
                    "api_keys": [{"value": "provider-secret", "max_concurrency": 1000}],
                    "timeout_s": 10,
                    "books_lag_s": 0,
                }
            ],
        }
        (folder / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gateway", "--config", str(self._folder / "config.yaml"), "serve"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_own_env())  # noqa: S603

    async def ready(self, http: httpx.AsyncClient) -> None:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/readyz")).is_success:
                    return
            await asyncio.sleep(0.05)
        raise typer.BadParameter(f"The gateway did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def _provider() -> Iterator[str]:
    """The fake provider as a process; its address."""
    command = [sys.executable, "-m", "gateway.demo.provider", "--port", "0", "--delay", str(_PROVIDER_DELAY_S)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_own_env())  # noqa: S603
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://\S+", line)
        if found is None:
            raise typer.BadParameter("The fake provider did not start.")
        yield found[0]
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _own_env() -> dict[str, str]:
    """Without settings of another gateway."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("DARKROOM__")}


def _free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _sum(rows: list[dict[str, Any]]) -> str:
    """Dollars without trailing zeros, as the gateway writes them."""
    return f"{sum((Decimal(row['cost_usd']) for row in rows), Decimal(0)).normalize():f}"


async def _admin(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {_ADMIN_KEY}"}
    answer = await http.request(method, f"/admin/v1{path}", json=body, headers=headers)
    answer.raise_for_status()
    return answer.json()


def _show(outcome: Outcome) -> None:
    calls = outcome.equal_calls + outcome.different_calls
    from rich.table import Table  # noqa: PLC0415  (heavy: not for every command)

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = [
        ("Calls answered with a picture", f"{outcome.answered} of {calls}"),
        ("Asked again, after the plug", str(outcome.asked_again)),
        ("Pictures the provider charged", str(outcome.charged_calls)),
        (f"The {outcome.equal_calls} equal calls cost", f"${outcome.equal_cost_usd}"),
        ("Saved by sharing and by the cache", f"${outcome.saved_usd}"),
        ("Back in business after", f"{outcome.recovered_s} s"),
        ("The provider's bill", f"${outcome.bill_usd}"),
        ("Our books", f"${outcome.books_usd}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console().print(table)
    if outcome.good:
        console().print("[bold green]Bill and books are equal, to the micro-dollar.[/bold green]")
    else:
        for told in sorted(set(outcome.unanswered)):
            console().print(f"[red]Never answered: told {told} at the end.[/red]")
        console().print("[bold red]Something is wrong: see above.[/bold red]")
