"""Writing the files. The bytes depend on the arguments alone: no clock, no file names or times inside the gzip."""

import csv
import gzip
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from ubp_sql.sources.simulator.calendar import SALES, Calendar
from ubp_sql.sources.simulator.catalogue import CATEGORIES, COLOURS, PER_CATEGORY, Catalogue
from ubp_sql.sources.simulator.draws import Bools, Floats, Ints
from ubp_sql.sources.simulator.events import DAY, KINDS, SEARCH, Events
from ubp_sql.sources.simulator.people import SEGMENTS, People
from ubp_sql.sources.simulator.pictures import item_picture
from ubp_sql.sources.simulator.process import State

EVENT_COLUMNS = (
    *("event_id", "session_id", "user", "event_time", "kind", "item"),
    *("price", "quantity", "order_id", "discount", "duration_s", "search_text"),
)
ITEM_COLUMNS = ("item_id", "title", "category", "price", "discount", "picture")
TRUTH_COLUMNS = ("user", "cut", "p_true", "bought", "here", "interested", "segment")
LEVEL = 1  # level 6 saves a fifth of the size and takes 2 s more for a million events
CHUNK = 50_000  # rows formatted at a time, so that memory does not grow with them


def _cents(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _lookup(strings: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    table = np.empty(len(strings), dtype=np.object_)
    table[:] = strings
    return table


def picture_name(catalogue: Catalogue, item: int) -> str:
    """File name of an item's picture."""
    return f"item_{catalogue.item[item]}.png"


def write_events(
    path: Path, people: People, calendar: Calendar, catalogue: Catalogue, events: Events, tick: Callable[[float], None]
) -> None:
    """events.csv.gz: one line an event, in order of time; a file of that name appears only when it is complete."""
    percents = sorted({0, 10} | {percent for _, _, percent in SALES})
    level = np.zeros(101, dtype=np.int64)
    level[percents] = np.arange(len(percents))
    every = np.arange(catalogue.n)
    prices = [catalogue.price_cents(every, np.full(catalogue.n, percent)) for percent in percents]
    offers = _lookup(
        [f"{catalogue.item[i]},{_cents(int(p[i]))}" for p in prices for i in every] + [","]  # the last is a search's
    )
    users = _lookup([str(u) for u in people.user])
    days = _lookup([calendar.day(d).isoformat() for d in range(calendar.days)])
    seconds = _lookup([f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z" for s in range(DAY)])
    kinds = _lookup(KINDS)
    discounts = _lookup([f"{percent / 100:g}" for percent in range(101)] + [""])
    # The three texts of an item take turns, by the event's number.
    texts = _lookup([text for i in every for text in _search_texts(catalogue, int(i))] + [""])
    n = events.second.size
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, 0) as out:
        out.write((",".join(EVENT_COLUMNS) + "\n").encode())
        for low in range(0, n, CHUNK):
            at = slice(low, min(low + CHUNK, n))
            kind, item = events.kind[at], events.item[at]
            search = kind == SEARCH
            number = np.arange(at.start + 1, at.stop + 1)
            columns = (
                number.tolist(),
                _optional(events.session[at]),
                users[events.user[at]].tolist(),
                days[events.second[at] // DAY].tolist(),
                seconds[events.second[at] % DAY].tolist(),
                kinds[kind].tolist(),
                offers[np.where(search, offers.size - 1, level[events.off[at]] * catalogue.n + item)].tolist(),
                _optional(events.quantity[at]),
                _optional(events.order[at]),
                discounts[np.where(search, 101, events.off[at])].tolist(),
                _optional(events.duration[at]),
                texts[np.where(search, 3 * item + number % 3, texts.size - 1)].tolist(),
            )
            rows = zip(*columns, strict=True)
            text = "".join(
                f"{e},{s},{u},{d}{t},{k},{i},{q},{o},{off},{w},{x}\n" for e, s, u, d, t, k, i, q, o, off, w, x in rows
            )
            out.write(text.encode())
            tick(at.stop / n)
    os.replace(partial, path)


def _optional(values: Ints) -> list[str]:
    return ["" if v < 0 else str(v) for v in values.tolist()]


def _search_texts(catalogue: Catalogue, item: int) -> tuple[str, str, str]:
    name, nouns, _, _ = CATEGORIES[catalogue.category[item]]
    noun = nouns[item % PER_CATEGORY % 3]
    return name, noun, f"{COLOURS[catalogue.colour[item]][0]} {noun}"


def write_items(path: Path, pictures: Path, catalogue: Catalogue) -> None:
    """items.csv and one picture an item."""
    pictures.mkdir(exist_ok=True)
    rows = []
    for i in range(catalogue.n):
        category = int(catalogue.category[i])
        name = picture_name(catalogue, i)
        (pictures / name).write_bytes(item_picture(category, int(catalogue.colour[i]), i % PER_CATEGORY))
        price, off = _cents(int(catalogue.price[i])), f"{catalogue.discount[i] / 100:g}"
        rows.append((catalogue.item[i], catalogue.title[i], CATEGORIES[category][0], price, off, name))
    _write_table(path, ITEM_COLUMNS, rows)


def write_truth(
    path: Path, people: People, calendar: Calendar, cuts: Sequence[tuple[State, Floats, Bools]]
) -> dict[date, int]:
    """truth.csv: the customers of each cut by user key, the probability, the outcome. Returns the rows of each cut."""
    rows: dict[date, int] = {}
    table: list[tuple[object, ...]] = []
    by_key = np.argsort(people.user)
    for state, probability, bought in cuts:
        who = by_key[state.customer[by_key]]
        cut = calendar.day(state.day)
        rows[cut] = who.size
        keen = state.here & state.interested
        table.extend(
            (key, cut, f"{p:.6f}", int(b), int(h), int(k), SEGMENTS[s].name)
            for key, p, b, h, k, s in zip(
                *(a[who].tolist() for a in (people.user, probability, bought, state.here, keen, people.segment)),
                strict=True,
            )
        )
    _write_table(path, TRUTH_COLUMNS, table)
    return rows


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
