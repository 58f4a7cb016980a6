"""Which consumers and producers a bus still has open."""

from __future__ import annotations

from typing import Protocol, TypeVar


class _Closable(Protocol):
    @property
    def is_closed(self) -> bool: ...

    def close(self) -> None: ...


Client = TypeVar("Client", bound=_Closable)


class OpenClients:
    """What a bus closes with itself. Clients closed before are let go as others open: a closed Kafka client still holds
    one of the 1,024 thread-local keys of its process."""

    def __init__(self) -> None:
        self._clients: list[_Closable] = []

    def add(self, client: Client) -> Client:
        """Keep a client, and return it."""
        self._clients = [*(each for each in self._clients if not each.is_closed), client]
        return client

    def close(self) -> None:
        """Close every client, in the order they were opened in."""
        for client in self._clients:
            client.close()
