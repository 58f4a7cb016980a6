"""Time and chance, handed in by `main`. Nothing else in libs and services may read either."""

from libs.clock.clock import SYSTEM_CLOCK, Clock, SimulatedClock, SystemClock
from libs.clock.deadline import Deadline
from libs.clock.entropy import SYSTEM_ENTROPY, Entropy, SeededEntropy, SystemEntropy

__all__ = [
    "SYSTEM_CLOCK",
    "SYSTEM_ENTROPY",
    "Clock",
    "Deadline",
    "Entropy",
    "SeededEntropy",
    "SimulatedClock",
    "SystemClock",
    "SystemEntropy",
]
