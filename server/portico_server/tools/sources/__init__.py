"""Tools that an operator adds: a command, a Python function, the operations of an HTTP API.

`spec` says what was asked for, `command`, `function` and `openapi` make tools of it, `added` holds them all. May
import runs, db and core.
"""
