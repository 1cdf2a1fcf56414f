"""`backup`, `restore` and `migrate` as commands: what they say and how they end. What they do: tests/e2e."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway.domain.api_key import hash_api_key
from gateway.storage.database import database_url, open_database
from gateway.storage.migrations import migrate
from tests.cli.test_cli import run
from tests.support.ledger import Books


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an embedded gateway's data: one purchase on the books.

    The commands set up the logs of their process, which here is that of all tests.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("secret", "encryption_key"):
        (tmp_path / "data" / name).write_text(f"{name:A<43}\n")

    async def fill() -> None:
        database = open_database(database_url(None, tmp_path / "data"))
        await migrate(database)
        books = Books(database)
        await books.publish(await books.answered())
        await database.close()

    asyncio.run(fill())
    yield tmp_path
    structlog.reset_defaults()


def test_a_backup_says_what_it_holds_and_is_verified(here: Path):
    shown = run("backup", "kept").output
    assert "Backed up into kept, as of 20" in shown
    assert "generations                  1   reserved_micro_usd 65,000, cost_micro_usd 65,000" in shown
    assert "which are not in it" in shown
    assert "The backup in kept is whole, as of 20" in run("backup", "kept", "--verify").output


def test_a_backup_without_the_bytes_of_a_picture_ends_with_status_2(here: Path):
    assert "Warning: 1 pictures had no bytes" in run("backup", "kept", "--images", status=2).output


def test_mistakes_end_with_status_1_and_say_what_to_do(here: Path):
    run("backup", "kept")
    for command, said in (
        (("backup", "kept"), "kept is there already"),
        (("backup", "nowhere", "--verify"), "There is no backup in nowhere"),
        (("restore", "kept"), "is not empty (it has "),
        (("migrate", "--to", "mysql://x/y"), "mysql is not supported"),
        (("migrate", "--to", "sqlite:///x.db"), "migrate --to copies an embedded database"),
        (("migrate", "--to", "postgresql://u@127.0.0.1:1/x"), "postgresql://u@127.0.0.1:1/x can't be reached"),
    ):
        assert said in run(*command, status=1).output


def test_a_data_folder_that_can_t_be_locked_is_told(here: Path):
    (here / "data" / "lock").mkdir()
    for command in (("migrate", "--to", "postgresql://u@127.0.0.1:1/x"), ("restore", "kept")):
        assert "data/lock can't be used: Is a directory" in run(*command, status=1).output


def test_a_damaged_backup_is_told_by_file(here: Path):
    run("backup", "kept")
    (here / "kept" / "users.jsonl.gz").unlink()
    assert "users.jsonl.gz is missing or was changed" in run("backup", "kept", "--verify", status=1).output


def test_a_restore_elsewhere_warns_of_the_secret_that_is_not_there(here: Path, monkeypatch: pytest.MonkeyPatch):
    run("backup", "kept")
    monkeypatch.setenv("DARKROOM__DATA_DIR", "elsewhere")
    shown = run("restore", "kept", status=2).output
    [name] = json.loads((here / "kept" / "manifest.json").read_text())["secrets"]
    assert f"Warning: security.secrets lacks {name}" in shown
    assert not (here / "elsewhere" / "secret").exists()
    assert "AAAA" not in shown + (here / "kept" / "manifest.json").read_text()


def test_a_key_is_hashed_with_the_secret_that_was_generated(here: Path):
    made = json.loads(run("key", "hash", "--json").output)
    assert made["hash"] == hash_api_key(made["key"], f"{'secret':A<43}".encode())
    (here / "data" / "secret").unlink()
    assert "data/secret is, which the gateway made" in run("key", "hash", status=1).output
    assert not (here / "data" / "secret").exists()


def test_migrate_without_a_target_brings_the_database_to_this_version(here: Path):
    assert "at this version's schema" in run("migrate").output
