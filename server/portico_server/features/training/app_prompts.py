"""Training examples with the prompts of a deployed app.

An app is called with the input of each example until it calls a chat model. That call is stopped, and its prompt
(system message, retrieved passages, tools) becomes the prompt of the example. Later, the stored inputs show whether
the app still generates the same prompts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from portico.schemas.fine_tuning import TuningAppCheck
from portico.wire import Event
from portico_server.core import pools
from portico_server.core.context import Context, ContextWithin, Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, Chat, Request, Result
from portico_server.core.servable import Card, Servable
from portico_server.features.training.data import MAX_EXAMPLE_BYTES, read_line
from portico_server.features.training.spec import FineTuningSpec, Method
from portico_server.features.training.training_example import TrainingExample, WrongLineError, reader_for

PROMPT_TIMEOUT_S: Final = 60.0
"""Maximum seconds until an app calls a model."""

MAX_APP_DEPTH: Final = 8
"""Maximum nesting depth of apps that call each other before one of them calls a model."""

MAX_CHECK_EXAMPLES: Final = 3
MAX_CHECK_EXAMPLE_BYTES: Final = 64 * 1024
"""Maximum size, in bytes, of an example that a job stores to check the app later. `MAX_CHECK_EXAMPLES` limits their
number.
"""

ReportCount: TypeAlias = Callable[[int], Awaitable[None]]
"""Progress callback: the number of examples that already have a prompt."""

Given: TypeAlias = Mapping[str, Any]
"""The input of an app: ``{"messages": […]}`` or ``{"input": …}``."""


@dataclass(frozen=True, slots=True)
class AppPrompt:
    """The arguments with which an app calls a model: the name of the model without aliases, the messages, and the
    tools.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class CheckExample:
    """An input, and the prompt that the app generated for it: the messages, and a digest of the tools."""

    given: Given
    messages: Sequence[Mapping[str, Any]]
    tools: str


class _PromptCapture(ContextWithin):
    """A context that runs an app until the app calls a model."""

    def __init__(self, outer: Context, registry: Registry, depth: int, prompt: asyncio.Future[AppPrompt]):
        super().__init__(outer)
        self._registry = registry
        self._depth = depth
        self._prompt = prompt

    async def emit(self, event: Event) -> None:
        """Drop the event, because the call serves no client."""

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        servable = await self._registry.resolve(name, self.caller)
        if isinstance(request, Chat) and servable.card.kind == "model":
            if not self._prompt.done():
                tools = request.options.get("tools") or ()
                self._prompt.set_result(AppPrompt(servable.card.name, request.messages, tuple(tools)))
            await asyncio.get_running_loop().create_future()  # `prompt_of` cancels the app at this point
        if servable.card.kind == "app":
            return await self.within(servable, request)
        if servable.card.kind == "tool":
            raise InvalidRequest(f"It calls the tool '{servable.card.name}' before it calls a model.")
        return await self._outer.call(name, request)

    async def within(self, servable: Servable, request: Request) -> Result:
        """Call an app, one level deeper."""
        if self._depth >= MAX_APP_DEPTH:
            raise InvalidRequest(f"It calls apps {MAX_APP_DEPTH} levels deep before it calls a model.")
        return await servable.call(
            request, _PromptCapture(self._outer, self._registry, self._depth + 1, self._prompt)
        )

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        raise InvalidRequest("It asks a person before it calls a model.")


async def find_app(name: str, registry: Registry, caller: Principal) -> Servable:
    """Return an app by its name. Raises `InvalidRequest` if it does not exist or is not an app, and `Forbidden`."""
    try:
        servable = await registry.resolve(name, caller)
    except NotFound as error:
        raise InvalidRequest(error.message, code="app_not_found", param="app") from error
    if servable.card.kind != "app":
        raise InvalidRequest(
            f"'{name}' is a {servable.card.kind}, not an app; name a deployed app.",
            code="not_an_app",
            param="app",
        )
    return servable


def version_of(card: Card) -> int:
    """Return the version of a deployed app; 0 if it has no versions, as the chat app of a store."""
    version = card.labels.get("version")
    return version if isinstance(version, int) else 0


async def prompt_of(app: Servable, app_input: Given, registry: Registry, context: Context) -> AppPrompt:
    """Return the arguments of the first model call that ``app`` makes. Raises `InvalidRequest` if it calls no model."""
    name = app.card.name
    prompt: asyncio.Future[AppPrompt] = asyncio.get_running_loop().create_future()
    work = asyncio.ensure_future(
        _PromptCapture(context, registry, 0, prompt).within(app, _request(app.card, app_input))
    )
    try:
        async with asyncio.timeout(PROMPT_TIMEOUT_S):
            await asyncio.wait((work, prompt), return_when=asyncio.FIRST_COMPLETED)
        if prompt.done():
            return prompt.result()
        error = work.exception()
        if isinstance(error, PorticoError):
            raise InvalidRequest(f"'{name}' produced no prompt for this input: {error.message}") from error
        if error is not None:
            raise error
        raise InvalidRequest(f"'{name}' answers without calling a model.")
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"'{name}' has called no model within {PROMPT_TIMEOUT_S:.0f} seconds."
        ) from error
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _request(card: Card, app_input: Given) -> Request:
    if "input" in app_input:
        return AppInput(app_input["input"])
    messages = app_input["messages"]
    if not messages:
        raise InvalidRequest(f"'{card.name}' cannot be called: no message precedes the answer.")
    if "store" in card.labels and sum(message["role"] == "user" for message in messages) > 1:
        raise InvalidRequest(
            f"'{card.name}' first rewrites a question that is part of a conversation; use single questions."
        )
    return Chat(tuple(messages))


async def write_prompts(
    app: Servable,
    spec: FineTuningSpec,
    source: Path,
    target: Path,
    param: str,
    registry: Registry,
    context: Context,
    report: ReportCount,
) -> list[CheckExample]:
    """Write the examples in ``source`` to ``target`` with the app's prompts, line by line; return the examples for
    later checks.

    A line that is not an example is copied unchanged; the check of the file reports it later. Raises `InvalidRequest`
    with the line number if the app calls no model for an example.
    """
    read = partial(_read, reader_for(spec.method, spec.grader), spec.method)
    examples: list[CheckExample] = []
    number = 0
    with source.open("rb") as lines, target.open("wb") as out:
        while line := await pools.TRAINING.run(read_line, lines, first=not number):
            number += 1
            document = await pools.TRAINING.run(read, line)
            if document is None:
                await pools.TRAINING.run(out.write, line.rstrip(b"\r\n") + b"\n")
                continue
            app_input = _read_given(document, spec.method)
            try:
                prompt = await prompt_of(app, app_input, registry, context)
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"Line {number:,}: {error.message}", code=f"invalid_{param}", param=param
                ) from error
            if len(examples) < MAX_CHECK_EXAMPLES:
                examples += _to_check(app_input, prompt)
            await pools.TRAINING.run(out.write, orjson.dumps(_example(document, spec.method, prompt)) + b"\n")
            await report(number)
    return examples


def _read(read: Callable[[bytes], TrainingExample], method: Method, line: bytes) -> Mapping[str, Any] | None:
    """Parse a line as a training example, or as the ``input`` of an app with its ``answer``; return ``None`` if it is
    neither.
    """
    if len(line) > MAX_EXAMPLE_BYTES:
        return None
    try:
        return read(line.strip()).document
    except WrongLineError:
        if method != "supervised":
            return None
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) and document.keys() == {"input", "answer"} else None


def _read_given(document: Mapping[str, Any], method: Method) -> Given:
    if "input" in document:
        return {"input": document["input"]}
    messages = document["messages"][:-1] if method == "supervised" else document["prompt"]
    return {"messages": [{name: m[name] for name in m if name != "weight"} for m in messages]}


def _example(document: Mapping[str, Any], method: Method, prompt: AppPrompt) -> Mapping[str, Any]:
    """Return an example in the form of a training file, with its prompt replaced by the app's. Only the answer is
    learned.
    """
    new: dict[str, Any] = {"messages": list(prompt.messages)}
    if prompt.tools:
        new["tools"] = list(prompt.tools)
    match method:
        case "dpo":
            answers = {
                "preferred_output": document["chosen"],
                "non_preferred_output": document["rejected"],
            }
            return {"input": new, **answers}
        case "reinforcement":
            return {**document["item"], **new}
        case _:
            answer = _answer(document["answer"]) if "answer" in document else document["messages"][-1]
            before = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in prompt.messages]
            return {**new, "messages": [*before, answer]}


def _answer(value: Any) -> Mapping[str, Any]:
    content = value if isinstance(value, str) else orjson.dumps(value).decode()
    return {"role": "assistant", "content": content}


def _to_check(app_input: Given, prompt: AppPrompt) -> list[CheckExample]:
    example = CheckExample(app_input, list(prompt.messages), _digest(prompt.tools))
    return [example] if len(orjson.dumps(asdict(example))) <= MAX_CHECK_EXAMPLE_BYTES else []


def _digest(tools: Sequence[Any]) -> str:
    return hashlib.sha256(orjson.dumps(list(tools), option=orjson.OPT_SORT_KEYS)).hexdigest()


async def compare(
    app: Servable, saved_prompts: Mapping[str, Any], result: str, registry: Registry, context: Context
) -> TuningAppCheck:
    """Compare the app's current prompts with those that a job stored. ``result`` is the name of the trained model."""
    differences: list[str] = []
    model = ""
    for number, data in enumerate(saved_prompts["examples"], 1):
        example = CheckExample(**data)
        prompt = await prompt_of(app, example.given, registry, context)
        model = prompt.model
        differences += [f"Example {number}: {words}" for words in _differences(example, prompt)]
    return TuningAppCheck(
        app=app.card.name,
        version=version_of(app.card),
        trained_version=int(saved_prompts["version"]),
        same=not differences,
        differences=tuple(differences),
        model=model,
        uses_result=bool(result) and model == result,
    )


def _differences(check_example: CheckExample, now: AppPrompt) -> list[str]:
    differences = []
    if len(check_example.messages) != len(now.messages):
        differences.append(
            f"the prompt has {len(now.messages)} messages instead of {len(check_example.messages)}."
        )
    for number, (old, new) in enumerate(zip(check_example.messages, now.messages, strict=False), 1):
        if orjson.dumps(old, option=orjson.OPT_SORT_KEYS) != orjson.dumps(new, option=orjson.OPT_SORT_KEYS):
            differences.append(f"message {number} ({new.get('role')}) has changed.")
    if check_example.tools != _digest(now.tools):
        differences.append("the tools have changed.")
    return differences
