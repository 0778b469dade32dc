"""The client API, its tokens and the local sockets against clients that mean no good."""

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import threading
import time
import unittest

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from client import Client
from lab import API_PORT, GATEWAY, SLOW, TORNADOCTL, WORK, ControlError, connect
from sealing import b64, seal
from support import ApiError, LabCase, inconsistencies, key_pair, until

GENEROUS = {"auth.address_failures": 100000, "auth.account_failures": 100000}


def b64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def receive_all(sock):
    data = b""
    try:
        while block := sock.recv(65536):
            data += block
    except OSError:
        pass
    return data


class Errors(LabCase):
    """Contract 1.1 to 1.4."""
    CLIENTS = 2
    SETTINGS = GENEROUS

    def post(self, client, path, body, token=None):
        return client.request("POST", path, body, token)

    def test_sealed_login_is_lenient_where_the_contract_is(self):
        client = self.client(sign_in=False)
        plain = {"username_or_email": client.name.upper() + "@example.org", "password": client.password, "extra": [1]}
        for text in (json.dumps(plain, separators=(",", ":")), json.dumps(plain, indent=3)):
            envelope = seal(client.server_key(), text.encode())
            envelope["ciphertext"] = "\n".join(envelope["ciphertext"][i:i + 20] for i in range(0, len(envelope["ciphertext"]), 20))
            answer = self.post(client, "/auth/login", envelope)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(set(answer.json()), {"status", "user", "tokens", "device_id"})
            self.assertEqual(set(answer.json()["tokens"]), {"access_token", "refresh_token", "access_jti", "refresh_jti"})
            self.assertEqual(set(answer.json()["user"]), {"id", "username", "email", "is_active"})

    def test_envelopes_that_do_not_open(self):
        client = self.client(sign_in=False)
        good = seal(client.server_key(), json.dumps({"username_or_email": client.name, "password": client.password}).encode())
        key = client.server_key()
        broken = [
            {**good, "ephemeral_pubkey": "!!"}, {**good, "ephemeral_pubkey": b64(b"short")}, {**good, "ephemeral_pubkey": b64(bytes(32))},
            {**good, "iv": ""}, {**good, "iv": b64(b"1234")}, {**good, "iv": b64(os.urandom(12))},
            {**good, "ciphertext": ""}, {**good, "ciphertext": b64(os.urandom(64))}, {**good, "ciphertext": good["ciphertext"][:-8] + "AAAAAAA="},
            seal(b64(os.urandom(32)), b"{}"), seal(key, b""), seal(key, b"\xff\xfe"), seal(key, b"[]"), seal(key, b"{}"),
            seal(key, b'{"username_or_email":"x"}'), seal(key, b'{"username_or_email":1,"password":"x"}'), seal(key, b'{"password":"x"'),
        ]
        for envelope in broken:
            with self.subTest(envelope):
                self.assert_detail(self.post(client, "/auth/login", envelope), 400, "invalid_encrypted_payload")
        self.assertEqual(self.post(client, "/auth/login", good).status, 200)

    def test_login_refusals(self):
        client = self.client(sign_in=False)
        self.assert_detail(client.sign_in(password="wrong password"), 401, "invalid_credentials")
        self.assert_detail(client.sign_in(name="nobody-here"), 401, "invalid_credentials")
        self.assert_detail(client.sign_in(name="x' OR '1'='1"), 401, "invalid_credentials")
        for name, password in (("", "something"), (client.name, "")):
            envelope = seal(client.server_key(), json.dumps({"username_or_email": name, "password": password}).encode())
            self.assert_detail(self.post(client, "/auth/login", envelope), 422, "missing_fields")
        self.gateway.call("user.suspend", name=client.name)
        self.assert_detail(client.sign_in(), 401, "user_inactive")
        self.assert_detail(client.sign_in(password="wrong password"), 401, "invalid_credentials")
        self.gateway.call("user.delete", name=client.name)
        self.assert_detail(client.sign_in(), 401, "invalid_credentials")

    def test_device_limit(self):
        client = self.client()
        client.initiate()
        self.assertEqual(client.heartbeat().status, 200)
        self.assert_detail(client.sign_in(), 401, "max_devices_exceeded")
        # A device without an online session gives way.
        client.disconnect()
        other = Client("c1", client.name).login()
        other.initiate()
        self.assertEqual(client.heartbeat().status, 401)

    def test_reauth_and_logout_refusals(self):
        client = self.client()
        for path in ("/auth/reauth", "/auth/logout"):
            for token in ("x", "a.b.c", client.access, client.refresh[:-4] + "AAAA", "." * 50, client.refresh + "." + client.refresh):
                self.assert_detail(self.post(client, path, {"refresh_token": token}), 401, "invalid_refresh_token")
        self.assert_detail(self.post(client, "/auth/reauth", {"refresh_token": ""}), 422, "missing_refresh_token")
        self.assert_detail(self.post(client, "/auth/logout", {"refresh_token": ""}), 401, "missing_refresh_token")
        answer = client.reauth()
        self.assertEqual(set(answer.json()["tokens"]), {"access_token", "refresh_token", "access_jti", "refresh_jti", "device_id"})
        self.gateway.call("user.suspend", name=client.name)
        self.assert_detail(client.reauth(), 401, "user_invalid")

    def test_initiate_refusals(self):
        client = self.client()
        server = self.gateway.server_keys()["wg0"]
        cases = [("", 502, "missing_fields"), ("x", 400, "invalid_public_key"), (b64(bytes(31)), 400, "invalid_public_key"),
                 (b64(bytes(32)), 400, "invalid_public_key"), (b64(b"\1" + bytes(31)), 400, "invalid_public_key"),
                 (server, 400, "invalid_public_key"), (b64(os.urandom(32))[:-1], 400, "invalid_public_key"), ("\0" * 44, 400, "invalid_public_key")]
        for key, status, reason in cases:
            with self.subTest(key):
                self.assert_detail(self.post(client, "/vpn/initiate", {"public_key": key}, client.access), status, "VPN Manager Error: " + reason)
        self.assertIsNone(self.session_of(client))
        self.assertNotIn(client.device, {peer["device_id"] for peer in self.gateway.peers()})
        self.assert_detail(client.heartbeat(), 400, "session_expired")

    def test_malformed_bodies(self):
        client = self.client()
        paths = {"/auth/login": "ephemeral_pubkey", "/auth/reauth": "refresh_token", "/auth/logout": "refresh_token", "/vpn/initiate": "public_key"}
        for path, field in paths.items():
            token = client.access if path == "/vpn/initiate" else None
            for raw, kind in ((b"{", "json_invalid"), (b"\xff\xfe", "json_invalid"), (b"", "missing"), (b"[]", "model_attributes_type"),
                              (b"{}", "missing"), (b'{"%s": 1}' % field.encode(), "string_type"), (b'{"%s": null}' % field.encode(), "string_type"),
                              (b"[" * 5000, "json_invalid")):
                with self.subTest(path=path, raw=raw[:20]):
                    answer = client.request("POST", path, raw=raw, token=token)
                    self.assertEqual(answer.status, 422, answer)
                    self.assertEqual(answer.detail()[0]["type"], kind)
                    self.assertTrue({"type", "loc", "msg"} <= set(answer.detail()[0]))
        # Precedence: syntax, then token, then fields.
        self.assertEqual(client.request("POST", "/vpn/initiate", raw=b"{").status, 422)
        answer = client.request("POST", "/vpn/initiate", {})
        self.assert_detail(answer, 401, "Not authenticated")
        self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")

    def test_paths_and_methods(self):
        client = self.client()
        self.assert_detail(client.request("GET", "/nothing"), 404, "Not Found")
        self.assert_detail(client.request("GET", "/auth/login"), 405, "Method Not Allowed")
        self.assert_detail(client.request("DELETE", "/health"), 405, "Method Not Allowed")
        self.assertEqual(client.request("GET", "/health").json(), {"status": "ok"})
        answer = self.post(client, "/vpn/verify/id", None, client.access)
        self.assertEqual((answer.status, answer.json()), (200, client.user))
        for header in ({"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {}):
            self.assert_detail(client.request("POST", "/session/heartbeat", headers=header), 401, "Not authenticated")
        # K-10: a content type without a body.
        client.initiate()
        self.assertEqual(client.heartbeat().status, 200)

    def test_forwarded_address_is_believed_from_loopback_only(self):
        client = self.client()
        client.request("POST", "/vpn/initiate", {"public_key": key_pair()[1]}, client.access, headers={"X-Forwarded-For": "192.0.2.99"})
        self.assertEqual(self.session_of(client)["client_ip"], "203.0.113.0/24")


class Tokens(LabCase):
    """Contract 1.5 and 1.6 as corrected by I-14, checked with PyJWT."""
    SETTINGS = GENEROUS

    def setUp(self):
        with open(self.gateway.state + "/keys/signing-keys.json") as file:
            self.keys = {key["id"]: key for key in json.load(file)["keys"]}

    def signing(self, use):
        now = time.time() * 1000
        return max((k for k in self.keys.values() if k["use"] == use and k["signs_from_ms"] <= now and "private" in k), key=lambda k: k["signs_from_ms"])

    def decode(self, token, use):
        key = self.keys[jwt.get_unverified_header(token)["kid"]]
        self.assertEqual(key["use"], use)
        return jwt.decode(token, key["public"], algorithms=["RS256"], audience="tornado-vpn-users", issuer="tornado-vpn.local",
                          options={"require": ["exp", "iat", "nbf", "sub", "jti"]})

    def test_claims(self):
        client = self.client()
        access, refresh = self.decode(client.access, "access"), self.decode(client.refresh, "refresh")
        self.assertEqual((access["type"], access["scope"], refresh["type"]), ("access", "user", "refresh"))
        self.assertNotIn("scope", refresh)
        for claims, term in ((access, 900), (refresh, 604800)):
            self.assertEqual((claims["sub"], claims["device_id"]), (client.user, client.device))
            self.assertEqual((claims["exp"] - claims["iat"], claims["nbf"]), (term, claims["iat"]))
        self.assertNotEqual(access["jti"], refresh["jti"])
        for token, use in ((client.access, "access"), (client.refresh, "refresh")):
            self.assertEqual(jwt.get_unverified_header(token)["alg"], "RS256")
            with self.assertRaises(jwt.InvalidTokenError):
                self.decode(token[:-6] + "AAAAAA", use)
        before = refresh["jti"]
        client.reauth()
        after = self.decode(client.refresh, "refresh")
        self.assertEqual((after["device_id"], after["sub"]), (client.device, client.user))
        self.assertNotEqual(after["jti"], before)

    def forged(self, client):
        """Name, access token, expected part of the reason."""
        claims = self.decode(client.access, "access")
        key, refresh_key = self.signing("access"), self.signing("refresh")
        now = int(time.time())
        foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        def sign(changes, private=key["private"], kid=key["id"], **more):
            body = {k: v for k, v in {**claims, **changes}.items() if v is not None}
            return jwt.encode(body, private, algorithm="RS256", headers={"kid": kid, **more})

        def unsigned(header, signature=b""):
            head = b64url(json.dumps(header).encode()) + "." + b64url(json.dumps(claims).encode())
            return head + "." + b64url(signature(head.encode()) if callable(signature) else signature)

        def hs256(secret):
            return lambda text: hmac.new(secret, text, hashlib.sha256).digest()
        self.assertEqual(client.request("POST", "/vpn/verify/id", token=sign({})).status, 200, "our own signature is good")
        yield "alg none", unsigned({"alg": "none", "typ": "JWT", "kid": key["id"]}), "invalid_token"
        yield "alg NoNe", unsigned({"alg": "NoNe", "typ": "JWT", "kid": key["id"]}), "invalid_token"
        for secret in (key["public"].encode(), key["public"].strip().encode(), b""):
            yield "HS256 with the public key", unsigned({"alg": "HS256", "typ": "JWT", "kid": key["id"]}, hs256(secret)), "invalid_token"
        yield "HS256 without kid", unsigned({"alg": "HS256", "typ": "JWT"}, hs256(key["public"].encode())), "invalid_token"
        yield "foreign key", sign({}, private=foreign), "invalid_token"
        embedded = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(foreign.public_key()))
        yield "key in the header", sign({}, private=foreign, jwk=embedded), "invalid_token"
        yield "unknown kid", sign({}, kid="nobody"), "invalid_token"
        yield "kid of a path", sign({}, kid="../../../../dev/null"), "invalid_token"
        yield "refresh key signs access", sign({}, private=refresh_key["private"], kid=refresh_key["id"]), ""
        yield "access key with the kid of refresh", sign({}, kid=refresh_key["id"]), "invalid_token"
        yield "expired", sign({"iat": now - 1000, "nbf": now - 1000, "exp": now - 1}), "token_expired"
        yield "future iat", sign({"iat": now + 300, "exp": now + 900}), ""
        yield "future nbf", sign({"nbf": now + 300, "exp": now + 900}), "invalid_token"
        yield "audience", sign({"aud": "somebody"}), "invalid_token"
        yield "audience list", sign({"aud": ["somebody"]}), "invalid_token"
        yield "issuer", sign({"iss": "somebody"}), "invalid_token"
        yield "type", sign({"type": "refresh"}), "wrong_token_type"
        for name in ("sub", "device_id", "jti", "exp", "iat", "type"):
            yield "without " + name, sign({name: None}), ""
        yield "exp as text", sign({"exp": str(now + 900)}), "invalid_token"
        yield "exp far away", sign({"exp": 1e300}), ""
        yield "another device", sign({"device_id": "00000000-0000-4000-8000-000000000000"}), ""
        yield "older epoch", sign({"ue": claims["ue"] - 1 if claims["ue"] else claims["ue"] + 7}), ""
        yield "refresh as access", client.refresh, ""
        yield "not a token", "x", "invalid_token"
        yield "two dots", "..", "invalid_token"
        yield "bad base64", "e30.e30.!!!!", "invalid_token"
        yield "long", "A" * 6000, ""

    def test_foreign_tokens(self):
        client = self.client()
        client.initiate()
        for name, token, reason in self.forged(client):
            for path in ("/session/heartbeat", "/vpn/initiate", "/vpn/verify/id", "/session/disconnect"):
                with self.subTest(name, path=path):
                    body = {"public_key": key_pair()[1]} if path == "/vpn/initiate" else None
                    answer = client.request("POST", path, body, token)
                    self.assertEqual(answer.status, 401, answer)
                    self.assertTrue(answer.detail().startswith("Authentication failed: " + reason), answer)
        self.assertEqual(client.heartbeat().status, 200)

    def test_foreign_refresh_tokens(self):
        client = self.client()
        claims, key = self.decode(client.refresh, "refresh"), self.signing("refresh")
        now = int(time.time())

        def sign(changes):
            return jwt.encode({**claims, **changes}, key["private"], algorithm="RS256", headers={"kid": key["id"]})
        expired = sign({"iat": now - 100, "nbf": now - 100, "exp": now - 1})
        self.assert_detail(client.reauth(expired), 401, "refresh_token_expired")
        for token in (client.access, sign({"aud": "x"}), sign({"iss": "x"}), sign({"type": "access"}), sign({"iat": now + 300}), sign({"nbf": now + 300})):
            self.assert_detail(client.reauth(token), 401, "invalid_refresh_token")
        self.assertEqual(client.reauth().status, 200)
        # I-14: logout takes an expired token of the family.
        self.assertEqual(client.request("POST", "/auth/logout", {"refresh_token": expired}).json(), {"status": "logged_out"})

    def test_envelope_cannot_be_replayed(self):
        """D-009."""
        client = self.client(devices=5, sign_in=False)
        envelope = seal(client.server_key(), json.dumps({"username_or_email": client.name, "password": client.password}).encode())
        self.assertEqual(client.request("POST", "/auth/login", envelope).status, 200)
        # The same point in its other encoding opens the same envelope.
        twin = bytearray(base64.b64decode(envelope["ephemeral_pubkey"]))
        twin[31] ^= 0x80
        for again in (envelope, {**envelope, "ephemeral_pubkey": b64(bytes(twin))}):
            self.assert_detail(client.request("POST", "/auth/login", again), 400, "invalid_encrypted_payload")
        self.assertEqual(len(self.gateway.call("device.list", user=client.name)), 1)

    def test_reuse_ends_the_family_and_the_session(self):
        """D-010."""
        client = self.client()
        client.initiate()
        stolen = client.refresh
        self.assertEqual(client.reauth().status, 200)
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(client.reauth().status, 200)
        self.assert_detail(client.reauth(stolen), 401, "token_revoked_reuse_detected")
        self.assertEqual(client.reauth().status, 401)
        # The access token is worth nothing either: not even for a new session.
        self.assertEqual(client.heartbeat().status, 401)
        self.assertEqual(client.request("POST", "/vpn/initiate", {"public_key": key_pair()[1]}, client.access).status, 401)
        self.assert_closed(client, "revoked")

    def test_retry_gives_the_same_successor(self):
        """D-017."""
        client = self.client()
        first, second = client.reauth(client.refresh).json()["tokens"], client.reauth(client.refresh).json()["tokens"]
        self.assertEqual((first["refresh_jti"], first["access_jti"]), (second["refresh_jti"], second["access_jti"]))
        client.refresh = second["refresh_token"]
        self.assertEqual(client.reauth().status, 200)

    def test_parallel_refreshes_give_one_successor(self):
        """D-016."""
        client = self.client()
        others = [Client("c0", client.name) for _ in range(8)]
        answers = []

        def refresh(other):
            answers.append(other.request("POST", "/auth/reauth", {"refresh_token": client.refresh}))
        threads = [threading.Thread(target=refresh, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answer.status for answer in answers], [200] * 8)
        self.assertEqual(len({answer.json()["tokens"]["refresh_jti"] for answer in answers}), 1)

    def test_tokens_outlive_rotation_and_restart(self):
        client = self.client()
        self.gateway.ctl("key", "rotate", "all")
        self.gateway.restart()
        client.initiate()
        self.assertEqual(client.heartbeat().status, 200)
        self.assertEqual(client.reauth().status, 200)
        self.assertEqual(client.heartbeat().status, 200)


class Throttle(LabCase):
    CLIENTS = 2

    def test_address(self):
        client = self.client(sign_in=False)
        for _ in range(5):
            self.assert_detail(client.sign_in(name="nobody-here"), 401, "invalid_credentials")
        answer = client.sign_in()
        self.assert_detail(answer, 429, "ip_banned")
        self.assertTrue(800 <= int(answer.headers["Retry-After"]) <= 900, answer.headers["Retry-After"])
        Client("c1", client.name).login()
        banned = [entry for entry in self.gateway.ctl("throttle", "list") if entry["banned_until"]]
        self.assertEqual(len(banned), 1, banned)
        self.gateway.ctl("throttle", "clear", banned[0]["key"])
        client.login()


class Limits(LabCase):
    SETTINGS = {**GENEROUS, "client_api.request_timeout": 1, "client_api.idle_timeout": 1, "client_api.max_connections_per_address": 20,
                "client_api.max_body": 4096}
    DEFAULT = 10  # seconds that a sender would have without these settings

    def raw(self, data, half_close=True):
        with connect("c0", GATEWAY, API_PORT) as sock:
            try:
                sock.sendall(data)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return receive_all(sock)

    def assert_alive(self):
        self.assertEqual(self.gateway.get("/health"), (200, '{"status":"ok"}'))

    def test_oversize(self):
        client = self.client()
        answer = client.request("POST", "/auth/reauth", raw=b'{"refresh_token": "' + b"A" * 5000 + b'"}')
        self.assertEqual(answer.status, 413)
        head = b"POST /auth/reauth HTTP/1.1\r\nHost: x\r\n"
        self.assertIn(b" 413 ", self.raw(head + b"Content-Length: 99999999999\r\n\r\n", False)[:20])
        self.assertIn(b" 413 ", self.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"800\r\n" + b"A" * 2048 + b"\r\n" + b"800\r\n" + b"A" * 2048 + b"\r\n800\r\n" + b"A" * 2048 + b"\r\n", False)[:20])
        self.assertRegex(self.raw(b"GET /health HTTP/1.1\r\nX: " + b"A" * 100000 + b"\r\n\r\n", False)[:20], b" 4.. ")
        self.assertRegex(self.raw(b"GET /" + b"A" * 100000 + b" HTTP/1.1\r\n\r\n", False)[:20], b" 4.. ")
        self.assert_alive()

    def test_ambiguous_framing(self):
        for head in (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                     b"Transfer-Encoding: gzip\r\n", b"Content-Length: 0x5\r\n"):
            with self.subTest(head):
                answer = self.raw(b"POST /auth/reauth HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n{}{}{}GET /health HTTP/1.1\r\n\r\n", False)
                self.assertNotIn(b'{"status":"ok"}', answer)
        self.assert_alive()

    def test_chunked_and_expect(self):
        body = b'{"refresh_token": "x"}'
        answer = self.raw(b"POST /auth/reauth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), False)
        self.assertIn(b"invalid_refresh_token", answer)
        answer = self.raw(b"POST /auth/reauth HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body, False)
        self.assertIn(b"invalid_refresh_token", answer)

    def test_slow_sender(self):
        """A byte now and then does not keep a request alive."""
        start = time.monotonic()
        with connect("c0", GATEWAY, API_PORT) as sock:
            sock.settimeout(0.1)
            data = iter(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000)

            def closed():
                try:
                    sock.sendall(bytes([next(data)]))
                    return sock.recv(100) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True
            until(closed, "the slow sender is cut", 9)
        self.assertLess(time.monotonic() - start, self.DEFAULT)

    def test_silent_connection(self):
        start = time.monotonic()
        with connect("c0", GATEWAY, API_PORT, timeout=2 * self.DEFAULT) as sock:
            self.assertEqual(receive_all(sock), b"")
        self.assertLess(time.monotonic() - start, self.DEFAULT)

    def test_reader_that_does_not_read(self):
        with connect("c0", GATEWAY, API_PORT) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.settimeout(1)
            try:
                for _ in range(2000):
                    sock.sendall(b"GET /auth/pubkey HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            except OSError:
                pass
        self.assert_alive()

    def test_too_many_connections(self):
        held = []
        try:
            for _ in range(60):
                held.append(connect("c0", GATEWAY, API_PORT))

            def answered(sock):
                try:
                    sock.settimeout(0.5)
                    sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                    return b"200" in sock.recv(1000)
                except OSError:
                    return False
            good = sum(answered(sock) for sock in held)
            self.assertTrue(1 <= good <= 20, good)
            self.assert_alive()  # from another address
        finally:
            for sock in held:
                sock.close()
        until(lambda: b"200" in self.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", False), "free again", 5)

    def test_garbage(self):
        for size in (1, 10, 1000, 100000):
            self.raw(os.urandom(size))
        for text in (b"\r\n" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /%00%ff HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n"):
            self.raw(text)
        self.assert_alive()

    def test_abandoned_requests(self):
        client = self.client(devices=1)
        for _ in range(30):
            body = json.dumps({"public_key": key_pair()[1]}).encode()
            with connect("c0", GATEWAY, API_PORT) as sock:
                sock.sendall(b"POST /vpn/initiate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (client.access.encode(), len(body)) + body)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        until(lambda: inconsistencies(self.gateway) == [], "consistent", 30)
        client.initiate()
        until(lambda: inconsistencies(self.gateway) == [], "consistent", 30)
        self.assertEqual(len([s for s in self.gateway.sessions() if s["device_id"] == client.device]), 1)


class LocalSockets(LabCase):

    def garbage(self, name):
        for data in (os.urandom(5000), b"\n" * 100, b"{}\n", b"[]\n", b'{"jsonrpc":"2.0"}\n', b'{"jsonrpc":"2.0","id":1,"method":5}\n',
                     b'{"jsonrpc":"2.0","id":{},"method":"gateway.status","params":[]}\n', b'{"jsonrpc":"1.0","method":"gateway.status"}\n',
                     b"[" * 100000 + b"\n", b"A" * (3 << 20), b'{"jsonrpc":"2.0","id":1,"method":"gateway.status","params":{"x":' + b"9" * 400 + b"}}\n"):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1 * SLOW)
                sock.connect(f"{self.gateway.runtime}/{name}")
                try:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                answer = receive_all(sock)
                for line in answer.splitlines():
                    self.assertIn("error", json.loads(line))

    def test_garbage(self):
        for name in ("control.sock", "status.sock"):
            self.garbage(name)
            self.assertTrue(self.gateway.call("gateway.status", path=f"{self.gateway.runtime}/{name}")["ready"])

    def test_many_connections(self):
        held = []
        try:
            for _ in range(100):
                sock = socket.socket(socket.AF_UNIX)
                held.append(sock)
                sock.settimeout(1)
                sock.connect(self.gateway.runtime + "/status.sock")
        except OSError:
            pass
        finally:
            for sock in held:
                sock.close()
        until(lambda: self.ready(), "answers again", 5)

    def subscribed(self):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(20 * SLOW)
        sock.connect(self.gateway.control)
        sock.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {}}\n')
        lines = sock.makefile("rb")
        self.assertIn("result", json.loads(lines.readline() or '"closed"'))
        return sock, lines

    def test_subscribers_that_leave_are_noticed(self):
        """Though nothing happens that they would be told: there is room for 64."""
        for _ in range(200):
            sock, lines = self.subscribed()
            lines.close()
            sock.close()
        self.assertTrue(self.ready())

    def test_a_subscriber_that_has_finished_speaking_still_listens(self):
        client = self.client()
        sock, lines = self.subscribed()
        sock.shutdown(socket.SHUT_WR)
        self.assertTrue(self.ready())
        client.initiate()
        self.assertEqual(json.loads(lines.readline())["method"], "event")

    def ready(self):
        try:
            return self.gateway.call("gateway.status")["ready"]
        except (OSError, ControlError):
            return False

    def test_status_socket_does_not_write(self):
        path = self.gateway.runtime + "/status.sock"
        for method, params in (("user.add", {"name": "eve", "email": "e@x.org", "password": "eve eve eve"}), ("gateway.reconcile", {}), ("user.suspend", {"name": "x"}),
                               ("key.rotate", {"use": "all"})):
            with self.assertRaises(ControlError) as refused:
                self.gateway.call(method, path=path, **params)
            self.assertEqual(refused.exception.code, "permission_denied")
        self.assertNotIn("eve", [user["username"] for user in self.gateway.call("user.list")])
        done = self.gateway.ctl("gateway", "reconcile", socket_path=path, expect=6)
        self.assertIn("status socket", done.stderr)

    def test_unprivileged_user(self):
        program = WORK + "/tornadoctl"
        subprocess.run(["cp", TORNADOCTL, program], check=True)

        def ctl(name, *words):
            command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "--json", "--socket", f"{self.gateway.runtime}/{name}", *words]
            return subprocess.run(command, capture_output=True, text=True)
        for words in (("gateway", "status"), ("user", "list")):
            done = ctl("control.sock", *words)
            self.assertEqual((done.returncode, done.stdout), (6, ""), done.stderr)
        done = ctl("status.sock", "gateway", "status")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(json.loads(done.stdout)["ready"])
        for words in (("session", "list"), ("user", "list"), ("report",), ("gateway", "reconcile"), ("events", "tail", "--count", "1")):
            self.assertEqual(ctl("status.sock", *words).returncode, 6, words)

    def test_secrets_are_not_readable(self):
        for directory, _, files in os.walk(self.gateway.state):
            self.assertEqual(os.stat(self.gateway.state).st_mode & 0o077, 0)
            for name in files:
                if name.endswith((".key", "signing-keys.json", ".db")):
                    self.assertEqual(os.stat(os.path.join(directory, name)).st_mode & 0o077, 0, name)
        with open(self.gateway.state + "/keys/signing-keys.json") as file:
            keys = [k["private"] for k in json.load(file)["keys"] if "private" in k]
        shown = json.dumps(self.gateway.ctl("report")) + json.dumps(self.gateway.ctl("config", "show")) + json.dumps(self.gateway.ctl("key", "list")) + json.dumps(self.gateway.lines)
        for secret in keys + [self.gateway.dump("wg0")[0][0]]:
            self.assertNotIn(secret.splitlines()[-2] if "\n" in secret else secret, shown)


class Crowd(LabCase):
    SETTINGS = GENEROUS
    COUNT = 200

    def test_connect_beat_and_leave(self):
        for i in range(self.COUNT):
            self.gateway.call("user.add", name=f"crowd{i}", email=f"crowd{i}@example.org", password="correct horse")
        clients = [Client("c0", f"crowd{i}") for i in range(self.COUNT)]
        failures = []

        def everybody(action):
            def guarded(client):
                try:
                    action(client)
                except Exception as error:
                    failures.append(f"{client.name}: {error!r}")
                finally:
                    client.hang_up()
            threads = [threading.Thread(target=guarded, args=(client,)) for client in clients]
            start = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])
            return time.monotonic() - start

        def beat(client):
            for _ in range(3):
                answer = client.heartbeat()
                if answer.status != 200:
                    raise ApiError(answer)
        times = [everybody(Client.login), everybody(Client.initiate), everybody(beat)]
        self.assertEqual(len(self.gateway.sessions()), self.COUNT)
        self.assertEqual(len({client.tunnel["vpn"]["ip"] for client in clients}), self.COUNT)
        self.assertEqual(inconsistencies(self.gateway), [])
        times.append(everybody(Client.logout))
        until(lambda: len(self.gateway.history()) == self.COUNT, "every end recorded", 15)
        until(lambda: self.gateway.peers() == [] and self.gateway.sessions() == [], "nothing left", 15)
        self.assertEqual({row["close_reason"] for row in self.gateway.history()}, {"disconnect"})
        print("[200 clients: login %.1f s, initiate %.1f s, 3 beats %.1f s, logout %.1f s] " % tuple(times), end="", flush=True)


if __name__ == "__main__":
    unittest.main()
