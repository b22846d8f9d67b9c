"""How one user's events are handed to the native library: a table of numbers and one value of packed columns.

Imports nothing, so that both sides can read it: the session that fills the table and the kernel that reads it.

A *slice* is a part of the user's events as it came out of the server. Its columns are, in this order: time, ingestion
time, event id, kind, offset of the clock, then the plan's numbers, then the plan's keys. There are two forms:

CHUNK  of a mirror chunk: times in microseconds since 1970, columns in the chunk's forms (forms.py). A column that it
       does not keep because it is the same everywhere has no bytes and a constant.
SENT   of the table's rows by PostgreSQL's send functions: times since 2000. A row's *marks*, which stand for the kind,
       are 1 + its place among the plan's kinds below bit 24, and a bit a column above: whether it has a value there.

The packed columns are one after the other: of SENT slices, in the machine's byte order, all of int64 and float64, slice
by slice, then marks and offsets, which are int32; last the bytes of CHUNK slices.
"""

CHUNK, SENT = 0, 1

# Columns of a slice.
T, INGESTED, EVENT_ID, KIND, OFFSET, OTHERS = 0, 1, 2, 3, 4, 5

# The table: a head, CODES numbers (the place of each kind code of the mirror among the plan's kinds, or -1), a row a
# column, a row a slice, the days of the calendar.
SLICES, NUMBERS, KEYS, CODES, HOLIDAYS, AS_OF_US, KNOWN_AT_US, WEEKDAY, HEAD = 0, 1, 2, 3, 4, 5, 6, 7, 8

# A column's row tells of its SENT form.
MARK = 0  # bit of the marks that says a row has a value, -1: every row has
DEFAULT = 1  # what a row without a value has: 0, its time, NaN, NO_KEY
COLUMN_WIDTH = 2
ZERO, TIME, NAN, MISSING = 0, 1, 2, 3

# A slice's row, then two numbers a column. CHUNK: bits of the columns that are the SAME as the time; the form's two
# words, or 0 and the constant, an int64 or a float64's bits. SENT: 0 and how many values the column has.
N, FORM, SAME, SLICE_HEAD = 0, 1, 2, 3

KIND_BITS = 24

# What a call says: the row is written; call again; no event counts; the table does not fit the columns; an event's
# time is infinite; chunks without ids have events that only ids can order or tell to be the same.
DONE, AGAIN, NOBODY, MALFORMED, INFINITE, TIED = 0, 1, 2, 3, 4, 5
