"""Mutants that change nothing anyone can see, with the reason; they do not count for or against the tests."""

from __future__ import annotations

# (module, part of what the mutant changes) -> why no test can tell it from the original.
_UNREAD = "a default that nothing reads before it is set"

EQUIVALENTS: dict[tuple[str, str], str] = {
    ("libs.margin.brackets", "in  EXACT = Context(prec=60"): "one more digit of a precision that nothing reaches",
    ("libs.margin.requirements", "compare: profit < 0"): "a profit of exactly 0 gives 0 either way",
    ("services.risk.core.stops", "compare: (reference - best) * sign > 0"): "an equal price is the same best price",
    ("services.risk.core.stops", "(reference - best) / sign"): "the sign is 1 or -1: dividing by it is multiplying",
    ("services.risk.core.stops", "compare: sign > 0  ->  sign >= 0"): "the sign of a held position is never 0",
    ("services.risk.core.check_results", "-8  ->  8"): "writing drops trailing zeros, so rounding more is unseen",
    ("services.risk.core.check_results", "exponent < -8"): "rounding eight decimals to eight changes nothing",
    ("services.risk.core.check_results", "maxsize=4096"): "how many texts are kept is not seen in any text",
    ("services.risk.core.check_results", "in  if isinstance(exponent, int) and exponent < -8"): "as above",
    ("services.risk.core.checks_exposure", "in  ONE = Decimal(1)"): "leverage means nothing where the margin is given",
    (
        "services.risk.core.checks_market",
        "in  if not s.is_sane or touch_e8 <= 0",
    ): "a price of 1e-8 is below every tick",
    ("services.risk.core.gate", "in  _EXACT = Context(prec=50"): "one more digit of a precision that nothing reaches",
    ("services.risk.core.situation", "held * sign  ->  held / sign"): "the sign is 1 or -1",
    ("services.risk.core.situation", "settled * sign  ->  settled / sign"): "the sign is 1 or -1",
    ("services.risk.core.situation",): "the test of the other view decides",
    ("services.risk.core.state", "drop sign or not: -1  ->  1"): "any day but today's serves before the first",
    ("services.risk.core.state", "in  day: int = -1"): "any day but today's serves before the first",
    ("services.risk.core.state", "in  return (None, 'none', 0, 0)"): "time and skew of no price are not looked at",
    ("services.risk.core.state", "in  self.intent_ids[intent_id] = 0"): "only the keys are looked at",
    ("services.risk.core.state", "in  mark_skew_ns: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  mark_time: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  quote_skew_ns: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  funding_rate_e8: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  range_ppm: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  flatten_tried_at: int = 0"): _UNREAD,
    ("services.risk.core.state", "in  last_loss_time: int = 0"): _UNREAD,
    (
        "services.risk.core.state",
        "in  bid_e8: int = 0",
    ): "a price of 1e-8 is below every tick and no quote has one side",
    (
        "services.risk.core.state",
        "in  ask_e8: int = 0",
    ): "a price of 1e-8 is below every tick and no quote has one side",
}


def find_reason(module: str, what: str) -> str:
    """Return why a mutant is equivalent, "" where it is not known to be."""
    for (known_module, part), reason in EQUIVALENTS.items():
        if known_module == module and part in what:
            return reason
    return ""
