"""An example upstream behind a gateway: it takes the caller's identity from the X-Auth-… headers, and says what it got.

    python3 upstream.py [HOST:PORT]     (127.0.0.1:9000; port 0 takes a free one; the address is printed)

Without exactly one value of every identity header it refuses: a gateway that lost one of them has lost the caller.
"""
import contextlib
import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IDENTITY = ["x-auth-token-id", "x-auth-client-id", "x-auth-platform", "x-auth-environment", "x-auth-permissions"]
# Sent only where the authority is told to sign assertions, so it may be missing. It may not be doubled either.
OPTIONAL = ["x-auth-assertion"]
# All that the authority ever writes. A comma belongs to permissions alone; elsewhere it means two values joined.
ONE_VALUE = re.compile(r"[A-Za-z0-9._:-]+")
PERMISSIONS = re.compile(r"[A-Z_]+(,[A-Z_]+)*")


def refusal(headers):
    """(status, why) if the headers do not name one caller, else None."""
    for name, _ in headers:
        # What CGI, WSGI and others make of a name: to them these are the same header.
        plain = re.sub(r"[^a-z0-9]", "-", name.lower())
        if plain in IDENTITY + OPTIONAL and plain != name.lower():
            return 403, f"{name!r} is another spelling of an identity header"
    for wanted in IDENTITY + OPTIONAL:
        values = [value for name, value in headers if name.lower() == wanted]
        if not values and wanted in OPTIONAL:
            continue
        if not values or not values[0]:
            return 401, f"{wanted} is missing"
        form = PERMISSIONS if wanted == "x-auth-permissions" else ONE_VALUE
        if len(values) > 1 or not form.fullmatch(values[0]):
            return 403, f"{wanted} is not one value"
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer
    timeout = 60

    def handle(self):
        with contextlib.suppress(ConnectionError):  # A client that goes away is no news.
            super().handle()

    def __getattr__(self, name):
        if name.startswith("do_"):  # every method, also those that nobody has heard of
            return self.answer
        raise AttributeError(name)

    def answer(self):
        headers = [[name, value.strip()] for name, value in self.headers.items()]
        try:
            body, trailers = self.body()
        except ValueError as bad:
            self.close_connection = True
            return self.send(400, {"status": 400, "code": "BAD_REQUEST", "message": str(bad)})
        # Not self.path: http.server removes doubled slashes from it.
        method, path = self.requestline.split(" ")[:2]
        echo = {"method": method, "path": path, "headers": headers, "trailers": trailers}
        echo |= {"body": {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}, "upstream": "reached"}
        refused = refusal(headers)
        if refused:
            status, why = refused
            code = "UNAUTHORIZED" if status == 401 else "FORBIDDEN"
            return self.send(status, {"status": status, "code": code, "message": why} | echo)
        return self.send(200, echo)

    def body(self):
        """The whole body and the trailers; ValueError if it cannot be told where the body ends."""
        length, coding = self.headers.get_all("Content-Length"), self.headers.get_all("Transfer-Encoding")
        if length and coding or len(length or []) > 1 or coding not in (None, ["chunked"]):
            raise ValueError("it is not clear where the body ends")
        if length:
            if not re.fullmatch(r"[0-9]{1,12}", length[0]):
                raise ValueError("Content-Length is no number")
            return self.exactly(int(length[0])), []
        body, trailers = b"", []
        while coding:
            size = self.rfile.readline(1024).split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
                raise ValueError("a chunk has no size")
            body += self.exactly(int(size, 16))
            if int(size, 16) == 0:
                while (line := self.rfile.readline(65536).strip()):
                    name, _, value = line.decode("latin-1").partition(":")
                    trailers.append([name, value.strip()])
                break
            self.rfile.readline(8)
        return body, trailers

    def exactly(self, length):
        read = self.rfile.read(length)
        if len(read) != length:
            raise ValueError("the body ends early")
        return read

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


if __name__ == "__main__":
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000").rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    print(f"http://{host}:{server.server_port}", flush=True)
    server.serve_forever()
