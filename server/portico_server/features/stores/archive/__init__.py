"""A store as one portable file, which is written as a stream and validated before it is restored.

The file is a zip archive with ``manifest.json`` (the format, the contents, and a SHA-256 of each other entry),
``files.jsonl``, ``chunks.jsonl``, ``vectors.bin`` and the bytes of each file under ``blobs/``.
"""
