"""ubp-sql features: apply, list, export, for people and for machines."""

from pathlib import Path

from tests.cli.running import document, refusal, told
from tests.fix_database import Database

FILE = """\
features:
  - {name: views_7d, aggregate: count, kinds: [view], window: 7d}
  - {name: spend, aggregate: sum, kinds: [purchase], of: value, where: {value: {min: 5}}}
  - {name: last, aggregate: last_values, kinds: [purchase], settings: {k: 2}}
"""


def test_apply_list_export(db: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", db.dsn)
    path = tmp_path / "features.yaml"
    path.write_text(FILE)
    assert "would have 4 features, 4 of them new" in told("features", "apply", path, "--dry-run", *dsn)
    assert db.one("select count(*) from ubp.feature_sets") == 0
    said = told("features", "apply", path, *dsn)
    assert said.splitlines()[:4] == ["+ views_7d", "+ spend", "+ last_1", "+ last_2"]
    again = document("features", "apply", path, *dsn)
    assert again == [{"feature_set": "default", "features": 4, "new": [], "dry_run": False}]
    listed = document("features", "list", *dsn)
    assert [row["feature"] for row in listed] == ["views_7d", "spend", "last_1", "last_2"]
    assert all(row["meaning"] and row["unit"] and row["edge_rule"] and row["cost"] for row in listed)
    assert "Number of view events in the last 7 days." in told("features", "list", *dsn)

    copy = tmp_path / "copy.yaml"
    told("features", "export", "--out", copy, *dsn)
    assert told("features", "export", *dsn) == copy.read_text()
    assert said.endswith("computes them: ubp-sql refresh\n")
    said = told("features", "apply", copy, "--feature-set", "other", *dsn)
    assert said.endswith("computes them: ubp-sql refresh --feature-set other\n")
    hashes = db.rows("select distinct hash from ubp.feature_sets")
    assert len(hashes) == 1
    assert db.one("select count(*) from ubp.feature_sets") == 2

    db.execute("select ubp.define_feature_set('standard', array['purchase'], array[7, 30])")
    told("features", "export", "--feature-set", "standard", "--out", copy, *dsn)
    told("features", "apply", copy, "--feature-set", "again", *dsn)
    hashes = db.rows("select distinct hash from ubp.feature_sets where name in ('standard', 'again')")
    assert len(hashes) == 1


def test_refusals(db: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", db.dsn)
    path = tmp_path / "features.yaml"
    path.write_text("features: [{name: f, aggregate: median, kinds: [view]}]")
    code, state, text = refusal("features", "apply", path, *dsn)
    assert (code, state) == (2, "UB003")
    assert "unknown aggregate" in text
    assert refusal("features", "apply", tmp_path / "none.yaml", *dsn)[1] == "UB003"
    assert refusal("features", "list", "--feature-set", "none", *dsn)[1] == "UB005"
    assert refusal("features", "export", *dsn)[1] == "UB005"
    path.write_text(FILE)
    told("features", "apply", path, *dsn)
    path.write_text(FILE.replace("window: 7d", "window: 8d"))
    code, state, text = refusal("features", "apply", path, *dsn)
    assert (code, state) == (2, "UB003")
    assert "another definition" in text
