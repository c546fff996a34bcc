"""The settings that an operator gives a model, and the information that the daemon returns about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Any, Literal, TypeAlias

from portico.model_options import CHAT_OPTIONS
from portico.schemas.deployments import Deployment
from portico.spelling import misspelt
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest, without_folders
from portico_server.core.names import check_plain
from portico_server.core.principal import Principal
from portico_server.launchers.protocol import Resources, check_launcher
from portico_server.launchers.several_nodes import NODES_LAUNCHER
from portico_server.models.prompt import ModelPrompt
from portico_server.models.sources.source import public_source

State: TypeAlias = Literal["cold", "downloading", "loading", "ready", "failed"]
Task: TypeAlias = Literal["chat", "embedding", "rerank", "moderation", "speech", "transcription", "image"]

TASKS = ("auto", "chat", "vision", "embedding", "rerank", "moderation", "speech", "transcription", "image")

ANSWERS = ("auto", "test", "write", "quote")

NOT_DEFAULTS = frozenset({"model", "messages", "prompt", "input", "stream", "stream_options"})
"""Request fields that make no sense as a default for all calls."""

MAX_REPLICAS = 64

MAX_ADAPTER_SCALE = 16.0

_NAME = re.compile(r"[^\s/?#%\\\x00-\x1f][^\s?#%\\\x00-\x1f]{0,199}")
_RESERVED = ("store/", "memory/", "tool/")


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """An adapter in the configuration of its model. ``path`` is absolute."""

    name: str
    path: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_name(self.name, "adapters.name")
        check_scale(self.name, self.scale)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the configuration, the command line or the API describes it.

    ``engine`` and ``task`` can be ``auto``. ``parameters`` are the engine's own (context_length, slots, threads …).
    ``api_key`` is the key of a remote server and is never shown.

    ``keep_alive``: seconds after its last call until the model is unloaded, 0 for never, ``None`` for the daemon's
    setting. ``pin``: the model is never unloaded for another model. ``memory_mb``: its memory, instead of an estimate.
    ``queue_limit``: maximum calls that wait for the model or are being answered, ``None`` for the daemon's setting.
    ``defaults``: options such as ``temperature`` for calls that do not set them.

    ``prompt``: the beginning of every chat, see `portico_server.models.prompt`.

    ``replicas``: the number of the model's processes, or the sources of the additional processes, such as servers on
    other machines. ``parameters`` apply to the processes on the same engine.

    ``answers``: how the model answers from the passages of a store. ``write``: in its own words; ``quote``: the best
    sentences are quoted instead, without the model; ``test``: a short test of the model decides; ``auto``: the engine
    decides, or the test.

    ``launcher``: the launcher of the model's processes, empty for the default in the settings; ``resources``: what the
    processes request from a scheduler, see `portico_server.launchers.protocol.Resources`.
    """

    name: str
    source: str
    engine: str = "auto"
    task: str = "auto"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    aliases: tuple[str, ...] = ()
    description: str = ""
    keep_alive: float | None = None
    pin: bool = False
    memory_mb: int | None = None
    queue_limit: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    replicas: int | tuple[str, ...] = 1
    prompt: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[AdapterSpec, ...] = ()
    answers: str = "auto"
    launcher: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the source of each of the model's processes, the first process's source first."""
        if isinstance(self.replicas, int):
            return (self.source,) * self.replicas
        return (self.source, *self.replicas)

    def __post_init__(self) -> None:
        for name, param in ((self.name, "name"), *((alias, "aliases") for alias in self.aliases)):
            check_name(name, param)
        if self.task == "vision":  # a chat task; the model's files show whether it accepts images
            object.__setattr__(self, "task", "chat")
        if self.task not in TASKS:
            raise InvalidRequest(
                f"The task of the model '{self.name}' is '{self.task}', but must be one of "
                f"{', '.join(TASKS)}.",
                param="task",
            )
        if self.answers not in ANSWERS:
            raise InvalidRequest(
                f"'answers' of the model '{self.name}' is '{self.answers}', but must be one of {', '.join(ANSWERS)}."
                + nearest(self.answers, ANSWERS),
                param="answers",
            )
        check_launcher(self.launcher)
        if Resources.parse(self.resources).nodes > 1 and self.launcher not in ("", NODES_LAUNCHER):
            raise InvalidRequest(
                f"The launcher '{self.launcher}' starts the model '{self.name}' on one node. Use "
                f"'{NODES_LAUNCHER}', or leave out 'nodes'.",
                param="resources.nodes",
            )
        if not self.source:
            raise InvalidRequest(f"The model '{self.name}' needs a source.", param="source")
        for field_name, number in (
            ("keep_alive", self.keep_alive),
            ("memory_mb", self.memory_mb),
            ("queue_limit", self.queue_limit),
        ):
            if number is not None and number < 0:
                raise InvalidRequest(
                    f"'{field_name}' of the model '{self.name}' must be 0 or more, not {number}.",
                    param=field_name,
                )
        check_replicas(self.name, self.replicas)
        ModelPrompt.parse(self.name, self.prompt)
        for key in self.defaults:
            if key in NOT_DEFAULTS:
                raise InvalidRequest(
                    f"'{key}' cannot be a default of the model '{self.name}': every call sets it. Defaults "
                    "are options such as temperature, top_p, max_tokens or stop.",
                    param=f"defaults.{key}",
                )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON for the database, including the key."""
        return {
            **asdict(self),
            "replicas": self.replicas if isinstance(self.replicas, int) else list(self.replicas),
            "adapters": [asdict(adapter) for adapter in self.adapters],
            "parameters": dict(self.parameters),
            "aliases": list(self.aliases),
            "defaults": dict(self.defaults),
            "prompt": dict(self.prompt),
            "resources": dict(self.resources),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelSpec:
        """Read a spec that `to_json` wrote, ignoring fields that this version does not know."""
        fields = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        copies = fields.get("replicas", 1)
        return cls(
            **{
                **fields,
                "aliases": tuple(fields.get("aliases") or ()),
                "replicas": copies if isinstance(copies, int) else tuple(copies),
                "adapters": tuple(AdapterSpec(**adapter) for adapter in fields.get("adapters") or ()),
            }
        )


def check_defaults(name: str, defaults: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` if a default of the model ``name`` is a misspelt chat option.

    Other names may be options of the engine, or of images and speech, and are sent unchanged.
    """
    for key in defaults:
        if suggestion := misspelt(key, CHAT_OPTIONS):
            raise InvalidRequest(
                f"The model '{name}' cannot have the default '{key}', which is not an option. Did you mean "
                f"'{suggestion}'?",
                code="unknown_parameter",
                param=f"defaults.{key}",
            )


def check_name(name: str, param: str) -> None:
    """Raise `InvalidRequest` unless ``name`` is valid for a model in a URL and on a command line."""
    check_plain(name, "a model", param)
    if not _NAME.fullmatch(name) or name.startswith(_RESERVED):
        raise InvalidRequest(
            f"'{name[:80]}' is not a valid model name: use 1 to 200 characters without white space, '?', "
            "'#', '%' or '\\', not beginning with 'store/', 'memory/', 'tool/' or '/'.",
            param=param,
        )


def check_scale(name: str, scale: object) -> None:
    """Raise `InvalidRequest` unless ``scale`` is a valid factor for the effect of the adapter ``name``."""
    if isinstance(scale, int | float) and not isinstance(scale, bool) and abs(scale) <= MAX_ADAPTER_SCALE:
        return
    raise InvalidRequest(
        f"'scale' of the adapter '{name}' must be a number from -{MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}, not "
        f"{scale!r}.",
        param="scale",
    )


def check_replicas(name: str, replicas: object) -> None:
    """Raise `InvalidRequest` unless ``replicas`` is a number of processes or a list of sources."""
    if isinstance(replicas, int) and not isinstance(replicas, bool) and 1 <= replicas <= MAX_REPLICAS:
        return
    further = replicas if isinstance(replicas, tuple) else (None,)
    if len(further) < MAX_REPLICAS and all(isinstance(source, str) and source for source in further):
        return
    raise InvalidRequest(
        f"'replicas' of the model '{name}' must be a number from 1 to {MAX_REPLICAS}, or a list with the "
        "sources of the additional processes, such as http://HOST/v1#MODEL.",
        param="replicas",
    )


@dataclass(frozen=True, slots=True)
class DeploymentInfo(Deployment):
    """A model with the id of the key that owns it."""

    owner: str | None = None

    def for_caller(self, caller: Principal) -> DeploymentInfo:
        """Return the information that a caller can see: only admins see file paths of this machine."""
        if caller.admin:
            return self
        replicas = tuple(
            replace(
                replica,
                source=public_source(replica.source),
                error=replica.error and without_folders(replica.error),
            )
            for replica in self.replicas
        )
        error = self.error and without_folders(self.error)
        return replace(self, source=public_source(self.source), error=error, replicas=replicas)
