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
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
os.environ["LKM_BUILD_DIR"] = sys.argv[1]
from mock_kms import ACCESS_KEY_ID, ROOT_TOKEN, SECRET_ACCESS_KEY, MockKms  # pylint: disable=wrong-import-position
from support import CREATE, GET, KEY, LOCK, UNLOCK, Client  # pylint: disable=wrong-import-position

CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
audit_sync = batch
admin = uid:{uid}
user_rate = 0
{lkmd}
[kms]
idle_exit = 0
[kek bench]
{kek}
[scope bench]
keks = bench
encryption_context = purpose=medical-db environment=production
cache_ttl = 24h
cache_max_age = 24h
allow = uid:{uid}
"""
build = sys.argv[1]
figures = os.path.join(build, "bench.jsonl")


def under_lkm(directory, *arguments, lkmd=("",), kek=None):
    """A program under lkm-run, once for each of @lkmd: further options of its lkmd; @kek: the KEK's options, a local one when None. Return: what it
    wrote."""
    command = list(arguments)
    for i, options in enumerate(lkmd):
        own = os.path.join(directory, str(i))
        os.makedirs(own, exist_ok=True)
        subprocess.run([f"{build}/daemon/kms/lkm-kms", "--generate-kek", f"{own}/kek"], check=True, stdout=subprocess.DEVNULL)
        with open(f"{own}/lkmd.conf", "w") as file:
            file.write(CONFIG.format(directory=own, uid=os.getuid(), lkmd=options, kek=kek or f"kms_type = local\nkek_file = {own}/kek"))
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


# ---- a real KMS: the mock, which can be told to take its time ----

def aws(mock, directory):
    key = mock.control("aws/key", regions=["eu-central-1"])
    credentials = os.path.join(directory, "credentials")
    with open(os.open(credentials, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"[default]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n")
    return f"kms_type = aws\nkek_id = {key['arn']}\nendpoint = {mock.https}\nca_file = {mock.ca}\naws_credentials_file = {credentials}"


def vault(mock, directory):
    for path, body in (("sys/mounts/transit", {"type": "transit"}), ("transit/keys/lkm", {"type": "aes256-gcm96", "derived": True})):
        status, _, text = mock.request("POST", f"/v1/{path}", body, {"X-Vault-Token": ROOT_TOKEN})
        assert status < 300, text
    token = os.path.join(directory, "token")
    with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(ROOT_TOKEN)
    return f"kms_type = vault\naddress = {mock.https}\nca_file = {mock.ca}\nkek_id = lkm\ntoken_file = {token}"


N_COLD, EACH = 1000, 125


def cold_keys(mock_http):
    """In a process of its own, under lkm-run: N_COLD different cold keys at once. Prints the seconds."""
    mock = MockKms.__new__(MockKms)
    mock.http = mock_http
    socket = os.environ["LKM_SOCKET"]
    clients = [Client(socket) for _ in range(N_COLD // EACH)]
    records = [clients[0].ask(CREATE).fields[1] for _ in range(N_COLD)]
    clients[0].ask(LOCK)
    clients[0].ask(UNLOCK)
    mock.fault("delay", delay_msec=100)
    begin = time.monotonic()
    for i, record in enumerate(records):
        clients[i % len(clients)].send(GET, [(1, record)])
    for client in clients:
        for _ in range(EACH):
            reply = client.receive()
            assert reply.number == KEY, reply.sentence
    print(time.monotonic() - begin)


def bench_kms(directory):
    """Return: further figures."""
    result = []
    with MockKms() as mock:
        kek = vault(mock, directory)
        show(under_lkm(directory, f"{build}/tests/bench/bench-cold", figures, mock.https, mock.ca, ROOT_TOKEN, kek=kek))
    for name, make, target in (("AWS", aws, 7), ("Vault", vault, 1)):
        with MockKms() as mock, tempfile.TemporaryDirectory(prefix="lkm-bench-") as own:
            seconds = float(under_lkm(own, sys.executable, os.path.abspath(__file__), build, "cold-keys", mock.http, kek=make(mock, own),
                                      lkmd=("kms_timeout = 30s",)))
        title = f"1,000 cold keys, {name} 100 ms away"
        print(f"{title:46} {seconds:>12.2f} s {'':14} {'':7}  <= {target} s", flush=True)
        result.append({"name": title, "unit": "s", "median": seconds, "p99": seconds, "ratio": None})
    return result


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
        show(under_lkm(directory, f"{build}/tests/bench/bench-rotate", figures, directory, "100"))
        show(under_lkm(directory, bench, figures, "connections", *sockets, lkmd=("",) * 3))
        show(subprocess.run([f"{build}/tests/bench/bench-audit-verify", figures], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout)
        with tempfile.TemporaryDirectory(prefix="lkm-bench-", dir="/var/tmp") as disk:
            show(subprocess.run([f"{build}/tests/bench/bench-audit", figures, disk], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout)
        more = bench_kms(directory)
        if can_lock(8 << 20):
            show(under_lkm(directory, bench, figures, "keys", *sockets, lkmd=("", "", "cache_keys = 100000")))
        else:
            print("cached get, 10 to 100,000 keys: skipped, needs `ulimit -l 8192`")
    print(f"{'lkmd resident, idle':46} {rss / 1024:>10.1f} MiB {'':14} {'':7}  <= 8 MiB")
    with open(figures) as file:
        result = [json.loads(line) for line in file]
    result += more
    result.append({"name": "lkmd resident, idle", "unit": "KiB", "median": rss, "p99": rss, "ratio": None})
    with open(os.path.join(build, "bench.json"), "w") as file:
        json.dump(result, file, indent=1)
    os.unlink(figures)


try:
    if sys.argv[2:3] == ["cold-keys"]:
        cold_keys(sys.argv[3])
    else:
        main()
except subprocess.CalledProcessError as error:
    print(error, error.stderr, file=sys.stderr)
    sys.exit(1)
