"""The ways to write a remote."""

import pytest

from ipvcs.git_bridge.remote_url import RemoteUrl, RemoteUrlError, parse_remote_url
from ipvcs.objects.block import Block
from tests.fakes.memory_network import key_of

NAME = key_of("alice").peer_id.to_base36()
CID = str(Block.of(b"root").cid)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"/ipns/{NAME}", RemoteUrl("ipns", NAME)),
        (f"/ipns/{NAME}/", RemoteUrl("ipns", NAME)),
        (f"/ipns/{NAME}/team/project.git", RemoteUrl("ipns", NAME, ("team", "project.git"))),
        ("/ipns/self", RemoteUrl("ipns", "self")),
        ("/ipns/example.com/a%20b", RemoteUrl("ipns", "example.com", ("a%20b",))),
        (f"ipns://{NAME}/a%20b", RemoteUrl("ipns", NAME, ("a b",))),
        (f"ipfs://{CID}", RemoteUrl("ipfs", CID)),
        (f"/ipfs/{CID}/x", RemoteUrl("ipfs", CID, ("x",))),
    ],
)
def test_the_forms(text: str, expected: RemoteUrl) -> None:
    found = parse_remote_url(text)
    assert found == expected
    assert found.is_writable == (expected.namespace == "ipns")
    assert parse_remote_url(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/ipns", "/ipns/", NAME, f"ipns/{NAME}", f"https://example.com/ipns/{NAME}", "/ipld/x",
        "/ipfs/nonsense", f"/ipns/{NAME}/../x", f"/ipns/{NAME}/./x", f"/ipns/{NAME}//x", f"ipns://{NAME}/%2e%2e/x", f"ipns://{NAME}/a%00b",
        f"ipns://{NAME}/a%0Ab",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(RemoteUrlError) as caught:
        parse_remote_url(text)
    assert "ipfs::/ipns/" in (caught.value.hint or "")
