"""Functions with their own packages, and modules whose functions are all tools."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.server.environments.wheels import wheel
from tests.server.features.tools.sources.test_sources import Case, opened

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.environments.build import is_whole
from portico_server.features.tools.sources.function_packages import FunctionPackages
from portico_server.features.tools.sources.spec import parse

MODULE = """
import os

def version() -> str:
    "Which one is here."
    import tinyengine
    return tinyengine.VERSION

def twice(n: int) -> int:
    "Two times a number."
    return 2 * n

def _hidden() -> None: ...

from os.path import join
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "engine_tools.py").write_text(MODULE)
    return tmp_path


def environments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("environments/*"))


async def add(
    case: Case, name: str, folder: Path, *requirements: str, function: str = "version"
) -> list[str]:
    return await case.add(
        name, function=f"engine_tools:{function}", folder=str(folder), requirements=list(requirements)
    )


async def test_a_function_has_the_packages_that_it_asks_for(folder: Path) -> None:
    first, second = (str(wheel(folder, version)) for version in ("1.0", "2.0"))
    async with opened(folder) as case:
        await add(case, "old", folder, first)
        await add(case, "same", folder, first)
        await add(case, "new", folder, second)
        assert [(await case.use(name)).text for name in ("old", "same", "new")] == ["1.0", "1.0", "2.0"]
        assert len(environments(folder)) == 2
        await case.added.remove("old")
        assert len(environments(folder)) == 2  # 'same' needs it
        await case.added.remove("same")
        assert len(environments(folder)) == 1


async def test_a_damaged_package_environment_is_rebuilt(folder: Path) -> None:
    needs = (str(wheel(folder)),)
    packages = FunctionPackages(folder / "environments")
    first, second = await asyncio.gather(packages.python(needs), packages.python(needs))
    assert first == second and len(environments(folder)) == 1
    first.unlink()
    assert not is_whole(first.parent.parent)
    assert (await packages.python(needs)).exists()


async def test_a_function_whose_packages_cannot_be_installed_is_refused_with_the_reason(folder: Path) -> None:
    async with opened(folder) as case:
        with pytest.raises(Unavailable, match=r"nowhere-1\.0"):
            await add(case, "old", folder, str(folder / "nowhere-1.0-py3-none-any.whl"))
        assert case.added.every() == [] and environments(folder) == []


async def test_packages_are_not_downloaded_in_offline_mode(folder: Path) -> None:
    with pytest.raises(Unavailable, match="'offline' forbids"):
        await FunctionPackages(folder, offline=True).python(("rich",))


async def test_all_functions_of_a_module_are_tools_of_one_group(folder: Path) -> None:
    async with opened(folder) as case:
        assert await add(case, "mine", folder, function="*") == ["mine_version", "mine_twice"]
        card = await case.card("mine_twice")
        assert (card.description, card.labels["group"]) == ("Two times a number.", "mine")
        assert (await case.use("mine_twice", n=21)).structured == {"result": 42}
        # the module is not on this machine, and the result says so
        assert "tinyengine" in (await case.use("mine_version")).text
        await case.added.remove("mine")
        assert not case.daemon.registry.get("tool/mine_twice")


async def test_modules_next_to_the_worker_cannot_be_imported(folder: Path) -> None:
    (folder / "uses.py").write_text(
        "def where() -> str:\n    'It.'\n    import spec\n    return spec.__file__\n"
    )
    async with opened(folder) as case:
        await case.add("where", function="uses:where", folder=str(folder))
        assert "No module named 'spec'" in (await case.use("where")).text


@pytest.mark.parametrize("requirements", [["--index-url=http://evil"], ["-e ."], [""], ["a\nb"], "rich", [7]])
def test_invalid_requirements_are_refused(requirements: object) -> None:
    with pytest.raises(InvalidRequest, match="requirements"):
        parse({"name": "x", "function": "a:b", "requirements": requirements})


def test_requirements_of_a_command_tool_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="requirements"):
        parse({"name": "x", "command": ["true"], "requirements": ["rich"]})
