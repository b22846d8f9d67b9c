"""Proposed maps load, and what they load is what the maps that ship with the package load."""

import dataclasses
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fix_database import Database
from tests.sources.guess_zoo import ROWS, Animal
from tests.sources.loading import load
from tests.sources.test_guess_files import ZOO, looked_at, values
from ubp_sql.sources.guess import FileGuess, guess_file
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator.shop import simulate

ROWS_OF = """
select user_id, event_time, e.kind, item_id, value, quantity, attributes, ingested_at from ubp.events e
  join ubp.sources s on s.source_id = e.source where s.name ="""


def test_every_proposed_map_loads(db: Database, tmp_path: Path) -> None:
    """Also one that was filled in where it was open."""
    filled: dict[str, dict[str, Any]] = {
        "untold_dates.csv": {"event_time": "to_timestamp(Date, 'DD/MM/YYYY HH24:MI')"},
        "no_header.csv": {"user": "c1"},
        "two_users.csv": {"user": "customer_id"},
        "no_kind.csv": {"kind": {"constant": "purchase"}},
        "UserBehavior.csv": {"user": "c1"},
        "shopify.csv": {"kind": {"constant": "purchase"}, "value": "Total"},
        "pos.csv": {"user": "Kartennr"},
    }
    seen = set()
    for animal in ZOO.values():
        guess = looked_at(tmp_path, animal.content, animal.file)
        for name, value in filled.get(animal.file, {}).items():
            guess = guess.with_part(name, value)
        said = repr((guess.settings, values(guess)))
        if guess.open or said in seen:
            continue
        seen.add(said)
        assert_loads(db, tmp_path, animal, guess)
    assert len(seen) > 25


def assert_loads(db: Database, directory: Path, animal: Animal, guess: FileGuess) -> None:
    load_map = LoadMap.from_text(guess.map_text(), directory / f"{animal.file}.yaml")
    result = load(db, directory / animal.file, load_map, dry_run=True)
    assert (animal.file, result.loaded, result.read) == (animal.file, animal.loads, max(animal.loads, ROWS))


def test_parquet(db: Database, tmp_path: Path) -> None:
    """Columns have types: nothing is read from texts."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    began = datetime(2024, 1, 1, tzinfo=UTC)
    rows = range(500)
    columns = {
        "user_id": [n % 50 for n in rows],
        "ts": pa.array([began + timedelta(minutes=7 * n) for n in rows], pa.timestamp("ns", "UTC")),
        "event": ["view" if n % 3 else "purchase" for n in rows],
        "price": [1.5 if n % 7 else float("nan") for n in rows],
        "received": pa.array([1_704_100_000_000 + n for n in rows], pa.int64()),
        "tags": [["a"] for _ in rows],
    }
    path = tmp_path / "log.parquet"
    parquet.write_table(pa.table(columns), path)
    guess = guess_file(path)
    found = values(guess)
    assert (guess.format, guess.settings) == ("parquet", {})
    assert (found["user"], found["event_time"], found["kind"]) == ("user_id", "ts", "event")
    assert found["value"] == "nullif(price, 'nan')"
    assert found["ingested_at"] == "to_timestamp(received::numeric / 1000)"
    load_map = LoadMap.from_text(guess.map_text(), tmp_path / "map.yaml")
    assert load(db, path, load_map, dry_run=True).loaded == 500


def test_online_retail_as_the_shipped_map(db: Database, tmp_path: Path, online_retail: Path) -> None:
    with gzip.open(online_retail, "rt", encoding="utf-8") as stream:
        head = [next(stream) for _ in range(20_001)]
    path = tmp_path / "online_retail.csv"
    path.write_text("".join(head), encoding="utf-8")
    guess = guess_file(path)
    assert not guess.open
    assert values(guess)["kind"][0] == {"cancel": "InvoiceNo like 'C%'"}
    ours = LoadMap.from_text(guess.map_text(), tmp_path / "ours.yaml")
    shipped = LoadMap.from_file("online_retail")
    counted = {}
    for load_map in (ours.model_copy(update={"source": "ours", "attributes": {}}), shipped):
        result = load(db, path, load_map)
        counted[load_map.source] = dataclasses.replace(result, source="", load_id=0, seconds=0)
    assert counted["ours"] == counted["online_retail"]
    differ = db.one(
        f"""select count(*) from (({ROWS_OF} 'ours' except all {ROWS_OF} 'online_retail')
            union all ({ROWS_OF} 'online_retail' except all {ROWS_OF} 'ours')) d"""
    )
    assert db.one("select count(distinct source) from ubp.events") == 2
    assert differ == 0


def test_the_simulated_shop(db: Database, tmp_path: Path) -> None:
    simulate(tmp_path, users=60, days=60, seed=3)
    path = tmp_path / "events.csv.gz"
    guess, shipped = guess_file(path), LoadMap.from_file("simulated_shop")
    found = values(guess)
    same = ("user", "event_time", "kind", "item", "quantity", "duration_s", "order_id")
    assert [found[name] for name in same] == [getattr(shipped, name) for name in same]
    assert found["value"] == "quantity::numeric * price::numeric"
    load_map = LoadMap.from_text(guess.map_text(), tmp_path / "map.yaml")
    result = load(db, path, load_map, dry_run=True)
    assert result.loaded == result.read > 100
