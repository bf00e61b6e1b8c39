# SPDX-License-Identifier: Apache-2.0
"""A Debian that runs: an overlay over a root, booted by systemd-nspawn, whose processes and mounts all end with stop()."""
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
import uuid

TIMEOUT = 60

# What lkm needs and systemd-nspawn does not let through by itself.
SYSTEM_CALLS = "@memlock memfd_secret landlock_create_ruleset landlock_add_rule landlock_restrict_self"


def until(condition, what, timeout=TIMEOUT):
    """Ask @condition until it says something true, and return that. @timeout: seconds, which only end a test that hangs."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s")
        threading.Event().wait(0.02)


class ControlGroup:
    """A control group of its own, so that two machines are not in each other's way; systemd-nspawn would take that of its caller. In the hierarchies
    that systemd uses: the unified one, the one of version 1 that is systemd's own, or both."""

    def __init__(self, name):
        self.paths = []
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
        for number, controllers, path in groups:
            if controllers not in ("", "name=systemd"):
                continue
            for mount in mounts:
                kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
                if kind == ("cgroup2" if number == "0" else "cgroup") and (number == "0" or controllers in options):
                    self.paths.append(os.path.join(mount[4] + path, name))
                    break
        for path in self.paths:
            os.mkdir(path)

    def enter(self):
        for path in self.paths:
            with open(os.path.join(path, "cgroup.procs"), "w") as file:
                file.write("0")

    def close(self):
        """Its processes have ended."""
        for path in self.paths:
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)


class Overlay:
    """@lower with changes that are forgotten at the end. @directory: empty, on a file system that forgets."""

    def __init__(self, lower, directory):
        self.path = os.path.join(directory, "root")
        for name in ("upper", "work", "root"):
            os.makedirs(os.path.join(directory, name))
        subprocess.run(["mount", "-t", "overlay", "lkm", "-o", f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work", self.path],
                       check=True)

    def run(self, *command, binds=(), environment=()):
        """Run a command in it that needs no systemd. Return: what it prints."""
        group = ControlGroup("lkm-test")
        done = subprocess.run(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "--resolv-conf=off", "--timezone=off", "-D", self.path,
                               *(f"--bind={bind}" for bind in binds), *(f"--setenv={setting}" for setting in environment), *command],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, preexec_fn=group.enter)
        group.close()
        if done.returncode != 0:
            end = "\n".join(line[:300] for line in done.stdout.splitlines()[-60:])
            raise RuntimeError(f"{shlex.join(command)} in {self.path}: exit status {done.returncode}\n{end}")
        return done.stdout


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def is_init(pid):
    """Whether it is the systemd of a machine: number 1 in a namespace of its own, and the program is loaded."""
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status["Name"] == "systemd" and status["NSpid"].split()[1:] == ["1"]


class Machine:
    """@name: of the host in it, and of nothing else at this moment. @root: path, written to. @binds: "OUTSIDE:INSIDE", read-only."""

    def __init__(self, name, root, binds=()):
        self.root = root
        self.leader = None
        self.group = ControlGroup(name)
        # Without a network, as the holder is promised to need none, and so that no timer of Debian's asks for updates.
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", f"--machine={name}", "--private-network", "--resolv-conf=off",
             "--timezone=off", "--link-journal=no", f"--system-call-filter={SYSTEM_CALLS}", *(f"--bind-ro={bind}" for bind in binds), "-D", root],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=self.group.enter)
        self.console = []
        self.reader = threading.Thread(target=self.read_console, daemon=True)
        self.reader.start()
        try:
            self.leader = until(self.find_leader, "systemd-nspawn starts systemd")
            until(lambda: self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip() in ("running", "degraded"), "systemd boots")
        except BaseException:
            self.stop()
            print("".join(self.console))
            raise

    def read_console(self):
        for line in self.nspawn.stdout:
            self.console.append(line)

    def find_leader(self):
        if self.nspawn.poll() is not None:
            raise RuntimeError(f"systemd-nspawn ended with status {self.nspawn.returncode}")
        return next((pid for pid in children(self.nspawn.pid) if is_init(pid)), None)

    def enter(self, *command):
        return ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", *command]

    def run(self, *command, check=True, text=None):
        """Run a command as root inside. @text: its standard input. Return: the CompletedProcess, with stdout and stderr as one text."""
        done = subprocess.run(self.enter(*command), input=text or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=5 * TIMEOUT, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root", "TERM": "dumb"}, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{shlex.join(command)}: exit status {done.returncode}\n{done.stdout}")
        return done

    def path(self, inside):
        """Where a file of the machine is seen from outside, in its own mounts too (/run, /tmp)."""
        return f"/proc/{self.leader}/root{inside}"

    def read(self, inside):
        with open(self.path(inside), errors="replace") as file:
            return file.read()

    def write(self, inside, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        with open(self.path(inside), "w") as file:
            file.write(text)
        os.chmod(self.path(inside), mode)

    def copy(self, outside, inside):
        shutil.copy(outside, self.path(inside))

    def stop(self):
        """At once, as when the power fails; all its processes end with the first one."""
        if self.leader:
            os.kill(self.leader, signal.SIGKILL)
        elif self.nspawn.poll() is None:
            self.nspawn.kill()
        self.nspawn.wait()
        self.reader.join()
        self.nspawn.stdout.close()
        self.group.close()
