#!/usr/bin/env python3
"""The static program in an empty root, the image of it, and what the manifests for Kubernetes say, tried without a cluster.

usage: container.py [PROGRAM]      needs root, Debian's buildah and postgresql

PROGRAM is what packaging/release.sh --static has made. Without it, the program of the tests is linked once more, and its roots have a
source of random bytes as every container has: only a release does without.

Everything runs in namespaces of its own: a network in which the ports are free, and mounts that end with it. Ends with 3 where
none can be made.
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import socketserver
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

import yaml

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
NOBODY = 65532
# Whether roots need a device for random bytes.
RANDOM = "CONTAINER_RANDOM" in os.environ
# To the program, each would be a setting.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}


def fail(what):
    raise SystemExit(f"container: {what}")


def check(condition, what):
    if not condition:
        fail(what)


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, env=ENVIRONMENT, **options)
    check(done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def built():
    """The program of the tests once more, linked with the C library in it."""
    command = ["cargo", "rustc", "--quiet", "--locked", "--bin", "countersign", "--message-format", "json", "--", "-C", "target-feature=+crt-static"]
    lines = run(*command, cwd=REPOSITORY).splitlines()
    return [line["executable"] for line in map(json.loads, lines) if line.get("executable")][-1]


class Root:
    """A root directory with the program, and with nothing else but what is put there."""

    def __init__(self, path, entry="/countersign"):
        self.path, self.entry = pathlib.Path(path), entry
        if RANDOM:
            (self.path / "dev").mkdir(parents=True)
            for name, minor in (("random", 8), ("urandom", 9)):
                os.mknod(self.path / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
                (self.path / "dev" / name).chmod(0o666)

    def start(self, *arguments, **settings):
        """Runs the program there as nobody, with these settings and no other variable."""

        def enter():
            os.chroot(self.path)
            os.chdir("/")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        environment = {f"COUNTERSIGN_{name.upper()}": value for name, value in settings.items()}
        return subprocess.Popen(
            [self.entry, *arguments], executable=self.entry, preexec_fn=enter, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, **settings):
        process = self.start(*arguments, **settings)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def answer(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def until(what, is_so, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if is_so():
                return
        time.sleep(0.05)
    fail(f"never: {what}")


@contextlib.contextmanager
def serving(root, **settings):
    process = root.start("serve", **settings)
    lines = []
    threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
    try:
        until("it serves", lambda: process.poll() is not None or answer(8421, "/readyz") == 200)
        check(process.poll() is None, f"it did not start: {''.join(lines)}")
        yield process
    finally:
        process.terminate()
        check(process.wait(40) == 0, f"it ended with {process.returncode}: {''.join(lines)}")


def used(root, **settings):
    """A token is made and verified: what the first minutes with it are."""
    code, out, err = root.run("platform", "create", "--name", "Acme", "--output", "json", **settings)
    check(code == 0, f"no platform: {err}")
    token = json.loads(out)["tokens"][0]
    import base64

    basic = base64.b64encode(f"{token['clientId']}:{token['clientSecret']}".encode()).decode()
    with serving(root, **settings):
        check(answer(8420, "/verify?require=VIEW", Authorization=f"Basic {basic}") == 200, "its token is not accepted")
        check(answer(8420, "/verify", Authorization=f"Basic {basic[:-8]}AAAAAAAA") == 401, "another one is")
        code, _, err = root.run("token", "revoke", token["id"], **settings)
        check(code == 0, err)
        check(answer(8420, "/verify?require=VIEW", Authorization=f"Basic {basic}") == 401, "its token is accepted, revoked")
        for path in ("/healthz", "/readyz", "/metrics"):
            check(answer(8421, path) == 200, path)


class Names(socketserver.BaseRequestHandler):
    """Answers each question for an address of the family IPv4 with this machine's."""

    def handle(self):
        data, sock = self.request
        end = data.index(b"\0", 12) + 5
        kind = struct.unpack(">H", data[end - 4 : end - 2])[0]
        found = int(kind == 1)
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, found, 0, 0)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if found else b""
        sock.sendto(head + data[12:end] + record, self.client_address)


def finds_names(root):
    """Databases have names: from a list, and from a server of names, with no library beside the program to ask."""
    etc = root.path / "etc"
    etc.mkdir()
    reached = []
    listening = socket.create_server(("127.0.0.1", 5999))
    threading.Thread(target=lambda: [reached.append(listening.accept()[0].close()) for _ in range(9)], daemon=True).start()
    database = {"database": "postgres://countersign@db.internal:5999/countersign?sslmode=disable", "data": "/data"}

    def asks():
        before = len(reached)
        root.run("nodes", **database)
        return len(reached) > before

    check(not asks(), "a name that nobody says was found")
    (etc / "hosts").write_text("127.0.0.1 db.internal\n")
    check(asks(), "a name in /etc/hosts was not found")
    (etc / "hosts").unlink()
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    with socketserver.ThreadingUDPServer(("127.0.0.1", 53), Names) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check(asks(), "a name was not asked for")
        server.shutdown()
    shutil.rmtree(etc)


def empty_root(program, work):
    root = Root(work / "root")
    (root.path / "data").mkdir(parents=True)
    os.chown(root.path / "data", NOBODY, NOBODY)
    shutil.copy(program, root.path / "countersign")
    used(root, data="/data")
    code, out, err = root.run("doctor", data="/data")
    check(code == 0, f"doctor finds something: {out}{err}")
    finds_names(root)
    print("an empty root: a token is made, verified and revoked; doctor finds nothing; names are found")


def image(program, work):
    """The image: what is in it, and that it runs as it says."""
    stored = ("--root", work / "images", "--runroot", work / "run", "--storage-driver", "vfs")
    buildah = lambda *words: run("buildah", *stored, *words).strip()
    # build.sh takes it from the environment where its images are.
    storage = work / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/images"\nrunroot = "{work}/run"\n')
    ENVIRONMENT["CONTAINERS_STORAGE_CONF"] = str(storage)
    ENVIRONMENT["BUILDAH_ISOLATION"] = "chroot"
    run(REPOSITORY / "packaging/container/build.sh", "countersign:test", program)
    container = buildah("from", "--pull-never", "countersign:test")
    path = pathlib.Path(buildah("mount", container))
    config = json.loads(buildah("inspect", "--type", "image", "countersign:test"))["OCIv1"]["config"]
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())
    check(files == ["countersign", "etc/ssl/certs/ca-certificates.crt"], f"in the image: {files}")
    check(config["User"] == f"{NOBODY}:{NOBODY}" and config["Entrypoint"] == ["/countersign"] and config["Cmd"] == ["serve"], f"{config}")
    root = Root(path, config["Entrypoint"][0])
    used(root, **dict(variable.removeprefix("COUNTERSIGN_").lower().split("=", 1) for variable in config["Env"] if "COUNTERSIGN_" in variable))
    print("the image: the program and certificates, nothing else; as it says, it starts, verifies, revokes and ends")
    return root


def manifests():
    import kubernetes_validate

    documents = []
    folder = REPOSITORY / "packaging/kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    check(sorted(listed) == sorted(file.name for file in folder.glob("*.yaml") if file.name != "kustomization.yaml"), "files that are not listed")
    version = sorted(kubernetes_validate.versions_list() if hasattr(kubernetes_validate, "versions_list") else [kubernetes_validate.latest_version()])[-1]
    for name in listed:
        for document in yaml.safe_load_all((folder / name).read_text()):
            kubernetes_validate.validate(document, version, strict=True)
            documents.append(document)
    # What names what: a schema does not see that.
    set_ = next(document for document in documents if document["kind"] == "StatefulSet")
    pod = set_["spec"]["template"]
    labels, ports = pod["metadata"]["labels"], {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    services = {document["metadata"]["name"]: document["spec"] for document in documents if document["kind"] == "Service"}
    check(set_["spec"]["serviceName"] in services, "the set's service")
    for name, spec in services.items():
        check(spec["selector"] == labels, f"{name} finds no server")
        check(all(ports[port["targetPort"]] == port["port"] for port in spec["ports"]), f"{name}: ports")
    check(set_["spec"]["selector"]["matchLabels"] == labels, "the set finds no server")
    for document in documents:
        check(document["kind"] == "Namespace" or document["metadata"]["namespace"] == "countersign", "another namespace")
    print(f"the manifests: {len(documents)} objects as Kubernetes {version} has them")
    return pod["spec"]


@contextlib.contextmanager
def postgres(work):
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[-1]
    directory = work / "postgres"
    directory.mkdir()
    shutil.chown(directory, "postgres")
    as_postgres = ("runuser", "-u", "postgres", "--")
    run(*as_postgres, found / "initdb", "-D", directory / "data", "-A", "trust", "-U", "countersign", "-E", "UTF8", "--locale=C", "-N", cwd="/")
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    run(*as_postgres, found / "pg_ctl", "-D", directory / "data", "-o", options, "-l", directory / "log", "-w", "start", cwd="/")
    try:
        yield "postgres://countersign@127.0.0.1/postgres?sslmode=disable"
    finally:
        run(*as_postgres, found / "pg_ctl", "-D", directory / "data", "-m", "immediate", "stop", cwd="/")


def as_the_pod_says(root, pod, program, work):
    """Starts the container of the pod: its variables, its account, a root that cannot be written, its probes."""
    [container] = pod["containers"]
    check(pod["securityContext"]["runAsUser"] == NOBODY and container["securityContext"]["readOnlyRootFilesystem"], "who it runs as")
    [mount] = container["volumeMounts"]
    volume = work / "volume"
    volume.mkdir()
    # As fsGroup leaves it.
    os.chown(volume, 0, NOBODY)
    volume.chmod(0o2775)
    inside = root.path / mount["mountPath"].lstrip("/")
    run("mount", "--bind", root.path, root.path)
    run("mount", "--bind", volume, inside)
    run("mount", "-o", "remount,bind,ro", root.path)
    # A key file is made where the database is new, by a command on any machine; here, the secret's text is what that has written.
    made = work / "made"
    made.mkdir()
    with postgres(work) as database:
        run(program, "platform", "create", "--name", "Acme", "--data", made, "--database", database)
        secret = {"database": database, "key": (made / "countersign.key").read_text() if (made / "countersign.key").exists() else next(made.glob("*key*")).read_text()}
        variables = {}
        for variable in container["env"]:
            source = variable.get("valueFrom", {}).get("secretKeyRef", {})
            variables[variable["name"].removeprefix("COUNTERSIGN_").lower()] = variable.get("value") or secret[source["key"]]
        image_has = {"data": "/var/lib/countersign"}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        process = root.start(*container["args"], **image_has, **variables)
        lines = []
        threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[name]["httpGet"]
            until(f"{name}: {''.join(lines)}", lambda: process.poll() is None and answer(ports[probe["port"]], probe["path"]) == 200)
        check(answer(ports["api"], "/verify") == 401, "it verifies nobody")
        check((volume / "revocations.jsonl").exists(), "it keeps no journal")
        began = time.monotonic()
        process.terminate()
        check(process.wait(pod["terminationGracePeriodSeconds"]) == 0, f"it ended with {process.returncode}")
        took = time.monotonic() - began
        delay = int(re.fullmatch(r"(\d+)s", variables["drain_delay"])[1])
        check(delay <= took < pod["terminationGracePeriodSeconds"], f"it ended after {took:.1f} s")
    print(f"the pod: started as it says on PostgreSQL, all probes answer, it ends after {took:.0f} s")


def inside(program):
    run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        work.chmod(0o755)
        empty_root(program, work)
        as_the_pod_says(image(program, work), manifests(), program, work)
        subprocess.run(["umount", "--recursive", *(line.split()[1] for line in open("/proc/mounts") if str(work) in line)], check=False, stderr=subprocess.DEVNULL)
    print("container: OK")


def main():
    if os.environ.get("CONTAINER_INSIDE"):
        return inside(sys.argv[1])
    check(os.geteuid() == 0, "only root can make namespaces")
    program, random = (sys.argv[1], {}) if len(sys.argv) > 1 else (built(), {"CONTAINER_RANDOM": "1"})
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode != 0:
        print("container: no namespace can be made here", file=sys.stderr)
        return sys.exit(3)
    with tempfile.TemporaryDirectory() as kept:
        # The next build of the tests puts another one there.
        copy = shutil.copy(program, pathlib.Path(kept) / "countersign")
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, __file__, copy]
        sys.exit(subprocess.run(command, env={**os.environ, "CONTAINER_INSIDE": "1", **random}).returncode)


if __name__ == "__main__":
    main()
