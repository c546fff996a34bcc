"""AWS Signature Version 4, against the examples of its documentation (sig-v4-header-based-auth.html)."""

from datetime import UTC, datetime

from portico_server.blobs.s3 import BucketCredentials, encode_path, encode_query, sign_headers

WHO = BucketCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"


def test_getting_an_object_is_signed_as_documented() -> None:
    headers = sign_headers(WHO, "us-east-1", HOST, "/test.txt", "", NOW, {"Range": "bytes=0-9"})
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_listing_objects_is_signed_as_documented() -> None:
    headers = sign_headers(WHO, "us-east-1", HOST, "/", encode_query({"prefix": "J", "max-keys": "2"}), NOW)
    assert headers["authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


def test_the_token_of_temporary_credentials_is_sent_and_signed() -> None:
    headers = sign_headers(BucketCredentials("A", "B", "the-token"), "us-east-1", HOST, "/", "", NOW)
    assert headers["x-amz-security-token"] == "the-token"
    assert "x-amz-security-token" in headers["authorization"]


def test_secrets_do_not_appear_in_reprs() -> None:
    assert "wJalr" not in repr(WHO)
    assert "the-token" not in repr(BucketCredentials("A", "B", "the-token"))


def test_all_but_unreserved_characters_are_percent_encoded() -> None:
    assert encode_path("/a b+c/文~.txt", slashes=True) == "/a%20b%2Bc/%E6%96%87~.txt"
    assert encode_query({"prefix": "a/b=c", "delimiter": "/"}) == "delimiter=%2F&prefix=a%2Fb%3Dc"
