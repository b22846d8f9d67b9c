"""Rows read ahead of a statement that asks for one user after another, scored together.

What is read belongs to one snapshot and one statement, for served_task.py drops it where either changes: it says what
single calls would say. How much is read follows what came of it: a call that finds its answer pays for four further
rows, one that does not for a quarter of a row, so that an audience in an order that nobody can foresee is slowed by
some per cent at most. Once such calls are many beside the whole population, everybody is scored.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from time import time

from ubp_sql.api.ageing import ROW
from ubp_sql.api.members import whose
from ubp_sql.api.serving import Deployed, Policy, challenger_of, score_row, stored
from ubp_sql.api.session import Row, keep_freed_memory, prepare_numba, run, touch
from ubp_sql.errors import UbpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ubp_sql.api.served_task import Version
    from ubp_sql.api.stored_rows import SetMoment

ROWS = f"""
select r.user_id, {ROW}
  from ubp.feature_sets s
  join ubp.feature_rows r on r.feature_set_id = s.feature_set_id
 where s.feature_set_id = $1 and r.user_id >= $2 order by r.user_id limit $3"""  # noqa: S608 - constants only
ROWS_DOWN = ROWS.replace(">= $2 order by r.user_id", "<= $2 order by r.user_id desc")
ABOUT = "select reltuples::bigint as users from pg_class where oid = 'ubp.feature_rows'::regclass"
LOWEST, HIGHEST = -(2**63), 2**63 - 1
FIRST, MOST, MOST_BYTES = 32, 4_000, 4 << 20  # rows; of their features
BATCH = 1_000  # from as many rows on the kernels of many rows are worth loading NumPy: 0.1 s, once a session
# A row read ahead costs a seventh of a call that has to read its own.
DEARER = 7
EVERYBODY_FROM, EVERYBODY_MOST = 1_000, 2_000_000  # calls; users, 16 bytes each
PAUSE = 0.05  # seconds, a third of what a cancel may take


class Ahead:
    """Scores of users that a statement may ask for next.

    wanted  whether to ask: false once something told that single calls are the way
    scores  by user; of users from `low` to `high` who are not there, there is no row
    """

    def __init__(self, plpy: Any, memory: dict[str, Any], version: Version, policy: Policy | None, calls: int) -> None:
        self.plpy, self.memory, self.version, self.policy = plpy, memory, version, policy
        self.wanted = True
        self.scores: dict[int, float | None] = {}
        self.low, self.high = 0, -1
        self._before = calls
        self._read = self._alone = self._fetches = 0
        self._last = LOWEST
        loaded = version.deployed.loaded
        self._most = max(FIRST, min(MOST, MOST_BYTES // loaded.size))
        self._pays, self._everybody_from = 4, EVERYBODY_FROM
        if loaded.form == "network":  # the row is cheap beside the model: what nobody asks for costs as much
            self._pays, self._everybody_from = 1, HIGHEST
        self._moment: SetMoment | None = None
        self._everybody: tuple[array[int], array[float]] | None = None

    def find(self, user_id: int, calls: int) -> tuple[bool, float | None]:
        """(whether it is known, score) of a user who is not in `scores`; `calls` of the statement so far."""
        if not self.wanted:
            return False, None
        if self.low <= user_id <= self.high:
            return self._nobody(user_id) if self.version.linked else (True, None)
        if self._everybody is not None:
            return self._of_everybody(user_id)
        last, self._last = self._last, user_id
        found = calls - self._before - self._alone - self._fetches
        room = FIRST + self._pays * found + self._alone // 4 - self._read
        if room < FIRST:
            self._alone += 1
        try:
            if room >= FIRST:
                self._fetch(user_id, min(room, self._most), down=user_id < last)
                return (True, self.scores[user_id]) if user_id in self.scores else self._nobody(user_id)
            if self._alone >= self._everybody_from:
                self._consider_everybody()
        except UbpError:  # of a row that nobody may ever ask for, or of reading many: a single call says its own
            self.wanted = False
        return False, None

    def _fetch(self, user_id: int, n: int, *, down: bool) -> None:
        """n rows from a user on, in place of those before."""
        read = self._together if n >= BATCH else self._one_by_one
        users = read(user_id, n, down=down)
        self.version.deployed.loaded.used_at = time()
        self._read += n
        self._fetches += 1
        self.low = self.high = user_id
        if down:
            self.low = min(users) if len(users) == n else LOWEST
        else:
            self.high = max(users) if len(users) == n else HIGHEST

    def _one_by_one(self, user_id: int, n: int, *, down: bool) -> list[int]:
        version = self.version
        query = ROWS_DOWN if down else ROWS
        rows: list[Row] = run(
            self.plpy, self.memory, query, ["integer", "bigint", "bigint"], [version.feature_set_id, user_id, n]
        )
        scores: dict[int, float | None] = {}
        policy = self.policy
        until = time() + PAUSE
        for row in rows:
            if time() > until:
                self._pause()
                until = time() + PAUSE
            deployed = challenger_of(version.deployed, row["user_id"])
            packed = stored(deployed, row)
            if packed is None or (policy is not None and policy.why(deployed, packed) is not None):
                scores[row["user_id"]] = None
            else:
                scores[row["user_id"]] = score_row(deployed, packed)
        self.scores = scores
        return list(scores)

    def _together(self, user_id: int, n: int, *, down: bool) -> list[int]:
        from ubp_sql.api.stored_rows import DOWNWARDS, UPWARDS

        users, scores = self._scored(DOWNWARDS if down else UPWARDS, user_id, n)
        listed: list[int] = users.tolist()
        self.scores = dict(zip(listed, [None if score != score else score for score in scores.tolist()], strict=True))
        return listed

    def _scored(self, query: str, user_id: int, n: int) -> tuple[Any, Any]:
        """(users, scores) as arrays."""
        moment = self._moment = self._moment or self._prepared()
        from ubp_sql.api.stored_rows import some_rows

        users, rows = some_rows(self.plpy, self.memory, self.version.deployed, moment, query, user_id, n)
        return users, self._said(users, rows)

    def _prepared(self) -> SetMoment:
        """What the kernels of many rows need, once a statement."""
        from ubp_sql.api.moments import feature_set
        from ubp_sql.api.stored_rows import SetMoment

        prepare_numba()
        keep_freed_memory()
        version = self.version
        plan = feature_set(self.plpy, self.memory, version.feature_set_id).definition.plan
        return SetMoment(plan, version.as_of_us, version.weekday)

    def _said(self, users: Any, rows: Any) -> Any:
        """(n,) what each user's version says, NaN for too little history."""
        deployed = self.version.deployed
        scores = self._values(deployed, rows)
        if deployed.challengers:
            from ubp_sql.models.split import arms

            arm = arms(deployed.task, users, deployed.bounds)
            for number, challenger in enumerate(deployed.challengers):
                mine = arm == number
                scores[mine] = self._values(challenger, rows[mine])
        return scores

    def _values(self, deployed: Deployed, rows: Any) -> Any:
        """(n,) what that version says, NaN for too little history."""
        from ubp_sql.models.population import score_rows, too_little

        scores = score_rows(deployed.loaded, rows, deployed.population, self._pause)
        values = deployed.values(scores, self._pause)
        if self.policy is not None:
            values[too_little(rows, deployed.population, self.policy.least_events)] = math.nan
        return values

    def _consider_everybody(self) -> None:
        """Scores everybody if that costs no more than what was spent on single calls so far."""
        users = run(self.plpy, self.memory, ABOUT, [], [])[0]["users"]
        if not 0 < users <= DEARER * self._alone:
            self._everybody_from = 2 * self._alone if users <= 0 else -(-users // DEARER)
            return
        self._everybody_from = HIGHEST
        if users > EVERYBODY_MOST:
            return
        from ubp_sql.api.stored_rows import UPWARDS

        ids, scores, lowest = array("q"), array("d"), LOWEST
        while True:
            found = self._scored(UPWARDS, lowest, self._most)
            ids.frombytes(found[0].tobytes())
            scores.frombytes(found[1].tobytes())
            if len(found[0]) < self._most:
                break
            if len(ids) > EVERYBODY_MOST:
                return
            lowest = ids[-1] + 1
        self._everybody, self.scores, self.low, self.high = (ids, scores), {}, 0, -1

    def _of_everybody(self, user_id: int) -> tuple[bool, float | None]:
        ids, scores = self._everybody or (array("q"), array("d"))
        place = bisect_left(ids, user_id)
        if place == len(ids) or ids[place] != user_id:
            return self._nobody(user_id)
        score = scores[place]
        return True, None if math.isnan(score) else score

    def _nobody(self, user_id: int) -> tuple[bool, float | None]:
        """Of one without a row; the answer of another user, whose he is, is not known here."""
        return not self.version.linked or whose(self.plpy, self.memory, user_id) is None, None

    def _pause(self) -> None:
        touch(self.plpy, self.memory)
