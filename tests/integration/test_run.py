# SPDX-License-Identifier: Apache-2.0
"""lkm-run: both daemons without systemd, and COMMAND between them."""
import os
import select
import signal
import subprocess
import sys
import unittest

from support import CREATE, DONE, GET, KEY, PING, RECORD, STATUS, TIMEOUT, Case, Client, command


def wait_gone(pidfds):
    """Wait for the end of processes that are not ours."""
    for fd in pidfds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(TIMEOUT * 1000), "a process did not end"
        os.close(fd)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class RunCase(Case):
    def setUp(self):
        super().setUp()
        self.environment = dict(os.environ)
        for name in ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"):
            self.environment["XDG_" + name] = self.path(name.lower())
        self.environment.pop("LKM_SOCKET", None)
        self.environment.pop("NOTIFY_SOCKET", None)
        self.socket_path = self.path("runtime_dir/lkm/lkm.sock")
        self.config_path = self.path("config_home/lkm/dev.conf")

    def run_dev(self, *arguments, **options):
        """lkm-run --dev to its end."""
        return self.run_program("lkm-run", "--dev", *arguments, env=self.environment, **options)

    def serve(self, *arguments, **options):
        """lkm-run in the foreground; returns when lkmd is ready."""
        process = self.start(command("lkm-run", *(arguments or ("--dev",))), env=self.environment, stdout=subprocess.PIPE, text=True,
                             **options)
        self.assertEqual(process.stdout.readline(), f"LKM_SOCKET={self.socket_path}; export LKM_SOCKET\n")
        return process

    def client(self):
        client = Client(self.socket_path)
        self.addCleanup(client.socket.close)
        return client

    def lkmd_pid(self):
        with Client(self.socket_path) as client:
            return client.ask(STATUS).json["pid"]

    def pidfds(self, process):
        return [os.pidfd_open(pid) for pid in children(process.pid)]

    def create(self, client):
        reply = client.ask(CREATE)
        self.assertEqual(reply.number, RECORD, reply.sentence)
        return reply.fields[1]

    def get(self, client, record):
        reply = client.ask(GET, [(1, record)])
        self.assertEqual(reply.number, KEY, reply.sentence)
        return reply.fields[1]


class Command(RunCase):
    def test_exit_status_passes_through(self):
        for status in (0, 1, 7, 255):
            done = self.run_dev("--", "sh", "-c", f"exit {status}")
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(self.run_dev("--", "sh", "-c", "kill -KILL $$").returncode, 128 + signal.SIGKILL)
        self.assertEqual(self.run_dev("--", "/nonexistent/program").returncode, 127)
        self.assertEqual(self.run_dev("--", self.directory).returncode, 126)

    def test_command_finds_the_socket_and_keeps_its_stdin_and_stdout(self):
        done = self.run_dev("--", "sh", "-c", 'test -S "$LKM_SOCKET" && echo "$LKM_SOCKET" && cat', input="from stdin")
        self.assertEqual((done.returncode, done.stdout), (0, self.socket_path + "\nfrom stdin"), done.stderr)
        self.assertFalse(os.path.exists(self.socket_path))

    def test_command_is_not_limited_by_what_hardens_the_daemons(self):
        done = self.run_dev("--", "sh", "-c", "umask; grep NoNewPrivs /proc/self/status")
        self.assertEqual(done.stdout.split(), ["%04o" % self.umask(), "NoNewPrivs:", "0"])

    @staticmethod
    def umask():
        mask = os.umask(0o022)
        os.umask(mask)
        return mask

    def test_signals_are_passed_to_the_command(self):
        code = "import signal, sys\nsignal.signal(signal.SIG%s, lambda *_: sys.exit(9))\nprint('waiting', flush=True)\nsignal.pause()"
        for name in ("TERM", "INT"):
            process = self.start(command("lkm-run", "--dev", "--", sys.executable, "-c", code % name), env=self.environment,
                                 stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "waiting\n")
            process.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(process.wait(TIMEOUT), 9)

    def test_failure_to_start_is_told_from_the_command_s(self):
        path = self.write("bad.conf", "[lkmd]\nnonsense = 1\n")
        done = self.run_program("lkm-run", "--config", path, "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("bad.conf:2", done.stderr)
        self.assertEqual(self.run_program("lkm-run", "--config", path).returncode, 1)
        self.assertEqual(self.run_program("lkm-run", "--dev", "--config", path).returncode, 2)
        # A configuration that only lkmd itself finds wrong: no endless restarts.
        path = self.write("audit.conf", f"[lkmd]\nsocket = {self.path('a.sock')}\nkms_socket = {self.path('k.sock')}\n"
                                        f"audit_file = {self.path('no/such/folder/audit.jsonl')}\n")
        done = self.run_program("lkm-run", "--config", path, "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("before it was ready", done.stderr)
        self.assertFalse(os.path.exists(self.path("a.sock")))
        self.assertFalse(os.path.exists(self.path("k.sock")))


class Dev(RunCase):
    def test_what_exists_is_kept(self):
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        kek_path = self.path("data_home/lkm/dev.kek")
        with open(self.config_path, "a") as file:
            file.write("# mine\n")
        before = self.read(self.config_path), self.read(kek_path)
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        self.assertEqual((self.read(self.config_path), self.read(kek_path)), before)
        os.unlink(self.config_path)
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        self.assertEqual(self.read(kek_path), before[1])

    def test_everything_is_private(self):
        self.serve()
        for name in ("config_home/lkm", "data_home/lkm", "state_home/lkm", "runtime_dir/lkm"):
            self.assertEqual(os.stat(self.path(name)).st_mode & 0o7777, 0o700, name)
        for name in ("config_home/lkm/dev.conf", "data_home/lkm/dev.kek", "state_home/lkm/audit.jsonl", "runtime_dir/lkm/lkm.sock",
                     "runtime_dir/lkm/kms.sock"):
            self.assertEqual(os.stat(self.path(name)).st_mode & 0o777, 0o600, name)

    def test_a_lost_kek_is_never_replaced(self):
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        os.unlink(self.path("data_home/lkm/dev.kek"))
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        self.assertFalse(os.path.exists(self.path("data_home/lkm/dev.kek")))


class Life(RunCase):
    def test_key_outlives_a_restart_of_everything(self):
        process = self.serve()
        with self.client() as client:
            record = self.create(client)
            key = self.get(client, record)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.serve()
        self.assertEqual(self.get(self.client(), record), key)

    def test_clean_end(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.serve()
            self.create(self.client())  # so that lkm-kms runs
            pidfds = self.pidfds(process)
            self.assertEqual(len(pidfds), 2)
            process.send_signal(number)
            self.assertEqual(process.wait(TIMEOUT), 0)
            wait_gone(pidfds)
            self.assertEqual(os.listdir(self.path("runtime_dir/lkm")), [])

    def test_killed_lkmd_is_started_again_and_clients_just_wait(self):
        self.serve(stderr=subprocess.DEVNULL)
        record = self.create(self.client())
        key = self.get(self.client(), record)
        for _ in range(3):
            pid = self.lkmd_pid()
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(self.get(self.client(), record), key)
            self.assertNotEqual(self.lkmd_pid(), pid)

    def test_killed_kms_is_started_again(self):
        process = self.serve(stderr=subprocess.DEVNULL)
        client = self.client()
        self.create(client)
        for _ in range(3):
            kms, = set(children(process.pid)) - {self.lkmd_pid()}
            pidfd = os.pidfd_open(kms)
            os.kill(kms, signal.SIGKILL)
            wait_gone([pidfd])
            self.create(client)

    def test_kms_is_started_on_demand_and_again_after_its_idle_exit(self):
        self.assertEqual(self.run_dev("--", "true").returncode, 0)
        with open(self.config_path, "a") as file:
            file.write("[kms]\nidle_exit = 10ms\n")
        process = self.serve(stderr=subprocess.DEVNULL)
        self.assertEqual(children(process.pid), [self.lkmd_pid()])
        client = self.client()
        for _ in range(3):
            self.create(client)
            others = set(children(process.pid)) - {self.lkmd_pid()}
            wait_gone([os.pidfd_open(pid) for pid in others])

    def test_second_one_is_refused(self):
        self.serve()
        done = self.run_dev("--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("already served", done.stderr)
        self.assertEqual(self.client().ask(PING).number, DONE)

    def test_nothing_stays_behind_a_killed_lkm_run(self):
        process = self.serve()
        self.create(self.client())
        pidfds = self.pidfds(process)
        process.kill()
        process.wait(TIMEOUT)
        wait_gone(pidfds)
        self.serve()  # takes the place of the stale sockets
        self.create(self.client())

    def test_hup_and_usr1_reach_lkmd(self):
        process = self.serve(stderr=subprocess.PIPE)
        client = self.client()
        self.get(client, self.create(client))
        with open(self.config_path, "a") as file:
            file.write("[scope second]\nkeks = local\n")
        process.send_signal(signal.SIGHUP)
        self.read_until(process.stderr, " again, ")
        self.assertIn("second", client.ask(STATUS).json["scopes"])
        self.assertEqual(client.ask(STATUS).json["cache"]["keys"], 1)
        process.send_signal(signal.SIGUSR1)
        self.read_until(process.stderr, "SIGUSR1")
        self.assertEqual(client.ask(STATUS).json["cache"]["keys"], 0)

    def read_until(self, stream, text):
        seen = b""
        while text.encode() not in seen:
            ready, _, _ = select.select([stream], [], [], TIMEOUT)
            more = os.read(stream.fileno(), 4096) if ready else b""
            if not more:
                self.fail(f"no line has {text!r}: {seen}")
            seen += more


if __name__ == "__main__":
    unittest.main(verbosity=2)
