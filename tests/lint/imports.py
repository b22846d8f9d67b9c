"""Imports point one way (DESIGN, Layout), and the path of one user's score stays light (D5)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ABOVE = ("sources", "install", "training", "embedded", "worker")
# A part of ubp_sql and the parts it may import; `errors` and the version are open to all.
MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "models": {"kernels"},
    "features": {"kernels"},
    "mirror": {"kernels", "features"},
    "quality": set(),
    "api": {"quality", "features", "mirror", "models", "kernels"},
    "export": {"kernels", "features", "models"},
    "schema": set(),
    **{part: {"schema", "kernels", "features", "mirror", "models", *ABOVE} for part in ABOVE},
    "cli": {"schema", "export", *ABOVE},
}
GPU = {f"kernels/_gpu_{name}.py" for name in ("card", "source", "pairs", "forest")}
# A library, or a part of one, and where alone it may be imported.
ONLY = {
    "psycopg": {"install", "sources", "training", "embedded", "worker", "cli"},
    "sqlalchemy": {"install", "sources", "training", "embedded", "cli", "schema"},
    "alembic": {"install"},
    "cupy": {"kernels/_gpu_card.py"},
    "cupyx": {"kernels/_gpu_card.py"},
    "numba.cuda": GPU,
    "numba_cuda": GPU,
    "lightgbm": {"training", "embedded/demo.py"},
    "sklearn": {"training", "embedded/demo.py"},
    "torch": {"training"},
    "matplotlib": {"training"},
    "jinja2": {"training"},
    "typer": {"cli"},
    "rich": {"cli", "sources"},
    "plpy": set(),  # handed in by the PL/Python body, imported by nobody
}
# What `from ubp_sql import api` must not load: each costs a new session tens to hundreds of milliseconds.
HEAVY = ("numpy", "numba", "llvmlite", "lightgbm", "psycopg", "sqlalchemy", "pydantic", "yaml", "typer", "rich")
LOADED = "import sys, ubp_sql.api, ubp_sql.kernels.native; print(*sorted(m for m in sys.modules if m in {!r}))"


def _imports(tree: ast.Module, name: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, inside functions too; not what is for type checkers alone."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            skipped |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, f"{name}: relative import"
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[argument]):
                start = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                if isinstance(start, ast.Constant):
                    yield node.lineno, str(start.value)


def _breach(part: str, inside: str, imported: str) -> str | None:
    first, _, rest = imported.partition(".")
    if imported.endswith("relative import"):
        return "relative import"
    if first == "ubp_sql":
        other = rest.partition(".")[0]
        if other in MAY_IMPORT and part != other and part in MAY_IMPORT and other not in MAY_IMPORT[part]:
            return f"{part} imports {other}"
        if part not in MAY_IMPORT and other in MAY_IMPORT:
            return f"{part} imports {other}"
    for library, places in ONLY.items():
        if f"{imported}.".startswith(f"{library}.") and part not in places and inside not in places:
            return f"{part} imports {library}"
    return None


def _mentions_plpy(tree: ast.Module) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "plpy") or (isinstance(node, ast.arg) and node.arg == "plpy")
    ]


def loaded_by_api(root: Path) -> list[str]:
    """Which of HEAVY a fresh interpreter holds after what a scoring session imports."""
    argv = [sys.executable, "-c", LOADED.format(HEAVY)]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout.split()


def breaches(root: Path) -> list[str]:
    """Imports against the direction, `plpy` outside api, and heavy modules on the light path."""
    found = []
    for path in sorted((root / "ubp_sql").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        inside = path.relative_to(root / "ubp_sql").as_posix()
        part = inside.split("/")[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        for line, imported in _imports(tree, name):
            what = _breach(part, inside, imported)
            if what:
                found.append(f"{name}:{line}: {what} ({imported})")
        if part != "api":
            found += [f"{name}:{line}: only api sees plpy" for line in _mentions_plpy(tree)]
    found += [f"ubp_sql/api: importing it loads {module}" for module in loaded_by_api(root)]
    return found
