"""Files of many megabytes that say little: what a reader must refuse before it allocates, or walk through in no time.

Run as a program it reads them one after the other under limits, and prints a line of JSON for each: its name, seconds
of CPU, and what was said.
"""

import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import seeds_onnx, seeds_xgboost
from tests.fuzz.seeds_onnx import node, part
from tests.fuzz.targets import NAMES
from ubp_sql.errors import UbpError
from ubp_sql.models.formats import read_model

SIZE = 8 << 20
MEMORY = 384 << 20  # beyond the file itself
_HEADER = (
    b"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=0\nobjective=regression\n"
    b"feature_names=a\nfeature_infos=none\ntree_sizes=1\n\n"
)


def _text(key: bytes, value: bytes) -> bytes:
    """A LightGBM header with one endless value."""
    start, rest = _HEADER.split(key + b"=")
    return start + key + b"=" + value * (SIZE // len(value)) + rest[rest.index(b"\n") :]


def _json(begin: bytes, again: bytes, end: bytes = b"") -> bytes:
    return begin + again * (SIZE // len(again)) + end


def _graph(*fields: bytes) -> bytes:
    return part(1, 8) + part(7, b"".join(fields))


def _attribute(kind: int, value: bytes) -> bytes:
    """An ONNX node with an attribute of endless values."""
    again = part(1, "a") + part(20, kind) + value * (SIZE // len(value))
    return _graph(part(1, part(4, "Identity") + part(2, "y") + part(5, again)))


def _lopsided() -> bytes:
    """All trees are of the first of a thousand outputs: the others want as many."""
    document: dict[str, Any] = seeds_xgboost.document(Random(1), "gbtree", "multi:softprob", 1, 1)
    learner = document["learner"]
    learner["learner_model_param"] |= {"num_class": "1000", "base_score": "5E-1"}
    model = learner["gradient_booster"]["model"]
    model |= {"trees": model["trees"][:1] * 10_000, "tree_info": [0] * 10_000, "iteration_indptr": [0, 10_000]}
    model["gbtree_model_param"]["num_trees"] = "10000"
    return json.dumps(document).encode()


def _categories() -> bytes:
    """Sets of one category each, the largest that there is."""
    document: dict[str, Any] = seeds_xgboost.document(Random(1), "gbtree", "reg:squarederror", 1, 1)
    tree, n = document["learner"]["gradient_booster"]["model"]["trees"][0], 4001
    for key in ("parents", "split_indices", "default_left", "base_weights", "loss_changes", "sum_hessian"):
        tree[key] = [0] * n
    inner = n // 2
    tree |= {"left_children": [2 * i + 1 if i < inner else -1 for i in range(n)], "split_type": [1] * n}
    tree |= {"right_children": [2 * i + 2 if i < inner else -1 for i in range(n)], "split_conditions": [0.5] * n}
    tree |= {"categories": [2**24 - 1], "categories_nodes": list(range(inner))}
    tree |= {"categories_segments": [0] * inner, "categories_sizes": [1] * inner}
    tree["tree_param"]["num_nodes"] = str(n)
    return json.dumps(document).encode()


GIANTS: dict[str, Callable[[], bytes]] = {
    "text: names": lambda: _text(b"feature_names", b"a "),
    "text: ranges": lambda: _text(b"feature_infos", b"[0"),
    "text: sizes": lambda: _text(b"tree_sizes", b"1 "),
    "text: lines": lambda: b"tree\n" + b"\n" * SIZE,
    "json: brackets": lambda: _json(b'{"a":', b"["),
    "json: tables": lambda: _json(b"", b'{"a":'),
    "json: lists": lambda: _json(b'{"a":[', b"[1],", b"[1]]}"),
    "json: empty tables": lambda: _json(b'{"a":[', b"{},", b"{}]}"),
    "json: names": lambda: b"{" + b",".join(b'"%d":1' % k for k in range(SIZE // 11)) + b"}",
    "json: numbers": lambda: _json(b'{"a":[', b"1,", b"1]}"),
    "json: digits": lambda: _json(b'{"a":', b"9", b"}"),
    "json: a text": lambda: _json(b'{"a":"', b"x", b'"}'),
    "json: escapes": lambda: _json(b'{"a":"', b"\\n", b'"}'),
    "json: escapes without an end": lambda: _json(b'{"a":"', b"\\n"),
    "json: spaces": lambda: _json(b'{"a":', b" "),
    "json: lopsided": _lopsided,
    "json: categories": _categories,
    "ubj: nothing": lambda: _json(b"{i\1a", b"N"),
    "ubj: brackets": lambda: _json(b"{i\1a", b"["),
    "ubj: nulls": lambda: _json(b"{i\1a[#L" + struct.pack(">q", SIZE), b"Z"),
    "ubj: empty lists": lambda: _json(b"{i\1a[", b"[$d#i\0", b"]}"),
    "ubj: numbers": lambda: _json(b"{i\1a[$i#L" + struct.pack(">q", SIZE), b"\1"),
    "onnx: nodes": lambda: _graph(part(1, node("Identity", "x", "y")) * (SIZE // 64)),
    "onnx: fields": lambda: _graph(b"\x0a\x00" * (SIZE // 2)),
    "onnx: a list of numbers": lambda: _attribute(7, b"\x40\x01"),
    "onnx: a list of texts": lambda: _attribute(8, b"\x4a\x00"),
    "onnx: packed numbers": lambda: _graph(part(1, node("Identity", "x", "y")), part(5, part(7, b"\1" * SIZE))),
    "onnx: dimensions": lambda: _graph(part(1, node("Identity", "x", "y")), part(5, part(1, 1) * (SIZE // 2))),
    "onnx: inputs": lambda: _graph(part(1, part(4, "Identity") + part(1, "x") * (SIZE // 3))),
    "onnx: messages": lambda: part(1, 8) + b"\x3a\x80\x80\x80\x08" * (SIZE // 5),
}


def read_all() -> Iterator[dict[str, Any]]:
    """Reads each under the limits."""
    for data in (b"tree\n\n", b"{}", b"{i\1aZ}", seeds_onnx.trees()[0]):
        _read(data)  # imports
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    for name, make in GIANTS.items():
        data = make()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
        began = time.process_time()
        said = _read(data)
        seconds = time.process_time() - began
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        yield {"name": name, "seconds": round(seconds, 2), "said": said}


def _read(data: bytes) -> str:
    try:
        read_model(data, NAMES)
    except UbpError as error:
        return error.message
    except MemoryError:
        return "MemoryError"
    return "accepted"


if __name__ == "__main__":
    os.nice(5)
    for line in read_all():
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
