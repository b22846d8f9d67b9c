"""A calibration map as PL/pgSQL: from the model's score to the chance, the bits of models/calibration.py."""

from ubp_sql.export.quoting import array_of, float8
from ubp_sql.models.calibration import NEAREST, PLATT, Map

NOTHING = 1e-300
"""Times a rise it may be 0, which is an error of PostgreSQL's."""


def value_of(found: Map | None) -> str:
    """The body of a function (s float8) returns float8; without a map the value is the score."""
    if found is None:
        return "begin\n  return s;\nend"
    if found.method == PLATT:
        a, b = found.x
        return f"""begin
  s := least(greatest(s, {float8(NEAREST)}), {float8(1.0 - NEAREST)});
  return 1 / (1 + exp(-({float8(a)} * ln(s / (1 - s)) + {float8(b)})));
end"""
    x, y = list(found.x), list(found.y)
    rises = [(y1 - y0) / (x1 - x0) for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False)]
    return f"""declare
  x float8[] := {array_of(x)};
  y float8[] := {array_of(y)};
  rises float8[] := {array_of(rises)};
  k integer := width_bucket(s, x);
begin
  return case when k = 0 then y[1] when k = {len(x)} then y[k] when s - x[k] < {NOTHING!r} then y[k]
              else least(y[k] + (s - x[k]) * rises[k], y[k + 1]) end;
end"""
