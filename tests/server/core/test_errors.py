"""Every error has OpenAI's format."""

import os

import pytest

from portico_server.core import errors
from portico_server.core.ids import DRAWN_COUNT, RANDOM_BYTES, new_id


@pytest.mark.parametrize(
    "kind",
    [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.PorticoError)
    ],
)
def test_error_bodies_have_the_openai_format(kind: type[errors.PorticoError]) -> None:
    error = kind("Too bad.", param="messages")
    body = error.body().to_json()["error"]
    assert body == {"message": "Too bad.", "type": kind.type, "param": "messages", "code": kind.code}
    assert isinstance(body["code"], str)
    assert 400 <= kind.status < 600


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_id("run_") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [item[4:16] for item in ids] == sorted(item[4:16] for item in ids)


def test_seen_ids_do_not_make_the_next_id_predictable(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[str] = []
    draw = os.urandom

    def noted(count: int) -> bytes:
        draws.append(draw(count).hex())
        return bytes.fromhex(draws[-1])

    monkeypatch.setattr(os, "urandom", noted)
    ids = [new_id("run_") for _ in range(2 * DRAWN_COUNT)]
    assert ids[-1][-2 * RANDOM_BYTES :] in draws[-1]  # only the system's generator
