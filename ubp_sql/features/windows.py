"""Windows and lengths of time as people write them: '7d', '36h', 'all', 'last 5', '4 x 7d'."""

import re
from typing import Any, NamedTuple

from ubp_sql.errors import BadInput
from ubp_sql.kernels.codes import LIFETIME_US

UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
DAY_US = UNITS_US["d"]
MAX_DAYS = 36_500
MAX_LAST = 100_000
MAX_BUCKETS = 60

_WIDTH = re.compile(r"(\d{1,12}) ?([smhdw])")
_LAST = re.compile(r"last (\d{1,12})")
_TUMBLING = re.compile(r"(\d{1,12}) ?[x×*] ?(\d{1,12} ?[smhdw])")


class Window(NamedTuple):
    """A feature's time: [as_of - width, as_of), the last n events, or k buckets of one width, the newest first.

    width_us  LIFETIME_US for 'all' and for the last n events
    last      n of 'last n', else 0
    buckets   k of 'k x width', else 0
    """

    width_us: int
    last: int = 0
    buckets: int = 0

    @property
    def text(self) -> str:
        """As it is written: equal for equal windows."""
        if self.last:
            return f"last {self.last}"
        width = width_text(self.width_us)
        return f"{self.buckets} x {width}" if self.buckets else width

    @property
    def form(self) -> str:
        """all, width, last or tumbling."""
        if self.last:
            return "last"
        if self.buckets:
            return "tumbling"
        return "all" if self.width_us == LIFETIME_US else "width"


def width_text(width_us: int) -> str:
    if width_us >= LIFETIME_US:
        return "all"
    # A week is written in days: '1w' and '7d' are one window.
    unit = next(u for u in "dhms" if width_us % UNITS_US[u] == 0)
    return f"{width_us // UNITS_US[unit]}{unit}"


def parse_width(text: Any, what: str, name: str) -> int:
    """Microseconds of '30m', '36h', '7d' or '2w'. Raises BadInput (UB003)."""
    found = _WIDTH.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    width = int(found[1]) * UNITS_US[found[2]] if found else 0
    if not 0 < width <= MAX_DAYS * DAY_US:
        raise BadInput(
            f"feature {name!r}: {what} {shown(text)} is no length of time from 1s to {MAX_DAYS}d",
            "a whole number and s, m, h, d or w: '30m', '36h', '7d'",
        )
    return width


def parse_window(text: Any, name: str) -> Window:
    """'all', '36h', 'last 5' or '4 x 7d'. Raises BadInput (UB003)."""
    plain = " ".join(text.lower().split()) if isinstance(text, str) else ""
    if plain == "all":
        return Window(LIFETIME_US)
    if found := _LAST.fullmatch(plain):
        last = int(found[1])
        if not 1 <= last <= MAX_LAST:
            raise BadInput(f"feature {name!r}: window {plain!r} is not the last 1 to {MAX_LAST} events", "'last 5'")
        return Window(LIFETIME_US, last=last)
    if found := _TUMBLING.fullmatch(plain):
        buckets, width = int(found[1]), parse_width(found[2], "the bucket", name)
        if not 2 <= buckets <= MAX_BUCKETS or buckets * width > MAX_DAYS * DAY_US:
            raise BadInput(
                f"feature {name!r}: window {plain!r} is not 2 to {MAX_BUCKETS} buckets within {MAX_DAYS} days",
                "'4 x 7d' is the last four weeks, one feature each",
            )
        return Window(width, buckets=buckets)
    if _WIDTH.fullmatch(plain):
        return Window(parse_width(plain, "window", name))
    raise BadInput(
        f"feature {name!r}: {shown(text)} is no window", "'7d', '36h', 'all', 'last 5' (events) or '4 x 7d' (buckets)"
    )


def shown(value: Any) -> str:
    """A value in a message: short, on one line; what JSON, YAML and SQL all call null, true or false is called so."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_window(text: str) -> bool:
    """Whether the text has the form of a window."""
    plain = " ".join(text.lower().split())
    return plain == "all" or any(pattern.fullmatch(plain) for pattern in (_WIDTH, _LAST, _TUMBLING))


ALL = Window(LIFETIME_US)
