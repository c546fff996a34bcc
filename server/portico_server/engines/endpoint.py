"""Where an engine can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI server answers.

    ``url`` ends before ``/chat/completions``; ``model`` is its name for the model.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
