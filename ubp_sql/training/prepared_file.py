"""A model of one's own and what is to be done to its features, as the one file that is registered."""

import json
from pathlib import Path

from ubp_sql.errors import InvalidModel, UnknownTask
from ubp_sql.models.limits import MAX_TEXT_BYTES
from ubp_sql.models.preparation_document import BEGIN, KEY, together


def behind_preparation(model: bytes, file: Path, names: tuple[str, ...]) -> bytes:
    """The file of a model behind the preparation in another file.

    file   the document that training wrote, or declared steps that learn nothing
    names  the features of the task, in their order

    Raises InvalidModel (UB006), FeatureSetMismatch (UB002), UnknownTask (UB001) where there are no features.
    """
    if model.startswith(BEGIN):
        raise InvalidModel("the model's file has a preparation in it already", "leave --prepare out")
    if file.stat().st_size > MAX_TEXT_BYTES:
        raise InvalidModel(f"{file} has more than {MAX_TEXT_BYTES:,} bytes")
    document = file.read_bytes()
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and KEY in found:
        return together(document, model)
    if not names:
        raise UnknownTask("there is no such task, or its feature set is empty", "select task from ubp.tasks lists them")
    from ubp_sql.training.declared_steps import read_declared
    from ubp_sql.training.prepare import learn

    return together(learn(read_declared(file), names, None).text.encode(), model)
