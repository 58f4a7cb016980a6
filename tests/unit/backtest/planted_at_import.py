"""A planted mistake: what a module reads when it is imported may hold the future of every run."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from libs.domain.bars import Bar
from services.strategy import AccountView, Strategy, TargetPosition

KNOWN = Path("/etc/hostname").read_text()


class ReadAtImport(Strategy):
    """Knows what its module has read."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        return (TargetPosition(bar.instrument, Decimal(300) * (len(KNOWN) % 2 * 2 - 1), "planted"),)
