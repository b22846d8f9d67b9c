"""Views of flat arrays for code that is compiled into the native library."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

F = TypeVar("F", bound=Callable[..., object])


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _matrix(context: Any, flat: Any, rows: Any, columns: Any) -> Any:
    result = types.Array(flat.dtype, 2, "C")

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = target.make_array(signature.args[0])(target, builder, arguments[0])
        made = target.make_array(result)(target, builder)
        rows_, columns_ = arguments[1], arguments[2]
        fill: Any = arrayobj.populate_array
        fill(
            made,
            data=source.data,
            shape=(rows_, columns_),
            strides=(builder.mul(columns_, source.itemsize), source.itemsize),
            itemsize=source.itemsize,
            meminfo=ir.Constant(source.meminfo.type, None),
        )
        return made._getvalue()

    return result(flat, types.int64, types.int64), generate


def view(function: F) -> F:
    """As `op`, for what makes views by functions: Numba lets only code that counts references return arrays.

    Nobody owns the arrays' memory, and LLVM drops the counting.
    """
    return cast(F, numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))


matrix: Any = _matrix
"""matrix(flat, rows, columns): the first rows x columns elements of a contiguous array, not owned.

ndarray.reshape is a function of Numba's run time, which the library does not have.
"""
