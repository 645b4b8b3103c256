#!/usr/bin/env python3
"""The documentation as its readers use it: the site is built, every link in it is followed, and every command in it is run.

usage: docs.py [--no-site] [PAGE...]      such as docs/keys.md; all of them without

A page's commands run from top to bottom in one shell, in a copy of the repository's root, on a network and in directories of their
own, so that all ports are free and /var/lib/countersign is nobody else's; that takes root. What a page takes for granted is made
by docs/NAME.sh beside this file. A command must end with 0; of a request whose comment begins with a status, that is the answer's.
What is not run here is in docs/elsewhere.txt, with where it is. COUNTERSIGN_BIN names the program (target/debug/countersign).
Ends with 3 where no namespace can be made.
"""
import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SITE = ROOT / "docs/book"
FENCE = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r"\s*\{\{#include ([^}]+)\}\}\s*")
SECONDS = 300


class Page(html.parser.HTMLParser):
    """What a page of the site has: where one can link to, and where it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.update(filter(None, (attrs.get("id"), attrs.get("name"))))
        self.links.extend(filter(None, (attrs.get("href"), attrs.get("src"))))


def site():
    """Builds it, and follows every link that stays in it."""
    subprocess.run(["mdbook", "build"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    pages = {path: Page(path) for path in SITE.rglob("*.html")}
    dead, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            target = urllib.parse.urlsplit(link)
            if target.scheme or target.netloc:
                continue
            # The page for what is not found stands anywhere, so its links are absolute.
            there = path if not target.path else (SITE / target.path.lstrip("/") if target.path.startswith("/") else path.parent / urllib.parse.unquote(target.path))
            there = (there / "index.html" if there.is_dir() else there).resolve()
            followed += 1
            fragment = urllib.parse.unquote(target.fragment)
            if not there.is_file() or fragment and there.suffix == ".html" and fragment not in pages[there].ids:
                dead.append(f"{path.relative_to(SITE)}: {link}")
    if dead:
        sys.exit("docs: links that lead nowhere:\n  " + "\n  ".join(dead))
    print(f"the site: {len(pages)} pages, {followed} links followed")


def sources():
    """The files that the site is made of, and the README, which begins with the same."""
    found = [ROOT / "README.md"]
    for path in re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs/SUMMARY.md").read_text()):
        page = ROOT / "docs" / path
        included = INCLUDED.fullmatch(page.read_text())
        found.append((page.parent / included[1]).resolve() if included else page)
    return found


def commands(page):
    """Its commands, each with the comment behind it; comments of their own have no command."""
    for fence, block in FENCE.findall(page.read_text()):
        for line in re.sub(r"\\\n", "", block).splitlines():
            if fence == "console" and "$ " in block:
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            if line.strip():
                command, _, comment = re.sub(r"(^|\s)#\s", r"\1\0", line).partition("\0")
                yield command.strip(), comment.strip()


def elsewhere():
    lines = (HERE / "docs/elsewhere.txt").read_text().splitlines()
    return dict(line.split(" | ", 1) for line in lines if line and not line.startswith("#"))


def tree(work):
    """The repository's root as a reader has it, with the program where a release is; what is written here is gone afterwards."""
    copy = work / "countersign"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("target", ".git", "countersign-data", "examples"):
            (copy / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "examples", copy / "examples")
    (copy / "target/release").mkdir(parents=True)
    program = pathlib.Path(os.environ.get("COUNTERSIGN_BIN", ROOT / "target/debug/countersign")).resolve()
    (copy / "target/release/countersign").symlink_to(program)
    examples = program.parent / "examples/embedded"
    return copy, examples


def wheels(prelude, work):
    """What a page installs from PyPI, fetched where there is a network."""
    named = re.search(r"^# wheels: (.*)$", prelude.read_text(), re.MULTILINE) if prelude.exists() else None
    if not named:
        return {}
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", work / "wheels", *named[1].split()], check=True)
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(work / "wheels")}


def script(page, prelude, known, used):
    """A shell script of the page's commands, and how many there are."""
    lines = [f". {HERE}/docs/common.sh"]
    if prelude.exists():
        lines.append(f". {prelude}")
    count = 0
    for command, comment in commands(page):
        if command in known:
            used.add(command)
            continue
        quoted = [part.replace("'", "'\\''") for part in (command, comment)]
        lines.append(f"run '{quoted[0]}' '{quoted[1]}'")
        count += bool(command)
    return lines, count


def run(page, known, used):
    name = "-".join(page.relative_to(ROOT).with_suffix("").parts).replace("-README", "").replace("docs-", "")
    prelude = HERE / f"docs/{name}.sh"
    lines, count = script(page, prelude, known, used)
    if not count:
        return 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        work = pathlib.Path(work)
        work.chmod(0o755)
        copy, example = tree(work)
        (work / "script").write_text("\n".join(lines) + "\n")
        unset = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
        environment = {**unset, "WORK": str(work), "EXAMPLE": str(example), "REPOSITORY": str(ROOT), **wheels(prelude, work)}
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "setsid", "--wait", "bash", work / "script"]
        try:
            done = subprocess.run(command, cwd=copy, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
            told, code = done.stdout + done.stderr, done.returncode
        except subprocess.TimeoutExpired as late:
            told, code = f"{(late.stdout or b'').decode()}it took more than {SECONDS} s", 1
    if code == 77:
        print(f"{page.relative_to(ROOT)}: not run, {told.strip()}")
        return 0
    if code:
        sys.exit(f"docs: {page.relative_to(ROOT)}:\n{told}")
    print(f"{page.relative_to(ROOT)}: {count} commands")
    return count


def main():
    arguments = sys.argv[1:]
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode != 0:
        print("docs: no namespace can be made here", file=sys.stderr)
        return sys.exit(3)
    if "--no-site" in arguments:
        arguments.remove("--no-site")
    else:
        site()
    pages = [pathlib.Path(page).resolve() for page in arguments] or sources()
    known, used = elsewhere(), set()
    count = sum(run(page, known, used) for page in pages)
    if not arguments and (stale := known.keys() - used):
        sys.exit(f"docs: no page has: {', '.join(stale)}")
    print(f"docs: OK, {count} commands run here, {len(used)} elsewhere")


main()
