"""A start: what it does without, and what it warns of."""

from __future__ import annotations

import json
import os
import pty
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import ConfigurationError
from gateway.resources import examine, open_resources
from tests.support.gateway import settings_for
from tests.support.ports import free_port


def test_the_command_line_imports_nothing_that_only_some_commands_need() -> None:
    code = "import sys, gateway.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gateway.cli" in loaded
    heavy = {"rich", "fastapi", "sqlalchemy", "jinja2", "PIL", "redis", "gateway.console.app", "gateway.resources"}
    assert loaded & heavy == set()


def test_the_api_is_described_without_a_warning() -> None:
    code = (
        "import gateway.__main__, warnings; from gateway.app import create_app; from gateway.config import Settings; "
        "warnings.simplefilter('error'); from starlette.testclient import TestClient; "
        "print(TestClient(create_app(Settings())).get('/openapi.json').status_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("200\n", "")


def shown_at_start(folder: Path, *, terminal: bool) -> str:
    """What `serve` prints, to the end of its last line."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--port", str(free_port())],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = ""
    try:
        while not shown.rstrip(" \r\n").endswith("}'"):
            read = os.read(ours, 4096).decode()
            assert read, f"it ended, and had said: {shown}"
            shown += read
    finally:
        process.terminate()
        process.wait()
        os.close(ours)
    return shown


def test_generated_keys_are_shown_at_the_first_start_and_later_on_a_terminal_only(tmp_path: Path) -> None:
    first = shown_at_start(tmp_path, terminal=False)
    keys = [(tmp_path / "data" / name).read_text().strip() for name in ("admin_key", "test_key")]
    assert all(key in first for key in keys)
    later = shown_at_start(tmp_path, terminal=False)
    assert not any(key in later for key in keys)
    assert "Admin key:  in data/admin_key" in later
    assert '-H "Authorization: Bearer $(cat data/test_key)"' in later
    at_a_terminal = shown_at_start(tmp_path, terminal=True)
    assert all(key in at_a_terminal for key in keys)


def refusal_of(folder: Path, **environment: str) -> str:
    """What a start that fails says on standard error, its only words."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--port", environment.pop("port", str(free_port()))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "bought" not in done.stderr
    return done.stderr.strip()


def test_a_data_folder_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "data" / "lock").mkdir(parents=True)
    said = "data/lock can't be used: Is a directory; data_dir must be a folder that may be written, and is data"
    assert refusal_of(tmp_path) == said
    workers = {"DARKROOM__DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "DARKROOM__REDIS_URL": "redis://127.0.0.1:1"}
    secrets = {"DARKROOM__SECURITY__SECRETS": json.dumps(["s" * 32])}
    assert refusal_of(tmp_path, DARKROOM__SERVER__WORKERS="2", **workers, **secrets) == said


async def test_the_doctor_tells_of_a_data_folder_that_can_t_be_written_too(tmp_path: Path) -> None:
    (tmp_path / "encryption_key").mkdir()
    with pytest.raises(ConfigurationError, match="encryption_key can't be used: Is a directory; data_dir must be a"):
        await examine(settings_for(tmp_path, "http://127.0.0.1:1", port=1))


@pytest.mark.parametrize("room", [0, 8192])
def test_a_full_disk_is_told(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        said = refusal_of(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (
        said
        == "The database data/darkroom.db can't be used: disk I/O error; is its disk full, or may it not be written?"
    )


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "darkroom.db").write_text("a text, and no database")
    assert refusal_of(tmp_path) == (
        "The database data/darkroom.db can't be used: file is not a database; move it away, and `darkroom restore` "
        "a backup (without one, a start makes an empty one)"
    )


def test_postgres_that_is_out_of_reach_is_told_by_its_address_without_the_password(tmp_path: Path) -> None:
    said = refusal_of(
        tmp_path,
        DARKROOM__DATABASE_URL="postgresql://somebody:open/sesame@127.0.0.1:1/x",
        DARKROOM__SECURITY__SECRETS=json.dumps(["s" * 32]),
    )
    assert said.startswith("PostgreSQL at 127.0.0.1:1 can't be used: ")
    assert said.endswith("refused; is it running there, and is database_url right?")


def test_a_port_that_is_taken_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal_of(tmp_path, port=str(port))
    assert said.startswith(f"server: can't listen on 127.0.0.1:{port}: Address already in use")
    assert said.endswith("; choose another port by --port or DARKROOM__SERVER__PORT")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_secret_that_takes_the_generated_ones_place_is_warned_of(tmp_path: Path, kept: bool) -> None:
    settings = settings_for(tmp_path, "http://127.0.0.1:1", port=1)
    async with open_resources(settings):
        pass
    secrets = ["s" * 32, settings.generated("secret")] if kept else ["s" * 32]
    replaced = settings_for(tmp_path, "http://127.0.0.1:1", port=1, security={"secrets": secrets})
    with capture_logs() as lines:
        async with open_resources(replaced):
            pass
    told = [line for line in lines if line["event"] == "generated_secret_left_out"]
    assert [line["file"] for line in told] == ([] if kept else [str(tmp_path / "secret")])
    assert all("add it to security.secrets" in line["reason"] for line in told)
