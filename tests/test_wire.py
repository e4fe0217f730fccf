"""Requests on the wire: what is signed and how, what comes of answers, and the text that an item came as."""

import datetime
import hashlib
import hmac
import json
import re

import pytest

from benchmarks.front import Answer, Server
from load_migration import migration

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ITEMS = [
    {"databaseId": {"S": "d"}, "assetId": {"S": "a"}, "text": {"S": '],"Items":[{"x'}},
    {
        "databaseId": {"S": "d"},
        "assetId": {"S": "b"},
        "Items": {"M": {"Items": {"L": [{"S": "Items"}, {"N": "1.50"}]}}},
    },
    {"databaseId": {"S": "d"}, "assetId": {"S": "Größe 鼎 \U0001f600\u2028"}, "data": {"B": "AAE="}},
]


class Echo(Server):
    """Answers everything with the same, and keeps the requests."""

    def __init__(self, status, body):
        super().__init__()
        self.reply = Answer(status, body)
        self.received = []

    def answer(self, head, body):
        self.received.append((head, body))
        return self.reply


@pytest.fixture
def database(monkeypatch):
    """A function that gives the Database behind a server's URL."""

    def connect(url):
        values = {"endpoint_url": url, "assets_table_name": "assets", "asset_versions_table_name": "versions"}
        settings = migration.resolve_settings(migration.CONFIG, {}, {**values, "asset_bucket_name": "bucket"})
        return migration.connect(settings)[1]

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "session-token"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
    ):
        monkeypatch.setenv(name, value)
    return connect


# --------------------------------------------------------------------------------------
# Requests
# --------------------------------------------------------------------------------------


def signature(head, body):
    """The signature that AWS would compute of a request as it arrived.
    Source: IAM user guide, "Create a signed AWS API request"."""
    lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    scope, signed = re.search(r"Credential=AKIDEXAMPLE/(\S+), SignedHeaders=(\S+),", headers["authorization"]).groups()
    canonical = ["POST", lines[0].split(" ")[1], ""]
    canonical += ["%s:%s" % (name, headers[name]) for name in signed.split(";")]
    canonical += ["", signed, hashlib.sha256(body).hexdigest()]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return headers, signed.split(";"), scope, hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("path", ["", "/", "/below"])
def test_requests_are_signed(database, path):
    with Echo(200, b'{"Items":[]}') as server:
        database(server.endpoint_url + path).read_page("assets", {"Limit": 7})
        ((head, body),) = server.received
    headers, signed, scope, expected = signature(head, body)
    assert head.startswith(b"POST %s HTTP/1.1" % (path or "/").encode())
    assert headers["authorization"].endswith("Signature=" + expected)
    assert {"content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"} <= set(signed)
    assert headers["x-amz-security-token"] == "session-token"
    assert headers["x-amz-target"] == "DynamoDB_20120810.Scan"
    assert headers["user-agent"] == "vams-migration/" + migration.TOOL_VERSION
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d")
    assert scope[8:] == "/eu-central-1/dynamodb/aws4_request" and abs(int(scope[:8]) - int(today)) <= 8870
    assert json.loads(body) == {
        "TableName": "assets",
        "ConsistentRead": True,
        "ReturnConsumedCapacity": "TOTAL",
        "Limit": 7,
    }


def test_credentials_are_asked_for_anew(database, monkeypatch):
    """They may be refreshed while the migration runs."""
    with Echo(200, b'{"Items":[]}') as server:
        connected = database(server.endpoint_url)
        credentials = connected.client._request_signer._credentials
        for token in ("one", "two"):
            monkeypatch.setattr(credentials, "token", token)
            connected.read_page("assets", {})
        tokens = [signature(head, body)[0]["x-amz-security-token"] for head, body in server.received]
    assert tokens == ["one", "two"]


def dynamodb_client(**options):
    """A client for AWS, with credentials that know their account where botocore has that."""
    import botocore.session

    session = botocore.session.Session()
    try:
        session.set_credentials("AKIDEXAMPLE", SECRET, account_id="111122223333")
    except TypeError:
        pytest.skip("this botocore knows no accounts")
    return session.create_client("dynamodb", **options)


@pytest.mark.parametrize(
    "region, fips, host",
    [
        ("us-east-1", False, "111122223333.ddb.us-east-1.amazonaws.com"),
        ("us-east-1", True, "dynamodb-fips.us-east-1.amazonaws.com"),
        ("us-gov-west-1", True, "dynamodb.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", False, "111122223333.ddb.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_requests_go_where_the_client_would_send_them(monkeypatch, region, fips, host):
    from botocore.config import Config

    monkeypatch.delenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", raising=False)
    client = dynamodb_client(region_name=region, config=Config(use_fips_endpoint=fips))
    wire, sent = migration.Wire(client), []

    def send(request):
        sent.append(request.url)
        raise migration.TryAgain("not sent")

    monkeypatch.setattr(wire, "_send", send)
    with pytest.raises(migration.TryAgain):
        wire.call("Scan", "{}")
    assert sent == ["https://%s/" % host]


def test_to_learn_where_sends_nothing(database):
    with Echo(200, b"{}") as server:
        connected = database(server.endpoint_url)
        assert server.received == []
        connected.client.batch_execute_statement(Statements=[{"Statement": "-"}])  # the next one is sent again
        assert len(server.received) == 1


def client_with(**parts):
    """What Wire needs of a client, some parts of it different."""
    parts = {"sign": lambda operation, request: None, "send": lambda request: None, **parts}

    class Client:
        class meta:
            endpoint_url = "http://localhost"

        class _request_signer:
            sign = staticmethod(parts["sign"])

        class _endpoint:
            class http_session:
                send = staticmethod(parts["send"])

    return Client


@pytest.mark.parametrize(
    "client",
    [
        object(),
        client_with(),  # it has no calls
        client_with(sign=lambda request: None),
        client_with(sign=lambda operation, request, region: None),
        client_with(send=lambda: None),
        client_with(send=lambda request, timeout: None),
    ],
)
def test_a_botocore_without_the_parts(client):
    with pytest.raises(migration.PreflightError, match="another version"):
        migration.Wire(client)


# --------------------------------------------------------------------------------------
# Credentials
# --------------------------------------------------------------------------------------


def raised(error, action="read"):
    with pytest.raises(migration.MigrationError) as raising, migration.explained(action):
        raise error
    return raising.value


def botocore_errors():
    from botocore import exceptions

    def aws_says(code, message):
        return exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "Scan")

    return [
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), "sign in again"),
        (EOFError(), "run it on a terminal"),
        (
            exceptions.MissingDependencyException(
                msg='Using the login provider requires a dependency. You will need to pip install "botocore[crt]".'
            ),
            'pip install "botocore[crt]"',
        ),
        (aws_says("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than"), "clock"),
        (aws_says("InvalidSignatureException", "Signature not yet current: 2027 is still later than"), "clock"),
        (aws_says("SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than"), "clock"),
        (aws_says("InvalidSignatureException", "The request signature we calculated does not match"), "sign in again"),
        (aws_says("ExpiredTokenException", "The security token included in the request is expired"), "sign in again"),
        (exceptions.NoCredentialsError(), "aws configure --profile NAME"),
    ]


@pytest.mark.parametrize("number", range(len(botocore_errors())))
def test_errors_of_credentials_name_their_remedy(number):
    error, remedy = botocore_errors()[number]
    explained = raised(error)
    none = "aws configure" in remedy
    cause = "There are no AWS credentials: " if none else "AWS does not accept the credentials: "
    assert explained.cause.startswith(cause) and remedy in explained.fix


@pytest.mark.parametrize("error", [RuntimeError("a bug"), TypeError("a bug"), KeyError("a bug")])
def test_a_bug_is_not_taken_for_one_of_them(error):
    with pytest.raises(type(error), match="a bug"), migration.explained("read"):
        raise error


def test_denied_by_kms_names_the_keys():
    from botocore import exceptions

    message = (
        "KMS key access denied error: com.amazonaws.services.kms.model.AWSKMSException: The ciphertext refers to a "
        "customer master key that does not exist, does not exist in this region, or you are not allowed to access."
    )
    error = exceptions.ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, "Scan")
    assert "KMS" in raised(error).fix


def test_a_password_that_nobody_can_type_is_asked_for_before_the_run(database, monkeypatch):
    """In the main thread, where a profile with MFA asks for it."""

    def ask(self):
        raise EOFError

    with Echo(200, b"{}") as server:
        monkeypatch.setattr("botocore.signers.RequestSigner.get_auth_instance", lambda *unused, **unused_too: ask(0))
        with pytest.raises(migration.PreflightError) as raising:
            database(server.endpoint_url)
        assert "MFA" in raising.value.cause and "terminal" in raising.value.fix and server.received == []


# --------------------------------------------------------------------------------------
# Answers
# --------------------------------------------------------------------------------------


def test_requests_take_the_way_of_the_client(database, monkeypatch):
    """Through a proxy, with its certificates."""
    with Echo(200, b'{"Items":[]}') as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url)
        monkeypatch.setenv("AWS_CA_BUNDLE", "bundle.pem")
        connected = database("http://tables.example:8000")
        connected.read_page("assets", {})
        ((head, body),) = proxy.received
    assert (
        head.startswith(b"POST http://tables.example:8000/ HTTP/1.1") and b"\r\nHost: tables.example:8000\r\n" in head
    )
    assert connected.wire._send.__self__._verify == "bundle.pem"


@pytest.mark.parametrize("status", [301, 403, 404])
def test_an_answer_that_is_not_from_dynamodb(database, status):
    with Echo(status, b"<html>A proxy</html>") as server, pytest.raises(migration.MigrationError) as raised:
        database(server.endpoint_url).read_page("assets", {})
    assert "Cannot read table assets: HTTP status %d: the answer is not DynamoDB's." % status in str(raised.value)


class Checked(Echo):
    """With a checksum of the body, right or wrong."""

    def __init__(self, body, checksum):
        super().__init__(200, body)
        self.checksum = checksum

    def _serve(self, connection):
        import benchmarks.front as front

        with connection, connection.makefile("rb") as stream:
            front.read_message(stream)
            message = front.as_message(self.reply)
            connection.sendall(message.replace(b"\r\n", b"\r\nx-amz-crc32: %d\r\n" % self.checksum, 1))


@pytest.mark.parametrize("difference", [0, 1])
def test_a_checksum_is_compared(database, difference):
    import zlib

    body = b'{"Items":[]}'
    with Checked(body, zlib.crc32(body) + difference) as server:
        connected = database(server.endpoint_url)
        if difference:
            with pytest.raises(migration.TryAgain, match="garbled"):
                connected.read_page("assets", {})
        else:
            assert connected.read_page("assets", {}).items == []


class TooLarge(Echo):
    """Takes requests up to a size only; a proxy for example."""

    def __init__(self, most):
        super().__init__(200, b"")
        self.most = most

    def answer(self, head, body):
        if len(body) > self.most:
            return Answer(413, b"<html>Request Entity Too Large</html>")
        return Answer(200, json.dumps({"Responses": [{} for _ in json.loads(body)["Statements"]]}).encode())


def test_one_request_that_is_too_large_fails_only_its_write(database):
    statements = [migration.statement('"-"', [{"S": "x" * size}]) for size in (10, 5000, 10)]
    with TooLarge(2000) as server:
        answers, _ = database(server.endpoint_url).execute(statements)
    assert [code for code, _ in answers] == [None, "ValidationError", None]


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b'{"__type":5}', b'{"message":"?"}'])
def test_a_server_error_without_code_is_tried_again(database, body):
    with Echo(502, body) as server, pytest.raises(migration.TryAgain, match="502"):
        database(server.endpoint_url).read_page("assets", {})


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Sign in</html>", b"{}", b'{"message":"Rate exceeded"}', b"\xff\xfe", b'{"Items":[', b'{"Items":[]'],
)
def test_a_garbled_answer_is_tried_again(database, body):
    with Echo(200, body) as server:
        connected = database(server.endpoint_url)
        with pytest.raises(migration.TryAgain, match="garbled"):
            connected.read_page("assets", {})
        with pytest.raises(migration.TryAgain, match="garbled"):
            connected.get_items([("assets", "d", "a")], False)
        with pytest.raises(migration.TryAgain, match="garbled"):
            connected.execute([migration.statement("", [])])


@pytest.mark.parametrize("separators, indent", [((",", ":"), None), ((", ", ": "), None), ((",", ": "), 2)])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("items", [ITEMS, ITEMS[::-1], ITEMS[:1], []])
def test_a_page_and_the_text_of_its_items(separators, indent, ascii_only, items, tmp_path):
    answer = {"Count": 3, "Items": items, "LastEvaluatedKey": {"assetId": {"S": '"Items":['}}, "ConsumedCapacity": {}}
    text = json.dumps(answer, separators=separators, indent=indent, ensure_ascii=ascii_only)
    found, rest = migration.decoded_page(text.encode(), lambda item, text: (item, text))
    assert [item for item, _ in found] == items
    assert {**rest, "Items": items} == answer
    journal = migration.Journal(migration.JournalFile(str(tmp_path / "journal")), {})
    for _, item_text in found:
        journal.add_asset(item_text, migration.Facts(live_twin=True), True)
    journal.sync()
    journal.close()
    *lines, end, rest = (tmp_path / "journal").read_bytes().split(b"\n")[1:]
    assert (json.loads(end), rest) == ({"end": {"before_images": len(items), "claims": 0}}, b"")
    assert [json.loads(line) for line in lines] == [
        {"asset": item, "facts": {"live_twin": True}, "again": True} for item in items
    ]
    if indent is None:
        assert [item_text in text for _, item_text in found] == [True] * len(items)
    entries = list(migration.read_journal_backwards(migration.JournalFile(str(tmp_path / "journal"))))
    assert [entry.asset for entry in entries] == items[::-1]


def test_a_page_cut_anywhere_is_garbled():
    text = json.dumps({"Items": ITEMS, "Count": 3}, ensure_ascii=False).encode()
    assert migration.decoded_page(text, migration.item_as_it_is)[0] == ITEMS
    for end in range(len(text)):
        with pytest.raises(migration.TryAgain):
            migration.decoded_page(text[:end], migration.item_as_it_is)


# --------------------------------------------------------------------------------------
# Before images
# --------------------------------------------------------------------------------------


def test_after_a_failure_nothing_more_is_saved(tmp_path, monkeypatch):
    """What was cut off must stay the last line, or no rollback could read the journal."""
    journal = migration.Journal(migration.JournalFile(str(tmp_path / "journal")), {})
    journal.add_asset(json.dumps(ITEMS[0]), migration.NO_FACTS, False)

    def fails(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(migration.MigrationError, match="No space left"):
        patch.setattr(migration.os, "fsync", fails)
        journal.sync()
    journal.add_asset(json.dumps(ITEMS[1]), migration.NO_FACTS, False)
    with pytest.raises(migration.MigrationError, match="No space left"):
        journal.sync()
    journal.close()
    assert len((tmp_path / "journal").read_bytes().splitlines()) == 2
