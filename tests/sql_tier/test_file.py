"""The file: run by psql, run again, where there is something already; what it refuses; how large it is."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql
import pytest
from typer.testing import CliRunner

from tests.api.helpers import ODD_KINDS, Connection, insert, odd_events, packed_rows, register, tiny_model
from tests.fix_database import Database
from tests.lint import spots
from tests.sql_tier.helpers import OWNER, copy_events, move, owner, stored
from ubp_sql.cli.main import app
from ubp_sql.cli.sql_tier import exported, sql_of
from ubp_sql.embedded.binaries import find_binaries
from ubp_sql.errors import NoModelDeployed, UnknownTask, UnsupportedModel
from ubp_sql.export.tier import file_of

AS_OF = datetime(2024, 4, 1, tzinfo=UTC)
HOSTILE = ["it's", '"; drop table ubp.events; --', "$ubp$ \\ $ubp1$", "ünïcode ☕"]


def with_tasks(conn: Connection, *tasks: str, kinds: tuple[str, ...] = ("view",)) -> None:
    """Tasks over the standard set of these kinds, each with a model that answers."""
    conn.execute("select ubp.define_feature_set('default', %s, array[7, 30])", [list(kinds)])
    names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
    for seed, task in enumerate(tasks):
        conn.execute("select ubp.define_task(%s, %s)", [task, kinds[0]])
        register(conn, task, tiny_model(names, seed))
        conn.execute("select ubp.deploy_model(%s)", [task])


def psql(database: Database, file: Path) -> subprocess.CompletedProcess[str]:
    options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), f"{database.dsn} user={OWNER}"]
    command = [str(find_binaries().bindir / "psql"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_from_the_command_line_to_psql(db: Database, tier: Database, tmp_path: Path) -> None:
    with db.connect() as conn:
        with_tasks(conn, "buy")
        insert(conn, odd_events())
    file = tmp_path / "buy.sql"
    command = ["model", "export", "buy", "--sql", "--out", str(file), "--dsn", db.dsn]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "warning" not in done.output
    for _ in range(2):
        ran = psql(tier, file)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    with owner(tier) as conn:
        assert conn.execute("select task, version, deployed from ubp.models").fetchall() == [("buy", 1, True)]
        assert conn.execute("select count(*) from pg_proc p join pg_language l on l.oid = p.prolang where lanname = 'c'"
                            " and pronamespace = 'ubp'::regnamespace").fetchone() == (0,)  # fmt: skip
        conn.execute("drop schema ubp cascade")
    done = CliRunner().invoke(app, ["model", "export", "buy", "--out", str(file), "--dsn", db.dsn])
    assert done.exit_code != 0
    assert "version" in done.output
    with db.connect() as conn:
        names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
        register(conn, "buy", tiny_model(names, 5))
        conn.execute("select ubp.set_abstention('buy', 3), ubp.challenge_model('buy', 2, 0.5)")
        conn.execute("create table public.visits (who bigint, at timestamptz)")
        conn.execute("select ubp.attach_source('public.visits', 'who', 'at', '''view''')")
        conn.execute("insert into ubp.users (user_key) values ('ann'), ('anna')")
        conn.execute("select ubp.link_users('ann', 'anna')")
    said = CliRunner().invoke(app, command).output
    for word in ("linked", "abstains", "challenger", "attached"):
        assert f"{word} " in said
    with db.connect() as conn:
        conn.execute("select ubp.set_abstention('buy', null)")
    assert "abstains" not in CliRunner().invoke(app, command).output


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(db: Database, tier: Database, name: str) -> None:
    """Kinds, attributes, sets, sources and tasks that would end a literal, a name, a body or a comment."""
    with db.connect() as conn, owner(tier) as other:
        conn.execute("insert into ubp.sources (name) values (%s)", [name])
        conn.execute("select ubp.define_event_column('odd', %s, 'number')", [name])
        conn.execute("select ubp.define_feature('odd_sum', 'sum', %s, 'odd', '30d')", [[*ODD_KINDS]])
        conn.execute("select ubp.define_feature('so_far', 'count', %s)", [[ODD_KINDS[1]]])
        where = '{"where": {"odd": {"min": 1}}}'
        conn.execute("select ubp.define_feature('odd', 'count', %s, settings => %s)", [[*ODD_KINDS], where])
        conn.execute("select ubp.define_task('buy', %s)", [ODD_KINDS[1]])
        register(conn, "buy", tiny_model(["odd_sum", "so_far", "odd"]))
        conn.execute("select ubp.deploy_model('buy')")
        insert(conn, odd_events())
        conn.execute("update ubp.events set attributes = jsonb_build_object(%s::text, event_id %% 7)", [name])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        named = exported(conn, "buy", None)._replace(task=name, meaning=name, feature_set=name)
        other.execute(file_of(named).encode())
        copy_events(conn, other)
        other.execute("select * from ubp.refresh_features(%s, %s)", [AS_OF, name])
        assert other.execute("select name from ubp.sources where source_id > 0").fetchall() == [(name,)]
        ours, theirs = packed_rows(conn), stored(other, name)
        assert ours.keys() == theirs.keys()
        assert all(list(map(float, row)) == list(map(float, theirs[user])) for user, row in ours.items())
        asked = "select u, ubp.{}(u) from generate_series(1::bigint, 12) u"
        found = [
            session.execute(psycopg.sql.SQL(asked).format(psycopg.sql.Identifier(f"predict_{task}"))).fetchall()
            for session, task in ((conn, "buy"), (other, name))
        ]
        assert found[0] == found[1]


def test_two_tasks_and_a_new_version(db: Database, tier: Database) -> None:
    with db.connect() as conn, owner(tier) as other:
        with_tasks(conn, "buy", "visit")
        insert(conn, [event._replace(kind="view") for event in odd_events()])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        move(conn, other, "buy", "visit")
        other.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
        register(conn, "buy", tiny_model(names, 9))
        before = other.execute("select ubp.predict_buy(3), ubp.predict_visit(3)").fetchone()
        other.execute(sql_of(conn, "buy", 2).encode())
        assert other.execute("select as_of from ubp.feature_sets").fetchone() == (AS_OF,), "the same set keeps its rows"
        conn.execute("select ubp.deploy_model('buy', 2)")
        for query in (
            "select ubp.predict_buy(3), ubp.predict_visit(3)",
            "select ubp.score('buy', array_fill(1.0, array[%s]), 1)",
        ):
            query = query % len(names) if "%s" in query else query
            assert other.execute(query.encode()).fetchone() == conn.execute(query.encode()).fetchone()
        assert before is not None
        assert other.execute("select ubp.predict_buy(3)").fetchone() != before[:1]
        assert other.execute("select count(*) from ubp.models").fetchone() == (3,)


def test_another_set_of_the_same_name_takes_its_rows_away(db: Database, tier: Database) -> None:
    with db.connect() as conn, owner(tier) as other:
        with_tasks(conn, "buy")
        insert(conn, [event._replace(kind="view") for event in odd_events()])
        move(conn, other, "buy")
        other.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        other.execute("update ubp.feature_sets set hash = 'an older definition'")
        other.execute(sql_of(conn, "buy", None).encode())
        assert other.execute("select as_of from ubp.feature_sets").fetchone() == (None,)
        assert stored(other) == {}
        assert other.execute("select reason from ubp.predict_detail('buy', 3)").fetchone() != (None,)


def test_events_of_ones_own(db: Database, tier: Database) -> None:
    """ubp.events may be a view, made before; one that lacks a column is refused, and nothing is left behind."""
    with db.connect() as conn, owner(tier) as other:
        with_tasks(conn, "buy")
        insert(conn, [event._replace(kind="view") for event in odd_events()])
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        file = sql_of(conn, "buy", None).encode()
        other.execute("create schema ubp")
        other.execute("create view ubp.events as select 1 as event_id, 'view' as kind")
        with pytest.raises(psycopg.Error) as caught:
            other.execute(file)
        assert caught.value.sqlstate == "UB003"
        assert "user_id" in str(caught.value.diag.message_primary)
        other.execute("rollback")
        assert other.execute("select count(*) from pg_class where relnamespace = 'ubp'::regnamespace").fetchone() == (
            1,
        )
        other.execute("drop view ubp.events")
        other.execute("create table public.log (id bigint, who bigint, at timestamptz, what text)")
        other.execute("""
            create view ubp.events as
            select id as event_id, who as user_id, at as event_time, what as kind, null::bigint as item_id,
                   null::float8 as value, null::real as quantity, null::real as duration_s, null::jsonb as attributes,
                   at as ingested_at, 0 as source from public.log""")
        other.execute(file)
        rows = conn.execute("select event_id, user_id, event_time, kind from ubp.events").fetchall()
        other.cursor().executemany("insert into public.log values (%s, %s, %s, %s)", rows)
        other.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        place = "select position from ubp.feature_catalogue where feature = 'count_view_all'"
        assert other.execute(f"select sum(features[({place})]) from ubp.feature_rows".encode()).fetchone() == (
            sum(event.event_time < AS_OF for event in odd_events()),
        )


def test_a_database_of_the_first_tier_is_left_alone(db: Database) -> None:
    with db.connect() as conn:
        with_tasks(conn, "buy")
        before = conn.execute("select count(*), md5(string_agg(prosrc, '' order by oid)) from pg_proc").fetchone()
        with pytest.raises(psycopg.Error, match="ubp_sql itself") as caught:
            conn.execute(sql_of(conn, "buy", None).encode())
        assert caught.value.sqlstate == "UB011"
        conn.execute("rollback")
        assert (
            conn.execute("select count(*), md5(string_agg(prosrc, '' order by oid)) from pg_proc").fetchone() == before
        )


def test_objects_of_other_roles_are_not_built_upon(db: Database, tier: Database) -> None:
    """A trigger that another role made would run with the rights of the one that runs the file."""
    with db.connect() as conn, tier.connect() as admin, owner(tier) as other:
        with_tasks(conn, "buy")
        file = sql_of(conn, "buy", None).encode()
        admin.execute(f"create schema ubp authorization {OWNER}".encode())
        theirs = [
            ("table users", "create table ubp.users (user_id bigint, user_key text)", "ubp.users"),
            (
                "function judge",
                "create function ubp.judge(text) returns text language sql as 'select $1'",
                "judge(text)",
            ),
        ]
        for what, create, named in theirs:
            admin.execute(create.encode())
            with pytest.raises(psycopg.Error, match="belongs to postgres, this is tier_owner") as caught:
                other.execute(file)
            assert caught.value.sqlstate == "UB011"
            assert named in str(caught.value.diag.message_primary)
            other.execute("rollback")
            admin.execute(f"drop {what.split()[0]} ubp.{what.split()[1]}".encode())
        with pytest.raises(psycopg.Error, match="schema ubp belongs to tier_owner, this is postgres"):
            admin.execute(file)
        admin.execute("rollback")
        admin.execute(f"set role {OWNER}".encode())
        admin.execute(file)
        other.execute(file)


def test_a_scoring_waits_for_a_refresh(db: Database, tier: Database) -> None:
    """Else it would store scores of newer features than the as_of beside them."""
    with db.connect() as conn, owner(tier) as other, owner(tier) as refresher:
        with_tasks(conn, "buy")
        insert(conn, [event._replace(kind="view") for event in odd_events()])
        move(conn, other, "buy")
        other.execute("select * from ubp.refresh_features('2024-01-01')")
        other.execute("set lock_timeout = '100ms'")
        with refresher.transaction():
            refresher.execute("select * from ubp.refresh_features(%s)", [AS_OF])
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("select * from ubp.score_users('buy')")
        other.execute("select * from ubp.score_users('buy')")
        assert other.execute("select distinct as_of from ubp.user_scores").fetchone() == (AS_OF,)


def test_everything_has_a_comment(db: Database, tier: Database) -> None:
    with db.connect() as conn, owner(tier) as other:
        with_tasks(conn, "buy")
        other.execute(sql_of(conn, "buy", None).encode())
        bare = """
            select c.relname from pg_class c
             where c.relnamespace = 'ubp'::regnamespace and c.relkind = 'r'
               and obj_description(c.oid, 'pg_class') is null
            union all
            select p.oid::regprocedure::text from pg_proc p
             where p.pronamespace = 'ubp'::regnamespace and obj_description(p.oid, 'pg_proc') is null"""
        assert other.execute(bare).fetchall() == []


def test_refusals_name_each_feature(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("select ubp.define_feature('so_far', 'count', array['view'])")
        conn.execute("select ubp.define_feature('so_far_rank', 'percentile', of => 'so_far')")
        conn.execute("select ubp.define_feature('seen', 'item_popularity', array['view'], \"window\" => '7d')")
        conn.execute("select ubp.define_event_column('price', 'price', 'number', of => 'item')")
        conn.execute("select ubp.define_feature('price_seen', 'mean', array['view'], 'price')")
        conn.execute("select ubp.define_task('buy', 'view')")
        names = ["so_far", "so_far_rank", "seen", "price_seen"]
        register(conn, "buy", tiny_model(names))
        with pytest.raises(NoModelDeployed):
            sql_of(conn, "buy", None)
        with pytest.raises(NoModelDeployed):
            sql_of(conn, "buy", 2)
        with pytest.raises(UnknownTask):
            sql_of(conn, "nothing", None)
        with pytest.raises(UnsupportedModel) as caught:
            sql_of(conn, "buy", 1)
    message = str(caught.value)
    assert message.startswith("3 of 4 features have no form in SQL")
    for name in names[1:]:
        assert f"{name} (" in message
    assert "so_far (" not in message
    assert caught.value.hint


def test_it_is_small(db: Database) -> None:
    """100 trees of 31 leaves: far below 2 MB."""
    import lightgbm
    import numpy as np

    with db.connect() as conn:
        with_tasks(conn, kinds=("purchase",))
        names = [name for (name,) in conn.execute("select feature from ubp.feature_catalogue order by position")]
        rng = np.random.default_rng(3)
        rows = rng.gamma(1, 5, (2_000, len(names))).astype(np.float32)
        labels = (rows[:, :5].sum(1) + rng.normal(0, 9, 2_000) > 25).astype(int)
        chosen: dict[str, Any] = {
            "objective": "binary",
            "num_leaves": 31,
            "verbosity": -1,
            "num_threads": 1,
            "max_bin": 15,
        }
        model = lightgbm.train(chosen, lightgbm.Dataset(rows, labels, feature_name=names), num_boost_round=100)
        conn.execute("select ubp.define_task('buy', 'purchase')")
        register(conn, "buy", model)
        text = sql_of(conn, "buy", 1)
    assert text.count("s := s + case") == 100
    assert text.count("::float8 end") > 1_500
    assert len(text.encode()) < 1_000_000


def test_pgspot_has_nothing_to_say(db: Database) -> None:
    with db.connect() as conn:
        with_tasks(conn, "buy")
        conn.execute("set role ubp_auditor")  # who may read everything and change nothing
        text = sql_of(conn, "buy", 1)
    assert spots.of_text("buy.sql", text) == []
    assert spots.of_text("buy.sql", text.replace(" set search_path = pg_catalog, pg_temp\nas", "\nas")) != []
