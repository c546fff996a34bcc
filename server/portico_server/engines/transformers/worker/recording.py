"""The way of a recording through a model that writes it down: in from the request, out as document or events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .attached import attached
from .client import Client
from .refusal import Refusal
from .sound import decode
from .transcript import Stretch, Transcript, Wish, deltas, done, rendered

LONGEST = 7_200.0
"""Seconds of one recording, unless a parameter says otherwise."""


def samples(body: Mapping[str, Any], rate: int, longest: float, client: Client) -> Any:
    """One channel of 16-bit samples of the file in the request. Raises `Refusal`."""
    files = attached(body, "file")
    if len(files) != 1:
        raise Refusal("Send one recording in 'file'.", "missing_required_parameter", "file")
    return decode(files[0].data, rate, longest, client.check, files[0].name)


def answer(found: Transcript, wish: Wish, parts: Iterable[list[Stretch]], client: Client) -> Any:
    """Take one part after another into ``found``; events as they come if they are wished for, else all at the end."""
    for segments in parts:
        found.segments += segments
        if wish.stream:
            for event in deltas(segments):
                client.event(event)
    if not wish.stream:
        return rendered(found, wish)
    client.event(done(found))
    return None
