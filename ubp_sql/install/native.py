"""Builds the native library: Numba to LLVM's intermediate code, LLVM to an object, the C compiler to a library.

One library holds all entries of ubp_sql/kernels/native.py, which says how one is declared. It is built for the plain
instruction set of the machine's architecture, so that one build serves every CPU of a cluster.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from ubp_sql.errors import InstallError
from ubp_sql.kernels.native import ENTRIES, WIDE, WIDE_CPU, library_path, trailer

COMPILER_SECONDS = 60
OLD_NAMES = ("kernels-*.so", "scorer-*.so")
# What Numba's wrappers call to report errors and to free memory. Entries neither raise nor own memory, so none of it
# ever runs. All else of Numba's run time, such as NRT_Allocate, is missed by the linker: an entry must not need it.
RUNTIME = (
    *("numba_gil_ensure", "numba_gil_release", "numba_unpickle", "numba_do_raise", "NRT_Free", "NRT_MemInfo_call_dtor"),
    *("numba_runtime_build_excinfo_struct", "Py_DecRef", "PyBytes_FromStringAndSize", "PyUnicode_FromString"),
    *("PyErr_Clear", "PyErr_SetNone", "PyErr_SetString", "PyErr_WriteUnraisable"),
)


def build(folder: Path | None = None, *, anew: bool = False) -> Path:
    """Makes the library if it is not there, or anew; returns its path.

    Raises InstallError (UB011) without a C compiler or where the folder cannot be written; scores then run in plain
    Python and features in Numba with the same results, later and slower.
    """
    target = Path(library_path())
    if folder is not None:
        target = folder / target.name
    if target.exists() and not anew:
        return target
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise InstallError("there is no C compiler", "apt-get install gcc libc6-dev, then `ubp-sql doctor --fix`")
    try:
        _private(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            library = _linked(compiler, Path(scratch))
            with library.open("ab") as file:
                file.write(trailer(library.read_bytes()))
            library.chmod(0o644)
            # A rename is atomic: a server that loads it at this moment sees the whole library or none.
            os.replace(library, target)
    except OSError as error:
        raise InstallError(
            f"cannot write {target}: {error.strerror}", "run it as root or as the user who installed ubp_sql"
        ) from None
    for old in (path for pattern in OLD_NAMES for path in target.parent.glob(pattern)):
        if old != target:
            old.unlink(missing_ok=True)
    return target


def _private(folder: Path) -> None:
    """Makes the folder, or what is there into one that nobody but its owner writes: out of others nothing is loaded."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid(), folder.parent.stat().st_uid):
        shutil.rmtree(folder)
        folder.mkdir(mode=0o755)
    elif found.st_mode & 0o022:
        folder.chmod(found.st_mode & ~0o022)


def _linked(compiler: str, scratch: Path) -> Path:
    library, items = scratch / "kernels.so", []
    try:
        for suffix, (cpu, names) in _kinds().items():
            items.append(scratch / f"kernels{suffix}.o")
            items[-1].write_bytes(_object_code({name + suffix: name for name in names}, cpu))
    except Exception as error:  # whatever a version of Numba or LLVM that nobody has tried yet has against the source
        text = str(error).strip().split("\n")[0]
        raise InstallError(f"Numba cannot compile the native library: {text[:300]}", "pip install -U numba") from error
    link = "-Wl,-z,defs,-z,noexecstack,-z,relro,-z,now,--gc-sections,--strip-all"
    command = [compiler, "-shared", "-o", str(library), *map(str, items), "-lm", link]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
    if done.returncode:
        raise InstallError(f"the C compiler failed: {done.stderr.strip()[:300]}", "apt-get install gcc libc6-dev")
    return library


def _kinds() -> dict[str, tuple[str, Iterable[str]]]:
    """(CPU, entries) to compile, by what ends the names of their functions."""
    plain: dict[str, tuple[str, Iterable[str]]] = {"": ("", ENTRIES)}
    return {**plain, "_wide": (WIDE_CPU, sorted(WIDE))} if os.uname().machine == "x86_64" else plain


def _object_code(entries: dict[str, str], cpu: str) -> bytes:
    """Entries by the names of their functions, for a CPU."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3, reloc="pic", codemodel="default")
    whole = llvm.parse_assembly("")
    for exported, name in entries.items():
        whole.link_in(_entry(llvm, name, exported))
    whole.link_in(_runtime(llvm, whole))
    for function in whole.functions:
        # Only the entries are exported: what is then called by nobody, such as Numba's error reports, is dropped.
        if not function.is_declaration:
            function.linkage = "external" if function.name in entries else "internal"
    whole.triple, whole.data_layout = triple, str(machine.target_data)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(whole, passes)
    return bytes(machine.emit_object(whole))


def _entry(llvm: Any, name: str, exported: str) -> Any:
    """One entry under a name and all that it calls, as a module of LLVM."""
    from numba import cfunc, types

    kinds = {"p": types.voidptr, "i": types.int64, "d": types.float64}
    module, function, result, arguments = ENTRIES[name]
    signature = kinds[result](*(kinds[kind] for kind in arguments))
    compiled = cfunc(signature, error_model="numpy")(getattr(import_module(module), function))
    parsed = llvm.parse_assembly(compiled.inspect_llvm())
    parsed.get_function(compiled.native_name).name = exported
    for item in [*parsed.functions, *parsed.global_variables]:
        # Entries share callees under the same name; each keeps its own.
        if not item.is_declaration and item.name != exported:
            item.linkage = "internal"
    return parsed


def _runtime(llvm: Any, module: Any) -> Any:
    """Empty bodies for what is declared of Numba's and Python's run time."""
    bodies = []
    for function in module.functions:
        if function.is_declaration and function.name in RUNTIME:
            result, _, arguments = str(function.global_value_type).partition("(")
            value = {"void": "void", "ptr": "ptr null"}.get(result.strip(), f"{result.strip()} 0")
            bodies.append(f'define {result} @"{function.name}"({arguments} {{ ret {value} }}')
    return llvm.parse_assembly("\n".join(bodies))
