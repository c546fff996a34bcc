"""Apps, prompts, sessions, and what an app says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portico.errors import InvalidRequest
from portico.wire import AnswerClaim, Passage, Usage


@dataclass(frozen=True, slots=True)
class App:
    """Something that answers a conversation. ``kind`` is ``store``, ``flow`` or ``agent``; ``version`` is 0 for one
    that was not deployed; ``limits`` hold whoever calls it.

    ``id`` always means this app; ``shared``: its name means it for every key, else for ``owner``, which an admin sees.
    """

    name: str
    title: str = ""
    description: str = ""
    kind: str = "store"
    version: int = 0
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    limits: Mapping[str, int] | None = None
    id: str = ""
    shared: bool = True
    owner: str | None = None


def the_only(apps: Sequence[App]) -> str:
    """The app to ask when none was named; `InvalidRequest` that lists them unless there is exactly one."""
    if len(apps) == 1:
        return apps[0].name
    if not apps:
        raise InvalidRequest(
            "There is no app to ask yet. Add a folder of documents: portico stores add ./docs", param="app"
        )
    names = ", ".join(app.name for app in apps)
    raise InvalidRequest(
        f"There are several apps: {names}. Say which one to ask: app=NAME, or --app NAME.", param="app"
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt: its arguments, its messages, its examples and its cases, each as a JSON object.

    ``origin`` is where it was imported from, empty if it was written in the daemon; ``id``, ``shared`` and ``owner`` as
    those of an `App`.
    """

    name: str
    version: int = 1
    title: str = ""
    description: str = ""
    arguments: tuple[Mapping[str, Any], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    examples: tuple[Mapping[str, str], ...] = ()
    cases: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""
    created_at: float = 0
    id: str = ""
    shared: bool = True
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ExportedPrompt:
    """A prompt in a file: how that is called, and its text."""

    filename: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportedPrompts:
    """What an import of prompts did, or would do, by name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: the text, the passages it stands on, and its sentences that were compared with them."""

    text: str
    passages: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    run: str | None = None
    claims: tuple[AnswerClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class AppVersion:
    """One version of a deployed app; ``current``: the one that answers. Times in seconds since 1970.

    ``warnings``: what it still needs, such as functions that must be served; told when it is deployed.
    """

    name: str
    version: int
    digest: str
    note: str
    created_by: str
    created_at: float
    current: bool
    spec: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class PackagedContents:
    """What the package of an app holds. ``variables``: secrets and other values that the other place must give, with
    what they are for; ``notes``: what else it must have; ``files``: the entries of the archive.
    """

    app: str
    kind: str
    version: int
    digest: str
    portico: str
    models: tuple[Mapping[str, Any], ...]
    stores: tuple[Mapping[str, Any], ...]
    tools: tuple[str, ...]
    mcp: tuple[str, ...]
    prompts: tuple[Mapping[str, Any], ...]
    apps: tuple[Mapping[str, Any], ...]
    skills: tuple[Mapping[str, Any], ...]
    variables: Mapping[str, str]
    notes: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing of a configuration: ``action`` is ``create``, ``change``, ``remove`` or ``unchanged``;
    ``detail`` names the fields that differ.
    """

    kind: str
    name: str
    action: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done about a configuration, in order; with ``dry_run`` what would be. ``ignored``: keys of it that a
    running daemon does not take.
    """

    changes: tuple[Change, ...]
    dry_run: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """Whether a flow can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with ``app``. ``name`` is what its owner calls it; times in seconds since 1970."""

    id: str
    app: str
    name: str
    title: str
    created_at: float
    updated_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message in the memory of one agent; ``agent`` is its path in the tree, empty for the root.

    ``message`` has ``sender``, ``content`` and the other fields of `portico.agent.Message`; ``run`` said it.
    """

    seq: int
    agent: str
    message: Mapping[str, Any]
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """What somebody thinks of an answer: ``value`` is ``good``, ``bad`` or ``corrected``, then with a ``correction``.

    The answer is message number ``message`` of ``session``, by ``model``; ``messages`` is what was said before, each
    with ``role`` and ``content``. ``rated_at`` in seconds since 1970.
    """

    id: str
    session: str
    message: int
    app: str
    model: str
    value: str
    correction: str
    note: str
    rated_at: float
    messages: Sequence[Mapping[str, Any]]
    answer: str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class FactSource:
    """Where a fact was learnt: in the session (its id) of ``app`` called ``name``, by ``agent``, in ``run``.

    ``message`` is the number of the message there and ``said`` its text; ``None``: there no more.
    """

    agent: str | None = None
    app: str | None = None
    name: str | None = None
    run: str | None = None
    session: str | None = None
    message: int | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """What an agent keeps of a conversation for later ones, in ``store``. Times in seconds since 1970."""

    id: str
    store: str
    text: str
    created_at: float
    changed_at: float
    source: FactSource = FactSource()


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """Whether an agent can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None
