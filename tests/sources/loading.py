"""Helpers of the loading tests: write a file and a map, load it, look at what came of it."""

import gzip
from pathlib import Path
from typing import Any

import yaml

from tests.fix_database import Database
from ubp_sql.sources.load import LoadResult, load_file
from ubp_sql.sources.load_map import LoadMap

CSV: dict[str, Any] = {
    "source": "s",
    "format": "csv",
    "user": "who",
    "event_time": "at",
    "kind": "what",
}


def make_map(directory: Path, **fields: Any) -> LoadMap:
    """A map of columns who, at, what with `fields` added or (None) taken away, by way of a YAML file."""
    path = directory / "map.yaml"
    content = {name: value for name, value in {**CSV, **fields}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return LoadMap.from_file(path)


def write(directory: Path, content: str | bytes, name: str = "events.csv") -> Path:
    """The file, byte for byte; gzip where the name ends in .gz."""
    data = content.encode() if isinstance(content, str) else content
    path = directory / name
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def load(db: Database, path: Path, load_map: LoadMap, **options: Any) -> LoadResult:
    """Load over a connection of its own; the invariant is checked each time."""
    with db.connect() as conn:
        result = load_file(conn, path, load_map, **options)
    assert result.loaded + result.rejected + result.already == result.read
    return result


def load_csv(db: Database, directory: Path, content: str | bytes, **fields: Any) -> LoadResult:
    """Write a CSV file and load it through the map of `make_map`."""
    return load(db, write(directory, content), make_map(directory, **fields))


def rejected(db: Database) -> list[tuple[int, str, str]]:
    """(line, reason, raw) of every rejected row."""
    rows = db.rows("select line, reason, raw from ubp.rejected_events order by line, rejected_id")
    return [(row["line"], row["reason"], row["raw"]) for row in rows]


def events(db: Database, columns: str = "user_id, kind") -> list[tuple[Any, ...]]:
    """The events in the order of their ids."""
    return [tuple(row.values()) for row in db.rows(f"select {columns} from ubp.events order by event_id")]
