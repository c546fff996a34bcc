"""Cost of finding tools by search compared with listing all: prompt tokens, and whether the right tool is found.

`tool_search.jsonl` has 200 tools, 120 in English and 80 in Chinese, and for 139 of them a user's request with the
query that a chat model writes for it when told to describe in general words what the tool does. A chooser that sees
all tools always takes the right one; with a search it takes the right tool if that is among the five results.

python bench/tool_search.py
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wordllama

from portico_server.core.context import Context
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Request, Vectors
from portico_server.core.servable import Card
from portico_server.core.tool_search import FIND_TOOLS, QUERY_ARGUMENTS, SearchedTool, finding
from portico_server.features.stores.tool_search import ToolIndex

DATA = Path(__file__).with_suffix(".jsonl")


class Embedding:
    """The daemon's bundled embedding model."""

    def __init__(self, vectors: Any) -> None:
        self.card = Card("static", "model", capabilities=frozenset({"embeddings"}))
        self._vectors = vectors

    async def call(self, request: Request, context: Context) -> Vectors:
        assert isinstance(request, Embed)
        rows = self._vectors.embed(list(request.input), norm=True).astype("<f4")
        return Vectors(tuple(row.tobytes() for row in rows), rows.shape[1])


async def main() -> None:
    """Print a line for each language, and a line for the tokens."""
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    tools = [_tool(row) for row in rows]
    vectors = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    registry = Registry()
    registry.add(Embedding(vectors))
    context: Any = SimpleNamespace(caller=LOCAL)
    with_vectors, words = ToolIndex(registry), ToolIndex(Registry())
    registry.aliases.set("default-embedding", "static")
    await with_vectors.best("warm", tools, context)
    for language in ("en", "zh"):
        asked = [n for n, row in enumerate(rows) if row["language"] == language and "request" in row]
        for kind in ("query", "request"):
            began = time.perf_counter()
            hits = [n in await with_vectors.best(rows[n][kind], tools, context) for n in asked]
            spent = (time.perf_counter() - began) / len(asked) * 1e3
            alone = [n in await words.best(rows[n][kind], tools, context) for n in asked]
            print(
                f"{language} {kind:8} hit@5 {sum(hits) / len(hits):.3f} of {len(hits)}   "
                f"words alone {sum(alone) / len(alone):.3f}   {spent:.1f} ms"
            )

    def tokens(value: Any) -> int:
        encoded = vectors.tokenize([json.dumps(value, ensure_ascii=False)])
        return int(sum(encoded[0].attention_mask))

    everything = tokens([_function(tool) for tool in tools])
    search = tokens([_find(len(tools))])
    costs = []
    for row in rows:
        if "query" not in row:
            continue
        found = [tools[place] for place in await with_vectors.best(row["query"], tools, context)]
        shown = tokens([_function(tool) for tool in found])
        spoken = tokens({"name": FIND_TOOLS, "arguments": {"query": row["query"]}})
        spoken += tokens("These tools can be called now:\n" + "\n".join(f"- {tool.name}" for tool in found))
        # Three calls of the model (search, call, answer) instead of two (call, answer).
        costs.append(3 * search + 2 * (shown + spoken))
    mean = sum(costs) / len(costs)
    print(
        f"prompt tokens of a turn for tools: all listed {2 * everything:,}, found {mean:,.0f}: "
        f"{1 - mean / (2 * everything):.1%} fewer"
    )


def _tool(row: Mapping[str, Any]) -> SearchedTool:
    properties = {name: {"type": "string", "description": about} for name, about in row["parameters"].items()}
    schema = {"type": "object", "properties": properties, "required": [next(iter(properties))]}
    return SearchedTool(row["name"], row["description"], schema)


def _function(tool: SearchedTool) -> dict[str, Any]:
    about = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": about}


def _find(count: int) -> dict[str, Any]:
    return _function(SearchedTool(FIND_TOOLS, finding(count), QUERY_ARGUMENTS))


if __name__ == "__main__":
    asyncio.run(main())
