from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from doctor import configuration
from doctor.findings import Finding, Verdict, run
from settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def look(tmp_path: Path, **given: Any) -> dict[str, Finding]:
    settings = Settings(**{"_env_file": None, "evergrant_home": tmp_path / "home"} | given)
    return {found.check: found for found in run([configuration.look(settings, [])])}


@pytest.mark.parametrize(
    ("check", "given", "verdict", "words"),
    [
        ("settings.app", {"tesla_client_id": "a", "tesla_client_secret": "b"}, "pass", "TESLA_CLIENT_SECRET"),
        ("settings.app", {"tesla_client_id": "a"}, "pass", "open-source"),
        ("settings.app", {}, "pass", "the sandbox plays Tesla"),
        ("settings.app", {"tesla_client_secret": "b"}, "fail", "TESLA_CLIENT_ID"),
        ("settings.keys", {}, "can't know", "the first start makes them"),
        ("settings.keys", {"encryption_keys": "k1:short"}, "fail", "k1"),
        ("settings.keys", {"encryption_keys_file": "/nowhere"}, "fail", "/nowhere"),
        ("settings.keys", {"encryption_keys": "k1:" + "A" * 43 + "="}, "pass", ""),
        ("settings.secret_key", {}, "pass", "random"),
        ("settings.secret_key", {"secret_key": "change-me"}, "fail", "tries first"),
        ("settings.secret_key", {"secret_key": "hjdk28"}, "fail", "6 characters"),
        ("settings.secret_key", {"secret_key": "a" * 40}, "fail", "1 of them different"),
        ("settings.secret_key", {"secret_key": "0123456789abcdefghij"}, "pass", ""),
        ("settings.password", {"operator_password": "changeme"}, "fail", "tries first"),
        ("settings.password", {"operator_password": "a-long-one-indeed"}, "pass", ""),
        ("settings.public_url", {"public_url": "http://a.example"}, "fail", "not https"),
        ("settings.public_url", {"public_url": "https://a.example"}, "pass", ""),
        ("settings.public_url", {"public_url": "http://127.0.0.1:8000"}, "pass", "this machine"),
    ],
)
def test_each_setting(tmp_path: Path, check: str, given: dict[str, Any], verdict: str, words: str) -> None:
    found = look(tmp_path, **given)[check]
    assert found.verdict.value == verdict, found
    assert words in found.seen
    assert bool(found.repair) == (verdict != "pass")
    for name, secret in given.items():
        if name in {"secret_key", "operator_password", "tesla_client_secret"} and len(secret) > 3:
            assert secret not in str(found.as_dict())


def test_looking_makes_nothing(tmp_path: Path) -> None:
    look(tmp_path)
    assert not (tmp_path / "home").exists()


def test_a_secret_that_everybody_can_read(tmp_path: Path) -> None:
    secrets = tmp_path / "home" / "secrets"
    secrets.mkdir(parents=True)
    key = secrets / "encryption_keys"
    key.touch(mode=0o600)
    assert look(tmp_path)["settings.private"].verdict is Verdict.PASS
    key.chmod(0o644)
    found = look(tmp_path)["settings.private"]
    assert (found.verdict, str(key) in found.repair) == (Verdict.FAIL, True)


def test_settings_that_do_not_read() -> None:
    found = run([configuration.look(None, ["SWEEP_SECONDS: must be a number"])])
    assert found[0].verdict is Verdict.FAIL
    assert "SWEEP_SECONDS" in found[0].seen
    assert all(other.verdict is Verdict.UNKNOWN for other in found[1:])
