"""The data folder: its lock and its secrets."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.storage.data_dir import adopt, kept_secret, left_places, locked, make_data_dir, worker_dir, write_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_its_owners_alone(tmp_path: Path):
    make_data_dir(tmp_path / "a" / "b")
    make_data_dir(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_folder_that_cannot_be_made_is_a_mistake_in_the_settings(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"data_dir: .*file can't be made"):
        make_data_dir(tmp_path / "file")


def test_a_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path):
    made = kept_secret(tmp_path, "secret")
    assert len(made) >= 32
    assert kept_secret(tmp_path, "secret") == made != kept_secret(tmp_path, "another")
    assert mode(tmp_path / "secret") == 0o600


def test_a_secret_written_over_another_is_whole_and_leaves_nothing_beside_it(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_secret(file, "new")
    assert file.read_text() == "new\n"
    assert mode(file) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_second_process_is_refused_until_the_first_lets_go(tmp_path: Path):
    take = (
        f"from gateway.storage.data_dir import locked\nwith locked(__import__('pathlib').Path({str(tmp_path)!r})): pass"
    )
    with locked(tmp_path):
        refused = subprocess.run([sys.executable, "-c", take], capture_output=True, text=True, check=False)
        with pytest.raises(ConfigurationError, match="another darkroom is running"), locked(tmp_path):
            pass
    assert refused.returncode != 0
    assert "another darkroom is running" in refused.stderr
    subprocess.run([sys.executable, "-c", take], check=True)


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_what_is_adopted_is_all_there_beside_what_was_there_before(tmp_path: Path):
    """Also what was begun before: the one who adopts may have been killed in the middle of it."""
    mine, left = worker_dir(tmp_path, 1), worker_dir(tmp_path, 3)
    put(mine / "journal" / "00000007.jsonl", "mine")
    put(left / "journal" / "00000007.jsonl", "left, first")
    put(left / "journal" / "00000010.jsonl", "left, second")
    put(left / "journal" / "00000009.damaged", "for people to look at")
    put(mine / "spool" / "ab" / "cd" / "abcd1", "picture 1")
    put(left / "spool" / "ab" / "cd" / "abcd1", "picture 1")
    put(left / "spool" / "ab" / "cd" / "abcd2", "picture 2")
    put(left / "spool" / "ab" / "ef" / "abef3", "picture 3")
    for _ in range(2):
        adopt(mine, left, wait_s=0)
    journal = {file.name: file.read_text() for file in (mine / "journal").iterdir()}
    assert journal == {
        "00000007.jsonl": "mine", "00000008.jsonl": "left, first", "00000009.jsonl": "left, second",
    }  # fmt: skip
    spool = {file.name: file.read_text() for file in (mine / "spool").rglob("ab??*")}
    assert spool == {"abcd1": "picture 1", "abcd2": "picture 2", "abef3": "picture 3"}
    assert not list((left / "spool").rglob("ab??*"))


def test_nothing_is_adopted_of_a_process_that_runs(tmp_path: Path):
    mine, left = worker_dir(tmp_path, 1), worker_dir(tmp_path, 2)
    put(left / "journal" / "00000001.jsonl", "not ours")
    take = f"""
from pathlib import Path
from gateway.storage.data_dir import adopt
adopt(Path({str(mine)!r}), Path({str(left)!r}), wait_s=0)
"""
    with locked(left):
        refused = subprocess.run([sys.executable, "-c", take], capture_output=True, text=True, check=False)
    assert "another darkroom is running" in refused.stderr
    assert (left / "journal" / "00000001.jsonl").exists()


def test_one_of_several_adopts_for_all_and_one_alone_is_the_heir_of_all(tmp_path: Path):
    for number in (1, 2, 3):
        worker_dir(tmp_path, number).mkdir()
    assert left_places(tmp_path, worker=1, workers=2) == [tmp_path, worker_dir(tmp_path, 3)]
    assert left_places(tmp_path, worker=2, workers=2) == []
    assert left_places(tmp_path, worker=None, workers=1) == [worker_dir(tmp_path, number) for number in (1, 2, 3)]
