"""Tables of schema `ubp`: refreshes under way."""
