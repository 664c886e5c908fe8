"""Paths that commands are given, resolved to CIDs."""

from typing import TYPE_CHECKING

from ipvcs.cli.app import App
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.path import Path


def resolve_cid(app: App, text: str) -> "Cid":
    """Return the CID that a path leads to; a CID alone is its own path and reads no block.

    Raises:
        UsageError: the path goes on inside a block, where there is no CID.
        ArgumentError: not a path.
        PathError, BlockNotFoundError: as `path.resolve`.
    """
    from ipvcs.objects.path import resolve

    found = resolve(app.home.blocks, parse_typed_path(text))
    if found.remainder:
        raise UsageError(f"'{text}' leads to a value inside '{found.cid}', not to a block", hint="see `ipvcs dag get`")
    return found.cid


def parse_typed_path(text: str) -> "Path":
    """Return the path that an argument writes. Raises ArgumentError."""
    from ipvcs.multiformats.typed import parse_typed
    from ipvcs.objects.path import parse_path

    return parse_typed(parse_path, text)


def text_of(name: bytes | None) -> str:
    """Return a link's name as text that can be written out again as the same bytes."""
    return (name or b"").decode("utf-8", "surrogateescape")
