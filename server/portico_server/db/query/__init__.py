"""Other people's databases, asked by models and people: reading alone, not for ever, and no more than anybody reads.

``sqlite``, ``duckdb`` and ``postgres`` are one `Source` each; ``source`` finds out which one an address means.
"""
