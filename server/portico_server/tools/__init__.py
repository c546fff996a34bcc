"""What a model may use: a name, a JSON schema and a call each.

May import runs, db and core; never engines, knowledge or apps.
"""
