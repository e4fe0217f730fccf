"""Clients that write to the assets table while the migration runs, as the applications v2.2 and v2.3
do, and that know afterwards what must be there."""

import collections
import contextlib
import random
import threading
import time

from load_migration import migration
from sample_assets import sample_assets

DELETED = "#deleted"


class Writers:
    """Threads that write until the `with` ends. Each asset has one writer, which so knows its state.

    most: how often each of them acts, so that a slow run does not find everything deleted.
    v23: whether they act as the application v2.3 too.
    """

    def __init__(self, tables, assets, rng, threads, most=150, v23=True):
        self.tables = tables
        self.most = most
        self.v23 = v23
        self.acts = []  # (when, act, key), for the analysis of a failure
        self.counts = collections.Counter()
        self.error = None
        self.stopped = threading.Event()
        # A twin is the same assetId: one writer has them all.
        ids = sorted({asset["assetId"]["S"] for asset in assets})
        shares = {asset_id: number % threads for number, asset_id in enumerate(ids)}
        self.writers = [
            Writer(self, [a for a in assets if shares[a["assetId"]["S"]] == n], random.Random(rng.random()), n)
            for n in range(threads)
        ]
        self.threads = [threading.Thread(target=writer.run) for writer in self.writers]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        if self.error:
            raise self.error

    def check_nothing_lost(self):
        """Every change of theirs is there, and nothing that they deleted."""
        assets, records = self.tables.contents()
        for writer in self.writers:
            writer.check_nothing_lost(assets, records)
        known = {key for writer in self.writers for key in writer.live}
        assert set(assets) == known, "back or gone: %s" % (set(assets) ^ known)

    def check_migrated(self):
        """After the run that finds everybody gone: all migrated, and no record without an asset."""
        assets, records = self.tables.contents()
        for writer in self.writers:
            writer.check_migrated(assets, records)
        owned = {asset_id for _, asset_id in assets}
        left = set().union(*(writer.left for writer in self.writers))
        orphans = {key for key in records if key[0] not in owned and key[0] not in left}
        assert not orphans, "records of deleted assets: %s" % orphans


class Writer:
    def __init__(self, shared, assets, rng, number):
        self.shared = shared
        self.client = shared.tables.engine.client()  # client.exceptions is not made for several threads
        self.rng = rng
        self.number = number
        self.made = 0
        # What must be there: (databaseId, assetId) -> attributes that this writer has set.
        self.live = {(a["databaseId"]["S"], a["assetId"]["S"]): {} for a in assets}
        self.versions = {}  # (databaseId, assetId) -> the version id that it wrote last
        self.history = {}  # (assetId, version id) -> comment of the record that it wrote itself
        self.left = set()  # assetIds of assets that had records when they were deleted

    def run(self):
        try:
            for _ in range(self.shared.most):
                if self.shared.stopped.wait(self.rng.uniform(0, 0.02)):
                    break
                self.act()
        except Exception as error:
            self.shared.error = error
            raise

    def act(self):
        acts = [self.edit] * 4 + [self.upload] * 4 + [self.archive, self.delete, self.create]
        act = self.rng.choice(acts)
        key = self.rng.choice(sorted(self.live)) if self.live else None
        self.shared.acts.append((time.monotonic(), act.__name__, key))
        if key is None or act == self.create:
            self.create()
        elif act == self.edit or not (self.has_archived(key) or act == self.delete and self.is_shared(key)):
            act(key)
        self.shared.counts[act.__name__] += 1

    def has_archived(self, key):
        """Whether it is archived, or has an archived twin: nobody uploads to that or deletes it for good."""
        return key[0].endswith(DELETED) or (key[0] + DELETED, key[1]) in self.live

    def is_shared(self, key):
        """Whether the assetId is in another database too: a record that stays would be current beside the other's."""
        return sum(asset_id == key[1] for _, asset_id in self.live) > 1

    # What a user does.

    def edit(self, key):
        """Attributes that the migration does not touch."""
        name = self.rng.choice(["assetName", "tags", "note", "isDistributable"])
        value = {"S": "written %d" % self.rng.randrange(10**9)}
        self.update(key, "SET #a = :a", {"#a": name}, {":a": value})
        self.live[key][name] = value

    def upload(self, key):
        """A new version, in the way of the application that the asset's form stands for."""
        asset = self.get(key)
        if self.is_old(asset) and self.rng.random() < 0.7:
            self.upload_v22(key, asset)
        elif self.shared.v23 and not self.is_shared(key):
            self.upload_v23(key, asset)

    def upload_v22(self, key, asset):
        """Replaces currentVersion, and puts the former one into the history."""
        current = asset["currentVersion"]
        if "currentVersionId" in asset or not set(current["M"]) >= {"Version", "Comment"}:
            return
        number = str(int(current["M"]["Version"]["S"]) + 1000 + self.rng.randrange(1000))
        comment = {"S": "upload %d" % self.rng.randrange(10**9)}
        new = {"M": dict(current["M"], Version={"S": number}, Comment=comment)}
        with contextlib.suppress(self.client.exceptions.ConditionalCheckFailedException):
            self.update(
                key,
                "SET currentVersion = :new, versions = list_append(if_not_exists(versions, :none), :old)",
                {},
                {":new": new, ":none": {"L": []}, ":old": {"L": [current]}, ":current": current},
                "currentVersion = :current AND attribute_not_exists(currentVersionId)",
            )
            self.versions[key] = number, comment

    def upload_v23(self, key, asset):
        """A record of its own, the former one no longer current, then the asset."""
        former = asset.get("currentVersionId", {}).get("S")
        old = former or asset.get("currentVersion", {}).get("M", {}).get("Version", {}).get("S") or "0"
        number = str(int(old) + 5000 + self.rng.randrange(1000))
        comment = {"S": "v2.3 upload %d" % self.rng.randrange(10**9)}
        self.put_record(key[1], number, comment)
        with contextlib.suppress(self.client.exceptions.ConditionalCheckFailedException):
            self.client.update_item(
                TableName=self.shared.tables.versions,
                Key={"assetId": {"S": key[1]}, "assetVersionId": {"S": old}},
                UpdateExpression="SET isCurrentVersion = :no",
                ConditionExpression="attribute_exists(assetId)",
                ExpressionAttributeValues={":no": {"BOOL": False}},
            )
        self.update(key, "SET currentVersionId = :id", {}, {":id": {"S": number}})
        self.versions[key] = number, comment

    def archive(self, key):
        """Put under #deleted, then delete."""
        asset = self.get(key)
        there = (key[0] + DELETED, key[1])
        self.client.put_item(TableName=self.shared.tables.assets, Item=dict(asset, databaseId={"S": there[0]}))
        self.client.delete_item(TableName=self.shared.tables.assets, Key=self.key(key))
        self.live[there] = self.live.pop(key)
        if key in self.versions:
            self.versions[there] = self.versions.pop(key)

    def delete(self, key):
        """For good. What was migrated leaves its records; of anything else no record may stay."""
        old = self.client.delete_item(TableName=self.shared.tables.assets, Key=self.key(key), ReturnValues="ALL_OLD")
        self.live.pop(key)
        self.versions.pop(key, None)
        if "currentVersionId" in old["Attributes"]:
            self.left.add(key[1])

    def create(self, key=None):
        """By v2.2, or by v2.3 with its record."""
        self.made += 1
        asset = next(sample_assets(1, seed=self.rng.randrange(10**9)))
        asset["assetId"] = {"S": "new-%d-%d" % (self.number, self.made)}
        key = (asset["databaseId"]["S"], asset["assetId"]["S"])
        if self.shared.v23 and self.rng.random() < 0.5:
            comment = {"S": "created"}
            asset = {name: value for name, value in asset.items() if name not in migration.REMOVED_FIELDS}
            location = {"M": {"Key": {"S": key[1] + "/"}, "Bucket": {"S": "asset-bucket"}}}
            asset.update(currentVersionId={"S": "0"}, assetLocation=location)
            asset.pop("previewLocation")
            self.put_record(key[1], "0", comment)
            self.versions[key] = "0", comment
        self.client.put_item(TableName=self.shared.tables.assets, Item=asset)
        self.live[key] = {}

    # How.

    @staticmethod
    def is_old(asset):
        return "M" in asset.get("currentVersion", {}) and "S" in asset["currentVersion"]["M"].get("Version", {})

    def key(self, key):
        return {"databaseId": {"S": key[0]}, "assetId": {"S": key[1]}}

    def get(self, key):
        return self.client.get_item(TableName=self.shared.tables.assets, Key=self.key(key), ConsistentRead=True)["Item"]

    def update(self, key, expression, names, values, condition="attribute_exists(assetId)"):
        options = {"ExpressionAttributeNames": names} if names else {}
        self.client.update_item(
            TableName=self.shared.tables.assets,
            Key=self.key(key),
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            **options,
        )

    def put_record(self, asset_id, number, comment):
        record = {
            "assetId": {"S": asset_id},
            "assetVersionId": {"S": number},
            "isCurrentVersion": {"BOOL": True},
            "dateCreated": {"S": "2025-07-01T00:00:00Z"},
            "comment": comment,
            "description": {"S": ""},
            "createdBy": {"S": "ann@example.com"},
            "specifiedPipelines": {"L": []},
        }
        self.client.put_item(TableName=self.shared.tables.versions, Item=record)
        self.history[(asset_id, number)] = comment

    # What must be there.

    def check_nothing_lost(self, assets, records):
        for key, attributes in self.live.items():
            assert key in assets, "%s is gone" % (key,)
            for name, value in attributes.items():
                assert assets[key].get(name) == value, "%s of %s is %s" % (name, key, assets[key].get(name))
        for key, comment in self.history.items():
            assert key in records, "record %s is gone" % (key,)
            assert records[key]["comment"] == comment
        for key, (number, comment) in self.versions.items():
            current = assets[key].get("currentVersion", {}).get("M")
            if "currentVersionId" in assets[key]:
                assert assets[key]["currentVersionId"] == {"S": number}, key
            else:
                assert current["Version"] == {"S": number} and current["Comment"] == comment, key

    def check_migrated(self, assets, records):
        for key in self.live:
            asset = assets[key]
            assert not set(asset) & set(migration.REMOVED_FIELDS), key
            assert (key[1], asset["currentVersionId"]["S"]) in records, key
        for key, (number, comment) in self.versions.items():
            assert records[key[1], number]["comment"] == comment, key
