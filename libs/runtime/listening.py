"""Taking a port before a server is built, so that a busy one is named in one line, or before it is even started."""

from __future__ import annotations

import errno
import socket
from types import TracebackType
from typing import Self

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


class ReservedPort:
    """A port for a server that another process starts: while this is open nobody who takes any free port gets it.

    It is bound but not listened on, which leaves a server that sets SO_REUSEADDR, as all of ours do, free to listen on
    the port, again after a restart too. `wanted` 0 takes a free one. Raises `DependencyUnavailable` where it is busy.
    """

    def __init__(self, wanted: int = 0, *, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, wanted))
        except OSError as error:
            self._socket.close()
            raise DependencyUnavailable(
                f"port {wanted} on {host} is busy ({error.strerror}); name another with --port, or 0 for any free one"
            ) from error
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Let others have the port."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reserve_preferred(preferred: int) -> ReservedPort:
    """Reserve a port if it is free, else any free one."""
    try:
        return ReservedPort(preferred)
    except DependencyUnavailable:
        return ReservedPort()
