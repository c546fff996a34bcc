"""Further searches for information that the first passages of a search lack. Either a chat model writes the queries,
or rules determine them.

The rules follow names that the first passages mention and the question does not. They need no links in the database:
they search for the words of each name, and the passages found continue a chain. Chains are scored as in
`portico_server.features.stores.links.follow`. A model reads the passages and writes the next queries. If its answer is
unusable, the rules continue.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Steps
from portico_server.db.links import LinkRow
from portico_server.features.chunkers.prompts import answer_text
from portico_server.features.stores.fusion import best_first
from portico_server.features.stores.index.vector_engine import Ranking
from portico_server.features.stores.name_walk import MAX_READ_PASSAGES, MAX_TERM_HITS, NameWalk
from portico_server.features.stores.search_trace import SearchTrace

MAX_STEPS = 4
"""Maximum number of consecutive searches, including the first."""

MAX_TOKENS, MAX_SECONDS, MAX_CALLS = 100_000, 120.0, 12
"""Maximum values of a budget."""

ENOUGH_SHARE = 2 / 3
"""If one of the first passages contains more than this share of the question's words, it is sufficient and no
automatic step follows.
"""

MAX_SECOND_RATIO = 0.7
"""Maximum ratio between the scores of the second and the first passage at which the first is clearly the answer. No
automatic step follows then.
"""

MIN_LONG_WORDS = 5
"""Minimum number of words in a question for an automatic step. Shorter questions rarely need more than one passage."""


FAR_PASSAGES = slice(20, 60)
"""The positions of candidates that represent passages unrelated to the question."""


MAX_JUDGED_PASSAGES = 3
"""Number of first passages that may be sufficient."""

MAX_QUESTION_CHARS = 2_000
"""Maximum number of characters of a question that the steps use."""


MAX_QUERIES = 3
"""Maximum number of queries that a model may request in one step."""

MAX_QUERY_CHARS = 300
"""Maximum length of a query from a model, in characters."""

MAX_SHOWN_PASSAGES, MAX_SHOWN_CHARS = 8, 800
"""Maximum number of passages shown to a model, and maximum number of characters of each."""

MAX_ANSWER_TOKENS = 300
"""Maximum length of a model's answer in tokens."""

STEP_FACTOR = 0.97
"""Factor for the scores of the model's searches. It is applied once for each step after the first."""

_ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "enough": {"type": "boolean"},
        "useful": {"type": "array", "items": {"type": "integer"}, "maxItems": MAX_SHOWN_PASSAGES},
        "searches": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_QUERIES},
    },
    "required": ["enough", "useful", "searches"],
    "additionalProperties": False,
}


def check_steps(steps: Steps) -> None:
    """Raise `InvalidRequest` if a value of the budget exceeds its limits."""
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("steps", steps.limit, 0, MAX_STEPS),
        ("max_tokens", steps.max_tokens, 1, MAX_TOKENS),
        ("max_seconds", steps.max_seconds, 0.1, MAX_SECONDS),
        ("max_calls", steps.max_calls, 0, MAX_CALLS),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:
            raise InvalidRequest(
                f"The search steps setting '{name}' is {value:g}, but must be from {low:g} to {high:g}.",
                param=name,
            )


@dataclass(frozen=True, slots=True)
class StepSearch:
    """The functions with which steps search a store: by words, by a full search, and for the texts of chunks."""

    by_words: Callable[[Sequence[str], int], Awaitable[Sequence[Ranking]]]
    by_question: Callable[[str, SearchTrace], Awaitable[Ranking]]
    texts: Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]


async def search_further(
    question: str, steps: Steps, ranking: Ranking, search: StepSearch, context: Context, trace: SearchTrace
) -> Ranking | None:
    """Return ``ranking`` with the results of further searches, with scores in [0, 1]. Return ``None`` if they find
    nothing.

    The first passage stays first. Searches that would begin after `Steps.max_seconds` are left out.
    """
    question = question[:MAX_QUESTION_CHARS]
    work = _FurtherSteps(question, steps, ranking, search, context, trace)
    try:
        async with asyncio.timeout(steps.max_seconds) as limit:
            await work.take()
    except TimeoutError:
        if not limit.expired():
            raise
        trace.add("step", time.perf_counter(), note=f"the limit of {steps.max_seconds:g} seconds is reached")
    return work.result() if work.has_found else None


class _FurtherSteps:
    """The further steps of one search."""

    def __init__(
        self,
        question: str,
        steps: Steps,
        ranking: Ranking,
        search: StepSearch,
        context: Context,
        trace: SearchTrace,
    ) -> None:
        self._question = question
        self._steps = steps
        self._limit = steps.limit or MAX_STEPS
        self._first = ranking
        self._search = search
        self._context = context
        self._trace = trace
        self._texts: dict[int, str] = {}
        self._walk: NameWalk | None = None
        self._further: list[tuple[int, Ranking]] = []
        """The rankings of the model's searches, each with the number of its step."""
        self._useful: dict[int, None] = {}
        """Ids of the passages that the model called useful, in that order."""

    async def take(self) -> None:
        """Take the further steps, unless the first passages are sufficient."""
        if not self._first or self._limit < 2:
            return
        start_time = time.perf_counter()
        await self._read([chunk for chunk, _ in self._first[:MAX_READ_PASSAGES]])
        best = [self._texts[chunk] for chunk, _ in self._first[:MAX_JUDGED_PASSAGES] if chunk in self._texts]
        share, words = await pools.SEARCH.run(covered_share, self._question, best)
        is_enough = self._steps.limit == 0 and (
            share > ENOUGH_SHARE or words < MIN_LONG_WORDS or self._lead() <= MAX_SECOND_RATIO
        )
        note = f"{share:.0%} of the question's words{': enough' if is_enough else ''}"
        self._trace.of("1").add("step", start_time, note=note)
        if is_enough:
            return
        step = 2
        if self._steps.model:
            step = await self._by_model()
        if step <= self._limit:
            await self._by_rules(step)

    def _lead(self) -> float:
        """Return the ratio between the scores of the second and the first passage."""
        (_, best), *other_candidates = self._first[:2]
        return other_candidates[0][1] / best if other_candidates and best else 0.0

    @property
    def has_found(self) -> bool:
        """Return whether any further step has found passages."""
        return bool(self._further or self._useful or self._walk)

    def result(self) -> Ranking:
        """Return all results."""
        ranking = self._first
        if self._further or self._useful:
            scores = dict(ranking)
            for step, scored_chunks in self._further:
                for chunk, score in scored_chunks:
                    scores[chunk] = max(scores.get(chunk, 0.0), score * STEP_FACTOR ** (step - 1))
            for place, chunk in enumerate(self._useful):
                if chunk in scores:
                    scores[chunk] = max(scores[chunk], STEP_FACTOR ** (place / MAX_SHOWN_PASSAGES))
            ranking = best_first(scores)
        if self._walk is not None:
            ranking = self._walk.fused(ranking)
        return _first_stays(ranking, self._first)

    async def _read(self, chunks: Iterable[int]) -> None:
        missing = [chunk for chunk in chunks if chunk not in self._texts]
        if missing:
            self._texts |= await self._search.texts(missing)

    async def _emit(self, step: int, queries: Iterable[str]) -> None:
        words = ", ".join(queries)[:MAX_QUERY_CHARS]
        await self._context.emit(Progressed("search", words, done=step, total=self._limit, unit="steps"))

    async def _by_rules(self, step: int) -> None:
        start_time = time.perf_counter()
        ranking = self.result()
        await self._read([chunk for chunk, _ in ranking[:MAX_READ_PASSAGES]])
        far = [chunk for chunk, _ in self._first[FAR_PASSAGES]]
        await self._read(far)
        walk = NameWalk(self._question, ranking, self._texts, far)
        terms = await pools.SEARCH.run(walk.named_terms)
        if not terms:
            self._trace.of(str(step)).add(
                "step", start_time, note="no name in the question occurs in the first passages"
            )
            return
        walk.begin(await self._naming(walk, terms))
        while step <= self._limit:
            worth = await pools.SEARCH.run(walk.next_terms)
            if not worth:
                self._trace.of(str(step)).add("step", start_time, note="no further names")
                break
            names = [walk.texts_of_terms[term] for term in worth]
            await self._emit(step, names)
            before = len(walk.graph.reached)
            walk.go(await self._naming(walk, names), worth)
            new = len(walk.graph.reached) - before
            if new:
                self._walk = walk
            note = f"{', '.join(names)[:MAX_QUERY_CHARS]}: {new} more passages"
            self._trace.of(str(step)).add("step", start_time, walk.chains()[:MAX_READ_PASSAGES], note)
            if not new:
                break
            step, start_time = step + 1, time.perf_counter()

    async def _naming(self, walk: NameWalk, names: Sequence[str]) -> dict[int, list[LinkRow]]:
        """Return the passages that contain each of ``names``, in the form of links."""
        if not names:
            return {}
        rankings = await self._search.by_words(names, MAX_TERM_HITS)
        await self._read(dict.fromkeys(chunk for ranking in rankings for chunk, _ in ranking))
        return await pools.SEARCH.run(walk.rows, names, rankings)

    async def _by_model(self) -> int:
        """Let the model choose the searches. Return the step at which the rules must continue, or a step after the
        last if they must not.
        """
        budget, tried_queries = self._steps, {" ".join(self._question.lower().split())}
        spent_tokens = 0
        for calls, step in enumerate(range(2, self._limit + 1)):
            start_time = time.perf_counter()
            part = self._trace.of(str(step))
            if calls >= budget.max_calls or spent_tokens >= budget.max_tokens:
                part.add(
                    "step",
                    start_time,
                    note=f"{calls} calls and {spent_tokens:,} tokens: the budget is used up",
                )
                return self._limit + 1
            shown_chunks = [chunk for chunk, _ in self.result()[:MAX_SHOWN_PASSAGES]]
            await self._read(shown_chunks)
            shown_chunks = [chunk for chunk in shown_chunks if chunk in self._texts]
            try:
                model_step, tokens = await self._ask(shown_chunks, budget.max_tokens - spent_tokens)
            except PorticoError as error:
                part.add(
                    "step",
                    start_time,
                    note=f"'{budget.model}' failed, continuing by rules: {error.message}"[:300],
                )
                return step
            spent_tokens += tokens
            if model_step is None:
                part.add(
                    "step", start_time, note=f"'{budget.model}' returned nothing usable, continuing by rules"
                )
                return step
            self._useful |= dict.fromkeys(
                shown_chunks[number - 1] for number in model_step.useful if 0 < number <= len(shown_chunks)
            )
            queries = [
                query for query in model_step.searches if " ".join(query.lower().split()) not in tried_queries
            ]
            if model_step.enough:
                part.add("step", start_time, note="enough")
                return self._limit + 1
            if not queries:
                part.add("step", start_time, note=f"'{budget.model}' repeats itself, continuing by rules")
                return step
            tried_queries |= {" ".join(query.lower().split()) for query in queries}
            await self._emit(step, queries)
            for query in queries:
                self._further.append(
                    (step, await self._search.by_question(query, self._trace.of(f"step {step}")))
                )
            part.add("step", start_time, self.result()[:MAX_READ_PASSAGES], " | ".join(queries))
        return self._limit + 1

    async def _ask(self, shown_chunks: Sequence[int], tokens: int) -> tuple[_ModelStep | None, int]:
        passages = "\n\n".join(
            f"[{number}] {' '.join(self._texts[chunk].split())[:MAX_SHOWN_CHARS]}"
            for number, chunk in enumerate(shown_chunks, start=1)
        )
        messages = builtin.messages(
            "next-search", question=self._question, passages=passages, count=MAX_QUERIES
        )
        options = {
            "temperature": 0,
            "max_tokens": min(MAX_ANSWER_TOKENS, tokens),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "next_search", "strict": True, "schema": _ANSWER_SCHEMA},
            },
        }
        reply = await self._context.call(self._steps.model, Chat(messages, options))
        if not isinstance(reply, ChatReply):
            return None, 0
        return _read_answer(reply.content), reply.usage.prompt_tokens + reply.usage.completion_tokens


@dataclass(frozen=True, slots=True)
class _ModelStep:
    """A model's answer for one step: whether the passages are sufficient, which of them are useful, and the next
    queries.
    """

    enough: bool
    useful: tuple[int, ...]
    searches: tuple[str, ...]


_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def _read_answer(answer: str) -> _ModelStep | None:
    """Parse the JSON in a model's answer. Return ``None`` if the answer contains no JSON in the expected form."""
    match = _OBJECT.search(answer_text(answer, cut=False))
    try:
        verdict: Any = json.loads(match[0]) if match else None
    except (ValueError, RecursionError):
        verdict = None
    if not isinstance(verdict, dict) or not isinstance(verdict.get("enough"), bool):
        return None
    useful, searches = verdict.get("useful"), verdict.get("searches")
    numbers = [number for number in useful if type(number) is int] if isinstance(useful, list) else []
    texts = [text for text in searches if isinstance(text, str)] if isinstance(searches, list) else []
    queries = (" ".join(text.split())[:MAX_QUERY_CHARS] for text in texts)
    return _ModelStep(
        verdict["enough"],
        tuple(numbers[:MAX_SHOWN_PASSAGES]),
        tuple(dict.fromkeys(query for query in queries if query))[:MAX_QUERIES],
    )


def _first_stays(ranking: Ranking, first: Ranking) -> Ranking:
    """Return ``ranking`` with the best passage of the first search moved to the front, so that no step makes the top
    result worse.
    """
    if not first or not ranking or ranking[0][0] == first[0][0]:
        return ranking
    best = first[0][0]
    other_candidates = [(chunk, score) for chunk, score in ranking if chunk != best]
    return (
        [(best, max(first[0][1], other_candidates[0][1])), *other_candidates]
        if other_candidates
        else [first[0]]
    )


def covered_share(question: str, passages: Sequence[str]) -> tuple[float, int]:
    """Return the largest share of the question's words that one of ``passages`` contains, and the number of words in
    the question.
    """
    from portico_server.features.readers.analyse import analyse, analyse_question

    question_words = set(analyse_question(question).words)
    if not question_words:
        return 1.0, 0
    matched_counts = (len(question_words & set(analyse(text).words)) for text in passages)
    return max(matched_counts, default=0) / len(question_words), len(question_words)
