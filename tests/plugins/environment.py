"""An environment with all packages of this one, and its own plugins."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

import uv

HERE = Path(__file__).parent


def environment(folder: Path, *packages: str) -> Path:
    """Create an environment in ``folder``, and return its interpreter.

    The named folders beside this file are installed without a network.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    [packages_here] = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages_here / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    sources = [str(HERE / package) for package in packages]
    line = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-deps", "--no-cache", "--quiet"]
    subprocess.run([*line, "--python", str(python), *sources], check=True, timeout=60)
    return python
