"""A websocket server for tests of what reads a venue's streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.server import ServerConnection, serve


@contextmanager
def a_stream_server(handle: Callable[[ServerConnection], None], stop: Callable[[], None]) -> Iterator[str]:
    """Serve on a port of its own and yield its address; `stop` ends what `handle` still does."""
    with serve(handle, "127.0.0.1", 0, close_timeout=0.2) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield "ws://{}:{}".format(*server.socket.getsockname()[:2])
        finally:
            stop()
            server.shutdown()
            thread.join()
