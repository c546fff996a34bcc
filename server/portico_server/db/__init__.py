"""All SQL of the project: one file per noun with functions of a connection, the schema, and its migrations.

`Database` runs those functions off the event loop. May import core and nothing above it.
"""
