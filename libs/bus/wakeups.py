"""Wakes readers of a log in other processes: a datagram to each one's socket after a commit, never blocking the writer.

A directory holds `s/NAME`, the sockets, and `t<TOPIC>/NAME`, links that say who waits for which topic. A bound socket
is also the proof that its reader lives: the kernel drops it with the process, however that ends. A lost datagram costs
a reader its fallback poll interval and nothing else, so nothing here is allowed to raise into a commit.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy

# A Unix socket's path holds 108 bytes with its closing zero (unix(7)); some systems hold 104.
_LONGEST_PATH = 103
_NAME_SIZE = 12
LONGEST_DIRECTORY = _LONGEST_PATH - len("/t0000000000/") - _NAME_SIZE
# Directory times come from a coarse clock: a listing is trusted only when the directory was quiet this long before it.
_QUIET_NS = 50_000_000


class WakeupSocket:
    """A reader's socket: bound at once, woken for the topics it listens to."""

    def __init__(self, directory: Path, entropy: Entropy = SYSTEM_ENTROPY) -> None:
        self._directory = directory
        self._entropy = entropy
        self._topics: set[int] = set()
        self._bind()

    def _bind(self) -> None:
        sockets = self._directory / "s"
        sockets.mkdir(parents=True, exist_ok=True)
        self.name = self._entropy.token_hex(_NAME_SIZE // 2)
        self._path = sockets / self.name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)

    def listen(self, topic_ids: Iterable[int]) -> None:
        """Be woken for exactly these topics from now on."""
        wanted = set(topic_ids)
        for topic_id in self._topics - wanted:
            (self._directory / f"t{topic_id}" / self.name).unlink(missing_ok=True)
        for topic_id in wanted - self._topics:
            links = self._directory / f"t{topic_id}"
            links.mkdir(exist_ok=True)
            (links / self.name).symlink_to(self._path)
        self._topics = wanted

    def wait(self, timeout_ms: int) -> bool:
        """Block until woken or `timeout_ms` has passed; say which."""
        if not self._poller.poll(timeout_ms):
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """Forget the wakeups so far. Call it before looking for records, so that one after the look is not lost."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def repair(self) -> bool:
        """Bind anew when something removed the socket's files; say whether that was needed (the name then differs)."""
        if self._path.exists() and all((self._directory / f"t{topic_id}").is_dir() for topic_id in self._topics):
            return False
        topics = self._topics
        self.close()
        self._topics = set()
        self._bind()
        self.listen(topics)
        return True

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        for topic_id in self._topics:
            (self._directory / f"t{topic_id}" / self.name).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Listing:
    changed_ns: int
    listed_ns: int
    names: frozenset[str]


class Notifier:
    """Wakes the readers of a directory."""

    def __init__(self, directory: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._directory = directory
        self._clock = clock
        self._prefix = f"{directory}/s/"
        self._listings: dict[int, _Listing] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def notify(self, topic_ids: Iterable[int]) -> None:
        """Wake the readers of these topics. A full socket was written to already; a dead reader's is removed."""
        names: set[str] = set()
        for topic_id in topic_ids:
            names |= self._listeners(topic_id)
        for name in names:
            if not self.wake(name):
                for topic_id in topic_ids:
                    (self._directory / f"t{topic_id}" / name).unlink(missing_ok=True)

    def wake(self, name: str) -> bool:
        """Wake one reader; say whether it lives."""
        try:
            self._socket.sendto(b"\0", self._prefix + name)
        except BlockingIOError:
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            (self._directory / "s" / name).unlink(missing_ok=True)
            return False
        except OSError:
            return True
        return True

    def is_alive(self, name: str) -> bool:
        """Say whether the reader with this socket still has it open, without waking it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._prefix + name)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
        return True

    def close(self) -> None:
        """Let go."""
        self._socket.close()

    def _listeners(self, topic_id: int) -> frozenset[str]:
        path = f"{self._directory}/t{topic_id}"
        known = self._listings.get(topic_id)
        try:
            changed_ns = os.stat(path).st_mtime_ns  # noqa: PTH116 - on every commit: a Path costs more than the call
            if known is not None and known.changed_ns == changed_ns and known.listed_ns - changed_ns > _QUIET_NS:
                return known.names
            listed_ns = self._clock.now_ns()
            names = frozenset(os.listdir(path))  # noqa: PTH208 - as above
        except FileNotFoundError:
            return frozenset()
        self._listings[topic_id] = _Listing(changed_ns, listed_ns, names)
        return names
