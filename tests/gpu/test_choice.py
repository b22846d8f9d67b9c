"""Work goes to the faster side by figures of this machine, and to the CPU without any."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ubp_sql.kernels import gpu
from ubp_sql.worker import calibrate, choice
from ubp_sql.worker.choice import Figures, Machine

pytestmark = [
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
HERE = Machine("card", "cpu", "1", "driver 1")


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([(1, 1.0, 2.0), (10, 2.0, 1.0), (100, 9.0, 1.0)], 10),
        ([(1, 1.0, 0.5), (10, 2.0, 3.0), (100, 9.0, 1.0)], 100),
        ([(1, 2.0, 1.0), (10, 2.0, 1.0)], 1),
        ([(1, 1.0, 2.0), (10, 2.0, 2.0)], None),
        ([(1, 1.0, 2.0), (10, 2.0, 1.9)], None),
        ([], None),
    ],
)
def test_break_even(seconds: list[tuple[int, float, float]], wanted: int | None) -> None:
    assert Figures(HERE, {"pairs": seconds}).break_even("pairs") == wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([(10, 3.0, 2.0), (100, 9.0, 4.0)], 75.0),
        ([(10, 1.0, 2.0), (100, 9.0, 4.0)], 75.0),
        ([(10, 1.0, 1.0)], math.inf),
    ],
)
def test_what_it_takes_to_begin_is_repaid(seconds: list[tuple[int, float, float]], wanted: float) -> None:
    """The GPU, taken as 1.25 times as slow, saves .04 s of an event in parts of 100, .05 in parts of 10."""
    assert Figures(HERE, {"pairs": seconds}, 3.0).repaid("pairs") == pytest.approx(wanted)


def test_what_a_process_does_to_begin_on_the_card_is_done_there() -> None:
    for device, wanted in (("gpu", True), ("", False)):
        code = f"{calibrate.BEGIN}; print('ubp_sql.kernels._gpu_pairs' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code, device], capture_output=True, text=True, check=True)
        assert done.stdout == f"{wanted}\n"


def test_without_figures_it_is_the_cpu() -> None:
    assert choice.here()(1 << 40, 1 << 40) is None


def test_calibrate_keeps_what_it_measured_and_nothing_slower_is_chosen() -> None:
    said: list[str] = []
    figures = calibrate.calibrate(said.append, {"pairs": (100, 200), "rows": (10, 20)})
    assert len(said) == 5
    assert figures.start >= 0
    assert choice.kept() == figures
    for size, cpu, seconds in figures.measured["pairs"]:
        if choice.here()(size, size) == "gpu":
            assert seconds < cpu


def kept(**changes: str) -> None:
    machine = choice.this_machine()
    written = {**vars(machine), **changes}
    choice.path().parent.mkdir(parents=True, exist_ok=True)
    choice.path().write_text(json.dumps({"machine": written, "measured": {"pairs": [[10, 2.0, 1.0]]}, "start": 1.0}))


def test_figures_choose_by_size() -> None:
    kept()
    assert [choice.here()(size, size) for size in (9, 10, 11)] == [None, "gpu", "gpu"]


@pytest.mark.parametrize(
    "changes", [{"card": "another"}, {"cpu": "another"}, {"version": "another"}, {"software": "driver 2"}]
)
def test_figures_of_another_machine_count_for_nothing(changes: dict[str, str]) -> None:
    kept(**changes)
    assert choice.here()(1 << 40, 1 << 40) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"machine": {}, "measured": {}}',
        '{"machine": 3}',
        '{"machine": {"card": 1, "cpu": 2, "version": 3}, "measured": {}}',
        '{"machine": {"card": 1, "cpu": 2, "version": 3, "software": 4}, "measured": []}',
    ],
)
def test_a_broken_file_counts_for_nothing(text: str) -> None:
    choice.path().parent.mkdir(parents=True, exist_ok=True)
    choice.path().write_text(text)
    assert choice.here()(1 << 40, 1 << 40) is None
