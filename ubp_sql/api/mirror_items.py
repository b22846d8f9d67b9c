"""Attributes of items that changed after the mirror had read them: whose events are about such items.

A statement of today says nothing of events that were known before it, so as a rule nobody's are: only one with a past
`ingested_at`, an UPDATE or DELETE, or a transaction that was under way while later events were folded, finds some.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ubp_sql.api import mirror_store as store

if TYPE_CHECKING:
    from ubp_sql.api.mirror_fold import Said
    from ubp_sql.mirror.encode import Meta

READ = ("t", "ingested", "item")


def with_users_about(plpy: Any, memory: dict[str, Any], said: "Said", runs: "Iterable[Iterable[Meta]]") -> "Said":
    """What the log says with the users of whom some chunk of the runs holds an event that may look otherwise now."""
    if not said.items:
        return said
    import numpy as np

    from ubp_sql.features.events import FAR_US, POSTGRES_EPOCH_US
    from ubp_sql.kernels.dispatch import NO_KEY
    from ubp_sql.mirror.encode import blocks_of, decode
    from ubp_sql.mirror.spill import TOGETHER

    told = np.frombuffer(said.items, ">i8").astype(np.int64).reshape(-1, 3).T
    items = told[0]
    since, known = np.clip(told[1:], -FAR_US, FAR_US - POSTGRES_EPOCH_US) + POSTGRES_EPOCH_US
    earliest = known.min()
    users = set(said.users)
    for chunks in runs:
        late = [meta for meta in chunks if meta.max_ingested_us is not None and meta.max_ingested_us >= earliest]
        for group, _ in blocks_of(late, TOGETHER):
            block = decode(store.events_in(group), store.chunk_rows(plpy, memory, group, READ), READ, ())
            t, ingested, item = (block.columns[name] for name in READ)
            place = np.minimum(np.searchsorted(items, item), len(items) - 1)
            about = (items[place] == item) & (t >= since[place]) & (ingested >= known[place])
            if items[0] == NO_KEY:  # a statement about more items than are told apart
                about |= (t >= since[0]) & (ingested >= known[0])
            about &= item != NO_KEY
            its_user = np.searchsorted(block.first, np.flatnonzero(about), "right") - 1
            users.update(block.user_id[np.unique(its_user)].tolist())
    return said._replace(users=sorted(users), items=b"")
