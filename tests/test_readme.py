"""The README names every flag, key, code and exit status that exists, and no others."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from load_migration import migration

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(path.name for path in ROOT.glob("v2.2_to_v2.3_migration*.py"))


def flags_of(script):
    run = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    return set(re.findall(r"--[a-z][a-z-]*", run.stdout.decode()))


def test_all_four_scripts_exist():
    assert SCRIPTS == [
        "v2.2_to_v2.3_migration.py",
        "v2.2_to_v2.3_migration_rollback.py",
        "v2.2_to_v2.3_migration_test.py",
        "v2.2_to_v2.3_migration_verify.py",
    ]


def test_every_flag_is_in_the_readme_and_every_one_in_it_exists():
    existing = set().union(*(flags_of(script) for script in SCRIPTS))
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README))
    assert existing - mentioned == set()
    assert mentioned - existing == set()


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


def test_every_exit_status_is_in_the_readme():
    statuses = {value for name, value in vars(migration).items() if name.startswith("EXIT_")}
    section = README.split("## Exit status")[1].split("\n## ")[0]
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == statuses


def test_every_file_that_the_readme_names_exists():
    for name in re.findall(r"`\.?/?((?:v2\.2|run_|local_|CONTRIBUTING)[\w.]*\.(?:py|sh|ps1|json|md))", README):
        assert (ROOT / name).is_file(), name


def test_every_link_inside_the_readme_leads_somewhere():
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


@pytest.mark.parametrize("name", ["config", "test_config", "prod_config"])
def test_the_configurations_are_accepted(name):
    path = ROOT / ("v2.2_to_v2.3_migration_%s.json" % name)
    values = migration.read_config_file(str(path))
    assert "comments" in json.loads(path.read_text(encoding="utf-8"))
    own = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}
    settings = migration.resolve_settings(migration.CONFIG, values, own)
    assert settings.batch_size == (10 if name == "test_config" else 25)
    assert settings.dry_run is (name == "test_config")
