"""The real files beside the checkout: counts that are known from elsewhere."""

from pathlib import Path

import pytest

from tests.fix_database import DATA, Database
from tests.sources.loading import load
from ubp_sql.sources.load_map import LoadMap
from ubp_sql.sources.simulator import simulate


def test_online_retail(db: Database, online_retail: Path) -> None:
    load_map = LoadMap.from_file("online_retail")
    result = load(db, online_retail, load_map)
    assert (result.read, result.loaded, result.rejected, result.already) == (541_909, 406_829, 135_080, 0)
    assert result.rejected_by_reason == {"no user key": 135_080}
    kinds = db.rows("select kind, count(*) as n from ubp.events group by kind order by kind")
    assert {row["kind"]: row["n"] for row in kinds} == {"adjustment": 40, "cancel": 8_905, "purchase": 397_884}
    buyers = "select count(distinct user_id) from ubp.events where kind = 'purchase' and event_time < %s"
    cuts = ("2011-09-01 00:00+00", "2011-10-01 00:00+00", "2011-11-09 00:00+00")
    assert [db.one(buyers, cut) for cut in cuts] == [3_317, 3_616, 4_067]
    assert db.one("select count(*) from only ubp.events_default") == 0
    assert db.rows("select user_keys, item_keys from ubp.sources where name = 'online_retail'") == [
        {"user_keys": "integer", "item_keys": "text"}
    ]
    first = db.rows(
        "select e.user_id, e.event_time::text as at, e.kind, e.value, e.quantity, i.item_key,"
        " e.attributes->>'order_id' as order_id, e.ingested_at = e.event_time as then"
        " from ubp.events e join ubp.items i using (item_id) order by event_id limit 1"
    )
    assert first == [
        {
            "user_id": 17850, "at": "2010-12-01 08:26:00+00", "kind": "purchase", "value": 15.3, "quantity": 6.0,
            "item_key": "85123A", "order_id": "536365", "then": True,
        }
    ]  # fmt: skip
    assert db.rows("select line, raw from ubp.rejected_events order by line limit 1") == [
        {"line": 624, "raw": "536414,22139,,56,2010-12-01 11:52:00,0.0,,United Kingdom"}
    ]
    again = load(db, online_retail, load_map)
    assert (again.read, again.loaded, again.rejected, again.already) == (541_909, 0, 135_080, 406_829)
    assert db.one("select count(*) from ubp.events") == 406_829
    assert db.one("select count(*) from ubp.rejected_events") == 135_080


def test_otto_sample(db: Database) -> None:
    path = DATA / "otto_sample.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the checkout")
    result = load(db, path, LoadMap.from_file("otto"))
    assert (result.read, result.loaded, result.rejected) == (862, 862, 0)
    kinds = db.rows("select kind, count(*) as n from ubp.events group by kind order by kind")
    assert {row["kind"]: row["n"] for row in kinds} == {"cart": 52, "purchase": 10, "view": 800}
    first = db.rows("select user_id, item_id, kind, event_time from ubp.events order by event_id limit 1")[0]
    assert (first["user_id"], first["item_id"], first["kind"]) == (0, 1_517_085, "view")
    assert first["event_time"].timestamp() == 1659304800.025
    assert load(db, path, LoadMap.from_file("otto")).already == 862


def test_simulated_shop(db: Database, tmp_path: Path) -> None:
    made = simulate(tmp_path / "shop", users=60, days=90, seed=3)
    result = load(db, made.events, LoadMap.from_file("simulated_shop"))
    assert (result.read, result.loaded, result.rejected) == (made.event_count, made.event_count, 0)
    assert db.one("select user_keys from ubp.sources where name = 'simulated_shop'")
    assert (
        db.one("select count(*) from ubp.events where kind = 'purchase' and value > 0 and attributes ? 'order_id'") > 0
    )
    assert db.one("select bool_and(attributes ? 'search_text') from ubp.events where kind = 'search'")
