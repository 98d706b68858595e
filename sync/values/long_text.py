"""Long values, shortened on receipt: the cache keeps the first 65,536 characters of a text. Pure.

No response shows more of a text than that. Postgres stores up to 1 GB in one, and decoding a whole value takes many times its
size in memory. So a copy selects only the beginning, and a streamed row loses the rest of its long texts, and long columns that are
not mapped, before it is copied. `sync.values.wire` then cuts at the character; `sync.comparison.checksums` compares under the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

LONGEST_TEXT_CHARACTERS = 65_536
LONGEST_TEXT_BYTES = 4 * LONGEST_TEXT_CHARACTERS  # of that many characters in UTF-8
VALUE_KINDS = b"tb"  # of a tuple's columns in pgoutput: those that carry a value


class LongValue(Enum):
    """What happens to a long value of a streamed column."""

    KEEP = "keep"  # not a text: numbers have a bounded size
    SHORTEN = "shorten"  # a mapped text
    DROP = "drop"  # not mapped: never read


def characters_end(text: bytes | memoryview) -> int:
    """The number of bytes of the first 65,536 characters of a UTF-8 text; of the whole text if it is shorter."""
    begin = np.frombuffer(text[: LONGEST_TEXT_BYTES + 1], dtype=np.uint8)
    starts = np.flatnonzero((begin & 0xC0) != 0x80)
    return int(starts[LONGEST_TEXT_CHARACTERS]) if len(starts) > LONGEST_TEXT_CHARACTERS else len(text)


def shortened(message: memoryview, first_tuple: int, columns: Sequence[LongValue]) -> bytes:
    """A row message of pgoutput with its long values shortened or made NULL; `first_tuple` is where its first tuple's tag is.

    Raises `ValueError` for malformed bytes.
    """
    parts = [message[:first_tuple]]
    at = first_tuple
    while at < len(message):
        count = int.from_bytes(message[at + 1 : at + 3], "big")
        parts.append(message[at : at + 3])
        at += 3
        for column in range(count):
            begin = at
            at += 1
            if at > len(message):
                raise ValueError("a row message ends early")
            if message[begin] not in VALUE_KINDS:
                parts.append(message[begin:at])
                continue
            length = int.from_bytes(message[at : at + 4], "big", signed=True)
            at += 4 + length
            if length < 0 or at > len(message):
                raise ValueError("a row message ends early")
            rule = columns[column] if column < len(columns) else LongValue.KEEP
            if length <= LONGEST_TEXT_BYTES or rule is LongValue.KEEP:
                parts.append(message[begin:at])
            elif rule is LongValue.DROP:
                parts.append(memoryview(b"n"))
            else:
                value = begin + 5
                parts.append(memoryview(bytes(message[begin : begin + 1]) + LONGEST_TEXT_BYTES.to_bytes(4, "big")))
                parts.append(message[value : value + LONGEST_TEXT_BYTES])
    return b"".join(parts)
