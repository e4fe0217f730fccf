"""Lost replies, server errors, throttling, timeouts, refused access, full disks: in whatever mixture, the tables
end as in an undisturbed run, or the run stops with a remedy (spec.md section 3).
Each random test prints its seed; VAMS_FAULT_SEED chooses another."""

import collections
import csv
import errno
import gc
import os
import resource
import signal
import stat
import time
import types

import pytest
from faults import (
    REQUEST_FAULTS,
    ROLLBACK,
    SERVED,
    STATEMENT_FAULTS,
    Scene,
    check_order,
    check_outcomes,
    check_same,
    hostile_assets,
    random_faults,
    saved_images,
    seeded,
    undisturbed,
)
from v22 import asset, migrated

import local_dynamodb
from benchmarks.front import Faults, Front, Partition, error, parsed, statement_error
from load_migration import load_script, migration
from sample_assets import sample_assets

rollback = load_script(ROLLBACK)
verify = load_script("v2.2_to_v2.3_migration_verify.py")


def through(front, *flags):
    return ["--endpoint-url", front.endpoint_url, "--batch-size", "5", *flags]


@pytest.fixture
def short_patience(monkeypatch):
    """An answer that takes longer than a second never comes."""
    from botocore.config import Config

    monkeypatch.setattr("botocore.config.Config", lambda **options: Config(**dict(options, read_timeout=1)))


# --------------------------------------------------------------------------------------
# Mixtures
# --------------------------------------------------------------------------------------


def there_and_back(tables, engine, tmp_path, assets, front):
    """Migrate, verify and roll back through the front: each as if undisturbed."""
    tables.load(assets)
    before = tables.contents()
    expected = undisturbed(engine, tmp_path, assets)
    run = tables.migrate(*through(front))
    check_same(tables.contents(), expected.contents, assets)
    check_outcomes(run.summary, run.rows)
    assert run.status == expected.status
    assert run.summary["outcomes"] == expected.summary["outcomes"]
    verdict = verify.main(tables.flags + through(front)[:2] + ["--journal", str(run.journal)])
    assert verdict == expected.status
    back = tables.flags + through(front, "--journal", str(run.journal), "--report-dir", str(tmp_path / "back"), "--yes")
    assert rollback.main(back) == 0
    assets_now, records_now = tables.contents()
    # After a lost answer the record of a shared assetId may be another's: in doubt it stays, and the report says so.
    in_report = migration.spreadsheet_safe
    in_doubt = {row["asset_id"] for row in rows_of(tmp_path / "back") if row["code"] == "record_stays"}
    records_now = {
        key: item for key, item in records_now.items() if key in before[1] or in_report(key[0]) not in in_doubt
    }
    check_same((assets_now, records_now), before)


def rows_of(folder):
    """Of the only report in a folder."""
    (report,) = folder.glob("*.csv")
    with open(report, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("fault", REQUEST_FAULTS + STATEMENT_FAULTS)
def test_each_fault_alone(tables, engine, tmp_path, fault):
    rng = seeded(fault)
    count = 12 if "thro" in fault else 30  # what is throttled is sent more and more slowly
    assets = list(sample_assets(count, seed=rng.randrange(10**9)))
    faults = Faults(operations=SERVED, slow_seconds=0.05, **{fault: 0.25})
    with Front(engine.port, faults=faults, seed=rng.random()) as front:
        there_and_back(tables, engine, tmp_path, assets, front)
        assert front.faulted[fault] > 3


@pytest.mark.parametrize("number", range(3))
def test_mixtures(tables, engine, tmp_path, number):
    rng = seeded("mixture %d" % number)
    assets = list(sample_assets(40, seed=rng.randrange(10**9))) + list(hostile_assets(rng, 20))
    faults = random_faults(rng)
    print(faults)
    with Front(engine.port, faults=faults, seed=rng.random()) as front:
        there_and_back(tables, engine, tmp_path, assets, front)


def test_answers_that_come_too_late(tables, engine, tmp_path, short_patience):
    """The engine executes the request; the client has given up and sends it again."""
    assets = list(sample_assets(30))
    faults = Faults(slow=0.06, slow_seconds=1.5, operations=SERVED)
    with Front(engine.port, faults=faults, seed=1) as front:
        there_and_back(tables, engine, tmp_path, assets, front)
        assert front.faulted["slow"] > 0


def test_a_request_that_arrives_twice(tables, engine, tmp_path):
    """A proxy that sends a write again, some requests later, after the client's own has succeeded."""
    assets = list(sample_assets(60))
    tables.load(assets)
    expected = undisturbed(engine, tmp_path, assets)
    late = []

    def again(request, answer):
        if request.operation == "BatchExecuteStatement":
            late.append(request)
            if len(late) > 4:
                front._forward(late.pop(0))

    with Front(engine.port, after=again) as front:
        run = tables.migrate(*through(front))
        for request in late:
            front._forward(request)
    assert run.status == expected.status
    check_same(tables.contents(), expected.contents, assets)


class OneByOneFront(Front):
    """Calls the first batch invalid, throttles the second of its statements sent alone, then calls a function."""

    def __init__(self, engine_port, then):
        super().__init__(engine_port)
        self.batches = 0
        self.then = then

    def _executed(self, request):
        if request.operation == "BatchExecuteStatement":
            # The first one is the preflight's.
            self.batches += 1
            if self.batches == 2:
                return error(400, "ValidationException", "Said by the front")
            if self.batches == 4:
                self.then()
                return error(400, "ThrottlingException", "Rate exceeded")
        return super()._executed(request)


def test_a_batch_sent_one_by_one_knows_what_was_written(tables, engine, monkeypatch):
    """The asset whose record was written is deleted while another statement is refused: its record must go too."""
    monkeypatch.setattr(migration, "GATHER_SECONDS", 3.0)  # both records in one batch, however busy the machine is
    tables.put(asset("a"), asset("b"))
    deleted = []

    def delete_the_first_written():
        ((asset_id, _),) = tables.contents()[1]
        deleted.append(asset_id)
        key = {"databaseId": {"S": "db01"}, "assetId": {"S": asset_id}}
        tables.client.delete_item(TableName=tables.assets, Key=key)

    with OneByOneFront(engine.port, delete_the_first_written) as front:
        run = tables.migrate("--endpoint-url", front.endpoint_url, "--workers", "1", "--batch-size", "2")
    assert [(row["asset_id"], row["outcome"]) for row in run.rows] == [(deleted[0], "vanished")]
    assert {asset_id for asset_id, _ in tables.contents()[1]} == {"a", "b"} - set(deleted)


class IndexFront(Front):
    """Before a table with an index, of which some assets have one key in common: it takes 40 of these a second, no two
    at once. The others are refused by the code of the table, and nothing says why."""

    def __init__(self, engine_port, table, hot):
        super().__init__(engine_port)
        self.table = table
        self.hot = hot
        self.index = Partition(1.0, 40 * time.monotonic())
        self.refused = collections.Counter()

    def _looks_into_batches(self):
        return True

    def _judged(self, request, statement):
        kind, table, key_position = parsed(statement["Statement"])
        asset_id = statement["Parameters"][key_position + 1]["S"]
        with self._lock:
            is_hot = (kind, table) == ("UPDATE", self.table) and asset_id in self.hot
            if is_hot and not self.index.admits(1.0, 40 * time.monotonic()):  # its clock runs 40 times as fast
                self.refused[asset_id] += 1
                return statement_error(table, "ProvisionedThroughputExceeded"), False, 0.0
        return super()._judged(request, statement)


@pytest.mark.parametrize("databases", [1, 5])
def test_an_index_key_that_many_assets_share(tables, engine, tmp_path, databases):
    """It throttles writes of all databaseIds, which explain none of it. Each is done in the end."""
    assets = [asset("a%04d" % number, "db%d" % (number % databases)) for number in range(150)]
    hot = {item["assetId"]["S"] for number, item in enumerate(assets) if number % 10 < 4}
    tables.load(assets)
    expected = undisturbed(engine, tmp_path, assets)
    with IndexFront(engine.port, tables.assets, hot) as front:
        run = tables.migrate("--endpoint-url", front.endpoint_url)
    assert run.status == 0 and run.summary["outcomes"]["migrated"] == len(assets)
    check_outcomes(run.summary, run.rows)
    check_same(tables.contents(), expected.contents, assets)
    assert front.refused and set(front.refused) <= hot
    assert run.summary["throttles"] == sum(front.refused.values())


def test_failures_leave_no_requests_in_memory(tables, engine):
    """Errors and the frames that raised them make cycles; a request may have a megabyte."""
    tables.load(sample_assets(60))
    kinds = dict.fromkeys(set(REQUEST_FAULTS) - {"slow"}, 0.05)
    gc.collect()
    gc.disable()
    try:
        with Front(engine.port, faults=Faults(operations=SERVED, **kinds), seed=1) as front:
            assert tables.migrate(*through(front)).status == 0
        assert sum(front.faulted.values()) > 5
        code = migration.Database.execute.__code__
        frames = [found for found in gc.get_objects() if isinstance(found, types.FrameType)]
        left = [frame for frame in frames if frame.f_code is code]
    finally:
        gc.enable()
    assert left == []


# --------------------------------------------------------------------------------------
# Stopped in the middle, with a remedy
# --------------------------------------------------------------------------------------


def stopped(tables, front, capfd, *flags):
    """Run a migration that cannot finish: status 1, one error with its remedy, nothing lost."""
    before = tables.contents()
    run = tables.migrate(*through(front, *flags))
    errors = capfd.readouterr().err
    assert run.status == run.summary["exit_status"] == 1
    assert errors.count("error: ") == 1 and "\n  Fix: " in errors and "Traceback" not in errors
    check_outcomes(run.summary, run.rows)
    assert run.summary["error"]
    check_order(before, tables.contents(), [run.journal] if run.journal else [])
    return run, errors


@pytest.mark.parametrize("request_number", [5, 7, 12, 20, 30])
def test_credentials_expire(tables, engine, tmp_path, capfd, request_number):
    assets = list(sample_assets(100))
    tables.load(assets)
    with Front(engine.port, faults=Faults(expired_from=request_number)) as front:
        run, errors = stopped(tables, front, capfd)
        assert "credentials" in errors and "sign in again" in errors
        assert run.summary["outcomes"]["migrated"] < len(assets)
        front.faults.expired_from = float("inf")
        assert tables.migrate(*through(front)).status == 0
    check_same(tables.contents(), undisturbed(engine, tmp_path, assets).contents, assets)


@pytest.mark.parametrize(
    "operation, table",
    [
        ("Query", "assets"),
        ("BatchGetItem", "versions"),
    ],
)
def test_access_denied(tables, engine, tmp_path, capfd, operation, table):
    """For one table and one action. Granted, the same command finishes."""
    twin = (
        asset("twin"),
        asset("twin", "db01#deleted", currentVersion={"M": {"Version": {"S": "3"}, "Comment": {"S": "Old"}}}),
    )
    assets = list(sample_assets(60))
    tables.put(*twin)
    assert tables.migrate("--database-id", "db01#deleted").status == 0
    tables.load(assets)  # the live twin replaces the record: BatchGetItem and PartiQLUpdate on the versions table
    with Front(engine.port, faults=Faults(denied=[(operation, getattr(tables, table))])) as front:
        run, errors = stopped(tables, front, capfd)
        assert "permit" in errors and "IAM policy" in errors
        front.faults.denied = ()
        assert tables.migrate(*through(front)).status == 0
    assert all("currentVersionId" in item for item in tables.contents()[0].values())


@pytest.mark.parametrize(
    "action, table",
    [
        *((action, table) for action in ("PartiQLUpdate", "PartiQLDelete") for table in ("assets", "versions")),
        ("PartiQLInsert", "versions"),
        ("Scan", "assets"),
    ],
)
def test_access_denied_is_seen_before_anything_changes(tables, engine, capfd, action, table):
    tables.put(asset("a"))
    before = tables.contents()
    with Front(engine.port, faults=Faults(denied=[(action, getattr(tables, table))])) as front:
        assert migration.main(tables.flags + through(front)) == migration.EXIT_PREFLIGHT
    errors = capfd.readouterr().err
    assert "permit" in errors and getattr(tables, table) in errors and "IAM policy" in errors
    assert tables.contents() == before


@pytest.mark.parametrize("name", ["assets", "versions"])
def test_table_deleted_in_the_middle(engine, tmp_path, tables, capfd, name):
    tables.load(sample_assets(60))
    seen = []

    def delete(request):
        seen.append(request)
        if len(seen) == 15:
            tables.client.delete_table(TableName=getattr(tables, name))

    with Front(engine.port, before=delete) as front:
        run = tables.migrate(*through(front, "--workers", "1"))
    errors = capfd.readouterr().err
    local_dynamodb._create_table(tables.client, getattr(tables, name), ("a", "b"))  # for the fixture to delete
    assert run.status == 1 and errors.count("error: ") == 1 and "\n  Fix: " in errors and "Traceback" not in errors
    assert run.summary["scanned"] == sum(run.summary["outcomes"].values())


# --------------------------------------------------------------------------------------
# Journal and reports that cannot be written
# --------------------------------------------------------------------------------------


def writes_of(front):
    return front.requests["BatchExecuteStatement"]


@pytest.mark.parametrize("call", ["fsync", "write"])
@pytest.mark.parametrize("after_bytes", [0, 2000, 60000])
def test_full_disk(tables, engine, monkeypatch, capfd, call, after_bytes, tmp_path):
    """Whatever was written has its before image on the disk; with room, the same command finishes."""
    assets = list(sample_assets(300))
    tables.load(assets)
    before, genuine = tables.contents(), os.fsync
    full = []

    def no_room(descriptor):
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_size > after_bytes:
            full.append(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(descriptor)

    with Front(engine.port) as front:
        if call == "fsync":
            monkeypatch.setattr(os, "fsync", no_room)
            run = tables.migrate(*through(front)) if after_bytes else None
            status = run.status if run else migration.main(tables.flags + through(front))
            assert full
            monkeypatch.undo()
        else:
            scene = Scene(tables, front, tmp_path / "scene")
            former = resource.getrlimit(resource.RLIMIT_FSIZE)
            status = limited_run(scene, max(after_bytes, 1))
            assert resource.getrlimit(resource.RLIMIT_FSIZE) == former
    journals = list(tmp_path.glob("**/backups/*.jsonl"))
    assert status == (1 if after_bytes else 3)
    if not after_bytes:
        assert writes_of(front) == 1  # the preflight's
    check_order(before, tables.contents(), journals)
    if after_bytes < 60000:
        assert tables.contents() == before
    assert tables.migrate().status == 0
    check_same(tables.contents(), undisturbed(engine, tmp_path, assets).contents, assets)


def limited_run(scene, size):
    """In a process that cannot make a file longer than that; as on a full disk, write says so."""
    import subprocess
    import sys

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, migration.__file__] + scene.flags + ["--batch-size", "5"]
    done = subprocess.run(command, cwd=scene.folder, preexec_fn=limit, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "\n  Fix: " in done.stderr
    return done.returncode


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_journal_that_somebody_takes_away_ends_the_run(tables, monkeypatch, capfd, how, lines):
    """When its first line is on the disk, or the first before images, of which nothing is written then."""
    tables.put(asset("a"), asset("b"))
    before, fsync = tables.contents(), os.fsync

    def take_away(descriptor):
        fsync(descriptor)
        for journal in tables.folder.glob("run-*/backups/*.jsonl"):
            if len(journal.read_text().splitlines()) >= lines:
                text = journal.read_text()
                journal.rename(tables.folder / "moved.jsonl") if how == "moved" else journal.unlink()
                if how == "replaced":
                    journal.write_text(text)

    monkeypatch.setattr(os, "fsync", take_away)
    status = migration.main([*tables.flags, "--journal-dir", str(tables.folder / "run-x" / "backups")])
    errors = capfd.readouterr().err
    assert status == 1 and tables.contents() == before
    assert "somebody has moved or removed it.\n  Fix: put it back" in errors


def test_a_journal_that_was_taken_away_at_the_end_is_told_too(tables, monkeypatch, capfd):
    tables.put(asset("a"))
    close = migration.Journal.close

    def take_away_and_close(journal):
        os.remove(journal.path)
        return close(journal)

    monkeypatch.setattr(migration.Journal, "close", take_away_and_close)
    run = tables.migrate()
    assert run.status == 1 and tables.asset("db01", "a") == migrated("a")
    assert "somebody has moved or removed it.\n  Fix: put it back" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["backups", "reports"])
def test_folder_that_cannot_be_written(tables, engine, tmp_path, monkeypatch, capfd, name):
    """A file lies where the folder should be: nothing is written to DynamoDB."""
    tables.put(asset("a"))
    (tmp_path / name).write_text("")
    with Front(engine.port) as front:
        assert migration.main(tables.flags + through(front)) == migration.EXIT_PREFLIGHT
        assert writes_of(front) == 0
    assert "\n  Fix: " in capfd.readouterr().err


def test_report_that_cannot_be_written_any_more(tables, engine, monkeypatch, capfd):
    """The run stops; what it has written it finishes, and the journal is whole."""
    tables.load(sample_assets(60))
    before = tables.contents()

    def no_room(cell):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(migration, "spreadsheet_safe", no_room)
    with Front(engine.port) as front:
        run = tables.migrate(*through(front))
    errors = capfd.readouterr().err
    assert run.status == 1 and "report" in errors and "\n  Fix: " in errors
    assert errors.count("cannot be written: No space left on device. Rows may be missing in it.") == 1
    check_order(before, tables.contents(), [run.journal])


@pytest.mark.parametrize("number", range(3))
def test_journal_cut_in_its_last_line(tables, tmp_path, number):
    """Wherever it is cut, the lines before count; also where the disk left zeros."""
    rng = seeded("cut %d" % number)
    tables.load(sample_assets(20))
    before = tables.contents()
    run = tables.migrate()
    # Neither the end nor a summary: the run was killed.
    whole = b"".join(run.journal.read_bytes().splitlines(True)[:-1])
    for summary in run.folder.glob("reports/*_summary.json"):
        summary.unlink()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    cut = rng.randrange(last, len(whole))
    run.journal.write_bytes(whole[:cut] + bytes(rng.choice([0, 0, 100])))
    kept = saved_images([run.journal])
    assert len(kept) >= len(before[0]) - 1
    flags = [*tables.flags, "--report-dir", str(tmp_path / "back"), "--yes"]
    status = rollback.main(flags + ["--journal", str(run.journal)])
    assert status == 0
    restored = {key for key, item in tables.contents()[0].items() if item == before[0][key]}
    assert restored >= set(kept)
