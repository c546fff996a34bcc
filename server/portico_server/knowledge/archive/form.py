"""The words that writing and reading an archive share."""

from __future__ import annotations

import re
from typing import Final

FORMAT: Final = "portico-store"
VERSION: Final = 1
"""Raised whenever an older Portico could not read what a newer one writes."""

FILES: Final = "files.jsonl"
CHUNKS: Final = "chunks.jsonl"
VECTORS: Final = "vectors.bin"
"""For each chunk in the order of ``chunks.jsonl``: four bytes with the length of its vector, then the vector.

Little-endian; float32. The length is 0 for a chunk without one.
"""

BLOB: Final = re.compile(r"blobs/([0-9a-f]{64})")

PAGE: Final = 500
"""Rows that are in memory at a time."""
