"""Tools: each has a name, a description, a JSON schema and a call.

Results that are too large for an answer are stored as artifacts. The answer then contains a link, and the beginning
and the end of the result.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

import orjson

from portico.schemas.artifacts import Artifact
from portico_server.core.addresses import SEEN_ADDRESSES, requested_addresses
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.secret_values import SecretValues
from portico_server.runs.artifacts import ArtifactStore, NewArtifact

Work: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[ToolResult]]
Keyed: TypeAlias = Callable[[ToolCall, Context], Awaitable[ToolResult]]

DataRule: TypeAlias = Literal["allow", "ask", "refuse"]
"""What happens to a call that may depend on data from outside the conversation; see `portico_server.core.origins`."""


Repeat: TypeAlias = Literal["", "same_key", "ask"]
"""What a resumed run does with a call that was under way when the daemon stopped: make it again with the same key, or
ask a person first. Empty means ``ask`` for a tool that acts and does not receive the key.
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that can be called.

    ``work`` receives arguments that match ``input_schema``. ``keyed``, if set, is called instead and also receives the
    call's key, for work that must happen only once even if the call is repeated. An error that the calling model can
    fix is a `ToolResult` with ``is_error``; all other errors are raised.

    ``output_schema`` describes ``ToolResult.structured``. ``read_only``: a call changes nothing; ``destructive``: a
    call's changes may be irreversible; ``open_world``: a call reaches beyond the daemon. ``needs_approval``: a person
    must approve each call; ``on_data``: what happens to a call that may depend on foreign data. ``computed``: a
    result follows from the arguments and the clock, so it contains no foreign data. ``composed``: a result can combine
    what the arguments say, as the output of code does. ``only_reads``: whether a call of a tool that acts only reads,
    by its arguments; ``trusts``: whether the operator has named the host of an address. ``owner``: the only key that
    sees the tool; ``None`` means every key. ``original_name``: see `Card`. ``group``: the tool's heading in lists;
    ``cost``: US dollars per call. ``timeout``: maximum duration of a call in seconds. ``source``: where the tool
    comes from, such as ``built-in``. ``repeat``: see `Repeat`.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    work: Work | None = None
    keyed: Keyed | None = None
    output_schema: Mapping[str, Any] | None = None
    read_only: bool = True
    destructive: bool = False
    open_world: bool = False
    needs_approval: bool = False
    on_data: DataRule = "allow"
    computed: bool = False
    composed: bool = False
    only_reads: Callable[[Mapping[str, Any]], bool] | None = None
    trusts: Callable[[str], bool] | None = None
    timeout: float | None = None
    group: str = ""
    cost: float = 0.0
    source: str = "built-in"
    repeat: Repeat = ""
    owner: str | None = None
    original_name: str = ""

    @property
    def acts(self) -> bool:
        """Return whether a call sends, writes, spends or executes. Built-in tools that only create files do not."""
        return not self.read_only and (self.destructive or self.reaches_out)

    @property
    def reaches_out(self) -> bool:
        """Return whether a call can reach beyond the daemon."""
        return self.open_world or self.source != "built-in"

    def may_carry_data(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a call, made because of foreign data, can carry this data away or act on it: it acts, or
        reads an address that neither the user nor the data named.
        """
        if self.acts and not (self.only_reads is not None and self.only_reads(arguments)):
            return True
        seen_addresses = SEEN_ADDRESSES.get()
        return any(
            address not in seen_addresses and not (self.trusts is not None and self.trusts(address))
            for address in requested_addresses(arguments)
        )

    @property
    def asks_to_repeat(self) -> bool:
        """Return whether a person decides about repeating a call that was under way when the daemon stopped."""
        return self.repeat == "ask" or (not self.repeat and self.acts and self.keyed is None)


def without_secrets(tool: Tool, secrets: SecretValues) -> Tool:
    """Return a tool whose description, schemas and results do not contain the secrets of its source."""
    if not secrets:
        return tool
    work, keyed = tool.work, tool.keyed

    async def work_without(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        assert work is not None
        return result_without(await work(arguments, context), secrets)

    async def keyed_without(call: ToolCall, context: Context) -> ToolResult:
        assert keyed is not None
        return result_without(await keyed(call, context), secrets)

    return replace(
        tool,
        title=secrets.remove(tool.title),
        description=secrets.remove(tool.description),
        input_schema=secrets.remove(tool.input_schema),
        output_schema=secrets.remove(tool.output_schema),
        work=None if work is None else work_without,
        keyed=None if keyed is None else keyed_without,
    )


def result_without(result: ToolResult, secrets: SecretValues) -> ToolResult:
    """Return a result without the secrets of the tool's source."""
    return replace(result, text=secrets.remove(result.text), structured=secrets.remove(result.structured))


MAX_TEXT_CHARS: Final = 100_000
"""Maximum length of a text that is returned in full, in characters. This is about 25,000 tokens, more than a model
should read in one result.
"""

MAX_STRUCTURED_BYTES: Final = 1024 * 1024
"""Maximum size of structured content that is returned in full, as JSON, in bytes."""

HEAD_CHARS: Final = 20_000
TAIL_CHARS: Final = 5_000
"""Number of characters shown from the end of a stored text."""


async def fitting(
    tool: Tool, result: ToolResult, artifacts: ArtifactStore | None, context: Context
) -> ToolResult:
    """Return the result shortened to the size of an answer, and store the full result for the caller.

    If nothing can be stored, the excess is dropped, and the text says so.
    """
    result = await _structured(tool, result, artifacts, context)
    if len(result.text) <= MAX_TEXT_CHARS:
        return result
    length_note = f"{len(result.text)} characters in total"
    artifact = NewArtifact(
        f"{tool.name}.txt", "text/plain; charset=utf-8", result.text.encode("utf-8", "replace")
    )
    kept_artifact = await _keep(artifact, artifacts, context)
    omission = (
        f"{length_note}; the rest is omitted"
        if kept_artifact is None
        else f"{length_note}: {kept_artifact.link}"
    )
    text = f"{result.text[:HEAD_CHARS]}\n\n[… {omission} …]\n\n{result.text[-TAIL_CHARS:]}"
    return replace(
        result, text=text, artifacts=(*result.artifacts, *([kept_artifact] if kept_artifact else ()))
    )


async def _structured(
    tool: Tool, result: ToolResult, artifacts: ArtifactStore | None, context: Context
) -> ToolResult:
    data = None if result.structured is None else _json(result.structured)
    if data is None or len(data) <= MAX_STRUCTURED_BYTES:
        return result
    artifact = await _keep(NewArtifact(f"{tool.name}.json", "application/json", data), artifacts, context)
    place = "which is omitted" if artifact is None else f"which is stored at {artifact.link}"
    note = f"[The result has {len(data)} bytes of JSON, {place}.]"
    if tool.output_schema is not None:
        # A client treats a result without the promised structure as broken, but an error needs no structured
        # content.
        return ToolResult(
            f"The result of '{tool.name}' is too large to return. {note}\n\n{result.text[:HEAD_CHARS]}",
            is_error=True,
            artifacts=(*result.artifacts, *([artifact] if artifact else ())),
        )
    return replace(
        result,
        text=f"{note}\n\n{result.text}",
        structured=None,
        artifacts=(*result.artifacts, *([artifact] if artifact else ())),
    )


async def _keep(
    new_artifact: NewArtifact, artifacts: ArtifactStore | None, context: Context
) -> Artifact | None:
    if artifacts is None:
        return None
    [artifact] = await artifacts.keep([new_artifact], context)
    return artifact


def _json(structured_content: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(structured_content)
    except TypeError:  # an integer beyond 64 bits, or a lone surrogate
        return json.dumps(structured_content, default=str).encode()
