"""The CPU's kernels as device functions: the same source, compiled once more, so that the two cannot drift apart.

A function under `@op` or `@jit` of _cpu_jit.py keeps its Python source; here it gets a copy whose globals name the
copies of what it calls, and numba.cuda compiles that. Under the simulator the copies run as plain Python.
"""

from types import CodeType, FunctionType, ModuleType
from typing import Any

from numba import cuda
from numba.core.dispatcher import Dispatcher

_made: dict[object, Any] = {}


def on_device(function: Any) -> Any:
    """The device function of a jitted function of the CPU, made once."""
    found = _made.get(function)
    if found is None:
        source = function.py_func
        scope: dict[str, Any] = {"__name__": source.__module__, "__builtins__": __builtins__}
        copy = FunctionType(source.__code__, scope, source.__name__, source.__defaults__, source.__closure__)
        found = _made[function] = cuda.jit(copy, device=True)
        used = _names(source.__code__)
        scope.update({name: _translated(value) for name, value in source.__globals__.items() if name in used})
    return found


def _names(code: CodeType) -> set[str]:
    return {*code.co_names}.union(*(_names(item) for item in code.co_consts if isinstance(item, CodeType)))


def _translated(value: Any) -> Any:
    if isinstance(value, Dispatcher):
        return on_device(value)
    if isinstance(value, ModuleType) and value.__name__.startswith(f"{__package__}."):
        return _made.get(value) or _module(value)
    return value


def _module(module: ModuleType) -> ModuleType:
    """A module of our own with device functions in place of its functions."""
    made = _made[module] = ModuleType(f"{module.__name__} on the device")
    vars(made).update({name: on_device(it) for name, it in vars(module).items() if isinstance(it, Dispatcher)})
    return made


def round_as_the_cpu() -> None:
    """Keeps NVVM from joining a product and a sum into one operation that rounds once where the CPU rounds twice.

    numba-cuda has no option for it; a test looks at what it compiles.
    """
    from numba.cuda.cudadrv import nvvm

    compile_ir = nvvm.compile_ir
    if getattr(compile_ir, "rounds_twice", False):
        return

    def compiled(ir: Any, **options: Any) -> Any:
        return compile_ir(ir, **{"fma": 0, **options})

    compiled.rounds_twice = True  # type: ignore[attr-defined]
    nvvm.compile_ir = compiled
