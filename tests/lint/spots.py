"""pgspot over what an installation runs: the migrations as rendered, then udfs/.

Nothing is ignored but the language of the PL/Python bodies, which pgspot cannot read and the rule `SQL is constant`
does. SQL-standard bodies are left out, since pgspot 0.9 fails on them: their names are bound when the function is made,
and the rule `functions` wants them qualified.
"""

import contextlib
import io
from argparse import Namespace
from pathlib import Path

from pglast import ast, parse_sql
from pgspot.state import Counter, State
from pgspot.visitors import visit_sql

from ubp_sql.install import render
from ubp_sql.install.steps import SETTINGS

OPTIONS = {"ignore": [], "ignore_lang": ["plpython3u"], "proc_without_search_path": [], "sql_fn": []}
# It is put in place of its call, which a SET clause would keep from happening; it names everything with its schema.
INLINED = "PS005: Function without explicit search_path: ubp.event_rows("
# What runs before: the schema is made, or found to be ours with nothing of others in it; names are pg_catalog's.
BEFORE = f"create schema ubp;\n{SETTINGS}\n"


def of_text(file: str, text: str) -> list[str]:
    """What pgspot finds in a script that an installation runs."""
    kept = []
    for raw in parse_sql(text):
        if not (isinstance(raw.stmt, ast.CreateFunctionStmt) and raw.stmt.sql_body is not None):
            end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(text)
            kept.append(text[raw.stmt_location : end])
    said = io.StringIO()
    counter = Counter(Namespace(summary_only=False, plpgsql=True, **OPTIONS))
    with contextlib.redirect_stdout(said):
        visit_sql(State(counter), BEFORE + ";\n".join([*kept, ""]), toplevel=True)
    if counter.is_clean():
        return []
    return [f"{file}: {line}" for line in said.getvalue().splitlines() if line.strip() and not line.startswith(INLINED)]


def breaches(root: Path) -> list[str]:
    """pgspot's findings in migrations/ and udfs/."""
    found = [line for m in render.upgrades(None) for line in of_text(f"migrations/{m.revision}", m.sql)]
    for path in sorted((root / "udfs").glob("*.sql")):
        found += of_text(path.relative_to(root).as_posix(), path.read_text())
    return found
