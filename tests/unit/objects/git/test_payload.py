import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.payload import MAX_HEADER, GitType, PayloadError, decode_header, make_payload, split_payload


@given(st.sampled_from(GitType), st.binary(max_size=200))
def test_splitting_undoes_making(git_type: GitType, body: bytes) -> None:
    assert split_payload(make_payload(git_type, body)) == (git_type, body)


@given(st.binary(max_size=60))
def test_garbage_raises_only_payload_error(data: bytes) -> None:
    try:
        git_type, body = split_payload(data)
    except PayloadError:
        return
    assert make_payload(git_type, body) == data


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"blob", b"blob 0", b"blob\x000", b"blob  0\0", b"blob 00\0", b"blob 01\0a", b"blob +1\0a", b"blob -1\0",
        b"blob 1 \0a", b"blob 2\0a", b"blob 0\0a", b"Blob 0\0", b"tre 0\0", b"blob \xc2\xb2\0aa", b"blob \xb2\0aa",
    ],
)  # fmt: skip
def test_a_malformed_header_or_wrong_size_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        split_payload(payload)


def test_the_longest_header_is_read() -> None:
    header = b"commit %d\0" % (2**64 - 1)
    assert len(header) == MAX_HEADER
    assert decode_header(header) == (GitType.COMMIT, 2**64 - 1, MAX_HEADER)
