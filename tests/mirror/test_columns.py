"""Declared columns: keys of events.attributes in the mirror, the same as from rows."""

import json
from random import Random
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from tests.mirror.helpers import KINDS, Log
from ubp_sql.features.events import NO_KEY

NUMBER_TEXTS = {
    "3.5": 3.5,
    '"12"': 12.0,
    '"-1.5e3"': -1500.0,
    '".5"': 0.5,
    "1e400": np.nan,
    "-1e400": np.nan,
    "1e-400": 0.0,
    "0": 0.0,
    "true": np.nan,
    "null": np.nan,
    '"twelve"': np.nan,
    '"1e9999"': np.nan,
    '"NaN"': np.nan,
    '"Infinity"': np.nan,
    '" 3"': np.nan,
    "{}": np.nan,
    "[1]": np.nan,
}


@pytest.fixture
def declared(log: Log) -> Log:
    for name, attribute, kind in [
        ("price", "unit price", "number"),
        ("channel", "it's", "text"),
        ("query", "q", "words"),
    ]:
        log.run("select ubp.define_event_column(%s, %s, %s)", name, attribute, kind)
    return log


def add(log: Log, user: int, attributes: str | None) -> None:
    log.run(
        "insert into ubp.events (user_id, event_time, kind, attributes) values (%s, '2024-01-05', 'view', %s)",
        user,
        attributes,
    )


def columns(log: Log, way: str) -> dict[str, NDArray[Any]]:
    return log.read(way, KINDS, numbers=["price"], keys=["channel", "query"])


def test_numbers(declared: Log) -> None:
    for user, text in enumerate(NUMBER_TEXTS):
        add(declared, user, f'{{"unit price": {text}}}')
    declared.fold()
    for way in ("mirror", "rows"):
        got = columns(declared, way)["price"].tolist()
        assert str(got) == str([float(value) for value in NUMBER_TEXTS.values()])


def test_texts_and_words(declared: Log) -> None:
    texts = ["web", "Web", "", None, "ünï cödé", 'a "b" \\ c', "web"]
    for user, text in enumerate(texts):
        add(declared, user, json.dumps({"it's": text, "q": text}) if text is not None else None)
    add(declared, 10, json.dumps({"q": "red shoes"}))
    add(declared, 11, json.dumps({"q": "Shoes, RED; red"}))
    add(declared, 12, json.dumps({"q": ["red", "shoes"]}))
    declared.fold()
    for way in ("mirror", "rows"):
        found = columns(declared, way)
        channel, query = found["channel"].tolist(), found["query"].tolist()
        assert channel[0] == channel[6] != channel[1]
        assert channel[3] == NO_KEY
        assert len(set(channel[:7])) == 6
        assert query[0] == query[1], "words are told apart without regard to case"
        assert query[2] == query[3] == 0
        assert (
            query[7]
            == query[8]
            == query[9]
            == declared.one("select (1::bigint << (hashtext('red') & 63)) | (1::bigint << (hashtext('shoes') & 63))")
        )


def test_declared_when_there_is_a_mirror(log: Log) -> None:
    """The chunks lack the column: rows are read until the next fold has made the mirror anew; no feature changes."""
    random = Random(0)
    for user in range(30):
        add(log, user, json.dumps({"unit price": random.randrange(5), "it's": random.choice("ab")}))
    log.fold()
    log.run("insert into ubp.feature_sets (name, hash, definition, stale) values ('s', 'h', '{}', false)")
    log.run("select ubp.define_event_column('price', 'unit price', 'number')")
    log.run("select ubp.define_event_column('price', 'unit price', 'number')")
    assert log.one("select array_agg(op) from ubp.event_log") == ["R"]
    assert log.read("usual", numbers=["price"])["price"].sum() > 0
    log.fold()
    log.check(numbers=["price"])
    log.equal()
    assert not log.one("select stale from ubp.feature_sets")
    log.run("update ubp.events set attributes = '{\"unit price\": 77}' where user_id = 3")
    log.check(numbers=["price", "value"])
    log.fold()
    log.check(numbers=["price", "value"])
    log.equal()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("value", "x", "number"), "every event has value already"),
        (("hour", "x", "text"), "every event has hour already"),
        (("Price", "x", "number"), "cannot be the name"),
        (("a b", "x", "number"), "cannot be the name"),
        (("", "x", "number"), "cannot be the name"),
        ((None, "x", "number"), "cannot be the name"),
        (("x" * 49, "x", "number"), "cannot be the name"),
        (("x", "", "number"), "no attribute"),
        (("x", None, "number"), "no attribute"),
        (("x", "x", "integer"), "no type"),
        (("x", "x", None), "no type"),
        (("price", "other", "number"), "price is 'unit price' as number already"),
        (("price", "unit price", "text"), "price is 'unit price' as number already"),
    ],
)
def test_refused(declared: Log, arguments: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(psycopg.Error, match=words) as error:
        declared.run("select ubp.define_event_column(%s, %s, %s)", *arguments)
    assert error.value.sqlstate == "UB003"
