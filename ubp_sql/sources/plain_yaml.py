"""YAML of plain values: what a few lines of can take gigabytes or minutes to read is refused."""

from typing import Any

import yaml

MOST_DIGITS = 40
"""Characters of a number. `1:59:59:...` is one in base 60: half a megabyte of it took eight seconds; one of 20,000
hexadecimal digits cannot be printed."""
ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)
"""What reading may raise."""


class PlainLoader(yaml.SafeLoader):
    """A SafeLoader without anchors and without endless numbers."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not read", event.start_mark)
        return super().compose_node(parent, index)

    def _number(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > MOST_DIGITS:
            problem = f"a number of {len(node.value)} characters, text stands in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


for tag in ("int", "float"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{tag}", PlainLoader._number)


def problem_of(error: Exception) -> tuple[int | None, str]:
    """The line, counted from 1, where it is known, and what is wrong."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if isinstance(error, RecursionError):
        problem = "nested too deeply"
    return mark.line + 1 if mark else None, problem
