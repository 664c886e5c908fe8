"""Kubo 0.22 as a shared library, called with ctypes.

The functions are those the library exports; a `char *` that Go returns is ours to free. Calls release the GIL, so
several threads may be inside one node at once.
"""

import ctypes
from pathlib import Path
from typing import Final

_TEXT, _INT, _BOOL, _OWNED_TEXT = ctypes.c_char_p, ctypes.c_int, ctypes.c_bool, ctypes.c_void_p

# name: (result, arguments); the first argument of each is the repository's path
_SIGNATURES: Final = {
    "CreateRepo": (_INT, [_TEXT]),
    "RunNode": (_INT, [_TEXT]),
    "CleanupNode": (_INT, [_TEXT]),
    "GetNodeID": (_OWNED_TEXT, [_TEXT]),
    "GetNodeMultiAddrs": (_OWNED_TEXT, [_TEXT]),
    "AddFile": (_OWNED_TEXT, [_TEXT, _TEXT, _BOOL]),
    "Download": (_INT, [_TEXT, _TEXT, _TEXT]),
    "PinCID": (_INT, [_TEXT, _TEXT]),
    "UnpinCID": (_INT, [_TEXT, _TEXT]),
    "ListPins": (_OWNED_TEXT, [_TEXT]),
    "ConnectToPeer": (_INT, [_TEXT, _TEXT]),
    "ListPeers": (_OWNED_TEXT, [_TEXT]),
    "ListPeersIDs": (_OWNED_TEXT, [_TEXT]),
    "FindPeer": (_OWNED_TEXT, [_TEXT, _TEXT, _INT]),
    "P2PListen": (_INT, [_TEXT, _TEXT, _TEXT]),
    "P2PForward": (_INT, [_TEXT, _TEXT, _TEXT, _TEXT]),
    "P2PCloseAllListeners": (_INT, [_TEXT]),
    "P2PCloseAllForwards": (_INT, [_TEXT]),
}


class KuboLibrary:
    """The loaded library, on one repository."""

    def __init__(self, library: Path, repo: Path) -> None:
        """Load the library. It writes `kubo.log` into the current directory, which should be `repo`."""
        self._functions = ctypes.CDLL(str(library))
        self._repo = str(repo).encode()
        self._free = ctypes.CDLL(None).free
        self._free.argtypes, self._free.restype = [ctypes.c_void_p], None
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._functions, name)
            function.restype, function.argtypes = result, arguments

    def number(self, name: str, *arguments: str | int) -> int:
        """Call a function that returns a status."""
        status: int = getattr(self._functions, name)(self._repo, *map(_to_c, arguments))
        return status

    def text(self, name: str, *arguments: str | int) -> str:
        """Call a function that returns text; "" when it returns NULL."""
        address: int | None = getattr(self._functions, name)(self._repo, *map(_to_c, arguments))
        if address is None:
            return ""
        try:
            return ctypes.string_at(address).decode()
        finally:
            self._free(address)


def _to_c(value: str | int) -> bytes | int:
    return value.encode() if isinstance(value, str) else value
