"""Questions to a store become training data: what answers each question, what does not, and what is held back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.training.child.bases import lines

from portico.cli.root import run
from portico.client import Client
from portico.errors import PorticoError
from portico_server.core.errors import InvalidRequest
from portico_server.core.training_passages import StorePassage
from portico_server.features.training.cloze_questions import made_questions
from portico_server.features.training.negatives import (
    NegativeChooser,
    held_back_files,
    is_near_duplicate,
    shared_words,
    shingles,
)
from portico_server.features.training.question_files import estimated_tokens
from portico_server.features.training.questions import AnsweredQuestion
from portico_server.features.training.written_questions import read_questions

TIDES = "The harbour is closed at low tide. Ships wait in the bay until the water rises again at noon. Pilots help."

BREAD = "Bread is baked here before the sun rises. The baker opens the shop at six and closes it when all is sold."


def passage(number: int, file: str, text: str, *headings: str) -> StorePassage:
    return StorePassage(number, file, headings, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing", "it is not JSON"),
        ("[1]", "not an object"),
        ({"file": "a.md"}, "'question' is missing"),
        ({"question": "When?"}, "a 'file', 'passage' or 'answer' in addition to 'question'"),
        ({"question": 5, "file": "a.md"}, "'question' must be text"),
        ({"question": "x" * 2_001, "file": "a.md"}, "more than 2,000 characters"),
        ({"messages": [{"role": "assistant", "content": "Noon"}]}, "no user question"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: Any, words: str) -> None:
    file = tmp_path / "questions.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    file.write_text(json.dumps({"question": "When?", "file": "a.md"}) + "\n\n" + text + "\n")
    with pytest.raises(InvalidRequest, match=r"1 of 3 lines .* line 3: ") as error_info:
        read_questions(file)
    assert words in error_info.value.message
    assert (error_info.value.code, error_info.value.param) == ("invalid_training_file", "training_file")


def test_questions_are_read_in_each_of_their_forms(tmp_path: Path) -> None:
    rated = [
        {"role": "user", "content": "Who bakes?"},
        {"role": "assistant", "content": "Nobody", "weight": 0},
        {"role": "user", "content": "When is high tide?"},
        {"role": "assistant", "content": "At noon"},
    ]
    examples: list[Any] = [
        {"question": "When?", "file": "a.md"},
        {"question": "When?", "passage": "At noon."},
        {"messages": rated},
        {"item": {"messages": rated[:1], "answer": "The baker"}},
    ]
    questions = read_questions(lines(tmp_path / "questions.jsonl", examples))
    assert [
        (question.number, question.question, question.file, question.passage, question.answer)
        for question in questions
    ] == [
        (1, "When?", "a.md", "", ""),
        (2, "When?", "", "At noon.", ""),
        (3, "When is high tide?", "", "", "At noon"),
        (4, "Who bakes?", "", "", "The baker"),
    ]


def test_questions_are_generated_from_headings_and_removed_sentences() -> None:
    passages = [
        passage(1, "harbour.md", TIDES, "Harbour", "Tides"),
        passage(2, "harbour.md", TIDES + " More.", "Harbour", "Tides"),
        passage(3, "bread.md", BREAD),
        passage(4, "short.md", "Too short."),
    ]
    questions = made_questions(passages, 10, 1)
    assert questions == made_questions(passages, 10, 1), "the same seed makes the same ones"
    by_heading = [question for question in questions if question.question == "Harbour Tides"]
    assert len(by_heading) == 1, "a heading is asked about once"
    by_sentence = [question for question in questions if question not in by_heading]
    assert {question.passage.id for question in by_sentence} == {1, 2, 3}
    for question in by_sentence:
        assert question.question in question.passage.text
        assert question.question not in question.text
        assert len(question.text) + len(question.question) <= len(question.passage.text)
    assert len(made_questions(passages, 2, 1)) == 2


def test_answering_and_near_duplicate_passages_are_not_chosen_as_negatives() -> None:
    own_passage = passage(1, "harbour.md", TIDES, "Harbour", "Tides")
    other_passages = [
        passage(2, "copy.md", TIDES.replace("Pilots help", "Pilots come")),
        passage(3, "harbour.md", "Sailors sleep at the inn beside the old mill.", "Harbour", "Tides"),
        passage(4, "bread.md", BREAD),
        passage(5, "held.md", "A light house stands on the hill, red and green."),
        passage(6, "answer.md", "At noon the water rises again, says the clerk."),
        passage(7, "hill.md", "Goats climb the hill each spring and are counted twice."),
    ]
    answered_question = AnsweredQuestion(
        "When is high tide?", own_passage, own_passage.text, answer="the water rises again at noon"
    )
    negatives = NegativeChooser(other_passages, 1).choose(
        answered_question,
        other_passages,
        frozenset({"copy.md", "harbour.md", "bread.md", "answer.md", "hill.md"}),
        3,
    )
    assert negatives == [other_passages[2].text, other_passages[5].text]
    assert is_near_duplicate(shingles(TIDES), shingles(other_passages[0].text))
    assert not is_near_duplicate(shingles(TIDES), shingles(BREAD))
    assert shared_words("潮汐在中午", "今天的潮汐在中午到来") == 1.0
    assert estimated_tokens("潮汐") == 5


def test_whole_files_are_held_back_and_never_all() -> None:
    def asked(counts: Sequence[int]) -> list[AnsweredQuestion]:
        return [
            AnsweredQuestion("?", source_passage, source_passage.text)
            for file, count in enumerate(counts)
            for source_passage in [passage(0, f"{file}.md", TIDES)] * count
        ]

    questions = asked([5] * 20)
    held_files = held_back_files(questions)
    assert len(held_files) == 3
    assert held_files == held_back_files(list(reversed(questions)))
    assert held_back_files(asked([10])) == frozenset()
    assert held_back_files(asked([9, 1])) in (frozenset(), {"1.md"}), "more than half is trained on"


# A daemon with its stores and keys.

KEYS = {name: f"pk-{name}-0123456789abcdef" for name in ("admin", "tuner", "reader")}

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default]}}
  - {{name: played, source: "fake://", task: embedding}}
  - {{name: asker, source: "fake://", parameters: {{script: [{{content: "\nWhere is it kept?\n"}}]}}}}
  - {{name: folder, source: "file://{models}/embedding-mean", engine: transformers, aliases: [finder]}}
keys:
  - {{name: admin, key: {admin}, scopes: [admin]}}
  - {{name: tuner, key: {tuner}, scopes: [finetune]}}
  - {{name: reader, key: {reader}, scopes: [finetune, "stores:*:read"]}}
"""

TOPICS = (
    "sea",
    "sky",
    "weather",
    "light house",
    "hill",
    "harbour",
    "bread",
    "story",
    "ships",
    "city",
    "color",
    "rain",
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home, models = tmp_path_factory.mktemp("home"), environment.models()
    (home / "data" / "environments").mkdir(parents=True)
    for name in ("finetune", "transformers"):
        (home / "data" / "environments" / name).symlink_to(Path(environment.interpreter(name)).parents[1])
    (home / "portico.yaml").write_text(CONFIGURATION.format(models=models, **KEYS))
    (home / "notes").mkdir()
    for topic in TOPICS:
        (home / "notes" / f"{topic}.md").write_text(
            f"# Tell me about the {topic}\n\nWhat is the {topic} in Paris? The {topic} is red and green here. "
            f"And it is bright. Once upon a time the {topic} was closed. Now tell me more about it, be brief.\n"
        )
    with daemons.running(
        home / "data", "--file", str(home / "portico.yaml"), "--docs", str(home / "notes")
    ) as running_daemon:
        running_daemon.settle()
        yield running_daemon


def client_of(daemon: Daemon, name: str = "admin") -> Client:
    return Client(daemon.url, key=KEYS[name])


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"model": "folder", "method": "embedding"}, "store", "name the store in 'store'"),
        ({"model": "folder", "method": "embedding", "store": "notse"}, "store", "Did you mean 'notes'"),
        ({"model": "echo", "method": "embedding", "store": "notes"}, "model", "is not an embedding model"),
        ({"model": "played", "method": "embedding", "store": "notes"}, "model", "has no weights"),
        ({"model": "folder", "method": "rerank", "store": "notes"}, "model", "is not a reranker"),
        (
            {"model": "echo", "method": "supervised", "store": "notes", "training_file": "x"},
            "store",
            "requires the methods",
        ),
        ({"model": "echo", "method": "supervised"}, "training_file", "is missing"),
        ({"model": "folder", "method": "embedding", "store": "notes", "app": "notes"}, "app", "Leave it out"),
        (
            {"model": "folder", "method": "embedding", "store": "notes", "recipe": {"kind": "qlora"}},
            "recipe.kind",
            "'full'",
        ),
        (
            {"model": "folder", "method": "embedding", "store": "notes", "questions": {"model": "played"}},
            "questions.model",
            "not a chat model",
        ),
    ],
)
def test_an_invalid_store_training_request_is_refused_immediately(
    daemon: Daemon, body: dict[str, Any], param: str, words: str
) -> None:
    response = httpx.post(
        f"{daemon.url}/v1/fine_tuning/jobs",
        json={**body, "method": {"type": body["method"]}},
        headers={"Authorization": f"Bearer {KEYS['admin']}"},
    )
    error = response.json()["error"]
    assert (400 <= response.status_code < 500, error["param"]) == (True, param), error
    assert words in error["message"]


def test_training_on_a_store_requires_read_access_to_it(daemon: Daemon) -> None:
    with client_of(daemon, "tuner") as client, pytest.raises(PorticoError) as error_info:
        client.tuning.plan("folder", store="notes", method="embedding")
    assert error_info.value.status in (403, 404)
    with client_of(daemon, "reader") as client:
        plan = client.tuning.plan("folder", store="notes", method="embedding", questions=24)
    assert plan.data["validation"] >= 1
    assert plan.data["examples"] + plan.data["validation"] == 24
    assert plan.recipe["kind"] == "full"
    assert any("questions written by people" in sentence for sentence in plan.warnings)


def test_questions_from_a_file_are_matched_with_their_answering_passages(
    daemon: Daemon, tmp_path: Path
) -> None:
    questions: list[dict[str, str]] = [
        {"question": f"Where is the {topic}?", "file": f"{topic}.md"} for topic in TOPICS
    ]
    questions.append({"question": "Who counts goats?", "answer": "Shepherds count quietly"})
    with client_of(daemon, "reader") as client:
        plan = client.tuning.plan(
            "folder", lines(tmp_path / "questions.jsonl", questions), store="notes", method="embedding"
        )
        assert plan.data["examples"] + plan.data["validation"] == len(TOPICS)
        assert any("Skipped 1 questions" in sentence and "lines 13" in sentence for sentence in plan.warnings)
        short_file = lines(tmp_path / "few.jsonl", questions[:3])
        with pytest.raises(PorticoError, match="at least 8 answered questions are required") as error_info:
            client.tuning.plan("folder", short_file, store="notes", method="embedding")
    assert error_info.value.code == "too_few_questions"


@pytest.fixture
def tune(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that calls ``portico tune`` for the store with an embedding model."""
    monkeypatch.setenv("PORTICO_URL", daemon.url)
    monkeypatch.setenv("PORTICO_API_KEY", KEYS["admin"])
    arguments = ["tune", "--base", "folder", "--store", "notes", "--method", "embedding"]
    return lambda *more: run([*arguments, *more])


def test_a_chat_model_asks_about_the_passages(
    tune: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--questions", "9", "--asker", "asker", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["data"]["examples"] + plan["data"]["validation"] == 9
    assert not any("questions written by people" in sentence for sentence in plan["warnings"])
    assert tune("--asker", "nobody", "--dry-run") == 1
    assert "nobody" in capsys.readouterr().err


def test_an_impossible_promotion_is_refused_before_training(
    tune: Callable[..., int], daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--promote", "finder", "--detach") == 1
    assert "omit --detach" in capsys.readouterr().err
    assert run(["tune", "examples.jsonl", "--base", "echo", "--promote", "default"]) == 1
    assert "portico compare" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_embedding_model_is_trained_measured_and_promoted_if_it_is_better(
    daemon: Daemon, tune: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with client_of(daemon) as client:
        status = tune("--questions", "24", "--suffix", "notes", "--seed", "1", "--promote", "finder")
        printed = capsys.readouterr()
        [tuning_job] = client.tuning.list(limit=1).data
        assert (tuning_job.store, tuning_job.method, tuning_job.training_file) == ("notes", "embedding", "")
        assert (tuning_job.status, tuning_job.error) == ("succeeded", "")
        evaluation = tuning_job.evaluation
        assert evaluation is not None
        assert evaluation.questions >= 1
        assert evaluation.better == (evaluation.after.ndcg_10 > evaluation.before.ndcg_10)
        assert status == (0 if evaluation.better else 1)
        assert (f"'finder' is now '{tuning_job.fine_tuned_model}'" in printed.out) == evaluation.better, (
            printed
        )
        assert ("finder" in client.deployments.get("folder").aliases) != evaluation.better
        levels = {event.message: event.level for event in client.tuning.events(tuning_job.id, limit=100).data}
        [measured] = [words for words in levels if "held-back questions: nDCG@10" in words]
        assert levels[measured] == ("info" if evaluation.better else "warn")
        assert ("do not change your stores" in measured) == (not evaluation.better)
        model = tuning_job.fine_tuned_model or ""
        assert len(client.embed(["the harbour"], model).data[0]) == 32
        assert run(["stores", "change", "notes", "--embedding-model", model, "--dry-run"]) == 0
        assert "New vectors would be created for all passages of 12 files" in capsys.readouterr().out
        assert run(["tune", "show", tuning_job.id]) == 0
        assert f"{evaluation.questions} questions: nDCG@10" in capsys.readouterr().out
        assert client.stores.get("notes").embedding_model != model, "a dry run changes nothing"
        client.stores.change("notes", embedding_model=model)
        [training_run] = [
            client.runs.wait(candidate.id) for candidate in client.runs.list() if candidate.kind == "embed"
        ]
        assert (training_run.status, training_run.error) == ("completed", None)
        assert client.stores.get("notes").embedding_model == model
        assert client.search("notes", "the harbour").passages
