"""Scores of users by their id: of one stored user, of many, of a user at a past moment."""

from __future__ import annotations

from ubp_sql.api.ageing import ROW
from ubp_sql.api.served_task import LOOKUP
from ubp_sql.api.serving import (
    LIVE,
    Deployed,
    Policy,
    answering,
    challenger_of,
    judge,
    known_deployment,
    no_deployment,
    policy_of,
)
from ubp_sql.api.session import Row, entry, run, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Users of one query: between two of them a cancel takes effect, and no more rows of features are in memory.
TOGETHER = 100

# As ubp.resolve_member, which costs 100 µs here because PostgreSQL plans an SQL function's body at every call. A test
# keeps the two equal.
USER_OF_KEY = """coalesce(
      (select u.user_id from ubp.users u where u.user_key = btrim($2) and u.tenant = 0),
      case when btrim($2) !~ '^(0|[1-9][0-9]{0,18})(\\.0+)?$' then null
           when split_part(btrim($2), '.', 1)::numeric < 4000000000000000 then coalesce(
             (select u.user_id from ubp.users u where u.user_key = split_part(btrim($2), '.', 1) and u.tenant = 0),
             split_part(btrim($2), '.', 1)::bigint)
           when split_part(btrim($2), '.', 1)::numeric <= 9223372036854775807 then (
             select n.id from (select split_part(btrim($2), '.', 1)::bigint as id) n
              where not exists (select from ubp.users u where u.user_id = n.id)) end)"""
BY_KEY = LOOKUP.replace("$2", USER_OF_KEY)
RESOLVE = f"""
select k.user_id, m.user_id as whose
  from (select {USER_OF_KEY.replace("$2", "$1")} as user_id) k
  left join ubp.user_members m on m.member_id = k.user_id"""  # noqa: S608 - constants only


@entry
def predict_key(plpy: Any, memory: dict[str, Any], task: str, user_key: str) -> float | None:
    """`predict` by the key text of the source."""
    row = single(plpy, memory, BY_KEY, ["text", "text"], [task, user_key])
    if row is None:
        raise no_deployment(plpy, memory, task)
    deployed = known_deployment(plpy, memory, row["deployment_id"])
    user_id = None
    if deployed.challengers or row["packed"] is None:
        user_id, linked_to = run(plpy, memory, RESOLVE, ["text"], [user_key])[0].values()
        if row["packed"] is None and linked_to is not None:
            row, user_id = run(plpy, memory, LOOKUP, ["text", "bigint"], [task, linked_to])[0], linked_to
    return _judged(plpy, memory, deployed, user_id, row)[1][0]


def _judged(
    plpy: Any, memory: dict[str, Any], champion: Deployed, user_id: int | None, row: Row
) -> tuple[Deployed, tuple[float | None, str | None]]:
    """Who answers for a user, and what he says of the stored row: (value, None), or (None, why there is none)."""
    deployed, packed = answering(plpy, memory, champion, user_id, row)
    return deployed, judge(deployed, packed, policy_of(plpy, memory, deployed, row["abstains"]))


def of_whom(
    user_id: int, whose_id: int | None, verdict: tuple[float | None, str | None]
) -> tuple[float | None, str | None]:
    """(score, reason) of a user; the reason says whose it is where the id was linked to another."""
    score, reason = verdict
    return score, reason if reason is None or user_id == whose_id else f"linked to user {whose_id}: {reason}"


def row_for(plpy: Any, memory: dict[Any, Any], query: str, task: str, user_id: int | None) -> tuple[Row, int | None]:
    """The row of LOOKUP or DETAIL and the id it is of: where that id has no features but was linked to another, his."""
    row = single(plpy, memory, query, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    if row["packed"] is None:
        from ubp_sql.api.members import whose

        linked_to = whose(plpy, memory, user_id)
        if linked_to is not None:
            return run(plpy, memory, query, ["text", "bigint"], [task, linked_to])[0], linked_to
    return row, user_id


# The tables of ubp.user_scores: the view reads as ubp_owner, to whom no row security applies.
DETAIL = f"""
select d.deployment_id, {ROW}, s.as_of, u.percentile, u.version, d.abstains
  from ubp.deployments d
  join ubp.feature_sets s using (feature_set_id)
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = $2
  join ubp.task_definitions t using (task)
  left join (ubp.score_rows u join ubp.score_runs n using (task_id, version))
    on u.task_id = t.task_id and u.user_id = $2 and n.as_of = s.as_of
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only


@entry
def predict_detail(plpy: Any, memory: dict[str, Any], task: str, user_id: int) -> list[Row]:
    """Score with its reason, model, version, moment and percentile among the stored scores."""
    row, whose_id = row_for(plpy, memory, DETAIL, task, user_id)
    deployed = known_deployment(plpy, memory, row["deployment_id"])
    deployed, verdict = _judged(plpy, memory, deployed, whose_id, row)
    percentile = row["percentile"] if row["version"] == deployed.version else None
    return _detail(task, deployed, of_whom(user_id, whose_id, verdict), row["as_of"], percentile)


@entry
def predict_detail_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> list[Row]:
    """As `predict_detail`, from the raw events at a moment of the past; no percentile is stored for it."""
    deployed, packed, policy = answer_at(plpy, memory, task, user_id, as_of)
    return _detail(task, deployed, judge(deployed, packed, policy), as_of, None)


def _detail(
    task: str, deployed: Deployed, verdict: tuple[float | None, str | None], as_of: str | None, percentile: float | None
) -> list[Row]:
    detail = {
        "score": verdict[0],
        "reason": verdict[1],
        "model": task,
        "version": deployed.version,
        "as_of": as_of,
        "percentile": percentile if verdict[0] is not None else None,
    }
    return [detail]


MANY = f"""
select d.deployment_id, q.user_id, d.abstains, {ROW}
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
 cross join unnest($2) with ordinality as q (user_id, place)
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = q.user_id
 where d.task = $1 and {LIVE} order by q.place"""  # noqa: S608 - constants only


@entry
def predict_many(
    plpy: Any, memory: dict[str, Any], task: str, user_ids: list[Any]
) -> list[tuple[int | None, float | None, str | None]]:
    """(user_id, score, reason) in the order asked; a NULL id gives a reason, never an error."""
    asked, result = flat(user_ids), []
    for start in range(0, max(1, len(asked)), TOGETHER):
        result += _together(plpy, memory, task, asked[start : start + TOGETHER])
    return result


def flat(user_ids: list[Any]) -> list[int | None]:
    """Arrays of several dimensions come as lists of lists."""
    if not any(isinstance(each, list) for each in user_ids):
        return user_ids
    return [user_id for each in user_ids for user_id in flat(each)]


def _together(
    plpy: Any, memory: dict[str, Any], task: str, user_ids: list[int | None]
) -> list[tuple[int | None, float | None, str | None]]:
    found = run(plpy, memory, MANY, ["text", "bigint[]"], [task, user_ids])
    if not found and single(plpy, memory, LOOKUP, ["text", "bigint"], [task, 0]) is None:
        raise no_deployment(plpy, memory, task)
    missing = [row["user_id"] for row in found if row["packed"] is None and row["user_id"] is not None]
    linked = _rows_of_members(plpy, memory, task, missing)
    result: list[tuple[int | None, float | None, str | None]] = []
    for row in found:
        user_id = row["user_id"]
        if user_id is None:
            result.append((None, None, "the user id is NULL"))
        else:
            row = linked.get(user_id, row)
            deployed = known_deployment(plpy, memory, row["deployment_id"])
            verdict = _judged(plpy, memory, deployed, row["user_id"], row)[1]
            result.append((user_id, *of_whom(user_id, row["user_id"], verdict)))
    return result


def _rows_of_members(plpy: Any, memory: dict[str, Any], task: str, user_ids: list[int]) -> dict[int, Row]:
    """Rows of MANY of the users to whom some of the ids were linked, by those ids."""
    if not user_ids:
        return {}
    from ubp_sql.api.members import whose_these

    found = whose_these(plpy, memory, user_ids)
    if not found:
        return {}
    rows = run(plpy, memory, MANY, ["text", "bigint[]"], [task, list(set(found.values()))])
    by_user = {row["user_id"]: row for row in rows}
    return {member: by_user[user] for member, user in found.items()}


@entry
def predict_at(plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None) -> float | None:
    """Score of one user at a moment: features computed from the raw events by the same kernel."""
    return judge(*answer_at(plpy, memory, task, user_id, as_of))[0]


def answer_at(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int, as_of: str | None
) -> tuple[Deployed, bytes | None, Policy | None]:
    """Who answers, the row of features at that moment, and how many events the task asks for: they are of no age."""
    from ubp_sql.api.live import live_bytes

    row = single(plpy, memory, LOOKUP, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    champion = known_deployment(plpy, memory, row["deployment_id"])
    if champion.challengers:  # whose turn it is goes by the user, not by the key
        from ubp_sql.api.members import whose

        linked_to = whose(plpy, memory, user_id)
        user_id = user_id if linked_to is None else linked_to
    deployed = challenger_of(champion, user_id)
    policy = policy_of(plpy, memory, deployed, row["abstains"])
    if policy is not None:
        policy = Policy(policy.least_events, None)
    return deployed, live_bytes(plpy, memory, deployed.feature_set_id, user_id, as_of), policy
