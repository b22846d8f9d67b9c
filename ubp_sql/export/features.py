"""A feature set as two PL/pgSQL functions: the rows of all users at a moment, and the row of one."""

from ubp_sql.errors import UnsupportedModel
from ubp_sql.export.columns import known, unreadable
from ubp_sql.export.formulas import Formulas
from ubp_sql.export.operations import SUPPORTED
from ubp_sql.export.parts import Spans
from ubp_sql.export.quoting import literal
from ubp_sql.features.compile import columns_of
from ubp_sql.features.definition import FeatureDefinition, FeatureSetDefinition
from ubp_sql.kernels.dispatch import Op

STANDING = "it sets a user beside all others, whom ubp.standings records"
MOST_NAMED = 5


def without_sql(definition: FeatureSetDefinition) -> dict[str, str]:
    """The features that have no form in SQL, and why: all of them, in row order."""
    columns = unreadable(definition)
    found: dict[str, str] = {}
    for feature in definition.features:
        if feature in definition.standings:
            found[feature.name] = STANDING
        for column in columns_of(feature.spec):
            if column in columns:
                found[feature.name] = f"column {column}: {columns[column]}"
    return found


def refuse_others(definition: FeatureSetDefinition) -> None:
    """Raises UnsupportedModel (UB007) where a feature has no form in SQL, naming each."""
    found = without_sql(definition)
    if found:
        listed = "; ".join(f"{name} ({reason})" for name, reason in found.items())
        raise UnsupportedModel(
            f"{len(found)} of {definition.n_features} features have no form in SQL: {listed}",
            "make a set without them (`ubp-sql features export` writes what there is), train on it, and export that",
        )
    assert all(Op(int(code)) in SUPPORTED for code in definition.plan.ops[:, 0])  # noqa: S101 - standings are the rest


class FeatureSql:
    """The queries of a set.

    zone  of the set: whose weekday the moment has, and whose holidays count
    """

    def __init__(self, definition: FeatureSetDefinition, zone: str) -> None:
        refuse_others(definition)
        self.definition, self.zone = definition, zone
        self.spans = Spans(definition.plan)
        self.formulas = Formulas(self.spans)
        self.values = [self.formulas.feature(f) for f in range(definition.n_features)]

    def body(self, of_all: bool) -> str:
        """The body of a function (as_of) that returns rows (user_id, features), or (user_id, as_of) that returns one.

        Its arguments are called `whom` and `now_at`.
        """
        declared = [
            "  now_us bigint := (extract(epoch from now_at) * 1000000)::bigint;",
            f"  now_weekday integer := date_part('isodow', now_at at time zone {literal(self.zone)})::integer - 1;",
            *self.spans.declarations(),
        ]
        query = self._query("" if of_all else " and e.user_id = whom")
        asked = f"  return query {query};" if of_all else f"  return (select x.features from ({query}) x);"
        return "\n".join(["declare", *declared, "begin", asked, "end"])

    def _query(self, user: str) -> str:
        events = known(self.definition, self.spans.clock, self.zone, user)
        parts = self.formulas.parts
        ctes = [f"known as materialized (\n  {events})", "users as (select distinct u from known)"]
        ctes += [self.spans.text(q) for q in range(len(self.spans.plan.streams))]
        ctes += [part.text() for part in parts.values()]
        values = ",\n         ".join(f"{value} as x{f}" for f, value in enumerate(self.values))
        joined = "".join(f"\n    left join {name} using (u)" for name in parts)
        finished = ",".join(map(_finished, self.definition.features))
        with_ = ",\n".join(ctes)
        # offset 0: a value is computed once, though it is looked at several times before it is rounded.
        return f"""with {with_}
  select f.u as user_id, array[{finished}]::real[] as features from (
  select users.u,
         {values}
    from users{joined} offset 0) f"""


def _finished(feature: FeatureDefinition) -> str:
    """Rounded once to float32; a whole number needs no look at its size."""
    x = f"f.x{feature.position}"
    return f"coalesce({x}::real,'NaN')" if feature.sql_type == "integer" else f"ubp.to_single({x})"
