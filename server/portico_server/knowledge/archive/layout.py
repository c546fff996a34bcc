"""The words that writing and reading an archive share."""

from __future__ import annotations

import re
from typing import Final

ARCHIVE_FORMAT: Final = "portico-store"
ARCHIVE_VERSION: Final = 1
"""Raised whenever an older Portico could not read what a newer one writes."""

MAX_STORE_BLOBS: Final = 250_000
"""Contents of files in an archive of a store."""

FILES_NAME: Final = "files.jsonl"
CHUNKS_NAME: Final = "chunks.jsonl"
VECTORS_NAME: Final = "vectors.bin"
"""For each chunk in the order of ``chunks.jsonl``: four bytes with the length of its vector, then the vector.

Little-endian; float32. The length is 0 for a chunk without one.
"""

BLOB_NAME: Final = re.compile(r"blobs/([0-9a-f]{64})")

PAGE_ROWS: Final = 500
"""Rows that are in memory at a time."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""Bytes of rows that are read after which those are written first."""
