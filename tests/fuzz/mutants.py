"""Mutant number i of a seed: which target it is for, and its bytes; the same on every machine and in every order."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from tests.fuzz import edits, edits_blob, edits_text, edits_tree, edits_ubj, edits_wire
from tests.fuzz.edits import Edit, other_format

Seeds = dict[str, list[bytes]]


class Kind(NamedTuple):
    """What is done to bytes of one kind: edits of its own, as often as those of all bytes; a mend at the end."""

    own: Sequence[Edit]
    mend: Callable[[Random, bytes], bytes] | None = None
    share: float = 0.7


KINDS = {
    "lightgbm": Kind(edits_text.TEXT, edits_text.resized),
    "trees": Kind(edits_blob.BLOB, edits_blob.signed(48), 0.9),
    "plan": Kind(edits_blob.BLOB, edits_blob.signed_plan, 0.95),
    "text": Kind(edits_text.TEXT),
    "json": Kind(edits_tree.JSON, None, 0.8),
    "ubj": Kind(edits_ubj.UBJ),
    "wire": Kind(edits_wire.WIRE),
}
_STEPS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 5)


class Target(NamedTuple):
    """What mutants are made for: its name, the kind of its seeds, how often it has its turn."""

    name: str
    kind: str
    weight: int


class Mutant(NamedTuple):
    target: str
    data: bytes


def mutant(targets: Sequence[Target], seeds: Seeds, seed: int, index: int) -> Mutant:
    """The mutant of that number.

    seeds  valid inputs by the target's name
    """
    random = Random(f"{seed}/{index}")
    target = random.choices(targets, [t.weight for t in targets])[0]
    own = seeds[target.name]
    data = random.choice(own)
    if random.random() < 0.02:
        return Mutant(target.name, other_format(random, data, own))
    kind = KINDS[target.kind]
    for _ in range(random.choice(_STEPS)):
        edit = random.choice(kind.own if random.random() < kind.share else edits.PLAIN)
        data = edit(random, data, own)
    if kind.mend is not None:
        data = kind.mend(random, data)
    return Mutant(target.name, data[: edits.MOST_BYTES])
