"""The page: facts and figures put into words, and into one HTML document."""

import json
import math
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

import ubp_sql
from ubp_sql.training.report import figures_amount, figures_chance, figures_effects, resample, words
from ubp_sql.training.report.cautions import cautions
from ubp_sql.training.report.drawing import Drawn
from ubp_sql.training.report.facts import Example, Facts, HeldOut, Reason, Task
from ubp_sql.training.report.figures_profit import Stakes, profit
from ubp_sql.training.report.measured import BASELINE, Measured, by_cut, measured, table, tenths
from ubp_sql.training.report.shown import Cell, Fact, Row, ShownExample, ShownGroup, ShownReason, Table

FOLDER = Path(__file__).parent


def page(facts: Facts, png: bool, stakes: Stakes | None = None) -> tuple[str, list[Drawn]]:
    """The document and its figures; the same facts give the same bytes.

    png     whether figures carry an image too
    stakes  for a figure of what acting would have earned; None: there is none
    """
    figures: list[Drawn] = []
    shown: dict[str, Any] = {"metrics": None, "lead": _promise(facts), "big": [], "untested": _untested(facts)}
    if facts.tests:
        test = facts.tests[-1]
        found = measured(test, facts.task.amount)
        figures = _figures(facts, test, found, png)
        if stakes is not None:
            figures.append(profit(test.labels, test.scores, stakes, facts.task.amount, png))
        shown = {
            "metrics": table(facts, test, found),
            "figures": figures,
            "protocol": _protocol(test),
            "cautions": cautions(facts, test, found),
            "intervals": _intervals(facts, test),
            "tenths": tenths(test, facts.task.amount),
            "tenths_said": _tenths_said(facts, test),
            **_headline(facts, test, found),
        }
    importance, effects = _effects(facts, png)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html.jinja").render(
        **shown,
        package=ubp_sql.__version__,
        css=(FOLDER / "page.css").read_text(),
        title=_title(facts),
        over=f"{facts.task.name} · version {facts.model.version}",
        what=_what(facts),
        by_cut=by_cut(facts),
        importance=importance,
        meanings=[Fact(one.feature, one.meaning) for one in facts.importance],
        effects=effects,
        effects_said=f"Found on {facts.studied}.",
        unstudied=f"This version was never studied: ubp-sql model study {_words(facts)} finds what moves its scores.",
        groups=[_group(facts, group) for group in facts.groups],
        examples_said=_examples_said(facts),
        **_everybody(facts),
        lineage=_lineage(facts),
        commands=_commands(facts, stakes),
        settings=json.dumps(facts.model.settings, indent=2, sort_keys=True, ensure_ascii=False),
        preparation=json.dumps(facts.model.preparation, indent=1, ensure_ascii=False)
        if facts.model.preparation
        else "",
        footer=f"Made by ubp_sql {ubp_sql.__version__}. This page is whole: it loads nothing and sends nothing.",
    )
    return text, [*figures, *([importance] if importance else []), *effects]


def _figures(facts: Facts, test: HeldOut, found: Measured, png: bool) -> list[Drawn]:
    if facts.task.amount:
        return figures_amount.of_amounts(test.labels, test.scores, png)
    after = facts.mapped.bins if facts.mapped else []
    return figures_chance.of_chances(test.labels, test.scores, after, found.values, png)


def _effects(facts: Facts, png: bool) -> tuple[Drawn | None, list[Drawn]]:
    if not facts.importance:
        return None, []
    ends = [value for one in facts.effects for value in (*one.mean, *([] if one.missing is None else [one.missing]))]
    low, high = (float(min(ends)), float(max(ends))) if ends else (0.0, 1.0)
    room, chance = 0.12 * ((high - low) or 1.0), not facts.task.amount
    effects = [
        figures_effects.effect(place, one, chance, low - 1.5 * room, high + room, png)
        for place, one in enumerate(facts.effects, start=1)
    ]
    return figures_effects.importance(facts.importance, png), effects


def _title(facts: Facts) -> str:
    """The task's meaning; where nobody gave it one, it is the label's."""
    task = facts.task
    text = task.meaning
    if text == task.label:
        text = _label(facts) if task.amount else f"chance of {_label(facts)}"
    return text[:1].upper() + text[1:]


def _label(facts: Facts) -> str:
    return facts.task.label.replace("within the horizon", f"within {words.span(facts.task.horizon)}")


def _words(facts: Facts) -> str:
    """Task and version as a command takes them."""
    task, version = shlex.quote(facts.task.name), facts.model.version
    return task if version == facts.task.deployed_version else f"{task} {version}"


def _promise(facts: Facts) -> str:
    what, ahead = "An amount" if facts.task.amount else "A chance", words.span(facts.task.horizon)
    return f"{what} for every user with an event of kind {facts.task.population_kind}, looking {ahead} ahead."


def _headline(facts: Facts, test: HeldOut, found: Measured) -> dict[str, Any]:
    """The result in two sentences and four numbers."""
    n, base = len(test.labels), float(test.labels.mean())
    users = Fact("users tested", words.count(n))
    known = f"{words.many(n, 'user')} known on {words.day(test.cut)}"
    if facts.task.amount:
        mae, rank = found.values["mae"], found.values["spearman"]
        lead = (
            f"For {known}, the {_label(facts)} came to {words.number(base)} on average. Predictions were off by "
            f"{words.number(mae)} on average; by the mean for everybody it would have been "
            f"{words.number(float(abs(test.labels - base).mean()))}."
        )
        big = [
            users,
            Fact("mean amount that came", words.number(base)),
            Fact("mean absolute error", words.number(mae)),
            Fact("rank correlation", words.fixed(rank, 2)),
        ]
        return {"lead": lead, "big": big}
    auc, lift = found.values["auc"], found.values["lift_10"]
    lead = f"Of {known}, {words.percent(base)} “did”: {_label(facts)}."
    if 0 < base < 1:
        lead += (
            f" The tenth with the highest scores held {words.number(lift, 2)} times as many of them as a tenth chosen "
            f"by lot. Of two users, one who did and one who did not, the one who did scored higher in "
            f"{words.percent(auc, 0)} of cases."
        )
    big = [
        users,
        Fact("of them did", words.percent(base)),
        Fact("AUC", words.fixed(auc, 3)),
        Fact("lift in the top tenth", f"{words.fixed(lift, 2)} ×"),
    ]
    return {"lead": lead, "big": big}


def _what(facts: Facts) -> list[Fact]:
    task = facts.task
    found = [
        Fact("Question", _title(facts)),
        Fact("What came counts as" if task.amount else "A user “did” if", _label(facts)),
        Fact("Asked of", f"users with an event of kind {task.population_kind} before"),
        Fact("How far ahead", words.span(task.horizon)),
    ]
    if facts.tests:
        test = facts.tests[-1]
        found.append(Fact("Tested on", f"{words.many(len(test.labels), 'user')} as of {words.moment(test.cut)}"))
        base = float(test.labels.mean())
        found.append(
            Fact("Mean of what came", words.number(base))
            if task.amount
            else Fact("Of them did", f"{words.count(int(test.labels.sum()))}, {words.percent(base)}")
        )
    return found


def _protocol(test: HeldOut) -> str:
    return f"How it was tested: {test.protocol.rstrip('.')}. This version may have learnt from these moments since."


def _intervals(facts: Facts, test: HeldOut) -> str:
    n = len(test.labels)
    text = f"Intervals by {resample.rounds_for(n)} resamples of the {words.many(n, 'user')}."
    simple = {row["protocol"] for row in facts.metrics if row["metric"].startswith(BASELINE)}
    text = " ".join([text, *(f"{line[:1].upper()}{line[1:].rstrip('.')}." for line in sorted(simple))])
    if facts.task.amount:
        return f"{text} A guess: the mean amount for everybody."
    guess = "A guess: the same chance for everybody, the share that did."
    if facts.mapped is None:
        return f"{text} {guess}"
    return f"{text} {guess} The map of this column was fitted on outcomes that were known before the test."


def _untested(facts: Facts) -> str:
    return (
        f"No held-out users of version {facts.model.version} are stored, so there is nothing to draw curves of: "
        f"ubp-sql train {shlex.quote(facts.task.name)} tests a new version on moments it has not seen."
    )


def _tenths_said(facts: Facts, test: HeldOut) -> str:
    if facts.task.amount:
        return "The same users in ten groups: what was predicted, and what came."
    groups = tenths(test, False).rows
    return (
        f"The same users in ten groups. In the highest {groups[0].cells[3].text} did, in the lowest "
        f"{groups[-1].cells[3].text}."
    )


def _examples_said(facts: Facts) -> str:
    if facts.task.deployed_version != facts.model.version or facts.scored is None:
        return "Users of the newest test whose outcome the model did not see coming."
    return (
        "Users with high, middling and low stored scores, and why; then users of the newest test whose outcome the "
        "model did not see coming. A reason says what the prediction would lack without it; reasons act together, so "
        "their numbers do not add up to it."
    )


def _group(facts: Facts, group: Any) -> ShownGroup:
    return ShownGroup(group.title, group.said, [_example(facts, one) for one in group.examples])


def _example(facts: Facts, one: Example) -> ShownExample:
    amount = facts.task.amount
    score = words.number(one.score) if amount else words.percent(one.score)
    small = _standing(one.percentile)
    if one.label is not None:
        small = f"what came: {words.number(one.label)}" if amount else ("did" if one.label else "did not")
    reasons = []
    for reason in one.reasons:
        reasons.append(ShownReason(reason.meaning, _beside(reason)))
    return ShownExample(one.key, score, small, reasons)


def _beside(reason: Reason) -> str:
    """The value beside what is typical; that it is missing the meaning says itself."""
    if reason.value is None:
        return "" if reason.typical is None else f"typically {words.number(reason.typical)}"
    typical = "missing" if reason.typical is None else words.number(reason.typical)
    return f"{words.number(reason.value)}, typically {typical}"


def _standing(percentile: float | None) -> str:
    if percentile is None:
        return ""
    if percentile < 1:
        return "nobody has a lower score" if percentile == 0 else "among the lowest hundredth of the users scored"
    # Rounded up, the second best of ten thousand would be above everybody.
    share = math.floor(10 * percentile) / 10 if percentile > 99 else math.floor(percentile)
    return f"higher than {share} % of the users scored"


def _everybody(facts: Facts) -> dict[str, Any]:
    scored = facts.scored
    if scored is None:
        return {
            "scored": None,
            "scored_said": "",
            "unscored": f"No scores of it are stored: ubp-sql score {shlex.quote(facts.task.name)} writes them.",
        }
    without = sum(users for _, users in scored.without)
    said = (
        f"{words.many(scored.scored, 'user')} with a score as of {words.moment(scored.as_of)}, stored on "
        f"{words.day(scored.scored_at)}; {words.many(without, 'user')} without one."
    )
    rows = [Row([Cell(reason), Cell(words.count(users))]) for reason, users in scored.without]
    return {"scored": Table("Why users have no score", ["reason", "users"], rows), "scored_said": said, "unscored": ""}


def _lineage(facts: Facts) -> list[Fact]:
    model = facts.model
    form = f"{model.format}, {model.objective}" + (f", {words.many(model.trees, 'tree')}" if model.trees else "")
    found = [
        Fact("Model", f"version {model.version}: {form}"),
        Fact("Made", f"{words.moment(model.created_at)} by {model.created_by}, ubp_sql {model.code_version}"),
        Fact("Training data", f"from {words.moment(model.data_from)} to {words.moment(model.data_until)}"),
        Fact("Features", f"set {model.feature_set}: {words.many(model.features, 'feature')}"),
        Fact("Hash of the feature set", model.feature_set_hash),
        Fact("Hash of the model", model.compiled_sha256),
    ]
    if facts.deployed_at is not None:
        found.append(Fact("Deployed since", words.moment(facts.deployed_at)))
    if facts.map is not None:
        cuts = ", ".join(words.day(cut) for cut in facts.map.cuts)
        of = f"of {words.many(facts.map.n, 'score')} at {cuts}" if facts.map.n else "fitted elsewhere"
        found.append(Fact("Calibration map", f"{facts.map.method}, {of}"))
    return [*found, Fact("Database", facts.server)]


def _commands(facts: Facts, stakes: Stakes | None) -> str:
    task = shlex.quote(facts.task.name)
    options = " --model linear" if "logistic" in facts.model.settings else ""
    cuts = [f"--test-cut {_argument(test.cut)}" for test in facts.tests]
    lines = [_definition(facts.task), " \\\n    ".join([f"ubp-sql train {task}{options}", *cuts])]
    money = "" if stakes is None else f" --gain {stakes.gain:.15g} --cost {stakes.cost:.15g}"
    if facts.task.as_of is not None:
        lines.append(f"ubp-sql refresh --as-of {_argument(facts.task.as_of)}")
    return "\n".join([*lines, f"ubp-sql score {task}", f"ubp-sql report {task} -o report.html{money}"])


def _definition(task: Task) -> str:
    """The task as a command; where it is defined so, that changes nothing."""
    options = {
        "label": task.rule,
        "population-kind": task.population_kind,
        "horizon": words.span(task.horizon).replace(",", ""),
        "feature-set": task.feature_set,
        **({} if task.meaning == task.label else {"meaning": task.meaning}),
    }
    given = [f"--{name} {shlex.quote(value)}" for name, value in options.items()]
    return " \\\n    ".join([f"ubp-sql task define {shlex.quote(task.name)}", *given])


def _argument(moment: datetime) -> str:
    """A moment as a command takes it: without an offset it is UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat().removesuffix("T00:00:00")
