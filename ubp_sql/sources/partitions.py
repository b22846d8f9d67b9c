"""Monthly partitions for the rows of a load, made so that nobody waits for the load to end."""

import psycopg

Cursor = psycopg.Cursor[tuple[object, ...]]

LOCK_TIMEOUT = "5s"  # while we wait for the default partition, whoever comes after us waits too
# A partition for each month that has rows: from the first to the last would make thousands for one wrong year.
# 240 months are 20 years; rows of further months go to the default partition.
_MISSING = """select to_char(month, 'YYYY-MM-01 00:00+00') from (
    select date_trunc('month', event_time at time zone 'UTC') as month from pg_temp.ubp_typed
    group by 1 order by count(*) desc limit 240) months
where to_regclass('ubp.events_' || to_char(month, 'YYYY_MM')) is null order by month"""
# Of rows in the order of time, the months of the first and the last say as much, for a third of the time.
_ALL_THERE = """select high < low + interval '2 years' and not exists (
  select from generate_series(low, high, interval '1 month') month
  where to_regclass('ubp.events_' || to_char(month, 'YYYY_MM')) is null)
from (select date_trunc('month', min(event_time) at time zone 'UTC') as low, max(event_time) at time zone 'UTC' as high
      from pg_temp.ubp_typed) s"""
_MAKE = "select ubp.ensure_event_partitions(%s::timestamptz, %s::timestamptz)"


def make_partitions(cursor: Cursor, apart: bool) -> None:
    """Make the partitions that the rows of ubp_typed lack.

    Making one locks ubp.events_default against everybody until the transaction ends. `apart`: on a connection beside
    this one, a short transaction a month; only for a transaction that has not touched ubp.events, since it would wait
    for itself. A month that cannot be locked in LOCK_TIMEOUT stays in the default partition until the next load.
    Without `apart`, or where the server takes no second connection, it happens in the transaction of `cursor`.
    """
    if cursor.execute(_ALL_THERE).fetchall() == [(True,)]:
        return
    cursor.execute(_MISSING)
    months = [str(row[0]) for row in cursor.fetchall()]
    beside = connect_beside(cursor.connection, role_of(cursor)) if apart and months else None
    if beside is None:
        for month in months:
            cursor.execute(_MAKE, (month, month))
        return
    with beside:
        beside.execute("select set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
        for month in months:
            try:
                beside.execute(_MAKE, (month, month))
            except psycopg.errors.LockNotAvailable:
                return


def role_of(cursor: Cursor) -> str:
    """The role that the session has set, or `none`."""
    row = cursor.execute("select current_setting('role')").fetchone()
    return str(row[0]) if row else "none"


def connect_beside(
    conn: psycopg.Connection[tuple[object, ...]], role: str
) -> psycopg.Connection[tuple[object, ...]] | None:
    """A second connection like `conn`, autocommit, with a role set; None where the server takes none."""
    try:
        beside = psycopg.connect(conn.info.dsn, password=conn.info.password or None, autocommit=True)
    except psycopg.OperationalError:
        return None
    try:
        beside.execute("select set_config('role', %s, false)", (role,))
    except psycopg.Error:
        beside.close()
        raise
    return beside
