"""The last-hop gate: what execution still sends, from commands, from risk's published state and from its own doubt.

::

    state = the strictest of
        commanded  the holds of commands by scope (`TradingControl`, as in risk)
        published  the state of the last ControlState
        own        HALTED once execution's records do not match intents or the venue; RESUME of the account clears it

Execution's own halt is a HALT command of its own on the control topic, so that risk knows it and it outlives a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand, TradingControl, TradingState


@dataclass(slots=True)
class SendGate:
    """What may be sent for an account. Reductions and cancels always may.

    `issuer` is who issues the HALT commands by which the owner of the gate halts itself.
    """

    account: str
    issuer: str
    control: TradingControl = field(default_factory=TradingControl)
    published: TradingState = TradingState.ACTIVE
    is_self_halted: bool = False

    @property
    def state(self) -> TradingState:
        """The strictest state in force."""
        if self.is_self_halted:
            return TradingState.HALTED
        return max(self.control.state, self.published)

    def take_command(self, command: ControlCommand) -> bool:
        """Take a command; False where it is for another account or does not concern trading."""
        if command.account not in (self.account, ALL_ACCOUNTS):
            return False
        is_resume = command.action is ControlAction.RESUME
        control = self.control.obey(command)
        if control is self.control and not is_resume:
            return False
        self.control = control
        if command.account == self.account and (is_resume or command.issued_by == self.issuer):
            self.is_self_halted = not is_resume
        return True

    def halt_itself(self, number: object, event_time: int, reason: str) -> ControlCommand:
        """Halt the account by the owner's own doubt and return the command that says so; `number` tells it apart."""
        self.is_self_halted = True
        event_id = f"halt/{self.issuer}/{self.account}/{number}"
        return ControlCommand(event_id, event_time, self.account, ControlAction.HALT, self.issuer, reason)

    def refuse(self, *, is_reducing: bool) -> str:
        """Return why an order may not be sent, empty where it may."""
        if is_reducing or self.state is TradingState.ACTIVE:
            return ""
        if self.is_self_halted:
            return (
                "execution halted itself: its records do not match approved intents or the venue; look at the alert, "
                "then resume the account"
            )
        return f"trading is {self.state.name}: only reductions are sent"
