# SPDX-License-Identifier: Apache-2.0
"""Who is allowed what: by unit, by supplementary group; and where the kernel cannot tell."""
import json
import os
import signal
import socket
import subprocess
import unittest

import cgroups
from cgroups import Cgroup, in_child
from daemons import DaemonCase, nobody
from support import BUILD, COMMIT, EXPLAIN, GET, KEY, PURGE, ROTATE, TIMEOUT, Case, Client, can_unshare_mounts, command, program, u32

SO_PEERPIDFD = 77
PROTOCOL, DENIED, VERSION_UNKNOWN = 1, 10, 24
MY_UNIT = f"lkm-test-{os.getpid()}.service"
MY_INSTANCE = f"lkm-test-{os.getpid()}@a.service"


def kernel_tells_units():
    a, b = socket.socketpair()
    with a, b:
        try:
            os.close(a.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
    return True


def become_nobody(groups=()):
    os.setgroups(groups)
    os.setgid(nobody().pw_gid)
    os.setuid(nobody().pw_uid)


class PolicyCase(DaemonCase):
    def setUp(self):
        super().setUp()
        self.record = self.create(self.client())

    def ask_once(self):
        """0 when a new connection of this process gets the key, else the number of the error."""
        with Client(self.socket) as client:
            reply = client.ask(GET, [(1, self.record)])
            return 0 if reply.number == KEY else reply.error

    def asked_by(self, before):
        return in_child(lambda: bytes([self.ask_once()]), before)[0]

    def audited(self, event):
        lines = map(json.loads, self.read(self.path("audit.jsonl")).splitlines())
        return [line for line in lines if line["event"] == event]


@unittest.skipIf(cgroups.why_not(), cgroups.why_not())
@unittest.skipUnless(kernel_tells_units(), "this kernel has no SO_PEERPIDFD")
class Units(PolicyCase):
    # uid: for the record that the test itself makes, as root; those who ask are nobody.
    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config).replace(f"[scope medical]\nkeks = local\nencryption_context = purpose=test\nallow = uid:{os.getuid()}",
                                              f"[scope medical]\nkeks = local\nencryption_context = purpose=test\n"
                                              f"allow = uid:{os.getuid()} unit:{MY_UNIT} unit:{MY_INSTANCE}")
        self.config = self.write("lkmd.conf", text)

    def cgroup(self, path):
        cgroup = Cgroup(path)
        self.addCleanup(cgroup.remove)
        return cgroup

    def asked_in(self, path):
        cgroup = self.cgroup(path)
        return self.asked_by(lambda: (cgroup.enter(), become_nobody()))

    def test_a_process_of_the_unit_is_allowed_and_others_are_refused(self):
        self.assertEqual(self.asked_in(MY_UNIT), 0)
        self.assertEqual(self.asked_in(MY_INSTANCE), 0)
        self.assertEqual(self.asked_by(become_nobody), DENIED)
        for name in ("lkm-test-other.service", MY_UNIT.replace(".service", ".scope"), MY_INSTANCE.replace("@a", "@b"),
                     MY_INSTANCE.replace("@a", "@"), "x" + MY_UNIT, MY_UNIT + ".d"):
            self.assertEqual(self.asked_in(name), DENIED, name)

    def test_a_cgroup_below_a_unit_does_not_change_whose_it_is(self):
        self.assertEqual(self.asked_in(f"{MY_UNIT}/delegated/lkm-test-other.service"), 0)
        self.assertEqual(self.asked_in(f"lkm-test.slice/lkm-test-a.slice/{MY_UNIT}"), 0)
        for path in (f"lkm-test-other.service/{MY_UNIT}", f"lkm-test-other.service/lkm-test.slice/{MY_UNIT}",
                     f"lkm-test.slice/user@1000.service/app.slice/{MY_UNIT}", f"lkm-test-container/{MY_UNIT}"):
            self.assertEqual(self.asked_in(path), DENIED, path)

    def test_the_unit_is_that_of_the_accepted_connection_and_in_the_audit_log(self):
        self.asked_in(MY_UNIT)
        self.asked_in("lkm-test-other.service")
        release, = [line for line in self.audited("release") if line["uid"] == nobody().pw_uid]
        self.assertEqual((release["unit"], release["reason"]), (MY_UNIT, f"unit:{MY_UNIT}"))
        self.assertEqual(self.audited("deny")[0]["unit"], "lkm-test-other.service")

    def test_a_connection_whose_maker_is_gone_belongs_to_no_unit(self):
        """A process of the unit connects, hands its socket on, and ends; lkmd accepts only then."""
        cgroup = self.cgroup(MY_UNIT)
        ours, theirs = socket.socketpair()
        self.lkmd.send_signal(signal.SIGSTOP)
        self.addCleanup(self.lkmd.send_signal, signal.SIGCONT)

        def connect():
            with socket.socket(socket.AF_UNIX) as left:
                left.connect(self.socket)
                socket.send_fds(theirs, [b"x"], [left.fileno()])
            return b"x"

        in_child(connect, lambda: (cgroup.enter(), become_nobody()))  # waits for its end
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        self.lkmd.send_signal(signal.SIGCONT)
        with Client.__new__(Client) as client:
            client.socket = socket.socket(fileno=fds[0])
            client.socket.settimeout(TIMEOUT)
            client.next_id = 1
            client.ask(1, [(1, b"\0\1"), (2, b"\0\1")])
            self.assertEqual(client.ask(GET, [(1, self.record)]).error, DENIED)
        ours.close()
        theirs.close()

    def test_a_program_started_after_the_connection_is_of_the_same_unit(self):
        """exec(2) changes neither the process nor its unit."""
        cgroup = self.cgroup(MY_UNIT)
        script = ("import os,sys; sys.path.insert(0, sys.argv[1]); from support import Client, GET\n"
                  "record = os.read(0, 65536)\n"
                  "c = Client(sys.argv[2]); print(c.ask(GET, [(1, record)]).number)")
        made = subprocess.run(["python3", "-c", script, os.path.dirname(__file__), self.socket], input=self.record, stdout=subprocess.PIPE,
                              preexec_fn=lambda: (cgroup.enter(), become_nobody()), check=True)
        self.assertEqual(int(made.stdout), KEY)

    def test_a_rule_that_comes_by_a_reload_is_in_force(self):
        """Inside the sandbox, where the kernel cannot be asked any more whether it tells units."""
        other = MY_UNIT.replace(".service", ".scope")
        self.assertEqual(self.asked_in(other), DENIED)
        self.write("lkmd.conf", self.read(self.config).replace(f"unit:{MY_INSTANCE}", f"unit:{other}"))
        self.lkmd.send_signal(signal.SIGHUP)
        while b" again, " not in self.lkmd.stderr.readline():
            pass
        self.assertEqual(self.asked_in(other), 0)
        self.assertEqual(self.asked_in(MY_INSTANCE), DENIED)

    def test_lkmd_in_a_container_believes_no_unit_outside(self):
        """In a cgroup namespace of its own, all others are at /../NAME; what is inside is told from the namespace's root on."""
        inside = self.cgroup("lkm-test-container")
        self.finish(self.lkmd)
        enter = ("import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write('0'); os.execvp('unshare', ['unshare', '--cgroup', *sys.argv[2:]])")
        self.lkmd = self.start_ready("lkmd", ("python3", "-c", enter, inside.path))
        self.assertEqual(self.asked_in(MY_UNIT), DENIED)
        self.assertEqual(self.asked_in(f"lkm-test-container/{MY_UNIT}"), 0)
        self.finish(self.lkmd)  # before its cgroup is removed


    @unittest.skipUnless(can_unshare_mounts(), "there can be no namespace of mounts here")
    def test_where_proc_hides_processes_rules_by_unit_match_nobody_and_it_is_said(self):
        self.finish(self.lkmd)
        os.chown(self.directory, nobody().pw_uid, -1)
        for name in os.listdir(self.directory):
            os.chown(self.path(name), nobody().pw_uid, -1)
        before = os.umask(0)  # the socket of sd_notify(3) is for lkmd, which is another user here
        self.lkmd = self.start_ready("lkmd", ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid "$@"',
                                              "sh", str(nobody().pw_uid), "--regid", str(nobody().pw_gid), "--clear-groups"))
        os.umask(before)
        cgroup = self.cgroup(MY_UNIT)

        def explain():
            with Client(self.socket) as client:
                return client.ask(EXPLAIN, [(2, b"medical")]).fields[1]

        explained = json.loads(in_child(explain, lambda: (cgroup.enter(), os.setgroups([]), os.setgid(54321), os.setuid(54321))))
        self.assertEqual(explained["rights"]["use"], {"allowed": False, "rule": "no rule"})
        while b"/proc hides the processes of clients" not in (line := self.lkmd.stderr.readline()):
            self.assertTrue(line)


class Groups(PolicyCase):
    def test_a_supplementary_group_is_enough_for_a_group_rule(self):
        if os.getuid() != 0:
            self.skipTest("becoming another user needs root")
        self.write("lkmd.conf", self.read(self.config).replace("allow = uid:0", "allow = uid:0 gid:54321"))
        self.lkmd.send_signal(signal.SIGHUP)
        while b" again, " not in self.lkmd.stderr.readline():
            pass
        self.assertEqual(self.asked_by(lambda: become_nobody([54320, 54321])), 0)
        self.assertEqual(self.asked_by(lambda: become_nobody([54320])), DENIED)
        self.assertEqual(self.asked_by(become_nobody), DENIED)
        self.assertEqual(self.audited("release")[-1]["reason"], "gid:54321")


class Recover(DaemonCase):
    scope_options = f"allow_history = uid:{os.getuid()}"

    def test_recovering_gives_the_key_of_any_version_that_there_is(self):
        user = self.client()
        first_record = self.create(user)
        first = self.get(user, first_record)
        both = user.ask(ROTATE, [(1, first_record)]).fields[1]
        second = user.ask(GET, [(1, both), (3, u32(2))]).fields[1]
        for fields, key in (([(1, both)], first), ([(1, both), (3, u32(1))], first), ([(1, both), (3, u32(2))], second)):
            reply = user.ask(GET, [*fields, (4, b"\1")])
            self.assertEqual((reply.number, reply.fields.get(1)), (KEY, key), reply.sentence)
        self.assertEqual(user.ask(GET, [(1, both), (3, u32(3)), (4, b"\1")]).error, VERSION_UNKNOWN)
        self.assertEqual(user.ask(GET, [(1, both), (4, b"\2")]).error, PROTOCOL)
        last = user.ask(COMMIT, [(1, both), (2, u32(2))]).fields[1]
        purged = user.ask(PURGE, [(1, last), (2, u32(1))]).fields[1]
        self.assertEqual(user.ask(GET, [(1, purged), (3, u32(1)), (4, b"\1")]).error, VERSION_UNKNOWN)
        lines = map(json.loads, self.read(self.path("audit.jsonl")).splitlines())
        self.assertEqual([line["version"] for line in lines if line["event"] == "recover"], [1, 1, 2])


class Configuration(Case):
    def check(self, rule, without=None):
        path = self.write("lkmd.conf", f"[kek local]\nkms_type = local\nkek_file = /k\n[scope s]\nkeks = local\nallow = {rule}\n")
        wrapped = [os.path.join(BUILD, "tests/integration/without-option"), str(without), program("lkmd")] if without else command("lkmd")
        done = subprocess.run([*wrapped, "--config", path, "--check-config"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              timeout=TIMEOUT, check=False)
        if done.returncode == 77:
            self.skipTest(done.stderr)
        return done.returncode, done.stderr.replace(path, "CONF")

    @unittest.skipIf(os.environ.get("LKM_SANITIZED"), "sanitizers need more than a filtered kernel gives")
    def test_a_kernel_that_cannot_tell_units_is_a_clear_error(self):
        status, text = self.check("uid:7 unit:clinic.service", SO_PEERPIDFD)
        self.assertEqual(status, 1)
        self.assertTrue(text.startswith("CONF:6: allow = uid:7 unit:clinic.service in [scope s]: this kernel"), text)
        self.assertIn("Linux 6.5 or later", text)
        # Nothing else needs it.
        self.assertEqual(self.check("uid:7", SO_PEERPIDFD), (0, ""))

    @unittest.skipUnless(kernel_tells_units(), "this kernel has no SO_PEERPIDFD")
    def test_a_rule_takes_the_full_name_of_a_unit(self):
        self.assertEqual(self.check("unit:clinic.service unit:clinic@a.service unit:session-3.scope"), (0, ""))
        for name, phrase in (("clinic", "full name"), ("clinic@.service", "name an instance"), ("system.slice", "name the units"),
                             ("a/b.service", "letters"), ("", "letters")):
            status, text = self.check(f"unit:{name}")
            self.assertEqual(status, 1, name)
            self.assertIn("CONF:6: ", text)
            self.assertIn(phrase, text)


if __name__ == "__main__":
    unittest.main()
