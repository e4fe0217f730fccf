"""The verification finds exactly what is wrong with a migrated table, and nothing else."""

import asyncio
import collections
import contextlib
import csv
import datetime
import io
import itertools
import json
import os
import pathlib
import shlex
import shutil
import stat
import subprocess
import sys
import types

import pytest
from conftest import LOCAL, Tables, before_first
from v22 import BUCKET, BY_ANN, DELETED, NULL, L, M, N, S, asset, changed, migrated, record, version

import local_dynamodb
from load_migration import load_script, migration
from sample_assets import sample_assets

pytestmark = pytest.mark.usefixtures("one_client")
verify = load_script("v2.2_to_v2.3_migration_verify.py")

TRUE, FALSE = {"BOOL": True}, {"BOOL": False}
READING_OPERATIONS = {"DescribeTable", "Scan", "Query", "BatchGetItem"}


@pytest.fixture(autouse=True, scope="module")
def few_segments():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration, "SEGMENTS", 3)
        patch.setattr(migration, "SEGMENT_ITEMS", 1)
        yield


def run(tables, *flags):
    """Run the verification in this process; its exit status and what it reported."""
    output = tables.folder / "out" / "verification.csv"
    status = verify.main(tables.flags + ["--output", str(output)] + [str(flag) for flag in flags])
    with open(str(output), newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return types.SimpleNamespace(
        status=status,
        rows=rows,
        found=sorted((row["database_id"], row["asset_id"], row["error_type"], row["field"]) for row in rows),
        summary=json.loads((tables.folder / "out" / "verification_summary.json").read_text()),
    )


def cut_off_end(journal):
    """As kill -9 leaves it: without its last line."""
    journal.write_text("".join(journal.read_text().splitlines(True)[:-1]))


def put_healthy(tables, *asset_ids):
    tables.put(*map(migrated, asset_ids))
    tables.put_records(*map(record, asset_ids))


# A healthy table


def test_the_migrated_samples_are_verified_and_not_touched(tables):
    tables.load(sample_assets(200))
    journal = tables.migrate().journal
    before = tables.contents()
    result = run(tables, "--journal", journal)
    assert (result.status, result.summary["problems"]) == (0, {})
    assert (
        set(result.summary["notes"])
        == {row["error_type"] for row in result.rows}
        == {"shared_asset_id", "archived_twin", "to_do"}
    )
    assert (result.summary["assets"], result.summary["before_images"]) == (200, 200)
    assert result.summary["version_records"] == len(before[1])
    assert tables.contents() == before
    assert {"Scan", "BatchGetItem"} < set(result.summary["requests"]) <= READING_OPERATIONS


def test_a_healthy_table_gives_the_header_and_one_line(tables, capsys):
    put_healthy(tables, "a1", "a2")
    result = run(tables)
    assert (result.status, result.rows, result.summary["problems"], result.summary["notes"]) == (0, [], {}, {})
    assert (tables.folder / "out" / "verification.csv").read_text("utf-8-sig").strip() == ",".join(
        verify.REPORT_COLUMNS
    )
    *_, verdict, empty, step = capsys.readouterr().out.strip().splitlines()
    said = "2 assets and 2 version records read, no before images compared; no problems, no notes."
    assert verdict == "VERIFIED IN PART: " + said
    assert step.startswith("Next: look for the journals, which are not in backups, ")


def test_what_the_application_made_and_archived_is_healthy(tables):
    date = "2026-01-02T03:04:05.678901"
    tables.put(
        # of the application's own making
        migrated("made", currentVersionId="0", assetLocation=M(Key="base/"), bucketId="b1", previewLocation=M(Key="p")),
        migrated("next", currentVersionId="v4"),
        # an archived asset with a record of its own, with its live twin's, and without a live twin
        migrated("own"),
        migrated("own", "db01" + DELETED, currentVersionId="1"),
        migrated("twin"),
        migrated("twin", "db01" + DELETED),
        migrated("alone", "db01" + DELETED),
    )
    tables.put_records(
        record("made", assetVersionId="0", dateCreated=date, specifiedPipelines=L()),
        record("next", assetVersionId="v4", dateCreated=date),
        record("next", isCurrentVersion=FALSE),
        record("own"),
        record("own", assetVersionId="1", isCurrentVersion=FALSE),
        record("twin"),
        record("alone"),
    )
    result = run(tables)
    assert (result.status, result.rows) == (0, [])


# Damage: its type and field, what is changed in the asset `a`, and what in its record

DAMAGE = [
    ("not_migrated", "currentVersion", {"currentVersion": version()}, {}),
    ("not_migrated", "currentVersion", {"currentVersion": S("broken")}, {}),
    ("not_migrated", "currentVersionId", {"currentVersionId": None}, {}),
    ("not_migrated", "currentVersionId", {"currentVersionId": NULL}, {}),
    ("not_migrated", "currentVersionId", {"currentVersionId": ""}, {}),
    *[("legacy_field", name, {name: NULL}, {}) for name in migration.REMOVED_FIELDS if name != "currentVersion"],
    ("version_record_missing", "assetVersionId", {"currentVersionId": "4"}, {}),
    ("version_record_missing", "assetVersionId", {"currentVersionId": "4" * 2000}, {}),
    ("invalid_version_id", "currentVersionId", {"currentVersionId": N(3)}, {}),
    ("not_current_version", "isCurrentVersion", {}, {"isCurrentVersion": FALSE}),
    ("version_record_invalid", "isCurrentVersion", {}, {"isCurrentVersion": S("true")}),
    ("version_record_invalid", "isCurrentVersion", {}, {"isCurrentVersion": None}),
    *[("version_record_invalid", name, {}, {name: NULL}) for name in verify.TEXTS_OF_RECORD],
    *[("version_record_invalid", name, {}, {name: None}) for name in verify.TEXTS_OF_RECORD],
    ("version_record_invalid", "dateCreated", {}, {"dateCreated": ""}),
    ("version_record_invalid", "specifiedPipelines", {}, {"specifiedPipelines": NULL}),
    ("version_record_invalid", "specifiedPipelines", {}, {"specifiedPipelines": L("p1", N(1))}),
    ("date_in_old_form", "dateCreated", {}, {"dateCreated": "June 24 2025 - 17:59:56"}),
    ("asset_location_invalid", "assetLocation.Key", {"assetLocation": M(Bucket=BUCKET)}, {}),
    ("asset_location_invalid", "assetLocation.Key", {"assetLocation": M(Key="", Bucket=BUCKET)}, {}),
    ("asset_location_invalid", "assetLocation.Key", {"assetLocation": M(Key="/a/", Bucket=BUCKET)}, {}),
    ("asset_location_invalid", "assetLocation.Bucket", {"assetLocation": M(Key="a/")}, {}),
    ("other_bucket", "assetLocation.Bucket", {"assetLocation": M(Key="a/", Bucket="other")}, {}),
    ("preview_location_invalid", "previewLocation.Key", {"previewLocation": M(Key="", Bucket=BUCKET)}, {}),
    ("preview_location_invalid", "previewLocation.Key", {"previewLocation": M(Key=NULL)}, {}),
    ("preview_location_invalid", "previewLocation.Key", {"previewLocation": NULL}, {}),
    ("preview_location_invalid", "previewLocation.Key", {"previewLocation": S("previews/a.png")}, {}),
    ("preview_location_invalid", "previewLocation.Bucket", {"previewLocation": M(Key="previews/a.png")}, {}),
    ("other_bucket", "previewLocation.Bucket", {"previewLocation": M(Key="p", Bucket="other")}, {}),
    # notes
    ("asset_location_elsewhere", "assetLocation.Key", {"assetLocation": M(Key="b/", Bucket="other")}, {}),
    ("date_not_recognised", "dateCreated", {}, {"dateCreated": "yesterday"}),
    ("date_not_recognised", "dateCreated", {}, {"dateCreated": "2025-02-30T00:00:00Z"}),
]


@pytest.mark.parametrize("error_type, field, asset_change, record_change", DAMAGE)
def test_each_damage_is_one_problem(error_type, field, asset_change, record_change):
    problems = verify.asset_problems(migrated("a", **asset_change), BUCKET)
    kept = verify.Asset("db01", "a", (migrated("a", **asset_change).get("currentVersionId") or {}).get("S"), True, [])
    stored = None if kept.version_id != "3" else record("a", **record_change)
    if error_type not in ("not_migrated", "invalid_version_id"):
        problems += verify.current_record_problems(kept, stored)
    problems += verify.record_problems(record("a", **record_change))
    assert [(problem.error_type, problem.field) for problem in problems] == [(error_type, field)]
    assert problems[0].message.endswith(".")
    assert problems[0].expected != problems[0].actual != ""


def test_a_table_with_every_damage_gives_each_asset_its_own_problem(tables, capsys):
    expected = []
    put_healthy(tables, "healthy")
    for number, (error_type, field, asset_change, record_change) in enumerate(DAMAGE):
        asset_id = "d%02d" % number
        if asset_change.get("assetLocation", {}).get("M", {}).get("Key", NULL) in (S("a/"), S("/a/")):
            location = asset_change["assetLocation"]["M"]
            location = dict(location, Key=S(location["Key"]["S"].replace("a", asset_id)))
            asset_change = dict(asset_change, assetLocation={"M": location})
        tables.put(migrated(asset_id, **asset_change))
        tables.put_records(record(asset_id, **record_change))
        expected.append(("db01", asset_id, error_type, field))
    before = tables.contents()
    result = run(tables)
    assert result.found == sorted(expected)
    assert result.status == 1
    notes = [row for row in expected if row[2] in verify.NOTES]
    assert sum(result.summary["notes"].values()) == len(notes)
    assert sum(result.summary["problems"].values()) == len(expected) - len(notes)
    assert tables.contents() == before
    output = capsys.readouterr()
    assert output.err.count("problem: db01 / ") == migration.SHOWN_FAILURES
    assert "NOT VERIFIED: " in output.out


def test_notes_alone_do_not_make_it_fail(tables):
    put_healthy(tables, "a1")
    tables.put_records(record("a1", dateCreated="yesterday"))
    result = run(tables)
    assert (result.status, result.summary["notes"]) == (0, {"date_not_recognised": 1})


def test_all_problems_of_an_asset_are_reported(tables):
    tables.put(migrated("a1", isMultiFile=FALSE, versions=L(), assetLocation=None, previewLocation=M(Key="")))
    tables.put_records(record("a1", comment=NULL, isCurrentVersion=FALSE))
    assert [row[2:] for row in run(tables).found] == [
        ("asset_location_invalid", "assetLocation.Bucket"),
        ("asset_location_invalid", "assetLocation.Key"),
        ("legacy_field", "isMultiFile"),
        ("legacy_field", "versions"),
        ("not_current_version", "isCurrentVersion"),
        ("preview_location_invalid", "previewLocation.Key"),
        ("version_record_invalid", "comment"),
    ]


def test_an_asset_that_the_migration_cannot_plan_says_why(tables):
    tables.put(asset("a1", currentVersion=version(Version="three")))
    (row,) = run(tables).rows
    assert row["error_type"] == "not_migrated"
    assert "The migration cannot (invalid_version_id): The version number is not an integer" in row["error_message"]


def test_that_no_record_of_an_archived_asset_is_current_is_a_note(tables):
    tables.put(migrated("a1", "db01" + DELETED))
    tables.put_records(record("a1", isCurrentVersion=FALSE))
    result = run(tables)
    assert (result.status, result.found) == (
        0,
        [("db01" + DELETED, "a1", "archived_not_current", "isCurrentVersion")],
    )


def test_of_archived_assets_alone_one_record_is_to_be_current(tables):
    tables.put(migrated("a1", "db01" + DELETED), migrated("a1", "db02" + DELETED, currentVersionId="2"))
    tables.put_records(record("a1", isCurrentVersion=FALSE), record("a1", assetVersionId="2"))
    result = run(tables)
    assert (result.status, result.found) == (0, [])


def test_an_archived_asset_of_which_another_was_made_anew_may_keep_its_current_record(tables):
    """The application leaves it so."""
    put_healthy(tables, "a1")
    tables.put(migrated("a1", "db01" + DELETED, currentVersionId="1"))
    for flag, found in ((TRUE, ["archived_current"]), (FALSE, [])):
        tables.put_records(record("a1", assetVersionId="1", isCurrentVersion=flag))
        result = run(tables)
        assert (result.status, [row["error_type"] for row in result.rows]) == (0, found)


def test_a_third_asset_may_own_the_record_of_an_archived_one(tables):
    put_healthy(tables, "a1")
    tables.put(migrated("a1", "db01" + DELETED, currentVersionId="1"), migrated("a1", "db02", currentVersionId="1"))
    tables.put_records(record("a1", assetVersionId="1"))
    result = run(tables)
    assert (result.status, [row["error_type"] for row in result.rows]) == (0, ["shared_asset_id"])


# Second pass


def test_one_bad_record_of_a_long_history_is_found_over_page_and_segment_boundaries(tables, monkeypatch):
    monkeypatch.setattr(migration, "PAGE_ITEMS", 2)
    for number in range(10):
        put_healthy(tables, "a%d" % number)
        tables.put_records(
            *(record("a%d" % number, assetVersionId="9%d" % n, isCurrentVersion=FALSE) for n in range(5))
        )
    assert run(tables).rows == []
    tables.put_records(
        record("a3", assetVersionId="1", isCurrentVersion=TRUE),
        record("a5", assetVersionId="99", isCurrentVersion=TRUE),
        record("a7", assetVersionId="v1-draft", isCurrentVersion=FALSE),
    )
    assert run(tables).found == [
        ("db01", "a3", "several_current_versions", "isCurrentVersion"),
        ("db01", "a5", "several_current_versions", "isCurrentVersion"),
        ("db01", "a7", "invalid_version_id", "assetVersionId"),
    ]


def test_an_id_in_two_databases_may_have_two_current_records_but_not_three(tables):
    tables.put(migrated("part"), migrated("part", "db02", currentVersionId="1"))
    tables.put_records(record("part"), record("part", assetVersionId="1"))
    result = run(tables)
    assert (result.status, [row["error_type"] for row in result.rows]) == (0, ["shared_asset_id"])
    assert "db01, db02" in result.rows[0]["error_message"]
    tables.put_records(record("part", assetVersionId="2"))
    result = run(tables)
    assert (result.status, [row["error_type"] for row in result.rows]) == (1, ["several_current_versions"])


def test_a_record_is_reported_for_the_asset_that_points_to_it_else_for_a_live_one(tables):
    tables.put(migrated("a1"), migrated("a1", "aa" + DELETED, currentVersionId="1"))
    tables.put_records(
        record("a1"),
        record("a1", assetVersionId="1", isCurrentVersion=FALSE, comment=NULL),
        record("a1", assetVersionId="2", isCurrentVersion=FALSE, description=NULL),
    )
    found = run(tables).found
    assert ("aa" + DELETED, "a1", "version_record_invalid", "comment") in found
    assert ("db01", "a1", "version_record_invalid", "description") in found


def test_a_key_that_dynamodb_would_refuse_is_not_looked_up():
    """Amazon's refuses the whole batch; DynamoDB Local does not."""
    assert migration.can_exist(("versions", "a1", "9" * 1024))
    loop = asyncio.new_event_loop()
    reader = migration.Reader(None, loop)
    answers = [reader.get([("versions", "a1", version_id)]) for version_id in ("9" * 1024, "9" * 1025)]
    assert list(reader.wanted[False]) == [("versions", "a1", "9" * 1024)]
    assert not answers[0].done() and answers[1].result() == {}
    loop.close()


def test_a_record_without_any_asset_has_no_database(tables):
    put_healthy(tables, "a1")
    tables.put_records(record("gone", description=NULL))
    assert run(tables).found == [("", "gone", "version_record_invalid", "description")]


# --limit and --database-id


def test_a_limit_looks_at_those_assets_and_all_their_records(tables):
    put_healthy(tables, "a1", "a2", "a3")
    tables.put_records(*(record(name, assetVersionId="x", isCurrentVersion=FALSE) for name in ("a1", "a2", "a3")))
    result = run(tables, "--limit", "2")
    assert result.summary["assets"] == 2
    first_two = [
        item["assetId"]["S"] for item in itertools.islice(local_dynamodb.all_items(tables.client, tables.assets), 2)
    ]
    assert result.found == sorted(("db01", name, "invalid_version_id", "assetVersionId") for name in first_two)
    assert result.summary["version_records"] == 4
    assert result.summary["requests"]["Query"] == 2
    assert run(tables, "--limit", "0").summary["assets"] == 0


@pytest.mark.parametrize("queried", [verify.QUERIED_ASSETS, 0], ids=["by queries", "by a scan"])
def test_a_database_is_verified_alone(tables, monkeypatch, queried):
    monkeypatch.setattr(verify, "QUERIED_ASSETS", queried)
    put_healthy(tables, "a1")
    tables.put(migrated("b1", "db02", isMultiFile=FALSE), asset("b2", "db02"))
    tables.put_records(record("b1", comment=NULL), record("a1", assetVersionId="x", isCurrentVersion=FALSE))
    result = run(tables, "--database-id", "db02")
    assert result.found == [
        ("db02", "b1", "legacy_field", "isMultiFile"),
        ("db02", "b1", "version_record_invalid", "comment"),
        ("db02", "b2", "not_migrated", "currentVersion"),
    ]
    assert result.summary["assets"] == 2


def test_a_part_of_the_tables_cannot_tell_whose_a_current_record_is(tables):
    tables.put(migrated("part"), migrated("part", "db02", currentVersionId="1"))
    tables.put_records(record("part"), record("part", assetVersionId="1"))
    result = run(tables, "--database-id", "db01")
    assert (result.status, [row["error_type"] for row in result.rows]) == (0, ["several_current_unclear"])


# --journal


def journal_of(tables, *assets):
    tables.put(*assets)
    result = tables.migrate()
    assert result.status == 0
    return result.journal


CONTENT = [
    ("asset_content_differs", "assetName", {"assetName": S("Renamed")}, {}),
    ("asset_content_differs", "color", {"color": S("red")}, {}),
    ("asset_content_differs", "checksum", {"checksum": N("12345678901234567890123456789012345679")}, {}),
    ("asset_content_differs", "thumbnail", {"thumbnail": {"B": "AAEC"}}, {}),
    ("asset_content_differs", "tags", {"tags": None}, {}),
    ("asset_content_differs", "assetLocation", {"assetLocation": M(Key="b/", Bucket=BUCKET, more="x")}, {}),
    ("asset_content_differs", "previewLocation", {"previewLocation": None}, {}),
    ("record_content_differs", "comment", {}, {"comment": S("Third  upload")}),
    ("record_content_differs", "createdBy", {}, {"createdBy": S("someone")}),
    ("record_content_differs", "dateCreated", {}, {"dateCreated": S("2025-06-24T17:59:57Z")}),
    ("record_content_differs", "specifiedPipelines", {}, {"specifiedPipelines": L("p2")}),
    ("record_content_differs", "isCurrentVersion", {}, {"isCurrentVersion": FALSE}),
    ("record_content_differs", "extra", {}, {"extra": S("x")}),
]


def test_a_journal_proves_every_attribute(tables):
    """Each change that no rule could object to shows against the before image."""
    special = {"checksum": N("12345678901234567890123456789012345678"), "thumbnail": {"B": "AAEB"}}
    special["reviewers"] = {"SS": ["ann", "bob", "cid"]}
    names = ["c%02d" % number for number in range(len(CONTENT))]
    journal = journal_of(tables, *(asset(name, **special) for name in names))
    assert run(tables, "--journal", journal).rows == []
    expected = []
    for name, (error_type, field, asset_change, record_change) in zip(names, CONTENT):
        tables.put(changed(tables.asset("db01", name), asset_change))
        tables.put_records(changed(tables.record(name, "3"), record_change))
        expected.append(("db01", name, error_type, field))
    result = run(tables, "--journal", journal)
    journalled = [row for row in result.found if row[2].endswith("_content_differs")]
    assert journalled == sorted(expected)
    assert result.summary["before_images"] == len(CONTENT)
    assert result.status == 1


def test_assets_that_the_application_touched_before_the_migration_are_proved(tables):
    by_application = {"dateCreated": "2026-01-02T03:04:05.678901", "comment": "Saved in v2.3"}
    own_place = M(Key="base/own/", Bucket="another-bucket")
    tables.put_records(*(record(name, assetVersionId="5", **by_application) for name in ("own", "moved", "conflict")))
    journal = journal_of(
        tables,
        asset("own", currentVersion=None, versions=None, currentVersionId="5", assetLocation=own_place),
        asset("moved", currentVersion=None, versions=None, currentVersionId="5", previewLocation=M(Key="")),
        asset("conflict", currentVersionId="5"),
    )
    result = run(tables, "--journal", journal)
    assert (result.status, result.found) == (0, [("db01", "own", "asset_location_elsewhere", "assetLocation.Key")])


def test_assets_that_are_gone_or_were_never_migrated(tables):
    journal = journal_of(tables, asset("kept"), asset("deleted"), asset("restored"), asset("record"))
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("deleted")})
    tables.put(asset("restored"))
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("record"), "assetVersionId": S("3")})
    result = run(tables, "--journal", journal)
    assert result.found == [
        ("db01", "deleted", "asset_missing", ""),
        ("db01", "record", "record_content_differs", "assetVersionId"),
        ("db01", "record", "version_record_missing", "assetVersionId"),
        ("db01", "restored", "not_migrated", "currentVersion"),
    ]
    # With a limit the journal is compared for the same assets only.
    result = run(tables, "--journal", journal, "--limit", "1")
    assert result.summary["before_images"] == 1 and len({row["asset_id"] for row in result.rows}) <= 1


def test_a_limit_after_a_rollback_looks_at_the_assets_of_the_limit_only(tables):
    """Its journal has images of all, most of which are in the old form again."""
    tables.put(*(asset("a%d" % number) for number in range(8)))
    first = tables.migrate()
    argv = tables.flags + ["--journal", str(first.journal), "--report-dir", "back", "--yes"]
    assert verify.rollback.main(argv) == 0
    second = tables.migrate("--limit", "3")
    result = run(tables, "--journal", first.journal, "--journal", second.journal, "--limit", "3")
    assert (result.status, result.summary["assets"], result.summary["before_images"]) == (0, 3, 3)


def test_an_asset_without_a_date_may_have_that_of_an_earlier_interrupted_run(tables):
    undated = asset("a1", currentVersion=version(DateModified=None))
    tables.put_records(record("a1", dateCreated="2025-01-01T00:00:00Z"))
    journal = journal_of(tables, undated)
    assert tables.record("a1", "3")["dateCreated"] == S("2025-01-01T00:00:00Z")
    assert run(tables, "--journal", journal).rows == []
    for impossible in ("2999-01-01T00:00:00Z", "some day"):
        tables.put_records(record("a1", dateCreated=impossible))
        found = run(tables, "--journal", journal).found
        assert ("db01", "a1", "record_content_differs", "dateCreated") in found


def test_a_twin_keeps_or_replaces_a_record(tables):
    archived = asset("a1", "db01" + DELETED, currentVersion=version(Comment="Archived"))
    tables.put(archived, asset("a1"))
    first = tables.migrate("--database-id", "db01" + DELETED).journal
    second = tables.migrate().journal
    result = run(tables, "--journal", first, "--journal", second)
    assert (result.status, result.found) == (0, [("db01" + DELETED, "a1", "archived_twin", "assetVersionId")])
    (row,) = result.rows
    assert row["expected"] == "a record of its own"
    assert row["actual"] == "that of the other one, which differs in comment, isCurrentVersion"


def test_of_several_before_images_the_newest_counts(tables):
    first = journal_of(tables, asset("a1", assetName="First"))
    lines = first.read_text().splitlines()[:-1]
    superseding = json.dumps({"asset": asset("a1", assetName="Second"), "again": True})
    first.write_text("\n".join(lines + [superseding]) + "\n")
    (row,) = run(tables, "--journal", first).rows
    assert (row["field"], row["expected"], row["actual"]) == ("assetName", "Second", "First")
    # A later run met it once more.
    header = dict(json.loads(lines[0]), started="2999-01-01T00:00:00Z")
    later = first.with_name("later.jsonl")
    later.write_text("\n".join([json.dumps(header), json.dumps({"asset": asset("a1", assetName="Third")})]) + "\n")
    for order in ((first, later), (later, first)):
        (row,) = run(tables, "--journal", order[0], "--journal", order[1]).rows
        assert row["expected"] == "Third"


def test_long_texts_show_where_they_differ(tables):
    journal = journal_of(tables, asset("a1", description=S("x" * 3000 + "old end")))
    tables.put(changed(tables.asset("db01", "a1"), {"description": S("x" * 3000 + "new end")}))
    (row,) = run(tables, "--journal", journal).rows
    assert row["expected"].endswith("xold end")
    assert row["actual"].endswith("xnew end")
    assert len(row["expected"]) < 100


@pytest.mark.parametrize("name, value", [("assets_table_name", "others"), ("region", "eu-west-1"), ("account", "1")])
def test_a_journal_of_other_tables_is_refused(tables, name, value, capsys):
    journal = journal_of(tables, asset("a1"))
    header, *entries = journal.read_text().splitlines()
    journal.write_text("\n".join([json.dumps(dict(json.loads(header), **{name: value}))] + entries) + "\n")
    assert verify.main(tables.flags + ["--journal", str(journal)]) == migration.EXIT_USAGE
    assert "Fix:" in capsys.readouterr().err


# Files, settings, endings


def test_the_reports_are_private_and_a_named_one_is_replaced(tables):
    put_healthy(tables, "a1")
    page = tables.folder / "page.html"
    run(tables, "--html", page)
    tables.put(migrated("a1", isMultiFile=FALSE))
    assert run(tables, "--html", page).summary["problems"] == {"legacy_field": 1}
    assert "legacy_field" in page.read_text(encoding="utf-8")
    for path in [page, *(tables.folder / "out").iterdir()]:
        assert stat.S_IMODE(os.stat(str(path)).st_mode) == 0o600


def test_a_page_without_a_name_lies_beside_the_report(tables):
    put_healthy(tables, "a1")
    for _ in range(2):
        assert verify.main([*tables.flags, "--html"]) == 0
    names = sorted(path.name for path in (tables.folder / "reports").iterdir())
    stems = [name[:-4] for name in names if name.endswith(".csv")]
    assert names == sorted(stem + end for stem in stems for end in (".csv", ".html", "_summary.json"))
    run(tables, "--html")
    assert (tables.folder / "out" / "verification.html").is_file()


def test_a_verification_while_the_tables_change_says_so(tables, capsys):
    journal = journal_of(tables, asset("a1"))
    for folder in ([], ["--journal", str(journal)]):
        (tables.folder / "backups").mkdir(exist_ok=True)
        path = journal if folder else tables.folder / "backups" / "other.jsonl"
        path.write_text(journal.read_text())
        for rolling_back in (False, True):
            with open(path, "rb") as file:
                assert migration.lock(file, rolling_back)
                assert run(tables, *folder).status == 0
            shown = capsys.readouterr().out
            text = "%s of these tables is under way, with the journal %s\n" % (
                "a rollback" if rolling_back else "a migration",
                path if folder else "backups/other.jsonl",
            )
            assert shown.count("  warning  " + text) == shown.count("tables is under way") == 1
            assert "\nNext: let the run that is under way come to its end, then verify again:\n" in shown
        run(tables, *folder)
        assert "is under way" not in capsys.readouterr().out


def test_what_uses_many_journals_is_named_once(tables, capsys):
    journal = journal_of(tables, asset("a1"))
    (tables.folder / "backups").mkdir()
    paths = [tables.folder / "backups" / ("%d.jsonl" % number) for number in range(3)]
    with contextlib.ExitStack() as files:
        for path in paths:
            path.write_text(journal.read_text())
            assert migration.lock(files.enter_context(path.open("rb")), rolling_back=True)
        assert migration.main(tables.flags) == 3 and run(tables).status == 0
    captured = capsys.readouterr()
    text = "%s a rollback %s these tables is under way, with 3 journals, backups/0.jsonl first\n"
    assert captured.out.count(text % ("error   ", "on")) == captured.out.count(text % ("warning ", "of")) == 1
    assert captured.err.count("backups/") == 1


@pytest.mark.parametrize("given", [False, True])
def test_what_a_run_under_way_has_not_done_yet_is_not_to_be_migrated(tables, capsys, given):
    """Whether its journal is given or not."""
    put_healthy(tables, "a1")
    tables.put(asset("a2"))
    journal, other = journal_of(tables, asset("b1")), tables.folder / "backups" / "other.jsonl"
    other.parent.mkdir()
    journal = journal.rename(other) if given else journal
    other.write_text(journal.read_text())
    tables.put(asset("b1"))
    with open(str(other)) as file:
        assert migration.lock(file)
        capsys.readouterr()
        assert verify.main([*tables.flags, "--journal", str(journal)]) == 1
        *_, step, command = capsys.readouterr().out.splitlines()
    assert step == "Next: let the run that is under way come to its end, then verify again:"
    assert command.endswith("_verify.py %s --journal %s" % (" ".join(tables.flags), journal))


def test_what_was_not_found_names_what_there_is_to_name(tables, capsys):
    put_healthy(tables, "a1")
    tables.put_records(record("orphan", specifiedPipelines=S("p")))
    assert run(tables).status == 1
    assert "\nproblem: orphan: specifiedPipelines" in "\n" + capsys.readouterr().err
    (row,) = run(tables, "--database-id", "db01", "--asset-id", "nope").rows
    assert (row["database_id"], row["asset_id"]) == ("db01", "nope")
    assert "\nproblem: db01 / nope: No asset was found" in "\n" + capsys.readouterr().err


@pytest.mark.parametrize("level, named", [("ERROR", 10), ("CRITICAL", 0)])
def test_of_many_problems_it_says_where_all_are(tables, capsys, level, named):
    """Of the migration's failures too."""
    tables.put(*(asset("a%02d" % number, currentVersion=S("broken")) for number in range(11)))
    where = (
        "  The first 10 are named above, all of them in the report.\n"
        if named
        else "  All of them are in the report.\n"
    )
    for script, beginning in ((migration, "failed: "), (verify, "problem: ")):
        assert script.main([*tables.flags, "--log-level", level]) == 1
        said = capsys.readouterr()
        assert said.err.count(beginning) == named and where in said.out


def test_another_bucket_leads_to_the_way_back(tables, capsys):
    tables.put(asset("a1"))
    assert migration.main([*tables.flags, "--asset-bucket", "old-bucket"]) == 0
    capsys.readouterr()
    assert run(tables).summary["other_bucket"] == "old-bucket"
    command = capsys.readouterr().out.splitlines()[-1]
    assert "_rollback.py " in command and " --asset-bucket old-bucket " in command
    assert command.endswith(" --dry-run --journal backups")
    words = shlex.split(command.replace("--dry-run", "--yes"))
    assert verify.rollback.main(words[2:]) == 0
    assert tables.contents()[0] == {("db01", "a1"): asset("a1")}


def test_after_a_rollback_what_another_bucket_was_given_leads_to_its_own(tables, capsys):
    tables.put(asset("a1"), asset("a2"))
    assert migration.main([*tables.flags, "--limit", "1", "--asset-bucket", "wrong-bucket"]) == 0
    assert migration.main(tables.flags) == 0
    wrong = [*tables.flags, "--asset-bucket", "wrong-bucket", "--journal", "backups"]
    assert verify.rollback.main([*wrong, "--yes"]) == 0
    *_, said, command = capsys.readouterr().out.splitlines()
    assert said.startswith("Next: take back what was migrated with the bucket %s, if that is to go too; if" % BUCKET)
    config = tables.folder / "config.json"
    config.write_text(json.dumps({"asset_bucket_name": BUCKET}))
    without_bucket = [text for text in tables.flags if text not in ("--asset-bucket", BUCKET)]
    by_config = ["--config", str(config), *without_bucket, "--asset-bucket", "wrong-bucket", "--journal", "backups"]
    assert verify.rollback.main([*by_config, "--yes"]) == 0
    *_, said, command = capsys.readouterr().out.splitlines()
    assert said.startswith("Next: migrate again, with the bucket %s; or, if what was migrated with that is" % BUCKET)
    assert "_migration.py --config " in command and "--asset-bucket" not in command
    assert verify.main([*wrong, "--restored"]) == 1
    *_, said, command = capsys.readouterr().out.splitlines()
    assert said.startswith("Next: take back what was migrated with the bucket %s, if that is to go too; if" % BUCKET)
    assert "_rollback.py " in command and " --asset-bucket %s " % BUCKET in command
    words = [word for word in shlex.split(command)[2:] if word != "--dry-run"]
    assert verify.rollback.main([*words, "--yes"]) == 0
    assert verify.main([*wrong, "--restored"]) == 0


@pytest.mark.parametrize("order", [["db01" + DELETED, "db01"], ["db01", "db01" + DELETED]])
def test_an_archived_twin_is_not_blamed_for_a_new_version_of_the_live_one(tables, order):
    """They share the record of the live one, which is its history now. Nor is it users' work where its journal is
    missing."""
    archived = asset("a", "db01" + DELETED, currentVersion=version(DateModified="June 1 2025 - 17:59:56"))
    tables.put(asset("a"), archived)
    journals = {name: tables.migrate("--database-id", name).journal for name in order}
    given = ["--journal", *journals.values()]
    assert {row[2] for row in run(tables, *given).found} == {"archived_twin"}
    tables.put(changed(tables.asset("db01", "a"), {"currentVersionId": "4"}))
    of_live = tables.record("a", "3")
    tables.put_records(
        changed(of_live, {"isCurrentVersion": {"BOOL": False}}), record("a", assetVersionId="4", **BY_ANN)
    )
    found = run(tables, *given).found
    assert {row[0] for row in found if row[2] not in verify.NOTES} == {"db01"}
    found = run(tables, "--journal", journals["db01"]).found
    assert [row[2] for row in found if row[2] in ("no_before_image", "made_in_v23")] == ["no_before_image"]
    # Another attribute than that is a problem.
    tables.put_records(changed(of_live, {"isCurrentVersion": {"BOOL": False}, "comment": "damaged"}))
    assert ("db01" + DELETED, "a", "record_content_differs", "comment") in run(tables, *given).found


def test_a_lost_run_after_a_whole_rollback_is_looked_for(tables, capsys):
    """It was killed, so no summary tells of it."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    given = ["--journal", "backups"]
    assert verify.rollback.main([*tables.flags, *given, "--yes"]) == 0
    assert migration.main([*tables.flags, "--limit", "1", "--journal-dir", "lost", "--report-dir", "lost"]) == 0
    capsys.readouterr()
    assert run(tables, *given).status == 1
    assert "Next: migrate what is not migrated yet; look for the journals of 1 migrated " in capsys.readouterr().out
    result = run(tables, "--restored", *given)
    assert (result.status, [row[2] for row in result.found]) == (0, ["still_migrated"])
    shown = capsys.readouterr().out
    assert "\nVERIFIED IN PART: " in shown
    assert "Next: one asset is still migrated, by no journal beside those given: look for the missing one" in shown


def test_a_day_with_two_buckets_and_users_comes_to_its_end(tables, capsys):
    """A run with the wrong one, the rest with the right one, which also repairs an asset of the other; users edit; both
    are rolled back as far as that goes; v2.2 goes on; and the day again."""
    tables.put(asset("a", isDistributable=S("False")), *(asset(name) for name in "bcd"))
    wrong = [*tables.flags, "--asset-bucket", "wrong-bucket"]
    assert migration.main([*wrong, "--limit", "2"]) == 0
    assert migration.main([*tables.flags, "--repair"]) == 0
    by_wrong, by_right = (
        [name for name in "abcd" if location_bucket(tables.asset("db01", name)) == bucket]
        for bucket in ("wrong-bucket", BUCKET)
    )
    assert len(by_wrong) == len(by_right) == 2
    edited = (by_wrong[-1], by_right[-1])  # the first by the wrong one may be "a"
    for name in edited:
        tables.put(changed(tables.asset("db01", name), {"previewLocation": M(Key="of-users.png", Bucket=BUCKET)}))
    given = ["--journal", "backups"]

    def roll_back_by(flags, *said):
        capsys.readouterr()
        assert verify.rollback.main([*flags, *given, "--yes"]) == 1
        shown = capsys.readouterr().out
        assert all(text in shown for text in said), shown
        return shown.rpartition("\nNext: ")[2]

    of_right = "take back what was migrated with the bucket %s, if that is to go too" % BUCKET
    # Those of the right one, and "a", which it repaired.
    count = "%13d  still migrated, at most, by the journals not given" % (2 + ("a" in by_wrong))
    assert roll_back_by(wrong, count).startswith(of_right)
    step = roll_back_by(tables.flags)
    if "a" in by_wrong:  # it was superseded
        assert step.startswith("take back what was migrated with the bucket wrong-bucket, if that is to go too")
        step = roll_back_by(wrong)
    assert step.startswith("see that all but what users made is as it was before")
    for flags in (wrong, tables.flags):
        result = run_with(flags, tables, "--restored", *given)
        assert {row[1] for row in result.found if row[2] == "not_restored"} == set(edited)
        assert "Next: a rollback by these journals has done what it can." in capsys.readouterr().out

    (gone,) = set(by_right) - set(edited)
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S(gone)})
    assert migration.main([*tables.flags]) == 0
    assert "wrong-bucket" not in capsys.readouterr().out.partition("\nPlan:")[0]
    result = run(tables, *given)
    assert {row[1] for row in result.found if row[2] == "gone_since"} == {gone}
    assert {row[2] for row in result.found} <= {"gone_since", "left_by_rollback", "other_bucket", "to_do"}


def location_bucket(asset):
    return migration.text_of(asset.get("assetLocation", {}).get("M", {}).get("Bucket"))


def run_with(flags, tables, *further):
    bucket = ["--asset-bucket", flags[flags.index("wrong-bucket")]] if "wrong-bucket" in flags else []
    return run(tables, *bucket, *further)


def test_without_output_each_run_has_files_of_its_own(tables):
    put_healthy(tables, "a1")
    for _ in range(2):
        assert verify.main(tables.flags) == 0
    names = sorted(path.name for path in (tables.folder / "reports").iterdir())
    assert len(names) == 4
    assert all(name.startswith("verification_") for name in names)


def test_with_an_output_of_its_own_it_needs_no_report_folder(tables, capsys):
    put_healthy(tables, "a1")
    (tables.folder / "reports").write_text("no folder")
    assert verify.main([*tables.flags, "--output", "elsewhere/x.csv", "--html"]) == 0
    assert sorted(os.listdir("elsewhere")) == ["x.csv", "x.html", "x_summary.json"]
    assert verify.main(tables.flags) == migration.EXIT_PREFLIGHT
    assert "choose another folder with --report-dir." in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--output", "--html", "--log-file"])
@pytest.mark.parametrize("kind", ["journal", "configuration", "migration's report", "summary", "link", "device"])
def test_by_a_typing_error_no_other_file_is_replaced(tables, capsys, flag, kind):
    tables.put(asset("a1"))
    before = tables.migrate()
    (report,) = (before.folder / "reports").glob("*.csv")
    (tables.folder / "my.json").write_text("{}")
    os.symlink("elsewhere.csv", "link.csv")
    files = {"journal": before.journal, "configuration": "my.json", "migration's report": report}
    files.update(summary=str(report)[:-4] + "_summary.json", link="link.csv", device="/dev/null")
    path = str(files[kind])
    text = None if kind in ("link", "device") else pathlib.Path(path).read_text()
    status = verify.main(
        [*tables.flags, "--html", "x.html", *(["--output", "x.csv"] * (flag != "--output")), flag, path]
    )
    if flag == "--log-file" and text is None:
        assert status == 0
        return
    error = capsys.readouterr().err
    assert status == 2 and ("error: %s is " % path) in error and "choose another %s" % flag in error
    assert (kind == "device" or os.path.islink(path)) if text is None else pathlib.Path(path).read_text() == text
    assert not os.path.exists("x.csv")


@pytest.mark.parametrize("flag", ["--output", "--html"])
def test_a_folder_is_no_report(tables, capsys, flag):
    (tables.folder / "proofs").mkdir()
    assert verify.main([*tables.flags, flag, "proofs"]) == migration.EXIT_USAGE
    assert capsys.readouterr().err == "error: proofs is a folder.\n  Fix: name a file.\n"


@pytest.mark.parametrize("page", ["s3://", "x.csv/p.html", "p.txt"])
def test_a_refusal_leaves_the_earlier_reports(tables, page):
    put_healthy(tables, "a1")
    (tables.folder / "p.txt").write_text("not ours")
    assert verify.main([*tables.flags, "--output", "x.csv"]) == 0
    before = [pathlib.Path(name).read_text() for name in ("x.csv", "x_summary.json", "p.txt")]
    assert verify.main([*tables.flags, "--output", "x.csv", "--html", page]) in (2, 3)
    assert [pathlib.Path(name).read_text() for name in ("x.csv", "x_summary.json", "p.txt")] == before


def test_two_reports_in_one_file_are_refused(tables, capsys):
    assert verify.main(tables.flags + ["--output", "x.csv", "--html", "x.csv"]) == migration.EXIT_USAGE
    assert "one file: x.csv, x_summary.json, x.csv" in capsys.readouterr().err


def test_a_formula_in_a_name_is_no_formula_in_the_report(tables):
    tables.put(asset("=1+1", "@db"))
    (row,) = run(tables).rows
    assert (row["database_id"], row["asset_id"]) == ("'@db", "'=1+1")


def test_no_control_character_reaches_the_screen(tables, capsys):
    tables.put(asset("a\x1b[2J\n1"))
    run(tables)
    assert "db01 / a\\u001b[2J\\u000a1: " in capsys.readouterr().err


def test_the_migrations_own_configuration_is_accepted(tables):
    put_healthy(tables, "a1")
    config = {key: value for key, value in migration.CONFIG.items() if value is not None}
    config.update(assets_table_name="others", aws_region="us-east-1", dry_run=True, max_write_units=5, yes=True)
    (tables.folder / "config.json").write_text(json.dumps(config))
    assert run(tables, "--config", tables.folder / "config.json").status == 0


def test_missing_tables_are_a_failed_preflight(tables, capsys):
    flags = [flag if flag != tables.versions else "not-there" for flag in tables.flags]
    assert verify.main(flags) == migration.EXIT_PREFLIGHT
    assert "not-there was not found" in capsys.readouterr().err


def test_an_error_half_way_leaves_a_report_of_what_was_found(tables, monkeypatch):
    tables.put(asset("a1"))

    def refuse(*unused):
        raise migration.MigrationError("The versions table is gone.", "restore it.")

    monkeypatch.setattr(verify, "record_problems", refuse)
    tables.put_records(record("a1"))
    result = run(tables)
    assert (result.status, result.summary["problems"]) == (1, {"not_migrated": 1})
    assert "The versions table is gone." in result.summary["error"]


def test_an_interrupted_run_says_so(tables, monkeypatch, capsys):
    put_healthy(tables, "a1")
    original = verify.Verification.verify_asset

    async def interrupt(self, run, asset):
        run.stop()
        await original(self, run, asset)

    monkeypatch.setattr(verify.Verification, "verify_asset", interrupt)
    result = run(tables)
    assert result.status == migration.EXIT_INTERRUPTED
    assert result.summary["version_records"] == 0
    assert "NOT FINISHED" in capsys.readouterr().out


def test_every_type_is_tested_here():
    """The closed list and these tests name the same types."""
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert {name for name in verify.ERROR_TYPES if '"%s"' % name not in text} == set()


def write_migrated(tables, count):
    """Fill the tables with migrated samples, and return a journal of them, without a migration's many writes."""
    started = "2026-01-01T00:00:00Z"
    header = {
        "journal": migration.JOURNAL_KIND,
        "format": migration.JOURNAL_FORMAT,
        "started": started,
        "assets_table_name": tables.assets,
        "asset_versions_table_name": tables.versions,
        "asset_bucket_name": BUCKET,
        "account": None,
        "region": local_dynamodb.REGION,
    }
    journal, records = tables.folder / "journal.jsonl", {}
    with open(str(journal), "w", encoding="utf-8") as file:
        file.write(json.dumps(header) + "\n")

        def after():
            single = (a for a in sample_assets(2 * count) if not a["assetId"]["S"].startswith("part-"))
            for before in itertools.islice(single, count):
                plan = migration.plan_asset(before, BUCKET, started)
                file.write(json.dumps({"asset": before}) + "\n")
                records[plan.record["assetId"]["S"], plan.record["assetVersionId"]["S"]] = plan.record
                yield changed(before, {**dict.fromkeys(plan.remove_attributes), **plan.set_attributes})

        tables.load(after())
    local_dynamodb.load_items(tables.client, tables.versions, records.values())
    return journal


@pytest.mark.skipif("VAMS_MEASURE" not in os.environ, reason="a measurement; set VAMS_MEASURE to run it")
@pytest.mark.parametrize("count", [10000, 100000])
def test_measure(tables, count):
    """Print the peak memory, the processor time and the requests of a verification with a journal."""
    journal = write_migrated(tables, count)
    script = pathlib.Path(local_dynamodb.__file__).with_name("v2.2_to_v2.3_migration_verify.py")
    output = tables.folder / "measured.csv"
    command = [sys.executable, str(script), *tables.flags, "--output", str(output), "--journal", str(journal)]
    measure = (
        "import resource, subprocess, sys; subprocess.call(sys.argv[1:]);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print('peak', used.ru_maxrss // 1024, 'MB, processor', round(used.ru_utime + used.ru_stime, 1), 's')"
    )
    subprocess.run([sys.executable, "-c", measure, *command], check=True)
    summary = json.loads((tables.folder / "measured_summary.json").read_text())
    print(count, "assets:", summary["duration_seconds"], "s", summary["requests"])
    assert summary["assets"] == summary["before_images"] == count


def test_a_damaged_record_of_an_archived_asset_without_a_twin_is_a_problem(tables):
    archive = "db01" + DELETED
    tables.put(asset("a1", archive))
    journal = tables.migrate().journal
    assert run(tables, "--journal", journal).status == 0
    tables.put_records({**tables.record("a1", "3"), "comment": S("damaged")})
    result = run(tables, "--journal", journal)
    assert (result.status, result.found) == (1, [(archive, "a1", "record_content_differs", "comment")])


def test_a_database_that_does_not_exist_is_not_verified(tables, capsys):
    put_healthy(tables, "a1")
    result = run(tables, "--database-id", "db01", "--database-id", "db1")
    assert (result.status, result.found) == (1, [("db1", "", "nothing_found", "databaseId")])
    assert "is it spelled right?" in result.rows[0]["error_message"]
    assert "NOT VERIFIED" in capsys.readouterr().out
    # A blank at its end is seen.
    assert run(tables, "--database-id", "db01", "--database-id", "db01 ").status == 1
    assert 'problem: "db01 ": No asset was found under databaseId "db01 ": is it' in capsys.readouterr().err
    # An archive may be empty.
    assert run(tables, "--database-id", "db01", "--database-id", "db01" + DELETED).status == 0


def test_a_header_with_blanks_is_one(tables):
    tables.put(asset("a1"))
    journal = tables.migrate().journal
    journal.write_text("{ " + journal.read_text()[1:])
    assert run(tables, "--journal", journal).status == 0


@pytest.mark.parametrize(
    "field, value",
    [
        *itertools.product(["stem", "report_dir"], [None, 5, {}, "\0"]),
        *[("started", None), ("asset_bucket_name", None), ("asset_bucket_name", {}), ("opened", {}), ("format", "2")],
        *[("asset_versions_table_name", None), ("asset_versions_table_name", {}), ("region", []), ("journal", "mine")],
    ],
)
def test_a_header_that_was_edited_is_damage(tables, capsys, field, value):
    tables.put(asset("a1"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    (journal,) = (tables.folder / "backups").iterdir()
    header, rest = journal.read_text().split("\n", 1)
    journal.write_text(json.dumps({**json.loads(header), field: value}) + "\n" + rest)
    for script in (verify, verify.rollback):
        capsys.readouterr()
        assert script.main([*tables.flags, "--journal", "backups"]) == 2
        assert "is damaged: its first line is not as it was written" in capsys.readouterr().err
    assert migration.main([*tables.flags, "--journal-dir", "backups", "--asset-bucket", "another-bucket"]) == 0


@pytest.mark.parametrize(
    "line",
    [
        *['{"asset":{}}', '{"asset":null}', '{"asset":{"databaseId":5}}', '{"untouched":[[1]]}', "[" * 100000],
        '{"claim":{"was":null,"now":{"assetId":{"S":"a1"},"assetVersionId":{"S":"3"}}}}',  # of which asset
        *['{"claim":{}}', '{"claim":{"was":null,"now":{}},"database_id":"db01"}', '{"claim":{"was":5,"now":5}}'],
        *('{"asset":{"databaseId":{"S":%s},"assetId":{"S":"a1"}%s}}' % edit for edit in [
            ("5", ""), ('"db01"', ',"x":{"N":"1_"}'), ('"db01"', ',"x":{"N":""}'),
            ('"db01"', ',"Parent":"root"'), ('"db01"', ',"currentVersion":{"M":{"DateModified":{}}}'),
            ('"db01"', ',"x":{"SS":[1,"a"]}'), ('"db01"', ',"x":{"N":"one"}'), ('"db01"', ',"x":{"L":[-1]}'),
        ]),
    ],
)  # fmt: skip
def test_an_edited_line_of_a_journal_is_damage(tables, capsys, line):
    journal = journal_of(tables, asset("a1"))
    lines = journal.read_text().splitlines(True)
    journal.write_text("".join([*lines[:-1], line + "\n", lines[-1]]))
    for script in (verify, verify.rollback):
        assert script.main([*tables.flags, "--journal", str(journal)]) == 2
        assert "Journal %s is damaged" % journal in capsys.readouterr().err


@pytest.mark.parametrize("edited", [{"currentVersion": S("x")}, {"currentVersionId": S("3")}])
def test_a_before_image_that_no_migration_leaves_is_not_taken_for_restored(tables, edited):
    tables.put(asset("a1"), asset("a2"))
    journal = tables.migrate().journal
    lines = journal.read_text().splitlines(True)
    image = json.loads(lines[1])
    keys = {name: image["asset"][name] for name in ("databaseId", "assetId")}
    image["asset"] = {**(image["asset"] if "currentVersion" in edited else keys), **edited}
    journal.write_text("".join([lines[0], json.dumps(image) + "\n", *lines[2:]]))
    assert verify.rollback.main([*tables.flags, "--journal", str(journal), "--yes"]) == 1
    (report,) = tables.folder.glob("reports/rollback_*.csv")
    (row,) = csv.DictReader(io.StringIO(report.read_text("utf-8-sig")))
    assert row["outcome"] == "changed_since" and "was edited. Give the original." in row["message"]
    assert "currentVersionId" in tables.asset("db01", row["asset_id"])


def test_a_damaged_journal_shows_before_anything_is_verified(tables, capsys):
    tables.put(*(asset("a%d" % number) for number in range(3)))
    journal = tables.migrate().journal
    lines = journal.read_text().splitlines(True)
    journal.write_text("".join(lines[:2] + ["{\n"] + lines[2:]))
    assert verify.main(tables.flags + ["--journal", str(journal)]) == migration.EXIT_USAGE
    assert "is damaged" in capsys.readouterr().err and not (tables.folder / "reports").exists()


# --------------------------------------------------------------------------------------
# What was not there is not verified
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [[], ["--database-id", "db01" + DELETED], ["--limit", "5"], ["--database-id", "db01", "--asset-id", "a1"]],
)
def test_nothing_is_verified_where_there_is_nothing(tables, capsys, flags):
    tables.put(*[migrated("a2")] * ("--asset-id" in flags))
    result = run(tables, *flags)
    assert (result.status, [row["error_type"] for row in result.rows]) == (1, ["nothing_found"])
    shown = capsys.readouterr().out
    assert "\nNOT VERIFIED: no assets and " in shown and "No asset was found: " in result.rows[0]["error_message"]


@pytest.mark.parametrize(
    "flags, field",
    [
        (["--database-id", "nosuch"], "databaseId"),
        (["--database-id", "db01", "--database-id", "nosuch"], "databaseId"),
        (["--database-id", "db01", "--asset-id", "nosuch"], ""),
        (["--database-id", "db02"], ""),
    ],
)
def test_a_typing_error_restores_nothing(tables, capsys, flags, field):
    """Names that nothing has, or that the journals tell nothing of; a limit, which chooses among what they tell of."""
    tables.put(asset("a"))
    journal = tables.migrate().journal
    tables.put(asset("b", "db02"))
    assert roll_back(tables, journal) == 0
    capsys.readouterr()
    result = run(tables, "--restored", "--journal", journal, *flags)
    assert result.status == 1 and ("nothing_found", field) in {row[2:] for row in result.found}
    assert "\nNext: give the right names, " in capsys.readouterr().out
    assert verify.main([*tables.flags, "--restored", "--journal", str(journal), "--limit", "1"]) == 2
    assert "  Fix: leave it out; " in capsys.readouterr().err


def follow(capsys):
    """Type the command that a script has shown; its exit status."""
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    return load_script(os.path.basename(words[1])).main(words[2:])


@pytest.mark.parametrize("flags", [[], ["--limit", "1"], ["--limit", "1", "--journal", "backups"]])
def test_the_next_step_where_the_last_run_was_rolled_back_is_one(tables, capsys, flags):
    tables.put(asset("a"), asset("b"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    assert roll_back(tables, "backups") == 0
    assert verify.main([*tables.flags, *flags]) == 1
    assert follow(capsys) == 0
    assert "\nVERIFIED: after a rollback, 2 assets compared" in capsys.readouterr().out


def test_what_an_earlier_rollback_took_back_is_compared_by_its_journal(tables, capsys):
    """Chosen by its databaseId, of which the journals that are compared tell nothing."""
    tables.put(asset("a"), asset("b", "db02"))
    for name in ("db01", "db02"):
        assert migration.main([*tables.flags, "--journal-dir", "backups", "--database-id", name]) == 0
        assert roll_back(tables, "backups") == 0
    flags = [*tables.flags, "--restored", "--journal", "backups"]
    assert verify.main(flags) == 0 and verify.main([*flags, "--database-id", "db02"]) == 0
    capsys.readouterr()
    assert verify.main([*flags, "--database-id", "db01"]) == 1
    assert follow(capsys) == 0
    assert "\nVERIFIED: after a rollback, 1 asset compared" in capsys.readouterr().out


def test_what_a_configuration_chooses_is_not_everything(tables, capsys):
    tables.put(asset("a"), asset("b", "db02"))
    journal = tables.migrate("--database-id", "db01").journal
    (tables.folder / "c.json").write_text('{"database_id": ["db01"]}')
    flags = ["--config", "c.json", *tables.flags, "--journal", str(journal)]
    assert verify.main(flags) == 0
    told = "; for that, take what chooses assets out of the configuration:\n"
    assert "\nNext: migrate all assets, unless that was done" + told in capsys.readouterr().out
    assert verify.main([*flags, "--limit", "1"]) == 0  # the command that follows is without it, and has db01 again
    assert "\nNext: migrate all assets, unless that was done" + told in capsys.readouterr().out
    assert verify.rollback.main([*flags, "--yes"]) == 0
    assert "\nNext: see that everything is as it was before" + told in capsys.readouterr().out
    assert verify.main([*flags, "--restored"]) == 0
    assert "\nNext: see whether everything else is as it was before, too" + told in capsys.readouterr().out


def test_what_was_restored_of_some_says_nothing_of_the_others(tables, capsys):
    tables.put(asset("a"), asset("b", "db02"))
    journals = [str(tables.migrate("--database-id", name).journal) for name in ("db01", "db02")]
    assert roll_back(tables, journals[0]) == 0
    capsys.readouterr()
    flags = [*tables.flags, "--restored", "--journal", *journals]
    assert verify.main([*flags, "--database-id", "db01"]) == 0
    step, command = capsys.readouterr().out.split("\nNext: ")[1].splitlines()
    assert step == "see whether everything else is as it was before, too:"
    words = [word for word in shlex.split(command)[2:] if word != "--journal"]
    assert words == [word for word in flags if word != "--journal"] and verify.main(flags) == 1


@pytest.mark.parametrize(
    "told, configured, kept",
    [
        (["--repair", "--max-write-units", "900"], {}, " --max-write-units 900 --repair"),
        (["--bucket-without-files", "--workers", "2"], {"workers": 2}, " --bucket-without-files"),
        ([], {"max_write_units": 900}, ""),
    ],
)
def test_the_rest_is_migrated_as_the_run_that_was_verified(tables, capsys, told, configured, kept):
    tables.put(asset("a"), asset("b"))
    (tables.folder / "c.json").write_text(json.dumps(configured))
    flags = ["--config", "c.json", *tables.flags]
    assert migration.main([*flags, "--limit", "1", *told]) == 0
    capsys.readouterr()
    assert verify.main([*flags, "--limit", "1", "--journal", "backups"]) == 0
    step, command = capsys.readouterr().out.split("\nNext: ")[1].splitlines()
    assert step == "migrate all assets, unless that was done:" and command.endswith(" ".join(tables.flags) + kept)


@pytest.mark.parametrize(
    "flags", [["--limit", "1"], ["--database-id", "db01"], ["--database-id", "db01", "--asset-id", "a"]]
)
def test_what_was_verified_of_some_without_journals_is_not_proved(tables, capsys, flags):
    """Not, where these lie; nor where they do not tell of it."""
    tables.put(asset("a"))
    folders = ["--journal-dir", "backups", "--report-dir", "reports"]
    assert migration.main([*tables.flags, *folders]) == 0
    capsys.readouterr()
    assert verify.main([*tables.flags, *flags]) == 0
    step, command = capsys.readouterr().out.split("\nNext: ")[1].splitlines()
    assert step == "prove the content too, by the journals:" and shlex.join(flags) in command
    assert verify.main([*tables.flags, *flags, "--journal", "backups"]) == 0
    assert "\nNext: migrate all assets, unless that was done:\n" in capsys.readouterr().out
    os.rename("backups", "moved")
    for given, text in (([], "look for the journals, which are not in backups, "), (["moved"], "migrate all assets, ")):
        assert verify.main([*tables.flags, *flags, *["--journal"] * len(given), *given]) == 0
        assert "\nNext: " + text in capsys.readouterr().out
    other = journal_of(tables, asset("b"))
    os.remove("moved/" + os.listdir("moved")[0])
    capsys.readouterr()
    assert verify.main([*tables.flags, *flags, "--journal", str(other)]) == 0
    step = capsys.readouterr().out.split("\nNext: ")[1]
    assert step.startswith("look for the journals of 1 migrated asset, ") and "migrate all assets, unless" in step


def test_a_part_of_a_journal_in_a_folder_is_a_note(tables, capsys):
    first, second = journal_of(tables, asset("a1"), asset("a2")), journal_of(tables, asset("b1"))
    here = second.with_name("first.jsonl")
    here.write_text("".join(first.read_text().splitlines(True)[:-2]))
    result = run(tables, "--journal", second.parent)
    assert (result.status, result.summary["notes"]) == (0, {"journal_damaged": 1, "no_before_image": 2})
    assert result.rows[0]["error_message"] == "Journal %s is a part only: it holds 1 of 2 before images." % here
    assert result.summary["journals"] == [str(second)] and result.summary["journals_not_given"] == []
    for given in (["--journal", here], ["--journal", here, second.parent]):
        assert verify.main([*tables.flags, *map(str, given)]) == migration.EXIT_USAGE
        assert "first.jsonl is a part only" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--restored"]])
def test_a_journal_without_before_images_proves_nothing(tables, flags):
    journal = journal_of(tables, asset("a1"))
    journal.write_text(journal.read_text().splitlines(True)[0].replace('"stem":"', '"stem":"killed_'))
    result = run(tables, "--journal", journal, *flags)
    assert result.status == 1 and ("", "", "nothing_found", "") in result.found


def test_a_journal_of_another_endpoint_is_refused(tables, capsys):
    journal = journal_of(tables, asset("a1"))
    journal.write_text(journal.read_text().replace(tables.engine.endpoint_url, "http://localhost:1"))
    assert verify.main(tables.flags + ["--journal", str(journal)]) == migration.EXIT_USAGE
    assert "its endpoint_url is http://localhost:1, not " in capsys.readouterr().err


def test_migrated_assets_that_no_journal_covers_are_counted(tables, monkeypatch):
    monkeypatch.setattr(verify, "NAMED_IN_ROW", 10)
    first = journal_of(tables, asset("a1"), asset("a2"))
    second = journal_of(tables, asset("b1"))
    put_healthy(tables, *("c%02d" % number for number in range(12)))
    tables.put(asset("old"))
    result = run(tables, "--journal", first)
    (row,) = [row for row in result.rows if row["error_type"] == "no_before_image"]
    assert row["actual"] == "13" and "db01 / b1, db01 / c00, " in row["error_message"]
    assert row["error_message"].endswith("db01 / c08 and others.")
    assert result.summary["journals_not_given"] == []  # it lies elsewhere
    second_here = first.with_name("second.jsonl")
    second_here.write_text(second.read_text())
    assert run(tables, "--journal", first).summary["journals_not_given"] == [str(second_here)]
    assert run(tables, "--journal", first, second_here).summary["journals_not_given"] == []
    result = run(tables, "--journal", first, second)
    assert [row["actual"] for row in result.rows if row["error_type"] == "no_before_image"] == ["12"]
    assert result.summary["notes"]["no_before_image"] == 12
    assert run(tables).summary["notes"] == {}


def test_where_a_journal_is_missing_it_is_verified_in_part_and_what_users_made_needs_none(tables, capsys):
    """The wrapper ran in two folders; and the application has made an asset, and a version of another, since."""
    first = journal_of(tables, asset("a1"))
    second = journal_of(tables, asset("b1"), asset("b2"))
    put_healthy(tables, "new")
    tables.put(changed(tables.asset("db01", "b2"), {"currentVersionId": "4"}))
    made = changed(record("b2"), {"assetVersionId": "4", **BY_ANN})
    tables.put_records(changed(record("new"), BY_ANN), made, record("b2", isCurrentVersion=FALSE))
    both_parts = [("", "", "made_in_v23", ""), ("", "", "no_before_image", "")]
    for flags, verdict, notes in (
        (["--journal", first], "VERIFIED IN PART", {"no_before_image": 1, "made_in_v23": 2}),
        (["--journal", first, "--database-id", "db01", "--asset-id", "a1"], "VERIFIED", {}),
        ([], "VERIFIED IN PART", {}),
    ):
        result = run(tables, *flags)
        assert (result.status, verify.verdict(result.summary)[0]) == (0, verdict), flags
        assert {name: result.summary["notes"].get(name) for name in notes} == notes
        assert [row for row in result.found if row[2] != "shared_asset_id"] == (both_parts if notes else [])
    cut_off_end(second)
    capsys.readouterr()
    assert run(tables, "--journal", second).summary["notes"]["no_before_image"] == 1
    assert "INTERRUPTED" in capsys.readouterr().out.split("Problems:")[1]
    assert "no_before_image" not in run(tables, "--journal", first, second).summary["notes"]
    plan, result = capsys.readouterr().out.split("Problems:")
    assert "INTERRUPTED" in plan and "INTERRUPTED" not in result


def test_one_asset_alone(tables):
    journal = journal_of(tables, asset("a1"), asset("a2"), asset("a1", "db02"))
    for database_id in ("db01", "db02"):
        tables.put(changed(tables.asset(database_id, "a1"), {"isMultiFile": FALSE}))
    flags = ["--database-id", "db01", "--asset-id", "a1"]
    result = run(tables, *flags)
    assert (result.summary["assets"], result.found) == (1, [("db01", "a1", "legacy_field", "isMultiFile")])
    result = run(tables, *flags, "--journal", journal)
    assert result.summary["before_images"] == 1 and {row[:2] for row in result.found} == {("db01", "a1")}


def test_a_rehearsal_of_any_size_ends_verified(tables):
    """Whatever the limit leaves out: twins, other databases' assets of the same assetId."""
    tables.load(sample_assets(120))
    for limit in (1, 2, 3, 5, 8, 13, 21, 34, 55, 70, 89, 119, 120):
        assert tables.migrate("--limit", str(limit)).status == 0
        result = run(tables, "--limit", str(limit), "--journal", *tables.folder.glob("run-*/backups"))
        assert (result.status, result.summary["problems"]) == (0, {}), limit
        assert result.summary["assets"] == result.summary["before_images"] == limit
        assert "no_before_image" not in result.summary["notes"]


def test_a_rehearsal_of_one_partition_ends_verified(tables):
    tables.load(sample_assets(200))
    names = sorted({key[0] for key in tables.contents()[0]})
    assert any(name.endswith(DELETED) for name in names)
    for name in names:
        run_of_one = tables.migrate("--database-id", name)
        result = run(tables, "--database-id", name, "--journal", run_of_one.journal)
        assert (run_of_one.status, result.status, result.summary["problems"]) == (0, 0, {}), name


# --------------------------------------------------------------------------------------
# What is still to do, over all runs
# --------------------------------------------------------------------------------------


def to_do_of(result):
    return {
        (row["asset_id"], row["field"]): row["error_message"] for row in result.rows if row["error_type"] == "to_do"
    }


def test_what_a_person_has_to_do_is_known_without_any_report(tables):
    """Whichever run met it: one was killed, of another the report is lost."""
    tables.put(asset("done"), asset("file", assetLocation=M(Key="old/radio 1.glb")))
    first = tables.migrate()
    tables.put(
        asset("folder", assetLocation=M(Key="old/", Bucket="former")),
        asset("preview", previewLocation=M(Key="previews/p.png", Bucket="former")),
        asset("odd", isDistributable=S("False"), description=None, tags=None),
        asset("pipes", currentVersion=version(specifiedPipelines=L("p1", N(1)))),
        asset("previews"),
        asset("inside", assetLocation=M(Key="inside/sub/x.glb", Bucket="former")),
        asset("here", assetLocation=M(Key="here/x.glb", Bucket=BUCKET)),
    )
    second = tables.migrate()
    result = run(tables, "--journal", first.journal, second.journal)
    assert result.status == 0
    messages = to_do_of(result)
    assert set(messages) == {
        ("file", "assetLocation"), ("folder", "assetLocation"), ("preview", "previewLocation"),
        ("odd", "isDistributable"), ("odd", "description"), ("pipes", "specifiedPipelines"), ("previews", "assetId"),
        ("inside", "assetLocation"),
    }  # fmt: skip
    assert messages["file", "assetLocation"].endswith(
        "Copy its files: aws s3 cp 's3://%s/old/radio 1.glb' 's3://%s/file/radio 1.glb'" % (BUCKET, BUCKET)
    )
    assert messages["folder", "assetLocation"].endswith(
        "Copy its files: aws s3 cp --recursive s3://former/old/ s3://%s/folder/" % BUCKET
    )
    assert messages["preview", "previewLocation"].endswith(
        "aws s3 cp s3://former/previews/p.png s3://%s/previews/p.png" % BUCKET
    )
    copied = "aws s3 cp s3://former/inside/sub/x.glb s3://%s/inside/sub/x.glb" % BUCKET
    assert (
        messages["inside", "assetLocation"]
        == "Its bucket was former. If its files are there alone, copy them: " + copied
    )
    values = {row["asset_id"]: (row["actual"], row["expected"]) for row in result.rows if row["field"] != "description"}
    assert values == {
        "inside": ("s3://former/inside/sub/x.glb", "s3://%s/inside/sub/x.glb" % BUCKET),
        "file": ("s3://%s/old/radio 1.glb" % BUCKET, "s3://%s/file/radio 1.glb" % BUCKET),
        "folder": ("s3://former/old/", "s3://%s/folder/" % BUCKET),
        "preview": ("s3://former/previews/p.png", "s3://%s/previews/p.png" % BUCKET),
        "odd": ("False", "true or false"),
        "pipes": ("absent", "names of pipelines"),
        "previews": ("previews", "a folder of its own"),
    }
    assert to_do_of(run(tables)) == {}


def test_what_is_done_is_not_to_do_any_more(tables):
    journal = journal_of(tables, asset("a1", isDistributable=S("False"), assetLocation=M(Key="old/a.glb")))
    assert len(to_do_of(run(tables, "--journal", journal))) == 2
    tables.put(changed(tables.asset("db01", "a1"), {"isDistributable": TRUE}))
    assert set(to_do_of(run(tables, "--journal", journal))) == {("a1", "assetLocation")}


def test_the_copying_command_names_the_profile():
    places = verify.places(M(Key="-a.glb"), M(Key="a1/", Bucket=BUCKET), BUCKET)
    command = verify.copy_command(*places, "my profile")
    assert command == "aws --profile 'my profile' s3 cp s3://%s/-a.glb s3://%s/a1/-a.glb" % (BUCKET, BUCKET)


def test_an_asset_that_failed_says_why_whichever_run_met_it(tables):
    tables.put(asset("a1"), asset("b1"), asset("c1", currentVersion=version(Version="three")))
    tables.put_records(record("a1", comment="another asset's"))
    failed = tables.migrate()
    assert failed.codes == {"version_conflict", "invalid_version_id"}
    messages = {row["asset_id"]: row["error_message"] for row in run(tables, "--journal", failed.journal).rows}
    assert "Its version record 3 would take the place of another one, which differs in comment" in messages["a1"]
    assert (
        "cannot (invalid_version_id): The version number is not an integer" in messages["c1"] and "b1" not in messages
    )


# --------------------------------------------------------------------------------------
# After a rollback
# --------------------------------------------------------------------------------------


def roll_back(tables, *journals):
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    return rollback.main([*tables.flags, "--yes", "--journal", *map(str, journals)])


def test_after_a_rollback_everything_is_as_it_was(tables, capsys):
    tables.load(sample_assets(200))
    before = tables.contents()
    runs = [tables.migrate("--limit", "90"), tables.migrate()]
    folders = [run_of.journal.parent for run_of in runs]
    result = run(tables, "--restored", "--journal", *folders)
    assert (result.status, result.summary["problems"]) == (1, {"not_restored": 200})  # assets, not attributes
    assert result.summary["rows"] == len(result.rows) > 400 and result.summary["notes"] == {}
    assert roll_back(tables, *folders) == 0
    assert run(tables, "--journal", *folders).summary["problems"] == {"not_migrated": 200}
    *_, step, command = capsys.readouterr().out.splitlines()
    assert step == "Next: the last run was rolled back; see that all is as it was before:"
    assert command.endswith(" --restored")
    capsys.readouterr()
    page = tables.folder / "page.html"
    result = run(tables, "--restored", "--journal", *folders, "--html", page)
    assert (result.status, result.rows, result.summary["before_images"]) == (0, [], 200)
    assert (
        "\nVERIFIED: after a rollback, 200 assets compared with before the migration; no problems, no notes.\n"
        in capsys.readouterr().out
    )
    assert "after a rollback, 200 assets compared with before the migration" in page.read_text(encoding="utf-8")
    assert tables.contents() == before


def test_of_two_runs_the_last_one_is_taken_back(tables, capsys):
    tables.put(asset("a1"), asset("a2"))
    for number in (1, 2):
        assert migration.main([*tables.flags, "--limit", str(number), "--journal-dir", "backups"]) == 0
    first, second = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    for journal, step, flags in (
        (second, "Next: the last run was rolled back;", "_verify.py %s --journal %s --restored"),
        (first, "Next: the last run was rolled back;", "_verify.py %s --journal backups --restored"),
    ):
        assert roll_back(tables, journal) == 0
        for given in ([], ["--journal", "backups"]):
            capsys.readouterr()
            assert verify.main([*tables.flags, *given]) == 1
            *_, said, command = capsys.readouterr().out.splitlines()
            flags = flags.replace("%s", " ".join(tables.flags), 1).replace("%s", second)
            assert said.startswith(step) and command.endswith(flags)


def test_what_a_rollback_left_is_named(tables):
    assets = [asset(name) for name in ("asis", "deleted", "edited", "owned", "record", "other", "users")]
    journal = journal_of(tables, *assets)
    tables.put(changed(tables.asset("db01", "owned"), {"previewLocation": None}))
    tables.put(changed(tables.asset("db01", "edited"), {"description": "new"}))
    assert roll_back(tables, journal) == 1
    tables.put_records(record("record"))
    tables.put_records(record("other", comment="of others"), record("users", **BY_ANN))
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("deleted")})
    result = run(tables, "--restored", "--journal", journal)
    owned = {
        name for name in migration.OWNED_FIELDS if asset("owned").get(name) != tables.asset("db01", "owned").get(name)
    }
    assert result.status == 1
    assert result.found == sorted(
        [
            ("db01", "deleted", "asset_missing", ""),
            ("db01", "edited", "edited_since", "description"),
            ("db01", "other", "record_left", "assetVersionId"),
            ("db01", "record", "record_left", "assetVersionId"),
            ("db01", "users", "record_of_user", "assetVersionId"),
        ]
        + [("db01", "owned", "not_restored", name) for name in owned]
    )


def test_a_record_that_somebody_needs_may_be_left(tables):
    """Taken back by the live asset's journal alone, while the archived one relies on its record."""
    tables.put(asset("a1"), asset("a1", "db01" + DELETED))
    live = tables.migrate("--database-id", "db01")
    archived = tables.migrate("--database-id", "db01" + DELETED)
    assert roll_back(tables, live.journal) == 0
    assert tables.record("a1", "3")
    assert run(tables, "--restored", "--journal", live.journal).found == [("", "", "still_migrated", "")]
    assert roll_back(tables, archived.journal) == 0
    result = run(tables, "--restored", "--journal", live.journal, archived.journal)
    assert [row[2] for row in result.found] == ["record_left"]
    assert roll_back(tables, live.journal, archived.journal) == 0
    assert run(tables, "--restored", "--journal", live.journal, archived.journal).found == []


def test_the_record_of_an_archived_asset_that_is_back_may_be_the_history_of_its_live_one(tables):
    """Both had version 3; users made version 4 of the live one, which therefore stays."""
    tables.put(asset("a1"), asset("a1", "db01" + DELETED))
    journal = tables.migrate().journal
    tables.put(changed(tables.asset("db01", "a1"), {"currentVersionId": "4"}))
    tables.put_records(record("a1", isCurrentVersion=FALSE), record("a1", assetVersionId="4", **BY_ANN))
    assert roll_back(tables, journal) == 1
    result = run(tables, "--restored", "--journal", journal)
    assert tables.record("a1", "3") and {row[:3] for row in result.found} == {("db01", "a1", "not_restored")}


def test_what_a_person_did_for_a_to_do_row_is_no_problem(tables):
    odd = {"isDistributable": S("maybe"), "assetName": None}
    dropped = version(specifiedPipelines={"L": [{"N": "7"}]})
    assets = [asset("a1", **odd), asset("a2", **odd), asset("a3", **odd), asset("a4", currentVersion=dropped)]
    journal = journal_of(tables, *assets)
    assert {row[2:] for row in run(tables, "--journal", journal).found} == {
        ("to_do", "isDistributable"), ("to_do", "assetName"), ("to_do", "specifiedPipelines")
    }  # fmt: skip
    tables.put(changed(tables.asset("db01", "a1"), {"isDistributable": TRUE, "assetName": "Chair"}))
    tables.put(changed(tables.asset("db01", "a2"), {"isDistributable": S("no"), "assetName": {"N": "1"}}))
    tables.put_records(changed(tables.record("a4", "3"), {"specifiedPipelines": {"L": [S("p7")]}}))
    assert run(tables, "--journal", journal).found == [
        ("db01", "a2", "asset_content_differs", "assetName"),
        ("db01", "a2", "asset_content_differs", "isDistributable"),
        ("db01", "a3", "to_do", "assetName"),
        ("db01", "a3", "to_do", "isDistributable"),
        ("db01", "a4", "to_do", "specifiedPipelines"),
    ]
    for none in ({"L": [{"N": "7"}]}, {"L": [{"N": "7"}, S("p7")]}, S("p7"), None):
        tables.put_records(changed(tables.record("a4", "3"), {"specifiedPipelines": none}))
        assert ("db01", "a4", "record_content_differs", "specifiedPipelines") in run(tables, "--journal", journal).found


def test_what_users_archived_and_made_anew_is_not_called_migrated_by_a_run_whose_journal_is_missing(tables):
    journal = journal_of(tables, asset("a1"), asset("b1"))
    tables.put(changed(tables.asset("db01", "a1"), {"databaseId": "db01" + DELETED}))
    tables.put(migrated("a1", currentVersionId="1", description=S("another")))
    tables.put_records(record("a1", assetVersionId="1", **BY_ANN), record("a1", isCurrentVersion=FALSE))
    tables.put(migrated("b1", "db01" + DELETED, assetName=S("of a run whose journal is missing")))
    result = run(tables, "--journal", journal)
    notes = {row["error_type"]: row["error_message"] for row in result.rows if not row["asset_id"]}
    assert set(notes) == {"made_in_v23", "no_before_image"}
    assert notes["made_in_v23"].endswith(": db01%s / a1." % DELETED)
    assert notes["no_before_image"].endswith(": db01%s / b1." % DELETED)


def test_names_that_the_migration_took_over_are_not_those_of_users_of_v23(tables):
    """The journal of one run is lost; v2.2 had written createdBy."""
    named = version(createdBy=S("ann"))
    tables.put(asset("a"), asset("b", "db02", currentVersion=named), asset("c", currentVersion=named))
    tables.put_records(record("c", createdBy="ann"))  # of a killed run whose journal is lost
    first = tables.migrate("--database-id", "db01").journal
    tables.migrate("--database-id", "db02")
    result = run(tables, "--journal", first)
    assert (result.status, result.summary["notes"]) == (0, {"no_before_image": 1})
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"
    assert roll_back(tables, first) == 0
    result = run(tables, "--restored", "--journal", first)
    assert result.summary["notes"] == {"still_migrated": 1, "record_unexplained": 1}
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"


@pytest.mark.parametrize("scope", [[], ["--limit", "2"], ["--database-id", "db01", "--asset-id", "a"]])
def test_a_later_run_that_was_taken_back_hides_nothing_of_an_earlier_one(tables, scope):
    tables.put(asset("a", isDistributable=S("True")), asset("b"))
    first, second = tables.migrate().journal, tables.migrate("--repair").journal
    assert roll_back(tables, second) == 0
    both = ["--journal", first, second, *scope]
    assert run(tables, *both).found == [("db01", "a", "to_do", "isDistributable")]
    left = tables.asset("db01", "a")
    tables.put(changed(left, {"tags": None}))
    assert ("db01", "a", "asset_content_differs", "tags") in run(tables, *both).found
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("a")})
    if "--asset-id" not in scope and "--limit" not in scope:
        assert ("db01", "a", "asset_missing", "") in run(tables, *both).found


@pytest.mark.parametrize("database", ["db01", "db01#deleted"])
@pytest.mark.parametrize("repairs", [1, 2])
def test_the_version_record_of_an_asset_that_was_only_repaired_since_is_compared(tables, database, repairs):
    tables.put(asset("a", database, isDistributable=S("True"), description=NULL), asset("b"))
    runs = [tables.migrate()]
    for name, odd in [("isDistributable", S("True")), ("assetName", NULL)][:repairs]:
        tables.put(changed(tables.asset(database, "a"), {name: odd}))
        runs.append(tables.migrate("--repair"))
    journals = ["--journal", *(done.journal for done in runs)]
    assert run(tables, *journals).found == []
    tables.put_records(record("a", comment="another"))
    assert run(tables, *journals).found == [(database, "a", "record_content_differs", "comment")]
    # Users have gone on from it: it is history, and the newest version is theirs.
    tables.put(changed(tables.asset(database, "a"), {"currentVersionId": "4"}))
    tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4", **BY_ANN))
    found = run(tables, *journals).found
    assert found == [(database, "a", "asset_content_differs", "currentVersionId")]


def test_so_it_is_where_a_later_run_only_removed_what_is_of_v22(tables):
    tables.put(asset("a"))
    runs = [tables.migrate()]
    tables.put(changed(tables.asset("db01", "a"), {"pipelineId": ""}))
    runs.append(tables.migrate())
    journals = ["--journal", *(done.journal for done in runs)]
    assert run(tables, *journals).found == []
    tables.put_records(record("a", createdBy="eve"))
    assert run(tables, *journals).found == [("db01", "a", "record_content_differs", "createdBy")]


LEFT = [("db01", "a", "left_by_rollback", ""), ("db01", "a", "to_do", "assetLocation")]


@pytest.mark.parametrize("edits", [{}, {"pipelineId": ""}])
def test_an_asset_that_a_rollback_left_and_a_later_run_found_migrated(tables, edits):
    """Only the run that was taken back tells what it was in v2.2, and what a person has to do."""
    tables.put(asset("a", isDistributable=S("True"), assetLocation=M(Key="elsewhere/x.glb")), asset("b"))
    runs = [tables.migrate()]
    preview = {"previewLocation": M(Key="a/new.png", Bucket=BUCKET)}
    tables.put(changed(tables.asset("db01", "a"), {**edits, **preview}))
    assert roll_back(tables, runs[0].journal) == 1
    runs += [tables.migrate("--repair")]
    result = run(tables, "--journal", *(done.journal for done in runs))
    assert (sorted(result.found), verify.verdict(result.summary)[0]) == (LEFT, "VERIFIED IN PART")


def test_an_asset_that_rollbacks_of_two_runs_left(tables):
    """The second one found it migrated."""
    tables.put(asset("a", assetLocation=M(Key="elsewhere/x.glb")))
    runs = [tables.migrate()]
    tables.put(changed(tables.asset("db01", "a"), {"pipelineId": ""}))
    runs += [tables.migrate()]
    left = tables.asset("db01", "a")
    tables.put(changed(left, {"previewLocation": M(Key="a/new.png", Bucket=BUCKET)}))
    assert roll_back(tables, *(done.journal for done in runs)) == 1
    tables.put(left)
    tables.put_records(record("a", comment="another"))
    result = run(tables, "--journal", *(done.journal for done in runs))
    assert (sorted(result.found), verify.verdict(result.summary)[0]) == (LEFT, "VERIFIED IN PART")


def test_an_older_run_that_was_taken_back_does_not_tell_what_a_newer_one_left(tables):
    tables.put(asset("a", tags=L("old")))
    runs = [tables.migrate()]
    assert roll_back(tables, runs[0].journal) == 0
    as_first = migrated("a", tags=L("old"))
    tables.put(asset("a", tags=L("new"), previewLocation=M(Key="previews/q.png")))
    runs.append(tables.migrate())
    tables.put(as_first)
    assert roll_back(tables, runs[1].journal) == 1
    result = run(tables, "--journal", *(done.journal for done in runs))
    assert [row[2] for row in result.found] == ["left_by_rollback"]


def test_what_is_entered_after_a_repair_of_something_else_is_no_problem(tables):
    tables.put(asset("a", isDistributable=S("odd"), description=NULL))
    runs = [tables.migrate(), tables.migrate("--repair")]
    journals = ["--journal", *(done.journal for done in runs)]
    assert run(tables, *journals).found == [("db01", "a", "to_do", "isDistributable")]
    tables.put(changed(tables.asset("db01", "a"), {"isDistributable": FALSE}))
    assert run(tables, *journals).found == []
    tables.put(changed(tables.asset("db01", "a"), {"isDistributable": FALSE, "description": S("damaged")}))
    assert run(tables, *journals).found == [("db01", "a", "asset_content_differs", "description")]


def test_a_before_image_that_its_own_run_superseded_tells_nothing(tables, monkeypatch):
    """The application touched one asset after it was read, users of v2.2 moved the file of another one."""
    tables.put(asset("a", currentVersion=version(Version="1")), asset("b", assetLocation=M(Key="pipelines/x.glb")))

    def touch():
        touched = {"currentVersion": None, "versions": None, "currentVersionId": "1"}
        tables.put(changed(asset("a"), touched), asset("b", assetLocation=M(Key="b/x.glb")))
        tables.put_records(record("a", assetVersionId="1", comment="hers", **BY_ANN))

    before_first(monkeypatch, "UPDATE", touch)
    done = tables.migrate()
    assert run(tables, "--journal", done.journal).found == []
    assert roll_back(tables, done.journal) == 0
    assert run(tables, "--restored", "--journal", done.journal).found == []


def test_an_asset_that_the_application_touched_first_is_compared_whole_after_a_rollback(tables):
    tables.put(changed(asset("a"), {"currentVersion": None, "versions": None, "currentVersionId": "3"}))
    tables.put_records(record("a", **BY_ANN))
    done = tables.migrate()
    assert roll_back(tables, done.journal) == 0
    tables.put(changed(tables.asset("db01", "a"), {"currentVersionId": None, "assetLocation": S("damaged")}))
    found = run(tables, "--restored", "--journal", done.journal).found
    assert ("db01", "a", "not_restored", "assetLocation") in found


def test_what_the_migration_left_to_nobody_is_not_seen_to(tables):
    tables.put(asset("a", isDistributable=None))
    done = tables.migrate()
    tables.put(changed(tables.asset("db01", "a"), {"isDistributable": TRUE}))
    found = run(tables, "--journal", done.journal).found
    assert found == [("db01", "a", "asset_content_differs", "isDistributable")]


@pytest.mark.parametrize("name, value", [("previewLocation", M(Key="a/p.png")), ("assetLocation", M(Key="a/x.glb"))])
def test_a_later_run_that_also_sets_a_location_hides_no_version_record(tables, name, value):
    tables.put(asset("a"))
    runs = [tables.migrate()]
    tables.put(changed(tables.asset("db01", "a"), {"pipelineId": "", name: value}))
    journals = ["--journal", runs[0].journal, tables.migrate().journal]
    assert run(tables, *journals).found == []
    tables.put_records(record("a", comment="another"))
    assert run(tables, *journals).found == [("db01", "a", "record_content_differs", "comment")]


def test_an_asset_of_v23_in_the_place_of_one_that_users_archived_keeps_its_record(tables):
    tables.put(asset("a", currentVersion=version(Version="1")), asset("b"))
    first = tables.migrate().journal
    tables.put({**tables.asset("db01", "a"), "databaseId": S("db01" + DELETED)})
    tables.put(migrated("a", currentVersionId="1", assetName="Another", description=NULL))
    tables.put_records(record("a", assetVersionId="1", comment="hers", **BY_ANN))
    second = tables.migrate("--repair").journal
    assert run(tables, "--journal", first, second).status == 0


@pytest.mark.parametrize("location", [M(Key="a/x.glb"), M(Key="a/x.glb", Bucket=BUCKET)])
def test_a_plan_that_came_to_nothing_is_not_compared_with_what_the_application_made(tables, monkeypatch, location):
    """A run was killed before it wrote; the old location may have the form that the migration leaves."""
    old = asset("a", assetLocation=location, currentVersion=version(Version="1"))
    tables.put(old)

    def kill():
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        before_first(patch, "INSERT", kill)
        migration.main(tables.flags)
    tables.put(changed(old, {"currentVersion": None, "versions": None, "currentVersionId": "1"}))
    tables.put_records(record("a", assetVersionId="1", comment="hers", **BY_ANN))
    assert migration.main(tables.flags) == 0
    assert len(os.listdir("backups")) == 2
    assert run(tables, "--journal", "backups").summary["problems"] == {}


def test_a_version_record_of_the_application_is_not_compared_with_an_older_plan(tables):
    """A run that was killed had read the asset before the application touched it."""
    tables.put(asset("a", currentVersion=version(Version="1")))
    first = tables.migrate("--asset-id", "a", "--database-id", "db01").journal
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a"), "assetVersionId": S("1")})
    touched = {"currentVersion": None, "versions": None, "currentVersionId": "1"}
    tables.put(changed(asset("a"), touched))
    tables.put_records(record("a", assetVersionId="1", comment="hers", **BY_ANN))
    second = tables.migrate().journal
    assert run(tables, "--journal", first, second).found == []


def test_the_journal_of_a_repair_tells_of_no_migration(tables):
    tables.put(asset("a", isDistributable=S("True")), asset("b"))
    runs = [tables.migrate(), tables.migrate("--repair")]
    tables.put(migrated("new", description=NULL))
    tables.put_records(record("new", **BY_ANN))
    runs.append(tables.migrate("--repair"))
    result = run(tables, "--journal", *(done.journal for done in runs))
    assert (result.found, result.summary["before_images"]) == ([], 3)
    result = run(tables, "--journal", *(done.journal for done in runs[1:]))
    assert (result.status, result.summary["notes"]) == (0, {"no_before_image": 2})
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"


@pytest.fixture
def one_image_after_the_other(monkeypatch):
    """As in a large table, where the before images of one asset are far apart."""
    look = verify.Verification.verify_image
    locks = collections.defaultdict(asyncio.Lock)

    async def look_in_turn(self, run, image):
        async with locks[self]:
            await look(self, run, image)

    monkeypatch.setattr(verify.Verification, "verify_image", look_in_turn)


def test_a_repair_that_was_taken_back_and_entered_by_hand_hides_no_record(tables, one_image_after_the_other):
    tables.put(asset("a", isDistributable=S("True")))
    runs = [tables.migrate(), tables.migrate("--repair")]
    assert roll_back(tables, runs[1].journal) == 0
    tables.put(changed(tables.asset("db01", "a"), {"isDistributable": TRUE}))
    journals = ["--journal", *(done.journal for done in runs)]
    assert run(tables, *journals).found == []
    tables.put_records(record("a", comment="another"))
    assert run(tables, *journals).found == [("db01", "a", "record_content_differs", "comment")]


def test_it_says_what_it_does_not_compare_after_a_rollback_for_each_journal(tables, capsys):
    tables.put(asset("a"), asset("b", "db02"))
    for name in ("db01", "db02"):
        assert migration.main([*tables.flags, "--database-id", name]) == 0
    first, second = sorted(map(str, pathlib.Path("backups").iterdir()))
    assert roll_back(tables, first) == 0 and roll_back(tables, second) == 0
    capsys.readouterr()
    again = tables.folder / "reports"
    done = [(path, json.loads(path.read_text())) for path in again.glob("rollback_*_summary.json")]
    done.sort(key=lambda one: one[1]["opened"])
    (path, of_first), _ = done
    newest = json.loads(pathlib.Path(second).read_text().splitlines()[0])
    before = {"started": newest["started"], "opened": newest["opened"] - 0.001}
    for began, left_out in ({}, []), (before, [first]):  # no run began since, or the second
        path.write_text(json.dumps({**of_first, **began}))
        for given in (["backups"], [first, second], ["backups", first]):  # a shell may have made names of a pattern
            result = run(tables, "--restored", "--journal", *given)
            assert result.summary["journals_left_out"] == left_out
            assert result.summary["before_images"] == 2 - len(left_out)
    assert "\n  not compared: %s, taken back by an earlier rollback; compared where" % first in capsys.readouterr().out
    result = run(tables, "--restored", "--journal", first)
    assert (result.summary["journals_left_out"], result.summary["before_images"]) == ([], 1)
    for path, summary in done:  # as by a clock that is slow
        path.write_text(json.dumps({**summary, **before}))
    assert run(tables, "--restored", "--journal", "backups").summary["before_images"] == 2


def test_what_a_rollback_took_back_further_than_the_journals_given_tell_is_no_problem(tables):
    tables.put(asset("a", isDistributable=S("True"), assetLocation=M(Key="a/x.glb")))
    first, second = tables.migrate().journal, tables.migrate("--repair").journal
    assert roll_back(tables, first, second) == 0
    assert {row[2] for row in run(tables, "--restored", "--journal", second).found} == {"edited_since"}
    tables.put(asset("a", isDistributable=TRUE))
    found = run(tables, "--restored", "--journal", second).found
    assert [row for row in found if row[2] != "edited_since"] == [("db01", "a", "not_restored", "isDistributable")]


def test_a_date_that_a_person_set_right_is_no_problem(tables):
    tables.put(asset("a", currentVersion=version(DateModified="2023-05-04 10:11")))
    done = tables.migrate()
    assert run(tables, "--journal", done.journal).found == [("db01", "a", "date_not_recognised", "dateCreated")]
    for date, found in (
        ("2023-05-04T10:11:00Z", []),
        ("May 4", [("db01", "a", "record_content_differs", "dateCreated")]),
    ):
        tables.put_records(record("a", dateCreated=date))
        result = run(tables, "--journal", done.journal)
        assert [row for row in result.found if row[2] != "date_not_recognised"] == found


def test_an_asset_without_a_field_that_is_removed_is_compared_after_a_rollback(tables):
    journal = journal_of(tables, asset("a", **dict.fromkeys(migration.REMOVED_FIELDS)))
    assert roll_back(tables, journal) == 0
    assert run(tables, "--restored", "--journal", journal).found == []
    tables.put(changed(tables.asset("db01", "a"), {"assetLocation": S("elsewhere")}))
    result = run(tables, "--restored", "--journal", journal)
    assert result.found == [("db01", "a", "not_restored", "assetLocation")]


@pytest.mark.parametrize("how", ["preview", "version"])
def test_an_asset_that_was_edited_between_two_runs_was_not_taken_back(tables, how):
    """Its later run, a repair, was; the earlier one tells what it was in v2.2."""
    tables.put(asset("a", isDistributable=S("True")), asset("b"))
    first = tables.migrate().journal
    edits = {"previewLocation": M(Key="a/new.png", Bucket=BUCKET)} if how == "preview" else {"currentVersionId": "4"}
    tables.put(changed(tables.asset("db01", "a"), edits))
    if how == "version":
        tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4", **BY_ANN))
    second = tables.migrate("--repair").journal
    assert roll_back(tables, first, second) == 1
    result = run(tables, "--restored", "--journal", first, second)
    assert result.status == 1 and {row[:3] for row in result.found} == {("db01", "a", "not_restored")}


@pytest.mark.parametrize("left", ["asset", "nothing"])
def test_what_a_rollback_left_is_not_compared_with_its_runs_and_said_so(tables, left):
    """After another migration: an asset that a user had edited; it is there, or gone."""
    tables.put(asset("a"), asset("b"))
    first = tables.migrate().journal
    tables.put(changed(tables.asset("db01", "a"), {"previewLocation": M(Key="a/new.png", Bucket=BUCKET)}))
    assert roll_back(tables, first) == 1
    second = tables.migrate().journal
    if left == "nothing":
        tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("a")})
    result = run(tables, "--journal", first, second)
    names = {"asset": ("left_by_rollback", "VERIFIED IN PART"), "nothing": ("gone_since", "VERIFIED")}[left]
    assert (result.status, [row[2] for row in result.found], verify.verdict(result.summary)[0]) == (
        0,
        [names[0]],
        names[1],
    )
    assert result.rows[0]["asset_id"] == "a" and result.summary["before_images"] == 1


def test_a_rollback_is_known_also_in_another_folder_than_its_reports(tables, tmp_path_factory, monkeypatch, capsys):
    """A journal says where its run had them. An asset is edited before the rollback, and another one gone after it."""
    tables.put(asset("a"), asset("b"))
    folders = ["--journal-dir", "backups", "--report-dir", "reports"]
    assert migration.main([*tables.flags, *folders]) == 0
    tables.put(changed(tables.asset("db01", "a"), {"previewLocation": M(Key="a/new.png", Bucket=BUCKET)}))
    assert roll_back(tables, "backups") == 1
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("b")})
    assert migration.main([*tables.flags, *folders]) == 0
    journals = tables.folder / "backups"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert {row[1:3] for row in run(tables, "--journal", journals).found} == {
        ("a", "left_by_rollback"),
        ("b", "gone_since"),
    }
    os.rename(str(tables.folder / "reports"), str(tables.folder / "moved"))
    assert {row[1:3] for row in run(tables, "--journal", journals).found} == {
        ("a", "asset_content_differs"),
        ("b", "asset_missing"),
    }


def test_a_rollback_by_less_than_now_has_not_done_what_it_can(tables, capsys):
    """By a part of a journal, whose whole one was found; by the earlier of two journals alone."""
    tables.put(*(asset("a%d" % number) for number in range(4)), asset("odd", isDistributable=S("True")))
    done = tables.migrate()
    repaired = tables.migrate("--repair").journal
    text = done.journal.read_text()
    done.journal.write_text("".join(text.splitlines(True)[:3]))
    os.remove(str(done.journal).replace("backups", "reports").replace(".jsonl", "_summary.json"))

    def next_of_restored():
        capsys.readouterr()
        verify.main([*tables.flags, "--restored", "--journal", str(done.journal)])
        return capsys.readouterr().out.split("\nNext: ")[1]

    assert roll_back(tables, done.journal, repaired) == 0
    assert "still migrated" in next_of_restored()
    done.journal.write_text(text)
    assert "_rollback.py " in next_of_restored().splitlines()[1]
    assert roll_back(tables, done.journal) == 0
    assert next_of_restored().startswith("nothing is left to take back")


def test_a_journal_beside_is_named_also_where_all_of_its_assets_are_gone(tables):
    tables.put(asset("a"), asset("b", "db02"))
    assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
    assert migration.main([*tables.flags, "--database-id", "db02"]) == 0
    first, second = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db02"), "assetId": S("b")})
    result = run(tables, "--journal", first)
    assert (result.found, result.summary["journals_not_given"]) == ([], [second])
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"
    assert run(tables, "--journal", first, "--database-id", "db01").summary["journals_not_given"] == []


@pytest.mark.parametrize("date", [S("unknown"), S("24/06/2025")])
def test_a_date_that_is_none_is_no_proof_of_a_user(tables, date):
    named = version(createdBy=S("ann"), DateModified=date)
    tables.put(asset("a"), asset("b", "db02", currentVersion=named))
    first = tables.migrate("--database-id", "db01").journal
    tables.migrate("--database-id", "db02")
    assert run(tables, "--journal", first).summary["notes"] == {"no_before_image": 1, "date_not_recognised": 1}


def test_an_archived_asset_whose_live_one_is_as_it_was_left_is_not_that_one(tables):
    tables.put(asset("a"), asset("a", "db01" + DELETED), asset("b"))
    tables.migrate("--database-id", "db01" + DELETED)
    journal = tables.migrate("--database-id", "db01").journal
    assert "no_before_image" in run(tables, "--journal", journal).summary["notes"]


def test_the_record_of_an_asset_that_had_two_version_ids_before_is_needed(tables):
    """The application had made version 7 of it, here or in another database; a rollback leaves it so."""
    tables.put(asset("a", currentVersionId="7"), asset("b"), asset("b", "db02", currentVersionId="7"))
    tables.put_records(*(record(name, assetVersionId="7", **BY_ANN) for name in "ab"))
    before = tables.contents()
    journal = tables.migrate("--database-id", "db01").journal
    assert roll_back(tables, journal) == 0 and tables.contents() == before
    assert run(tables, "--restored", "--journal", journal).found == []


def test_a_journal_beside_that_was_not_given_makes_it_in_part(tables, capsys):
    """All its assets are those of users by now; or it has left records only, and no asset."""
    tables.put(asset("a"), asset("b", "db02"))
    assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
    assert migration.main([*tables.flags, "--database-id", "db02"]) == 0
    first, second = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    tables.put(changed(tables.asset("db02", "b"), {"currentVersionId": "4", "tags": None}))
    tables.put_records(record("b", isCurrentVersion=FALSE), record("b", assetVersionId="4", **BY_ANN))
    result = run(tables, "--journal", first)
    assert (result.summary["notes"], result.summary["journals_not_given"]) == ({"made_in_v23": 1}, [second])
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"
    tables.put(asset("b", "db02"))
    assert roll_back(tables, first) == 0
    capsys.readouterr()
    assert verify.main([*tables.flags, "--restored", "--journal", first]) == 0
    said = capsys.readouterr().out
    assert (
        "VERIFIED IN PART" in said
        and "Next: nothing is left to take back by these journals: to roll back the rest" in said
    )


def test_records_of_users_that_no_asset_needs_are_named(tables):
    """An asset was brought back by hand, of which users had made versions; in any other database it may be needed."""
    journal = journal_of(tables, asset("a1"), asset("b1"))
    assert roll_back(tables, journal) == 0
    tables.put(migrated("b1", "db02"))
    of_others = record("a1", assetVersionId="9")  # by a journal not given, or the application
    tables.put_records(*(record(name, assetVersionId="4", **BY_ANN) for name in ("a1", "b1")), record("b1"))
    tables.put_records(of_others, record("elsewhere", **BY_ANN))
    for scope in ([], ["--database-id", "db01"]):
        result = run(tables, "--restored", "--journal", journal, *scope)
        expected = {("", "a1", "record_of_user", "assetVersionId"), ("", "", "record_unexplained", "")}
        assert result.status == 0 and {row for row in result.found if row[2] != "still_migrated"} == expected
        (row,) = [row for row in result.rows if row["error_type"] == "record_of_user"]
        assert row["error_message"].endswith(": assetId a1, assetVersionId 4 in %s." % tables.versions)


def test_the_history_of_an_asset_that_users_went_on_from_is_not_left_over(tables):
    journal = journal_of(tables, asset("a1"))
    tables.put(changed(tables.asset("db01", "a1"), {"currentVersionId": "4"}))
    tables.put_records(record("a1", isCurrentVersion={"BOOL": False}), record("a1", assetVersionId="4", **BY_ANN))
    assert roll_back(tables, journal) == 1
    assert {row[2] for row in run(tables, "--restored", "--journal", journal).found} == {"not_restored"}


@pytest.mark.parametrize("order", [("db01", "db01" + DELETED), ("db01" + DELETED, "db01")])
def test_twins_are_seen_to_be_back(tables, order):
    tables.put(asset("a1"), asset("a1", "db01" + DELETED, currentVersion=version(Comment="Archived")))
    journals = [tables.migrate("--database-id", name).journal for name in order]
    assert roll_back(tables, *journals) == 0
    assert run(tables, "--restored", "--journal", *journals).found == []
    tables.put_records(record("a1", comment="Archived"))
    assert [row[2] for row in run(tables, "--restored", "--journal", *journals).found] == ["record_left"]


def test_what_users_made_and_what_the_application_touched_is_not_taken_for_migrated(tables):
    """An asset that is touched, and not migrated, is as it was; one of v2.3's own is named apart."""
    location = M(Key="touched/", Bucket=BUCKET)
    touched = asset("touched", currentVersion=None, currentVersionId="7", assetLocation=location)
    tables.put(asset("a"), touched, migrated("new"))
    tables.put_records(record("new", **BY_ANN), record("touched", assetVersionId="7", **BY_ANN))
    summary = run(tables).summary
    assert summary["problems"] == {"not_migrated": 1, "legacy_field": 1, "preview_location_invalid": 1}
    assert verify.verdict(summary)[1].startswith("3 assets, 1 of them migrated, and 2 version records read, ")
    journal = tables.migrate().journal
    assert roll_back(tables, journal) == 0
    result = run(tables, "--restored", "--journal", journal)
    assert (result.status, result.found) == (0, [("", "", "made_in_v23", "")])
    assert [row["actual"] for row in result.rows] == ["1"]
    assert verify.verdict(result.summary)[0] == "VERIFIED"


def test_an_asset_that_the_application_touched_is_in_the_journal_that_has_it(tables):
    """Before its migration it is not migrated; and not restored, its journal has what it was before."""
    touched = asset("touched", currentVersion=None, currentVersionId="7", assetLocation=M(Key="t/", Bucket=BUCKET))
    journal = journal_of(tables, asset("a"))
    tables.put(touched)
    tables.put_records(record("touched", assetVersionId="7"))
    assert "no_before_image" not in run(tables, "--journal", journal).summary["notes"]
    second = tables.migrate().journal
    result = run(tables, "--restored", "--journal", journal, second)
    assert result.summary["notes"] == {} and {row[:3] for row in result.found} == {
        ("db01", "a", "not_restored"),
        ("db01", "touched", "not_restored"),
    }
    assert roll_back(tables, journal, second) == 0
    assert run(tables, "--restored", "--journal", journal, second).found == []


def test_what_the_application_touched_and_was_migrated_again_is_not_restored(tables):
    """The rollback between the two runs has left a record, so that its journal was not taken back whole."""
    touched = asset("touched", currentVersion=None, currentVersionId="7", assetLocation=M(Key="t/", Bucket=BUCKET))
    tables.put_records(record("touched", assetVersionId="7", **BY_ANN))
    first = journal_of(tables, asset("a"), touched)
    tables.put_records(record("a", comment="Corrected"))
    assert roll_back(tables, first) == 1
    second = tables.migrate("--database-id", "db01", "--asset-id", "touched").journal
    for journals in ((first, second), (second,)):
        result = run(tables, "--restored", "--journal", *journals)
        assert ("db01", "touched", "not_restored", "Parent") in result.found
        assert "made_in_v23" not in result.summary["notes"]


def put_touched(tables, *others):
    """An asset that the application has touched, with its version record, and others."""
    tables.put(asset("a", currentVersion=None, versions=None, currentVersionId="1"), *others)
    tables.put_records(record("a", assetVersionId="1", **BY_ANN))


def test_what_the_application_touched_and_a_lost_run_migrated_again_is_still_migrated(tables):
    """Its version record, which is that of before, says nothing of that."""
    put_touched(tables, asset("b"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    assert roll_back(tables, "backups") == 0
    tables.migrate("--database-id", "db01", "--asset-id", "a")  # its journal and reports are elsewhere
    assert roll_back(tables, "backups") == 1
    result = run(tables, "--restored", "--journal", "backups")
    assert result.summary["notes"] == {"still_migrated": 1}
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"


def test_what_the_application_touched_and_users_edited_before_the_next_run_is_back(tables, monkeypatch):
    """The run before was taken back, or killed before it had changed the asset."""
    put_touched(tables, asset("b"))
    first = tables.migrate().journal
    left = tables.asset("db01", "b")
    tables.put(changed(left, {"previewLocation": M(Key="x", Bucket=BUCKET)}))
    assert roll_back(tables, first) == 1  # b stays
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: tables.client.nothing())
        with pytest.raises(AttributeError):
            tables.migrate("--database-id", "db01", "--asset-id", "a")
    journals = sorted(tables.folder.glob("run-*/backups/*.jsonl"))
    cut_off_end(next(journal for journal in journals if journal != first))
    tables.put(changed(tables.asset("db01", "a"), {"previewLocation": M(Key="a/other.png")}))
    before = tables.asset("db01", "a")
    journals.append(tables.migrate().journal)
    tables.put(left)
    assert len(journals) == 3 and roll_back(tables, *journals) == 0 and tables.asset("db01", "a") == before
    assert run(tables, "--restored", "--journal", *journals).found == []


def test_what_users_made_in_v23_before_the_first_run_needs_no_journal(tables):
    put_healthy(tables, "smoke", "unknown")
    tables.put_records(record("smoke", createdBy="ann", dateCreated="2025-01-02T03:04:05.123456"))
    tables.put_records(record("unknown", createdBy="ann", dateCreated="2025-01-02T03:04:05Z"))
    result = run(tables, "--journal", journal_of(tables, asset("a")))
    assert {row["error_type"]: row["error_message"].split(": ")[1] for row in result.rows} == {
        "made_in_v23": "db01 / smoke.",
        "no_before_image": "db01 / unknown.",
    }


def test_the_record_of_an_archived_twin_is_not_in_the_way_of_the_live_one(tables):
    """The migration puts the live one's in its place; another asset's is."""
    twin = asset("a", "db01" + DELETED, currentVersion=version(Comment="Archived"))
    tables.put(asset("a"), twin, asset("b"))
    tables.put_records(record("b", comment="another asset's"))
    journal = tables.migrate("--database-id", "db01" + DELETED).journal
    result = run(tables, "--journal", journal)
    messages = {row["asset_id"]: row["error_message"] for row in result.rows if row["error_type"] == "not_migrated"}
    assert "take the place" in messages["b"] and "take the place" not in messages["a"]
    assert result.summary["not_migratable"] == 1


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("reports", ["reports", "elsewhere"])
def test_what_was_migrated_again_by_a_lost_journal_has_no_way_back(tables, left, reports):
    """The first run's journal, taken back before, is as good for the content, but not for that. The summary of the run
    that was lost may be elsewhere, too."""
    tables.put(asset("a"), asset("b"), asset("c"))
    before = tables.contents()
    assert migration.main(tables.flags) == 0
    if left:
        tables.put(changed(tables.asset("db01", "c"), {"previewLocation": M(Key="of users", Bucket=BUCKET)}))
    flags = [*tables.flags, "--journal", "backups"]
    assert verify.rollback.main([*flags, "--yes"]) == left
    assert migration.main([*tables.flags, "--report-dir", reports]) == 0
    _, lost = sorted((tables.folder / "backups").iterdir())
    kept = lost.rename(tables.folder / lost.name)
    result = run(tables, "--journal", "backups")
    assert result.summary["notes"]["no_before_image"] == 2 + (not left)
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"
    again = tables.contents()
    assert verify.rollback.main([*flags, "--yes"]) == 1
    assert tables.contents() == again
    assert verify.rollback.main([*flags, str(min((tables.folder / "backups").iterdir())), "--dry-run"]) == left
    kept.rename(lost)
    assert verify.rollback.main([*flags, "--yes"]) == left
    assert (tables.contents() == before) is not left and tables.asset("db01", "a") == asset("a")


def test_what_is_to_do_is_told_of_an_asset_that_users_went_on_from_before_a_rollback_left_it(tables):
    """And is migrated, with the others, a second time."""
    tables.put(*(asset(name, assetLocation=M(Key="pipelines/%s.ifc" % name)) for name in "ab"))
    assert migration.main(tables.flags) == 0
    tables.put(changed(tables.asset("db01", "a"), {"currentVersionId": "4"}))
    tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4", **BY_ANN))
    flags = [*tables.flags, "--journal", "backups"]
    assert verify.rollback.main([*flags, "--yes"]) == 1 and migration.main(tables.flags) == 0
    result = run(tables, "--journal", "backups")
    assert (result.status, to_do_of(result).keys()) == (0, {("a", "assetLocation"), ("b", "assetLocation")})
    assert result.summary["notes"]["made_in_v23"] == 1


@pytest.mark.parametrize("killed_began", ["later", "earlier"])
def test_the_date_of_an_undated_record_may_be_that_of_either_of_two_runs_at_once(tables, monkeypatch, killed_began):
    """One of them is killed when its before image is saved; the other one has made the record, and ends well."""
    tables.put(asset("a", currentVersion=version(DateModified=None)))
    before, other = tables.contents(), []

    def meanwhile():
        with monkeypatch.context() as patch:
            later = migration.utc_now() + datetime.timedelta(seconds=-9 if killed_began == "later" else 9)
            patch.setattr(migration, "utc_now", lambda: later)
            other.append(tables.migrate())
        raise SystemError("as if killed")

    with monkeypatch.context() as patch:
        before_first(patch, "INSERT", meanwhile)
        with pytest.raises(SystemError):
            tables.migrate()
    (killed,) = set(tables.folder.glob("run-*/backups/*.jsonl")) - {other[0].journal}
    killed.write_text("".join(killed.read_text().splitlines(True)[:-1]))
    result = run(tables, "--journal", killed, other[0].journal)
    assert (result.status, result.found) == (0, [])
    folder = tables.folder / "back"
    flags = [*tables.flags, "--report-dir", str(folder), "--journal", str(killed), str(other[0].journal)]
    assert verify.rollback.main([*flags, "--yes"]) == 0 and tables.contents() == before
    (report,) = folder.glob("*.csv")
    assert len(report.read_text(encoding="utf-8-sig").splitlines()) == 1


def test_a_repair_that_was_killed_before_its_write_is_left_to_do(tables, monkeypatch):
    tables.put(asset("a", isDistributable=S("False")))
    first = tables.migrate().journal
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: tables.client.nothing())
        with pytest.raises(AttributeError):
            tables.migrate("--repair")
    second = max(tables.folder.glob("run-*/backups/*.jsonl"), key=lambda path: path.stat().st_mtime)
    assert second != first
    cut_off_end(second)
    assert run(tables, "--journal", first, second).found == [("db01", "a", "to_do", "isDistributable")]


def test_users_records_are_told_by_the_form_of_their_dates(tables):
    """A run that found a name and no date leaves a record of its own start that names a user."""
    tables.put(asset("x", "db02"))
    first = tables.migrate().journal
    tables.put(asset("a", currentVersion=version(createdBy="ann", DateModified=None), isDistributable=S("False")))
    second, repair = tables.migrate().journal, tables.migrate("--repair").journal
    assert {row[2] for row in run(tables, "--journal", first).found} == {"no_before_image"}
    tables.put_records({**tables.record("a", "3"), "comment": S("damaged")})
    found = run(tables, "--journal", first, second, repair).found
    assert found == [("db01", "a", "record_content_differs", "comment")]


def test_an_archived_one_is_compared_with_the_record_that_its_live_one_left(tables):
    tables.put(asset("a"), asset("a", "db01" + DELETED))
    journal = tables.migrate().journal
    tables.put_records({**tables.record("a", "3"), "comment": S("damaged")})
    assert {row[2:] for row in run(tables, "--journal", journal).found} == {("record_content_differs", "comment")}


def test_what_users_archived_since_is_not_called_still_migrated(tables):
    tables.put(asset("a"), asset("b"))
    journal = tables.migrate().journal
    tables.put(changed(tables.asset("db01", "a"), {"databaseId": "db01" + DELETED}))
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("a")})
    assert roll_back(tables, journal) == 1
    result = run(tables, "--restored", "--journal", journal)
    assert {row[:3] for row in result.found} == {("db01", "a", "asset_missing"), ("", "", "made_in_v23")}
    (row,) = [row for row in result.rows if row["error_type"] == "asset_missing"]
    assert row["error_message"].endswith(" There is one of its assetId under databaseId db01%s." % DELETED)


@pytest.mark.parametrize("order", [("db01", "db01" + DELETED), ("db01" + DELETED, "db01")])
@pytest.mark.parametrize("comment", ["Archived", "Third upload"])
def test_what_an_archived_asset_lost_to_its_live_twin_is_noted_whichever_came_first(tables, order, comment):
    tables.put(asset("a1"), asset("a1", "db01" + DELETED, currentVersion=version(Comment=comment)))
    runs = [tables.migrate("--database-id", name) for name in order]
    assert set.union(*(done.codes for done in runs)) == {"archived_twin"}
    result = run(tables, "--journal", *(done.journal for done in runs))
    assert (result.status, result.found) == (0, [("db01" + DELETED, "a1", "archived_twin", "assetVersionId")])


def test_records_of_a_run_whose_journal_is_lost_are_counted(tables):
    """It was stopped before it had changed its assets, and a later run relied on its records."""
    tables.put(*(asset(name) for name in "abc"))
    tables.put_records(*(record(name) for name in "abc"))
    journal = tables.migrate().journal
    assert roll_back(tables, journal) == 0
    result = run(tables, "--restored", "--journal", journal)
    assert (result.status, result.summary["notes"]) == (0, {"record_unexplained": 3})
    assert verify.verdict(result.summary)[0] == "VERIFIED IN PART"


def test_a_record_that_a_killed_rollback_took_from_another_runs_asset_is_missed(tables):
    """A migration relied on it at that moment, and nobody put it back. A rollback by all journals mends it."""
    tables.put(asset("a1"), asset("a1", "db02"))
    before = tables.contents()
    journals = [tables.migrate("--database-id", name).journal for name in ("db01", "db02")]
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a1"), "assetVersionId": S("3")})
    assert roll_back(tables, journals[0]) == 0
    result = run(tables, "--restored", "--journal", journals[0])
    missing = ("db02", "a1", "version_record_missing", "assetVersionId")
    assert (result.status, result.found) == (1, sorted([missing, ("", "", "still_migrated", "")]))
    assert roll_back(tables, *journals) == 0
    assert run(tables, "--restored", "--journal", *journals).found == [] and tables.contents() == before


def test_restored_needs_journals(tables, capsys):
    assert verify.main([*tables.flags, "--restored"]) == migration.EXIT_USAGE
    assert "Fix: give them too: --journal and the folder" in capsys.readouterr().err


# --------------------------------------------------------------------------------------
# What comes next, and how far it came
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, typed, step, words",
    [
        ({"exit_status": 130}, {"config": "c", "restored": True, "journal": ["j"]},
         "verify to the end", "V --config c --restored --journal j"),
        ({"restored": True, "problems": {"not_restored": 1}}, {"config": "c", "restored": True, "journal": ["j"]},
         "look at the problems in the report; what users made since stays, what a rollback can do this does",
         "R --config c --journal j"),
        ({"restored": True, "problems": {"not_restored": 1}, "rollback_known": False},
         {"config": "c", "restored": True, "journal": ["j"]},
         "verify without --restored, for no report of a rollback by the newest of these journals was found; if there",
         "V --config c --journal j"),
        ({"restored": True}, {"config": "c", "restored": True, "journal": ["j"]},
         "nothing is left to take back; deploy v2.2, or migrate again, before users come back, and file the report",
         None),
        ({"problems": {"other_bucket": 2}, "other_bucket": BUCKET}, {"asset_bucket_name": "new"},
         "if %s is the right bucket, verify again with it. If it is not, take back what was migrated with it" % BUCKET,
         "R --asset-bucket %s --dry-run --journal backups" % BUCKET),
        ({"problems": {"other_bucket": 2}, "other_bucket": "users"}, {"config": "c", "asset_bucket_name": "new"},
         "if users is the right bucket, verify again with it. If it is not, roll back the run that had it",
         "V --config c --asset-bucket users"),
        ({"problems": {"other_bucket": 2, "not_migrated": 5}, "other_bucket": BUCKET}, {"config": "c"},
         "if %s is the right bucket" % BUCKET, "R --config c --asset-bucket %s --dry-run --journal backups" % BUCKET),
        ({"problems": {"other_bucket": 1}, "other_bucket": BUCKET, "assets": 3}, {"config": "c"},
         "if %s is the right bucket" % BUCKET, "R --config c --asset-bucket %s --dry-run --journal backups" % BUCKET),
        ({"problems": {"other_bucket": 1}, "other_bucket": "users", "assets": 3}, {"config": "c"},
         "mend what the report names, then verify again", "V --config c"),
        ({"problems": {"other_bucket": 2, "not_migrated": 5}, "other_bucket": "users"}, {"config": "c"},
         "migrate what is not migrated yet", "M --config c"),
        ({"problems": {"not_migrated": 5}, "journals": ["backups/j"], "notes": {"no_before_image": 2}}, {"config": "c"},
         "migrate what is not migrated yet; look for the journals of 2 migrated assets, which none given",
         "M --config c"),
        ({"restored": True, "notes": {"still_migrated": 2}}, {"config": "c", "restored": True, "journal": ["j"]},
         "2 assets are still migrated, by no journal beside those given: look for the missing one", None),
        ({"restored": True, "notes": {"record_unexplained": 1}}, {"config": "c", "restored": True, "journal": ["j"]},
         "one version record is left, by no journal beside those given: look for the missing one", None),
        ({"restored": True, "notes": {"made_in_v23": 2}}, {"config": "c", "restored": True, "journal": ["j"]},
         "nothing is left to take back", None),
        ({"under_way": ["j"], "problems": {"not_migrated": 2}}, {"config": "c", "journal": ["j"]},
         "let the run that is under way come to its end, then verify again", "V --config c --journal j"),
        ({"restored": True, "notes": {"still_migrated": 2}, "journals": ["j"], "journals_not_given": ["a b/k"]},
         {"config": "c", "restored": True, "journal": ["j"]}, "2 assets are still migrated: to roll back the rest too",
         "R --config c --journal . --journal 'a b'"),
        ({"problems": {"not_migrated": 2}, "not_migratable": 1}, {"config": "c", "limit": 5, "journal": ["j"]},
         "migrate what is not migrated yet; to be mended first, as the README says under Failures, by the codes in",
         "M --config c --limit 5"),
        ({"problems": {"not_migrated": 2}}, {"config": "c", "limit": 5}, "migrate what is not migrated yet",
         "M --config c --limit 5"),
        ({"problems": {"not_migrated": 2}, "not_migratable": 2}, {"config": "c", "limit": 5},
         "migrate all assets; what failed may wait", "M --config c"),
        ({"journals": ["./backups/j"]}, {"config": "c", "limit": 5, "journal": ["./backups"]}, "migrate all assets",
         "M --config c"),
        ({"journals": ["other/j", "third/j"]}, {"config": "c", "limit": 5, "journal": ["other", "third"]},
         "migrate all assets", "M --config c"),
        ({"problems": {"legacy_field": 2}}, {"config": "c", "journal": ["j"]},
         "mend what the report names, then verify again", "V --config c --journal j"),
        ({"problems": {"asset_content_differs": 2}, "notes": {"journal_damaged": 1}}, {"config": "c", "journal": ["j"]},
         "if journals are missing or damaged, look for them and verify again with all: what a later run did looks",
         "V --config c --journal j"),
        ({"problems": {"record_content_differs": 2}, "notes": {"no_before_image": 1}, "journals": ["j"],
          "journals_not_given": ["other/k"]}, {"config": "c", "journal": ["j"]},
         "if journals are missing or damaged, look for them and verify again with all: what a later run did looks",
         "V --config c --journal . --journal other"),
        ({"problems": {"asset_content_differs": 2}, "journals": ["j"]}, {"config": "c", "journal": ["j"]},
         "mend what the report names, then verify again; what users have changed since the migration is theirs",
         "V --config c --journal j"),
        ({"journals": ["j"], "journals_not_given": ["other/k"]}, {"config": "c", "journal": ["j"]},
         "prove the other assets too, by all journals", "V --config c --journal . --journal other"),
        ({}, {"config": "c", "limit": 5}, "prove the content too, by the journals",
         "V --html --config c --limit 5 --journal backups"),
        ({}, {"config": "c"}, "prove the content too, by the journals",
         "V --html --config c --journal backups"),
        ({"notes": {"to_do": 3}, "journals": ["j"]}, {"config": "c", "journal": ["j"]},
         "do what the rows to_do of the report say; then look at the application, open it", None),
        ({"journals": ["j"]}, {"config": "c", "journal": ["j"]},
         "look at the application, open it to its users, file the report", None),
        ({}, {"config": "c", "journal": ["j"]}, "look for the journals, which are not in backups, and verify by them: ",
         None),
        ({"notes": {"no_before_image": 2000, "to_do": 1}, "journals": ["j"]}, {"config": "c", "journal": ["j"]},
         "look for the journals of 2,000 migrated assets, maybe in another folder, and verify again with all: without",
         None),
        ({"files": {"report": "r.csv", "page": "p.html"}, "journals": ["j"]}, {"config": "c", "journal": ["j"]},
         "look at the application, open it to its users, file the report and the page, keep", None),
        ({"dry_run": True, "journals": ["./backups/j"]}, {"config": "c", "limit": 5, "journal": ["./backups"]},
         "migrate all assets", "M --config c --no-dry-run"),
        ({"problems": {"not_migrated": 2}, "rollback_unfinished": {"journal": ["a", "b c"], "asset_bucket_name": "b"}},
         {"config": "c", "limit": 5}, "finish the rollback that did not come to its end; or, to stay migrated",
         "R --config c --journal a --journal 'b c' --asset-bucket b"),
        ({"dry_run": True, "problems": {"not_migrated": 2}}, {"config": "c"}, "migrate what is not migrated yet",
         "M --config c --no-dry-run"),
    ],
)  # fmt: skip
def test_the_next_step(monkeypatch, tables, changes, typed, step, words):
    """With the scripts' own folder as that where one stands."""
    monkeypatch.setattr(migration, "python_name", lambda: "python")
    tables.put(asset("a1"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    monkeypatch.setattr(migration.os, "getcwd", lambda: os.path.dirname(migration.__file__))
    parsed = vars(verify.make_parser().parse_args(tables.flags))
    configured = {"journal_dir": "backups", "dry_run": changes.get("dry_run", False), "limit": typed.get("limit")}
    settings = migration.resolve_settings(migration.CONFIG, {}, {**parsed, **configured})
    summary = {
        "exit_status": 1 if changes.get("problems") else 0, "error": None, "assets": 1, "version_records": 1,
        "before_images": 1, "journals": [], "restored": False, "problems": {}, "notes": {},
        "account": None, "region": local_dynamodb.REGION, "files": {"report": "r.csv"}, "other_bucket": None,
        "not_migratable": 0, "journals_not_given": [], "journals_lost": [], "under_way": [], "rollback_ended": False,
        "rollback_known": True, "rollback_unfinished": {},
        "journals_left_out": [], "other_buckets": [],
        **changes,
    }  # fmt: skip
    found, *command = verify.next_step(summary, settings, LOCAL, typed)
    assert found.startswith(step)
    scripts = {"V": "_verify.py", "R": "_rollback.py", "M": ".py"}
    if words is None:
        assert command == [None, {}]
    else:
        expected = "python v2.2_to_v2.3_migration%s%s" % (scripts[words[0]], words[1:])
        assert migration.command_text(*command) == expected


def test_a_stopped_verification_says_how_far_it_came(tables, monkeypatch, capsys):
    put_healthy(tables, *("a%02d" % number for number in range(40)))
    monkeypatch.setattr(migration, "PAGE_ITEMS", 5)
    monkeypatch.setattr(migration, "LANE_ITEMS", 5)
    monkeypatch.setattr(migration.Run, "_is_full", lambda run: len(run._tasks) >= 5)
    original = verify.Verification.verify_asset

    async def stop_at_ten(self, run, asset):
        await original(self, run, asset)
        if self.tally.assets >= 10:
            run.stop()

    monkeypatch.setattr(verify.Verification, "verify_asset", stop_at_ten)
    result = run(tables)
    shown = capsys.readouterr().out
    assert result.status == migration.EXIT_INTERRUPTED
    assert result.summary["stopped"] == "%d of about 40 assets done" % result.summary["assets"]
    assert "\n  stopped: %s\n" % result.summary["stopped"] in shown
    assert shown.splitlines()[-2:-1] == ["Next: verify to the end:"]


def test_an_interrupted_journal_is_named_on_the_screen_and_on_the_page(tables, capsys):
    journal = journal_of(tables, asset("a1"))
    journal.write_text("".join(journal.read_text().splitlines(True)[:-1]))
    page = tables.folder / "page.html"
    result = run(tables, "--journal", journal, "--html", page)
    named = "%s (its run was INTERRUPTED, or this is a part of it)" % journal
    assert result.status == 0 and result.summary["interrupted_journals"] == [str(journal)]
    assert "journal         %s, started " % named in capsys.readouterr().out
    assert named in page.read_text(encoding="utf-8")


def test_a_journal_that_is_still_being_written_is_not_called_interrupted(tables, capsys):
    journal = journal_of(tables, asset("a1"))
    journal.write_text("".join(journal.read_text().splitlines(True)[:-1]))
    capsys.readouterr()
    with open(str(journal)) as file:
        assert migration.lock(file)
        assert verify.main([*tables.flags, "--journal", str(journal)]) == 0
    shown = capsys.readouterr().out
    assert "%s (its run is STILL UNDER WAY)" % journal in shown and "INTERRUPTED" not in shown
    assert "\nNext: let the run that is under way come to its end, then verify again:\n" in shown


@pytest.mark.parametrize("taken_back", [2, 1])
def test_an_asset_that_was_migrated_and_then_repaired(tables, taken_back):
    """The older journal tells what it was before, if that is given."""
    tables.put(asset("a1", isDistributable=S("True"), assetLocation=M(Key="old/a.glb")), asset("b1"))
    journals = [tables.migrate().journal, tables.migrate("--repair").journal]
    result = run(tables, "--journal", *journals)
    assert result.status == 0 and set(to_do_of(result)) == {("a1", "assetLocation")}
    journals = journals[-taken_back:]
    left = run(tables, "--restored", "--journal", *journals).found
    assert {row[1] for row in left} - {""} == {"a1", "b1"} - ({"b1"} if taken_back == 1 else set())
    assert roll_back(tables, *journals) == 0
    result = run(tables, "--restored", "--journal", *journals)
    # Without the older journal both are still migrated.
    still = {"still_migrated": 2} if taken_back == 1 else {}
    assert (result.status, result.summary["notes"], result.summary["before_images"]) == (0, still, taken_back)
    # What the repair made of it was not taken back; what a user made of it since is not to be.
    for value, error_type in ((TRUE, "not_restored"), (FALSE, "edited_since")):
        tables.put(changed(tables.asset("db01", "a1"), {"isDistributable": value}))
        assert ("db01", "a1", error_type, "isDistributable") in run(tables, "--restored", "--journal", *journals).found


NEXT = "\nNext: %s"
AGAIN = "migrate again, if this is right: the asset versions table %s"


def test_restored_after_a_new_migration_leads_to_no_rollback(tables, capsys):
    """From the history of the shell; there was a rollback before."""
    tables.put(asset("a1"), asset("a2"))
    for _ in range(2):
        assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
        assert (
            len(os.listdir("backups")) == 1 or verify.main([*tables.flags, "--journal", "backups", "--restored"]) == 1
        )
        shown = capsys.readouterr().out
        assert roll_back(tables, "backups") == 0
    assert NEXT % "verify without --restored" in shown


def test_assets_that_were_migrated_again_elsewhere_are_not_compared_and_counted_once(tables, capsys):
    tables.put(asset("a1"), asset("a2"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    assert roll_back(tables, "backups") == 0
    assert migration.main([*tables.flags, "--journal-dir", "elsewhere", "--report-dir", "elsewhere"]) == 0
    capsys.readouterr()
    assert verify.main([*tables.flags, "--journal", "backups", "--restored"]) == 0
    said = "after a rollback, no assets compared with before the migration, 2 other assets still migrated"
    assert "\nVERIFIED IN PART: %s; " % said in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--journal", "backups"], ["--journal", "backups", "--restored"]])
def test_a_rollback_that_did_not_come_to_its_end_is_named_and_to_be_finished(tables, capsys, flags):
    tables.put(asset("a1"), asset("a2"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    assert roll_back(tables, "backups") == 0
    (path,) = (tables.folder / "reports").glob("rollback_*_summary.json")
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "exit_status": 130, "undone": False}))
    tables.put(migrated("a2"))
    tables.put_records(record("a2"))
    capsys.readouterr()
    assert verify.main([*tables.flags, *flags]) == 1
    shown = capsys.readouterr().out
    assert "  warning  the rollback of these tables that began %s did not" % summary["started"] in shown
    assert NEXT % "finish the rollback that did not come to its end; or, to stay migrated, migrate again" in shown
    command = "_rollback.py %s --journal %s" % (" ".join(tables.flags), summary["journals"][0])
    assert shown.splitlines()[-1].endswith(command)


def test_verified_by_a_copy_of_a_journal_the_next_one_lies_where_the_others_do(tables, capsys):
    tables.put(asset("a1"), asset("a2"))
    assert migration.main([*tables.flags, "--journal-dir", "backups", "--limit", "1"]) == 0
    (journal,) = os.listdir("backups")
    os.mkdir("copies")
    shutil.copy(os.path.join("backups", journal), os.path.join("copies", "copy.txt"))
    capsys.readouterr()
    assert verify.main([*tables.flags, "--journal", "copies/copy.txt"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("_migration.py " + " ".join(tables.flags))
    shutil.rmtree("backups")
    assert verify.main([*tables.flags, "--journal", "copies/copy.txt"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(" --journal-dir copies")


def another_versions_table(tables):
    """Make it; its name, and the flags with the right one, which is in a configuration, and with it."""
    others = "others-%s" % tables.versions
    local_dynamodb.create_tables(tables.client, "unused-%s" % tables.assets, others)
    (tables.folder / "c.json").write_text(json.dumps({"asset_versions_table_name": tables.versions}))
    flags = ["--config", "c.json", *without(tables.flags, "--asset-versions-table")]
    return others, flags, [*flags, "--asset-versions-table", others]


def test_what_was_migrated_with_another_versions_table_leads_to_its_rollback(tables, capsys):
    """By a typing error; what the three scripts say then ends where all is right."""
    tables.put(asset("a1"), asset("a2"))
    others, flags, wrong = another_versions_table(tables)
    assert migration.main([*wrong, "--journal-dir", "backups", "--limit", "1"]) == 0
    step = (
        NEXT
        % "see first whether %s is the right assets table: if it is another stage's, give yours. If it is right, see"
    )
    step += " which asset versions table is, %s or %s, which an earlier run had (journal "
    step %= (tables.assets, tables.versions, others)
    for script, status, more in (
        (migration, 0, []),
        (verify, 1, ["--journal", "backups"]),
        (verify.rollback, 0, ["--journal", "backups", "--yes"]),
    ):
        capsys.readouterr()
        assert script.main([*flags, *more]) == status
        assert step in capsys.readouterr().out
    assert verify.rollback.main([*wrong, "--journal", "backups", "--yes"]) == 0
    assert NEXT % (AGAIN % tables.versions + ":\n") in capsys.readouterr().out
    assert migration.main(flags) == 0
    assert verify.main([*flags, "--journal", "backups"]) == 0
    shown = capsys.readouterr().out
    assert "which an earlier run had" not in shown and "2 before images compared; no problems" in shown


def test_a_rollback_warns_of_the_assets_of_another_table_that_rely_on_the_same_records(tables, capsys):
    """The warned of way through: theirs back first, then this one, then theirs again."""
    stage = Tables(tables.engine, "stage-" + tables.assets, "stage-" + tables.versions, tables.folder)
    local_dynamodb.create_tables(tables.client, stage.assets, stage.versions)
    tables.put(asset("a1"))
    stage.put(asset("a1"))
    before = stage.contents()
    mixed = [*stage.flags, "--asset-versions-table", tables.versions]
    for flags in (mixed, tables.flags):
        assert migration.main([*flags, "--journal-dir", "backups"]) == 0
    rely = "assets of %s were migrated into this versions table too"
    capsys.readouterr()
    for flags, other in ((mixed, tables), (tables.flags, stage)):
        assert verify.rollback.main([*flags, "--journal", "backups", "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert rely % other.assets in shown and ", with --assets-table %s, and " % other.assets in shown
    assert verify.rollback.main([*tables.flags, "--journal", "backups", "--yes"]) == 0
    capsys.readouterr()
    assert verify.rollback.main([*mixed, "--journal", "backups", "--yes"]) == 0
    assert rely % tables.assets not in capsys.readouterr().out and stage.contents() == before
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    assert verify.main([*tables.flags, "--journal", "backups"]) == 0


def test_the_records_of_another_stage_are_left_where_mixed_names_are_taken_back(tables, capsys):
    """No journal of these names tells of them, and none is missing: that of the stage is named."""
    stage = Tables(tables.engine, "stage-" + tables.assets, "stage-" + tables.versions, tables.folder)
    local_dynamodb.create_tables(tables.client, stage.assets, stage.versions)
    tables.put(asset("a1"))
    stage.put(asset("a1"))
    mixed = [*stage.flags, "--asset-versions-table", tables.versions]
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    (journal,) = os.listdir("backups")
    assert migration.main([*mixed, "--journal-dir", "backups"]) == 0
    assert verify.rollback.main([*mixed, "--journal", "backups", "--yes"]) == 0
    capsys.readouterr()
    assert verify.main([*mixed, "--journal", "backups", "--restored"]) == 0
    shown = capsys.readouterr().out
    step = "one version record is left: leave what assets of %s need, which were migrated into this versions table too"
    assert NEXT % (step % tables.assets) in shown and "(journal %s). Verify" % os.path.join("backups", journal) in shown
    assert verify.main([*tables.flags, "--journal", "backups"]) == 0


@pytest.mark.parametrize("stage_id", ["b1", "a2"])
@pytest.mark.parametrize("is_of_stage", [True, False])
def test_what_another_stage_has_in_this_versions_table_leads_to_whose_that_is(tables, capsys, stage_id, is_of_stage):
    """Whichever of the two was migrated into the other's: nothing is to be mended, or opened to users, before."""
    stage = Tables(tables.engine, "stage-" + tables.assets, "stage-" + tables.versions, tables.folder)
    local_dynamodb.create_tables(tables.client, stage.assets, stage.versions)
    tables.put(asset("a1"), asset("a2"))
    stage.put(asset(stage_id))
    before = stage.contents(), tables.contents()
    own, others = (stage, tables) if is_of_stage else (tables, stage)
    mixed = [*others.flags, "--asset-versions-table", own.versions]
    assert migration.main([*own.flags, "--journal-dir", "backups"]) == 0
    assert migration.main([*mixed, "--journal-dir", "backups"]) == 0
    step = NEXT % "see first whose asset versions table %s is, that of %s or of %s, which an earlier run had (journal "
    for flags, pair in ((own.flags, (own, others)), (mixed, (others, own))):
        capsys.readouterr()
        verify.main([*flags, "--journal", "backups"])
        assert step % (own.versions, *(one.assets for one in pair)) in capsys.readouterr().out
    assert verify.rollback.main([*mixed, "--journal", "backups", "--yes"]) == 0
    assert verify.main([*own.flags, "--journal", "backups"]) == 0
    assert "whose asset versions table" not in capsys.readouterr().out
    assert verify.rollback.main([*own.flags, "--journal", "backups", "--yes"]) == 0
    assert (stage.contents(), tables.contents()) == before


def test_after_another_versions_table_and_bucket_both_are_the_configured_ones(tables, capsys):
    """As where a stage's configuration still has two names of another one."""
    tables.put(asset("a1"))
    _, flags, wrong = another_versions_table(tables)
    wrong = [*without(wrong, "--asset-bucket"), "--asset-bucket", "others-bucket"]
    config = {"asset_versions_table_name": tables.versions, "asset_bucket_name": "YOUR_BUCKET"}
    for bucket, step, typed in (
        ("YOUR_BUCKET", AGAIN, True),
        (BUCKET, AGAIN + " and the bucket " + BUCKET, False),
    ):
        (tables.folder / "c.json").write_text(json.dumps({**config, "asset_bucket_name": bucket}))
        assert migration.main(wrong) == 0
        capsys.readouterr()
        assert verify.rollback.main([*wrong, "--journal", "backups", "--yes"]) == 0
        said = capsys.readouterr().out
        assert NEXT % (step % tables.versions + ":\n") in said
        assert ("--asset-bucket others-bucket" in said.splitlines()[-1]) is typed
    assert migration.main(without(flags, "--asset-bucket")) == 0
    assert verify.main([*without(flags, "--asset-bucket"), "--journal", "backups"]) == 0


def test_a_record_in_another_versions_table_may_be_one_too_many(tables, capsys):
    """The asset that needs it has its own record in the right table, which the assets table does not tell."""
    tables.put(asset("a1"), asset("a1", "db01" + DELETED))
    _, flags, wrong = another_versions_table(tables)
    assert migration.main([*wrong, "--database-id", "db01" + DELETED]) == migration.main(flags) == 0
    capsys.readouterr()
    assert verify.rollback.main([*wrong, "--journal", "backups", "--yes"]) == 0
    said = capsys.readouterr().out
    step = (
        "look at each record_stays of the report: if that table is another stage's, leave the record, which may be its"
    )
    then = " with the right table; then " + AGAIN % tables.versions + ":"
    assert NEXT % step in said and then in said


@pytest.mark.parametrize("stage", [True, False])
def test_flags_in_the_place_of_another_stages_configuration_name_no_wrong_table(tables, stage, capsys):
    """Nor does the ARN of the same table: nothing is to be migrated into that of the configuration."""
    tables.put(asset("a1"))
    names = (
        ("stage-assets", "stage-versions")
        if stage
        else (tables.assets, "arn:aws:dynamodb:x:1:table/" + tables.versions)
    )
    config = {"assets_table_name": names[0], "asset_versions_table_name": names[1], "asset_bucket_name": BUCKET}
    (tables.folder / "c.json").write_text(json.dumps(config))
    flags = ["--config", "c.json", *tables.flags]
    assert migration.main(flags) == 0
    capsys.readouterr()
    assert verify.rollback.main([*flags, "--journal", "backups", "--yes"]) == 0
    said = capsys.readouterr().out
    assert NEXT % "see that everything is as it was before:\n" in said
    command = said.splitlines()[-1]
    assert "--restored" in command and "--asset-versions-table " + tables.versions in command


def without(flags, name):
    """A list of flags without this one and its value."""
    place = flags.index(name)
    return flags[:place] + flags[place + 2 :]


def test_another_versions_table_of_a_run_that_wrote_nothing_is_no_matter(tables, capsys):
    tables.put(asset("a1"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    (journal,) = (tables.folder / "backups").iterdir()
    header = journal.read_text().splitlines(True)[0].replace('"%s"' % tables.versions, '"others"')
    (tables.folder / "backups" / "killed.jsonl").write_text(header.replace('"stem":"', '"stem":"killed_'))
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a1"), "assetVersionId": S("3")})
    capsys.readouterr()
    assert verify.main([*tables.flags, "--journal", "backups"]) == 1
    assert "an earlier run" not in capsys.readouterr().out


@pytest.mark.parametrize("also", ["in another database", "nowhere else"])
def test_whose_version_a_record_has_that_is_in_the_way_is_told(tables, also):
    """For that decides which remedy is meant; the migration would have to read the whole table for it."""
    tables.put(asset("a1"), *[asset("a1", "db00", currentVersion=version(Comment="Mine"))] * (also != "nowhere else"))
    tables.put(asset("a1", "db02", currentVersion=version(Version="5")))
    tables.put_records(record("a1", comment="Another's"))
    tables.put(*[asset("a1", "db04")] * (also != "nowhere else"))
    journal = tables.migrate().journal
    result = run(tables, "--journal", journal)
    (row,) = [row for row in result.rows if (row["database_id"], row["error_type"]) == ("db01", "not_migrated")]
    whose = "No other asset has this assetId and version."
    whose = whose if also == "nowhere else" else "Others of this assetId and version: under databaseId db00, db04."
    assert "The asset is not migrated. (version_conflict) Its version record 3 would take" in row["error_message"]
    assert row["error_message"].endswith(" " + whose)
    assert result.summary["not_migratable"] == (1 if also == "nowhere else" else 3)


@pytest.mark.parametrize("name", ["folder/", "blank.csv"])
def test_an_output_that_is_a_folder_or_begins_with_blanks_is_refused(tables, capsys, name):
    (tables.folder / "blank.csv").write_text(" " * 2000 + "mine")
    assert verify.main([*tables.flags, "--output", name]) == 2
    assert "Fix: " in capsys.readouterr().err
    assert not os.path.exists("folder") and (tables.folder / "blank.csv").read_text().endswith("mine")
