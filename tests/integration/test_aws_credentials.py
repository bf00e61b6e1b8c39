# SPDX-License-Identifier: Apache-2.0
"""Where lkm-kms has its AWS credentials from, with moto as STS, as KMS that checks signatures and policies, and as the metadata service of an instance; and
that no secret among them is left outside of the arena."""
import http.client
import http.server
import json
import os
import re
import threading
import unittest
import unittest.mock

import memscan
from servers import Moto, venv_program
from support import PING, TIMEOUT
from test_providers import ProviderCase

ROLE = "arn:aws:iam::123456789012:role/lkm"


class Relay(http.server.ThreadingHTTPServer):
    """Passes requests on to moto, as if they had been meant for @host, and keeps what came back. What a test sees is what lkm-kms was given."""

    daemon_threads = True

    def __init__(self, port, host):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.upstream, self.host, self.asked, self.answers = port, host, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection", "content-length")}
            self.server.asked.append((self.command, self.path, dict(self.headers), body))
            upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=TIMEOUT)
            upstream.request(self.command, self.path, body, {**headers, "Host": self.server.host or self.headers["Host"]})
            answer = upstream.getresponse()
            text = answer.read()
            upstream.close()
            self.server.answers.append(text)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = relay

        def log_message(self, *arguments):
            pass


@unittest.skipUnless(venv_program("moto_server"), "moto is not installed: tests/python-packages")
class Credentials(ProviderCase):
    region = "eu-central-1"
    lines = ""
    variables = {}

    def serve(self):
        self.moto = Moto(self)
        made = self.moto.script("""
iam, kms = client('iam'), client('kms')
iam.create_user(UserName='lkm')
key = iam.create_access_key(UserName='lkm')['AccessKey']
iam.put_user_policy(UserName='lkm', PolicyName='lkm', PolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Action': ['kms:*', 'sts:AssumeRole'], 'Resource': '*'}]}))
iam.create_role(RoleName='lkm', AssumeRolePolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Principal': {'AWS': '*'}}]}))
iam.put_role_policy(RoleName='lkm', PolicyName='lkm', PolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Action': 'kms:*', 'Resource': '*'}]}))
print(json.dumps({'id': key['AccessKeyId'], 'secret': key['SecretAccessKey'], 'arn': kms.create_key()['KeyMetadata']['Arn']}))
""")
        self.arn, self.access_key_id, self.secret = made["arn"], made["id"], made["secret"]
        self.prepare()

    def prepare(self):
        pass

    def start_ready(self, name, prefix=()):
        with unittest.mock.patch.dict(os.environ, {"AWS_EC2_METADATA_DISABLED": "true", "HOME": self.directory, **self.variables}):
            return super().start_ready(name, prefix)

    def section(self):
        return f"kms_type = aws\nkek_id = {self.arn}\nendpoint = {self.moto.endpoint}\n{self.lines}"

    def relay(self, host=None):
        relay = Relay(self.moto.port, host)
        self.addCleanup(relay.server_close)
        self.addCleanup(relay.shutdown)
        return relay

    def assert_works(self):
        key, kek_id, wrapped = self.made(kek="real")
        self.assert_unwraps(key, kek_id, wrapped)

    def assert_not_in_memory(self, *secrets):
        """Nothing of this in the memory of lkm-kms but in the arena."""
        if os.getuid() != 0 or os.environ.get("LKM_SANITIZED") or "valgrind" in os.environ.get("LKM_TEST_WRAPPER", ""):
            return
        self.user.ask(PING)
        arena = memscan.locked(self.kms.pid)
        for secret in secrets:
            hits = memscan.scan_for(self.kms.pid, memscan.text_forms(secret.encode()))
            self.assertEqual([hit for hit in hits if hit[1].split()[0] not in arena], [])

    def secrets_of(self, text):
        """The secret access key and the session token in an answer, JSON or XML."""
        found = re.findall(r"(?:SecretAccessKey|Token)(?:\"\s*:\s*\"|>\s*)([^\"<\s]{15,})", text.decode())
        self.assertEqual(len(found), 2, text)
        return found


class InstanceMetadata(Credentials):
    def prepare(self):
        self.metadata = self.relay("169.254.169.254")
        self.lines = "aws_environment = yes\n"
        self.variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def test_role_of_an_instance_is_used(self):
        self.assert_works()
        self.assertEqual([(method, path) for method, path, *_ in self.metadata.asked],
                         [("PUT", "/latest/api/token"), ("GET", "/latest/meta-data/iam/security-credentials/"),
                          ("GET", "/latest/meta-data/iam/security-credentials/default-role")])
        self.assert_works()
        self.assertEqual(len(self.metadata.asked), 3)
        self.assert_not_in_memory(*self.secrets_of(self.metadata.answers[2]), self.metadata.answers[0].decode())


class WebIdentity(Credentials):
    def prepare(self):
        self.sts = self.relay()
        self.token = "head." + "tokenpart" * 40 + ".signature"
        path = self.write("token", self.token + "\n")
        self.lines = f"sts_endpoint = {self.sts.url}\naws_config_file = " + self.write(
            "config", f"[default]\nrole_arn = {ROLE}\nweb_identity_token_file = {path}\n") + "\n"
        os.chmod(path, 0o644)

    def test_role_is_assumed_by_a_token(self):
        self.assert_works()
        self.moto.check_signatures(True)
        self.assert_works()
        self.assertEqual(len(self.sts.asked), 1)
        self.assertNotIn("Authorization", self.sts.asked[0][2])
        self.assertIn(self.token.encode(), self.sts.asked[0][3])
        self.assert_not_in_memory(*self.secrets_of(self.sts.answers[0]), self.token)


class Role(Credentials):
    def prepare(self):
        self.sts = self.relay()
        self.lines = (f"sts_endpoint = {self.sts.url}\nprofile = lkm\naws_config_file = "
                      + self.write("config", f"[profile lkm]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = one-two\n")
                      + "\naws_credentials_file = "
                      + self.secret_file("credentials", f"[base]\naws_access_key_id = {self.access_key_id}\naws_secret_access_key = {self.secret}\n") + "\n")
        self.moto.check_signatures(True)

    def test_role_is_assumed_by_a_signature_that_is_checked(self):
        self.assert_works()
        self.assertEqual(len(self.sts.asked), 1)
        self.assert_not_in_memory(*self.secrets_of(self.sts.answers[0]), self.secret, "AWS4" + self.secret)


class Process(Credentials):
    def prepare(self):
        text = json.dumps({"Version": 1, "AccessKeyId": self.access_key_id, "SecretAccessKey": self.secret})
        program = self.write("program", f"#!/bin/sh\ncat <<END\n{text}\nEND\n")
        os.chmod(program, 0o700)
        self.lines = "aws_config_file = " + self.write("config", f"[default]\ncredential_process = {program}\n") + "\n"
        self.moto.check_signatures(True)

    def test_what_a_process_prints_is_used(self):
        self.assert_works()
        self.assert_not_in_memory(self.secret, "AWS4" + self.secret)


class Environment(Credentials):
    def prepare(self):
        self.lines = "aws_environment = yes\n"
        self.variables = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret}
        self.moto.check_signatures(True)

    def test_secrets_of_the_environment_are_taken_out_of_it(self):
        self.assert_works()
        self.assert_not_in_memory(self.secret, "AWS4" + self.secret)
        if os.getuid() == 0 and "valgrind" not in os.environ.get("LKM_TEST_WRAPPER", ""):  # whose own environment that would be
            with open(f"/proc/{self.kms.pid}/environ", "rb") as file:
                environment = file.read()
            self.assertIn(self.access_key_id.encode(), environment)
            self.assertNotIn(self.secret.encode(), environment)


del Credentials, ProviderCase


if __name__ == "__main__":
    unittest.main()
