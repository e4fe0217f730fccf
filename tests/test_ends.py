"""How a run ends where something is in its way: a full disk, a reader that went away, a signal in its last moments."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from test_operators_day import load_with_findings, migrated_ids, slow_run, summary_of, wait_until_some_are_done
from v22 import M, asset

from load_migration import load_script, migration

SCRIPT = migration.__file__
VERIFY = SCRIPT.replace(".py", "_verify.py")
ROLLBACK = SCRIPT.replace(".py", "_rollback.py")
TEST = SCRIPT.replace(".py", "_test.py")
GUIDED = os.path.join(os.path.dirname(SCRIPT), "guided_run.py")
linux_only = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="it needs /dev/full")


def run(script, *flags, most_bytes=None, **streams):
    """Run a script; no file that it writes takes more than `most_bytes`. Returns its status and what it showed."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, script, *map(str, flags)]
    done = subprocess.run(command, preexec_fn=limit if most_bytes else None, timeout=120, **streams)
    shown = [(text or b"").decode() for text in (done.stdout, done.stderr)]
    assert "Traceback" not in shown[1] and "Exception" not in shown[1], shown[1]
    return (done.returncode, *shown)


# --------------------------------------------------------------------------------------
# A full disk
# --------------------------------------------------------------------------------------


@linux_only
def test_what_a_full_stdout_cannot_take_goes_to_stderr(tables):
    tables.put(asset("a"))
    with open("/dev/full", "w") as full:
        status, _, shown = run(SCRIPT, *tables.flags, stdout=full)
    assert status == 0 and migrated_ids(tables) == {"a"}
    assert shown.startswith("error: The output cannot be written: No space left on device.")
    for text in ("error: The output", "Preflight:", "Plan:", "Result:", "Next: verify:"):
        assert shown.count(text) == 1, text


@linux_only
def test_where_nothing_can_be_shown_it_is_done_all_the_same(tables):
    tables.put(asset("a"))
    with open("/dev/full", "w") as full:
        assert run(SCRIPT, *tables.flags, stdout=full, stderr=full) == (0, "", "")
    assert migrated_ids(tables) == {"a"} and summary_of(tables)["exit_status"] == 0


@linux_only
@pytest.mark.parametrize("script", [SCRIPT, VERIFY, ROLLBACK])
def test_what_a_full_stdout_cannot_take_of_the_help_goes_to_stderr(script):
    with open("/dev/full", "w") as full:
        status, _, shown = run(script, "--help", stdout=full)
    assert (status, shown.count("\nusage: ")) == (0, 1)


@linux_only
def test_where_stderr_is_a_file_with_a_heading_the_log_may_go_there_too(tables):
    with open("nightly.log", "w+") as log:
        log.write("=== nightly dry run\n")
        log.flush()
        status, _, _ = run(SCRIPT, *tables.flags, "--dry-run", "--log-file", "/dev/stderr", stderr=log)
    assert status == 0


@pytest.mark.parametrize("script", [SCRIPT, VERIFY, ROLLBACK, TEST, GUIDED])
def test_ctrl_c_while_python_ends_shows_nothing(script):
    late = "import atexit, os, runpy, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    status, _, error = run("-c", late + "; runpy.run_path(%r, run_name='__main__')" % script)
    assert status == 2 and error.startswith("error: ") and "KeyboardInterrupt" not in error


@linux_only
def test_a_folder_in_memory_is_no_device(tables):
    with tempfile.NamedTemporaryFile("w+", dir="/dev/shm") as journal:
        journal.write("before images\n")
        journal.flush()
        status, _, error = run(SCRIPT, *tables.flags, "--dry-run", "--log-file", journal.name)
        assert status == 2 and "is no log of this tool" in error
        assert Path(journal.name).read_text() == "before images\n"


@linux_only
def test_a_log_that_cannot_be_written_is_said_once(tables):
    tables.put(*(asset("a%d" % number, currentVersion=M(Version="x")) for number in range(5)))
    status, shown, errors = run(SCRIPT, *tables.flags, "--log-file", "/dev/full")
    assert status == 1 and "Result:" in shown and errors.count("failed: db01") == 5
    assert errors.count("error: The log /dev/full cannot be written any more: No space left on device.\n") == 1


@pytest.mark.parametrize("script", [SCRIPT, VERIFY, ROLLBACK])
def test_the_result_is_shown_where_the_report_folder_is_full(tables, script):
    tables.put(*(asset("a%02d" % number, previewLocation=M()) for number in range(40)))
    flags = [*tables.flags, "--dry-run"]
    if script == VERIFY:
        flags = [*tables.flags, "--html"]
    if script == ROLLBACK:
        made = tables.migrate()
        for item in tables.contents()[0].values():
            tables.put({**item, "currentVersionId": {"S": "9"}})
        flags += ["--journal", made.journal]
    status, shown, errors = run(script, *flags, most_bytes=900)
    assert status == 1
    assert "  report    reports/" in shown and "  summary " not in shown and "  stopped: " in shown
    assert errors.endswith("then run the same command again.\n")
    assert errors.count("error: The report reports/") == errors.count("\n  Fix: ") == 1
    assert not [name for name in os.listdir("reports") if name.endswith(".json")]


@pytest.mark.parametrize("script", [SCRIPT, VERIFY])
def test_the_result_is_shown_where_only_the_summary_has_no_room(tables, script):
    tables.put(asset("a"))
    assert migration.main([*tables.flags, "--report-dir", "elsewhere"]) == 0
    status, shown, errors = run(script, *tables.flags, *(["--dry-run"] if script == SCRIPT else []), most_bytes=500)
    assert status == 1 and ("Result of the dry run:" in shown or "VERIFIED IN PART: 1 asset" in shown)
    assert "_summary.json cannot be written: File too large." in errors and "  summary " not in shown


def test_the_result_is_shown_where_the_journal_has_no_room(tables):
    load_with_findings(tables)
    status, shown, errors = run(SCRIPT, *tables.flags, most_bytes=20000)
    assert status == 1 and "Result:" in shown and "  stopped: " in shown
    assert errors.count("error: ") == errors.count("\n  Fix: ") == 1
    assert len(migrated_ids(tables)) < 300


# --------------------------------------------------------------------------------------
# A reader that went away
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [SCRIPT, VERIFY, ROLLBACK])
def test_a_reader_that_goes_away_before_it_begins_ends_it_as_an_interruption_does(tables, script):
    tables.put(asset("a"))
    made = tables.migrate()
    tables.put(asset("b"))
    flags = ["--journal", made.journal] * (script == ROLLBACK)
    process = subprocess.Popen(
        [sys.executable, script, *tables.flags, *flags, "--yes"][: None if script != VERIFY else -1],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    said = b"Nobody reads the output any more, so nothing more is begun here."
    assert (process.stderr.read().strip(), process.wait(timeout=60)) == (said, 130)
    assert tables.asset("db01", "b") == asset("b") and "currentVersionId" in tables.asset("db01", "a")


def test_a_result_that_nobody_reads_changes_no_status(tables):
    load_with_findings(tables)
    process = slow_run(
        tables, "--max-write-units", "500", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until_some_are_done(tables, process)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read() and process.wait(timeout=60) == 0
    assert len(migrated_ids(tables)) == 300 and summary_of(tables)["exit_status"] == 0


# --------------------------------------------------------------------------------------
# A signal
# --------------------------------------------------------------------------------------


def test_ctrl_c_where_nobody_reads_stderr(tables):
    load_with_findings(tables)
    process = slow_run(tables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.stderr.close()
    wait_until_some_are_done(tables, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130 and summary_of(tables)["exit_status"] == 130


def test_a_run_that_is_stopped_when_all_is_done_says_that_it_is_done(tables, monkeypatch, capfd):
    tables.put(asset("a"), asset("b"))
    begin = migration.Migration.migrate

    async def migrate_and_interrupt(self, read):
        await begin(self, read)
        if self.tally.finished == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(migration.Migration, "migrate", migrate_and_interrupt)
    assert migration.main(tables.flags) == 0
    said = capfd.readouterr()
    assert "2  migrated" in said.out and "stopped" not in said.out and "\nNext: verify:" in said.out
    assert "Finishing what is under way" in said.err


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_it_reports_takes_no_result_away(tables, monkeypatch, capfd, number):
    tables.put(asset("a"))
    write = migration.write_summary

    def interrupted(path, summary):
        if "ended" in summary:
            os.kill(os.getpid(), number)
        write(path, summary)

    verify, rollback = load_script(os.path.basename(VERIFY)), load_script(os.path.basename(ROLLBACK))
    monkeypatch.setattr(migration, "write_summary", interrupted)
    commands = [(migration, []), (verify, []), (rollback, ["--journal", "backups", "--yes"])]
    for script, flags in commands:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a hangup has those ignored that follow
        assert script.main([*tables.flags, *flags]) == 0
        said = capfd.readouterr()
        assert "\nNext: " in said.out and "Finishing what is under way" in said.err
    for path in (tables.folder / "reports").glob("*_summary.json"):
        assert json.loads(path.read_text())["exit_status"] == 0


def test_ctrl_c_between_two_passes_of_a_verification_stops_it(tables, monkeypatch, capfd):
    tables.put(asset("a"))
    assert migration.main(tables.flags) == 0
    verify = load_script(os.path.basename(VERIFY))
    monkeypatch.setattr(verify.Verification, "add_what_was_not_found", lambda self: os.kill(os.getpid(), signal.SIGINT))
    assert verify.main(tables.flags) == 130
    said = capfd.readouterr().out
    assert "  stopped: 0 version records done\nNOT FINISHED" in said and "\nNext: verify to the end:" in said
