"""Tools for models: each has a name, a JSON schema and a call.

Can import runs, db and core; never engines, knowledge or apps.
"""
