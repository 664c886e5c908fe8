"""`ipvcs key`, as its users see it. What holds for keys and keystores themselves is tested with them."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.cli import passphrase as passphrase_module
from ipvcs.cli.puzzle_progress import duration
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity import pkcs8
from ipvcs.node.identity.keys import PrivateKey
from tests.cli_runner import Ipvcs, environment

VECTORS = Path(__file__).parents[2] / "vectors" / "peer-id"
OPENSSL = VECTORS / "openssl"
Typing = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _sealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No terminal but the one that `typing` makes, cheap passphrases, a working directory to export to."""
    monkeypatch.setattr(passphrase_module, "_has_terminal", lambda: False)
    monkeypatch.setattr(pkcs8, "SCRYPT_N", 2)
    monkeypatch.setattr(pkcs8, "SCRYPT_P", 1)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Sit somebody at the terminal who types these lines; return the list of prompts that are shown."""

    def sit_down(*lines: str) -> list[str]:
        prompts: list[str] = []
        left = list(lines)

        def getpass(prompt: str) -> str:
            prompts.append(prompt)
            return left.pop(0)

        monkeypatch.setattr(passphrase_module, "_has_terminal", lambda: True)
        monkeypatch.setattr("getpass.getpass", getpass)
        return prompts

    return sit_down


def use_passphrase(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("IPVCS_PASSPHRASE", text)


def test_a_new_key_is_printed_as_an_ipns_name_and_listed(ipvcs: Ipvcs) -> None:
    [text] = ipvcs.ok("key", "gen", "site").lines
    assert text.startswith("k51")
    assert PeerId.parse(text).to_base36() == text
    assert ipvcs.ok("key", "list").lines == ["site"]
    assert ipvcs.ok("key", "list", "-l").lines[0].split()[::3] == [text, "site"]


def test_json_has_kubos_shapes(ipvcs: Ipvcs) -> None:
    [made] = ipvcs.ok("key", "gen", "b", "--json").json
    assert made == {"Name": "b", "Id": made["Id"]}
    [other] = ipvcs.ok("key", "gen", "ä", "--type=rsa", "--json").json
    assert other["Id"].startswith("k2k4")

    assert ipvcs.ok("key", "list", "--json").json == [{"Keys": [made, other]}]
    assert ipvcs.ok("key", "rename", "b", "c", "--json").json == [
        {"Was": "b", "Now": "c", "Id": made["Id"], "Overwrite": False}
    ]
    assert ipvcs.ok("key", "rename", "-f", "c", "ä", "--json").json[0]["Overwrite"] is True
    assert ipvcs.ok("key", "rm", "ä", "--json").json == [{"Keys": [{"Name": "ä", "Id": made["Id"]}]}]
    assert ipvcs.ok("key", "list", "--json").json == [{"Keys": []}]


@pytest.mark.parametrize(
    ("base", "start"), [("b58mh", "12D3KooW"), ("base32", "bafz"), ("b", "bafz"), ("k", "k51"), ("base58btc", "z5Aan")]
)
def test_ids_are_written_in_any_base(ipvcs: Ipvcs, base: str, start: str) -> None:
    [text] = ipvcs.ok("key", "gen", "x").lines
    [listed] = ipvcs.ok("key", "list", "-l", "-b", base).lines
    assert listed.startswith(start)
    assert PeerId.parse(listed.split()[0]) == PeerId.parse(text)


def test_a_base_that_is_not_there_is_told_before_a_key_is_made(ipvcs: Ipvcs) -> None:
    assert "base99" in ipvcs.fails("key", "gen", "x", "--ipns-base=base99", code=129)
    assert ipvcs.ok("key", "list").lines == []


def test_the_long_list_shows_type_and_difficulty(ipvcs: Ipvcs) -> None:
    ipvcs.ok("key", "import", "spec", VECTORS / "go-libp2p-crypto" / "0.priv")
    ipvcs.ok("key", "gen", "hard", "--difficulty", "6")
    [[_, _, hard, _], [_, kind, difficulty, name]] = [line.split() for line in ipvcs.ok("key", "list", "-l").lines]
    assert (kind, difficulty, name) == ("rsa", "1", "spec")
    assert int(hard) >= 6
    [keys] = ipvcs.ok("key", "list", "-l", "--json").json
    assert [(key["Type"], key["Difficulty"]) for key in keys["Keys"]] == [("ed25519", int(hard)), ("rsa", 1)]


def test_gen_refuses_what_makes_no_sense(ipvcs: Ipvcs) -> None:
    ipvcs.ok("key", "gen", "x")
    assert "already exists" in ipvcs.fails("key", "gen", "x")
    assert "already exists" in ipvcs.fails("key", "gen", "x", "--difficulty", "64")  # told before the work, not after
    assert "1024 bits" in ipvcs.fails("key", "gen", "y", "-t", "rsa", "-s", "1024", code=129)
    assert "one size" in ipvcs.fails("key", "gen", "y", "-s", "2048", code=129)
    assert "control character" in ipvcs.fails("key", "gen", "y\n", code=129)
    assert "is not from 0 to 64" in ipvcs.fails("key", "gen", "y", "--difficulty", "65", code=129)
    assert ipvcs.ok("key", "list").lines == ["x"]


def test_rename_and_rm_refuse_what_would_lose_a_key(ipvcs: Ipvcs) -> None:
    for name in ("self", "x", "y"):
        ipvcs.ok("key", "gen", name)
    before = ipvcs.ok("key", "list", "-l").lines
    assert "already exists" in ipvcs.fails("key", "rename", "x", "y")
    assert "own key" in ipvcs.fails("key", "rename", "-f", "x", "self")
    assert "own key" in ipvcs.fails("key", "rename", "self", "z")
    assert "own key" in ipvcs.fails("key", "rm", "x", "self")
    assert "'nope'" in ipvcs.fails("key", "rm", "x", "nope")
    assert "'nope'" in ipvcs.fails("key", "rename", "nope", "z")
    assert ipvcs.ok("key", "list", "-l").lines == before

    assert ipvcs.ok("key", "rm", "x", "y", "x").lines == ["x", "y"]
    assert ipvcs.ok("key", "list").lines == ["self"]


@pytest.mark.parametrize("key_format", ["libp2p-protobuf-cleartext", "pem-pkcs8-cleartext"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_an_exported_key_has_the_same_id_in_another_home(
    ipvcs: Ipvcs, other: Ipvcs, kind: str, key_format: str
) -> None:
    [text] = ipvcs.ok("key", "gen", "x", "-t", kind).lines
    before = os.umask(0)
    try:
        ipvcs.ok("key", "export", "x", "-f", key_format)
    finally:
        os.umask(before)
    file = Path("x.key" if key_format.startswith("libp2p") else "x.pem")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert other.ok("key", "import", "detected", file).lines == [text]
    assert other.ok("key", "import", "named", file, "-f", key_format).lines == [text]
    assert other.ok("key", "import", "piped", "-", stdin=file.read_bytes()).lines == [text]


def test_an_export_never_overwrites(ipvcs: Ipvcs, tmp_path: Path) -> None:
    ipvcs.ok("key", "gen", "a/x")
    ipvcs.ok("key", "export", "a/x")
    kept = Path("x.key").read_bytes()  # Kubo's choice of a name, which stays in this directory
    Path("link").symlink_to("nowhere")

    assert "'x.key' already exists" in ipvcs.fails("key", "export", "a/x")
    assert "already exists" in ipvcs.fails("key", "export", "a/x", "-o", "link")
    ipvcs.fails("key", "export", "a/x", "-o", tmp_path / "no" / "directory")
    assert Path("x.key").read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "link", "x.key"]


def test_an_export_to_standard_output_is_the_key_alone(ipvcs: Ipvcs) -> None:
    [text] = ipvcs.ok("key", "gen", "x").lines
    assert PrivateKey.decode(ipvcs.ok("key", "export", "x", "-o", "-").stdout).peer_id.to_base36() == text


def test_an_encrypted_export_opens_with_its_passphrase_alone(ipvcs: Ipvcs, other: Ipvcs, typing: Typing) -> None:
    [text] = ipvcs.ok("key", "gen", "x").lines
    Path("right").write_text("secret\n")
    Path("wrong").write_text("sceret\n")
    ipvcs.ok("key", "export", "x", "--passphrase-file", "right")

    assert "wrong passphrase" in other.fails("key", "import", "x", "x.pem", "--passphrase-file", "wrong")
    assert "no terminal" in other.fails("key", "import", "x", "x.pem")
    assert other.ok("key", "import", "file", "x.pem", "--passphrase-file", "right").lines == [text]
    typing("secret")
    assert other.ok("key", "import", "typed", "x.pem").lines == [text]
    assert "not encrypted" in ipvcs.fails(
        "key", "export", "x", "-o", "y", "-f", "pem-pkcs8-cleartext", "--passphrase-file", "right", code=129
    )


def test_the_passphrase_of_an_export_is_typed_twice(ipvcs: Ipvcs, typing: Typing) -> None:
    ipvcs.ok("key", "gen", "x")
    typing("secret", "sceret")
    assert "differ" in ipvcs.fails("key", "export", "x", "-p", code=129)
    typing("")
    assert "empty" in ipvcs.fails("key", "export", "x", "-f", "pem-pkcs8-encrypted", code=129)
    assert not Path("x.pem").exists()
    prompts = typing("secret", "secret")
    ipvcs.ok("key", "export", "x", "-p")
    assert len(prompts) == 2
    assert b"ENCRYPTED" in Path("x.pem").read_bytes()


def test_what_openssl_wrote_is_imported(ipvcs: Ipvcs) -> None:
    Path("y").write_text("y")
    found = {
        line
        for name in ("clear", "scrypt", "pbkdf2")
        for line in ipvcs.ok("key", "import", name, OPENSSL / f"{name}.pem", "--passphrase-file", "y").lines
    }
    assert len(found) == 1


def test_the_identity_of_a_kubo_config_is_imported_as_the_nodes_own(ipvcs: Ipvcs) -> None:
    vector = json.loads((VECTORS / "js_go_private_key.json").read_text())
    Path("identity").write_text(vector["privKey"] + "\n")
    assert ipvcs.ok("key", "import", "self", "identity", "-b", "b58mh").lines == [vector["id"]]
    assert "already exists" in ipvcs.fails("key", "import", "self", "identity")


def test_what_is_no_key_is_not_imported(ipvcs: Ipvcs) -> None:
    Path("text").write_text("hello")
    Path("empty").write_text("")
    for file, message in (("text", "no private key"), ("empty", "empty"), ("nope", "nope"), (".", "directory")):
        assert message in ipvcs.fails("key", "import", "x", file)
    assert "over 64 KiB" in ipvcs.fails("key", "import", "x", "/dev/zero")
    assert ipvcs.ok("key", "list").lines == []


@pytest.mark.parametrize(("kind", "file"), [("secp256k1", "2"), ("ecdsa", "3")])
def test_rare_types_are_imported_on_demand_alone(ipvcs: Ipvcs, kind: str, file: str) -> None:
    path = VECTORS / "go-libp2p-crypto" / f"{file}.priv"
    error = ipvcs.fails("key", "import", "x", path)
    assert kind in error
    assert "--allow-any-key-type" in error
    ipvcs.ok("key", "import", "x", path, "--allow-any-key-type")
    ipvcs.ok("key", "export", "x")
    assert Path("x.key").read_bytes() == path.read_bytes()


def test_a_passphrase_protects_every_key_of_the_home(ipvcs: Ipvcs, monkeypatch: pytest.MonkeyPatch) -> None:
    [text] = ipvcs.ok("key", "gen", "x").lines
    Path("new").write_text("sesame\n")
    assert "2 keys are encrypted" in ipvcs.ok("key", "passwd", "--new-passphrase-file", "new").stderr
    assert ipvcs.ok("key", "list").lines == ["self", "x"]  # needs none
    assert text in ipvcs.ok("key", "list", "-l").out

    error = ipvcs.fails("key", "export", "x")
    assert "no terminal to ask" in error
    assert "IPVCS_PASSPHRASE_FILE" in error
    use_passphrase(monkeypatch, "wrong")
    assert "wrong passphrase" in ipvcs.fails("key", "export", "x")
    assert "wrong passphrase" in ipvcs.fails("key", "gen", "y")
    assert not Path("x.key").exists()
    use_passphrase(monkeypatch, "sesame")
    ipvcs.ok("key", "export", "x")
    ipvcs.ok("key", "gen", "y")
    monkeypatch.delenv("IPVCS_PASSPHRASE")
    monkeypatch.setenv("IPVCS_PASSPHRASE_FILE", "new")
    ipvcs.ok("key", "export", "y")
    for path in (ipvcs.home / "keystore").iterdir():
        assert b"-----BEGIN PRIVATE KEY-----" not in path.read_bytes()


def test_the_variable_counts_before_the_file_and_an_empty_one_does_not_count(
    ipvcs: Ipvcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("wrong").write_text("wrong")
    use_passphrase(monkeypatch, "right")
    monkeypatch.setenv("IPVCS_PASSPHRASE_FILE", "wrong")
    ipvcs.ok("key", "gen", "x")
    ipvcs.ok("key", "export", "x")
    use_passphrase(monkeypatch, "")
    assert "wrong passphrase" in ipvcs.fails("key", "export", "x", "-o", "y")
    Path("wrong").write_text("\n")
    assert "no passphrase in 'wrong'" in ipvcs.fails("key", "export", "x", "-o", "y", code=129)
    monkeypatch.setenv("IPVCS_PASSPHRASE_FILE", "/dev/zero")
    assert "longer than any passphrase" in ipvcs.fails("key", "export", "x", "-o", "y", code=129)
    monkeypatch.setenv("IPVCS_PASSPHRASE_FILE", "nope")
    assert "'nope': No such file" in ipvcs.fails("key", "export", "x", "-o", "y")


def test_a_home_whose_first_key_is_made_with_a_passphrase_is_encrypted_from_the_start(
    ipvcs: Ipvcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_passphrase(monkeypatch, "sesame")
    ipvcs.ok("key", "gen", "x")
    monkeypatch.delenv("IPVCS_PASSPHRASE")
    assert "no terminal" in ipvcs.fails("key", "export", "x")


def test_passwd_asks_for_the_old_passphrase_and_for_the_new_one_twice(ipvcs: Ipvcs, typing: Typing) -> None:
    prompts = typing("one", "one")
    assert ipvcs.ok("key", "passwd").stderr == "1 key is encrypted with the new passphrase\n"  # the node's own
    assert [prompt.split()[0] for prompt in prompts] == ["New", "The"]
    typing("oen")
    assert "wrong passphrase" in ipvcs.fails("key", "passwd")
    prompts = typing("one", "two", "two")
    ipvcs.ok("key", "passwd")
    assert len(prompts) == 3
    typing("two")
    assert ipvcs.ok("key", "passwd", "--remove").stderr == "1 key is in clear\n"
    prompts = typing()
    ipvcs.ok("key", "export", "self")
    assert prompts == []
    assert "exclude each other" in ipvcs.fails("key", "passwd", "--remove", "--new-passphrase-file=x", code=129)


def test_a_damaged_key_does_not_hide_the_others(ipvcs: Ipvcs) -> None:
    for name in ("a", "b", "c"):
        ipvcs.ok("key", "gen", name)
    [damaged] = (ipvcs.home / "keystore").glob("key_mi")  # b
    damaged.write_bytes(b"")
    result = ipvcs.run("key", "list", "-l")
    assert (result.code, [line.split()[-1] for line in result.lines]) == (1, ["a", "c"])
    assert "key 'b' is damaged" in result.stderr
    assert ipvcs.ok("key", "rm", "b", "-l").lines == ["b"]


def test_the_real_terminal_is_asked_without_echo(ipvcs: Ipvcs, monkeypatch: pytest.MonkeyPatch) -> None:
    use_passphrase(monkeypatch, "sesame")
    ipvcs.ok("key", "gen", "x")
    monkeypatch.delenv("IPVCS_PASSPHRASE")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "ipvcs", "--home", str(ipvcs.home), "key", "export", "x", "-o", "out"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment(ipvcs.home)
    )
    os.close(theirs)
    shown = b""
    try:
        while not shown.rstrip().endswith(b":"):
            shown += os.read(ours, 1000)
        os.write(ours, b"sesame\n")
        while chunk := _read_terminal(ours):
            shown += chunk
        assert process.wait(timeout=60) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Passphrase for the keys of" in shown
    assert b"sesame" not in shown
    assert Path("out").exists()


def _read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 1000)
    except OSError:  # EIO: nobody has the other end open any more
        return b""


def test_a_hopeless_puzzle_shows_its_progress_and_can_be_interrupted(ipvcs: Ipvcs) -> None:
    ipvcs.ok("key", "gen", "x")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "ipvcs", "--home", str(ipvcs.home), "key", "gen", "y", "--difficulty", "50"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=environment(ipvcs.home)
    )
    os.close(theirs)
    shown = b""
    try:
        deadline = time.monotonic() + 60
        while b"expected" not in shown:
            shown += os.read(ours, 1000)
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        while chunk := _read_terminal(ours):
            shown += chunk
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = shown.decode()
    assert (process.returncode, out) == (130, b"")
    assert "keys tried" in text
    assert "/s, 1,125,899,906,842,624 expected: " in text
    assert text.rstrip().endswith("error: interrupted")
    assert ipvcs.ok("key", "list").lines == ["x"]


@given(st.floats(0, 1e30))
def test_durations_are_short_words(seconds: float) -> None:
    number, unit = duration(seconds).split()
    assert unit in ("seconds", "minutes", "hours", "days", "years")
    assert float(number.replace(",", "")) >= 0


def test_durations_read_well() -> None:
    assert [duration(seconds) for seconds in (0.4, 90, 150, 9000, 5e5, 2.2e9)] == [
        "0 seconds",
        "90 seconds",
        "2 minutes",
        "2 hours",
        "6 days",
        "70 years",
    ]


@pytest.mark.parametrize(
    "args", [["key", "--help"], ["key", "gen", "--help"], ["key", "import", "--help"], ["version"]]
)
def test_help_does_not_wait_for_cryptography(ipvcs: Ipvcs, args: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ipvcs", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "ipvcs.cli.app" in imported
    assert not {name for name in imported if name.startswith(("cryptography", "ipvcs.node", "ipvcs.storage"))}


def test_no_secret_is_printed_by_any_command(ipvcs: Ipvcs) -> None:
    key = PrivateKey.decode((VECTORS / "go-libp2p-crypto" / "0.priv").read_bytes())
    secret = key.encode()[-64:]
    shown = b""
    for args in (
        ["import", "x", str(VECTORS / "go-libp2p-crypto" / "0.priv")],
        ["list", "-l"],
        ["list", "--json"],
        ["export", "x"],
        ["rename", "x", "y"],
        ["rm", "y", "-l"],
    ):
        result = ipvcs.ok("key", *args)
        shown += result.stdout + result.stderr.encode()
    for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:40]):
        assert form not in shown
