"""Events of a few of the users."""

from dataclasses import fields

from ubp_sql.features.events import Events


def of_users(events: Events, low: int, high: int) -> Events:
    """The events of users low..high-1, numbered from 0; columns are views where the whole is."""
    span = slice(events.first[low], events.first[high])
    parts = {}
    for field in fields(events):
        column = getattr(events, field.name)
        if isinstance(column, dict):
            parts[field.name] = {name: one[span] for name, one in column.items()}
        elif field.name == "user_id":
            parts[field.name] = column[low:high]
        elif field.name == "first":
            parts[field.name] = column[low : high + 1] - column[low]
        else:
            parts[field.name] = column[span]
    return Events.trusted(**parts)
