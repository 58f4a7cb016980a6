"""Taking a port before a server is built, so that a busy one is named in one line."""

from __future__ import annotations

import errno
import socket

from libs.runtime.errors import DependencyUnavailable


def listen_on(host: str, port: int, variable: str) -> socket.socket:
    """Listen on a port; 0 takes a free one. Raises `DependencyUnavailable` naming the error and `variable`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name TCP; with it every answer waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        problem = "is taken by another program" if error.errno == errno.EADDRINUSE else f"fails: {error.strerror}"
        raise DependencyUnavailable(
            f"port {port} on {host} {problem}; set {variable} to a free one (0 takes any)"
        ) from error
    return bound
