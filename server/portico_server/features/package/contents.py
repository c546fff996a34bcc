"""Finds everything that an app needs, by following the names that the app contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

from portico.schemas.chunks import ChunkGroup
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.relay import AdapterScale
from portico_server.core.servable import Card
from portico_server.db.apps import AppRow, VersionRow
from portico_server.features.agents.app import AgentApps
from portico_server.features.agents.forward import FORWARD
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.flows import read
from portico_server.features.flows.expression import (
    Expression,
    ListExpression,
    LiteralExpression,
    ObjectExpression,
)
from portico_server.features.flows.spec import AgentStep, ClientStep, FlowSpec, ToolStep
from portico_server.features.flows.tree import every
from portico_server.features.mcp_servers.host import McpHost
from portico_server.features.mcp_servers.spec import ServerSpec
from portico_server.features.prompts.library import PromptLibrary, StoredPrompt
from portico_server.features.skills.library import SkillLibrary, StoredSkill
from portico_server.features.stores.store import StoreView
from portico_server.features.stores.stores import StoreService
from portico_server.features.tools.sources.sources import AddedTools
from portico_server.features.tools.sources.spec import ToolSpec
from portico_server.models.fallback import fallbacks
from portico_server.models.service import ModelService
from portico_server.models.spec import ModelSpec

MAX_NAMES: Final = 2_000
"""Maximum number of entries in one package."""

ASKING_TOOLS: Final[Mapping[str, str]] = {
    "search": "a store",
    "list_stores": "stores",
    "ask_model": "a model",
    "transcribe": "a model",
    "speak": "a model",
    "draw": "a model",
    "read_skill": "a skill",
}
"""Built-in tools whose calls name a resource in an argument, and the kind of that resource."""

SKILL_ARGUMENTS: Final[Mapping[str, str]] = {
    "read_skill": "skill",
    "code_interpreter": "skills",
    "shell": "skills",
}
"""Built-in tools that receive skills, and the argument that contains their names."""


@dataclass(frozen=True, slots=True)
class PackagedStore:
    """A store, its groups, and whether it is also needed as a chat app."""

    row: StoreView
    groups: tuple[ChunkGroup, ...]
    files: int
    app: bool


@dataclass(frozen=True, slots=True)
class PackagedApp:
    """A deployed app in one of its versions."""

    row: AppRow
    version: VersionRow


@dataclass(slots=True)
class PackageContents:
    """The contents of a package, keyed by name.

    ``aliases`` are further names of models; ``notes`` are messages for people.
    """

    name: str
    kind: str = "store"
    version: int = 0
    digest: str = ""
    models: dict[str, ModelSpec] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    adapters: dict[str, list[AdapterScale]] = field(default_factory=dict)
    """Adapters, keyed by the name of their model."""
    stores: dict[str, PackagedStore] = field(default_factory=dict)
    tools: dict[str, ToolSpec] = field(default_factory=dict)
    servers: dict[str, ServerSpec] = field(default_factory=dict)
    builtin: set[str] = field(default_factory=set)
    """Names of the daemon's own tools that are called."""
    prompts: dict[str, StoredPrompt] = field(default_factory=dict)
    apps: dict[str, PackagedApp] = field(default_factory=dict)
    skills: dict[str, StoredSkill] = field(default_factory=dict)
    """Skills, each in the one version that is packaged."""
    notes: list[str] = field(default_factory=list)


class ContentsFinder:
    """Follows names from an app to everything that the app calls. The names are resolved on behalf of ``caller``."""

    def __init__(
        self,
        registry: Registry,
        models: ModelService,
        stores: StoreService,
        tools: AddedTools,
        mcp: McpHost,
        prompts: PromptLibrary,
        apps: DeployedApps,
        agents: AgentApps,
        skills: SkillLibrary,
        caller: Principal,
    ) -> None:
        self._registry = registry
        self._models = models
        self._stores = stores
        self._tools = tools
        self._mcp = mcp
        self._prompts = prompts
        self._apps = apps
        self._agents = agents
        self._skills = skills
        self._caller = caller
        self._open_keys: list[tuple[str, str]] = []
        """Registry keys that remain to be resolved, each with a description of what refers to it."""

    async def find(self, name: str, version: int | None, include: Sequence[str] = ()) -> PackageContents:
        """Return everything that the app ``name`` needs in ``version`` (``None`` for the active version).

        ``include`` are further names: ``store/NAME``, ``tool/NAME``, ``skill/NAME``, ``prompt/NAME``, or the name of a
        model or an app. Raise `NotFound` for a missing app, version or name, `Forbidden`, and `Conflict` for anything
        that cannot be used on another daemon.
        """
        card = await self._card(name)
        package_contents = PackageContents(card.name, kind=str(card.labels.get("app") or "store"))
        seen_names = {card.name}
        if card.labels.get("app"):
            await self._first(package_contents, name, version)
        else:
            if version is not None:
                raise NotFound(
                    f"'{card.name}' is the chat app of a store, which has no versions. Leave out 'version'.",
                    code="version_not_found",
                    param="version",
                )
            self._require_name(card, name, "the request")
            await self._store_app(package_contents, card)
        for extra in include:
            if extra.startswith("prompt/"):
                prompt = await self._prompts.get(extra.removeprefix("prompt/"), self._caller)
                package_contents.prompts[prompt.name] = prompt
            else:
                self._open_keys.append((extra, "the request"))
        while self._open_keys:
            key, by = self._open_keys.pop()
            if key in seen_names:
                continue
            seen_names.add(key)
            if len(seen_names) > MAX_NAMES:
                raise InvalidRequest(
                    f"The app needs more than {MAX_NAMES:,} other resources.", code="too_large", param="name"
                )
            await self._add(package_contents, key, by)
        package_contents.notes = sorted(dict.fromkeys(package_contents.notes))
        return package_contents

    async def _card(self, name: str) -> Card:
        servable = await self._registry.resolve(name, self._caller)
        if servable.card.kind != "app":
            app_names = [card.name for card in await self._registry.cards(self._caller, "app")]
            raise NotFound(
                f"The app '{name[:200]}' does not exist.{nearest(name, app_names)}",
                code="app_not_found",
                param="name",
            )
        return servable.card

    async def _first(self, package_contents: PackageContents, name: str, version: int | None) -> None:
        row, answers = self._apps.index.changeable(name, self._caller)
        if row.owner not in (None, self._caller.id):
            raise Conflict(
                f"'{row.name}' is private to a key, and the names in it are resolved for that key. Package "
                "it with that key, or redeploy it as a shared app.",
                code="private_app",
                param="name",
            )
        version_row = answers if version is None else await self._apps.version(row.id, version, self._caller)
        package_contents.name, package_contents.version, package_contents.digest = (
            row.name,
            version_row.version,
            version_row.digest,
        )
        await self._deployed(package_contents, row, version_row)

    async def _add(self, package_contents: PackageContents, key: str, by: str) -> None:
        if key.startswith("skill/"):
            await self._skill(package_contents, key.partition("/")[2], "default", by)
            return
        card = (await self._registry.resolve(key, self._caller)).card
        self._require_name(card, key, by)
        match card.kind:
            case "store":
                await self._store(package_contents, card, app=False)
            case "tool":
                self._tool(package_contents, card, by)
            case "model":
                self._model(package_contents, card.name, by)
            case "app" if card.labels.get("store") and not card.labels.get("app"):
                await self._store_app(package_contents, card)
            case "app":
                row, version = self._apps.index.readable(key, self._caller)
                await self._deployed(package_contents, row, version)

    def _require_name(self, card: Card, key: str, by: str) -> None:
        """Raise `Conflict` for a name that has another meaning on another daemon.

        Such names are ids, aliases of apps, and private resources of a key.
        """
        name = key.partition("/")[2] if key.startswith(("store/", "memory/", "tool/")) else key
        if card.owner not in (None, self._caller.id):
            raise Conflict(
                f"{by} uses '{name}', which is private to another key. Share it, or package the app with "
                "that key.",
                code="private_app",
                param="name",
            )
        if card.id and name == card.id:
            raise Conflict(
                f"{by} uses the id of the {card.kind} '{card.name}', which is meaningless elsewhere. Use its "
                "name and redeploy the app.",
                code="named_by_id",
                param="name",
            )
        if card.kind == "app" and name != card.name:
            raise Conflict(
                f"{by} uses '{name}', an alias of the app '{card.name}', and a configuration cannot contain "
                f"app aliases. Use '{card.name}' and redeploy the app.",
                code="alias_of_app",
                param="name",
            )

    async def _store_app(self, package_contents: PackageContents, card: Card) -> None:
        await self._store(package_contents, card, app=True)
        self._open_keys.append((str(card.labels["model"]), f"The store '{card.name}'"))

    async def _deployed(self, package_contents: PackageContents, row: AppRow, version: VersionRow) -> None:
        """Add an app, and check the names in it as before a deployment."""
        by = f"The app '{row.name}'"
        spec = {**version.spec, "name": row.name}
        functions, skills = await pools.DOCUMENTS.run_for(self._caller.id, self._inside, row.kind, spec)
        if functions:
            raise _needs_client(by, functions[0])
        package_contents.apps[row.name] = PackagedApp(row, version)
        for skill, wanted_version in skills:
            await self._skill(package_contents, skill, wanted_version, by)
        for key in await self._apps.names(row, version.spec, self._caller):
            self._open_keys.append((key, by))

    def _inside(self, kind: str, spec: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the client functions that an app calls, and the skills that its steps give to tools, with versions."""
        if kind == "agent":
            return [str(spec[FORWARD])] if FORWARD in spec else list(self._agents.functions(spec)), []
        flow = read.flow(spec)
        return list(self._functions_in(flow)), list(_skills_in(flow))

    def _functions_in(self, flow: FlowSpec) -> Iterator[str]:
        for step in every(flow.step):
            if isinstance(step.op, ClientStep):
                yield step.op.function
            elif isinstance(step.op, AgentStep) and step.op.agent is not None:
                yield from self._agents.functions(step.op.agent)

    async def _store(self, package_contents: PackageContents, card: Card, *, app: bool) -> None:
        packaged_store = package_contents.stores.get(card.name)
        if packaged_store is not None:
            package_contents.stores[card.name] = replace(packaged_store, app=packaged_store.app or app)
            return
        row = await self._stores.get(card.id or card.name, self._caller, is_whole=True)
        [info] = await self._stores.describe([row], self._caller)
        groups = await self._stores.groups.list(row, info.counts.completed)
        package_contents.stores[row.name] = PackagedStore(row, tuple(groups[1:]), info.counts.completed, app)
        model_names = {row.embedding_model, *(group.embedding_model for group in groups[1:])}
        self._open_keys += [(model, f"The store '{row.name}'") for model in sorted(filter(None, model_names))]

    async def _skill(self, package_contents: PackageContents, ref: str, version: str, by: str) -> None:
        """Add a skill that the caller can read, in its current version."""
        if version not in ("default", "latest"):
            raise Conflict(
                f"{by} uses version {version[:20]} of the skill '{ref[:80]}' by number, but version numbers "
                "differ on other daemons. Make this version the default, leave out the version, and redeploy "
                "the app: a package pins the version that it contains.",
                code="named_by_version",
                param="name",
            )
        skill = await self._skills.version(ref, self._caller, version)
        if ref == skill.row.id:
            raise Conflict(
                f"{by} uses the id of the skill '{skill.name}', which is meaningless elsewhere. Use its name "
                "and redeploy the app.",
                code="named_by_id",
                param="name",
            )
        stored_skill = package_contents.skills.setdefault(skill.name, skill)
        if stored_skill.version.id != skill.version.id:
            raise Conflict(
                f"{by} needs version {skill.version.version} of the skill '{skill.name}', and another part "
                f"of the package needs version {stored_skill.version.version}. A package can contain only "
                "one version of a skill: make the latest version the default.",
                code="two_versions",
                param="name",
            )

    def _tool(self, package_contents: PackageContents, card: Card, by: str) -> None:
        if card.labels.get("source") == "client":
            raise _needs_client(by, card.name)
        for server in self._mcp.every():
            if card.name in server.tools:
                self._caller.require(
                    "admin"
                )  # only admins can see the command or the address of an MCP server
                spec = self._mcp.spec(server.name)
                assert spec is not None
                package_contents.servers[server.name] = spec
                if spec.sampling is not None:
                    self._open_keys.append((spec.sampling.model, f"The MCP server '{server.name}'"))
                return
        for tool_source in self._tools.every():
            if card.name in tool_source.tools:
                self._caller.require("admin")
                tool = self._tools.spec(tool_source.name)
                assert tool is not None
                package_contents.tools[tool_source.name] = tool
                return
        package_contents.builtin.add(card.name)
        if card.name in ASKING_TOOLS:
            package_contents.notes.append(
                f"{by} calls the tool '{card.name}', which receives {ASKING_TOOLS[card.name]} as an "
                "argument. If the app does not name this resource otherwise, name it in 'include' "
                "(--include)."
            )

    def _model(self, package_contents: PackageContents, name: str, by: str) -> None:
        self._caller.require("models:read")
        spec = self._models.spec(name)
        if spec is None and self._models.adapters.has(name):
            base = self._models.adapters.get(name).base
            package_contents.adapters.setdefault(base, []).append(self._models.adapters.files(name))
            self._open_keys.append((base, f"The adapter '{name}'"))
            return
        if spec is None:
            raise Conflict(
                f"{by} uses the model '{name}', which is not deployed on this daemon. Use a deployed model "
                "(portico models list).",
                code="model_not_here",
                param="name",
            )
        package_contents.models[name] = spec
        alias_names = (alias for alias, target in self._registry.aliases.items() if target == name)
        package_contents.aliases[name] = tuple(sorted(alias_names))
        self._open_keys += [(fallback_name, f"The model '{name}'") for fallback_name in fallbacks(spec)]


def _skills_in(flow: FlowSpec) -> Iterator[tuple[str, str]]:
    """Yield the skills that steps of a flow give to tools as constants, each with its version."""
    for step in every(flow.step):
        if not isinstance(step.op, ToolStep) or step.op.name not in SKILL_ARGUMENTS:
            continue
        arguments, argument = _constant_value(step.op.arguments), SKILL_ARGUMENTS[step.op.name]
        skill_refs = arguments.get(argument) if isinstance(arguments, Mapping) else None
        for skill_ref in skill_refs if isinstance(skill_refs, list) else [skill_refs]:
            if isinstance(skill_ref, str):
                yield skill_ref, "default"
            elif isinstance(skill_ref, Mapping) and isinstance(skill_ref.get("skill"), str):
                yield skill_ref["skill"], str(skill_ref.get("version") or "default")


def _constant_value(expression: Expression) -> Any:
    """Return the constant value of an expression, or `None` if it is not constant."""
    match expression:
        case LiteralExpression(value=value):
            return value
        case ObjectExpression(fields=fields):
            return {name: _constant_value(value) for name, value in fields.items()}
        case ListExpression(items=items):
            return [_constant_value(item) for item in items]
    return None


def _needs_client(by: str, function: str) -> Conflict:
    return Conflict(
        f"{by} calls the function '{function}', which a client executes. The function belongs to a program, "
        "not to the daemon, so it cannot be packaged. Make it a tool of the daemon (portico tools add) or "
        "code of the flow.",
        code="needs_client",
        param="name",
    )
