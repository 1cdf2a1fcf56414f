"""What each gateway buys, by the provider's own bill: equal calls at one moment, and calls on a budget."""

from __future__ import annotations

from pathlib import Path

from benchmarks.calls import bodies, body
from benchmarks.crowd import Answers
from benchmarks.peers.litellm import CACHED, PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.report import Beside
from benchmarks.peers.work import Contender, Provider
from benchmarks.servers import Gateway

EQUAL = 20
_DELAYS_S = (4, 8)
_ON_BUDGET = 100
_BUDGET_USD = 0.65  # ten pictures at 0.065


def measure(folder: Path, provider: Provider) -> list[Beside]:
    return [*_equal_calls(folder, provider), *_budget(folder, provider)]


def _equal_calls(folder: Path, provider: Provider) -> list[Beside]:
    """The peers as they cache hits, LiteLLM and nginx; Portkey as it is."""
    url = provider.base_url
    bought: dict[int, dict[str, str]] = {delay_s: {} for delay_s in _DELAYS_S}

    def ask(asked: Contender) -> None:
        for delay_s in _DELAYS_S:
            provider.start_over(delay_s=delay_s)
            with asked.crowd(folder, [body(delay_s)] * EQUAL) as crowd:
                crowd.outcome()
            bought[delay_s][asked.name] = str(provider.charged())

    with Gateway(folder / "darkroom-equal", url) as gateway:
        ask(Contender.ours(gateway))
    for peer in (
        nginx(folder / "nginx-equal", url),
        litellm(folder / "litellm-equal", url, CACHED),
        portkey(folder / "portkey-equal", url),
    ):
        with peer:
            ask(Contender.theirs(peer))
    return [Beside(f"Pictures bought for {EQUAL} equal calls, {s} s each", bought[s]) for s in _DELAYS_S]


def _budget(folder: Path, provider: Provider) -> list[Beside]:
    """A budget for ten pictures, a hundred different calls at once, and one more a moment later."""
    url = provider.base_url
    bought, after = dict[str, str](), dict[str, str]()

    def ask(asked: Contender) -> None:
        provider.start_over(delay_s=1)
        with asked.crowd(folder, bodies(range(1, _ON_BUDGET + 1))) as crowd:
            crowd.outcome()
        bought[asked.name] = str(provider.charged())
        with asked.crowd(folder, [body(_ON_BUDGET + 1)]) as crowd:
            after[asked.name] = _said(crowd.outcome())

    with Gateway(folder / "darkroom-budget", url) as gateway:
        ask(Contender.ours(gateway, _key_with_budget(gateway)))
    with litellm(folder / "litellm-budget", url, PLAIN, budget_usd=_BUDGET_USD) as peer:
        ask(Contender.theirs(peer))
    return [
        Beside(f"Pictures bought by {_ON_BUDGET} calls at once on a budget for 10", bought),
        Beside("One more call after them", after),
    ]


def _said(found: Answers) -> str:
    """A refusal with its status line."""
    if found.answered:
        return "bought"
    first_line, _, _ = found.a_refusal.partition("\r\n")
    return f"refused: {first_line.removeprefix('HTTP/1.1 ')}"


def _key_with_budget(gateway: Gateway) -> str:
    user = gateway.admin("POST", "/users", {"name": "On a budget"})
    limit = {"metric": "cost_usd", "window": "day", "amount": str(_BUDGET_USD)}
    gateway.admin("PUT", f"/users/{user['id']}/limits", [limit])
    return str(gateway.admin("POST", "/keys", {"user_id": user["id"]})["key"])
