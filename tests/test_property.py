"""What holds for every asset, whatever DynamoDB JSON it holds: plan_asset alone, then on the engine."""

import base64
import copy

import pytest
from conftest import BUCKET, normal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from v22 import DELETED, NULL, L, M, N, S, asset, version

from load_migration import migration

plan_asset, Facts = migration.plan_asset, migration.Facts
NOW = "2025-07-01T12:00:00Z"
REMOVED = [
    "isMultiFile",
    "pipelineId",
    "executionId",
    "versions",
    "currentVersion",
    "specifiedPipelines",
    "Parent",
    "objectFamily",
]
OWNED = set(REMOVED) | {"assetLocation", "previewLocation", "currentVersionId"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1).map(str),
    st.integers(0, 12).map(str),
    st.builds("{}.{}".format, st.integers(-(10**9), 10**9), st.integers(1, 10**9)),
    st.builds("{}E{}".format, st.integers(1, 9), st.integers(-120, 120)),
)
binaries = st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode())


def sets(elements, key=lambda element: element):
    return st.lists(elements, min_size=1, max_size=3, unique_by=key)


scalars = st.one_of(
    texts.map(S),
    numbers.map(N),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just(NULL),
    binaries.map(lambda data: {"B": data}),
    sets(texts.filter(bool)).map(lambda values: {"SS": values}),
    sets(st.integers(-999, 999).map(str)).map(lambda values: {"NS": values}),
    sets(binaries.filter(bool)).map(lambda values: {"BS": values}),
)
names = st.one_of(st.sampled_from(["Key", "Bucket", "name", "Version"]), texts.filter(bool))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: {"L": found}),
        st.dictionaries(names, inner, max_size=3).map(lambda found: {"M": found}),
    ),
    max_leaves=5,
)


def either(*likely):
    """Mostly what is likely, else any value at all."""
    return st.one_of(*likely, values)


def maps(**fields):
    return st.fixed_dictionaries({}, optional=fields).map(lambda found: {"M": found})


ids = st.integers(0, 12).map(lambda number: S(str(number)))
dates = st.datetimes().map(
    lambda moment: S(moment.strftime("%B %d ") + "%04d" % moment.year + moment.strftime(" - %H:%M:%S"))
)
pipelines = st.lists(st.one_of(texts.map(S), texts.map(lambda name: M(name=name)), values), max_size=3).map(
    lambda found: {"L": found}
)
versions = maps(
    Version=either(ids, numbers.map(N), texts.map(S)),
    DateModified=either(dates),
    Comment=either(texts.map(S)),
    description=values,
    createdBy=values,
    CreatedBy=values,
    specifiedPipelines=either(pipelines),
    S3Version=values,
)
locations = maps(
    Key=either(st.sampled_from(["a/", "a/b", "x"]).map(S)), Bucket=either(st.sampled_from([BUCKET, "old", ""]).map(S))
)
unknown = st.dictionaries(st.text("abcXYZ_'\" é", min_size=1, max_size=5).map("own".__add__), values, max_size=4)
KEYS = {
    "databaseId": st.sampled_from(["db01", "db01" + DELETED]).map(S),
    "assetId": st.sampled_from(["a", "previews", "ü/x"]).map(S),
}
histories = st.lists(versions, max_size=3).map(lambda found: {"L": found})
known = st.fixed_dictionaries(
    KEYS,
    optional={
        **dict.fromkeys(REMOVED, values),
        **dict.fromkeys(["assetName", "description", "assetType", "isDistributable", "tags"], values),
        "assetLocation": either(locations),
        "previewLocation": either(locations),
        "specifiedPipelines": either(pipelines),
        "currentVersion": either(versions, versions, versions),
        "versions": either(histories),
        "currentVersionId": either(ids),
    },
)
assets = st.builds(lambda one, other: {**one, **other}, unknown, known)
facts = st.builds(Facts, st.booleans(), st.booleans(), repair=st.just(False))  # that one has test_repair.py

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def applied(item, plan):
    after = {**item, **plan.set_attributes}
    return {name: value for name, value in after.items() if name not in plan.remove_attributes}


@many
@given(assets, facts)
@example(asset("a"), Facts())
@example(asset("a", currentVersion={"M": {"Version": N("1E+2")}}), Facts())
@example(asset("a", versions=L(M(Version="1")), currentVersion=None), Facts())
@example(asset("a", currentVersionId="4"), Facts(current_record=True))
@example(asset("a", currentVersion=version(specifiedPipelines={"SS": ["b", "a"]})), Facts(live_twin=True))
def test_every_plan(item, facts):
    before = copy.deepcopy(item)
    plan = plan_asset(item, BUCKET, NOW, facts)
    assert item == before, "the asset was modified"
    assert plan.outcome in ("migrated", "already_migrated", "failed")
    touched = set(plan.set_attributes) | set(plan.remove_attributes)
    assert touched <= OWNED
    if plan.outcome != "migrated":
        assert (plan.record, touched) == (None, set())
        assert bool(plan.findings) == (plan.outcome == "failed")
        return
    after = applied(item, plan)
    again = plan_asset(after, BUCKET, "another time", facts)
    assert (again.outcome, again.record, again.set_attributes, again.findings) == ("already_migrated", None, {}, ())
    assert {n: v for n, v in after.items() if n not in OWNED} == {n: v for n, v in item.items() if n not in OWNED}
    assert not set(REMOVED) & set(after)
    assert not set(plan.set_attributes) & set(plan.remove_attributes)
    assert set(plan.remove_attributes) <= set(item)
    assert after["currentVersionId"]["S"]
    # No lost update: whatever is written over or read is a condition.
    assert touched <= set(plan.expected)
    assert all(plan.expected[name] == item.get(name) for name in plan.expected)
    if plan.record:
        check_record(item, plan)
        check_asset(item, after)


def check_record(item, plan):
    record = plan.record
    assert record["assetId"] == item["assetId"]
    assert record["assetVersionId"] == plan.set_attributes["currentVersionId"]
    int(record["assetVersionId"]["S"].replace("v", ""))  # as the application does
    for name in ("dateCreated", "comment", "description", "createdBy"):
        assert list(record[name]) == ["S"] and isinstance(record[name]["S"], str), name
    assert record["dateCreated"]["S"] and record["createdBy"]["S"]
    assert list(record["isCurrentVersion"]) == ["BOOL"]
    assert list(record["specifiedPipelines"]) == ["L"]
    assert all(list(name) == ["S"] for name in record["specifiedPipelines"]["L"])
    texts_of_it = {"assetId", "assetVersionId", "dateCreated", "comment", "description", "createdBy"}
    assert set(record) == texts_of_it | {"isCurrentVersion", "specifiedPipelines"}


def check_asset(item, after):
    assert after["assetLocation"] == M(Key=item["assetId"]["S"] + "/", Bucket=BUCKET)
    if "previewLocation" in after:
        assert after["previewLocation"]["M"]["Key"]["S"] and after["previewLocation"]["M"]["Bucket"] == S(BUCKET)


@many
@given(assets, facts)
def test_a_plan_depends_on_nothing_but_its_conditions(item, facts):
    """Otherwise a change of something else would go unnoticed and the record would be wrong."""
    plan = plan_asset(item, BUCKET, NOW, facts)
    if plan.outcome == "migrated":
        rest = {name: value for name, value in item.items() if name in plan.expected or name in KEYS}
        again = plan_asset(rest, BUCKET, NOW, facts)
        assert (again.record, again.set_attributes, again.remove_attributes) == (
            plan.record, plan.set_attributes, plan.remove_attributes)  # fmt: skip


@many
@given(st.datetimes())
def test_every_date_of_v22(moment):
    text = moment.strftime("%B %d ") + "%04d" % moment.year + moment.strftime(" - %H:%M:%S")
    plan = plan_asset(asset("a", currentVersion=version(DateModified=text)), BUCKET, NOW)
    assert plan.record["dateCreated"] == S(moment.replace(microsecond=0).isoformat() + "Z")
    assert plan.findings == ()


@many
@given(texts.filter(bool))
def test_other_text_dates_are_kept(text):
    plan = plan_asset(asset("a", currentVersion=version(DateModified=text)), BUCKET, NOW)
    assert plan.record["dateCreated"] == S(text)
    assert [finding.code for finding in plan.findings] == ["date_not_recognised"]


@pytest.fixture(scope="module")
def generated():
    """Some dozens of generated assets, the same ones each time, each with an id of its own."""
    found = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(assets)
    def collect(item):
        asset_id = "%s-%d" % (item["assetId"]["S"], len(found))
        found.append({**item, "assetId": S(asset_id)})

    collect()
    done = [applied(item, plan_asset(item, BUCKET, NOW)) for item in found]
    done = [{**item, "assetId": S("done-%d" % n)} for n, item in enumerate(done) if "currentVersionId" in item]
    return found + done[:9]


def test_the_engine_stores_what_the_plan_says(tables, generated):
    tables.put(*generated)
    before = tables.contents()[0]  # numbers as DynamoDB writes them
    dry = tables.migrate("--dry-run", "--database-id", "db01", "--database-id", "db01" + DELETED)
    run = tables.migrate("--database-id", "db01", "--database-id", "db01" + DELETED)
    expected_assets, expected_records, outcomes = {}, {}, []
    for key, item in before.items():
        plan = plan_asset(item, BUCKET, run.summary["started"])
        outcomes.append(plan.outcome)
        expected_assets[key] = normal(applied(item, plan))
        if plan.record:
            expected_records[(item["assetId"]["S"], plan.record["assetVersionId"]["S"])] = plan.record
    assert len(set(outcomes)) == 3, "the generator makes too few kinds of assets"
    assert tables.contents() == (expected_assets, expected_records)
    for name, count in run.summary["outcomes"].items():
        assert outcomes.count(name) == count == dry.summary["outcomes"][name]
    again = tables.migrate("--database-id", "db01", "--database-id", "db01" + DELETED)
    assert again.summary["writes"] == 0 and tables.contents() == (expected_assets, expected_records)
