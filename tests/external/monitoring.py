#!/usr/bin/env python3
"""Loads examples/monitoring into a real Prometheus, which reads a real server's metrics; then plants trouble, and waits for the alert.

usage: monitoring.py

Every name on the page has its place in docs/metrics.md and the other way round; every expression of the dashboard finds something;
nothing fires while all is well. Of the example's files only addresses and spans of time are other ones. What can't be planted in a
minute is tried by promtool (monitoring.rules.yml). COUNTERSIGN_BIN names the program (target/debug/countersign); prometheus and
promtool are Debian's.
"""
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/monitoring"
PROGRAM = pathlib.Path(os.environ.get("COUNTERSIGN_BIN", ROOT / "target/debug/countersign")).resolve()
# To the program, each of these is a setting.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
GRID = "/grid/2025-10-13/tokens"
PATIENCE = 60
# What stands in the rules in place of minutes.
WINDOW = "15s"


class Wrong(Exception):
    """A check that failed."""


def until(what, found, patience=PATIENCE):
    """What `found` returns, as soon as that is something."""
    end = time.monotonic() + patience
    while True:
        try:
            result = found()
        except OSError:
            result = None
        if result:
            return result
        if time.monotonic() > end:
            raise Wrong(f"after {patience} s, still not: {what}")
        time.sleep(0.2)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(url, method="GET", basic=None, body=None):
    """The status and the body."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Basic {basic}"} if basic else {})
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def basic(token, secret=None):
    return base64.b64encode(f"{token['clientId']}:{secret or token['clientSecret']}".encode()).decode()


class Server:
    """A server with a platform, and clients that use it in every way."""

    def __init__(self, at):
        self.at, self.port, self.admin = at, free_port(), free_port()
        made = subprocess.run([PROGRAM, "platform", "create", "--name", "Acme", "--output", "json", "--data", at], env=ENVIRONMENT,
                              capture_output=True, check=True)
        self.root = next(token for token in json.loads(made.stdout)["tokens"] if token["environment"] == "sandbox")
        words = ["serve", "--data", at, "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin}",
                 "--failed-attempts-per-source", "0", "--failed-attempts-per-client", "0", "--audit-head", f"file:{at / 'heads'}"]
        self.log = open(at / "log", "wb")
        self.process = subprocess.Popen([PROGRAM, *words], env=ENVIRONMENT, stdout=self.log, stderr=self.log)
        until("the server is there", lambda: self.get("/readyz")[0] == 200)

    def get(self, path):
        return ask(f"http://127.0.0.1:{self.admin}{path}")

    def api(self, path, **how):
        return ask(f"http://127.0.0.1:{self.port}{path}", **how)

    def use(self):
        """All that has a series of its own."""
        made = [json.loads(self.api(GRID, method="POST", basic=basic(self.root), body={"name": f"t{n}", "permissions": ["VIEW"]})[1])
                for n in range(3)]
        self.api(f"{GRID}/{made[0]['id']}", method="DELETE", basic=basic(self.root))
        statuses = [self.api("/verify", basic=basic(token))[0] for token in made]
        statuses.append(self.api("/verify?require=MANAGE", basic=basic(made[1]))[0])
        if statuses != [401, 200, 200, 403]:
            raise Wrong(f"verifications are answered {statuses}")
        self.api(GRID, basic=basic(self.root))
        return made[1]

    def guess(self, token):
        # Another one's, which is well-formed.
        for _ in range(200):
            self.api("/verify", basic=basic(token, self.root["clientSecret"]))


class Prometheus:
    """Of Debian's, with the example's files."""

    def __init__(self, at, admin):
        at.mkdir()
        rules = (EXAMPLES / "alerts.yml").read_text()
        rules = re.sub(r"for: \w+", "for: 1s", re.sub(r"\[\d+m\]", f"[{WINDOW}]", rules))
        (at / "alerts.yml").write_text(rules)
        config = (EXAMPLES / "prometheus.yml").read_text().replace("127.0.0.1:8421", f"127.0.0.1:{admin}")
        config = config.replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
        (at / "prometheus.yml").write_text(config)
        self.port = free_port()
        self.log = open(at / "log", "wb")
        words = [f"--config.file={at / 'prometheus.yml'}", f"--storage.tsdb.path={at / 'data'}",
                 f"--web.listen-address=127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([shutil.which("prometheus"), *words], stdout=self.log, stderr=self.log)
        until("Prometheus is ready", lambda: ask(f"http://127.0.0.1:{self.port}/-/ready")[0] == 200)

    def api(self, path, **query):
        status, body = ask(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        answer = json.loads(body)
        if status != 200 or answer["status"] != "success":
            raise Wrong(f"Prometheus refuses {query}: {answer.get('error')}")
        return answer["data"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"}

    def fires(self, name, do=lambda: None):
        def found():
            do()
            return name in self.firing()
        until(f"{name} fires", found)
        print(f"  {name} fires")


def names_of(page):
    """The names of samples on a page, without what each of a histogram's has besides."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.M))
    suffix = {"counter": "_total", "gauge": "", "histogram": "", "info": "_info"}
    return {name + suffix[kind] for name, kind in kinds.items()}


def documented():
    text = (ROOT / "docs/metrics.md").read_text().split("## Alerts")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)", cell)}


def expressions():
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def alerts():
    return re.findall(r"- alert: (\w+)", (EXAMPLES / "alerts.yml").read_text())


def check(server, prometheus):
    token = server.use()
    page = server.get("/metrics")[1]
    if names_of(page) != documented():
        raise Wrong(f"the page and docs/metrics.md differ: {sorted(names_of(page) ^ documented())}")
    told = (ROOT / "docs/metrics.md").read_text()
    if alerts() != re.findall(r"^\| `(Countersign\w+)`", told, re.M):
        raise Wrong("alerts.yml and docs/metrics.md have other alerts, or in another order")

    until("it has read the server's page", lambda: prometheus.api("query", query="countersign_build_info")["result"])
    # Two readings make a rate.
    until("a head is written", lambda: server.use() and prometheus.api("query", query="countersign_audit_head_age_seconds")["result"])
    known = set(prometheus.api("label/__name__/values"))
    rules = re.findall(r"expr: (.*)", (EXAMPLES / "alerts.yml").read_text())
    if missing := {name for rule in rules for name in re.findall(r"\b(?:countersign|process)_[a-z_]+", rule)} - known:
        raise Wrong(f"rules name what the server does not have: {missing}")
    filled = {"$job": "countersign", "$instance": ".*", "$__rate_interval": WINDOW}
    for title, expression in expressions():
        for variable, value in filled.items():
            expression = expression.replace(variable, value)
        until(f"the dashboard's {title!r} finds something: {expression}",
              lambda expression=expression: server.use() and prometheus.api("query", query=expression)["result"])
    print(f"  {len(documented())} names as they are documented, {len(list(expressions()))} expressions of the dashboard, all found")
    if fired := prometheus.firing():
        raise Wrong(f"all is well, and {fired} fire")

    prometheus.fires("CountersignGuessing", lambda: server.guess(token))
    keys = server.at / "keys.json"
    kept = keys.read_bytes()
    keys.write_bytes(b"{}")
    server.process.send_signal(signal.SIGHUP)
    prometheus.fires("CountersignKeyFileRefused")
    keys.write_bytes(kept)
    with sqlite3.connect(server.at / "countersign.db", timeout=10) as database:
        database.execute("UPDATE token SET name = 'other' WHERE name = 't2'")
    prometheus.fires("CountersignRowEdited", lambda: server.api(GRID, basic=basic(server.root)))
    (server.at / "countersign.db").rename(server.at / "moved.db")
    prometheus.fires("CountersignLeaseOver")
    prometheus.fires("CountersignUnavailable", lambda: server.api("/verify", basic=basic(token)))
    server.process.kill()
    prometheus.fires("CountersignDown")


def main():
    for program in ["prometheus", "promtool"]:
        if not shutil.which(program):
            print(f"monitoring: {program} is missing (Debian's package is prometheus)", file=sys.stderr)
            return 2
    subprocess.run(["promtool", "check", "rules", EXAMPLES / "alerts.yml"], check=True, stdout=subprocess.DEVNULL)
    rules = ROOT / "tests/external/monitoring.rules.yml"
    tried = re.findall(r"alertname: (\w+)", rules.read_text())
    if set(tried) != set(alerts()):
        raise Wrong(f"monitoring.rules.yml does not try {set(alerts()) ^ set(tried)}")
    subprocess.run(["promtool", "test", "rules", rules], check=True, stdout=subprocess.DEVNULL)
    print(f"  {len(alerts())} rules, each tried by promtool")
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        try:
            server = Server(at)
            processes.append(server.process)
            prometheus = Prometheus(at / "prometheus", server.admin)
            processes.append(prometheus.process)
            check(server, prometheus)
        except Wrong:
            print((at / "log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print("monitoring: OK")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as wrong:
        print(f"monitoring: FAILED: {wrong}", file=sys.stderr)
        sys.exit(1)
