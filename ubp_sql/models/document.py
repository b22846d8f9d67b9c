"""What a JSON or UBJ document is read into: dict, list, str, bool, None, int and float; a list of numbers is an array.

Counted while it is read, so that nothing grows beyond the limits, whatever the bytes say.
"""

from __future__ import annotations

from array import array
from typing import Any

from ubp_sql.errors import InvalidModel
from ubp_sql.models.limits import MAX_DOCUMENT_NUMBERS, MAX_DOCUMENT_VALUES

MAX_DEPTH = 16  # XGBoost's have 8


class Budget:
    """What may still be read of a document."""

    def __init__(self) -> None:
        self.values = MAX_DOCUMENT_VALUES
        self.numbers = MAX_DOCUMENT_NUMBERS

    def value(self, depth: int, at: int) -> None:
        """One more value, `depth` levels down."""
        self.values -= 1
        if depth > MAX_DEPTH:
            raise InvalidModel(f"byte {at}: the document is nested more than {MAX_DEPTH} deep")
        if self.values < 0:
            raise InvalidModel(f"byte {at}: the document has more than {MAX_DOCUMENT_VALUES} values")

    def array(self, count: int, at: int) -> None:
        """One more list of numbers."""
        self.numbers -= count
        if self.numbers < 0:
            raise InvalidModel(f"byte {at}: the document has more than {MAX_DOCUMENT_NUMBERS} numbers in its lists")


class Table:
    """A table of a document with the place it has there, for errors that say where."""

    def __init__(self, found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise InvalidModel(f"{where}: expected a table of names and values")
        self.found, self.where = found, where

    def place(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str, default: Any = None) -> Any:
        return self.found.get(key, default)

    def need(self, key: str) -> Any:
        if key not in self.found:
            raise InvalidModel(f"{self.place(key)} is missing")
        return self.found[key]

    def table(self, key: str) -> Table:
        return Table(self.need(key), self.place(key))

    def text(self, key: str, default: str | None = None) -> str:
        found = self.need(key) if default is None else self.found.get(key, default)
        if not isinstance(found, str):
            raise InvalidModel(f"{self.place(key)}: expected a text")
        return found

    def items(self, key: str) -> list[Any]:
        """A list of anything but numbers; an empty one may be of anything."""
        found = self.found.get(key, [])
        if isinstance(found, array) and not found:
            return []
        if not isinstance(found, list):
            raise InvalidModel(f"{self.place(key)}: expected a list")
        return found

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number, which XGBoost writes as text."""
        found = self.need(key) if default is None else self.found.get(key, default)
        if isinstance(found, str) and found.isascii() and found.removeprefix("-").isdigit() and len(found) < 20:
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
            raise InvalidModel(f"{self.place(key)}: expected a whole number from {low} to {high}")
        return found

    def numbers(self, key: str, count: int | None) -> array[float]:
        """A list of numbers as float64."""
        found = self.need(key)
        if isinstance(found, list) and all(isinstance(value, int | float) for value in found):
            # UBJ has lists without a type; flags were true and false once.
            found = array("d", found)
        if not isinstance(found, array):
            raise InvalidModel(f"{self.place(key)}: expected a list of numbers")
        if count is not None and len(found) != count:
            raise InvalidModel(f"{self.place(key)}: expected {count} numbers, found {len(found)}")
        return found if found.typecode == "d" else array("d", found)

    def rows(self, key: str, width: int) -> list[array[float]]:
        """A list of lists of `width` numbers."""
        rows = {f"{key}[{k}]": row for k, row in enumerate(self.items(key))}
        table = Table(rows, self.where)
        return [table.numbers(name, width) for name in rows]

    def integers(self, key: str, count: int | None, low: int, high: int) -> list[int]:
        """A list of whole numbers."""
        found = self.numbers(key, count).tolist()
        # NaN is neither: it is caught before int() would raise.
        wrong = next((v for v in found if not (low <= v <= high and v.is_integer())), None)
        if wrong is not None:
            raise InvalidModel(f"{self.place(key)}: {wrong!r} is no whole number from {low} to {high}")
        return list(map(int, found))
