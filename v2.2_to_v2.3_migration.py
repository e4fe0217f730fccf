#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Migrate the assets of VAMS v2.2 to the form of v2.3, in place, in DynamoDB.

    settings -> client -> preflight -> scan -> plan -> journal -> write -> tally -> report

For each asset the tool writes one record to the asset versions table and then
changes the asset itself. Every write is conditional on what was read, and the
asset as it was is on disk before anything is sent.

Exit status:
    0    everything done
    1    finished, but some assets failed; or stopped by an error half-way
    2    wrong usage or settings, nothing written
    3    preflight failed, nothing written
    130  interrupted or declined by the operator

The sibling scripts load this file (`load_migration.py`) and use its settings,
its transformation (`plan_asset`), its `Database`, `Flow`, `Journal` and `Report`.
Nothing runs when it is loaded.
"""

import argparse
import collections
import contextlib
import csv
import datetime
import decimal
import difflib
import functools
import gc
import json
import logging
import os
import queue
import random
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

TOOL_VERSION = "1.0.0"
USER_AGENT = "vams-migration/%s" % TOOL_VERSION

# --------------------------------------------------------------------------------------
# Configuration
# --------------------------------------------------------------------------------------

# The defaults. A configuration file (--config) and then the flags override them, so they
# can be edited here instead. A placeholder left in (YOUR_..., PROD_...) counts as unset.
CONFIG = {
    # Source table
    "assets_table_name": "YOUR_ASSETS_TABLE_NAME",
    # Target table
    "asset_versions_table_name": "YOUR_ASSET_VERSIONS_TABLE_NAME",
    # Bucket for assetLocation.Bucket and previewLocation.Bucket
    "asset_bucket_name": "YOUR_ASSET_BUCKET_NAME",
    # AWS: None means what the environment or the profile says
    "aws_profile": None,
    "aws_region": None,
    "endpoint_url": None,  # another DynamoDB endpoint, for example http://localhost:8000
    # What to do
    "dry_run": False,
    "limit": None,  # assets to examine, 0 or more; None means all
    "database_id": [],  # read only these partition keys; [] means all
    "yes": False,  # do not ask before writing
    # How to do it
    "batch_size": 25,  # statements in one request, 1 to 25
    "workers": 8,  # write requests under way at once, 1 to 64
    "max_write_units": None,  # write units a second over both tables, 1 or more
    # Where to write
    "journal_dir": "backups",
    "report_dir": "reports",
    "log_level": "INFO",  # DEBUG, INFO, WARNING, ERROR or CRITICAL
    "log_file": None,
}  # type: Dict[str, Any]

EXIT_DONE = 0
EXIT_FAILED_ASSETS = 1
EXIT_USAGE = 2
EXIT_PREFLIGHT = 3
EXIT_INTERRUPTED = 130

PAGE_ITEMS = 1000  # examined by the reads under way in all segments; DynamoDB also ends a page at 1 MB
LANE_ITEMS = 100  # read ahead for each partition key, about
SEGMENTS = 64  # of a parallel scan, at most: enough that large databases rarely share one
SEGMENT_ITEMS = 100  # a small table is not worth more segments than this
READERS = 4  # reads under way at once
LOOKUP_KEYS = 100  # keys in one BatchGetItem, its maximum
REQUEST_BYTES = 1000 * 1000  # a batch of writes is closed at this size
PENDING_BYTES = 4 * 1000 * 1000  # of assets read and not yet finished
PLAN_ATTEMPTS = 5  # how often an asset that keeps changing is planned
PATIENCE_SECONDS = 600  # without any answer from DynamoDB before the run stops
STATUS_SECONDS = 5
SHOWN_CHANGES = 3  # by a dry run, attribute by attribute
SHOWN_FAILURES = 10  # on the console; the report has them all

LOG = logging.getLogger("vams_migration")

# --------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------


class MigrationError(Exception):
    """What went wrong and what the operator can do about it."""

    exit_status = EXIT_FAILED_ASSETS

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__("%s\n  Fix: %s" % (cause, fix))


class SettingsError(MigrationError):
    """Wrong usage or settings; nothing was read or written."""

    exit_status = EXIT_USAGE


class PreflightError(MigrationError):
    """The tables, credentials or folders are not fit for the run; nothing was written."""

    exit_status = EXIT_PREFLIGHT


class TryAgain(Exception):
    """DynamoDB did not serve a request, which may be sent again."""


class CannotPlan(Exception):
    """An asset that spec.md section 2 leaves untouched; becomes a failed Plan."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(code, field, message)


# --------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------

Value = Dict[str, Any]  # an attribute value in DynamoDB JSON: {"S": "text"}
Item = Dict[str, Value]  # an item in DynamoDB JSON; binary is base64 text
Key = Tuple[str, str, str]  # table name, partition key, sort key
Statement = str  # one conditional PartiQL write of one item, as JSON

Finding = NamedTuple("Finding", [("code", str), ("field", str), ("message", str)])


class Settings(NamedTuple):
    """The values of CONFIG, of the configuration file and of the flags, checked."""

    aws_profile: Optional[str]
    aws_region: Optional[str]
    endpoint_url: Optional[str]
    assets_table_name: str
    asset_versions_table_name: str
    asset_bucket_name: str
    dry_run: bool
    limit: Optional[int]
    database_id: List[str]
    batch_size: int
    workers: int
    max_write_units: Optional[int]
    journal_dir: str
    report_dir: str
    log_level: str
    log_file: Optional[str]
    yes: bool


class Setting(NamedTuple):
    """How one key of CONFIG is typed and checked; section Settings has them all."""

    flag: str
    kind: Any  # str, int, bool or list
    low: Optional[int]
    high: Optional[int]
    help: str


class Facts(NamedTuple):
    """What a plan needs to know beyond the asset itself."""

    live_twin: bool = False  # an archived asset's id exists live too
    current_record: bool = False  # a version record for the asset's currentVersionId exists


NO_FACTS = Facts()


class Plan(NamedTuple):
    """What v2.3 needs of one asset. `expected` are the attributes that the plan was made
    from, None for an absent one: the asset's write holds only while they are so."""

    outcome: str  # "migrated", "already_migrated" or "failed"
    record: Optional[Item] = None
    set_attributes: Dict[str, Value] = {}
    remove_attributes: Tuple[str, ...] = ()
    expected: Dict[str, Optional[Value]] = {}
    findings: Tuple[Finding, ...] = ()


class Write(NamedTuple):
    """A statement on its way. `then(code, message)` gets None as code when it was done."""

    statement: Statement
    item: Key
    lane: Tuple[str, str]  # table name and the partition key that limits it
    units: float  # estimate of the write units that it takes
    first: bool  # the first write of its asset: dropped when the run is stopped
    then: Callable[[Optional[str], str], None]


class Page(NamedTuple):
    """Items of one read, and where they came from."""

    items: List[Any]
    origin: Any


# --------------------------------------------------------------------------------------
# Settings
# --------------------------------------------------------------------------------------

SETTINGS = collections.OrderedDict(
    [
        ("aws_profile", Setting("--profile", str, None, None, "AWS profile")),
        ("aws_region", Setting("--region", str, None, None, "AWS region; default: the profile's")),
        (
            "endpoint_url",
            Setting("--endpoint-url", str, None, None, "another DynamoDB endpoint, such as http://localhost:8000"),
        ),
        ("assets_table_name", Setting("--assets-table", str, None, None, "name of the assets table")),
        (
            "asset_versions_table_name",
            Setting("--asset-versions-table", str, None, None, "name of the asset versions table"),
        ),
        ("asset_bucket_name", Setting("--asset-bucket", str, None, None, "name of the bucket that holds the assets")),
        (
            "dry_run",
            Setting("--dry-run", bool, None, None, "read everything, say what would be written, write nothing"),
        ),
        ("limit", Setting("--limit", int, 0, None, "examine exactly N assets, in table order")),
        (
            "database_id",
            Setting("--database-id", list, None, None, "read only this databaseId; may be given several times"),
        ),
        ("batch_size", Setting("--batch-size", int, 1, 25, "statements in one write request, 1 to 25")),
        ("workers", Setting("--workers", int, 1, 64, "write requests under way at once, 1 to 64")),
        (
            "max_write_units",
            Setting("--max-write-units", int, 1, None, "ceiling in write units a second, over both tables"),
        ),
        ("journal_dir", Setting("--journal-dir", str, None, None, "folder for the journal of before images")),
        ("report_dir", Setting("--report-dir", str, None, None, "folder for the CSV report and the JSON summary")),
        ("log_level", Setting("--log-level", str, None, None, "DEBUG, INFO, WARNING, ERROR or CRITICAL")),
        ("log_file", Setting("--log-file", str, None, None, "write the log to this file too")),
        ("yes", Setting("--yes", bool, None, None, "do not ask before writing")),
    ]
)

# The settings that every script has.
SHARED_SETTINGS = (
    *("aws_profile", "aws_region", "endpoint_url"),
    *("assets_table_name", "asset_versions_table_name", "asset_bucket_name"),
    *("log_level", "log_file"),
)
OPTIONAL = ("aws_profile", "aws_region", "endpoint_url", "limit", "max_write_units", "log_file")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PLACEHOLDER = re.compile(r"(YOUR|PROD)_[A-Z0-9_]*\Z")
TABLE_NAME = re.compile(r"([A-Za-z0-9_.-]{3,255}|arn:[A-Za-z0-9:/_.-]+)\Z")


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage the way every other error is reported."""

    def error(self, message):
        raise SettingsError(message, "`%s --help` lists the flags." % self.prog)


def make_parser(description: str, keys: Iterable[str]) -> Parser:
    """A parser with --config and the flags of these settings. Only what was typed comes
    back from it (SUPPRESS), so that an absent flag never hides a configured value."""
    parser = Parser(description=description, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="JSON configuration file")
    for key in keys:
        setting = SETTINGS[key]
        if setting.kind is bool:
            parser.add_argument(setting.flag, dest=key, action="store_true", help=setting.help)
            if key == "dry_run":
                parser.add_argument(
                    "--no-dry-run", dest=key, action="store_false", help="write, whatever the configuration says"
                )
        elif setting.kind is list:
            parser.add_argument(setting.flag, dest=key, action="append", metavar="ID", help=setting.help)
        else:
            metavar = "N" if setting.kind is int else key.split("_")[-1].upper()
            parser.add_argument(setting.flag, dest=key, metavar=metavar, type=setting.kind, help=setting.help)
    return parser


def read_config_file(path: Optional[str]) -> Dict[str, Any]:
    """The settings in a JSON file; {} without a path. `comments` and keys that begin with
    "_" are left out. Raises SettingsError for anything but an object of known keys."""
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            values = json.load(file, object_pairs_hook=_object_without_twice_named_keys)
    except OSError as error:
        raise SettingsError(
            "Configuration file %s cannot be read: %s." % (path, error.strerror), "check the path given with --config."
        )
    except ValueError as error:
        raise SettingsError(
            "Configuration file %s is not valid JSON: %s." % (path, error),
            "correct it, for example with `python -m json.tool %s`." % path,
        )
    if not isinstance(values, dict):
        raise SettingsError(
            "Configuration file %s holds no JSON object." % path,
            "start from v2.2_to_v2.3_migration_config.json.",
        )
    values = {key: value for key, value in values.items() if key != "comments" and not key.startswith("_")}
    for key in values:
        if key not in CONFIG:
            raise SettingsError("Unknown key %r in %s." % (key, path), _nearest(key, CONFIG))
    return values


def resolve_settings(config: Dict[str, Any], file_values: Dict[str, Any], flags: Dict[str, Any]) -> Settings:
    """Settings from CONFIG, then the file, then the flags. Raises SettingsError for a value
    of the wrong type or out of bounds, and for a required one that is unset."""
    unknown = [key for key in config if key not in SETTINGS]
    if unknown:
        raise SettingsError("Unknown key %r in CONFIG." % unknown[0], _nearest(unknown[0], SETTINGS))
    merged = dict.fromkeys(SETTINGS)  # type: Dict[str, Any]
    for source, values in (("CONFIG", config), ("the configuration file", file_values), ("the command line", flags)):
        for key, value in values.items():
            if key in SETTINGS and not _is_unset(key, value):
                merged[key] = _checked(key, value, source)
    missing = [key for key in SETTINGS if merged[key] is None and key not in OPTIONAL]
    if missing:
        raise SettingsError(
            "Not set: %s." % ", ".join("%s (%s)" % (key, SETTINGS[key].flag) for key in missing),
            "put your own values in the file given with --config, or give the flags.",
        )
    if merged["assets_table_name"] == merged["asset_versions_table_name"]:
        raise SettingsError(
            "Both tables are named %r." % merged["assets_table_name"],
            "give the assets table with --assets-table and the asset versions table with --asset-versions-table.",
        )
    return Settings(**merged)


def _is_unset(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return PLACEHOLDER.match(value) is not None or (value == "" and SETTINGS[key].kind is str)


def _checked(key: str, value: Any, source: str) -> Any:
    """The value of a setting in its final form."""
    setting = SETTINGS[key]
    if setting.kind is list and isinstance(value, str):
        value = [value]
    # bool is an int in Python, but `"limit": true` is a mistake.
    if not isinstance(value, setting.kind) or (setting.kind is int and isinstance(value, bool)):
        kind = {str: "text", int: "a whole number", bool: "true or false", list: "a list of texts"}[setting.kind]
        raise SettingsError("%s in %s is %s." % (key, source, json.dumps(value)), "give %s." % kind)
    if setting.kind is int and (value < setting.low or (setting.high is not None and value > setting.high)):
        bounds = "%s or more" % setting.low if setting.high is None else "%s to %s" % (setting.low, setting.high)
        raise SettingsError("%s in %s is %d." % (key, source, value), "give a whole number, %s." % bounds)
    if setting.kind is list:
        if not all(isinstance(text, str) and text for text in value):
            raise SettingsError("%s in %s is %s." % (key, source, json.dumps(value)), "give a list of non-empty texts.")
        return list(collections.OrderedDict.fromkeys(value))
    if key == "log_level" and value.upper() in LOG_LEVELS:
        return value.upper()
    if key == "log_level":
        raise SettingsError("log_level in %s is %r." % (source, value), "give one of %s." % ", ".join(LOG_LEVELS))
    if key.endswith("_table_name") and not TABLE_NAME.match(value):
        raise SettingsError(
            "%s in %s is %s, which cannot be a table's name." % (key, source, json.dumps(value)),
            "`aws dynamodb list-tables` shows the names.",
        )
    if key == "endpoint_url" and not re.match(r"https?://[^/\s]+", value):
        raise SettingsError("endpoint_url in %s is %r." % (source, value), "give a URL such as http://localhost:8000.")
    return value


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1, 0.4)
    return ("did you mean %r? " % near[0] if near else "") + "The README lists the keys."


def _object_without_twice_named_keys(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = [key for key, count in collections.Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError("the key %r stands in it twice" % twice[0])
    return values


# --------------------------------------------------------------------------------------
# Transformation: spec.md section 2, asset in, Plan out
# --------------------------------------------------------------------------------------

REMOVED_FIELDS = (
    "isMultiFile",
    "pipelineId",
    "executionId",
    "versions",
    "currentVersion",
    "specifiedPipelines",
    "Parent",
    "objectFamily",
)
# The attributes that the migration owns: read, changed and restored, and no others.
OWNED_FIELDS = ("assetLocation", "previewLocation", "currentVersionId") + REMOVED_FIELDS

ARCHIVED_SUFFIX = "#deleted"
SHARED_PREFIXES = ("previews", "pipelines", "temp-uploads")
NULL = {"NULL": True}
INTEGER = re.compile(r"[+-]?[0-9]+\Z")
OLD_DATE = re.compile(r"([A-Z][a-z]+) ([0-9]{1,2}) ([0-9]{4}) - ([0-9]{2}):([0-9]{2}):([0-9]{2})\Z")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def plan_asset(asset: Item, bucket: str, now: str, facts: Facts = NO_FACTS) -> Plan:
    """Say what v2.3 needs of one v2.2 asset.

    asset: an item in DynamoDB JSON, as Scan returns it; not modified.
    bucket: the asset bucket; now: the time the run started, as ISO 8601 UTC.
    Returns the Plan: outcome, version record, attributes to set and to remove,
    findings. Planning the result again gives `already_migrated`.
    """
    legacy = tuple(name for name in REMOVED_FIELDS if name in asset)
    try:
        current_id = _current_version_id(asset)
        if current_id is not None and not legacy:
            return Plan("already_migrated")
        version, findings = _version_source(asset)
        if current_id is not None and version is None:
            return _plan_of_touched_asset(asset, bucket, legacy)
        version_id, id_findings = _version_id(version or {})
        if current_id is not None and current_id != version_id:
            return _plan_of_conflicting_ids(asset, bucket, legacy, current_id, version_id, facts)
    except CannotPlan as problem:
        return Plan("failed", findings=(problem.finding,))
    record, record_findings = _version_record(asset, version or {}, version_id, now, facts)
    attributes, removed, location_findings = _locations(asset, bucket)
    attributes["currentVersionId"] = {"S": version_id}
    expected = {name: asset.get(name) for name in OWNED_FIELDS}
    if "description" not in (version or {}):
        expected["description"] = asset.get("description")
    return Plan(
        "migrated",
        record,
        attributes,
        legacy + removed,
        expected,
        tuple(findings + id_findings + record_findings + location_findings) + _further_findings(asset),
    )


def _plan_of_touched_asset(asset: Item, bucket: str, legacy: Tuple[str, ...]) -> Plan:
    """The application wrote currentVersionId and left no currentVersion: the version is its own."""
    attributes, removed, findings = _locations(asset, bucket)
    location = asset.get("assetLocation", {}).get("M", {})
    if text_of(location.get("Key")) and text_of(location.get("Bucket")):
        del attributes["assetLocation"]
        findings = [finding for finding in findings if finding.field != "assetLocation"]
    expected = {name: asset.get(name) for name in OWNED_FIELDS}
    return Plan("migrated", None, attributes, legacy + removed, expected, tuple(findings) + _further_findings(asset))


def _plan_of_conflicting_ids(
    asset: Item, bucket: str, legacy: Tuple[str, ...], current_id: str, version_id: str, facts: Facts
) -> Plan:
    """The application added a version of its own if that has a record; the ids are kept. Its
    locations are mended like those of any asset that it touched: no later run would."""
    if not facts.current_record:
        raise CannotPlan(
            "conflicting_version_ids",
            "currentVersionId",
            "currentVersionId is %s, but currentVersion.Version is %s and there is no version record %s."
            % (current_id, version_id, current_id),
        )
    return _plan_of_touched_asset(asset, bucket, legacy)


def _current_version_id(asset: Item) -> Optional[str]:
    value = asset.get("currentVersionId")
    if value is None or value == NULL or value == {"S": ""}:
        return None
    if "S" not in value:
        raise CannotPlan("invalid_version_id", "currentVersionId", "currentVersionId is not text: %s." % shown(value))
    return value["S"]


def _version_source(asset: Item) -> Tuple[Optional[Item], List[Finding]]:
    """The map that tells the current version, None where there is none."""
    current = asset.get("currentVersion")
    if current is not None and current != NULL:
        if "M" not in current:
            raise CannotPlan(
                "invalid_current_version", "currentVersion", "currentVersion is not a map: %s." % shown(current)
            )
        return current["M"], []
    history = asset.get("versions", {}).get("L", [])
    # With currentVersionId the application has been here, and knows the version better.
    if _current_version_id(asset) is None and history and all("M" in entry for entry in history):
        message = "There is no currentVersion; the last of %d entries of versions was used." % len(history)
        return history[-1]["M"], [Finding("version_from_history", "currentVersion", message)]
    return None, []


def _version_id(version: Item) -> Tuple[str, List[Finding]]:
    value = version.get("Version")
    if value is None or value == NULL or value == {"S": ""}:
        message = 'The asset has no version number; "0" was used.'
        return "0", [Finding("version_missing", "currentVersion.Version", message)]
    text = decimal_text(value["N"]) if "N" in value else value.get("S")
    if text is None or not is_version_number(text):
        raise CannotPlan(
            "invalid_version_id", "currentVersion.Version", "The version number is not an integer: %s." % shown(value)
        )
    return text, []


def is_version_number(text: str) -> bool:
    """The application takes every "v" out and makes an integer of the rest."""
    return INTEGER.match(text.replace("v", "")) is not None


def _version_record(asset: Item, version: Item, version_id: str, now: str, facts: Facts) -> Tuple[Item, List[Finding]]:
    comment = {"S": "Version %s, migrated from VAMS v2.2" % version_id}
    created, date_findings = date_created(version.get("DateModified"), now)
    pipelines, pipeline_findings = _pipelines(asset, version)
    record = {
        "assetId": asset["assetId"],
        "assetVersionId": {"S": version_id},
        "isCurrentVersion": {"BOOL": not facts.live_twin},
        "dateCreated": {"S": created},
        "comment": {"S": as_text(version.get("Comment", comment))},
        "description": {"S": as_text(version.get("description", asset.get("description", NULL)))},
        "createdBy": {"S": text_of(version.get("createdBy")) or text_of(version.get("CreatedBy")) or "system"},
        "specifiedPipelines": {"L": [{"S": name} for name in pipelines]},
    }
    return record, date_findings + pipeline_findings


def date_created(value: Optional[Value], now: str) -> Tuple[str, List[Finding]]:
    """ISO 8601 UTC for v2.2's "June 24 2025 - 17:59:56"; other text as it is."""
    if value is None or value == NULL or value == {"S": ""}:
        return now, []
    text = value.get("S") or value.get("N")
    match = OLD_DATE.match(text or "")
    if match:
        day, year, hour, minute, second = map(int, match.groups()[1:])
        try:
            month = MONTHS.index(match.group(1)) + 1
            return iso_utc(datetime.datetime(year, month, day, hour, minute, second)), []
        except ValueError:
            pass  # there is no such month, day or time
    message = "DateModified has another form than v2.2 wrote: %s." % shown(value)
    return text or now, [Finding("date_not_recognised", "currentVersion.DateModified", message)]


def _pipelines(asset: Item, version: Item) -> Tuple[List[str], List[Finding]]:
    """The names of the pipelines, and a finding where something was no name."""
    value = version.get("specifiedPipelines", asset.get("specifiedPipelines", {"L": []}))
    if "SS" in value:
        return sorted(value["SS"]), []
    elements = value.get("L", [value])
    names = [_pipeline_name(element) for element in elements]
    kept = [name for name in names if name is not None]
    if len(kept) == len(names) or value == NULL:
        return kept, []
    dropped = [element for element, name in zip(elements, names) if name is None]
    message = "Not the name of a pipeline, left out: %s." % shown({"L": dropped})
    return kept, [Finding("pipelines_dropped", "specifiedPipelines", message)]


def _pipeline_name(value: Value) -> Optional[str]:
    return value["S"] if "S" in value else value.get("M", {}).get("name", {}).get("S")


def _locations(asset: Item, bucket: str) -> Tuple[Dict[str, Value], Tuple[str, ...], List[Finding]]:
    """The new assetLocation and previewLocation, what is removed, and findings."""
    asset_id = asset["assetId"]["S"]
    findings = []
    attributes = {"assetLocation": _location(asset_id + "/", bucket)}
    old_key = _usable_key(asset.get("assetLocation"))
    if old_key and not old_key.startswith(asset_id + "/"):
        message = "The files stay at %s and need moving to %s/." % (old_key, asset_id)
        findings.append(Finding("files_outside_prefix", "assetLocation", message))
    if "previewLocation" not in asset:
        return attributes, (), findings
    preview = asset["previewLocation"]
    key = _usable_key(preview)
    if key is None:
        message = "It named no file: %s." % shown(preview)
        findings.append(Finding("preview_location_removed", "previewLocation", message))
        return attributes, ("previewLocation",), findings
    attributes["previewLocation"] = _location(key, bucket)
    old_bucket = text_of(preview.get("M", {}).get("Bucket"))
    if old_bucket and old_bucket != bucket:
        message = "Its bucket was %s." % old_bucket
        findings.append(Finding("preview_bucket_replaced", "previewLocation", message))
    return attributes, (), findings


def _location(key: str, bucket: str) -> Value:
    return {"M": {"Key": {"S": key}, "Bucket": {"S": bucket}}}


def _usable_key(location: Optional[Value]) -> Optional[str]:
    """The key of a location map, or a location that is text alone."""
    if location is None:
        return None
    return text_of(location) or text_of(location.get("M", {}).get("Key"))


def _further_findings(asset: Item) -> Tuple[Finding, ...]:
    """What is not ours to change but hurts after the upgrade."""
    findings = []
    if "isDistributable" in asset and "BOOL" not in asset["isDistributable"]:
        message = "isDistributable is not a boolean: %s." % shown(asset["isDistributable"])
        findings.append(Finding("is_distributable_not_boolean", "isDistributable", message))
    if asset["assetId"]["S"] in SHARED_PREFIXES:
        message = "Other assets' files lie under the prefix %s/ too." % asset["assetId"]["S"]
        findings.append(Finding("asset_id_is_shared_prefix", "assetId", message))
    for name in ("assetName", "description"):
        if "S" not in asset.get(name, {}):
            message = "%s is missing or not text." % name
            findings.append(Finding("name_or_description_missing", name, message))
    return tuple(findings)


def text_of(value: Optional[Value]) -> Optional[str]:
    """Non-empty text, or None."""
    return (value or {}).get("S") or None


def as_text(value: Value) -> str:
    """Text as it is, null as "", a number or boolean as text, anything else as DynamoDB JSON."""
    if "S" in value:
        return value["S"]
    if "N" in value:
        return decimal_text(value["N"])
    if "BOOL" in value:
        return "true" if value["BOOL"] else "false"
    return "" if value == NULL else to_json(value)


def decimal_text(number: str) -> str:
    """A DynamoDB number without exponent or trailing zeros: "1E+2" is "100"."""
    # The default context rounds to 28 digits; DynamoDB has 38.
    text = format(decimal.Decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value: Value) -> str:
    """A value for a message, shortened."""
    text = to_json(value)
    return text if len(text) <= 120 else text[:117] + "..."


def as_planned(asset: Item, plan: Plan) -> bool:
    """Whether an asset already is as the plan leaves it."""
    return all(asset.get(name) == value for name, value in plan.set_attributes.items()) and not any(
        name in asset for name in plan.remove_attributes
    )


def same_record(one: Item, other: Item) -> bool:
    """Equal content; dateCreated aside, which may be the time of an earlier run."""
    return {**one, "dateCreated": {}} == {**other, "dateCreated": {}}


def record_size(record: Item) -> int:
    """Bytes of a version record, about."""
    texts = record["comment"]["S"] + record["description"]["S"]
    return 250 + len(texts) + 30 * len(record["specifiedPipelines"]["L"])


def is_archived(asset: Item) -> bool:
    return asset["databaseId"]["S"].endswith(ARCHIVED_SUFFIX)


def twin_database(database_id: str) -> str:
    """The databaseId under which an archived asset is live, and the other way round."""
    if database_id.endswith(ARCHIVED_SUFFIX):
        return database_id[: -len(ARCHIVED_SUFFIX)]
    return database_id + ARCHIVED_SUFFIX


def version_id_of(asset: Item, bucket: str, now: str) -> Optional[str]:
    """The id of the version record that an asset has or will have."""
    plan = plan_asset(asset, bucket, now, Facts(current_record=True))
    if plan.record:
        return plan.record["assetVersionId"]["S"]
    return text_of(asset.get("currentVersionId"))


def owns_record(twin: Item, record: Item, bucket: str, now: str) -> bool:
    """Whether a version record was made from the archived asset `twin`, which a live asset with
    the same assetId replaces. A migrated twin has lost the content; but while the live asset is
    there, the migration calls the archived one's record not current, and no other."""
    plan = plan_asset(twin, bucket, now)
    if plan.record:
        return same_record_but_current(plan.record, record)
    not_current = record.get("isCurrentVersion") == {"BOOL": False}
    return not_current and twin.get("currentVersionId") == record["assetVersionId"]


def needs_record(twin: Item, record: Item, bucket: str, now: str) -> bool:
    """Whether an asset's version record is also that of its live or archived `twin`."""
    plan = plan_asset(twin, bucket, now)
    if plan.record:
        return same_record_but_current(plan.record, record)
    return twin.get("currentVersionId") == record["assetVersionId"]


def same_record_but_current(one: Item, other: Item) -> bool:
    return same_record({**one, "isCurrentVersion": {}}, {**other, "isCurrentVersion": {}})


# --------------------------------------------------------------------------------------
# DynamoDB
# --------------------------------------------------------------------------------------

THROTTLE_CODES = ("ProvisionedThroughputExceeded", "ThrottlingError", "Throttling", "RequestLimitExceeded")
PASSING_CODES = (
    "InternalServerError",
    "TransactionConflict",
    "InternalFailure",
    "ServiceUnavailable",
    "RequestTimeout",
)
CREDENTIAL_CODES = (
    "ExpiredToken",
    "UnrecognizedClient",
    "InvalidSignature",
    "InvalidClientTokenId",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
)
KEY_SCHEMAS = {
    "assets_table_name": ("databaseId", "assetId"),
    "asset_versions_table_name": ("assetId", "assetVersionId"),
}
RECORD_FIELDS = (
    "assetId",
    "assetVersionId",
    "isCurrentVersion",
    "dateCreated",
    "comment",
    "description",
    "createdBy",
    "specifiedPipelines",
)


class Wire:
    """DynamoDB's own interface: JSON by HTTP, signed and sent by the parts of a botocore client.

    The client's methods would walk through every value, which costs CPU, and convert binary, which
    must survive unchanged.
    Source: DynamoDB developer guide, "DynamoDB low-level API".
    """

    def __init__(self, client: Any) -> None:
        from botocore import awsrequest

        self._make_request = awsrequest.AWSRequest
        self._url = client.meta.endpoint_url.rstrip("/") + "/"
        try:
            # With these, credentials, proxies, certificates and timeouts are what the client has.
            self._sign = client._request_signer.sign
            self._send = client._endpoint.http_session.send
        except AttributeError as error:
            raise PreflightError("This version of boto3 lacks a part: %s." % error, "install another version of it.")

    def call(self, operation: str, request: str) -> bytes:
        """request and answer: JSON. Raises what the client's method would."""
        headers = {
            "X-Amz-Target": "DynamoDB_20120810." + operation,
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": USER_AGENT,
        }
        message = self._make_request("POST", self._url, headers, request.encode("ascii"))
        self._sign(operation, message)
        answer = self._send(message.prepare())
        if answer.status_code != 200:
            raise self._error(operation, answer)
        return answer.content

    def _error(self, operation: str, answer: Any) -> Exception:
        from botocore import exceptions

        try:
            body = json.loads(answer.content)
            code, message = body["__type"].split("#")[-1], body.get("message") or body.get("Message") or ""
        except (ValueError, KeyError, TypeError, AttributeError):
            code, message = "HTTP status %d" % answer.status_code, "the answer is not DynamoDB's."
        status = {"HTTPStatusCode": answer.status_code}
        return exceptions.ClientError(
            {"Error": {"Code": code, "Message": message}, "ResponseMetadata": status}, operation
        )


def item_as_it_is(item: Item, text: str) -> Item:
    """Items of a page that need no preparation."""
    return item


class Database:
    """The two tables. Every request for their items goes through here.

    Items pass as DynamoDB JSON, in and out. A request that may be sent again raises TryAgain,
    one that cannot succeed raises MigrationError with the remedy.
    """

    def __init__(self, client: Any, assets: str, versions: str) -> None:
        self.client = client
        self.wire = Wire(client)
        self.assets = assets
        self.versions = versions
        self.key_names = {
            assets: KEY_SCHEMAS["assets_table_name"],
            versions: KEY_SCHEMAS["asset_versions_table_name"],
        }

    def key_of(self, table: str, item: Item) -> Key:
        partition, sort = self.key_names[table]
        return (table, item[partition]["S"], item[sort]["S"])

    def read_page(
        self, table: str, request: Dict[str, Any], prepare: Callable[[Item, str], Any] = item_as_it_is
    ) -> Tuple[List[Any], Optional[Item], float]:
        """Scan or, with a KeyConditionExpression, Query one page.
        prepare(item, text): what to make of each item; text is its JSON on one line, as DynamoDB sent it.
        Returns the prepared items, the key to go on from, and the read units."""
        operation = "Query" if "KeyConditionExpression" in request else "Scan"
        options = {"TableName": table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
        with explained("read table %s" % table):
            items, answer = decoded_page(self.wire.call(operation, to_json({**options, **request})), prepare)
        units = (answer.get("ConsumedCapacity") or {}).get("CapacityUnits", 0.0)
        return items, answer.get("LastEvaluatedKey"), units

    def get_items(self, keys: List[Key], keys_only: bool) -> Tuple[Dict[Key, Item], List[Key], float]:
        """Up to 100 items by key, read consistently.
        Returns what exists, the keys that were left unread, and the read units."""
        wanted = {}  # type: Dict[str, Dict[str, Any]]
        for table, partition, sort in keys:
            names = self.key_names[table]
            of_table = wanted.setdefault(table, {"Keys": [], "ConsistentRead": True})
            of_table["Keys"].append({names[0]: {"S": partition}, names[1]: {"S": sort}})
            if keys_only:
                of_table["ProjectionExpression"] = "%s, %s" % names
        with explained("read items of %s" % " and ".join(sorted(wanted))):
            request = to_json({"RequestItems": wanted, "ReturnConsumedCapacity": "TOTAL"})
            answer = self._call("BatchGetItem", request)
        found = {}
        for table, items in answer["Responses"].items():
            for item in items:
                found[self.key_of(table, item)] = item
        left = [
            self.key_of(table, key)
            for table, of_table in (answer.get("UnprocessedKeys") or {}).items()
            for key in of_table["Keys"]
        ]
        units = sum(part.get("CapacityUnits", 0.0) for part in answer.get("ConsumedCapacity") or ())
        return found, left, units

    def execute(self, statements: List[Statement]) -> Tuple[List[Tuple[Optional[str], str]], Optional[float]]:
        """Send up to 25 conditional writes in one request.

        Returns (error code or None, message) of each, in order, and the write units that
        DynamoDB reported, None where it reports none (DynamoDB Local).
        Source: API reference, BatchExecuteStatement; errors come inside a 200 answer.
        """
        request = '{"Statements":[%s],"ReturnConsumedCapacity":"TOTAL"}' % ",".join(statements)
        try:
            with explained("write"):
                answer = self._call("BatchExecuteStatement", request)
        except RejectedRequest as error:
            # One statement spoiled the request: send each alone, so that only that one fails.
            if len(statements) == 1:
                return [("ValidationError", str(error))], None
            answers = [self._execute_alone(statement) for statement in statements]
            units = [units for _, units in answers if units is not None]
            return [results[0] for results, _ in answers], sum(units) if units else None
        results = []  # type: List[Tuple[Optional[str], str]]
        for response in answer["Responses"]:
            refusal = response.get("Error") or {}
            results.append((plain_code(refusal["Code"]) if refusal else None, refusal.get("Message", "")))
        capacity = answer.get("ConsumedCapacity")
        return results, sum(part.get("CapacityUnits", 0.0) for part in capacity) if capacity else None

    def _call(self, operation: str, request: str) -> Dict[str, Any]:
        answer = undamaged(json.loads, self.wire.call(operation, request))
        if "Responses" not in answer:
            raise TryAgain("a garbled answer from DynamoDB")
        return answer

    def _execute_alone(self, statement: Statement) -> Tuple[List[Tuple[Optional[str], str]], Optional[float]]:
        """Like `execute`; where the request is not served, only this statement is to be sent again."""
        try:
            return self.execute([statement])
        except TryAgain as error:
            return [("InternalServerError", str(error))], None


# Attribute values are objects, so this list is the page's; in a text the quotation marks are escaped.
ITEMS = re.compile(r'"Items"\s*:\s*\[\s*')
BETWEEN_ITEMS = re.compile(r"[\s,]*")
decode_json = json.JSONDecoder().raw_decode


def decoded_page(body: bytes, prepare: Callable[[Item, str], Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """The items in the answer to a Scan or Query, each prepared as soon as it is decoded, and the rest of it."""
    # A line can end only between tokens: in a text its end is escaped.
    text = undamaged(str, body, "utf-8").replace("\n", " ")
    start = ITEMS.search(text)
    if start is None:
        raise TryAgain("a garbled answer from DynamoDB")
    items = []
    at = start.end()
    while not text.startswith("]", at):
        item, end = undamaged(decode_json, text, at)
        items.append(prepare(item, text[at:end]))
        at = BETWEEN_ITEMS.match(text, end).end()  # type: ignore[union-attr]
    return items, undamaged(json.loads, text[: start.end()] + text[at:])


def undamaged(decode: Callable, *arguments: Any) -> Any:
    """What is decoded. Raises TryAgain where it cannot be: something went wrong on the way."""
    try:
        return decode(*arguments)
    except ValueError:
        raise TryAgain("a garbled answer from DynamoDB")


class RejectedRequest(Exception):
    """DynamoDB calls the whole request invalid."""


@contextlib.contextmanager
def explained(action: str):
    """Turn what boto3 raises into TryAgain, RejectedRequest or a MigrationError."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = plain_code(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        message = error.response.get("Error", {}).get("Message", str(error))
        if code in THROTTLE_CODES:
            raise TryAgain("throttled")
        if code in PASSING_CODES or status >= 500:
            raise TryAgain("server error: %s" % (code or status))
        if code == "Validation" or code == "Serialization":
            raise RejectedRequest(message)
        raise fatal_error(code, message, action)
    except (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError) as error:
        raise TryAgain("no answer from DynamoDB: %s" % error)
    except exceptions.BotoCoreError as error:
        raise credentials_error(str(error))


def plain_code(code: str) -> str:
    """An error code without its suffix, which the batch's own codes lack."""
    return code[: -len("Exception")] if code.endswith("Exception") else code


def fatal_error(code: str, message: str, action: str) -> MigrationError:
    """The error for a code that no retry can cure."""
    if code.startswith("AccessDenied"):
        return MigrationError(
            "AWS does not permit to %s: %s" % (action, message),
            "grant what the README's IAM policy lists, then run again.",
        )
    if code in CREDENTIAL_CODES:
        return credentials_error(message)
    if code.startswith("ResourceNotFound"):
        return MigrationError(
            "Cannot %s, a table is gone: %s" % (action, message), "find out who deleted it, restore it, then run again."
        )
    return MigrationError("Cannot %s: %s: %s" % (action, code, message), "mend what it says, then run again.")


def credentials_error(message: str) -> MigrationError:
    return MigrationError(
        "AWS does not accept the credentials: %s" % message.rstrip("."),
        "sign in again (for example `aws sso login`), check --profile, then run again.",
    )


def make_session(settings: Settings) -> Any:
    """A botocore session. Raises PreflightError where boto3 or the profile is missing."""
    try:
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        raise PreflightError("A Python package is missing: %s." % error, "run `pip install boto3`.")
    try:
        session = botocore.session.Session(profile=settings.aws_profile)
        session.get_scoped_config()  # raises ProfileNotFound
        if settings.aws_region:
            session.set_config_variable("region", settings.aws_region)
        if settings.endpoint_url:
            lend_local_settings(session)
        return session
    except botocore.exceptions.BotoCoreError as error:
        raise PreflightError(
            "%s." % str(error).rstrip("."), "check --profile; `aws configure list-profiles` shows yours."
        )


def lend_local_settings(session: Any) -> None:
    """A local engine takes any credentials and region; do not make a newcomer have some."""
    from botocore import exceptions

    region = session.get_config_variable("region")
    with contextlib.suppress(exceptions.BotoCoreError):
        if session.get_credentials() is not None and region:
            return
    session.set_credentials("local", "local")
    session.set_config_variable("region", region or "us-east-1")


def make_client(session: Any, service: str, settings: Settings) -> Any:
    """A client that never retries by itself: Flow does, and knows more."""
    from botocore import exceptions
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=settings.workers + READERS,
        connect_timeout=5,
        read_timeout=20,
        user_agent=USER_AGENT,
    )
    endpoint = settings.endpoint_url if service == "dynamodb" else None
    try:
        return session.create_client(service, endpoint_url=endpoint, config=config)
    except exceptions.NoRegionError:
        raise SettingsError("No AWS region is set.", "give --region, or set one in the profile.")
    except (exceptions.BotoCoreError, ValueError) as error:
        raise SettingsError("No client for %s: %s" % (service, error), "check --endpoint-url, --region and --profile.")


def quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')


@functools.lru_cache(maxsize=None)
def insert_text(table: str, names: Tuple[str, ...]) -> str:
    return to_json("INSERT INTO %s VALUE {%s}" % (quoted(table), ", ".join("'%s': ?" % name for name in names)))


@functools.lru_cache(maxsize=1000)
def update_text(table: str, key: Tuple[str, str], sets: Tuple, removes: Tuple, equal: Tuple, missing: Tuple) -> str:
    clauses = ["UPDATE %s" % quoted(table)]
    clauses += ["SET %s = ?" % quoted(name) for name in sets]
    clauses += ["REMOVE %s" % quoted(name) for name in removes]
    return to_json(" ".join(clauses + [where_text(key, equal, missing)]))


def where_text(key: Tuple[str, str], equal: Tuple[str, ...], missing: Tuple[str, ...]) -> str:
    tests = ["%s = ?" % quoted(name) for name in key + equal] + ["%s IS MISSING" % quoted(name) for name in missing]
    return "WHERE " + " AND ".join(tests)


def insert_statement(table: str, record: Item) -> Statement:
    """An insert that fails with DuplicateItem where the key exists."""
    return statement(insert_text(table, tuple(record)), list(record.values()))


def update_statement(
    table: str,
    key: Item,
    set_attributes: Dict[str, Value],
    remove_attributes: Tuple[str, ...],
    expected: Mapping[str, Optional[Value]],
) -> Statement:
    """An update that fails with ConditionalCheckFailed unless each expected attribute is as
    given (None: absent), or where there is no such item; it never creates one."""
    equal = tuple(name for name, value in expected.items() if value is not None)
    missing = tuple(name for name, value in expected.items() if value is None)
    text = update_text(table, tuple(key), tuple(set_attributes), remove_attributes, equal, missing)
    values = list(set_attributes.values()) + list(key.values()) + [expected[name] for name in equal]
    return statement(text, values)


def delete_statement(table: str, key: Item, expected: Dict[str, Value]) -> Statement:
    """A delete that fails with ConditionalCheckFailed unless the expected attributes are so."""
    text = "DELETE FROM %s %s" % (quoted(table), where_text(tuple(key), tuple(expected), ()))  # type: ignore[arg-type]
    return statement(to_json(text), list(key.values()) + list(expected.values()))


def statement(text: str, parameters: Sequence[Optional[Value]]) -> Statement:
    """A PartiQL text, as JSON, and the values for its question marks, in order."""
    return '{"Statement":%s,"Parameters":%s}' % (text, to_json(parameters))


def write_units(size: int) -> float:
    """Write units of an item of `size` bytes: one for each started KB (AWS: read/write capacity)."""
    return float(max(1, -(-size // 1024)))


# --------------------------------------------------------------------------------------
# Journal: the before images
# --------------------------------------------------------------------------------------

JOURNAL_KIND = "vams-v2.2-to-v2.3-migration"
JOURNAL_FORMAT = 1


class Journal:
    """An append-only file of JSON lines, readable by its owner only.

    First line: what was migrated, when and by which version. Then, before anything of an
    asset is written, {"asset": <before image>, "facts": {...}}. Where its version record
    exists and is another's, a second line says before the asset goes on what becomes of that:
    {"replaced_record": <record>, "database_id": <of the asset>} or {"kept_record": ...}.
    `sync` puts what was added on the disk.
    """

    def __init__(self, path: str, header: Dict[str, Any]) -> None:
        self.path = path
        self._file = open_private(path)
        self._lines = []  # type: List[str]
        self._failure = None  # type: Optional[MigrationError]
        kind = [("journal", JOURNAL_KIND), ("format", JOURNAL_FORMAT)]  # type: List[Tuple[str, Any]]
        self._add(to_json(collections.OrderedDict(kind + list(header.items()))))
        self.sync()

    def add_asset(self, asset: str, facts: Facts, again: bool) -> int:
        """asset: its JSON on one line. again: a before image of it was added already, which this one supersedes.
        Returns the length of the line: about the size of the asset in bytes."""
        line = '{"asset":' + asset
        if facts != NO_FACTS:
            line += ',"facts":' + to_json(facts._asdict())
        if again:
            line += ',"again":true'
        return self._add(line + "}")

    def add_replaced_record(self, database_id: str, record: Item) -> None:
        self._add(to_json({"replaced_record": record, "database_id": database_id}))

    def add_kept_record(self, database_id: str, record: Item) -> None:
        self._add(to_json({"kept_record": record, "database_id": database_id}))

    def _add(self, line: str) -> int:
        self._lines.append(line + "\n")
        return len(line.encode("utf-8"))

    def sync(self) -> None:
        """Returns once everything added is on the disk. Raises MigrationError where it cannot be."""
        if self._failure:
            raise self._failure  # what was added since then would follow a line that is cut off
        try:
            if self._lines:
                self._file.writelines(self._lines)
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            self._failure = MigrationError(
                "The before images cannot be saved in %s: %s." % (self.path, error.strerror),
                "make room or choose another --journal-dir, then run the same command again.",
            )
            raise self._failure
        self._lines.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class JournalEntry(NamedTuple):
    """A before image of an asset; or, of the asset under this databaseId, the version record that
    it has replaced or kept."""

    asset: Optional[Item]
    facts: Facts
    again: bool
    database_id: Optional[str]
    replaced_record: Optional[Item]
    kept_record: Optional[Item]


def read_journal_header(path: str) -> Dict[str, Any]:
    """The first line of a journal. Raises SettingsError for another kind of file."""
    fix = "give a file that the migration wrote, backups/migration_<time>.jsonl."
    try:
        with open(path, encoding="utf-8") as file:
            header = json.loads(file.readline(1000000))
    except OSError as error:
        raise SettingsError("Journal %s cannot be read: %s." % (path, error.strerror), fix)
    except ValueError:
        raise SettingsError("%s is not a journal of the migration." % path, fix)
    if not isinstance(header, dict) or header.get("journal") != JOURNAL_KIND:
        raise SettingsError("%s is not a journal of the migration." % path, fix)
    if header.get("format") != JOURNAL_FORMAT:
        raise SettingsError(
            "Journal %s has format %s, this version reads %s." % (path, header.get("format"), JOURNAL_FORMAT),
            "use the version of the tool that wrote it: %s." % header.get("tool_version"),
        )
    return header


def read_journal_backwards(path: str) -> Iterator[JournalEntry]:
    """The entries of a journal, newest first, so that a superseded before image comes last.

    A last line that was cut off by a crash is skipped: nothing was written for it.
    Raises SettingsError for any other damage.
    """
    newest = True
    for number, line in enumerate(lines_backwards(path)):
        try:
            entry = json.loads(str(line, "utf-8"))
            if "journal" in entry:
                return
            facts = Facts(**entry.get("facts", {}))
            others = (entry.get(name) for name in ("database_id", "replaced_record", "kept_record"))
            yield JournalEntry(entry.get("asset"), facts, entry.get("again", False), *others)
        except (ValueError, TypeError, AttributeError):
            if not newest:
                raise SettingsError(
                    "Journal %s is damaged, %d lines before its end." % (path, number), "use an undamaged copy of it."
                )
            LOG.warning("The last line of %s was cut off; nothing was written for it.", path)
        newest = False


def lines_backwards(path: str) -> Iterator[bytes]:
    """The non-empty lines of a file, last one first, in memory of a line's size."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            lines = (file.read(end - start) + tail).split(b"\n")
            tail = lines[0]
            for line in reversed(lines[1:]):
                if line:
                    yield line
            end = start
        if tail:
            yield tail


# Made once: json.dumps with separators makes an encoder a call.
to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def open_private(path: str, **options: Any) -> Any:
    """A new text file that only its owner may read; its name is on the disk on return."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", **options)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return file


# --------------------------------------------------------------------------------------
# Flow: reads and conditional writes side by side
# --------------------------------------------------------------------------------------

PARTITION_UNITS = 1000.0  # write units a second that one partition takes (AWS: partition limits)
TABLE_UNITS = 4000.0  # that a whole on-demand table takes from the start (AWS: on-demand capacity mode)
FULL_LANES = 4  # partition keys that start at that limit; the next ones start slower
BURST_SECONDS = 0.1  # of the pace that may be sent at once
CUT_TO = 0.95  # of what was accepted, after a refusal
TICK_SECONDS = 0.5
GATHER_SECONDS = 0.02  # how long a batch that is not full waits for company


class Pace:
    """A token bucket: `rate` write units a second, `tokens` left to send now. Nothing is sent
    before there are as many as `wanted`."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.tokens = 0.0
        self.wanted = 0.001
        self.filled_at = now

    def fill(self, now: float) -> None:
        burst = max(1.0, self.wanted, self.rate * BURST_SECONDS)
        if self.tokens < burst:
            self.tokens = min(burst, self.tokens + self.rate * (now - self.filled_at))
        self.filled_at = now

    def ready_at(self) -> float:
        """When there are tokens again."""
        return self.filled_at + max(0.0, self.wanted - self.tokens) / self.rate


class Ceiling(Pace):
    """What all writes together may take: each is sent once all its units are there."""

    short = False  # the last one had to wait

    def pay(self, units: float, now: float) -> bool:
        """Take the tokens for a write, if there are enough."""
        self.wanted = units
        self.fill(now)
        self.short = self.tokens < units
        if not self.short:
            self.tokens -= units
        return not self.short


class Lane(Pace):
    """The writes that wait for one partition key, at the pace that DynamoDB takes them.

    The pace grows with what is accepted: slowly after a cut, then ever faster, up to twofold a
    second. A throttled write cuts it to a little below what was accepted during the last second,
    but after the first cut by 30 % at most. So a hot key waits alone.
    """

    def __init__(self, name: str, rate: float, now: float) -> None:
        super().__init__(rate, now)
        self.name = name
        self.queue = collections.deque()  # type: collections.deque
        self.accepted_units = collections.deque()  # type: collections.deque
        self.accepted_in_last_second = 0.0
        self.cut_at = 0.0

    def accepted(self, units: float, sent_at: float, now: float) -> None:
        self.accepted_units.append((now, units))
        self.accepted_in_last_second += units
        self._forget(now)
        growth = min(2.0, 1.02 + 0.01 * (now - self.cut_at) ** 2)
        self.rate = min(self.rate * growth ** min(1.0, units / self.rate), 40 * PARTITION_UNITS)
        if sent_at < self.cut_at:
            # Not known yet when the pace was cut to what had been accepted.
            self.rate = max(self.rate, CUT_TO * self.accepted_in_last_second)

    def throttled(self, sent_at: float, now: float) -> None:
        if sent_at < self.cut_at:
            return  # sent before the last cut, which has answered it already
        self._forget(now)
        accepted = self.accepted_in_last_second or self.rate / 2
        least = 0.7 * self.rate if self.cut_at else 1.0
        self.rate = max(1.0, least, CUT_TO * min(self.rate, accepted))
        self.tokens = min(self.tokens, -self.rate * random.uniform(0.0, 2 * BURST_SECONDS))
        self.cut_at = now

    def waits(self, now: float) -> bool:
        """Whether it is being held back because of throttling."""
        return bool(self.queue) and now - self.cut_at < STATUS_SECONDS

    def _forget(self, now: float) -> None:
        while self.accepted_units and self.accepted_units[0][0] < now - 1.0:
            self.accepted_in_last_second -= self.accepted_units.popleft()[1]


class Backoff:
    """When requests may go on after failures of whole requests; full jitter."""

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.reason = ""
        self.failing_since = None  # type: Optional[float]

    def failed(self, reason: str, now: float) -> None:
        if self.failing_since is None:
            self.failing_since = now
        if reason != "throttled" and now - self.failing_since > PATIENCE_SECONDS:
            raise MigrationError(
                "DynamoDB has not answered for %d minutes: %s." % (PATIENCE_SECONDS // 60, reason),
                "check the network, --endpoint-url and --region, then run the same command again.",
            )
        self.failures += 1
        self.reason = reason
        self.until = max(self.until, now + random.uniform(0.0, min(10.0, 0.05 * 2 ** min(self.failures, 10))))

    def succeeded(self) -> None:
        self.failures = 0
        self.failing_since = None

    def waits(self, now: float) -> bool:
        return now < self.until


def forget_frames(error: Optional[BaseException]) -> None:
    """The frames of an error and of its causes hold the request, and those of urllib3 the error too:
    a cycle that would keep a megabyte until the garbage collector finds it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def can_exist(key: Key) -> bool:
    """Whether a key is within DynamoDB's limits. One beyond has the whole request refused."""
    return 1 <= len(key[1].encode("utf-8")) <= 2048 and 1 <= len(key[2].encode("utf-8")) <= 1024


class Lookup:
    """Items wanted by key; `then(found)` gets a dict of those that exist."""

    def __init__(self, keys: List[Key], then: Callable[[Dict[Key, Item]], None]) -> None:
        self.missing = set(keys)
        self.found = {}  # type: Dict[Key, Item]
        self.then = then


class TableSource:
    """Pages of a table: the segments of a parallel scan, or named partition keys.

    The next page is that of the segment with the fewest items under way, so that batches mix
    partition keys and a throttled one holds up no other. With a limit, one segment after
    the other in table order, and exactly so many items.
    """

    def __init__(
        self,
        database: Database,
        table: str,
        database_ids: Sequence[str] = (),
        limit: Optional[int] = None,
        item_count: int = SEGMENTS * SEGMENT_ITEMS,
        prepare: Callable[[Item, str], Any] = item_as_it_is,
    ) -> None:
        """item_count: of the table, about; decides how many segments the scan has.
        prepare: what to make of each item, in the thread that reads it (`Database.read_page`)."""
        self.database = database
        self.table = table
        self.prepare = prepare
        self.left = limit
        if database_ids:
            self.segments = [Segment(query_of("databaseId", name)) for name in database_ids]
        elif limit is not None:
            self.segments = [Segment({})]
        else:
            total = min(SEGMENTS, 1 + item_count // SEGMENT_ITEMS)
            self.segments = [Segment({"Segment": number, "TotalSegments": total}) for number in range(total)]

    def next_read(self) -> Optional[Tuple[Any, Callable]]:
        """A segment and a function that reads its next page, or None while there is none."""
        unfinished = [segment for segment in self.segments if not segment.finished]
        if self.left is not None:
            unfinished = unfinished[:1] if self.left else []
        idle = [segment for segment in unfinished if not segment.reading]
        if not idle:
            return None
        segment = min(idle, key=lambda segment: segment.pending)
        segment.reading = True
        most = min(PAGE_ITEMS, self.left) if self.left is not None else max(LANE_ITEMS, PAGE_ITEMS // len(unfinished))
        request = dict(segment.request, Limit=most)
        return segment, functools.partial(self.database.read_page, self.table, request, self.prepare)

    def arrived(self, segment: Any, items: List[Item], next_key: Optional[Item]) -> None:
        """Note what a page brought, and where the next one begins."""
        segment.reading = False
        segment.pending += len(items)
        segment.finished = next_key is None
        segment.request["ExclusiveStartKey"] = next_key
        if self.left is not None:
            self.left -= len(items)

    def failed(self, segment: Any) -> None:
        """The page has to be read again."""
        segment.reading = False


class Segment:
    """A part of a table and how far it has been read."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.request = request
        self.reading = False
        self.finished = False
        self.pending = 0


def query_of(partition_key: str, value: str) -> Dict[str, Any]:
    """The request for the items of one partition key, named and given."""
    return {
        "KeyConditionExpression": "%s = :value" % partition_key,
        "ExpressionAttributeValues": {":value": {"S": value}},
    }


class Flow:
    """Runs reads and writes in threads; all state and every callback is the calling thread's.

    on_page(page) gets each page of `source`; it and the callbacks ask for more by `write` and
    `lookup`. on_round() comes after each batch of callbacks, on_tick(flow) every few seconds.
    `uncertain` has the items of writes that were sent before and may have been done then.
    Memory is bounded: no page is read while enough items are pending (`hold`, `release`).
    """

    def __init__(self, database, settings, source, on_page, on_round=lambda: None, on_tick=lambda flow: None):
        self.database = database
        self.settings = settings
        self.source = source
        self.on_page = on_page
        self.on_round = on_round
        self.on_tick = on_tick
        self.lanes = collections.OrderedDict()  # type: collections.OrderedDict
        self.queued = 0
        self.in_flight = set()  # type: set
        self.uncertain = set()  # type: set
        self.lookups = collections.OrderedDict()  # type: collections.OrderedDict
        self.keys_only_lookups = collections.OrderedDict()  # type: collections.OrderedDict
        self.results = queue.Queue()  # type: queue.Queue
        self.writing = self.reading = 0
        self.write_backoff, self.read_backoff = Backoff(), Backoff()
        self.later = []  # type: List[Tuple[float, Write]]
        now = time.monotonic()
        self.ceiling = Ceiling(settings.max_write_units, now) if settings.max_write_units else None
        self.sent_at = self.ticked_at = now
        self.pending_items = self.pending_bytes = 0
        self.stopping = False
        self.error = None  # type: Optional[BaseException]
        self.write_count = self.throttle_count = 0
        self.write_units = self.read_units = 0.0
        self.units_reported = True

    # What callbacks ask for.

    def write(self, write: Write) -> None:
        if self.error or (self.stopping and write.first):
            return
        lane = self.lanes.get(write.lane)
        if lane is None:
            # The more partitions, the more writes would be refused until all their limits are found.
            rate = PARTITION_UNITS / max(1, len(self.lanes) - FULL_LANES) if write.lane[1] else TABLE_UNITS
            lane = self.lanes[write.lane] = Lane(" ".join(write.lane).strip(), rate, time.monotonic())
        lane.queue.append(write)
        self.queued += 1

    def lookup(self, keys: List[Key], then: Callable[[Dict[Key, Item]], None], keys_only: bool = False) -> None:
        lookup = Lookup([key for key in keys if can_exist(key)], then)
        waiting = self.keys_only_lookups if keys_only else self.lookups
        for key in lookup.missing:
            waiting.setdefault(key, []).append(lookup)
        if not lookup.missing:
            then({})

    def hold(self, size: int) -> None:
        """So many bytes stay in memory until they are released."""
        self.pending_bytes += size

    def release(self, origin: Any, size: int) -> None:
        """An item of a page is finished, of which so many bytes were held."""
        origin.pending -= 1
        self.pending_items -= 1
        self.pending_bytes -= size

    def stop(self) -> None:
        """Begin nothing new; finish the assets under way."""
        self.stopping = True

    # The loop.

    def run(self) -> None:
        """Until everything is read and written, or stopped. Raises what made it stop early."""
        # Apart, because each thread that has read pages keeps memory of their size (benchmarks/README.md).
        with ThreadPoolExecutor(self.settings.workers) as writers, ThreadPoolExecutor(READERS) as readers:
            while True:
                if self.stopping:
                    self._drop_what_has_not_begun()
                self._send_writes(writers)
                held_back = self._send_reads(readers)
                if not (self.writing or self.reading or self.queued or self.later or held_back):
                    break
                self._collect()
        if self.error:
            raise self.error

    def _looking(self) -> bool:
        return bool(self.lookups or self.keys_only_lookups)

    def _drop_what_has_not_begun(self) -> None:
        """After an error everything: what is half-way, the next run finishes."""
        for lane in self.lanes.values():
            lane.queue = collections.deque(write for write in lane.queue if not (write.first or self.error))
        self.queued = sum(len(lane.queue) for lane in self.lanes.values())
        if self.error:
            self.later = []
            self.lookups.clear()
            self.keys_only_lookups.clear()

    def _send_writes(self, writers: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        if self.later:
            due = [write for at, write in self.later if at <= now]
            self.later = [(at, write) for at, write in self.later if at > now]
            for write in due:
                self.write(write)
        while self.writing < self.settings.workers and not self.write_backoff.waits(now):
            batch = self._next_batch(now)
            if not batch:
                break
            self.writing += 1
            self.sent_at = now
            statements = [write.statement for write in batch]
            work = functools.partial(self.database.execute, statements)
            writers.submit(self._work, work, functools.partial(self._written, batch, now))

    def _next_batch(self, now: float) -> List[Write]:
        """The next writes to send: from each lane in turn, as its pace and the ceiling permit;
        nothing while a fuller batch is worth waiting for."""
        size = self.settings.batch_size
        may_be_partial = now - self.sent_at >= GATHER_SECONDS
        if not self.queued or (self.queued < size and not may_be_partial):
            return []
        batch = []  # type: List[Write]
        room = REQUEST_BYTES
        lanes = [lane for lane in self.lanes.values() if lane.queue]
        for lane in lanes:
            lane.fill(now)
        while lanes and len(batch) < size and room > 0:
            share = max(1, (size - len(batch)) // len(lanes))
            for lane in list(lanes):
                taken = self._take(lane, share, size - len(batch), room, now)
                batch += taken
                room -= sum(len(write.statement) for write in taken)
                if len(taken) < share:
                    lanes.remove(lane)
                if self.ceiling and self.ceiling.short:
                    lanes.clear()  # so that small writes do not overtake a large one for ever
                    break
        if batch and len(batch) < size and room > 0 and not may_be_partial:
            self._put_back(batch)
            return []
        for key in {write.lane for write in batch}:
            self.lanes.move_to_end(key)
        return batch

    def _take(self, lane: Lane, share: int, most: int, room: int, now: float) -> List[Write]:
        taken = []  # type: List[Write]
        most = min(share, most)
        while lane.queue and len(taken) < most and lane.tokens > 0 and room > 0:
            write = lane.queue[0]
            size = len(write.statement)
            if write.item in self.in_flight or (room < size and room < REQUEST_BYTES):
                break
            if self.ceiling and not self.ceiling.pay(write.units, now):
                break
            lane.queue.popleft()
            lane.tokens -= write.units
            self.queued -= 1
            self.in_flight.add(write.item)
            room -= size
            taken.append(write)
        return taken

    def _put_back(self, batch: List[Write], taken_nothing: bool = True) -> None:
        """To the heads of their lanes; with the tokens, where the writes have taken no units."""
        for write in reversed(batch):
            lane = self.lanes[write.lane]
            lane.queue.appendleft(write)
            self.queued += 1
            self.in_flight.discard(write.item)
            if taken_nothing:
                lane.tokens += write.units
                if self.ceiling:
                    self.ceiling.tokens += write.units

    def _send_reads(self, readers: ThreadPoolExecutor) -> bool:
        """Returns whether something that could be read has to wait."""
        now = time.monotonic()
        while self.reading < READERS:
            if self.read_backoff.waits(now):
                return self._looking() or not self.stopping
            if self._looking():
                work, then = self._next_lookup()
            elif self.stopping or self.pending_bytes >= PENDING_BYTES or self._enough_pending():
                return False
            else:
                segment_and_work = self.source.next_read()
                if segment_and_work is None:
                    return False
                segment, work = segment_and_work
                then = functools.partial(self._page_read, segment)
            self.reading += 1
            readers.submit(self._work, work, then)
        return False

    def _enough_pending(self) -> bool:
        batches = 4 * self.settings.workers * self.settings.batch_size
        return self.pending_items >= max(batches, LANE_ITEMS * len(self.lanes))

    def _next_lookup(self) -> Tuple[Callable, Callable]:
        keys_only = bool(self.keys_only_lookups)
        waiting = self.keys_only_lookups if keys_only else self.lookups
        # Whole assets may be large: a few at a time.
        most = LOOKUP_KEYS if keys_only or next(iter(waiting))[0] == self.database.versions else 10
        batch = collections.OrderedDict(waiting.popitem(last=False) for _ in range(min(most, len(waiting))))
        work = functools.partial(self.database.get_items, list(batch), keys_only)
        return work, functools.partial(self._looked_up, batch, keys_only)

    def _work(self, work: Callable, then: Callable) -> None:
        """In a thread: do one request, hand what came of it to the loop."""
        try:
            self.results.put((then, work(), None))
        except BaseException as error:  # whatever it is, the loop must hear of it
            if isinstance(error, TryAgain):
                forget_frames(error)
            self.results.put((then, None, error))

    def _collect(self) -> None:
        with contextlib.suppress(queue.Empty):
            results = [self.results.get(timeout=self._patience())]
            with contextlib.suppress(queue.Empty):
                while True:
                    results.append(self.results.get_nowait())
            for then, result, error in results:
                self._guarded(then, result, error)
        self._guarded(self.on_round)
        now = time.monotonic()
        if now - self.ticked_at >= TICK_SECONDS:
            self.ticked_at = now
            self._forget_idle_lanes(now)
            self._guarded(self.on_tick, self)

    def _forget_idle_lanes(self, now: float) -> None:
        """There may be as many partition keys as assets."""
        if len(self.lanes) > 1000:
            idle = [key for key, lane in self.lanes.items() if not lane.queue and now - lane.filled_at > 60]
            for key in idle:
                del self.lanes[key]

    def _guarded(self, function: Callable, *arguments: Any) -> None:
        """Call back. The first failure stops the run once what is under way has ended."""
        try:
            function(*arguments)
        except Exception as error:
            self.error = self.error or error
            self.stopping = True

    def _patience(self) -> float:
        """Seconds until something could be sent even if nothing comes in."""
        now = time.monotonic()
        times = [now + 0.5]
        if self.write_backoff.waits(now):
            times.append(self.write_backoff.until)
        elif self.queued and self.writing < self.settings.workers:
            ready = min(lane.ready_at() for lane in self.lanes.values() if lane.queue)
            if self.ceiling:
                ready = max(ready, self.ceiling.ready_at())
            times.append(max(ready, self.sent_at + GATHER_SECONDS))
        if self.read_backoff.waits(now):
            times.append(self.read_backoff.until)
        times += [at for at, _ in self.later]
        return max(0.001, min(times) - now)

    # What came back, in the loop's thread.

    def _written(self, batch: List[Write], sent_at: float, result: Any, error: Optional[BaseException]) -> None:
        self.writing -= 1
        now = time.monotonic()
        if error is not None:
            throttled = str(error) == "throttled"
            self._put_back(batch, throttled)
            if not throttled:
                self.uncertain.update(write.item for write in batch)
            if not isinstance(error, TryAgain):
                raise error
            self.throttle_count += throttled
            self.write_backoff.failed(str(error), now)
            return
        self.write_backoff.succeeded()
        answers, units = result
        self._account(batch, answers, units, sent_at, now)
        fatal = None
        for write, (code, message) in zip(batch, answers):
            self.in_flight.discard(write.item)
            if code in THROTTLE_CODES:
                self.throttle_count += 1
                lane = self.lanes[write.lane]
                lane.throttled(sent_at, now)
                lane.queue.appendleft(write)
                self.queued += 1
            elif code in PASSING_CODES:
                self.uncertain.add(write.item)
                self.later.append((now + random.uniform(0.05, 0.5), write))
            elif code is not None and code.startswith(("AccessDenied", "ResourceNotFound")):
                fatal = fatal_error(code, message, "write to table %s" % write.lane[0])
            else:
                self.write_count += code is None
                write.then(code, message)
                self.uncertain.discard(write.item)
        if fatal:
            raise fatal

    def _account(self, batch: List[Write], answers: List, units: Optional[float], sent_at: float, now: float) -> None:
        """Tell the lanes what was accepted; correct the ceiling, and the sum, by what DynamoDB says
        that the writes took."""
        accepted = {}  # type: Dict[Tuple[str, str], float]
        for write, (code, _) in zip(batch, answers):
            if code not in THROTTLE_CODES:
                accepted[write.lane] = accepted.get(write.lane, 0.0) + write.units
        for key, taken in accepted.items():
            self.lanes[key].accepted(taken, sent_at, now)
        self.units_reported = self.units_reported and units is not None
        actual = sum(accepted.values()) if units is None else units
        self.write_units += actual
        if self.ceiling:
            self.ceiling.tokens += sum(write.units for write in batch) - actual

    def _looked_up(self, batch: Any, keys_only: bool, result: Any, error: Optional[BaseException]) -> None:
        self.reading -= 1
        now = time.monotonic()
        waiting = self.keys_only_lookups if keys_only else self.lookups
        if isinstance(error, TryAgain):
            self.read_backoff.failed(str(error), now)
            found, unread, units = {}, list(batch), 0.0  # type: Tuple[Dict, List, float]
        elif error is not None:
            raise error
        else:
            found, unread, units = result
            if found or not unread:
                self.read_backoff.succeeded()
            if unread:
                self.read_backoff.failed("throttled", now)
        self.read_units += units
        for key in unread:
            waiting.setdefault(key, []).extend(batch.pop(key))
        for key, lookups in batch.items():
            for lookup in lookups:
                lookup.missing.discard(key)
                if key in found:
                    lookup.found[key] = found[key]
                if not lookup.missing:
                    lookup.then(lookup.found)

    def _page_read(self, segment: Any, result: Any, error: Optional[BaseException]) -> None:
        self.reading -= 1
        if error is not None:
            self.source.failed(segment)
            if not isinstance(error, TryAgain):
                raise error
            self.read_backoff.failed(str(error), time.monotonic())
            return
        self.read_backoff.succeeded()
        items, next_key, units = result
        self.source.arrived(segment, items, next_key)
        self.read_units += units
        self.pending_items += len(items)
        self.on_page(Page(items, segment))

    def waiting_for(self) -> str:
        """Why it is slow at the moment, in words; "" when it is not."""
        now = time.monotonic()
        reasons = [backoff.reason for backoff in (self.write_backoff, self.read_backoff) if backoff.waits(now)]
        throttled = sorted(lane.name for lane in self.lanes.values() if lane.waits(now))
        if throttled:
            more = " and %d more" % (len(throttled) - 3) if len(throttled) > 3 else ""
            reasons.append("throttled: %s%s" % (", ".join(throttled[:3]), more))
        if self.ceiling and self.queued and self.ceiling.short:
            reasons.append("held at %d write units/s" % self.ceiling.rate)
        return "; ".join(reasons)


# --------------------------------------------------------------------------------------
# The migration: what follows what for one asset
# --------------------------------------------------------------------------------------

OUTCOMES = ("migrated", "already_migrated", "failed", "vanished", "not_finished")


class Tally:
    """Counts; each asset scanned is in exactly one outcome."""

    def __init__(self) -> None:
        self.scanned = 0
        self.outcomes = collections.Counter()  # type: collections.Counter
        self.codes = collections.Counter()  # type: collections.Counter
        self.version_records = 0
        self.assets = 0

    @property
    def finished(self) -> int:
        return sum(self.outcomes.values())


class Work:
    """One asset on its way from plan to outcome.

    Many are on it at the same time, so what most of them need no more is let go: the asset once it is
    planned, of its plan all but the version record, for the writes are there as statements.
    """

    __slots__ = (
        *("database_id", "asset_id", "asset", "text", "facts_wanted", "facts", "outcome", "record", "findings"),
        *("insertion", "change", "origin", "attempt", "earlier", "size", "created", "replaced"),
    )

    def __init__(self, asset: Item, text: str, earlier: Optional["Work"] = None) -> None:
        """text: the asset's JSON on one line; earlier: the work on it before it was changed by others."""
        self.database_id = asset["databaseId"]["S"]  # type: str
        self.asset_id = asset["assetId"]["S"]  # type: str
        self.asset = asset  # type: Any
        self.text = text
        self.earlier = earlier
        self.attempt = earlier.attempt + 1 if earlier else 1  # type: int
        self.facts_wanted = {}  # type: Dict[str, Key]
        self.facts = NO_FACTS
        self.outcome = "failed"
        self.record = None  # type: Any
        self.findings = []  # type: List[Finding]
        self.insertion = self.change = ""  # the statements for the version record and for the asset
        self.origin = None  # type: Any
        self.size = 0
        # What this run wrote under the version key, and what was there before it.
        self.created = None  # type: Any
        self.replaced = None  # type: Optional[Item]


class Migration:
    """Brings each asset from its plan to its outcome, in the order of spec.md section 3:
    before image on the disk, version record confirmed, asset changed."""

    def __init__(self, database: Database, settings: Settings, report: Any, journal: Any, started: str) -> None:
        self.database = database
        self.bucket = settings.asset_bucket_name
        self.report = report
        self.journal = journal
        self.started = started
        self.tally = Tally()
        self.flow = None  # type: Any
        self.after_sync = []  # type: List[Callable[[], None]]
        self.unfinished = set()  # type: set

    # Plan. What depends on the asset alone is done as it is read, and in the thread that reads it: it takes
    # half the time while the asset is in the processor's cache (benchmarks/README.md).

    def prepare(self, asset: Item, text: str, earlier: Optional[Work] = None) -> Work:
        """An asset as it was read, planned unless facts are wanted for that. Changes nothing else."""
        work = Work(asset, text, earlier)
        if is_archived(asset):
            work.facts_wanted["live_twin"] = self.twin_key(work)
        if "currentVersion" in asset and text_of(asset.get("currentVersionId")):
            key = (self.database.versions, work.asset_id, asset["currentVersionId"]["S"])
            work.facts_wanted["current_record"] = key
        if not work.facts_wanted:
            self.plan(work)
        return work

    def plan(self, work: Work) -> None:
        plan = plan_asset(work.asset, self.bucket, self.started, work.facts)
        work.outcome, work.record, work.findings = plan.outcome, plan.record, list(plan.findings)
        if plan.outcome == "migrated":
            self.put_into_statements(work, plan)
        if work.earlier is None:
            work.asset = None

    def put_into_statements(self, work: Work, plan: Plan) -> None:
        if plan.record:
            work.insertion = insert_statement(self.database.versions, plan.record)
        table = self.database.assets
        key = {name: work.asset[name] for name in self.database.key_names[table]}
        work.change = update_statement(table, key, plan.set_attributes, plan.remove_attributes, plan.expected)

    def plan_again(self, work: Work) -> Plan:
        """The plan that was made of an asset."""
        return plan_asset(json.loads(work.text), self.bucket, self.started, work.facts)

    # The way of an asset.

    def on_page(self, page: Page) -> None:
        self.tally.scanned += len(page.items)
        for work in page.items:
            work.origin = page.origin
            self.begin(work)

    def begin(self, work: Work) -> None:
        self.unfinished.add(work)
        if work.facts_wanted:
            then = functools.partial(self.plan_with, work)
            self.flow.lookup(list(work.facts_wanted.values()), then, keys_only=True)
        else:
            self.proceed(work)

    def plan_with(self, work: Work, found: Dict[Key, Item]) -> None:
        work.facts = Facts(**{name: key in found for name, key in work.facts_wanted.items()})
        self.plan(work)
        self.proceed(work)

    def proceed(self, work: Work) -> None:
        earlier = work.earlier
        if earlier and earlier.created and self.is_obsolete(earlier.created, work):
            self.withdraw(earlier, functools.partial(self.save, work))
        else:
            self.save(work)

    def is_obsolete(self, record: Item, work: Work) -> bool:
        """Whether the record written for an earlier state of an asset is not even that of
        another state of its version."""
        version_id = work.record["assetVersionId"] if work.record else work.asset.get("currentVersionId")
        return version_id != record["assetVersionId"]

    def save(self, work: Work) -> None:
        """Put the before image into the journal; the writes wait until it is on the disk."""
        if work.outcome != "migrated":
            self.finish(work, work.outcome)
            return
        work.size = self.journal.add_asset(work.text, work.facts, work.earlier is not None)
        self.flow.hold(work.size)
        step = self.insert if work.record else self.update
        if work.earlier and work.earlier.created and work.record:
            work.created, work.replaced = work.earlier.created, work.earlier.replaced
            step = self.renew
        self.after_sync.append(functools.partial(step, work))

    def on_round(self) -> None:
        """Put the before images on the disk, then begin with what waited for that."""
        self.journal.sync()
        waiting, self.after_sync = self.after_sync, []
        for begin in waiting:
            begin()

    # Version record.

    def insert(self, work: Work) -> None:
        self.write_record(work, work.insertion, functools.partial(self.inserted, work), work.attempt == 1)

    def inserted(self, work: Work, code: Optional[str], message: str) -> None:
        if code is None:
            self.record_written(work)
        elif code == "DuplicateItem":
            self.look_at_record(work)
        else:
            self.fail(work, "rejected_by_dynamodb", "", "The version record was rejected: %s: %s" % (code, message))

    def record_written(self, work: Work) -> None:
        self.tally.version_records += work.created is None
        work.created = work.record
        self.update(work)

    def renew(self, work: Work) -> None:
        """The asset was changed by others; this run wrote the record of its earlier state."""
        if work.created == work.record:
            self.update(work)
        else:
            then = functools.partial(self.replaced, work, work.replaced)
            self.write_record(work, self.exchange(work.created, work.record), then, False)

    def look_at_record(self, work: Work) -> None:
        if self.record_key(work) in self.flow.uncertain:
            work.created = work.record  # or so it may be: withdraw() makes sure
        self.flow.lookup([self.record_key(work)], functools.partial(self.settle_duplicate, work))

    def settle_duplicate(self, work: Work, found: Dict[Key, Item]) -> None:
        """The version key exists (spec.md section 2, last table)."""
        record = found.get(self.record_key(work))
        if record is None:
            self.try_again(work, self.insert)
        elif same_record(record, work.record):
            self.tally.version_records += work.created is work.record
            self.update(work)
        elif work.database_id.endswith(ARCHIVED_SUFFIX):
            self.note_twin(work, "The version record is that of another asset with this assetId and was kept.")
            self.journal.add_kept_record(work.database_id, record)
            self.after_sync.append(functools.partial(self.update, work))
        else:
            twin = self.twin_key(work)
            self.flow.lookup([twin], functools.partial(self.settle_with_twin, work, record, twin))

    def settle_with_twin(self, work: Work, record: Item, twin_key: Key, found: Dict[Key, Item]) -> None:
        twin = found.get(twin_key)
        if twin and owns_record(twin, record, self.bucket, self.started):
            self.note_twin(work, "The archived asset with this assetId had the version record; it was replaced.")
            self.journal.add_replaced_record(work.database_id, record)
            self.after_sync.append(functools.partial(self.replace, work, record))
        else:
            names = sorted({*record, *work.record} - {"dateCreated"})
            differing = [name for name in names if record.get(name) != work.record.get(name)]
            message = "There is a version record %s of other content; it differs in %s." % (
                work.record["assetVersionId"]["S"],
                ", ".join("%s (%s)" % (name, shown(record.get(name, NULL))) for name in differing),
            )
            self.fail(work, "version_conflict", "assetVersionId", message)

    def note_twin(self, work: Work, message: str) -> None:
        if not any(finding.code == "archived_twin" for finding in work.findings):
            work.findings.append(Finding("archived_twin", "assetVersionId", message))

    def replace(self, work: Work, record: Item) -> None:
        statement = self.exchange(record, work.record)
        self.write_record(work, statement, functools.partial(self.replaced, work, record), False)

    def replaced(self, work: Work, record: Optional[Item], code: Optional[str], message: str) -> None:
        if code is None:
            work.replaced = record
            self.record_written(work)
        elif code == "ConditionalCheckFailed":
            if self.record_key(work) in self.flow.uncertain:
                work.replaced = record
            self.try_again(work, self.look_at_record)
        else:
            self.fail(work, "rejected_by_dynamodb", "", "The version record was rejected: %s: %s" % (code, message))

    def exchange(self, old: Item, new: Item) -> Statement:
        """Put one version record in the place of another, if that is still as given."""
        key = {name: new[name] for name in self.database.key_names[self.database.versions]}
        values = {name: value for name, value in new.items() if name not in key}
        extra = tuple(name for name in old if name not in new)
        expected = {name: value for name, value in old.items() if name not in key}
        return update_statement(self.database.versions, key, values, extra, expected)

    def removal(self, record: Item) -> Statement:
        """Delete one version record, if it is still as given."""
        key = {name: record[name] for name in self.database.key_names[self.database.versions]}
        unchanged = {name: value for name, value in record.items() if name not in key}
        return delete_statement(self.database.versions, key, unchanged)

    def withdraw(self, work: Work, then: Callable[[], None]) -> None:
        """Take back the version record that this run wrote of an asset, then go on."""
        if work.created is None:
            then()
            return
        twin = self.twin_key(work)
        self.flow.lookup([twin], functools.partial(self.withdraw_unless_needed, work, twin, then))

    def withdraw_unless_needed(self, work: Work, twin_key: Key, then: Callable, found: Dict[Key, Item]) -> None:
        record = work.created  # type: Any
        twin = found.get(twin_key)
        if work.replaced:
            statement = self.exchange(record, work.replaced)
        elif twin and needs_record(twin, record, self.bucket, self.started):
            then()
            return
        else:
            statement = self.removal(record)
        self.write_record(work, statement, functools.partial(self.withdrawn, then), False)

    def withdrawn(self, then: Callable[[], None], code: Optional[str], message: str) -> None:
        self.tally.version_records -= code is None
        then()

    def write_record(self, work: Work, statement: Statement, then: Callable, first: bool) -> None:
        lane, units = (self.database.versions, ""), write_units(record_size(work.record))
        self.flow.write(Write(statement, self.record_key(work), lane, units, first, then))

    # Asset.

    def update(self, work: Work) -> None:
        lane = (self.database.assets, work.database_id)
        first = work.record is None and work.attempt == 1
        then = functools.partial(self.updated, work)
        self.flow.write(Write(work.change, self.asset_key(work), lane, write_units(work.size), first, then))

    def updated(self, work: Work, code: Optional[str], message: str) -> None:
        if code is None:
            self.tally.assets += 1
            self.finish(work, "migrated")
        elif code == "ConditionalCheckFailed":
            self.flow.lookup([self.asset_key(work)], functools.partial(self.settle_changed, work))
        else:
            message = "The change of the asset was rejected: %s: %s" % (code, message)
            self.withdraw(work, functools.partial(self.fail, work, "rejected_by_dynamodb", "", message))

    def settle_changed(self, work: Work, found: Dict[Key, Item]) -> None:
        """The asset is not as it was read: done already, gone, or changed."""
        asset = found.get(self.asset_key(work))
        if asset is None:
            finding = Finding("vanished", "", "The asset was deleted while the migration ran; nothing of it is left.")
            work.findings = [finding]
            self.withdraw(work, functools.partial(self.finish, work, "vanished"))
        elif as_planned(asset, self.plan_again(work)):
            # Our own write, whose answer was lost.
            self.tally.assets += 1
            self.finish(work, "migrated")
        elif work.attempt >= PLAN_ATTEMPTS:
            self.withdraw(work, functools.partial(self.give_up, work))
        else:
            again = self.prepare(asset, to_json(asset), work)
            again.origin = work.origin
            self.flow.hold(-work.size)
            self.unfinished.discard(work)
            self.begin(again)

    def try_again(self, work: Work, step: Callable[[Work], None]) -> None:
        work.attempt += 1
        if work.attempt > PLAN_ATTEMPTS:
            self.give_up(work)
        else:
            step(work)

    def give_up(self, work: Work) -> None:
        message = "It or its version record was changed by others %d times in a row." % PLAN_ATTEMPTS
        self.fail(work, "changed_during_migration", "", message)

    # Outcome.

    def fail(self, work: Work, code: str, field: str, message: str) -> None:
        work.findings = [Finding(code, field, message)]
        self.finish(work, "failed")

    def finish(self, work: Work, outcome: str) -> None:
        self.flow.release(work.origin, work.size)
        self.unfinished.discard(work)
        self.count(work, outcome)

    def count(self, work: Work, outcome: str) -> None:
        self.tally.outcomes[outcome] += 1
        for finding in work.findings:
            self.tally.codes[finding.code] += 1
            self.report.add(work.database_id, work.asset_id, outcome, finding)
        if outcome == "failed" and self.tally.outcomes["failed"] <= SHOWN_FAILURES:
            LOG.error("failed: %s: %s", name_of(work.database_id, work.asset_id), work.findings[0].message)

    def close(self) -> None:
        """Report what was scanned and left, since the run was stopped; close the files."""
        self.journal.close()
        for work in self.unfinished:
            message = "The run was stopped before its end; the next one finishes it."
            work.findings = [Finding("not_finished", "", message)]
            self.count(work, "not_finished")
        self.report.close()

    def asset_key(self, work: Work) -> Key:
        return (self.database.assets, work.database_id, work.asset_id)

    def twin_key(self, work: Work) -> Key:
        return (self.database.assets, twin_database(work.database_id), work.asset_id)

    def record_key(self, work: Work) -> Key:
        return (self.database.versions, work.asset_id, work.record["assetVersionId"]["S"])


class NoJournal:
    """The journal of a dry run."""

    path = None

    def add_asset(self, asset: str, facts: Facts, again: bool) -> int:
        return len(asset)

    def add_replaced_record(self, database_id: str, record: Item) -> None:
        pass

    def add_kept_record(self, database_id: str, record: Item) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class DryRun(Migration):
    """The same steps; what would be written is only remembered, in a temporary file."""

    def __init__(self, database: Database, settings: Settings, report: Any, started: str, show: Callable) -> None:
        super().__init__(database, settings, report, NoJournal(), started)
        self.show = show
        self.planned = temporary_database("CREATE TABLE records (key TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID")

    def put_into_statements(self, work: Work, plan: Plan) -> None:
        pass

    def insert(self, work: Work) -> None:
        self.flow.lookup([self.record_key(work)], functools.partial(self.insert_if_absent, work))

    def insert_if_absent(self, work: Work, found: Dict[Key, Item]) -> None:
        if found or self.planned_record(work):
            self.inserted(work, "DuplicateItem", "")
        else:
            self.remember(work)
            self.inserted(work, None, "")

    def look_at_record(self, work: Work) -> None:
        planned = self.planned_record(work)
        if planned:
            self.settle_duplicate(work, {self.record_key(work): planned})
        else:
            super().look_at_record(work)

    def replace(self, work: Work, record: Item) -> None:
        self.remember(work)
        self.replaced(work, record, None, "")

    def update(self, work: Work) -> None:
        if self.tally.assets < SHOWN_CHANGES:
            self.show(describe_change(json.loads(work.text), self.plan_again(work)))
        self.updated(work, None, "")

    def remember(self, work: Work) -> None:
        row = (to_json(self.record_key(work)), to_json(work.record))
        self.planned.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", row)

    def planned_record(self, work: Work) -> Optional[Item]:
        key = to_json(self.record_key(work))
        row = self.planned.execute("SELECT record FROM records WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None


def temporary_database(create: str) -> sqlite3.Connection:
    """An SQLite database with one table, in a temporary file that is gone when it is closed:
    what may grow with the tables does not stay in memory."""
    database = sqlite3.connect("")
    database.execute("PRAGMA journal_mode = OFF")
    database.execute(create)
    return database


def name_of(database_id: str, asset_id: str) -> str:
    """The key of an asset for a screen."""
    return printable("%s / %s" % (database_id, asset_id))


def printable(text: str) -> str:
    """Text for a screen, on which no control character takes effect."""
    return "".join(char if char.isprintable() else "\\u%04x" % ord(char) for char in text)


def describe_change(asset: Item, plan: Plan) -> str:
    """The change of one asset, an attribute a line."""
    lines = [name_of(asset["databaseId"]["S"], asset["assetId"]["S"])]
    if plan.record:
        lines.append("  + version record %s" % shown({"M": plan.record}))
    for name, value in sorted(plan.set_attributes.items()):
        if name in asset:
            lines.append("  ~ %s: %s -> %s" % (name, shown(asset[name]), shown(value)))
        else:
            lines.append("  + %s: %s" % (name, shown(value)))
    for name in plan.remove_attributes:
        lines.append("  - %s: %s" % (name, shown(asset[name])))
    return "\n".join(lines)


# --------------------------------------------------------------------------------------
# Preflight
# --------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One finding of the preflight: "ok", "warning", "error" or "skipped"."""

    level: str
    text: str
    fix: str = ""


class Site(NamedTuple):
    """What preflight learned about where it runs."""

    account: Optional[str]
    region: str
    item_count: int
    checks: List[Check]


def preflight(session: Any, client: Any, settings: Settings, writing: bool = True) -> Site:
    """Run all checks, whatever the first ones say (spec.md section 4). Reads only.
    writing: False leaves out what only a run that writes needs, recovery and room for a journal."""
    account, checks = None, []  # type: Optional[str], List[Check]
    if settings.endpoint_url:
        checks.append(
            Check("skipped", "account, point-in-time recovery and bucket: %s is not AWS" % settings.endpoint_url)
        )
    else:
        account, credentials = check_credentials(session, settings)
        checks.append(credentials)
    descriptions = {}
    for key in KEY_SCHEMAS:
        name = getattr(settings, key)
        descriptions[key], found = check_table(client, name, KEY_SCHEMAS[key], settings)
        checks += found
        if descriptions[key] and writing and not settings.endpoint_url:
            checks.append(check_recovery(client, name))
    checks += check_distinct(descriptions)
    if not settings.endpoint_url:
        checks.append(check_bucket(session, settings))
    assets = descriptions["assets_table_name"] or {}
    checks += check_folders(settings, writing)
    if assets and writing:
        checks.append(check_disk(settings, assets.get("TableSizeBytes", 0)))
    return Site(account, client.meta.region_name, assets.get("ItemCount", 0), checks)


def check_credentials(session: Any, settings: Settings) -> Tuple[Optional[str], Check]:
    from botocore import exceptions

    try:
        caller = make_client(session, "sts", settings).get_caller_identity()
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        return None, Check(
            "error",
            "credentials: %s" % error,
            "sign in (for example `aws sso login`) or configure the profile; `aws sts get-caller-identity` tests it.",
        )
    return caller["Account"], Check("ok", "credentials: account %s, %s" % (caller["Account"], caller["Arn"]))


def check_table(
    client: Any, name: str, schema: Tuple[str, str], settings: Settings
) -> Tuple[Optional[Dict], List[Check]]:
    """The table's description, None where it cannot be had, and what is wrong with it."""
    from botocore import exceptions

    where = "in %s" % client.meta.region_name
    try:
        table = client.describe_table(TableName=name)["Table"]
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        code = plain_code(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code == "ResourceNotFound":
            fix = "check the table names and --region; `aws dynamodb list-tables` shows what this profile can see."
            return None, [Check("error", "table %s was not found %s" % (name, where), fix)]
        if code.startswith("AccessDenied"):
            fix = "grant dynamodb:DescribeTable and what else the README's IAM policy lists."
            return None, [Check("error", "table %s: %s" % (name, error), fix)]
        fix = "check the network, the credentials, --endpoint-url and --region."
        return None, [Check("error", "table %s: %s" % (name, error), fix)]
    if table["TableStatus"] != "ACTIVE":
        fix = "wait until it is ACTIVE."
        return table, [Check("error", "table %s is %s" % (name, table["TableStatus"]), fix)]
    types = {part["AttributeName"]: part["AttributeType"] for part in table["AttributeDefinitions"]}
    keys = [(part["AttributeName"], types[part["AttributeName"]]) for part in table["KeySchema"]]
    wanted = [(part, "S") for part in schema]
    if keys != wanted:
        text = "table %s has the key %s, not %s" % (name, _key_text(keys), _key_text(wanted))
        return table, [Check("error", text, "check that the two table names are right and not exchanged.")]
    return table, [Check("ok", "table %s: ACTIVE, key %s" % (name, _key_text(keys)))]


def _key_text(keys: List[Tuple[str, str]]) -> str:
    return " + ".join("%s (%s)" % key for key in keys)


def check_distinct(descriptions: Dict[str, Any]) -> List[Check]:
    """A name and an ARN may mean the same table."""
    arns = [table["TableArn"] for table in descriptions.values() if table]
    if len(arns) == 2 and arns[0] == arns[1]:
        return [Check("error", "both names mean the table %s" % arns[0], "give two different tables.")]
    return []


def check_recovery(client: Any, name: str) -> Check:
    from botocore import exceptions

    fix = "turn it on before a real run: `aws dynamodb update-continuous-backups`, or make a backup."
    try:
        backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        return Check("warning", "point-in-time recovery of %s is unknown: %s" % (name, error), fix)
    if backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") != "ENABLED":
        return Check("warning", "point-in-time recovery of %s is off" % name, fix)
    return Check("ok", "point-in-time recovery of %s is on" % name)


def check_bucket(session: Any, settings: Settings) -> Check:
    from botocore import exceptions

    name = settings.asset_bucket_name
    try:
        make_client(session, "s3", settings).head_bucket(Bucket=name)
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("404", "NoSuchBucket"):
            fix = "check --asset-bucket; `aws s3 ls` shows the buckets of this account."
            return Check("error", "bucket %s does not exist" % name, fix)
        if code != "301":
            fix = "compare the name with `aws s3 ls`, or grant s3:ListBucket on it."
            return Check("warning", "bucket %s could not be looked at: %s" % (name, error), fix)
    except exceptions.ParamValidationError:
        return Check("error", "%s cannot be a bucket's name" % json.dumps(name), "check --asset-bucket.")
    except exceptions.BotoCoreError as error:
        return Check("warning", "bucket %s could not be looked at: %s" % (name, error), "check the name yourself.")
    return Check("ok", "bucket %s exists" % name)


def check_folders(settings: Settings, writing: bool) -> List[Check]:
    """Whether the folders for report and journal are there or can be made."""
    checks = []
    for key in ("report_dir", "journal_dir") if writing and not settings.dry_run else ("report_dir",):
        folder = existing_part(getattr(settings, key))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            text = "%s: nothing can be written in %s" % (key, folder)
            checks.append(Check("error", text, "choose another folder with %s." % SETTINGS[key].flag))
    return checks


def existing_part(path: str) -> str:
    """The path itself, or the nearest one above it that exists."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def check_disk(settings: Settings, table_bytes: int) -> Check:
    """The journal takes about one and a half times the table's size."""
    needed = 1.5 * table_bytes + 10**7
    free = shutil.disk_usage(existing_part(settings.journal_dir)).free
    text = "disk: %s MB free for the journal, about %s MB needed" % (free // 10**6, int(needed) // 10**6)
    if free < needed and not settings.dry_run:
        return Check("warning", text, "make room, or choose another --journal-dir.")
    return Check("ok", text)


def require(checks: List[Check]) -> None:
    """Raise PreflightError, with every error and its remedy, if any check failed."""
    errors = [check for check in checks if check.level == "error"]
    if errors:
        raise PreflightError(
            "Preflight failed, nothing was written: %s." % "; ".join(check.text for check in errors),
            " ".join(dict.fromkeys(check.fix for check in errors)),
        )


# --------------------------------------------------------------------------------------
# Report and progress
# --------------------------------------------------------------------------------------

REPORT_COLUMNS = ("database_id", "asset_id", "outcome", "code", "field", "message")


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def iso_utc(moment: datetime.datetime) -> str:
    """2025-06-24T17:59:56Z; year in four digits on every platform."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def unused_stem(folders: Iterable[str], prefix: str, moment: datetime.datetime) -> str:
    """A file name without ending, after the time, that no file in these folders has.
    Makes the folders. Raises PreflightError where that cannot be."""
    stem = stem_without_number = "%s_%s" % (prefix, moment.strftime("%Y%m%dT%H%M%SZ"))
    taken = set()  # type: set
    for folder in folders:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            taken.update(name.split(".")[0] for name in os.listdir(folder))
        except OSError as error:
            raise PreflightError(
                "Folder %s cannot be used: %s." % (folder, error.strerror),
                "choose others with --journal-dir and --report-dir.",
            )
    number = 2
    while stem in taken:
        stem = "%s_%d" % (stem_without_number, number)
        number += 1
    return stem


def create_private(path: str, **options: Any) -> Any:
    """open_private, with a PreflightError where the file cannot be made."""
    try:
        return open_private(path, **options)
    except OSError as error:
        raise PreflightError(
            "%s cannot be written: %s." % (path, error.strerror), "choose another folder or make this one writable."
        )


class CsvReport:
    """A CSV file, readable by its owner only, that gets its rows one by one."""

    def __init__(self, path: str, columns: Iterable[str]) -> None:
        self.path = path
        self._file = create_private(path, newline="")
        self._writer = csv.writer(self._file)
        self.rows = 0
        self._writer.writerow(list(columns))

    def add_row(self, cells: Iterable[Any]) -> None:
        self.rows += 1
        with reporting(self.path):
            self._writer.writerow([spreadsheet_safe(cell) for cell in cells])

    def close(self) -> None:
        with reporting(self.path):
            self._file.close()


class Report(CsvReport):
    """One row for each warning, failure and vanished asset of a migration."""

    def __init__(self, path: str) -> None:
        super().__init__(path, REPORT_COLUMNS)

    def add(self, database_id: str, asset_id: str, outcome: str, finding: Finding) -> None:
        self.add_row((database_id, asset_id, outcome, finding.code, finding.field, finding.message))


@contextlib.contextmanager
def reporting(path: str):
    try:
        yield
    except OSError as error:
        raise MigrationError(
            "The report %s cannot be written: %s." % (path, error.strerror),
            "make room or choose another --report-dir, then run the same command again.",
        )


def spreadsheet_safe(cell: Any) -> str:
    """Text that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    text = "" if cell is None else str(cell)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_summary(path: str, summary: Dict[str, Any]) -> None:
    """A JSON file, readable by its owner only."""
    with reporting(path), open_private(path) as file:
        json.dump(summary, file, indent=2)
        file.write("\n")


def redacted(text: str) -> str:
    """Text without the user and password that a URL in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def public_settings(settings: Settings) -> Dict[str, Any]:
    """The settings as they may be written down."""
    values = collections.OrderedDict(settings._asdict())
    if settings.endpoint_url:
        values["endpoint_url"] = redacted(settings.endpoint_url)
    return values


def remaining_text(seconds: float) -> str:
    if seconds < 90:
        return "about %d s left" % seconds
    if seconds < 5400:
        return "about %d min left" % round(seconds / 60)
    return "about %.1f h left" % (seconds / 3600)


class Progress:
    """How far it is: a bar on a terminal where tqdm is installed, and a line in the log every few seconds.

    `total` is DynamoDB's own count, up to six hours old. Where it turns out too low, neither
    percentage nor time left is shown.
    """

    def __init__(self, total: int, terminal: bool) -> None:
        self.total = total
        self.samples = collections.deque([(time.monotonic(), 0, 0.0)], 60)  # type: collections.deque
        self.shown_at = time.monotonic()
        self.bar = _make_bar(total) if terminal else None

    def show(self, finished: int, counts: str, flow: Flow) -> None:
        """finished: assets; counts: how many of each kind, in words; flow: tells its units and why it waits."""
        now = time.monotonic()
        self.samples.append((now, finished, flow.write_units))
        pace, reason = self.pace(), redacted(flow.waiting_for())
        if reason:
            pace += "  [%s]" % reason
        if self.bar is not None:
            self.bar.n = finished
            self.bar.total = max(self.total, finished)
            # What a narrow terminal cuts off comes last.
            self.bar.set_description_str("%s  %s" % (pace, counts), refresh=True)
        if now - self.shown_at >= STATUS_SECONDS:
            self.shown_at = now
            # Beside a bar, only the log file gets it.
            LOG.info("%s  %s", counts, pace, extra={"announced": self.bar is not None})

    def pace(self) -> str:
        """How far, how fast and how long still, by the last half minute."""
        (start, before, units_before), (end, finished, units) = self.samples[0], self.samples[-1]
        seconds = max(end - start, 0.001)
        rate = (finished - before) / seconds
        parts = ["{:,.0f}/s".format(rate)]
        if units > units_before:
            parts.append("{:,.0f} units/s".format((units - units_before) / seconds))
        if 0 < finished <= self.total:
            parts.insert(0, "%d%%" % (100 * finished // self.total))
            if rate > 0:
                parts.append(remaining_text((self.total - finished) / rate))
        return "  ".join(parts)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _make_bar(total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, bar_format="{bar:10} {desc}", file=sys.stderr, leave=False)


@contextlib.contextmanager
def above_the_bar():
    """What is written meanwhile stands above the progress bar, if there is one."""
    if "tqdm" not in sys.modules:
        yield
        return
    with sys.modules["tqdm"].tqdm.external_write_mode(file=sys.stderr):
        yield


class Console(logging.StreamHandler):
    """Log messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_the_bar():
            super().emit(record)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def guarded(command: Callable[[Optional[List[str]]], int], argv: Optional[List[str]]) -> int:
    """Run a command; turn an expected failure into one message and its exit status."""
    try:
        return command(argv)
    except MigrationError as error:
        announce("error: %s" % error, sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as interrupt:
        announce(str(interrupt) or "Interrupted.", sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Nobody reads the output any more; do not let the interpreter complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED_ASSETS
    finally:
        for handler in list(LOG.handlers):
            LOG.removeHandler(handler)
            handler.close()


def announce(text: str, stream: Any = None) -> None:
    """Say something whatever the log level is, and log it."""
    text = redacted(text)
    with above_the_bar():
        print(text, file=stream or sys.stdout, flush=True)
    if LOG.handlers:
        LOG.log(logging.CRITICAL if stream is sys.stderr else logging.INFO, "%s", text, extra={"announced": True})


def configure_logging(level: str, path: Optional[str]) -> None:
    """The console gets messages, the file gets them with time and level."""
    LOG.setLevel(level)
    LOG.propagate = False
    console = Console(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: not getattr(record, "announced", False))
    LOG.addHandler(console)
    if path is None:
        return
    try:
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise SettingsError("Log file %s cannot be written: %s." % (path, error.strerror), "choose another --log-file.")
    file.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(message)s"))
    file.formatter.converter = time.gmtime  # type: ignore[union-attr]
    LOG.addHandler(file)


@contextlib.contextmanager
def interruptible(flow: Flow):
    """Ctrl-C and SIGTERM stop the flow in good order; the second one ends the process."""

    signalled_at = []  # type: List[float]

    def stop(signal_number, frame):
        now = time.monotonic()
        # A signal to the process group arrives twice: from the sender and from the wrapper.
        if signalled_at and now - signalled_at[0] > 1:
            sys.stderr.write("\nStopped at once. Run the same command again to finish.\n")
            os._exit(EXIT_INTERRUPTED)
        if not signalled_at:
            signalled_at.append(now)
            flow.stop()
            sys.stderr.write("\nFinishing what is under way. Ctrl-C again stops at once.\n")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_to_end(flow: Flow, progress: Progress) -> Optional[BaseException]:
    """Run a flow, interruptible. Returns what made it stop early, for the report comes first."""
    try:
        with interruptible(flow), rare_garbage_collection():
            return ending(flow.run)
    finally:
        progress.close()


@contextlib.contextmanager
def rare_garbage_collection():
    """Look for reference cycles a little less often: items make none, and there are many of them.
    It saves 3 to 10 % of the CPU (benchmarks/README.md)."""
    thresholds = gc.get_threshold()
    gc.set_threshold(20000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def ending(function: Callable[[], None]) -> Optional[BaseException]:
    """What ended a function early, or None."""
    try:
        function()
    except BaseException as error:
        return error
    return None


def connect(settings: Settings) -> Tuple[Any, Database]:
    session = make_session(settings)
    client = make_client(session, "dynamodb", settings)
    return session, Database(client, settings.assets_table_name, settings.asset_versions_table_name)


def announce_checks(checks: List[Check]) -> None:
    for check in checks:
        announce("  %-8s %s%s" % (check.level, check.text, "\n           Fix: " + check.fix if check.fix else ""))


def confirm(question: str, settings: Settings) -> None:
    """Ask on a terminal; raises KeyboardInterrupt for anything but yes."""
    if settings.yes or settings.dry_run or not sys.stdin.isatty():
        return
    try:
        answer = input(question + " [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise KeyboardInterrupt("Nothing was written.")


def describe_scope(settings: Settings) -> str:
    scope = "all assets"
    if settings.limit is not None:
        scope = "{:,} assets, in table order".format(settings.limit)
    if settings.database_id:
        scope += " of databaseId %s" % ", ".join(settings.database_id)
    return scope


def describe_run(settings: Settings, site: Site) -> str:
    rows = [
        ("mode", "DRY RUN, nothing is written" if settings.dry_run else "MIGRATION, the tables are changed in place"),
        ("assets table", "%s, about %s items" % (settings.assets_table_name, "{:,}".format(site.item_count))),
        ("versions table", settings.asset_versions_table_name),
        ("asset bucket", settings.asset_bucket_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("what", describe_scope(settings)),
    ]
    return "\n".join("  %-15s %s" % row for row in rows)


def migrate(argv: Optional[List[str]]) -> int:
    """Settings, preflight, plan on one screen, then the run."""
    parser = make_parser("Migrate VAMS assets from v2.2 to v2.3, in place, in DynamoDB.", SETTINGS)
    parser.add_argument("--version", action="version", version=TOOL_VERSION)
    flags = vars(parser.parse_args(argv))
    settings = resolve_settings(CONFIG, read_config_file(flags.pop("config", None)), flags)
    configure_logging(settings.log_level, settings.log_file)
    session, database = connect(settings)
    announce("VAMS v2.2 to v2.3 migration %s\n\nPreflight:" % TOOL_VERSION)
    site = preflight(session, database.client, settings)
    announce_checks(site.checks)
    require(site.checks)
    announce("\nPlan:\n%s\n" % describe_run(settings, site))
    confirm("Migrate these tables now?", settings)
    return run_migration(database, settings, site)


def run_migration(database: Database, settings: Settings, site: Site) -> int:
    """Migrate, or plan what would be, and report. Returns the exit status."""
    start = utc_now()
    folders = [settings.report_dir] if settings.dry_run else [settings.report_dir, settings.journal_dir]
    stem = unused_stem(folders, "migration", start)
    migration = make_migration(database, settings, site, stem, iso_utc(start))
    tally = migration.tally
    source = TableSource(
        database, database.assets, settings.database_id, settings.limit, site.item_count, migration.prepare
    )
    total = site.item_count if settings.limit is None else min(settings.limit, site.item_count)
    progress = Progress(0 if settings.database_id else total, sys.stderr.isatty())

    def tick(flow: Flow) -> None:
        progress.show(tally.finished, counts_line(tally), flow)

    flow = migration.flow = Flow(database, settings, source, migration.on_page, migration.on_round, tick)
    errors = [run_to_end(flow, progress), ending(migration.close)]
    error = errors[0] or errors[1]
    files = {
        "report": migration.report.path,
        "summary": os.path.join(settings.report_dir, stem + "_summary.json"),
    }
    if migration.journal.path:
        files["journal"] = migration.journal.path
    status = exit_status_of(tally.outcomes["failed"], flow, error)
    summary = summarise(settings, site, tally, flow, start, status, error, files)
    write_summary(files["summary"], summary)
    announce(result_text(summary, settings))
    if error is not None:
        raise error
    return status


def make_migration(database: Database, settings: Settings, site: Site, stem: str, started: str) -> Migration:
    """The migration or its dry run, with its report and its journal."""
    report = Report(os.path.join(settings.report_dir, stem + ".csv"))
    if settings.dry_run:
        announce("The first changes:")
        return DryRun(database, settings, report, started, announce)
    journal = open_journal(os.path.join(settings.journal_dir, stem + ".jsonl"), settings, site, started)
    return Migration(database, settings, report, journal, started)


def open_journal(path: str, settings: Settings, site: Site, started: str) -> Journal:
    header = collections.OrderedDict(
        [
            ("tool_version", TOOL_VERSION),
            ("started", started),
            ("assets_table_name", settings.assets_table_name),
            ("asset_versions_table_name", settings.asset_versions_table_name),
            ("asset_bucket_name", settings.asset_bucket_name),
            ("account", site.account),
            ("region", site.region),
            ("endpoint_url", public_settings(settings)["endpoint_url"]),
        ]
    )
    try:
        return Journal(path, header)
    except (OSError, MigrationError) as error:
        raise PreflightError(
            "The journal %s cannot be written: %s" % (path, error), "make room or choose another --journal-dir."
        )


def exit_status_of(failures: int, flow: Flow, error: Optional[BaseException]) -> int:
    """The exit status of a run that ended, was stopped, or was stopped by an error."""
    if error is not None:
        return getattr(error, "exit_status", EXIT_FAILED_ASSETS)
    if flow.stopping:
        return EXIT_INTERRUPTED
    return EXIT_FAILED_ASSETS if failures else EXIT_DONE


def counts_line(tally: Tally) -> str:
    return "scanned {:,}  migrated {:,}  unchanged {:,}  failed {:,}".format(
        tally.scanned, tally.outcomes["migrated"], tally.outcomes["already_migrated"], tally.outcomes["failed"]
    )


def summarise(settings, site, tally, flow, start, status, error, files) -> Dict[str, Any]:
    """What the JSON summary says."""
    end = utc_now()
    return collections.OrderedDict(
        [
            ("tool_version", TOOL_VERSION),
            ("dry_run", settings.dry_run),
            ("started", iso_utc(start)),
            ("ended", iso_utc(end)),
            ("duration_seconds", round((end - start).total_seconds(), 3)),
            ("exit_status", status),
            ("error", None if error is None else redacted(str(error))),
            ("account", site.account),
            ("region", site.region),
            ("scanned", tally.scanned),
            ("outcomes", {name: tally.outcomes[name] for name in OUTCOMES}),
            ("codes", dict(sorted(tally.codes.items()))),
            ("version_records_written", tally.version_records),
            ("assets_changed", tally.assets),
            ("writes", flow.write_count),
            ("write_units", flow.write_units),
            ("write_units_estimated", not flow.units_reported),
            ("read_units", flow.read_units),
            ("throttles", flow.throttle_count),
            ("settings", public_settings(settings)),
            ("files", files),
        ]
    )


def result_text(summary: Dict[str, Any], settings: Settings) -> str:
    """The last screen: what happened, where it is written, what to do next."""
    verb = "would be " if settings.dry_run else ""
    outcomes = summary["outcomes"]
    lines = ["", "Result%s:" % (" of the dry run" if settings.dry_run else "")]
    lines.append("  {:>11,}  assets scanned, in {:.1f} s".format(summary["scanned"], summary["duration_seconds"]))
    meanings = [
        ("migrated", verb + "migrated"),
        ("already_migrated", "already migrated, unchanged"),
        ("failed", "failed, untouched"),
        ("vanished", "deleted by others meanwhile"),
        ("not_finished", "not finished; run the same command again"),
    ]
    for name, meaning in meanings:
        if outcomes[name] or name in ("migrated", "already_migrated", "failed"):
            lines.append("  {:>11,}  {}".format(outcomes[name], meaning))
    for code, count in summary["codes"].items():
        lines.append("  {:>11,}  with {}".format(count, code))
    for name, path in summary["files"].items():
        lines.append("  %-9s %s" % (name, path))
    for name in settings.database_id:
        if not summary["scanned"]:
            lines.append("No asset was found under databaseId %s: is it spelled right?" % name)
    return "\n".join(lines)


def main(argv: Optional[List[str]] = None) -> int:
    return guarded(migrate, argv)


if __name__ == "__main__":
    sys.exit(main())
