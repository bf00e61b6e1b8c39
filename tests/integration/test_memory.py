# SPDX-License-Identifier: Apache-2.0
"""Where keys are in memory, and when they are gone."""
import os
import signal
import subprocess
import sys
import unittest

import memscan
from daemons import DaemonCase
from support import LOCK, PING, UNLOCK, Client

# Takes memfd_secret(2) away from what it runs, as an old kernel would: seccomp answers ENOSYS. Then the arena is in ordinary
# locked memory, which the scanner can read.
WITHOUT_MEMFD_SECRET = r"""
import ctypes, os, struct, sys
program = b"".join(struct.pack("HBBI", *i) for i in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 447), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)))
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(buffer))), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


@unittest.skipIf(os.getuid() != 0, "reading the memory of a process that allows no tracing needs root")
@unittest.skipIf("valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""), "valgrind keeps copies of its own")
class Memory(DaemonCase):
    prefix = ()

    def start_ready(self, name, prefix=()):
        return super().start_ready(name, self.prefix)

    def settle(self):
        """Both daemons have ended what they were doing: each has one thread, and answers a later request after it."""
        for socket in ("lkm.sock", "kms.sock"):
            with Client(self.path(socket)) as client:
                client.ask(PING)

    def assert_clean(self, key):
        self.settle()
        self.assertEqual(memscan.scan(self.lkmd.pid, key), [])
        self.assertEqual(memscan.scan(self.kms.pid, key), [])

    def assert_only_in_arena(self, key):
        self.assert_clean(key)  # secret memory cannot be read even by root

    def test_memory_has_no_key_after_lock_evict_and_sigusr1(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        self.assert_only_in_arena(key)
        client.ask(LOCK)
        self.assert_clean(key)
        client.ask(UNLOCK)
        self.assertEqual(self.get(client, record), key)
        self.evict(client, record)
        self.assert_clean(key)
        self.assertEqual(self.get(client, record), key)
        self.lkmd.send_signal(signal.SIGUSR1)
        line = b""
        while b"SIGUSR1" not in line:
            line = self.lkmd.stderr.readline()
            self.assertTrue(line, "lkmd has ended")
        self.assert_clean(key)

    def test_memory_has_no_key_after_failures(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        for i in range(200):
            self.evict(client, record)
            self.get(client, record.replace(b"test", b"tost") if i % 2 else record)
        self.evict(client, record)
        self.assert_clean(key)


class MemoryWithoutSecretMemory(Memory):
    prefix = (sys.executable, "-c", WITHOUT_MEMFD_SECRET)

    def assert_only_in_arena(self, key):
        self.settle()
        self.assertEqual(memscan.scan(self.kms.pid, key), [])
        hits = memscan.scan(self.lkmd.pid, key)
        self.assertEqual([name for name, _ in hits], ["raw"])
        arenas = memscan.locked(self.lkmd.pid)
        for _, mapping in hits:
            self.assertIn(mapping.split()[0], arenas)


class Expiry(Memory):
    scope_options = "cache_ttl = 100ms"
    prefix = (sys.executable, "-c", WITHOUT_MEMFD_SECRET)

    test_memory_has_no_key_after_lock_evict_and_sigusr1 = None
    test_memory_has_no_key_after_failures = None

    def test_memory_has_no_key_after_ttl(self):
        client = self.client()
        record = self.create(client)
        key = self.get(client, record)
        with open(self.path("audit.jsonl")) as log:
            text = ""
            while '"reason":"expired"' not in text:  # written once the key is wiped
                text += log.read()
        self.assert_clean(key)


class Scanner(unittest.TestCase):
    def test_the_scanner_finds_planted_copies(self):
        key = os.urandom(32)
        for name, form in memscan.forms(key).items():
            with subprocess.Popen([sys.executable, "-c", "import sys; x = sys.stdin.buffer.read(int(sys.argv[1])); print(len(x), flush=True); "
                                   "sys.stdin.read()", str(len(form))], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                process.stdin.write(form)
                process.stdin.flush()
                process.stdout.readline()
                self.assertIn(name, [hit for hit, _ in memscan.scan(process.pid, key)])
                process.stdin.close()

    def test_the_key_schedule_is_that_of_fips_197(self):
        key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        self.assertEqual(memscan.key_schedule(key)[32:36].hex(), "9ba35411")
        self.assertEqual(memscan.key_schedule(key)[-4:].hex(), "706c631e")


if __name__ == "__main__":
    unittest.main()
