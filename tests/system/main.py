# SPDX-License-Identifier: Apache-2.0
"""What tests/system/run runs, in namespaces of its own: main.py [12 | 13] [TEST…]"""
import glob
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import unittest

import support
from release import CACHE, HERE, SKIPPED, SOURCE, SUITES, Release, Skip


def write_line(log, name, result, duration):
    json.dump({"name": name, "result": result, "duration": round(duration, 3)}, log)
    log.write("\n")
    log.flush()


class Result(unittest.TextTestResult):
    """Writes each result as a line of JSON, as meson does."""
    log = None
    started = 0.0

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def write(self, test, result):
        write_line(self.log, test.id(), result, time.monotonic() - self.started)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.write(test, "OK")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.write(test, "SKIP")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.write(test, "FAIL")
        support.tell(test)

    def addError(self, test, err):
        super().addError(test, err)
        self.write(test, "ERROR")
        support.tell(test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.write(subtest, "FAIL")
            support.tell(test)


def open_log(number):
    directory = os.path.join(SOURCE, "build/meson-logs")
    os.makedirs(directory, exist_ok=True)
    return open(os.path.join(directory, f"system-{number}.json"), "w")


def run_tests(number, directory, names, log):
    """Return: whether every test passed."""
    started = time.monotonic()
    support.release = Release(number, directory)
    support.release.say(f"packages built and roots ready after {time.monotonic() - started:.1f} s")
    Result.log = log
    modules = sorted(os.path.basename(path)[:-3] for path in glob.glob(os.path.join(HERE, "test_*.py")))
    tests = unittest.defaultTestLoader.loadTestsFromNames(names or modules)
    done = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(tests)
    support.release.say(f"done after {time.monotonic() - started:.1f} s")
    return done.wasSuccessful()


def run(number, directory, names):
    """Return: 0, 1 when something failed, SKIPPED. All of it is in the log."""
    started = time.monotonic()
    with open_log(number) as log:
        try:
            return 0 if run_tests(number, directory, names, log) else 1
        except Skip as skip:
            print(f"Debian {number} is skipped: {skip}", file=sys.stderr)
            write_line(log, f"Debian {number}", "SKIP", time.monotonic() - started)
            return SKIPPED
        except Exception:
            traceback.print_exc()
            write_line(log, f"packages of Debian {number}", "ERROR", time.monotonic() - started)
            return 1


def main(arguments):
    # This is number 1 in its namespace, where a signal without a handler does nothing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    numbers = [arguments.pop(0)] if arguments and arguments[0] in SUITES else list(SUITES)
    # Seen in this namespace only, so that two runs at once have each its own, and nothing is left of either.
    work = os.path.join(CACHE, "system")
    for path in (work, "/run/systemd/nspawn"):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "lkm", path], check=True)
    results = {run(number, work, arguments) for number in numbers}
    return SKIPPED if results == {SKIPPED} else max(results - {SKIPPED})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
