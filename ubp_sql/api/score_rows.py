"""Stored scores of a task: rows that differ are changed in place, new ones inserted, others deleted."""

from typing import TYPE_CHECKING, Any

from ubp_sql.api.serving import NO_NUMBER, TOO_LITTLE, Policy
from ubp_sql.api.session import run, single

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import F64, I64
    from ubp_sql.models.population import Scored

LOWEST, HIGHEST = -(2**63), 2**63 - 1
WRITE_USERS = 10_000

TASK = """
select t.task_id, exists (select from ubp.score_rows r where r.task_id = t.task_id) as some,
       (select coalesce(sum(s.users), 0) from ubp.score_runs s where s.task_id = t.task_id)::bigint as users
  from ubp.task_definitions t where t.task = $1"""
CLEAR_RUNS = "delete from ubp.score_runs where task_id = $1"
# Not before the refresh whose rows were scored, which may have ended after this transaction began.
INSERT_RUN = """
insert into ubp.score_runs (task_id, version, users, as_of, scored_at)
select $1, $2, $3, $4, greatest(now(), s.refreshed_at)
  from ubp.task_definitions t
  left join ubp.models m on m.task = t.task and m.version = $2
  left join ubp.feature_sets s on s.feature_set_id = m.feature_set_id
 where t.task_id = $1"""
# Images of arrays: nothing is parsed. A percentile beside a missing score says why it is missing (`_columns`).
GIVEN = """
  from (select a.user_id, nullif(a.score, 'NaN') as score,
               case when a.score <> 'NaN' then a.percentile end as percentile,
               case when a.score = 'NaN' then $6[a.percentile::integer] end as reason
          from (select unnest(ubp.image_array($3, '{}'::bigint[])) as user_id,
                       unnest(ubp.image_array($4, '{}'::double precision[])) as score,
                       unnest(ubp.image_array($5, '{}'::double precision[])) as percentile) a) u"""
INSERT = f"""
insert into ubp.score_rows (task_id, version, user_id, score, percentile, reason)
select $1, $2, u.user_id, u.score, u.percentile, u.reason {GIVEN}"""
MISSING = f"""{INSERT}
 where not exists (select from ubp.score_rows r
                    where r.task_id = $1 and r.user_id between $7 and $8 and r.user_id = u.user_id)"""
# Half of each page is free (fillfactor), so that a row's next version stands on its page: no index entry, no page to
# add, and the version before it goes at the next visit, without vacuum. docs/adr/0013-population-scoring.md.
UPDATE = f"""
update ubp.score_rows r set version = $2, score = u.score, percentile = u.percentile, reason = u.reason {GIVEN}
 where r.task_id = $1 and r.user_id between $7 and $8 and r.user_id = u.user_id"""  # noqa: S608 - constants only
DIFFERING = f"""{UPDATE}
   and (r.version <> $2 or r.score is distinct from u.score or r.percentile is distinct from u.percentile
        or r.reason is distinct from u.reason)"""
# The same by place, value k being that of user $5 + k - 1: no join, a quarter less. A percentile of -1: no such user.
PLACED = """
update ubp.score_rows r
   set version = $2, score = nullif((select ubp.image_array($3, '{}'::double precision[]))[r.user_id - $5 + 1], 'NaN'),
       percentile = nullif((select ubp.image_array($4, '{}'::double precision[]))[r.user_id - $5 + 1], 'NaN'),
       reason = case when (select ubp.image_array($3, '{}'::double precision[]))[r.user_id - $5 + 1] = 'NaN' then $7 end
 where r.task_id = $1 and r.user_id between $5 and $6
   and (select ubp.image_array($4, '{}'::double precision[]))[r.user_id - $5 + 1] <> -1"""
PLACED_TYPES = ["integer", "integer", "bytea", "bytea", "bigint", "bigint", "text"]
MOST_PLACES = 4  # a user
GONE = """
delete from ubp.score_rows r
 where r.task_id = $1 and r.user_id between $3 and $4
   and not exists (select from unnest(ubp.image_array($2, '{}'::bigint[])) u where u = r.user_id)"""
TYPES = ["integer", "integer", "bytea", "bytea", "bytea", "text[]"]


def store_scores(
    plpy: Any, memory: dict[str, Any], task: str, found: "list[tuple[int, str, Scored, Policy | None]]"
) -> None:
    """Makes the stored scores of a task those: (version, as_of, what it said, when it abstains), each user once.

    Percentiles are those of the models' own scores: a calibration map has flat ends.
    """
    import numpy as np

    row = single(plpy, memory, TASK, ["text"], [task])
    assert row is not None  # noqa: S101 - a deployment refers to it
    number = row["task_id"]
    scores = np.concatenate([scored.scores for _, _, scored, _ in found])
    ordered = np.sort(scores[~np.isnan(scores)])
    run(plpy, memory, CLEAR_RUNS, ["integer"], [number])
    stored = row["users"]
    for version, as_of, scored, policy in found:
        types = ["integer", "integer", "bigint", "timestamptz"]
        run(plpy, memory, INSERT_RUN, types, [number, version, len(scored.users), as_of])
        reasons: list[str | None] = [TOO_LITTLE, NO_NUMBER]
        if policy is not None:
            reasons += [policy.too_few(), policy.too_old]
        stored += _write(plpy, memory, [number, version], scored, ordered, reasons, row["some"])
    if row["some"] and stored != len(scores):
        _forget_others(plpy, memory, number, np.sort(np.concatenate([scored.users for _, _, scored, _ in found])))


def _write(
    plpy: Any,
    memory: dict[str, Any],
    of: list[int],
    scored: "Scored",
    ordered: "F64",
    reasons: "list[str | None]",
    some: bool,
) -> int:
    """Writes what one version said; returns how many rows are new. `some`: there are rows already.

    A row that is right stays. Where less than half do, all are written: to look which of the others are new costs more.
    """
    from ubp_sql.models.population import percentiles

    new, few_differ = 0, True
    for low in range(0, len(scored.users), WRITE_USERS):
        part = scored.part(low, low + WRITE_USERS)
        rank = percentiles(part.scores, ordered)
        if not some:
            new += run(plpy, memory, INSERT, TYPES, [*of, *_columns(part, rank), reasons]).nrows()
            continue
        placed = None if few_differ else _placed(part, rank)
        if placed is not None:
            written = run(plpy, memory, PLACED, PLACED_TYPES, [*of, *placed]).nrows()
        else:
            written = _joined(plpy, memory, DIFFERING if few_differ else UPDATE, of, part, rank, reasons)
            few_differ = few_differ and 2 * written < len(part.users)
        if written < len(part.users):
            new += _joined(plpy, memory, MISSING, of, part, rank, reasons)
    return new


def _joined(
    plpy: Any,
    memory: dict[str, Any],
    query: str,
    of: list[int],
    part: "Scored",
    rank: "F64",
    reasons: "list[str | None]",
) -> int:
    bounds = [int(part.users[0]), int(part.users[-1])]
    types = [*TYPES, "bigint", "bigint"]
    written: int = run(plpy, memory, query, types, [*of, *_columns(part, rank), reasons, *bounds]).nrows()
    return written


def _columns(part: "Scored", rank: "F64") -> list[Any]:
    """Images of users, values and percentiles; in place of a percentile, where there is none, the reason's number."""
    import numpy as np

    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, image

    said = np.where(np.isnan(part.values), part.why, rank)
    return [image(part.users, BIGINT), image(part.values, DOUBLE), image(said, DOUBLE)]


def _placed(part: "Scored", rank: "F64") -> list[Any] | None:
    """What PLACED takes; None where ids lie too far apart, or too little history is not the only reason."""
    import numpy as np

    from ubp_sql.api.refresh_rows import DOUBLE, image
    from ubp_sql.models import population

    first, last = int(part.users[0]), int(part.users[-1])
    places = last - first + 1
    if places > MOST_PLACES * len(part.users) or (part.why > population.TOO_LITTLE).any():
        return None
    at = part.users - first
    values, ranks = np.full(places, np.nan), np.full(places, -1.0)
    values[at], ranks[at] = part.values, rank
    return [image(values, DOUBLE), image(ranks, DOUBLE), first, last, TOO_LITTLE]


def _forget_others(plpy: Any, memory: dict[str, Any], number: int, users: "I64") -> None:
    """Deletes the rows of everybody else; `users` ascend."""
    from ubp_sql.api.refresh_rows import BIGINT, image

    low = LOWEST
    for first in range(0, max(1, len(users)), WRITE_USERS):
        some = users[first : first + WRITE_USERS]
        high = HIGHEST if first + WRITE_USERS >= len(users) else int(some[-1])
        run(plpy, memory, GONE, ["integer", "bytea", "bigint", "bigint"], [number, image(some, BIGINT), low, high])
        low = high + 1
