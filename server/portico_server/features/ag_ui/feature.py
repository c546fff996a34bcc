"""Declares the feature `ag_ui`: front ends that run an app or a model over the AG-UI protocol."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

FEATURE: Final = Feature(
    name="ag_ui",
    routes=(FeatureRoute("/ag-ui/*", "AG-UI", handler="portico_server.features.ag_ui.adapter:serve"),),
)
