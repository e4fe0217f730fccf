"""What the tests of the guarantees (spec.md section 3) share: scripts run in processes that can be
killed at a chosen request, the loss of what was not synced, hostile assets, and the checks.

Random tests take their seed from VAMS_FAULT_SEED and print it.
"""

import contextlib
import csv
import functools
import itertools
import json
import multiprocessing.forkserver
import os
import random
import signal
import sys
import time
import types
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

from conftest import Tables, normal  # noqa: E402

import local_dynamodb  # noqa: E402
from benchmarks.front import Cut, Faults  # noqa: E402
from load_migration import load_script, migration  # noqa: E402
from sample_assets import sample_assets  # noqa: E402

MIGRATION = "v2.2_to_v2.3_migration.py"
ROLLBACK = "v2.2_to_v2.3_migration_rollback.py"
VERIFY = "v2.2_to_v2.3_migration_verify.py"
SMALL_BATCHES = ("--batch-size", "3", "--workers", "3")  # many requests, so many moments

_numbers = itertools.count(1)


@functools.lru_cache(maxsize=None)
def forking():
    """A server that forks: processes of their own that start in milliseconds, with boto3 loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults"])
    with pytest.MonkeyPatch.context() as patch:
        # Older Pythons do not tell the server where modules are, and it passes over what it does not find.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    return context


def seeded(number):
    """The random numbers of one test; VAMS_FAULT_SEED chooses others."""
    seed = "%s/%s" % (os.environ.get("VAMS_FAULT_SEED", "1"), number)
    print("VAMS_FAULT_SEED=%s" % seed.split("/")[0])
    return random.Random(seed)


# --------------------------------------------------------------------------------------
# Scripts in processes of their own
# --------------------------------------------------------------------------------------


class Kill(typing.NamedTuple):
    """A signal at a process's request of that number (they count from 1), before the engine
    gets it or after the engine has executed it."""

    signal_number: int
    request: int
    executed: bool


class Scene:
    """Two tables, a front before them, and a folder in which scripts run and leave their files."""

    def __init__(self, tables, front, folder):
        self.tables = tables
        self.front = front
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.flags = tables.flags + ["--endpoint-url", front.endpoint_url]

    def start(self, file_name, *flags, kill=None):
        """Start a script; returns its process."""
        argv = self.flags + ["--yes"] * (file_name == ROLLBACK) + list(flags)
        process = forking().Process(target=run_script, args=(file_name, argv, str(self.folder), dict(os.environ)))
        self._install(kill, process)
        process.start()
        return process

    def run(self, file_name, *flags, kill=None):
        """Run a script to its end; returns its exit status, negative for a signal."""
        process = self.start(file_name, *flags, kill=kill)
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError("%s did not end:\n%s" % (file_name, self.output))
        self._install(None, process)
        assert "Traceback" not in self.output, self.output
        return process.exitcode

    def _install(self, kill, process):
        seen = itertools.count(1)

        def strike(executed):
            if kill.executed != executed or next(seen) != kill.request:
                return
            while process.pid is None:  # it may send requests before `start` knows its number
                time.sleep(0.001)
            os.kill(process.pid, kill.signal_number)
            if kill.signal_number == signal.SIGKILL and not executed:
                raise Cut

        self.front.before = (lambda request: strike(False)) if kill else (lambda request: None)
        self.front.after = (lambda request, answer: strike(True)) if kill else (lambda request, answer: None)

    @property
    def output(self):
        """What all scripts so far have printed."""
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    @property
    def journals(self):
        return sorted((self.folder / "backups").glob("*.jsonl"))

    def last_summary(self):
        return json.loads(max((self.folder / "reports").glob("*_summary.json"), key=os.path.getmtime).read_text())

    def rows(self):
        """Of the report that belongs to the last summary."""
        with open(self.folder / self.last_summary()["files"]["report"], newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))

    def rollback_flags(self):
        return [flag for path in self.journals for flag in ("--journal", str(path))]

    def cut_power(self, rng):
        """Of what was not synced, as much may be on the disk as chance will have it."""
        synced = {}
        for line in (self.folder / "synced.txt").read_text().splitlines():
            inode, size = map(int, line.split())
            synced[inode] = size
        for path in self.journals:
            facts = path.stat()
            os.truncate(path, rng.randint(synced.get(facts.st_ino, 0), facts.st_size))


def run_script(file_name, argv, folder, environment):
    """In the new process: what the command line would do, and a note of what was synced."""
    os.environ.update(environment)
    os.chdir(folder)
    private = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    output, synced = os.open("output.txt", private, 0o600), os.open("synced.txt", private, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    fsync = os.fsync

    def noting(descriptor):
        facts = os.fstat(descriptor)  # before: more may be written meanwhile
        fsync(descriptor)
        os.write(synced, b"%d %d\n" % (facts.st_ino, facts.st_size))

    os.fsync = noting
    sys.exit(load_script(file_name).main(argv))


def random_kill(rng, requests, signal_number=signal.SIGKILL):
    return Kill(signal_number, rng.randint(1, max(1, requests)), rng.random() < 0.5)


def run_until_done(scene, rng, file_name, *flags, kills, requests, signals, after_kill=lambda: None):
    """Run a script again and again, up to `kills` times with a signal at one of its first so many
    `requests`, until it finishes. Returns all exit statuses."""
    statuses = []
    for _ in range(kills):
        statuses.append(scene.run(file_name, *flags, kill=random_kill(rng, requests, rng.choice(signals))))
        if statuses[-1] in (-signal.SIGKILL, -signal.SIGTERM, migration.EXIT_INTERRUPTED):
            after_kill()
    return statuses + [scene.run(file_name, *flags)]


# --------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_tables(engine, folder):
    """Two empty tables that are deleted at the end."""
    number = "%d-%d" % (os.getpid(), next(_numbers))
    tables = Tables(engine, "assets-x%s" % number, "versions-x%s" % number, Path(folder))
    local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)
    try:
        yield tables
    finally:
        for name in (tables.assets, tables.versions):
            with contextlib.suppress(tables.client.exceptions.ResourceNotFoundException):
                tables.client.delete_table(TableName=name)


def undisturbed(engine, folder, assets, records=()):
    """Exit status and contents of an undisturbed migration of these assets beside these records."""
    with new_tables(engine, folder) as tables:
        tables.load(assets)
        tables.put_records(*records)
        run = tables.migrate()
        return types.SimpleNamespace(status=run.status, contents=tables.contents(), rows=run.rows, summary=run.summary)


def without_start(contents, assets):
    """The contents without dateCreated of those assets that have no date: theirs is the start of a run."""
    records = dict(contents[1])
    for asset in assets:
        plan = migration.plan_asset(asset, "", "the start")
        if plan.record and plan.record["dateCreated"] == {"S": "the start"}:
            key = (plan.record["assetId"]["S"], plan.record["assetVersionId"]["S"])
            if key in records:
                records[key] = {**records[key], "dateCreated": {"S": "the start"}}
    return contents[0], records


def saved_images(journals):
    """The before images in the journals, by key. journals: paths, or what migration.Storage gives."""
    saved = {}
    for journal in journals:
        if isinstance(journal, Path):
            if not journal.read_bytes().count(b"\n"):
                continue  # cut before its first line was complete
            journal = migration.JournalFile(str(journal))
        for entry in migration.read_journal_backwards(journal):
            if entry.asset:
                saved.setdefault(key_of(entry.asset), []).append(normal(entry.asset))
    return saved


def key_of(asset):
    return asset["databaseId"]["S"], asset["assetId"]["S"]


def check_order(before, now, journals):
    """At any moment: what was written has a before image on the disk, and a changed asset has its record."""
    saved = saved_images(journals)
    for key, asset in now[0].items():
        if asset != before[0][key]:
            assert before[0][key] in saved.get(key, []), "%s was changed without a before image" % (key,)
            assert (key[1], asset["currentVersionId"]["S"]) in now[1], "%s was changed before its record" % (key,)
    ids = {key[1] for key in saved}
    for key, record in now[1].items():
        if record != before[1].get(key):
            assert key[0] in ids, "record %s was written without a before image" % (key,)


def check_outcomes(summary, rows):
    """Each asset scanned is in exactly one outcome, and what is no success is in the report."""
    assert summary["scanned"] == sum(summary["outcomes"].values())
    outcomes = {}
    for row in rows:
        assert row["code"] and row["message"]
        outcomes.setdefault((row["database_id"], row["asset_id"]), set()).add(row["outcome"])
    assert all(len(names) == 1 for names in outcomes.values()), outcomes
    for name in ("failed", "vanished"):
        reported = sum(names == {name} for names in outcomes.values())
        assert reported == summary["outcomes"][name], (name, reported, summary["outcomes"])


def first_difference(one, other):
    """A line that says where two contents differ; "" where they do not."""
    for name, left, right in zip(("asset", "version record"), one, other):
        for key in sorted(set(left) | set(right)):
            if left.get(key) != right.get(key):
                return "%s %s is %s, not %s" % (name, key, left.get(key), right.get(key))
    return ""


def check_same(contents, expected, assets=()):
    difference = first_difference(without_start(contents, assets), without_start(expected, assets))
    assert not difference, difference


# --------------------------------------------------------------------------------------
# What goes wrong
# --------------------------------------------------------------------------------------

REQUEST_FAULTS = (
    "cut", "internal_error", "unavailable", "throttling",
    "answer_lost", "internal_error_done", "garbled", "truncated", "slow",
)  # fmt: skip
STATEMENT_FAULTS = (
    "statement_throughput", "statement_throttling", "statement_conflict",
    "statement_internal", "statement_internal_done",
)  # fmt: skip
SERVED = ("Scan", "Query", "BatchGetItem", "BatchExecuteStatement")  # preflight is for the operator to repeat


def random_faults(rng, total=0.3):
    """A mixture: some kinds, none of them surely, together about `total` of all requests."""
    names = [name for name in REQUEST_FAULTS + STATEMENT_FAULTS if rng.random() < 0.5] or ["answer_lost"]
    shares = [rng.random() for _ in names]
    rates = {name: total * share / sum(shares) for name, share in zip(names, shares)}
    return Faults(slow_seconds=0.05, operations=SERVED, **rates)


# --------------------------------------------------------------------------------------
# Hostile assets
# --------------------------------------------------------------------------------------

TEXTS = (
    "=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\n=1", '"double"', "it's", "a,b;c", "two\nlines", "\r\n",
    "\U0001f4e6\U0001f468\u200d\U0001f469", "\u202etxt.exe", "a\u2028b", "\ufeffx", "\x00", "\x1b[31m", "\x7f",
    "$(touch pwned)", "`touch pwned`", "; touch pwned", "%s%n", "{0}", "\\", "../../etc/passwd", "' OR 1=1 --",
    "<script>alert(1)</script>", "?", "NULL", "null", "true", "0", "nan", " ", "v1v", "x" * 900,
)  # fmt: skip
VERSION_IDS = ("0", "1", "7", "v3", "12v", "007", "+4", "-1", "9" * 30)


def random_value(rng, depth=3):
    """Any attribute value."""
    kinds = ["S", "N", "BOOL", "NULL", "B", "SS", "NS", "BS"] + (["L", "M"] if depth else [])
    kind = rng.choice(kinds)
    if kind == "S":
        return {"S": rng.choice(TEXTS + ("",))}
    if kind == "N":
        return {"N": rng.choice(["0", "-1", "3", "1E+2", "0.1", "12345678901234567890123456789012345678", "1E-100"])}
    if kind == "BOOL":
        return {"BOOL": rng.random() < 0.5}
    if kind == "NULL":
        return {"NULL": True}
    if kind == "B":
        return {"B": rng.choice(["AAEC", "/w==", "AQID/w=="])}
    if kind == "SS":
        return {"SS": rng.sample(TEXTS, rng.randint(1, 4))}
    if kind == "NS":
        return {"NS": rng.sample(["1", "2.5", "-3", "40"], rng.randint(1, 4))}
    if kind == "BS":
        return {"BS": rng.sample(["AAEC", "/w==", "AQID/w=="], rng.randint(1, 3))}
    if kind == "L":
        return {"L": [random_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]}
    return {"M": {rng.choice(TEXTS[:30]): random_value(rng, depth - 1) for _ in range(rng.randint(0, 3))}}


def hostile_assets(rng, count):
    """Assets as no application wrote them: keys and texts of TEXTS, any type anywhere. Some cannot be migrated;
    what becomes of each does not depend on the order. No two share an assetId, but for archived twins."""
    for number in range(count):
        asset = dict(next(sample_assets(1, seed=rng.randrange(10**9))))
        asset["databaseId"] = {"S": rng.choice(["db01", "engineering"] + list(TEXTS[:12]))}
        asset["assetId"] = {"S": "%s%d" % (rng.choice(TEXTS), number)}
        for name in ("assetName", "description", "tags", "assetType", "isDistributable", "previewLocation"):
            if rng.random() < 0.3:
                asset[name] = random_value(rng)
        for name in migration.OWNED_FIELDS:
            if name != "currentVersionId" and rng.random() < 0.15:
                asset[name] = random_value(rng)
        current = asset.get("currentVersion", {}).get("M")
        if current is not None:
            current["Version"] = {"S": rng.choice(VERSION_IDS)}
            for name in ("Comment", "description", "DateModified", "createdBy", "specifiedPipelines", "Version"):
                if rng.random() < 0.15:
                    current[name] = random_value(rng)
        for _ in range(rng.randint(0, 2)):
            asset[rng.choice(TEXTS[:30])] = random_value(rng)
        if rng.random() < 0.1:
            del asset["currentVersion"]
        yield asset
        if rng.random() < 0.15:
            twin = dict(asset, databaseId={"S": asset["databaseId"]["S"] + "#deleted"}, note=random_value(rng))
            if "currentVersion" in twin and rng.random() < 0.5 and "M" in twin["currentVersion"]:
                twin["currentVersion"] = {"M": dict(twin["currentVersion"]["M"], Comment=random_value(rng))}
            yield twin
