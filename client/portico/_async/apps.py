"""Apps, agents and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from portico._async.group import Group
from portico._calls.chat import apps_list
from portico._calls.flows import (
    app_deploy,
    app_drawing,
    app_get,
    app_input,
    app_limit,
    app_remove,
    app_roll_back,
    app_update,
    app_versions,
)
from portico._calls.prompts import (
    prompt_get,
    prompt_history,
    prompt_remove,
    prompt_render,
    prompt_save,
    prompts_import,
    prompts_list,
)
from portico._calls.sessions import agent_check, agent_run
from portico._running import AsyncRunning, Functions
from portico._step import StepLike
from portico.flow import Flow, flow_of
from portico.values import (
    App,
    AppVersion,
    CheckedAgent,
    ImportedPrompts,
    Prompt,
)


class Apps(Group):
    """What answers a conversation: each store with an app, each flow, each agent."""

    async def list(self, *, everyone: bool = False) -> list[App]:
        """All that this key may call by name; ``everyone``: for an admin, other keys' too, which have ids."""
        return await self._transport.send(apps_list(everyone))

    async def deploy(
        self,
        name: str,
        flow: Flow | StepLike | Mapping[str, Any],
        *,
        kind: str = "flow",
        note: str = "",
        expected_version: int | None = None,
    ) -> AppVersion:
        """Give a flow a name, or an app another version: it answers from the next call on. The same changes nothing.

        Functions that stay here must be served meanwhile (`Client.serve`). ``expected_version``: the version that
        you have seen; `Conflict` if another one answers by now.
        """
        spec = flow_of(flow).spec if kind == "flow" else flow
        assert isinstance(spec, Mapping)
        return await self._transport.send(app_deploy(name, kind, spec, note, expected_version))

    async def get(self, name: str) -> App:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(app_get(name))

    async def update(
        self,
        name: str,
        changes: Mapping[str, Any],
        *,
        note: str = "",
        expected_version: int | None = None,
    ) -> AppVersion:
        """Another version with other values in some places: ``{"outline.system": "Be brief."}``.

        A place is the names of steps that lead to a field, from the outside; None takes a field away. Runs in progress
        end as they began; sessions continue with the new version. Raises `Conflict` if somebody else deployed
        meanwhile.
        """
        return await self._transport.send(app_update(name, changes, note, expected_version))

    async def limit(self, name: str, limits: Mapping[str, int]) -> None:
        """Hold an app to limits, whoever calls it: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``,
        ``tokens_per_day``. They take the place of those it had; none: no limits.
        """
        return await self._transport.send(app_limit(name, limits))

    async def drawing(self, name: str, format: Literal["mermaid", "svg"] = "mermaid") -> str:
        """A deployed app as a picture: the text of a Mermaid flowchart, or of an SVG file."""
        return await self._transport.send(app_drawing(name, format))

    async def versions(self, name: str) -> Sequence[AppVersion]:
        """The versions of a deployed app, newest first."""
        return await self._transport.send(app_versions(name))

    async def roll_back(self, name: str, version: int | None = None) -> AppVersion:
        """Let an earlier version answer again: by default the one before the current one."""
        return await self._transport.send(app_roll_back(name, version))

    async def remove(self, name: str) -> None:
        """Remove a deployed app with all its versions. Runs in progress continue."""
        return await self._transport.send(app_remove(name))

    def start(self, name: str, input: Any = None, *, session: str | None = None) -> AsyncRunning:
        """Call an app with its input: iterate for its text as it comes; its ``events``, its ``result``."""
        return AsyncRunning(self._transport, app_input(name, input, session), {})

    async def run(self, name: str, input: Any = None, *, session: str | None = None) -> Any:
        """Call an app with its input and wait; its output."""
        return await self.start(name, input, session=session).result()


class Prompts(Group):
    """The prompt library: versioned prompts with typed arguments."""

    async def list(self, *, everyone: bool = False) -> list[Prompt]:
        """The newest version of each, by name; ``everyone``: for an admin, other keys' too, which have ids."""
        return await self._transport.send(prompts_list(everyone))

    async def get(self, name: str, version: int | None = None) -> Prompt:
        """One version, the newest if none is named. Raises `NotFound`."""
        return await self._transport.send(prompt_get(name, version))

    async def history(self, name: str) -> Sequence[Prompt]:
        """Every version, newest first."""
        return await self._transport.send(prompt_history(name))

    async def save(self, name: str, **spec: Any) -> Prompt:
        """Keep a prompt: ``messages`` with ``{name}`` for each of ``arguments``, ``examples``, ``description``.

        The same content twice makes one version.
        """
        return await self._transport.send(prompt_save(name, spec))

    async def render(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, version: int | None = None
    ) -> Sequence[Mapping[str, str]]:
        """The messages with arguments in their places, as `Client.chat` takes them."""
        return await self._transport.send(prompt_render(name, arguments or {}, version))

    async def load(
        self,
        files: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        origin: str = "",
        dry_run: bool = False,
    ) -> ImportedPrompts:
        """Import ``files``, from their path to their text, or those of a Git repository on https."""
        return await self._transport.send(prompts_import(files or {}, url, origin, dry_run))

    async def remove(self, name: str) -> None:
        """Forget a prompt with all its versions."""
        return await self._transport.send(prompt_remove(name))


class Agents(Group):
    """Agents that nobody deployed, as JSON. `portico.agent` composes them."""

    async def check(self, spec: Mapping[str, Any]) -> CheckedAgent:
        """Whether an agent could run here, without running it: every name in it."""
        return await self._transport.send(agent_check(spec))

    def start(
        self,
        spec: Mapping[str, Any],
        message: Any,
        *,
        session: tuple[str, str] | None = None,
        path: str = "",
        variables: Mapping[str, Any] | None = None,
        functions: Functions | None = None,
    ) -> AsyncRunning:
        """Begin a turn: iterate for its text as it comes; its ``events``, its ``result``, a message.

        ``session``: an app and a name, where the agent remembers under ``path``; none: it remembers nothing.
        ``functions`` are those of ours that hooks may call back, by name.
        """
        call = agent_run(spec, message, session, path, variables or {})
        return AsyncRunning(self._transport, call, functions or {})

    async def run(
        self,
        spec: Mapping[str, Any],
        message: Any,
        *,
        session: tuple[str, str] | None = None,
        path: str = "",
        variables: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let an agent answer a message and wait; the answer as a message."""
        return await self.start(spec, message, session=session, path=path, variables=variables).result()
