"""The strategy core: hosts strategies, nets their targets and asks for the orders that lead there."""

from services.strategy.core.host import StrategyCore
from services.strategy.core.strategy import AccountView, Strategy, Target

__all__ = ["AccountView", "Strategy", "StrategyCore", "Target"]
