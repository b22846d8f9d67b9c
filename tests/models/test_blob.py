"""The compiled form: its layout, and that nothing unsound gets past `open_blob`."""

import hashlib
import math
import pickle
import struct
import subprocess
import sys
from array import array
from dataclasses import replace
from random import Random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.forest_makers import blob_of, random_tree, rows_for, trained, written
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.models import blob as blob_module
from ubp_sql.models import forest as forest_module
from ubp_sql.models.blob import blob_hash, compile_forest, open_blob
from ubp_sql.models.lightgbm_text import parse
from ubp_sql.models.walker import Walker

TREES: list[dict[str, list[object]]] = [
    {
        "split_feature": [0, 1],
        "threshold": ["0.5", "-1.25"],
        "decision_type": [10, 8],
        "left_child": [1, -1],
        "right_child": [-3, -2],
        "leaf_value": ["0.125", "-0.5", "2"],
    },
    {
        **{key: [] for key in ("split_feature", "threshold", "decision_type", "left_child", "right_child")},
        "leaf_value": [4],
    },
    {
        "split_feature": [1],
        "threshold": ["inf"],
        "decision_type": [10],
        "left_child": [-1],
        "right_child": [-2],
        "leaf_value": [8, 16],
    },
]
SOUND = compile_forest(parse(written(TREES, 2, "binary sigmoid:0.5", average=True)))
LEAF, NODE_FIRST, LEAF_FIRST = 64, 64 + 6 * 8, 64 + 6 * 8 + 4 * 4
FEATURE = LEAF_FIRST + 4 * 4
THRESHOLD, LEFT, RIGHT, NAN_LEFT = FEATURE + 12, FEATURE + 24, FEATURE + 36, FEATURE + 48


def edit(at: int, layout: str, *values: float) -> bytes:
    """SOUND with values written at an offset and its checksum made right again."""
    data = bytearray(SOUND)
    struct.pack_into("<" + layout, data, at, *values)
    return signed(bytes(data[:-4]))


def signed(data: bytes) -> bytes:
    return data + struct.pack("<I", crc32(data))


def test_layout_is_the_documented_one() -> None:
    header = struct.unpack_from("<8sHHIIIIIHHIdQQ", SOUND)
    assert header == (b"UBPTREES", 1, 64, 1, 2, 3, 3, 6, 1, 1, 0, 0.5, len(SOUND), 0)
    assert struct.unpack_from("<6d", SOUND, LEAF) == (0.125, -0.5, 2.0, 4.0, 8.0, 16.0)
    assert struct.unpack_from("<4i", SOUND, NODE_FIRST) == (0, 2, 2, 3)
    assert struct.unpack_from("<4i", SOUND, LEAF_FIRST) == (0, 3, 4, 6)
    assert struct.unpack_from("<3i", SOUND, FEATURE) == (0, 1, 1)
    assert struct.unpack_from("<3f", SOUND, THRESHOLD) == (0.5, -1.25, math.inf)
    assert struct.unpack_from("<3i", SOUND, LEFT) == (1, ~0, ~4)
    assert struct.unpack_from("<3i", SOUND, RIGHT) == (~2, ~1, ~5)
    assert SOUND[NAN_LEFT:-4] == b"\1\0\1\0"
    assert open_blob(SOUND).roots() == [0, ~3, 2]


@pytest.mark.parametrize("name", ["binary", "regression_rf", "binary_one_leaf", "regression_deep"])
def test_nothing_is_lost(name: str) -> None:
    forest = parse(trained(name))
    blob = open_blob(compile_forest(forest))
    assert blob.leaf_value.tolist() == [v for tree in forest.trees for v in tree.leaf_value]
    assert sorted(blob.threshold) == sorted(t for tree in forest.trees for t in tree.threshold)
    assert (blob.n_features, blob.n_trees, blob.average) == (forest.n_features, len(forest.trees), forest.average)


def test_nodes_in_any_order_compile_to_parents_first() -> None:
    backwards: dict[str, list[object]] = {
        "split_feature": [0, 1, 0],
        "threshold": [0.5, 1, 2],
        "decision_type": [8, 8, 8],
        "left_child": [2, -1, -3],
        "right_child": [-4, -2, 1],
        "leaf_value": [1, 2, 3, 4],
    }
    blob = blob_of(written([backwards], 2, "regression"))
    assert blob.threshold.tolist() == [0.5, 2, 1]
    assert all(child < 0 or child > i for i, child in enumerate(blob.left))
    walk = Walker(blob)
    assert [walk.raw(x) for x in ((3.0, 0.0), (-1.0, 9.0))] == [4.0, 3.0]


def test_hash_is_sha256() -> None:
    assert blob_hash(SOUND) == hashlib.sha256(SOUND).hexdigest()


UNSOUND: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "something else"),
    "pickle": (pickle.dumps([1]), "Python pickle"),
    "text model": (trained("binary"), "something else"),
    "magic only": (b"UBPTREES", "cut short"),
    "header only": (SOUND[:64], "cut short"),
    "cut": (SOUND[:-1], "bytes, its header tells"),
    "longer": (SOUND + b"\0", "bytes, its header tells"),
    "checksum": (SOUND[:-1] + bytes([SOUND[-1] ^ 1]), "checksum"),
    "header length": (edit(10, "H", 72), "unknown meaning"),
    "flags": (edit(12, "I", 3), "unknown meaning"),
    "no features": (edit(16, "I", 0), "counts 0 features"),
    "too many features": (edit(16, "I", 2**32 - 1), "counts 4294967295 features"),
    "no trees": (edit(20, "I", 0), "0 trees"),
    "too many trees": (edit(20, "I", 2**31), "2147483648 trees"),
    "too many nodes": (edit(24, "II", 2**31, 2**31 + 3), "2147483648 nodes"),
    "leaves that do not fit": (edit(28, "I", 7), "7 leaves"),
    "outputs": (edit(32, "H", 2), "unknown meaning"),
    "link": (edit(34, "H", 9), "link 9"),
    "reserved word": (edit(36, "I", 1), "unknown meaning"),
    "parameter NaN": (edit(40, "d", math.nan), "parameter nan"),
    "parameter negative": (edit(40, "d", -1.0), "parameter -1.0"),
    "parameter infinite": (edit(40, "d", math.inf), "parameter inf"),
    "length": (edit(48, "Q", 2**63), "its header tells"),
    "reserved words": (edit(56, "Q", 1), "unknown meaning"),
    "leaf NaN": (edit(LEAF, "d", math.nan), "number that is not one"),
    "leaf infinite": (edit(LEAF, "d", math.inf), "number that is not one"),
    "nodes do not start at 0": (edit(NODE_FIRST, "i", 1), "do not cover"),
    "nodes do not end at the last": (edit(NODE_FIRST + 12, "i", 2), "do not cover"),
    "nodes descend": (edit(NODE_FIRST + 4, "ii", 3, 2), "tree 0 has an impossible number"),
    "nodes negative": (edit(NODE_FIRST + 4, "ii", -1, 0), "tree 0 has an impossible number"),
    "leaves huge": (edit(LEAF_FIRST + 4, "i", 2**31 - 1), "tree 0 has an impossible number"),
    "leaves negative": (edit(LEAF_FIRST + 4, "i", -(2**31)), "tree 0 has an impossible number"),
    "feature too large": (edit(FEATURE, "i", 2), "uses a feature"),
    "feature negative": (edit(FEATURE, "i", -1), "uses a feature"),
    "threshold NaN": (edit(THRESHOLD, "f", math.nan), "number that is not one"),
    "child of another tree": (edit(LEFT, "i", 2), "tree 0 meets"),
    "leaf of another tree": (edit(LEFT + 4, "i", ~3), "tree 0 meets"),
    "leaf twice": (edit(LEFT + 4, "i", ~1), "tree 0 meets"),
    "child beyond all": (edit(LEFT, "i", 2**31 - 1), "tree 0 meets"),
    "leaf beyond all": (edit(LEFT + 4, "i", -(2**31)), "tree 0 meets"),
    "child is the root": (edit(LEFT, "i", 0), "tree 0 meets"),
    "child is itself": (edit(LEFT, "iiiiii", ~0, 1, ~4, ~2, ~1, ~5), "node 1 has a child before itself"),
    "flag of a node": (edit(NAN_LEFT, "B", 2), "flag of an unknown meaning"),
    "padding": (edit(NAN_LEFT + 3, "B", 1), "flag of an unknown meaning"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_bytes(name: str) -> None:
    data, message = UNSOUND[name]
    with pytest.raises(InvalidModel, match=message) as caught:
        open_blob(data)
    assert caught.value.message.isprintable()


def test_a_later_layout_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="layout 2"):
        open_blob(edit(8, "H", 2))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in (("MAX_FEATURES", 1), ("MAX_TREES", 2), ("MAX_LEAVES", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(blob_module, limit, most)
            with pytest.raises(InvalidModel, match="counts"):
                open_blob(SOUND)
        with monkeypatch.context() as patch:
            patch.setattr(forest_module, limit, most)
            with pytest.raises(InvalidModel, match=r"allowed|more than"):
                parse(written(TREES, 2, "regression"))


@settings(deadline=None, max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    resign=st.booleans(),
    seed=st.integers(0, 3),
)
def test_changed_bytes_are_refused_or_still_a_forest(edits: list[tuple[int, int]], resign: bool, seed: int) -> None:
    random = Random(seed)
    text = written([random_tree(random, 3, random.randint(1, 5)) for _ in range(3)], 3, "binary sigmoid:1")
    before = compile_forest(parse(text))
    data = bytearray(before)
    for at, byte in edits:
        data[at % len(data)] = byte
    changed = signed(bytes(data[:-4])) if resign else bytes(data)
    try:
        blob = open_blob(changed)
    except UbpError:
        return
    assert resign or changed == before
    walk = Walker(blob)
    for row in rows_for(text, 4, 2).tolist():
        assert not math.isnan(walk.score((row * blob.n_features)[: blob.n_features]))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused(data: bytes, magic: bool) -> None:
    with pytest.raises(UbpError):
        open_blob(b"UBPTREES" + data if magic else data)


def test_compile_checks_a_forest_made_by_hand() -> None:
    sound = parse(written(TREES, 2, "regression"))
    tree = sound.trees[0]
    for wrong, message in (
        (replace(tree, threshold=tree.threshold[:1]), "arrays of nodes differ"),
        (replace(tree, leaf_value=tree.leaf_value[:2]), "2 leaves for 2 nodes"),
        (replace(tree, feature=array("i", [0, 2])), "feature index is outside"),
        (replace(tree, threshold=array("f", [math.nan, 0])), "threshold is NaN"),
        (replace(tree, leaf_value=array("d", [0, math.inf, 0])), "not finite"),
        (replace(tree, nan_left=b"\0\2"), "NaN direction"),
        (replace(tree, left=array("i", [1, 1])), "child 1 of node 1"),
    ):
        with pytest.raises(InvalidModel, match=f"tree 0: .*{message}"):
            compile_forest(replace(sound, trees=(wrong, *sound.trees[1:])))
    with pytest.raises(InvalidModel, match="link's parameter"):
        compile_forest(replace(sound, link_parameter=math.nan))
    with pytest.raises(InvalidModel, match="0 features"):
        compile_forest(replace(sound, feature_names=()))


def test_single_scores_import_nothing_heavy() -> None:
    program = f"""
import sys
from ubp_sql.models.blob import open_blob
from ubp_sql.models.walker import Walker
Walker(open_blob(bytes.fromhex({SOUND.hex()!r}))).score((0.0, 1.0))
print([m for m in ("numpy", "numba", "dataclasses", "typing", "enum", "re", "hashlib") if m in sys.modules])
"""
    command = [sys.executable, "-S", "-I", "-c", f"import sys; sys.path[:0]={sys.path!r}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
