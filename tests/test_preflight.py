"""Preflight: every check before the verdict, each with its remedy; DynamoDB Local and moto."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BUCKET, Tables, without_partiql
from v22 import M, S, asset, migrated, record

import local_dynamodb
from load_migration import load_script, migration

moto = pytest.importorskip("moto")


def outcome(capfd, status):
    """The one error of a failed preflight, after checking its form."""
    output = capfd.readouterr()
    assert status == 3
    assert "Traceback" not in output.err
    assert re.findall(r"^error: ", output.err, re.M) == ["error: "], output.err
    assert len(re.findall(r"^  Fix: \S", output.err, re.M)) == 1
    return output.out + output.err


def main(*flags):
    return migration.main(list(flags))


# --------------------------------------------------------------------------------------
# On DynamoDB Local
# --------------------------------------------------------------------------------------


def test_missing_table(tables, capfd):
    text = outcome(capfd, main(*tables.flags, "--assets-table", "no-such-table"))
    assert "no-such-table" in text and "us-east-1" in text and "list-tables" in text
    assert list(tables.folder.iterdir()) == []


def test_both_tables_missing_are_both_named(tables, capfd):
    text = outcome(capfd, main(*tables.flags, "--assets-table", "missing-1", "--asset-versions-table", "missing-2"))
    error = text[text.index("error: ") :]
    assert "missing-1" in error and "missing-2" in error


def test_tables_exchanged(tables, capfd):
    flags = tables.flags + ["--assets-table", tables.versions, "--asset-versions-table", tables.assets]
    text = outcome(capfd, main(*flags))
    assert "exchanged" in text and "databaseId" in text and "assetVersionId" in text


@pytest.mark.parametrize("keys", [
    [("databaseId", "S")],
    [("databaseId", "S"), ("assetId", "N")],
    [("assetId", "S"), ("databaseId", "S")],
    [("databaseId", "S"), ("assetID", "S")],
])  # fmt: skip
def test_wrong_key_schema(tables, capfd, keys):
    tables.client.create_table(
        TableName="odd",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in keys],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for (name, _), kind in zip(keys, ("HASH", "RANGE"))],
    )
    try:
        assert "table odd" in outcome(capfd, main(*tables.flags, "--assets-table", "odd"))
    finally:
        tables.client.delete_table(TableName="odd")


def test_same_table_by_name_and_arn(tables, capfd):
    arn = tables.client.describe_table(TableName=tables.assets)["Table"]["TableArn"]
    text = outcome(capfd, main(*tables.flags, "--asset-versions-table", arn))
    assert arn in text


def test_endpoint_that_does_not_answer(tables, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = "http://127.0.0.1:%d" % closed.getsockname()[1]
        text = outcome(capfd, main(*tables.flags, "--endpoint-url", url))
    assert url in text and "--endpoint-url" in text


@pytest.mark.parametrize("flag", ["--journal-dir", "--report-dir"])
def test_folder_that_cannot_be(tables, capfd, flag):
    (tables.folder / "file").write_text("")
    before = tables.contents()
    text = outcome(capfd, main(*tables.flags, flag, str(tables.folder / "file" / "folder")))
    assert str(tables.folder / "file") in text and flag in text
    assert tables.contents() == before
    assert [path for path in tables.folder.rglob("*") if path.is_file()] == [tables.folder / "file"]


@pytest.mark.parametrize("key", ["assets-table", "asset-versions-table", "asset-bucket"])
def test_that_an_earlier_run_had_one_other_table_or_bucket_is_said(tables, capfd, key):
    """As one with a typing error in its configuration did, or this one will."""
    tables.put(asset("a"))
    stage = Tables(tables.engine, tables.assets + "-stage", tables.versions + "-stage", tables.folder)
    local_dynamodb.create_tables(tables.client, stage.assets, stage.versions)
    stage.put(asset("b"))
    name = key.replace("-", "_") + "_name"
    ours, theirs = {
        "assets-table": (tables.assets, stage.assets),
        "asset-versions-table": (tables.versions, stage.versions),
        "asset-bucket": ("asset-bucket", "stage-bucket"),
    }[key]
    folder, others = ["--journal-dir", "backups"], ["--" + key, theirs]
    assert main(*tables.flags, *folder, *others, "--yes") == 0
    verify = load_script("v2.2_to_v2.3_migration_verify.py")
    table = "asset versions" if key == "assets-table" else "assets"
    said = "an earlier run on this %s table had the %s %s, not %s: journal backups" % (table, name, theirs, ours)
    for script, flags, status in ((migration, ["--dry-run"], 0), (verify, [], 1)):
        capfd.readouterr()
        assert script.main([*tables.flags, *flags]) == status
        shown = capfd.readouterr().out
        assert shown.count("  warning  an earlier run") == 1
        first = "asset-versions-table" if key == "assets-table" else "assets-table"
        fix = "Fix: check --%s first: if it is another stage's, the earlier run was right. Else check --%s, and if"
        fix += " the earlier run had the wrong one, roll it back, with --%s %s.\n"
        assert fix % (first, key, key, theirs) in shown
        assert said in shown
    assert main(*tables.flags, *folder, *others, "--dry-run") == 0
    assert "an earlier run" not in capfd.readouterr().out
    # Nor where it was taken back.
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    assert rollback.main([*tables.flags, "--journal", "backups", *others, "--yes"]) == 0
    for script in (migration, verify):
        script.main(tables.flags + ([] if script is verify else ["--dry-run"]))
        assert "an earlier run" not in capfd.readouterr().out


@pytest.mark.parametrize("then", ["taken back", "finished", "nothing left to finish", "finished with a conflict"])
def test_that_a_run_was_killed_is_said(tables, capfd, then):
    """Also after a run of some assets."""
    tables.put(asset("a"))
    folder = ["--journal-dir", "backups"]
    assert main(*tables.flags, *folder) == 0
    (journal,) = (tables.folder / "backups").iterdir()
    journal.write_text("".join(journal.read_text().splitlines(True)[:-1]))
    shutil.rmtree("reports")
    said = (
        "\n  warning  a run on these tables was killed, or this is a part of its journal: backups/%s\n" % journal.name
    )
    time.sleep(1)  # runs are known by the second of their start
    tables.put(asset("b"), asset("c"))
    for flags in (["--dry-run"], ["--limit", "0"], ["--limit", "2"], ["--dry-run"]):
        capfd.readouterr()
        assert main(*tables.flags, *folder, *flags) == 0
        assert said in capfd.readouterr().out
    if then == "taken back":
        rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
        assert rollback.main([*tables.flags, "--journal", "backups", "--yes"]) == 0
    else:
        conflict = then == "finished with a conflict"  # which the killed run may have made
        tables.put(*[asset("d")] * (then != "nothing left to finish"))
        tables.put_records(*[record("d", comment="another")] * conflict)
        assert main(*tables.flags, *folder) == int(conflict)
    capfd.readouterr()
    main(*tables.flags, *folder, "--dry-run")
    assert (said in capfd.readouterr().out) is (then == "finished with a conflict")


@pytest.mark.parametrize(
    "runs, finished",
    [
        ([], False),
        ([("2", 0)], False),  # it began in the same second
        ([("3", 0)], True),
        ([("3", 2)], False),  # these may be what the killed run left
        ([("1", 2), ("3", 2)], True),  # these were there before
        ([("1", 1), ("3", 2)], False),
        ([("1", 0), ("3", 2), ("4", 0)], True),
    ],
)
def test_which_run_finishes_a_killed_one(runs, finished):
    assert migration.was_finished("2", runs) is finished


@pytest.mark.parametrize("then", ["finished", "migrated"])
def test_that_a_rollback_did_not_come_to_its_end_is_said(tables, capfd, then):
    tables.put(asset("a"))
    assert main(*tables.flags) == 0
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    flags = [*tables.flags, "--journal", "backups", "--yes"]
    assert rollback.main(flags) == 0
    (path,) = (tables.folder / "reports").glob("rollback_*_summary.json")
    summary = json.loads(path.read_text())
    for killed in ({**summary, "exit_status": 130, "undone": False}, without(summary, "exit_status", "undone")):
        path.write_text(json.dumps(killed))
        capfd.readouterr()
        assert main(*tables.flags, "--dry-run") == 0
        said = "warning  the rollback of these tables that began %s did not come to its end" % summary["started"]
        assert said in capfd.readouterr().out
    time.sleep(1)  # runs are known by the second of their start
    assert (rollback.main(flags) if then == "finished" else main(*tables.flags)) == 0
    capfd.readouterr()
    assert main(*tables.flags, "--dry-run") == 0
    assert "did not come to its end" not in capfd.readouterr().out


SUMMARIES = {
    "killed": {"started": "2", "images_of_journals": {"a": 1, "b": 1}},
    "older": {"started": "1", "images_of_journals": {"a": 1, "b": 1}, "exit_status": 0, "error": None},
    "ended": {"started": "3", "images_of_journals": {"a": 1, "b": 1, "c": 1}, "exit_status": 1, "error": None},
    "a": {"started": "4", "images_of_journals": {"a": 1}, "exit_status": 0, "error": None},
    "b": {"started": "5", "images_of_journals": {"b": 1}, "exit_status": 0, "error": None},
    "stopped": {"started": "6", "images_of_journals": {"b": 1}, "exit_status": 130, "error": None},
}


@pytest.mark.parametrize(
    "rollbacks, runs, named",
    [
        ([], [], None),
        (["older"], [], None),
        (["older", "killed"], [], "2"),
        (["killed", "ended"], [], None),
        (["killed", "a"], [], "2"),
        (["killed", "a", "b"], [], None),
        (["killed", "a", "stopped"], [], "6"),
        (["ended", "stopped"], [], "6"),
        (["killed", "a"], [("3", 0)], None),
        (["killed", "a"], [("2", 0)], "2"),
    ],
)
def test_which_rollback_is_to_be_finished(rollbacks, runs, named):
    left = migration.rollback_to_finish([SUMMARIES[name] for name in rollbacks], set("abc"), lambda: runs)
    checks = migration.check_unfinished_rollback(left)
    assert [check.text for check in checks] == [
        "the rollback of these tables that began %s did not come to its end" % named
    ] * (named is not None)


@pytest.mark.parametrize("there, named", [("a", False), ("ab", True)])
def test_a_journal_that_is_not_there_any_more_is_not_to_be_finished(there, named):
    """As where a damaged one was moved out of the folder."""
    left = migration.unfinished_rollback([SUMMARIES["killed"], SUMMARIES["a"]], set(there))
    assert left is (SUMMARIES["killed"] if named else None)
    assert migration.unfinished_rollback([SUMMARIES["killed"]], set()) is SUMMARIES["killed"]


def without(summary, *names):
    return {name: value for name, value in summary.items() if name not in names}


def test_the_journal_of_another_run_may_vanish_while_it_is_looked_at(tables, monkeypatch):
    """As one does without before images, when its run ends."""
    tables.put(asset("a"))
    assert main(*tables.flags, "--journal-dir", "backups") == 0
    read, headers = migration.read_journal_header, []

    def read_and_vanish(journal):
        headers.append(read(journal))
        os.remove(journal.path)
        return headers[-1]

    monkeypatch.setattr(migration, "read_journal_header", read_and_vanish)
    assert main(*tables.flags, "--dry-run") == 0 and len(headers) == 1


def test_journal_dir_of_a_dry_run_does_not_matter(tables):
    (tables.folder / "file").write_text("")
    flags = ["--journal-dir", str(tables.folder / "file" / "folder"), "--limit", "0", "--dry-run"]
    assert main(*tables.flags, *flags) == 0


def test_endpoint_skips_the_checks_of_the_account_and_says_so(tables, capfd):
    tables.migrate("--limit", "0")
    skipped = [line for line in capfd.readouterr().out.splitlines() if line.strip().startswith("skipped")]
    assert len(skipped) == 1 and all(word in skipped[0] for word in ("account", "recovery", "bucket"))


def test_no_region(tables, monkeypatch, capfd):
    """With an endpoint a newcomer needs neither region nor credentials."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tables.folder))
    assert tables.migrate("--limit", "0").status == 0


# --------------------------------------------------------------------------------------
# In a process of its own, without any configuration of AWS
# --------------------------------------------------------------------------------------


def run_without_credentials(folder, *flags):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment.update(HOME=str(folder), AWS_EC2_METADATA_DISABLED="true")
    return subprocess.run(
        [sys.executable, migration.__file__, "--assets-table", "assets", "--asset-versions-table", "versions",
         "--asset-bucket", BUCKET, *flags],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("flags, texts, status", [
    (["--region", "us-east-1"], ["credentials", "aws "], 3),
    (["--region", "us-east-1", "--profile", "nobody"], ["nobody", "--profile"], 2),
    (["--endpoint-url", "http://127.0.0.1:9", "--profile", "nobody"], ["nobody", "--profile"], 2),
    ([], ["region", "--region"], 2),
], ids=["credentials", "profile", "profile_and_endpoint", "region"])  # fmt: skip
def test_nothing_configured(tmp_path, flags, texts, status):
    done = run_without_credentials(tmp_path, *flags)
    assert done.returncode == status
    assert re.findall(r"^error: ", done.stderr, re.M) == ["error: "], done.stderr
    assert "Traceback" not in done.stderr and len(re.findall(r"^  Fix: \S", done.stderr, re.M)) == 1
    assert all(text in done.stderr for text in texts), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_boto3(tmp_path):
    """A Python without boto3, and so without its botocore, is told what to install."""
    code = (
        "import sys, runpy; sys.modules['boto3'] = sys.modules['botocore'] = None; del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], None, '__main__')"
    )
    command = [sys.executable, "-c", code, migration.__file__] + AWS_FLAGS + ["--region", "us-east-1"]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    assert done.returncode == 3 and "pip install boto3" in done.stderr and "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------
# On moto: account, point-in-time recovery, bucket
# --------------------------------------------------------------------------------------

NAMES = ("assets_table_name", "asset_versions_table_name", "asset_bucket_name")
AWS_FLAGS = ["--assets-table", "assets", "--asset-versions-table", "versions", "--asset-bucket", BUCKET, "--limit", "0"]


@pytest.fixture
def aws(engine, monkeypatch, tmp_path):
    """An account of moto's with both tables, point-in-time recovery and the bucket."""
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    without_partiql(monkeypatch)
    with moto.mock_aws():
        import boto3

        client = boto3.client("dynamodb")
        local_dynamodb.create_tables(client, "assets", "versions")
        for name in ("assets", "versions"):
            recover(client, name, True)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield client


def recover(client, table, on):
    specification = {"PointInTimeRecoveryEnabled": on}
    client.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=specification)


def checks(capfd):
    """(level, text) of each line of the preflight."""
    return [tuple(line.split(None, 1)) for line in capfd.readouterr().out.splitlines()
            if line.split(None, 1)[:1] and line.split()[0] in ("ok", "warning", "error", "skipped")]  # fmt: skip


def test_all_is_well(aws, capfd):
    import boto3

    put_assets(aws, 1)
    boto3.client("s3").put_object(Bucket=BUCKET, Key="a00/model.glb", Body=b"x")
    assert main(*AWS_FLAGS) == 0
    output = capfd.readouterr().out
    assert "123456789012" in output and "us-east-1" in output
    found = [line.split()[0] for line in output.split("Plan:")[0].splitlines() if line.startswith("  ")]
    assert set(found) == {"ok"} and len(found) >= 6


def test_account_and_region_are_in_summary_and_journal(aws, tmp_path):
    assert main(*AWS_FLAGS) == 0
    (summary,) = (tmp_path / "reports").glob("*_summary.json")
    settings = migration.resolve_settings(migration.CONFIG, {}, dict(zip(NAMES, AWS_FLAGS[1::2])))
    database = migration.Database(aws, "assets", "versions")
    site = migration.preflight(migration.make_session(settings), database, settings)
    migration.open_journal(str(tmp_path / "a.jsonl"), settings, site, "2025-06-24T17:59:56Z").close()
    header = (tmp_path / "a.jsonl").read_text().splitlines()[0]
    for found in (json.loads(summary.read_text()), json.loads(header)):
        assert (found["account"], found["region"]) == ("123456789012", "us-east-1")


@pytest.mark.parametrize("table", ["assets", "versions"])
def test_recovery_off_is_a_warning(aws, capfd, table):
    recover(aws, table, False)
    assert main(*AWS_FLAGS) == 0
    warnings = [text for level, text in checks(capfd) if level == "warning"]
    assert len(warnings) == 1 and table in warnings[0] and "recovery" in warnings[0]


def test_missing_bucket_is_an_error(aws, capfd, tmp_path):
    text = outcome(capfd, main(*AWS_FLAGS, "--asset-bucket", "no-such-bucket"))
    assert "no-such-bucket" in text and "--asset-bucket" in text
    assert list(tmp_path.iterdir()) == []


def put_assets(client, count, database_id="db01", key="%s/model.glb"):
    for number in range(count):
        asset_id = "a%02d" % number
        item = {"databaseId": S(database_id), "assetId": S(asset_id), "assetLocation": M(Key=S(key % asset_id))}
        client.put_item(TableName="assets", Item=item)


@pytest.mark.parametrize("keys", ["assetId assetVersionId", "databaseId", "assetId"])
def test_another_table_than_that_of_assets_holds_nothing_to_look_for_files_of(aws, capfd, keys):
    """Such as the other one of the two, which holds records once a few assets were migrated."""
    parts = keys.split()
    schema = [{"AttributeName": part, "KeyType": kind} for part, kind in zip(parts, ("HASH", "RANGE"))]
    types = [{"AttributeName": part, "AttributeType": "S"} for part in parts]
    aws.create_table(TableName="wrong", KeySchema=schema, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST")
    aws.put_item(TableName="wrong", Item={part: S("a") for part in parts})
    for flags in ([], ["--dry-run"]):
        text = outcome(capfd, main(*AWS_FLAGS, "--assets-table", "wrong", *flags))
        assert "table wrong has the key %s" % parts[0] in text and "not exchanged" in text
        assert "bucket %s" % BUCKET in text and "files" not in text.split("Preflight:")[1]


def test_a_bucket_that_holds_no_files_of_the_assets_is_an_error(aws, capfd):
    put_assets(aws, 10)
    text = outcome(capfd, main(*AWS_FLAGS))
    assert "bucket %s holds no files of any of 10 assets" % BUCKET in text and "--bucket-without-files" in text
    assert main(*AWS_FLAGS, "--bucket-without-files") == 0
    assert main(*AWS_FLAGS, "--dry-run", "--bucket-without-files") == 0


def test_one_asset_with_files_in_the_bucket_is_enough(aws, capfd):
    import boto3

    put_assets(aws, 15)
    boto3.client("s3").put_object(Bucket=BUCKET, Key="a07/other.glb", Body=b"x")
    assert main(*AWS_FLAGS) == 0
    assert ("ok", "bucket %s holds files of the assets" % BUCKET) in [
        (level, text.strip()) for level, text in checks(capfd)
    ]


@pytest.mark.parametrize("count, database_id, key", [
    (9, "db01", "%s/model.glb"),
    (30, "db01#deleted", "%s/model.glb"),
    (30, "db01", "pipelines/%s"),
    (30, "db01", "%s.glb"),
])  # fmt: skip
def test_a_sample_that_does_not_tell_is_no_error(aws, capfd, count, database_id, key):
    put_assets(aws, count, database_id, key)
    assert main(*AWS_FLAGS) == 0
    assert [text for level, text in checks(capfd) if level == "skipped" and "too few assets" in text]


def test_files_that_cannot_be_looked_for_are_a_warning(aws, monkeypatch, capfd):
    put_assets(aws, 10)
    make_client = migration.make_client

    def make(session, service, settings):
        client = make_client(session, service, settings)
        if service == "s3":
            monkeypatch.setattr(client, "list_objects_v2", denied)
        return client

    def denied(**request):
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListObjectsV2")

    monkeypatch.setattr(migration, "make_client", make)
    assert main(*AWS_FLAGS) == 0
    assert [text for level, text in checks(capfd) if level == "warning" and "could not be looked for" in text]


def test_a_drive_that_is_not_there_is_no_traceback(tables, monkeypatch, capfd):
    def missing(path):
        raise OSError(2, "The system cannot find the path specified")

    monkeypatch.setattr(migration.shutil, "disk_usage", missing)
    assert main(*tables.flags, "--limit", "0") == 0
    assert "cannot find the path" in capfd.readouterr().out


@pytest.mark.parametrize(
    "status, code, level", [(403, "403", "warning"), (404, "404", "error"), (500, "500", "warning")]
)
def test_what_head_bucket_answers(aws, monkeypatch, capfd, status, code, level):
    from botocore.stub import Stubber

    make_client = migration.make_client

    def make(session, service, settings):
        client = make_client(session, service, settings)
        if service == "s3":
            stub = Stubber(client)
            stub.add_client_error("head_bucket", service_error_code=code, http_status_code=status)
            stub.activate()
        return client

    monkeypatch.setattr(migration, "make_client", make)
    assert main(*AWS_FLAGS) == (3 if level == "error" else 0)
    assert [text for found, text in checks(capfd) if found == level and BUCKET in text]


def test_several_failures_are_reported_together(aws, capfd):
    recover(aws, "versions", False)
    text = outcome(capfd, main(*AWS_FLAGS, "--assets-table", "missing", "--asset-bucket", "no-such-bucket"))
    error = text[text.index("error: ") :]
    assert "table missing" in error and "no-such-bucket" in error
    assert text.count("list-tables") == text.count("--asset-bucket") == 1
    assert error.count("list-tables") == error.count("--asset-bucket") == 1
    assert "recovery of versions is off" in text


def test_same_table_by_name_and_arn_in_an_account(aws, capfd):
    arn = aws.describe_table(TableName="assets")["Table"]["TableArn"]
    assert "both names mean" in outcome(capfd, main(*AWS_FLAGS, "--asset-versions-table", arn))


def test_table_that_is_not_active(aws, monkeypatch, capfd):
    from botocore.stub import Stubber

    make_client = migration.make_client
    described = aws.describe_table(TableName="assets")["Table"]
    table = {name: described[name] for name in ("KeySchema", "AttributeDefinitions", "TableArn", "ItemCount")}

    def make(session, service, settings):
        client = make_client(session, service, settings)
        if service == "dynamodb":
            stub = Stubber(client)
            for name in ("assets", "versions"):
                stub.add_response("describe_table", {"Table": dict(table, TableStatus="UPDATING", TableName=name)})
            for _ in range(2):
                stub.add_client_error("describe_continuous_backups", "AccessDeniedException")
            stub.activate()
        return client

    monkeypatch.setattr(migration, "make_client", make)
    text = outcome(capfd, main(*AWS_FLAGS))
    assert "UPDATING" in text and "ACTIVE" in text


def test_dry_run_is_checked_too(aws, capfd):
    outcome(capfd, main(*AWS_FLAGS, "--dry-run", "--assets-table", "missing"))


def test_readme_is_named_by_errors_only_if_it_is_there():
    text = Path(migration.__file__).read_text(encoding="utf-8")
    assert "README" not in text or Path(migration.__file__).with_name("README.md").exists()


@pytest.mark.parametrize("answering", [True, False])
def test_a_copied_test_configuration_is_led_to_its_endpoint(tables, capfd, answering):
    endpoint = tables.engine.endpoint_url if answering else "http://127.0.0.1:1"
    flags = ["--assets-table", "mine", "--asset-versions-table", "mine-too", "--asset-bucket", BUCKET]
    text = outcome(capfd, main(*flags, "--endpoint-url", endpoint))
    assert endpoint in text
    assert "For tables in AWS, leave out endpoint_url" in text
    started = "Fix: start what serves http://127.0.0.1:1; `python local_dynamodb.py` does for sample assets."
    assert (started in text) == (not answering)


# --------------------------------------------------------------------------------------
# What differs between accounts, networks and tables
# --------------------------------------------------------------------------------------


def answering(monkeypatch, service, answer):
    """Have a service's requests answered by answer(request), which may raise."""
    make_client = migration.make_client

    def make(session, name, settings):
        client = make_client(session, name, settings)
        if name == service:
            client.meta.events.register_first("before-send.*", lambda request, **unused: answer(request))
        return client

    monkeypatch.setattr(migration, "make_client", make)


def unreachable(request):
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url=request.url)


def test_sts_that_cannot_be_reached_is_a_warning_and_the_tables_tell_the_account(aws, monkeypatch, capfd, tmp_path):
    answering(monkeypatch, "sts", unreachable)
    assert main(*AWS_FLAGS) == 0
    output = capfd.readouterr().out
    (warning,) = re.findall(r"^  warning .*", output, re.M)
    assert "the account is unknown" in warning and "sts" in warning
    (summary,) = (tmp_path / "reports").glob("*_summary.json")
    assert json.loads(summary.read_text())["account"] == "123456789012"


def test_sts_that_may_not_be_asked_is_a_warning_too(aws, monkeypatch, capfd):
    """By the policy of a VPC endpoint."""
    from botocore.exceptions import ClientError

    def deny(request):
        message = "User: arn:aws:iam::123456789012:user/u is not authorized to perform: sts:GetCallerIdentity"
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, "GetCallerIdentity")

    answering(monkeypatch, "sts", deny)
    assert main(*AWS_FLAGS) == 0
    (warning,) = re.findall(r"^  warning .*", capfd.readouterr().out, re.M)
    assert "the account is unknown" in warning and "GetCallerIdentity" in warning


def test_an_endpoint_for_all_services_that_is_none_of_aws_is_an_error_with_its_remedy(aws, monkeypatch, capfd):
    """AWS_ENDPOINT_URL, or the profile, names DynamoDB Local: it answers STS too, with something else."""
    from botocore.awsrequest import AWSResponse

    class Body:
        def stream(self, **unused):
            yield b'{"__type": "MissingAuthenticationToken"}'

    answering(monkeypatch, "sts", lambda request: AWSResponse(request.url, 400, {}, Body()))
    assert main(*AWS_FLAGS) == 3
    said = capfd.readouterr()
    assert "Cannot ask STS for the account: what answers is not STS of AWS.\n" in said.err
    assert "Fix: see what AWS_ENDPOINT_URL, or endpoint_url in the profile, names" in said.err


def test_a_wrong_clock_is_an_error_with_its_remedy(aws, monkeypatch, capfd):
    from botocore.exceptions import ClientError

    def refuse(request):
        message = "Signature expired: 20260101T000000Z is now earlier than 20261128T000000Z"
        raise ClientError({"Error": {"Code": "SignatureDoesNotMatch", "Message": message}}, "GetCallerIdentity")

    answering(monkeypatch, "sts", refuse)
    assert "clock" in outcome(capfd, main(*AWS_FLAGS))


@pytest.mark.parametrize(
    "url, is_aws",
    [
        (None, True),
        ("https://dynamodb.us-east-1.amazonaws.com", True),
        ("https://vpce-0a1b-2c3d.dynamodb.us-east-1.vpce.amazonaws.com", True),
        ("https://vpce-0a1b-2c3d.dynamodb.us-gov-west-1.vpce.amazonaws.com/", True),
        ("https://vpce-0a1b-2c3d.dynamodb.cn-north-1.vpce.amazonaws.com.cn:443", True),
        ("https://111122223333.ddb.us-east-1.api.aws", True),
        ("http://localhost:8000", False),
        ("http://dynamodb:8000", False),
        ("https://amazonaws.com.example.org", False),
        ("https://notamazonaws.com", False),
        ("https://example.org/dynamodb.us-east-1.amazonaws.com", False),
    ],
)
def test_what_is_aws(url, is_aws):
    names = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": BUCKET}
    assert migration.is_aws(migration.resolve_settings({}, {}, {**names, "endpoint_url": url})) is is_aws


def test_an_interface_endpoint_is_checked_like_aws(aws, capfd, tmp_path):
    """Nothing is skipped. moto knows AWS's own endpoints only."""
    assert main(*AWS_FLAGS, "--endpoint-url", "https://dynamodb.us-east-1.amazonaws.com") == 0
    output = capfd.readouterr().out
    assert "skipped  account" not in output
    assert "account 123456789012" in output and "recovery of assets is on" in output


def test_an_interface_endpoint_without_credentials(tmp_path):
    url = "https://vpce-0a1b.dynamodb.us-east-1.vpce.amazonaws.com"
    done = run_without_credentials(tmp_path, "--region", "us-east-1", "--endpoint-url", url)
    assert done.returncode == 3 and "credentials" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("account, region", [("999988887777", "us-east-1"), ("123456789012", "eu-west-1")])
@pytest.mark.parametrize("exists", [True, False], ids=["of_the_same_name", "missing"])
def test_a_table_of_another_account_or_region_is_refused(aws, capfd, account, region, exists):
    arn = "arn:aws:dynamodb:%s:%s:table/%s" % (region, account, "assets" if exists else "theirs")
    text = outcome(capfd, main(*AWS_FLAGS, "--assets-table", arn))
    error = text[text.index("error: ") :]
    if exists or account != "123456789012":
        assert "account %s" % account in error and region in error
    assert arn in error or "was not found" in error


def test_an_arn_of_the_own_account_is_the_tables_name(aws, tmp_path):
    arns = [aws.describe_table(TableName=name)["Table"]["TableArn"] for name in ("assets", "versions")]
    flags = ["--assets-table", arns[0], "--asset-versions-table", arns[1]]
    assert main(*AWS_FLAGS, *flags) == 0
    (summary,) = (tmp_path / "reports").glob("*_summary.json")
    used = json.loads(summary.read_text())["settings"]
    assert (used["assets_table_name"], used["asset_versions_table_name"]) == ("assets", "versions")


def test_everything_works_by_arns(tables):
    """Also a rollback whose journal was written by names."""
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    tables.put(asset("a"))
    before = tables.contents()
    names = [tables.assets, tables.versions]
    arns = [tables.client.describe_table(TableName=name)["Table"]["TableArn"] for name in names]
    flags = ["--assets-table", arns[0], "--asset-versions-table", arns[1]]
    run = tables.migrate(*flags)
    assert run.status == 0 and run.summary["outcomes"]["migrated"] == 1
    assert rollback.main([*tables.flags, "--yes", "--journal", str(run.journal)]) == 0
    run = tables.migrate()
    assert rollback.main([*tables.flags, *flags, "--yes", "--journal", str(run.journal), "--report-dir", "other"]) == 0
    assert tables.contents() == before


NAMED = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": BUCKET}


@pytest.fixture
def indexed_tables(tables):
    """With an index of whole items, one whose attributes the migration writes, and one of others."""

    def index(name, projection):
        return {"IndexName": name, "KeySchema": [{"AttributeName": "assetType", "KeyType": "HASH"}],
                "Projection": projection}  # fmt: skip

    tables.client.delete_table(TableName=tables.assets)
    keys = ("databaseId", "assetId")
    tables.client.create_table(
        TableName=tables.assets,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in (*keys, "assetType")],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in zip(keys, ("HASH", "RANGE"))],
        GlobalSecondaryIndexes=[
            index("whole", {"ProjectionType": "ALL"}),
            index("ours", {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["assetLocation"]}),
            index("others", {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["assetName"]}),
            index("keys", {"ProjectionType": "KEYS_ONLY"}),
        ],
    )
    return tables


def test_indexes_are_listed_and_counted_into_the_write_units(indexed_tables, capfd):
    indexed_tables.put(asset("a"))
    assert indexed_tables.migrate("--dry-run").summary["outcomes"]["migrated"] == 1
    listed = re.findall(r"^  ok +index (\S+) of (\S+):", capfd.readouterr().out, re.M)
    assert sorted(listed) == [("ours", indexed_tables.assets), ("whole", indexed_tables.assets)]
    run = indexed_tables.migrate()
    # An asset of two KB at most with two indexes, and its version record.
    assert run.summary["write_units"] == 3 * migration.write_units(len(json.dumps(asset("a")))) + 1


def checked(tables, **changes):
    """What is said of the assets table where its description is another."""
    table = {**tables.client.describe_table(TableName=tables.assets)["Table"], **changes}

    class Client:
        class meta:
            region_name = "us-east-1"

        @staticmethod
        def describe_table(TableName):
            return {"Table": table}

    settings = migration.resolve_settings({}, {}, NAMED)
    found, checks = migration.check_table(Client, tables.assets, ("databaseId", "assetId"), settings)
    assert found is table
    return checks + migration.check_replicas(table)


def test_a_table_whose_index_is_being_made_is_a_warning(tables):
    schema = tables.client.describe_table(TableName=tables.assets)["Table"]["KeySchema"]
    index = {"IndexName": "new", "IndexStatus": "CREATING", "KeySchema": schema,
             "Projection": {"ProjectionType": "KEYS_ONLY"}}  # fmt: skip
    (check,) = checked(tables, TableStatus="UPDATING", GlobalSecondaryIndexes=[index])
    assert check.level == "warning" and "UPDATING" in check.text and "new is CREATING" in check.text and check.fix
    index["IndexStatus"] = "ACTIVE"
    (check,) = checked(tables, TableStatus="UPDATING", GlobalSecondaryIndexes=[index])
    assert check.level == "error"


@pytest.mark.parametrize(
    "status, word", [("INACCESSIBLE_ENCRYPTION_CREDENTIALS", "KMS"), ("ARCHIVED", "restore"), ("CREATING", "wait")]
)
def test_what_to_do_of_a_table_that_is_not_active(tables, status, word):
    (check,) = checked(tables, TableStatus=status)
    assert check.level == "error" and status in check.text and word in check.fix


def test_replicas_in_other_regions_are_a_warning(tables):
    """There the last write wins, whatever its condition was."""
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/assets"
    region = "us-east-1"
    replicas = [{"RegionName": name} for name in ("eu-west-1", region, "eu-central-1")]
    ok, warning = checked(tables, TableArn=arn, Replicas=replicas)
    assert (ok.level, warning.level) == ("ok", "warning")
    assert "eu-central-1, eu-west-1 meanwhile" in warning.text and region not in warning.text and warning.fix
    assert len(checked(tables, TableArn=arn, Replicas=replicas, MultiRegionConsistency="STRONG")) == 1
    assert len(checked(tables, TableArn=arn, Replicas=[{"RegionName": region}])) == 1


def test_replicas_concern_who_writes(tables, monkeypatch, capfd):
    check_table = migration.check_table

    def replicated(*arguments):
        table, checks = check_table(*arguments)
        return {**table, "Replicas": [{"RegionName": "eu-west-1"}]}, checks

    monkeypatch.setattr(migration, "check_table", replicated)
    assert tables.migrate("--limit", "0").status == 0
    warnings = re.findall(r"^  warning +table (\S+) has replicas", capfd.readouterr().out, re.M)
    assert warnings == [tables.assets, tables.versions]
    load_script("v2.2_to_v2.3_migration_verify.py").main(tables.flags)
    assert "replicas" not in capfd.readouterr().out


def test_cloudshell_is_a_warning(tables, monkeypatch, capfd):
    tables.migrate("--limit", "0")
    assert "CloudShell" not in capfd.readouterr().out
    monkeypatch.setenv("AWS_EXECUTION_ENV", "CloudShell")
    assert tables.migrate("--limit", "0").status == 0
    assert re.search(r"^  warning .*CloudShell", capfd.readouterr().out, re.M)


# --------------------------------------------------------------------------------------
# The writes that are tried
# --------------------------------------------------------------------------------------


PASSING = ("ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError", "TransactionConflict")


def sent_by(monkeypatch):
    sent, execute = [], migration.Database.execute

    def watched(database, statements):
        sent.extend(json.loads(statement)["Statement"] for statement in statements)
        return execute(database, statements)

    monkeypatch.setattr(migration.Database, "execute", watched)
    return sent


def test_writes_are_tried_in_both_tables_and_write_nothing(tables, monkeypatch):
    sent = sent_by(monkeypatch)
    assert tables.migrate("--limit", "0").status == 0
    assert [" ".join(text.split()[: 2 if text.startswith("UPDATE") else 3]) for text in sent] == [
        'UPDATE "%s"' % tables.assets,
        'DELETE FROM "%s"' % tables.assets,
        'UPDATE "%s"' % tables.versions,
        'DELETE FROM "%s"' % tables.versions,
        'INSERT INTO "%s"' % tables.versions,
    ]
    assert all(" = ? AND " in text and " IS MISSING" in text for text in sent[:4])
    assert tables.contents() == ({}, {})


def test_a_condition_is_tried_on_an_asset_too(tables, monkeypatch):
    """By a write that would change nothing, were it done."""
    tables.put(asset("a"))
    before = tables.contents()
    sent = sent_by(monkeypatch)
    assert tables.migrate("--limit", "0").status == 0
    head, where, conditions = sent[-1].partition(" WHERE ")
    assert head == 'UPDATE "%s" REMOVE "%s"' % (tables.assets, migration.PROBE_KEY)
    statement = {"TableName": tables.assets, "Key": {"databaseId": S("db01"), "assetId": S("a")}}
    tables.client.update_item(**statement, UpdateExpression="REMOVE #n", ExpressionAttributeNames={"#n": "no-such"})
    assert tables.contents() == before


@pytest.mark.parametrize(
    "throttled, code", [("read_page", None), ("execute", None), *(("execute", code) for code in PASSING)]
)
def test_a_try_that_is_not_served_is_made_again(tables, monkeypatch, capfd, throttled, code):
    """A request, or one statement of it."""
    tables.put(asset("a"))
    sent = sent_by(monkeypatch)
    genuine, times = getattr(migration.Database, throttled), []

    def at_first_throttled(database, *arguments):
        times.append(1)
        if len(times) < 3 and code is None:
            raise migration.TryAgain(migration.THROTTLED)
        answer = genuine(database, *arguments)
        return ([*answer[0][:-1], (code, "")], answer[1]) if len(times) < 3 else answer

    monkeypatch.setattr(migration.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(migration.Database, throttled, at_first_throttled)
    assert tables.migrate("--limit", "0").status == 0
    assert "writes: permitted" in capfd.readouterr().out and migration.PROBE_KEY in sent[-1]


def test_a_run_that_writes_nothing_tries_no_writes(tables, monkeypatch):
    tables.put(migrated("a"))
    tables.put_records(record("a"))
    sent = sent_by(monkeypatch)
    assert tables.migrate("--dry-run").status == 0
    assert load_script("v2.2_to_v2.3_migration_verify.py").main(tables.flags) == 0
    assert sent == []


def test_a_rollback_tries_them_too(tables, monkeypatch):
    tables.put(asset("a"))
    run = tables.migrate()
    sent = sent_by(monkeypatch)
    flags = [*tables.flags, "--yes", "--journal", str(run.journal)]
    assert load_script("v2.2_to_v2.3_migration_rollback.py").main([*flags, "--dry-run"]) == 0
    assert sent == []
    assert load_script("v2.2_to_v2.3_migration_rollback.py").main(flags) == 0
    assert len([text for text in sent if migration.PROBE_KEY not in text]) >= 2


def test_no_write_is_tried_where_something_is_wrong_already(tables, monkeypatch, capfd):
    sent = sent_by(monkeypatch)
    outcome(capfd, main(*tables.flags, "--assets-table", tables.versions, "--asset-versions-table", tables.assets))
    assert sent == []


@pytest.mark.parametrize("whole_request", [True, False])
def test_all_that_is_denied_is_named(tables, monkeypatch, capfd, whole_request):
    """AWS may deny a statement or the whole request."""
    execute = migration.Database.execute

    def deny(database, statements):
        denied = [text for text in statements if "DELETE" in text or tables.versions in text]
        if denied and whole_request:
            what = "dynamodb:PartiQL on %s" % denied[0][:40]
            raise migration.fatal_error("AccessDenied", what, "write")
        results, units = execute(database, statements)
        refused = ("AccessDenied", "not authorized")
        return [refused if text in denied else result for text, result in zip(statements, results)], units

    monkeypatch.setattr(migration.Database, "execute", deny)
    text = outcome(capfd, main(*tables.flags))
    assert len(re.findall(r"^  error +AWS does not permit", text, re.M)) == 4
    assert "IAM policy" in text and tables.contents() == ({}, {})


def test_writes_that_are_not_served_are_a_warning(tables, monkeypatch, capfd):
    def throttled(database, statements):
        raise migration.TryAgain(migration.THROTTLED)

    monkeypatch.setattr(migration.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(migration.Database, "execute", throttled)
    assert tables.migrate("--limit", "0").status == 0
    assert re.search(r"^  warning +writes could not be tried", capfd.readouterr().out, re.M)


def test_a_dry_run_during_a_rollback_says_so(tables, capfd):
    tables.put(asset("a"), asset("b"))
    assert main(*tables.flags, "--limit", "1") == 0
    (journal,) = (tables.folder / "backups").iterdir()
    with contextlib.ExitStack() as locks:
        migration.JournalFile(str(journal)).take(locks)
        for flags, status, level in (["--dry-run"], 0, "warning"), ([], 3, "error"):
            capfd.readouterr()
            assert main(*tables.flags, *flags) == status
            said = "%-7s  a rollback on these tables is under way, with the journal backups/" % level
            assert said in capfd.readouterr().out
