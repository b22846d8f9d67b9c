"""The value of a JSON text that a caller wrote, or one clear error."""

from __future__ import annotations

import json

from ubp_sql.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 1 << 20
"""To read a megabyte takes 10-20 ms, in which no cancel takes effect."""


def value_of(text: str | None, name: str, example: str, numbers: str) -> Any:
    """What the server holds for JSON already.

    name     of the argument; example: the hint
    numbers  which of them are in range

    Raises BadInput (UB003) on NULL, a text of more than MOST_BYTES, one nested too deep, and numbers of thousands of
    digits.
    """
    if text is None:
        raise BadInput(f"{name} is NULL", example)
    if len(text) > MOST_BYTES:
        raise BadInput(f"{name} of {len(text)} characters, more than {MOST_BYTES}", example)
    try:
        return json.loads(text)
    except RecursionError:
        raise BadInput(f"{name} is nested too deep", example) from None
    except ValueError:  # a whole number of thousands of digits: all else the server has read already
        raise BadInput(f"{name} holds a number beyond every range", numbers) from None
