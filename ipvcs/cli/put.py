"""`ipvcs put`: store files and directories."""

import json
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number, json_option, progress_option
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.objects.block import BlockWriter
    from ipvcs.objects.node_writer import Built
    from ipvcs.objects.profile import ImportOptions
    from ipvcs.storage.config import Config
    from ipvcs.storage.disk_import import Imported, ImportRules

_STDIN: Final = "-"
_LINES_IN_MEMORY: Final = 1024 * 1024
"""Bytes of lines that wait in memory; more go to a file."""
_SECONDS: Final = Number(-(2**63), 2**63 - 1)
"""Seconds of a time: UnixFS has 64 bits for them."""
_SETTINGS: Final = {
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
    if not re.fullmatch("0*[0-7]{1,4}", value):
        raise click.BadParameter(f"'{value}' is not a mode in octal, 0 to 7777")
    return int(value, 8)


_LAYOUT_OPTIONS: Final[list[Callable[[Any], Any]]] = [
    click.option("--profile", metavar="NAME", help="Named set of the options that follow.  [default: unixfs-v1-2025]"),
    click.option("--cid-version", type=Number(0, 1), metavar="N", help="0 or 1; 1 implies raw leaves."),
    click.option("--raw-leaves/--no-raw-leaves", default=None, help="Store the leaves of files as raw blocks."),
    click.option(
        "-s", "--chunker", metavar="SPEC", help="size-N, rabin[-MIN-AVG-MAX], buzhash, fastcdc[-MIN-AVG-MAX]."
    ),
    click.option("--hash", "hash_name", metavar="NAME", help="Hash function; any but sha2-256 implies CIDv1."),
    click.option("--max-file-links", type=int, metavar="N", help="Largest number of links in a node of a file."),
    click.option("--max-directory-links", type=int, metavar="N", help="Entries of a directory before it is sharded."),
    click.option(
        "--max-hamt-fanout", type=int, metavar="N", help="Slots of a sharded directory's node: 8, 16, … 1024."
    ),
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
@click.option("--silent", is_flag=True, help="Print nothing.")
@click.option("-n", "--only-hash", is_flag=True, help="Compute CIDs; store nothing.")
@click.option("-w", "--wrap-with-directory", is_flag=True, help="Put a directory around what is stored.")
@click.option("-H", "--hidden", is_flag=True, help="Take hidden entries of directories too.")
@click.option("--dereference-args", is_flag=True, help="Store what a PATH that is a symlink leads to, not the link.")
@click.option("--pin/--no-pin", default=True, help="Keep it from garbage collection.  [default: pin]")
@click.option("--pin-name", default="", metavar="NAME", help="Name of the pin.")
@click.option("--stdin-name", default="", metavar="NAME", help="Name of standard input, with -w.")
@click.option("--preserve-mode", is_flag=True, help="Store modes.")
@click.option("--preserve-mtime", is_flag=True, help="Store modification times.")
@click.option("--mode", callback=_octal, metavar="OCTAL", help="Store this mode for every file and directory.")
@click.option("--mtime", type=_SECONDS, metavar="SECONDS", help="Store this modification time, in seconds since 1970.")
@click.option("--mtime-nsecs", type=Number(0, 999_999_999), metavar="N", help="Nanoseconds after --mtime.")
@_layout_options
@progress_option
@json_option
@click.pass_obj
def put_command(app: App, /, paths: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Store files and directories, and print their CIDs.

    `-` is standard input. A symlink is stored as a symlink, whether or not it leads anywhere. Lines are
    `added <cid> <name>`, entries before the directories that hold them.
    """
    from ipvcs.cli.pin import check_name

    options, rules = _import_options(app, given), _import_rules(given)
    check_name(given["pin_name"])
    if given["pin_name"] and not given["pin"]:
        raise UsageError("--pin-name without a pin", hint="leave out `--no-pin` or the name")
    named = _named(paths, given)
    with ExitStack() as stack:
        session = None if given["only_hash"] else stack.enter_context(app.home.blocks.writing())
        printer = _Printer(app, as_json, given, app.home.temporary if session is not None else None)
        stack.callback(printer.close)
        total = _measure(app, named, rules)
        advance = stack.enter_context(app.ui.progress("Storing", total))
        roots = _store(app, named, options, rules, session or _Discard(), printer, advance, given)
        if session is not None:
            session.flush()
            if given["pin"]:
                _pin(app, roots, given["pin_name"])
        printer.finish(roots)


def _named(paths: tuple[str, ...], given: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return each path with the name that its root gets; standard input may have none."""
    from ipvcs.storage.disk import disk_errors

    named: list[tuple[str, bytes]] = []
    for path in paths:
        if path == _STDIN:
            named.append((path, os.fsencode(given["stdin_name"])))
            continue
        if not path:
            raise UsageError("a PATH is empty", hint="the directory that one is in is called '.'")
        with disk_errors(Path(path)):  # that has no working directory any more, for one
            name = os.fsencode(Path(os.path.abspath(path)).name)  # noqa: PTH100 - `.` and `..` have names, links stay
            if given["dereference_args"]:
                path = os.path.realpath(path, strict=True)
        named.append((path, name))
    if given["wrap_with_directory"]:
        _check_entry_names([name for path, name in named if name or path != _STDIN])
    return named


def _check_entry_names(names: list[bytes]) -> None:
    """Raise UsageError for names that can't be together in a directory, before everything is stored for nothing."""
    seen: set[bytes] = set()
    for name in names:
        if not name:
            raise UsageError("'/' has no name to have in a directory", hint="leave out `-w`")
        if name in seen:
            raise UsageError(
                f"two paths are called '{os.fsdecode(name)}', which one directory cannot hold", hint="leave out `-w`"
            )
        seen.add(name)


def _store(
    app: App,
    paths: list[tuple[str, bytes]],
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

    scratch = app.home.temporary if not given["only_hash"] else None
    importer = DiskImporter(options, rules, writer, on_stored=printer.add, on_bytes=advance, scratch=scratch)
    roots: list[Built] = []
    links = []
    for path, name in paths:
        if path == _STDIN:
            built = importer.import_stream(lambda size: os.read(0, size), name)
        else:
            built = importer.import_path(os.fsencode(path), name)
        roots.append(built)
        links.append(built.link(name or str(built.cid).encode()))
    if not given["wrap_with_directory"]:
        return roots
    wrapped = build_directory(links, options, writer, mode=rules.mode, mtime=rules.mtime)
    printer.add(Imported(b"", wrapped))
    return [wrapped]


def _pin(app: App, roots: list["Built"], name: str) -> None:
    """Pin the roots, while the session still protects what they reach."""
    from ipvcs.storage.pins import Pin, PinMode

    app.home.pins.add(Pin(root.cid, PinMode.RECURSIVE, name) for root in roots)


def _import_options(app: App, given: dict[str, Any]) -> "ImportOptions":
    from ipvcs.multiformats import multihash
    from ipvcs.objects.profile import resolve_options

    if given["profile"]:  # names all choices, so the home's settings do not matter
        configured: dict[str, Any] = {}
    else:
        configured = _configured(app.config)
        given = {name: value if value is not None else configured.get(name) for name, value in given.items()}
    try:
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
            metadata=bool(given["preserve_mode"] or given["preserve_mtime"] or given["mode"] or given["mtime"]),
        )
    except UsageError as exc:
        settings = [key for name, key in _SETTINGS.items() if name != "profile" and configured.get(name) is not None]
        if not settings:
            raise
        hint = f"the home's settings take part: {', '.join(settings)}; `ipvcs config` changes them"
        raise UsageError(str(exc), hint=hint) from exc


def _configured(config: "Config") -> dict[str, Any]:
    """Return the home's settings for imports, under the names that options have here."""
    values = {name: config.get(key) for name, key in _SETTINGS.items()}
    if values["hamt_threshold"] is not None:
        values["hamt_threshold"] = _parse_size(values["hamt_threshold"])
    return values


def import_choices(key: str, value: Any) -> dict[str, Any]:
    """Return the argument of `resolve_options` that the setting `key` of imports stands for."""
    from ipvcs.multiformats import multihash

    (name,) = (name for name, setting in _SETTINGS.items() if setting == key)
    if name == "hash_name":
        return {"hash_code": multihash.code_of(value)}
    if name == "hamt_threshold":
        return {name: _parse_size(value)}
    return {"hamt_fanout" if name == "max_hamt_fanout" else name: value}


def _parse_size(text: str) -> int:
    """Return the bytes that a size such as `256KiB` or `1B` means."""
    number = text.rstrip("BbiKkMmGg ")
    unit = text[len(number) :].strip().lower().removesuffix("b")
    factors = {"": 1, "k": 10**3, "ki": 2**10, "m": 10**6, "mi": 2**20, "g": 10**9, "gi": 2**30}
    if not (number.isascii() and number.isdigit()) or unit not in factors:
        raise UsageError(f"'{text}' is not a size", hint="write it as '256KiB'")
    return int(number) * factors[unit]


def _import_rules(given: dict[str, Any]) -> "ImportRules":
    from ipvcs.objects.unixfs import Mtime
    from ipvcs.storage.disk_import import ImportRules

    if given["mtime_nsecs"] is not None and not given["mtime"]:
        raise UsageError("--mtime-nsecs needs --mtime", hint="a time of 0 is no time, as in Kubo")
    return ImportRules(
        recursive=given["recursive"],
        hidden=given["hidden"],
        preserve_mode=given["preserve_mode"],
        preserve_mtime=given["preserve_mtime"],
        mode=given["mode"],
        mtime=Mtime(given["mtime"], given["mtime_nsecs"] or 0) if given["mtime"] else None,
    )


def _measure(app: App, paths: list[tuple[str, bytes]], rules: "ImportRules") -> int | None:
    """Return the bytes to be read, or None when nobody watches or standard input is among them."""
    from ipvcs.storage.disk_import import measure

    if not app.ui.shows_progress or any(path == _STDIN for path, _name in paths):
        return None
    return sum(measure(os.fsencode(path), rules) for path, _name in paths)


class _Discard:
    """Where blocks go when only their CIDs are wanted."""

    def put(self, _block: object) -> None:
        """Forget the block."""


class _Printer:
    """Prints each entry when all of them are durable and pinned, or the roots alone.

    A line that says `added` is a promise, so none is printed while a crash, and the next collection, could break it.
    Lines wait in memory and, when there are many, in a file without a name in the home.
    """

    def __init__(self, app: App, as_json: bool, given: dict[str, Any], directory: Path | None) -> None:
        """Take `directory` for what waits; None prints at once, as nothing is stored and nothing promised."""
        self._ui = app.ui
        self._as_json = as_json
        self._quiet: bool = given["quiet"]
        self._silent: bool = given["silent"] or given["quieter"]
        self._roots: bool = given["quieter"] and not given["silent"]
        self._waiting: IO[bytes] | None = None
        if directory is not None:
            self._waiting = SpooledTemporaryFile(_LINES_IN_MEMORY, dir=str(directory))  # noqa: SIM115 - ends with us

    def add(self, imported: "Imported") -> None:
        """Take an entry that has been stored."""
        if self._silent:
            return
        line = self._line(imported)
        if self._waiting is not None:
            self._waiting.write(line)
        else:
            self._ui.raw(line)

    def finish(self, roots: list["Built"]) -> None:
        """Print what waits, all being durable now, or the roots."""
        if self._waiting is not None:
            self._waiting.seek(0)
            while lines := self._waiting.read(_LINES_IN_MEMORY):
                self._ui.raw(lines)
        for root in roots if self._roots else []:
            if self._as_json:
                self._ui.json({"Hash": str(root.cid), "Size": str(root.size)})
            else:
                self._ui.data(str(root.cid))

    def close(self) -> None:
        """Forget what waits: the command has failed, or all is printed."""
        if self._waiting is not None:
            self._waiting.close()

    def _line(self, imported: "Imported") -> bytes:
        cid, name = str(imported.built.cid), os.fsdecode(imported.name)
        if self._as_json:
            return json.dumps({"Name": name, "Hash": cid, "Size": str(imported.built.size)}).encode("ascii") + b"\n"
        if self._quiet:
            return cid.encode("ascii") + b"\n"
        return b"added %b %b\n" % (cid.encode("ascii"), imported.name or cid.encode("ascii"))
