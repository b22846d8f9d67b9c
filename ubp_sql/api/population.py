"""Scores of everybody, by the batch kernel, into ubp.user_scores."""

import time
from typing import Any

from ubp_sql.api.events import touch
from ubp_sql.api.moments import feature_set
from ubp_sql.api.predict import OTHER_LENGTH, TOO_LITTLE, deployment, no_deployment
from ubp_sql.api.refresh import LOCK, LOG
from ubp_sql.api.session import Row, entry, prepare_numba, run, single
from ubp_sql.errors import FeatureSetMismatch, NotReady

DEPLOYED = """
select d.deployment_id, d.feature_set_id, d.version, s.name as set_name, s.as_of, s.as_of_us, s.as_of_weekday
  from ubp.deployments d join ubp.feature_sets s using (feature_set_id)
 where d.task = $1 and d.retired_at is null"""
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


def _deployed(plpy: Any, memory: dict[str, Any], task: str) -> Row:
    row = single(plpy, memory, DEPLOYED, ["text"], [task])
    if row is None:
        raise no_deployment(plpy, memory, task)
    return row


@entry
def score_users(plpy: Any, memory: dict[str, Any], task: str) -> list[Row]:
    """Scores every stored feature row; one row that says how many."""
    started = time.perf_counter()
    row = _deployed(plpy, memory, task)
    # A refresh that commits between two chunks would mix two moments: it waits for us, or we for it. The moment is
    # read only then.
    run(plpy, memory, LOCK, ["text"], [row["set_name"]])
    row = _deployed(plpy, memory, task)
    deployed = deployment(plpy, memory, row["deployment_id"])
    if row["as_of"] is None:
        raise NotReady("the features were never computed", "select * from ubp.refresh_features()")
    prepare_numba()
    import numpy as np

    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, image, rows_of_images
    from ubp_sql.features.compute import age_rows
    from ubp_sql.models.population import decode_rows, percentiles, score_rows

    plan = feature_set(plpy, memory, deployed.feature_set_id).definition.plan
    users, scores = [], []
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
            rows = age_rows(plan, rows, anchors, row["as_of_us"], row["as_of_weekday"])
        users.append(ids)
        scores.append(score_rows(deployed.loaded.blob, rows, deployed.population, lambda: touch(plpy, memory)))
        if len(ids) < CHUNK_USERS:
            break
        lowest = int(ids[-1]) + 1
    everyone = np.concatenate(users) if users else np.empty(0, np.int64)
    score = np.concatenate(scores) if scores else np.empty(0)
    ordered = np.sort(score[~np.isnan(score)])
    run(plpy, memory, CLEAR, ["text"], [task])
    for low in range(0, len(everyone), CHUNK_USERS):
        part = slice(low, low + CHUNK_USERS)
        rank = percentiles(score[part], ordered)
        columns = [image(everyone[part], BIGINT), image(score[part], DOUBLE), image(rank, DOUBLE)]
        types = ["text", "bytea", "bytea", "bytea", "text", "integer", "timestamptz"]
        run(plpy, memory, INSERT, types, [task, *columns, TOO_LITTLE, deployed.version, row["as_of"]])
    missing = int(np.isnan(score).sum())
    seconds = time.perf_counter() - started
    detail = f'{{"version": {deployed.version}, "without_score": {missing}}}'
    run(
        plpy,
        memory,
        LOG,
        ["text", "double precision", "bigint", "jsonb"],
        ["score_users", seconds, len(everyone), detail],
    )
    return [{"users": len(everyone), "scored": len(everyone) - missing, "without_score": missing, "seconds": seconds}]
