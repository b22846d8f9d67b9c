"""The part of a set's plan that some of its features need, computing them to the same bits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ubp_sql.features.columns import Columns
from ubp_sql.kernels.dispatch import I64, FormulaColumn, Key, LinkColumn, OpColumn, Plan, Size, SpanColumn, StreamColumn


class Part(NamedTuple):
    """What `compute` asks of a definition."""

    kinds: tuple[str, ...]
    columns: Columns
    plan: Plan


def plan_part(kinds: tuple[str, ...], columns: Columns, plan: Plan, positions: Sequence[int]) -> Part:
    """The features at these positions, in their order, without anchors.

    Windows stay cut as the whole plan cuts them: a sum over a window is added up ring by ring, and with other rings its
    last bit could be another.
    """
    formulas = plan.formulas[list(positions)]
    ops = plan.ops[_owners(plan, formulas)]
    spans, links, streams = (_used(ops[:, column]) for column in (OpColumn.SPAN, OpColumn.LINK, OpColumn.STREAM))
    made = plan._replace(
        streams=plan.streams[streams],
        stream_params=plan.stream_params[streams],
        spans=plan.spans[spans],
        links=plan.links[links],
        params=plan.params[_owners(plan, formulas)],
        ops=ops,
        formulas=formulas,
        factors=plan.factors[list(positions)],
        anchors=np.empty(0, np.int64),
        sizes=plan.sizes.copy(),
    )
    for table, column in (
        (made.ops, OpColumn.STREAM),
        (made.spans, SpanColumn.STREAM),
        (made.links, LinkColumn.STREAM),
    ):
        _renumber(table, column, streams)
    _renumber(made.ops, OpColumn.SPAN, spans)
    _renumber(made.ops, OpColumn.LINK, links)
    read = ((made.ops, OpColumn.NUMBER, OpColumn.KEY), (made.streams, StreamColumn.COND_NUMBER, StreamColumn.COND_KEY))
    numbers = _used(np.concatenate([table[:, number] for table, number, _ in read]))
    all_keys = np.concatenate([table[:, key] for table, _, key in read])
    keys = _used(all_keys)
    for table, number, key in read:
        _renumber(table, number, numbers)
        _renumber(table, key, keys)
    made.sizes[Size.NUMBERS], made.sizes[Size.KEYS] = len(numbers), len(keys)
    names = Columns(
        tuple(columns.numbers[place] for place in numbers),
        tuple(columns.keys[place] for place in keys),
        bool((all_keys < Key.NONE).any()),
    )
    return Part(kinds, names, made)


def _owners(plan: Plan, formulas: I64) -> I64:
    """Rows of the operations whose cells the formulas read, ascending."""
    cells = formulas[:, [FormulaColumn.A, FormulaColumn.B, FormulaColumn.C]].ravel()
    first = plan.ops[:, OpColumn.CELL]
    order = np.argsort(first)
    place = np.searchsorted(first[order], cells[cells >= 0], "right") - 1
    return np.unique(order[place])


def _used(numbers: I64) -> I64:
    return np.unique(numbers[numbers >= 0])


def _renumber(table: I64, column: int, kept: I64) -> None:
    """Numbers of rows, or of columns, by their place among those kept; negative ones mean something else."""
    numbers = table[:, column]
    table[:, column] = np.where(numbers >= 0, np.searchsorted(kept, numbers), numbers)
