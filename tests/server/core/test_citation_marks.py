"""Marks such as [1] in answers, whole and streamed."""

import pytest

from portico_server.core.citation_marks import Citations, cited_numbers


@pytest.mark.parametrize(
    ("answer", "count", "expected"),
    [
        ("Yes [2], no [1].", 2, (1, 2)),
        ("Both [1, 2] and 【3】.", 3, (1, 2, 3)),
        ("None [9] and [2024].", 4, ()),
        ("", 4, ()),
    ],
)
def test_citation_numbers_in_an_answer_are_parsed(answer: str, count: int, expected: tuple[int, ...]) -> None:
    assert cited_numbers(answer, count) == expected


CASES = [
    ("It is so [1].", "It is so [1]."),
    ("It is so [9].", "It is so."),
    ("It is so [1, 9] and [8,9].", "It is so [1] and."),
    ("In 1999 [1999] and a [link](x).", "In 1999 [1999] and a [link](x)."),
    ("Code `a [9]` stays, text [9] not.", "Code `a [9]` stays, text not."),
    ("An open end [9", "An open end [9"),
    ("Trailing space ", "Trailing space "),
]


@pytest.mark.parametrize(("answer", "expected"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_marks_of_unknown_passages_are_taken_out_however_the_text_is_cut(
    answer: str, expected: str, size: int
) -> None:
    marks = Citations(2)
    pieces = [marks.feed(answer[i : i + size]) for i in range(0, len(answer), size)]
    assert "".join([*pieces, marks.close()]) == expected
