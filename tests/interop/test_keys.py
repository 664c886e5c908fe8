"""Keys that another implementation made, and what others make of ours."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvcs.node.identity.key_formats import KeyFormat, export_key, import_key
from ipvcs.node.identity.keys import KeyType, PrivateKey, PublicKey, generate_key
from tests.cli_runner import Ipvcs
from tests.interop.kubo_peer import KuboPeer
from tests.unit.node.identity.key_pool import KEYS


@pytest.fixture
def ipvcs(tmp_path: Path) -> Ipvcs:
    """The command line of a new home."""
    return Ipvcs(tmp_path / "home")


def test_an_rsa_identity_that_kubo_made_has_the_same_id_here(
    start_kubo: Callable[..., KuboPeer], ipvcs: Ipvcs, tmp_path: Path
) -> None:
    kubo = start_kubo(identity="rsa")
    text = kubo.call("config")["Identity"]["PrivKey"]

    key = PrivateKey.decode(base64.b64decode(text))

    assert key.type is KeyType.RSA
    assert str(key.peer_id) == kubo.peer_id
    assert base64.b64encode(key.encode()).decode() == text
    PublicKey.decode(key.public_key.encode()).verify(b"data", key.sign(b"data"))
    (tmp_path / "config").write_text(text)
    assert ipvcs.ok("key", "import", "self", tmp_path / "config", "-b", "b58mh").lines == [kubo.peer_id]


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.RSA])
def test_kubo_runs_with_a_key_of_ours_under_the_same_id(start_kubo: Callable[..., KuboPeer], kind: KeyType) -> None:
    """Kubo compares the id of its config with the one that it computes from the key."""
    key = generate_key(kind)
    identity = {"PeerID": str(key.peer_id), "PrivKey": base64.b64encode(export_key(key, KeyFormat.LIBP2P)).decode()}

    kubo = start_kubo(settings=[f"Identity={json.dumps(identity)}"])

    assert kubo.peer_id == str(key.peer_id)


@pytest.mark.parametrize("kind", KeyType)
def test_openssl_reads_our_encrypted_export_and_we_read_its_own(tmp_path: Path, kind: KeyType) -> None:
    openssl = shutil.which("openssl")
    assert openssl, "openssl is not on PATH: install the package of that name"
    key, file = KEYS[kind], tmp_path / "key.pem"
    file.write_bytes(export_key(key, KeyFormat.PEM_ENCRYPTED, b"secret"))

    clear = _run(openssl, "pkey", "-in", str(file), "-passin", "pass:secret")
    assert import_key(clear, KeyFormat.PEM, lambda: b"") == key
    assert b"rror" in _run(openssl, "pkey", "-in", str(file), "-passin", "pass:wrong", code=1)

    (tmp_path / "clear.pem").write_bytes(clear)
    command = ["pkcs8", "-topk8", "-in", str(tmp_path / "clear.pem"), "-passout", "pass:other"]
    for options in (["-scrypt"], ["-v2", "aes-256-cbc", "-iter", "100000"]):
        closed = _run(openssl, *command, *options)
        assert import_key(closed, None, lambda: b"other") == key


def _run(*command: str, code: int = 0) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr
