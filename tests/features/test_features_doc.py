"""docs/features.md: its table is the code's, and what it shows works."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.fix_database import Database
from ubp_sql.features.aggregates import RULES
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.sources.feature_file import parse_features

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("feature_table", DOCS / "feature_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(writer: ModuleType) -> None:
    text = (DOCS / "features.md").read_text(encoding="utf-8")
    assert writer.page(text) == text, "run docs/feature_table.py"
    assert all(f"| `{name}` |" in text for name in RULES)
    with_a_change = text.replace("| `count` |", "| `counts` |")
    assert writer.page(with_a_change) == text, "a forgotten run is seen"


def test_the_yaml_of_the_page_compiles() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "features.md").read_text(encoding="utf-8"), re.S)
    specs = [FeatureSpec.from_mapping(entry) for entry in parse_features(block.replace("discount", "value"))]
    assert FeatureSetDefinition((), (), tuple(specs)).n_features == len(specs) == 4


def test_the_sql_of_the_page_runs(db: Database) -> None:
    """Each block in its order, on a log that has what it speaks of."""
    db.execute("""
        insert into ubp.events (user_id, event_time, kind, value, attributes)
        select n, now() - make_interval(hours => n), (array['view', 'cart', 'purchase'])[1 + n % 3], n,
               '{"discount": 0.3}' from generate_series(1, 40) n""")
    db.execute("select ubp.define_event_column('discount', 'discount', 'number')")
    db.execute("select ubp.define_feature_set('visits', array['view'], array[7])")
    blocks = re.findall(r"```sql\n(.*?)```", (DOCS / "features.md").read_text(encoding="utf-8"), re.S)
    with db.connect() as conn:
        for statement in "".join(blocks).replace("\\gexec", ";").split(";\n"):
            conn.execute(statement.encode())
        assert conn.execute("select count(views_36h) from ubp.user_features").fetchone() == (40,)
