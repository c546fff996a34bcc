"""Reading the output of LMDeploy's server: stops that it misses, and tokens as the vocabulary writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portico_server.features.gpu_engines.lmdeploy.client import StopTexts
from portico_server.features.gpu_engines.lmdeploy.token_spelling import TokenSpelling


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "hit"),
    [
        (["end"], ["the e", "nd of it"], ["the ", ""], True),
        (["end"], ["the e", "ve of it"], ["the ", "eve of it"], False),
        (["aab"], ["a", "a", "a", "b", "c"], ["", "", "a", "", ""], True),
        (["\n\n", "User:"], ["a\n", "\nb"], ["a", ""], True),
        (["x", "later"], ["late", "xr"], ["", "late"], True),
        ([], ["any", "thing"], ["any", "thing"], False),
        ([""], ["any"], ["any"], False),
    ],
)
def test_text_is_shown_up_to_the_first_stop(
    stops: list[str], pieces: list[str], shown: list[str], hit: bool
) -> None:
    stop_texts = StopTexts(stops)
    assert [stop_texts.feed(piece) for piece in pieces] == shown
    assert stop_texts.hit == hit


def test_held_back_text_is_emitted_at_the_end() -> None:
    stop_texts = StopTexts(["stop here"])
    assert (stop_texts.feed("and stop"), stop_texts.holds, stop_texts.rest(), stop_texts.rest()) == (
        "and ",
        True,
        "stop",
        "",
    )


@pytest.mark.parametrize(
    ("decoder", "token", "data"),
    [
        ({"type": "ByteLevel"}, "Ġsea", b" sea"),
        ({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}, "æµ·", "海".encode()),
        ({"type": "ByteLevel"}, "<|im_end|>", b"<|im_end|>"),
        ({"type": "ByteLevel"}, "▁sea", "▁sea".encode()),
        ({"type": "Sequence", "decoders": [{"type": "ByteFallback"}]}, "▁sea", b" sea"),
        (None, "<0x0A>", b"\n"),
    ],
)
def test_tokens_are_decoded_to_their_text_bytes(
    tmp_path: Path, decoder: object, token: str, data: bytes
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"decoder": decoder}))
    assert TokenSpelling.of(tmp_path).bytes_of(token) == data


def test_top_logprobs_are_decoded_and_limited_to_the_requested_number() -> None:
    def entry(token: str, logprob: float) -> dict[str, object]:
        return {"token": token, "logprob": logprob, "bytes": []}

    spelling = TokenSpelling(byte_level=False)
    likely = {**entry("▁a", -0.5), "top_logprobs": [entry("▁b", -1.0)]}
    unlikely = {**entry("▁c", -9.0), "top_logprobs": [entry("▁a", -0.5), entry("▁b", -1.0)]}
    first, second = spelling.logprobs({"content": [likely, unlikely]}, 2)["content"]
    assert [candidate["token"] for candidate in first["top_logprobs"]] == [" a", " b"]
    assert [candidate["token"] for candidate in second["top_logprobs"]] == [" a", " b"] and second[
        "token"
    ] == " c"
    assert first["bytes"] == list(b" a")


def test_a_folder_without_a_tokenizer_file_uses_default_decoding(tmp_path: Path) -> None:
    assert TokenSpelling.of(tmp_path).bytes_of("▁sea") == b" sea"
