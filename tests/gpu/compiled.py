"""Compiles kernels of the GPU for sm_90, which takes NVVM and no card, and prints the fused operations of each as JSON.

Fused is a product and a sum in one operation (`fma`). Run by test_compiled.py: in pytest's processes numba.cuda is a
simulator.
"""

import json
import sys
from typing import Any

from numba import cuda, types

from ubp_sql.kernels import _gpu_forest, _gpu_pairs, aot
from ubp_sql.kernels._gpu_source import round_as_the_cpu
from ubp_sql.kernels.dispatch import BitVectors, EventColumns, Pairs, Plan, Scan, Trees

SM_90 = (9, 0)
KINDS = {
    "l": types.int64,
    "i": types.int32,
    "d": types.float64,
    "f": types.float32,
    "u": types.uint32,
    "b": types.uint8,
}


class Card:
    """What the compiler asks of a card."""

    compute_capability = SM_90


def arrays(spec: str) -> list[Any]:
    """Types of arrays, each a letter of KINDS and the number of its dimensions."""
    return [types.Array(KINDS[item[0]], int(item[1]), "C") for item in spec.split()]


def tuple_of(kind: Any, spec: str) -> Any:
    return types.NamedTuple(arrays(spec), kind)  # type: ignore[no-untyped-call]


PLAN, EVENTS, PAIRS = tuple_of(Plan, aot._PLAN), tuple_of(EventColumns, aot._EVENTS), tuple_of(Pairs, aot._PAIRS)
SCAN = tuple_of(Scan, "l2 i3 l3 l3 i3 i3 i2 l2 l2 d2 l2 i3 d2")
TREES = tuple_of(Trees, "i1 f1 i1 b1 d1 i1 i1 u1")
BITS = tuple_of(BitVectors, "i1 i1 f1 u1 i1 i1 i1 d1 i1 u1")
KERNELS = {
    "run_users": (_gpu_pairs.run_users, [PLAN, EVENTS, PAIRS, SCAN, *arrays("l1 l1 f2 d2")]),
    "until_of_pairs": (_gpu_pairs.until_of_pairs, [PLAN, *arrays("l1 l1"), EVENTS, PAIRS, *arrays("l1")]),
    "aged_rows": (_gpu_pairs.aged_rows, [PLAN, *arrays("l1 l1 d2 d2 f2")]),
    "add_leaves": (_gpu_forest.add_leaves, [*arrays("f2"), TREES, *arrays("i1 i1 d2")]),
    "by_columns": (_gpu_forest.by_columns, arrays("f2 i1 f2")),
    "add_bits": (_gpu_forest.add_bits, [*arrays("f2"), BITS, *arrays("i1 d2")]),
}


def product_and_sum(values: Any, out: Any) -> None:
    out[0] = values[0] * values[1] + values[2]


def joined(function: Any, signature: list[Any]) -> int:
    text, _ = cuda.compile_ptx(function, tuple(signature), cc=SM_90)
    return int(text.count("fma.rn"))


def main(names: list[str]) -> None:
    from numba.cuda import compiler, dispatcher
    from numba.cuda.cudadrv.error import NvvmSupportError

    compiler.get_current_device = dispatcher.get_current_device = lambda: Card
    try:
        found = {"joined": joined(product_and_sum, arrays("d1 d1"))}
    except (ImportError, NvvmSupportError, RuntimeError) as error:
        sys.exit(f"no NVVM: {str(error).splitlines()[0]}")
    round_as_the_cpu()
    found["apart"] = joined(product_and_sum, arrays("d1 d1"))
    found |= {name: joined(KERNELS[name][0].py_func, KERNELS[name][1]) for name in names}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
