"""What git says to a remote helper, line by line: lines in, requests out. What the helper answers is the shell's.

    capabilities          ─► CapabilitiesAsked
    list [for-push]       ─► RefsAsked
    option <name> <value> ─► OptionGiven
    fetch … fetch … ""    ─► FetchAsked        a batch ends with a blank line
    push … push … ""      ─► PushAsked
    ""                    ─► SessionEnded      and so does the end of input between batches

Spec: gitremote-helpers(7); git's transport-helper.c, which is what speaks it
"""

from dataclasses import dataclass
from typing import Final, TypeVar

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.refname import show
from ipvcs.objects.git.object_id import ObjectId, ObjectIdError

MAX_BATCH: Final = 1_000_000
"""Lines of one batch: as many refs as a repository may have here."""

_Item = TypeVar("_Item")


class HelperProtocolError(IpvcsError):
    """Git said something that is not in the protocol, or broke off."""


@dataclass(frozen=True, slots=True)
class CapabilitiesAsked:
    """What can the helper do?"""


@dataclass(frozen=True, slots=True)
class RefsAsked:
    """Which refs are there? Before a push, or before a fetch."""

    for_push: bool


@dataclass(frozen=True, slots=True)
class OptionGiven:
    """How to go about what follows; `value` is unquoted."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FetchAsked:
    """Bring these objects, and what they reach: ids that were listed, with the names they were listed under."""

    wanted: tuple[tuple[ObjectId, bytes], ...]


@dataclass(frozen=True, slots=True)
class PushSpec:
    """One update: let `target` point at what the revision `source` names; an empty source deletes."""

    source: bytes
    target: bytes
    force: bool


@dataclass(frozen=True, slots=True)
class PushAsked:
    """Update these refs."""

    specs: tuple[PushSpec, ...]


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Git wants nothing more."""


Request = CapabilitiesAsked | RefsAsked | OptionGiven | FetchAsked | PushAsked | SessionEnded


class HelperProtocol:
    """The lines of one session."""

    def __init__(self) -> None:
        self._fetch: list[tuple[ObjectId, bytes]] = []
        self._push: list[PushSpec] = []

    def receive_line(self, line: bytes) -> Request | None:
        """Take one line, its newline off; return what it completes, None inside a batch.

        Raises:
            HelperProtocolError: a command that we do not know, or one that is malformed, or inside another's batch.
        """
        if not line:
            return self._end_batch()
        command, _, rest = line.partition(b" ")
        if command == b"fetch" and not self._push:
            self._add(self._fetch, self._parse_fetch(line, rest))
            return None
        if command == b"push" and not self._fetch:
            self._add(self._push, self._parse_push(line, rest))
            return None
        if not (self._fetch or self._push):
            if line == b"capabilities":
                return CapabilitiesAsked()
            if line in (b"list", b"list for-push"):
                return RefsAsked(for_push=line != b"list")
            if command == b"option":
                return _parse_option(line, rest)
        raise HelperProtocolError(
            f"git sends '{show(line[:200])}' here, which this remote helper does not know",
            hint="another version of git may speak otherwise: `git --version` belongs into a report",
        )

    def receive_end(self) -> SessionEnded:
        """Git closed its side. Raises HelperProtocolError: inside a batch, so it was interrupted."""
        if self._fetch or self._push:
            raise HelperProtocolError("git broke off")
        return SessionEnded()

    def _end_batch(self) -> Request:
        fetch, push = tuple(self._fetch), tuple(self._push)
        self._fetch.clear()
        self._push.clear()
        if fetch:
            return FetchAsked(fetch)
        return PushAsked(push) if push else SessionEnded()

    @staticmethod
    def _add(batch: list[_Item], item: _Item) -> None:
        if len(batch) >= MAX_BATCH:
            raise HelperProtocolError(f"git asks for more than {MAX_BATCH:,} refs at once")
        batch.append(item)

    @staticmethod
    def _parse_fetch(line: bytes, rest: bytes) -> tuple[ObjectId, bytes]:
        oid, _, name = rest.partition(b" ")
        try:
            return ObjectId.parse(oid.decode(errors="replace")), name
        except ObjectIdError:
            raise HelperProtocolError(f"git sends '{show(line[:200])}'") from None

    @staticmethod
    def _parse_push(line: bytes, rest: bytes) -> PushSpec:
        source, colon, target = rest.rpartition(b":")  # no ref's name has a colon
        if not colon or not target:
            raise HelperProtocolError(f"git sends '{show(line[:200])}'")
        return PushSpec(source.removeprefix(b"+"), target, source.startswith(b"+"))


def _parse_option(line: bytes, rest: bytes) -> OptionGiven:
    name, _, value = rest.partition(b" ")
    try:
        return OptionGiven(name.decode("ascii"), unquote(value))
    except ValueError:
        raise HelperProtocolError(f"git sends '{show(line[:200])}'") from None


_ESCAPES: Final = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))


def unquote(value: bytes) -> bytes:
    """Return a value that git may have quoted as a C string, because of odd bytes in it.

    Raises:
        ValueError: quoted, but not well.

    Spec: git's quote.c, `unquote_c_style`
    """
    if not value.startswith(b'"'):
        return value
    out = bytearray()
    position = 1
    while position < len(value):
        byte = value[position]
        position += 1
        if byte == 0x22:
            if position != len(value):
                break
            return bytes(out)
        if byte != 0x5C:
            out.append(byte)
            continue
        escaped = value[position : position + 1]
        if escaped in (b"0", b"1", b"2", b"3"):
            digits = value[position : position + 3]
            if len(digits) < 3 or digits.strip(b"01234567"):
                break
            out.append(int(digits, 8))
            position += 3
        elif escaped and escaped[0] in _ESCAPES:
            out.append(_ESCAPES[escaped[0]])
            position += 1
        else:
            break
    raise ValueError("badly quoted value")
