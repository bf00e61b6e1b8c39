# SPDX-License-Identifier: Apache-2.0
"""lkmctl adopt: databases that were made without lkm become lkm's, whatever their key was, and after any interruption."""
import base64
import hashlib
import json
import os
import pty
import random
import signal
import socket
import struct
import subprocess
import termios
import unittest

import memscan
import support
from daemons import DaemonCase, nobody
from databases import FORMATS, Library, fill, hot_journal, read
from support import BUILD, IMPORT, TIMEOUT, frame, u16, u32

setUpModule = support.not_under_valgrind

LKMCTL = os.path.join(BUILD, "client/lkmctl")
PASSPHRASE = "correct horse battery staple"
RAW = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
SALT = b"side-file salt!!"
OTHER = {name: os.environ[name] for name in ("LKM_SQLCIPHER3", "LKM_SQLCIPHER4") if name in os.environ}
LINKED = Library()


def sidefile_key(rounds):
    return f"x'{hashlib.pbkdf2_hmac('sha256', PASSPHRASE.encode(), SALT, rounds, 32).hex()}'"


def page_key(path, passphrase=PASSPHRASE, major=None):
    digest, rounds, _ = FORMATS[major or min(LINKED.major, 4)]
    return hashlib.pbkdf2_hmac(digest, passphrase.encode(), read(path)[:16], rounds, 32)


class AdoptCase(DaemonCase):
    scope_options = "allow_history = uid:0 uid:{}".format(os.getuid())

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config)
        self.write("lkmd.conf", text.replace(f"allow = uid:{os.getuid()}\nallow_history", f"allow = uid:{os.getuid()} uid:{nobody().pw_uid}\nallow_history"))

    def command(self, *arguments):
        return [*support.WRAPPER, LKMCTL, "--socket", self.socket, *arguments]

    def ctl(self, *arguments, status=0, **options):
        done = subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, **options)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stderr

    def secret(self, text, name="secret"):
        path = self.write(name, text + "\n")
        os.chmod(path, 0o600)
        return path

    def adopt(self, name, *arguments, secret=PASSPHRASE, status=0, **options):
        return self.ctl("adopt", "--scope", "medical", "--passphrase-file", self.secret(secret), *arguments, self.path(name), status=status, **options)

    def make(self, name, key=PASSPHRASE, pragmas=(), wal=False, rows=40):
        """A database as another program left it; what it has to say."""
        with LINKED.open(self.path(name), key, pragmas) as db:
            fill(db, LINKED.sqlite, rows)
            if wal:
                db.run("PRAGMA journal_mode = WAL;\nINSERT INTO log VALUES('now', 'in the log')")
            return db.content()

    def key_of(self, name, *arguments):
        return self.ctl("get", "--format", "pragma", *arguments, self.path(name)).strip()

    def record(self, name):
        return json.loads(self.read(self.path(name + ".key")))

    def files(self):
        """Every byte beside the database, and whose it is."""
        return {name: (read(self.path(name)), os.stat(self.path(name)).st_uid, os.stat(self.path(name)).st_mode)
                for name in sorted(os.listdir(self.directory)) if ".db" in name or name == "new"}

    def assert_adopted(self, name, content, old_key, pragmas=(), version=2):
        """The database is whole under its newest key, which is random, and no longer under the old one."""
        key = self.key_of(name)
        with LINKED.open(self.path(name), key, pragmas) as db:
            self.assertEqual(db.content(), content)
        self.assertTrue(LINKED.opens(self.path(name), key, pragmas))
        self.assertFalse(LINKED.opens(self.path(name), old_key, pragmas))
        self.assertEqual(self.record(name)["version"], version)
        self.assertEqual(os.stat(self.path(name + ".key")).st_mode & 0o777, 0o600)


class Sources(AdoptCase):
    def adopt_one(self, *arguments, key=PASSPHRASE, secret=PASSPHRASE, pragmas=(), wal=False):
        content = self.make("a.db", key, pragmas, wal)
        backup = read(self.path("a.db"))
        self.adopt("a.db", *arguments, secret=secret)
        after = [pragma for pragma in pragmas if not pragma.startswith("kdf_iter")]
        self.assert_adopted("a.db", content, key, after)
        with LINKED.open(self.path("a.db"), self.key_of("a.db"), after) as db:
            self.assertEqual(db.value("PRAGMA journal_mode"), "wal" if wal else "delete")
        # What was saved before opens as it did, and with the first version of the key.
        with open(self.path("backup.db"), "wb") as file:
            file.write(backup)
        self.assertTrue(LINKED.opens(self.path("backup.db"), key, pragmas))
        self.assertTrue(LINKED.opens(self.path("backup.db"), self.key_of("a.db", "--version", "1"), after))

    def test_passphrase_of_the_linked_sqlcipher(self):
        self.adopt_one()
        self.assertEqual(self.record("a.db")["cipher"], {"library": "sqlcipher", "compatibility": min(LINKED.major, 4), "page_size": FORMATS[min(LINKED.major, 4)][2]})

    def test_passphrase_in_wal_mode(self):
        self.adopt_one(wal=True)

    def test_passphrase_with_another_page_size(self):
        self.adopt_one(pragmas=["cipher_page_size = 8192"])
        self.assertEqual(self.record("a.db")["cipher"]["page_size"], 8192)

    def test_passphrase_with_other_rounds(self):
        self.adopt_one("--rounds", "1234", pragmas=["kdf_iter = 1234"])

    def test_passphrase_that_is_not_ascii(self):
        self.adopt_one(key="pässwörd  mit Leerzeichen ", secret="pässwörd  mit Leerzeichen ")

    @unittest.skipUnless(LINKED.major >= 4, "the linked SQLCipher is not 4")
    def test_passphrase_of_sqlcipher_3_under_4(self):
        self.adopt_one(pragmas=["cipher_compatibility = 3"])
        self.assertEqual(self.record("a.db")["cipher"]["compatibility"], 3)

    @unittest.skipIf(LINKED.major >= 4, "the linked SQLCipher is not 3")
    def test_passphrase_of_sqlcipher_2(self):
        self.adopt_one(pragmas=["kdf_iter = 4000"])

    def test_raw_key_in_each_form(self):
        for n, (form, arguments) in enumerate((("{}", ["--raw"]), ("x'{}'", ["--raw"]), ("x'{}'", []), ("x'{}{}'", ["--raw"]))):
            with self.subTest(form=form, arguments=arguments):
                name = f"raw{n}.db"
                content = self.make(name, f"x'{RAW}'")
                self.adopt(name, *arguments, secret=form.format(RAW, read(self.path(name))[:16].hex()))
                self.assert_adopted(name, content, f"x'{RAW}'")

    def test_side_file_in_each_form(self):
        forms = [(SALT, 100000, []), (SALT.hex().encode(), 100000, []), (SALT.hex().upper().encode() + b"\n", 600000, []),
                 (base64.b64encode(SALT) + b"\n", 777, ["--rounds", "777"]),
                 (json.dumps({"salt": base64.b64encode(SALT).decode(), "iterations": 4096, "kdf": "pbkdf2-sha256"}).encode(), 4096, []),
                 (json.dumps({"salt": SALT.hex()}).encode(), 100000, [])]
        for n, (data, rounds, arguments) in enumerate(forms):
            with self.subTest(data=data):
                name, key = f"side{n}.db", sidefile_key(rounds)
                content = self.make(name, key)
                with open(self.path("salt"), "wb") as file:
                    file.write(data)
                self.adopt(name, "--side-file", self.path("salt"), *arguments)
                self.assert_adopted(name, content, key)

    def test_hot_journal_is_rolled_back_first(self):
        self.make("a.db", rows=300)
        content = hot_journal(LINKED, self.path("a.db"), PASSPHRASE)
        self.assertTrue(os.path.exists(self.path("a.db-journal")))
        self.adopt("a.db")
        self.assert_adopted("a.db", content, PASSPHRASE)
        self.assertFalse(os.path.exists(self.path("a.db-journal")))

    def test_wal_that_a_crash_left_is_kept(self):
        self.make("b.db")
        with LINKED.open(self.path("b.db"), PASSPHRASE) as db:
            db.run("PRAGMA journal_mode = WAL;\nINSERT INTO log VALUES('now', 'only in the log')")
            content = db.content()
            for suffix in ("", "-wal"):
                with open(self.path("a.db" + suffix), "wb") as file:
                    file.write(read(self.path("b.db" + suffix)))
        self.adopt("a.db")
        self.assert_adopted("a.db", content, PASSPHRASE)

    @unittest.skipUnless(OTHER, "neither LKM_SQLCIPHER3 nor LKM_SQLCIPHER4 is set")
    def test_both_versions(self):
        name, folder = next(iter(OTHER.items()))
        other = Library(folder)
        with other.open(self.path("a.db"), PASSPHRASE) as db:
            fill(db, other.sqlite)
            content = db.content()
        if name == "LKM_SQLCIPHER3":
            self.adopt("a.db")
            self.assert_adopted("a.db", content, PASSPHRASE, ["cipher_compatibility = 3"])
            self.make("b.db")
            before = self.files()
            self.assertIn("SQLCipher", self.adopt("b.db", status=5, env={**os.environ, "LD_LIBRARY_PATH": folder}))
            self.assertEqual(self.files(), before)
            return
        before = self.files()
        self.assertIn("SQLCipher", self.adopt("a.db", status=5))
        self.assertEqual(self.files(), before)


class Refusals(AdoptCase):
    def assert_refused(self, *arguments, status=5, says=".", **options):
        before = self.files()
        said = self.adopt("a.db", *arguments, status=status, **options)
        self.assertRegex(said, says)
        self.assertEqual(self.files(), before)
        return said

    def test_wrong_passphrase_changes_nothing(self):
        self.make("a.db")
        self.assert_refused(secret="wrong", says="does not open")
        self.assert_refused("--rounds", "100", says="does not open")
        self.assert_refused("--compatibility", "4" if LINKED.major < 4 else "3", says="does not open")
        self.assert_refused("--page-size", "16384", says="does not open")
        self.assert_refused("--raw", secret=RAW, says="does not open")
        self.assert_refused("--raw", secret="no raw key", says="64 hex digits")
        self.assert_refused("--raw", secret=f"x'{RAW}{'00' * 16}'", says="another database")
        self.write("salt", SALT.decode())
        self.assert_refused("--side-file", self.path("salt"), says="does not open")
        self.adopt("a.db")

    def test_wrong_passphrase_leaves_journals_and_logs_alone(self):
        self.make("a.db", rows=300)
        content = hot_journal(LINKED, self.path("a.db"), PASSPHRASE)
        self.assert_refused(secret="wrong", says="-journal")
        self.adopt("a.db")
        self.assert_adopted("a.db", content, PASSPHRASE)

    def test_what_is_no_database(self):
        self.assert_refused(says="no such database")
        self.write("a.db", "")
        self.assert_refused(says="empty")
        os.unlink(self.path("a.db"))
        os.mkdir(self.path("a.db"))
        self.adopt("a.db", status=5)
        os.rmdir(self.path("a.db"))
        with open(self.path("a.db"), "wb") as file:
            file.write(bytes(range(256)) * 64)
        self.assert_refused(says="does not open")

    def test_damaged_page(self):
        self.make("a.db")
        with open(self.path("a.db"), "r+b") as file:
            file.seek(-100, os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        self.assert_refused(says=r"does not fit 1 of the \d+ pages")

    def test_policy_and_daemon(self):
        self.make("a.db")
        before = self.files()
        for arguments, status in ((["--scope", "closed"], 3), (["--scope", "nowhere"], 2), ([], 2)):
            self.ctl("adopt", "--passphrase-file", self.secret(PASSPHRASE), *arguments, self.path("a.db"), status=status)
        self.finish(self.kms)
        self.adopt("a.db", status=6)
        self.finish(self.lkmd)
        self.adopt("a.db", status=4)
        self.assertEqual(self.files(), before)

    def test_others_who_have_it_open_are_named(self):
        self.make("a.db")
        with LINKED.open(self.path("a.db"), PASSPHRASE) as db:
            db.run("BEGIN IMMEDIATE")
            before = self.files()
            said = self.adopt("a.db", "--timeout", "0.1", status=1)
            self.assertIn(str(os.getpid()), said)
            self.assertEqual(self.files(), before)
        self.adopt("a.db")

    def test_key_of_another_database_lies_there(self):
        self.make("a.db")
        self.make("b.db")
        self.adopt("b.db")
        os.rename(self.path("b.db.key"), self.path("a.db.key"))
        self.assert_refused(says="is there already")

    def test_options_that_exclude_each_other(self):
        self.make("a.db")
        for arguments in (["--raw", "--rounds", "5"], ["--raw", "--side-file", "x"], ["--page-size", "1000"], ["--page-size", "x"], ["--rounds", "0"],
                          ["--compatibility", "5"], ["--passphrase-fd", "0"], ["--to", self.path("new")]):
            self.assert_refused(*arguments, status=2)
        self.ctl("adopt", "--passphrase-fd", "-1", self.path("a.db"), status=2)
        self.ctl("adopt", status=2)
        self.ctl("adopt", "a", "b", status=2)
        self.assertIn("cannot open", self.ctl("adopt", "--passphrase-file", self.path("nowhere"), self.path("a.db"), status=1))
        self.assertIn("holds no salt", self.ctl("adopt", "--side-file", self.write("salt", "x"), self.path("a.db"), status=1))

    def test_passphrase_file_that_others_may_read(self):
        self.make("a.db")
        path = self.secret(PASSPHRASE, "open")
        os.chmod(path, 0o640)
        self.assertIn("chmod 600", self.ctl("adopt", "--scope", "medical", "--passphrase-file", path, self.path("a.db"), status=1))
        self.assertFalse(os.path.exists(self.path("a.db.key")))


class Twice(AdoptCase):
    def test_adopted_database_stays_as_it_is(self):
        self.make("a.db")
        self.adopt("a.db")
        before = self.files()
        self.assertIn("adopted already", self.ctl("adopt", self.path("a.db")))
        self.assertEqual(json.loads(self.ctl("--json", "adopt", self.path("a.db")))["result"], "nothing")
        self.assertEqual(self.files(), before)

    def test_adoption_ends_after_its_record_was_written(self):
        content = self.make("a.db")
        self.hold_back_rotation("a.db")
        self.assertEqual(self.record("a.db")["version"], 1)
        self.assertEqual(self.key_of("a.db"), f"x'{page_key(self.path('a.db')).hex()}'")
        self.assertRegex(self.ctl("adopt", self.path("a.db")), "adopted: key 2")
        self.assert_adopted("a.db", content, PASSPHRASE)

    def hold_back_rotation(self, name):
        """The record is written, and the rotation refused: the policy lets this user do the one and not the other."""
        text = self.read(self.config)
        self.write("lkmd.conf", text.replace("allow_history", "allow_rotate = uid:4242\nallow_history"))
        self.restart()
        self.assertIn("goes on from here", self.adopt(name, status=3))
        self.write("lkmd.conf", text)
        self.restart()

    def restart(self):
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")

    def test_programs_are_told_in_json(self):
        self.make("a.db")
        lines = [json.loads(line) for line in self.adopt("a.db", "--json").splitlines()]
        self.assertEqual((lines[-1]["result"], lines[-1]["version"], lines[-1]["scope"]), ("adopted", 2, "medical"))
        self.assertEqual(lines[-1]["database_id"], self.record("a.db")["database_id"])


class Users(AdoptCase):
    def as_nobody(self, *arguments, status=0, **options):
        return self.ctl(*arguments, status=status, user=nobody().pw_uid, group=nobody().pw_gid, extra_groups=[], **options)

    def setUp(self):
        super().setUp()
        if os.getuid() != 0:
            self.skipTest("only root can be several users")
        os.mkdir(self.path("home"), 0o700)
        os.chown(self.path("home"), nobody().pw_uid, nobody().pw_gid)
        os.chmod(self.socket, 0o666)

    def make_of_nobody(self):
        content = self.make("home/a.db")
        os.chown(self.path("home/a.db"), nobody().pw_uid, nobody().pw_gid)
        return content

    def test_root_becomes_the_owner(self):
        content = self.make_of_nobody()
        # Root alone can read the passphrase.
        self.adopt("home/a.db")
        self.assertEqual(os.stat(self.path("home/a.db.key")).st_uid, nobody().pw_uid)
        self.assertEqual(os.stat(self.path("home/a.db")).st_uid, nobody().pw_uid)
        self.assertIn(f'"uid":{nobody().pw_uid}', self.read(self.path("audit.jsonl")).replace(" ", ""))
        os.chmod(self.path("home"), 0o755)
        self.assertIn("adopted already", self.as_nobody("adopt", self.path("home/a.db")))
        with LINKED.open(self.path("home/a.db"), self.as_nobody("get", "--format", "pragma", self.path("home/a.db")).strip()) as db:
            self.assertEqual(db.content(), content)

    def test_another_user_adopts_what_is_its_own(self):
        self.make_of_nobody()
        secret = self.secret(PASSPHRASE, "home/secret")
        os.chown(secret, nobody().pw_uid, nobody().pw_gid)
        self.as_nobody("adopt", "--scope", "medical", "--passphrase-file", secret, self.path("home/a.db"))
        self.make("b.db")
        os.chmod(self.path("b.db"), 0o666)
        before = self.files()
        self.assertIn("belongs to another user", self.as_nobody("adopt", "--scope", "medical", "--passphrase-file", secret, self.path("b.db"), status=1))
        self.assertEqual(self.files(), before)


class Passphrases(AdoptCase):
    def test_descriptor(self):
        content = self.make("a.db")
        reader, writer = os.pipe()
        os.write(writer, PASSPHRASE.encode())
        os.close(writer)
        self.ctl("adopt", "--scope", "medical", "--passphrase-fd", str(reader), self.path("a.db"), pass_fds=[reader])
        os.close(reader)
        self.assert_adopted("a.db", content, PASSPHRASE)

    def test_standard_input(self):
        content = self.make("a.db")
        self.ctl("adopt", "--scope", "medical", "--passphrase-fd", "0", self.path("a.db"), input=PASSPHRASE + "\n")
        self.assert_adopted("a.db", content, PASSPHRASE)

    def test_without_a_terminal_the_options_are_named(self):
        self.make("a.db")
        self.assertIn("--passphrase-file", self.ctl("adopt", "--scope", "medical", self.path("a.db"), status=1, start_new_session=True, stdin=subprocess.DEVNULL))

    def on_terminal(self, name="a.db"):
        """lkmctl on a terminal of its own, which has asked. The terminal, the process, what was asked."""
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        self.addCleanup(os.close, follower)
        self.assertTrue(self.echoes(follower))
        process = self.start(self.command("adopt", "--scope", "medical", self.path(name)), stdin=follower, stdout=follower, stderr=follower,
                             start_new_session=True, preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)))
        return leader, follower, process, self.read_until(leader, b": ")

    @staticmethod
    def read_until(leader, end):
        seen = b""
        while end not in seen:
            seen += os.read(leader, 4096)
        return seen

    @staticmethod
    def echoes(follower):
        return bool(termios.tcgetattr(follower)[3] & termios.ECHO)

    def test_terminal_shows_no_passphrase(self):
        content = self.make("a.db")
        leader, follower, process, asked = self.on_terminal()
        self.assertIn(b"Passphrase of", asked)
        self.assertFalse(self.echoes(follower))
        os.write(leader, PASSPHRASE.encode() + b"\n")
        seen = self.read_until(leader, b"admits")
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertNotIn(PASSPHRASE.encode(), asked + seen)
        self.assertTrue(self.echoes(follower))
        self.assert_adopted("a.db", content, PASSPHRASE)

    def test_terminal_echoes_again_after_a_signal(self):
        self.make("a.db")
        before = self.files()
        for end in (b"\x03", b"\x1c", signal.SIGTERM, signal.SIGHUP):
            leader, follower, process, _ = self.on_terminal()
            self.assertFalse(self.echoes(follower))
            os.write(leader, b"half a passp")
            if isinstance(end, bytes):
                os.write(leader, end)
            else:
                os.killpg(process.pid, end)
            self.assertNotEqual(process.wait(TIMEOUT), 0)
            self.assertTrue(self.echoes(follower), end)
            self.assertFalse(os.path.exists(self.path("a.db.key")))
        self.assertEqual(self.files(), before)

    def test_terminal_echoes_while_it_is_stopped(self):
        self.make("a.db")
        leader, follower, process, _ = self.on_terminal()
        os.write(leader, b"\x1a")
        # A session's leader is in an orphaned process group, where the kernel does not stop anybody: it asks again at once.
        self.read_until(leader, b": ")
        self.assertFalse(self.echoes(follower))
        os.write(leader, PASSPHRASE.encode() + b"\n")
        self.read_until(leader, b"admits")
        self.assertEqual(process.wait(TIMEOUT), 0)

    @unittest.skipIf(os.environ.get("LKM_TEST_WRAPPER"), "the wrapper's memory is not lkmctl's")
    @unittest.skipIf(os.environ.get("LKM_SANITIZED"), "a sanitizer keeps what was freed")
    @unittest.skipUnless(os.getuid() == 0, "root alone reads the memory of a process that is not dumpable")
    def test_neither_passphrase_nor_key_is_left_anywhere(self):
        self.make("a.db")
        key = page_key(self.path("a.db"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("fake.sock"))
            listener.listen()
            process = self.start([LKMCTL, "--socket", self.path("fake.sock"), "adopt", "--passphrase-file", self.secret(PASSPHRASE), self.path("a.db")],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with listener.accept()[0] as connection:
                # It waits for the answer to IMPORT: the passphrase was read, the key found and sent.
                self.assertEqual(self.take(connection, support.WELCOME, [(1, u16(1)), (2, b"import"), (4, u32(73728)), (5, u32(128))]), support.HELLO)
                number, request = self.receive(connection)
                self.assertEqual(number, IMPORT)
                self.assertIn(key, request)
                pid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                for name in ("cmdline", "environ"):
                    for wanted in (PASSPHRASE.encode(), key, key.hex().encode()):
                        self.assertNotIn(wanted, read(f"/proc/{pid}/{name}"))
                arena = memscan.locked(pid)
                for wanted in (memscan.forms(key), memscan.text_forms(PASSPHRASE.encode())):
                    self.assertEqual([hit for hit in memscan.scan_for(pid, wanted) if hit[1].split()[0] not in arena], [])
            out, error = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 4, error)
        for text in (out + error, self.adopt("a.db").encode(), read(self.path("audit.jsonl")), read(self.path("a.db.key"))):
            for wanted in (PASSPHRASE.encode(), key, key.hex().encode(), base64.b64encode(key)):
                self.assertNotIn(wanted, text)

    @staticmethod
    def receive(connection):
        """The number of the next request, and its bytes; not one more is taken."""
        data = connection.recv(4, socket.MSG_WAITALL)
        data += connection.recv(struct.unpack(">I", data)[0], socket.MSG_WAITALL)
        return struct.unpack_from(">H", data, 4)[0], data

    def take(self, connection, number, fields):
        """The number of a request, which is answered."""
        asked, data = self.receive(connection)
        connection.sendall(frame(number, struct.unpack_from(">I", data, 8)[0], fields))
        return asked


class Plaintext(AdoptCase):
    """A database that was never encrypted: a.db becomes new."""

    def export(self, *arguments, status=0, **options):
        return self.ctl("adopt", "--scope", "medical", self.path("a.db"), "--to", self.path("new"), *arguments, status=status, **options)

    def assert_exported(self, content, pragmas=()):
        with LINKED.open(self.path("new"), self.key_of("new"), pragmas) as db:
            self.assertEqual(db.content(), content)
            self.assertEqual(db.value("PRAGMA integrity_check"), "ok")
        self.assertFalse(LINKED.opens(self.path("new")))
        self.assertFalse([name for name in os.listdir(self.directory) if name.startswith(".new")])

    def test_everything_is_carried_over(self):
        content = self.make("a.db", None)
        before = self.files()
        said = self.export()
        self.assertRegex(said, r"(?m)^patient +\d+$")
        self.assertIn("in clear", said)
        self.assert_exported(content)
        self.assertEqual({name: self.files()[name] for name in before}, before)
        self.assertEqual(self.record("new")["cipher"], {"library": "sqlcipher", "compatibility": min(LINKED.major, 4), "page_size": FORMATS[min(LINKED.major, 4)][2]})
        self.assertNotIn(b"patient 00", read(self.path("new")))

    def test_programs_are_told_of_each_table(self):
        content = self.make("a.db", None)
        line = json.loads(self.export("--json"))
        self.assertEqual((line["result"], line["to"], line["version"]), ("adopted", self.path("new"), 1))
        self.assertEqual(line["tables"]["patient"], len(content[1]["patient"]))

    def test_wal_mode_is_carried_over(self):
        content = self.make("a.db", None, wal=True)
        self.export()
        self.assert_exported(content)
        with LINKED.open(self.path("new"), self.key_of("new")) as db:
            self.assertEqual(db.value("PRAGMA journal_mode"), "wal")

    def test_journals_and_logs_that_a_crash_left_count(self):
        self.make("a.db", None, rows=300)
        content = hot_journal(LINKED, self.path("a.db"))
        self.export()
        self.assert_exported(content)
        for name in ("new", "new.key", "a.db"):
            os.unlink(self.path(name))
        self.make("b.db", None)
        with LINKED.open(self.path("b.db")) as db:
            db.run("PRAGMA journal_mode = WAL;\nINSERT INTO log VALUES('now', 'only in the log')")
            content = db.content()
            for suffix in ("", "-wal"):
                with open(self.path("a.db" + suffix), "wb") as file:
                    file.write(read(self.path("b.db" + suffix)))
        self.export()
        self.assert_exported(content)

    def test_page_size_that_was_asked_for(self):
        content = self.make("a.db", None)
        self.export("--page-size", "16384")
        self.assert_exported(content, ["cipher_page_size = 16384"])
        self.assertEqual(self.record("new")["cipher"]["page_size"], 16384)

    def test_without_a_name_for_the_new_one(self):
        self.make("a.db", None)
        self.assertIn("--to NEW", self.ctl("adopt", "--scope", "medical", self.path("a.db"), status=5))
        self.assertFalse(os.path.exists(self.path("a.db.key")))

    def test_nothing_is_overwritten(self):
        self.make("a.db", None)
        self.write("new", "mine")
        before = self.files()
        self.assertIn("is there already", self.export(status=5))
        self.assertEqual(self.files(), before)
        os.unlink(self.path("new"))
        self.export()
        # The same again is the end of a call that was interrupted; other rows are another database.
        self.export()
        with LINKED.open(self.path("a.db")) as db:
            db.run("INSERT INTO log VALUES('later', 'in the original')")
        before = self.files()
        self.assertIn("no copy of", self.export(status=5))
        self.assertEqual(self.files(), before)

    def test_format_that_cannot_be_written(self):
        self.make("a.db", None)
        if LINKED.major >= 4:
            self.skipTest("it writes both formats")
        before = self.files()
        self.assertIn("SQLCipher 3", self.export("--compatibility", "4", status=5))
        self.assertEqual(self.files(), before)
        self.assertFalse(os.path.exists(self.path("new.key")))

    def test_record_without_a_database_is_used(self):
        content = self.make("a.db", None)
        self.ctl("create", "--scope", "medical", self.path("new"))
        before = read(self.path("new.key"))
        self.export()
        self.assertEqual(read(self.path("new.key")), before)
        self.assert_exported(content)


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that kills must be the first one, and so must a sanitizer's")
@unittest.skipIf(os.environ.get("LKM_TEST_WRAPPER"), "the kills count calls, not memory errors")
class Kill(AdoptCase):
    """kill -9 of lkmctl and lkm-rekey at any of the calls that others can see, then the same command again."""
    KILLS = 60

    def killed(self, moment, *arguments, **options):
        done = subprocess.run(self.command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT,
                              env={**os.environ, "LD_PRELOAD": os.path.join(BUILD, "tests/integration/libkill-at.so"), "KILL_AT": str(moment)}, **options)
        return done.returncode != 0

    def in_a_loop(self, step, one):
        """@one for moments that lie @step apart and cover all of it, the distance grown so that there are no more than KILLS."""
        moments, chance = range(0, 100000, step), random.Random(5)
        last, n = 0, 0
        for moment in moments:
            if not one(moment + chance.randrange(step)):
                break
            last, n = moment, n + 1
        while n < self.KILLS:
            n += one(chance.randrange(last + 1))
        self.assertGreater(last, 4 * step)

    def test_adoption_in_place(self):
        self.make("from.db", rows=12)
        secret = self.secret(PASSPHRASE)
        with LINKED.open(self.path("from.db"), PASSPHRASE) as db:
            content = db.content()

        def one(moment):
            for name in os.listdir(self.directory):
                if name.startswith("a.db"):
                    os.unlink(self.path(name))
            with open(self.path("a.db"), "wb") as file:
                file.write(read(self.path("from.db")))
            was_killed = self.killed(moment, "adopt", "--scope", "medical", "--passphrase-file", secret, self.path("a.db"))
            # At this moment, too, one key opens it: the passphrase as long as there is no .key.
            if not os.path.exists(self.path("a.db.key")):
                self.assertEqual(read(self.path("a.db")), read(self.path("from.db")))
            self.adopt("a.db")
            version = self.record("a.db")["version"]
            self.assertGreaterEqual(version, 2)
            self.assert_adopted("a.db", content, PASSPHRASE, version=version)
            return was_killed
        self.in_a_loop(7, one)

    def test_export_of_plaintext(self):
        content = self.make("a.db", None, rows=12)
        before = read(self.path("a.db"))

        def one(moment):
            for name in os.listdir(self.directory):
                if name.startswith(("new", ".new")):
                    os.unlink(self.path(name))
            arguments = ("adopt", "--scope", "medical", self.path("a.db"), "--to", self.path("new"))
            was_killed = self.killed(moment, *arguments)
            self.ctl(*arguments)
            with LINKED.open(self.path("new"), self.key_of("new")) as db:
                self.assertEqual(db.content(), content)
            self.assertEqual(read(self.path("a.db")), before)
            return was_killed
        self.in_a_loop(11, one)


if __name__ == "__main__":
    unittest.main()
