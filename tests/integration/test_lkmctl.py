# SPDX-License-Identifier: Apache-2.0
"""lkmctl: its commands, exit codes, formats, and the completion."""
import json
import os
import pty
import re
import socket
import struct
import subprocess
import threading
import unittest

import support
from daemons import DaemonCase
from support import TIMEOUT

LKMCTL = os.path.join(support.BUILD, "client/lkmctl")
COMPLETION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/completions/lkmctl")


def lkmctl(*arguments, **options):
    return subprocess.run([*support.WRAPPER, LKMCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, **options)


class ReportingDaemon:
    """Answers HELLO, and every KEK_CHECK and KEK_POLICY with a report of the test's, as a daemon with a real KMS would."""

    def __init__(self, path, check, policy):
        self.path, self.reports = path, {support.KEK_CHECK: check, support.KEK_POLICY: policy}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def serve(self):
        try:
            while True:
                with self.listener.accept()[0] as client:
                    self.answer_all(client)
        except OSError:
            pass  # the test is over

    def answer_all(self, client):
        with client.makefile("rwb") as stream:
            while length := stream.read(4):
                number, _, request_id = struct.unpack_from(">HHI", stream.read(struct.unpack(">I", length)[0]))
                if number == support.HELLO:
                    stream.write(support.frame(support.WELCOME, request_id, [(1, support.u16(1)), (2, b"kek"), (4, support.u32(73728)), (5, support.u32(128))]))
                else:
                    stream.write(support.frame(support.REPORT, request_id, [(1, json.dumps(self.reports[number]).encode())]))
                stream.flush()


class RestartingDaemon(ReportingDaemon):
    """Ends its first session unanswered, says in the second one that it stops, and answers PING from the third on, as one that is restarted twice."""

    def __init__(self, path, *, ends=1, stops=1):
        super().__init__(path, None, None)
        self.ends, self.stops, self.n_sessions = ends, stops, 0

    def answer_all(self, client):
        self.n_sessions += 1
        with client.makefile("rwb") as stream:
            while length := stream.read(4):
                number, _, request_id = struct.unpack_from(">HHI", stream.read(struct.unpack(">I", length)[0]))
                if self.n_sessions <= self.ends:
                    return
                if number == support.HELLO:
                    stream.write(support.frame(support.WELCOME, request_id, [(1, support.u16(1)), (2, b"kek"), (4, support.u32(73728)), (5, support.u32(128))]))
                elif self.n_sessions <= self.ends + self.stops:
                    stream.write(support.frame(support.ERROR, request_id, [(1, support.u16(13)), (2, b"The daemon is stopping.")]))
                else:
                    stream.write(support.frame(support.DONE, request_id))
                stream.flush()


class Restarts(support.Case):
    def test_a_request_whose_session_a_restart_ends_is_answered_by_the_next_daemon(self):
        with RestartingDaemon(self.path("restarting.sock")) as daemon:
            done = lkmctl("--socket", daemon.path, "ping")
        self.assertEqual((done.returncode, daemon.n_sessions), (0, 3), done.stderr)
        self.assertNotIn(b"lkmctl: ", done.stderr)  # valgrind may speak there

    def test_a_daemon_that_never_answers_is_not_asked_for_ever(self):
        for ends, stops in ((99, 0), (0, 99)):
            with RestartingDaemon(self.path(f"{ends}.sock"), ends=ends, stops=stops) as daemon:
                done = lkmctl("--socket", daemon.path, "ping")
            self.assertEqual((done.returncode, daemon.n_sessions), (4, 3))


class Commands(DaemonCase):
    def ctl(self, *arguments, status=0, **options):
        done = lkmctl("--socket", self.socket, *arguments, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def create(self, name):  # pylint: disable=arguments-differ
        return json.loads(self.ctl("--json", "create", "--scope", "medical", self.path(name)))

    def test_every_command_answers_people_and_programs(self):
        made = self.create("a.db")
        database = self.path("a.db")
        self.assertEqual((made["scope"], made["version"]), ("medical", 1))
        for arguments in (["status"], ["list"], ["ping"], ["check", database], ["explain", database], ["explain", "--scope", "billing"]):
            self.assertIn(b"\n", self.ctl(*arguments))
            self.assertIsInstance(json.loads(self.ctl("--json", *arguments)), dict)
        self.assertEqual(json.loads(self.ctl("--json", "list"))["keys"][0]["database_id"], made["database_id"])
        self.assertEqual(json.loads(self.ctl("--json", "evict", database))["evicted"], 1)
        self.assertEqual(json.loads(self.ctl("--json", "evict", database))["evicted"], 0)
        self.ctl("get", database)
        self.assertEqual(json.loads(self.ctl("--json", "evict", "--id", made["database_id"]))["evicted"], 1)
        self.ctl("lock")
        self.ctl("get", database, status=3)
        self.ctl("unlock")
        self.ctl("get", database)

    def test_a_label_stays_with_the_database_and_its_audit_records(self):
        database, log = self.path("ward.db"), self.path("audit.jsonl")
        self.ctl("create", "--scope", "medical", "--label", "Ward 3", database)
        self.ctl("get", database)
        self.ctl("evict", database)
        self.ctl("get", database)  # from the record, not from memory
        self.ctl("rewrap", database)
        self.assertRegex(self.ctl("check", database), rb"label +Ward 3\n")
        lines = [json.loads(line) for line in self.read(log).splitlines()]
        self.assertEqual([line["event"] for line in lines if line.get("label") == "Ward 3"], ["create", "release", "release", "release", "rewrap", "check"])
        shown = lkmctl("audit", "show", "--file", log, "--database", "Ward 3")
        self.assertEqual(shown.stdout.count(b"Ward 3"), 6, shown.stdout)
        for label in ("", "x" * 65, "two\nlines"):
            self.assertIn(b"--label takes", self.ctl("create", "--scope", "medical", "--label", label, self.path("other.db"), status=2))

    def test_keks_are_listed_described_and_checked(self):
        rows = self.ctl("kek", "list").decode().splitlines()
        self.assertEqual(re.split(r" {2,}", rows[0]), ["NAME", "TYPE", "USABLE", "SINCE", "KEK ID", "LAST ERROR"])
        self.assertRegex(rows[1], r"^local +local +yes +\d{4}-\S+Z +local:\S+ +-$")
        self.assertEqual(len(rows), 3)
        self.assertEqual([kek["name"] for kek in json.loads(self.ctl("--json", "kek", "list"))["keks"]], ["local", "other"])
        self.assertRegex(self.ctl("kek", "describe", "other").decode(), r"(?s)^name +other\n.*\nusable +yes\n")
        self.assertEqual(json.loads(self.ctl("kek", "describe", "other", "--json"))["keks"][0]["name"], "other")
        checked = self.ctl("kek", "check", "local").decode()
        self.assertEqual(re.findall(r"^(\w+) +yes +- +-$", checked, re.M), ["generate", "unwrap", "context", "wrap", "rewrap"])
        self.assertRegex(checked, r"KEK local \(local:\S+\) does all that lkm needs\n$")
        self.assertTrue(json.loads(self.ctl("--json", "kek", "check", "local"))["usable"])

    def test_kek_that_is_not_usable_is_told_by_exit_code_6(self):
        self.assertIn(b"permissions of its file", self.ctl("kek", "policy", "local", status=6))
        self.assertIn(b"[kek nowhere]", self.ctl("kek", "check", "nowhere", status=6))
        self.finish(self.kms)
        os.unlink(self.path("other-kek"))
        self.kms = self.start_ready("lkm-kms")
        self.assertIn(b"other-kek", self.ctl("kek", "check", "other", status=6))
        for arguments in (["list"], ["describe", "other"]):
            done = lkmctl("--socket", self.socket, "kek", *arguments)
            self.assertEqual(done.returncode, 6)
            self.assertIn(b"other-kek", done.stdout)
        self.ctl("kek", "describe", "local")

    def test_report_of_a_check_names_the_missing_permission(self):
        report = {"kek": "k", "kek_id": "arn:x", "usable": False, "steps": [
            {"step": "generate", "done": False, "error": "KMS_DENIED", "sentence": "it refused", "permission": "kms:GenerateDataKey on arn:x"},
            {"step": "unwrap", "done": True, "error": "", "sentence": "", "permission": ""}]}
        with ReportingDaemon(self.path("fake.sock"), report, {"kek": "k", "type": "aws", "policy": '{\n  "Statement": []\n}'}) as fake:
            done = lkmctl("--socket", fake.path, "kek", "check", "k")
            self.assertEqual(done.returncode, 6, done.stderr)
            self.assertRegex(done.stdout.decode(), r"(?m)^generate +no +kms:GenerateDataKey on arn:x +it refused$")
            self.assertRegex(done.stdout.decode(), r"KEK k \(arn:x\) does not do all that lkm needs\n$")
            self.assertEqual(lkmctl("--socket", fake.path, "kek", "policy", "k").stdout, b'{\n  "Statement": []\n}\n')
            self.assertEqual(lkmctl("--socket", fake.path, "--json", "kek", "check", "k").returncode, 6)

    def test_formats_are_one_key(self):
        self.create("a.db")
        raw, text, pragma = (self.ctl("get", "--format", name, self.path("a.db")) for name in ("raw", "hex", "pragma"))
        self.assertEqual(text.decode(), raw.hex() + "\n")
        self.assertEqual(pragma.decode(), f"x'{raw.hex()}'\n")

    def test_terminal_gets_no_key(self):
        self.create("a.db")
        leader, follower = pty.openpty()
        arguments = [LKMCTL, "--socket", self.socket, "get", self.path("a.db")]
        done = subprocess.run(arguments, stdout=follower, stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 2)
        done = subprocess.run(arguments + ["--force"], stdout=follower, stderr=subprocess.PIPE, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0)
        shown = b""
        while not shown.endswith(b"\n"):  # a terminal hands it over in pieces
            shown += os.read(leader, 200)
        self.assertRegex(shown.decode(), r"^[0-9a-f]{64}\r\n$")
        os.close(leader)
        os.close(follower)

    def test_exit_codes_tell_what_failed(self):
        self.create("a.db")
        self.ctl("create", "--scope", "medical", self.path("a.db"), status=5)
        self.ctl("get", self.path("b.db"), status=5)
        self.ctl("create", self.path("b.db"), status=2)  # two scopes are open
        self.ctl("create", "--scope", "closed", self.path("b.db"), status=3)
        self.ctl("create", "--scope", "nowhere", self.path("b.db"), status=2)
        for wrong in ([], ["nothing"], ["get"], ["ping", "x"], ["--nothing", "ping"], ["ping", "--force"], ["--timeout", "x", "ping"],
                      ["get", "--format", "x", "y"], ["evict"], ["explain"], ["get", "--json", self.path("a.db")],
                      ["kek"], ["kek", "nothing"], ["kek", "check"], ["kek", "list", "x"], ["kek", "check", "a", "b"], ["kek list"]):
            self.ctl(*wrong, status=2)
        error = json.loads(lkmctl("--socket", self.path("no.sock"), "--json", "ping").stderr.splitlines()[-1])
        self.assertEqual((error["code"], error["error"]), (101, "NO_DAEMON"))
        self.assertEqual(lkmctl("--socket", self.path("no.sock"), "ping").returncode, 4)
        self.ctl("evict", self.path("a.db"))
        self.finish(self.kms)
        self.ctl("get", self.path("a.db"), status=6)

    def test_shell_is_keyed_without_showing_the_key(self):
        self.create("a.db")
        key = self.ctl("get", self.path("a.db")).decode().strip()
        out = self.ctl("sqlcipher", self.path("a.db"), input=b"CREATE TABLE t(x);\nINSERT INTO t VALUES('row');\nSELECT x FROM t;\n")
        self.assertEqual(out, b"row\n")
        with open(self.path("a.db"), "rb") as file:
            self.assertNotIn(b"row", file.read())
        self.assertEqual(self.ctl("sqlcipher", self.path("a.db"), "SELECT x FROM t"), b"row\n")
        self.assertEqual(self.ctl("sqlcipher", self.path("a.db"), "--", "-csv", "-header", "SELECT x FROM t").split(), [b"x", b"row"])
        # The shell tells of itself: its arguments and environment are those of /proc.
        shell = subprocess.Popen([LKMCTL, "--socket", self.socket, "sqlcipher", self.path("a.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        shell.stdin.write(b"SELECT 'ready';\n")
        shell.stdin.flush()
        self.assertEqual(shell.stdout.readline(), b"ready\n")
        for name in ("cmdline", "environ"):
            with open(f"/proc/{shell.pid}/{name}", "rb") as file:
                self.assertNotIn(key.encode(), file.read())
        shell.communicate(timeout=TIMEOUT)

    def test_shell_works_on_a_terminal(self):
        self.create("a.db")
        leader, follower = pty.openpty()
        process = subprocess.Popen([LKMCTL, "--socket", self.socket, "sqlcipher", self.path("a.db")], stdin=follower, stdout=follower,
                                   stderr=follower, start_new_session=True)
        os.close(follower)
        os.write(leader, b"CREATE TABLE t(x); INSERT INTO t VALUES(6*7); SELECT 'is ' || x FROM t;\n.quit\n")
        seen = b""
        try:
            while True:
                seen += os.read(leader, 4096)
        except OSError:
            pass  # the shell has gone
        os.close(leader)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertIn(b"is 42", seen)


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.help = lkmctl("--help").stdout.decode()
        # Of two words where the second one is no argument: those are in capitals.
        self.commands = re.findall(r"^  ([a-z]+(?: [a-z]+)?)", self.help.split("Options:")[0], re.MULTILINE)
        self.options = dict(re.findall(r"^  (--[a-z-]+).*?(?:\[([a-z ]+)\])?$", self.help.split("Options:")[1], re.MULTILINE))

    def complete(self, *words):
        script = f"source {COMPLETION}; COMP_WORDS=(lkmctl \"$@\"); COMP_CWORD=$#; _lkmctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", script, "bash", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=TIMEOUT)
        return sorted(done.stdout.split())

    def test_help_lists_exit_codes(self):
        self.assertEqual(re.findall(r"^  (\d) ", self.help.split("Exit codes:")[1], re.MULTILINE), list("0123456"))
        self.assertRegex(lkmctl("--version").stdout.decode(), r"^lkmctl \d+\.\d+")

    def test_completion_knows_every_command(self):
        self.assertGreater(len(self.commands), 8)
        self.assertEqual(self.complete(""), sorted({name.split()[0] for name in self.commands}))
        groups = {name.split()[0] for name in self.commands if " " in name}
        self.assertEqual(groups, {"kek", "audit"})
        for group in groups:
            self.assertEqual(self.complete(group, ""), sorted(name.split()[1] for name in self.commands if name.startswith(group + " ")))
        self.assertEqual(self.complete("--json", "kek", "de"), ["describe"])
        self.assertEqual(self.complete("--json", "cr"), ["create"])

    def test_completion_knows_every_option_of_each_command(self):
        for command in self.commands:
            expected = sorted(name for name, of in self.options.items() if not of or command.split()[0] in of.split())
            self.assertEqual(self.complete(*command.split(), "--"), expected, command)
        self.assertEqual(self.complete("get", "--format", ""), ["hex", "pragma", "raw"])
        self.assertEqual(self.complete("audit", "export", "--format", ""), ["csv", "json"])


if __name__ == "__main__":
    unittest.main()
