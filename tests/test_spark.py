"""The migration on Spark: on the cores of this machine, and on a cluster of two workers that lives here too."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from conftest import BUCKET, run_results
from s3 import S3
from test_local_dynamodb import free_port
from v22 import M, asset

import local_dynamodb
from benchmarks.front import Faults, Front
from load_migration import HERE, load_script, migration
from sample_assets import sample_assets

SCRIPT = "v2.2_to_v2.3_migration_spark.py"
MIGRATION = "v2.2_to_v2.3_migration.py"
ROLLBACK = "v2.2_to_v2.3_migration_rollback.py"
VERIFY = "v2.2_to_v2.3_migration_verify.py"

spark = load_script(SCRIPT)
_numbers = itertools.count(1)


def why_not():
    """Why the tests that start Spark cannot run here, "" where they can."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if not java or local_dynamodb._java_version(java) < 17:
        return "Spark needs a Java 17 or newer on the PATH"
    try:
        import pyspark  # noqa: F401
    except ImportError:
        return "no pyspark: .venv-dev/bin/pip install -r requirements-spark.txt"
    return ""


needs_spark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture
def twins(tables, engine):
    """A second pair of tables, for the same assets."""
    names = tables.assets + "-twin", tables.versions + "-twin"
    local_dynamodb.create_tables(tables.client, *names)
    folder = tables.folder / "twin"
    folder.mkdir()
    yield type(tables)(engine, *names, folder)
    for name in names:
        tables.client.delete_table(TableName=name)


@pytest.fixture
def place(tables, monkeypatch):
    """A folder for journals in an S3 that moto stands for."""
    with S3() as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
        s3.place = "s3://%s/vams" % s3.bucket
        yield s3


def undated(contents, *starts):
    """What is in the tables, without the start of a run that stands for a date that an asset lacks."""
    start = re.compile("|".join(starts))
    return [sorted(start.sub("START", repr(item)) for item in part.items()) for part in contents]


# --- What needs no Spark ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, own",
    [
        ("--assets-table a --limit 5 --dry-run", "--assets-table a --limit 5 --dry-run"),
        ("--JOB_NAME vams --JOB_ID j_1 --JOB_RUN_ID jr_1 --TempDir s3://b/t --limit 5", "--limit 5"),
        ("--enable-metrics --continuous-log-logGroup g --enable-job-insights true --limit 5", "--limit 5"),
        ("--job-bookmark-option job-bookmark-disable --job-language python --yes", "--yes"),
        ("--extra-py-files s3://b/a.py,s3://b/b.py --scriptLocation s3://b/c.py --assets_table a", "--assets-table a"),
        ("--dry-run true --repair false --bucket_without_files  --yes", "--dry-run --bucket-without-files --yes"),
        ("--dry_run False --yes true", "--no-dry-run --yes"),
        ("--assets_table=my_assets --database-id my_db", "--assets-table=my_assets --database-id my_db"),
        ("--asset-tabel a", "--asset-tabel a"),
        ("--RedshiftTempDir s3://b/t --SECURITY_CONFIGURATION c --encryption-type sse-s3 --yes", "--yes"),
        ("--enable-s3-parquet-optimized-committer true --disable-proxy-v2 true --executor-cores 8 --yes", "--yes"),
        ("--write-shuffle-files-to-s3 true --enable-rename-algorithm-v2  --JOB_QUEUE_ARN a --yes", "--yes"),
        ("--python-modules-installer-option --no-deps --limit 5", "--limit 5"),
    ],
)  # fmt: skip
def test_arguments_as_glue_passes_them(given, own):
    assert spark.own_arguments(given.split(" ")) == own.split()


def test_no_flag_of_ours_is_taken_for_one_of_glues():
    assert [setting.flag for setting in migration.SETTINGS.values() if spark.GLUES_OWN.match(setting.flag)] == []
    assert not spark.GLUES_OWN.match("--config") and not spark.GLUES_OWN.match("--version")


@pytest.mark.parametrize(
    "flags, items, cores, expected",
    [
        ({}, 0, 2, (1, 8, 2)),
        ({}, 10**6, 2, (64, 8, 2)),
        ({}, 10**9, 64, (256, 4000, 64)),
        ({"max_write_units": 10, "max_read_units": 5}, 10**9, 64, (5, 4000, 5)),
        ({"limit": 10}, 10**6, 64, (1, 1, 1)),
        ({"limit": 100000}, 10**6, 64, (1, 10, 10)),
        ({"database_id": ["a", "b"]}, 10**6, 2, (2, 8, 2)),
        ({"database_id": ["db01"], "asset_id": "a"}, 10**6, 64, (1, 1, 1)),
    ],
)
def test_how_many_tasks_read_and_write_and_how_many_at_once(flags, items, cores, expected):
    names = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
    settings = migration.resolve_settings(migration.CONFIG, {}, {**names, **flags})
    tasks = spark.tasks_of(settings, migration.Site(None, "r", items, []), cores)
    assert (tasks.reading, tasks.writing, tasks.at_once) == expected


class Rows:
    names = {}

    def __init__(self):
        self.rows = []

    def add(self, *row):
        self.rows.append(row)


def test_what_a_task_tells_is_counted_as_if_the_driver_had_seen_it():
    finding = migration.Finding("version_missing", "currentVersion.Version", "line\nwith an end")
    counted = [
        (("assets", "db", "a"), "migrated", (finding, finding)),
        (("assets", "db", "b"), "failed", (finding._replace(code="invalid_version_id"),)),
        (("assets", "db", "c"), "migrated", ()),
    ]
    task, whole, driver = spark.TaskTally(), migration.Tally(Rows()), migration.Tally(Rows())
    for key, outcome, findings in counted:
        task.count(key, outcome, findings)
        whole.count(key, outcome, findings)
    driver.outcomes.update(task.outcomes)
    spark.tell(driver, task.told())
    assert (driver.outcomes, driver.codes, driver.report.rows) == (whole.outcomes, whole.codes, whole.report.rows)
    assert [row[1:3] for row in driver.report.rows] == [("a", "migrated"), ("a", "migrated"), ("b", "failed")]


def test_the_error_of_an_executor_is_told_as_ours():
    text = (
        "An error occurred\n  File x, line 3\nv2_2_to_v2_3_migration.PreflightError: it was %s\n  Fix: %s\n\n\tat org"
    )
    error = spark.explained(RuntimeError(text % ("denied: table a", "grant it.")))
    assert (error.cause, error.fix) == ("it was denied: table a", "grant it.")
    other = RuntimeError("ZeroDivisionError: division by zero\n\tat org")
    assert spark.explained(other) is other


def test_a_journal_folder_that_an_executor_does_not_see_is_an_error(tmp_path):
    spark.require_the_jobs_folder({"mark": str(tmp_path)})
    with pytest.raises(migration.MigrationError, match="all executors share"):
        spark.require_the_jobs_folder({"mark": str(tmp_path / "j.jsonl")})


def test_the_migration_may_lie_in_the_working_folder(tmp_path):
    """Where Glue puts --extra-files, while the others are where it puts Python's."""
    for folder, names in (("python", [SCRIPT, "load_migration.py"]), ("working", [MIGRATION])):
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copy(os.path.join(HERE, name), tmp_path / folder)
    command = [sys.executable, str(tmp_path / "python" / SCRIPT), "--version"]
    assert subprocess.check_output(command, cwd=str(tmp_path / "working")).decode().strip() == migration.TOOL_VERSION
    lost = subprocess.run(command, cwd=str(tmp_path), stderr=subprocess.PIPE)
    assert lost.returncode == 2 and b"is missing in" in lost.stderr and b"Traceback" not in lost.stderr


def test_of_what_is_migrated_already_only_the_keys_travel():
    settings = type("Settings", (), {"repair": False, "asset_bucket_name": "bucket"})()
    done = {**asset("a"), "currentVersionId": {"S": "3"}}
    done = {name: value for name, value in done.items() if name not in migration.REMOVED_FIELDS}
    asset_id, text = spark.pair_of(settings, done, "whole")
    assert asset_id == "a" and set(json.loads(text)) == {"databaseId", "assetId", "currentVersionId"}
    assert migration.plan_asset(json.loads(text), "bucket", "now").outcome == "already_migrated"
    settings.repair = True
    assert spark.pair_of(settings, done, "whole") == ("a", "whole")
    assert spark.pair_of(settings, {**asset("a"), "currentVersionId": {"S": "3"}}, "whole") == ("a", "whole")


class Task:
    """The one task of a job, in this process and without Spark."""

    def __init__(self, tables, journal_dir=None):
        settings = migration.resolve_settings(migration.CONFIG, {}, flags_of(tables))
        settings = settings._replace(journal_dir=journal_dir or settings.journal_dir)
        self.database = migration.connect(settings)[1]
        self.storage = migration.Storage(None, settings)
        site = migration.Site(None, "us-east-1", 100, [], storage=self.storage)
        self.files = migration.begin_files(settings, site)
        self.job = spark.job_of(settings, site, self.database, self.files, spark.tasks_of(settings, site, 1))
        self.attempts = 0

    def read(self):
        return list(spark.read_segments(self.job, Sum(), iter([[{}]])))

    def attempt(self, pairs):
        self.attempts += 1
        return spark.migrate_assets(self.job, 0, self.attempts, iter(pairs))


class Sum:
    value = 0.0

    def add(self, more):
        self.value += more


def finish(task, results):
    """What the driver does at the end, so far as rollbacks know it: it ends its journal and writes a summary."""
    partitions = types.SimpleNamespace(getNumPartitions=lambda: len(results))
    writing = spark.Writing(None, partitions, 1, task.job, task.files, None)
    for result in results:
        writing._add(result)
    writing.end_mark()
    told = {name: task.job[name] for name in ("account", "region", "settings")}
    summary = json.dumps({**told, "started": task.files.started, "tasks": writing.tasks})
    Path(task.job["settings"]["report_dir"], task.files.stem + "_summary.json").write_text(summary)


def flags_of(tables):
    names = ("assets_table_name", "asset_versions_table_name", "endpoint_url", "asset_bucket_name")
    values = dict(zip(names, (tables.assets, tables.versions, tables.engine.endpoint_url, BUCKET)))
    folders = {name: str(tables.folder / name) for name in ("journal_dir", "report_dir")}
    return {**values, **folders, "aws_region": "us-east-1", "batch_size": 5}


def summed(result):
    """What a task found, but for how."""
    tally = migration.Tally(Rows())
    tally.outcomes.update(result["outcomes"])
    spark.tell(tally, result["told"])
    told = sorted(row for row in map(repr, tally.report.rows) if "archived_twin" not in row)
    return tally.outcomes, tally.codes, told, result["counts"]["scanned"], result["counts"]["assets"]


def undisturbed(tables, twins, count):
    """Load both pairs of tables, and migrate the twins by a task that nothing befalls. Returns what is in the tables,
    what that task found, and what it made of the twins."""
    for pair in (tables, twins):
        pair.load(sample_assets(count))
    alone = Task(twins)
    found = summed(alone.attempt(alone.read()))
    return tables.contents(), found, undated(twins.contents(), alone.files.started)


class Lost(Exception):
    """The executor is gone."""


def lose_after(monkeypatch, owner, name, calls, done=True):
    """Have the process of a task end at a call of a method; done: after what it does."""
    method, left = getattr(owner, name), [calls]

    def method_and_end(*arguments):
        left[0] -= 1
        if left[0] < 0 and not done:
            raise Lost()
        answer = method(*arguments)
        if left[0] < 0:
            raise Lost()
        return answer

    monkeypatch.setattr(owner, name, method_and_end)


@pytest.mark.parametrize("reads_again", [False, True])
def test_a_retry_tells_what_an_undisturbed_task_would(tables, twins, monkeypatch, reads_again):
    """Whether Spark still has what was read, or has it read again."""
    before, expected, made = undisturbed(tables, twins, 80)
    task = Task(tables)
    pairs = task.read()
    for writes in (5, 24):
        with monkeypatch.context() as patch, pytest.raises(Lost):
            lose_after(patch, migration.Database, "execute", writes)
            task.attempt(pairs)
        done = sum("currentVersionId" in item for item in tables.contents()[0].values())
        pairs = task.read() if reads_again else pairs
    assert 0 < done < 80
    assert summed(task.attempt(pairs)) == expected
    assert undated(tables.contents(), task.files.started) == made
    command = [*tables.flags, "--journal", task.job["settings"]["journal_dir"], "--yes"]
    assert load_script(ROLLBACK).main(command) == 3  # the job still goes on
    migration.end_journal(task.files.journal)
    assert load_script(ROLLBACK).main(command) == 0
    assert tables.contents() == before


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_two_attempts_that_write_at_once_tell_what_one_would(tables, twins, seconds):
    """As those of speculation, of which one comes later. Spark takes the result of either."""
    before, expected, made = undisturbed(tables, twins, 150)
    task = Task(tables)
    pairs = task.read()

    def attempt(number):
        time.sleep(seconds * number)
        return spark.migrate_assets(task.job, 0, number, iter(pairs))

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        results = list(threads.map(attempt, (0, 1)))
    found = list(map(summed, results))
    for said in (expected, *found):  # that an archived twin's record was replaced only the attempt knows that did it
        said[1].pop("archived_twin", None)
    assert found == [expected, expected]
    assert undated(tables.contents(), task.files.started) == made
    finish(task, results[1:])
    restore(tables, task.job["settings"]["journal_dir"], before)


@pytest.mark.parametrize("stored", [False, True])
def test_a_task_that_is_lost_at_an_object_of_its_journal_loses_nothing(tables, twins, place, monkeypatch, stored):
    """Before S3 has stored it, and after."""
    before, expected, made = undisturbed(tables, twins, 80)
    task = Task(tables, place.place)
    pairs = task.read()
    for objects in (0, 1, 2):
        with monkeypatch.context() as patch, pytest.raises(Lost):
            lose_after(patch, migration.S3Folder, "create", objects, stored)
            task.attempt(pairs)
        pairs = task.read()
    assert summed(task.attempt(pairs)) == expected
    assert undated(tables.contents(), task.files.started) == made
    monkeypatch.setattr(migration, "GOES_ON_SECONDS", -1.0)
    assert load_script(ROLLBACK).main([*tables.flags, "--journal", place.place, "--yes"]) == 0
    assert tables.contents() == before


def test_a_task_needs_not_ask_who_else_has_its_asset_ids(tables, monkeypatch):
    """All of them are in it."""
    version = {"Comment": "other", "Version": "2"}
    tables.put(asset("t"), asset("t", "db01#deleted", currentVersion=M(**version)), asset("t", "db02"))
    tables.put(asset("u"), asset("u", "db02", currentVersion=M(Version="3", Comment="another")))
    task = Task(tables)
    pairs, operations, call = task.read(), [], migration.Wire.call
    monkeypatch.setattr(
        migration.Wire, "call", lambda wire, name, request: operations.append(name) or call(wire, name, request)
    )
    result = task.attempt(pairs)
    assert result["counts"]["scanned"] == 5 and {"Scan", "Query"} & set(operations) == set()
    assert tables.record("t", "2")["isCurrentVersion"] == {"BOOL": False}


def test_no_ceiling_is_exceeded_by_the_tasks_that_run_at_once(tables):
    settings = migration.resolve_settings(migration.CONFIG, {}, flags_of(tables))
    files = types.SimpleNamespace(journal=None, stem="s", started="now")
    database = types.SimpleNamespace(assets="a", versions="v", indexes={})
    site = migration.Site(None, "r", 10**6, [])
    for write, read, limit in itertools.product((None, 1, 7, 1000), (None, 1, 7, 1000), (None, 10, 10**6)):
        limited = settings._replace(max_write_units=write, max_read_units=read, limit=limit, dry_run=True)
        tasks = spark.tasks_of(limited, site, 8)
        job = spark.job_of(limited, site, database, files, tasks)
        assert write is None or 1 <= job["write_units_each"] * tasks.at_once <= write
        assert read is None or 1 <= job["lookup_units_each"] * tasks.at_once <= read
        assert read is None or 1 <= job["read_units_each"] * min(tasks.reading, 8) <= read


def test_a_part_of_the_journal_of_a_task_is_not_taken_for_that_of_a_lost_one(tables, capfd):
    """The summary of the job knows how much each task has saved."""
    tables.put(*(asset("a%d" % number) for number in range(20)))
    before, task = tables.contents(), Task(tables)
    pairs = task.read()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Lost):
        lose_after(patch, migration.Database, "execute", 0)
        task.attempt(pairs)
    result = task.attempt(pairs)
    finish(task, [result])
    reports = tables.folder / "report_dir"
    with open(result["journal"], "r+b") as journal:
        whole = journal.read()
        journal.seek(0)
        journal.truncate(len(b"".join(whole.splitlines(True)[:10])))
    after = tables.contents()
    command = [*tables.flags, "--journal", str(tables.folder / "journal_dir"), "--report-dir", str(reports), "--yes"]
    assert load_script(ROLLBACK).main(command) == 2
    assert "is a part only: it holds 9 of 20 before images" in capfd.readouterr().err
    assert tables.contents() == after
    with open(result["journal"], "wb") as journal:
        journal.write(whole)
    assert load_script(ROLLBACK).main(command) == 0
    assert tables.contents() == before


def test_a_journal_of_a_task_that_is_missing_is_named(tables, capfd):
    """The summary of the job knows which there are."""
    tables.put(*(asset("a%d" % number) for number in range(20)))
    before, task, rollback = tables.contents(), Task(tables), load_script(ROLLBACK)
    pairs = task.read()
    results = [
        spark.migrate_assets(task.job, *attempt) for attempt in ((0, 1, iter(pairs[:5])), (1, 2, iter(pairs[5:])))
    ]
    finish(task, results)
    reports, here = tables.folder / "report_dir", tables.folder / "copied"
    here.mkdir()
    lost, journal = (Path(result["journal"]) for result in results)
    journal.rename(here / journal.name)
    lost.rename(tables.folder / lost.name)
    flags = [*tables.flags, "--report-dir", str(reports)]
    assert rollback.main([*flags, "--journal", str(here), "--yes"]) == 0
    shown = capfd.readouterr().out
    assert re.search(r"NOT GIVEN +%s" % re.escape(str(lost)), shown)
    assert re.search(" 5 +with a currentVersionId, in no journal here: ", shown)
    assert load_script(VERIFY).main([*flags, "--journal", str(here), "--restored"]) == 0
    shown = capfd.readouterr().out
    assert "%s: NOT GIVEN" % lost in shown and "5 assets are still migrated" in shown
    lost = tables.folder / lost.name
    assert rollback.main([*flags, "--journal", str(here), str(lost), "--yes"]) == 0
    assert "NOT GIVEN" not in capfd.readouterr().out
    assert tables.contents() == before


@pytest.mark.parametrize("left", ["", '{"journal":"%s","form' % migration.JOURNAL_KIND])
def test_what_a_killed_attempt_has_not_begun_does_not_stop_a_rollback(tables, capfd, left):
    tables.put(asset("a"))
    before, task, rollback = tables.contents(), Task(tables), load_script(ROLLBACK)
    pairs = task.read()
    folder = Path(task.job["settings"]["journal_dir"])
    not_begun = folder / (spark.task_stem(task.files.stem, 0) + "00000000.jsonl")
    not_begun.write_text(left)
    finish(task, [task.attempt(pairs)])
    command = [*tables.flags, "--yes", "--journal"]
    assert rollback.main(command + [str(not_begun)]) == 2
    assert "has no whole first line, so its run has written nothing" in capfd.readouterr().err
    assert rollback.main(command + list(map(str, folder.glob("*.jsonl")))) == 0
    assert "skipped         Journal %s has no whole" % not_begun in capfd.readouterr().out
    assert tables.contents() == before


def test_the_journal_of_another_attempt_may_go_while_they_are_looked_for(tables, tmp_path):
    assert spark.EarlierAttempts([migration.JournalFile(str(tmp_path / "gone"))]).empty


def test_the_cores_of_a_cluster_are_counted_when_its_executors_have_come(monkeypatch):
    class Context:
        master = "spark://host:7077"
        said = [2, 2, 4, 8, 8, 9]
        conf = {}

        @property
        def defaultParallelism(self):  # noqa: N802
            return self.said.pop(0)

        def getConf(self):  # noqa: N802
            return types.SimpleNamespace(contains=lambda name: name in self.conf)

        def parallelize(self, values, count):
            return types.SimpleNamespace(count=lambda: self.said.pop(0))

    monkeypatch.setattr(spark, "EXECUTORS_SECONDS", 0)
    context = Context()
    assert spark.cores_of(context) == 8 and context.said == [9]
    context = Context()
    context.said, context.conf = [6], {"spark.default.parallelism": "6"}
    assert spark.cores_of(context) == 6


def test_a_report_that_cannot_be_written_stops_the_job(tables, monkeypatch):
    """Instead of waiting for all of its tasks."""
    begun = []

    class Context:
        def runJob(self, partitions, function, numbers):  # noqa: N802
            begun.append(numbers)
            return [result]

        def cancelAllJobs(self):  # noqa: N802
            pass

    tables.put(asset("a"))
    task = Task(tables)
    result = task.attempt(task.read())
    partitions = types.SimpleNamespace(getNumPartitions=lambda: 50)
    folder = task.storage.folder(task.job["settings"]["journal_dir"])
    writing = spark.Writing(Context(), partitions, 1, task.job, task.files, folder)

    def refuse(tally, told):
        raise migration.MigrationError("The report cannot be written.", "make room.")

    monkeypatch.setattr(spark, "tell", refuse)
    with pytest.raises(migration.MigrationError, match="cannot be written"):
        writing.execute()
    assert len(begun) < 50 and writing.stopped and not os.path.exists(task.job["mark"])


def test_a_task_that_is_told_to_stop_finishes_what_is_under_way(tables, monkeypatch):
    monkeypatch.setattr(spark, "WATCH_SECONDS", 0.0)
    tables.load(sample_assets(400))
    task = Task(tables)
    task.job["write_units_each"] = 50
    execute = migration.Database.execute

    def execute_and_end_the_job(database, statements):
        answer = execute(database, statements)
        with contextlib.suppress(FileNotFoundError):  # by the first one
            os.remove(task.files.journal.path)
        return answer

    monkeypatch.setattr(migration.Database, "execute", execute_and_end_the_job)
    result = task.attempt(task.read())
    outcomes = summed(result)[0]
    assert sum(outcomes.values()) == result["counts"]["scanned"]
    assert outcomes["not_finished"] and 0 < outcomes["migrated"] < 400
    assert sum("currentVersionId" in item for item in tables.contents()[0].values()) == outcomes["migrated"]
    with pytest.raises(migration.MigrationError, match="all executors share"):
        task.attempt([])


# --- On the cores of this machine -------------------------------------------------------------


class Job:
    """The script in a process of its own, in a folder of its own."""

    def __init__(self, tables, *flags, command=(sys.executable, os.path.join(HERE, SCRIPT))):  # noqa: B008
        self.folder = tables.folder / ("spark-%d" % next(_numbers))
        self.folder.mkdir()
        flags = [*tables.flags, *flags]
        submit = "--master local[2] --driver-memory 512m pyspark-shell"
        environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": submit, "PYSPARK_PYTHON": sys.executable}
        self.output = open(self.folder / "output", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, *flags],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )

    def wait(self):
        """Its exit status and what it reported."""
        try:
            status = self.process.wait(timeout=150)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.output.seek(0)
        self.said = self.output.read()
        self.output.close()
        if not list(self.folder.glob("reports/*_summary.json")):
            raise AssertionError(self.said[-5000:])
        results = run_results(status, self.folder)
        results.said = self.said
        return results

    def journals(self):
        return sorted(self.folder.glob("backups/*_p*.jsonl"))

    def wait_until(self, ready):
        deadline = time.monotonic() + 120
        while not ready():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "output").read_text()
            time.sleep(0.05)


def run(tables, *flags, **options):
    return Job(tables, *flags, **options).wait()


def tallies(results):
    names = ("scanned", "outcomes", "codes", "assets_changed")
    return {name: results.summary[name] for name in names}


def told(results):
    """The rows of a report. Which of two twins comes first, and is told of, is left to chance."""
    rows = [tuple(row.values()) for row in results.rows if row["code"] != "archived_twin"]
    return sorted(re.sub(r"\d+T\d+Z", "", repr(row)) for row in rows)


def restore(tables, journals, before):
    """Roll back by all journals of a folder, and see that everything is as it was."""
    assert load_script(ROLLBACK).main([*tables.flags, "--journal", str(journals), "--yes"]) == 0
    assert tables.contents() == before


@needs_spark
def test_it_does_what_the_migration_does(tables, twins):
    assets = [*sample_assets(400), asset("bad", currentVersion=M(Version="x"))]
    for pair in (tables, twins):
        pair.load(assets)
    before = tables.contents()
    alone = twins.migrate("--dry-run")
    dry = run(tables, "--dry-run")
    assert tables.contents() == before
    assert (dry.status, tallies(dry), told(dry)) == (1, tallies(alone), told(alone))
    ours, theirs = (list(one.summary["estimate"]["write_units"].values()) for one in (dry, alone))
    # Of twins the second one to come may replace the record of the first.
    assert ours[0] == theirs[0] and abs(ours[1] - theirs[1]) <= dry.summary["codes"]["archived_twin"]
    assert dry.summary["estimate"]["journal_bytes"] == alone.summary["estimate"]["journal_bytes"]
    assert dry.said.count("  + version record, assetId:") == migration.SHOWN_CHANGES

    alone, spread = twins.migrate(), run(tables)
    assert undated(tables.contents(), spread.summary["started"]) == undated(twins.contents(), alone.summary["started"])
    assert (spread.status, tallies(spread), told(spread)) == (1, tallies(alone), told(alone))
    assert "failed: db01 / bad" in spread.said and "Traceback" not in spread.said
    assert "%s " % SCRIPT in spread.said.splitlines()[-1]
    journal = ["--journal", str(spread.folder / "backups")]
    assert load_script(VERIFY).main([*tables.flags, *journal]) == 1  # of the asset that failed
    written = tables.contents()
    again = run(tables)
    assert tables.contents() == written
    assert again.summary["writes"] == 0 and again.summary["outcomes"]["already_migrated"] == len(assets) - 1
    assert again.summary["journals"] == [] and not list(again.folder.glob("backups/*"))
    restore(tables, spread.folder / "backups", before)


@needs_spark
def test_a_table_of_one_database_keeps_all_tasks_writing_and_a_limit_is_exact(tables):
    tables.load(sample_assets(400, databases=1))
    in_order = local_dynamodb.all_items(tables.client, tables.assets)
    first = [(item["databaseId"]["S"], item["assetId"]["S"]) for item in itertools.islice(in_order, 30)]
    limited = run(tables, "--limit", "30", "--max-write-units", "500", "--max-read-units", "500")
    changed = [key for key, item in tables.contents()[0].items() if "currentVersion" not in item]
    assert limited.summary["scanned"] == 30 and sorted(changed) == sorted(first)
    whole = run(tables, "--database-id", "db01", "--database-id", "db01#deleted")
    assert whole.status == 0 and whole.summary["scanned"] == 400
    assert whole.summary["outcomes"]["migrated"] == 370
    assert len(whole.summary["tasks"]) == 8 and all(task["assets"] > 20 for task in whole.summary["tasks"])
    assert sum(task["assets"] for task in whole.summary["tasks"]) == 370


@needs_spark
def test_ctrl_c_finishes_what_is_under_way_and_the_next_run_the_rest(tables, twins):
    for pair in (tables, twins):
        pair.load(sample_assets(400))
    before = tables.contents()
    job = Job(tables, "--max-write-units", "150")
    job.wait_until(lambda: sum(path.read_text().count('{"asset"') for path in job.journals()) >= 50)
    os.kill(job.process.pid, signal.SIGINT)
    stopped = job.wait()
    assert stopped.status == 130 and "stopped: " in stopped.said and "Traceback" not in stopped.said
    assets, records = tables.contents()
    migrated = {
        key: item for key, item in assets.items() if "currentVersionId" in item and "currentVersion" not in item
    }
    assert 0 < len(migrated) < 400 and stopped.summary["outcomes"]["migrated"] == len(migrated)
    assert sum(stopped.summary["outcomes"].values()) == stopped.summary["scanned"]
    assert {key[0] for key in records} <= {key[1] for key in migrated}
    assert all(migration.is_whole(migration.JournalFile(str(path))) for path in job.journals())
    rest, alone = run(tables), twins.migrate()
    assert rest.status == 0
    assert rest.summary["outcomes"]["migrated"] == 400 - len(migrated)
    starts = [results.summary["started"] for results in (stopped, rest, alone)]
    assert undated(tables.contents(), *starts) == undated(twins.contents(), *starts)
    for path in rest.folder.glob("backups/*"):
        shutil.copy(path, stopped.folder / "backups")
    restore(tables, stopped.folder / "backups", before)


def count_migrated(tables):
    return sum("currentVersion" not in item for item in tables.contents()[0].values())


@needs_spark
def test_a_driver_that_is_killed_loses_nothing(tables, twins):
    """Its tasks go with it, and the next run does the rest."""
    for pair in (tables, twins):
        pair.load(sample_assets(200))
    before = tables.contents()
    job = Job(tables, "--max-write-units", "100")
    job.wait_until(lambda: count_migrated(tables) >= 20)
    job.process.kill()
    job.process.wait()
    job.output.close()
    deadline = time.monotonic() + 60
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(job.process.pid, 0)  # raises when all of them have ended by themselves
            time.sleep(0.1)
        raise AssertionError("its tasks go on")
    assert count_migrated(tables) < 200
    rest, alone = run(tables), twins.migrate()
    assert rest.status == 0 and rest.summary["scanned"] == 200
    starts = [json.loads(job.journals()[0].read_text().splitlines()[0])["started"]]
    starts += [results.summary["started"] for results in (rest, alone)]
    assert undated(tables.contents(), *starts) == undated(twins.contents(), *starts)
    for path in rest.folder.glob("backups/*"):
        shutil.copy(path, job.folder / "backups")
    restore(tables, job.folder / "backups", before)


@needs_spark
def test_an_error_that_a_task_meets_is_told_without_a_traceback(tables, engine):
    tables.load(sample_assets(100))
    with Front(engine.port, faults=Faults(expired_from=20)) as front:
        failed = run(tables, "--endpoint-url", front.endpoint_url)
    assert failed.status == 1 and "error: " in failed.said and "Fix: " in failed.said
    assert "Traceback" not in failed.said
    assert failed.summary["error"]


# --- On a cluster -----------------------------------------------------------------------------


class Cluster:
    """A master and two workers with a core each, which stand in a folder of their own."""

    def __init__(self, folder):
        import pyspark

        self.home = os.path.dirname(pyspark.__file__)
        self.folder = folder
        self.processes = []

    def __enter__(self):
        port = free_port()
        self.url = "spark://127.0.0.1:%d" % port
        self._start("master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
        for _ in range(2):
            flags = ("--host", "127.0.0.1", "-c", "1", "-m", "1g", "--webui-port", "0", "-d", str(self.folder / "work"))
            self._start("worker.Worker", *flags, self.url)
        return self

    def _start(self, name, *flags):
        command = [os.path.join(self.home, "bin", "spark-class"), "org.apache.spark.deploy." + name, *flags]
        environment = {**os.environ, "SPARK_HOME": self.home, "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1"}
        with open(self.folder / ("log-%d" % len(self.processes)), "w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)

    def kill_a_worker(self):
        """Its executor goes with it."""
        os.killpg(self.processes[-1].pid, signal.SIGKILL)

    def __exit__(self, *unused):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def going_on(place):
    """The journals in S3 that hold before images and have no end."""
    texts = {}
    for key in place.keys(".jsonl.gz"):
        texts.setdefault(key.rpartition("/")[0], []).append(place.text(key))
    return [name for name, parts in texts.items() if '{"end"' not in parts[-1]]


SPECULATIVE = {
    "spark.speculation": "true",
    "spark.speculation.interval": "200ms",
    "spark.speculation.task.duration.threshold": "2s",
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "1s",
    "spark.executor.memory": "512m",
    "spark.default.parallelism": "2",
}


@needs_spark
def test_on_a_cluster_nothing_depends_on_a_worker_that_is_killed(tables, twins, place, tmp_path, monkeypatch):
    """The script is submitted alone, as on Glue and EMR: Spark brings the other files."""
    for pair in (tables, twins):
        pair.load(sample_assets(400))
    before = tables.contents()
    with Cluster(tmp_path) as cluster:
        script = tmp_path / "submitted" / SCRIPT
        script.parent.mkdir()
        shutil.copy(os.path.join(HERE, SCRIPT), script)
        files = ",".join(os.path.join(HERE, name) for name in ("load_migration.py", MIGRATION))
        submit = [os.path.join(cluster.home, "bin", "spark-submit"), "--master", cluster.url, "--py-files", files]
        for name, value in SPECULATIVE.items():
            submit += ["--conf", "%s=%s" % (name, value)]
        flags = ["--max-write-units", "120", "--journal-dir", place.place]
        job = Job(tables, *flags, command=[*submit, str(script)])
        job.wait_until(lambda: len(going_on(place)) == 2)
        cluster.kill_a_worker()
        results = job.wait()
    alone = twins.migrate()
    assert results.status == 0, results.said
    assert undated(tables.contents(), results.summary["started"]) == undated(twins.contents(), alone.summary["started"])
    assert (tallies(results), told(results)) == (tallies(alone), told(alone))
    accepted = [task["journal"] for task in results.summary["tasks"]]
    assert len(accepted) == 8 and len(results.summary["journals"]) > 8  # others were tried in vain
    monkeypatch.setattr(migration, "GOES_ON_SECONDS", -1.0)  # the lost ones may go on, for all that S3 says
    restore(tables, place.place, before)
