"""`ubp-sql task`, and how `ubp-sql train` takes a task that a rule defines."""

from collections.abc import Iterator

import pytest

from tests.cli.running import document, refusal, told
from tests.fix_database import Database, create, drop
from ubp_sql.embedded import Cluster

SPEND = '{"sum": "value", "kinds": ["purchase"]}'


@pytest.fixture(scope="module")
def changed(shop: Database, cluster: Cluster) -> Iterator[str]:
    made = create(cluster, shop.name)
    yield made.dsn
    drop(made)


def test_define_list_show(changed: str) -> None:
    define = ("task", "define", "spend", "--label", SPEND, "--population-kind", "purchase", "--horizon", "20d")
    for _ in range(2):
        assert told(*define, "--dsn", changed) == "spend is defined: ubp-sql train spend\n"
    listed = {row["task"]: row for row in document("task", "list", "--dsn", changed)}
    assert listed["purchase"]["test_metric"] == "auc"
    assert listed["spend"]["output"] == "amount"
    assert listed["spend"]["deployed_version"] is None
    assert listed["spend"]["horizon"] == "20 days"
    shown = document("task", "show", "spend", "--dsn", changed)
    assert (shown["label"], shown["horizon"]) == (SPEND, "20 days")
    assert "sum of value over events of kind purchase within the horizon" in told(
        "task", "show", "spend", "--dsn", changed
    )
    assert "spend" in told("task", "list", "--dsn", changed)


def test_refusals(changed: str) -> None:
    at = ("--dsn", changed)
    assert refusal("task", "show", "nothing", *at)[:2] == (2, "UB001")
    assert refusal("task", "define", "x", *at)[:2] == (2, "UB003")
    assert refusal("task", "define", "x", "--label", SPEND, "--label-kind", "purchase", *at)[:2] == (2, "UB003")
    assert refusal("task", "define", "x", "--label", "{", *at)[:2] == (2, "UB003")
    assert refusal("task", "define", "x", "--label", '{"any": "purchase", "from": "-7d"}', *at)[:2] == (2, "UB003")
    assert refusal("task", "define", "x", "--label-kind", "purchase", "--horizon", "soon", *at)[:2] == (2, "UB003")


def test_training_goes_by_the_rule(changed: str) -> None:
    """What is given again must be what the task is; what is not given stays."""
    told("task", "define", "churn", "--label", '{"none": ["purchase"]}', "--horizon", "20d", "--dsn", changed)
    train = ("train", "churn", "--calibrate", "none", "--no-deploy", "--threads", "1")
    code, state, line = refusal(*train, "--horizon-days", "21", "--dsn", changed)
    assert (code, state) == (2, "UB003")
    assert "another definition" in line
    assert refusal(*train, "--label-kind", "purchase", "--dsn", changed)[1] == "UB003"
    done = document(*train, "--horizon-days", "20", "--dsn", changed)
    assert done["warnings"] == []
    assert done["tests"][0]["auc"] > 0.6
