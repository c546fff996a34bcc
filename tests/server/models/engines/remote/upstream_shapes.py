"""What OpenAI-compatible servers send, one row per shape, with the answer that a client must get.

The source is a report, as ``repository#number``, or ``own`` for a shape without one. The bodies are written from memory
of how such servers answer; none is copied from a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

OSLO = ("get", {"city": "Oslo"})
BERGEN = ("get", {"city": "Bergen"})
OSLO_TEXT = '{"city": "Oslo"}'
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass(frozen=True, slots=True)
class Shape:
    """One answer of a server, and what each of Portico's APIs must make of it.

    ``document`` is the body for a request without ``stream``, and ``events`` is the body for a request with it. If one
    of the two is missing, the server sends the other one in both cases. ``error`` is a part of the error message, for
    an answer that must fail; ``status`` is the status of this error if it comes before the first byte.
    """

    name: str
    source: str
    document: bytes | None = None
    events: bytes | None = None
    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    thoughts: str = ""
    error: str = ""
    status: int = 502
    media_type: str = ""


def choice(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}


def document(*choices: Any, **fields: Any) -> bytes:
    """Return a chat completion, in which ``fields`` replace or add fields."""
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "far"}
    return orjson.dumps({**head, "choices": list(choices), "usage": USAGE, **fields})


def message(finish: str | None = "stop", **message: Any) -> bytes:
    return document(choice(finish, **message))


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of a stream, in which ``fields`` replace or add fields."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "far"}
    return {**head, "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **fields}


def part(
    index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """Return a piece of a tool call with only the given fields."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return {**fields, "type": "function", "function": function}


def call(arguments: Any = OSLO_TEXT, id: Any = "a", name: Any = "get") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def stream(*documents: Any, done: bool = True) -> bytes:
    frames = [
        b"data: %s\n\n" % (item if isinstance(item, bytes) else orjson.dumps(item)) for item in documents
    ]
    return b"".join([*frames, b"data: [DONE]\n\n"] if done else frames)


def called(*parts: dict[str, Any], finish: str | None = "tool_calls") -> bytes:
    """Return a stream with one piece of a tool call in each chunk."""
    return stream(*[chunk({"tool_calls": [item]}) for item in parts], chunk({}, finish))


STOP = chunk({}, "stop")
HI = chunk({"content": "hi"})
REGULAR = stream(chunk({"role": "assistant", "content": ""}), HI, STOP)
LIMIT = "maximum context length is 100 tokens"

CALLS = (
    Shape(
        "arguments as an object",
        "model-hotel#806",
        message("tool_calls", content=None, tool_calls=[call({"city": "Oslo"})]),
        called(part(0, "a", "get", {"city": "Oslo"})),
        calls=(OSLO,),
    ),
    Shape(
        "arguments as an object in a later chunk",
        "own",
        None,
        called(part(0, "a", "get"), part(0, None, None, {"city": "Oslo"})),
        calls=(OSLO,),
    ),
    Shape(
        "arguments null",
        "own",
        message("tool_calls", content=None, tool_calls=[call(None)]),
        called({"index": 0, "id": "a", "type": "function", "function": {"name": "get", "arguments": None}}),
        calls=(("get", {}),),
    ),
    Shape(
        "arguments missing",
        "own",
        message(
            "tool_calls",
            content=None,
            tool_calls=[{"id": "a", "type": "function", "function": {"name": "get"}}],
        ),
        called(part(0, "a", "get")),
        calls=(("get", {}),),
    ),
    Shape(
        "arguments empty",
        "own",
        message("tool_calls", content=None, tool_calls=[call("")]),
        called(part(0, "a", "get", "")),
        calls=(("get", {}),),
    ),
    Shape(
        "an empty object before the arguments",
        "own",
        None,
        called(part(0, "a", "get", "{}"), part(0, None, None, OSLO_TEXT)),
        calls=(OSLO,),
    ),
    Shape(
        "no index",
        "own",
        None,
        called(part(None, "a", "get", '{"city":'), part(None, None, None, '"Oslo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "two calls without index",
        "own",
        None,
        called(part(None, "a", "get", OSLO_TEXT), part(None, "b", "get", '{"city": "Bergen"}')),
        calls=(OSLO, BERGEN),
    ),
    Shape(
        "all calls with index 0",
        "own",
        None,
        called(part(0, "a", "get", OSLO_TEXT), part(0, "b", "get", '{"city": "Bergen"}')),
        calls=(OSLO, BERGEN),
    ),
    Shape(
        "all calls with index 0 in one chunk",
        "own",
        None,
        stream(
            chunk(
                {"tool_calls": [part(0, "a", "get", OSLO_TEXT), part(0, "b", "get", '{"city": "Bergen"}')]}
            ),
            chunk({}, "tool_calls"),
        ),
        calls=(OSLO, BERGEN),
    ),
    Shape(
        "interleaved",
        "continue#13223",
        None,
        called(
            part(0, "a", "get", ""),
            part(1, "b", "get", ""),
            part(0, None, None, OSLO_TEXT),
            part(1, None, None, '{"city": "Bergen"}'),
        ),
        calls=(OSLO, BERGEN),
    ),
    Shape(
        "the index jumps within a call",
        "Qwen-Agent#943",
        None,
        called(part(0, "a", "get", '{"ci'), part(1, None, None, 'ty":"Oslo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "the index begins at 1",
        "own",
        None,
        called(part(1, "a", "get", '{"ci'), part(1, None, None, 'ty":"Oslo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "the index is a text",
        "own",
        None,
        called({**part(None, "a", "get", OSLO_TEXT), "index": "0"}),
        calls=(OSLO,),
    ),
    Shape(
        "no id",
        "own",
        message("tool_calls", content=None, tool_calls=[call(id=None)]),
        called(part(0, None, "get", OSLO_TEXT)),
        calls=(OSLO,),
    ),
    Shape(
        "an empty id in later chunks",
        "own",
        None,
        called(part(0, "a", "get", '{"city":'), part(0, "", None, '"Oslo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "id and name in each chunk",
        "own",
        None,
        called(part(0, "a", "get", '{"city":'), part(0, "a", "get", '"Oslo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "another id in each chunk",
        "own",
        None,
        called(part(0, "a", "get", '{"city":'), part(0, "b", None, '"Os'), part(0, "c", None, 'lo"}')),
        calls=(OSLO,),
    ),
    Shape(
        "the id is a number",
        "own",
        message("tool_calls", content=None, tool_calls=[call(id=7)]),
        called({**part(0, None, "get", OSLO_TEXT), "id": 7}),
        calls=(OSLO,),
    ),
    Shape(
        "the name after the id",
        "own",
        None,
        called(part(0, "a", "", ""), part(0, None, "get", ""), part(0, None, None, OSLO_TEXT)),
        calls=(OSLO,),
    ),
    Shape(
        "the arguments twice",
        "own",
        None,
        called(part(0, "a", "get", OSLO_TEXT), part(0, None, None, OSLO_TEXT)),
        calls=(OSLO,),
    ),
    Shape(
        "calls with finish_reason stop",
        "own",
        message("stop", content=None, tool_calls=[call()]),
        called(part(0, "a", "get", OSLO_TEXT), finish="stop"),
        calls=(OSLO,),
    ),
    Shape(
        "calls with the finish_reason of another API",
        "own",
        message("tool_use", content="", tool_calls=[call()]),
        called(part(0, "a", "get", OSLO_TEXT), finish="tool_use"),
        calls=(OSLO,),
    ),
    Shape(
        "calls without finish_reason",
        "own",
        message(None, content=None, tool_calls=[call()]),
        stream(chunk({"tool_calls": [part(0, "a", "get", OSLO_TEXT)]})),
        calls=(OSLO,),
    ),
    Shape(
        "function_call",
        "own",
        message("function_call", content=None, function_call={"name": "get", "arguments": OSLO_TEXT}),
        stream(
            chunk({"function_call": {"name": "get", "arguments": ""}}),
            chunk({"function_call": {"arguments": OSLO_TEXT}}),
            chunk({}, "function_call"),
        ),
        calls=(OSLO,),
    ),
    Shape(
        "name and arguments beside the function",
        "own",
        message(
            "tool_calls", content=None, tool_calls=[{"id": "a", "name": "get", "arguments": {"city": "Oslo"}}]
        ),
        called({"index": 0, "id": "a", "name": "get", "arguments": OSLO_TEXT}),
        calls=(OSLO,),
    ),
    Shape(
        "one call instead of a list",
        "own",
        message("tool_calls", content=None, tool_calls=call()),
        stream(chunk({"tool_calls": part(0, "a", "get", OSLO_TEXT)}), chunk({}, "tool_calls")),
        calls=(OSLO,),
    ),
    Shape(
        "a call that cannot be read beside a good one",
        "own",
        message("tool_calls", content=None, tool_calls=[None, {"id": "x"}, call()]),
        called(part(0, "x"), part(1, "a", "get", OSLO_TEXT)),
        calls=(OSLO,),
    ),
    Shape(
        "tool_calls null beside text",
        "own",
        message(content="hi", tool_calls=None),
        stream(chunk({"content": "hi", "tool_calls": None}), STOP),
        text="hi",
    ),
    Shape(
        "tool_calls empty beside text",
        "own",
        message(content="hi", tool_calls=[]),
        stream(chunk({"content": "hi", "tool_calls": []}), STOP),
        text="hi",
    ),
    Shape(
        "text and calls",
        "own",
        message("tool_calls", content="hi", tool_calls=[call()]),
        stream(HI, chunk({"tool_calls": [part(0, "a", "get", OSLO_TEXT)]}), chunk({}, "tool_calls")),
        text="hi",
        calls=(OSLO,),
    ),
    Shape(
        "a call and its end in one chunk",
        "own",
        None,
        stream(chunk({"tool_calls": [part(0, "a", "get", OSLO_TEXT)]}, "tool_calls")),
        calls=(OSLO,),
    ),
    Shape(
        "tool_use parts",
        "own",
        message(
            "tool_use", content=[{"type": "tool_use", "id": "a", "name": "get", "input": {"city": "Oslo"}}]
        ),
        calls=(OSLO,),
    ),
)

CONTENT = (
    Shape(
        "a list of parts",
        "own",
        message(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        stream(
            chunk({"content": [{"type": "text", "text": "a"}]}),
            chunk({"content": [{"type": "text", "text": "b"}]}),
            STOP,
        ),
        text="ab",
    ),
    Shape(
        "output_text parts",
        "own",
        message(content=[{"type": "output_text", "text": "hi", "annotations": []}]),
        stream(chunk({"content": [{"type": "output_text", "text": "hi"}]}), STOP),
        text="hi",
    ),
    Shape(
        "thinking parts of Mistral",
        "own",
        message(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "hi"},
            ]
        ),
        stream(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            chunk({"content": [{"type": "text", "text": "hi"}]}),
            STOP,
        ),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "thinking parts and then texts",
        "own",
        None,
        stream(chunk({"content": [{"type": "thinking", "thinking": "hm"}]}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "a reference part",
        "own",
        message(content=[{"type": "text", "text": "hi"}, {"type": "reference", "reference_ids": [1]}]),
        stream(chunk({"content": [{"type": "reference", "reference_ids": [1]}]}), HI, STOP),
        text="hi",
    ),
    Shape(
        "a refusal part",
        "own",
        message(content=[{"type": "refusal", "refusal": "no"}]),
        stream(chunk({"content": [{"type": "refusal", "refusal": "no"}]}), STOP),
        text="no",
    ),
    Shape(
        "texts in a list",
        "own",
        message(content=["a", "b"]),
        stream(chunk({"content": ["a", "b"]}), STOP),
        text="ab",
    ),
    Shape(
        "one part instead of a list",
        "own",
        message(content={"type": "text", "text": "hi"}),
        stream(chunk({"content": {"type": "text", "text": "hi"}}), STOP),
        text="hi",
    ),
    Shape("a number", "own", message(content=42), stream(chunk({"content": 42}), STOP), text="42"),
    Shape(
        "null between texts",
        "own",
        None,
        stream(chunk({"role": "assistant", "content": None}), HI, chunk({"content": None}), STOP),
        text="hi",
    ),
    Shape(
        "reasoning",
        "own",
        message(content="hi", reasoning="hm"),
        stream(chunk({"reasoning": "h"}), chunk({"reasoning": "m", "content": ""}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "reasoning_content",
        "own",
        message(content="hi", reasoning_content="hm"),
        stream(chunk({"reasoning_content": "hm", "content": None}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "reasoning under two names",
        "own",
        message(content="hi", reasoning="hm", reasoning_content="hm"),
        stream(chunk({"reasoning": "hm", "reasoning_content": "hm"}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "thinking",
        "own",
        message(content="hi", thinking="hm"),
        stream(chunk({"thinking": "hm"}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "reasoning_details alone",
        "own",
        message(content="hi", reasoning_details=[{"type": "reasoning.text", "text": "hm"}]),
        stream(chunk({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "reasoning as an object",
        "own",
        message(content="hi", reasoning={"content": "hm"}),
        stream(chunk({"reasoning": {"content": "hm"}}), HI, STOP),
        text="hi",
        thoughts="hm",
    ),
    Shape(
        "a half emoji",
        "own",
        None,
        stream(orjson.dumps(chunk({"content": "X"})).replace(b"X", b"a\\ud83d"), HI, STOP),
        text="a\N{REPLACEMENT CHARACTER}hi",
    ),
    Shape(
        "a byte that is not UTF-8",
        "own",
        None,
        stream(HI, orjson.dumps(chunk({"content": "X"})).replace(b"X", b"\xe4"), STOP),
        text="hi\N{REPLACEMENT CHARACTER}",
    ),
    Shape(
        "a tab that is not escaped",
        "own",
        None,
        stream(HI, orjson.dumps(chunk({"content": "X"})).replace(b"X", b"a\tb"), STOP),
        text="hia\tb",
    ),
)

ENVELOPES = (
    Shape(
        "no role",
        "own",
        document({"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}),
        stream(HI, STOP),
        text="hi",
    ),
    Shape(
        "an empty role in later chunks",
        "own",
        None,
        stream(chunk({"role": "assistant", "content": ""}), chunk({"role": "", "content": "hi"}), STOP),
        text="hi",
    ),
    Shape(
        "no index of the choice",
        "own",
        document({"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}),
        stream({**HI, "choices": [{"delta": {"content": "hi"}}]}, STOP),
        text="hi",
    ),
    Shape(
        "no id, created, model and object",
        "own",
        orjson.dumps({"choices": [choice(content="hi")]}),
        stream({"choices": HI["choices"]}, {"choices": STOP["choices"]}),
        text="hi",
    ),
    Shape(
        "id, created and model null",
        "own",
        document(choice(content="hi"), id=None, created=None, model=None),
        stream(*[{**item, "id": None, "created": None, "model": None} for item in (HI, STOP)]),
        text="hi",
    ),
    Shape(
        "created with fractions",
        "own",
        document(choice(content="hi"), created=1.5),
        stream({**HI, "created": 1.5}, {**STOP, "created": 2.5}),
        text="hi",
    ),
    Shape(
        "a chunk without choices",
        "ATOM#1711",
        None,
        stream(
            HI,
            STOP,
            {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": USAGE},
        ),
        text="hi",
    ),
    Shape(
        "choices null",
        "freellmapi#156",
        None,
        stream(HI, STOP, {**HI, "choices": None, "usage": USAGE}),
        text="hi",
    ),
    Shape(
        "a chunk with filter results first",
        "own",
        None,
        stream({"id": "", "choices": [], "created": 0, "model": "", "prompt_filter_results": []}, HI, STOP),
        text="hi",
    ),
    Shape(
        "one choice instead of a list",
        "own",
        document(choice(content="hi"), choices=choice(content="hi")),
        stream({**HI, "choices": HI["choices"][0]}, STOP),
        text="hi",
    ),
    Shape(
        "a null among the choices",
        "own",
        document(None, choice(content="hi")),
        stream({**HI, "choices": [None, HI["choices"][0]]}, STOP),
        text="hi",
    ),
    Shape(
        "delta null",
        "own",
        None,
        stream(HI, {**HI, "choices": [{"index": 0, "delta": None, "finish_reason": None}]}, STOP),
        text="hi",
    ),
    Shape(
        "no delta",
        "own",
        None,
        stream(HI, {**HI, "choices": [{"index": 0, "finish_reason": "stop"}]}),
        text="hi",
    ),
    Shape(
        "message instead of delta",
        "own",
        None,
        stream({**HI, "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}, STOP),
        text="hi",
    ),
    Shape(
        "message beside delta",
        "own",
        None,
        stream(
            {**HI, "choices": [{"index": 0, "delta": {"content": "h"}, "message": {"content": "h"}}]},
            {**HI, "choices": [{"index": 0, "delta": {"content": "i"}, "message": {"content": "hi"}}]},
            STOP,
        ),
        text="hi",
    ),
    Shape(
        "delta instead of message",
        "own",
        document({"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}),
        text="hi",
    ),
    Shape(
        "text instead of message",
        "own",
        document({"index": 0, "text": "hi", "finish_reason": "stop"}),
        stream({**HI, "choices": [{"index": 0, "text": "hi", "finish_reason": None}]}, STOP),
        text="hi",
    ),
    Shape(
        "message as a text",
        "own",
        document({"index": 0, "message": "hi", "finish_reason": "stop"}),
        text="hi",
    ),
    Shape("finish_reason null, whole", "own", message(None, content="hi"), None, text="hi"),
    Shape(
        "finish_reason missing, whole",
        "own",
        document({"index": 0, "message": {"role": "assistant", "content": "hi"}}),
        text="hi",
    ),
    Shape(
        "finish_reason empty in each chunk",
        "own",
        message("", content="hi"),
        stream(chunk({"content": "h"}, ""), chunk({"content": "i"}, ""), STOP),
        text="hi",
    ),
    Shape(
        "finish_reason stop in each chunk",
        "own",
        None,
        stream(chunk({"content": "h"}, "stop"), chunk({"content": "i"}, "stop")),
        text="hi",
    ),
    Shape(
        "finish_reason of another API",
        "own",
        message("eos", content="hi"),
        stream(HI, chunk({}, "eos")),
        text="hi",
    ),
    Shape("finish_reason as a number", "own", message(1, content="hi"), stream(HI, chunk({}, 1)), text="hi"),  # type: ignore[arg-type]
    Shape("no finish_reason, but [DONE]", "own", None, stream(HI), text="hi"),
    Shape("no [DONE]", "own", None, stream(HI, STOP, done=False), text="hi"),
    Shape(
        "neither finish_reason nor [DONE]",
        "litellm#8448",
        None,
        stream(HI, done=False),
        error="in the middle",
    ),
    Shape(
        "an honest empty answer",
        "own",
        message(content=""),
        stream(chunk({"role": "assistant", "content": ""}), STOP),
    ),
    Shape(
        "an empty answer without a reason",
        "own",
        message(None, content=""),
        stream(chunk({"role": "assistant", "content": ""})),
        error="without",
    ),
    Shape(
        "finish_reason tool_calls without calls",
        "own",
        message("tool_calls", content=None),
        stream(chunk({"role": "assistant"}), chunk({}, "tool_calls")),
        error="without",
    ),
    Shape("no choices at all", "clawrouter#101", document(), stream(), error="without"),
)

USAGES = (
    Shape(
        "usage null",
        "own",
        document(choice(content="hi"), usage=None),
        stream({**HI, "usage": None}, {**STOP, "usage": None}),
        text="hi",
    ),
    Shape(
        "usage of texts",
        "own",
        document(
            choice(content="hi"), usage={"prompt_tokens": "3", "completion_tokens": "2", "total_tokens": "5"}
        ),
        stream(HI, {**STOP, "usage": {"prompt_tokens": "3", "completion_tokens": "2"}}),
        text="hi",
    ),
    Shape(
        "usage without totals",
        "own",
        document(choice(content="hi"), usage={"prompt_tokens": 3}),
        stream(HI, {**STOP, "usage": {"completion_tokens": 2}}),
        text="hi",
    ),
    Shape(
        "usage in each chunk",
        "own",
        None,
        stream(*[{**item, "usage": USAGE} for item in (HI, STOP)]),
        text="hi",
    ),
    Shape(
        "usage as a list",
        "own",
        document(choice(content="hi"), usage=[USAGE]),
        stream({**HI, "usage": [USAGE]}, STOP),
        text="hi",
    ),
    Shape(
        "details of usage null and of texts",
        "own",
        document(
            choice(content="hi"),
            usage={
                **USAGE,
                "prompt_tokens_details": None,
                "completion_tokens_details": {"reasoning_tokens": "2"},
            },
        ),
        stream(HI, {**STOP, "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": "x"}}}),
        text="hi",
    ),
    Shape(
        "NaN in the log-probabilities",
        "own",
        message(content="hi").replace(
            b'"finish_reason"', b'"logprobs":{"content":[{"token":"hi","logprob":NaN}]},"finish_reason"'
        ),
        stream(
            orjson.dumps(HI).replace(
                b'"finish_reason"',
                b'"logprobs":{"content":[{"token":"hi","logprob":-Infinity}]},"finish_reason"',
            ),
            STOP,
        ),
        text="hi",
    ),
    Shape(
        "log-probabilities in the old form",
        "own",
        document({**choice(content="hi"), "logprobs": {"tokens": ["hi"], "token_logprobs": [-1.0]}}),
        stream({**HI, "choices": [{**HI["choices"][0], "logprobs": {"tokens": ["hi"]}}]}, STOP),
        text="hi",
    ),
    Shape(
        "log-probabilities as a list",
        "own",
        document({**choice(content="hi"), "logprobs": [{"token": 1}, -0.5]}),
        stream({**HI, "choices": [{**HI["choices"][0], "logprobs": [-0.5]}]}, STOP),
        text="hi",
    ),
    Shape(
        "log-probabilities without their parts",
        "own",
        document({**choice(content="hi"), "logprobs": {"content": [None, {"token": "hi"}, {"logprob": -1}]}}),
        text="hi",
    ),
)

ERRORS = (
    Shape(
        "an error object alone",
        "clawrouter#101",
        orjson.dumps({"error": {"message": "no credit left", "code": 402}}),
        stream({"error": {"message": "no credit left", "code": 402}}),
        error="no credit left",
        status=402,
    ),
    Shape(
        "object error of vLLM",
        "own",
        orjson.dumps({"object": "error", "message": LIMIT, "type": "BadRequestError", "code": 400}),
        stream({"object": "error", "message": LIMIT, "type": "BadRequestError", "code": 400}),
        error=LIMIT,
        status=400,
    ),
    Shape(
        "object error after text",
        "own",
        None,
        stream(HI, {"object": "error", "message": LIMIT, "code": 400}),
        error=LIMIT,
        status=400,
    ),
    Shape(
        "an error after text",
        "litellm#8448",
        None,
        stream(HI, {"error": {"message": "upstream broke", "code": 500}}),
        error="upstream broke",
    ),
    Shape(
        "an error beside choices",
        "SHTUCodeProxy#4",
        document(choice(content=None), error={"message": "Provider returned error", "code": 429}),
        stream({**HI, "error": {"message": "Provider returned error", "code": 429}}),
        error="Provider returned error",
        status=429,
    ),
    Shape(
        "an error in the choice",
        "own",
        document({**choice("error", content=""), "error": {"message": "provider broke", "code": 502}}),
        stream(
            HI,
            {
                **HI,
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "finish_reason": "error",
                        "error": {"message": "provider broke", "code": 502},
                    }
                ],
            },
        ),
        error="provider broke",
    ),
    Shape(
        "finish_reason error",
        "own",
        message("error", content=""),
        stream(HI, chunk({}, "error")),
        error="error",
    ),
    Shape(
        "an error as a text",
        "own",
        orjson.dumps({"error": "model is gone"}),
        stream({"error": "model is gone"}),
        error="model is gone",
    ),
    Shape(
        "error true beside a message",
        "own",
        orjson.dumps({"error": True, "message": "bad luck"}),
        stream({"error": True, "message": "bad luck"}),
        error="bad luck",
    ),
    Shape(
        "error null beside choices",
        "own",
        document(choice(content="hi"), error=None),
        stream({**HI, "error": None}, STOP),
        text="hi",
    ),
    Shape(
        "detail of FastAPI",
        "own",
        orjson.dumps({"detail": "model is loading"}),
        stream({"detail": "model is loading"}),
        error="model is loading",
    ),
    Shape(
        "message and code",
        "own",
        orjson.dumps({"code": 20012, "message": "disabled", "data": None}),
        stream({"code": 20012, "message": "disabled", "data": None}),
        error="disabled",
    ),
    Shape(
        "code as a text with a status",
        "own",
        orjson.dumps({"error": {"message": "slow down", "code": "429"}}),
        stream({"error": {"message": "slow down", "code": "429"}}),
        error="slow down",
        status=429,
    ),
    Shape(
        "base_resp of MiniMax",
        "own",
        orjson.dumps(
            {
                "id": "x",
                "choices": None,
                "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
            }
        ),
        stream({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
        error="insufficient balance",
    ),
    Shape(
        "base_resp of a success",
        "own",
        document(choice(content="hi"), base_resp={"status_code": 0, "status_msg": "success"}),
        stream({**HI, "base_resp": {"status_code": 0, "status_msg": ""}}, STOP),
        text="hi",
    ),
    Shape(
        "a list with an error, of Gemini",
        "own",
        orjson.dumps([{"error": {"code": 400, "message": "bad schema", "status": "INVALID_ARGUMENT"}}]),
        stream([{"error": {"code": 400, "message": "bad schema"}}]),
        error="bad schema",
        status=400,
    ),
    Shape(
        "errors of Cloudflare",
        "own",
        orjson.dumps({"success": False, "errors": [{"code": 7003, "message": "no route"}]}),
        stream({"success": False, "errors": [{"code": 7003, "message": "no route"}]}),
        error="no route",
    ),
    Shape(
        "an error event",
        "own",
        None,
        b'event: error\ndata: {"message": "slot broke"}\n\n',
        error="slot broke",
    ),
    Shape(
        "an error event with plain text, after text",
        "own",
        None,
        stream(HI, done=False) + b"event: error\ndata: out of memory\n\n",
        error="out of memory",
    ),
    Shape(
        "an error line of llama.cpp",
        "own",
        None,
        stream(HI, done=False) + b'error: {"message": "slot broke", "code": 500}\n\n',
        error="slot broke",
    ),
    Shape(
        "an error as JSON for a stream request",
        "litellm#8448",
        orjson.dumps({"error": {"message": "no such model", "code": 404}}),
        error="no such model",
        status=404,
    ),
    Shape(
        "an HTML page",
        "own",
        b"<html><body>Login</body></html>",
        b"<html>\n\n<body>Login</body></html>",
        error="something other than",
        media_type="text/html",
    ),
    Shape("an empty body", "own", b"", b"", error="'m'"),
    Shape("only [DONE]", "litellm#8448", None, stream(), error="without"),
    Shape("only comments", "own", None, b": OPENROUTER PROCESSING\n\n" * 3, error="'m'"),
    Shape(
        "JSON that is not an answer", "own", b'{"ok": true}', stream({"ok": True}, done=False), error="'m'"
    ),
    Shape("JSON that is cut off", "own", message(content="hi")[:-30], error="'m'"),
)

FRAMES = (
    Shape("JSON for a stream request", "own", message(content="hi"), text="hi"),
    Shape(
        "JSON with calls for a stream request",
        "own",
        message("tool_calls", content=None, tool_calls=[call()]),
        calls=(OSLO,),
    ),
    Shape("a stream for a request without stream", "own", None, REGULAR, text="hi"),
    Shape("a stream as application/json", "own", None, REGULAR, text="hi", media_type="application/json"),
    Shape("data without a space", "own", None, REGULAR.replace(b"data: ", b"data:"), text="hi"),
    Shape("CRLF", "own", None, REGULAR.replace(b"\n", b"\r\n"), text="hi"),
    Shape("a BOM", "own", None, b"\xef\xbb\xbf" + REGULAR, text="hi"),
    Shape("a BOM before JSON", "own", b"\xef\xbb\xbf" + message(content="hi"), text="hi"),
    Shape(
        "comments",
        "own",
        None,
        REGULAR.replace(b"data: ", b": OPENROUTER PROCESSING\n\ndata: "),
        text="hi",
    ),
    Shape(
        "event, id and retry",
        "own",
        None,
        REGULAR.replace(b"data: ", b"event: message\nid: 1\nretry: 10\ndata: "),
        text="hi",
    ),
    Shape(
        "data in several lines",
        "own",
        None,
        b"".join(
            b"data: " + orjson.dumps(item, option=orjson.OPT_INDENT_2).replace(b"\n", b"\ndata: ") + b"\n\n"
            for item in (HI, STOP)
        )
        + b"data: [DONE]\n\n",
        text="hi",
    ),
    Shape("one line end between the events", "own", None, REGULAR.replace(b"\n\n", b"\n"), text="hi"),
    Shape("JSON lines", "own", None, b"".join(orjson.dumps(item) + b"\n" for item in (HI, STOP)), text="hi"),
    Shape(
        "a broken line in the middle",
        "own",
        None,
        stream(HI, b'{"id": "c1", "cho', HI, STOP),
        text="hihi",
    ),
    Shape("null as an event", "own", None, stream(b"null", HI, STOP), text="hi"),
    Shape("a ping event", "own", None, stream({"type": "ping"}, HI, STOP), text="hi"),
    Shape("text after [DONE]", "own", None, REGULAR + stream(HI), text="hi"),
)

SHAPES = (*CALLS, *CONTENT, *ENVELOPES, *USAGES, *ERRORS, *FRAMES)
