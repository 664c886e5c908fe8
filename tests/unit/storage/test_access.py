"""The access list: what it gives, against a plain dict; what it refuses; what damage does to it."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipvcs.errors import LocalProtocolError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.storage import access
from ipvcs.storage.access import (
    DEFAULT_RIGHTS,
    MAX_COMPONENTS,
    MAX_PATH,
    AccessEntry,
    AccessList,
    AccessListFullError,
    RepositoryPathError,
    Right,
    RightsError,
    check_repository_path,
    parse_repository_path,
    parse_rights,
    show_repository_path,
    show_rights,
)
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.home import Home, open_home
from tests.strategies import peer_ids

CHECKOUT = Path(__file__).parents[3]
ALICE, BOB = (PeerId.from_public_key(key) for key in (b"\x08\x01alice", b"b" * 43))
LONGEST = PeerId.from_public_key(b"k" * 42)
CREATE, UPDATE, FORCE, DELETE, TAG = Right
TEAM = (b"team",)
PROJECT = (b"team", b"project")

components = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)
paths = st.lists(components, max_size=MAX_COMPONENTS).map(tuple).filter(lambda path: sum(map(len, path)) <= MAX_PATH)
rights_sets = st.frozensets(st.sampled_from(Right), min_size=1)


@pytest.fixture
def listed(home: Home) -> AccessList:
    return AccessList(home.datastore)


def test_an_entry_counts_for_its_path_and_all_below_it_and_for_nothing_else(listed: AccessList) -> None:
    listed.add(ALICE, PROJECT, DEFAULT_RIGHTS)
    assert listed.rights_of(ALICE, PROJECT) == listed.rights_of(ALICE, (*PROJECT, b"x", b"y")) == DEFAULT_RIGHTS
    for path in ((), TEAM, (b"project",), (b"team", b"proj"), (b"team", b"project2"), (b"teamproject",)):
        assert listed.rights_of(ALICE, path) == frozenset(), path
    assert listed.rights_of(BOB, PROJECT) == frozenset()


def test_what_several_entries_give_adds_up(listed: AccessList) -> None:
    listed.add(ALICE, (), [TAG])
    listed.add(ALICE, PROJECT, [UPDATE])
    assert listed.add(ALICE, PROJECT, [FORCE]) == AccessEntry(ALICE, PROJECT, frozenset((UPDATE, FORCE)))
    assert listed.rights_of(ALICE, PROJECT) == {TAG, UPDATE, FORCE}
    assert listed.rights_of(ALICE, TEAM) == {TAG}


def test_rights_are_taken_one_by_one_and_the_entry_goes_with_the_last(listed: AccessList) -> None:
    listed.add(ALICE, TEAM, [UPDATE, TAG])
    assert not listed.remove(ALICE, TEAM, [DELETE])
    assert listed.remove(ALICE, TEAM, [DELETE, TAG])
    assert listed.entries() == [AccessEntry(ALICE, TEAM, frozenset((UPDATE,)))]
    assert listed.remove(ALICE, TEAM, [UPDATE])
    assert listed.entries() == []
    assert not listed.remove(ALICE, TEAM, [UPDATE])


def test_a_whole_entry_goes_and_those_above_and_below_stay(listed: AccessList) -> None:
    for path in ((), TEAM, PROJECT):
        listed.add(ALICE, path, DEFAULT_RIGHTS)
    listed.add(BOB, TEAM, DEFAULT_RIGHTS)
    assert listed.remove(ALICE, TEAM)
    assert not listed.remove(ALICE, TEAM)
    assert [(entry.peer, entry.path) for entry in listed.entries()] == [(ALICE, ()), (BOB, TEAM), (ALICE, PROJECT)]


def test_entries_are_in_the_order_of_paths_and_then_of_peers(listed: AccessList) -> None:
    wanted = [(path, peer) for path in ((), (b"a",), (b"a", b"b"), (b"a\x01",), (b"b",)) for peer in (ALICE, BOB)]
    for path, peer in reversed(wanted):
        listed.add(peer, path, [TAG])
    assert [(entry.path, entry.peer) for entry in listed.entries()] == sorted(wanted)


def test_a_peer_is_known_as_long_as_it_has_an_entry_anywhere(listed: AccessList) -> None:
    assert not listed.is_known(ALICE)
    listed.add(ALICE, PROJECT, [TAG])
    assert listed.is_known(ALICE)
    assert not any(map(listed.is_known, (BOB, LONGEST, PeerId(ALICE.raw[:-1]), PeerId(ALICE.raw + b"x"))))
    listed.remove(ALICE, PROJECT)
    assert not listed.is_known(ALICE)


def test_the_list_is_empty_without_entries(listed: AccessList) -> None:
    assert listed.is_empty()
    listed.add(ALICE, (b"x",), DEFAULT_RIGHTS)
    assert not listed.is_empty()
    listed.remove(ALICE, (b"x",))
    assert listed.is_empty()


def test_a_change_is_durable_even_where_blocks_need_not_be(
    listed: AccessList, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(Datastore, "sync_now", lambda _self: synced.append(len(listed.entries())))
    listed.add(ALICE, (), [TAG])
    listed.remove(ALICE, ())
    assert synced == [1, 0]
    with open_home(home.path) as again:
        assert AccessList(again.datastore).entries() == []


def test_what_another_process_adds_counts_at_once(listed: AccessList, home: Home) -> None:
    code = (
        "import sys, pathlib\n"
        "from ipvcs.multiformats.peer_id import PeerId\n"
        "from ipvcs.storage.access import AccessList, Right\n"
        "from ipvcs.storage.datastore import open_datastore\n"
        "peer = PeerId.parse(sys.argv[2])\n"
        "AccessList(open_datastore(pathlib.Path(sys.argv[1]))).add(peer, (b'team',), [Right.FORCE])"
    )
    listed.add(ALICE, TEAM, [TAG])
    command = [sys.executable, "-c", code, str(home.path / "datastore"), str(ALICE)]
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=60)
    assert listed.rights_of(ALICE, TEAM) == {TAG, FORCE}


def test_the_list_is_bounded_and_says_how_to_go_on(listed: AccessList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_ENTRIES", 2)
    listed.add(ALICE, (), [TAG])
    listed.add(BOB, (), [TAG])
    with pytest.raises(AccessListFullError, match="has 2 entries") as caught:
        listed.add(ALICE, TEAM, [TAG])
    assert "ipvcs access rm" in str(caught.value.hint)
    listed.add(ALICE, (), [FORCE])
    listed.remove(BOB, ())
    listed.add(ALICE, TEAM, [TAG])
    assert [entry.peer for entry in listed.entries()] == [ALICE, ALICE]


def test_the_longest_key_fits(listed: AccessList) -> None:
    path = (*[b"x"] * (MAX_COMPONENTS - 1), b"y" * (MAX_PATH - MAX_COMPONENTS + 1))
    listed.add(LONGEST, path, Right)
    assert listed.rights_of(LONGEST, path) == set(Right)


def test_an_entry_without_rights_is_not_made(listed: AccessList) -> None:
    with pytest.raises(LocalProtocolError):
        listed.add(ALICE, (), [])
    assert listed.entries() == []


GOOD_KEY = bytes((len(BOB.raw),)) + BOB.raw


@pytest.mark.parametrize(
    ("key", "row"),
    [
        (GOOD_KEY, b""),
        (GOOD_KEY, b"all"),
        (GOOD_KEY, b"create,"),
        (GOOD_KEY, b"update,create"),
        (GOOD_KEY, b"create,create"),
        (GOOD_KEY, b"create, update"),
        (GOOD_KEY, b"create,everything"),
        (GOOD_KEY, b"create\xff"),
        (b"\0", b"create"),
        (GOOD_KEY[:-1], b"create"),
        (b"\xff" + BOB.raw, b"create"),
        (b"\x22" + b"x" * 34, b"create"),
        (GOOD_KEY + b"\0", b"create"),
        (GOOD_KEY + b"a\0", b"create"),
        (GOOD_KEY + b"a\0..", b"create"),
        (GOOD_KEY + b"a/b", b"create"),
    ],
)
def test_a_damaged_row_gives_no_rights_and_does_not_stop_the_rest(
    listed: AccessList, home: Home, caplog: pytest.LogCaptureFixture, key: bytes, row: bytes
) -> None:
    listed.add(ALICE, PROJECT, [TAG])
    with home.datastore.write() as txn:
        txn.put(key, row, db=home.datastore.access)
    assert listed.entries() == [AccessEntry(ALICE, PROJECT, frozenset((TAG,)))]
    assert f"passed over a damaged entry of the access list, {key.hex()}: " in caplog.text
    assert not listed.is_known(BOB)
    assert listed.rights_of(BOB, ()) == listed.rights_of(BOB, PROJECT) == frozenset()
    assert listed.rights_of(ALICE, PROJECT) == {TAG}


def test_a_damaged_row_is_mended_by_adding_and_can_be_removed(listed: AccessList, home: Home) -> None:
    for mend in (lambda: listed.add(BOB, (), [TAG]), lambda: listed.remove(BOB, ())):
        with home.datastore.write() as txn:
            txn.put(GOOD_KEY, b"everything", db=home.datastore.access)
        assert not listed.remove(BOB, (), [CREATE])
        assert mend()
    assert listed.entries() == []
    with home.datastore.read() as txn:
        assert txn.stat(home.datastore.access)["entries"] == 0


BAD_PATHS = [
    ((b"",), "is empty"),
    ((b"a", b"", b"b"), "is empty"),
    ((b".",), "'.' leads elsewhere"),
    ((b"a", b".."), "'..' leads elsewhere"),
    ((b"a\0b",), "slash or NUL"),
    ((b"a/b",), "slash or NUL"),
    ((b"x",) * (MAX_COMPONENTS + 1), "more than 16 components"),
    ((b"x" * (MAX_PATH + 1),), "more than 255 bytes"),
    ((b"x" * 200, b"y" * 56), "more than 255 bytes"),
]


@pytest.mark.parametrize(("path", "why"), BAD_PATHS)
def test_a_path_where_no_repository_can_be_is_refused_everywhere(
    listed: AccessList, path: tuple[bytes, ...], why: str
) -> None:
    """Most of all where rights are asked for: `a<NUL>b` must not be taken for `a`, `b`."""
    for ask in (
        lambda: check_repository_path(path),
        lambda: listed.add(ALICE, path, [TAG]),
        lambda: listed.remove(ALICE, path),
        lambda: listed.rights_of(ALICE, path),
    ):
        with pytest.raises(RepositoryPathError, match=why) as caught:
            ask()
        assert caught.value.path == path
    assert listed.entries() == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()), ("/", ()), ("team", TEAM), ("/team", TEAM), ("team/project", PROJECT), ("/team/project/", PROJECT),
        ("größe", ("größe".encode(),)), ("\udcff", (b"\xff",)), ("a b", (b"a b",)), ("/...", (b"...",)),
    ],
)  # fmt: skip
def test_a_path_is_typed_with_or_without_a_slash(text: str, path: tuple[bytes, ...]) -> None:
    assert parse_repository_path(text) == path


@pytest.mark.parametrize(
    "text", ["//a", "a//b", ".", "a/../b", "a/./b", "a\0b", "x/" * 17, "x" * 256, "\ud800", "é" * 128]
)
def test_a_typed_path_where_no_repository_can_be_is_wrong_usage_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError, match="no repository can be at ") as caught:
        parse_repository_path(text)
    assert str(caught.value).isprintable()
    assert "team/project" in str(caught.value.hint)


@given(paths)
def test_a_path_is_parsed_back_from_how_programs_write_it(path: tuple[bytes, ...]) -> None:
    check_repository_path(path)
    text = b"/".join(path).decode("utf-8", "surrogateescape")
    assert parse_repository_path(text) == parse_repository_path(f"/{text}") == path


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
def test_a_shown_path_is_printable_and_no_other_is_written_so(one: list[bytes], other: list[bytes]) -> None:
    shown = show_repository_path(one)
    assert shown.isprintable()
    if b"" not in one and b"" not in other:
        assert (shown == show_repository_path(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), "/"),
        (PROJECT, "/team/project"),
        ((b"\x1b[2J", "\u202egnp".encode()), r"/\x1b[2J/\u202egnp"),
        ((b"\xff", rb"\xff"), r"/\xff/\\xff"),
        ((b"a/b", "größe".encode()), r"/a\x2fb/größe"),
        ((b"a\nb", b"a\0b"), r"/a\nb/a\x00b"),
    ],
)
def test_a_shown_path_cannot_drive_a_terminal(path: tuple[bytes, ...], shown: str) -> None:
    assert show_repository_path(path) == shown


def test_rights_are_named_in_any_order_and_shown_in_theirs() -> None:
    assert parse_rights("tag, create") == {TAG, CREATE}
    assert parse_rights("all") == set(Right)
    assert show_rights(reversed(Right)) == "create,update,force,delete,tag"
    assert show_rights(DEFAULT_RIGHTS) == "create,update,tag"
    for text in ("", ",", "create,", "CREATE", "create,all", "nonsense"):
        with pytest.raises(RightsError) as caught:
            parse_rights(text)
        assert "`all`" in str(caught.value.hint)


@given(rights_sets)
def test_rights_are_parsed_back_from_how_they_are_shown(rights: frozenset[Right]) -> None:
    assert parse_rights(show_rights(rights)) == rights


_PEERS = st.sampled_from([ALICE, BOB, LONGEST])
_PATHS = st.lists(st.sampled_from([b"a", b"b", b"a\x01", b"ab"]), max_size=3).map(tuple)


class AccessMachine(RuleBasedStateMachine):
    """The list is a dict of sets, whatever is added, removed and reopened."""

    @initialize()
    def make(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipvcs-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.datastore = open_datastore(self.directory, make=True)
        self.model: dict[tuple[tuple[bytes, ...], PeerId], frozenset[Right]] = {}

    def teardown(self) -> None:
        if hasattr(self, "datastore"):
            self.datastore.close()
            shutil.rmtree(self.directory)

    @property
    def listed(self) -> AccessList:
        return AccessList(self.datastore)

    @rule(peer=_PEERS, path=_PATHS, rights=rights_sets)
    def add(self, peer: PeerId, path: tuple[bytes, ...], rights: frozenset[Right]) -> None:
        self.model[path, peer] = self.model.get((path, peer), frozenset()) | rights
        assert self.listed.add(peer, path, rights) == AccessEntry(peer, path, self.model[path, peer])

    @rule(peer=_PEERS, path=_PATHS)
    def remove(self, peer: PeerId, path: tuple[bytes, ...]) -> None:
        assert self.listed.remove(peer, path) == (self.model.pop((path, peer), None) is not None)

    @rule(peer=_PEERS, path=_PATHS, rights=st.frozensets(st.sampled_from(Right)))
    def remove_some(self, peer: PeerId, path: tuple[bytes, ...], rights: frozenset[Right]) -> None:
        before = self.model.pop((path, peer), frozenset())
        if before - rights:
            self.model[path, peer] = before - rights
        assert self.listed.remove(peer, path, rights) == bool(before & rights)

    @rule()
    def reopen(self) -> None:
        self.datastore.close()
        self.datastore = open_datastore(self.directory)

    @rule(peer=_PEERS, path=_PATHS)
    def ask(self, peer: PeerId, path: tuple[bytes, ...]) -> None:
        given_there = [
            rights for (where, who), rights in self.model.items() if who == peer and where == path[: len(where)]
        ]
        assert self.listed.rights_of(peer, path) == frozenset().union(*given_there)
        assert self.listed.is_known(peer) == any(who == peer for _where, who in self.model)

    @invariant()
    def entries_are_those_of_the_model(self) -> None:
        if hasattr(self, "datastore"):
            wanted = [AccessEntry(peer, path, rights) for (path, peer), rights in sorted(self.model.items())]
            assert self.listed.entries() == wanted


TestAccessMachine = AccessMachine.TestCase
TestAccessMachine.settings = settings(
    max_examples=max(25, settings.default.max_examples // 4) if settings.default else 25, stateful_step_count=30
)


@given(st.dictionaries(st.tuples(peer_ids(), paths), rights_sets, max_size=5))
def test_entries_of_any_peers_and_paths_come_back(
    wanted: dict[tuple[PeerId, tuple[bytes, ...]], frozenset[Right]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        datastore = open_datastore(Path(path), make=True)
        try:
            listed = AccessList(datastore)
            for (peer, where), rights in wanted.items():
                listed.add(peer, where, rights)
            found = {(entry.peer, entry.path): entry.rights for entry in listed.entries()}
        finally:
            datastore.close()
    assert found == wanted
