"""What the machine gives: its cores, shared out, and open files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_OPEN_FILES = 16_384
"""5,000 calls are 5,000 connections of clients, as many to the provider, and again to fetch the pictures."""


def cores() -> tuple[set[int] | None, set[int] | None]:
    """One core for the server measured, the rest for the load. None on a machine of one core."""
    every = sorted(os.sched_getaffinity(0))
    return ({every[0]}, set(every[1:])) if len(every) > 1 else (None, None)


@contextmanager
def kept_to(cores: set[int] | None) -> Iterator[None]:
    """What is started inside inherits these cores, with all its threads and children. None: those of this process."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files() -> None:
    """For this process and those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _OPEN_FILES:
        raise SystemExit(f"The benchmarks need {_OPEN_FILES:,} open files, and {most:,} are allowed (`ulimit -Hn`).")
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, most))
