"""Turns forecasts, bars and the account's state into order intents; hosts the user's own strategies.

A strategy of your own needs these names and nothing else of perpflow.
"""

from services.strategy.core import AccountView, Strategy, TargetPosition, parameter, state

__all__ = ["AccountView", "Strategy", "TargetPosition", "parameter", "state"]
