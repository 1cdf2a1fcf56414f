"""The data folder of an embedded deployment: its lock, and the secrets generated into it (mode 0600)."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from gateway.errors import ConfigurationError

_LOOK_S = 0.1


def make_data_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigurationError(f"data_dir: {path} can't be made: {exc.strerror}") from exc


def worker_dir(data_dir: Path, worker: int) -> Path:
    """What one of several processes keeps for itself in the folder that they share."""
    return data_dir / f"worker-{worker}"


def left_places(data_dir: Path, *, worker: int | None, workers: int) -> list[Path]:
    """Where earlier processes left things that `worker` is to adopt: there were more of them then, or only one.

    The first process of several does it for all; one that is alone (None) is the heir of all.
    """
    if worker not in {None, 1}:
        return []
    kept = set() if worker is None else {worker_dir(data_dir, number) for number in range(1, workers + 1)}
    places = sorted(path for path in data_dir.glob("worker-*") if path not in kept)
    return places if worker is None else [data_dir, *places]


def adopt(place: Path, other: Path, *, wait_s: float | None) -> None:
    """Take over the journal and the spooled pictures of a process that will not run any more.

    `wait_s`: how long it may take to end; then ConfigurationError is raised. None: its lock is held for us.
    """
    with nullcontext() if wait_s is None else locked(other, wait_s=wait_s):
        _move_journal(other / "journal", place / "journal")
        _move_spool(other / "spool", place / "spool")


def _move_journal(left: Path, folder: Path) -> None:
    """Behind the files that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    last = max((int(path.stem) for path in folder.glob("[0-9]*.*")), default=0)
    for number, file in enumerate(sorted(left.glob("*.jsonl")), last + 1):
        file.rename(folder / f"{number:08}.jsonl")


def _move_spool(left: Path, folder: Path) -> None:
    """File by file: both may have folders of the same name. Of the same file name the bytes are the same."""
    for file in sorted(path for path in left.rglob("*") if path.is_file()):
        kept = folder / file.relative_to(left)
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.rename(kept)


@contextmanager
def locked(path: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Hold the folder alone. Raises ConfigurationError when another process does: two would corrupt the journal.

    `wait_s`: how long to wait for one that is on its way out.
    """
    deadline = time.monotonic() + wait_s
    with (path / "lock").open("a") as file:
        while not _is_locked(file):
            if time.monotonic() >= deadline:
                raise ConfigurationError(
                    f"data_dir: another darkroom is running on {path}; stop it, or give this one another data_dir"
                )
            time.sleep(_LOOK_S)
        yield


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def kept_secret(path: Path, name: str, *, length: int = 32) -> str:
    """The secret in a file of the folder, generated once. `length` in bytes of randomness."""
    file = path / name
    if not file.exists():
        write_secret(file, secrets.token_urlsafe(length))
    return file.read_text(encoding="ascii").strip()


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read; it appears whole or not at all."""
    aside = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(file)
