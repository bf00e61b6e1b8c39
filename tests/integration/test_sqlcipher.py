# SPDX-License-Identifier: Apache-2.0
"""Real SQLCipher databases opened through lkmd, and every way in which that can fail, told apart.

LKM_SQLCIPHER3 or LKM_SQLCIPHER4 names a folder with the libsqlcipher of the version that this machine does not have: then the promises
about both versions are kept too."""
import base64
import ctypes.util
import json
import os
import socket
import subprocess
import unittest

import support
from daemons import DaemonCase
from support import KMS_GENERATE, TIMEOUT, Client, pairs

CREATE, READONLY = 1, 2
WORD = "swordfish-in-the-waiting-room"
OTHER = {name: os.environ[name] for name in ("LKM_SQLCIPHER3", "LKM_SQLCIPHER4") if name in os.environ}
THREE, FOUR = ({"LD_LIBRARY_PATH": OTHER[name]} if name in OTHER else {} for name in ("LKM_SQLCIPHER3", "LKM_SQLCIPHER4"))


def helper(*arguments):
    return support.WRAPPER + [os.path.join(support.BUILD, "tests/integration/client-helper"), *map(str, arguments)]


class ClientCase(DaemonCase):
    def environment(self, **changes):
        return {**os.environ, "LKM_SOCKET": self.socket, **changes}

    def helper(self, *arguments, **environment):
        return subprocess.run(helper(*arguments), env=self.environment(**environment), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)

    def start_helper(self, *arguments):
        return self.start(helper(*arguments), env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def make_key(self, name, scope="medical"):
        done = self.helper("get-or-create", self.path(name), scope)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def make_database(self, name):
        """A key in the scope "medical", and a database with one row."""
        self.make_key(name)
        self.open(name, f"CREATE TABLE t(x); INSERT INTO t VALUES('{WORD}')", flags=CREATE)
        return self.path(name)

    def open(self, name, sql="SELECT x FROM t", flags=0, timeout=0, **environment):
        done = self.helper("open", flags, timeout, self.path(name), sql, **environment)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def refused(self, name, flags=0, timeout=0, **environment):
        """The name of the error that opening ends with; its sentence names the database."""
        done = self.helper("open", flags, timeout, self.path(name), "SELECT 1", **environment)
        self.assertEqual(done.returncode, 1, done.stdout)
        error, sentence = done.stdout.rstrip("\n").split("\n")
        self.assertGreater(len(sentence), 20)
        self.assertRegex(sentence, r"[.)]$")
        return error

    def leave_one_scope(self):
        """So that none has to be named."""
        config = self.read(self.config).replace(f"[scope billing]\nkeks = other\nallow = uid:{os.getuid()}", "")
        self.write("lkmd.conf", config)
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")

    def bytes(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def put(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)


class Opening(ClientCase):
    def test_database_opens_again_after_the_daemon_restarted(self):
        self.make_database("a.db")
        self.assertNotIn(WORD.encode(), self.bytes("a.db"))
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        self.assertEqual(self.open("a.db"), WORD + "\n")
        self.assertEqual(self.open("a.db", flags=READONLY), WORD + "\n")
        self.assertEqual(self.open("a.db", flags=CREATE), WORD + "\n")

    def test_handle_survives_a_restart_of_the_daemon(self):
        self.make_key("a.db")
        process = self.start_helper("reconnect", self.path("a.db"))
        self.assertEqual(process.stdout.readline(), "loaded\n")
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        out, _ = process.communicate("\n", TIMEOUT)
        self.assertEqual(process.returncode, 0, out)

    def test_creators_at_once_share_one_key(self):
        creators = [self.start_helper("get-or-create", self.path("a.db"), "medical") for _ in range(16)]
        answers = {process.communicate(timeout=TIMEOUT)[0] for process in creators}
        self.assertEqual(len(answers), 1, answers)
        self.assertEqual([name for name in os.listdir(self.directory) if "a.db" in name], ["a.db.key"])

    def test_paths_are_never_uris(self):
        for name in ("file:a.db?mode=memory", ":memory:", "-a.db"):
            for arguments in (("get-or-create", name, "medical"), ("open", CREATE, 0, name, "CREATE TABLE t(x)")):
                done = subprocess.run(helper(*arguments), cwd=self.directory, env=self.environment(), stdout=subprocess.PIPE, timeout=TIMEOUT)
                self.assertEqual(done.returncode, 0, done.stdout)
            self.assertTrue(os.path.getsize(self.path(name)) > 0)

    def test_second_connection_costs_the_first_no_locks(self):
        self.make_key("a.db")
        process = self.start_helper("locks", self.path("a.db"))
        self.assertEqual(process.stdout.readline(), "OK\n")
        self.assertEqual(process.stdout.readline(), "holding\n")
        done = self.helper("open", 0, 1, self.path("a.db"), "BEGIN IMMEDIATE")
        self.assertEqual(done.stdout.split("\n")[0], "SQL", "another process got the write lock")
        out, _ = process.communicate("\n", TIMEOUT)
        self.assertEqual(process.returncode, 0, out)


class Refusing(ClientCase):
    def test_no_database(self):
        self.assertEqual(self.refused("a.db"), "NOT_FOUND")
        self.assertEqual(os.path.exists(self.path("a.db.key")), False)

    def test_plaintext_database(self):
        self.put("a.db", b"SQLite format 3\0" + bytes(4080))
        self.assertEqual(self.refused("a.db"), "PLAINTEXT")
        self.make_key("b.db")
        self.put("b.db", b"SQLite format 3\0" + bytes(4080))
        self.assertEqual(self.refused("b.db", flags=CREATE), "PLAINTEXT")

    def test_database_without_its_key_never_gets_a_new_one(self):
        self.make_database("a.db")
        os.unlink(self.path("a.db.key"))
        before = self.bytes("a.db")
        for flags in (0, READONLY, CREATE):
            self.assertEqual(self.refused("a.db", flags), "KEY_MISSING")
        for suffix in ("-wal", "-journal"):
            self.put("b.db" + suffix, b"")
            self.assertEqual(self.refused("b.db", CREATE), "KEY_MISSING")
            os.unlink(self.path("b.db" + suffix))
        self.assertEqual([name for name in os.listdir(self.directory) if name.endswith(".key")], [])
        self.assertEqual(self.bytes("a.db"), before)

    def test_key_of_another_database(self):
        self.make_database("a.db")
        self.make_key("b.db")
        self.put("a.db.key", self.bytes("b.db.key"))
        before = self.bytes("a.db")
        for flags in (0, READONLY, CREATE):
            self.assertEqual(self.refused("a.db", flags), "WRONG_KEY")
        self.assertEqual(self.bytes("a.db"), before)

    def test_key_that_was_edited(self):
        self.make_database("a.db")
        whole = self.bytes("a.db.key")
        record = json.loads(whole)
        record["created_at"] = "2001-01-01T00:00:00Z"
        for damaged in (json.dumps(record).encode(), whole[:-20], b"{}", b"", bytes(65537)):
            self.put("a.db.key", damaged)
            self.assertEqual(self.refused("a.db"), "RECORD_DAMAGED", damaged[:80])
        os.unlink(self.path("a.db.key"))
        os.mkfifo(self.path("a.db.key"))
        self.assertEqual(self.refused("a.db"), "RECORD_DAMAGED")

    def test_key_of_another_machine(self):
        self.make_database("a.db")
        self.assertEqual(self.run_program("lkm-kms", "--generate-kek", self.path("fresh")).returncode, 0)
        os.rename(self.path("fresh"), self.path("kek"))
        for process in (self.lkmd, self.kms):
            self.finish(process)
        self.kms, self.lkmd = self.start_ready("lkm-kms"), self.start_ready("lkmd")
        self.assertEqual(self.refused("a.db"), "RECORD_FOREIGN")

    def test_scope_that_admits_nobody(self):
        done = self.helper("get-or-create", self.path("a.db"), "closed")
        self.assertEqual(done.stdout.split("\n")[0], "DENIED")
        self.assertFalse(os.path.exists(self.path("a.db.key")))

    def test_several_scopes_are_open(self):
        self.assertEqual(self.refused("a.db", CREATE), "SCOPE_NEEDED")

    def test_no_daemon(self):
        self.make_database("a.db")
        self.finish(self.lkmd)
        self.assertEqual(self.refused("a.db"), "NO_DAEMON")

    def test_daemon_that_never_answers(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("mute.sock"))
            listener.listen()
            done = self.helper("ping", 50, LKM_SOCKET=self.path("mute.sock"))
            self.assertEqual(done.stdout.split("\n")[0], "TIMEOUT")

    def test_server_that_speaks_another_protocol(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("http.sock"))
            listener.listen()
            process = self.start(helper("ping", 10000), env=self.environment(LKM_SOCKET=self.path("http.sock")),
                                 stdout=subprocess.PIPE, text=True)
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                self.assertEqual(process.communicate(timeout=TIMEOUT)[0].split("\n")[0], "PROTOCOL")

    def test_library_without_the_codec(self):
        plain = ctypes.util.find_library("sqlite3")
        if not plain:
            self.skipTest("no libsqlite3 here")
        # A sanitizer's runtime wants to be the first library, which this one has to be.
        sanitizer = "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")
        self.assertEqual(self.refused("a.db", CREATE, LD_PRELOAD=plain, ASAN_OPTIONS=sanitizer), "NO_CODEC")
        self.assertFalse(os.path.exists(self.path("a.db.key")))

    def test_database_that_others_lock(self):
        self.make_database("a.db")
        process = self.start_helper("open", 0, 0, self.path("a.db"), "BEGIN EXCLUSIVE", "hold")
        self.assertEqual(process.stdout.readline(), "holding\n")
        self.assertEqual(self.refused("a.db", timeout=1), "BUSY")
        process.communicate("\n", TIMEOUT)
        self.assertEqual(self.open("a.db"), WORD + "\n")

    def test_files_that_cannot_be_read(self):
        self.make_key("a.db")
        os.mkdir(self.path("a.db"))
        self.assertEqual(self.refused("a.db"), "IO")
        done = self.helper("get-or-create", self.path("no/such/folder/a.db"), "medical")
        self.assertEqual(done.stdout.split("\n")[0], "IO")
        os.symlink("b.db.key", self.path("b.db.key"))
        self.assertEqual(self.refused("b.db", CREATE), "IO")


class Handles(ClientCase):
    def test_asynchronous_loads(self):
        self.make_key("a.db")
        for n in (1, 64, 126):
            done = self.helper("async", n, self.path("a.db"))
            self.assertEqual((done.returncode, done.stdout), (0, f"{n} answers\n"))

    def test_asynchronous_loads_end_with_the_daemon(self):
        self.make_key("a.db")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("fake.sock"))
            listener.listen()
            process = self.start(helper("async", 3, self.path("a.db")), env=self.environment(LKM_SOCKET=self.path("fake.sock")),
                                 stdout=subprocess.PIPE, text=True)
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()
            out, _ = process.communicate(timeout=TIMEOUT)
            self.assertEqual((out.split("\n")[0], out.split("\n")[-2]), ("NO_DAEMON", "3 answers"))

    def test_forked_child_is_refused(self):
        self.make_key("a.db")
        self.assertEqual(self.helper("fork", self.path("a.db")).returncode, 0)

    def test_idle_handles_hold_no_slot(self):
        self.make_key("a.db")
        done = self.helper("handles", self.path("a.db"))
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_more_threads_than_slots(self):
        self.make_key("a.db")
        done = self.helper("threads", self.path("a.db"))
        self.assertEqual(done.returncode, 0, done.stdout)


class Upgrading(ClientCase):
    def seed_record(self, name):
        """A record of format 1, made as the seed did: the user's pairs alone bind its wrap."""
        context = {"purpose": "test"}
        with Client(self.path("kms.sock")) as kms:
            reply = kms.ask(KMS_GENERATE, [(1, b"local"), (2, pairs(context))])
        self.put(name, json.dumps({
            "encrypted_dek": base64.b64encode(reply.fields[3]).decode(), "kek_id": reply.fields[2].decode(), "version": 1,
            "created_at": "2024-01-15T10:30:00Z", "rotated_at": None, "encryption_context": context, "dek_spec": "AES_256"}).encode())
        os.chmod(self.path(name), 0o600)

    def test_record_of_the_seed_is_upgraded_in_place(self):
        self.seed_record("a.db.key")
        self.make_key("a.db")
        self.assertEqual(json.loads(self.bytes("a.db.key"))["format"], 2)
        before = self.bytes("a.db.key")
        self.make_key("a.db")
        self.assertEqual(self.bytes("a.db.key"), before)
        self.assertEqual([name for name in os.listdir(self.directory) if "a.db" in name], ["a.db.key"])

    def test_asynchronous_load_upgrades_too(self):
        self.seed_record("a.db.key")
        self.leave_one_scope()
        done = self.helper("async", 1, self.path("a.db"))
        self.assertEqual((done.returncode, done.stdout), (0, "1 answers\n"))
        self.assertEqual(json.loads(self.bytes("a.db.key"))["format"], 2)


@unittest.skipUnless(OTHER, "neither LKM_SQLCIPHER3 nor LKM_SQLCIPHER4 is set")
class BothVersions(ClientCase):
    def test_database_of_sqlcipher_3_opens_under_4(self):
        self.make_database_alone("a.db", **THREE)
        self.assertEqual(self.open("a.db", **FOUR), WORD + "\n")
        self.open("a.db", "INSERT INTO t VALUES('four')", **FOUR)
        self.assertEqual(self.open("a.db", **THREE), WORD + "\nfour\n")

    def test_database_of_sqlcipher_4_is_refused_by_3(self):
        self.make_database_alone("a.db", **FOUR)
        self.assertEqual(self.refused("a.db", **THREE), "CIPHER_VERSION")
        self.assertEqual(self.open("a.db", **FOUR), WORD + "\n")

    def test_version_that_no_record_tells_is_found_out(self):
        self.make_key("a.db")
        self.open("a.db", f"CREATE TABLE t(x); INSERT INTO t VALUES('{WORD}')", flags=CREATE, **THREE)
        self.assertEqual(self.open("a.db", **FOUR), WORD + "\n")
        self.make_key("b.db")
        self.put("a.db.key", self.bytes("b.db.key"))
        self.assertEqual(self.refused("a.db", **FOUR), "WRONG_KEY")

    def make_database_alone(self, name, **environment):
        self.leave_one_scope()
        self.open(name, f"CREATE TABLE t(x); INSERT INTO t VALUES('{WORD}')", flags=CREATE, **environment)


if __name__ == "__main__":
    unittest.main()
