"""Questions that guard a store: what a change of its files may do, and who decides."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.features.stores.store_services import StoreServices, store_services
from tests.server.features.stores.test_killed import ingest

from portico.schemas.store_guards import StoreReview
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from portico_server.core.principal import LOCAL, Principal
from portico_server.db import files as file_rows
from portico_server.db import store_reviews, stores, webhooks
from portico_server.db.database import Database
from portico_server.db.guard_questions import GuardQuestionRow
from portico_server.db.stores import StoreRow
from portico_server.db.webhooks import WebhookRow
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.store import StoreView

ALICE = Principal("key_alice", frozenset({"stores:*:manage"}))

TOWNS = [
    first + second
    for first in ("Ka", "Lo", "Mi", "Nu", "Pe", "Ro")
    for second in ("bry", "dex", "fal", "gim", "hov")
]


def opening(town: str, hour: int) -> str:
    return f"The archive of {town} opens at {hour} o'clock. Visitors of {town} ring the bell twice."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "towns"
    folder.mkdir()
    for hour, town in enumerate(TOWNS):
        (folder / f"{town}.txt").write_text(opening(town, hour))
    return folder


async def add(shop: StoreServices, store: StoreRow, *questions: Mapping[str, Any]) -> list[GuardQuestionRow]:
    async def work(context: Context) -> Any:
        return await shop.stores.guards.add(store, questions, LOCAL, context)

    return list(await shop.runner.wait(await shop.runner.begin("guard questions", "towns", LOCAL, work)))


async def guarded(shop: StoreServices, folder: Path, name: str = "towns") -> StoreView:
    """Return a store that follows ``folder``, with a guard question for each town."""
    store = await shop.stores.create(name, LOCAL, folder=folder)
    await shop.sync(store)
    questions = [
        {
            "question": f"When does the archive of {town} open?",
            "file": f"{town}.txt",
            "passage": f"archive of {town}  opens at {hour} o'clock",
        }
        for hour, town in enumerate(TOWNS)
    ]
    rows = await add(shop, store, *questions)
    assert (len(rows), all(row.passes for row in rows)) == (30, True)
    return await shop.stores.get(name, LOCAL)


async def texts(shop: StoreServices, store: StoreRow, query: str) -> str:
    return "\n".join(passage.text for passage in (await shop.search(store, query)).passages)


async def review(shop: StoreServices, store: StoreRow) -> StoreReview:
    return await shop.stores.guards.review(await shop.stores.get(store.id, LOCAL))


CHANGED = TOWNS[3:6]


def spoil(folder: Path) -> None:
    """Remove the hours of three towns, and add a sentence about a fourth."""
    for town in CHANGED:
        (folder / f"{town}.txt").write_text(
            f"The archive of {town} is closed for good, by order of the mayor."
        )
    (folder / f"{TOWNS[9]}.txt").write_text(opening(TOWNS[9], 9) + " The bell is new.")


async def test_a_change_that_makes_answers_wrong_is_held_until_accepted(
    shop: StoreServices, folder: Path
) -> None:
    store = await guarded(shop, folder)
    spoil(folder)
    result = await shop.sync(store)
    assert (result["changed"], result["review"], len(result["wrong_answers"])) == (4, "held", 3)
    assert result["searched_questions"] == 4  # the other hits of a question cannot displace its answer
    report = await review(shop, store)
    assert report.state == "held"
    assert (
        report.new_files == report.old_files == tuple(sorted(f"{town}.txt" for town in (*CHANGED, TOWNS[9])))
    )
    assert [item.question for item in report.wrong] == [
        f"When does the archive of {town} open?" for town in CHANGED
    ]
    first = report.wrong[0]
    assert first.present_passage is not None
    assert first.new_passage is not None
    assert (first.present_passage.filename, first.present_passage.text) == (
        f"{CHANGED[0]}.txt",
        opening(CHANGED[0], 3),
    )
    assert "o'clock" not in first.new_passage.text or CHANGED[0] not in first.new_passage.text
    question = f"archive of {CHANGED[0]}"
    texts_before = await texts(shop, store, question)
    assert opening(CHANGED[0], 3) in texts_before
    assert "mayor" not in texts_before
    assert (await shop.sync(store)).get("review") is None  # the same change is not checked twice
    await shop.stores.guards.settle(store, "accepted")
    texts_after = await texts(shop, store, question)
    assert "mayor" in texts_after
    assert opening(CHANGED[0], 3) not in texts_after
    assert (await review(shop, store)).state == "accepted"
    assert [row.passes for row in await shop.stores.guards.list(store)].count(False) == 3
    assert len(await shop.stores.contents.by_name(store, [f"{CHANGED[0]}.txt"])) == 1
    with pytest.raises(Conflict):
        await shop.stores.guards.settle(store, "accepted")


async def test_a_rejected_change_leaves_the_old_state_until_the_source_is_corrected(
    shop: StoreServices, folder: Path
) -> None:
    store = await guarded(shop, folder)
    ids_before = {row.file_id for row in (await shop.stores.contents.list(store, limit=100)).data}
    spoil(folder)
    (folder / f"{TOWNS[20]}.txt").unlink()
    (folder / "new.txt").write_text("The ferry leaves at noon.")
    await shop.sync(store)
    assert "ferry" not in await texts(shop, store, "ferry at noon")
    await shop.stores.guards.settle(store, "rejected")
    assert {row.file_id for row in (await shop.stores.contents.list(store, limit=100)).data} == ids_before
    reloaded_store = await shop.stores.get(store.id, LOCAL)
    assert (reloaded_store.paused, reloaded_store.has_review) == (True, False)
    for hour, town in enumerate(TOWNS):
        assert opening(town, hour) in await texts(shop, store, f"archive of {town}")
    (folder / f"{TOWNS[20]}.txt").write_text(opening(TOWNS[20], 20))
    for town in CHANGED:
        (folder / f"{town}.txt").write_text(opening(town, TOWNS.index(town)) + " Dogs stay outside.")
    assert (await shop.sync(store))["review"] == "passed"
    assert "ferry" in await texts(shop, store, "ferry at noon")
    assert "Dogs" in await texts(shop, store, f"archive of {CHANGED[0]}")


async def test_a_change_that_concerns_no_question_searches_few_of_them(
    shop: StoreServices, folder: Path
) -> None:
    store = await guarded(shop, folder)
    for number in range(5):
        (folder / f"ferry {number}.txt").write_text(f"Ferry {number} sails with lumber and tar on Mondays.")
    result = await shop.sync(store)
    assert (result["added"], result["review"]) == (5, "passed")
    assert result["searched_questions"] <= 3
    assert "lumber" in await texts(shop, store, "lumber and tar")


async def test_removing_a_file_with_a_guarded_fact_is_held(shop: StoreServices, folder: Path) -> None:
    store = await shop.stores.create("towns", LOCAL, folder=folder)
    await shop.sync(store)
    await add(shop, store, {"question": f"When does {TOWNS[7]} open?", "facts": [f"{TOWNS[7]} opens at 7"]})
    (folder / f"{TOWNS[7]}.txt").unlink()
    result = await shop.sync(store)
    assert (result["removed"], result["review"], result["searched_questions"]) == (1, "held", 1)
    assert opening(TOWNS[7], 7) in await texts(shop, store, TOWNS[7])


@pytest.mark.parametrize(
    ("rule", "state", "is_found"), [("warn", "warned", True), ("off", "none", True), ("hold", "held", False)]
)
async def test_the_guard_rule_of_a_store_decides_what_a_failed_check_does(
    shop: StoreServices, folder: Path, rule: str, state: str, is_found: bool
) -> None:
    store = await guarded(shop, folder)
    await shop.stores.update(store.id, LOCAL, {"guard": rule})
    spoil(folder)
    await shop.sync(store)
    report = await review(shop, store)
    assert (report.state, len(report.wrong)) == (state, 0 if rule == "off" else 3)
    assert ("mayor" in await texts(shop, store, f"archive of {CHANGED[0]}")) is is_found


async def test_uploaded_files_that_break_answers_are_held_too(shop: StoreServices) -> None:
    store = await shop.filled({"hours.txt": "The harbour opens at six in the morning."})
    await add(shop, store, {"question": "When does the harbour open?", "facts": ["opens at six"]})
    texts_by_name = {
        f"harbour {number}.txt": f"When does the harbour open? Number {number}" for number in range(12)
    }
    rows = [await shop.upload(name, text) for name, text in texts_by_name.items()]
    await shop.stores.contents.attach(store, [FileToAttach(row.id, None, None) for row in rows], LOCAL)
    await shop.settled(store)
    report = await review(shop, store)
    assert (report.state, len(report.wrong), len(report.new_files)) == ("held", 1, 12)
    assert "six" in await texts(shop, store, "When does the harbour open?")
    await shop.stores.guards.settle(store, "rejected")
    assert [row.filename for row in await shop.settled(store)] == ["hours.txt"]
    assert (await shop.files.get(rows[0].id, LOCAL)).filename == "harbour 0.txt"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"question": "When?"}, "cannot be judged"),
        ({"question": " ", "facts": ["six"]}, "is empty"),
        ({"question": "When?", "file": "nowhere.txt"}, "no indexed file 'nowhere.txt'"),
        (
            {"question": "When?", "file": "harbour.txt", "passage": "at seven"},
            "in no passage of 'harbour.txt'",
        ),
        ({"question": "When?", "facts": "six"}, "must be a list"),
        ({"question": "When?", "facts": [""]}, "empty text"),
        ({"question": "When?", "answer": "six"}, "no field 'answer'"),
    ],
)
async def test_a_guard_question_without_a_verifiable_answer_is_refused(
    shop: StoreServices, item: Mapping[str, Any], message: str
) -> None:
    store = await shop.filled({"harbour.txt": "The harbour opens at six in the morning."})
    with pytest.raises(InvalidRequest, match=message):
        await add(shop, store, {"question": "When?", "facts": ["opens at six"]}, item)
    assert await shop.stores.guards.list(store) == []


async def test_questions_count_against_the_storage_limit_of_the_owner(shop: StoreServices) -> None:
    store = await shop.stores.create("notes", ALICE)
    bytes_before = await shop.database.read(file_rows.stored_bytes, ALICE.id)
    await add(shop, store, {"question": "When?", "facts": ["x" * 1_000]})
    assert await shop.database.read(file_rows.stored_bytes, ALICE.id) >= bytes_before + 1_000
    shop.files.quota.limit_of = lambda _owner: 2_000
    with pytest.raises(TooLarge):
        await add(shop, store, {"question": "When?", "facts": ["y" * 1_000]})


async def test_removing_a_question_twice_is_not_found(shop: StoreServices) -> None:
    store = await shop.filled({"harbour.txt": "The harbour opens at six in the morning."})
    [row] = await add(shop, store, {"question": "When?", "file": "harbour.txt"})
    await shop.stores.guards.remove(store, row.id)
    with pytest.raises(NotFound):
        await shop.stores.guards.remove(store, row.id)


@pytest.mark.process
@pytest.mark.slow
async def test_kills_during_a_sync_and_its_check_lose_nothing(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "home"
    async with store_services(home) as shop:
        store = await guarded(shop, folder, "book")
    spoil(folder)
    for lines in (4, 12, 24, 40):
        ingest(home, folder, lines=lines)
    assert ingest(home, folder, lines=None)
    async with store_services(home) as shop:
        report = await review(shop, store)
        assert (report.state, len(report.new_files), len(report.wrong)) == ("held", 4, 3)
        assert "mayor" not in await texts(shop, store, f"archive of {CHANGED[0]}")
        await shop.stores.guards.settle(store, "accepted")
        assert "mayor" in await texts(shop, store, f"archive of {CHANGED[0]}")
        assert len((await shop.stores.contents.list(store, limit=100)).data) == len(TOWNS)


@pytest.mark.slow
async def test_two_daemons_on_one_postgresql_agree_on_a_review(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.running() as server:
        url = server.new()
        monkeypatch.setattr(Database, "at", lambda _path: Database(url))
        files = str(tmp_path / "files")
        async with (
            store_services(tmp_path / "one", files=files) as first_shop,
            store_services(tmp_path / "two", files=files) as two,
        ):
            store = await guarded(first_shop, folder)
            spoil(folder)
            await first_shop.sync(store)
            for shop in (first_shop, two):
                report = await review(shop, store)
                assert (report.state, len(report.wrong)) == ("held", 3)
                assert "mayor" not in await texts(shop, store, f"archive of {CHANGED[0]}")
            outcomes = await asyncio.gather(
                first_shop.stores.guards.settle(store, "rejected"),
                two.stores.guards.settle(store, "accepted"),
                return_exceptions=True,
            )
            assert sorted(map(type, outcomes), key=str) == sorted([type(None), Conflict], key=str)
            is_accepted = outcomes[1] is None
            for shop in (first_shop, two):
                assert (await review(shop, store)).state == ("accepted" if is_accepted else "rejected")
                assert ("mayor" in await texts(shop, store, f"archive of {CHANGED[0]}")) is is_accepted


async def test_a_question_follows_its_renamed_file(shop: StoreServices, folder: Path) -> None:
    store = await guarded(shop, folder)
    (folder / f"{TOWNS[0]}.txt").rename(folder / "capital.txt")
    assert (await shop.sync(store))["moved"] == 1
    assert (await shop.stores.guards.list(store))[0].file == "capital.txt"


async def test_a_check_follows_a_guard_rule_changed_while_it_runs(
    shop: StoreServices, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await guarded(shop, folder)
    await shop.stores.update(store.id, LOCAL, {"guard": "warn"})
    write = shop.database.write

    async def interleaved(function: Any, *arguments: Any, **options: Any) -> Any:
        result = await write(function, *arguments, **options)
        if function is store_reviews.start:
            await write(stores.change, store.id, {"guard": "hold"})
        return result

    monkeypatch.setattr(shop.database, "write", interleaved)
    spoil(folder)
    assert (await shop.sync(store))["review"] == "held"
    assert "mayor" not in await texts(shop, store, f"archive of {CHANGED[0]}")


HARBOUR = {"question": "When does the harbour open?", "file": "base.txt", "passage": "opens at six"}
FEE = {"question": "How much is the annual fee?", "file": "base.txt", "passage": "fee is 30 euros"}
LEADER = {"question": "Who leads the archive?", "file": "base.txt", "passage": "Ann Weiss leads"}
DOGS = {"question": "Are dogs allowed in the library?", "file": "base.txt", "passage": "Dogs are allowed"}
CONTRACT = {"question": "When does the contract end?", "file": "base.txt", "passage": "ends on 31 May 2025"}
QUAY = {"question": "港口几点开门？", "file": "base.txt", "passage": "六点开门"}
BASE = (
    "The harbour opens at six in the morning.\n\nThe annual fee is 30 euros.\n\nAnn Weiss leads the archive.\n\n"
    "Dogs are allowed in the library.\n\nThe contract ends on 31 May 2025.\n\n港口早上六点开门。"
)


@pytest.mark.parametrize(
    ("question", "filename", "text", "review_state"),
    [
        (HARBOUR, "new.txt", "The harbour opens at seven in the morning.", "held"),
        (HARBOUR, "new.txt", "Since May the harbour opens at 7:30.", "held"),
        (HARBOUR, "new.txt", "When does the harbour open? The harbour never opens.", "held"),
        (HARBOUR, "new.txt", "The harbour is closed.", "held"),
        (HARBOUR, "base.txt", BASE.replace("six", "eight"), "held"),
        (HARBOUR, "base.txt", BASE.replace("six", "6"), "passed"),
        (HARBOUR, "base.txt", "\n\n".join(reversed(BASE.split("\n\n"))), "passed"),
        (HARBOUR, "base.txt", BASE + "\n\nThe harbour opens at nine on all days.", "held"),
        (HARBOUR, "new.txt", "The harbour has four cranes.", "passed"),
        (HARBOUR, "new.txt", "The harbour opens at six, also in winter.", "passed"),
        (HARBOUR, "new.txt", "The museum opens at nine.", "passed"),
        (HARBOUR, "new.txt", "Der Hafen öffnet um sieben.", "passed"),
        (FEE, "new.txt", "The annual fee is 45 euros.", "held"),
        (FEE, "new.txt", "The annual fee is 30 dollars.", "held"),
        (FEE, "new.txt", "The annual fee is thirty euros.", "passed"),
        (FEE, "base.txt", BASE.replace("30 euros", "300 euros"), "held"),
        (LEADER, "new.txt", "Bob Lindh leads the archive.", "held"),
        (LEADER, "new.txt", "Since 2020 Ann Weiss leads the archive.", "passed"),
        (DOGS, "new.txt", "Dogs are not allowed in the library.", "held"),
        (DOGS, "new.txt", "Dogs are forbidden in the library.", "held"),
        (DOGS, "new.txt", "Small dogs are allowed in the library too.", "passed"),
        (CONTRACT, "new.txt", "The contract ends on 30 June 2026.", "held"),
        (CONTRACT, "new.txt", "On 31 May 2025 the contract ends.", "passed"),
        (QUAY, "new.txt", "港口早上七点开门。", "held"),
        (QUAY, "new.txt", "港口早上六点准时开门。", "passed"),
    ],
)
async def test_a_change_is_held_if_it_answers_a_guard_question_with_another_value(
    shop: StoreServices,
    tmp_path: Path,
    question: Mapping[str, Any],
    filename: str,
    text: str,
    review_state: str,
) -> None:
    (tmp_path / "base.txt").write_text(BASE)
    store = await shop.stores.create("rules", LOCAL, folder=tmp_path)
    await shop.sync(store)
    [row] = await add(shop, store, question)
    assert row.passes
    (tmp_path / filename).write_text(text)
    assert (await shop.sync(store))["review"] == review_state


async def test_a_file_that_arrives_during_a_check_is_never_accepted_unchecked(shop: StoreServices) -> None:
    store = await shop.filled({"hours.txt": "The harbour opens at six in the morning."})
    await add(shop, store, {"question": "When does the harbour open?", "facts": ["opens at six"]})
    files = [await shop.upload(f"{number}.txt", f"Ferry {number}") for number in range(2)]
    write = shop.database.write
    await write(stores.attach, store.id, files[0].id, {}, {"type": "auto"})
    check = await write(store_reviews.start, store.id, is_repeated=False)
    assert check is not None
    await write(stores.attach, store.id, files[1].id, {}, {"type": "auto"})
    assert await write(store_reviews.record, replace(check, state="passed")) is None
    assert (await review(shop, store)).state == "waiting"
    await shop.settled(store)
    assert (await review(shop, store)).state == "passed"
    assert "Ferry 1" in await texts(shop, store, "Ferry 1")


@pytest.mark.parametrize(("rule", "event"), [("hold", "store.change_held"), ("warn", "store.change_warned")])
async def test_the_author_of_the_questions_is_notified(
    shop: StoreServices, folder: Path, rule: str, event: str
) -> None:
    store = await guarded(shop, folder)
    await shop.stores.update(store.id, LOCAL, {"guard": rule})
    webhook = WebhookRow("wh_a", LOCAL.id, "a", "https://example.com", [event], "whsec_QQ==", 1.0, 1.0)
    await shop.database.write(webhooks.add, webhook, 20)
    spoil(folder)
    await shop.sync(store)
    [delivery] = (await shop.database.read(webhooks.deliveries_of, webhook.id)).data
    assert (delivery.event_type, store.id in delivery.payload) == (event, True)


@pytest.mark.slow
def test_guard_questions_work_over_http_and_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    portico = [str(Path(sys.executable).with_name("portico")), "--url", daemon.url, "stores"]

    def run(*arguments: str) -> Any:
        process = subprocess.run([*portico, *arguments, "--json"], capture_output=True, text=True, timeout=60)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    folder = tmp_path / "harbour"
    folder.mkdir()
    (folder / "hours.txt").write_text("The harbour opens at six in the morning.")
    run("add", str(folder), "--name", "harbour-guard", "--embedding-model", "fake-embedding", "--no-app")
    questions = tmp_path / "questions.jsonl"
    item = {"question": "When does the harbour open?", "file": "hours.txt", "passage": "opens at six"}
    questions.write_text(json.dumps({"item": {**item, "answer": "six"}}) + "\n")
    assert run("guards", "import", "harbour-guard", str(questions))["data"][0]["passes"] is True
    question_row = run("guards", "add", "harbour-guard", "When is it quiet?", "--fact", "in the morning")
    assert [row["id"] for row in run("guards", "list", "harbour-guard")["data"]][-1] == question_row["id"]
    assert (
        run("guards", "remove", "harbour-guard", question_row["id"], "--yes")["removed"] == question_row["id"]
    )
    (folder / "hours.txt").write_text("The harbour is closed.")
    run("sync", "harbour-guard")
    show_process = subprocess.run(
        [*portico, "show", "harbour-guard"], capture_output=True, text=True, timeout=60
    )
    assert "portico stores guards review harbour-guard" in show_process.stdout
    [wrong] = run("guards", "review", "harbour-guard")["wrong"]
    assert wrong["present_passage"] == {
        "filename": "hours.txt",
        "text": "The harbour opens at six in the morning.",
    }
    assert run("guards", "reject", "harbour-guard")["state"] == "rejected"
    assert run("show", "harbour-guard")["paused"] is True
    run("resume", "harbour-guard")
    run("sync", "harbour-guard")
    assert run("guards", "accept", "harbour-guard")["state"] == "accepted"
    assert run("change", "harbour-guard", "--guard", "off")["guard"] == "off"
