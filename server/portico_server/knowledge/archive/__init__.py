"""A store as one portable file: written as a stream, checked before it is restored.

A zip archive with ``manifest.json`` (what it is, what is in it, a SHA-256 of each other entry), ``files.jsonl``,
``chunks.jsonl``, ``vectors.bin`` and the bytes of each file under ``blobs/``. May import what knowledge may.
"""
