"""The body of a Git tree: entries `<octal mode> <name><NUL><raw id>`, one after the other.

Nothing is normalised: order, padded modes and odd names are reported as they stand.

Spec: DESIGN §3.1 "opaque tree"; gitformat-index(5) has the modes, git's tree-walk.c the format
"""

from typing import Final, NamedTuple

from ipvcs.errors import DecodeError
from ipvcs.objects.git.modes import ModeError, NodeKind, entry_kind, parse_mode
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

PAYLOAD_ENTRY: Final = b".ipvcs-tree"
"""The extra file entry that holds a tree's payload when the node's own data does not."""


class TreeEntry(NamedTuple):
    """One entry: `mode_bytes` as written, `mode` its value, `name` any bytes but NUL (empty too), `oid` the object."""

    mode_bytes: bytes
    mode: int
    name: bytes
    oid: ObjectId

    @property
    def kind(self) -> NodeKind | None:
        """What the mode says the object is; None is a gitlink."""
        return entry_kind(self.mode)


class TreeParseError(DecodeError):
    """A tree's body ends inside an entry or has a malformed mode. `entries` are those before that byte `offset`."""

    def __init__(self, message: str, entries: list[TreeEntry], offset: int) -> None:
        super().__init__(f"tree does not parse at byte {offset}: {message}")
        self.entries = entries
        self.offset = offset


def parse_tree(body: bytes, object_format: ObjectFormat) -> list[TreeEntry]:
    """Return the entries of a tree's body in the order they have.

    Raises:
        TreeParseError: an entry is cut short or its mode is not octal digits; holds the entries before it.
    """
    entries: list[TreeEntry] = []
    modes = dict(_COMMON_MODES)
    id_size = object_format.size
    position, end = 0, len(body)
    while position < end:
        space = body.find(b" ", position)
        if space < 0:
            raise TreeParseError("no space after the mode", entries, position)
        mode_bytes = body[position:space]
        mode = modes.get(mode_bytes)
        if mode is None:
            try:
                mode = modes[mode_bytes] = parse_mode(mode_bytes)
            except ModeError as exc:
                raise TreeParseError(str(exc), entries, position) from exc
        nul = body.find(b"\0", space)
        next_position = nul + 1 + id_size
        if nul < 0 or next_position > end:
            raise TreeParseError("entry is cut short", entries, position)
        entries.append(TreeEntry(mode_bytes, mode, body[space + 1 : nul], ObjectId(body[nul + 1 : next_position])))
        position = next_position
    return entries


def opaque_reason(entries: list[TreeEntry]) -> str | None:
    """Say why entries that parse cannot be the entries of a directory, or None when they can.

    Gitlinks count too: Git's tree has their names although the directory does not.
    """
    seen: set[bytes] = set()
    for entry in entries:
        name = entry.name
        if name in seen:
            return f"two entries have the name '{_shown(name)}'"
        seen.add(name)
        if not name:
            return "an entry has an empty name"
        if b"/" in name:
            return f"the name '{_shown(name)}' contains a slash"
        if name in _RESERVED or name.lower() == b".git":  # bytes.lower() folds ASCII alone
            return f"the name '{_shown(name)}' is reserved"
        if not name.isascii() and not _is_utf8(name):
            return f"the name '{_shown(name)}' is not UTF-8"
    return None


_COMMON_MODES: Final = {b"%o" % mode: mode for mode in (0o100644, 0o100755, 0o40000, 0o120000, 0o160000)}
_RESERVED: Final = (b".", b"..", PAYLOAD_ENTRY)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(name: bytes) -> str:
    return name[:60].decode(errors="backslashreplace")
