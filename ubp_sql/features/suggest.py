"""What a mistyped name was meant to be."""

from collections.abc import Collection

# What SQL and data frames call ours.
ELSEWHERE = {"avg": "mean", "average": "mean", "stddev": "std", "nunique": "distinct", "frequency": "count"}


def meant(word: object, known: Collection[str]) -> str:
    """`did you mean 'count'?`, of up to three names; empty where none is like it."""
    from difflib import get_close_matches  # only ever needed for an error

    text = word.strip().lower() if isinstance(word, str) else ""
    same = ELSEWHERE.get(text, text)
    found = [same] if same in known else get_close_matches(text, known, 3)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""
