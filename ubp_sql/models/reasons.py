"""What contributions to a raw score mean: the rows of ubp.explain, and the change that each makes, in words."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Line = tuple[int, str, float | None, float | None, float, str]

_SINGLE = Struct("<f")
LEAST = 0.001  # of what is said of a change


class Told:
    """What is known of the features, and of the way from a raw score to what a prediction says.

    chance  whether that is a chance; else an amount
    """

    def __init__(
        self,
        names: Sequence[str],
        meanings: Sequence[str],
        chance: bool,
        score: Callable[[float], float],
        value: Callable[[float], float] | None,
    ) -> None:
        self.names, self.meanings, self.chance = names, [m.removesuffix(".") for m in meanings], chance
        self._score, self._value = score, value

    def value(self, raw: float) -> float:
        """What a prediction says of a raw score."""
        score = self._score(raw)
        return score if self._value is None else self._value(score)

    def level(self, raw: float) -> str:
        """That in words."""
        value = self.value(raw)
        return f"a chance of {_number(100 * value)} %" if self._is_chance(value) else _number(value)

    def change(self, raw: float, contribution: float, many: bool = False) -> str:
        """What a contribution changes: what is said with all of them, less what would be said without this one."""
        after, before = self.value(raw), self.value(raw - contribution)
        as_chance = self._is_chance(after) and self._is_chance(before)
        what = "chance" if as_chance else "amount" if not self.chance else "score"
        by = abs(after - before) * (100 if as_chance else 1)
        how = "raise" if after > before else "lower" if after < before else "leave"
        verb = how if many else f"{how}s"
        if how == "leave":
            return f"{verb} the {what} as it is"
        return f"{verb} the {what} by {_number(by)}{' points' if as_chance else ''}"

    def _is_chance(self, value: float) -> bool:
        return self.chance and 0.0 <= value <= 1.0


def tell(
    told: Told,
    row: Sequence[float],
    typical: Sequence[float] | None,
    raw: float,
    base: float,
    contributions: Sequence[float],
    top: int,
) -> list[Line]:
    """(rank, feature, value, typical, contribution, meaning): the base as rank 0; the `top` largest contributions but
    those of 0, the first feature first among equals; and what is left as one row more. Added in this order in float64,
    contributions end at the raw score, but for what rounding takes from the last bits of the largest.
    """
    lines: list[Line] = [(0, "(base)", None, None, base, f"of nobody in particular: {told.level(base)}")]
    order = sorted(range(len(contributions)), key=lambda j: abs(contributions[j]), reverse=True)
    total = base
    for j in order[:top]:
        contribution = contributions[j]
        if contribution == 0.0:
            break
        total += contribution
        value, usual = shortest(row[j]), None if typical is None else shortest(typical[j])
        missing = " (missing)" if value is None else ""
        meaning = f"{told.meanings[j]}{missing}: {told.change(raw, contribution)}"
        lines.append((len(lines), told.names[j], value, usual, contribution, meaning))
    left = sum(1 for j in order[len(lines) - 1 :] if contributions[j] != 0.0)
    if left:
        rest = raw - total
        what = f"{left} other feature{'s' if left > 1 else ''}"
        lines.append((len(lines), "(others)", None, None, rest, f"{what}: {told.change(raw, rest, left > 1)}"))
    return lines


def shortest(x: float) -> float | None:
    """A float32 as the shortest decimal number that is it; None for NaN."""
    if x != x:
        return None
    packed = _SINGLE.pack(x)
    for digits in (6, 7, 8):
        short = float(f"{x:.{digits}g}")
        try:
            if _SINGLE.pack(short) == packed:
                return short
        except OverflowError:  # rounded up beyond the largest
            continue
    return float(f"{x:.9g}")


def _number(x: float) -> str:
    """Three digits of a number, all of a large one's whole part."""
    if abs(x) < LEAST:
        return f"less than {LEAST}" if x else "0"
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 1 else f"{x:.2g}"
