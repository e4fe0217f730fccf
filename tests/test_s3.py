"""Journals and reports in S3: moto's server stands for it, the tables are DynamoDB Local's."""

import concurrent.futures
import csv
import gzip
import io
import json
import multiprocessing.connection
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from faults import (
    MIGRATION,
    ROLLBACK,
    SMALL_BATCHES,
    VERIFY,
    Kill,
    Scene,
    check_order,
    check_same,
    seeded,
    undisturbed,
)
from s3 import S3, Refused
from v22 import asset, migrated, record

from benchmarks.front import Front, parsed
from load_migration import HERE, load_script, migration
from sample_assets import sample_assets

verify = load_script(VERIFY)
rollback = load_script(ROLLBACK)

ASSETS = 150  # in the tables, where a test needs many


@pytest.fixture
def s3(tables, tmp_path, monkeypatch):
    """An S3 with one bucket, which the scripts use. No run is taken for one that goes on, but where a test says so."""
    with S3() as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
        monkeypatch.setattr(migration, "S3_WAITS", (0.01, 0.01, 0.01))
        monkeypatch.setattr(migration, "PAGE_ITEMS", 20)  # so that a journal has several objects
        monkeypatch.setattr(migration, "LANE_ITEMS", 20)
        monkeypatch.setattr(migration, "GOES_ON_SECONDS", -1.0)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        yield s3


@pytest.fixture
def place(s3):
    return "s3://%s/vams" % s3.bucket


def migrate(tables, place, *flags):
    return migration.main([*tables.flags, "--journal-dir", place, "--report-dir", place, *flags])


def roll_back(tables, place, *journals, flags=()):
    return rollback.main([*tables.flags, "--report-dir", place, "--yes", "--journal", *(journals or [place]), *flags])


def proved(tables, place, *flags):
    return verify.main([*tables.flags, "--journal", place, "--report-dir", place, *flags])


# --------------------------------------------------------------------------------------
# All of it
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/", "/backups/of vams/ümläut + %41"])
def test_migrated_proved_rolled_back_and_compared(tables, s3, engine, tmp_path, prefix, capsys):
    place = "s3://%s%s" % (s3.bucket, prefix)
    assets = list(sample_assets(ASSETS))
    tables.load(assets)
    before = tables.contents()
    assert migrate(tables, place) == 0
    check_same(tables.contents(), undisturbed(engine, tmp_path, assets).contents, assets)
    shown = capsys.readouterr().out
    (journal,) = s3.journals()
    assert "  journal   %s\n" % journal in shown
    assert "  report    %s.csv\n" % journal[:-1] in shown and "  summary   %s_summary.json\n" % journal[:-1] in shown
    summary = json.loads(s3.text(journal[:-1].partition(s3.bucket + "/")[2] + "_summary.json"))
    assert summary["files"]["journal"] == journal and summary["journal_holds"]["before_images"] == len(before[0])

    assert proved(tables, place) == 0
    assert "%d before images compared" % len(before[0]) in capsys.readouterr().out.replace(",", "")
    assert roll_back(tables, place, journal) == 0
    assert tables.contents() == before
    assert proved(tables, place, "--restored") == 0
    assert not list(tmp_path.glob("*.*")) and not list(
        tmp_path.glob("vams-migration-*")
    )  # nothing stays on this machine


def test_run_again_and_rolled_back_from_both_journals(tables, s3, place, capsys):
    tables.put(*(asset("a%02d" % number) for number in range(50)))
    before = tables.contents()
    assert migrate(tables, place, "--limit", "40") == 0
    assert migrate(tables, place) == 0
    assert len(s3.journals()) == 2
    assert migrate(tables, place) == 0  # changes nothing, so it leaves no journal
    assert len(s3.journals()) == 2
    assert roll_back(tables, place, s3.journals()[1]) == 0
    assert "NOT GIVEN       %s" % s3.journals()[0] in capsys.readouterr().out
    assert roll_back(tables, place) == 0
    assert tables.contents() == before
    assert roll_back(tables, place, s3.journals()[1]) == 0  # the other one is undone: the summary in S3 says so
    assert "NOT GIVEN" not in capsys.readouterr().out.split("Preflight")[-1]


@pytest.mark.parametrize("given", [3, 2])
def test_before_its_before_images_the_first_object_of_a_journal_is_read_once(tables, s3, place, given, monkeypatch):
    """A job on Spark has thousands of journals, and each request takes its time."""
    tables.load(sample_assets(180))
    for number in (1, 2, 3):
        assert migrate(tables, place, "--limit", str(number * 60)) == 0
    journals = s3.journals()

    def end(journals):
        raise migration.SettingsError("The journals were opened.", "go on.")

    monkeypatch.setattr(rollback, "survey", end)
    s3.requests.clear()
    assert roll_back(tables, place, *journals[:given]) == 2
    first = [journal.split("/", 3)[3] + "00000001.jsonl.gz" for journal in journals]
    assert len(s3.keys("00000002.jsonl.gz")) == 3  # they have more: the last one, which tells the end, is read too
    assert sorted(request.key for request in s3.requests if request.key in first) == first


@pytest.mark.parametrize("main", [migration.main, verify.main, rollback.main])
def test_reports_of_two_runs_in_one_second_do_not_replace_each_other(
    tables, s3, place, tmp_path, main, monkeypatch, capsys
):
    """Though neither has seen the other when it chose its name."""
    tables.put(asset("a"))
    assert migrate(tables, place) == 0
    monkeypatch.setattr(migration.S3Folder, "names", lambda folder, beginning: [])
    command = [*tables.flags, "--report-dir", place, "--log-file", str(tmp_path / "run_20261122T204426Z.log")]
    command += ["--dry-run"] * (main is not verify.main) + ["--journal", s3.journals()[0]] * (
        main is not migration.main
    )
    assert main(command) == 0
    reports = {key: s3.text(key) for key in s3.keys("csv") + s3.keys("json") if "20261122T204426Z" in key}
    assert len(reports) == 2
    capsys.readouterr()
    assert main(command) == 3
    assert "is there already, of another run" in capsys.readouterr().err
    assert {key: s3.text(key) for key in reports} == reports


# --------------------------------------------------------------------------------------
# Guarantee 2: before image stored, then version record, then asset
# --------------------------------------------------------------------------------------


def images_in(text):
    """The assets of whose before images some lines tell."""
    found = [json.loads(line).get("asset") for line in text.splitlines()]
    return {(image["databaseId"]["S"], image["assetId"]["S"]) for image in found if image}


def test_no_write_is_sent_before_the_put_of_its_image_was_answered(tables, s3, place, engine):
    """Both are recorded: what was stored when S3 answered, and what DynamoDB is asked to write."""
    answered, early, objects = set(), [], []

    def put_is_slow(request):
        if request.stores_journal:
            time.sleep(0.02)

    def note_put(request, body):
        if request.stores_journal:
            objects.append(images_in(s3.text(request.key)))
            answered.update(objects[-1])

    def note_writes(request):
        if request.operation != "BatchExecuteStatement":
            return
        for statement in request.payload["Statements"]:
            if migration.PROBE_KEY in json.dumps(statement):
                continue
            kind, _, position = parsed(statement["Statement"])
            key = statement["Parameters"][position]["S"]
            known = {pair[kind == "INSERT"] for pair in set(answered)}  # a copy: other threads add to it
            if key not in known:
                early.append((kind, key))

    s3.before, s3.after = put_is_slow, note_put
    tables.put(*(asset("a%03d" % number, databaseId="db%03d" % number) for number in range(400)))
    with Front(engine.port, before=note_writes) as front:
        assert migrate(tables, place, "--endpoint-url", front.endpoint_url, "--workers", "4") == 0
    assert early == [] and len(answered) == 400
    assert len(objects) > 3 and max(map(len, objects)) > 5  # the images of several assets in one


class Scenes(Scene):
    """Scripts in processes of their own, with journals in S3."""

    def __init__(self, tables, front, folder, s3, place):
        super().__init__(tables, front, folder)
        self.s3 = s3
        self.flags += ["--report-dir", place]
        self.place = place

    @property
    def journals(self):
        return [migration.Storage(None, SETTINGS).journal(name) for name in self.s3.journals()]


SETTINGS = migration.resolve_settings(
    {}, {}, {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
)


@pytest.fixture
def scene(tables, s3, place, engine, tmp_path):
    with Front(engine.port) as front:
        yield Scenes(tables, front, tmp_path / "scene", s3, place)


@pytest.mark.parametrize("stored", [False, True])
def test_killed_between_two_objects(tables, s3, place, engine, scene, tmp_path, stored):
    """The process dies at the PUT of a numbered object, before or after that is stored: nothing is lost."""
    assets = list(sample_assets(ASSETS))
    tables.load(assets)
    before = tables.contents()
    expected = undisturbed(engine, tmp_path, assets)
    for number in (1, 2, 4):
        started = concurrent.futures.Future()

        def strike(request, wanted=number, started=started):
            if request.stores_journal and request.key.endswith("%08d.jsonl.gz" % wanted):
                process = started.result()
                os.kill(process.pid, signal.SIGKILL)
                # Its end, but not its exit status: of two threads that join a process one gets a wrong one.
                multiprocessing.connection.wait([process.sentinel])

        s3.before = (lambda request: None) if stored else strike
        s3.after = (lambda request, body: strike(request)) if stored else (lambda request, body: None)
        process = scene.start(MIGRATION, "--journal-dir", place, *SMALL_BATCHES)
        started.set_result(process)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL or number > 1, scene.output  # a busy machine makes fewer objects
        check_order(before, tables.contents(), scene.journals)
    s3.before, s3.after = (lambda request: None), (lambda request, body: None)
    assert scene.run(MIGRATION, "--journal-dir", place) == expected.status, scene.output
    check_same(tables.contents(), expected.contents, assets)
    assert proved(scene, place) == 0
    assert roll_back(scene, place) == 0
    check_same(tables.contents(), before)


def test_killed_at_random_requests(tables, s3, place, scene):
    rng = seeded("s3")
    tables.load(sample_assets(ASSETS))
    before = tables.contents()
    for _ in range(4):
        kill = Kill(signal.SIGKILL, rng.randint(6, 60), rng.random() < 0.5)
        scene.run(MIGRATION, "--journal-dir", place, *SMALL_BATCHES, kill=kill)
        check_order(before, tables.contents(), scene.journals)
    assert scene.run(MIGRATION, "--journal-dir", place) == 0
    assert roll_back(scene, place) == 0
    check_same(tables.contents(), before)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_run_again(tables, s3, place, scene, signal_number):
    tables.load(sample_assets(ASSETS))
    before = tables.contents()
    status = scene.run(MIGRATION, "--journal-dir", place, *SMALL_BATCHES, kill=Kill(signal_number, 15, True))
    assert status == migration.EXIT_INTERRUPTED
    (journal,) = scene.journals
    assert migration.is_whole(journal)
    (name,) = s3.keys("_summary.json")
    summary = json.loads(s3.text(name))
    assert summary["exit_status"] == 130 and summary["scanned"] and summary["files"]["journal"] == journal.path
    rows = list(csv.DictReader(io.StringIO(s3.text(name.replace("_summary.json", ".csv")))))
    assert sum(row["outcome"] == "not_finished" for row in rows) == summary["outcomes"]["not_finished"]
    assert scene.run(MIGRATION, "--journal-dir", place) == 0
    assert roll_back(scene, place) == 0
    check_same(tables.contents(), before)


# --------------------------------------------------------------------------------------
# S3 refuses, fails, loses answers
# --------------------------------------------------------------------------------------


def at_object(number, status, code, done=False, times=10**9):
    """A hook: the PUT of the numbered object of that number is refused, so many times."""
    left = [times]

    def strike(request, *unused):
        if request.stores_journal and request.key.endswith("%08d.jsonl.gz" % number) and left[0]:
            left[0] -= 1
            raise Refused(status, code)

    return strike


@pytest.mark.parametrize(
    "status, code, words",
    [
        (503, "SlowDown", "S3 does not serve"),
        (500, "InternalError", "S3 does not serve"),
        (403, "AccessDenied", "does not permit to store"),
        (400, "ExpiredToken", "does not accept the credentials"),
        (404, "NoSuchBucket", "check the bucket's name"),
    ],
)
def test_a_put_that_fails_stops_the_run(tables, s3, place, capfd, status, code, words):
    tables.load(sample_assets(ASSETS))
    before = tables.contents()
    s3.before = at_object(3, status, code)
    assert migrate(tables, place, *SMALL_BATCHES) == 1
    errors = capfd.readouterr().err
    assert words in errors and "The before images cannot be saved in s3://" in errors and "Fix: " in errors
    assert "Traceback" not in errors
    s3.before = lambda request: None
    (name,) = s3.journals()
    journal = migration.Storage(None, SETTINGS).journal(name)
    check_order(before, tables.contents(), [journal])
    assert not migration.is_whole(journal) and tables.contents()[1]
    assert migrate(tables, place) == 0
    assert roll_back(tables, place) == 0
    check_same(tables.contents(), before)


@pytest.mark.parametrize(
    "status, code", [(503, "SlowDown"), (500, "InternalError"), (409, "ConditionalRequestConflict")]
)
def test_a_put_that_fails_for_a_while_is_sent_again(tables, s3, place, capfd, status, code):
    tables.load(sample_assets(40))
    s3.before = at_object(2, status, code, times=3)
    assert migrate(tables, place, *SMALL_BATCHES) == 0
    assert capfd.readouterr().err.count("S3 does not serve, trying again") == 3


def test_a_report_is_sent_again_too(tables, s3, place):
    tables.load(sample_assets(40))
    refused = set()

    def refuse_each_once(request):
        if request.method == "PUT" and request.key not in refused:
            refused.add(request.key)
            raise Refused(503, "SlowDown")

    s3.before = refuse_each_once
    assert migrate(tables, place) == 0
    (name,) = s3.keys("_summary.json")
    assert len(refused) > 3
    rows = list(csv.DictReader(io.StringIO(s3.text(name.replace("_summary.json", ".csv")))))
    assert len(rows) == sum(json.loads(s3.text(name))["codes"].values())


def test_an_object_that_goes_while_a_journal_is_read(tables, s3, place, migrated_journal, capfd):
    def take_away(request):
        if request.method == "GET" and request.key == migrated_journal[1]:
            s3.before = lambda request: None
            s3.client.delete_object(Bucket=s3.bucket, Key=request.key)

    s3.before = take_away
    assert roll_back(tables, place) == 2
    assert "has lost its object 00000002.jsonl.gz just now" in capfd.readouterr().err


def test_the_answer_to_a_put_is_lost(tables, s3, place, monkeypatch):
    """The object is there when it is sent again: that it is the same one is seen."""
    append = migration.JournalObjects.append
    created = []
    monkeypatch.setattr(migration.JournalObjects, "append", lambda *arguments: created.append(append(*arguments)))
    tables.load(sample_assets(40))
    for number in (1, 2):
        s3.after = at_object(number, 500, "InternalError", times=1)
        assert migrate(tables, place, *SMALL_BATCHES, "--limit", str(20 * number)) == 0
    assert len(created) == len(s3.keys(".jsonl.gz"))
    assert proved(tables, place) == 0


def test_no_run_overwrites_an_object(tables, s3, place, capfd):
    """Another run that came to the same name, as only two of one second could, keeps its object."""

    def intrude(request):
        if request.stores_journal and request.key.endswith("00000002.jsonl.gz"):
            s3.before = lambda request: None
            s3.client.put_object(Bucket=s3.bucket, Key=request.key, Body=b"another's")

    s3.before = intrude
    tables.load(sample_assets(ASSETS))
    assert migrate(tables, place, *SMALL_BATCHES) == 1
    assert "is there already, of another run" in capfd.readouterr().err
    (key,) = s3.keys("00000002.jsonl.gz")
    assert s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == b"another's"


def test_reports_that_cannot_be_stored_stay_on_this_machine(tables, s3, place, tmp_path, capfd):
    tables.put(asset("a"))

    def refuse(request):
        if request.method == "PUT" and request.key.endswith("_summary.json"):
            raise Refused(403, "AccessDenied")

    s3.before = refuse
    assert migrate(tables, place) == 1
    captured = capfd.readouterr()
    assert "1  migrated" in captured.out and "does not permit to store" in captured.err
    (folder,) = tmp_path.glob("vams-migration-*")
    assert "What was to be stored lies in %s" % folder in captured.err
    assert len(list(folder.iterdir())) == 2 and folder.stat().st_mode & 0o77 == 0


def test_where_reports_lie_is_said_beside_what_stopped_the_run(tables, s3, place, tmp_path, capfd):
    """As where S3 cannot be reached any more: neither the journal's end nor a report can be stored then."""

    def refuse(request):
        if request.stores_journal and request.key.endswith("00000002.jsonl.gz") or "_summary" in request.key:
            raise Refused(403, "AccessDenied")
        if request.stores_journal and request.key.endswith("00000003.jsonl.gz"):
            raise AssertionError("a before image is missing before this one")

    s3.before = refuse
    tables.load(sample_assets(ASSETS))
    assert migrate(tables, place, *SMALL_BATCHES) == 1
    said = capfd.readouterr().err
    (folder,) = tmp_path.glob("vams-migration-*")
    assert said.count("error: ") == 2 and "What was to be stored lies in %s" % folder in said


# --------------------------------------------------------------------------------------
# Journals that are damaged, interrupted, large, young
# --------------------------------------------------------------------------------------


@pytest.fixture
def migrated_journal(tables, s3, place):
    """The keys of the objects of a migration in small batches."""
    tables.put(*(asset("a%03d" % number) for number in range(ASSETS)))
    assert migrate(tables, place, *SMALL_BATCHES) == 0
    keys = s3.keys(".jsonl.gz")
    assert len(keys) > 5
    return keys


@pytest.mark.parametrize("position", [0, 2, -2])
@pytest.mark.parametrize("named", [True, False])
def test_an_object_that_is_missing_before_others_is_damage(tables, s3, place, migrated_journal, position, named, capfd):
    s3.client.delete_object(Bucket=s3.bucket, Key=migrated_journal[position])
    after = tables.contents()
    for script, flags in ((rollback, ["--yes"]), (verify, [])):
        given = s3.journals()[0] if named else place
        assert script.main([*tables.flags, "--journal", given, "--report-dir", place, *flags]) == 2
        assert "lacks its object %s" % migrated_journal[position].rpartition("/")[2] in capfd.readouterr().err
    assert tables.contents() == after


@pytest.mark.parametrize("of_others", [True, False])
def test_a_damaged_journal_in_a_folder_stops_no_verification_and_one_of_others_no_rollback(
    tables, s3, place, migrated_journal, of_others, capfd
):
    tables.put(asset("b"))
    assert migrate(tables, place) == 0
    first = migrated_journal[0]
    if of_others:
        body = gzip.decompress(s3.client.get_object(Bucket=s3.bucket, Key=first)["Body"].read())
        body = gzip.compress(body.replace(tables.versions.encode(), b"of-others"))
        s3.client.put_object(Bucket=s3.bucket, Key=first, Body=body)
    s3.client.delete_object(Bucket=s3.bucket, Key=migrated_journal[2])
    capfd.readouterr()
    assert proved(tables, place) == 0
    shown = capfd.readouterr().out
    assert ("1  journal_damaged: " in shown) is not of_others and "%d  no_before_image: " % ASSETS in shown
    assert ("lacks its object 00000003" in shown) is not of_others
    assert roll_back(tables, place, place) == (0 if of_others else 2)
    assert ("lacks its object 00000003" in capfd.readouterr().err) is not of_others


def test_where_a_journal_was_not_found_those_beside_it_are_named(tables, s3, place, migrated_journal, capfd):
    (journal,) = s3.journals()
    misspelt = journal.replace("/migration_2", "/migration_3")
    assert roll_back(tables, place, misspelt) == 2
    error = "error: No journal was found under %s.\n  Fix: give the folder of all, %s, or what you need of it: %s.\n"
    assert capfd.readouterr().err.endswith(error % (misspelt, place, journal))


def test_an_object_that_is_cut_off_is_damage(tables, s3, place, migrated_journal, capfd):
    body = s3.client.get_object(Bucket=s3.bucket, Key=migrated_journal[2])["Body"].read()
    s3.client.put_object(Bucket=s3.bucket, Key=migrated_journal[2], Body=body[: len(body) // 2])
    assert roll_back(tables, place) == 2
    assert "is damaged" in capfd.readouterr().err


def test_a_missing_tail_is_that_of_an_interrupted_run(tables, s3, place, migrated_journal, capfd):
    """But the summary of the run knows how much there was."""
    for key in migrated_journal[-4:]:
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
    assert roll_back(tables, place) == 2
    assert "is a part only" in capfd.readouterr().err
    for key in s3.keys("_summary.json"):
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
    assert roll_back(tables, place, flags=["--dry-run"]) == 0
    assert rollback.NOT_WHOLE in capfd.readouterr().out


def test_a_folder_of_journals_and_files_are_mixed(tables, s3, place, tmp_path):
    tables.put(*(asset("a%02d" % number) for number in range(30)))
    before = tables.contents()
    assert migrate(tables, place, "--limit", "10") == 0
    local = tables.migrate("--limit", "20")
    assert migrate(tables, place) == 0
    s3.client.put_object(Bucket=s3.bucket, Key="vams/notes.txt", Body=b"not of the tool")
    s3.client.put_object(Bucket=s3.bucket, Key="vams/migration_notes/mine.txt", Body=b"not of the tool")
    assert proved(tables, place, "--journal", str(local.journal)) == 0
    assert roll_back(tables, place, place + "/", str(local.journal)) == 0
    assert tables.contents() == before


def test_the_objects_one_after_the_other_are_a_journal_on_a_disk(tables, s3, place, migrated_journal, tmp_path):
    """What `zcat` makes of them."""
    whole = b"".join(s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() for key in migrated_journal)
    (tmp_path / "migration.jsonl").write_bytes(gzip.decompress(whole))
    in_s3 = migration.Storage(None, SETTINGS).journal(s3.journals()[0])
    on_disk = migration.JournalFile(str(tmp_path / "migration.jsonl"))
    assert list(migration.read_journal_backwards(on_disk)) == list(migration.read_journal_backwards(in_s3))
    assert migration.read_journal_header(on_disk) == migration.read_journal_header(in_s3)
    assert migration.is_whole(on_disk) and migration.is_whole(in_s3)


def test_many_objects(s3, place, monkeypatch):
    """More than S3 lists at once, which are fewer here, some of them ahead."""
    storage = migration.Storage(None, SETTINGS)
    client = storage.folder(place).client
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 20})
    listings = []
    s3.before = lambda request: listings.append("continuation-token" in request.query)
    journal = migration.Journal(storage.journal(place + "/migration_x"), {})
    for number in range(45):
        journal.add_asset(json.dumps(asset("a%d" % number)), migration.NO_FACTS, False)
        journal.sync()
    journal.close()
    read = [
        entry.asset["assetId"]["S"]
        for entry in migration.read_journal_backwards(storage.journal(place + "/migration_x/"))
    ]
    assert read == ["a%d" % number for number in range(45)][::-1] and sum(listings) == 2
    with_one_missing = s3.keys(".jsonl.gz")[30]
    s3.client.delete_object(Bucket=s3.bucket, Key=with_one_missing)
    with pytest.raises(migration.DamagedJournal, match="00000031"):
        list(migration.read_journal_backwards(storage.journal(place + "/migration_x/")))


def test_a_run_that_may_still_go_on(tables, s3, place, monkeypatch, capfd):
    """S3 has no locks: a journal without an end that grew lately is let alone."""
    tables.put(asset("a"), asset("b"))
    before = tables.contents()
    s3.before = at_object(2, 403, "AccessDenied")
    assert migrate(tables, place) == 0  # but its end could not be stored
    s3.before = lambda request: None
    monkeypatch.setattr(migration, "GOES_ON_SECONDS", 60.0)
    written = tables.contents()
    assert roll_back(tables, place) == 3
    assert "its run may still go on" in capfd.readouterr().err
    assert tables.contents() == written
    capfd.readouterr()
    assert proved(tables, place) == 0
    shown = capfd.readouterr().out
    assert "(its run MAY BE UNDER WAY; if it was killed, that is known in 1 minutes)" in shown
    assert (
        "\nNext: let the run that may be under way come to its end, or wait 1 minutes if it was killed; verify" in shown
    )
    tables.put(asset("c"))
    assert migrate(tables, place) == 0
    assert "another run on these tables may be under way: its journal %s" % s3.journals()[0] in capfd.readouterr().out
    assert roll_back(tables, place, s3.journals()[1]) == 3  # the other one lies beside it
    monkeypatch.setattr(migration, "GOES_ON_SECONDS", -1.0)
    assert roll_back(tables, place) == 0
    assert tables.contents() == ({**before[0], ("db01", "c"): asset("c")}, {})


def test_a_run_whose_writes_are_held_back_is_seen_to_go_on(tables, s3, place, monkeypatch):
    """Its before images are all stored long before. A rollback beside it could take away a record that it relies on."""
    monkeypatch.setattr(migration, "SIGN_OF_LIFE_SECONDS", 0.2)
    tables.put(asset("a"), asset("b"))
    before, execute, stored = tables.contents(), migration.Database.execute, []

    def execute_late(database, statements):
        if not s3.keys(".jsonl.gz"):
            return execute(database, statements)  # of the preflight
        stored.append(len(s3.keys(".jsonl.gz")))
        deadline = time.monotonic() + 20
        while len(s3.keys(".jsonl.gz")) < stored[-1] + 2:
            assert time.monotonic() < deadline, "the journal does not grow"
            time.sleep(0.05)
        return execute(database, statements)

    with monkeypatch.context() as patch:
        patch.setattr(migration.Database, "execute", execute_late)
        assert migrate(tables, place) == 0
    assert stored
    assert proved(tables, place) == 0
    assert roll_back(tables, place) == 0
    assert tables.contents() == before


def test_a_run_without_before_images_leaves_no_sign_of_life(tables, s3, place, monkeypatch):
    monkeypatch.setattr(migration, "SIGN_OF_LIFE_SECONDS", 0.0)
    tables.put(migrated("a"))
    assert migrate(tables, place) == 0
    assert s3.keys(".jsonl.gz") == []


# --------------------------------------------------------------------------------------
# Preflight, settings
# --------------------------------------------------------------------------------------


def shown_checks(tables, capfd, place, status=0):
    assert migrate(tables, place, "--limit", "1") == status
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


def test_a_bucket_that_is_not_public_and_can_be_written(tables, s3, place, capfd):
    shown = shown_checks(tables, capfd, place)
    assert "ok       %s/ can be written" % place in shown and "ok       bucket %s is not public" % s3.bucket in shown
    assert shown.count("is not public") == 1 and "disk:" not in shown


def public_policy(s3):
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::%s/*" % s3.bucket,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_public_bucket(tables, s3, place, capfd):
    s3.client.delete_public_access_block(Bucket=s3.bucket)
    assert "warning  public access to bucket %s is not blocked" % s3.bucket in shown_checks(tables, capfd, place)
    s3.client.put_bucket_policy(Bucket=s3.bucket, Policy=public_policy(s3))
    shown = shown_checks(tables, capfd, place, 3)
    assert "error    bucket %s is public" % s3.bucket in shown and "Fix: turn on Block Public Access" in shown
    assert s3.keys(".jsonl.gz") == []


def test_whether_it_is_public_is_not_permitted_to_see(tables, s3, place, capfd):
    def refuse(request):
        if "publicAccessBlock" in request.query:
            raise Refused(403, "AccessDenied")

    s3.before = refuse
    shown = shown_checks(tables, capfd, place)
    assert "warning  bucket %s may be public" % s3.bucket in shown and "s3:GetBucketPolicyStatus" in shown


@pytest.mark.parametrize("method, words", [("PUT", "does not permit to store"), ("GET", "does not permit to list")])
def test_no_permission(tables, s3, place, capfd, method, words):
    def refuse(request):
        if request.method == method:
            raise Refused(403, "AccessDenied")

    s3.before = refuse
    assert words in shown_checks(tables, capfd, place, 3)


def test_another_region(tables, s3, place, capfd):
    def redirect(request):
        raise Refused(403, "AccessDenied") if request.method == "HEAD" else Refused(301, "PermanentRedirect")

    s3.before = redirect
    assert "Fix: the bucket is in another region" in shown_checks(tables, capfd, place, 3)


def test_no_such_bucket(tables, s3, capfd):
    place = "s3://no-such-bucket/vams"
    assert "NoSuchBucket" in shown_checks(tables, capfd, place, 3)
    assert verify.main([*tables.flags, "--report-dir", place]) == 3
    assert verify.main([*tables.flags, "--journal", place]) == 3
    assert roll_back(tables, place) == 3
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_answers(tables, s3, place, capfd, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert "no answer from S3" in shown_checks(tables, capfd, place, 3)


def test_the_bucket_of_the_assets(tables, s3, place, capfd):
    shown = shown_checks(tables, capfd, place + "/", 0)
    assert "is in the bucket of the assets" not in shown
    assert migrate(tables, place, "--asset-bucket", s3.bucket) == 0
    assert "warning  %s/ is in the bucket of the assets" % place in capfd.readouterr().out


MISTYPED = ["s3:/bucket", "s3:bucket/x", "s3://", "s3:///x", "s3://Bucket_Name/x", "S3://bucket/x", "s3://bucket name"]


@pytest.mark.parametrize("name", MISTYPED)
def test_a_typing_error_in_a_name(tables, tmp_path, capfd, name):
    commands = [
        (migration, ["--journal-dir", name]),
        (migration, ["--report-dir", name]),
        (rollback, ["--journal", name, "--yes"]),
        (verify, ["--journal", name]),
        (verify, ["--output", name + "/x.csv"]),
        (verify, ["--html", name]),
        (migration, ["--log-file", name]),
    ]
    for script, flags in commands:
        assert script.main([*tables.flags, *flags]) == 2, flags
        errors = capfd.readouterr().err
        assert json.dumps(name)[1:-1] in errors and "Fix: " in errors and "Traceback" not in errors
    assert list(tmp_path.glob("[sS]3*")) == []


def test_a_report_and_a_page_by_names_in_s3(tables, s3, place, tmp_path, capfd):
    tables.put(migrated("a"))
    tables.put_records(record("a"))
    names = ["--output", place + "/of today/report.csv", "--html", place + "/page.html"]
    assert verify.main([*tables.flags, *names]) == 0
    for key in ("vams/of today/report.csv", "vams/of today/report_summary.json", "vams/page.html"):
        assert s3.text(key)
        assert "s3://%s/%s\n" % (s3.bucket, key) in capfd.readouterr().out or key.endswith(("json", "html"))
    assert verify.main([*tables.flags, *names]) == 0
    assert verify.main([*tables.flags, "--output", "s3://%s" % s3.bucket]) == 2
    assert verify.main([*tables.flags, "--html", place + "/"]) == 2


def test_a_report_replaces_no_other_object(tables, s3, place, tmp_path, capfd):
    """By a typing error it may be an object of a journal, or a file of an asset."""
    tables.put(asset("a"))
    assert migrate(tables, place) == 0
    (journal,) = s3.journals()
    s3.client.put_object(Bucket=s3.bucket, Key="empty.csv", Body=b"")
    kept = {key: s3.text(key) for key in s3.keys(ending="")}
    of_journal = journal + "00000001.jsonl.gz"
    for flags in (["--output", of_journal], ["--html", of_journal]):
        assert verify.main([*tables.flags, *flags]) == 2
        assert "%s is there, and is no " % of_journal in capfd.readouterr().err
    assert {key: s3.text(key) for key in kept} == kept
    assert verify.main([*tables.flags, "--output", "s3://%s/empty.csv" % s3.bucket]) == 0


def test_the_policy_in_spark_md_is_what_is_asked_of_s3(tables, s3, place, tmp_path):
    """What the requests need, of all scripts; journals and reports on the disk need none of it."""
    tables.load(sample_assets(40))
    assert migrate(tables, place) == 0
    assert proved(tables, place, "--html", place + "/page.html") == 0
    assert roll_back(tables, place) == 0
    needed = set()
    for request in s3.requests[2:]:  # after the bucket was made
        if request.method == "GET" and not request.key:
            kinds = {"publicAccessBlock": "GetBucketPublicAccessBlock", "policyStatus": "GetBucketPolicyStatus"}
            needed.add(kinds.get(request.query.partition("=")[0], "ListBucket"))
        else:
            needed.add({"GET": "GetObject", "PUT": "PutObject"}[request.method])
    section = (Path(HERE) / "SPARK.md").read_text(encoding="utf-8").split("## Journal and reports in S3")[1]
    (policy,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]
    # That of a policy is asked for only where the block is not complete.
    assert {"s3:" + action for action in needed | {"GetBucketPolicyStatus"}} == set(policy["Action"])


def test_the_wrapper(tables, s3, place, tmp_path):
    """Migrates, then verifies by the journals in S3, with the page beside the report."""
    tables.load(sample_assets(40))
    names = ("assets_table_name", "asset_versions_table_name", "asset_bucket_name", "endpoint_url")
    config = {**dict(zip(names, tables.flags[1::2])), "journal_dir": place, "report_dir": place + "/reports"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [sys.executable, str(Path(HERE) / "guided_run.py"), "migrate", "config.json"]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    shown = run.stdout.decode()
    assert run.returncode == 0, shown
    (log,) = (tmp_path / "logs").iterdir()
    time_of_run = log.stem.partition("_")[2]
    assert "before images compared; no problems" in shown
    reports = ["migration_%s%s", "verification_%s%s"]
    expected = ["vams/reports/" + name % (time_of_run, end) for name in reports for end in (".csv", "_summary.json")]
    assert set(expected) | {"vams/reports/verification_%s.html" % time_of_run} <= set(s3.keys())
    assert "vams/migration_%s/00000001.jsonl.gz" % time_of_run in s3.keys(".gz")


def test_the_wrapper_s_own_python_may_lack_boto3(tmp_path, monkeypatch):
    """Then the steps, which look into S3 themselves, are taken by the one that has it."""
    import guided_run

    called = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guided_run, "find_python", lambda: "/other/python")
    monkeypatch.setattr(guided_run.local_dynamodb, "run_command", lambda command: called.append(command) or 0)
    for key in ("journal_dir", "report_dir"):
        settings = SETTINGS._replace(**{key: "s3://bucket/x"})
        monkeypatch.setattr(guided_run, "read_settings", lambda *unused, settings=settings: ("config.json", settings))
        assert guided_run.run_migration(["config.json", "--log-file", "a.log"]) == 0
        (command,) = called
        assert command[0] == "/other/python" and command[2:4] == ["migrate", "config.json"]
        called.clear()


def test_the_test_script(tables, s3, place, tmp_path):
    """Its journals go where those of the migration would."""
    script = load_script("v2.2_to_v2.3_migration_test.py")
    (tmp_path / "config.json").write_text(json.dumps({"journal_dir": place, "report_dir": place}))
    before = tables.contents()
    assert script.main([*tables.flags, "--config", "config.json", "--num-assets", "2"]) == 0
    assert tables.contents() == before
    assert len(s3.journals()) == 2
