"""The packages that functions need: an environment for each list of requirements, built by uv on first use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico_server import subprocesses
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.environments.build import PackageSet, build, is_whole, python_in, remove_environment

logger = logging.getLogger(__name__)


class FunctionPackages:
    """Environments below ``folder``, named after what is in them. Functions with the same needs share one.

    ``index`` replaces uv's own package index; ``offline`` forbids to fetch.
    """

    def __init__(self, folder: Path, *, index: str = "", offline: bool = False) -> None:
        self._folder = folder
        self._index = index
        self._offline = offline
        self._turns: dict[Path, asyncio.Lock] = {}

    async def python(self, requirements: tuple[str, ...], base: str = "") -> Path:
        """The interpreter that has ``requirements``, after building it if need be. ``base``: whose Python it is, by
        default the daemon's. Raises `Unavailable` with uv's own words.
        """
        place = self._place(requirements, base)
        async with self._turns.setdefault(place, asyncio.Lock()):
            if not await pools.FILES.run(is_whole, place):
                await self._build(place, requirements, base)
        return python_in(place)

    async def drop(self, requirements: tuple[str, ...], base: str = "") -> None:
        """Delete an environment that nothing needs any more."""
        place = self._place(requirements, base)
        async with self._turns.setdefault(place, asyncio.Lock()):
            await pools.FILES.run(remove_environment, place, place.name)

    def _place(self, requirements: tuple[str, ...], base: str) -> Path:
        made_of = json.dumps([sorted(requirements), base or f"{sys.base_prefix} {sys.version}"])
        return self._folder / f"function-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"

    async def _build(self, place: Path, requirements: tuple[str, ...], base: str) -> None:
        requirement_list = ", ".join(requirements)
        if self._offline:
            raise Unavailable(
                f"The packages {requirement_list} are not in {place}, and the setting 'offline' forbids "
                "to fetch them. Copy that "
                "folder from a machine of the same kind.",
                code="offline",
            )

        async def report(stage: str, words: str) -> None:
            logger.info("packages for functions, %s: %s", stage, words)

        async def furnish(_draft: Path) -> Mapping[str, Any]:
            return {"requirements": sorted(requirements)}

        packages = PackageSet(
            name=place.name,
            what=f"The environment with {requirement_list}",
            again="It is tried again.",
            python=base or subprocesses.base(),
            install=("--", *requirements),
        )
        await build(packages, place, report, furnish=furnish, index=self._index, replace=False)
