"""Linear models as a JSON document: what `ubp-sql train --model linear` writes, and any other tool may.

    {"ubp_linear": 1, "features": ["a", "b"], "weights": [[0.5, -1.25]], "bias": [0.1], "link": "sigmoid",
     "objective": "logistic regression"}

A row of weights and a bias for each output; each sum is its bias, to which weight * feature is added in the order of
the features. A missing feature has no value of its own: a preparation in front fills it in.
"""

from __future__ import annotations

import json
import math
from array import array
from itertools import chain

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.kernels import forest_codes
from ubp_sql.models.document import Table
from ubp_sql.models.json_text import read_json
from ubp_sql.models.limits import MAX_FEATURES, MAX_OUTPUTS, MAX_TEXT_BYTES, MAX_WEIGHTS
from ubp_sql.models.linear import Linear
from ubp_sql.models.parsed import Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
BEGIN = b'{"ubp_linear"'
LINKS = {"identity": forest_codes.IDENTITY, "sigmoid": forest_codes.SIGMOID}
LINKS |= {"softmax": forest_codes.SOFTMAX, "exp": forest_codes.EXP}
_FIELDS = {"ubp_linear", "features", "weights", "bias", "link", "objective"}


def parse(data: bytes) -> Parsed:
    """The model in a document. Raises InvalidModel (UB006), UnsupportedModel (UB007) for another version."""
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidModel(f"the document has {len(data)} bytes, at most {MAX_TEXT_BYTES} are read")
    document = Table(read_json(data), "linear")
    version = document.integer("ubp_linear", 0, 9_999)
    if version != VERSION:
        raise UnsupportedModel(f"the linear model has version {version}, known is {VERSION}", "upgrade the package")
    if unknown := sorted(set(document.found) - _FIELDS):
        raise InvalidModel(f"linear: there is no field {unknown[0][:60]!a}")
    names, rows, link = document.items("features"), document.items("weights"), document.text("link")
    if not 0 < len(names) <= MAX_FEATURES or not all(isinstance(name, str) and name for name in names):
        raise InvalidModel(f"linear.features: expected 1 to {MAX_FEATURES} names")
    if len(set(names)) < len(names):
        raise InvalidModel("linear.features: a name comes twice")
    if not 0 < len(rows) <= MAX_OUTPUTS or len(rows) * len(names) > MAX_WEIGHTS:
        raise InvalidModel(f"linear.weights: {len(rows)} rows for {len(names)} features")
    if link not in LINKS:
        raise InvalidModel(f"linear.link: {link[:60]!a} is none of {', '.join(LINKS)}")
    weight = array("d", chain.from_iterable(document.rows("weights", len(names))))
    objective = document.text("objective", "linear")
    if not 0 < len(objective) <= 100 or not objective.isprintable():
        raise InvalidModel("linear.objective: expected a text of 1 to 100 characters")
    missing = [math.nan if any(weight[i :: len(names)]) else 0.0 for i in range(len(names))] * len(rows)
    linear = Linear(weight, missing, document.numbers("bias", len(rows)), LINKS[link])
    linear.validate()
    return Parsed(linear, tuple(names), objective, 0)


def write(
    names: Sequence[str], weights: Sequence[Sequence[float]], bias: Sequence[float], link: str, objective: str
) -> bytes:
    """The document of a model. Raises ValueError where a number is not finite."""
    document = {
        "ubp_linear": VERSION,
        "features": list(names),
        "weights": [list(row) for row in weights],
        "bias": list(bias),
        "link": link,
        "objective": objective,
    }
    return json.dumps(document, allow_nan=False).encode()
