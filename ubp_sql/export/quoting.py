"""Names and texts of users as they stand in a file of SQL: nothing of them can end a literal, a name or a body.

The file sets standard_conforming_strings itself; what is written here is right either way.
"""

from collections.abc import Iterable

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.features.columns import quoted
from ubp_sql.features.windows import shown

MAX_IDENTIFIER_BYTES = 63


def literal(text: str | None) -> str:
    """A text as a literal; NULL for None. Raises BadInput (UB003) on what no text of PostgreSQL can hold."""
    return "null" if text is None else quoted(_checked(text))


def identifier(name: str) -> str:
    """A name in double quotes. Raises BadInput (UB003) on one that PostgreSQL would cut, which could meet another."""
    name = _checked(name)
    if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise BadInput(f"{shown(name)} is no name of 1 to {MAX_IDENTIFIER_BYTES} bytes", "give the task a shorter name")
    return '"' + name.replace('"', '""') + '"'


def body(text: str) -> str:
    """A function's body between dollar quotes that nothing in it can end."""
    tag, n = "ubp", 0
    # The line's end keeps a text that ends like the quote from becoming one together with it.
    text = f"{_checked(text).rstrip()}\n"
    while f"${tag}$" in text:
        n += 1
        tag = f"ubp{n}"
    return f"${tag}$\n{text}${tag}$"


def remark(text: str) -> str:
    """A comment of one line."""
    return "-- " + " ".join("".join(char if char.isprintable() else " " for char in text).split())


def float8(value: float) -> str:
    """A float64 as a literal that reads back as the same bits."""
    return f"{number(value)}::float8"


def number(value: float) -> str:
    """A float64 as a literal without a type."""
    if value != value:
        return "'NaN'"
    if value in (float("inf"), float("-inf")):
        return "'Infinity'" if value > 0 else "'-Infinity'"
    return f"'{value!r}'"


def single(value: float) -> str:
    """A float32 as a literal that reads back as the same bits."""
    return number(value) if value - value != 0.0 else f"'{np.float32(value)!s}'"


def array_of(values: Iterable[float]) -> str:
    """Finite float64 values as an array."""
    return f"'{{{','.join(map(repr, values))}}}'::float8[]"


def _checked(text: str) -> str:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise BadInput(f"{shown(text)} holds a character that PostgreSQL does not", "give it another name")
    return text
