"""Upload files with attributes, and search only those that meet a filter."""

from openai import OpenAI

from portico import Client

MINUTES = (
    ("minutes-2024.txt", "The council agreed to repair the pier.", {"year": 2024, "kind": "minutes"}),
    ("minutes-2026.txt", "The council agreed to widen the pier.", {"year": 2026, "kind": "minutes"}),
    ("letter-2026.txt", "A captain complains about the pier.", {"year": 2026, "kind": "letter"}),
)
RECENT = {"type": "gte", "key": "year", "value": 2026}
OFFICIAL = {"type": "in", "key": "kind", "value": ["minutes", "decree"]}
FILTERS = {
    "all": None,
    "since 2026": RECENT,
    "official since 2026": {"type": "and", "filters": [RECENT, OFFICIAL]},
}

with Client() as client:
    store = client.stores.add("council")
    upload = OpenAI(base_url=f"{client.url}/v1", api_key="none").vector_stores.files.upload_and_poll
    for name, text, attributes in MINUTES:
        file = (name, text.encode())
        upload(vector_store_id=store.id, file=file, attributes=attributes, poll_interval_ms=50)
    for title, filters in FILTERS.items():
        found = client.search("council", "What is said about the pier?", filters=filters).passages
        print(f"{title}: {', '.join(sorted(passage.filename for passage in found))}")
    client.stores.remove("council")
