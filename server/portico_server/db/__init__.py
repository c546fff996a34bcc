"""All SQL of the project: one file per noun with functions of a connection, the schema, and its migrations.

`Database` runs these functions outside the event loop. May import only core.
"""
