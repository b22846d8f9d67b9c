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
select string_agg(int8send(r.user_id), '') as users, string_agg(r.packed, '') as packed,
       string_agg(ubp.array_image(r.anchors), '') as anchors
  from (select user_id, packed, anchors from ubp.feature_rows
         where feature_set_id = $1 and user_id >= $2 order by user_id limit $3) r"""
CHUNK_USERS = 20_000
LOWEST = -(2**63)
UPSERT = """
insert into ubp.user_scores as s (task, user_id, score, percentile, reason, version, as_of, scored_at)
select $1, u.user_id, nullif(u.score, 'NaN'), nullif(u.percentile, 'NaN'),
       case when u.score = 'NaN' then $5 end, $6, $7, now()
  from unnest($2::text::bigint[], $3::text::double precision[], $4::text::double precision[])
    as u (user_id, score, percentile)
on conflict (task, user_id) do update
   set score = excluded.score, percentile = excluded.percentile, reason = excluded.reason, version = excluded.version,
       as_of = excluded.as_of, scored_at = excluded.scored_at"""
FORGET = """
delete from ubp.user_scores s where s.task = $1
   and not exists (select 1 from unnest($2::text::bigint[]) u (user_id) where u.user_id = s.user_id)"""
SHADOW = """
insert into ubp.shadow_scores as s (task, version, user_id, score, as_of, scored_at)
select $1, $2, u.user_id, nullif(u.score, 'NaN'), $5, now()
  from unnest($3::text::bigint[], $4::text::double precision[]) as u (user_id, score)
on conflict (task, version, user_id) do update
   set score = excluded.score, as_of = excluded.as_of, scored_at = excluded.scored_at"""
# Of versions that are no shadows any more, and of users that it has no longer.
FORGET_SHADOWS = "delete from ubp.shadow_scores where task = $1 and (version <> all ($2) or scored_at <> now())"


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

    from ubp_sql.models.population import as_literal, percentiles
    from ubp_sql.models.split import places

    users, scores, arms = [], [], []
    for number, arm in enumerate([*champion.challengers, champion]):
        ids, score = _scores(plpy, memory, arm)
        if champion.challengers:
            mine = np.searchsorted(champion.bounds, places(task, ids), side="right") == number
            ids, score = ids[mine], score[mine]
        users.append(ids)
        scores.append(score)
        arms.append(arm)
    rank = percentiles(np.concatenate(scores))
    begin = 0
    for ids, score, arm in zip(users, scores, arms, strict=True):
        _store(plpy, memory, arm, ids, score, rank[begin : begin + len(ids)])
        begin += len(ids)
    everyone = np.concatenate(users)
    run(plpy, memory, FORGET, ["text", "text"], [task, as_literal(everyone)])
    for shadow in champion.shadows:
        _store_shadow(plpy, memory, shadow)
    run(plpy, memory, FORGET_SHADOWS, ["text", "integer[]"], [task, [shadow.version for shadow in champion.shadows]])
    missing = int(np.isnan(np.concatenate(scores)).sum())
    seconds = time.perf_counter() - started
    detail = f'{{"version": {champion.version}, "without_score": {missing}}}'
    run(
        plpy,
        memory,
        LOG,
        ["text", "double precision", "bigint", "jsonb"],
        ["score_users", seconds, len(everyone), detail],
    )
    return [{"users": len(everyone), "scored": len(everyone) - missing, "without_score": missing, "seconds": seconds}]


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
        scores.append(score_rows(deployed.loaded.blob, rows, deployed.population, lambda: touch(plpy, memory)))
        if len(ids) < CHUNK_USERS:
            break
        lowest = int(ids[-1]) + 1
    return np.concatenate(users), np.concatenate(scores)


def _store(plpy: Any, memory: dict[str, Any], arm: Deployed, users: "I64", score: "F64", rank: "F64") -> None:
    """Upserts what one version said."""
    from ubp_sql.models.population import as_literal

    as_of = _set(plpy, memory, arm.feature_set_id)["as_of"]
    types = ["text", "text", "text", "text", "text", "integer", "timestamptz"]
    for low in range(0, len(users), CHUNK_USERS):
        part = slice(low, low + CHUNK_USERS)
        columns = [as_literal(users[part]), as_literal(score[part]), as_literal(rank[part])]
        run(plpy, memory, UPSERT, types, [arm.task, *columns, TOO_LITTLE, arm.version, as_of])


def _store_shadow(plpy: Any, memory: dict[str, Any], shadow: Deployed) -> None:
    """Upserts what a shadow would have said."""
    from ubp_sql.models.population import as_literal

    as_of = _set(plpy, memory, shadow.feature_set_id)["as_of"]
    users, score = _scores(plpy, memory, shadow)
    types = ["text", "integer", "text", "text", "timestamptz"]
    for low in range(0, len(users), CHUNK_USERS):
        part = slice(low, low + CHUNK_USERS)
        columns = [as_literal(users[part]), as_literal(score[part])]
        run(plpy, memory, SHADOW, types, [shadow.task, shadow.version, *columns, as_of])
