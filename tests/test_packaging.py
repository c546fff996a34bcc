"""The installed package: the locks agree with pyproject.toml, and the wheel has the promised contents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from portico import _build
from portico._installed import how_to_add
from tests.daemon import ROOT

REQUIREMENTS = ROOT / "requirements"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = ("3.11", "3.12", "3.13")
LOCKED = {
    "run.lock": ("server", "pdf", "realtime", "tui", "postgres", "otel"),
    "dev.lock": ("dev",),
}


def direct(*extras: str) -> list[Requirement]:
    """Return the project's own requirements with ``extras``, including those behind ``portico-ai[…]``."""
    table: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    requirements = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, table[extra]):
            if requirement.name == "portico-ai":
                requirements += direct(*sorted(requirement.extras))
            else:
                requirements.append(requirement)
    return requirements


def pins(lock: Path) -> dict[str, list[Requirement]]:
    """Return the pins of a lock by package; a package may have several, each for different Python versions."""
    pins_by_name: dict[str, list[Requirement]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9]", line, re.IGNORECASE):
            requirement = Requirement(line.removesuffix("\\").strip())
            pins_by_name.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins_by_name


def version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


@pytest.mark.parametrize("name", LOCKED)
def test_a_lock_pins_every_direct_dependency_within_its_range(name: str) -> None:
    locked = pins(REQUIREMENTS / name)
    for requirement in direct(*LOCKED[name]):
        candidates = locked.get(canonicalize_name(requirement.name), [])
        assert candidates, f"{requirement.name} is missing from {name}: run scripts/lock"
        for pin in candidates:
            assert requirement.specifier.contains(version(pin)), (
                f"{name} has {pin}, pyproject.toml {requirement}"
            )


@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_pins_at_most_one_version_of_a_package_per_python(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    for lock in REQUIREMENTS.glob("*.lock"):
        for package, candidates in pins(lock).items():
            fitting = [pin for pin in candidates if pin.marker is None or pin.marker.evaluate(environment)]
            assert len(fitting) <= 1, f"{lock.name} pins {package} {len(fitting)} times"


@pytest.mark.parametrize("name", ["dev.lock", "build.lock"])
def test_the_dev_and_build_locks_use_the_versions_of_the_run_lock(name: str) -> None:
    first, second_pins = pins(REQUIREMENTS / "run.lock"), pins(REQUIREMENTS / name)
    for package in first.keys() & second_pins.keys():
        assert [version(pin) for pin in second_pins[package]] == [version(pin) for pin in first[package]]
    assert name != "dev.lock" or first.keys() <= second_pins.keys()


def test_the_build_requirements_are_pinned_in_the_build_lock() -> None:
    locked = pins(REQUIREMENTS / "build.lock")
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert all(
            requirement.specifier.contains(version(pin))
            for pin in locked[canonicalize_name(requirement.name)]
        )


@pytest.mark.parametrize("lock", sorted(REQUIREMENTS.glob("*.lock")), ids=lambda path: path.name)
def test_every_pin_has_a_hash_and_no_url_or_path(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text and not re.search(r"^-|\s/\w|file:", text, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert blocks and all("--hash=sha256:" in block for block in blocks)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel, built as an installation builds it."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    locked = ["--build-constraint", str(REQUIREMENTS / "build.lock")]
    subprocess.run([*command, *locked, "--wheel-dir", str(target), str(ROOT)], check=True, timeout=120)
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_contains_every_module_data_file_and_license(wheel: zipfile.ZipFile) -> None:
    archive_names = set(wheel.namelist())
    for folder, package in (("client", "portico"), ("server", "portico_server"), ("tui", "portico_tui")):
        source = ROOT / folder
        source_files = {
            str(path.relative_to(source))
            for path in (source / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert source_files <= archive_names
        assert f"{package}/py.typed" in archive_names
    assert any(name.endswith("licenses/LICENSE") for name in archive_names)
    recipes = {
        str(path.relative_to(ROOT / "docs"))
        for path in (ROOT / "docs" / "cookbook").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"portico/{recipe}" for recipe in recipes} <= archive_names


def test_the_sdk_alone_depends_on_httpx_alone(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = message_from_string(wheel.read(name).decode("utf-8"))
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert [item.name for item in requirements if item.marker is None] == ["httpx"]
    assert metadata["License-Expression"] == "Apache-2.0"


WITHOUT_EXTRAS = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name in {names!r} else find_spec(name, *more)
"""
"""A file ``sitecustomize.py`` that hides modules."""


def import_names(extra: str) -> set[str]:
    """Return the modules that an extra installs, with those of the packages that its packages need."""
    names, packages = set[str](), [requirement.name for requirement in direct(extra)]
    while packages:
        name = canonicalize_name(packages.pop())
        if name not in names:
            names.add(name)
            requirements = map(Requirement, requires(name) or ())
            packages += [
                item.name
                for item in requirements
                if item.marker is None or item.marker.evaluate({"extra": ""})
            ]
    return {
        module
        for module, owners in packages_distributions().items()
        if names & set(map(canonicalize_name, owners))
    }


@pytest.fixture
def with_cli_alone(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which Python finds only the packages of the extra ``cli``."""
    project_packages = {"portico", "portico_server", "portico_tui", "pip"}
    names = (
        {name for name in packages_distributions() if not name.startswith("_")}
        - import_names("cli")
        - project_packages
    )
    assert {"starlette", "sqlalchemy", "textual"} <= names and {"typer", "httpx", "yaml"}.isdisjoint(names)
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_EXTRAS.format(names=names), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "PORTICO_URL": "http://127.0.0.1:9"}


def test_every_command_can_be_loaded_with_the_extra_cli_alone(with_cli_alone: dict[str, str]) -> None:
    modules = [f"portico.cli.{path.stem}" for path in (ROOT / "client" / "portico" / "cli").glob("*.py")]
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], env=with_cli_alone, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("up",), "server"),
        (("settings",), "server"),
        (("backup", "archive", "--home", "."), "server"),
        (("restore", "archive"), "server"),
        (("vacuum", "--home", "."), "server"),
        (("tui",), "tui"),
        (("agent-server",), "acp"),
    ],
)
def test_a_command_that_needs_an_extra_says_how_to_add_it(
    with_cli_alone: dict[str, str], arguments: tuple[str, ...], extra: str
) -> None:
    command = [str(Path(sys.executable).with_name("portico")), *arguments]
    done = subprocess.run(command, env=with_cli_alone, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(f"{how_to_add(extra)}\n")


def test_the_versions_agree() -> None:
    code = "import portico, portico_server; print(portico.__version__, portico_server.__version__)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (release,) = set(output.split())
    assert _build.version().startswith(release)


def test_the_compose_file_builds_the_image_and_has_what_its_services_name() -> None:
    file = ROOT / "configs" / "docker" / "compose.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    services = document["services"]
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "portico": None,
        "portico-gpu": ["gpu"],
        "postgres": ["postgres"],
    }
    for service in services.values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= document["volumes"].keys()
        assert service.get("depends_on", {}).keys() <= services.keys()
    for name in ("portico", "portico-gpu"):
        assert (file.parent / services[name]["build"]["context"]).resolve() == ROOT
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
