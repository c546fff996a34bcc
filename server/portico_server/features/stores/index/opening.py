"""Opens the indexes of a store in a worker thread, because importing their libraries would block the event loop."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from portico._installed import how_to_add
from portico_server.core.errors import Unavailable
from portico_server.features.readers.pool import TermPrefetch

if TYPE_CHECKING:
    from portico_server.features.stores.index.lexical import LexicalIndex
    from portico_server.features.stores.index.qdrant import QdrantIndex
    from portico_server.features.stores.index.vector import VectorIndex


def open_lexical(folder: Path, ahead: TermPrefetch) -> LexicalIndex:
    """Open the lexical index in a folder."""
    from portico_server.features.stores.index.lexical import LexicalIndex

    return LexicalIndex(folder, ahead)


def open_vectors(folder: Path) -> VectorIndex:
    """Open the vector index in ``folder``, and delete the indexes of other models in the same parent folder."""
    from portico_server.features.stores.index.vector import VectorIndex

    _delete_other_models(folder)
    return VectorIndex(folder)


def open_qdrant(folder: Path) -> QdrantIndex:
    """Do the same as `open_vectors` with Qdrant Edge. Raises `Unavailable` if its package is not installed."""
    if find_spec("qdrant_edge") is None:
        raise Unavailable(
            "The vectors of this store are in Qdrant Edge, whose package is not installed on this daemon: "
            f"{how_to_add('qdrant')}",
            code="index_unavailable",
        )
    from portico_server.features.stores.index.qdrant import QdrantIndex

    _delete_other_models(folder)
    return QdrantIndex(folder)


def _delete_other_models(folder: Path) -> None:
    if folder.parent.is_dir():
        for path in folder.parent.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)
            elif path != folder:
                shutil.rmtree(path, ignore_errors=True)
