"""Fixtures of the tests of keys."""

import pytest

from ipvcs.node.identity import pkcs8


@pytest.fixture
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypt with a passphrase at no cost: a quarter of a second each is for those who guess."""
    monkeypatch.setattr(pkcs8, "SCRYPT_N", 2)
    monkeypatch.setattr(pkcs8, "SCRYPT_P", 1)
