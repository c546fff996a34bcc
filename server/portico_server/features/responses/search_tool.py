"""``file_search``: numbered passages of stores, which a model can cite."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from portico.wire import Cited, Event, Passage
from portico_server.core.context import Context, ContextWithin, Listener
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.core.request import CalledTool, Chat, Filter, Result, Search, SearchResult
from portico_server.core.servable import Card, Servable
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
    filters = _filters(bench, tool, at)
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
    index = await _begin(bench, query)
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
        done_event = bench.machine.finish(
            index, status="failed", **{MODEL_OUTPUT: f"The search failed: {error.message}"}
        )
        await bench.emit([done_event])
        return
    if not bench.repeated:
        bench.passages += passages
        await bench.context.emit(Cited(tuple(bench.passages)))
    text = "\n\n".join(f"[{p.rank}] {p.filename} {p.place.label()}\n{p.text}" for p in passages)
    text = overview.text if overview is not None else text or "Nothing was found."
    text = cut(f"{text}\n\n{CITE}") if passages else text
    if bench.repeated:
        text = f"{text}\n\nThis was searched for before. Answer now."
    await _complete(bench, index, passages, **{MODEL_OUTPUT: text})


async def _begin(bench: ToolContext, query: str) -> int:
    """Start the item of a search, and return its index."""
    machine = bench.machine
    item = {"id": machine.mint("fs_"), "type": "file_search_call", "status": "in_progress"}
    index, events = machine.add({**item, "queries": [query] if query else [], "results": None})
    events += [
        machine.tell(index, "response.file_search_call.in_progress"),
        machine.tell(index, "response.file_search_call.searching"),
    ]
    await bench.emit(events)
    return index


async def _complete(bench: ToolContext, index: int, passages: Sequence[Passage], **changes: str) -> None:
    """Complete the item of a search with its passages."""
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
    completed_event = bench.machine.tell(index, "response.file_search_call.completed")
    done_event = bench.machine.finish(index, status="completed", results=results, **changes)
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


async def app_in_place_of(bench: ToolContext, model: Card, options: Mapping[str, Any]) -> SearchingApp | None:
    """Return the app that answers in place of a model that cannot search, or ``None`` if the model must answer.

    The app answers if the model failed its test as a reader, may call only ``file_search``, and may answer in plain
    text. ``options`` are the options of the chat with the model.
    """
    offered_names = [tool["function"]["name"] for tool in options.get("tools") or ()]
    if offered_names != ["file_search"] or options.get("tool_choice") == "none":
        return None
    if options.get("response_format") or options.get("logprobs"):
        return None
    tools = [
        (f"tools[{number}]", tool)
        for number, tool in enumerate(bench.ask.tools)
        if isinstance(tool, FileSearchTool)
    ]
    if len(tools) != 1 or not await bench.around.store_apps.quotes(model):
        return None
    [(at, tool)] = tools
    filters = _filters(bench, tool, at)
    caller = bench.context.caller
    stores = [(await bench.around.registry.resolve(f"store/{name}", caller)).card for name in tool.stores]
    if filters is not None:  # a table or an overview would include files that do not match
        stores = [replace(card, capabilities=card.capabilities - {"tables"}) for card in stores]
    app = SearchingApp(bench, tool, at, filters)
    app.servable = bench.around.registry.admit(
        await bench.around.store_apps.answer_for(model, stores, app.find), caller
    )
    return app


class SearchingApp:
    """An app that answers a request, and whose search is an item of the response."""

    servable: Servable

    def __init__(self, bench: ToolContext, tool: FileSearchTool, at: str, filters: Filter | None) -> None:
        self._bench = bench
        self._tool = tool
        self._at = at
        self._filters = filters
        self._is_shown = False

    async def call(self, chat: Chat, listen: Listener) -> Result:
        """Answer a chat. ``listen`` receives the events."""
        question = str(chat.messages[-1]["content"])

        async def pass_on(event: Event) -> None:
            if isinstance(event, Cited) and not self._is_shown:  # the answer was computed without a search
                await self._show(question, event.passages)
            await listen(event)

        return await self.servable.call(chat, _AppContext(self._bench.context, pass_on))

    async def find(self, search: Search, context: Context, listener: Listener | None) -> SearchResult:
        """Search all stores of the tool with the settings of the tool and of the app."""
        tool_search = self._tool.search(search.query, self._filters)
        search = replace(
            search,
            max_num_results=min(search.max_num_results, self._tool.most),
            filters=tool_search.filters,
            score_threshold=tool_search.score_threshold,
            ranker=tool_search.ranker,
            vector_weight=tool_search.vector_weight,
        )
        index = await _begin(self._bench, search.query)
        self._is_shown = True
        results: list[SearchResult] = []
        try:
            for store in self._tool.stores:
                result = await context.call(f"store/{store}", search, listener=listener)
                assert isinstance(result, SearchResult)
                results.append(result)
        except PorticoError as error:
            if error.param == "filters":
                error.param = f"{self._at}.filters"
            await self._bench.emit([self._bench.machine.finish(index, status="failed")])
            raise
        result = results[0] if len(results) == 1 else _merge(results, search.max_num_results)
        await _complete(self._bench, index, result.passages)
        return result

    async def _show(self, question: str, passages: Sequence[Passage]) -> None:
        self._is_shown = True
        await _complete(self._bench, await _begin(self._bench, question), passages)


class _AppContext(ContextWithin):
    """A context that sends the events of an app to ``listen``."""

    __slots__ = ("_listen",)

    def __init__(self, outer: Context, listen: Listener) -> None:
        super().__init__(outer)
        self._listen = listen

    def emit(self, event: Event) -> Awaitable[None]:
        return self._listen(event)


def _merge(results: Sequence[SearchResult], max_results: int) -> SearchResult:
    """Return the best passages of several stores, with the names in them."""
    pairs: list[tuple[Passage, tuple[str, ...]]] = []
    for result in results:
        pairs += zip(result.passages, result.names or ((),) * len(result.passages), strict=True)
    pairs = sorted(pairs, key=lambda pair: -pair[0].score)[:max_results]
    counts = [result.files for result in results if result.files is not None]
    return SearchResult(
        tuple(replace(passage, rank=rank) for rank, (passage, _names) in enumerate(pairs, 1)),
        files=sum(counts) if len(counts) == len(results) else None,
        waiting=sum(result.waiting for result in results),
        names=tuple(names for _passage, names in pairs),
    )


def _filters(bench: ToolContext, tool: FileSearchTool, at: str) -> Filter | None:
    return None if tool.filters is None else bench.around.filters(tool.filters, f"{at}.filters")
