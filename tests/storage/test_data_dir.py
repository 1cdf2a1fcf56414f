"""The data folder: its lock and its secrets."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.storage.data_dir import kept_secret, locked, make_data_dir, write_secret


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
