"""A plan's arrays where they lie in its bytes (plan_blob.py)."""

import numpy as np

from ubp_sql.kernels._cpu_matrix import matrix, view
from ubp_sql.kernels.codes import FormulaColumn, LinkColumn, OpColumn, Param, SpanColumn, StreamColumn
from ubp_sql.kernels.dispatch import I64, Plan

TABLE = 2
# Numba makes no shape of an enumeration's member.
STREAM, SPAN, LINK, OP = int(StreamColumn.WIDTH), int(SpanColumn.WIDTH), int(LinkColumn.WIDTH), int(OpColumn.WIDTH)
PARAM, FORMULA = int(Param.WIDTH), int(FormulaColumn.WIDTH)


@view
def array_at(words: I64, number: int) -> I64:
    """Array `number` of the plan as words."""
    entry = TABLE + 3 * number
    begin, size = words[entry] // 8, words[entry + 1] * max(words[entry + 2], 1)
    return words[begin : begin + size]


@view
def plan_at(words: I64) -> Plan:
    """The plan in a checked blob, without a copy."""
    edges, streams, stream_params = array_at(words, 0), array_at(words, 1), array_at(words, 2).view(np.float64)
    spans, links, ops = array_at(words, 3), array_at(words, 4), array_at(words, 5)
    params, formulas, factors = array_at(words, 6).view(np.float64), array_at(words, 7), array_at(words, 8)
    return Plan(
        edges,
        matrix(streams, streams.size // STREAM, STREAM),
        matrix(stream_params, stream_params.size // 2, 2),
        matrix(spans, spans.size // SPAN, SPAN),
        matrix(links, links.size // LINK, LINK),
        matrix(ops, ops.size // OP, OP),
        matrix(params, params.size // PARAM, PARAM),
        matrix(formulas, formulas.size // FORMULA, FORMULA),
        matrix(factors.view(np.float64), factors.size // 2, 2),
        array_at(words, 9),
        array_at(words, 10).view(np.float64),
        array_at(words, 11),
    )
