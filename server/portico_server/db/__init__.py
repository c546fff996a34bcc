"""All SQL of the project: one module per noun, with functions that take a connection; the schema; and its migrations.

`Database` runs these functions outside the event loop. May import only core.
"""
