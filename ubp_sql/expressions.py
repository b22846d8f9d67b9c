"""The little language of maps: one SQL expression over a row, of a file or of an attached relation.

An expression runs with the rights of whoever loads or reads; the checks here keep it an expression: no second
statement, no sub-select, no comment that swallows what follows, nothing that closes the parenthesis it stands in.
"""

import re
from collections.abc import Iterable, Iterator

from ubp_sql.errors import MapError

_TOKEN = re.compile(
    r"""(?P<escape_string>[eE]'(?:[^'\\]|\\.|'')*')
      | (?P<broken>[eE]')
      | (?P<string>'(?:[^']|'')*')
      | (?P<identifier>"(?:[^"]|"")*")
      | (?P<comment>--|/\*)
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>\d[\w.]*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
# A sub-select needs one of these three; each can still name a column when it is written in double quotes.
_QUERY_WORDS = {"select", "values", "table"}
# Without quotes these are SQL's own values, so a column of that name would be passed over in silence.
_SILENT_WORDS = {
    "user", "current_user", "session_user", "system_user", "current_role", "current_catalog", "current_schema",
    "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
}  # fmt: skip
_CLOSING = {")": "(", "]": "["}


def ascii_lower(text: str) -> str:
    """Lower A-Z only, as PostgreSQL folds unquoted names in a UTF-8 database."""
    return re.sub(r"[A-Z]+", lambda m: m.group().lower(), text)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        yield match.lastgroup or "other", match.group()


def words(text: str) -> set[str]:
    """Every name that the expression might refer to, lower case: unquoted words and quoted names as they stand."""
    found = set()
    for kind, piece in _tokens(text):
        if kind == "word":
            found.add(ascii_lower(piece))
        elif kind == "identifier":
            found.add(piece[1:-1].replace('""', '"'))
    return found


def qualified(text: str) -> set[str]:
    """The names that stand after a dot, as the server keeps them: at most 63 bytes of each."""
    found = set()
    after_dot = False
    for kind, piece in _tokens(text):
        if kind == "space":
            continue
        if after_dot and kind in ("word", "identifier"):
            found |= {name.encode()[:63].decode(errors="ignore") for name in words(piece)}
        after_dot = kind == "other" and piece == "."
    return found


def has_unicode_name(text: str) -> bool:
    """Whether a name is written in the form U&"...", whose escapes `words` does not read."""
    last = ""
    before = ""
    for kind, piece in _tokens(text):
        if kind == "identifier" and last == "&" and before in ("u", "U"):
            return True
        before, last = last, piece
    return False


def check_text(text: str) -> str | None:
    """Why `text` cannot be a single expression, or None where nothing speaks against it (names are checked later)."""
    if not text.strip():
        return "the expression is empty"
    open_brackets: list[str] = []
    after_escape_string = False
    for kind, piece in _tokens(text):
        if kind == "broken":
            return "a ' is not closed"
        if kind == "comment":
            return f"comments are not allowed ({piece})"
        if kind == "word" and ascii_lower(piece) in _QUERY_WORDS:
            return f'a query is not an expression ({piece}); a column of this name is written "{piece}"'
        if kind == "string" and after_escape_string:
            return "a string may not go on after E'...'; join the two with ||"
        if kind != "space":
            after_escape_string = kind == "escape_string"
        if kind != "other":
            continue
        if piece in ";$":
            return f"{piece} is not allowed outside a string"
        if piece in "'\"":
            return f"a {piece} is not closed"
        if piece in "([":
            open_brackets.append(piece)
        elif piece in _CLOSING and (not open_brackets or open_brackets.pop() != _CLOSING[piece]):
            return f"{piece} closes nothing"
        elif piece == "\0":
            return "a NUL character is not allowed"
    return f"{open_brackets[-1]} is not closed" if open_brackets else None


def refuse_silent_words(text: str, columns: Iterable[str], where: str) -> None:
    """Refuse an unquoted word that SQL reads as a value of its own although the file has such a column (MapError)."""
    known = set(columns)
    for kind, piece in _tokens(text):
        name = ascii_lower(piece)
        if kind == "word" and name in _SILENT_WORDS and name in known:
            raise MapError(
                f"{where}: {piece} inside an expression is SQL's own {name}, not the column",
                f'write the column as "{name}", in double quotes',
            )


def is_name(text: str) -> bool:
    """Whether `text`, as the server writes expressions, is one column's name: in double quotes where it needs them."""
    return re.fullmatch(r'[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"', text) is not None


def portable(text: str) -> str:
    """An expression as the server writes it, in a form that no session reads otherwise.

    What a backslash means in '...' is a setting of the session; in E'...' it is not.
    """
    return "".join(
        "E" + piece.replace("\\", "\\\\") if kind == "string" and "\\" in piece else piece
        for kind, piece in _tokens(text)
    )


def column_names(header: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Names of the staging columns for a header: A-Z lowered, anything but letters, digits and _ made _, made unique.

    taken   names that must not be used
    """
    used = set(taken)
    names = []
    for place, text in enumerate(header, 1):
        name = re.sub(r"\W+", "_", ascii_lower(text.strip())) or f"column_{place}"
        if name[0].isdigit():
            name = f"_{name}"
        # An identifier has at most 63 bytes; 55 leave room for the number that makes it unique.
        name = name.encode()[:55].decode(errors="ignore")
        unique, number = name, 1
        while unique in used:
            number += 1
            unique = f"{name}_{number}"
        used.add(unique)
        names.append(unique)
    return names
