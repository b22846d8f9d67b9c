"""Tables of schema `ubp`: the event log, the columnar mirror, users to be recomputed."""
