"""Scores of rows of numbers, by registered models and by compiled ones that are handed in."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from ubp_sql.api.serving import LIVE, load, models, no_deployment
from ubp_sql.api.session import check_version, entry, single
from ubp_sql.errors import BadInput, NoModelDeployed, UnsupportedModel
from ubp_sql.models.loaded import NETWORKS, Loaded, open_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION_OF = f"""
select m.model_id, m.compiled_sha256
  from ubp.models m
 where m.task = $1 and m.version = coalesce($2, (select d.version from ubp.deployments d where d.task = $1 and {LIVE}))
"""  # noqa: S608 - constants only


@entry
def score(
    plpy: Any, memory: dict[str, Any], model: str, features: list[float | None], version: int | None
) -> float | None:
    """Score of a row of numbers by a model's deployed (or a named) version; each number is rounded to float32."""
    loaded = _version(plpy, memory, model, version)
    return loaded.score_packed(_checked(features, _one_output(loaded, "score")))


@entry
def score_all(
    plpy: Any, memory: dict[str, Any], model: str, features: list[float | None], version: int | None
) -> list[float | None]:
    """As `score`, all outputs of a model that may have several."""
    return _all(_version(plpy, memory, model, version), features)


def _version(plpy: Any, memory: dict[str, Any], model: str, version: int | None) -> Loaded:
    """The deployed version of a model, or the one named."""
    if "checked" not in memory:
        check_version(plpy, memory)
        memory["checked"] = True
    found = single(plpy, memory, VERSION_OF, ["text", "integer"], [model, version])
    if found is None:
        if version is None:
            error = no_deployment(plpy, memory, model)
            if isinstance(error, NoModelDeployed):
                error.hint = f"{error.hint}; or name a version: a model of several outputs has to be named"
            raise error
        raise NoModelDeployed(
            f"model {model!r} has no version {version}", "select * from ubp.model_versions lists them"
        )
    return load(plpy, memory, found["compiled_sha256"], found["model_id"])


@entry
def score_blob(plpy: Any, memory: dict[str, Any], compiled: bytes, features: list[float | None]) -> float | None:
    """Score of a row of numbers by a compiled model handed in; touches no table (parallel safe)."""
    loaded = _handed_in(compiled)
    return loaded.score_packed(_checked(features, _one_output(loaded, "score_blob")))


@entry
def score_blob_all(
    plpy: Any, memory: dict[str, Any], compiled: bytes, features: list[float | None]
) -> list[float | None]:
    """As `score_blob`, all outputs of a model that may have several."""
    return _all(_handed_in(compiled), features)


def _all(loaded: Loaded, features: list[float | None]) -> list[float | None]:
    """All outputs; None where the model gives no number."""
    return [None if score != score else score for score in loaded.all_packed(_checked(features, loaded))]


def _handed_in(compiled: bytes) -> Loaded:
    if compiled.startswith(NETWORKS):  # nobody has seen it run
        raise UnsupportedModel(
            "a neural network cannot be scored from its bytes",
            "register and check it, then ubp.score takes its version",
        )
    return models.get(compiled) or models.add(compiled, open_model(compiled))


def _one_output(loaded: Loaded, function: str) -> Loaded:
    """The model, if it has one output. Raises BadInput (UB003)."""
    if loaded.outputs > 1:
        raise BadInput(
            f"the model has {loaded.outputs} outputs, ubp.{function} gives one", f"ubp.{function}_all gives all of them"
        )
    return loaded


def _checked(features: list[float | None] | None, loaded: Loaded) -> bytes:
    if features is None or len(features) != loaded.features:
        raise BadInput(
            f"the model takes {loaded.features} features, {len(features or [])} were given",
            "the order is that of ubp.feature_catalogue.position",
        )
    try:
        return pack([math.nan if value is None else value for value in features])
    except TypeError:
        raise BadInput("features must be a flat array of numbers", "score('purchase', array[1.0, 2.0, ...])") from None


def pack(values: Sequence[float]) -> bytes:
    """float32; a C float rounds each value, and what lies beyond its range becomes infinite."""
    return array("f", values).tobytes()
