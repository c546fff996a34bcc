"""Applies a configuration to a running daemon: computes the difference first, then the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from portico.schemas.configuration import Change
from portico_server.config import Configuration, StoreSpec
from portico_server.core.configuration_step import ConfigurationStep, Do
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.feature import KeyReconciler
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.prompts import builtin
from portico_server.feature_table import configuration_keys
from portico_server.features.apps.configured import ConfiguredApps
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.apps.entry import AppEntry
from portico_server.features.prompts.library import PromptLibrary
from portico_server.features.stores.reconcile import StoreReconciler
from portico_server.features.stores.stores import StoreService
from portico_server.models.built_in import BUILT_IN
from portico_server.models.service import ModelService
from portico_server.models.spec import ModelSpec

if TYPE_CHECKING:
    from portico_server.features.canaries.canaries import CanaryService
    from portico_server.features.canaries.spec import AliasSpec
    from portico_server.features.mcp_servers.host import McpHost
    from portico_server.features.skills.folder import SkillFolder
    from portico_server.features.skills.library import SkillLibrary
    from portico_server.features.tools.sources.sources import AddedTools

Action: TypeAlias = Literal["create", "change", "remove", "unchanged"]

KINDS: Final = ("models", "stores", "tools", "mcp", "prompts", "skills", "apps", *configuration_keys())
"""Kinds in the order of creation: entries can refer to entries of earlier kinds. `remove` uses the reverse order.

Aliases are last.
"""

PRUNABLE: Final = (*KINDS, "agents", "aliases")
"""Kinds whose entries can be removed when they are not listed: ``apps`` covers all apps, ``agents`` only agents."""


FILE_KINDS: Final = ("models", "tools", "mcp")
"""Kinds whose entries in the daemon's own configuration file exist only as long as the file names them."""


class Reconciler:
    """Compares entries of a configuration with the daemon's, and changes those that differ.

    Equal entries stay unchanged, so that applying a configuration twice changes nothing. Functions return the services
    of tools, which are built when they are first needed.
    """

    def __init__(
        self,
        models: ModelService,
        stores: StoreService,
        tools: Callable[[], AddedTools],
        mcp: Callable[[], McpHost],
        prompts: PromptLibrary,
        skills: Callable[[], SkillLibrary],
        apps: DeployedApps,
        configured_apps: ConfiguredApps,
        find_canaries: Callable[[], Awaitable[CanaryService]],
        of_features: Mapping[str, KeyReconciler],
    ) -> None:
        self._models = models
        self._stores = stores
        self._tools = tools
        self._mcp = mcp
        self._prompts = prompts
        self._skills = skills
        self._apps = apps
        self._configured_apps = configured_apps
        self._find_canaries = find_canaries
        self._of_features = of_features
        self.stores = StoreReconciler(stores)

    async def apply(
        self,
        configuration: Configuration,
        caller: Principal,
        *,
        prune: Iterable[str] = (),
        dry_run: bool = False,
        defined: Collection[tuple[str, str]] | None = None,
    ) -> list[Change]:
        """Check everything, then apply the changes; with ``dry_run``, change nothing.

        ``prune``: kinds whose entries are removed if the configuration does not name them. ``defined``: if the
        configuration is the daemon's own file, what the file defined so far (kinds and names). Entries of `FILE_KINDS`
        that it no longer defines are removed, and none of them is stored in the database.

        An app that refers to new entries of this configuration can be checked only when these entries exist. Raise
        `PorticoError` that names the problem and the changes that were made before it.
        """
        steps = await self._plan(configuration, caller, frozenset(prune), defined)
        if not dry_run:
            self.stores.applied |= {spec.name for spec in configuration.stores}
        changes: list[Change] = []
        for entry in steps if not dry_run else ():
            if entry.do is None:
                continue
            try:
                await entry.do()
            except PorticoError as error:
                before = ", ".join(f"{change.kind}/{change.name}" for change in changes) or "nothing"
                error.message = (
                    f"{entry.change.kind}/{entry.change.name}: {error.message} Changes made before that: "
                    f"{before}."
                )
                raise
            changes.append(entry.change)
        return [step.change for step in steps]

    async def _plan(
        self,
        configuration: Configuration,
        caller: Principal,
        prune: frozenset[str],
        defined: Collection[tuple[str, str]] | None,
    ) -> list[ConfigurationStep]:
        is_own_file = defined is not None
        coming = {name for spec in configuration.models for name in (spec.name, *spec.aliases)}
        planned_steps = [
            *(
                self._model(spec, configuration.places.get(spec.name, "models"), keep=not is_own_file)
                for spec in configuration.models
            ),
            *[await self._store(spec, f"stores[{n}]", coming) for n, spec in enumerate(configuration.stores)],
            *self._sources(configuration, is_own_file=is_own_file),
            *await self._library(configuration, caller),
            *await self._skill_folders(configuration.skills, caller),
        ]
        new = {
            (step.change.kind, step.change.name)
            for step in planned_steps
            if step.change.action != "unchanged"
        }
        new |= {("models", alias) for spec in configuration.models for alias in spec.aliases}
        planned_steps += await self._entries(configuration.apps, caller, new)
        new |= {
            (step.change.kind, step.change.name)
            for step in planned_steps
            if step.change.action != "unchanged"
        }
        for key, reconciler in self._of_features.items():
            planned_steps += await reconciler.steps(configuration.of_features.get(key, ()), caller, new)
        planned_steps += await self._aliases(configuration.aliases, caller, new)
        steps = await self._removals(configuration, prune)
        steps += self._file_removals(configuration, defined or ())
        return [*planned_steps, *reversed(steps)]

    def _model(self, spec: ModelSpec, at: str, *, keep: bool) -> ConfigurationStep:
        try:
            self._models.factory.check(spec)
        except PorticoError as error:
            error.message = f"{at}: {error.message}"
            error.param = f"{at}.{error.param}" if error.param else at
            raise
        model_spec = self._models.spec(spec.name)
        if model_spec is None:
            return ConfigurationStep(
                Change("models", spec.name, "create"), lambda: self._models.add(spec, keep=keep)
            )
        fields = _differing(model_spec.to_json(), spec.to_json())
        if not fields:
            return ConfigurationStep(Change("models", spec.name, "unchanged"))

        async def again() -> None:
            await self._models.remove(spec.name, forget=False)  # its aliases stay
            await self._models.add(spec, keep=keep)

        return ConfigurationStep(Change("models", spec.name, "change", fields), again)

    async def _store(self, spec: StoreSpec, at: str, coming: Collection[str]) -> ConfigurationStep:
        fields = await self.stores.differing(spec, at, coming)
        action: Action = "create" if fields is None else "change" if fields else "unchanged"
        do = None if action == "unchanged" else partial(self.stores.put, spec)
        return ConfigurationStep(Change("stores", spec.name, action, fields or ()), do)

    def _sources(self, configuration: Configuration, *, is_own_file: bool) -> list[ConfigurationStep]:
        """Return the steps for tools and MCP servers."""
        steps = []
        for kind, find_holder, specs in (
            ("tools", self._tools, configuration.tools),
            ("mcp", self._mcp, configuration.mcp),
        ):
            for spec in specs:
                holder = find_holder()
                current_spec = holder.spec(spec.name)
                fields = (
                    _differing(current_spec.to_json(), spec.to_json()) if current_spec is not None else ()
                )
                action: Action = "create" if current_spec is None else "change" if fields else "unchanged"
                do = None if action == "unchanged" else _put_step(holder, spec, is_configured=is_own_file)
                steps.append(ConfigurationStep(Change(kind, spec.name, action, fields), do))
        return steps

    async def _library(self, configuration: Configuration, caller: Principal) -> list[ConfigurationStep]:
        imported_prompts = await self._prompts.take(
            configuration.prompts, caller, origin="configuration", dry_run=True
        )
        actions: dict[str, Action] = {
            **dict.fromkeys(imported_prompts.added, "create"),
            **dict.fromkeys(imported_prompts.changed, "change"),
            **dict.fromkeys(imported_prompts.unchanged, "unchanged"),
        }
        steps = []
        for spec in configuration.prompts:
            action = actions[spec.name]

            async def save(spec: Any = spec) -> None:
                await self._prompts.save(spec, caller, origin="configuration")

            steps.append(
                ConfigurationStep(
                    Change("prompts", spec.name, action), None if action == "unchanged" else save
                )
            )
        return steps

    async def _skill_folders(
        self, folders: Sequence[SkillFolder], caller: Principal
    ) -> list[ConfigurationStep]:
        skill_rows = await self._skills().list_shared()
        steps = []
        for folder in folders:
            row = skill_rows.get(folder.name)
            is_unchanged = row is not None and await self._skills().has_same_files(folder, row)
            action: Action = "create" if row is None else "unchanged" if is_unchanged else "change"
            do = None if is_unchanged else partial(self._save_skill, folder, caller)
            steps.append(ConfigurationStep(Change("skills", folder.name, action), do))
        return steps

    async def _save_skill(self, folder: SkillFolder, caller: Principal) -> None:
        from portico_server.features.skills.library import FROM_FILE

        await self._skills().save(folder, caller, origin=FROM_FILE)

    async def _entries(
        self, entries: Sequence[AppEntry], caller: Principal, new: set[tuple[str, str]]
    ) -> list[ConfigurationStep]:
        """Return the steps for apps, dependencies first. ``new``: kinds and names that this configuration adds."""
        new = new | {
            ("apps", entry.name) for entry in entries if self._apps.index.find_shared(entry.name) is None
        }
        steps: list[ConfigurationStep] = []
        app_entries: dict[str, AppEntry] = {}
        for entry in entries:
            change = self._entry(entry)
            if change.action == "unchanged":
                steps.append(ConfigurationStep(change))
                continue
            try:
                await self._apps.check(entry.name, entry.kind, entry.spec, caller)
            except PorticoError as error:
                if not _is_coming(error, new - {("apps", entry.name)}):
                    raise
                app_entries[entry.name] = entry
            steps.append(ConfigurationStep(change, self._deploying([entry], caller)))
        # Apps whose references exist are deployed first. The other apps may depend on each other, so the last
        # step deploys all of them.
        late = [ConfigurationStep(step.change) for step in steps if step.change.name in app_entries]
        steps = [step for step in steps if step.change.name not in app_entries]
        if late:
            late[-1] = replace(late[-1], do=self._deploying(list(app_entries.values()), caller))
        return steps + late

    def _entry(self, entry: AppEntry) -> Change:
        row = self._apps.index.find_shared(entry.name)
        if row is None:
            return Change("apps", entry.name, "create")
        fields = []
        if not self._apps.index.is_current(entry.name, entry.kind, entry.spec):
            fields.append("spec")
        if entry.limits is not None and entry.limits != UsageLimits.parse(row.limits):
            fields.append("limits")
        return Change("apps", entry.name, "change" if fields else "unchanged", tuple(fields))

    def _deploying(self, entries: Sequence[AppEntry], caller: Principal) -> Do:
        return lambda: self._configured_apps.deploy(entries, caller)

    async def _aliases(
        self, specs: Sequence[AliasSpec], caller: Principal, new: set[tuple[str, str]]
    ) -> list[ConfigurationStep]:
        """Return the steps for aliases and their canaries. ``new``: kinds and names that this configuration adds."""
        coming = {name for kind, name in new if kind in ("models", "stores", "apps")}
        steps = []
        for number, spec in enumerate(specs):
            at = f"aliases[{number}]"
            try:
                canaries = await self._find_canaries()
                fields = await canaries.differing(spec)
                sides = (spec.target, spec.canary.target) if spec.canary is not None else (spec.target,)
                if fields != () and coming.isdisjoint(side.partition("@")[0] for side in sides):
                    await self._models.aliases.check_target(spec.name, spec.target)
                    if fields is None or "canary" in fields:
                        with _in_canary():
                            await canaries.check(spec, caller)
            except PorticoError as error:
                error.message = f"{at}: {error.message}"
                error.param = f"{at}.{error.param or 'name'}"
                raise
            action: Action = "create" if fields is None else "change" if fields else "unchanged"
            do = None if action == "unchanged" else partial(self.alias, spec, caller)
            steps.append(ConfigurationStep(Change("aliases", spec.name, action, fields or ()), do))
        return steps

    async def alias(self, spec: AliasSpec, caller: Principal) -> None:
        """Apply the configuration of an alias and its canary. Raise `PorticoError`."""
        canaries = await self._find_canaries()
        fields = await canaries.differing(spec)
        if fields is None or "target" in fields:
            await self._models.aliases.set(spec.name, spec.target)
            fields = await canaries.differing(spec)
        if fields and spec.canary is not None:
            with _in_canary():
                await canaries.set(spec.name, spec.canary, caller)

    async def _removals(self, configuration: Configuration, prune: frozenset[str]) -> list[ConfigurationStep]:
        """Return the removal steps for existing entries of the kinds in `prune` that the configuration does not
        name.
        """
        built_in = {spec.name for spec in BUILT_IN}
        models = [info.name for info in self._models.list() if info.name not in built_in]
        rows = [row.name for row in await self._stores.list(SYSTEM) if row.owner is None]
        apps = [
            row.name
            for row, _version in self._apps.index.list(SYSTEM)
            if "apps" in prune or row.kind == "agent"
        ]
        # The configuration must not remove prompts that came with Portico.
        prompts = [
            prompt_row.name
            for prompt_row in await self._prompts.list(SYSTEM)
            if prompt_row.origin != builtin.ORIGIN
        ]
        skills = list(await self._skills().list_shared())
        alias_names = {alias for spec in configuration.models for alias in spec.aliases}
        aliases = [name for name in self._models.aliases.names() if name not in alias_names]
        steps: list[ConfigurationStep] = []
        for kind, current_names, specs, remove in (
            ("models", models, configuration.models, lambda name: self._models.remove(name)),
            ("stores", rows, configuration.stores, lambda name: self._stores.delete(name, SYSTEM)),
            ("tools", [x.name for x in self._tools().every()], configuration.tools, self._tools().remove),
            ("mcp", [x.name for x in self._mcp().every()], configuration.mcp, self._mcp().remove),
            ("prompts", prompts, configuration.prompts, lambda name: self._prompts.remove(name, SYSTEM)),
            ("skills", skills, configuration.skills, lambda name: self._skills().remove(name, SYSTEM)),
            ("apps", apps, configuration.apps, lambda name: self._apps.remove(name, SYSTEM)),
            *[
                (key, await reconciler.names(), configuration.of_features.get(key, ()), reconciler.remove)
                for key, reconciler in self._of_features.items()
            ],
            ("aliases", aliases, configuration.aliases, self._models.aliases.remove),
        ):
            if not prune.intersection((kind, "agents") if kind == "apps" else (kind,)):
                continue
            kept_names = {spec.name for spec in specs}
            for name in current_names:
                if name not in kept_names:
                    steps.append(ConfigurationStep(Change(kind, name, "remove"), partial(remove, name)))
        return steps

    def _file_removals(
        self, configuration: Configuration, defined: Collection[tuple[str, str]]
    ) -> list[ConfigurationStep]:
        """Return the steps that remove what the daemon's own file no longer defines and the database does not store."""
        models = [info.name for info in self._models.list() if not self._models.is_stored(info.name)]
        steps: list[ConfigurationStep] = []
        for kind, current_names, remove in (
            ("models", models, self._models.remove),
            (
                "tools",
                [source.name for source in self._tools().every() if source.configured],
                partial(self._tools().remove, even_configured=True),
            ),
            (
                "mcp",
                [server.name for server in self._mcp().every() if server.configured],
                partial(self._mcp().remove, even_configured=True),
            ),
        ):
            dropped_names = {name for defined_kind, name in defined if defined_kind == kind}
            dropped_names -= {spec.name for spec in getattr(configuration, kind)}
            steps += [
                ConfigurationStep(Change(kind, name, "remove"), partial(remove, name))
                for name in current_names
                if name in dropped_names
            ]
        return steps


@contextmanager
def _in_canary() -> Iterator[None]:
    """Mark errors as belonging to the canary of an alias."""
    try:
        yield
    except PorticoError as error:
        error.param = f"canary.{error.param}" if error.param else "canary"
        raise


def _is_coming(error: PorticoError, new: set[tuple[str, str]]) -> bool:
    """Return whether the entry that an app refers to is missing, but may be added by the same configuration."""
    if error.status != NotFound.status:
        return False
    if (
        error.code == "tool_not_found"
    ):  # the tool names of an API or an MCP server are unknown until it is added
        return any(kind in ("tools", "mcp") for kind, _name in new)
    return any(f"'{name}'" in error.message for _kind, name in new)


def _put_step(holder: AddedTools | McpHost, spec: Any, *, is_configured: bool) -> Do:
    return lambda: holder.put(spec, is_configured=is_configured)


def _differing(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields that differ. Secrets are compared, but not shown."""
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))
