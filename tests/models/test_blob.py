"""The compiled form: its layout, and that nothing unsound gets past `open_blob`."""

import ctypes
import hashlib
import math
import pickle
import struct
import subprocess
import sys
from array import array
from dataclasses import replace
from itertools import chain
from random import Random
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.forest_makers import blob_of, random_model, rows_for, trained, written
from ubp_sql.errors import InvalidModel, UbpError, UnsupportedModel
from ubp_sql.install import native as build
from ubp_sql.kernels import forest_codes, native
from ubp_sql.models import blob as blob_module
from ubp_sql.models import forest as forest_module
from ubp_sql.models.batch import score_batch
from ubp_sql.models.blob import blob_hash, compile_forest, open_blob, outputs_of
from ubp_sql.models.forest import Link
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
    {
        "split_feature": [0],
        "threshold": [0],
        "decision_type": [1],
        "left_child": [-1],
        "right_child": [-2],
        "leaf_value": [32, 64],
        "cat_boundaries": [0, 2],
        "cat_threshold": [5, 2**31],
    },
]
SOUND = compile_forest(parse(written(TREES, 2, "binary sigmoid:0.5", average=True)))
LEAF = 64
NODES = LEAF + 8 * 8
NODE_FIRST = NODES + 4 * 16
LEAF_FIRST, SET_FIRST = NODE_FIRST + 5 * 4, NODE_FIRST + 10 * 4
SET_WORDS = SET_FIRST + 2 * 4
FEATURE, FLAGS, THRESHOLD, LEFT, RIGHT = NODES, NODES + 2, NODES + 4, NODES + 8, NODES + 12


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    build.build()


def edit(at: int, layout: str, *values: float) -> bytes:
    """SOUND with values written at an offset and its checksum made right again."""
    data = bytearray(SOUND)
    struct.pack_into("<" + layout, data, at, *values)
    return signed(bytes(data[:-4]))


def signed(data: bytes) -> bytes:
    return data + struct.pack("<I", crc32(data))


def test_layout_is_the_documented_one() -> None:
    header = struct.unpack_from("<8sHHIIIIIHHIdQII", SOUND)
    assert header == (b"UBPTREES", 2, 64, 3, 2, 4, 4, 8, 1, 1, 1, 0.5, len(SOUND), 2, 0)
    assert struct.unpack_from("<8d", SOUND, LEAF) == (0.125, -0.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    nodes = [(0, 1, 0.5, 1, ~2), (1, 0, -1.25, ~0, ~1), (1, 1, math.inf, ~4, ~5), (0, 4, 0.0, ~6, ~7)]
    assert list(struct.iter_unpack("<HHfii", SOUND[NODES:NODE_FIRST])) == nodes
    assert struct.unpack_from("<5i", SOUND, NODE_FIRST) == (0, 2, 2, 3, 4)
    assert struct.unpack_from("<5i", SOUND, LEAF_FIRST) == (0, 3, 4, 6, 8)
    assert struct.unpack_from("<2i", SOUND, SET_FIRST) == (0, 2)
    assert struct.unpack_from("<2I", SOUND, SET_WORDS) == (5, 2**31)
    assert len(SOUND) == SET_WORDS + 8 + 4
    blob = open_blob(SOUND)
    assert blob.roots() == [0, ~3, 2, 3]
    columns = (blob.feature, blob.node_flags, blob.threshold, blob.left, blob.right)
    assert list(zip(*columns, strict=True)) == nodes
    assert (blob.set_first.tolist(), blob.set_words.tolist(), blob.special) == ([0, 2], [5, 2**31], True)
    assert outputs_of(SOUND) == 1


def test_codes_are_written_down_once() -> None:
    assert list(Link) == list(range(forest_codes.LINKS))
    assert all(getattr(forest_codes, link.name) == link for link in Link)
    assert array("f", [1e-35])[0] == forest_codes.TINY


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


def test_features_in_another_order() -> None:
    forest = parse(written(TREES, 3, "regression"))
    turned = forest.ordered_as(("f2", "f0", "f1"))
    assert turned.feature_names == ("f2", "f0", "f1")
    one, other = Walker(open_blob(compile_forest(forest))), Walker(open_blob(compile_forest(turned)))
    for row in ((0.0, -2.0, 7.0), (1.0, 5.0, math.nan), (34.0, 0.0, 1.0), (0.0, math.nan, 3.0)):
        assert one.score(row) == other.score((row[2], row[0], row[1]))
    assert forest.ordered_as(forest.feature_names) is forest
    with pytest.raises(ValueError, match="no feature 'f1'"):
        forest.ordered_as(("f0", "f2", "f3"))
    with pytest.raises(ValueError, match="does not know its feature 'f3'"):
        forest.ordered_as(("f0", "f3", "f1", "f2"))


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
    "flags": (edit(12, "I", 7), "unknown meaning"),
    "special nodes denied": (edit(12, "I", 1), "header tells of other nodes"),
    "no features": (edit(16, "I", 0), "counts 0 features"),
    "too many features": (edit(16, "I", 2**32 - 1), "counts 4294967295 features"),
    "no trees": (edit(20, "I", 0), "0 trees"),
    "too many trees": (edit(20, "I", 2**31), "2147483648 trees"),
    "too many nodes": (edit(24, "II", 2**31, 2**31 + 3), "2147483648 nodes"),
    "leaves that do not fit": (edit(28, "I", 9), "9 leaves"),
    "no outputs": (edit(32, "H", 0), "counts 0 outputs"),
    "too many outputs": (edit(32, "H", 65535), "counts 65535 outputs"),
    "outputs that do not share the trees": (edit(32, "H", 3), "counts 3 outputs of 4 trees"),
    "link": (edit(34, "H", 6), "link 6"),
    "too many sets": (edit(36, "I", 5), "5 sets"),
    "a set more": (edit(36, "I", 2), "its header tells"),
    "parameter NaN": (edit(40, "d", math.nan), "parameter nan"),
    "parameter negative": (edit(40, "d", -1.0), "parameter -1.0"),
    "parameter infinite": (edit(40, "d", math.inf), "parameter inf"),
    "length": (edit(48, "Q", 2**63), "its header tells"),
    "too many words": (edit(56, "I", 2**32 - 1), "4294967295 words"),
    "reserved word": (edit(60, "I", 1), "unknown meaning"),
    "softmax of one": (edit(34, "H", 2), "link 2 is of several outputs"),
    "leaf NaN": (edit(LEAF + 8, "d", math.nan), "leaf 1 is not a finite number"),
    "leaf infinite": (edit(LEAF, "d", math.inf), "leaf 0 is not a finite number"),
    "leaves beyond all sums": (edit(LEAF, "dd", 1e308, 1e308), "leaves can add up to more"),
    "nodes do not start at 0": (edit(NODE_FIRST, "i", 1), "do not cover"),
    "nodes do not end at the last": (edit(NODE_FIRST + 16, "i", 3), "do not cover"),
    "nodes descend": (edit(NODE_FIRST + 4, "ii", 3, 2), "tree 0 has an impossible number"),
    "nodes negative": (edit(NODE_FIRST + 4, "ii", -1, 0), "tree 0 has an impossible number"),
    "leaves huge": (edit(LEAF_FIRST + 4, "i", 2**31 - 1), "tree 0 has an impossible number"),
    "leaves negative": (edit(LEAF_FIRST + 4, "i", -(2**31)), "tree 0 has an impossible number"),
    "feature too large": (edit(FEATURE, "H", 2), "node 0 uses a feature"),
    "threshold NaN": (edit(THRESHOLD, "f", math.nan), "node 0 has no threshold: NaN"),
    "child of another tree": (edit(LEFT, "i", 2), "tree 0 meets"),
    "leaf of another tree": (edit(LEFT + 16, "i", ~3), "tree 0 meets"),
    "leaf twice": (edit(LEFT + 16, "i", ~1), "tree 0 meets"),
    "child beyond all": (edit(LEFT, "i", 2**31 - 1), "tree 0 meets"),
    "leaf beyond all": (edit(LEFT + 16, "i", -(2**31)), "tree 0 meets"),
    "child is the root": (edit(LEFT, "i", 0), "tree 0 meets"),
    "child is itself": (edit(LEFT, "iiHHfii", ~0, ~2, 1, 0, 0.0, 1, ~1), "node 1 has a child before itself"),
    "flag of a node": (edit(FLAGS, "H", 8), "node 0 has a flag of an unknown meaning"),
    "flags that do not go together": (edit(FLAGS, "H", 6), "flag of an unknown meaning"),
    "flag beyond a byte": (edit(FLAGS, "H", 257), "flag of an unknown meaning"),
    "sets do not start at 0": (edit(SET_FIRST, "i", 1), "sets of categories do not cover"),
    "sets do not end at the last word": (edit(SET_FIRST + 4, "i", 1), "sets of categories do not cover"),
    "set without a word": (edit(SET_FIRST, "i", 2), "sets of categories do not cover"),
    "set that does not exist": (edit(THRESHOLD + 48, "f", 1.0), "do not include the one that node 3 names"),
    "set negative": (edit(THRESHOLD + 48, "f", -1.0), "do not include the one that node 3 names"),
    "set of no whole number": (edit(THRESHOLD + 48, "f", 0.5), "do not include the one that node 3 names"),
    "set infinite": (edit(THRESHOLD + 48, "f", math.inf), "do not include the one that node 3 names"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_bytes(name: str) -> None:
    data, message = UNSOUND[name]
    with pytest.raises(InvalidModel, match=message) as caught:
        open_blob(data)
    assert caught.value.message.isprintable()


def test_another_layout_is_named() -> None:
    for layout in (1, 3):
        with pytest.raises(UnsupportedModel, match=f"layout {layout}, known is 2"):
            open_blob(edit(8, "H", layout))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in (("MAX_FEATURES", 1), ("MAX_TREES", 2), ("MAX_LEAVES", 7), ("MAX_CATEGORY_WORDS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(blob_module, limit, most)
            with pytest.raises(InvalidModel, match="counts"):
                open_blob(SOUND)
        with monkeypatch.context() as patch:
            patch.setattr(forest_module, limit, most)
            with pytest.raises(InvalidModel, match=r"allowed|more than|outside"):
                parse(written(TREES, 2, "regression"))


@settings(deadline=None, max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    resign=st.booleans(),
    seed=st.integers(0, 20),
)
def test_changed_bytes_are_refused_or_still_a_forest(edits: list[tuple[int, int]], resign: bool, seed: int) -> None:
    text = random_model(Random(seed), 3, 3, 5)
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
    x = np.resize(rows_for(text, 4, 2), (4, blob.n_features))
    scores = [walk.scores(tuple(row)) for row in x.tolist()]
    assert not any(map(math.isnan, chain(*scores)))
    # What was let in is safe for those who check nothing, and they read it in the same way.
    assert score_batch(blob, x).tolist() == scores
    score_outputs = native.entry("ubp_score_outputs")
    assert score_outputs is not None
    for row, expected in zip(x, scores, strict=True):
        out = (ctypes.c_double * blob.n_outputs)()
        score_outputs(changed, row.tobytes(), out)
        assert list(out) == expected


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
        (replace(tree, flags=b"\0\6"), "flags are none that exist"),
        (replace(tree, flags=b"\0\4"), "set of categories does not exist"),
        (replace(tree, flags=b"\0\4", threshold=array("f", [0, 0]), sets=(array("I"),)), "has no word"),
        (replace(tree, left=array("i", [1, 1])), "child 1 of node 1"),
    ):
        with pytest.raises(InvalidModel, match=f"tree 0: .*{message}"):
            compile_forest(replace(sound, trees=(wrong, *sound.trees[1:])))
    with pytest.raises(InvalidModel, match="add up to more"):
        compile_forest(replace(sound, trees=(replace(tree, leaf_value=array("d", [1e308, 1e308, 0])),)))
    with pytest.raises(InvalidModel, match="3 outputs for 4 trees"):
        compile_forest(replace(sound, outputs=3))
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
