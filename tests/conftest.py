"""Fixtures: Amazon's DynamoDB Local, one for each process of pytest-xdist, and two tables of its own for each test."""

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import types

import botocore.session
import pytest
from v22 import partiql

import local_dynamodb
from load_migration import migration

# A shell has its background jobs ignore Ctrl-C, and they hand that on: the tests send it to see what happens.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each client would read botocore's descriptions of the services anew, which takes longer than a small test.
botocore.session.create_loader = functools.lru_cache(maxsize=None)(botocore.session.create_loader)
botocore.session.create_loader(None).load_service_model("dynamodb", "service-2")  # before faults.py forks

BUCKET = "asset-bucket"
LOCAL = migration.Storage(None, None)
_numbers = itertools.count(1)


# They send signals, open terminals and lock files as only POSIX does.
collect_ignore_glob = ["test_*.py"] if os.name == "nt" else []


def pytest_report_header():
    return "The tests run on POSIX systems only: see CONTRIBUTING.md." if os.name == "nt" else None


def pytest_configure():
    # Engines that live for minutes: what Java's second compiler costs, and its threads, they never earn back.
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


def on_a_terminal(command, folder, typed=b"", columns=80):
    """Run a command on a pseudo-terminal of so many columns. Returns its exit status and what it showed."""
    import fcntl
    import pty
    import struct
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=folder, start_new_session=True)
    os.close(side)
    os.write(main, typed)
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed
        for chunk in iter(lambda: os.read(main, 65536), b""):
            shown += chunk
    os.close(main)
    return process.wait(timeout=60), shown.decode()


@pytest.fixture(scope="session")
def installed():
    """The engine and its Java are there: one process installs them, the others wait instead of doing it too."""
    import fcntl

    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        local_dynamodb.engine_folder()
        local_dynamodb.find_java()


@pytest.fixture(scope="session")
def engine(installed):
    with local_dynamodb.LocalDynamoDB() as engine:
        yield engine


@functools.lru_cache(maxsize=None)
def client_of(engine):
    """Made once: that takes as long as a small test."""
    return engine.client()


@pytest.fixture
def tables(engine, tmp_path, monkeypatch):
    """Two empty tables, and what tests do with them."""
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    number = next(_numbers)
    tables = Tables(engine, "assets-%d" % number, "versions-%d" % number, tmp_path)
    local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)
    yield tables
    for name in (tables.assets, tables.versions):
        with contextlib.suppress(tables.client.exceptions.ResourceNotFoundException):  # a test's own doing
            tables.client.delete_table(TableName=name)


CLIENTS = {}


@pytest.fixture
def one_client(monkeypatch):
    """Making a client takes longer than a small run with it."""
    make_session, make_client = migration.make_session, migration.make_client

    def where(settings):
        return settings.endpoint_url, settings.aws_region, settings.aws_profile

    def made_once(make, *key):
        return CLIENTS[key] if key in CLIENTS else CLIENTS.setdefault(key, make())

    monkeypatch.setattr(
        migration, "make_session", lambda settings: made_once(lambda: make_session(settings), *where(settings))
    )
    monkeypatch.setattr(
        migration,
        "make_client",
        lambda session, service, settings: made_once(
            lambda: make_client(session, service, settings), service, settings.workers, *where(settings)
        ),
    )
    connect = local_dynamodb.connect
    monkeypatch.setattr(local_dynamodb, "connect", lambda url: made_once(lambda: connect(url), "tests", url))


@pytest.fixture
def any_pace(monkeypatch):
    """Writes go as fast as DynamoDB Local takes them: the large ones of the trials would wait for seconds."""
    monkeypatch.setattr(migration, "PARTITION_UNITS", 1e6)
    monkeypatch.setattr(migration, "TABLE_UNITS", 1e6)


@pytest.fixture(autouse=True)
def hangup_as_usual():
    """A run that was interrupted ignores the hangups that follow, as all does under nohup; and what its process starts
    would ignore them too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def before_first(monkeypatch, word, action):
    """Do something once, just before the first write whose text begins with `word`."""
    execute, done = migration.Database.execute, []

    def execute_after_action(database, statements):
        if not done and any(partiql(statement).startswith(word) for statement in statements):
            done.append(True)
            action()
        return execute(database, statements)

    patch_execute(monkeypatch, execute_after_action)
    return done


def patch_execute(monkeypatch, execute):
    """Have a function stand for Database.execute, but not for what the preflight sends."""
    genuine = migration.Database.execute

    def either(database, statements):
        probing = any(migration.PROBE_KEY in statement for statement in statements)
        return (genuine if probing else execute)(database, statements)

    monkeypatch.setattr(migration.Database, "execute", either)


def without_partiql(monkeypatch):
    """For moto, which has no conditional PartiQL: what DynamoDB answers to it is tested on DynamoDB Local."""
    monkeypatch.setattr(migration, "check_writes", lambda database: [])
    monkeypatch.setattr(migration, "url_of_requests", lambda client: client.meta.endpoint_url)


class Tables:
    def __init__(self, engine, assets, versions, folder):
        self.engine = engine
        self.client = client_of(engine)
        self.assets = assets
        self.versions = versions
        self.folder = folder

    def put(self, *assets):
        self.load(assets)

    def put_records(self, *records):
        for record in records:
            self.client.put_item(TableName=self.versions, Item=record)

    def load(self, assets):
        return local_dynamodb.load_items(self.client, self.assets, assets)

    def asset(self, database_id, asset_id):
        key = {"databaseId": {"S": database_id}, "assetId": {"S": asset_id}}
        return self.client.get_item(TableName=self.assets, Key=key, ConsistentRead=True).get("Item")

    def record(self, asset_id, version_id):
        key = {"assetId": {"S": asset_id}, "assetVersionId": {"S": version_id}}
        return self.client.get_item(TableName=self.versions, Key=key, ConsistentRead=True).get("Item")

    def contents(self):
        """Everything in both tables, as two dicts from key to item."""
        return tuple(
            {
                tuple(item[name]["S"] for name in keys): normal(item)
                for item in local_dynamodb.all_items(self.client, table)
            }
            for table, keys in (
                (self.assets, ("databaseId", "assetId")),
                (self.versions, ("assetId", "assetVersionId")),
            )
        )

    @property
    def flags(self):
        """The flags that every script takes."""
        return [
            "--assets-table", self.assets,
            "--asset-versions-table", self.versions,
            "--asset-bucket", BUCKET,
            "--endpoint-url", self.engine.endpoint_url,
        ]  # fmt: skip

    def migrate(self, *flags):
        """Run the migration in this process; its exit status and what it reported."""
        folder = self.folder / ("run-%d" % next(_numbers))
        folders = ["--journal-dir", str(folder / "backups"), "--report-dir", str(folder / "reports")]
        status = migration.main(self.flags + folders + list(flags))
        return run_results(status, folder)


WOULD = {"would_migrate": "migrated", "would_fail": "failed"}


def run_results(status, folder):
    """A dry run's outcomes are called as those of the migration that it foresees, so that both can be compared."""
    import csv

    (summary,) = (folder / "reports").glob("*_summary.json")
    (report,) = (folder / "reports").glob("*.csv")
    journals = list((folder / "backups").glob("*.jsonl"))
    with open(report, newline="", encoding="utf-8-sig") as file:
        rows = [{**row, "outcome": WOULD.get(row["outcome"], row["outcome"])} for row in csv.DictReader(file)]
    summary = json.loads(summary.read_text())
    summary["outcomes"] = {WOULD.get(name, name): count for name, count in summary["outcomes"].items()}
    if summary["dry_run"]:
        summary["assets_changed"] = summary.pop("assets_to_change")
        summary["version_records_written"] = summary.pop("version_records_to_write")
    return types.SimpleNamespace(
        status=status,
        summary=summary,
        rows=rows,
        codes={row["code"] for row in rows},
        journal=journals[0] if journals else None,
        folder=folder,
    )


def normal(value):
    """An item with its sets sorted: DynamoDB gives them in no order."""
    if isinstance(value, dict):
        return {
            name: sorted(inner) if name in ("SS", "NS", "BS") and isinstance(inner, list) else normal(inner)
            for name, inner in value.items()
        }
    return [normal(inner) for inner in value] if isinstance(value, list) else value
