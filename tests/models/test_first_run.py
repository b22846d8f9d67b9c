"""The first run of a network: what is let through, and what ends in a verdict instead of a dead server."""

import resource
import subprocess
import sys

import pytest

from tests.models.onnx_makers import NETWORKS, F, Maker, mlp
from ubp_sql.errors import InstallError
from ubp_sql.models import first_run as child
from ubp_sql.models.onnx_compiled import compile_network, network_of
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.training import first_run as parent

NAMES = tuple(f"f{j}" for j in range(F))


def compiled(data: bytes) -> bytes:
    return compile_network(network_of(read_graph(data), NAMES)[0])


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_a_good_one_is_ready(kind: str) -> None:
    report = parent.first_run(compiled(NETWORKS[kind]))
    assert report["ready"]
    assert 0 < report["seconds_per_row_together"] < 0.05
    assert 0 < report["seconds_per_row"] < 0.05
    assert 0 < report["peak_bytes"] < 200e6
    assert report["no_score_if_missing"] == (kind == "mlp"), "ONNX Runtime's LSTM turns NaN into a number"
    assert report["same_alone"] is True
    assert report["runtime"].startswith("onnxruntime 1.")


def neighbours() -> bytes:
    """The mean of all rows is taken off: a row's score depends on who stands beside it."""
    m = Maker()
    mean = m.add("ReduceMean", "x", axes=[0], keepdims=1)
    return m.bytes(m.dense(m.add("Sub", "x", mean), F, 1))


def nothing() -> bytes:
    m = Maker()
    return m.bytes(m.add("Log", m.add("Neg", m.add("Abs", m.dense("x", F, 1)))))


def unknown_to_onnx_runtime() -> bytes:
    m = Maker()
    return m.bytes(m.add("Relu", m.dense("x", F, 1), nonsense=1))


def out_of_bounds() -> bytes:
    """A feature as an index into a table of three: a row may well ask for the fourth."""
    m = Maker()
    which = m.add("Cast", m.add("Slice", "x", m.whole(0), m.whole(1), m.whole(1)), to=7)
    return m.bytes(m.add("Reshape", m.add("Gather", m.draw(3), which), m.whole(-1, 1)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (neighbours(), "a row's score depends on the rows beside it"),
        (nothing(), "it gives no number for ordinary features"),
        (unknown_to_onnx_runtime(), "ONNX Runtime refuses the graph"),
        (out_of_bounds(), "ONNX Runtime failed on these features"),
    ],
)
def test_a_bad_one_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    report = parent.first_run(compiled(data))
    assert (report["ready"], reason in report["reason"]) == (False, True), report


DEATHS = {
    "import os; os.kill(os.getpid(), 11)": "the first run was ended by SIGSEGV",
    "import os; os.kill(os.getpid(), 24)": "the first run took more than 60 s of processor time",
    "raise ValueError('of its own')": "the first run failed: ValueError: of its own",
    "print('no document')": "the first run failed: nothing was said",
}


@pytest.mark.parametrize("code", DEATHS)
def test_a_process_that_dies_is_a_verdict(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **more: run([sys.executable, "-c", code], **more))
    assert parent.first_run(b"") == {"ready": False, "reason": DEATHS[code]}


def test_a_process_that_hangs_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "WALL_SECONDS", 0.001)
    assert parent.first_run(compiled(mlp()))["reason"] == "the first run took more than 0.001 s"


def test_no_package_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    run, code = subprocess.run, f"import sys; sys.exit({child.MISSING_PACKAGE})"
    monkeypatch.setattr(subprocess, "run", lambda command, **more: run([sys.executable, "-c", code], **more))
    with pytest.raises(InstallError, match="not installed here"):
        parent.first_run(b"")


LIMITED = """
import resource, sys
from ubp_sql.models import first_run
first_run.ADDRESS_SPACE = 100 * 2**20
sys.exit(first_run.main())
"""


def test_too_much_memory_is_a_verdict() -> None:
    """A library that cannot even be loaded in the space given."""
    done = subprocess.run([sys.executable, "-c", LIMITED], input=compiled(mlp()), capture_output=True)
    assert done.returncode != 0 or b'"ready": false' in done.stdout


def test_peak_and_time_are_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(child, "MAX_PEAK_BYTES", -1)
        with pytest.raises(child.Refused, match="MB, at most"):
            child.run(compiled(mlp()))
    monkeypatch.setattr(child, "MAX_ROW_SECONDS", 0.0)
    with pytest.raises(child.Refused, match="a row takes"):
        child.run(compiled(mlp()))
