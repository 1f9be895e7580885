"""The sandbox's certificate authority: clients are told to trust it, and nothing else does.

It is kept in the sandbox's folder, so that a client started earlier trusts a server started later.
The Noise root key lives beside it for the same reason.
"""

import ipaddress
import os
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.whatsapp.curve import KeyPair, Rand, generate, key_pair

LIFETIME = timedelta(days=3650)
BACKDATING = timedelta(days=1)  # for clients whose clock is behind
NAMES = ("web.whatsapp.com", "*.whatsapp.com", "*.whatsapp.net", "localhost")


class Authority(msgspec.Struct, frozen=True):
    """Where the files are; the context serves the names WhatsApp's clients dial."""

    ca_file: Path
    tls: ssl.SSLContext
    noise_root: KeyPair


def open_authority(folder: Path, now: datetime, rand: Rand) -> Authority:
    """Read the authority of a folder, or make it; the server's certificate is new each time."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, key_file = folder / "ca.pem", folder / "ca.key"
    if ca_file.exists() and key_file.exists():
        ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
        loaded = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key_file} is not the key of this authority")
        key = loaded
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate(_name("Sandbox CA"), None, key, key, now)
        _write_secret(key_file, _pem(key))
        ca_file.write_bytes(ca.public_bytes(Encoding.PEM))
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate(_name("Sandbox"), ca.subject, leaf_key, key, now)
    chain_file, leaf_file = folder / "server.pem", folder / "server.key"
    _write_secret(leaf_file, _pem(leaf_key))
    chain_file.write_bytes(leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain_file, leaf_file)
    return Authority(ca_file, tls, _noise_root(folder / "noise-root.key", rand))


def _noise_root(path: Path, rand: Rand) -> KeyPair:
    if path.exists():
        return key_pair(path.read_bytes())
    root = generate(rand)
    _write_secret(path, root.private)
    return root


def _certificate(
    subject: x509.Name,
    issuer: x509.Name | None,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    """Certify `key`; without an issuer it certifies itself and may certify others."""
    authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
        .add_extension(_usage(authority=authority), critical=True)
    )
    if not authority:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(by, SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Zapgate {common}")])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_secret(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
