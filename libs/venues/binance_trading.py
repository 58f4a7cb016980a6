"""Trading at Binance USD-M: orders, the account, the cancel countdown. One-way, single-asset, cross margin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from libs.domain.instruments import split_instrument_id
from libs.domain.orders import PlaceOrder
from libs.domain.venues import VenueAccountSnapshot, VenueFill, VenueOrderState
from libs.venues.binance_client import BinanceClient
from libs.venues.binance_orders import (
    actual_order_id,
    order_parameters,
    read_account,
    read_conditional,
    read_fills,
    read_open_ids,
    read_order,
)
from libs.venues.binance_rules import read_rules
from libs.venues.binance_user_data import BinanceUserDataStream
from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.rules import check_rules

MS = 1_000_000
_NO_SUCH_ORDER = -2013
_CLOSED_OR_UNKNOWN = frozenset({-2011, _NO_SUCH_ORDER})
# Too many requests, too many orders, a clock that is off.
_ANOTHER_TIME = frozenset({-1003, -1015, -1021})
_NO_NEED_TO_CHANGE = frozenset({-4046, -4059})


class BinanceTrading:
    """A `TradingVenue`. Without a `user_data` stream only asking finds out what happened.

    The trading rules of a testnet may be looser than those declared.
    """

    def __init__(
        self, client: BinanceClient, user_data: BinanceUserDataStream | None = None, *, is_testnet: bool = False
    ) -> None:
        self._is_testnet = is_testnet
        self._client = client
        self._user_data = user_data

    def now(self) -> int:
        """Return Binance's clock in ns."""
        return int(self._client.now_ms() * MS)

    def synchronise(self) -> None:
        """Ask for Binance's time."""
        self._later(self._client.synchronise)

    def prepare(self, instruments: Sequence[str], leverage: int) -> None:
        """Check position mode, asset mode and trading rules; set margin type and leverage of each instrument."""
        self._later(lambda: self._prepare(instruments, leverage))

    def _prepare(self, instruments: Sequence[str], leverage: int) -> None:
        self._client.synchronise()
        if self._client.ask("futures_get_position_mode")["dualSidePosition"]:
            raise VenueRefused("the account is in hedge mode; change it to one-way mode (POST positionSide/dual)")
        if self._client.ask("futures_get_multi_assets_mode")["multiAssetsMargin"]:
            raise VenueRefused("the account is in multi-assets mode; change it to single-asset mode")
        symbols = {split_instrument_id(instrument)[0] for instrument in instruments}
        stated = read_rules(self._client.ask("futures_exchange_info"), symbols)
        check_rules(instruments, stated, may_be_looser=self._is_testnet)
        for instrument in instruments:
            symbol, _ = split_instrument_id(instrument)
            try:
                self._client.ask("futures_change_margin_type", symbol=symbol, marginType="CROSSED")
            except VenueRefused as error:
                if error.code not in _NO_NEED_TO_CHANGE:
                    raise
            self._client.ask("futures_change_leverage", symbol=symbol, leverage=leverage)

    def place(self, order: PlaceOrder) -> VenueOrderState:
        """Send an order; its first fills come with the answer where Binance lists them already."""
        answer = self._client.ask("futures_create_order", **order_parameters(order))
        if order.order_type.is_conditional:
            return read_conditional(answer, None, order.instrument)
        state = read_order(answer, order.instrument)
        if not state.filled_quantity:
            return state
        try:
            return read_order(answer, order.instrument, self._fills(order.instrument, state.venue_order_id))
        except VenueUnavailable:
            # The order is in; the caller asks for its fills next.
            return state

    def cancel(self, order: PlaceOrder) -> None:
        """Cancel an order by its client order id. Any refusal but that it is closed or unknown is worth another try."""
        symbol, _ = split_instrument_id(order.instrument)
        which = {"symbol": symbol, "origClientOrderId": order.client_order_id}
        if order.order_type.is_conditional:
            which = {"clientAlgoId": order.client_order_id}
        try:
            self._client.ask("futures_cancel_order", **which)
        except VenueRefused as error:
            if error.code in _CLOSED_OR_UNKNOWN:
                raise
            raise VenueUnavailable(str(error)) from error

    def query(self, order: PlaceOrder, booked: Decimal) -> VenueOrderState | None:
        """Ask for an order; None only where Binance says that it does not exist."""
        instrument = order.instrument
        symbol, _ = split_instrument_id(instrument)
        if not order.order_type.is_conditional:
            answer = self._find("futures_get_order", symbol=symbol, origClientOrderId=order.client_order_id)
            return None if answer is None else self._with_fills(answer, instrument, booked)
        answer = self._find("futures_get_order", clientAlgoId=order.client_order_id)
        if answer is None:
            return None
        actual = None
        if order_id := actual_order_id(answer):
            found = self._find("futures_get_order", symbol=symbol, orderId=order_id)
            actual = None if found is None else self._with_fills(found, instrument, booked)
        return read_conditional(answer, actual, instrument)

    def open_order_ids(self) -> Sequence[str]:
        """Return the client ids of open orders and of open conditional orders."""
        ordinary = self._question("futures_get_open_orders")
        conditional = self._question("futures_get_open_algo_orders")
        return [*read_open_ids(ordinary, "clientOrderId"), *read_open_ids(conditional, "clientAlgoId")]

    def account(self) -> VenueAccountSnapshot:
        """Return wallet and positions of one answer."""
        return read_account(self._question("futures_account"))

    def set_cancel_countdown(self, instrument: str, countdown_ms: int) -> None:
        """Have Binance cancel the instrument's open orders after this time (POST countdownCancelAll).

        Conditional orders live in another service since December 2025; that the countdown leaves them alone, as the
        simulated exchange does, is likely and was not seen.
        """
        symbol, _ = split_instrument_id(instrument)
        self._question("futures_countdown_cancel_all", symbol=symbol, countdownTime=countdown_ms)

    def has_account_update(self) -> bool:
        """Whether the user data stream has brought anything."""
        return self._user_data is not None and self._user_data.has_update(self._listen_key)

    def close(self) -> None:
        """Close stream and connections."""
        if self._user_data is not None:
            self._user_data.close()
        self._client.close()

    def _listen_key(self) -> str:
        return str(self._question("futures_stream_get_listen_key"))

    def _with_fills(self, answer: Any, instrument: str, booked: Decimal) -> VenueOrderState:
        state = read_order(answer, instrument)
        if state.filled_quantity == booked:
            return state
        return read_order(answer, instrument, self._fills(instrument, state.venue_order_id))

    def _fills(self, instrument: str, order_id: str) -> tuple[VenueFill, ...]:
        symbol, _ = split_instrument_id(instrument)
        return read_fills(self._question("futures_account_trades", symbol=symbol, orderId=order_id, limit=1000))

    def _later(self, act: Callable[[], None]) -> None:
        # These say nothing about the account; a later message will.
        try:
            act()
        except VenueRefused as error:
            if error.code in _ANOTHER_TIME:
                raise VenueUnavailable(str(error)) from error
            raise

    def _find(self, call: str, **parameters: Any) -> Any:
        try:
            return self._client.ask(call, **parameters)
        except VenueRefused as error:
            if error.code == _NO_SUCH_ORDER:
                return None
            raise VenueUnavailable(str(error)) from error

    def _question(self, call: str, **parameters: Any) -> Any:
        # A refusal of a question (a limit, a clock, a key) tells nothing about what was asked.
        try:
            return self._client.ask(call, **parameters)
        except VenueRefused as error:
            raise VenueUnavailable(str(error)) from error
