"""A store as one portable file: written as a stream, and validated before it is restored.

A zip archive with ``manifest.json`` (its format, its contents, and a SHA-256 of each other entry), ``files.jsonl``,
``chunks.jsonl``, ``vectors.bin`` and the bytes of each file under ``blobs/``. May import what knowledge may.
"""
