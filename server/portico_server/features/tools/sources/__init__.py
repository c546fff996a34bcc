"""Tools that an operator adds: a command, a Python function, or the operations of an HTTP API.

`spec` describes an addition; `command`, `function` and `openapi` turn it into tools; `added` manages all additions.
"""
