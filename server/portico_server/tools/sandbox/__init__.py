"""Where code that a model wrote runs: an embedded interpreter, and notebooks behind namespaces.

Nothing here runs code in the daemon's own process. May import runs, db and core.
"""
