"""Keys and the sealed login as the client makes them, with python3-cryptography alone."""

import base64
import os

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def b64(raw):
    return base64.b64encode(raw).decode()


def key_pair():
    private = X25519PrivateKey.generate()
    raw = private.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return b64(raw), public_of(private)


def public_of(private):
    return b64(private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def seal(server_key, plaintext, iv_size=12):
    """The login envelope of contract 1.3."""
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(base64.b64decode(server_key)))
    key = HKDF(hashes.SHA256(), 32, None, b"tornado-vpn-login-v1").derive(shared)
    iv = os.urandom(iv_size)
    return {"ephemeral_pubkey": public_of(ephemeral), "iv": b64(iv), "ciphertext": b64(AESGCM(key).encrypt(iv, plaintext, None))}
