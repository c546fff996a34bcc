"""The data source of a run: OpenAI's data sources, and Portico's own for search results of a store. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias, cast

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.features.evals.criteria import as_template
from portico_server.features.grading import template

Kind: TypeAlias = Literal["completions", "responses", "jsonl", "retrieval"]

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "completions": ("type", "source", "model", "input_messages", "sampling_params"),
    "responses": ("type", "source", "model", "input_messages", "sampling_params"),
    "jsonl": ("type", "source"),
    "retrieval": ("type", "source", "store", "query", "search_params"),
}

SAMPLING: Final = (
    *("frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "min_p", "presence_penalty"),
    *("reasoning_effort", "repetition_penalty", "response_format", "seed", "stop", "temperature", "text"),
    *("tool_choice", "tools", "top_k", "top_p"),
)
"""Allowed fields of ``sampling_params``: OpenAI's fields, and others that local engines accept."""

SEARCHING: Final = (
    *(
        "max_num_results",
        "filters",
        "score_threshold",
        "ranker",
        "vector_weight",
        "infer_filters",
        "links",
        "steps",
        "steps_model",
        "groups",
        "rewrite",
        "writer",
    ),
    *("half_life_days", "decay_by", "reranker", "near_duplicates", "diversity", "parents", "neighbours"),
)
"""Allowed fields of ``search_params``: all fields of a search except the question."""

REFUSED: Final[Mapping[str, str]] = {
    "stored_completions": "Chat completions are not stored here",
    "logs": "Logs of calls are not stored here",
    "responses": "Runs over stored responses are not supported here",
}
"""OpenAI's item sources that Portico does not support, each with the reason."""

EARLIER_RUN: Final = "eval_run"
"""Portico's own item source: the items of an earlier run of the same evaluation."""

ROLES: Final = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, slots=True)
class DataSource:
    """A run's data source. ``asked`` is the name of the evaluated object; ``document`` is the whole source without its
    items. ``messages`` is a template; ``reference`` is the item field that contains complete messages.
    """

    kind: Kind
    document: Mapping[str, Any]
    target: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    reference: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> frozenset[str]:
        """The item fields that the source uses."""
        return template.fields([*self.messages, self.reference, self.query])


def read(value: Any, param: str = "data_source") -> DataSource:
    """Parse a data source from its JSON. Raises `InvalidRequest` that names the first invalid field."""
    if value is None:
        missing(param)
    if not isinstance(value, Mapping):
        wrong_type(param, "an object with a 'type'", value)
    if value.get("type") not in FIELDS:
        not_one_of(f"{param}.type", value.get("type"), FIELDS)
    kind = cast("Kind", value["type"])
    _only(value, FIELDS[kind], param)
    document = {**value, "source": _items(value.get("source"), f"{param}.source")}
    if kind == "jsonl":
        return DataSource(kind, document)
    if kind == "retrieval":
        query = value.get("query")
        if not isinstance(query, str) or not query:
            wrong(f"{param}.query", "must be a string such as '{{item.question}}'")
        search = _object(value, "search_params", param)
        _only(search, SEARCHING, f"{param}.search_params")
        return DataSource(kind, document, _name(value, "store", param), query=query, search=search)
    messages, reference = _input(value.get("input_messages"), f"{param}.input_messages")
    options = _options(_object(value, "sampling_params", param), kind, f"{param}.sampling_params")
    return DataSource(kind, document, _name(value, "model", param), messages, reference, options)


def _only(fields: Mapping[str, Any], known_fields: Collection[str], param: str) -> None:
    for name in fields:
        if name not in known_fields:
            hint = nearest(str(name), known_fields) or f" There are {', '.join(known_fields)}."
            raise InvalidRequest(
                f"'{param}' has no field '{str(name)[:80]}'.{hint}",
                code="unknown_field",
                param=f"{param}.{name}",
            )


def _object(fields: Mapping[str, Any], name: str, param: str) -> Mapping[str, Any]:
    found_value = fields.get(name)
    if found_value is None:
        return {}
    if not isinstance(found_value, Mapping):
        wrong_type(f"{param}.{name}", "an object", found_value)
    return {key: value for key, value in found_value.items() if value is not None}


def _name(fields: Mapping[str, Any], name: str, param: str) -> str:
    value = fields.get(name)
    if value is None or value == "":
        missing(f"{param}.{name}")
    if not isinstance(value, str):
        wrong_type(f"{param}.{name}", "a name", value)
    return value


def _items(value: Any, param: str) -> Mapping[str, Any]:
    """Return the source of the items, without inline items."""
    if not isinstance(value, Mapping):
        if value is None:
            missing(param)
        wrong_type(param, "an object with a 'type'", value)
    kind = value.get("type")
    if kind in REFUSED:
        assert isinstance(kind, str)
        raise InvalidRequest(
            f"{REFUSED[kind]}. Write the items to a file of JSON lines and send its 'file_id', or send them "
            "as 'file_content'; each 'item' may include an answer as its 'sample', with the source type "
            "'jsonl'.",
            code="unsupported_parameter",
            param=f"{param}.type",
        )
    if kind == "file_content":
        return {"type": "file_content", "content": []}
    if kind not in ("file_id", EARLIER_RUN):
        not_one_of(f"{param}.type", kind, ("file_id", "file_content", EARLIER_RUN))
    return {"type": kind, "id": _name(value, "id", param)}


def _input(value: Any, param: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """Return the messages of the template, and the item field that contains complete messages; one of the two is
    empty.
    """
    if value is None:
        missing(param)
    if not isinstance(value, Mapping):
        wrong_type(param, "an object with a 'type'", value)
    if value.get("type") == "item_reference":
        reference = value.get("item_reference")
        if not isinstance(reference, str) or not template.fields(as_template(reference)):
            wrong(f"{param}.item_reference", "must name a field of an item, such as 'item.messages'")
        return (), as_template(reference)
    if value.get("type") != "template":
        not_one_of(f"{param}.type", value.get("type"), ("template", "item_reference"))
    messages = value.get("template")
    if not isinstance(messages, list) or not messages:
        wrong(f"{param}.template", "must be a list with at least one message")
    for number, message in enumerate(messages):
        at = f"{param}.template[{number}]"
        if not isinstance(message, Mapping):
            wrong_type(at, "a message with 'role' and 'content'", message)
        if message.get("role") not in ROLES:
            not_one_of(f"{at}.role", message.get("role"), ROLES)
        if not isinstance(message.get("content"), str | list | Mapping):
            wrong_type(f"{at}.content", "a string or parts", message.get("content"))
    return tuple(messages), ""


def _options(fields: Mapping[str, Any], kind: Kind, param: str) -> Mapping[str, Any]:
    """Return the options of a chat completion."""
    _only(fields, SAMPLING, param)
    options = {name: value for name, value in fields.items() if name != "text"}
    form = fields.get("text")
    if form is not None:
        format_fields = form.get("format") if isinstance(form, Mapping) else None
        if not isinstance(format_fields, Mapping) or kind != "responses":
            wrong(f"{param}.text", "requires the type 'responses' and must have a 'format'")
        options["response_format"] = _format(format_fields)
    if kind == "responses" and "tools" in fields:
        options["tools"] = [_tool(tool, f"{param}.tools[{n}]") for n, tool in enumerate(fields["tools"])]
    return options


def _format(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert the format of a Responses request to that of a chat completion."""
    if fields.get("type") != "json_schema":
        return fields
    inner = {name: fields[name] for name in ("name", "schema", "strict", "description") if name in fields}
    return {"type": "json_schema", "json_schema": inner}


def _tool(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or value.get("type") != "function":
        raise InvalidRequest(
            f"'{param}' is not a function. To evaluate other tools, use an agent that has these tools: send "
            "its name as 'model'.",
            code="unsupported_parameter",
            param=param,
        )
    inner = {name: value[name] for name in ("name", "description", "parameters", "strict") if name in value}
    return {"type": "function", "function": inner}
