"""Features computed outside of the server: the same rows, to the bit, whoever computed which part."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.refresh.helpers import START, Log, assert_exact, refresh, state
from tests.refresh.test_steps import finish, in_chunks, nothing_left, start
from tests.standings import helpers as standings
from ubp_sql.kernels import gpu
from ubp_sql.training import rows
from ubp_sql.training.train import train
from ubp_sql.worker import training
from ubp_sql.worker.choice import SERVER
from ubp_sql.worker.refresh import Chunk, compute_chunks

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
DEVICES = pytest.mark.parametrize("device", [None, "gpu"])
CUTS = [datetime(2025, 2, day, tzinfo=UTC) for day in (10, 17, 24)]


@pytest.fixture
def conn(db: Database) -> Iterator[Connection]:
    with in_chunks(db) as made:
        yield made


def compute(db: Database, conn: Connection, job: int, device: str | None = None, **options: Any) -> int:
    if device and gpu.fault():
        pytest.skip(gpu.fault())
    with db.connect() as reading:
        return compute_chunks(conn, reading, job, lambda size, whole: device, **options)


@DEVICES
def test_a_refresh(db: Database, conn: Connection, device: str | None) -> None:
    job = start(conn)
    done: list[tuple[Chunk, int]] = []
    assert compute(db, conn, job, device, done=lambda *told: done.append(told)) == 3
    assert [(chunk.number, of) for chunk, of in done] == [(1, 3), (2, 3), (3, 3)]
    assert sum(chunk.events for chunk, _ in done) == db.one("select count(*) from ubp.events")
    assert finish(conn, job)[0] == "done"
    assert len(state(conn)) > 5
    assert nothing_left(conn)
    assert_exact(conn)


def test_every_chunk_is_computed_wherever_one_begins(db: Database, conn: Connection) -> None:
    for first in range(4):
        job = start(conn)
        seen: list[int] = []
        compute(db, conn, job, start=lambda chunks, f=first: f, done=lambda chunk, of, s=seen: s.append(chunk.number))
        assert seen == [*range(first + 1, 4), *range(1, first + 1)]
        conn.execute("select ubp.cancel_refresh(%s)", [job])


OF_A_GPU = """
do $$
import sys
loaded = [name for name in sys.modules if name.startswith(("cupy", "numba.cuda", "numba_cuda"))]
if loaded: plpy.error(str(loaded))
$$ language plpython3u"""


def test_what_is_left_to_the_server_it_computes(db: Database, conn: Connection) -> None:
    job = start(conn)
    devices = iter([None, None, SERVER])  # of all, of the first chunk, of the second
    with db.connect() as reading:
        assert compute_chunks(conn, reading, job, lambda size, whole: next(devices)) == 1
    assert finish(conn, job)[0] == "done"
    assert_exact(conn)
    conn.execute(OF_A_GPU)


def test_standings_are_the_servers(db: Database) -> None:
    with db.connect() as conn:
        standings.insert(conn, standings.events(3))
        standings.define(conn)
        job = start(conn, standings.MIDNIGHT)
        assert compute(db, conn, job) == 1
        assert finish(conn, job)[0] == "done"
        assert len(standings.stored(conn)) > 10
        assert standings.differing(conn) == []
        assert_exact(conn)


def rows_of(found: Iterator[rows.Batch]) -> list[dict[str, bytes]]:
    return [{name: column.tobytes() for name, column in vars(batch).items()} for batch in found]


@DEVICES
@pytest.mark.parametrize("every_event", [False, True])
def test_training_rows(db: Database, conn: Connection, device: str | None, every_event: bool) -> None:
    if device and gpu.fault():
        pytest.skip(gpu.fault())
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    for known_at in ("cut", "now"):
        question = rows.Question("purchase", None if every_event else CUTS, known_at=known_at)
        wanted = rows_of(rows.batches(conn, question))
        assert wanted
        assert rows_of(training.batches(conn, question, lambda size, whole: device)) == wanted


def test_training_rows_that_the_server_is_sooner_done_with(conn: Connection) -> None:
    """Also in a transaction that goes on, as an export's does."""
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    question = rows.Question("purchase", CUTS)
    sizes: list[int] = []

    def to_server(size: int, whole: int) -> str:
        sizes.append(size)
        return SERVER

    with conn.transaction():
        wanted = rows_of(rows.batches(conn, question))
        assert rows_of(training.batches(conn, question, to_server)) == wanted
    assert len(sizes) == 1


def test_training_rows_of_standings_are_the_servers(db: Database) -> None:
    said: list[str] = []
    with db.connect() as conn:
        standings.insert(conn, standings.events(3))
        standings.define(conn)
        conn.execute("select ubp.define_task('purchase', 'purchase', 'view')")
        question = rows.Question("purchase", [standings.MIDNIGHT])
        found = rows_of(training.batches(conn, question, lambda size, whole: None, said.append))
        assert found == rows_of(rows.batches(conn, question))
    assert said == ["feature set 'default' has features that go by all users: the server computes the rows"]


def test_whoever_stops_taking_rows_stops_the_server(conn: Connection) -> None:
    conn.execute("select ubp.define_task('purchase', 'purchase')")
    found = training.batches(conn, rows.Question("purchase", CUTS), lambda size, whole: None)
    next(found)
    found.close()
    assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.slow
def test_the_same_model(shop_copy: Database) -> None:
    taken: list[int] = []

    def source(conn: Connection, question: rows.Question) -> Any:
        return training.batches(conn, question, lambda size, whole: taken.append(size))

    with shop_copy.connect() as conn:
        made = train(conn, "purchase", deploy=False, threads=1, calibration="none", source=source)
    assert taken
    assert made.model == bytes(shop_copy.one("select source from ubp.models where version = 1")).decode()


@pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}")
@pytest.mark.parametrize(
    "module",
    ["cupy.cuda.memory", "cupy_backends.cuda.api.runtime", "cuda.core._utils.cuda_utils", "numba.cuda.cudadrv"],
)
def test_where_the_card_fails_the_cpu_computes(
    module: str, db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("CardError", (Exception,), {"__module__": module})

    def fails(*arguments: object) -> None:
        raise kind("Out of memory allocating 1 bytes\nand more")

    monkeypatch.setattr(gpu, "run_pairs", fails)
    job = start(conn)
    said: list[str] = []
    assert compute(db, conn, job, "gpu", say=said.append) == 3
    assert said == ["the GPU failed: Out of memory allocating 1 bytes; the CPU computes this part"] * 3
    assert finish(conn, job)[0] == "done"
    assert_exact(conn)


@pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}")
def test_an_error_of_ours_is_no_failure_of_the_card(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "run_pairs", None)
    with pytest.raises(TypeError):
        compute(db, conn, start(conn), "gpu")


def test_an_incremental_refresh(db: Database, conn: Connection) -> None:
    refresh(conn, START)
    Log(conn, 5).insert(START, 3)
    job = start(conn)
    assert 0 < compute(db, conn, job) < 3
    assert finish(conn, job)[0] == "done"
    assert_exact(conn)
