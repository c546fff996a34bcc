"""External databases that models and people query: read-only, with limits on time and size.

Opens PostgreSQL databases, and files of SQLite and DuckDB; ``source`` selects the implementation by the address.
"""
