"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gateway.api.schemas_apply import ApplyBody
from gateway.domain.outcome import RULES
from gateway.providers.sandbox import MAGIC_SEEDS

ROOT = Path(__file__).parents[1]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def test_the_table_of_magic_seeds_is_what_the_sandbox_does():
    text = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert rows == [(str(seed), MAGIC_SEEDS[seed].description) for seed in sorted(MAGIC_SEEDS)]


def test_decisions_are_numbered_without_a_gap():
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts_and_fits_a_page(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^\*\*(Context|Decision|Consequences|Guarded by)\b", text, flags=re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "Guarded by",
    ]
    assert len(text.splitlines()) < 50


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_names_files_that_exist(path: Path):
    named = re.findall(r"`((?:gateway|tests)/[\w/.]+)`", path.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_links_lead_to_files_and_headings_that_exist():
    dead = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8")):
            name, _, heading = target.partition("#")
            file = path.parent / name if name else path
            if not file.exists() or (heading and heading not in headings(file)):
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert dead == []


def headings(file: Path) -> set[str]:
    """As GitHub names them in addresses."""
    found = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_test_that_a_promise_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", RELIABILITY)
    assert len(named) > 20
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8") + "def ("
    ]
    assert missing == []


def test_the_table_of_outcomes_is_what_the_rules_say():
    rows = re.findall(r"^\| (\w+) \| (yes|no|unknown) \| (\w+) \| (\w+) \|$", RELIABILITY, flags=re.MULTILINE)
    assert rows == [(seen.value, rule.charged, rule.remedy, rule.key) for seen, rule in RULES.items()]


def test_the_file_of_accounts_in_the_docs_is_one_that_can_be_applied():
    text = (ROOT / "docs" / "accounts.md").read_text(encoding="utf-8")
    example = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    key = example["users"][0]["keys"][0]
    key["expires_at"] = key["expires_at"].isoformat()
    key["hash"] = "0" * 64
    body = ApplyBody.model_validate({"source": "accounts.yaml", **example})
    body.declaration().check()
