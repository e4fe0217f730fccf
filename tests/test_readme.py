"""README.md and SPARK.md name every flag, key, code and exit status that exists, and no others."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import without_partiql
from v22 import M, asset

import local_dynamodb
from benchmarks.front import Front
from load_migration import load_script, migration
from sample_assets import sample_assets

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "SPARK.md")}
README = DOCUMENTS["README.md"]
SCRIPTS = sorted(path.name for path in ROOT.glob("v2.2_to_v2.3_migration*.py"))


def flags_of(script):
    run = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    return set(re.findall(r"--[a-z][a-z-]*", run.stdout.decode()))


def test_all_five_scripts_exist():
    assert SCRIPTS == [
        "v2.2_to_v2.3_migration.py",
        "v2.2_to_v2.3_migration_rollback.py",
        "v2.2_to_v2.3_migration_spark.py",
        "v2.2_to_v2.3_migration_test.py",
        "v2.2_to_v2.3_migration_verify.py",
    ]


def test_every_flag_is_documented_and_every_one_documented_exists():
    existing = set().union(*(flags_of(script) for script in SCRIPTS))
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", without_commands_of_others()))
    assert existing - mentioned == set()
    assert mentioned - existing == set()


@pytest.mark.parametrize("command", [*([script] for script in SCRIPTS), ["guided_run.py", "migrate"]])
def test_every_script_says_its_version(command):
    done = subprocess.run(
        [sys.executable, str(ROOT / command[0]), *command[1:], "--version"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    assert (done.stdout.decode(), done.stderr) == (migration.TOOL_VERSION + "\n", b"")


def test_the_settings_table_has_each_key_with_its_flag_and_default():
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (.*?) \|", README, re.MULTILINE)
    table = {key: (flags, default) for key, flags, default in rows if "`--" in flags}
    assert set(table) == set(migration.SETTINGS) == set(migration.Settings._fields)
    assert set(migration.CONFIG) < set(migration.SETTINGS)
    for key, (flags, default) in table.items():
        assert "`%s`" % migration.SETTINGS[key].flag in flags
        value = migration.SETTINGS[key].default
        if value not in (None, []):
            shown = json.dumps(value) if isinstance(value, bool) else str(value)
            assert default.strip("`") == shown, key


def without_commands_of_others():
    """Both documents without the blocks whose flags are those of the AWS CLI and of Spark."""
    return re.sub(
        r"^```bash\n(?:aws|spark-submit|PYSPARK_SUBMIT_ARGS=).*?^```",
        "",
        "\n".join(DOCUMENTS.values()),
        flags=re.DOTALL | re.MULTILINE,
    )


def codes_in_source(pattern, script="v2.2_to_v2.3_migration.py"):
    return set(re.findall(pattern, (ROOT / script).read_text(encoding="utf-8")))


def test_every_code_of_a_finding_is_in_the_readme():
    codes = codes_in_source(r'(?:Finding|AssetFails|changed_by_others)\(\s*"([a-z_]+)"')
    assert {"version_conflict", "rejected_by_dynamodb", "vanished", "archived_twin"} < codes
    assert {code for code in codes if "`%s`" % code not in README} == set()


def rows_under(heading):
    """The rows of the first table under a heading, as lists of cells."""
    section = README.split("\n%s\n" % heading)[1].split("\n#")[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.*", section, re.MULTILINE)]


@pytest.mark.parametrize("heading, codes", [("### Failures", migration.FAILURES), ("### Warnings", migration.WARNINGS)])
def test_a_code_means_on_the_screen_what_it_means_in_the_readme(heading, codes):
    assert {row[0].strip("`"): row[1] for row in rows_under(heading)} == dict(codes)


def test_every_code_of_a_finding_has_its_meaning():
    further = {"vanished", "not_finished"}
    codes = codes_in_source(r'(?:Finding|AssetFails|changed_by_others)\(\s*"([a-z_]+)"')
    assert codes == {*migration.FAILURES, *migration.WARNINGS, *further}


@pytest.mark.parametrize("outcome", [*migration.OUTCOMES, *migration.DRY_RUN_OUTCOMES.values()])
def test_every_outcome_is_in_the_readme(outcome):
    assert "`%s`" % outcome in README


def blocks_with(first_word):
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [block for block in blocks if block.startswith(first_word)]


def shape(line):
    """A line without its numbers, durations and the operator's name."""
    line = re.sub(r"arn:\S+", "arn", re.sub(r"\d[\d,.]*", "0", line))
    return re.sub(r" +", " ", re.sub(r"\b0 (s|min|h)\b", "0 s", re.sub(r"0T0Z(_0)?", "time", line))).strip()


def preflight_of_an_account(monkeypatch):
    """Have the preflight run in an account of moto's."""
    moto = pytest.importorskip("moto")
    with moto.mock_aws(), monkeypatch.context() as patch:
        import boto3

        without_partiql(patch)

        client = boto3.client("dynamodb")
        local_dynamodb.create_tables(client, "vams-assets", "vams-asset-versions")
        boto3.client("s3").create_bucket(Bucket="vams-bucket")
        migration.main([*VAMS_FLAGS, "--limit", "0"])


VAMS_FLAGS = ["--assets-table", "vams-assets", "--asset-versions-table", "vams-asset-versions"]
VAMS_FLAGS += ["--asset-bucket", "vams-bucket"]


def as_if_steady(pace):
    """A run of seconds is not steady: the front lets what it holds in store through first."""

    def steady_pace(progress):
        first, last = progress.samples[0], progress.samples[-1]
        progress.samples = collections.deque([first, tuple((a + b) / 2 for a, b in zip(first, last)), last], 60)
        return pace(progress)

    return steady_pace


def test_the_samples_of_output_are_made_of_lines_that_runs_print(tables, engine, monkeypatch, capfd):
    monkeypatch.setattr(migration, "STATUS_SECONDS", 1)
    monkeypatch.setattr(migration.Progress, "pace", as_if_steady(migration.Progress.pace))
    monkeypatch.setattr(migration, "python_name", lambda: "python")
    preflight_of_an_account(monkeypatch)
    local_dynamodb.create_tables(tables.client, "vams-assets", "vams-asset-versions")
    try:
        assets = [asset("a%03d" % n, previewLocation=M(Key="x.png", Bucket="old")) for n in range(150)]
        assets += [asset("b%03d" % n, currentVersion=M(Version="x")) for n in range(11)]
        local_dynamodb.load_items(tables.client, "vams-assets", assets)
        pathlib.Path("my_config.json").write_text("{}")
        flags = ["--config", "my_config.json", *VAMS_FLAGS]
        with Front(engine.port, partition_units=25.0) as front:
            connected = [*flags, "--endpoint-url", front.endpoint_url]
            assert migration.main([*connected, "--dry-run"]) == 1
            assert migration.main([*connected, "--log-file", "logs/migration_20261122T204426Z.log"]) == 1
    finally:
        for name in ("vams-assets", "vams-asset-versions"):
            tables.client.delete_table(TableName=name)
    captured = capfd.readouterr()
    printed = {shape(line) for line in (captured.out + captured.err).splitlines()}
    # The command shows the flags and the folder of this test.
    printed.add("python v0_to_v0_migration.py --config my_config.json")
    samples = [blocks_with(word) for word in ("Preflight:", "Plan:", "Result:", "Estimate", "scanned")]
    assert [len(blocks) for blocks in samples] == [1] * 5
    missing = [line for (block,) in samples for line in block.splitlines() if shape(line) not in printed]
    assert missing == []


def test_the_policy_is_what_the_scripts_need_and_no_more(tables, monkeypatch):
    from botocore.client import BaseClient

    used, send, call = set(), migration.Wire.call, BaseClient._make_api_call

    def record_wire(self, operation, request):
        if operation == "BatchExecuteStatement":
            texts = [statement["Statement"] for statement in json.loads(request)["Statements"]]
            used.update("dynamodb:PartiQL" + text.split()[0].capitalize() for text in texts)
        else:
            used.add("dynamodb:" + operation)
        return send(self, operation, request)

    def record_call(self, operation, request):
        used.add("%s:%s" % (self.meta.service_model.endpoint_prefix, operation))
        return call(self, operation, request)

    tables.load(sample_assets(60, databases=1))
    monkeypatch.setattr(migration.Wire, "call", record_wire)
    monkeypatch.setattr(BaseClient, "_make_api_call", record_call)
    run = tables.migrate("--database-id", "db01")
    scripts = {
        "v2.2_to_v2.3_migration.py": [],
        "v2.2_to_v2.3_migration_verify.py": ["--limit", "5", "--journal", str(run.journal)],
        "v2.2_to_v2.3_migration_rollback.py": ["--journal", str(run.journal), "--yes"],
        "v2.2_to_v2.3_migration_test.py": ["--num-assets", "2"],
    }
    for script, flags in scripts.items():
        assert load_script(script).main(tables.flags + flags) == 0, script
    preflight_of_an_account(monkeypatch)
    used -= {"dynamodb:CreateTable", "dynamodb:UpdateContinuousBackups", "s3:CreateBucket"}  # moto's preparation
    used -= {"sts:GetCallerIdentity"}  # needs no permission
    used -= {"dynamodb:BatchExecuteStatement"}  # to see where it would go; it is not sent
    used = {"s3:ListBucket" if action in ("s3:HeadBucket", "s3:ListObjectsV2") else action for action in used}
    (policy,) = [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL) if "Version" in block
    ]
    assert {action for part in policy["Statement"] for action in listed(part["Action"])} == used


def listed(value):
    return value if isinstance(value, list) else [value]


def test_every_exit_status_is_in_the_readme():
    statuses = {value for name, value in vars(migration).items() if name.startswith("EXIT_")}
    section = README.split("## Exit status")[1].split("\n## ")[0]
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == statuses


def test_every_file_that_a_document_names_exists():
    named = r"`\.?/?((?:v2\.2|run_|local_|CONTRIBUTING|README)[\w.]*\.(?:py|sh|ps1|json|md))"
    for name in re.findall(named, "\n".join(DOCUMENTS.values())):
        assert (ROOT / name).is_file(), name


def test_every_link_leads_somewhere():
    places = set()
    for name, text in DOCUMENTS.items():
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        places |= {(name, re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")) for heading in headings}
        places.add((name, ""))
    for name, text in DOCUMENTS.items():
        links = re.findall(r"\]\(([\w.]*)(?:#([^)]*))?\)", text)
        assert {(target or name, anchor) for target, anchor in links} <= places


@pytest.mark.parametrize("name", ["config", "test_config", "prod_config"])
def test_the_configurations_are_accepted(name):
    path = ROOT / ("v2.2_to_v2.3_migration_%s.json" % name)
    values = migration.read_config_file(str(path))
    assert "comments" in json.loads(path.read_text(encoding="utf-8"))
    own = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
    settings = migration.resolve_settings(migration.CONFIG, values, own)
    assert settings.batch_size == (10 if name == "test_config" else 25)
    assert settings.dry_run is (name == "test_config")
