"""Numbers and moments as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ubp_sql.training.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.74923, "0.749"),
        (12.3456, "12.3"),
        (4067, "4,067"),
        (4067.4, "4,067"),
        (0.99961, "1.00"),
        (9.996, "10.0"),
        (99.97, "100"),
        (1.0, "1"),
        (0, "0"),
        (-2.5, "−2.50"),
        (1.5e-7, "1.50e-07"),
        (float("nan"), "–"),
        (float("-inf"), "−∞"),
        (None, "–"),
    ],
)
def test_a_number_has_three_digits(value: float | None, said: str) -> None:
    assert words.number(value) == said


def test_other_numbers() -> None:
    assert words.fixed(0.5, 3) == "0.500"
    assert words.fixed(-0.0001, 2) == "0.00"
    assert words.fixed(-1234.5, 1) == "−1,234.5"
    assert words.percent(0.3412) == "34.1\N{NO-BREAK SPACE}%"
    assert words.percent(None) == "–"
    assert words.tick(0.5) == "0.5"
    assert words.tick(-1250.0) == "−1,250"
    assert words.percent_tick(0.07) == "7 %"
    assert words.many(1, "user") == "1 user"
    assert words.many(4067, "user") == "4,067 users"


def test_ends_of_an_interval_with_a_minus_have_a_word_between_them() -> None:
    assert words.between(0.1, 0.2, lambda value: words.fixed(value, 1)) == "0.1–0.2"
    assert words.between(-0.1, 0.2, lambda value: words.fixed(value, 1)) == "−0.1 to 0.2"
    assert words.between(0.585, 0.687, words.percent) == "58.5–68.7\N{NO-BREAK SPACE}%"


def test_moments() -> None:
    assert words.moment(datetime(2011, 11, 9, tzinfo=UTC)) == "9 November 2011"
    assert words.moment(datetime(2011, 11, 9, 14, 5, tzinfo=UTC)) == "9 November 2011, 14:05 UTC"
    assert words.day(datetime(2011, 11, 9, 1, tzinfo=timezone(timedelta(hours=2)))) == "8 November 2011"
    assert words.short_day(datetime(2011, 5, 9, tzinfo=UTC)) == "9 May 2011"
    assert words.moment(None) == "–"


@pytest.mark.parametrize(
    ("width", "said"),
    [({"days": 30}, "30 days"), ({"hours": 36}, "36 hours"), ({"minutes": 90}, "90 minutes"), ({"days": 1}, "1 day")],
)
def test_spans(width: dict[str, int], said: str) -> None:
    assert words.span(timedelta(**width)) == said
