"""The headers of commits and tags: where they lead and who made them.

Only the lines that git itself insists on decide whether a header parses; the rest may be anything. What is read here
says which links a node has, so each rule is frozen with mapping v1.

Spec: DESIGN §3.1; docs/git-mapping.md §6, §7; `parse_commit_buffer` in git's commit.c, `parse_tag_buffer` in its tag.c
"""

from dataclasses import dataclass
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.git.person import parse_person

_SHORTEST_TAG: Final = 24
"""Bytes besides the hex id below which git takes no body for a tag (its tag.c)."""
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_NEWLINE: Final = 0x0A


class HeaderError(DecodeError):
    """A commit's or tag's header does not parse, so nothing is known about it but its bytes."""


@dataclass(frozen=True, slots=True)
class CommitHeader:
    """What a commit links. `author` and `committer` are `Name <email>`, None when the commit does not say."""

    tree: ObjectId
    parents: tuple[ObjectId, ...]
    author: bytes | None
    committer: bytes | None


@dataclass(frozen=True, slots=True)
class TagHeader:
    """What a tag links. `type` is what the tag says `object` is; `tagger` is `Name <email>` or None."""

    object: ObjectId
    type: GitType
    tagger: bytes | None


def parse_commit(body: bytes, object_format: ObjectFormat) -> CommitHeader:
    """Read the header of a commit's body.

    It parses if the first line is `tree <hex id>` and so is each in the run of `parent <hex id>` lines after it. Git
    wants at least one byte after each of these lines, and where fewer bytes than such a line has are left, `parent `
    is no parent line but the run's end. Hex digits may be of either case. Author and committer are the first lines so
    named between there and the first empty line (or the end).

    Raises:
        HeaderError: it does not parse.
    """
    digits = 2 * object_format.size
    tree = _read_id_line(body, 0, b"tree ", digits)
    position = len(b"tree ") + digits + 1
    parent_length = len(b"parent ") + digits
    parents: list[ObjectId] = []
    while body.startswith(b"parent ", position) and position + parent_length < len(body):
        parents.append(_read_id_line(body, position, b"parent ", digits))
        position += parent_length + 1
    end = body.find(b"\n\n", position - 1)  # from the newline before, so that an empty next line counts
    if end < 0:
        end = len(body)
    return CommitHeader(
        tree,
        tuple(parents),
        _find_person(body, b"\nauthor ", position - 1, end),
        _find_person(body, b"\ncommitter ", position - 1, end),
    )


def parse_tag(body: bytes, object_format: ObjectFormat) -> TagHeader:
    """Read the header of a tag's body.

    It parses if it starts with the lines `object <hex id>`, `type <type>` with one of git's four types, and
    `tag <name>` with any name, each ended by a newline, and the body is at least 24 bytes longer than the hex id (git
    demands so). The tagger is the line directly after, if it starts with `tagger `.

    Raises:
        HeaderError: it does not parse.
    """
    digits = 2 * object_format.size
    if len(body) < digits + _SHORTEST_TAG:
        raise HeaderError("tag is too short")
    target = _read_id_line(body, 0, b"object ", digits)
    position = len(b"object ") + digits + 1
    word, position = _read_line(body, position, b"type ")
    if word not in _TYPE_WORDS:
        raise HeaderError(f"tag of unknown type '{word[:20].decode(errors='backslashreplace')}'")
    _name, position = _read_line(body, position, b"tag ")
    tagger = None
    if body.startswith(b"tagger ", position):
        newline = body.find(b"\n", position)
        tagger = parse_person(body[position + len(b"tagger ") : newline if newline >= 0 else len(body)])
    return TagHeader(target, _TYPE_WORDS[word], tagger)


_TYPE_WORDS: Final = {git_type.encode(): git_type for git_type in GitType}


def _read_id_line(body: bytes, position: int, key: bytes, digits: int) -> ObjectId:
    """Return the id of the line `<key><hex><LF>` at `position`, which is not the last byte; raises HeaderError."""
    start = position + len(key)
    newline = start + digits
    text = body[start:newline]
    if (
        not body.startswith(key, position)
        or len(body) <= newline + 1
        or text.strip(_HEX_DIGITS)
        or body[newline] != _NEWLINE
    ):
        raise HeaderError(f"no line '{key.decode()}<object id>' at byte {position} of the header")
    return ObjectId(bytes.fromhex(text.decode()))


def _read_line(body: bytes, position: int, key: bytes) -> tuple[bytes, int]:
    """Return (value, offset after the newline) of the line `<key><value><LF>` at `position`; raises HeaderError."""
    newline = body.find(b"\n", position)
    if newline < 0 or not body.startswith(key, position):
        raise HeaderError(f"no line '{key.decode()}…' at byte {position} of the header")
    return body[position + len(key) : newline], newline + 1


def _find_person(body: bytes, key: bytes, start: int, end: int) -> bytes | None:
    """Return the person of the first line whose start, with the newline before it, is `key`, in `body[start:end]`."""
    at = body.find(key, start, end)
    if at < 0:
        return None
    at += len(key)
    newline = body.find(b"\n", at, end)
    return parse_person(body[at : newline if newline >= 0 else end])
