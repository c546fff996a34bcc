"""Complete answers of apps."""

from __future__ import annotations

from dataclasses import dataclass

from portico.wire import AnswerClaim, Passage, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: the text, the passages it stands on, and its sentences that were compared with them."""

    text: str
    passages: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    run: str | None = None
    claims: tuple[AnswerClaim, ...] = ()
