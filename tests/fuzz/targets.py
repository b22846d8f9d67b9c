"""What is fuzzed: who reads the bytes, which errors may come of it, and where their line must point to."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutants import Target
from tests.fuzz.plan_run import run_plan
from ubp_sql.errors import BadInput, FeatureSetMismatch, InvalidModel, MapError, UbpError, UnsupportedModel
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.features.spec import FeatureSpec
from ubp_sql.kernels.live_plan import open_plan
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import NETWORKS, open_model
from ubp_sql.models.onnx_compiled import open_network
from ubp_sql.sources.feature_file import parse_features
from ubp_sql.sources.load_map import LoadMap

NAMES = tuple(f"f{j}" for j in range(5))
"""Features of every seed model."""
MODEL = (InvalidModel, UnsupportedModel, FeatureSetMismatch)
# Where a refusal points to: the line begins with a part of the file and a colon, a field's path, a byte; or it is about
# the whole, which has no place.
PLACE = re.compile(
    r"[^:]{1,150}: |byte \d+|tree \d+|(an output|node|initializer|input|output|opset|attribute|metadata) |"
    r"[][a-z_.0-9]+ is missing|"
    r"this is .*, not a|the (model|graph|score|document|compiled|linear|leaves|feature set|preparation)\b|"
    r"\d+ (trees|outputs?)"
)
ANYWHERE = re.compile("")


class Read(NamedTuple):
    """A model that was let in: its compiled form, and the format's name where it came as a file."""

    compiled: bytes
    format: str = ""


class Reader(NamedTuple):
    """How a target reads.

    read    the model in the bytes, None where it makes none
    errors  what may be raised
    place   what a refusal's line must begin with
    """

    target: Target
    read: Callable[[bytes], Read | None]
    errors: tuple[type[UbpError], ...] = MODEL
    place: re.Pattern[str] = PLACE


def _imported(data: bytes) -> Read:
    """As ubp.register_model takes it."""
    found = read_model(data, NAMES)
    return Read(found.compiled, found.format)


def _handed_in(data: bytes) -> Read:
    """As ubp.score_blob takes it."""
    open_model(data)
    return Read(data)


def _network(data: bytes) -> Read:
    """A compiled network, as a row of ubp.models has it."""
    open_network(data)
    return Read(data)


def _preparation(data: bytes) -> Read:
    """A document, as it stands before a model that is registered."""
    from tests.fuzz.seeds_preparation import behind  # which takes the names from here

    return Read(behind(data))


def _prepared(data: bytes) -> Read:
    """As _handed_in; networks are refused by ubp.score_blob before they are opened."""
    if data.startswith(NETWORKS):
        raise UnsupportedModel("the model is a network")
    return _handed_in(data)


def _plan(data: bytes) -> None:
    run_plan(open_plan(data))


def _features(data: bytes) -> None:
    """As `ubp-sql features apply`, and on to a plan that a session would take."""
    found = parse_features(data.decode("utf-8", "replace"))
    definition = FeatureSetDefinition((), (), tuple(map(FeatureSpec.from_mapping, found)))
    open_plan(definition.plan_blob)


def _feature_set(data: bytes) -> None:
    open_plan(FeatureSetDefinition.from_json(data.decode("utf-8", "replace")).plan_blob)


def _map(data: bytes) -> None:
    LoadMap.from_text(data.decode("utf-8", "replace"), Path("shop.yaml"))


READERS = {
    found.target.name: found
    for found in (
        Reader(Target("lightgbm", "lightgbm", 8), _imported),
        Reader(Target("xgboost_json", "json", 5), _imported),
        Reader(Target("xgboost_ubj", "ubj", 5), _imported),
        Reader(Target("onnx_trees", "wire", 4), _imported),
        Reader(Target("onnx_linear", "wire", 3), _imported),
        Reader(Target("onnx_networks", "wire", 5), _imported),
        Reader(Target("trees", "trees", 6), _handed_in),
        Reader(Target("linear", "trees", 2), _handed_in),
        Reader(Target("network", "trees", 3), _network),
        Reader(Target("preparation", "json", 3), _preparation),
        Reader(Target("prepared", "trees", 3), _prepared),
        Reader(Target("plan", "plan", 2), _plan, (BadInput,), re.compile("the stored plan ")),
        Reader(Target("features", "text", 1), _features, (BadInput,), ANYWHERE),
        Reader(Target("feature_set", "json", 1), _feature_set, (BadInput,), ANYWHERE),
        Reader(Target("map", "text", 1), _map, (MapError,), re.compile("map shop.yaml")),
    )
}
