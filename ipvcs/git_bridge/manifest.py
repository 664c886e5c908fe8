"""`ipvcs.json`: what a published repository is, in one small block.

Canonical JSON: the keys in the order of the fields here, so the same facts are the same bytes. What a reader does not
know of is refused where it could change the meaning (`version`, `mapping`, `object_format`), and left alone elsewhere.

Spec: DESIGN §5 "Manifest"
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar

from ipvcs.errors import DecodeError, IpvcsError, LimitError
from ipvcs.git_bridge.refname import RefName, parse_refname
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects.git.layout import MAPPING_VERSION
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

VERSION: Final = 1
MAX_SIZE: Final = 1024 * 1024
"""Bytes: it has to fit into one block."""
MAX_TIPS: Final = 1000
"""Tips that are named of one pack; of one with more, a reader looks them up in the pack's table of commits."""
_PACK_NAME: Final = re.compile(r"pack-(?:[0-9a-f]{40}|[0-9a-f]{64})")
_MAX_COUNT: Final = 1 << 53


class ManifestError(DecodeError):
    """Bytes are no manifest that this version reads."""


class ManifestTooLargeError(LimitError):
    """A manifest would not fit into one block."""

    def __init__(self, packs: int) -> None:
        super().__init__(
            f"the manifest of {packs:,} packs does not fit into one block",
            hint="publish the repository anew under another path: all of it is then one pack",
        )


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One of Git's packs: `name` without suffix, `size` in bytes, how many objects.

    It holds what `tips` reach and `bases`, which earlier packs hold, do not. Tips beyond `MAX_TIPS` are not named: then
    there are none.
    """

    name: str
    size: int
    objects: int
    tips: tuple[ObjectId, ...] = ()
    bases: tuple[ObjectId, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published repository is. `head` is None before anything was pushed that could be it.

    `packs` are in the order in which they were pushed. `previous` is the root that this one replaced, `sequence` counts
    roots from 1, `published` is seconds since 1970.
    """

    object_format: ObjectFormat
    profile: str
    head: RefName | ObjectId | None
    packs: tuple[PackEntry, ...]
    previous: Cid | None
    sequence: int
    published: int
    publisher: PeerId

    def encode(self) -> bytes:
        """Return the canonical bytes. Raises ManifestTooLargeError."""
        fields = {
            "version": VERSION,
            "mapping": MAPPING_VERSION,
            "object_format": str(self.object_format),
            "profile": self.profile,
            "head": _encode_head(self.head),
            "packs": [
                {
                    "name": pack.name,
                    "size": pack.size,
                    "objects": pack.objects,
                    "tips": [tip.hex for tip in pack.tips] if len(pack.tips) <= MAX_TIPS else [],
                    "bases": [base.hex for base in pack.bases] if len(pack.bases) <= MAX_TIPS else [],
                }
                for pack in self.packs
            ],
            "previous": None if self.previous is None else str(self.previous),
            "sequence": self.sequence,
            "published": datetime.fromtimestamp(self.published, UTC).strftime(_TIME),
            "publisher": str(self.publisher),
        }
        data = json.dumps(fields, indent=1).encode() + b"\n"
        if len(data) > MAX_SIZE:
            raise ManifestTooLargeError(len(self.packs))
        return data


def decode_manifest(data: bytes) -> Manifest:
    """Return what a manifest says.

    Raises:
        ManifestError: not JSON, a key twice, something missing or malformed, or of a version, mapping or object format
            that this ipvcs does not read.
    """
    if len(data) > MAX_SIZE:
        raise ManifestError("manifest is larger than a block")
    try:
        fields = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"manifest is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise ManifestError("manifest is not a JSON object")
    for key, known in (("version", VERSION), ("mapping", MAPPING_VERSION)):
        if (found := _take(fields, key, int)) != known:
            raise ManifestError(
                f"repository has {key} {found}, this ipvcs reads {key} {known}", hint="use a later version of ipvcs"
            )
    try:
        object_format = ObjectFormat(_take(fields, "object_format", str))
    except ValueError:
        raise ManifestError(f"repository has unknown object format {fields['object_format']!r}") from None
    packs = tuple(_decode_pack(each, object_format) for each in _take(fields, "packs", list))
    if len({pack.name for pack in packs}) < len(packs):
        raise ManifestError("manifest names a pack twice")
    previous, head = fields.get("previous"), fields.get("head")
    return Manifest(
        object_format,
        _take(fields, "profile", str),
        None if head is None else _decode_head(_take(fields, "head", str), object_format),
        packs,
        None if previous is None else _decode("previous", Cid.parse, _take(fields, "previous", str)),
        _count(fields, "sequence"),
        _decode("published", _decode_time, _take(fields, "published", str)),
        _decode("publisher", PeerId.parse, _take(fields, "publisher", str)),
    )


_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_T = TypeVar("_T")


def _encode_head(head: RefName | ObjectId | None) -> str | None:
    if head is None or isinstance(head, ObjectId):
        return None if head is None else head.hex
    return head.decode(errors="surrogateescape")


def _decode_head(text: str, object_format: ObjectFormat) -> RefName | ObjectId:
    if text.startswith("refs/"):
        return _decode("head", lambda each: parse_refname(each.encode(errors="surrogateescape")), text)
    return _oid(text, object_format)


def _decode_pack(fields: Any, object_format: ObjectFormat) -> PackEntry:
    if not isinstance(fields, dict):
        raise ManifestError("a pack in the manifest is not a JSON object")
    name = _take(fields, "name", str)
    if not _PACK_NAME.fullmatch(name):
        raise ManifestError(f"'{name[:100]}' is not the name of a pack")
    tips, bases = _take(fields, "tips", list), _take(fields, "bases", list)
    return PackEntry(
        name, _count(fields, "size"), _count(fields, "objects"), _oids(tips, object_format), _oids(bases, object_format)
    )


def _oids(found: Sequence[Any], object_format: ObjectFormat) -> tuple[ObjectId, ...]:
    if len(found) > MAX_TIPS:
        raise ManifestError(f"a pack in the manifest has more than {MAX_TIPS} tips")
    return tuple(_oid(each, object_format) for each in found)


def _oid(found: Any, object_format: ObjectFormat) -> ObjectId:
    if not isinstance(found, str):
        raise ManifestError("an object id in the manifest is not text")
    oid = _decode("id", ObjectId.parse, found)
    if len(oid.raw) != object_format.size:
        raise ManifestError(f"id '{oid}' in the manifest is not a {object_format} id")
    return oid


def _decode_time(text: str) -> int:
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())


def _decode(key: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except (IpvcsError, ValueError, OverflowError) as exc:
        raise ManifestError(f"bad '{key}' in the manifest: {exc}") from exc


def _take(fields: dict[str, Any], key: str, kind: type[_T]) -> _T:
    found = fields.get(key)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ManifestError(f"manifest has no '{key}' that is a JSON {_JSON_NAMES[kind]}")
    return found


def _count(fields: dict[str, Any], key: str) -> int:
    if not 0 <= (found := _take(fields, key, int)) <= _MAX_COUNT:
        raise ManifestError(f"'{key}' in the manifest is out of range")
    return found


_JSON_NAMES: Final[dict[type, str]] = {int: "integer", str: "string", list: "array"}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ManifestError("manifest has a key twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ManifestError(f"manifest has the number {name}")
