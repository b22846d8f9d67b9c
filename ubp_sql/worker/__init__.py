"""A process beside the server that computes what is too much for one: on a GPU where there is one."""
