"""Applies a configuration to a running daemon: computes the difference first, then the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

from portico.schemas.configuration import Change
from portico_server.config import Configuration
from portico_server.core.configuration_step import (
    ConfigurationPlan,
    ConfigurationStep,
    changed_entries,
    differing,
    entry_step,
)
from portico_server.core.errors import PorticoError
from portico_server.core.principal import Principal
from portico_server.feature_table import Features, configuration_keys
from portico_server.models.built_in import BUILT_IN
from portico_server.models.service import ModelService
from portico_server.models.spec import ModelSpec

PRUNABLE: Final = (
    "models",
    *(name for key in configuration_keys() if key.reconciler for name in (key.name, *key.also)),
)
"""Kinds whose entries can be removed when they are not listed: ``apps`` covers all apps, ``agents`` only agents."""

FILE_ONLY: Final = (
    *("keys", "roles"),
    *(key.name for key in configuration_keys() if key.setter),
    "settings",
)
"""Keys that only the daemon's own configuration file can set."""

FILE_KINDS: Final = ("models", *(key.name for key in configuration_keys() if key.is_of_file))
"""Kinds whose entries in the daemon's own configuration file exist only as long as the file names them."""


class Reconciler:
    """Compares entries of a configuration with the daemon's, and changes those that differ.

    Equal entries stay unchanged, so that applying a configuration twice changes nothing. Entries are created in the
    order of `PRUNABLE`, because they can refer to entries of earlier kinds, and removed in the reverse order.
    """

    def __init__(self, models: ModelService, features: Features) -> None:
        self._models = models
        self._features = features

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
        steps = await self._plan(configuration, caller, frozenset(prune), defined, is_dry_run=dry_run)
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
        *,
        is_dry_run: bool,
    ) -> list[ConfigurationStep]:
        is_own_file = defined is not None
        steps = [
            self._model(spec, configuration.places.get(spec.name, "models"), keep=not is_own_file)
            for spec in configuration.models
        ]
        aliases = {("models", alias) for spec in configuration.models for alias in spec.aliases}
        models = {name for spec in configuration.models for name in (spec.name, *spec.aliases)}
        for key in configuration_keys():
            if specs := configuration.of(key.name) if key.reconciler else ():
                plan = ConfigurationPlan(
                    caller,
                    models,
                    changed_entries(steps) | aliases,
                    is_own_file=is_own_file,
                    is_dry_run=is_dry_run,
                )
                steps += await (await self._features.reconciler(key)).steps(specs, plan)
        removals = await self._removals(configuration, prune)
        removals += await self._file_removals(configuration, defined or ())
        return [*steps, *reversed(removals)]

    def _model(self, spec: ModelSpec, at: str, *, keep: bool) -> ConfigurationStep:
        try:
            self._models.factory.check(spec)
        except PorticoError as error:
            error.message = f"{at}: {error.message}"
            error.param = f"{at}.{error.param}" if error.param else at
            raise
        model_spec = self._models.spec(spec.name)
        if model_spec is None:
            return entry_step("models", spec.name, None, lambda: self._models.add(spec, keep=keep))
        fields = differing(model_spec.to_json(), spec.to_json())

        async def again() -> None:
            await self._models.remove(spec.name, forget=False)  # its aliases stay
            await self._models.add(spec, keep=keep)

        return entry_step("models", spec.name, fields, again)

    async def _removals(self, configuration: Configuration, prune: frozenset[str]) -> list[ConfigurationStep]:
        """Return the removal steps for existing entries of the kinds in `prune` that the configuration does not
        name.
        """
        steps: list[ConfigurationStep] = []
        if "models" in prune:
            kept_names = {spec.name for spec in (*configuration.models, *BUILT_IN)}
            steps += [
                _removal("models", info.name, self._models.remove)
                for info in self._models.list()
                if info.name not in kept_names
            ]
        aliases = {alias for spec in configuration.models for alias in spec.aliases}
        for key in configuration_keys():
            pruned_kinds = prune.intersection((key.name, *key.also)) if key.reconciler else frozenset()
            if not pruned_kinds:
                continue
            reconciler = await self._features.reconciler(key)
            kept_names = {spec.name for spec in configuration.of(key.name)}
            if key.name == "aliases":  # which the configuration can also define in its models
                kept_names |= aliases
            names: set[str] = set()
            for kind in pruned_kinds:
                names.update(await reconciler.names(kind))
            steps += [_removal(key.name, name, reconciler.remove) for name in sorted(names - kept_names)]
        return steps

    async def _file_removals(
        self, configuration: Configuration, defined: Collection[tuple[str, str]]
    ) -> list[ConfigurationStep]:
        """Return the steps that remove what the daemon's own file no longer defines and the database does not store."""
        dropped_entries = {
            (kind, name)
            for kind, name in defined
            if all(spec.name != name for spec in configuration.of(kind))
        }
        steps = [
            _removal("models", info.name, self._models.remove)
            for info in self._models.list()
            if ("models", info.name) in dropped_entries and not self._models.is_stored(info.name)
        ]
        for key in configuration_keys():
            if any(kind == key.name for kind, _name in dropped_entries):
                reconciler = await self._features.reconciler(key)
                steps += [
                    _removal(key.name, name, reconciler.remove_of_file)
                    for name in reconciler.names_of_file()
                    if (key.name, name) in dropped_entries
                ]
        return steps


def _removal(kind: str, name: str, remove: Callable[[str], Awaitable[Any]]) -> ConfigurationStep:
    return ConfigurationStep(Change(kind, name, "remove"), partial(remove, name))
