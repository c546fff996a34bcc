"""Packages that functions need: one environment per list of requirements, built by uv on first use."""

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
    """Environments below ``folder``, named after their contents. Functions with the same requirements share an
    environment.

    ``index`` replaces uv's package index; ``offline`` forbids downloads.
    """

    def __init__(self, folder: Path, *, index: str = "", offline: bool = False) -> None:
        self._folder = folder
        self._index = index
        self._offline = offline
        self._turns: dict[Path, asyncio.Lock] = {}

    async def python(self, requirements: tuple[str, ...], base: str = "") -> Path:
        """Return an interpreter that has ``requirements``, and build its environment if necessary.

        ``base``: the interpreter to build on, by default the daemon's. Raises `Unavailable` with the message of uv.
        """
        place = self._place(requirements, base)
        async with self._turns.setdefault(place, asyncio.Lock()):
            if not await pools.FILES.run(is_whole, place):
                await self._build(place, requirements, base)
        return python_in(place)

    async def drop(self, requirements: tuple[str, ...], base: str = "") -> None:
        """Delete an environment that is no longer needed."""
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
                "downloading them. Copy that folder from a machine of the same kind.",
                code="offline",
            )

        async def report(stage: str, words: str) -> None:
            logger.info("packages for functions, %s: %s", stage, words)

        async def furnish(_draft: Path) -> Mapping[str, Any]:
            return {"requirements": sorted(requirements)}

        packages = PackageSet(
            name=place.name,
            what=f"The environment with {requirement_list}",
            again="The next call tries again.",
            python=base or subprocesses.base(),
            install=("--", *requirements),
        )
        await build(packages, place, report, furnish=furnish, index=self._index, replace=False)
