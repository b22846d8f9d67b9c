"""What every file in udfs/ must say of its functions and views (DESIGN D8, D9; STYLE, A function is written once)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pglast import ast, parse_sql
from pglast.visitors import Visitor

SCHEMA = "ubp"
SEARCH_PATH = ["pg_catalog", "pg_temp"]
# Bodies without SPI: everything else crashes the server under a Gather.
PARALLEL_SAFE = {"ubp.score_blob", "ubp.score_blob_all"}
# A SET clause, or a body that is bound when made, would keep the planner from putting it in place of its call.
INLINED = {"ubp.event_rows()"}
OWNERS = {"ubp_owner", "ubp_reader"}
# SECURITY DEFINER and callable by everybody who may score: must be the role that owns no table.
READ_ONLY = ("stable", "immutable")
BODY_LINES = 3
# Of the one function that is called for each of a million rows: an import statement costs 0.4 µs, a sixth of the call.
HOT_CALL = """
kept = SD.get("served")
score = kept and kept.get(task)
if not score:
    from ubp_sql import api
    score = api.served(plpy, SD, task)
return score(user_id)
"""
HOT = "ubp.predict(text, int8)"
CALL = re.compile(r"\s*from ubp_sql import api\s+return api\.(\w+)\(plpy, SD(?:, ([\w, ]+))?\)\s*")


def _dotted(names: Any) -> str:
    return ".".join(name.sval for name in names)


def _type(node: Any) -> str:
    """Name of a type without pg_catalog, with [] for arrays."""
    name = _dotted(node.names).removeprefix("pg_catalog.")
    return name + "[]" * len(node.arrayBounds or ())


def _inputs(function: Any) -> list[Any]:
    return [p for p in function.parameters or () if p.mode.name in ("FUNC_PARAM_DEFAULT", "FUNC_PARAM_IN")]


def _signature(function: Any) -> str:
    return f"{_dotted(function.funcname)}({', '.join(_type(p.argType) for p in _inputs(function))})"


def _object(node: Any) -> str:
    """Name of what a COMMENT, GRANT, REVOKE or ALTER OWNER speaks of, as _signature writes it."""
    if isinstance(node, ast.ObjectWithArgs):
        return f"{_dotted(node.objname)}({', '.join(_type(t) for t in node.objargs or ())})"
    if isinstance(node, ast.RangeVar):
        return f"{node.schemaname}.{node.relname}"
    return _dotted(node)


class _Tables(Visitor):
    """Relations named without a schema, less those that a WITH defines."""

    def __init__(self) -> None:
        self.bare: set[str] = set()
        self.known: set[str] = set()

    def visit_RangeVar(self, _: Any, node: Any) -> None:
        if node.schemaname is None:
            self.bare.add(node.relname)

    def visit_CommonTableExpr(self, _: Any, node: Any) -> None:
        self.known.add(node.ctename)


class _Said:
    """What the statements of a file say of each object."""

    def __init__(self, statements: list[Any]) -> None:
        self.comments: set[str] = set()
        self.owners: dict[str, str] = {}
        self.granted: set[str] = set()
        self.revoked: set[str] = set()
        for node in statements:
            if isinstance(node, ast.CommentStmt):
                self.comments.add(_object(node.object))
            elif isinstance(node, ast.AlterOwnerStmt):
                self.owners[_object(node.object)] = node.newowner.rolename
            elif isinstance(node, ast.AlterTableStmt):
                self.owners[_object(node.relation)] = node.cmds[0].newowner.rolename
            elif isinstance(node, ast.GrantStmt):
                roles = {role.rolename or "public" for role in node.grantees}
                for item in node.objects:
                    if node.is_grant:
                        self.granted.add(_object(item))
                        if "public" in roles:
                            self.granted.add(f"{_object(item)} to public")
                    elif "public" in roles and not node.privileges:
                        self.revoked.add(_object(item))


def _of_function(node: Any, said: _Said) -> Iterator[str]:
    options: dict[str, Any] = {}
    settings: dict[str, list[str]] = {}
    for option in node.options:
        if option.defname == "set":
            settings[option.arg.name] = [a.val.sval for a in option.arg.args]
        else:
            options[option.defname] = option.arg
    name, signature = _dotted(node.funcname), _signature(node)
    language = options["language"].sval
    definer = "security" in options and options["security"].boolval
    if not name.startswith(f"{SCHEMA}."):
        yield "its name is not qualified with ubp"
    if not node.replace:
        yield "not create or replace"
    for needed in ("volatility", "parallel"):
        if needed not in options:
            yield f"{needed} is not stated"
    parallel = options["parallel"].sval if "parallel" in options else ""
    if parallel == "restricted" or (parallel == "safe") != (name in PARALLEL_SAFE):
        yield f"parallel {parallel}"
    # LANGUAGE internal names one of PostgreSQL's own functions, which looks no name up.
    text = node.sql_body is None and signature not in INLINED
    if text and language != "internal" and settings.get("search_path") != SEARCH_PATH:
        yield "neither a begin-atomic body nor search_path = pg_catalog, pg_temp"
    if definer and settings.get("search_path") != SEARCH_PATH:
        yield "security definer without search_path = pg_catalog, pg_temp"
    if signature not in said.revoked:
        yield "not revoked from public"
    if f"{signature} to public" in said.granted:
        yield "granted to public"
    for what, where in (("comment", said.comments), ("grant", said.granted)):
        if signature not in where:
            yield f"no {what}"
    owner = said.owners.get(signature)
    if owner not in OWNERS:
        yield f"owner {owner}"
    if language == "sql" and text:
        yield "an SQL body given as text is parsed at each call: write begin atomic"
    if language == "plpython3u":
        yield from _of_body(node, signature, options["as"][0].sval)


def _of_body(node: Any, signature: str, body: str) -> Iterator[str]:
    from ubp_sql import api

    if signature == HOT:
        if body != HOT_CALL:
            yield "its body is not HOT_CALL"
        return
    if len([line for line in body.splitlines() if line.strip()]) > BODY_LINES:
        yield f"its body is longer than {BODY_LINES} lines"
    found = CALL.fullmatch(body)
    if found is None:
        yield "its body is not `from ubp_sql import api` and `return api.NAME(plpy, SD, ...)`"
        return
    if found[1] not in api.__all__ or not hasattr(api, found[1]):
        yield f"api.{found[1]} is not in api.__all__, or not there"
    handed = [part.strip() for part in found[2].split(",")] if found[2] else []
    if handed != [p.name for p in _inputs(node)]:
        yield f"hands on ({', '.join(handed)}), takes ({', '.join(p.name for p in _inputs(node))})"


def _of_view(node: Any, said: _Said) -> Iterator[str]:
    name = _object(node.view)
    if not name.startswith(f"{SCHEMA}.") or not node.replace:
        yield "not create or replace view ubp.NAME"
    if name not in said.comments:
        yield "no comment"
    if said.owners.get(name) != "ubp_owner":
        yield f"owner {said.owners.get(name)}"
    if name not in said.granted:
        yield "no grant"
    if f"{name} to public" in said.granted:
        yield "granted to public"


OTHERS = (ast.CommentStmt, ast.AlterOwnerStmt, ast.AlterTableStmt, ast.GrantStmt)


def of_text(file: str, text: str) -> Iterator[str]:
    """Breaches of one file."""
    statements = [raw.stmt for raw in parse_sql(text)]
    said = _Said(statements)
    for node in statements:
        if isinstance(node, ast.CreateFunctionStmt):
            where = f"{file}: {_signature(node)}"
            yield from (f"{where}: {what}" for what in _of_function(node, said))
        elif isinstance(node, ast.ViewStmt):
            where = f"{file}: {_object(node.view)}"
            yield from (f"{where}: {what}" for what in _of_view(node, said))
        elif isinstance(node, OTHERS):
            continue
        else:
            yield f"{file}: {type(node).__name__} belongs into a migration"
            continue
        tables = _Tables()
        tables(node)
        yield from (f"{where}: {name} is named without its schema" for name in sorted(tables.bare - tables.known))


def breaches(root: Path) -> list[str]:
    """Every udfs/ file against the rules; function names are unique over the files."""
    found: list[str] = []
    seen: dict[str, str] = {}
    for path in sorted((root / "udfs").glob("*.sql")):
        file, text = path.relative_to(root).as_posix(), path.read_text()
        if not re.fullmatch(r"\d{3}_[a-z_]+\.sql", path.name):
            found.append(f"{file}: not named NNN_topic.sql, so it is not applied in a known order")
        found += of_text(file, text)
        for raw in parse_sql(text):
            if isinstance(raw.stmt, ast.CreateFunctionStmt):
                signature = _signature(raw.stmt)
                if signature in seen:
                    found.append(f"{file}: {signature} is in {seen[signature]} too")
                seen[signature] = file
    return found
