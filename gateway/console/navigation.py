"""Where one can go, by who looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.domain.administrator import Administrator, Permission
from gateway.domain.caller import Caller


class Entry(NamedTuple):
    label: str
    address: str
    icon: str
    is_here: bool


class Section(NamedTuple):
    label: str
    entries: Sequence[Entry]


_ADMINISTRATION: tuple[tuple[str, tuple[tuple[str, str, str, Permission], ...]], ...] = (
    (
        "Money",
        (
            ("Overview", "overview", "overview", Permission.SEE),
            ("Usage", "usage", "usage", Permission.SEE),
            ("Calls", "calls", "calls", Permission.SEE),
            ("Limits", "limits", "limits", Permission.SEE),
            ("Statements", "statements", "statements", Permission.SEE),
        ),
    ),
    (
        "Pictures",
        (
            ("Gallery", "gallery", "gallery", Permission.SEE),
            ("Playground", "playground", "playground", Permission.SPEND),
        ),
    ),
    (
        "Access",
        (
            ("Teams", "teams", "teams", Permission.SEE),
            ("Users", "users", "users", Permission.SEE),
            ("Keys", "keys", "keys", Permission.SEE),
            ("Administrators", "administrators", "administrators", Permission.MANAGE_ADMINISTRATORS),
        ),
    ),
    (
        "Operations",
        (
            ("Providers", "providers", "providers", Permission.SEE_ALL),
            ("Purchases", "purchases", "purchases", Permission.SEE),
            ("Alerts", "alerts", "alerts", Permission.SEE_ALL),
            ("Audit trail", "audit", "audit", Permission.SEE),
        ),
    ),
)
_MINE = (
    ("Spend and limits", "mine", "overview"),
    ("My pictures", "pictures", "gallery"),
    ("Playground", "playground", "playground"),
)


def navigation(who: Administrator | Caller, here: str, place: Callable[[str], str]) -> list[Section]:
    """Only what the role may see. `place`: the address of what is named in the view that one is in."""

    def entry(label: str, name: str, icon: str) -> Entry:
        address = place(name)
        return Entry(label, address, icon, here == address or here.startswith(address + "/"))

    if not isinstance(who, Administrator):
        return [Section("My usage", [entry(*each) for each in _MINE])]
    sections = (
        Section(label, [entry(*each) for *each, permission in entries if who.may(permission)])
        for label, entries in _ADMINISTRATION
    )
    return [section for section in sections if section.entries]
