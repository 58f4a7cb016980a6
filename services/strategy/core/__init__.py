"""The strategy core: hosts strategies, nets their targets and asks for the orders that lead there."""

from services.strategy.core.declaration import parameter, state
from services.strategy.core.host import StrategyCore
from services.strategy.core.strategy import HANDLERS, AccountView, HostedStrategy, Strategy, TargetPosition, handles

__all__ = [
    "HANDLERS",
    "AccountView",
    "HostedStrategy",
    "Strategy",
    "StrategyCore",
    "TargetPosition",
    "handles",
    "parameter",
    "state",
]
