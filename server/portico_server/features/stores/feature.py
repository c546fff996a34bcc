"""Declares the feature `stores`: files in chunks, which searches find; also OpenAI's vector stores."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="stores",
    routers=(
        "portico_server.features.stores.api.vector_stores:router",
        "portico_server.features.stores.api.vector_store_files:router",
        "portico_server.features.stores.api.vector_store_batches:router",
        "portico_server.features.stores.api.stores:router",
        "portico_server.features.stores.api.groups:router",
        "portico_server.features.stores.api.calibration:router",
        "portico_server.features.stores.api.store_guards:router",
        "portico_server.features.stores.api.archives:router",
        "portico_server.features.stores.api.search:router",
        "portico_server.features.stores.api.chunkers:router",
    ),
    paths=(
        "/v1/vector_stores*",
        "/api/stores*",
        "/api/search*",
        "/api/chunkers*",
        "/api/chunk",
    ),
    direct="portico_server.features.stores.api.stores:search_directly",
    keys=(
        ConfigurationKey(
            "stores",
            read="portico_server.features.stores.configuration:read",
            example="{name: handbook, folder: ./docs}",
            reconciler="portico_server.features.stores.reconcile:build",
            always_begins=True,
        ),
    ),
    status="portico_server.features.stores.api.description:describe_status",
)
