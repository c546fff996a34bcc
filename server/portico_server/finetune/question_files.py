"""Writes the questions to a store as the files that training reads."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Search, SearchResult
from portico_server.core.training_passages import ReadableStores, StorePassage
from portico_server.finetune.cloze_questions import made_questions
from portico_server.finetune.data import MAX_LISTED_ERRORS
from portico_server.finetune.negatives import NegativeChooser, held_back_files, is_same_text, shared_words
from portico_server.finetune.questions import (
    DEFAULT_QUESTION_COUNT,
    HELD_BACK_NEGATIVE_COUNT,
    HELD_BACK_SHARE,
    MAX_HELD_BACK,
    MAX_PASSAGE_CHARS,
    MAX_PASSAGES,
    MAX_QUESTION_CHARS,
    MIN_PASSAGE_CHARS,
    MIN_QUESTIONS,
    MIN_SHARED,
    SEARCH_DEPTH,
    TRAINED_NEGATIVE_COUNT,
    AnsweredQuestion,
    StoreQuestion,
    Told,
)
from portico_server.finetune.spec import DataFacts, FineTuningSpec, Method, PreparedData
from portico_server.finetune.written_questions import read_questions


async def prepare_questions(
    spec: FineTuningSpec,
    file: Path | None,
    folder: Path,
    stores: ReadableStores,
    context: Context,
    limit: int,
    told: Told,
) -> tuple[PreparedData, tuple[str, ...]]:
    """Write training and held-back questions into ``folder``, with what answers them and what does not.

    ``file`` has the user's questions; without one they are made. ``context`` has the rights of the job's owner;
    ``limit`` is the tokens that the model was made for. Raises `InvalidRequest`: a wrong line, too few questions.
    """
    asked_file = await pools.DATASETS.run(read_questions, file) if file is not None else None
    passages = await stores.passages(spec.store, context.caller, MAX_PASSAGES)
    warnings: list[str] = []
    if asked_file is not None:
        asked = await _answered(asked_file, passages, spec, context, told, warnings)
    elif spec.asker:
        asked = await _written(passages, spec, context, told)
    else:
        wanted = spec.questions or DEFAULT_QUESTION_COUNT
        asked = await pools.DATASETS.run(made_questions, passages, wanted, spec.seed)
    if len(asked) < MIN_QUESTIONS:
        why = f"The store '{spec.store}' has {len(passages):,} passages, which answer {len(asked):,} questions; "
        raise InvalidRequest(
            f"{why}{MIN_QUESTIONS} are needed at least. Give a file with more questions, or add documents.",
            code="too_few_questions",
            param="training_file" if file is not None else "store",
        )
    files = held_back_files(asked)
    if not files:
        warnings.append(
            "All questions are about one file: those that are held back are about it too, so what they measure is "
            "partly memory."
        )
    rows = [row async for row in _rows(asked, files, passages, spec, context, told)]
    training = [row for row, held in rows if not held]
    validation = [row for row, held in rows if held][:MAX_HELD_BACK]
    await pools.DATASETS.run(_write, folder, training, validation)
    tokens = [_lengths(row, spec.method) for row in training]
    each = sorted(max(lengths) for lengths in tokens)
    facts = DataFacts(
        len(training),
        sum(map(sum, tokens)),
        each[-1],
        each[int(len(each) * 0.95)] if len(each) > 1 else each[0],
        len(validation),
    )
    if limit and each[-1] > limit:
        warnings.append(
            f"Passages of more than about {limit:,} tokens are cut there, as the model reads no more."
        )
    if asked_file is None and not spec.asker:
        warnings.append(
            "The questions are made of the store's own headings and sentences: questions of people, in a file, teach "
            "and measure better."
        )
    paths = (folder / "training.jsonl", folder / "validation.jsonl")
    return PreparedData(*paths, facts), tuple(warnings)


async def _answered(
    questions: Sequence[StoreQuestion],
    passages: Sequence[StorePassage],
    spec: FineTuningSpec,
    context: Context,
    told: Told,
    warnings: list[str],
) -> list[AnsweredQuestion]:
    """The questions of a file with the passages that answer them; for those without one there is a warning."""
    found: list[AnsweredQuestion] = []
    missing: list[int] = []
    known: dict[str, list[StorePassage]] = {}
    for passage in passages:
        known.setdefault(passage.file, []).append(passage)
    for done, one in enumerate(questions):
        await told("answers", one.question[:80], done, len(questions))
        hits = await _search(spec.store, one.question, context)
        if one.answer and not one.passage:
            hits += await _search(spec.store, one.answer[:MAX_QUESTION_CHARS], context)
        if one.file:
            hits = [hit for hit in hits if hit.file == one.file] or known.get(one.file, [])
            hits.sort(key=lambda hit: -shared_words(one.question, hit.text))
        answering = await pools.DATASETS.run(_answer_among, one, hits)
        if answering is None:
            missing.append(one.number)
            continue
        whole = bool(one.file) and not one.passage and not one.answer
        found.append(AnsweredQuestion(one.question, answering, answering.text, one.answer, whole))
    if missing:
        listed = ", ".join(map(str, missing[:MAX_LISTED_ERRORS])) + (
            ", …" if len(missing) > MAX_LISTED_ERRORS else ""
        )
        warnings.append(
            f"{len(missing):,} questions are left out, as nothing in the store answers them (lines {listed})."
        )
    return found


def _answer_among(one: StoreQuestion, hits: Sequence[StorePassage]) -> StorePassage | None:
    """The passage that answers a question, as far as what belongs to it says."""
    if one.passage:
        return next((hit for hit in hits if is_same_text(one.passage, hit.text)), None)
    if one.answer:
        best = max(hits, key=lambda hit: shared_words(one.answer, hit.text), default=None)
        good = best is not None and (bool(one.file) or shared_words(one.answer, best.text) >= MIN_SHARED)
        return best if good else None
    return hits[0] if hits else None


async def _written(
    passages: Sequence[StorePassage], spec: FineTuningSpec, context: Context, told: Told
) -> list[AnsweredQuestion]:
    """A question about each of some passages, by the chat model ``asker``."""
    wanted = spec.questions or DEFAULT_QUESTION_COUNT
    order = [passage for passage in passages if len(passage.text) >= MIN_PASSAGE_CHARS]
    random.Random(spec.seed).shuffle(order)  # noqa: S311  # no secret
    found: list[AnsweredQuestion] = []
    for done, passage in enumerate(order[:wanted]):
        await told("questions", f"'{spec.asker}' asks about {passage.file}", done, wanted)
        messages = builtin.messages("write-question", passage=passage.text[:MAX_PASSAGE_CHARS])
        options = {"temperature": 0, "max_tokens": 120}
        reply = await context.call(spec.asker, Chat(messages, options))
        if not isinstance(reply, ChatReply):
            raise PorticoError(f"'{spec.asker}' answered a chat with something else.")
        question = next((line.strip() for line in reply.content.splitlines() if line.strip()), "")
        if question:
            found.append(AnsweredQuestion(question[:MAX_QUESTION_CHARS], passage, passage.text))
    return found


async def _search(store: str, query: str, context: Context) -> list[StorePassage]:
    found = await context.call(f"store/{store}", Search(query, max_num_results=SEARCH_DEPTH))
    if not isinstance(found, SearchResult):
        raise PorticoError(f"The store '{store}' answered a search with something else.")
    return [StorePassage(0, hit.filename, tuple(hit.place.heading), hit.text) for hit in found.passages]


async def _rows(
    asked: Sequence[AnsweredQuestion],
    held_files: frozenset[str],
    passages: Sequence[StorePassage],
    spec: FineTuningSpec,
    context: Context,
    told: Told,
) -> AsyncIterator[tuple[Mapping[str, Any], bool]]:
    """Each question as training reads it, and whether it is held back. Nothing of a file that is held back is
    trained on, neither as an answer nor as a wrong one.
    """
    every = frozenset(passage.file for passage in passages) | {one.passage.file for one in asked}
    chooser = NegativeChooser(passages, spec.seed)
    held_numbers = frozenset() if held_files else frozenset(range(0, len(asked), round(1 / HELD_BACK_SHARE)))
    for number, one in enumerate(asked):
        await told("negatives", one.question[:80], number, len(asked))
        held = one.passage.file in held_files or number in held_numbers
        hits = await _search(spec.store, one.question, context)
        files = every if held else every - held_files
        count = HELD_BACK_NEGATIVE_COUNT if held else TRAINED_NEGATIVE_COUNT
        negatives = await pools.DATASETS.run(chooser.choose, one, hits, files, count)
        yield {"query": one.question, "positives": [one.text], "negatives": negatives}, held


def _write(folder: Path, training: Sequence[Any], validation: Sequence[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("training", training), ("validation", validation)):
        with (folder / f"{name}.jsonl").open("wb") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def _lengths(row: Mapping[str, Any], method: Method) -> list[int]:
    """About how many tokens each sequence of an example has."""
    query, texts = estimated_tokens(row["query"]), [*row["positives"], *row["negatives"]]
    lengths = [estimated_tokens(text) for text in texts]
    return [query + one for one in lengths] if method == "rerank" else [query, *lengths]


def estimated_tokens(text: str) -> int:
    """About four letters a token, and each character of scripts that write none."""
    wide = sum(1 for character in text if character >= "\u2e80")
    return 3 + wide + (len(text) - wide) // 4
