"""Mutants that change nothing anyone can see, with the reason; they do not count for or against the tests."""

from __future__ import annotations

_UNREAD = "a default that nothing reads before it is set"
_BELOW_TICK = "1e-8 is below every tick"
_SIGN = "the sign is 1 or -1: dividing by it is multiplying"
_PRECISION = "one more digit of a precision that nothing reaches"
_MEMORY = "how much is kept for speed changes no answer"

# Module -> part of what the mutant changes -> why no test can tell it from the original.
EQUIVALENTS: dict[str, dict[str, str]] = {
    "libs.margin.brackets": {"in  EXACT = Context(prec=60": _PRECISION},
    "libs.margin.liquidation": {
        "compare: balance >= EXACT": "at equality the solution is a price of 0, which is none",
        "slope < 0  ->  slope <= 0": "a stretch whose slope is 0 is left out on the next line",
    },
    "libs.margin.probability": {
        "self.barrier > self.spot  ->": "a barrier at the spot is touched already, whichever side it is called",
        "* self.sign  ->": _SIGN,
        "step_spread / question.sign": _SIGN,
        "in  _PATHS_PER_BLOCK = 4096": "blocks bound the memory; draws are the same however cut, sums but for rounding",
        "in  again = math.exp(min(0.0": "above 0 only by rounding, and then the sum is cut to 1 either way",
    },
    "libs.margin.student_t": {
        "in  _MAX_TERMS = 300": "Student's t needs fewer than 100 terms, so the limit is never met",
        "1e-15  ->  abs(d * c - 1.0) <= 1e-15": "floats near 1 are multiples of 2^-53 apart, and 1e-15 is none",
        "probability >= sys.float_info.min": "no float has exactly this probability: it is stepped over",
        "x < 0.0  ->  x <= 0.0": "at 0 the tail is one half, as is what it leaves",
    },
    "libs.margin.requirements": {"compare: profit < 0": "a profit of exactly 0 gives 0 either way"},
    "services.risk.core.findings": {
        "in  _REMEMBERED = 4096": _MEMORY,
        "point >= 0  ->  point > 0": "no number begins with its point",
    },
    "services.risk.core.checks_exposure": {
        "in  ONE = Decimal(1)": "leverage means nothing where the margin is given",
        "balance >= leg.maintenance_margin": "no distance means a balance of the whole notional, which is above this",
    },
    "services.risk.core.checks_market": {
        "in  if not context.is_sane or touch_e8 <= 0": _BELOW_TICK,
        "in  if not 0 < bid <= ask": _BELOW_TICK,
        "(fill - intent.limit_price) * sign >= 0": "at equality the touch and the limit are one price",
        "/ context.intent.side.sign": _SIGN,
        "/ sign": _SIGN,
    },
    "services.risk.core.risk_gate": {"in  _EXACT = Context(prec=50": _PRECISION},
    "services.risk.core.own_orders": {"held > 0  ->  held >= 0": "of nothing no order is made"},
    "services.risk.core.checks": {"in  _result = lru_cache(maxsize=4096)": _MEMORY},
    "services.risk.core.state": {
        "held <= 0  ->  held < 0": "of nothing nothing can be closed",
        "position <= 0  ->  position < 0": "of nothing nothing can be closed",
        "in  _price = lru_cache(maxsize=256)": _MEMORY,
        "position >= 0  ->  position > 0": "from nothing a reduction leads to nothing",
        "drop sign or not: -1  ->  1": "any day but today's serves before the first",
        "in  day: int = -1": "any day but today's serves before the first",
        "event.realised_pnl >= 0": "a profit of 0 was let go one line before",
        "in  ask_e8: int = 0": _BELOW_TICK,
        "in  average_range_ppb: int = 0": "the first bar's range replaces it whole",
        "in  bid_e8: int = 0": _BELOW_TICK,
        "in  flatten_tried_at: int = 0": _UNREAD,
        "in  funding_rate_e8: int = 0": _UNREAD,
        "in  if close_time <= self.bar_close_time or close_e8": _BELOW_TICK,
        "in  if allow_quote and view.bid_e8 > 0": _BELOW_TICK,
        "in  if view.mark_e8 > 0": _BELOW_TICK,
        "in  is_last_price: bool = False": "read beside a quote time of 0, which says the same, until both are set",
        "in  last_loss_time: int = 0": _UNREAD,
        "in  mark_skew_ns: int = 0": _UNREAD,
        "in  mark_time: int = 0": _UNREAD,
        "in  quote_skew_ns: int = 0": _UNREAD,
        "in  range_ppm: int = 0": _UNREAD,
        "in  self.intent_ids[intent_id] = 0": "only the keys are looked at",
    },
    "services.risk.core.stops": {
        "(reference - watched.best_price) * sign > 0  ->": "an equal price is the same best price",
        "(reference - watched.best_price) / sign": _SIGN,
        "(position.best_price - entry) / sign": _SIGN,
        "/ gaining": _SIGN,
        "price < entry  ->  price <= entry": "only a fraction below the precision leaves the price at the entry",
        "in  breached_at: int = 0": _UNREAD,
        "position.quantity >= 0": "a held position is never 0",
        "sign > 0  ->  sign >= 0": "the sign of a held position is never 0",
    },
}


def find_reason(module: str, what: str) -> str:
    """Return why a mutant is equivalent, "" where it is not known to be."""
    for part, reason in EQUIVALENTS.get(module, {}).items():
        if part in what:
            return reason
    return ""
