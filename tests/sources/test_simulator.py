"""The simulated shop: same seed, same bytes; a believable funnel; and a truth that is true."""

import csv
import gzip
import hashlib
import struct
import zlib
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ubp_sql.errors import BadInput
from ubp_sql.sources.simulator import Simulation, simulate
from ubp_sql.sources.simulator.draws import gamma, geometric, normal, poisson, stream
from ubp_sql.sources.simulator.people import SEGMENTS

Rows = list[dict[str, str]]
Floats = NDArray[np.float64]
DOCS = Path(__file__).parents[2] / "docs" / "simulator.md"


def read(path: Path) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def when(row: dict[str, str]) -> datetime:
    return datetime.fromisoformat(row["event_time"])


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def auc(outcome: Floats, score: Floats) -> float:
    """Mann and Whitney's statistic; ties count a half."""
    ordered = np.sort(score)
    rank = (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right") + 1) / 2.0
    yes = outcome.sum()
    return float((rank[outcome == 1].sum() - yes * (yes + 1) / 2) / (yes * (outcome.size - yes)))


def worst_bin(p: Floats, outcome: Floats, groups: NDArray[Any], least: int = 100) -> float:
    """Largest distance between observed and stated count of any group, in its binomial standard deviations."""
    worst = 0.0
    for group in np.unique(groups):
        of = groups == group
        spread = np.sqrt((p[of] * (1.0 - p[of])).sum())
        if of.sum() >= least and spread > 1.0:
            worst = max(worst, abs(float(outcome[of].sum() - p[of].sum())) / float(spread))
    return worst


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A small shop whose last window holds the November peak and a sale."""
    return simulate(tmp_path_factory.mktemp("shop"), users=3000, days=200, seed=3, start=date(2025, 5, 20))


@pytest.fixture(scope="module")
def events(shop: Simulation) -> Rows:
    return read(shop.events)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, Rows]:
    """Enough users for tight binomial bounds."""
    done = simulate(tmp_path_factory.mktemp("large"), users=15_000, days=240, seed=11, start=date(2025, 4, 20))
    return done, read(done.truth)


def test_same_seed_same_bytes_and_another_seed_other_events(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b/deeper", 5), ("c", 6)):
        simulate(tmp_path / name, users=150, days=60, seed=seed)
    first, second, other = hashes(tmp_path / "a"), hashes(tmp_path / "b" / "deeper"), hashes(tmp_path / "c")
    assert first == second
    assert len(first) == 303
    assert all(first[name] != other[name] for name in ("events.csv.gz", "items.csv", "truth.csv"))


def test_text_is_that_of_every_machine_and_release(tmp_path: Path) -> None:
    """A change of the process moves this hash and says so in the change log: published figures depend on it."""
    done = simulate(tmp_path, users=150, days=60, seed=5)
    text = gzip.decompress(done.events.read_bytes()) + done.items.read_bytes() + done.truth.read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == "eb02f4010044e0dd"


def test_gzip_header_names_no_file_and_no_time(shop: Simulation) -> None:
    head = shop.events.read_bytes()[:10]
    assert head[:3] == b"\x1f\x8b\x08"
    assert head[3:8] == b"\0\0\0\0\0"


def test_draws_have_their_moments() -> None:
    rng, n = stream(1, 9), 200_000
    for mean in (0.0, 0.02, 0.7, 4.0):
        count = poisson(rng, np.full(n, mean))
        assert count.mean() == pytest.approx(mean, abs=5 * (mean / n) ** 0.5)
        assert count.var() == pytest.approx(mean, abs=0.05)
    z = normal(rng, n)
    assert z.mean() == pytest.approx(0.0, abs=0.01)
    assert z.std() == pytest.approx(1.0, abs=0.01)
    g = gamma(rng, np.full(n, 3))
    assert g.mean() == pytest.approx(1.0, abs=0.01)
    assert g.var() == pytest.approx(1 / 3, abs=0.01)
    assert geometric(rng, np.full(n, 1.5), 1000).mean() == pytest.approx(1.5, abs=0.03)


def test_counts_agree_with_the_files(shop: Simulation, events: Rows) -> None:
    kinds = [row["kind"] for row in events]
    assert {kind: kinds.count(kind) for kind in shop.kinds} == shop.kinds
    assert min(shop.kinds.values()) > 0
    assert len(events) == shop.event_count
    assert shop.sessions == len({row["session_id"] for row in events} - {""})
    assert shop.orders == len({row["order_id"] for row in events} - {""})
    assert shop.item_count == len(read(shop.items)) == len(list(shop.pictures.iterdir()))
    truth = [row["cut"] for row in read(shop.truth)]
    assert {cut.isoformat(): n for cut, n in shop.cuts.items()} == {cut: truth.count(cut) for cut in set(truth)}


def test_events_are_numbered_in_order_of_time_and_none_lies_outside(shop: Simulation, events: Rows) -> None:
    assert [row["event_id"] for row in events] == [str(k) for k in range(1, len(events) + 1)]
    times = [when(row) for row in events]
    assert times == sorted(times)
    start = datetime(shop.start.year, shop.start.month, shop.start.day, tzinfo=UTC)
    assert start <= times[0]
    assert times[-1] < start + timedelta(days=shop.days)
    assert all(row["user"].isdigit() for row in events)


def test_a_purchase_follows_its_cart_and_view_in_its_session(events: Rows) -> None:
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    needs = {"view": set(), "cart": {"view"}, "purchase": {"view", "cart"}}
    bought: dict[tuple[str, str], dict[str, str]] = {}
    for row in events:
        if row["kind"] in needs:
            assert needs[row["kind"]] <= seen[row["session_id"], row["item"]]
            seen[row["session_id"], row["item"]].add(row["kind"])
        if row["kind"] == "purchase":
            assert (row["order_id"], row["item"]) not in bought
            bought[row["order_id"], row["item"]] = row
        if row["kind"] == "cancel":
            line = bought[row["order_id"], row["item"]]
            assert [row[c] for c in ("user", "price", "quantity")] == [line[c] for c in ("user", "price", "quantity")]
            assert when(row) > when(line)


def test_a_session_belongs_to_one_user_and_one_day(events: Rows) -> None:
    owner: dict[str, tuple[str, str]] = {}
    for row in events:
        if row["session_id"]:
            key = (row["user"], row["event_time"][:10])
            assert owner.setdefault(row["session_id"], key) == key


def test_each_kind_fills_its_fields(events: Rows) -> None:
    always = {"event_id", "user", "event_time", "kind"}
    offer = {"item", "price", "discount"}
    fields = {
        "search": {"session_id", "duration_s", "search_text"},
        "view": {"session_id", "duration_s"} | offer,
        "cart": {"session_id", "quantity"} | offer,
        "purchase": {"session_id", "quantity", "order_id"} | offer,
        "cancel": {"quantity", "order_id"} | offer,
    }
    for row in events:
        assert {name for name, value in row.items() if value} == always | fields[row["kind"]]
        assert row["kind"] == "search" or float(row["price"]) > 0


def test_price_is_the_list_price_less_the_discount(shop: Simulation, events: Rows) -> None:
    price = {row["item_id"]: float(row["price"]) for row in read(shop.items)}
    for row in events:
        if row["item"]:
            expected = price[row["item"]] * (1.0 - float(row["discount"]))
            assert float(row["price"]) == pytest.approx(expected, abs=0.0051)


def test_pictures_are_sound_pngs(shop: Simulation) -> None:
    for item in read(shop.items):
        data = (shop.pictures / item["picture"]).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        at, body = 8, {}
        while at < len(data):
            (size,) = struct.unpack(">I", data[at : at + 4])
            name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
            assert data[at + 8 + size : at + 12 + size] == struct.pack(">I", zlib.crc32(name + content))
            body[name], at = content, at + 12 + size
        assert list(body) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
        width, height = struct.unpack(">II", body[b"IHDR"][:8])
        assert len(zlib.decompress(body[b"IDAT"])) == height * (width + 1)


def test_size_grows_with_users_and_days(tmp_path: Path) -> None:
    base = simulate(tmp_path / "base", users=1000, days=100, seed=2)
    wide = simulate(tmp_path / "wide", users=3000, days=100, seed=2)
    long = simulate(tmp_path / "long", users=1000, days=300, seed=2)
    assert 2.4 < wide.event_count / base.event_count < 3.6
    assert 2.0 < long.event_count / base.event_count < 4.5
    assert long.item_count == base.item_count


def test_season_and_sales_show(shop: Simulation, events: Rows) -> None:
    def daily(kind: str, low: str, high: str) -> float:
        days = (date.fromisoformat(high) - date.fromisoformat(low)).days
        return sum(row["kind"] == kind and low <= row["event_time"][:10] < high for row in events) / days

    peak, before = ("2025-11-21", "2025-12-02"), ("2025-10-01", "2025-11-01")
    assert daily("view", *peak) > 1.3 * daily("view", *before)
    rate = [daily("purchase", *period) / daily("view", *period) for period in (peak, before)]
    assert rate[0] > 1.15 * rate[1]


def test_truth_population_and_outcome_are_those_of_the_events(shop: Simulation, events: Rows) -> None:
    bought = [(row["user"], row["event_time"]) for row in events if row["kind"] == "purchase"]
    rows = read(shop.truth)
    for cut in shop.cuts:
        low, high = cut.isoformat(), (cut + timedelta(days=30)).isoformat()
        customers = {user for user, at in bought if at < low}
        buyers = {user for user, at in bought if low <= at < high}
        truth = {row["user"]: row for row in rows if row["cut"] == low}
        assert set(truth) == customers
        assert {user for user, row in truth.items() if row["bought"] == "1"} == customers & buyers


def test_who_is_gone_never_returns(shop: Simulation, events: Rows) -> None:
    """A cancellation may still come, of an order made before."""
    last_visit = {row["user"]: row["event_time"] for row in events if row["session_id"]}
    gone = [row for row in read(shop.truth) if row["here"] == "0"]
    assert len(gone) > 300
    assert all(float(row["p_true"]) == 0.0 and last_visit[row["user"]] < row["cut"] for row in gone)


def test_true_probability_is_calibrated(large: tuple[Simulation, Rows]) -> None:
    """Given the state at one cut users are independent, so each bin's count has the variance sum p (1 - p)."""
    done, rows = large
    for cut in done.cuts:
        part = [row for row in rows if row["cut"] == cut.isoformat() and row["here"] == "1"]
        p = np.array([float(row["p_true"]) for row in part])
        outcome = np.array([float(row["bought"]) for row in part])
        assert worst_bin(p, outcome, np.floor(p * 20)) < 4.0
        for column in ("segment", "interested"):
            assert worst_bin(p, outcome, np.array([row[column] for row in part])) < 4.0


@pytest.mark.parametrize("power", [0.8, 1.2])
def test_calibration_test_sees_a_wrong_probability(large: tuple[Simulation, Rows], power: float) -> None:
    _, rows = large
    part = [row for row in rows if row["here"] == "1"]
    p = np.array([float(row["p_true"]) for row in part]) ** power
    outcome = np.array([float(row["bought"]) for row in part])
    assert worst_bin(p, outcome, np.floor(p * 20)) > 6.0


def test_truth_ranks_better_than_recency_and_frequency(large: tuple[Simulation, Rows]) -> None:
    done, rows = large
    cut = done.last_cut.isoformat()
    orders: dict[str, set[str]] = defaultdict(set)
    last: dict[str, float] = {}
    for row in read(done.events):
        if row["kind"] == "purchase" and row["event_time"] < cut:
            orders[row["user"]].add(row["order_id"])
            last[row["user"]] = when(row).timestamp()
    part = [row for row in rows if row["cut"] == cut]
    outcome = np.array([float(row["bought"]) for row in part])
    best = auc(outcome, np.array([float(row["p_true"]) for row in part]))
    frequency = auc(outcome, np.array([float(len(orders[row["user"]])) for row in part]))
    recency = auc(outcome, np.array([last[row["user"]] for row in part]))
    assert 0.70 < frequency < best - 0.05
    assert 0.70 < recency < best - 0.05


def test_cuts_can_be_chosen(tmp_path: Path) -> None:
    wanted = [date(2025, 3, 2), date(2025, 2, 1)]
    done = simulate(tmp_path, users=100, days=100, cuts=wanted)
    assert list(done.cuts) == sorted(wanted)
    assert {row["cut"] for row in read(done.truth)} == {cut.isoformat() for cut in wanted}


def test_default_cuts_end_thirty_days_before_the_end(shop: Simulation) -> None:
    end = shop.start + timedelta(days=shop.days)
    assert list(shop.cuts) == [end - timedelta(days=30 * k) for k in (5, 4, 3, 2, 1)]
    assert shop.last_cut == end - timedelta(days=30)


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    simulate(tmp_path, users=50, days=60, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_one_user_is_enough(tmp_path: Path) -> None:
    for seed in range(12):
        done = simulate(tmp_path / str(seed), users=1, days=60, seed=seed)
        assert len(read(done.events)) == done.event_count


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"users": -5},
        {"days": 59},
        {"days": 4_000_000},
        {"seed": -1},
        {"cuts": []},
        {"cuts": [date(2025, 1, 1)]},
        {"cuts": [date(2025, 12, 31)]},
    ],
)
def test_bad_input_is_refused_with_a_hint(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        simulate(tmp_path / "shop", **wrong)
    assert caught.value.hint
    assert not (tmp_path / "shop").exists()


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        simulate(tmp_path / "shop", users=10, days=60)


def test_documented_segments_are_those_of_the_code() -> None:
    for s in SEGMENTS:
        row = (
            f"| {s.name} | {s.share:.0%} | {s.visits:g} | {s.spread} | {s.buys:.0%} | {s.sale_odds:g} | "
            f"1/{round(1 / s.hazard)} | {s.here:.0%} | {s.arrival[0]:g} to {s.arrival[1]:g} | {s.first:.0%} | "
            f"{s.habit:.0%} | {s.cart:.0%} | {s.cancel:.0%} |"
        )
        assert row in DOCS.read_text(encoding="utf-8")
