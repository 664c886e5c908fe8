"""A real Helia 7.1 (js-libp2p 3.3) to test against: runs `helia/peer.mjs` under Node and speaks for it.

What it is: bitswap 1.2.0; noise, TLS 1.3 and yamux over TCP, QUIC with `--quic`; kad-dht as client and server. The
store is in memory. Defaults of `add_bytes`: CIDv1, chunks of 1 MiB, raw leaves, width 1024.
"""

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.interop import cache, netns
from tests.interop.json_peer import JsonPeer, Message

_TIMEOUT = 60.0  # seconds
_GRACE = 10.0  # seconds beyond the peer's own timeout, so that its own error is the one we see


class HeliaPeer(JsonPeer):
    """One Helia node. `with HeliaPeer(directory) as helia: cid = helia.add_bytes(b"…")`.

    Attributes:
        peer_id: its NodeId.
        addrs: what it listens on, with `/p2p/<peer id>`.
    """

    def __init__(self, directory: Path, *options: str, allow_interfaces: Sequence[str] = ()) -> None:
        """Start a node with an empty store.

        Args:
            directory: takes a copy of the scripts and a log.
            options: those of `helia/node.mjs`, such as `"--kad", "lan"`, `"--sec", "noise"` or `"--quic"`.
            allow_interfaces: may be up beside `lo`, such as one end of a veth pair that a test made.

        Raises:
            MissingPeerError: its packages are not in the cache.
            NotIsolatedError: outside a private network namespace.
            PeerError: it does not start.
        """
        netns.check_isolated(allow_interfaces)
        modules = cache.helia_modules()
        directory.mkdir(parents=True, exist_ok=True)
        for script in cache.HELIA_SOURCE.glob("*.mjs"):  # Node looks for packages beside the script's real place
            shutil.copyfile(script, directory / script.name)
        if not (directory / "node_modules").exists():
            (directory / "node_modules").symlink_to(modules)
        command: list[str | Path] = [cache.node_binary(), "--expose-gc", directory / "peer.mjs", *options]
        super().__init__("helia", command, directory / "stderr.log", cwd=directory, env={"NODE_OPTIONS": ""})
        self.peer_id: str = self.info["peerId"]
        self.addrs: list[str] = self.info["addrs"]

    def call(self, command: str, *, timeout: float = _TIMEOUT, **arguments: Any) -> Message:
        """Send any command of `helia/commands.mjs` and return its answer, with `ms` where it is timed.

        Args:
            command: such as dial, ping, addBytes, cat, blockGet, blockGetMany, findProviders, dhtPut, ipnsPublish, mem.
            timeout: seconds that the node itself gives it.
            arguments: the command's own, in its JavaScript spelling.

        Raises:
            PeerError: Helia failed.
            TimeoutError: it did not even say so.
        """
        return self.request(command, within=timeout + _GRACE, timeout=round(timeout * 1000), **arguments)

    def add_bytes(
        self, data: bytes, *, cid_version: int = 1, raw_leaves: bool = True, chunk: int = 1 << 20, width: int = 1024
    ) -> str:
        """Add one file and return its root CID. `chunk` is in bytes, `width` in links per node."""
        options: Message = {"cidVersion": cid_version, "rawLeaves": raw_leaves, "chunk": chunk, "width": width}
        return _cid(self.call("addBytes", b64=base64.b64encode(data).decode(), **options))

    def add_files(self, files: Mapping[str, bytes], *, shard_bytes: int | None = None) -> str:
        """Add files by path below one directory and return its CID; `shard_bytes` is where a HAMT starts."""
        encoded = [{"path": path, "b64": base64.b64encode(data).decode()} for path, data in files.items()]
        limit: Message = {} if shard_bytes is None else {"shardBytes": shard_bytes}
        return _cid(self.call("addFiles", files=encoded, **limit))

    def list_directory(self, cid: str, path: str | None = None) -> list[dict[str, Any]]:
        """Return name, cid, size and type of each entry of a directory."""
        below: Message = {} if path is None else {"path": path}
        entries: list[dict[str, Any]] = self.call("ls", cid=cid, **below)["entries"]
        return entries

    def cat(self, cid: str, *, timeout: float = _TIMEOUT, **options: Any) -> tuple[int, str]:
        """Read a file to its end, fetching what is missing; return its size and its sha256 in hex.

        `options`: path, offline, session, providers (multiaddrs), concurrency.
        """
        answer = self.call("cat", cid=cid, timeout=timeout, **options)
        return answer["bytes"], answer["sha256"]

    def block_put(self, data: bytes, *, codec: str = "raw", hash_name: str = "sha2-256", cid_version: int = 1) -> str:
        """Store one block and return its CID. Codecs and hashes are those of `helia/node.mjs`."""
        options: Message = {"codec": codec, "hash": hash_name, "cidVersion": cid_version}
        return _cid(self.call("blockPut", b64=base64.b64encode(data).decode(), **options))

    def block_get(self, cid: str, *, timeout: float = _TIMEOUT, **options: Any) -> bytes:
        """Return a block, from the network if it is not here. `options`: offline, session, providers."""
        return base64.b64decode(self.call("blockGet", cid=cid, timeout=timeout, **options)["b64"])

    def block_has(self, cid: str) -> bool:
        """Say whether the block is in the store."""
        has: bool = self.call("blockHas", cid=cid)["has"]
        return has

    def car_export(self, cid: str, path: Path) -> None:
        """Write everything below `cid` to a CARv1 file."""
        self.call("carExport", cid=cid, path=str(path.absolute()))

    def car_import(self, path: Path) -> list[str]:
        """Store every block of a CAR file and return its roots."""
        roots: list[str] = self.call("carImport", path=str(path.absolute()))["roots"]
        return roots

    def dial(self, addr: str, *, timeout: float = _TIMEOUT) -> Message:
        """Connect to a multiaddr; return the connection's encryption, muxer, direction and more."""
        return self.call("dial", addr=addr, timeout=timeout)


def _cid(answer: Message) -> str:
    cid: str = answer["cid"]
    return cid
