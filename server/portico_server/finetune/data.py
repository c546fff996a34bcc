"""Training files: read line by line, checked and counted in tokens before anything is trained."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import re
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeAlias, TypeVar

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.core.request import Tokenize, TokenizedText
from portico_server.finetune.spec import DataFacts, FineTuningSpec, Method, PreparedData
from portico_server.grading.template import fields
from portico_server.settings import MB_BYTES

# One line of a training file: what it must be for each method, and the form in which training reads it. Pure.


Message: TypeAlias = Mapping[str, Any]

ROLES: Final = ("system", "developer", "user", "assistant", "tool")

CONTROL_TOKENS: Final = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>]{1,60}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>"
    r"|\[(?:gMASK|SYSTEM_PROMPT|/SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS)\]"
)
"""What chat templates write between messages. In a message it would end that message before its time."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class WrongLineError(Exception):
    """Why a line cannot be trained on, in a sentence without its number."""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A line that can be trained on. ``document`` is what training reads; ``conversations`` are the whole ones whose
    length counts, ``tools`` what else their template is given; ``marks`` are what a template might take for its own.
    """

    document: Mapping[str, Any]
    conversations: Sequence[Sequence[Message]]
    tools: Sequence[Any]
    marks: frozenset[str]

    @property
    def key(self) -> bytes:
        """The same for lines that say the same."""
        return orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS)


def reader_for(method: Method, grader: Mapping[str, Any] | None = None) -> Callable[[bytes], TrainingExample]:
    """What reads a line for ``method``; it raises `WrongLineError`."""
    names = fields(grader) if grader else frozenset()
    reads: Mapping[Method, Callable[[Mapping[str, Any]], TrainingExample]] = {
        "supervised": _supervised,
        "dpo": _preference,
        "reinforcement": lambda document: _graded(document, names),
    }
    read = reads[method]
    return lambda data: read(_document(data))


def _document(data: bytes) -> Mapping[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongLineError(
            f"byte {error.start + 1} is not UTF-8; store the file in that encoding"
        ) from error
    try:
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise WrongLineError(
            f"it is not JSON ({str(error)[:120]}); each line must hold one object"
        ) from error
    if not isinstance(document, dict):
        raise WrongLineError("it is JSON, but no object")
    return document


def _supervised(document: Mapping[str, Any]) -> TrainingExample:
    if "messages" not in document and {"prompt", "completion"} <= document.keys():
        document = {
            **document,
            "messages": [
                {"role": "user", "content": document["prompt"]},
                {"role": "assistant", "content": document["completion"]},
            ],
        }
    if "messages" not in document and "preferred_output" in document:
        raise WrongLineError("it is a preference pair; train on those with the method 'dpo'")
    messages = _messages(document.get("messages"), "messages")
    if messages[-1]["role"] != "assistant":
        raise WrongLineError("the last message must be the assistant's, which is what is learnt")
    learnt = [m for m in messages if m["role"] == "assistant" and m.get("weight", 1) != 0]
    if not learnt:
        raise WrongLineError("every message of the assistant has the weight 0, so there is nothing to learn")
    tools = _tools(document)
    return _line({"messages": messages}, tools, [messages])


def _preference(document: Mapping[str, Any]) -> TrainingExample:
    given = document.get("input")
    if not isinstance(given, Mapping):
        raise WrongLineError("'input' is missing: an object with the 'messages' that both answers follow")
    prompt = _messages(given.get("messages"), "input.messages")
    if prompt[-1]["role"] == "assistant":
        raise WrongLineError("'input.messages' must not end with the assistant: its answer follows them")
    answers = {}
    for name in ("preferred_output", "non_preferred_output"):
        answers[name] = _messages(document.get(name), name)
        if any(message["role"] != "assistant" for message in answers[name]):
            raise WrongLineError(f"'{name}' must hold messages of the assistant alone")
    chosen, rejected = answers["preferred_output"], answers["non_preferred_output"]
    if chosen == rejected:
        raise WrongLineError("both answers are the same, so neither is preferred")
    return _line(
        {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        _tools(given),
        [[*prompt, *chosen], [*prompt, *rejected]],
    )


def _graded(document: Mapping[str, Any], names: frozenset[str]) -> TrainingExample:
    prompt = _messages(document.get("messages"), "messages")
    if prompt[-1]["role"] == "assistant":
        raise WrongLineError("the last message must not be the assistant's: the model writes that one")
    item = {name: value for name, value in document.items() if name not in ("messages", "tools")}
    for name in sorted(names):
        if name not in item:
            raise WrongLineError(f"the grader asks for the field '{name}', which the line does not have")
    return _line({"prompt": prompt, "item": item}, _tools(document), [prompt])


def _line(
    document: dict[str, Any], tools: Sequence[Any], conversations: Sequence[Sequence[Message]]
) -> TrainingExample:
    if tools:
        document["tools"] = list(tools)
    marks = {mark for conversation in conversations for message in conversation for mark in _marks(message)}
    return TrainingExample(document, conversations, tools, frozenset(marks))


def _messages(given: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given:
        raise WrongLineError(f"'{where}' is missing: a list of messages was expected")
    return [_message(message, f"{where}[{place}]") for place, message in enumerate(given)]


def _message(given: Any, where: str) -> dict[str, Any]:
    """A message as templates take it: text as one text, and nothing that they do not know."""
    if not isinstance(given, Mapping):
        raise WrongLineError(f"'{where}' is not an object with 'role' and 'content'")
    role = given.get("role")
    if role not in ROLES:
        raise WrongLineError(f"'{where}.role' is {str(role)[:40]!r}; roles are {', '.join(ROLES)}")
    message: dict[str, Any] = {"role": "system" if role == "developer" else role}
    text = _text(given.get("content"), where)
    calls = given.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list) or not calls):
        raise WrongLineError(f"'{where}.tool_calls' must be a list of calls, in a message of the assistant")
    if not calls and not text.strip():
        raise WrongLineError(f"'{where}.content' is empty")
    message["content"] = text
    if calls:
        message["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)
        ]
    for name in ("name", "tool_call_id"):
        if name in given:
            message[name] = _clean(given[name], f"{where}.{name}")
    if "weight" in given and role == "assistant":
        if given["weight"] not in (0, 1) or isinstance(given["weight"], bool):
            raise WrongLineError(f"'{where}.weight' must be 0 or 1")
        message["weight"] = given["weight"]
    return message


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return _clean(content, f"{where}.content")
    if not isinstance(content, list):
        raise WrongLineError(f"'{where}.content' must be a text")
    texts = []
    for part in content:
        if (
            not isinstance(part, Mapping)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            raise WrongLineError(
                f"'{where}.content' holds a part that is not a text; only texts are trained on"
            )
        texts.append(_clean(part["text"], f"{where}.content"))
    return "".join(texts)


def _clean(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise WrongLineError(f"'{where}' must be a text")
    found = _CONTROL.search(text)
    if found:
        raise WrongLineError(
            f"'{where}' holds the control character U+{ord(found.group()):04X} at place {found.start() + 1}"
        )
    return text


def _call(given: Any, where: str) -> dict[str, Any]:
    function = given.get("function") if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise WrongLineError(f"'{where}' must have a 'function' with 'name' and 'arguments'")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, Mapping):
        arguments = orjson.dumps(arguments).decode()
    return {
        "id": str(given.get("id", "")),
        "type": "function",
        "function": {"name": _clean(function["name"], where), "arguments": _clean(arguments, where)},
    }


def _tools(document: Mapping[str, Any]) -> Sequence[Any]:
    tools = document.get("tools")
    if tools is None:
        return ()
    good = isinstance(tools, list) and all(
        isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping) for tool in tools
    )
    if not good:
        raise WrongLineError("'tools' must be a list of functions as chat completions take them")
    return list(tools)


def _marks(message: Message) -> Iterator[str]:
    yield from CONTROL_TOKENS.findall(message["content"])
    for call in message.get("tool_calls") or ():
        yield from CONTROL_TOKENS.findall(call["function"]["arguments"])


Result = TypeVar("Result")

MAX_EXAMPLE_BYTES: Final = 8 * MB_BYTES
"""Bytes of one example."""

READ_STRIDE_BYTES: Final = 4 * MB_BYTES
"""Bytes that are read before others get their turn."""

MAX_LISTED_ERRORS: Final = 10
"""Invalid lines that are listed; the others are counted."""

MAX_SAMPLE_EXAMPLES: Final = 256
"""Examples that are counted in tokens, beyond the longest ones; of fewer, all are."""

LONGEST_EXAMPLE_COUNT: Final = 64
"""The longest examples, which are always told in tokens."""

MIN_EXAMPLES: Final = 10
"""Examples that OpenAI asks for at least."""

ReportProgress: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Called with the bytes read so far, and those in all."""


class TokenCounter(Protocol):
    """The tokenizer and the chat template that a model is served with."""

    async def length(self, messages: Sequence[Message], tools: Sequence[object], *, generation: bool) -> int:
        """Tokens of a conversation. Raises `InvalidRequest` if the template does not take it."""

    async def is_token(self, text: str) -> bool:
        """Whether a text is one token of the model, as the marks of its template are."""


@dataclass(frozen=True, slots=True)
class CheckedData:
    """The outcome for one file. ``warnings`` are sentences; an example may still be cut or left out for them."""

    path: Path
    facts: DataFacts
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    """What one pass over a file leaves: a few bytes for each example."""

    digests: set[int] = field(default_factory=set)
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))
    marks: dict[str, int] = field(default_factory=dict)
    longest: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0
    twice: list[int] = field(default_factory=list)
    twice_count: int = 0
    leaked: list[int] = field(default_factory=list)
    leaked_count: int = 0

    def refuse(self, number: int, why: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < MAX_LISTED_ERRORS:
            self.wrong.append(f"line {number:,}: {why}")


async def prepare_data(
    spec: FineTuningSpec,
    files: tuple[Path, Path | None],
    folder: Path,
    scale: TokenCounter,
    limit: int,
    report: ReportProgress | None = None,
) -> tuple[PreparedData, tuple[str, ...]]:
    """Check the training file and the validation file, and write what training reads into ``folder``.

    ``limit``: the tokens that the model was made for, 0 if not known. The sentences are warnings. Raises
    `InvalidRequest` (``invalid_training_file``, ``invalid_validation_file``) with the numbers of the wrong lines.
    """
    training, validation = files
    first = _Pass(spec.method, training, folder / "training.jsonl", "training_file", spec.grader)
    await first.read(report)
    checked = await first.measure(scale, limit, spec.method)
    warnings = list(checked.warnings)
    held_out: Path | None = None
    count = 0
    if validation is not None:
        second = _Pass(
            spec.method,
            validation,
            folder / "validation.jsonl",
            "validation_file",
            spec.grader,
            first.seen.digests,
        )
        await second.read(report)
        other = await second.measure(scale, limit, spec.method)
        warnings += [f"validation file: {sentence}" for sentence in other.warnings]
        held_out, count = other.path, other.facts.examples
    return PreparedData(checked.path, held_out, replace(checked.facts, validation=count)), tuple(warnings)


def read_line(source: BinaryIO, *, first: bool) -> bytes:
    """The next line, with its end; empty behind the last. Of one longer than `MAX_EXAMPLE_BYTES` one byte more."""
    line = rest = source.readline(MAX_EXAMPLE_BYTES + 1)
    if len(line) > MAX_EXAMPLE_BYTES:
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(MAX_EXAMPLE_BYTES)
    return line.removeprefix(b"\xef\xbb\xbf") if first else line


def content_missing(param: str) -> NotFound:
    """The error for a file whose bytes are gone."""
    return NotFound(
        "The bytes of the file are no longer on this machine. Upload it again.",
        code="file_content_missing",
        param=param,
    )


class _Pass:
    """One file: read once, written once, measured by a sample."""

    def __init__(
        self,
        method: Method,
        source: Path,
        target: Path,
        param: str,
        grader: object,
        others: set[int] | None = None,
    ) -> None:
        self._read = reader_for(method, grader if isinstance(grader, dict) else None)
        self._source, self._target, self._param = source, target, param
        self._others = others
        self.seen = _Seen()
        self._number = 0

    async def read(self, report: ReportProgress | None) -> None:
        """Go through the file. Raises `InvalidRequest` if a line is wrong."""
        try:
            total = (await pools.DATASETS.run(self._source.stat)).st_size
            await _in_thread(partial(self._target.parent.mkdir, parents=True, exist_ok=True))
            with self._source.open("rb") as source, self._target.open("wb") as target:
                while await _in_thread(self._stride, source, target):
                    if report is not None:
                        await report(source.tell(), total)
        except FileNotFoundError as error:
            raise content_missing(self._param) from error
        except OSError as error:
            raise Unavailable(f"The examples cannot be written down: {error.strerror or error}.") from error
        self._judge()

    def _stride(self, source: BinaryIO, target: BinaryIO) -> bool:
        """Some lines; whether there are more."""
        end = source.tell() + READ_STRIDE_BYTES
        while source.tell() < end:
            data = read_line(source, first=not self._number)
            if not data:
                return False
            self._number += 1
            if len(data) > MAX_EXAMPLE_BYTES:
                self.seen.refuse(self._number, f"it is longer than {MAX_EXAMPLE_BYTES // MB_BYTES} MB")
                continue
            data = data.strip()
            if data:
                self._take(data, target)
        return True

    def _take(self, data: bytes, target: BinaryIO) -> None:
        seen = self.seen
        try:
            line = self._read(data)
        except WrongLineError as error:
            seen.refuse(self._number, str(error))
            return
        document = line.key
        digest = int.from_bytes(hashlib.blake2b(document, digest_size=8).digest(), "big")
        if digest in seen.digests:
            seen.twice_count += 1
            if len(seen.twice) < MAX_LISTED_ERRORS:
                seen.twice.append(self._number)
        if self._others is not None and digest in self._others:
            seen.leaked_count += 1
            if len(seen.leaked) < MAX_LISTED_ERRORS:
                seen.leaked.append(self._number)
        seen.digests.add(digest)
        for mark in line.marks:
            seen.marks.setdefault(mark, self._number)
        entry = (len(document), len(seen.sizes))
        if len(seen.longest) < LONGEST_EXAMPLE_COUNT:
            heapq.heappush(seen.longest, entry)
        else:
            heapq.heappushpop(seen.longest, entry)
        seen.sizes.append(len(document))
        seen.places.append(target.tell())
        target.write(document + b"\n")

    def _judge(self) -> None:
        seen = self.seen
        if seen.wrong_count:
            more = seen.wrong_count - len(seen.wrong)
            listed = "; ".join(seen.wrong) + (f"; and {more:,} more" if more else "")
            raise self._invalid(
                f"{seen.wrong_count:,} of {self._number:,} lines cannot be trained on: {listed}."
            )
        if not seen.sizes:
            raise self._invalid("The file holds no examples; one JSON object a line was expected.")

    def _invalid(self, message: str) -> InvalidRequest:
        return InvalidRequest(message, code=f"invalid_{self._param}", param=self._param)

    async def measure(self, scale: TokenCounter, limit: int, method: Method) -> CheckedData:
        """Tell a sample in tokens, and estimate the rest. Raises `InvalidRequest` for marks of the template."""
        seen = self.seen
        for mark, number in sorted(seen.marks.items(), key=lambda item: item[1])[:LONGEST_EXAMPLE_COUNT]:
            if await scale.is_token(mark):
                raise self._invalid(
                    f"line {number:,}: a message holds {mark}, which the model's template writes between messages: it "
                    "would end the message there. Leave it out, or write it otherwise."
                )
        count = len(seen.sizes)
        chosen = set(range(count))
        if count > MAX_SAMPLE_EXAMPLES:
            chosen = set(random.Random(0).sample(range(count), MAX_SAMPLE_EXAMPLES))  # noqa: S311  # the same each time
            chosen |= {place for _size, place in seen.longest}
        lengths: dict[int, int] = {}
        for place in sorted(chosen):
            lengths[place] = await self._length(place, scale, method)
        each = sum(lengths.values()) / max(1, sum(seen.sizes[place] for place in lengths))
        tokens = [lengths.get(place, round(size * each)) for place, size in enumerate(seen.sizes)]
        typical = sorted(tokens)[min(count - 1, int(count * 0.95))]
        facts = DataFacts(count, sum(tokens), max(tokens), typical, measured=len(lengths))
        return CheckedData(self._target, facts, tuple(self._warnings(tokens, limit)))

    async def _length(self, place: int, scale: TokenCounter, method: Method) -> int:
        line = self._line(await pools.DATASETS.run(self._at, self.seen.places[place]), method)
        try:
            found = [
                await scale.length(messages, line.tools, generation=method == "reinforcement")
                for messages in line.conversations
            ]
        except InvalidRequest as error:
            raise self._invalid(
                f"example {place + 1:,}: the model's chat template does not take it: {error.message}"
            ) from error
        return max(found)

    def _at(self, offset: int) -> bytes:
        with self._target.open("rb") as file:
            file.seek(offset)
            return file.readline()

    @staticmethod
    def _line(data: bytes, method: Method) -> TrainingExample:
        """An example as it was written down."""
        document = orjson.loads(data)
        tools = document.get("tools") or ()
        if method == "supervised":
            whole = [document["messages"]]
        elif method == "dpo":
            whole = [[*document["prompt"], *document[name]] for name in ("chosen", "rejected")]
        else:
            whole = [document["prompt"]]
        return TrainingExample(document, whole, tools, frozenset())

    def _warnings(self, tokens: Sequence[int], limit: int) -> list[str]:
        seen, sentences = self.seen, []
        if len(tokens) < MIN_EXAMPLES and self._param == "training_file":
            sentences.append(
                f"There are only {len(tokens)} examples; OpenAI asks for {MIN_EXAMPLES} at least, and fifty teach much "
                f"better."
            )
        if seen.twice_count:
            sentences.append(f"{seen.twice_count:,} examples are there twice ({_lines(seen.twice)}).")
        if seen.leaked_count:
            sentences.append(
                f"{seen.leaked_count:,} examples are in the training file too ({_lines(seen.leaked)}): what they "
                "measure is memory."
            )
        overlong = sum(1 for length in tokens if length > limit) if limit else 0
        if overlong:
            sentences.append(
                f"{overlong:,} examples are longer than the {limit:,} tokens that the model was made for (the longest "
                f"has {max(tokens):,}); they are cut there."
            )
        return sentences


def _lines(numbers: Sequence[int]) -> str:
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} " + ", ".join(str(number) for number in numbers)


async def _in_thread(work: Callable[..., Result], *arguments: object) -> Result:
    """Work that is over when this is, even if it was cancelled: nothing is written behind somebody's back."""
    started = pools.DATASETS.begin(work, *arguments)
    try:
        return await asyncio.shield(started)
    except asyncio.CancelledError:
        await asyncio.wait([started])
        raise


# Lengths of conversations in tokens, asked of the model as it is served.


CHARS_PER_TOKEN: int = 4
"""Of a tool's description for one token: templates write those each in their own way."""


class ModelTokenCounter:
    """`portico_server.finetune.data.TokenCounter` of the model ``name``, called within a run."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name

    async def length(self, messages: Sequence[Message], tools: Sequence[object], *, generation: bool) -> int:
        unweighted = tuple({key: value for key, value in one.items() if key != "weight"} for one in messages)
        found = await self._ask(Tokenize(messages=unweighted, generation=generation))
        return len(found.ids) + (len(orjson.dumps(list(tools))) // CHARS_PER_TOKEN if tools else 0)

    async def is_token(self, text: str) -> bool:
        return len((await self._ask(Tokenize(prompt=text, special=False))).ids) == 1

    async def _ask(self, request: Tokenize) -> TokenizedText:
        found = await self._context.call(self._name, request)
        if not isinstance(found, TokenizedText):
            raise PorticoError(f"'{self._name}' answered a request for tokens with something else.")
        return found
