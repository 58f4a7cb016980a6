"""Feature vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.domain.records import quickly_made

if TYPE_CHECKING:
    # Most services carry vectors about and never look into one: they need no numpy, nor do their images.
    import numpy as np
    import numpy.typing as npt


@quickly_made
@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The features known at a bar's close.

    `packed` holds little-endian float64 in the order of the feature set; NaN where an input is missing or not yet
    warm. `schema_hash` is the sha256 of the feature set's definition; `event_id` is ``BAR_ID/first 12 of hash``.
    `reference_price_e8` is the bar's close. Vectors of history bars are emitted as well, marked `is_history`: they warm
    up readers that keep a window of vectors; nothing forecasts or trades on them. An incomplete vector is of a bar that
    lacks trades.
    """

    instrument: str
    event_id: str
    event_time: int
    bar_id: str
    timeframe: str
    feature_set: str
    schema_hash: str
    packed: bytes
    known_count: int
    reference_price_e8: int
    is_history: bool = False
    is_incomplete: bool = False

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The vector as a read-only array of shape (features,)."""
        import numpy as np

        return np.frombuffer(self.packed, dtype="<f8")
