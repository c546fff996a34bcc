"""Put a store into one file, and make another store of it: same passages, same order, nothing embedded again."""

from pathlib import Path

from portico import Client

QUESTION = "At how many degrees is bread baked?"

with Client() as client:
    archive = Path("bakery.zip")
    client.stores.export_archive("bakery", archive)
    moved = client.stores.import_archive(archive, name="bakery-copy")
    print(f"{moved.name}: {moved.file_counts.completed} files, follows {moved.follows or 'nothing'}")
    for store in ("bakery", moved.name):
        found = client.search(store, QUESTION).passages
        print(f"{store}: {', '.join(f'{passage.filename} {passage.score:.2f}' for passage in found)}")
    client.stores.remove(moved.name)
