"""The page as a document: whole, without a way out, the same again, and never broken by what the database says."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.report.document import Document
from tests.report.made import CUT, facts, untested, whole
from ubp_sql.training.report import curves, drawing, figures_effects, words
from ubp_sql.training.report.facts import Example, Facts, Group, HeldOut, Reason, Scored
from ubp_sql.training.report.figures_effects import Importance
from ubp_sql.training.report.figures_profit import Stakes, curve
from ubp_sql.training.report.page import page

NAMES = {
    False: ["roc", "precision-recall", "gain", "lift", "calibration", "scores"],
    True: ["predicted-actual", "groups", "errors", "residuals"],
}
EFFECTS = ["importance", "effect-1", "effect-2", "effect-3"]


@pytest.mark.parametrize("amount", [False, True])
def test_a_whole_page(amount: bool) -> None:
    text, figures = whole(amount)
    document = Document(text)
    assert [figure.name for figure in figures] == [*NAMES[amount], *EFFECTS]
    assert len(text) < 3_000_000
    assert all((figure.png or b"").startswith(b"\x89PNG") for figure in figures)
    _points_only_inside(document)
    _is_read_aloud(document, len(figures))
    said = " ".join(document.text)
    for part in (
        "20 June 2025",
        "4,000 users",
        "5f5f5f",
        "a7a7a7",
        "ubp-sql train",
        "num_leaves",
        "User seven",
        "unknown",
    ):
        assert part in said, part
    assert "--test-cut 2025-06-20\n" in said
    assert ("Baseline: the past." in said) == amount
    assert ("after the map" in document.text) != amount


@pytest.mark.parametrize(("amount", "stakes"), [(False, Stakes(40, 5)), (True, Stakes(0.25, 5.5))])
def test_a_profit_curve_for_who_names_a_gain_and_a_cost(amount: bool, stakes: Stakes) -> None:
    found = replace(facts(60, amount=amount), importance=[], effects=[])
    test = found.tests[-1]
    labels, scores = test.labels, test.scores
    share, earned = curve(labels, scores, stakes)
    assert (share[0], earned[0], share[-1]) == (0, 0, 1)
    for place in range(1, len(share)):
        chosen = sorted(range(60), key=lambda k: -scores[k])[: round(share[place] * 60)]
        mine = sum(stakes.gain * labels[k] - stakes.cost for k in chosen)
        assert earned[place] == pytest.approx(mine, abs=1e-9)
    text, figures = page(found, png=False, stakes=stakes)
    assert figures[-1].name == "profit"
    assert f"highest, {words.number(max(earned))}, " in figures[-1].said
    assert f"report.html --gain {stakes.gain:g} --cost {stakes.cost:g}" in " ".join(Document(text).text)
    nothing = [figure.name for figure in page(found, png=False)[1]]
    assert nothing == [figure.name for figure in figures[:-1]]


@pytest.mark.parametrize("amount", [False, True])
@pytest.mark.parametrize(
    ("labels", "scores"),
    [([1], [0.3]), ([1, 1, 0], [0.5, 0.5, 0.5]), ([0] * 12, [0.0] * 12)],
)
def test_tests_of_few_users_or_of_one_outcome(labels: list[float], scores: list[float], amount: bool) -> None:
    found = replace(facts(50, amount=amount), importance=[], effects=[])
    users = np.arange(len(labels))
    found.tests = [HeldOut(CUT, users, np.array(scores, float), np.array(labels, float), "by hand")]
    text, figures = page(found, png=False, stakes=Stakes(1, 0))
    both = len(set(labels)) == 2
    assert len(figures) == 1 + (4 if amount else 6 if both else 2)
    said = " ".join(Document(text).text)
    assert f"{len(labels)} user" in said
    assert "nan" not in text.lower().replace("none", "")


def test_figures_say_what_the_table_says() -> None:
    """Many equal scores: there the curve and the metric of the top tenth are not the same."""
    found = replace(facts(400), importance=[], effects=[])
    test = found.tests[-1]
    test = replace(test, scores=np.round(test.scores * 5) / 5)
    found.tests = [test]
    text, figures = page(found, png=False)
    said = {figure.name: figure.said for figure in figures}
    shown = re.search(r"lift in the top tenth ([\d.]+)", " ".join(Document(text).text))
    assert shown
    assert f"highest scores {shown[1]} times as many" in said["lift"]
    roc = curves.roc(test.labels, test.scores)
    assert f"{words.percent(float(np.interp(0.1, roc.x, roc.y)), 0)} of those who did" in said["roc"]


def test_it_is_drawn_without_what_training_needs() -> None:
    """The extra `report` is Matplotlib and Jinja."""
    code = "import sys, ubp_sql.training.report.write; print({'sklearn', 'lightgbm', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


AFTER = "after the map", "chance after the calibration map", "The map of this column"


def test_only_the_map_that_answers_is_shown() -> None:
    """One that was tried and not deployed, or brought along and never tried, is not what a figure may be of."""
    found = facts(300)
    assert found.map is not None
    assert all(words in page(found, png=False)[0] for words in AFTER)
    for other in (replace(found.map, method="platt"), replace(found.map, n=0, cuts=[]), None):
        text = page(replace(found, map=other), png=False)[0]
        assert not any(words in text for words in AFTER)
    assert "isotonic, fitted elsewhere" in page(replace(found, map=replace(found.map, n=0)), png=False)[0]


def test_the_same_facts_make_the_same_page() -> None:
    """Figures too, whether they carry images or not."""
    pages = [page(facts(150), png) for png in (True, False)]
    assert pages[0][0] == pages[1][0]
    assert {figure.png for figure in pages[1][1]} == {None}


def _points_only_inside(document: Document) -> None:
    assert "script" not in document.tags
    for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
        assert all(value.startswith(("#", "data:,")) for value in document.values(name)), name
    styles = "".join(document.values("style"))
    assert not re.search(r"url\((?!#)", styles)
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    everything = " ".join(value for _, _, value in document.attributes)
    wanted = {*re.findall(r"url\(#([^)]*)\)", everything), *(v[1:] for v in document.values("href") if v[0] == "#")}
    assert wanted | set(document.values("aria-labelledby")) <= set(ids)
    [policy] = [value for tag, name, value in document.attributes if tag == "meta" and "default-src" in value]
    assert policy.startswith("default-src 'none'")


def _is_read_aloud(document: Document, figures: int) -> None:
    assert document.tags.count("figure") == document.tags.count("svg") == figures
    assert document.tags.count("h1") == 1
    pictures = [value for tag, name, value in document.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(pictures) == figures
    assert all(len(value) > 20 for value in pictures)
    assert document.tags.count("table") == document.tags.count("caption") > 2
    assert ("html", "lang", "en") in document.attributes


def test_colours_are_the_page_s() -> None:
    text, figures = whole(False)
    for figure in figures:
        assert not re.search(r"#[0-9a-f]{6}\b", figure.svg), figure.name
        assert "font-family" not in figure.svg
    style = text[text.index("<style>") : text.index("</style>")]
    for name in drawing.COLOURS:
        assert style.count(f"--{name}:") == 2, name  # light and dark


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 has it."""

    def light(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_the_light_and_in_the_dark() -> None:
    text, _ = page(untested(), png=False)
    pairs = re.findall(r"--(\w+): (#[0-9a-f]{6})", text)
    themes = [dict(pairs[: len(pairs) // 2]), dict(pairs[len(pairs) // 2 :])]
    assert themes[0] == drawing.COLOURS | {"panel": themes[0]["panel"]}
    for theme in themes:
        for paper in ("paper", "panel"):
            assert contrast(theme["ink"], theme[paper]) > 7
            assert contrast(theme["muted"], theme[paper]) > 4.5
            assert contrast(theme["accent"], theme[paper]) > 4.5
        assert contrast(theme["accent"], theme["soft"]) > 3


def test_without_this_and_that_the_page_says_how_to_get_it() -> None:
    text, figures = page(untested(scored=None, groups=[], metrics=[]), png=False)
    assert figures == []
    said = " ".join(Document(text).text)
    assert "ubp-sql train purchase tests" in said
    assert "ubp-sql model study purchase finds" in said
    assert "ubp-sql score purchase writes" in said
    assert "User " not in said
    other = untested(deployed_at=None)
    other.task = replace(other.task, deployed_version=1)
    assert "ubp-sql model study purchase 2 finds" in page(other, png=False)[0]


def test_a_task_that_nobody_gave_a_meaning() -> None:
    found = untested()
    found.task = replace(found.task, meaning="at least one purchase within the horizon")
    said = Document(page(found, png=False)[0]).text
    assert "Chance of at least one purchase within 30 days" in said
    assert "at least one purchase within 30 days" in said


def test_what_a_shell_reads_is_quoted() -> None:
    found = untested()
    found.task = replace(found.task, horizon=timedelta(days=2000))
    found.task = replace(found.task, name="a b; rm -rf /")
    said = " ".join(Document(page(found, png=False)[0]).text)
    assert "ubp-sql train 'a b; rm -rf /'\nubp-sql refresh --as-of 2025-07-20\n" in said
    command = said[said.index("ubp-sql task define") : said.index("\nubp-sql train 'a b")]
    given = shlex.split(command.replace("\\\n", ""))
    assert given[:4] == ["ubp-sql", "task", "define", "a b; rm -rf /"]
    assert dict(zip(given[4::2], given[5::2], strict=True)) == {
        "--label": '{"any": ["purchase"]}',
        "--population-kind": "purchase",
        "--horizon": "2000 days",
        "--feature-set": "default",
        "--meaning": "chance that a user buys",
    }


@pytest.mark.parametrize(
    ("value", "typical", "beside"),
    [(2.0, 1.5, " (2, typically 1.50)"), (2.0, None, " (2, typically missing)"), (None, 1.5, " (typically 1.50)"),
     (None, None, "")],
)  # fmt: skip
def test_a_reason_has_its_value_beside_it(value: float | None, typical: float | None, beside: str) -> None:
    reason = Reason("days since (missing)", value, typical)
    found = untested(importance=[], groups=[Group("t", "", [Example(1, "k", 0.5, 10.0, None, [reason])])])
    text = page(found, png=False)[0]
    item = text[text.index("<li>days since (missing)") : text.index("</li>")]
    assert re.sub("<[^>]*>", "", item) == f"days since (missing){beside}"


HOSTILE = (
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' style='color:red",
    "{{ 7 * 7 }} {% raw %}",
    "<!-- ]]> --> &lt; &#60;",
    "</pre></dd></section>",
    "$x^2$ \\frac{ \x01\x0b\ud7ff\u202e é ☕ 日本",
    'url(#x) #0b61a4 id="y" \'',
)
TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40),
)


def with_text(text: str) -> Facts:
    """Every text that somebody else chose is `text`."""
    found = untested(
        importance=[], groups=[Group("t", "", [Example(1, text, 0.5, 10.0, None, [Reason(text, 1, None)])])]
    )
    found.task = replace(found.task, name=text, meaning=text, label=text, population_kind=text, feature_set=text)
    found.model = replace(
        found.model, settings={text: text}, created_by=text, feature_set=text, format=text, preparation=[text]
    )
    assert found.scored is not None
    found.scored = Scored(found.scored.as_of, found.scored.scored_at, 3, [(text, 1)])
    return found


@given(text=TEXT)
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_out_of_the_page(text: str) -> None:
    benign, document = (Document(page(with_text(each), png=False)[0]) for each in ("benign", text))
    assert document.tags == benign.tags
    assert [(tag, name) for tag, name, _ in document.attributes] == [(tag, name) for tag, name, _ in benign.attributes]
    assert f"User {text}" in document.text


@given(text=TEXT)
@settings(max_examples=25, deadline=None)
def test_no_name_breaks_out_of_a_figure(text: str) -> None:
    assume(drawing.label(text))  # matplotlib draws no empty text
    figure = figures_effects.importance([Importance(text, text, 0.5)], png=False)
    document = Document(figure.svg)
    plain = Document(figures_effects.importance([Importance("benign", "benign", 0.5)], png=False).svg)
    assert document.tags == plain.tags
    assert drawing.label(text) in document.text


def test_a_long_name_is_cut_and_a_control_is_a_space() -> None:
    assert drawing.label("a\x01b\n c") == "a b c"
    assert len(drawing.label("x" * 100)) == 48
