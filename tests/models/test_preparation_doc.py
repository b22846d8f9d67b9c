"""docs/preparation.md: what it shows works, and its table names every step."""

import json
import re
from pathlib import Path

import lightgbm
import numpy as np

from tests.api.helpers import feature_names
from tests.fix_database import Database
from ubp_sql.models import limits, linear_text
from ubp_sql.models.preparation import MAX_STEPS
from ubp_sql.models.preparation_document import _KINDS, MAX_CATEGORIES, read_preparation
from ubp_sql.training.declared_steps import _OWN, DEFAULT, declared, parse_declared
from ubp_sql.training.prepare import learn

PAGE = (Path(__file__).parents[2] / "docs" / "preparation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_every_step_and_field_is_named() -> None:
    table = PAGE.partition("| step | fields |")[2].partition("\n\n")[0]
    for kind, fields in _OWN.items():
        rows = [line for line in table.splitlines() if line.startswith(f"| `{kind}` |")]
        assert rows, kind
        assert all(f"`{field}" in "".join(rows) for field in fields)
    (document, linear) = blocks("json")
    assert {step["step"] for step in json.loads(document)["steps"]} == set(_KINDS)
    read_preparation(document.encode())
    linear_text.parse(linear.encode())


def test_the_limits_are_the_codes() -> None:
    text = " ".join(PAGE.split())
    assert f"{MAX_STEPS:,} steps, {limits.MAX_FEATURES:,} columns, {limits.MAX_WEIGHTS:,} numbers in all" in text
    assert f"{MAX_CATEGORIES:,} values of a code" in text


def test_the_steps_that_are_shown_can_be_learnt() -> None:
    names = ("mean_value_view_7d", "mean_value_view_30d", "count_view_7d", "count_view_30d", "days_since_view")
    x = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32)
    x[::3] = np.nan
    learn(parse_declared(blocks("yaml")[0].encode()), names, x)
    usual = PAGE.partition("**Without `--prepare`**")[2].partition("\n\n")[0]
    assert re.findall("`([a-z_0-9]+)`", usual) == [step.kind for step in declared(DEFAULT)]


def test_what_the_page_shows_runs(db: Database) -> None:
    db.execute("""
        insert into ubp.events (user_id, event_time, kind) select u, now() - make_interval(days => d), 'purchase'
          from generate_series(1, 5) u, generate_series(1, 3) d""")
    db.execute("select ubp.define_feature_set('default', array['purchase'], array[7])")
    db.execute("select * from ubp.refresh_features(now())")
    db.execute("select ubp.define_task('purchase', 'purchase')")
    names = feature_names(db)
    rng = np.random.default_rng(1)
    known = {"names": names, "x": rng.normal(size=(200, len(names))).astype(np.float32), "lightgbm": lightgbm}
    known |= {"label": rng.integers(0, 2, 200), "settings": {"objective": "binary", "verbosity": -1, "num_threads": 1}}
    with db.connect() as conn:
        exec(blocks("python")[0], known | {"conn": conn})  # noqa: S102 - our own page
        conn.execute("select ubp.deploy_model('purchase')")
        assert conn.execute("select ubp.predict('purchase', 1) between 0 and 1").fetchone() == (True,)
        (statement,) = blocks("sql")
        found = conn.execute(statement.encode()).fetchone()
    assert found is not None
    assert [step["step"] for step in found[0]] == ["impute", "standardise"]
