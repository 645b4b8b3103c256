"""Holds examples/assertion/upstream.py against assertions of a running server, and against what only looks like one.

Started by assertion.sh. PyJWT and OpenSSL check here what our own code signed.
"""

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

assert __debug__, "run without -O, or nothing is checked"

ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = ROOT / "examples/assertion/upstream.py"
# Taken out: to the program it would be a setting that does not exist.
PROGRAM = os.environ.pop("COUNTERSIGN_BIN", str(ROOT / "target/debug/countersign"))

spec = importlib.util.spec_from_file_location("upstream", UPSTREAM)
upstream = importlib.util.module_from_spec(spec)
spec.loader.exec_module(upstream)


def refused(check, *args):
    try:
        check(*args)
    except upstream.Refused as why:
        return str(why)
    raise AssertionError(f"passed: {args}")


def fetch(url, headers=(), method="GET"):
    """(status, headers, body)"""
    request = urllib.request.Request(url, method=method)
    for name, value in headers:
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


class Authority:
    """A key set that this test can change, with keys that it can sign with."""

    def __init__(self):
        self.keys, self.reads, self.away = {}, 0, False
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                authority.reads += 1
                body = json.dumps({"keys": [authority.public(kid) for kid in authority.keys]}).encode()
                self.send_response(503 if authority.away else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/jwks.json"

    def add(self, kid):
        self.keys[kid] = Ed25519PrivateKey.generate()

    def public(self, kid):
        x = base64.urlsafe_b64encode(self.keys[kid].public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"}

    def sign(self, kid="one", head=(), key=None, algorithm="EdDSA", **claims):
        now = int(time.time())
        all_claims = {"iss": "countersign", "sub": "Token:1", "iat": now, "exp": now + 30, "client_id": "ik_test_1"}
        all_claims |= {"platform": "Platform:1", "environment": "sandbox", "permissions": ["VIEW"], "method": "GET", "path": "/a"}
        all_claims = {name: value for name, value in (all_claims | claims).items() if value is not None}
        head = {"typ": "countersign-assertion+jwt", "kid": kid} | dict(head)
        return jwt.encode(all_claims, key or self.keys[kid], algorithm, headers=head)


def what_passes():
    authority = Authority()
    authority.add("one")
    now = int(time.time())
    check = upstream.Assertions(upstream.Keys(authority.url)).check
    assert check([authority.sign()], "GET", "/a")["sub"] == "Token:1"
    # Clocks may differ by a little.
    for slightly_off in [authority.sign(iat=now - 33, exp=now - 3), authority.sign(iat=now + 3, exp=now + 33)]:
        check([slightly_off], "GET", "/a")

    good = authority.sign()
    head, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"countersign-assertion+jwt","kid":"one"}').rstrip(b"=").decode()
    nameless = base64.urlsafe_b64encode(b'{"alg":"EdDSA","typ":"countersign-assertion+jwt","kid":["one"]}').rstrip(b"=").decode()
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 30000).rstrip(b"=").decode()
    own = json.dumps({"jwk": authority.public("one")})
    stranger = Ed25519PrivateKey.generate()
    public = authority.keys["one"].public_key().public_bytes_raw()
    for bad, method, path in [
        ([], "GET", "/a"),
        ([good, good], "GET", "/a"),
        ([f"{good}, {good}"], "GET", "/a"),
        ([""], "GET", "/a"),
        (["é.é.é"], "GET", "/a"),
        ([f"{head}.{claims}."], "GET", "/a"),
        ([f"{head}.{claims}.{signature[:-8]}AAAAAAAA"], "GET", "/a"),
        ([f"{none}.{claims}."], "GET", "/a"),
        ([f"{none}.{claims}.{signature}"], "GET", "/a"),
        ([f"{nameless}.{claims}.{signature}"], "GET", "/a"),
        ([f"{deep}.{claims}.{signature}"], "GET", "/a"),
        ([good], "POST", "/a"),
        ([good], "get", "/a"),
        ([good], "GET", "/a/"),
        ([good], "GET", "//a"),
        ([good], "GET", "/%61"),
        ([authority.sign(method=None, path=None)], "GET", "/a"),
        ([authority.sign(path=None)], "GET", "/a"),
        ([authority.sign(iat=now - 60, exp=now - 30)], "GET", "/a"),
        ([authority.sign(iat=now + 30, exp=now + 60)], "GET", "/a"),
        ([authority.sign(exp=None)], "GET", "/a"),
        ([authority.sign(iss="another")], "GET", "/a"),
        ([authority.sign(iss=None)], "GET", "/a"),
        ([authority.sign(aud="ledger")], "GET", "/a"),
        ([authority.sign(sub=None)], "GET", "/a"),
        ([authority.sign(permissions=None)], "GET", "/a"),
        ([authority.sign(head={"typ": "JWT"})], "GET", "/a"),
        ([authority.sign(head={"typ": "at+jwt"})], "GET", "/a"),
        ([authority.sign(head={"typ": None})], "GET", "/a"),
        ([authority.sign(head={"kid": "two"})], "GET", "/a"),
        ([authority.sign(head={"jwk": own}, key=stranger)], "GET", "/a"),
        ([authority.sign(key=stranger)], "GET", "/a"),
        # The public key as the secret of an HMAC.
        ([authority.sign(key=hashlib.sha256(public).digest(), algorithm="HS256")], "GET", "/a"),
    ]:
        refused(check, bad, method, path)

    ledger = upstream.Assertions(upstream.Keys(authority.url), audience="ledger").check
    ledger([authority.sign(aud="ledger")], "GET", "/a")
    for aud in ["other", None]:
        refused(ledger, [authority.sign(aud=aud)], "GET", "/a")
    lenient = upstream.Assertions(upstream.Keys(authority.url), any_request=True).check
    lenient([authority.sign(method=None, path=None)], "DELETE", "/b")
    for bound in [authority.sign(), authority.sign(method=None), authority.sign(path=None)]:
        refused(lenient, [bound], "DELETE", "/b")


def keys_are_read_when_it_helps():
    authority = Authority()
    authority.add("one")
    now = [1000.0]
    check = upstream.Assertions(upstream.Keys(authority.url, clock=lambda: now[0])).check
    for _ in range(5):
        check([authority.sign()], "GET", "/a")
    assert authority.reads == 1, authority.reads
    # A stranger's names cost one read in ten seconds; a new key is found with it.
    now[0] += upstream.PAUSE
    for n in range(5):
        refused(check, [authority.sign(head={"kid": f"made-up {n}"})], "GET", "/a")
    assert authority.reads == 2, authority.reads
    authority.add("two")
    refused(check, [authority.sign("two")], "GET", "/a")
    now[0] += upstream.PAUSE
    check([authority.sign("two")], "GET", "/a")
    assert authority.reads == 3, authority.reads
    # Without the authority what is known holds for a while, and then nothing does.
    authority.away = True
    now[0] += upstream.FRESH + 1
    check([authority.sign("two")], "GET", "/a")
    now[0] += upstream.STALE
    refused(check, [authority.sign("two")], "GET", "/a")
    # A key that is gone from the set is gone.
    authority.away = False
    del authority.keys["one"]
    now[0] += upstream.PAUSE
    check([authority.sign("two")], "GET", "/a")
    refused(check, [authority.sign("one", key=authority.keys["two"])], "GET", "/a")


def started(command, prefix, stream):
    """A process, once it has said where it listens; and where."""
    process = subprocess.Popen(command, **{stream: subprocess.PIPE}, text=True)
    for line in getattr(process, stream):
        if line.startswith(prefix):
            return process, line.removeprefix(prefix).strip()
    raise AssertionError(f"{command[0]} did not start")


def a_live_server():
    processes = []
    with tempfile.TemporaryDirectory() as directory:

        def serve(name, *more):
            made = subprocess.run(
                [PROGRAM, "platform", "create", "--name", name, "--data", f"{directory}/{name}", "--output", "json"],
                check=True,
                stdout=subprocess.PIPE,
            )
            token = json.loads(made.stdout)["tokens"][0]
            command = [PROGRAM, "serve", "--data", f"{directory}/{name}", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
            process, base = started([*command, "--log", "error", *more], "listening on ", "stderr")
            processes.append(process)
            basic = base64.b64encode(f"{token['clientId']}:{token['clientSecret']}".encode()).decode()
            return base, token, basic

        def assertion(base, basic, path="/verify", *more):
            status, headers, _ = fetch(base + path, [("Authorization", f"Basic {basic}"), *more])
            assert status == 200, status
            return headers["X-Auth-Assertion"]

        try:
            base, token, basic = serve("ours", "--assertion", "--assertion-audience", "ledger")
            command = [sys.executable, str(UPSTREAM), f"{base}/jwks.json", "--listen", "127.0.0.1:0", "--audience", "ledger"]
            strict, at = started(command, "http", "stdout")
            lenient, anywhere = started([*command, "--any-request"], "http", "stdout")
            processes += [strict, lenient]
            at, anywhere = f"http{at}/a?b", f"http{anywhere}/a?b"

            made = assertion(base, basic)
            status, _, body = fetch(anywhere, [("X-Auth-Assertion", made)])
            said = json.loads(body)
            assert (status, said["sub"], said["client_id"]) == (200, token["id"], token["clientId"]), (status, said)
            assert said["permissions"] == ["VIEW", "TRANSACT", "MANAGE"], said
            assert fetch(at, [("X-Auth-Assertion", made)])[0] == 401, "names no request, and passed as if it did"
            assert fetch(anywhere)[0] == 401, "without an assertion"
            edited = made[:-20] + ("A" if made[-20] != "A" else "B") + made[-19:]
            assert fetch(anywhere, [("X-Auth-Assertion", edited)])[0] == 401, "edited"

            # By operation, it holds for one method and path.
            document = Path(directory, "api.json")
            document.write_text(json.dumps({"openapi": "3.1.0", "info": {"title": "", "version": ""}, "paths": {"/a": {"get": {}}}}))
            load = [PROGRAM, "operations", "load", document, "--operation-rules", "GET -> any", "--data", f"{directory}/ours"]
            subprocess.run(load, check=True, stdout=subprocess.PIPE)
            bound = assertion(base, basic, "/verify/nginx", ("X-Original-Method", "GET"), ("X-Original-URI", "/a?b"))
            assert fetch(at, [("X-Auth-Assertion", bound)])[0] == 200
            assert fetch(at.replace("/a?b", "/b"), [("X-Auth-Assertion", bound)])[0] == 401, "another path"
            assert fetch(at, [("X-Auth-Assertion", bound)], "POST")[0] == 401, "another method"

            other, _, theirs = serve("theirs", "--assertion", "--assertion-audience", "ledger")
            assert fetch(anywhere, [("X-Auth-Assertion", assertion(other, theirs))])[0] == 401, "another installation's"
            silent, _, basic = serve("silent")
            assert assertion(silent, basic) is None and fetch(f"{silent}/jwks.json")[0] == 404, "signs without being told to"
        finally:
            for process in processes:
                process.terminate()
                process.wait()


what_passes()
keys_are_read_when_it_helps()
a_live_server()
print("assertion: OK")
