import hashlib
from collections.abc import Callable

import pytest
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import git_raw
from ipvcs.objects.data_model import Value
from ipvcs.objects.git_raw import GitRawError

TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
PARENT = "aa" * 20
WHO = "A U Thor <a@example.com> 1000000000 +0100"
PERSON: Value = {"name": "A U Thor", "email": "a@example.com", "date": "1000000000", "timezone": "+0100"}
NOBODY: Value = {"name": "", "email": "", "date": "", "timezone": ""}


def link(oid: str) -> Cid:
    code = multihash.SHA1 if len(oid) == 40 else multihash.SHA2_256
    return Cid.make(multihash.wrap(code, bytes.fromhex(oid)), codecs.GIT_RAW)


def raw(kind: str, body: str | bytes) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return b"%s %d\0" % (kind.encode(), len(body)) + body


def of_dulwich(made: ShaFile) -> bytes:
    block = raw(made.type_name.decode(), made.as_raw_string())
    assert hashlib.sha1(block).hexdigest() == made.id.decode()
    return block


def test_a_blob_is_its_bytes_with_the_header() -> None:
    block = of_dulwich(Blob.from_string(b"hello"))
    assert git_raw.decode(block) == b"blob 5\0hello"
    assert git_raw.links(block) == []


def test_a_tree_of_dulwich_maps_names_to_modes_and_links() -> None:
    tree = Tree()
    tree.add(b"a.txt", 0o100644, ObjectID(b"1" * 40))
    tree.add(b"dir", 0o040000, ObjectID(b"2" * 40))
    tree.add(b"sub", 0o160000, ObjectID(b"3" * 40))
    tree.add(b"caf\xe9", 0o120000, ObjectID(b"4" * 40))
    block = of_dulwich(tree)
    assert git_raw.decode(block) == {
        "a.txt": {"mode": "100644", "hash": link("1" * 40)},
        "dir": {"mode": "40000", "hash": link("2" * 40)},
        "sub": {"mode": "160000", "hash": link("3" * 40)},
        "caf\udce9": {"mode": "120000", "hash": link("4" * 40)},
    }
    assert git_raw.links(block) == [link(name * 40) for name in "142"], "submodules belong to another repository"


def test_a_commit_of_dulwich_has_the_keys_of_go_ipld_git() -> None:
    commit = Commit()
    commit.tree, commit.parents = ObjectID(TREE.encode()), [ObjectID(PARENT.encode()), ObjectID(b"b" * 40)]
    commit.author = commit.committer = b"A U Thor <a@example.com>"
    commit.author_time = commit.commit_time = 1000000000
    commit.author_timezone = commit.commit_timezone = 3600
    commit.encoding = b"latin-1"
    commit.message = b"caf\xe9\n\nmore\n"
    block = of_dulwich(commit)
    assert git_raw.decode(block) == {
        "tree": link(TREE),
        "parents": [link(PARENT), link("b" * 40)],
        "author": PERSON,
        "committer": PERSON,
        "encoding": "latin-1",
        "message": "caf\udce9\n\nmore\n",
        "mergetag": [],
        "other": [],
    }
    assert git_raw.links(block) == [link(TREE), link(PARENT), link("b" * 40)]


def test_a_tag_of_dulwich_has_the_keys_of_go_ipld_git() -> None:
    tag = Tag()
    tag.object = (Commit, ObjectID(PARENT.encode()))
    tag.name, tag.message = b"v1", b"release\n"
    tag.tagger, tag.tag_time, tag.tag_timezone = b"A U Thor <a@example.com>", 1000000000, 3600
    block = of_dulwich(tag)
    assert git_raw.decode(block) == {
        "object": link(PARENT),
        "type": "commit",
        "tag": "v1",
        "tagger": PERSON,
        "message": "release\n",
    }
    assert git_raw.links(block) == [link(PARENT)]


HEAD = f"tree {TREE}\nauthor {WHO}\ncommitter {WHO}\n"


def test_signatures_merge_tags_and_unknown_headers_are_kept() -> None:
    mergetag = f"mergetag object {PARENT}\n type commit\n tag v1\n tagger {WHO}\n \n note\n  indented\n"
    pgp = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n"
    ssh = "gpgsig -----BEGIN SSH SIGNATURE-----\n xyz\n -----END SSH SIGNATURE-----\n"
    commit = git_raw.decode(raw("commit", f"{HEAD}{mergetag}{pgp}HG:extra x\n\nmessage"))
    assert isinstance(commit, dict)
    tag: Value = {
        "object": link(PARENT), "type": "commit", "tag": "v1", "tagger": PERSON, "message": " note\n  indented\n",
    }  # fmt: skip
    assert commit["mergetag"] == [tag]
    assert commit["signature"] == " \n abc\n"
    assert commit["other"] == ["HG:extra x"]
    assert commit["message"] == "message"
    signed = git_raw.decode(raw("commit", f"{HEAD}{ssh}\nmessage"))
    assert isinstance(signed, dict)
    assert "signature" not in signed
    assert signed["other"] == ssh.splitlines()


def test_the_links_of_a_commit_leave_out_merge_tags() -> None:
    mergetag = f"mergetag object {'c' * 40}\n type commit\n \n x\n"
    body = f"tree {TREE}\nparent {PARENT}\nauthor {WHO}\n{mergetag}\nparent {'d' * 40}\n"
    assert git_raw.links(raw("commit", body)) == [link(TREE), link(PARENT)]


@pytest.mark.parametrize("message", ["", "\n", "\n\n", "\nx", "\nx\n\ny\n"])
def test_a_header_may_end_without_a_message(message: str) -> None:
    commit = git_raw.decode(raw("commit", HEAD.removesuffix("\n") + ("\n" + message if message else "")))
    assert isinstance(commit, dict)
    assert commit["message"] == message[1:]
    assert git_raw.links(raw("commit", f"tree {TREE}")) == [link(TREE)]


def test_a_tag_without_a_tagger_has_an_empty_one() -> None:
    tag = git_raw.decode(raw("tag", f"object {PARENT}\ntype commit\ntag v0.99\n\nold\n"))
    assert isinstance(tag, dict)
    assert tag["tagger"] == NOBODY


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("<a@b> 1 +0000", {"name": "", "email": "a@b", "date": "1", "timezone": "+0000"}),
        ("N  M <> 1 +0000", {"name": "N  M", "email": "", "date": "1", "timezone": "+0000"}),
        ("N <a b> 1", {"name": "N", "email": "a b", "date": "1", "timezone": ""}),
        ("N<a>", {"name": "N", "email": "a", "date": "", "timezone": ""}),
    ],
)
def test_an_odd_identity_is_read_as_far_as_it_goes(text: str, person: Value) -> None:
    commit = git_raw.decode(raw("commit", f"tree {TREE}\nauthor {text}\n\n"))
    assert isinstance(commit, dict)
    assert commit["author"] == person


def test_ids_of_a_sha256_repository_are_sha2_256_links() -> None:
    tree = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
    assert hashlib.sha256(raw("tree", "")).hexdigest() == tree
    assert git_raw.links(raw("commit", f"tree {tree}\n\n"), multihash.SHA2_256) == [link(tree)]
    entry = raw("tree", b"100644 a\0" + bytes.fromhex(tree))
    assert git_raw.decode(entry, multihash.SHA2_256) == {"a": {"mode": "100644", "hash": link(tree)}}


@pytest.mark.parametrize("read", [git_raw.decode, git_raw.links])
@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (b"", "not a Git object"),
        (b"blob", "not a Git object"),
        (b"note 0\0", "not a Git object"),
        (b"blob 5\0four", "declares size '5'"),
        (b"blob 04\0four", "declares size '04'"),
        (b"blob -1\0", "declares size"),
        (raw("tree", b"100644 a\0" + bytes(19)), "cut short"),
        (raw("tree", b"100644a"), "cut short"),
        (raw("commit", ""), "tree"),
        (raw("commit", f"author {WHO}\n\n"), "tree"),
        (raw("commit", f"tree {TREE[:-1]}\n\n"), "not a Git object id"),
        (raw("commit", f"tree {'a' * 64}\n\n"), "not a sha1 digest"),
        (raw("commit", f"tree {'é' * 20}\n\n"), "not a Git object id"),
        (raw("tag", "type commit\n\n"), "object"),
    ],
)
def test_what_is_not_a_git_object_is_refused(read: Callable[[bytes], object], block: bytes, problem: str) -> None:
    with pytest.raises(GitRawError, match=problem):
        read(block)


def test_what_the_data_model_cannot_show_is_refused_but_its_links_are_found() -> None:
    twice = raw("tree", 2 * (b"100644 a\0" + bytes(20)))
    with pytest.raises(GitRawError, match="two entries named 'a'"):
        git_raw.decode(twice)
    assert git_raw.links(twice) == 2 * [link("00" * 20)]
    odd = raw("commit", f"tree {TREE}\nauthor nobody\n\n")
    with pytest.raises(GitRawError, match="identity without"):
        git_raw.decode(odd)
    assert git_raw.links(odd) == [link(TREE)]


def test_a_mode_that_is_not_octal_is_refused() -> None:
    for mode in (b"", b"100648", b"-1", b"0x1", b"1" * 12, b"\xd9\xa1"):
        with pytest.raises(GitRawError, match="not octal"):
            git_raw.links(raw("tree", mode + b" a\0" + bytes(20)))


def test_a_hash_function_that_git_lacks_is_refused() -> None:
    with pytest.raises(GitRawError, match="sha1 or sha2-256, not sha2-512"):
        git_raw.links(raw("tree", b"100644 a\0" + bytes(64)), multihash.SHA2_512)
