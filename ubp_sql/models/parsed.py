"""What an importer leaves of a file."""

from __future__ import annotations

from typing import NamedTuple

from ubp_sql.models.forest import Forest
from ubp_sql.models.linear import Linear
from ubp_sql.models.preparation import Program


class Parsed(NamedTuple):
    """A model whose features are those of the file, in its order.

    names      of the features; empty where the file has none
    objective  what the score is, in the format's own words
    trees      of the file; 0 for a model without
    program    what makes the rows that the body reads, of rows of those features; None: they are the same
    """

    body: Forest | Linear
    names: tuple[str, ...]
    objective: str
    trees: int
    program: Program | None = None
