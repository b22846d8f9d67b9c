"""`worker`: computes the chunks of refreshes in steps that anybody has begun, outside of the server."""

import random
import signal
import time
from types import FrameType
from typing import Annotated, Any

import typer

from ubp_sql.cli.gpu import asked_for
from ubp_sql.cli.shared import Dsn, connection, err, from_server, guarded, out
from ubp_sql.errors import BadInput, InstallError, NotReady, UbpError
from ubp_sql.install import state

# With a chunk to compute; what was overtaken or changed meanwhile is ended by whoever takes its next step.
JOBS = """
select j.job_id from ubp.refresh_jobs j join ubp.feature_sets s using (feature_set_id)
 where j.set_hash = s.hash and j.based_on is not distinct from s.refreshed_at
   and exists (select from ubp.refresh_chunks c where c.job_id = j.job_id and not c.done)
 order by j.job_id"""
SHORTEST_S, LONGEST_S = 0.05, 3600.0
REST_S = 60.0
"""For which a job that failed here is left to others."""
NAP_S = 0.2
AWAY_S = 5.0
"""Between two looks for a server that went away."""


@guarded
def worker(
    gpu: Annotated[
        bool | None,
        typer.Option(
            "--gpu/--no-gpu",
            metavar="",
            help="Compute on this machine's GPU, or on its CPU; default: whichever `ubp-sql bench --calibrate` found to"
            " be faster.",
        ),
    ] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks for work.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", metavar="", help="Stop when there is no work.")] = False,
    dsn: Dsn = "",
) -> None:
    """Compute features for refreshes in steps: ubp.start_refresh begins one, ubp.refresh_step ends it.

    SIGTERM ends it after the chunk that is under way, Ctrl-C at once. It is killed at no loss: a chunk is stored whole
    or not at all, and anybody can compute it again. A server that restarts is waited for, but with --once.
    """
    if not SHORTEST_S <= every <= LONGEST_S:
        raise BadInput(f"--every {every:g}", f"seconds from {SHORTEST_S:g} to {LONGEST_S:g}")
    _Worker(asked_for(gpu), every, once).run(dsn)


class _Worker:
    def __init__(self, gpu: bool | None, every: float, once: bool) -> None:
        from ubp_sql.worker import choice

        self.every, self.once = every, once
        self.choose = choice.only_gpu if gpu else choice.here() if gpu is None else lambda size, whole: None
        self.stopped = False
        self.rests: dict[int, float] = {}  # job -> until when

    def run(self, dsn: str) -> None:
        import psycopg

        from ubp_sql.worker.choice import may_compute

        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            with connection(dsn) as conn:
                # Whoever may read the jobs alone would find out at the first one.
                if not may_compute(conn):
                    raise InstallError(
                        "only a member of ubp_admin may be a worker: raw events go to it, and its rows are served",
                        "as an administrator: grant ubp_admin to the role you connect as",
                    )
            while not self.stopped:
                try:
                    with connection(dsn) as conn, connection(dsn) as reading:
                        return self._serve(conn, reading)
                except (psycopg.OperationalError, InstallError) as error:
                    if self.once:
                        raise
                    shown = from_server(error) if isinstance(error, psycopg.Error) else error
                    err.print(f"{shown.sqlstate}: {shown.message}; next try in {AWAY_S:g} s", markup=False)
                    self._wait(AWAY_S)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _serve(self, conn: Any, reading: Any) -> None:
        while not self.stopped:
            computed = sum(self._work(conn, reading, job) for job in self._jobs(conn))
            if self.once and not self._jobs(conn):
                return self._end(conn)
            if not computed:
                self._wait(self.every)

    def _end(self, conn: Any) -> None:
        """What failed here and is over meanwhile, somebody else has done or given up."""
        left = [row["job_id"] for row in state.rows(conn, JOBS) if row["job_id"] in self.rests]
        if left:
            jobs = ", ".join(map(str, left))
            raise NotReady(f"not computed here, as said above: job {jobs}", "ubp.refresh_step computes in the server")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def _jobs(self, conn: Any) -> list[int]:
        now = time.monotonic()
        self.rests = {job: until for job, until in self.rests.items() if until > now}
        return [row["job_id"] for row in state.rows(conn, JOBS) if row["job_id"] not in self.rests]

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_S))

    def _work(self, conn: Any, reading: Any, job: int) -> int:
        """Chunks computed; a job that fails is told, and left alone for a while."""
        import psycopg

        from ubp_sql.worker.refresh import compute_chunks

        try:
            count = compute_chunks(
                conn,
                reading,
                job,
                self.choose,
                say=lambda line: err.print(line, markup=False),
                stop=lambda: self.stopped,
                start=lambda chunks: random.randrange(chunks + 1),  # noqa: S311 - so that two workers begin apart
            )
        except (psycopg.Error, UbpError) as error:
            if conn.closed or reading.closed:
                raise
            shown = from_server(error) if isinstance(error, psycopg.Error) else error
            err.print(f"job {job}: {shown.sqlstate}: {shown.message}", markup=False)
            self.rests[job] = time.monotonic() + REST_S
            return 0
        if count:
            out.print(f"job {job}: {count} {'chunk' if count == 1 else 'chunks'} computed", markup=False)
        return count
