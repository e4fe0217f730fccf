"""Preflight: every check before the verdict, each with its remedy; DynamoDB Local and moto."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BUCKET
from v22 import M, S

import local_dynamodb
from load_migration import migration

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
    (["--region", "us-east-1", "--profile", "nobody"], ["nobody", "--profile"], 3),
    (["--endpoint-url", "http://127.0.0.1:9", "--profile", "nobody"], ["nobody", "--profile"], 3),
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
    import json

    assert main(*AWS_FLAGS) == 0
    (summary,) = (tmp_path / "reports").glob("*_summary.json")
    settings = migration.resolve_settings(migration.CONFIG, {}, dict(zip(NAMES, AWS_FLAGS[1::2])))
    site = migration.preflight(migration.make_session(settings), aws, settings)
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
    assert "list-tables" in error and "--asset-bucket" in error
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
