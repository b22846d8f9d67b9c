"""What a column's values say: keys, numbers and how they are written, times, few words, what stands for nothing."""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ubp_sql.sources.guess_times import SURE, TimeForm, clock_only, time_form

MARKERS = {"null", "none", "na", "n/a", "nan", "\\n", "-", "?", "nil", "(null)", "<null>", "unknown", "#n/a"}
_NUMERIC = 0.98  # share of the values that must be numbers
_INTEGER = re.compile(r"[+-]?\d{1,18}(?:\.0+)?")
_PLAIN = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_NOISE = re.compile(r"^[$€£¥₹]\s?|\s?(?:[$€£¥₹]|EUR|USD|GBP|CHF)$")
_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})*,\d+|[+-]?\d+,\d+|[+-]?\d{1,3}(?:\.\d{3})+")
_POINT = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
KEYS = ("text", "uuid", "smallint", "integer", "bigint", "numeric", "double precision", "real", "oid")
MOMENTS = ("date", "timestamp without time zone", "timestamp with time zone")
FEW = 60  # distinct values that can be kinds


@dataclass(frozen=True)
class Numbers:
    """Numbers as a column writes them. `template` is the SQL that reads them, `{}` the column."""

    values: list[float]
    template: str
    why: str = ""
    whole: bool = False
    doubt: str = ""  # another reading fits as well


@dataclass
class Column:
    """One column of a sample.

    word       how an expression names it
    alone      how a map names it where it is the whole expression
    values     texts, None for nothing; the first `head` are in the order of the file
    sql_type   its type where the source has types, else None: text
    """

    name: str
    word: str
    alone: str
    values: list[str | None]
    head: int = 0
    sql_type: str | None = None
    comment: str = ""
    unique: bool = False  # by a constraint, not by chance
    refers_to: str = ""  # the table that a foreign key names
    now_by_default: bool = False

    @cached_property
    def marker(self) -> str | None:
        """The one word that stands for nothing, such as NULL or NA, where there is one."""
        found = Counter(value for value in self.values if value is not None and value.strip().lower() in MARKERS)
        if not found or len(found) > 1:
            return None
        word = next(iter(found))
        others = [value for value in self.values if value is not None and value != word]
        # `-` or `unknown` among words may be a word; among numbers and times it is not.
        usual = word.strip().lower() in {"null", "\\n", "nan", "n/a", "na", "(null)", "<null>", "#n/a"}
        return word if others and (usual or all(any(c.isdigit() for c in value) for value in others)) else None

    @cached_property
    def present(self) -> list[str]:
        return [value for value in self.values if value is not None and value.strip() and value != self.marker]

    @cached_property
    def head_present(self) -> int:
        return sum(v is not None and bool(v.strip()) and v != self.marker for v in self.values[: self.head])

    @property
    def missing(self) -> float:
        """Share of the rows without a value."""
        return 1 - len(self.present) / len(self.values) if self.values else 0.0

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.present)

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def repeats(self) -> bool:
        return self.distinct < len(self.present)

    @property
    def all_different(self) -> bool:
        return bool(self.present) and not self.repeats and not self.missing

    @cached_property
    def numbers(self) -> Numbers | None:
        return read_numbers(self.present)

    @cached_property
    def time(self) -> TimeForm | None:
        """None for what is a plain number beyond any plausible moment, or no time at all."""
        if self.sql_type in MOMENTS:  # whatever the values: infinity and years before Christ are times too
            zoned, daily = self.sql_type == MOMENTS[2], self.sql_type == MOMENTS[0]
            pattern = "YYYY-MM-DD" if daily else None
            return TimeForm((("{}", self.sql_type),), SURE, self.sql_type, zoned=zoned, daily=daily, pattern=pattern)
        return time_form(self.present, self.head_present)

    @cached_property
    def clock(self) -> str | None:
        return clock_only(self.present)

    @property
    def few_words(self) -> bool:
        return 0 < self.distinct <= FEW and max(map(len, self.counts)) <= 60

    @property
    def key_like(self) -> bool:
        """Could it be a key: no fractions, no long texts, no moments, more than a handful of values."""
        if self.sql_type not in (None, *KEYS):
            return False
        if not self.present:
            return self.sql_type is not None
        if max(map(len, self.counts)) > 100:
            return False
        numbers = self.numbers
        if numbers is not None and not numbers.whole:
            # Some invoices may be C536379 where the others are numbers: a key all the same.
            words = [value for value in self.counts if not _PLAIN.fullmatch(value.strip())]
            if numbers.why or not words or not all(number.is_integer() for number in numbers.values):
                return False
        elif numbers is not None:
            return min(numbers.values) >= 0
        return self.time is None and self.clock is None

    @property
    def worded(self) -> bool:
        """Texts of several words, as names are and codes are not."""
        return sum(" " in value.strip() for value in self.counts) > 0.05 * self.distinct

    @property
    def cleaned(self) -> str:
        """The column without its marker."""
        return self.word if self.marker is None else f"nullif({self.word}, {quoted(self.marker)})"

    @property
    def plain(self) -> str:
        """The column as a whole expression."""
        return self.alone if self.marker is None else self.cleaned

    @property
    def number(self) -> str:
        """The column inside a calculation."""
        if self.sql_type not in (None, "text"):
            return self.word
        return (self.numbers.template if self.numbers else "{}::numeric").format(self.cleaned)

    def examples(self, limit: int = 3) -> list[str]:
        return [shown(value) for value, _ in self.counts.most_common(limit)]


def read_numbers(values: list[str]) -> Numbers | None:
    """The numbers that `values` are, or None where they are none."""
    if not values:
        return None
    stripped = [value.strip() for value in values]
    for readable, reads, template, why in _STYLES:
        found = [number for value in stripped if readable(value) and (number := reads(value)) is not None]
        if len(found) >= _NUMERIC * len(stripped):
            whole = not why and all(_INTEGER.fullmatch(value) for value in stripped)
            signed = [value for value in stripped if "," in value]
            doubtful = why and signed and all(_POINT.fullmatch(_bare(value)) for value in signed)
            # A second comma, or a point behind one, says that commas part thousands.
            doubt = ""
            if doubtful and not any(value.count(",") > 1 or "." in value for value in signed):
                doubt = f"{shown(signed[0])} may be thousands or a decimal comma"
            return Numbers(found, template, why, whole, doubt)
    return None


def _float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _bare(text: str) -> str:
    return _NOISE.sub("", text)


def _comma(text: str) -> float | None:
    return _float(_bare(text).replace(".", "").replace(",", "."))


_Style = tuple[Callable[[str], object], Callable[[str], float | None], str, str]
_SIGNS = "regexp_replace({}, '[^0-9.-]', '', 'g')::numeric"
_STYLES: tuple[_Style, ...] = (
    (_PLAIN.fullmatch, _float, "{}::numeric", ""),
    (
        lambda t: _COMMA.fullmatch(t) or _INTEGER.fullmatch(t),
        _comma,
        "replace(replace({}, '.', ''), ',', '.')::numeric",
        "decimal comma",
    ),
    (
        lambda t: _POINT.fullmatch(t) or _PLAIN.fullmatch(t),
        lambda t: _float(t.replace(",", "")),
        "replace({}, ',', '')::numeric",
        "commas between thousands",
    ),
    (
        lambda t: _PLAIN.fullmatch(_bare(t)) or _POINT.fullmatch(_bare(t)),
        lambda t: _float(_bare(t).replace(",", "")),
        _SIGNS,
        "a currency sign",
    ),
    (
        lambda t: _COMMA.fullmatch(_bare(t)) or _INTEGER.fullmatch(_bare(t)),
        _comma,
        "replace(regexp_replace({}, '[^0-9,-]', '', 'g'), ',', '.')::numeric",
        "a currency sign and a decimal comma",
    ),
)


def quoted(text: str) -> str:
    """An SQL string; a backslash needs no escape, as loads set standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


def shown(value: str, width: int = 40) -> str:
    """A value as a terminal may print it."""
    text = "".join(c if c.isprintable() else "·" for c in value[: width + 1])
    return text if len(text) <= width else text[: width - 1] + "…"
