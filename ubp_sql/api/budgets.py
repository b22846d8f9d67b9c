"""Whom to act on with a budget, and what each budget brings: by the stored scores of everybody."""

from collections.abc import Iterator
from typing import Any

from ubp_sql.api.serving import LIVE, no_deployment
from ubp_sql.api.session import Row, entry, run, single
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.models.decisions import Stakes, affordable

# Stored scores are those that predict() gives now where each version's are of the moment of its features, and neither
# their last refresh nor the deployment nor the policy is younger. An age is compared as in serving.POLICY: a month has
# 30 days there.
FRESH = f"""
select t.task_id, s.as_of, p.most_age, statement_timestamp() - s.as_of > p.most_age as too_old,
       exists (select from ubp.score_runs r where r.task_id = t.task_id) as scored,
       exists (select from ubp.score_runs r
                where r.task_id = t.task_id
                  and (r.scored_at < d.deployed_at or r.scored_at < p.set_at
                       or not exists (
                         select from (select d.version, d.feature_set_id
                                       union all
                                      select a.version, a.feature_set_id from ubp.deployment_arms a
                                       where a.deployment_id = d.deployment_id and a.role = 'challenger') v
                           join ubp.feature_sets x using (feature_set_id)
                          where v.version = r.version and x.as_of = r.as_of
                            and x.refreshed_at <= r.scored_at))) as stale
  from ubp.deployments d
  join ubp.task_definitions t using (task)
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
  left join ubp.task_policies p on p.task = d.task
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only
# By score, not by percentile: a calibration map ties scores, and challengers may speak through maps of their own.
ORDERED = "order by u.score desc, u.percentile desc, u.user_id"
# Not ubp.user_scores: the view reads as ubp_owner, to whom no row security applies.
SCORED = """
  from ubp.task_definitions t
  join ubp.score_rows u on u.task_id = t.task_id
 where t.task = $1 and u.score is not null"""
TOP = f"""
select u.user_id, u.score, u.percentile, u.score * $2 - $3 as expected_profit
{SCORED} and ($2 is null or case when abs(u.score) <= $5 then u.score * $2 > $3 end) {ORDERED} limit $4"""
CURVE = f"""
select x.n::double precision / x.total as share, x.n as users, x.score as threshold, x.profit as expected_profit
  from (select u.score, count(*) over () as total, row_number() over places as n,
               sum(u.score * $2 - $3) over (places rows unbounded preceding) as profit
        {SCORED} and abs(u.score) <= $4
        window places as ({ORDERED})) x
 where x.n = any (select ceil(x.total * k / 100.0)::bigint from generate_series(1, 100) k) order by x.n"""  # noqa: S608
NEXT = f"select u.score {SCORED} {ORDERED} offset $2 limit 1"
BATCH = 5_000


@entry
def top_users(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    budget: int | None,
    gain: float | None,
    cost: float | None,
    funds: float | None,
) -> Iterator[tuple[int, int, float, float, float | None]]:
    """(rank, user_id, score, percentile, expected_profit) of the best users that the budget allows; with a gain, only
    those where acting pays.
    """
    if gain is None and budget is None and funds is None:
        raise BadInput(
            "budget is NULL", "a number of users; funds with a cost; or gain and cost: all where acting pays"
        )
    stakes = None
    if gain is not None:
        stakes = Stakes(gain, cost)
    elif cost is not None and funds is None:
        raise BadInput("gain is NULL", "a cost is weighed against a gain, or divides funds")
    users = affordable(budget, funds, cost)
    _refuse_stale(plpy, memory, task)
    weighed = (None, None, None) if stakes is None else (stakes.gain, stakes.cost, stakes.most_score)
    return _ranked(plpy, [task, *weighed[:2], users, weighed[2]])


def _ranked(plpy: Any, arguments: list[Any]) -> Iterator[tuple[int, int, float, float, float | None]]:
    plan = plpy.prepare(TOP, ["text", "double precision", "double precision", "bigint", "double precision"])
    cursor, rank = plan.cursor(arguments), 0
    while found := cursor.fetch(BATCH):
        for row in found:
            rank += 1
            yield rank, row["user_id"], row["score"], row["percentile"], row["expected_profit"]


@entry
def profit_curve(plpy: Any, memory: dict[str, Any], task: str, gain: float | None, cost: float | None) -> list[Row]:
    """What acting on the best 1 %, 2 %, ... of the scored users is expected to bring."""
    stakes = Stakes(gain, cost)
    _refuse_stale(plpy, memory, task)
    types = ["text", "double precision", "double precision", "double precision"]
    found: list[Row] = list(run(plpy, memory, CURVE, types, [task, stakes.gain, stakes.cost, stakes.most_score]))
    return found


@entry
def budget_threshold(plpy: Any, memory: dict[str, Any], task: str, budget: int | None) -> float:
    """The lowest score such that at most `budget` stored ones are above it; -infinity: everybody's may be."""
    if budget is None or budget < 0:
        raise BadInput(f"budget is {'NULL' if budget is None else budget}", "a number of users, from 0 on")
    _refuse_stale(plpy, memory, task)
    row = single(plpy, memory, NEXT, ["text", "bigint"], [task, budget])
    return float("-inf") if row is None else float(row["score"])


def _refuse_stale(plpy: Any, memory: dict[str, Any], task: str) -> None:
    """Raises NotReady (UB005) where the stored scores are not what predict() says now."""
    found = single(plpy, memory, FRESH, ["text"], [task])
    if found is None:
        raise no_deployment(plpy, memory, task)
    score = f"select * from ubp.score_users('{task}')"  # noqa: S608 - a hint
    if found["too_old"]:
        raise NotReady(
            f"task {task!r} abstains: its features are of {found['as_of']}, older than {found['most_age']}",
            f"ubp.refresh_features(), then {score}",
        )
    if not found["scored"]:
        raise NotReady(f"nobody was scored for task {task!r} yet", score)
    if found["stale"]:
        raise NotReady(
            f"the stored scores of task {task!r} are older than its features, its deployment or its policy", score
        )
