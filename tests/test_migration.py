"""The run as a whole: twins, other writers, order, interruption, reports (spec.md sections 2 to 4)."""

import collections
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from conftest import BUCKET, Tables, normal, on_a_terminal, patch_execute
from v22 import DELETED, NULL, L, M, S, asset, migrated, partiql, record, version

import local_dynamodb
from benchmarks.front import Front
from load_migration import migration
from sample_assets import sample_assets

pytestmark = pytest.mark.usefixtures("one_client")
SCRIPT = migration.__file__
ARCHIVE = "db01" + DELETED


def only(*database_ids):
    return [flag for database_id in database_ids for flag in ("--database-id", database_id)]


def applied(asset):
    """A sample asset as the migration leaves it."""
    plan = migration.plan_asset(asset, BUCKET, "now", migration.Facts())
    return {
        name: value for name, value in {**asset, **plan.set_attributes}.items() if name not in plan.remove_attributes
    }


# --------------------------------------------------------------------------------------
# Shared ids
# --------------------------------------------------------------------------------------


def own(**changes):
    return {"currentVersion": version(**changes)}


@pytest.mark.parametrize("order", [["db01", ARCHIVE], [ARCHIVE, "db01"], ["both at once"]], ids=" then ".join)
@pytest.mark.parametrize("archived_comment", ["Third upload", "Archived"], ids=["same", "different"])
def test_archived_twin_of_the_same_version(tables, order, archived_comment):
    """In any order the record is the live asset's, and the archived one is finished."""
    tables.put(asset("twin"), asset("twin", ARCHIVE, **own(Comment=archived_comment)))
    dry = tables.migrate("--dry-run", *only("db01", ARCHIVE))
    runs = [tables.migrate(*only(*(["db01", ARCHIVE] if name == "both at once" else [name]))) for name in order]
    assert [run.status for run in runs] == [0] * len(runs)
    assert tables.contents() == (
        {("db01", "twin"): normal(migrated("twin")), (ARCHIVE, "twin"): normal(migrated("twin", ARCHIVE))},
        {("twin", "3"): record("twin")},
    )
    rows = [(row["asset_id"], row["outcome"], row["code"]) for run in runs for row in run.rows]
    assert (
        rows
        == [(row["asset_id"], row["outcome"], row["code"]) for row in dry.rows]
        == [("twin", "migrated", "archived_twin")]
    )
    assert sum(run.summary["assets_changed"] for run in runs) == 2
    assert tables.migrate(*only("db01", ARCHIVE)).summary["writes"] == 0


@pytest.mark.parametrize("order", [["db01", ARCHIVE], [ARCHIVE, "db01"]], ids=" then ".join)
def test_archived_twin_of_another_version(tables, order):
    tables.put(asset("twin"), asset("twin", ARCHIVE, **own(Version="2")))
    runs = [tables.migrate(*only(name)) for name in order]
    assert [(run.status, run.rows) for run in runs] == [(0, [])] * 2
    assert tables.record("twin", "3") == record("twin")
    assert tables.record("twin", "2") == record("twin", assetVersionId="2", isCurrentVersion={"BOOL": False})


def test_record_of_an_archived_asset_is_saved_before_it_is_replaced(tables):
    tables.put(asset("twin"), asset("twin", ARCHIVE, **own(Comment="Archived")))
    tables.migrate(*only(ARCHIVE))
    archived = record("twin", comment="Archived", isCurrentVersion={"BOOL": False})
    assert tables.record("twin", "3") == archived
    run = tables.migrate(*only("db01"))
    entries = [json.loads(line) for line in run.journal.read_text().splitlines()]
    assert {"claim": {"was": archived, "now": record("twin"), "certain": True}, "database_id": "db01"} in entries


@pytest.mark.parametrize("first, second", [("db01", "db02"), ("db02", "db01")])
def test_id_shared_with_same_content(tables, first, second):
    tables.put(asset("shared"), asset("shared", "db02"))
    dry = tables.migrate("--dry-run", *only(first, second))
    runs = [tables.migrate(*only(first)), tables.migrate(*only(second))]
    assert [(run.status, run.rows) for run in [dry] + runs] == [(0, [])] * 3
    assert tables.contents() == (
        {(name, "shared"): normal(migrated("shared", name)) for name in ("db01", "db02")},
        {("shared", "3"): record("shared")},
    )


@pytest.mark.parametrize("first, second", [("db01", "db02"), ("db02", "db01")])
def test_id_shared_with_other_content_fails_the_second(tables, first, second):
    tables.put(asset("shared", first), asset("shared", second, **own(Comment="Mine")))
    dry = tables.migrate("--dry-run", *only(first, second))
    runs = [tables.migrate(*only(first)), tables.migrate(*only(second))]
    assert [run.status for run in [dry] + runs] == [1, 0, 1]
    assert runs[1].codes == dry.codes == {"version_conflict"}
    assert dry.summary["outcomes"]["failed"] == 1 and dry.summary["outcomes"]["migrated"] == 1
    assert tables.asset(second, "shared") == asset("shared", second, **own(Comment="Mine"))
    assert tables.record("shared", "3") == record("shared")


def test_id_shared_with_other_versions(tables):
    tables.put(asset("shared"), asset("shared", "db02", **own(Version="2")))
    assert tables.migrate(*only("db01", "db02")).status == 0
    assert sorted(tables.contents()[1]) == [("shared", "2"), ("shared", "3")]


@pytest.mark.parametrize("order", [["db02", ARCHIVE, "db01"], ["db02", "db01", ARCHIVE]], ids=" then ".join)
def test_record_of_another_database_is_never_replaced(tables, order):
    """The archived twin keeps the record of db02's asset; that does not make it the twin's own."""
    tables.put(
        asset("shared", "db02"), asset("shared", **own(Comment="Mine")), asset("shared", ARCHIVE, **own(Comment="Old"))
    )
    runs = {name: tables.migrate(*only(name)) for name in order}
    assert tables.record("shared", "3") == record("shared")
    assert runs["db01"].codes == {"version_conflict"}
    assert tables.asset("db01", "shared") == asset("shared", **own(Comment="Mine"))
    assert runs[ARCHIVE].codes == {"archived_twin"} and runs[ARCHIVE].status == 0


def test_an_id_that_dynamodb_rejects_fails_that_asset_alone(tables):
    """The record's sort key takes 1,024 bytes; a failed insert, or look-up, must not end the run."""
    tables.put(asset("good"), asset("long", **own(Version="1" * 1025)), asset("good2"))
    for flags in (["--dry-run"], []):
        run = tables.migrate(*only("db01"), *flags)
        assert run.summary["scanned"] == 3 and run.summary["outcomes"]["migrated"] >= 2
    assert [(row["asset_id"], row["outcome"], row["code"]) for row in run.rows] == [
        ("long", "failed", "rejected_by_dynamodb")
    ]
    assert run.status == 1
    assert tables.asset("db01", "long") == asset("long", **own(Version="1" * 1025))


@pytest.mark.parametrize(
    "odd",
    [
        asset("odd", DELETED),
        asset("odd", "x" * 2041),
        asset("odd", "db09", currentVersionId="1" * 1025),
    ],
    ids=["archived_in_no_database", "no_room_for_deleted", "long_current_version_id"],
)
def test_a_key_that_cannot_be_looked_up_does_not_end_the_run(tables, odd):
    tables.put(asset("good"), odd)
    if len(odd["databaseId"]["S"]) == 2041:
        tables.put_records(record("odd", comment="another"))  # asks for the archived twin
    run = tables.migrate(*only("db01", odd["databaseId"]["S"]))
    assert run.summary["error"] is None and run.status in (0, 1)
    assert run.summary["scanned"] == run.summary["outcomes"]["migrated"] + run.summary["outcomes"]["failed"] == 2
    assert tables.asset("db01", "good") == migrated("good")


# --------------------------------------------------------------------------------------
# Others write between our read and our write
# --------------------------------------------------------------------------------------


@pytest.fixture
def before_sending(monkeypatch):
    """before_sending(start, action, times): a real write just before a request whose statements begin so."""

    def install(start, action, times=1):
        original, left = migration.Database.execute, [times]

        def execute(self, statements):
            if left[0] and any(partiql(statement).startswith(start) for statement in statements):
                left[0] -= 1
                action()
            return original(self, statements)

        patch_execute(monkeypatch, execute)

    return install


UPDATE_ASSET = 'UPDATE "assets'
KEY = {"databaseId": S("db01"), "assetId": S("a")}


def delete(tables, database_id="db01"):
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S(database_id), "assetId": S("a")})


def test_edited_by_a_user_elsewhere(tables, before_sending):
    """What we do not own may change under us: it is not even noticed."""
    tables.put(asset("a"))
    before_sending(UPDATE_ASSET, lambda: tables.put(asset("a", assetName="Renamed", added=NULL)))
    assert tables.migrate(*only("db01")).status == 0
    assert tables.asset("db01", "a") == migrated("a", assetName="Renamed", added=NULL)


CHANGES = {
    "attribute": ({"assetName": "Renamed", "previewLocation": M(Key="new.png")},
                  {"assetName": "Renamed", "previewLocation": M(Key="new.png", Bucket=BUCKET)}, {}),
    "attribute_added": ({"previewLocation": None, "objectFamily": None}, {"previewLocation": None}, {}),
    "version": (own(Version="4", Comment="Fourth"), {"currentVersionId": "4"},
                {"assetVersionId": "4", "comment": "Fourth"}),
    "version_back": (own(Version="1"), {"currentVersionId": "1"}, {"assetVersionId": "1"}),
    "comment": (own(Comment="Corrected"), {}, {"comment": "Corrected"}),
    "date": (own(DateModified="June 25 2025 - 00:00:00"), {}, {"dateCreated": "2025-06-25T00:00:00Z"}),
    "pipelines": (own(specifiedPipelines=L()), {}, {"specifiedPipelines": L()}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changed_once(tables, before_sending, name):
    edit, in_asset, in_record = CHANGES[name]
    tables.put(asset("a"))
    before_sending(UPDATE_ASSET, lambda: tables.put(asset("a", **edit)))
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["migrated"], run.rows) == (0, 1, [])
    expected = migrated("a", **in_asset), record("a", **in_record)
    assert tables.contents() == (
        {("db01", "a"): normal(expected[0])},
        {("a", expected[1]["assetVersionId"]["S"]): expected[1]},
    )
    before_images = [json.loads(line).get("asset") for line in run.journal.read_text().splitlines()]
    assert before_images[1:-1] == [asset("a"), asset("a", **edit)]


def test_description_that_the_record_takes_from_the_asset(tables, before_sending):
    tables.put(asset("a", **own(description=None)))
    before_sending(UPDATE_ASSET, lambda: tables.put(asset("a", description="New", **own(description=None))))
    assert tables.migrate(*only("db01")).status == 0
    assert tables.record("a", "3") == record("a", description="New")
    assert tables.asset("db01", "a") == migrated("a", description="New")


def test_changed_while_the_record_is_inserted(tables, before_sending):
    tables.put(asset("a"))
    before_sending("INSERT", lambda: tables.put(asset("a", **own(Version="4"))))
    assert tables.migrate(*only("db01")).status == 0
    assert tables.contents()[1] == {("a", "4"): record("a", assetVersionId="4")}


def test_changed_each_time(tables, before_sending):
    tables.put(asset("a"))
    numbers = iter(range(4, 100))

    def edit():
        tables.put(asset("a", **own(Version=str(next(numbers)))))

    before_sending(UPDATE_ASSET, edit, times=99)
    run = tables.migrate(*only("db01"))
    assert run.status == 1
    assert [(row["outcome"], row["code"]) for row in run.rows] == [("failed", "changed_during_migration")]
    last = str(next(numbers) - 1)
    assert 2 <= int(last) - 3 <= 10  # "up to a few times"
    assert tables.contents() == ({("db01", "a"): normal(asset("a", **own(Version=last)))}, {})


def test_became_invalid(tables, before_sending):
    tables.put(asset("a"))
    before_sending(UPDATE_ASSET, lambda: tables.put(asset("a", **own(Version="x"))))
    run = tables.migrate(*only("db01"))
    assert (run.status, run.codes) == (1, {"invalid_version_id"})
    assert tables.contents() == ({("db01", "a"): normal(asset("a", **own(Version="x")))}, {})


@pytest.mark.parametrize("when", [UPDATE_ASSET, "INSERT"])
def test_deleted(tables, before_sending, when):
    tables.put(asset("a"))
    before_sending(when, lambda: delete(tables))
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["vanished"], run.summary["outcomes"]["migrated"]) == (0, 1, 0)
    assert [(row["asset_id"], row["outcome"]) for row in run.rows] == [("a", "vanished")]
    assert tables.contents() == ({}, {})


def test_deleted_beside_the_same_content_in_another_database(tables, before_sending):
    """The record is the other asset's too, which has nothing else of its version any more."""
    tables.put(asset("a"), asset("a", "db02"))
    assert tables.migrate(*only("db02")).status == 0
    before_sending(UPDATE_ASSET, lambda: delete(tables))
    assert tables.migrate(*only("db01")).summary["outcomes"]["vanished"] == 1
    assert tables.contents() == ({("db02", "a"): normal(migrated("a", "db02"))}, {("a", "3"): record("a")})


def test_changed_beside_the_same_content_in_another_database(tables, before_sending):
    tables.put(asset("a"), asset("a", "db02"))
    assert tables.migrate(*only("db02")).status == 0
    before_sending(UPDATE_ASSET, lambda: tables.put(asset("a", **own(Version="4"))))
    assert tables.migrate(*only("db01")).status == 0
    assert tables.contents()[1] == {("a", "3"): record("a"), ("a", "4"): record("a", assetVersionId="4")}


def archive(tables):
    tables.put(asset("a", ARCHIVE))
    delete(tables)


def test_archived_by_a_user(tables, before_sending):
    tables.put(asset("a"))
    before_sending(UPDATE_ASSET, lambda: archive(tables))
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["vanished"]) == (0, 1)
    assert tables.contents() == ({(ARCHIVE, "a"): normal(asset("a", ARCHIVE))}, {})
    assert tables.migrate(*only(ARCHIVE)).status == 0
    assert tables.contents() == ({(ARCHIVE, "a"): normal(migrated("a", ARCHIVE))}, {("a", "3"): record("a")})


def test_live_asset_deleted_after_it_took_the_record_of_its_archived_twin(tables, before_sending):
    tables.put(asset("a"), asset("a", ARCHIVE, assetName="Old", **own(Comment="Archived")))
    tables.migrate(*only(ARCHIVE))
    before_sending(UPDATE_ASSET, lambda: delete(tables))
    assert tables.migrate(*only("db01")).summary["outcomes"]["vanished"] == 1
    archived = record("a", comment="Archived", isCurrentVersion={"BOOL": False})
    assert tables.contents() == (
        {(ARCHIVE, "a"): normal(migrated("a", ARCHIVE, assetName="Old"))},
        {("a", "3"): archived},
    )


def test_live_asset_changed_then_deleted_after_it_took_the_record(tables, monkeypatch, before_sending):
    tables.put(asset("a"), asset("a", ARCHIVE, assetName="Old", **own(Comment="Archived")))
    tables.migrate(*only(ARCHIVE))
    steps = iter([lambda: tables.put(asset("a", previewLocation=M(Key="b.png"))), lambda: delete(tables)])
    before_sending(UPDATE_ASSET, lambda: next(steps)(), times=2)
    assert tables.migrate(*only("db01")).summary["outcomes"]["vanished"] == 1
    archived = record("a", comment="Archived", isCurrentVersion={"BOOL": False})
    assert tables.contents()[1] == {("a", "3"): archived}


def test_archived_asset_deleted_after_its_record_was_written(tables, before_sending):
    """What it leaves must not stand in the way of its live twin."""
    tables.put(asset("a"), asset("a", ARCHIVE, **own(Comment="Archived")))
    before_sending(UPDATE_ASSET, lambda: delete(tables, ARCHIVE))
    assert tables.migrate(*only(ARCHIVE)).summary["outcomes"]["vanished"] == 1
    run = tables.migrate(*only("db01"))
    assert (run.status, run.codes - {"archived_twin"}) == (0, set())
    assert tables.contents() == ({("db01", "a"): normal(migrated("a"))}, {("a", "3"): record("a")})


@pytest.mark.parametrize("archived", ["before", "meanwhile", "afterwards"])
def test_live_asset_changed_whose_archived_twin_is_migrated(tables, before_sending, archived):
    twin = asset("a", ARCHIVE, **own(Comment="Archived"))
    tables.put(asset("a"), twin)
    if archived == "before":
        tables.migrate(*only(ARCHIVE))

    def edit():
        tables.put(asset("a", **own(Comment="Corrected")))
        if archived == "meanwhile":  # it found the record of the live asset, and kept it
            tables.put(migrated("a", ARCHIVE))

    before_sending(UPDATE_ASSET, edit)
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["migrated"]) == (0, 1)
    assert tables.record("a", "3") == record("a", comment="Corrected")
    assert tables.asset("db01", "a") == migrated("a")


def test_migrated_by_another_run(tables, before_sending):
    tables.put(asset("a"))
    before_sending(UPDATE_ASSET, lambda: tables.put(migrated("a")))
    run = tables.migrate(*only("db01"))
    assert (run.status, run.rows) == (0, [])
    assert tables.contents() == ({("db01", "a"): normal(migrated("a"))}, {("a", "3"): record("a")})


@pytest.fixture
def lose_reply(monkeypatch):
    """lose_reply(start): the first request with such a statement is carried out, but its answer is lost."""

    def install(start):
        original, left = migration.Database.execute, [1]

        def execute(self, statements):
            answer = original(self, statements)
            if left[0] and any(partiql(statement).startswith(start) for statement in statements):
                left[0] -= 1
                raise migration.TryAgain("no answer from DynamoDB: lost")
            return answer

        patch_execute(monkeypatch, execute)

    return install


@pytest.mark.parametrize("start", ["INSERT", UPDATE_ASSET])
def test_lost_reply(tables, lose_reply, start):
    tables.put(asset("a"), asset("b"))
    lose_reply(start)
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["migrated"], run.rows) == (0, 2, [])
    assert tables.contents() == (
        {("db01", name): normal(migrated(name)) for name in "ab"},
        {(name, "3"): record(name) for name in "ab"},
    )


def test_lost_reply_of_an_exchange(tables, lose_reply):
    tables.put(asset("a"), asset("a", ARCHIVE, **own(Comment="Archived")))
    tables.migrate(*only(ARCHIVE))
    lose_reply('UPDATE "versions')
    run = tables.migrate(*only("db01"))
    assert (run.status, run.summary["outcomes"]["migrated"]) == (0, 1)
    assert tables.record("a", "3") == record("a")


@pytest.mark.parametrize("still_current", [False, True])
def test_lost_reply_then_edited_by_v23(tables, lose_reply, before_sending, still_current):
    """Our change came through; then the v2.3 application made version 4, and version 3 is history, to be kept: also
    while the application has not come to say that it is not current."""
    tables.put(asset("a"))
    lose_reply(UPDATE_ASSET)
    count = [0]

    def second_time():
        count[0] += 1
        if count[0] == 2:
            tables.put(migrated("a", currentVersionId="4"))
            flag = {"BOOL": still_current}
            tables.put_records(record("a", isCurrentVersion=flag), record("a", assetVersionId="4"))

    before_sending(UPDATE_ASSET, second_time, times=2)
    run = tables.migrate()
    assert (run.status, run.summary["outcomes"]["migrated"], run.summary["version_records_written"]) == (0, 1, 1)
    assert tables.asset("db01", "a") == migrated("a", currentVersionId="4")
    assert sorted(tables.contents()[1]) == [("a", "3"), ("a", "4")]


@pytest.fixture
def failing(monkeypatch):
    """failing(fault): fault(statements, send) answers in the place of Database.execute, or returns None."""

    def install(fault):
        original = migration.Database.execute

        def execute(self, statements):
            answer = fault(statements, lambda some: original(self, some))
            return original(self, statements) if answer is None else answer

        patch_execute(monkeypatch, execute)

    return install


def test_every_kind_of_passing_failure(tables, failing):
    """Throttled statements and requests, server errors before and after the write: all are sent again."""
    codes = ["ProvisionedThroughputExceeded", "ThrottlingError", "RequestLimitExceeded", "InternalServerError",
             "TransactionConflict"]  # fmt: skip
    rolls, lock = random.Random(1), threading.Lock()

    def fault(statements, send):
        with lock:
            kind, picks = rolls.random(), [rolls.random() for _ in statements]
        if kind < 0.05:
            raise migration.TryAgain("throttled")
        if kind < 0.1:
            send(statements)
            raise migration.TryAgain("no answer from DynamoDB: reset")
        answers = []
        for statement, pick in zip(statements, picks):
            code = codes[int(pick * 50)] if pick < 0.1 else None
            done = pick > 0.08 and send([statement])[0][0]  # an InternalServerError may have written
            answers.append((code, "") if code else done)
        return answers, None

    assets = list(sample_assets(40, databases=1))
    tables.load(assets)
    failing(fault)
    run = tables.migrate("--batch-size", "5", *only("db01", ARCHIVE))
    assert (run.status, run.summary["outcomes"]["migrated"]) == (0, len(assets))
    assert run.summary["throttles"] > 0
    after = tables.contents()
    for item in assets:
        assert after[0][(item["databaseId"]["S"], item["assetId"]["S"])] == normal(applied(item))
    assert tables.migrate(*only("db01", ARCHIVE)).summary["writes"] == 0


@pytest.mark.parametrize("code", ["AccessDenied", "ResourceNotFound"])
def test_failure_that_no_retry_cures_stops_the_run(tables, failing, capfd, code):
    tables.put(*(asset("a%02d" % n) for n in range(30)))

    def fault(statements, send):
        def answer(statement):
            denied = partiql(statement).startswith(UPDATE_ASSET)
            return (code, "User is not authorized") if denied else send([statement])[0][0]

        return [answer(statement) for statement in statements], None

    failing(fault)
    run = tables.migrate("--batch-size", "4", "--workers", "2", *only("db01"))
    assert run.status == run.summary["exit_status"] == 1
    assert run.summary["outcomes"]["not_finished"] == run.summary["scanned"] == 30
    errors = capfd.readouterr().err
    assert errors.count("error: ") == 1 and "Fix: " in errors and "Traceback" not in errors


def test_large_histories(tables):
    """The conditions send whole attributes: several megabytes a batch."""
    assets = [asset("a%d" % n, versions={"L": [version(Comment="x" * 1000)] * 330}) for n in range(12)]
    tables.put(*assets)
    run = tables.migrate(*only("db01"))
    assert run.summary["outcomes"]["migrated"] == 12
    assert all(tables.asset("db01", "a%d" % n) == migrated("a%d" % n) for n in range(12))


# --------------------------------------------------------------------------------------
# Order
# --------------------------------------------------------------------------------------


def test_the_names_of_a_journals_new_folders_are_on_the_disk(tmp_path, monkeypatch):
    folder, fsync, synced = tmp_path / "new" / "newer", os.fsync, []

    def noting_fsync(descriptor):
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    os.makedirs(folder)
    migration.open_private(str(folder / "journal")).close()
    assert {path.stat().st_ino for path in (folder, folder.parent, tmp_path)} <= set(synced)


def test_before_image_on_disk_then_record_then_asset(tables, monkeypatch):
    assets = list(sample_assets(120, databases=2))
    tables.load(assets)
    names = {item["assetId"]["S"] for item in assets}
    synced, confirmed, problems, checked = {}, set(), [], collections.Counter()
    fsync, execute = os.fsync, migration.Database.execute

    def noting_fsync(descriptor):
        fsync(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def on_disk():
        (journal,) = tables.folder.glob("run-*/backups/*.jsonl")
        with open(journal, "rb") as file:
            lines = file.read(synced.get(journal.stat().st_ino, 0)).splitlines()
        return {json.loads(line)["asset"]["assetId"]["S"] for line in lines[1:]}

    def noting_execute(self, statements):
        saved = on_disk()
        values = [json.loads(statement)["Parameters"] for statement in statements]
        ids = [next(value["S"] for value in some if value.get("S") in names) for some in values]
        texts = [partiql(statement) for statement in statements]
        for asset_id, text in zip(ids, texts):
            checked[text.split()[0]] += 1
            if asset_id not in saved:
                problems.append("%s of %s before its before image was on disk" % (text.split()[0], asset_id))
            if text.startswith(UPDATE_ASSET) and asset_id not in confirmed:
                problems.append("%s changed before its record was confirmed" % asset_id)
        answer = execute(self, statements)
        for asset_id, text, (code, _) in zip(ids, texts, answer[0]):
            if text.startswith("INSERT") and code in (None, "DuplicateItem"):
                confirmed.add(asset_id)
        return answer

    monkeypatch.setattr(os, "fsync", noting_fsync)
    patch_execute(monkeypatch, noting_execute)
    assert tables.migrate("--batch-size", "5", *only("db01", "db02")).status == 0
    assert problems == []
    live = sum(item["databaseId"]["S"] in ("db01", "db02") for item in assets)
    assert checked["INSERT"] >= live > 100 and checked["UPDATE"] >= live


# --------------------------------------------------------------------------------------
# Dry run, rerun, limits
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        # With assetLocation and currentVersionId it has more than 400 KB.
        {"databaseId": S("db01"), "assetId": S("a"), "filler": S("x" * (409600 - 40))},
        asset("a", **own(Version="9" * 1025)),
    ],
)
def test_a_dry_run_foresees_what_dynamodb_rejects(tables, broken):
    tables.put(broken, asset("b"))
    foreseen, done = tables.migrate("--dry-run"), tables.migrate()
    assert foreseen.summary["outcomes"] == done.summary["outcomes"]
    assert (done.status, done.codes) == (1, {"rejected_by_dynamodb"}) == (foreseen.status, foreseen.codes)
    assert done.summary["version_records_written"] == 1 and sorted(tables.contents()[1]) == [("b", "3")]


def test_uploaded_twice_while_the_migration_ran(tables, before_sending):
    """Each time the record of the version before is withdrawn, and nothing of it is remembered."""
    tables.put(asset("a"))
    versions = iter("45")

    def upload():
        tables.put(asset("a", **own(Version=next(versions))))

    before_sending(UPDATE_ASSET, upload, times=2)
    run = tables.migrate()
    assert (run.status, run.summary["outcomes"]["migrated"], run.rows) == (0, 1, [])
    assert run.summary["version_records_written"] == 1 and sorted(tables.contents()[1]) == [("a", "5")]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_cannot_show_a_name(tables, encoding):
    tables.put(asset("Bär 鼎", **own(Version="x")), asset("Größe 鼎"))
    for flags in (["--dry-run"], ["--log-level", "DEBUG"]):
        process = subprocess.run(
            [sys.executable, SCRIPT] + tables.flags + flags,
            cwd=tables.folder, env={**os.environ, "PYTHONIOENCODING": encoding}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = process.stdout.decode(encoding)
        assert process.returncode == 1 and "Traceback" not in output
        failure = "would fail" if "--dry-run" in flags else "failed"
        assert failure + ": db01 / B" in output and "\\u9f0e" in output


def test_samples_dry_then_real_then_again(tables, capfd):
    """300 sample assets, and others that fail, read by a parallel scan."""
    samples = list(sample_assets(300))
    failing = [
        asset("fail1", **own(Version="x")),
        asset("fail2", currentVersion=S("3")),
        asset("fail3", currentVersionId="9"),
        asset("fail4"),
        asset("warn", **own(Version=None)),
    ]
    tables.load(samples + failing)
    tables.put_records(record("fail4", comment="of another asset"))
    before = tables.contents()
    dry = tables.migrate("--dry-run")
    assert tables.contents() == before
    assert dry.journal is None and not (dry.folder / "backups").exists()
    assert dry.summary["writes"] == 0 and dry.summary["dry_run"] is True
    capfd.readouterr()
    real = tables.migrate()
    screen = capfd.readouterr()

    def rows(run):
        return sorted(
            tuple(row[name] for name in ("outcome", "code", "field", "message") if row["code"] != "archived_twin")
            + (() if row["code"] == "archived_twin" else (row["database_id"],))
            + (row["asset_id"],)
            for row in run.rows
        )

    assert rows(dry) == rows(real)
    for name in ("scanned", "outcomes", "codes", "assets_changed", "exit_status"):
        assert dry.summary[name] == real.summary[name], name
    assert real.summary["outcomes"] == {
        "migrated": 301, "already_migrated": 0, "failed": 4, "vanished": 0, "not_finished": 0
    }  # fmt: skip
    assert real.status == 1
    after = tables.contents()
    for item in samples:
        assert after[0][(item["databaseId"]["S"], item["assetId"]["S"])] == normal(applied(item))
    for item in failing[:4]:
        assert after[0][("db01", item["assetId"]["S"])] == normal(item)
    # The screen says how it went.
    assert "301  migrated" in screen.out and "4  failed" in screen.out and str(real.journal) in screen.out
    assert [line for line in screen.err.splitlines() if "fail1" in line]
    again = tables.migrate()
    assert tables.contents() == after
    assert again.summary["writes"] == 0 == again.summary["assets_changed"] == again.summary["version_records_written"]
    assert again.summary["outcomes"]["already_migrated"] == 301


def test_rerun_writes_no_journal_entry(tables):
    tables.load(sample_assets(30, databases=1))
    tables.migrate(*only("db01", ARCHIVE))
    again = tables.migrate(*only("db01", ARCHIVE))
    assert again.status == 0 and again.summary["writes"] == 0 and again.summary["write_units"] == 0
    assert again.journal is None and "journal" not in again.summary["files"]


def in_table_order(tables):
    return [
        (item["databaseId"]["S"], item["assetId"]["S"])
        for item in local_dynamodb.all_items(tables.client, tables.assets)
    ]


def migrated_keys(tables):
    return {key for key, item in tables.contents()[0].items() if "currentVersionId" in item}


@pytest.mark.parametrize("limit", [0, 1, 7, 39, 40, 41, 1000])
def test_limit_examines_the_first_in_table_order(tables, limit):
    tables.put(*(asset("a%02d" % n, "db0%d" % (n % 5)) for n in range(40)))
    order = in_table_order(tables)
    for flags in (["--dry-run"], []):
        run = tables.migrate("--limit", str(limit), *flags)
        assert (run.status, run.summary["scanned"]) == (0, min(limit, 40))
    assert migrated_keys(tables) == set(order[:limit])


@pytest.mark.parametrize("limit, expected", [(0, 0), (6, 6), (13, 13), (99, 20)])
def test_limit_with_database_ids(tables, limit, expected):
    tables.put(*(asset("a%02d" % n, "db0%d" % (n % 4)) for n in range(40)))
    run = tables.migrate("--limit", str(limit), *only("db02", "db01"))
    assert run.summary["scanned"] == expected
    in_databases = sorted(
        (key for key in tables.contents()[0] if key[0] in ("db01", "db02")), key=lambda k: (k[0] != "db02", k)
    )
    assert migrated_keys(tables) == set(in_databases[:limit])


def test_limit_over_several_pages(tables):
    filler = S("x" * 100000)
    tables.put(*(asset("a%02d" % n, filler=filler) for n in range(30)))  # 3 MB: several pages of 1 MB
    order = in_table_order(tables)
    run = tables.migrate("--limit", "25")
    assert run.summary["scanned"] == 25
    assert migrated_keys(tables) == set(order[:25])


def test_database_id_is_exact_and_repeatable(tables):
    tables.put(*(asset("a", name) for name in ("db01", "db02", "db03", ARCHIVE, "db011")))
    run = tables.migrate(*only("db01", "db03", "db01"))
    assert run.summary["scanned"] == 2
    assert migrated_keys(tables) == {("db01", "a"), ("db03", "a")}


def test_database_id_without_assets_is_said(tables, capfd):
    run = tables.migrate(*only("dbO1"))
    assert (run.status, run.summary["scanned"]) == (1, 0)
    assert "dbO1" in capfd.readouterr().out.split("Result")[1]


def test_empty_table(tables):
    run = tables.migrate()
    assert (run.status, run.summary["scanned"], run.rows) == (0, 0, [])


@pytest.mark.parametrize("size, workers", [(1, 3), (7, 1), (25, 2)])
def test_batch_size_and_workers(tables, monkeypatch, size, workers):
    tables.put(*(asset("a%03d" % n) for n in range(100)))
    sizes, at_once, running, lock = [], [], [0], threading.Lock()
    original = migration.Database.execute

    def execute(self, statements):
        with lock:
            sizes.append(len(statements))
            running[0] += 1
            at_once.append(running[0])
        time.sleep(0.01)
        try:
            return original(self, statements)
        finally:
            with lock:
                running[0] -= 1

    patch_execute(monkeypatch, execute)
    run = tables.migrate("--batch-size", str(size), "--workers", str(workers), *only("db01"))
    assert run.summary["outcomes"]["migrated"] == 100
    assert sum(sizes) == 200 and max(sizes) == size
    assert len(sizes) <= 1.5 * 200 / size + 2  # nearly all are full
    assert max(at_once) == workers


def test_write_units_ceiling(tables):
    tables.put(*(asset("a%03d" % n) for n in range(40)))
    start = time.monotonic()
    run = tables.migrate("--max-write-units", "40", *only("db01"))
    # 80 writes of one unit each, at 40 a second.
    assert run.status == 0 and 1.5 < time.monotonic() - start < 6


def test_the_ceiling_is_never_exceeded_and_well_used():
    rng, now, sent = random.Random(1), 0.0, 0.0
    ceiling = migration.Ceiling(3, now)
    for _ in range(2000):
        units = rng.randint(1, 5)
        while not ceiling.pay(units, now):
            now = max(ceiling.ready_at(), now + rng.choice([0.001, 0.3]))
        sent += units
        assert sent <= 3 * now + 0.001
    assert sent > 0.9 * 3 * now


def test_below_the_ceiling_small_writes_do_not_overtake_a_large_one():
    start = 1000.0
    writes = migration.WriteQueue("versions", types.SimpleNamespace(max_write_units=1, batch_size=25), start)
    for name, count, units in (("large", 1, 4.0), ("small", 50, 1.0)):
        for number in range(count):
            queued = migration.QueuedWrite(("assets", name, str(number)), units, "", True, None)
            writes.add(queued, start)
    batches = [writes.next_batch(start + second + 0.01, True) for second in range(1, 20)]
    sent = [queued.key[1] for batch in batches for queued in batch]
    assert sent[0] == "large" and len(sent) == 1 + 15


def test_write_units_are_counted(tables):
    tables.put(asset("a"), asset("b", filler=S("x" * 5000)))
    run = tables.migrate(*only("db01"))
    assert run.summary["write_units"] == 1 + 1 + 1 + 6  # two records; assets of under 1 KB and of almost 6 KB
    assert run.summary["writes"] == 4 and run.summary["read_units"] > 0 and run.summary["throttles"] == 0


# --------------------------------------------------------------------------------------
# Interruption, in a process of its own
# --------------------------------------------------------------------------------------


def start(tables, folder, *flags, python=sys.executable, **options):
    folders = ["--journal-dir", str(folder / "backups"), "--report-dir", str(folder / "reports")]
    command = [str(python), SCRIPT] + tables.flags + folders + list(flags)
    return subprocess.Popen(
        command, cwd=tables.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def wait_for_records(tables, count, process):
    deadline = time.monotonic() + 30
    while tables.client.scan(TableName=tables.versions, Select="COUNT")["Count"] < count:
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def undisturbed(engine, folder, assets):
    """What an undisturbed run makes of the assets."""
    tables = Tables(engine, "assets-undisturbed", "versions-undisturbed", folder)
    local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)
    tables.load(assets)
    assert tables.migrate().status == 0
    contents = tables.contents()
    for name in (tables.assets, tables.versions):
        tables.client.delete_table(TableName=name)
    return contents


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_interrupted_and_run_again(tables, engine, tmp_path, how):
    assets = list(sample_assets(150, databases=3))
    tables.load(assets)
    before = tables.contents()[0]
    process = start(tables, tmp_path / "first", "--batch-size", "4", "--workers", "2", "--max-write-units", "150")
    wait_for_records(tables, 40, process)
    process.send_signal(getattr(signal, how))
    _, errors = process.communicate(timeout=30)
    between = tables.contents()
    done = {key for key, item in between[0].items() if "currentVersionId" in item}
    assert 0 < len(done) < len(assets)
    if how != "SIGKILL":
        assert process.returncode == 130 and b"Traceback" not in errors
        # Each asset is done or untouched, and so are the records.
        assert {key: item for key, item in between[0].items() if key not in done} == {
            key: item for key, item in before.items() if key not in done
        }
        assert set(between[1]) == {
            (asset_id, between[0][(name, asset_id)]["currentVersionId"]["S"]) for name, asset_id in done
        }
        (summary,) = (tmp_path / "first" / "reports").glob("*_summary.json")
        summary = json.loads(summary.read_text())
        outcomes = summary["outcomes"]
        assert summary["exit_status"] == 130
        assert summary["scanned"] == sum(outcomes.values())
        assert outcomes["migrated"] == len(done) and outcomes["failed"] == 0
    again = tables.migrate()
    assert again.status == 0 and again.summary["scanned"] == len(assets)
    expected = undisturbed(engine, tmp_path, assets)
    after = tables.contents()
    assert after[0] == expected[0]
    dated = [key for key in after[1] if after[1][key]["dateCreated"] != expected[1][key]["dateCreated"]]
    assert {**after[1], **{key: expected[1][key] for key in dated}} == expected[1] and not dated


def test_second_signal_ends_at_once(tables, engine, tmp_path):
    """Also while DynamoDB does not answer."""
    tables.put(*(asset("a%02d" % n) for n in range(50)))
    silent, goes_on = threading.Event(), threading.Event()
    with Front(engine.port, before=lambda request: silent.is_set() and goes_on.wait(60)) as front:
        flags = ["--endpoint-url", front.endpoint_url, "--max-write-units", "5", "--batch-size", "1"]
        process = start(tables, tmp_path, *flags)
        wait_for_records(tables, 2, process)
        silent.set()
        process.send_signal(signal.SIGINT)
        time.sleep(1.2)  # within a second both count as one
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert b"Stopped at once." in process.communicate(timeout=15)[1]
        goes_on.set()
    assert process.returncode == 130


def test_assets_of_an_interrupted_run_are_accounted_for_in_the_report(tables, tmp_path):
    """Guarantee 6: anything but success is in the report with its key, a code and a sentence."""
    tables.put(*(asset("a%03d" % n) for n in range(100)))
    process = start(tables, tmp_path, "--batch-size", "1", "--workers", "1", "--max-write-units", "50", *only("db01"))
    wait_for_records(tables, 5, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    (summary,) = (tmp_path / "reports").glob("*_summary.json")
    (report,) = (tmp_path / "reports").glob("*.csv")
    unfinished = json.loads(summary.read_text())["outcomes"]["not_finished"]
    assert unfinished > 0
    assert report.read_text().count(",not_finished,") == unfinished


# --------------------------------------------------------------------------------------
# Settings that act, files, screen
# --------------------------------------------------------------------------------------


def test_edited_CONFIG_works(tables, tmp_path):
    tables.put(asset("a"))
    text = Path(SCRIPT).read_text(encoding="utf-8")
    for name, value in [("ASSETS_TABLE_NAME", tables.assets), ("ASSET_VERSIONS_TABLE_NAME", tables.versions),
                        ("ASSET_BUCKET_NAME", BUCKET)]:  # fmt: skip
        assert text.count('"YOUR_%s"' % name) == 1
        text = text.replace('"YOUR_%s"' % name, '"%s"' % value)
    text, count = re.subn(r'"aws_region": None', '"endpoint_url": "%s"' % tables.engine.endpoint_url, text)
    assert count == 1
    (tmp_path / "edited.py").write_text(text, encoding="utf-8")

    def next_command(*flags):
        command = [sys.executable, "edited.py", *flags]
        return subprocess.check_output(command, cwd=tmp_path, stdin=subprocess.DEVNULL, text=True).splitlines()[-1]

    assert next_command("--dry-run").endswith(" edited.py")
    assert "migration_verify.py --assets-table %s --asset-v" % tables.assets in next_command()
    assert tables.asset("db01", "a") == migrated("a")
    assert len(list((tmp_path / "backups").iterdir())) == 1 and len(list((tmp_path / "reports").glob("mig*"))) == 2
    assert len(list((tmp_path / "reports").iterdir())) == 4


def test_a_run_says_nothing_on_stderr_but_progress(tables, tmp_path):
    """No warnings of Python's or boto3's reach the operator."""
    tables.put(asset("a"))
    environment = dict(os.environ, PYTHONWARNINGS="default")
    process = start(tables, tmp_path, *only("db01"), env=environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [line for line in errors.decode().splitlines() if "migration.py" in line] == []


def newest_python():
    found = (Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python")
    return max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])], default=None)


@pytest.mark.skipif(newest_python() is None, reason="no Python 3.12 or newer under ~/.pyenv")
def test_newest_python_has_nothing_to_warn_of(tables, tmp_path):
    """With boto3 of this environment, which is pure Python."""
    import boto3

    tables.put(asset("a"))
    environment = dict(os.environ, PYTHONPATH=str(Path(boto3.__file__).parents[1]))
    process = start(tables, tmp_path, *only("db01"), env=environment, python=newest_python())
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.decode()) == (0, "")


def test_file_modes(tables):
    before = os.umask(0)
    try:
        tables.put(asset("a", previewLocation=NULL))
        log = tables.folder / "logs" / "run.log"
        run = tables.migrate("--log-file", str(log), *only("db01"))
    finally:
        os.umask(before)
    files = [log, *(run.folder / "reports").iterdir(), *(run.folder / "backups").iterdir()]
    assert len(files) == 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_file_names(tables):
    tables.put(asset("a"))
    run = tables.migrate("--log-file", "run.log")
    (report,) = (run.folder / "reports").glob("*.csv")
    assert re.match(r"migration_\d{8}T\d{6}Z\.csv", report.name)
    assert run.journal.name == report.name.replace(".csv", ".jsonl")
    assert run.summary["files"] == {
        "report": str(report),
        "summary": str(report).replace(".csv", "_summary.json"),
        "journal": str(run.journal),
        "log": "run.log",
    }


def test_two_runs_in_one_second_keep_both_files(tables):
    folder = tables.folder / "same"
    flags = ["--journal-dir", str(folder), "--report-dir", str(folder), "--limit", "1"]
    for _ in range(3):
        assert migration.main(tables.flags + flags) == 0
    assert len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(tables, first):
    tables.put(asset(first + "1+1", "db01", previewLocation=NULL))
    run = tables.migrate(*only("db01"))
    text = (run.folder / "reports").glob("*.csv").__next__().read_bytes().decode()
    assert [row["asset_id"] for row in run.rows] == ["'" + first + "1+1"]
    assert "," + first not in text


def test_report_columns_and_quoting(tables):
    asset_id = 'a "quoted", id\nof two lines \U0001f4e6'
    tables.put(asset(asset_id, **own(Version="x")))
    run = tables.migrate(*only("db01"))
    assert list(run.rows[0]) == ["database_id", "asset_id", "outcome", "code", "field", "message"]
    assert run.rows[0]["asset_id"] == asset_id and run.rows[0]["message"]


def test_summary_fields(tables, monkeypatch):
    tables.put(asset("a", previewLocation=NULL), asset("b", **own(Version="x")), migrated("c"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    run = tables.migrate("--batch-size", "9", *only("db01"))
    summary = run.summary
    assert summary["settings"]["batch_size"] == 9
    assert summary["settings"]["assets_table_name"] == tables.assets
    assert summary["region"] == "us-east-1" and "account" in summary
    assert summary["outcomes"] == {"migrated": 1, "already_migrated": 1, "failed": 1, "vanished": 0, "not_finished": 0}
    assert summary["codes"] == {"preview_location_removed": 1, "invalid_version_id": 1}
    assert summary["duration_seconds"] >= 0 and summary["write_units"] > 0 and summary["throttles"] == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", summary["started"])
    assert "not-to-be-seen" not in json.dumps(summary)


def test_password_in_the_endpoint_is_not_written_down(tables, capfd):
    url = tables.engine.endpoint_url.replace("//", "//user:not-to-be-seen@")
    log = tables.folder / "run.log"
    folder = tables.folder / "out"
    folders = ["--journal-dir", str(folder), "--report-dir", str(folder), "--log-file", str(log)]
    assert migration.main(tables.flags[:-1] + [url] + folders + ["--limit", "1"]) == 0
    texts = {file.name: file.read_text() for file in [log, *folder.iterdir()]}
    texts["screen"] = "".join(capfd.readouterr())
    assert [name for name, text in texts.items() if "not-to-be-seen" in text] == []


def test_first_line_of_the_journal(tables):
    tables.put(asset("a"))
    run = tables.migrate(*only("db01"))
    header, entry, end = [json.loads(line) for line in run.journal.read_text().splitlines()]
    assert header["assets_table_name"] == tables.assets and header["asset_versions_table_name"] == tables.versions
    assert header["asset_bucket_name"] == BUCKET and header["started"] == run.summary["started"]
    assert header["tool_version"] == migration.TOOL_VERSION
    assert entry == {"asset": asset("a")}
    assert end == {"end": {"before_images": 1, "claims": 0}}


def test_journal_holds_every_changed_asset_and_no_other(tables):
    assets = list(sample_assets(60, databases=1))
    tables.load(assets)
    tables.put(migrated("done"), asset("bad", **own(Version="x")))
    run = tables.migrate(*only("db01", ARCHIVE))
    lines = [json.loads(line) for line in run.journal.read_text().splitlines()[1:]]
    saved = [normal(line["asset"]) for line in lines if "asset" in line]
    key = lambda item: (item["databaseId"]["S"], item["assetId"]["S"])  # noqa: E731
    assert sorted(saved, key=key) == sorted(map(normal, assets), key=key)


def test_log_file(tables):
    tables.put(asset("a", **own(Version="x")))
    log = tables.folder / "run.log"
    tables.migrate("--log-file", str(log), "--log-level", "debug", *only("db01"))
    tables.migrate("--log-file", str(log), *only("db01"))
    text = log.read_text()
    assert len(re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*Z ERROR failed: db01 / a: ", text, re.M)) == 2
    assert text.count("assets scanned") == 2 and text.count("Preflight") == 2
    assert tables.assets in text and tables.versions in text


def test_error_is_in_the_log_file_once(tables, capfd):
    log = tables.folder / "run.log"
    status = migration.main(tables.flags + ["--assets-table", "no-such-table", "--log-file", str(log)])
    assert status == 3
    assert log.read_text().count("error: ") == capfd.readouterr().err.count("error: ") == 1


def test_plan_screen(tables, capfd):
    tables.put(*(asset("a%d" % n) for n in range(3)))
    tables.migrate("--dry-run", *only("db01"))
    screen = capfd.readouterr().out
    for text in (tables.assets, tables.versions, BUCKET, tables.engine.endpoint_url, "3 items", "DRY RUN", "skipped"):
        assert text in screen, text
    assert screen.index("Preflight") < screen.index("Plan") < screen.index("Result of the dry run")


def test_dry_run_shows_the_first_changes_attribute_by_attribute(tables, capfd):
    tables.put(*(asset("a%d" % n) for n in range(9)))
    tables.migrate("--dry-run", *only("db01"))
    shown = capfd.readouterr().out.split("Plan:")[1].split("Result")[0]
    assert 1 < shown.count("currentVersionId") < 9
    for name in migration.REMOVED_FIELDS + ("assetLocation", "previewLocation", "currentVersionId"):
        assert name in shown, name


def test_many_failures_are_all_in_the_report_and_few_on_the_screen(tables, capfd):
    tables.put(*(asset("a%02d" % n, currentVersion=S("x")) for n in range(40)))
    run = tables.migrate(*only("db01"))
    assert run.status == 1 and len(run.rows) == 40
    assert 1 <= capfd.readouterr().err.count("failed: db01") <= 20


def answer_on_a_terminal(tables, tmp_path, answer, *flags):
    """Run it on a pseudo-terminal, type the answer; its exit status and what it showed."""
    folders = ["--journal-dir", str(tmp_path / "t"), "--report-dir", str(tmp_path / "t")]
    command = [sys.executable, SCRIPT] + tables.flags + folders + list(flags)
    return on_a_terminal(command, tmp_path, answer)


@pytest.mark.parametrize("answer, flags, asked, status, done", [
    (b"y\n", [], True, 0, True),
    (b"n\n", [], True, 130, False),
    (b"\n", [], True, 130, False),
    (b"", ["--yes"], False, 0, True),
    (b"", ["--dry-run"], False, 0, False),
])  # fmt: skip
def test_one_question_on_a_terminal(tables, tmp_path, answer, flags, asked, status, done):
    tables.put(asset("a"))
    result, shown = answer_on_a_terminal(tables, tmp_path, answer, *flags, *only("db01"))
    assert (result, "[y/N]" in shown) == (status, asked), shown
    assert ("currentVersionId" in tables.asset("db01", "a")) == done
    assert done or tables.contents()[1] == {}


def test_table_deleted_while_it_runs(tables, before_sending, capfd):
    """An error that stops the run has a remedy, and the summary is written all the same."""
    tables.put(asset("a"))
    before_sending("INSERT", lambda: tables.client.delete_table(TableName=tables.versions))
    run = tables.migrate(*only("db01"))
    assert run.status == run.summary["exit_status"] == 1 and run.summary["outcomes"]["not_finished"] == 1
    errors = capfd.readouterr().err
    assert errors.count("error: ") == 1 and "Fix: " in errors and "Traceback" not in errors
    assert tables.asset("db01", "a") == asset("a")
    local_dynamodb.create_tables(tables.client, tables.assets + "-unused", tables.versions)
    tables.client.delete_table(TableName=tables.assets + "-unused")


def test_full_disk_stops_the_run_before_anything_is_written(tables, monkeypatch, capfd):
    tables.put(*(asset("a%02d" % n) for n in range(30)))
    before, fsync, calls = tables.contents(), os.fsync, []

    def full(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
            if len(calls) > 1:  # the first line of the journal is still saved
                raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    run = tables.migrate(*only("db01"))
    assert run.status == 1 and tables.contents() == before
    assert "Fix: " in capfd.readouterr().err
    assert run.summary["outcomes"]["not_finished"] == 30
