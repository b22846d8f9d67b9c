"""Scores of everybody, by the batch kernel, into ubp.user_scores."""

import time
from typing import TYPE_CHECKING, Any

from ubp_sql.api.events import touch
from ubp_sql.api.moments import feature_set
from ubp_sql.api.predict import LIVE, OTHER_LENGTH, TOO_LITTLE, Deployed, deployment, no_deployment
from ubp_sql.api.refresh import LOCK, LOG
from ubp_sql.api.session import Row, entry, prepare_numba, run, single
from ubp_sql.errors import FeatureSetMismatch, NotReady

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import F64, I64

DEPLOYED = f"select d.deployment_id from ubp.deployments d where d.task = $1 and {LIVE}"  # noqa: S608 - constants only
SET = "select name, as_of, as_of_us, as_of_weekday from ubp.feature_sets where feature_set_id = $1"
CHUNK = """
select string_agg(int8send(r.user_id), '') as users, string_agg(substr(ubp.array_image(r.features), 21), '') as packed,
       string_agg(ubp.array_image(r.anchors), '') as anchors
  from (select user_id, features, anchors from ubp.feature_rows
         where feature_set_id = $1 and user_id >= $2 order by user_id limit $3) r"""
CHUNK_USERS = 4_000  # larger values of some MB are new pages each time: 20,000 took 2.2 times as long to read
LOWEST = -(2**63)
# Deleted and inserted, from images of arrays: 2 µs a row of CPU, where `on conflict` from literals takes 9.
CLEAR = "delete from ubp.user_scores where task = $1"
INSERT = """
insert into ubp.user_scores (task, user_id, score, percentile, reason, version, as_of, scored_at)
select $1, u.user_id, nullif(u.score, 'NaN'), nullif(u.percentile, 'NaN'),
       case when u.score = 'NaN' then $5 end, $6, $7, now()
  from unnest(ubp.image_array($2, '{}'::bigint[]), ubp.image_array($3, '{}'::double precision[]),
              ubp.image_array($4, '{}'::double precision[])) as u (user_id, score, percentile)"""
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
    import numpy as np

    from ubp_sql.models.split import places

    found = []
    for number, arm in enumerate([*champion.challengers, champion]):
        users, score = _scores(plpy, memory, arm)
        if champion.challengers:
            mine = np.searchsorted(champion.bounds, places(task, users), side="right") == number
            users, score = users[mine], score[mine]
        found.append((arm, users, score))
    scores = np.concatenate([score for _, _, score in found])
    ordered = np.sort(scores[~np.isnan(scores)])
    run(plpy, memory, CLEAR, ["text"], [task])
    for arm, users, score in found:
        _store(plpy, memory, arm, users, score, ordered)
    run(plpy, memory, CLEAR_SHADOWS, ["text"], [task])
    for shadow in champion.shadows:
        _store_shadow(plpy, memory, shadow)
    missing = int(np.isnan(scores).sum())
    seconds = time.perf_counter() - started
    detail = f'{{"version": {champion.version}, "without_score": {missing}}}'
    run(
        plpy,
        memory,
        LOG,
        ["text", "double precision", "bigint", "jsonb"],
        ["score_users", seconds, len(scores), detail],
    )
    return [{"users": len(scores), "scored": len(scores) - missing, "without_score": missing, "seconds": seconds}]


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


def _scores(plpy: Any, memory: dict[str, Any], deployed: Deployed) -> "tuple[I64, F64]":
    """(n,) users with a feature row of the version's set, ascending, and their scores, NaN for too little history."""
    import numpy as np

    from ubp_sql.api.refresh_rows import rows_of_images
    from ubp_sql.features.compute import age_rows
    from ubp_sql.models.population import decode_rows, score_rows

    now = _set(plpy, memory, deployed.feature_set_id)
    if now["as_of"] is None:
        raise NotReady(f"the features of set {now['name']!r} were never computed", "ubp.refresh_features computes them")
    plan = feature_set(plpy, memory, deployed.feature_set_id).definition.plan
    users, scores = [np.empty(0, np.int64)], [np.empty(0)]
    lowest = LOWEST
    while True:
        types = ["integer", "bigint", "integer"]
        chunk = single(plpy, memory, CHUNK, types, [deployed.feature_set_id, lowest, CHUNK_USERS])
        if chunk is None or chunk["users"] is None:
            break
        if 8 * len(chunk["packed"]) != len(chunk["users"]) * deployed.loaded.size:
            raise FeatureSetMismatch(*OTHER_LENGTH)
        ids, rows = decode_rows(chunk["users"], chunk["packed"], deployed.loaded.features)
        if chunk["anchors"] is not None:
            anchors = rows_of_images(chunk["anchors"], len(ids), np.float64)
            rows = age_rows(plan, rows, anchors, now["as_of_us"], now["as_of_weekday"])
        users.append(ids)
        scores.append(score_rows(deployed.loaded, rows, deployed.population, lambda: touch(plpy, memory)))
        if len(ids) < CHUNK_USERS:
            break
        lowest = int(ids[-1]) + 1
    return np.concatenate(users), np.concatenate(scores)


def _store(plpy: Any, memory: dict[str, Any], arm: Deployed, users: "I64", score: "F64", ordered: "F64") -> None:
    """Inserts what one version said; `ordered`: everybody's scores, ascending."""
    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, image
    from ubp_sql.models.population import percentiles

    as_of = _set(plpy, memory, arm.feature_set_id)["as_of"]
    types = ["text", "bytea", "bytea", "bytea", "text", "integer", "timestamptz"]
    for low in range(0, len(users), CHUNK_USERS):
        part = slice(low, low + CHUNK_USERS)
        rank = percentiles(score[part], ordered)
        columns = [image(users[part], BIGINT), image(score[part], DOUBLE), image(rank, DOUBLE)]
        run(plpy, memory, INSERT, types, [arm.task, *columns, TOO_LITTLE, arm.version, as_of])


def _store_shadow(plpy: Any, memory: dict[str, Any], shadow: Deployed) -> None:
    """Inserts what a shadow would have said."""
    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, image

    as_of = _set(plpy, memory, shadow.feature_set_id)["as_of"]
    users, score = _scores(plpy, memory, shadow)
    types = ["text", "integer", "bytea", "bytea", "timestamptz"]
    for low in range(0, len(users), CHUNK_USERS):
        part = slice(low, low + CHUNK_USERS)
        columns = [image(users[part], BIGINT), image(score[part], DOUBLE)]
        run(plpy, memory, INSERT_SHADOW, types, [shadow.task, shadow.version, *columns, as_of])
