"""What a package of an app should contain, and where it should run."""

from __future__ import annotations

from typing import Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.features.package.targets import Target, TargetOptions

Inclusion: TypeAlias = Literal["include", "reference"]


@dataclass(frozen=True, slots=True)
class PackageRequest:
    """A request for a package. ``version`` ``None`` means the active version; ``include`` are further names to
    package.

    ``stores``: package stores as archives, or only name their sources. ``models``: only name the sources of models, or
    also package local files.
    """

    version: int | None = None
    targets: tuple[Target, ...] = ()
    stores: Inclusion = "include"
    models: Inclusion = "reference"
    include: tuple[str, ...] = ()
    options: TargetOptions = TargetOptions()
