"""Turns forecasts, bars and the account's state into order intents; hosts the user's own strategies.

A strategy of your own needs these names and nothing else of perpflow.
"""

from services.strategy.core import AccountView, Strategy, Target, parameter, state

__all__ = ["AccountView", "Strategy", "Target", "parameter", "state"]
