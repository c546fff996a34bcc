"""Training files, read line by line, checked, and measured in tokens before training."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeAlias, TypeVar

import orjson

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, Unavailable
from portico_server.features.training.spec import DataFacts, FineTuningSpec, Method, PreparedData
from portico_server.features.training.training_example import (
    Message,
    TrainingExample,
    WrongLineError,
    reader_for,
)
from portico_server.settings import MB_BYTES

Result = TypeVar("Result")

MAX_EXAMPLE_BYTES: Final = 8 * MB_BYTES
"""Maximum size of an example in bytes."""

READ_STRIDE_BYTES: Final = 4 * MB_BYTES
"""Number of bytes read before other work of the event loop may run."""

MAX_LISTED_ERRORS: Final = 10
"""Maximum number of invalid lines that an error lists; further invalid lines are only counted."""

MAX_SAMPLE_EXAMPLES: Final = 256
"""Maximum number of examples that are tokenized in addition to the longest ones. Smaller files are tokenized
completely.
"""

LONGEST_EXAMPLE_COUNT: Final = 64
"""Number of the longest examples, all of which are tokenized."""

MIN_EXAMPLES: Final = 10
"""Minimum number of examples that OpenAI requires."""

ReportProgress: TypeAlias = Callable[[int, int], Awaitable[None]]
"""Progress callback: ``(done, total)``, in bytes read."""


class TokenCounter(Protocol):
    """Counts tokens with the tokenizer and the chat template that a model is served with."""

    async def length(self, messages: Sequence[Message], tools: Sequence[object], *, generation: bool) -> int:
        """Return the number of tokens in a conversation. Raises `InvalidRequest` if the template rejects it."""

    async def is_token(self, text: str) -> bool:
        """Return whether a text is a single token of the model, as the markers of a chat template are."""


@dataclass(frozen=True, slots=True)
class CheckedData:
    """The result of checking a file. ``warnings`` are sentences; the examples that they concern may be truncated or
    skipped in training.
    """

    path: Path
    facts: DataFacts
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    """What a pass over a file has found; takes a few bytes per example."""

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

    def refuse(self, number: int, reason: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < MAX_LISTED_ERRORS:
            self.wrong.append(f"line {number:,}: {reason}")


async def prepare_data(
    spec: FineTuningSpec,
    files: tuple[Path, Path | None],
    folder: Path,
    scale: TokenCounter,
    limit: int,
    report: ReportProgress | None = None,
) -> tuple[PreparedData, tuple[str, ...]]:
    """Check the training file and the validation file, and write the training input to ``folder``. Return the prepared
    data, and warnings as sentences.

    ``limit`` is the number of tokens that the model was made for, 0 if unknown. Raises `InvalidRequest`
    (``invalid_training_file``, ``invalid_validation_file``) with the numbers of the invalid lines.
    """
    training, validation = files
    first = _Pass(spec.method, training, folder / "training.jsonl", "training_file", spec.grader)
    await first.read(report)
    checked_data = await first.measure(scale, limit, spec.method)
    warnings = list(checked_data.warnings)
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
        data = await second.measure(scale, limit, spec.method)
        warnings += [f"validation file: {sentence}" for sentence in data.warnings]
        held_out, count = data.path, data.facts.examples
    return PreparedData(checked_data.path, held_out, replace(checked_data.facts, validation=count)), tuple(
        warnings
    )


def read_line(source: BinaryIO, *, first: bool) -> bytes:
    """Return the next line including its end; empty after the last line. A line above `MAX_EXAMPLE_BYTES` is cut one
    byte after the limit.
    """
    line = piece = source.readline(MAX_EXAMPLE_BYTES + 1)
    if len(line) > MAX_EXAMPLE_BYTES:
        while piece and not piece.endswith(b"\n"):
            piece = source.readline(MAX_EXAMPLE_BYTES)
    return line.removeprefix(b"\xef\xbb\xbf") if first else line


def content_missing(param: str) -> NotFound:
    """Return the error for a file whose content is missing."""
    return NotFound(
        "The content of the file is no longer on this machine. Upload it again.",
        code="file_content_missing",
        param=param,
    )


class _Pass:
    """A pass over a file, which reads and writes the file once and counts the tokens of a sample."""

    def __init__(
        self,
        method: Method,
        source: Path,
        target: Path,
        param: str,
        grader: object,
        other_lines: set[int] | None = None,
    ) -> None:
        self._read = reader_for(method, grader if isinstance(grader, dict) else None)
        self._source, self._target, self._param = source, target, param
        self._other_lines = other_lines
        self.seen = _Seen()
        self._number = 0

    async def read(self, report: ReportProgress | None) -> None:
        """Read the file. Raises `InvalidRequest` if a line is invalid."""
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
            raise Unavailable(
                f"The examples cannot be written to disk: {error.strerror or error}."
            ) from error
        self._judge()

    def _stride(self, source: BinaryIO, target: BinaryIO) -> bool:
        """Read a portion of lines; return whether more lines follow."""
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
        examples = self.seen
        try:
            line = self._read(data)
        except WrongLineError as error:
            examples.refuse(self._number, str(error))
            return
        document = line.key
        digest = int.from_bytes(hashlib.blake2b(document, digest_size=8).digest(), "big")
        if digest in examples.digests:
            examples.twice_count += 1
            if len(examples.twice) < MAX_LISTED_ERRORS:
                examples.twice.append(self._number)
        if self._other_lines is not None and digest in self._other_lines:
            examples.leaked_count += 1
            if len(examples.leaked) < MAX_LISTED_ERRORS:
                examples.leaked.append(self._number)
        examples.digests.add(digest)
        for mark in line.marks:
            examples.marks.setdefault(mark, self._number)
        entry = (len(document), len(examples.sizes))
        if len(examples.longest) < LONGEST_EXAMPLE_COUNT:
            heapq.heappush(examples.longest, entry)
        else:
            heapq.heappushpop(examples.longest, entry)
        examples.sizes.append(len(document))
        examples.places.append(target.tell())
        target.write(document + b"\n")

    def _judge(self) -> None:
        examples = self.seen
        if examples.wrong_count:
            extra_count = examples.wrong_count - len(examples.wrong)
            problem_list = "; ".join(examples.wrong) + (f"; and {extra_count:,} more" if extra_count else "")
            raise self._invalid(
                f"{examples.wrong_count:,} of {self._number:,} lines cannot be used for training: "
                f"{problem_list}."
            )
        if not examples.sizes:
            raise self._invalid("The file contains no examples; expected one JSON object per line.")

    def _invalid(self, message: str) -> InvalidRequest:
        return InvalidRequest(message, code=f"invalid_{self._param}", param=self._param)

    async def measure(self, scale: TokenCounter, limit: int, method: Method) -> CheckedData:
        """Tokenize a sample and estimate the rest. Raises `InvalidRequest` if a message contains a marker of the
        template.
        """
        examples = self.seen
        for mark, number in sorted(examples.marks.items(), key=lambda item: item[1])[:LONGEST_EXAMPLE_COUNT]:
            if await scale.is_token(mark):
                raise self._invalid(
                    f"line {number:,}: a message contains {mark}, which the model's template writes between "
                    "messages and which would end the message. Remove it, or write it differently."
                )
        count = len(examples.sizes)
        sample_numbers = set(range(count))
        if count > MAX_SAMPLE_EXAMPLES:
            sample_numbers = set(random.Random(0).sample(range(count), MAX_SAMPLE_EXAMPLES))  # noqa: S311  # the same each time
            sample_numbers |= {place for _size, place in examples.longest}
        lengths: dict[int, int] = {}
        for place in sorted(sample_numbers):
            lengths[place] = await self._length(place, scale, method)
        tokens_per_byte = sum(lengths.values()) / max(1, sum(examples.sizes[place] for place in lengths))
        tokens = [
            lengths.get(place, round(size * tokens_per_byte)) for place, size in enumerate(examples.sizes)
        ]
        typical = sorted(tokens)[min(count - 1, int(count * 0.95))]
        facts = DataFacts(count, sum(tokens), max(tokens), typical, measured=len(lengths))
        return CheckedData(self._target, facts, tuple(self._warnings(tokens, limit)))

    async def _length(self, place: int, scale: TokenCounter, method: Method) -> int:
        line = self._line(await pools.DATASETS.run(self._at, self.seen.places[place]), method)
        try:
            lengths = [
                await scale.length(messages, line.tools, generation=method == "reinforcement")
                for messages in line.conversations
            ]
        except InvalidRequest as error:
            raise self._invalid(
                f"example {place + 1:,}: the model's chat template rejects it: {error.message}"
            ) from error
        return max(lengths)

    def _at(self, offset: int) -> bytes:
        with self._target.open("rb") as file:
            file.seek(offset)
            return file.readline()

    @staticmethod
    def _line(data: bytes, method: Method) -> TrainingExample:
        """Return an example, parsed from the form in which it was written."""
        document = orjson.loads(data)
        tools = document.get("tools") or ()
        if method == "supervised":
            conversations = [document["messages"]]
        elif method == "dpo":
            conversations = [[*document["prompt"], *document[name]] for name in ("chosen", "rejected")]
        else:
            conversations = [document["prompt"]]
        return TrainingExample(document, conversations, tools, frozenset())

    def _warnings(self, tokens: Sequence[int], limit: int) -> list[str]:
        examples, sentences = self.seen, []
        if len(tokens) < MIN_EXAMPLES and self._param == "training_file":
            sentences.append(
                f"The file has only {len(tokens)} examples; OpenAI requires at least {MIN_EXAMPLES}, and "
                "fifty examples give much better results."
            )
        if examples.twice_count:
            sentences.append(f"{examples.twice_count:,} examples are duplicates ({_lines(examples.twice)}).")
        if examples.leaked_count:
            sentences.append(
                f"{examples.leaked_count:,} examples are also in the training file "
                f"({_lines(examples.leaked)}), so they measure only memorization."
            )
        overlong = sum(1 for length in tokens if length > limit) if limit else 0
        if overlong:
            sentences.append(
                f"{overlong:,} examples exceed the {limit:,} tokens that the model was made for (the longest "
                f"has {max(tokens):,}) and are truncated."
            )
        return sentences


def _lines(numbers: Sequence[int]) -> str:
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} " + ", ".join(str(number) for number in numbers)


async def _in_thread(work: Callable[..., Result], *arguments: object) -> Result:
    """Run work in a thread. Wait for its end even if cancelled, so that it does not continue to write unnoticed."""
    future = pools.DATASETS.begin(work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
