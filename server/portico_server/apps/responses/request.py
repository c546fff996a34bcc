"""A request for a response as typed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from portico_server.apps.responses.items import Item
from portico_server.core.dataclass import dataclass
from portico_server.core.request import Filter, Search

MAX_NAME_CHARS: Final = 64
"""Characters of the name of a function."""

Approvals: TypeAlias = Literal["always", "never"]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function of the client's, which is called by the client."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None = None
    namespace: str = ""
    deferred: bool = False

    @property
    def spoken(self) -> str:
        """What the model calls it."""
        return spoken(self.namespace, self.name)


def spoken(namespace: str, name: str) -> str:
    """What a model calls a function of a namespace: at most 64 characters, of those that every engine takes."""
    if not namespace:
        return name
    joined_name = f"{namespace}__{name}"
    return (
        joined_name
        if len(joined_name) <= MAX_NAME_CHARS
        else f"{joined_name[:57]}_{sha256(joined_name.encode()).hexdigest()[:6]}"
    )


@dataclass(frozen=True, slots=True)
class NamespaceTool:
    """Functions of the client's under one heading."""

    name: str
    description: str
    functions: tuple[FunctionTool, ...]


@dataclass(frozen=True, slots=True)
class ToolSearchTool:
    """The search for the tools that are deferred. ``client``: it is the client's, which says what it is and takes."""

    client: bool = False
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FileSearchTool:
    """A search in stores, by their ids or names. ``filters`` as they came, for whoever reads filters."""

    stores: tuple[str, ...]
    filters: Mapping[str, Any] | None = None
    most: int = 10
    ranker: str = "auto"
    threshold: float = 0.0
    vector_weight: float | None = None

    def search(self, query: str, filters: Filter | None) -> Search:
        """The question to one of them."""
        ranker: Any = self.ranker
        return Search(
            query,
            self.most,
            filters,
            self.threshold,
            ranker=ranker,
            vector_weight=self.vector_weight,
        )


@dataclass(frozen=True, slots=True)
class CodeInterpreterTool:
    """Python in a notebook: a ``container`` that was named, or a new one with ``files`` in it."""

    container: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShellSkill:
    """A skill for a shell: kept here (``ref``), an ``archive`` in base64, or at the client's ``path``."""

    ref: str
    name: str = ""
    description: str = ""
    path: str = ""
    version: str = "default"
    archive: str = ""


@dataclass(frozen=True, slots=True)
class ShellTool:
    """Commands of a shell: by the client, or in a ``container`` here that was named or is new, with ``files`` in it."""

    hosted: bool = False
    container: str = ""
    files: tuple[str, ...] = ()
    skills: tuple[ShellSkill, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyPatchTool:
    """Files changed by diffs: in the container of the shell, or by the client."""


@dataclass(frozen=True, slots=True)
class LocalShellTool:
    """A program that the client runs."""


@dataclass(frozen=True, slots=True)
class ImageGenerationTool:
    """Pictures, by a ``model`` that was named or the one that draws here; ``options`` are those of the tool `draw`."""

    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class McpTool:
    """Tools of an MCP server of the daemon, or of the daemon itself. ``allowed``: these alone, if not ``None``.

    ``approval`` holds for tools that are in neither of the two lists.
    """

    label: str
    url: str = ""
    allowed: tuple[str, ...] | None = None
    read_only: bool | None = None
    approval: Approvals = "always"
    always: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    deferred: bool = False
    description: str = ""

    def asks(self, name: str) -> bool:
        """Whether the client is asked before this tool is called."""
        if name in self.never:
            return False
        return name in self.always or self.approval == "always"


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool of a kind that nothing here runs: it is told back, and the model does not hear of it."""

    kind: str


Tool: TypeAlias = (
    FunctionTool
    | NamespaceTool
    | ToolSearchTool
    | FileSearchTool
    | CodeInterpreterTool
    | ShellTool
    | ApplyPatchTool
    | LocalShellTool
    | ImageGenerationTool
    | McpTool
    | DeclaredTool
)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may or must call.

    ``mode``; with ``kind`` (``function``, ``file_search``, ``code_interpreter``, ``shell``, ``mcp`` …) it must
    call one of those, by ``name`` and ``label`` where they are given. ``allowed``: these alone are offered, as
    (kind, label, name).
    """

    mode: Literal["none", "auto", "required"] = "auto"
    kind: str = ""
    name: str = ""
    label: str = ""
    allowed: frozenset[tuple[str, str, str]] | None = None


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One request. ``options`` are those of a chat; ``echo`` the fields that the response repeats.

    ``body`` is the request as it came: what is kept of one in the background. ``compacts``: the conversation is
    compacted, whatever its size, and that is the response, with ``keeps`` beside the messages of its user.
    ``threshold``: the tokens above which it is compacted before it is answered.
    """

    body: Mapping[str, Any]
    model: str
    input: tuple[Item, ...]
    instructions: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice()
    most_calls: int | None = None
    most_tokens: int | None = None
    include: frozenset[str] = frozenset()
    previous: str = ""
    conversation: str = ""
    prompt: Mapping[str, Any] | None = None
    store: bool = True
    stream: bool = False
    background: bool = False
    truncate: bool = False
    compacts: bool = False
    keeps: bool = False
    threshold: int | None = None
    echo: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hosted(self) -> bool:
        """Whether it offers tools that are more than functions of the client."""
        return any(not isinstance(tool, FunctionTool | DeclaredTool) for tool in self.tools)

    @property
    def functions(self) -> tuple[FunctionTool, ...]:
        """The functions that the client executes, those of namespaces included."""
        return functions_of(self.tools)

    @property
    def tool_search(self) -> ToolSearchTool | None:
        """The search for those that are deferred."""
        return next((tool for tool in self.tools if isinstance(tool, ToolSearchTool)), None)


def functions_of(tools: Iterable[Tool]) -> tuple[FunctionTool, ...]:
    """The functions among tools, those of namespaces included."""
    function_tools: list[FunctionTool] = []
    for tool in tools:
        if isinstance(tool, FunctionTool):
            function_tools.append(tool)
        elif isinstance(tool, NamespaceTool):
            function_tools += tool.functions
    return tuple(function_tools)
