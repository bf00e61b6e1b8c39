# SPDX-License-Identifier: Apache-2.0
"""Run one fuzz target with libFuzzer for a minute.

    libfuzzer.py SOURCE BUILD TARGET CORPUS

Builds the target with clang, libFuzzer, ASan and UBSan in BUILD/libfuzzer, then runs it on CORPUS and on what earlier runs found, which is kept in
BUILD/libfuzzer/found/TARGET. An input that crashes is written to BUILD/libfuzzer/crashes/TARGET-*: put it into the corpus together with what
mends it. $LKM_FUZZ_SECONDS: how long, in place of 60. Ends with 77 where clang or its runtime library is not installed.
"""
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile

SECONDS = 60
INPUT_SECONDS = 20  # for one input: more is a hang
PROGRAM = "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n);" \
          "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return !d || n; }"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def check_clang():
    if not shutil.which("clang"):
        skip("clang is not installed (apt install clang libclang-rt-dev)")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["clang", "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", f"{folder}/a"], input=PROGRAM,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        skip(f"clang cannot link libFuzzer (apt install libclang-rt-dev): {done.stdout.strip()[-300:]}")


def build(source, folder, target):
    """One at a time: they share the folder."""
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{folder}/build.ninja"):
            subprocess.run(["meson", "setup", folder, source, "-Db_sanitize=address,undefined", "-Db_lundef=false",
                            "-Dc_args=-fsanitize=fuzzer-no-link"], env=dict(os.environ, CC="clang"), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", folder, f"tests/fuzz/libfuzzer-{target}"], check=True, stdout=subprocess.DEVNULL)


def main():
    source, build_folder, target, corpus = sys.argv[1:]
    folder = os.path.join(build_folder, "libfuzzer")
    found, crashes = f"{folder}/found/{target}", f"{folder}/crashes"
    check_clang()
    build(source, folder, target)
    os.makedirs(found, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    seconds = int(os.environ.get("LKM_FUZZ_SECONDS", SECONDS))
    return subprocess.run([f"{folder}/tests/fuzz/libfuzzer-{target}", f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", "-print_final_stats=1",
                           "-rss_limit_mb=2048", "-error_exitcode=1", "-timeout_exitcode=1", f"-artifact_prefix={crashes}/{target}-", found, corpus]).returncode


if __name__ == "__main__":
    sys.exit(main())
