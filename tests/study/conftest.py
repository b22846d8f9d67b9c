"""A small shop whose task has a model of each form: trees, a network, a linear model, and one behind a preparation."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.api.helpers import Connection, feature_names
from tests.api.test_onnx_models import network
from tests.fix_database import Database, clone, create, drop
from tests.serving_shop import fill
from ubp_sql.embedded import Cluster
from ubp_sql.models import linear_text
from ubp_sql.models.preparation_document import together
from ubp_sql.training.first_run import check_model

TREES, NETWORK, LINEAR, PREPARED = 1, 4, 5, 6
FORMS = {"trees": TREES, "network": NETWORK, "linear": LINEAR, "prepared": PREPARED}


def linear(names: list[str], of: str = "") -> bytes:
    """A logistic regression on the features whose names begin like that; counts are what nobody lacks."""
    rng = np.random.default_rng(3)
    weights = [round(float(weight), 3) for weight in rng.normal(0, 0.1, len(names))]
    weights = [weight if name.startswith(of) else 0.0 for name, weight in zip(names, weights, strict=True)]
    return linear_text.write(names, [weights], [-0.4], "sigmoid", "logistic regression")


def behind_filling(names: list[str], model: bytes) -> bytes:
    """A model behind one step: 0 for what is missing."""
    step = {"step": "impute", "columns": names, "values": [0] * len(names)}
    return together(json.dumps({"ubp_preparation": 1, "features": names, "steps": [step]}).encode(), model)


def add(conn: Connection, data: bytes) -> int:
    """One more version of `purchase`, ready to answer."""
    row = conn.execute("select ubp.register_model('purchase', %s)", [data]).fetchone()
    assert row is not None
    assert check_model(conn, "purchase", row[0])["ready"]
    return int(row[0])


@pytest.fixture(scope="session")
def studied_shop(cluster: Cluster, installed: str) -> Iterator[Database]:
    """Versions as in FORMS, all of them studied; TREES answers. Read only."""
    made = create(cluster, installed)
    with made.connect() as conn:
        fill(conn)
        names = feature_names(made)
        found = [network(names, 2), linear(names, "count_"), behind_filling(names, linear(names))]
        assert [add(conn, data) for data in found] == [NETWORK, LINEAR, PREPARED]
        for version in FORMS.values():
            conn.execute("select ubp.study_model('purchase', %s, 200)", [version])
    yield made
    drop(made)


@pytest.fixture
def forms(studied_shop: Database, cluster: Cluster) -> Iterator[Database]:
    """A clone of `studied_shop` that a test may change."""
    with clone(cluster, studied_shop.name) as made:
        yield made
