"""A task as the session that asks for it call after call keeps it.

A call finds the deployed version and the user's row in one query. Where it sees what the call before saw
(snapshots.py), the version is the same one and only the row is read: half the time. Where many calls belong to one
statement, rows are read ahead (ahead.py).
"""

from __future__ import annotations

from ubp_sql.api.ageing import ROW
from ubp_sql.api.serving import (
    LIVE,
    Deployed,
    answering,
    judge,
    known_deployment,
    no_deployment,
    policy_of,
    score_row,
    stored,
)
from ubp_sql.api.session import run, single, to_server
from ubp_sql.api.snapshots import reader
from ubp_sql.errors import UbpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ubp_sql.api.ahead import Ahead
    from ubp_sql.api.snapshots import Moment

# One query finds the deployed version and the user's row, so both belong to the statement's snapshot.
LOOKUP = f"""
select d.deployment_id, d.abstains, {ROW}
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
  left join ubp.feature_rows r on r.feature_set_id = d.feature_set_id and r.user_id = $2
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only
# What LOOKUP finds beside the row; times as the server keeps them, in microseconds.
VERSION = f"""
select d.deployment_id, timestamptz_send(d.deployed_at) as since, timestamptz_send(d.retired_at) as until,
       to_char(s.as_of at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' as as_of, s.as_of_us, s.as_of_weekday,
       exists (select from ubp.user_members) as linked, d.abstains
  from ubp.deployments d
  join ubp.feature_sets s on s.feature_set_id = d.feature_set_id
 where d.task = $1 and {LIVE}"""  # noqa: S608 - constants only
ONLY_ROW = """
select substr(ubp.array_bytes(r.features, -1, true), 21) as packed,
       case when r.as_of <> $3 then r.anchors end as anchors
  from ubp.feature_rows r where r.feature_set_id = $1 and r.user_id = $2"""
UNKNOWN = object()
NEVER = (b"", 0, 0)
MOST_TASKS = 200
FEW = 8  # calls of a statement before rows are read ahead


class Version:
    """What a version's answers depend on beside the user's row, as one snapshot shows it."""

    __slots__ = (
        *("abstains", "as_of", "as_of_us", "deployed", "feature_set_id", "linked", "row_alone", "since", "until"),
        "weekday",
    )

    def __init__(self, row: dict[str, Any], deployed: Deployed) -> None:
        self.deployed = deployed
        self.since = int.from_bytes(row["since"], "big", signed=True)
        self.until = int.from_bytes(row["until"], "big", signed=True)
        self.feature_set_id = deployed.feature_set_id
        self.as_of: str | None = row["as_of"]
        self.as_of_us: int = row["as_of_us"]
        self.weekday: int = row["as_of_weekday"]
        self.linked: bool = row["linked"]  # whether there are ids that are another user's
        self.abstains: bool = row["abstains"]
        # Whether it and the user's row are all that an answer depends on.
        self.row_alone = self.as_of is not None and not deployed.challengers and not self.abstains

    def of_one_set(self) -> bool:
        """Whether challengers, if any, read the rows that the champion reads."""
        return all(arm.feature_set_id == self.feature_set_id for arm in self.deployed.challengers)


class Served:
    """One task of one function's SD."""

    def __init__(self, plpy: Any, memory: dict[str, Any], task: str) -> None:
        self.plpy, self.memory, self.task = plpy, memory, task
        self.only_row: Any = None
        self.moment: Callable[[], Moment | None] = self._first
        self.seen: Moment = NEVER
        self.calls = 0
        self.version: Version | None = None
        self.ahead: Ahead | None = None

    def score(self, user_id: int) -> float | None:
        """Score of one user from the stored row; None when there is no row or too little history."""
        # Written flat: this is the hot path, and every call and lookup here shows in the latency.
        try:
            moment, seen = self.moment(), self.seen
            if moment == seen:
                self.calls += 1
                ahead = self.ahead
                if ahead is not None:
                    score = ahead.scores.get(user_id, UNKNOWN)
                    if score is not UNKNOWN:
                        return score  # type: ignore[return-value]
                    found, score = ahead.find(user_id, self.calls)
                    if found:
                        return score
                elif self.calls == FEW:
                    self.ahead = self._new_ahead()
            elif moment is None:
                return self._looked_up(user_id)
            else:
                self.seen, self.calls, self.ahead = moment, 1, None
                if moment[0] != seen[0] or moment[1] != seen[1]:
                    self.version = None
                    return self._looked_up(user_id)
            version = self.version
            if version is None or not version.since <= self.seen[2] < version.until:
                version = self._learn()
            if version is None or not version.row_alone:
                return self._looked_up(user_id)
            plan = self.only_row
            rows = plan.execute((version.feature_set_id, user_id, version.as_of))
            if not rows:
                return self._of_member(user_id) if version.linked else None
            row = rows[0]
            packed, anchors, deployed = row["packed"], row["anchors"], version.deployed
            if anchors is not None and len(packed) == deployed.loaded.size:
                packed = deployed.ageing.finish(packed, anchors, version.as_of_us, version.weekday)
            return score_row(deployed, packed)
        except UbpError as error:
            raise to_server(self.plpy, error) from None

    def _first(self) -> None:
        """Of a session that asks once: what tells calls apart takes 1.2 ms to get."""
        self.moment = self._second

    def _second(self) -> Moment | None:
        found = reader(self.plpy, self.memory)
        self.moment = _unknown if found is None else found.moment
        return self.moment()

    def _looked_up(self, user_id: int) -> float | None:
        """From one query, whatever the session knows."""
        plpy, memory = self.plpy, self.memory
        found = run(plpy, memory, LOOKUP, ["text", "bigint"], [self.task, user_id])
        if not found:
            raise no_deployment(plpy, memory, self.task)
        row = found[0]
        if row["packed"] is None:
            from ubp_sql.api.members import whose

            other = whose(plpy, memory, user_id)
            if other is not None:
                return self._looked_up(other)
        deployed = known_deployment(plpy, memory, row["deployment_id"])
        if deployed.challengers:
            deployed, packed = answering(plpy, memory, deployed, user_id, row)
        else:
            packed = stored(deployed, row)
        if row["abstains"]:
            return judge(deployed, packed, policy_of(plpy, memory, deployed, True))[0]
        return None if packed is None else score_row(deployed, packed)

    def _of_member(self, user_id: int) -> float | None:
        """Of one without a row: what is said of the user that the id was linked to."""
        from ubp_sql.api.members import whose

        other = whose(self.plpy, self.memory, user_id)
        return None if other is None else self._looked_up(other)

    def _learn(self) -> Version | None:
        """The version that answers in this snapshot at this moment."""
        plpy, memory = self.plpy, self.memory
        row = single(plpy, memory, VERSION, ["text"], [self.task])
        if row is None:
            return None
        if self.only_row is None:
            self.only_row = plpy.prepare(ONLY_ROW, ["integer", "bigint", "timestamptz"])
        self.version = Version(row, known_deployment(plpy, memory, row["deployment_id"]))
        return self.version

    def _new_ahead(self) -> Ahead | None:
        """None where each call has to stand for itself: nothing to read, or rows of several sets."""
        version = self._learn()
        if version is None or version.as_of is None or not version.of_one_set():
            return None
        policy = policy_of(self.plpy, self.memory, version.deployed, version.abstains)
        if policy is not None and policy.too_old is not None:
            return None
        from ubp_sql.api.ahead import Ahead

        return Ahead(self.plpy, self.memory, version, policy, FEW)


def _unknown() -> None:
    """Of a server whose snapshots are not understood: each call stands for itself."""


def served(plpy: Any, memory: dict[Any, Any], task: str) -> Callable[[int], float | None]:
    """What scores a user for a task; the SQL function's body finds it in its SD from then on."""
    made = Served(plpy, memory, task)
    kept = memory.setdefault("served", {})
    if len(kept) >= MOST_TASKS:
        kept.clear()  # made-up names, most likely
    kept[task] = made.score
    return made.score
