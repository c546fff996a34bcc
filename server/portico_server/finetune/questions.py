"""The questions to a store as training data: what answers each, and what is near it and does not."""

from __future__ import annotations

import hashlib
import random
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Search, SearchResult
from portico_server.core.training_passages import ReadableStores, StorePassage
from portico_server.finetune.data import MAX_EXAMPLE_BYTES, MAX_LISTED_ERRORS, content_missing, read_line
from portico_server.finetune.spec import DataFacts, FineTuningSpec, Method, PreparedData

MAX_QUESTIONS: Final = 5_000
"""Questions of one training."""

DEFAULT_QUESTION_COUNT: Final = 500
"""Questions that are made where nothing is said."""

MIN_QUESTIONS: Final = 8
"""Questions with an answer below which nothing is trained."""

MAX_QUESTION_CHARS: Final = 2_000

MAX_PASSAGES: Final = 20_000
"""Passages of a store that are looked at."""

MIN_PASSAGE_CHARS: Final = 80
"""Characters of a passage of which a question is made."""

MAX_PASSAGE_CHARS: Final = 4_000
"""Characters of it that a model is shown."""

SENTENCE_CHARS: Final = (20, 300)
"""Characters of a sentence that is taken out of its passage as a question: at least, and at most."""

SEARCH_DEPTH: Final = 30
"""Results of the store's search among which wrong answers are looked for."""

TRAINED_NEGATIVE_COUNT: Final = 3
"""Wrong answers beside a question that is trained on."""

HELD_BACK_NEGATIVE_COUNT: Final = 9
"""Wrong answers beside a question that is measured with."""

HELD_BACK_SHARE: Final = 0.15
"""Share of the questions that is held back, at least: whole files are."""

MAX_HELD_BACK: Final = 200
"""Questions that are measured with."""

MIN_SHARED: Final = 0.5
"""Share of an answer's words that a passage has if it is where the answer stands."""

_SHINGLE_CHARS: Final = 12

_DUPLICATE_SHARE: Final = 0.5
"""Share of the shorter text's runs of characters that two near-duplicates have in common."""

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")

_WORD: Final = re.compile(r"[^\W_]+")

Told = Callable[[str, str, int, int], Awaitable[None]]
"""Told a stage, what is done, how much of it, and of how many."""


@dataclass(frozen=True, slots=True)
class StoreQuestion:
    """A question, and what answers it: a ``file`` by its name, a ``passage`` of its text, or an ``answer`` that stands
    in it. ``number`` is that of its line.
    """

    number: int
    question: str
    file: str = ""
    passage: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with a passage that answers it. ``text`` is what is trained on: the passage, or what is left of it
    without the sentence that was made the question. ``whole_file``: any passage of the file may answer it.
    """

    question: str
    passage: StorePassage
    text: str
    answer: str = ""
    whole_file: bool = False


# Questions that somebody wrote: a file with one a line.


def read_questions(path: Path) -> list[StoreQuestion]:
    """The questions of a file. Raises `InvalidRequest` with the numbers of the wrong lines. Blocks."""
    found: list[StoreQuestion] = []
    wrong: list[str] = []
    wrong_count = number = 0
    try:
        with path.open("rb") as source:
            while data := read_line(source, first=not number):
                number += 1
                if not data.strip():
                    continue
                try:
                    found.append(_question(data, number))
                except ValueError as error:
                    wrong_count += 1
                    if len(wrong) < MAX_LISTED_ERRORS:
                        wrong.append(f"line {number:,}: {error}")
                if len(found) > MAX_QUESTIONS:
                    raise _invalid(f"The file has more than {MAX_QUESTIONS:,} questions. Leave some out.")
    except FileNotFoundError as error:
        raise content_missing("training_file") from error
    if wrong_count:
        more = wrong_count - len(wrong)
        listed = "; ".join(wrong) + (f"; and {more:,} more" if more else "")
        raise _invalid(f"{wrong_count:,} of {number:,} lines cannot be trained on: {listed}.")
    if not found:
        raise _invalid("The file holds no questions; one JSON object a line was expected.")
    return found


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_training_file", param="training_file")


def _question(data: bytes, number: int) -> StoreQuestion:
    """A line: ``question`` with ``file``, ``passage`` or ``answer``; or a conversation, or an item of an evaluation,
    whose last question has an answer. Raises `ValueError`.
    """
    if len(data) > MAX_EXAMPLE_BYTES:
        raise ValueError("it is too long")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError("it is not JSON; each line must hold one object") from error
    if isinstance(document, dict) and isinstance(document.get("item"), dict):
        document = document["item"]
    if not isinstance(document, dict):
        raise ValueError("it is JSON, but no object")
    values = {name: document.get(name, "") for name in ("question", "file", "passage", "answer")}
    if "messages" in document:
        values |= _rated(document["messages"], values["answer"])
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"'{name}' must be a text")
    if not values["question"].strip():
        raise ValueError("'question' is missing")
    if len(values["question"]) > MAX_QUESTION_CHARS:
        raise ValueError(f"its question has more than {MAX_QUESTION_CHARS:,} characters")
    if not any(values[name].strip() for name in ("file", "passage", "answer")):
        raise ValueError("it needs the 'file', the 'passage' or the 'answer' that belongs to its question")
    return StoreQuestion(number, **{name: value.strip() for name, value in values.items()})


def _rated(messages: Any, answer: Any) -> dict[str, Any]:
    """The last question of a conversation, and the answer to it that is learnt."""
    given = [one for one in messages if isinstance(one, Mapping)] if isinstance(messages, list) else []
    said = [one for one in given if one.get("role") == "assistant" and one.get("weight", 1) != 0]
    asked = [one for one in given if one.get("role") == "user"]
    if not asked:
        raise ValueError("'messages' has no question of a user")
    return {
        "question": asked[-1].get("content"),
        "answer": answer or (said[-1].get("content") if said else ""),
    }


# Questions that are made of the store's own text, without a model.


def made_questions(passages: Sequence[StorePassage], count: int, seed: int) -> list[AnsweredQuestion]:
    """At most ``count`` questions: the headings above a passage, and a sentence that is taken out of it.

    The second is the inverse cloze task (K. Lee et al. 2019, https://arxiv.org/abs/1906.00300). The same seed makes
    the same questions.
    """
    chance = random.Random(seed)  # noqa: S311  # no secret
    order = [passage for passage in passages if len(passage.text) >= MIN_PASSAGE_CHARS]
    chance.shuffle(order)
    headed: set[tuple[str, tuple[str, ...]]] = set()
    by_heading: list[AnsweredQuestion] = []
    by_sentence: list[AnsweredQuestion] = []
    for passage in order:
        if len(by_sentence) >= count and len(by_heading) >= count:
            break
        place = (passage.file, passage.headings)
        if passage.headings and place not in headed:
            headed.add(place)
            question = " ".join(passage.headings[-2:])[:MAX_QUESTION_CHARS]
            by_heading.append(AnsweredQuestion(question, passage, passage.text))
        if (cut := _cloze(passage, chance)) is not None:
            by_sentence.append(cut)
    half = min(len(by_heading), max(count // 2, count - len(by_sentence)))
    return [*by_heading[:half], *by_sentence[: count - half]]


def _cloze(passage: StorePassage, chance: random.Random) -> AnsweredQuestion | None:
    """A sentence of the passage as the question, and the rest as what answers it."""
    sentences = [one.strip() for one in _SENTENCE_END.split(passage.text) if one.strip()]
    least, most = SENTENCE_CHARS
    fitting = [one for one in sentences if least <= len(one) <= most and not one.startswith("#")]
    if len(sentences) < 2 or not fitting:
        return None
    sentence = chance.choice(fitting)
    rest = " ".join(passage.text.replace(sentence, " ", 1).split())
    return AnsweredQuestion(sentence, passage, rest) if len(rest) >= SENTENCE_CHARS[0] else None


# What answers a question, and what does not.


def is_same_text(one: str, other: str) -> bool:
    """Whether one text lies in the other; white space does not count."""
    left, right = "".join(one.split()), "".join(other.split())
    return bool(left and right) and (left in right or right in left)


def shared_words(answer: str, text: str) -> float:
    """The share of the words of ``answer``, each pair of characters where words have no spaces, that ``text`` has."""
    wanted, there = _words(answer), _words(text)
    return len(wanted & there) / len(wanted) if wanted else 0.0


def _words(text: str) -> frozenset[str]:
    found: set[str] = set()
    for word in _WORD.findall(text.lower()):
        if word.isascii():
            found.add(word)
        else:
            found.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return frozenset(found)


def shingles(text: str) -> frozenset[int]:
    """A sample of the runs of characters of a text, by which near-duplicates are found; of a short text all of them."""
    bare = "".join(text.lower().split())
    every = (
        zlib.crc32(bare[at : at + _SHINGLE_CHARS].encode())
        for at in range(max(1, len(bare) - _SHINGLE_CHARS + 1))
    )
    return frozenset(every if len(bare) < 400 else (one for one in every if one % 4 == 0))


def is_near_duplicate(one: frozenset[int], other: frozenset[int]) -> bool:
    """Whether two texts are the same but for a few words, or one holds most of the other."""
    least = min(len(one), len(other))
    return bool(least) and len(one & other) >= _DUPLICATE_SHARE * least


@dataclass(slots=True)
class NegativeChooser:
    """Passages that are near a question and do not answer it. ``files`` are those whose passages may be taken."""

    passages: Sequence[StorePassage]
    seed: int

    def choose(
        self, asked: AnsweredQuestion, hits: Sequence[StorePassage], files: frozenset[str], count: int
    ) -> list[str]:
        """First what the store's search found, then others at random. Blocks for milliseconds."""
        chance = random.Random(f"{self.seed}:{asked.question}")  # noqa: S311  # no secret
        others = chance.sample(self.passages, min(len(self.passages), 4 * count))
        taken: list[str] = []
        seen = [shingles(asked.text)]
        for hit in [*hits, *others]:
            if len(taken) == count:
                break
            if hit.file not in files or _may_answer(asked, hit):
                continue
            runs = shingles(hit.text)
            if not any(is_near_duplicate(runs, known) for known in seen):
                seen.append(runs)
                taken.append(hit.text)
        return taken


def _may_answer(asked: AnsweredQuestion, hit: StorePassage) -> bool:
    own = asked.passage
    if hit.file == own.file and (asked.whole_file or (own.headings and hit.headings == own.headings)):
        return True
    if is_same_text(own.text, hit.text) or is_same_text(asked.question, hit.text):
        return True
    return bool(asked.answer) and shared_words(asked.answer, hit.text) >= shared_words(asked.answer, own.text)


def held_back_files(asked: Sequence[AnsweredQuestion]) -> frozenset[str]:
    """The files whose questions are held back: the same ones each time, and never all."""
    counts: dict[str, int] = {}
    for one in asked:
        counts[one.passage.file] = counts.get(one.passage.file, 0) + 1
    order = sorted(counts, key=lambda name: hashlib.blake2b(name.encode()).digest())
    taken: set[str] = set()
    held = 0
    for name in order[:-1]:
        if held >= HELD_BACK_SHARE * len(asked):
            break
        if held + counts[name] <= len(asked) // 2:
            taken.add(name)
            held += counts[name]
    return frozenset(taken)


# From a store to the files that training reads.


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
