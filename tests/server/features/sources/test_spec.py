"""The sources that a store may follow, as people write them."""

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.features.sources import spec


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/docs/", "s3://bucket/docs/"),
        ("s3://bucket/docs", "s3://bucket/docs/"),
        (" https://host/a#part ", "https://host/a"),
        ("git+https://host/a/b.git", "git+https://host/a/b.git"),
        (
            "git+https://host:8443/b@fix/port-1.x#subdirectory=docs%20new/",
            "git+https://host:8443/b@fix/port-1.x#subdirectory=docs new",
        ),
        ("webdav+https://host:8443/dav/雪%20莲", "webdav+https://host:8443/dav/雪%20莲/"),
        ("imaps://host", "imaps://host/INBOX"),
        ("imaps://HOST:993/Archive/2026/", "imaps://host/Archive/2026"),
        ("imaps://[::1]:1993/%E6%98%AF%20x", "imaps://[::1]:1993/%E6%98%AF%20x"),
        (["https://host/a", "https://host/b", "https://host/a"], ["https://host/a", "https://host/b"]),
    ],
)
def test_a_source_is_normalised_and_survives_storage(
    source: str | list[str], addresses: str | list[str]
) -> None:
    parsed_source = spec.parse_source(source)
    assert spec.source_of(parsed_source.kept()) == parsed_source
    assert parsed_source.written() == addresses


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://host/a", "cannot be followed"),
        ("./docs", "cannot be followed"),
        ("https://me:secret@host/", "user name or password"),
        ("https://ho st/", "not a valid address"),
        ("s3://UPPER/x", "not a valid bucket name"),
        (["s3://bucket/a"], "can contain only http:// and https:// addresses"),
        ("git+ssh://git@host/a.git", "cannot be followed"),
        ("git+https://me:secret@host/a.git", "user name or password"),
        ("git+https://host/", "not a repository"),
        ("git+https://host/a@-x", "not a valid branch"),
        ("git+https://host/a@b..c", "not a valid branch"),
        ("git+https://host/a@b:c", "not a valid branch"),
        ("git+https://host/a#egg=x", "subdirectory=FOLDER"),
        ("git+https://host/a#subdirectory=../x", "subdirectory=FOLDER"),
        (["git+https://host/a"], "cannot be followed"),
        ("webdav+https://me:secret@host/", "user name or password"),
        ("webdav+https://host/a?b=c", "is not a folder"),
        ("webdav+s3://host/a", "cannot be followed"),
        ("webdav://host/a", "cannot be followed"),
        ("imaps://me:secret@host/", "user name or password"),
        ("imaps://host/a?b", "not a mail folder"),
        ("imaps://host/a%0Ab", "not a mail folder"),
        ("imaps:///INBOX", "cannot be followed"),
        (["imaps://host/a"], "cannot be followed"),
        ([], "1 to 10,000 addresses"),
        ("https://host:99999999/", "not a valid URL"),
    ],
)
def test_an_invalid_source_is_refused_with_a_reason(source: str | list[str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as error:
        spec.parse_source(source)
    assert error.value.param == "source"
    assert "secret" not in error.value.message
