# SPDX-License-Identifier: Apache-2.0
"""lkmctl: rotation and the history of keys: every screen, JSON lines, exit codes, hostile names, whose rights are used, and Ctrl-C."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import unittest

import support
from daemons import DaemonCase, MovedClock, nobody
from support import ROTATE, TIMEOUT

setUpModule = support.not_under_valgrind

DAY = 86400
SQL = "CREATE TABLE t(x); INSERT INTO t VALUES('row');"
CANCELLED = "was cancelled; everything is as it was before"
IS_ROOT = os.getuid() == 0
SCOPES = """allow_history = uid:{uid}
rotation_enabled = yes
rotation_period_days = 30
[scope team]
keks = local
allow = uid:{uid} user:nobody
rotation_enabled = yes
rotation_period_days = 30"""


class Terminal:
    """A program on a terminal of its own, @width columns wide. Its session leads the terminal, so that Ctrl-C reaches it as a person's does."""

    def __init__(self, arguments, width=80):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.process = subprocess.Popen(arguments, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # pylint: disable=subprocess-popen-preexec-fn
        os.close(follower)
        self.seen = ""

    def type(self, text):
        os.write(self.leader, text.encode())

    def read(self):
        """Some more of what is shown. Return: whether there was any."""
        assert select.select([self.leader], [], [], TIMEOUT)[0], self.seen
        try:
            data = os.read(self.leader, 65536)
        except OSError:
            return False  # nobody has it open any more
        self.seen += data.decode()
        return bool(data)

    def until(self, text):
        while text not in self.seen:
            assert self.read(), self.seen

    def end(self):
        """Return: the exit status."""
        while self.read():
            pass
        os.close(self.leader)
        return self.process.wait(TIMEOUT)

    def lines(self):
        """What stood on the line that is redrawn, one after the other, and the lines that stayed."""
        return [line.rstrip(" ") for line in re.split(r"[\r\n]+", self.seen) if line.strip()]


class RotationCase(DaemonCase):
    def setUp(self):
        self.scope_options = SCOPES.format(uid=os.getuid())
        super().setUp()
        # An owner has to be able to run what stands in the build folder.
        os.mkdir(self.path("bin"))
        for name in ("lkmctl", "lkm-rekey"):
            shutil.copy(os.path.join(support.BUILD, "client", name), self.path("bin"))
        self.lkmctl = os.path.join(self.path("bin"), "lkmctl")

    def command(self, *arguments):
        return [*support.WRAPPER, self.lkmctl, "--socket", self.socket, *arguments]

    def run_ctl(self, *arguments, **options):
        return subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=options.pop("stdin", subprocess.DEVNULL),
                              timeout=TIMEOUT, check=False, **options)

    def ctl(self, *arguments, status=0):
        done = self.run_ctl(*arguments)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return (done.stdout if status == 0 else done.stderr).decode()

    def sql(self, database, text):
        done = subprocess.run(self.command("sqlcipher", database), input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""), text)
        return done.stdout.decode()

    def database(self, name, scope="medical", sql=SQL):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.ctl("create", "--scope", scope, path)
        self.sql(path, sql)
        return path

    def large(self, name, mebibytes, scope="medical"):
        return self.database(name, scope, sql="CREATE TABLE t(x); INSERT INTO t VALUES('row'); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                             f"WHERE i < {mebibytes * 16}) INSERT INTO t SELECT randomblob(65000) FROM n;")

    def key(self, database, *options):
        return self.ctl("get", *options, database).strip()

    def history(self, database):
        return [(v["number"], v["state"]) for v in json.loads(self.ctl("--json", "history", database))["versions"]]

    def interrupt(self, database):
        """Leave a rotation as it is when the machine stops behind its first step."""
        with open(database + ".key", "rb") as file:
            record = file.read()
        with self.client() as client:
            reply = client.ask(ROTATE, [(1, record)])
        self.assertEqual(reply.error, 0, reply.sentence)
        with open(database + ".key", "wb") as file:
            file.write(reply.fields[1])

    def assert_opens(self, database):
        self.assertEqual(self.sql(database, "SELECT x FROM t WHERE x = 'row';"), "row\n")


class Rotation(RotationCase):
    def test_rotation_gives_a_new_key_and_keeps_the_old_one(self):
        database = self.database("a.db")
        old = self.key(database)
        self.assertRegex(self.ctl("rotate", database), rf"^{re.escape(database)}: rotated to version 2: \d+\.\d KiB in \d+\.\d s\n$")
        self.assertNotEqual(self.key(database), old)
        self.assert_opens(database)
        self.assertEqual(self.key(database, "--version", "1"), old)
        self.assertEqual(self.history(database), [(1, "retired"), (2, "current")])
        rows = [re.split(r" {2,}", row) for row in self.ctl("history", database).splitlines()]
        self.assertEqual(rows[0], ["VERSION", "STATE", "CREATED", "ENDED", "WRAPPED BY"])
        for row, state, ended in ((rows[1], "retired", r"\d{4}-\S+Z"), (rows[2], "current", "-")):
            self.assertRegex(" ".join(row), rf"^\d {state} \d{{4}}-\S+Z {ended} local:\S+$")

    def test_several_databases_go_on_after_a_failure(self):
        first, last, gone = self.database("a.db"), self.database("c.db"), self.path("b.db")
        done = self.run_ctl("rotate", first, gone, last)
        self.assertEqual(done.returncode, 5)
        lines = done.stdout.decode().splitlines()
        self.assertRegex(lines[0], f"^{re.escape(first)}: rotated")
        self.assertRegex(lines[1], f"^{re.escape(last)}: rotated")
        self.assertEqual(lines[2:], ["3 databases: 1 failed, 2 rotated"])
        self.assertRegex(done.stderr.decode(), rf"^lkmctl: {re.escape(gone)}: .*no such database|^lkmctl: {re.escape(gone)}: there is neither")

    def test_programs_get_json_lines(self):
        database, gone = self.large("a.db", 24), self.path("b.db")
        began = time.monotonic()
        done = self.run_ctl("--json", "rotate", database, gone)
        seconds = time.monotonic() - began
        self.assertEqual((done.returncode, done.stderr), (5, b""))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        progress = [line for line in lines if "phase" in line]
        self.assertLessEqual(len(progress), 10 * seconds + 2)
        self.assertGreater(len(progress), 0)
        for line in progress:
            self.assertEqual(set(line), {"database", "phase", "done", "total"})
            self.assertIn(line["phase"], ("check", "quiesce", "rekey", "verify", "commit"))
            self.assertLessEqual(line["done"], line["total"])
        results = [line for line in lines if "result" in line]
        self.assertEqual([(line["database"], line["result"]) for line in results], [(database, "rotated"), (gone, "failed")])
        self.assertEqual((results[0]["version"], results[0]["bytes"]), (2, os.path.getsize(database)))
        self.assertEqual((results[1]["error"], results[1]["code"]), ("NOT_FOUND", 105))
        summary = lines[-1]["summary"]
        self.assertEqual((summary["databases"], summary["rotated"], summary["failed"], summary["cancelled"]), (2, 1, 1, 0))

    def test_output_that_is_no_terminal_has_the_result_only(self):
        done = self.run_ctl("rotate", self.large("a.db", 8))
        self.assertEqual((done.stdout.count(b"\n"), done.stdout.count(b"\r"), done.stderr), (1, 0, b""))

    def test_hostile_names_forge_no_line(self):
        hostile = self.database("a\n\x1b[31mforged: rotated.db")
        done = self.run_ctl("rotate", hostile, self.path("gone\n\x1b[2J"))
        text = (done.stdout + done.stderr).decode()
        self.assertEqual((done.returncode, text.count("\n"), text.count("\x1b")), (5, 3, 0), text)
        self.assertIn("a??[31mforged: rotated.db: rotated to version 2", text)
        lines = [json.loads(line) for line in self.run_ctl("--json", "rotate", hostile).stdout.splitlines()]
        self.assertEqual({line["database"] for line in lines}, {hostile})
        self.assertEqual(self.history(hostile)[-1], (3, "current"))
        binary = os.fsencode(self.path("binary-")) + b"\xff.db"
        self.assertEqual(self.run_ctl("create", "--scope", "medical", binary).returncode, 0)
        done = self.run_ctl("--json", "rotate", binary)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["database"], self.path("binary-\ufffd.db"), done)

    def test_wrong_use_is_told_with_an_example(self):
        database = self.database("a.db")
        self.assertIn("lkmctl rotate --due /var/lib/clinic", self.ctl("rotate", "--due", status=2))
        self.assertIn("lkmctl rotate patients.db", self.ctl("rotate", status=2))
        for wrong in (["recover"], ["rewrap"], ["rekek"], ["history"], ["history", database, database], ["purge", database], ["purge", "--version", "1"],
                      ["purge", "--version", "0", database], ["purge", "--version", "x", database], ["get", "--version", "-1", database],
                      ["get", "--version", "4294967296", database], ["get", database, "--version"], ["get", "--version", "1", "--scope", "medical", database],
                      ["check", "--due", database], ["rotate", "--force", database]):
            self.ctl(*wrong, status=2)
        self.assertRegex(self.ctl("--version", "get", database), r"^lkmctl \d")
        self.assertRegex(self.ctl("check", "--version"), r"^lkmctl \d")
        self.assertEqual(self.history(database), [(1, "current")])

    def test_daemon_that_is_away_is_told_by_exit_code_4(self):
        database = self.database("a.db")
        self.finish(self.lkmd)
        for command in ("rotate", "recover", "rewrap", "rekek"):
            self.assertIn("lkmd", self.ctl(command, database, status=4))


class Terminals(RotationCase):
    def shown(self, arguments, width):
        terminal = Terminal(self.command(*arguments), width)
        self.assertEqual(terminal.end(), 0, terminal.seen)
        self.assertNotIn("\x1b", terminal.seen)
        return terminal

    def test_terminal_shows_one_line_that_is_redrawn(self):
        database = self.large("a.db", 24)
        terminal = self.shown(["rotate", database], 100)
        lines = terminal.lines()
        self.assertTrue(any(re.search(r"re-encrypting +\d+% \[#* *\] +\S+ \S+ of [\d.]+ MiB, +[\d.]+ \S+/s$", line) for line in lines), lines)
        self.assertTrue(any("verifying" in line for line in lines), lines)
        self.assertTrue(all(len(line) < 100 for line in lines[:-1]), lines)
        self.assertRegex(lines[-1], "rotated to version 2: ")
        # Only the result stays: every line before it was drawn over.
        self.assertEqual(terminal.seen.count("\n"), 1)

    def test_line_fits_into_a_narrow_terminal(self):
        database = self.large("a.db", 8)
        for width in (20, 45):
            lines = self.shown(["rotate", database], width).lines()
            self.assertTrue(all(len(line) < width for line in lines[:-1]), lines)
            self.assertTrue(any("%" in line or "re-encr" in line for line in lines), lines)

    def wait_for_other(self, *databases):
        """A rotation that waits for another process to close the first database."""
        other = subprocess.Popen(self.command("sqlcipher", databases[0]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.finish, other)
        other.stdin.write(b"BEGIN IMMEDIATE; SELECT 'ready';\n")
        other.stdin.flush()
        self.assertEqual(other.stdout.readline(), b"ready\n")
        terminal = Terminal(self.command("--timeout", "100", "rotate", *databases))
        terminal.until("waiting for others to close it")
        return other, terminal

    def test_others_who_close_are_waited_for(self):
        database = self.database("a.db")
        other, terminal = self.wait_for_other(database)
        other.stdin.close()
        self.assertEqual(terminal.end(), 0, terminal.seen)
        self.assertIn("rotated to version 2", terminal.seen)

    def test_ctrl_c_cancels_and_leaves_the_database_as_it_was(self):
        first, second = self.database("a.db"), self.database("b.db")
        key = self.key(first)
        _, terminal = self.wait_for_other(first, second)
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 1, terminal.seen)
        self.assertIn(CANCELLED, terminal.seen)
        self.assertIn("2 databases: 1 cancelled, 1 not begun", terminal.seen)
        self.assertEqual(self.key(first), key)
        self.assertEqual((self.history(first), self.history(second)), ([(1, "current")],) * 2)

    def test_ctrl_c_while_it_is_re_encrypted_undoes_it(self):
        database = self.large("a.db", 40)
        key = self.key(database)
        terminal = Terminal(self.command("rotate", database))
        terminal.until("re-encrypting")
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 1, terminal.seen)
        self.assertIn(CANCELLED, terminal.seen)
        self.assertEqual(self.key(database), key)
        self.assert_opens(database)
        self.assertEqual(self.history(database), [(1, "current"), (2, "retired")])

    def test_second_ctrl_c_ends_at_once_and_the_next_use_recovers(self):
        database = self.large("a.db", 40)
        terminal = Terminal(self.command("rotate", database))
        terminal.until("re-encrypting")
        terminal.type("\x03\x03")
        self.assertNotEqual(terminal.end(), 0)
        self.assert_opens(database)
        self.assertNotIn("pending", [state for _, state in self.history(database)])

    def test_signal_to_end_cancels(self):
        database = self.database("a.db")
        _, terminal = self.wait_for_other(database)
        os.kill(terminal.process.pid, signal.SIGTERM)
        self.assertEqual(terminal.end(), 1, terminal.seen)
        self.assertIn(CANCELLED, terminal.seen)

    def test_who_has_it_open_is_named(self):
        database = self.database("a.db")
        other, terminal = self.wait_for_other(database)
        terminal.type("\x03")
        terminal.end()
        error = self.ctl("--timeout", "0.1", "rotate", database, status=1)
        self.assertIn(str(other.pid), error)
        self.assertIn("sqlcipher", error)
        other.stdin.close()
        other.wait(TIMEOUT)
        self.ctl("rotate", database)

    def purge(self, database, answer):
        terminal = Terminal(self.command("purge", "--version", "1", database))
        terminal.until("[y/N] ")
        terminal.type(answer)
        return terminal.end(), terminal.seen

    def test_purge_asks_and_says_what_it_destroys(self):
        database = self.database("a.db")
        self.ctl("rotate", database)
        for answer in ("n\n", "\n", "\x04", "\x03"):
            status, seen = self.purge(database, answer)
            self.assertEqual(status, 1, seen)
            self.assertIn("nothing was changed", seen)
            self.assertIn("can never be opened again", seen)
            self.assertEqual(self.history(database)[0], (1, "retired"))
        status, seen = self.purge(database, "y\n")
        self.assertEqual(status, 0, seen)
        self.assertEqual(self.history(database), [(1, "destroyed"), (2, "current")])
        self.assertIn("destroyed", self.ctl("get", "--version", "1", database, status=5))
        self.assert_opens(database)


class History(RotationCase):
    def test_purge_without_a_terminal_needs_force(self):
        database = self.database("a.db")
        self.ctl("rotate", database)
        self.assertIn("--force", self.ctl("purge", "--version", "1", database, status=2))
        self.ctl("purge", "--version", "2", "--force", database, status=5)  # the current one
        self.ctl("purge", "--version", "3", "--force", database, status=5)
        self.assertEqual(self.history(database), [(1, "retired"), (2, "current")])
        self.assertRegex(self.ctl("purge", "--version", "1", "--force", database), "destroyed.*can never be opened again")
        result = json.loads(self.run_ctl("--json", "purge", "--version", "1", "--force", database).stdout)
        self.assertEqual(result["result"], "failed")

    def test_retired_keys_need_a_right_of_their_own(self):
        database = self.database("a.db", "billing")
        self.ctl("rotate", database)
        self.ctl("get", "--version", "1", database, status=3)
        self.ctl("purge", "--version", "1", "--force", database, status=3)
        self.ctl("get", "--version", "2", database)
        self.ctl("get", "--version", "7", database, status=5)

    def test_interrupted_rotation_is_shown_and_undone(self):
        database = self.database("a.db")
        key = self.key(database)
        self.interrupt(database)
        for command in ("check", "history"):
            self.assertIn(f"lkmctl recover {database}", self.ctl(command, database))
        self.assertRegex(self.ctl("recover", database), "undone: the old key still is")
        self.assertEqual(self.history(database), [(1, "current"), (2, "retired")])
        self.assertEqual(self.key(database), key)
        self.assertIn("nothing had to be done", self.ctl("recover", database))
        self.assertNotIn("recover", self.ctl("check", database))

    def test_rotation_that_was_interrupted_behind_the_change_is_finished(self):
        database = self.database("a.db")
        old = self.key(database)
        self.interrupt(database)
        new = self.key(database, "--version", "2")
        script = f"PRAGMA key = \"x'{old}'\";\nPRAGMA rekey = \"x'{new}'\";\n"
        subprocess.run(["sqlcipher", database], input=script.encode(), stdout=subprocess.DEVNULL, timeout=TIMEOUT, check=True)
        result = json.loads(self.ctl("--json", "recover", database).splitlines()[-1])
        self.assertEqual(result["result"], "finished")
        self.assertEqual(self.history(database), [(1, "retired"), (2, "current")])
        self.assertEqual(self.key(database), new)
        self.assert_opens(database)

    def test_change_waits_for_the_lock_of_the_record(self):
        database = self.database("a.db")
        with open(database + ".key", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for command in ("rewrap", "rekek"):
                self.assertIn("another process changes", self.ctl("--timeout", "0.1", command, database, status=5))
            self.ctl("--timeout", "0.1", "rotate", database, status=5)
            waiting = subprocess.Popen(self.command("rewrap", database), stdout=subprocess.PIPE)
        self.assertIn(b"newest versions", waiting.communicate(timeout=TIMEOUT)[0])

    def test_changes_at_once_undo_none_of_each_other(self):
        database = self.database("a.db")
        changes = [subprocess.Popen(self.command("rewrap" if i % 2 else "rotate", database), stdout=subprocess.DEVNULL) for i in range(4)]
        self.assertEqual([change.wait(TIMEOUT) for change in changes], [0] * 4)
        self.assertEqual(self.history(database), [(1, "retired"), (2, "retired"), (3, "current")])
        self.assert_opens(database)

    def test_wraps_change_and_keys_do_not(self):
        database = self.database("a.db")
        self.ctl("rotate", database)
        key, before = self.key(database), self.read(database + ".key")
        self.assertIn("newest versions of their KEKs", self.ctl("rewrap", database))
        self.assertNotEqual(self.read(database + ".key"), before)
        self.assertEqual(json.loads(self.ctl("--json", "rewrap", database))["result"], "rewrapped")
        kek = re.findall(r"local:\S+", self.ctl("history", database))
        config = self.read(self.config).replace("[scope medical]\nkeks = local", "[scope medical]\nkeks = other", 1)
        self.write("lkmd.conf", config)
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd")
        done = self.run_ctl("rekek", database, self.path("gone"))
        self.assertEqual(done.returncode, 5)
        self.assertIn("2 databases: 1 failed, 1 wrapped anew", done.stdout.decode())
        self.assertFalse(set(kek) & set(re.findall(r"local:\S+", self.ctl("history", database))))
        self.assertEqual(self.key(database), key)
        self.assertEqual(self.history(database), [(1, "retired"), (2, "current")])


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that moves the clock must be the first one, and so must a sanitizer's")
class Due(RotationCase):
    def configure(self, **changes):
        self.clock = MovedClock(self.path("clock"))
        super().configure(**changes)

    def start_ready(self, name, prefix=()):
        return super().start_ready(name, self.clock.prefix() if name == "lkmd" else prefix)

    def due(self, *folders, status=0):
        done = self.run_ctl("--json", "rotate", "--due", *folders)
        self.assertEqual(done.returncode, status, done)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [(line["database"], line["result"]) for line in lines if "result" in line]

    def test_what_is_due_is_rotated_and_nothing_else(self):
        first, deep = self.database("data/a.db"), self.database("data/b/c/d.db")
        folder = self.path("data")
        self.assertEqual(self.due(folder), [(first, "nothing"), (deep, "nothing")])
        self.assertEqual(self.ctl("rotate", "--due", folder), "2 databases: 2 with nothing to do\n")
        self.clock.move(wall_seconds=31 * DAY, boottime_seconds=31 * DAY)
        young = self.database("data/young.db")
        self.assertRegex(self.ctl("check", first), rf"(?s)rotation due +yes\n.*\nIts rotation is due: lkmctl rotate {re.escape(first)}\n$")
        out = self.ctl("rotate", "--due", folder)
        self.assertRegex(out, rf"^{re.escape(first)}: rotated.*\n{re.escape(deep)}: rotated.*\n3 databases: 2 rotated, 1 with nothing to do\n$")
        self.assertEqual(self.history(first), [(1, "retired"), (2, "current")])
        self.assertEqual(self.history(young), [(1, "current")])
        self.assertEqual(self.due(folder + "/"), [(first, "nothing"), (deep, "nothing"), (young, "nothing")])

    def test_walk_stays_inside_and_takes_databases_only(self):
        outside, inside = self.database("outside/a.db"), self.database("data/a.db")
        os.symlink(self.path("outside"), self.path("data/link"))
        for suffix in ("", ".key"):
            os.symlink(outside + suffix, self.path("data/linked.db" + suffix))
        self.write("data/alone.db.key", "no database stands beside it")
        self.write("data/.key", "")
        os.mkdir(self.path("data/folder.db.key"))
        os.mkfifo(self.path("data/pipe.db"))
        self.write("data/pipe.db.key", "")
        self.assertEqual(self.due(self.path("data")), [(inside, "nothing")])
        self.assertEqual(self.due(self.path("data/link")), [(self.path("data/link/a.db"), "nothing")])  # the user names it

    def test_walk_is_bounded_in_depth(self):
        at, too_deep = "data", "data/" + "/".join("d" * 17)
        self.database(too_deep + "/a.db")
        reachable = self.database("data/" + "/".join("d" * 16) + "/a.db")
        done = self.run_ctl("rotate", "--due", self.path(at))
        self.assertEqual((done.returncode, done.stdout), (0, b"1 database: 1 with nothing to do\n"))
        self.assertIn(f"lkmctl: {self.path(too_deep)} lies deeper than 16 folders", done.stderr.decode())
        self.assertTrue(os.path.exists(reachable))

    def test_interrupted_rotation_is_ended_on_the_way(self):
        database = self.database("data/a.db")
        self.interrupt(database)
        self.assertEqual(self.due(self.path("data")), [(database, "undone")])
        self.interrupt(database)
        self.clock.move(wall_seconds=31 * DAY, boottime_seconds=31 * DAY)
        self.assertEqual(self.due(self.path("data")), [(database, "undone"), (database, "rotated")])

    def test_damaged_record_fails_and_the_others_are_rotated(self):
        first, last = self.database("data/a.db"), self.database("data/c.db")
        self.write("data/b.db", "x")
        self.write("data/b.db.key", "x")
        self.clock.move(wall_seconds=31 * DAY, boottime_seconds=31 * DAY)
        self.assertEqual(self.due(self.path("data"), status=5), [(first, "rotated"), (self.path("data/b.db"), "failed"), (last, "rotated")])

    def test_folder_that_is_not_there_fails(self):
        self.assertEqual(self.due(self.path("nowhere"), status=1), [(self.path("nowhere"), "failed")])


@unittest.skipUnless(IS_ROOT, "only root can become somebody else")
class Root(RotationCase):
    """What root asks is done as the owner."""

    def setUp(self):
        super().setUp()
        self.user = nobody()

    def give(self, database, uid=None, key_uid=None):
        uid = self.user.pw_uid if uid is None else uid
        os.chown(database, uid, self.user.pw_gid)
        os.chown(database + ".key", uid if key_uid is None else key_uid, self.user.pw_gid)
        return database

    def folder(self, name, mode=0o700):
        os.mkdir(self.path(name), mode)
        os.chown(self.path(name), self.user.pw_uid, self.user.pw_gid)

    def audited(self, event):
        return [line["uid"] for line in map(json.loads, self.read(self.path("audit.jsonl")).splitlines()) if line["event"] == event]

    def test_root_becomes_the_owner_before_it_asks(self):
        self.folder("home")
        database = self.give(self.database("home/a.db", "team"))
        before = len(self.read(self.path("audit.jsonl")).splitlines())
        self.assertIn("rotated to version 2", self.ctl("rotate", database))
        self.ctl("rewrap", database)
        self.ctl("rekek", database)
        lines = [json.loads(line) for line in self.read(self.path("audit.jsonl")).splitlines()[before:]]
        users = {line["uid"] for line in lines if "uid" in line}
        self.assertEqual(users, {self.user.pw_uid})
        self.assertGreater(len(lines), 3)
        for suffix in ("", ".key"):
            status = os.stat(database + suffix)
            self.assertEqual((status.st_uid, status.st_mode & 0o777), (self.user.pw_uid, 0o600 if suffix else status.st_mode & 0o777))
        self.assertEqual(self.history(database), [(1, "retired"), (2, "current")])

    def test_policy_decides_about_the_owner(self):
        self.folder("home")
        database = self.give(self.database("home/a.db", "medical"))  # which admits root only
        self.ctl("rotate", database, status=3)
        self.assertEqual(self.history(database), [(1, "current")])

    def test_differing_owners_are_refused(self):
        self.folder("home")
        database = self.give(self.database("home/a.db", "team"), key_uid=0)
        record = self.read(database + ".key")
        for command in ("rotate", "recover", "rewrap", "rekek"):
            self.assertRegex(self.ctl(command, database, status=3), rf"belongs to user {self.user.pw_uid} and its .key to user 0")
        self.ctl("purge", "--version", "1", "--force", database, status=3)
        self.assertEqual(self.read(database + ".key"), record)

    def test_links_are_refused(self):
        self.folder("home")
        target = self.database("roots.db", "team")
        for suffix in ("", ".key"):
            os.symlink(target + suffix, self.path("home/link.db" + suffix))
            os.chown(self.path("home/link.db" + suffix), self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)
        self.assertIn("symbolic link", self.ctl("rotate", self.path("home/link.db"), status=5))
        # One link is enough.
        os.unlink(self.path("home/link.db"))
        self.write("home/link.db", "")
        os.chown(self.path("home/link.db"), self.user.pw_uid, self.user.pw_gid)
        self.assertIn("link.db.key is a symbolic link", self.ctl("rotate", self.path("home/link.db"), status=5))
        self.assertEqual(self.history(target), [(1, "current")])

    def test_database_of_root_where_others_can_write_is_refused(self):
        self.folder("home")
        database = self.database("home/a.db", "team")
        self.assertIn("others than root can write", self.ctl("rotate", database, status=3))
        os.mkdir(self.path("home/below"), 0o700)
        below = self.database("home/below/a.db", "team")
        self.assertIn("others than root can write", self.ctl("rotate", below, status=3))
        os.mkdir(self.path("open"))
        os.chmod(self.path("open"), 0o1777)
        self.assertIn("others than root can write", self.ctl("rotate", self.database("open/a.db", "team"), status=3))
        self.assertEqual((self.history(database), self.history(below)), ([(1, "current")],) * 2)

    def test_owner_without_an_account_is_refused(self):
        database = self.give(self.database("a.db", "team"), uid=54321)
        self.assertIn("54321, who has no account", self.ctl("rotate", database, status=3))

    def test_owner_has_its_own_rights_only(self):
        """The owner cannot come to its database, and root does not lend a hand."""
        os.mkdir(self.path("closed"), 0o700)
        database = self.give(self.database("closed/a.db", "team"))
        self.ctl("rotate", database, status=1)
        self.assertEqual(self.history(database), [(1, "current")])

    def test_process_that_is_killed_is_told_and_the_next_use_ends_its_rotation(self):
        self.folder("home")
        database = self.give(self.large("home/a.db", 24, "team"))
        terminal = Terminal(self.command("rotate", database, self.path("gone")))
        terminal.until("re-encrypting")
        children = self.read(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").split()
        os.kill(int(children[0]), signal.SIGKILL)
        self.assertEqual(terminal.end(), 5, terminal.seen)
        self.assertIn("ended early (Killed). `lkmctl recover`", terminal.seen)
        self.assertIn("2 databases: 2 failed", terminal.seen)
        self.ctl("recover", database)
        self.assertNotIn("pending", [state for _, state in self.history(database)])
        self.assert_opens(database)

    def test_due_rotates_for_each_owner_with_three_capabilities(self):
        self.folder("home")
        theirs, own = self.give(self.database("home/a.db", "team")), self.database("own.db", "team")
        self.interrupt(theirs)
        self.interrupt(own)
        needed = ["setuid", "setgid", "dac_read_search"]

        def due(capabilities):
            bounds = ",".join(["-all"] + ["+" + name for name in capabilities])
            prefix = ["setpriv", "--bounding-set", bounds, "--inh-caps", "-all", "--"]
            done = subprocess.run([*prefix, *self.command("--json", "rotate", "--due", self.directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                                  stdin=subprocess.DEVNULL, timeout=TIMEOUT)
            return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

        for missing in needed:
            status, lines = due([name for name in needed if name != missing])
            ended = [line["database"] for line in lines if line.get("result") == "undone"]
            self.assertNotIn(theirs, ended, missing)
        status, lines = due(needed)
        self.assertEqual(status, 0, lines)
        self.assertIn((theirs, "undone"), [(line.get("database"), line.get("result")) for line in lines])
        self.assertNotIn("pending", [state for _, state in self.history(theirs) + self.history(own)])


if __name__ == "__main__":
    unittest.main()
