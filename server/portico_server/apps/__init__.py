"""What answers people: chat apps made of stores, models and tools, which they reach through the context
alone.

May import runs, db and core; never engines, knowledge or tools.
"""
