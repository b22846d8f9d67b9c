"""One definition of every aggregate, and a seeded log in which each of them has something to see."""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

AS_OF = datetime(2024, 3, 31, 1, tzinfo=UTC)  # the hour in which Berlin's clock changes
KINDS = ("view", "cart", "it's 100%", "search")
ZONES = {0: "UTC", 10: "Europe/Berlin", 11: "America/New_York"}
COLUMNS = (("discount", "discount", "number"), ("channel", "the channel", "text"), ("query", "q", "words"))
BUY = KINDS[2]
Spec = dict[str, Any]


def spec(name: str, aggregate: str, kinds: list[str] | None = None, **rest: Any) -> Spec:
    own = {} if aggregate.startswith(("funnel", "percentile")) else {"kinds": kinds or ["view"]}
    return {"name": name, "aggregate": aggregate, **own, **rest}


def _windows() -> list[Spec]:
    """Aggregates that take every form of window, in each of them."""
    found: list[Spec] = []
    for w, window in enumerate(["7d", "36h", "all", "last 3", "4 x 7d"]):
        found.append(spec(f"count_{w}", "count", ["view", "cart"], window=window))
        for aggregate in ("sum", "mean", "min", "max", "std", "first"):
            found.append(spec(f"{aggregate}_{w}", aggregate, [BUY], window=window))
        for of in ("item", "order", "day", "channel", "hour"):
            found.append(spec(f"distinct_{of}_{w}", "distinct", ["view", BUY], of=of, window=window))
        for aggregate in ("recency", "tenure", "gap_mean", "gap_std", "gap_last", "overdue"):
            found.append(spec(f"{aggregate}_{w}", aggregate, ["view"], window=window))
        for aggregate in ("gap_mean", "gap_std", "gap_last", "overdue"):
            found.append(spec(f"order_{aggregate}_{w}", aggregate, [BUY, "cart"], of="order", window=window))
        for aggregate in ("top_share", "entropy"):
            found.append(spec(f"{aggregate}_{w}", aggregate, ["view"], of="item", window=window))
            found.append(spec(f"{aggregate}_channel_{w}", aggregate, ["view", "cart"], of="channel", window=window))
        for aggregate in ("same_weekday_share", "holiday_share"):
            found.append(spec(f"{aggregate}_{w}", aggregate, window=window))
        for of in ("hour", "weekday", "month"):
            for aggregate in ("clock_sin", "clock_cos", "clock_entropy", "clock_top"):
                found.append(spec(f"{aggregate}_{of}_{w}", aggregate, of=of, window=window))
        found.append(spec(f"sum_per_{w}", "sum_per", [BUY], window=window, settings={"per": "order"}))
        shares = {"hour": [22, 23, 0], "weekday": ["sat", "sun"], "month": ["winter"]}
        for of, places in shares.items():
            found.append(spec(f"clock_share_{of}_{w}", "clock_share", of=of, window=window, settings={"in": places}))
        if "last" not in window:
            found.append(spec(f"share_{w}", "share", ["cart"], window=window, against=["view", "search"]))
        if window in ("all", "7d"):
            found.append(spec(f"bands_{w}", "bands", [BUY], window=window, settings={"edges": [0, 20.5, 60]}))
        if "x" not in window:
            found.append(spec(f"top_keys_{w}", "top_keys", window=window, settings={"k": 3}))
            found.append(spec(f"top_channel_{w}", "top_keys", of="channel", window=window, settings={"k": 1}))
            found.append(spec(f"words_{w}", "words", ["search"], of="query", window=window, settings={"buckets": 5}))
            found.append(spec(f"last_{w}", "last", [BUY], of="quantity", window=window))
            found.append(spec(f"last_values_{w}", "last_values", [BUY], window=window, settings={"k": 3}))
    return found


def _conditions() -> list[Spec]:
    wheres: list[dict[str, Any]] = [
        {"value": {"min": 10}},
        {"value": {"below": 50.5}},
        {"quantity": {"min": 1, "below": 3}},
        {"value": 5},
        {"item": 3},
        {"channel": "e-mail"},
        {"weekday": "sun"},
        {"hour": 1},
        {"holiday": 1},
        {"discount": {"min": 0.1}, "item": 2},
    ]
    found: list[Spec] = []
    for n, where in enumerate(wheres):
        found.append(spec(f"count_where_{n}", "count", ["view", BUY], window="60d", where=where))
        found.append(spec(f"share_where_{n}", "share", ["view", BUY], window="60d", where=where))
        found.append(spec(f"distinct_where_{n}", "distinct", ["view", BUY], window="60d", where=where))
        found.append(spec(f"gap_where_{n}", "gap_mean", ["view", BUY], of="order", where=where))
        found.append(spec(f"last_where_{n}", "count", ["view", BUY], window="last 2", where=where))
    return found


def _behaviour() -> list[Spec]:
    steps = {"steps": ["view", "cart", BUY], "bound": "3d"}
    timeout = {"timeout": "8h"}
    found: list[Spec] = []
    for w, window in enumerate(["all", "30d", "3 x 14d"]):
        found += [
            spec(f"funnel_depth_{w}", "funnel_depth", window=window, settings=steps),
            spec(f"funnel_reached_{w}", "funnel_reached", window=window, settings={**steps, "step": 2}),
            spec(f"funnel_rate_{w}", "funnel_rate", window=window, settings=steps),
            spec(f"funnel_again_{w}", "funnel_rate", window=window, settings={"steps": ["view"] * 2, "bound": "1d"}),
        ]
        for aggregate in ("sessions", "session_events", "session_length", "bounce_share"):
            found.append(spec(f"{aggregate}_{w}", aggregate, ["view", "cart"], window=window, settings=timeout))
        for aggregate in ("dwell_count", "dwell_mean", "dwell_sum"):
            found.append(spec(f"{aggregate}_{w}", aggregate, ["view"], window=window, settings={"timeout": "1d"}))
            until = {"timeout": "2d", "until": [BUY, "cart"]}
            found.append(spec(f"{aggregate}_until_{w}", aggregate, ["view"], window=window, settings=until))
    for aggregate in ("last_session_age", "last_session_length", "last_session_events"):
        found.append(spec(aggregate, aggregate, ["view", "cart"], settings=timeout))
    return found


def _others() -> list[Spec]:
    return [
        spec("trend_count", "trend", ["view", "cart"], window="7d", against="36d"),
        spec("trend_sum", "trend", [BUY], of="value", window="36h", against="60d"),
        spec("trend_items", "trend", ["view"], of="item", window="7d", against="60d"),
        spec("ratio_count", "ratio", ["view"], window="7d", against="all"),
        spec("ratio_sum", "ratio", [BUY], of="quantity", window="20d", against="60d"),
        spec("share_of_sum", "share", [BUY], of="value", window="60d", where={"item": 3}),
        spec("share_of_keys", "share", ["view"], of="item", window="60d", against=["view", BUY]),
        spec("decayed_count", "decayed_count", settings={"half_life": "10d"}),
        spec("decayed_fast", "decayed_count", settings={"half_life": "30m"}),
        spec("decayed_sum", "decayed_sum", [BUY], settings={"half_life": "36h"}),
        spec("decayed_discount", "decayed_sum", [BUY], of="discount", settings={"half_life": "90d"}),
        spec("last_key", "last_key", ["view", "cart"]),
        spec("last_channel", "last_key", ["view", "cart"], of="channel"),
        spec("plan", "last", ["attribute:plan"]),
        spec("plan_text", "last_key", ["attribute:plan"], of="channel"),
        spec("duration_mean", "mean", ["view"], of="duration_s", window="30d"),
        spec("value_per_day", "sum_per", [BUY], window="30d", settings={"per": "day"}),
    ]


def _standings() -> list[Spec]:
    return [
        *(spec(f"percentile_{of}", "percentile", of=of) for of in ("count_0", "count_2", "max_2", "share_where_3")),
        spec("percentile_of_a_part", "percentile", of="count_4_2"),
        spec("item_popularity", "item_popularity", ["view", BUY], window="45d"),
        spec("item_popularity_36h", "item_popularity", ["view"], window="36h"),
    ]


def cases() -> list[Spec]:
    """Definitions that between them use every aggregate, window form, column and condition."""
    return [*_windows(), *_conditions(), *_behaviour(), *_others(), *_standings()]


def log(users: int = 14, seed: int = 3) -> list[tuple[Any, ...]]:
    """Rows (user_id, event_time, kind, item_id, value, quantity, duration_s, attributes, ingested_at, source).

    Ties, late arrivals, missing and strange values, four clocks, edges of windows; user 1 has one event, user 2 none of
    the kinds that most features are about.
    """
    random = Random(seed)
    rows: list[tuple[Any, ...]] = []

    def add(user: int, time: datetime, kind: str, known: datetime | None = None) -> None:
        attributes: dict[str, Any] = {}
        if random.random() < 0.5:
            attributes["order_id"] = f"o{user}-{random.randrange(5)}"
        if random.random() < 0.7:
            attributes["the channel"] = random.choice(["e-mail", "shop", "búsqueda", ""])
        if random.random() < 0.5:
            attributes["discount"] = random.choice([0.1, 0.25, "0.5", "none", True, -2])
        if kind == "search":
            attributes["q"] = " ".join(
                random.choices(["red", "Shoes", "coat", "wool-hat", "x9"], k=random.randrange(4))
            )
        value = random.choice([None, float("nan"), -3.5, 0.0, 5.0, 19.99, round(random.uniform(0, 90), 2), 1e9])
        row = (user, time, kind, random.choice([None, *range(5)]), value, random.choice([None, 1.0, 2.5, 7.0]))
        late = known or time + timedelta(days=random.choice([0, 0, 0, 0, 0, random.uniform(0, 20)]))
        source = random.choice([0, 10, 10, 10, 11])
        rows.append((*row, random.choice([None, 3.25, 120.0]), json.dumps(attributes) or None, late, source))

    add(1, AS_OF - timedelta(days=3), "view")
    add(2, AS_OF - timedelta(days=3), "search")
    for user in range(3, users):
        time = AS_OF - timedelta(days=random.uniform(20, 150))
        while time < AS_OF + timedelta(days=2):
            kind = random.choice(["view", "view", "view", "cart", BUY, "search", "attribute:plan", "of no set"])
            add(user, time, kind)
            if random.random() < 0.15:
                add(user, time, random.choice(KINDS))  # a tie
            time += timedelta(hours=random.choice([0, 0.2, 1, 8, 30, 90, 400]), microseconds=random.randrange(10**6))
    for _ in range(120):
        add(random.randrange(3, 9), AS_OF - timedelta(hours=random.uniform(0, 60)), random.choice(KINDS))
    for days in (0, 7, 14, 30):
        for microseconds in (0, 1):
            add(3, AS_OF - timedelta(days=days, microseconds=microseconds), "view", AS_OF - timedelta(days=40))
    return rows
