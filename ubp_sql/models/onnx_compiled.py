"""The compiled form of a graph that ONNX Runtime evaluates, and the way from a file to it.

    offset  type      content
    0       8 bytes   magic "UBPONNX1"
    8       u16       version of this layout, 1
    10      u16       length of this header, 64
    12      u32       flags: bit 0: the score is the second of two columns; bit 1: the graph takes one row at a time
    16      u32       f, features a row has
    20      12 bytes  0
    32      u16       k, outputs
    34      u16       c, columns of what the graph gives
    36      u32       length of the ONNX bytes
    40      u64       0
    48      u64       length of the whole value
    56      u64       0
    64      bytes     an ONNX file of one input (rows, f) and one output (rows, c), written by models/onnx_write.py
            u32       CRC-32 of all before

Compiling keeps what the score needs and drops all else: other outputs (a classifier's label), names, documentation. So
ONNX Runtime never sees a byte that was not written here, from a graph that was checked. Opening checks it again.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from ubp_sql.errors import FeatureSetMismatch, InvalidModel, UnsupportedModel
from ubp_sql.models.forest import places_of
from ubp_sql.models.limits import MAX_FEATURES, MAX_OUTPUTS
from ubp_sql.models.loaded import NETWORK
from ubp_sql.models.onnx_file import read_graph
from ubp_sql.models.onnx_graph import NUMBERS, Graph, Node, Tensor, Value, own_names
from ubp_sql.models.onnx_layers import LAYERS
from ubp_sql.models.onnx_ml import ML
from ubp_sql.models.onnx_moves import MOVES
from ubp_sql.models.onnx_operators import FLOATS, RULES
from ubp_sql.models.onnx_shapes import MAX_WORK, Known, Sizes, infer
from ubp_sql.models.onnx_write import write_graph

MAGIC, LAYOUT = NETWORK, 1
_HEADER = Struct("<8sHHII12sHHIQQQ")
_NONE = bytes(12)
_SECOND, _ONE_BY_ONE = 1, 2
ONE_INPUT = "export it with one input, float32, rows by features, or with one of a single column for each feature"
ALL_RULES = {**{("", name): rule for name, rule in (RULES | MOVES | LAYERS).items()}}
ALL_RULES |= {("ai.onnx.ml", name): rule for name, rule in ML.items()}


class Network(NamedTuple):
    """A graph of one input and one output.

    second      the score is the second of its two columns
    one_by_one  it takes no more rows at once
    """

    graph: Graph
    features: int
    columns: int
    second: bool
    one_by_one: bool

    @property
    def outputs(self) -> int:
        return 1 if self.second else self.columns

    def sizes(self, rows: int) -> Sizes:
        """What a run of so many rows takes. Raises InvalidModel (UB006) where it takes too much or gives no rows."""
        sizes = infer(self.graph, {self.graph.inputs[0].name: (rows, self.features)}, ALL_RULES)
        (made,) = sizes.outputs.values()
        if not _is_rows(made, rows) or made.elements != rows * self.columns:
            raise InvalidModel(
                f"the graph makes {list(made.shape)} of {rows} rows", "its output must have a row for each row"
            )
        return sizes


def _is_rows(made: Known, rows: int) -> bool:
    return made.dtype in FLOATS and (made.shape[:1] == (rows,) or (rows == 1 and not made.shape))


def network_of(graph: Graph, names: tuple[str, ...]) -> tuple[Network, bool]:
    """The network in a file's graph for rows of features of these names, and whether it named them itself.

    Names are those of the inputs, where each column is one; else they are read from the file's metadata, key
    `feature_names`, a JSON list in the order of the input's columns; a file without it is taken to have the feature
    set's order. Raises InvalidModel (UB006), UnsupportedModel (UB007),
    FeatureSetMismatch (UB002).
    """
    own, inputs = own_names(graph), graph.inputs
    wanted, second = _score(graph)
    graph = _pruned(graph, wanted)
    if len(inputs) > 1 and all(value.shape is not None and value.shape[1:] == (1,) for value in inputs):
        own = tuple(value.name for value in inputs)
        graph = _joined(graph, own, names)
    elif len(graph.inputs) == 1:
        graph = _ordered(graph, own, names)
    elif not graph.inputs:
        raise UnsupportedModel("the score does not depend on the features", ONE_INPUT)
    else:
        found = ", ".join(value.name[:40] for value in graph.inputs[:5])
        raise UnsupportedModel(f"the score depends on {len(graph.inputs)} inputs: {found}", ONE_INPUT)
    network = Network(graph, len(names), 1, False, False)
    made = _made(network, 1)
    if made is None:
        raise InvalidModel("the graph does not make one row of one row", "its output must have a row for each row")
    columns = made.elements
    if columns > MAX_OUTPUTS:
        raise InvalidModel(f"the graph has {columns} outputs, at most {MAX_OUTPUTS} are read")
    both = _made(network, 2)
    batched = both is not None and both.elements == 2 * columns
    network = network._replace(columns=columns, second=second and columns == 2, one_by_one=not batched)
    return network, own is not None


def _made(network: Network, rows: int) -> Known | None:
    """What so many rows become, where that is rows. A graph may well take one row and refuse two."""
    try:
        sizes = infer(network.graph, {network.graph.inputs[0].name: (rows, network.features)}, ALL_RULES)
    except InvalidModel:
        if rows == 1:
            raise
        return None
    (made,) = sizes.outputs.values()
    return made if _is_rows(made, rows) else None


def _score(graph: Graph) -> tuple[str, bool]:
    """The output with the score, and whether two columns of it would be the probabilities of two classes."""
    numbers = [value for value in graph.outputs if value.dtype in (*FLOATS, "")]
    if not numbers:
        raise UnsupportedModel(
            "the graph has no output of type float32 or float64", "export probabilities or values, not only labels"
        )
    if len(numbers) > 1:
        raise UnsupportedModel(
            f"the graph has {len(numbers)} outputs: {', '.join(value.name[:40] for value in numbers[:5])}",
            "export it with one, the score",
        )
    name = numbers[0].name
    makers = {output: node.op_type for node in graph.nodes for output in node.outputs}
    return name, len(graph.outputs) > 1 or makers.get(name) == "Softmax"


def _pruned(graph: Graph, wanted: str) -> Graph:
    """The graph without what that output does not need."""
    needed, nodes = {wanted}, []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            nodes.append(node)
            needed.update(node.inputs)
    if not nodes:
        raise InvalidModel(f"output {wanted[:60]!a} of the graph is computed by no node")
    output = next(value for value in graph.outputs if value.name == wanted)
    return Graph(
        nodes=tuple(reversed(nodes)),
        initializers={name: tensor for name, tensor in graph.initializers.items() if name in needed},
        inputs=tuple(value for value in graph.inputs if value.name in needed),
        outputs=(Value(wanted, output.dtype or "float32", None),),
        opsets={"": 13, **graph.opsets},
        metadata={},
    )


def _ordered(graph: Graph, own: tuple[str, ...] | None, names: tuple[str, ...]) -> Graph:
    """The graph for rows of the feature set, out of one of a single input."""
    given = graph.inputs[0]
    shape = given.shape
    if given.dtype not in FLOATS or shape is None or len(shape) != 2:
        raise UnsupportedModel(f"input {given.name[:60]!a} is {given.dtype or 'no tensor'} of shape {shape}", ONE_INPUT)
    width = shape[1] or len(names)
    if own is not None and len(own) != width:
        raise InvalidModel(f"metadata feature_names has {len(own)} names, the input {width} columns")
    if own is None and width != len(names):
        raise FeatureSetMismatch(f"the model takes {width} features, the feature set has {len(names)}")
    places = _places(own or names, names)
    given = Value(given.name, given.dtype, (None, len(names)))
    if places == [*range(width)]:
        return replace(graph, inputs=(given,))
    row, order = _unused("row", graph), _unused("order", graph)
    return replace(
        graph,
        nodes=(Node("Gather", "", "order", (row, order), (given.name,), {"axis": 1}), *graph.nodes),
        initializers={**graph.initializers, order: Tensor("int64", (width,), array("q", places).tobytes())},
        inputs=(replace(given, name=row),),
    )


def _joined(graph: Graph, own: tuple[str, ...], names: tuple[str, ...]) -> Graph:
    """The graph for rows of the feature set, out of one that takes each column as an input of its own name."""
    place = dict(zip(own, _places(own, names), strict=True))
    row = _unused("row", graph)
    columns = [_unused(f"column {k}", graph) for k in range(len(names))]
    # From opset 18 on a split into equal parts says into how many.
    parts = {"num_outputs": len(names)} if graph.opsets[""] >= 18 else {}
    nodes = [Node("Split", "", "columns", (row,), tuple(columns), {"axis": 1, **parts})]
    for value in graph.inputs:
        kind = {"to": NUMBERS.get(value.dtype, 0)}
        nodes.append(Node("Cast", "", value.name, (columns[place[value.name]],), (value.name,), kind))
    return replace(graph, nodes=(*nodes, *graph.nodes), inputs=(Value(row, "float32", (None, len(names))),))


def _places(own: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    try:
        return places_of(own, names)
    except ValueError as error:
        raise FeatureSetMismatch(f"the model does not fit the feature set: {error}") from None


def _unused(name: str, graph: Graph) -> str:
    """A name that nothing in the graph has."""
    taken = {value.name for value in graph.inputs}.union(graph.initializers, *(node.outputs for node in graph.nodes))
    while name in taken:
        name += "_"
    return name


def compile_network(network: Network) -> bytes:
    """The compiled form."""
    onnx = write_graph(network.graph)
    flags = _SECOND * network.second | _ONE_BY_ONE * network.one_by_one
    counts = network.features, _NONE, network.outputs, network.columns, len(onnx)
    body = _HEADER.pack(MAGIC, LAYOUT, _HEADER.size, flags, *counts, 0, _HEADER.size + len(onnx) + 4, 0) + onnx
    return body + crc32(body).to_bytes(4, "little")


def open_network(compiled: bytes) -> tuple[Network, bytes]:
    """The network in compiled bytes, and the ONNX file in them.

    Raises InvalidModel (UB006) for bytes that no compiler of ours can have made, UnsupportedModel (UB007) for another
    layout.
    """
    if len(compiled) < _HEADER.size + 4 or not compiled.startswith(MAGIC):
        raise InvalidModel(f"the compiled model is cut short at {len(compiled)} bytes")
    _, layout, header, flags, f, none, k, columns, size, zero, length, also = _HEADER.unpack_from(compiled)
    if layout != LAYOUT:
        raise UnsupportedModel(
            f"the compiled model has layout {layout}, known is {LAYOUT}", "register the model again: its file compiles"
        )
    if not length == len(compiled) == _HEADER.size + size + 4:
        raise InvalidModel(f"the compiled model has {len(compiled)} bytes, its header tells of another number")
    if crc32(compiled[:-4]) != int.from_bytes(compiled[-4:], "little"):
        raise InvalidModel("the compiled model is damaged: its checksum differs")
    if header != _HEADER.size or flags > _SECOND | _ONE_BY_ONE or none != _NONE or zero or also:
        raise InvalidModel("the compiled model's header has a field of an unknown meaning")
    second, one_by_one = bool(flags & _SECOND), bool(flags & _ONE_BY_ONE)
    if not 0 < f <= MAX_FEATURES or not 0 < columns <= MAX_OUTPUTS or k != (1 if second else columns):
        raise InvalidModel(f"the compiled model counts {f} features, {columns} columns, {k} outputs")
    onnx = compiled[_HEADER.size : -4]
    graph = read_graph(onnx)
    if [len(graph.inputs), len(graph.outputs)] != [1, 1] or (second and columns != 2):
        raise InvalidModel("the compiled model's graph is not the one that its header tells of")
    network = Network(graph, f, columns, second, one_by_one)
    network.sizes(1)
    return network, onnx


def rows_at_once(network: Network, most_bytes: int, most: int) -> int:
    """How many rows fit into a run of so many bytes, a power of two."""
    if network.one_by_one:
        return 1
    one, two = network.sizes(1), network.sizes(2)
    most = min(most, most_bytes // max(1, two.bytes - one.bytes), MAX_WORK // max(1, one.work))
    rows: int = 1 << max(0, most.bit_length() - 1)
    return rows
