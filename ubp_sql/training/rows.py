"""Training rows out of the server: the features the server computes, never a second implementation of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

QUERY = "select cut, matured, user_ids, labels, features from ubp.training_matrix(%s, %s)"


@dataclass(frozen=True)
class CutRows:
    """The population at one cut.

    user_ids  (n,) int64
    labels    (n,) uint8    1: the label happened within the horizon, as far as seen
    features  (n, f) float32
    matured   all of the horizon has been seen
    """

    cut: datetime
    matured: bool
    user_ids: NDArray[np.int64]
    labels: NDArray[np.uint8]
    features: NDArray[np.float32]


def fetch(conn: psycopg.Connection[Any], task: str, cuts: Sequence[datetime]) -> list[CutRows]:
    """Rows of the task's population at each cut, in the order of `cuts`."""
    found: dict[datetime, list[CutRows]] = {}
    with conn.cursor(binary=True) as cursor:
        for cut, matured, users, labels, packed in cursor.execute(QUERY, [task, list(cuts)]):
            ids = np.frombuffer(users, "<i8")
            rows = np.frombuffer(packed, "<f4").reshape(len(ids), -1) if len(ids) else np.empty((0, 0), np.float32)
            found.setdefault(cut, []).append(CutRows(cut, matured, ids, np.frombuffer(labels, np.uint8), rows))
    return [_join(parts) for cut in cuts if (parts := found.get(cut))]


def _join(parts: list[CutRows]) -> CutRows:
    filled = [part for part in parts if len(part.user_ids)] or parts[:1]
    return CutRows(
        parts[0].cut,
        parts[0].matured,
        np.concatenate([part.user_ids for part in filled]),
        np.concatenate([part.labels for part in filled]),
        np.concatenate([part.features for part in filled]),
    )
