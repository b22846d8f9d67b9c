"""From a model file's bytes to its compiled form: which format it is, and whose columns it reads.

Every importer is one line of `IMPORTERS`; the fuzzer takes them from there. Their modules are imported when a file of
their format comes: a server process that only scores loads none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ubp_sql.errors import FeatureSetMismatch, InvalidModel
from ubp_sql.models.limits import other_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ubp_sql.models.onnx_graph import Graph
    from ubp_sql.models.parsed import Parsed


class Imported(NamedTuple):
    """A model that was read, put into the order of the feature set, and compiled.

    format     'lightgbm', 'xgboost', 'onnx' or 'linear'
    objective  what the score is, in the format's own words
    trees      0 for a model without
    by_name    whether its features were found by their names; else their order is trusted
    takes_missing  whether it has a score where a feature is missing, as far as its form says
    preparation  the document of what is done to the features before the model
    explainer  what exact reasons need beside the compiled form; None where there are none
    """

    format: str
    compiled: bytes
    objective: str
    trees: int
    outputs: int
    by_name: bool
    takes_missing: bool = True
    preparation: str | None = None
    explainer: bytes | None = None


class Importer(NamedTuple):
    """A format: its name, whether a file begins like one, and its reader, which takes the set's names in order."""

    format: str
    begins: Callable[[bytes], bool]
    read: Callable[[bytes, tuple[str, ...]], Imported]


def _lightgbm(data: bytes, names: tuple[str, ...]) -> Imported:
    from ubp_sql.models.lightgbm_text import parse
    from ubp_sql.models.parsed import Parsed

    forest = parse(data)
    return _placed("lightgbm", Parsed(forest, forest.feature_names, forest.objective, len(forest.trees)), names)


def _xgboost(data: bytes, names: tuple[str, ...]) -> Imported:
    from ubp_sql.models.xgboost_model import parse

    return _placed("xgboost", parse(data), names)


def _linear(data: bytes, names: tuple[str, ...]) -> Imported:
    from ubp_sql.models.linear_text import parse

    return _placed("linear", parse(data), names)


def _prepared(data: bytes, names: tuple[str, ...]) -> Imported:
    """A model's file behind the document of its preparation: the model's features are what that makes."""
    from ubp_sql.models.preparation_blob import compile_prepared
    from ubp_sql.models.preparation_document import BEGIN, read_preparation, split

    document, model = split(data)
    preparation = read_preparation(document)
    try:
        program = preparation.placed(names)
    except ValueError as error:
        raise FeatureSetMismatch(f"the preparation does not fit the feature set: {error}", TRAIN_ON) from None
    if model.startswith(BEGIN):
        raise InvalidModel("the model behind its preparation is a model with a preparation", "one document does it all")
    try:
        found = read_model(model, preparation.outputs)
    except FeatureSetMismatch as error:
        hint = f"the preparation makes {', '.join(preparation.outputs[:5])}, ...: the model is trained on these"
        raise FeatureSetMismatch(f"the model behind its preparation: {error.message}", hint) from None
    return found._replace(
        compiled=compile_prepared(program, found.compiled, found.outputs),
        takes_missing=found.takes_missing or not any(program.missing()),
        preparation=preparation.text,
        explainer=None,
    )


def _onnx(data: bytes, names: tuple[str, ...]) -> Imported:
    from ubp_sql.models.onnx_file import read_graph
    from ubp_sql.models.onnx_fold import fold

    graph = read_graph(data)
    parsed = fold(graph, len(names))
    if parsed is None:
        return _network(graph, names)
    from ubp_sql.models.onnx_graph import own_names

    own = own_names(graph)
    return _placed("onnx", parsed if own is None else parsed._replace(names=own), names)


def _network(graph: Graph, names: tuple[str, ...]) -> Imported:
    """A graph that ONNX Runtime evaluates: neither trees nor a linear model."""
    from ubp_sql.models.onnx_compiled import compile_network, network_of

    network, by_name = network_of(graph, names)
    what = "probability of the second class" if network.second else network.graph.outputs[0].name[:60]
    return Imported("onnx", compile_network(network), what, 0, network.outputs, by_name)


def _placed(format: str, parsed: Parsed, names: tuple[str, ...]) -> Imported:
    """The model compiled for rows whose features have these names in this order."""
    from ubp_sql.models.blob import compile_forest
    from ubp_sql.models.forest import Forest, places_of
    from ubp_sql.models.linear import compile_linear

    body, program = parsed.body, parsed.program
    features = program.features if program else body.n_features
    if not parsed.names and features != len(names):
        raise FeatureSetMismatch(
            f"the model has {features} features without names, the feature set has {len(names)}", TRAIN_ON
        )
    explainer = None
    own = parsed.names or names
    if len(own) != features:
        raise InvalidModel(f"the model has {features} features and {len(own)} names of features")
    try:
        places = places_of(own, names)
    except ValueError as error:
        raise FeatureSetMismatch(f"the model does not fit the feature set: {error}", TRAIN_ON) from None
    if program is not None:
        from ubp_sql.models.preparation_blob import compile_prepared

        inner = compile_forest(body) if isinstance(body, Forest) else compile_linear(body)
        compiled = compile_prepared(program.placed(places), inner, body.n_outputs)
        takes_missing = isinstance(body, Forest) or body.takes_missing
    elif isinstance(body, Forest):
        from ubp_sql.models.explain_compile import compile_explainer

        forest = replace(body, feature_names=own).ordered_as(names)
        compiled, takes_missing = compile_forest(forest), True
        explainer = compile_explainer(forest, compiled)
    else:
        compiled, takes_missing = compile_linear(body.placed(places)), body.takes_missing
    by_name = bool(parsed.names)
    return Imported(
        *(format, compiled, parsed.objective, parsed.trees, body.n_outputs, by_name, takes_missing),
        explainer=explainer,
    )


TRAIN_ON = "train it on all columns of ubp.training_matrix of this task, in any order, under their names"
KNOWN = "LightGBM's text, XGBoost's JSON and UBJ, ONNX"
IMPORTERS = (
    Importer("prepared", lambda data: data.startswith(b"ubp-prepared-model "), _prepared),
    Importer("linear", lambda data: data.startswith(b'{"ubp_linear"'), _linear),
    Importer("lightgbm", lambda data: data.startswith(b"tree"), _lightgbm),
    Importer("xgboost", lambda data: data.startswith(b"{"), _xgboost),
    Importer("onnx", lambda data: data[:1] == b"\x08", _onnx),
)


def read_model(data: bytes, names: tuple[str, ...]) -> Imported:
    """The model in a file's bytes, compiled for rows whose features have these names in this order.

    Raises InvalidModel (UB006) for bytes that are no model, damaged, inconsistent or over a limit, UnsupportedModel
    (UB007) for a model that cannot be evaluated here, FeatureSetMismatch (UB002) where it reads other features.
    """
    for importer in IMPORTERS:
        if importer.begins(data):
            return importer.read(data, names)
    what, hint = other_format(data) or ("something else", f"what is read is {KNOWN}")
    raise InvalidModel(f"this is {what}, not a model", hint)
