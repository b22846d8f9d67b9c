"""`ubp-sql embedded`: exit statuses, JSON, arguments handed to psql."""

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from tests.embedded.conftest import MakeCluster
from ubp_sql.cli.embedded import NOT_RUNNING, app
from ubp_sql.embedded import Cluster
from ubp_sql.errors import ClusterError

RUN = [sys.executable, "-c", "from ubp_sql.cli.embedded import app; app()"]


def test_start_status_stop(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    where = ["--dir", str(cluster.directory)]
    run = CliRunner().invoke
    assert run(app, ["status", *where]).exit_code == NOT_RUNNING
    cluster.start()
    started = run(app, ["start", *where, "--json"])
    assert started.exit_code == 0
    found = run(app, ["status", *where, "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["dsn"] == json.loads(started.stdout)["dsn"] == cluster.dsn()
    shown = run(app, ["status", *where])
    assert cluster.dsn() in shown.stdout
    assert run(app, ["stop", *where]).exit_code == 0
    stopped = run(app, ["status", *where, "--json"])
    assert stopped.exit_code == NOT_RUNNING
    assert json.loads(stopped.stdout)["state"] == "stopped"


def test_psql_takes_its_own_arguments(cluster: Cluster) -> None:
    query = ["-XAt", "-c", "select current_database()", "-v", "x=1"]
    argv = [*RUN, "psql", "--dir", str(cluster.directory), *query]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, "ubp"), answer.stderr


def test_an_error_is_one_line_with_its_code_and_a_hint(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    result = CliRunner().invoke(app, ["start", "--dir", str(tmp_path)])
    assert result.exit_code == ClusterError.exit_code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert "UB013" in lines[0]
    assert lines[1].startswith("hint: ")


def test_a_brackets_name_is_shown_as_it_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--dir", str(tmp_path / "[bold]x")])
    assert result.exit_code == NOT_RUNNING
    assert "absent" in result.stdout
