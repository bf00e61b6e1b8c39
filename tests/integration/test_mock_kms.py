# SPDX-License-Identifier: Apache-2.0
"""lkm-mock-kms as AWS: asked by botocore, and compared with moto where moto answers as AWS does."""
import datetime
import email.utils
import json
import logging
import os
import unittest

from mock_kms import ACCESS_KEY_ID, ACCOUNT, SECRET_ACCESS_KEY, MockKms, under_test_venv

under_test_venv("botocore", "moto")
import botocore.auth  # noqa: E402
import botocore.awsrequest  # noqa: E402
import botocore.config  # noqa: E402
import botocore.credentials  # noqa: E402
import botocore.exceptions  # noqa: E402
import botocore.session  # noqa: E402
import botocore.utils  # noqa: E402

CONTEXT = {"purpose": "medical", "environment": "production"}


class MockCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"
        cls.mock = MockKms()
        cls.addClassCleanup(cls.mock.stop)

    def setUp(self):
        self.mock.reset()

    def client(self, service="kms", region="us-east-1", key=ACCESS_KEY_ID, secret=SECRET_ACCESS_KEY, token=None, url=None, **more):
        client = botocore.session.Session().create_client(
            service, region_name=region, endpoint_url=url or self.mock.http, aws_access_key_id=key, aws_secret_access_key=secret,
            aws_session_token=token, config=botocore.config.Config(retries={"total_max_attempts": 1}), **more)
        self.addCleanup(client.close)
        return client

    def key(self, **more):
        return self.mock.control("aws/key", **more)

    def refused(self, code, call, status=400, **arguments):
        """Assert that @call fails with @code. Return: the message, or None when the body has none."""
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call(**arguments)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Code"], code, response)
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertIn("x-amzn-requestid", response["ResponseMetadata"]["HTTPHeaders"])
        return response["Error"].get("Message")

    def signed(self, body, operation, change=lambda headers: None, secret=SECRET_ACCESS_KEY):
        """A request signed by botocore, whose headers @change may spoil. Return: (status, headers, body)."""
        request = botocore.awsrequest.AWSRequest("POST", self.mock.http + "/", data=body, headers={
            "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}"})
        botocore.auth.SigV4Auth(botocore.credentials.Credentials(ACCESS_KEY_ID, secret), "kms", "us-east-1").add_auth(request)
        headers = dict(request.headers.items())
        change(headers)
        return self.mock.request("POST", "/", body, headers)


class Kms(MockCase):
    def test_data_key_decrypts_with_its_context_in_any_order(self):
        kms, arn = self.client(), self.key(alias="alias/lkm")["arn"]
        made = kms.generate_data_key(KeyId="alias/lkm", KeySpec="AES_256", EncryptionContext=CONTEXT)
        self.assertEqual((len(made["Plaintext"]), made["KeyId"]), (32, arn))
        self.assertRegex(made["KeyMaterialId"], "^[0-9a-f]{64}$")
        turned = dict(reversed(CONTEXT.items()))
        for more in ({}, {"KeyId": arn}):
            got = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=turned, **more)
            self.assertEqual((got["Plaintext"], got["KeyId"], got["EncryptionAlgorithm"]), (made["Plaintext"], arn, "SYMMETRIC_DEFAULT"))
        without = kms.generate_data_key_without_plaintext(KeyId=arn, NumberOfBytes=64)
        self.assertNotIn("Plaintext", without)
        self.assertEqual(len(kms.decrypt(CiphertextBlob=without["CiphertextBlob"], EncryptionContext={})["Plaintext"]), 64)

    def test_wrong_context_and_damage_are_invalid_ciphertext_without_a_message(self):
        kms, arn = self.client(), self.key()["arn"]
        blob = kms.encrypt(KeyId=arn, Plaintext=b"x" * 32, EncryptionContext=CONTEXT)["CiphertextBlob"]
        wrong = [(blob, {}), (blob, {**CONTEXT, "purpose": "Medical"}), (blob, {**CONTEXT, "more": "1"}), (blob[:-1], CONTEXT), (b"x", CONTEXT)]
        for at in range(len(blob)):
            wrong.append((blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:], CONTEXT))
        for damaged, context in wrong:
            message = self.refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=damaged, EncryptionContext=context, KeyId=arn)
            self.assertEqual(message, "")

    def test_key_id_of_another_key_is_incorrect_key(self):
        kms, arn, other = self.client(), self.key()["arn"], self.key()["arn"]
        blob = kms.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
        self.assertEqual(self.refused("IncorrectKeyException", kms.decrypt, CiphertextBlob=blob, KeyId=other),
                         "The key ID in the request does not identify a CMK that can perform this operation.")

    def test_a_key_has_four_names(self):
        kms, key = self.client(), self.key(alias="alias/a/b_c-d")
        for name in (key["key_id"], key["arn"], "alias/a/b_c-d", f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/a/b_c-d"):
            self.assertEqual(kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"], key["arn"])

    def test_what_does_not_exist_is_not_found_in_the_words_of_aws(self):
        kms, uuid = self.client(), "1234abcd-12ab-34cd-56ef-1234567890ab"
        for name, message in ((uuid, f"Key 'arn:aws:kms:us-east-1:{ACCOUNT}:key/{uuid}' does not exist"),
                              ("alias/none", f"Alias arn:aws:kms:us-east-1:{ACCOUNT}:alias/none is not found."),
                              ("abc123", "Invalid keyId 'abc123'"),
                              (f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{uuid}", "Invalid arn eu-west-1")):
            self.assertEqual(self.refused("NotFoundException", kms.describe_key, KeyId=name), message)
        self.refused("AccessDeniedException", kms.describe_key, KeyId=f"arn:aws:kms:us-east-1:111122223333:key/{uuid}")

    def test_multi_region_blob_decrypts_in_a_related_region_only(self):
        key = self.key(multi_region=True, regions=["us-east-1", "eu-west-1"], key_id="mrk-" + "0123456789abcdef" * 2)
        single = self.key()
        here, there, nowhere = (self.client(region=region) for region in ("us-east-1", "eu-west-1", "ap-south-1"))
        blob = here.encrypt(KeyId=key["key_id"], Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
        got = there.decrypt(CiphertextBlob=blob, KeyId=key["arns"]["eu-west-1"], EncryptionContext=CONTEXT)
        self.assertEqual((got["Plaintext"], got["KeyId"]), (b"x", key["arns"]["eu-west-1"]))
        self.assertEqual(self.refused("NotFoundException", there.decrypt, CiphertextBlob=blob, KeyId=key["arns"]["us-east-1"]),
                         "Invalid arn us-east-1")
        self.refused("AccessDeniedException", nowhere.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
        blob = here.encrypt(KeyId=single["key_id"], Plaintext=b"x")["CiphertextBlob"]
        self.refused("AccessDeniedException", there.decrypt, CiphertextBlob=blob)
        shown = there.describe_key(KeyId=key["key_id"])["KeyMetadata"]
        self.assertTrue(shown["MultiRegion"])
        self.assertEqual(shown["MultiRegionConfiguration"]["MultiRegionKeyType"], "REPLICA")
        self.assertEqual(shown["MultiRegionConfiguration"]["PrimaryKey"]["Region"], "us-east-1")
        # A region's state is its own.
        self.mock.control("key-state", key_id=key["key_id"], state="Disabled", region="us-east-1")
        self.refused("DisabledException", here.encrypt, KeyId=key["key_id"], Plaintext=b"x")
        there.encrypt(KeyId=key["key_id"], Plaintext=b"x")

    def test_key_states_are_enforced_and_described(self):
        kms, key = self.client(), self.key()
        arn = key["arn"]
        blob = kms.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
        for state, code, end in (("Disabled", "DisabledException", "is disabled."), ("PendingDeletion", "KMSInvalidStateException", "is pending deletion."),
                                 ("PendingImport", "KMSInvalidStateException", "is pending import."),
                                 ("Unavailable", "KMSInvalidStateException", "is unavailable."), ("Creating", "KMSInvalidStateException", "is creating.")):
            self.mock.control("key-state", key_id=arn, state=state)
            self.assertEqual(self.refused(code, kms.decrypt, CiphertextBlob=blob), f"{arn} {end}")
            self.refused(code, kms.generate_data_key, KeyId=arn, KeySpec="AES_256")
            self.refused(code, kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=arn)
            shown = kms.describe_key(KeyId=arn)["KeyMetadata"]
            self.assertEqual((shown["KeyState"], shown["Enabled"]), (state, False))
        self.mock.control("key-state", key_id=arn, state="Enabled")
        self.assertEqual(kms.decrypt(CiphertextBlob=blob)["Plaintext"], b"x")

    def test_keys_are_managed_by_the_real_operations(self):
        kms = self.client()
        made = kms.create_key(Description="for a test")["KeyMetadata"]
        self.assertEqual((made["KeyState"], made["KeySpec"], made["Description"]), ("Enabled", "SYMMETRIC_DEFAULT", "for a test"))
        kms.create_alias(AliasName="alias/made", TargetKeyId=made["KeyId"])
        self.refused("AlreadyExistsException", kms.create_alias, AliasName="alias/made", TargetKeyId=made["KeyId"])
        self.refused("NotFoundException", self.client(region="eu-west-1").describe_key, KeyId="alias/made")
        kms.disable_key(KeyId=made["KeyId"])
        self.refused("DisabledException", kms.encrypt, KeyId="alias/made", Plaintext=b"x")
        kms.enable_key(KeyId=made["KeyId"])
        kms.encrypt(KeyId="alias/made", Plaintext=b"x")
        gone = kms.schedule_key_deletion(KeyId=made["KeyId"], PendingWindowInDays=7)
        self.assertEqual((gone["KeyState"], gone["KeyId"]), ("PendingDeletion", made["Arn"]))
        days = (gone["DeletionDate"] - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / 86400
        self.assertAlmostEqual(days, 7, places=1)
        self.refused("KMSInvalidStateException", kms.encrypt, KeyId="alias/made", Plaintext=b"x")

    def test_re_encrypt_moves_to_another_key_and_context(self):
        kms, one, two = self.client(), self.key()["arn"], self.key()["arn"]
        blob = kms.encrypt(KeyId=one, Plaintext=b"x", EncryptionContext={"a": "1"})["CiphertextBlob"]
        moved = kms.re_encrypt(CiphertextBlob=blob, SourceKeyId=one, SourceEncryptionContext={"a": "1"}, DestinationKeyId=two,
                               DestinationEncryptionContext={"b": "2"})
        self.assertEqual((moved["SourceKeyId"], moved["KeyId"]), (one, two))
        self.assertEqual(kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], KeyId=two, EncryptionContext={"b": "2"})["Plaintext"], b"x")
        self.refused("InvalidCiphertextException", kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=two)

    def test_parameters_are_validated(self):
        kms, arn = self.client(), self.key()["arn"]
        for more in ({}, {"KeySpec": "AES_256", "NumberOfBytes": 32}):
            self.assertEqual(self.refused("ValidationException", kms.generate_data_key, KeyId=arn, **more),
                             "Please specify either number of bytes or key spec.")
        self.refused("ValidationException", kms.generate_data_key, KeyId=arn, NumberOfBytes=1025)
        self.refused("ValidationException", kms.encrypt, KeyId=arn, Plaintext=b"x" * 4097)
        self.refused("ValidationException", kms.decrypt, CiphertextBlob=b"x" * 6145)
        self.assertEqual(self.refused("DryRunOperationException", kms.generate_data_key, KeyId=arn, KeySpec="AES_256", DryRun=True),
                         "The request would have succeeded, but the DryRun option is set.")

    def test_unknown_operation_and_bad_json_are_told(self):
        kms = self.client()
        self.refused("UnknownOperationException", kms.list_keys)
        for body in (b"[]", b"{", b'{"KeyId":1,"KeySpec":"AES_256"}', b'{"CiphertextBlob":"!!"}'):
            status, _, text = self.signed(body, "Decrypt" if b"Blob" in body else "GenerateDataKey")
            self.assertEqual((status, json.loads(text)), (400, {"__type": "SerializationException"}))

    def test_messages_of_denials_have_a_capital_and_others_none(self):
        arn = self.key()["arn"]
        self.mock.control("aws/user", access_key_id="AKIALIMITED", secret_access_key="secret", policy=["kms:Decrypt"], name="limited")
        denied = self.refused("AccessDeniedException", self.client(key="AKIALIMITED", secret="secret").generate_data_key, KeyId=arn, KeySpec="AES_256")
        self.assertEqual(denied, f"User: arn:aws:iam::{ACCOUNT}:user/limited is not authorized to perform: kms:GenerateDataKey on resource: {arn} "
                         "because no identity-based policy allows the kms:GenerateDataKey action")
        body = json.dumps({"KeyId": f"arn:aws:kms:us-east-1:111122223333:key/{arn[-36:]}"}).encode()
        self.assertEqual(set(json.loads(self.signed(body, "DescribeKey")[2])), {"__type", "Message"})
        self.assertEqual(set(json.loads(self.signed(b'{"KeyId":"none"}', "DescribeKey")[2])), {"__type", "message"})

    def test_policy_is_asked_for_each_action(self):
        arn = self.key()["arn"]
        blob = self.client().encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
        calls = {"kms:Decrypt": ("decrypt", {"CiphertextBlob": blob}), "kms:Encrypt": ("encrypt", {"KeyId": arn, "Plaintext": b"x"}),
                 "kms:GenerateDataKey": ("generate_data_key", {"KeyId": arn, "KeySpec": "AES_256"}), "kms:DescribeKey": ("describe_key", {"KeyId": arn}),
                 "kms:GenerateDataKeyWithoutPlaintext": ("generate_data_key_without_plaintext", {"KeyId": arn, "KeySpec": "AES_256"}),
                 "kms:ReEncryptFrom": ("re_encrypt", {"CiphertextBlob": blob, "DestinationKeyId": arn}),
                 "kms:ReEncryptTo": ("re_encrypt", {"CiphertextBlob": blob, "DestinationKeyId": arn})}
        for action, (name, arguments) in calls.items():
            everything_else = [other for other in calls if other != action]
            self.mock.control("aws/user", access_key_id="AKIALIMITED", secret_access_key="secret", policy=everything_else)
            limited = self.client(key="AKIALIMITED", secret="secret")
            self.assertIn(action, self.refused("AccessDeniedException", getattr(limited, name), **arguments))
            self.mock.control("aws/grant", grant_token="granted", actions=[action])
            if name != "describe_key":
                getattr(limited, name)(GrantTokens=["granted"], **arguments)
        self.refused("InvalidGrantTokenException", self.client().decrypt, CiphertextBlob=blob, GrantTokens=["unknown"])


class Signature(MockCase):
    """What botocore signs is taken above; here is what must not be."""

    def test_wrong_secret_is_invalid_signature(self):
        self.assertIn("does not match the signature you provided", self.refused("InvalidSignatureException", self.client(secret="wrong").describe_key,
                                                                                 KeyId="x"))

    def test_unknown_access_key_is_unrecognized_client(self):
        self.assertEqual(self.refused("UnrecognizedClientException", self.client(key="AKIANOBODY").describe_key, KeyId="x"),
                         "The security token included in the request is invalid.")

    def test_session_needs_its_token_and_its_time(self):
        arn = self.key()["arn"]
        self.mock.control("aws/user", access_key_id="ASIASESSION", secret_access_key="secret", session_token="token", expires_in=900)
        self.client(key="ASIASESSION", secret="secret", token="token").describe_key(KeyId=arn)
        for token in (None, "other"):
            self.refused("UnrecognizedClientException", self.client(key="ASIASESSION", secret="secret", token=token).describe_key, KeyId=arn)
        self.mock.fault("expire-tokens", "kms")
        self.assertEqual(self.refused("ExpiredTokenException", self.client(key="ASIASESSION", secret="secret", token="token").describe_key, KeyId=arn),
                         "The security token included in the request is expired")
        self.client().describe_key(KeyId=arn)

    def test_skew_over_five_minutes_is_told_with_both_times(self):
        arn, kms = self.key()["arn"], self.client()
        for minutes in (4, -4):
            self.mock.clock(minutes * 60)
            reply = kms.describe_key(KeyId=arn)
            date = email.utils.parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
            seconds = (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
            self.assertAlmostEqual(seconds, minutes * 60, delta=30)
        for offset, pattern in ((600, r"^Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(\d{8}T\d{6}Z - 5 min\.\)$"),
                                (-600, r"^Signature not yet current: \d{8}T\d{6}Z is still later than \d{8}T\d{6}Z \(\d{8}T\d{6}Z \+ 5 min\.\)$")):
            self.mock.clock(offset)
            self.assertRegex(self.refused("InvalidSignatureException", kms.describe_key, KeyId=arn), pattern)

    def test_everything_that_is_sent_must_be_signed(self):
        body = b'{"KeyId":"alias/none"}'
        self.assertEqual(json.loads(self.signed(body, "DescribeKey")[2])["__type"], "NotFoundException")
        spoiled = {
            "a changed target": lambda headers: headers.update({"X-Amz-Target": "TrentService.Decrypt"}),
            "a header not signed": lambda headers: headers.update({"X-Amz-More": "1"}),
            "another host": lambda headers: headers.update({"Host": "kms.us-east-1.amazonaws.com"}),
            "another scope": lambda headers: headers.update({"Authorization": headers["Authorization"].replace("/kms/", "/s3/")}),
            "another region": lambda headers: headers.update({"Authorization": headers["Authorization"].replace("us-east-1", "us-east-2")}),
            "another day": lambda headers: headers.update({"Authorization": headers["Authorization"].replace(headers["X-Amz-Date"][:8], "20150830")}),
            "another date": lambda headers: headers.update({"X-Amz-Date": headers["X-Amz-Date"][:-2] + ("1Z" if headers["X-Amz-Date"][-2] == "0" else "0Z")}),
            "an unsorted list": lambda headers: headers.update({"Authorization": headers["Authorization"].replace("content-type;host", "host;content-type")}),
            "no host in the list": lambda headers: headers.update({"Authorization": headers["Authorization"].replace("host;", "")}),
        }
        for what, change in spoiled.items():
            with self.subTest(what):
                self.assertEqual(json.loads(self.signed(body, "DescribeKey", change)[2])["__type"], "InvalidSignatureException")
        for code, change in (("MissingAuthenticationTokenException", lambda headers: headers.pop("Authorization")),
                             ("IncompleteSignatureException", lambda headers: headers.update({"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d/e"})),
                             ("IncompleteSignatureException", lambda headers: headers.pop("X-Amz-Date"))):
            self.assertEqual(json.loads(self.signed(body, "DescribeKey", change)[2])["__type"], code)

    def test_the_same_over_tls(self):
        kms = self.client(url=self.mock.https, verify=self.mock.ca)
        made = kms.generate_data_key(KeyId=self.key()["arn"], KeySpec="AES_256")
        self.assertEqual(kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"], made["Plaintext"])
        with self.assertRaises(botocore.exceptions.SSLError):
            self.client(url=self.mock.https).describe_key(KeyId="x")


class Sts(MockCase):
    ROLE = f"arn:aws:iam::{ACCOUNT}:role/path/lkm"

    def use(self, credentials):
        return self.client(key=credentials["AccessKeyId"], secret=credentials["SecretAccessKey"], token=credentials["SessionToken"])

    def test_assumed_role_is_what_kms_sees(self):
        arn = self.key()["arn"]
        self.mock.control("aws/role", role_arn=self.ROLE, policy=["kms:DescribeKey"], external_id="outside")
        sts = self.client("sts")
        made = sts.assume_role(RoleArn=self.ROLE, RoleSessionName="lkmd-1", ExternalId="outside", DurationSeconds=900)
        self.assertEqual(made["AssumedRoleUser"]["Arn"], f"arn:aws:sts::{ACCOUNT}:assumed-role/lkm/lkmd-1")
        left = made["Credentials"]["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
        self.assertAlmostEqual(left.total_seconds(), 900, delta=60)
        kms = self.use(made["Credentials"])
        kms.describe_key(KeyId=arn)
        self.assertIn("assumed-role/lkm/lkmd-1", self.refused("AccessDeniedException", kms.encrypt, KeyId=arn, Plaintext=b"x"))
        self.assertIn("sts:AssumeRole", self.refused("AccessDenied", sts.assume_role, 403, RoleArn=self.ROLE, RoleSessionName="lkmd-1"))

    def test_caller_must_be_known_and_allowed(self):
        arguments = {"RoleArn": self.ROLE, "RoleSessionName": "lkmd-1"}
        self.mock.control("aws/user", access_key_id="AKIALIMITED", secret_access_key="secret", policy=["kms:*"])
        self.refused("AccessDenied", self.client("sts", key="AKIALIMITED", secret="secret").assume_role, 403, **arguments)
        self.refused("InvalidClientTokenId", self.client("sts", key="AKIANOBODY").assume_role, 403, **arguments)
        self.refused("SignatureDoesNotMatch", self.client("sts", secret="wrong").assume_role, 403, **arguments)
        self.refused("ValidationError", self.client("sts").assume_role, RoleArn=self.ROLE, RoleSessionName="with blank")
        self.assertEqual(self.client("sts").get_caller_identity()["Account"], ACCOUNT)
        self.mock.clock(1000)
        self.assertRegex(self.refused("SignatureDoesNotMatch", self.client("sts").assume_role, 403, **arguments), "^Signature expired: .* - 15 min")

    def test_web_identity_token_must_be_known_and_for_the_role(self):
        sts, arguments = self.client("sts"), {"RoleArn": self.ROLE, "RoleSessionName": "lkmd-1", "WebIdentityToken": "eyJh.token+/="}
        self.refused("InvalidIdentityToken", sts.assume_role_with_web_identity, **arguments)
        self.mock.control("sts/web-identity", token="eyJh.token+/=", role_arn=self.ROLE)
        kms = self.use(sts.assume_role_with_web_identity(**arguments)["Credentials"])
        kms.describe_key(KeyId=self.key()["arn"])
        self.refused("AccessDenied", sts.assume_role_with_web_identity, 403, **{**arguments, "RoleArn": self.ROLE + "2"})
        self.mock.control("sts/web-identity", token="eyJh.token+/=", expired=True)
        self.refused("ExpiredTokenException", sts.assume_role_with_web_identity, **arguments)


class Metadata(MockCase):
    def imds(self, **more):
        return botocore.utils.InstanceMetadataFetcher(timeout=10, num_attempts=1, config={
            "ec2_metadata_service_endpoint": self.mock.http + "/", "ec2_metadata_v1_disabled": True}, **more)

    def test_instance_metadata_gives_working_credentials(self):
        self.mock.control("metadata", role="clinic", region="eu-west-1", policy=["kms:DescribeKey"])
        got = self.imds().retrieve_iam_role_credentials()
        self.assertEqual(got["role_name"], "clinic")
        kms = self.client(key=got["access_key"], secret=got["secret_key"], token=got["token"])
        self.assertIn("assumed-role/clinic", self.refused("AccessDeniedException", kms.encrypt, KeyId=self.key()["arn"], Plaintext=b"x"))
        again = self.imds().retrieve_iam_role_credentials()
        self.assertEqual(again["access_key"], got["access_key"])
        self.mock.fault("expire-tokens", "kms")
        self.assertNotEqual(self.imds().retrieve_iam_role_credentials()["access_key"], got["access_key"])
        region = botocore.utils.InstanceMetadataRegionFetcher(timeout=10, num_attempts=1, config={
            "ec2_metadata_service_endpoint": self.mock.http + "/"})
        self.assertEqual(region.retrieve_region(), "eu-west-1")
        self.assertEqual(self.mock.count("imds", "token"), {200: 4})

    def test_version_1_is_unauthorized(self):
        path = "/latest/meta-data/iam/security-credentials/"
        self.assertEqual(self.mock.request("GET", path)[0], 401)
        self.assertEqual(self.mock.request("GET", path, headers={"x-aws-ec2-metadata-token": "unknown"})[0], 401)
        for ttl in ("0", "21601", "x"):
            self.assertEqual(self.mock.request("PUT", "/latest/api/token", headers={"x-aws-ec2-metadata-token-ttl-seconds": ttl})[0], 400)
        self.assertEqual(self.mock.request("PUT", "/latest/api/token")[0], 400)
        token = self.mock.request("PUT", "/latest/api/token", headers={"x-aws-ec2-metadata-token-ttl-seconds": "60"})[2].decode()
        self.assertEqual(self.mock.request("GET", path, headers={"x-aws-ec2-metadata-token": token})[2], b"mock-role")
        self.mock.clock(61)
        self.assertEqual(self.mock.request("GET", path, headers={"x-aws-ec2-metadata-token": token})[0], 401)

    def test_code_other_than_success_comes_with_200(self):
        self.mock.control("metadata", code="AssumeRoleUnauthorizedAccess")
        self.assertEqual(self.imds().retrieve_iam_role_credentials(), {})

    def test_container_credentials_ask_for_their_token(self):
        self.mock.control("metadata", container_token="open sesame")
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.mock.http + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "open sesame"}
        got = botocore.credentials.ContainerProvider(environ=environment).load()
        kms = self.client(key=got.access_key, secret=got.secret_key, token=got.token)
        kms.describe_key(KeyId=self.key()["arn"])
        environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "other"
        with self.assertRaises(botocore.exceptions.CredentialRetrievalError):
            botocore.credentials.ContainerProvider(
                environ=environment, fetcher=botocore.utils.ContainerMetadataFetcher(sleep=lambda seconds: None)).load()


class Moto(MockCase):
    """The same questions to moto's server: the same answers, where moto is right."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import moto.server
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        cls.moto = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        cls.moto.start()
        cls.addClassCleanup(cls.moto.stop)

    def answers(self, url):
        """Question: (code, message), or what came back without what is random."""
        kms, uuid, answers = self.client(url=url), "1234abcd-12ab-34cd-56ef-1234567890ab", {}

        def ask(question, name, **arguments):
            try:
                reply = getattr(kms, name)(**arguments)
            except botocore.exceptions.ClientError as error:
                answers[question] = (error.response["Error"]["Code"], error.response["Error"].get("Message"),
                                     error.response["ResponseMetadata"]["HTTPStatusCode"])
                return None
            answers[question] = sorted(set(reply) - {"ResponseMetadata", "EncryptionAlgorithm", "KeyMaterialId"} -
                                       {name for name in reply if name.endswith(("EncryptionAlgorithm", "KeyMaterialId"))})
            return reply

        made = ask("create", "create_key")["KeyMetadata"]
        self.assertRegex(made["Arn"], rf"^arn:aws:kms:us-east-1:{ACCOUNT}:key/[0-9a-f-]{{36}}$")
        ask("alias", "create_alias", AliasName="alias/lkm", TargetKeyId=made["KeyId"])
        for name in (made["KeyId"], made["Arn"], "alias/lkm", f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/lkm"):
            reply = ask("generate", "generate_data_key", KeyId=name, KeySpec="AES_256", EncryptionContext=CONTEXT)
            self.assertEqual((reply["KeyId"], len(reply["Plaintext"])), (made["Arn"], 32))
            turned = ask("decrypt", "decrypt", CiphertextBlob=reply["CiphertextBlob"], EncryptionContext=dict(reversed(CONTEXT.items())))
            self.assertEqual((turned["KeyId"], turned["Plaintext"]), (made["Arn"], reply["Plaintext"]))
        blob = reply["CiphertextBlob"]
        ask("without plaintext", "generate_data_key_without_plaintext", KeyId="alias/lkm", NumberOfBytes=16)
        ask("re-encrypt", "re_encrypt", CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, DestinationKeyId=made["KeyId"])
        ask("no context", "decrypt", CiphertextBlob=blob)
        ask("another case", "decrypt", CiphertextBlob=blob, EncryptionContext={**CONTEXT, "purpose": "Medical"})
        ask("damaged", "decrypt", CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=CONTEXT)
        ask("no alias", "describe_key", KeyId="alias/none")
        ask("neither size", "generate_data_key", KeyId=made["KeyId"])
        ask("both sizes", "generate_data_key", KeyId=made["KeyId"], KeySpec="AES_256", NumberOfBytes=32)
        ask("no key", "describe_key", KeyId=uuid)
        return answers

    def test_answers_are_those_of_moto(self):
        host, port = self.moto.get_host_and_port()
        theirs, ours = self.answers(f"http://{host}:{port}"), self.answers(self.mock.http)
        for question, answer in theirs.items():
            with self.subTest(question):
                self.assertEqual(ours[question], answer)


if __name__ == "__main__":
    unittest.main()
