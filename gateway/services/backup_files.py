"""A backup as a folder: a file a table, a list of the pictures, their bytes if asked for, and a manifest.

It holds no secret: it names those that its rows need by an id made of them.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.errors import ConfigurationError
from gateway.storage.images import key_of
from gateway.storage.table_files import TableFile, measure_file, sha256_of

FORMAT = 1
MANIFEST = "manifest.json"
IMAGE_LIST = "image_list.jsonl.gz"
IMAGE_FOLDER = "image_bytes"
_NAME = re.compile(r"[a-z_]+")


class ListedImage(msgspec.Struct, frozen=True):
    """A picture that was there when the backup was made."""

    id: str
    sha256: str
    size_bytes: int


class ImageList(msgspec.Struct, frozen=True):
    """`sha256`: of the list. `with_bytes`: the backup holds the bytes too, but for those in `lost`, by SHA-256: the
    image store did not have them any more.
    """

    count: int
    size_bytes: int
    sha256: str
    with_bytes: bool = False
    lost: list[str] = []


class Manifest(msgspec.Struct, frozen=True):
    """`secrets` and `encryption_keys`: ids of what `security` must hold for the rows to be of use."""

    format: int
    darkroom: str
    created_at: str
    engine: str
    revision: str
    tables: dict[str, TableFile]
    images: ImageList
    secrets: list[str]
    encryption_keys: list[str]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The last file of a backup."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Raises ConfigurationError when there is no backup, or it is of a form that this version does not know."""
    file = folder / MANIFEST
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as exc:
        raise ConfigurationError(f"There is no backup in {folder}: {file.name}: {exc.strerror}") from exc
    except msgspec.MsgspecError as exc:
        raise ConfigurationError(f"{file} is damaged, or of another version: {exc}") from exc
    names = [*found.tables, *(each.file.removesuffix(".jsonl.gz") for each in found.tables.values())]
    if found.format != FORMAT or not all(_NAME.fullmatch(name) for name in names):
        raise ConfigurationError(f"{file} is of a form that this version does not know ({found.format}).")
    return found


def listed_images(folder: Path) -> Iterator[ListedImage]:
    with gzip.open(folder / IMAGE_LIST, "rb") as stream:
        for line in stream:
            yield msgspec.json.decode(line, type=ListedImage)


def faults_of(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files of a backup: every byte and every row is looked at. Empty: nothing."""
    faults = [fault for name, made in manifest.tables.items() for fault in _faults_of_table(folder, name, made)]
    if not _is_whole(folder / IMAGE_LIST, manifest.images.sha256):
        return [*faults, f"{IMAGE_LIST} is missing or was changed"]
    return [*faults, *_faults_of_bytes(folder, manifest)]


def _faults_of_table(folder: Path, name: str, made: TableFile) -> Iterator[str]:
    if not _is_whole(folder / made.file, made.sha256):
        yield f"{made.file} is missing or was changed"
        return
    try:
        found = measure_file(made, folder)
    except (ConfigurationError, msgspec.MsgspecError) as exc:
        yield f"{made.file} can't be read: {exc}"
        return
    if found != made.figures:
        yield f"{name} has {found.rows} rows, and the manifest says {made.figures.rows}, or they differ"


def _faults_of_bytes(folder: Path, manifest: Manifest) -> Iterator[str]:
    if not manifest.images.with_bytes:
        return
    for sha256 in {image.sha256 for image in listed_images(folder)} - set(manifest.images.lost):
        if not _is_whole(folder / IMAGE_FOLDER / key_of(sha256), sha256):
            yield f"the bytes of {sha256} are missing or were changed"


def _is_whole(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_of(file) == sha256


def holds(data: bytes, sha256: str) -> bool:
    return hashlib.sha256(data).hexdigest() == sha256
