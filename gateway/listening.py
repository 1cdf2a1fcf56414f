"""Sockets that processes can share, and the one refusal for all who can't listen."""

from __future__ import annotations

import socket
from errno import EACCES, EADDRINUSE

from gateway.config_operations import ManagementSettings
from gateway.config_sections import ServerSettings
from gateway.errors import ConfigurationError

_BACKLOG = 2048
_ANOTHER_PORT = {
    "server": "choose another port by --port or DARKROOM__SERVER__PORT",
    "management": "choose another port by DARKROOM__MANAGEMENT__PORT",
}


def listen_for_callers(server: ServerSettings) -> socket.socket:
    """Raises ConfigurationError when the address can't be had."""
    return _listen("server", server.host, server.port)


def listen_for_management(management: ManagementSettings) -> socket.socket | None:
    """None where it has no port of its own. Raises ConfigurationError when the address can't be had."""
    return None if management.port is None else _listen("management", management.host, management.port)


def _listen(section: str, host: str, port: int) -> socket.socket:
    try:
        found = {family for family, *_ in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)}
        family = socket.AF_INET if socket.AF_INET in found else socket.AF_INET6
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        said = f"{section}: can't listen on {host}:{port}: {exc.strerror}"
        remedy = _ANOTHER_PORT[section] if exc.errno in {EADDRINUSE, EACCES} else "give a host that is this machine's"
        raise ConfigurationError(f"{said}; {remedy}") from exc
    listener.set_inheritable(True)
    return listener
