"""The venues that orders can be sent to, by name, each declared once: its addresses and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from libs.venues.api import TradingVenue


class UnknownVenue(KeyError):
    """A venue was named that no order can be sent to."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class VenueAccess:
    """Where a venue is and who asks. `speed` is how many times faster than ours its clock runs.

    A testnet's trading rules may be looser than those declared (`is_testnet`).
    """

    rest_url: str
    stream_url: str
    api_key: str
    api_secret: str
    speed: float = 1.0
    is_testnet: bool = False


@dataclass(frozen=True, slots=True)
class VenueDeclaration:
    """One venue: REST and stream address by mode, and the function that opens it; nothing is asked yet."""

    name: str
    addresses: Mapping[str, tuple[str, str]]
    open: Callable[[VenueAccess], TradingVenue]


def _open_binance(access: VenueAccess) -> TradingVenue:
    # A client library is loaded where its venue is opened, and nowhere else.
    from libs.venues.binance_client import BinanceClient
    from libs.venues.binance_trading import BinanceTrading
    from libs.venues.binance_user_data import BinanceUserDataStream

    client = BinanceClient(access.rest_url, access.api_key, access.api_secret, speed=access.speed)
    user_data = BinanceUserDataStream(access.stream_url, speed=access.speed)
    return BinanceTrading(client, user_data, is_testnet=access.is_testnet)


TRADING_VENUES: Mapping[str, VenueDeclaration] = {
    each.name: each
    for each in (
        VenueDeclaration(
            "BINANCE",
            {
                "testnet": ("https://testnet.binancefuture.com", "wss://fstream.binancefuture.com"),
                "live": ("https://fapi.binance.com", "wss://fstream.binance.com"),
            },
            _open_binance,
        ),
    )
}


def find_venue(name: str) -> VenueDeclaration:
    """Return a venue's declaration. Raises `UnknownVenue` naming those there are."""
    try:
        return TRADING_VENUES[name]
    except KeyError:
        known = ", ".join(sorted(TRADING_VENUES))
        raise UnknownVenue(f"no orders can be sent to {name!r}; the venues are {known}") from None
