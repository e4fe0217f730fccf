"""An S3 for the tests: moto's, behind hooks that see each request and may answer in its place.

with S3() as s3:
    s3.before = hook
"""

import itertools
import logging
import socket
import threading
import typing
import zlib
from urllib.parse import unquote

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
OBJECT_SUFFIX = ".jsonl.gz"
_numbers = itertools.count(1)


class Request(typing.NamedTuple):
    """number: among those of its kind, from 1. key: without the bucket."""

    method: str
    key: str
    query: str
    number: int

    @property
    def stores_journal(self):
        return self.method == "PUT" and self.key.endswith(OBJECT_SUFFIX)


class Refused(Exception):
    """The request gets this status and code. done: after it was carried out."""

    def __init__(self, status, code, done=False):
        super().__init__(code)
        self.status, self.code, self.done = status, code, done


def gone_on(request):
    """The hook where nothing goes wrong."""


class S3:
    """before(request): called before a request is carried out; after(request, body): then, before it is answered.
    Both are called in the request's thread, and may raise Refused."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.before = gone_on
        self.after = lambda request, body: None
        self.requests = []
        self.bucket = "vams-journals-%d" % next(_numbers)  # moto keeps buckets as long as the process lives
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)

    def __enter__(self):
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.client = boto3.client("s3", **CREDENTIALS, endpoint_url=self.endpoint_url)
        self.client.create_bucket(Bucket=self.bucket)
        block = dict.fromkeys(
            ("IgnorePublicAcls", "RestrictPublicBuckets", "BlockPublicAcls", "BlockPublicPolicy"), True
        )
        self.client.put_public_access_block(Bucket=self.bucket, PublicAccessBlockConfiguration=block)
        return self

    def __exit__(self, *unused):
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint_url(self):
        return "http://127.0.0.1:%d" % self._server.server_port

    def _answer(self, environ, start_response):
        path = unquote(environ.get("RAW_URI", environ["PATH_INFO"]).split("?")[0])
        key = path.lstrip("/").partition("/")[2]
        with self._lock:
            same_kind = [one for one in self.requests if one.method == environ["REQUEST_METHOD"]]
            request = Request(environ["REQUEST_METHOD"], key, environ.get("QUERY_STRING", ""), len(same_kind) + 1)
            self.requests.append(request)
        try:
            self.before(request)
            given = []
            body = b"".join(self._app(environ, lambda *answer: given.append(answer)))
            self.after(request, body)
        except Refused as refusal:
            text = "<Error><Code>%s</Code><Message>said by the test</Message></Error>" % refusal.code
            start_response("%d %s" % (refusal.status, refusal.code), [("Content-Type", "application/xml")])
            return [text.encode()]
        except OSError:  # as if the connection were cut
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        start_response(*given[0])
        return [body]

    # What tests look at.

    def keys(self, ending=""):
        answer = self.client.list_objects_v2(Bucket=self.bucket)
        return [entry["Key"] for entry in answer.get("Contents", []) if entry["Key"].endswith(ending)]

    def text(self, key):
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return (zlib.decompress(body, 31) if key.endswith(OBJECT_SUFFIX) else body).decode("utf-8-sig")

    def journals(self):
        """The names of the journals' folders, the first one first."""
        return sorted({"s3://%s/%s/" % (self.bucket, key.rpartition("/")[0]) for key in self.keys(OBJECT_SUFFIX)})
