"""The text of an answer on its way to the listeners; each sentence is followed by the result of its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from portico.wire import AnswerClaim, Claimed, Delta, Event, Passage
from portico_server.core.context import Context
from portico_server.core.pools import SEARCH
from portico_server.features.answers.claims import EvidenceCheck
from portico_server.features.answers.judge import Embedder
from portico_server.features.answers.sentences import ClaimReader, Sentence


class CheckedText:
    """Passes the text of an answer to the listeners. Each sentence is followed by its `AnswerClaim`.

    ``mode`` ``mark``: all text passes immediately. ``remove``: a sentence passes after its check if it has evidence.
    ``hold``: no text passes before `release`.
    """

    def __init__(
        self,
        context: Context,
        passages: Sequence[Passage],
        vectors: Embedder,
        mode: Literal["mark", "remove", "hold"] = "mark",
    ) -> None:
        self.mode = mode
        self.claims: tuple[AnswerClaim, ...] = ()
        self.removed: list[str] = []
        """Removed sentences."""
        self._context = context
        self._passages = passages
        self._vectors = vectors
        self._reader = ClaimReader()
        self._check: EvidenceCheck | None = None
        self._has_vectors = False
        self._pending_texts: list[str] = []
        """Text for which it is not decided yet whether it passes."""
        self._late: list[Event] = []
        self._passed_texts: list[str] = []
        self._removed_chars = 0
        """Number of removed characters."""

    @property
    def text(self) -> str:
        """Return the text that has passed, including text that `release` has still to send."""
        return "".join(self._passed_texts)

    @property
    def unsupported(self) -> list[str]:
        """Return the sentences that have passed without evidence."""
        text = self.text
        return [
            text[claim.start : claim.end]
            for claim in self.claims
            if not claim.supported and not claim.removed
        ]

    async def feed(self, text: str) -> None:
        """Process the next piece of text."""
        await self._take(self._reader.feed(text))

    async def skip(self, text: str) -> None:
        """Pass a piece of text that is not checked."""
        await self._take(self._reader.skip(text))

    async def close(self) -> None:
        """Check the remaining text at the end of the answer."""
        await self._take(self._reader.close())
        await self._pass()

    async def release(self) -> None:
        """Release the held text."""
        self.mode = "mark"
        for event in self._late:
            await self._context.emit(event)
        self._late = []

    async def _take(self, sentences: Sequence[str | Sentence]) -> None:
        for item in sentences:
            if isinstance(item, str):
                self._pending_texts.append(item)
                if self.mode != "remove":
                    await self._pass()
            elif item.kind == "other":
                await self._pass()
            else:
                await self._judge(item)

    async def _judge(self, sentence: Sentence) -> None:
        claim = await self._claim(sentence)
        if self.mode == "remove" and not claim.supported:
            text = "".join(self._pending_texts)
            self.removed.append(text.strip())
            self._removed_chars += len(text)
            self._pending_texts = []
            claim = replace(claim, start=len(self.text), end=len(self.text), removed=True)
        else:
            await self._pass()
            claim = replace(
                claim, start=claim.start - self._removed_chars, end=claim.end - self._removed_chars
            )
        self.claims += (claim,)
        await self._emit(Claimed(claim))

    async def _claim(self, sentence: Sentence) -> AnswerClaim:
        if self._check is None:
            self._check = await SEARCH.run(EvidenceCheck, self._passages)
            texts = self._check.texts()
            vectors = await self._vectors((*texts, *filter(None, (sentence.text,)))) if texts else None
            if vectors is not None:
                self._has_vectors = True
                self._check.use(vectors[: len(texts)])
                claim_vector = vectors[len(texts)] if sentence.text else None
                return await SEARCH.run(self._check.check, sentence, claim_vector)
        claim_vectors = await self._vectors((sentence.text,)) if self._has_vectors and sentence.text else None
        return await SEARCH.run(self._check.check, sentence, claim_vectors[0] if claim_vectors else None)

    async def _pass(self) -> None:
        text, self._pending_texts = "".join(self._pending_texts), []
        if not self._passed_texts:  # the text before this piece was removed
            bare = text.lstrip() if self._removed_chars else text
            self._removed_chars += len(text) - len(bare)
            text = bare
        if text:
            self._passed_texts.append(text)
            await self._emit(Delta(text))

    async def _emit(self, event: Event) -> None:
        if self.mode == "hold":
            self._late.append(event)
        else:
            await self._context.emit(event)
