"""What is different on Windows, simulated: nothing of it runs there. See as_on_windows.py."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import BUCKET
from v22 import S, asset

from load_migration import migration

ROOT = pathlib.Path(migration.__file__).parent
SCRIPTS = {part: ROOT / ("v2.2_to_v2.3_migration%s.py" % part) for part in ("", "_verify", "_rollback", "_test")}
# Characters that cp1252, the console's encoding in most of the West, has and has not; and one of no encoding.
STRANGE = "Grün 日本 \U0001f4e6 \u2028"


def as_on_windows(script, *arguments, encoding="cp1252", **options):
    environment = dict(os.environ, PYTHONIOENCODING=encoding, PYTHONUTF8="0", **options)
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "as_on_windows.py"), str(script), *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120,
    )


def said(done):
    assert b"Traceback" not in done.stderr, done.stderr.decode("cp1252")
    return done.stdout.decode("cp1252")


def with_crlf(path):
    text = pathlib.Path(path).read_bytes()
    assert b"\r" not in text
    pathlib.Path(path).write_bytes(text.replace(b"\n", b"\r\n"))


def test_there_and_back_on_a_console_of_another_encoding(tables):
    for number in range(30):
        tables.put({**asset("%s %d" % (STRANGE, number)), "assetName": S(STRANGE)})
    before = tables.contents()
    settings = {
        "assets_table_name": tables.assets,
        "asset_versions_table_name": tables.versions,
        "asset_bucket_name": BUCKET,
        "endpoint_url": tables.engine.endpoint_url,
        "journal_dir": "D:\\backups\\%s" % STRANGE,  # here, a name with backslashes in it
        "report_dir": "reports",
    }
    pathlib.Path("my config.json").write_text(json.dumps(settings, indent=4))
    with_crlf("my config.json")
    common = ["--config", "my config.json", "--log-file", "logs/a.log"]

    done = as_on_windows(SCRIPTS[""], *common, "--dry-run")
    assert (done.returncode, tables.contents()) == (0, before), done
    assert "Gr\xfcn \\u65e5\\u672c \\U0001f4e6" in said(done)

    done = as_on_windows(SCRIPTS[""], *common)
    assert done.returncode == 0, done
    assert "30  migrated" in said(done)
    (journal,) = pathlib.Path(settings["journal_dir"]).glob("*.jsonl")

    done = as_on_windows(SCRIPTS["_verify"], *common, "--journal", journal, "--html", "page.html")
    assert (done.returncode, "VERIFIED" in said(done)) == (0, True), done

    done = as_on_windows(SCRIPTS["_rollback"], *common, "--journal", journal, "--yes")
    assert (done.returncode, tables.contents()) == (0, before), done
    said(done)
    assert STRANGE.split()[1] in pathlib.Path("logs/a.log").read_text(encoding="utf-8")


def test_a_journal_that_went_through_an_editor_of_windows_proves_and_rolls_back(tables):
    tables.load(asset("a%d" % number) for number in range(20))
    before = tables.contents()
    run = tables.migrate()
    with_crlf(run.journal)
    done = as_on_windows(SCRIPTS["_verify"], *tables.flags, "--journal", run.journal)
    assert (done.returncode, "VERIFIED" in said(done)) == (0, True), done
    done = as_on_windows(SCRIPTS["_rollback"], *tables.flags, "--journal", run.journal, "--yes")
    assert (done.returncode, tables.contents()) == (0, before), done


def test_the_test_script(tables):
    done = as_on_windows(SCRIPTS["_test"], *tables.flags, "--num-assets", 3)
    assert done.returncode == 0, done
    said(done)
    assert tables.contents() == ({}, {})


def test_a_journal_that_is_being_written_is_locked(tables):
    """By a byte beyond its end, for Windows lets nobody read a locked one."""
    tables.put(asset("a"))
    run = tables.migrate()
    with open(run.journal, "rb+") as file:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2**40)
        done = as_on_windows(SCRIPTS["_rollback"], *tables.flags, "--journal", run.journal, "--yes")
    assert done.returncode == 3, done
    assert b"still running" in done.stderr


@pytest.mark.parametrize("script", [*SCRIPTS.values(), ROOT / "guided_run.py", ROOT / "local_dynamodb.py"])
def test_help(script):
    command = ["migrate"] if script.name == "guided_run.py" else []
    done = as_on_windows(script, *command, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert said(done).startswith("usage: ")


def test_the_wrapper(tables):
    tables.put(asset("a"))
    config = {
        "assets_table_name": tables.assets,
        "asset_versions_table_name": tables.versions,
        "asset_bucket_name": BUCKET,
        "endpoint_url": tables.engine.endpoint_url,
    }
    pathlib.Path("my %s.json" % STRANGE).write_text(json.dumps(config))
    done = as_on_windows(ROOT / "guided_run.py", "rehearse", "my %s.json" % STRANGE, 1)
    assert done.returncode == 0, done
    assert "VERIFIED" in said(done)


def test_the_engine_serves_a_command():
    done = as_on_windows(ROOT / "local_dynamodb.py", "--assets", "3", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert done.returncode == 7, done
    said(done)
