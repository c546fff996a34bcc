"""The contents of an app's package."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.api_server import api_server

from portico_server.features.stores.archive import archives


async def test_a_store_too_large_for_an_archive_is_refused_before_packaging_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        await api.services.stores.start()
        flow = {"portico_flow": 1, "step": {"op": "code", "source": "lambda text: text"}}
        for path, body in (
            ("/api/stores", {"name": "book", "embedding_model": ""}),
            ("/api/apps", {"name": "echo", "spec": flow}),
        ):
            assert (await api.client.post(path, json=body)).status_code == 200
        monkeypatch.setattr(archives, "MAX_STORE_BLOBS", -1)
        arguments = {"include": ["store/book"]}
        for path in ("/api/apps/echo/package/plan", "/api/apps/echo/package"):
            response = await api.client.post(path, json=arguments)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "store_too_large")
        planned = await api.client.post(
            "/api/apps/echo/package/plan", json={**arguments, "stores": "reference"}
        )
        assert planned.json().get("error", {}).get("code") != "store_too_large"
