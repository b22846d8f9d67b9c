"""Held-out tests of models: what a model, or its like trained only on earlier moments, said of users, and what came."""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput, no_version, unknown_task
from ubp_sql.features.windows import shown

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import F64, I64

MODEL = """
select m.model_id, m.version, t.output, (extract(epoch from t.horizon) * 1000000)::bigint as horizon_us,
       t.label
  from ubp.task_definitions t
  left join ubp.models m on m.task = t.task and (m.version = $2 or $2 is null and m.retired_at is null)
 where t.task = $1 order by m.version desc nulls last limit 1"""
RECORD = """
insert into ubp.model_tests (model_id, cut, part, n, users, scores, labels, protocol)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (model_id, cut, part) do update
  set n = excluded.n, users = excluded.users, scores = excluded.scores, labels = excluded.labels,
      protocol = excluded.protocol, recorded_at = now()"""
TESTS = """
select to_char(t.cut at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' as cut,
       (extract(epoch from t.cut) * 1000000)::bigint as cut_us, t.part, t.users, t.scores, t.labels
  from ubp.model_tests t where t.model_id = $1 order by t.cut, t.part"""
FINITE = "select isfinite($1) as finite"
PARTS = "test", "calibration"


class Test(NamedTuple):
    """One moment at which a model was tried on users whose outcome it had not seen."""

    cut: str  # UTC
    cut_us: int  # microseconds since 1970
    part: str  # 'test' or 'calibration'
    users: "I64"  # (n,)
    scores: "F64"  # (n,) before any map
    labels: "F64"  # (n,)


def model_of(plpy: Any, memory: dict[str, Any], task: str | None, version: int | None) -> Row:
    """model_id, version, output ('chance' or 'amount') and horizon_us, from a moment to the end of what is predicted at
    it; the newest that is not retired for None.

    Raises UnknownTask (UB001), NoModelDeployed (UB004).
    """
    row = single(plpy, memory, MODEL, ["text", "integer"], [task, version])
    if row is None:
        raise unknown_task(task)
    if row["model_id"] is None:
        raise no_version(task, version)
    from ubp_sql.features.label_rule import LabelRule

    row["horizon_us"] += LabelRule.from_json(json.loads(row["label"])).from_us
    return row


def tests_of(plpy: Any, memory: dict[str, Any], model_id: int) -> list[Test]:
    """All tests of a model, the earliest first."""
    import numpy as np

    return [
        Test(
            row["cut"],
            row["cut_us"],
            row["part"],
            np.frombuffer(row["users"], "<i8"),
            np.frombuffer(row["scores"], "<f8"),
            np.frombuffer(row["labels"], "<f8"),
        )
        for row in run(plpy, memory, TESTS, ["bigint"], [model_id])
    ]


def by_moment(tests: list[Test]) -> list[Test]:
    """One test a moment, the earliest first; where a moment is there as both parts, they are the same users."""
    return list({test.cut_us: test for test in tests}.values())


@entry
def record_test(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    version: int | None,
    cut: str | None,
    part: str | None,
    users: bytes | None,
    scores: bytes | None,
    labels: bytes | None,
    protocol: str | None,
) -> int:
    """Stores a test in place of one of the same moment and part; returns how many users it is of."""
    check_version(plpy, memory)
    if version is None:
        raise BadInput("the version is NULL", "select * from ubp.model_versions lists them")
    model = model_of(plpy, memory, task, version)
    finite = single(plpy, memory, FINITE, ["timestamptz"], [cut])
    if finite is None or not finite["finite"]:
        raise BadInput(f"cut is {cut or 'NULL'}", "the moment as of which the users were scored")
    if part not in PARTS:
        raise BadInput(f"part is {shown(part)}", "'test' or 'calibration'")
    n = _checked(users, scores, labels, model["output"])
    types = ["bigint", "timestamptz", "text", "bigint", "bytea", "bytea", "bytea", "text"]
    values = [model["model_id"], cut, part, n, users, scores, labels, protocol or "as the caller says"]
    run(plpy, memory, RECORD, types, values)
    if part == "test" and model["output"] == "chance":
        from ubp_sql.api.calibration import measure_tests

        measure_tests(plpy, memory, model)
    return n


def _checked(users: bytes | None, scores: bytes | None, labels: bytes | None, output: str) -> int:
    """How many users the columns are of. Raises BadInput (UB003)."""
    import numpy as np

    if users is None or scores is None or labels is None:
        raise BadInput("users, scores or labels is NULL", "numbers of 8 bytes each, little-endian")
    if not len(users) == len(scores) == len(labels) or len(users) % 8 or not users:
        raise BadInput(
            f"users, scores and labels have {len(users)}, {len(scores)} and {len(labels)} bytes",
            "8 bytes a user each: int64, float64 and float64, little-endian",
        )
    said, came = np.frombuffer(scores, "<f8"), np.frombuffer(labels, "<f8")
    if not (np.isfinite(said).all() and np.isfinite(came).all()):
        raise BadInput("a score or label is NaN or infinite", "leave users without a score out")
    if output == "chance" and not np.isin(came, (0.0, 1.0)).all():
        raise BadInput("a label is neither 0 nor 1", "1: it happened within the horizon")
    if len(np.unique(np.frombuffer(users, "<i8"))) != len(users) // 8:
        raise BadInput("a user is tested twice", "one row a user at each moment")
    return len(users) // 8
