"""Feature definitions in a YAML file: what `ubp-sql features apply` reads and `features export` writes."""

from pathlib import Path
from typing import Any

import yaml

from ubp_sql.errors import BadInput
from ubp_sql.features.spec import FIELDS, FeatureSpec
from ubp_sql.sources.plain_yaml import ERRORS, PlainLoader, problem_of

MOST_BYTES = 2 << 20
HINT = "docs/features.md has an example"


class _Loader(PlainLoader):
    """Plain values only, no field twice, `on` and `no` as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a field's name is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `on`, `no` and `y` as booleans, 12:30 as a number and 2024-01-01 as a date: event kinds are called so.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in found
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge")
    ]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_features(path: Path) -> list[dict[str, Any]]:
    """The definitions of a file, each as `ubp.define_features` takes it.

    Raises BadInput (UB003) on what is no such file, and on a definition that can be seen to be wrong without a server.
    """
    if path.stat().st_size > MOST_BYTES:
        raise BadInput(f"{path} has more than {MOST_BYTES:,} bytes", "a set has at most 1,592 features")
    try:
        return parse_features(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text", HINT) from None
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", error.hint) from None


def parse_features(text: str) -> list[dict[str, Any]]:
    """As read_features, from text."""
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except ERRORS as error:
        line, problem = problem_of(error)
        raise BadInput(f"line {line}: not YAML: {problem}" if line else f"not YAML: {problem}", HINT) from None
    if not isinstance(content, dict) or list(content) != ["features"] or not isinstance(content["features"], list):
        raise BadInput("a file of features has one field, features, with a list", HINT)
    found = content["features"]
    if not found:
        raise BadInput("the list of features is empty", HINT)
    return [FeatureSpec.from_mapping(_texts(entry)).to_json() for entry in found]


def _texts(entry: Any) -> Any:
    """A kind or window that YAML reads as a number is text all the same: `kinds: [404]`."""
    if not isinstance(entry, dict):
        return entry
    kinds = entry.get("kinds")
    if isinstance(kinds, list):
        entry = {**entry, "kinds": [str(k) if isinstance(k, int | float) else k for k in kinds]}
    return entry


def write_features(specs: list[dict[str, Any]], comment: str) -> str:
    """YAML text that `read_features` reads back to the same definitions.

    comment  one line at the top
    """
    lines = [f"# {' '.join(comment.split())}", "features:"]
    for spec in specs:
        ordered = {name: spec[name] for name in FIELDS if name in spec}
        text = yaml.safe_dump(ordered, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
        lines.append(f"  - {text.strip()}")
    return "\n".join(lines) + "\n"
