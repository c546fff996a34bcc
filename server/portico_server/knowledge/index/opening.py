"""Opens the indexes of a store in a worker thread, because importing their libraries would block the event loop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from portico_server.knowledge.parse.pool import TermPrefetch

if TYPE_CHECKING:
    from portico_server.knowledge.index.lexical import LexicalIndex
    from portico_server.knowledge.index.vector import VectorIndex


def open_lexical(folder: Path, ahead: TermPrefetch) -> LexicalIndex:
    """Open the lexical index in a folder."""
    from portico_server.knowledge.index.lexical import LexicalIndex

    return LexicalIndex(folder, ahead)


def open_vectors(folder: Path) -> VectorIndex:
    """Open the vector index in ``folder``, and delete the indexes of other models in the same parent folder."""
    from portico_server.knowledge.index.vector import VectorIndex

    if folder.parent.is_dir():  # vectors of another model
        for path in folder.parent.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)
            elif path != folder:
                shutil.rmtree(path, ignore_errors=True)
    return VectorIndex(folder)
