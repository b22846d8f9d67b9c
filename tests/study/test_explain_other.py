"""Reasons of models that are not trees: exact of linear ones, sampled of others, the same numbers each time."""

import math

import numpy as np
import pytest

from tests.api.helpers import feature_names, refused
from tests.fix_database import Database
from tests.serving_shop import AS_OF
from tests.study.conftest import FORMS, LINEAR, NETWORK, PREPARED
from tests.study.test_study import loaded, sample
from ubp_sql.models.raw import raw_batch

ASKED = (
    "select rank, feature, value, typical, contribution from ubp.explain('purchase', %s::bigint, 1000) order by rank"
)
ROW = "select ubp.feature_vector(%s::bigint, %s)"
OTHERS = [form for form in FORMS if form != "trees"]


@pytest.mark.parametrize("form", OTHERS)
def test_contributions_sum_to_the_raw_score(forms: Database, form: str) -> None:
    names = feature_names(forms)
    model = loaded(forms, FORMS[form])
    with forms.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [FORMS[form]])
        for user in (11, 12):
            rows = conn.execute(ASKED, [user]).fetchall()
            assert rows == conn.execute(ASKED, [user]).fetchall()
            (found,) = conn.execute(ROW, [user, AS_OF]).fetchall()
            row = np.array(found, np.float32)
            contributions = [row[4] for row in rows]
            raw = raw_batch(model, row)[0]
            assert abs(math.fsum(contributions) - raw) <= 2.0**-50 * max(map(abs, (*contributions, raw)))
            assert rows[0][1] == "(base)"
            assert {row[1] for row in rows[1:]} - {"(others)"} <= set(names)


def test_of_a_linear_model_they_are_exact(forms: Database) -> None:
    names, background = feature_names(forms), sample(forms, LINEAR).astype(np.float64)
    weights = loaded(forms, LINEAR).linear.weight  # type: ignore[attr-defined]
    with forms.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [LINEAR])
        rows = conn.execute(ASKED, [11]).fetchall()
    assert len(rows) > 2
    for _, name, value, _, contribution in rows[1:]:
        i = names.index(name)
        assert contribution == pytest.approx(weights[i] * (value - background[:, i].mean()), abs=1e-12)


def test_a_sum_behind_a_preparation_is_told_by_its_terms(forms: Database) -> None:
    """Drawn at random, yet what each term adds does not depend on the others: off by the choice of others alone."""
    names, background = feature_names(forms), np.nan_to_num(sample(forms, PREPARED)[:100].astype(np.float64))
    weights = loaded(forms, PREPARED).model.linear.weight  # type: ignore[attr-defined]
    with forms.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [PREPARED])
        rows = conn.execute(ASKED, [11]).fetchall()
    for _, name, value, _, contribution in rows[1:-1]:
        i = names.index(name)
        expected = weights[i] * ((0.0 if value is None else value) - background[:, i].mean())
        assert contribution == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_a_study(forms: Database) -> None:
    with forms.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [NETWORK])
        conn.execute(ASKED, [11])  # the session holds the sample
        conn.execute("delete from ubp.model_backgrounds")
        error = refused(conn, "UB005", "select * from ubp.explain('purchase', 11::bigint)")
    assert "ubp.study_model('purchase')" in str(error.diag.message_hint)


def test_a_new_study_counts_at_once(forms: Database) -> None:
    with forms.connect() as conn:
        conn.execute("select ubp.deploy_model('purchase', %s)", [NETWORK])
        before = conn.execute(ASKED, [11]).fetchall()
        conn.execute("select ubp.study_model('purchase', %s, 12)", [NETWORK])
        assert conn.execute(ASKED, [11]).fetchall()[0] != before[0]
