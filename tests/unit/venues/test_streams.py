"""A connection is replaced while it is still read; what fails is tried again, less and less often, until it holds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from libs.venues.api import StreamDeclaration
from libs.venues.streams import Arrival, ArrivalKind, StreamReader
from tests.kit.streams import a_stream_server
from tests.kit.waiting import eventually


class Counting:
    """Numbers go out on every connection, the same at the same time; a connection may be refused or stay silent."""

    def __init__(self, behave: Callable[[int], str] = lambda _number: "") -> None:
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.next = 0
        self._behave = behave
        self._lock = threading.Condition()
        self._is_over = False

    def serve(self, connection: ServerConnection) -> None:
        with self._lock:
            number, self.connections = self.connections, self.connections + 1
            behaviour = self._behave(number)
            if behaviour == "closes":
                return
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            position = self.next
        try:
            while not self._is_over:
                with self._lock:
                    self._lock.wait(0.02)
                    end = self.next
                if behaviour != "is silent":
                    for each in range(position, end):
                        connection.send(str(each).encode(), text=True)
                if position == end or behaviour:
                    connection.ping()
                position = end
        except ConnectionClosed:
            return
        finally:
            with self._lock:
                self.open -= 1

    def publish(self) -> None:
        with self._lock:
            self.next += 1
            self._lock.notify_all()

    def stop(self) -> None:
        self._is_over = True


@contextmanager
def reading(counting: Counting, **settings: float) -> Iterator[tuple[StreamReader, list[Arrival], Callable[[], None]]]:
    arrivals: queue.Queue[Arrival] = queue.Queue()
    seen: list[Arrival] = []

    def step() -> None:
        counting.publish()
        while not arrivals.empty():
            seen.append(arrivals.get())

    with a_stream_server(counting.serve, counting.stop) as url:
        declaration = StreamDeclaration("s", url, carries_trades=True, carries_book=False)
        terms = {"stale_after_s": 60.0, "renew_after_s": 3600.0, **settings}
        reader = StreamReader(declaration, arrivals, **terms)  # type: ignore[arg-type]
        reader.start()
        try:
            yield reader, seen, step
        finally:
            reader.stop()


def kinds(seen: list[Arrival]) -> list[ArrivalKind]:
    return [arrival.kind for arrival in seen if arrival.kind is not ArrivalKind.FRAME]


def numbers(seen: list[Arrival]) -> list[int]:
    """Every number once, as one who drops what came before reads them."""
    out: list[int] = []
    for arrival in seen:
        if arrival.kind is ArrivalKind.FRAME and (not out or int(arrival.payload) > out[-1]):
            out.append(int(arrival.payload))
    return out


def test_a_connection_is_renewed_without_a_gap() -> None:
    counting = Counting()
    with reading(counting, renew_after_s=0.5) as (_, seen, step):
        eventually(lambda: kinds(seen).count(ArrivalKind.RENEWED) >= 2, step=step, within_s=60)
    assert kinds(seen)[0] is ArrivalKind.CONNECTED
    assert set(kinds(seen)[1:]) == {ArrivalKind.RENEWED}
    assert counting.most_open == 2
    assert numbers(seen) == list(range(numbers(seen)[0], numbers(seen)[-1] + 1))


def test_a_suspected_connection_is_read_until_another_takes_its_place() -> None:
    counting = Counting()
    with reading(counting) as (reader, seen, step):
        eventually(lambda: numbers(seen), step=step, within_s=60)
        reader.reconnect("no trades came")
        eventually(lambda: ArrivalKind.LOST in kinds(seen), step=step, within_s=60)
        eventually(lambda: kinds(seen)[-1] is ArrivalKind.CONNECTED, step=step, within_s=60)
    assert kinds(seen) == [ArrivalKind.CONNECTED, ArrivalKind.LOST, ArrivalKind.CONNECTED]
    assert counting.most_open == 2
    assert numbers(seen) == list(range(numbers(seen)[0], numbers(seen)[-1] + 1))


def test_a_connection_outlives_successors_that_fail() -> None:
    counting = Counting(lambda number: "closes" if number in (1, 2) else "")
    with reading(counting, renew_after_s=0.2) as (_, seen, step):
        eventually(lambda: ArrivalKind.RENEWED in kinds(seen), step=step, within_s=60)
    assert kinds(seen)[:2] == [ArrivalKind.CONNECTED, ArrivalKind.RENEWED]
    assert counting.connections >= 4
    assert numbers(seen) == list(range(numbers(seen)[0], numbers(seen)[-1] + 1))
