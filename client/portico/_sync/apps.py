# Generated from portico._async by scripts/sdk: change it there.
"""Apps, agents and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from portico._request import at, given
from portico._running import Functions, Running
from portico._step import StepLike
from portico._sync.calls import apps as calls_apps
from portico._sync.calls import prompts as calls_prompts
from portico._sync.evals import Evals
from portico.errors import InvalidRequest
from portico.flow import Flow, flow_of
from portico.schemas.apps import AppVersion
from portico.schemas.evals import EvalRun
from portico.schemas.packages import PackagedContents
from portico.schemas.prompts import ExportedPrompt, Prompt

PackageTarget: TypeAlias = Literal["image", "compose", "kubernetes", "slurm"]

Inclusion: TypeAlias = Literal["include", "reference"]

PromptFormat: TypeAlias = Literal["markdown", "yaml", "prompty", "dotprompt", "langchain"]

_HOLDS: Mapping[str, str] = {
    "type": "string_check",
    "name": "holds",
    "input": "{{sample.output_text}}",
    "operation": "ilike",
    "reference": "{{item.holds}}",
}


class Apps(calls_apps.Apps):
    """What answers a conversation: each store with an app, each flow, each agent."""

    def deploy(
        self,
        name: str,
        flow: Flow | StepLike | Mapping[str, Any],
        *,
        kind: str = "flow",
        note: str = "",
        expected_version: int | None = None,
        serve_later: bool = False,
    ) -> AppVersion:
        """Give a flow a name, or an app another version: it answers from the next call on. The same changes nothing.

        Functions that stay here must be served (`Client.serve`): `Conflict` if nobody does, unless ``serve_later``.
        ``expected_version``: the version that you have seen; `Conflict` if another one answers by now.
        """
        spec = flow_of(flow).spec if kind == "flow" else flow
        assert isinstance(spec, Mapping)
        body = {
            "name": name,
            "kind": kind,
            "spec": dict(spec),
            "note": note,
            "expected_version": expected_version,
            "serve_later": serve_later,
        }
        return self._transport.request("POST", "/api/apps", AppVersion, json=body)

    def limit(self, name: str, limits: Mapping[str, int]) -> None:
        """Hold an app to limits, whoever calls it: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``,
        ``tokens_per_day``. They take the place of those it had; none: no limits.
        """
        return self._transport.request("PATCH", self._at(name), None, json={"limits": dict(limits)})

    def plan_package(
        self,
        name: str,
        *,
        version: int | None = None,
        targets: Sequence[PackageTarget] = (),
        stores: Inclusion = "include",
        models: Inclusion = "reference",
        include: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> PackagedContents:
        """What `package` would write, with the same arguments; nothing is made."""
        body = _package(version, targets, stores, models, include, options)
        path = self._at(name, "package", "plan")
        return self._transport.request("POST", path, PackagedContents, json=body)

    def package(
        self,
        name: str,
        to: Path,
        *,
        version: int | None = None,
        targets: Sequence[PackageTarget] = (),
        stores: Inclusion = "include",
        models: Inclusion = "reference",
        include: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> int:
        """Write an app and all that it needs to a zip archive; its size in bytes. Nothing is left of a failed one.

        ``version``: the one that answers, if it is None. ``targets``: for what it has files too. ``stores`` are
        archives in it, or by ``reference`` what they follow. ``models`` are named by their sources, or ``include``
        files of the daemon's machine. ``include``: further names, such as ``store/handbook`` or ``prompt/greeting``.
        ``options``: of the targets, such as ``{"partition": "gpu"}``. Raises `NotFound`, `Forbidden`,
        `Conflict` for what cannot leave.
        """
        body = _package(version, targets, stores, models, include, options)
        saved_file = self._transport.save("POST", self._at(name, "package"), to, json=body, slow=True)
        return saved_file[0]

    def start(self, name: str, input: Any = None, *, session: str | None = None) -> Running:
        """Call an app with its input: iterate for its text as it comes; its ``events``, its ``result``."""
        body = {"input": input, **({"session": session} if session else {})}
        return Running(self._transport, self._at(name, "run"), body, {})

    def run(self, name: str, input: Any = None, *, session: str | None = None) -> Any:
        """Call an app with its input and wait; its output."""
        return self.start(name, input, session=session).result()

    def _at(self, name: str, *parts: str) -> str:
        if name in ("", ".", ".."):
            raise InvalidRequest("Name an app.", param="name")
        return at("api", "apps", name, *parts)


def _package(
    version: int | None,
    targets: Sequence[PackageTarget],
    stores: Inclusion,
    models: Inclusion,
    include: Sequence[str],
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "version": version,
        "targets": list(targets),
        "stores": stores,
        "models": models,
        "include": list(include),
        "options": dict(options or {}),
    }


class Prompts(calls_prompts.Prompts):
    """The prompt library: versioned prompts with typed arguments."""

    def get(self, name: str, version: int | None = None) -> Prompt:
        """One version, the newest if none is named. Raises `NotFound`."""
        return self._transport.request("GET", self._at(name), Prompt, query=given(version=version))

    def history(self, name: str) -> Sequence[Prompt]:
        """Every version, newest first."""
        return self._transport.request("GET", self._at(name, "/versions"), list[Prompt])

    def save(self, name: str, **spec: Any) -> Prompt:
        """Keep a prompt: ``messages`` with ``{name}`` for each of ``arguments``, ``examples``, ``description``.

        The same content twice makes one version.
        """
        return self._transport.request("POST", "/api/prompts", Prompt, json={**spec, "name": name})

    def render(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, version: int | None = None
    ) -> Sequence[Mapping[str, str]]:
        """The messages with arguments in their places, as `Client.chat` takes them."""
        path, body = self._at(name, "/render"), {"arguments": dict(arguments or {}), "version": version}
        return self._transport.request("POST", path, list[dict[str, str]], json=body, key="messages")

    def export(
        self, name: str, format: PromptFormat = "markdown", *, version: int | None = None
    ) -> ExportedPrompt:
        """The text of a file with the prompt: ours (``markdown``, ``yaml``), or as ``prompty``, ``dotprompt`` or
        ``langchain`` have it.
        """
        query = given(format=format, version=version)
        return self._transport.request("GET", self._at(name, "/export"), ExportedPrompt, query=query)

    def evaluate(self, name: str, model: str = "default", *, version: int | None = None) -> EvalRun:
        """Ask a model with each of the prompt's cases, and wait; an answer passes that holds what a right one holds.

        The evaluation stays among `Client.evals`. Raises `InvalidRequest` for a prompt without cases.
        """
        prompt = self.get(name, version)
        if not prompt.cases:
            raise InvalidRequest(
                f"The prompt '{name}' has no cases: give it some, each with 'arguments', 'answer' and 'holds'.",
                code="no_cases",
                param="name",
            )
        items: list[dict[str, Any]] = []
        roles: list[str] = []
        for case in prompt.cases:
            messages = self.render(prompt.id or name, case["arguments"], version=prompt.version)
            roles = [message["role"] for message in messages]
            texts = {f"message{number}": message["content"] for number, message in enumerate(messages)}
            items.append({**texts, "holds": case["holds"], "answer": case["answer"]})
        evals = Evals(self._transport)
        new_eval = evals.create(f"{prompt.name} version {prompt.version}", [_HOLDS])
        template = [
            {"role": role, "content": f"{{{{item.message{number}}}}}"} for number, role in enumerate(roles)
        ]
        run = evals.run(new_eval.id, {"model": model, "messages": template}, items, name=model)
        return evals.wait(run)

    def remove(self, name: str) -> None:
        """Forget a prompt with all its versions."""
        return self._transport.request("DELETE", self._at(name), None)

    def _at(self, name: str, suffix: str = "") -> str:
        """A prompt's name may have slashes."""
        if not name or name.startswith(".") or "//" in name or "/." in name:
            raise InvalidRequest("Name a prompt.", param="name")
        return f"/api/prompts/{quote(name, safe='/')}{suffix}"


class Agents(calls_apps.Agents):
    """Agents that nobody deployed, as JSON. `portico.agent` composes them."""

    def start(
        self,
        spec: Mapping[str, Any],
        message: Any,
        *,
        session: tuple[str, str] | None = None,
        path: str = "",
        variables: Mapping[str, Any] | None = None,
        functions: Functions | None = None,
    ) -> Running:
        """Begin a turn: iterate for its text as it comes; its ``events``, its ``result``, a message.

        ``session``: an app and a name, where the agent remembers under ``path``; none: it remembers nothing.
        ``functions`` are those of ours that hooks may call back, by name.
        """
        body: dict[str, Any] = {"agent": dict(spec), "message": message}
        if session is not None:
            body["session"] = {"app": session[0], "name": session[1]}
        if path:
            body["path"] = path
        if variables:
            body["variables"] = dict(variables)
        return Running(self._transport, "/api/agents/run", body, functions or {})

    def run(
        self,
        spec: Mapping[str, Any],
        message: Any,
        *,
        session: tuple[str, str] | None = None,
        path: str = "",
        variables: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let an agent answer a message and wait; the answer as a message."""
        return self.start(spec, message, session=session, path=path, variables=variables).result()
