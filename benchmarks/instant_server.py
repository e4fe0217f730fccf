"""A server that answers at once, so that the client is what is measured.

    with InstantServer(assets=100000) as server:
        ... --endpoint-url server.endpoint_url --assets-table assets --asset-versions-table versions

It runs in a process of its own. It serves any number of assets without holding them: items of
realistic size, the same ones each time, in four databases of unequal size or in `databases` equal
ones, none of them archived. Every write succeeds and changes nothing. With `migrated`, the assets
are as the migration leaves them.
"""

import argparse
import bisect
import functools
import itertools
import json
import os
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from front import TARGET, Answer, Server  # noqa: E402

from load_migration import migration  # noqa: E402
from sample_assets import SHAPES, database_shares, sample_assets  # noqa: E402

BUCKET = "benchmark-bucket"
KEYS = {"assets": ("databaseId", "assetId"), "versions": ("assetId", "assetVersionId")}
DISTINCT = 1000  # texts of assets; the rest differ in their keys
ASSET_MARK, DATABASE_MARK = b"@asset@", b"@database@"  # stand for the keys


class InstantServer:
    """The server's process as a context manager."""

    def __init__(self, assets, databases=None, migrated=False):
        self.command = [sys.executable, os.path.abspath(__file__), "--assets", str(assets)]
        self.command += ["--databases", str(databases)] if databases else []
        self.command += ["--migrated"] if migrated else []

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, universal_newlines=True)
        self.endpoint_url = self.process.stdout.readline().strip()
        self.port = int(self.endpoint_url.rpartition(":")[2])
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Table:
    """Assets by number; those of a database follow each other."""

    def __init__(self, count, databases, migrated):
        shares = database_shares(databases)
        self.names = [name for name, _ in shares]
        sums = list(itertools.accumulate(share for _, share in shares))
        self.ends = [count * share // sums[-1] for share in sums]
        texts = distinct_texts(migrated)
        self.texts = [[text.replace(DATABASE_MARK, name.encode()) for text in texts] for name in self.names]

    def scan(self, request):
        """The body of the answer to a Scan, of one segment or of everything."""
        first, end = 0, self.ends[-1]
        if "Segment" in request:
            first, end = self.range_of_segment(request["Segment"], request["TotalSegments"])
        start = request.get("ExclusiveStartKey")
        if start:
            first = number_of(start["assetId"]["S"]) + 1
        last = min(end, first + request.get("Limit", 500)) - 1
        items = b",".join(self.text(number) for number in range(first, last + 1))
        rest = {"Count": last + 1 - first, "ConsumedCapacity": {"TableName": "assets", "CapacityUnits": 100.0}}
        if last + 1 < end:
            name = self.names[bisect.bisect(self.ends, last)]
            rest["LastEvaluatedKey"] = {"databaseId": {"S": name}, "assetId": {"S": asset_id(last)}}
        return b'{"Items":[' + items + b"]," + json.dumps(rest).encode()[1:]

    def range_of_segment(self, segment, segments):
        """The databases are spread evenly over the segments."""
        inside = [n for n in range(len(self.ends)) if n * segments // len(self.ends) == segment]
        return (([0] + self.ends)[inside[0]], self.ends[inside[-1]]) if inside else (0, 0)

    def text(self, number):
        texts = self.texts[bisect.bisect(self.ends, number)]
        return texts[number % len(texts)].replace(ASSET_MARK, asset_id(number).encode())


def distinct_texts(migrated):
    """Assets as JSON with marks for their keys; without archived ones and those whose id a user typed."""
    every_shape_once = len(SHAPES) + 10
    texts = []
    for asset in itertools.islice(sample_assets(2 * DISTINCT), every_shape_once, None):
        old_id = asset["assetId"]["S"]
        if old_id.startswith("x") and not migration.is_archived(asset):
            asset["databaseId"] = {"S": DATABASE_MARK.decode()}
            text = migration.to_json(as_migrated(asset) if migrated else asset)
            texts.append(text.encode().replace(old_id.encode(), ASSET_MARK))
    return texts[:DISTINCT]


def as_migrated(asset):
    plan = migration.plan_asset(asset, BUCKET, "2025-01-01T00:00:00Z")
    kept = {name: value for name, value in asset.items() if name not in plan.remove_attributes}
    return {**kept, **plan.set_attributes}


def asset_id(number):
    return "x%031d" % number


def number_of(text):
    return int(text[1:])


@functools.lru_cache(maxsize=None)
def batch_answer(count):
    """All statements of a batch succeed."""
    capacity = {"TableName": "assets", "CapacityUnits": 1.5}
    return json.dumps({"Responses": [{"TableName": "assets"}] * count, "ConsumedCapacity": [capacity] * count}).encode()


def refusals(statements):
    """What the preflight wants to hear: no condition holds, and its insert is none that can be done."""
    codes = ["ValidationError" if "INSERT" in one["Statement"] else "ConditionalCheckFailed" for one in statements]
    return json.dumps({"Responses": [{"Error": {"Code": code, "Message": "refused"}} for code in codes]}).encode()


def description(name):
    schema = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(KEYS[name], ("HASH", "RANGE"))]
    types = [{"AttributeName": key, "AttributeType": "S"} for key in KEYS[name]]
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/" + name
    keys = {"KeySchema": schema, "AttributeDefinitions": types}
    return {"TableName": name, "TableArn": arn, "TableStatus": "ACTIVE", **keys}


class Instant(Server):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def answer(self, head, body):
        operation = TARGET.search(head).group(1)
        if operation == b"BatchExecuteStatement":
            if migration.PROBE_KEY.encode() in body:
                return Answer(200, refusals(json.loads(body)["Statements"]))
            # Quotation marks inside a text are escaped, so this counts statements only.
            return Answer(200, batch_answer(body.count(b'"Statement":')))
        if operation == b"BatchGetItem":
            return Answer(200, b'{"Responses":{},"UnprocessedKeys":{}}')
        request = json.loads(body)
        if operation == b"Scan":
            return Answer(200, self.table.scan(request))
        if operation == b"Query" and migration.in_archive(request["ExpressionAttributeValues"][":value"]["S"]):
            return Answer(200, b'{"Items":[],"Count":0}')
        if operation == b"DescribeTable":
            counts = {"ItemCount": self.table.ends[-1], "TableSizeBytes": 1300 * self.table.ends[-1]}
            return Answer(200, json.dumps({"Table": {**description(request["TableName"]), **counts}}).encode())
        raise ValueError("the instant server cannot %s" % operation.decode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=int, required=True)
    parser.add_argument("--databases", type=int)
    parser.add_argument("--migrated", action="store_true")
    options = parser.parse_args()
    with Instant(Table(options.assets, options.databases, options.migrated)) as server:
        print(server.endpoint_url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
