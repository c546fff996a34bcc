"""External databases, queried by models and people: read-only, with a time limit and a size limit.

``sqlite``, ``duckdb`` and ``postgres`` each implement a `Source`; ``source`` selects one by the address.
"""
