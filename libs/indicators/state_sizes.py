"""How many numbers of state the windows and steps keep: what a feature set's definition needs of the compiled code.

Apart from it, so that who reads definitions only (inference) needs no compiler.
"""

from __future__ import annotations

from typing import Final

SUM_STATE: Final = 3
VARIANCE_STATE: Final = 6
EXTREME_STATE: Final = 2
COVARIANCE_STATE: Final = 9
BOLLINGER_STATE: Final = 7
DIRECTION_STATE: Final = 4
HURST_LAGS: Final = 5
HURST_STATE: Final = 2 * HURST_LAGS + 1
PERMUTATIONS: Final = 6
