"""The operator's own test creates, migrates, verifies and removes its assets, and no others."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import LOCAL, on_a_terminal, patch_execute
from v22 import asset, migrated, partiql, record

from load_migration import HERE, load_script, migration
from sample_assets import sample_assets, sample_shapes

script = load_script("v2.2_to_v2.3_migration_test.py")
SCRIPT = os.path.join(HERE, "v2.2_to_v2.3_migration_test.py")
OWN = "vams-migration-test-"
SHAPES = 49  # that the sample assets of one database come in


@pytest.fixture
def used_tables(tables, any_pace):
    """Tables in use: unmigrated, migrated and archived assets of others, with version records."""
    tables.load(item for name, item in sample_shapes())
    tables.put(asset("a"), migrated("b"), asset("c", "db01#deleted"))
    tables.put_records(record("b"), record("b", assetVersionId="2"))
    return tables


def is_own(item):
    return item.get("databaseId", item["assetId"])["S"].startswith(OWN)


def own_items(tables):
    """What of a test is in the tables: assets, version records."""
    return [[item for item in items.values() if is_own(item)] for items in tables.contents()]


def run(tables, *flags):
    return script.main(tables.flags + list(flags))


# --- Test assets ----------------------------------------------------------------------


def test_its_assets_are_the_sample_assets_under_keys_of_the_run():
    samples = list(sample_assets(SHAPES + 31, databases=1))
    made = script.make_assets(31, "own")
    assert len({(item["databaseId"]["S"], item["assetId"]["S"]) for item in made}) == len(made) == SHAPES + 31
    assert {item["databaseId"]["S"] for item in made} == {"own", "own#deleted"}
    for sample, item in zip(samples, made):
        old_id, new_id = sample["assetId"]["S"], item["assetId"]["S"]
        assert re.match(r"own-[0-9]+\Z", new_id)
        assert old_id not in json.dumps(item)
        assert migration.is_archived(item) == migration.is_archived(sample)
        old_codes, codes = [
            [finding.code for finding in migration.plan_asset(one, "bucket", "now").findings] for one in (sample, item)
        ]
        assert codes == old_codes
    assert len({item["assetId"]["S"] for item in made}) == len({item["assetId"]["S"] for item in samples}) < len(made)


def test_one_of_each_shape_is_among_them():
    """Of a live asset in another database there is none: that would be a databaseId more."""
    names = [name for name, _ in sample_shapes() if name != "two_databases_twin"]
    assert len(names) == SHAPES == len(script.make_assets(0, "own"))


def test_each_run_has_a_database_id_of_its_own():
    names = {script.new_database_id() for _ in range(100)}
    assert len(names) == 100
    assert all(script.OWN_DATABASE_ID.match(name) for name in names)


# --- Passed ---------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--num-assets", "90"]])
def test_it_passes_and_leaves_the_tables_as_they_were(used_tables, capsys, flags):
    before = used_tables.contents()
    assert run(used_tables, *flags) == 0
    assert used_tables.contents() == before
    count = SHAPES + (int(flags[1]) if flags else 5)
    output = capsys.readouterr().out
    assert "; %d test assets were migrated, verified, rolled back and migrated again." % count in output
    assert "in no journal here" not in output  # it says nothing of those that were migrated before
    for name, counted in (
        ("migration", lambda summary: summary["outcomes"]["migrated"]),
        ("verification", lambda summary: summary["assets"]),
    ):
        paths = list(used_tables.folder.glob("reports/*/%s_*_summary.json" % name))
        assert [counted(json.loads(path.read_text())) for path in paths] == [count, count]
    (summary,) = used_tables.folder.glob("reports/*/rollback_*_summary.json")
    assert json.loads(summary.read_text())["outcomes"]["restored"] == count


def test_it_reads_nothing_of_others_but_keys(used_tables, monkeypatch):
    read_page, get_items, partitions, keys = migration.Database.read_page, migration.Database.get_items, [], []

    def watched_read_page(database, table, request, *prepare):
        if "ExpressionAttributeValues" in request:
            partitions.extend(value["S"] for value in request["ExpressionAttributeValues"].values())
        else:  # a migration reads the keys of all assets where a third one may need a version record
            assert request["ProjectionExpression"] in ("databaseId, assetId, currentVersionId", "databaseId, assetId")
        return read_page(database, table, request, *prepare)

    def watched_get_items(database, wanted, keys_only):
        keys.extend(wanted)
        return get_items(database, wanted, keys_only)

    monkeypatch.setattr(migration.Database, "read_page", watched_read_page)
    monkeypatch.setattr(migration.Database, "get_items", watched_get_items)
    assert run(used_tables, "--num-assets", "60") == 0
    assert partitions and all(name.startswith(OWN) for name in partitions)
    assert keys and all(key[1].startswith(OWN) for key in keys)


def test_choices_of_a_configuration_do_not_apply(used_tables):
    before = used_tables.contents()
    config = used_tables.folder / "config.json"
    config.write_text(json.dumps({"dry_run": True, "limit": 1, "database_id": ["db01"], "journal_dir": "saved"}))
    assert run(used_tables, "--config", str(config)) == 0
    assert used_tables.contents() == before
    journals = [str(path) for path in used_tables.folder.glob("saved/%s*/*.jsonl" % OWN)]
    assert script.rollback.survey(script.rollback.open_journals(journals, LOCAL, script.rollback.Skipped()))[0] == [
        SHAPES + 5,
        SHAPES + 5,
    ]


def test_no_cleanup_leaves_the_assets_and_cleanup_removes_them(used_tables, capsys):
    before = used_tables.contents()
    assert run(used_tables, "--no-cleanup", "--num-assets", "60") == 0
    assets, records = own_items(used_tables)
    assert len(assets) == SHAPES + 60
    assert SHAPES + 50 < len(records) <= SHAPES + 60
    assert all(migration.plan_asset(item, "", "").outcome == "already_migrated" for item in assets)
    (database_id,) = set(re.findall(r"--cleanup (%s[0-9a-f]+)" % OWN, capsys.readouterr().out))
    assert run(used_tables, "--cleanup", database_id) == 0
    assert used_tables.contents() == before
    removed = "Removed: %d assets, %d version records.\n" % (len(assets), len(records))
    assert capsys.readouterr().out.endswith(removed)
    assert run(used_tables, "--cleanup", database_id) == 0
    assert capsys.readouterr().out.endswith("There was nothing to remove.\n")


def test_cleanup_keeps_what_a_test_did_not_create(tables):
    database_id = script.new_database_id()
    tables.put(asset("foreign", database_id), asset(database_id + "-1", database_id))
    tables.put_records(record("foreign"), record(database_id + "-1"))
    assert run(tables, "--cleanup", database_id) == 0
    assert tables.contents() == (
        {(database_id, "foreign"): asset("foreign", database_id)},
        {("foreign", "3"): record("foreign")},
    )


# --- Failed ---------------------------------------------------------------------------


def test_a_migration_that_keeps_a_field_fails_the_test(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    update_statement = migration.update_statement

    def keeping(table, key, values, removed, expected):
        return update_statement(table, key, values, removed[1:] or removed, expected)

    monkeypatch.setattr(migration, "update_statement", keeping)
    assert run(used_tables) == 1
    assert "FAILED" in capsys.readouterr().err
    assert used_tables.contents() == before


def test_a_migration_that_misses_assets_fails_the_test(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    monkeypatch.setattr(migration, "run_migration", lambda database, settings, site: 0)
    assert run(used_tables) == 1
    assert "Not all of the %d test assets were migrated." % (SHAPES + 5) in capsys.readouterr().out
    assert used_tables.contents() == before


def test_a_failed_migration_fails_the_test_even_if_verified(used_tables, monkeypatch):
    run_migration = migration.run_migration
    monkeypatch.setattr(migration, "run_migration", lambda *arguments: run_migration(*arguments) or 1)
    assert run(used_tables) == 1


def test_a_step_that_cannot_begin_fails_the_test_for_others_have_written(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    create = script.Proof.create

    def and_take_the_folder(proof):
        status = create(proof)
        Path(proof.settings.report_dir).parent.write_text("no folder any more")
        return status

    monkeypatch.setattr(script.Proof, "create", and_take_the_folder)
    assert run(used_tables) == 1
    said = capsys.readouterr()
    assert "\nRemoved: " in said.out and "cannot be used" in said.err
    assert used_tables.contents() == before


def test_a_rollback_that_leaves_something_fails_the_test(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    restoration = script.rollback.restoration

    def forgetting(image, now):
        change = restoration(image, now)
        return change._replace(values={**change.values, "isMultiFile": {"S": "forgotten"}})

    monkeypatch.setattr(script.rollback, "restoration", forgetting)
    assert run(used_tables) == 1
    output = capsys.readouterr()
    assert "Not as before the migration: %s" % OWN in output.out and "FAILED" in output.err
    assert used_tables.contents() == before


def test_where_nothing_can_be_written_it_takes_the_folders_that_its_remedy_names(used_tables, capsys):
    before = used_tables.contents()
    for name in ("backups", "reports"):
        (used_tables.folder / name).write_text("no folder")
    assert run(used_tables) == 3
    remedy = capsys.readouterr().err
    assert "--report-dir" in remedy and "--journal-dir" in remedy
    assert run(used_tables, "--report-dir", "r", "--journal-dir", "j", "--no-cleanup") == 0
    removal = capsys.readouterr().out.split("This removes them:\n")[1].splitlines()[0]
    assert subprocess.call(shlex.split(removal), cwd=str(used_tables.folder)) == 0
    assert used_tables.contents() == before


@pytest.mark.parametrize("typed, status", [(b"n\n", 130), (b"y\n", 0)])
def test_on_a_terminal_it_asks_once_before_it_writes(used_tables, typed, status):
    before = used_tables.contents()
    command = [sys.executable, SCRIPT, *used_tables.flags]
    result, shown = on_a_terminal(command, used_tables.folder, typed)
    assert result == status
    assert shown.count("[y/N]") == 1 and shown.index("Plan:") < shown.index("[y/N]")
    assert ("Creating" in shown) == (status == 0)
    assert used_tables.contents() == before


def deny(monkeypatch, word, table):
    """DynamoDB permits no write to a table whose statement begins with `word`."""
    execute = migration.Database.execute

    def execute_or_deny(database, statements):
        if any(partiql(statement).startswith('%s "%s"' % (word, table)) for statement in statements):
            return [("AccessDenied", "not authorized")] * len(statements), None
        return execute(database, statements)

    patch_execute(monkeypatch, execute_or_deny)


@pytest.mark.parametrize("word", ["INSERT INTO", "UPDATE"])
def test_a_denied_write_fails_the_test_and_nothing_is_left(used_tables, monkeypatch, capsys, word):
    before = used_tables.contents()
    deny(monkeypatch, word, used_tables.versions if word == "INSERT INTO" else used_tables.assets)
    assert run(used_tables) == 1
    assert "AWS does not permit to write" in capsys.readouterr().err
    assert used_tables.contents() == before


def test_denied_creation_leaves_nothing(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    deny(monkeypatch, "INSERT INTO", used_tables.assets)
    assert run(used_tables) == 1
    assert used_tables.contents() == before


def test_denied_removal_says_what_is_left_and_how_to_remove_it(used_tables, monkeypatch, capsys):
    before = used_tables.contents()
    with monkeypatch.context() as patch:
        deny(patch, "DELETE FROM", used_tables.versions)
        assert run(used_tables) == 1
    output = capsys.readouterr()
    assert "AWS does not permit to write" in output.err
    (database_id,) = set(re.findall(r"are left under databaseId (\S+) and ", output.out))
    assert len(own_items(used_tables)[0]) == SHAPES + 5
    assert run(used_tables, "--cleanup", database_id) == 0
    assert used_tables.contents() == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--num-assets", "0"],
        ["--num-assets", "-1"],
        ["--num-assets", "10001"],
        ["--num-assets", "many"],
        ["--cleanup", "db01"],
        ["--cleanup", OWN],
        ["--cleanup", OWN + "0123456789abcdef#deleted"],
        ["--limit", "1"],
        ["--asset-bucket", ""],
    ],
)
def test_wrong_usage_writes_nothing(used_tables, capsys, flags):
    before = used_tables.contents()
    assert run(used_tables, *flags) == 2
    assert "Fix: " in capsys.readouterr().err
    assert used_tables.contents() == before


def test_missing_tables_stop_it_before_it_writes(used_tables, capsys):
    before = used_tables.contents()
    assert run(used_tables, "--asset-versions-table", "no-such-table") == 3
    assert "no-such-table was not found" in capsys.readouterr().err
    assert used_tables.contents() == before


# --- Interrupted ----------------------------------------------------------------------


def start(tables, *flags):
    """A run slow enough to be interrupted."""
    config = tables.folder / "config.json"
    config.write_text(json.dumps({"batch_size": 1, "workers": 1}))
    command = [sys.executable, SCRIPT, "--config", str(config), "--num-assets", "120"]
    return subprocess.Popen(
        command + tables.flags + list(flags),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )


def wait_for(tables, process, stage):
    """Until the run has created something, or migrated."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if own_items(tables)[("create", "migrate").index(stage)]:
            return
        time.sleep(0.05)
    raise AssertionError("the run did not come to: %s" % stage)


@pytest.mark.parametrize("stage", ["create", "migrate"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_still_removes_its_assets(used_tables, number, stage):
    before = used_tables.contents()
    process = start(used_tables)
    wait_for(used_tables, process, stage)
    process.send_signal(number)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "PASSED" not in output
    assert used_tables.contents() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_between_two_steps_it_still_removes_its_assets(used_tables, monkeypatch, number):
    before = used_tables.contents()
    own = []

    def interrupt(database, settings, site):
        own.extend(own_items(used_tables)[0])
        os.kill(os.getpid(), number)

    monkeypatch.setattr(migration, "run_migration", interrupt)
    assert run(used_tables) == 130
    assert len(own) == SHAPES + 5
    assert used_tables.contents() == before


@pytest.mark.parametrize("passing", [0, 1])
def test_interrupted_while_it_removes_its_assets_it_says_what_is_left(used_tables, monkeypatch, capsys, passing):
    """In the middle, after the trials; or at the end, when all is proved."""
    before, remove, calls = used_tables.contents(), script.TestData.remove, []

    def interrupt(self):
        calls.append(self)
        if len(calls) <= passing:
            return remove(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script.TestData, "remove", interrupt)
        assert run(used_tables) == 130
    (database_id,) = set(re.findall(r"--cleanup (%s[0-9a-f]+)" % OWN, capsys.readouterr().out))
    assert own_items(used_tables)[0]
    assert run(used_tables, "--cleanup", database_id) == 0
    assert used_tables.contents() == before


def test_killed_it_has_said_how_to_remove_what_is_left(used_tables):
    before = used_tables.contents()
    process = start(used_tables)
    wait_for(used_tables, process, "migrate")
    process.kill()
    output, _ = process.communicate(timeout=90)
    assert own_items(used_tables)[0]
    (database_id,) = re.findall(r"--cleanup (%s[0-9a-f]+)" % OWN, output)
    assert run(used_tables, "--cleanup", database_id) == 0
    assert used_tables.contents() == before
