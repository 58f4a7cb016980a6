"""Compares the decisions of two runs over one market: what another setting changes when its effects are followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.events import Event
from libs.domain.orders import OrderApproved, OrderEvent, OrderIntent, OrderRefused

_SHOWN = 20


@dataclass(slots=True)
class Decisions:
    """What a run decided, by what was decided about: intents, verdicts and fills in order, and where it ended."""

    made: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    fills: int = 0
    fees: Decimal = Decimal(0)
    equity: Decimal = Decimal(0)

    def see(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case OrderIntent():
                self.made[event.event_id] = f"asked for {event.side.name} {event.quantity} {event.instrument}"
            case OrderApproved():
                intent = event.intent
                self.made[event.event_id] = f"approved {intent.side.name} {intent.quantity}"
            case OrderRefused():
                failed = ", ".join(check.name for check in event.checks if not check.has_passed)
                self.made[event.event_id] = f"refused: {failed}"
                self.refused += 1
            case OrderEvent() if event.last_quantity is not None:
                self.made[event.event_id] = f"filled {event.side.name} {event.last_quantity} at {event.last_price}"
                self.fills += 1
                self.fees += event.fee or Decimal(0)
            case AccountState():
                self.equity = event.equity

    def outcome(self) -> dict[str, Any]:
        """Return the counts and where the account ended."""
        return {
            "refused": self.refused,
            "fills": self.fills,
            "fees_usdt": str(self.fees),
            "final_equity_usdt": str(self.equity),
        }


def compare_runs(before: Decisions, after: Decisions) -> dict[str, Any]:
    """Return how many decisions stay, change, fall away or are new, with examples, and what both runs came to."""
    changed = [name for name, word in after.made.items() if name in before.made and before.made[name] != word]
    added = [name for name in after.made if name not in before.made]
    missing = [name for name in before.made if name not in after.made]
    differing = [
        {"event_id": name, "before": before.made.get(name, "nothing"), "after": after.made.get(name, "nothing")}
        for name in (*changed, *added, *missing)
    ]
    return {
        "agreed": len(after.made) - len(changed) - len(added),
        "changed": len(changed),
        "missing": len(missing),
        "added": len(added),
        "equity_difference_usdt": str(after.equity - before.equity),
        "before": before.outcome(),
        "after": after.outcome(),
        "examples": differing[:_SHOWN],
    }
