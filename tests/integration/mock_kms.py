# SPDX-License-Identifier: Apache-2.0
"""lkm-mock-kms for a test: started, set up by control(), and ended with the test.

    mock = MockKms()                      # HTTP and HTTPS on free ports of 127.0.0.1, files in a directory of its own
    key = mock.control("aws/key", alias="alias/lkm")
    ... mock.http, mock.https, mock.ca, mock.client_certificate ...
    mock.stop()
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from support import BUILD, TIMEOUT, WRAPPER

# What it knows at its start.
ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ACCOUNT = "123456789012"
ROOT_TOKEN = "root"
UNSEAL_KEY = "bG9jay1tb2NrLWttcyB1bnNlYWxzIHdpdGggdGhpcyE="


def program():
    return os.path.join(BUILD, "tests/mock-kms/lkm-mock-kms")


class MockKms:
    """A running server.

    http, https             "http://127.0.0.1:PORT", "https://localhost:PORT"
    http_port, https_port   numbers
    ca                      path of the CA's certificate, for HTTPS
    client_certificate, client_key
                            paths of a certificate for Vault's cert login
    """

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="lkm-mock-kms-")
        # stdin: its end is the server's end, even when this process dies without stop().
        self.process = subprocess.Popen(WRAPPER + [program(), "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--directory", self.directory],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1])
        self.ready = json.loads(line)
        self.http_port, self.https_port, self.ca = self.ready["http"], self.ready["https"], self.ready["ca"]
        self.http, self.https = f"http://127.0.0.1:{self.http_port}", f"https://localhost:{self.https_port}"
        self.client_certificate, self.client_key = (os.path.join(self.directory, name) for name in ("client.pem", "client-key.pem"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End the server. Anything but success is an error, with what it said (a sanitizer's report, for one)."""
        if self.process.stdout.closed:
            return
        try:
            _, said = self.process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.process.returncode != 0:
            raise RuntimeError(f"lkm-mock-kms ended with {self.process.returncode}: {said}")

    def request(self, method, path, body=None, headers=None):
        """Any request over HTTP. Return: (status, headers, bytes)."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        request = urllib.request.Request(self.http + path, data=data, method=method, headers=headers or {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
        try:
            with opener.open(request, timeout=TIMEOUT) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def control(self, path, method="POST", **body):
        """A request to /mock/PATH with @body as its JSON. Return: the answer's JSON; ValueError with the server's sentence."""
        status, _, text = self.request(method, f"/mock/{path}", body if method == "POST" else None)
        answer = json.loads(text)
        if status != 200:
            raise ValueError(answer["error"])
        return answer

    def fault(self, kind, service=None, operation=None, **more):
        """Let requests fail. Faults add to those that are set already; clear_faults() takes them away."""
        match = {name: value for name, value in (("service", service), ("operation", operation)) if value}
        return self.control("fault", kind=kind, match=match, **more)

    def clear_faults(self):
        return self.control("fault", "DELETE")

    def clock(self, offset_seconds):
        """Set the server's clock against the real one."""
        return self.control("clock", offset_seconds=offset_seconds)

    def log(self):
        """Counters, in_flight_max, connections and the last requests."""
        return self.control("log", "GET")

    def count(self, service, operation=None):
        """How many requests of @service (and @operation) were answered, by status: {200: 3, 400: 1}."""
        total = {}
        for name, statuses in self.log()["counters"].get(service, {}).items():
            for status, n in statuses.items() if operation in (None, name) else ():
                total[int(status)] = total.get(int(status), 0) + n
        return total

    def reset(self):
        """Forget everything: keys, users, tokens, faults, clock and log."""
        return self.control("reset")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def under_test_venv(*modules):
    """Go on in the Python of $LKM_TEST_VENV, a virtual environment, when this one lacks one of @modules. Where that lacks them too,
    the test ends as skipped."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    folder = os.environ.get("LKM_TEST_VENV")
    if not missing:
        return
    if folder and os.path.realpath(sys.prefix) != os.path.realpath(folder):
        os.execv(os.path.join(folder, "bin/python"), [os.path.join(folder, "bin/python"), *sys.argv])
    print(f"skipped: {', '.join(missing)} cannot be imported; LKM_TEST_VENV names a virtual environment that has it")
    sys.exit(77)
