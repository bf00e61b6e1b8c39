#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A provider for `kms_type = socket`, written from PROTOCOL.md alone.  example_provider.py SOCKET KEY-FILE [UID...]

It shows the protocol. IT IS NO CRYPTOGRAPHY TO COPY: Python's standard library has no AES, so that a DEK is encrypted here with one block of
HMAC-SHA-256 and then authenticated with another, and keys lie in ordinary memory. A real provider asks an HSM, a TPM or a KMS instead.
UIDs are the users that are served, beside root and its own."""
import hashlib
import hmac
import json
import os
import socket
import socketserver
import struct
import sys

HELLO, PING, GENERATE, UNWRAP, WRAP, REWRAP, DESCRIBE = 0x0001, 0x0002, 0x0100, 0x0101, 0x0102, 0x0103, 0x0104
ERROR, WELCOME, DONE, REPORT, GENERATED, UNWRAPPED, WRAPPED = 0x8000, 0x8001, 0x8002, 0x8020, 0x8100, 0x8101, 0x8102
PROTOCOL, UNSUPPORTED, DENIED, NOT_MINE, CORRUPT = 1, 3, 10, 60, 65
KEK = {GENERATE: 1, UNWRAP: 1, WRAP: 2, REWRAP: 1, DESCRIBE: 1}  # tag of the field `kek`
CONTEXT = {GENERATE: 2, UNWRAP: 4, WRAP: 3, REWRAP: 4}  # and of `context`
FRAME_MAX, NO_CONTEXT = 73728, b"\0\0"


class Refused(Exception):
    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.fields = {1: struct.pack(">H", code), 2: sentence.encode()}


class Kek:
    """One KEK: a wrap is 1, 16 bytes of nonce, 32 of encrypted DEK, 32 of MAC over the id, the context and what comes before it."""

    def __init__(self, master, name):
        self.encrypt_key, self.mac_key = (hmac.digest(master, use + name, "sha256") for use in (b"encrypt ", b"mac "))
        self.id = b"example:" + name + b":" + hashlib.sha256(self.mac_key).hexdigest()[:16].encode()

    def mask(self, nonce, dek):
        return bytes(a ^ b for a, b in zip(dek, hmac.digest(self.encrypt_key, nonce, "sha256")))

    def mac(self, context, body):
        # A context comes sorted, in one form only, and with lengths: its bytes can be authenticated as they are.
        return hmac.digest(self.mac_key, struct.pack(">I", len(context)) + context + body, "sha256")

    def wrap(self, dek, context):
        nonce = os.urandom(16)
        body = b"\1" + nonce + self.mask(nonce, dek)
        return body + self.mac(context, body)

    def unwrap(self, kek_id, wrapped, context):
        if kek_id != self.id:
            raise Refused(NOT_MINE, "the wrap was made under another KEK")
        body, mac = wrapped[:-32], wrapped[-32:]
        if len(wrapped) != 81 or not hmac.compare_digest(mac, self.mac(context, body)):
            raise Refused(CORRUPT, "the wrap does not authenticate: it is damaged, or belongs to another record")
        return self.mask(body[1:17], body[17:])


def answer(master, number, fields):
    """The number and the fields of the answer to one request."""
    if number == HELLO:
        return WELCOME, {1: b"\0\1", 2: b"kms rewrap describe", 3: b"example", 4: struct.pack(">I", FRAME_MAX), 5: struct.pack(">I", 128)}
    if number == PING:
        return DONE, {}
    if number not in KEK:
        raise Refused(UNSUPPORTED, "the example does not know this request")
    kek = Kek(master, fields[KEK[number]])  # a real provider looks up the name, and answers KMS_NOT_FOUND
    context = fields.get(CONTEXT.get(number), NO_CONTEXT)
    if number == DESCRIBE:
        about = {"name": fields[1].decode(), "type": "example", "kek_id": kek.id.decode(), "version": 1, "usable": True, "error": ""}
        return REPORT, {1: json.dumps({"keks": [about]}).encode()}
    if number == GENERATE:
        dek = os.urandom(32)
        return GENERATED, {1: dek, 2: kek.id, 3: kek.wrap(dek, context)}
    if number == WRAP:
        return WRAPPED, {1: kek.id, 2: kek.wrap(fields[1], context)}
    dek = kek.unwrap(fields[2], fields[3], context)
    return (UNWRAPPED, {1: dek}) if number == UNWRAP else (WRAPPED, {1: kek.id, 2: kek.wrap(dek, context)})


def unpack(body):
    """Number, request id and fields of what follows a frame's length."""
    number, zero, request_id = struct.unpack_from(">HHI", body)
    fields, at, last = {}, 8, 0
    while at < len(body):
        tag, n = struct.unpack_from(">HI", body, at)
        fields[tag], at = body[at + 6:at + 6 + n], at + 6 + n
        if tag <= last or at > len(body) or zero:
            raise ValueError("not a frame")
        last = tag
    return number, request_id, fields


def pack(number, request_id, fields):
    body = struct.pack(">HHI", number, 0, request_id) + b"".join(struct.pack(">HI", tag, len(fields[tag])) + fields[tag] for tag in sorted(fields))
    return struct.pack(">I", len(body)) + body


class Session(socketserver.StreamRequestHandler):
    """One connection: requests are answered in order, which the protocol allows and does not ask for."""

    def answer(self, number, fields):
        return answer(self.server.master, number, fields)

    def handle(self):
        uid = struct.unpack("3i", self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in self.server.uids:
            self.wfile.write(pack(ERROR, 0, Refused(DENIED, f"uid {uid} is not served").fields))
            return
        try:
            while length := self.rfile.read(4):
                (n,) = struct.unpack(">I", length)
                if not 8 <= n <= FRAME_MAX - 4:
                    raise ValueError("not a frame")
                number, request_id, fields = unpack(self.rfile.read(n))
                try:
                    number, fields = self.answer(number, fields)
                except Refused as refused:
                    number, fields = ERROR, refused.fields
                self.wfile.write(pack(number, request_id, fields))
        except (ValueError, KeyError, struct.error):
            self.wfile.write(pack(ERROR, 0, Refused(PROTOCOL, "that was not a frame of the protocol").fields))
        except ConnectionError:
            pass  # lkm-kms has gone; it connects again when it has something to ask


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path, master, uids=(), session=Session):
        self.master, self.uids = master, {0, os.geteuid(), *uids}
        if os.path.exists(path):
            os.unlink(path)
        super().__init__(path, session)  # in a folder that nobody else may write to: lkm-kms looks


if __name__ == "__main__":
    if not os.path.exists(sys.argv[2]):
        with open(sys.argv[2], "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as new:
            new.write(os.urandom(32))
    with open(sys.argv[2], "rb") as file, Server(sys.argv[1], file.read(), map(int, sys.argv[3:])) as server:
        print("ready", flush=True)
        server.serve_forever()
