# SPDX-License-Identifier: Apache-2.0
"""lkm-mock-kms as a program: how it starts and ends, its TLS, its faults, clock and log."""
import email.utils
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import time
import unittest

from mock_kms import MockKms, program
from support import TIMEOUT, WRAPPER

KMS = {"X-Amz-Target": "TrentService.Decrypt", "Content-Type": "application/x-amz-json-1.1",
       "Authorization": "AWS4-HMAC-SHA256 Credential=AKIANOBODY/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0"}
LATE = b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.Decrypt\r\nContent-Length: 2\r\n\r\n{}"
STS = {"Content-Type": "application/x-www-form-urlencoded"}


class Program(unittest.TestCase):
    def run_program(self, *arguments):
        return subprocess.run(WRAPPER + [program(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=TIMEOUT, check=False)

    def test_only_loopback_addresses_are_served(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "localhost:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", ":0", "", "[::1:0", "126.0.0.1:0"):
            for option in ("--listen", "--listen-tls"):
                done = self.run_program(option, address)
                self.assertEqual((done.returncode, done.stdout), (2, ""), address)

    def test_wrong_use_is_told(self):
        for arguments in ((), ("--listen",), ("--listen", "127.0.0.1:0", "more"), ("--listen-tls", "127.0.0.1:0"), ("--nonsense",)):
            self.assertEqual(self.run_program(*arguments).returncode, 2, arguments)
        self.assertEqual(self.run_program("--listen", "127.0.0.1:0", "--directory", "/nonexistent").returncode, 1)
        self.assertRegex(self.run_program("--version").stdout, r"^lkm-mock-kms \d")

    def test_it_says_that_it_protects_nothing_and_ends_with_its_input(self):
        process = subprocess.Popen(WRAPPER + [program(), "--listen", "[::1]:0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready = json.loads(process.stdout.readline())
        self.assertEqual(set(ready), {"pid", "http"})
        output, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, output), (0, ""))
        self.assertIn("protects nothing", errors)

    def test_it_ends_on_sigterm_even_with_answers_due(self):
        with MockKms() as mock:
            mock.fault("delay", delay_msec=600000)
            with socket.create_connection(("127.0.0.1", mock.http_port), TIMEOUT) as waiting:
                waiting.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n")
                while mock.log()["in_flight_max"] == 0:
                    pass
                mock.process.send_signal(signal.SIGTERM)
                self.assertEqual(mock.process.wait(TIMEOUT), 0)

    def test_files_are_written_before_ready(self):
        with MockKms() as mock:
            modes = {name: stat.S_IMODE(os.stat(os.path.join(mock.directory, name)).st_mode) for name in os.listdir(mock.directory)}
            self.assertEqual(set(modes), {"ca.pem", "client.pem", "client-key.pem", "ready"})
            self.assertEqual(modes["client-key.pem"], 0o600)
            with open(os.path.join(mock.directory, "ready")) as file:
                self.assertEqual(json.load(file), mock.ready)
            with open(mock.ca) as file:
                self.assertNotIn("PRIVATE", file.read())


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mock = MockKms()
        cls.addClassCleanup(cls.mock.stop)

    def setUp(self):
        self.mock.reset()

    def connection(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.mock.http_port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        return connection

    def kms(self, region="us-east-1"):
        headers = {**KMS, "Authorization": KMS["Authorization"].replace("us-east-1", region)}
        return self.mock.request("POST", "/", b"{}", headers)


class Tls(Case):
    def context(self):
        context = ssl.create_default_context(cafile=self.mock.ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def test_certificate_holds_for_every_name_of_this_machine(self):
        for name in ("localhost", "127.0.0.1", "::1"):
            with socket.create_connection(("127.0.0.1", self.mock.https_port), TIMEOUT) as plain:
                with self.context().wrap_socket(plain, server_hostname=name) as connection:
                    self.assertIn(connection.version(), ("TLSv1.2", "TLSv1.3"))
        with socket.create_connection(("127.0.0.1", self.mock.https_port), TIMEOUT) as plain:
            with self.assertRaises(ssl.SSLCertVerificationError):
                self.context().wrap_socket(plain, server_hostname="kms.us-east-1.amazonaws.com")

    def test_both_listeners_share_one_state(self):
        self.mock.control("clock", offset_seconds=86400)
        connection = http.client.HTTPSConnection("127.0.0.1", self.mock.https_port, timeout=TIMEOUT, context=self.context())
        self.addCleanup(connection.close)
        for _ in range(3):
            connection.request("GET", "/v1/sys/health")
            reply = connection.getresponse()
            reply.read()
            self.assertGreater(email.utils.parsedate_to_datetime(reply.getheader("Date")).timestamp(), time.time() + 80000)
        self.assertEqual(self.mock.log()["connections"], 1)


class Faults(Case):
    def test_throttle_has_the_words_of_each_service(self):
        self.mock.fault("throttle")
        status, _, body = self.kms()
        self.assertEqual((status, json.loads(body)), (400, {"__type": "ThrottlingException", "message": "You have exceeded the rate at which you may "
                                                            "call KMS. Reduce the frequency of your calls."}))
        status, _, body = self.mock.request("POST", "/", b"Action=AssumeRole&Version=2011-06-15", STS)
        self.assertIn(b"<Code>Throttling</Code>", body)
        self.assertEqual(self.mock.request("PUT", "/latest/api/token")[0], 429)
        status, headers, body = self.mock.request("POST", "/v1/transit/decrypt/lkm", {})
        self.assertEqual((status, json.loads(body)), (429, {"errors": ['request path "transit/decrypt/lkm": rate limit quota exceeded']}))
        self.assertIsNone(headers["Retry-After"])
        self.mock.clear_faults()
        self.mock.fault("throttle", "vault", retry_after=7)
        self.assertEqual(self.mock.request("POST", "/v1/transit/decrypt/lkm", {})[1]["Retry-After"], "7")

    def test_fault_is_for_its_service_operation_and_count(self):
        self.mock.fault("status", "kms", "Decrypt", status=503, count=2)
        self.assertEqual(self.mock.request("GET", "/v1/sys/health")[0], 200)
        self.assertEqual(self.mock.request("POST", "/", b"{}", {**KMS, "X-Amz-Target": "TrentService.Encrypt"})[0], 400)
        self.assertEqual([self.kms()[0] for _ in range(3)], [503, 503, 400])
        self.mock.fault("status", "vault", "transit/decrypt", status=472, body='{"own":1}')
        self.assertEqual(self.mock.request("POST", "/v1/transit/decrypt/any", {})[::2], (472, b'{"own":1}'))
        self.assertEqual(self.mock.request("POST", "/v1/transit/decryption", {})[0], 403)
        self.mock.clear_faults()
        self.assertEqual(self.mock.request("POST", "/v1/transit/decrypt/any", {})[0], 403)

    def test_delay_holds_up_nobody_else(self):
        with MockKms() as mock:
            mock.fault("delay", "kms", delay_msec=600000, count=1)
            with socket.create_connection(("127.0.0.1", mock.http_port), TIMEOUT) as slow:
                slow.sendall(LATE)
                while mock.log()["in_flight_max"] == 0:
                    pass
                self.assertEqual(mock.request("GET", "/v1/sys/health")[0], 200)
                log = mock.log()
                self.assertEqual((log["in_flight"], log["in_flight_max"], log["requests"], log["connections"]), (1, 2, 1, 2))

    def test_delayed_answer_comes(self):
        self.mock.fault("delay", "kms", delay_msec=20, count=1)
        before = time.monotonic()
        self.assertEqual(self.kms()[0], 400)
        self.assertGreaterEqual(time.monotonic() - before, 0.02)
        self.assertEqual(self.mock.log()["last"], ["kms Decrypt us-east-1 400 delay"])

    def test_client_that_leaves_before_a_late_answer_does_no_harm(self):
        self.mock.fault("delay", "kms", delay_msec=100)
        with socket.create_connection(("127.0.0.1", self.mock.http_port), TIMEOUT) as leaving:
            leaving.sendall(LATE)
            while self.mock.log()["in_flight_max"] == 0:
                pass
        while self.mock.log()["requests"] == 0:
            pass
        self.assertEqual(self.kms()[0], 400)

    def test_cut_ends_the_connection_inside_the_body(self):
        self.mock.fault("cut", "vault", count=1)
        connection = self.connection()
        connection.request("GET", "/v1/sys/health")
        reply = connection.getresponse()
        with self.assertRaises(http.client.IncompleteRead) as caught:
            reply.read()
        self.assertGreater(len(caught.exception.partial), 0)
        self.assertEqual(reply.status, 200)
        self.assertEqual(self.mock.request("GET", "/v1/sys/health")[0], 200)

    def test_lost_region_gives_no_answer_and_others_do(self):
        self.mock.fault("lose-region", region="us-east-1")
        for _ in range(2):
            with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
                self.kms()
        self.assertEqual(self.kms("eu-west-1")[0], 400)
        self.assertEqual(self.mock.count("kms"), {0: 2, 400: 1})
        self.mock.clear_faults()
        self.assertEqual(self.kms()[0], 400)

    def test_redirect_and_garbage(self):
        self.mock.fault("redirect", "vault", location="https://vault-2.example:8200")
        status, headers, _ = self.mock.request("GET", "/v1/sys/health?standbyok=true")
        self.assertEqual((status, headers["Location"]), (307, "https://vault-2.example:8200/v1/sys/health?standbyok=true"))
        self.mock.fault("garbage", "kms")
        status, _, body = self.kms()
        self.assertEqual(status, 200)
        with self.assertRaises(ValueError):
            json.loads(body)

    def test_delays_add_to_another_fault(self):
        self.mock.fault("delay", delay_msec=20)
        self.mock.fault("throttle", "kms")
        before = time.monotonic()
        self.assertEqual(self.kms()[0], 400)
        self.assertGreaterEqual(time.monotonic() - before, 0.02)
        self.assertEqual(self.mock.log()["last"], ["kms Decrypt us-east-1 400 throttle"])


class Control(Case):
    def test_what_is_not_understood_is_refused_with_a_sentence(self):
        for path, body in (("aws/key", {"misspelt": 1}), ("aws/key", {"key_id": "abc"}), ("aws/key", {"regions": []}), ("aws/key", {"state": "Asleep"}),
                           ("aws/key", {"regions": ["us-east-1", "eu-west-1"]}), ("aws/key", {"multi_region": True, "regions": ["a", "a"]}),
                           ("aws/user", {"access_key_id": "x"}), ("aws/user", {"access_key_id": "x", "secret_access_key": "y", "policy": "all"}),
                           ("fault", {"kind": "unknown"}), ("fault", {"kind": "delay"}), ("fault", {"kind": "throttle", "count": 0}),
                           ("fault", {"kind": "throttle", "match": {"service": "s3"}}), ("fault", {"kind": "status", "status": 700}),
                           ("clock", {}), ("key-state", {"key_id": "none", "state": "Enabled"}), ("vault/product", {"product": "other"}), ("none", {})):
            with self.assertRaises(ValueError, msg=path) as caught:
                self.mock.control(path, **body)
            self.assertTrue(str(caught.exception))
        for body in (b"[]", b"{", b"5"):
            self.assertEqual(self.mock.request("POST", "/mock/clock", body)[0], 400)

    def test_log_counts_and_keeps_no_secret(self):
        self.mock.request("POST", "/v1/auth/approle/login", {"role_id": "r", "secret_id": "very-secret"}, {"X-Vault-Token": "very-secret"})
        self.mock.request("POST", "/", b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=very-secret", STS)
        self.mock.request("GET", "/latest/meta-data/?secret=very-secret", headers={"X-aws-ec2-metadata-token": "very-secret"})
        self.mock.request("GET", "/elsewhere")
        log = self.mock.log()
        self.assertNotIn("very-secret", json.dumps(log))
        self.assertEqual(log["counters"], {"vault": {"auth/approle/login": {"403": 1}}, "sts": {"AssumeRoleWithWebIdentity": {"400": 1}},
                                           "imds": {"metadata": {"401": 1}}, "none": {"": {"404": 1}}})
        self.assertEqual(self.mock.control("log", "DELETE"), {})
        self.assertEqual(self.mock.log()["requests"], 0)

    def test_many_requests_on_one_connection(self):
        connection = self.connection()
        for _ in range(20):
            connection.request("POST", "/", b"{}", KMS)
            connection.getresponse().read()
        self.assertEqual((self.mock.log()["connections"], self.mock.log()["in_flight_max"]), (1, 1))

    def test_hostile_requests_are_refused(self):
        for text, status in ((b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405, 501)), (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", (413,)),
                             (b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n", (400, 413)), (b"\0\1\2\r\n\r\n", (400, 501))):
            with socket.create_connection(("127.0.0.1", self.mock.http_port), TIMEOUT) as connection:
                connection.sendall(text)
                answer = connection.recv(100)
                if answer:
                    self.assertIn(int(answer.split(b" ")[1]), status, text[:20])
        self.assertEqual(self.kms()[0], 400)


if __name__ == "__main__":
    unittest.main()
