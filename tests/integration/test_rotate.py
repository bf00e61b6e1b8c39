# SPDX-License-Identifier: Apache-2.0
"""lkm_rotate() and lkm_recover() with real daemons and real SQLCipher databases: what changes, what is refused before anything does, and that
whatever dies on the way leaves a database that opens.

What happens to lkm-rekey is put in its way: a copy of liblkm stands in a folder of its own, beside a script of the name lkm-rekey."""
import base64
import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import unittest

import memscan
from daemons import MovedClock, nobody
from support import BUILD, GET, KEY, KMS_WRAP, KMS_WRAPPED, TIMEOUT, Client, pairs, u32, not_under_valgrind
from test_sqlcipher import CREATE, WORD, ClientCase, helper

setUpModule = not_under_valgrind

CHECK, QUIESCE, REKEY, VERIFY, COMMIT = range(1, 6)
REAL = os.path.join(BUILD, "client/lkm-rekey")
KILL_AT = os.path.join(BUILD, "tests/integration/libkill-at.so")
ROWS = 200
SANITIZED = bool(os.environ.get("LKM_SANITIZED"))


class RotateCase(ClientCase):
    def configure(self, **changes):
        """One scope for everybody, so that none has to be named."""
        super().configure(**changes)
        text = self.read(self.config)
        self.write("lkmd.conf", text[:text.index("[scope billing]")])

    def make(self, name="a.db", sql=""):
        """A database with ROWS rows, of several pages."""
        self.open(name, f"CREATE TABLE t(x); INSERT INTO t VALUES('{WORD}')", flags=CREATE)
        rows = f"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS - 1})"
        self.open(name, f"INSERT INTO t {rows} SELECT hex(randomblob(200)) FROM n; {sql}")
        return self.path(name)

    def state(self, name="a.db"):
        """Of the database and its record, byte for byte."""
        return [hashlib.sha256(self.bytes(file)).hexdigest() for file in (name, name + ".key")]

    def side_files(self, name="a.db"):
        return sorted(file for file in os.listdir(self.directory) if file.startswith((name, "." + name)))

    def rotate(self, name="a.db", *more, timeout=1, **options):
        done = subprocess.run(helper("rotate", timeout, self.path(name), *more), env=self.environment(**options.pop("environment", {})),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=TIMEOUT, **options)
        return self.answer(done.stdout)

    @staticmethod
    def answer(text):
        """The error's name and sentence; the phases before are dropped."""
        lines = text.split("\n")
        while lines[0].startswith("phase") or lines[0] == "holding":
            lines.pop(0)
        return lines[0], "\n".join(lines[1:]).strip()

    def start_rotate(self, *more, name="a.db", timeout=0, **environment):
        return self.start(helper("rotate", timeout, self.path(name), *more), env=self.environment(**environment), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True)

    def until(self, process, line):
        seen = []
        for text in process.stdout:
            seen.append(text.rstrip("\n"))
            if seen[-1] == line:
                return
        self.fail(f"no {line!r} in {seen}")

    def hold(self, phase, **environment):
        """A rotation that waits at the beginning of @phase."""
        process = self.start_rotate("hold", phase, **environment)
        self.until(process, "holding")
        return process

    def go_on(self, process):
        out, _ = process.communicate("\n", TIMEOUT)
        return self.answer(out)

    def recover(self, name="a.db"):
        done = self.helper("recover", 0, self.path(name))
        return done.stdout.split("\n")[0]

    def load(self, name="a.db", *more):
        done = self.helper("load", self.path(name), *more)
        return done.stdout.rstrip("\n") if done.returncode == 0 else self.answer(done.stdout)

    def rows(self, name="a.db"):
        """Read by one opening, that recovers where it has to; every page is read."""
        lines = self.open(name, "SELECT count(*) FROM t; PRAGMA integrity_check").split("\n")
        return lines[:2]

    def assert_whole(self, version, name="a.db"):
        """It opens, every row is there, the record has that version and nothing pending, and nothing is left over."""
        self.assertEqual(self.rows(name), [str(ROWS), "ok"])
        self.assertEqual(self.load(name), f"{version} 0")
        left = [file for file in self.side_files(name) if not file.endswith(("-wal", "-shm"))]
        self.assertEqual(left, [name, name + ".key"])

    def restart(self, daemon="lkmd"):
        setattr(self, {"lkmd": "lkmd", "lkm-kms": "kms"}[daemon], self.start_ready(daemon))

    def kill_lkmd(self):
        self.lkmd.kill()
        self.lkmd.wait()

    # ---- a script in the place of lkm-rekey ----

    def stand_in(self, script):
        """@script: shell, with REAL and the arguments. Return: the environment that makes liblkm find it."""
        folder = self.path("stand-in")
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "liblkm.so.1")):
            shutil.copy(os.path.join(BUILD, "client/liblkm.so.1"), folder)
        path = os.path.join(folder, "lkm-rekey")
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\nREAL='{REAL}'\n{script}\n")
        os.chmod(path, 0o755)
        return {"LD_LIBRARY_PATH": folder}


class Rotation(RotateCase):
    scope_options = f"allow_history = uid:{os.getuid()}"

    def test_the_key_changes_and_every_row_stays(self):
        self.make()
        self.assertEqual(self.load(), "1 0")
        before = self.bytes("a.db")
        process = self.start_rotate()
        out, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual(out, "".join(f"phase {n}\n" for n in range(1, 6)) + "OK\n\n")
        self.assert_whole(2)
        self.assertEqual(before[:16], self.bytes("a.db")[:16])
        page = 1024 if len(before) % 4096 else 4096
        same = sum(before[at:at + 64] == self.bytes("a.db")[at:at + 64] for at in range(page, len(before), page))
        self.assertEqual(same, 0, "a page is as before")

    def test_the_old_key_opens_a_backup_and_the_database_no_more(self):
        path = self.make()
        shutil.copy(path, self.path("backup.db"))
        self.assertEqual(self.rotate()[0], "OK")
        count = "SELECT count(*) FROM t"
        self.assertEqual(self.helper("load-version", path, 1, self.path("backup.db"), count).stdout, f"{ROWS}\nversion 1\n")
        self.assertEqual(self.helper("load-version", path, 2, path, count).stdout, f"{ROWS}\nversion 2\n")
        self.assertNotEqual(self.helper("load-version", path, 1, path, count).returncode, 0)
        self.assertNotEqual(self.helper("load-version", path, 2, self.path("backup.db"), count).returncode, 0)
        self.assertEqual(self.answer(self.helper("load-version", path, 3, path, count).stdout)[0], "VERSION_UNKNOWN")

    def test_a_database_rotates_again_and_again(self):
        self.make()
        for version in range(2, 8):
            self.assertEqual(self.rotate()[0], "OK")
            self.assert_whole(version)

    def test_journal_modes_are_as_before(self):
        for mode in ("delete", "truncate", "persist", "wal"):
            name = f"{mode}.db"
            self.make(name, f"PRAGMA journal_mode = {mode}; INSERT INTO t SELECT x FROM t LIMIT 0")
            # Only WAL is a property of the file.
            self.assertEqual(self.rotate(name)[0], "OK", mode)
            expected = "wal" if mode == "wal" else "delete"
            self.assertEqual(self.open(name, "PRAGMA journal_mode"), expected + "\n")
            self.assertEqual(self.rows(name), [str(ROWS), "ok"], mode)

    def test_what_a_wal_has_is_kept(self):
        self.make(sql="PRAGMA journal_mode = WAL")
        process = self.start_helper("open", 0, 0, self.path("a.db"), "PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES('late')", "hold")
        self.until(process, "holding")
        process.kill()
        process.wait()
        self.assertGreater(os.path.getsize(self.path("a.db-wal")), 0)
        self.assertEqual(self.rotate()[0], "OK")
        self.assertEqual(self.open("a.db", "SELECT count(*) FROM t WHERE x = 'late'; PRAGMA journal_mode"), "1\nwal\n")

    def test_settings_of_the_database_are_kept(self):
        settings = {"auto_vacuum": "2", "encoding": "UTF-16le", "user_version": "77", "application_id": "4711"}
        sql = "; ".join(f"PRAGMA {key} = '{value}'" for key, value in settings.items())
        self.open("a.db", f"{sql}; CREATE TABLE t(x)", flags=CREATE)
        self.assertEqual(self.rotate()[0], "OK")
        for key, value in settings.items():
            self.assertEqual(self.open("a.db", f"PRAGMA {key}"), value + "\n")

    def test_a_record_of_the_first_format_is_upgraded_first(self):
        self.make()
        record = os.path.join(self.directory, "a.db.key")
        client = self.client()
        with open(record, "rb") as file:
            key = self.get(client, file.read())
        self.put("b.db", self.bytes("a.db"))
        self.seed_record("b.db", key)
        before = self.bytes("b.db.key")
        self.assertEqual(self.rotate("b.db")[0], "OK")
        self.assertNotEqual(before, self.bytes("b.db.key"))
        self.assert_whole(2, "b.db")

    def seed_record(self, name, key):
        """A record of format 1 for @key, as earlier programs wrote it."""
        with Client(self.path("kms.sock")) as kms:
            wrapped = kms.ask(KMS_WRAP, [(1, key), (2, b"local"), (3, pairs({"purpose": "test"}))])
            self.assertEqual(wrapped.number, KMS_WRAPPED, wrapped.sentence)
        record = {"encrypted_dek": base64.b64encode(wrapped.fields[2]).decode(), "kek_id": wrapped.fields[1].decode(), "version": 1,
                  "created_at": "2024-01-15T10:30:00Z", "rotated_at": None, "encryption_context": {"purpose": "test"},
                  "dek_spec": "AES_256"}
        self.put(name + ".key", json.dumps(record).encode())

    def test_leases_of_nobody_do_not_matter(self):
        self.make()
        self.assertEqual(self.rotate(timeout=1)[0], "OK")
        self.assert_whole(2)


class Refusals(RotateCase):
    def assert_refused(self, error, words, name="a.db", **options):
        """Refused, with the error's sentence, and database and record as before."""
        before = self.state(name) if os.path.exists(self.path(name)) else None
        record = self.bytes(name + ".key")
        got, sentence = self.rotate(name, **options)
        self.assertEqual(got, error, sentence)
        self.assertRegex(sentence, words)
        self.assertRegex(sentence, r"[.)]$")
        self.assertEqual(record, self.bytes(name + ".key"))
        self.assertEqual(before, self.state(name) if os.path.exists(self.path(name)) else None)
        return sentence

    def test_no_space(self):
        self.make(sql="UPDATE t SET x = x || hex(randomblob(2000))")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))
        self.assert_refused("NO_SPACE", "nothing was changed", preexec_fn=limit)
        self.assert_whole(1)

    def test_a_reader_is_named(self):
        for mode in ("delete", "wal"):
            name = mode + ".db"
            self.make(name, f"PRAGMA journal_mode = {mode}")
            process = self.start_helper("open", 0, 0, self.path(name), "BEGIN; SELECT count(*) FROM t", "hold")
            self.until(process, "holding")
            self.assert_refused("BUSY", rf"client-helper \(pid {process.pid}\) has .*{name} open\. Let it close", name)
            process.communicate("\n", TIMEOUT)
            self.assertEqual(self.rotate(name)[0], "OK")
            self.assert_whole(2, name)

    def test_who_only_has_it_open_is_named(self):
        self.make()
        process = self.start_helper("open", 0, 0, self.path("a.db"), "SELECT 1", "hold")
        self.until(process, "holding")
        self.assert_refused("BUSY", rf"client-helper \(pid {process.pid}\) has ")

    def test_all_who_have_it_open_are_named(self):
        self.make()
        processes = [self.start_helper("open", 0, 0, self.path("a.db"), "SELECT 1", "hold") for _ in range(5)]
        for process in processes:
            self.until(process, "holding")
        sentence = self.assert_refused("BUSY", "and 2 more have .* open. Let them close")
        self.assertEqual(sum(f"(pid {process.pid})" in sentence for process in processes), 3, sentence)

    def test_one_who_closes_in_time_does_not_matter(self):
        self.make()
        process = self.start_helper("open", 0, 0, self.path("a.db"), "BEGIN; SELECT 1 FROM t", "hold")
        self.until(process, "holding")
        rotation = self.start_rotate(timeout=60000)
        self.until(rotation, "phase 2")
        process.communicate("\n", TIMEOUT)
        self.assertEqual(self.answer(rotation.communicate(timeout=TIMEOUT)[0])[0], "OK")
        self.assert_whole(2)

    def test_this_program_itself_is_told(self):
        self.make()
        done = self.helper("rotate-own", self.path("a.db"))
        lines = done.stdout.split("\n")
        self.assertEqual(lines[0], "BUSY", done.stdout)
        self.assertRegex(lines[1], r"this program itself \(pid \d+\) has .*a\.db open")
        self.assertEqual(lines[2], "OK")
        self.assertEqual(self.load(), "2 0")

    @unittest.skipIf(os.getuid() != 0, "root writes everywhere, so somebody else has to try")
    def test_a_read_only_folder(self):
        self.make()
        for name in ("a.db", "a.db.key"):
            os.chown(self.path(name), nobody().pw_uid, nobody().pw_gid)
        self.configure(uid=f"{os.getuid()} uid:{nobody().pw_uid}")
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        self.assert_refused("IO", f"cannot write {self.directory}: Permission denied", user=nobody().pw_uid, group=nobody().pw_gid)

    def test_a_wrong_key(self):
        self.make()
        self.make("b.db")
        shutil.copy(self.path("b.db.key"), self.path("a.db.key"))
        self.assert_refused("WRONG_KEY", "a.db")

    def test_plaintext(self):
        self.make_key("a.db")
        with sqlite3.connect(self.path("a.db")) as db:
            db.execute("CREATE TABLE t(x)")
        self.assert_refused("PLAINTEXT", "not encrypted")

    def test_a_database_that_is_missing(self):
        self.make_key("a.db")
        self.assert_refused("NOT_FOUND", "only its .key")

    def test_a_record_that_is_missing(self):
        self.assertEqual(self.rotate()[0], "NOT_FOUND")
        self.make()
        os.rename(self.path("a.db.key"), self.path("kept"))
        before = self.bytes("a.db")
        error, sentence = self.rotate()
        self.assertEqual(error, "KEY_MISSING", sentence)
        self.assertEqual(before, self.bytes("a.db"))
        self.assertNotIn("a.db.key", os.listdir(self.directory))

    def test_a_damaged_record(self):
        self.make()
        record = self.bytes("a.db.key")
        self.put("a.db.key", record.replace(b'"sqlcipher"', b'"sqlciphes"', 1))
        self.assert_refused("RECORD_DAMAGED", ".")

    def test_the_kms_is_away(self):
        self.make()
        self.finish(self.kms)
        self.assert_refused("KEK_UNAVAILABLE", ".")
        self.restart("lkm-kms")
        self.assertEqual(self.rotate()[0], "OK")

    def test_no_daemon(self):
        self.make()
        self.finish(self.lkmd)
        self.assert_refused("NO_DAEMON", "lkmd")

    def test_no_lkm_rekey(self):
        self.make()
        environment = self.stand_in("")
        os.unlink(self.path("stand-in/lkm-rekey"))
        self.assert_refused("IO", "lkm-rekey is neither beside liblkm nor in /", environment=environment)

    def test_another_rotation_at_work(self):
        self.make()
        first = self.hold(QUIESCE)
        error, sentence = self.rotate()
        self.assertEqual(error, "ROTATION_IN_PROGRESS", sentence)
        self.assertEqual(self.go_on(first)[0], "OK")
        self.assert_whole(2)

    def test_two_at_once_end_one_after_the_other(self):
        self.make()
        rotators = [self.start_rotate(timeout=60000) for _ in range(4)]
        answers = [self.answer(process.communicate(timeout=TIMEOUT)[0])[0] for process in rotators]
        self.assertEqual(answers, ["OK"] * 4)
        self.assert_whole(5)


class Rights(RotateCase):
    scope_options = f"allow_rotate = uid:{os.getuid() + 1}"

    def test_without_the_right_to_rotate_nothing_changes(self):
        self.make()
        before = self.state()
        error, sentence = self.rotate()
        self.assertEqual(error, "DENIED", sentence)
        self.assertEqual(before, self.state())
        self.assert_whole(1)

    def test_without_the_right_an_interrupted_rotation_is_left_to_its_owner(self):
        self.make()
        config = self.read(self.config)
        self.write("lkmd.conf", config.replace(self.scope_options, ""))
        self.finish(self.lkmd)
        self.restart()
        process = self.hold(REKEY)
        process.kill()
        process.wait()
        self.finish(self.lkmd)
        self.write("lkmd.conf", config)
        self.restart()
        before = self.state()
        error, sentence = self.load()
        self.assertEqual(error, "ROTATION_IN_PROGRESS", sentence)
        self.assertRegex(sentence, rf"Let user {os.getuid()}, to whom it belongs, run `lkmctl recover .*a.db`; `allow_rotate` of the scope medical")
        self.assertEqual(self.refused("a.db"), "ROTATION_IN_PROGRESS")
        self.assertEqual(before, self.state())


@unittest.skipIf(os.getuid() != 0, "becomes another user")
class AnotherOwner(RotateCase):
    def setUp(self):
        super().setUp()
        who = nobody()
        self.who = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        self.configure(uid=f"{os.getuid()} uid:{who.pw_uid}")
        for daemon in (self.lkmd, self.kms):
            self.finish(daemon)
        self.restart("lkm-kms")
        self.restart()
        os.makedirs(self.path("home"))
        self.make("home/a.db")
        for name in ("home", "home/a.db", "home/a.db.key"):
            os.chown(self.path(name), who.pw_uid, who.pw_gid)
        os.chmod(self.path("lkm.sock"), 0o666)

    def owners(self):
        return {os.stat(self.path(name)).st_uid for name in ("home/a.db", "home/a.db.key")}

    def test_the_owner_rotates_and_recovers(self):
        self.assertEqual(self.rotate("home/a.db", **self.who)[0], "OK")
        self.assertEqual(self.owners(), {nobody().pw_uid})
        process = self.start(helper("rotate", 0, self.path("home/a.db"), "hold", str(VERIFY)), env=self.environment(), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, **self.who)
        self.until(process, "holding")
        process.kill()
        process.wait()
        done = subprocess.run(helper("recover", 0, self.path("home/a.db")), env=self.environment(), stdout=subprocess.PIPE, text=True,
                              timeout=TIMEOUT, **self.who)
        self.assertEqual(done.stdout, "FINISHED\n")
        self.assertEqual(self.owners(), {nobody().pw_uid})
        self.assertEqual(self.rows("home/a.db"), [str(ROWS), "ok"])

    def test_who_may_read_but_not_write_is_told_who_ends_it(self):
        process = self.start_rotate("hold", REKEY, name="home/a.db")
        self.until(process, "holding")
        process.kill()
        process.wait()
        os.chown(self.path("home"), 0, 0)
        done = subprocess.run(helper("load", self.path("home/a.db")), env=self.environment(), stdout=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              **self.who)
        error, sentence = self.answer(done.stdout)
        self.assertEqual(error, "ROTATION_IN_PROGRESS", sentence)
        self.assertRegex(sentence, "cannot write .*home: Permission denied.*lkmctl recover")

    def test_who_may_write_but_does_not_own_the_record_is_refused_early(self):
        os.chmod(self.path("home"), 0o777)
        os.chmod(self.path("home/a.db"), 0o666)
        os.chmod(self.path("home/a.db.key"), 0o644)
        os.chown(self.path("home/a.db.key"), 0, 0)
        before = self.state("home/a.db")
        error, sentence = self.rotate("home/a.db", **self.who)
        self.assertEqual(error, "IO", sentence)
        self.assertRegex(sentence, "a.db.key belongs to user 0, who alone")
        self.assertEqual(before, self.state("home/a.db"))


class Cancelling(RotateCase):
    def test_before_the_database_is_changed_everything_is_as_before(self):
        self.make()
        for phase in (CHECK, QUIESCE):
            before = self.state()
            error, sentence = self.rotate("a.db", "cancel", phase)
            self.assertEqual(error, "CANCELLED", sentence)
            self.assertEqual(before, self.state())
        self.assert_whole(1)

    def test_while_it_is_changed_the_old_key_stays(self):
        self.make()
        self.assertEqual(self.rotate("a.db", "cancel", REKEY)[0], "CANCELLED")
        self.assert_whole(1)
        self.assertEqual(self.rotate()[0], "OK")
        self.assertEqual(self.load().split()[1], "0")

    def test_in_the_middle_of_a_large_database(self):
        self.make(sql="INSERT INTO t SELECT hex(randomblob(100000)) FROM t LIMIT 100; DELETE FROM t WHERE length(x) > 10000")
        for _ in range(3):
            error, _ = self.rotate("a.db", "half", REKEY)
            self.assertIn(error, ("CANCELLED", "OK"))
            self.assertEqual(self.rows(), [str(ROWS), "ok"])

    def test_after_it_was_changed_it_is_too_late(self):
        self.make()
        for version, phase in ((2, VERIFY), (3, COMMIT)):
            self.assertEqual(self.rotate("a.db", "cancel", phase)[0], "OK")
            self.assert_whole(version)

    def test_when_lkm_rekey_had_ended_its_work_it_is_too_late(self):
        self.make()
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        # It has done its work, and says so only when it is asked to; nobody asks.
        environment = self.stand_in(f'case $1 in rekey) "$REAL" "$@" > "{fifo}.out"; echo progress 1 1; exec cat "{fifo}";; *) exec "$REAL" "$@";; esac')
        self.assertEqual(self.rotate("a.db", "half", REKEY, environment=environment)[0], "OK")
        self.assert_whole(2)


class Slowness(RotateCase):
    def test_progress_is_told_while_the_kms_takes_its_time(self):
        self.make()
        self.kms.send_signal(signal.SIGSTOP)
        self.addCleanup(self.kms.send_signal, signal.SIGCONT)
        process = self.start_rotate("tick", QUIESCE)
        self.until(process, "phase 2")
        for _ in range(6):
            self.until(process, "tick")
        self.kms.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=TIMEOUT)
        self.assertTrue(out.endswith("phase 3\nphase 4\nphase 5\nOK\n\n"), out)
        self.assert_whole(2)

    def test_a_cancellation_meanwhile_is_kept(self):
        self.make()
        self.kms.send_signal(signal.SIGSTOP)
        self.addCleanup(self.kms.send_signal, signal.SIGCONT)
        process = self.start_rotate("late", QUIESCE)
        self.until(process, "cancelled")
        self.kms.send_signal(signal.SIGCONT)
        self.assertEqual(self.answer(process.communicate(timeout=TIMEOUT)[0])[0], "CANCELLED")
        self.assert_whole(1)


class Deaths(RotateCase):
    def test_the_daemon_dies_at_each_step(self):
        for phase, version, error in ((CHECK, 1, "NO_DAEMON"), (QUIESCE, 1, "NO_DAEMON"), (REKEY, 2, "NO_DAEMON"), (VERIFY, 2, "NO_DAEMON"),
                                      (COMMIT, 2, "NO_DAEMON")):
            with self.subTest(phase=phase):
                name = f"at-{phase}.db"
                self.make(name)
                process = self.start_rotate("hold", phase, name=name)
                self.until(process, "holding")
                self.kill_lkmd()
                got, sentence = self.go_on(process)
                self.assertEqual(got, error, sentence)
                if phase >= REKEY:
                    self.assertRegex(sentence, "its new key, and its .key knows both")
                self.restart()
                self.assert_whole(version, name)

    def test_the_daemon_is_restarted_at_each_step(self):
        for phase in (QUIESCE, REKEY, VERIFY, COMMIT):
            with self.subTest(phase=phase):
                name = f"at-{phase}.db"
                self.make(name)
                process = self.start_rotate("hold", phase, name=name)
                self.until(process, "holding")
                self.kill_lkmd()
                self.restart()
                self.assertEqual(self.go_on(process)[0], "OK")
                self.assert_whole(2, name)

    def test_the_kms_dies_while_the_database_is_changed(self):
        self.make()
        process = self.hold(REKEY)
        self.finish(self.kms)
        self.kill_lkmd()
        self.restart()
        error, sentence = self.go_on(process)
        self.assertEqual(error, "KEK_UNAVAILABLE", sentence)
        self.restart("lkm-kms")
        self.assert_whole(2)

    def interrupt(self, phase, name="a.db"):
        process = self.start_rotate("hold", phase, name=name)
        self.until(process, "holding")
        process.kill()
        process.wait()

    def test_an_interrupted_rotation_is_ended_by_each_way_in(self):
        ways = {
            "load": lambda name: self.load(name),
            "open": lambda name: self.rows(name),
            "recover": lambda name: self.recover(name),
            "get-or-create": lambda name: self.make_key(name),
        }
        for phase, version, recovery in ((REKEY, 1, "UNDONE"), (VERIFY, 2, "FINISHED"), (COMMIT, 2, "FINISHED")):
            for way, end in ways.items():
                with self.subTest(phase=phase, way=way):
                    name = f"{way}-{phase}.db"
                    self.make(name, "PRAGMA journal_mode = WAL")
                    self.interrupt(phase, name)
                    self.assertEqual(self.helper("needs", self.path(name)).stdout, "1\n")
                    result = end(name)
                    if way == "recover":
                        self.assertEqual(result, recovery)
                    self.assertEqual(self.recover(name), "NOTHING")
                    self.assertEqual(self.open(name, "PRAGMA journal_mode"), "wal\n")
                    self.assert_whole(version, name)

    def test_the_next_rotation_ends_the_one_before(self):
        self.make()
        for phase in (REKEY, VERIFY):
            self.interrupt(phase)
            process = self.start_rotate()
            out, _ = process.communicate(timeout=TIMEOUT)
            self.assertNotIn("backwards", out)
            self.assertEqual(self.answer(out)[0], "OK")
            self.assertEqual(self.rows(), [str(ROWS), "ok"])

    def test_a_pending_version_of_a_database_that_is_gone_is_given_up(self):
        self.make()
        self.interrupt(REKEY)
        os.unlink(self.path("a.db"))
        self.assertEqual(self.recover(), "UNDONE")
        self.assertEqual(self.load(), "1 0")

    def test_a_database_that_no_key_opens_is_not_touched(self):
        self.make()
        self.make("b.db")
        self.interrupt(REKEY)
        shutil.copy(self.path("b.db"), self.path("a.db"))
        before = self.state()
        for answer in (self.rotate(), self.load(), self.answer(self.helper("recover", 0, self.path("a.db")).stdout)):
            self.assertEqual(answer[0], "MIXED")
            self.assertRegex(answer[1], "0 fit key version 1, 0 version 2, and [1-9][0-9]* neither. Nothing was touched.*lkmctl salvage")
        self.assertEqual(before, self.state())

    def test_an_event_loop_is_told_of_an_interrupted_rotation(self):
        self.make()
        self.interrupt(REKEY)
        before = self.state()
        done = self.helper("async", 3, self.path("a.db"))
        self.assertEqual(done.stdout.split("\n")[0], "ROTATION_IN_PROGRESS")
        self.assertIn("lkm_recover()", done.stdout)
        self.assertEqual(before, self.state())
        self.assertEqual(self.recover(), "UNDONE")
        self.assertEqual(self.helper("async", 3, self.path("a.db")).stdout, "3 answers\n")

    def test_a_record_that_cannot_be_written_leaves_both_keys(self):
        who = {"user": nobody().pw_uid, "group": nobody().pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        self.configure(uid=f"{os.getuid()} uid:{nobody().pw_uid}")
        self.finish(self.lkmd)
        self.restart()
        home = self.path("home")
        os.makedirs(home)
        for phase, version in ((QUIESCE, 1), (COMMIT, 2)):
            name = f"home/at-{phase}.db"
            self.make(name)
            if who:
                for path in (home, self.path(name), self.path(name + ".key")):
                    os.chown(path, who["user"], who["group"])
            process = self.start(helper("rotate", 0, self.path(name), "hold", str(phase)), env=self.environment(), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True, **who)
            self.until(process, "holding")
            before = self.bytes(name + ".key")
            os.chmod(home, 0o500)
            error, sentence = self.go_on(process)
            os.chmod(home, 0o700)
            self.assertEqual(error, "IO", sentence)
            self.assertEqual(before, self.bytes(name + ".key"))
            if phase == COMMIT:
                self.assertIn("its new key, and its .key knows both", sentence)
            self.assertEqual(self.rows(name), [str(ROWS), "ok"])
            self.assertEqual(self.load(name), f"{version} 0")

    # ---- lkm-rekey ----

    def test_lkm_rekey_dies_silent_at_each_step(self):
        for command, answer in (("check", "IO"), ("rekey", "IO"), ("probe", "IO")):
            for death in ("exit 0", "kill -9 $$"):
                with self.subTest(command=command, death=death):
                    name = f"{command}-{len(death)}.db"
                    self.make(name)
                    environment = self.stand_in(f'[ $1 = {command} ] && {death}; exec "$REAL" "$@"')
                    error, sentence = self.rotate(name, environment=environment)
                    self.assertEqual(error, answer, sentence)
                    self.assertIn("lkm-rekey", sentence)
                    self.assertEqual(command == "probe", "its .key knows both" in sentence, sentence)
                    self.assert_whole(2 if command == "probe" else 1, name)

    def test_lkm_rekey_dies_when_it_has_done_its_work(self):
        self.make()
        environment = self.stand_in('[ $1 = rekey ] && { "$REAL" "$@" > /dev/null; kill -9 $$; }; exec "$REAL" "$@"')
        self.assertEqual(self.rotate(environment=environment)[0], "OK")
        self.assert_whole(2)

    def test_a_probe_that_dies_once_is_asked_again(self):
        self.make()
        mark = self.path("mark")
        environment = self.stand_in(f'[ $1 = probe ] && [ ! -e "{mark}" ] && : > "{mark}" && kill -9 $$; exec "$REAL" "$@"')
        self.assertEqual(self.rotate(environment=environment)[0], "OK")
        self.assert_whole(2)

    def test_lkm_rekey_lies(self):
        self.make()
        environment = self.stand_in('[ $1 = rekey ] && { echo done; exit; }; exec "$REAL" "$@"')
        error, sentence = self.rotate(environment=environment)
        self.assertEqual(error, "IO")
        self.assertIn("was not", sentence)
        self.assert_whole(1)

    @unittest.skipIf(SANITIZED, "a library is loaded before the sanitizer's")
    def test_lkm_rekey_is_killed_at_any_call(self):
        self.make()
        at, ended = 0, False
        while not ended:
            before = int(self.load().split()[0])
            mark = self.path("mark")
            environment = self.stand_in(f'[ $1 = rekey ] && {{ LD_PRELOAD={KILL_AT} KILL_AT={at} "$REAL" "$@"; r=$?; [ $r -lt 128 ] && : > "{mark}"; '
                                        f'kill -9 $$; }}; exec "$REAL" "$@"')
            error, sentence = self.rotate(environment=environment)
            after = int(self.load().split()[0])
            if error == "OK":
                self.assertGreater(after, before)
            else:
                self.assertEqual((error, after), ("IO", before), sentence)
            self.assertEqual(self.rows(), [str(ROWS), "ok"])
            ended = os.path.exists(mark)
            at = at + 1 if at < 8 else at * 5 // 4
        self.assertGreater(at, 50)


class Memory(RotateCase):
    def test_keys_of_a_rotation_lie_in_locked_memory_alone(self):
        self.make()
        client = self.client()
        old = self.get(client, self.bytes("a.db.key"))
        process = self.hold(VERIFY)
        new = client.ask(GET, [(1, self.bytes("a.db.key")), (3, u32(2))])
        self.assertEqual(new.number, KEY, new.sentence)
        locked = memscan.locked(process.pid)
        for key in (old, new.fields[1]):
            hits = memscan.scan(process.pid, key)
            self.assertEqual([hit for hit in hits if hit[1].split()[0] not in locked], [])
        self.assertEqual(self.go_on(process)[0], "OK")


class Openers(RotateCase):
    def test_an_opening_that_a_rotation_overtakes_gets_the_new_key(self):
        self.make()
        for flags in (0, 2):
            process = self.start_helper("open-late", flags, 0, self.path("a.db"), "SELECT count(*) FROM t")
            self.until(process, "loaded")
            self.assertEqual(self.rotate()[0], "OK")
            out, _ = process.communicate("\n", TIMEOUT)
            self.assertEqual(out, f"{ROWS}\n")

    def test_an_opening_in_a_rotation_waits_for_its_end(self):
        self.make()
        for phase in (QUIESCE, REKEY, VERIFY, COMMIT):
            rotation = self.hold(phase)
            opener = self.start_helper("open", 0, 0, self.path("a.db"), "SELECT count(*) FROM t")
            loader = self.start_helper("load", self.path("a.db"))
            self.assertIn(self.go_on(rotation)[0], ("OK", "BUSY")) # BUSY: an opener was faster than the quiescence
            self.assertEqual(opener.communicate(timeout=TIMEOUT)[0], f"{ROWS}\n")
            self.assertRegex(loader.communicate(timeout=TIMEOUT)[0], r"^\d+ 0\n$")

    def test_an_opening_does_not_wait_beyond_its_time(self):
        self.make()
        rotation = self.hold(REKEY)
        self.assertEqual(self.load("a.db", "", 1500)[0], "ROTATION_IN_PROGRESS")
        self.assertEqual(self.go_on(rotation)[0], "OK")
        self.assert_whole(2)


@unittest.skipIf(SANITIZED, "the clock's library has to be the first")
class Due(RotateCase):
    scope_options = "rotation_enabled = yes\nrotation_period_days = 90\ncache_ttl = 1s"

    def setUp(self):
        super().setUp()
        self.clock = MovedClock(self.path("clock"))
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd", self.clock.prefix())

    def needs(self):
        return self.helper("needs", self.path("a.db")).stdout

    def test_a_key_needs_rotation_when_its_time_is_over(self):
        self.make()
        self.assertEqual(self.needs(), "0\n")
        self.clock.move(wall_seconds=89 * 86400)
        self.assertEqual(self.needs(), "0\n")
        self.clock.move(wall_seconds=2 * 86400)
        self.assertEqual(self.needs(), "1\n")
        self.assertEqual(self.rotate()[0], "OK")
        self.assertEqual(self.needs(), "0\n")


if __name__ == "__main__":
    unittest.main()
