#!/usr/bin/env python3
"""Runs every recipe of examples/gateways as it stands: a real gateway, the real server, attack.py in front.

usage: gateways.py [--strict NAME,NAME] [--only NAME,NAME] [--jobs N]
  --strict   gateways that may not be left out, however hard they are to install
  --only     these gateways alone
  --jobs     so many at once (2)

Each gateway has a server, a database and an upstream of its own; of its example's files only the ports are other ones.
After the attacks, tokens are revoked while clients use them, the server is stopped, and something that lies takes its
place. COUNTERSIGN_BIN names the program (target/debug/countersign).
"""
import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/gateways"
VENV = ROOT / "target/external/gateways-venv"
PROGRAM = pathlib.Path(os.environ.get("COUNTERSIGN_BIN", ROOT / "target/debug/countersign")).resolve()
# To the program, each of these is a setting.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
OPERATIONS = ROOT / "examples/operations/payments.openapi.yaml"
# For the operations of that document that say nothing themselves.
RULES = "tag=Reports -> VIEW; path=/v1/sandbox/** -> any"
# What the examples say in place of these.
GATEWAY, CHECK, SERVER, GRPC, UPSTREAM = 8080, 8081, 8420, 8422, 9000
IDENTITY = ["X-Auth-Token-Id", "X-Auth-Client-Id", "X-Auth-Platform", "X-Auth-Environment", "X-Auth-Permissions"]
PATH, GRID = "/v1/payouts", "/grid/2025-10-13"
ADDRESS = r"(127\.0\.0\.1:|http://:|127\.0\.0\.1, port_value: )(\d+)\b"
PATIENCE = 30
# So many that fail, and a source has to wait.
ATTEMPTS = 20


class Wrong(Exception):
    """A check that failed."""


class Recipe:
    """How an example is started: all else is in its files."""

    def __init__(self, name, folder, program, version, command, by_operation=None, route=None):
        self.name, self.folder, self.program, self.version, self.command = name, folder, program, version, command
        # What stands in its files for the check by operation, and what README.md says to write for one by route.
        self.by_operation, self.route = by_operation, route


def recipes():
    def debian(name):
        return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")

    def wheel(name):
        return shutil.which(str(VENV / "bin" / name))

    envoy = next(iter(sorted(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"))), None)
    needs = "?require=TRANSACT&env=sandbox"
    caddy = ["run", "--config", "{at}/Caddyfile", "--adapter", "caddyfile"]
    # --concurrency and the base id only so that several run on a small machine, and leave nothing on it.
    of_envoy = ["-c", "{at}/envoy.yaml", "--use-dynamic-base-id", "--base-id-path", "{at}/base-id", "--concurrency",
        "2", "-l", "warning"]
    plain, query = ["/verify/nginx;"], [f"/verify{needs};"]
    return [
        Recipe("nginx", "nginx", debian("nginx"), ["-v"], ["-p", "{at}/run", "-e", "stderr", "-c", "{at}/nginx.conf"],
            plain, query),
        Recipe("haproxy", "haproxy", debian("haproxy"), ["-v"], ["-f", "{at}/haproxy.cfg"],
            ["/verify/haproxy"], [f"/verify{needs}"]),
        Recipe("caddy", "caddy", debian("caddy"), ["version"], caddy, ["/verify/caddy?"], [f"/verify{needs}"]),
        Recipe("caddy-new", "caddy", wheel("caddy"), ["version"], caddy, ["/verify/caddy?"], [f"/verify{needs}"]),
        Recipe("traefik", "traefik", wheel("traefik"), ["version"], ["--configFile={at}/traefik.yaml"],
            ["/verify/traefik\n", "/verify/traefik`"], [f"/verify{needs}\n", "/verify`"]),
        Recipe("envoy-http", "envoy-http", envoy, ["--version"], of_envoy),
        Recipe("envoy-grpc", "envoy-grpc", envoy, ["--version"], of_envoy),
    ]


# --- what every gateway gets ------------------------------------------------------------------------------------------

_taken, _taking = set(), threading.Lock()


def free_port():
    """A port that nobody has, below those that the machine gives to whoever connects."""
    with _taking:
        while True:
            port = random.randrange(20000, 32000)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in _taken:
                _taken.add(port)
                return port


def basic(credential):
    return "Basic " + base64.b64encode(credential.encode()).decode()


def pair(token):
    return f"{token['clientId']}:{token['clientSecret']}"


def until(what, condition, seconds=PATIENCE):
    """Waits for something that has no other way to be waited for."""
    end = time.monotonic() + seconds
    while not (got := condition()):
        if time.monotonic() > end:
            raise Wrong(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return got


def ask(port, path=PATH, credential=None, method="GET", source=None, also=None):
    """(status, what the upstream got or None); status 0 if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=source and (source, 0))
    headers = {"Authorization": basic(credential)} if credential else {}
    try:
        connection.request(method, path, headers=headers | (also or {}))
        answer = connection.getresponse()
        return answer.status, echoed(answer.read())
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()


def echoed(body):
    try:
        echo = json.loads(body)
    except ValueError:
        return None
    return echo if isinstance(echo, dict) and echo.get("upstream") == "reached" else None


def caller(echo):
    """Who the upstream took the client for."""
    return [value for name, value in echo["headers"] if name.lower() == "x-auth-client-id"]


class Process:
    """A program in a group of its own, so that it can be seen whether it leaves anybody behind."""

    def __init__(self, name, command, log, cwd=None):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, cwd=cwd, start_new_session=True, env=ENVIRONMENT | {"HOME": str(log.parent)})

    def said(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        if self.process.poll() is not None:
            raise Wrong(f"{self.name} ended with {self.process.returncode}: {self.said()[-1500:]}")
        return True

    def signal(self, what):
        os.killpg(self.process.pid, what)

    def end(self, fine=(0,)):
        """Ends it as an operator would, and complains if it does not end well."""
        self.alive()
        self.process.terminate()
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} did not end") from None
        if status not in fine:
            raise Wrong(f"{self.name} ended with {status}: {self.said()[-1500:]}")
        until(f"{self.name} leaves nobody behind", lambda: not self.group())

    def group(self):
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self):
        if self.group():
            self.signal(signal.SIGKILL)
        self.process.wait()


class Bench:
    """One gateway with all it needs, on ports of its own."""

    def __init__(self, recipe, at):
        self.recipe, self.at = recipe, at
        self.ports = {port: free_port() for port in (GATEWAY, CHECK, SERVER, GRPC, UPSTREAM)}
        self.port, self.checks, self.processes = self.ports[GATEWAY], 0, []

    def check(self, holds, what):
        self.checks += 1
        if not holds:
            raise Wrong(what)

    def command(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments, "--data", self.at / "db", "--output", "json"], capture_output=True,
            text=True, timeout=60, check=False, env=ENVIRONMENT)
        if done.returncode:
            raise Wrong(f"countersign {' '.join(arguments[:2])}: {done.stderr}")
        return json.loads(done.stdout)

    def start(self, name, command, **more):
        process = Process(name, command, self.at / f"{name}.log", **more)
        self.processes.append(process)
        return process

    def prepare(self):
        made = self.command("platform", "create", "--name", "gateways")
        self.root, self.live = map(pair, made["tokens"])

        def token(name, permissions):
            return pair(self.command("token", "create", "--platform", made["platform"]["id"], "--environment",
                "sandbox", "--name", name, "--permissions", permissions))

        self.payer, self.viewer = token("payer", "VIEW,TRANSACT"), token("viewer", "VIEW")
        self.command("operations", "load", str(OPERATIONS), "--operation-rules", RULES)
        self.serve()
        upstream = self.start("upstream", [sys.executable, EXAMPLES / "upstream/upstream.py",
            f"127.0.0.1:{self.ports[UPSTREAM]}"])
        until("the upstream listens", lambda: upstream.alive() and "http://" in upstream.said())

    def serve(self, *more):
        command = [PROGRAM, "serve", "--data", self.at / "db", "--listen", f"127.0.0.1:{self.ports[SERVER]}",
            "--admin-listen", "127.0.0.1:0", "--log", "warn", "--trusted-proxies", "127.0.0.1/32",
            "--failed-attempts-per-source", str(ATTEMPTS), *more]
        if self.recipe.name == "envoy-grpc":
            command += ["--ext-authz-listen", f"127.0.0.1:{self.ports[GRPC]}"]
        self.server = self.start("countersign", command)
        until("countersign serves", lambda: self.server.alive() and ask(self.ports[SERVER], path="/verify")[0] == 401)

    def files(self, change=lambda text: text):
        """The example's own files, with nothing but the ports replaced. Returns where they are."""
        at = pathlib.Path(tempfile.mkdtemp(dir=self.at))
        at.chmod(0o755)
        (at / "run").mkdir()
        seen = set()

        def other(found):
            seen.add(int(found[2]))
            return found[1] + str(self.ports[int(found[2])])

        for file in (EXAMPLES / self.recipe.folder).iterdir():
            if file.suffix != ".md":
                text = re.sub(ADDRESS, other, change(file.read_text()))
                (at / file.name).write_text(text)
        server = GRPC if self.recipe.name == "envoy-grpc" else SERVER
        if not seen >= {GATEWAY, UPSTREAM, server}:
            raise Wrong(f"of the ports, the example has only {sorted(seen)}")
        return at

    def open_gateway(self, at):
        command = [self.recipe.program, *(part.format(at=at) for part in self.recipe.command)]
        gateway = self.start("gateway", command, cwd=at)
        # Some listen before they have read all of their configuration.
        until("the gateway passes requests on",
            lambda: gateway.alive() and ask(self.port, credential=self.payer)[0] == 200)
        return gateway

    # --- the checks ---------------------------------------------------------------------------------------------------

    def attacks(self):
        command = [sys.executable, EXAMPLES / "attack.py", f"127.0.0.1:{self.port}", "--credential", self.payer,
            "--viewer", self.viewer]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
        lines = done.stdout.splitlines()
        self.checks += sum(line.startswith("ok") for line in lines)
        failed = [line for line in lines if line.startswith("FAIL")]
        if done.returncode or failed:
            raise Wrong(f"{len(failed)} attacks succeeded:\n" + "\n".join(failed[:40]) + done.stderr[-2000:])

    def revocations(self, rounds=3):
        for number in range(rounds):
            self.revocation(number, keep_open=number % 2 == 0)

    def revocation(self, number, keep_open, clients=4):
        """No request that begins after the end of a token was answered gets through, while it and another are used."""
        status, _, token = self.grid("POST", "/tokens", {"name": f"revoked-{number}",
            "permissions": ["VIEW", "TRANSACT"]})
        if status != 201:
            raise Wrong(f"the token was not created: {status} {token}")
        credential = pair(token)
        answers, others, stop = [[] for _ in range(clients)], [], threading.Event()
        at_work = [threading.Thread(target=self.use, args=(credential, kept, stop, keep_open))
            for kept in answers]
        at_work.append(threading.Thread(target=self.use, args=(self.payer, others, stop, True)))
        for thread in at_work:
            thread.start()
        try:
            until("clients are at work", lambda: all(len(kept) >= 8 for kept in answers))
            begun = time.monotonic()
            status, _, _ = self.grid("DELETE", f"/tokens/{token['id']}")
            told = time.monotonic()
            until("clients go on", lambda: all(sum(a > told for a, _, _ in kept) >= 8 for kept in answers))
        finally:
            stop.set()
            for thread in at_work:
                thread.join()
        self.check(status == 204, f"DELETE was answered {status}")
        every = [answer for kept in answers for answer in kept]
        before = [status for _, end, status in every if end < begun]
        after = [status for start, _, status in every if start > told]
        self.check(before.count(200) > 0 and set(before) == {200}, f"before the revoke: {set(before)}")
        self.check(200 not in after, f"{after.count(200)} of {len(after)} passed after the revoke")
        self.check(set(after) == {401}, f"after the revoke: {set(after)}")
        self.check({status for _, _, status in others} == {200}, "the revoke of one token disturbed another")

    def grid(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[SERVER], timeout=PATIENCE)
        headers = {"Authorization": basic(self.root), "Content-Type": "application/json"}
        connection.request(method, GRID + path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.headers, json.loads(text) if text else None

    def use(self, credential, kept, stop, keep_open):
        """Sends requests until it is stopped; keeps (begun, ended, status), 999 for somebody else's identity."""
        connection, headers = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), {}
        headers["Authorization"] = basic(credential)
        while not stop.is_set():
            start = time.monotonic()
            try:
                connection.request("GET", PATH, headers=headers)
                answer = connection.getresponse()
                echo, status = echoed(answer.read()), answer.status
            except (OSError, http.client.HTTPException):
                # Closed between two requests, as any kept connection may be. The next one is a new one.
                connection.close()
                continue
            if status == 200 and (not echo or caller(echo) != [credential.partition(":")[0]]):
                status = 999
            kept.append((start, time.monotonic(), status))
            if not keep_open:
                connection.close()
        connection.close()

    def sources(self):
        """Who fails is counted by their own address, not by the gateway's or one that they invent."""
        client, invented, nobody = "127.0.0.9", "198.51.100.1", "nobody:evil"
        for _ in range(ATTEMPTS + 2):
            status, _ = ask(self.port, credential=nobody, source=client, also={"X-Forwarded-For": invented})
            self.check(status == 401, f"a failed attempt: {status}")
        # From here, as a proxy that is trusted.
        for source, expected in ((client, 429), (invented, 401), ("127.0.0.10", 401)):
            status, _ = ask(self.ports[SERVER], GRID + "/tokens", nobody, also={"X-Forwarded-For": source})
            self.check(status == expected, f"after failed attempts of {client}, {source} gets {status}")
        self.check(ask(self.port, credential=self.payer, source=client)[0] == 200, "the right secret does not pass")

    def private(self):
        """It listens where the example says, and nowhere else."""
        for port in (GATEWAY, CHECK):
            try:
                socket.create_connection(("127.0.0.2", self.ports[port]), 5).close()
                listens = True
            except OSError:
                listens = False
            self.check(not listens, "the gateway listens on all addresses")

    def outage(self):
        """Nothing passes while the server is silent, gone, or somebody else; then all is well again."""
        self.server.signal(signal.SIGSTOP)
        # It goes on for a moment, for long enough to answer.
        os.waitid(os.P_PID, self.server.process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            start = time.monotonic()
            status, echo = ask(self.port, credential=self.payer)
            self.check(status == 503 and not echo, f"with a server that is silent: {status}")
            self.check(time.monotonic() - start < 5, "a server that is silent is waited for too long")
        finally:
            self.server.signal(signal.SIGCONT)
        self.recovers("after a silence")
        self.server.end()
        self.check(True, "it ended well, with the gateway's connections open")
        for credential in (self.payer, None):
            status, echo = ask(self.port, credential=credential)
            self.check(status == 503 and not echo, f"without a server: {status}")
        self.lies()
        self.serve("--assertion")
        self.recovers("after a restart")

    def assertions(self):
        """The server signs now: one assertion arrives, of this request and not the client's, also if it is long."""
        for path in (PATH, PATH + "?x=1", "/v1/customers/" + "x" * 4000):
            for also in ({}, {"X-Auth-Assertion": "evil"}, {"x_auth_assertion": "evil"}):
                status, echo = ask(self.port, path, self.payer, also=also)
                headers = echo["headers"] if echo else []
                arrived = [value for name, value in headers if name.lower() == "x-auth-assertion"]
                self.check(status == 200 and len(arrived) == 1, f"{path[:40]} with {also}: {status}, {arrived}")
                claims = arrived[0].split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
                whose = self.payer.partition(":")[0], "GET", path.partition("?")[0]
                self.check((claims["client_id"], claims["method"], claims["path"]) == whose, f"it says {claims}")

    def recovers(self, when):
        until(f"requests pass {when}", lambda: ask(self.port, credential=self.payer)[0] == 200)
        self.check(ask(self.port)[0] == 401, f"no credential {when}")

    def lies(self):
        """An answer that is not one of ours lets nobody pass."""
        whole = [f"{name}: {value}" for name, value in zip(IDENTITY, ["Token:x", "c", "Platform:x", "sandbox", "VIEW"])]

        def answer(status, *headers):
            lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", "Content-Length: 0",
                "Connection: close", *headers, "", ""]
            return "\r\n".join(lines).encode()

        lies = [(f"{status}", answer(status, *whole), 503)
            for status in ("201 Created", "204 No Content", "206 Partial Content", "302 Found\r\nLocation: /evil",
                "304 Not Modified", "400 Bad Request", "404 Not Found", "407 Proxy", "429 Too Many Requests",
                "500 Error", "502 Bad Gateway", "599 Whatever")]
        lies += [(f"200 without {name}", answer("200 OK", *(line for line in whole if not line.startswith(name))), None)
            for name in IDENTITY]
        lies += [("200 without any", answer("200 OK"), None), ("a line", b"yes\r\n", 503), ("an end", b"", 503)]
        with Liar(self.ports[GRPC if self.recipe.name == "envoy-grpc" else SERVER]) as liar:
            if self.recipe.name != "envoy-grpc":
                # Else the lies would prove nothing.
                liar.says = answer("200 OK", *whole)
                status, echo = ask(self.port, credential=self.payer)
                self.check(status == 200 and echo and caller(echo) == ["c"], f"a server that is believed: {status}")
            for name, said, expected in lies:
                liar.says = said
                status, echo = ask(self.port, credential=self.payer)
                self.check(status >= 400 and (expected or status) == status,
                    f"the server answered {name}, and the client got {status}")
                # Traefik has no rule for a 200 with too little; the upstream refuses it.
                self.check(not echo or self.recipe.name == "traefik" and status == 401, f"{name} reached the upstream")

    def by_route(self):
        """The other mode, as README.md says: the route's configuration asks, and the client cannot ask for less."""
        if not self.recipe.route:
            return
        changed = dict.fromkeys(self.recipe.by_operation, 0)

        def change(text):
            for old, new in zip(self.recipe.by_operation, self.recipe.route):
                changed[old] += text.count(old)
                text = text.replace(old, new)
            return text

        at = self.files(change)
        if set(changed.values()) != {1}:
            raise Wrong(f"the example's check stands elsewhere: {changed}")
        gateway = self.open_gateway(at)
        for path in ("/", PATH, "/no/operation?x=1", f"{PATH}?require=VIEW", f"{PATH}?require=VIEW&env=production"):
            for credential, expected in ((self.payer, 200), (self.viewer, 403), (self.live, 403), (None, 401)):
                status, echo = ask(self.port, path=path, credential=credential)
                self.check(status == expected and bool(echo) == (status == 200), f"by route, {path}: {status}")
        # No operation stops these here: a tunnel, and a target that an upstream may read otherwise.
        for path in (PATH, "example.com:443"):
            status, echo = ask(self.port, path, self.payer, "CONNECT")
            self.check((status == 0 or status >= 400) and not echo, f"by route, CONNECT {path}: {status}")
        status, echo = ask(self.port, "http://other.example" + PATH, self.payer)
        self.check(not echo or echo["path"] == PATH, f"by route, an absolute target reached the upstream: {echo}")
        gateway.end(self.fine())

    def fine(self):
        # HAProxy ends so when it is told to.
        return (0, 143, -15) if self.recipe.name == "haproxy" else (0,)

    def run(self):
        self.prepare()
        gateway = self.open_gateway(self.files())
        for step in (self.private, self.attacks, self.revocations, self.sources, self.outage, self.assertions):
            step()
            gateway.alive()
        gateway.end(self.fine())
        self.by_route()
        self.server.end()
        self.check(True, "the server ended well")
        errors = [line for line in self.server.said().splitlines() if '"ERROR"' in line or "panic" in line]
        self.check(not errors, f"the server logged: {errors[:5]}")
        fell = re.findall(r".*(?:panic|segfault|SIGSEGV|exited on signal|assert failure).*", gateway.said())
        self.check(not fell, f"the gateway logged: {fell[:5]}")

    def close(self):
        for process in self.processes:
            process.kill()
        # Envoy never removes its shared memory, which is named by its base id times ten.
        for file in self.at.glob("*/base-id"):
            if (base_id := file.read_text().strip()).isdecimal():
                pathlib.Path(f"/dev/shm/envoy_shared_memory_{int(base_id) * 10}").unlink(missing_ok=True)


class Liar:
    """Answers every request with the same bytes, whatever they are."""

    def __init__(self, port):
        self.says, self.socket = b"", socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            connection.settimeout(5)
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    read = connection.recv(65536)
                    if not read:
                        return
                    head += read
                connection.sendall(self.says)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Not close alone: that would not wake who waits for a client.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


# --- all of them ------------------------------------------------------------------------------------------------------


def version_of(recipe):
    done = subprocess.run([recipe.program, *recipe.version], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "?"


def run(recipe):
    """(version, checks, seconds, what went wrong or None)"""
    start = time.monotonic()
    at = pathlib.Path(tempfile.mkdtemp(prefix=f"countersign-{recipe.name}-"))
    # A gateway that was started by root becomes somebody else, who has to get in.
    at.chmod(0o755)
    bench, problem, version = Bench(recipe, at), None, "?"
    try:
        version = version_of(recipe)
        bench.run()
    except Wrong as wrong:
        problem = str(wrong)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        problem = repr(error)
    finally:
        bench.close()
        if problem:
            for log in sorted(at.glob("*.log")):
                print(f"--- {recipe.name}: the end of {log.name}\n{log.read_text(errors='replace')[-2000:]}",
                    file=sys.stderr)
        shutil.rmtree(at, ignore_errors=True)
    return version, bench.checks, time.monotonic() - start, problem


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--strict", default="")
    options.add_argument("--only", default="")
    options.add_argument("--jobs", type=int, default=2)
    args = options.parse_args()
    strict, only = ({name for name in text.split(",") if name} for text in (args.strict, args.only))
    installed = subprocess.run([ROOT / "tests/external/setup.sh", "gateways"], check=False, stdout=subprocess.DEVNULL)
    if installed.returncode:
        print("gateways: some could not be installed")

    grpc = b"--ext-authz-listen" in subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, check=True,
        env=ENVIRONMENT).stdout
    rows, wanted = {}, []
    for recipe in recipes():
        if only and recipe.name not in only:
            continue
        missing = "not installed" if not recipe.program else None
        if recipe.name == "envoy-grpc" and not grpc:
            missing = "countersign has no --ext-authz-listen"
        if missing:
            rows[recipe.name] = ("", "", "", f"left out: {missing}", recipe.name in strict)
        else:
            wanted.append(recipe)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as at_once:
        for recipe, (version, checks, seconds, problem) in zip(wanted, at_once.map(run, wanted)):
            result = f"FAILED after {checks} checks: {problem}" if problem else "ok"
            rows[recipe.name] = (version, checks, f"{seconds:.0f}s", result, bool(problem))
    print(f"{'gateway':12}{'version':10}{'checks':>7}{'time':>6}  result")
    for name, (version, checks, seconds, result, _) in rows.items():
        print(f"{name:12}{version:10}{checks:>7}{seconds:>6}  {result}")
    failed = [name for name, row in rows.items() if row[4]]
    print(f"gateways: FAILED: {', '.join(failed)}" if failed else "gateways: OK")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
