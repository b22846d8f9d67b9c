"""What an aggregate takes besides kinds, column and window: forms of settings, their checks, their one spelling."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from ubp_sql.errors import BadInput
from ubp_sql.features.spec import FeatureSpec, checked_kinds
from ubp_sql.features.windows import parse_width, shown, width_text

REQUIRED = object()
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SEASONS = {"winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11)}
MAX_EDGES = 20


class Setting(NamedTuple):
    """One setting: its form, what stands for it when it is left out (REQUIRED: nothing), its range, its meaning."""

    form: str  # width, int, kinds, edges, clock, key
    meaning: str
    default: Any = REQUIRED
    low: int = 1
    high: int = 1


def checked(spec: FeatureSpec, known: dict[str, Setting], rule: str) -> dict[str, Any]:
    """The spec's settings in their one spelling, without those that are equal to the default.

    Raises BadInput (UB003) on an unknown, missing or unusable setting.
    """
    for key in spec.settings:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise BadInput(f"feature {spec.name!r}: {rule} has no setting {shown(key)}", f"settings of {rule}: {takes}")
    found = {}
    for key, setting in known.items():
        if key not in spec.settings:
            if setting.default is REQUIRED:
                raise BadInput(f"feature {spec.name!r}: {rule} needs the setting {key}", setting.meaning)
            continue
        value = _FORMS[setting.form](spec, key, spec.settings[key], setting)
        if value != setting.default:
            found[key] = value
    return found


def _width(spec: FeatureSpec, key: str, value: Any, _: Setting) -> str:
    return width_text(parse_width(value, key, spec.name))


def _int(spec: FeatureSpec, key: str, value: Any, setting: Setting) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # jsonb and YAML may write 3 as 3.0
    if isinstance(value, bool) or not isinstance(value, int) or not setting.low <= value <= setting.high:
        raise BadInput(
            f"feature {spec.name!r}: {key} {shown(value)} is no whole number from {setting.low} to {setting.high}",
            setting.meaning,
        )
    return value


def _kind_list(spec: FeatureSpec, key: str, value: Any, setting: Setting) -> list[str]:
    """Kinds, of which one may come twice where steps are meant."""
    if setting.high == 1:
        return list(checked_kinds(value, key, spec.name))
    if not isinstance(value, list) or not setting.low <= len(value) <= setting.high:
        raise BadInput(
            f"feature {spec.name!r}: {key} {shown(value)} are not {setting.low} to {setting.high} kinds in order",
            """for example ["view", "cart", "purchase"]""",
        )
    return [kind for step in value for kind in checked_kinds([step], key, spec.name)]


def _edges(spec: FeatureSpec, key: str, value: Any, setting: Setting) -> list[float]:
    good = isinstance(value, list) and 1 <= len(value) <= MAX_EDGES
    numbers = [e for e in value if isinstance(e, int | float) and not isinstance(e, bool)] if good else []
    try:
        edges = [float(e) for e in numbers]
    except OverflowError:
        edges = []
    rising = all(a < b for a, b in pairwise(edges)) and all(map(math.isfinite, edges))
    if not good or len(edges) < len(value) or not rising:
        raise BadInput(f"feature {spec.name!r}: {key} {shown(value)} are no rising numbers", setting.meaning)
    return edges


def _clock(spec: FeatureSpec, key: str, value: Any, setting: Setting) -> list[int]:
    """Hours 0-23, weekdays 1-7 (Monday 1) or months 1-12, written as numbers or names."""
    low, high, names = {"hour": (0, 23, ()), "weekday": (1, 7, WEEKDAYS), "month": (1, 12, MONTHS)}.get(
        spec.of or "", (0, -1, ())
    )
    found: set[int] = set()
    for item in value if isinstance(value, list) else [value]:
        text = item.strip().lower() if isinstance(item, str) else ""
        if isinstance(item, float) and item.is_integer():
            item = int(item)
        if spec.of == "month" and text in SEASONS:
            found.update(SEASONS[text])
        elif text[:3] in names:
            found.add(1 + names.index(text[:3]))
        elif isinstance(item, int) and not isinstance(item, bool) and low <= item <= high:
            found.add(item)
        else:
            raise BadInput(
                f"feature {spec.name!r}: {shown(item)} is no {spec.of} from {low} to {high}", setting.meaning
            )
    if not found or len(found) > high - low:
        raise BadInput(f"feature {spec.name!r}: {key} {shown(value)} is none or every {spec.of}", setting.meaning)
    return sorted(found)


def _key(spec: FeatureSpec, key: str, value: Any, setting: Setting) -> str:
    if not isinstance(value, str):
        raise BadInput(f"feature {spec.name!r}: {key} {shown(value)} is no column", setting.meaning)
    return value


_FORMS = {"width": _width, "int": _int, "kinds": _kind_list, "edges": _edges, "clock": _clock, "key": _key}
