"""Paths that commands are given, resolved to CIDs."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ipvcs.cli.app import App
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.path import Path, Resolved


def resolve_cid(app: App, text: str) -> "Cid":
    """Return the CID that a path leads to; a CID alone is its own path and reads no block.

    Raises:
        UsageError: the path goes on inside a block, where there is no CID.
        ArgumentError: not a path.
        PathError, BlockNotFoundError: as `path.resolve`.
    """
    found = resolve(app, text)
    if found.remainder:
        raise UsageError(f"'{text}' leads to a value inside '{found.cid}', not to a block", hint="see `ipvcs dag get`")
    return found.cid


def locate(app: App, text: str) -> "Path":
    """Return the path that `text` writes, its name, if it starts at one, resolved.

    Raises:
        ArgumentError: it is no path. NameOfflineError and what a node says: the name leads nowhere.
    """
    from ipvcs.cli.name_lookup import resolve_name
    from ipvcs.multiformats.typed import parse_typed
    from ipvcs.objects.path import parse_path

    path = parse_typed(parse_path, text)
    if isinstance(path.root, str):
        found = parse_path(resolve_name(app, path.root))
        return replace(found, components=(*found.components, *path.components))
    return path


def resolve(app: App, text: str) -> "Resolved":
    """Return where the path `text` leads; errors as `locate` and `path.resolve`."""
    from ipvcs.objects.path import resolve as follow

    return follow(app.blocks, locate(app, text))


def text_of(name: bytes | None) -> str:
    """Return a link's name as text that can be written out again as the same bytes."""
    return (name or b"").decode("utf-8", "surrogateescape")
