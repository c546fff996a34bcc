"""Complete answers of apps."""

from __future__ import annotations

from dataclasses import dataclass

from portico.wire import AnswerClaim, Passage, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: the text, the passages on which it is based, and the sentences that were compared with the
    passages.

    Example::

        from portico import Client

        with Client() as client:
            reply = client.ask("Which port does the daemon listen on?", app="docs").read()
            print(reply.text, reply.usage.completion_tokens)
    """

    text: str
    passages: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    run: str | None = None
    claims: tuple[AnswerClaim, ...] = ()
