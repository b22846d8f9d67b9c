"""Turns Alembic's migrations into SQL text, so that what `plan` shows is to the letter what `apply` runs."""

import io
from dataclasses import dataclass
from itertools import pairwise

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from ubp_sql.errors import BadInput
from ubp_sql.install.resources import directory


@dataclass(frozen=True)
class Migration:
    """One revision: its id, first docstring line, the locks it names, and its SQL."""

    revision: str
    title: str
    locks: str
    sql: str


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(directory("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The newest revision this package knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the package ships at least one migration
    return revision


def _revisions() -> list[str]:
    """Every revision, oldest first."""
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))]


def _migration(revision: str, sql: str) -> Migration:
    document = ScriptDirectory.from_config(_config()).get_revision(revision).longdoc or ""
    title, _, rest = document.partition("\n")
    locks = rest.partition("Locks:")[2].split("\n\n")[0]
    return Migration(revision, title.strip(), " ".join(locks.split()) or "not stated", sql)


def _between(lower: str | None, upper: str | None) -> list[str]:
    known = _revisions()
    for revision in (lower, upper):
        if revision is not None and revision not in known:
            raise BadInput(f"unknown revision {revision}", f"known revisions: base, {', '.join(known)}")
    start = known.index(lower) + 1 if lower else 0
    end = known.index(upper) + 1 if upper else 0
    return known[start:end]


def known(revision: str) -> bool:
    """Whether this package holds that revision."""
    return revision in _revisions()


def upgrades(current: str | None, target: str | None = None) -> list[Migration]:
    """Migrations from `current` (None: nothing installed) up to `target` (None: head), one SQL text each."""
    result = []
    below = current
    for revision in _between(current, target or head()):
        output = io.StringIO()
        command.upgrade(_config(output), f"{below or 'base'}:{revision}", sql=True)
        result.append(_migration(revision, output.getvalue().strip()))
        below = revision
    return result


def downgrades(current: str, target: str | None) -> list[Migration]:
    """Migrations that lead from `current` down to `target` (None: base), newest first."""
    result = []
    steps = [target, *_between(target, current)]
    for below, revision in reversed(list(pairwise(steps))):
        output = io.StringIO()
        command.downgrade(_config(output), f"{revision}:{below or 'base'}", sql=True)
        result.append(_migration(str(revision), output.getvalue().strip()))
    return result
