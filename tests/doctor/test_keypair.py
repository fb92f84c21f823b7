from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from doctor import keypair
from doctor.keypair import BadKey, Place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tesla" / "private-key.pem", tmp_path / "tesla" / "public-key.pem")


def openssl(*words: str) -> str:
    program = shutil.which("openssl")
    assert program
    return subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout


def test_openssl_reads_both_halves(place: Place) -> None:
    assert keypair.make(place)
    assert place.private.stat().st_mode & 0o777 == 0o600
    public = openssl("ec", "-pubin", "-in", str(place.public), "-noout", "-text")
    assert "ASN1 OID: prime256v1" in public
    assert openssl("ec", "-in", str(place.private), "-pubout") == place.public.read_text()
    assert keypair.held(place) == public.split("pub:")[1].split("ASN1")[0].replace(":", "").replace(
        " ", ""
    ).replace("\n", "")


def test_an_existing_pair_is_left_alone(place: Place) -> None:
    keypair.make(place)
    before = place.private.read_bytes()
    assert not keypair.make(place)
    assert place.private.read_bytes() == before
    place.public.unlink()
    assert not keypair.make(place)
    assert keypair.held(place)
    assert place.private.read_bytes() == before
    assert {path.name for path in place.private.parent.iterdir()} == {"private-key.pem", "public-key.pem"}


def test_none(place: Place) -> None:
    assert keypair.held(place) is None


def test_halves_that_do_not_belong_together(place: Place) -> None:
    keypair.make(place)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    place.public.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BadKey, match="does not belong"):
        keypair.held(place)


def test_keys_of_another_kind(place: Place) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(BadKey, match="prime256v1"):
        keypair.point(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BadKey, match="PEM"):
        keypair.point(b"<html>")
    keypair.make(place)
    place.private.write_text("nonsense")
    with pytest.raises(BadKey, match=r"private-key\.pem"):
        keypair.held(place)
