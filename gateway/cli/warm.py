"""`darkroom warm`: fills the cache from a file of requests, one a line. What is there is not bought again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import typer

from gateway.cli.client import (
    PURCHASE_TIMEOUT_S,
    base_url,
    bearer,
    caller_key,
    fail,
    refusal,
    unreachable,
    waiting_s,
)
from gateway.cli.output import console
from gateway.domain.pricing import micro_usd, usd

_ATTEMPTS = 20


class Line(NamedTuple):
    number: int
    body: dict[str, Any]


class Failure(NamedTuple):
    number: int
    message: str


@dataclass
class Estimate:
    hits: int = 0
    to_buy: int = 0
    cost_micro_usd: int = 0

    def add(self, quote: dict[str, Any]) -> None:
        if quote["hit"]:
            self.hits += 1
        else:
            self.to_buy += 1
            self.cost_micro_usd += micro_usd(quote["cost_usd"])


def warm(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines: bodies of requests.")],
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=256)] = 4,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Buy every picture of a list that the cache does not hold yet. Stopped, it resumes where it was."""
    asyncio.run(_warm(_read(file), concurrency=concurrency, yes=yes))


async def _warm(lines: list[Line], *, concurrency: int, yes: bool) -> None:
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(
        base_url=base_url(), headers=bearer(caller_key()), timeout=PURCHASE_TIMEOUT_S, limits=limits
    ) as http:
        estimate = Estimate()
        quoted = await _each(http, "/v1/images/quote", lines, concurrency, estimate.add)
        _report(quoted)
        typer.echo(
            f"{len(lines)} requests: {estimate.hits} in the cache, {estimate.to_buy} to buy"
            f" for about ${usd(estimate.cost_micro_usd)}."
        )
        if estimate.to_buy == 0:
            return
        if not yes:
            typer.confirm("Go on?", abort=True, err=True)
        _report(await _each(http, "/v1/images/generations", lines, concurrency, lambda _answer: None))


async def _each(
    http: httpx.AsyncClient,
    path: str,
    lines: list[Line],
    concurrency: int,
    take: Callable[[dict[str, Any]], None],
) -> list[Failure]:
    """Post every line, `concurrency` at a time; the failures, by line."""
    waiting, failures = iter(lines), []
    from rich.progress import Progress  # noqa: PLC0415  (heavy: not for every command)

    with Progress(console=console(stderr=True)) as progress:
        task = progress.add_task(path.rpartition("/")[2], total=len(lines))

        async def work() -> None:
            for line in waiting:
                outcome = await _post(http, path, line.body)
                if isinstance(outcome, str):
                    failures.append(Failure(line.number, outcome))
                else:
                    take(outcome)
                progress.advance(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    return sorted(failures)


async def _post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any] | str:
    """The answer, or why there is none. Waits when told that waiting helps."""
    for attempt in range(_ATTEMPTS):
        try:
            response = await http.post(path, json=body)
        except httpx.HTTPError as exc:
            return unreachable(str(http.base_url).rstrip("/"), exc)
        wait_s = waiting_s(response)
        if wait_s is None or attempt == _ATTEMPTS - 1:
            break
        await asyncio.sleep(wait_s)
    answer: dict[str, Any] | str = refusal(response) if response.is_error else response.json()
    return answer


def _read(file: Path) -> list[Line]:
    """Every line that is not blank, equal ones once. One that can't be warmed ends the command; nothing is bought."""
    lines, failures = [], []
    seen: set[str] = set()
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if text.strip():
            try:
                body = json.loads(text)
            except ValueError as exc:
                failures.append(Failure(number, f"not JSON: {exc}"))
            else:
                if not isinstance(body, dict):
                    failures.append(Failure(number, "not a JSON object"))
                elif "seed" not in body:
                    failures.append(Failure(number, "has no seed, so the cache would not keep it; give it one"))
                elif text.strip() not in seen:
                    seen.add(text.strip())
                    lines.append(Line(number, body))
    _report(failures)
    return lines


def _report(failures: list[Failure]) -> None:
    """Ends the command if there are any."""
    if failures:
        fail("\n".join(f"line {number}: {message}" for number, message in failures))
