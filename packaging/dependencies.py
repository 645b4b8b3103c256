#!/usr/bin/env python3
"""What becomes part of the program: of every crate that is linked into it, the version, the licence, the checksum, and how
often its sources say `unsafe`.

usage: dependencies.py sbom    a list of all that is in the program, as CycloneDX 1.6
       dependencies.py unsafe  how often each linked crate says `unsafe`: docs/unsafe.md

Both need cargo, and no network once `cargo fetch --locked` has been run. The same sources give the same text.
"""

import json
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


class Tree:
    """The crates of the program, from `cargo tree`: unlike `cargo metadata`, it does not count what only tests switch on."""

    LINE = re.compile(r"(?P<depth>\d+)(?P<name>\S+) v(?P<version>\S+)(?P<more>[^|]*)\|(?P<licence>.*?)(?P<again> \(\*\))?$")

    def __init__(self, kinds):
        self.licences, self.below, self.macros = {}, {}, set()
        path = []
        for line in cargo("tree", "--locked", "--target", TARGET, "--edges", kinds, "--prefix", "depth", "--format", "{p}|{l}").splitlines():
            found = self.LINE.match(line)
            if not found:
                sys.exit(f"cargo tree says what is not understood: {line}")
            crate = (found["name"], found["version"])
            self.licences[crate] = found["licence"].replace(" / ", " OR ").replace("/", " OR ")
            self.below.setdefault(crate, set())
            if "(proc-macro)" in found["more"]:
                self.macros.add(crate)
            depth = int(found["depth"])
            del path[depth:]
            if path:
                self.below[path[-1]].add(crate)
            path.append(crate)
        self.root = next(iter(self.licences))

    def linked(self):
        """What is reached from the program without a macro between: macros run in the compiler, and stay there."""
        seen, waiting = set(), [self.root]
        while waiting:
            crate = waiting.pop()
            if crate not in seen and crate not in self.macros:
                seen.add(crate)
                waiting.extend(self.below[crate])
        return seen


def sources():
    """The folder of each crate's sources."""
    packages = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET))["packages"]
    return {(package["name"], package["version"]): Path(package["manifest_path"]).parent for package in packages}


def purl(kind, name, version):
    return f"pkg:{kind}/{name}@{version.replace('+', '%2B')}"


def bundled(folders, linked):
    """What the program contains that is no crate: C that a crate brings along, and files of our own."""
    sys_crate = next(crate for crate in linked if crate[0] == "libsqlite3-sys")
    header = (folders[sys_crate] / "sqlite3/sqlite3.h").read_text()
    version = re.search(r'#define SQLITE_VERSION +"([^"]+)"', header)[1]
    sqlite = {
        "type": "library",
        "bom-ref": purl("generic", "sqlite", version),
        "name": "sqlite",
        "version": version,
        "description": f"compiled from the sources in {sys_crate[0]} {sys_crate[1]}",
        "scope": "required",
        "licenses": [{"license": {"id": "blessing"}}],
        "cpe": f"cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*",
        "purl": purl("generic", "sqlite", version),
    }
    script = (ROOT / "assets/reference/vendor.sh").read_text()
    version = re.search(r"^version=(\S+)$", script, re.M)[1]
    swagger = {
        "type": "library",
        "bom-ref": purl("npm", "swagger-ui-dist", version),
        "name": "swagger-ui-dist",
        "version": version,
        "description": "the reference page's script and style, served to browsers",
        "scope": "required",
        "licenses": [{"expression": "Apache-2.0"}],
        "purl": purl("npm", "swagger-ui-dist", version),
    }
    rustc = subprocess.run(["rustc", "--version", "--verbose"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"^release: (\S+)$", rustc, re.M)[1]
    std = {
        "type": "library",
        "bom-ref": purl("generic", "rust-std", version),
        "name": "rust-std",
        "version": version,
        "description": "the standard library, as it comes with the compiler",
        "scope": "required",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": purl("generic", "rust-std", version),
    }
    return {sys_crate: [sqlite]}, [swagger, std]


def sbom():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    linked, everything = Tree("normal"), Tree("normal,build")
    within = linked.linked()
    brought, own = bundled(sources(), within)

    def component(crate):
        name, version = crate
        return {
            "type": "library",
            "bom-ref": purl("cargo", name, version),
            "name": name,
            "version": version,
            # `excluded` is what runs while it is built: macros, build scripts, and what they need.
            "scope": "required" if crate in within else "excluded",
            "hashes": [{"alg": "SHA-256", "content": checksums[crate]}],
            "licenses": [{"expression": everything.licences[crate]}],
            "purl": purl("cargo", name, version),
        }

    crates = sorted(set(everything.licences) - {everything.root})
    below = {crate: linked.below.get(crate, set()) | everything.below[crate] for crate in everything.licences}
    refs = lambda crates: [purl("cargo", *crate) for crate in crates]
    needs = lambda crate: sorted(refs(below[crate]) + [part["bom-ref"] for part in brought.get(crate, [])])
    name, version = everything.root
    program = {
        "type": "application",
        "bom-ref": purl("cargo", name, version),
        "name": name,
        "version": version,
        "licenses": [{"expression": everything.licences[everything.root]}],
        "purl": purl("cargo", name, version),
    }
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program, "properties": [{"name": "countersign:target", "value": TARGET}]},
        "components": [component(crate) for crate in crates] + [part for parts in brought.values() for part in parts] + own,
        "dependencies": [{"ref": purl("cargo", *crate), "dependsOn": needs(crate)} for crate in [everything.root, *crates]],
    }
    document["dependencies"][0]["dependsOn"] += [part["bom-ref"] for part in own]
    # The number is made of the contents: another list has another one, and the same list the same.
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True)).urn
    return json.dumps(document, indent=2)


# Comments, strings and characters: what is no code. A quote behind a letter is a lifetime's and stands alone.
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?c?r(?P<hashes>#*)".*?"(?P=hashes)|b?c?"(?:\\.|[^"\\])*"|b?\'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\\'])\'', re.S
)
UNSAFE = re.compile(r"\bunsafe\b(?!_)\s*(?:\(|\{|fn\b|impl\b|trait\b|extern\b)")
FORBIDS = re.compile(r"#!\[(?:forbid|deny)\([^)]*\bunsafe_code\b[^)]*\)\]")


def unsafe():
    tree, folders, rows = Tree("normal"), sources(), []
    for crate in sorted(tree.linked() - {tree.root}):
        files = [file for file in folders[crate].rglob("*.rs") if file.relative_to(folders[crate]).parts[0] not in ("tests", "benches", "examples", "build.rs")]
        texts = [file.read_text(errors="replace") for file in files]
        count = sum(len(UNSAFE.findall(NO_CODE.sub(" ", text))) for text in texts if "unsafe" in text)
        foreign = sum(1 for kind in ("*.c", "*.S", "*.asm") for _ in folders[crate].rglob(kind))
        rows.append((count, *crate, any(FORBIDS.search(text) for text in texts), foreign))
    none = [row for row in rows if not row[0]]
    forbid = sum(1 for row in none if row[3])
    table = [
        f"| {name} {version} | {count} | {f'{foreign} files' if foreign else ''} |"
        for count, name, version, _, foreign in sorted(rows, key=lambda row: (-row[0], row[1:3]))
        if count
    ]
    return UNSAFE_PAGE.format(linked=len(rows), none=len(none), forbid=forbid, table="\n".join(table))


UNSAFE_PAGE = """# `unsafe` in what is linked

Made by `packaging/dependencies.py unsafe > docs/unsafe.md`; a test compares. How often the sources of each crate that is linked
into the program on Linux say `unsafe` before a block, a function, a trait, an implementation or an `extern`.

**What it counts**: words in the sources as they are published, without comments, strings, build scripts and folders of tests. So
it is more than what is compiled: a crate has code for other systems, processors and features (`linux-raw-sys` declares the
kernel's interface for ten processors, `libsqlite3-sys` that of several versions of SQLite). **What it does not**: what macros
write, the standard library, and whether any of it is wrong. C and assembly are all `unsafe`: files of them stand in the last
column.

Of {linked} crates, {none} have no `unsafe`; {forbid} of those forbid or deny it. Countersign itself forbids it. The others:

| crate | `unsafe` | C, assembly |
|---|---|---|
{table}
"""


if __name__ == "__main__":
    commands = {"sbom": sbom, "unsafe": unsafe}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    print(commands[sys.argv[1]]().rstrip())
