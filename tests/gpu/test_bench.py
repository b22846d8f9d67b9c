"""The bench of the GPU runs from one end to the other, at a size that a simulated card can do."""

import pytest

from bench import forest, settings
from bench import gpu as case
from ubp_sql.kernels import gpu

pytestmark = [
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
METHODS = {case.CORE, case.RESIDENT, case.TRANSFER}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS", "0.00012")
    monkeypatch.setenv("ROUNDS", "1")
    monkeypatch.setenv("USERS", "6")
    monkeypatch.setattr(case, "MOMENTS", 2)
    monkeypatch.setattr(case, "BY_ONE_CORE", 0.5)
    monkeypatch.setattr(case, "SHAPE", forest.Shape(3, 4, 5))


def test_the_whole_case() -> None:
    found = case.run()
    where = {(row["work"], row["where"].rpartition(", ")[2]) for row in found["rows"]}
    assert where >= {(work, method) for work in (case.SNAPSHOT, case.POINT_IN_TIME, case.SCORES) for method in METHODS}
    assert all(found["card"] in row["where"] or row["where"] == case.CORE for row in found["rows"])
    assert len(found["bars"]) == 4 + bool(case.peak_bandwidth())


def test_other_features_or_scores_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed(Exception):
        pass

    def timed(*_: object) -> None:
        raise Timed

    monkeypatch.setattr(case, "rounds", timed)
    with pytest.raises(Timed):
        case.run()
    run_pairs, forest_raw = gpu.run_pairs, gpu.forest_raw

    def other(plan, events, pairs, scan, budget, out, anchors):  # type: ignore[no-untyped-def]
        done = run_pairs(plan, events, pairs, scan, budget, out, anchors)
        out[0, 0] += 1
        return done

    with monkeypatch.context() as patch:
        patch.setattr(gpu, "run_pairs", other)
        with pytest.raises(SystemExit, match="counts differ"):
            case.run()
    size = settings.size(case.EVENTS, case.USERS)
    monkeypatch.setattr(gpu, "forest_raw", lambda *given: forest_raw(*given) + 1e-9)
    with pytest.raises(SystemExit, match="traversal: scores differ"):
        case._scores(size, [])


def test_without_a_card_it_says_so_and_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "fault", lambda: "the card is on holiday")
    with pytest.raises(SystemExit) as ended:
        case.run()
    assert ended.value.code == 0
    assert capsys.readouterr().out == "gpu: skipped, no GPU: the card is on holiday\n"
