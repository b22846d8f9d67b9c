"""Writes the table of aggregates into features.md beside it; a test sees when it was forgotten."""

from pathlib import Path

from ubp_sql.features.aggregates import RULES, Rule
from ubp_sql.features.settings import REQUIRED, Setting

PAGE = Path(__file__).with_name("features.md")
BEGIN, END = "<!-- table: written by docs/feature_table.py -->\n", "<!-- end of table -->\n"
WINDOWS = {"all": "`all`", "width": "`7d`", "tumbling": "`4 x 7d`", "last": "`last 5`"}
OF = {"number": "number", "key": "key", "order": "order", "clock": "day, holiday", "cycle": "hour, weekday, month"}
OF["feature"] = "an earlier feature"


def table() -> str:
    """One line an aggregate."""
    head = ["aggregate", "value", "of", "windows", "settings", "unit", "without a value"]
    lines = [head, ["---"] * len(head), *(_line(name, rule) for name, rule in RULES.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(name: str, rule: Rule) -> list[str]:
    kinds = [OF.get(kind, kind) for kind in rule.of if kind != "none"]
    of = ", ".join(kinds) or "-"
    if rule.usual_of:
        of += f" (usually `{rule.usual_of}`)"
    elif kinds and "none" in rule.of:
        of += " or none"
    settings = [_setting(key, setting) for key, setting in rule.settings.items()]
    if rule.against:
        settings.insert(0, {"window": "**against**: a window", "kinds?": "against: kinds"}[rule.against])
    windows = ", ".join(WINDOWS[form] for form in WINDOWS if form in rule.windows)
    return [f"`{name}`", rule.says, of, windows, "; ".join(settings) or "-", _plain(rule.unit), _plain(rule.null_rule)]


def _setting(key: str, setting: Setting) -> str:
    if setting.default is REQUIRED:
        return f"**{key}**"
    return key if setting.default is None else f"{key} (`{setting.default}`)"


def _plain(pattern: str) -> str:
    """A pattern's text for any spec."""
    words = {"of": "column", "ofs": "keys", "starts": "events or orders", "per": "key"}
    return pattern.format_map(words)


def page(text: str) -> str:
    """The page with the present table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
