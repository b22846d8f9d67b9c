"""What a model's features do on the whole, found from a sample of the users it is asked about, and kept beside it."""

import json
from typing import TYPE_CHECKING, Any

from ubp_sql.api.moments import feature_set
from ubp_sql.api.population import SET
from ubp_sql.api.refresh import LOCK
from ubp_sql.api.serving import LIVE, load
from ubp_sql.api.session import Row, check_version, entry, keep_freed_memory, prepare_numba, run, single, touch
from ubp_sql.api.stored_rows import Sampled, SetMoment, sampled_rows
from ubp_sql.errors import BadInput, FeatureSetMismatch, NotReady, UnsupportedModel, no_version, unknown_task
from ubp_sql.features.windows import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ubp_sql.kernels.dispatch import F32, F64
    from ubp_sql.models.effects import Effect
    from ubp_sql.models.explain import Explainer
    from ubp_sql.models.loaded import Loaded

FEWEST = 2  # users: one is compared with the others
MOST_SAMPLED, MOST_FEATURES = 100_000, 10_000
MOST_VALUES = 4_000_000  # of a sample: 16 MB, which each explanation without trees reads
IMPORTANCE_USERS = 100  # of sampled values
IMPORTANCE_ROWS = 400_000  # that are scored for them: 32 pairs a user of 60 features, 8 of 249
ROUNDING = 1e-12  # part of the greatest importance below which it is that of rounding
MOST_SECONDS = 60.0  # of a slow network, by what its first run took

# The row stays locked: two studies of one model go one after the other.
MODEL = f"""
select m.model_id, m.version, m.compiled_sha256, m.feature_set_id, m.feature_set_hash = s.hash as same_set, m.checked,
       t.population_kind, s.name as feature_set
  from ubp.models m
  join ubp.feature_sets s using (feature_set_id)
  join ubp.task_definitions t using (task)
 where m.task = $1
   and m.version = coalesce($2, (select d.version from ubp.deployments d where d.task = $1 and {LIVE}),
                            (select max(n.version) from ubp.models n where n.task = $1 and n.retired_at is null))
   for no key update of m"""  # noqa: S608 - constants only
KNOWN_TASK = "select from ubp.task_definitions where task = $1"
# What it answers with where it answers, else what it would answer with.
MAP = f"""
select c.map_id, c.method, c.x, c.y
  from ubp.calibration_maps c
 where c.model_id = $1
   and c.map_id = coalesce(
         (select coalesce(d.map_id, -1) from ubp.deployments d where d.model_id = $1 and {LIVE}),
         (select coalesce(a.map_id, -1) from ubp.deployments d join ubp.deployment_arms a using (deployment_id)
           where a.model_id = $1 and {LIVE}),
         (select max(n.map_id) from ubp.calibration_maps n where n.model_id = $1))"""  # noqa: S608 - constants only
EXPLAINER = "select m.explainer from ubp.models m where m.model_id = $1 and m.explainer is not null"
CLEAR = "delete from ubp.model_backgrounds where model_id = $1"
INSERT = """
insert into ubp.model_backgrounds (model_id, as_of, users, sampled, typical, rows, method, map_id, studied_at)
values ($1, $2, $3, $4, ubp.image_array($5, '{}'::real[]), $6, $7, $8, clock_timestamp())"""
IMPORTANCE = """
insert into ubp.model_importance (model_id, position, importance, permutation)
select $1, u.position, u.importance, u.permutation
  from unnest(ubp.image_array($2, '{}'::double precision[]), ubp.image_array($3, '{}'::double precision[]))
    with ordinality as u (importance, permutation, position)"""
EFFECT = """
insert into ubp.model_effects (model_id, position, point, x, mean, low, high, share)
select $1, $2, u.point, nullif(u.x, 'NaN'), nullif(u.mean, 'NaN'), nullif(u.low, 'NaN'), nullif(u.high, 'NaN'), u.share
  from unnest(ubp.image_array($3, '{}'::double precision[]), ubp.image_array($4, '{}'::double precision[]),
              ubp.image_array($5, '{}'::double precision[]), ubp.image_array($6, '{}'::double precision[]),
              ubp.image_array($7, '{}'::double precision[])) with ordinality as u (x, mean, low, high, share, point)"""


@entry
def study_model(
    plpy: Any, memory: dict[str, Any], task: str | None, version: int | None, sample: int | None, features: int | None
) -> int:
    """Writes a model's background, importance and effects in place of those that there are; returns its version.

    version   default: the one that answers, else the newest
    sample    users of the sample, at most
    features  those with the greatest importance whose effects are found
    """
    check_version(plpy, memory)
    if sample is None or not FEWEST <= sample <= MOST_SAMPLED:
        raise BadInput(
            f"sample is {shown(sample)}", f"a number of users from {FEWEST} to {MOST_SAMPLED:,}, for example 1000"
        )
    if features is None or not 0 <= features <= MOST_FEATURES:
        raise BadInput(
            f"features is {shown(features)}", f"a number of features from 0 to {MOST_FEATURES:,}, for example 20"
        )
    model = _model(plpy, memory, task, version)
    loaded = load(plpy, memory, model["compiled_sha256"], model["model_id"])
    if loaded.outputs > 1:
        raise UnsupportedModel(
            f"version {model['version']} of {task!r} has {loaded.outputs} outputs, a study is of one",
            "train a binary model a class",
        )
    run(plpy, memory, LOCK, ["text"], [model["feature_set"]])
    prepare_numba()
    keep_freed_memory()
    as_of, rows, users = _sample(plpy, memory, model, loaded, _affordable(plpy, model, loaded, sample, features))
    _Study(plpy, memory, model, loaded, rows).write(as_of, users, features)
    return int(model["version"])


def _model(plpy: Any, memory: dict[str, Any], task: str | None, version: int | None) -> Row:
    row = single(plpy, memory, MODEL, ["text", "integer"], [task, version])
    if row is None:
        if not run(plpy, memory, KNOWN_TASK, ["text"], [task]).nrows():
            raise unknown_task(task)
        raise no_version(task, version)
    if not row["same_set"]:
        raise FeatureSetMismatch(
            f"version {row['version']} was trained on another definition of its feature set", "train again"
        )
    return row


def _affordable(plpy: Any, model: Row, loaded: "Loaded", sample: int, features: int) -> int:
    """How many users of the sample can be had, by memory, and by the time that the first run of a network took."""
    from ubp_sql.models.effects import GRID

    most = max(FEWEST, min(sample, MOST_VALUES // loaded.features))
    together = json.loads(model["checked"] or "{}").get("seconds_per_row_together")
    if isinstance(together, int | float):
        of_one = loaded.features + GRID * min(features, loaded.features)
        fixed = IMPORTANCE_USERS * 2 * _pairs(loaded.features) * (loaded.features + 1)
        if together * (fixed + most * of_one) > MOST_SECONDS:
            most = max(FEWEST, int(most * MOST_SECONDS / (together * (fixed + most * of_one))))
    if most < sample:
        plpy.notice(f"the sample is of {most:,} users at most: the model has {loaded.features:,} features or is slow")
    return most


def _sample(plpy: Any, memory: dict[str, Any], model: Row, loaded: "Loaded", most: int) -> "tuple[str, F32, int]":
    """The moment of the features, rows that the model has a raw score for, and of how many users they are a sample."""
    import numpy as np

    from ubp_sql.models.raw import raw_batch

    found = feature_set(plpy, memory, model["feature_set_id"])
    now = single(plpy, memory, SET, ["integer"], [model["feature_set_id"]])
    never = NotReady(
        f"feature set {found.name!r} has no rows of two users that the task is about",
        "ubp.refresh_features() computes them from the events, then ubp.study_model again",
    )
    if now is None or now["as_of"] is None:
        raise never
    lifetime = found.definition.lifetime_count(model["population_kind"])
    position = None if lifetime is None else lifetime + 1
    moment = SetMoment(found.definition.plan, now["as_of_us"], now["as_of_weekday"])
    rows, users = sampled_rows(plpy, memory, Sampled(model["feature_set_id"], loaded.features, moment, position, most))
    if len(rows) < FEWEST:
        raise never
    scored = np.isfinite(raw_batch(loaded, rows, lambda: touch(plpy, memory)))
    if scored.sum() < FEWEST:
        raise UnsupportedModel(
            f"the model gives a number for {int(scored.sum())} of {len(rows):,} users",
            "fill in missing features in the model, or in a preparation before it",
        )
    return now["as_of"], rows[scored], users


def _pairs(features: int) -> int:
    """How many orders and their reverses are drawn for a user."""
    return max(4, min(32, IMPORTANCE_ROWS // (IMPORTANCE_USERS * 2 * (features + 1))))


class _Study:
    """A model and a sample of rows that it has a raw score for."""

    def __init__(self, plpy: Any, memory: dict[str, Any], model: Row, loaded: "Loaded", rows: "F32") -> None:
        self.plpy, self.memory, self.loaded, self.rows = plpy, memory, loaded, rows
        self.model_id: int = model["model_id"]

    def write(self, as_of: str, users: int, features: int) -> None:
        """Replaces what an earlier study wrote."""
        import numpy as np

        from ubp_sql.api.refresh_rows import DOUBLE, REAL, image
        from ubp_sql.models.effects import categories_of, partial_dependence, permutation_importance, typical_values
        from ubp_sql.models.effects import used_features as used_by

        used, categories = used_by(self.loaded), categories_of(self.loaded)
        method, importance = self._importance()
        importance[importance <= ROUNDING * importance.max()] = 0.0
        permutation = np.zeros(self.loaded.features)
        permutation[used] = permutation_importance(self._raw, self.rows, used, seed=0)
        map_id, values = self._values()
        run(self.plpy, self.memory, CLEAR, ["bigint"], [self.model_id])
        types = ["bigint", "timestamptz", "bigint", "integer", "bytea", "bytea", "text", "bigint"]
        typical = image(typical_values(self.rows, categories), REAL)
        packed = self.rows.astype("<f4").tobytes()
        arguments = [self.model_id, as_of, users, len(self.rows), typical, packed, method, map_id]
        run(self.plpy, self.memory, INSERT, types, arguments)
        columns = [image(importance, DOUBLE), image(permutation, DOUBLE)]
        run(self.plpy, self.memory, IMPORTANCE, ["bigint", "bytea", "bytea"], [self.model_id, *columns])
        greatest = [int(i) for i in np.argsort(-importance, kind="stable")[:features] if importance[i] > 0]
        for i, effect in zip(greatest, partial_dependence(values, self.rows, greatest, categories), strict=True):
            self._write_effect(i, effect)

    def _pause(self) -> None:
        touch(self.plpy, self.memory)

    def _raw(self, rows: "F32") -> "F64":
        from ubp_sql.models.raw import raw_batch

        self._pause()
        return raw_batch(self.loaded, rows, self._pause)

    def _importance(self) -> "tuple[str, F64]":
        """How it was found, and the mean absolute contribution of each feature."""
        import numpy as np

        from ubp_sql.models.explain import open_explainer
        from ubp_sql.models.linear import LinearModel
        from ubp_sql.models.loaded import TreeModel
        from ubp_sql.models.shapley import linear_terms, sampled

        rows = self.rows
        if isinstance(self.loaded, LinearModel):
            terms = linear_terms(self.loaded.linear, rows)
            return "linear", np.abs(terms - terms.mean(axis=0)).mean(axis=0)
        if isinstance(self.loaded, TreeModel):
            row = single(self.plpy, self.memory, EXPLAINER, ["bigint"], [self.model_id])
            if row is not None:
                return "shap", self._exact(open_explainer(row["explainer"], self.loaded))
        some, pairs = rows[:IMPORTANCE_USERS], _pairs(self.loaded.features)
        found = np.zeros(self.loaded.features)
        for k, row in enumerate(some):  # each is compared with others than the one before: all have their turn
            others = np.roll(np.delete(rows, k, axis=0), -k * pairs, axis=0)
            found += np.abs(sampled(self._raw, row, others, pairs, k).contributions)
        return "sampled shap", found / len(some)

    def _exact(self, explainer: "Explainer") -> "F64":
        import numpy as np

        found = np.zeros(self.loaded.features)
        for row in self.rows:
            self._pause()  # one row of thousands of trees takes tens of milliseconds
            found += np.abs(explainer.contributions(row.tobytes(), self._pause)[1])
        return found / len(self.rows)

    def _values(self) -> "tuple[int | None, Callable[[F32], F64]]":
        """The map that the model's scores go through, and what predict gives of rows."""
        row = single(self.plpy, self.memory, MAP, ["bigint"], [self.model_id])
        if row is None:
            return None, self._scores
        from ubp_sql.models.calibration import Map, batch

        found = Map(row["method"], row["x"], row["y"])
        return row["map_id"], lambda rows: batch(found, self._scores(rows), self._pause)

    def _scores(self, rows: "F32") -> "F64":
        self._pause()
        return self.loaded.score_batch(rows, self._pause)[:, 0]

    def _write_effect(self, feature: int, effect: "Effect") -> None:
        from ubp_sql.api.refresh_rows import DOUBLE, image

        types = ["bigint", "integer", *["bytea"] * len(effect)]
        columns = [image(column, DOUBLE) for column in effect]
        run(self.plpy, self.memory, EFFECT, types, [self.model_id, feature + 1, *columns])
