"""Compiled steps over many payloads at once: protobuf's wire format into flat arrays, by the field numbers declared.

What is not the plain form (an unknown or repeated field, another wire type, bytes cut short, text that is not ASCII)
marks its row as one to be decoded by itself; nothing is decided here about what such bytes mean.
Source of the format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from libs.kernels import njit

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# What a field number stands for at a level: nothing, an integer, a text, packed integers, a sub-message.
UNKNOWN, INTEGER, TEXT, INTEGERS, PART = range(5)
REFUSED = -1


@njit(cache=True, nogil=True)
def read_varint(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    """Return the 64 bits of a varint as a signed integer and the position behind it, -1 where it is none."""
    value = 0
    shift = 0
    while at < stop:
        byte = int(data[at])
        at += 1
        if shift == 63 and byte > 1:
            return value, -1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, -1


@njit(cache=True, nogil=True)
def read_fields(data: Bytes, ends: Ints, shapes: Ints, targets: Ints, values: Ints, sizes: Ints, levels: Ints) -> None:
    """Read every payload of `data` (from each of `ends` to the next) into a row of `values` and `sizes`.

    `shapes[level, number]` says what a field is, `targets[level, number]` in which column it goes, or of a sub-message
    its level. An integer's size is 1 where it was sent; of texts and packed integers `values` holds where they begin.
    `levels` becomes the level of the sub-message, 0 where there was none, `REFUSED` for a row to be decoded by itself.
    """
    for row in range(ends.shape[0] - 1):
        levels[row] = _read_message(data, ends[row], ends[row + 1], shapes, targets, values[row], sizes[row])


@njit(cache=True, nogil=True)
def _read_message(data: Bytes, at: int, end: int, shapes: Ints, targets: Ints, values: Ints, sizes: Ints) -> int:
    part = 0
    level = 0
    stop = end
    while True:
        if at == stop:
            if level == 0:
                return part
            level = 0
            stop = end
            continue
        tag, at = read_varint(data, at, stop)
        number = tag >> 3
        if at < 0 or number < 0 or number >= shapes.shape[1]:
            return REFUSED
        shape = shapes[level, number]
        if tag & 7 != (0 if shape == INTEGER else 2) or shape == UNKNOWN:
            return REFUSED
        value, at = read_varint(data, at, stop)
        if at < 0:
            return REFUSED
        target = targets[level, number]
        if shape == INTEGER:
            values[target] = value
            sizes[target] = 1
            continue
        if value < 0 or value > stop - at:
            return REFUSED
        if shape == PART:
            if part != 0:
                return REFUSED
            part = target
            level = target
            stop = at + value
            continue
        if sizes[target] != 0:
            return REFUSED
        if shape == TEXT:
            for index in range(at, at + value):
                if data[index] >= 0x80:
                    return REFUSED
        values[target] = at
        sizes[target] = value
        at += value


@njit(cache=True, nogil=True)
def gather_texts(data: Bytes, begins: Ints, sizes: Ints) -> tuple[npt.NDArray[np.int32], Bytes]:
    """Copy texts out of `data`, one behind the other; return where each begins and the end, and their bytes."""
    offsets = np.zeros(begins.shape[0] + 1, np.int32)
    for row in range(begins.shape[0]):
        offsets[row + 1] = offsets[row] + sizes[row]
    texts = np.empty(offsets[-1], np.uint8)
    for row in range(begins.shape[0]):
        first = offsets[row]
        for index in range(sizes[row]):
            texts[first + index] = data[begins[row] + index]
    return offsets, texts


@njit(cache=True, nogil=True)
def unpack_integers(data: Bytes, begins: Ints, sizes: Ints) -> tuple[npt.NDArray[np.int32], Ints, Ints, Flags]:
    """Read packed integers: where each row's begin and the end, all of them, each row's least, which rows are whole.

    The least of none is the greatest integer there is.
    """
    rows = begins.shape[0]
    offsets = np.zeros(rows + 1, np.int32)
    least = np.full(rows, np.iinfo(np.int64).max, np.int64)
    is_whole = np.ones(rows, np.bool_)
    for row in range(rows):
        count = 0
        for index in range(begins[row], begins[row] + sizes[row]):
            if data[index] < 0x80:
                count += 1
        offsets[row + 1] = offsets[row] + count
    integers = np.zeros(offsets[-1], np.int64)
    for row in range(rows):
        at = begins[row]
        stop = at + sizes[row]
        for index in range(offsets[row], offsets[row + 1]):
            value, at = read_varint(data, at, stop)
            if at < 0:
                break
            integers[index] = value
            least[row] = min(least[row], value)
        is_whole[row] = at == stop
    return offsets, integers, least, is_whole
