# SPDX-License-Identifier: Apache-2.0
"""What the log of the KMS calls a request comes back with its answer, so that an auditor can lay both logs side by side."""
import json
import unittest

import example_provider
import test_provider_socket
import test_providers
from support import (CREATE, EVICT, GET, KEY, KMS_GENERATE, KMS_GENERATED, KMS_REWRAP, KMS_UNWRAP, KMS_UNWRAPPED, KMS_WRAP, KMS_WRAPPED, RECORD, ROTATE, Client, pairs,
                     u32)
from test_providers import CONTEXT

# The field of each answer that has the id, and what the mock calls each request.
FIELD = {KMS_GENERATED: 4, KMS_UNWRAPPED: 2, KMS_WRAPPED: 3}
AWS = {KMS_GENERATE: "GenerateDataKey", KMS_UNWRAP: "Decrypt", KMS_WRAP: "Encrypt", KMS_REWRAP: "ReEncrypt"}
VAULT = {KMS_GENERATE: "transit/datakey/plaintext/lkm", KMS_UNWRAP: "transit/decrypt/lkm", KMS_WRAP: "transit/encrypt/lkm", KMS_REWRAP: "transit/rewrap/lkm"}


def journaled(mock, operation):
    """The request ids of the answers that the mock gave to @operation, oldest first."""
    log = mock.log()
    return [made for line, made in zip(log["last"], log["request_ids"]) if line.split()[1] == operation]


class OfTheServer:
    names = None

    def test_each_answer_names_the_request_as_the_server_does(self):
        key, kek_id, wrapped = self.made()
        requests = ((KMS_GENERATE, [(1, b"real"), (2, pairs(CONTEXT))]),
                    (KMS_UNWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(CONTEXT))]),
                    (KMS_WRAP, [(1, key), (2, b"real"), (3, pairs(CONTEXT))]),
                    (KMS_REWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(CONTEXT))]))
        for number, fields in requests:
            reply = self.user.ask(number, fields)
            self.assertIn(reply.number, FIELD, reply.sentence)
            ids = journaled(self.mock, self.names[number])
            self.assertEqual(reply.fields[FIELD[reply.number]].decode(), ids[-1], self.names[number])
            self.assertEqual(len(ids[-1]), 36)

    def test_unwraps_that_go_together_have_the_one_request_in_common(self):
        _, kek_id, wrapped = self.made()
        for _ in range(40):
            self.user.send(KMS_UNWRAP, [(1, b"real"), (2, kek_id), (3, wrapped), (4, pairs(CONTEXT))])
        told = {self.user.receive().fields[2].decode() for _ in range(40)}
        self.assertEqual(told, set(journaled(self.mock, self.names[KMS_UNWRAP])))

    # ---- and in the audit log ----

    def released(self):
        """What the last release says of where its key is from."""
        with open(self.path("audit.jsonl")) as log:
            lines = [json.loads(line) for line in log]
        line = [line for line in lines if line["event"] == "release"][-1]
        return line["version"], line["kek"], line["kek_id"], line["kms_request_id"]

    def get(self, record, *fields):
        """GET on a connection of its own, so that each is a release."""
        with Client(self.path("lkm.sock")) as client:
            reply = client.ask(GET, [(1, record), *fields])
            self.assertEqual(reply.number, KEY, reply.sentence)

    def ids(self, number):
        return journaled(self.mock, self.names[number])

    def test_each_release_names_the_request_that_brought_its_key(self):
        self.lkmd = self.start_ready("lkmd")
        with Client(self.path("lkm.sock")) as client:
            made = client.ask(CREATE, [(1, b"medical")])
            self.assertEqual(made.number, RECORD, made.sentence)
            record = made.fields[1]
            kek_id = json.loads(record)["kek_id"]
            self.get(record)
            self.assertEqual(self.released(), (1, "real", kek_id, self.ids(KMS_GENERATE)[-1]))
            client.ask(EVICT, [(1, record)])
            before = len(self.ids(KMS_UNWRAP))
            self.get(record)
            self.assertEqual(self.released(), (1, "real", kek_id, self.ids(KMS_UNWRAP)[-1]))
            self.get(record)  # out of the cache
            self.assertEqual(self.released(), (1, "real", kek_id, self.ids(KMS_UNWRAP)[-1]))
            self.assertEqual(len(self.ids(KMS_UNWRAP)), before + 1)
            rotated = client.ask(ROTATE, [(1, record)])
            self.assertEqual(rotated.number, RECORD, rotated.sentence)
        self.get(rotated.fields[1], (3, u32(2)))
        self.assertEqual(self.released(), (2, "real", kek_id, self.ids(KMS_UNWRAP)[-1]))


class Aws(OfTheServer, test_providers.ProviderCase):
    names = AWS
    serve, section, write_credentials, allow, allow_actions, actions = (getattr(test_providers.AwsOnMock, name) for name in (
        "serve", "section", "write_credentials", "allow", "allow_actions", "actions"))
    permissions, region, tls = test_providers.AwsOnMock.permissions, test_providers.AwsOnMock.region, ""


class Vault(OfTheServer, test_providers.ProviderCase):
    names = VAULT
    serve, prepare, section, login, apply_policy, allow = (getattr(test_providers.VaultOnMock, name) for name in ("serve", "prepare", "section", "login", "apply_policy", "allow"))
    permissions, key, more = test_providers.VaultOnMock.permissions, test_providers.VaultOnMock.key, ""


class OfAProvider(test_provider_socket.SocketCase):
    def told(self, said):
        """What becomes of @said, as the provider's request id."""
        def answer(session, number, fields):
            number, answered = example_provider.answer(session.server.master, number, fields)
            return number, {**answered, FIELD[number]: said} if said is not None else answered
        self.script(answer)
        reply = self.user.ask(KMS_GENERATE, [(1, b"one"), (2, pairs(CONTEXT))])
        self.assertEqual(reply.number, KMS_GENERATED, reply.sentence)
        return reply.fields.get(4)

    def test_a_provider_may_give_one(self):
        for said in (b"7", b"Root=1-67891233-abcdef; \"x\\y\" ~", b"x" * 128):
            self.assertEqual(self.told(said), said)

    def test_what_cannot_be_one_is_left_out(self):
        for said in (None, b" 7", b"7 ", "straße".encode()):
            self.assertIsNone(self.told(said), said)


if __name__ == "__main__":
    unittest.main()
