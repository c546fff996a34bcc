"""Builds the graph of a shard of Qdrant Edge: ``python -m portico_server.features.stores.index.qdrant_graph SHARD``."""

from __future__ import annotations

import os
import sys

import qdrant_edge


def main(path: str) -> None:
    """Build the graph, and write it to the files of the shard."""
    os.nice(10)
    shard = qdrant_edge.EdgeShard.load(path)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1])
