"""The rollback takes back what is still as the migration left it, and nothing else."""

import csv
import errno
import glob
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import types

import pytest
from conftest import LOCAL, before_first, patch_execute
from v22 import BY_ANN, DELETED, L, M, N, S, asset, changed, migrated, partiql, record, version

from load_migration import HERE, load_script, migration
from sample_assets import sample_assets, sample_shapes

pytestmark = pytest.mark.usefixtures("one_client")
rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")
test_script = load_script("v2.2_to_v2.3_migration_test.py")
SCRIPT = os.path.join(HERE, "v2.2_to_v2.3_migration_rollback.py")
ARCHIVE = "db01" + DELETED
_numbers = itertools.count(1)


def roll_back(tables, *journals, flags=()):
    """Run the rollback in this process; its exit status and what it reported."""
    folder = tables.folder / ("rollback-%d" % next(_numbers))
    argv = tables.flags + ["--report-dir", str(folder), "--yes"] + list(flags)
    for journal in journals:
        argv += ["--journal", str(getattr(journal, "journal", journal))]
    return results(rollback.main(argv), folder)


WOULD = {name: outcome for outcome, name in rollback.DRY_RUN_OUTCOMES.items()}


def results(status, folder):
    """A dry run's outcomes are called as those of the rollback that it foresees, so that both can be compared."""
    (summary,) = (json.loads(path.read_text()) for path in folder.glob("*_summary.json"))
    (report,) = folder.glob("*.csv")
    with open(report, newline="", encoding="utf-8-sig") as file:
        rows = [{**row, "outcome": WOULD.get(row["outcome"], row["outcome"])} for row in csv.DictReader(file)]
    outcomes = {WOULD.get(name, name): count for name, count in summary["outcomes"].items() if count}
    return types.SimpleNamespace(status=status, summary=summary, rows=rows, outcomes=outcomes)


def key_of(item):
    return {name: item[name] for name in ("databaseId", "assetId")}


def lines_of(run):
    """The lines of a journal: header, entries, and not the end, for what is made of them has another one."""
    header, *entries, end = run.journal.read_text().splitlines(True)
    assert end.startswith('{"end":')
    return [header, *entries]


def edit(tables, item, **changes):
    """What a user does to a stored asset; None removes an attribute."""
    stored = tables.asset(item["databaseId"]["S"], item["assetId"]["S"])
    tables.put(changed(stored, changes))


def refuse(database, statements):
    """Stands for Database.execute where nothing must be written."""
    raise AssertionError("a write was sent: %s" % partiql(statements[0]))


# --- Everything back ------------------------------------------------------------------


def test_every_shape_is_as_it_was_before(tables):
    tables.load(item for name, item in sample_shapes())
    before = tables.contents()
    run = tables.migrate()
    undone = roll_back(tables, run)
    assert tables.contents() == before
    assert (undone.status, undone.outcomes) == (0, {"restored": len(before[0])})
    assert undone.rows == []


def test_five_hundred_assets_in_two_runs_then_a_new_migration_is_the_same_as_the_first(tables):
    tables.load(sample_assets(500))
    before = tables.contents()
    first = tables.migrate("--limit", "230")
    second = tables.migrate()
    after = tables.contents()
    undone = roll_back(tables, first, second)
    assert tables.contents() == before
    assert undone.outcomes == {"restored": 500}
    assert undone.summary["assets_restored"] == 500
    assert tables.migrate().status == 0
    assert tables.contents() == after
    assert verify.main(tables.flags + ["--report-dir", "reports"]) == 0


def test_other_assets_and_records_are_not_touched(tables):
    tables.put(asset("ours"))
    run = tables.migrate()
    tables.put(asset("later"), migrated("of-v23"))
    tables.put_records(record("of-v23"), record("ours", assetVersionId="2"))
    others = tables.contents()
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents()[0] == {**others[0], ("db01", "ours"): asset("ours")}
    assert set(tables.contents()[1]) == {("of-v23", "3"), ("ours", "2")}


def test_a_second_rollback_writes_nothing(tables, monkeypatch):
    tables.load(item for name, item in sample_shapes())
    run = tables.migrate()
    roll_back(tables, run)
    patch_execute(monkeypatch, refuse)
    again = roll_back(tables, run)
    assert (again.status, set(again.outcomes)) == (0, {"nothing_to_restore"})
    assert again.rows == []


def test_the_first_rollback_would_fail_if_writes_were_refused(tables, monkeypatch):
    """So that the test above proves something."""
    tables.put(asset("a"))
    run = tables.migrate()
    patch_execute(monkeypatch, refuse)
    with pytest.raises(AssertionError, match="a write was sent: UPDATE"):
        roll_back(tables, run)


def test_a_touched_asset_keeps_the_applications_version_record(tables):
    touched = changed(asset("a"), {"currentVersion": None, "currentVersionId": "7"})
    tables.put(touched)
    tables.put_records(record("a", assetVersionId="7"))
    before = tables.contents()
    run = tables.migrate()
    assert tables.contents() != before
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents() == before


def test_the_before_image_of_an_asset_for_which_nothing_was_written_is_taken_back(tables):
    """It was in the journal, for the conflict shows only later. A journal without any other leaves nothing."""
    tables.put(asset("a"))
    tables.put_records(record("a", comment="another asset's"))
    run = tables.migrate()
    assert run.codes == {"version_conflict"} and "journal" not in run.summary["files"]
    assert os.listdir(str(run.folder / "backups")) == []
    tables.put(asset("b"))
    before = tables.contents()
    run = tables.migrate()
    assert run.codes == {"version_conflict"} and run.journal.read_text().count('{"asset":') == 2
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents() == before


def test_a_version_id_too_long_for_a_key_stops_neither_migration_nor_rollback(tables):
    tables.put(
        asset("a"), asset("b", currentVersion=version(Version="1" * 1025)), asset("c", currentVersionId="1" * 1025)
    )
    before = tables.contents()
    run = tables.migrate()
    assert run.codes == {"rejected_by_dynamodb", "conflicting_version_ids"}
    assert roll_back(tables, run).outcomes == {"restored": 1, "nothing_to_restore": 1}
    assert tables.contents() == before


# --- What users changed since ---------------------------------------------------------


def test_edits_of_attributes_that_the_migration_does_not_own_stay(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    edit(tables, asset("a"), description="edited", tags=None, rating=N(5))
    assert roll_back(tables, run).outcomes == {"restored": 1}
    expected = changed(asset("a"), {"description": "edited", "tags": None, "rating": N(5)})
    assert tables.asset("db01", "a") == expected
    assert tables.record("a", "3") is None


@pytest.mark.parametrize(
    "field, value",
    [
        ("currentVersionId", "4"),
        ("assetLocation", M(Key="elsewhere/", Bucket="another")),
        ("previewLocation", M(Key="previews/new.png", Bucket="asset-bucket")),
        ("previewLocation", None),
        ("versions", {"L": []}),
    ],
)
def test_an_asset_changed_since_is_reported_and_not_touched(tables, field, value):
    tables.put(asset("a"), asset("b"))
    run = tables.migrate()
    edit(tables, asset("a"), **{field: value})
    edited = tables.contents()
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"restored": 1, "changed_since": 1})
    (row,) = undone.rows
    assert (row["database_id"], row["asset_id"], row["outcome"]) == ("db01", "a", "changed_since")
    assert (row["code"], row["field"]) == ("changed_since", field)
    assert tables.contents() == (
        {**edited[0], ("db01", "b"): asset("b")},
        {("a", "3"): edited[1]["a", "3"]},
    )


@pytest.mark.parametrize(
    "before, change",
    [
        # Touched by the application before: the migration left its currentVersionId.
        (changed(asset("a"), {"currentVersion": None, "currentVersionId": "7"}), {"previewLocation": None}),
        # Without any field that the migration removes.
        ({name: asset("a")[name] for name in ("databaseId", "assetId", "assetName")}, {"currentVersionId": "1"}),
    ],
)
def test_an_asset_changed_since_is_told_from_one_never_migrated(tables, before, change):
    tables.put(before)
    run = tables.migrate()
    assert run.summary["outcomes"]["migrated"] == 1
    edit(tables, before, **change)
    edited = tables.contents()
    assert roll_back(tables, run).outcomes == {"changed_since": 1}
    assert tables.contents() == edited


def test_all_changed_fields_are_named(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    edit(tables, asset("a"), currentVersionId="4", previewLocation=None)
    (row,) = roll_back(tables, run).rows
    assert row["field"] == "previewLocation, currentVersionId"
    assert 'currentVersionId is {"S":"4"}, not {"S":"3"}' in row["message"]
    assert "previewLocation is absent, not " in row["message"]


def test_a_deleted_asset_is_not_brought_back(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"asset_deleted": 1})
    assert undone.rows[0]["code"] == "asset_deleted"
    assert tables.contents() == ({}, {})


def test_an_asset_archived_since_keeps_its_version_record(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    stored = tables.asset("db01", "a")
    tables.client.delete_item(TableName=tables.assets, Key=key_of(stored))
    tables.put(changed(stored, {"databaseId": ARCHIVE}))
    archived = tables.contents()
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"asset_deleted": 1})
    assert ARCHIVE in undone.rows[0]["message"]
    assert tables.contents() == archived


def test_a_version_record_changed_since_stays(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    tables.put_records(record("a", comment="edited"))
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"record_kept": 1})
    assert undone.rows[0]["code"] == "version_record_changed"
    where = "version_conflict: assetId a, assetVersionId 3 in %s." % tables.versions
    assert undone.rows[0]["message"].endswith(where)
    assert tables.contents() == ({("db01", "a"): asset("a")}, {("a", "3"): record("a", comment="edited")})


def test_the_date_of_a_record_is_part_of_its_content(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    tables.put_records(record("a", dateCreated="2020-01-01T00:00:00Z"))
    assert roll_back(tables, run).outcomes == {"record_kept": 1}


def test_an_asset_edited_after_a_rollback_has_nothing_to_restore(tables, capsys):
    tables.put(asset("a"))
    run = tables.migrate()
    roll_back(tables, run)
    edited = changed(asset("a"), {"currentVersion": version(Version="4"), "description": "edited"})
    tables.put(edited)
    capsys.readouterr()
    again = roll_back(tables, run)
    assert (again.status, again.outcomes) == (0, {"nothing_to_restore": 1})
    assert "\nNext: see that all but what users made is as it was before:\n" in capsys.readouterr().out
    # What the migration leaves alone is no matter of a rollback.
    assert [(row["code"], row["field"]) for row in again.rows] == [("edited_in_old_form", "currentVersion")]
    assert tables.contents() == ({("db01", "a"): edited}, {})


def test_sets_are_compared_whatever_their_order():
    one = {"M": {"names": {"SS": ["a", "b"]}, "SS": S("an attribute of that name")}}
    other = {"M": {"names": {"SS": ["b", "a"]}, "SS": S("an attribute of that name")}}
    assert migration.same(one, other)
    assert not migration.same(one, {"M": {"names": {"SS": ["b", "c"]}, "SS": S("an attribute of that name")}})
    assert not migration.same({"L": [S("a"), S("b")]}, {"L": [S("b"), S("a")]})


# --- Twins: an archived and a live asset of one assetId and version --------------------

LIVE = asset("twin")
ARCHIVED = asset("twin", ARCHIVE, currentVersion=version(Comment="of the archived one"))


@pytest.mark.parametrize("order", [(ARCHIVE, "db01"), ("db01", ARCHIVE)])
def test_twins_migrated_in_two_runs_are_both_restored(tables, order):
    tables.put(LIVE, ARCHIVED)
    before = tables.contents()
    runs = [tables.migrate("--database-id", name) for name in order]
    assert tables.record("twin", "3") == record("twin")
    undone = roll_back(tables, *runs)
    assert (undone.status, undone.outcomes) == (0, {"restored": 2})
    assert tables.contents() == before


@pytest.mark.parametrize("order", [(ARCHIVE, "db01"), ("db01", ARCHIVE)])
def test_taking_back_the_later_run_leaves_what_the_earlier_made(tables, order):
    tables.put(LIVE, ARCHIVED)
    before = tables.contents()
    first = tables.migrate("--database-id", order[0])
    between = tables.contents()
    second = tables.migrate("--database-id", order[1])
    assert roll_back(tables, second).outcomes == {"restored": 1}
    assert tables.contents() == between
    assert roll_back(tables, first).outcomes == {"restored": 1}
    assert tables.contents() == before


@pytest.mark.parametrize("order", [(ARCHIVE, "db01"), ("db01", ARCHIVE)])
def test_taking_back_the_earlier_run_first_leaves_the_later_ones_record(tables, order):
    tables.put(LIVE, ARCHIVED)
    before = tables.contents()
    first, second = [tables.migrate("--database-id", name) for name in order]
    undone = roll_back(tables, first)
    assert undone.status == 0 and tables.record("twin", "3") is not None
    stays = ["The version record 3 stays: the asset under databaseId %s needs it." % ARCHIVE]
    assert [row["message"] for row in undone.rows] == (stays if order[0] == "db01" else [])
    assert roll_back(tables, second).status == 0
    if order[0] == "db01":  # the second run kept it, and only the first one's journal says who made it
        assert tables.record("twin", "3") == record("twin")
        assert roll_back(tables, first).outcomes == {"nothing_to_restore": 1}
    assert tables.contents() == before


@pytest.mark.parametrize("order", [(ARCHIVE, "db01"), ("db01", ARCHIVE)])
def test_twins_are_restored_whatever_the_order_of_lines_in_one_journal(tables, order):
    """Assets under way at once have their lines in any order. Only the line on the other's record
    comes later than the image of the asset that found it."""
    tables.put(LIVE, ARCHIVED)
    before = tables.contents()
    runs = [tables.migrate("--database-id", name) for name in order]
    after = tables.contents()
    header, *lines = lines_of(runs[0])
    lines += lines_of(runs[1])[1:]
    first, second, found = lines
    mixes = [mix for mix in itertools.permutations(lines) if mix.index(second) < mix.index(found)]
    assert len(mixes) == 3
    for number, mix in enumerate(mixes):
        journal = tables.folder / ("mixed-%d.jsonl" % number)
        journal.write_text(header + "".join(mix))
        foreseen = roll_back(tables, journal, flags=["--dry-run"])
        assert tables.contents() == after
        undone = roll_back(tables, journal)
        assert tables.contents() == before
        assert undone.outcomes == foreseen.outcomes == {"restored": 2}
        for name in ("assets_restored", "version_records_removed"):
            assert undone.summary[name] == foreseen.summary[name]
        tables.put(*after[0].values())
        tables.put_records(*after[1].values())


def test_a_record_shared_with_an_archived_asset_stays_until_that_is_restored_too(tables):
    """Interrupted between the live asset's record and the asset, the archived one kept it. No journal says who made it,
    so it stays."""
    tables.put(LIVE, ARCHIVED)
    tables.put_records(record("twin"))
    before = tables.contents()
    archived = tables.migrate("--database-id", ARCHIVE)
    between = tables.contents()
    live = tables.migrate("--database-id", "db01")
    assert roll_back(tables, live).outcomes == {"restored": 1}
    assert tables.contents() == between
    assert roll_back(tables, archived).outcomes == {"restored": 1}
    assert tables.contents() == before


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_somebody_elses_record_that_an_archived_asset_kept_is_none_of_ours(tables, flags):
    tables.put(ARCHIVED)
    tables.put_records(record("twin", comment="of somebody else"))
    before = tables.contents()
    run = tables.migrate()
    after = tables.contents()
    assert (run.status, after[1]) == (0, before[1])
    undone = roll_back(tables, run, flags=flags)
    assert (undone.status, undone.outcomes) == (0, {"restored": 1})
    assert tables.contents() == (after if flags else before)


def test_the_replaced_record_is_not_put_back_for_an_archived_asset_that_is_gone(tables):
    tables.put(LIVE, ARCHIVED)
    tables.migrate("--database-id", ARCHIVE)
    run = tables.migrate("--database-id", "db01")
    tables.client.delete_item(TableName=tables.assets, Key=key_of(ARCHIVED))
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents() == ({("db01", "twin"): LIVE}, {})


def test_of_two_replaced_records_the_later_counts(tables):
    """Between the line and the replacement the record was changed once more."""
    tables.put(LIVE, ARCHIVED)
    tables.migrate("--database-id", ARCHIVE)
    run = tables.migrate("--database-id", "db01")
    header, image, replaced = lines_of(run)
    earlier = replaced.replace("of the archived one", "of before")
    assert earlier != replaced
    run.journal.write_text(header + image + earlier + replaced)
    (read,) = rollback.read_before_images(rollback.open_journals([str(run.journal)], LOCAL, rollback.Skipped()))
    assert [claim.was["comment"] for claim in read.claims] == [S("of the archived one")]


def test_assets_of_two_databases_with_one_assetid(tables):
    other = asset("twin", "db02", currentVersion=version(Comment="of another database"))
    tables.put(LIVE, ARCHIVED, other)
    before = tables.contents()
    runs = [tables.migrate("--database-id", name) for name in (ARCHIVE, "db01", "db02")]
    assert [run.status for run in runs] == [0, 0, 1]
    undone = roll_back(tables, *runs[:2])  # the third one has written nothing
    assert undone.outcomes == {"restored": 2}
    assert tables.contents() == before


# --- Interruptions --------------------------------------------------------------------


def test_an_image_superseded_during_the_migration_does_not_count(tables, monkeypatch):
    tables.put(asset("a"))
    newer = asset("a", currentVersion=version(Version="4"))
    with monkeypatch.context() as patch:
        assert before_first(patch, "UPDATE", lambda: tables.put(newer)) == []
        run = tables.migrate()
    assert run.status == 0
    assert run.journal.read_text().count('"again":true') == 1
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (0, {"restored": 1, "superseded": 1})
    assert tables.contents() == ({("db01", "a"): newer}, {})


def test_a_superseded_image_of_an_asset_changed_since_leaves_the_record(tables, monkeypatch):
    tables.put(asset("a"))
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: tables.put(asset("a", Parent="moved")))
        run = tables.migrate()
    edit(tables, asset("a"), previewLocation=None)
    edited = tables.contents()
    assert roll_back(tables, run).outcomes == {"changed_since": 1, "superseded": 1}
    assert tables.contents() == edited


def test_a_migration_killed_between_record_and_asset_leaves_no_record(tables, monkeypatch):
    tables.load(item for name, item in sample_shapes())
    before = tables.contents()

    def crash():
        raise SystemError("as if killed")

    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", crash)
        with pytest.raises(SystemError):
            tables.migrate("--workers", "1")
    assert tables.contents()[0] == before[0] and tables.contents()[1]
    (journal,) = tables.folder.glob("run-*/backups/*.jsonl")
    interrupted = roll_back(tables, journal)
    assert interrupted.status == 0
    assert tables.contents() == before


def test_the_remedy_for_a_version_conflict_with_a_killed_run(tables, monkeypatch):
    """The asset was edited in between; README.md, Failures. What failed untouched hinders nobody, however often the
    migration was tried, and what those runs have migrated stays."""
    tables.put(asset("a"))
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: sys.exit())
        with pytest.raises(SystemExit):
            tables.migrate()
    (killed,) = tables.folder.glob("run-*/backups/*.jsonl")
    edited = asset("a", currentVersion=M(Version="3", Comment="another"))
    tables.put(edited, asset("b"))
    folders = ["--journal-dir", str(killed.parent), "--report-dir", "reports"]
    for _ in range(2):
        assert migration.main([*tables.flags, *folders]) == 1
    undone = roll_back(tables, killed)
    assert (undone.status, undone.outcomes) == (0, {"nothing_to_restore": 1})
    assert [(row["asset_id"], row["code"]) for row in undone.rows] == [("a", "edited_in_old_form")]
    assert tables.asset("db01", "a") == edited and tables.record("a", "3") is None
    assert migration.main([*tables.flags, *folders]) == 0
    assert tables.record("a", "3")["comment"] == S("another")


def test_an_interrupted_migration_and_the_run_that_finished_it(tables, monkeypatch):
    tables.load(sample_assets(100))
    before = tables.contents()
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: os.kill(os.getpid(), signal.SIGINT))
        # With a limit they are read as one page: those not begun come to the journal too.
        first = tables.migrate("--workers", "1", "--batch-size", "5", "--limit", "100")
    second = tables.migrate()
    assert (first.status, second.status) == (130, 0)
    assert first.summary["outcomes"]["migrated"] > 0
    foreseen = roll_back(tables, second, first, flags=["--dry-run"])
    undone = roll_back(tables, second, first)
    assert undone.status == 0
    assert undone.outcomes == {"restored": 100}
    assert foreseen.outcomes == undone.outcomes
    assert foreseen.summary["version_records_removed"] == undone.summary["version_records_removed"]
    assert tables.contents() == before


def test_what_a_stopped_run_has_not_begun_is_users_own(tables, monkeypatch, capsys):
    """They delete, or edit, what was stopped before its turn; then the migration is finished, and proved."""
    tables.put(*(asset("a%02d" % number) for number in range(40)))
    folders = ["--journal-dir", "backups", "--report-dir", "reports"]
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: os.kill(os.getpid(), signal.SIGINT))
        assert migration.main([*tables.flags, *folders, "--workers", "1", "--batch-size", "5", "--limit", "40"]) == 130
    first, second = [key for key, item in sorted(tables.contents()[0].items()) if "currentVersion" in item][:2]
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S(first[0]), "assetId": S(first[1])})
    tables.put(asset(second[1], currentVersion=version(Comment="edited")))
    before = tables.contents()[0]
    assert migration.main([*tables.flags, *folders]) == 0
    assert verify.main([*tables.flags, "--journal", "backups"]) == 0
    assert "VERIFIED: 39 assets and 39 version records read, 39 before images" in capsys.readouterr().out
    assert rollback.main([*tables.flags, "--journal", "backups", "--yes"]) == 0
    assert tables.contents()[0][second] == before[second] and len(tables.contents()[0]) == 39
    assert verify.main([*tables.flags, "--restored", "--journal", "backups"]) == 0


def test_an_asset_changed_between_look_and_restoration_is_looked_at_again(tables, monkeypatch):
    tables.put(asset("a"))
    run = tables.migrate()
    before_first(monkeypatch, "UPDATE", lambda: edit(tables, asset("a"), currentVersionId="4"))
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"changed_since": 1})
    assert tables.asset("db01", "a")["currentVersionId"] == S("4")
    assert tables.record("a", "3") == record("a")


def test_a_record_changed_between_look_and_removal_stays(tables, monkeypatch):
    tables.put(asset("a"))
    run = tables.migrate()
    before_first(monkeypatch, "DELETE", lambda: tables.put_records(record("a", comment="edited")))
    assert roll_back(tables, run).outcomes == {"record_kept": 1}
    assert tables.contents() == ({("db01", "a"): asset("a")}, {("a", "3"): record("a", comment="edited")})


def test_an_asset_that_keeps_changing_is_given_up(tables, monkeypatch):
    tables.put(asset("a"))
    run = tables.migrate()
    refused = ("ConditionalCheckFailed", "The conditional request failed")
    patch_execute(monkeypatch, lambda self, statements: ([refused] * len(statements), None))
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"failed": 1})
    assert undone.rows[0]["code"] == "changed_during_rollback"


@pytest.mark.parametrize("word", ["UPDATE", "DELETE"])
def test_a_write_whose_answer_was_lost_is_not_reported_as_somebody_elses(tables, monkeypatch, word):
    tables.put(asset("a"))
    run = tables.migrate()
    execute, lost = migration.Database.execute, []

    def lose_first_answer(database, statements):
        answer = execute(database, statements)
        if not lost and partiql(statements[0]).startswith(word):
            lost.append(True)
            raise migration.TryAgain("no answer from DynamoDB")
        return answer

    patch_execute(monkeypatch, lose_first_answer)
    undone = roll_back(tables, run)
    assert lost
    assert (undone.status, undone.outcomes) == (0, {"restored": 1})
    assert tables.contents() == ({("db01", "a"): asset("a")}, {})


def test_a_restoration_that_dynamodb_rejects_keeps_the_version_record(tables):
    tables.put(asset("a", versions={"L": [S("x" * 300000)]}))
    run = tables.migrate()
    edit(tables, asset("a"), notes="y" * 200000)  # together more than the 400 KB of an item
    edited = tables.contents()
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (1, {"failed": 1})
    assert undone.rows[0]["code"] == "rejected_by_dynamodb"
    assert tables.contents() == edited


def start_rollback(tables, journal, *flags):
    command = [sys.executable, SCRIPT, "--journal", str(journal), "--report-dir", "reports", "--workers", "1", "--yes"]
    return subprocess.Popen(command + tables.flags + list(flags), stdin=subprocess.DEVNULL)


def wait_until_some_are_restored(tables, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any("currentVersionId" not in item for item in tables.contents()[0].values()):
            return
        time.sleep(0.05)
    raise AssertionError("the rollback had ended, or had not begun, before it could be interrupted")


def test_a_journal_that_grew_after_it_was_counted(tables, monkeypatch):
    """As it may on a file system without locks."""
    tables.put(asset("a"), asset("b"))
    run, survey = tables.migrate(), rollback.survey
    monkeypatch.setattr(rollback, "survey", lambda journals: ([1], survey(journals)[1]))
    undone = roll_back(tables, run)
    assert undone.outcomes == {"restored": 2}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_run_again_it_ends_as_if_it_had_not_been(tables, number):
    tables.load(sample_assets(300))
    before = tables.contents()
    run = tables.migrate()
    process = start_rollback(tables, run.journal, "--max-write-units", "150", "--batch-size", "7")
    wait_until_some_are_restored(tables, process)
    process.send_signal(number)
    status = process.wait(60)
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert any("currentVersionId" in item for item in tables.contents()[0].values())
    if number != signal.SIGKILL:
        left = results(status, tables.folder / "reports").outcomes
        assert sum(left.values()) == 300
        assert left["not_finished"] > 0
        # What was begun is finished, the version record too.
        assert left["restored"] == sum("currentVersionId" not in item for item in tables.contents()[0].values())
    assert roll_back(tables, run).status == 0
    assert tables.contents() == before


# --- Dry run, question, journals ------------------------------------------------------


def test_a_dry_run_says_the_same_and_writes_nothing(tables, monkeypatch, capsys):
    tables.load(sample_assets(120))
    run = tables.migrate()
    edited, deleted = [item for name, item in sample_shapes()][3:5]
    edit(tables, edited, currentVersionId="9")
    tables.client.delete_item(TableName=tables.assets, Key=key_of(deleted))
    with monkeypatch.context() as patch:
        patch_execute(patch, refuse)
        foreseen = roll_back(tables, run, flags=["--dry-run"])
    assert "  + currentVersion: " in capsys.readouterr().out
    undone = roll_back(tables, run)
    assert undone.outcomes == {"restored": 118, "changed_since": 1, "asset_deleted": 1}
    assert (foreseen.status, foreseen.outcomes) == (undone.status, undone.outcomes)
    # In no order: reads go side by side.
    assert sorted(map(sorted, map(dict.items, foreseen.rows))) == sorted(map(sorted, map(dict.items, undone.rows)))
    for name in ("assets_restored", "version_records_removed"):
        assert foreseen.summary[name] == undone.summary[name]


def test_dry_run_of_a_configuration_counts_and_its_choice_of_assets_does_not(tables):
    tables.put(asset("a"))
    before = tables.contents()
    run = tables.migrate()
    config = tables.folder / "config.json"
    config.write_text(json.dumps({"dry_run": True, "limit": 1, "database_id": ["another"]}))
    flags = ["--config", str(config)]
    foreseen = roll_back(tables, run, flags=flags)
    assert foreseen.outcomes == {"restored": 1}
    assert (foreseen.summary["settings"]["limit"], foreseen.summary["settings"]["database_id"]) == (None, [])
    assert tables.contents() != before
    assert roll_back(tables, run, flags=flags + ["--no-dry-run"]).outcomes == {"restored": 1}
    assert tables.contents() == before


@pytest.mark.parametrize(
    "answer, flags, asked", [("n", [], 1), ("y", [], 1), ("n", ["--yes"], 0), ("n", ["--dry-run"], 0)]
)
def test_it_asks_on_a_terminal_before_it_writes(tables, monkeypatch, answer, flags, asked):
    tables.put(asset("a"))
    before = tables.contents()
    run = tables.migrate()
    questions = []
    monkeypatch.setattr(migration, "ask", lambda question, default: questions.append(question) or answer == "y")
    argv = tables.flags + ["--journal", str(run.journal), "--report-dir", "reports"]
    declined = asked and answer == "n"
    assert rollback.main(argv + flags) == (130 if declined else 0)
    assert len(questions) == asked
    assert (tables.contents() == before) is not (declined or "--dry-run" in flags)


def test_a_dry_run_says_that_it_is_one_and_what_comes_next(tables, capsys):
    tables.put(asset("a"))
    run = tables.migrate()
    capsys.readouterr()
    argv = [*tables.flags, "--journal", str(run.journal), "--report-dir", "back"]
    assert rollback.main([*argv, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    report, summary = sorted(os.listdir("back"))
    assert report.startswith("dryrun_rollback_") and summary == report.replace(".csv", "_summary.json")
    with open(os.path.join("back", summary)) as file:
        assert json.load(file)["outcomes"]["would_restore"] == 1
    *_, step, command = shown.splitlines()
    assert step == "Next: roll back:" and "--dry-run" not in command and "--journal %s" % run.journal in command
    assert rollback.main([*argv, "--yes", "--log-file", "back.log"]) == 0
    shown = capsys.readouterr().out
    assert "log       back.log" in shown and shown.splitlines()[-1].endswith(" --restored --html")


def refusal(tables, capsys, argv):
    """The exit status and the message of a rollback that must not write."""
    before = tables.contents()
    status = rollback.main(argv + ["--report-dir", "reports"])
    assert tables.contents() == before
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    "flag, value, name",
    [
        ("--assets-table", "other-assets", "assets_table_name"),
        ("--asset-versions-table", "other-versions", "asset_versions_table_name"),
        ("--asset-bucket", "other-bucket", "asset_bucket_name"),
        ("--endpoint-url", "http://localhost:1", "endpoint_url"),
        ("--region", "eu-west-1", "region"),
    ],
)
def test_a_journal_of_another_migration_is_refused(tables, capsys, flag, value, name):
    tables.put(asset("a"))
    run = tables.migrate()
    status, message = refusal(tables, capsys, tables.flags + ["--journal", str(run.journal), flag, value])
    assert status == 2
    assert "its %s is " % name in message
    assert "Fix: " in message


def test_a_damaged_journal_is_refused_before_anything_is_begun(tables, capsys):
    tables.put(asset("a"), asset("b"), asset("c"))
    run = tables.migrate()
    lines = run.journal.read_text().splitlines(True)
    run.journal.write_text("".join(lines[:1] + [lines[1][:99] + "\n"] + lines[2:]))
    status, message = refusal(tables, capsys, tables.flags + ["--journal", str(run.journal)])
    assert (status, "is damaged" in message) == (2, True)
    assert not os.path.exists("reports")


@pytest.mark.parametrize("before_end", [1, 2])
@pytest.mark.parametrize("given", ["folder", "the others"])
def test_the_remedy_for_a_damaged_journal_beside_the_others_works(tables, capsys, before_end, given):
    """It may be of a later run. One of other tables does not matter, nor does it to the verification."""
    tables.put(*(asset(name) for name in "abcdefg"))
    for count in (1, 4, 7):
        assert migration.main([*tables.flags, "--limit", str(count)]) == 0
    first, damaged, third = (os.path.join("backups", name) for name in sorted(os.listdir("backups")))
    with open(damaged) as file:
        lines = file.readlines()
    lines[-1 - before_end] = lines[-1 - before_end][:99] + "\n"
    with open(damaged, "w") as file:
        file.writelines(lines)
    with open(os.path.join("backups", "other.jsonl"), "w") as file:
        file.write(
            "".join(lines).replace('"%s"' % tables.versions, '"of-others"').replace('"stem":"', '"stem":"other_')
        )
    before = tables.contents()
    flags = [*tables.flags, "--journal", *(["backups"] if given == "folder" else [first, third])]
    capsys.readouterr()
    assert rollback.main([*flags, "--yes"]) == 2
    error = capsys.readouterr().err
    assert "Journal %s is damaged, %d lines before its end.\n" % (damaged, before_end) in error
    assert "\n  Fix: use an undamaged copy of it. Without one, leave it out, and move it out of its folder: " in error
    assert tables.contents() == before
    assert verify.main(flags) == 0
    shown = capsys.readouterr().out
    notes = {"folder": {"journal_damaged": 1, "no_before_image": 3}, "the others": {"no_before_image": 3}}
    with open(sorted(glob.glob("reports/verification_*_summary.json"))[-1]) as file:
        assert json.load(file)["notes"] == notes[given]
    assert ("  skipped         Journal %s is damaged, " % damaged in shown) is (given == "folder")
    assert ("journal %s: NOT GIVEN" % damaged in shown) is (given != "folder")
    assert verify.main([*tables.flags, "--journal", damaged]) == 2
    os.rename(damaged, "damaged.jsonl")
    capsys.readouterr()
    assert rollback.main([*flags, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "            4  restored\n" in shown and "%s, lost or elsewhere, with 3 before images" % damaged in shown


@pytest.mark.parametrize("given", ["folder", "the other"])
@pytest.mark.parametrize(
    "edited",
    [
        lambda text: b"\xef\xbb\xbf" + text,  # as an editor may save it
        lambda text: text.decode().encode("utf-16"),
        lambda text: b"\n" + text,
        lambda text: text[1:],
        lambda text: text.split(b"\n", 1)[1],
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: text.replace(b"\n", b""),
        lambda text: text.replace(b'"format":', b'"format":1', 1),  # of another version of the tool
    ],
)
def test_a_journal_whose_first_line_is_damaged_is_refused_in_a_folder_too(tables, capsys, edited, given):
    """By the older one alone, what users edited between the two runs would be lost."""
    tables.put(asset("a"))
    assert migration.main(tables.flags) == 0
    (first,) = glob.glob("backups/*")
    assert rollback.main([*tables.flags, "--journal", first, "--yes"]) == 0
    tables.put(asset("a", currentVersion=version(Comment="Edited")))
    assert migration.main(tables.flags) == 0
    (second,) = set(glob.glob("backups/*")) - {first}
    with open(second, "rb") as file:
        text = file.read()
    with open(second, "wb") as file:
        file.write(edited(text))
    shutil.rmtree("reports")
    before = tables.contents()
    for flags in ([], ["--dry-run"]):
        capsys.readouterr()
        names = ["backups" if given == "folder" else first]
        assert rollback.main([*tables.flags, "--journal", *names, "--yes", *flags]) == 2
        error = capsys.readouterr().err
        assert second in error and "Fix: " in error and (" damaged" in error or " has format 1" in error)
    assert tables.contents() == before
    assert verify.main([*tables.flags, "--journal", "backups"]) in (0, 1)


@pytest.mark.parametrize("given", ["folder", "the other"])
def test_a_journal_that_may_not_be_read_is_refused_in_a_folder_too(tables, capsys, monkeypatch, given):
    """A colleague's, who migrated later."""
    tables.put(asset("a"), asset("b"))
    assert migration.main([*tables.flags, "--limit", "1"]) == 0
    (first,) = glob.glob("backups/*")
    assert migration.main(tables.flags) == 0
    first_line = migration.JournalFile.first_line

    def permitted(journal):
        if os.path.basename(journal.path) != os.path.basename(first):
            raise PermissionError(errno.EACCES, "Permission denied", journal.path)
        return first_line(journal)

    monkeypatch.setattr(migration.JournalFile, "first_line", permitted)
    before = tables.contents()
    names = ["backups" if given == "folder" else first]
    assert rollback.main([*tables.flags, "--journal", *names, "--yes"]) == 2
    error = capsys.readouterr().err
    assert ", if it is one, cannot be read: Permission denied.\n  Fix: have it readable. " in error
    assert tables.contents() == before


def test_files_of_others_in_the_folder_are_in_nobodys_way(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    os.mkdir(str(run.journal.parent / "folder.jsonl"))
    for number, text in enumerate(['{"start":1,"end":2}\n', "[]\n", '{"a":"asset"}\n']):
        (run.journal.parent / ("mine%d.jsonl" % number)).write_text(text)
    assert roll_back(tables, run.journal.parent).status == 0


def test_a_first_line_that_a_full_disk_cut_off_is_no_damage(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    for part in ("", '{"jour', lines_of(run)[0][:60], lines_of(run)[0][:-1]):
        (run.journal.parent / "cut.jsonl").write_text(part)
        assert roll_back(tables, run.journal.parent).status == 0


def test_numbers_in_maps_come_back_as_they_were_typed(tables):
    """DynamoDB Local keeps them so."""
    tables.put(asset("a", more=L(N("+5"), M(x=N("+1E+5")))))
    before = tables.contents()
    run = tables.migrate()
    assert verify.main([*tables.flags, "--journal", str(run.journal)]) == 0
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents() == before


def test_a_last_line_cut_off_by_a_crash_is_no_damage(tables):
    tables.put(asset("a"))
    before = tables.contents()
    run = tables.migrate()
    run.journal.write_text("".join(lines_of(run)) + '{"asset":{"databaseId":{"S":"db')
    assert roll_back(tables, run).outcomes == {"restored": 1}
    assert tables.contents() == before


@pytest.mark.parametrize("argv", [[], ["--journal", "missing.jsonl"], ["--journal", SCRIPT], ["--limit", "1"]])
def test_wrong_usage(tables, capsys, argv):
    status, message = refusal(tables, capsys, tables.flags + argv)
    assert (status, "Fix: " in message) == (2, True)


def test_missing_tables_stop_it_before_it_writes(tables, capsys):
    tables.put(asset("a"))
    run = tables.migrate()
    header, *lines = run.journal.read_text().splitlines(True)
    run.journal.write_text(header.replace(tables.versions, "no-such-table") + "".join(lines))
    argv = tables.flags + ["--journal", str(run.journal), "--asset-versions-table", "no-such-table"]
    status, message = refusal(tables, capsys, argv)
    assert (status, "no-such-table was not found" in message) == (3, True)


def test_it_names_journals_of_the_same_tables_that_were_not_given(tables, capsys):
    tables.put(asset("a"), asset("b"))
    folder = ["--journal-dir", "backups", "--report-dir", "reports"]
    assert migration.main(tables.flags + folder + ["--limit", "1"]) == 0
    assert migration.main(tables.flags + folder) == 0
    assert migration.main(tables.flags + folder) == 0
    first, second = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    empty = os.path.join("backups", "empty.jsonl")  # of a migration that was killed before it wrote
    with open(first) as journal, open(empty, "w") as copy:
        copy.write(journal.readline().replace('"stem":"', '"stem":"empty_'))
    capsys.readouterr()
    flags = [*tables.flags, "--journal", first]
    assert rollback.main([*flags, "--yes"]) == 0
    output = capsys.readouterr().out
    assert "NOT GIVEN       %s, " % second in output
    assert empty not in output
    result, next_step = output.split("Result:")[1].split("\nNext: ")
    assert "\n            1  still migrated, at most, by the journals not given\n" in result
    assert result.endswith("  warning  journal %s: NOT GIVEN; what its run migrated is not in this result\n" % second)
    assert "; look at the journals not given, by which up to 1 asset may be migrated:\n" in next_step
    assert verify.main([*flags, "--restored"]) == 0
    verdict, warning, _, step, command = capsys.readouterr().out.splitlines()[-5:]
    assert verdict.startswith("VERIFIED IN PART: after a rollback, 1 asset compared with before the migration, 1 other")
    assert second in warning and "NOT GIVEN" in warning
    assert step.startswith("Next: one asset is still migrated: to roll back the rest too, give all journals;")
    assert command.endswith("_rollback.py %s --journal backups" % " ".join(tables.flags))
    os.rename("backups", "elsewhere")
    second = os.path.join("elsewhere", os.path.basename(second))
    assert verify.main([*tables.flags, "--journal", second, "--restored"]) == 1
    capsys.readouterr()
    roll_back(tables, "elsewhere")
    assert "NOT GIVEN" not in capsys.readouterr().out
    assert verify.main([*tables.flags, "--journal", "elsewhere", "--restored"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Next: nothing is left to take back; ")


def test_what_no_rollback_can_take_back_is_not_asked_of_it_for_ever(tables, capsys):
    """A user made a new version of one asset, and edited the record of another: what is left is a person's."""
    tables.put(*(asset(name) for name in "abc"))
    assert migration.main(tables.flags) == 0
    tables.put(changed(tables.asset("db01", "b"), {"currentVersionId": "4"}))
    tables.put_records(record("c", comment="edited"), record("b", assetVersionId="4", **BY_ANN))
    flags = [*tables.flags, "--journal", "backups"]

    def last_lines():
        return capsys.readouterr().out.split("\nNext: ")[-1].splitlines()

    assert verify.main([*flags, "--restored"]) == 1
    assert last_lines()[1].endswith("_verify.py %s" % " ".join(flags))  # no rollback is known yet
    assert rollback.main([*flags, "--yes"]) == 1
    step, command = last_lines()
    assert step == "see that all but what users made is as it was before:"
    assert command.endswith("_verify.py %s --restored --html" % " ".join(flags))
    assert verify.main([*flags, "--restored"]) == 1
    (step,) = last_lines()
    assert step.startswith(
        "a rollback by these journals has done what it can. What is left is in the report: keep what"
    )
    # A run that was not taken back yet is another matter.
    assert migration.main(tables.flags) == 1
    assert verify.main([*flags, "--restored"]) == 1
    assert last_lines()[1].endswith("_verify.py %s" % " ".join(flags))  # nor one of that run
    assert rollback.main([*flags, "--yes"]) == 1
    # By hand, as the README says: what the row names as it was left, once more, and what then is needed by no asset.
    tables.put(changed(tables.asset("db01", "b"), {"currentVersionId": "3"}))
    assert rollback.main([*flags, "--yes"]) == 0
    assert tables.asset("db01", "b") == asset("b")
    assert verify.main([*flags, "--restored", "--output", "out.csv"]) == 1
    with open("out.csv", encoding="utf-8-sig", newline="") as file:
        rows = {(row["asset_id"], row["error_type"]): row["error_message"] for row in csv.DictReader(file)}
    assert set(rows) == {("b", "record_of_user"), ("c", "record_left")}
    for (asset_id, _), version_id in zip(sorted(rows), "43"):
        key = "assetId %s, assetVersionId %s in %s." % (asset_id, version_id, tables.versions)
        assert [text for (name, _), text in rows.items() if name == asset_id][0].endswith(key)
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("c"), "assetVersionId": S("3")})
    assert verify.main([*flags, "--restored"]) == 0
    assert last_lines()[0].startswith("delete the version records that the rows record_of_user name; nothing is left")
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("b"), "assetVersionId": S("4")})
    assert verify.main([*flags, "--restored"]) == 0
    assert last_lines()[0].startswith("nothing is left to take back; ")


def test_a_missing_journal_is_not_forgotten_for_what_users_made(tables, capsys):
    tables.put(asset("a"), asset("b"))
    assert migration.main([*tables.flags, "--limit", "1"]) == 0
    (first,) = (key[1] for key, item in tables.contents()[0].items() if "currentVersionId" in item)
    assert migration.main([*tables.flags, "--journal-dir", "elsewhere", "--report-dir", "elsewhere"]) == 0
    tables.put(changed(tables.asset("db01", first), {"currentVersionId": "4"}))
    flags = [*tables.flags, "--journal", "backups"]
    capsys.readouterr()
    assert rollback.main([*flags, "--yes"]) == 1
    step = capsys.readouterr().out.split("\nNext: ")[1]
    assert step.startswith(
        "see that all but what users made is as it was before; see what is in no journal here, named above: 1 asset, "
    )
    assert verify.main([*flags, "--restored"]) == 1
    step = capsys.readouterr().out.split("\nNext: ")[1]
    assert step.startswith(
        "see the problems in the report; one asset is still migrated, by no journal beside those given:"
    )


def test_after_a_rollback_and_a_new_migration_what_users_made_before_is_no_problem(tables):
    """Of what is gone, in the archive, or has a version by v2.3, the run that was taken back says nothing."""
    tables.put(*(asset(name) for name in ("asis", "edited", "gone", "archived")))
    assert migration.main(tables.flags) == 0
    tables.put(changed(tables.asset("db01", "edited"), {"currentVersionId": "4"}))
    tables.put_records(record("edited", isCurrentVersion={"BOOL": False}))
    tables.put_records(record("edited", assetVersionId="4", **BY_ANN))
    archived = tables.asset("db01", "archived")
    for name in ("gone", "archived"):
        tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S(name)})
    tables.put({**archived, "databaseId": S(ARCHIVE)})

    def verified(*flags):
        status = verify.main([*tables.flags, "--journal", "backups", "--output", "out.csv", *flags])
        with open("out.csv", encoding="utf-8-sig", newline="") as file:
            rows = {(row["asset_id"], row["error_type"]): row["error_message"] for row in csv.DictReader(file)}
        return status, rows

    status, rows = verified()
    assert status == 1
    assert set(rows) == {("edited", "asset_content_differs"), ("edited", "record_content_differs"),
                         ("gone", "asset_missing"), ("archived", "asset_missing"), ("", "made_in_v23")}  # fmt: skip
    assert rows["archived", "asset_missing"].endswith(" There is one of its assetId under databaseId %s." % ARCHIVE)
    assert rows["", "made_in_v23"].endswith(": %s / archived." % ARCHIVE)
    assert rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == 1
    assert migration.main(tables.flags) == 0
    status, rows = verified()
    # Another run, whose journal is lost, may have migrated the archived one.
    left = {("archived", "gone_since"), ("archived", "left_by_rollback"), ("gone", "gone_since")}
    assert (status, set(rows)) == (0, {("", "made_in_v23"), *left})
    assert rows["", "made_in_v23"].endswith(": db01 / edited.")


def test_the_record_of_an_archived_twin_comes_back_after_a_rollback_that_was_killed(tables):
    """Between the asset and its record. The journal of the archived asset's run is not given."""
    tables.put(asset("a", ARCHIVE))
    tables.migrate("--database-id", ARCHIVE)
    of_archived = tables.record("a", "3")
    live = asset("a", currentVersion=version(Comment="live"))
    tables.put(live)
    done = tables.migrate("--database-id", "db01")
    tables.put(live)
    assert rollback.main([*tables.flags, "--yes", "--journal", str(done.journal)]) == 0
    assert tables.record("a", "3") == of_archived


def test_a_version_of_more_digits_than_python_takes_ends_nothing(tables):
    tables.put(asset("a"), migrated("a", "db02", currentVersionId="9" * 5000))
    done = tables.migrate("--database-id", "db01")
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("a")})
    assert rollback.main([*tables.flags, "--yes", "--journal", str(done.journal)]) == 1  # it is gone


def test_a_folder_of_journals_that_were_taken_back_does_not_undo_what_was_migrated_since(tables):
    """The later run's journal is lost. One that is named is taken back all the same."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0 and rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == 0
    assert rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == 0
    (first,) = os.listdir("backups")
    tables.put(asset("a", executionId="in between"), asset("b"))
    assert migration.main(tables.flags) == 0
    (second,) = set(os.listdir("backups")) - {first}
    os.remove(os.path.join("backups", second))
    migrated_again = tables.contents()
    for _ in range(2):
        assert rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == 1
        assert tables.contents() == migrated_again
    assert rollback.main([*tables.flags, "--yes", "--journal", os.path.join("backups", first)]) == 0
    assert tables.contents() == ({("db01", name): asset(name) for name in "ab"}, {})


def test_what_was_taken_back_a_week_ago_is_not_taken_back_again(tables, capsys):
    """Migrated, rolled back, a week of v2.2, migrated and rolled back again, each time by the journals' folder."""
    elsewhere = {"assetLocation": M(Key="pipelines/old.glb")}
    tables.put(asset("asis"), asset("gone"), asset("anew"), asset("moved", **elsewhere))
    flags = [*tables.flags, "--journal", "backups"]
    assert migration.main(tables.flags) == 0 and rollback.main([*flags, "--yes"]) == 0
    assert verify.main([*flags, "--restored"]) == 0
    for name in ("gone", "anew"):
        tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S(name)})
    tables.put(asset("anew", assetName="Another", currentVersion=version(Version=S("1"))), asset("moved"))
    week = tables.contents()
    assert migration.main(tables.flags) == 0
    assert verify.main([*flags, "--output", "out.csv"]) == 0
    with open("out.csv", encoding="utf-8-sig", newline="") as file:
        assert [(row["asset_id"], row["error_type"]) for row in csv.DictReader(file)] == [("gone", "gone_since")]
    capsys.readouterr()
    assert rollback.main([*flags, "--yes"]) == 0 and tables.contents() == week
    said = capsys.readouterr().out
    assert "Not restored" not in said and "was taken back by an earlier rollback." in said
    assert verify.main([*flags, "--restored"]) == 0
    said = capsys.readouterr().out
    assert "VERIFIED: after a rollback, 3 assets compared" in said and "Next: nothing is left to take back; " in said
    # One that is named is read all the same.
    first = min(os.path.join("backups", name) for name in os.listdir("backups"))
    assert rollback.main([*tables.flags, "--journal", first, "--yes"]) == 1 and tables.contents() == week


def newest(pattern):
    return max(glob.glob(pattern), key=os.path.getmtime)


def a_record_that_stays(tables, flags, monkeypatch):
    tables.put_records(record("a", comment="edited"))
    assert rollback.main(flags) == 1
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a"), "assetVersionId": S("3")})


def a_record_of_another_database(tables, flags, monkeypatch):
    tables.put(asset("a", "db02"))
    assert migration.main([*tables.flags, "--database-id", "db02", "--journal-dir", "other"]) == 0
    assert rollback.main(flags) == 0


def stopped_after_a_record_that_stays(tables, flags, monkeypatch):
    tables.put_records(record("a", comment="edited"))
    stop_after_one(monkeypatch, flags, "UPDATE", "a")
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a"), "assetVersionId": S("3")})


def stopped_after_the_first_was_mended(tables, flags, monkeypatch):
    left = {name: tables.asset("db01", name) for name in "ab"}
    for name in "ab":
        edit(tables, asset(name), currentVersionId="4")
    assert rollback.main(flags) == 1
    tables.put(left["a"])
    stop_after_one(monkeypatch, flags, "UPDATE", "a")


def put_back_by_hand(tables, flags, monkeypatch):
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    assert rollback.main(flags) == 1
    tables.put(asset("a"))


def stopped_and_the_journal_renamed(tables, flags, monkeypatch):
    stop_after_one(monkeypatch, flags, "DELETE", "a")
    os.rename(newest("backups/*"), "backups/day1.jsonl")


def killed(tables, flags, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migration, "summarise", lambda *facts: sys.exit())
        with pytest.raises(SystemExit):
            rollback.main(flags)


def stop_after_one(monkeypatch, flags, word, name):
    """Ctrl-C a rollback at its first write of a kind; the asset that it has come to is the one of this name."""
    images = rollback.read_before_images

    def that_one_first(*given):
        return sorted(images(*given), key=lambda image: image.key[2] != name)

    with monkeypatch.context() as patch:
        patch.setattr(rollback, "PAGE_IMAGES", 1)
        patch.setattr(rollback, "read_before_images", lambda *given: iter(that_one_first(*given)))
        patch.setattr(migration.Run, "_is_full", lambda run: bool(run._tasks))
        before_first(patch, word, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert rollback.main(flags) == 130


@pytest.mark.parametrize(
    "first_rollback",
    [
        a_record_that_stays,
        a_record_of_another_database,
        stopped_after_a_record_that_stays,
        stopped_after_the_first_was_mended,
        put_back_by_hand,
        stopped_and_the_journal_renamed,
        killed,
    ],
)
def test_what_a_rollback_gave_back_and_a_lost_run_migrated_again_is_left_alone(tables, monkeypatch, first_rollback):
    """What users did in v2.2 in between is in that run's journal only; its summary tells of the run."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    first_rollback(tables, flags, monkeypatch)
    assert tables.asset("db01", "a") == asset("a")
    tables.put(asset("a", executionId="in between"))
    assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
    migrated_again = tables.asset("db01", "a")
    os.remove(newest("backups/migration_*"))
    rollback.main(flags)
    assert tables.asset("db01", "a") == migrated_again
    with open(newest("reports/rollback_*.csv"), newline="", encoding="utf-8-sig") as file:
        (row,) = (row for row in csv.DictReader(file) if row["asset_id"] == "a")
    assert row["code"] == "migrated_again"
    (journal,) = glob.glob("backups/*")
    assert (
        "have it as it was before the run of %s all the same, name that journal and no other." % journal
        in row["message"]
    )
    rollback.main([*tables.flags, "--yes", "--journal", journal])
    assert tables.asset("db01", "a") == asset("a")


@pytest.mark.parametrize("journal", ["as it was", "renamed"])
@pytest.mark.parametrize("how_often", [1, 2])
@pytest.mark.parametrize("archived", [False, True])
def test_the_second_day_is_back_whatever_became_of_the_first(tables, capsys, journal, how_often, archived):
    """Users of v2.2 upload to an asset, or archive it, after the first rollback; the second one may be repeated."""
    tables.put(asset("a"), asset("b", "db02"))
    flags = [*tables.flags, "--journal", "backups"]
    assert migration.main(tables.flags) == 0
    assert rollback.main([*flags, "--yes"]) == 0
    if journal == "renamed":
        os.rename(newest("backups/*"), "backups/day1.jsonl")
    if archived:
        tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    tables.put(asset("a", ARCHIVE if archived else "db01", currentVersion=version(Comment="Fourth", Version="4")))
    between = tables.contents()
    assert migration.main([*tables.flags, *([] if archived else ["--database-id", "db02"])]) == 0
    for _ in range(how_often):
        assert rollback.main([*flags, "--yes"]) == 0
    assert tables.contents() == between
    capsys.readouterr()
    assert verify.main([*flags, "--restored"]) == 0
    assert "\nVERIFIED: " in capsys.readouterr().out


def test_a_journal_is_known_by_what_it_says_and_not_by_its_name(tables, capsys):
    """Taken back by a copy, or another one under its name."""
    tables.put(asset("a"), asset("b", "db02"))
    assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
    os.mkdir("handed")
    copy = os.path.join("handed", "journal.jsonl")
    shutil.copy(newest("backups/*"), copy)
    assert rollback.main([*tables.flags, "--yes", "--journal", copy]) == 0
    assert migration.main([*tables.flags, "--database-id", "db02"]) == 0
    shutil.copy(newest("backups/*"), copy)
    capsys.readouterr()
    assert rollback.main([*tables.flags, "--yes", "--journal", "handed"]) == 0
    assert "NOT GIVEN" not in capsys.readouterr().out
    assert tables.contents() == ({("db01", "a"): asset("a"), ("db02", "b"): asset("b", "db02")}, {})
    assert verify.main([*tables.flags, "--journal", "handed", "--restored"]) == 0
    assert "\nVERIFIED: " in capsys.readouterr().out


@pytest.mark.parametrize("anew", [True, False])
def test_what_users_of_v22_made_of_what_was_given_back_is_not_reported(tables, capsys, anew):
    """Also where the first rollback left another asset, so that its journal still counts."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    edit(tables, asset("b"), previewLocation=M(Key="of-users.png"))
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    assert rollback.main(flags) == 1
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    if anew:
        tables.put(asset("a", currentVersion=version(Version="1"), versions=None))
        tables.put(asset("a", ARCHIVE))
    between = tables.contents()
    assert migration.main(tables.flags) == 0
    capsys.readouterr()
    assert rollback.main(flags) == 1
    assert tables.contents() == between
    with open(newest("reports/rollback_*.csv"), newline="", encoding="utf-8-sig") as file:
        assert {row["asset_id"] for row in csv.DictReader(file)} == {"b"}


def test_assets_of_a_later_run_that_was_not_given_are_still_migrated(tables):
    """Also the one that this has only repaired, so that the image given is superseded."""
    tables.put(asset("a", isDistributable=S("False")), asset("b", "db02"))
    assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
    (first,) = glob.glob("backups/*")
    assert migration.main([*tables.flags, "--repair"]) == 0
    undone = roll_back(tables, first)
    assert undone.outcomes == {"superseded": 1} and undone.summary["assets_of_journals_not_given"] == 2


def test_an_archived_asset_whose_live_twin_another_run_has_migrated_is_taken_back(tables):
    """That twin was in the first run's journal too, which was killed before its change: it looked the same."""
    archived = asset("a", ARCHIVE, executionId="x")
    tables.put(asset("a"), archived)
    before = tables.contents()
    wrong = [*tables.flags, "--asset-bucket", "wrong-bucket"]
    assert migration.main(wrong) == 0
    tables.put(asset("a"))
    assert migration.main(tables.flags) == 0
    flags = ["--journal", "backups", "--yes"]
    assert rollback.main([*wrong, *flags]) == 0
    assert tables.asset(ARCHIVE, "a") == archived
    assert rollback.main([*tables.flags, *flags]) == 0
    assert tables.contents()[0] == before[0]


@pytest.mark.parametrize("given", ["one journal", "first", "both", "second then first", "first then folder"])
def test_the_record_of_an_asset_that_users_archived_over_another_stays_as_it_is(tables, monkeypatch, given):
    """The live one has two before images: users changed it under the migration's hands, or a run was killed."""
    tables.put(asset("a", ARCHIVE, currentVersion=version(Comment="Older")), asset("a"))
    if given == "one journal":
        edited = asset("a", assetName="Renamed", executionId="x")
        with monkeypatch.context() as patch:
            before_first(patch, "UPDATE", lambda: tables.put(edited))
            assert migration.main(tables.flags) == 0
        first = second = newest("backups/*")
    else:
        assert migration.main(tables.flags) == 0
        first = newest("backups/*")
        tables.put(asset("a"))
        assert migration.main([*tables.flags, "--database-id", "db01"]) == 0
        (second,) = {*glob.glob("backups/*")} - {first}
    archived = {**tables.asset("db01", "a"), "databaseId": S(ARCHIVE)}
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    tables.put(archived)
    its_record = tables.record("a", "3")
    steps = {
        "first": [[first]],
        "both": [[first, second]],
        "second then first": [[second], [first]],
        "first then folder": [[first], ["backups"]],
    }
    for journals in steps.get(given, [["backups"]]):
        assert rollback.main([*tables.flags, "--yes", "--journal", *journals]) == 1
    assert tables.asset(ARCHIVE, "a") == archived
    assert tables.record("a", "3") == its_record


@pytest.mark.parametrize("lost", [True, False])
def test_an_older_before_image_is_not_written_where_a_newer_one_was_refused(tables, lost):
    """A run was killed between before image and change, v2.2 went on, the next run was rolled back alone."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    (first,) = glob.glob("backups/*")
    went_on = asset("a", versions=L(M(Version="1"), M(Version="2"), M(Version="4")))
    tables.put(went_on)
    assert migration.main(tables.flags) == 0
    (second,) = {*glob.glob("backups/*")} - {first}
    assert rollback.main([*tables.flags, "--yes", "--journal", second]) == 0
    assert tables.asset("db01", "a") == went_on
    assert migration.main(tables.flags) == 0
    (third,) = {*glob.glob("backups/*")} - {first, second}
    migrated_again = tables.asset("db01", "a")
    if lost:
        os.remove(third)
    assert rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == (1 if lost else 0)
    assert tables.asset("db01", "a") == (migrated_again if lost else went_on)
    if lost:
        with open(newest("reports/rollback_*.csv"), newline="", encoding="utf-8-sig") as file:
            assert {(row["outcome"], row["code"]) for row in csv.DictReader(file) if row["asset_id"] == "a"} == {
                ("changed_since", "migrated_again")
            }


def an_archived_one_and_a_live_one_made_later(tables):
    """In two runs; the second made the archived one's record not current. Returns the names of the journals."""
    tables.put(asset("a", ARCHIVE))
    assert migration.main(tables.flags) == 0
    (first,) = glob.glob("backups/*")
    tables.put(asset("a", currentVersion=version(Version="4")))
    assert migration.main(tables.flags) == 0
    (second,) = {*glob.glob("backups/*")} - {first}
    return first, second


@pytest.mark.parametrize(
    "parts", ["2 then folder", "1 and 2 then folder", "2 then 1 then folder", "2 then 3 then folder"]
)
def test_a_second_day_is_taken_back_in_parts(tables, parts):
    """What is superseded by a journal not given leaves all version records as they are."""
    journals = dict(zip("12", an_archived_one_and_a_live_one_made_later(tables)), folder="backups")
    assert rollback.main([*tables.flags, "--yes", "--journal", "backups"]) == 0
    back = tables.contents()
    assert migration.main(tables.flags) == 0
    (journals["3"],) = {*glob.glob("backups/*")} - {*journals.values()}
    again = tables.contents()
    for step in parts.split(" then "):
        names = [journals[name] for name in step.split(" and ")]
        status = rollback.main([*tables.flags, "--yes", "--journal", *names])
        if journals["3"] not in names and "backups" not in names and tables.contents()[0] == again[0]:
            assert tables.contents() == again
    assert status == 0 and tables.contents() == back
    assert verify.main([*tables.flags, "--restored", "--journal", "backups"]) == 0


@pytest.mark.parametrize("with_summary", [True, False])
@pytest.mark.parametrize("new_version", [True, False])
def test_records_of_assets_that_a_lost_run_migrated_again_stay_as_they_are(tables, with_summary, new_version, capsys):
    """And what users then edit is told of: it is in no journal."""
    an_archived_one_and_a_live_one_made_later(tables)
    flags = [*tables.flags, "--yes", "--journal", "backups"]
    assert rollback.main(flags) == 0
    known = {*glob.glob("backups/*")}
    assert migration.main(tables.flags) == 0
    (lost,) = {*glob.glob("backups/*")} - known
    os.remove(lost)
    if not with_summary:
        os.remove(os.path.join("reports", os.path.basename(lost)[:-6] + "_summary.json"))
    if new_version:
        edit(tables, asset("a"), currentVersionId="5")
        tables.put_records(
            changed(tables.record("a", "4"), {"isCurrentVersion": {"BOOL": False}}),
            record("a", assetVersionId="5", **BY_ANN),
        )
    else:
        edit(tables, asset("a"), previewLocation=M(Key="of-users.png", Bucket="asset-bucket"))
    before = tables.contents()
    capsys.readouterr()
    assert rollback.main(flags) == 1  # the archived one was migrated again
    assert tables.contents() == before
    assert "  1  with a currentVersionId, in no journal here: " in capsys.readouterr().out


@pytest.mark.parametrize("order", ["live archived folder", "archived live folder", "archived folder", "archived both"])
def test_an_edited_asset_whose_archived_twin_was_taken_back_before_is_taken_back_too(tables, order):
    """What the journal of the twin tells still explains it: nobody has archived another."""
    tables.put(asset("a", currentVersion=version(Version="4")), asset("a", ARCHIVE))
    before, journals = tables.contents(), {"folder": ["backups"]}
    for name, database_id in (("archived", ARCHIVE), ("live", "db01")):
        known = {*glob.glob("backups/*")}
        assert migration.main([*tables.flags, "--database-id", database_id]) == 0
        journals[name] = [*{*glob.glob("backups/*")} - known]
    journals["both"] = journals["archived"] + journals["live"]
    edit(tables, asset("a"), tags=L("of users"))
    for step in order.split():
        status = rollback.main([*tables.flags, "--yes", "--journal", *journals[step]])
    before[0]["db01", "a"]["tags"] = L("of users")
    assert status == 0 and tables.contents() == before


def test_a_record_of_a_killed_run_whose_asset_users_went_on_with_otherwise_is_named(tables, capsys):
    """v2.3 makes version 1 of an asset in the old form; the run had made its record 3 and was killed. Only that run is
    undone, another is not."""
    tables.put(asset("a"), asset("b"))
    assert migration.main([*tables.flags, "--limit", "1"]) == 0
    (first,) = glob.glob("backups/*")
    (other,) = (name for name in "ab" if "currentVersion" in tables.asset("db01", name))
    assert migration.main(tables.flags) == 0
    (second,) = {*glob.glob("backups/*")} - {first}
    touched = changed(asset(other), {"currentVersion": None, "versions": None, "currentVersionId": "1"})
    tables.put(touched)
    tables.put_records(record(other, assetVersionId="1", **BY_ANN))
    assert rollback.main([*tables.flags, "--yes", "--journal", second]) == 1
    with open(newest("reports/rollback_*.csv"), newline="", encoding="utf-8-sig") as file:
        rows = {row["code"]: row["message"] for row in csv.DictReader(file)}
    assert set(rows) == {"changed_since", "record_stays"}
    assert rows["record_stays"].startswith(
        "The version record 3 stays: that run made it, but the asset has another one"
    )
    assert verify.main([*tables.flags, "--restored", "--output", "out.csv", "--journal", second]) == 1
    with open("out.csv", newline="", encoding="utf-8-sig") as file:
        assert {row["error_type"] for row in csv.DictReader(file)} == {"not_restored", "record_left", "still_migrated"}
    *_, step, command = capsys.readouterr().out.splitlines()
    assert step.startswith(
        "Next: see the problems in the report; one asset is still migrated: to roll back the rest too"
    )
    assert "if that is to stay, migrate again, or file the report:" in step and command.endswith("--journal backups")
    assert tables.asset("db01", other) == touched
    tables.client.delete_item(TableName=tables.versions, Key={"assetId": S(other), "assetVersionId": S("3")})
    assert rollback.main([*tables.flags, "--yes", "--journal", second]) == 1
    with open(newest("reports/rollback_*.csv"), newline="", encoding="utf-8-sig") as file:
        assert {row["code"] for row in csv.DictReader(file)} == {"changed_since"}


@pytest.mark.parametrize("anew", [True, False])
def test_an_asset_made_in_the_place_of_another_is_called_so(tables, anew):
    tables.put(asset("a"))
    run = tables.migrate()
    other = {"assetName": "Another", "assetType": ".ifc"} if anew else {"description": "Edited"}
    tables.put(migrated("a", currentVersionId="1", **other))
    tables.put_records(record("a", assetVersionId="1", **BY_ANN))
    rows = {row["code"]: row["message"] for row in roll_back(tables, run).rows}
    said = " It may be another asset, made in its place: it differs in assetName, assetType too."
    assert rows["changed_since"].endswith(said) is anew


def test_what_an_ended_rollback_left_is_named_where_its_journal_is_not_given(tables, capsys):
    """But not what was taken back by a journal given."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    (first,) = glob.glob("backups/*")
    tables.put(asset("a"), asset("b"))  # as if that was killed before its changes
    assert migration.main(tables.flags) == 0
    (second,) = {*glob.glob("backups/*")} - {first}
    edit(tables, asset("b"), previewLocation=M(Key="of-users.png", Bucket="asset-bucket"))
    undone = rollback.main([*tables.flags, "--yes", "--journal", second])
    shown = capsys.readouterr().out
    assert undone == 1 and "            1  still migrated, at most, by the journals not given" in shown
    assert rollback.main([*tables.flags, "--yes", "--journal", first]) == 0
    shown = capsys.readouterr().out
    assert "            1  still migrated, at most, by the journals not given" in shown
    assert "  warning  journal %s: NOT GIVEN; " % second in shown


SUMMARIES = [
    "",
    "[]",
    "[" * 100000,
    '{"started": 5, "images_of_journals": {"x": 1}}',
    '{"started": "2020-01-01T00:00:00Z", "opened": "x", "undone": true, "images_of_journals": {"x": 1}}',
    '{"undone": true, "images_of_journals": {"x": 1}}',
    '{"exit_status": 0, "outcomes": 5, "images_of_journals": []}',
]


@pytest.mark.parametrize("text", SUMMARIES)
def test_a_summary_that_cannot_be_one_ends_nothing(tables, text):
    tables.put(asset("a"))
    before = tables.contents()
    os.mkdir("reports")
    for name in ("rollback_20200101T000000Z_summary.json", "migration_20200101T000000Z_summary.json"):
        with open(os.path.join("reports", name), "w") as file:
            file.write(text)
    flags = [*tables.flags, "--journal", "backups"]
    assert migration.main(tables.flags) == 0
    assert verify.main(flags) == 0
    assert rollback.main([*flags, "--yes"]) == 0 and tables.contents() == before
    assert verify.main([*flags, "--restored"]) == 0


def test_a_folder_that_is_named_in_several_ways_is_one(tables, capsys):
    tables.put(asset("a"), asset("b"), asset("c"))
    for name in "abc":
        assert migration.main([*tables.flags, "--database-id", "db01", "--asset-id", name]) == 0
    names = sorted(os.listdir("backups"))
    given = ["backups/" + names[0], os.path.abspath("backups/" + names[1])]
    assert rollback.main([*tables.flags, "--journal", *given, "--yes"]) == 0
    assert capsys.readouterr().out.count("%s: NOT GIVEN" % names[2]) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_part_of_a_summary_stays_in_nobodys_way(tables, number):
    tables.put(asset("a"))
    assert migration.main(tables.flags) == 0
    code = (
        "import json, os, sys, time; sys.path.insert(0, {!r}); from load_migration import load_script, migration\n"
        "def dump(*given, **options): os.kill(os.getpid(), {:d}); time.sleep(9)\n"
        "json.dump = dump; sys.exit(load_script({!r}).main())"
    ).format(HERE, number, verify.__file__.rpartition(os.sep)[2])
    flags = [*tables.flags, "--journal", "backups", "--output", "out/v.csv"]
    assert subprocess.run([sys.executable, "-c", code, *flags], stdout=subprocess.DEVNULL).returncode in (-9, 0, 1, 130)
    assert bool(glob.glob("out/*.part")) is (number == signal.SIGKILL)
    assert verify.main(flags) == 0
    assert not glob.glob("out/*.part")


def test_a_report_that_was_cut_off_calls_nothing_migrated_again(tables):
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    left = tables.asset("db01", "a")
    edit(tables, asset("a"), currentVersionId="4")
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    assert rollback.main(flags) == 1
    report = newest("reports/rollback_*.csv")
    with open(report) as file:
        head = file.readline()
    with open(report, "w") as file:
        file.write(head)
    tables.put(left)
    assert rollback.main(flags) == 0
    assert tables.asset("db01", "a") == asset("a")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_it_says_how_many_assets_are_in_the_new_form_and_in_no_journal(tables, capsys, dry):
    """The journal of one of three runs is lost, and another lies beside those given; v2.3 has made an asset."""
    tables.put(*(asset(name) for name in "abcdef"))
    runs = [tables.migrate("--limit", str(count)) for count in (2, 4, 5)]
    tables.put(migrated("made-by-v23"), asset("h"))
    os.mkdir("some")
    second, third = os.path.join("some", "second.jsonl"), os.path.join("some", "third.jsonl")
    os.rename(runs[1].journal, second)
    os.rename(runs[2].journal, third)
    in_none = "            3  with a currentVersionId, in no journal here: "
    not_given = "            2  still migrated, at most, by the journals not given\n"
    for given, shown in (([third], True), ([second, third], False)):
        capsys.readouterr()
        assert rollback.main([*tables.flags, "--yes", *dry, "--journal", *given]) == 0
        result = capsys.readouterr().out
        assert in_none in result and (not_given in result) is shown
        assert ", db01 / made-by-v23\n" in result


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_journal_that_is_lost_is_named_before_it_asks(tables, capsys, dry):
    """Of three runs and a test, by their summaries; also where the journals lie elsewhere than when they were made."""
    tables.put(*(asset(name) for name in "abcdef"))
    for count in (1, 3, 6):
        assert migration.main([*tables.flags, "--limit", str(count)]) == 0
    names = sorted(os.listdir("backups"))
    lost = os.path.join("backups", names[1])
    os.rename(lost, "kept.jsonl")
    os.rename("backups", "moved")
    assert test_script.main([*tables.flags, "--num-assets", "1"]) == 0
    capsys.readouterr()
    flags = [*tables.flags, "--journal", "moved"]
    assert rollback.main([*flags, "--yes", *dry]) == 0
    plan, result = capsys.readouterr().out.split("Result")
    assert plan.count("NOT GIVEN") == 1
    assert "  NOT GIVEN       %s, lost or elsewhere, with 2 before images; give it too, or its bucket, " % lost in plan
    assert "            2  with a currentVersionId, in no journal here: " in result and "at most" not in result
    assert "  warning  journal %s: NOT GIVEN; what its run migrated is not in this result\n" % lost in result
    if dry:
        return
    assert verify.main([*flags, "--restored"]) == 0
    verdict, warning, _, step = capsys.readouterr().out.splitlines()[-4:]
    assert verdict.startswith("VERIFIED IN PART: ") and "2 other assets still migrated" in verdict
    assert warning == "  warning  journal %s: NOT GIVEN; what its run migrated is not in this result" % lost
    assert step.startswith(
        "Next: 2 assets are still migrated, by no journal beside those given: look for the missing o"
    )
    assert rollback.main([*tables.flags, "--yes", "--journal", "moved", "kept.jsonl"]) == 0
    assert "NOT GIVEN" not in capsys.readouterr().out
    assert rollback.main([*flags, "--yes"]) == 0  # it is undone, whatever its name was then
    assert verify.main([*flags, "--restored"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Next: nothing is left to take back; ")


@pytest.mark.parametrize("given", ["original", "copy", "folder"])
@pytest.mark.parametrize("lines", [None, -1])
def test_a_copy_of_a_journal_is_no_other_journal(tables, capsys, given, lines):
    """A whole one, or a part: where the whole one is given, the other lies beside it and tells nothing more."""
    tables.put(asset("a"), asset("b"))
    assert migration.main([*tables.flags, "--journal-dir", "backups"]) == 0
    (name,) = os.listdir("backups")
    original, copy = os.path.join("backups", name), os.path.join("backups", name.replace(".", " (copy)."))
    with open(original) as file, open(copy, "w") as other:
        other.writelines(file.readlines()[:lines])
    capsys.readouterr()
    names = {"original": original, "copy": copy, "folder": "backups"}
    status = rollback.main([*tables.flags, "--yes", "--journal", names[given]])
    shown = capsys.readouterr()
    if (given, lines) == ("copy", -1):
        assert "NOT GIVEN       %s" % original in shown.out
        return
    assert status == 0 and "NOT GIVEN" not in shown.out and "            2  before images" in shown.out
    text = "Journal %s is a %s of %s." % (copy, "copy" if lines is None else "part", original)
    assert ("  skipped         %s\n" % text in shown.out) is (given == "folder")


@pytest.mark.parametrize("damaged, name", [(0, "a.jsonl"), (0, "z.jsonl"), (1, "a.jsonl"), (1, "z.jsonl")])
def test_of_a_journal_and_its_copy_the_undamaged_one_counts(tables, capsys, damaged, name):
    """Whichever of the two that is: it needs not be the one that has kept its name."""
    tables.put(*(asset(letter) for letter in "abcd"))
    before = tables.contents()
    original = tables.migrate().journal
    paths = [original, os.path.join(os.path.dirname(original), name)]
    shutil.copy(*paths)
    with open(paths[damaged]) as file:
        lines = file.readlines()
    with open(paths[damaged], "w") as file:
        file.writelines(lines[:2] + lines[3:])
    capsys.readouterr()
    flags = [*tables.flags, "--journal", os.path.dirname(original)]
    assert verify.main(flags) == 0
    shown = capsys.readouterr().out
    text = "\n  skipped         Journal %s is a copy of %s.\n" % (paths[damaged], paths[1 - damaged])
    assert text in shown and "\nVERIFIED: " in shown and "4 before images compared" in shown
    assert rollback.main([*flags, "--yes"]) == 0
    assert text in capsys.readouterr().out and tables.contents() == before


def test_a_journal_that_is_undone_is_not_named_as_not_given(tables, capsys):
    tables.put(asset("a"), asset("b"))
    folder = ["--journal-dir", "backups"]
    assert migration.main(tables.flags + folder + ["--limit", "1"]) == 0
    assert migration.main(tables.flags + folder) == 0
    first, second = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    flags = [*tables.flags, "--yes", "--journal"]
    for further, named in ((["--dry-run"], True), ([], False)):
        assert rollback.main([*flags, first, *further]) == 0
        capsys.readouterr()
        assert rollback.main([*flags, second, "--dry-run"]) == 0
        assert ("NOT GIVEN       %s, " % first in capsys.readouterr().out) is named
    for report in os.listdir("reports"):  # a summary that is lost or damaged makes it named again
        if "rollback" in report:
            with open(os.path.join("reports", report), "w") as file:
                file.write("[")
    assert rollback.main([*flags, second, "--dry-run"]) == 0
    assert "NOT GIVEN       %s, " % first in capsys.readouterr().out


def test_a_journal_of_which_a_record_stays_is_not_undone(tables, capsys):
    tables.put(LIVE, ARCHIVED)
    first, second = [tables.migrate("--database-id", name) for name in ("db01", ARCHIVE)]
    undone = roll_back(tables, first)
    assert (undone.status, {row["code"] for row in undone.rows}) == (0, {"record_stays"})
    assert undone.summary["undone"] is False
    assert "Warnings:\n            1  record_stays: " in capsys.readouterr().out
    again = roll_back(tables, first)
    assert (again.status, again.outcomes) == (0, {"nothing_to_restore": 1})
    assert [(row["outcome"], row["code"]) for row in again.rows] == [("nothing_to_restore", "record_stays")]
    assert roll_back(tables, first, second).summary["undone"] is True


def test_a_stopped_rollback_does_not_call_a_record_one_that_stays(tables, monkeypatch, capsys):
    """What an older before image says of it has not been read yet."""
    tables.put(asset("a"))
    first = tables.migrate()
    tables.put(asset("a", "db02"))
    second = tables.migrate()
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    with monkeypatch.context() as patch:
        patch.setattr(rollback, "PAGE_IMAGES", 1)
        patch.setattr(migration.Run, "_is_full", lambda run: bool(run._tasks))
        report = rollback.KeptRecords.report

        def report_and_stop(kept, *arguments):
            report(kept, *arguments)
            assert list(kept.left())
            os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(rollback.KeptRecords, "report", report_and_stop)
        stopped = roll_back(tables, first, second)
    assert (stopped.status, stopped.outcomes) == (130, {"restored": 1, "not_finished": 1})
    assert stopped.rows == [] and stopped.summary["codes"] == {} and "record_stays" not in capsys.readouterr().out
    finished = roll_back(tables, first, second)
    assert {row["code"] for row in finished.rows} == {"asset_deleted"} and tables.contents()[1] == {}


def test_a_record_that_was_changed_after_an_interrupted_rollback_is_reported(tables, capsys):
    tables.put(asset("a"), asset("b"))
    run = tables.migrate()
    tables.put(asset("a"))  # as a rollback leaves it that was killed before it came to the record
    edited = {**tables.record("a", "3"), "comment": S("edited")}
    tables.put_records(edited)
    undone = roll_back(tables, run)
    assert (undone.status, undone.outcomes) == (0, {"restored": 1, "nothing_to_restore": 1})
    assert [(row["asset_id"], row["outcome"], row["code"]) for row in undone.rows] == [
        ("a", "nothing_to_restore", "record_stays")
    ]
    assert undone.rows[0]["message"] == (
        "The version record 3 stays: it is another than the migration wrote. If it is not wanted, delete it by hand, or"
        " a new migration uses it, or says version_conflict: assetId a, assetVersionId 3 in %s." % tables.versions
    )
    assert tables.contents()[1] == {("a", "3"): edited} and not undone.summary["undone"]
    assert "\nNext: see that all but what users made is as it was before:\n" in capsys.readouterr().out


def test_an_asset_has_an_image_in_each_journal_and_the_result_counts_images(tables, capsys):
    tables.put(asset("a"))
    first = tables.migrate()
    assert roll_back(tables, first).status == 0
    second = tables.migrate()
    capsys.readouterr()
    assert roll_back(tables, first, second).outcomes == {"restored": 1, "nothing_to_restore": 1}
    assert "            2  before images, in " in capsys.readouterr().out


def test_the_remedy_for_a_journal_with_another_bucket_is_its_flag(tables, capsys):
    tables.put(asset("a"))
    run = tables.migrate("--asset-bucket", "old-bucket")
    assert rollback.main([*tables.flags, "--journal", str(run.journal), "--yes"]) == 2
    message = capsys.readouterr().err
    assert (
        "its asset_bucket_name is old-bucket, not " in message
        and "with that one, the --asset-bucket that it had." in message
    )
    assert roll_back(tables, run, flags=["--asset-bucket", "old-bucket"]).outcomes == {"restored": 1}


def test_a_dry_run_shows_the_first_changes_and_no_more(tables, capsys):
    tables.put(*(asset("a%d" % number) for number in range(40)))
    run = tables.migrate()
    capsys.readouterr()
    assert roll_back(tables, run, flags=["--dry-run"]).outcomes == {"restored": 40}
    assert capsys.readouterr().out.count("\ndb01 / a") == migration.SHOWN_CHANGES


def test_a_folder_with_journals_of_two_buckets_leads_to_the_other_one(tables, capsys):
    """And so does a verification, though not all is migrated."""
    tables.put(asset("a"), asset("b"))
    before = tables.contents()
    folder = ["--journal-dir", "backups"]
    assert migration.main([*tables.flags, *folder, "--limit", "1"]) == 0
    assert migration.main([*tables.flags, *folder, "--asset-bucket", "old-bucket", "--limit", "2"]) == 0
    assert rollback.main([*tables.flags, "--journal", "backups", "--yes"]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert "_rollback.py " in command and " --asset-bucket old-bucket " in command
    assert load_script("v2.2_to_v2.3_migration_verify.py").main(tables.flags) == 1
    told = capsys.readouterr().out.split("\nNext: ")[1]
    assert "--asset-bucket old-bucket" in told and "take back what was migrated with it" in told
    # Where the flag is another than the configuration's, it may be misspelt.
    names = dict(zip(["assets_table_name", "asset_versions_table_name"], [tables.assets, tables.versions]))
    names.update(asset_bucket_name="old-bucket", endpoint_url=tables.engine.endpoint_url)
    (tables.folder / "my.json").write_text(json.dumps(names))
    verify_by = ["--config", "my.json", "--asset-bucket", "asset-bucket"]
    assert load_script("v2.2_to_v2.3_migration_verify.py").main(verify_by) == 1
    told = capsys.readouterr().out.split("\nNext: ")[1]
    assert "take back what was migrated with it" in told and told.endswith("_verify.py --config my.json\n")
    assert rollback.main(shlex.split(command.replace("--dry-run", "--yes"))[2:]) == 0
    assert tables.contents() == before


@pytest.mark.parametrize("script", [rollback, verify])
def test_of_each_reason_to_skip_journals_the_plan_says_how_many_and_one(tables, capsys, script):
    tables.put(asset("a"))
    run = tables.migrate()
    text = run.journal.read_text()
    for number in range(7):
        other = text.replace(tables.assets, "others").replace('"stem":"', '"stem":"%d_' % number)
        (run.journal.parent / ("other-%d.jsonl" % number)).write_text(other)
    (run.journal.parent / "bucket.jsonl").write_text(text.replace("asset-bucket", "other-bucket"))
    (run.journal.parent / "none.jsonl").write_text("{}\n")
    capsys.readouterr()
    flags = ["--journal", str(run.journal.parent), *(["--dry-run"] if script is rollback else [])]
    script.main([*tables.flags, *flags])
    shown = capsys.readouterr().out
    preflight, rows = shown.split("\nPlan:" if script is rollback else "\nJournals:")
    assert shown.startswith("VAMS v2.2 to v2.3 ") and "  skipped         " not in preflight
    skipped = [line[18:] for line in rows.splitlines() if line.startswith("  skipped         ")]
    cause = "Journal %s is of another migration: its " + "%s is %s, not %s."
    expected = [
        "%s is not a journal of the migration." % (run.journal.parent / "none.jsonl"),
        "7, such as: " + cause % (run.journal.parent / "other-0.jsonl", "assets_table_name", "others", tables.assets),
    ]
    if script is rollback:  # the verification compares with what that bucket's migration has left
        bucket = (run.journal.parent / "bucket.jsonl", "asset_bucket_name", "other-bucket", "asset-bucket")
        expected.append(cause % bucket)
    assert sorted(skipped) == sorted(expected)


@pytest.mark.parametrize("given", [["{0}", "{1}"], ["backups"], ["backups/mig*.jsonl"], ["{1}", "backups", "{0}"]])
@pytest.mark.parametrize("script", [rollback, verify])
def test_journals_are_files_a_folder_or_a_pattern(tables, capsys, given, script):
    tables.put(asset("a"), asset("b"))
    folder = ["--journal-dir", "backups"]
    assert migration.main(tables.flags + folder + ["--limit", "1"]) == 0
    assert migration.main(tables.flags + folder) == 0
    paths = sorted(os.path.join("backups", name) for name in os.listdir("backups"))
    other, none = os.path.join("backups", "other.jsonl"), os.path.join("backups", "none.jsonl")
    with open(paths[0]) as journal, open(other, "w") as copy, open(none, "w") as file:
        copy.write(journal.read().replace(tables.assets, "others"))
        file.write("{}\n")
    capsys.readouterr()
    flags = [*tables.flags, "--journal", *(name.format(*paths) for name in given), "--report-dir", "out"]
    assert script.main(flags + ["--yes"] * (script is rollback)) == 0
    shown = capsys.readouterr().out
    cause = "  skipped         Journal %s is of another migration: its assets_table_name is others"
    assert (cause % other in shown) is ("backups" in given)
    assert ("  skipped         %s is not a journal" % none in shown) is ("backups" in given)
    (summary,) = tables.folder.glob("out/*_summary.json")
    found = json.loads(summary.read_text())
    assert (found["before_images"], set(found["journals"])) == (2, set(paths))


@pytest.mark.parametrize(
    "given", ["backups/x.jsonl", "backup", "backup/x.jsonl", "x.jsonl", "empty", "no/where/x.jsonl"]
)
@pytest.mark.parametrize("script", [rollback, verify])
def test_where_a_journal_was_not_found_those_near_are_named(tables, capsys, given, script):
    os.mkdir("backups")
    os.mkdir("empty")
    for number in range(7):
        open("backups/migration_%d.jsonl" % number, "w").close()
    assert script.main([*tables.flags, "--journal", given]) == 2
    near = ", ".join("backups/migration_%d.jsonl" % number for number in range(2, 7)) + ", and 2 older"
    named = "the folder of all, backups, or what you need of it: " + near
    named = "the file or folder that the migration named" if "where" in given else named
    text = (
        "error: No journal was found under %s: neither that file nor files *.jsonl in that folder.\n  Fix: give %s.\n"
    )
    assert capsys.readouterr().err == text % (given, named)


@pytest.mark.parametrize("script, flag", [(rollback, "--journal"), (verify, "--journal"), (verify, "--output")])
def test_an_empty_name_is_refused(tables, capsys, script, flag):
    """It would be the folder where one stands."""
    tables.put(asset("a"))
    assert migration.main([*tables.flags, "--journal-dir", "."]) == 0
    before = tables.contents()
    assert script.main([*tables.flags, flag, ""]) == 2
    assert "%s is empty" % flag in capsys.readouterr().err and tables.contents() == before


def test_where_a_folder_was_misspelt_all_that_have_journals_are_named(tables, capsys):
    for folder in ("backups", "other ones"):
        os.mkdir(folder)
        open(os.path.join(folder, "migration_1.jsonl"), "w").close()
    assert rollback.main([*tables.flags, "--journal", "backup"]) == 2
    assert "give the folders of all, backups 'other ones', or" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["empty", "others", "backups/*.jsonl", "others/*.jsonl"])
@pytest.mark.parametrize("script", [rollback, verify])
def test_no_journal_of_these_tables_is_wrong_usage(tables, capsys, given, script):
    tables.put(asset("a"))
    run = tables.migrate()
    for name in ("empty", "others"):
        os.mkdir(name)
    with open("others/other.jsonl", "w") as file:
        file.write(run.journal.read_text().replace(tables.assets, "other-assets"))
    before = tables.contents()
    assert script.main([*tables.flags, "--journal", given]) == migration.EXIT_USAGE
    message = capsys.readouterr().err
    assert "\n  Fix: give " in message and ("of another migration" in message) is given.startswith("others")
    assert tables.contents() == before


@pytest.mark.parametrize("name", ["a", "z"])
def test_of_journals_that_are_all_others_the_one_that_differs_least_is_named(tables, capsys, name):
    """One of another stage has other tables; one with the wrong bucket is likely what is meant."""
    tables.put(asset("a"))
    run = tables.migrate()
    text = run.journal.read_text()
    stage = text.replace(tables.assets, "other-assets").replace('"stem":"', '"stem":"%s_' % name)
    run.journal.unlink()
    (run.journal.parent / "m.jsonl").write_text(text.replace("asset-bucket", "other-bucket"))
    (run.journal.parent / (name + ".jsonl")).write_text(stage.replace("asset-bucket", "stage-bucket"))
    capsys.readouterr()
    assert rollback.main([*tables.flags, "--journal", str(run.journal.parent)]) == migration.EXIT_USAGE
    message = capsys.readouterr().err
    assert "m.jsonl is of another migration: its asset_bucket_name is other-bucket, not asset-bucket" in message
    assert "the --asset-bucket that it had" in message


def test_the_last_line_is_the_next_command_until_everything_is_back(tables, capsys):
    tables.put(asset("a"), asset("b"))
    before = tables.contents()
    assert migration.main(tables.flags) == 0
    command, shown = [sys.executable, SCRIPT, *tables.flags, "--journal", "backups", "--yes", "--dry-run"], []
    for _ in range(2):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        *_, step, line = done.stdout.decode().splitlines()
        shown.append((step, line))
        command = [*shlex.split(line), "--yes"]
    flags = " ".join(tables.flags)
    assert shown[0][0] == "Next: roll back:" and shown[0][1].endswith("%s --journal backups" % flags)
    assert shown[1][0] == "Next: see that everything is as it was before:"
    verification = "v2.2_to_v2.3_migration_verify.py"
    assert shown[1][1].endswith("%s %s --journal backups --restored --html" % (verification, flags))
    assert tables.contents() == before


@pytest.mark.parametrize(
    "changes, typed, step, words",
    [
        ({"exit_status": 130}, {"journal": ["a b"], "yes": True}, "finish what is left", "R --journal 'a b' --yes"),
        ({"dry_run": True, "outcomes": {"would_restore": 1}}, {"config": "c", "journal": ["a", "b"]}, "roll back",
         "R --config c --journal a --journal b --no-dry-run"),
        ({"dry_run": True, "version_records_removed": 1}, {"dry_run": True, "journal": ["a"]}, "roll back",
         "R --journal a"),
        ({"codes": {"migrated_again": 2}, "outcomes": {"changed_since": 3}}, {"journal": ["a"]},
         "look for the journal of the run that may have migrated 2 assets again; then roll back by that journal too",
         None),
        ({"codes": {"migrated_again": 1}, "dry_run": True, "outcomes": {"would_restore": 3}},
         {"dry_run": True, "journal": ["a"]},
         "look for the journal of the run that may have migrated 1 asset again; then roll back", "R --journal a"),
        ({"dry_run": True, "version_records_removed": 1, "migrated_in_no_journal": 2},
         {"dry_run": True, "journal": ["a"]},
         "see what is in no journal here, named above: 2 assets, of users, failed, or of a lost or skipped run;"
         " then roll back",
         "R --journal a"),
        ({"other_buckets": ["b", "configured"], "journals_not_given": ["k"]},
         {"config": "c", "asset_bucket_name": "a", "journal": ["a"]},
         "migrate again, with the bucket configured; or, if what was migrated with that is to go too, roll back by it",
         "M --config c"),
        ({"other_buckets": ["b"], "journals_not_given": ["k"], "assets_of_journals_not_given": 1}, {"journal": ["a"]},
         "take back what was migrated with the bucket b, if that is to go too; if it is the right one, migrate again"
         " with it",
         "R --asset-bucket b --dry-run --journal a"),
        ({"dry_run": True, "outcomes": {"nothing_to_restore": 1}}, {"dry_run": True, "journal": ["a"]},
         "there is nothing to roll back; see that everything is as it was before", "V --journal a --restored --html"),
        ({"journals_not_given": ["lost"], "assets_of_journals_not_given": 0}, {"journal": ["a"]},
         "see that everything is as it was before; look for the journals not given: what their runs did is not in this",
         "V --journal a --restored --html"),
        ({"journals_not_given": ["k"], "interrupted_journals": ["a"]}, {"config": "c", "journal": ["a"]},
         "migrate again, if users have edited assets since that run was killed; to take all back, give all journals",
         "M --config c"),
        ({"exit_status": 1, "outcomes": {"failed": 1}}, {"journal": ["a"]},
         "look at what failed, mend it, and run this again", "R --journal a"),
        ({"exit_status": 1, "outcomes": {"would_fail": 1}, "dry_run": True}, {"journal": ["a"]},
         "look at what failed, mend it, and run this again", "R --journal a"),
        ({"exit_status": 1, "outcomes": {"changed_since": 1}}, {"journal": ["a"]},
         "see that all but what users made is as it was before", "V --journal a --restored --html"),
        ({"exit_status": 1, "outcomes": {"changed_since": 1}, "dry_run": True}, {"journal": ["a"]},
         "there is nothing to roll back; see that all but what users made is as it was before",
         "V --journal a --restored --html"),
        ({}, {"config": "c", "journal": ["a"], "yes": True, "workers": 3},
         "see that everything is as it was before", "V --config c --journal a --restored --html"),
    ],
)  # fmt: skip
def test_the_next_step(monkeypatch, changes, typed, step, words):
    monkeypatch.setattr(migration, "python_name", lambda: "python")
    monkeypatch.chdir(HERE)
    summary = {"exit_status": 0, "dry_run": False, "outcomes": {}, "version_records_removed": 0}
    summary.update(journals_not_given=[], other_buckets=[], migrated_in_no_journal=0, codes={})
    summary.update(journals=["a"], interrupted_journals=[])
    found, *command = rollback.next_step({**summary, **changes}, typed, "configured")
    if words is None:
        assert (found, command[0]) == (step, None)
        return
    scripts = {"R": os.path.basename(SCRIPT), "V": migration.VERIFICATION_SCRIPT, "M": migration.SCRIPT}
    assert (found, migration.command_text(*command)) == (step, "python " + scripts[words[0]] + words[1:])


def test_the_result_says_how_far_it_came_and_what_was_not_restored_apart():
    outcomes = {**dict.fromkeys(rollback.OUTCOMES, 0), "restored": 60, "changed_since": 3, "not_finished": 37}
    summary = {"codes": {"changed_since": 3}, "dry_run": False, "before_images": 100, "files": {}}
    summary.update(journals_not_given=[], assets_of_journals_not_given=0, migrated_in_no_journal=0)
    summary.update(first_in_no_journal=["db01 / a", "db01 / b"])
    summary.update(interrupted_journals=["cut.jsonl"], version_records_removed=60, duration_seconds=7.04)
    result = rollback.result_text(summary, outcomes)
    # What a part that is missing tells of would be migrated, and in no journal.
    warning = (
        "\n  warning  journal cut.jsonl: its run was INTERRUPTED, or this is a part of it; harmless if it was killed"
    )
    assert warning not in result
    assert warning in rollback.result_text({**summary, "migrated_in_no_journal": 2}, outcomes)
    counts = "          100  before images, in 7.0 s\n           60  restored\n"
    assert "  stopped: 63 of 100 done\n" + counts in result
    failures = result.split("Not restored, or not wholly:\n")[1]
    assert failures.startswith("            3  changed_since: %s\n" % rollback.FAILURES["changed_since"])


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_an_asset_whose_newer_before_image_is_still_to_be_restored_is_not_called_migrated_again(
    tables, monkeypatch, how
):
    """Nor is it restored by an older one, which knows nothing of what users did in between."""
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    flags = [*tables.flags, "--journal", "backups", "--report-dir"]
    edit(tables, asset("b"), previewLocation=M(Key="of-users.png"))  # so that not all is taken back
    assert rollback.main([*flags, "reports", "--yes"]) == 1
    edit(tables, asset("a"), description="In between", currentVersion=version(Comment="In between"))
    before = tables.contents()
    assert migration.main(tables.flags) == 0
    after = tables.contents()
    write = migration.Writer.write
    for report_dir in ("reports", "elsewhere"):  # where nothing says that the older one was taken back
        with monkeypatch.context() as patch:
            if how == "stopped":

                def stopped(writer, change, droppable=False):
                    writer.stopping = True
                    return write(writer, change, droppable)

                patch.setattr(migration.Writer, "write", stopped)
            else:
                patch_execute(patch, lambda database, statements: ([("ValidationError", "no")] * len(statements), 0.0))
            assert rollback.main([*flags, report_dir, "--yes"]) == (130 if how == "stopped" else 1)
        assert tables.contents() == after
        report = max(glob.glob(report_dir + "/rollback_*.csv"), key=os.path.getmtime)
        with open(report, newline="", encoding="utf-8-sig") as file:
            outcomes = [row["outcome"] for row in csv.DictReader(file) if row["asset_id"] == "a"]
        assert outcomes == ["not_finished" if how == "stopped" else "failed"]
    assert rollback.main([*flags, "reports", "--yes"]) == 1
    assert tables.contents() == before


def test_what_was_mended_by_hand_after_a_rollback_leads_to_the_proof(tables, capsys):
    """The other one that users edited stays, and no run migrated it again."""
    tables.put(asset("a"), asset("b"), asset("c"))
    assert migration.main(tables.flags) == 0
    for name in "ab":
        edit(tables, asset(name), previewLocation=M(Key="new.png"))
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    assert rollback.main(flags) == 1
    edit(tables, asset("a"), previewLocation=migrated("a")["previewLocation"])
    capsys.readouterr()
    assert rollback.main(flags) == 1
    assert tables.asset("db01", "a") == asset("a")
    shown = capsys.readouterr().out
    assert "Next: see that all but what users made is as it was before:\n" in shown
    assert "again" not in shown


@pytest.mark.parametrize("again", [False, True])
def test_a_record_that_users_of_another_database_have_put_in_the_place_of_ours_is_reported(tables, again):
    """For the next migration says version_conflict."""
    tables.put(asset("a", currentVersion=version(Version="1")), asset("a", "db02", currentVersion=version(Version="2")))
    run = tables.migrate()
    edit(tables, asset("a"), currentVersionId="2")
    tables.put_records(record("a", assetVersionId="2", **BY_ANN))
    undone = roll_back(tables, run)
    assert undone.outcomes == {"restored": 1, "changed_since": 1}
    if again:
        undone = roll_back(tables, run)
        assert undone.outcomes == {"nothing_to_restore": 1, "changed_since": 1}
    (row,) = (row for row in undone.rows if row["code"] == "record_stays")
    assert (row["database_id"], row["asset_id"]) == ("db02", "a")
    assert row["message"].startswith("The version record 2 stays: the asset under databaseId db01 needs it.")
    assert tables.record("a", "2")["createdBy"] == S("ann")


@pytest.mark.parametrize("scope", [["--database-id", "db02"], []])
def test_a_lost_run_after_a_part_of_a_rollback_hinders_only_what_it_may_have_migrated(tables, monkeypatch, scope):
    tables.put(asset("a"), asset("b"))
    assert migration.main(tables.flags) == 0
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    with monkeypatch.context() as patch:
        patch.setattr(rollback, "PAGE_IMAGES", 1)
        patch.setattr(migration.Run, "_is_full", lambda run: bool(run._tasks))
        before_first(patch, "DELETE", lambda: os.kill(os.getpid(), signal.SIGINT))
        assert rollback.main(flags) == 130
    tables.put(asset("c", "db02"))
    assert migration.main([*tables.flags, *scope, "--journal-dir", "elsewhere"]) == 0
    shutil.rmtree("elsewhere")
    assert rollback.main(flags) == (0 if scope else 1)
    old = {key for key, item in tables.contents()[0].items() if "currentVersion" in item}
    assert old == ({("db01", "a"), ("db01", "b")} if scope else set())


def test_an_asset_of_two_journals_that_is_gone_is_told_once(tables):
    tables.put(asset("a"))
    first = tables.migrate()
    edit(tables, asset("a"), pipelineId="again")  # a v2.2 that still runs
    second = tables.migrate()
    tables.client.delete_item(TableName=tables.assets, Key=key_of(asset("a")))
    undone = roll_back(tables, first, second)
    assert undone.outcomes == {"asset_deleted": 2} and undone.status == 1
    assert [row["code"] for row in undone.rows] == ["asset_deleted"]
    assert undone.summary["codes"] == {"asset_deleted": 1}


def test_a_journal_given_twice_is_read_once(tables):
    tables.put(asset("a"))
    run = tables.migrate()
    assert roll_back(tables, run, run.journal.parent / "." / run.journal.name).outcomes == {"restored": 1}


def test_journals_are_read_newest_first_whatever_their_order(tables):
    tables.put(asset("a"), asset("b"))
    runs = [tables.migrate("--limit", "1"), tables.migrate()]
    for year, run in zip((2031, 2030), runs):
        text = run.journal.read_text()
        run.journal.write_text(text.replace('"started":"20', '"started":"%d-01-01T00:00:00Z","was":"20' % year))
    for paths in ([runs[0], runs[1]], [runs[1], runs[0]]):
        journals = rollback.open_journals([str(run.journal) for run in paths], LOCAL, rollback.Skipped())
        assert [journal.started[:4] for journal in journals] == ["2031", "2030"]


def test_memory_does_not_grow_with_the_journal(tables, monkeypatch):
    """Before images are read as they are needed, and forgotten when they are finished."""
    tables.put(asset("a"))
    run = tables.migrate()
    header, line = lines_of(run)
    with open(run.journal, "w") as file:
        file.write(header)
        file.writelines(line.replace('"a"', '"a%d"' % number) for number in range(6000))
    alive, rollbacks = [0, 0], []  # now, at most; and the rollback with its run

    class Counted(rollback.BeforeImage):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive[:] = alive[0] + 1, max(alive[1], alive[0] + 1)

        def __del__(self):
            alive[0] -= 1

    class Watched(rollback.Rollback):
        def __init__(self, run, *arguments):
            super().__init__(run, *arguments)
            rollbacks.append((self, run))

    monkeypatch.setattr(rollback, "BeforeImage", Counted)
    monkeypatch.setattr(rollback, "Rollback", Watched)
    monkeypatch.setattr(migration.Database, "get_items", lambda self, keys, keys_only: ({}, [], 0.0))
    assert roll_back(tables, run, flags=["--dry-run"]).outcomes == {"asset_deleted": 6000}
    assert migration.PAGE_ITEMS <= alive[1] < 3000
    ((watched, its_run),) = rollbacks
    assert len(watched.turns._locks) == 0 and abs(its_run._held_bytes) < 1


# --------------------------------------------------------------------------------------
# Journals that are not what they should be
# --------------------------------------------------------------------------------------


def test_a_journal_says_in_its_last_line_that_its_run_ended_in_good_order(tables, monkeypatch, capsys):
    tables.put(LIVE, ARCHIVED, *(asset("a%02d" % number) for number in range(40)))
    with monkeypatch.context() as patch:
        before_first(patch, "UPDATE", lambda: os.kill(os.getpid(), signal.SIGINT))
        stopped = tables.migrate("--workers", "1", "--batch-size", "5")
    finished = tables.migrate()
    assert (stopped.status, finished.status) == (130, 0)
    for run in (stopped, finished):
        entries = [json.loads(line) for line in lines_of(run)[1:]]
        counts = {name: sum(key in entry for entry in entries) for name, key in COUNTED}
        untouched = sum("untouched" in entry for entry in entries)
        counts["before_images"] -= untouched
        assert bool(untouched) is (run is stopped)
        assert run.journal.read_text().endswith(json.dumps({"end": counts}, separators=(",", ":")) + "\n")
        assert run.summary["journal_holds"] == counts
    finished.journal.write_text("".join(lines_of(finished)))
    capsys.readouterr()
    roll_back(tables, stopped, finished, flags=["--dry-run"])
    plan = capsys.readouterr().out.split("Plan:")[1].split("Result")[0]
    assert "%s (its run was INTERRUPTED, or this is a part of it)" % finished.journal in plan
    assert plan.count("INTERRUPTED") == 1


COUNTED = (("before_images", "asset"), ("claims", "claim"))


@pytest.mark.parametrize("part", ["without a line", "without its end", "cut in a line"])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("script", [rollback, verify])
def test_a_part_of_a_journal_is_not_taken_for_the_whole(tables, capsys, part, moved, script):
    """By its last line, or by the summary of its run: that is found for a copy of another name, from anywhere."""
    tables.put(*(asset("a%d" % number) for number in range(5)))
    run = tables.migrate()
    text, lines = run.journal.read_text(), lines_of(run)
    parts = {
        "without a line": text.replace(lines[3], ""),
        "without its end": "".join(lines[:-1]),
        "cut in a line": "".join(lines)[:-100],
    }
    journal = tables.folder / "copy.jsonl" if moved else run.journal
    journal.write_text(parts[part])
    before = tables.contents()
    argv = tables.flags + ["--journal", str(journal)]
    assert script.main(argv + ["--yes"] * (script is rollback)) == migration.EXIT_USAGE
    message = capsys.readouterr().err
    assert str(journal) in message and "Fix: use a" in message
    assert ('"before_images":4' if part == "without a line" else "it holds 4 of 5 before images") in message
    assert tables.contents() == before


def test_where_nobody_can_be_asked_it_needs_yes(tables, capsys, monkeypatch):
    tables.put(asset("a"))
    run = tables.migrate()
    before = tables.contents()
    monkeypatch.setattr(migration, "is_terminal", lambda stream: False)
    assert rollback.main(tables.flags + ["--journal", str(run.journal)]) == migration.EXIT_USAGE
    message = capsys.readouterr().err
    assert "Nobody can be asked: Roll back %s and %s (" % (tables.assets, tables.versions) in message
    assert "give --yes" in message and tables.contents() == before


def test_the_journal_of_a_running_migration_is_refused(tables, capsys):
    """What it still finishes would be left without its records."""
    tables.put(asset("a"))
    run = tables.migrate()
    before = tables.contents()
    with open(run.journal, "ab") as file:
        assert migration.lock(file)
        argv = tables.flags + ["--journal", str(run.journal), "--report-dir", "back"]
        assert rollback.main(argv) == migration.EXIT_PREFLIGHT
        shown = capsys.readouterr().err
    assert "still running" in shown and str(run.journal) in shown and "\n  Fix: " in shown
    assert tables.contents() == before
    assert roll_back(tables, run).outcomes == {"restored": 1}


def test_no_journal_is_taken_back_while_another_migration_of_these_tables_runs(tables, capsys):
    """That may rely on the records that would be removed."""
    tables.put(asset("a"))
    run = tables.migrate()
    before = tables.contents()
    running = run.journal.parent / "running.jsonl"
    running.write_text(run.journal.read_text())
    with open(running, "rb") as file:
        assert migration.lock(file)
        assert rollback.main(tables.flags + ["--journal", str(run.journal)]) == migration.EXIT_PREFLIGHT
    assert str(running) in capsys.readouterr().err and tables.contents() == before


def test_a_migration_locks_its_journal_until_its_end(tables, monkeypatch):
    tables.put(asset("a"))
    locked = []
    execute = migration.Database.execute

    def look(self, statements):
        (journal,) = tables.folder.glob("run-*/backups/*.jsonl")
        with open(journal, "rb") as file:
            locked.append(not migration.lock(file))
        return execute(self, statements)

    patch_execute(monkeypatch, look)
    run = tables.migrate()
    assert locked == [True, True]
    with open(run.journal, "rb") as file:
        assert migration.lock(file)


def test_two_journals_in_one_file_are_refused(tables, capsys):
    tables.put(asset("a"), asset("b"))
    first, second = tables.migrate("--limit", "1"), tables.migrate()
    before = tables.contents()
    both = tables.folder / "both.jsonl"
    both.write_text(first.journal.read_text() + second.journal.read_text())
    assert rollback.main(tables.flags + ["--journal", str(both)]) == migration.EXIT_USAGE
    assert "both.jsonl holds several journals" in capsys.readouterr().err
    assert tables.contents() == before


def test_memory_does_not_grow_with_records_of_others_in_the_journal(tables):
    tables.put(LIVE, ARCHIVED)
    runs = [tables.migrate("--database-id", name) for name in (ARCHIVE, "db01")]
    header, image, replaced = lines_of(runs[1])
    with open(runs[1].journal, "w") as file:
        file.write(header + image)
        file.writelines(replaced.replace('"twin"', '"t%d"' % number) for number in range(20000))
    images = rollback.read_before_images(rollback.open_journals([str(runs[1].journal)], LOCAL, rollback.Skipped()))
    tracemalloc.start()
    try:
        assert len(list(images)) == 1
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**6
    finally:
        tracemalloc.stop()


def journals_of_two_attempts(tables, inserter, exchanger, newer):
    """As two attempts of a task on Spark leave them: `inserter` makes the archived asset's record, on which the other
    relies; `exchanger` puts that of the live asset in its place, on which the other relies. Returns their folder."""
    header, archived, live, exchange = lines_of(tables.migrate())
    claim = json.loads(exchange)["claim"]
    assert claim["was"]["isCurrentVersion"] == {"BOOL": False} and ARCHIVE in archived

    def relied(name, database_id):
        same = {"was": claim[name], "now": claim[name], "certain": True}
        return json.dumps({"claim": same, "database_id": database_id}) + "\n"

    folder = tables.folder / "attempts"
    folder.mkdir()
    for number in (0, 1):
        of_attempt = json.loads(header)
        of_attempt.update(stem="a%d" % number, opened=of_attempt["opened"] + (number == newer))
        lines = [json.dumps(of_attempt) + "\n", archived]
        lines += [] if number == inserter else [relied("was", ARCHIVE)]
        lines += [live, exchange if number == exchanger else relied("now", "db01")]
        (folder / ("a%d.jsonl" % number)).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("inserter, exchanger, newer", [*itertools.product((0, 1), repeat=3)])
def test_one_journal_may_tell_of_a_record_and_another_of_what_was_put_in_its_place(tables, inserter, exchanger, newer):
    tables.put(LIVE, ARCHIVED)
    before = tables.contents()
    undone = roll_back(tables, journals_of_two_attempts(tables, inserter, exchanger, newer))
    assert tables.contents() == before
    assert (undone.status, undone.outcomes) == (0, {"restored": 2, "nothing_to_restore": 2})


RECORD_STAYS = ("version_record_changed", "record_stays")


@pytest.mark.parametrize("inserter, exchanger, newer", [*itertools.product((0, 1), repeat=3)])
@pytest.mark.parametrize("changed_record", [False, True])
def test_what_was_put_in_its_place_stays_while_it_is_needed(tables, inserter, exchanger, newer, changed_record):
    """The live asset is not as it was left, or a user changed the record."""
    tables.put(LIVE, ARCHIVED)
    folder = journals_of_two_attempts(tables, inserter, exchanger, newer)
    if changed_record:
        tables.put_records({**tables.record("twin", "3"), "comment": S("of a user")})
    else:
        edit(tables, LIVE, previewLocation=None)
    left = tables.record("twin", "3")
    undone = roll_back(tables, folder)
    assert tables.record("twin", "3") == left
    assert {row["code"] for row in undone.rows} & {*(RECORD_STAYS if changed_record else ["changed_since"])}


SHARED = [LIVE, ARCHIVED, asset("twin", "db02"), asset("twin", "db02" + DELETED, currentVersion=version(Comment="old"))]


@pytest.mark.parametrize("migrated_in", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("others", [*itertools.combinations(range(4), 3)])
def test_assets_of_one_record_come_back_whatever_the_order_of_their_journals(tables, others, migrated_in):
    """As runs at once leave them: which journal began first does not tell which asset was migrated first."""
    tables.put(*(SHARED[number] for number in others))
    before = tables.contents()
    names = [SHARED[others[number]]["databaseId"]["S"] for number in migrated_in]
    runs = [tables.migrate("--database-id", name) for name in names]
    runs = [run for run in [*runs, tables.migrate()] if run.journal]  # one may have failed before its time, or again
    after = tables.contents()
    started = json.loads(lines_of(runs[0])[0])["started"]
    for order in itertools.permutations(range(len(runs))):
        tables.put(*after[0].values())
        tables.put_records(*after[1].values())
        folder = tables.folder / "".join(map(str, order))
        folder.mkdir()
        for run, number in zip(runs, order):
            header, *lines = lines_of(run)
            header = {**json.loads(header), "stem": "j%d" % number, "opened": float(number), "started": started}
            (folder / ("j%d.jsonl" % number)).write_text(json.dumps(header) + "\n" + "".join(lines))
        undone = roll_back(tables, folder)
        assert tables.contents() == before
        assert (undone.status, undone.rows) == (0, [])


@pytest.mark.parametrize(
    "touched, event", [*itertools.product([0, 1], ["deleted", "edited", "new version"]), (0, "archived")]
)
@pytest.mark.parametrize(
    "version_of_archived, description", [("3", "As built"), ("3", "As once built"), ("5", "As built")]
)
@pytest.mark.parametrize("migrated_in", [([0], [1]), ([1], [0]), ([0, 1],)])
def test_a_second_rollback_finds_nothing_that_the_first_one_left(
    tables, event, touched, version_of_archived, description, migrated_in
):
    """Of a live and an archived asset of one assetId users have changed one since."""
    old = version(Version=version_of_archived, Comment="old")
    pair = [LIVE, asset("twin", ARCHIVE, currentVersion=old, description=description)]
    runs = []
    for numbers in migrated_in:
        tables.put(*(pair[number] for number in numbers))
        runs.append(tables.migrate())
    key = key_of(pair[touched])
    if event == "deleted":
        tables.client.delete_item(TableName=tables.assets, Key=key)
    elif event == "edited":
        edit(tables, pair[touched], assetLocation=M(Key=S("elsewhere/")))
    elif event == "archived":
        moved = tables.asset("db01", "twin")
        tables.put({**moved, "databaseId": S(ARCHIVE), "status": S("archived")})
        tables.client.delete_item(TableName=tables.assets, Key=key_of(LIVE))
    else:
        edit(tables, pair[touched], currentVersionId="7")
        tables.put_records(record("twin", assetVersionId="7", **BY_ANN))
    roll_back(tables, *runs)
    left = tables.contents()
    again = roll_back(tables, *runs)
    assert tables.contents() == left
    assert (again.summary["version_records_removed"], again.summary["assets_restored"]) == (0, 0)
    of_touched = {"3", version_of_archived if touched or event == "archived" else "3"} if event != "deleted" else set()
    used = {item["currentVersionId"]["S"] for item in left[0].values() if "currentVersionId" in item}
    assert {version_id for _, version_id in left[1]} <= used | of_touched


def test_a_journal_for_each_of_many_tasks(tables, capsys):
    """As a job on Spark leaves them: more of them than files that may be open, and than a screen holds."""
    import resource

    tables.load(asset("a%02d" % number) for number in range(60))
    before = tables.contents()
    header, *images = lines_of(tables.migrate())
    folder = tables.folder / "many"
    folder.mkdir()
    for number, image in enumerate(images):
        of_task = header.replace('"stem":"', '"stem":"p%05d_' % number)
        (folder / ("migration_p%05d.jsonl" % number)).write_text(of_task + image)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 30, limits[1]))
    capsys.readouterr()
    try:
        assert roll_back(tables, folder).status == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert tables.contents() == before
    shown = capsys.readouterr().out
    assert shown.count("  journal  ") == 20 and "40 more, 40 of them INTERRUPTED, 40 before images" in shown
