"""What the fuzzer found once, each by the smallest input that shows it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import seeds_onnx
from tests.fuzz.seeds_onnx import ML, model, node, part
from tests.fuzz.targets import NAMES
from ubp_sql.errors import BadInput, InvalidModel, MapError, UnsupportedModel
from ubp_sql.features.definition import FeatureSetDefinition
from ubp_sql.models.formats import read_model
from ubp_sql.models.loaded import open_model
from ubp_sql.sources.load_map import LoadMap


@pytest.mark.parametrize(
    ("kind", "domain"),
    [("TreeEnsembleRegressor", ML), ("LinearRegressor", ML), ("MatMul", ""), ("Gemm", ""), ("Relu", "")],
)
def test_a_node_without_its_inputs(kind: str, domain: str) -> None:
    for inputs in ("", "x") if kind != "Relu" else ("",):
        with pytest.raises((InvalidModel, UnsupportedModel), match=kind):
            read_model(model([node(kind, inputs, "y", domain)], {"y": (None, 1)}), NAMES)


def test_a_flag_that_is_neither_0_nor_1() -> None:
    """ONNX Runtime takes 7 for no, C for yes."""
    (first, *_) = seeds_onnx.trees()
    key, wrong = b"nodes_missing_value_tracks_true", b"expected 10 flags"
    at = first.index(key) + len(key)
    number = first.index(b"\x40", at) + 1
    with pytest.raises(InvalidModel, match=wrong.decode()):
        read_model(first[:number] + b"\7" + first[number + 1 :], NAMES)


def test_an_input_of_no_type() -> None:
    data = model([node("Relu", "x", "y")], {"y": (None, 5)})
    for element in (0, 99):
        changed = data.replace(seeds_onnx.value("x", (None, 5)), seeds_onnx.value("x", (None, 5), element))
        with pytest.raises((InvalidModel, UnsupportedModel), match="input 'x'"):
            read_model(changed, NAMES)


def test_an_output_that_nothing_computes() -> None:
    data = model([node("Relu", "x", "y")], {"x": (None, 5)})
    with pytest.raises(InvalidModel, match=r"output 'x'.*no node"):
        read_model(data, NAMES)


def test_an_operator_of_control_characters() -> None:
    data = model([node("Re\x07lu", "x", "y")], {"y": (None, 5)})
    with pytest.raises(InvalidModel, match="node 0: op_type") as caught:
        read_model(data, NAMES)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_named_and_not_opened(protocol: int) -> None:
    for held in (Trap(), {"model": 1}, [1]):
        for read in (lambda data: read_model(data, NAMES), open_model):
            with pytest.raises(InvalidModel, match="this is a Python pickle") as caught:
                read(pickle.dumps(held, protocol))
            assert "runs code" in str(caught.value.hint)


class Trap:
    """A pickle of it ends the process that opens it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, ("raise SystemExit",)


def test_a_length_beyond_the_file() -> None:
    with pytest.raises(InvalidModel, match=r"byte \d+"):
        read_model(part(1, 8) + b"\x3a\xff\xff\xff\xff\x0f", NAMES)


def test_a_message_is_short_whatever_the_text() -> None:
    text = "source: s\nformat: csv\nuser: u\nevent_time: t\nkind: k\n"
    for line in ("time_zone: " + "x" * 5000, "encoding: " + "x" * 5000, '"' + 900 * "x" + '": 1', '"a\\nb": 1'):
        with pytest.raises(MapError) as in_map:
            LoadMap.from_text(text + line, Path("m.yaml"))
        assert len(in_map.value.message) < 200
        assert in_map.value.message.isprintable()
    parts = json.loads(FeatureSetDefinition(("view",), (7,)).to_json())
    for wrong in ({"hash": "x" * 5000}, {"semantics": [0] * 5000}):
        with pytest.raises(BadInput) as in_set:
            FeatureSetDefinition.from_json(json.dumps({**parts, **wrong}))
        assert len(in_set.value.message) < 400
