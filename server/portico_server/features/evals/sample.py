"""Evaluation of one item: messages go in and an answer comes out, or a question goes in and passages come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from portico.wire import Passage, Usage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import Chat, ChatReply, Filter, Message, Refine, Search, SearchResult, Steps
from portico_server.db.evals import ItemRow
from portico_server.features.evals.source import DataSource
from portico_server.features.grading.grade import ModelAnswer
from portico_server.features.grading.template import fill, filled

Filters = Callable[[Any, str], Filter]


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer: its text for graders and people, and the tokens used. ``document`` is the part that is stored."""

    answer: ModelAnswer
    document: Mapping[str, Any]
    usage: Usage = Usage()
    model: str = ""


async def sample(source: DataSource, row: ItemRow, context: Context, filters: Filters) -> Sample:
    """Return the answer for an item. Raises `PorticoError`."""
    if source.kind == "jsonl":
        return _given_sample(row)
    if source.kind == "retrieval":
        query = fill(source.query, {"item": row.item})
        search_result = await context.call(f"store/{source.target}", searching(source.search, query, filters))
        assert isinstance(search_result, SearchResult)
        passages = [_passage(passage) for passage in search_result.passages]
        text = "\n\n".join(passage.text for passage in search_result.passages)
        answer = ModelAnswer(text, row.item, {"retrieved": passages})
        return Sample(answer, _document([{"role": "user", "content": query}], text, retrieved=passages))
    messages = _messages(source, row.item)
    reply = await context.call(source.target, Chat(messages, source.options))
    assert isinstance(reply, ChatReply)
    extra_fields: dict[str, Any] = {}
    if reply.tool_calls:
        extra_fields["output_tools"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}, "id": call.id}
            for call in reply.tool_calls
        ]
    if reply.citations:
        extra_fields["retrieved"] = [_passage(passage) for passage in reply.citations]
    model = reply.model or source.target
    document = _document(
        messages, reply.content, **extra_fields, finish_reason=reply.finish_reason, model=model
    )
    return Sample(ModelAnswer(reply.content, row.item, extra_fields), document, reply.usage, source.target)


def _given_sample(row: ItemRow) -> Sample:
    """Return the answer that was supplied with the item."""
    sample_fields = dict(row.sample or {})
    text = sample_fields.pop("output_text", "")
    if not isinstance(text, str):
        raise InvalidRequest("The 'output_text' of a sample must be a string.", code="invalid_sample")
    sample_fields.pop("output_json", None)
    return Sample(ModelAnswer(text, row.item, sample_fields), _document([], text, **sample_fields))


def _document(messages: Any, text: str, **extra_fields: Any) -> dict[str, Any]:
    return {"input": list(messages), "output": [{"role": "assistant", "content": text}], **extra_fields}


def _passage(passage: Passage) -> dict[str, Any]:
    return {"file_id": passage.file_id, "filename": passage.filename, "score": passage.score}


def _messages(source: DataSource, item: Mapping[str, Any]) -> tuple[Message, ...]:
    sources = {"item": item}
    if not source.reference:
        return tuple(
            {"role": message["role"], "content": filled(message["content"], sources)}
            for message in source.messages
        )
    messages: Any = item
    for name in source.reference.strip("{} ").split(".")[1:]:
        messages = messages.get(name) if isinstance(messages, Mapping) else None
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, Mapping) for message in messages)
    ):
        raise InvalidRequest(
            f"'{source.reference.strip('{} ')}' of this item is not a list of messages.", code="invalid_item"
        )
    return tuple({**message, "content": filled(message.get("content"), sources)} for message in messages)


def searching(settings: Mapping[str, Any], query: str, filters: Filters) -> Search:
    """Return a search request with the fields of ``search_params``. Raises `InvalidRequest` for an invalid value."""
    refine = {name: settings[name] for name in Refine.__dataclass_fields__ if name in settings}
    own_settings = {
        name: settings[name]
        for name in (
            "max_num_results",
            "score_threshold",
            "ranker",
            "vector_weight",
            "infer_filters",
            "links",
        )
        if name in settings
    }
    search = Search(
        query,
        **own_settings,
        groups=tuple(_texts(settings.get("groups"))),
        refine=replace(Refine(), **refine),
    )
    if settings.get("steps", "off") != "off":
        search = replace(search, steps=_steps(settings["steps"], settings.get("steps_model", "")))
    if "filters" in settings:
        search = replace(search, filters=filters(settings["filters"], "search_params.filters"))
    return _within(search)


def _steps(value: Any, model: Any) -> Steps:
    if value != "auto" and (type(value) is not int or not 2 <= value <= 4):
        raise InvalidRequest(
            "'search_params.steps' must be off, auto or a number from 2 to 4.", param="search_params.steps"
        )
    if not isinstance(model, str):
        raise InvalidRequest("'search_params.steps_model' must be a name.", param="search_params.steps_model")
    return Steps(0 if value == "auto" else value, model)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidRequest("'search_params.groups' must be a list of names.", param="search_params.groups")
    return value


_RANGES: Final = {
    "max_num_results": (1, 50, int),
    "score_threshold": (0, 1, int | float),
    "vector_weight": (0, 1, int | float),
    "half_life_days": (0, 1e6, int | float),
    "near_duplicates": (0, 1, int | float),
    "diversity": (0, 1, int | float),
    "neighbours": (0, 10, int),
}
_WORDS: Final = {
    "ranker": ("auto", "lexical", "vector", "hybrid", "rrf"),
    "rewrite": ("", "rewrite", "decompose", "hyde", "replace"),
}
_NAMES: Final = ("writer", "decay_by", "reranker", "parents")


def _within(search: Search) -> Search:
    """Return the search request after checking that stores accept its values."""

    def of(name: str) -> Any:
        return getattr(search, name) if hasattr(search, name) else getattr(search.refine, name)

    for name, (low, high, kinds) in _RANGES.items():
        value = of(name)
        if value is None and name == "vector_weight":
            continue
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            expectation = "a whole number" if kinds is int else "a number"
            raise InvalidRequest(
                f"'search_params.{name}' must be {expectation} from {low:g} to {high:g}.",
                param=f"search_params.{name}",
            )
    for name, words in _WORDS.items():
        if of(name) not in words:
            raise InvalidRequest(
                f"'search_params.{name}' must be one of {', '.join(word for word in words if word)}.",
                param=f"search_params.{name}",
            )
    if not isinstance(search.infer_filters, bool):
        raise InvalidRequest(
            "'search_params.infer_filters' must be true or false.", param="search_params.infer_filters"
        )
    if not isinstance(search.links, bool | None):
        raise InvalidRequest("'search_params.links' must be true or false.", param="search_params.links")
    for name in _NAMES:
        if not isinstance(of(name), str):
            raise InvalidRequest(f"'search_params.{name}' must be a name.", param=f"search_params.{name}")
    return search
