"""Declares the feature `distil`: small models that learn the answers behind an alias."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="distil",
    needs=("tuning",),
    service="portico_server.distil.distillations:build",
    routers=("portico_server.api.native.distillations:router",),
    paths=("/api/distillations*",),
)
