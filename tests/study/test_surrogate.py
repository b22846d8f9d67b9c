"""LIME: on models whose slopes are known, on ones that no line fits, and through SQL."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.api.helpers import Connection, feature_names, packed_rows, refused
from tests.fix_database import Database
from tests.study.conftest import FORMS, LINEAR
from ubp_sql.errors import UnsupportedModel
from ubp_sql.models.linear import open_linear
from ubp_sql.models.surrogate import surrogate

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
AGEING = ("days_", "tenure", "overdue")
TYPICAL = "select feature, typical from ubp.feature_importance where version = %s"
ASKED = "select * from ubp.explain_surrogate('purchase', %s::bigint, %s)"


def nothing() -> None:
    pass


def background(f: int, seed: int = 1) -> F32:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.integers(-3, 4, f)
    return (rng.normal(2, 1, (300, f)) * scales).astype(np.float32)


@pytest.mark.parametrize("f", [1, 7, 1500])
def test_a_linear_model_is_found_again(f: int) -> None:
    rows = background(f)
    weights = np.random.default_rng(2).normal(size=f) / rows.std(axis=0)
    found = surrogate(lambda given: given.astype(np.float64) @ weights + 3, rows[0], rows[1:], 0, nothing)
    if f > 1000:  # more features than rows: a ridge finds the direction, not each slope
        assert np.corrcoef(found.weights * rows.std(axis=0), weights * rows.std(axis=0))[0, 1] > 0.3
        return
    assert found.fidelity > 0.99
    assert found.weights == pytest.approx(weights, rel=0.1, abs=0.02 * np.abs(weights).max())


def test_slopes_are_those_near_the_row() -> None:
    """Of 1 / (1 + exp(-x)): steep at 0, flat far out; and a feature that does nothing has none."""
    rows = np.random.default_rng(5).normal(0, 4, (400, 3)).astype(np.float32)

    def scores(given: F32) -> F64:
        return 1 / (1 + np.exp(-given[:, 0].astype(np.float64)))

    steep, flat = (surrogate(scores, np.array([x, 0, 0], np.float32), rows, 0, nothing).weights for x in (0, 12))
    assert steep[0] > 1.5 * flat[0] > 0
    assert np.abs(steep[1:]).max() < 0.1 * steep[0]


def test_fidelity_is_low_where_no_line_fits() -> None:
    rows = np.random.default_rng(6).normal(size=(400, 4)).astype(np.float32)
    row = np.zeros(4, np.float32)
    bent = surrogate(lambda given: np.sin(40.0 * given[:, 0]) * np.sign(given[:, 1]), row, rows, 0, nothing)
    assert bent.fidelity < 0.1
    assert surrogate(lambda given: np.full(len(given), 0.25), row, rows, 0, nothing).fidelity == 1.0


def test_missing_infinite_and_equal_features() -> None:
    rows = background(6)
    rows[:, 1] = math.nan
    rows[::2, 2] = math.nan
    rows[:, 3] = 7.0
    rows[5, 4] = math.inf
    row = rows[0].copy()
    row[1] = 3.0
    scores = lambda given: np.nan_to_num(given[:, 5].astype(np.float64))  # noqa: E731
    found = surrogate(scores, row, rows, 0, nothing)
    assert np.isfinite(found.weights).all()
    assert found.weights[[1, 3, 4]].tolist() == [0.0, 0.0, 0.0]
    assert found.fidelity > 0.9


def test_the_same_seed_gives_the_same() -> None:
    rows = background(5)
    scores = lambda given: np.tanh(given.sum(axis=1, dtype=np.float64))  # noqa: E731
    one, again, other = (surrogate(scores, rows[0], rows[1:], seed, nothing) for seed in (3, 3, 4))
    assert one.fidelity == again.fidelity != other.fidelity
    assert (one.weights == again.weights).all()


def test_no_number_is_an_error() -> None:
    with pytest.raises(UnsupportedModel, match="no number"):
        surrogate(lambda given: np.full(len(given), math.nan), background(3)[0], background(3), 0, nothing)


def deployed(conn: Connection, version: int) -> None:
    conn.execute("select ubp.deploy_model('purchase', %s)", [version])


@pytest.mark.parametrize("form", FORMS)
def test_in_sql(forms: Database, form: str) -> None:
    names = feature_names(forms)
    with forms.connect() as conn:
        deployed(conn, FORMS[form])
        notices: list[str] = []
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        rows = conn.execute(ASKED, [11, 6]).fetchall()
        stored = packed_rows(conn)[11]
        typical = dict(conn.execute(TYPICAL, [FORMS[form]]).fetchall())
        assert rows == conn.execute(ASKED, [11, 6]).fetchall()
        key = "select * from ubp.explain_surrogate('purchase', '11'::text, 6)"
        assert rows == conn.execute(key.encode()).fetchall()
    assert [row[0] for row in rows] == list(range(1, 7))
    assert len({row[6] for row in rows}) == 1
    assert any("linear model explains" in line for line in notices) == (rows[0][6] < 0.5)
    for _, name, value, usual, weight, effect, _ in rows:
        assert usual == typical[name]
        own = stored[names.index(name)]
        assert value is None if np.isnan(own) else np.float32(value) == own or name.startswith(AGEING)
        expected = None if value is None or usual is None else weight * (value - usual)
        assert effect == (None if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-12))
    sizes = [abs(row[5] or 0.0) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_of_a_linear_model_the_slopes_have_its_signs(forms: Database) -> None:
    with forms.connect() as conn:
        deployed(conn, LINEAR)
        rows = conn.execute(ASKED, [11, 3]).fetchall()
    model = open_linear(bytes(forms.one("select compiled from ubp.models where version = %s", LINEAR)))
    weights = dict(zip(feature_names(forms), model.weight, strict=True))
    assert rows[0][6] > 0.9
    for _, name, _, _, weight, effect, _ in rows:
        if abs(effect) > 1e-3:
            assert weight * weights[name] > 0


def test_nobody_and_too_little(studied_shop: Database) -> None:
    with studied_shop.connect() as conn:
        notices: list[str] = []
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        for user in (10, -7, None):
            assert conn.execute(ASKED, [user, 5]).fetchall() == []
        assert conn.execute("select * from ubp.explain_surrogate('purchase', 'nobody'::text)").fetchall() == []
    assert len(notices) == 4
    assert all(line.startswith("no score to explain: ") for line in notices)


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("'no_task', 1::bigint", "UB001"),
        ("null, 1::bigint", "UB001"),
        ("'purchase', 1::bigint, 0", "UB003"),
        ("'purchase', 1::bigint, null", "UB003"),
        ("'purchase', 1::bigint, -3", "UB003"),
    ],
)
def test_refusals(studied_shop: Database, call: str, sqlstate: str) -> None:
    with studied_shop.connect() as conn:
        assert refused(conn, sqlstate, f"select * from ubp.explain_surrogate({call})").diag.message_hint


def test_not_studied(forms: Database) -> None:
    forms.execute("delete from ubp.model_backgrounds where model_id = 1")
    with forms.connect() as conn:
        error = refused(conn, "UB005", "select * from ubp.explain_surrogate('purchase', 11::bigint)")
        assert "ubp-sql model study purchase" in str(error.diag.message_hint)
        conn.execute("select ubp.study_model('purchase', 1, 30)")
        assert conn.execute(ASKED, [11, 5]).fetchall()


def test_a_new_study_counts_at_once(forms: Database) -> None:
    with forms.connect() as conn:
        before = conn.execute(ASKED, [11, 5]).fetchall()
        conn.execute("select ubp.study_model('purchase', 1, 12)")
        other = conn.execute(ASKED, [11, 5]).fetchall()
        assert other != before
        with conn.transaction(force_rollback=True):
            conn.execute("select ubp.study_model('purchase', 1, 200)")
            assert conn.execute(ASKED, [11, 5]).fetchall() == before
        assert conn.execute(ASKED, [11, 5]).fetchall() == other


def test_more_than_there_are(studied_shop: Database) -> None:
    with studied_shop.connect() as conn:
        assert len(conn.execute(ASKED, [11, 10_000]).fetchall()) == len(feature_names(studied_shop))


def test_who_may_ask(studied_shop: Database) -> None:
    with studied_shop.connect() as conn:
        for role in ("ubp_analyst", "ubp_loader", "ubp_auditor", "ubp_admin"):
            conn.execute(f"set role {role}".encode())
            assert conn.execute(ASKED, [11, 1]).fetchall()
            conn.execute("reset role")
