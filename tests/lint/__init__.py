"""The project's own rules, run by `make check` as `python -m tests.lint`; test_lint.py breaks each and sees it fail.

A rule takes the repository's root and returns one line a breach, `file:line: what`.
"""
