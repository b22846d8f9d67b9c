"""`refresh`, `train`, `training-set` and `bench` with and without a card, as people meet them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.api.helpers import Connection
from tests.cli.running import document, refusal, told, ubp_sql
from tests.fix_database import Database
from tests.gpu.test_worker import conn
from tests.refresh.helpers import START, assert_exact
from tests.refresh.test_steps import start
from ubp_sql.errors import TrainingError
from ubp_sql.kernels import gpu
from ubp_sql.training import rows
from ubp_sql.training import train as training
from ubp_sql.worker import calibrate, choice, refresh

__all__ = ["conn"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
]
AS_OF = START.isoformat()


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pairs of each part that the GPU begins."""
    seen: list[int] = []
    run = gpu.run_pairs

    def noted(plan: Any, events: Any, pairs: Any, *rest: Any) -> bool:
        seen.append(len(pairs.user))
        return run(plan, events, pairs, *rest)

    monkeypatch.setattr(gpu, "run_pairs", noted)
    return seen


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "fault", lambda: "there is no NVIDIA GPU in this machine")


def figures(conn: Connection, least: int, start: float = 0.0) -> None:
    """Figures by which the GPU is sooner done than the server from so many events on, when it has begun."""
    machine = choice.this_machine()
    kept = choice.Figures(machine, {choice.pairs_of(conn): [(least, 2.0, 1.0)]}, start)
    calibrate.write(kept)


def test_refresh(db: Database, conn: Connection, computed: list[int]) -> None:
    (done,) = document("refresh", "--gpu", "--as-of", AS_OF, "--dsn", db.dsn)
    assert (done["state"], done["total_users"]) == ("done", 12)
    assert computed
    assert_exact(conn)


def test_refresh_without_a_card(db: Database, conn: Connection, no_card: None) -> None:
    result = ubp_sql("refresh", "--gpu", "--as-of", AS_OF, "--dsn", db.dsn)
    assert result.exit_code == 0
    assert result.stderr == "no GPU: there is no NVIDIA GPU in this machine; the CPU computes\n"
    assert "recomputed" in result.stdout
    assert_exact(conn)


@pytest.mark.parametrize(
    ("least", "start", "options", "used"),
    [
        (1, 0.0, ("--steps",), True),
        (1 << 40, 0.0, ("--steps",), False),
        (1, 1e9, ("--steps",), False),
        (1, 0.0, ("--steps", "--no-gpu"), False),
        (1, 0.0, (), False),
    ],
)
def test_refresh_by_figures(
    db: Database,
    conn: Connection,
    computed: list[int],
    least: int,
    start: float,
    options: tuple[str, ...],
    used: bool,
) -> None:
    """Of itself a refresh in one transaction stays one: steps cost more than a GPU can win."""
    figures(conn, least, start)
    told("refresh", *options, "--as-of", AS_OF, "--dsn", db.dsn)
    assert bool(computed) == used
    assert_exact(conn)


def test_the_card_is_left_alone_where_there_is_too_little_for_it(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To begin on it takes seconds, which a refresh of some users has not; nor are events fetched for nothing."""
    figures(conn, 1 << 40)
    monkeypatch.setattr(choice, "kept", lambda: pytest.fail("the card was looked at"))
    conn.execute("select ubp.build_mirror()")
    with monkeypatch.context() as patch:
        patch.setattr(refresh, "chunks", lambda *given: pytest.fail("events were fetched"))
        told("refresh", "--steps", "--as-of", AS_OF, "--dsn", db.dsn)
    assert_exact(conn)


def test_figures_are_for_those_who_may_have_the_events(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """An analyst's training set is the server's as before, whoever calibrated the machine."""
    looked: list[choice.Figures | None] = []
    kept = choice.kept

    def look() -> choice.Figures | None:
        looked.append(kept())
        return looked[-1]

    monkeypatch.setattr(choice, "kept", look)
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    figures(conn, 1)
    choose = choice.here_or_server(conn)
    assert choose is not None
    assert [choose(1, 1), choose(1, 1)] == ["gpu", "gpu"]
    assert len(looked) == 1, "a card that is lost on the way is lost to what computes, not to the choice"
    conn.execute("set role ubp_analyst")
    assert choice.here_or_server(conn) is None


def test_without_figures_the_server_computes(db: Database, conn: Connection, computed: list[int]) -> None:
    told("refresh", "--as-of", AS_OF, "--dsn", db.dsn)
    assert computed == []


def test_a_refresh_goes_on_after_it_was_interrupted(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ubp_sql.worker.refresh import Chunk, Question

    job, answer, seen = start(conn), Question.answer, []

    def second(question: Question, chunk: Chunk) -> list[bytes]:
        seen.append(chunk.number)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return answer(question, chunk)

    monkeypatch.setattr(Question, "answer", second)
    result = ubp_sql("refresh", "--gpu", "--as-of", AS_OF, "--dsn", db.dsn)
    assert result.exit_code == 130
    assert f"interrupted; job {job} keeps what it has computed" in result.stderr
    assert db.one("select count(*) from ubp.refresh_chunks where done") == 1
    (done,) = document("refresh", "--gpu", "--as-of", AS_OF, "--dsn", db.dsn)
    assert (done["job"], done["state"], seen) == (job, "done", [1, 2, 2, 3])
    assert_exact(conn)


def test_training_set(db: Database, conn: Connection, computed: list[int], tmp_path: Path, no_card: None) -> None:
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    files = [tmp_path / "server.parquet", tmp_path / "gpu.parquet", tmp_path / "without.parquet"]
    usual = (
        "training-set",
        "purchase",
        "--cut",
        "2025-02-10",
        "--cut",
        "2025-02-20",
        "--horizon",
        "9d",
        "--dsn",
        db.dsn,
        "-o",
    )
    told(*usual, files[0])
    assert computed == []
    result = ubp_sql(*usual, files[2], "--gpu")
    assert result.stderr.startswith("no GPU: ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "fault", lambda: "")
        told(*usual, files[1], "--gpu")
    assert computed
    server, *others = (pq.read_table(file) for file in files)
    assert len(server) > 10
    assert all(other.equals(server) for other in others)


def test_train(db: Database, conn: Connection, computed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it hands to the trainer as the source of rows."""
    sources: list[Any] = []

    def noted(conn: Connection, task: str, *, source: Any, **options: Any) -> None:
        sources.append(source)
        raise TrainingError("seen", "enough")

    monkeypatch.setattr(training, "train", noted)
    usual = ("train", "purchase", "--horizon-days", "10", "--dsn", db.dsn)
    for gpu_option, source in (((), rows.batches), (("--no-gpu",), rows.batches), (("--gpu",), None)):
        assert refusal(*usual, *gpu_option)[1] == "UB014"
        assert source in (None, sources[-1])
    question = rows.Question("purchase", [START - timedelta(days=10)])
    made, wanted = ([vars(batch) for batch in each(conn, question)] for each in (sources[-1], rows.batches))
    assert str(made) == str(wanted)
    assert computed


def test_bench(db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "SIZES", {"pairs": (60, 120), "rows": (10, 20)})
    found = document("bench", "--calibrate", "--dsn", db.dsn)
    assert [row["work"] for row in found] == ["pairs", "rows", choice.pairs_of(conn)]
    assert {row["card"] for row in found} == {"simulated"}
    kept = choice.kept()
    assert kept is not None
    for name in ("pairs", choice.pairs_of(conn)):
        assert [size for size, *_ in kept.measured[name]] == [60, 120]
    alone, with_way = (kept.measured[name] for name in ("pairs", choice.pairs_of(conn)))
    assert all(b[1] == a[1] and b[2] > a[2] for a, b in zip(alone, with_way, strict=True))


def test_bench_measures_only_when_told_and_with_a_card(db: Database, no_card: None) -> None:
    assert refusal("bench", "--dsn", db.dsn)[:2] == (2, "UB003")
    code, state, message = refusal("bench", "--calibrate", "--dsn", db.dsn)
    assert (code, state) == (4, "UB005")
    assert "there is no NVIDIA GPU" in message


@pytest.mark.parametrize("every", ["0", "-1", "nan", "4000"])
def test_worker_refuses(every: str) -> None:
    assert refusal("worker", "--every", every)[1] == "UB003"
