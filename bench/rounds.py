"""Interleaved rounds: every method once a round, so that a slow minute of the machine hits all of them."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one method: its first, cold run, and the runs of the rounds after it."""

    first: float
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def row(self, **more: Any) -> dict[str, Any]:
        """A row of a result table."""
        spread = {"median s": self.median, "fastest s": min(self.runs), "slowest s": max(self.runs)}
        return {"first s": self.first, **spread, "rounds": len(self.runs), **more}


def rounds(methods: Mapping[str, Callable[[], float]], count: int) -> dict[str, Timing]:
    """Each method returns the seconds of one run of it; set-up that is not to count stays outside its own clock."""
    first = {name: method() for name, method in methods.items()}
    runs: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(count):
        # Turned by one each round: nobody always runs behind the same other one.
        names = list(methods)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            runs[name].append(methods[name]())
    return {name: Timing(first[name], tuple(runs[name])) for name in methods}
