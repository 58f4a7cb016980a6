"""The account that trades at the simulated exchange: orders, fills, margin and money. Pure."""

from services.exchange.core.account.refusals import Refused
from services.exchange.core.account.trading import AccountTerms, TradingCore

__all__ = ["AccountTerms", "Refused", "TradingCore"]
