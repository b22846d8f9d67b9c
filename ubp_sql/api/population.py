"""Scores of everybody, by the batch kernel, into ubp.user_scores."""

import time
from typing import TYPE_CHECKING, Any

from ubp_sql.api.moments import feature_set
from ubp_sql.api.refresh import LOCK, LOG
from ubp_sql.api.score_rows import WRITE_USERS, store_scores
from ubp_sql.api.serving import LIVE, Deployed, Policy, deployment, no_deployment, policy_of
from ubp_sql.api.session import Row, entry, keep_freed_memory, prepare_numba, run, single, touch
from ubp_sql.api.stored_rows import SetMoment, all_rows
from ubp_sql.errors import NotReady

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ubp_sql.kernels.dispatch import F32, F64
    from ubp_sql.models.population import Scored

DEPLOYED = f"select d.deployment_id from ubp.deployments d where d.task = $1 and {LIVE}"  # noqa: S608 - constants only
SET = "select name, as_of, as_of_us, as_of_weekday from ubp.feature_sets where feature_set_id = $1"
CLEAR_SHADOWS = "delete from ubp.shadow_scores where task = $1"
INSERT_SHADOW = """
insert into ubp.shadow_scores (task, version, user_id, score, as_of, scored_at)
select $1, $2, u.user_id, nullif(u.score, 'NaN'), $5, now()
  from unnest(ubp.image_array($3, '{}'::bigint[]), ubp.image_array($4, '{}'::double precision[]))
    as u (user_id, score)"""


@entry
def score_users(plpy: Any, memory: dict[str, Any], task: str) -> list[Row]:
    """Scores everybody who has features by whoever answers for him, and by the shadows; one row that says how many."""
    started = time.perf_counter()
    champion = _deployed(plpy, memory, task)
    # A refresh that commits between two chunks would mix two moments: it waits for us, or we for it. The moments are
    # read only then, and the deployment again.
    held: set[int] = set()
    while not (wanted := {arm.feature_set_id for arm in _arms(champion)}) <= held:
        for number in sorted(wanted - held):
            run(plpy, memory, LOCK, ["text"], [_set(plpy, memory, number)["name"]])
        held |= wanted
        champion = _deployed(plpy, memory, task)
    prepare_numba()
    keep_freed_memory()
    import numpy as np

    from ubp_sql.models.split import arms

    found = []
    for number, arm in enumerate([*champion.challengers, champion]):
        as_of, scored, policy = _scores(plpy, memory, arm)
        if champion.challengers:
            scored = scored.only(arms(task, scored.users, champion.bounds) == number)
        found.append((arm.version, as_of, scored, policy))
    store_scores(plpy, memory, task, found)
    run(plpy, memory, CLEAR_SHADOWS, ["text"], [task])
    for shadow in champion.shadows:
        _store_shadow(plpy, memory, shadow)
    users = sum(len(scored.users) for _, _, scored, _ in found)
    missing = sum(int(np.isnan(scored.values).sum()) for _, _, scored, _ in found)
    seconds = time.perf_counter() - started
    detail = f'{{"version": {champion.version}, "without_score": {missing}}}'
    run(
        plpy,
        memory,
        LOG,
        ["text", "double precision", "bigint", "jsonb"],
        ["score_users", seconds, users, detail],
    )
    return [{"users": users, "scored": users - missing, "without_score": missing, "seconds": seconds}]


def _deployed(plpy: Any, memory: dict[str, Any], task: str) -> Deployed:
    row = single(plpy, memory, DEPLOYED, ["text"], [task])
    if row is None:
        raise no_deployment(plpy, memory, task)
    return deployment(plpy, memory, row["deployment_id"])


def _arms(champion: Deployed) -> list[Deployed]:
    return [champion, *champion.challengers, *champion.shadows]


def _set(plpy: Any, memory: dict[str, Any], feature_set_id: int) -> Row:
    row = single(plpy, memory, SET, ["integer"], [feature_set_id])
    assert row is not None  # noqa: S101 - a deployment refers to it
    return row


def _scores(plpy: Any, memory: dict[str, Any], deployed: Deployed) -> "tuple[str, Scored, Policy | None]":
    """The moment of a version's features, what it says of everybody who has some, and when it abstains."""
    from ubp_sql.models.population import Scored, joined, reasons, score_rows

    def pause() -> None:
        touch(plpy, memory)

    now = _set(plpy, memory, deployed.feature_set_id)
    if now["as_of"] is None:
        raise NotReady(f"the features of set {now['name']!r} were never computed", "ubp.refresh_features computes them")
    policy = policy_of(plpy, memory, deployed, True)
    plan = feature_set(plpy, memory, deployed.feature_set_id).definition.plan
    parts = []
    for users, rows in all_rows(plpy, memory, deployed, SetMoment(plan, now["as_of_us"], now["as_of_weekday"])):
        scores = score_rows(deployed.loaded, rows, deployed.population, pause)
        why = reasons(scores, rows, deployed.population)
        if policy is not None:
            _abstain(policy, deployed, rows, scores, why)
        parts.append(Scored(users, scores, deployed.values(scores, pause), why))
    return now["as_of"], joined(parts), policy


def _abstain(policy: Policy, deployed: Deployed, rows: "F32", scores: "F64", why: "NDArray[np.int8]") -> None:
    """Takes the scores of those away about whom the task abstains."""
    import numpy as np

    from ubp_sql.models.population import HAS_VALUE, TOO_FEW, TOO_OLD, too_little

    abstained = why == HAS_VALUE
    if policy.too_old is None:
        abstained &= too_little(rows, deployed.population, policy.least_events)
    why[abstained] = TOO_FEW if policy.too_old is None else TOO_OLD
    scores[abstained] = np.nan


def _store_shadow(plpy: Any, memory: dict[str, Any], shadow: Deployed) -> None:
    """Inserts what a shadow would have said."""
    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, image

    as_of, scored, _ = _scores(plpy, memory, shadow)
    types = ["text", "integer", "bytea", "bytea", "timestamptz"]
    for low in range(0, len(scored.users), WRITE_USERS):
        part = scored.part(low, low + WRITE_USERS)
        columns = [image(part.users, BIGINT), image(part.values, DOUBLE)]
        run(plpy, memory, INSERT_SHADOW, types, [shadow.task, shadow.version, *columns, as_of])
