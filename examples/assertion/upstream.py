"""An upstream that serves only what passed the gateway: it checks X-Auth-Assertion before anything else.

    pip install 'PyJWT[crypto]>=2.10'
    python3 upstream.py http://127.0.0.1:8420/jwks.json [--listen 127.0.0.1:9000] [--audience NAME] [--any-request]

Everything that fails is a 401, and the log says why. Copy `Keys` and `Assertions`; the rest is a server to try them in.
"""

import argparse
import json
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

ISSUER = "countersign"
TYPE = "countersign-assertion+jwt"
CLAIMS = ["iss", "sub", "iat", "exp", "client_id", "platform", "environment", "permissions"]
LEEWAY = 5  # seconds that our clock and the authority's may differ
FRESH = 300  # seconds after which the keys are read again
STALE = 3600  # seconds after which keys that could not be read again are believed no more
PAUSE = 10  # seconds between two reads at least, whatever keys strangers name


class Refused(Exception):
    """Not what the gateway let pass. Its text is for the log, not for the client."""


class Keys:
    """The authority's public keys. Whoever can alter this answer can sign for everybody: https, or a network of ours."""

    def __init__(self, url, clock=time.monotonic):
        self.url, self.clock, self.lock = url, clock, threading.Lock()
        self.keys, self.read_at, self.tried_at = {}, float("-inf"), float("-inf")

    def find(self, kid):
        now = self.clock()
        if kid not in self.keys or now - self.read_at > FRESH:
            self.read(now)
        if now - self.read_at > STALE or kid not in self.keys:
            raise Refused("no such key")
        return self.keys[kid]

    def read(self, now):
        with self.lock:  # one at a time; whoever waited finds that it was done
            if now - self.tried_at < PAUSE:
                return
            self.tried_at = now
            try:
                with urllib.request.urlopen(self.url, timeout=2) as answer:
                    found = json.loads(answer.read(1 << 20))["keys"]
                # One kind of key: what anything else in the set could do is never asked.
                ours = [key for key in found if (key.get("kty"), key.get("crv"), key.get("alg")) == ("OKP", "Ed25519", "EdDSA")]
                self.keys, self.read_at = {key["kid"]: jwt.PyJWK(key, algorithm="EdDSA") for key in ours}, now
            except Exception as failed:  # the authority is away: what we know holds for a while
                print(f"cannot read {self.url}: {failed}", file=sys.stderr)


class Assertions:
    """Checks assertions for one upstream."""

    def __init__(self, keys, audience=None, any_request=False):
        self.keys, self.audience, self.any_request = keys, audience, any_request

    def check(self, values, method, path):
        """The claims of a request's one assertion. `path` is as the request line has it, without its query.

        Raises Refused for everything else.
        """
        if len(values) != 1:
            raise Refused(f"{len(values)} assertions")
        try:
            # The algorithm is our choice, never the token's; its name in the head has to be the same.
            head = jwt.get_unverified_header(values[0])
            if head.get("typ") != TYPE or head.get("alg") != "EdDSA" or "crit" in head:
                raise Refused("not an assertion")
            claims = jwt.decode(
                values[0],
                self.keys.find(head.get("kid")),
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=self.audience,  # without one, an assertion for somebody is refused
                leeway=LEEWAY,
                options={"require": CLAIMS + (["aud"] if self.audience else [])},
            )
        except Refused:
            raise
        except Exception as invalid:  # a text that makes a library stumble is no assertion either
            raise Refused(str(invalid)) from invalid
        bound = (claims.get("method"), claims.get("path"))
        if bound != (method, path) and not (self.any_request and bound == (None, None)):
            raise Refused("an assertion for another request")
        return claims


class Handler(BaseHTTPRequestHandler):
    assertions = None  # set below
    timeout = 60

    def __getattr__(self, name):
        if name.startswith("do_"):  # every method
            return self.answer
        raise AttributeError(name)

    def answer(self):
        # Not self.path: http.server makes one slash of two, and then it is another path than the gateway saw.
        method, target = self.requestline.split(" ")[:2]
        try:
            claims = self.assertions.check(self.headers.get_all("X-Auth-Assertion", []), method, target.split("?")[0])
            # From here on the claims say who it is; no X-Auth-… header needs to be believed.
            self.send(200, {name: claims[name] for name in CLAIMS[4:] + ["sub"]})
        except Refused as why:
            print(f"refused: {why}", file=sys.stderr, flush=True)
            self.send(401, {"status": 401, "code": "UNAUTHORIZED", "message": "This request did not pass the gateway."})

    def send(self, status, what):
        body = json.dumps(what).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description="Serves only what passed the gateway")
    parser.add_argument("key_set", help="where the authority's keys are, such as http://127.0.0.1:8420/jwks.json")
    parser.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--audience", help="the authority's assertion_audience, if it has one")
    parser.add_argument("--any-request", action="store_true", help="take assertions that name no method and path")
    args = parser.parse_args()
    Handler.assertions = Assertions(Keys(args.key_set), args.audience, args.any_request)
    host, _, port = args.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    print(f"http://{host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
