"""One store of contracts: each key asks the same question and reads only the files of its team."""

from pathlib import Path

from openai import OpenAI

from portico import Client

TEAMS = {"lease.md": "office", "supply.md": "purchasing"}

with Client() as admin:
    store = admin.stores.add("contracts", app=True, answers="quote")
    upload = OpenAI(base_url=f"{admin.url}/v1", api_key="none").vector_stores.files.upload_and_poll
    for name, team in TEAMS.items():
        with Path("contracts", name).open("rb") as file:
            upload(vector_store_id=store.id, file=file, attributes={"team": team}, poll_interval_ms=50)
    for team in TEAMS.values():
        key = admin.keys.add(
            f"{team} team",
            ["apps:contracts:call", "stores:contracts:read"],
            filters={"contracts": {"type": "eq", "key": "team", "value": team}},
        )
        with Client(admin.url, key.key) as member:
            seen = [file.filename for file in member.stores.files("contracts")]
            print(f"{team} sees {', '.join(seen)}")
            print(member.ask("How many months is the notice period?", app="contracts").read().text)
        admin.keys.revoke(key.id)
    admin.stores.remove("contracts")
