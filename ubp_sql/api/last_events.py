"""Last events of users as rows of numbers: of one user, of some, of everybody packed for training."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ubp_sql.api.events import read_all, read_users
from ubp_sql.api.members import whose_these
from ubp_sql.api.moments import FeatureSet, feature_set, moment_us
from ubp_sql.api.session import check_version, entry, prepare_numba, touch
from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Columns

if TYPE_CHECKING:
    from ubp_sql.features.events import Events

READ = Columns(numbers=("value",), keys=("item",), local=False)
MAX_LENGTH = 4096
# Users of one look into the mirror; numbers of one packed row, far below the 1 GB that a value may have.
GROUP_USERS = 1000
BATCH_NUMBERS = 8 << 20

Rows = list[list[float]]


class _Question:
    """What is asked for, checked: whose events (kinds of a set), until when, how many."""

    def __init__(
        self, plpy: Any, memory: dict[str, Any], length: int | None, as_of: str | None, name: str | None
    ) -> None:
        check_version(plpy, memory)
        if name is None:
            raise BadInput("feature_set is NULL", "the sets are in ubp.feature_sets; 'default' is one")
        found: FeatureSet = feature_set(plpy, memory, name)
        self.as_of_us, _ = moment_us(plpy, memory, as_of, found.time_zone)
        if length is None or not 1 <= length <= MAX_LENGTH:
            raise BadInput(f"n is {'NULL' if length is None else length}", f"a number of events from 1 to {MAX_LENGTH}")
        self.plpy, self.memory, self.length = plpy, memory, length
        self.kinds = found.definition.kinds
        prepare_numba()

    def whose(self, user_ids: list[int]) -> list[int]:
        """The users themselves, of linked ids whose they are."""
        linked = whose_these(self.plpy, self.memory, user_ids)
        return [linked.get(user, user) for user in user_ids]

    def of_users(self, user_ids: list[int]) -> tuple[list[int], Any, Any]:
        """(users found, ascending; (u, n, 6) float32; lengths)."""
        events = read_users(self.plpy, self.memory, self.kinds, READ, user_ids) if user_ids else None
        if events is None:
            return [], None, None
        return events.user_id.tolist(), *self.of_events(events)

    def of_events(self, events: "Events") -> tuple[Any, Any]:
        """((u, n, 6) float32, lengths) of the users of `events`."""
        from ubp_sql.features.sequences import sequences

        return sequences(events, self.as_of_us, self.as_of_us, self.length, lambda: touch(self.plpy, self.memory))

    def padding(self) -> Rows:
        """The sequence of a user without events."""
        return [[0.0] * 6 for _ in range(self.length)]


@entry
def sequence(
    plpy: Any, memory: dict[str, Any], user_id: int | None, n: int | None, as_of: str | None, name: str | None
) -> Rows:
    """(n, 6) numbers of one user; all padding for NULL, for an unknown user and for one without events by then."""
    question = _Question(plpy, memory, n, as_of, name)
    _, rows, _ = question.of_users(question.whose([] if user_id is None else [user_id]))
    return question.padding() if rows is None else rows[0].tolist()


@entry
def sequence_kinds(plpy: Any, memory: dict[str, Any], name: str) -> list[str]:
    """The kinds of a set's events, in the order that sequences number them in from 1."""
    check_version(plpy, memory)
    return list(feature_set(plpy, memory, name).definition.kinds)


@entry
def sequences(
    plpy: Any,
    memory: dict[str, Any],
    user_ids: list[int | None] | None,
    n: int | None,
    as_of: str | None,
    name: str | None,
) -> Iterator[tuple[int | None, int, Rows]]:
    """(user_id, length, events) in the order asked."""
    question = _Question(plpy, memory, n, as_of, name)
    return _in_order(question, _flat(user_ids))


def _flat(user_ids: list[Any] | None) -> list[int | None]:
    if user_ids is None or any(isinstance(user, list) for user in user_ids):
        raise BadInput("the user ids are NULL or have more than one dimension", "give a flat array of user ids")
    return user_ids


def _in_order(question: _Question, user_ids: list[int | None]) -> Iterator[tuple[int | None, int, Rows]]:
    step = max(1, min(GROUP_USERS, BATCH_NUMBERS // (6 * question.length)))
    for low in range(0, len(user_ids), step):
        part = user_ids[low : low + step]
        some = [user for user in part if user is not None]
        whose = dict(zip(some, question.whose(some), strict=True))
        users, rows, lengths = question.of_users(sorted(set(whose.values())))
        place = {user: number for number, user in enumerate(users)}
        for user in part:
            found = None if user is None else place.get(whose[user])
            if found is None:
                yield user, 0, question.padding()
            else:
                yield user, int(lengths[found]), rows[found].tolist()


@entry
def sequence_matrix(
    plpy: Any,
    memory: dict[str, Any],
    n: int | None,
    as_of: str | None,
    user_ids: list[int | None] | None,
    name: str | None,
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(user_ids, lengths, events) packed, a batch a row; without user ids everybody with an event, ascending."""
    question = _Question(plpy, memory, n, as_of, name)
    if user_ids is None:
        return _everybody(question)
    if any(user is None for user in _flat(user_ids)):
        raise BadInput("for_users holds a NULL", "leave it out: a packed row has no room for one")
    return _packed_in_order(question, [user for user in user_ids if user is not None])


def _everybody(question: _Question) -> Iterator[tuple[bytes, bytes, bytes]]:
    import numpy as np

    from ubp_sql.features.rows import of_users

    most = max(1, BATCH_NUMBERS // (6 * question.length))
    for events in read_all(question.plpy, question.memory, question.kinds, READ):
        for low in range(0, len(events.user_id), most):
            part = of_users(events, low, min(low + most, len(events.user_id)))
            rows, lengths = question.of_events(part)
            some = np.flatnonzero(lengths)
            if len(some):
                yield _packed(part.user_id[some], lengths[some], rows[some])


def _packed_in_order(question: _Question, user_ids: list[int]) -> Iterator[tuple[bytes, bytes, bytes]]:
    import numpy as np

    step = max(1, min(GROUP_USERS, BATCH_NUMBERS // (6 * question.length)))
    for low in range(0, len(user_ids), step):
        part = user_ids[low : low + step]
        asked = np.array(question.whose(part), np.int64)
        users, found, sizes = question.of_users(np.unique(asked).tolist())
        rows = np.zeros((len(asked), question.length, 6), np.float32)
        lengths = np.zeros(len(asked), np.int32)
        if users:
            place = np.searchsorted(users, asked)
            there = np.array(users, np.int64)[np.minimum(place, len(users) - 1)] == asked
            rows[there], lengths[there] = found[place[there]], sizes[place[there]]
        yield _packed(np.array(part, np.int64), lengths, rows)


def _packed(users: Any, lengths: Any, rows: Any) -> tuple[bytes, bytes, bytes]:
    return users.astype("<i8").tobytes(), lengths.astype("<i4").tobytes(), rows.astype("<f4", copy=False).tobytes()
