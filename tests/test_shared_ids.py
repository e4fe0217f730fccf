"""One assetId in several places: whose a version record is (spec.md section 3, guarantee 4), in migration, withdrawal,
rollback and verification. `tests/test_world.py` draws such worlds at random; here are those that were broken once."""

import contextlib
import csv
import functools
import itertools
import json
import threading
import time
import types

import pytest
from conftest import before_first, patch_execute
from v22 import DELETED, LEGACY, S, asset, changed, migrated, partiql, record, version

from load_migration import load_script, migration

pytestmark = pytest.mark.usefixtures("one_client")
rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")
ARCHIVE = "db01" + DELETED
FALSE = {"BOOL": False}
_numbers = itertools.count(1)


def run(tables, script, *journals, flags=()):
    """Run rollback or verification with these runs' journals; exit status, rows of the report, summary."""
    folder = tables.folder / ("report-%d" % next(_numbers))
    argv = tables.flags + ["--report-dir", str(folder), *flags]
    for journal in journals:
        argv += ["--journal", str(journal.journal)] if journal.journal else []
    status = script.main(argv)
    (summary,) = (json.loads(path.read_text()) for path in folder.glob("*_summary.json"))
    (report,) = folder.glob("*.csv")
    with open(report, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return types.SimpleNamespace(status=status, rows=rows, summary=summary)


def roll_back(tables, *journals):
    return run(tables, rollback, *journals, flags=["--yes"])


def in_turn(tables, *names):
    """A migration of each databaseId, one after the other."""
    return [tables.migrate("--database-id", name) for name in names]


def claims_in(run):
    lines = [json.loads(line) for line in run.journal.read_text().splitlines()]
    return [(line["database_id"], line["claim"]) for line in lines if "claim" in line]


def delete(tables, database_id, asset_id="a"):
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S(database_id), "assetId": S(asset_id)})


def archive(tables, database_id="db01", asset_id="a"):
    """What the application does: the item as it is, under another databaseId."""
    item = tables.asset(database_id, asset_id)
    tables.put(changed(item, {"databaseId": database_id + DELETED}))
    delete(tables, database_id, asset_id)


@pytest.fixture(name="before_first")
def before_first_of_this_test(monkeypatch):
    return functools.partial(before_first, monkeypatch)


@pytest.fixture
def cut_off(monkeypatch):
    """cut_off(word, action): the first such request does not arrive, and nobody knows; meanwhile something is done."""

    def install(word, action=lambda: None):
        execute, done = migration.Database.execute, []

        def execute_or_not(database, statements):
            if not done and any(partiql(statement).startswith(word) for statement in statements):
                done.append(True)
                action()
                raise migration.TryAgain("no answer from DynamoDB: cut off")
            return execute(database, statements)

        patch_execute(monkeypatch, execute_or_not)

    return install


# --- Created anew under the same keys -----------------------------------------------------


def test_an_asset_created_anew_after_the_migrated_one_was_archived_is_not_touched(tables):
    tables.put(asset("a"))
    first = tables.migrate()
    archive(tables)
    tables.put(migrated("a", assetName="Another one"))  # under the same version number
    tables.put_records(record("a", comment="of another one", createdBy="ann"))
    before = tables.contents()
    undone = roll_back(tables, first)
    assert undone.status == 1 and [row["outcome"] for row in undone.rows] == ["changed_since"]
    assert "may be another asset" in undone.rows[0]["message"]
    assert tables.contents() == before


def test_an_asset_archived_in_the_place_of_an_older_archived_one_is_not_touched(tables):
    tables.put(asset("a"), asset("a", ARCHIVE, assetName="The older one"))
    first = tables.migrate()
    archive(tables)
    before = tables.contents()
    undone = roll_back(tables, first)
    assert undone.status == 1 and {row["outcome"] for row in undone.rows} == {"asset_deleted", "changed_since"}
    assert tables.contents() == before


def test_a_user_may_edit_an_asset_whose_archived_twin_was_there_before(tables):
    tables.put(asset("a"), asset("a", ARCHIVE, currentVersion=version(Version="2")))
    first = tables.migrate()
    tables.put(migrated("a", assetName="Edited"))
    assert roll_back(tables, first).status == 0
    assert tables.asset("db01", "a") == asset("a", assetName="Edited")


def test_an_archived_asset_that_keeps_a_record_is_said_to_share_it_only_where_it_does(tables):
    tables.put(asset("a", ARCHIVE), asset("b", ARCHIVE), asset("b"))
    tables.put_records(record("a", comment="Of a killed run"), record("b", comment="The live one's"))
    messages = {row["asset_id"]: row["message"] for row in tables.migrate("--database-id", ARCHIVE).rows}
    assert "so both share" in messages["b"] and "There was a version record" in messages["a"]


# --- A record that two databases share ------------------------------------------------------


@pytest.mark.parametrize("edited", ["db01", "db02"])
def test_a_record_stays_that_an_edited_asset_needs(tables, edited):
    tables.put(asset("a"), asset("a", "db02"))
    run_of_both = tables.migrate()
    tables.put(migrated("a", edited, previewLocation=None))
    undone = roll_back(tables, run_of_both)
    assert undone.status == 1 and tables.record("a", "3") == record("a")
    assert sorted(row["code"] for row in undone.rows)[0] == "changed_since"


@pytest.mark.parametrize("order", [("db01", "db02"), ("db02", "db01")])
def test_each_of_two_runs_takes_back_its_own(tables, order):
    tables.put(asset("a"), asset("a", "db02"))
    before = tables.contents()
    first, second = in_turn(tables, *order)
    between = tables.contents()
    assert claims_in(first) == []
    assert claims_in(second) == [(order[1], {"was": record("a"), "now": record("a"), "certain": True})]
    # The later one alone leaves what the earlier one made.
    undone = roll_back(tables, second)
    assert (undone.status, undone.rows) == (0, [])
    assert tables.record("a", "3") == record("a")
    assert tables.asset(order[0], "a") == migrated("a", order[0])
    # The earlier one alone leaves what the later one needs.
    (second,) = in_turn(tables, order[1])
    assert tables.contents() == between
    undone = roll_back(tables, first)
    assert undone.status == 0 and order[1] in undone.rows[0]["message"]
    assert tables.record("a", "3") == record("a")
    # Both leave nothing.
    assert roll_back(tables, first, second).status == 0
    assert tables.contents() == before


@pytest.mark.parametrize("order", [("db01", "db02"), ("db02", "db01")])
def test_another_date_is_said_and_known(tables, order):
    tables.put(asset("a"), asset("a", "db02", currentVersion=version(DateModified="May 1 2024 - 08:00:00")))
    before = tables.contents()
    dry = tables.migrate("--dry-run")
    first, second = in_turn(tables, *order)
    assert (first.status, first.rows, second.status) == (0, [], 0)
    (row,) = second.rows
    assert (row["database_id"], row["code"], row["field"]) == (order[1], "shared_version_record", "dateCreated")
    assert "2024-05-01T08:00:00Z" in row["message"] and "2025-06-24T17:59:56Z" in row["message"]
    assert dry.codes == {"shared_version_record"}
    assert run(tables, verify, first, second).status == 0
    tables.put_records(record("a", dateCreated="2020-01-01T00:00:00Z"))
    assert {row["field"] for row in run(tables, verify, first, second).rows} == {"dateCreated"}
    tables.put_records(
        record("a", dateCreated="2024-05-01T08:00:00Z" if order[0] == "db02" else "2025-06-24T17:59:56Z")
    )
    undone = roll_back(tables, first, second)
    assert (undone.status, undone.rows) == (0, [])
    assert tables.contents() == before


# --- Within a run -----------------------------------------------------------------------------


def test_the_record_of_a_vanished_asset_is_not_taken_from_the_one_that_relies_on_it(tables, before_first):
    """Whichever of the two makes the record and is deleted before its change, the other one has it."""
    tables.put(asset("a"), asset("a", "db02"))
    update = 'UPDATE "%s"' % tables.assets

    def delete_the_maker():
        (line,) = list(tables.folder.glob("run-*/backups/*.jsonl"))
        (image,) = [json.loads(text) for text in line.read_text().splitlines()[1:]]
        delete(tables, image["asset"]["databaseId"]["S"])

    before_first(update, delete_the_maker)
    done = tables.migrate()
    assert done.summary["outcomes"]["vanished"] == done.summary["outcomes"]["migrated"] == 1
    assert tables.record("a", "3") == record("a") and len(tables.contents()[0]) == 1
    assert run(tables, verify, done).summary["problems"] == {"asset_missing": 1}


def test_an_insert_that_did_not_arrive_is_not_claimed_as_ours(tables, cut_off):
    """Meanwhile another made the same record, which it needs: it stays when our asset is taken back."""
    tables.put(asset("a"))

    def another_makes_it():
        tables.put(migrated("a", "db02"))
        tables.put_records(record("a"))

    cut_off("INSERT", another_makes_it)
    done = tables.migrate("--database-id", "db01")
    assert (done.status, done.rows) == (0, [])
    assert claims_in(done) == [("db01", {"was": None, "now": record("a"), "certain": False})]
    assert roll_back(tables, done).status == 0
    assert tables.record("a", "3") == record("a")
    # Also when the other one is in the old form, so that it may have been taken back before.
    done = tables.migrate("--database-id", "db01")
    delete(tables, "db02")
    assert roll_back(tables, done).status == 0
    assert tables.record("a", "3") == record("a")


def test_an_insert_whose_answer_was_lost_is_taken_back_where_nobody_else_can_have_made_it(tables, monkeypatch):
    tables.put(asset("a"), asset("b"))
    before = tables.contents()
    lose_answer(monkeypatch, "INSERT", True, lambda: None)
    done = tables.migrate()
    assert done.status == 0 and {claim["certain"] for _, claim in claims_in(done)} == {False}
    assert roll_back(tables, done).status == 0
    assert tables.contents() == before


def test_an_uncertain_record_goes_though_its_version_has_a_twin_of_other_content(tables, monkeypatch):
    """The archived one, in the old form again, tells what it would have made."""
    tables.put(asset("a"), asset("a", ARCHIVE, currentVersion=version(Comment=S("An older one"))))
    before = tables.contents()
    lose_answer(monkeypatch, "INSERT", True, lambda: None)
    runs = in_turn(tables, "db01", ARCHIVE)
    assert claims_in(runs[0]) == [("db01", {"was": None, "now": record("a"), "certain": False})]
    assert [done.codes for done in runs] == [set(), {"archived_twin"}]
    undone = roll_back(tables, *runs)
    assert (undone.status, undone.rows) == (0, [])
    assert tables.contents() == before


def test_a_record_that_is_not_current_is_no_live_ones(tables, monkeypatch):
    """Though the answer to its INSERT was lost, it goes with the archived asset that it was made for."""
    tables.put(asset("a"), asset("a", ARCHIVE))
    before = tables.contents()
    lose_answer(monkeypatch, "INSERT", True, lambda: None)
    done = tables.migrate("--database-id", ARCHIVE)
    assert done.status == 0 and {claim["certain"] for _, claim in claims_in(done)} == {False}
    assert tables.record("a", "3")["isCurrentVersion"] == {"BOOL": False}
    undone = roll_back(tables, done)
    assert undone.status == 0 and not undone.rows
    assert tables.contents() == before


def test_an_uncertain_record_of_a_vanished_asset_stays_where_another_may_have_made_it(tables, cut_off, before_first):
    tables.put(asset("a"), asset("a", "db02"))
    cut_off("INSERT", lambda: tables.put_records(record("a")))
    before_first('UPDATE "%s"' % tables.assets, lambda: delete(tables, "db01"))
    done = tables.migrate("--database-id", "db01")
    assert done.summary["outcomes"]["vanished"] == 1 and done.codes == {"vanished", "record_stays"}
    assert tables.record("a", "3") == record("a")


# --- Live and archived ------------------------------------------------------------------------


def test_the_archived_one_is_migrated_before_the_live_one_is_made_same_version(tables):
    tables.put(asset("a", ARCHIVE, currentVersion=version(Comment="Archived")))
    before_both = tables.contents()
    first = tables.migrate()
    assert tables.record("a", "3") == record("a", comment="Archived")
    tables.put(asset("a"))
    between = tables.contents()
    second = tables.migrate()
    assert (second.status, second.codes) == (0, {"archived_twin"})
    assert tables.record("a", "3") == record("a")
    assert run(tables, verify, first, second).status == 0
    assert roll_back(tables, second).status == 0
    assert tables.contents() == between
    delete(tables, "db01")
    assert roll_back(tables, first).status == 0
    assert tables.contents() == before_both


@pytest.mark.parametrize("scope", [[], ["--database-id", "db01"]])
def test_the_archived_one_is_migrated_before_the_live_one_is_made_other_version(tables, scope):
    tables.put(asset("a", ARCHIVE, currentVersion=version(Version="2")))
    first = tables.migrate()
    tables.put(asset("a"))
    between = tables.contents()
    dry = tables.migrate("--dry-run", *scope)
    second = tables.migrate(*scope)
    assert (dry.status, second.status, second.rows) == (0, 0, [])
    not_current = record("a", assetVersionId="2", isCurrentVersion=FALSE)
    assert tables.contents()[1] == {("a", "2"): not_current, ("a", "3"): record("a")}
    verified = run(tables, verify, first, second)
    assert (verified.status, verified.summary["problems"]) == (0, {})
    assert tables.migrate().summary["writes"] == 0
    assert roll_back(tables, second).status == 0
    assert tables.contents() == between


def test_the_archived_ones_record_stays_current_where_another_asset_needs_it(tables):
    old = version(Version="2")
    tables.put(asset("a", ARCHIVE, currentVersion=old), asset("a", "db02", currentVersion=old))
    first = tables.migrate()
    tables.put(asset("a"))
    assert tables.migrate().status == 0
    assert tables.record("a", "2") == record("a", assetVersionId="2")
    assert first.status == 0


def test_a_record_that_a_third_asset_needs_is_not_replaced_for_the_archived_twin(tables):
    tables.put(asset("a", ARCHIVE), asset("a", "db02"))
    tables.migrate()
    tables.put(asset("a", currentVersion=version(Comment="Mine")))
    done = tables.migrate()
    assert (done.status, done.codes) == (1, {"version_conflict"})
    assert tables.record("a", "3") == record("a")


@pytest.mark.parametrize("lost", ["nothing", "INSERT"])
@pytest.mark.parametrize("scopes", [[[]], [["--database-id", ARCHIVE], []]])
def test_what_was_made_for_an_archived_asset_of_a_user_is_replaced_as_any_other(tables, monkeypatch, scopes, lost):
    """In one run and in two, as where the first is killed; also where nobody knows whether it was made."""
    tables.put(asset("a", ARCHIVE, currentVersion=version(createdBy="ann")), asset("a"))
    before = tables.contents()
    if lost != "nothing":
        lose_answer(monkeypatch, lost, True, lambda: None)
    runs = [tables.migrate(*scope) for scope in scopes]
    assert [(done.status, done.codes) for done in runs[-1:]] == [(0, {"archived_twin"})]
    assert tables.record("a", "3") == record("a")
    assert run(tables, verify, *runs).status == 0
    assert roll_back(tables, *runs).status == 0
    assert tables.contents() == before


@pytest.mark.parametrize("by", ["system", "ann"])
def test_a_third_asset_is_in_the_way_of_a_later_run_only_where_a_user_went_on_from_it(tables, by):
    """What an earlier run, killed or not, made for the archived twin may then be the third one's history."""
    tables.put(asset("a", ARCHIVE), asset("a", currentVersion=version(Comment="Mine")))
    tables.migrate("--database-id", ARCHIVE)
    tables.put(migrated("a", "db02", currentVersionId="4"))
    tables.put_records(record("a", assetVersionId="4", createdBy=by))
    done = tables.migrate()
    conflict = by == "ann"
    assert (done.status, done.codes) == (1, {"version_conflict"}) if conflict else (0, {"archived_twin"})
    assert tables.record("a", "3") == record("a", **{"isCurrentVersion": FALSE} if conflict else {"comment": "Mine"})


def test_identical_twins_of_which_the_archived_one_is_deleted_in_mid_run(tables, before_first):
    """Before its change or after it: the live one has its record, which is current."""
    for word in ('UPDATE "%s"' % tables.assets, 'UPDATE "%s"' % tables.versions):
        tables.put(asset("a"), asset("a", ARCHIVE))
        in_order = ["--database-id", ARCHIVE, "--database-id", "db01", "--workers", "1", "--batch-size", "1"]
        before_first(word, lambda: delete(tables, ARCHIVE))
        done = tables.migrate(*in_order)
        assert done.status == 0 and done.codes <= {"vanished", "archived_twin"}
        assert tables.contents()[1] == {("a", "3"): record("a")}
        assert tables.asset("db01", "a") == migrated("a")
        delete(tables, "db01")
        tables.client.delete_item(TableName=tables.versions, Key={"assetId": S("a"), "assetVersionId": S("3")})


def test_the_record_that_this_run_made_for_an_archived_one_is_replaced_though_that_is_gone(tables, monkeypatch):
    tables.put(asset("a", currentVersion=version(Comment="Mine")), asset("a", ARCHIVE))
    keys, actions = [(ARCHIVE, "a"), ("db01", "a")], {"db01": lambda: delete(tables, ARCHIVE)}
    assert migrate_in_order(tables, monkeypatch, keys, actions).codes == {"archived_twin"}
    assert tables.contents() == (
        {("db01", "a"): migrated("a")},
        {("a", "3"): record("a", comment="Mine")},
    )


def test_the_archived_ones_record_is_current_again_where_the_live_one_vanishes(tables, before_first):
    tables.put(asset("a", ARCHIVE, currentVersion=version(Version="2")))
    in_turn(tables, ARCHIVE)
    before = tables.contents()
    tables.put(asset("a"))
    before_first('UPDATE "%s"' % tables.assets, lambda: delete(tables, "db01"))
    done = tables.migrate()
    assert done.codes == {"vanished"} and done.summary["version_records_written"] == 0
    assert tables.contents() == before


@pytest.mark.parametrize("comment", ["Mine", None])
def test_a_record_of_the_application_that_an_archived_one_kept_stays_current(tables, comment):
    tables.put(asset("a", ARCHIVE, currentVersion=version(Version="2")), asset("a"))
    of_application = record("a", assetVersionId="2", createdBy="ann", comment=comment)
    tables.put_records(of_application)
    in_turn(tables, ARCHIVE, "db01")
    assert tables.contents()[1] == {("a", "2"): of_application, ("a", "3"): record("a")}


def test_history_that_a_live_asset_took_over_is_not_removed(tables):
    """Then the application made another version; the archived asset's record is the live one's history."""
    tables.put(asset("a", ARCHIVE), asset("a"))
    first, second = in_turn(tables, ARCHIVE, "db01")
    tables.put(migrated("a", currentVersionId="4"))
    tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4"))
    records = tables.contents()[1]
    delete(tables, ARCHIVE)
    assert roll_back(tables, first, second).status == 1
    assert tables.contents()[1] == records


@pytest.mark.parametrize("name", ["One", "Another"])
@pytest.mark.parametrize("together", [True, False])
def test_a_migrated_asset_archived_over_an_older_archived_one_is_left_alone(tables, name, together):
    """Whether they look alike or not, and whether the live one was there when the older one was migrated."""
    old = asset("a", ARCHIVE, currentVersion=version(Comment="Archived"), assetName="One")
    tables.put(old, *[asset("a", assetName=name)] * together)
    first = tables.migrate()
    tables.put(*[asset("a", assetName=name)] * (not together))
    second = tables.migrate()
    archive(tables)
    before = tables.contents()
    undone = roll_back(tables, first, second)
    assert undone.status == 1 and {row["outcome"] for row in undone.rows} == {"asset_deleted", "changed_since"}
    assert tables.contents() == before


@pytest.mark.parametrize("scope", [[], ["--database-id", ARCHIVE]])
@pytest.mark.parametrize("field", ["comment", "createdBy", "dateCreated"])
def test_a_damaged_record_that_twins_share_is_seen(tables, scope, field):
    tables.put(asset("a"), asset("a", ARCHIVE))
    done = tables.migrate()
    assert run(tables, verify, done, flags=scope).status == 0
    tables.put_records(record("a", **{field: "2001-01-01T00:00:00Z"}))
    assert {row["error_type"] for row in run(tables, verify, done, flags=scope).rows} == {"record_content_differs"}


def test_an_archived_asset_may_keep_a_record_that_is_not_current(tables):
    tables.put(asset("a", "db02", currentVersion=version(Version="2")), asset("a", "db02" + DELETED))
    tables.put(asset("a", ARCHIVE))
    runs = in_turn(tables, "db02", "db02" + DELETED, ARCHIVE)
    assert [done.status for done in runs] == [0, 0, 0]
    assert run(tables, verify, *runs).status == 0


def test_a_replaced_record_is_not_put_back_while_a_third_asset_needs_what_is_there(tables):
    tables.put(asset("a", currentVersion=version(Comment="Mine")), asset("a", ARCHIVE))
    first, second = in_turn(tables, ARCHIVE, "db01")
    tables.put(asset("a", "db02" + DELETED))
    (third,) = in_turn(tables, "db02" + DELETED)
    assert third.codes == {"archived_twin"}
    undone = roll_back(tables, second)
    assert undone.status == 0 and tables.record("a", "3") == record("a", comment="Mine")
    assert [row["code"] for row in undone.rows] == ["record_stays"] and "db02#deleted" in undone.rows[0]["message"]


def test_a_record_that_the_application_made_meanwhile_is_not_taken_for_the_archived_twins(tables, before_first):
    tables.put(asset("a"), asset("a", ARCHIVE))
    of_application = record("a", comment="By the application", createdBy="ann")

    def new_version_by_v23():
        tables.put_records(of_application)
        tables.put(migrated("a"))

    before_first("INSERT", new_version_by_v23)
    done = tables.migrate("--database-id", ARCHIVE, "--database-id", "db01", "--workers", "1", "--batch-size", "1")
    assert done.summary["outcomes"]["failed"] == 0
    assert tables.record("a", "3") == of_application and tables.asset("db01", "a") == migrated("a")


def test_a_part_of_the_tables_cannot_tell_that_an_archived_assets_record_should_be_current(tables):
    tables.put(asset("a", "db02"), asset("a", "db02" + DELETED), asset("a", ARCHIVE))
    runs = in_turn(tables, "db02" + DELETED, ARCHIVE)
    assert tables.record("a", "3")["isCurrentVersion"] == FALSE
    assert run(tables, verify, runs[1], flags=["--database-id", ARCHIVE]).status == 0


# --- A lost answer to the asset's change ------------------------------------------------------


def lose_answer(monkeypatch, word, done, afterwards):
    """The first request with such a statement is done, or not, and not answered; then somebody does something."""
    execute, lost = migration.Database.execute, []

    def execute_and_lose(database, statements):
        if lost or not any(partiql(statement).startswith(word) for statement in statements):
            return execute(database, statements)
        lost.append(True)
        if done:
            execute(database, statements)
        afterwards()
        raise migration.TryAgain("no answer from DynamoDB: lost")

    patch_execute(monkeypatch, execute_and_lose)


@pytest.mark.parametrize("name", ["db01", ARCHIVE])
def test_a_user_went_on_from_our_change(tables, monkeypatch, name):
    """Then the record of our version is history, which stays."""
    tables.put(asset("a", name))

    def new_version():
        tables.put(migrated("a", name, currentVersionId="4"))
        tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4"))

    lose_answer(monkeypatch, 'UPDATE "%s"' % tables.assets, True, new_version)
    done = tables.migrate()
    assert (done.status, done.summary["outcomes"]["migrated"]) == (0, 1)
    assert sorted(tables.contents()[1]) == [("a", "3"), ("a", "4")]


def test_an_asset_archived_after_our_change_has_its_record(tables, monkeypatch):
    tables.put(asset("a"), asset("a", ARCHIVE, currentVersion=version(Comment="Archived")))
    in_turn(tables, ARCHIVE)
    lose_answer(monkeypatch, 'UPDATE "%s"' % tables.assets, True, lambda: archive(tables))
    (done,) = in_turn(tables, "db01")
    assert done.summary["outcomes"]["vanished"] == 1 and done.codes == {"vanished", "record_stays"}
    assert tables.record("a", "3") == record("a")


def test_the_application_was_first_and_our_change_did_not_arrive(tables, monkeypatch):
    """It left nothing of the old form but the locations: that is not our own change."""
    old = {name: value for name, value in asset("a").items() if name not in migration.REMOVED_FIELDS}
    tables.put({**old, "currentVersion": version(), "versions": {"L": []}})

    def new_version():
        tables.put({**old, "currentVersionId": S("1")})
        tables.put_records(record("a", assetVersionId="1"))

    lose_answer(monkeypatch, 'UPDATE "%s"' % tables.assets, False, new_version)
    done = tables.migrate()
    assert (done.status, done.summary["outcomes"]["already_migrated"]) == (0, 1)
    assert sorted(tables.contents()[1]) == [("a", "1")]


def test_a_record_that_another_run_relies_on_is_not_withdrawn(tables, before_first):
    """Two runs at once: the other one has migrated an asset of another database on our record."""
    tables.put(asset("a"))

    def others():
        tables.put(migrated("a", "db02"))
        delete(tables, "db01")

    before_first('UPDATE "%s"' % tables.assets, others)
    done = tables.migrate("--database-id", "db01")
    assert done.codes == {"vanished", "record_stays"} and tables.record("a", "3") == record("a")


def test_an_uncertain_record_is_not_brought_up_to_date_for_an_edit(tables, cut_off, before_first):
    """It is another's, which nobody knows: its comment stays."""
    tables.put(asset("a", "db02"), asset("a"))
    in_turn(tables, "db02")
    cut_off("INSERT")
    before_first(
        'UPDATE "%s"' % tables.assets, lambda: tables.put(asset("a", currentVersion=version(Comment="Corrected")))
    )
    (done,) = in_turn(tables, "db01")
    assert (done.status, done.codes) == (1, {"version_conflict", "record_stays"})
    assert tables.record("a", "3") == record("a")


def test_the_record_of_an_asset_that_was_archived_during_the_rollback_stays(tables, before_first):
    tables.put(asset("a"), asset("a", "db02"))
    first, _ = in_turn(tables, "db01", "db02")
    before_first('UPDATE "%s"' % tables.assets, lambda: archive(tables, "db02"))
    undone = roll_back(tables, first)
    assert undone.status == 0 and tables.record("a", "3") == record("a")
    assert "db02#deleted" in undone.rows[0]["message"]


# --- Several journals, and several runs at once -----------------------------------------------


def beside(runs):
    """Their journals in one folder, as an operator has them."""
    for done in runs[1:]:
        moved = runs[0].journal.with_name("%s_%d.jsonl" % (done.journal.stem, next(_numbers)))
        done.journal.rename(moved)
        done.journal = moved


def test_the_journal_of_an_earlier_run_takes_back_nothing_of_a_later_one(tables):
    tables.put(asset("a"))
    first = tables.migrate()
    assert roll_back(tables, first).status == 0
    edited = asset("a", Parent="moved by a user", specifiedPipelines={"L": []})
    tables.put(edited)
    second = tables.migrate()
    beside([first, second])
    after = tables.contents()
    undone = roll_back(tables, first)
    assert tables.contents() == after and undone.summary["outcomes"]["superseded"] == 1
    assert not undone.summary["undone"]
    assert roll_back(tables, first, second).status == 0
    assert tables.asset("db01", "a") == edited


def test_a_killed_run_alone_takes_back_nothing_of_the_one_that_finished_it(tables, before_first):
    tables.put(asset("a"))

    def crash():
        raise SystemError("as if killed")

    before_first('UPDATE "%s"' % tables.assets, crash)
    with pytest.raises(SystemError):
        tables.migrate()
    (path,) = tables.folder.glob("run-*/backups/*.jsonl")
    killed = types.SimpleNamespace(journal=path)
    tables.put(asset("a", Parent="moved by a user"))
    second = tables.migrate()
    beside([killed, second])
    after = tables.contents()
    assert roll_back(tables, killed).summary["outcomes"]["superseded"] == 1
    assert tables.contents() == after
    assert roll_back(tables, killed, second).status == 0
    assert tables.asset("db01", "a") == asset("a", Parent="moved by a user") and tables.contents()[1] == {}


def test_a_record_that_was_changed_before_it_could_be_withdrawn_is_reported(tables, before_first):
    tables.put(asset("a"))
    before_first('UPDATE "%s"' % tables.assets, lambda: delete(tables, "db01"))
    before_first("DELETE", lambda: tables.put_records(record("a", comment="Edited")))
    done = tables.migrate()
    assert done.codes == {"vanished", "record_stays"} and tables.record("a", "3") == record("a", comment="Edited")
    assert done.summary["version_records_written"] == 1


@pytest.mark.parametrize("end", ["vanished", "failed"])
def test_a_record_that_stays_is_reported_whatever_becomes_of_its_asset(tables, before_first, end):
    """It was edited before it was withdrawn for the asset's next version, which does not come to its end either."""
    next_one = asset("a", currentVersion=version(Version="4"))

    def edit():
        tables.put(next_one)
        before_first("DELETE", lambda: tables.put_records(record("a", comment="Edited")))
        if end == "failed":
            tables.put_records(record("a", assetVersionId="4", comment="Another's"))
        else:
            before_first('INSERT INTO "%s"' % tables.versions, lambda: delete(tables, "db01"))

    tables.put(asset("a"))
    before_first('UPDATE "%s"' % tables.assets, edit)
    done = tables.migrate()
    assert done.codes == {"vanished" if end == "vanished" else "version_conflict", "record_stays"}
    assert tables.record("a", "3") == record("a", comment="Edited")


def test_a_record_that_is_brought_up_to_date_is_one_record(tables, before_first, monkeypatch):
    """Also where the answer to that is lost."""
    tables.put(asset("a"))
    edited = asset("a", currentVersion=version(Comment="Edited"))
    before_first('UPDATE "%s"' % tables.assets, lambda: tables.put(edited))
    lose_answer(monkeypatch, 'UPDATE "%s"' % tables.versions, True, lambda: None)
    done = tables.migrate()
    assert done.status == 0 and done.summary["version_records_written"] == 1
    assert tables.record("a", "3") == record("a", comment="Edited")
    assert roll_back(tables, done).status == 0
    assert tables.contents() == ({("db01", "a"): edited}, {})


def test_a_change_that_never_arrived_is_not_taken_for_done_because_the_asset_looks_new(tables, monkeypatch):
    """An asset of which nothing is to be removed, and whose location is in the new form already."""
    old = dict.fromkeys([*LEGACY, "currentVersion"])
    bare = functools.partial(asset, "a", **old, assetLocation=migrated("a")["assetLocation"])
    tables.put(bare())
    afterwards = functools.partial(tables.put, bare(previewLocation=None))
    lose_answer(monkeypatch, 'UPDATE "%s"' % tables.assets, False, afterwards)
    assert tables.migrate().status == 0
    assert tables.asset("db01", "a") == migrated("a", currentVersionId="0", previewLocation=None)


def test_a_dry_run_shows_a_shared_record_once(tables, capsys):
    tables.put(asset("a"), asset("a", "db02"))
    tables.migrate("--dry-run")
    assert capsys.readouterr().out.count("+ version record, comment") == 1


@pytest.mark.parametrize("by", ["system", "ann"])
def test_a_run_killed_before_it_made_a_record_does_not_take_anothers_history(tables, before_first, by):
    """Where no user went on from the other asset, only the killed run can have made the record."""
    tables.put(asset("a", ARCHIVE), asset("a", currentVersion=version(Version="5")))

    def crash():
        tables.put(migrated("a", "db02", currentVersionId="4"))
        tables.put_records(record("a", isCurrentVersion=FALSE), record("a", assetVersionId="4", createdBy=by))
        raise SystemError("as if killed")

    before_first("INSERT", crash)
    with pytest.raises(SystemError):
        tables.migrate("--database-id", ARCHIVE)
    (path,) = tables.folder.glob("run-*/backups/*.jsonl")
    undone = roll_back(tables, types.SimpleNamespace(journal=path))
    assert undone.status == 0 and undone.summary["outcomes"]["nothing_to_restore"] == 1
    history = {("a", "3"): record("a", isCurrentVersion=FALSE)} if by == "ann" else {}
    assert tables.contents()[1] == {("a", "4"): record("a", assetVersionId="4", createdBy=by), **history}
    assert [row["code"] for row in undone.rows] == ["record_stays"] * len(history)


def test_no_migration_begins_while_a_rollback_takes_back_what_it_would_rely_on(tables, before_first, capsys):
    tables.put(asset("a"))
    first = tables.migrate()
    statuses = []

    def migrate():
        folder = ["--journal-dir", str(first.journal.parent), "--report-dir", str(tables.folder / "other")]
        statuses.append(migration.main(tables.flags + folder))
        statuses.append(rollback.main(tables.flags + ["--yes", "--journal", str(first.journal)]))

    before_first('DELETE FROM "%s"' % tables.versions, migrate)
    assert roll_back(tables, first).status == 0
    assert statuses == [migration.EXIT_PREFLIGHT] * 2
    assert tables.contents() == ({("db01", "a"): asset("a")}, {})
    assert "a rollback" in capsys.readouterr().err


def test_an_asset_deleted_for_good_and_made_anew_is_not_touched(tables):
    tables.put(asset("a"))
    first = tables.migrate()
    tables.put(migrated("a", assetName="Another one"))
    tables.put_records(record("a", comment="of another one", createdBy="ann"))
    before = tables.contents()
    assert roll_back(tables, first).status == 1
    assert tables.contents() == before


def test_repairs_rolled_back_with_the_run_before_and_once_more(tables):
    tables.put(asset("a", isDistributable=S("True")))
    before = tables.contents()
    first, second = tables.migrate(), tables.migrate("--repair")
    for _ in range(2):
        assert roll_back(tables, first, second).status == 0
        assert tables.contents() == before


def test_repairs_that_are_not_there_are_not_verified(tables):
    tables.put(asset("a", isDistributable=S("True")))
    first, second = tables.migrate(), tables.migrate("--repair")
    assert run(tables, verify, first, second).status == 0
    tables.put(migrated("a", isDistributable=S("True")))
    assert run(tables, verify, first, second).summary["problems"] == {"asset_content_differs": 1}


def test_of_two_runs_at_once_the_earlier_one_may_have_replaced_what_the_later_one_made(tables):
    tables.put(asset("a", ARCHIVE, currentVersion=version(Comment="Archived")), asset("a"))
    second, first = in_turn(tables, ARCHIVE, "db01")
    for done, year in ((first, 2030), (second, 2031)):
        text = done.journal.read_text()
        done.journal.write_text(text.replace('"started":"20', '"started":"%d-01-01T00:00:00Z","was":"20' % year, 1))
    assert run(tables, verify, first, second).status == 0


def test_an_asset_archived_over_one_whose_record_was_not_current(tables):
    tables.put(asset("a"), asset("a", ARCHIVE))
    (first,) = in_turn(tables, ARCHIVE)
    archive(tables)
    second = tables.migrate()
    assert second.status == 0
    verified = run(tables, verify, first, second)
    assert (verified.status, verified.summary["problems"]) == (0, {})
    assert "archived_not_current" in verified.summary["notes"]


@pytest.mark.parametrize("first", ["db01", ARCHIVE])
@pytest.mark.parametrize("anew", [None, {"currentVersionId": "1"}, {"assetName": "New"}])
def test_archived_over_an_archived_one_that_looks_alike_and_made_anew(tables, first, anew):
    """In the new form nothing tells the two apart, but that the live one is not in its place any more."""
    tables.put(asset("a"), asset("a", ARCHIVE, currentVersion=version(Comment="Archived")))
    both = [*in_turn(tables, first), tables.migrate()]
    archive(tables)
    if anew:
        tables.put(migrated("a", **anew))
        tables.put_records(record("a", assetVersionId=anew.get("currentVersionId", "3"), comment="New"))
    before = tables.contents()
    assert roll_back(tables, *both).status == 1
    assert tables.contents() == before


@pytest.mark.parametrize("by", [{"createdBy": "ann"}, {"createdBy": None}, {"more": "x"}])
def test_a_record_that_an_archived_asset_kept_is_not_taken_for_its_own(tables, by):
    """Whichever comes first, and in however many runs."""
    tables.put(asset("a"), asset("a", ARCHIVE))
    tables.put_records(record("a", comment="Another's", **by))
    for name in (ARCHIVE, "db01", "db01"):
        (done,) = in_turn(tables, name)
        assert done.codes == ({"archived_twin"} if name == ARCHIVE else {"version_conflict"})
    assert tables.record("a", "3") == record("a", comment="Another's", **by)


# --- Two at once, on machines that do not see each other's locks ------------------------------


@pytest.fixture
def unseen(monkeypatch):
    """Two scripts in this process: signals are nobody's, and no lock is seen."""
    monkeypatch.setattr(migration, "interruptible", lambda run: contextlib.nullcontext())
    monkeypatch.setattr(migration, "locked_by", lambda file: "")


def test_a_record_that_another_run_withdraws_is_made_again(tables, monkeypatch, unseen):
    """The second run relies on the first one's record, whose asset vanishes before the second has changed its own."""
    tables.put(asset("a"), asset("a", "db02"))
    execute, waits, goes_on, runs = migration.Database.execute, threading.Event(), threading.Event(), []

    def execute_in_turn(database, statements):
        changes = [text for text in statements if partiql(text).startswith('UPDATE "%s"' % tables.assets)]
        if any('"db01"' in text for text in changes):
            waits.set()
            goes_on.wait(60)
        elif changes and first.is_alive():
            delete(tables, "db01")
            goes_on.set()
            first.join()
            assert tables.contents()[1] == {}
        return execute(database, statements)

    patch_execute(monkeypatch, execute_in_turn)
    first = threading.Thread(target=lambda: runs.extend(in_turn(tables, "db01")))
    first.start()
    assert waits.wait(60)
    (second,) = in_turn(tables, "db02")
    assert (runs[0].codes, second.status, second.codes) == ({"vanished"}, 0, set())
    assert tables.contents() == ({("db02", "a"): migrated("a", "db02")}, {("a", "3"): record("a")})
    assert claims_in(second)[-1] == ("db02", {"was": None, "now": record("a"), "certain": True})
    assert second.summary["version_records_written"] == 1
    undone = roll_back(tables, second)
    assert (undone.status, undone.rows) == (0, [])
    assert tables.contents() == ({("db02", "a"): asset("a", "db02")}, {})


def test_a_record_is_put_back_that_another_run_relied_on_while_it_was_withdrawn(tables, before_first, unseen):
    tables.put(asset("a"), asset("a", "db02"))
    runs = []
    before_first('UPDATE "%s"' % tables.assets, lambda: delete(tables, "db01"))
    before_first('DELETE FROM "%s"' % tables.versions, lambda: runs.extend(in_turn(tables, "db02")))
    (first,) = in_turn(tables, "db01")
    assert first.codes == {"vanished", "record_stays"} and runs[0].status == 0
    assert first.summary["version_records_written"] == 1
    assert tables.contents() == ({("db02", "a"): migrated("a", "db02")}, {("a", "3"): record("a")})
    undone = roll_back(tables, first, *runs)
    assert undone.summary["outcomes"]["asset_deleted"] == 1
    assert tables.contents() == ({("db02", "a"): asset("a", "db02")}, {})


def test_a_record_that_a_rollback_removes_is_made_again(tables, before_first, unseen):
    tables.put(asset("a"), asset("a", "db02"))
    (first,) = in_turn(tables, "db01")
    before_first('UPDATE "%s"' % tables.assets, lambda: roll_back(tables, first))
    (second,) = in_turn(tables, "db02")
    assert second.status == 0 and tables.asset("db01", "a") == asset("a")
    assert tables.record("a", "3") == record("a")
    assert roll_back(tables, second).status == 0
    assert tables.contents() == ({("db01", "a"): asset("a"), ("db02", "a"): asset("a", "db02")}, {})


@pytest.mark.parametrize("twins, word", [((), "DELETE FROM"), ((ARCHIVE,), "UPDATE")])
def test_a_record_is_put_back_also_where_the_answer_to_its_removal_was_lost(
    tables, monkeypatch, before_first, unseen, twins, word
):
    mine = version(Comment="Mine")
    tables.put(asset("a", currentVersion=mine), asset("a", "db02"))
    tables.put(*(asset("a", name, assetName="Old") for name in twins))
    in_turn(tables, *twins)

    def vanish():
        delete(tables, "db01")
        another_relies_on_it = functools.partial(tables.put, migrated("a", "db02"))
        lose_answer(monkeypatch, '%s "%s"' % (word, tables.versions), True, another_relies_on_it)

    before_first('UPDATE "%s"' % tables.assets, vanish)
    (done,) = in_turn(tables, "db01")
    assert done.codes == {"vanished", "record_stays"}
    assert tables.record("a", "3") == record("a", comment="Mine")


def test_a_record_is_put_back_that_a_run_relied_on_while_a_rollback_removed_it(tables, before_first, unseen):
    tables.put(asset("a"), asset("a", "db02"))
    runs = in_turn(tables, "db01")
    before_first('DELETE FROM "%s"' % tables.versions, lambda: runs.extend(in_turn(tables, "db02")))
    undone = roll_back(tables, runs[0])
    assert tables.asset("db02", "a") == migrated("a", "db02") and tables.record("a", "3") == record("a")
    assert undone.status == 0 and [row["code"] for row in undone.rows] == ["record_stays"]
    assert roll_back(tables, *runs).status == 0
    assert tables.contents() == ({("db01", "a"): asset("a"), ("db02", "a"): asset("a", "db02")}, {})


@pytest.mark.parametrize("twins, word", [((), "DELETE FROM"), ((ARCHIVE,), "UPDATE")])
def test_a_record_is_put_back_that_its_own_asset_came_to_need_again(tables, before_first, unseen, twins, word):
    """A run migrates the asset anew after its restoration and before its record is removed, or the twin's put back."""
    names = [*twins, "db01"]
    tables.put(*(asset("a", name, currentVersion=version(Comment=name)) for name in names))
    before, runs = tables.contents(), in_turn(tables, *names)
    after = tables.contents()
    before_first('%s "%s"' % (word, tables.versions), lambda: runs.extend(in_turn(tables, "db01")))
    undone = roll_back(tables, runs[-1])
    assert tables.contents() == after
    assert undone.status == 0 and [row["code"] for row in undone.rows] == ["record_stays"]
    assert roll_back(tables, *runs).status == 0
    assert tables.contents() == before


def test_a_record_that_another_run_relies_on_is_not_brought_up_to_date(tables, before_first, unseen):
    """The first run's asset is edited; meanwhile another has migrated, or will, its own on what is there."""
    tables.put(asset("a"), asset("a", "db02"))
    edited = asset("a", currentVersion=version(Comment="Edited"))
    before_first('UPDATE "%s"' % tables.assets, lambda: tables.put(edited))
    before_first('UPDATE "%s"' % tables.versions, lambda: in_turn(tables, "db02"))
    (first,) = in_turn(tables, "db01")
    in_turn(tables, "db02")
    assert (first.status, first.codes) == (1, {"version_conflict"})
    assert tables.asset("db01", "a") == edited
    assert tables.asset("db02", "a") == migrated("a", "db02") and tables.record("a", "3") == record("a")


def migrate_in_order(tables, monkeypatch, keys, actions):
    """One run in which each asset, the only one under its databaseId, is read when the one before is migrated.
    actions: what is to happen before, by databaseId."""
    before, read_page = dict(zip([name for name, _ in keys[1:]], keys)), migration.Database.read_page

    def read_in_order(database, table, request, *prepare):
        name = request.get("ExpressionAttributeValues", {}).get(":value", {}).get("S")
        if name in before and "ProjectionExpression" not in request:
            deadline = time.monotonic() + 30
            while "currentVersionId" not in (tables.asset(*before[name]) or {}) and time.monotonic() < deadline:
                time.sleep(0.01)
            actions.get(name, lambda: None)()
        return read_page(database, table, request, *prepare)

    monkeypatch.setattr(migration.Database, "read_page", read_in_order)
    monkeypatch.setattr(migration, "READERS", len(keys))
    return tables.migrate(*[flag for name, _ in keys for flag in ("--database-id", name)])


def test_an_asset_made_since_the_owners_were_read_is_known_once_it_relies_on_a_record(tables, monkeypatch):
    """The archived asset's record is not replaced for the live one: a third needs it, which was made in mid-run."""
    mine = version(Comment="Mine")
    tables.put(asset("a", ARCHIVE), asset("a", currentVersion=mine))
    tables.put(asset("b", "db05" + DELETED), asset("b", "db05", currentVersion=mine))
    third = "db02" + DELETED
    in_order = [("db05" + DELETED, "b"), ("db05", "b"), (ARCHIVE, "a"), (third, "a"), ("db01", "a")]
    # By then the keys of all assets were read for b's sake.
    done = migrate_in_order(tables, monkeypatch, in_order, {third: lambda: tables.put(asset("a", third))})
    assert done.codes == {"archived_twin", "version_conflict"}
    assert tables.record("a", "3") == record("a", isCurrentVersion=FALSE)


def test_an_asset_made_since_the_owners_were_read_is_known_once_it_has_made_a_record(tables, monkeypatch):
    """The record is that of the third asset, which was made in mid-run, and not of the archived one that keeps it."""
    mine = version(Comment="Mine")
    tables.put(asset("a", ARCHIVE), asset("a", currentVersion=mine))
    tables.put(asset("b", "db05" + DELETED), asset("b", "db05", currentVersion=mine))
    in_order = [("db05" + DELETED, "b"), ("db05", "b"), ("db02", "a"), (ARCHIVE, "a"), ("db01", "a")]
    done = migrate_in_order(tables, monkeypatch, in_order, {"db02": lambda: tables.put(asset("a", "db02"))})
    assert done.codes == {"archived_twin", "version_conflict"}
    assert tables.record("a", "3") == record("a")


# --- Assets without a date ----------------------------------------------------------------------


@pytest.mark.parametrize("by", ["system", "ann"])
def test_a_record_of_any_date_serves_an_asset_without_one_and_is_none_of_ours(tables, by):
    """Whoever made it: it stays when the asset is taken back, and the report says so."""
    undated = asset("a", currentVersion=version(DateModified=None, createdBy=by))
    present = record("a", createdBy=by, dateCreated="2025-06-30T00:00:00Z")
    tables.put(undated)
    tables.put_records(present)
    done = tables.migrate()
    assert (done.status, done.rows, done.summary["version_records_written"]) == (0, [], 0)
    assert claims_in(done) == [("db01", {"was": present, "now": present, "certain": True})]
    assert run(tables, verify, done).status == 0
    undone = roll_back(tables, done)
    assert undone.status == 0 and [row["code"] for row in undone.rows] == ["record_stays"]
    assert tables.contents() == ({("db01", "a"): undated}, {("a", "3"): present})


def test_a_record_of_another_date_that_came_meanwhile_is_not_taken_for_ours(tables, cut_off):
    """Nobody knows whether our own write arrived; but that of a record has the start of this run."""
    undated = asset("a", currentVersion=version(DateModified=None))
    present = record("a", dateCreated="2025-06-30T00:00:00Z")
    tables.put(undated)
    cut_off("INSERT", lambda: tables.put_records(present))
    done = tables.migrate()
    assert done.status == 0 and claims_in(done)[-1][1]["was"] == present
    assert roll_back(tables, done).status == 0
    assert tables.contents() == ({("db01", "a"): undated}, {("a", "3"): present})


def test_a_record_of_any_date_that_an_asset_without_one_relied_on_stays_when_that_vanishes(tables, before_first):
    present = record("a", dateCreated="2025-06-30T00:00:00Z")
    tables.put(asset("a", currentVersion=version(DateModified=None)))
    tables.put_records(present)
    before_first('UPDATE "%s"' % tables.assets, lambda: delete(tables, "db01"))
    assert tables.migrate().codes == {"vanished"}
    assert tables.contents() == ({}, {("a", "3"): present})


def test_a_live_one_may_replace_the_record_of_an_archived_one_without_a_date_but_not_a_users(tables):
    """A killed run has made the archived one's, of whatever date; a user's is of other content."""
    undated = asset("a", ARCHIVE, currentVersion=version(DateModified=None))
    tables.put(asset("a", currentVersion=version(Comment="Mine")), undated)
    tables.put_records(record("a", dateCreated="2025-06-30T00:00:00Z", isCurrentVersion=FALSE, createdBy="ann"))
    (done,) = in_turn(tables, "db01")
    assert done.codes == {"version_conflict"}
    tables.put_records(record("a", dateCreated="2025-06-30T00:00:00Z", isCurrentVersion=FALSE))
    (done,) = in_turn(tables, "db01")
    assert done.codes == {"archived_twin"} and tables.record("a", "3") == record("a", comment="Mine")


OLD = version(Version="2")
BY_USER = {"assetVersionId": "3", "createdBy": "ann", "comment": "by ann"}


def history_of_a_third(tables):
    """Three runs and a rollback; then a user goes on from the version that an archived asset and one of another
    database share. Returns the runs: on the archived, on its live one, which was taken back, and on the third."""
    tables.put(asset("a", ARCHIVE, currentVersion=OLD))
    archived = tables.migrate()
    tables.put(asset("a"))
    live = tables.migrate("--database-id", "db01")
    assert tables.record("a", "2")["isCurrentVersion"] == FALSE
    assert roll_back(tables, live).status == 0 and tables.record("a", "2")["isCurrentVersion"] != FALSE
    tables.put(asset("a", "db02", currentVersion=OLD))
    third = tables.migrate("--database-id", "db02")
    tables.put_records({**tables.record("a", "2"), "isCurrentVersion": FALSE}, record("a", **BY_USER))
    tables.put(changed(tables.asset("db02", "a"), {"currentVersionId": "3"}))
    return archived, live, third


@pytest.mark.parametrize("given", [(0, 1), (0, 1, 2), (1,), (0,), (2, 0)])
@pytest.mark.parametrize("first", [None, 2])
@pytest.mark.parametrize("gone", [False, True])
def test_what_became_the_history_of_a_third_asset_stays_as_it_is(tables, given, first, gone):
    """Whichever journals are given, and whichever run began first, also where the archived asset is gone."""
    runs = history_of_a_third(tables)
    if first is not None:
        text = runs[first].journal.read_text()
        runs[first].journal.write_text(text.replace('"started":"20', '"started":"2000-01-01T00:00:00Z","was":"20', 1))
    if gone:
        delete(tables, ARCHIVE)
    before = tables.contents()
    roll_back(tables, *(runs[number] for number in given))
    assert tables.contents()[1] == before[1]
    assert tables.asset("db02", "a") == before[0]["db02", "a"]


def test_a_record_that_the_application_made_not_current_for_another_one_is_told_each_time(tables):
    tables.put(asset("a", "db01"), asset("a", "db02", currentVersion=version(Version="4")))
    run_of_both = tables.migrate()
    tables.put_records(
        {**tables.record("a", "3"), "isCurrentVersion": FALSE}, record("a", assetVersionId="5", createdBy="ann")
    )
    tables.put_records({**tables.record("a", "4"), "isCurrentVersion": FALSE})
    tables.put(changed(tables.asset("db02", "a"), {"currentVersionId": "5"}))
    for codes in ({"changed_since", "version_record_changed"}, {"changed_since", "record_stays"}):
        undone = roll_back(tables, run_of_both)
        assert (undone.status, {row["code"] for row in undone.rows}) == (1, codes)
    assert tables.record("a", "3") and tables.asset("db01", "a") == asset("a")


def test_nothing_is_put_back_for_an_archived_asset_that_was_archived_over(tables):
    tables.put(asset("a", ARCHIVE, currentVersion=OLD, assetName="older"))
    runs = [tables.migrate()]
    tables.put(asset("a"))
    runs.append(tables.migrate())
    archive(tables)
    before = tables.contents()
    roll_back(tables, *runs)
    assert tables.contents() == before


def test_what_is_put_back_and_nobody_needs_is_reported(tables):
    """The archived asset's journal came first, the live one's after it."""
    tables.put(asset("a", ARCHIVE, currentVersion=OLD))
    archived = tables.migrate()
    tables.put(asset("a"))
    live = tables.migrate("--database-id", "db01")
    assert roll_back(tables, archived).status == 1
    undone = roll_back(tables, live)
    assert [(row["code"], row["message"]) for row in undone.rows] == [
        ("record_stays", "The version record 2 stays: it is as it was before that run, and no asset needs it.")
    ]
    assert roll_back(tables, archived, live).rows == [] and tables.contents()[1] == {}


@pytest.mark.parametrize("order", [(ARCHIVE, "db01"), ("db01", ARCHIVE)])
@pytest.mark.parametrize("given", [(0,), (1,), (0, 1), (1, 0)])
def test_the_history_of_a_live_asset_stays_whichever_journals_are_given(tables, order, given):
    """A user has gone on from it, which leaves its record as the archived one's was."""
    tables.put(asset("a"), asset("a", ARCHIVE))
    runs = in_turn(tables, *order)
    tables.put_records({**tables.record("a", "3"), "isCurrentVersion": FALSE})
    tables.put_records(record("a", assetVersionId="4", createdBy="ann"))
    tables.put(changed(tables.asset("db01", "a"), {"currentVersionId": "4"}))
    before = tables.contents()
    for number in given:
        roll_back(tables, runs[number])
        assert tables.contents()[1] == before[1]
    roll_back(tables, *runs)
    assert tables.contents()[1] == before[1] and tables.asset("db01", "a") == before[0]["db01", "a"]
