"""What a server process keeps of models: once each, up to a cap, what was used longest ago goes first."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.helpers import Connection, Event, feature_names, insert, refused, register, tiny_model
from tests.fix_database import Database, create, drop
from ubp_sql.api import serving
from ubp_sql.embedded import Cluster
from ubp_sql.errors import BadInput
from ubp_sql.models.blob import compile_forest
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.loaded import ModelCache, TreeModel

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
TASKS = ("purchase", "second", "third")
HELD = "select task, version, bytes from ubp.loaded_models"
COUNTED = """do $$
from ubp_sql.api import serving
def counted(compiled, was=serving.open_model):
    plpy.notice("opened")
    return was(compiled)
serving.open_model = counted
$$ language plpython3u"""


@pytest.fixture(scope="module")
def three(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Three tasks with a deployed model each, and one without."""
    made = create(cluster, installed)
    with made.connect() as conn:
        insert(conn, [Event(u, AS_OF - timedelta(days=u), "purchase", 1, 1.0) for u in range(1, 20)])
        conn.execute("select ubp.define_feature_set('default', array['purchase'], array[7, 30])")
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        for seed, task in enumerate((*TASKS, "bare")):
            conn.execute("select ubp.define_task(%s, 'purchase')", [task])
            if task in TASKS:
                for more in (0, 10):
                    register(conn, task, tiny_model(feature_names(made), seed + more))
                conn.execute("select ubp.deploy_model(%s, 1)", [task])
    yield made
    drop(made)


def opened(conn: Connection) -> list[str]:
    noticed: list[str] = []
    conn.add_notice_handler(lambda notice: noticed.append(str(notice.message_primary)))
    conn.execute(COUNTED)
    return noticed


def test_a_model_once_a_process(three: Database) -> None:
    """Whichever functions ask: each keeps its own memory, the models are the process's."""
    with three.connect() as conn:
        noticed = opened(conn)
        for _ in range(2):
            conn.execute("select ubp.predict_purchase(1), ubp.predict('purchase', '2')")
            conn.execute("select * from ubp.predict_detail('purchase', 3)")
            conn.execute("select ubp.score('purchase', features::float8[], 1) from ubp.feature_rows")
            conn.execute("select * from ubp.score_users('purchase')")
        assert noticed == ["opened"]
        assert [row[:2] for row in conn.execute(HELD)] == [("purchase", 1)]


def test_warm(three: Database) -> None:
    with three.connect(user="postgres") as conn:
        noticed = opened(conn)
        found = conn.execute("select * from ubp.warm('second')").fetchall()
        assert [(task, version) for task, version, _ in found] == [("second", 1)]
        assert found[0][2] > 100
        assert noticed == ["opened"]
        conn.execute("select ubp.predict_second(1)")
        assert noticed == ["opened"]
        found = conn.execute("select warmed from ubp.warm()").fetchall()
        assert found == [("purchase",), ("second",), ("third",)]
        assert len(noticed) == 3
        for task in TASKS:
            conn.execute(f"select ubp.predict_{task}(1)".encode())
        assert len(noticed) == 3
        assert conn.execute("select * from ubp.warm('bare')").fetchall() == []
        refused(conn, "UB001", "select * from ubp.warm('nothing')")


def test_who_may_look(three: Database) -> None:
    with three.connect() as conn:
        conn.execute("set role ubp_analyst")
        conn.execute("select * from ubp.warm('purchase')")
        row = conn.execute(
            "select form, features, outputs, bytes > 100, used_at >= loaded_at, loaded_at > now() - interval '1 minute'"
            "  from ubp.loaded_models"
        ).fetchone()
        assert row == ("trees", len(feature_names(three)), 1, True, True, True)


def test_the_cap(three: Database) -> None:
    with three.connect() as conn:
        noticed = opened(conn)
        conn.execute("set ubp.model_cache = '1kB'")
        expected = {}
        for task in TASKS:
            expected[task] = conn.execute("select ubp.predict(%s, 1)", [task]).fetchone()
            assert [row[0] for row in conn.execute(HELD)] == [task]
        assert len(noticed) == 3
        assert conn.execute("select ubp.predict('purchase', 1)").fetchone() == expected["purchase"]
        assert len(noticed) == 4
        conn.execute("reset ubp.model_cache")
        for task in TASKS:
            assert conn.execute("select ubp.predict(%s, 1)", [task]).fetchone() == expected[task]
        assert [row[0] for row in conn.execute(HELD)] == list(TASKS)
        for _ in range(20):  # in one statement too: rows are read ahead then
            assert conn.execute("select ubp.predict('purchase', 1)").fetchone() == expected["purchase"]
        conn.execute("select sum(ubp.predict('second', u)) from generate_series(1, 19) u")
        assert [row[0] for row in conn.execute(HELD)] == ["third", "purchase", "second"]
        assert len(noticed) == 6
        conn.execute("set ubp.model_cache = '1'")
        conn.execute("select ubp.score('third', array_fill(0::float8, array[%s]), 2)", [len(feature_names(three))])
        assert [row[:2] for row in conn.execute(HELD)] == [("third", 2)]
        for task in TASKS:
            assert conn.execute("select ubp.predict(%s, 1)", [task]).fetchone() == expected[task]


def test_what_was_deployed_before_goes(three: Database) -> None:
    """The model that stays must not hold every challenger that it ever had."""
    with three.connect() as conn:
        for turn in range(12):
            conn.execute("select ubp.challenge_model('purchase', 2, %s)", [0.1 + 0.2 * (turn % 2)])
            conn.execute("select ubp.predict('purchase', 1), (select count(*) from ubp.score_users('purchase'))")
        conn.execute("""do $$
import gc
from ubp_sql.api import serving
kept = [1 for found in gc.get_objects() if type(found) is serving.Deployed]
assert len(kept) <= 4, len(kept)  # champion and challenger, in each of two functions
$$ language plpython3u""")
        conn.execute("select ubp.challenge_model('purchase', 2, 0)")


@pytest.mark.parametrize("setting", ["much", "-1", "1 XB", "12.5MB", "kB", "1e9"])
def test_settings_that_say_nothing(three: Database, setting: str) -> None:
    with three.connect() as conn:
        conn.execute("select set_config('ubp.model_cache', %s, false)", [setting])
        error = refused(conn, "UB003", "select ubp.predict('purchase', 1)")
        assert repr(setting) in str(error.diag.message_primary)
        conn.execute("reset ubp.model_cache")
        assert conn.execute("select ubp.predict('purchase', 1) is null").fetchone() == (False,)


def test_what_a_setting_means() -> None:
    assert serving._cap(None) == serving._cap("") == 64 * 1024**2
    assert serving._cap("3 MB") == serving._cap("3MB") == 3 * 1024**2
    assert serving._cap("7") == 7
    assert serving._cap("2GB") == 2 * 1024**3
    with pytest.raises(BadInput):
        serving._cap("²MB")


def test_handed_in_models_are_held_too(three: Database) -> None:
    blob = compile_forest(parse(tiny_model(feature_names(three), 4).model_to_string().encode()))
    with three.connect() as conn:
        width = len(feature_names(three))
        conn.execute("select ubp.score_blob(%s, array_fill(0::float8, array[%s]))", [blob, width])
        assert conn.execute("select task, form, compiled_sha256 from ubp.loaded_models").fetchall() == [
            (None, "trees", None)
        ]


def test_the_order_of_going() -> None:
    blobs = [compile_forest(parse(tiny_model(["a", "b"], seed).model_to_string().encode())) for seed in range(4)]
    loaded = [TreeModel(blob) for blob in blobs]
    size = max(model.nbytes for model in loaded)
    cache, gone = ModelCache(3 * size), []
    for key, model in enumerate(loaded[:3]):
        cache.add(key, model)
        for _ in range(2):
            cache.hold(key, "who", lambda key=key: gone.append(key))  # type: ignore[misc]
        model.used_at = float(key)
    assert cache.get(0) is loaded[0]
    cache.add(3, loaded[3])
    assert gone == [1]
    assert next(key for key, _ in cache.items()) == 2
    assert cache.nbytes == sum(model.nbytes for _, model in cache.items())
    cache.most_bytes = 0
    cache.add(4, loaded[1])
    assert [key for key, _ in cache.items()] == [4]
    assert cache.get(2) is None
