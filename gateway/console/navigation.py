"""Where one can go, by who looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.domain.administrator import Administrator, Permission

if TYPE_CHECKING:
    from gateway.console.page import Page


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


def navigation(page: Page) -> list[Section]:
    """Only what the role may see."""
    if not isinstance(page.who, Administrator):
        return [Section("My usage", [_entry(page, *each) for each in _MINE])]
    who = page.who
    sections = (
        Section(label, [_entry(page, *each) for *each, permission in entries if who.may(permission)])
        for label, entries in _ADMINISTRATION
    )
    return [section for section in sections if section.entries]


def _entry(page: Page, label: str, place: str, icon: str) -> Entry:
    address = page.place(place)
    return Entry(label, address, icon, page.path == address or page.path.startswith(address + "/"))
