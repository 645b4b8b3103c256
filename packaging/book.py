#!/usr/bin/env python3
"""A preprocessor of mdBook. Sources are written for whoever reads the repository, so that links are relative to the file they
stand in. In the site a link to a page leads there, also from and to pages that include a file from elsewhere; one to any other file
leads to the repository; and one to nothing ends the build.
"""
import json
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"\s]+)')
FENCE = re.compile(r"(^```.*?^```[^\n]*$|``.+?``|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
INCLUDED = re.compile(r"\s*\{\{#include ([^}]+)\}\}\s*")


def origin(path):
    """The file whose text a page is: itself, or the only one that it includes."""
    page = DOCS / path
    whole = INCLUDED.fullmatch(page.read_text())
    return (page.parent / whole[1]).resolve() if whole else page


def chapters(items):
    for item in items:
        if isinstance(item, dict) and (chapter := item.get("Chapter")):
            if chapter["path"]:
                yield chapter
            yield from chapters(chapter["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    repository = context["config"]["output"]["html"]["git-repository-url"]
    every = list(chapters(book.get("items") or book.get("sections")))
    pages = {origin(chapter["path"]): chapter["path"] for chapter in every}
    dead = []
    for chapter in every:
        here = origin(chapter["path"])

        def link(found):
            before, target = found.groups()
            path, mark, anchor = target.partition("#")
            if not path or re.match(r"[a-z]+:", target):
                return found[0]
            there = (here.parent / path).resolve()
            if there in pages or there / "README.md" in pages:
                page = pages.get(there) or pages[there / "README.md"]
                target = os.path.relpath(page, pathlib.Path(chapter["path"]).parent) + mark + anchor
            elif not there.exists() or ROOT not in there.parents:
                dead.append(f"{here.relative_to(ROOT)}: {target}")
            elif there.is_file() and DOCS in there.parents:
                target = os.path.relpath(there, (DOCS / chapter["path"]).parent) + mark + anchor
            else:
                kind = "tree" if there.is_dir() else "blob"
                target = f"{repository}/{kind}/main/{there.relative_to(ROOT)}{mark}{anchor}"
            return before + target

        parts = FENCE.split(chapter["content"])
        chapter["content"] = "".join(part if at % 2 else LINK.sub(link, part) for at, part in enumerate(parts))
    if dead:
        sys.exit("links that lead nowhere:\n  " + "\n  ".join(dead))
    json.dump(book, sys.stdout)


main()
