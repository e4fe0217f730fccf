"""Sample assets as the releases of VAMS up to v2.2 left them in their table.

    sample_assets(200)    200 assets, the same ones each time
    sample_shapes()       one asset of each shape that occurs, with its name

For rehearsals, tests and benchmarks. The items are DynamoDB JSON as it goes over the wire
({"S": "..."}, binary as base64 text), so they are plain JSON.
"""

import base64
import bisect
import itertools
import random
import time

# --- Values ----------------------------------------------------------------------------------

DATABASES = (("db01", 60), ("engineering", 25), ("marketing", 10), ("site-scans", 5))
TOPIC = "arn:aws:sns:us-east-1:123456789012:AssetTopic-"
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
FILES = (
    ("Boombox", ".glb"),
    ("Pump Station", ".e57"),
    ("Turbine Blade", ".step"),
    ("Warehouse Scan", ".laz"),
    ("Gearbox Housing", ".stl"),
    ("Office Floor 3", ".ifc"),
    ("Rover Chassis", ".fbx"),
    ("Bridge Survey", ".ply"),
    ("Valve Drawing", ".pdf"),
)
TAGS = ("approved", "draft", "export-controlled", "lidar", "photogrammetry", "supplier", "training", "as-built")
PIPELINES = ("convert-to-glb", "generate-preview", "point-cloud-tiler", "label-images", "gaussian-splat")
SENTENCES = (
    "Reworked after the design review of last week.",
    "Scanned on site with the tripod scanner, registered to the survey grid and cleaned of moving objects.",
    "Replaces the model that the supplier delivered in spring; hole pattern and flange follow the new drawing.",
    "Reduced to a tenth of the triangles for the browser viewer.",
    "Units are millimetres, the Z axis points up, the origin lies at the base plate's centre.",
    "Textures baked again at 4096 pixels because the former ones showed seams along the edges.",
    "Not for production: tolerances are still open and await the answer of the structural engineers.",
    "Includes the cable trays and the fire-protection plan of the third floor.",
    "Original upload.",
    "Corrects the scale, which was wrong by the factor 25.4.",
    "Contains the as-built state recorded at handover, for the maintenance team's training application.",
)


# --- Assets ----------------------------------------------------------------------------------


def sample_assets(count, seed=1, databases=None):
    """Yield `count` v2.2 assets, the same ones whenever the arguments are the same.

    databases: None for four databases of unequal size, or how many of equal
    size. Each shape of sample_shapes() comes first once, then as often as in a
    real table. All of them can be migrated, some with a warning.
    """
    if databases is not None and databases < 1:
        raise ValueError("databases must be None or at least 1, not %r" % databases)
    assets = (asset for shaped in _shaped_assets(_Draw(seed, databases)) for name, asset in shaped)
    return itertools.islice(assets, count)


def sample_shapes():
    """Return a list of (name, asset): one asset for each shape that v1.0 to v2.2 left in tables.

    A `..._twin` has the same assetId as the asset before it in the list.
    """
    shaped = itertools.islice(_shaped_assets(_Draw(1, None)), len(SHAPES))
    return [pair for pairs in shaped for pair in pairs]


def _shaped_assets(draw):
    """Yield lists of (name, asset) without end: an asset, and its twin if the shape has one."""
    shapes = itertools.chain(SHAPES, iter(draw.shape, None))
    for name, _share, change in shapes:
        asset = _asset(draw, draw.database(), draw.asset_id())
        twin = change(asset, draw)
        yield [(name, asset)] + ([(name + "_twin", twin)] if twin else [])


class _Draw:
    """Random choices that are the same for a seed with every Python: all rest on random() alone."""

    def __init__(self, seed, databases):
        self._random = random.Random(seed).random
        shares = database_shares(databases)
        self.databases = [name for name, share in shares]
        self._turns = databases and itertools.cycle(self.databases)
        self._bounds = list(itertools.accumulate(share for name, share in shares))
        self._shape_bounds = list(itertools.accumulate(share for name, share, change in SHAPES))

    def number(self, low, high):
        """A whole number, low <= n <= high."""
        return low + int(self._random() * (high - low + 1))

    def one_of(self, choices):
        return choices[int(self._random() * len(choices))]

    def some_of(self, choices):
        return [choice for choice in choices if self._random() < 0.3]

    def asset_id(self):
        return "x" + "".join("%08x" % int(self._random() * 2**32) for _ in range(4))

    def binary(self):
        return base64.b64encode(bytes(self.number(0, 255) for _ in range(60))).decode("ascii")

    def text(self, low, high):
        return " ".join(self.one_of(SENTENCES) for _ in range(self.number(low, high)))

    def database(self):
        if self._turns:
            return next(self._turns)
        return self.databases[bisect.bisect(self._bounds, self._random() * self._bounds[-1])]

    def shape(self):
        return SHAPES[bisect.bisect(self._shape_bounds, self._random() * self._shape_bounds[-1])]


def database_shares(databases):
    """Return pairs of a databaseId and its share of the assets; `databases` is as for sample_assets."""
    return DATABASES if databases is None else [("db%02d" % (n + 1), 1) for n in range(databases)]


def _asset(draw, database, asset_id):
    """Return an asset as v2.2 writes it, with one to four versions."""
    name, extension = draw.one_of(FILES)
    asset = {
        "databaseId": _text(database),
        "assetId": _text(asset_id),
        "assetName": _text("%s %d" % (name, draw.number(1, 9999))),
        "description": _text(draw.text(1, 4)),
        "assetType": _text(extension),
        "isDistributable": {"BOOL": draw.number(0, 3) > 0},
        "tags": _texts(draw.some_of(TAGS)),
        "snsTopic": _text(TOPIC + asset_id),
        "assetLocation": _location("%s/%s%s" % (asset_id, name.lower().replace(" ", "_"), extension)),
        "previewLocation": _location("previews/%s.png" % asset_id),
        "isMultiFile": {"BOOL": False},
        "pipelineId": _text(""),
        "executionId": _text(""),
        "specifiedPipelines": _texts(draw.some_of(PIPELINES)),
    }
    _give_versions(asset, draw, range(1, draw.one_of((1, 1, 1, 2, 2, 3, 4)) + 1))
    return asset


def _give_versions(asset, draw, numbers):
    """Set `versions` and `currentVersion` to the numbers in the order in which they became current."""
    seconds, made = draw.number(0, 600 * 86400), {}
    for number in sorted(set(numbers)):
        seconds += draw.number(600, 40 * 86400)
        made[number] = (_date_modified(seconds), draw.text(1, 2), draw.text(0, 1), draw.some_of(PIPELINES))
    entries = [{"M": _version(number, *made[number])} for number in numbers]
    asset.pop("versions", None)
    asset["currentVersion"] = entries.pop()
    if entries:
        asset["versions"] = {"L": entries}


def _version(number, date, comment, description, pipelines):
    return {
        "Version": _text(str(number)),
        "S3Version": _text(""),
        "DateModified": _text(date),
        "Comment": _text(comment),
        "description": _text(description),
        "specifiedPipelines": _texts(pipelines),
    }


def _date_modified(seconds):
    """Return the moment so many seconds after the start of 2023, as VAMS v2.2 wrote it."""
    moment = time.gmtime(1672531200 + seconds)
    clock = "%02d:%02d:%02d" % (moment.tm_hour, moment.tm_min, moment.tm_sec)
    return "%s %02d %d - %s" % (MONTHS[moment.tm_mon - 1], moment.tm_mday, moment.tm_year, clock)


def _text(value):
    return {"S": value}


def _texts(values):
    return {"L": [_text(value) for value in values]}


def _location(key, **bucket):
    return {"M": dict({"Key": _text(key)}, **{name: _text(value) for name, value in bucket.items()})}


def _null():
    return {"NULL": True}


# --- Shapes ----------------------------------------------------------------------------------


def _versions(*numbers):
    return lambda asset, draw: _give_versions(asset, draw, numbers)


def _set(name, make):
    """Return the change that gives an asset one attribute; `make` makes a new value for each asset."""

    def change(asset, draw):
        asset[name] = make()

    return change


def _without(*names):
    def change(asset, draw):
        for name in names:
            asset.pop(name, None)

    return change


def _in_current(**values):
    """Return the change that sets attributes of currentVersion, or removes those given as None."""

    def change(asset, draw):
        current = asset["currentVersion"]["M"]
        for name, make in values.items():
            current.pop(name, None)
            if make is not None:
                current[name] = make()

    return change


def _any_type(make):
    """Return the change that puts a value where only a direct API call could have put it."""

    def change(asset, draw):
        asset.update(tags=make(), assetType=make(), specifiedPipelines=make())
        asset["currentVersion"]["M"].update(Comment=make(), specifiedPipelines=make())

    return change


def _from_v1(asset, draw):
    """v1.x: locations with a bucket, the first version is 0, attributes that came later are absent."""
    _give_versions(asset, draw, (0, 1))
    _without("tags", "isMultiFile", "snsTopic")(asset, draw)
    for name in ("assetLocation", "previewLocation"):
        asset[name]["M"]["Bucket"] = _text("vams-v1-assetbucket")
    asset["Parent"] = _text("")
    asset["objectFamily"] = asset["assetType"].copy()


def _file_name_key(asset, draw):
    key = asset["assetLocation"]["M"]["Key"]["S"]
    asset["assetLocation"] = _location(key.split("/")[1])


def _pipeline_key(asset, draw):
    key = asset["assetLocation"]["M"]["Key"]["S"]
    asset["assetLocation"] = _location("pipelines/%s/output/%s" % (draw.one_of(PIPELINES), key))


def _multi_file(asset, draw):
    asset["isMultiFile"] = {"BOOL": True}
    asset["assetLocation"] = _location(asset["assetId"]["S"] + "/")


def _preview_and_size(asset, draw):
    preview = _location(asset["previewLocation"]["M"]["Key"]["S"])
    asset["currentVersion"]["M"].update(previewLocation=preview, FileSize=_text("%dMB" % draw.number(1, 900)))


def _sets(asset, draw):
    asset["reviewers"] = {"SS": ["ann@example.com", "bob@example.com"]}
    asset["buildings"] = {"NS": ["4", "7.5", "12"]}
    asset["checksums"] = {"BS": ["AAEC", "AQID/w=="]}


def _nested(asset, draw):
    inner = {"empty": _text(""), "nothing": _null(), "list": {"L": [_null(), {"L": []}, {"M": {}}]}}
    asset["metadata"] = {"M": {"site": {"M": inner}, "mass": {"N": "-0.00000000000000000001234567890123"}}}


def _long_history(asset, draw):
    _give_versions(asset, draw, range(1, draw.number(25, 45)))


def _archived(asset, draw):
    asset["databaseId"]["S"] += "#deleted"


def _with_twin(own, twins, same_database):
    """Return the change that adds another asset of the same, user-typed assetId.

    own, twins: the version numbers of either. The twin is archived in the same
    database, or live in another one if there is another.
    """

    def change(asset, draw):
        database, asset_id = asset["databaseId"]["S"], "part-" + asset["assetId"]["S"][-12:]
        asset.update(_asset(draw, database, asset_id))
        _give_versions(asset, draw, own)
        others = [database + "#deleted"] if same_database else [n for n in draw.databases if n != database]
        if not others:
            return None
        twin = _asset(draw, draw.one_of(others), asset_id)
        _give_versions(twin, draw, twins)
        return twin

    return change


def _json_list():
    return {"L": [_text("convert-to-glb"), {"N": "7"}, {"BOOL": True}, _null(), {"M": {"name": _text("tiler")}}]}


def _json_map():
    return {"M": {"name": _text("generate-preview"), "outputs": {"L": [_text(".glb")]}, "enabled": {"BOOL": False}}}


SHAPES = (
    # name, how many in about ten thousand, what it changes in an asset as v2.2 writes it
    ("plain", 6500, lambda asset, draw: None),
    ("first_version", 500, _versions(1)),
    ("three_versions", 500, _versions(1, 2, 3)),
    ("reverted", 150, _versions(1, 2, 3, 1)),
    ("reverted_again", 60, _versions(1, 2, 3, 1, 3, 2)),
    ("first_version_zero", 100, _versions(0)),
    ("from_v1", 250, _from_v1),
    ("file_name_key", 60, _file_name_key),
    ("pipeline_key", 60, _pipeline_key),
    ("multi_file", 150, _multi_file),
    ("no_asset_location", 2, _without("assetLocation")),
    ("preview_and_size_in_version", 200, _preview_and_size),
    ("preview_absent", 250, _without("previewLocation")),
    ("preview_key_null", 60, _set("previewLocation", lambda: {"M": {"Key": _null()}})),
    ("preview_key_empty", 60, _set("previewLocation", lambda: _location(""))),
    ("preview_bucket_and_key_empty", 60, _set("previewLocation", lambda: _location("", Bucket=""))),
    ("preview_empty_map", 5, _set("previewLocation", lambda: {"M": {}})),
    ("preview_null", 5, _set("previewLocation", _null)),
    ("preview_text", 5, lambda asset, draw: asset.update(previewLocation=asset["previewLocation"]["M"]["Key"])),
    ("pipeline_ids_null", 150, lambda asset, draw: asset.update(pipelineId=_null(), executionId=_null())),
    ("distributable_map", 60, _set("isDistributable", lambda: {"M": {"label": _text("No"), "value": {"BOOL": False}}})),
    ("distributable_text", 60, _set("isDistributable", lambda: _text("False"))),
    ("old_attributes_absent", 150, _without("tags", "isMultiFile", "snsTopic")),
    ("stray_attributes", 60, lambda a, draw: a.update(object__type=_text("asset"), authEdit={"L": [_text("editor")]})),
    ("current_without_optional", 30, _in_current(Comment=None, description=None, specifiedPipelines=None)),
    ("comment_empty", 60, _in_current(Comment=lambda: _text(""))),
    ("created_by_in_version", 30, _in_current(createdBy=lambda: _text("ann@example.com"))),
    ("pipelines_named_maps", 10, _in_current(specifiedPipelines=lambda: {"L": [_json_map()]})),
    ("pipelines_set", 5, _in_current(specifiedPipelines=lambda: {"SS": ["convert-to-glb", "label-images"]})),
    ("any_type_null", 5, _any_type(_null)),
    ("any_type_boolean", 5, _any_type(lambda: {"BOOL": False})),
    ("any_type_number", 5, _any_type(lambda: {"N": "42.5"})),
    ("any_type_text", 5, _any_type(lambda: _text("convert-to-glb"))),
    ("any_type_list", 5, _any_type(_json_list)),
    ("any_type_map", 5, _any_type(_json_map)),
    ("unknown_number", 10, _set("checksum", lambda: {"N": "12345678901234567890123456789012345678"})),
    ("unknown_binary", 10, lambda asset, draw: asset.update(thumbnail={"B": draw.binary()})),
    ("unknown_sets", 10, _sets),
    ("unknown_empty_text", 10, _set("project", lambda: _text(""))),
    ("unknown_nested", 10, _nested),
    ("unusual_text", 20, _set("assetName", lambda: _text("Caf\u00e9 \u6a21\u578b \U0001f4e6 'one' \"two\"\n\\three"))),
    ("long_description", 150, lambda asset, draw: asset.update(description=_text(draw.text(40, 80)))),
    ("long_history", 20, _long_history),
    ("archived", 300, _archived),
    ("archived_twin_same_version", 15, _with_twin((1,), (1,), same_database=True)),
    ("archived_twin_other_version", 15, _with_twin((1,), (1, 2, 3), same_database=True)),
    ("two_databases", 10, _with_twin((1, 2), (1,), same_database=False)),
)
