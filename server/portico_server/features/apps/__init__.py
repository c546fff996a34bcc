"""Apps that answer users: chat apps built from stores, models and tools, which they access only through the context.

May import runs, db and core, but not engines, knowledge or tools.
"""
