# Generated from portico._async by scripts/sdk: change it there.
"""Apps, agents and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from portico._request import at, without_none
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
    """Everything that can answer a conversation: each store with an app, each flow, and each agent."""

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
        """Deploy a flow under a name, or as a new version of an app. It answers all calls that start from now on.

        Deploying the same flow again changes nothing. Functions that run in this process must be served
        (`Client.serve`): raises `Conflict` if no client serves them, unless ``serve_later`` is set.
        ``expected_version`` is the version that you last saw; raises `Conflict` if another version answers now.
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
        """Set the limits of an app for all callers: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``,
        ``tokens_per_day``. They replace the previous limits; an empty mapping removes all limits.
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
        """Return what `package` would write with the same arguments, without writing it."""
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
        """Write an app and everything that it needs to a zip archive, and return the archive's size in bytes. An
        incomplete archive is removed.

        ``version``: the packaged version; None means the version that answers. ``targets``: also include files for
        these targets. ``stores``: ``include`` packages them as archives, ``reference`` only names what they follow.
        ``models``: ``reference`` names their sources, ``include`` also packages files of the daemon's machine.
        ``include``: further names, such as ``store/handbook`` or ``prompt/greeting``. ``options``: options of the
        targets, such as ``{"partition": "gpu"}``. Raises `NotFound`, `Forbidden`, and `Conflict` for content that
        cannot be packaged.
        """
        body = _package(version, targets, stores, models, include, options)
        saved_file = self._transport.save("POST", self._at(name, "package"), to, json=body, slow=True)
        return saved_file[0]

    def start(self, name: str, input: Any = None, *, session: str | None = None) -> Running:
        """Call an app with its input. Iterate over the result for text as it arrives, or read its ``events`` or its
        ``result``.
        """
        body = {"input": input, **({"session": session} if session else {})}
        return Running(self._transport, self._at(name, "run"), body, {})

    def run(self, name: str, input: Any = None, *, session: str | None = None) -> Any:
        """Call an app with its input, wait for the result, and return the app's output."""
        return self.start(name, input, session=session).result()

    def _at(self, name: str, *parts: str) -> str:
        if name in ("", ".", ".."):
            raise InvalidRequest("The name of an app is required.", param="name")
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
    """The prompt library, with versioned prompts and typed arguments."""

    def get(self, name: str, version: int | None = None) -> Prompt:
        """Return a version of a prompt, by default the newest. Raises `NotFound`."""
        return self._transport.request("GET", self._at(name), Prompt, query=without_none(version=version))

    def history(self, name: str) -> Sequence[Prompt]:
        """Return every version, newest first."""
        return self._transport.request("GET", self._at(name, "/versions"), list[Prompt])

    def save(self, name: str, **spec: Any) -> Prompt:
        """Save a prompt: ``messages`` with ``{name}`` for each of ``arguments``, ``examples``, ``description``.

        Saving the same content twice creates one version.
        """
        return self._transport.request("POST", "/api/prompts", Prompt, json={**spec, "name": name})

    def render(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, version: int | None = None
    ) -> Sequence[Mapping[str, str]]:
        """Return the messages with the arguments filled in, as accepted by `Client.chat`."""
        path, body = self._at(name, "/render"), {"arguments": dict(arguments or {}), "version": version}
        return self._transport.request("POST", path, list[dict[str, str]], json=body, key="messages")

    def export(
        self, name: str, format: PromptFormat = "markdown", *, version: int | None = None
    ) -> ExportedPrompt:
        """Return the prompt as the text of a file in Portico's formats (``markdown``, ``yaml``), or as ``prompty``,
        ``dotprompt`` or ``langchain``.
        """
        query = without_none(format=format, version=version)
        return self._transport.request("GET", self._at(name, "/export"), ExportedPrompt, query=query)

    def evaluate(self, name: str, model: str = "default", *, version: int | None = None) -> EvalRun:
        """Ask a model each case of the prompt, and wait for the results.

        An answer passes if it contains what the case says that a correct answer contains. The evaluation is kept in
        `Client.evals`. Raises `InvalidRequest` for a prompt without cases.
        """
        prompt = self.get(name, version)
        if not prompt.cases:
            raise InvalidRequest(
                f"The prompt '{name}' has no cases: add some, each with 'arguments', 'answer' and 'holds'.",
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
        """Delete a prompt with all its versions."""
        return self._transport.request("DELETE", self._at(name), None)

    def _at(self, name: str, suffix: str = "") -> str:
        """Return the path of a prompt, whose name can contain slashes."""
        if not name or name.startswith(".") or "//" in name or "/." in name:
            raise InvalidRequest("Name a prompt.", param="name")
        return f"/api/prompts/{quote(name, safe='/')}{suffix}"


class Agents(calls_apps.Agents):
    """Agents that are not deployed, as JSON. `portico.agent` builds them."""

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
        """Start a turn. Iterate over the result for text as it arrives, or read its ``events`` or its ``result``, a
        message.

        ``session``: an app and a session name, in which the agent stores its memory under ``path``. Without a session,
        nothing is remembered. ``functions`` are local functions, keyed by name, that hooks can call.
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
        """Let an agent answer a message, wait for the answer, and return it as a message."""
        return self.start(spec, message, session=session, path=path, variables=variables).result()
