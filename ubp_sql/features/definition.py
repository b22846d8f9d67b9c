"""A feature set: which features of which event kinds over which windows, with a hash that models are pinned to."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ubp_sql.errors import BadInput
from ubp_sql.features.families import FeatureDefinition, features_of
from ubp_sql.features.names import slug
from ubp_sql.kernels.dispatch import MAX_WINDOWS

SEMANTICS_VERSION = 1
"""Raised when any feature's value changes for the same name: the hash changes with it."""
DEFAULT_WINDOWS_DAYS = (7, 14, 30, 60, 90, 180)
MAX_KINDS = 16
MAX_KIND_CHARS = 200
MAX_DAYS = 36_500
MAX_COLUMNS = 1600
"""PostgreSQL's limit of a table."""
KEY_COLUMNS = 8
"""Columns of that kept for the user, the moment and other keys beside the features."""


@dataclass(frozen=True)
class FeatureSetDefinition:
    """The features of `kinds` over `windows_days`.

    kinds         1..16 event kinds, any text; the first is the main one, which gaps, shares and rhythm are about
    windows_days  widths in days, 1..36,500, at most 31, kept in ascending order
    features      derived: the features in row order
    hash          derived: SHA-256 in hex of everything that a value depends on; wording is not part of it

    Raises BadInput (UB003) on empty, reserved or repeated kinds (also when only their column names are equal),
    on windows out of range or repeated, and on a set that would not fit a table of PostgreSQL.
    """

    kinds: tuple[str, ...]
    windows_days: tuple[int, ...] = DEFAULT_WINDOWS_DAYS
    features: tuple[FeatureDefinition, ...] = field(init=False, repr=False, compare=False)
    hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "kinds", _checked_kinds(self.kinds))
        set_field(self, "windows_days", _checked_windows(self.windows_days))
        features = features_of(self.kinds, self.windows_days)
        if len(features) > MAX_COLUMNS - KEY_COLUMNS:
            raise BadInput(
                f"{len(self.kinds)} kinds over {len(self.windows_days)} windows make {len(features)} features, "
                f"more than the {MAX_COLUMNS - KEY_COLUMNS} columns that a table of PostgreSQL has room for",
                "Name fewer kinds or fewer windows.",
            )
        set_field(self, "features", features)
        set_field(self, "hash", hashlib.sha256(self._canonical().encode()).hexdigest())

    def _canonical(self) -> str:
        rows = [[f.name, f.family, f.kind, f.window_days, f.other, f.sql_type] for f in self.features]
        parts = [SEMANTICS_VERSION, self.kinds, self.windows_days, rows]
        return json.dumps(parts, separators=(",", ":"))

    def to_json(self) -> str:
        """The set as JSON text, to be read back by `from_json`."""
        parts = {
            "semantics": SEMANTICS_VERSION,
            "kinds": self.kinds,
            "windows_days": self.windows_days,
            "hash": self.hash,
        }
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The set of `to_json`.

        Raises BadInput (UB003) on text that is no such JSON, has other fields, or was written by a version of this
        package in which the same features had another meaning.
        """
        try:
            parts: Any = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadInput(f"feature set: not JSON ({error})") from None
        if not isinstance(parts, dict) or set(parts) != {"semantics", "kinds", "windows_days", "hash"}:
            raise BadInput("feature set: wants the fields semantics, kinds, windows_days and hash, and no other")
        if not isinstance(parts["kinds"], list) or not isinstance(parts["windows_days"], list):
            raise BadInput("feature set: kinds and windows_days must be lists")
        definition = cls(tuple(parts["kinds"]), tuple(parts["windows_days"]))
        if parts["semantics"] != SEMANTICS_VERSION or parts["hash"] != definition.hash:
            raise BadInput(
                f"feature set: hash {parts['hash']} of semantics {parts['semantics']} is not this version's "
                f"{definition.hash} of semantics {SEMANTICS_VERSION}",
                "Define the set anew and train on it, or run the package version that made it.",
            )
        return definition


def _checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(kinds, tuple | list) or not 1 <= len(kinds) <= MAX_KINDS:
        raise BadInput(f"a feature set needs 1 to {MAX_KINDS} event kinds, got {kinds!r:.200}")
    by_slug: dict[str, str] = {}
    for kind in kinds:
        text = slug(kind)
        if len(kind) > MAX_KIND_CHARS:
            raise BadInput(f"event kind {kind!r:.60} is longer than {MAX_KIND_CHARS} characters")
        if by_slug.setdefault(text, kind) != kind:
            raise BadInput(f"event kinds {by_slug[text]!r} and {kind!r} have the same column name {text}")
    if len(by_slug) < len(kinds):
        raise BadInput(f"an event kind comes twice in {kinds!r:.200}")
    return tuple(kinds)


def _checked_windows(windows_days: Sequence[int]) -> tuple[int, ...]:
    if not windows_days or len(windows_days) >= MAX_WINDOWS:
        raise BadInput(f"a feature set needs 1 to {MAX_WINDOWS - 1} windows, got {len(windows_days)}")
    for days in windows_days:
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
            raise BadInput(f"window of {days!r:.40} days: wants a whole number from 1 to {MAX_DAYS}")
    if len(set(windows_days)) < len(windows_days):
        raise BadInput(f"a window comes twice in {windows_days}")
    return tuple(sorted(windows_days))
