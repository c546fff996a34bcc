"""The prompts of the house and of each key, by name and version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico_server.apps.prompts.spec import PromptSpec, parse
from portico_server.core.errors import Conflict, NotFound, nearest
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.request import Message
from portico_server.db import prompts as rows
from portico_server.db.database import Database
from portico_server.db.prompts import PromptRow


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt. ``owner`` is the key that wrote it; ``None`` belongs to the house, seen by all."""

    spec: PromptSpec
    version: int
    owner: str | None
    origin: str
    created_at: float

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Taken:
    """What an import made of each prompt, by name."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


class Library:
    """Every version is kept; the newest is meant where none is named. Saving what is already there makes none.

    A key without ``admin`` sees the prompts of the house and its own, and writes its own with the scope ``chat``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: list[Callable[[], None]] = []

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` whenever the list of prompts, or one of them, has changed."""
        self._watchers.append(watcher)

    async def start(self, configured: Iterable[PromptSpec]) -> None:
        """Take over the prompts of the configuration file."""
        for spec in configured:
            await self.save(spec, SYSTEM, origin="configuration")

    async def list(self, caller: Principal) -> Sequence[Prompt]:
        """The newest version of each prompt that the caller sees, by name."""
        return [_prompt(row) for row in await self._database.read(rows.newest) if caller.sees(row.owner)]

    async def get(self, name: str, caller: Principal, version: int | None = None) -> Prompt:
        """One version, the newest without ``version``. Raises `NotFound`."""
        row = await self._database.read(rows.one, name, version)
        if row is not None and caller.sees(row.owner):
            return _prompt(row)
        last = await self._database.read(rows.one, name, None)
        if last is not None and caller.sees(last.owner):
            raise NotFound(
                f"The prompt '{name}' has no version {version}; its newest is {last.version}.",
                code="prompt_not_found",
                param="version",
            )
        known = [prompt.name for prompt in await self.list(caller)]
        raise NotFound(
            f"There is no prompt '{name[:200]}' here or you have no access to it.{nearest(name, known)}",
            code="prompt_not_found",
            param="name",
        )

    async def history(self, name: str, caller: Principal) -> Sequence[Prompt]:
        """Every version, newest first. Raises `NotFound`."""
        await self.get(name, caller)
        return [_prompt(row) for row in await self._database.read(rows.versions, name)]

    async def save(self, spec: PromptSpec, caller: Principal, *, origin: str = "") -> tuple[Prompt, bool]:
        """A new version, and whether it had to be made. Raises `Conflict` if another key has a prompt of this name."""
        last = await self._writable(spec.name, caller)
        owner = last.owner if last is not None else None if caller.admin else caller.id
        row, made = await self._database.write(rows.save, spec.name, owner, spec.to_json(), origin)
        if made:
            self._changed()
        return _prompt(row), made

    async def take(
        self, specs: Sequence[PromptSpec], caller: Principal, *, origin: str, dry_run: bool = False
    ) -> Taken:
        """Save several, or only say what that would do. Raises `Conflict` before any of them is saved."""
        before = {spec.name: await self._writable(spec.name, caller) for spec in specs}
        added: dict[str, None] = {}
        changed: dict[str, None] = {}
        unchanged: dict[str, None] = {}
        for spec in specs:
            last = before[spec.name]
            same = last is not None and last.spec == spec.to_json()
            (unchanged if same else added if last is None else changed)[spec.name] = None
            if not dry_run:
                await self.save(spec, caller, origin=origin)
        return Taken(tuple(added), tuple(changed), tuple(unchanged))

    async def remove(self, name: str, caller: Principal) -> None:
        """Forget a prompt with all its versions. Raises `NotFound`, and `Forbidden` for one of the house."""
        prompt = await self.get(name, caller)
        if prompt.owner != caller.id:
            caller.require("admin")
        await self._database.write(rows.remove, name)
        self._changed()

    async def render(
        self,
        name: str,
        arguments: Mapping[str, Any],
        caller: Principal,
        *,
        version: int | None = None,
        as_text: bool = False,
    ) -> tuple[Message, ...]:
        """The messages of a prompt with these arguments; see `PromptSpec.render`."""
        prompt = await self.get(name, caller, version)
        return prompt.spec.render(arguments, as_text=as_text)

    async def _writable(self, name: str, caller: Principal) -> PromptRow | None:
        """The newest version that a new one would follow. Raises `Forbidden` and `Conflict`."""
        caller.require("chat")
        last = await self._database.read(rows.one, name, None)
        if last is not None and not (caller.admin or last.owner == caller.id):
            raise Conflict(
                f"The name '{name}' is taken by a prompt that is not yours; choose another one.",
                code="name_taken",
                param="name",
            )
        return last

    def _changed(self) -> None:
        for watcher in self._watchers:
            watcher()


def _prompt(row: PromptRow) -> Prompt:
    return Prompt(parse(row.spec), row.version, row.owner, row.origin, row.created_at)
