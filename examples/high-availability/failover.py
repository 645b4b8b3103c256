#!/usr/bin/env python3
"""Fails the primary over under load, on one machine, and says what that cost and whether a promise was broken.

usage: failover.py [--failovers N] [--load CLIENTS] [--fault kill|cut|orphan|switchover|standby|all] [--program FILE] [--keep]

It starts this directory's recipe: three machines with etcd, Patroni, PostgreSQL and Countersign, and a balancer, each in
a network namespace of its own. Clients create and revoke through the balancer without a pause, and verify through it and
at each machine, the cut off one too. It needs root, Linux, and the packages that README.md names; Python's standard
library is all it needs besides. Exit 1 if a promise was broken, 2 if it could not run.
"""
import argparse
import base64
import collections
import ctypes
import http.client
import itertools
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MACHINES = {"m1": "10.77.0.11", "m2": "10.77.0.12", "m3": "10.77.0.13"}
BALANCER = "10.77.0.10"
GRID = "/grid/2025-10-13"
# What each fault does to the machine of the primary, or of its standby.
FAULTS = {
    "kill": "PostgreSQL and Patroni killed (-9)",
    "cut": "its network link cut",
    "orphan": "Patroni killed, then the link cut",
    "switchover": "patronictl switchover",
    "standby": "the standby that is asked for its word killed (-9)",
}
# How long the load runs before a fault and after the repair, and at least from the fault to the repair.
BEFORE, AFTER, DURING = 4, 4, 25
# How long an old primary that nothing demoted is reached by all again before its Patroni comes back.
TWO = 8
PATIENCE = 90
CLONE_NEWNET = 0x40000000
# Nothing of whoever starts this: a home of root's, for one, is none of PostgreSQL's.
ENVIRONMENT = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


class Wrong(Exception):
    """It could not run, or did not come to where it should."""


def until(what, found, patience=PATIENCE, pause=0.2):
    """What `found` returns, as soon as that is something."""
    end = time.monotonic() + patience
    while True:
        result = found()
        if result:
            return result
        if time.monotonic() > end:
            raise Wrong(f"after {patience} s, still not: {what}")
        time.sleep(pause)


# --- the machines -----------------------------------------------------------------------------------------------------


class Network:
    """A namespace for each machine, and one with the bridge that joins them: nothing of it is seen from outside."""

    def __init__(self):
        self.prefix = f"countersign{os.getpid()}-"
        self.made = []

    def name(self, machine):
        return self.prefix + machine

    @staticmethod
    def ip(*words, check=True):
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
        if check and done.returncode:
            raise Wrong(f"ip {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def start(self):
        for machine in ["hub", "lb", *MACHINES]:
            self.ip("netns", "add", self.name(machine))
            self.made.append(machine)
            self.ip("-n", self.name(machine), "link", "set", "lo", "up")
        hub = self.name("hub")
        self.ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        self.ip("-n", hub, "link", "set", "bridge", "up")
        for machine, address in [("lb", BALANCER), *MACHINES.items()]:
            at = self.name(machine)
            self.ip("link", "add", machine, "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", at)
            self.ip("-n", hub, "link", "set", machine, "master", "bridge", "up")
            self.ip("-n", at, "address", "add", f"{address}/24", "dev", "eth0")
            self.ip("-n", at, "link", "set", "eth0", "up")

    def link(self, machine, state):
        """The switch's end: the machine keeps its address, and reaches itself and nobody else."""
        self.ip("-n", self.name("hub"), "link", "set", machine, state)

    def pids(self, machine):
        return [int(pid) for pid in self.ip("netns", "pids", self.name(machine), check=False).split()]

    def stop(self):
        # First all are killed, then waited for: what one of them restarts dies in the next round.
        for _ in range(20):
            alive = [pid for machine in self.made for pid in self.pids(machine)]
            for pid in alive:
                end(pid)
            if not alive:
                break
            time.sleep(0.1)
        for machine in reversed(self.made):
            self.ip("netns", "delete", self.name(machine), check=False)
        self.made = []

    def enter(self, machine):
        """From here on, sockets of this thread are the machine's."""
        with open(f"/run/netns/{self.name(machine)}", "rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise Wrong(f"cannot enter the namespace of {machine}: {os.strerror(ctypes.get_errno())}")


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Cluster:
    """The recipe, running: its files as they stand, but for directories, passwords and the watchdog."""

    def __init__(self, program, network):
        self.program, self.network = program, network
        self.at = pathlib.Path(tempfile.mkdtemp(prefix="countersign-ha-"))
        self.at.chmod(0o755)
        self.passwords = {}
        self.processes = []
        bins = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.bin = next(reversed(bins), None)
        for name in ["etcd", "patroni", "patronictl", "haproxy", "openssl", "setpriv", "ip"]:
            if not shutil.which(name, path=ENVIRONMENT["PATH"]):
                raise Wrong(f"{name} is not installed; README.md says which packages are needed")
        if not self.bin:
            raise Wrong("PostgreSQL is not installed; README.md says which packages are needed")

    # What the files say, for one machine.

    def fill(self, file, machine):
        text = (HERE / file).read_text()
        text = re.sub(r"PASSWORD-OF-[A-Z]+", lambda found: self.password(found[0]), text)
        home = self.at / machine
        for there, here in [
            ("/var/lib/etcd/countersign", home / "etcd"),
            ("/var/lib/postgresql/15/countersign", home / "pg/data"),
            ("/var/lib/postgresql/countersign.pgpass", home / "pg/pgpass"),
            ("/usr/lib/postgresql/15/bin", self.bin),
            ("/run/postgresql", home / "pg"),
            ("/etc/ssl/private/db.key", home / "pg/db.key"),
            ("/etc/ssl/db.pem", home / "pg/db.pem"),
            ("/etc/ssl/db-ca.pem", self.at / "ca.pem"),
            ("/var/lib/countersign", home / "countersign"),
            ("/etc/countersign/keys.json", home / "keys.json"),
            ("mode: required", "mode: off"),
        ]:
            text = text.replace(there, str(here))
        return re.sub(r"\bADDRESS\b", MACHINES.get(machine, ""), re.sub(r"\bNAME\b", machine, text))

    def password(self, whose):
        return self.passwords.setdefault(whose, secrets.token_hex(16))

    def settings(self, file, machine):
        lines = [line for line in self.fill(file, machine).splitlines() if line and not line.startswith("#")]
        return ENVIRONMENT | dict(line.split("=", 1) for line in lines)

    # Processes.

    def spawn(self, machine, name, command, env=None, user=None):
        if user:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command]
        with open(self.at / f"{machine}-{name}.log", "ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.network.name(machine), *map(str, command)],
                env=env or ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, machine, command, env=None, user=None, check=True):
        if user:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command]
        command = ["ip", "netns", "exec", self.network.name(machine), *map(str, command)]
        done = subprocess.run(
            command, env=env or ENVIRONMENT, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise Wrong(f"{' '.join(command[4:])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def pids_of(self, machine, *names):
        """The machine's processes whose program, or whose script, is one of these."""
        found = []
        for pid in self.network.pids(machine):
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2]
                program = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                continue
            if {os.path.basename(program), *(os.path.basename(os.fsdecode(word)) for word in words)} & set(names):
                found.append(pid)
        return found

    def kill(self, machine, *names):
        while pids := self.pids_of(machine, *names):
            for pid in pids:
                end(pid)
            time.sleep(0.02)

    # Starting.

    def start(self):
        self.network.start()
        self.certify()
        for machine in MACHINES:
            self.spawn(machine, "etcd", ["etcd"], self.settings("etcd.env", machine))
        for machine in MACHINES:
            file = self.at / machine / "pg/patroni.yml"
            file.write_text(self.fill("patroni.yml", machine))
            shutil.chown(file, "postgres", "postgres")
            file.chmod(0o600)
            self.start_patroni(machine)
        primary = until("a primary and two standbys", lambda: self.whole() and self.who_is("leader"))
        self.sql(primary, f"CREATE ROLE countersign LOGIN PASSWORD '{self.password('PASSWORD-OF-COUNTERSIGN')}'")
        self.sql(primary, "CREATE DATABASE countersign OWNER countersign ENCODING UTF8 TEMPLATE template0")
        # Our clients are few addresses that ask for thousands of ended tokens at the end; anybody else would be told to wait.
        asked = {"COUNTERSIGN_FAILED_ATTEMPTS_PER_SOURCE": "0"}
        made = json.loads(self.countersign("m1", "platform", "create", "--name", "failover", "--output", "json"))
        for machine in MACHINES:
            if machine != "m1":
                shutil.copy(self.at / "m1/keys.json", self.at / machine / "keys.json")
            self.spawn(machine, "countersign", [self.program, "serve"], self.settings("countersign.env", machine) | asked)
        (self.at / "haproxy.cfg").write_text((HERE / "haproxy.cfg").read_text())
        haproxy = self.spawn("lb", "haproxy", ["haproxy", "-f", self.at / "haproxy.cfg"])
        time.sleep(1)
        if haproxy.poll() is not None:
            raise Wrong(f"HAProxy did not start: {self.log('lb', 'haproxy')}")
        return next(token for token in made["tokens"] if token["environment"] == "sandbox")

    def start_patroni(self, machine):
        """Unless it runs: what systemd does on a real machine, also when Patroni ends for want of etcd."""
        if not self.pids_of(machine, "patroni"):
            self.spawn(machine, "patroni", ["patroni", self.at / machine / "pg/patroni.yml"], user="postgres")

    def certify(self):
        """An authority and a certificate for each PostgreSQL, by its address."""

        def openssl(*words):
            subprocess.run(["openssl", *map(str, words)], capture_output=True, timeout=60, check=True)

        ca = ["-CA", self.at / "ca.pem", "-CAkey", self.at / "ca.key", "-CAcreateserial"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *curve, "-days", 2, "-subj", "/CN=failover", "-keyout", ca[3], "-out", ca[1])
        for machine, address in MACHINES.items():
            home = self.at / machine / "pg"
            home.mkdir(parents=True)
            request, names = home / "db.csr", home / "names"
            names.write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\n")
            openssl("req", *curve, "-subj", f"/CN={machine}", "-keyout", home / "db.key", "-out", request)
            openssl("x509", "-req", "-in", request, *ca, "-days", 2, "-extfile", names, "-out", home / "db.pem")
            (home / "db.key").chmod(0o600)
            for file in [home, *home.iterdir()]:
                shutil.chown(file, "postgres", "postgres")

    def stop(self, keep):
        self.network.stop()
        for process in self.processes:
            process.wait()
        if keep:
            print(f"logs and data are left in {self.at}")
        else:
            shutil.rmtree(self.at, ignore_errors=True)

    # Asking.

    def countersign(self, machine, *words):
        return self.run(machine, [self.program, *words], self.settings("countersign.env", machine))

    def sql(self, machine, statement):
        words = ["-h", self.at / machine / "pg", "-AtX", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return self.run(machine, [self.bin / "psql", *words], user="postgres").strip()

    def members(self):
        """What Patroni's own page says of the cluster, asked of anybody who knows."""
        for address in MACHINES.values():
            words = ["curl", "-sf", "-m", "2", f"http://{address}:8008/cluster"]
            try:
                found = json.loads(self.run("lb", words, check=False) or "{}")
            except (ValueError, subprocess.TimeoutExpired):
                continue
            if found.get("members"):
                return {member["name"]: member for member in found["members"]}
        return {}

    def who_is(self, role):
        return next((name for name, member in self.members().items() if member["role"] == role), None)

    def whole(self):
        """Whether there is a primary with two standbys that follow it, one of which is asked for its word."""
        members = self.members().values()
        roles = sorted(member["role"] for member in members)
        follow = all(member["state"] in ("running", "streaming") for member in members)
        behind = len({member.get("timeline") for member in members}) == 1
        return roles == ["leader", "replica", "sync_standby"] and follow and behind

    def log(self, machine, name):
        return (self.at / f"{machine}-{name}.log").read_text(errors="replace")


# --- the load ---------------------------------------------------------------------------------------------------------


class Token:
    """A token that the answer to a create has named, and what became of it."""

    def __init__(self, answer):
        self.id = answer["id"]
        pair = f"{answer['clientId']}:{answer['clientSecret']}"
        self.basic = "Basic " + base64.b64encode(pair.encode()).decode()
        # When a revoke was first sent, and when its whole answer was read.
        self.sent = self.revoked = None


class Client:
    """A connection from inside a namespace."""

    def __init__(self, network, machine, address, timeout):
        network.enter(machine)
        self.address, self.timeout, self.connection = address, timeout, None

    def ask(self, method, path, basic, body=None):
        """The status and the answer; (0, why) if none came."""
        try:
            if not self.connection:
                self.connection = http.client.HTTPConnection(self.address, 8420, timeout=self.timeout)
            headers = {"Authorization": basic} | ({"Content-Type": "application/json"} if body else {})
            self.connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as e:
            if self.connection:
                self.connection.close()
            self.connection = None
            return 0, str(e).encode()


class Load:
    """Clients without a pause, and what they saw."""

    def __init__(self, network, root, clients):
        self.network, self.clients = network, clients
        self.root = "Basic " + base64.b64encode(f"{root['clientId']}:{root['clientSecret']}".encode()).decode()
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.tokens = []
        self.live, self.gone = collections.deque(maxlen=200), collections.deque(maxlen=40)
        # When something succeeded, by what and where: [(at, ...)].
        self.succeeded = collections.defaultdict(list)
        self.failed = collections.defaultdict(list)
        # Verifications of a token whose revoke had been answered: (began, status), by where; and those that passed.
        self.asked, self.offending = collections.defaultdict(list), []
        self.threads = []
        self.broken = None

    def start(self):
        work = [(self.change, (number,)) for number in range(self.clients)]
        work += [(self.verify, (where, address)) for where, address in self.places() for _ in range(2)]
        for run, arguments in work:
            thread = threading.Thread(target=self.guard, args=(run, *arguments), daemon=True)
            thread.start()
            self.threads.append(thread)

    @staticmethod
    def places():
        return [("lb", BALANCER), *MACHINES.items()]

    def guard(self, run, *arguments):
        try:
            run(*arguments)
        except Exception as e:  # noqa: BLE001 - a client that is gone would prove nothing
            self.broken = e

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(20)
        if self.broken:
            raise Wrong(f"a client failed: {self.broken!r}")

    def change(self, number):
        """Creates, and revokes what it created some creates ago."""
        client, mine = Client(self.network, "lb", BALANCER, 12), collections.deque()
        for count in itertools.count():
            if self.ending.is_set():
                return
            body = {"name": f"client-{number}-{count}", "permissions": ["VIEW"]}
            status, answer = client.ask("POST", f"{GRID}/tokens", self.root, body)
            self.note("create", status == 201)
            if status == 201:
                token = Token(json.loads(answer))
                self.tokens.append(token)
                self.live.append(token)
                mine.append(token)
            # Half of them stay, to be looked for at the end.
            if len(mine) > 6:
                mine.popleft()
                self.revoke(client, mine.popleft())
            self.ending.wait(0.05)

    def revoke(self, client, token):
        token.sent = token.sent or time.monotonic()
        # Repeated until it is true: that is what a client should do, and a revoke may be repeated.
        while not self.ending.is_set():
            status, _ = client.ask("DELETE", f"{GRID}/tokens/{token.id}", self.root)
            # 404: the one before it, whose answer was lost, had done it; nobody was told so, and this is no such answer.
            if status == 204:
                token.revoked = time.monotonic()
                self.gone.append(token)
            self.note("revoke", status in (204, 404))
            if status in (204, 404):
                return
            self.ending.wait(0.1)

    def verify(self, where, address):
        """Verifies by turns a token that lives and one whose revoke was answered."""
        client = Client(self.network, where, address, 4)
        for turn in itertools.count():
            if self.ending.is_set():
                return
            among = list(self.gone if turn % 2 else self.live)
            if among:
                token = among[-1 - (turn // 2) % len(among)]
                sent, revoked, began = token.sent, token.revoked, time.monotonic()
                status, _ = client.ask("GET", "/verify", token.basic)
                passed = 200 <= status < 300
                if revoked:
                    self.asked[where].append((began, status))
                    if passed:
                        self.offending.append((began, where, began - revoked, token.id))
                elif not sent and not token.sent:
                    self.note(f"verify {where}", passed)
                    if status == 401:
                        # An answer of the wrong kind: the create had been answered.
                        self.note("refused", False)
            self.ending.wait(0.01)

    def note(self, what, succeeded):
        (self.succeeded if succeeded else self.failed)[what].append(time.monotonic())

    def gap(self, what, since):
        """The longest time without a success, of those that ended after `since`."""
        times = sorted(self.succeeded[what])
        return max((b - a for a, b in itertools.pairwise(times) if b > since), default=0.0)

    def between(self, what, since, before):
        return sum(1 for at in list(self.succeeded[what]) if since <= at < before)

    def last(self, what, since, before):
        """How long after `since` the last success before `before` was."""
        return max((at - since for at in list(self.succeeded[what]) if since <= at < before), default=None)


# --- a failover -------------------------------------------------------------------------------------------------------


def inject(cluster, fault, machine):
    if fault in ("kill", "standby"):
        cluster.kill(machine, "patroni", "postgres")
    elif fault == "cut":
        cluster.network.link(machine, "down")
    elif fault == "orphan":
        cluster.kill(machine, "patroni")
        cluster.network.link(machine, "down")
    else:
        file, candidate = cluster.at / machine / "pg/patroni.yml", cluster.who_is("sync_standby")
        words = ["patronictl", "-c", file, "switchover", "--force", "--master", machine, "--candidate", candidate]
        cluster.run(machine, words, user="postgres", check=False)


def fail_over(cluster, load, fault):
    """One round: a row of the table."""
    until("a primary and two standbys", cluster.whole)
    role = "sync_standby" if fault == "standby" else "leader"
    old = until(f"a {role}", lambda: cluster.who_is(role))
    logged = len(cluster.log(old, "patroni"))
    time.sleep(BEFORE)
    begun, asked = time.monotonic(), {where: len(load.asked[where]) for where, _ in load.places()}
    offending, wrong = len(load.offending), len(load.failed["refused"])
    inject(cluster, fault, old)
    new = until(f"a new {role}", lambda: (found := cluster.who_is(role)) != old and found, pause=0.1)
    promoted = time.monotonic() - begun
    until("a create after the fault", lambda: load.between("create", begun + promoted, time.monotonic()))
    time.sleep(max(0.0, DURING - (time.monotonic() - begun)) if fault != "switchover" else 2)
    repaired = time.monotonic()
    cluster.network.link(old, "up")
    if fault == "orphan":
        # Everybody reaches two servers now that both say that they take changes.
        time.sleep(TWO)
    until("the machine as a standby", lambda: cluster.start_patroni(old) or cluster.whole())
    back = time.monotonic() - repaired
    time.sleep(AFTER)
    done = time.monotonic()
    said = cluster.log(old, "patroni")[logged:]
    how = "pg_rewind" if "running pg_rewind" in said else "copied" if "bootstrap from leader" in said else "no rewind"
    alone = load.last(f"verify {old}", begun, repaired) if fault in ("cut", "orphan") else None
    row = {
        "fault": fault,
        "places": f"{old} > {new}",
        "promoted": promoted,
        "create": load.gap("create", begun),
        "revoke": load.gap("revoke", begun),
        "verify": load.gap("verify lb", begun),
        "alone": alone,
        "offending": load.offending[offending:],
        "refused": len(load.failed["refused"]) - wrong,
        "creates": load.between("create", begun, done),
        "revokes": sum(1 for token in load.tokens if token.revoked and begun <= token.revoked < done),
        "asked": sum(len(load.asked[where]) - asked[where] for where, _ in load.places()),
        "asked there": sum(1 for began, _ in list(load.asked[old]) if begun <= began < repaired),
        "back": back,
        "how": how,
    }
    print_round(row, old)
    return row


def print_round(row, old):
    print(f"{row['fault']}: {row['places']} after {row['promoted']:.1f} s; no create for {row['create']:.1f} s, no revoke "
          f"for {row['revoke']:.1f} s, no verification through the balancer for {row['verify']:.2f} s")
    if row["alone"] is not None:
        print(f"  at {old}, cut off, live tokens were accepted for another {row['alone']:.1f} s")
    print(f"  {old} follows as a standby {row['back']:.1f} s after its repair ({row['how']})")
    if row["offending"]:
        where = collections.Counter(place for _, place, _, _ in row["offending"])
        latest = max(late for _, _, late, _ in row["offending"])
        print(f"  REVOKED TOKENS ACCEPTED: {dict(where)}; the last {latest:.1f} s after the answer to its revoke")
    sys.stdout.flush()


def look_for_all(cluster, load):
    """Asks every node for every token whose create was answered; those that are not as they should be."""
    lost, back = set(), set()

    def look(machine, address):
        client = Client(cluster.network, machine, address, 5)
        for token in load.tokens:
            if token.sent and not token.revoked:
                continue
            # A node that is just coming back knows nobody yet.
            status, end = None, time.monotonic() + PATIENCE
            while status not in (200, 401) and time.monotonic() < end:
                if status is not None:
                    time.sleep(0.2)
                status, _ = client.ask("GET", "/verify", token.basic)
            if token.revoked and status != 401:
                back.add((machine, token.id, status))
            if not token.revoked and status != 200:
                lost.add((machine, token.id, status))

    threads = [threading.Thread(target=load.guard, args=(look, *place)) for place in MACHINES.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lost, back


def seconds(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f} s"


def report(rows, load, lost, back):
    print("\n| fault | another in its place after | no creates for | no revokes for | no verify for | at the cut off node, accepted for "
          "another | creates, revokes answered | revoked tokens asked for | accepted | back as a standby after |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['fault']} | {seconds(row['promoted'])} | {seconds(row['create'])} | {seconds(row['revoke'])} "
              f"| {seconds(row['verify'], 2)} | {seconds(row['alone'])} | {row['creates']}, {row['revokes']} | {row['asked']} "
              f"| {len(row['offending'])} | {seconds(row['back'])} ({row['how']}) |")
    ended = sum(1 for token in load.tokens if token.revoked)
    unknown = sum(1 for token in load.tokens if token.sent and not token.revoked)
    print(f"\n{len(load.tokens)} creates and {ended} revokes were answered ({unknown} revokes had an end that was not told);")
    print(f"lost creates: {len({token for _, token, _ in lost})}; revokes undone: {len({token for _, token, _ in back})}; "
          f"revoked tokens accepted: {len(load.offending)}; live tokens refused: {len(load.failed['refused'])}")
    return not (lost or back or load.offending or load.failed["refused"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--failovers", type=int, default=1, metavar="N", help="rounds of each fault (1)")
    parser.add_argument("--load", type=int, default=8, metavar="CLIENTS", help="clients that create and revoke (8)")
    parser.add_argument("--fault", choices=[*FAULTS, "all"], default="all", help="; ".join(f"{k}: {v}" for k, v in FAULTS.items()))
    parser.add_argument("--program", type=pathlib.Path, help="target/release/countersign, else target/debug/countersign")
    parser.add_argument("--keep", action="store_true", help="leave logs and data, and say where")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise Wrong("network namespaces need root: run it with sudo, on a machine where that does no harm")
    built = [ROOT / f"target/{profile}/countersign" for profile in ("release", "debug")]
    program = options.program or next((path for path in built if path.exists()), None)
    if not program or not program.exists():
        raise Wrong("there is no program: cargo build --release, or --program FILE")

    network = Network()
    cluster = Cluster(program.resolve(), network)
    load, rows = None, []
    try:
        print("starting three machines and a balancer", flush=True)
        load = Load(network, cluster.start(), options.load)
        load.start()
        until("verifications through the balancer", lambda: load.succeeded["verify lb"])
        for fault in FAULTS if options.fault == "all" else [options.fault]:
            rows += [fail_over(cluster, load, fault) for _ in range(options.failovers)]
        load.stop()
        until("all machines at rest", cluster.whole)
        lost, back = look_for_all(cluster, load)
        kept = report(rows, load, lost, back)
    finally:
        # Whoever is impatient now would leave a machine running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if load:
            load.ending.set()
        cluster.stop(options.keep)
    print("every promise was kept" if kept else "A PROMISE WAS BROKEN")
    return 0 if kept else 1


def interrupted(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    try:
        sys.exit(main())
    except (Wrong, subprocess.SubprocessError) as e:
        sys.exit(print(f"failover.py: {e}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(print("failover.py: interrupted", file=sys.stderr) or 130)
