"""Builds the native row scorer: Numba to LLVM's intermediate code, LLVM to an object, the C compiler to a library.

Built for the plain instruction set of the machine's architecture, so that one build serves every CPU of a cluster.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ubp_sql.errors import InstallError
from ubp_sql.models.native import ENTRY, library_path

COMPILER_SECONDS = 60


def build(folder: Path | None = None) -> Path:
    """Makes the library if it is not there; returns its path.

    Raises InstallError (UB011) without a C compiler or where the folder cannot be written; scoring then runs in plain
    Python with the same results, at about twice the time a call.
    """
    target = library_path() if folder is None else folder / library_path().name
    if target.exists():
        return target
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise InstallError("there is no C compiler", "apt-get install gcc libc6-dev, then `ubp-sql doctor --fix`")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            item = Path(scratch) / "scorer.o"
            item.write_bytes(_object_code())
            library = Path(scratch) / "scorer.so"
            command = [
                compiler,
                "-shared",
                "-o",
                str(library),
                str(item),
                "-lm",
                "-Wl,-z,defs,-z,noexecstack,--strip-all",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
            if done.returncode:
                raise InstallError(
                    f"the C compiler failed: {done.stderr.strip()[:300]}", "apt-get install gcc libc6-dev"
                )
            library.chmod(0o644)
            # A rename is atomic: a server that loads it at this moment sees the whole library or none.
            os.replace(library, target)
    except OSError as error:
        raise InstallError(
            f"cannot write {target}: {error.strerror}", "run it as the user who installed ubp_sql"
        ) from None
    for old in target.parent.glob("scorer-*.so"):
        if old != target:
            old.unlink()
    return target


def _object_code() -> bytes:
    import llvmlite.binding as llvm
    from numba import cfunc

    from ubp_sql.kernels.native_forest import SIGNATURE, score_row

    compiled = cfunc(SIGNATURE, error_model="numpy")(score_row)
    module = llvm.parse_assembly(compiled.inspect_llvm())
    for function in module.functions:
        # Only the entry is exported; what Numba adds around it (error reporting) is dropped when nothing calls it.
        if function.name == compiled.native_name:
            function.name = ENTRY
        elif not function.is_declaration:
            function.linkage = "internal"
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="", opt=3, reloc="pic", codemodel="default")
    module.triple = triple
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))
