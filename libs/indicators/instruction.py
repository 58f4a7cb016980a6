"""Where an instruction keeps its operands: offsets into a compiled feature set.

An instruction is nine integers: where its state lies, where its values go, up to four rings, three periods. Which step
it is for follows from its place: instructions are sorted by step, so that the processor guesses every jump.
"""

from __future__ import annotations

from typing import Final

STATE: Final = 0
VALUE: Final = 1
RING_A: Final = 2
RING_B: Final = 3
RING_C: Final = 4
RING_D: Final = 5
N: Final = 6
P: Final = 7
Q: Final = 8
WIDTH: Final = 9
