# SPDX-License-Identifier: Apache-2.0
"""The services, as an administrator gets them with the packages: started by their sockets, watched, confined, and of use to a program of a user."""
import os
import re
import unittest

import support
from machine import until

ROW = "Ada Lovelace"
MAIN_JOB = f"""
lkmctl create patients.db
echo "CREATE TABLE patient(name); INSERT INTO patient VALUES('{ROW}');" | lkmctl sqlcipher patients.db
echo "SELECT name FROM patient;" | lkmctl sqlcipher patients.db
"""


class MainJob(support.SystemCase):
    def test_a_service_with_a_user_of_its_own_opens_its_database_and_another_user_is_refused(self):
        self.assertIn(ROW, self.clinic(MAIN_JOB))
        with open(self.machine.path("/var/lib/clinic/patients.db"), "rb") as file:
            self.assertNotIn(ROW.encode(), file.read())
        # The other one even has a copy of the record.
        self.run_in("install", "-d", "-o", "other", "/var/lib/other")
        self.run_in("install", "-o", "other", "-m", "600", "/var/lib/clinic/patients.db.key", "/var/lib/other/patients.db.key")
        denied = self.run_as("other", "lkmctl", "get", "/var/lib/other/patients.db", check=False)
        self.assertRegex(denied.stdout, "(?i)denied|allow")
        self.assertNotRegex(denied.stdout, r"[0-9a-f]{64}")
        self.assertEqual(denied.returncode, 3)

    def test_root_is_allowed_no_key_that_no_rule_allows_it(self):
        path = self.database("root.db")
        self.assertEqual(self.run_in("lkmctl", "check", path, check=False).returncode, 3)


class Activation(support.SystemCase):
    def test_a_connection_starts_lkmd_and_its_first_question_starts_lkm_kms(self):
        self.run_in("systemctl", "stop", "lkmd.service", "lkm-kms.service")
        self.assertEqual(self.show("lkmd.socket", "ActiveState"), "active")
        self.assertEqual(self.show("lkm-kms.socket", "ActiveState"), "active")
        self.run_as("clinic", "lkmctl", "ping")
        self.assertEqual(self.show("lkmd.service", "ActiveState"), "active")
        self.assertEqual(self.show("lkm-kms.service", "ActiveState"), "inactive")
        self.database("activated.db")
        self.assertEqual(self.show("lkm-kms.service", "ActiveState"), "active")

    def test_nobody_but_lkmd_reaches_the_socket_of_lkm_kms(self):
        for user in ("clinic", "other"):
            said = self.run_as(user, "lkmctl", "--socket", "/run/lkm/kms.sock", "ping", check=False)
            self.assertNotEqual(said.returncode, 0)


class Watchdog(support.SystemCase):
    def test_a_daemon_that_hangs_is_killed_and_started_again_and_clients_go_on(self):
        for unit in ("lkmd.service", "lkm-kms.service"):
            with self.subTest(unit=unit):
                self.machine.write(f"/run/systemd/system/{unit}.d/watchdog.conf", "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
                self.run_in("systemctl", "daemon-reload")
                self.run_in("systemctl", "stop", unit)
                path = self.database(f"{unit}.db")
                before = int(self.show(unit, "NRestarts"))
                self.run_in("systemctl", "kill", "--kill-who=main", "--signal=SIGSTOP", unit)
                # What comes meanwhile waits in the socket, which systemd keeps.
                self.run_as("clinic", "lkmctl", "--timeout", "50", "ping")
                self.until_restarted(unit, before)
                self.assertEqual(self.show(unit, "Result"), "success")
                self.assertIn("watchdog", self.journal(unit).lower())
                self.run_in("lkmctl", "evict", path, check=False)
                self.run_as("clinic", "lkmctl", "check", path)

    def test_a_daemon_that_is_killed_is_started_again(self):
        self.run_as("clinic", "lkmctl", "ping")
        before = int(self.show("lkmd.service", "NRestarts"))
        self.run_in("systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", "lkmd.service")
        self.run_as("clinic", "lkmctl", "ping")
        self.until_restarted("lkmd.service", before)


class InForce(support.SystemCase):
    def test_each_daemon_runs_as_a_user_of_its_own_without_capabilities_and_under_a_filter(self):
        self.database("inforce.db")
        users = set()
        for unit in ("lkmd.service", "lkm-kms.service"):
            with self.subTest(unit=unit):
                status = dict(re.findall(r"^(\w+):\s+(.*)$", self.machine.read(f"/proc/{self.process(unit)}/status"), re.M))
                users.add(status["Uid"])
                self.assertNotIn("0", status["Uid"].split())
                self.assertNotIn("0", status["Gid"].split())
                for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                    self.assertEqual(int(status[capabilities], 16), 0, capabilities)
                self.assertEqual(status["NoNewPrivs"], "1")
                self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(len(users), 2)

    def test_lkmd_has_no_network(self):
        self.run_as("clinic", "lkmctl", "ping")
        pid = self.process("lkmd.service")
        inside = lambda process: os.readlink(self.machine.path(f"/proc/{process}/ns/net"))
        self.assertNotEqual(inside(pid), inside(1))
        interfaces = self.machine.read(f"/proc/{pid}/net/dev").splitlines()[2:]
        self.assertEqual([line.split(":")[0].strip() for line in interfaces], ["lo"])

    def test_the_status_tells_what_of_it_is_in_force(self):
        sandbox = self.status()["sandbox"]
        self.assertEqual(sandbox["seccomp"], "kill-process")
        self.assertLessEqual(sandbox["seccomp_calls"], 40)
        self.assertEqual({name: sandbox[name] for name in ("network", "no_new_privs", "capabilities", "core_limit")},
                         {"network": "unix", "no_new_privs": True, "capabilities": 0, "core_limit": 0})
        self.assertFalse(sandbox["dumpable"])

    def test_keys_lie_in_locked_memory(self):
        self.run_as("clinic", "lkmctl", "ping")
        status = self.machine.read(f"/proc/{self.process('lkmd.service')}/status")
        maps = self.machine.read(f"/proc/{self.process('lkmd.service')}/maps")
        self.assertTrue("secretmem" in maps or int(re.search(r"^VmLck:\s+(\d+)", status, re.M).group(1)) > 0)


class Restart(support.SystemCase):
    def test_restarts_and_reloads_under_load_fail_no_request(self):
        path = self.database("load.db")
        with support.Load(self.machine, path) as load:
            for _ in range(10):
                self.run_in("systemctl", "restart", "lkmd.service")
            for _ in range(5):
                self.run_in("systemctl", "reload", "lkmd.service")
            for _ in range(3):
                self.run_in("systemctl", "restart", "lkm-kms.service")
        self.assertEqual((load.result["failed"], load.result["first"]), (0, ""))
        self.assertGreater(load.result["requests"], 100)

    def test_a_reload_brings_a_new_policy_and_a_wrong_one_keeps_the_old(self):
        path = self.database("reload.db")
        self.addCleanup(setattr, type(self), "configured", None)
        self.machine.write(self.config_path, self.config + "no_such_option = 1\n")
        self.run_in("systemctl", "reload", "lkmd.service", check=False)
        until(lambda: "no_such_option" in self.journal("lkmd.service"), "the journal names the mistake")
        self.run_as("clinic", "lkmctl", "check", path)
        self.machine.write(self.config_path, self.config.replace("user:clinic", "user:other"))
        self.run_in("systemctl", "reload", "lkmd.service")
        until(lambda: self.run_as("clinic", "lkmctl", "check", path, check=False).returncode == 3, "the new policy is in force")


if __name__ == "__main__":
    unittest.main()
