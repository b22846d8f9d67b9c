"""Edits of texts made of lines, words and numbers: LightGBM's models, YAML."""

import re
from collections.abc import Callable, Sequence
from random import Random

from tests.fuzz.edits import INTERESTING, MOST_BYTES, Edit

NASTY = [
    *(b"-1", b"0", b"1", b"2", b"3", b"-9", b"99999999999", b"nan", b"inf", b"-inf", b"1e999", b"1e308", b"-0.0"),
    *(b"", b"4e-324", b"1e-35", b"9" * 400, b"=", b"Tree=0", b"\n", b"\n\n", b"\xc3\xa9", b"end of trees", b"3.5e38"),
    *(b"x", b"1_0", b"0x10", b"1e", b"+1", b".5", b"5.", b"--1", b"\0", b"\xff", b"1,5", b"NaN", b"Infinity", b"null"),
    *(b"true", b"\xd9\xa1", b"1e-400", b"0.1000000000000000055511151231257827021181583404541015625", b"00", b"1d5"),
    *(b"tree\n", b"num_leaves", b"~", b"*a", b"&a", b"!!python/object:os.system", b"<<", b"{", b"]", b": ", b"- "),
]
_WORD = re.compile(rb"[^ =:\n,\[\]{}]+")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def word(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A word replaced by a nasty one, or by one of the same text."""
    return _replaced(random, data, _WORD, lambda words: random.choice(NASTY if random.random() < 0.6 else words))


def number(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number replaced by its neighbour, by another of its line (a child by another's: cycles), by a huge one."""
    kind = random.random()

    def chosen(numbers: list[bytes]) -> bytes:
        if kind < 0.6:
            return random.choice(numbers)
        return b"%d" % (random.choice(INTERESTING) * random.choice((1, 1, -1)))

    if kind < 0.75:
        lines = data.split(b"\n")
        busy = [k for k, line in enumerate(lines) if _NUMBER.search(line)]
        if not busy:
            return data
        k = random.choice(busy)
        near = lines[random.choice([k, k, max(0, k - 1), min(len(lines) - 1, k + 1)])]
        pool = _NUMBER.findall(near) or [b"0"]
        if random.random() < 0.4:
            pool = [b"%d" % (int(n) + random.choice((-1, 1))) for n in pool if n.lstrip(b"-").isdigit()] or pool
        lines[k] = _replaced(random, lines[k], _NUMBER, lambda _: chosen(pool))
        return b"\n".join(lines)
    return _replaced(random, data, _NUMBER, chosen)


def _replaced(random: Random, data: bytes, what: re.Pattern[bytes], by: Callable[[list[bytes]], bytes]) -> bytes:
    """One of what is found replaced by what `by` makes of some of them."""
    found = [match.span() for match in what.finditer(data[: 1 << 16])]
    if not found:
        return data
    a, b = random.choice(found)
    words = [data[x:y] for x, y in random.sample(found, min(8, len(found)))]
    return data[:a] + by(words) + data[b:]


def lines(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A line dropped, doubled, exchanged with another, or taken from another text."""
    rows = data.split(b"\n")
    i, j = random.randrange(len(rows)), random.randrange(len(rows))
    kind = random.randrange(5)
    if kind == 0:
        del rows[i]
    elif kind == 1:
        rows.insert(i, rows[j])
    elif kind == 2:
        rows[i], rows[j] = rows[j], rows[i]
    elif kind == 3 and others:
        rows[i] = random.choice(random.choice(others).split(b"\n"))
    else:
        key, equals, rest = rows[i].partition(b"=")
        rows[i] = key + equals + rows[j].rpartition(b"=")[2] if equals else rows[i][: len(rest) // 2]
    return b"\n".join(rows)


def values(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A list of numbers made longer, shorter, reversed, or all equal."""
    rows = data.split(b"\n")
    busy = [k for k, row in enumerate(rows) if row.count(b" ")]
    if not busy:
        return data
    k = random.choice(busy)
    key, equals, rest = rows[k].partition(b"=")
    found = (rest if equals else key).split(b" ")
    kind = random.randrange(5)
    if kind == 0:
        found.append(random.choice(found))
    elif kind == 1:
        found.pop(random.randrange(len(found)))
    elif kind == 2:
        found.reverse()
    elif kind == 3:
        found = [random.choice(found)] * len(found)
    else:
        found *= min(random.choice((2, 2, 100, 3000)), MOST_BYTES // max(1, len(rest)))
    rows[k] = (key + equals if equals else b"") + b" ".join(found)
    return b"\n".join(rows)


TEXT: Sequence[Edit] = (word, word, number, number, number, number, lines, lines, values)


def resized(random: Random, data: bytes) -> bytes:
    """A LightGBM text whose tree_sizes are those of its trees again: else they alone would refuse nearly all."""
    if random.random() < 0.15:
        return data
    head, *trees = data.partition(b"\nend of trees")[0].split(b"\nTree=")
    if not trees or b"tree_sizes=" not in head:
        return data
    sizes = b" ".join(b"%d" % (len(tree) + len(b"Tree=\n")) for tree in trees)
    return re.sub(rb"tree_sizes=[^\n]*", b"tree_sizes=" + sizes, data, count=1)
