"""What the benches are made of: the log, the rounds, the memory watch, the page."""

import os

import numpy as np
import pytest

from bench import event_log, memory, picture, report
from bench.rounds import Timing, rounds


def test_a_log_is_sorted_without_ties_within_its_time_and_repeats_with_its_seed() -> None:
    log = event_log.make(2_000, 50, 1)
    assert len(log) == 2_000
    assert sorted(set(log.user.tolist())) == list(range(1, 51))
    same = log.user[1:] == log.user[:-1]
    assert (np.diff(log.user) >= 0).all()
    assert (np.diff(log.t_us)[same] > 0).all()
    assert event_log.BEGIN_US <= log.t_us.min() <= log.t_us.max() < event_log.END_US
    assert (np.isnan(log.value) == (log.kind == event_log.KINDS.index("view"))).all()
    again, other = event_log.make(2_000, 50, 1), event_log.make(2_000, 50, 2)
    assert (again.t_us == log.t_us).all()
    assert (other.t_us != log.t_us).any()


def test_rounds_run_every_method_first_and_then_once_a_round() -> None:
    calls: list[str] = []

    def method(name: str, seconds: float) -> float:
        calls.append(name)
        return seconds

    found = rounds({"a": lambda: method("a", 2.0), "b": lambda: method("b", 1.0)}, 3)
    assert calls[:2] == ["a", "b"]
    assert sorted(calls[2:]) == ["a"] * 3 + ["b"] * 3
    assert found["a"] == Timing(2.0, (2.0, 2.0, 2.0))
    assert found["b"].row(more=1) == {
        "first s": 1.0,
        "median s": 1.0,
        "fastest s": 1.0,
        "slowest s": 1.0,
        "rounds": 3,
        "more": 1,
    }


def test_the_peak_of_memory_is_seen() -> None:
    with memory.peak_of(os.getpid()) as peak:
        before = peak.mb
        block = np.ones(8 << 20)
        peak.look()
    assert peak.mb - before > 50
    assert len(block)


@pytest.mark.parametrize(("value", "text"), [(None, ""), (3, "3"), (1.23456, "1.2346"), (12345.67, "12,345.7")])
def test_cells_of_a_table(value: object, text: str) -> None:
    assert report.cell(value) == text


def test_a_section_tells_bars_met_and_missed() -> None:
    result = {
        "at": "2024-01-01T00:00:00+00:00",
        "commit": "abc",
        "cpu": "some",
        "rows": [{"method": "a", "s": 1.0}, {"method": "b", "more": 2}],
        "bars": {"fast": True, "small": False},
    }
    text = report.section("case", "what it is", result)
    assert "| method | s | more |" in text
    assert "| b |  | 2 |" in text
    assert "- met: fast\n- **missed**: small" in text


def test_a_picture_has_its_lines() -> None:
    text = picture.log_log("T", "x", "y", {"one": [(0.01, 1.0), (1.0, 10.0)], "two": [(0.01, 2.0), (1.0, 2.0)]})
    assert text.count("<polyline") == 2
    assert text.endswith("</svg>\n")
