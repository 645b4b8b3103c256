#!/usr/bin/python3
"""Runs a command under the system call filter of packaging/debian/countersign.service: whatever it and its children call besides is
refused, as it is to the service.

usage: filtered.py COMMAND…      for example: filtered.py cargo test --test it

Needs systemd-analyze and libseccomp's module for Python (Debian's packages systemd and python3-seccomp); the unit's groups are
what this machine's systemd says they are.
"""
import errno
import functools
import os
import pathlib
import re
import subprocess
import sys

import seccomp

UNIT = pathlib.Path(__file__).resolve().parents[2] / "packaging/debian/countersign.service"


@functools.cache
def group(name):
    """The system calls of a group of systemd's, those of groups in it too."""
    told = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    calls = set()
    for word in re.findall(r"^\s+(@?[a-z0-9_-]+)\s*$", told, re.M):
        calls |= group(word) if word.startswith("@") else {word}
    return calls


def allowed():
    """What the unit lets through: the first line says what, and those with a tilde take away again."""
    calls = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.M):
        taken = line.startswith("~")
        for word in line.removeprefix("~").split():
            found = group(word) if word.startswith("@") else {word}
            calls = calls - found if taken else calls | found
    # What systemd lets through in any list of what is allowed.
    return calls | group("@default") | {"execve"}


def main():
    if len(sys.argv) < 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    program = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    calls = allowed()
    known = 0
    for call in sorted(calls):
        try:
            program.add_rule(seccomp.ALLOW, call)
            known += 1
        # One of another architecture, or newer than the library.
        except RuntimeError:
            pass
    print(f"filtered: {known} system calls are let through", file=sys.stderr)
    program.load()
    os.execvp(sys.argv[1], sys.argv[1:])
    return 2


if __name__ == "__main__":
    sys.exit(main())
