"""From an event kind, any text, to the part of a column name that stands for it."""

import hashlib
import unicodedata

from ubp_sql.errors import BadInput

MAX_KIND_CHARS = 200
MAX_SLUG = 23
"""The longest name, share_<kind>_in_<kind>_36500d, then has the 63 letters that PostgreSQL keeps of an identifier."""
RESERVED = frozenset({"all", "any", "event", "events", "kind", "none", "null", "user"})
"""Words that feature names need for more than one kind, or for none."""


def slug(kind: str) -> str:
    """Column-name form of `kind`: [a-z0-9_], at most MAX_SLUG letters, equal for equal kinds.

    Accents are dropped, other letters, digits and symbols outside ASCII become u<code point>, the rest an underscore;
    a longer slug is cut and ends in six hex digits of the kind's SHA-256.

    Raises BadInput (UB003) on a kind without a letter, digit or symbol, with control characters, or reserved.
    """
    checked_kind(kind)
    words = "".join(_letters(char) for char in unicodedata.normalize("NFKD", kind).lower())
    text = "_".join(word for word in words.split("_") if word)
    if not text:
        raise BadInput(f"event kind {kind!r} has no letter or digit")
    if text in RESERVED:
        raise BadInput(f"event kind {kind!r} is a reserved word", "Give the kind another name in the load map.")
    if len(text) > MAX_SLUG:
        text = f"{text[: MAX_SLUG - 7]}_{hashlib.sha256(kind.encode()).hexdigest()[:6]}"
    return text


def checked_kind(kind: object) -> str:
    """`kind`, if it can be one. Raises BadInput (UB003) on what is not text, too long, or has control characters."""
    if not isinstance(kind, str):
        raise BadInput(f"event kind {kind!r:.60} is not text", "a kind is a text such as view")
    if len(kind) > MAX_KIND_CHARS:
        raise BadInput(f"event kind {kind!r:.60} is longer than {MAX_KIND_CHARS} characters", "give it a shorter name")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in kind):
        raise BadInput(f"event kind {kind!r:.60} holds a control character", "give it another name")
    return kind


def _letters(char: str) -> str:
    if char.isascii():
        return char if char.isalnum() else "_"
    category = unicodedata.category(char)
    if category.startswith("M"):
        return ""
    return f"u{ord(char):x}" if category[0] in "LNS" else "_"
