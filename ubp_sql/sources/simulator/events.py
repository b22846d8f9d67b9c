"""From sessions to events: searches, views, carts, orders, cancellations, with their items, prices and times."""

from dataclasses import dataclass

import numpy as np

from ubp_sql.sources.simulator.calendar import Calendar
from ubp_sql.sources.simulator.catalogue import CATEGORIES, REFILL_CATEGORIES, Catalogue
from ubp_sql.sources.simulator.draws import Bools, Floats, Ints, choose, geometric, normal, stream
from ubp_sql.sources.simulator.people import People
from ubp_sql.sources.simulator.process import LOOK, REFILL, Visits

KINDS = ("search", "view", "cart", "purchase", "cancel")
SEARCH, VIEW, CART, PURCHASE, CANCEL = range(5)
DAY = 86_400  # seconds
NONE = -1
MOST_VIEWS, MOST_LINES, MOST_DWELL = 12, 4, 600


@dataclass(frozen=True)
class Events:
    """Arrays (n,) in order of time; NONE where a field has no value."""

    second: Ints  # since the first moment of the first day
    session: Ints  # from 1 in order of time; NONE for a cancellation
    user: Ints  # index into People
    kind: Ints  # index into KINDS
    item: Ints  # index into Catalogue; of a search, the item looked for
    quantity: Ints
    order: Ints  # from 1 in order of time
    off: Ints  # percent
    duration: Ints  # seconds


def before_in_group(values: Ints, first: Ints, group: Ints) -> Ints:
    """Sum of the earlier values of the same group, (n,); group k starts at row first[k], `group` is a row's group."""
    total = np.cumsum(values) - values
    return np.asarray(total - total[first][group])


def make_events(people: People, calendar: Calendar, catalogue: Catalogue, visits: Visits, seed: int) -> Events:
    """Draw what happens within each session. Sessions stay within their day; what comes after the last day is cut."""
    rng = stream(seed, 4)
    s = visits.user.size
    buys = visits.kind != LOOK
    # Refill orders are short errands; interested users look longer.
    lines = np.where(buys, 1 + geometric(rng, np.where(visits.kind == REFILL, 0.15, 0.45), MOST_LINES - 1), 0)
    extra = geometric(rng, np.where(visits.kind == REFILL, 0.3, np.where(visits.interested, 3.6, 2.3)), MOST_VIEWS - 1)
    left = rng.random(s) < people.cart[visits.user] * np.where(visits.interested, 1.5, 1.0)
    carts = np.where(buys, lines, left)
    count = np.maximum(lines + extra, 1)

    first = np.cumsum(count) - count
    group = np.repeat(np.arange(s), count)
    item = _items(rng, people, catalogue, visits, first, group)
    carted = _carted(rng, carts, first, group, item, catalogue.n)

    searches = rng.random(s) < 0.4
    search_time = np.where(searches, 4 + geometric(rng, np.full(s, 12.0), 60), 0)
    dwell = np.clip(np.exp(3.2 + 0.9 * normal(rng, group.size)), 3, MOST_DWELL).astype(np.int64)
    step = dwell + 1 + geometric(rng, np.full(group.size, 6.0), 60)
    checkout = 20 + geometric(rng, np.full(s, 60.0), 300)
    length = np.add.reduceat(step, first) + search_time + checkout
    begin = visits.day * DAY + _start(rng, people, visits.user, DAY - 1 - length)

    view_at = (begin + search_time)[group] + before_in_group(step, first, group)
    by_time = np.argsort(begin, kind="stable")
    session, order = np.empty(s, dtype=np.int64), np.empty(s, dtype=np.int64)
    session[by_time] = np.arange(1, s + 1)
    order[by_time] = np.where(buys[by_time], np.cumsum(buys[by_time]), NONE)

    quantity = 1 + geometric(rng, np.where(catalogue.category[item] < REFILL_CATEGORIES, 0.5, 0.12), 5)
    line = np.flatnonzero(carted & buys[group])
    cancelled = buys & (rng.random(s) < people.cancel[visits.user])
    back = np.flatnonzero(cancelled[group[line]])
    delay = 3600 + np.floor(rng.random(s) * 10 * DAY).astype(np.int64)
    end = begin + length

    def rows(kind: int, row: Ints, at: Ints, duration: Ints | None = None) -> tuple[Ints, ...]:
        of, none = group[row], np.full(row.size, NONE)
        return (
            at,
            none if kind == CANCEL else session[of],
            visits.user[of],
            np.full(row.size, kind),
            item[row],
            quantity[row] if kind in (CART, PURCHASE, CANCEL) else none,
            order[of] if kind in (PURCHASE, CANCEL) else none,
            catalogue.in_sale[calendar.sale[visits.day[of]], item[row]],
            none if duration is None else duration,
        )

    every, look, cart = np.arange(group.size), np.flatnonzero(searches), np.flatnonzero(carted)
    parts = (
        rows(SEARCH, first[look], begin[look], search_time[look]),
        rows(VIEW, every, view_at, dwell),
        rows(CART, cart, (view_at + dwell)[cart]),
        rows(PURCHASE, line, end[group[line]]),
        rows(CANCEL, line[back], (end + delay)[group[line[back]]]),
    )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # A stable sort keeps the kinds' order, and the order of an order's lines, within one second.
    sequence = np.argsort(columns[0], kind="stable")
    sequence = sequence[: np.searchsorted(columns[0][sequence], calendar.days * DAY)]
    return Events(*(column[sequence] for column in columns))


def _items(
    rng: np.random.Generator, people: People, catalogue: Catalogue, visits: Visits, first: Ints, group: Ints
) -> Ints:
    """Item of every view: mostly of the session's category, which is mostly one of the user's two favourites."""
    share = np.array([c[3] for c in CATEGORIES])
    edges = np.cumsum(share) / share.sum()
    favourite = np.searchsorted(edges[:-1], people.taste[:, visits.user], side="right")
    u = rng.random(visits.user.size)
    other = choose(rng, share, visits.user.size)
    of_session = np.where(u < 0.55, favourite[0], np.where(u < 0.75, favourite[1], other))
    # A refill order is of the user's own refill category, fixed by taste.
    own = np.floor(people.taste[1] * REFILL_CATEGORIES).astype(np.int64)[visits.user]
    of_session = np.where(visits.kind == REFILL, own, of_session)
    strays = (rng.random(group.size) < 0.25) & (visits.kind[group] != REFILL)
    category = np.where(strays, choose(rng, share, group.size), of_session[group])
    position = rng.random(group.size)
    # An ordinary order that starts a refill cycle holds a refill item: the first view, which `_carted` always takes.
    category[first] = np.where(visits.refill, own, category[first])
    return catalogue.draw(category, position)


def _carted(rng: np.random.Generator, carts: Ints, first: Ints, group: Ints, item: Ints, items: int) -> Bools:
    """Views that end in the cart: `carts` (s,) of each session, its first view and others at random, no item twice."""
    key = rng.random(group.size)
    key[first] = -1.0
    ranked = np.lexsort((key, group))
    rank = np.empty(group.size, dtype=np.int64)
    rank[ranked] = np.arange(group.size) - first[group[ranked]]
    chosen = np.flatnonzero(rank < carts[group])
    _, once = np.unique(group[chosen] * items + item[chosen], return_index=True)
    carted = np.zeros(group.size, dtype=np.bool_)
    carted[chosen[once]] = True
    return carted


def _start(rng: np.random.Generator, people: People, user: Ints, latest: Ints) -> Ints:
    """Second of the day at which a session starts: four in five around the user's hour, the others from 7 to 24 h."""
    near = np.mod(people.hour[user] + 1.6 * normal(rng, user.size), 24.0)
    wide = 7.0 + 17.0 * rng.random(user.size)
    hour: Floats = np.where(rng.random(user.size) < 0.8, near, wide)
    # A session that would run past midnight starts earlier, by up to 20 minutes more than needed lest all end at
    # 23:59:59: an order must stay on its day, which decides on which side of a cut it lies.
    early = np.floor(1200.0 * rng.random(user.size)).astype(np.int64)
    second = (hour * 3600.0).astype(np.int64)
    return np.where(second > latest, latest - early, second)
