"""docs/models.md: what it shows works, and its tables name what the code takes."""

import json
import re
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import skl2onnx
import xgboost
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tests.fix_database import Database
from ubp_sql.models import lightgbm_objective, limits, xgboost_model

# What the page's programs are taken to have imported.
LIBRARIES = {
    **{"json": json, "lightgbm": lightgbm, "np": np, "onnx": onnx, "skl2onnx": skl2onnx, "xgboost": xgboost},
    **{"make_pipeline": make_pipeline, "LogisticRegression": LogisticRegression},
    **{"SimpleImputer": SimpleImputer, "StandardScaler": StandardScaler},
}
PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_objective_is_named() -> None:
    known = {*lightgbm_objective._LINKS, *lightgbm_objective._CLASSIFIERS}
    table = PAGE.partition("| objective | score |")[2].partition("\n\n")[0]
    for name in known:
        assert re.search(rf"\b{name.split(' ')[0]}\b", table), name


def test_every_objective_of_xgboost_is_named() -> None:
    table = PAGE.partition("## XGBoost")[2].partition("| objective | score |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")}
    assert named == set(xgboost_model.OBJECTIVES)


def test_the_limits_are_the_codes() -> None:
    text = " ".join(PAGE.split())
    for number, what in (
        (limits.MAX_FEATURES, "features"),
        (limits.MAX_TREES, "trees"),
        (limits.MAX_LEAVES, "leaves"),
        (limits.MAX_OUTPUTS, "outputs"),
    ):
        assert f"{number:,} {what}" in text
    assert limits.MAX_TEXT_BYTES == 32 * 2**20
    assert limits.MAX_CATEGORY_WORDS == limits.MAX_WEIGHTS == 10**6


def test_what_the_page_shows_runs(db: Database) -> None:
    db.execute("""
        insert into ubp.events (user_id, event_time, kind) select u, now() - make_interval(days => d), 'purchase'
          from generate_series(1, 5) u, generate_series(1, 3) d""")
    db.execute("select ubp.define_feature_set('default', array['purchase'], array[7])")
    db.execute("select * from ubp.refresh_features(now())")
    db.execute("select ubp.define_task('purchase', 'purchase')")
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    statements = "".join(re.findall(r"```sql\n(.*?)```", PAGE, re.S)).split(";\n")
    with db.connect() as conn:
        features = conn.execute("select count(*) from ubp.feature_catalogue").fetchone()
        assert features is not None
        rng = np.random.default_rng(1)
        x, label = rng.normal(size=(200, features[0])), rng.integers(0, 3, 200)
        known = {**LIBRARIES, "conn": conn, "x": x, "label": label}
        for program in programs:
            with threadpool_limits(1):
                exec(program, known)  # noqa: S102 - our own page
        rows = conn.execute("select format, objective, trees from ubp.models order by version").fetchall()
        assert rows == [("lightgbm", "multiclass", 60), ("xgboost", "binary:logistic", 20), ("onnx", "binary", 0)]
        found = [conn.execute(statement.encode()).fetchall() for statement in statements if statement.strip()]
        assert [len(rows) for rows in found] == [3, 1, 1]
        assert all(len(row[1]) == 3 for row in found[0])
        assert found[1][0][0] == found[0][2][1][1]
        assert found[2][0][0] == found[0][2][1]
