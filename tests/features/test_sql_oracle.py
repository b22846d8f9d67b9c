"""The SQL oracle covers every feature; the integration tests run it against the database."""

import pytest

from tests.features.sql_oracle import oracle_sql
from ubp_sql.features.definition import FeatureSetDefinition


@pytest.mark.parametrize("kinds", [("purchase", "cancel"), ("it's 100%", "ünï", "x")])
def test_every_feature_has_a_query(kinds: tuple[str, ...]) -> None:
    definition = FeatureSetDefinition(kinds)
    queries = oracle_sql(definition)
    assert list(queries) == [feature.name for feature in definition.features]
    for query in queries.values():
        assert "{" not in query
        query % {"as_of": "''", "zone": "''"}
