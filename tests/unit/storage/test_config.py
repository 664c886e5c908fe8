"""The configuration file: known keys, their types, and whole files only."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.storage.config import SETTINGS, Config, ConfigError, parse_config
from ipvcs.storage.disk import DiskFullError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def test_a_missing_file_is_all_defaults(path: Path) -> None:
    config = Config.load(path)
    assert {name: config.get(name) for name in SETTINGS} == {name: one.default for name, one in SETTINGS.items()}
    assert config.show()["Datastore"] == {"Sync": True, "HashOnRead": True}
    assert config.get("Addresses") == {"API": [], "Swarm": SETTINGS["Addresses.Swarm"].default}


def test_what_is_set_is_there_when_read_again_and_the_rest_is_kept(path: Path) -> None:
    Config.load(path).set("Datastore.Sync", False)
    stale = Config.load(path)
    Config.load(path).set("Addresses.Swarm", ["/ip4/127.0.0.1/tcp/0"])
    stale.set("Bootstrap", ["/dnsaddr/example.com"])

    assert json.loads(path.read_text()) == {
        "Addresses": {"Swarm": ["/ip4/127.0.0.1/tcp/0"]},
        "Bootstrap": ["/dnsaddr/example.com"],
        "Datastore": {"Sync": False},
    }
    assert stale.get("Addresses.Swarm") == ["/ip4/127.0.0.1/tcp/0"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("Datastore.Sync", "yes", 'takes true or false, not "yes"'),
        ("Datastore.Sync", 1, "takes true or false, not 1"),
        ("Bootstrap", "/ip4/1.2.3.4", "takes a list of strings"),
        ("Bootstrap", [1], "takes a list of strings, not [1]"),
        ("Import.Profile", None, "takes a string, not null"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(path: Path, key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        Config.load(path).set(key, value)
    assert caught.value.key == key
    assert not path.exists()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("Addresses.Swarn", "did you mean 'Addresses.Swarm'?"),
        ("datastore.sync", "did you mean 'Datastore.Sync'?"),
        ("Nonsense", "one of: Addresses.API, "),
        ("", "one of: "),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(path: Path, key: str, hint: str) -> None:
    config = Config.load(path)
    for act in (lambda: config.get(key), lambda: config.set(key, "x")):
        with pytest.raises(ConfigError, match=f"unknown configuration key '{key}'") as caught:
            act()
        assert str(caught.value.hint).startswith(hint)
    assert caught.value.exit_code == 129


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff", b"null", b'{"Datastore": {"Sync": "on"}}', b'{"Datastor": 1}', b'{"Bootstrap": {}}',
     b'{"a":' * 400 + b"1" + b"}" * 400, b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_named(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert caught.value.hint
    with pytest.raises(ConfigError):
        Config(path, {}).set("Datastore.Sync", True)
    assert path.read_bytes() == text, "it is the user's to mend"


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(SETTINGS)), inner)
       ).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_garbage_raises_only_our_errors(text: bytes) -> None:
    try:
        config = Config(Path("config"), parse_config(text, Path("config")))
    except UsageError:
        return
    config.show()


def test_a_key_written_with_dots_is_understood(path: Path) -> None:
    path.write_bytes(b'{"Datastore.Sync": false}')
    assert Config.load(path).get("Datastore.Sync") is False


def test_all_settings_can_be_replaced_at_once(path: Path) -> None:
    config = Config.load(path)
    config.set("Datastore.Sync", False)
    config.replace({"Import": {"Profile": "unixfs-v0-2015"}})

    assert config.get("Datastore.Sync") is True
    assert Config.load(path).get("Import.Profile") == "unixfs-v0-2015"
    with pytest.raises(ConfigError):
        config.replace({"Import": {"Profile": 1}})
    assert Config.load(path).get("Import.Profile") == "unixfs-v0-2015"


def test_a_full_disk_leaves_the_old_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    config = Config.load(path)
    config.set("Datastore.Sync", False)

    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DiskFullError):
            config.set("Datastore.Sync", True)

    assert config.get("Datastore.Sync") is False
    assert Config.load(path).get("Datastore.Sync") is False
    assert [file.name for file in path.parent.iterdir()] == ["config"]


def test_settings_made_by_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    keys = [key for key, setting in SETTINGS.items() if setting.kind is int]
    code = "import sys; from pathlib import Path; from ipvcs.storage.config import Config; "
    code += "Config.load(Path(sys.argv[1])).set(sys.argv[2], 7)"
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "config"), key]) for key in keys]
    assert [process.wait(60) for process in running] == [0] * len(keys)
    config = Config.load(tmp_path / "config")
    assert [config.get(key) for key in keys] == [7] * len(keys)


def test_a_change_sees_what_the_file_holds_now(tmp_path: Path) -> None:
    ours, others = Config.load(tmp_path / "config"), Config.load(tmp_path / "config")
    others.set("Bootstrap", ["/ip4/1.2.3.4/tcp/1"])
    others.set("Import.CidVersion", 0)
    ours.change("Bootstrap", lambda old: [*old, "/ip4/1.2.3.4/tcp/2"])
    assert ours.get("Bootstrap") == ["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/2"]
    assert Config.load(tmp_path / "config").show() == ours.show()
    assert ours.get("Import.CidVersion") == 0


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    config = Config.load(tmp_path / "config")
    config.set("Bootstrap", ["/ip4/1.2.3.4/tcp/1"])

    def edit(_old: list[str]) -> list[str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        config.change("Bootstrap", edit)
    with pytest.raises(ConfigError):
        config.change("Bootstrap", lambda _old: "a string")
    assert Config.load(tmp_path / "config").get("Bootstrap") == ["/ip4/1.2.3.4/tcp/1"]
