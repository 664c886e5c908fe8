"""`ipvcs key import` and `export`: keys in files, in Kubo's formats or encrypted."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option
from ipvcs.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from ipvcs.node.identity.key_formats import KeyFormat
    from ipvcs.node.identity.keys import PrivateKey

_ENCRYPTED: Final = "pem-pkcs8-encrypted"
_FORMATS: Final = ("libp2p-protobuf-cleartext", "pem-pkcs8-cleartext", _ENCRYPTED)
"""The values of `KeyFormat`, which is not imported for the sake of a help text."""


class KeyFileExistsError(ConflictError):
    """An export would overwrite a file, which may hold another key."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' already exists", hint="choose another file with --output, or move that one away")
        self.path = path


class KeyTypeRefusedError(UsageError):
    """An import is of a kind of key that nodes do not make."""

    exit_code = 128

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"keys of type {kind} are not imported, since not all nodes know them",
            hint="add --allow-any-key-type to import it all the same",
        )
        self.kind = kind


@click.command("import", cls=Command)
@click.argument("name")
@click.argument("file")
@click.option("-f", "--format", "chosen", type=click.Choice(_FORMATS), help="What FILE must be.  [default: what it is]")
@click.option("--passphrase-file", metavar="PATH", help="Read the passphrase of an encrypted FILE from PATH.")
@click.option("--allow-any-key-type", is_flag=True, help="Take secp256k1 and ECDSA keys as well.")
@click.option(
    "-b", "--ipns-base", "base", default="base36", metavar="BASE", help="As in `key list`.  [default: base36]"
)
@json_option
@click.pass_obj
def import_(
    app: App,
    name: str,
    file: str,
    chosen: str | None,
    passphrase_file: str | None,
    allow_any_key_type: bool,
    base: str,
    as_json: bool,
) -> None:
    """Store the key in FILE (`-`: standard input) under NAME, and print its id.

    FILE is what `ipvcs key export`, `ipfs key export` or OpenSSL wrote, or the text of Identity.PrivKey in Kubo's
    config. `self` can be imported into a home that has no key of its own yet.
    """
    from ipvcs.cli.block import read_input
    from ipvcs.cli.key import id_writer, show_key
    from ipvcs.node.identity.key_formats import MAX_KEY_FILE, KeyFormat, import_key
    from ipvcs.node.identity.keys import KeyType

    write = id_writer(base)
    key = import_key(
        read_input(file, MAX_KEY_FILE),
        KeyFormat(chosen) if chosen else None,
        lambda: chosen_passphrase(app, passphrase_file, "--passphrase-file", f"'{file}'"),
    )
    if key.type not in (KeyType.ED25519, KeyType.RSA) and not allow_any_key_type:
        raise KeyTypeRefusedError(key.type.name.lower())
    app.keystore.put(name, key)
    show_key(app, name, write(key.peer_id), as_json)


@click.command("export", cls=Command)
@click.argument("name")
@click.option("-o", "--output", metavar="FILE", help="Where to; `-` is standard output.  [default: NAME.key, NAME.pem]")
@click.option(
    "-f",
    "--format",
    "chosen",
    type=click.Choice(_FORMATS),
    help=f"How to write it.  [default: {_FORMATS[0]}; with a passphrase {_ENCRYPTED}]",
)
@click.option("-p", "--passphrase", "ask", is_flag=True, help="Encrypt the file with a passphrase that is asked for.")
@click.option("--passphrase-file", metavar="PATH", help="Encrypt the file with the passphrase in PATH.")
@click.pass_obj
def export(app: App, name: str, output: str | None, chosen: str | None, ask: bool, passphrase_file: str | None) -> None:
    """Write the key NAME to a file, mode 0600, that is not there yet. Whoever reads it can publish as you."""
    from ipvcs.node.identity.key_formats import KeyFormat

    encrypts = ask or passphrase_file is not None
    key_format = KeyFormat(chosen or (_ENCRYPTED if encrypts else _FORMATS[0]))
    if encrypts and key_format is not KeyFormat.PEM_ENCRYPTED:
        raise UsageError(f"{key_format} is not encrypted", hint=f"leave --format out, or use {_ENCRYPTED}")
    path = None if output == "-" else Path(output or _file_name(name, key_format.extension))
    if path is None:
        app.ui.need_stdout()
    elif os.path.lexists(path):
        raise KeyFileExistsError(path)
    data = _export(app, app.keystore.get(name), key_format, passphrase_file)
    if path is None:
        app.ui.raw(data)
        return
    _write_new(path, data)
    app.ui.note(f"wrote the key '{name}' to '{path}'")


def chosen_passphrase(
    app: App, file: str | None, option: str, what: str | None = None, *, is_new: bool = False
) -> bytes:
    """Return the passphrase in `file`, the value of `option`, or ask for it; `what` is what it opens or closes."""
    from ipvcs.cli.passphrase import ask_new_passphrase, ask_passphrase, read_passphrase

    if file is not None:
        return read_passphrase(Path(file))
    subject = what or f"the keys of '{app.home_path}'"
    return (ask_new_passphrase if is_new else ask_passphrase)(subject, hint=f"write it into a file, and use {option}")


def _export(app: App, key: "PrivateKey", key_format: "KeyFormat", passphrase_file: str | None) -> bytes:
    from ipvcs.node.identity.key_formats import KeyFormat, export_key

    passphrase = None
    if key_format is KeyFormat.PEM_ENCRYPTED:
        passphrase = chosen_passphrase(app, passphrase_file, "--passphrase-file", "the exported key", is_new=True)
    return export_key(key, key_format, passphrase)


def _file_name(name: str, extension: str) -> str:
    """Return Kubo's choice: the last part of the name, so that the file is in the working directory."""
    return f"{name}.{extension}".rsplit("/", 1)[-1]


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that nobody else can read and that was not there before: whole, or not at all."""
    from ipvcs.storage.disk import disk_errors, sync_directory

    with disk_errors(path):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise KeyFileExistsError(path) from None
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
        except BaseException:
            path.unlink()
            raise
        sync_directory(path.parent)
