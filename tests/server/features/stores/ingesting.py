"""Mirrors a folder until it is done or killed: ``python -m tests.server.features.stores.ingesting HOME FOLDER``.

Prints a line for every event, and ``done`` when no work remains.
"""

import asyncio
import sys
from pathlib import Path

from tests.server.features.stores.store_services import TURN, store_services

from portico_server.core.errors import NotFound
from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.features.stores.stores import StoreService

GROUP = {"type": "sentence", "size": 60, "overlap": 0}


async def main(home: Path, folder: Path) -> None:
    async with store_services(home, ingest_workers=2) as shop:
        runs = list(shop.begun)
        if not runs:
            runs.append(await shop.stores.sync(await _store(shop.stores, folder)))
        store = await _store(shop.stores, folder)
        if len(await shop.stores.groups.list(store, 0)) == 1:
            runs.append((await shop.stores.groups.add(store, "small", chunking=GROUP))[1])
        for run in runs:
            while (living := shop.runner.get(run)) is None:  # noqa: ASYNC110  # the scheduler tells nobody
                await asyncio.sleep(TURN)
            async for _number, event in living.log.follow():
                print(event.type, flush=True)
    print("done", flush=True)


async def _store(stores: StoreService, folder: Path) -> StoreRow:
    try:
        return await stores.get("book", LOCAL)
    except NotFound:
        return await stores.follow("book", folder, LOCAL)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
