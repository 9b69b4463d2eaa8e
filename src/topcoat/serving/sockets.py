"""Where a server listens, and who can reach it there; imports nothing but the standard library."""

from __future__ import annotations

import socket

from topcoat.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether a server on ``host`` is reached from this machine alone."""
    return host in LOOPBACK or host.startswith("127.")


def url_of(host: str, bound: socket.socket) -> str:
    """The address of a server on ``host``, without a slash at the end."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``, 0 for a free one; raises `UsageError` where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen on {host}:{port} ({reason}); give another --host or --port") from None
    bound.set_inheritable(False)
    return bound
