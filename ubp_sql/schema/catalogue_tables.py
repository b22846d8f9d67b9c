"""Tables of schema `ubp`: what features need beside events: the calendar."""
