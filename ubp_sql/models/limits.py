"""What a model may hold at most, and the foreign formats told apart by their first bytes.

The limits are checked before anything is allocated. They are far above what a useful model needs and low enough that
the largest accepted text is parsed in one to two seconds (LightGBM writes some 115 bytes a leaf).
"""

MAX_TEXT_BYTES = 32 * 1024 * 1024
MAX_FEATURES = 10_000
MAX_TREES = 10_000
MAX_LEAVES = 300_000  # of all trees together
MAX_OUTPUTS = 1_000
MAX_CATEGORY_WORDS = 1_000_000  # of 32 categories, of all sets together
MAX_DOCUMENT_VALUES = 300_000  # of a JSON or UBJ document: lists, tables, texts, numbers; XGBoost has 24 a tree
MAX_DOCUMENT_NUMBERS = 12 * 2 * MAX_LEAVES  # in its lists of numbers: XGBoost writes eleven a node
MAX_WEIGHTS = 1_000_000  # of a linear model

_UNPACK = "unpack it first; only the model's own text is read"
_FORMATS: tuple[tuple[str, str | None, tuple[bytes, ...]], ...] = (
    (
        "a Python pickle",
        "a pickle runs code when it is opened; export the model with booster.save_model('model.txt')",
        (
            b"\x80",
            b"ccopy_reg\n",
            b"c__builtin__\n",
            b"cbuiltins\n",
            b"cos\n",
            b"cposix\n",
            b"clightgbm",
            b"(l",
            b"(d",
            b"(i",
            b"}q",
            b"]q",
        ),
    ),
    (
        "an archive or a compressed file",
        _UNPACK,
        (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    ),
    ("a text with a byte-order mark", "save it as plain UTF-8", (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")),
    ("a JSON document", "export with booster.save_model('model.txt'), not dump_model()", (b"{", b"[")),
    ("a NumPy array", None, (b"\x93NUMPY",)),
    ("an HDF5 file", None, (b"\x89HDF",)),
    ("a program", None, (b"\x7fELF", b"MZ")),
)


def other_format(data: bytes) -> tuple[str, str | None] | None:
    """Name of the foreign format that `data` begins like, and a hint; None when it is none of those known."""
    for name, hint, prefixes in _FORMATS:
        if data.startswith(prefixes):
            return name, hint
    return None
