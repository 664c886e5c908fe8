"""`ipvcs id`: who a node is."""

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option

if TYPE_CHECKING:
    from ipvcs.multiformats.peer_id import PeerId

_FIELDS: Final = ("ID", "PublicKey", "Addresses", "AgentVersion", "Protocols")


@click.command("id", cls=Command)
@click.argument("peer", required=False)
@click.option(
    "-f",
    "--format",
    "template",
    metavar="TEXT",
    help=r"Print TEXT with <id>, <aver>, <pubkey>, <addrs>, <protocols>, \n and \t replaced.",
)
@json_option
@click.pass_obj
def id_command(app: App, peer: str | None, template: str | None, as_json: bool) -> None:
    """Print a node's NodeId, key, addresses, version and protocols: this home's, or those of PEER.

    Without a daemon, what the key alone tells of this home's node. PEER must be met for it, by a daemon that runs.
    """
    about = _find(app, peer)
    about = {name: about.get(name) or ([] if name in ("Addresses", "Protocols") else "") for name in _FIELDS}
    if as_json:
        app.ui.json(about)
    elif template is not None:
        app.ui.raw(fill_in(template, about).encode("utf-8", "surrogateescape"))
    else:
        app.ui.data(json.dumps(about, indent=2))


def _find(app: App, peer: str | None) -> dict[str, Any]:
    from ipvcs.client.socket_path import DaemonNotRunningError
    from ipvcs.multiformats.peer_address import parse_peer

    wanted: PeerId | None = parse_peer(peer)[0] if peer is not None else None
    try:
        client = app.client(start=False)
    except DaemonNotRunningError:
        about = _offline(app)
        if wanted is not None and str(wanted) != about["ID"]:
            raise
        return about
    return client.call("id", *([str(wanted)] if wanted is not None else []))


def _offline(app: App) -> dict[str, Any]:
    from ipvcs import AGENT_VERSION

    key = app.keystore.node_public_key()
    return {
        "ID": str(key.peer_id),
        "PublicKey": base64.b64encode(key.encode()).decode(),
        "AgentVersion": AGENT_VERSION,
    }


def fill_in(template: str, about: dict[str, Any]) -> str:
    """Return `template` with what it names replaced, in one pass: what a peer says is not a template."""
    values = {
        "<id>": about["ID"],
        "<aver>": about["AgentVersion"],
        "<pubkey>": about["PublicKey"],
        "<addrs>": "\n".join(about["Addresses"]),
        "<protocols>": "\n".join(about["Protocols"]),
        r"\n": "\n",
        r"\t": "\t",
    }
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], template)
