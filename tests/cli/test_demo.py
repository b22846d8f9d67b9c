"""`ubp-sql demo`: from nothing to predictions in one command, twice."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import refusal
from ubp_sql.embedded import Cluster

# Fewer people or days, and the trainer finds nothing to split on.
SMALL = ("--users", "800", "--days", "170", "--seed", "3")
Both = tuple["subprocess.CompletedProcess[str]", "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="ubp-test-"))
    base.chmod(0o711)
    try:
        yield base / "demo"
    finally:
        Cluster(base / "demo").remove()
        shutil.rmtree(base, ignore_errors=True)


def demo(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own with one thread for the trainer, which waits long for a second core that is busy."""
    program = [str(Path(sys.executable).parent / "ubp-sql"), "demo", *SMALL, "--dir", str(directory), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def both(directory: Path) -> Both:
    """The same demo for people and, in the cluster that stayed up, for machines."""
    return demo(directory), demo(directory, "--json")


def test_for_machines(both: Both) -> None:
    result = both[1]
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    loaded = found["loaded"]
    assert loaded["loaded"] + loaded["rejected"] + loaded["already"] == loaded["read"] > 5_000
    assert found["features"]["feature_count"] >= 40
    assert found["features"]["users"] == found["scored"]["users"] <= 800
    (tested,) = found["tests"]
    assert tested["n"] > 100
    assert set(tested["metrics"]) == {"auc", "pr_auc", "log_loss", "brier", "calibration_error", "lift_10"}
    assert 0.5 < tested["metrics"]["auc"] <= 1
    assert 0.5 < found["true_auc"] <= 1
    assert len(found["best"]) == 10
    scores = [candidate["score"] for candidate in found["best"]]
    assert scores == sorted(scores, reverse=True)
    assert all(len(candidate["reasons"]) == 3 for candidate in found["best"])
    assert set(found["seconds"]) == {"cluster", "simulate", "install", "load", "features", "train", "score", "explain"}
    with psycopg.connect(found["dsn"]) as conn:  # it stays up, and answers
        best = found["best"][0]
        assert conn.execute("select ubp.predict_purchase(%s)", [best["user_id"]]).fetchone() == (best["score"],)
        assert conn.execute("select count(*) > 0 from ubp.feature_importance where typical is not null").fetchone() == (
            True,
        )


def test_for_people(both: Both, directory: Path) -> None:
    result = both[0]
    assert result.returncode == 0, result.stderr
    shown, found = result.stdout, json.loads(both[1].stdout)
    assert f"{found['loaded']['read']:,} rows read" in shown
    for title in (
        "AUC",
        "PR AUC",
        "log loss",
        "Brier score",
        "calibration error",
        "lift in the top 10 %",
        "the ceiling",
    ):
        assert title in shown
    assert f"{found['tests'][0]['metrics']['auc']:.4f}" in shown  # same seed, same numbers
    assert f"{found['true_auc']:.4f}" in shown
    assert all(str(candidate["user_id"]) in shown for candidate in found["best"])
    lines = [line.strip() for line in shown.splitlines()]
    queries = [line for line in lines if line.startswith("select ")]
    assert len(queries) == 3
    with psycopg.connect(found["dsn"]) as conn:
        for query in queries:
            assert conn.execute(query.encode()).fetchone() is not None
    assert f'psql "{found["dsn"]}"' in lines
    assert any(line.endswith(f"embedded stop --dir {directory}") for line in lines)
    assert lines[-1].startswith("Done in ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("code", "sqlstate", "arguments"),
    [
        (3, "UB012", ["--data", "missing.csv"]),
        (2, "UB008", ["--data", "strange.csv"]),
        (2, "UB008", ["--data", "strange.csv", "--map", "missing.yaml"]),
        (2, "UB003", ["--users", "0"]),
        (2, "UB003", ["--days", "7"]),
    ],
)
def test_refusals(
    both: Both, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    code: int, sqlstate: str, arguments: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("strange.csv").write_text("a,b\n1,2\n")
    assert refusal("demo", *arguments, "--dir", directory)[:2] == (code, sqlstate)
    with psycopg.connect(json.loads(both[1].stdout)["dsn"]) as conn:  # the last demo is still there
        assert conn.execute("select count(*) from ubp.user_scores where score is not null").fetchone() != (0,)
