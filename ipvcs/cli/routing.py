"""`ipvcs routing`: where peers and blocks are, and small values under keys."""

import base64
import sys
from typing import Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, Number, json_option
from ipvcs.cli.ui import output_errors
from ipvcs.multiformats.typed import parse_typed

_VALUE: Final = 5
"""The type of the event that has a value, by go-libp2p's numbers."""
_MAX_VALUE: Final = 10 * 1024
"""Bytes, as the daemon takes them."""
_CIDS_A_CALL: Final = 64
"""As the daemon takes them."""


@click.group("routing", cls=Group)
def routing_command() -> None:
    """Ask the network where peers and blocks are, and tell it what is here."""


@routing_command.command("findpeer")
@click.argument("peer", metavar="NODEID")
@json_option
@click.pass_obj
def findpeer(app: App, peer: str, as_json: bool) -> None:
    """Print the addresses of the peer NODEID. Exit status 1 if nobody knows it."""
    from ipvcs.multiformats.peer_id import PeerId

    parse_typed(PeerId.parse, peer)  # before a daemon is started for a slip of the pen
    for event in app.client().stream("routing/findpeer", peer):
        if as_json:
            app.ui.json(event)
            continue
        for found in event.get("Responses") or []:
            for addr in found.get("Addrs") or []:
                app.ui.data(addr)


@routing_command.command("findprovs")
@click.argument("cid")
@click.option("-n", "--num-providers", type=Number(1, 10_000), default=20, help="How many at most.  [default: 20]")
@click.option("-v", "--verbose", is_flag=True, help="Print their addresses, too.")
@json_option
@click.pass_obj
def findprovs(app: App, cid: str, num_providers: int, verbose: bool, as_json: bool) -> int:
    """Print the NodeIds of peers said to have the block CID, as they are found. Exit status 1 if there are none."""
    from ipvcs.multiformats.cid import Cid

    parse_typed(Cid.parse, cid)
    count = 0
    for event in app.client().stream("routing/findprovs", cid, num_providers=num_providers):
        providers = event.get("Responses") or []
        count += len(providers)
        if as_json:
            app.ui.json(event)
        else:
            for found in providers:
                app.ui.data(found["ID"])
                for addr in (found.get("Addrs") or []) if verbose else []:
                    app.ui.data(f"\t{addr}")
        _flush()
    return 0 if count else 1


@routing_command.command("provide")
@click.argument("cids", nargs=-1, required=True, metavar="CID…")
@json_option
@click.pass_obj
def provide(app: App, cids: tuple[str, ...], as_json: bool) -> None:
    """Announce that this node has the block of each CID, which must be in the home.

    What is pinned is announced by itself, and again every 22 hours; this is for anything else, and for now.
    """
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.block import BlockNotFoundError

    for cid in (parse_typed(Cid.parse, text) for text in cids):
        if not app.home.blocks.has(cid):
            raise BlockNotFoundError(cid)
    client = app.client()
    for start in range(0, len(cids), _CIDS_A_CALL):
        for event in client.stream("routing/provide", *cids[start : start + _CIDS_A_CALL]):
            if as_json:
                app.ui.json(event)
            elif "Cid" in event:
                told = event.get("Told", 0)
                app.ui.data(f"provided {event['Cid']} to {told} {'peer' if told == 1 else 'peers'}")
            _flush()


@routing_command.command("get")
@click.argument("key")
@json_option
@click.pass_obj
def get(app: App, key: str, as_json: bool) -> None:
    """Print the best value under KEY, `/ipns/NAME` or `/pk/NODEID`, as it is. Exit status 1 if there is none."""
    from ipvcs.errors import RemoteProtocolError

    _check_key(key)
    for event in app.client().stream("routing/get", key):
        if as_json:
            app.ui.json(event)
        elif event.get("Type") == _VALUE:
            try:
                value = base64.b64decode(event.get("Extra") or "", validate=True)
            except ValueError as exc:
                raise RemoteProtocolError(f"the daemon's answer is not base64: {exc}") from exc
            app.ui.raw(value)


@routing_command.command("put")
@click.argument("key")
@click.argument("file")
@json_option
@click.pass_obj
def put(app: App, key: str, file: str, as_json: bool) -> None:
    """Store the bytes of FILE (`-`: standard input) under KEY, for which they must be a valid value.

    `/ipns/NAME` takes a record that the name's key signed, `/pk/NODEID` that peer's public key.
    """
    from ipvcs.cli.block import read_input
    from ipvcs.errors import LimitError
    from ipvcs.multiformats import multibase

    _check_key(key)
    value = read_input(file, _MAX_VALUE)
    if len(value) > _MAX_VALUE:
        raise LimitError(f"'{file}' is over the limit of {_MAX_VALUE} bytes of a value")
    for event in app.client().stream("routing/put", key, value=multibase.encode(value, "base64url")):
        if as_json:
            app.ui.json(event)
        elif "Told" in event:
            app.ui.note(f"stored at {event['Told']} {'peer' if event['Told'] == 1 else 'peers'}")


def _check_key(key: str) -> None:
    """Raise UsageError for what is no key, before a daemon is started for a slip of the pen."""
    from ipvcs.errors import UsageError
    from ipvcs.multiformats.peer_id import PeerId

    start, *parts = key.split("/")
    if start or len(parts) != 2 or parts[0] not in ("ipns", "pk"):
        raise UsageError(f"invalid key '{key}'", hint="a key is '/ipns/NAME' or '/pk/NODEID'")
    parse_typed(PeerId.parse, parts[1])


def _flush() -> None:
    """Let whoever watches through a pipe see each line as it comes."""
    with output_errors():
        sys.stdout.flush()
