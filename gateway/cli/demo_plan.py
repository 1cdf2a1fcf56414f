"""The sample calls of `darkroom demo traffic`: who makes which call when. The same number gives the same calls."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

LABEL = {"demo": "traffic"}


class Person(NamedTuple):
    """`app`: what it works on, a tag of its calls. `limits`: its own."""

    name: str
    team: str
    app: str
    limits: Sequence[dict[str, Any]] = ()


TEAMS: dict[str, list[dict[str, Any]]] = {
    "Storefront": [{"metric": "cost_usd", "window": "month", "amount": "40", "alert_at": [80, 100]}],
    "Marketing": [{"metric": "cost_usd", "window": "month", "amount": "4", "alert_at": [50, 80, 100]}],
    "Research": [],
}
PEOPLE = (
    Person("Ada Okafor", "Storefront", "catalog"),
    Person("Ben Lindqvist", "Storefront", "search"),
    Person("Chiara Romano", "Marketing", "campaigns"),
    Person("Dmitri Petrov", "Marketing", "newsletter"),
    Person(
        "Emi Tanaka",
        "Research",
        "prototypes",
        ({"metric": "images", "window": "day", "amount": "6", "alert_at": [80, 100]},),
    ),
    Person(
        "Farid Haddad",
        "Research",
        "evaluation",
        (
            {"metric": "cost_usd", "window": "month", "amount": "10", "alert_at": [80, 100]},
            {"metric": "concurrency", "amount": "8"},
        ),
    ),
)
_SUBJECTS = (
    "A lighthouse at dawn", "A red fox in fresh snow", "An oak desk by a rainy window", "A bowl of ramen from above",
    "A glass greenhouse at night", "A hiking boot on wet granite", "A blue bicycle against a yellow wall",
    "A ceramic teapot with two cups", "A tram climbing a steep street", "A stack of folded linen",
    "An old harbour in the fog", "A kite over a wheat field",
)  # fmt: skip
_MANNERS = (
    "soft morning light", "studio photograph", "watercolour", "seen from far away", "macro lens", "flat illustration",
    "film grain", "isometric drawing",
)  # fmt: skip
_SIZES = ("1024x768", "768x1024", "512x512", "1024x576")
_REFUSED_SEEDS = (900400, 900500, 900400, 900403)
_UNKNOWN_SEED = 900504
_WEIGHTS = {"again": 50, "new": 24, "together": 8, "unseeded": 9, "eager": 4, "refused": 4, "wrong": 2}
_SOON = 0.08
"""How much of the time passes before a new picture is asked for again."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A call: when (0 to 1 of the time there is), by which of PEOPLE, and what it sends."""

    at: float
    person: int
    body: dict[str, Any]
    tags: str


def plan(calls: int, *, model: str, seed: int) -> list[Planned]:
    """So many calls, the earliest first: new pictures, ones asked for before, equal ones at once, what goes wrong."""
    return sorted(_Plan(calls, model, random.Random(seed)).calls(), key=lambda call: call.at)[:calls]  # noqa: S311


class _Plan:
    def __init__(self, calls: int, model: str, chance: random.Random) -> None:
        self._calls = calls
        self._model = model
        self._chance = chance
        self._refusals = itertools.cycle(_REFUSED_SEEDS)
        self._known: list[tuple[float, dict[str, Any]]] = []

    def calls(self) -> Iterator[Planned]:
        kinds = self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=self._calls)
        made: dict[str, Callable[[float], Iterator[Planned]]] = {
            "again": self._again,
            "new": self._new,
            "together": self._together,
            "unseeded": self._unseeded,
            "eager": self._eager,
            "refused": self._refused,
            "wrong": self._wrong,
        }
        yield self._call(0.5, {**self._body(), "seed": _UNKNOWN_SEED})
        for place, kind in enumerate(kinds):
            at = (place + self._chance.random()) / self._calls
            yield from made[kind](at)

    def _again(self, at: float) -> Iterator[Planned]:
        """One that somebody had before, the first ones most of all."""
        known = [body for when, body in self._known if when + _SOON < at]
        if not known:
            yield from self._new(at)
            return
        yield self._call(at, known[int(len(known) * self._chance.random() ** 2)])

    def _new(self, at: float) -> Iterator[Planned]:
        body = {**self._body(), "seed": self._chance.randrange(1, 10_000)}
        self._known.append((at, body))
        yield self._call(at, body)

    def _together(self, at: float) -> Iterator[Planned]:
        [first] = self._new(at)
        yield first
        for _ in range(self._chance.randrange(1, 4)):
            yield self._call(at, first.body)

    def _unseeded(self, at: float) -> Iterator[Planned]:
        yield self._call(at, self._body())

    def _eager(self, at: float) -> Iterator[Planned]:
        """By the one whose limit is soon reached."""
        [call] = self._unseeded(at)
        yield self._call(at, call.body, person=4)

    def _refused(self, at: float) -> Iterator[Planned]:
        yield self._call(at, {**self._body(), "seed": next(self._refusals)})

    def _wrong(self, at: float) -> Iterator[Planned]:
        yield self._call(at, {**self._body(), "size": "wide"})

    def _body(self) -> dict[str, Any]:
        prompt = f"{self._chance.choice(_SUBJECTS)}, {self._chance.choice(_MANNERS)}"
        return {"model": self._model, "prompt": prompt, "size": self._chance.choice(_SIZES)}

    def _call(self, at: float, body: dict[str, Any], *, person: int | None = None) -> Planned:
        who = self._chance.randrange(len(PEOPLE)) if person is None else person
        env = self._chance.choices(["prod", "staging"], [4, 1])[0]
        return Planned(at, who, body, f"app={PEOPLE[who].app},env={env}")
