#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Verify that the assets of VAMS are as v2.3 needs them. Reads only.

    settings -> preflight -> assets -> version records -> journals -> report, summary, page

1. Every asset is read once, its version record and, of an archived one, its live twin with it:
   is it migrated, and does it keep every rule of spec.md section 2?
2. Every version record is read once: would the application accept it, and is only one of an asset's
   current? With --limit or --database-id only the records of those assets count.
3. With --journal, every before image is transformed again and compared with what is stored, attribute by
   attribute, also those that must not have changed. A version record is to be what the journal says that it came
   to, also where the asset found or kept another's. Whatever users changed since differs too: prove a migration
   before they come back. Of several journals the newest before image of an asset counts, and for its version record
   the newest that has one. What a person still has to do is derived from the before images too, whichever run met it.

With --restored, after a rollback, every before image's asset is to be as it was, and of the version records that the
migration made only those may be left that an asset needs. Version records of users that no asset needs are named. Other
assets that are migrated are counted, and are to have their version record, no more.

A problem makes the exit status 1. A note does not: it is what a correct migration, or the v2.3 application,
may leave. ERROR_TYPES lists both. What cannot be told from the tables alone is decided like this:

- The application places assets too. Its own mark is `bucketId`; and only the migration's locations are
  surely "<assetId>/". So another key is a note, and another bucket beside "<assetId>/" a problem.
- An unknown date is migrated as it was (spec.md section 2), so it is a note; v2.2's own form is a problem.
- One assetId in several databases has a current record for each, and so has an archived asset when the application
  has made another one of its assetId since; both are notes. A current record that no asset points to is a problem.
- A version record does not say whose it is: a problem is reported for the asset that points to the record,
  else for a live one; without any asset the column database_id is empty.

Exit status: 0 verified; 1 problems found, or stopped by an error half-way; 2 wrong usage or settings;
3 preflight failed; 130 interrupted.
"""

import base64
import collections
import contextlib
import datetime
import functools
import hashlib
import html
import json
import logging
import os
import re
import sys
import threading
from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

try:
    from load_migration import load_script, migration
except ModuleNotFoundError as missing:
    if missing.name != "load_migration":
        raise
    sys.stderr.write("error: load_migration.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

rollback = load_script("v2.2_to_v2.3_migration_rollback.py")  # for its journals

# --------------------------------------------------------------------------------------
# Configuration
# --------------------------------------------------------------------------------------

SETTINGS = (*migration.SHARED_SETTINGS, *migration.CHOOSING, "max_read_units", "report_dir")

PAGE_ROWS = 10000  # problems in the HTML page; the CSV file has them all
# Up to so many assets of --limit or --database-id are asked for their records one by one. For more, the whole
# table of records is read, and those count whose assetId is in a database that was read.
QUERIED_ASSETS = 10000
CONFLICTS = 1000  # of which it is told whether another asset has the version
SHOWN_CHARACTERS = 200  # of a value in the report
NAMED_IN_ROW = 300  # assets, in a row that stands for many: a spreadsheet's cell takes 32,767 characters

REPORT_COLUMNS = ("database_id", "asset_id", "error_type", "field", "expected", "actual", "error_message")

# The closed list of error_type, and what each means.
ERROR_TYPES = collections.OrderedDict(
    [
        ("not_migrated", "The asset is still in v2.2's form; nothing else of it was checked."),
        ("legacy_field", "The asset still has an attribute that the migration removes."),
        ("invalid_version_id", "A version id is not an integer; the application then lists no version of the asset."),
        (
            "version_record_missing",
            "The asset versions table has no record of the asset's current version. Was it made in another one? Then"
            " roll that run back with --asset-versions-table. Else roll back by all journals. Then migrate again; if"
            " somebody has set its currentVersionId, make a new version in the application.",
        ),
        ("not_current_version", "The record of the asset's version says the wrong thing in isCurrentVersion."),
        (
            "several_current_versions",
            "Several version records are current, and one of them is no asset's version: set its isCurrentVersion to"
            " false, or delete it if it is not wanted.",
        ),
        ("version_record_invalid", "An attribute of a version record is missing or of a type the application refuses."),
        ("date_in_old_form", "dateCreated is in v2.2's form, which the application shows as Invalid Date."),
        ("asset_location_invalid", "assetLocation does not name a key and a bucket as the application needs them."),
        (
            "preview_location_invalid",
            "previewLocation lacks its key, so that the application cannot list any asset, or its bucket.",
        ),
        (
            "other_bucket",
            "A location that the migration writes names another bucket than --asset-bucket. If a run had the wrong one,"
            " roll back with that as --asset-bucket, then migrate again.",
        ),
        ("asset_content_differs", "Journal: the asset is not what its before image becomes by the migration."),
        (
            "record_content_differs",
            "Journal: the version record is not what the migration wrote from the before image.",
        ),
        ("asset_missing", "Journal: the asset does not exist any more."),
        ("not_restored", "Restored: the asset is not as it was before the migration."),
        ("record_left", "Restored: a version record of the migration is left, and no asset needs it."),
        ("nothing_found", "Something that was to be verified is not there: asset, databaseId or before images."),
        (
            "still_migrated",
            "Note: Restored: assets are still migrated, and no journal given has what they were before.",
        ),
        (
            "made_in_v23",
            "Note: assets that users made, archived, or went on from, in v2.3; after a rollback v2.2 cannot read them.",
        ),
        (
            "record_unexplained",
            "Note: Restored: version records that assets relied on are left, and no asset of this assets table needs"
            " them; a journal not given may tell of them.",
        ),
        (
            "journal_damaged",
            "Note: a journal in a folder given is damaged, or a part only; what it tells was not compared.",
        ),
        (
            "record_of_user",
            "Note: Restored: a version record of users is left, and no asset needs it; delete it, or it is current"
            " beside that of a new migration.",
        ),
        (
            "left_by_rollback",
            "Note: assets that a rollback left as users had made them, or that a run whose journal was not given has"
            " migrated again; their content was not compared.",
        ),
        (
            "gone_since",
            "Note: assets of a run that was taken back are gone; users may have deleted or archived them.",
        ),
        ("to_do", "Note: the migration left this to a person. The message says what to do."),
        (
            "no_before_image",
            "Note: migrated assets are in none of the journals given, or only in that of a repair: their content was"
            " not compared, and only their journals lead back.",
        ),
        (
            "edited_since",
            "Note: Restored: users, or a later run with --repair, changed an attribute that this migration left alone.",
        ),
        ("asset_location_elsewhere", "Note: the asset's files are not under <assetId>/; the application may do that."),
        (
            "date_not_recognised",
            "Note: dateCreated has a form that the application may show as Invalid Date; an ISO date such as"
            " 2025-07-01T10:00:00Z, set by hand, mends it, and a rollback then leaves that record.",
        ),
        ("shared_asset_id", "Note: the assetId is in several databases, each with a current version of its own."),
        ("archived_not_current", "Note: no version record of an archived asset is current; archiving may leave that."),
        ("archived_current", "Note: the version record of an archived asset is current beside that of another asset."),
        (
            "several_current_unclear",
            "Note: several version records are current; an asset that was not read may explain it.",
        ),
        ("archived_twin", "Note: an archived asset shares the version record of another asset with its assetId."),
    ]
)
NOTES = tuple(name for name, meaning in ERROR_TYPES.items() if meaning.startswith("Note:"))

LOG = migration.LOG

# --------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------

Item = Dict[str, Any]
Key = Tuple[str, str, str]
Keys = rollback.Keys


class Problem(NamedTuple):
    """A row of the report."""

    database_id: str
    asset_id: str
    error_type: str
    field: str
    expected: str
    actual: str
    message: str


class Asset(NamedTuple):
    """What is kept of an asset until its version record is there."""

    database_id: str
    asset_id: str
    version_id: Optional[str]  # that it has or will have
    is_migrated: bool
    problems: List[Problem]
    record: Optional[Item] = None  # that the migration has still to make


class Case(NamedTuple):
    """What is verified, and by what."""

    database: Any
    settings: Any
    site: Any
    journals: List[Any]
    archive: Any  # as rollback.survey says it of the journals
    restored: bool = False  # whether after a rollback
    damaged: Sequence[Any] = ()  # errors, of journals that are left out
    under_way: Sequence[str] = ()  # the journals of runs that change the tables meanwhile
    rolled_back: FrozenSet[str] = frozenset()  # the marks of those journals that a rollback has taken back
    rollback_ended: bool = False  # all of them
    rollback_known: bool = False  # there was one by the newest of these journals, maybe killed
    # Of one that did not come to its end, and that nothing has finished since, the flags that say by which journals.
    rollback_unfinished: Dict[str, Any] = {}
    left_out: Sequence[str] = ()  # journals that a rollback before the last run has taken back
    others: Sequence[str] = ()  # as paths_not_given has them


# --------------------------------------------------------------------------------------
# Rules: spec.md sections 1 and 2, an item in, problems out
# --------------------------------------------------------------------------------------

TEXTS_OF_RECORD = ("dateCreated", "comment", "description", "createdBy")
NOT_MIGRATED = "The asset is not migrated."
# What users leave as it is until they archive an asset, as far as can be told from another one of its assetId.
AS_ARCHIVED = (*migration.OWNED_FIELDS, "assetName")
# What `new Date(text)` reads in every browser (ECMAScript: date time string format).
ISO_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.][0-9]+)?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?\Z"
)


def display(value: Optional[Dict[str, Any]]) -> str:
    """A stored value for the report: text as it is, anything else as DynamoDB JSON."""
    if value is None:
        return "absent"
    text = value.get("S") or migration.to_json(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def is_in_old_form(asset: Item) -> bool:
    """Whether currentVersion still tells the version, or nothing does."""
    return "currentVersion" in asset or asset.get("currentVersionId") in (None, migration.NULL, {"S": ""})


def is_to_migrate(asset: Item) -> bool:
    """Also what v2.3 has touched, as it stands there before the migration."""
    return any(name in asset for name in migration.REMOVED_FIELDS) or is_in_old_form(asset)


def asset_problems(asset: Item, bucket: str) -> List[Problem]:
    """What is wrong with an asset by itself."""
    finding = functools.partial(Problem, asset["databaseId"]["S"], asset["assetId"]["S"])
    if is_in_old_form(asset):
        plan = migration.plan_asset(asset, bucket, "")
        reason = " The migration cannot (%s): %s" % plan.findings[0][::2] if plan.outcome == "failed" else ""
        message = NOT_MIGRATED + reason
        if "currentVersion" in asset:
            return [finding("not_migrated", "currentVersion", "absent, as in v2.3", "present, as in v2.2", message)]
        actual = display(asset.get("currentVersionId"))
        return [finding("not_migrated", "currentVersionId", "a version id", actual, message)]
    problems = [
        finding("legacy_field", name, "absent", display(asset[name]), "%s is still there." % name)
        for name in migration.REMOVED_FIELDS
        if name in asset
    ]
    version_id = migration.text_of(asset["currentVersionId"])
    if version_id is None or not migration.is_version_number(version_id):
        message = "currentVersionId is not an integer in text form."
        actual = display(asset["currentVersionId"])
        problems.append(finding("invalid_version_id", "currentVersionId", "an integer as text", actual, message))
    return problems + location_problems(asset, bucket, finding)


def location_problems(asset: Item, bucket: str, finding: Callable) -> List[Problem]:
    """What is wrong with assetLocation and previewLocation; see the docstring on whose they are."""
    own_key = asset["assetId"]["S"] + "/"
    location = asset.get("assetLocation", {}).get("M", {})
    key = migration.text_of(location.get("Key"))
    by_migration = key == own_key and "bucketId" not in asset
    problems = []
    if key is None or key == "/" + own_key:
        message = "assetLocation.Key names no place for files."
        actual = display(location.get("Key"))
        problems.append(finding("asset_location_invalid", "assetLocation.Key", own_key, actual, message))
    elif key != own_key and "bucketId" not in asset:
        at = migration.text_of(location.get("Bucket"))
        place = "%s of bucket %s" % (key, at) if at not in (None, bucket) else key
        message = "The files are to be at %s. If the application has not placed them there, they need moving." % place
        problems.append(finding("asset_location_elsewhere", "assetLocation.Key", own_key, key, message))
    if by_migration or (migration.text_of(location.get("Bucket")) is None and "bucketId" not in asset):
        error_type = "other_bucket" if migration.text_of(location.get("Bucket")) else "asset_location_invalid"
        problems += bucket_problems(location, bucket, "assetLocation.Bucket", finding, error_type)
    if "previewLocation" not in asset:
        return problems
    preview = asset["previewLocation"].get("M", {})
    if migration.text_of(preview.get("Key")) is None:
        message = "previewLocation has no key: the application cannot list any asset of this table."
        expected, actual = "a key, or no previewLocation", display(asset["previewLocation"])
        problems.append(finding("preview_location_invalid", "previewLocation.Key", expected, actual, message))
    elif by_migration:
        error_type = "other_bucket" if migration.text_of(preview.get("Bucket")) else "preview_location_invalid"
        problems += bucket_problems(preview, bucket, "previewLocation.Bucket", finding, error_type)
    return problems


def bucket_problems(location: Item, bucket: str, field: str, finding: Callable, error_type: str) -> List[Problem]:
    if location.get("Bucket") == {"S": bucket}:
        return []
    actual = display(location.get("Bucket"))
    return [finding(error_type, field, bucket, actual, "%s is not the asset bucket %s." % (field, bucket))]


def current_record_problems(asset: Asset, record: Optional[Item]) -> List[Problem]:
    """Whether the record of an asset's current version is there and, of a live asset, is the current one."""
    version_id = asset.version_id or ""
    if record is None:
        return [version_record_missing(asset.database_id, asset.asset_id, version_id)]
    if record.get("isCurrentVersion") != migration.NOT_CURRENT or migration.in_archive(asset.database_id):
        return []
    return [not_current_problem(asset.database_id, asset.asset_id, version_id)]


def version_record_missing(database_id: str, asset_id: str, version_id: str) -> Problem:
    message = "There is no version record %s." % version_id
    return Problem(database_id, asset_id, "version_record_missing", "assetVersionId", version_id, "absent", message)


def not_current_problem(database_id: str, asset_id: str, version_id: str) -> Problem:
    message = "Version record %s is not the current one." % version_id
    expected, actual = display(migration.CURRENT), display(migration.NOT_CURRENT)
    return Problem(database_id, asset_id, "not_current_version", "isCurrentVersion", expected, actual, message)


def record_problems(record: Item) -> List[Problem]:
    """What the application would refuse in a version record; its database is not known here."""
    version_id = record["assetVersionId"]["S"]
    finding = functools.partial(Problem, "", record["assetId"]["S"])
    invalid = functools.partial(finding, "version_record_invalid")
    problems = []
    if not migration.is_version_number(version_id):
        message = "The version record %s hides all versions of the asset." % version_id
        actual = display(record["assetVersionId"])
        problems.append(finding("invalid_version_id", "assetVersionId", "an integer as text", actual, message))
    for name in TEXTS_OF_RECORD:
        if "S" not in record.get(name, {}):
            message = "%s of version record %s is not text." % (name, version_id)
            problems.append(invalid(name, "text", display(record.get(name)), message))
    pipelines = record.get("specifiedPipelines", {}).get("L")
    if pipelines is None or not all("S" in name for name in pipelines):
        message = "specifiedPipelines of version record %s is not a list of texts." % version_id
        actual = display(record.get("specifiedPipelines"))
        problems.append(invalid("specifiedPipelines", "a list of texts", actual, message))
    if "BOOL" not in record.get("isCurrentVersion", {}):
        message = "isCurrentVersion of version record %s is not true or false." % version_id
        problems.append(invalid("isCurrentVersion", "true or false", display(record.get("isCurrentVersion")), message))
    return problems + date_problems(record, version_id, finding)


def date_problems(record: Item, version_id: str, finding: Callable) -> List[Problem]:
    date = record.get("dateCreated", {}).get("S")
    if date is None or is_iso_date(date):
        return []
    message = "The application shows the date of version record %s as Invalid Date." % version_id
    if date == "":
        return [finding("version_record_invalid", "dateCreated", "a date", '""', message)]
    converted, warnings = migration.date_created({"S": date}, "")
    if warnings:
        message = "The date of version record %s may be shown as Invalid Date." % version_id
        return [finding("date_not_recognised", "dateCreated", "an ISO 8601 date", date, message)]
    return [finding("date_in_old_form", "dateCreated", converted, date, message)]


def is_iso_date(text: str) -> bool:
    match = ISO_DATE.match(text)
    with contextlib.suppress(ValueError):
        return match is not None and bool(datetime.datetime(*[int(part or 0) for part in match.groups()]))  # type: ignore
    return False


def several_current_problem(
    asset_id: str, current: List[str], owners: Dict[str, Optional[str]], all_owners: bool
) -> Problem:
    """What it means that an assetId has several current version records.
    owners: the version ids of the assets with this assetId by databaseId; all_owners: whether there are no others."""
    of_live = {version_id for name, version_id in owners.items() if not migration.in_archive(name)}
    of_archived = {
        version_id
        for name, version_id in owners.items()
        if migration.in_archive(name) and migration.twin_database(name) in owners
    }
    rightful = set(owners.values()) - (of_archived - of_live)
    if rightful.issuperset(current):
        error_type = "shared_asset_id"
    elif rightful.union(of_archived).issuperset(current):
        error_type = "archived_current"
    else:
        error_type = "several_current_versions" if all_owners else "several_current_unclear"
    listed = ", ".join(current[:10]) + (" and %d more" % (len(current) - 10) if len(current) > 10 else "")
    message = "The version records %s are all current." % listed
    if len(owners) > 1:
        message += " The assetId is in the databases %s." % ", ".join(sorted(owners))
    database_id = owner_of(owners, current[0])
    expected = ", ".join(sorted(filter(None, rightful))) or "one"
    return Problem(database_id, asset_id, error_type, "isCurrentVersion", expected, listed, message)


def owner_of(owners: Dict[str, Optional[str]], version_id: str) -> str:
    """The database of the asset that a version record is reported for; "" without any."""

    def rank(database_id: str) -> Tuple[bool, bool, str]:
        return (owners[database_id] != version_id, migration.in_archive(database_id), database_id)

    return min(owners, key=rank, default="")


# What a journal proves.


def asset_content_problems(image: Any, asset: Item) -> List[Problem]:
    """Every attribute in which an asset differs from what its before image becomes."""
    finding = functools.partial(Problem, image.key[1], image.key[2], "asset_content_differs")
    expected = image.whole_after
    message = "%s is not what the migration leaves."
    return [
        finding(name, *contrast(expected.get(name), asset.get(name)), message % name)
        for name in migration.differing(expected, asset)
    ]


def record_content_problems(image: Any, record: Optional[Item], exchanged: List[Item], taken: bool) -> List[Problem]:
    """Every attribute in which the version record differs from that which an asset's before image becomes.
    exchanged: what others put in the place of its record, and what they replaced.
    taken: the live asset of an archived one's assetId has its record, and nobody knows what that is to be."""
    finding = functools.partial(Problem, image.key[1], image.key[2])
    version_id = image.version_id
    planned = image.own_claim.now
    wrong = migration.differing(planned, record or {}) if record else ["assetVersionId"]
    if record and not wrong and migration.is_archived(image.asset) and not image.own_claim.wrote:
        # It kept what it found. Another date alone is no other record.
        found = migration.differing(image.record, record)
        wrong, taken = ([], taken) if found == ["dateCreated"] else (found, True)
    # Where users have gone on from the live one's version, its record is not current any more.
    changed = {"isCurrentVersion"} if record and record.get("isCurrentVersion") == migration.NOT_CURRENT else set()
    kept = [planned] if migration.is_archived(image.asset) and not image.own_claim.wrote else []
    others = filter(None, exchanged + kept)
    of_other = record and any(changed.issuperset(migration.differing(record, other)) for other in others)
    if wrong and record and (taken or of_other):
        message = "Another asset has the same assetId and version, so both share the version record %s." % version_id
        actual = "that of the other one, which differs in %s" % ", ".join(wrong)
        return [finding("archived_twin", "assetVersionId", "a record of its own", actual, message)]
    if wrong and record and exchanged:  # by that one which it is nearest to
        planned = min([planned, *filter(None, exchanged)], key=lambda one: len(migration.differing(one, record)))
        wrong = migration.differing(planned, record)
    message = "%s of version record %s is not what the migration left."
    present = record or {}
    return [
        finding(
            "record_content_differs",
            name,
            *contrast(planned.get(name), present.get(name)),
            message % (name, version_id),
        )
        for name in wrong
    ]


# What becomes of a finding of the migration afterwards, by its code: what is expected ("" of files: a place), and what
# to do. What is not here needs nobody, or shows otherwise.
TO_DO = {
    "files_outside_prefix": ("", "Copy its files"),
    "preview_bucket_replaced": ("", "Copy its preview"),
    "pipelines_dropped": ("names of pipelines", "Enter the pipelines again where they are needed."),
    "is_distributable_not_boolean": (
        "true or false",
        "Set it to true or false; --repair does, where it is known what was meant.",
    ),
    "asset_id_is_shared_prefix": (
        "a folder of its own",
        "Tell its files from those of others before any is deleted.",
    ),
    "name_or_description_missing": ("text", "Fill it in; where it is missing or null --repair does."),
}


def to_do(image: Any, asset: Item, bucket: str, profile: Optional[str]) -> List[Problem]:
    """What a person still has to do for an asset: what its migration found, where that is still as the migration left
    it."""
    rows = []
    for finding in image.plan.findings:
        name = finding.field
        if finding.code in TO_DO and migration.same(asset.get(name), image.whole_after.get(name)):
            expected, advice = TO_DO[finding.code]
            actual = display(asset.get(name))
            if not expected:
                actual, expected = places(image.asset[name], asset[name], bucket)
                advice += ": " + copy_command(actual, expected, profile)
            message = "%s %s" % (finding.message, advice)
            rows.append(Problem(image.key[1], image.key[2], "to_do", name, expected, actual, message))
    if not any(row.field == "assetLocation" for row in rows):
        rows += to_look_for_in_its_bucket(image, asset, bucket, profile)
    return rows


def to_look_for_in_its_bucket(image: Any, asset: Item, bucket: str, profile: Optional[str]) -> List[Problem]:
    """Where an old location in the asset's own folder named another bucket, of which the migration says nothing."""
    old, new = (item.get("assetLocation", {}) for item in (image.asset, image.whole_after))
    old_bucket = migration.text_of(old.get("M", {}).get("Bucket"))
    replaced = old_bucket not in (None, bucket) and migration.usable_key(old) and not migration.same(old, new)
    if not replaced or not migration.same(asset.get("assetLocation"), new):
        return []
    actual, _ = places(old, new, bucket)
    expected = "s3://%s/%s" % (bucket, migration.usable_key(old))
    message = "Its bucket was %s. If its files are there alone, copy them: %s"
    message %= old_bucket, copy_command(actual, expected, profile)
    return [Problem(image.key[1], image.key[2], "to_do", "assetLocation", expected, actual, message)]


# Where the migration finds what it writes to an attribute of a version record, where that has another name.
SOURCES = {"dateCreated": "currentVersion.DateModified"}


def was_seen_to(image: Any, problem: Problem, asset: Item, record: Optional[Item]) -> bool:
    """Whether an attribute differs because a person did what the migration left to do, or it is still to be done."""
    source = SOURCES.get(problem.field, problem.field)
    codes = {finding.code for finding in image.plan.findings if finding.field == source}
    if (
        image.is_repair
        and not image.journal.whole
        and migration.same(asset.get(problem.field), image.asset.get(problem.field))
    ):
        return True  # killed before its write: what it found is left to do
    if problem.error_type == "asset_content_differs":
        left = {finding.field for finding in migration.further_findings(image.whole_after)}
        kind = {"isDistributable": "BOOL", "assetName": "S", "description": "S"}.get(problem.field)
        return problem.field in left and kind in asset.get(problem.field, {})
    if problem.error_type == "record_content_differs" and "pipelines_dropped" in codes:
        names, planned = ((item or {}).get(problem.field, {}).get("L", []) for item in (record, image.record))
        return bool(names) and all("S" in name for name in names) and all(name in names for name in planned)
    if problem.error_type == "record_content_differs" and "date_not_recognised" in codes:
        return is_iso_date(migration.text_of((record or {}).get(problem.field)) or "")
    return False


def places(old: Dict[str, Any], new: Item, bucket: str) -> Tuple[str, str]:
    """Where files are, by their old location, and where they are to be, by the new one: a file each, or a folder."""
    key, target = migration.usable_key(old) or "", migration.usable_key(new) or ""
    old_bucket = migration.text_of(old.get("M", {}).get("Bucket")) or bucket
    if target.endswith("/") and not key.endswith("/"):
        target += key.split("/")[-1]
    return "s3://%s/%s" % (old_bucket, key), "s3://%s/%s" % (bucket, target)


def copy_command(source: str, target: str, profile: Optional[str]) -> str:
    words = ["aws"] + (["--profile", profile] if profile else []) + ["s3", "cp"]
    return migration.shell_text(words + (["--recursive"] if source.endswith("/") else []) + [source, target])


def missing_problem(key: Key, twin: Optional[Item]) -> Problem:
    """twin: the archived asset of a live one's assetId, or the other way round."""
    message = "The asset does not exist any more."
    if twin:
        message += " There is one of its assetId under databaseId %s." % migration.one_name(twin["databaseId"]["S"])
    return Problem(key[1], key[2], "asset_missing", "", "the asset", "absent", message)


def restored_problems(key: Key, before: "Before", asset: Optional[Item], twin: Optional[Item]) -> List[Problem]:
    """In what an asset differs from what it was before the migration. twin: as missing_problem has it."""
    if asset is None:
        return [missing_problem(key, twin)]
    finding = functools.partial(Problem, key[1], key[2])
    problems = []
    # A repair found it migrated, and the run that had migrated it, which is not given, was taken back too.
    taken_back_further = is_in_old_form(asset) and not is_to_migrate(before.asset)
    stays = is_in_old_form(before.asset) and not is_in_old_form(asset)
    still = "The asset is still migrated; no rollback has come to it, or users have changed it: " if stays else ""
    then = "; it is in the old form, in which users may have edited it" if is_in_old_form(asset) else ""
    for name in migration.differing(before.asset, asset):
        values = contrast(before.asset.get(name), asset.get(name))
        # What a repair set right and users have edited since is theirs.
        edited = name not in migration.OWNED_FIELDS and asset.get(name) != migration.repairs_of(before.asset).get(name)
        if name in before.owned and not edited and not (taken_back_further and name in migration.OWNED_FIELDS):
            problems.append(finding("not_restored", name, *values, "%s%s is not as it was%s." % (still, name, then)))
        else:
            message = "%s was changed since, which a rollback leaves so." % name
            problems.append(finding("edited_since", name, *values, message))
    return problems


def contrast(expected: Optional[Dict[str, Any]], actual: Optional[Dict[str, Any]]) -> Tuple[str, str]:
    """Two values for the report; of long ones what lies around the first difference."""
    if expected is None or actual is None:
        return display(expected), display(actual)
    texts = [value.get("S") or migration.to_json(value) for value in (expected, actual)]
    same = len(os.path.commonprefix(texts))
    start = same - 40 if max(map(len, texts)) > SHOWN_CHARACTERS and same > 40 else 0
    shown = [("..." if start else "") + text[start:] for text in texts]
    return display({"S": shown[0]}), display({"S": shown[1]})


# --------------------------------------------------------------------------------------
# The verification
# --------------------------------------------------------------------------------------


class Tally:
    """Counts of what was read and found."""

    def __init__(self) -> None:
        self.assets = self.records = self.images = 0
        self.any_image = False  # also one that does not count
        self.rows = 0  # of the report
        self.types = collections.Counter()  # type: collections.Counter  # assets by error_type
        self.not_migratable = 0  # assets that are not migrated, for a reason that has to be mended first

    @property
    def problems(self) -> int:
        return sum(count for name, count in self.types.items() if name not in NOTES)

    @property
    def notes(self) -> int:
        return sum(count for name, count in self.types.items() if name in NOTES)


class Told(NamedTuple):
    """What is told by a before image, and by none that is newer."""

    asset: bool
    record: bool  # the asset's version record
    is_void: bool  # its run was taken back


def removed_by(image: Any) -> Set[str]:
    """The fields that an image's run removed, other than those that the application removes where it comes first."""
    return {*migration.REMOVED_FIELDS}.intersection(image.plan.remove_attributes) - {"currentVersion", "versions"}


class Verification:
    """The three passes. Each has its pages and a coroutine for an item of them."""

    def __init__(self, case: Case, findings: Any) -> None:
        settings = case.settings
        self.database = case.database
        self.settings = settings
        self.item_count = case.site.item_count  # about
        self.with_journals = bool(case.journals)
        self.bucket = settings.asset_bucket_name
        self.add = findings.add  # type: Callable[..., None]
        self.tally = findings.tally
        self.scoped = is_scoped(settings)
        self.owners = migration.AssetKeys()
        self.empty_databases = set(settings.database_id)
        self.asset_ids = {}  # type: Dict[str, None]
        self.archive = case.archive
        self.rolled_back = case.rolled_back
        self.archived_not_current = Keys()  # assetIds of archived assets whose record is not current
        self.limited = Keys()  # with a limit, the assets that were read
        self.conflicts = []  # type: List[Tuple[Asset, List[Problem]]]  # told when all owners are known
        self.seen = Keys()
        self.without_record = Keys()  # assets whose newest before image has none, and no older one has told of theirs
        self.legacy_left = Keys()  # of these each field of v2.2 that run found, and "" where it did more than repair
        self.seen_taken_back = Keys()  # those of runs that were taken back
        self.listed = Keys()  # assets with attributes that are to be seen to
        # Migrated assets, without those that a journal has a before image of: of the migration, those that a rollback
        # left as users had made them, and of users.
        self.uncovered, self.left_by_rollback, self.made_in_v23 = Keys(), Keys(), Keys()
        self.gone_since = Keys()  # assets of runs that were taken back

    # First pass: assets.

    def assets(self, run: Any) -> Any:
        segments = migration.segments_of_assets(self.settings, self.item_count)
        return migration.table_pages(run.reader, self.database.assets, segments, self.settings.limit, self.look_at)

    def look_at(self, item: Item, text: str) -> Asset:
        """What is to be known of an asset, in the thread that reads it."""
        is_migrated = not is_in_old_form(item)
        version_id = migration.text_of(item["currentVersionId"]) if is_migrated else migration.version_id_of(item)
        problems = asset_problems(item, self.bucket)
        to_be_made = self.with_journals and not is_migrated and not migration.is_archived(item)
        record = migration.record_to_make(item) if to_be_made else None
        is_migrated = is_migrated and version_id is not None
        return Asset(item["databaseId"]["S"], item["assetId"]["S"], version_id, is_migrated, problems, record)

    async def verify_asset(self, run: Any, asset: Asset) -> None:
        self.tally.assets += 1
        self.empty_databases.discard(asset.database_id)
        self.owners.add(asset.database_id, asset.asset_id, asset.version_id)
        if self.settings.limit is not None:
            self.limited.add([asset.database_id, asset.asset_id])
        if self.scoped and len(self.asset_ids) <= QUERIED_ASSETS:
            self.asset_ids[asset.asset_id] = None
        problems = asset.problems
        if asset.is_migrated:
            record_key = (self.database.versions, asset.asset_id, asset.version_id)
            twin_key = migration.twin_key((self.database.assets, asset.database_id, asset.asset_id))
            archived = migration.in_archive(asset.database_id)
            found = await run.tables.get([record_key, twin_key] if archived else [record_key])
            if archived and (found.get(record_key) or {}).get("isCurrentVersion") == migration.NOT_CURRENT:
                self.archived_not_current.add([asset.asset_id])
            if twin_key in found:
                self.owners.add(twin_key[1], asset.asset_id, migration.version_id_of(found[twin_key]))
            problems = problems + current_record_problems(asset, found.get(record_key))
            touched = any(problem.error_type == "legacy_field" for problem in problems)  # by v2.3, and not migrated
            if self.with_journals and not touched:
                by_user = migration.made_by_user(found.get(record_key))
                (self.made_in_v23 if by_user else self.uncovered).add([asset.database_id, asset.asset_id])
        elif asset.record:
            record_key = self.database.record_key(asset.record)
            twin_key = migration.twin_key((self.database.assets, asset.database_id, asset.asset_id))
            found = await run.tables.get([record_key, twin_key])
            if is_in_the_way(asset.record, found.get(record_key), found.get(twin_key)):
                problems = self.in_conflict(asset, problems, found[record_key])
        for problem in problems:
            self.add(problem)

    def in_conflict(self, asset: Asset, problems: List[Problem], present: Item) -> List[Problem]:
        """The problems of an asset that another record is in the way of; none where they are told at the end."""
        reason = "(version_conflict) " + migration.in_the_way(asset.record, present)
        problems = [problem._replace(message="%s %s" % (problem.message, reason)) for problem in problems]
        if self.scoped or len(self.conflicts) == CONFLICTS:
            return problems
        self.conflicts.append((asset, problems))
        return []

    def add_at_the_end_of_assets(self) -> None:
        self.add_conflicts()
        self.add_what_was_not_found()

    def add_conflicts(self) -> None:
        """When all assets were read: which other asset has the version of a record that is in the way."""
        for asset, problems in self.conflicts:
            others = sorted(self.owners.versions(asset.asset_id).items())
            same = [name for name, version_id in others if version_id == asset.version_id and name != asset.database_id]
            more = " and others" if len(same) > migration.SHOWN_ASSETS else ""
            names = ", ".join(map(migration.one_name, same[: migration.SHOWN_ASSETS])) + more
            whose = "Others of this assetId and version: under databaseId %s." % names
            whose = whose if same else "No other asset has this assetId and version."
            for problem in problems:
                self.add(problem._replace(message="%s %s" % (problem.message, whose)))

    def add_what_was_not_found(self) -> None:
        """When all assets were read: what was named and does not exist was not verified. An archive may be empty."""
        if self.settings.limit is None and self.settings.asset_id is None:
            for problem in databases_not_found(self.empty_databases):
                self.add(problem)
        if not self.tally.assets and not self.tally.problems:
            message = "No asset was found: %s." % migration.describe_scope(self.settings)
            asset_id = self.settings.asset_id or ""
            database_id = self.settings.database_id[0] if asset_id else ""
            self.add(Problem(database_id, asset_id, "nothing_found", "", "assets", "none", message))

    def add_what_was_not_compared(self) -> None:
        """When all journals were read: how many migrated assets none of them covers."""
        add_of_many(self.add, "no_before_image", "Migrated assets" + UNTOLD, self.uncovered)
        for page in self.left_by_rollback.pages(rollback.PAGE_IMAGES):
            for key in page:
                self.add(left_problem("left_by_rollback", key, "as a rollback or a later run left it", "not compared"))
        add_of_many(self.add, "made_in_v23", OF_USERS, self.made_in_v23)

    # Second pass: version records.

    def records(self, run: Any) -> Any:
        segments = migration.segments_of_table(self.item_count)
        if self.scoped and len(self.asset_ids) <= QUERIED_ASSETS:
            segments = (migration.Segment(migration.query_of("assetId", name)) for name in self.asset_ids)
        return histories(migration.table_pages(run.reader, self.database.versions, segments))

    async def verify_history(self, run: Any, history: "History") -> None:
        self.tally.records += history.count
        not_current = not self.scoped and self.archived_not_current.has([history.asset_id])
        if not history.problems and len(history.current) == 1 and not not_current:
            return
        owners = self.owners.versions(history.asset_id)
        if self.scoped and not owners:
            return
        for version_id, problem in history.problems:
            self.add(problem._replace(database_id=owner_of(owners, version_id)))
        if len(history.current) > 1:
            self.add(several_current_problem(history.asset_id, history.current, owners, not self.scoped))
        elif not_current and all(map(migration.in_archive, owners)) and not set(owners.values()) & set(history.current):
            # The first pass looks at the records of live assets. Of archived ones alone, one is to be current, unless
            # one was archived over another whose record was not.
            for name in sorted(name for name, version_id in owners.items() if version_id in history.not_current):
                problem = not_current_problem(name, history.asset_id, owners[name] or "")
                self.add(problem._replace(error_type="archived_not_current"))

    # Third pass: journals.

    def is_within_limit(self, image: Any) -> bool:
        return self.settings.limit is None or self.limited.has(image.key[1:])

    def told_by(self, image: Any) -> Told:
        """The newest before images come first. One that was taken back says nothing of what users, or later runs, have
        made of its asset since."""
        key = image.key[1:]
        tells_record = image.record is not None and self.without_record.has(key) and self.was_migrated_by(image)
        if image.journal.mark in self.rolled_back or image.taken_back:
            newest = image.record is not None and not self.seen.has(key) and self.seen_taken_back.add(key)
            return Told(newest, newest or tells_record, True)
        newest = self.seen.add(key)
        if newest and image.record is None:
            self.without_record.add(key)
            fields = [name for name in migration.REMOVED_FIELDS if name in image.asset]
            for name in fields + [""] * (not image.is_repair):
                self.legacy_left.add([*key, name])
        elif tells_record:
            self.without_record.discard(key)
        return Told(newest, newest or tells_record, False)

    def was_migrated_by(self, image: Any) -> bool:
        """Whether the newest run on an asset, which made no version record, found it as an image's run left it: without
        a field that this removed."""
        return not all(self.legacy_left.has([*image.key[1:], name]) for name in removed_by(image) or ("",))

    async def verify_image(self, run: Any, image: Any) -> None:
        self.tally.any_image = True
        if image.superseded:  # in its own run, which planned the asset anew
            return
        told = self.told_by(image)
        if not is_in_scope(image, self.settings) or not self.is_within_limit(image):
            return
        twin_key = migration.twin_key(image.key)
        record_key = self.database.record_key(image.record) if image.record else ()
        archived = migration.is_archived(image.asset)
        found = await run.tables.get([image.key] + [record_key] * bool(record_key) + [twin_key] * archived)
        asset, record = found.get(image.key), found.get(record_key)
        if asset is None:
            if told.asset:
                await self.look_for(run, image, told.is_void)
            return
        has_legacy = any(name in asset for name in migration.REMOVED_FIELDS)
        if is_in_old_form(asset) or (has_legacy and not migration.differing(asset, image.asset)):
            # The run that wrote the journal left it alone, or it was taken back; the first pass has said so.
            self.tick_off(image)
            return
        problems = asset_content_problems(image, asset) if told.asset else []
        if record_key and told.record and (told.asset or self.is_as_made(asset, record, record_key)):
            problems += self.problems_of_record(image, record, found.get(twin_key))
        problems = [problem for problem in problems if not was_seen_to(image, problem, asset, record)]
        went_on = image.record and migration.is_before(image.version_id, migration.version_id_of(asset) or "")
        if problems and not archived and not went_on and self.uncovered.has(twin_key[1:]):
            await self.see_archived(run, image, told.is_void)
        self.add_findings(image, asset, problems, told)

    def is_as_made(self, asset: Item, record: Optional[Item], record_key: Key) -> bool:
        """Whether users have not gone on from a version before a later run, nor made another asset with that one."""
        return migration.needs_record(asset, record_key[2]) and not migration.made_by_user(record)

    def problems_of_record(self, image: Any, record: Optional[Item], twin: Optional[Item]) -> List[Problem]:
        """twin: the live asset of an archived one's assetId."""
        archived, key = migration.is_archived(image.asset), self.database.record_key(image.record)
        claims = self.archive.exchanges_by_others(image, key) if archived else []
        exchanged = [record for claim in claims for record in (claim.was, claim.now)]
        # A later run, whose journal was not given, may have had the live asset take the record that this one made.
        version_id = image.version_id
        taken = twin is not None and image.own_claim.was is None and migration.needs_record(twin, version_id)
        if record is not None and image.may_be_dated_by(self.archive.starts, record):
            return []
        return record_content_problems(image, record, exchanged, taken and not exchanged)

    def add_findings(self, image: Any, asset: Item, problems: List[Problem], told: Told) -> None:
        """problems: in which the asset of a before image, or its version record, is not as the migration left it."""
        key = image.key[1:]
        if not told.is_void:
            self.tally.images += told.asset
            if told.record or image.record is None:
                self.tick_off(image)
        elif told.asset and all(problem.error_type in NOTES for problem in problems):
            if not image.taken_back:  # else another run has made it the same again
                self.tally.images += 1
                self.tick_off(image)
        elif self.was_left(image, asset, told):
            self.left_by_rollback.add(key)
            problems = []
        elif told.asset and self.made_in_v23.has(key):  # users went on from what a rollback then left
            problems = []
        else:
            return
        for problem in problems:
            self.add(problem)
        for row in to_do(image, asset, self.bucket, self.settings.aws_profile):  # whichever run it was
            if self.listed.add([*key, row.field]):
                self.add(row)

    def was_left(self, image: Any, asset: Item, told: Told) -> bool:
        """Whether the rollback of an image's run left its asset, and no other run given tells of its migration."""
        if told.asset:
            return self.uncovered.discard(image.key[1:])
        needed = told.record and migration.needs_record(asset, image.version_id)
        if needed:
            self.uncovered.discard(image.key[1:])
        return needed

    def tick_off(self, image: Any) -> None:
        """Its asset is not one of those that no journal tells of. A repair tells of no migration."""
        self.made_in_v23.discard(image.key[1:])
        if not image.is_repair:
            self.uncovered.discard(image.key[1:])
        if image.record is not None:
            self.left_by_rollback.discard(image.key[1:])

    async def see_archived(self, run: Any, image: Any, is_void: bool) -> Optional[Item]:
        """The archived asset of a live one's assetId, or the other way round. It is of users where it is the one that
        the migration left, which they archived since; where the run was taken back, it may have been migrated anew."""
        twin_key = migration.twin_key(image.key)
        twin = (await run.tables.get([twin_key])).get(twin_key)
        changed = set(migration.differing(twin or {}, image.whole_after))
        archived_since = twin is not None and migration.is_archived(twin) and not changed.intersection(AS_ARCHIVED)
        if archived_since and self.uncovered.discard(twin_key[1:]):
            (self.left_by_rollback if is_void else self.made_in_v23).add(twin_key[1:])
        return twin

    async def look_for(self, run: Any, image: Any, is_void: bool) -> None:
        """An asset that is gone, or that users have archived, as far as can be seen."""
        twin = await self.see_archived(run, image, is_void)
        if is_void and self.gone_since.add(image.key[1:]):
            self.add(left_problem("gone_since", image.key[1:], "the asset", "absent"))
        elif not is_void:
            self.tally.images += 1
            self.add(missing_problem(image.key, twin))


class Before(NamedTuple):
    """What an asset was before the migrations that the journals are of, and what of it they changed."""

    asset: Item
    owned: List[str]
    given_back: bool  # by a rollback, so that where it is migrated, another run has done that


def was_as_before(image: Any, asset: Item) -> bool:
    """Whether an asset, when a later run came to it, still had what the image's run removed: so that run had been taken
    back, or had never come to change it."""
    removed = removed_by(image)
    return bool(removed) and all(migration.same(asset.get(name), image.asset[name]) for name in removed)


def before_both(image: Any, later: Before) -> Before:
    """What an asset was before the image's run, where a later one found it in the new form."""
    asset = {name: value for name, value in {**later.asset, **image.before}.items() if value is not None}
    if any(not migration.same(later.asset.get(name), value) for name, value in image.after.items()):
        asset = image.asset  # users have edited it between the runs, which no rollback takes back
    return Before(asset, later.owned + list(image.before), later.given_back and image.given_back)


class Restoration:
    """The passes after a rollback: which assets are migrated now; what was before, beside what is stored; which version
    records are left; and whose the assets are that are migrated, and in no journal."""

    def __init__(self, case: Case, findings: Any) -> None:
        self.database = case.database
        self.settings = case.settings
        self.item_count = case.site.item_count  # about
        self.add = findings.add  # type: Callable[..., None]
        self.tally = findings.tally
        self.seen = Keys()
        self.left = Keys()  # version records that journals say were made, and that no asset needs
        self.unexplained = Keys()  # those that an asset only relied on
        self.asset_ids = Keys()  # of the before images
        by_asset_id = case.settings.asset_id is not None
        self.empty_databases = set([] if by_asset_id else case.settings.database_id)  # of those that were named
        self.new_ones = Keys()  # assets in the new form, without those that a journal has as they were before
        self.still_migrated = Keys()  # those of them whose version record the migration may have made
        self.made_in_v23 = Keys()  # the others
        self.owners = None  # type: Any
        # Of assets that were migrated before: an older journal may tell what they were before that.
        self.migrated = migration.temporary_database(
            "CREATE TABLE migrated (key TEXT PRIMARY KEY, before TEXT) WITHOUT ROWID"
        )

    def assets(self, run: Any) -> Any:
        def form_of(item: Item, text: str) -> Tuple[Key, bool]:
            return self.database.key_of(self.database.assets, item), is_to_migrate(item)

        segments = migration.segments_of_assets(self.settings, self.item_count)
        return migration.table_pages(run.reader, self.database.assets, segments, None, form_of)

    async def look_at(self, run: Any, asset: Tuple[Key, bool]) -> None:
        key, is_old = asset
        self.tally.assets += 1
        self.empty_databases.discard(key[1])
        if not is_old:
            self.new_ones.add(key[1:])

    async def pages_of_new_ones(self, run: Any):
        """Pages of the keys of assets that are in the new form and in no journal."""
        segment = migration.Segment({})
        for keys in self.new_ones.pages(rollback.PAGE_IMAGES):
            yield migration.Page([(self.database.assets, *key) for key in keys], len(keys), segment)

    async def tell_apart(self, run: Any, key: Key) -> None:
        """Whose work an asset in the new form is, by its version record, or by its live twin, if that is gone."""
        found = await run.tables.get([key, migration.twin_key(key)])
        asset, twin = found.get(key), found.get(migration.twin_key(key))
        if asset is None:
            return
        if migration.is_archived(asset) and twin is None and self.seen.has(migration.twin_key(key)[1:]):
            self.made_in_v23.add(key[1:])
            return
        record_key = (self.database.versions, key[2], migration.version_id_of(asset) or "")
        record = (await run.tables.get([record_key])).get(record_key) if record_key[2] else None
        if record is None:  # a rollback that was killed may leave it so, where a migration relied on it meanwhile
            self.add(version_record_missing(key[1], key[2], record_key[2]))
        (self.made_in_v23 if migration.made_by_user(record) else self.still_migrated).add(key[1:])

    def add_what_no_journal_explains(self) -> None:
        """When all journals were read, and the assets in the new form were told apart."""
        for page in self.left.pages(rollback.PAGE_IMAGES):
            for key in page:
                self.unexplained.discard(key)
        add_of_many(self.add, "still_migrated", "Assets in the new form" + UNTOLD, self.still_migrated)
        add_of_many(self.add, "made_in_v23", OF_USERS, self.made_in_v23)
        unneeded = "Version records that no asset of %s needs, and" % self.database.assets
        add_of_many(self.add, "record_unexplained", unneeded + UNTOLD, self.unexplained)

    async def pages(self, run: Any, journals: List):
        """Pages of keys, each with what an asset was before, None where others tell it, and the claims for it."""
        segment = migration.Segment({})
        async for page in rollback.image_pages(run.reader, journals):
            images = [image for image in page.items if is_in_scope(image, self.settings)]
            for image in images:
                self.tally.any_image = True
                self.empty_databases.discard(image.key[1])
                self.asset_ids.add(image.key[2:])
            yield page._replace(items=[(image.key, self.before(image), image.claims) for image in images])
        for key, before in self.migrated.execute("SELECT key, before FROM migrated ORDER BY key"):
            yield migration.Page([(tuple(json.loads(key)), Before(*json.loads(before)), [])], len(before), segment)

    def before(self, image: Any) -> Optional[Before]:
        """What an asset was before, once all journals from an image on have been read; None where that was known, or
        is not known yet. The newest come first: a rollback takes one back, and then what is older, but nothing that was
        superseded in its own run."""
        if image.superseded:
            return None
        key = migration.to_json(image.key)
        row = self.migrated.execute("SELECT before FROM migrated WHERE key = ?", (key,)).fetchone()
        if row is None and not self.seen.add(image.key[1:]):
            return None
        before = Before(image.asset, list(image.before), image.given_back)
        if row is not None:
            later = Before(*json.loads(row[0]))
            before = later if was_as_before(image, later.asset) else before_both(image, later)
            self.migrated.execute("DELETE FROM migrated WHERE key = ?", (key,))
        if is_in_old_form(before.asset):
            return before
        self.migrated.execute("INSERT INTO migrated VALUES (?, ?)", (key, migration.to_json(before)))
        return None

    async def verify_before(self, run: Any, item: Tuple[Key, Optional[Before], List[Any]]) -> None:
        key, before, claims = item
        records = [self.database.record_key(claim.now) for claim in claims]
        found = await run.tables.get([key] * bool(before or records) + records)
        asset = found.get(key)
        # Where users have gone on from it, its older records are its history.
        version_id = None if asset is None or is_in_old_form(asset) else migration.version_id_of(asset)
        again = before and asset and before.given_back and is_to_migrate(before.asset) and not is_to_migrate(asset)
        if before and again and not is_in_old_form(before.asset):  # its record is that of before, and tells nothing
            self.new_ones.discard(key[1:])
            self.still_migrated.add(key[1:])
        elif before and not again:
            self.tally.images += 1
            if is_to_migrate(before.asset):
                self.new_ones.discard(key[1:])
            twin_key = migration.twin_key(key)
            twin = (await run.tables.get([twin_key])).get(twin_key) if asset is None else None
            for problem in restored_problems(key, before, asset, twin):
                self.add(problem)
        for claim, record in zip(claims, records):
            stored = found.get(record)
            if stored is None or (claim.wrote and claim.was and not migration.differing(stored, claim.was)):
                continue
            if not claim.wrote and not migration.looks_like_ours(stored):
                continue
            if version_id is not None and migration.is_before(record[2], version_id):
                continue
            if await self.is_needed(run, record, migration.needs_record):
                continue
            if await self.owners.find_whose_history(record, ()) is not None:
                continue
            if not claim.wrote:
                self.unexplained.add(record[1:])
            elif not self.left.add(record[1:]):
                continue
            elif migration.made_by_user(stored):
                self.add(record_of_user_problem(key[1], record, stored))
            else:
                message = "The version record %s is left, and no asset needs it. %s" % (
                    record[2],
                    rollback.by_hand(record),
                )
                values = (display({"M": claim.was} if claim.was else None), display({"M": stored}))
                self.add(Problem(key[1], key[2], "record_left", "assetVersionId", *values, message))

    def records(self, run: Any) -> Any:
        def key_and_record(record: Item, text: str) -> Tuple[Key, Item]:
            return self.database.record_key(record), record

        segments = migration.segments_of_table(self.item_count)  # type: Any
        if self.settings.database_id and len(self.asset_ids) <= QUERIED_ASSETS:
            asset_ids = self.asset_ids.first(QUERIED_ASSETS)
            segments = (migration.Segment(migration.query_of("assetId", name)) for (name,) in asset_ids)
        return migration.table_pages(run.reader, self.database.versions, segments, None, key_and_record)

    async def look_at_record(self, run: Any, found: Tuple[Key, Item]) -> None:
        """A version record that no journal tells of, of assets that are all as before again."""
        key, record = found
        self.tally.records += 1
        told = self.left.has(key[1:]) or self.unexplained.has(key[1:])
        if told or not self.asset_ids.has(key[1:2]) or await self.is_needed(run, key, has_a_version):
            return
        if not migration.made_by_user(record):
            self.unexplained.add(key[1:])
            return
        self.add(record_of_user_problem("", key, record))

    async def is_needed(self, run: Any, record: Key, test: Callable[[Item, str], bool]) -> bool:
        """Whether test(asset, version id of the record) holds for an asset of a record's assetId."""
        if self.owners is None or self.owners.tables is not run.tables:  # of an earlier pass, whose keys hold
            known = self.owners and self.owners.keys
            self.owners = migration.Owners(run.tables, run.reader, known)
        await self.owners.read_all(self.item_count)
        return await self.owners.find(record, (), test) is not None


def databases_not_found(names: Iterable[str]) -> Iterator[Problem]:
    """For each of these that has nothing; an archive may be empty."""
    for name in sorted(names):
        if not migration.in_archive(name):
            message = "No asset was found under databaseId %s: is it spelled right?" % migration.one_name(name)
            yield Problem(name, "", "nothing_found", "databaseId", "assets", "none", message)


def record_of_user_problem(database_id: str, key: Key, record: Item) -> Problem:
    """key: of the version record. database_id: "" where no journal says whose it may be."""
    message = "Version record %s, which users made, is left, and no asset needs it. Delete it by hand: %s." % (
        key[2],
        rollback.place_of(key),
    )
    return Problem(database_id, key[1], "record_of_user", "assetVersionId", "absent", display({"M": record}), message)


def has_a_version(asset: Item, version_id: str) -> bool:
    """Whether an asset has a currentVersionId: then all version records of its assetId may be its history."""
    return migration.text_of(asset.get("currentVersionId")) is not None


def left_problem(error_type: str, key: Sequence[str], expected: str, actual: str) -> Problem:
    """A note on an asset, by its databaseId and assetId, that a run had migrated which was taken back."""
    return Problem(key[0], key[1], error_type, "", expected, actual, "Its run was taken back by a rollback.")


UNTOLD = " that no journal given tells of"
OF_USERS = "Assets that users made, archived, or went on from, in v2.3"


def add_of_many(add: Callable[..., None], error_type: str, what: str, keys: Any) -> None:
    """Add one row for all assets or version records of a kind, if there are any; it names the first of them."""
    count = len(keys)
    if count:
        names = ", ".join(migration.name_of(*key) for key in keys.first(NAMED_IN_ROW))
        others = " and others" if count > NAMED_IN_ROW else ""
        message = "%s: %s%s." % (what, names, others)
        add(Problem("", "", error_type, "", "none", str(count), message), assets=count)


def is_in_scope(image: Any, settings: Any) -> bool:
    """Whether a before image is of an asset that --database-id and --asset-id name."""
    named = not settings.database_id or image.key[1] in settings.database_id
    return named and settings.asset_id in (None, image.key[2])


def is_in_the_way(record: Item, present: Optional[Item], twin: Optional[Item]) -> bool:
    """Whether there is another record under the key of the one that is to be made for a live asset, which was not made
    for its archived twin."""
    if present is None or not set(migration.differing(record, present)) - {"dateCreated"}:
        return False
    return twin is None or not migration.may_be_made_for_archived(twin, present)


class History:
    """The version records of one asset: how many, which are current, and what is wrong with which."""

    def __init__(self, asset_id: str) -> None:
        self.asset_id = asset_id
        self.count = 0
        self.current = []  # type: List[str]
        self.not_current = set()  # type: set
        self.problems = []  # type: List[Tuple[str, Problem]]

    def add(self, record: Item) -> None:
        version_id = record["assetVersionId"]["S"]
        self.count += 1
        if record.get("isCurrentVersion") == migration.CURRENT:
            self.current.append(version_id)
        elif record.get("isCurrentVersion") == migration.NOT_CURRENT:
            self.not_current.add(version_id)
        self.problems += [(version_id, problem) for problem in record_problems(record)]


async def histories(pages: Any):
    """Pages of histories from pages of version records. Those of an asset come in sequence and in one segment,
    maybe over several pages."""
    unfinished = {}  # type: Dict[Any, History]
    try:
        async for page in pages:
            found = [unfinished.pop(page.segment)] if page.segment in unfinished else []
            for record in page.items:
                if not found or found[-1].asset_id != record["assetId"]["S"]:
                    found.append(History(record["assetId"]["S"]))
                found[-1].add(record)
            if found and not page.segment.finished:
                unfinished[page.segment] = found.pop()
            yield page._replace(items=found)
    finally:
        await pages.aclose()


# --------------------------------------------------------------------------------------
# Report
# --------------------------------------------------------------------------------------


class Findings:
    """Takes every problem: writes its row, counts its asset, shows the first few, keeps some for the page."""

    def __init__(self, report: Any, keep: int) -> None:
        self.report = report
        self.keep = keep
        self.kept = []  # type: List[Problem]
        self.other_bucket = None  # type: Optional[str]  # the first that was met
        self.tally = Tally()
        self.latest = {}  # type: Dict[str, Tuple[str, str]]  # the asset by error_type

    def add(self, problem: Problem, assets: int = 1) -> None:
        """assets: of a row that stands for many. Rows for further attributes of an asset come one after the other."""
        self.tally.rows += 1
        self.report.add_row(problem)
        if len(self.kept) < self.keep:
            self.kept.append(problem)
        if self.latest.get(problem.error_type) == problem[:2]:
            return
        self.latest[problem.error_type] = problem[:2]
        self.tally.types[problem.error_type] += assets
        self.tally.not_migratable += problem.error_type == "not_migrated" and problem.message != NOT_MIGRATED
        if problem.error_type == "other_bucket":
            self.other_bucket = self.other_bucket or problem.actual
        if problem.error_type not in NOTES and self.tally.problems <= migration.SHOWN_FAILURES:
            # The database of a version record may not be known, and of what was not found there is nothing to name.
            names = " / ".join(map(migration.one_name, filter(None, (problem.database_id, problem.asset_id))))
            LOG.error("%s", migration.printable(": ".join(filter(None, ("problem", names, problem.message)))))


class RequestCounts:
    """How many requests of each operation a client has sent: what proves that it only read."""

    def __init__(self, client: Any) -> None:
        self.counts = collections.Counter()  # type: collections.Counter
        self.lock = threading.Lock()
        client.meta.events.register("before-sign.dynamodb", self.count)

    def count(self, operation_name: str, **unused: Any) -> None:
        with self.lock:
            self.counts[operation_name] += 1


def verdict(summary: Dict[str, Any]) -> Tuple[str, str]:
    """What it comes to, in two words and in a sentence."""
    counted = migration.counted
    compared = "%s compared" % counted(summary["before_images"], "before image")
    not_migrated = sum(summary["problems"].get(name, 0) for name in ("not_migrated", "legacy_field"))
    of_them = ", {:,} of them migrated,".format(summary["assets"] - not_migrated) if not_migrated else ""
    read = "%s%s and %s read, %s" % (
        *(counted(summary["assets"], "asset"), of_them),
        counted(summary["version_records"], "version record"),
        compared,
    )
    if summary["restored"]:
        read = "after a rollback, %s compared with before the migration" % counted(summary["before_images"], "asset")
        if summary["notes"].get("still_migrated"):
            read += ", %s still migrated" % counted(summary["notes"]["still_migrated"], "other asset")
    problems, notes = sum(summary["problems"].values()), sum(summary["notes"].values())
    found = "%s; %s, %s" % (read, counted(problems, "problem"), counted(notes, "note"))
    if summary["exit_status"] not in (migration.EXIT_DONE, migration.EXIT_FAILED_ASSETS) or summary["error"]:
        return "NOT FINISHED", found + " before it stopped"
    if problems:
        return "NOT VERIFIED", found
    return "VERIFIED IN PART" if not_covered(summary) else "VERIFIED", found


def not_covered(summary: Dict[str, Any]) -> bool:
    """Whether something is there that journals should tell of, and none of those given does."""
    notes = ("no_before_image", "left_by_rollback", "still_migrated", "record_unexplained")
    others = summary["journals_not_given"] + summary["journals_lost"]
    of_none = not summary["journals"] and summary["assets"] > summary["problems"].get("not_migrated", 0)
    return bool(others) or of_none or any(name in summary["notes"] for name in notes)


def result_text(summary: Dict[str, Any]) -> str:
    """The last screen: what was found, where it is written, and the verdict."""
    lines = []
    for kind in ("problems", "notes"):
        lines += ["", kind.capitalize() + ":"] if summary[kind] else []
        lines += [
            migration.count_line(count, "%s: %s" % (name, meaning_of(name))) for name, count in summary[kind].items()
        ]
        if kind == "problems" and sum(summary[kind].values()) > migration.SHOWN_FAILURES:
            lines.append(migration.where_all_are())
    lines.append("")
    for name, path in summary["files"].items():
        lines.append("  %-9s %s" % (name, path))
    lines += ["  stopped: %s" % summary["stopped"]] if summary["stopped"] else []
    lines.append("%s: %s." % verdict(summary))
    not_given = summary["journals_not_given"] + summary["journals_lost"]
    interrupted = summary["interrupted_journals"] if not_covered(summary) else []
    lines += rollback.journal_warnings(interrupted, not_given)
    if summary["journals_left_out"]:
        text = "  not compared: %s, taken back by an earlier rollback; compared where it is named, and no other"
        first, more = summary["journals_left_out"][:3], len(summary["journals_left_out"]) - 3
        lines.append(text % (", ".join(first) + (" and %d more" % more if more > 0 else "")))
    return "\n".join(lines)


def meaning_of(error_type: str) -> str:
    """Without the word under whose heading it stands."""
    return ERROR_TYPES[error_type].replace("Note: ", "", 1)


LEFT_BY_ROLLBACK = (
    "a rollback by these journals has done what it can. What is left is in the report: keep what users made, or mend it"
    " by hand, as the README says under Going back. Deploy v2.2, or migrate again, before users come back, and file %s"
)
# What to do in words, the script for it, None where nothing is to be typed, and its flags.
Advice = Tuple[str, Optional[str], Dict[str, Any]]
VERIFICATION, ROLLBACK = os.path.basename(migration.script_path(__file__)), rollback.SCRIPT


def next_step(summary: Dict[str, Any], settings: Any, storage: Any, typed: Dict[str, Any]) -> Advice:
    """What to do after a verification."""
    if verdict(summary)[0] == "NOT FINISHED":
        return "verify to the end", VERIFICATION, typed
    if summary["under_way"]:
        step = "let the run that is under way come to its end, then verify again"
        if any(map(migration.is_s3, summary["under_way"])):
            step = "let the run that may be under way come to its end, or wait %d minutes if it was killed; verify then"
            step %= migration.GOES_ON_SECONDS / 60
        return step, VERIFICATION, typed
    files = "the report and the page" if "page" in summary["files"] else "the report"
    if set(summary["problems"]) == {"nothing_found"} and (scope_of(typed) or typed.get("journal")):
        return next_step_of_nothing(summary, typed)
    if summary["restored"] and summary["problems"]:
        return next_step_of_not_restored(summary, settings, storage, typed, files)
    if summary["restored"] and is_scoped(settings):
        flags = migration.without(typed, scope_of(typed))
        step = "see whether everything else is as it was before, too" + migration.unless_configured(typed)
        return step, VERIFICATION, flags
    if summary["restored"]:
        return next_step_of_restored(summary, settings, storage, migration.connection_of(typed), files)
    to_migrate = {**migration.connection_of(typed), **where_journals_go(summary, storage, settings)}
    to_migrate.update(flags_of_last_run(summary, storage, settings))
    if settings.dry_run:  # a configuration says so
        to_migrate["dry_run"] = False
    by_a_run = bool(summary["other_bucket"]) and had_the_other(summary, settings, storage)
    in_question = by_a_run or bucket_in_question(summary)
    asked = ["assets_table_name"]
    asked += ["asset_versions_table_name"] if "version_record_missing" in summary["problems"] else []
    of_other_table = migration.step_of_other_table(storage, settings, summary["account"], summary["region"], asked)
    if of_other_table:
        return of_other_table, None, {}
    if "not_migrated" in summary["problems"] and not by_a_run:
        return next_step_of_not_migrated(summary, settings, storage, typed, to_migrate)
    if in_question:
        return next_step_of_other_bucket(summary["other_bucket"], by_a_run, settings, typed)
    if summary["problems"]:
        return next_step_of_problems(summary, storage, typed)
    if summary["journals_not_given"]:
        flags = {**typed, "journal": all_folders(summary, storage)}
        return "prove the other assets too, by all journals", VERIFICATION, flags
    tables = migration.journal_header(settings, summary["account"], summary["region"])
    if not typed.get("journal") and any(migration.journals_of(storage, settings.journal_dir, tables)):
        flags = {"html": True, **typed, "journal": settings.journal_dir}
        return "prove the content too, by the journals", VERIFICATION, flags
    first = first_of_all(summary, settings.journal_dir)
    if is_scoped(settings):
        step = first + "migrate all assets, unless that was done" + migration.unless_configured(typed)
        return step, migration.SCRIPT, to_migrate
    step = "%slook at the application, open it to its users, file %s, keep the journals" % (first, files)
    return step, None, {}


def scope_of(typed: Dict[str, Any]) -> Dict[str, Any]:
    """The flags that choose assets."""
    return {name: typed[name] for name in migration.CHOOSING if name in typed}


def is_scoped(settings: Any) -> bool:
    """Whether only some assets were verified."""
    return bool(settings.database_id) or settings.limit is not None


def next_step_of_nothing(summary: Dict[str, Any], typed: Dict[str, Any]) -> Advice:
    """Where nothing was found of what was chosen."""
    left_out = summary["journals_left_out"]
    if not left_out:
        step = "give the right names, a limit above 0, and journals that hold before images, then verify again"
        return step, None, {}
    step = "compare it by the last journal that tells of it, if its name is right: one that was left out, and no other"
    return step, VERIFICATION if len(left_out) == 1 else None, {**typed, "journal": left_out}


def bucket_in_question(summary: Dict[str, Any]) -> bool:
    """Whether it is not only some assets that name another bucket."""
    migrated = summary["assets"] - summary["problems"].get("not_migrated", 0)
    return bool(summary["other_bucket"]) and 2 * summary["problems"].get("other_bucket", 0) >= migrated


def had_the_other(summary: Dict[str, Any], settings: Any, storage: Any) -> bool:
    """Whether a run on these tables whose journal is there had the other bucket, and was not taken back."""
    header = migration.journal_header(settings, summary["account"], summary["region"])
    facts = {**header, "asset_bucket_name": summary["other_bucket"]}
    folders = [settings.journal_dir, *folders_of(summary["journals"], storage)]
    found = [pair for folder in folders for pair in migration.journals_of(storage, folder, facts)]
    headers = (header for _, header in found)
    taken_back = migration.marks_taken_back(migration.rollback_summaries(storage, settings.report_dir, headers))
    return any(migration.journal_mark(journal, header) not in taken_back for journal, header in found)


def next_step_of_not_migrated(
    summary: Dict[str, Any], settings: Any, storage: Any, typed: Dict[str, Any], to_migrate: Dict[str, Any]
) -> Advice:
    """to_migrate: the flags of a migration of all assets."""
    count, chosen = summary["problems"]["not_migrated"], scope_of(typed)
    if summary["rollback_unfinished"]:
        return next_step_of_unfinished(summary, typed)
    journals, undone = journals_and_undone(summary, storage, settings)
    if undone and undone[0] == journals[0] and "no_before_image" not in summary["notes"]:
        journal = undone if undone != journals else typed.get("journal") or settings.journal_dir
        flags = {**migration.connection_of(typed), "journal": journal, "restored": True}
        return "the last run was rolled back; see that all is as it was before", VERIFICATION, flags
    if "limit" in chosen and summary["not_migratable"] >= count:
        step = "migrate all assets; what failed may wait"
        return step + migration.unless_configured(typed), migration.SCRIPT, to_migrate
    step = "migrate what is not migrated yet"
    if summary["not_migratable"]:
        least = "" if summary["journals"] else "at least "  # without journals no record is looked at
        step += "; to be mended first, as the README says under Failures, by the codes in the report: %s%s"
        step %= (least, migration.counted(summary["not_migratable"], "asset"))
    step += without_journal(summary)
    return step, migration.SCRIPT, {**to_migrate, **chosen}


def next_step_of_unfinished(summary: Dict[str, Any], typed: Dict[str, Any]) -> Advice:
    """Where a rollback did not come to its end."""
    step = "finish the rollback that did not come to its end; or, to stay migrated, migrate again"
    return step, ROLLBACK, {**migration.connection_of(typed), **summary["rollback_unfinished"]}


def next_step_of_other_bucket(bucket: str, by_a_run: bool, settings: Any, typed: Dict[str, Any]) -> Advice:
    """by_a_run: as had_the_other has it."""
    step = "if %s is the right bucket, verify again with it. If it is not, " % bucket
    if not by_a_run:
        step += "roll back the run that had it, by its journal, which is not here, or mend what the report names"
        return step, VERIFICATION, {**typed, "asset_bucket_name": bucket}
    step += "take back what was migrated with it, then migrate again"
    has_flag = "asset_bucket_name" in typed
    if has_flag and migration.without_flags(typed).get("asset_bucket_name") == bucket:  # it may be misspelt
        return step, VERIFICATION, migration.without(typed, ["asset_bucket_name"])
    flags = {**migration.connection_of(typed), "asset_bucket_name": bucket, "dry_run": True}
    return step, ROLLBACK, {**flags, "journal": typed.get("journal") or [settings.journal_dir]}


def next_step_of_problems(summary: Dict[str, Any], storage: Any, typed: Dict[str, Any]) -> Advice:
    """Where all that was looked at is migrated."""
    differing = {"asset_content_differs", "record_content_differs"}.intersection(summary["problems"])
    missing = {"no_before_image", "journal_damaged"}.intersection(summary["notes"])
    if differing and (missing or summary["journals_not_given"] or summary["journals_lost"]):
        step = (
            "if journals are missing or damaged, look for them and verify again with all: what a later run did looks"
            " wrong by older ones. Then mend what the report still names; what users have changed is theirs"
        )
        if summary["journals_not_given"]:
            typed = {**typed, "journal": all_folders(summary, storage)}
        return step, VERIFICATION, typed
    theirs = "; what users have changed since the migration is theirs" if summary["journals"] else ""
    return "mend what the report names, then verify again" + theirs + without_journal(summary), VERIFICATION, typed


def without_journal(summary: Dict[str, Any]) -> str:
    """What else is to be done, in words, where journals were given and others are missing."""
    count = summary["notes"].get("no_before_image")
    text = "; look for the journals of %s, which none given tells of, unless users made these before the first run"
    return text % migration.counted(count, "migrated asset") if count else ""


def first_of_all(summary: Dict[str, Any], journal_dir: str) -> str:
    """What is to be done before the application is opened, in words. journal_dir: where none was found, unless any was
    given."""
    notes, text = summary["notes"], ""
    if not summary["journals"]:
        text = (
            "look for the journals, which are not in %s, and verify by them: without them nothing says whether the"
            " content is right, and nothing leads back. If there are none: " % journal_dir
        )
    if "no_before_image" in notes:
        damaged = ", or for undamaged copies of those that the rows journal_damaged name"
        damaged = damaged if "journal_damaged" in notes else ""
        text = (
            "look for the journals of %s, maybe in another folder%s, and verify again with all: without them these are"
            " not compared and have no way back. If they are lost, or these assets were in the new form before the"
            " first run: " % (migration.counted(notes["no_before_image"], "migrated asset"), damaged)
        )
    elif summary["journals_lost"]:
        text = (
            "look for the journals of the runs named above, maybe in another folder, and verify again with all: without"
            " them nobody sees what of their assets is gone. If they are lost: "
        )
    if "to_do" in notes:
        text += "do what the rows to_do of the report say; then "
    if "left_by_rollback" in notes:
        text += "look at the rows left_by_rollback of the report, for these assets are not compared; then "
    return text


def next_step_of_not_restored(
    summary: Dict[str, Any], settings: Any, storage: Any, typed: Dict[str, Any], files: str
) -> Advice:
    """After a rollback that has left something. files: which to keep."""
    flags = migration.connection_of(typed)
    if summary["other_buckets"]:
        return rollback.next_step_of_other_bucket(summary["other_buckets"][0], typed)
    if summary["rollback_ended"]:
        if not not_covered(summary):
            return LEFT_BY_ROLLBACK % files, None, {}
        step, script, flags = next_step_of_restored(summary, settings, storage, flags, files)
        return "see the problems in the report; " + step, script, flags
    if summary["rollback_unfinished"]:
        return next_step_of_unfinished(summary, typed)
    if not summary["rollback_known"]:
        step = (
            "verify without --restored, for no report of a rollback by the newest of these journals was found; if there"
            " was one, look at the problems"
        )
        return step, VERIFICATION, migration.without(typed, ["restored"])
    step = "look at the problems in the report; what users made since stays, what a rollback can do this does"
    return step, ROLLBACK, {**flags, "journal": typed["journal"]}


def next_step_of_restored(
    summary: Dict[str, Any], settings: Any, storage: Any, flags: Dict[str, Any], files: str
) -> Advice:
    """flags: those that say which tables. files: which to keep."""
    notes, not_given = summary["notes"], summary["journals_not_given"]
    left, records = notes.get("still_migrated", 0), notes.get("record_unexplained", 0)
    if not (left or records or not_given or summary["journals_lost"]):
        step = (
            "nothing is left to take back; deploy v2.2, or migrate again, before users come back, and file %s" % files
        )
        if notes.get("record_of_user"):
            step = "delete the version records that the rows record_of_user name; " + step
        return step, None, {}
    still = "nothing is left to take back by these journals"
    if left:
        still = "%s still migrated" % ("one asset is" if left == 1 else migration.counted(left, "asset") + " are")
    elif records:
        still = "%s left" % ("one version record is" if records == 1 else "{:,} version records are".format(records))
    site = (summary["account"], summary["region"])
    others = rollback.other_assets_tables(storage, settings, *site) if records and not (left or not_given) else []
    if others:
        return OF_OTHERS.format(still=still, other=others[0][0], journal=others[0][1], files=files), None, {}
    if not not_given:
        beside = ", by no journal beside those given" if left or records else ""
        step = (
            "%s%s: look for the missing one, unless users made what is left; if that is to stay, deploy v2.2, or"
            " migrate again, before users come back, and file %s"
        )
        return step % (still, beside, files), None, {}
    step = "%s: to roll back the rest too, give all journals; if that is to stay, migrate again, or file %s"
    step %= still, files
    return step, ROLLBACK, {**flags, "journal": all_folders(summary, storage)}


OF_OTHERS = (
    "{still}: leave what assets of {other} need, which were migrated into this versions table too (journal {journal})."
    " Verify those, with their own names; else look for a missing journal, unless users made what is left; and file"
    " {files}"
)


def all_folders(summary: Dict[str, Any], storage: Any) -> List[str]:
    """Where the journals lie that were given and that were not."""
    return folders_of(summary["journals"] + summary["journals_not_given"], storage)


def folders_of(paths: List[str], storage: Any) -> List[str]:
    return sorted({storage.journal(path).folder or os.curdir for path in paths})


def where_journals_go(summary: Dict[str, Any], storage: Any, settings: Any) -> Dict[str, str]:
    """The flag that a migration needs so that its journal lies beside those given, unless there are such where it would
    lie without: those given may be copies."""
    folders = folders_of(summary["journals"], storage)
    if len(folders) != 1 or migration.folder_identity(folders[0]) == migration.folder_identity(settings.journal_dir):
        return {}
    tables = migration.journal_header(settings, summary["account"], summary["region"])
    if any(migration.journals_of(storage, settings.journal_dir, tables)):
        return {}
    return {"journal_dir": folders[0]}


# Of a migration, not of a verification.
FLAGS_OF_RUN = ("batch_size", "workers", "max_write_units", "bucket_without_files", "repair")


def flags_of_last_run(summary: Dict[str, Any], storage: Any, settings: Any) -> Dict[str, Any]:
    """What the run of the newest journal given was told and the configuration does not say, as far as its summary is
    there."""
    ran = {}  # type: Dict[str, Any]
    with contextlib.suppress(migration.MigrationError):  # a journal may be gone meanwhile
        for journal in rollback.open_journals(summary["journals"][:1], storage, rollback.Skipped()):
            ran = rollback.Summaries(storage, settings.report_dir, [journal]).of(journal).get("settings", {})
    return {name: ran[name] for name in FLAGS_OF_RUN if ran.get(name) and ran[name] != getattr(settings, name)}


def journals_and_undone(summary: Dict[str, Any], storage: Any, settings: Any) -> Tuple[List[str], List[str]]:
    """The journals given, or else of the tables, newest first; and those of them that a rollback has taken back."""
    tables = migration.journal_header(settings, summary["account"], summary["region"])
    of_tables = [journal.path for journal, _ in migration.journals_of(storage, settings.journal_dir, tables)]
    journals = summary["journals"] or sorted(of_tables, reverse=True)
    headers, marks = [], {}  # type: List[Any], Dict[str, str]
    for path in journals:
        journal = storage.journal(path)
        with contextlib.suppress(migration.MigrationError):  # it may be gone meanwhile
            headers.append(migration.read_journal_header(journal))
            marks[path] = migration.journal_mark(journal, headers[-1])
    undone = migration.undone_journals(migration.rollback_summaries(storage, settings.report_dir, headers))
    return journals, [path for path in marks if marks[path] in undone]


def summarise(case, findings, runs, requests, start, status, error, files, stopped) -> Dict[str, Any]:
    """What the JSON summary says."""
    end, tally, journals = migration.utc_now(), findings.tally, case.journals
    taken_back = [journal for journal in journals if journal.mark in case.rolled_back]
    buckets = {journal.header["asset_bucket_name"] for journal in journals if journal.mark not in case.rolled_back}
    counts = [(name, tally.types[name]) for name in ERROR_TYPES if tally.types[name]]
    return collections.OrderedDict(
        [
            ("tool_version", migration.TOOL_VERSION),
            ("started", migration.iso_utc(start)),
            ("ended", migration.iso_utc(end)),
            ("duration_seconds", round((end - start).total_seconds(), 1)),
            ("exit_status", status),
            ("error", None if error is None else str(error)),
            ("account", case.site.account),
            ("region", case.site.region),
            ("scope", migration.describe_scope(case.settings)),
            ("assets", tally.assets),
            ("version_records", tally.records),
            ("before_images", tally.images),
            ("problems", collections.OrderedDict(pair for pair in counts if pair[0] not in NOTES)),
            ("notes", collections.OrderedDict(pair for pair in counts if pair[0] in NOTES)),
            ("rows", tally.rows),
            ("not_migratable", tally.not_migratable),
            ("other_bucket", findings.other_bucket),
            ("read_units", sum(run.reader.units for run in runs)),
            ("requests", dict(sorted(requests.items()))),
            ("restored", case.restored),
            ("stopped", stopped),
            ("under_way", list(case.under_way)),
            ("rollback_ended", case.rollback_ended),
            ("rollback_known", case.rollback_known),
            ("rollback_unfinished", case.rollback_unfinished),
            ("journals", [journal.path for journal in journals]),
            ("journals_taken_back", [journal.path for journal in taken_back]),
            ("other_buckets", sorted(buckets - {case.settings.asset_bucket_name})),
            ("journals_left_out", list(case.left_out)),
            ("interrupted_journals", [journal.path for journal in journals if journal.state == rollback.NOT_WHOLE]),
            ("settings", migration.public_settings(case.settings)),
            ("files", files),
        ]
    )


# --------------------------------------------------------------------------------------
# HTML page: self-contained, streamed, nothing loaded
# --------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #57606a; --page: #fff; --panel: #f5f7f9;
  --line: #d5dae0; --bar: #3b6ea8; --bad: #b3261e; --good: #1a7f37; --note: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --dim: #9aa4af; --page: #15181c; --panel: #1e2328;
  --line: #373e47; --bar: #6ea8e6; --bad: #ff8a80; --good: #6cce84; --note: #e3b341 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.5rem; max-width: 90rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { margin: 0; font-size: 1.1rem; font-weight: 600; color: var(--dim) }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.1rem }
.verdict { margin: .4rem 0 1.6rem; font-size: 1.35rem }
.verdict strong { margin-right: .6rem; padding: .15rem .6rem; border: 2px solid; border-radius: .4rem;
  white-space: nowrap; color: var(--bad) }
.verdict.good strong { color: var(--good) }
.verdict.part strong { color: var(--note) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 0; padding: 1rem 1.2rem;
  border-radius: .5rem; background: var(--panel) }
dt { color: var(--dim) }
dd { margin: 0; overflow-wrap: anywhere }
table { width: 100%; border-collapse: collapse }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere }
thead th { color: var(--dim); font-weight: 600; white-space: nowrap }
.counts { table-layout: fixed }
.counts th { width: 15rem; font-weight: 400 }
.counts .number { width: 6.5rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.counts .bar { width: 25% }
svg { display: block; width: 100%; height: .8rem; margin-top: .35rem }
rect { fill: var(--bad) }
.whole rect { fill: var(--bar) }
.note rect { fill: var(--note) }
code { font: .88em ui-monospace, SFMono-Regular, Consolas, monospace }
#problems { table-layout: fixed; font-size: .92em }
#problems .wide { width: 18% }
#problems thead th { position: sticky; top: 0; background: var(--page) }
#problems td { white-space: pre-wrap }
#problems .note code { color: var(--note) }
form { display: flex; flex-wrap: wrap; align-items: end; gap: .8rem 1.2rem; margin-bottom: .8rem }
form[hidden] { display: none }
label { display: grid; gap: .15rem; font-size: .88em; color: var(--dim) }
input, select { height: 2.2rem; padding: .35rem .5rem; border: 1px solid var(--line); border-radius: .35rem;
  font: inherit; color: var(--text); background: var(--page) }
input { width: 22rem; max-width: 80vw }
output { color: var(--dim) }
footer { margin-top: 2rem; color: var(--dim); font-size: .88em }
@media screen and (max-width: 50rem) { dl, dl * { display: block } .counts .meaning { display: none }
  .counts th { width: 45% } .scroll { overflow-x: auto } #problems { min-width: 60rem } }
@media print { :root { --text: #000; --dim: #444; --page: #fff; --panel: #fff; --line: #bbb; --bar: #3b6ea8;
    --bad: #b3261e; --good: #1a7f37; --note: #8a5a00; color-scheme: light }
  @page { size: A4 landscape; margin: 12mm }
  html, body { font-size: 10px } body { padding: 0; max-width: none } form { display: none }
  dl { border: 1px solid var(--line) } h2 { break-after: avoid } tr { break-inside: avoid }
  th, td { padding-top: .15rem; padding-bottom: .15rem } #problems thead th { position: static }
  thead { display: table-header-group } rect { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""

SCRIPT = """
const form = document.querySelector("form"), [text, type, shown] = form.elements;
const rows = [...document.querySelectorAll("#problems tbody tr")];
const contents = rows.map(row => row.textContent.toLowerCase());
const number = new Intl.NumberFormat("en");
const drawn = 1000;  // more at once make typing slow; all are printed
let waiting;
function filter(most = drawn) {
  const words = text.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, i) => {
    const wanted = (!type.value || row.dataset.type === type.value) && words.every(word => contents[i].includes(word));
    count += wanted;
    row.hidden = !wanted || count > most;
  });
  shown.value = `${number.format(count)} of ${number.format(rows.length)} rows match` +
    (count > most ? `; the first ${number.format(most)} are shown` : "");
}
addEventListener("beforeprint", () => filter(Infinity));
addEventListener("afterprint", () => filter());
form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
filter();
"""


def escaped(value: Any) -> str:
    """Text for HTML, in which no control character hides or ends anything."""
    text = re.sub(
        "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]", "\ufffd", str(value)
    )
    return html.escape(text, quote=True)


def content_hash(text: str) -> str:
    return "'sha256-%s'" % base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def page_text(summary: Dict[str, Any], problems: List[Problem]) -> Iterator[str]:
    """The page, piece by piece."""
    name, sentence = verdict(summary)
    policy = "default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'" % (
        content_hash(STYLE),
        content_hash(SCRIPT),
    )
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta http-equiv="Content-Security-Policy" content="%s">\n' % policy
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield "<title>%s: VAMS v2.3 migration</title>\n<style>%s</style>\n</head>\n<body>\n" % (
        escaped(name.capitalize()),
        STYLE,
    )
    yield "<header>\n<h1>VAMS v2.2 to v2.3 migration: verification</h1>\n"
    kind = {"VERIFIED": " good", "VERIFIED IN PART": " part"}.get(name, "")
    yield '<p class="verdict%s"><strong>%s</strong> %s.</p>\n' % (kind, name, sentence)
    yield facts_html(summary) + "</header>\n<main>\n" + counts_html(summary)
    if problems:
        yield from problems_html(summary, problems)
    yield "</main>\n<footer>The CSV report holds every row. This page loads nothing.</footer>\n"
    if problems:
        yield "<script>%s</script>\n" % SCRIPT
    yield "</body>\n</html>\n"


def facts_html(summary: Dict[str, Any]) -> str:
    """Where, when and what was verified."""
    settings = summary["settings"]
    where = settings["endpoint_url"] or "account %s, region %s" % (summary["account"], summary["region"])
    requests = ", ".join("%s %s" % ("{:,}".format(count), name) for name, count in summary["requests"].items())
    rows = [
        ("Where", where),
        ("When", "%s, for %s s" % (summary["started"], summary["duration_seconds"])),
        ("Assets table", settings["assets_table_name"]),
        ("Asset versions table", settings["asset_versions_table_name"]),
        ("Asset bucket", settings["asset_bucket_name"]),
        ("Scope", summary["scope"]),
        ("Journals", journals_text(summary) or "none: the content was not compared with before images"),
        ("Requests", requests),
        ("CSV report", summary["files"]["report"]),
        ("Tool", "version %s, exit status %s" % (summary["tool_version"], summary["exit_status"])),
    ]
    if summary["error"]:
        rows.insert(0, ("Stopped by", summary["error"]))
    return "<dl>\n%s</dl>\n" % "".join("<dt>%s</dt><dd>%s</dd>\n" % (name, escaped(value)) for name, value in rows)


def journals_text(summary: Dict[str, Any]) -> str:
    state = dict.fromkeys(summary["journals_taken_back"], " (taken back by a rollback)")
    state.update(dict.fromkeys(summary["interrupted_journals"], " " + rollback.NOT_WHOLE))
    return ", ".join(path + state.get(path, "") for path in summary["journals"])


def counts_html(summary: Dict[str, Any]) -> str:
    """What was read and what was found, as bars."""
    read = [("Assets", summary["assets"]), ("Version records", summary["version_records"])]
    if summary["restored"]:
        read = []
    if summary["journals"]:
        read.append(("Before images", summary["before_images"]))
    found = list(summary["problems"].items()) + list(summary["notes"].items())
    text = "<h2>What was read</h2>\n" + bars_html([(name, "", count, "whole") for name, count in read])
    text += "<h2>What was found</h2>\n"
    if not found:
        return text + "<p>Nothing to report.</p>\n"
    return text + bars_html(
        [
            ("<code>%s</code>" % name, ERROR_TYPES[name], count, "note" if name in NOTES else "problem")
            for name, count in found
        ]
    )


def bars_html(rows: List[Tuple[str, str, int, str]]) -> str:
    longest = max([count for _, _, count, _ in rows] + [1])
    return '<table class="counts">\n%s</table>\n' % "".join(
        '<tr class="%s"><th scope="row">%s</th><td class="number">%s</td><td class="bar"><svg aria-hidden="true">'
        '<rect width="%.1f%%" height="100%%" rx="2"/></svg></td><td class="meaning">%s</td></tr>\n'
        % (kind, name, "{:,}".format(count), 100.0 * count / longest, escaped(meaning))
        for name, meaning, count, kind in rows
    )


def problems_html(summary: Dict[str, Any], problems: List[Problem]) -> Iterator[str]:
    """The table of problems, with the filter that the script turns on."""
    total = summary["rows"]
    yield "<h2>Row by row</h2>\n"
    if total > len(problems):
        yield "<p>The first {:,} of {:,} rows; the CSV report has them all.</p>\n".format(len(problems), total)
    options = "".join(
        "<option>%s</option>" % name for name in ERROR_TYPES if any(name in summary[k] for k in ("problems", "notes"))
    )
    yield '<form hidden autocomplete="off">\n<label>Rows with all these words <input type="search"></label>\n'
    yield '<label>Type <select><option value="">all</option>%s</select></label>\n' % options
    yield '<output role="status" aria-live="polite"></output>\n</form>\n'
    yield '<div class="scroll">\n<table id="problems">\n<thead><tr>'
    yield '<th scope="col">Database</th><th scope="col" class="wide">Asset</th><th scope="col">Type</th>'
    yield '<th scope="col">Field</th><th scope="col">Expected</th><th scope="col">Actual</th>'
    yield '<th scope="col" class="wide">Problem</th></tr></thead>\n<tbody>\n'
    for problem in problems:
        cells = [escaped(value) for value in problem]
        cells[2] = "<code>%s</code>" % cells[2].replace("_", "_<wbr>")
        kind = "note" if problem.error_type in NOTES else "problem"
        yield '<tr class="%s" data-type="%s"><td>%s</td></tr>\n' % (kind, problem.error_type, "</td><td>".join(cells))
    yield "</tbody>\n</table>\n</div>\n"


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def make_parser() -> Any:
    examples = ("--config my_config.json", "--config my_config.json --journal backups --html page.html")
    parser = migration.make_parser(
        "Verify that all VAMS assets are migrated from v2.2 to v2.3. Reads only.", SETTINGS, examples
    )
    rollback.add_journal_flag(parser, required=False)
    parser.add_argument(
        "--restored", action="store_true", help="after a rollback: see by the journals whether all is as before"
    )
    parser.add_argument("--output", metavar="FILE", help="CSV report; default: a new file in the report folder")
    parser.add_argument(
        "--html",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write a page for the change ticket too; without FILE beside the report",
    )
    return parser


def verify(argv: Optional[List[str]]) -> int:
    """Settings, preflight, then the passes."""
    settings, typed = migration.configured(make_parser(), argv)
    ours = migration.journal_header(settings, None, None)
    facts = {name: ours[name] for name in ours if name not in ("account", "region")}
    session, database = migration.connect(settings)
    storage = migration.Storage(session, settings)
    skipped = rollback.Skipped()
    with migration.preparing():
        journals = rollback.open_journals(rollback.named_journals(typed), storage, skipped)
    journals = rollback.of_these_tables(journals, facts, skipped)
    restored = typed.get("restored", False)
    if restored and not journals:
        raise migration.SettingsError(
            "--restored is given without journals.", "give them too: --journal and the folder of the journals."
        )
    if restored and "limit" in typed:
        raise migration.SettingsError(
            "--limit has no meaning with --restored, which compares all that the journals hold.",
            "leave it out; --database-id and --asset-id choose assets.",
        )
    if restored:
        settings = settings._replace(limit=None)  # that of a configuration
    requests = RequestCounts(database.client)
    migration.announce("VAMS v2.2 to v2.3 verification %s\n\nPreflight:" % migration.TOOL_VERSION, level=logging.INFO)
    site = migration.preflight(session, database, settings, writing=False, reports="output" not in typed)
    in_folder, checks = migration.journals_of_tables(site.storage, settings, site.account, site.region)
    in_use, under_way = check_runs(in_folder, journals)
    unfinished, of_unfinished = ([], {}) if under_way else check_rollbacks(settings, site, in_folder, journals)
    migration.require(site.checks + checks + in_use + unfinished)
    journals = rollback.of_these_tables(journals, {"account": site.account, "region": site.region}, skipped)
    summaries = rollback.Summaries(storage, settings.report_dir, journals)
    left_out = []  # type: List[Any]
    if restored:
        journals, left_out = rollback.without_undone(journals, summaries, skipped, afterwards=True)
    with migration.preparing():
        journals, counts, archive = survey(journals, summaries, skipped)
    if journals:
        rows = rollback.journal_rows(journals, counts) + skipped.rows()
        migration.announce("\nJournals:\n" + "\n".join("  %-15s %s" % row for row in rows))
    others = []  # type: List[str]
    if journals:
        with migration.preparing():
            beside, _ = rollback.journals_beside(journals, storage)
            found, lost = rollback.journals_not_given(journals, beside, storage, summaries)
        others = paths_not_given(found, lost, skipped)
        journals = summaries.taken_back(journals, counts, lost)
    images = {journal.mark: count for journal, count in zip(journals, counts)}.items()
    rollbacks = rollback.rollbacks_of_tables(journals, summaries)
    ended = [done.items() for done in map(migration.ended_journals, rollbacks) if done]
    case = Case(
        *(database, settings, site, journals, archive, restored),
        damaged=skipped.damaged,
        under_way=under_way,
        rolled_back=frozenset(mark for done in ended for mark, _ in images & done),
        rollback_ended=bool(ended) and images <= set().union(*ended),
        rollback_known=any(journals[0].mark in done.get("images_of_journals", {}) for done in rollbacks),
        rollback_unfinished=of_unfinished,
        left_out=[journal.path for journal in left_out],
        others=others,
    )
    return run_verification(case, requests.counts, typed.get("output"), typed.get("html"), typed)


def survey(journals: List[Any], summaries: Any, skipped: Any) -> Tuple[List[Any], List[int], Any]:
    """Read the journals whole, so that damage shows before anything is verified. Returns those that are to be compared,
    how many before images each has, and the archived ones among them.
    skipped: gets those that are damaged and only lie in a folder. Raises DamagedJournal for one that was named, and
    where none is left."""
    while True:
        try:
            counts, archive = rollback.survey(journals)
            rollback.require_images(journals, counts, summaries)
            return journals, counts, archive
        except migration.DamagedJournal as error:
            left = [journal for journal in journals if journal.named or journal.path != error.path]
            if len(left) in (0, len(journals)):
                raise
            journals = left
            skipped.add_error(error.path, error)


def check_runs(in_folder: List[Any], journals: List[Any]) -> Tuple[List[Any], List[str]]:
    """Whether a migration or a rollback changes these tables at the moment; and the journals that are in use.
    in_folder: as journals_of_tables has them."""
    checks = []  # type: List[Any]
    files = [*(file for file, _ in in_folder), *(journal.file for journal in journals)]
    in_use = collections.OrderedDict()  # type: Dict[Tuple[str, str], List[str]]
    for file in collections.OrderedDict((file.identity, file) for file in files).values():
        user = ""
        with contextlib.suppress(migration.SettingsError, OSError):
            user = file.user()
        if user:
            in_use.setdefault((user, "may be" if migration.is_s3(file.path) else "is"), []).append(file.path)
    for (user, verb), paths in in_use.items():
        text = "%s of these tables %s under way, with %s" % (user, verb, migration.journals_text(paths))
        fix = "wait until it has ended, then verify again: what it has not done yet counts as a problem."
        checks.append(migration.Check("warning", text, fix))
    return checks, [path for paths in in_use.values() for path in paths]


def check_rollbacks(
    settings: Any, site: Any, in_folder: List[Any], journals: List[Any]
) -> Tuple[List[Any], Dict[str, Any]]:
    """Whether a rollback of these tables did not come to its end, and nothing has done since what it left; and the
    flags that say by which journals it went. in_folder: as check_runs has them."""
    headers = [header for _, header in in_folder] + [journal.header for journal in journals]
    found = migration.rollback_summaries(site.storage, settings.report_dir, headers) if headers else ()
    of_tables = [summary for summary in found if migration.of_same_tables(summary, headers[0])]
    marks = {migration.journal_mark(*pair) for pair in in_folder} | {journal.mark for journal in journals}
    runs = functools.partial(migration.runs_of_all, site.storage, settings, headers)
    left = migration.rollback_to_finish(of_tables, marks, runs)
    if left is None:
        return [], {}
    names = left.get("journals", [])
    flags = {"journal": names if len(names) <= rollback.SHOWN_JOURNALS else folders_of(names, site.storage)}
    bucket = left.get("settings", {}).get("asset_bucket_name", settings.asset_bucket_name)
    if bucket != settings.asset_bucket_name:
        flags["asset_bucket_name"] = bucket
    return migration.check_unfinished_rollback(left), flags


def name_files(
    settings: Any, storage: Any, output: Optional[str], page: Any, start: datetime.datetime
) -> Dict[str, str]:
    """The files of this run. What an earlier one wrote is replaced where --output or --html names it. page: True beside
    the report."""
    if output is None:
        folder = storage.folder(settings.report_dir)
        stem = migration.unused_stem([folder], "verification", start, settings.log_file)
        output = folder.path_of(stem + ".csv")
    files = collections.OrderedDict(report=output, summary=os.path.splitext(output)[0] + "_summary.json")
    if page is not None:
        files["page"] = os.path.splitext(output)[0] + ".html" if page is True else page
    if settings.log_file:
        files["log"] = settings.log_file
    if len({path if migration.is_s3(path) else os.path.realpath(path) for path in files.values()}) < len(files):
        raise migration.SettingsError(
            "Two reports would be one file: %s." % ", ".join(files.values()), "give another --output or --html."
        )
    to_write = {kind: path for kind, path in files.items() if kind != "log"}
    for kind, path in to_write.items():
        if migration.is_s3(path):
            require_place(path, storage, settings)
        require_replaceable(kind, path, storage)
    here = [path for path in to_write.values() if not migration.is_s3(path)]
    for action in (make_folder_of, remove_if_there):  # nothing is removed before all else is known to be well
        for path in here:
            try:
                action(path)
            except OSError as error:
                raise migration.PreflightError(
                    "%s cannot be written: %s." % (path, error.strerror), "choose another file or folder."
                )
    return files


def make_folder_of(path: str) -> None:
    migration.make_folder(os.path.dirname(os.path.abspath(path)))


def remove_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def require_replaceable(kind: str, path: str, storage: Any) -> None:
    """Raises SettingsError where anything is there but the same file of an earlier verification: by a typing error it
    may be a journal. kind: as name_files has it."""
    if os.path.isdir(path) or not os.path.basename(path):
        raise migration.SettingsError("%s is a folder." % path, "name a file.")
    fix = "choose another --%s." % ("html" if kind == "page" else "output")
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
        raise migration.SettingsError("%s is a link or a device, which is not replaced." % path, fix)
    folder, name = os.path.split(path)
    try:
        beginning = storage.folder(folder).read(name, BEGINNING_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise migration.SettingsError("%s is there, and cannot be read: %s." % (path, error.strerror), fix)
    if (beginning.strip() or len(beginning) == BEGINNING_BYTES) and not BEGINNINGS[kind].match(beginning):
        text = "%s is there, and is no %s of an earlier verification: it is not replaced."
        raise migration.SettingsError(text % (path, kind), fix)


BEGINNING_BYTES = 1000
# Of each kind of file that a verification writes.
BEGINNINGS = {
    # In S3 a name is taken by a line that says so.
    "report": re.compile("Run [0-9a-f]+, begun at |(\ufeff)?{}\r?\n".format(",".join(REPORT_COLUMNS)).encode()),
    "summary": re.compile(rb'\{\s*"tool_version": "[^"]*",\s*"started"'),
    "page": re.compile(rb"<!DOCTYPE html>.*: VAMS v2\.3 migration</title>", re.DOTALL),
}


def require_place(path: str, storage: Any, settings: Any) -> None:
    """Raises SettingsError or PreflightError where a file of this name cannot be stored in S3."""
    migration.require_path(path)
    folder, _, name = path.rpartition("/")
    if not name or folder == "s3:/":
        raise migration.SettingsError("%s names no file in S3." % path, "write s3://BUCKET/PREFIX/NAME.")
    migration.require(migration.check_s3_folder(storage.folder(folder), settings))


def run_verification(
    case: Case,
    requests: Dict[str, int],
    output: Optional[str] = None,
    page: Any = None,
    typed: Optional[Dict[str, Any]] = None,
) -> int:
    """Verify and report. Returns the exit status.
    requests: as RequestCounts have them. output, page: as name_files has them. typed: the flags, where the operator is
    to be told the next command."""
    settings, storage = case.settings, case.site.storage
    start = migration.utc_now()
    files, outputs = name_files(settings, storage, output, page, start), migration.Outputs(storage)
    with contextlib.ExitStack() as signals:
        report = migration.CsvReport(outputs.path_of(files["report"]), REPORT_COLUMNS)
        page_file = migration.create_private(outputs.path_of(files["page"])) if page else None
        findings = Findings(report, PAGE_ROWS if page else 0)
        for damage in case.damaged:  # all are counted with the first
            findings.add(Problem("", "", "journal_damaged", "", "", "", damage.cause), assets=len(case.damaged))
        runs, error, stopped = run_passes(case, findings, signals)
        error = migration.despite(error, report.close)
        status = migration.exit_status_of(findings.tally.problems, stopped is not None, error)
        summary = summarise(case, findings, runs, requests, start, status, error, files, stopped)
        unsaid = {"no_before_image", "made_in_v23"}.intersection(summary["notes"])
        everything = settings.limit is None and not settings.database_id
        missed = case.others if everything or case.restored or unsaid else []
        summary["journals_not_given"] = [path for path in missed if is_there(path, storage)]
        summary["journals_lost"] = [path for path in missed if path not in summary["journals_not_given"]]
        path = outputs.path_of(files["summary"])
        error = migration.despite(error, lambda: migration.write_summary(path, summary))
        if page_file:
            error = migration.despite(error, lambda: write_page(page_file, summary, findings.kept))
        error = outputs.store_despite(error)
        migration.tell_result(result_text(summary), error)
    if typed is not None:
        migration.announce_next(*next_step(summary, settings, storage, typed))
    return status


def paths_not_given(found: List[Any], lost: List[Any], skipped: Any) -> List[str]:
    """Of the other journals of the same tables, the oldest first and then those that are elsewhere, or lost. Those that
    are damaged are told of otherwise."""
    damaged = {error.path for error in skipped.damaged}
    paths = [journal.path for journal in found[::-1]] + [run.path for run in lost]
    return [path for path in paths if path not in damaged]


def is_there(path: str, storage: Any) -> bool:
    """Whether there is a journal of this name, so far as may be known."""
    with contextlib.suppress(migration.MigrationError):
        return storage.journal(path).exists()
    return False


def write_page(file: Any, summary: Dict[str, Any], problems: List[Problem]) -> None:
    with migration.reporting(summary["files"]["page"]), file:
        file.writelines(page_text(summary, problems))


def run_passes(
    case: Case, findings: Findings, signals: contextlib.ExitStack
) -> Tuple[List[Any], Optional[BaseException], Optional[str]]:
    """Run one pass after the other. Returns their runs, what stopped them early, and how far they came then.
    signals: until its end, those that stop a run do not end the process."""
    tally, runs = findings.tally, []  # type: Tally, List[Any]
    for name, pages, verify_item, expected, at_its_end in passes_of(case, findings):
        progress = migration.Progress(expected, migration.is_terminal(sys.stderr), writes=False)
        run = migration.Run(case.database, case.settings)
        run.stopping = any(earlier.stopping for earlier in runs)  # between two of them
        runs.append(run)
        signals.enter_context(migration.interruptible(run))
        error = migration.run_to_end(
            run, pages(run), functools.partial(verify_item, run), progress, functools.partial(counts, tally, name)
        )
        if error or run.stopped:
            done = counts(tally, name)[0]
            of_total = " of about {:,}".format(expected) if expected and expected >= done else ""
            return runs, error, "{:,}{} {} done".format(done, of_total, name)
        error = migration.ending(at_its_end)
        if error:
            return runs, error, None
    return runs, None, None


def passes_of(case: Case, findings: Findings) -> List[Any]:
    """The passes: name, pages, what is done with an item, how many there are, about, and what comes at the end."""

    def images(run: Any) -> Any:
        return rollback.image_pages(run.reader, case.journals)

    def require_an_image() -> None:
        if not findings.tally.any_image:
            message = "The journals hold no before image (%s)." % migration.describe_scope(case.settings)
            findings.add(Problem("", "", "nothing_found", "", "before images", "none", message))

    total = migration.expected_assets(case.settings, case.site)
    if case.restored:
        restoration = Restoration(case, findings)
        pages = functools.partial(restoration.pages, journals=case.journals)
        at_the_end = restoration.add_what_no_journal_explains

        def end_of_images() -> None:
            for problem in databases_not_found(restoration.empty_databases):
                findings.add(problem)
            require_an_image()

        return [
            ("assets", restoration.assets, restoration.look_at, total, lambda: None),
            ("before images", pages, restoration.verify_before, 0, end_of_images),
            ("version records", restoration.records, restoration.look_at_record, 0, lambda: None),
            ("assets", restoration.pages_of_new_ones, restoration.tell_apart, 0, at_the_end),
        ]
    verification = Verification(case, findings)
    passes = [
        ("assets", verification.assets, verification.verify_asset, total, verification.add_at_the_end_of_assets),
        ("version records", verification.records, verification.verify_history, 0, lambda: None),
    ]  # type: List[Any]
    if case.journals:

        def end_of_journals() -> None:
            verification.add_what_was_not_compared()
            require_an_image()

        passes.append(("before images", images, verification.verify_image, 0, end_of_journals))
    return passes


def counts(tally: Tally, name: str) -> Tuple[int, str]:
    count = {"assets": tally.assets, "version records": tally.records, "before images": tally.images}[name]
    return count, "{} {:,}  problems {:,}".format(name, count, tally.problems)


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(verify, argv)


if __name__ == "__main__":
    migration.leave(main())
