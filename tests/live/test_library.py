"""The native library against Numba, without a server: any user, cut in any way, at any moment, to the bit."""

import struct
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ubp_sql
from tests.features.spec_cases import BUY, KINDS, spec
from ubp_sql.api import live_read, live_rows, live_set
from ubp_sql.api.slices import Directory, Places
from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Declared
from ubp_sql.features.compute import compute
from ubp_sql.features.definition import SEMANTICS_VERSION, FeatureSetDefinition
from ubp_sql.features.events import FAR_US, POSTGRES_EPOCH_US, Events
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.install import native as build
from ubp_sql.kernels import native
from ubp_sql.kernels.codes import DAY_US, NO_KEY
from ubp_sql.kernels.live_layout import AGAIN, DONE, INFINITE, MALFORMED, NOBODY, SLICE_HEAD, TIED
from ubp_sql.mirror.encode import STORED, encode
from ubp_sql.mirror.layout import BASE, Block

DECLARED = (Declared("discount", "d", "number"), Declared("channel", "c", "text"), Declared("query", "q", "words"))
SPECS = [
    spec("count", "count", ["view", "cart"], window="7d"),
    spec("sums", "sum", [BUY], window="4 x 7d"),
    spec("quantity", "mean", [BUY], of="quantity", window="30d"),
    spec("long", "max", ["view"], of="duration_s"),
    spec("discounts", "std", ["view", BUY], of="discount"),
    spec("channels", "distinct", ["view"], of="channel", window="60d"),
    spec("hours", "clock_entropy", of="hour", window="60d"),
    spec("holidays", "holiday_share", window="60d"),
    spec("gaps", "gap_std", ["view", BUY], of="order"),
    spec("since", "recency", ["cart"]),
    spec("words", "words", ["search"], of="query", settings={"buckets": 5}),
    spec("top", "top_keys", of="item", settings={"k": 2}),
    spec("funnel", "funnel_depth", settings={"steps": ["view", "cart", BUY], "bound": "9d"}),
    spec("sessions", "sessions", ["view", "cart"], settings={"timeout": "8h"}),
    spec("last3", "last_values", [BUY], settings={"k": 3}),
    spec("decay", "decayed_sum", [BUY], settings={"half_life": "10d"}),
]
DEFINITION = FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, SPECS)), DECLARED)
START = 1_700_000_000_000_000
HOLIDAYS = [START // DAY_US + day for day in range(0, 90, 3)]
CODES = [{"code": 3 + 2 * place, "kind": kind} for place, kind in enumerate(KINDS)]
Columns = dict[str, NDArray[Any]]


class Server:
    """Answers what a LiveSet asks when it is made."""

    def __init__(self, plan: bytes | None) -> None:
        row = {"feature_set_id": 1, "hash": DEFINITION.hash, "plan": plan, "semantics": "2"}
        row |= {"positions": None, "families": None}
        declared = [
            {"name": column.name, "type": column.type, "position": place} for place, column in enumerate(DECLARED, 1)
        ]
        self.answers: dict[str, list[dict[str, Any]]] = {
            live_set.BY_NAME: [row],
            live_set.DECLARED: declared,
            live_set.CODES: CODES,
            live_read.CALENDAR: [{"days": HOLIDAYS}],
            "select package_version from ubp.installation": [{"package_version": ubp_sql.__version__}],
        }

    def prepare(self, query: str, _: list[str]) -> Any:
        answer = self.answers[query]

        class Plan:
            def execute(self, _: list[Any]) -> list[dict[str, Any]]:
                return answer

        return Plan()


@pytest.fixture(scope="module", autouse=True)
def library() -> Path:
    made = build.build()
    assert native.entry("ubp_live_row") is not None
    return made


def some_events(seed: int, n: int) -> Columns:
    """Of one user, in order: ties, late arrivals, missing values, kinds that the mirror or the set does not know."""
    rng = np.random.default_rng(seed)
    t = START + rng.integers(0, 90 * 24, n) * 3_600_000_000 + rng.integers(0, 2, n)
    missing = rng.random((6, n)) < 0.3
    columns = {
        "t": t,
        "ingested": np.where(rng.random(n) < 0.7, t, t + rng.integers(-DAY_US, 20 * DAY_US, n)),
        "event_id": rng.permutation(n).astype(np.int64),
        "kind": rng.integers(0, len(KINDS) + 1, n),
        "offset_s": rng.choice([0, 3600, -18000], n).astype(np.int32),
        "item": np.where(missing[0], NO_KEY, rng.integers(-3, 5, n)),
        "order": np.where(missing[1], t, rng.integers(0, max(1, n // 3), n)),
        "value": np.where(missing[2], np.nan, rng.choice([0.0, -3.5, 19.99, 1e300, np.inf], n)),
        "quantity": np.where(missing[3], np.nan, rng.choice([1.0, 2.5, 7.0], n)),
        "duration_s": np.where(missing[4], np.nan, rng.choice([0.25, 120.0], n)),
        "discount": np.where(missing[5], np.nan, rng.choice([0.1, -2.0], n)),
        "channel": np.where(missing[0], NO_KEY, rng.integers(0, 4, n)),
        "query": rng.integers(-(2**63), 2**63 - 1, n) * rng.integers(0, 2, n),
    }
    for name in rng.choice(list(columns)[5:], 3, replace=False):  # the same everywhere, so that chunks do not keep it
        columns[name][:] = t if name == "order" else 0 if name == "query" else _missing(columns[name])
    if seed % 3 == 0:
        columns["ingested"] = t.copy()
    order = np.lexsort((columns["event_id"], columns["ingested"], t))
    return {name: column[order] for name, column in columns.items()}


def _missing(column: NDArray[Any]) -> float | int:
    return np.nan if column.dtype == np.float64 else NO_KEY


def code_of(events: Columns) -> NDArray[Any]:
    """The mirror's codes; that of a kind of no set is one between the others or beyond them."""
    return np.array([*(3 + 2 * np.arange(len(KINDS))), 4 if len(events["t"]) % 2 else 99])[events["kind"]]


def encoded(events: Columns) -> dict[str, Any]:
    """The row of a chunk of these events."""
    n = len(events["t"])
    one = np.ones(1, np.int64)
    return encode(Block(one, np.array([0, n]), one > 0, events | {"kind": code_of(events).astype(np.int32)}), DECLARED)


def chunk_row(events: Columns) -> dict[str, Any]:
    """What live_query.PIECE finds of a chunk of these events."""
    row = encoded(events)
    return {**{name: row[STORED.get(name, name)] for name in BASE}, "extras": row["extras"]}


def directory(events: Columns) -> Directory:
    return Directory(encoded(events))


def sent_row(events: Columns) -> dict[str, Any] | None:
    """What heap.HEAD sends of these events; those of no kind of the set are not asked for."""
    place = np.array([1, 2, 3, 4, 0])[events["kind"]]
    events = {name: column[place > 0] for name, column in events.items()}
    n, marks = len(events["t"]), place[place > 0]
    if not n:
        return None
    there = {name: ~(np.isnan(events[name]) | (events[name] == NO_KEY)) for name in live_set.MARKS}
    there |= {name: events[name] != events["t"] for name in ("ingested", "order")}
    there["offset_s"] = events["offset_s"] != 0
    row: dict[str, Any] = {"user_id": b"", "event_id": events["event_id"].astype(">i8").tobytes()}
    row["t"] = (events["t"] - POSTGRES_EPOCH_US).astype(">i8").tobytes()
    kinds = {"quantity": ">f4", "duration_s": ">f4", "offset_s": ">i4", "value": ">f8"}
    for name, bit in live_set.MARKS.items():
        marks = marks | (there[name].astype(np.int64) << bit)
        values = events[name][there[name]] - (POSTGRES_EPOCH_US if name == "ingested" else 0)
        row[name] = values.astype(kinds.get(name, ">i8")).tobytes() or None
    row["marks"] = marks.astype(">i4").tobytes()
    for number, column in enumerate(DECLARED, 1):
        row[f"x{number}"] = events[column.name].astype(">f8" if number == 1 else ">i8").tobytes()
    return row


def expected(events: Columns, as_of_us: int, weekday: int) -> bytes | None:
    n = len(events["t"])
    kind = np.where(events["kind"] < len(KINDS), events["kind"], -1)
    if not ((events["t"] < as_of_us) & (events["ingested"] <= as_of_us) & (kind >= 0)).any():
        return None
    place = [DEFINITION.kinds.index(name) for name in KINDS]
    numbers, keys, _ = DEFINITION.columns
    one = np.zeros(1, np.int64)
    rows = compute(
        Events(
            user_id=one,
            first=np.array([0, n]),
            t_us=events["t"],
            ingested_us=events["ingested"],
            offset_s=events["offset_s"],
            kind=np.array([*place, -1], np.int32)[events["kind"]],
            numbers={name: events[name] for name in numbers},
            keys={name: events[name] for name in keys},
        ),
        DEFINITION,
        one,
        one + as_of_us,
        one + (weekday + 4) * DAY_US,
        holidays=np.array(HOLIDAYS),
    )
    return rows.features.tobytes()


def made_set() -> tuple[Server, dict[Any, Any], live_set.LiveSet]:
    server, memory = Server(DEFINITION.plan_blob), {"places": Places()}
    return server, memory, live_set.load_set(server, memory, "default")


def test_what_is_written_down_twice() -> None:
    """The helpers above number kinds as the set does; the light path names the version of all values."""
    assert DEFINITION.kinds == KINDS
    assert live_set.SEMANTICS == SEMANTICS_VERSION


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5, 40, 300]), st.integers(-5, 100), st.data())
@settings(deadline=None, max_examples=150)
def test_any_user_cut_in_any_way(seed: int, n: int, day: int, data: st.DataObject) -> None:
    server, memory, found = made_set()
    events = some_events(seed, n)
    rng = np.random.default_rng(seed)
    # Each event lies in one slice at least; -1 is the rows that are not in the mirror.
    slices = data.draw(st.integers(1, 4))
    late = data.draw(st.booleans())
    home = rng.integers(-1 if late else 0, slices, n)
    chunks, sent = [], []
    for number in range(-1, slices):
        mine = (home == number) | ((rng.random(n) < 0.1) if slices > 1 or late else False)
        part = {name: column[mine] for name, column in events.items()}
        if not mine.any():
            continue
        if number < 0:
            shuffled = rng.permutation(int(mine.sum()))
            row = sent_row({name: column[shuffled] for name, column in part.items()})
            sent += [row] if row else []
        else:
            chunks.append((chunk_row(part), directory(part)))
    as_of_us, weekday = START + day * DAY_US, int(rng.integers(7))
    question = live_read.Question(1, as_of_us, weekday)
    budget = data.draw(st.sampled_from([1, 50, 1 << 19]))
    said = TIED
    if not sent:
        without = [({name: row[name] for name in row if name != "event_id"}, its) for row, its in chunks]
        question = live_read.packed_question(server, memory, found, question, without, [])
        assert question.table is not None
        said = found.native.call(question.table, question.packed, budget)
        assert said != TIED or len(chunks) > 1
    if said == TIED:
        question = live_read.packed_question(server, memory, found, question, chunks, sent)
        assert question.table is not None
        said = found.native.call(question.table, question.packed, budget)
    while said == AGAIN:
        said = found.native.again(question.packed, budget)
    want = expected(events, as_of_us, weekday)
    assert said == (NOBODY if want is None else DONE)
    if want is not None:
        assert found.native.row() == want


def question_of(found: live_set.LiveSet, server: Server, events: Columns, sent: bool = False) -> live_read.Question:
    row = sent_row(events)
    question = live_read.Question(1, START + 200 * DAY_US, 0)
    if sent:
        return live_read.packed_question(server, {}, found, question, [], [row] if row else [])
    chunks = [(chunk_row(events), directory(events))]
    return live_read.packed_question(server, {"places": Places()}, found, question, chunks, [])


def test_columns_that_do_not_fit_are_not_read() -> None:
    """A chunk whose columns are shorter or longer than its directory says."""
    server, _, found = made_set()
    for sent in (False, True):
        question = question_of(found, server, some_events(1, 60), sent)
        assert question.table is not None
        for packed in (question.packed[:-4], question.packed + bytes(4), b"", question.packed[8:]):
            assert found.native.call(question.table, packed, 1 << 19) == MALFORMED
        assert found.native.call(question.table, question.packed, 1 << 19) == DONE


@pytest.mark.parametrize("word", [-1, 59, 61])
def test_counts_that_are_none_are_not_believed(word: int) -> None:
    server, _, found = made_set()
    for sent in (False, True):
        question = question_of(found, server, some_events(1, 60), sent)
        assert question.table is not None
        first = len(found.head(server, {}, -1)[0]) + len(found.head(server, {}, -1)[1])
        table = array("q", question.table)
        assert table[first] == 60 or sent
        table[first] = word
        assert found.native.call(table, question.packed, 1 << 19) == MALFORMED


@pytest.mark.parametrize("form", [0, 5, 7, 9, 6 | 7 << 8, 8 | 1 << 8, 4 | 255 << 8, -1, 1 << 40])
def test_forms_that_are_none_are_not_believed(form: int) -> None:
    server, _, found = made_set()
    question = question_of(found, server, some_events(1, 60))
    assert question.table is not None
    table = array("q", question.table)
    first = len(found.head(server, {}, -1)[0]) + len(found.head(server, {}, -1)[1])
    table[first + SLICE_HEAD] = form  # of the time
    assert found.native.call(table, question.packed, 1 << 19) == MALFORMED


def test_an_infinite_time_in_a_row() -> None:
    server, _, found = made_set()
    events = some_events(1, 20)
    row = sent_row(events)
    assert row is not None
    n = len(row["t"]) // 8
    for end in (2**63 - 1, -(2**63)):
        row["t"] = struct.pack(f">{n}q", *[0] * (n - 1), end)
        late = live_read.Question(1, START, 0)
        question = live_read.packed_question(server, {}, found, late, [], [row])
        assert question.table is not None
        assert found.native.call(question.table, question.packed, 1 << 19) == INFINITE


def test_a_far_ingestion_is_held_within_bounds() -> None:
    """As features/events.py has it, so that it is after every moment and nothing overflows."""
    server, _, found = made_set()
    events = some_events(1, 20)
    row = sent_row(events)
    assert row is not None
    n = len(row["t"]) // 8
    row["ingested"] = struct.pack(f">{n}q", *[2**63 - 1] * n)
    marks = np.frombuffer(row["marks"], ">i4") | (1 << live_set.MARKS["ingested"])
    row["marks"] = marks.astype(">i4").tobytes()
    late = live_read.Question(1, FAR_US - 1, 0)
    question = live_read.packed_question(server, {}, found, late, [], [row])
    assert question.table is not None
    assert found.native.call(question.table, question.packed, 1 << 19) == NOBODY


def test_a_long_users_memory_is_given_back() -> None:
    server, _, found = made_set()
    question = question_of(found, server, some_events(1, 20_000))
    assert question.table is not None
    said = found.native.call(question.table, question.packed, 1 << 19)
    while said == AGAIN:
        said = found.native.again(question.packed, 1 << 19)
    assert said == DONE
    assert found.native.words > live_set.KEPT_WORDS
    assert found.native.row() == expected(some_events(1, 20_000), START + 200 * DAY_US, 0)
    assert found.native.words == 0


def test_rows_are_told_apart_by_the_plan() -> None:
    """A plan that names a column nobody declared is refused, not read past its columns."""
    server = Server(DEFINITION.plan_blob)
    server.answers[live_set.DECLARED] = []
    with pytest.raises(ubp_sql.errors.UbpError, match="no event column"):
        live_set.load_set(server, {}, "default")


def test_the_sent_form_of_floats() -> None:
    assert live_rows.swapped("q", None).tobytes() == b""
    assert live_rows.swapped("q", struct.pack(">2q", 5, -1)).tolist() == [5, -1]
    with pytest.raises(ValueError, match="multiple"):
        live_rows.swapped("q", b"123")


def test_without_a_moment() -> None:
    server, memory, _ = made_set()
    with pytest.raises(BadInput, match="as_of is NULL"):
        live_read.ask(server, memory, "default", 1, None)
