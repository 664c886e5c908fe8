"""Paths that commands are given, resolved to CIDs."""

from typing import TYPE_CHECKING

from ipvcs.cli.app import App
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid


def resolve_cid(app: App, text: str) -> "Cid":
    """Return the CID that a path leads to; a CID alone is its own path and reads no block.

    Raises:
        UsageError: the path goes on inside a block, where there is no CID.
        PathSyntaxError, CidError, PathError, BlockNotFoundError: as `path.resolve`.
    """
    from ipvcs.objects.path import parse_path, resolve

    found = resolve(app.blocks, parse_path(text))
    if found.remainder:
        raise UsageError(f"'{text}' leads to a value inside '{found.cid}', not to a block", hint="see `ipvcs dag get`")
    return found.cid


def text_of(name: bytes | None) -> str:
    """Return a link's name as text that can be written out again as the same bytes."""
    return (name or b"").decode("utf-8", "surrogateescape")
