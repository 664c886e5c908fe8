"""A real Kubo 0.22 to test against: starts `kubo_node` as a child process and speaks for it.

What it is: `/noise` and `/tls/1.0.0`; `/yamux/1.0.0` and `/mplex/6.7.0`; bitswap 1.2.0, 1.1.0 and 1.0.0; a server of
`/ipfs/lan/kad/1.0.0`. It adds as CIDv0 in chunks of 256 KiB with dag-pb leaves, Kubo's defaults. There is no RPC API,
no gateway and no `name publish` in this build.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tests.interop import cache
from tests.interop.json_peer import JsonPeer, Message

_CHECKOUT = Path(__file__).parents[2]
_TIMEOUT = 60.0  # seconds


class KuboPeer(JsonPeer):
    """One Kubo node. `with KuboPeer(directory) as kubo: cid = kubo.add(path)`.

    Attributes:
        peer_id: its NodeId, base58.
        addrs: what it listens on, with `/p2p/<peer id>`.
        repo: its IPFS_PATH.
    """

    def __init__(
        self,
        directory: Path,
        *,
        identity: Literal["rsa", "ed25519"] = "rsa",
        fast: bool = True,
        listen: Sequence[str] = (),
        settings: Sequence[str] = (),
        allow_interfaces: Sequence[str] = (),
    ) -> None:
        """Start a node, on a new repository unless `directory` has one.

        Args:
            directory: takes the repository and a log.
            identity: the kind of key a new repository gets; Kubo's own default was RSA-2048 for years.
            fast: no fsync per block. Set it to False to compare speed with default sync.
            listen: multiaddrs; a free TCP port of 127.0.0.1 by default.
            settings: `Key.Sub.Key=JSON`, put into the config last. `Internal.Libp2pForceReachability="public"` makes it
                a server of `/ipfs/kad/1.0.0` too (it answers there, but keeps no loopback peer in that table).
            allow_interfaces: may be up beside `lo`, such as one end of a veth pair that a test made.

        Raises:
            MissingPeerError: the library is not in the cache.
            PeerError: it does not start.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.repo = (directory / "repo").absolute()
        command = [sys.executable, "-m", "tests.interop.kubo_node", "--library", str(cache.kubo_library())]
        command += ["--repo", str(self.repo), "--identity", identity]
        command += [f"--listen={addr}" for addr in listen]
        command += [f"--set={setting}" for setting in settings]
        command += [f"--allow-interface={name}" for name in allow_interfaces]
        super().__init__("kubo", command + ["--fast"] * fast, directory / "stderr.log", cwd=_CHECKOUT)
        self.peer_id: str = self.info["id"]
        self.addrs: list[str] = self.info["addrs"]

    def call(self, command: str, *, timeout: float = _TIMEOUT, **arguments: Any) -> Any:
        """Send any command of `kubo_node` and return its result.

        Args:
            command: addrs, add, config, connect, findpeer, get, id, log, p2p_close, p2p_forward, p2p_listen, peer_ids,
                peers, pin, pins, rss or unpin.
            timeout: seconds. Kubo itself never gives up on a block that nobody has.
            arguments: the command's own.

        Raises:
            PeerError: Kubo failed; the text has the end of its log.
            TimeoutError: no answer yet.
        """
        answer: Message = self.request(command, within=timeout, **arguments)
        return answer["result"]

    def add(self, path: Path, *, only_hash: bool = False) -> str:
        """Add and pin a file or a whole directory with Kubo's defaults; return the root CID.

        Hidden entries are included. A symlink in a directory stays one; `path` itself is followed if it is one.
        """
        cid: str = self.call("add", path=str(path.absolute()), only_hash=only_hash)
        return cid

    def get(self, cid: str, path: Path, *, timeout: float = _TIMEOUT) -> None:
        """Write what `cid` leads to to `path`, fetching what is missing."""
        self.call("get", cid=cid, path=str(path.absolute()), timeout=timeout)

    def pin(self, cid: str, *, timeout: float = _TIMEOUT) -> None:
        """Pin recursively, fetching what is missing."""
        self.call("pin", cid=cid, timeout=timeout)

    def unpin(self, cid: str) -> None:
        """Take a recursive pin away."""
        self.call("unpin", cid=cid)

    def pins(self) -> list[str]:
        """Return every pinned CID, the indirect ones included."""
        found: list[str] = self.call("pins")
        return found

    def connect(self, addr: str, *, timeout: float = _TIMEOUT) -> None:
        """Dial a multiaddr that ends in `/p2p/<peer id>`."""
        self.call("connect", addr=addr, timeout=timeout)

    def connected_peers(self) -> list[str]:
        """Return the peer ids it has connections with."""
        found: list[str] = self.call("peer_ids")
        return found

    def find_peer(self, peer_id: str, *, seconds: int = 10) -> list[str]:
        """Return a peer's addresses as the DHT knows them."""
        found: list[str] = self.call("findpeer", peer=peer_id, seconds=seconds, timeout=seconds + 10)
        return found

    def p2p_listen(self, protocol: str, target: str) -> None:
        """Serve `protocol` (`/x/…`): each stream of it becomes a TCP connection to the multiaddr `target`."""
        self.call("p2p_listen", proto=protocol, target=target)

    def p2p_forward(self, protocol: str, listen: str, peer_id: str) -> None:
        """Take TCP connections at the multiaddr `listen`; each becomes a stream of `protocol` to `peer_id`.

        The library puts `/x/` in front of any other protocol, so this opens no others.
        """
        self.call("p2p_forward", proto=protocol, listen=listen, peer=peer_id)

    def p2p_close(self) -> int:
        """End all that `p2p_listen` and `p2p_forward` set up and return how many there were."""
        count: int = self.call("p2p_close")
        return count
