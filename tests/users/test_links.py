"""Keys that are one user: everything is as if his events had always had one id, and undoing leaves no trace."""

import threading
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.helpers import refused
from tests.fix_database import Database
from tests.users.helpers import AS_OF, INTEGERS, TEXTS, answers, link, live, member, refresh, stored, unlink
from ubp_sql.api.links import members

EVERYBODY = "select array_agg(distinct user_id order by user_id) from ubp.events"
MATRIX = "select user_ids, labels, weights, features from ubp.training_matrix('purchase', array[%s::timestamptz])"
CUT = "2025-05-20 00:00+00"


def test_a_link_that_is_undone_was_never_made(keyed: Database) -> None:
    with keyed.connect() as conn:
        refresh(conn)
        users = keyed.one(EVERYBODY)
        before = stored(conn), live(conn, users), conn.execute(MATRIX, [CUT], binary=True).fetchall()
        ann, work = member(conn, "ann@home"), member(conn, "ann@work")
        assert link(conn, "ann@home", "ann@work") == ann
        assert link(conn, "17850", "ann@home") == 17850
        refresh(conn)
        assert {row[0] for row in stored(conn)} == {row[0] for row in before[0]} - {ann, work}
        assert unlink(conn, "ann@home", "17850") == 17850  # either way round
        assert unlink(conn, "ann@home", "ann@work") == work
        refresh(conn)
        after = stored(conn), live(conn, users), conn.execute(MATRIX, [CUT], binary=True).fetchall()
        assert after == before
        assert keyed.one("select count(*) from ubp.user_members") == 0
        assert keyed.one("select count(*) from ubp.user_links where unlinked_at is null or unlinked_by is null") == 0


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_linked_user_is_one_of_all_their_events(
    keyed: Database, keyed_template: Database, cluster: object, mirrored: bool
) -> None:
    """The same as events that had his id from the beginning: stored, live, training rows."""
    from tests.fix_database import create, drop

    other = create(keyed.cluster, keyed_template.name)
    try:
        with keyed.connect() as conn, other.connect() as whole:
            if not mirrored:
                for each in (conn, whole):
                    each.execute("select ubp.drop_mirror()")
            link(conn, "17850", "ann@home")
            link(conn, "3", "4")
            link(conn, "ann@home", "3")
            ids = [member(conn, key) for key in ("ann@home", "3", "4")]
            whole.execute("update ubp.events set user_id = 17850 where user_id = any (%s)", [ids])
            for each in (conn, whole):
                refresh(each)
            users = keyed.one(EVERYBODY)
            assert stored(conn) == stored(whole)
            assert keyed.one("select count(*) from ubp.feature_rows where user_id = any (%s)", ids) == 0
            single = live(conn, users)
            assert {single.pop(user) == single[17850] for user in ids} == {True}, "who asks for a member is told of him"
            assert single == live(whole, single)
            both = [each.execute(MATRIX, [CUT], binary=True).fetchall() for each in (conn, whole)]
            assert both[0] == both[1]
            parity = dict(conn.execute("select what, users from ubp.parity_check(400)").fetchall())
            assert parity == {"equal": keyed.one("select count(*) from ubp.feature_rows"), "differing": 0, "pending": 0}
    finally:
        drop(other)


def test_live_answers_know_of_a_link_at_once_and_stored_ones_with_the_next_refresh(keyed: Database) -> None:
    count = "select value from ubp.features(%s::bigint{}) where feature = 'count_view_all'"
    now, at = count.format(""), count.format(", '2025-07-01 00:00+00'")
    with keyed.connect() as conn:
        one, other = member(conn, "17850"), member(conn, "bob")
        each = {user: keyed.one(now, user) for user in (one, other)}
        link(conn, "17850", "bob")
        assert {user: keyed.one(now, user) for user in each} == each
        assert {keyed.one(at, user) for user in each} == {sum(each.values())}
        refresh(conn)
        assert {keyed.one(now, user) for user in each} == {sum(each.values())}


def test_a_link_while_a_refresh_takes_its_steps(keyed: Database) -> None:
    """The job may still store a row for the member; what is pending then settles it."""
    with keyed.connect() as conn:
        conn.execute("update ubp.feature_sets set stale = true")
        job = conn.execute("select ubp.start_refresh(%s)", [AS_OF]).fetchone()
        link(conn, "17850", "bob")
        state = "running"
        while state == "running":
            row = conn.execute("select state from ubp.refresh_step(%s)", job).fetchone()
            state = row[0] if row else "none"
        refresh(conn)
        bob = member(conn, "bob")
        assert keyed.one("select count(*) from ubp.feature_rows where user_id = %s", bob) == 0
        users = keyed.one("select array_agg(user_id) from ubp.feature_rows")
        parity = dict(conn.execute("select what, users from ubp.parity_check(400)").fetchall())
        assert parity == {"equal": len(users), "differing": 0, "pending": 0}


@pytest.mark.parametrize("challenged", [False, True])
def test_every_function_says_of_a_member_what_it_says_of_his_user(keyed: Database, challenged: bool) -> None:
    with keyed.connect() as conn:
        if challenged:
            conn.execute("select ubp.challenge_model('purchase', 2, 0.5)")
        pairs = [("17850", "ann@home"), ("ann@home", "ann@work"), ("bob", "7"), ("8", "9")]
        for pair in pairs:
            link(conn, *pair)
        refresh(conn)
        conn.execute("select * from ubp.score_users('purchase')")
        for user, key in (("17850", "ann@home"), ("17850", "ann@work"), ("bob", "7"), ("8", "9")):
            assert answers(conn, member(conn, key)) == answers(conn, member(conn, user)), key
            assert keyed.one("select ubp.resolve_user(%s)", key) == member(conn, user)
            assert keyed.one("select ubp.predict('purchase', %s)", key) == keyed.one(
                "select ubp.predict('purchase', %s)", user
            )
        unknown = answers(conn, 999_999)
        assert answers(conn, member(conn, "7")) != unknown
        assert keyed.one("select count(*) from ubp.user_scores where user_id = any (%s)", [7, 9]) == 0


@pytest.mark.parametrize("challenged", [False, True])
def test_a_scan_says_what_single_calls_say(keyed: Database, challenged: bool) -> None:
    """Members among known and unknown users, up, down and in no order: rows are read ahead, and a member has none."""
    order = {"up": "u", "down": "u desc", "mixed": "hashint8(u)"}
    scan = "select u, ubp.predict('purchase', u) from (select u from generate_series(-9::bigint, 60) u order by {}) x"
    with keyed.connect() as conn:
        if challenged:
            conn.execute("select ubp.challenge_model('purchase', 2, 0.5)")
        for pair in (("17850", "3"), ("5", "11"), ("5", "12"), ("bob", "20")):
            link(conn, *pair)
        refresh(conn)
        said = dict(
            conn.execute(
                "select user_id, score from ubp.predict_many('purchase', array(select generate_series(-9, 60)))"
            ).fetchall()
        )
        assert said[3] == keyed.one("select ubp.predict('purchase', 17850)") is not None
        assert said[11] == said[12] == said[5] is not None
        for by in order.values():
            assert dict(conn.execute(scan.format(by).encode()).fetchall()) == said
        unlink(conn, "17850", "3")  # the session has seen links, and sees that this one is gone
        refresh(conn)
        fresh = keyed.one("select ubp.predict('purchase', 3)")
        assert conn.execute("select ubp.predict('purchase', 3)").fetchone() == (fresh,)


def test_the_reason_names_the_user(keyed: Database) -> None:
    with keyed.connect() as conn:
        conn.execute("insert into ubp.users (user_id, user_key) values (90, '90'), (91, '91')")
        link(conn, "90", "91")
        refresh(conn)
    reasons = keyed.rows("select user_id, reason from ubp.predict_many('purchase', array[90, 91])")
    detail = keyed.rows("select reason from ubp.predict_detail('purchase', 91)")
    assert reasons[0]["reason"].startswith("no features")
    assert reasons[1]["reason"] == detail[0]["reason"] == f"linked to user 90: {reasons[0]['reason']}"


REFUSED = [
    ("nobody", "bob", "no user has the key 'nobody'"),
    ("bob", "", "no user has the key ''"),
    ("bob", "   ", "no user has the key"),
    ("bob", "99999", "no user has the key '99999'"),
    ("bob", "9" * 400, "no user has the key"),
    ("bob", "-1", "no user has the key '-1'"),
    ("bob", None, "a key is NULL"),
    ("bob", " bob ", "the same key"),
    ("17850", "17850.00", "the same key"),
]


@pytest.mark.parametrize(("key", "other", "message"), REFUSED)
def test_what_cannot_be_linked(keyed_template: Database, key: str, other: str | None, message: str) -> None:
    with keyed_template.connect() as conn:
        for function in ("link_users", "unlink_users"):
            for keys in ((key, other), (other, key)):
                error = refused(conn, "UB003", f"select ubp.{function}(%s, %s)", *keys)
                assert function == "unlink_users" or message in str(error.diag.message_primary)
        assert keyed_template.one("select count(*) from ubp.user_links") == 0


def test_a_circle_is_refused_and_the_same_link_changes_nothing(keyed: Database) -> None:
    with keyed.connect() as conn:
        link(conn, "1", "2")
        link(conn, "2", "3")
        for keys in (("2", "1"), ("1", "3"), ("3", "1")):
            assert "circle" in str(refused(conn, "UB003", "select ubp.link_users(%s, %s)", *keys))
        logged = keyed.one("select count(*) from ubp.event_log")
        assert link(conn, " 2", "3.0") == 1
        assert keyed.one("select count(*) from ubp.event_log") == logged
        error = refused(conn, "UB003", "select ubp.unlink_users('1', '3')")
        assert "'1' with '2', '2' with '3'" in str(error.diag.message_hint)
        unlink(conn, "1", "2")
        assert link(conn, "3", "1") == 2, "another tree"
        assert keyed.rows("select member_id, user_id from ubp.user_members order by 1") == [
            {"member_id": 1, "user_id": 2},
            {"member_id": 3, "user_id": 2},
        ]


def test_two_at_once_make_no_circle(keyed: Database) -> None:
    with keyed.connect() as first, keyed.connect() as second:
        first.execute("begin")
        link(first, "1", "2")
        caught: list[BaseException] = []

        def other() -> None:
            try:
                link(second, "2", "1")
            except psycopg.Error as error:
                caught.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "waits for the first"
        first.execute("commit")
        thread.join(10)
        assert "circle" in str(caught[0])
    with keyed.connect() as conn:
        conn.execute("begin isolation level repeatable read")
        assert "READ COMMITTED" in str(refused(conn, "UB003", "select ubp.link_users('4', '5')"))


def reference(links: list[tuple[int, int]]) -> dict[int, int]:
    """Who is whose, by colouring everybody anew at each link."""
    colour = {user: user for pair in links for user in pair}
    for first, other in links:
        old, new = colour[other], colour[first]
        colour = {user: new if was == old else was for user, was in colour.items()}
    return {user: whose for user, whose in colour.items() if user != whose}


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=14))
def test_members_follow_from_links(pairs: list[tuple[int, int]]) -> None:
    forest: list[tuple[int, int]] = []
    for first, other in pairs:
        whose = reference(forest)
        if whose.get(first, first) != whose.get(other, other):
            forest.append((first, other))
    assert members(forest) == reference(forest)


def attempt(conn: psycopg.Connection[Any], function: str, *keys: str) -> Any:
    """What the function returns, or the SQLSTATE of its error."""
    try:
        with conn.transaction():
            row = conn.execute(f"select ubp.{function}(%s, %s)".encode(), keys).fetchone()
            return row and row[0]
    except psycopg.Error as error:
        return error.sqlstate


STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 7), st.integers(1, 7)), min_size=4, max_size=14)


@settings(max_examples=8, deadline=None)
@given(STEPS)
def test_any_links_and_unlinks(keyed_template: Database, steps: list[tuple[bool, int, int]]) -> None:
    """The table is at every moment what the links that hold make of it; all that happens is rolled back."""
    held: list[tuple[int, int]] = []
    with keyed_template.connect() as conn, conn.transaction(force_rollback=True):
        for linking, first, other in steps:
            whose = reference(held)
            function = "link_users" if linking else "unlink_users"
            said = attempt(conn, function, str(first), str(other))
            if said == "UB003":
                if linking:
                    assert whose.get(first, first) == whose.get(other, other)
                else:
                    assert first == other or {(first, other), (other, first)}.isdisjoint(held)
                continue
            if linking and (first, other) not in held:
                held.append((first, other))
            elif not linking:
                held = [pair for pair in held if set(pair) != {first, other}]
            whose = reference(held)
            assert said == whose.get(other, other)
            assert dict(conn.execute("select member_id, user_id from ubp.user_members").fetchall()) == whose


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30), st.booleans())
def test_any_text_is_a_key_or_is_refused(keyed_template: Database, key: str, linking: bool) -> None:
    with keyed_template.connect() as conn, conn.transaction(force_rollback=True):
        function = "link_users" if linking else "unlink_users"
        said = attempt(conn, function, "bob", key)
        assert said == "UB003" or (linking and key.strip().partition(".")[0] in INTEGERS + TEXTS)


def test_a_downgrade_makes_everybody_himself_again(keyed: Database) -> None:
    from ubp_sql.install import commands

    with keyed.connect() as conn:
        before = stored(conn)
        link(conn, "17850", "bob")
        refresh(conn)
        commands.downgrade(conn, "0013", run=True)
        assert keyed.one("select count(*) from ubp.user_members") == 0
        commands.apply(conn)
        conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
        assert [row[:2] for row in stored(conn)] == [row[:2] for row in before]
