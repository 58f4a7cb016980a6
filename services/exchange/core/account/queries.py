"""The account's read-only requests: orders, fills, balances, positions and settings. They change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from libs.domain.accounts import ZERO
from libs.domain.numbers import format_decimal
from services.exchange.core.account import serializers
from services.exchange.core.account.ledger import BRACKETS, MarginState
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.records import AlgoRecord, FillRecord, IncomeRecord, OrderRecord
from services.exchange.core.account.refusals import Refused, invalid
from services.exchange.core.account.serializers import ASSET, money
from services.exchange.core.account.trading import TradingCore
from services.exchange.core.frames import SYMBOL

RecordT = TypeVar("RecordT", OrderRecord, AlgoRecord, FillRecord, IncomeRecord)
Query = Callable[["Queries", Parameters], Any]
SUCCESS = {"code": 200, "msg": "success"}


class Queries:
    """Answers queries about the account at a market time and a mark price (0 before any)."""

    def __init__(self, core: TradingCore, mark: Decimal, now_ms: int) -> None:
        self.core = core
        self.mark = mark
        self.now_ms = now_ms

    def answer(self, request: str, parameters: Parameters) -> Any:
        """Answer a request, METHOD PATH. Raises `Refused`, and `KeyError` for one that is not here."""
        return QUERIES[request](self, parameters)

    def margin(self) -> MarginState:
        """Return the margin at the mark."""
        return self.core.ledger.margin(self.mark, self.core.order_store.open_orders.values())

    # Orders and fills.

    def order(self, sent: Parameters) -> Any:
        """GET order."""
        sent.check_symbol()
        order = self.core.order_store.find_order(sent)
        if order is None:
            raise Refused(-2013, "Order does not exist.")
        return serializers.order_details(order)

    def open_order(self, sent: Parameters) -> Any:
        """GET openOrder."""
        sent.check_symbol()
        order = self.core.order_store.find_order(sent)
        if order is None or not order.is_open:
            raise Refused(-2013, "Order does not exist.")
        return serializers.order_details(order)

    def open_orders(self, sent: Parameters) -> Any:
        """GET openOrders."""
        sent.check_symbol(is_optional=True)
        return [serializers.order_details(order) for order in self.core.order_store.open_orders.values()]

    def all_orders(self, sent: Parameters) -> Any:
        """GET allOrders."""
        sent.check_symbol()
        from_id = sent.optional_integer("orderId")
        orders = [
            order for order in self.core.order_store.orders.values() if from_id is None or order.order_id >= from_id
        ]
        chosen = _choose(sent, orders, is_forward=from_id is not None)
        return [serializers.order_details(order) for order in chosen]

    def fills(self, sent: Parameters) -> Any:
        """GET userTrades."""
        sent.check_symbol()
        from_id, order_id = sent.optional_integer("fromId"), sent.optional_integer("orderId")
        if from_id is not None and ("startTime" in sent.sent or "endTime" in sent.sent):
            raise Refused(-1128, "Combination of optional parameters invalid.")
        fills = [
            fill
            for fill in self.core.order_store.fills
            if (from_id is None or fill.trade_id >= from_id) and (order_id is None or fill.order_id == order_id)
        ]
        return [serializers.fill_details(fill) for fill in _choose(sent, fills, is_forward=from_id is not None)]

    # Conditional orders.

    def algo(self, sent: Parameters) -> Any:
        """GET algoOrder."""
        algo = self.core.order_store.find_algo(sent)
        if algo is None:
            raise Refused(-2013, "Order does not exist.")
        return self._algo(algo)

    def open_algos(self, sent: Parameters) -> Any:
        """GET openAlgoOrders."""
        sent.check_symbol(is_optional=True)
        sent.only("algoType", "CONDITIONAL")
        wanted = sent.optional_integer("algoId")
        algos = self.core.order_store.open_algos.values()
        return [self._algo(algo) for algo in algos if wanted is None or algo.algo_id == wanted]

    def all_algos(self, sent: Parameters) -> Any:
        """GET allAlgoOrders."""
        sent.check_symbol()
        from_id = sent.optional_integer("algoId")
        algos = [algo for algo in self.core.order_store.algos.values() if from_id is None or algo.algo_id >= from_id]
        return [self._algo(algo) for algo in _choose(sent, algos, is_forward=from_id is not None)]

    def _algo(self, algo: AlgoRecord) -> dict[str, Any]:
        return serializers.algo_details(algo, self.core.order_store.orders.get(algo.order_id))

    # Money and positions.

    def balances(self, _sent: Parameters) -> Any:
        """GET balance."""
        margin = self.margin()
        return [
            {
                "accountAlias": "perpflow",
                "asset": ASSET,
                "balance": money(margin.wallet),
                "crossWalletBalance": money(margin.wallet),
                "crossUnPnl": money(margin.unrealised),
                "availableBalance": money(margin.available),
                "maxWithdrawAmount": money(margin.withdrawable),
                "marginAvailable": True,
                "updateTime": self.core.ledger.updated_ms,
            }
        ]

    def account_v2(self, _sent: Parameters) -> Any:
        """GET v2 account: with settings, and every symbol's position."""
        margin = self.margin()
        asset = {**self._asset(margin), "marginAvailable": True}
        position = {
            **self._account_position(margin),
            "positionInitialMargin": money(margin.position_margin),
            "openOrderInitialMargin": money(margin.order_margin),
            "leverage": str(self.core.ledger.leverage),
            "isolated": False,
            "entryPrice": money(self.core.ledger.position.entry_price),
            "breakEvenPrice": money(self.core.ledger.break_even),
            "maxNotional": format_decimal(self.core.ledger.notional_limit()),
            "bidNotional": money(margin.bid_notional),
            "askNotional": money(margin.ask_notional),
        }
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
            **self._totals(margin),
            "assets": [asset],
            "positions": [position],
        }

    def account_v3(self, _sent: Parameters) -> Any:
        """GET v3 account: only symbols with a position or open orders."""
        margin = self.margin()
        positions = []
        if self._is_active():
            positions.append(
                {
                    **self._account_position(margin),
                    "isolatedMargin": "0",
                    "notional": money(margin.notional),
                    "isolatedWallet": "0",
                }
            )
        return {**self._totals(margin), "assets": [self._asset(margin)], "positions": positions}

    def _is_active(self) -> bool:
        return bool(self.core.ledger.position.quantity or self.core.order_store.open_orders)

    def _totals(self, margin: MarginState) -> dict[str, Any]:
        return {
            "totalInitialMargin": money(margin.initial),
            "totalMaintMargin": money(margin.maintenance),
            "totalWalletBalance": money(margin.wallet),
            "totalUnrealizedProfit": money(margin.unrealised),
            "totalMarginBalance": money(margin.balance),
            "totalPositionInitialMargin": money(margin.position_margin),
            "totalOpenOrderInitialMargin": money(margin.order_margin),
            "totalCrossWalletBalance": money(margin.wallet),
            "totalCrossUnPnl": money(margin.unrealised),
            "availableBalance": money(margin.available),
            "maxWithdrawAmount": money(margin.withdrawable),
        }

    def _asset(self, margin: MarginState) -> dict[str, Any]:
        return {
            "asset": ASSET,
            "walletBalance": money(margin.wallet),
            "unrealizedProfit": money(margin.unrealised),
            "marginBalance": money(margin.balance),
            "maintMargin": money(margin.maintenance),
            "initialMargin": money(margin.initial),
            "positionInitialMargin": money(margin.position_margin),
            "openOrderInitialMargin": money(margin.order_margin),
            "crossWalletBalance": money(margin.wallet),
            "crossUnPnl": money(margin.unrealised),
            "availableBalance": money(margin.available),
            "maxWithdrawAmount": money(margin.withdrawable),
            "updateTime": self.core.ledger.updated_ms,
        }

    def _account_position(self, margin: MarginState) -> dict[str, Any]:
        return {
            "symbol": SYMBOL,
            "positionSide": "BOTH",
            "positionAmt": _quantity(self.core.ledger.position.quantity),
            "unrealizedProfit": money(margin.unrealised),
            "initialMargin": money(margin.initial),
            "maintMargin": money(margin.maintenance),
            "updateTime": self.core.ledger.updated_ms,
        }

    def positions_v2(self, sent: Parameters) -> Any:
        """GET v2 positionRisk: every symbol, flat ones too."""
        sent.check_symbol(is_optional=True)
        return [
            {
                **self._position_risk(),
                "maxNotionalValue": format_decimal(self.core.ledger.notional_limit()),
                "leverage": str(self.core.ledger.leverage),
                "marginType": "cross",
                "isAutoAddMargin": "false",
                "isolatedMargin": "0.00000000",
            }
        ]

    def positions_v3(self, sent: Parameters) -> Any:
        """GET v3 positionRisk: only symbols with a position or open orders."""
        sent.check_symbol(is_optional=True)
        if not self._is_active():
            return []
        margin = self.margin()
        return [
            {
                **self._position_risk(),
                "isolatedMargin": "0",
                "marginAsset": ASSET,
                "initialMargin": money(margin.initial),
                "maintMargin": money(margin.maintenance),
                "positionInitialMargin": money(margin.position_margin),
                "openOrderInitialMargin": money(margin.order_margin),
                "adl": 0,
                "bidNotional": money(margin.bid_notional),
                "askNotional": money(margin.ask_notional),
            }
        ]

    def _position_risk(self) -> dict[str, Any]:
        ledger = self.core.ledger
        position = ledger.position
        solved = ledger.liquidation(self.mark)
        price = solved.liquidation_price if solved is not None else None
        return {
            "symbol": SYMBOL,
            "positionSide": "BOTH",
            "positionAmt": _quantity(position.quantity),
            "entryPrice": money(position.entry_price),
            "breakEvenPrice": money(ledger.break_even),
            "markPrice": money(self.mark),
            "unRealizedProfit": money(ledger.unrealised(self.mark)),
            "liquidationPrice": f"{price:.8f}" if price is not None else "0",
            "notional": money(position.quantity * self.mark),
            "isolatedWallet": "0",
            "updateTime": ledger.updated_ms,
        }

    def incomes(self, sent: Parameters) -> Any:
        """GET income."""
        sent.check_symbol(is_optional=True)
        kind = sent.sent.get("incomeType")
        incomes = [income for income in self.core.ledger.incomes if kind is None or income.kind == kind]
        chosen = _choose(sent, incomes, is_forward=False, default=100)
        return [serializers.income_details(income) for income in chosen]

    # Settings.

    def brackets(self, sent: Parameters) -> Any:
        """GET leverageBracket; one symbol is answered as a list too, as Binance does."""
        sent.check_symbol(is_optional=True)
        tiers = [
            {
                "bracket": number,
                "initialLeverage": bracket.max_leverage,
                "notionalCap": int(bracket.notional_cap),
                "notionalFloor": int(bracket.notional_floor),
                "maintMarginRatio": float(bracket.maintenance_rate),
                "cum": float(bracket.maintenance_amount),
            }
            for number, bracket in enumerate(BRACKETS.brackets, start=1)
        ]
        return [{"symbol": SYMBOL, "brackets": tiers}]

    def commission_rate(self, sent: Parameters) -> Any:
        """GET commissionRate."""
        sent.check_symbol()
        rules = self.core.order_manager.rules
        return {
            "symbol": SYMBOL,
            "makerCommissionRate": format_decimal(rules.maker_fee_rate),
            "takerCommissionRate": format_decimal(rules.taker_fee_rate),
        }

    def account_settings(self, _sent: Parameters) -> Any:
        """GET accountConfig."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": False,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def symbol_settings(self, sent: Parameters) -> Any:
        """GET symbolConfig."""
        sent.check_symbol(is_optional=True)
        return [
            {
                "symbol": SYMBOL,
                "marginType": "CROSSED",
                "isAutoAddMargin": False,
                "leverage": self.core.ledger.leverage,
                "maxNotionalValue": format_decimal(self.core.ledger.notional_limit()),
            }
        ]

    def position_mode(self, _sent: Parameters) -> Any:
        """GET positionSide/dual."""
        return {"dualSidePosition": False}

    def keep_position_mode(self, sent: Parameters) -> Any:
        """POST positionSide/dual: one-way is all there is, so nothing ever changes."""
        sent.text("dualSidePosition")
        if sent.flag("dualSidePosition"):
            raise invalid("dualSidePosition", "this exchange holds one-way positions only")
        raise Refused(-4059, "No need to change position side.")

    def assets_mode(self, _sent: Parameters) -> Any:
        """GET multiAssetsMargin."""
        return {"multiAssetsMargin": False}

    def keep_assets_mode(self, sent: Parameters) -> Any:
        """POST multiAssetsMargin: USDT is the only asset, so nothing ever changes."""
        sent.text("multiAssetsMargin")
        if sent.flag("multiAssetsMargin"):
            raise invalid("multiAssetsMargin", "this exchange has USDT only")
        raise Refused(-4171, "No need to change Multi-Assets mode.")

    def keep_margin_type(self, sent: Parameters) -> Any:
        """POST marginType: cross is all there is, so nothing ever changes."""
        sent.check_symbol()
        wanted = sent.word("marginType", ("CROSSED", "ISOLATED"), invalid("marginType", "CROSSED or ISOLATED"))
        if wanted == "ISOLATED":
            raise invalid("marginType", "this exchange has cross margin only")
        raise Refused(-4046, "No need to change margin type.")

    def test_order(self, sent: Parameters) -> Any:
        """POST order/test."""
        self.core.test_order(sent.sent, self.now_ms)
        return {}

    def everything(self) -> dict[str, Any]:
        """Return the account's full state."""
        order_store = self.core.order_store
        return {
            "now_ms": self.now_ms,
            "account": self.account_v2(Parameters({})),
            "positions": self.positions_v2(Parameters({})),
            "orders": [serializers.order_details(order) for order in order_store.orders.values()],
            "algo_orders": [self._algo(algo) for algo in order_store.algos.values()],
            "fills": [serializers.fill_details(fill) for fill in order_store.fills],
            "incomes": [serializers.income_details(income) for income in self.core.ledger.incomes],
            "countdown_ends_ms": self.core.countdown_ends_ms,
            "listen_key_ends_ms": self.core.listen_key.ends_ms,
        }


QUERIES: dict[str, Query] = {
    "POST /fapi/v1/order/test": Queries.test_order,
    "GET /fapi/v1/order": Queries.order,
    "GET /fapi/v1/openOrder": Queries.open_order,
    "GET /fapi/v1/openOrders": Queries.open_orders,
    "GET /fapi/v1/allOrders": Queries.all_orders,
    "GET /fapi/v1/userTrades": Queries.fills,
    "GET /fapi/v1/algoOrder": Queries.algo,
    "GET /fapi/v1/openAlgoOrders": Queries.open_algos,
    "GET /fapi/v1/allAlgoOrders": Queries.all_algos,
    "GET /fapi/v2/account": Queries.account_v2,
    "GET /fapi/v3/account": Queries.account_v3,
    "GET /fapi/v2/balance": Queries.balances,
    "GET /fapi/v3/balance": Queries.balances,
    "GET /fapi/v2/positionRisk": Queries.positions_v2,
    "GET /fapi/v3/positionRisk": Queries.positions_v3,
    "GET /fapi/v1/income": Queries.incomes,
    "GET /fapi/v1/leverageBracket": Queries.brackets,
    "GET /fapi/v1/commissionRate": Queries.commission_rate,
    "GET /fapi/v1/accountConfig": Queries.account_settings,
    "GET /fapi/v1/symbolConfig": Queries.symbol_settings,
    "GET /fapi/v1/positionSide/dual": Queries.position_mode,
    "POST /fapi/v1/positionSide/dual": Queries.keep_position_mode,
    "GET /fapi/v1/multiAssetsMargin": Queries.assets_mode,
    "POST /fapi/v1/multiAssetsMargin": Queries.keep_assets_mode,
    "POST /fapi/v1/marginType": Queries.keep_margin_type,
}
"""Every read-only request, and requests for settings that this exchange never changes."""


def _choose(sent: Parameters, records: Sequence[RecordT], *, is_forward: bool, default: int = 500) -> list[RecordT]:
    """Return the records of startTime to endTime, at most limit: the oldest from a start or an id, else the newest."""
    start, end = sent.optional_integer("startTime"), sent.optional_integer("endTime")
    limit = sent.integer("limit", default, low=1, high=1000)
    if start is not None and end is not None and start > end:
        raise invalid("startTime", "it is after endTime")
    found = [
        record
        for record in records
        if (start is None or record.time_ms >= start) and (end is None or record.time_ms <= end)
    ]
    return found[:limit] if is_forward or start is not None else found[-limit:]


def _quantity(value: Decimal) -> str:
    return f"{value:.3f}" if value else f"{ZERO:.3f}"
