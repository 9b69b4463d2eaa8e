"""Signed manifests, with a certificate that the test makes itself."""

from __future__ import annotations

import datetime
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures.conftest import samples
from topcoat.enhance.jobs import Job
from topcoat.enhance.work import Settings, enhance_files
from topcoat.errors import DataError, UsageError
from topcoat.pictures import FORMATS, decode_picture
from topcoat.pictures.provenance import Record
from topcoat.pictures.signing import Signer, manifest_of

pytest.importorskip("c2pa")
x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

RECORD = Record("enhance", head="a head", strength="1")


def certificate(name: str, key: object, issuer: str, issuer_key: object, *, authority: bool) -> bytes:
    """As the C2PA specification wants a signer's (14.5.1), or an authority's."""

    def named(text: str) -> object:
        oid = x509.NameOID
        return x509.Name([x509.NameAttribute(oid.ORGANIZATION_NAME, "Test"), x509.NameAttribute(oid.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    public, issuing = key.public_key(), issuer_key.public_key()  # type: ignore[attr-defined]
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + 30 * day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if not authority:
        usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    signed = builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def write_pair(folder: Path, key: object) -> tuple[Path, Path]:
    root = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate("signer", key, "root", root, authority=False)
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(leaf + certificate("root", root, "root", root, authority=True))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))  # type: ignore[attr-defined]
    return chain, secret


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("pem"), ec.generate_private_key(ec.SECP256R1()))


def file_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples(3)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff"])
def test_every_format_is_signed_with_its_input_as_parent(kind: str, pair: tuple[Path, Path]) -> None:
    parent = Signer(*pair).sign(file_of("png"), FORMATS["png"], Record("generate", generator="a model"))
    assert decode_picture(parent).metadata.has_manifest
    content = file_of(kind)
    signed = Signer(*pair).sign(content, FORMATS[kind], RECORD, (parent, FORMATS["png"]))
    found = manifest_of(signed, FORMATS[kind])
    assert found is not None and found["state"] == "valid" and found["generator"] == ["topcoat"]
    assert found["signed_by"] == "Test" and found["parents"] == ["input"]
    assert found["actions"] == ["c2pa.opened", "c2pa.edited"]
    assert (decode_picture(signed).samples == decode_picture(content).samples).all()


def test_many_threads_sign_with_one_signer(pair: tuple[Path, Path], tmp_path: Path) -> None:
    jobs: list[Job] = []
    for number in range(9):
        source = tmp_path / f"{number}.png"
        source.write_bytes(file_of("png"))
        jobs.append(Job(source, tmp_path / "out" / source.name, FORMATS["png"]))
    signed = Settings(head="a head", head_digest="0123", strength=1, signer=Signer(*pair))
    outcomes = list(enhance_files(jobs, lambda images: (images, ()), signed, workers=3))
    assert [(outcome.status, outcome.notes) for outcome in outcomes] == [("enhanced", ())] * 9
    for job in jobs:
        found = manifest_of(job.target.read_bytes(), FORMATS["png"])
        assert found is not None and found["state"] == "valid" and found["parents"] == ["input"]
    assert {outcome.status for outcome in enhance_files(jobs, lambda images: (images, ()), signed)} == {"done before"}


def test_a_changed_pixel_is_found(pair: tuple[Path, Path]) -> None:
    signed = bytearray(Signer(*pair).sign(file_of("png"), FORMATS["png"], Record("generate")))
    assert (manifest_of(bytes(signed), FORMATS["png"]) or {})["state"] == "valid"
    signed[-30] ^= 1
    assert (manifest_of(bytes(signed), FORMATS["png"]) or {})["state"] == "invalid"
    assert manifest_of(file_of("png"), FORMATS["png"]) is None


@pytest.mark.parametrize("make", [lambda: ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate,
                                  lambda: rsa.generate_private_key(65537, 2048)])  # fmt: skip
def test_other_kinds_of_keys(make: object, tmp_path: Path) -> None:
    signer = Signer(*write_pair(tmp_path, make()))  # type: ignore[operator]
    found = manifest_of(signer.sign(file_of("png"), FORMATS["png"], RECORD), FORMATS["png"])
    assert found is not None and found["state"] == "valid" and found["actions"] == ["c2pa.created"]


def test_bad_certificates_are_one_sentence(pair: tuple[Path, Path], tmp_path: Path) -> None:
    chain, key = pair
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "empty.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    other, other_key = write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    root = ec.generate_private_key(ec.SECP256R1())
    self_signed = tmp_path / "self.pem"
    self_signed.write_bytes(certificate("me", root, "me", root, authority=True))
    secret = tmp_path / "self-key.pem"
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(root.private_bytes(serialization.Encoding.PEM, form, plain))
    for given, says in (
        ((tmp_path / "absent.pem", key), "cannot be read"),
        ((tmp_path / "text.pem", key), "in PEM"),
        ((tmp_path / "empty.pem", key), "no certificate that can be read"),
        ((chain, chain), "no private key"),
        ((chain, other_key), "is not the key of"),
    ):
        with pytest.raises(DataError, match=says):
            Signer(*given)
    with pytest.raises(DataError, match="could not be signed") as caught:
        Signer(self_signed, secret).sign(file_of("png"), FORMATS["png"], RECORD)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="BMP holds no C2PA"):
        Signer(other, other_key).sign(file_of("bmp"), FORMATS["bmp"], RECORD)


def test_without_the_package(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    signed = Signer(*pair).sign(file_of("png"), FORMATS["png"], RECORD)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UsageError, match=r"topcoat\[c2pa\]"):
        Signer(*pair)
    assert (manifest_of(signed, FORMATS["png"]) or {})["state"] == "not checked"
