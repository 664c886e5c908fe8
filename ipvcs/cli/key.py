"""`ipvcs key`: the keys of the home, by which it and the names it publishes are known."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.key_files import export, import_
from ipvcs.cli.options import Group, Number, json_option
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.node.identity.keys import PrivateKey
    from ipvcs.node.identity.stored_key import StoredKey

_BASE = click.option(
    "-b",
    "--ipns-base",
    "base",
    default="base36",
    metavar="BASE",
    help="Print ids as CIDs in this multibase, or b58mh: as base58btc multihashes.  [default: base36]",
)
_BASE58: Final = ("b58mh", "v0")
"""Kubo's words for a peer id's older form."""


def id_writer(base: str) -> "Callable[[PeerId], str]":
    """Return what writes ids in `base`: the name or code of a multibase, or `b58mh`.

    Raises:
        UsageError: no such base.
    """
    from ipvcs.multiformats import multibase

    if base in _BASE58:
        return str
    names = {name: name for _, name in multibase.BASES} | dict(multibase.BASES)
    if base not in names:
        raise UsageError(f"unknown multibase '{base}'", hint="use b58mh, or one that `ipvcs cid bases` lists")
    return lambda peer_id: peer_id.to_cid().encode(names[base])


@click.group("key", cls=Group)
def key_command() -> None:
    """Make and look after keys.

    The key named `self` is the node's own. If the home has a passphrase it is taken from IPVCS_PASSPHRASE, from the
    file that IPVCS_PASSPHRASE_FILE names, or asked for.
    """


@key_command.command("gen")
@click.argument("name")
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(["ed25519", "rsa"]),
    default="ed25519",
    help="The kind of key.  [default: ed25519]",
)
@click.option("-s", "--size", type=Number(1), metavar="BITS", help="Of an RSA key.  [default: 2048]")
@click.option(
    "--difficulty",
    type=Number(0, 64),
    default=0,
    metavar="BITS",
    help="Make keys until one solves the S/Kademlia puzzle; each bit doubles the work.  [default: 0]",
)
@_BASE
@json_option
@click.pass_obj
def gen(app: App, name: str, kind: str, size: int | None, difficulty: int, base: str, as_json: bool) -> None:
    """Make a key named NAME, and print its id.

    `self` can be made so in a home that has no key of its own yet.
    """
    write = id_writer(base)
    make = _maker(kind, size)
    app.keystore.prepare(name)
    key = _solve(app, make, difficulty) if difficulty else make()
    app.keystore.put(name, key)
    show_key(app, name, write(key.peer_id), as_json)


def _maker(kind: str, size: int | None) -> "Callable[[], PrivateKey]":
    from ipvcs.node.identity.keys import MIN_RSA_BITS, KeyType, check_rsa_size, generate_key

    if kind == "rsa":
        bits = size or MIN_RSA_BITS
        check_rsa_size(bits)
        return lambda: generate_key(KeyType.RSA, bits=bits)
    if size is not None:
        raise UsageError("Ed25519 keys have one size", hint="leave --size out, or add --type=rsa")
    return generate_key


def _solve(app: App, make: "Callable[[], PrivateKey]", difficulty: int) -> "PrivateKey":
    from ipvcs.cli.puzzle_progress import PuzzleProgress
    from ipvcs.node.identity.puzzle import solve

    with PuzzleProgress(app.ui, difficulty) as progress:
        return solve(difficulty, make, progress.report)


def show_key(app: App, name: str, text: str, as_json: bool) -> None:
    """Print a key's id, as Kubo does."""
    if as_json:
        app.ui.json({"Name": name, "Id": text})
    else:
        app.ui.data(text)


@key_command.command("list")
@click.option("-l", "--long", "long", is_flag=True, help="Print id, type and puzzle difficulty before the name.")
@_BASE
@json_option
@click.pass_obj
def list_(app: App, long: bool, base: str, as_json: bool) -> int:
    """List the names of the keys; needs no passphrase. Exit status 1 if a key is damaged."""
    write = id_writer(base)
    if not long and not as_json:
        for name in app.keystore.names():
            app.ui.data(name)
        return 0
    keys, damaged = _read_all(app)
    if as_json:
        app.ui.json({"Keys": [_describe(key, write, long=long) for key in keys]})
        return damaged
    for key in keys:
        row = _describe(key, write, long=True)
        app.ui.data(f"{row['Id']} {row['Type']:<9} {row['Difficulty']:>2} {key.name}")
    return damaged


def _describe(key: "StoredKey", write: "Callable[[PeerId], str]", *, long: bool) -> dict[str, str | int]:
    from ipvcs.node.identity.puzzle import difficulty_of

    row: dict[str, str | int] = {"Name": key.name, "Id": write(key.public_key.peer_id)}
    if long:
        row |= {"Type": key.public_key.type.name.lower(), "Difficulty": difficulty_of(key.public_key)}
    return row


def _read_all(app: App) -> tuple[list["StoredKey"], int]:
    """Return the keys that can be read, and 1 if others are damaged, after a word about each."""
    from ipvcs.node.identity.keystore import KeyNotFoundError
    from ipvcs.node.identity.stored_key import DamagedKeyError

    keys, damaged = [], 0
    for name in app.keystore.names():
        try:
            keys.append(app.keystore.find(name))
        except DamagedKeyError as exc:
            app.ui.warn(f"{exc}; {exc.hint}")
            damaged = 1
        except KeyNotFoundError:  # removed meanwhile
            continue
    return keys, damaged


@key_command.command("rename")
@click.argument("name")
@click.argument("new_name")
@click.option("-f", "--force", is_flag=True, help="Let the key that has NEW_NAME be lost for ever.")
@_BASE
@json_option
@click.pass_obj
def rename(app: App, name: str, new_name: str, force: bool, base: str, as_json: bool) -> None:
    """Give the key NAME the name NEW_NAME."""
    write = id_writer(base)
    key, lost = app.keystore.rename(name, new_name, force=force)
    text = write(key.public_key.peer_id)
    if as_json:
        app.ui.json({"Was": name, "Now": new_name, "Id": text, "Overwrite": lost})
    else:
        app.ui.data(f"key {text} renamed to {new_name}" + (", overwriting the key of that name" if lost else ""))


@key_command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("-l", "--long", "long", is_flag=True, help="Print the ids too.")
@_BASE
@json_option
@click.pass_obj
def rm(app: App, names: tuple[str, ...], long: bool, base: str, as_json: bool) -> None:
    """Remove keys for ever: all of them or, if one is not there, none. Nobody can publish by their ids any more."""
    from ipvcs.node.identity.stored_key import DamagedKeyError

    write = id_writer(base)
    rows = []
    for name in dict.fromkeys(names):
        try:
            rows.append({"Name": name, "Id": write(app.keystore.find(name).public_key.peer_id)})
        except DamagedKeyError:
            rows.append({"Name": name, "Id": ""})
    app.keystore.remove(names)
    if as_json:
        app.ui.json({"Keys": rows})
    else:
        for row in rows:
            app.ui.data(f"{row['Id']} {row['Name']}".lstrip() if long else row["Name"])


@key_command.command("passwd")
@click.option(
    "--new-passphrase-file", "file", metavar="FILE", help="Read the new passphrase from FILE instead of asking for it."
)
@click.option("--remove", is_flag=True, help="Keep the keys in clear from now on.")
@click.pass_obj
def passwd(app: App, file: str | None, remove: bool) -> None:
    """Set or change the passphrase that the keys of the home are encrypted with."""
    from ipvcs.cli.key_files import chosen_passphrase

    if file is not None and remove:
        raise UsageError("--remove and --new-passphrase-file exclude each other", hint="leave one out")
    app.keystore.unlock()  # the old one first
    new = None if remove else chosen_passphrase(app, file, "--new-passphrase-file", is_new=True)
    count = app.keystore.change_passphrase(new)
    state = "in clear" if new is None else "encrypted with the new passphrase"
    app.ui.note(f"{count} {'key is' if count == 1 else 'keys are'} {state}")


key_command.add_command(export)
key_command.add_command(import_)
