#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The wire format a second time, written from proto/messages.def and not from frame.c.

golden.py GOLDEN            check that every frame of golden.json is what its fields give
golden.py GOLDEN --write    make golden.json anew: only when the protocol is meant to change
golden.py GOLDEN --corpus DIR [STAMP]
                            write frames and runs of frames as files for the fuzz targets
"""
import json
import pathlib
import re
import struct
import sys
import uuid

MESSAGES = pathlib.Path(__file__).resolve().parents[2] / "proto" / "messages.def"
INTEGERS = {"U8": ">B", "U16": ">H", "U32": ">I", "U64": ">Q"}
UUID = "123e4567-e89b-42d3-a456-426614174000"


def read_messages():
    """{NAME: (number, [(field, tag, kind, must, maximum)])} in the order of messages.def."""
    messages = {}
    for line in MESSAGES.read_text().splitlines():
        if match := re.match(r"MESSAGE\((\w+), \w+, (0x\w+),", line):
            messages[match[1]] = (int(match[2], 16), [])
        elif match := re.match(r"FIELD\((\w+), \w+, (\w+), (\d+), (\w+), (\w+), (\d+),", line):
            messages[match[1]][1].append((match[2], int(match[3]), match[4], match[5] == "MUST", int(match[6])))
    return messages


def short(text):
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def pack_value(kind, value):
    if kind in INTEGERS:
        return struct.pack(INTEGERS[kind], value)
    if kind == "UUID":
        return uuid.UUID(value).bytes
    if kind in ("TEXT", "JSON"):
        return value.encode()
    if kind in ("BYTES", "SECRET"):
        return bytes.fromhex(value)
    assert kind == "PAIRS", kind
    pairs = sorted(value.items(), key=lambda pair: pair[0].encode())
    return struct.pack(">H", len(pairs)) + b"".join(short(key) + short(item) for key, item in pairs)


def pack(messages, vector):
    number, fields = messages[vector["message"]]
    body = struct.pack(">HHI", number, 0, vector["request_id"])
    for field, tag, kind, _, _ in fields:
        if field in vector["fields"]:
            value = pack_value(kind, vector["fields"][field])
            body += struct.pack(">HI", tag, len(value)) + value
    return struct.pack(">I", len(body)) + body


def sample(kind, field, maximum, tag):
    if kind in INTEGERS:
        return {"U8": 4, "U16": 0x0102, "U32": 0x01020304, "U64": 0x0102030405060708}[kind] + tag
    if kind == "PAIRS":
        return {"purpose": "medical-db", "environment": "production", "lkm:scope": "praxis-s\u00fcd", "empty": ""}
    if kind == "UUID":
        return UUID
    if kind == "JSON":
        return '{"a": [1, "\u20ac"], "b": {}}'
    if kind == "TEXT":
        return f"{field} \u00e4\u20ac"
    if kind == "SECRET":
        return bytes(range(0x40, 0x40 + maximum)).hex()
    return bytes(range(1, 40)).hex()


def make(messages):
    vectors = []
    for name, (_, fields) in messages.items():
        every = {field: sample(kind, field, maximum, tag) for field, tag, kind, _, maximum in fields}
        least = {field: every[field] for field, _, _, must, _ in fields if must}
        vectors.append({"message": name, "request_id": 0x11223344, "fields": every})
        if least != every:
            vectors.append({"message": name, "request_id": 0, "fields": least})
    return vectors


def write_corpus(vectors, folder):
    """folder/frame: one frame a file. folder/stream: a byte that says where to cut, then frames."""
    frames = [bytes.fromhex(vector["frame"]) for vector in vectors]
    large = struct.pack(">IHHI", 9000 - 4, 0x0011, 0, 7) + struct.pack(">HI", 1, 9000 - 18) + bytes(9000 - 18)
    runs = {"two": frames[0] + frames[1], "large": frames[0] + large + frames[1], "cut-off": large[:8500]}
    for name in ("frame", "stream"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (vector, frame) in enumerate(zip(vectors, frames)):
        (folder / "frame" / f"{i:02d}-{vector['message'].lower()}").write_bytes(frame)
    for name, data in runs.items():
        (folder / "stream" / name).write_bytes(b"\x80" + data)
    (folder / "stream" / "all").write_bytes(b"\x55" + b"".join(frames))


def main():
    golden = pathlib.Path(sys.argv[1])
    messages = read_messages()
    if sys.argv[2:3] == ["--write"]:
        vectors = make(messages)
        for vector in vectors:
            vector["frame"] = pack(messages, vector).hex()
        golden.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")
        return
    vectors = json.loads(golden.read_text())
    if sys.argv[2:3] == ["--corpus"]:
        write_corpus(vectors, pathlib.Path(sys.argv[3]))
        if len(sys.argv) > 4:
            pathlib.Path(sys.argv[4]).touch()
        return
    wrong = [vector["message"] for vector in vectors if pack(messages, vector).hex() != vector["frame"]]
    missing = set(messages) - {vector["message"] for vector in vectors}
    if wrong or missing:
        sys.exit(f"golden.json: these frames differ from messages.def: {wrong}; these messages have none: {sorted(missing)}")


if __name__ == "__main__":
    main()
