"""What a task's label is: a rule over events after the cut, or rows of a table of the user's own.

Imports no NumPy. The label's window is [cut + from, cut + from + horizon): never before the cut, where features look.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from ubp_sql.errors import BadInput
from ubp_sql.features.compile import checked_spec, columns_of
from ubp_sql.features.spec import Condition, FeatureSpec, is_text
from ubp_sql.features.suggest import meant
from ubp_sql.features.windows import parse_width, shown, width_text

OF_EVENTS = ("any", "none", "count", "sum", "days_until")
FORMS = (*OF_EVENTS, "table")
COLUMNS = ("user", "time", "value", "known_at")
TABLE_KEYS = {"table", "types", "from", *COLUMNS}
CHANCE, AMOUNT = "chance", "amount"
# The spec that carries kinds, column and conditions has no name of its own in what people read.
_NAME = "label"
_NEGATIVE = re.compile(r"\s*-")
_ZERO = re.compile(r"\s*0+ ?[smhdw]?\s*")
_HINT = """for example '{"any": "purchase"}', '{"none": ["purchase"]}', '{"sum": "value", "kinds": ["purchase"]}'"""
_WORDS = {
    "any": "an event of kind {kinds}{where} {within}",
    "none": "no event of kind {kinds}{where} {within}",
    "count": "number of events of kind {kinds}{where} {within}",
    "sum": "sum of {of} over events of kind {kinds}{where} {within}",
    "days_until": "days until the next event of kind {kinds}{where} {within}, at most the end of that time",
}


class LabelTable(NamedTuple):
    """Outcomes in a table: a row with its time in the window. Names as the server keeps them, unquoted.

    schema, name      the relation
    user, time        columns: whose, when
    value             what is summed; None: whether there is a row
    known_at          when the database learnt of it; None: at its time
    types             of the four columns, as format_type says them, once the relation has been looked at
    """

    schema: str
    name: str
    user: str
    time: str
    value: str | None = None
    known_at: str | None = None
    types: tuple[str | None, ...] = ()

    @property
    def columns(self) -> tuple[str | None, ...]:
        """The four, in the order of COLUMNS."""
        return self.user, self.time, self.value, self.known_at


class LabelRule(NamedTuple):
    """One rule. `form`: any, none, count, sum, days_until, table.

    spec     kinds, column (of) and conditions of the events, as a feature has them; None for a table
    from_us  gap between the cut and the window
    """

    form: str
    spec: FeatureSpec | None
    from_us: int = 0
    table: LabelTable | None = None

    @classmethod
    def of_kind(cls, kind: str) -> Self:
        """At least one event of the kind."""
        return cls.from_json({"any": kind})

    @classmethod
    def from_json(cls, found: Any) -> Self:
        """The rule of a JSON object; what `to_json` gives reads back as the same.

        Raises BadInput (UB003) on what is no rule, and on a window that begins before the cut.
        """
        if not isinstance(found, dict):
            raise BadInput(f"label {shown(found)} is no rule", _HINT)
        forms = [form for form in FORMS if form in found]
        if len(forms) != 1:
            said = "none of" if not forms else " and ".join(forms) + " of"
            raise BadInput(f"label {shown(found)} says {said} {', '.join(FORMS)}: it wants one", _HINT)
        form = forms[0]
        known = TABLE_KEYS if form == "table" else {form, "where", "from", *(["kinds"] if form == "sum" else [])}
        for key in found:
            if key not in known:
                raise BadInput(
                    f"label: {form} takes no {shown(key)}",
                    f"{meant(str(key), sorted(known))} it takes {', '.join(sorted(known - {form, 'types'}))}".strip(),
                )
        from_us = _gap(found.get("from"))
        if form == "table":
            return cls(form, None, from_us, _table(found))
        kinds = found.get("kinds") if form == "sum" else found[form]
        settings = {} if found.get("where") is None else {"where": found["where"]}
        of = found["sum"] if form == "sum" else None
        with _named():
            if kinds is None:
                raise BadInput(f"feature {_NAME!r}: {form} needs kinds", _HINT)
            if form == "sum" and of is None:
                raise BadInput(f"feature {_NAME!r}: sum needs a column", _HINT)
            spec = FeatureSpec.from_parts(_NAME, "sum" if form == "sum" else "count", kinds, of, "all", settings)
        return cls(form, spec, from_us)

    def checked(self, types: Mapping[str, str]) -> Self:
        """The rule in its one spelling; `types` as compile.checked_spec takes them. Raises BadInput (UB003)."""
        if self.spec is None:
            return self
        with _named():
            return self._replace(spec=checked_spec(self.spec, types))

    def to_json(self) -> dict[str, Any]:
        """Equal for equal rules."""
        made: dict[str, Any]
        if self.table is not None:
            made = {"table": f"{_quoted(self.table.schema)}.{_quoted(self.table.name)}"}
            made |= {key: name for key, name in zip(COLUMNS, self.table.columns, strict=True) if name is not None}
            if self.table.types:
                made["types"] = list(self.table.types)
        else:
            kinds = list(self.kinds)
            made = {"sum": self.of, "kinds": kinds} if self.form == "sum" else {self.form: kinds}
            if self.where:
                made["where"] = {c.column: c.to_json() for c in self.where}
        if self.from_us:
            made["from"] = width_text(self.from_us)
        return made

    @property
    def text(self) -> str:
        """As ubp.task_definitions keeps it."""
        return json.dumps(self.to_json())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Event kinds that it looks at; none for a table."""
        return self.spec.kinds if self.spec else ()

    @property
    def of(self) -> str | None:
        """The column that is summed."""
        return self.spec.of if self.spec else None

    @property
    def where(self) -> tuple[Condition, ...]:
        return self.spec.where if self.spec else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Event columns that it reads, clock columns too."""
        return columns_of(self.spec) if self.spec else ()

    @property
    def output(self) -> str:
        """What a model of it says: the chance of a 1, or an amount."""
        if self.table is not None:
            return CHANCE if self.table.value is None else AMOUNT
        return CHANCE if self.form in ("any", "none") else AMOUNT

    @property
    def words(self) -> str:
        """For people."""
        within = "within the horizon"
        if self.from_us:
            within = f"within the horizon that begins {width_text(self.from_us)} later"
        if self.table is not None:
            what = "a row" if self.table.value is None else f"sum of {self.table.value} over rows"
            return f"{what} of {self.table.schema}.{self.table.name} with {self.table.time} {within}"
        where = "".join(f" where {_said(c)}" if n == 0 else f" and {_said(c)}" for n, c in enumerate(self.where))
        return _WORDS[self.form].format(kinds=" or ".join(self.kinds), of=self.of, where=where, within=within)


def _said(c: Condition) -> str:
    if c.equals is not None:
        return f"{c.column} is {c.equals}"
    parts = [f"at least {c.low:g}"] if c.low is not None else []
    return f"{c.column} is {' and '.join([*parts, *([f'below {c.high:g}'] if c.high is not None else [])])}"


@contextmanager
def _named() -> Iterator[None]:
    """Errors of the spec that carries a rule speak of the label."""
    try:
        yield
    except BadInput as error:
        raise BadInput(error.message.replace(f"feature {_NAME!r}", "label"), error.hint) from None


def _gap(value: Any) -> int:
    """Microseconds between the cut and the window."""
    if (
        value is None
        or (value == 0 and not isinstance(value, bool))
        or (isinstance(value, str) and _ZERO.fullmatch(value))
    ):
        return 0
    if (isinstance(value, str) and _NEGATIVE.match(value)) or (isinstance(value, int | float) and value < 0):
        raise BadInput(
            f"label: from {shown(value)} begins before the cut: it would be made of what the features see",
            "a window of outcomes begins at the cut or later: leave from out, or for example '7d'",
        )
    with _named():
        return parse_width(value, "from", _NAME)


def _table(found: dict[str, Any]) -> LabelTable:
    for key in ("user", "time"):
        if found.get(key) is None:
            raise BadInput(
                f"label: a table needs the column {key!r}",
                """'{"table": "shop.ended", "user": "customer_id", "time": "ended_at"}'""",
            )
    for key in ("table", *COLUMNS):
        text = found.get(key)
        if text is not None and not (isinstance(text, str) and 1 <= len(text) <= 200 and is_text(text)):
            raise BadInput(f"label: {key} {shown(text)} is no name", "the name of a table or a column")
    types = found.get("types") or []
    if not isinstance(types, list) or len(types) not in (0, 4) or not all(isinstance(t, str | None) for t in types):
        raise BadInput(f"label: types {shown(types)}: the server writes them", "leave types out")
    schema, name = parse_name(found["table"])
    value, known_at = found.get("value"), found.get("known_at")
    return LabelTable(schema, name, found["user"], found["time"], value, known_at, tuple(types))


_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))\s*')


def parse_name(text: str) -> tuple[str, str]:
    """(schema, name) of schema.name as SQL writes it; a name without a schema could be anybody's."""
    parts, place = [], 0
    while place <= len(text) and (part := _PART.match(text, place)):
        quoted = part[1]
        parts.append(quoted.replace('""', '"') if quoted else re.sub("[A-Z]+", lambda m: m[0].lower(), part[2]))
        place = part.end() + 1
        if part.end() == len(text):
            break
        if text[part.end()] != ".":
            parts = []
            break
    if len(parts) != 2 or place <= len(text) or any(len(part.encode()) > 63 for part in parts):
        raise BadInput(f"label: {shown(text)} names no table", "schema and name: 'shop.contracts'")
    return parts[0], parts[1]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
