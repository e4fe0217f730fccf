"""An operator's day: what a run says, its files, what is to be typed next, and what is left when it ends early."""

import csv
import errno
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time

import pytest
from conftest import BUCKET
from v22 import DELETED, M, S, asset, migrated

from benchmarks.front import Front
from load_migration import load_script, migration
from sample_assets import sample_assets

SCRIPT = migration.__file__
GUIDED = os.path.join(os.path.dirname(SCRIPT), "guided_run.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")


def only(*names):
    return [part for name in names for part in ("--database-id", name)]


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --------------------------------------------------------------------------------------
# A dry run says that it is one, and what the migration will take
# --------------------------------------------------------------------------------------


def test_nobody_takes_a_dry_runs_report_for_that_of_a_migration(tables, capfd):
    tables.put(asset("a", previewLocation=M()), asset("b", currentVersion=S("x")), migrated("c"))
    assert migration.main([*tables.flags, "--dry-run"]) == 1
    report, summary = files(tables.folder)
    assert re.match(r"dryrun_\d{8}T\d{6}Z\.csv", report) and summary == report.replace(".csv", "_summary.json")
    with open("reports/" + report, newline="", encoding="utf-8-sig") as file:
        assert {row["asset_id"]: row["outcome"] for row in csv.DictReader(file)} == {
            "a": "would_migrate",
            "b": "would_fail",
        }
    shown = capfd.readouterr()
    assert "would fail: db01 / b: " in shown.err and "failed" not in shown.err + shown.out.split("Result")[0]
    with open("reports/" + summary) as file:
        found = json.load(file)
    assert {name: count for name, count in found["outcomes"].items() if count} == {
        "would_migrate": 1,
        "would_fail": 1,
        "already_migrated": 1,
    }
    assert found["assets_to_change"] == found["version_records_to_write"] == 1
    assert "assets_changed" not in found and "version_records_written" not in found


def test_the_estimate_is_what_the_migration_takes(tables, capfd):
    tables.load(sample_assets(200, databases=3))
    dry = tables.migrate("--dry-run")
    shown = capfd.readouterr().out
    run = tables.migrate()
    estimate = dry.summary["estimate"]
    # DynamoDB Local reports no units: both are reckoned from the sizes.
    assert run.summary["write_units_estimated"]
    # The record of an archived asset's live twin was refused first.
    assert 0 <= run.summary["write_units"] - sum(estimate["write_units"].values()) <= 2
    assert set(estimate["write_units"]) == {tables.assets, tables.versions}
    by_database = {}
    for key, item in tables.contents()[0].items():
        by_database.setdefault(key[0], []).append(item)
    assert estimate["busiest_database_id"] == max(by_database, key=lambda name: len(by_database[name]))
    assert estimate["busiest_seconds"] == round(estimate["busiest_write_units"] / 1000, 1)
    header = len(run.journal.read_bytes().split(b"\n")[0])
    assert 0.9 < estimate["journal_bytes"] / (run.journal.stat().st_size - header) < 1.1
    for text in (tables.assets, "at 1,000 a second", "journal", "a million write units / 1,000,000"):
        assert text in shown.split("Estimate")[1], text
    assert "Estimate" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "description, units",
    [
        ({"BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"}}, migration.TABLE_UNITS),
        (
            {
                "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
                "WarmThroughput": {"WriteUnitsPerSecond": 12000},
                "ProvisionedThroughput": {"WriteCapacityUnits": 0},
            },
            12000,
        ),
        ({"ProvisionedThroughput": {"WriteCapacityUnits": 50}, "WarmThroughput": {"WriteUnitsPerSecond": 4000}}, 50),
    ],
)
def test_capacity_of_a_table(description, units):
    assert migration.write_capacity(description) == units


def test_memory_of_the_estimate_does_not_grow_with_the_databases():
    units = migration.UnitCounts("assets", "versions")
    for number in range(10000):
        for name in ("small-%d" % number, "large") if number % 2 else ("small-%d" % number,):
            units.add(("assets", name, "a"), 1.0)
    assert len(units.by_database) <= 2000
    assert units.by_database.most_common(1) == [("large", 5000.0)]
    assert units.by_table == {"assets": 15000.0, "versions": 0.0}


def test_one_asset_is_shown_whole_and_migrated_alone(tables, capfd):
    long = "x" * 5000
    tables.put(asset("a", description=long, stray=S("kept")), asset("b"), asset("a", "db02"))
    flags = [*only("db01"), "--asset-id", "a"]
    dry = tables.migrate("--dry-run", *flags)
    shown = capfd.readouterr().out.split("The first changes, and what would fail:")[1].split("Result")[0]
    assert dry.summary["scanned"] == 1 and "db01 / a" in shown and "db02" not in shown
    for name, value in tables.asset("db01", "a").items():
        assert "%s: %s\n" % (name, migration.to_json(value)) in shown, name
    assert '    stray: {"S":"kept"}\n' in shown and '  + currentVersionId: {"S":"3"}\n' in shown
    assert '  + version record, description: {"S":"' in shown
    run = tables.migrate(*flags)
    assert run.summary["scanned"] == run.summary["outcomes"]["migrated"] == 1
    assert tables.asset("db02", "a") == asset("a", "db02") and tables.asset("db01", "b") == asset("b")
    assert "currentVersionId" in tables.asset("db01", "a")


@pytest.mark.parametrize(
    "flags, status, names",
    [
        ([*only("db01"), "--asset-id", "b"], 1, ["asset db01 / b"]),
        ([*only("db01#deleted"), "--asset-id", "a"], 1, ["asset db01#deleted / a"]),
        ([*only(" db01"), "--asset-id", "a\n"], 1, ['asset " db01" / "a\\u000a"']),
        (only("db"), 1, ["databaseId db"]),
        (only("db01 ", "db01"), 1, ['databaseId "db01 "']),
        (only("db", "db01", "db2"), 1, ["databaseId db", "databaseId db2"]),
        (only("db01", "db01#deleted"), 0, []),  # nothing was archived
        ([*only("db01", "db02"), "--limit", "1"], 0, []),
        (["--limit", "0"], 0, []),
        ([*only("db"), "--limit", "0"], 0, []),
        ([*only("db01"), "--asset-id", "b", "--limit", "0"], 0, []),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_what_was_named_and_does_not_exist_is_said(tables, capfd, flags, status, names, dry):
    tables.put(asset("a"), asset("a", "db02"))
    assert migration.main([*tables.flags, *flags, *dry]) == status
    said = capfd.readouterr().out
    assert re.findall(r"No asset was found: (.*)\. Is it spelled right\?\n", said) == names
    of_asset = "--asset-id" in flags
    assert ("The application's list of databases shows the databaseIds." in said) is (bool(names) and not of_asset)
    twins = re.findall(
        "An assetId is a key, not the asset's name. If the asset is (.*), its databaseId is (.*)\\.\n", said
    )
    archived = [("archived", migration.one_name(flags[1] + "#deleted")), ("live", flags[1][: -len("#deleted")])]
    assert twins == [archived[flags[1].endswith("#deleted")]] * (len(names) if of_asset else 0)
    (summary,) = (tables.folder / "reports").glob("*_summary.json")
    summary = json.loads(summary.read_text())
    assert (summary["exit_status"], summary["not_found"]) == (status, names)
    next_line = said.split("\nNext: ")[1]
    if names:
        assert next_line == "give the right names and run it again.\n"
    elif "0" in flags:
        assert next_line == "the preflight has ended well; give a limit above 0, or none.\n"
    else:
        assert SCRIPT.replace(".py", "" if dry else "_verify") in next_line


# --------------------------------------------------------------------------------------
# The result, and the next command
# --------------------------------------------------------------------------------------


def test_failed_and_warned_are_apart_and_each_code_has_its_meaning(tables, capfd):
    tables.put(asset("a", previewLocation=M()), asset("b", currentVersion=S("x")), asset("c"))
    tables.migrate()
    result = capfd.readouterr().out.split("Result:")[1]
    failures, warnings = result.split("Failures:")[1].split("Warnings:")
    assert "1  invalid_current_version: " + migration.FAILURES["invalid_current_version"] in failures
    assert "1  preview_location_removed: " + migration.WARNINGS["preview_location_removed"] in warnings
    assert "2  migrated\n               db01 / " in result and "1  failed, untouched" in result


def test_few_migrated_assets_are_named_and_many_are_not(tables, capfd):
    tables.put(*(asset("a%02d" % n) for n in range(25)))
    tables.migrate("--limit", "10")
    assert capfd.readouterr().out.split("Result:")[1].count("db01 / a") == 10
    tables.migrate()
    assert "db01 / a" not in capfd.readouterr().out.split("Result:")[1]


def test_archived_assets_are_called_so(tables, capfd):
    """Of ten assets in table order all may be; and a record that is not current says why."""
    archived = [asset("a%d" % number, "my db" + DELETED) for number in range(2)]
    tables.put(*archived, asset("a0", "my db"))
    only_archived = "               Archived assets only; --database-id 'my db' looks at live ones, if it has any.\n"
    assert tables.migrate("--dry-run", "--database-id", "my db" + DELETED).status == 0
    shown = capfd.readouterr().out
    assert only_archived in shown.split("Result of the dry run:")[1]
    why = "  (archived, and the live asset of its assetId has the current one)\n"
    assert 'isCurrentVersion: {"BOOL":false}%s' % why in shown and 'isCurrentVersion: {"BOOL":true}\n' in shown
    assert tables.migrate().status == 0
    assert "Archived assets only" not in capfd.readouterr().out


def typed(command, folder):
    """Type a command into a shell."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.decode()


def test_the_last_line_is_the_next_command_from_the_dry_run_to_the_verification(tables):
    tables.load(sample_assets(40, databases=1))
    folder = tables.folder / "a folder, with 'quotes'"
    folder.mkdir()
    command, shown = " ".join(map(shlex.quote, [sys.executable, SCRIPT, *tables.flags, "--dry-run"])), []
    for _ in range(3):
        status, output = typed(command, folder)
        assert status == 0, command + "\n" + output
        command = output.splitlines()[-1]
        shown.append(command.split(" ", 1)[1].replace(os.path.dirname(SCRIPT) + os.sep, ""))
        if "verify.py" in command:
            break
    flags = " ".join(tables.flags)
    assert shown[0] == "v2.2_to_v2.3_migration.py %s --limit 10" % flags
    assert shown[1] == "v2.2_to_v2.3_migration_verify.py %s --limit 10 --journal backups --html" % flags
    status, output = typed(command, folder)
    assert status == 0 and "VERIFIED" in output, output


def test_the_next_commands_keep_the_folders_that_were_named(tables, capfd):
    """From the dry run to the way back."""
    tables.put(*(asset("a%02d" % number) for number in range(20)))
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    main = {os.path.basename(script.__file__): script.main for script in (migration, verify, rollback)}

    def follow(command, times, *further):
        for _ in range(times):
            assert main[os.path.basename(command[0])](command[1:] + list(further)) == 0
            command = shlex.split(capfd.readouterr().out.splitlines()[-1])[1:]
        return command

    folders = ["--journal-dir", "kept/journals", "--report-dir", "kept/reports"]
    few = follow([SCRIPT, *tables.flags, *folders, "--dry-run"], 1)
    proof = follow(few, 3)  # of those, then the migration of all
    assert few[-2:] == ["--limit", "10"] and "--limit" not in proof and "--html" in proof
    follow(proof, 1)
    back = [rollback.__file__, *tables.flags, "--journal", "kept/journals", "--report-dir", "kept/reports"]
    restored = follow(follow([*back, "--dry-run"], 1), 1, "--yes")
    assert restored[-2:] == ["--restored", "--html"]
    follow(restored, 1)
    assert os.listdir(".") == ["kept"]


def test_who_has_typed_the_wrapper_is_shown_the_wrapper(tables, monkeypatch):
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
    tables.load(sample_assets(40, databases=1))
    names = dict(zip(("assets_table_name", "asset_versions_table_name"), (tables.assets, tables.versions)))
    config = {**names, "asset_bucket_name": BUCKET, "endpoint_url": tables.engine.endpoint_url, "dry_run": True}
    (tables.folder / "my config.json").write_text(json.dumps(config))
    wrapper = os.path.join(os.path.dirname(SCRIPT), "run_migration.sh")
    command, shown = wrapper + " 'my config.json' --workers 2", []
    while wrapper in command:
        status, output = typed(command, tables.folder)
        assert status == 0, command + "\n" + output
        command = output.splitlines()[-1]
        shown.append(command.replace(wrapper, "W"))
    again = "W 'my config.json' --workers 2 --no-dry-run"
    assert shown[:2] == ["W 'my config.json' --workers 2 --no-dry-run --limit 10", again]
    assert len(shown) == 3 and shown[2].startswith("Next: do what the rows to_do of the report say; then look")


@pytest.mark.parametrize(
    "outcomes, status, values, typed_flags, step, words",
    [
        ({"would_migrate": 50}, 0, {"dry_run": True}, {"config": "c.json"}, "begin small",
         "M --config c.json --no-dry-run --limit 10"),
        ({"would_migrate": 5}, 0, {"dry_run": True}, {"dry_run": True, "asset_id": "-x", "database_id": ["a b"]},
         "migrate", "M --asset-id=-x --database-id 'a b'"),
        ({"would_migrate": 5, "would_fail": 1}, 1, {"dry_run": True}, {"dry_run": True}, "migrate", "M"),
        ({"already_migrated": 5, "would_fail": 1}, 1, {"dry_run": True}, {"dry_run": True},
         "mend what would fail, then run it again", "M --dry-run"),
        ({"already_migrated": 5}, 0, {"dry_run": True}, {"config": "c.json", "dry_run": True}, "verify",
         "V --config c.json --journal backups --html"),
        ({"would_migrate": 9}, 130, {"dry_run": True}, {"dry_run": True}, "finish what is left", "M --dry-run"),
        ({"migrated": 9}, 130, {}, {"limit": 9, "yes": True}, "finish what is left", "M --limit 9 --yes"),
        ({"migrated": 9, "failed": 1}, 1, {}, {"config": "c.json", "log_file": "my.log"},
         "mend what failed, then run it again", "M --config c.json --log-file my.log"),
        ({"migrated": 9, "failed": 1}, 1, {"limit": 10}, {"config": "c.json", "limit": 10},
         "verify; what failed may wait", "V --config c.json --limit 10 --journal backups --html"),
        ({"already_migrated": 9, "failed": 1}, 1, {"limit": 10}, {"config": "c.json", "limit": 10},
         "verify; what failed may wait", "V --config c.json --limit 10 --journal backups --html"),
        ({"failed": 1}, 1, {"limit": 1}, {"limit": 1}, "mend what failed, then run it again", "M --limit 1"),
        ({"migrated": 9}, 0, {}, {"config": "c.json", "workers": 3, "log_file": "logs/migration_20261122T204426Z.log"},
         "verify", "V --config c.json --journal backups --html"),
        ({"already_migrated": 9}, 0, {}, {"config": "c.json"},
         "9 assets were in the new form before, by no journal in backups: look for it, unless users made them; then"
         " verify", "V --config c.json --html"),
        ({"already_migrated": 9}, 0, {}, {"config": "d.json"}, "verify", "V --config d.json --journal backups --html"),
    ],
)  # fmt: skip
def test_the_next_step(monkeypatch, outcomes, status, values, typed_flags, step, words):
    monkeypatch.setattr(migration, "python_name", lambda: "python")
    monkeypatch.chdir(os.path.dirname(SCRIPT))
    names = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
    flags = {name: value for name, value in typed_flags.items() if name not in ("config",)}
    settings = migration.resolve_settings(migration.CONFIG, {}, {**names, **flags, **values})
    summary = {
        "outcomes": {"migrated": 0, "would_migrate": 0, "failed": 0, **outcomes},
        "exit_status": status,
        "scanned": sum(outcomes.values()),
        "not_found": [],
        "account": None,
        "region": "us-east-1",
        "files": {},
    }
    journals = [(migration.JournalFile("j.jsonl"), {})] if "--journal" in words else []
    monkeypatch.setattr(migration, "journals_of", lambda storage, folder, facts: iter(journals))
    scripts = {"M": "v2.2_to_v2.3_migration.py", "V": "v2.2_to_v2.3_migration_verify.py"}
    expected = "python " + scripts[words[0]] + words[1:]
    found, *command = migration.next_step(summary, settings, None, typed_flags)
    assert (found, migration.command_text(*command)) == (step, expected)


def test_a_run_that_wrote_nothing_is_verified_by_the_journals_of_those_before_it(tables, capfd):
    tables.put(asset("a"))
    for journal in (False, True, True):
        flags = [] if journal else ["--dry-run"]
        assert migration.main([*tables.flags, *flags]) == 0
        assert capfd.readouterr().out.endswith(" --journal backups --html\n") is journal


def test_the_next_command_writes_its_report_where_this_one_did(tables, capfd):
    """Nothing can be written where `reports` would be."""
    tables.put(asset("a"))
    (tables.folder / "reports").write_text("no folder")
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    for script, flags in ((migration, []), (rollback, ["--journal", "backups"])):
        assert script.main([*tables.flags, "--report-dir", "elsewhere", "--yes", *flags]) == 0
        command = capfd.readouterr().out.splitlines()[-1]
        assert "_verify.py" in command and subprocess.call(shlex.split(command)) == 0


def test_the_next_command_of_scripts_that_are_called_by_symbolic_links(tables):
    """Alone in a folder, under other names; each next one is typed where the first was."""
    tables.put(asset("a"))
    for name, script in (("mig.py", ""), ("back.py", "_rollback")):
        os.symlink(SCRIPT.replace(".py", script + ".py"), str(tables.folder / name))
    begun = {"": ["mig.py", "--dry-run"], "_rollback": ["back.py", "--journal", "backups", "--dry-run"]}
    for script, words in begun.items():
        typed = [sys.executable, *words, *tables.flags]
        for following in (script, "_verify"):
            done = subprocess.run(typed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            typed = shlex.split(str(done.stdout, "utf-8").splitlines()[-1])
            assert os.path.samefile(typed[1], SCRIPT.replace(".py", following + ".py"))
            typed += ["--yes"] * (following == "_rollback")
        assert subprocess.call(typed, stdout=subprocess.DEVNULL) == 0


@pytest.mark.parametrize("said", [[], ["--dry-run"]])
def test_the_next_command_overrules_a_configuration_that_says_dry_run(tables, capfd, said):
    tables.load(asset("a%d" % number) for number in range(11))
    config = tables.folder / "my.json"
    config.write_text('{"dry_run": true}')
    flags = [*tables.flags, "--config", str(config)]
    assert migration.main([*flags, *said]) == 0
    shown = capfd.readouterr().out
    assert "DRY RUN (dry_run in %s), nothing is written\n" % config in shown
    assert shown.endswith(" --no-dry-run --limit 10\n")
    assert migration.main([*flags, "--no-dry-run"]) == 0
    (journal,) = (tables.folder / "backups").iterdir()
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    assert rollback.main([*flags, "--journal", str(journal), *said]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert "rollback.py" in last and last.endswith(" --no-dry-run")


def test_all_files_of_a_wrappers_run_share_the_time_of_its_log(tables, capfd):
    tables.put(asset("a"))
    log = "logs/migration_20261122T204426Z_2.log"
    for flags in (["--dry-run"], [], []):
        assert migration.main([*tables.flags, "--log-file", log, *flags]) == 0
    stem = "migration_20261122T204426Z_2"
    assert files(tables.folder) == sorted(
        ["dryrun_20261122T204426Z_2.csv", "dryrun_20261122T204426Z_2_summary.json", stem + ".log", stem + ".jsonl",
         stem + ".csv", stem + "_summary.json", stem + "_2.csv", stem + "_2_summary.json"]
    )  # fmt: skip
    assert capfd.readouterr().out.count("log       " + log) == 3


# --------------------------------------------------------------------------------------
# Ended early
# --------------------------------------------------------------------------------------


def slow_run(tables, *flags, wrapped=False, **options):
    """The migration, or the wrapper, which logs and verifies too."""
    script = [GUIDED, "migrate"] if wrapped else [SCRIPT]
    flags = ["--max-write-units", "20", "--batch-size", "5", *flags]
    return subprocess.Popen([sys.executable, *script, *tables.flags, *flags], cwd=str(tables.folder), **options)


def wait_until_some_are_done(tables, process):
    deadline = time.monotonic() + 60
    while tables.client.scan(TableName=tables.versions, Select="COUNT")["Count"] < 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def migrated_ids(tables):
    return {key[1] for key, item in tables.contents()[0].items() if "currentVersionId" in item}


def reported_ids(tables):
    (report,) = (tables.folder / "reports").glob("migration_*.csv")
    with open(str(report), newline="", encoding="utf-8-sig") as file:
        return {row["asset_id"] for row in csv.DictReader(file) if row["outcome"] == "migrated"}


def load_with_findings(tables):
    """300 assets, each with a warning."""
    tables.load(asset("a%03d" % n, previewLocation=M()) for n in range(300))


def summary_of(tables):
    (summary,) = (tables.folder / "reports").glob("migration_*_summary.json")
    return json.loads(summary.read_text())


def test_a_hangup_ends_a_run_in_good_order_and_no_finding_is_lost(tables):
    load_with_findings(tables)
    process = slow_run(tables, "--log-file", "run.log", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    wait_until_some_are_done(tables, process)
    process.send_signal(signal.SIGHUP)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    done = migrated_ids(tables)
    assert 20 <= len(done) < 300 and reported_ids(tables) == done
    assert summary_of(tables)["exit_status"] == 130
    stopped = "stopped: %d of about 300 done" % len(done)
    with open("run.log") as log:
        logged = log.read()
    assert stopped in output and stopped in logged and "INFO SIGHUP stopped it.\n" in logged
    assert output.splitlines()[-2] == "Next: finish what is left:" and SCRIPT in output.splitlines()[-1]


def test_a_hangup_that_is_ignored_ends_nothing(tables):
    """nohup"""
    load_with_findings(tables)
    process = slow_run(
        tables, "--max-write-units", "200", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_until_some_are_done(tables, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0 and len(migrated_ids(tables)) == 300


def test_a_closed_terminal_ends_a_run_in_good_order(tables):
    load_with_findings(tables)
    main, side = pty.openpty()

    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = slow_run(tables, "--yes", stdin=side, stdout=side, stderr=side, preexec_fn=own_terminal)
    os.close(side)
    wait_until_some_are_done(tables, process)
    os.close(main)
    assert process.wait(timeout=60) == 130
    assert reported_ids(tables) == migrated_ids(tables)
    assert summary_of(tables)["exit_status"] == 130


def test_a_finding_is_in_the_file_as_soon_as_it_is_reported(tables):
    report = migration.Report("report.csv")
    report.add("db01", "a", "migrated", migration.Finding("version_missing", "", "x"))
    with open("report.csv", encoding="utf-8-sig") as file:
        assert file.read().splitlines()[1] == "db01,a,migrated,version_missing,,x"
    report.close()


def test_a_killed_run_has_reported_what_it_has_finished(tables):
    load_with_findings(tables)
    process = slow_run(tables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until_some_are_done(tables, process)
    process.kill()
    process.wait()
    # What was under way, the verification finds by the journal.
    done, reported = migrated_ids(tables), reported_ids(tables)
    assert reported <= done and len(done) - len(reported) <= 4 * 8 * 5


@pytest.mark.parametrize("from_here", ["The first changes", "\ndb01 / a", "\nResult:", "\n  report ", "\nNext: "])
def test_once_a_run_has_begun_nobody_needs_to_read_what_came_of_it(tables, monkeypatch, capfd, from_here):
    """`| head`: its status is that of the run."""
    tables.put(asset("a"))
    show, closed = migration.show, []

    def show_until(text, stream):
        closed.extend([True] * (from_here in text))
        if closed and stream is sys.stdout:
            raise migration.OutputClosed
        show(text, stream)

    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    monkeypatch.setattr(migration, "show", show_until)
    back = [*tables.flags, "--journal", "backups"]
    for script, argv in ((migration, ["--dry-run"]), (migration, []), (rollback, [*back, "--dry-run"]), (verify, back)):
        closed.clear()
        assert script.main([*argv, *([] if argv[2:] else tables.flags)]) == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_came_of_a_run_is_seen_where_ctrl_c_ends_its_reader_too(tables, wrapped):
    """`| tee`: the result and the next command come on stderr then, which is the terminal still."""
    load_with_findings(tables)
    reading, writing = os.pipe()
    flags = {"stdin": subprocess.DEVNULL, "stdout": writing, "stderr": subprocess.PIPE}
    process = slow_run(tables, wrapped=wrapped, **flags)
    os.close(writing)
    wait_until_some_are_done(tables, process)
    os.close(reading)
    process.send_signal(signal.SIGINT)
    shown = process.communicate()[1].decode()
    assert process.returncode == 130
    for text in ("\n  stopped: ", "  migrated\n", "  report    reports", "\nNext: finish what is left:\n"):
        assert shown.count(text) == 1, shown
    assert "Nobody reads" not in shown and shown.splitlines()[-1].startswith(("python", "/", "./"))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])
def test_output_that_nobody_reads_is_no_traceback(tables, number):
    """`| head`; Windows says EINVAL."""
    code = (
        "import runpy, sys\n"
        "class Closed:\n"
        "    encoding = 'utf-8'\n"
        "    def write(self, text): raise OSError(%d, 'closed')\n"
        "    def flush(self): pass\n"
        "    def fileno(self): return 1\n"
        "sys.stdout = Closed()\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], None, '__main__')" % number
    )
    tables.put(asset("a"))
    done = subprocess.run(
        [sys.executable, "-c", code, SCRIPT, *tables.flags], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = b"Nobody reads the output any more, so nothing more is begun here."
    assert (done.returncode, done.stderr.strip()) == (130, said) and tables.contents()[1] == {}


# --------------------------------------------------------------------------------------
# The log
# --------------------------------------------------------------------------------------


def log_of(tables, *flags):
    """The log of a run, and what it showed."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *tables.flags, "--log-file", "run.log", *flags], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with open("run.log", encoding="utf-8") as file:
        return file.read(), done.stdout.decode()


def test_every_failure_is_in_the_log_and_ten_are_on_the_screen(tables):
    tables.put(*(asset("a%02d" % n, currentVersion=S("x")) for n in range(25)))
    log, shown = log_of(tables)
    assert log.count("ERROR failed: db01 / a") == 25 and shown.count("failed: db01 / a") == 10


def test_log_levels(tables, monkeypatch):
    tables.put(asset("a", currentVersion=S("x")))
    said = {}
    for level in migration.LOG_LEVELS:
        said[level] = log_of(tables, "--dry-run", "--log-level", level)[1]
        os.remove("run.log")
    assert "read %s: 1 items" % tables.assets in said["DEBUG"] and "read %s" % tables.assets not in said["INFO"]
    assert "Preflight:" in said["INFO"] and "Preflight:" not in said["WARNING"]
    assert "would fail: db01 / a" in said["ERROR"] and "would fail: db01 / a" not in said["CRITICAL"]
    for shown in said.values():
        assert "Plan:" in shown and "Result of the dry run:" in shown


def test_warnings_of_the_preflight_are_kept_at_WARNING(tables, capfd):
    migration.configure_logging("WARNING", "run.log")
    migration.announce_checks([migration.Check("ok", "fine"), migration.Check("warning", "careful", "look")])
    migration.close_log()
    with open("run.log") as log:
        assert "careful" in log.read()
    shown = capfd.readouterr().out
    assert "careful" in shown and "fine" not in shown


def test_DEBUG_names_each_request_each_refusal_and_each_retry_but_no_data(tables):
    tables.put(asset("secret-id", assetName=S("secret-name")), asset("b"))
    tables.put_records({"assetId": S("b"), "assetVersionId": S("3"), "comment": S("of another")})
    with Front(tables.engine.port, partition_units=1.0) as front:
        log, _ = log_of(tables, "--endpoint-url", front.endpoint_url, "--log-level", "DEBUG")
    assert "DEBUG read %s: 2 items, " % tables.assets in log
    assert re.search(r"DEBUG .*\d writes to %s: [\d.]+ units" % tables.versions, log)
    assert "DEBUG refused: %s: b / 3: DuplicateItem" % tables.versions in log
    assert "DEBUG looked up 1 items, 1 found, 0 not read: " in log
    assert "secret-id" not in "".join(re.findall(r"DEBUG read.*", log)) and "secret-name" not in log


def test_a_retry_is_logged_with_its_reason(caplog, monkeypatch):
    monkeypatch.setattr(migration.LOG, "propagate", True)
    with caplog.at_level("DEBUG", "vams_migration"):
        migration.Backoff().failed("server error: 500", 0.0)
    assert set(caplog.messages) == {"not served, to be sent again: server error: 500"}


def test_wrong_settings_are_in_the_log_too(tables):
    log, shown = log_of(tables, "--batch-size", "99")
    assert "CRITICAL error: batch_size" in log and shown.count("error: batch_size") == 1


# --------------------------------------------------------------------------------------
# Another run on the same tables
# --------------------------------------------------------------------------------------


def test_another_run_on_the_same_tables_is_named(tables, capfd):
    tables.put(asset("a"))
    run = tables.migrate()
    other = tables.folder / "other.jsonl"
    other.write_text(run.journal.read_text().replace(tables.assets, "others"))
    flags = [*tables.flags, "--journal-dir", str(run.journal.parent), "--dry-run"]
    capfd.readouterr()
    assert migration.main(flags) == 0
    assert "another run" not in capfd.readouterr().out
    other.replace(run.journal.parent / "other.jsonl")
    with open(run.journal, "rb") as file, open(run.journal.parent / "other.jsonl", "rb") as unrelated:
        assert migration.lock(file) and migration.lock(unrelated)
        assert migration.main(flags) == 0
    shown = capfd.readouterr().out
    assert shown.count("another run") == 1 and "with the journal %s" % run.journal in shown


def test_where_only_some_files_were_copied_the_next_step_begins_with_the_others(tables, monkeypatch, capsys):
    monkeypatch.setattr(migration, "__file__", str(tables.folder / migration.SCRIPT))
    migration.announce_next("verify", migration.VERIFICATION_SCRIPT, {"html": True})
    folder = str(tables.folder)
    assert "\nNext: copy all files of this tool to %s; then verify:\n" % folder in capsys.readouterr().out
