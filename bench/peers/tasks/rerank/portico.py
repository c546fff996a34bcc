"""Search and reranking by a chat model, with Portico."""

import json
from pathlib import Path

from portico import Client

with Client() as client:
    breads = {"name": "breads", "folder": "documents"}
    client.apply({"stores": [breads]}, folder=str(Path.cwd()))
    synced = client.runs.wait(client.stores.sync("breads"))
    if synced.error:
        raise SystemExit(synced.error.message)
    found = client.search(
        "breads", "Which bread is baked without yeast?", max_num_results=3, reranker="default"
    )
print(json.dumps([passage.filename for passage in found.passages]))
