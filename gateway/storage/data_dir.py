"""The data folder of an embedded deployment: its lock, and the secrets generated into it (mode 0600)."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import ConfigurationError


def make_data_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigurationError(f"data_dir: {path} can't be made: {exc.strerror}") from exc


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder alone. Raises ConfigurationError when another process does: two would corrupt the journal."""
    with (path / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"data_dir: another darkroom is running on {path}; stop it, or give this one another data_dir"
            ) from None
        yield


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
