"""Settings: CONFIG < file < flags, and what is said of wrong ones. No AWS is touched."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from load_migration import load_script, migration

NEEDED = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the migration in an empty folder, with a configuration file if one is given."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # An endpoint that nobody listens to: settings that pass by mistake end in the preflight, with 3.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.chdir(tmp_path)

    def run(*flags, config=None):
        """Returns the exit status, and what it showed on stdout and stderr."""
        if config is not None:
            text = config if isinstance(config, str) else json.dumps({**NEEDED, **config})
            Path("config.json").write_text(text, encoding="utf-8")
            flags = ("--config", "config.json") + flags
        try:
            status = migration.main(list(flags))
        except SystemExit as end:
            status = end.code
        return (status, *capsys.readouterr())

    return run


TABLES = ["--assets-table", "assets", "--asset-versions-table", "versions", "--asset-bucket", "bucket"]
LOCAL = ["--endpoint-url", "http://127.0.0.1:9"]

WRONG = [
    # flags, configuration (a dict goes on top of the needed ones), what the message names
    ("file_missing", ["--config", "missing.json"], None, ["missing.json"]),
    ("file_is_folder", ["--config", "."], None, ["."]),
    ("json_broken", [], '{"assets_table_name": ', ["config.json", "JSON"]),
    ("json_list", [], "[]", ["config.json", "object"]),
    ("json_text", [], '"x"', ["config.json", "object"]),
    ("json_null", [], "null", ["config.json", "object"]),
    ("json_empty_file", [], "", ["config.json", "JSON"]),
    ("key_unknown", [], {"batchsize": 5}, ["batchsize", "'batch_size'"]),
    ("key_unknown_table", [], {"asset_table_name": "x"}, ["asset_table_name", "'assets_table_name'"]),
    ("key_like_nothing", [], {"zzzzzz": 5}, ["zzzzzz"]),
    ("key_twice", [], '{"batch_size": 5, "batch_size": 6}', ["batch_size", "twice"]),
    ("text_for_number", [], {"batch_size": "25"}, ["batch_size", "number"]),
    ("empty_for_number", [], {"batch_size": ""}, ["batch_size", "number"]),
    ("bool_for_number", [], {"workers": True}, ["workers", "number"]),
    ("bool_for_limit", [], {"limit": False}, ["limit", "number"]),
    ("fraction", [], {"batch_size": 2.5}, ["batch_size"]),
    ("number_for_bool", [], {"dry_run": 1}, ["dry_run", "true or false"]),
    ("text_for_bool", [], {"dry_run": "false"}, ["dry_run", "true or false"]),
    ("empty_for_bool", [], {"dry_run": ""}, ["dry_run", "true or false"]),
    ("number_for_text", [], {"assets_table_name": 7}, ["assets_table_name"]),
    ("list_for_text", [], {"asset_bucket_name": ["x"]}, ["asset_bucket_name"]),
    ("number_in_list", [], {"database_id": ["a", 1]}, ["database_id"]),
    ("empty_in_list", [], {"database_id": [""]}, ["database_id"]),
    ("batch_size_0", [], {"batch_size": 0}, ["batch_size", "25"]),
    ("batch_size_26", [], {"batch_size": 26}, ["batch_size", "25"]),
    ("batch_size_26_flag", TABLES + ["--batch-size", "26"], None, ["batch_size", "25"]),
    ("workers_0", [], {"workers": 0}, ["workers"]),
    ("workers_0_flag", TABLES + ["--workers", "0"], None, ["workers"]),
    ("limit_negative", TABLES + ["--limit", "-1"], None, ["limit"]),
    ("max_write_units_0", [], {"max_write_units": 0}, ["max_write_units"]),
    ("max_read_units_0", [], {"max_read_units": 0}, ["max_read_units"]),
    ("bucket_url", [], {"asset_bucket_name": "s3://vams-assets"}, ["asset_bucket_name", "s3://vams-assets", "s3 ls"]),
    ("bucket_arn", TABLES + ["--asset-bucket", "arn:aws:s3:::vams-assets"], None, ["asset_bucket_name", "arn:aws:s3"]),
    ("bucket_path", [], {"asset_bucket_name": "vams-assets/x"}, ["asset_bucket_name"]),
    ("bucket_capitals", TABLES + LOCAL + ["--asset-bucket", "Vams-Assets"], None, ["asset_bucket_name", "Vams-Assets"]),
    ("bucket_short", [], {"asset_bucket_name": "ab"}, ["asset_bucket_name"]),
    ("bucket_long", [], {"asset_bucket_name": "a" * 64}, ["asset_bucket_name"]),
    ("bucket_dots", [], {"asset_bucket_name": "vams..assets"}, ["asset_bucket_name"]),
    ("bucket_address", [], {"asset_bucket_name": "10.0.0.1"}, ["asset_bucket_name"]),
    ("bucket_hyphen", [], {"asset_bucket_name": "-assets"}, ["asset_bucket_name"]),
    ("bucket_newline", [], {"asset_bucket_name": "assets\n"}, ["asset_bucket_name"]),
    ("backslash_path", [], '{"journal_dir": "D:\\backups"}', ["journal_dir", "D:\\backups", "write / or \\\\ for"]),
    ("asset_id_without_database", TABLES + ["--asset-id", "x"], None, ["asset_id", "--database-id"]),
    ("asset_id_of_two_databases", TABLES + ["--asset-id", "x", "--database-id", "a", "--database-id", "b"], None,
              ["asset_id", "--database-id"]),
    ("log_level", [], {"log_level": "LOUD"}, ["log_level", "WARNING"]),
    ("endpoint", [], {"endpoint_url": "localhost:8000"}, ["endpoint_url", "http://"]),
    ("placeholder_table", [], {"assets_table_name": "YOUR_ASSETS_TABLE_NAME"}, ["assets_table_name", "--assets-table"]),
    ("placeholder_bucket", [], {"asset_bucket_name": "PROD_ASSET_BUCKET_NAME"}, ["asset_bucket_name"]),
    ("placeholder_flag", TABLES + ["--asset-bucket", "YOUR_BUCKET"], {"asset_bucket_name": "bucket"},
              ["--asset-bucket still is YOUR_BUCKET"]),
    ("table_empty", [], {"asset_versions_table_name": ""}, ["asset_versions_table_name"]),
    ("empty_flag", ["--asset-bucket", ""], {"asset_bucket_name": "bucket"}, ["--asset-bucket is empty"]),
    ("empty_asset_id", TABLES + ["--database-id", "db01", "--asset-id", ""], None, ["--asset-id is empty"]),
    ("empty_endpoint", TABLES + ["--endpoint-url", ""], None, ["--endpoint-url is empty"]),
    ("empty_log_file", TABLES + ["--log-file", ""], None, ["--log-file is empty"]),
    ("no_text", [], '{"log_file": "a\\ud800"}', ["log_file", "give it in UTF-8"]),
    ("no_utf8", TABLES + ["--journal-dir", "a\udcff"], None, ["journal_dir", "give it in UTF-8"]),
    ("nested", [], "[" * 100000, ["is not valid JSON", "recursion"]),
    ("escape", TABLES + ["--no\x1b[31m"], None, ["unrecognized arguments: --no\\u001b[31m"]),
    ("dry_and_not", TABLES + ["--dry-run", "--no-dry-run"], None, ["not allowed with", "give one of the two"]),
    ("nothing_set", [], None, ["assets_table_name", "asset_versions_table_name", "asset_bucket_name"]),
    ("flag_unknown", TABLES + ["--dryrun"], None, ["--dryrun"]),
    ("flag_abbreviated", TABLES + ["--dry"], None, ["--dry"]),
    ("argument_extra", TABLES + ["now"], None, ["now"]),
    ("flag_without_value", TABLES + ["--limit"], None, ["--limit"]),
    ("limit_word", TABLES + ["--limit", "x"], None, ["--limit", "x"]),
    ("limit_fraction", TABLES + ["--limit", "1.5"], None, ["--limit"]),
    ("table_twice", TABLES + ["--asset-versions-table", "assets"], None, ["assets"]),
    ("table_name_bad", TABLES + ["--assets-table", "no such/table"], None, ["assets_table_name"]),
    ("table_name_short", TABLES + ["--assets-table", "ab"], None, ["assets_table_name"]),
    ("table_name_newline", TABLES + ["--assets-table", "assets\n"], None, ["assets_table_name"]),
    ("log_file", TABLES + ["--log-file", "config.json/x.log"], {}, ["x.log"]),
    ("region", TABLES + LOCAL + ["--region", "not a region"], None, ["region"]),
]  # fmt: skip


@pytest.mark.parametrize("flags, config, texts", [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_settings(run, tmp_path, flags, config, texts):
    status, _, said = run(*flags, config=config)
    assert status == 2
    assert "Traceback" not in said
    assert re.findall(r"^error: ", said, re.M) == ["error: "], said
    assert said.startswith("error: ") and len(re.findall(r"^  Fix: \S", said, re.M)) == 1
    for text in texts:
        assert text in said
    assert [file.name for file in tmp_path.iterdir() if file.name != "config.json"] == []


def resolved(config=None, **flags):
    return migration.resolve_settings({**migration.CONFIG, **NEEDED}, config or {}, flags)


def test_configuration_in_another_encoding(tmp_path, capsys):
    """As `>` of Windows PowerShell writes it."""
    (tmp_path / "config.json").write_text(json.dumps(NEEDED), encoding="utf-16")
    assert migration.main(["--config", str(tmp_path / "config.json")]) == 2
    error = capsys.readouterr().err
    assert "config.json" in error and "save it as UTF-8" in error and "Traceback" not in error


@pytest.mark.parametrize("name", ["vams-assets", "vams.assets.2", "abc", "1" * 63, "10.0.0.1.x"])
def test_names_of_buckets(name):
    assert resolved(asset_bucket_name=name).asset_bucket_name == name


def test_one_asset():
    settings = resolved(database_id=["db01"], asset_id="x")
    assert (settings.database_id, settings.asset_id) == (["db01"], "x")
    assert resolved(database_id=["db01"]).asset_id is None


def test_flags_over_file_over_CONFIG(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"batch_size": 7, "workers": 3, "aws_region": "eu-west-1"}))
    config = dict(migration.CONFIG, **NEEDED, batch_size=5, log_level="ERROR")
    settings = migration.resolve_settings(config, migration.read_config_file(str(path)), {"workers": 2})
    assert (settings.log_level, settings.batch_size, settings.workers) == ("ERROR", 7, 2)


@pytest.mark.parametrize("flags, expected", [([], True), (["--no-dry-run"], False), (["--dry-run"], True)])
def test_dry_run_of_the_file_and_the_flags(flags, expected):
    parser = migration.make_parser("", migration.SETTINGS)
    assert resolved({"dry_run": True}, **vars(parser.parse_args(flags))).dry_run is expected


@pytest.mark.parametrize("key", ["aws_profile", "aws_region"])
@pytest.mark.parametrize("value", ["", None, "YOUR_AWS_PROFILE", "PROD_AWS_REGION"])
def test_unset_profile_and_region(key, value):
    assert getattr(resolved({key: value}), key) is None


def test_a_configuration_file_may_be_named_like_a_placeholder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PROD_CONFIG").write_text('{"no_such_key": 1}')
    assert migration.main(["--config", "PROD_CONFIG"]) == 2
    assert "Unknown key 'no_such_key' in PROD_CONFIG." in capsys.readouterr().err


def test_names_that_are_no_placeholders():
    names = {
        "asset_bucket_name": "prod-assets",
        "assets_table_name": "PROD-assets",
        "asset_versions_table_name": "your_versions",
    }
    assert {name: getattr(resolved(names), name) for name in names} == names


def test_comments_and_private_keys_are_ignored(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"comments": ["a"], "_note": {"x": 1}, "_batch_size": 99, "batch_size": 3}')
    assert migration.read_config_file(str(path)) == {"batch_size": 3}


def test_byte_order_mark_of_a_windows_editor(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"batch_size": 3}')
    assert migration.read_config_file(str(path)) == {"batch_size": 3}


def test_what_is_not_set_names_the_file_and_the_placeholder(tmp_path, capsys):
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"assets_table_name": "YOUR_ASSETS_TABLE_NAME", "asset_bucket_name": "vams"}))
    assert migration.main(["--config", str(path)]) == 2
    message = capsys.readouterr().err
    assert (
        'assets_table_name (--assets-table; the configuration file %s has "YOUR_ASSETS_TABLE_NAME")' % path in message
    )
    assert 'asset_versions_table_name (--asset-versions-table; CONFIG has "YOUR_ASSET_VERSIONS_TABLE_NAME")' in message
    assert (
        "asset_bucket_name" not in message
        and "Fix: put your own values in %s, or name a file that has them, or give" % path in message
    )


def test_a_placeholder_in_the_way_to_another_account_is_named(tmp_path, capfd, monkeypatch):
    """The environment's profile or region, which is used then, may be that of another account."""
    monkeypatch.setattr(migration, "connect", lambda settings: pytest.skip("it goes on"))
    path = tmp_path / "my.json"
    names = {"aws_profile": "YOUR_AWS_PROFILE", "aws_region": "PROD_AWS_REGION"}
    path.write_text(json.dumps({**names, **NEEDED}))
    said = 'warning: %s still is %s, so the environment\'s own is used. If that is meant, make it "".\n'
    for flags, warned in (
        ([], list(names)),
        (["--profile", "p"], ["aws_region"]),
        (["--endpoint-url", "http://h"], []),
    ):
        with pytest.raises(pytest.skip.Exception):
            migration.main(["--config", str(path), *flags])
        assert capfd.readouterr().err == "".join(said % (key, names[key]) for key in warned)


def test_a_placeholder_in_the_file_unsets_nothing_of_config(monkeypatch, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"asset_bucket_name": "YOUR_ASSET_BUCKET_NAME", "workers": 3, "batch_size": None}))
    monkeypatch.setattr(migration, "CONFIG", {"asset_bucket_name": "the-bucket", "workers": 2, "batch_size": 5})
    set_there = migration.without_flags({"config": str(path), "asset_bucket_name": "typed"})
    assert set_there == {"asset_bucket_name": "the-bucket", "workers": 3, "batch_size": 5}


def test_comments_in_config_are_ignored_as_in_a_file(monkeypatch, tmp_path):
    """Who copies a configuration file into it copies those, too."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"comments": {}, "_note": "", "limit": 3}))
    names = {"assets_table_name": "aaa", "asset_versions_table_name": "vvv", "asset_bucket_name": "bucket"}
    config = {**names, "comments": {"limit": "text"}, "_note": "", "_x": 3}
    monkeypatch.setattr(migration, "CONFIG", config)
    settings, configured = migration.read_settings(str(path), {})
    assert (settings.assets_table_name, settings.limit) == ("aaa", 3)
    assert configured == migration.without_flags({"config": str(path)}) == {**names, "limit": 3}


def test_two_configurations_are_refused(capsys):
    assert migration.main(["--config", "a.json", "--config", "b.json"]) == 2
    assert capsys.readouterr().err.startswith("error: --config is given twice: a.json, b.json\n  Fix: ")


def test_limit_0_survives():
    assert resolved(limit=0).limit == 0 and resolved({"limit": 0}).limit == 0 and resolved().limit is None


def test_a_misspelt_flag_gets_its_nearest_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there is.json").write_text("{}")
    for argv, fix in (
        (["--dryrun"], "did you mean --dry-run? `"),
        (["--limit", "3", "--databse-id=db01"], "did you mean --database-id? `"),
        (["-dry-run"], "did you mean --dry-run? `"),
        (["\u2014dry-run"], "did you mean --dry-run? `"),
        (["--xyzzy"], "`"),
        (["--limit", "ten"], "give a whole number, such as --limit 10. `"),
        (["there is.json"], "did you mean --config 'there is.json'? `"),
        (["config.json"], "did you mean --config config.json? A name that has blanks goes in quotes. `"),
        ([" "], "a blank after the \\ at the end of a line is an argument of its own: delete it. `"),
        (["--dry-run", "true"], "a flag such as --dry-run takes no value; the other way round it is --no-dry-run. `"),
        (["--dry-run=true"], "a flag such as --dry-run takes no value; the other way round it is --no-dry-run. `"),
        (["--num-assets", "3"], "`"),
        (["\u2014config", "c.json"], "did you mean --config? `"),
        (["10"], "did you mean --limit 10? `"),
        (["--asset-bucket", "My Bucket"], "give it as `aws s3 ls` shows it: small letters, "),
    ):
        assert migration.main(argv) == 2
        assert "\n  Fix: %s" % fix in capsys.readouterr().err


def test_a_flag_of_the_migration_is_not_taken_for_another_one(capsys):
    """A rollback of one asset is none of all, and not one of the assets table."""
    rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
    assert rollback.main(["--journal", "j", "--database-id", "db01", "--asset-id", "a"]) == 2
    fix = "\n  Fix: this script has no --database-id, which is a flag of the migration. `--help` lists the flags.\n"
    assert capsys.readouterr().err.endswith(fix)


def test_a_rollback_without_journals_is_told_what_to_give(capsys):
    assert load_script("v2.2_to_v2.3_migration_rollback.py").main([]) == 2
    assert "\n  Fix: name the journals or their folder, such as --journal backups. `" in capsys.readouterr().err


def test_database_ids():
    assert resolved({"database_id": "db01"}).database_id == ["db01"]
    assert resolved({"database_id": ["a"]}, database_id=["b", "c", "b"]).database_id == ["b", "c"]


def test_log_level_in_small_letters():
    assert resolved(log_level="debug").log_level == "DEBUG"


def test_every_key_of_CONFIG_has_the_flag_of_the_contract():
    text = "".join(migration.make_parser("", migration.SETTINGS).format_help().split("options")[-1:])
    for flag in [
        "--config",
        "--profile",
        "--region",
        "--endpoint-url",
        "--assets-table",
        "--asset-versions-table",
        "--asset-bucket",
        "--dry-run",
        "--no-dry-run",
        "--limit",
        "--database-id",
        "--batch-size",
        "--workers",
        "--max-write-units",
        "--max-read-units",
        "--asset-id",
        "--journal-dir",
        "--report-dir",
        "--log-level",
        "--log-file",
        "--yes",
    ]:
        assert re.search(r"%s\b" % flag, text), flag


DOCUMENT_CONFIG = {
    "assets_table_name": "YOUR_ASSETS_TABLE_NAME",
    "asset_versions_table_name": "YOUR_ASSET_VERSIONS_TABLE_NAME",
    "asset_bucket_name": "YOUR_ASSET_BUCKET_NAME",
    "aws_profile": None,
    "aws_region": None,
    "log_level": "INFO",
    "batch_size": 25,
    "dry_run": False,
}


@pytest.mark.parametrize(
    "edited, said",
    [
        ('"dry_run": false,', "Not set: "),  # as the document's JSON has it
        ('"dry_run": false, "aws_profile": none,', "Not set: "),
        ('"dry_run" False,', "v2.2_to_v2.3_migration.py cannot be read as Python, line {line}"),
        (
            '"dry_run": no,',
            "v2.2_to_v2.3_migration.py cannot be read as Python, line {line}: name 'no' is not defined.",
        ),
    ],
)
def test_CONFIG_may_be_edited_as_a_configuration_file(tmp_path, edited, said):
    """A mistake in it is told by the other scripts; by itself Python tells it."""
    folder = Path(migration.__file__).parent
    for name in ("load_migration.py", "v2.2_to_v2.3_migration_rollback.py", "v2.2_to_v2.3_migration_verify.py"):
        (tmp_path / name).write_text((folder / name).read_text("utf-8"), "utf-8")
    text = (folder / "v2.2_to_v2.3_migration.py").read_text("utf-8")
    assert text.count('"dry_run": False,') == 1
    (tmp_path / "v2.2_to_v2.3_migration.py").write_text(text.replace('"dry_run": False,', edited), "utf-8")
    command = [sys.executable, str(tmp_path / "v2.2_to_v2.3_migration_verify.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = done.stderr.decode()
    said = said.format(line=text[: text.index('"dry_run": False,')].count("\n") + 1)
    assert done.returncode == 2 and said in errors and "Fix: " in errors and "Traceback" not in errors


def test_CONFIG_is_that_of_the_users_document():
    assert migration.CONFIG == DOCUMENT_CONFIG


@pytest.mark.parametrize("left", [["log_level"], ["batch_size", "dry_run"], ["aws_profile", "aws_region"], []])
def test_any_keys_may_be_left_out_of_CONFIG(left):
    config = {key: value for key, value in {**DOCUMENT_CONFIG, **NEEDED}.items() if key not in left}
    assert migration.resolve_settings(config, {}, {}) == resolved()
    assert migration.resolve_settings({**config, "workers": 3}, {}, {}).workers == 3


def test_defaults():
    settings = resolved()
    assert (settings.log_level, settings.batch_size, settings.dry_run) == ("INFO", 25, False)
    assert (settings.journal_dir, settings.report_dir, settings.workers) == ("backups", "reports", 8)
    assert (settings.database_id, settings.limit, settings.yes) == ([], None, False)


@pytest.mark.parametrize("name", ["config", "prod_config", "test_config"])
def test_provided_files_are_valid(name):
    path = Path(migration.__file__).with_name("v2.2_to_v2.3_migration_%s.json" % name)
    values = migration.read_config_file(str(path))
    assert values["dry_run"] is (name == "test_config")
    if name == "test_config":
        assert migration.resolve_settings(migration.CONFIG, values, {})
    else:
        with pytest.raises(migration.SettingsError, match="assets_table_name"):
            migration.resolve_settings(migration.CONFIG, values, {})


def test_a_template_ends_no_dry_run_of_config(monkeypatch, tmp_path):
    """The wrapper takes it where no file is named: who has filled in CONFIG alone would see a migration begin."""
    names = {"assets_table_name": "aaa", "asset_versions_table_name": "vvv", "asset_bucket_name": "bucket"}
    path = Path(migration.__file__).with_name("v2.2_to_v2.3_migration_config.json")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"asset_bucket_name": "own-bucket", "dry_run": False}))
    for dry_run in (True, False):
        monkeypatch.setattr(migration, "CONFIG", {**names, "dry_run": dry_run})
        for file, expected in ((path, dry_run), (own, False)):
            values = migration.read_config_file(str(file))
            assert migration.resolve_settings(migration.CONFIG, values, {}).dry_run is expected
    monkeypatch.setattr(migration, "CONFIG", {**names, "dry_run": True})
    assert not migration.resolve_settings(names, migration.read_config_file(str(path)), {"dry_run": False}).dry_run


@pytest.mark.parametrize(
    "config, cause",
    [
        (({"limit": 1},), "CONFIG in %s is no dictionary, but a tuple." % migration.__file__),
        ({"aaa", "vvv"}, "CONFIG in %s is no dictionary, but a set." % migration.__file__),
        (None, "CONFIG in %s is no dictionary, but a NoneType." % migration.__file__),
        ("its name is lost", "CONFIG in %s is no dictionary, but gone." % migration.__file__),
        ({7: "aaa"}, "Unknown key 7 in CONFIG."),
        ({"log_level": {"INFO"}}, "log_level in CONFIG is \"{'INFO'}\"."),
    ],
)
def test_a_config_that_is_python_and_no_configuration_is_told(monkeypatch, capsys, tmp_path, config, cause):
    """A comma behind its last line makes a tuple of it."""
    template = Path(migration.__file__).with_name("v2.2_to_v2.3_migration_config.json")
    monkeypatch.setattr(migration, "CONFIG", config)
    if config == "its name is lost":
        monkeypatch.delattr(migration, "CONFIG")
    for script in (
        migration,
        *map(load_script, ("v2.2_to_v2.3_migration_verify.py", "v2.2_to_v2.3_migration_test.py")),
    ):
        for flags in ([], ["--config", str(template)]):
            assert script.main(flags) == 2
            assert capsys.readouterr().err.startswith("error: %s\n  Fix: " % cause)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version(run, flag):
    status, shown, said = run(flag)
    assert (status, said) == (0, "") and shown


def test_nothing_happens_on_import(tmp_path):
    code = "import sys; sys.path.insert(0, %r); import load_migration; print('boto3' in sys.modules)"
    code %= os.path.dirname(migration.__file__)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout == b"False\n" and not list(tmp_path.iterdir())


def test_bytes_in_another_encoding_are_no_database_id(capsys):
    with pytest.raises(migration.SettingsError, match="database_id"):
        migration.resolve_settings(migration.CONFIG, {}, {"database_id": [os.fsdecode(b"db\xff")]})
