"""refresh, train, score and model: the jobs of every day, for people and for machines."""

import pickle
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import pytest

from tests.cli.running import document, refusal, told
from tests.fix_database import Database


def test_a_day_of_work(shop_copy: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", shop_copy.dsn)
    (refreshed,) = document("refresh", "--as-of", "2025-07-10", *dsn)
    users = shop_copy.one("select count(*) from ubp.feature_rows")
    assert refreshed["users"] == users
    assert refreshed["feature_set_name"] == "default"
    assert shop_copy.one("select as_of from ubp.feature_sets") == datetime(2025, 7, 10, tzinfo=UTC)
    assert "2025-07-10" in told("refresh", "--as-of", "2025-07-10T02:00+02:00", *dsn)
    assert shop_copy.one("select as_of from ubp.feature_sets") == datetime(2025, 7, 10, tzinfo=UTC)

    trained = document("train", "purchase", "--no-deploy", "--threads", "1", "--test-cut", "2025-06-01", *dsn)
    assert (trained["task"], trained["version"], trained["deployed"]) == ("purchase", 2, False)
    (tested,) = trained["tests"]
    assert tested["cut"] == "2025-06-01"
    assert 0.5 < tested["auc"] < 1
    stored = shop_copy.rows("select metric, value from ubp.model_metrics where model_id = 2")
    assert {row["metric"]: row["value"] for row in stored} == {
        k: v for k, v in tested.items() if k not in ("cut", "users")
    }

    assert [(m["version"], m["deployed"]) for m in document("model", "list", *dsn)] == [(1, True), (2, False)]
    assert told("model", "deploy", "purchase", "2", *dsn) == "purchase is answered by version 2\n"
    (scored,) = document("score", "purchase", *dsn)
    assert (
        scored["users"]
        == scored["scored"] + scored["without_score"]
        == shop_copy.one("select count(*) from ubp.feature_rows")
    )
    assert shop_copy.one("select distinct version from ubp.user_scores") == 2
    assert told("model", "rollback", "purchase", *dsn) == "purchase is answered by version 1 again\n"
    assert told("model", "deploy", "purchase", *dsn) == "purchase is answered by version 2\n"

    path = tmp_path / "model.txt"
    told("model", "export", "purchase", "2", "--out", path, *dsn)
    assert path.read_bytes() == bytes(shop_copy.one("select source from ubp.models where version = 2"))
    assert lightgbm.Booster(model_file=str(path)).num_trees() > 0
    exported = path.read_bytes()
    assert refusal("model", "export", "purchase", "9", "--out", path, *dsn)[:2] == (4, "UB004")
    assert path.read_bytes() == exported  # what was there is not lost to a mistake


def test_versions_into_service_and_out_of_it(shop_copy: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", shop_copy.dsn)
    path = tmp_path / "model.txt"
    path.write_bytes(bytes(shop_copy.one("select source from ubp.models where version = 1")))
    found = document("model", "import", "purchase", path, "--data-until", "2025-01-31", *dsn)
    trees = shop_copy.one("select trees from ubp.models where version = 1")
    assert found == {
        **{"task": "purchase", "version": 2, "deployed": False, "warnings": []},
        **{"format": "lightgbm", "objective": "binary", "form": f"{trees} trees"},
    }
    assert told("model", "challenge", "purchase", "2", "--share", "0.25", *dsn) == (
        "version 2 of purchase answers for 0.25 of the users\n"
    )
    assert "is a shadow: ubp-sql score purchase" in told("model", "shadow", "purchase", "2", *dsn)
    assert refusal("model", "retire", "purchase", "2", *dsn)[:2] == (2, "UB003")
    assert told("model", "shadow", "purchase", "2", "--off", *dsn) == "version 2 of purchase is a shadow no longer\n"
    assert told("model", "deploy", "purchase", "2", "--at", "2100-01-01", *dsn).endswith("2 from 2100-01-01 on\n")
    shown = document("model", "show", "purchase", "2", *dsn)
    assert shown["data_until"].startswith("2025-01-31")
    assert [(row["role"], row["version"]) for row in shown["serving"]] == [("champion", 1), ("next", 2)]
    assert document("model", "show", "purchase", *dsn)["version"] == 1
    for text in ("code_version", "tests", "auc", "who answers", "champion"):
        assert text in told("model", "show", "purchase", *dsn)
    assert refusal("model", "deploy", "purchase", "1", "--cancel", *dsn)[:2] == (2, "UB003")
    assert told("model", "deploy", "purchase", "--cancel", *dsn) == "version 2 of purchase will not take over\n"
    assert told("model", "retire", "purchase", "2", *dsn) == "version 2 of purchase is retired\n"
    assert told("model", "import", "purchase", path, "--deploy", *dsn) == (
        f"lightgbm, binary, {trees} trees; features found by their names\npurchase is answered by version 3\n"
    )
    assert refusal("model", "show", "purchase", "9", *dsn)[:2] == (4, "UB004")
    assert refusal("model", "show", "churn", *dsn)[:2] == (4, "UB004")
    path.write_bytes(pickle.dumps(found))
    assert refusal("model", "import", "purchase", path, *dsn)[1] == "UB006"


def test_a_new_task_is_defined_on_first_use(shop_copy: Database) -> None:
    dsn = ("--dsn", shop_copy.dsn)
    new = ("train", "fill_cart", "--label-kind", "cart", "--population-kind", "purchase", "--horizon-days", "10")
    shown = told(*new, "--threads", "1", *dsn)
    assert "fill_cart version 1 is deployed: select ubp.predict_fill_cart(user_id)" in shown
    assert "auc" in shown
    (task,) = shop_copy.rows("select * from ubp.tasks where task = 'fill_cart'")
    assert (task["label_kind"], task["population_kind"], task["horizon"].days) == ("cart", "purchase", 10)
    buyer = shop_copy.one("select user_id from ubp.user_scores where score is not null limit 1")
    assert shop_copy.one("select ubp.predict_fill_cart(%s)", buyer) is not None
    for differing in (["--horizon-days", "30"], ["--label-kind", "view"], ["--population-kind", "cart"]):
        code, sqlstate, text = refusal("train", "fill_cart", *differing, *dsn)
        assert (code, sqlstate) == (2, "UB003")
        assert "another definition" in text
    assert shop_copy.one("select count(*) from ubp.models where task = 'fill_cart'") == 1


@pytest.mark.parametrize("given", [["--horizon-days", "30"], ["--label-kind", "purchase", "--feature-set", "default"]])
def test_what_a_task_is_may_be_said_again(shop: Database, given: list[str]) -> None:
    """The definition agrees, so the refusal is about the test cut, which comes after it."""
    late = ("--test-cut", "2025-07-15", "--dsn", shop.dsn)
    assert refusal("train", "purchase", *given, *late)[1] == "UB014"


def test_an_empty_list(db: Database) -> None:
    assert told("model", "list", "--dsn", db.dsn) == "none yet\n"
    assert document("model", "list", "--dsn", db.dsn) == []


def test_install_look_and_remove(empty_db: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", empty_db.dsn)
    assert document("migrate", "status", *dsn)["installed_version"] == "none"
    planned = document("migrate", "plan", *dsn)
    assert {"title", "by", "locks", "sql"} <= planned[0].keys()
    assert empty_db.one("select to_regnamespace('ubp') is null")
    assert "is installed in database" in told("init", *dsn)
    found = document("migrate", "status", *dsn)
    assert found["installed_version"] == found["package_version"]
    assert found["pending"] == "nothing"
    assert document("migrate", "plan", *dsn) == []
    assert "up to date" in told("migrate", "plan", *dsn)
    told("uninstall", "--yes", *dsn)
    assert empty_db.one("select to_regnamespace('ubp') is null")
