"""sample_assets.py: the same assets everywhere, of every shape, as real tables hold them."""

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from load_migration import HERE
from sample_assets import MONTHS, SHAPES, _Draw, _shaped_assets, sample_assets, sample_shapes


def digest(items):
    return hashlib.sha256(json.dumps(list(items), sort_keys=True).encode()).hexdigest()


DIGEST = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from sample_assets import sample_assets
items = list(sample_assets(300, seed=5)) + list(sample_assets(100, seed=5, databases=3))
print(hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest())
"""


def pythons():
    """This Python, and whichever others of those supported are here."""
    names = ["python3.%d" % minor for minor in range(6, 14)]
    found = [path for path in map(shutil.which, names) if path]
    return [sys.executable] + [path for path in found if subprocess.run([path, "-V"], stderr=-3).returncode == 0]


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_same_arguments_give_the_same_assets_everywhere(hash_seed):
    environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
    expected = list(sample_assets(300, seed=5)) + list(sample_assets(100, seed=5, databases=3))
    for python in pythons():
        printed = subprocess.check_output([python, "-c", DIGEST, HERE], env=environment, text=True)
        assert printed.strip() == digest(expected), python


def test_other_arguments_give_other_assets():
    assert digest(sample_assets(50, seed=1)) != digest(sample_assets(50, seed=2))
    assert digest(sample_assets(50)) != digest(sample_assets(50, databases=4))


def test_fewer_assets_are_the_first_of_more():
    many = list(sample_assets(300))
    for count in (0, 1, 45, 46, 47, 60, 299):
        assert list(sample_assets(count)) == many[:count]


def test_changing_one_asset_changes_no_other():
    for asset in sample_assets(200):
        before = json.dumps(asset)
        for name in ("versions", "currentVersion", "tags", "previewLocation"):
            scribble(asset.get(name))
        assert json.dumps(asset) != before
    assert digest(sample_assets(200)) == digest(sample_assets(200))
    assert "scribbled" not in json.dumps(list(sample_assets(200)))


def scribble(value):
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        scribble(inner)
    if isinstance(value, dict):
        value["scribbled"] = True


def test_keys_are_unique():
    keys = [(asset["databaseId"]["S"], asset["assetId"]["S"]) for asset in sample_assets(20000)]
    assert len(set(keys)) == len(keys) == 20000


def shares(assets):
    names = Counter(asset["databaseId"]["S"].replace("#deleted", "") for asset in assets)
    return {name: count / sum(names.values()) for name, count in names.items()}


def test_databases_are_of_unequal_size_by_default():
    found = shares(sample_assets(5000))
    assert found["db01"] == pytest.approx(0.60, abs=0.03)
    assert found["engineering"] == pytest.approx(0.25, abs=0.03)
    assert len(found) == 4


@pytest.mark.parametrize("databases", [1, 2, 7])
def test_databases_are_of_equal_size_when_counted(databases):
    found = shares(sample_assets(5000, databases=databases))
    assert list(found.values()) == [pytest.approx(1 / databases, rel=0.03)] * databases


def test_no_database_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        sample_assets(5, databases=0)


def numbers(asset):
    entries = [asset["currentVersion"]] + asset.get("versions", {"L": []})["L"]
    return [entry["M"]["Version"]["S"] for entry in entries]


def test_every_version_is_a_number_and_dated_in_the_old_form():
    for asset in sample_assets(3000):
        assert all(re.fullmatch(r"\d+", number) for number in numbers(asset))
        date = asset["currentVersion"]["M"]["DateModified"]["S"]
        month, rest = date.split(" ", 1)
        assert month in MONTHS
        assert re.fullmatch(r"\d\d 20\d\d - \d\d:\d\d:\d\d", rest)


def test_no_two_live_assets_share_an_id_and_a_version():
    """Such a pair would be a conflict; everything here can be migrated."""
    for databases in (None, 1, 3):
        live = [
            (asset["assetId"]["S"], numbers(asset)[0])
            for asset in sample_assets(20000, databases=databases)
            if not asset["databaseId"]["S"].endswith("#deleted")
        ]
        assert len(set(live)) == len(live)


def test_typical_size_is_that_of_real_assets():
    sizes = sorted(item_size(asset) for asset in sample_assets(3000))
    assert 1000 <= sizes[len(sizes) // 2] <= 1500
    assert sizes[-len(sizes) // 100] >= 3000
    assert sizes[-1] < 60000


def item_size(item):
    """About what DynamoDB counts: names and values, without the letters of the types."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value):
    ((kind, inner),) = value.items()
    if kind == "M":
        return 3 + item_size(inner) + len(inner)
    if kind == "L":
        return 3 + sum(1 + value_size(element) for element in inner)
    return len(inner.encode()) if kind == "S" else 10


def test_most_assets_are_ordinary_and_each_shape_goes_on_coming():
    draw = _Draw(seed=1, databases=None)
    names = [pairs[0][0] for pairs in itertools.islice(_shaped_assets(draw), 20000)]
    later = Counter(names[len(SHAPES) :])
    assert set(later) == {name for name, share, change in SHAPES}
    assert later["plain"] > 0.6 * sum(later.values())
    assert later["archived"] == pytest.approx(0.03 * sum(later.values()), rel=0.3)


# What releases wrote over the years, each said independently of how the shapes are made.
NULL, EMPTY = {"NULL": True}, {"S": ""}
OPTIONAL = {"Comment", "description", "specifiedPipelines"}
PREVIEW_VARIANTS = [
    {"M": {"Key": NULL}},
    {"M": {"Key": EMPTY}},
    {"M": {"Bucket": EMPTY, "Key": EMPTY}},
    {"M": {}},
    NULL,
]


def current(asset):
    return asset["currentVersion"]["M"]


def history(asset):
    return [int(entry["M"]["Version"]["S"]) for entry in asset.get("versions", {"L": []})["L"]]


def latest(asset):
    return int(current(asset)["Version"]["S"])


def location(asset, name):
    return asset.get(name, {}).get("M", {})


def key(asset):
    return location(asset, "assetLocation").get("Key", EMPTY)["S"]


def kind(asset, name):
    return next(iter(asset.get(name, {"absent": None})))


def any_of_type(name):
    return lambda a: (
        {kind(a, "tags"), kind(a, "assetType"), kind(a, "specifiedPipelines")} == {name}
        and {kind(current(a), "Comment"), kind(current(a), "specifiedPipelines")} == {name}
    )


def with_twins(assets):
    """Note in each asset which others have its assetId."""
    assets = [dict(asset) for asset in assets]
    by_id = {}
    for asset in assets:
        by_id.setdefault(asset["assetId"]["S"], []).append(asset)
    for asset in assets:
        asset["_twins"] = [other for other in by_id[asset["assetId"]["S"]] if other is not asset]
    return assets


def has_archived_twin(asset, same_version):
    return any(
        twin["databaseId"]["S"] == asset["databaseId"]["S"] + "#deleted"
        and (latest(twin) == latest(asset)) == same_version
        for twin in asset["_twins"]
    )


def is_live_in_another_database(asset):
    return any(
        "#" not in twin["databaseId"]["S"] + asset["databaseId"]["S"]
        and twin["databaseId"] != asset["databaseId"]
        and latest(twin) != latest(asset)
        for twin in asset["_twins"]
    )


WANTED = {
    "version 0": lambda a: latest(a) == 0 and not history(a),
    "version 1 without a history": lambda a: latest(a) == 1 and "versions" not in a,
    "version 3, oldest first": lambda a: latest(a) == 3 and history(a) == [1, 2],
    "reverted": lambda a: history(a) == [1, 2, 3] and latest(a) == 1,
    "reverted, with repeats": lambda a: len(set(history(a))) < len(history(a)) and latest(a) < history(a)[-1],
    "a long history": lambda a: len(history(a)) > 20,
    "preview and size in the version": lambda a: {"previewLocation", "FileSize"} <= set(current(a)),
    "createdBy in the version": lambda a: "createdBy" in current(a),
    "no Comment, description and pipelines": lambda a: not OPTIONAL & set(current(a)),
    "an empty Comment": lambda a: current(a).get("Comment") == EMPTY,
    "v1 asset location with a bucket": lambda a: "Bucket" in location(a, "assetLocation"),
    "v1 preview location with a bucket": lambda a: location(a, "previewLocation").get("Bucket", EMPTY)["S"],
    "Parent and objectFamily": lambda a: {"Parent", "objectFamily"} <= set(a),
    "key is a file name": lambda a: re.fullmatch(r"[^/]+\.\w+", key(a)),
    "key below pipelines/": lambda a: key(a).startswith("pipelines/"),
    "key below the asset's id": lambda a: key(a).startswith(a["assetId"]["S"] + "/"),
    "several files": lambda a: a.get("isMultiFile") == {"BOOL": True},
    "no assetLocation": lambda a: "assetLocation" not in a,
    "preview": lambda a: location(a, "previewLocation").get("Key", EMPTY).get("S"),
    "no preview": lambda a: "previewLocation" not in a,
    "preview as text": lambda a: kind(a, "previewLocation") == "S",
    "null pipeline ids": lambda a: a["pipelineId"] == a["executionId"] == NULL,
    "isDistributable map": lambda a: a["isDistributable"] == {"M": {"label": {"S": "No"}, "value": {"BOOL": False}}},
    "isDistributable text": lambda a: a["isDistributable"] == {"S": "False"},
    "no tags, isMultiFile, snsTopic": lambda a: not {"tags", "isMultiFile", "snsTopic"} & set(a),
    "stray attributes": lambda a: {"object__type", "authEdit"} <= set(a),
    "pipelines as maps with a name": lambda a: '[{"M": {"name"' in json.dumps(current(a).get("specifiedPipelines")),
    "pipelines as a set": lambda a: kind(current(a), "specifiedPipelines") == "SS",
    "38 digits": lambda a: any(len(value.get("N", "")) == 38 for value in a.values() if isinstance(value, dict)),
    "binary": lambda a: any("B" in value for value in a.values()),
    "sets": lambda a: {"SS", "NS", "BS"} <= {next(iter(v)) for v in a.values() if isinstance(v, dict)},
    "unknown empty text": lambda a: a.get("project") == EMPTY,
    "nested nulls": lambda a: "NULL" in json.dumps(a.get("metadata")),
    "text beyond ASCII, quotes, line breaks": lambda a: set("\"'\n\\\U0001f4e6") <= set(a["assetName"]["S"]),
    "a long description": lambda a: len(a["description"]["S"]) > 2000,
    "archived": lambda a: a["databaseId"]["S"].endswith("#deleted") and not a["_twins"],
    "archived twin of the same version": lambda a: has_archived_twin(a, same_version=True),
    "archived twin of another version": lambda a: has_archived_twin(a, same_version=False),
    "live in two databases": is_live_in_another_database,
}  # fmt: skip
WANTED.update(("preview %s" % json.dumps(v), lambda a, v=v: a.get("previewLocation") == v) for v in PREVIEW_VARIANTS)
WANTED.update(("any type: " + t, any_of_type(t)) for t in ("NULL", "BOOL", "N", "S", "L", "M"))


@pytest.mark.parametrize("databases", [None, 2])
@pytest.mark.parametrize("what", sorted(WANTED))
def test_first_sixty_assets_have_every_shape(what, databases):
    for seed in (1, 2, 3):
        assets = with_twins(sample_assets(60, seed=seed, databases=databases))
        assert any(map(WANTED[what], assets)), "seed %d" % seed


def test_shapes_are_what_assets_are_drawn_from():
    names, assets = zip(*sample_shapes())
    assert len(set(names)) == len(names) <= 60
    assert list(assets) == list(sample_assets(len(assets)))
    assert sample_shapes() == sample_shapes()


def test_one_database_has_no_twin_in_another():
    assets = with_twins(sample_assets(3000, databases=1))
    assert {asset["databaseId"]["S"] for asset in assets} == {"db01", "db01#deleted"}
    assert not any(map(is_live_in_another_database, assets))
