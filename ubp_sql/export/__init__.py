"""The second tier: a model and its features as plain SQL and PL/pgSQL, for servers that take no untrusted language."""
