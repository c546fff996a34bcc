"""Moves a store's vectors until it is done or killed: ``python -m tests.server.features.stores.moving URL HOME INDEX``.

Prints a line for every event, and ``done`` when the move is complete.
"""

import asyncio
import sys
from pathlib import Path

from tests.server.features.stores.store_services import TURN, store_services

from portico_server.core.principal import LOCAL
from portico_server.db.database import Database
from portico_server.features.stores import index_change
from portico_server.features.stores.store import IndexName


async def main(url: str, home: Path, index: IndexName) -> None:
    Database.at = lambda _path: Database(url)  # type: ignore[method-assign,assignment]
    index_change.MAX_BATCH_CHUNKS = 1
    async with store_services(home) as shop:
        store = await shop.stores.get("book", LOCAL)
        runs = list(shop.begun)
        if not runs and (run := await shop.stores.jobs.move(store, index)):
            runs.append(run)
        for run in runs:
            while (living := shop.runner.get(run)) is None:  # noqa: ASYNC110  # the scheduler tells nobody
                await asyncio.sleep(TURN)
            async for _number, event in living.log.follow():
                print(event.type, flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))  # type: ignore[arg-type]
