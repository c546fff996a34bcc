"""How to add an optional part of Portico to the current installation: a checkout, a container image or a wheel.

Portico is not on a package index, so ``pip install 'portico-ai[…]'`` would not work. This module therefore gives advice
for the actual installation. It imports only the standard library.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "portico-ai"
"""Name of the distribution. On the Python Package Index, ``portico`` is another project."""

IMAGE_MARK = ".portico-image"
"""Name of a file that exists only in the Python environment of the container image."""

_BY_SCRIPT = ("cli", "server", "pdf", "realtime", "tui")
"""Extras that the script ``scripts/install`` of a checkout can install."""

_MODULES = {"server": ("portico_server", "starlette"), "tui": ("portico_tui", "textual")}
"""Modules of an extra: our own, which every wheel contains, and one that comes with the extra."""

_EXTRA = re.compile(r"""extra\s*==\s*["']([A-Za-z0-9._-]+)["']""")
_OURS = re.compile(rf"^{DISTRIBUTION}\[([A-Za-z0-9._,-]+)\]$")


def is_installed(extra: str) -> bool:
    """Return whether the extra ``server`` or ``tui`` is installed."""
    return all(find_spec(module) is not None for module in _MODULES[extra])


def how_to_add(extra: str) -> str:
    """Return how to add ``extra`` to this installation, in words that can end a sentence."""
    found_distribution = _distribution()
    root = checkout()
    if root is not None and extra in _BY_SCRIPT:
        return shlex.quote(str(root / "scripts" / "install"))
    wheel = _wheel(found_distribution)
    if wheel is not None:
        return _pip(f"{DISTRIBUTION}[{extra}] @ {wheel}")
    packages = requirements(extra)
    if not packages:
        return f"install Portico again with its extra '{extra}'"
    if Path(sys.prefix, IMAGE_MARK).is_file():
        return f"in your own image, built on this one: USER root, RUN {_pip(*packages)}, USER portico"
    return _pip(*packages)


def requirements(extra: str) -> list[str]:
    """Return the packages of an extra in pip's format, including those of nested extras."""
    found_distribution = _distribution()
    packages: list[str] = []
    for line in (found_distribution.requires or ()) if found_distribution is not None else ():
        package, _, marker = line.partition(";")
        match = _EXTRA.search(marker)
        if match is None or match[1] != extra:
            continue
        inner = _OURS.match(package.strip())
        for item in (
            [x for extra_name in inner[1].split(",") for x in requirements(extra_name)]
            if inner
            else [package.strip()]
        ):
            if item not in packages:
                packages.append(item)
    return packages


def checkout() -> Path | None:
    """Return the checkout that this installation runs from, or ``None`` if it is not a checkout with the install
    script.
    """
    found_distribution = _distribution()
    try:
        origin = json.loads((found_distribution and found_distribution.read_text("direct_url.json")) or "{}")
    except ValueError:
        return None
    if not (origin.get("dir_info") or {}).get("editable"):
        return None
    root = Path(unquote(urlsplit(str(origin.get("url", ""))).path))
    return root if (root / "scripts" / "install").is_file() else None


def _wheel(found_distribution: Distribution | None) -> str | None:
    """Return the URL of the wheel that Portico was installed from, if the wheel still exists."""
    try:
        origin = json.loads((found_distribution and found_distribution.read_text("direct_url.json")) or "{}")
    except ValueError:
        return None
    url = str(origin.get("url", ""))
    if "archive_info" not in origin or not url:
        return None
    parts = urlsplit(url)
    return url if parts.scheme != "file" or Path(unquote(parts.path)).is_file() else None


def _pip(*packages: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


@cache
def _distribution() -> Distribution | None:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return None
