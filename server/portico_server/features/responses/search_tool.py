"""``file_search``: numbered passages of stores, which a model can cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from portico.wire import Cited, Passage
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.core.request import CalledTool, Filter, SearchResult
from portico_server.core.tool_search import QUERY_ARGUMENTS
from portico_server.features.agents.tools import cut
from portico_server.features.responses.items import MODEL_OUTPUT
from portico_server.features.responses.request import FileSearchTool
from portico_server.features.responses.tool_context import OfferedTool, ToolContext

if TYPE_CHECKING:
    from portico_server.features.answers.tables.answer import ComputedAnswer

CITE: Final = "Point at the passages that you use by their numbers in brackets, such as [1]."


async def search_call(bench: ToolContext, tool: FileSearchTool, at: str) -> None:
    """Offer a search in the stores that a request names. Raises `NotFound`, `Forbidden`, `InvalidRequest`."""
    filters = None if tool.filters is None else bench.around.filters(tool.filters, f"{at}.filters")
    about = []
    for number, store in enumerate(tool.stores):
        try:
            card = (await bench.around.registry.resolve(f"store/{store}", bench.context.caller)).card
        except NotFound as error:
            raise NotFound(
                error.message, code="vector_store_not_found", param=f"{at}.vector_store_ids[{number}]"
            ) from error
        about.append(f"'{card.name}' ({card.description})" if card.description else f"'{card.name}'")

    async def use(_call: CalledTool, arguments: Mapping[str, Any]) -> None:
        await _search(bench, tool, filters, str(arguments.get("query") or "").strip())

    description = f"Search in the documents of {', '.join(about)}. {CITE}"
    bench.offers["file_search"] = OfferedTool("file_search", description, QUERY_ARGUMENTS, use, "file_search")


async def _search(bench: ToolContext, tool: FileSearchTool, filters: Filter | None, query: str) -> None:
    machine = bench.machine
    item = {"id": machine.mint("fs_"), "type": "file_search_call", "status": "in_progress"}
    index, events = machine.add({**item, "queries": [query] if query else [], "results": None})
    events += [
        machine.tell(index, "response.file_search_call.in_progress"),
        machine.tell(index, "response.file_search_call.searching"),
    ]
    await bench.emit(events)
    try:
        if not query:
            raise InvalidRequest("It needs 'query', a text.")
        normalized_query = " ".join(query.casefold().split())
        bench.repeated = normalized_query in bench.searched
        overview = None
        if bench.repeated:
            passages = bench.searched[normalized_query]
        elif (overview := await _overview(bench, tool, query)) is not None:
            passages = overview.passages
        else:
            passages = await _find(bench, tool, filters, query)
        bench.searched[normalized_query] = passages
    except PorticoError as error:
        done_event = machine.finish(
            index, status="failed", **{MODEL_OUTPUT: f"The search failed: {error.message}"}
        )
        await bench.emit([done_event])
        return
    if not bench.repeated:
        bench.passages += passages
        await bench.context.emit(Cited(tuple(bench.passages)))
    results = [
        {
            "file_id": passage.file_id,
            "filename": passage.filename,
            "score": passage.score,
            "text": passage.text,
            "attributes": dict(passage.attributes),
        }
        for passage in passages
    ]
    text = "\n\n".join(f"[{p.rank}] {p.filename} {p.place.label()}\n{p.text}" for p in passages)
    text = overview.text if overview is not None else text or "Nothing was found."
    text = cut(f"{text}\n\n{CITE}") if passages else text
    if bench.repeated:
        text = f"{text}\n\nThis was searched for before. Answer now."
    completed_event = machine.tell(index, "response.file_search_call.completed")
    done_event = machine.finish(index, status="completed", results=results, **{MODEL_OUTPUT: text})
    await bench.emit([completed_event, done_event])


async def _overview(bench: ToolContext, tool: FileSearchTool, query: str) -> ComputedAnswer | None:
    """Return the answer to a question about the whole stores. It has its own numbers, so only the first search of a
    response can have such an answer.
    """
    if tool.filters is not None or bench.passages:
        return None
    # The patterns of the module compile for 20 ms.
    from portico_server.features.answers.overview import answer_overview

    return await answer_overview(query, [f"store/{store}" for store in tool.stores], bench.context)


async def _find(
    bench: ToolContext, tool: FileSearchTool, filters: Filter | None, query: str
) -> Sequence[Passage]:
    """Return the best passages of all stores, numbered from where earlier searches stopped."""
    passages: list[Passage] = []
    for store in tool.stores:
        result = await bench.context.call(f"store/{store}", tool.search(query, filters))
        assert isinstance(result, SearchResult)
        passages += result.passages
    passages.sort(key=lambda passage: -passage.score)
    first = len(bench.passages) + 1
    return [replace(passage, rank=rank) for rank, passage in enumerate(passages[: tool.most], first)]
