"""An environment with everything of this one, and plugins of its own."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

import uv

HERE = Path(__file__).parent


def environment(folder: Path, *packages: str) -> Path:
    """Make it in ``folder`` and install the named folders beside this file, without a network; its interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    [packages_here] = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages_here / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    sources = [str(HERE / package) for package in packages]
    line = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-deps", "--no-cache", "--quiet"]
    subprocess.run([*line, "--python", str(python), *sources], check=True, timeout=60)
    return python
