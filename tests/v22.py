"""Assets as VAMS v2.2 wrote them and what v2.3 needs of them, in DynamoDB JSON. Values are spec.md's."""

import json

BUCKET = "asset-bucket"
NULL = {"NULL": True}
DELETED = "#deleted"


def S(text):
    return {"S": text}


def N(number):
    return {"N": str(number)}


def L(*values):
    return {"L": [S(value) if isinstance(value, str) else value for value in values]}


def M(**values):
    return {"M": {name: S(value) if isinstance(value, str) else value for name, value in values.items()}}


def partiql(statement):
    """The text of a statement, without its values."""
    return json.loads(statement)["Statement"]


def changed(item, changes):
    """The item with attributes set, and without those given as None. Text stands for {"S": text}."""
    item = {**item, **{name: S(value) if isinstance(value, str) else value for name, value in changes.items()}}
    return {name: value for name, value in item.items() if value is not None}


KEPT = {
    "assetName": S("Boombox"),
    "description": S("An old radio"),
    "assetType": S(".glb"),
    "isDistributable": {"BOOL": True},
    "tags": L("a"),
    "snsTopic": S("arn:aws:sns:us-east-1:123456789012:AssetTopic"),
}
LEGACY = {
    "isMultiFile": {"BOOL": False},
    "pipelineId": S(""),
    "executionId": NULL,
    "versions": L(M(Version="1"), M(Version="2")),
    "specifiedPipelines": L("asset-pipeline"),
    "Parent": S("root"),
    "objectFamily": S("3d"),
}


def version(**changes):
    """A currentVersion."""
    plain = {
        "Version": S("3"),
        "S3Version": S(""),
        "DateModified": S("June 24 2025 - 17:59:56"),
        "Comment": S("Third upload"),
        "description": S("As built"),
        "specifiedPipelines": L("p1"),
    }
    return {"M": changed(plain, changes)}


def asset(asset_id, database_id="db01", **changes):
    """A v2.2 asset."""
    keys = {"databaseId": S(database_id), "assetId": S(asset_id)}
    locations = {
        "assetLocation": M(Key=asset_id + "/boombox.glb"),
        "previewLocation": M(Key="previews/%s.png" % asset_id),
    }
    return changed({**keys, **KEPT, **locations, **LEGACY, "currentVersion": version()}, changes)


def migrated(asset_id, database_id="db01", **changes):
    """The same asset in v2.3's form."""
    keys = {"databaseId": S(database_id), "assetId": S(asset_id)}
    locations = {
        "assetLocation": M(Key=asset_id + "/", Bucket=BUCKET),
        "previewLocation": M(Key="previews/%s.png" % asset_id, Bucket=BUCKET),
    }
    return changed({**keys, **KEPT, **locations, "currentVersionId": S("3")}, changes)


# What tells that v2.3 made a version record, for a user, after the migration.
BY_ANN = {"createdBy": "ann", "dateCreated": "2099-06-24T17:59:56.123456"}


def record(asset_id, **changes):
    """The version record of the same asset."""
    plain = {
        "assetId": S(asset_id),
        "assetVersionId": S("3"),
        "isCurrentVersion": {"BOOL": True},
        "dateCreated": S("2025-06-24T17:59:56Z"),
        "comment": S("Third upload"),
        "description": S("As built"),
        "createdBy": S("system"),
        "specifiedPipelines": L("p1"),
    }
    return changed(plain, changes)
