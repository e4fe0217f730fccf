"""spec.md section 2, row by row, on DynamoDB Local: what is stored and what is reported.

All cases lie in one table; one dry run and one real run treat them at once.
"""

import collections
import types
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence

import pytest
from conftest import Tables, normal
from v22 import KEPT, LEGACY, NULL, L, M, N, S, asset, changed, migrated, record, version

import local_dynamodb
from load_migration import migration

STARTED = S("<the time the run started>")
NO_RECORD = None
BIG = "12345678901234567890123456789012345678"


class Case(NamedTuple):
    """An asset that differs from `asset()` by `given`, and how the result differs from
    `migrated()` and `record()`. `rows`: (code, field) of each row of the report."""

    name: str
    given: Dict[str, Any] = {}
    asset: Dict[str, Any] = {}
    record: Any = {}
    rows: Sequence[Any] = ()
    outcome: str = "migrated"
    records: Sequence[Any] = ()  # that exist before the run, as changes of `record()`


def current(**changes):
    return {"currentVersion": version(**changes)}


def of_version(text, name, value, *rows):
    return Case(name, current(Version=value), {"currentVersionId": S(text)}, {"assetVersionId": S(text)}, rows)


def of_record(name, attribute, value, given, *rows):
    return Case(name, given, {}, {attribute: value}, rows)


def untouched(name, code, field, given, **more):
    return Case(name, given, outcome="failed", record=NO_RECORD, rows=[(code, field)], **more)


MISSING = ("version_missing", "currentVersion.Version")
ODD_DATE = ("date_not_recognised", "currentVersion.DateModified")
DROPPED = ("pipelines_dropped", "specifiedPipelines")
ZERO = {"assetVersionId": S("0")}
NO_VERSION = {"comment": S("Version 0, migrated from VAMS v2.2"), "description": KEPT["description"],
              "specifiedPipelines": LEGACY["specifiedPipelines"], "dateCreated": STARTED, **ZERO}  # fmt: skip

VERSION_RECORD = [
    Case("plain"),
    of_version("0", "version_zero", "0"),
    of_version("3", "version_number", N(3)),
    of_version("100", "version_number_exponent", N("1E+2")),
    of_version(BIG, "version_38_digits", N(BIG)),
    of_version("v3", "version_with_v", "v3"),
    of_version("-1", "version_negative", "-1"),
    of_version("0", "version_absent", None, MISSING),
    of_version("0", "version_null", NULL, MISSING),
    of_version("0", "version_empty", "", MISSING),
    of_record("date_one_digit", "dateCreated", S("2025-06-04T07:09:06Z"),
              current(DateModified="June 4 2025 - 07:09:06")),
    of_record("date_two_digits", "dateCreated", S("2025-06-04T07:09:06Z"),
              current(DateModified="June 04 2025 - 07:09:06")),
    of_record("date_leap_day", "dateCreated", S("2024-02-29T00:00:00Z"),
              current(DateModified="February 29 2024 - 00:00:00")),
    of_record("date_no_such_day", "dateCreated", S("February 30 2025 - 00:00:00"),
              current(DateModified="February 30 2025 - 00:00:00"), ODD_DATE),
    of_record("date_other_form", "dateCreated", S("24.06.2025"), current(DateModified="24.06.2025"), ODD_DATE),
    of_record("date_other_month", "dateCreated", S("Juni 24 2025 - 17:59:56"),
              current(DateModified="Juni 24 2025 - 17:59:56"), ODD_DATE),
    of_record("date_absent", "dateCreated", STARTED, current(DateModified=None)),
    of_record("date_null", "dateCreated", STARTED, current(DateModified=NULL)),
    of_record("comment_absent", "comment", S("Version 3, migrated from VAMS v2.2"), current(Comment=None)),
    of_record("comment_empty", "comment", S(""), current(Comment="")),
    of_record("comment_null", "comment", S(""), current(Comment=NULL)),
    of_record("comment_number", "comment", S("42.5"), current(Comment=N("42.5"))),
    of_record("comment_38_digits", "comment", S(BIG), current(Comment=N(BIG))),
    of_record("comment_true", "comment", S("true"), current(Comment={"BOOL": True})),
    of_record("comment_false", "comment", S("false"), current(Comment={"BOOL": False})),
    of_record("description_of_asset", "description", KEPT["description"], current(description=None)),
    Case("description_nowhere", dict(current(description=None), description=None), {"description": None},
         {"description": S("")}, [("name_or_description_missing", "description")]),
    of_record("description_null", "description", S(""), current(description=NULL)),
    of_record("description_empty", "description", S(""), current(description="")),
    of_record("created_by", "createdBy", S("ann"), current(createdBy="ann")),
    of_record("created_by_capital", "createdBy", S("Bob"), current(CreatedBy="Bob")),
    of_record("created_by_empty", "createdBy", S("Bob"), current(createdBy="", CreatedBy="Bob")),
    of_record("created_by_no_text", "createdBy", S("system"), current(createdBy=N(7), CreatedBy=NULL)),
    of_record("pipelines_empty", "specifiedPipelines", L(), current(specifiedPipelines=L())),
    of_record("pipelines_of_asset", "specifiedPipelines", L("asset-pipeline"), current(specifiedPipelines=None)),
    Case("pipelines_nowhere", dict(current(specifiedPipelines=None), specifiedPipelines=None), {},
              {"specifiedPipelines": L()}),
    of_record("pipelines_one_text", "specifiedPipelines", L("p9"), current(specifiedPipelines="p9")),
    of_record("pipelines_set", "specifiedPipelines", L("a", "b", "c"), current(specifiedPipelines={"SS": ["c", "a",
              "b"]})),
    of_record("pipelines_maps", "specifiedPipelines", L("p1", "p2"), current(specifiedPipelines=L(M(name="p1",
              x=N(1)), "p2"))),
    of_record("pipelines_one_map", "specifiedPipelines", L("p1"), current(specifiedPipelines=M(name="p1"))),
    of_record("pipelines_mixed", "specifiedPipelines", L("p1"),
              current(specifiedPipelines=L("p1", N(7), NULL, M(name=N(1)), M(), L("p2"))), DROPPED),
    of_record("pipelines_number", "specifiedPipelines", L(), current(specifiedPipelines=N(7)), DROPPED),
    of_record("pipelines_number_set", "specifiedPipelines", L(), current(specifiedPipelines={"NS": ["7"]}), DROPPED),
    of_record("pipelines_boolean", "specifiedPipelines", L(), current(specifiedPipelines={"BOOL": True}), DROPPED),
]  # fmt: skip

OUTSIDE = ("files_outside_prefix", "assetLocation")
REMOVED = ("preview_location_removed", "previewLocation")
REPLACED = ("preview_bucket_replaced", "previewLocation")


def of_location(name, location, *rows):
    return Case(name, {"assetLocation": location}, rows=rows)


def of_preview(name, preview, key, *rows):
    after = M(Key=key, Bucket="asset-bucket") if key else None
    return Case(name, {"previewLocation": preview}, {"previewLocation": after}, rows=rows)


ODD_VALUES = {
    "text": S("x"),
    "empty": S(""),
    "number": N(7),
    "null": NULL,
    "boolean": {"BOOL": True},
    "binary": {"B": "AAH/"},
    "list": L("x"),
    "empty_list": L(),
    "map": M(x="y", n=NULL),
    "empty_map": M(),
    "text_set": {"SS": ["a", "b"]},
    "number_set": {"NS": ["1", "2.5"]},
    "binary_set": {"BS": ["AAE=", "AAI="]},
}
STRANGE = {
    "digits": N(BIG),
    "small": N("-0.00000000000000000001234567890123"),
    "huge": N("1" + "0" * 125),
    "bytes": {"B": "AAEC/w=="},
    "texts": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.5"]},
    "binaries": {"BS": ["AAE=", "AAI="]},
    "empty": S(""),
    "emptyBytes": {"B": ""},
    "nested": M(a=L(NULL, M(b=L(), c=S(""))), d=NULL),
    "object__type": S("asset"),
    "authEdit": L("editor"),
    'quote"d': S("it's"),
    "Café 模型": S("\U0001f4e6\n\t'\"\\"),
}

ASSET = [
    of_location("location_plain_key", M(Key="location_plain_key/sub/a.glb")),
    of_location("location_done", M(Key="location_done/")),
    of_location("location_v1_bucket", M(Bucket="old-bucket", Key="location_v1_bucket/a.glb")),
    of_location("location_absent", None),
    *[of_location("location_" + name, value) for name, value in ODD_VALUES.items() if name != "text"],
    of_location("location_key_null", M(Key=NULL)),
    of_location("location_key_empty", M(Key="")),
    of_location("location_key_number", M(Key=N(7))),
    of_location("location_file_name", M(Key="boombox.glb"), OUTSIDE),
    of_location("location_pipelines", M(Key="pipelines/location_pipelines/a.glb"), OUTSIDE),
    of_location("location_leading_slash", M(Key="/location_leading_slash/a.glb"), OUTSIDE),
    of_location("location_id_alone", M(Key="location_id_alone"), OUTSIDE),
    of_location("location_longer_id", M(Key="location_longer_id2/a.glb"), OUTSIDE),
    of_preview("preview_same", M(Key="previews/a.png"), "previews/a.png"),
    of_preview("preview_same_bucket", M(Key="a.png", Bucket="asset-bucket"), "a.png"),
    of_preview("preview_other_bucket", M(Key="a.png", Bucket="old-bucket"), "a.png", REPLACED),
    of_preview("preview_empty_bucket", M(Key="a.png", Bucket=""), "a.png"),
    of_preview("preview_more_in_it", M(Key="a.png", Size=N(3)), "a.png"),
    of_preview("preview_text_alone", S("previews/b.png"), "previews/b.png"),
    of_preview("preview_absent", None, None),
    *[of_preview("preview_" + name, value, None, REMOVED) for name, value in ODD_VALUES.items() if name != "text"],
    of_preview("preview_key_null", M(Key=NULL), None, REMOVED),
    of_preview("preview_key_empty", M(Key=""), None, REMOVED),
    of_preview("preview_both_empty", M(Bucket="", Key=""), None, REMOVED),
    Case("nothing_optional", dict.fromkeys(LEGACY)),
    *[
        Case("legacy_" + name, {field: value for field in LEGACY if field != "versions"})
        for name, value in ODD_VALUES.items()
    ],
    Case("versions_odd", {"versions": M(a=N(1))}),
    Case("kept", STRANGE, STRANGE),
]


def of_history(*versions):
    return {"currentVersion": None, "versions": {"L": list(versions)}}


TOUCHED = {"currentVersion": None, "currentVersionId": S("7")}
FROM_HISTORY = ("version_from_history", "currentVersion")

STATES = [
    Case("done", {**migrated("done"), **dict.fromkeys(LEGACY), "currentVersion": None},
         outcome="already_migrated", record=NO_RECORD),
    # Nothing is done to what v2.3 made, whatever we would think of it.
    Case("made_by_v23", {**dict.fromkeys(LEGACY), "currentVersion": None, "currentVersionId": S("1"),
                         "assetLocation": M(Key="elsewhere/", Bucket="other"), "previewLocation": M(Key="")},
         {"currentVersionId": S("1"), "assetLocation": M(Key="elsewhere/", Bucket="other"),
                   "previewLocation": M(Key="")},
         outcome="already_migrated", record=NO_RECORD),
    Case("touched", TOUCHED, {"currentVersionId": S("7")}, NO_RECORD),
    Case("touched_current_null", {**TOUCHED, "currentVersion": NULL}, {"currentVersionId": S("7")}, NO_RECORD),
    Case("touched_own_location", {**TOUCHED, "assetLocation": M(Key="own/", Bucket="own-bucket")},
         {"currentVersionId": S("7"), "assetLocation": M(Key="own/", Bucket="own-bucket")}, NO_RECORD),
    Case("touched_location_without_bucket", {**TOUCHED, "assetLocation": M(Key="touched_location_without_bucket/x")},
         {"currentVersionId": S("7")}, NO_RECORD),
    Case("touched_versions_only", {**dict.fromkeys(LEGACY), "versions": L(M(Version="9")), **TOUCHED},
         {"currentVersionId": S("7")}, NO_RECORD),
    Case("both_same", {"currentVersionId": S("3")}),
    Case("both_same_number", {"currentVersionId": S("3"), **current(Version=N(3))}),
    # Beyond the spec's "remove the fields only": the locations are mended too, as no later run would.
    Case("both_differ_with_record", {"currentVersionId": S("4")}, {"currentVersionId": S("4")},
         NO_RECORD, records=[{"assetVersionId": S("4"), "comment": S("made by v2.3")}]),
    untouched("both_differ", "conflicting_version_ids", "currentVersionId", {"currentVersionId": S("4")}),
    untouched("both_differ_other_record", "conflicting_version_ids", "currentVersionId", {"currentVersionId": S("4")},
              records=[{"assetVersionId": S("5")}]),
    Case("history", of_history(version(Version="1"), version(Version="2")), {"currentVersionId": S("2")},
         {"assetVersionId": S("2")}, [FROM_HISTORY]),
    # After a revert the last one is not the highest.
    Case("history_reverted", of_history(version(Version="2"), version(Version="1", Comment="Reverted")),
         {"currentVersionId": S("1")}, {"assetVersionId": S("1"), "comment": S("Reverted")}, [FROM_HISTORY]),
    Case("history_current_null", {**of_history(version(Version="2")), "currentVersion": NULL},
              {"currentVersionId": S("2")},
         {"assetVersionId": S("2")}, [FROM_HISTORY]),
    *[Case("neither_" + name, {"currentVersion": None, "versions": value}, {"currentVersionId": S("0")}, NO_VERSION,
              [MISSING])
      for name, value in [("absent", None), ("null", NULL), ("empty", L()), ("no_maps", L("1", "2")),
                          ("map", M(Version="2"))]],
    Case("current_empty_map", {"currentVersion": M()}, {"currentVersionId": S("0")},
         NO_VERSION, [MISSING]),
    *[untouched("current_" + name, "invalid_current_version", "currentVersion", {"currentVersion": value})
      for name, value in ODD_VALUES.items() if name not in ("null", "map", "empty_map")],
    *[untouched("version_" + name, "invalid_version_id", "currentVersion.Version", current(Version=value))
      for name, value in [("word", S("three")), ("fraction", S("3.0")), ("number_fraction", N("1.5")), ("only_v",
                S("v")),
                          ("list", L("3")), ("boolean", {"BOOL": True}), ("words", S("3 4")), ("newline", S("3\n"))]],
    untouched("history_bad", "invalid_version_id", "currentVersion.Version", of_history(version(Version="x"))),
    Case("interrupted", records=[{}]),
    Case("interrupted_date_aside", current(DateModified=None), {}, {"dateCreated": S("2020-01-01T00:00:00Z")},
         records=[{"dateCreated": S("2020-01-01T00:00:00Z")}]),
    *[untouched("record_with_other_" + attribute, "version_conflict", "assetVersionId", {},
              records=[{attribute: value}])
      for attribute, value in [("comment", S("another")), ("description", S("another")), ("createdBy", S("ann")),
                               ("specifiedPipelines", L()), ("isCurrentVersion", {"BOOL": False}), ("more", S("x"))]],
    Case("record_of_other_version", records=[{"assetVersionId": S("2"), "comment": S("older")}]),
    Case("archived", {"databaseId": S("db01#deleted")}, {"databaseId": S("db01#deleted")}),
    Case("archived_record_exists", {"databaseId": S("db01#deleted")}, {"databaseId": S("db01#deleted")},
         {"comment": S("another")}, [("archived_twin", "assetVersionId")], records=[{"comment": S("another")}]),
]  # fmt: skip

TOO_LARGE = "item_too_large" + 600 * "e"
WARNINGS = [
    Case("distributable_map", {"isDistributable": M(label="No", value={"BOOL": False})},
         {"isDistributable": M(label="No", value={"BOOL": False})},
         rows=[("is_distributable_not_boolean", "isDistributable")]),
    Case("distributable_text", {"isDistributable": S("False")}, {"isDistributable": S("False")},
         rows=[("is_distributable_not_boolean", "isDistributable")]),
    *[Case(name, rows=[("asset_id_is_shared_prefix", "assetId")]) for name in ("previews", "pipelines",
              "temp-uploads")],
    Case("name_missing", {"assetName": None}, {"assetName": None}, rows=[("name_or_description_missing", "assetName")]),
    Case("description_missing", {"description": None}, {"description": None},
         rows=[("name_or_description_missing", "description")]),
    Case("description_of_null", {"description": NULL}, {"description": NULL},
         rows=[("name_or_description_missing", "description")]),
    Case("many_warnings", dict(current(DateModified="?", specifiedPipelines=N(1)), isDistributable=N(1),
              previewLocation=M(),
                               assetLocation=M(Key="x")),
         {"isDistributable": N(1), "previewLocation": None}, {"dateCreated": S("?"), "specifiedPipelines": L()},
         [ODD_DATE, DROPPED, OUTSIDE, REMOVED, ("is_distributable_not_boolean", "isDistributable")]),
    # DynamoDB itself rejects the asset that would grow above 400 KB, by the new assetLocation.
    untouched(TOO_LARGE, "rejected_by_dynamodb", "",
              {"assetLocation": None, "previewLocation": None, "filler": S("x" * (400 * 1024 - 1240))}),
]  # fmt: skip

# Where spec.md leaves room: what the docstrings of the code say.
SETTLED_BY_THE_CODE = [
    of_record("date_empty", "dateCreated", STARTED, current(DateModified="")),
    of_record("date_number", "dateCreated", S("1750787996"), current(DateModified=N(1750787996)), ODD_DATE),
    of_record("date_list", "dateCreated", STARTED, current(DateModified=L()), ODD_DATE),
    of_record("comment_list", "comment", S('{"L":[{"S":"a"}]}'), current(Comment=L("a"))),
    of_record("pipelines_null", "specifiedPipelines", L(), current(specifiedPipelines=NULL)),
    of_location("location_text", S("boombox.glb"), OUTSIDE),
    Case("id_empty", {"currentVersionId": S("")}),
    Case("id_null", {"currentVersionId": NULL}),
    untouched("id_number", "invalid_version_id", "currentVersionId", {"currentVersionId": N(3)}),
]  # fmt: skip

CASES = VERSION_RECORD + ASSET + STATES + WARNINGS + SETTLED_BY_THE_CODE
assert len({case.name for case in CASES}) == len(CASES)


def given(case):
    return changed(asset(case.name), case.given)


@pytest.fixture(scope="module")
def ran(engine, tmp_path_factory):
    """All cases before and after a dry run and a real run of the migration."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.environment().items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("cases")  # its name is another if a process comes back to this module
        tables = Tables(engine, "assets-" + folder.name, "versions-" + folder.name, folder)
        local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)
        tables.put(*map(given, CASES))
        tables.put_records(*(record(case.name, **changes) for case in CASES for changes in case.records))
        before = tables.contents()
        dry = tables.migrate("--dry-run")
        between = tables.contents()
        real = tables.migrate()
        yield types.SimpleNamespace(
            before=before, dry=dry, between=between, real=real, after=tables.contents(), tables=tables
        )


def rows_of(run, name):
    return sorted((row["outcome"], row["code"], row["field"]) for row in run.rows if row["asset_id"] == name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:40])
def test_row(ran, case):
    key = (changed(asset(case.name), case.asset)["databaseId"]["S"], case.name)
    records = {version_id: item for (asset_id, version_id), item in ran.after[1].items() if asset_id == case.name}
    expected_records = {item["assetVersionId"]["S"]: item for item in (record(case.name, **c) for c in case.records)}
    if case.outcome == "failed":
        assert ran.after[0][key] == ran.before[0][key] == normal(given(case))
    else:
        assert ran.after[0][key] == normal(migrated(case.name, **case.asset))
    if case.record is not NO_RECORD:
        wanted = record(case.name, **case.record)
        if wanted["dateCreated"] == STARTED:
            wanted["dateCreated"] = S(ran.real.summary["started"])
        expected_records[wanted["assetVersionId"]["S"]] = wanted
    assert records == expected_records
    assert rows_of(ran.real, case.name) == sorted((case.outcome, code, field) for code, field in case.rows)


def test_every_code_of_the_specification_is_tried():
    # The others need a second actor: test_migration.py.
    elsewhere = {"changed_during_migration", "vanished"}
    wanted = {
        "version_missing", "date_not_recognised", "pipelines_dropped", "files_outside_prefix",
                  "preview_bucket_replaced",
        "preview_location_removed", "version_from_history", "archived_twin", "is_distributable_not_boolean",
        "asset_id_is_shared_prefix", "name_or_description_missing", "invalid_current_version", "invalid_version_id",
        "conflicting_version_ids", "version_conflict", "rejected_by_dynamodb",
    }  # fmt: skip
    assert {code for case in CASES for code, _ in case.rows} == wanted
    text = Path(migration.__file__).read_text(encoding="utf-8")
    assert all('"%s"' % code in text for code in wanted | elsewhere)


def test_counts_and_exit_status(ran):
    outcomes = collections.Counter(case.outcome for case in CASES)
    codes = collections.Counter(code for case in CASES for code, _ in case.rows)
    for run in (ran.dry, ran.real):
        summary = run.summary
        assert summary["scanned"] == len(CASES) == sum(summary["outcomes"].values())
        if run is ran.real:  # a dry run cannot know what DynamoDB would reject
            assert +collections.Counter(summary["outcomes"]) == outcomes
            assert summary["codes"] == codes
        assert run.status == summary["exit_status"] == 1
    assert ran.real.summary["assets_changed"] == outcomes["migrated"]
    assert ran.real.summary["version_records_written"] == len(ran.after[1]) - len(ran.before[1])


def test_dry_run_says_the_same_and_writes_nothing(ran):
    assert ran.between == ran.before
    assert ran.dry.summary["writes"] == 0 and ran.dry.journal is None
    rejected = {row["asset_id"] for row in ran.real.rows if row["code"] == "rejected_by_dynamodb"}

    def comparable(run):
        return sorted(tuple(row.items()) for row in run.rows if row["asset_id"] not in rejected)

    assert comparable(ran.dry) == comparable(ran.real)


@pytest.mark.parametrize("name, texts", [
    ("location_file_name", ["boombox.glb", "location_file_name/"]),
    ("preview_other_bucket", ["old-bucket"]),
    ("preview_key_null", ["NULL"]),
    ("both_differ", ["4", "3"]),
    ("record_with_other_comment", ["version record 3"]),
    ("version_word", ["three"]),
    (TOO_LARGE, ["size"]),
])  # fmt: skip
def test_message_names_the_matter(ran, name, texts):
    (message,) = [row["message"] for row in ran.real.rows if row["asset_id"] == name]
    assert all(text in message for text in texts), message


def test_second_run_writes_nothing(ran):
    # That DynamoDB rejects it can only be learned by trying.
    ran.tables.client.delete_item(TableName=ran.tables.assets, Key={"databaseId": S("db01"), "assetId": S(TOO_LARGE)})
    before = ran.tables.contents()
    again = ran.tables.migrate()
    assert ran.tables.contents() == before
    assert again.summary["writes"] == 0
    failed = sum(case.outcome == "failed" for case in CASES) - 1
    assert again.summary["outcomes"]["failed"] == failed
    assert again.summary["outcomes"]["already_migrated"] == len(CASES) - 1 - failed
    assert again.status == 1


def test_versions_that_are_not_all_maps_are_no_history():
    plan = migration.plan_asset(asset("x", **of_history(S("1"), version(Version="2"))), "asset-bucket", "now")
    assert (plan.record["assetVersionId"], [finding.code for finding in plan.findings]) == (S("0"), ["version_missing"])
