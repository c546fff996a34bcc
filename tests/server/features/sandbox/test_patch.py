"""Diffs of ``apply_patch``: how they change a text, and which do not apply."""

from __future__ import annotations

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.features.sandbox import patch
from portico_server.features.sandbox.patch import created, patched

TEXT = "a\nb\nc\n\ndef f():\n    return 1\n\ndef g():\n    return 1\n"


@pytest.mark.parametrize(
    ("text", "diff", "after"),
    [
        (TEXT, " a\n-b\n+B\n c", TEXT.replace("b", "B")),
        (TEXT, "@@\n-b\n+B\n", TEXT.replace("b", "B")),
        (TEXT, "@@ -1,3 +1,3 @@\n-b\n+B", TEXT.replace("b", "B")),
        (TEXT, "@@ def g():\n-    return 1\n+    return 2", TEXT[:-2] + "2\n"),
        (TEXT, "@@ def f():\n+    x = 1", TEXT.replace("f():\n", "f():\n    x = 1\n")),
        (TEXT, "-a\n+A\n@@\n-c\n+C", TEXT.replace("a", "A", 1).replace("c", "C", 1)),
        (TEXT, "-a   \n+A", TEXT.replace("a", "A", 1)),
        (TEXT, "+z\n*** End of File", TEXT + "z\n"),
        ("a\r\nb\r\n", "-b\n+B", "a\r\nB\r\n"),
        ("a", "-a\n+b", "b"),
        ("", "+a", "a\n"),
    ],
)
def test_a_diff_is_applied_to_the_text(text: str, diff: str, after: str) -> None:
    assert patched(text, diff) == after


@pytest.mark.parametrize(
    "diff", ["", "@@", "-x\n+y", "b", "@@ nowhere\n-a", "-c\n+C\n@@\n-a\n+A", "+" * 1_000_001]
)
def test_a_diff_that_does_not_fit_is_refused(diff: str) -> None:
    with pytest.raises(InvalidRequest, match="does not apply"):
        patched(TEXT, diff)


@pytest.mark.parametrize(
    ("text", "diff", "why"),
    [
        ("y\n" * 2_000, "@@\n" + " y\n" * 1_000 + "-z", "takes too long"),
        ("y\n" * 2_000, "@@ q\n" * 1_000 + "-y", "not in the file"),
        ("y\n" * 20, "@@ y\n+a\n" * 1_001, "hunks"),
        ("y" * 5_000, "-y", "the file has more than"),
    ],
)
def test_a_patch_over_the_size_or_work_limits_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, diff: str, why: str
) -> None:
    monkeypatch.setattr(patch, "MAX_COMPARED_LINES", 20_000)
    monkeypatch.setattr(patch, "MAX_FILE_CHARS", 4_500)
    with pytest.raises(InvalidRequest, match=why):
        patched(text, diff)


def test_a_new_file_has_the_lines_of_its_diff() -> None:
    assert created("+a\n+\n+b\n") == "a\n\nb\n"
    assert created("") == ""
    with pytest.raises(InvalidRequest):
        created("a")
