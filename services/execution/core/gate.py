"""The last-hop gate: what execution still sends, from commands, from risk's published state and from its own doubt.

::

    state = the strictest of
        commanded  HALT, FLATTEN -> HALTED; REDUCE -> REDUCING; RESUME -> ACTIVE
        published  the state of the last ControlState
        own        HALTED once a command or a fill does not match an approved intent; RESUME clears it
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from libs.domain.control import ControlAction, TradingState

_COMMANDED = {
    ControlAction.HALT: TradingState.HALTED,
    ControlAction.FLATTEN: TradingState.HALTED,
    ControlAction.REDUCE: TradingState.REDUCING,
    ControlAction.RESUME: TradingState.ACTIVE,
}


@dataclass(slots=True)
class TradingGate:
    """What may be sent. Reductions and cancels always may."""

    commanded: TradingState = TradingState.ACTIVE
    published: TradingState = TradingState.ACTIVE
    is_self_halted: bool = False

    @property
    def state(self) -> TradingState:
        """The strictest state in force."""
        if self.is_self_halted:
            return TradingState.HALTED
        return max(self.commanded, self.published)

    def command(self, action: ControlAction) -> bool:
        """Take a command; False where the action does not concern trading."""
        state = _COMMANDED.get(action)
        if state is None:
            return False
        self.commanded = state
        if action is ControlAction.RESUME:
            self.is_self_halted = False
        return True

    def refuse(self, *, is_reducing: bool) -> str:
        """Return why an order may not be sent, empty where it may."""
        if is_reducing or self.state is TradingState.ACTIVE:
            return ""
        if self.is_self_halted:
            return "execution halted itself: orders do not match approved intents; look at the alert, then resume"
        return f"trading is {self.state.name}: only reductions are sent"

    def to_saved(self) -> dict[str, Any]:
        """Return the state in JSON types."""
        return asdict(self)

    @classmethod
    def from_saved(cls, saved: dict[str, Any]) -> TradingGate:
        """Return the gate that `to_saved` saved."""
        return cls(TradingState(saved["commanded"]), TradingState(saved["published"]), saved["is_self_halted"])
