"""Numbers that plans are made of: codes of operations and formulas, columns of plan arrays, derived keys.

Imports nothing, so that a path without NumPy can use it. A code is part of stored plans: it never changes its meaning.
"""

from enum import IntEnum

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
LIFETIME_US = 1 << 62
"""Width of the window that holds every event before the moment."""
ANCHOR_EPOCH_US = 4_102_444_800_000_000
"""2100-01-01 UTC, from which times in cells count: float64 microseconds are exact from 1815 to 2385."""
NO_KEY = -(1 << 63)
"""Key of an event that has none."""
OTHER_KIND = -1
"""Kind of an event that the definition does not name: it counts nowhere."""
MAX_KINDS = 31
"""Of a plan: kind + 1 fits into the STEP_BITS of a funnel's step."""
MAX_RINGS = 64


class Key(IntEnum):
    """Keys that are no column: read from the event's local time. Columns are 0, 1, ..."""

    NONE = -1
    DAY = -2  # local days since 1970
    HOUR = -3  # 0..23
    WEEKDAY = -4  # Monday 0
    MONTH = -5  # January 0
    HOLIDAY = -6  # 1 on a day of the calendar, else 0
    ALL = -7  # 0 for every event


class Op(IntEnum):
    """What an operation computes; in brackets its cells, per ring unless said otherwise.

    A *stream* is the events of some kinds that pass a condition. A *span* is a stream in a group of windows: ring v of
    a span holds the events of window v that are in no shorter one (cumulative), or of bucket v (tumbling). An operation
    reads one span. Cells of a cumulative window speak of the whole window, those of a bucket of the bucket. "Missing"
    is NaN for a number and NO_KEY for a key. Times are microseconds since ANCHOR_EPOCH_US. What does not exist is NaN.
    """

    COUNT = 0  # (1) events
    SUM = 1  # (2) events with a value, their sum
    EXTREMA = 2  # (2) least and greatest value
    SPREAD = 3  # (1) sample standard deviation of the values, NaN below two
    DISTINCT = 4  # (1) different keys. Link
    SEEN = 5  # (2) time of the newest and of the oldest event
    FIRST = 6  # (1) oldest value
    LAST = 7  # (SIZE, one ring only) the newest values, newest first
    GAPS = 8  # (5) gaps between starts, their mean in us, sample deviation in days, newest gap in us, time of the
    #   newest start. A start is the first event in the window of its key (link), or every event (no link)
    DECAY = (
        9  # (2, one ring only) sum of value (or 1) x 2**-((T - t) / P0 us), and T, the time of the newest such event
    )
    HIST = 10  # (SIZE) events with key 0, 1, ... SIZE-1
    KEYS = 11  # (3) n events with a key; sum over them of m ln m - (m-1) ln (m-1), m the how-manieth of its key counted
    #   back from the moment: ln n - S/n is the entropy; greatest m. Link
    TOPK = 12  # (2 SIZE) count and code (20 bits of a hash) of the most frequent keys; of equals the later seen. Link
    WORDS = 13  # (SIZE) events whose key, a mask of words, has a bit j mod SIZE
    FUNNEL = 14  # (1+J) deepest step reached, starts that reach step 1..J within P0 us
    SESSIONS = 15  # (4) sessions (a break is longer than P0 us), their events, total us, sessions of one event
    LAST_SESSION = 16  # (3, one ring only) length in us, time of the end, events of the newest session (P0)
    DWELL = 17  # (2) events of KINDS whose next event of the kinds in STEPS follows within P0 us; sum of those us
    LAST_KEY = 18  # (1, one ring only) key of the newest event that has one, as a float64: exact below 2**53. An anchor


class OpColumn(IntEnum):
    """Columns of `Plan.ops`."""

    CODE = 0  # Op
    SPAN = 1  # row of `spans`
    STREAM = 2  # its stream, a row of `streams`
    RINGS = 3  # of its span
    CUMULATIVE = 4  # of its span: 1, or 0 for buckets
    BOUND = 5  # of its span: first entry in Scan.bounds
    NUMBER = 6  # column of EventColumns.numbers, -1 none
    KEY = 7  # column of EventColumns.keys, or a Key
    LINK = 8  # row of `links`, -1 none
    KINDS = 9  # bit mask of the operation's own kinds, a part of its stream's
    SIZE = 10
    STEPS = 11  # FUNNEL: kind + 1 in STEP_BITS bits a step, first step lowest; SIZE is the number of steps. DWELL: mask
    CELL = 12  # first cell; ring v owns CELL + v * STRIDE ...
    STRIDE = 13  # cells a ring
    ACC = 14  # first slot of Scan.acc ...
    N_ACC = 15
    TIM = 16  # first slot of Scan.tim ...
    N_TIM = 17
    MARK = 18  # first row of Scan.marks, -1 none
    SCANS = 19  # 1: its ring function is called; 0: all is done at the end from the bounds
    WIDTH = 20


STEP_BITS = 5
"""FUNNEL: bits a step in STEPS, kind + 1 in each."""
WAVE_DIGITS = 15


class Param(IntEnum):
    """Columns of `Plan.params`, one row an operation."""

    P0 = 0
    P1 = 1
    WIDTH = 2


class StreamColumn(IntEnum):
    """Columns of `Plan.streams`: kinds (bit mask) and a condition; `stream_params` holds (low, high) of numbers."""

    KINDS = 0
    COND_NUMBER = 1  # -1, or a column of numbers: low <= number < high
    COND_KEY = 2  # Key.NONE, or a key: key == COND_EQ
    COND_EQ = 3
    REACH_US = 4  # widest window of the stream's spans
    WIDTH = 5


class SpanColumn(IntEnum):
    """Columns of `Plan.spans`."""

    STREAM = 0
    EDGE = 1  # first of RINGS ascending widths in `edges_us`
    RINGS = 2
    CUMULATIVE = 3
    LAST_N = 4  # above 0: one ring, the newest LAST_N events
    BOUND = 5  # first of RINGS + 1 entries of Scan.bounds
    WIDTH = 6


class LinkColumn(IntEnum):
    """Columns of `Plan.links`: where the neighbours of the same key are within a stream."""

    STREAM = 0
    KEY = 1
    REACH_US = 2  # widest window of the operations that read it
    WIDTH = 3


class Formula(IntEnum):
    """How cells become a feature. a, b, c are cells, f0 and f1 factors; the result of a division by 0 is NaN."""

    VALUE = 0  # a * f0 / f1
    RATIO = 1  # (a * f0) / (b * f1); NaN when c >= 0 and cell c is 0
    AGE = 2  # (as_of - a) / f1
    AGE_RATIO = 3  # (as_of - a) / b
    DECAY = 4  # a * 2**-((as_of - b) / f0); 0 where b is NaN
    WEEKDAY = 5  # cell a + weekday of as_of, divided by b
    WAVE_SIN = 6  # sum over j < SIZE of cell a + j times sin(2 pi j / SIZE), divided by b
    WAVE_COS = 7
    SUBSET = 8  # sum of the cells a + j whose bit j is set in MASK, divided by b
    ENTROPY = 9  # ln(a) - b / a, in nats
    HIST_ENTROPY = 10  # of the SIZE cells from a, in nats
    DIFFERENCE = 11  # a * f0 - b * f1
    INDEX_MAX = 12  # which of the SIZE cells from a is greatest, the first of equals; NaN when all are 0


AGEING = (Formula.AGE, Formula.AGE_RATIO, Formula.DECAY, Formula.WEEKDAY)
"""Formulas whose value changes with the moment alone."""


class FormulaColumn(IntEnum):
    """Columns of `Plan.formulas`; `factors` holds (f0, f1)."""

    CODE = 0
    A = 1
    B = 2
    C = 3  # -1 none
    SIZE = 4
    MASK = 5
    WIDTH = 6


class Size(IntEnum):
    """Entries of `Plan.sizes`: what a Scan of the plan needs."""

    KINDS = 0
    NUMBERS = 1  # rows that EventColumns.numbers must have at least
    KEYS = 2
    ACC = 3
    TIM = 4
    CELLS = 5
    BOUNDS = 6
    MARKS = 7
    REACH_US = 8  # widest window of all; LIFETIME_US where an operation looks at everything
    WIDTH = 9


class At(IntEnum):
    """Entries of `Scan.at`: the pair under way and where the work on it stands.

    A caller starts with zeros but for USER -1, LOW_US, HIGH_US and SEED; see `new_scan` and `start_scan`.
    """

    PAIR = 0
    STAGE = 1  # see _cpu_engine.py
    ITEM = 2  # stream, link or operation under way
    RING = 3
    POS = 4
    USER = 5  # whose events the rows of bank 0 hold, -1 nobody's
    LO = 6  # user's first event
    HI = 7  # one past his last event before HIGH_US
    AS_OF = 8
    KNOWN_AT = 9
    BANK = 10  # row of Scan.stream that holds stream 0 for this pair
    LINK_BANK = 11  # likewise of Scan.after and before
    LOW_US = 12  # no moment of this call is before
    HIGH_US = 13  # or after
    SEED = 14  # of hashes: keeps chosen keys from colliding on purpose; changes no result
    HASHED = 15  # link under way: 1 once its key is known to need the table
    LAST = 16  # slot of the key of the entry before, -1 none
    FORWARD = 17  # 1: the user's bounds are those of an earlier moment, at or before which no new ones lie
    WIDTH = 18
