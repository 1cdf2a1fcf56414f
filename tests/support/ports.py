"""A loopback port that is free, and stays so until the test takes it.

The system hands out ports to whoever connects or binds to port 0, in this process and in the one beside it, so a port
that it named a moment ago may be another's by now. These come from below those it hands out, and each process of the
tests has a block of them to itself.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FIRST = 20_000
_BLOCK = 500
_USUAL_END = 32_768
_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """The next of this process's own that nobody listens on."""
    for port in _ports(os.getpid()):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise AssertionError("the ports go round for ever")


@cache
def _ports(_pid: int) -> Iterator[int]:
    """Round and round a block that no other process has: its lock is held until this one ends."""
    for start in range(_FIRST, _end() - _BLOCK + 1, _BLOCK):
        lock = os.open(Path(tempfile.gettempdir()) / f"darkroom-tests-ports-{start}", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return itertools.cycle(range(start, start + _BLOCK))
    raise RuntimeError("the tests found no block of ports to themselves")


def _end() -> int:
    """The first of the ports that the system hands out, where it says so and leaves room for blocks below."""
    try:
        first = int(_HANDED_OUT.read_text().split()[0])
    except (OSError, ValueError):
        return _USUAL_END
    return first if first >= _FIRST + 8 * _BLOCK else _USUAL_END
