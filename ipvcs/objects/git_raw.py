"""git-raw: Git's own objects as blocks, `<type> <size>` NUL `<body>`, read into the IPLD data model.

The CID's digest is Git's object id, so a link is the git-raw CID of an id: sha1, or sha2-256 in a SHA-256 repository.
The maps have the keys and kinds that go-ipld-git gives them. Where it gives up or cuts (signatures that are not
OpenPGP's, lines over 4 KiB), we keep the lines under `other`. This is a view, not a way back: objects are carried as
their bytes and never re-serialised.

Spec: gitformat, https://git-scm.com/book/en/v2/Git-Internals-Git-Objects; the maps, ipfs/go-ipld-git's README
"""

from collections.abc import Iterator
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.data_model import Value

_ID_LENGTHS: Final = {multihash.SHA1: 20, multihash.SHA2_256: 32}
_TYPE_MASK: Final = 0o170000
_MAX_MODE_DIGITS: Final = 11  # 32 bits in octal: what Git reads a mode into
_PGP_HEAD: Final = b"gpgsig -----BEGIN PGP SIGNATURE-----"
_PGP_END: Final = b" -----END PGP SIGNATURE-----"


class GitRawError(DecodeError):
    """Bytes are not a Git object, or not one that the data model can show."""


def decode(data: bytes, hash_code: int = multihash.SHA1) -> Value:
    """Return the data-model form of the object in `data`, whose ids are digests of the function `hash_code`.

    A blob is its bytes, header included. A tree maps names to `{"mode", "hash"}`. A commit has `tree`, `parents`,
    `message`, `mergetag` and `other`, and where present `author`, `committer`, `encoding`, `signature`. A tag has
    `object`, `type`, `tag`, `tagger`, `message`. Strings that are not UTF-8 are `surrogateescape` strings.

    Raises:
        GitRawError: an unknown type, a size that is not the body's, an entry cut short, two entries of one name, a
            commit without a tree or a tag without an object, an identity without `<` and `>`.
    """
    kind, body = _split(data)
    if kind == b"blob":
        return data
    if kind == b"tree":
        return _decode_tree(body, hash_code)
    return _decode_commit(body, hash_code) if kind == b"commit" else _decode_tag(body, hash_code)


def links(data: bytes, hash_code: int = multihash.SHA1) -> list[Cid]:
    """Return what Git reaches from the object in `data`: a commit's tree and parents, a tag's object, a tree's entries.

    Submodules are left out, for their commits belong to another repository, and so are the objects of merge tags.

    Raises:
        GitRawError: as `decode`, but identities and duplicate names are not looked at.
    """
    kind, body = _split(data)
    if kind == b"blob":
        return []
    if kind == b"tree":
        return [_link(oid, hash_code) for mode, _, oid in _iter_entries(body, hash_code) if not _is_gitlink(mode)]
    # Git reads these only where they belong: at the top, the tree before the parents.
    found = [_link_of_hex(_after(body, 0, b"tree " if kind == b"commit" else b"object "), hash_code)]
    position = body.find(b"\n") + 1
    while kind == b"commit" and position and body.startswith(b"parent ", position):
        found.append(_link_of_hex(_after(body, position, b"parent "), hash_code))
        position = body.find(b"\n", position) + 1
    return found


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return (type, body), the declared size checked."""
    head, nul, body = data.partition(b"\0")
    kind, space, size = head.partition(b" ")
    if not nul or not space or kind not in (b"blob", b"tree", b"commit", b"tag"):
        raise GitRawError("not a Git object: no header of a blob, tree, commit or tag")
    if size != b"%d" % len(body):
        raise GitRawError(f"Git object of {len(body)} bytes declares size '{_text(size[:20])}'")
    return kind, body


def _after(body: bytes, position: int, key: bytes) -> bytes:
    """Return the rest of the line at `position`, which must start with `key`."""
    if not body.startswith(key, position):
        raise GitRawError(f"Git object does not start with '{key.decode().strip()}'")
    end = body.find(b"\n", position)
    return body[position + len(key) : end if end >= 0 else len(body)]


def _decode_tree(body: bytes, hash_code: int) -> dict[str, Value]:
    tree: dict[str, Value] = {}
    for mode, name, oid in _iter_entries(body, hash_code):
        key = _text(name)
        if key in tree:
            raise GitRawError(f"two entries named {key!a} in a Git tree")
        tree[key] = {"mode": _text(mode), "hash": _link(oid, hash_code)}
    return tree


def _iter_entries(body: bytes, hash_code: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (mode, name, id) of each entry of a tree; mode and name as they are written."""
    width = _ID_LENGTHS.get(hash_code)
    if width is None:
        raise GitRawError(f"Git ids are sha1 or sha2-256, not {multihash.name_of(hash_code)}")
    position = 0
    while position < len(body):
        space = body.find(b" ", position)
        nul = body.find(b"\0", space + 1) if space >= 0 else -1
        end = nul + 1 + width
        if nul < 0 or end > len(body):
            raise GitRawError("entry of a Git tree is cut short")
        yield body[position:space], body[space + 1 : nul], body[nul + 1 : end]
        position = end


def _is_gitlink(mode: bytes) -> bool:
    # Git's own reading: a regular file, a symlink or a directory by its type bits, else a submodule.
    if len(mode) > _MAX_MODE_DIGITS or not mode.isdigit() or b"8" in mode or b"9" in mode:
        raise GitRawError("mode of an entry of a Git tree is not octal")
    return int(mode, 8) & _TYPE_MASK not in (0o100000, 0o120000, 0o040000)


def _decode_commit(body: bytes, hash_code: int) -> dict[str, Value]:
    header, message = _split_message(body)
    parents: list[Value] = []
    mergetags: list[Value] = []
    other: list[Value] = []
    commit: dict[str, Value] = {"parents": parents, "message": message, "mergetag": mergetags, "other": other}
    for lines in _iter_fields(header):
        key, _, text = lines[0].partition(b" ")
        if key == b"tree":
            commit["tree"] = _link_of_hex(text, hash_code)
        elif key == b"parent":
            parents.append(_link_of_hex(text, hash_code))
        elif key in (b"author", b"committer"):
            commit[key.decode()] = _decode_person(text)
        elif key == b"encoding":
            commit["encoding"] = _text(text)
        elif key == b"mergetag" and text.startswith(b"object "):
            mergetags.append(_decode_mergetag([text, *lines[1:]], hash_code))
        elif lines[0] == _PGP_HEAD and lines[-1] == _PGP_END and "signature" not in commit:
            commit["signature"] = _text(b"".join(line + b"\n" for line in lines[1:-1]))
        else:
            other += [_text(line) for line in lines]
    if "tree" not in commit:
        raise GitRawError("Git commit without a tree")
    return commit


def _decode_tag(body: bytes, hash_code: int) -> dict[str, Value]:
    header, message = _split_message(body)
    return _tag_of([field[0] for field in _iter_fields(header)], message, hash_code)


def _decode_mergetag(lines: list[bytes], hash_code: int) -> dict[str, Value]:
    """Return the tag in a `mergetag` header. Its message keeps each line's leading space, as go-ipld-git's does."""
    blank = lines.index(b" ") if b" " in lines else len(lines)
    fields = [lines[0], *(line[1:] for line in lines[1:blank])]
    return _tag_of(fields, _text(b"".join(line + b"\n" for line in lines[blank + 1 :])), hash_code)


def _tag_of(fields: list[bytes], message: str, hash_code: int) -> dict[str, Value]:
    tag: dict[str, Value] = {"type": "", "tag": "", "tagger": _person(b"", b"", b""), "message": message}
    for field in fields:
        key, _, text = field.partition(b" ")
        if key == b"object":
            tag["object"] = _link_of_hex(text, hash_code)
        elif key in (b"type", b"tag"):
            tag[key.decode()] = _text(text)
        elif key == b"tagger":
            tag["tagger"] = _decode_person(text)
    if "object" not in tag:
        raise GitRawError("Git tag without an object")
    return tag


def _split_message(body: bytes) -> tuple[bytes, str]:
    """Return (header, message) at the first empty line; the header alone is a whole commit, too."""
    if body.startswith(b"\n"):
        return b"", _text(body[1:])
    header, _, message = body.partition(b"\n\n")
    return header, _text(message)


def _iter_fields(header: bytes) -> Iterator[list[bytes]]:
    """Yield the lines of each field: its own and those that continue it, their leading space kept."""
    field: list[bytes] = []
    for line in header.removesuffix(b"\n").split(b"\n"):
        if line.startswith(b" ") and field:
            field.append(line)
            continue
        if field:
            yield field
        field = [line]
    if field != [b""]:
        yield field


def _decode_person(text: bytes) -> dict[str, Value]:
    name, opening, rest = text.partition(b"<")
    email, closing, when = rest.partition(b">")
    if not opening or not closing:
        raise GitRawError(f"identity without '<' and '>' in a Git object: '{_text(text[:60])}'")
    return _person(name.removesuffix(b" "), email, when)


def _person(name: bytes, email: bytes, when: bytes) -> dict[str, Value]:
    date, _, timezone = when.strip().partition(b" ")
    return {"date": _text(date), "timezone": _text(timezone), "email": _text(email), "name": _text(name)}


def _link_of_hex(oid: bytes, hash_code: int) -> Cid:
    try:
        return _link(bytes.fromhex(oid.decode("ascii")), hash_code)
    except ValueError as exc:
        raise GitRawError(f"not a Git object id: '{_text(oid[:64])}'") from exc


def _link(digest: bytes, hash_code: int) -> Cid:
    if _ID_LENGTHS.get(hash_code) != len(digest):
        raise GitRawError(f"Git object id of {len(digest)} bytes is not a {multihash.name_of(hash_code)} digest")
    return Cid.make(multihash.wrap(hash_code, digest), codecs.GIT_RAW)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
