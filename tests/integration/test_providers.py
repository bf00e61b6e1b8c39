# SPDX-License-Identifier: Apache-2.0
"""One conformance suite for every real provider of lkm-kms, against lkm-mock-kms, moto with its signatures checked, and the OpenBao server (in dev mode, and with TLS
and storage in files, sealed and unsealed). LKM_TEST_VAULT_ADDR and LKM_TEST_VAULT_TOKEN (a root token) add another server, HashiCorp's Vault included."""
import json
import os
import subprocess
import unittest

from daemons import DaemonCase
from mock_kms import MockKms
from servers import Moto, OpenBao, bao_program, request, venv_program
from support import (BUILD, KMS_DESCRIBE, KMS_GENERATE, KMS_GENERATED, KMS_REWRAP, KMS_UNWRAP, KMS_UNWRAPPED, KMS_WRAP, KMS_WRAPPED, REPORT, Client, pairs, u32)

KMS_CHECK, KMS_POLICY = 0x0106, 0x0107
# Under valgrind the daemons are what is looked at, and the mock is as good as the others.
ALL_SERVERS = "valgrind" not in os.environ.get("LKM_TEST_WRAPPER", "")
NOT_MINE, DENIED, UNREACHABLE, CREDENTIALS, CORRUPT, STATE, NOT_FOUND, MISCONFIGURED = 60, 61, 63, 64, 65, 66, 67, 68
CONTEXT = {"lkm:database": "1", "purpose": "test", "städtisch": "\"ja\\nein\""}
STEPS = ("generate", "unwrap", "context", "wrap", "rewrap")

CONFIG = """
[lkmd]
socket = {directory}/lkm.sock
kms_socket = {directory}/kms.sock
audit_file = {directory}/audit.jsonl
kms_timeout = 20s
admin = uid:{uid}
[kms]
idle_exit = 0
{keks}
[scope medical]
keks = {names}
encryption_context = purpose=test
allow = uid:{uid}
"""


class ProviderCase(DaemonCase):
    """lkm-kms with the KEK "real"; a subclass says which service that is."""

    def setUp(self):
        super(DaemonCase, self).setUp()
        self.serve()
        self.configure()
        self.kms = self.start_ready("lkm-kms")
        self.user = self.connect()

    def configure(self, **more):
        keks = {"real": self.section(), **more}
        text = "".join(f"[kek {name}]\n{lines}\n" for name, lines in keks.items())
        self.config = self.write("lkmd.conf", CONFIG.format(directory=self.directory, uid=os.getuid(), keks=text, names=" ".join(keks)))

    def connect(self):
        client = Client(self.path("kms.sock"))
        self.addCleanup(client.socket.close)
        return client

    def restart_kms(self, **more):
        self.finish(self.kms)
        self.configure(**more)
        self.kms = self.start_ready("lkm-kms")
        self.user = self.connect()

    def secret_file(self, name, text):
        path = self.write(name, text)
        os.chmod(path, 0o600)
        return path

    def made(self, context=None, kek="real"):
        reply = self.user.ask(KMS_GENERATE, [(1, kek.encode()), (2, pairs(context or CONTEXT)), (3, u32(15000))])
        self.assertEqual(reply.number, KMS_GENERATED, reply.sentence)
        return reply.fields[1], reply.fields[2], reply.fields[3]

    def unwrap(self, kek_id, wrapped, context=None, kek="real", msec=15000):
        return self.user.ask(KMS_UNWRAP, [(1, kek.encode()), (2, kek_id), (3, wrapped), (4, pairs(context or CONTEXT)), (5, u32(msec))])

    def assert_unwraps(self, key, kek_id, wrapped, context=None, kek="real"):
        reply = self.unwrap(kek_id, wrapped, context, kek)
        self.assertEqual((reply.number, reply.fields.get(1)), (KMS_UNWRAPPED, key), reply.sentence)

    def assert_error(self, reply, *errors):
        self.assertIn(reply.error, errors, reply.sentence or hex(reply.number))
        self.assertGreater(len(reply.sentence), 30)
        self.assertNotRegex(reply.sentence, r"[\n\t]")

    def described(self, kek="real"):
        reply = self.user.ask(KMS_DESCRIBE, [(1, kek.encode())])
        self.assertEqual(reply.number, REPORT, reply.sentence)
        return reply.json["keks"][0]

    def checked(self, kek="real"):
        reply = self.user.ask(KMS_CHECK, [(1, kek.encode()), (2, u32(30000))])
        self.assertEqual(reply.number, REPORT, reply.sentence)
        return reply.json

    def assert_check_passes(self, kek="real"):
        report = self.checked(kek)
        self.assertEqual([(step["step"], step["done"]) for step in report["steps"]], [(step, True) for step in STEPS], report)
        self.assertTrue(report["usable"])

    def policy(self):
        reply = self.user.ask(KMS_POLICY, [(1, b"real"), (2, u32(15000))])
        self.assertEqual(reply.number, REPORT, reply.sentence)
        return reply.json["policy"]


class Conformance:
    """What every provider promises. A subclass brings: serve(), section(), allow(operations), restart_server() where state survives that."""

    def test_key_unwraps_wraps_and_rewraps(self):
        key, kek_id, wrapped = self.made()
        self.assertEqual(len(key), 32)
        self.assert_unwraps(key, kek_id, wrapped)
        other, _, other_wrapped = self.made()
        self.assertNotEqual((other, other_wrapped), (key, wrapped))
        made = self.user.ask(KMS_WRAP, [(1, key), (2, b"real"), (3, pairs(CONTEXT))])
        self.assertEqual((made.number, made.fields.get(1)), (KMS_WRAPPED, kek_id), made.sentence)
        self.assert_unwraps(key, kek_id, made.fields[2])
        again = self.user.ask(KMS_REWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(CONTEXT))])
        self.assertEqual((again.number, again.fields.get(1)), (KMS_WRAPPED, kek_id), again.sentence)
        self.assert_unwraps(key, kek_id, again.fields[2])
        self.assert_unwraps(key, kek_id, wrapped)

    def test_another_context_is_corrupt(self):
        key, kek_id, wrapped = self.made()
        for context in ({**CONTEXT, "lkm:database": "2"}, {"purpose": "test"}, {**CONTEXT, "more": ""}, {"lkm:database": "1", "Purpose": "test"}):
            self.assert_error(self.unwrap(kek_id, wrapped, context), CORRUPT)
            rewrapped = self.user.ask(KMS_REWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(context))])
            self.assert_error(rewrapped, CORRUPT)
        self.assert_unwraps(key, kek_id, wrapped)

    def test_damaged_wrap_is_corrupt_or_not_found(self):
        _, kek_id, wrapped = self.made()
        for at in (0, len(wrapped) // 2, len(wrapped) - 8):
            self.assert_error(self.unwrap(kek_id, wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1:]), CORRUPT, *self.damage_may_be)
        self.assert_error(self.unwrap(kek_id, wrapped[:20]), CORRUPT, *self.damage_may_be)

    damage_may_be = ()

    def test_wrap_of_another_kek_is_not_mine(self):
        _, kek_id, wrapped = self.made()
        for foreign in (b"local:6b1f0a52-6a9d-4c3a-9f0e-0a3c6d1c7e11", kek_id[:-1] + (b"1" if kek_id[-1:] != b"1" else b"2")):
            self.assertEqual(self.unwrap(foreign, wrapped).error, NOT_MINE)

    def test_check_proves_that_all_works(self):
        self.assert_check_passes()
        described = self.described()
        self.assertEqual((described["usable"], described["error"]), (True, ""))
        self.assertEqual(described["kek_id"].encode(), self.made()[1])

    def test_check_names_the_permission_that_is_missing(self):
        self.assert_check_passes()
        for missing in ("unwrap", "wrap", "generate"):
            self.allow(*(operation for operation in ("generate", "unwrap", "wrap", "rewrap", "describe") if operation != missing))
            report = self.checked()
            failed = {step["step"]: step for step in report["steps"] if not step["done"]}
            self.assertIn(missing, failed, report)
            self.assertEqual(failed[missing]["error"], "KMS_DENIED", report)
            self.assertIn(self.permissions[missing], failed[missing]["permission"])
            self.assertGreater(len(failed[missing]["sentence"]), 30)
            self.assertFalse(report["usable"])
        self.allow("generate", "unwrap", "wrap", "rewrap", "describe")
        self.assert_check_passes()

    def test_denial_is_told(self):
        _, kek_id, wrapped = self.made()
        self.allow("describe")
        self.assert_error(self.unwrap(kek_id, wrapped), DENIED)
        self.assertEqual((self.described()["usable"], bool(self.described()["error"])), (False, True))
        self.allow("unwrap", "describe")
        self.assertEqual(self.unwrap(kek_id, wrapped).number, KMS_UNWRAPPED)
        self.assertTrue(self.described()["usable"])
        self.assertTrue(self.described()["last_error"])

    def test_printed_policy_is_enough(self):
        self.apply_policy(self.policy())
        self.assert_check_passes()

    def test_key_that_does_not_exist_is_told(self):
        self.restart_kms(missing=self.section(key=self.missing_key))
        reply = self.user.ask(KMS_GENERATE, [(1, b"missing"), (2, pairs(CONTEXT))])
        self.assert_error(reply, NOT_FOUND, *self.missing_may_be)

    missing_may_be = ()

    def test_wrong_credentials_are_told(self):
        _, kek_id, wrapped = self.made()
        self.spoil_credentials()
        self.restart_kms()
        self.assert_error(self.unwrap(kek_id, wrapped), CREDENTIALS, DENIED)

    def test_server_that_goes_away_and_comes_back(self):
        key, kek_id, wrapped = self.made()
        self.stop_server()
        self.assert_error(self.unwrap(kek_id, wrapped, msec=2000), UNREACHABLE)
        self.assertFalse(self.described()["usable"])
        self.start_server()
        self.until_it_works(kek_id, wrapped)
        self.assert_unwraps(key, kek_id, wrapped)

    def until_it_works(self, kek_id, wrapped):
        """The breaker lets an attempt through after a few seconds."""
        while self.unwrap(kek_id, wrapped, msec=20000).error == UNREACHABLE:
            pass

    def test_database_opens_with_its_key(self):
        self.lkmd = self.start_ready("lkmd")
        environment = {**os.environ, "LKM_SOCKET": self.path("lkm.sock")}

        def lkmctl(*arguments, text=None):
            done = subprocess.run([os.path.join(BUILD, "client/lkmctl"), *arguments], input=text, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, env=environment, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        lkmctl("create", self.path("a.db"))
        lkmctl("sqlcipher", self.path("a.db"), text="CREATE TABLE t(x); INSERT INTO t VALUES('Ada Lovelace');")
        lkmctl("evict", self.path("a.db"))
        self.assertEqual(lkmctl("sqlcipher", self.path("a.db"), text="SELECT x FROM t;"), "Ada Lovelace\n")
        with open(self.path("a.db"), "rb") as file:
            self.assertNotIn(b"Lovelace", file.read())
        self.assertIn("real", lkmctl("kek", "list"))
        lkmctl("kek", "check", "real")


# ---- AWS ----

class Aws(Conformance):
    permissions = {"generate": "kms:GenerateDataKey", "unwrap": "kms:Decrypt", "wrap": "kms:Encrypt", "rewrap": "kms:ReEncryptFrom", "describe": "kms:DescribeKey"}
    region = "eu-central-1"
    missing_key = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000000"

    def section(self, key=None):
        return (f"kms_type = aws\nkek_id = {key or self.key}\nendpoint = {self.endpoint}\n"
                + ("" if (key or self.key).startswith("arn:") else f"region = {self.region}\n")
                + f"aws_credentials_file = {self.credentials}\n" + self.tls)

    tls = ""

    def write_credentials(self, access_key_id, secret):
        self.credentials = self.secret_file("credentials", f"[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret}\n")

    def actions(self, operations):
        found = {self.permissions[operation] for operation in operations}
        return sorted(found | ({"kms:ReEncryptTo"} if "rewrap" in operations else set()))

    def spoil_credentials(self):
        self.write_credentials(self.access_key_id, "wrong" + self.secret[5:])

    def test_each_form_of_the_key_id_works_and_the_arn_is_stored(self):
        key, kek_id, wrapped = self.made()
        self.assertEqual(kek_id.decode(), self.arn)
        for form in (self.arn, self.arn.rpartition("/")[2], "alias/lkm", self.arn.replace("key/" + self.arn.rpartition("/")[2], "alias/lkm")):
            self.restart_kms(form=self.section(key=form))
            self.assert_unwraps(key, kek_id, wrapped, kek="form")
            self.assertEqual(self.made(kek="form")[1], kek_id, form)
            self.assert_check_passes("form")

    def test_role_is_assumed(self):
        self.make_role()
        self.credentials = self.secret_file("credentials", f"[base]\naws_access_key_id = {self.access_key_id}\naws_secret_access_key = {self.secret}\n"
                                            f"[default]\nrole_arn = {self.role_arn}\nsource_profile = base\n")
        self.restart_kms(role=self.section() + f"sts_endpoint = {self.endpoint}\n")
        key, kek_id, wrapped = self.made(kek="role")
        self.assert_unwraps(key, kek_id, wrapped, kek="role")


@unittest.skipUnless(ALL_SERVERS, "valgrind")
@unittest.skipUnless(venv_program("moto_server"), "moto is not installed: tests/python-packages")
class AwsOnMoto(Aws, ProviderCase):
    # moto says of a damaged blob that its key does not exist or is not allowed, where AWS says InvalidCiphertextException.
    damage_may_be = (DENIED, NOT_FOUND)

    def serve(self):
        self.moto = Moto(self)
        self.endpoint = self.moto.endpoint
        made = self.moto.script("""
iam, kms = client('iam'), client('kms')
iam.create_user(UserName='lkm')
key = iam.create_access_key(UserName='lkm')['AccessKey']
arn = kms.create_key()['KeyMetadata']['Arn']
kms.create_alias(AliasName='alias/lkm', TargetKeyId=arn)
print(json.dumps({'id': key['AccessKeyId'], 'secret': key['SecretAccessKey'], 'arn': arn}))
""")
        self.arn = self.key = made["arn"]
        self.access_key_id, self.secret = made["id"], made["secret"]
        self.write_credentials(self.access_key_id, self.secret)
        self.allow("generate", "unwrap", "wrap", "rewrap", "describe")

    def put_policy(self, actions):
        # moto's own ways: ReEncrypt is one action, and every resource is "*".
        more = ["kms:ReEncrypt"] if "kms:ReEncryptFrom" in actions else []
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [*actions, *more], "Resource": "*"}]})
        self.moto.check_signatures(False)
        self.moto.script(f"client('iam').put_user_policy(UserName='lkm', PolicyName='lkm', PolicyDocument={policy!r})\nprint('0')")
        self.moto.check_signatures(True)

    def allow(self, *operations):
        self.put_policy([*self.actions(operations), "sts:AssumeRole"])

    def apply_policy(self, text):
        statements = json.loads(text)["Statement"]
        self.assertEqual({statement["Resource"] for statement in statements}, {self.arn})
        self.put_policy(sum((statement["Action"] for statement in statements), []))

    def make_role(self):
        self.role_arn = "arn:aws:iam::123456789012:role/lkm"
        self.moto.check_signatures(False)
        self.moto.script("""
iam = client('iam')
iam.create_role(RoleName='lkm', AssumeRolePolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Principal': {'AWS': '*'}, 'Action': 'sts:AssumeRole'}]}))
iam.put_role_policy(RoleName='lkm', PolicyName='lkm', PolicyDocument=json.dumps({'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Action': 'kms:*', 'Resource': '*'}]}))
print('0')
""")
        self.moto.check_signatures(True)

    def stop_server(self):
        self.moto.stop()

    def start_server(self):
        self.skipTest("moto forgets its keys when it ends")


class AwsOnMock(Aws, ProviderCase):
    def serve(self):
        self.mock = MockKms()
        self.addCleanup(self.mock.stop)
        self.endpoint, self.tls = self.mock.https, f"ca_file = {self.mock.ca}\n"
        self.arn = self.key = self.mock.control("aws/key", alias="alias/lkm", regions=[self.region])["arn"]
        self.access_key_id, self.secret = "AKIALKM", "0123456789abcdefghijABCDEFGHIJ0123456789"
        self.write_credentials(self.access_key_id, self.secret)
        self.allow("generate", "unwrap", "wrap", "rewrap", "describe")

    def allow(self, *operations):
        self.allow_actions([*self.actions(operations), "sts:AssumeRole"])

    def allow_actions(self, actions):
        self.mock.control("aws/user", access_key_id=self.access_key_id, secret_access_key=self.secret, policy=actions)

    def apply_policy(self, text):
        policy = json.loads(text)
        self.assertEqual({statement["Effect"] for statement in policy["Statement"]}, {"Allow"})
        self.assertEqual({statement["Resource"] for statement in policy["Statement"]}, {self.arn})
        self.allow_actions(sum((statement["Action"] for statement in policy["Statement"]), []))

    def make_role(self):
        self.role_arn = "arn:aws:iam::123456789012:role/lkm"
        self.mock.control("aws/role", role_arn=self.role_arn)

    def stop_server(self):
        self.mock.fault("cut")

    def start_server(self):
        self.mock.clear_faults()

    def test_disabled_key_is_told_as_a_refusal(self):
        _, kek_id, wrapped = self.made()
        self.mock.control("key-state", key_id=self.arn.rpartition("/")[2], state="Disabled")
        self.assert_error(self.unwrap(kek_id, wrapped), DENIED)
        self.mock.control("key-state", key_id=self.arn.rpartition("/")[2], state="Enabled")
        self.assertEqual(self.unwrap(kek_id, wrapped).number, KMS_UNWRAPPED)


# ---- Vault ----

class MockVault:
    """lkm-mock-kms with the surface of OpenBao above."""

    def __init__(self, mock):
        self.mock, self.address = mock, mock.https

    def raw(self, method, path, body=None, token="root", headers=None):
        status, _, text = self.mock.request(method, f"/v1/{path}", body, {"X-Vault-Request": "true", "X-Vault-Token": token, **(headers or {})})
        return status, text

    def api(self, method, path, body=None, headers=None):
        status, text = self.raw(method, path, body, headers=headers)
        assert status < 300, f"{method} {path}: {status} {text[:400]}"
        return json.loads(text) if text else {}


class Vault(Conformance):
    permissions = {"generate": "transit/datakey/plaintext/lkm", "unwrap": "transit/decrypt/lkm", "wrap": "transit/encrypt/lkm",
                   "rewrap": "transit/rewrap/lkm", "describe": "transit/keys/lkm"}
    key, missing_key = "lkm", "nokey"
    missing_may_be = (DENIED,)  # a policy that names no such path
    more = ""

    def prepare(self):
        self.bao.api("POST", "sys/mounts/transit", {"type": "transit"})
        self.bao.api("POST", "transit/keys/lkm", {"type": "aes256-gcm96", "derived": True})
        self.allow("generate", "unwrap", "wrap", "rewrap", "describe")
        token = self.bao.api("POST", "auth/token/create", {"policies": ["lkm"], "ttl": "1h"})["auth"]["client_token"]
        self.token_file = self.secret_file("token", token + "\n")

    def section(self, key=None):
        return f"kms_type = vault\naddress = {self.bao.address}\nkek_id = {key or self.key}\n{self.login()}{self.more}"

    def login(self):
        return f"token_file = {self.token_file}\n"

    def apply_policy(self, text):
        self.bao.api("POST", "sys/policies/acl/lkm", {"policy": text})

    def allow(self, *operations):
        self.apply_policy("".join(f'path "{self.permissions[operation]}" {{ capabilities = ["{"read" if operation == "describe" else "update"}"] }}\n'
                                  for operation in operations))

    def spoil_credentials(self):
        self.token_file = self.secret_file("token", "no-such-token\n")

    def stop_server(self):
        self.bao.stop()

    def start_server(self):
        self.bao.start()

    def test_key_that_does_not_bind_is_refused(self):
        self.bao.api("POST", "transit/keys/loose", {"type": "aes256-gcm96"})
        self.bao.api("POST", "sys/policies/acl/lkm", {"policy": 'path "transit/*" { capabilities = ["read", "update"] }'})
        self.restart_kms(loose=self.section(key="loose"))
        reply = self.user.ask(KMS_GENERATE, [(1, b"loose"), (2, pairs(CONTEXT))])
        self.assert_error(reply, MISCONFIGURED)
        self.assertIn("derived", reply.sentence)

    def test_new_version_of_the_kek_wraps_and_the_old_unwraps(self):
        key, kek_id, wrapped = self.made()
        self.assertTrue(wrapped.startswith(b"vault:v1:"))
        self.bao.api("POST", "transit/keys/lkm/rotate")
        self.assert_unwraps(key, kek_id, wrapped)
        self.assertTrue(self.made()[2].startswith(b"vault:v2:"))
        again = self.user.ask(KMS_REWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(CONTEXT))])
        self.assertTrue(again.fields[2].startswith(b"vault:v2:"), again.sentence)
        self.bao.api("POST", "transit/keys/lkm/config", {"min_decryption_version": 2})
        self.assert_unwraps(key, kek_id, again.fields[2])
        self.assert_error(self.unwrap(kek_id, wrapped), CORRUPT, STATE, NOT_FOUND)

    def approle(self, **options):
        self.bao.api("POST", "sys/auth/approle", {"type": "approle"})
        self.bao.api("POST", "auth/approle/role/lkm", {"token_policies": "lkm", "token_ttl": "1h", **options})
        return self.bao.api("GET", "auth/approle/role/lkm/role-id")["data"]["role_id"]

    def relogin(self, lines):
        self.login = lambda: lines
        self.restart_kms()
        self.assert_check_passes()

    def test_approle_logs_in(self):
        role_id = self.approle()
        secret_id = self.bao.api("POST", "auth/approle/role/lkm/secret-id")["data"]["secret_id"]
        self.relogin(f"auth = approle\nrole_id = {role_id}\nsecret_id_file = {self.secret_file('secret-id', secret_id)}\n")

    def test_wrapped_secret_id_is_unwrapped_once_and_its_origin_checked(self):
        role_id = self.approle()
        wrapped = self.bao.api("POST", "auth/approle/role/lkm/secret-id", headers={"X-Vault-Wrap-TTL": "60s"})["wrap_info"]["token"]
        lines = f"auth = approle\nrole = lkm\nrole_id = {role_id}\nsecret_id_wrapped = yes\nsecret_id_file = {self.secret_file('secret-id', wrapped)}\n"
        self.relogin(lines)
        self.restart_kms()  # the token is used up: somebody may have read it
        reply = self.user.ask(KMS_GENERATE, [(1, b"real"), (2, pairs(CONTEXT))])
        self.assert_error(reply, CREDENTIALS, DENIED)
        self.bao.api("POST", "auth/approle/role/other", {"token_policies": "lkm"})
        foreign = self.bao.api("POST", "auth/approle/role/other/secret-id", headers={"X-Vault-Wrap-TTL": "60s"})["wrap_info"]["token"]
        self.secret_file("secret-id", foreign)
        self.restart_kms()
        self.assert_error(self.user.ask(KMS_GENERATE, [(1, b"real"), (2, pairs(CONTEXT))]), CREDENTIALS, DENIED)

    def test_expired_token_is_a_normal_state(self):
        role_id = self.approle(bind_secret_id=False, token_bound_cidrs="127.0.0.0/8")
        self.relogin(f"auth = approle\nrole_id = {role_id}\n")
        key, kek_id, wrapped = self.made()
        self.expire_tokens()
        self.assert_unwraps(key, kek_id, wrapped)

    def expire_tokens(self):
        for accessor in self.bao.api("LIST", "auth/token/accessors")["data"]["keys"]:
            if "lkm" in self.bao.api("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]["policies"]:
                self.bao.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})


class VaultOnMock(Vault, ProviderCase):
    def serve(self):
        self.mock = MockKms()
        self.addCleanup(self.mock.stop)
        self.bao = MockVault(self.mock)
        self.more = f"ca_file = {self.mock.ca}\n"
        self.prepare()

    def stop_server(self):
        self.mock.fault("cut")

    def start_server(self):
        self.mock.clear_faults()

    def expire_tokens(self):
        self.mock.fault("expire-tokens", service="vault", count=1)

    def test_tokens_of_kubernetes_and_jwt_log_in(self):
        for method in ("kubernetes", "jwt"):
            self.bao.api("POST", f"sys/auth/{method}", {"type": method})
            self.mock.control("vault/jwt", jwt="eyJhbGciOiJub25lIn0.e30.", role="lkm")
            self.bao.api("POST", f"auth/{method}/role/lkm", {"token_policies": "lkm", "policies": "lkm"})
            jwt = self.secret_file("jwt", "eyJhbGciOiJub25lIn0.e30.\n")
            self.relogin(f"auth = {method}\nrole = lkm\njwt_file = {jwt}\n")


class OpenBaoCase(Vault):
    def test_namespace_holds_its_own_keys(self):
        self.bao.api("POST", "sys/namespaces/clinic")
        space = {"X-Vault-Namespace": "clinic"}
        self.bao.api("POST", "sys/mounts/transit", {"type": "transit"}, headers=space)
        self.bao.api("POST", "transit/keys/lkm", {"type": "aes256-gcm96", "derived": True}, headers=space)
        self.bao.api("POST", "sys/policies/acl/lkm", {"policy": 'path "transit/*" { capabilities = ["read", "update"] }'}, headers=space)
        token = self.bao.api("POST", "auth/token/create", {"policies": ["lkm"]}, headers=space)["auth"]["client_token"]
        outside = self.made()
        self.token_file = self.secret_file("token-2", token)
        self.restart_kms(clinic=self.section() + "namespace = clinic\n")
        key, kek_id, wrapped = self.made(kek="clinic")
        self.assertEqual(kek_id, b"vault:clinic/transit/lkm")
        self.assert_unwraps(key, kek_id, wrapped, kek="clinic")
        self.assertEqual(self.unwrap(outside[1], outside[2], kek="clinic").error, NOT_MINE)


@unittest.skipUnless(ALL_SERVERS, "valgrind")
@unittest.skipUnless(bao_program(), "the OpenBao server is not installed: tests/python-packages")
class VaultOnOpenBaoDev(OpenBaoCase, ProviderCase):
    def serve(self):
        self.bao = OpenBao(self)
        self.prepare()

    def start_server(self):
        self.skipTest("the dev server forgets its keys when it ends")


@unittest.skipUnless(ALL_SERVERS, "valgrind")
@unittest.skipUnless(bao_program(), "the OpenBao server is not installed: tests/python-packages")
class VaultOnOpenBaoTls(OpenBaoCase, ProviderCase):
    def serve(self):
        self.bao = OpenBao(self, tls=True)
        self.more = f"ca_file = {self.bao.certificates['ca']}\n"
        self.prepare()

    def start_server(self):
        self.bao.start()
        self.bao.unseal()

    def test_sealed_server_is_told_and_waited_for(self):
        key, kek_id, wrapped = self.made()
        self.bao.seal()
        reply = self.unwrap(kek_id, wrapped, msec=2000)
        self.assert_error(reply, UNREACHABLE)
        self.assertIn("sealed", reply.sentence)
        self.bao.unseal()
        self.until_it_works(kek_id, wrapped)
        self.assert_unwraps(key, kek_id, wrapped)

    def test_certificate_of_another_authority_is_refused(self):
        self.more = ""
        self.restart_kms()
        reply = self.user.ask(KMS_GENERATE, [(1, b"real"), (2, pairs(CONTEXT))])
        self.assert_error(reply, MISCONFIGURED, UNREACHABLE)
        self.assertIn("certificate", reply.sentence)

    def test_client_certificate_logs_in(self):
        self.bao.api("POST", "sys/auth/cert", {"type": "cert"})
        with open(self.bao.certificates["ca"]) as file:
            self.bao.api("POST", "auth/cert/certs/lkm", {"certificate": file.read(), "token_policies": "lkm"})
        self.relogin(f"auth = cert\nclient_certificate = {self.bao.certificates['client']}\nclient_key = {self.bao.certificates['client-key']}\n")


class External(OpenBao):
    """A server that somebody else runs."""

    def __init__(self, case):  # pylint: disable=super-init-not-called
        self.case, self.context = case, None
        self.address, self.token = os.environ["LKM_TEST_VAULT_ADDR"], os.environ.get("LKM_TEST_VAULT_TOKEN", "root")


@unittest.skipUnless(os.environ.get("LKM_TEST_VAULT_ADDR"), "LKM_TEST_VAULT_ADDR is not set")
class VaultOnAnotherServer(Vault, ProviderCase):
    test_server_that_goes_away_and_comes_back = None

    def serve(self):
        self.bao = External(self)
        for path in ("sys/mounts/transit", "sys/auth/approle"):  # what an earlier test has left
            self.bao.raw("DELETE", path)
        self.prepare()


if __name__ == "__main__":
    unittest.main()
