"""Models as PL/pgSQL against the walker, bit by bit: random trees of every kind of node, every link, odd rows."""

import math
from array import array
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.sql_tier.helpers import owner
from ubp_sql.errors import UnsupportedModel
from ubp_sql.export.maps import value_of
from ubp_sql.export.quoting import body
from ubp_sql.export.scorers import MOST_DEPTH, scorer
from ubp_sql.kernels.forest_codes import CATEGORY, MISSING_LEFT, TINY, ZERO
from ubp_sql.models.blob import compile_forest
from ubp_sql.models.calibration import ISOTONIC, NEAREST, PLATT, Map
from ubp_sql.models.forest import Forest, Link, Tree
from ubp_sql.models.linear import Linear, compile_linear
from ubp_sql.models.loaded import Loaded, open_model
from ubp_sql.models.preparation import LOG1P, Program, step
from ubp_sql.models.preparation_blob import compile_prepared

FEATURES = 5
ODD = [
    0.0,
    -0.0,
    TINY,
    -TINY,
    2e-35,
    1.0,
    2.5,
    -1.0,
    -0.5,
    31.9,
    40.0,
    math.inf,
    -math.inf,
    math.nan,
    3.4028234663852886e38,
    1e-45,
]
LINKS = [Link.IDENTITY, Link.SIGMOID, Link.EXP, Link.SIGNED_SQUARE]


@pytest.fixture(scope="module")
def conn(shared_tier: Database) -> Iterator[Connection]:
    with owner(shared_tier) as made:
        made.execute("create schema s")
        made.execute("set search_path = s")
        yield made


def tree(random: Random, nodes: int, scale: float = 1.0) -> Tree:
    """A random tree: each new node takes the place of a leaf."""
    left, right = array("i"), array("i")
    feature, threshold, flags = array("i"), array("f"), bytearray()
    sets: list[array[int]] = []
    slots: list[tuple[array[int], int]] = []
    for node in range(nodes):
        if node:
            children, at = slots.pop(random.randrange(len(slots)))
            children[at] = node
        flag = random.choice([0, MISSING_LEFT, ZERO, MISSING_LEFT | ZERO, CATEGORY, CATEGORY | MISSING_LEFT])
        limit = random.choice([*ODD[:11], random.uniform(-3, 3), math.inf, -math.inf])
        if flag & CATEGORY:
            limit = float(len(sets))
            sets.append(array("I", [random.getrandbits(32) for _ in range(random.randrange(1, 3))]))
        feature.append(random.randrange(FEATURES))
        threshold.append(limit)
        flags.append(flag)
        left.append(0)
        right.append(0)
        slots += [(left, node), (right, node)]
    for leaf, (children, at) in enumerate(slots):
        children[at] = ~leaf
    leaves = array("d", [scale * random.uniform(-1, 1) for _ in range(nodes + 1)])
    return Tree(feature, threshold, left, right, bytes(flags), leaves, tuple(sets))


def rows(random: Random, n: int) -> list[list[float]]:
    return [
        [float(np.float32(random.choice([*ODD, random.uniform(-4, 4)]))) for _ in range(FEATURES)] for _ in range(n)
    ]


def compare(conn: Connection, loaded: Loaded, some: list[list[float]]) -> None:
    """The function gives what the model gives, to the bit."""
    conn.execute(
        "create or replace function score(f real[]) returns float8 language plpgsql strict as "
        f"{body(scorer(loaded))}".encode()
    )
    for row in some:
        want = loaded.score_packed(array("f", row).tobytes())
        found = conn.execute("select nullif(score(%s::real[]), 'NaN')", [row], binary=True).fetchone()
        assert found is not None
        assert repr(found[0]) == repr(want), row


@pytest.mark.parametrize("seed", range(12))
def test_random_forests(conn: Connection, seed: int) -> None:
    random = Random(seed)
    sizes = [random.choice([0, 1, 2, 7, 30]) for _ in range(random.choice([1, 3, 12]))]
    scale = random.choice([1e-3, 1.0, 400.0])
    forest = Forest(
        tuple(tree(random, n, scale) for n in sizes),
        tuple(f"f{i}" for i in range(FEATURES)),
        ("",) * FEATURES,
        "test",
        LINKS[seed % len(LINKS)],
        random.choice([1.0, 0.7]),
        average=seed % 3 == 0,
    )
    compare(conn, open_model(compile_forest(forest)), rows(random, 25))


@pytest.mark.parametrize(
    "total",
    [
        0.0,
        36.9,
        -36.9,
        1e-170,
        1.3407807929942596e154,
        1.3407807929942599e154,
        709.782712893384,
        709.7827128933841,
        744.0,
        -709.79,
        -745.1332191019411,
        -745.1332191019412,
        -800.0,
        1e300,
        -1e300,
    ],
)
@pytest.mark.parametrize("link", LINKS[1:])
def test_links_at_their_ends(conn: Connection, link: Link, total: float) -> None:
    """Where PostgreSQL's exp() raises an error and C's gives infinity or 0."""
    leaf = Tree(array("i"), array("f"), array("i"), array("i"), b"", array("d", [total]))
    forest = Forest((leaf,), tuple(f"f{i}" for i in range(FEATURES)), ("",) * FEATURES, "test", link)
    compare(conn, open_model(compile_forest(forest)), [[0.0] * FEATURES])


@pytest.mark.parametrize("seed", range(4))
def test_linear_models(conn: Connection, seed: int) -> None:
    random = Random(seed)
    weights = [random.choice([0.0, random.gauss(0, 1), 1e9]) for _ in range(FEATURES)]
    missing = [random.choice([0.0, random.gauss(0, 1), math.nan]) for _ in range(FEATURES)]
    linear = Linear(weights, missing, [random.gauss(0, 1)], LINKS[seed])
    finite = [[x if abs(x) < 1e30 or x != x else 0.0 for x in row] for row in rows(random, 25)]
    compare(conn, open_model(compile_linear(linear)), finite)


def chain(depth: int) -> Forest:
    """A tree as deep as it has nodes."""
    right = array("i", [*range(1, depth), ~depth])
    deep = Tree(
        array("i", [i % FEATURES for i in range(depth)]), array("f", [float(i) for i in range(depth)]),
        array("i", [~i for i in range(depth)]), right, bytes(depth), array("d", [float(i) for i in range(depth + 1)]),
    )  # fmt: skip
    return Forest((deep,), tuple(f"f{i}" for i in range(FEATURES)), ("",) * FEATURES, "test", Link.IDENTITY)


def test_a_deep_tree(conn: Connection) -> None:
    compare(
        conn, open_model(compile_forest(chain(MOST_DEPTH))), [[0.5] * FEATURES, [990.5] * FEATURES, [1e9] * FEATURES]
    )
    with pytest.raises(UnsupportedModel, match="levels deep"):
        scorer(open_model(compile_forest(chain(MOST_DEPTH + 1))))


def test_what_has_no_form() -> None:
    one = tree(Random(1), 3)
    names, infos = tuple(f"f{i}" for i in range(FEATURES)), ("",) * FEATURES
    for forest, why in (
        (Forest((one,), names, infos, "test", Link.LOG1P_EXP), "log1p"),
        (Forest((one, one), names, infos, "test", Link.SOFTMAX, outputs=2), "2 outputs"),
    ):
        with pytest.raises(UnsupportedModel, match=why):
            scorer(open_model(compile_forest(forest)))
    linear = compile_linear(Linear([1.0], [0.0], [0.0], Link.IDENTITY))
    prepared = compile_prepared(Program(1, [step(LOG1P, [0])], [0]), linear, 1)
    with pytest.raises(UnsupportedModel, match="prepared before it"):
        scorer(open_model(prepared))
    network = Loaded()
    network.outputs = 1
    with pytest.raises(UnsupportedModel, match="a neural network"):
        scorer(network)
    for weight in (1e-300, 1e300):
        with pytest.raises(UnsupportedModel, match="feature 2"):
            scorer(open_model(compile_linear(Linear([1.0, weight], [0.0, 0.0], [0.0], Link.IDENTITY))))


MAPS = [
    None,
    Map(PLATT, [1.3, -0.2], []),
    Map(PLATT, [10.0, 100.0], []),
    Map(ISOTONIC, [0.5], [0.25]),
    Map(ISOTONIC, [0.1, 0.2, 0.2000001, 0.9], [0.0, 0.05, 0.3, 1.0]),
    Map(ISOTONIC, [i / 97 for i in range(98)], [(i / 97) ** 2 for i in range(98)]),
]


@pytest.mark.parametrize("number", range(len(MAPS)))
def test_maps(conn: Connection, number: int) -> None:
    found, random = MAPS[number], Random(number)
    text = (
        f"create or replace function value(s float8) returns float8 language plpgsql strict as {body(value_of(found))}"
    )
    conn.execute(text.encode())
    knots = [] if found is None else list(found.x)
    scores = [0.0, 1.0, NEAREST, 1 - NEAREST, 1e-17, 0.5, *knots, *(math.nextafter(x, 1) for x in knots if x)]
    for score in [s for s in scores if 0 <= s <= 1] + [random.random() for _ in range(200)]:
        row = conn.execute("select value(%s::float8)", [score], binary=True).fetchone()
        assert row is not None
        assert repr(row[0]) == repr(score if found is None else found.value(score))
    assert conn.execute("select value(5e-324) < 0.3").fetchone() == (True,)
