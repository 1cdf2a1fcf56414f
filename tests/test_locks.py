"""The locks: what pyproject.toml asks for, pinned and hashed, and nothing about where it came from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {
    "requirements.txt": (),
    "requirements-build.txt": ("build",),
    "requirements-dev.txt": ("build", "dev"),
    "requirements-bench.txt": ("bench",),
    "requirements-deploy.txt": ("deploy",),
    "requirements-fuzz.txt": ("fuzz",),
    "requirements-node.txt": ("node",),
    "requirements-otel.txt": (),
}


def pins_of(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def asked_of(lock: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [item for group in LOCKS[lock] for item in project["dependency-groups"][group]]
    if lock in {"requirements.txt", "requirements-dev.txt", "requirements-otel.txt"}:
        wanted += project["project"]["dependencies"]
    if lock in {"requirements-dev.txt", "requirements-otel.txt"}:
        wanted += project["project"]["optional-dependencies"]["otel"]
    return [Requirement(item) for item in wanted]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_the_project_asks_for(lock: str):
    pins = pins_of(lock)
    for wanted in asked_of(lock):
        assert pins.get(canonicalize_name(wanted.name), "") in wanted.specifier, f"{wanted}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_address(lock: str):
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in entry and "==" in entry.splitlines()[0] for entry in entries)
    assert "://" not in text
    assert " @ " not in text


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-build.txt", "requirements-otel.txt"])
def test_a_package_has_one_version_in_all_locks(lock: str):
    assert pins_of(lock).items() <= pins_of("requirements-dev.txt").items()


def test_the_lock_of_the_node_tests_holds_hashes_and_no_address():
    text = (ROOT / "tests/e2e/node/package-lock.json").read_text(encoding="utf-8")
    assert '"integrity": "sha512-' in text
    assert "://" not in text
