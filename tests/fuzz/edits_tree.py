"""Edits of JSON by its structure: values exchanged, lists cut, indices edited, nested without end."""

import copy
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tests.fuzz.edits import INTERESTING, Edit

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**40),
    *("", "0", "x", "1E0", "nan", "[1E-1,2E0]", "-1", "9" * 400, "\0", "\ud800", "binary:logistic"),
    *([], [[]], {}, {"": {}}, [0] * 1000),
]
DEEP = 100_000
Place = tuple[Any, Any]


def _places(tree: Any) -> list[Place]:
    """(container, key) of every value; of a container that an edit put into itself, once."""
    found: list[Place] = []
    open_: list[Any] = [tree]
    met: set[int] = set()
    while open_:
        at = open_.pop()
        if id(at) in met:
            continue
        met.add(id(at))
        pairs: Iterator[Any] = iter(at.items()) if isinstance(at, dict) else enumerate(at)
        for key, value in pairs:
            found.append((at, key))
            if isinstance(value, dict | list):
                open_.append(value)
    return found


def edited(random: Random, tree: Any) -> Any:
    """The tree after one edit; it is changed in place."""
    places = _places(tree)
    if not places:
        return _nasty(random)
    at, key = random.choice(places)
    if random.random() < 0.5:  # else lists of numbers, which are most of a model, would get nearly all edits
        fields = [place for place in places if isinstance(place[0], dict)]
        at, key = random.choice(fields or places)
    value, kind = at[key], random.randrange(9)
    if kind == 0:
        del at[key]
    elif kind == 1:
        other, name = random.choice(places)
        if isinstance(other, dict) or name < len(other):
            at[key] = json.loads(json.dumps(other[name]))
    elif kind == 2:
        other, name = random.choice(places)
        if type(other) is type(at) and (isinstance(other, dict) or name < len(other)):
            at[key], other[name] = other[name], value
    elif kind == 3 and isinstance(value, list) and value:
        value.insert(random.randrange(len(value)), value[random.randrange(len(value))])
    elif kind == 4 and isinstance(value, list) and value:
        value.pop()
    elif isinstance(value, list) and value and not isinstance(value[0], dict | list) and kind < 8:
        k = random.randrange(len(value))
        value[k] = _near(random, value[k], value)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and kind < 8:
        at[key] = _near(random, value, [])
    else:
        at[key] = _nasty(random)
    return tree


def _near(random: Random, value: Any, row: list[Any]) -> Any:
    kind = random.randrange(5)
    if kind == 0 and row:
        return random.choice(row)
    if kind == 1 and isinstance(value, int | float):
        return value + random.choice((-1, 1))
    if kind == 2 and isinstance(value, str) and value.lstrip("-").isdigit():
        return str(int(value) + random.choice((-1, 1)))
    if kind == 3:
        number = random.choice(INTERESTING) * random.choice((1, -1))
        return str(number) if isinstance(value, str) else number
    return _nasty(random)


def _nasty(random: Random) -> Any:
    return copy.deepcopy(random.choice(NASTY))


def json_tree(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(random.choice((1, 1, 2, 4))):
        tree = edited(random, tree) if isinstance(tree, dict | list) else tree
    try:
        return json.dumps(tree, separators=(",", ":") if random.random() < 0.8 else (", ", ": ")).encode()
    except (ValueError, RecursionError):  # a part was put into itself
        return data


def json_deep(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Brackets without end at some value, or a key twice."""
    at = max(data.find(b":", random.randrange(len(data) + 1)), 0) + 1
    if random.random() < 0.3:
        return data.replace(b'"version":', b'"version":[1],"version":', 1)
    mark = random.choice((b"[", b'{"a":', b"[{", b"[["))
    return data[:at] + mark * random.choice((100, 1000, DEEP)) + data[at:]


JSON: Sequence[Edit] = (json_tree, json_tree, json_tree, json_tree, json_tree, json_deep)
