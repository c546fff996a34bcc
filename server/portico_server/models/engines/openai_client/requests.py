"""Translates an OpenAI request into requests for llama.cpp's server: one body per choice, always streamed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.constrained_tools import ToolPlan, plan_tools
from portico_server.models.engines.openai_client.resolved_schema import SchemaResolver
from portico_server.models.openai_wire import arguments_schema

# Fields that Portico handles itself, and fields that the engine rejects as a type error if they are null.
_OURS = ("n", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "best_of", "echo")


CALL_SCHEMA = "call"
"""Name of the schema that represents the tools of a request."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The request bodies for the server, one per choice, in order. ``per_prompt`` consecutive ``bodies`` share a
    prompt.

    ``tools`` is set if tool calls must be parsed from the output. ``echoes`` contains the text with which each choice
    begins. ``unenforced`` are the keywords of the request's schemas that the answer may violate.
    """

    bodies: tuple[dict[str, Any], ...]
    per_prompt: int
    tools: ToolPlan | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    echoes: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()


def prepare_chat(
    body: Mapping[str, Any], *, template_has_tools: bool, sees: bool = False, makes_grammars: bool = False
) -> PreparedRequest:
    """Return the bodies for a chat. ``sees`` means that the model accepts images, and ``makes_grammars`` that the
    server is llama.cpp's. Raises `InvalidRequest` for unsupported features.
    """
    for field in ("functions", "function_call"):
        if body.get(field) is not None:
            raise InvalidRequest(f"'{field}' is deprecated; send 'tools' and 'tool_choice'.", param=field)
    if "audio" in (body.get("modalities") or ()):
        raise InvalidRequest("This model answers only in text.", code="unsupported_value", param="modalities")
    if body.get("moderation") is not None:
        raise InvalidRequest(
            "This model does not moderate its answers; send the texts to /v1/moderations.",
            code="unsupported_parameter",
            param="moderation",
        )
    _check_tool_types(body)
    messages = [
        fitted_message(item, f"messages[{index}]", sees=sees)
        for index, item in enumerate(body.get("messages") or ())
    ]
    request = _copy_of(body)
    request.pop("max_completion_tokens", None)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None:
        request["max_tokens"] = limit
    wants_logprobs = body.get("logprobs") is True
    if wants_logprobs:
        # Without a number, the engine sends twenty alternatives; with 0, it sends no log-probabilities at
        # all.
        request["top_logprobs"] = max(1, body.get("top_logprobs") or 0)
    schema = schema_of(body)
    request.pop("response_format", None)
    tools = plan_tools(body, schema, template_has_tools=template_has_tools)
    resolver = SchemaResolver(makes_grammars=makes_grammars)
    if tools is None and body.get("tools") and body.get("tool_choice") != "none":
        request["tools"] = [
            _with_arguments(tool, index, resolver.with_prefix(f"t{index}"))
            for index, tool in enumerate(body["tools"])
        ]
        if body.get("parallel_tool_calls") is not None:
            request["parallel_tool_calls"] = body["parallel_tool_calls"]
    if tools is not None:
        messages, schema = tools.instruct(messages), tools.schema(resolver)
    elif schema is not None:
        schema = resolver.complete(resolver.resolve(schema, "'response_format'", "response_format"))
    if not template_has_tools:
        messages = [_without_tools(message) for message in messages]
    if schema is not None:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer" if tools is None else CALL_SCHEMA, "schema": schema},
        }
    request["messages"] = messages
    count = body.get("n") or 1
    return PreparedRequest(
        tuple(_seeded(request, index) for index in range(count)),
        count,
        tools,
        wants_logprobs,
        body.get("top_logprobs") or 0,
        unenforced=tuple(sorted(resolver.unenforced)),
    )


def _check_tool_types(body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a tool that is not a function."""
    for index, tool in enumerate(body.get("tools") or ()):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind != "function":
            raise InvalidRequest(
                f"This model calls only tools of the type 'function', not '{kind}'. Leave out this tool, or "
                "choose a model that supports it.",
                code="unsupported_value",
                param=f"tools[{index}].type",
            )


def prepare_completion(body: Mapping[str, Any], *, scores_prompts: bool = False) -> PreparedRequest:
    """Return the bodies for a completion, one for each prompt and choice.

    If the server ``scores_prompts``, a body may have ``max_tokens`` 0, or ``echo``: the prompt as text, or ``None`` if
    the client sent tokens. Raises `InvalidRequest` for unsupported features.
    """
    if body.get("suffix"):
        raise InvalidRequest(
            "This model does not support filling in the middle; leave out 'suffix'.",
            code="unsupported_value",
            param="suffix",
        )
    count = body.get("n") or 1
    if (body.get("best_of") or count) != count:
        raise InvalidRequest("'best_of' must equal 'n', or be left out.", param="best_of")
    request = _copy_of(body)
    request.setdefault("max_tokens", 16)  # OpenAI's default for this endpoint
    if request["max_tokens"] == 0 and not scores_prompts:
        raise InvalidRequest(
            "This model cannot answer without generating a token; set 'max_tokens' to at least 1.",
            code="unsupported_value",
            param="max_tokens",
        )
    logprobs = body.get("logprobs")
    if logprobs is not None:
        request["logprobs"] = max(1, int(logprobs))
    prompts = _prompts(body.get("prompt"))
    bodies = tuple(
        {**_seeded(request, index), "prompt": prompt} for prompt in prompts for index in range(count)
    )
    echoes: tuple[str, ...] = ()
    if body.get("echo"):
        if scores_prompts and (logprobs is not None or not isinstance(prompts[0], str)):
            for prepared_body in bodies:
                prompt = prepared_body["prompt"]
                prepared_body["echo"] = prompt if isinstance(prompt, str) else None
        else:
            echoes = tuple(_echo(prompt, body) for prompt in prompts for _ in range(count))
    return PreparedRequest(bodies, count, None, logprobs is not None, int(logprobs or 0), echoes)


def _echo(prompt: Any, body: Mapping[str, Any]) -> str:
    """Return the prompt if it must be echoed, as the text with which the answer begins; otherwise ""."""
    if not isinstance(prompt, str):
        raise InvalidRequest(
            "'echo' requires a text prompt; send the text, or leave out 'echo'.", param="echo"
        )
    if body.get("logprobs") is not None:
        raise InvalidRequest(
            "This model returns no log-probabilities of the prompt; leave out 'echo' or 'logprobs'.",
            code="unsupported_value",
            param="echo",
        )
    return prompt


def schema_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON schema that the whole answer must match, or ``None`` if the request does not set one."""
    response_format = body.get("response_format")
    if not isinstance(response_format, Mapping) or response_format.get("type") in (None, "text"):
        return None
    if response_format["type"] == "json_object":
        # The engine's own json_object mode allows prose before the object. llama.cpp takes a schema here, too.
        given_schema = response_format.get("schema")
        return dict(given_schema) if isinstance(given_schema, Mapping) else {"type": "object"}
    if response_format["type"] == "json_schema":
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        if isinstance(schema, Mapping):
            return dict(schema)
        raise InvalidRequest(
            "'response_format.json_schema.schema' must be a JSON schema.",
            param="response_format.json_schema.schema",
        )
    raise InvalidRequest(
        "'response_format.type' must be 'text', 'json_object' or 'json_schema'.", param="response_format.type"
    )


def check_alternatives(body: Mapping[str, Any], model: str, max_alternatives: int) -> None:
    """Raise `InvalidRequest` for a schema whose grammar would delay every other call to the engine."""
    from portico_server.core.json_schema import survey

    schemas = [("response_format", schema_of(body))]
    for index, tool in enumerate(body.get("tools") or ()):
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
            schemas.append((f"tools[{index}].function.parameters", tool["function"].get("parameters")))
    for param, schema in schemas:
        if schema and (count := survey(schema).alternatives) > max_alternatives:
            raise InvalidRequest(
                f"The schema of '{param}' has {count:,} alternatives: values of enums, branches and optional "
                f"properties. '{model}' supports at most {max_alternatives:,} without delaying other calls. "
                "Send a schema with fewer alternatives, or choose a model on another engine.",
                code="schema_too_large",
                param=param,
            )


def _with_arguments(tool: Mapping[str, Any], index: int, resolver: SchemaResolver) -> Mapping[str, Any]:
    """Return the tool with a resolved schema for its function's arguments, added if the caller sent none.

    The engine makes one grammar of all tools, so definitions of different tools need different names.
    """
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    owner, param = f"the function '{function.get('name')}'", f"tools[{index}].function.parameters"
    parameters = resolver.complete(resolver.resolve(arguments_schema(function), owner, param))
    return {**tool, "function": {**function, "parameters": parameters}}


def _copy_of(body: Mapping[str, Any]) -> dict[str, Any]:
    request = {name: value for name, value in body.items() if value is not None and name not in _OURS}
    stop = request.pop("stop", ())
    # An empty text would end every answer at once.
    if stops := [text for text in ([stop] if isinstance(stop, str) else stop) if text]:
        request["stop"] = stops
    request["stream"] = True
    request["stream_options"] = {"include_usage": True}
    return request


def _seeded(request: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the request for the choice ``index``, with a different seed for each choice if the caller fixed one."""
    seed = request.get("seed")
    return {**request, "seed": (seed + index) % 2**32} if isinstance(seed, int) else dict(request)


def _prompts(prompt: Any) -> Sequence[Any]:
    """Return the prompts, each a text or a list of the model's own token ids."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return prompt
    if prompt is None or prompt == []:
        raise InvalidRequest("'prompt' must be a text or a list of texts.", param="prompt")
    return [prompt]


def fitted_message(message: Mapping[str, Any], path: str, *, sees: bool) -> dict[str, Any]:
    """Return the message with plain text (or parts, if it has images) and a role that every template supports.

    Raise `InvalidRequest` for content that the model cannot read. ``sees`` means that the model accepts images.
    """
    result = {name: value for name, value in message.items() if value is not None}
    if result.get("role") == "developer":
        result["role"] = "system"
    content = message.get("content")
    if sees and isinstance(content, list) and any(_is_image(part) for part in content):
        texts = [
            _image(part, path) if _is_image(part) else {"type": "text", "text": _text([part], path)}
            for part in content
        ]
        result["content"] = texts
    else:
        result["content"] = _text(content, path)
    return result


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "image_url"


def _image(part: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the image part. Raise `InvalidRequest` for a URL: the engine would fetch it from any reachable host."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if isinstance(url, str) and url.startswith("data:image/"):
        return part
    raise InvalidRequest(
        f"The images of '{path}' must be embedded in the message, as URLs that begin with data:image/. This "
        "model does not fetch images.",
        code="unsupported_content",
        param=f"{path}.content",
    )


def _text(content: Any, path: str) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "refusal", "input_text", "output_text"):
            raise InvalidRequest(
                f"This model reads only text; '{path}.content[{index}]' has the type '{kind}'. Choose a "
                "model that supports this type, or leave out this part.",
                code="unsupported_content",
                param=f"{path}.content[{index}]",
            )
        texts.append(str(part.get("text", part.get("refusal", ""))))
    return "".join(texts)


def _without_tools(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with its tool calls or tool result as text, for templates that silently drop them."""
    calls = message.get("tool_calls")
    if calls:
        functions = [call["function"] for call in calls if isinstance(call.get("function"), Mapping)]
        lines = [
            f'{{"name": "{function["name"]}", "arguments": {function.get("arguments") or "{}"}}}'
            for function in functions
        ]
        text = "\n".join([message["content"], *lines] if message["content"] else lines)
        return {"role": "assistant", "content": text}
    if message.get("role") in ("tool", "function"):
        return {"role": "user", "content": f"The function answered: {message['content']}"}
    return message
