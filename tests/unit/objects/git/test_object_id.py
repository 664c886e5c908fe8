import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, ObjectIdError, git_oid, verify_oid


def test_the_empty_tree_has_its_well_known_ids() -> None:
    assert str(git_oid(ObjectFormat.SHA1, b"tree 0\0")) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    sha256 = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
    assert git_oid(ObjectFormat.SHA256, b"tree 0\0").hex == sha256


@given(st.sampled_from(ObjectFormat), st.binary())
def test_text_and_bytes_name_one_id(object_format: ObjectFormat, data: bytes) -> None:
    oid = git_oid(object_format, data)
    assert len(oid.raw) == object_format.size
    assert ObjectId.parse(str(oid)) == ObjectId.parse(str(oid).upper()) == oid


@pytest.mark.parametrize("text", ["", "4b825dc", "g" * 40, "4" * 41, "4" * 39 + " ", "\u0664" * 40, "4" * 63])
def test_text_that_is_no_full_id_is_refused(text: str) -> None:
    with pytest.raises(ObjectIdError, match="is not a full object id"):
        ObjectId.parse(text)


def test_a_damaged_payload_is_refused_with_both_ids() -> None:
    expected = git_oid(ObjectFormat.SHA1, b"blob 1\0a")
    with pytest.raises(IntegrityError, match=f"{expected}.*{hashlib.sha1(b'blob 1' + bytes(1) + b'b').hexdigest()}"):
        verify_oid(ObjectFormat.SHA1, b"blob 1\0b", expected)
