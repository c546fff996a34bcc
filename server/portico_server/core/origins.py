"""Origins: the names of the documents, tools, pages and apps whose data the current work may depend on.

Data from an origin can contain instructions that nobody in the conversation gave. A tool that acts asks a person
before it runs on such data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Final, TypeAlias

from portico.wire import Passage

Origins: TypeAlias = tuple[str, ...]

MAX_ORIGINS: Final = 8
"""Maximum number of origins that are named; the first ones stay."""

MAX_ORIGIN_CHARS: Final = 120
"""Maximum length of an origin's name, in characters."""

MAX_RECEIPT_CHARS: Final = 64
"""Maximum length, in characters, of a result that is a receipt."""

ORIGINS: ContextVar[Origins] = ContextVar("origins", default=())
"""The origins of the data on which the current call may depend, because a model that has read them chose the call."""

INPUT_ORIGINS: ContextVar[Origins] = ContextVar("input_origins", default=())
"""The origins of the data in the input of the current call, which the author of a flow chose. An agent does not take
such an input for the user's own words.
"""

MODEL_WROTE_INPUT: ContextVar[bool] = ContextVar("model_wrote_input", default=False)
"""Whether the input of the current call is an argument that a model wrote. An agent does not learn facts from it."""


def join_origins(*groups: Iterable[str]) -> Origins:
    """Return the origins of several pieces of data, each once, on one line and of limited length."""
    names = (" ".join(name.split())[:MAX_ORIGIN_CHARS] for group in groups for name in group)
    return tuple(dict.fromkeys(name for name in names if name))[:MAX_ORIGINS]


def origins_of_passages(passages: Sequence[Passage]) -> Origins:
    """Return the files and positions of search results, such as ``handbook.pdf, page 3``."""
    return join_origins(
        f"{passage.filename}, {label}" if (label := passage.place.label()) else passage.filename
        for passage in passages
    )


def is_receipt(text: str, read_only: bool) -> bool:
    """Return whether the result of a tool is a receipt: an acting tool says little more than that it acted. Such a
    result is too short for an instruction that names what to do and for whom.
    """
    return not read_only and len(text) <= MAX_RECEIPT_CHARS


def origin_of_tool(name: str, url: object = None) -> str:
    """Return the origin of a tool's result, such as ``tool web_fetch (https://example.com)``."""
    return f"tool {name} ({url})" if isinstance(url, str) else f"tool {name}"
