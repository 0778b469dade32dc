#!/usr/bin/python3
"""A flood of wrong passwords against http://127.0.0.1:4605 until it is killed, for client_contract --beside wrong.

usage: wrong_passwords.py CLIENTS

Every try comes from a new loopback address and names a new account, so that no throttle ends it early; each client
has one request in flight. Prints how many were refused as wrong and how many as too many.
"""
import base64
import collections
import http.client
import json
import os
import signal
import sys
import threading

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

answers = collections.Counter()
ended = threading.Event()


def b64(raw):
    return base64.b64encode(raw).decode()


def envelope(server_key, number):
    own = X25519PrivateKey.generate()
    key = HKDF(hashes.SHA256(), 32, None, b"tornado-vpn-login-v1").derive(own.exchange(server_key))
    iv = os.urandom(12)
    text = json.dumps({"username_or_email": f"bench{number % 1000}", "password": f"wrong {number}"}).encode()
    public = own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return json.dumps({"ephemeral_pubkey": b64(public), "iv": b64(iv), "ciphertext": b64(AESGCM(key).encrypt(iv, text, None))})


def client(which, server_key):
    number = which << 20
    while not ended.is_set():
        number += 1
        source = f"127.{1 + which}.{(number >> 8) & 255}.{number & 255}"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 4605, timeout=15, source_address=(source, 0))
            connection.request("POST", "/auth/login", envelope(server_key, number), {"Content-Type": "application/json"})
            answers[connection.getresponse().status] += 1
            connection.close()
        except OSError as problem:
            answers[type(problem).__name__] += 1


def main():
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    connection = http.client.HTTPConnection("127.0.0.1", 4605, timeout=5)
    connection.request("GET", "/auth/pubkey")
    answer = json.load(connection.getresponse())
    server_key = X25519PublicKey.from_public_bytes(base64.b64decode(answer["pubkey"]))
    for which in range(int(sys.argv[1])):
        threading.Thread(target=client, args=(which, server_key), daemon=True).start()
    ended.wait()
    print("wrong passwords answered:", dict(answers), flush=True)


main()
