#!/usr/bin/env python3
"""Checks what Countersign says of its audit log, with nothing but the public key (countersign audit key > keys.pem).

    verify.py proof  keys.pem proof.json            one entry, as countersign audit prove printed it
    verify.py export keys.pem heads.jsonl log.jsonl a whole log from its first entry on, against every head of a file

Needs Python 3 and openssl. Ends with 0 if all of it is right, else with 1 and a sentence."""
import hashlib, json, re, subprocess, sys, tempfile


def leaf(line):
    return hashlib.sha256(b"\0" + line.encode()).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def head(line, keys):
    """A head that is anywhere in a line, if one of the keys has signed it."""
    fields, _ = json.JSONDecoder().raw_decode(line[line.index('{"countersign":"audit head 1"'):])
    signature = bytes.fromhex(fields.pop("signature"))
    with tempfile.NamedTemporaryFile() as text, tempfile.NamedTemporaryFile() as signed, tempfile.NamedTemporaryFile() as key:
        for file, content in [(text, json.dumps(fields, separators=(",", ":")).encode()), (signed, signature)]:
            file.write(content), file.flush()
        for pem in re.findall("-----BEGIN.*?END PUBLIC KEY-----\n", keys, re.S):
            key.seek(0), key.truncate(), key.write(pem.encode()), key.flush()
            check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key.name, "-rawin", "-in", text.name, "-sigfile", signed.name]
            if subprocess.run(check, capture_output=True).returncode == 0:
                return fields
    sys.exit(f"a head of {fields['size']} entries is signed by none of these keys")


def proof(keys, document):
    document = json.loads(document)
    entry, signed = json.loads(document["entry"]), head(document["head"], keys)
    # RFC 9162, 2.1.3.2: the leaf is numbered from 0.
    number, last, root = entry["seq"] - 1, signed["size"] - 1, leaf(document["entry"])
    for beside in map(bytes.fromhex, document["path"]):
        if last == 0:
            sys.exit("the path is too long")
        if number % 2 == 1 or number == last:
            root = node(beside, root)
            while number % 2 == 0 and number != 0:
                number, last = number // 2, last // 2
        else:
            root = node(root, beside)
        number, last = number // 2, last // 2
    if last != 0 or root.hex() != signed["root"]:
        sys.exit(f"entry {entry['seq']} is not in the log that was signed at {signed['at']}")
    print(f"entry {entry['seq']} was in the log of {signed['size']} entries that was signed at {signed['at']}:\n{document['entry']}")


def export(keys, heads, log):
    heads = sorted((head(line, keys) for line in heads.split("\n") if '{"countersign":"audit head 1"' in line), key=lambda h: h["size"])
    peaks, seq, fits = [], 0, 0  # each peak with how many leaves it has
    for signed in heads:
        while seq < signed["size"]:
            line = log.readline().rstrip("\n")
            seq += 1
            if not line or json.loads(line)["seq"] != seq:
                sys.exit(f"entry {seq} is missing: there were {signed['size']} entries at {signed['at']}")
            peaks.append((1, leaf(line)))
            while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
                (_, right), (size, left) = peaks.pop(), peaks.pop()
                peaks.append((2 * size, node(left, right)))
        root = peaks[-1][1]
        for _, left in reversed(peaks[:-1]):
            root = node(left, root)
        if (root.hex(), json.loads(line)["seal"]) != (signed["root"], signed["seal"]):
            sys.exit(f"entry {fits + 1}, or one behind it up to {seq}, is not the one that was signed at {signed['at']}")
        fits = seq
    print(f"{fits} entries are those that were signed; {len(heads)} heads fit")


if __name__ == "__main__":
    read = lambda path: open(path, encoding="utf-8", newline="\n").read()
    match sys.argv[1:]:
        case ["proof", keys, document]:
            proof(read(keys), read(document))
        case ["export", keys, heads, log]:
            export(read(keys), read(heads), open(log, encoding="ascii", newline="\n"))
        case _:
            sys.exit(__doc__)
