"""Where an engine can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI server answers.

    ``url`` ends before ``/chat/completions``; ``model`` is its name for the model.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    direct: bool = False
    """Whether it is never reached through a proxy, as what we have started."""
