"""What nobody stores, types or sets on purpose: names, sizes and depths at DynamoDB's limits, names that mean something
to a shell, a terminal or a spreadsheet, and secrets that must not be written down."""

import base64
import os
import subprocess
import sys

import pytest
from faults import ROLLBACK, ROOT, TEXTS
from v22 import BUCKET, L, M, S, asset, version

from benchmarks.front import Faults, Front
from load_migration import load_script, migration

rollback = load_script(ROLLBACK)
verify = load_script("v2.2_to_v2.3_migration_verify.py")

LIMIT = 400 * 1024  # bytes of an item


def there_and_back(tables, *assets):
    """Migrate, prove the content, roll back; returns what the migration's tables held."""
    tables.put(*assets)
    before = tables.contents()
    run = tables.migrate()
    assert run.status == 0, run.rows
    assert run.summary["outcomes"]["migrated"] == len(assets)
    assert verify.main([*tables.flags, "--journal", str(run.journal)]) == 0
    after = tables.contents()
    back = ["--journal", str(run.journal), "--report-dir", str(tables.folder / "back"), "--yes"]
    assert rollback.main(tables.flags + back) == 0
    assert tables.contents() == before
    return after


def padded(item, name, size):
    """The item with an attribute that makes it so many bytes, by DynamoDB's count."""
    return {**item, name: S("x" * (size - size_of(item) - len(name)))}


def size_of(value):
    """Bytes by the rules of DynamoDB's developer guide (item sizes), for the types used here."""
    if "databaseId" in value:
        return sum(len(name) + size_of(inner) for name, inner in value.items())
    ((kind, inner),) = value.items()
    if kind == "S":
        return len(inner.encode())
    if kind == "M":
        return 3 + sum(1 + len(name) + size_of(element) for name, element in inner.items())
    if kind == "L":
        return 3 + sum(1 + size_of(element) for element in inner)
    return 1


# --------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------


def test_names_in_keys(tables):
    assets = [asset("%s%d" % (text, n), text) for n, text in enumerate(TEXTS)]
    records = there_and_back(tables, *assets)[1]
    assert {key[0] for key in records} == {item["assetId"]["S"] for item in assets}


def test_names_in_report_and_on_screen(tables, capfd):
    """A spreadsheet takes no cell for a formula, a terminal no name for a command; the rows stay whole."""
    tables.put(*[asset("%s%d" % (text, n), text, currentVersion=S(text)) for n, text in enumerate(TEXTS)])
    run = tables.migrate()
    assert run.status == 1
    screen = "".join(capfd.readouterr())
    assert not [char for char in screen if not char.isprintable() and char not in "\n"]
    assert not [cell for row in run.rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    named = {row["asset_id"].lstrip("'") for row in run.rows}
    assert named == {("%s%d" % (text, n)).lstrip("'") for n, text in enumerate(TEXTS)}


def test_half_a_surrogate_pair(tables):
    """DynamoDB Local keeps it. Looked up as a twin, as another database's, and in the dry run's sizes."""
    name = "x\ud800"
    tables.put(asset(name), asset(name, "db01#deleted"), asset(name, "db02", currentVersion=version(Version=name)))
    tables.put(asset(name, "d\udc80", currentVersion=version(Version="4")), asset(name, "d\udc80#deleted"))
    before = tables.contents()
    dry, run = tables.migrate("--dry-run"), tables.migrate()
    assert (dry.codes, run.codes) == ({"archived_twin", "invalid_version_id"},) * 2
    assert run.summary["outcomes"]["migrated"] == 4
    flags = [*tables.flags, "--journal", str(run.journal), "--report-dir", str(tables.folder / "back")]
    assert verify.main(flags) == 1  # of the one that failed
    assert rollback.main([*flags, "--yes"]) == 0
    assert tables.contents() == before


def test_longest_keys(tables):
    there_and_back(
        tables,
        asset("é" * 512, "d" * 2048),
        asset("a" * 1024, "d" * 2040 + "#deleted"),
        asset("b", currentVersion=version(Version="9" * 1024)),
    )


def test_version_id_too_long_for_a_key(tables):
    item = asset("a", currentVersion=version(Version="9" * 1025))
    tables.put(item, asset("b"))
    run = tables.migrate()
    assert (run.status, run.summary["outcomes"]["migrated"]) == (1, 1)
    assert [row["code"] for row in run.rows] == ["rejected_by_dynamodb"]
    assert tables.asset("db01", "a") == item


# --------------------------------------------------------------------------------------
# Sizes
# --------------------------------------------------------------------------------------


def test_largest_assets(tables):
    """Just under DynamoDB's limit, for its history, its comment or an attribute that is not ours."""
    history = L(*[M(Version=str(n), Comment="x" * 1000) for n in range(390)])
    there_and_back(
        tables,
        padded(asset("history", versions=history), "note", LIMIT - 100),
        padded(asset("note"), "note", LIMIT - 100),
        asset("comment", currentVersion=version(Comment="c" * 200_000, description="é" * 95_000)),
        *[asset("many%d" % n, currentVersion=version(Comment="c" * 390_000)) for n in range(8)],
    )


def test_asset_that_would_grow_too_large(tables):
    """What the migration adds has no room: the asset is left as it was, and has no record."""
    item = {name: asset("a")[name] for name in ("databaseId", "assetId", "assetName", "description")}
    item = padded({**item, "currentVersion": M(Version="1")}, "note", LIMIT)
    tables.put(item, asset("b"))
    run = tables.migrate()
    assert (run.status, run.summary["outcomes"]["migrated"]) == (1, 1)
    assert "rejected_by_dynamodb" in run.codes
    assert tables.asset("db01", "a") == item and tables.record("a", "1") is None


def test_record_that_would_be_too_large(tables):
    """As text, a comment of another type is longer."""
    item = asset("a", currentVersion=version(Comment={"L": [{"NULL": True}] * 50_000}))
    tables.put(item, asset("b"))
    run = tables.migrate()
    assert (run.status, run.summary["outcomes"]["migrated"]) == (1, 1)
    assert "rejected_by_dynamodb" in run.codes
    assert tables.asset("db01", "a") == item and tables.record("a", "3") is None


@pytest.mark.parametrize("name", ["note", "versions", "specifiedPipelines", "previewLocation"])
def test_deepest_attributes(tables, name):
    """32 levels, DynamoDB's limit; of attributes that are kept and of those that are conditions."""
    value = S("bottom")
    for level in range(31):
        value = {"L": [value]} if level % 2 else {"M": {"inner": value}}
    there_and_back(tables, asset("a", **{name: value}))


def test_memory_of_large_assets(tables):
    """300 assets of 390 KB, 117 MB in all: a few of them are in memory at a time. Read by databaseId, and of these
    there are several, for DynamoDB Local reads the whole table for each page of a parallel scan, and all the rest of
    a partition for each page of a query."""
    noise = base64.b64encode(os.urandom(290_000)).decode()
    databases = ["db%02d" % number for number in range(10)]
    tables.load(asset("a%d" % number, databases[number % 10], note=S(noise)) for number in range(300))
    # Not ru_maxrss: what the parent took before exec counts in it.
    script = "import re, sys; from load_migration import migration; status = migration.main(sys.argv[1:]);"
    script += "print('peak', re.search('VmHWM: *([0-9]+)', open('/proc/self/status').read().expandtabs(1)).group(1));"
    script += "sys.exit(status)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    chosen = [flag for name in databases for flag in ("--database-id", name)]
    command = [sys.executable, "-c", script, *tables.flags, *chosen]
    done = subprocess.run(command, cwd=tables.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split("peak ")[1]) // 1024
    print("peak memory: %d MB" % peak)
    assert peak < 120


# --------------------------------------------------------------------------------------
# Settings, files and secrets
# --------------------------------------------------------------------------------------


def test_settings_that_mean_something_to_a_shell(tables):
    tables.put(asset("a"))
    odd = "a b; $(touch pwned) `touch pwned` & 'c' \"d\" *"
    folders = [flag for name in ("report", "journal") for flag in ("--%s-dir" % name, "%s/%s" % (odd, name))]
    assert migration.main([*tables.flags, *folders, "--log-file", odd + "/log"]) == 0
    assert tables.asset("db01", "a")["assetLocation"] == M(Key="a/", Bucket=BUCKET)
    (journal,) = (tables.folder / odd / "journal").iterdir()
    back = [*tables.flags, "--journal", str(journal), "--report-dir", odd, "--yes"]
    assert rollback.main(back) == 0
    assert tables.asset("db01", "a") == asset("a")
    assert os.listdir(str(tables.folder)) == [odd]


def test_files_are_their_owners_only(tables):
    tables.put(asset("a", previewLocation=M(Key="")))
    former = os.umask(0)
    try:
        run = tables.migrate("--log-file", "logs/log")
        made = [*tables.flags, "--journal", str(run.journal), "--report-dir"]
        assert verify.main([*made, "verified/by/day", "--html", "pages/new/page.html"]) == 0
        assert rollback.main([*made, "back/by/day", "--log-file", "logs/of/back", "--yes"]) == 0
    finally:
        os.umask(former)
    files = [path for path in tables.folder.rglob("*") if path.is_file()]
    assert len(files) == 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    folders = [path for path in tables.folder.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}, folders


def secrets_written(tables, endpoint_url):
    """Run the migration with secrets, at DEBUG; its exit status, and what of them is in the files and on the screen."""
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIASECRETACCESSKEY1",
        "AWS_SECRET_ACCESS_KEY": "SecretAccessKey/2",
        "AWS_SESSION_TOKEN": "SecretSessionToken3",
    }
    address = endpoint_url.replace("//", "//user:SecretPassword4@")
    flags = [*tables.flags, "--endpoint-url", address, "--log-level", "DEBUG", "--log-file", "log", "--batch-size", "1"]
    command = [sys.executable, migration.__file__, *flags]
    environment = {**os.environ, **secrets}
    done = subprocess.run(command, cwd=tables.folder, env=environment, capture_output=True, text=True)
    files = [path for path in tables.folder.rglob("*") if path.is_file()]
    written = "".join([done.stdout, done.stderr] + [path.read_text(encoding="utf-8") for path in files])
    assert endpoint_url in written
    return done.returncode, len(files), [text for text in [*secrets.values(), "SecretPassword4"] if text in written]


@pytest.mark.parametrize("expired_from, status", [(float("inf"), 0), (7, 1)], ids=["done", "expired in the middle"])
def test_secrets_are_written_nowhere(tables, expired_from, status):
    """Not in what is printed, logged, reported or kept as a journal."""
    tables.put(asset("a", previewLocation=M(Key="")))
    with Front(tables.engine.port, faults=Faults(expired_from=expired_from)) as front:
        assert secrets_written(tables, front.endpoint_url) == (status, 4, [])


def test_secrets_are_written_nowhere_without_a_connection(tables):
    assert secrets_written(tables, "http://127.0.0.1:9") == (3, 1, [])
