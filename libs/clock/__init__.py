"""Time and chance, handed in by `main`. Nothing else in libs and services may read either."""

from libs.clock.clock import Clock, SimulatedClock, SystemClock
from libs.clock.deadline import Deadline
from libs.clock.entropy import Entropy, SeededEntropy, SystemEntropy

__all__ = ["Clock", "Deadline", "Entropy", "SeededEntropy", "SimulatedClock", "SystemClock", "SystemEntropy"]
