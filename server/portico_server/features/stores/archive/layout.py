"""Names and limits shared by the writer and the reader of archives."""

from __future__ import annotations

import re
from typing import Final

ARCHIVE_FORMAT: Final = "portico-store"
ARCHIVE_VERSION: Final = 1
"""Version of the archive format. Increased whenever the format changes so that an older Portico could not read it."""

MAX_STORE_BLOBS: Final = 250_000
"""Maximum number of different file contents in an archive of a store."""

FILES_NAME: Final = "files.jsonl"
CHUNKS_NAME: Final = "chunks.jsonl"
VECTORS_NAME: Final = "vectors.bin"
"""Entry with the vectors of the chunks, in the order of ``chunks.jsonl``.

For each chunk: four bytes with the length of its vector in bytes, then the vector. Little-endian; float32. The length
is 0 for a chunk without a vector.
"""

BLOB_NAME: Final = re.compile(r"blobs/([0-9a-f]{64})")

PAGE_ROWS: Final = 500
"""Maximum number of rows read into memory at a time."""

PAGE_BYTES: Final = 16 * 1024 * 1024
"""Number of bytes after which a page of rows is written before more rows are read."""
