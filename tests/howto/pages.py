"""Pages of docs/howto as what they are: commands in order, and what some of them print."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fix_database import Database
from ubp_sql.embedded.binaries import find_binaries

FOLDER = Path(__file__).parents[2] / "docs" / "howto"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
_BLOCK = re.compile(r"^```(sh|sql|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A block of commands, `language` sh or sql, and the text that the page shows for it."""

    language: str
    commands: str
    shown: str | None
    line: int


def steps(page: Path) -> Iterator[Step]:
    """The page's commands; a block of text belongs to the commands right before it."""
    text = page.read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "text":
            shown = after[2] if after and after[1] == "text" else None
            yield Step(block[1], block[2], shown, text[: block.start()].count("\n") + 1)


def run(step: Step, db: Database, user: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """As `user` does who stands in `directory` and has PG* set: psql or a shell, stopped by the first error."""
    commands = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"] if step.language == "sql" else ["sh", "-e"]
    return subprocess.run(
        commands,
        input=step.commands,
        cwd=directory,
        env=environment(db, user),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(db: Database, user: str) -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}:{find_binaries().bindir}:{os.environ['PATH']}"
    said = dict(part.split("=", 1) for part in db.dsn.split())
    postgres = {f"PG{ {'dbname': 'DATABASE'}.get(name, name.upper()) }": value for name, value in said.items()}
    return {**os.environ, **postgres, "PGUSER": user, "PATH": programs, "PGTZ": "UTC", "COLUMNS": "120", "PAGER": ""}


def same(shown: str, printed: str) -> bool:
    """Are the two equal line by line? `...` in what a page shows stands for anything on a line, or any lines."""
    wanted = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
    found = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    pattern = re.escape(wanted).replace(re.escape("\n...\n"), r"\n(?:.*\n)*?").replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, found) is not None
