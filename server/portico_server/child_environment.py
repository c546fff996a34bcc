"""The environment variables that a child process inherits, including the proxy variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

from portico.loopback import is_loopback
from portico_server.subprocesses import SAFE_PATH

_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Endings of variable names whose values child processes never receive."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOCAL = ("localhost", "127.0.0.1", "::1")


_for_daemon: set[str] = set()
"""Names of variables that were set only for this process."""


def set_for_daemon(name: str, value: str) -> None:
    """Set an environment variable unless the operator has set it; `inherited` leaves it out."""
    if name not in os.environ:
        os.environ[name] = value
        _for_daemon.add(name)


def inherited(*without: str) -> dict[str, str]:
    """Return this process's environment without Portico's settings, secrets, and names with one of the prefixes
    ``without``.

    Python interpreters in the child do not add the current folder to their module path.
    """
    variables = {
        name: value
        for name, value in {**os.environ, **unproxied(os.environ)}.items()
        if not name.startswith(("PORTICO_", *without))
        and not name.upper().endswith(_SECRET)
        and name not in _for_daemon
    }
    return {**variables, **SAFE_PATH}


def is_local(host: str | None) -> bool:
    """Return whether the host of a URL is this machine, which must not be reached through a proxy."""
    return is_loopback((host or "").strip("[]").rstrip("."))


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``no_proxy`` and ``NO_PROXY`` with this machine added; empty if ``environment`` sets no proxy or exempts
    all hosts.
    """
    values = {name.lower(): value for name, value in environment.items() if value}
    if not any(name in values for name in _PROXIES):
        return {}
    exceptions = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = dict.fromkeys(host for text in exceptions for host in text.replace(" ", ",").split(",") if host)
    if "*" in hosts:
        return {}
    value = ",".join(dict.fromkeys((*hosts, *_LOCAL)))
    return {"no_proxy": value, "NO_PROXY": value}
