# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks against daemons of their own, everything pinned to one CPU; prints a table and writes bench.json.

    bench.py BUILD-FOLDER
"""
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
admin = uid:{uid}
{lkmd}
[kms]
idle_exit = 0
[kek local]
kms_type = local
kek_file = {directory}/kek
[scope bench]
keks = local
encryption_context = purpose=medical-db environment=production
cache_ttl = 24h
cache_max_age = 24h
allow = uid:{uid}
"""
build = sys.argv[1]
figures = os.path.join(build, "bench.jsonl")


def under_lkm(directory, *arguments, lkmd=("",)):
    """A program under lkm-run, once for each of @lkmd: further options of its lkmd. Return: what it wrote."""
    command = list(arguments)
    for i, options in enumerate(lkmd):
        own = os.path.join(directory, str(i))
        os.makedirs(own, exist_ok=True)
        subprocess.run([f"{build}/daemon/kms/lkm-kms", "--generate-kek", f"{own}/kek"], check=True, stdout=subprocess.DEVNULL)
        with open(f"{own}/lkmd.conf", "w") as file:
            file.write(CONFIG.format(directory=own, uid=os.getuid(), lkmd=options))
        command = [f"{build}/daemon/run/lkm-run", "--config", f"{own}/lkmd.conf", "--", *command]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        for i in range(len(lkmd)):
            shutil.rmtree(os.path.join(directory, str(i)))
    return done.stdout


def resident_when_idle(directory):
    """Kibibytes of lkmd, configured by default, after READY and one status."""
    script = """pid=$("$0" --json status | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
                awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status\""""
    return int(under_lkm(directory, "sh", "-c", script, f"{build}/client/lkmctl"))


def can_lock(n_bytes):
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    return hard == resource.RLIM_INFINITY or hard >= n_bytes


def show(text):
    print(text, end="", flush=True)


def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    open(figures, "w").close()
    print(f"{'':46} {'median':>14} {'p99':>14} {'ratio':>7}  target", flush=True)
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as directory:
        rss = resident_when_idle(directory)
        bench = f"{build}/tests/bench/bench-get"
        sockets = [os.path.join(directory, str(i), "lkm.sock") for i in range(3)]
        show(under_lkm(directory, bench, figures, "get"))
        show(under_lkm(directory, f"{build}/tests/bench/bench-open", figures, directory))
        show(under_lkm(directory, bench, figures, "connections", *sockets, lkmd=("",) * 3))
        if can_lock(8 << 20):
            show(under_lkm(directory, bench, figures, "keys", *sockets, lkmd=("", "", "cache_keys = 100000")))
        else:
            print("cached get, 10 to 100,000 keys: skipped, needs `ulimit -l 8192`")
    print(f"{'lkmd resident, idle':46} {rss / 1024:>10.1f} MiB {'':14} {'':7}  <= 8 MiB")
    with open(figures) as file:
        result = [json.loads(line) for line in file]
    result.append({"name": "lkmd resident, idle", "unit": "KiB", "median": rss, "p99": rss, "ratio": None})
    with open(os.path.join(build, "bench.json"), "w") as file:
        json.dump(result, file, indent=1)
    os.unlink(figures)


try:
    main()
except subprocess.CalledProcessError as error:
    print(error, error.stderr, file=sys.stderr)
    sys.exit(1)
