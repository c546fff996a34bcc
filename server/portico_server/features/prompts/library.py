"""The shared prompts and the prompts of each key, by name and version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from portico.schemas.prompts import ImportedPrompts
from portico_server.core import pools
from portico_server.core.binding import find_meant
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.ids import is_id
from portico_server.core.principal import Principal
from portico_server.core.prompts import builtin
from portico_server.core.prompts.spec import PromptSpec, parse
from portico_server.core.registry import owner_of
from portico_server.core.request import Message
from portico_server.db import prompts as rows
from portico_server.db.database import Database
from portico_server.db.names import as_meant, own_or_shared
from portico_server.db.prompts import PromptJson, PromptRow
from portico_server.db.rows import json_bytes
from portico_server.runs.quotas import StorageQuota

StoredPrompt: TypeAlias = PromptRow[PromptSpec]


class PromptLibrary:
    """A versioned prompt library. Every version is kept, and the newest is the default. Saving identical content adds
    no version.

    A name refers to the caller's own prompt or else to a shared prompt, which an admin wrote. An admin can use the
    prompts of other keys by their ids. A key needs the scope ``chat`` to write its own prompts; ``reserve`` raises an
    error for reserved names.
    """

    def __init__(
        self,
        database: Database,
        reserve: Callable[[str, str | None], None] = lambda _name, _owner: None,
        quota: StorageQuota | None = None,
    ) -> None:
        self._database = database
        self._quota = quota or StorageQuota()
        self._reserved = reserve
        self._watchers: list[Callable[[], None]] = []

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` whenever the list of prompts or a prompt changes."""
        self._watchers.append(watcher)

    async def refresh(self) -> None:
        """Notify the watchers because another daemon on the same database has saved or removed a prompt. The library
        itself caches nothing.
        """
        self._on_change()

    async def start(self) -> None:
        """Save the prompts that come with Portico."""
        specs = await pools.DOCUMENTS.run(_shipped)
        if await self._database.write(rows.ship, specs, builtin.ORIGIN):
            self._on_change()

    async def list(self, caller: Principal, *, include_all: bool = False) -> Sequence[StoredPrompt]:
        """List the newest version of each prompt that the caller can use by name. ``include_all``: for an admin, list
        all prompts.
        """
        prompt_rows = await self._database.read(
            rows.newest, caller.id, include_all=include_all and caller.admin
        )
        return [
            _prompt(row)
            for row in (prompt_rows if include_all and caller.admin else as_meant(prompt_rows, caller.id))
        ]

    async def get(self, ref: str, caller: Principal, version: int | None = None) -> StoredPrompt:
        """Return a version of a prompt, given by name or id; without ``version``, the newest. Raises `NotFound`."""
        last = await self._find_meant(ref, caller)
        if last is None:
            prompt_names = [prompt.name for prompt in await self.list(caller)]
            raise NotFound(
                f"The prompt '{ref[:200]}' does not exist, or you have no access to "
                f"it.{nearest(ref, prompt_names)}",
                code="prompt_not_found",
                param="name",
            )
        row = last if version is None else await self._database.read(rows.find_version, last.id, version)
        if row is None:
            raise NotFound(
                f"The prompt '{last.name}' has no version {version}; its newest version is {last.version}.",
                code="prompt_not_found",
                param="version",
            )
        return _prompt(row)

    async def _find_meant(self, ref: str, caller: Principal) -> PromptJson | None:
        """Return the newest version of the prompt to which ``ref`` refers: the caller's prompt with this name, the
        shared prompt with this name, or the prompt with this id.
        """
        return await find_meant(f"prompt/{ref}", ref, lambda known_as: self._find(known_as, caller))

    async def _find(self, ref: str, caller: Principal) -> PromptJson | None:
        if is_id(ref, "prompt_"):
            row = await self._database.read(rows.find_version, ref, None)
            return row if row is not None and caller.sees(row.owner) else None
        return await self._database.read(own_or_shared, rows.by_name, ref, caller.id)

    async def history(self, ref: str, caller: Principal) -> Sequence[StoredPrompt]:
        """Return all versions of a prompt, newest first. Raises `NotFound`."""
        prompt = await self.get(ref, caller)
        return [_prompt(row) for row in await self._database.read(rows.versions, prompt.id)]

    async def save(
        self, spec: PromptSpec, caller: Principal, *, origin: str = ""
    ) -> tuple[StoredPrompt, bool]:
        """Save a version of a prompt. Return the version, and whether it is new. Prompts saved by an admin are shared.
        Raise `Conflict` if the name belongs to a shared prompt.
        """
        await self._writable(spec.name, caller)
        await self._quota.admit(self._database, owner_of(caller), json_bytes(spec.to_json()))
        row, is_made = await self._database.write(
            rows.save, spec.name, owner_of(caller), spec.to_json(), origin
        )
        if is_made:
            self._on_change()
        return _prompt(row), is_made

    async def take(
        self, specs: Sequence[PromptSpec], caller: Principal, *, origin: str, dry_run: bool = False
    ) -> ImportedPrompts:
        """Save several prompts, or with ``dry_run`` only report the changes. If a prompt cannot be saved, raise
        `Conflict` before any prompt is saved.
        """
        before = {spec.name: await self._writable(spec.name, caller) for spec in specs}
        added_names: dict[str, None] = {}
        changed_names: dict[str, None] = {}
        unchanged_names: dict[str, None] = {}
        for spec in specs:
            last = before[spec.name]
            is_unchanged = last is not None and last.spec == spec.to_json()
            (unchanged_names if is_unchanged else added_names if last is None else changed_names)[
                spec.name
            ] = None
            if not dry_run:
                await self.save(spec, caller, origin=origin)
        return ImportedPrompts(tuple(added_names), tuple(changed_names), tuple(unchanged_names))

    async def remove(self, ref: str, caller: Principal) -> None:
        """Delete a prompt and all its versions. Raise `NotFound`, or `Forbidden` for a shared prompt."""
        prompt = await self.get(ref, caller)
        if prompt.owner != caller.id:
            caller.require("admin")
        await self._database.write(rows.remove, prompt.id)
        self._on_change()

    async def render(
        self,
        name: str,
        arguments: Mapping[str, Any],
        caller: Principal,
        *,
        version: int | None = None,
        as_text: bool = False,
    ) -> tuple[Message, ...]:
        """Return the messages of a prompt with the arguments filled in; see `PromptSpec.render`."""
        prompt = await self.get(name, caller, version)
        return prompt.spec.render(arguments, as_text=as_text)

    async def _writable(self, name: str, caller: Principal) -> PromptJson | None:
        """Return the newest version of a prompt that the caller may change, or ``None`` if the name is free. Raises
        `Forbidden` and `Conflict`.
        """
        caller.require("chat")
        owner = owner_of(caller)
        last = await self._database.read(rows.by_name, name, owner)
        if last is None:
            self._reserved(name, owner)
            if is_id(name, "prompt_"):
                raise InvalidRequest(
                    f"'{name}' has the form of an id, so it cannot be the name of a prompt.",
                    code="invalid_name",
                    param="name",
                )
            if owner is not None and await self._database.read(rows.by_name, name, None) is not None:
                raise rows.name_conflict(name)
        return last

    def _on_change(self) -> None:
        for watcher in self._watchers:
            watcher()


def _shipped() -> list[dict[str, Any]]:
    return [spec.to_json() for spec in builtin.every()]


def _prompt(row: PromptJson) -> StoredPrompt:
    spec = parse(row.spec)
    return PromptRow(row.id, spec.name, row.version, row.owner, spec, row.origin, row.created_at)
