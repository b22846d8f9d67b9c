"""How a chunk of the mirror holds a column: integers of 1 to 8 bytes over a base, which give back every value's bits.

Imports nothing, so that all can read it: who packs, who widens, and the session that fetches slices without NumPy.

A *form* is two words. The first one is the width in bytes, and from bit SHIFT on the exponent; 0 is a column that the
chunk does not keep. The second one is the base. Of a stored code c, an unsigned little-endian integer,

    a column of integers has  base + c * 10**exponent     all ones: NO_KEY
    a column of numbers       (base + c) / 10**exponent   all ones: NaN; the division is one of float64

At full width integers are what is stored, all of int64. Numbers with the exponent FLOAT are IEEE's, of 4 or 8 bytes.
"""

WIDTHS = (1, 2, 3, 4, 6, 8)
FULL, SINGLE = 8, 4
SHIFT = 8
WIDTH_MASK = (1 << SHIFT) - 1
FLOAT = 255
MOST_EXPONENT = 6


def form(width: int, exponent: int = 0) -> int:
    """A form's first word."""
    return width | exponent << SHIFT
