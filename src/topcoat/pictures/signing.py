"""Signed C2PA manifests (https://spec.c2pa.org) with the user's certificate, by c2pa-python (extra ``c2pa``).

A manifest says that topcoat made or changed the picture, with which head, and names the input as its parent with the
manifest that it had. Nothing is sent anywhere unless a time stamp authority is named.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topcoat import __version__
from topcoat.errors import DataError, UsageError
from topcoat.pictures.formats import Format
from topcoat.pictures.provenance import ENHANCED, GENERATED, Record

_MIME = {name: f"image/{name}" for name in ("png", "jpeg", "webp", "avif", "tiff", "heic")}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_INSTALL = "install it with pip install 'topcoat[c2pa]'"


class Signer:
    """Signs picture files; one signer serves many files, also from several threads."""

    def __init__(self, certificates: str | Path, key: str | Path, time_authority: str | None = None) -> None:
        """``certificates`` is the chain (PEM, the signer's own first), ``key`` its private key (PEM, not encrypted).

        ``time_authority`` is the URL of an RFC 3161 service, which is asked for every picture. Raises `UsageError`
        where c2pa-python is not installed, `DataError` for files that are no chain or key, or do not fit together.
        """
        c2pa = _library()
        chain, private = (_text(path, what) for path, what in ((certificates, "certificates"), (key, "private key")))
        algorithm = _algorithm(chain, private, certificates, key)
        info = c2pa.C2paSignerInfo(algorithm, chain.encode(), private.encode(), time_authority)
        try:
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise DataError(f"{certificates} and {key} cannot sign ({_reason(error)}); check both files") from error
        self._c2pa = c2pa

    def sign(self, content: bytes, kind: Format, record: Record, parent: tuple[bytes, Format] | None = None) -> bytes:
        """The picture file with a signed manifest; ``parent`` is the file that it was made from.

        Raises `DataError` where the format takes no manifest or the certificate is not fit for C2PA.
        """
        mime = _MIME.get(kind.name)
        if mime is None:
            raise DataError(f"{kind.title} holds no C2PA manifest; choose another format, or leave --c2pa-cert out")
        try:
            if parent is not None and parent[1].name not in _MIME:
                parent = None  # a BMP can be no ingredient
            with self._c2pa.Builder(json.dumps(_manifest(record, is_new=parent is None))) as builder:
                if parent is not None:
                    builder.set_intent(self._c2pa.C2paBuilderIntent.EDIT)  # adds the action "opened" of the parent
                    stored = {"title": "input", "relationship": "parentOf"}
                    builder.add_ingredient(stored, _MIME[parent[1].name], io.BytesIO(parent[0]))
                signed = io.BytesIO()
                builder.sign(self._signer, mime, io.BytesIO(content), signed)
                return signed.getvalue()
        except self._c2pa.C2paError as error:
            raise DataError(f"the picture could not be signed ({_reason(error)}); check the certificate") from error


def manifest_of(content: bytes, kind: Format) -> Mapping[str, Any] | None:
    """What a file's manifest says, None where it has none; ``state`` says whether it fits the file.

    Its ``state`` is ``not checked`` where c2pa-python is not installed.
    """
    if b"jumb" not in content or b"c2pa" not in content or kind.name not in _MIME:
        return None
    try:
        c2pa = _library()
    except UsageError as error:
        return {"state": "not checked", "reason": str(error)}
    try:
        with c2pa.Reader(_MIME[kind.name], io.BytesIO(content)) as reader:
            active = reader.get_active_manifest() or {}
            signature = active.get("signature_info") or {}
            return {
                "state": str(reader.get_validation_state()).lower(),
                "generator": [each.get("name") for each in active.get("claim_generator_info") or []],
                "signed_by": signature.get("issuer") or signature.get("common_name"),
                "time": signature.get("time"),
                "parents": [each.get("title") for each in active.get("ingredients") or []],
                "actions": _actions(active),
            }
    except c2pa.C2paError as error:
        return {"state": "damaged", "reason": _reason(error)}


def _actions(manifest: Mapping[str, Any]) -> list[str]:
    contents = [each["data"] for each in manifest.get("assertions") or [] if "c2pa.actions" in str(each.get("label"))]
    return [action.get("action") for content in contents for action in content.get("actions", [])]


def _manifest(record: Record, *, is_new: bool) -> dict[str, Any]:
    agent = {"name": "topcoat", "version": __version__}
    made = {"digitalSourceType": GENERATED if record.action == "generate" else ENHANCED, "softwareAgent": agent}
    facts = record.as_fields()
    action = "c2pa.created" if is_new else "c2pa.edited"
    done = {"action": action, **made, "parameters": {"topcoat": facts}}
    return {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [done]}}],
    }


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise UsageError(f"C2PA manifests need the package c2pa-python; {_INSTALL}") from None
    return c2pa


def _text(path: str | Path, what: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a {what} in PEM; check the path") from error
    if "-----BEGIN " not in text:
        raise DataError(f"{path} is no {what} in PEM (it has no line -----BEGIN ...); convert it with openssl")
    return text


def _algorithm(chain: str, private: str, certificates: str | Path, key: str | Path) -> str:
    """The name of the signature algorithm that a key is for, once it fits the certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(private.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise DataError(f"{key} is no private key that can be used (it may be encrypted); give a plain PEM") from error
    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    except (ValueError, IndexError) as error:
        raise DataError(f"{certificates} holds no certificate that can be read; give a chain in PEM") from error
    if certificate.public_key() != loaded.public_key():
        raise DataError(f"{key} is not the key of the first certificate in {certificates}; give the two that fit")
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and loaded.curve.name in _CURVES:
        return _CURVES[loaded.curve.name]
    if isinstance(loaded, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise DataError(f"{key} is of a kind that C2PA does not take; use ECDSA (P-256, P-384, P-521), RSA or Ed25519")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
