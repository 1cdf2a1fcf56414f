"""Thumbnails as files: what is kept, and what goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.storage import thumbnail_files
from gateway.storage.database import Database
from gateway.storage.tables import blobs
from gateway.storage.thumbnail_files import ThumbnailFiles, superfluous

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> ThumbnailFiles:
    return ThumbnailFiles(tmp_path / "thumbnails", now_s=clock)


def keep(files: ThumbnailFiles, sha256: str, used_s: float, data: bytes = b"x" * 10, size: int = 320) -> None:
    files.write(sha256, size, data)
    for file in files.all():
        if file.sha256 == sha256:
            os.utime(file.path, (used_s, used_s))


def test_what_is_written_is_read_by_picture_and_size(files: ThumbnailFiles):
    files.write(A, 320, b"small")
    assert (files.read(A, 320), files.read(A, 640), files.read(B, 320)) == (b"small", None, None)


def test_the_least_recently_used_go_when_there_are_too_many(files: ThumbnailFiles, clock: Clock):
    for place, sha256 in enumerate((A, B, C)):
        keep(files, sha256, used_s=clock.now_s - 10_000 + place)
    assert files.read(A, 320)
    gone = superfluous(files.all(), {A, B, C}, max_bytes=25)
    assert [file.sha256 for file in gone] == [B]
    files.delete(gone)
    assert (files.read(B, 320), files.read(A, 320)) == (None, b"x" * 10)
    assert superfluous(files.all(), {A, C}, max_bytes=25) == []


def test_those_of_pictures_that_are_gone_go_in_every_size(files: ThumbnailFiles):
    files.write(A, 320, b"small")
    files.write(A, 640, b"large")
    files.write(B, 320, b"small")
    files.delete(superfluous(files.all(), {B}, max_bytes=100))
    assert [file.sha256 for file in files.all()] == [B]


def test_what_was_left_aside_goes_after_an_hour_and_strange_files_are_not_shown(
    files: ThumbnailFiles, clock: Clock, tmp_path: Path
):
    files.write(A, 320, b"small")
    aside = tmp_path / "thumbnails" / "aa" / f".{A}-320.webp-0123"
    aside.write_bytes(b"half")
    os.utime(aside, (clock.now_s - 3000, clock.now_s - 3000))
    assert [file.sha256 for file in files.all()] == [A]
    assert aside.exists()
    clock.now_s += 1000
    files.all()
    assert not aside.exists()


def test_a_folder_that_cannot_be_written_is_no_harm(tmp_path: Path):
    (tmp_path / "thumbnails").write_text("a file in its place")
    files = ThumbnailFiles(tmp_path / "thumbnails")
    files.write(A, 320, b"small")
    assert files.read(A, 320) is None
    assert files.all() == []


async def test_living_are_the_bytes_that_a_picture_shows(database: Database):
    rows = [
        {"sha256": A, "size_bytes": 1, "dead_since_ms": None},
        {"sha256": B, "size_bytes": 1, "dead_since_ms": 5},
    ]
    await database.write(lambda conn: conn.execute(blobs.insert(), rows))
    found = await database.read(lambda conn: thumbnail_files.living(conn, [A, B, C], at_once=2))
    assert found == {A}
