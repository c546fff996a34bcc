"""This installation of Portico as a wheel, and the list of packages with which it was tested.

Portico is not on a package index, so a package contains the exact version that created it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from portico import _build
from portico._installed import DISTRIBUTION
from portico_server.core.errors import Unavailable

PACKAGES: Final = ("portico", "portico_server", "portico_tui")

LOCK: Final = "run.lock"

_CHECKOUT: Final = Path(__file__).parents[4]
_BESIDE: Final = {
    "portico/cookbook": _CHECKOUT / "docs" / "cookbook",
    f"portico_server/features/package/{LOCK}": _CHECKOUT / "requirements" / LOCK,
}
"""Files that a wheel contains inside its packages, and their locations in a checkout."""

_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: portico package\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name() -> str:
    """Return the file name of the wheel. Blocks on its first call."""
    return f"{_stem()}-py3-none-any.whl"


def _stem() -> str:
    """Return what the names of the wheel and of its folder of metadata begin with."""
    return f"{DISTRIBUTION.replace('-', '_')}-{_build.version()}"


def requirements() -> bytes:
    """Return the list of packages with their hashes. Blocks. Raise `Unavailable` if the installation lacks this
    list.
    """
    for path in (Path(__file__).with_name(LOCK), _BESIDE[f"portico_server/features/package/{LOCK}"]):
        if path.is_file():
            return path.read_bytes()
    raise Unavailable(
        f"This installation of Portico lacks {LOCK}, which pins its packages. Reinstall it from a wheel or a "
        "checkout.",
        code="installation_incomplete",
    )


def wheel() -> bytes:
    """Return the wheel; the same installation always yields the same bytes. Blocks for about a second."""
    files = dict(sorted(_files().items()))
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    info_folder = f"{_stem()}.dist-info"
    files[f"{info_folder}/RECORD"] = f"{record}{info_folder}/RECORD,,\n".encode()
    bytes_io = io.BytesIO()
    with zipfile.ZipFile(bytes_io, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return bytes_io.getvalue()


def _files() -> dict[str, bytes]:
    """Return the contents of the wheel by file name, except for its list of files."""
    package_files: dict[str, bytes] = {}
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            package_files |= _folder(Path(spec.origin).parent, package)
    for name, path in _BESIDE.items():
        if path.is_dir():
            package_files |= _folder(path, name)
        elif path.is_file():
            package_files[name] = path.read_bytes()
    try:
        about = distribution(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise Unavailable(
            "Portico is not installed as a package, so it cannot be packaged. Install it (see the README).",
            code="installation_incomplete",
        ) from error
    info_folder = f"{_stem()}.dist-info"
    metadata = re.sub(
        r"(?m)^Version: .*$", f"Version: {_build.version()}", about.read_text("METADATA") or "", count=1
    )
    package_files[f"{info_folder}/METADATA"] = metadata.encode()
    package_files[f"{info_folder}/entry_points.txt"] = (about.read_text("entry_points.txt") or "").encode()
    package_files[f"{info_folder}/WHEEL"] = _WHEEL.encode()
    return package_files


def _folder(folder: Path, name: str) -> dict[str, bytes]:
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".pyo")
    }


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
