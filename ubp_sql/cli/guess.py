"""`ubp-sql source guess`: a look at a file or a table, and the map or the call that it asks for."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput, MapError, SourceError

if TYPE_CHECKING:
    from ubp_sql.sources.guess import FileGuess
    from ubp_sql.sources.guess_parts import Part
    from ubp_sql.sources.guess_table import TableGuess

What = Annotated[str, typer.Argument(metavar="FILE|TABLE", help="A file, or schema.table.", show_default=False)]
Write = Annotated[Path | None, typer.Option("--write", help="File for the map or the call; default: print it.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite that file.")]
_ENDINGS = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".gz", ".zst", ".log"}
_COLORS = {"sure": "green", "likely": "green", "a guess": "yellow", "cannot tell": "red"}


@guarded
def guess(what: What, write: Write = None, force: Force = False, dsn: Dsn = "", json: AsJson = False) -> None:
    """Look at a file or table and propose its load map, or its ubp.attach_source call. Changes nothing.

    Looks at 10,000 rows and a few places further on. What the data do not tell is left open (exit status 3).
    """
    if write is not None and write.exists() and not force:
        raise BadInput(f"{write} is there already", "--force overwrites it")
    if Path(what).is_file() or "/" in what or Path(what).suffix in _ENDINGS:
        _guess_file(what, write, json)
    else:
        _guess_table(what, write, dsn, json)


def _guess_file(file: str, write: Path | None, json: bool) -> None:
    from ubp_sql.sources.guess import guess_file

    found = guess_file(Path(file))
    if json:
        print_json(dataclasses.asdict(found) | {"open": found.open, "map": found.map_text()})
    else:
        _show(found.parts, found.notes)
        found = _confirmed(found, _load_problem)
        _give(found.map_text(), write)
        map_name = write or "MAP.yaml"
        err.print(f"try it: ubp-sql load {file} --map {map_name} --dry-run", markup=False)
    _stop_if_open(found.open, "map")


def _load_problem(found: "FileGuess") -> str | None:
    from ubp_sql.sources.load_map import LoadMap

    if found.open:
        return None
    try:
        LoadMap.from_text(found.map_text(), Path("the map"))
    except MapError as error:
        return error.message
    return None


def _guess_table(name: str, write: Path | None, dsn: str, json: bool) -> None:
    from ubp_sql.sources.guess_table import checked, guess_table

    with connection(dsn) as conn:
        found = guess_table(conn, name)
        if json:
            print_json(dataclasses.asdict(found) | {"open": found.open, "call": found.call_text()})
        else:
            _show(found.parts, found.notes)
            before = found
            found = _confirmed(found, lambda changed: None if changed.open else checked(conn, changed).problem)
            if found is not before and not found.open:
                found = checked(conn, found)
            _give(found.call_text(), write)
            _show_steps(found)
    _stop_if_open(found.open, "call")
    if found.problem:
        raise MapError(found.problem, "mend the call, then paste it into psql")


def _show(parts: "list[Part]", notes: list[str]) -> None:
    table = Table()
    for title in ("part", "is", "examples", "how sure", "why"):
        table.add_column(title, overflow="fold")
    for part in parts:
        if part.value is None and part.sure == "none":
            continue
        shown = _shown(part.value) if part.value is not None else " or ".join(_shown(c) for c in part.choices) or "?"
        sure = Text(part.sure, style=_COLORS.get(part.sure, ""))
        table.add_row(part.name, Text(shown), Text("; ".join(part.examples)), sure, Text(part.why))
    # Where a file or a mail takes it, nothing is cut to the width of a terminal that is not there.
    (err if err.is_terminal else Console(stderr=True, width=1_000, highlight=False)).print(table)
    for note in notes:
        err.print(f"note: {note}", markup=False)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"always {value['constant']}"
    if isinstance(value, list):
        return "\n".join(_printable(f"{kind}: {condition}") for rule in value for kind, condition in rule.items())
    return _printable(str(value))


def _printable(text: str) -> str:
    """Names of others must not steer the terminal."""
    return "".join(c if c.isprintable() else "·" for c in text)


def _show_steps(found: "TableGuess") -> None:
    for step in found.steps:
        if step.get("step") in ("advice", "cannot see"):
            err.print(f"{step['step']}: {_printable(step['detail'])}", markup=False)


def at_a_terminal() -> bool:
    return sys.stdin.isatty() and err.is_terminal


def _confirmed(found: Any, problem_of: Any) -> Any:
    """Ask a person, where there is one; elsewhere the proposal stands."""
    if not at_a_terminal():
        return found
    while True:
        usual = "edit" if found.open else "yes"
        answer = typer.prompt("Take it? yes, edit or no", default=usual, err=True).strip().lower()
        if answer in ("n", "no"):
            err.print("nothing was written")
            raise typer.Exit(1)
        if answer in ("y", "yes"):
            return found
        if answer in ("e", "edit"):
            found = _edited(found, problem_of)
            _show(found.parts, found.notes)


def _edited(found: Any, problem_of: Any) -> Any:
    err.print("Enter keeps what is in brackets; - leaves a part out; a kind may be {constant: NAME}", markup=False)
    for part in list(found.parts):
        for number, choice in enumerate(part.choices if part.value is None else [], 1):
            err.print(f"  {number}: {_shown(choice)}", markup=False)
        while True:
            now = "" if part.value is None else _flow(part.value)
            text = typer.prompt(f"{part.name}", default=now, err=True).strip()
            if text == now:
                break
            if text.isdigit() and part.value is None and 0 < int(text) <= len(part.choices):
                changed = found.with_part(part.name, part.choices[int(text) - 1])
            else:
                changed = found.with_part(part.name, None if text == "-" else _parsed(text))
            problem = problem_of(changed)
            if problem is None:
                found = changed
                break
            err.print(f"not taken: {problem}", markup=False)
    return found


def _flow(value: Any) -> str:
    return (
        value if isinstance(value, str) else str(yaml.safe_dump(value, default_flow_style=True, width=1 << 20)).strip()
    )


def _parsed(text: str) -> Any:
    if text[:1] in "{[":
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _give(text: str, write: Path | None) -> None:
    if write is None:
        out.print(text, markup=False, end="")
    else:
        write.write_text(text, encoding="utf-8")
        err.print(f"written: {write}", markup=False)


def _stop_if_open(missing: list[str], what: str) -> None:
    if missing:
        names = " and ".join(missing)
        raise SourceError(f"cannot tell {names} from the data", f"the {what} has a place for each: fill it in")
