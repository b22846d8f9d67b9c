"""Training rows: features of a task's population at past moments, with what happened next."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.catalogue import HORIZON
from ubp_sql.api.events import read_all
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.session import check_version, entry, prepare_numba, run, single, touch
from ubp_sql.api.standings import finish_all, keep, of_set, record
from ubp_sql.api.zones import clock
from ubp_sql.errors import BadInput, UnknownTask
from ubp_sql.features.standing import day_of

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.kernels.dispatch import F32, I64

TASK = """
select t.feature_set_id, t.label_kind, t.population_kind, t.horizon from ubp.task_definitions t where t.task = $1"""
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
KNOWN_AT = ("cut", "now")
# Kinds of what users are, not of what they do: their events are no moments of their own.
ATTRIBUTE = "attribute:"

# Features of one batch: a value of 1 GB is PostgreSQL's limit, and on its way a batch is held a few times.
BATCH_BYTES = 16 << 20


class Question(NamedTuple):
    """What is asked for, checked.

    label, population  places of the two kinds among the definition's
    cuts               (UTC, local) of each cut, ascending; None: at every event of the kinds in `moments`
    width_us           of the label's window
    whenever_known     True: an event counts whenever it became known; False: only if by the cut
    share              of the negatives that is kept
    """

    found: FeatureSet
    label: int
    population: int
    cuts: list[tuple[int, int]] | None
    moments: list[int]
    width_us: int
    whenever_known: bool
    share: float


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
    newest = single(plpy, memory, NEWEST, [], [])
    seen_us = newest["us"] if newest and newest["us"] is not None else -(1 << 62)
    return _batches(plpy, memory, question, seen_us)


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
        raise UnknownTask(f"unknown task {task!r}", "select task from ubp.tasks lists the tasks")
    if known_at not in KNOWN_AT:
        raise BadInput(
            f"known_at is {known_at!r}",
            "'cut': a row knows what had arrived by its cut; 'now': what is known today, for histories loaded late",
        )
    if negatives is not None and not 0 < negatives <= 1:
        raise BadInput(f"negatives is {negatives:g}", "the share to keep, above 0 and at most 1; NULL keeps all")
    if horizon is not None:
        good = single(plpy, memory, HORIZON, ["interval"], [horizon])
        if good is None or not good["good"]:
            raise BadInput(
                f"horizon {horizon} is not a positive number of days or hours", "for example interval '30 days'"
            )
    found = feature_set(plpy, memory, row["feature_set_id"])
    kinds = list(found.definition.kinds)
    width = single(plpy, memory, WIDTH, ["interval"], [row["horizon"] if horizon is None else horizon])
    return Question(
        found,
        kinds.index(row["label_kind"]),
        kinds.index(row["population_kind"]),
        None if cuts is None else _cuts(plpy, memory, cuts, found.time_zone),
        [place for place, kind in enumerate(kinds) if not kind.startswith(ATTRIBUTE)],
        width["us"] if width else 0,
        known_at == "now",
        1.0 if negatives is None else negatives,
    )


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


def _batches(plpy: Any, memory: dict[str, Any], question: Question, seen_us: int) -> Iterator[Any]:
    prepare_numba()
    import numpy as np

    from ubp_sql.features.labels import member_from
    from ubp_sql.features.rows import of_users

    definition = question.found.definition
    cuts_us, _ = _columns(question)
    for events in read_all(plpy, memory, definition.kinds, definition.columns):
        member_us = member_from(events, question.population, whenever_known=question.whenever_known)
        at_events, at_cuts = np.diff(events.first), len(cuts_us) - np.searchsorted(cuts_us, member_us)
        touch(plpy, memory)
        pairs = at_events if question.cuts is None else at_cuts
        # Parts of whole users, of about a batch each.
        group = np.cumsum(pairs) // _most(question)
        ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
        local_of = _local_of(plpy, memory, question, events)
        for low, high in zip([0, *ends[:-1]], ends, strict=True):
            if pairs[low:high].any():
                part = of_users(events, low, high)
                yield from _of_part(plpy, memory, question, seen_us, part, member_us[low:high], local_of)


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


def _of_part(
    plpy: Any,
    memory: dict[str, Any],
    question: Question,
    seen_us: int,
    events: "Events",
    member_us: "I64",
    local_of: Callable[["I64"], "I64"],
) -> Iterator[Any]:
    """The batches of a few users: one, but for a user with more events than a batch holds."""
    import numpy as np

    from ubp_sql.features.labels import Pairs, at_cuts, at_events, drawn, happened

    if question.cuts is None:
        pairs = at_events(events, member_us, question.moments)
    else:
        pairs = at_cuts(member_us, _columns(question)[0])
    touch(plpy, memory)
    # At an event the window begins just after it: the event itself, and others at its very time, are no outcome.
    begin_us = 1 if question.cuts is None else 0
    labels = happened(events, question.label, pairs, begin_us, question.width_us, between=lambda: touch(plpy, memory))
    touch(plpy, memory)
    if question.share < 1:
        kept = (labels == 1) | drawn(events.user_id[pairs.user], pairs.cut_us, question.share)
        pairs, labels = Pairs(pairs.user[kept], pairs.cut_us[kept]), labels[kept]
    matured = (pairs.cut_us <= seen_us - question.width_us).astype(np.uint8)
    weights = np.where(labels == 1, 1, 1 / question.share).astype("<f4")
    for low in range(0, len(labels), _most(question)):
        part = slice(low, low + _most(question))
        user, cut_us = pairs.user[part], pairs.cut_us[part]
        features = _features(plpy, memory, question, events, user, cut_us, local_of(cut_us))
        columns = (events.user_id[user].astype("<i8"), cut_us.astype("<i8"), labels[part], matured[part], weights[part])
        yield (*(column.tobytes() for column in columns), features.tobytes())


def _features(
    plpy: Any, memory: dict[str, Any], question: Question, events: "Events", user: "I64", cut_us: "I64", local_us: "I64"
) -> "F32":
    import numpy as np

    from ubp_sql.features.compute import compute

    known_us = np.full(len(user), 1 << 62) if question.whenever_known else None
    found, holidays = question.found, np.array(question.found.holidays, np.int64)
    pause = lambda: touch(plpy, memory)  # noqa: E731
    rows = compute(events, found.definition, user, cut_us, local_us, known_us, pause, holidays=holidays)
    finish_all(plpy, memory, found, rows, cut_us)
    return rows.features.astype("<f4", copy=False)
