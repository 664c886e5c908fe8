"""What the owner tells a pusher, in a home with a name that leads to directories, files and repositories."""

import logging
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ipvcs.git_bridge.manifest import Manifest
from ipvcs.git_bridge.place import Place, find_place, put_at
from ipvcs.git_bridge.published_tree import PublishedTree, write_published
from ipvcs.git_bridge.push_admission import denial, is_known, refusal, standing
from ipvcs.git_bridge.push_replies import Failure, FailureCode, Standing, decode_reply, encode_reply
from ipvcs.git_bridge.push_requests import Offer, OfferedPack, Query, Update
from ipvcs.git_bridge.refname import RefName
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.objects.directory import build_directory
from ipvcs.objects.git.layout import LAYOUT, put_file
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.access import AccessList, Right, parse_repository_path
from ipvcs.storage.home import Home, open_home
from tests.fakes.memory_network import key_of
from tests.unit.node.naming.records import ALICE, BOB, record

NAME = ALICE.peer_id
PUSHER, STRANGER = key_of("pusher").peer_id, key_of("stranger").peer_id
_MEMORY = Path("/dev/shm")


@pytest.fixture
def home() -> Iterator[Home]:
    with (
        tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path,
        open_home(Path(path) / "home") as home,
    ):
        yield home


@pytest.fixture
def repository(home: Home) -> Cid:
    """A repository at `/team/project`, beside a directory `docs`, one with a file `config`, and a file `notes`."""
    manifest = Manifest(ObjectFormat.SHA1, "unixfs-v1-2025", RefName(b"refs/heads/main"), (), None, 1, 0, NAME)
    with home.blocks.writing() as writer:
        built = write_published(PublishedTree(manifest, {}, {}, ()), {}, writer)
        file = put_file(b"a file", writer)
        config = build_directory([file.link(b"config")], LAYOUT, writer)
        docs = build_directory([file.link(b"index")], LAYOUT, writer)
        team = build_directory([config.link(b"configured"), docs.link(b"docs"), file.link(b"notes")], LAYOUT, writer)
        place = Place(
            (b"team", b"project"), (build_directory([team.link(b"team")], LAYOUT, writer).cid, team.cid, None)
        )
        root = put_at(place, built, writer, writer)
    publish(home, f"/ipfs/{root.cid}")
    assert find_place(home.blocks, root.cid, (b"team", b"project")).repository == built.cid
    return built.cid


def publish(home: Home, value: str, name: PeerId = NAME) -> None:
    key = ALICE if name == NAME else BOB
    NameStore(home.datastore).change_own(name, lambda _known: KnownName(own=OwnName(record(key, value), 60.0)))


def allow(home: Home, *path: bytes, rights: tuple[Right, ...] = (Right.UPDATE,)) -> None:
    AccessList(home.datastore).add(PUSHER, path, rights)


def ask(home: Home, *path: bytes, pusher: PeerId = PUSHER) -> Standing | Failure:
    """The answer, which has to fit into a reply."""
    answer = standing(home, NAME, pusher, Query(path))
    decoded = decode_reply(encode_reply(answer))
    assert decoded == answer
    return answer


def failure(answer: Standing | Failure | None, code: FailureCode) -> Failure:
    assert isinstance(answer, Failure)
    assert answer.code is code
    return answer


def test_a_pusher_learns_where_the_repository_stands_what_he_may_do_and_how_much(home: Home, repository: Cid) -> None:
    allow(home, b"team", rights=(Right.CREATE, Right.TAG))
    allow(home, b"team", b"project")
    assert ask(home, b"team", b"project") == Standing(
        repository, frozenset(("create", "tag", "update")), 1 << 30, 2_000_000
    )


@pytest.mark.parametrize("path", [(b"team", b"new"), (b"team", b"docs"), (b"team", b"docs", b"new"), (b"other", b"a")])
def test_where_there_is_no_repository_yet_but_may_be_one_there_is_nothing(
    home: Home, repository: Cid, path: tuple[bytes, ...]
) -> None:
    allow(home)
    answer = ask(home, *path)
    assert isinstance(answer, Standing)
    assert answer.repository is None


def test_under_a_name_that_was_never_published_there_is_nothing(home: Home) -> None:
    allow(home)
    publish(home, "/ipfs/bafkqaaa", BOB.peer_id)  # another key of the home's
    for path in ((), (b"a", b"b")):
        answer = ask(home, *path)
        assert isinstance(answer, Standing)
        assert answer.repository is None


def test_what_the_network_says_of_our_name_is_not_what_we_have_published(home: Home) -> None:
    allow(home)
    NameStore(home.datastore).write({NAME: KnownName(seen=record(ALICE, "/ipfs/bafkqaaa"), confirmed=1.0)})
    answer = ask(home)
    assert isinstance(answer, Standing)
    assert answer.repository is None


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ((b"team", b"notes"), "there is something else, which is no directory"),
        ((b"team", b"notes", b"below"), "there is something else, which is no directory"),
        ((b"team", b"configured"), "there is 'config' already, and no repository"),
        ((b"team", b"project", b"heads"), "'heads' belongs to the repository that lies there"),
    ],
)
def test_where_no_repository_can_be_the_pusher_is_told_why(
    home: Home, repository: Cid, path: tuple[bytes, ...], said: str
) -> None:
    allow(home, b"team")
    answer = failure(ask(home, *path), FailureCode.BAD_REQUEST)
    assert said in answer.message
    assert answer.hint == "choose another path behind the name"


@pytest.mark.parametrize("path", [(), (b"team",), (b"team", b"project"), (b"team", b"none"), (b"none",)])
def test_who_has_no_right_learns_nothing_of_what_there_is(home: Home, repository: Cid, path: tuple[bytes, ...]) -> None:
    """Neither a stranger nor who has rights elsewhere: the words differ in the path alone."""
    allow(home, b"elsewhere")
    shown = "/" + b"/".join(path).decode()
    for who in (PUSHER, STRANGER):
        answer = failure(ask(home, *path, pusher=who), FailureCode.DENIED)
        assert answer.message == f"'{who}' may not push at '{shown}'"
        assert answer.hint == f"ask the owner for access, which is given with `ipvcs access add {who} {shown}`"


def test_who_has_no_right_is_told_before_anything_is_read(home: Home) -> None:
    publish(home, "/ipfs/bafybeigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")  # not here
    failure(ask(home, b"a"), FailureCode.DENIED)
    allow(home)
    failure(ask(home, b"a"), FailureCode.FAILED)


@pytest.mark.parametrize(
    "value",
    [
        "/ipfs/bafybeigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy/lost",
        "/ipns/example.com",
        "/ipfs/nonsense",
    ],
)
def test_what_is_wrong_in_the_home_stands_in_the_log_and_is_not_told(
    home: Home, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    allow(home)
    publish(home, value)
    with caplog.at_level(logging.WARNING):
        answer = failure(ask(home), FailureCode.FAILED)
    assert answer.message == "the owner's node cannot read its home"
    assert caplog.records[0].exc_info is not None


def test_a_path_of_odd_bytes_is_shown_in_a_command_that_a_shell_takes_as_one_word() -> None:
    path = (b"a b", b"`x`$(y)", b"'")
    hint = denial(PUSHER, path).hint
    assert hint.isprintable()
    words = shlex.split(hint.partition("`")[2].removesuffix("`"))
    assert words[:4] == ["ipvcs", "access", "add", str(PUSHER)]
    assert len(words) == 5
    assert parse_repository_path(words[4]) == path


def test_a_path_that_nobody_can_type_is_not_in_the_command() -> None:
    """Escaped, it would give rights at another one."""
    for odd in (b"\x1b[31m", b"\xff", b"back\\slash"):
        hint = denial(PUSHER, (b"team", odd)).hint
        assert hint.isprintable()
        assert hint.endswith(f"`ipvcs access add {PUSHER} PATH`")


def test_the_longest_denial_fits_into_a_failure() -> None:
    for path in ((b"\xff" * 255,), (b"'" * 255,), tuple([b"\x1b" * 15] * 16)):
        answer = denial(PUSHER, path)
        decoded = decode_reply(encode_reply(answer))
        assert isinstance(decoded, Failure)
        assert f"ipvcs access add {PUSHER}" in decoded.hint


def test_a_denial_without_a_path_names_none() -> None:
    answer = denial(STRANGER, None)
    assert answer.message == f"'{STRANGER}' may not push"
    assert answer.hint == f"ask the owner for access, which is given with `ipvcs access add {STRANGER} PATH`"


def test_who_is_in_the_list_is_known(home: Home) -> None:
    allow(home, b"somewhere")
    assert is_known(home, PUSHER)
    assert not is_known(home, STRANGER)


CID = Cid.of(bytes(32))
PACK = OfferedPack(f"pack-{'ab' * 20}", CID, CID, 1000, 10)
UPDATE = Update(b"refs/heads/main", None, ObjectId(bytes(20)), cid=CID)
OFFER = Offer((b"team",), bytes(16), ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,), PACK)


def test_an_offer_within_the_limits_of_who_has_a_right_is_looked_at(home: Home) -> None:
    allow(home, b"team", rights=(Right.DELETE,))
    assert refusal(home, PUSHER, OFFER) is None
    assert refusal(home, PUSHER, replace(OFFER, pack=None)) is None
    largest = replace(PACK, size=1 << 30, objects=2_000_000)
    assert refusal(home, PUSHER, replace(OFFER, pack=largest)) is None


@pytest.mark.parametrize(
    ("pack", "said", "key"),
    [
        (
            replace(PACK, size=(1 << 30) + 1),
            "has 1,073,741,825 bytes, its receiver takes 1,073,741,824 at most",
            "Push.MaxBytes",
        ),
        (
            replace(PACK, objects=2_000_001),
            "has 2,000,001 objects, its receiver takes 2,000,000 at most",
            "Push.MaxObjects",
        ),
    ],
)
def test_a_pack_over_a_limit_is_refused_with_both_numbers(home: Home, pack: OfferedPack, said: str, key: str) -> None:
    allow(home)
    answer = failure(refusal(home, PUSHER, replace(OFFER, pack=pack)), FailureCode.LIMIT)
    assert said in answer.message
    assert f"`{key}`" in answer.hint


def test_the_limits_are_settings(home: Home) -> None:
    allow(home)
    home.config.set("Push.MaxBytes", 999)
    failure(refusal(home, PUSHER, OFFER), FailureCode.LIMIT)
    home.config.set("Push.MaxBytes", 1000)
    home.config.set("Push.MaxObjects", 9)
    failure(refusal(home, PUSHER, OFFER), FailureCode.LIMIT)
    answer = ask(home)
    assert isinstance(answer, Standing)
    assert (answer.max_bytes, answer.max_objects) == (1000, 9)


def test_an_offer_of_who_has_no_right_there_is_denied_whatever_its_size(home: Home) -> None:
    allow(home, b"team", b"project")  # below, not there
    large = replace(OFFER, pack=replace(PACK, size=1 << 40))
    for who in (PUSHER, STRANGER):
        assert refusal(home, who, large) == denial(who, (b"team",))


def test_a_list_that_cannot_be_read_denies_nobody_and_lets_nobody_in(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipvcs.storage.disk import DiskError

    def fail(*_args: object) -> frozenset[Right]:
        raise DiskError("cannot read '/home/owner/secret'", Path("/home/owner/secret"))

    monkeypatch.setattr(AccessList, "rights_of", fail)
    for answer in (ask(home), refusal(home, PUSHER, OFFER)):
        assert "secret" not in repr(failure(answer, FailureCode.FAILED))
