"""Building an environment for any purpose: complete in its place, or absent with a reason."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.server.environments.wheels import wheel

from portico_server.core.errors import Unavailable
from portico_server.environments.build import (
    DRAFT_PREFIX,
    PackageSet,
    build,
    findings,
    is_whole,
    python_in,
    receipt_in,
    remove_environment,
)
from portico_server.environments.package_sources import own_sources, uv_arguments
from portico_server.environments.uv import StepFailedError, run_step, silent
from portico_server.models.environments.download_progress import DownloadProgress


def packages(*install: str, name: str = "tiny") -> PackageSet:
    return PackageSet(
        name, f"The environment '{name}'", "Try again.", sys.executable, ("--offline", *install)
    )


def drafts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(f"{DRAFT_PREFIX}*")]


async def signed(_draft: Path) -> Mapping[str, Any]:
    return {"by": "us"}


async def test_an_environment_is_built_completely_and_moved_with_its_receipt(tmp_path: Path) -> None:
    reports: list[tuple[str, str]] = []

    async def report(stage: str, words: str) -> None:
        reports.append((stage, words))

    place = tmp_path / "deep" / "tiny"
    await build(packages(str(wheel(tmp_path))), place, report, furnish=signed)
    assert is_whole(place) and receipt_in(place) == {"by": "us"}
    assert [path.name for path in place.parent.iterdir()] == ["tiny"]
    output = await asyncio.to_thread(
        subprocess.check_output,
        [python_in(place), "-I", "-c", "import tinyengine; print(tinyengine.VERSION)"],
    )
    assert output.strip() == b"1.0" and await findings(place) == ""
    assert list(dict.fromkeys(stage for stage, _words in reports)) == ["python", "packages", "check"]
    assert not [words for _stage, words in reports if words.startswith("+ ")]


async def test_a_relative_path_is_resolved_against_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await build(packages(str(wheel(tmp_path))), Path("here/tiny"), silent, furnish=signed)
    assert is_whole(tmp_path / "here" / "tiny")


@pytest.mark.parametrize("replace", [True, False])
async def test_an_existing_environment_is_replaced_only_when_requested(tmp_path: Path, replace: bool) -> None:
    place = tmp_path / "tiny"
    await build(packages(str(wheel(tmp_path))), place, silent, furnish=signed)

    async def other(_draft: Path) -> Mapping[str, Any]:
        return {"by": "another"}

    await build(packages(str(wheel(tmp_path, "2.0"))), place, silent, furnish=other, replace=replace)
    assert receipt_in(place) == {"by": "another" if replace else "us"}
    assert not drafts(tmp_path)


@pytest.mark.parametrize("replace", [True, False])
async def test_a_broken_environment_is_always_replaced(tmp_path: Path, replace: bool) -> None:
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "half").write_text("a")
    assert not is_whole(place)
    await build(packages(str(wheel(tmp_path))), place, silent, furnish=signed, replace=replace)
    assert is_whole(place) and not (place / "half").exists()


async def test_a_failed_install_leaves_no_files_and_gives_its_reason(tmp_path: Path) -> None:
    place = tmp_path / "made" / "tiny"
    with pytest.raises(Unavailable, match=r"'tiny' could not be built: .*tiny-nowhere.*Try again"):
        await build(packages("tiny-nowhere==1.0"), place, silent, furnish=signed)
    assert list(place.parent.iterdir()) == []


async def test_packages_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "made" / "tiny"
    needs = wheel(tmp_path, requires="tinyother>=2")
    with pytest.raises(Unavailable, match="tinyother"):
        await build(packages("--no-deps", str(needs)), place, silent, furnish=signed)
    assert list(place.parent.iterdir()) == []


async def test_a_failing_last_step_keeps_the_previous_environment(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    await build(packages(str(wheel(tmp_path))), place, silent, furnish=signed)

    async def failing(draft: Path) -> Mapping[str, Any]:
        await run_step(
            [str(python_in(draft)), "-c", "raise SystemExit('no fonts')"], "fonts", silent, folder=draft
        )
        return {}

    with pytest.raises(Unavailable, match="no fonts"):
        await build(packages(str(wheel(tmp_path))), place, silent, furnish=failing)
    assert receipt_in(place) == {"by": "us"} and not drafts(tmp_path)


async def test_a_cancelled_build_ends_its_program_and_leaves_nothing(tmp_path: Path) -> None:
    working = asyncio.Event()
    pid = 0

    async def lasting(draft: Path) -> Mapping[str, Any]:
        async def heard(_stage: str, words: str) -> None:
            nonlocal pid
            pid = int(words)
            working.set()

        code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        await run_step([str(python_in(draft)), "-c", code], "fonts", heard, folder=draft)
        return {}

    place = tmp_path / "made" / "tiny"
    task = asyncio.create_task(build(packages(str(wheel(tmp_path))), place, silent, furnish=lasting))
    async with asyncio.timeout(60):
        await working.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and list(place.parent.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


DAEMON = """
import asyncio, sys
from pathlib import Path
from portico_server.environments.uv import run_step

async def heard(stage, words):
    print(words, flush=True)

code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
asyncio.run(run_step([sys.executable, "-c", code], "x", heard, folder=Path.cwd()))
"""


def without_sources(monkeypatch: pytest.MonkeyPatch, home: Path, **variables: str) -> None:
    """Set up a machine on which neither uv nor pip knows the sources of packages, except through ``variables``."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


async def test_packages_come_from_where_pip_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_path = wheel(tmp_path)
    without_sources(monkeypatch, tmp_path, PIP_FIND_LINKS=str(wheel_path.parent), PIP_NO_INDEX="1")
    package_set = PackageSet("tiny", "The environment 'tiny'", "Try again.", sys.executable, ("tinyengine",))
    await build(package_set, tmp_path / "tiny", silent, furnish=signed)
    assert is_whole(tmp_path / "tiny")


async def test_a_failed_install_is_tried_in_other_ways_and_reports_all_reasons(tmp_path: Path) -> None:
    messages: list[str] = []

    async def report(_stage: str, words: str) -> None:
        messages.append(words)

    good = str(wheel(tmp_path))
    ways = (("The second way", ("--offline", "no-such-package")), ("The third way", ("--offline", good)))
    package_set = PackageSet(
        "tiny", "It", "Try again.", sys.executable, ("--offline", "nothing-here"), instead=ways
    )
    await build(package_set, tmp_path / "tiny", report, furnish=signed)
    assert is_whole(tmp_path / "tiny")
    assert [words for words in messages if words.startswith("The ")] == ["The second way", "The third way"]
    with pytest.raises(Unavailable) as error_info:
        await build(replace(package_set, instead=ways[:1]), tmp_path / "other", silent, furnish=signed)
    assert "nothing-here" in error_info.value.message
    assert "The second way: " in error_info.value.message and "no-such-package" in error_info.value.message


@pytest.mark.parametrize(
    ("lines", "arguments"),
    [
        ([], ()),
        ([":env:.disable-pip-version-check='1'"], ()),
        (["global.index-url='https://mirror/simple'"], ("--default-index", "https://mirror/simple")),
        (
            ["global.extra-index-url='https://a/simple\\nhttps://b/simple'", "global.find-links='/wheels'"],
            ("--index", "https://a/simple", "--index", "https://b/simple", "--find-links", "/wheels"),
        ),
        (
            [
                ":env:.index-url='https://mine'",
                "global.index-url='https://all'",
                "install.index-url='https://some'",
            ],
            ("--default-index", "https://mine"),
        ),
        (
            ["global.index-url='https://mirror'", "global.trusted-host='mirror'"],
            ("--default-index", "https://mirror", "--allow-insecure-host", "mirror"),
        ),
        (
            ["global.no-index='true'", "global.find-links='/wheels'"],
            ("--find-links", "/wheels", "--no-index"),
        ),
        (["global.index-url=damaged"], ()),
    ],
)
def test_pip_settings_are_translated_to_uv_arguments(lines: list[str], arguments: tuple[str, ...]) -> None:
    assert uv_arguments(lines) == arguments


async def test_an_existing_uv_configuration_overrides_pip_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sources(monkeypatch, tmp_path)
    assert await own_sources(tmp_path) is None
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror/simple")
    assert await own_sources(tmp_path) == ("--default-index", "https://mirror/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other/simple")
    assert await own_sources(tmp_path) == ()
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text('index-url = "https://third/simple"\n', encoding="utf-8")
    assert await own_sources(tmp_path) == ()


@pytest.mark.process
async def test_a_step_ends_with_a_daemon_that_is_killed() -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    command = psutil.Process(int(await daemon.stdout.readline()))
    daemon.kill()
    await daemon.wait()
    _gone, alive_processes = await asyncio.to_thread(psutil.wait_procs, [command], timeout=20)
    assert alive_processes == [] or command.status() == psutil.STATUS_ZOMBIE


async def test_drafts_of_ended_processes_are_deleted_and_others_are_kept(tmp_path: Path) -> None:
    dead, older, living, another = (
        tmp_path / f"{DRAFT_PREFIX}{suffix}"
        for suffix in (f"tiny-{2**22 + 1}-a", f"tiny-{os.getpid()}-a", "tiny-1-a", f"tiny-er-{2**22 + 1}-a")
    )
    for draft in (dead, older, living, another):
        draft.mkdir()
    await build(packages(str(wheel(tmp_path))), tmp_path / "tiny", silent, furnish=signed)
    assert not dead.exists() and not older.exists()
    assert living.exists() and another.exists()


async def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable, match="cannot be created in"):
        await build(packages(), tmp_path / "file" / "tiny", silent, furnish=signed)


def test_an_environment_is_removed_and_removing_it_again_succeeds(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    (place / "bin").mkdir(parents=True)
    remove_environment(place, "tiny")
    remove_environment(place, "tiny")
    assert list(tmp_path.iterdir()) == []


def test_download_progress_is_read_from_uvs_output() -> None:
    """Fetched packages are counted from uv's output, as uv 0.13 writes it without a terminal."""
    progress = DownloadProgress()
    assert progress.hear("Resolved 4 packages in 488ms") is None
    assert progress.hear("Downloading scipy (33.5MiB)") == (0, 35_127_296)
    assert progress.hear("Downloading torch (1.5GiB)") == (0, 35_127_296 + 3 * 2**29)
    assert progress.hear("Downloaded scipy") == (35_127_296, 35_127_296 + 3 * 2**29)
    assert progress.hear("Downloaded six") is None


async def test_a_failed_step_without_output_reports_its_exit_status(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="exit status 3"):
        await run_step([sys.executable, "-c", "raise SystemExit(3)"], "x", silent, folder=tmp_path)
