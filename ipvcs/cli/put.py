"""`ipvcs put`: store files and directories."""

import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.objects.block import BlockWriter
    from ipvcs.objects.node_writer import Built
    from ipvcs.objects.profile import ImportOptions
    from ipvcs.storage.config import Config
    from ipvcs.storage.disk_import import Imported, ImportRules
    from ipvcs.storage.session import WriteSession

_STDIN = "-"
_SETTINGS = {
    "profile": "Import.Profile",
    "cid_version": "Import.CidVersion",
    "raw_leaves": "Import.UnixFSRawLeaves",
    "chunker": "Import.UnixFSChunker",
    "hash_name": "Import.HashFunction",
    "max_file_links": "Import.UnixFSFileMaxLinks",
    "max_directory_links": "Import.UnixFSDirectoryMaxLinks",
    "max_hamt_fanout": "Import.UnixFSHAMTDirectoryMaxFanout",
    "hamt_threshold": "Import.UnixFSHAMTDirectorySizeThreshold",
    "hamt_estimate": "Import.UnixFSHAMTDirectorySizeEstimation",
}
"""Parameters of `put` and the settings they default to."""


def _octal(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise click.BadParameter(f"'{value}' is not a mode in octal, 0 to 7777")
    return mode


_LAYOUT_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--profile", metavar="NAME", help="Named set of the options below  [default: unixfs-v1-2025]"),
    click.option("--cid-version", type=int, metavar="N", help="0 or 1; 1 implies raw leaves."),
    click.option("--raw-leaves/--no-raw-leaves", default=None, help="Store the leaves of files as raw blocks."),
    click.option(
        "-s", "--chunker", metavar="SPEC", help="size-N, rabin[-MIN-AVG-MAX], buzhash, fastcdc[-MIN-AVG-MAX]."
    ),
    click.option("--hash", "hash_name", metavar="NAME", help="Hash function; any but sha2-256 implies CIDv1."),
    click.option("--max-file-links", type=int, metavar="N", help="Links of a file's inner node."),
    click.option("--max-directory-links", type=int, metavar="N", help="Entries of a directory before it is sharded."),
    click.option("--max-hamt-fanout", type=int, metavar="N", help="Slots of a directory's shard: 8, 16, … 1024."),
    click.option("-t", "--trickle/--no-trickle", default=None, help="Lay files out for appending."),
    click.option("--inline/--no-inline", default=None, help="Store small blocks inside their CIDs."),
    click.option("--inline-limit", type=int, metavar="N", help="Bytes up to which blocks are inlined, at most 128."),
]


def _layout_options(function: Any) -> Any:
    for option in reversed(_LAYOUT_OPTIONS):
        function = option(function)
    return function


@click.command("put", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-r", "--recursive", is_flag=True, help="Store directories with all that is in them.")
@click.option("-q", "--quiet", is_flag=True, help="Print CIDs alone.")
@click.option("-Q", "--quieter", is_flag=True, help="Print the root CID alone.")
@click.option("-n", "--only-hash", is_flag=True, help="Compute CIDs; store nothing.")
@click.option("-w", "--wrap-with-directory", is_flag=True, help="Put a directory around what is stored.")
@click.option("-H", "--hidden", is_flag=True, help="Take hidden entries of directories too.")
@click.option("--pin/--no-pin", default=True, help="Keep it from garbage collection  [default: pin]")
@click.option("--pin-name", default="", metavar="NAME", help="Name of the pin.")
@click.option("--stdin-name", default="", metavar="NAME", help="Name of standard input, with -w.")
@click.option("--preserve-mode", is_flag=True, help="Store modes.")
@click.option("--preserve-mtime", is_flag=True, help="Store modification times.")
@click.option("--mode", callback=_octal, metavar="OCTAL", help="Store this mode for every file and directory.")
@click.option("--mtime", type=int, metavar="SECONDS", help="Store this modification time, in seconds since 1970.")
@click.option("--mtime-nsecs", type=click.IntRange(0, 999_999_999), metavar="N", help="Nanoseconds after --mtime.")
@_layout_options
@json_option
@click.pass_obj
def put_command(app: App, /, paths: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Store files and directories, and print their CIDs.

    `-` is standard input. A symlink is stored as a symlink, whether or not it leads anywhere. Lines are
    `added <cid> <name>`, entries before the directories that hold them.
    """
    options, rules = _import_options(app, given), _import_rules(given)
    with ExitStack() as stack:
        session = None if given["only_hash"] else stack.enter_context(app.home.blocks.writing())
        printer = _Printer(app, session, as_json=as_json, quiet=given["quiet"], quieter=given["quieter"])
        total = _measure(paths, rules)
        advance = stack.enter_context(app.ui.progress("Storing", total))
        roots = _store(paths, options, rules, session or _Discard(), printer, advance, given)
        if session is not None:
            session.flush()
            if given["pin"]:
                _pin(app, roots, given["pin_name"])
        printer.finish(roots)


def _store(
    paths: tuple[str, ...],
    options: "ImportOptions",
    rules: "ImportRules",
    writer: "BlockWriter",
    printer: "_Printer",
    advance: Callable[[int], None],
    given: dict[str, Any],
) -> list["Built"]:
    """Store each path; return the roots: one each, or the directory around them."""
    from ipvcs.objects.directory import build_directory
    from ipvcs.storage.disk_import import DiskImporter, Imported

    importer = DiskImporter(options, rules, writer, on_stored=printer.add, on_bytes=advance)
    roots: list[Built] = []
    links = []
    for path in paths:
        if path == _STDIN:
            name = os.fsencode(given["stdin_name"])
            built = importer.import_stream(lambda size: os.read(0, size), name)
            name = name or str(built.cid).encode()
        else:
            name = os.fsencode(Path(os.path.abspath(path)).name)  # noqa: PTH100 - `.` and `..` have names, links stay
            built = importer.import_path(os.fsencode(path), name)
        roots.append(built)
        links.append(built.link(name))
    if not given["wrap_with_directory"]:
        return roots
    wrapped = build_directory(links, options, writer, mode=rules.mode, mtime=rules.mtime)
    printer.add(Imported(b"", wrapped))
    return [wrapped]


def _pin(app: App, roots: list["Built"], name: str) -> None:
    """Pin the roots, while the session still protects what they reach."""
    from ipvcs.storage.pins import MAX_NAME, Pin, PinMode

    if len(name.encode()) > MAX_NAME:
        raise UsageError(f"pin name is longer than {MAX_NAME} bytes")
    app.home.pins.add(Pin(root.cid, PinMode.RECURSIVE, name) for root in roots)


def _import_options(app: App, given: dict[str, Any]) -> "ImportOptions":
    from ipvcs.multiformats import multihash
    from ipvcs.objects.profile import resolve_options

    if given["profile"]:  # names all choices, so the home's settings do not matter
        configured: dict[str, Any] = {}
    else:
        configured = _configured(app.config)
        given = {name: value if value is not None else configured.get(name) for name, value in given.items()}
    return resolve_options(
        given["profile"],
        cid_version=given["cid_version"],
        raw_leaves=given["raw_leaves"],
        chunker=given["chunker"],
        hash_code=multihash.code_of(given["hash_name"]) if given["hash_name"] else None,
        max_file_links=given["max_file_links"],
        max_directory_links=given["max_directory_links"],
        hamt_fanout=given["max_hamt_fanout"],
        trickle=given["trickle"],
        inline=given["inline"],
        inline_limit=given["inline_limit"],
        hamt_threshold=configured.get("hamt_threshold"),
        hamt_estimate=configured.get("hamt_estimate"),
        metadata=bool(given["preserve_mode"] or given["preserve_mtime"] or given["mode"] or given["mtime"] is not None),
    )


def _configured(config: "Config") -> dict[str, Any]:
    """Return the home's settings for imports, under the names that options have here."""
    values = {name: config.get(key) for name, key in _SETTINGS.items()}
    if values["hamt_threshold"] is not None:
        values["hamt_threshold"] = _parse_size(values["hamt_threshold"])
    return values


def _parse_size(text: str) -> int:
    """Return the bytes that a size such as `256KiB` or `1B` means."""
    number = text.rstrip("BbiKkMmGg ")
    unit = text[len(number) :].strip().lower().removesuffix("b")
    factors = {"": 1, "k": 10**3, "ki": 2**10, "m": 10**6, "mi": 2**20, "g": 10**9, "gi": 2**30}
    if not number.isdigit() or unit not in factors:
        raise UsageError(f"'{text}' is not a size", hint="write it as '256KiB'")
    return int(number) * factors[unit]


def _import_rules(given: dict[str, Any]) -> "ImportRules":
    from ipvcs.objects.unixfs import Mtime
    from ipvcs.storage.disk_import import ImportRules

    if given["mtime_nsecs"] is not None and given["mtime"] is None:
        raise UsageError("--mtime-nsecs needs --mtime")
    return ImportRules(
        recursive=given["recursive"],
        hidden=given["hidden"],
        preserve_mode=given["preserve_mode"],
        preserve_mtime=given["preserve_mtime"],
        mode=given["mode"],
        mtime=None if given["mtime"] is None else Mtime(given["mtime"], given["mtime_nsecs"] or 0),
    )


def _measure(paths: tuple[str, ...], rules: "ImportRules") -> int | None:
    """Return the bytes to be read, or None when nobody watches or standard input is among them."""
    from ipvcs.storage.disk_import import measure

    if _STDIN in paths or not sys.stderr.isatty():
        return None
    return sum(measure(os.fsencode(path), rules) for path in paths)


class _Discard:
    """Where blocks go when only their CIDs are wanted."""

    def put(self, _block: object) -> None:
        """Forget the block."""


class _Printer:
    """Prints each entry once it is durable, or the roots alone at the end.

    An entry's blocks are durable when the session has flushed after it was stored; until then its line waits.
    """

    def __init__(self, app: App, session: "WriteSession | None", *, as_json: bool, quiet: bool, quieter: bool) -> None:
        self._ui = app.ui
        self._session = session
        self._as_json = as_json
        self._quiet = quiet
        self._quieter = quieter
        self._waiting: deque[tuple[int, Imported]] = deque()

    def add(self, imported: "Imported") -> None:
        """Print an entry that has been stored, now or after the next flush."""
        if self._quieter:
            return
        if self._session is None:
            self._print(imported)
            return
        flushes = self._session.flushes
        while self._waiting and self._waiting[0][0] < flushes:
            self._print(self._waiting.popleft()[1])
        self._waiting.append((flushes, imported))

    def finish(self, roots: list["Built"]) -> None:
        """Print what waits, all being durable now, or the roots."""
        while self._waiting:
            self._print(self._waiting.popleft()[1])
        if not self._quieter:
            return
        for root in roots:
            if self._as_json:
                self._ui.json({"Hash": str(root.cid), "Size": str(root.size)})
            else:
                self._ui.data(str(root.cid))

    def _print(self, imported: "Imported") -> None:
        cid, name = str(imported.built.cid), os.fsdecode(imported.name)
        if self._as_json:
            self._ui.json({"Name": name, "Hash": cid, "Size": str(imported.built.size)})
        elif self._quiet:
            self._ui.data(cid)
        else:
            self._ui.data(f"added {cid} {name or cid}")
