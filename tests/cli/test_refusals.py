"""Bad input of every kind: one line of cause with a code, one line with a way out, an exit code of its kind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import refusal
from tests.fix_database import Database, clone, create, drop
from ubp_sql.embedded import Cluster

JOBS = (
    ("refresh",),
    ("score", "purchase"),
    ("train", "purchase"),
    ("model", "list"),
    ("model", "deploy", "purchase"),
    ("model", "rollback", "purchase"),
    ("model", "export", "purchase", "1", "--out", "never_written.txt"),
    ("load", "events.csv", "--map", "online_retail"),
)
STRANGER = "cli_stranger"


@pytest.fixture(scope="module")
def stranger(cluster: Cluster) -> Iterator[str]:
    """A login role without any right of ours."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
        conn.execute(f"create role {STRANGER} login".encode())
        yield STRANGER
        conn.execute(f"drop role {STRANGER}".encode())


@pytest.fixture(scope="module")
def untouched(cluster: Cluster) -> Iterator[Database]:
    """A database in which nothing is installed. Read only."""
    made = create(cluster, "template0")
    yield made
    drop(made)


@pytest.fixture(scope="module")
def bare(cluster: Cluster, installed: str) -> Iterator[Database]:
    """An installed database without events. Read only."""
    with clone(cluster, installed) as made:
        yield made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    )


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_no_server(job: tuple[str, ...], tmp_path: Path) -> None:
    code, sqlstate, text = refusal(*job, "--dsn", f"host={tmp_path} port=5 connect_timeout=2")
    assert (code, sqlstate) == (6, "UB011")
    assert "cannot connect" in text


@pytest.mark.parametrize("dsn", ["nonsense", "host=x frob=1", "postgresql://[::1", "host='x"])
@pytest.mark.parametrize(
    "job", [JOBS[0], JOBS[-1], ("migrate", "status"), ("uninstall", "--plan"), ("init",)], ids=" ".join
)
def test_no_connection_string(job: tuple[str, ...], dsn: str) -> None:
    assert refusal(*job, "--dsn", dsn)[:2] == (2, "UB003")


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_not_installed(untouched: Database, job: tuple[str, ...]) -> None:
    code, _, text = refusal(*job, "--dsn", untouched.dsn)
    assert code in (4, 6)
    assert "ubp-sql init" in text
    assert not Path("never_written.txt").exists()


@pytest.mark.parametrize("job", [*JOBS, ("init",), ("migrate", "apply"), ("uninstall", "--plan")], ids=" ".join)
def test_no_rights(bare: Database, stranger: str, job: tuple[str, ...]) -> None:
    code, sqlstate, text = refusal(*job, "--dsn", f"{bare.dsn} user={stranger}")
    assert code == 6
    assert sqlstate in ("42501", "UB011")
    assert "hint: " in text
    assert not Path("never_written.txt").exists()


DATED = "--test-cut"
WRONG = [
    ("bare", 4, "UB005", ["refresh"]),
    ("bare", 4, "UB005", ["train", "purchase"]),
    ("bare", 2, "UB001", ["score", "purchase"]),
    ("bare", 2, "UB001", ["model", "deploy", "purchase"]),
    ("bare", 2, "UB001", ["model", "rollback", "purchase"]),
    ("shop", 2, "UB001", ["score", "churn"]),
    ("shop", 2, "UB001", ["model", "deploy", "churn"]),
    ("shop", 4, "UB004", ["model", "deploy", "purchase", "9"]),
    ("shop", 4, "UB004", ["model", "rollback", "purchase"]),
    ("shop", 4, "UB004", ["model", "export", "purchase", "9", "--out", "never_written.txt"]),
    ("shop", 4, "UB004", ["model", "export", "churn", "1", "--out", "never_written.txt"]),
    ("shop", 2, "UB003", ["model", "export", "purchase", "1", "--out", "no/such/folder/model.txt"]),
    ("shop", 2, "UB003", ["refresh", "--as-of", "yesterday"]),
    ("shop", 2, "UB003", ["refresh", "--as-of", "2011-13-45"]),
    ("shop", 2, "UB003", ["refresh", "--as-of", "infinity"]),
    ("shop", 2, "UB003", ["refresh", "--as-of", ""]),
    ("shop", 4, "UB005", ["refresh", "--as-of", "2000-01-01"]),
    ("shop", 4, "UB005", ["refresh", "--feature-set", "none such"]),
    ("shop", 2, "UB003", ["train", "purchase", DATED, "soon"]),
    ("shop", 4, "UB014", ["train", "purchase", DATED, "1990-01-01"]),
    ("shop", 4, "UB014", ["train", "purchase", DATED, "2025-07-15"]),
    ("shop", 2, "UB003", ["train", "purchase", "--horizon-days", "0"]),
    ("shop", 2, "UB003", ["train", "purchase", "--horizon-days", "-3"]),
    ("shop", 2, "UB003", ["train", "purchase", "--horizon-days", "999999999999"]),
    ("shop", 2, "UB003", ["train", "Bad name", "--label-kind", "view"]),
    ("shop", 2, "UB003", ["train", "churn"]),
    ("shop", 2, "UB003", ["train", "churn", "--label-kind", "no kind"]),
    ("shop", 2, "UB003", ["train", "churn", "--label-kind", "view", "--population-kind", "no kind"]),
    ("shop", 4, "UB005", ["train", "churn", "--label-kind", "view", "--feature-set", "none such"]),
    ("shop", 2, "UB003", ["train", "purchase", "--label-kind", "view"]),
    ("shop", 2, "UB003", ["train", "purchase", "--horizon-days", "7"]),
    ("shop", 2, "UB003", ["migrate", "downgrade", "0999"]),
    ("shop", 2, "UB003", ["migrate", "sql", "--out", "events.csv/scripts"]),
    ("shop", 2, "UB003", ["uninstall"]),
    ("shop", 2, "UB003", ["load", "events.csv", "--map", "online_retail", "--ingested", "later"]),
    ("shop", 3, "UB012", ["load", "missing.csv", "--map", "online_retail"]),
    ("shop", 2, "UB008", ["load", "events.csv", "--map", "missing.yaml"]),
]


@pytest.mark.parametrize(
    ("where", "code", "sqlstate", "command"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_wrong(bare: Database, shop: Database, where: str, code: int, sqlstate: str, command: list[str]) -> None:
    database = shop if where == "shop" else bare
    kept = """
        select count(*) + (select count(*) from ubp.models) + (select count(*) from ubp.task_definitions)
          from ubp.feature_rows"""
    before = database.one(kept)
    assert refusal(*command, "--dsn", database.dsn)[:2] == (code, sqlstate)
    assert not Path("never_written.txt").exists()
    assert database.one(kept) == before


@pytest.mark.parametrize(
    ("change", "sqlstate", "code"),
    [
        ("update ubp.installation set package_version = '9.9.9'", "UB010", 5),
        ("update ubp.feature_sets set hash = 'x'", "UB002", 5),
        ("update ubp.deployments set retired_at = now()", "UB004", 4),
    ],
)
def test_a_database_that_does_not_fit(shop_copy: Database, change: str, sqlstate: str, code: int) -> None:
    shop_copy.execute(change)
    assert refusal("score", "purchase", "--dsn", shop_copy.dsn)[:2] == (code, sqlstate)


def test_the_installed_program(tmp_path: Path) -> None:
    """The console script itself: exit code, both lines on stderr, no traceback; PG* variables count."""
    program = Path(sys.executable).parent / "ubp-sql"
    environment = os.environ | {"PGHOST": str(tmp_path), "PGPORT": "5", "NO_COLOR": "1"}
    done = subprocess.run([program, "refresh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stdout == ""
    first, second = done.stderr.strip().splitlines()
    assert first.startswith("error UB011: cannot connect: ")
    assert str(tmp_path) in first
    assert second.startswith("hint: ")
