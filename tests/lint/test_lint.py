"""The rules hold in this checkout, and each of them sees what breaks it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lint import functions, imports, machine_paths, spots, sql_arguments
from tests.lint.__main__ import RULES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(RULES))
def test_this_checkout_keeps_the_rule(name: str) -> None:
    assert RULES[name](ROOT) == []


SERVER = "def f(plpy, memory, name):\n    {}\n"
CLIENT = "from psycopg import sql\nQ = 'select 1'\ndef f(conn, name):\n    {}\n"


@pytest.mark.parametrize(
    "code",
    [
        "plpy.execute(f'select {name}')",
        "plpy.execute('select ' + name)",
        "plpy.execute('select %s' % name)",
        "plpy.execute('select {}'.format(name))",
        "plpy.prepare(' '.join([name]), [])",
        "plpy.cursor(memory[name])",
        "query = f'select {name}'\n    plpy.execute(query)",
        "query = 'select 1'\n    query += name\n    plpy.execute(query)",
        "for query in [name]:\n        plpy.execute(query)",
        "if (query := name + '1'):\n        plpy.execute(query)",
        "run(plpy, memory, f'select {name}', [], [])",
        "single(plpy, memory, name + '1', [], [])",
    ],
)
def test_sql_made_in_the_server(code: str) -> None:
    assert sql_arguments.of_text("ubp_sql/api/x.py", SERVER.format(code))


@pytest.mark.parametrize(
    "code",
    [
        "conn.execute(f'select {name}')",
        "conn.execute(f'select {name}'.encode())",
        "conn.execute(sql.SQL('select ' + name))",
        "conn.execute(sql.SQL(f'select {name}').format())",
        "conn.cursor().copy('copy ' + name + ' from stdin')",
        "one(conn, f'select {name}')",
    ],
)
def test_sql_made_on_the_client(code: str) -> None:
    assert sql_arguments.of_text("ubp_sql/install/x.py", CLIENT.format(code))


def test_sql_handed_on_is_followed_to_the_caller() -> None:
    text = "def a(conn, q):\n    conn.execute(q)\ndef b(conn, q):\n    a(conn, q)\ndef c(conn, x):\n    b(conn, {})\n"
    assert sql_arguments.of_text("ubp_sql/install/x.py", text.format("'select 1'")) == []
    [found] = sql_arguments.of_text("ubp_sql/install/x.py", text.format("f'select {x}'"))
    assert "x.py:6: SQL in c" in found


@pytest.mark.parametrize(
    "code",
    [
        "conn.execute('select 1')",
        "conn.execute(Q, [name])",
        "conn.execute(f'{Q} where true')",
        "conn.execute(sql.SQL('select {}').format(sql.Identifier(name)))",
        "q = sql.SQL('select 1')\n    conn.execute(q)",
        "for q in (Q, 'select 2'):\n        conn.execute(q)",
    ],
)
def test_constant_sql_is_allowed(code: str) -> None:
    assert sql_arguments.of_text("ubp_sql/install/x.py", CLIENT.format(code)) == []


def test_an_idle_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sql_arguments.APPROVED, ("ubp_sql/api/gone.py", "gone"), "no reason")
    assert sql_arguments.breaches(ROOT) == ["ubp_sql/api/gone.py: gone is approved without need"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package to break."""
    shutil.copytree(ROOT / "ubp_sql", tmp_path / "ubp_sql", ignore=shutil.ignore_patterns("__pycache__", "_native"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "what"),
    [
        ("kernels/x.py", "import ubp_sql.models.blob", "kernels imports models"),
        ("kernels/x.py", "def f():\n    from ubp_sql import features", "kernels imports features"),
        ("models/x.py", "from ubp_sql.api import session", "models imports api"),
        ("features/x.py", "import importlib\nimportlib.import_module('ubp_sql.api.live')", "features imports api"),
        ("api/x.py", "from ubp_sql.install.state import one", "api imports install"),
        ("api/x.py", "import psycopg", "api imports psycopg"),
        ("schema/x.py", "import psycopg", "schema imports psycopg"),
        ("kernels/x.py", "import cupy", "kernels imports cupy"),
        ("worker/x.py", "import importlib\nimportlib.import_module('cupy')", "worker imports cupy"),
        ("kernels/gpu.py", "def f():\n    from cupyx import empty_pinned", "kernels imports cupyx"),
        ("kernels/dispatch.py", "def f():\n    from numba import cuda", "kernels imports numba.cuda"),
        ("features/x.py", "import importlib\nimportlib.import_module('numba.cuda')", "features imports numba.cuda"),
        ("training/x.py", "import numba_cuda", "training imports numba_cuda"),
        ("features/x.py", "from ubp_sql.worker import refresh", "features imports worker"),
        ("worker/x.py", "from ubp_sql.cli import shared", "worker imports cli"),
        ("models/x.py", "import lightgbm", "models imports lightgbm"),
        ("cli/x.py", "def f():\n    import matplotlib", "cli imports matplotlib"),
        ("api/x.py", "import jinja2", "api imports jinja2"),
        ("install/x.py", "from ubp_sql.cli import shared", "install imports cli"),
        ("errors.py", "import ubp_sql.models", "errors imports models"),
        ("models/x.py", "def f(plpy): plpy.execute('select 1')", "only api sees plpy"),
        ("models/x.py", "from . import blob", "relative import"),
        ("models/walker.py", "import numpy", "importing it loads numpy"),
    ],
)
def test_imports_the_wrong_way(package: Path, file: str, line: str, what: str) -> None:
    path = package / "ubp_sql" / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    found = imports.breaches(package)
    assert found
    assert all(what in breach for breach in found), found


def test_imports_for_type_checkers_are_free(package: Path) -> None:
    (package / "ubp_sql/api/x.py").write_text("TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import psycopg\n")
    assert imports.breaches(package) == []


GOOD = (ROOT / "udfs" / "010_version.sql").read_text()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("set search_path = pg_catalog, pg_temp\nas", "as", "search_path"),
        ("set search_path = pg_catalog, pg_temp\nas", "set search_path = pg_catalog, public\nas", "search_path"),
        ("revoke all on function ubp.version() from public;", "", "not revoked from public"),
        ("alter function ubp.version() owner to ubp_reader;", "", "owner None"),
        ("version() owner to ubp_reader;", "version() owner to postgres;", "owner postgres"),
        ("version() to ubp_analyst", "version() to public, ubp_analyst", "granted to public"),
        ("comment on function ubp.version()", "comment on function ubp.versoin()", "no comment"),
        ("grant execute on function ubp.version()", "grant execute on function ubp.versoin()", "no grant"),
        ("parallel unsafe cost 100 ", "parallel safe cost 100 ", "parallel safe"),
        ("parallel unsafe cost 100 ", "parallel restricted cost 100 ", "parallel restricted"),
        ("parallel unsafe cost 100 ", "cost 100 ", "parallel is not stated"),
        ("plpython3u stable ", "plpython3u ", "volatility is not stated"),
        ("create or replace function ubp.version", "create function ubp.version", "not create or replace"),
        ("return api.version(plpy, SD)", "x = 1\ny = 2\nreturn api.version(plpy, SD)", "longer than 3 lines"),
        ("return api.version(plpy, SD)", "return plpy.execute('select 1')", "its body is not"),
        ("return api.version(plpy, SD)", "return api.nothing(plpy, SD)", "not in api.__all__"),
        ("return api.version(plpy, SD)", "return api.version(plpy, SD, task)", "hands on (task), takes ()"),
        ("join ubp.user_members m on", "join user_members m on", "user_members is named"),
        ("-- What is installed", "drop table ubp.events;\n-- What is installed", "DropStmt belongs into a migration"),
    ],
)  # fmt: skip
def test_function_files(old: str, new: str, what: str) -> None:
    assert list(functions.of_text("f", GOOD)) == []
    assert GOOD.count(old) == 1
    found = list(functions.of_text("f", GOOD.replace(old, new)))
    assert any(what in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("owner to ubp_owner", "owner to ubp_reader", "owner ubp_reader"),
        ("comment on view ubp.tasks is", "comment on view ubp.tsks is", "no comment"),
        ("create or replace view ubp.tasks", "create view ubp.tasks", "not create or replace"),
        ("from ubp.task_definitions t", "from task_definitions t", "task_definitions is named without its schema"),
        (
            "grant select on ubp.tasks to ubp_analyst",
            "grant select on ubp.tasks to public, ubp_analyst",
            "granted to public",
        ),
    ],
)
def test_view_files(old: str, new: str, what: str) -> None:
    text = (ROOT / "udfs" / "020_views.sql").read_text()
    assert old in text
    found = list(functions.of_text("f", text.replace(old, new)))
    assert any(what in line for line in found), found


def test_one_function_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "udfs").mkdir()
    for name in ("010_version.sql", "011_again.sql", "zzz.sql"):
        (tmp_path / "udfs" / name).write_text(GOOD)
    found = functions.breaches(tmp_path)
    assert any("ubp.version() is in udfs/010_version.sql too" in line for line in found)
    assert any("zzz.sql: not named NNN_topic.sql" in line for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "create function ubp.f() returns integer language plpgsql security definer as $$ begin return 1; end $$;",
        "create table if not exists public.x (a integer);",
        "set search_path = public; select lower('x');",
        "create function ubp.f() returns void language plpgsql set search_path = public"
        " as $$ begin perform g(); end $$;",
    ],
)
def test_pgspot(text: str) -> None:
    assert spots.of_text("f", text)


def test_machine_paths(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("when root runs it below /root\n")
    fine = (
        "'/var/lib/postgresql', '/usr/bin/python3', a/root/b, ~/root, '/tmp', 'https://x.org/a/b', 1/n/2, '/path/to/x'"
    )
    (tmp_path / "fine.py").write_text(f"{fine}\n")
    assert machine_paths.breaches(tmp_path) == []
    home = "/".join(["", "home", "somebody", "x"])
    checkout = "/".join(["", "builds", "project", "a.csv"])
    for place in (home, checkout, "/root", "/root/x"):
        (tmp_path / "bad.py").write_text(f"x = 1\npath = '{place}'\n")
        [found] = machine_paths.breaches(tmp_path)
        assert found == f"bad.py:2: names {place}"


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.lint.__main__ import main

    monkeypatch.setitem(RULES, "SQL is constant", lambda root: ["f.py:1: wrong"])
    for name in list(RULES)[1:]:
        monkeypatch.setitem(RULES, name, lambda root: [])
    assert main() == 1
    assert "f.py:1: wrong   [SQL is constant]" in capsys.readouterr().out
