# SPDX-License-Identifier: Apache-2.0
"""Every release names the KEK that unwrapped its key, and the request by which it did, as the log of the KMS has it."""
import unittest

from audit_chain import Chain
from test_provider_faults import FaultCase
from test_request_id import AWS, VAULT, journaled
from support import GET, KMS_GENERATE, KMS_UNWRAP, REWRAP, ROTATE


class TwoKeks(FaultCase):
    def keks(self):
        return {"first": self.aws(), "second": self.vault()}

    def last(self, event):
        return Chain(self.path("audit.jsonl")).of(event)[-1]

    def assert_named(self, event, kek, operation, in_journal=-1):
        line = self.last(event)
        self.assertEqual(line["kek"], kek)
        self.assertEqual(line["kms_request_id"], journaled(self.mock, operation)[in_journal])
        self.assertTrue(line["kek_id"].startswith({"first": "arn:aws:kms:", "second": "vault:"}[kek]), line["kek_id"])

    def test_a_release_names_the_kek_and_the_request_that_unwrapped_it(self):
        self.make()
        self.assert_named("create", "first", AWS[KMS_GENERATE])
        self.assert_named("release", "first", AWS[KMS_GENERATE])  # out of the cache
        self.evict(self.user, self.record)
        self.ask()
        self.assert_named("release", "first", AWS[KMS_UNWRAP])
        unwrapped = self.last("release")["kms_request_id"]
        self.get(self.client(), self.record)  # out of the cache, on another connection
        self.assertEqual(self.last("release")["kms_request_id"], unwrapped)

        # The first one is lost, and the second one's wrap serves.
        self.mock.control("key-state", key_id=self.aws_key, state="Disabled")
        self.evict(self.user, self.record)
        self.assertEqual(self.get(self.user, self.record), self.key)
        self.assert_named("release", "second", VAULT[KMS_UNWRAP])


if __name__ == "__main__":
    unittest.main()
