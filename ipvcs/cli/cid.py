"""`ipvcs cid`: convert and describe CIDs. Reads no home."""

import sys
from collections.abc import Callable, Iterator

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, Number, json_option
from ipvcs.errors import DecodeError, UsageError


@click.group("cid", cls=Group)
def cid_command() -> None:
    """Convert and describe CIDs."""


@cid_command.command("format")
@click.argument("cids", nargs=-1, metavar="[CID…]")
@click.option("-f", "template", default="%s", metavar="TEXT", help="A printf-like template.  [default: %s]")
@click.option("-v", "version", type=Number(0, 1), metavar="N", help="Convert to version 0 or 1.")
@click.option("--mc", "codec", metavar="NAME", help="Convert to this codec.")
@click.option("-b", "base", default="", metavar="NAME", help="Print in this multibase.")
@json_option
@click.pass_obj
def format_(
    app: App, cids: tuple[str, ...], template: str, version: int | None, codec: str | None, base: str, as_json: bool
) -> int:
    """Print each CID (of standard input's lines if none) by a template.

    %% percent, %b %B multibase name and code, %v %V version, %c %C codec, %h %H hash function, %L digest length, %m
    multihash, %d digest, %s CID (capitals: without the multibase prefix), %P prefix. One that is none is told of,
    and the rest goes on.
    """
    from ipvcs.multiformats import codecs
    from ipvcs.multiformats.cid_format import base_of, format_cid

    number = codecs.code_of(codec) if codec else None

    def convert(text: str) -> str:
        from ipvcs.multiformats.cid import Cid

        cid = Cid.parse(text)
        before = cid.version
        if number is not None:
            cid = Cid.make(cid.multihash, number, 1 if version is None else version)
        elif version is not None:
            cid = cid.to_v1() if version else cid.to_v0()
        kept = base_of(text) if before and cid.version else ""
        return format_cid(cid, template, base or kept)

    return _each(app, cids, convert, as_json)


@cid_command.command("base32")
@click.argument("cids", nargs=-1, metavar="[CID…]")
@json_option
@click.pass_obj
def base32(app: App, cids: tuple[str, ...], as_json: bool) -> int:
    """Print each CID (of standard input's lines if none) as CIDv1 in base32. One that is none is told of,
    and the rest goes on.
    """

    def convert(text: str) -> str:
        from ipvcs.multiformats.cid import Cid

        return str(Cid.parse(text).to_v1())

    return _each(app, cids, convert, as_json)


def _each(app: App, cids: tuple[str, ...], convert: Callable[[str], str], as_json: bool) -> int:
    """Print each CID converted; one that is none is reported, and the rest goes on."""
    from ipvcs.cli.main import report

    failed = False
    for text in cids or _stdin_lines():
        try:
            converted = convert(text)
        except DecodeError as error:
            failed = True
            if as_json:
                app.ui.json({"CidStr": text, "Formatted": "", "ErrorMsg": str(error)})
            else:
                report(error)
            continue
        if as_json:
            app.ui.json({"CidStr": text, "Formatted": converted, "ErrorMsg": ""})
        else:
            app.ui.data(converted)
    if not failed:
        return 0
    return UsageError.exit_code if cids else 1  # what was typed is usage, what came through a pipe is data


def _stdin_lines() -> Iterator[str]:
    return (line.strip() for line in sys.stdin if line.strip())


@cid_command.command("bases")
@click.option("--prefix", is_flag=True, help="Print the prefixes too.")
@click.option("--numeric", is_flag=True, help="Print the prefixes' numbers too.")
@json_option
@click.pass_obj
def bases(app: App, prefix: bool, numeric: bool, as_json: bool) -> None:
    """List the multibases."""
    from ipvcs.multiformats.multibase import BASES

    for code, name in BASES:
        if as_json:
            app.ui.json({"Name": name, "Code": ord(code)})
        else:
            shown = [code if code.isprintable() else " "] if prefix else []
            shown += [f"{ord(code):>7}"] if numeric else []
            app.ui.data("  ".join([*shown, name]))


@cid_command.command("codecs")
@click.option("-n", "--numeric", is_flag=True, help="Print the numbers too.")
@json_option
@click.pass_obj
def codecs_(app: App, numeric: bool, as_json: bool) -> None:
    """List the codecs that CIDs can be written with by name."""
    from ipvcs.multiformats.codecs import IPLD_CODES

    _table(app, IPLD_CODES, numeric, as_json)


@cid_command.command("hashes")
@click.option("-n", "--numeric", is_flag=True, help="Print the numbers too.")
@json_option
@click.pass_obj
def hashes(app: App, numeric: bool, as_json: bool) -> None:
    """List the hash functions that CIDs may have."""
    from ipvcs.multiformats.multihash import ALLOWED, NAMES

    _table(app, {name: code for name, code in NAMES.items() if code in ALLOWED}, numeric, as_json)


def _table(app: App, codes: dict[str, int], numeric: bool, as_json: bool) -> None:
    for name, code in sorted(codes.items(), key=lambda item: item[1]):
        if as_json:
            app.ui.json({"Name": name, "Code": code})
        else:
            app.ui.data(f"{code:>6}  {name}" if numeric else name)
