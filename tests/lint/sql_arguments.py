"""SQL is a constant: in server bodies always, on the client unless psycopg.sql composes it.

pgspot does not look into Python, so this does. A constant is a literal, a module-level name, or what is made of those
alone; what psycopg.sql composes must begin with one. A function that hands its own parameter on has its callers looked
at. Everything else needs an entry below, with its reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

MAP = "the load map's expressions are SQL by design: they run with the rights of whoever loads, checked by check()"
# (file, function): why its SQL may be made at run time.
APPROVED = {
    ("ubp_sql/api/catalogue.py", "_make_view"): "DDL takes no parameters; plpy.quote_ident and quote_literal quote",
    ("ubp_sql/api/catalogue.py", "make_predict"): "DDL takes no parameters; plpy.quote_ident and quote_literal quote",
    ("ubp_sql/api/drop_set.py", "_drop_view"): "DDL takes no parameters; plpy.quote_ident quotes",
    ("ubp_sql/api/training_table.py", "_write"): "a table of a name made at run time; plpy.quote_ident quotes it",
    ("ubp_sql/api/training_target.py", "make"): "DDL takes no parameters; plpy.quote_ident quotes",
    ("ubp_sql/api/training_target.py", "replace"): "DDL takes no parameters; plpy.quote_ident and quote_literal quote",
    ("ubp_sql/api/attach_compile.py", "_tried"): "expressions as the server wrote them",
    ("ubp_sql/api/attach_compile.py", "compiled"): "DDL takes no parameters; the server quoted the relation's name",
    (
        "ubp_sql/api/attach_compile.py",
        "_parsed",
    ): "an expression is SQL by design: check_text, then the server, look at it",
    ("ubp_sql/api/attach_steps.py", "execute"): "DDL takes no parameters; shown by a dry run as it is executed",
    ("ubp_sql/api/sources.py", "_probe"): "a relation whose name the server quoted",
    ("ubp_sql/api/sources.py", "_revoke"): "DDL takes no parameters; the server quoted names",
    ("ubp_sql/api/sources.py", "forget_source"): "DDL takes no parameters; plpy.quote_ident quotes",
    ("ubp_sql/api/sources.py", "_make_functions"): "DDL of expressions that record_source compiled, in quote_literal",
    ("ubp_sql/api/sources.py", "record_source"): "DDL takes no parameters; plpy.quote_ident quotes",
    ("ubp_sql/api/sources.py", "detach_source"): "DDL takes no parameters; the server quoted names",
    ("ubp_sql/api/source_watch.py", "_listen"): "DDL takes no parameters; the server quoted names",
    ("ubp_sql/api/source_watch.py", "source_report"): "expressions that record_source compiled",
    ("ubp_sql/api/explained_events.py", "explain_events"): "sql_events.events_of makes it; what users wrote is quoted",
    ("ubp_sql/api/hypothetical.py", "sent_rows"): "heap.rows_query makes it; plpy.quote_literal quotes",
    ("ubp_sql/api/label_table.py", "open_table"): "names of a relation and its columns; plpy.quote_ident quotes",
    ("ubp_sql/api/live_rows.py", "_sent"): "heap.rows_query makes it; plpy.quote_literal quotes",
    ("ubp_sql/api/live_read.py", "_slices"): "live_query.queries chooses among constants",
    ("ubp_sql/api/mirror_sources.py", "_lock"): "a relation whose name the server quoted",
    ("ubp_sql/api/mirror_slices.py", "_fetched"): "query_of chooses among constants",
    ("ubp_sql/api/quality_sql.py", "meets"): "an expression as the server wrote it",
    ("ubp_sql/api/attach_compile.py", "condition"): "as compiled",
    ("ubp_sql/api/heap.py", "read_portions"): "rows_query makes it; plpy.quote_literal quotes",
    ("ubp_sql/api/heap.py", "number_kinds"): "as rows_query: conditions of this module, tables by quoted name",
    (
        "ubp_sql/api/event_rows.py",
        "query_origin",
    ): "the relation as Origin.select has it in a query that its callers write",
    (
        "ubp_sql/api/event_rows.py",
        "number_keys",
    ): "Source.new_keys makes it of expressions that ubp.attach_source checked",
    ("ubp_sql/api/event_rows.py", "rebuild_event_rows"): "DDL takes no parameters; plpy.quote_literal quotes the body",
    ("ubp_sql/sources/compiled.py", "_kind"): MAP,
    ("ubp_sql/sources/compiled.py", "_attributes"): MAP,
    ("ubp_sql/sources/compiled.py", "_compile"): MAP,
    ("ubp_sql/sources/compiled.py", "_settle"): MAP,
    ("ubp_sql/sources/staging.py", "_type_rows"): "composed by psycopg.sql in statements.py",
    ("ubp_sql/sources/staging.py", "drop"): "names that _create was given as constants",
    ("ubp_sql/sources/statements.py", "_reason"): "a list of constants",
    ("ubp_sql/install/run.py", "_run"): "a step's SQL, which `migrate plan` shows to the DBA before it runs",
}
# Functions of other files that hand a query on: name to the positions of what must be constant.
HELPERS = {"run": {2}, "single": {2}, "one": {1}, "rows": {1}, "query_origin": {2}}
METHODS = ("execute", "executemany", "prepare", "cursor", "copy")
SPEAKS_SQL = ("plpy", "psycopg", "ubp_sql.install.state", "ubp_sql.api.session")
COMPOSED = ("sql.SQL", "sql.Composed", "sql.SQL | sql.Composed", "sql.Composable", "sql.Identifier", "sql.Literal")


class _File(ast.NodeVisitor):
    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree
        self.found: list[str] = []
        self.approved: set[tuple[str, str]] = set()
        self.functions: list[ast.FunctionDef] = []
        self.constants = set(_bound(tree.body))
        self.helpers = {name: set(places) for name, places in HELPERS.items()}
        before = -1
        while before != (before := sum(map(len, self.helpers.values()))):  # one that hands on to one found before
            self.found = []
            self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self.functions[-1].name if self.functions else "module"
        for query in self._queries(node):
            if self._constant(query):
                continue
            if (self.name, function) in APPROVED:
                self.approved.add((self.name, function))
                continue
            handed = self._parameter(query)
            if handed is None:
                text = ast.unparse(query)[:80]
                self.found.append(f"{self.name}:{node.lineno}: SQL in {function} is made at run time: {text}")
            else:
                self.helpers.setdefault(function, set()).add(handed)

    def _queries(self, node: ast.Call) -> list[ast.expr]:
        """The arguments of a call that are queries, or that psycopg.sql takes as such."""
        match node.func:
            case ast.Attribute(value=ast.Name(id="sql"), attr="SQL"):
                return node.args[:1]
            case ast.Attribute(attr=attribute, value=receiver) if attribute in METHODS:
                prepared = isinstance(receiver, ast.Name) and receiver.id == "plan"  # takes the list of values
                return [] if prepared else node.args[:1]
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in self.helpers:
                return [a for place, a in enumerate(node.args) if place in self.helpers[name]]
        return []

    def _parameter(self, query: ast.expr) -> int | None:
        """Position of the enclosing function's own parameter, counted as callers do, if that is what the query is."""
        if not isinstance(query, ast.Name) or not self.functions:
            return None
        names = [a.arg for a in self.functions[-1].args.args if a.arg not in ("self", "cls")]
        return names.index(query.id) if query.id in names else None

    def _constant(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return self._constant_name(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return attribute.isupper() and name in self.constants
            case ast.JoinedStr(values=values):
                return all(self._constant(v.value) for v in values if isinstance(v, ast.FormattedValue))
            case ast.BinOp(left=left, right=right, op=ast.Add()):
                return self._constant(left) and self._constant(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self._constant(body) and self._constant(orelse)
            case ast.Tuple(elts=elements):
                return all(map(self._constant, elements))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="sql"), attr="SQL")):
                return True  # its argument is looked at on its own
            case ast.Call(func=ast.Attribute(value=ast.Name(id="sql"), attr="Identifier" | "Literal" | "Composed")):
                return True
            case ast.Call(func=ast.Attribute(value=value, attr=attribute), args=arguments, keywords=keywords):
                if _composed(value):
                    return True
                parts = [value, *arguments, *(keyword.value for keyword in keywords)]
                return attribute in ("format", "replace", "encode", "strip") and all(map(self._constant, parts))
            case _:
                return False

    def _constant_name(self, name: str) -> bool:
        """A module-level name that no enclosing function binds anew, or a local one that only ever is a constant."""
        for function in reversed(self.functions):
            arguments = function.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if argument.arg == name:
                    return argument.annotation is not None and ast.unparse(argument.annotation) in COMPOSED
            values = list(_assigned(function, name))
            if values:
                return all(value is not None and self._constant(value) for value in values)
        return name in self.constants


def _composed(node: ast.expr) -> bool:
    """What begins with sql.SQL(...): psycopg.sql quotes all that is put into it."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if ast.unparse(node.func) == "sql.SQL":
            return True
        node = node.func.value
    return False


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Assign(targets=targets):
                yield from (t.id for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)


def _assigned(function: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """What a function binds to a name; None for what cannot be followed."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        yield value
                    elif isinstance(target, ast.Tuple) and name in [
                        e.id for e in target.elts if isinstance(e, ast.Name)
                    ]:
                        yield None
            case ast.AnnAssign(target=ast.Name(id=found)) | ast.AugAssign(target=ast.Name(id=found)) if found == name:
                yield node.value if isinstance(node, ast.AnnAssign) else None
            case ast.NamedExpr(target=ast.Name(id=found), value=value) if found == name:
                yield value
            case ast.For(target=target, iter=values) | ast.comprehension(target=target, iter=values):
                if name in _names(target):
                    yield values if isinstance(target, ast.Name) and isinstance(values, ast.Tuple) else None
            case ast.withitem(optional_vars=ast.expr() as target) if name in _names(target):
                yield None


def _names(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def of_text(name: str, text: str) -> list[str]:
    """Breaches of one file."""
    return _File(name, ast.parse(text)).found


def breaches(root: Path) -> list[str]:
    """Every query in ubp_sql that is neither constant, nor composed by psycopg.sql, nor approved; idle approvals."""
    found, used = [], set()
    for path in sorted((root / "ubp_sql").rglob("*.py")):
        name, text = path.relative_to(root).as_posix(), path.read_text()
        if any(word in text for word in SPEAKS_SQL):
            file = _File(name, ast.parse(text))
            found += file.found
            used |= file.approved
    return found + [f"{name}: {function} is approved without need" for name, function in APPROVED.keys() - used]
