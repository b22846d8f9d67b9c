"""Training rows: features of a task's population at past moments, with what happened next."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.events import read_all
from ubp_sql.api.heap import declared_columns
from ubp_sql.api.label_table import NOTHING_SEEN, Read, open_table, outcomes_in
from ubp_sql.api.moments import HOLIDAYS, FeatureSet, feature_set, moment_us
from ubp_sql.api.session import check_version, entry, prepare_numba, run, single, touch
from ubp_sql.api.standings import finish_all, keep, of_set, record
from ubp_sql.api.task_definition import refuse_horizon, stored_rule
from ubp_sql.api.zones import clock
from ubp_sql.errors import BadInput, unknown_task
from ubp_sql.features.columns import CLOCK, Columns, types_of
from ubp_sql.features.label_rule import AMOUNT, LabelRule
from ubp_sql.features.standing import day_of

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.features.labels import Outcomes
    from ubp_sql.kernels.dispatch import F32, I64

TASK = """
select t.feature_set_id, t.label, t.population_kind, t.horizon from ubp.task_definitions t where t.task = $1"""
WIDTH = "select (extract(epoch from $1) * 1000000)::bigint as us"
# How far the log goes. What users are may be said of any time, and what is planned has not happened: neither shows that
# all before it has been seen.
NEWEST = """
select (extract(epoch from max(event_time)) * 1000000)::bigint as us from ubp.event_rows()
 where event_time <= now() and kind not like 'attribute:%'"""
# Before the year 9999, as moments are; later ones never come.
DAYS = """
select distinct (event_time at time zone 'UTC')::date - date '1970-01-01' as day from ubp.event_rows()
 where kind = any ($1) and event_time >= '0001-01-02 00:00+00' and event_time < '9999-01-01 00:00+00'"""
AS_TEXT = "select to_timestamp($1 / 1e6)::text as moment"
KNOWN_AT = ("cut", "now")
# Kinds of what users are, not of what they do: their events are no moments of their own.
ATTRIBUTE = "attribute:"

# Features of one batch: a value of 1 GB is PostgreSQL's limit, and on its way a batch is held a few times.
BATCH_BYTES = 16 << 20


class Question(NamedTuple):
    """What is asked for, checked.

    rule            of the label
    kinds           the definition's, then those that only the label looks at: a kind's place is its code
    columns         of events, those that only the label reads too
    population      place of the population's kind
    cuts            (UTC, local) of each cut, ascending; None: at every event of the kinds in `moments`
    width_us        of the label's window
    whenever_known  True: an event counts whenever it became known; False: only if by the cut
    share           of the negatives that is kept
    """

    found: FeatureSet
    rule: LabelRule
    kinds: tuple[str, ...]
    columns: Columns
    population: int
    cuts: list[tuple[int, int]] | None
    moments: list[int]
    width_us: int
    whenever_known: bool
    share: float

    @property
    def reach_us(self) -> int:
        """From a cut to the end of its label's window."""
        return self.rule.from_us + self.width_us


class Asked(NamedTuple):
    """Pairs whose features are to be computed.

    columns   users, cuts, labels, matured, weights, as bytes
    user      (p,) index of the user among the events' users
    cut_us    (p,) UTC
    local_us  (p,) the same moments on the clock of the set's zone
    """

    columns: tuple[bytes, ...]
    user: "I64"
    cut_us: "I64"
    local_us: "I64"


@entry
def training_matrix(
    plpy: Any,
    memory: dict[str, Any],
    task: str | None,
    cuts: list[str | None] | None,
    horizon: str | None,
    known_at: str | None,
    negatives: float | None,
) -> Iterator[Any]:
    """Batches of (user_ids, cuts, labels, matured, weights, features), packed; ascending by user, then cut."""
    check_version(plpy, memory)
    question = ask(plpy, memory, task, cuts, horizon, known_at, negatives)
    if question.found.definition.standings and question.cuts is not None:
        # Here, for an error on the way of a generator loses its line.
        keep(plpy, memory, of_set(question.found), _days(question.cuts))
    read = opened(plpy, memory, question)
    return _batches(plpy, memory, question, read, seen_until(plpy, memory, read))


def _batches(plpy: Any, memory: dict[str, Any], question: Question, read: Read | None, seen_us: int) -> Iterator[Any]:
    prepare_numba()
    for events, batches in parts_of(plpy, memory, question, read, seen_us):
        for asked in batches:
            features = _features(plpy, memory, question, events, asked.user, asked.cut_us, asked.local_us)
            yield (*asked.columns, features.tobytes())


@entry
def outcomes_until(plpy: Any, memory: dict[str, Any], task: str | None) -> str | None:
    """How far outcomes of the task are known; None where none is."""
    check_version(plpy, memory)
    question = ask(plpy, memory, task, None, None, "cut", None)
    seen_us = seen_until(plpy, memory, opened(plpy, memory, question))
    return None if seen_us <= NOTHING_SEEN else str(run(plpy, memory, AS_TEXT, ["bigint"], [seen_us])[0]["moment"])


def opened(plpy: Any, memory: dict[str, Any], question: Question) -> Read | None:
    """The label's table, where it has one."""
    table = question.rule.table
    found = question.found
    return None if table is None else open_table(plpy, memory, table, found.definition.kinds, found.time_zone)


def seen_until(plpy: Any, memory: dict[str, Any], read: Read | None) -> int:
    """How far outcomes are known, NOTHING_SEEN where none is: a table may be behind the events."""
    if read is not None:
        return read.seen_us
    newest = single(plpy, memory, NEWEST, [], [])
    return newest["us"] if newest and newest["us"] is not None else NOTHING_SEEN


def ask(
    plpy: Any,
    memory: dict[str, Any],
    task: str | None,
    cuts: list[str | None] | None,
    horizon: str | None,
    known_at: str | None,
    negatives: float | None,
) -> Question:
    """The question with all its arguments checked.

    Raises UnknownTask (UB001), and BadInput (UB003) on every other argument.
    """
    row = single(plpy, memory, TASK, ["text"], [task])
    if row is None:
        raise unknown_task(task)
    if known_at not in KNOWN_AT:
        raise BadInput(
            f"known_at is {known_at!r}",
            "'cut': a row knows what had arrived by its cut; 'now': what is known today, for histories loaded late",
        )
    if negatives is not None and not 0 < negatives <= 1:
        raise BadInput(f"negatives is {negatives:g}", "the share to keep, above 0 and at most 1; NULL keeps all")
    if horizon is not None:
        refuse_horizon(plpy, memory, horizon)
    rule = stored_rule(row["label"])
    if negatives is not None and rule.output == AMOUNT:
        raise BadInput(f"negatives is {negatives:g}, and labels of task {task!r} are amounts", "NULL keeps all rows")
    found = feature_set(plpy, memory, row["feature_set_id"])
    rule, columns = _reading(plpy, memory, found, rule)
    if "holiday" in rule.columns and not found.definition.uses_holidays:
        days = single(plpy, memory, HOLIDAYS, ["text"], [found.time_zone])
        found = found._replace(holidays=tuple((days and days["days"]) or ()))
    kinds = list(found.definition.kinds)
    width = single(plpy, memory, WIDTH, ["interval"], [row["horizon"] if horizon is None else horizon])
    return Question(
        found,
        rule,
        tuple(dict.fromkeys((*kinds, *rule.kinds))),
        columns,
        kinds.index(row["population_kind"]),
        None if cuts is None else _cuts(plpy, memory, cuts, found.time_zone),
        [place for place, kind in enumerate(kinds) if not kind.startswith(ATTRIBUTE)],
        width["us"] if width else 0,
        known_at == "now",
        1.0 if negatives is None else negatives,
    )


def _reading(plpy: Any, memory: dict[str, Any], found: FeatureSet, rule: LabelRule) -> tuple[LabelRule, Columns]:
    """The rule against the event columns there are now, and the columns that it and the features read."""
    numbers, keys, local = found.definition.columns
    if rule.columns:
        types = types_of(tuple(declared_columns(plpy, memory)))
        rule = rule.checked(types)
        numbers = tuple(dict.fromkeys((*numbers, *(name for name in rule.columns if types[name] == "number"))))
        keys = tuple(dict.fromkeys((*keys, *(name for name in rule.columns if types[name] == "key"))))
    return rule, Columns(numbers, keys, local or any(name in CLOCK for name in rule.columns))


def record_population(plpy: Any, memory: dict[str, Any], question: Question) -> None:
    """Records what features that speak of all users go by at the question's moments; for functions that may write."""
    if not question.found.definition.standings:
        return
    if question.cuts is None:
        kinds = [question.found.definition.kinds[place] for place in question.moments]
        days = [row["day"] for row in run(plpy, memory, DAYS, ["text[]"], [kinds])]
    else:
        days = _days(question.cuts)
    record(plpy, memory, question.found, days)


def _days(cuts: list[tuple[int, int]]) -> list[int]:
    return sorted({day_of(cut_us) for cut_us, _ in cuts})


def _cuts(plpy: Any, memory: dict[str, Any], cuts: list[str | None], zone: str) -> list[tuple[int, int]]:
    if not cuts:
        raise BadInput("no cuts were given", "array[timestamptz '2011-06-01 00:00+00', ...]; NULL: at every event")
    if any(isinstance(cut, list) for cut in cuts):
        raise BadInput("cuts has more than one dimension", "array[timestamptz '2011-06-01 00:00+00', ...]")
    found: set[tuple[int, int]] = set()
    for cut in cuts:
        moment = moment_us(plpy, memory, cut, zone, "a cut")
        if moment in found:
            raise BadInput(f"the cut {cut} comes twice", "name each moment once")
        found.add(moment)
    return sorted(found)


def parts_of(
    plpy: Any, memory: dict[str, Any], question: Question, read: Read | None, seen_us: int
) -> "Iterator[tuple[Events, Iterator[Asked]]]":
    """The events of a few users at a time, with the pairs that are asked of them."""
    import numpy as np

    from ubp_sql.features.labels import member_from
    from ubp_sql.features.rows import of_users

    cuts_us, _ = _columns(question)
    for events in read_all(plpy, memory, question.kinds, question.columns):
        member_us = member_from(events, question.population, whenever_known=question.whenever_known)
        at_events, at_cuts = np.diff(events.first), len(cuts_us) - np.searchsorted(cuts_us, member_us)
        touch(plpy, memory)
        pairs = at_events if question.cuts is None else at_cuts
        # Parts of whole users, of about a batch each.
        group = np.cumsum(pairs) // _most(question)
        ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
        local_of = _local_of(plpy, memory, question, events)
        outcomes = _outcomes(question, events) if read is None else outcomes_in(read, events.user_id)
        events = _of_features(question, events)
        for low, high in zip([0, *ends[:-1]], ends, strict=True):
            if pairs[low:high].any():
                part, after = of_users(events, low, high), outcomes.of_users(low, high)
                yield part, _pairs_of(plpy, memory, question, seen_us, part, after, member_us[low:high], local_of)


def _outcomes(question: Question, events: "Events") -> "Outcomes":
    """The events that the label counts."""
    import numpy as np

    from ubp_sql.features.conditions import meeting
    from ubp_sql.features.labels import outcomes_of

    rule = question.rule
    kinds = [question.kinds.index(kind) for kind in rule.kinds]
    mine = meeting(events, kinds, rule.where, np.array(question.found.holidays, np.int64))
    return outcomes_of(events, mine, events.numbers[rule.of] if rule.of else None)


def _of_features(question: Question, events: "Events") -> "Events":
    """The events as the features' plan knows them: kinds of the label alone are of no kind."""
    known = len(question.found.definition.kinds)
    if len(question.kinds) == known:
        return events
    import numpy as np

    from ubp_sql.features.events import Events

    parts = {name: getattr(events, name) for name in Events.__slots__}
    return Events.trusted(**{**parts, "kind": np.where(events.kind < known, events.kind, np.int32(-1))})


def _local_of(plpy: Any, memory: dict[str, Any], question: Question, events: "Events") -> Callable[["I64"], "I64"]:
    """Gives moments of pairs on the clock of the set's zone."""
    import numpy as np

    if question.cuts is None:
        first_us, last_us = int(events.t_us.min()), int(events.t_us.max())
        return clock(plpy, memory, question.found.time_zone, first_us, last_us).local_us
    cuts_us, local_us = _columns(question)
    return lambda moments_us: local_us[np.searchsorted(cuts_us, moments_us)]


def _most(question: Question) -> int:
    """Pairs of a batch."""
    return max(1, BATCH_BYTES // (4 * len(question.found.definition.features)))


def _columns(question: Question) -> tuple["I64", "I64"]:
    """The cuts and their local times; empty at events."""
    import numpy as np

    cuts_us, local_us = np.array(question.cuts or np.empty((0, 2)), np.int64).T
    return cuts_us, local_us


def _pairs_of(
    plpy: Any,
    memory: dict[str, Any],
    question: Question,
    seen_us: int,
    events: "Events",
    outcomes: "Outcomes",
    member_us: "I64",
    local_of: Callable[["I64"], "I64"],
) -> "Iterator[Asked]":
    """The batches of a few users: one, but for a user with more events than a batch holds."""
    import numpy as np

    from ubp_sql.features.labels import Pairs, at_cuts, at_events, drawn, label

    if question.cuts is None:
        pairs = at_events(events, member_us, question.moments)
    else:
        pairs = at_cuts(member_us, _columns(question)[0])
    touch(plpy, memory)
    # At an event the window begins just after it: the event itself, and others at its very time, are no outcome.
    begin_us = question.rule.from_us + (1 if question.cuts is None else 0)
    labels = label(
        _form(question.rule),
        outcomes,
        pairs,
        begin_us,
        question.width_us,
        question.reach_us,
        between=lambda: touch(plpy, memory),
    )
    touch(plpy, memory)
    if question.share < 1:
        kept = (labels == 1) | drawn(events.user_id[pairs.user], pairs.cut_us, question.share)
        pairs, labels = Pairs(pairs.user[kept], pairs.cut_us[kept]), labels[kept]
    matured = (pairs.cut_us <= seen_us - question.reach_us).astype(np.uint8)
    weights = np.where(labels == 1, 1, 1 / question.share).astype("<f4")
    if question.rule.output == AMOUNT:
        labels = labels.astype("<f8", copy=False)
    for low in range(0, len(labels), _most(question)):
        part = slice(low, low + _most(question))
        user, cut_us = pairs.user[part], pairs.cut_us[part]
        columns = (events.user_id[user].astype("<i8"), cut_us.astype("<i8"), labels[part], matured[part], weights[part])
        yield Asked(tuple(column.tobytes() for column in columns), user, cut_us, local_of(cut_us))


def _form(rule: LabelRule) -> str:
    """What is made of the outcomes: rows of a table are summed, or there is one."""
    if rule.table is None:
        return rule.form
    return "any" if rule.table.value is None else "sum"


def _features(
    plpy: Any, memory: dict[str, Any], question: Question, events: "Events", user: "I64", cut_us: "I64", local_us: "I64"
) -> "F32":
    import numpy as np

    from ubp_sql.features.compute import compute
    from ubp_sql.features.labels import NEVER

    known_us = np.full(len(user), NEVER) if question.whenever_known else None
    found, holidays = question.found, np.array(question.found.holidays, np.int64)
    pause = lambda: touch(plpy, memory)  # noqa: E731
    rows = compute(events, found.definition, user, cut_us, local_us, known_us, pause, holidays=holidays)
    finish_all(plpy, memory, found, rows, cut_us)
    return rows.features.astype("<f4", copy=False)
