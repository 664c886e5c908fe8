import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.git.headers import CommitHeader, HeaderError, TagHeader, parse_commit, parse_tag
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType

SHA1 = ObjectFormat.SHA1
TREE = ObjectId(bytes(range(0xA0, 0xB4)))
ONE, TWO = ObjectId(b"\x11" * 20), ObjectId(b"\x22" * 20)
T, P1, P2 = (b"%b %b\n" % (key, oid.hex.encode()) for key, oid in ((b"tree", TREE), (b"parent", ONE), (b"parent", TWO)))
AUTHOR, COMMITTER = b"author A <a> 1 +0000\n", b"committer C <c> 2 +0000\n"


@pytest.mark.parametrize(
    ("body", "parents", "author", "committer"),
    [
        (T + AUTHOR + COMMITTER + b"\nmessage\n", (), b"A <a>", b"C <c>"),
        (T + P1 + AUTHOR + COMMITTER, (ONE,), b"A <a>", b"C <c>"),
        (T + P1 + P2 + P1 + AUTHOR + COMMITTER + b"\n", (ONE, TWO, ONE), b"A <a>", b"C <c>"),
        (T.replace(b"a", b"A") + AUTHOR, (), b"A <a>", None),  # hex of either case
        (T + COMMITTER + AUTHOR, (), b"A <a>", b"C <c>"),  # any order
        (T + b"encoding x\n" + AUTHOR + b"gpgsig -\n x\n author B <b>\n" + COMMITTER, (), b"A <a>", b"C <c>"),
        (T + AUTHOR + b"author B <b>\n", (), b"A <a>", None),  # the first counts
        (T + b"author nobody\n" + AUTHOR, (), None, None),  # even if it names nobody
        (T + b"author A <a>", (), b"A <a>", None),  # no newline at the end
        (T + b"author  <>\nauthors A <a>\n", (), b" <>", None),
        (T + b"authorA <a>\n", (), None, None),
        (T + b"\n" + P1 + AUTHOR, (), None, None),  # all message
        (T + b"\n", (), None, None),
        (T + AUTHOR + P1 + COMMITTER, (), b"A <a>", b"C <c>"),  # git looks for parents after the tree only
        (T + P1 + AUTHOR + b"\n" + COMMITTER, (ONE,), b"A <a>", None),
        (T + P1[:-1], (), None, None),  # too short for a parent line
        (T + P1[:-10], (), None, None),
        (T + b"parent x\n", (), None, None),
        (T + b"parent", (), None, None),
        (T + AUTHOR.replace(b"A", b"\0\xff"), (), b"\0\xff <a>", None),
    ],
)
def test_a_commit_header_parses_as_far_as_git_reads_it(
    body: bytes, parents: tuple[ObjectId, ...], author: bytes | None, committer: bytes | None
) -> None:
    assert parse_commit(body, SHA1) == CommitHeader(TREE, parents, author, committer)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n", T[:-1], T,  # git wants a byte after the line
        b" " + T + AUTHOR, T.replace(b"tree ", b"tree  ") + AUTHOR, T.replace(b"tree", b"Tree") + AUTHOR,
        T[:-2] + b"\n" + AUTHOR, T[:-1] + b"0\n" + AUTHOR, T[:-2] + b"g\n" + AUTHOR, T[:-1] + b" \n" + AUTHOR,
        T[:-1] + b"\r\n" + AUTHOR, P1 + T + AUTHOR, AUTHOR + T,
        T + P1,  # the same for parents
        T + P1 + P2, T + P1.replace(b"1", b"x", 1) + AUTHOR, T + P1[:-2] + b"\n" + AUTHOR + COMMITTER,
        T + b"parent x\n" + AUTHOR + COMMITTER,
    ],
)  # fmt: skip
def test_a_commit_header_that_git_refuses_does_not_parse(body: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_commit(body, SHA1)


def test_ids_are_as_long_as_the_object_format_says() -> None:
    tree = ObjectId(bytes(range(32)))
    body = b"tree %b\n" % tree.hex.encode() + AUTHOR
    assert parse_commit(body, ObjectFormat.SHA256).tree == tree
    with pytest.raises(HeaderError):
        parse_commit(body, SHA1)


O = b"object %b\n" % TREE.hex.encode()  # noqa: E741


@pytest.mark.parametrize(
    ("body", "git_type", "tagger"),
    [
        (O + b"type commit\ntag v1\ntagger A <a> 1 +0000\n\nmessage\n", GitType.COMMIT, b"A <a>"),
        (O + b"type tag\ntag v\n\n", GitType.TAG, None),
        (O + b"type tree\ntag v1\n", GitType.TREE, None),
        (O + b"type blob\ntag \n\n", GitType.BLOB, None),
        (O + b"type blob\ntag v1\ntagger A <a>", GitType.BLOB, b"A <a>"),
        (O + b"type blob\ntag v1\ntagger nobody\n", GitType.BLOB, None),
        (O + b"type blob\ntag v1\nx y\ntagger A <a>\n", GitType.BLOB, None),  # not directly after the name
        (O + b"type blob\ntag v1\n\ntagger A <a>\n", GitType.BLOB, None),
        (O.replace(b"a", b"A") + b"type blob\ntag v1\n", GitType.BLOB, None),
    ],
)
def test_a_tag_header_parses_as_far_as_git_reads_it(body: bytes, git_type: GitType, tagger: bytes | None) -> None:
    assert parse_tag(body, SHA1) == TagHeader(TREE, git_type, tagger)


@pytest.mark.parametrize(
    "body",
    [
        b"", O, O + b"type tag\ntag v\n",  # a byte shorter than git takes
        O + b"type Commit\ntag v1\n", O + b"type commit \ntag v1\n", O + b"type commit\ntag v1",
        O + b"type commit\ntagv1\n", O + b"type blob\ntag \n",
        O + b"tag v1\ntype commit\n", O + b"type commit\ntagger A <a> 1 +0000\n\n", O[:-2] + b"\ntype commit\ntag v1\n",
        b"Object" + O[6:] + b"type commit\ntag v1\n", O + b"\ntype commit\ntag v1\n",
    ],
)  # fmt: skip
def test_a_tag_header_that_git_refuses_does_not_parse(body: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_tag(body, SHA1)


PIECES = st.sampled_from(
    [T, P1, P2, AUTHOR, COMMITTER, O, b"type tag\n", b"tag x\n", b"\n", b" ", b"parent ", b"x", b"\0"]
)


@given(st.lists(PIECES | st.binary(max_size=5), max_size=8).map(b"".join), st.sampled_from(ObjectFormat))
def test_garbage_raises_only_header_error(body: bytes, object_format: ObjectFormat) -> None:
    for parse in (parse_commit, parse_tag):
        try:
            parse(body, object_format)
        except HeaderError:
            continue
