"""Passphrases: from a file, or from whoever sits at the terminal. Never from an option, which `ps` would show."""

import getpass
import os
import sys
from pathlib import Path
from typing import Final

from ipvcs.errors import IpvcsError, UsageError

_MAX_FILE: Final = 4096
"""Bytes: four times the longest passphrase, and what keeps a wrong file from being read whole."""


class NoTerminalError(IpvcsError):
    """A passphrase is needed, and there is nobody to ask."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"no passphrase for {what}, and no terminal to ask for it", hint=hint)
        self.what = what


def read_passphrase(path: Path) -> bytes:
    """Return the passphrase in a file: all of it but a line feed at its end.

    Raises:
        UsageError: there is none, or the file is too long for one.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise UsageError(f"'{path}' is longer than any passphrase", hint="name a file with nothing but the passphrase")
    passphrase = data.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise UsageError(f"there is no passphrase in '{path}'", hint="write it into the file, or name another file")
    return passphrase


def ask_passphrase(what: str, *, hint: str) -> bytes:
    """Ask for the passphrase of `what`.

    Raises:
        NoTerminalError: with `hint` for what to do instead.
        UsageError: none was typed.
    """
    return _ask(f"Passphrase for {what}: ", what, hint)


def ask_new_passphrase(what: str, *, hint: str) -> bytes:
    """Ask for a passphrase that `what` shall have, twice.

    Raises:
        NoTerminalError: with `hint` for what to do instead.
        UsageError: none was typed, or not the same twice.
    """
    passphrase = _ask(f"New passphrase for {what}: ", what, hint)
    if _ask("The same again: ", what, hint) != passphrase:
        raise UsageError("the passphrases differ", hint="type the same twice")
    return passphrase


def _ask(prompt: str, what: str, hint: str) -> bytes:
    if not _has_terminal():
        raise NoTerminalError(what, hint)
    try:
        passphrase = getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError:
        raise NoTerminalError(what, hint) from None
    if not passphrase:
        raise UsageError("passphrase is empty", hint="type one")
    return passphrase


def _has_terminal() -> bool:
    """Tell whether somebody can be asked: the input may be a pipe, as git's to its helpers, and the terminal there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin.isatty()
    return True
