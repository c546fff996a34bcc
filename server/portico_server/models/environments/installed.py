"""All engine environments of this home: lists, builds, removes and checks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico.schemas.engines import Engine, Finding
from portico.wire import Failed, Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, NotFound, Unavailable, nearest
from portico_server.core.principal import Principal
from portico_server.environments.build import findings, remove_environment
from portico_server.models.environments.build import build_environment
from portico_server.models.environments.built_environment import (
    BuiltEnvironment,
    inspect_environment,
)
from portico_server.models.environments.download_progress import DownloadProgress
from portico_server.models.environments.recipe import RECIPES, EnvironmentRecipe
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

BUILD_RUN_KIND = "environment"
"""Kind of the runs that build an environment."""

BUILD_QUEUE_TIMEOUT_S = 60.0
"""Seconds that a model waits for the build of its engine to start while other builds run."""


class Environments:
    """The engine environments below ``folder``."""

    def __init__(
        self,
        folder: Path,
        scheduler: Scheduler,
        runner: Runner,
        *,
        index: str = "",
        offline: bool = False,
        on_demand: bool = True,
        recipes: Mapping[str, EnvironmentRecipe] = RECIPES,
    ) -> None:
        self._folder = folder
        self._scheduler = scheduler
        self._runner = runner
        self._on_demand = on_demand
        self._index = index
        self._offline = offline
        self._recipes = recipes
        self._working: set[str] = set()
        scheduler.handle(BUILD_RUN_KIND, self._install, concurrency=1)

    def get(self, name: str) -> Engine:
        """Return one engine. Raise `NotFound`."""
        recipe = self._recipe(name)
        environment = inspect_environment(self._folder / name, recipe)
        if name in self._working:
            return Engine(name, "building", recipe.version, gigabytes=recipe.gigabytes)
        if environment.state == "absent":
            return Engine(
                name, "absent", recipe.version, gigabytes=recipe.gigabytes, problem=recipe.unsuited()
            )
        return self._present(recipe, environment)

    def _present(self, recipe: EnvironmentRecipe, environment: BuiltEnvironment) -> Engine:
        receipt = environment.receipt
        path = str(self._folder / recipe.name)
        if receipt is None:
            return Engine(
                recipe.name,
                environment.state,
                gigabytes=recipe.gigabytes,
                path=path,
                problem=environment.problem,
            )
        problem = environment.problem
        if environment.state == "outdated":
            problem = (
                f"version {recipe.version} is now pinned; 'portico engines install {recipe.name} --rebuild' "
                "installs it"
            )
        return Engine(
            recipe.name,
            environment.state,
            receipt.version,
            receipt.python,
            receipt.packages,
            recipe.gigabytes,
            path,
            receipt.built_at,
            problem,
        )

    async def install(self, name: str, caller: Principal, *, rebuild: bool = False) -> str:
        """Build an environment in a durable run and return the run's id. Keep a complete environment unless
        ``rebuild`` is set.

        Raise `NotFound`, and `Conflict` if the engine cannot work on this machine.
        """
        recipe = self._recipe(name)
        reason = recipe.unsuited()
        if reason:
            raise Conflict(
                f"The engine '{name}' cannot be installed on this machine: {reason}. Run it on another "
                "machine and add its models as http://HOST/v1#MODEL.",
                code="engine_unsuited",
                param="name",
            )
        return await self._scheduler.ensure(
            BUILD_RUN_KIND, name, {"name": name, "rebuild": rebuild}, caller=caller
        )

    async def furnish(self, name: str, report: Callable[[Progressed], None]) -> None:
        """Build the environment of an engine that a model needs now, if it is missing and can be built.

        ``report`` receives the progress. The method ignores an environment that is broken or cannot work on this
        machine; the caller reports the problem. Raise the error that ended the build.
        """
        recipe = self._recipes.get(name)
        if recipe is None or not self._on_demand or self._offline or recipe.unsuited():
            return
        environment = await pools.MODELS.run(inspect_environment, self._folder / name, recipe)
        if environment.state != "absent":
            return
        report(Progressed("environment", f"building the engine {name}, about {recipe.gigabytes:g} GB"))
        run_id = await self._scheduler.ensure(BUILD_RUN_KIND, name, {"name": name, "rebuild": False})
        run = await self._runner.arrival(run_id, BUILD_QUEUE_TIMEOUT_S)
        if run is None:
            raise Unavailable(
                f"The build of the engine '{name}' is waiting for other builds; try again when the build has "
                f"finished ('portico runs tail {run_id}').",
                code="engine_installing",
                retry_after=BUILD_QUEUE_TIMEOUT_S,
            )
        async for _number, event in run.log.follow():
            match event:
                case Progressed(stage=stage, message=words) as progress:
                    words = f"{stage}: {words}" if words else stage
                    report(replace(progress, stage="environment", message=words))
                case Failed(error=error):
                    raise Unavailable(
                        f"The engine '{name}' could not be built: {error.message}", code=error.code
                    )

    async def _install(self, payload: Mapping[str, Any], context: Context) -> Any:
        recipe = self._recipe(payload["name"])
        place = self._folder / recipe.name
        environment = await pools.MODELS.run(inspect_environment, place, recipe)
        if environment.state == "ready" and not payload.get("rebuild"):
            return {"name": recipe.name, "path": str(place), "built": False}
        if self._offline:
            raise Unavailable(
                f"The engine '{recipe.name}' is not installed, and the setting 'offline' forbids downloading "
                f"it. Copy {place} from a machine of the same kind.",
                code="offline",
            )

        download_progress = DownloadProgress()

        async def report(stage: str, words: str) -> None:
            sizes = download_progress.hear(words)
            await context.emit(
                Progressed(stage, words, *sizes, "bytes") if sizes else Progressed(stage, words)
            )

        self._working.add(recipe.name)
        try:
            receipt = await build_environment(recipe, place, report, index=self._index)
        finally:
            self._working.discard(recipe.name)
        return {"name": recipe.name, "path": str(place), "built": True, "version": receipt.version}

    async def remove(self, name: str) -> None:
        """Delete an environment. Raise `NotFound`, and `Conflict` while it is being built."""
        self._recipe(name)
        place = self._folder / name
        if name in self._working:
            raise Conflict(f"The engine '{name}' is being built: cancel the build's run first.", param="name")
        if not place.exists():
            raise NotFound(
                f"The engine '{name}' is not installed.", code="engine_not_installed", param="name"
            )
        await pools.MODELS.run(remove_environment, place, name)

    async def doctor(self, name: str) -> list[Finding]:
        """Check an environment closely: its receipt, its interpreter, its packages. Raise `NotFound`."""
        recipe = self._recipe(name)
        place = self._folder / name
        reason = recipe.unsuited()
        found_findings = [Finding("machine", not reason, reason or "its packages support this machine")]
        environment = await pools.MODELS.run(inspect_environment, place, recipe)
        if environment.state == "absent":
            return [
                *found_findings,
                Finding(
                    "environment",
                    False,
                    "not installed" + ("" if reason else f": 'portico engines install {name}'"),
                ),
            ]
        is_whole = environment.state in ("ready", "outdated")
        found_findings.append(Finding("environment", is_whole, environment.problem or str(place)))
        found_findings.append(
            Finding(
                "version",
                environment.state != "outdated",
                self._present(recipe, environment).problem or "as pinned",
            )
        )
        if is_whole:
            wrong = await findings(place)
            found_findings.append(
                Finding("packages", not wrong, wrong or "they are compatible with each other")
            )
        return found_findings

    def _recipe(self, name: str) -> EnvironmentRecipe:
        recipe = self._recipes.get(name)
        if recipe is None:
            raise NotFound(
                f"No engine named '{name}' has an environment.{nearest(name, self._recipes)} Valid names: "
                f"{', '.join(self._recipes)}.",
                code="engine_not_found",
                param="name",
            )
        return recipe

    # Must be the last method of the class: later annotations would refer to this method instead of the
    # built-in `list`.
    def list(self) -> list[Engine]:
        """Return all engines, by name."""
        return [self.get(name) for name in sorted(self._recipes)]
