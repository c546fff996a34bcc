"""Recordings. A model writes them down in the daemon, before it comes to this; here, only what is missing is said."""

from __future__ import annotations

from collections.abc import Iterator

from portico_server.knowledge.document import Part, SourceDocument, Unreadable


def read(_source: SourceDocument) -> Iterator[Part]:
    """Nothing: `Unreadable`, always."""
    raise Unreadable(
        "is a recording, and no model is set to write down what is said in it. Deploy one that transcribes, and name "
        "it in the setting recording_model.",
        "unsupported_file",
    )
