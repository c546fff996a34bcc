"""A request for a response as typed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.request import Filter, Search
from portico_server.features.responses.items import Item

MAX_NAME_CHARS: Final = 64
"""Maximum length of a function name, in characters."""

Approvals: TypeAlias = Literal["always", "never"]


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that the client provides and executes."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None = None
    namespace: str = ""
    deferred: bool = False

    @property
    def spoken(self) -> str:
        """The name under which the model calls the function."""
        return model_name(self.namespace, self.name)


def model_name(namespace: str, name: str) -> str:
    """Return the model's name for a namespaced function: at most 64 characters that every engine accepts."""
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
    """Client functions grouped in a namespace."""

    name: str
    description: str
    functions: tuple[FunctionTool, ...]


@dataclass(frozen=True, slots=True)
class ToolSearchTool:
    """The search for deferred tools. With ``client``, the client runs the search and provides its description and
    parameters.
    """

    client: bool = False
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FileSearchTool:
    """A search in stores, given by id or name. ``filters`` are unparsed; the filter parser reads them."""

    stores: tuple[str, ...]
    filters: Mapping[str, Any] | None = None
    most: int = 10
    ranker: str = "auto"
    threshold: float = 0.0
    vector_weight: float | None = None

    def search(self, query: str, filters: Filter | None) -> Search:
        """Return the search request for a store."""
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
    """Python in a notebook: a named ``container``, or a new container with ``files`` in it."""

    container: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShellSkill:
    """A skill for a shell: stored on this daemon (``ref``), an ``archive`` in base64, or at the client's ``path``."""

    ref: str
    name: str = ""
    description: str = ""
    path: str = ""
    version: str = "default"
    archive: str = ""


@dataclass(frozen=True, slots=True)
class ShellTool:
    """Shell commands, run by the client, or in a named or new ``container`` of this daemon with ``files`` in it."""

    hosted: bool = False
    container: str = ""
    files: tuple[str, ...] = ()
    skills: tuple[ShellSkill, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyPatchTool:
    """File changes by diffs, applied in the shell's container or by the client."""


@dataclass(frozen=True, slots=True)
class LocalShellTool:
    """A program that the client runs."""


@dataclass(frozen=True, slots=True)
class ImageGenerationTool:
    """Image generation by a named ``model`` or the default model; ``options`` are options of the `draw` tool."""

    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class McpTool:
    """Tools of an MCP server of the daemon, or of the daemon itself. If ``allowed`` is not ``None``, only the tools in
    it are offered.

    ``approval`` applies to tools that neither ``always`` nor ``never`` lists.
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
        """Return whether the client must approve a call of this tool."""
        if name in self.never:
            return False
        return name in self.always or self.approval == "always"


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool of a type that this daemon cannot run. The response repeats it, but the model does not receive it."""

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
    """The tools that the model may or must call.

    ``mode`` sets whether a call is required. With ``kind`` (``function``, ``file_search``, ``code_interpreter``,
    ``shell``, ``mcp`` …), the model must call a tool of that kind, with this ``name`` and ``label`` if they are set.
    If ``allowed`` is set, only the tools in it are offered, given as (kind, label, name).
    """

    mode: Literal["none", "auto", "required"] = "auto"
    kind: str = ""
    name: str = ""
    label: str = ""
    allowed: frozenset[tuple[str, str, str]] | None = None


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A parsed request. ``options`` are the chat's options; ``echo`` contains the fields that the response repeats.

    ``body`` is the request as received, and is stored for a background response. With ``compacts``, the conversation
    is compacted regardless of its size, and the compaction is the output; with ``keeps``, it keeps the user's
    messages. ``threshold`` is the number of tokens above which the conversation is compacted before the model answers.
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
        """Return whether the daemon must run tools for the request."""
        return any(not isinstance(tool, FunctionTool | DeclaredTool) for tool in self.tools)

    @property
    def functions(self) -> tuple[FunctionTool, ...]:
        """The functions that the client executes, including those of namespaces."""
        return functions_of(self.tools)

    @property
    def tool_search(self) -> ToolSearchTool | None:
        """The search for deferred tools."""
        return next((tool for tool in self.tools if isinstance(tool, ToolSearchTool)), None)


def functions_of(tools: Iterable[Tool]) -> tuple[FunctionTool, ...]:
    """Return the functions among the tools, including those of namespaces."""
    function_tools: list[FunctionTool] = []
    for tool in tools:
        if isinstance(tool, FunctionTool):
            function_tools.append(tool)
        elif isinstance(tool, NamespaceTool):
            function_tools += tool.functions
    return tuple(function_tools)
