import pytest

from ipvcs.objects.git.person import parse_person


@pytest.mark.parametrize(
    ("ident", "person"),
    [
        (b"A U Thor <a@example.com> 1 +0000", b"A U Thor <a@example.com>"),
        (b"A <a>", b"A <a>"),
        (b" <> 0 +0000", b" <>"),
        (b"<a@b> 0 +0000", b"<a@b>"),
        (b"A  B <a> <b> 0 +0000", b"A  B <a> <b>"),
        (b"A <a>b> 0 +0000", b"A <a>b>"),
        (b"\xff\xfe <\xfd> 0", b"\xff\xfe <\xfd>"),
        (b"", None),
        (b"A 0 +0000", None),
        (b"A <a 0 +0000", None),
        (b"A a> 0 +0000", None),
        (b"A > < 0 +0000", None),
    ],
)
def test_a_person_is_everything_up_to_the_last_bracket(ident: bytes, person: bytes | None) -> None:
    assert parse_person(ident) == person
