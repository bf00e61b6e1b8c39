# SPDX-License-Identifier: Apache-2.0
"""One uid attacks lkmd by every means at once, and another one uses it meanwhile: what does that one notice?

    hostile.py BUILD-FOLDER [SECONDS [LKMD]]        LKMD: another build's, to compare with

The victim asks for a cached key every 200 us, and opens a new connection for every hundredth; `hostile-victim` times each. First it does so alone
(quiet), then beside `hostile-attack` with 10,000 connections (attacked), then alone again, all with the same daemons. The figure is the ratio of both
99th percentiles, quiet being the mean of before and after.

A process that burns a processor slows down whoever shares it, lkmd or not. That is for the kernel's scheduler to divide, and not what is measured. So lkmd
and lkm-kms have one processor, the attacker another one, and the victim, which hardly needs any, may have that of the attacker whenever it wants it
(SCHED_FIFO). All others are at nice -20, so that what else this machine does counts little. For comparison: the same attack, with the same pinning, on
another lkmd than the victim's, which is what the machine alone makes of it.

Then lkmd is left without descriptors (RLIMIT_NOFILE), and 10,000 clients come, are sent away and come no more: how much time of a processor does lkmd need in
the second after that? Needs root, to be two users, and two processors.
"""
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
os.environ["LKM_BUILD_DIR"] = sys.argv[1]
from support import Client, Notify  # pylint: disable=wrong-import-position

SKIPPED = 77
ATTACKER, VICTIM = 65534, 65533
CONNECTIONS = 10000
QUIET_SECONDS = 10
CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
log_level = error
[kms]
idle_exit = 0
[kek local]
kms_type = local
kek_file = {directory}/kek
[scope victim]
keks = local
allow = uid:{victim}
[scope attacker]
keks = local
allow = uid:{attacker}
"""
build = sys.argv[1]
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
lkmd_path = sys.argv[3] if len(sys.argv) > 3 else f"{build}/daemon/lkmd"
cpus = sorted(os.sched_getaffinity(0))


def become(uid, cpu, descriptors=None, real_time=False):
    def child():
        os.sched_setaffinity(0, {cpu})
        os.nice(-20)
        if real_time:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
    return child


class Daemons:
    """lkmd and lkm-kms in a folder of their own."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="lkm-hostile-")
        os.chmod(self.directory, 0o755)
        subprocess.run([f"{build}/daemon/kms/lkm-kms", "--generate-kek", f"{self.directory}/kek"], check=True, stdout=subprocess.DEVNULL)
        with open(f"{self.directory}/lkmd.conf", "w") as file:
            file.write(CONFIG.format(directory=self.directory, victim=VICTIM, attacker=ATTACKER))
        self.socket = f"{self.directory}/lkm.sock"
        self.kms = self.start(f"{build}/daemon/kms/lkm-kms")
        self.lkmd = self.start(lkmd_path)

    def start(self, program):
        notify = Notify(self.directory)
        process = subprocess.Popen([program, "--config", f"{self.directory}/lkmd.conf"], env={**os.environ, "NOTIFY_SOCKET": notify.path},
                                   preexec_fn=become(0, cpus[-1]))
        notify.wait("READY=1")
        notify.close()
        os.unlink(notify.path)
        return process

    def status(self, member):
        """A line of /proc/PID/status, in KiB."""
        with open(f"/proc/{self.lkmd.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(member))

    def processor_seconds(self):
        with open(f"/proc/{self.lkmd.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.lkmd, self.kms):
            process.terminate()
            process.wait()
        shutil.rmtree(self.directory)


def victim(daemons, n_seconds):
    done = subprocess.run([f"{build}/tests/bench/hostile-victim", daemons.socket, str(n_seconds)], check=True, stdout=subprocess.PIPE,
                          preexec_fn=become(VICTIM, cpus[0], real_time=True), timeout=n_seconds * 20 + 60)
    return json.loads(done.stdout)


def attack(daemons, n_seconds):
    return subprocess.Popen([f"{build}/tests/bench/hostile-attack", daemons.socket, str(n_seconds), str(CONNECTIONS)], stdout=subprocess.PIPE,
                            preexec_fn=become(ATTACKER, cpus[0], CONNECTIONS + 64))


def show(name, f):
    print(f"{name:28} {f['median']:>9.1f} us {f['p99']:>10.1f} us {f['connect_median']:>10.1f} us {f['connect_p99']:>10.1f} us {f['gets'] + f['connects']:>8} "
          f"{f['refused']:>8}", flush=True)


def without_descriptors(daemons):
    """Return: seconds of a processor that lkmd needs in a second after CONNECTIONS clients were sent away; how many were."""
    limits = resource.prlimit(daemons.lkmd.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemons.lkmd.pid, resource.RLIMIT_NOFILE, (100, limits[1]))
    clients, away = [], 0
    for _ in range(CONNECTIONS):
        client = Client(daemons.socket, greet=False)
        clients.append(client)
        if len(clients) > 200:
            clients.pop(100).socket.close()
            away += 1
    begin = daemons.processor_seconds()
    select.select([], [], [], 2)  # what is measured is what happens while nothing does
    used = (daemons.processor_seconds() - begin) / 2
    resource.prlimit(daemons.lkmd.pid, resource.RLIMIT_NOFILE, limits)
    return used, away


def main():
    if os.getuid() != 0:
        print("skipped: becoming two other users needs root")
        sys.exit(SKIPPED)
    if len(cpus) < 2:
        print("skipped: the attacker needs a processor of its own, and there is one")
        sys.exit(SKIPPED)
    print(f"{'':28} {'get':>12} {'p99':>13} {'connect+get':>13} {'p99':>13} {'asked':>8} {'refused':>8}", flush=True)
    with Daemons() as daemons, Daemons() as others:
        measure(daemons, others)


def measure(daemons, others):
    before = victim(daemons, QUIET_SECONDS)
    show("quiet, before", before)
    attacker = attack(others, QUIET_SECONDS + 2)
    floor = victim(daemons, QUIET_SECONDS)
    show("another lkmd attacked", floor)
    attacker.communicate()
    idle = daemons.status("VmRSS:")
    attacker = attack(daemons, seconds + 2)
    spent = daemons.processor_seconds()
    try:
        attacked = victim(daemons, seconds)
    except subprocess.CalledProcessError:
        sys.exit("the victim got no key at all while lkmd was attacked")
    spent = (daemons.processor_seconds() - spent) / seconds
    rss = daemons.status("VmHWM:")
    show("attacked", attacked)
    counts = json.loads(attacker.communicate()[0])
    after = victim(daemons, QUIET_SECONDS)
    show("quiet, after", after)
    quiet = (before["p99"] + after["p99"]) / 2
    spinning, away = without_descriptors(daemons)
    print(f"attacker: {counts}")
    print(f"{'p99 attacked / quiet':28} {attacked['p99'] / quiet:>9.2f}     target <= 2")
    print(f"{'refused to the victim':28} {attacked['refused']:>9}     target 0")
    print(f"{'lkmd resident, at most':28} {rss / 1024:>9.1f} MiB target <= 32 (before the attack {idle / 1024:.1f})")
    print(f"{'processor of lkmd, attacked':28} {spent:>9.2f}")
    print(f"{'without descriptors':28} {spinning:>9.3f}     target 0, of a processor, after {away} were sent away")
    with open(os.path.join(build, "hostile.json"), "w") as file:
        json.dump({"before": before, "floor": floor, "attacked": attacked, "after": after, "ratio": attacked["p99"] / quiet, "rss_kib": rss,
                   "without_descriptors": spinning, "attacker": counts}, file, indent=1)


main()
