"""What of our environment a child process gets, and what of it is about proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping

from portico.loopback import is_loopback
from portico_server.subprocesses import SAFE_PATH

_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Ends of names whose values no model and no training has any business with."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOCAL = ("localhost", "127.0.0.1", "::1")


_for_daemon: set[str] = set()
"""Names of variables that we have set for this process alone."""


def set_for_daemon(name: str, value: str) -> None:
    """Set a variable of our environment which the operator has not set; what `inherited` gives lacks it."""
    if name not in os.environ:
        os.environ[name] = value
        _for_daemon.add(name)


def inherited(*without: str) -> dict[str, str]:
    """Our environment less our own settings, secrets, and what begins with one of the prefixes ``without``.

    Interpreters that the child starts keep the current folder off their module path.
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
    """Whether a host of a URL is this machine, which no proxy can reach for us."""
    return is_loopback((host or "").strip("[]").rstrip("."))


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """``NO_PROXY`` in both spellings, completed by this machine; empty if ``environment`` names no proxy."""
    values = {name.lower(): value for name, value in environment.items() if value}
    if not any(name in values for name in _PROXIES):
        return {}
    exceptions = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = dict.fromkeys(host for text in exceptions for host in text.replace(" ", ",").split(",") if host)
    if "*" in hosts:
        return {}
    value = ",".join(dict.fromkeys((*hosts, *_LOCAL)))
    return {"no_proxy": value, "NO_PROXY": value}
