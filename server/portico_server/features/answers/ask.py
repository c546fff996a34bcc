"""Answers questions about the documents of a store, with citations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, TypeAlias

from portico.spelling import nearest as nearest_name
from portico.wire import UNSUPPORTED, Cited, Delta, Event, Passage, Unsupported, Usage
from portico_server.core.citation_marks import Citations, cited_numbers
from portico_server.core.context import Context, Listener
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.pools import SEARCH
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import (
    AUTO_RERANKER,
    Chat,
    ChatReply,
    Embed,
    Message,
    Refine,
    Request,
    Search,
    SearchResult,
    Steps,
    Vectors,
)
from portico_server.core.servable import Card
from portico_server.core.training_passages import StorePassage
from portico_server.features.answers import prompt
from portico_server.features.answers.checked_text import CheckedText
from portico_server.features.answers.differences import Difference, difference
from portico_server.features.answers.judge import SEARCH_RESULTS, Embedder, Judgement, judge
from portico_server.features.answers.language import (
    no_documents,
    not_found,
    unread_files,
    unsupported_answer,
)
from portico_server.features.answers.length import cut_to_length
from portico_server.features.answers.proposed import proposed_questions
from portico_server.features.answers.quote import near, nearest, nearest_sections, other_side, quote_answer
from portico_server.features.answers.repetition import repeats
from portico_server.features.answers.standalone import standalone_question
from portico_server.features.answers.trust import ReaderTest, is_tiny

logger = logging.getLogger(__name__)


MAX_PROPOSED_QUESTIONS = 3
"""Maximum number of questions that a store proposes to a reader."""

MAX_TRIED_QUESTIONS = 24
"""Maximum number of candidate questions that are tried when questions are proposed."""

_OWN_OPTIONS = frozenset({"model", "messages", "stream", "stream_options", "n", "unsupported"})
_ATTEMPTS = 3
MAX_LISTED_SENTENCES = 20
MAX_LISTED_CHARS = 4_000
"""Maximum total length, in characters, of the sentences without evidence that a model sees when it is asked again."""

_TAIL_SIZE = 400
"""Number of pieces at the end of an answer that are checked for repetition. A piece consists of one or more tokens."""


FindPassages: TypeAlias = Callable[[Search, Context, Listener | None], Awaitable[SearchResult]]
"""Searches for the passages that may answer a question. The listener receives the events of the search."""


class AskApp:
    """Searches one store and answers from the results: a model writes the answer, or the best sentences are quoted.

    Events: `Cited` with the passages, then the model's events (`Delta` …) or a `Delta` for each quotation, and
    `Claimed` after each sentence. The reply's ``citations`` are the passages that the model saw, or the sources of the
    quotations. ``unsupported_action`` is the default treatment of sentences without evidence. The caller needs the
    right to read the store, and the right to chat if a model writes.

    ``find`` replaces the search of the store, for example by a search of several stores, whose keys are ``places``.
    """

    def __init__(
        self,
        store: Card,
        card: Card,
        registry: Registry,
        trust: ReaderTest,
        unsupported_action: Unsupported = "mark",
        *,
        places: Sequence[str] = (),
        find: FindPassages | None = None,
    ) -> None:
        self._trust = trust
        self._unsupported = unsupported_action
        self._store = store
        self._registry = registry
        # By id, because the caller may have a different app with this name.
        self._places = places or (f"store/{store.id}" if store.id else store.key,)
        self._find = find or self._find_in_store
        self.card = card
        self._known_vectors: dict[str, bytes] = {}
        """Vectors of the texts of this answer: its search and its checks compare the same sentences."""

    async def call(self, request: Request, context: Context) -> ChatReply:
        """Answer a request. If the store is still indexing files, the last sentence of the answer says how many."""
        if not isinstance(request, Chat):
            raise InvalidRequest(f"'{self.card.name}' is a chat app: it accepts only chat messages.")
        reply, search_result = await self._reply(request, context)
        if not search_result.files or not search_result.waiting or reply.finish_reason != "stop":
            return reply
        if _needs_a_writer(request.options):
            return reply  # the answer is JSON or tool calls; an added sentence would make it invalid
        question = prompt.split(request.messages).question
        note = f"\n\n{unread_files(question, search_result.waiting, search_result.files + search_result.waiting)}"
        await context.emit(Delta(note))
        return replace(reply, content=f"{reply.content}{note}")

    async def _reply(self, request: Chat, context: Context) -> tuple[ChatReply, SearchResult]:
        """Return the answer, and the search result from which it was made."""
        _refuse(request.options, self.card.name)
        turns = prompt.split(request.messages)
        model = str(self.card.labels["model"])
        writes = _needs_a_writer(request.options) or await self._writes(model)
        computed = await self._compute(turns, request.options, model if writes else "", context)
        if computed is not None:
            return computed
        query = await self._query(turns, model, context) if writes else prompt.search_query(turns)
        limit = _max_tokens(request.options)
        share = self._budget(model, limit)
        search = Search(
            query,
            max_num_results=max(share.count if writes else 0, SEARCH_RESULTS),
            infer_filters=True,
            refine=Refine(reranker=self._reranker()),
            steps=await self._steps(model),
            names=True,
        )
        search_result, judgement = await self._search(search, turns, context, listener=context.emit)
        if search_result.files == 0:
            denial = [no_documents(turns.question, is_waiting=search_result.waiting > 0)]
            return await self._say(denial, (), limit, context), search_result
        if judgement.verdict == "absent" and not (judgement.is_near and writes and not share.brief):
            near_passages = nearest(search_result.passages)
            pieces = nearest_sections(turns.question, near_passages) if judgement.is_near else ()
            reply = await self._say(
                pieces or [not_found(turns.question)], (), limit, context, nearest=near_passages
            )
            return reply, search_result
        differing = await _differing(query, judgement, search_result.passages)
        if not writes:
            quotes = quote_answer(turns.question, judgement, search_result.passages, differing)
            reply = await self._say(
                quotes.pieces, quotes.passages, limit, context, own_numbers=quotes.own_numbers
            )
            return reply, search_result
        needed_candidates = [*judgement.chain, *(differing.sides if differing is not None else ())]
        needed_numbers = {candidate.passage for candidate in needed_candidates}
        near_numbers = range(len(near(search_result.passages[: share.count])))
        shown_passages = {
            number: search_result.passages[number] for number in sorted({*near_numbers, *needed_numbers})
        }
        passage_numbers = prompt.fitting(turns, shown_passages, share, needed_numbers)
        passages = tuple(
            replace(search_result.passages[place], rank=rank) for rank, place in enumerate(passage_numbers, 1)
        )
        await context.emit(Cited(passages))
        unsupported_action = request.options.get("unsupported") or self._unsupported
        if differing is not None:
            differing = differing.among(passage_numbers)
        answer = _Answer(
            context,
            model,
            passages,
            self._vectors_within(context),
            unsupported_action,
            differing,
            is_doubtful=judgement.verdict == "absent",
        )
        reply = await answer.ask(turns, request.options, share)
        return replace(reply, citations=passages, model=self.card.name), search_result

    async def _compute(
        self, turns: prompt.Turns, options: Mapping[str, Any], writer: str, context: Context
    ) -> tuple[ChatReply, SearchResult] | None:
        """Return the answer computed from a table of the store, or from all its passages for a question about the
        whole store, and the counts of its files; ``None`` for other questions.

        ``writer`` is the model that names themes; without it, they have only their words. A writer that may call tools
        answers itself.
        """
        if "tables" not in self._store.capabilities or _needs_a_writer(options):
            return None
        if writer and options.get("tools"):
            return None
        # The patterns of both modules compile for 20 ms.
        from portico_server.features.answers.overview import answer_overview
        from portico_server.features.answers.tables.answer import compute_answer

        answer = None
        if len(self._places) == 1:
            answer = await compute_answer(
                turns.question, self._places[0], context, is_first=not turns.earlier
            )
        answer = answer or await answer_overview(
            turns.question, self._places, context, writer=writer, is_first=not turns.earlier
        )
        if answer is None:
            return None
        search = Search(turns.question, max_num_results=1, ranker="lexical", names=True)
        counts = await self._find_in_store(search, context, context.emit)
        reply = await self._say(
            [answer.text], answer.passages, _max_tokens(options), context, own_numbers=frozenset({0})
        )
        return reply, counts

    async def propose(self, passages: Sequence[StorePassage], context: Context) -> Sequence[str]:
        """Return at most `MAX_PROPOSED_QUESTIONS` questions about the passages that the store answers."""
        questions: list[str] = []
        for question, file in islice(proposed_questions(passages), MAX_TRIED_QUESTIONS):
            if len(questions) == MAX_PROPOSED_QUESTIONS:
                break
            if question not in questions and await self.answers(question, file, context):
                questions.append(question)
        return questions

    async def answers(self, question: str, file: str, context: Context) -> bool:
        """Return whether a passage of ``file`` answers ``question``. No chat model is called."""
        search = Search(question, max_num_results=SEARCH_RESULTS, infer_filters=True, names=True)
        turns = prompt.split(({"role": "user", "content": question},))
        search_result, judgement = await self._search(search, turns, context)
        if judgement.verdict != "answered" or not judgement.candidates:
            return False
        return search_result.passages[judgement.candidates[0][0].passage].filename == file

    def _vectors_within(self, context: Context) -> Embedder:
        return lambda texts: self._vectors(texts, context)

    async def _query(self, turns: prompt.Turns, model: str, context: Context) -> str:
        """Return the search query for a conversation. A tiny model cannot rephrase a question, and trying would take
        seconds.
        """
        servable = self._registry.get(model)
        if servable is None or is_tiny(servable.card):
            return prompt.search_query(turns)
        return await standalone_question(turns, model, context)

    async def _writes(self, model: str) -> bool:
        """Return whether the model writes the answer. The store's setting decides; without it, a trusted model writes.

        If the model does not exist, calling it reports the error.
        """
        if (label := self._store.labels.get("answers")) in ("write", "quote"):
            return bool(label == "write")
        servable = self._registry.get(model)
        return servable is None or await self._trust.way(servable.card) == "write"

    def _reranker(self) -> str:
        """Return the reranker of the store's searches: as the store says, otherwise the daemon's choice."""
        name = str((self._store.labels.get("search") or {}).get("reranker", AUTO_RERANKER))
        return "" if name == "off" else name

    async def _steps(self, model: str) -> Steps | None:
        """Return the settings for additional searches. The store's model chooses their queries if it is trusted to
        write.
        """
        search_labels = dict(self._store.labels.get("search") or {})
        search_labels.pop("reranker", None)
        max_steps = search_labels.pop("steps", "off")
        if max_steps == "off":
            return None
        servable = self._registry.get(model)
        drives = servable is not None and await self._trust.way(servable.card) == "write"
        return Steps(0 if max_steps == "auto" else max_steps, model if drives else "", **search_labels)

    async def _search(
        self, search: Search, turns: prompt.Turns, context: Context, listener: Listener | None = None
    ) -> tuple[SearchResult, Judgement]:
        """Search the store, and judge whether the best `SEARCH_RESULTS` passages answer the question in ``turns``.

        If the store has a strong embedding model, passages may answer even if they lack the question's words, so the
        question never counts as unanswered.
        """
        search_result = await self._find(search, context, listener)
        query = search.query
        follows = bool(turns.earlier) and query != turns.question and query.startswith(turns.earlier)
        question, earlier = (turns.question, turns.earlier) if follows else (query, "")
        judgement = await judge(
            question[: prompt.QUERY_LIMIT],
            search_result.passages[:SEARCH_RESULTS],
            self._vectors_within(context),
            earlier=earlier[: prompt.QUERY_LIMIT],
            names=search_result.names[:SEARCH_RESULTS],
        )
        if judgement.verdict == "absent" and search_result.passages and self._trusted():
            judgement = replace(judgement, verdict="doubtful")
        return search_result, judgement

    async def _find_in_store(
        self, search: Search, context: Context, listener: Listener | None
    ) -> SearchResult:
        search_result = await context.call(self._places[0], search, listener=listener)
        assert isinstance(search_result, SearchResult)
        return search_result

    async def _vectors(self, texts: Sequence[str], context: Context) -> Sequence[bytes] | None:
        """Return vectors of words and sentences if the store has vectors and a model computes such vectors at almost no
        cost, otherwise ``None``.

        The weights of the judgement hold for the vectors of these models only, whatever model ranks the passages. The
        right to read a store includes this use, so the caller needs no further scope.
        """
        if not self._store.labels.get("embedding_model"):
            return None
        embedding = next((item for item in self._registry if "words" in item.card.capabilities), None)
        if embedding is None:
            return None
        new_texts = tuple(text for text in dict.fromkeys(texts) if text not in self._known_vectors)
        try:
            vectors = await embedding.call(Embed(new_texts), context) if new_texts else Vectors((), 0)
        except PorticoError as error:
            logger.info("comparing sentences only by their words: %s", error.message)
            return None
        assert isinstance(vectors, Vectors)
        self._known_vectors.update(zip(new_texts, vectors.data, strict=True))
        return [self._known_vectors[text] for text in texts]

    async def _say(
        self,
        pieces: Sequence[str],
        passages: tuple[Passage, ...],
        max_tokens: int | None,
        context: Context,
        *,
        own_numbers: Set[int] = frozenset(),
        nearest: tuple[Passage, ...] = (),
    ) -> ChatReply:
        """Send quotations, or the statement that nothing can be quoted. No model is called, so the usage has no prompt
        tokens.

        ``own_numbers``: the numbers of the pieces that Portico says itself, which are not checked. ``nearest``: see
        `Cited`.
        """
        answer = cut_to_length(pieces, max_tokens)
        if answer.cut:
            numbers = cited_numbers("".join(answer.pieces), len(passages))
            passages = passages[: max(numbers, default=0)]
        await context.emit(Cited(passages, nearest))
        text = CheckedText(context, passages, self._vectors_within(context))
        for number, piece in enumerate(answer.pieces):
            if not passages or number in own_numbers:
                await text.skip(piece)
            else:
                await text.feed(piece)
        await text.close()
        return ChatReply(
            "".join(answer.pieces),
            answer.finish_reason,
            citations=passages,
            claims=text.claims,
            usage=Usage(0, answer.tokens),
            model=self.card.name,
        )

    def _trusted(self) -> bool:
        """Return whether the store's embedding model is strong: its vectors then weigh at least as much as words."""
        embedding = self._registry.get(str(self._store.labels.get("embedding_model") or ""))
        weight = embedding.card.labels.get("fusion_weight") if embedding is not None else None
        return isinstance(weight, int | float) and weight >= 0.5

    def _budget(self, model: str, max_tokens: int | None) -> prompt.PromptBudget:
        """Return the prompt budget that the context length on the model's card allows."""
        servable = self._registry.get(model)
        card = servable.card if servable is not None else None
        labels = card.labels if card is not None else {}
        length = labels.get("context_length")
        context_length = length if isinstance(length, int) and length > 0 else None
        return prompt.budget(
            context_length,
            max_tokens,
            quick=card is not None and "long_prompts" in card.capabilities,
            tiny=card is not None and is_tiny(card),
        )


class _RepetitionError(Exception):
    """An error that stops a model that repeats itself. It is raised while the model answers, which ends the call."""


class _Answer:
    """One answer from a model. Its events are passed on without citation marks of unknown passages, and its claims are
    checked.
    """

    def __init__(
        self,
        context: Context,
        model: str,
        passages: Sequence[Passage],
        vectors: Embedder,
        unsupported_action: Unsupported,
        differing: Difference | None,
        *,
        is_doubtful: bool = False,
    ) -> None:
        self._context = context
        self._is_doubtful = is_doubtful
        self._model = model
        self._passages = passages
        self._differing = differing
        self._vectors = vectors
        self._unsupported = unsupported_action
        self._begin("hold" if unsupported_action == "ask_again" else unsupported_action)

    def _begin(self, mode: Literal["mark", "remove", "hold"]) -> None:
        self._marks = Citations(len(self._passages))
        self._checked_text = CheckedText(self._context, self._passages, self._vectors, mode)
        self._text: list[str] = []

    async def ask(
        self, turns: prompt.Turns, options: Mapping[str, Any], share: prompt.PromptBudget
    ) -> ChatReply:
        """Ask the model. With ``ask_again``, ask a second time if the first answer contains sentences without
        evidence.
        """
        messages, reply = await self._fitting(turns, options, share)
        if self._unsupported == "ask_again":
            reply = await self._corrected(messages, reply, _options(options, share))
        text = self._checked_text
        if text.removed and not text.text.strip():
            sentence = unsupported_answer(turns.question)
            await self._context.emit(Delta(sentence))
            return replace(reply, content=sentence, claims=text.claims)
        if self._differing is not None and reply.finish_reason == "stop" and not reply.tool_calls:
            await text.skip(other_side(turns.question, text.text, self._differing, self._passages))
        return replace(reply, content=text.text, claims=text.claims)

    async def _corrected(
        self, messages: tuple[Message, ...], first: ChatReply, options: Mapping[str, Any]
    ) -> ChatReply:
        """Return the first answer if all its sentences have evidence. Otherwise tell the model which sentences have
        none, and return its second answer.
        """
        wrong = self._checked_text.unsupported
        if not wrong:
            await self._checked_text.release()
            return first
        sentence_list = "\n".join(f"- {sentence}" for sentence in wrong[:MAX_LISTED_SENTENCES])[
            :MAX_LISTED_CHARS
        ]
        correction_request = builtin.messages("unsupported-sentences", sentences=sentence_list)
        first_answer = {"role": "assistant", "content": self._checked_text.text[:MAX_LISTED_CHARS]}
        text = self._checked_text
        self._begin("mark")
        try:
            second = await self._once((*messages, first_answer, *correction_request), options)
        except PorticoError as error:
            if error.code != "context_length_exceeded" or self._text:
                raise
            self._checked_text = text
            await text.release()
            return first
        return replace(second, usage=first.usage + second.usage)

    async def _fitting(
        self, turns: prompt.Turns, options: Mapping[str, Any], share: prompt.PromptBudget
    ) -> tuple[tuple[Message, ...], ChatReply]:
        """Ask the model. If the prompt turns out to have more tokens than estimated and does not fit, ask again with
        half the budget.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            messages = prompt.compose(turns, self._passages, share, self._remark(turns.question))
            try:
                return messages, await self._once(messages, _options(options, share))
            except PorticoError as error:
                if error.code != "context_length_exceeded" or attempt == _ATTEMPTS or self._text:
                    raise
                share = share.halved()
        raise AssertionError("the last attempt returns or raises")

    def _remark(self, question: str) -> str:
        """Return the remark in the prompt about sources that contradict each other, or that may not answer, in the
        language of the instructions; empty if there are none.
        """
        suffix = prompt.language_suffix(question)
        if self._differing is None:
            return builtin.text(f"doubtful-passages{suffix}") if self._is_doubtful else ""
        first, *others = (f"[{self._passages[side.passage].rank}]" for side in self._differing.sides)
        name = "differing-passages-ranked" if self._differing.by else "differing-passages"
        return builtin.text(f"{name}{suffix}", first=first, others=", ".join(others))

    async def _once(self, messages: tuple[Message, ...], options: Mapping[str, Any]) -> ChatReply:
        try:
            reply = await self._context.call(self._model, Chat(messages, options), listener=self._pass_on)
        except _RepetitionError:
            # The model's own count is lost with the rest of its answer, so the prompt tokens are estimated.
            prompt_tokens = sum(prompt.tokens(prompt.text_of(message)) for message in messages)
            reply = ChatReply("", usage=Usage(prompt_tokens, prompt.tokens("".join(self._text))))
        assert isinstance(reply, ChatReply)
        if not self._text and reply.content:  # the model sent its whole answer without deltas
            await self._say(self._marks.feed(reply.content))
        await self._say(self._marks.close())
        await self._checked_text.close()
        return reply

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, Delta):
            await self._say(self._marks.feed(event.text))
            if repeats("".join(self._text[-_TAIL_SIZE:])):
                raise _RepetitionError
        else:
            await self._context.emit(event)

    async def _say(self, text: str) -> None:
        if text:
            self._text.append(text)
            await self._checked_text.feed(text)


async def _differing(question: str, judgement: Judgement, passages: Sequence[Passage]) -> Difference | None:
    """Return the contradiction between the best sentence, or the last sentence of a chain, and other files. Return
    ``None`` if the question has no answer.
    """
    if judgement.verdict == "absent" or not judgement.candidates:
        return None
    candidates = judgement.chain[-1:] or [candidate for candidate, _score in judgement.candidates]
    return await SEARCH.run(difference, question, candidates, passages)


def _refuse(options: Mapping[str, Any], name: str) -> None:
    """Raise an error for options that would change the answer but are not supported, instead of ignoring them."""
    if (options.get("n") or 1) != 1:
        raise InvalidRequest(f"'{name}' is an app with a single answer: 'n' must be 1.", param="n")
    if options.get("logprobs"):
        raise InvalidRequest(
            f"'{name}' is an app: its answers have no log probabilities. To get log probabilities, call a "
            "model by its name.",
            param="logprobs",
        )
    action = options.get("unsupported")
    if action is not None and action not in UNSUPPORTED:
        raise InvalidRequest(
            f"'unsupported' must be one of {', '.join(UNSUPPORTED)}."
            + (nearest_name(action, UNSUPPORTED) if isinstance(action, str) else ""),
            param="unsupported",
        )


def _needs_a_writer(options: Mapping[str, Any]) -> bool:
    """Return whether the caller requires something that a quotation cannot provide: a format such as JSON, or a call
    of a tool.
    """
    form = options.get("response_format")
    if isinstance(form, Mapping) and form.get("type") not in (None, "text"):
        return True
    return bool(options.get("tools")) and options.get("tool_choice") not in (None, "auto", "none")


def _max_tokens(options: Mapping[str, Any]) -> int | None:
    max_tokens = options.get("max_completion_tokens") or options.get("max_tokens")
    return max_tokens if isinstance(max_tokens, int) else None


def _options(options: Mapping[str, Any], share: prompt.PromptBudget) -> dict[str, Any]:
    """Return the caller's options, with defaults that limit the length of the answer and exclude randomness."""
    model_options = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
    if _max_tokens(model_options) is None:
        model_options["max_tokens"] = share.answer
    if model_options.get("temperature") is None:
        model_options["temperature"] = 0
    if share.brief and model_options.get("frequency_penalty") is None:
        model_options["frequency_penalty"] = 0.3  # without randomness, a small model tends to repeat itself
    return model_options
