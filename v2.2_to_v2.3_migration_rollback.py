#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Take a migration from VAMS v2.2 to v2.3 back, from its journals.

    journals -> before images, newest first -> what is there now -> asset restored
             -> version record removed -> report

What is still as the migration left it is taken back, by conditional writes; what somebody
changed since is reported and left alone. Attributes that the migration does not own keep
what users made of them. Nothing depends on how far an earlier rollback came: it can be
interrupted at any moment and run again.

Each before image has one outcome:
    restored            the asset is as before, and so are the version records
    nothing_to_restore  the asset was not migrated, or is restored already
    superseded          a later before image of the same asset, in the same journal, counts
    record_kept         the asset is restored; its version record was changed and stays
    changed_since       the asset is not as the migration left it, and was not touched
    asset_deleted       the asset is gone, or was archived; it was not brought back
    failed              DynamoDB rejected the write, or others kept changing the asset
    not_finished        the run was stopped before its turn

Exit status:
    0    everything restored, or nothing to do
    1    finished, but some assets were not restored; or stopped by an error half-way
    2    wrong usage or settings, nothing written
    3    preflight failed, nothing written
    130  interrupted or declined by the operator
"""

import collections
import functools
import glob
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from load_migration import migration

OUTCOMES = (
    "restored",
    "nothing_to_restore",
    "superseded",
    "record_kept",
    "changed_since",
    "asset_deleted",
    "failed",
    "not_finished",
)
NOT_RESTORED = ("record_kept", "changed_since", "asset_deleted", "failed")
FLAGS = (
    "aws_profile",
    "aws_region",
    "endpoint_url",
    "assets_table_name",
    "asset_versions_table_name",
    "asset_bucket_name",
    "dry_run",
    "batch_size",
    "workers",
    "max_write_units",
    "report_dir",
    "log_level",
    "log_file",
    "yes",
)
PAGE_BYTES = 1000 * 1000  # of before images handed out at once

Finding = migration.Finding
Item = migration.Item
Key = migration.Key


# --------------------------------------------------------------------------------------
# Journals
# --------------------------------------------------------------------------------------


class Journal(NamedTuple):
    """A journal of the migration, not yet read beyond its first line."""

    path: str
    header: Dict[str, Any]

    @property
    def started(self) -> str:
        return self.header["started"]


class BeforeImage(migration.Work):
    """An asset as it was before the migration, with the plan that was made from it then."""

    __slots__ = ("started", "superseded", "sent")

    def __init__(self, entry: Any, origin: Any, header: Dict[str, Any], superseded: bool) -> None:
        super().__init__(entry.asset, origin)
        self.started = header["started"]
        self.plan = migration.plan_asset(entry.asset, header["asset_bucket_name"], self.started, entry.facts)
        self.size = len(migration.to_json(entry.asset))
        self.superseded = superseded
        self.sent = False  # whether the asset's restoration was asked for


def open_journals(paths: List[str]) -> List[Journal]:
    """The journals, newest first, each once. Raises SettingsError for any other file."""
    unique = collections.OrderedDict((os.path.realpath(path), path) for path in paths)
    journals = [Journal(path, migration.read_journal_header(path)) for path in unique.values()]
    return sorted(journals, key=lambda journal: (journal.started, os.path.basename(journal.path)), reverse=True)


def count_before_images(journal: Journal) -> int:
    """Reads it whole, so that damage shows before anything is written."""
    return sum(entry.asset is not None for entry in migration.read_journal_backwards(journal.path))


def read_before_images(journals: List[Journal], origin: Any) -> Iterator[BeforeImage]:
    """All before images, the newest first. A live asset's image brings along the archived
    twin's version record that the asset's own has replaced."""
    for journal in journals:
        replaced = {}  # type: Dict[Tuple[str, str], Item]
        superseded = set()
        for entry in migration.read_journal_backwards(journal.path):
            if entry.asset is None:
                replaced.setdefault(_version_key(entry.replaced_record), entry.replaced_record)
                continue
            key = (entry.asset["databaseId"]["S"], entry.asset["assetId"]["S"])
            image = BeforeImage(entry, origin, journal.header, key in superseded)
            if image.record and not migration.is_archived(image.asset):
                image.replaced = replaced.get(_version_key(image.record))
            # "again" means: older images of this asset follow, up to the first without it.
            (superseded.add if entry.again else superseded.discard)(key)
            yield image


def _version_key(record: Item) -> Tuple[str, str]:
    return record["assetId"]["S"], record["assetVersionId"]["S"]


class JournalSource:
    """Pages of before images for Flow. One is read at a time, so their order holds."""

    def __init__(self, journals: List[Journal]) -> None:
        self.images = read_before_images(journals, self)
        self.reading = False
        self.finished = False
        self.pending = 0

    def next_read(self) -> Optional[Tuple[Any, Callable]]:
        if self.reading or self.finished:
            return None
        self.reading = True
        return self, self.read_page

    def read_page(self) -> Tuple[List[BeforeImage], None, float]:
        """Some images, the key to go on from, and the read units."""
        page, size = [], 0
        for image in self.images:
            page.append(image)
            size += image.size
            if len(page) == migration.PAGE_ITEMS or size >= PAGE_BYTES:
                break
        return page, None, 0.0

    def arrived(self, segment: Any, items: List[BeforeImage], next_key: None) -> None:
        self.reading = False
        self.finished = not items
        self.pending += len(items)

    def failed(self, segment: Any) -> None:
        self.finished = True


# --------------------------------------------------------------------------------------
# Decision: before image and what is there now in, Verdict out
# --------------------------------------------------------------------------------------

Owned = Dict[str, Optional[migration.Value]]  # None: the attribute is absent

DELETE, PUT_BACK, KEEP = "delete", "put back", "keep"


class Now(NamedTuple):
    """What is stored under the keys that concern a before image; None: nothing."""

    asset: Optional[Item]
    twin: Optional[Item]  # the archived asset of a live one's assetId, or the other way round
    record: Optional[Item]


class Verdict(NamedTuple):
    """What takes one asset back: whether it is written, and what becomes of its record."""

    outcome: str
    record: str = KEEP
    findings: Tuple[Any, ...] = ()


def judge(image: BeforeImage, now: Now) -> Verdict:
    """Say what takes one asset back."""
    outcome, findings = judge_asset(image, now)
    if outcome == "changed_since":
        return Verdict(outcome, KEEP, findings)
    step = judge_record(image, now)
    if step is None and outcome == "restored":
        message = "The version record was changed since the migration and was kept: %s." % _shown(now.record)
        return Verdict("record_kept", KEEP, (Finding("version_record_changed", "assetVersionId", message),))
    return Verdict(outcome, step or KEEP, findings)


def judge_asset(image: BeforeImage, now: Now) -> Tuple[str, Tuple[Any, ...]]:
    if image.superseded:
        return "superseded", ()
    if now.asset is None and now.twin and now.twin.get("currentVersionId") == image.plan.set_attributes.get("currentVersionId"):
        message = "It lies under databaseId %s now, and was left as it is there." % now.twin["databaseId"]["S"]
        return "asset_deleted", (Finding("asset_moved", "", message),)
    if now.asset is None:
        return "asset_deleted", (Finding("asset_deleted", "", "It was deleted since the migration."),)
    migrated = owned_after(image)
    changed = [name for name in migrated if not same(now.asset.get(name), migrated[name])]
    if not changed:
        return "restored", ()
    if was_not_migrated(image, now.asset):
        return "nothing_to_restore", ()
    differences = ["%s is %s, not %s" % (name, _shown(now.asset.get(name)), _shown(migrated[name])) for name in changed]
    message = "It is not as the migration left it: %s." % "; ".join(differences)
    return "changed_since", (Finding("changed_since", ", ".join(changed), message),)


def judge_record(image: BeforeImage, now: Now) -> Optional[str]:
    """What becomes of the version record; None where it should go, but others changed it."""
    if image.record is None or now.record is None or (image.superseded and has_version(now.asset, now.record)):
        return KEEP
    ours = as_written(now.record, image.record, image.started)
    if has_version(now.twin, now.record):
        return PUT_BACK if ours and image.replaced else KEEP
    if ours:
        return DELETE
    if now.twin and migration.is_archived(image.asset):
        # This archived asset was content with the live one's record, which that no longer needs.
        plan = migration.plan_asset(now.twin, bucket_of(image), image.started)
        if plan.record and as_written(now.record, plan.record, image.started):
            return DELETE
    return None


def owned_before(image: BeforeImage) -> Owned:
    return {name: image.asset.get(name) for name in migration.OWNED_FIELDS}


def owned_after(image: BeforeImage) -> Owned:
    """The attributes that the migration owns, as it left them."""
    owned = owned_before(image)
    owned.update(image.plan.set_attributes)
    owned.update(dict.fromkeys(image.plan.remove_attributes))
    return owned


def was_not_migrated(image: BeforeImage, asset: Item) -> bool:
    """Whether none of the fields is gone that the migration removes all at once."""
    removed = [name for name in image.plan.remove_attributes if name in migration.REMOVED_FIELDS]
    same_id = same(asset.get("currentVersionId"), image.asset.get("currentVersionId"))
    return same_id and all(name in asset for name in removed)


def has_version(asset: Optional[Item], record: Item) -> bool:
    """Whether a migrated asset's current version is that of the record."""
    return asset is not None and asset.get("currentVersionId") == record["assetVersionId"]


def as_written(record: Item, written: Item, started: str) -> bool:
    """Whether a record is what the migration wrote. Where that took the time of its start
    for the date, it may be the time of an earlier, interrupted run."""
    undated = written["dateCreated"] == {"S": started}
    return migration.same_record(record, written) and (undated or record["dateCreated"] == written["dateCreated"])


def same(one: Any, other: Any) -> bool:
    """Equal values; DynamoDB gives the elements of a set in any order."""
    return one == other or _with_sorted_sets(one) == _with_sorted_sets(other)


def _with_sorted_sets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: sorted(inner) if name in ("SS", "NS", "BS") and _is_set(inner) else _with_sorted_sets(inner)
            for name, inner in value.items()
        }
    return [_with_sorted_sets(inner) for inner in value] if isinstance(value, list) else value


def _is_set(value: Any) -> bool:
    # A map may have an attribute that is named SS; its value is a dict.
    return isinstance(value, list)


def _shown(value: Optional[Dict[str, Any]]) -> str:
    return "absent" if value is None else migration.shown(value)
