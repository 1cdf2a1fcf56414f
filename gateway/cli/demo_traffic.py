"""`darkroom demo traffic`: a minute of sample calls, so that there is something to look at. With test keys alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import typer

from gateway.cli.client import PURCHASE_TIMEOUT_S, Client, admin_client, bearer, caller_url, fail, unreachable
from gateway.cli.demo_plan import LABEL, PEOPLE, TEAMS, Planned, plan
from gateway.cli.output import AsJson, console, show_json, show_record
from gateway.domain.pricing import micro_usd, usd

_EVERYBODY = 10_000
_KEY_NAME = "Sample traffic"
_OUTCOMES = {  # of `Cache-Status`, as people say it
    "hit": "hits",
    "collapsed": "joined",
    "stored": "bought",
}


@dataclass
class Traffic:
    """What came of the calls. Play money, in micro-dollars."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    cost_micro_usd: int = 0
    saved_micro_usd: int = 0

    def add(self, answer: httpx.Response) -> None:
        self.cost_micro_usd += micro_usd(answer.headers.get("darkroom-cost-usd", "0"))
        self.saved_micro_usd += micro_usd(answer.headers.get("darkroom-saved-usd", "0"))
        if answer.is_error:
            self.outcomes["refused"] += 1
            self.refusals[str(answer.json()["error"]["code"])] += 1
        else:
            said = answer.headers["cache-status"]
            self.outcomes[next((name for word, name in _OUTCOMES.items() if word in said), "bought")] += 1


def traffic(
    ctx: typer.Context,
    *,
    calls: Annotated[int, typer.Option("--calls", min=1, max=100_000, help="How many.")] = 300,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="How long they take.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Another number, other calls.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make sample calls with test keys: hits, purchases, calls that share one, refusals, and what goes wrong.

    For that there are three teams and six users with the label demo=traffic; a second time they are found again. The
    gateway is the running one; nothing is bought from a provider.
    """
    client = admin_client(ctx)
    keys = _keys(client)
    base_url = caller_url(ctx)
    planned = plan(calls, model=_model(base_url, keys[0]), seed=seed)
    made = asyncio.run(_make(base_url, keys, planned, seconds=seconds, quiet=as_json))
    console_url = f"{client.base_url}/console/test/overview"
    if as_json:
        show_json(
            {
                "calls": made.outcomes.total(),
                **made.outcomes,
                "refusals": made.refusals,
                "cost_usd": usd(made.cost_micro_usd),
                "saved_usd": usd(made.saved_micro_usd),
                "console": console_url,
            }
        )
    else:
        _show(made, console_url)


def _keys(client: Client) -> list[str]:
    """A new test key of each of the sample users, whose earlier ones go. Accounts are made unless they are there."""
    teams = {team["name"]: team["id"] for team in _ours(client, "teams")}
    for name, limits in TEAMS.items():
        if name not in teams:
            teams[name] = client.send("POST", "/admin/v1/teams", {"name": name, "labels": LABEL})["id"]
            client.send("PUT", f"/admin/v1/teams/{teams[name]}/limits", limits)
    users = {user["name"]: user["id"] for user in _ours(client, "users")}
    for person in PEOPLE:
        if person.name not in users:
            email = f"{person.name.lower().replace(' ', '.')}@example.com"
            body = {"name": person.name, "email": email, "team_id": teams[person.team], "labels": LABEL}
            users[person.name] = client.send("POST", "/admin/v1/users", body)["id"]
            client.send("PUT", f"/admin/v1/users/{users[person.name]}/limits", list(person.limits))
    return [_new_key(client, users[person.name]) for person in PEOPLE]


def _new_key(client: Client, user_id: str) -> str:
    for key in client.list("/admin/v1/keys", limit=_EVERYBODY, user_id=user_id, mode="test"):
        if key["labels"] == LABEL:
            client.send("DELETE", f"/admin/v1/keys/{key['id']}")
    made = client.send(
        "POST", "/admin/v1/keys", {"user_id": user_id, "name": _KEY_NAME, "mode": "test", "labels": LABEL}
    )
    return str(made["key"])


def _ours(client: Client, kind: str) -> list[dict[str, Any]]:
    return [each for each in client.list(f"/admin/v1/{kind}", limit=_EVERYBODY) if each["labels"] == LABEL]


async def _make(
    base_url: str, keys: Sequence[str], planned: Sequence[Planned], *, seconds: float, quiet: bool
) -> Traffic:
    from rich.progress import Progress  # noqa: PLC0415  (heavy: not for every command)

    made, failures = Traffic(), list[httpx.HTTPError]()
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=base_url, timeout=PURCHASE_TIMEOUT_S, limits=limits) as http:
        with Progress(console=console(stderr=True), disable=quiet) as progress:
            task = progress.add_task("calls", total=len(planned))
            began = time.monotonic()

            async def call(one: Planned) -> None:
                await asyncio.sleep(began + one.at * seconds - time.monotonic())
                headers = {**bearer(keys[one.person]), "Darkroom-Tags": one.tags}
                try:
                    made.add(await http.post("/v1/images/generations", json=one.body, headers=headers))
                except httpx.HTTPError as exc:
                    failures.append(exc)
                progress.advance(task)

            async with asyncio.TaskGroup() as group:
                for one in planned:
                    group.create_task(call(one))
    if failures:
        fail(unreachable(base_url, failures[0]))
    return made


def _model(base_url: str, key: str) -> str:
    """The first that there is."""
    return str(Client(base_url, key).get("/v1/models")["data"][0]["id"])


def _show(made: Traffic, console_url: str) -> None:
    refused = [f"{count} {code}" for code, count in made.refusals.most_common()]
    show_record(
        {
            "Calls": made.outcomes.total(),
            **{name.capitalize(): made.outcomes[name] for name in ("hits", "joined", "bought", "refused")},
            "Refusals": ", ".join(refused),
            "Cost": f"${usd(made.cost_micro_usd)} of play money",
            "Saved": f"${usd(made.saved_micro_usd)}",
            "Console": console_url,
        }
    )
