"""What each gateway buys, by the provider's own bill: equal calls at one moment, and calls on a budget."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.at_once import ask_at_once
from benchmarks.peers.litellm import CACHED, PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.report import Beside
from benchmarks.peers.work import Provider, picture
from benchmarks.servers import Gateway

EQUAL = 20
_DELAYS_S = (4, 8)
_ON_BUDGET = 100
_BUDGET_USD = 0.65  # ten pictures at 0.065
_WITHIN_S = 60


def measure(folder: Path, provider: Provider) -> list[Beside]:
    return [*_equal_calls(folder, provider), *_budget(folder, provider)]


def _equal_calls(folder: Path, provider: Provider) -> list[Beside]:
    """The peers as they cache hits, LiteLLM and nginx; Portkey as it is."""
    url = provider.base_url
    bought: dict[int, dict[str, str]] = {delay_s: {} for delay_s in _DELAYS_S}

    def ask(name: str, base_url: str, headers: dict[str, str]) -> None:
        for delay_s in _DELAYS_S:
            provider.start_over(delay_s=delay_s)
            ask_at_once(base_url, headers, [picture(delay_s, seed=delay_s)] * EQUAL, within_s=_WITHIN_S)
            bought[delay_s][name] = str(provider.charged())

    with Gateway(folder / "darkroom-equal", url) as gateway:
        ask("Darkroom", gateway.base_url, {"Authorization": f"Bearer {gateway.new_key()}"})
    for peer in (
        nginx(folder / "nginx-equal", url),
        litellm(folder / "litellm-equal", url, CACHED),
        portkey(folder / "portkey-equal", url),
    ):
        with peer:
            ask(peer.name, peer.base_url, peer.said)
    return [Beside(f"Pictures bought for {EQUAL} equal calls, {s} s each", bought[s]) for s in _DELAYS_S]


def _budget(folder: Path, provider: Provider) -> list[Beside]:
    """A budget for ten pictures, a hundred different calls at once, and one more a moment later."""
    url = provider.base_url
    bought, after = dict[str, str](), dict[str, str]()

    def ask(name: str, base_url: str, headers: dict[str, str]) -> None:
        provider.start_over(delay_s=1)
        ask_at_once(base_url, headers, [picture(number) for number in range(_ON_BUDGET)], within_s=_WITHIN_S)
        bought[name] = str(provider.charged())
        one_more = ask_at_once(base_url, headers, [picture(_ON_BUDGET)], within_s=_WITHIN_S)
        after[name] = "bought" if one_more.good else f"refused ({one_more.statuses[0]})"

    with Gateway(folder / "darkroom-budget", url) as gateway:
        ask("Darkroom", gateway.base_url, {"Authorization": f"Bearer {_key_with_budget(gateway)}"})
    with litellm(folder / "litellm-budget", url, PLAIN, budget_usd=_BUDGET_USD) as peer:
        ask(peer.name, peer.base_url, peer.said)
    return [
        Beside(f"Pictures bought by {_ON_BUDGET} calls at once on a budget for 10", bought),
        Beside("One more call after them", after),
    ]


def _key_with_budget(gateway: Gateway) -> str:
    user = gateway.admin("POST", "/users", {"name": "On a budget"})
    limit = {"metric": "cost_usd", "window": "day", "amount": str(_BUDGET_USD)}
    gateway.admin("PUT", f"/users/{user['id']}/limits", [limit])
    return str(gateway.admin("POST", "/keys", {"user_id": user["id"]})["key"])
