#!/usr/bin/env python3
"""Attacks a running gateway that has Countersign before it and upstream/upstream.py behind it.

    python3 attack.py HOST:PORT --credential 'clientId:clientSecret' [--viewer 'clientId:clientSecret']

Every attack is one line, ok or FAIL; exit 1 if any failed. Whatever is sent, the upstream must see exactly our
identity, no Authorization, and a method and target that this credential may use; or the request must be refused. It
uses nothing but what a client sees. Python's standard library is all it needs.

--credential may use GET and POST on --path, and nothing on --forbidden-path. --viewer may GET --path, and no more.
"""
import argparse
import base64
import hashlib
import json
import re
import socket
import sys
import time

IDENTITY = ["X-Auth-Token-Id", "X-Auth-Client-Id", "X-Auth-Platform", "X-Auth-Environment", "X-Auth-Permissions"]
ASSERTION = "X-Auth-Assertion"
ORIGINAL = ["X-Original-Method", "X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Envoy-Original-Path",
            "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Prefix", "X-HTTP-Method-Override", "X-HTTP-Method",
            "X-Method-Override", "Forwarded"]
CRLF = b"\r\n"

options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
options.add_argument("gateway", metavar="HOST:PORT")
options.add_argument("--credential", required=True, help="clientId:clientSecret that may GET and POST --path")
options.add_argument("--viewer", help="clientId:clientSecret that may GET --path and not POST to it")
options.add_argument("--path", default="/v1/payouts")
options.add_argument("--forbidden-path", default="/v1/customers/export")
options.add_argument("--timeout", type=float, default=3.0)
options.add_argument("--only", default="", help="only attacks with this in their name")
args = options.parse_args()
HOST, _, PORT = args.gateway.rpartition(":")
AT = args.gateway.encode()


# --- what a client can do ---------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        try:
            echo = json.loads(body)
        except ValueError:
            echo = None
        self.echo = echo if isinstance(echo, dict) and echo.get("upstream") == "reached" else None

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]


def read_answer(stream, head_only):
    """One answer, or None if the connection ended before it."""
    while True:
        line = stream.readline(65536)
        if not line:
            return None
        found = re.match(rb"HTTP/1\.[01] (\d{3})", line)
        if not found:
            raise ValueError(f"not an answer: {line[:60]!r}")
        status, headers = int(found[1]), []
        while (line := stream.readline(65536).rstrip(b"\r\n")):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        if status == 100:
            continue
        answer = Answer(status, headers, b"")
        length, coding = answer.all("Content-Length"), answer.all("Transfer-Encoding")
        if head_only or status in (101, 204, 304):
            return answer
        if coding:
            body = b""
            while (size := int(stream.readline(1024).split(b";")[0], 16)):
                body += stream.read(size)
                stream.readline(8)
            while stream.readline(65536).strip():
                pass
        elif length:
            body = stream.read(int(length[0]))
        else:
            body = stream.read()
        return Answer(status, headers, body)


def send(raw, answers=1, head_only=False, timeout=None):
    """The answers to these bytes, at most so many: fewer if the gateway closes or stays silent."""
    got = []
    with socket.create_connection((HOST, int(PORT)), timeout or args.timeout) as connection:
        stream = connection.makefile("rb")
        try:
            connection.sendall(raw)
        except OSError:
            pass  # It refused while we were sending. What it said is still there to be read.
        try:
            while len(got) < answers and (answer := read_answer(stream, head_only)):
                got.append(answer)
                if answer.status == 101 or "close" in "".join(answer.all("Connection")).lower():
                    break
        except (OSError, ValueError):
            pass
    return got


def basic(credential):
    return "Basic " + base64.b64encode(credential.encode()).decode()


GOOD = basic(args.credential)
BAD = basic(args.credential + "x")


def request(*headers, method="GET", target=None, version="HTTP/1.1", body=b"", auth=GOOD, host=True):
    """The bytes of a request. Headers are 'Name: value' texts, sent exactly so."""
    lines = [f"{method} {target or args.path} {version}".encode("latin-1")]
    if host:
        lines.append(b"Host: " + AT)
    if auth:
        lines.append(b"Authorization: " + auth.encode())
    lines += [header.encode("latin-1") for header in headers]
    if body and not any("content-length" in h.lower() or "transfer-encoding" in h.lower() for h in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return CRLF.join(lines) + CRLF * 2 + body


def chunked(*chunks, trailers=()):
    text = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return text + b"0\r\n" + b"".join(t.encode() + CRLF for t in trailers) + CRLF


# --- what must hold ---------------------------------------------------------------------------------------------------

failures = 0


def report(name, problem, note=""):
    global failures
    failures += problem is not None
    print(f"{'ok  ' if problem is None else 'FAIL'} {name}" + (f": {problem or note}" if problem or note else ""),
        flush=True)


def plain(name):
    return re.sub(r"[^a-z0-9]", "-", name.lower())


def wrong_in(echo):
    """What is wrong with a request that reached the upstream, or None."""
    headers = echo["headers"] + echo["trailers"]
    for name, value in headers:
        if name.lower() == "x-other" and not re.search(r"[\r\n\0]", value):
            continue  # A folded header, made one line. It is not what it pretends to be.
        if "evil" in value.lower() or "evil" in name.lower():
            return f"the upstream got {name}: {value[:60]}"
        if name.lower() == "connection" and set(re.split(r"[ ,]+", value.lower())) - {"close", "keep-alive", "te"}:
            return f"the upstream got Connection: {value}"  # A proxy there would remove what it names.
        if plain(name) == "authorization":
            return f"the upstream got {name}"
        if plain(name) in map(plain, IDENTITY + [ASSERTION]) and plain(name) != name.lower():
            return f"the upstream got the alias {name}"
    if any(plain(name) in map(plain, IDENTITY + [ASSERTION]) for name, _ in echo["trailers"]):
        return "the upstream got an identity header as a trailer"
    for name in IDENTITY + [ASSERTION]:
        values = [value for key, value in headers if key.lower() == name.lower()]
        if name == ASSERTION and not values and not REAL[ASSERTION]:
            continue
        if name == ASSERTION and len(values) == 1 and REAL[ASSERTION]:
            continue  # its value is another every time
        if values != REAL[name]:
            return f"{name} at the upstream is {values}"
    return None


def verdict(answers, method="GET", target=None, expect="either"):
    """(problem, note) of one exchange. `expect`: allowed, refused, or either."""
    note = ", ".join(str(a.status) + (" from the upstream" if a.echo else "") for a in answers) or "closed"
    for answer in answers:
        if not answer.echo:
            if answer.status < 300 and method not in ("HEAD", "CONNECT") and answer.body:
                return f"{answer.status} that is not the upstream's", note
            continue
        if expect == "refused":
            return f"it reached the upstream: {answer.echo['method']} {answer.echo['path']}", note
        problem = wrong_in(answer.echo)
        if problem:
            return problem, note
        if re.split("[?#]", answer.echo["path"])[0] == args.forbidden_path:
            return f"the forbidden path reached the upstream: {answer.echo['path']}", note
        if answer.status != 200:
            return f"the upstream refused: {json.loads(answer.body).get('message')}", note
        if answer.echo["method"] != method.strip():
            return f"{method} reached the upstream as {answer.echo['method']}", note
        got = answer.echo["path"]
        if got != (target or args.path):
            # Rewritten: then what came out must itself be allowed, and arrive unchanged.
            again = send(request("Connection: close", method=method, target=got))
            if not again or again[0].status != 200 or not again[0].echo or again[0].echo["path"] != got:
                return f"{target} reached the upstream as {got}, which is refused if asked for", note
            note += f" as {got}"
    if expect == "allowed" and not any(a.echo and a.status == 200 for a in answers):
        return "it should be allowed", note
    return None, note


def attack(name, raw, method="GET", target=None, expect="either", answers=1, head_only=False, also=None, timeout=None):
    if args.only and args.only not in name:
        return []
    try:
        got = send(raw, answers, head_only, timeout)
        problem, note = verdict(got, method, target, expect)
        if problem is None and also:
            problem = also(got)
    except OSError as error:
        got, problem, note = [], f"{error}", ""
    report(name, problem, note)
    return got


def challenge(got):
    if not got or got[0].status != 401:
        return "it should be 401"
    found = got[0].all("WWW-Authenticate")
    return None if found == ['Basic realm="countersign", charset="UTF-8"'] else f"WWW-Authenticate is {found}"


def forbidden(got):
    if not got or got[0].status != 403:
        return "it should be 403"
    return "403 has a WWW-Authenticate" if got[0].all("WWW-Authenticate") else None


def healthy(name):
    """After an attack on the framing: other clients still get their own answers."""
    for number in range(4):
        target = f"{args.path}?probe={number}-{time.monotonic_ns()}"
        got = send(request(target=target))
        if len(got) != 1 or not got[0].echo or got[0].echo["path"] != target or got[0].echo["method"] != "GET":
            return report(name + ", then other clients", f"got {[a.body[:80] for a in got]}")
    return report(name + ", then other clients", None)


def in_turn(rounds):
    """What is wrong when two clients share a connection, as behind another proxy: each must stay who it is."""
    with socket.create_connection((HOST, int(PORT)), args.timeout) as connection:
        stream = connection.makefile("rb")
        for credential in (args.credential, args.viewer) * rounds:
            connection.sendall(request(auth=basic(credential)))
            answer = read_answer(stream, False)
            headers = answer.echo["headers"] if answer and answer.echo else []
            got = [value for name, value in headers if name.lower() == "x-auth-client-id"]
            if got != [credential.partition(":")[0]]:
                return f"{credential.partition(':')[0]} reached the upstream as {got}"
    return None


# --- first, who we are ------------------------------------------------------------------------------------------------

first = send(request())
if not first or not first[0].echo or first[0].status != 200:
    sys.exit(f"--credential may not GET {args.path}: {[(a.status, a.body[:200]) for a in first]}")
REAL = {name: [v for k, v in first[0].echo["headers"] if k.lower() == name.lower()] for name in IDENTITY + [ASSERTION]}
report("allowed as it is", wrong_in(first[0].echo) or (
    None if REAL["X-Auth-Client-Id"] == [args.credential.partition(":")[0]] and all(len(REAL[n]) == 1 for n in IDENTITY)
    else f"the identity is {REAL}"))

# --- who may ----------------------------------------------------------------------------------------------------------

attack("no credential", request(auth=None), expect="refused", also=challenge)
attack("no credential, POST with a body", request(auth=None, method="POST", body=b"x" * 100), expect="refused",
    also=challenge)
attack("wrong secret", request(auth=BAD), expect="refused", also=challenge)
for scheme in ("Bearer", "Digest", ""):
    attack(f"scheme {scheme or 'missing'}", request(auth=(scheme + " " + GOOD.split()[1]).strip()), expect="refused",
        also=challenge)
attack("empty Authorization", request("Authorization:", auth=None), expect="refused")
attack("forbidden path", request(target=args.forbidden_path), expect="refused", also=forbidden)
if args.viewer:
    for method in ("POST", "DELETE", "post"):
        attack(f"viewer, {method}", request(auth=basic(args.viewer), method=method, body=b"x"), method=method,
            expect="refused", also=None if method.islower() else forbidden)
    attack("viewer, POST that says it is a GET", request(*[f"{name}: GET" for name in ORIGINAL if "Method" in name],
        auth=basic(args.viewer), method="POST", body=b"x"), method="POST", expect="refused", also=forbidden)
    report("two credentials in turn on one connection", in_turn(3))
for place in (f"?access_token={GOOD}".replace(" ", "%20"), "?require=VIEW", "?env=sandbox&require="):
    attack(f"no credential but {place[:14]}", request(auth=None, target=args.path + place), expect="refused",
        also=challenge)
attack("no credential but a cookie", request(f"Cookie: Authorization={GOOD}", auth=None), expect="refused",
    also=challenge)
attack("no credential but other headers", request(
    "X-Authorization: " + GOOD, "X-Api-Key: " + GOOD, "X_Authorization: " + GOOD, "Proxy-Authorization: " + GOOD,
        auth=None),
    expect="refused")
attack("the secret as somebody else's name", request("X-Auth-Request-User: evil", auth=None), expect="refused")
attack("another Host", request("Host: other.example", host=False))
attack("no Host", request(host=False))

# --- identity headers from outside ------------------------------------------------------------------------------------

for name in IDENTITY + [ASSERTION]:
    attack(f"{name}: evil", request(f"{name}: evil"), expect="allowed")
    attack(f"{name.lower()}: evil", request(f"{name.lower()}: evil"), expect="allowed")
    attack(f"{name} twice", request(f"{name}: evil", f"{name.upper()}: evil2"))
    for alias in (name.replace("-", "_"), name.replace("-", "."), name.replace("-", "_", 1), name.replace("-", ".", 1),
                  name.lower().replace("-", "_"), name[::-1].replace("-", "_", 1)[::-1]):
        attack(f"alias {alias}", request(f"{alias}: evil"))
    attack(f"{name}: empty", request(f"{name}:"), expect="allowed")
    attack(f"{name} without a credential", request(f"{name}: evil", auth=None), expect="refused", also=challenge)
for sign in "!#$%&'*+^`|~":
    attack(f"alias X{sign}Auth{sign}Platform", request(f"X{sign}Auth{sign}Platform: evil"))
attack("space before the colon", request("X-Auth-Platform : evil"))
attack("tab before the colon", request("X-Auth-Platform\t: evil"))
attack("folded header", request("X-Other: a\r\n X-Auth-Platform: evil"))
attack("folded first header", b"GET " + args.path.encode() + b" HTTP/1.1\r\n X-Auth-Platform: evil\r\n"
       + request().split(CRLF, 1)[1])
attack("bare LF in a header", request("X-Other: a\nX-Auth-Platform: evil"))
attack("bare CR in a header", request("X-Other: a\rX-Auth-Platform: evil"))
attack("NUL in a header", request("X-Other: a\0X-Auth-Platform: evil"))
attack("NUL in a name", request("X-Auth-Platform\0: evil"))
attack("no name", request(": evil"))
attack("no colon", request("X-Auth-Platform"))

# --- headers about the connection -------------------------------------------------------------------------------------

for value in ("close, X-Auth-Platform", "X-Auth-Token-Id, X-Auth-Permissions", "x-AUTH-platform",
        "keep-alive, x-auth-client-id",
              "close, Authorization", "authorization", "X-Original-URI", "X-Original-Method, X-Original-URI",
                  "X-Forwarded-Uri",
              "X-Forwarded-Method", "x-forwarded-URI, X-Forwarded-METHOD", "close, X-Auth-Assertion", "Host",
              "Content-Length",
              "Transfer-Encoding", "close,,X-Auth-Platform", "close;X-Auth-Platform", " , X-Auth-Platform",
              "\"X-Auth-Platform\"",
              "X-Forwarded-For, X-Forwarded-Proto", "upgrade, X-Auth-Platform", "TE, X-Auth-Platform"):
    attack(f"Connection: {value}", request(f"Connection: {value}"))
attack("Connection twice", request("Connection: keep-alive", "Connection: X-Auth-Platform"))
attack("Connection and the header itself", request("Connection: X-Auth-Platform", "X-Auth-Platform: evil"))
attack("Proxy-Connection: X-Auth-Platform", request("Proxy-Connection: X-Auth-Platform"))
attack("Keep-Alive: X-Auth-Platform", request("Keep-Alive: timeout=5, X-Auth-Platform"))
attack("Connection: X-Auth-Platform, no credential", request("Connection: X-Auth-Platform", auth=None),
    expect="refused")
attack("Connection: Authorization, no credential", request("Connection: Authorization", auth=None), expect="refused")

# --- two credentials --------------------------------------------------------------------------------------------------

attack("Authorization valid, then invalid", request(f"Authorization: {BAD}"), expect="refused")
attack("Authorization invalid, then valid", request(f"Authorization: {GOOD}", auth=BAD), expect="refused")
attack("Authorization the same twice", request(f"Authorization: {GOOD}"), expect="refused")
attack("Authorization twice, another case", request(f"authorization: {GOOD}"), expect="refused")
# An empty one says nothing, and Envoy leaves it out; so it may pass.
attack("Authorization valid, then empty", request("Authorization:"))
attack("Authorization empty, then valid", request("Authorization:", f"Authorization: {GOOD}", auth=None))
attack("Authorization joined by a comma", request(auth=f"{GOOD}, {GOOD}"), expect="refused")
attack("Authorization joined, the first invalid", request(auth=f"{BAD}, {GOOD}"), expect="refused")
attack("Authorization and Proxy-Authorization", request(f"Proxy-Authorization: {BAD}"))
for trailer in (f"Authorization: {GOOD}", "X-Auth-Platform: evil", "X_Auth_Platform: evil", "X-Forwarded-Uri: /evil"):
    name = trailer.split(":")[0]
    for announced in ((), (f"Trailer: {name}",)):
        text = f"{name} as {'an announced' if announced else 'a'} trailer"
        sent = {"method": "POST", "body": chunked(b"body", trailers=[trailer])}
        coding = ("Transfer-Encoding: chunked", "TE: trailers", *announced)
        attack(text, request(*coding, **sent), method="POST")
        attack(text + ", no credential", request(*coding, auth=None, **sent), method="POST", expect="refused")

# --- forged originals -------------------------------------------------------------------------------------------------

for name in ORIGINAL:
    for alias in (name, name.lower(), name.replace("-", "_"), name.replace("-", ".")):
        value = "GET" if "Method" in name else args.path
        attack(f"{alias} says it is allowed", request(f"{alias}: {value}", target=args.forbidden_path),
            expect="refused")
        attack(f"{alias} twice says it is allowed",
            request(f"{alias}: {value}", f"{alias}: {value}", target=args.forbidden_path),
               expect="refused")
    attack(f"{name}: evil", request(f"{name}: /evil"))
    attack(f"{name}: evil, by POST", request(f"{name}: /evil", method="POST", body=b"x"), method="POST")
attack("all forged at once", request(*[f"{name}: /evil" for name in ORIGINAL], target=args.forbidden_path),
    expect="refused")
for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
        "X-Real-Ip",
             "X-Envoy-External-Address", "X-Envoy-Internal", "X-Envoy-Decorator-Operation", "X-Envoy-Original-Host",
             "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Client-Cert"):
    attack(f"{name} changes nothing", request(f"{name}: 10.0.0.1", auth=None), expect="refused", also=challenge)

# --- paths ------------------------------------------------------------------------------------------------------------

secret = args.forbidden_path.lstrip("/")
for target in (f"//{secret}", f"/a/../{secret}", f"/./{secret}", f"/{secret}/.", f"/%2e%2e/{secret}", f"/%2e/{secret}",
               f"/%{ord(secret[0]):02x}{secret[1:]}", f"/%{ord(secret[0]):02X}{secret[1:]}", f"/{secret};x",
                   f"/;x/{secret}", f"/{secret}%00",
               f"/{secret}%20", f"/{secret}?{args.path}", f"/{secret}#", f"/{secret}/", f"/{secret}//", f"\\{secret}",
               f"/\\{secret}",
               f"/%5c{secret}", f"/{secret.upper()}", f"/{secret}%2f", f"/{secret}%3f", f"/{secret}%23",
               f"/%252e%252e/{secret}",
               f"{args.path}/../../../{secret}", f"{args.path}/..%2f..%2f..%2f{secret}",
               f"{args.path}/%2e%2e/%2e%2e/{secret}",
               f"{args.path}/..;/..;/{secret}", f"{args.path}/..\\..\\{secret}", f"{args.path}//../../../{secret}",
               f"{args.path}/.%2e/.%2e/{secret}", f"{args.path}%2f..%2f..%2f{secret}",
               f"{args.path}/\xc0\xae\xc0\xae/{secret}",
               f"{args.path}#/../../{secret}", f"{args.path}/%2e%2e%2f%2e%2e%2f{secret}", secret, f"*/{secret}"):
    # Behind a "#" as behind a "?", unless the gateway makes "%23" of it: that is another path, for all that read it.
    asks_for_it = target.partition("?")[0] == "/" + secret
    attack(f"target {ascii(target)}", request(target=target), target=target,
        expect="refused" if asks_for_it else "either")
for target in ("/a%2Fb", "/a;x", "/%00", "\\", "/", "//", "/.", "/..", "*", "?", "/%zz", "/%", "/\xff", "/a b",
        "/\x01", "/a\tb",
               f"{args.path}/", f"{args.path}//", f"/{args.path}", f"{args.path};x", f"{args.path}%2Fx",
                   f"{args.path}%00", f"{args.path}#x",
               f"{args.path}#", f"{args.path}/..", f"{args.path}/.", f"{args.path}%20",
               f"{args.path}%0d%0aX-Auth-Platform:%20evil",
               f"{args.path[:-1]}%{ord(args.path[-1]):02x}", f"{args.path[:-1]}%{ord(args.path[-1]):02X}",
               f"{args.path}/%e2%82%ac"):
    attack(f"target {ascii(target)}", request(target=target), target=target)
for query in ("?", "?a=1;b=2", "?a=%2F%2f%5c", "?a=/../b", "?a=b#c", "?%zz", "?a=1&a=2", "?a=\\", "?a=\"'<>|^`{}",
        "?a=%00", "?a+b=c%20d", "??", "?a=\xff"):
    attack(f"query {ascii(query)}", request(target=args.path + query), target=args.path + query)
attack("query arrives as it is", request(target=args.path + "?a=1&b=%2F&c=d+e"),
    target=args.path + "?a=1&b=%2F&c=d+e", expect="allowed")
for form in (f"http://{args.gateway}", "http://other.example", "https://other.example:443", "ftp://x",
        "http://user:pass@x", "http://"):
    attack(f"absolute-form {form}, allowed path", request(target=form + args.path))
    attack(f"absolute-form {form}, forbidden path", request(target=form + args.forbidden_path), expect="refused")
attack("absolute-form, doubled slash", request(target=f"http://{args.gateway}//{secret}"), expect="refused")
attack("absolute-form, no path", request(target=f"http://{args.gateway}"), target="/")
attack("absolute-form, only a query", request(target=f"http://{args.gateway}?{args.forbidden_path}"),
    target=f"/?{args.forbidden_path}")

# --- methods ----------------------------------------------------------------------------------------------------------

attack("HEAD, no credential", request(method="HEAD", auth=None), expect="refused", head_only=True,
       also=lambda got: challenge(got))
attack("HEAD, forbidden path", request(method="HEAD", target=args.forbidden_path), expect="refused", head_only=True,
    also=forbidden)
# A HEAD that is answered with a body would be read as the next answer.
for auth in (GOOD, None):
    with socket.create_connection((HOST, int(PORT)), args.timeout) as connection:
        stream = connection.makefile("rb")
        connection.sendall(request(method="HEAD", auth=auth) + request("Connection: close", auth=auth))
        try:
            one, two = read_answer(stream, True), None
            two = read_answer(stream, False)
            problem = None if one and (two is None or two.status == (200 if auth else 401)) else "no answer"
        except (ValueError, OSError) as error:
            problem = str(error)
    report(f"HEAD, then GET, {'with' if auth else 'without'} a credential", problem)
for method in ("OPTIONS", "TRACE", "CONNECT", "get", "Get", "PROPFIND", "EVIL", "GET\t", "PRI", "DELETE"):
    attack(f"{method!r}, no credential", request(method=method, auth=None), expect="refused")
    attack(f"{method!r} on the forbidden path", request(method=method, target=args.forbidden_path), expect="refused")
    attack(f"{method!r} on the allowed path", request(method=method), method=method)
attack("OPTIONS *, no credential", request(method="OPTIONS", target="*", auth=None), expect="refused")
attack("OPTIONS, as CORS asks", request("Origin: https://evil.example", "Access-Control-Request-Method: GET",
    method="OPTIONS", auth=None),
       expect="refused")
attack("CONNECT to a host", request(method="CONNECT", target=f"{args.gateway}"), expect="refused")
attack("CONNECT to the forbidden path", request(method="CONNECT", target=args.forbidden_path), expect="refused")

# --- bodies and framing -----------------------------------------------------------------------------------------------


def whole(body):
    def check(got):
        want = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return None if got and got[0].echo and got[0].echo["body"] == want else "the body did not arrive whole"
    return check


def or_refused(check):
    return lambda got: check(got) if got and got[0].echo else None


large = bytes(range(256)) * 4096
attack("1 MiB body", request(method="POST", body=large), method="POST", expect="allowed", also=whole(large), timeout=20)
attack("1 MiB body in chunks", request("Transfer-Encoding: chunked", method="POST",
    body=chunked(*[large[i:i + 60000] for i in range(0, len(large), 60000)])),
       method="POST", also=or_refused(whole(large)), timeout=20)
attack("1 MiB body, no credential", request(method="POST", body=large, auth=None), method="POST", expect="refused",
    timeout=20)
attack("chunked body", request("Transfer-Encoding: chunked", method="POST", body=chunked(b"one", b"two")),
    method="POST",
       also=or_refused(whole(b"onetwo")))
attack("GET with a body", request(body=b"hello"), also=or_refused(whole(b"hello")))
attack("Expect: 100-continue", request("Expect: 100-continue", "Content-Length: 4", method="POST", body=b"abcd"),
    method="POST",
       expect="allowed", also=whole(b"abcd"))
attack("Expect: 100-continue, no credential",
    request("Expect: 100-continue", "Content-Length: 4", method="POST", auth=None),
       expect="refused", also=challenge)
attack("Expect: something", request("Expect: something"))
for kind, headers, body in (
        ("CL and TE", ("Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
        ("TE and CL", ("Transfer-Encoding: chunked", "Content-Length: 60"), b"0\r\n\r\n"),
        ("TE twice", ("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Content-Length: 5"), b"0\r\n\r\n"),
        ("TE unknown", ("Transfer-Encoding: xchunked", "Content-Length: 5"), b"0\r\n\r\n"),
        ("TE chunked, identity", ("Transfer-Encoding: chunked, identity",), b"0\r\n\r\n"),
        ("TE with a space", ("Transfer-Encoding : chunked", "Content-Length: 5"), b"0\r\n\r\n"),
        ("TE with a vertical tab", ("Transfer-Encoding: \x0bchunked", "Content-Length: 5"), b"0\r\n\r\n"),
        ("Transfer_Encoding", ("Transfer_Encoding: chunked", "Content-Length: 5"), b"0\r\n\r\n"),
        ("two CLs", ("Content-Length: 0", "Content-Length: 5"), b""),
        ("two CLs, joined", ("Content-Length: 0, 5",), b""),
        ("the same CL twice", ("Content-Length: 5", "Content-Length: 5"), b"12345"),
        ("CL with a sign", ("Content-Length: +5",), b"12345"),
        ("CL negative", ("Content-Length: -5",), b""),
        ("Content_Length", ("Content_Length: 5",), b""),
        ("chunk size in hexadecimal with a sign", ("Transfer-Encoding: chunked",), b"+0\r\n\r\n"),
        ("chunk size ended by LF", ("Transfer-Encoding: chunked",), b"0\n\n"),
        ("chunk extension with LF", ("Transfer-Encoding: chunked",), b"0;a\nb\r\n\r\n"),
        ("CL left out", (), b"")):
    hidden = request("X-Auth-Platform: evil", target=args.forbidden_path)
    for method in ("POST", "GET"):
        raw = request(*headers, method=method, body=body) + hidden
        if kind == "CL left out":
            raw = request(method=method) + hidden
        # The hidden request is either refused as what it is, or never seen as one; and one answer belongs to each.
        attack(f"smuggling by {method}: {kind}", raw, method=method, answers=3, timeout=1)
    healthy(f"smuggling: {kind}")
attack("pipelined: allowed, then forbidden", request() + request(target=args.forbidden_path), answers=2,
       also=lambda got: None if len(got) < 2 or got[1].status == 403 else f"the second is {got[1].status}")
attack("pipelined: allowed, then no credential", request() + request(auth=None), answers=2,
       also=lambda got: None if len(got) < 2 or got[1].status == 401 else f"the second is {got[1].status}")
attack("pipelined: no credential, then allowed", request(auth=None) + request(), answers=2,
       also=lambda got: None if got and got[0].status == 401 and not got[0].echo else "the first should be 401")
attack("pipelined: refused with a body that looks like a request",
       request(auth=None, method="POST", body=request(target=args.path + "?evil")), method="POST", answers=2,
           expect="refused")
attack("64 KiB header", request("X-Large: " + "a" * 65536))
attack("64 KiB header, no credential", request("X-Large: " + "a" * 65536, auth=None), expect="refused")
attack("64 KiB Authorization", request(auth=GOOD + "A" * 65536), expect="refused")
attack("64 KiB target", request(target=args.path + "?" + "a" * 65536), target=args.path + "?" + "a" * 65536)
attack("1000 headers", request(*[f"X-Many-{i}: a" for i in range(1000)]))
attack("1000 identity headers", request(*["X-Auth-Platform: evil"] * 1000))
attack("HTTP/1.0", request(version="HTTP/1.0"))
attack("HTTP/1.0, no credential", request(version="HTTP/1.0", auth=None), expect="refused")
attack("HTTP/1.0, forbidden path", request(version="HTTP/1.0", target=args.forbidden_path), expect="refused")
attack("HTTP/1.0, no Host, Connection: X-Auth-Platform",
    request("Connection: keep-alive, X-Auth-Platform", version="HTTP/1.0", host=False))
attack("HTTP/1.0 chunked", request("Transfer-Encoding: chunked", version="HTTP/1.0", method="POST",
    body=chunked(b"x")), method="POST")
attack("HTTP/0.9", b"GET " + args.path.encode() + CRLF, timeout=2)
attack("HTTP/0.9 with headers", b"GET " + args.path.encode() + b"\r\nAuthorization: " + GOOD.encode() + CRLF * 2,
    timeout=2)
attack("HTTP/1.2", request(version="HTTP/1.2"))
attack("HTTP/9.9", request(version="HTTP/9.9"))

# --- other protocols --------------------------------------------------------------------------------------------------

websocket = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def no_tunnel(got):
    if got and got[0].status == 101:
        return "it switched protocols"
    if got and got[0].echo and any(name.lower() == "upgrade" for name, _ in got[0].echo["headers"]):
        return "Upgrade reached the upstream"
    return None


attack("WebSocket upgrade", request(*websocket), also=no_tunnel)
attack("WebSocket upgrade, no credential", request(*websocket, auth=None), expect="refused", also=no_tunnel)
attack("WebSocket upgrade, forbidden path", request(*websocket, target=args.forbidden_path), expect="refused",
    also=no_tunnel)
attack("h2c upgrade", request("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), also=no_tunnel)
attack("h2c upgrade, no credential", request("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", auth=None),
       expect="refused", also=no_tunnel)


def http2(*headers):
    """All DATA that a gateway answers to one HTTP/2 request without TLS; empty where it does not speak that."""


    def text(value):
        if len(value) < 127:
            return bytes([len(value)]) + value
        return b"\x7f" + bytes([len(value) - 127 & 127 | 128, len(value) - 127 >> 7]) + value

    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    block = b"".join(b"\x10" + text(name.encode()) + text(value.encode()) for name, value in headers)
    data = b""
    with socket.create_connection((HOST, int(PORT)), 3) as connection:
        stream = connection.makefile("rb")
        try:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
            while len(head := stream.read(9)) == 9 and head[:4] != b"HTTP":
                payload = stream.read(int.from_bytes(head[:3], "big"))
                data += payload if head[3] == 0 else b""
                if head[3] in (0, 1) and head[4] & 1 or head[3] in (3, 7):
                    break
        except OSError:
            pass
    return data


pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", args.gateway)]
for name, path, extra, expect in (
        ("HTTP/2 without TLS, allowed", args.path,
            [("authorization", GOOD), ("x-auth-platform", "evil"), ("x_auth_platform", "evil")], "either"),
        ("HTTP/2 without TLS, no credential", args.path, [("x-auth-platform", "evil")], "refused"),
        ("HTTP/2 without TLS, two credentials", args.path, [("authorization", GOOD), ("authorization", GOOD)],
        "refused"),
        ("HTTP/2 without TLS, forbidden path", args.forbidden_path, [("authorization", GOOD)], "refused")):
    if args.only in name:
        data = http2(*pseudo, (":path", path), *extra)
        answer = Answer(0, [], data)
        answer.status = 200 if answer.echo else 403
        problem, _ = verdict([answer], expect=expect)
        report(name, problem, "spoken" if data else "not spoken")

# --- afterwards -------------------------------------------------------------------------------------------------------

healthy("after everything")
print(f"{failures} failed" if failures else "all as it must be")
sys.exit(1 if failures else 0)
