#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Migrate the assets of VAMS v2.2 to the form of v2.3, in place, in DynamoDB.

    settings -> client -> preflight -> scan -> plan -> journal -> write -> tally -> report

For each asset the tool writes one record to the asset versions table and then
changes the asset itself. Every write is conditional on what was read, and the
asset as it was is on disk, or in S3, before anything is sent.

Exit status:
    0    everything done
    1    finished, but some assets failed; or stopped by an error half-way
    2    wrong usage or settings, nothing written
    3    preflight failed, nothing written
    130  interrupted or declined by the operator

The sibling scripts load this file (`load_migration.py`) and use its settings,
its transformation (`plan_asset`), its `Database`, `Storage`, `Run`, `Journal` and `Report`.
Nothing runs when it is loaded.
"""

import argparse
import asyncio
import collections
import contextlib
import csv
import datetime
import decimal
import difflib
import email.utils
import errno
import functools
import gc
import glob
import heapq
import inspect
import io
import itertools
import json
import logging
import os
import random
import re
import select
import shlex
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

TOOL_VERSION = "1.0.0"
USER_AGENT = "vams-migration/%s" % TOOL_VERSION

# --------------------------------------------------------------------------------------
# Configuration
# --------------------------------------------------------------------------------------

# Your values, if you edit them here: any key of the table "Settings" in the README. A configuration file (--config)
# and then the flags override them. A placeholder left in (YOUR_..., PROD_...) counts as unset.
true, false, null, none = True, False, None, None  # for what is copied from a configuration file, or typed so
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
    # Migration
    "log_level": "INFO",  # DEBUG, INFO, WARNING, ERROR or CRITICAL
    "batch_size": 25,  # statements in one request, 1 to 25
    "dry_run": False,
}  # type: Dict[str, Any]

EXIT_DONE = 0
EXIT_FAILED_ASSETS = 1
EXIT_USAGE = 2
EXIT_PREFLIGHT = 3
EXIT_INTERRUPTED = 130

PAGE_ITEMS = 500  # examined by the reads under way in all segments; DynamoDB also ends a page at 1 MB
LANE_ITEMS = 100  # read ahead for each partition key, about
SEGMENTS = 64  # of a parallel scan, at most: enough that large databases rarely share one
SEGMENT_ITEMS = 100  # a small table is not worth more segments than this
READERS = 4  # reads under way at once
LOOKUP_KEYS = 100  # keys in one BatchGetItem, its maximum
LOOKUP_ASSETS = 25  # whole assets wanted by one, as long as nobody knows how large they are
LOOKUP_UNITS = 250.0  # read units that one may take then, about: 1 MB, as a page
ITEM_BYTES = 400 * 1024  # of one item, at most (AWS: item size)
REQUEST_BYTES = 1000 * 1000  # a batch of writes is closed at this size
PENDING_BYTES = 4 * 1000 * 1000  # of assets read and not yet finished
PLAN_ATTEMPTS = 5  # how often an asset that keeps changing is planned
PATIENCE_SECONDS = 600  # without any answer from DynamoDB before the run stops
SCANNED_FOR_FILES = 200  # assets of which some are looked for in the bucket
LOOKED_FOR_FILES = 20  # of them, at most
TELLING_WITHOUT_FILES = 10  # so many without any file say that the bucket is the wrong one
STATUS_SECONDS = 5
SHOWN_CHANGES = 5  # by a dry run, attribute by attribute
SHOWN_FAILURES = 10  # on the console; the report and the log have them all
SHOWN_ASSETS = 10  # migrated ones are named where there are no more

LOG = logging.getLogger("vams_migration")

# --------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------


class MigrationError(Exception):
    """What went wrong and what the operator can do about it."""

    exit_status = EXIT_FAILED_ASSETS

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__("%s\n  Fix: %s" % (cause, fix))
        self.cause = cause
        self.fix = fix


class SettingsError(MigrationError):
    """Wrong usage or settings; nothing was read or written."""

    exit_status = EXIT_USAGE


class PreflightError(MigrationError):
    """The tables, credentials or folders are not fit for the run; nothing was written."""

    exit_status = EXIT_PREFLIGHT


THROTTLED = "throttled"


class TryAgain(Exception):
    """DynamoDB did not serve a request, which may be sent again."""


class DamagedJournal(SettingsError):
    """A journal of which something is missing or not as it was written. It may tell of later runs than the others."""

    FIX = (
        "use an undamaged copy of it. Without one, leave it out, and move it out of its folder: what no other journal"
        " tells of stays migrated then."
    )

    def __init__(self, path: str, cause: str, fix: str = FIX) -> None:
        super().__init__(cause, fix)
        self.path = path


class JournalNotBegun(SettingsError):
    """A journal whose run was killed before it had written anything."""


class AssetFails(Exception):
    """An asset comes to no other outcome than `failed`, for the reason found."""

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
    asset_id: Optional[str]
    batch_size: int
    workers: int
    max_write_units: Optional[int]
    max_read_units: Optional[int]
    journal_dir: str
    report_dir: str
    log_level: str
    log_file: Optional[str]
    bucket_without_files: bool
    repair: bool
    yes: bool


class Setting(NamedTuple):
    """How one setting is typed and checked, and its default; section Settings has them all."""

    flag: str
    help: str
    kind: Any = str  # str, int, bool or list
    low: Optional[int] = None
    high: Optional[int] = None
    default: Any = None


class Facts(NamedTuple):
    """What a plan needs to know beyond the asset itself."""

    live_twin: bool = False  # an archived asset's id exists live too
    current_record: bool = False  # a version record for the asset's currentVersionId exists
    repair: bool = False  # what the migration does not own is to be set right too (--repair)


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


class Change(NamedTuple):
    """One conditional write of one item, which DynamoDB does whole or not at all.

    kind: INSERT holds only where there is no such item; UPDATE only where there is one and each of its `expected`
    attributes is as given, None for an absent one; DELETE likewise, but is done, too, where there is none.
    """

    kind: str
    key: Key
    size: int  # bytes of the item, about
    values: Item = {}  # to be set; of an INSERT the whole item
    removed: Tuple[str, ...] = ()
    expected: Mapping[str, Optional[Value]] = {}
    was: Optional[Item] = None  # the item as it was read; tells a dry run what comes of it
    statement: Optional[Statement] = None  # the same, ready to be sent; then the values are not kept


class Claim(NamedTuple):
    """What was done to a version record for an asset: what was under its key before, and what is there now.

    Nothing before: it was made. The same before: it is another's, or an earlier run's, and the asset relies on it.
    certain: False where the answer to its INSERT was lost and another may have made the same.
    """

    was: Optional[Item]
    now: Item
    certain: bool = True

    @property
    def wrote(self) -> bool:
        """Whether anything was done but to rely on it."""
        return self.was != self.now


# --------------------------------------------------------------------------------------
# Settings
# --------------------------------------------------------------------------------------

SETTINGS = collections.OrderedDict(
    aws_profile=Setting("--profile", "AWS profile"),
    aws_region=Setting("--region", "AWS region; default: the profile's"),
    endpoint_url=Setting("--endpoint-url", "another DynamoDB endpoint, such as http://localhost:8000"),
    assets_table_name=Setting("--assets-table", "name of the assets table"),
    asset_versions_table_name=Setting("--asset-versions-table", "name of the asset versions table"),
    asset_bucket_name=Setting("--asset-bucket", "name of the bucket that holds the assets"),
    dry_run=Setting("--dry-run", "read everything, say what would be written, write nothing", bool, default=False),
    limit=Setting("--limit", "examine exactly N assets, in table order", int, 0),
    database_id=Setting("--database-id", "read only this databaseId; may be given several times", list, default=[]),
    asset_id=Setting("--asset-id", "read only this asset, of the one databaseId given"),
    batch_size=Setting("--batch-size", "statements in one write request, 1 to 25", int, 1, 25, 25),
    workers=Setting("--workers", "write requests under way at once, 1 to 64", int, 1, 64, 8),
    max_write_units=Setting("--max-write-units", "ceiling in write units a second, over both tables", int, 1),
    max_read_units=Setting("--max-read-units", "ceiling in read units a second, over both tables", int, 1),
    journal_dir=Setting(
        "--journal-dir", "folder for the journal of before images; also s3://BUCKET/PREFIX", default="backups"
    ),
    report_dir=Setting(
        "--report-dir", "folder for CSV report and JSON summary; also s3://BUCKET/PREFIX", default="reports"
    ),
    log_level=Setting("--log-level", "DEBUG, INFO, WARNING, ERROR or CRITICAL", default="INFO"),
    log_file=Setting("--log-file", "write the log to this file too"),
    bucket_without_files=Setting(
        "--bucket-without-files", "go on where the bucket holds no files of the assets looked at", bool, default=False
    ),
    repair=Setting(
        "--repair",
        "also set right isDistributable, assetName and description where the v2.3 application would refuse them",
        bool,
        default=False,
    ),
    yes=Setting("--yes", "do not ask before writing", bool, default=False),
)  # keyword arguments keep their order from Python 3.6 on

# The settings that every script has.
SHARED_SETTINGS = (
    *("aws_profile", "aws_region", "endpoint_url"),
    *("assets_table_name", "asset_versions_table_name", "asset_bucket_name"),
    *("log_level", "log_file"),
)
REQUIRED = ("assets_table_name", "asset_versions_table_name", "asset_bucket_name")
CHOOSING = ("limit", "database_id", "asset_id")  # some of the assets
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PLACEHOLDER = re.compile(r"(YOUR|PROD)_[A-Z0-9_]*\Z")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # what becomes of bytes in another encoding on the command line
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
TABLE_NAME = re.compile(r"([A-Za-z0-9_.-]{3,255}|arn:[A-Za-z0-9:/_.-]+)\Z")
# Source: S3 user guide, "General purpose bucket naming rules".
BUCKET_NAME = re.compile(r"(?!.*\.\.)(?![0-9]+(\.[0-9]+){3}\Z)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage the way every other error is reported."""

    def error(self, message):
        raise SettingsError(message, "%s`--help` lists the flags." % self._meant(message))

    def _meant(self, message):
        """What argparse's message lets one guess of what was meant."""
        number = re.match("argument (--[a-z-]+): invalid int value", message)
        if number:
            return "give a whole number, such as %s 10. " % number.group(1)
        if message.endswith("required: --journal"):
            return "name the journals or their folder, such as --journal backups. "
        if "not allowed with" in message:
            return "give one of the two. "
        loose = message.partition("unrecognized arguments: ")[2]
        if loose.isspace():
            return "a blank after the \\ at the end of a line is an argument of its own: delete it. "
        if loose.lower() in ("true", "false") or "ignored explicit argument" in message:
            return "a flag such as --dry-run takes no value; the other way round it is --no-dry-run. "
        known = self._option_string_actions
        # A dash too few, or a long one, as a word processor makes it of two.
        wrong = [re.sub("^[-\u2013\u2014]+", "--", word) for word in message.split() if word.rstrip(":") not in known]
        flags = [word.split("=")[0] for word in wrong if word.startswith("--")]
        of_migration = {setting.flag for setting in SETTINGS.values()}.difference(known)
        theirs = [flag for flag in flags if flag in of_migration]
        if theirs:
            return "this script has no %s, which is a flag of the migration. " % theirs[0]
        near = [name for flag in flags for name in difflib.get_close_matches(flag, known, 1, 0.65)]
        places = {action.dest for action in self._actions}
        near += ["--limit " + loose] if loose.isdigit() and "--limit" in known and "count" not in places else []
        if re.match(r"[^-\u2013\u2014].*\.json\Z", loose):
            if "config_file" in places:
                return "the configuration comes first, in quotes where it has blanks; a number of assets is --limit N. "
            near.append("--config " + shlex.quote(loose))
            if not os.path.exists(loose):
                return "did you mean %s? A name that has blanks goes in quotes. " % near[0]
        return "did you mean %s? " % near[0] if near else ""


class Once(argparse.Action):
    """A flag of which the last one would win, with another meaning for all that follows."""

    def __call__(self, parser, namespace, values, option_string=None):
        if hasattr(namespace, self.dest):
            parser.error("%s is given twice: %s, %s" % (option_string, getattr(namespace, self.dest), values))
        setattr(namespace, self.dest, values)


def make_parser(description: str, keys: Iterable[str], examples: Sequence[str] = ()) -> Parser:
    """A parser with --config and the flags of these settings. Only what was typed comes
    back from it (SUPPRESS), so that an absent flag never hides a configured value.
    examples: arguments, shown at the end of --help."""
    parser = Parser(
        description=description,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["examples:"] + ["  python %(prog)s " + example for example in examples])
        if examples
        else None,
    )
    parser.add_argument("--version", action="version", version=TOOL_VERSION)
    parser.add_argument("--config", metavar="FILE", action=Once, help="JSON configuration file")
    for key in keys:
        setting = SETTINGS[key]
        if key == "dry_run":
            either = parser.add_mutually_exclusive_group()
            either.add_argument(setting.flag, dest=key, action="store_true", help=setting.help)
            either.add_argument(
                "--no-dry-run", dest=key, action="store_false", help="write, whatever the configuration says"
            )
        elif setting.kind is bool:
            parser.add_argument(setting.flag, dest=key, action="store_true", help=setting.help)
        elif setting.kind is list:
            parser.add_argument(setting.flag, dest=key, action="append", metavar="ID", help=setting.help)
        else:
            metavar = "N" if setting.kind is int else key.split("_")[-1].upper()
            parser.add_argument(setting.flag, dest=key, metavar=metavar, type=setting.kind, help=setting.help)
    return parser


def read_config_file(path: Optional[str]) -> Dict[str, Any]:
    """The settings in a JSON file; {} without a path. `comments` and keys that begin with "_" are left out, and what
    would end the dry run of CONFIG in a template of which no name was filled in. Raises SettingsError for anything but
    an object of known keys."""
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            values = json.load(file, object_pairs_hook=_object_without_twice_named_keys)
    except OSError as error:
        raise SettingsError(
            "Configuration file %s cannot be read: %s." % (shlex.quote(path), error.strerror),
            "check the path given with --config.",
        )
    except UnicodeDecodeError:
        raise SettingsError("Configuration file %s is not UTF-8 text." % path, "save it as UTF-8 in your editor.")
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            "Configuration file %s is not valid JSON: %s." % (path, error),
            "correct it there, or just before: a comma too much or too few, text without quotes, False for false, a key"
            " that stands twice (`python -m json.tool %s`)." % path,
        )
    if not isinstance(values, dict):
        raise SettingsError(
            "Configuration file %s holds no JSON object." % path,
            "start from v2.2_to_v2.3_migration_config.json.",
        )
    values = without_comments(values)
    for key in values:
        if key not in SETTINGS:
            raise SettingsError("Unknown key %r in %s." % (key, path), _nearest(key, SETTINGS))
    is_template = all(PLACEHOLDER.match(str(values.get(key))) for key in REQUIRED)
    if is_template and CONFIG.get("dry_run") is True and values.get("dry_run") is False:
        del values["dry_run"]  # the wrapper takes the template where no file is named
    return values


def without_comments(values: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if key != "comments" and not str(key).startswith("_")}


def resolve_settings(
    config: Dict[str, Any], file_values: Dict[str, Any], flags: Dict[str, Any], path: Optional[str] = None
) -> Settings:
    """Settings from CONFIG, then the file of this path, then the flags. Raises SettingsError for a value
    of the wrong type or out of bounds, and for a required one that is unset."""
    unknown = [key for key in config if key not in SETTINGS]
    if unknown:
        raise SettingsError("Unknown key %r in CONFIG." % unknown[0], _nearest(str(unknown[0]), SETTINGS))
    merged = {key: setting.default for key, setting in SETTINGS.items()}  # type: Dict[str, Any]
    found = {}  # type: Dict[str, str]
    file = "the configuration file" + (" %s" % path if path else "")
    for source, values in (("CONFIG", config), (file, file_values), ("the command line", flags)):
        for key, value in values.items():
            if key in SETTINGS and not _is_unset(key, value):
                merged[key] = _checked(key, value, source)
            elif value is not None:
                found[key] = "; %s has %s" % (source, json.dumps(value))
    missing = [key for key in REQUIRED if merged[key] is None]
    if missing:
        raise SettingsError(
            "Not set: %s." % ", ".join("%s (%s%s)" % (key, SETTINGS[key].flag, found.get(key, "")) for key in missing),
            "put your own values in %s, or give the flags."
            % (
                "%s, or name a file that has them" % path
                if path
                else "a file that --config names, or in CONFIG of " + SCRIPT
            ),
        )
    if merged["assets_table_name"] == merged["asset_versions_table_name"]:
        raise SettingsError(
            "Both tables are named %r." % merged["assets_table_name"],
            "give the assets table with --assets-table and the asset versions table with --asset-versions-table.",
        )
    if merged["asset_id"] is not None and len(merged["database_id"]) != 1:
        raise SettingsError(
            "asset_id %r is set, and not exactly one database_id." % merged["asset_id"],
            "give --database-id once: two databases may have an asset of the same assetId.",
        )
    return Settings(**merged)


def read_settings(path: Optional[str], typed: Dict[str, Any]) -> Tuple[Settings, Dict[str, Any]]:
    """The settings, and what CONFIG and the file of this path say. Raises SettingsError."""
    if not isinstance(globals().get("CONFIG"), dict):
        found = "a " + type(CONFIG).__name__ if "CONFIG" in globals() else "gone"
        raise SettingsError(
            "CONFIG in %s is no dictionary, but %s." % (os.path.abspath(__file__), found),
            'begin it with CONFIG = { and end it with }, nothing behind that, and have a "key": value in each line.',
        )
    config, values = without_comments(CONFIG), read_config_file(path)
    return resolve_settings(config, values, typed, path), {**config, **values}


def _is_unset(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return PLACEHOLDER.match(value) is not None or (value == "" and SETTINGS[key].kind is str)


def _as_typed(value: Any) -> str:
    return json.dumps(value, default=repr)  # what only CONFIG can have, such as a set, as Python shows it


def _checked(key: str, value: Any, source: str) -> Any:
    """The value of a setting in its final form."""
    setting = SETTINGS[key]
    if setting.kind is list and isinstance(value, str):
        value = [value]
    # bool is an int in Python, but `"limit": true` is a mistake.
    if not isinstance(value, setting.kind) or (setting.kind is int and isinstance(value, bool)):
        kind = {str: "text", int: "a whole number", bool: "true or false", list: "a list of texts"}[setting.kind]
        quoted = ", without quotes" * (isinstance(value, str) and setting.kind in (int, bool))
        raise SettingsError("%s in %s is %s." % (key, source, _as_typed(value)), "give %s%s." % (kind, quoted))
    if setting.kind is int and (value < setting.low or (setting.high is not None and value > setting.high)):
        bounds = "%s or more" % setting.low if setting.high is None else "%s to %s" % (setting.low, setting.high)
        raise SettingsError("%s in %s is %d." % (key, source, value), "give a whole number, %s." % bounds)
    if setting.kind is list:
        if not all(isinstance(text, str) and text and not LONE_SURROGATE.search(text) for text in value):
            raise SettingsError("%s in %s is %s." % (key, source, _as_typed(value)), "give a list of non-empty texts.")
        return list(collections.OrderedDict.fromkeys(value))
    if setting.kind is str and LONE_SURROGATE.search(value):
        raise SettingsError("%s in %s is %s." % (key, source, _as_typed(value)), "give it in UTF-8.")
    if key == "asset_id":
        return value
    if setting.kind is str and CONTROL_CHARACTER.search(value):
        raise SettingsError(
            "%s in %s is %s, with a control character in it." % (key, source, _as_typed(value)),
            "in a JSON file write / or \\\\ for the \\ of a path.",
        )
    if key == "log_level" and value.upper() in LOG_LEVELS:
        return value.upper()
    if key == "log_level":
        raise SettingsError("log_level in %s is %r." % (source, value), "give one of %s." % ", ".join(LOG_LEVELS))
    if key.endswith("_table_name") and not TABLE_NAME.match(value):
        raise SettingsError(
            "%s in %s is %s, which cannot be a table's name." % (key, source, _as_typed(value)),
            "`aws dynamodb list-tables` shows the names.",
        )
    if key == "asset_bucket_name" and not BUCKET_NAME.match(value):
        raise SettingsError(
            "%s in %s is %s, which cannot be a bucket's name." % (key, source, _as_typed(value)),
            "give it as `aws s3 ls` shows it: small letters, digits, hyphens and dots alone, without s3:// and path.",
        )
    if key in ("journal_dir", "report_dir"):
        require_path(value)
    if key == "endpoint_url" and not re.match(r"https?://[^/\s]+", value):
        raise SettingsError("endpoint_url in %s is %r." % (source, value), "give a URL such as http://localhost:8000.")
    return value


def is_s3(path: str) -> bool:
    """Whether the name of a file or folder is one in S3; also one with a typing error in it."""
    return path[:3].lower() == "s3:"


def require_path(path: str) -> None:
    """Raises SettingsError for what is meant to be a name in S3 and cannot be one."""
    match = re.match("s3://([^/]+)(/|$)", path)
    if is_s3(path) and not (match and BUCKET_NAME.match(match.group(1))):
        raise SettingsError(
            "%s names no place in S3." % json.dumps(path, ensure_ascii=False),
            "write s3://BUCKET/PREFIX; `aws s3 ls` shows the buckets.",
        )


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


# Of a version record, beside its key.
RECORD_FIELDS = ("isCurrentVersion", "dateCreated", "comment", "description", "createdBy", "specifiedPipelines")


def plan_asset(asset: Item, bucket: str, now: str, facts: Facts = NO_FACTS) -> Plan:
    """Say what v2.3 needs of one v2.2 asset.

    asset: an item in DynamoDB JSON, as Scan returns it; not modified.
    bucket: the asset bucket; now: the time the run started, as ISO 8601 UTC.
    Returns the Plan: outcome, version record, attributes to set and to remove,
    findings. Planning the result again gives `already_migrated`.
    """
    plan = _plan_of_migration(asset, bucket, now, facts)
    return _with_repairs(asset, plan) if facts.repair and plan.outcome != "failed" else plan


def _plan_of_migration(asset: Item, bucket: str, now: str, facts: Facts) -> Plan:
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
            said = "missing" if id_findings else version_id
            return _plan_of_conflicting_ids(asset, bucket, legacy, current_id, said, facts)
    except AssetFails as problem:
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
        tuple(findings + id_findings + record_findings + location_findings) + further_findings(asset),
    )


def _plan_of_touched_asset(asset: Item, bucket: str, legacy: Tuple[str, ...]) -> Plan:
    """The application wrote currentVersionId and left no currentVersion: the version is its own."""
    attributes, removed, findings = _locations(asset, bucket)
    location = asset.get("assetLocation", {}).get("M", {})
    if text_of(location.get("Key")) and text_of(location.get("Bucket")):
        del attributes["assetLocation"]
        findings = [finding for finding in findings if finding.field != "assetLocation"]
    expected = {name: asset.get(name) for name in OWNED_FIELDS}
    return Plan("migrated", None, attributes, legacy + removed, expected, tuple(findings) + further_findings(asset))


def _plan_of_conflicting_ids(
    asset: Item, bucket: str, legacy: Tuple[str, ...], current_id: str, version_id: str, facts: Facts
) -> Plan:
    """The application added a version of its own if that has a record; the ids are kept. Its
    locations are mended like those of any asset that it touched: no later run would.
    version_id: that of currentVersion, in words."""
    if not facts.current_record:
        raise AssetFails(
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
        raise AssetFails("invalid_version_id", "currentVersionId", "currentVersionId is not text: %s." % shown(value))
    return value["S"]


def _version_source(asset: Item) -> Tuple[Optional[Item], List[Finding]]:
    """The map that tells the current version, None where there is none."""
    current = asset.get("currentVersion")
    if current is not None and current != NULL:
        if "M" not in current:
            raise AssetFails(
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
        raise AssetFails(
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
    old_key = usable_key(asset.get("assetLocation"))
    if old_key and not old_key.startswith(asset_id + "/"):
        message = "The files stay at %s and need moving to %s/." % (old_key, asset_id)
        findings.append(Finding("files_outside_prefix", "assetLocation", message))
    if "previewLocation" not in asset:
        return attributes, (), findings
    preview = asset["previewLocation"]
    key = usable_key(preview)
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


def usable_key(location: Optional[Value]) -> Optional[str]:
    """The key of a location map, or a location that is text alone."""
    if location is None:
        return None
    return text_of(location) or text_of(location.get("M", {}).get("Key"))


def further_findings(asset: Item) -> Tuple[Finding, ...]:
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


def _with_repairs(asset: Item, plan: Plan) -> Plan:
    """A plan that also sets right what the migration does not own, where it is known what is meant."""
    repairs = repairs_of(asset)
    if not repairs:
        return plan
    findings = tuple(
        Finding(
            "repaired", name, "It was %s and is %s." % (shown(asset[name]) if name in asset else "absent", shown(value))
        )
        for name, value in repairs.items()
    )
    return plan._replace(
        outcome="migrated",
        set_attributes={**plan.set_attributes, **repairs},
        expected={**plan.expected, **{name: asset.get(name) for name in repairs}},
        findings=tuple(finding for finding in plan.findings if finding.field not in repairs) + findings,
    )


def repairs_of(asset: Item) -> Dict[str, Value]:
    """What the v2.3 application would refuse, as it would have written it."""
    repairs = {}
    value = asset.get("isDistributable", {})
    inner = value.get("M", {}).get("value", {})
    if "BOOL" in inner:
        repairs["isDistributable"] = inner
    elif value.get("S") in ("True", "False"):
        repairs["isDistributable"] = {"BOOL": value["S"] == "True"}
    if asset.get("assetName") in (None, NULL):
        repairs["assetName"] = asset["assetId"]
    if asset.get("description") in (None, NULL):
        repairs["description"] = {"S": ""}
    return repairs


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
    text = readable(value)
    return text if len(text) <= 120 else text[:117] + "..."


def readable(value: Optional[Value]) -> str:
    """A value for a screen, as DynamoDB JSON."""
    return printable(to_readable_json(value))


def name_of(database_id: str, asset_id: str) -> str:
    """The key of an asset for a screen."""
    return "%s / %s" % (one_name(database_id), one_name(asset_id))


def one_name(name: str) -> str:
    """A name for a screen: in quotation marks where blanks at its ends would not be seen."""
    return printable(name if name == name.strip() else '"%s"' % name)


def printable(text: str) -> str:
    """Text for a screen, on which no control character takes effect."""
    return "".join(char if char.isprintable() else "\\u%04x" % ord(char) for char in text)


def utf8(text: str) -> bytes:
    """Of half a surrogate pair too, which DynamoDB Local keeps."""
    return text.encode("utf-8", "surrogatepass")


def as_planned(asset: Item, plan: Plan) -> bool:
    """Whether an asset already is as the plan leaves it."""
    return all(asset.get(name) == value for name, value in plan.set_attributes.items()) and not any(
        name in asset for name in plan.remove_attributes
    )


def goes_on_from(asset: Item, plan: Plan) -> bool:
    """Whether an asset was left as planned, and a user of v2.3 has gone on from there."""
    location = plan.set_attributes.get("assetLocation")
    removed = [name for name in plan.remove_attributes if name in REMOVED_FIELDS]
    in_new_form = "currentVersionId" in asset and not any(name in asset for name in removed)
    return in_new_form and location is not None and asset.get("assetLocation") == location


def record_size(record: Item) -> int:
    """Bytes of a version record, about."""
    texts = record["comment"]["S"] + record["description"]["S"]
    return 250 + len(texts) + 30 * len(record["specifiedPipelines"]["L"])


def same(one: Any, other: Any) -> bool:
    """Equal values; DynamoDB gives the elements of a set in any order."""
    return one == other or _with_sorted_sets(one) == _with_sorted_sets(other)


def _with_sorted_sets(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_sorted_sets(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        # A map may have an attribute named SS, but that is a dict.
        name: sorted(inner) if name in ("SS", "NS", "BS") and isinstance(inner, list) else _with_sorted_sets(inner)
        for name, inner in value.items()
    }


def is_archived(asset: Item) -> bool:
    return in_archive(asset["databaseId"]["S"])


def in_archive(database_id: str) -> bool:
    return database_id.endswith(ARCHIVED_SUFFIX)


def twin_database(database_id: str) -> str:
    """The databaseId under which an archived asset is live, and the other way round."""
    if in_archive(database_id):
        return database_id[: -len(ARCHIVED_SUFFIX)]
    return database_id + ARCHIVED_SUFFIX


def twin_databases(key: Key) -> Tuple[str, str]:
    """The databaseIds of an asset and of its live or archived twin."""
    return key[1], twin_database(key[1])


def twin_key(key: Key) -> Key:
    """The key of the archived asset of a live one, and the other way round."""
    return key[0], twin_database(key[1]), key[2]


def version_id_of(asset: Item) -> Optional[str]:
    """The id of the version record that an asset has, or will have; None where neither is known."""
    record = record_to_make(asset)
    return record["assetVersionId"]["S"] if record else text_of(asset.get("currentVersionId"))


def is_before(version_id: str, other: str) -> bool:
    """Whether a version of an asset may be older than another one."""
    names = (version_id, other)
    if version_id == other or not all(map(is_version_number, names)):
        return version_id != other
    with contextlib.suppress(ValueError):  # of more digits than Python takes
        first, second = (int(name.replace("v", "")) for name in names)
        return first <= second  # "v3" and "3" are one number, and two versions
    return True


def needs_record(asset: Item, version_id: str) -> bool:
    """Whether an asset needs the version record of this id (spec.md section 3, guarantee 4): it is that of its
    currentVersionId. Not where the migration has still to make the record for it, and would if it were gone."""
    return text_of(asset.get("currentVersionId")) == version_id and record_to_make(asset) is None


def has_version(asset: Item, version_id: str) -> bool:
    """Whether an asset's version record has this id, or will have it."""
    return version_id_of(asset) == version_id


def record_to_make(asset: Item) -> Optional[Item]:
    """The version record that the migration has still to make for an asset, None where it has none to make. Without the
    start of a run and the live twin: compare neither dateCreated nor isCurrentVersion."""
    return plan_asset(asset, "", "", Facts(current_record=True)).record


# --------------------------------------------------------------------------------------
# DynamoDB
# --------------------------------------------------------------------------------------

THROTTLE_CODES = ("ProvisionedThroughputExceeded", "ThrottlingError", "Throttling", "RequestLimitExceeded")
PASSING_CODES = (
    "InternalServerError",
    "TransactionConflict",
    "ReplicatedWriteConflict",  # of a global table that is consistent across Regions
    "InternalFailure",
    "ServiceUnavailable",
    "RequestTimeout",
    "ConditionalRequestConflict",
    "OperationAborted",
)
CREDENTIAL_CODES = (
    "ExpiredToken",
    "UnrecognizedClient",
    "InvalidSignature",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
)
S3_REMEDIES = {
    "NoSuchBucket": "check the bucket's name with `aws s3 ls`, or make the bucket, then run again.",
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        "the bucket is in another region: use one of the region of this run.",
    ),
}
AWS_DOMAINS = (
    *(".amazonaws.com", ".api.aws"),  # also those of AWS GovCloud
    *(".amazonaws.com.cn", ".api.amazonwebservices.com.cn", ".amazonaws.eu", ".api.amazonwebservices.eu"),
)
KEY_SCHEMAS = {
    "assets_table_name": ("databaseId", "assetId"),
    "asset_versions_table_name": ("assetId", "assetVersionId"),
}


class Wire:
    """DynamoDB's own interface: JSON by HTTP, signed and sent by the parts of a botocore client.

    The client's methods would walk through every value, which costs CPU, and convert binary, which
    must survive unchanged.
    Source: DynamoDB developer guide, "DynamoDB low-level API".
    """

    def __init__(self, client: Any) -> None:
        """Raises PreflightError where this botocore lacks a part, or there are no credentials to be had."""
        from botocore import awsrequest

        self._make_request = awsrequest.AWSRequest
        try:
            # With these, credentials, proxies, certificates and timeouts are what the client has.
            self._sign = client._request_signer.sign
            self._send = client._endpoint.http_session.send
            inspect.signature(self._sign).bind("operation", "request")
            inspect.signature(self._send).bind("prepared request")
            self._url = url_of_requests(client)
        except (AttributeError, TypeError) as error:
            raise PreflightError("This version of boto3 lacks a part: %s." % error, "install another version of it.")

    def call(self, operation: str, request: str) -> bytes:
        """request and answer: JSON. Raises what the client's method would, TryAgain for a damaged answer."""
        headers = {
            "X-Amz-Target": "DynamoDB_20120810." + operation,
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": USER_AGENT,
        }
        message = self._make_request("POST", self._url, headers, request.encode("ascii"))
        self._sign(operation, message)
        answer = self._send(message.prepare())
        content = answer.content
        if answer.headers.get("x-amz-crc32", "").isdigit():
            undamaged(require_checksum, content, int(answer.headers["x-amz-crc32"]))
        if answer.status_code != 200:
            raise self._error(operation, answer)
        return content

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


def url_of_requests(client: Any) -> str:
    """Where the client sends its writes: that may depend on the account (botocore 1.37) and on FIPS. So it is taken
    from a call of its own, which is not sent; it asks for credentials, too, a one-time password for example."""
    from botocore import awsrequest

    urls = []

    def keep_from_being_sent(request: Any, **unused: Any) -> Any:
        urls.append(request.url)
        return awsrequest.AWSResponse(request.url, 200, {}, EmptyAnswer())

    event = "before-send.dynamodb.BatchExecuteStatement"
    client.meta.events.register_first(event, keep_from_being_sent)
    try:
        with explained("sign a request"):
            client.batch_execute_statement(Statements=[{"Statement": "-"}])
    except TryAgain as error:
        raise PreflightError("No credentials: %s." % error, "check the network and --profile, then run again.")
    except MigrationError as error:
        raise PreflightError(error.cause, error.fix)
    finally:
        client.meta.events.unregister(event, keep_from_being_sent)
    return urls[0]


class EmptyAnswer:
    """The body of an answer that nobody sent, as botocore reads it."""

    def stream(self, *unused: Any, **unused_too: Any) -> Iterator[bytes]:
        yield b"{}"


def require_checksum(content: bytes, checksum: int) -> None:
    """Raises ValueError unless the CRC-32 of the content is this."""
    if zlib.crc32(content) & 0xFFFFFFFF != checksum:
        raise ValueError("its checksum differs")


def item_as_it_is(item: Item, text: str) -> Item:
    """Items of a page that need no preparation."""
    return item


class PageRead(NamedTuple):
    """The answer to a Scan or Query."""

    items: List[Any]  # prepared
    next_key: Optional[Item]  # to go on from; None at the end
    units: float  # read units that it took
    size: int  # bytes of the answer


class Database:
    """The two tables. Every request for their items goes through here.

    assets, versions: their names or ARNs.
    Items pass as DynamoDB JSON, in and out. A request that may be sent again raises TryAgain,
    one that cannot succeed raises MigrationError with the remedy.
    """

    def __init__(self, client: Any, assets: str, versions: str) -> None:
        self.client = client
        self.wire = Wire(client)
        self.assets = plain_table_name(assets)
        self.versions = plain_table_name(versions)
        self.key_names = {
            self.assets: KEY_SCHEMAS["assets_table_name"],
            self.versions: KEY_SCHEMAS["asset_versions_table_name"],
        }
        # The indexes of each table that a write of the migration changes too.
        self.indexes = {self.assets: 0, self.versions: 0}

    def key_of(self, table: str, item: Item) -> Key:
        partition, sort = self.key_names[table]
        return (table, item[partition]["S"], item[sort]["S"])

    def record_key(self, record: Item) -> Key:
        """The key of a version record."""
        return self.key_of(self.versions, record)

    def statement_of(self, change: Change) -> Statement:
        table = change.key[0]
        key = dict(zip(self.key_names[table], ({"S": change.key[1]}, {"S": change.key[2]})))
        if change.kind == "INSERT":
            return insert_statement(table, change.values)
        if change.kind == "DELETE":
            return delete_statement(table, key, change.expected)
        return update_statement(table, key, change.values, change.removed, change.expected)

    def units_of(self, change: Change) -> float:
        """The write units that a change takes, about."""
        return write_units(change.size) * (1 + self.indexes[change.key[0]])

    def read_page(
        self, table: str, request: Dict[str, Any], prepare: Callable[[Item, str], Any] = item_as_it_is
    ) -> PageRead:
        """Scan or, with a KeyConditionExpression, Query one page.
        prepare(item, text): what to make of each item; text is its JSON on one line, as DynamoDB sent it."""
        operation = "Query" if "KeyConditionExpression" in request else "Scan"
        options = {"TableName": table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
        with explained("read table %s" % table):
            body = self.wire.call(operation, to_json({**options, **request}))
            items, answer = decoded_page(body, prepare)
        units = (answer.get("ConsumedCapacity") or {}).get("CapacityUnits", 0.0)
        return PageRead(items, answer.get("LastEvaluatedKey"), units, len(body))

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
        DynamoDB reported, None where it reports none (DynamoDB Local, and where nothing succeeded).
        Source: API reference, BatchExecuteStatement; errors come inside a 200 answer.
        """
        request = '{"Statements":[%s],"ReturnConsumedCapacity":"TOTAL"}' % ",".join(statements)
        try:
            with explained("write"):
                answer = self._call("BatchExecuteStatement", request)
        except RejectedRequest as error:
            # One statement spoiled the request: send each alone, so that only that one fails.
            if len(statements) == 1:
                return [("ValidationError", error.message)], None
            answers = [self._execute_alone(statement) for statement in statements]
            units = [units for _, units in answers if units is not None]
            return [results[0] for results, _ in answers], sum(units) if units else None
        if len(answer["Responses"]) != len(statements):
            raise TryAgain("a garbled answer from DynamoDB")
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


class Denied(MigrationError):
    """AWS does not permit what was asked for."""


class RejectedRequest(MigrationError):
    """DynamoDB calls the whole request invalid."""

    def __init__(self, action: str, message: str) -> None:
        super().__init__(
            "DynamoDB calls the request to %s invalid: %s" % (action, message),
            "check what was given, --database-id for example.",
        )
        self.message = message


@contextlib.contextmanager
def explained(action: str, service: str = "DynamoDB"):
    """Turn what boto3 raises into TryAgain or a MigrationError, RejectedRequest for one."""
    import urllib3.exceptions
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    try:
        yield
    except exceptions.ClientError as error:
        code = plain_code(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        message = error.response.get("Error", {}).get("Message", str(error))
        if code in THROTTLE_CODES:
            raise TryAgain(THROTTLED)
        if code in PASSING_CODES or status >= 500:
            raise TryAgain("server error: %s" % (code or status))
        if code == "Validation" or code == "Serialization" or status == 413:
            raise RejectedRequest(action, message)
        raise fatal_error(code, message, action)
    except (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError) as error:
        raise TryAgain("no answer from %s: %s" % (service, error))
    except urllib3.exceptions.HTTPError as error:  # while an object is read, by older versions of botocore
        raise TryAgain("no answer from %s: %s" % (service, error))
    except exceptions.BotoCoreError as error:
        raise credentials_error(str(error))
    except ResponseParserError:
        raise MigrationError(
            "Cannot %s: what answers is not %s of AWS" % (action, service),
            "see what AWS_ENDPOINT_URL, or endpoint_url in the profile, names: all services are asked there. For"
            " DynamoDB alone give --endpoint-url.",
        )
    except EOFError:
        raise credentials_error("the profile asks for a one-time password (MFA), and nobody is there to type it")
    except RuntimeError as error:
        # botocore has no class of its own for this one.
        if "credentials" not in str(error):
            raise
        raise credentials_error(str(error))


def plain_code(code: str) -> str:
    """An error code without its suffix, which the batch's own codes lack."""
    return code[: -len("Exception")] if code.endswith("Exception") else code


def fatal_error(code: str, message: str, action: str) -> MigrationError:
    """The error for a code that no retry can cure.
    Sources: developer guide, "IAM security policies with PartiQL for DynamoDB", and for KMS, whose denials come by the
    same code, "DynamoDB encryption at rest usage notes": it asks KMS on behalf of whoever accesses the table."""
    if code.startswith("AccessDenied"):
        what = "what the README says of KMS keys" if "kms" in message.lower() else "what the README's IAM policy lists"
        return Denied("AWS does not permit to %s: %s" % (action, message), "grant %s, then run again." % what)
    if code in CREDENTIAL_CODES:
        return credentials_error(message)
    if code.startswith("ResourceNotFound"):
        return MigrationError(
            "Cannot %s, a table is gone: %s" % (action, message), "find out who deleted it, restore it, then run again."
        )
    fix = S3_REMEDIES.get(code, "mend what it says, then run again.")
    return MigrationError("Cannot %s: %s: %s" % (action, code, message), fix)


def credentials_error(message: str) -> MigrationError:
    """message: what botocore or AWS says of the credentials; the remedy follows from it."""
    fix = "sign in again (for example `aws sso login --profile NAME`), or give the right --profile, then run again."
    if "crt" in message:
        fix = 'install what this kind of profile needs, `pip install "botocore[crt]"`, then run again.'
    elif "MFA" in message:
        fix = "run it on a terminal, or give it credentials that need no password while it runs."
    elif re.search("Signature (expired|not yet current)|request time", message):
        fix = "set the clock of this machine right, then run again."
    elif message.startswith("Unable to locate credentials"):
        fix = "sign in, or make a profile (`aws configure --profile NAME`) and give it: --profile NAME."
        return MigrationError("There are no AWS credentials: %s" % message.rstrip("."), fix)
    return MigrationError("AWS does not accept the credentials: %s" % message.rstrip("."), fix)


INSTALLATION = (
    "run `%s -m pip install boto3`. Where that is refused (externally-managed-environment), make an environment first: "
    "`python3 -m venv .venv && . .venv/bin/activate`."
)


def make_session(settings: Settings) -> Any:
    """A botocore session. Raises PreflightError where boto3 is missing, SettingsError where the profile is."""
    try:
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        raise PreflightError("A Python package is missing: %s." % error, INSTALLATION % shell_text([sys.executable]))
    try:
        session = botocore.session.Session(profile=settings.aws_profile)
        session.get_scoped_config()  # raises ProfileNotFound
        if settings.aws_region:
            session.set_config_variable("region", settings.aws_region)
        if not is_aws(settings):
            lend_local_settings(session)
        return session
    except botocore.exceptions.BotoCoreError as error:
        kind = SettingsError if isinstance(error, botocore.exceptions.ProfileNotFound) else PreflightError
        raise kind("%s." % str(error).rstrip("."), "check --profile; `aws configure list-profiles` shows yours.")


def is_aws(settings: Settings) -> bool:
    """Whether the requests go to AWS: also by an interface endpoint of AWS PrivateLink, for example."""
    host = urllib.parse.urlsplit(settings.endpoint_url or "https://amazonaws.com").hostname or ""
    return ("." + host).endswith(AWS_DOMAINS)


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
    """A client that never retries by itself: Reader and Writer do, and know more."""
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
    if service == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or None  # which botocore before 1.31 does not look at
    try:
        return session.create_client(service, endpoint_url=endpoint, config=config)
    except exceptions.NoRegionError:
        raise SettingsError(
            "No AWS region is set.", "give --region, or set one in the profile or in AWS_DEFAULT_REGION."
        )
    except (exceptions.BotoCoreError, ValueError) as error:
        raise SettingsError("No client for %s: %s" % (service, error), "check --endpoint-url, --region and --profile.")


def plain_table_name(table: str) -> str:
    """The name in the ARN of a table; a name as it is."""
    return table.split(":table/")[-1].split("/")[0] if table.startswith("arn:") else table


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
    # `attribute_not_exists("name")` does the same (measured), should DynamoDB ever treat IS MISSING in another way.
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


def delete_statement(table: str, key: Item, expected: Mapping[str, Optional[Value]]) -> Statement:
    """A delete that fails with ConditionalCheckFailed unless each expected attribute is as given (None: absent).
    Where there is no such item it succeeds (developer guide, "PartiQL delete statements"; measured). Nothing relies on
    that: whoever deletes, also takes ConditionalCheckFailed there, and looks again."""
    equal = {name: value for name, value in expected.items() if value is not None}
    missing = tuple(name for name in expected if name not in equal)
    text = "DELETE FROM %s %s" % (quoted(table), where_text(tuple(key), tuple(equal), missing))  # type: ignore[arg-type]
    return statement(to_json(text), list(key.values()) + list(equal.values()))


def statement(text: str, parameters: Sequence[Optional[Value]]) -> Statement:
    """A PartiQL text, as JSON, and the values for its question marks, in order."""
    return '{"Statement":%s,"Parameters":%s}' % (text, to_json(parameters))


def refusal_code(change: Change, item: Optional[Item]) -> Optional[str]:
    """The error code with which DynamoDB refuses a change of an item, None where it does it."""
    if not can_exist(change.key):
        return "ValidationError"
    if change.kind == "DELETE" and item is None:
        return None
    if change.kind == "INSERT" and item:
        return "DuplicateItem"
    holds = item and all(same(item.get(name), value) for name, value in change.expected.items())
    if change.kind != "INSERT" and not holds:
        return "ConditionalCheckFailed"
    return "ValidationError" if item_size(changed_item(change, item) or {}) > ITEM_BYTES else None


def item_size(item: Item) -> int:
    """Bytes of an item as its limit counts them (AWS: "DynamoDB item sizes and formats"); of numbers, about."""
    return sum(len(utf8(name)) + _value_size(value) for name, value in item.items())


def _value_size(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(utf8(content))
    if kind == "N":
        return len(content) // 2 + 1
    if kind == "B":
        return len(content) * 3 // 4
    if kind in ("SS", "NS", "BS"):
        return sum(_value_size({kind[0]: element}) for element in content)
    if kind == "L":
        return 3 + sum(1 + _value_size(element) for element in content)
    if kind == "M":
        return 3 + len(content) + item_size(content)
    return 1


def changed_item(change: Change, item: Optional[Item]) -> Optional[Item]:
    """What a change makes of an item."""
    if change.kind == "DELETE" or (change.kind == "UPDATE" and item is None):
        return None
    kept = {name: value for name, value in (item or {}).items() if name not in change.removed}
    return {**kept, **change.values}


def can_exist(key: Key) -> bool:
    """Whether a key is within DynamoDB's limits. One beyond has the whole request refused."""
    return 1 <= len(utf8(key[1])) <= 2048 and 1 <= len(utf8(key[2])) <= 1024


def write_units(size: int) -> float:
    """Write units of an item of `size` bytes: one for each started KB (AWS: read/write capacity)."""
    return float(max(1, -(-size // 1024)))


# --------------------------------------------------------------------------------------
# Folders on this machine and in S3
# --------------------------------------------------------------------------------------

# Seconds before a request that S3 did not serve is sent again, at most; a minute in all, about.
S3_WAITS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
READ_AHEAD = 8  # objects
NEW_ONLY = "NewOnly"  # a parameter of our clients' put_object: do not replace an object


def make_folder(path: str) -> None:
    """Make a folder, and what is missing above it, for the owner alone: os.makedirs gives its mode to the last one
    only. Raises OSError."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(parent) and parent != path:
        make_folder(parent)
    os.makedirs(path, mode=0o700, exist_ok=True)


class Folder:
    """A folder on this machine. What cannot be done raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def make(self) -> None:
        make_folder(self.path)

    def reserve(self, name: str) -> None:
        """What is made here replaces nothing."""

    def names(self, beginning: str) -> List[str]:
        """The names in it that begin so."""
        return [name for name in os.listdir(self.path) if name.startswith(beginning)]

    def read(self, name: str, size: Optional[int] = None) -> bytes:
        """size: how many bytes of it, from its beginning."""
        with open(self.path_of(name), "rb") as file:
            return file.read(size)


class S3Folder:
    """The same in S3: the objects whose keys begin with a prefix. What cannot be done raises MigrationError, but
    FileNotFoundError for an object that is not there."""

    def __init__(self, client: Any, path: str, waits: Sequence[float]) -> None:
        """waits: as S3_WAITS."""
        self.client = client
        self.waits = waits
        self.bucket, _, prefix = path[len("s3://") :].partition("/")
        self.prefix = prefix.strip("/") and prefix.strip("/") + "/"
        self.path = "s3://%s/%s" % (self.bucket, self.prefix)

    def path_of(self, name: str) -> str:
        return self.path + name

    def make(self) -> None:
        """A prefix needs no making."""

    def reserve(self, name: str) -> None:
        """Store what shows others that the name is taken. Raises MigrationError where another was faster."""
        text = "Run %s, begun at %s, stores its report here when it ends.\n"
        self.create(name, (text % (os.urandom(8).hex(), iso_utc(utc_now()))).encode())

    def names(self, beginning: str) -> List[str]:
        """The names in it that begin so; those of folders end with a slash."""
        names = []
        for answer in self.listing(beginning):
            names += [entry["Key"][len(self.prefix) :] for entry in answer.get("Contents", [])]
            names += [entry["Prefix"][len(self.prefix) :] for entry in answer.get("CommonPrefixes", [])]
        return names

    def listing(self, beginning: str = "") -> Iterator[Dict[str, Any]]:
        """S3's answers, a thousand objects and folders each."""
        request = {"Bucket": self.bucket, "Prefix": self.prefix + beginning, "Delimiter": "/"}
        while True:
            answer = self.served("list %s" % self.path, lambda: self.client.list_objects_v2(**request))
            yield answer
            if not answer.get("IsTruncated"):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def read(self, name: str, size: Optional[int] = None) -> bytes:
        def get() -> bytes:
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
                with contextlib.closing(answer["Body"]):
                    return answer["Body"].read(size)
            except self.client.exceptions.NoSuchKey:
                raise FileNotFoundError(errno.ENOENT, "there is none", self.path_of(name))

        return self.served("read %s" % self.path_of(name), get)

    def write(self, name: str, file: Any) -> None:
        """Store what a binary file holds, in the place of what may be there."""

        def put() -> None:
            file.seek(0)
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=file)

        self.served("store %s" % self.path_of(name), put)

    def create(self, name: str, body: bytes) -> None:
        """Store an object that is not there yet."""
        from botocore import exceptions

        def put() -> None:
            try:
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=body, **{NEW_ONLY: True})
            except exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                    raise
                if self.read(name) != body:  # not only that the answer to it was lost
                    cause = "%s is there already, of another run." % self.path_of(name)
                    raise MigrationError(cause, "run the same command again: it takes another name.")

        self.served("store %s" % self.path_of(name), put)

    def served(self, action: str, function: Callable[[], Any]) -> Any:
        """What a request to S3 returns, sent again as long as S3 does not serve it and that may pass."""
        waits = iter(self.waits)
        while True:
            try:
                with explained(action, "S3"):
                    return function()
            except TryAgain as problem:
                wait = next(waits, None)
                if wait is None:
                    raise MigrationError(
                        "Cannot %s: %s" % (action, problem), "see that S3 can be reached, then run again."
                    )
                LOG.warning("S3 does not serve, trying again: %s: %s", action, problem)
                time.sleep(wait * random.uniform(0.5, 1.0))


def read_ahead(read: Callable[[Any], bytes], keys: Iterable[Any]) -> Iterator[bytes]:
    """What is read by these keys, one after the other, with ever more of the next ones under way."""
    with ThreadPoolExecutor(READ_AHEAD) as threads:
        under_way = collections.deque()  # type: collections.deque
        most = 1
        for key in keys:
            under_way.append(threads.submit(read, key))
            if len(under_way) >= most:
                most = min(most + 1, READ_AHEAD)
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def make_s3_client(session: Any, settings: Settings) -> Any:
    """A client with NEW_ONLY. boto3 has IfNoneMatch for it since 1.35 only; S3 takes the header of any."""

    def take_parameter(params: Dict[str, Any], context: Dict[str, Any], **unused: Any) -> None:
        context[NEW_ONLY] = params.pop(NEW_ONLY, False)

    def never_replace(params: Dict[str, Any], context: Dict[str, Any], **unused: Any) -> None:
        if context[NEW_ONLY]:
            params["headers"]["If-None-Match"] = "*"

    client = make_client(session, "s3", settings)
    client.meta.events.register("provide-client-params.s3.PutObject", take_parameter)
    client.meta.events.register("before-call.s3.PutObject", never_replace)
    return client


# --------------------------------------------------------------------------------------
# Journal: the before images
# --------------------------------------------------------------------------------------

JOURNAL_KIND = "vams-v2.2-to-v2.3-migration"
BEGINNING_OF_JOURNAL = ('{"journal":"%s"' % JOURNAL_KIND).encode()
JOURNAL_LINES = (b'{"journal":', b'{"asset":{', b'{"claim":{', b'{"untouched":[', b'{"end":{')  # their beginnings
IF_NO_JOURNAL = "If it is no journal of the migration, or there is no copy, leave it out of what you give."
JOURNAL_FORMAT = 2
OBJECT_SUFFIX = ".jsonl.gz"
OBJECT = "%08d" + OBJECT_SUFFIX  # of a journal in S3, by its number; they count from 1
GOES_ON_SECONDS = 600.0  # as long as a run without an end may have stored nothing in S3 and still go on, about
SIGN_OF_LIFE_SECONDS = 150.0  # well below that: how often a run that has nothing to store shows that it goes on


class JournalFile:
    """The lines of a journal on this machine, in a file that is locked while it is used."""

    remote = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.stem = os.path.splitext(os.path.basename(path))[0]
        self.identity = os.path.realpath(path)
        self.folder = os.path.dirname(path)
        self._file = None  # type: Any

    def begin(self, line: str) -> None:
        """Make it; readable by its owner only."""
        self._file = open_private(self.path)
        lock(self._file)
        self._save(line)

    def append(self, lines: str) -> None:
        """Returns once they are on the disk. Raises MigrationError where the file is not in its place any more."""
        self._save(lines)
        if not self.is_in_place():
            raise MigrationError(
                "somebody has moved or removed it",
                "put it back, for nothing else leads back from what was migrated; then run the same command again.",
            )

    def _save(self, lines: str) -> None:
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def exists(self) -> bool:
        return os.path.exists(self.path)

    def is_in_place(self) -> bool:
        """Whether its name still leads to what is written."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False
        except OSError:  # that may not be looked into
            return True

    def discard(self) -> None:
        self.end()
        with contextlib.suppress(OSError):  # Windows: somebody looks into it
            os.remove(self.path)

    def first_line(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.readline(1000000)

    def lines_backwards(self) -> Iterator[bytes]:
        """The non-empty lines, last one first, in memory of a line's size."""
        with open(self.path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            tail = b""
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                lines = (file.read(end - start) + tail).split(b"\n")
                tail = lines[0]
                yield from filter(None, reversed(lines[1:]))
                end = start
            if tail:
                yield tail

    def user(self) -> str:
        """Who uses it at the moment: one of USED_BY, "" for nobody."""
        with open(self.path, "rb") as file:
            return locked_by(file)

    def take(self, locks: contextlib.ExitStack) -> None:
        """Lock it for a rollback. Raises PreflightError where a migration still writes it, for it may rely on what is
        taken back, or another rollback reads it."""
        file = locks.enter_context(open(self.path, "rb"))  # noqa: SIM115
        user = locked_by(file)
        if user or not lock(file, rolling_back=True):
            raise PreflightError(
                "The run that uses journal %s, %s, is still running; nothing was written."
                % (self.path, user or "a rollback"),
                "wait until it has ended, or stop it with Ctrl-C and wait, then run the same command again.",
            )


class JournalObjects:
    """The lines of a journal in S3, which has no append and no locks: in the numbered objects of a folder, each some
    lines, compressed (gzip), stored whole or not at all, and never changed. `zcat` of all of them is the file that a
    journal is on a disk."""

    remote = True  # it takes so long to append that others go on meanwhile

    def __init__(self, folder: S3Folder) -> None:
        self._objects = folder
        self.path = self.identity = folder.path
        self.folder, _, self.stem = folder.path[:-1].rpartition("/")
        self._header = ""
        self._count = 0
        self._first_line = b""

    def begin(self, line: str) -> None:
        """It goes with the first lines that are appended: a run without any leaves nothing."""
        self._header = line

    def append(self, lines: str) -> None:
        """Returns once they are stored in an object of their own."""
        gzip = zlib.compressobj(1, zlib.DEFLATED, 31)
        text = lines if self._count else self._header + lines
        body = gzip.compress(text.encode("utf-8", "backslashreplace")) + gzip.flush()
        self._objects.create(OBJECT % (self._count + 1), body)
        self._count += 1

    def end(self) -> None:
        """Nothing is open."""

    def exists(self) -> bool:
        return self._stored()[0] > 0

    def discard(self) -> None:
        """Nothing was stored."""

    def first_line(self) -> bytes:
        """It never changes, so it is read once; also where other objects are missing, for it tells whose they are."""
        if not self._first_line:
            try:
                body = self._objects.read(OBJECT % 1)
            except FileNotFoundError:
                if self.exists():
                    raise
                raise FileNotFoundError(errno.ENOENT, "there is no such journal, nor one below it", self.path)
            self._first_line = next(iter(self._lines(body)), b"") + b"\n"
        return self._first_line

    def lines_backwards(self) -> Iterator[bytes]:
        """The non-empty lines, last one first, in memory of some objects' size."""
        numbers = range(self._stored()[0], 0, -1)
        for body in read_ahead(self._read, numbers):
            yield from reversed(self._lines(body))

    def user(self) -> str:
        """Nobody locks it. A run that was not ended, and has stored something lately, may still go on."""
        if self._stored()[1] > GOES_ON_SECONDS or is_whole(self):
            return ""
        return USED_BY[0]

    def take(self, locks: contextlib.ExitStack) -> None:
        if self.user():
            raise PreflightError(
                "Journal %s has no end yet and grew in the last %d minutes: its run may still go on; nothing was"
                " written." % (self.path, GOES_ON_SECONDS / 60),
                "wait until it has ended, or stop it with Ctrl-C. If it was killed, wait so many minutes, then run the"
                " same command again.",
            )

    def _stored(self) -> Tuple[int, float]:
        """How many objects there are, and how many seconds ago the last one was stored. Raises DamagedJournal where
        one is missing before others."""
        expected, since = 1, 0.0
        for answer in self._objects.listing():
            for entry in answer.get("Contents", []):
                name = entry["Key"].rpartition("/")[2]
                if not re.match("[0-9]{8}%s$" % re.escape(OBJECT_SUFFIX), name):
                    continue
                if name != OBJECT % expected:
                    raise DamagedJournal(
                        self.path,
                        "Journal %s lacks its object %s, and has later ones." % (self.path, OBJECT % expected),
                        "bring that one back, for example from an earlier version, or " + DamagedJournal.FIX,
                    )
                expected += 1
                since = seconds_since(entry["LastModified"], answer)
        return expected - 1, since

    def _read(self, number: int) -> bytes:
        try:
            return self._objects.read(OBJECT % number)
        except FileNotFoundError:
            raise DamagedJournal(
                self.path,
                "Journal %s has lost its object %s just now." % (self.path, OBJECT % number),
                "see who removes objects there.",
            )

    def _lines(self, body: bytes) -> List[bytes]:
        try:
            return list(filter(None, zlib.decompress(body, 31).split(b"\n")))
        except zlib.error:
            raise DamagedJournal(self.path, "Journal %s is damaged." % self.path)


def seconds_since(moment: datetime.datetime, answer: Dict[str, Any]) -> float:
    """Seconds from a moment to an answer, by the clock that both are of."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(date) if date else utc_now()
    return (now - moment).total_seconds()


class Storage:
    """Finds folders and journals by their names: paths on this machine, or s3://BUCKET/PREFIX."""

    def __init__(self, session: Any, settings: Any, waits: Optional[Sequence[float]] = None) -> None:
        """session, settings: for names in S3. Without a session it makes one of its own, should it need one.
        waits: other ones than S3_WAITS."""
        self._session = session
        self._settings = settings
        self._waits = S3_WAITS if waits is None else waits
        self._client = None  # type: Any

    def folder(self, path: str) -> Any:
        """A Folder or an S3Folder."""
        if not is_s3(path):
            return Folder(path)
        require_path(path)
        if self._client is None:
            self._client = make_s3_client(self._session or make_session(self._settings), self._settings)
        return S3Folder(self._client, path, self._waits)

    def journal(self, path: str) -> Any:
        """A JournalFile or JournalObjects."""
        return JournalObjects(self.folder(path)) if is_s3(path) else JournalFile(path)

    def journals(self, path: str) -> List[Any]:
        """What may be journals in a folder."""
        if not is_s3(path):
            return list(map(JournalFile, sorted(glob.glob(os.path.join(glob.escape(path), "*.jsonl")))))
        folder = self.folder(path)
        names = [name for name in folder.names("migration_") if name.endswith("/")]
        return [self.journal(folder.path_of(name)) for name in names]


def journal_path(folder: Any, stem: str) -> str:
    """The name of a journal in a folder."""
    return folder.path_of(stem + ("/" if isinstance(folder, S3Folder) else ".jsonl"))


class Journal:
    """An append-only file of JSON lines, readable by its owner only; or numbered objects in S3, each some lines.

    First line: what was migrated, when and by which version. Then, before anything of an
    asset is written, {"asset": <before image>, "facts": {...}}. Where the asset went on, its version record was
    simply made, unless a later line says before that what else was done to a version record for it:
    {"claim": <a Claim>, "database_id": <of the asset>}. For one record the last such line counts.
    {"untouched": [<databaseId>, <assetId>]} takes an asset's only before image back, for nothing was written for it.
    Last line, where the run came to its end in good order, finished or stopped: {"end": <`counts`>}.
    `sync` puts what was added on the disk, or in S3; others may add meanwhile.
    """

    def __init__(self, file: Any, header: Dict[str, Any]) -> None:
        """file: a JournalFile or JournalObjects."""
        self.path = file.path
        self.remote = file.remote
        self._file = file
        self._lines = collections.deque()  # type: collections.deque
        self._failure = None  # type: Optional[MigrationError]
        self.counts = {"before_images": 0, "claims": 0}
        kind = [("journal", JOURNAL_KIND), ("format", JOURNAL_FORMAT)]  # type: List[Tuple[str, Any]]
        file.begin(to_json(collections.OrderedDict(kind + list(header.items()))) + "\n")

    def add_asset(self, asset: str, facts: Facts, again: bool) -> None:
        """asset: its JSON on one line. again: a before image of it was added already, which this one supersedes."""
        line = '{"asset":' + asset
        if facts != NO_FACTS:
            line += ',"facts":' + to_json({name: True for name, holds in facts._asdict().items() if holds})
        if again:
            line += ',"again":true'
        self._lines.append(line + "}\n")
        self.counts["before_images"] += 1

    def add_claim(self, database_id: str, claim: Claim) -> None:
        """What the asset under this databaseId has done to a version record."""
        self.counts["claims"] += 1
        self._lines.append(to_json({"claim": claim._asdict(), "database_id": database_id}) + "\n")

    def add_untouched(self, key: Key) -> None:
        """Take the only before image of an asset back."""
        self.counts["before_images"] -= 1
        self._lines.append(to_json({"untouched": key[1:]}) + "\n")

    def add_nothing(self) -> None:
        """An empty line, which readers pass over: in S3 it shows that the run goes on."""
        self._lines.append("\n")

    def sync(self) -> None:
        """Returns once everything is saved that was added before the call. Raises MigrationError where it cannot be."""
        if self._failure:
            raise self._failure  # what was added since then would follow a line that is cut off
        lines = "".join(self._lines.popleft() for _ in range(len(self._lines)))
        if lines:
            with self._saving():
                self._file.append(lines)

    def close(self) -> bool:
        """End it. Returns whether its last line says so, and with that, that it is whole."""
        whole = self._failure is None
        self._lines.append(to_json({"end": self.counts}) + "\n")
        try:
            self.sync()
        except MigrationError:
            whole = False
        self._file.end()
        return whole

    def require_kept(self) -> None:
        """Raises MigrationError where the file is gone, once it was ended."""
        if self._failure and not self._file.exists():
            raise self._failure

    def discard(self) -> None:
        """End it without a trace, for one without before images."""
        self._file.discard()

    @contextlib.contextmanager
    def _saving(self):
        fix = "choose another --journal-dir, then run the same command again."
        try:
            yield
        except OSError as error:
            self._failure = self._error(error.strerror, "make room or " + fix)
        except MigrationError as error:
            self._failure = self._error(error.cause, error.fix)
        if self._failure:
            raise self._failure

    def _error(self, cause: str, fix: str) -> MigrationError:
        return MigrationError("The before images cannot be saved in %s: %s." % (self.path, cause.rstrip(".")), fix)


class JournalEntry(NamedTuple):
    """A before image of an asset; or what the asset under this databaseId has done to a version record."""

    asset: Optional[Item]
    facts: Facts
    again: bool
    database_id: Optional[str]
    claim: Optional[Claim]
    size: int  # bytes of its line


def read_journal_header(journal: Any) -> Dict[str, Any]:
    """The first line of a JournalFile or JournalObjects. Raises DamagedJournal for one that is not as it was written,
    SettingsError for another kind of file."""
    path = journal.path
    fix = "give what the migration wrote, backups/migration_<time>.jsonl or s3://BUCKET/PREFIX/migration_<time>/."
    try:
        line = journal.first_line()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError("Journal %s cannot be read: %s." % (path, error.strerror), fix)
    except OSError as error:
        text = "Journal %s, if it is one, cannot be read: %s."
        raise DamagedJournal(path, text % (path, error.strerror), "have it readable. " + IF_NO_JOURNAL)
    cut_off = not line.endswith(b"\n") and b'{"asset":' not in line
    if cut_off and (BEGINNING_OF_JOURNAL.startswith(line) or line.startswith(BEGINNING_OF_JOURNAL)):
        # The first line is on the disk before any before image, and that before anything is written.
        raise JournalNotBegun("Journal %s has no whole first line, so its run has written nothing." % path, fix)
    try:
        header = json.loads(str(line, "utf-8"))
    except (ValueError, RecursionError):
        text = "%s is a damaged journal, or none: its first line cannot be read."
        raise DamagedJournal(path, text % path, "use an undamaged copy of it. " + IF_NO_JOURNAL)
    is_ours = isinstance(header, dict) and (header.get("journal") == JOURNAL_KIND or line.startswith(JOURNAL_LINES))
    if not is_ours:
        raise SettingsError("%s is not a journal of the migration." % path, fix)
    if not is_header(header):
        raise DamagedJournal(path, "Journal %s is damaged: its first line is not as it was written." % path)
    if header.get("format") != JOURNAL_FORMAT:
        raise DamagedJournal(
            path,
            "Journal %s has format %s, this version reads %s." % (path, header.get("format"), JOURNAL_FORMAT),
            "use the version of the tool that wrote it: %s." % header.get("tool_version"),
        )
    return header


def is_header(fields: Dict[str, Any]) -> bool:
    """Whether a journal may begin so."""
    texts = ("started", "asset_bucket_name", *KEY_SCHEMAS)
    return (
        fields.get("journal") == JOURNAL_KIND
        and all(isinstance(fields.get(name), str) for name in texts)
        and all(isinstance(fields.get(name, ""), (str, type(None))) for name in ("account", "region", "endpoint_url"))
        and isinstance(fields.get("opened", 0), (int, float))
        and isinstance(fields.get("format"), int)
        and all(is_path(fields.get(name, "")) for name in ("stem", "report_dir"))
    )


def is_path(value: Any) -> bool:
    """Whether it may be one, or a part of one."""
    return isinstance(value, str) and "\0" not in value


def read_journal_backwards(journal: Any) -> Iterator[JournalEntry]:
    """The entries of a journal, newest first, so that a superseded before image comes last; without those of assets
    for which nothing was written.

    A last line that was cut off is left out; `is_whole` tells of it. Raises DamagedJournal for any other damage, for
    entries that the last line counts and that are not there, and for a second journal in the same file.
    """
    path = journal.path
    end, counts = None, dict.fromkeys(("before_images", "claims"), 0)
    untouched = set()  # type: Set[Tuple[str, ...]]  # databaseId and assetId, until their before images come
    lines = journal.lines_backwards()
    for number, line in enumerate(lines):
        try:
            fields = json.loads(str(line, "utf-8"))
            if "journal" in fields:
                break
            if number == 0 and "end" in fields:
                end = dict(fields["end"])
                continue
            if "untouched" in fields:
                untouched.add(tuple(fields["untouched"]))
                continue
            entry = _journal_entry(fields, len(line))
            if entry.asset is not None:
                key = tuple(entry.asset[name]["S"] for name in KEY_SCHEMAS["assets_table_name"])
                if key in untouched:
                    untouched.remove(key)
                    continue
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            if number > 0:
                raise DamagedJournal(path, "Journal %s is damaged, %d lines before its end." % (path, number))
            continue
        counts["before_images" if entry.claim is None else "claims"] += 1
        yield entry
    if next(lines, None) is not None:
        raise DamagedJournal(
            path,
            "%s holds several journals, one after the other." % path,
            "give each of them as a file of its own. Where you have them, move this one out of their folder.",
        )
    if end not in (None, counts):
        text = "Journal %s holds other than its last line says: %s, not %s."
        raise DamagedJournal(path, text % (path, to_json(counts), to_json(end)))


def require_items(entry: JournalEntry, path: str) -> None:
    """Raises DamagedJournal where what an entry tells of is no item of these tables."""
    items, table = [entry.asset], "assets_table_name"  # type: List[Any], str
    if entry.claim is not None:
        items, table = [entry.claim.now], "asset_versions_table_name"
        items += [entry.claim.was] * (entry.claim.was is not None)
    for item in items:
        key = [item.get(name, {}) for name in KEY_SCHEMAS[table]] if isinstance(item, dict) else [{}]
        if not all(isinstance(value, dict) and "S" in value for value in key) or not all(map(is_value, item.values())):
            text = "Journal %s is damaged: what it says of the item %s is nothing that DynamoDB holds."
            raise DamagedJournal(path, text % (path, to_json(key)))


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")  # in lists and maps also as it was once typed


def is_value(value: Any) -> bool:
    """Whether it is an attribute's value in DynamoDB JSON."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, inner),) = value.items()
    if kind == "S":
        return isinstance(inner, str)
    if kind == "M":
        return isinstance(inner, dict) and all(map(is_value, inner.values()))
    if kind in ("L", "SS", "NS", "BS"):
        is_element = is_value if kind == "L" else lambda element: is_value({kind[0]: element})
        return isinstance(inner, list) and all(map(is_element, inner))
    if kind == "N":
        return isinstance(inner, str) and NUMBER.match(inner) is not None
    return isinstance(inner, {"B": str, "BOOL": bool, "NULL": bool}.get(kind, ()))


def _journal_entry(fields: Dict[str, Any], size: int) -> JournalEntry:
    if (fields.get("asset") is None) is (fields.get("claim") is None):
        raise ValueError("neither an asset nor a claim")
    if fields.get("claim") is not None and not isinstance(fields.get("database_id"), str):
        raise ValueError("a claim for no asset")
    facts = Facts(**fields.get("facts", {}))
    claim = Claim(**fields["claim"]) if fields.get("claim") is not None else None
    return JournalEntry(fields.get("asset"), facts, fields.get("again", False), fields.get("database_id"), claim, size)


def is_whole(journal: Any) -> bool:
    """Whether the last line of a journal says that its run came to its end in good order. Where not, the run was
    interrupted hard, or still goes on, or the file is a part of the journal."""
    try:
        return "end" in json.loads(str(next(journal.lines_backwards(), b""), "utf-8"))
    except (ValueError, TypeError, RecursionError):
        return False


# Made once: json.dumps with separators makes an encoder a call.
to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
to_readable_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


LOCKED_BYTE = 2**62  # on Windows bytes are locked, of a rollback the next one; there are none at that place
USED_BY = ("a migration", "a rollback")


def lock(file: Any, rolling_back: bool = False) -> bool:
    """Lock a journal until it is closed or the process ends, for a migration that writes it or a rollback that takes it
    back. Returns whether that can be; not, where somebody else has it."""
    if locked_by(file):
        return False
    try:
        import fcntl
    except ImportError:
        return _lock_byte(file, LOCKED_BYTE + rolling_back)
    with contextlib.suppress(OSError):  # another was faster; or a network file system that has no locks
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if rolling_back else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    return True


def locked_by(file: Any) -> str:
    """Who has a journal locked: one of USED_BY, "" for nobody. A lock of our own on this file object is lost."""
    try:
        import fcntl
    except ImportError:
        users = [name for number, name in enumerate(USED_BY) if not _lock_byte(file, LOCKED_BYTE + number, False)]
        return users[0] if users else ""
    name = ""
    for mode, holder in ((fcntl.LOCK_EX, USED_BY[1]), (fcntl.LOCK_SH, USED_BY[0])):
        try:
            fcntl.flock(file.fileno(), mode | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            name = holder
        except OSError as error:
            LOG.debug("%s cannot be locked: %s", file.name, error)
            return ""
    with contextlib.suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return name


def _lock_byte(file: Any, byte: int, keep: bool = True) -> bool:
    import msvcrt

    position = file.tell()
    try:
        file.seek(byte)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        if not keep:
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
    except PermissionError:
        return False
    except OSError as error:
        # Some file systems have no locks.
        LOG.debug("%s cannot be locked: %s", file.name, error)
    finally:
        file.seek(position)
    return True


def open_private(path: str, **options: Any) -> Any:
    """A new text file that only its owner may read; its name is on the disk on return, and those of its folders."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    file = os.fdopen(descriptor, "w", errors="backslashreplace", **{"encoding": "utf-8", **options})
    folder, below = os.path.dirname(os.path.abspath(path)), ""
    while hasattr(os, "O_DIRECTORY") and folder != below:
        with contextlib.suppress(PermissionError):  # a folder above that we may not look into is not new
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        folder, below = os.path.dirname(folder), folder
    return file


# --------------------------------------------------------------------------------------
# Pace: how fast which writes go
# --------------------------------------------------------------------------------------

PARTITION_UNITS = 1000.0  # write units a second that one partition takes (AWS: partition limits)
TABLE_UNITS = 4000.0  # that a whole on-demand table takes from the start (AWS: on-demand capacity mode)
FULL_LANES = 4  # partition keys that start at that limit; the next ones start slower
LEAST_START_UNITS = 25.0  # but not slower than this
BURST_SECONDS = 0.1  # of the pace that may be sent at once
LONGEST_PAUSE = 5.0  # seconds that a partition key waits for its next write, however large the last one was
CUT_TO = 0.95  # of what was accepted, after a refusal
EXPLAINED_REFUSALS = 3  # of one write by its partition key; more, while others of that are taken, have another cause
APART_SECONDS = 2.0  # that such a write waits by itself, at most
SUSPECT_FAILURES = 3  # whole requests that failed with a write in them; then it is sent alone


class Pace:
    """A token bucket: `rate` write units a second, `tokens` left to send now. Nothing is sent
    before there are as many as `wanted`."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.tokens = 0.0
        self.wanted = 0.001
        self.filled_at = now

    @property
    def burst(self) -> float:
        """The most tokens that there are to be."""
        return max(1.0, self.wanted, self.rate * BURST_SECONDS)

    def fill(self, now: float) -> None:
        if self.tokens < self.burst:
            self.tokens = min(self.burst, self.tokens + self.rate * (now - self.filled_at))
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

    A write may take more tokens than there are, 400 where a pace of a few units a second is only what is left after
    many cuts. Then the next one is tried after LONGEST_PAUSE: it costs nothing if it is refused.
    """

    def __init__(self, name: str, rate: float, now: float) -> None:
        super().__init__(rate, now)
        self.name = name
        self.queue = collections.deque()  # type: collections.deque
        self.accepted_units = collections.deque()  # type: collections.deque
        self.accepted_in_last_second = 0.0
        self.cut_at = 0.0

    def take(self, units: float) -> None:
        self.tokens = max(self.tokens - units, -self.rate * LONGEST_PAUSE)

    def give_back(self, units: float) -> None:
        self.tokens = min(self.tokens + units, self.burst)

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
        owed = max(self.tokens, -self.rate * LONGEST_PAUSE)
        self.tokens = min(owed, -self.rate * random.uniform(0.0, 2 * BURST_SECONDS))
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
        """Raises MigrationError where DynamoDB has not answered for too long; to throttle is an answer."""
        if reason == THROTTLED:
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = now
        if self.failing_since is not None and now - self.failing_since > PATIENCE_SECONDS:
            raise MigrationError(
                "DynamoDB has not answered for %d minutes: %s." % (PATIENCE_SECONDS // 60, reason),
                "check the network, --endpoint-url and --region, then run the same command again.",
            )
        LOG.debug("not served, to be sent again: %s", reason)
        self.failures += 1
        self.reason = reason
        self.until = max(self.until, now + random.uniform(0.0, min(10.0, 0.05 * 2 ** min(self.failures, 10))))

    def succeeded(self) -> None:
        self.failures = 0
        self.failing_since = None

    def waits(self, now: float) -> bool:
        return now < self.until


class QueuedWrite:
    """A write from when it is asked for until it is answered."""

    __slots__ = (
        *("key", "units", "statement", "droppable", "answer", "lane"),
        *("uncertain", "failing_since", "failures", "refusals", "apart"),
    )

    def __init__(self, key: Key, units: float, statement: Statement, droppable: bool, answer: Any) -> None:
        self.key = key
        self.units = units  # that it takes, about
        self.statement = statement
        self.droppable = droppable  # nothing was written for its asset yet: not begun when the run is stopped
        self.answer = answer  # the future that its coroutine awaits
        self.lane = None  # type: Any
        self.uncertain = False  # it was sent before, and may have been done then
        self.failing_since = 0.0  # when DynamoDB first failed to do it, itself or all of its request; 0.0: it did not
        self.failures = 0  # of whole requests that it was in
        self.refusals = 0  # because of throttling
        self.apart = False  # its last refusal is not explained by its partition key


class Lanes:
    """A lane for each partition key of the assets table, one for the versions table: which may send, and when.

    Each asset has a partition key of its own in the versions table, so that is limited as a whole.
    """

    def __init__(self, versions: str) -> None:
        self.versions = versions
        self.by_key = {}  # type: Dict[Tuple[str, str], Lane]
        # Each lane with writes is in one of these: as far as known it may send, or it has no tokens until then.
        self.ready = collections.OrderedDict()  # type: collections.OrderedDict
        self.later = []  # type: List[Tuple[float, int, Lane]]
        self.numbers = itertools.count()

    def of(self, item: Key, now: float) -> Lane:
        key = (item[0], "" if item[0] == self.versions else item[1])
        if key not in self.by_key:
            # The more partitions, the more writes would be refused until all their limits are found.
            rate = max(LEAST_START_UNITS, PARTITION_UNITS / max(1, len(self.by_key) - FULL_LANES))
            self.by_key[key] = Lane(" ".join(key).strip(), rate if key[1] else TABLE_UNITS, now)
        return self.by_key[key]

    def insert(self, queued: QueuedWrite, at_head: bool) -> None:
        lane = queued.lane
        if not lane.queue:
            self.ready[lane] = None
        (lane.queue.appendleft if at_head else lane.queue.append)(queued)

    def that_may_send(self, most: int, in_flight: set, now: float) -> List[Lane]:
        """So many at most, in turn; those without tokens are put aside until they have some."""
        while self.later and self.later[0][0] <= now:
            self.ready[heapq.heappop(self.later)[2]] = None
        lanes, others = [], []  # type: List[Lane], List[Lane]
        for lane in self.ready:
            lane.fill(now)
            if not lane.queue or lane.tokens <= 0:
                others.append(lane)
            elif lane.queue[0].key not in in_flight:
                lanes.append(lane)
                if len(lanes) == most:
                    break
        for lane in others:
            del self.ready[lane]
            if lane.queue:
                heapq.heappush(self.later, (lane.ready_at(), next(self.numbers), lane))
        return lanes

    def had_their_turn(self, lanes: List[Lane]) -> None:
        for lane in lanes:
            if lane.queue:
                self.ready.move_to_end(lane)
            else:
                del self.ready[lane]

    def remove(self, unwanted: Callable[[QueuedWrite], bool]) -> List[QueuedWrite]:
        removed = []  # type: List[QueuedWrite]
        for lane in {*self.ready, *(lane for _, _, lane in self.later)}:
            removed += filter(unwanted, lane.queue)
            lane.queue = collections.deque(queued for queued in lane.queue if not unwanted(queued))
        return removed

    def next_at(self, in_flight: set) -> float:
        """When one of them may send, even if nothing is answered until then."""
        if any(lane.queue and lane.queue[0].key not in in_flight for lane in self.ready):
            return 0.0
        return self.later[0][0] if self.later else float("inf")

    def forget_idle(self, now: float) -> None:
        """There may be as many partition keys as assets."""
        if len(self.by_key) > 1000:
            self.by_key = {key: lane for key, lane in self.by_key.items() if lane.queue or now - lane.filled_at <= 60}

    def throttled(self, now: float) -> List[str]:
        """The names of those that are being held back."""
        return sorted(lane.name for lane in self.by_key.values() if lane.waits(now))


class WriteQueue:
    """Which writes go next: in full batches, from each lane in turn, as the paces and the ceiling permit."""

    def __init__(self, versions: str, settings: Settings, now: float) -> None:
        self.batch_size = settings.batch_size
        self.ceiling = Ceiling(settings.max_write_units, now) if settings.max_write_units else None
        self.lanes = Lanes(versions)
        self.in_flight = set()  # type: set  # the keys of what was taken and is not answered
        self.count = 0

    def add(self, queued: QueuedWrite, now: float) -> None:
        if queued.lane is None:
            queued.lane = self.lanes.of(queued.key, now)
        self._insert(queued, at_head=False)

    def put_back(self, batch: List[QueuedWrite], taken_nothing: bool) -> None:
        """To the heads of their lanes; with the tokens, where the writes have taken no units."""
        for queued in reversed(batch):
            self.in_flight.discard(queued.key)
            self._insert(queued, at_head=True)
            if taken_nothing:
                queued.lane.give_back(queued.units)
                if self.ceiling:
                    self.ceiling.tokens += queued.units

    def next_batch(self, now: float, may_be_partial: bool) -> List[QueuedWrite]:
        """The next writes to send: from each lane in turn, as its pace and the ceiling permit. Nothing
        where they would not fill a batch, unless it may be partial."""
        if self.count < self.batch_size and not may_be_partial:
            return []
        if self.ceiling:
            self.ceiling.short = False
        batch = []  # type: List[QueuedWrite]
        room = REQUEST_BYTES
        turn = lanes = self.lanes.that_may_send(self.batch_size, self.in_flight, now)
        while turn and len(batch) < self.batch_size and room > 0:
            share = max(1, (self.batch_size - len(batch)) // len(turn))
            again = []  # type: List[Lane]
            for lane in turn:
                taken = self._take(lane, min(share, self.batch_size - len(batch)), room, now)
                batch += taken
                room -= sum(len(queued.statement) for queued in taken)
                if self.ceiling and self.ceiling.short:
                    again = []  # so that small writes do not overtake a large one for ever
                    break
                if len(taken) == share:
                    again.append(lane)
            turn = again
        if batch and len(batch) < self.batch_size and room > 0 and not may_be_partial:
            self.put_back(batch, True)
            return []
        # Whom the ceiling, or the room, has left nothing is first the next time. So records do not run ahead of their
        # assets under a low ceiling, and little is half-way when the run is stopped.
        served = {queued.lane for queued in batch}
        self.lanes.had_their_turn([lane for lane in lanes if lane in served])
        return batch

    def answered(self, batch: List[QueuedWrite], codes: List, units: Optional[float], sent_at: float) -> float:
        """Tell the lanes what was accepted and what throttled, which waits again; correct the ceiling by what
        DynamoDB says that the writes took. Returns the units taken.

        A write that is refused again and again while others of its lane are taken has another cause than their
        partition key, a hot key of an index for example: it is `apart` and not in a lane any more."""
        now = time.monotonic()
        accepted = {}  # type: Dict[Lane, float]
        for queued, code in zip(batch, codes):
            self.in_flight.discard(queued.key)
            if code not in THROTTLE_CODES:
                accepted[queued.lane] = accepted.get(queued.lane, 0.0) + queued.units
        for lane, taken in accepted.items():
            lane.accepted(taken, sent_at, now)
        for queued, code in zip(batch, codes):
            if code in THROTTLE_CODES:
                queued.refusals += 1
                queued.apart = queued.refusals > EXPLAINED_REFUSALS and queued.lane.accepted_in_last_second > 0
                if not queued.apart:
                    queued.lane.throttled(sent_at, now)
                    self._insert(queued, at_head=True)
        actual = sum(accepted.values()) if units is None else units
        if self.ceiling:
            self.ceiling.tokens += sum(queued.units for queued in batch) - actual
        return actual

    def remove(self, unwanted: Callable[[QueuedWrite], bool]) -> List[QueuedWrite]:
        """Take out, for good, what is not to be sent any more."""
        removed = self.lanes.remove(unwanted)
        self.count -= len(removed)
        return removed

    def next_at(self) -> float:
        """When something may be sent that may not be now, even if nothing is answered until then: at once, if it
        waits for company only."""
        if self.ceiling and self.ceiling.short:
            return self.ceiling.ready_at()
        return self.lanes.next_at(self.in_flight)

    def _insert(self, queued: QueuedWrite, at_head: bool) -> None:
        self.lanes.insert(queued, at_head)
        self.count += 1

    def _take(self, lane: Lane, most: int, room: int, now: float) -> List[QueuedWrite]:
        taken = []  # type: List[QueuedWrite]
        while lane.queue and len(taken) < most and lane.tokens > 0 and room > 0:
            queued = lane.queue[0]
            size = len(queued.statement)
            if queued.key in self.in_flight or (room < size and room < REQUEST_BYTES):
                break
            if self.ceiling and not self.ceiling.pay(queued.units, now):
                break
            lane.queue.popleft()
            lane.take(queued.units)
            self.count -= 1
            self.in_flight.add(queued.key)
            room -= size
            taken.append(queued)
        return taken


# --------------------------------------------------------------------------------------
# Flow: reads and conditional writes side by side
# --------------------------------------------------------------------------------------

TICK_SECONDS = 0.5
GATHER_SECONDS = 0.02  # how long a batch that is not full waits for company


class Stopped(Exception):
    """The run is stopped, so what was asked for is not begun. unsent: what was to be written was never sent."""

    def __init__(self, unsent: bool = False) -> None:
        super().__init__()
        self.unsent = unsent


class Refusal(NamedTuple):
    """Why DynamoDB refused a write. uncertain: it was sent before, and may have been done then."""

    code: str
    message: str
    uncertain: bool


class Alarm:
    """Calls a function from the event loop: soon, once however often that is asked for, and at one later time."""

    def __init__(self, loop: Any, function: Callable[[], None]) -> None:
        self._loop = loop
        self._function = function
        self._handle = None  # type: Any
        self._soon = False

    def soon(self) -> None:
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._ring)

    def at(self, when: float) -> None:
        if self._handle:
            self._handle.cancel()
        self._handle = self._loop.call_at(when, self.soon) if when < float("inf") else None

    def _ring(self) -> None:
        self._soon = False
        self._function()


class Requests:
    """Requests under way in threads of their own: a coroutine each, at most so many."""

    def __init__(self, loop: Any, most: int, next_ones: Callable[[], None]) -> None:
        """next_ones: called where there may be room for more."""
        self.loop = loop
        self.most = most
        self.alarm = Alarm(loop, next_ones)
        # Reads and writes apart, because each thread that has read pages keeps memory of their size.
        self.threads = ThreadPoolExecutor(most)
        self.backoff = Backoff()
        self._under_way = set()  # type: set

    def room(self, now: float) -> bool:
        return len(self._under_way) < self.most and not self.backoff.waits(now)

    def begin(self, coroutine: Any) -> None:
        task = self.loop.create_task(coroutine)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def in_thread(self, function: Callable, *arguments: Any) -> Any:
        """A future with what a function returns."""
        return self.loop.run_in_executor(self.threads, without_frames, function, *arguments)

    def _ended(self, task: Any) -> None:
        self._under_way.discard(task)
        self.alarm.soon()
        task.result()  # an unexpected error is not to pass unseen


def without_frames(function: Callable, *arguments: Any) -> Any:
    """What a function returns. The frames of a TryAgain and of its causes hold the request, and those of urllib3
    the error too: a cycle that would keep a megabyte until the garbage collector finds it."""
    try:
        return function(*arguments)
    except TryAgain as error:
        cause = error  # type: Any
        while cause is not None:
            cause.__traceback__ = None
            cause = cause.__context__
        raise error


class Writer:
    """Sends writes in batches, again and again, until each is done or refused."""

    def __init__(self, database: Database, settings: Settings, loop: Any) -> None:
        self.database = database
        self.loop = loop
        self.requests = Requests(loop, settings.workers, self._send_next)
        self.queue = WriteQueue(database.versions, settings, time.monotonic())
        self.sent_at = self.served_at = time.monotonic()
        self.stopping = self.abandoning = False
        self.done = self.throttles = 0
        self.units = 0.0
        self.units_reported = True

    def write(self, change: Change, droppable: bool = False) -> Any:
        """A future: None once the change is done, or the Refusal. Raises Stopped where it is not sent any more.
        droppable: nothing was written for its asset yet, so that it is not begun when the run is stopped."""
        statement = change.statement or self.database.statement_of(change)
        queued = QueuedWrite(
            change.key, self.database.units_of(change), statement, droppable, self.loop.create_future()
        )
        self._add(queued)
        return queued.answer

    def stop(self, abandoning: bool) -> None:
        """Drop what would begin something new; or everything: what is half-way, the next run finishes."""
        self.stopping = True
        self.abandoning = self.abandoning or abandoning
        for queued in self.queue.remove(self._is_unwanted):
            queued.answer.set_exception(Stopped(not queued.uncertain))

    def _is_unwanted(self, queued: QueuedWrite) -> bool:
        return self.abandoning or (self.stopping and queued.droppable and not queued.uncertain)

    def _add(self, queued: QueuedWrite) -> None:
        if self._is_unwanted(queued):
            queued.answer.set_exception(Stopped(not queued.uncertain))
            return
        self.queue.add(queued, time.monotonic())
        self.requests.alarm.soon()

    def _send_next(self) -> None:
        now = time.monotonic()
        while self.requests.room(now):
            batch = self.queue.next_batch(now, now - self.sent_at >= GATHER_SECONDS)
            if not batch:
                break
            self.sent_at = now
            for part in without_suspects(batch):
                answer = self.requests.in_thread(self.database.execute, [queued.statement for queued in part])
                self.requests.begin(self._send(part, answer, now))
        # While all requests are under way, the next answer rings.
        if self.requests.backoff.waits(now):
            self.requests.alarm.at(self.requests.backoff.until)
        elif self.requests.room(now):
            self.requests.alarm.at(max(self.queue.next_at(), self.sent_at + GATHER_SECONDS))

    async def _send(self, batch: List[QueuedWrite], answer: Any, sent_at: float) -> None:
        try:
            answers, units = await answer
            self.served_at = time.monotonic()
            self.requests.backoff.succeeded()
            self.units += self.queue.answered(batch, [code for code, _ in answers], units, sent_at)
            # Where nothing succeeded there is nothing to report.
            unreported = units is None and any(code is None for code, _ in answers)
            self.units_reported = self.units_reported and not unreported
            if LOG.isEnabledFor(logging.DEBUG):
                log_writes(batch, [code for code, _ in answers], units)
            for queued, (code, message) in zip(batch, answers):
                self._settle(queued, code, message)
        except TryAgain as error:
            self._not_served(batch, str(error), sent_at)
        except Exception as error:
            for queued in batch:
                if not queued.answer.done():
                    queued.answer.set_exception(error)
        if self.stopping:
            self.stop(self.abandoning)  # some may wait again

    def _not_served(self, batch: List[QueuedWrite], reason: str, sent_at: float) -> None:
        """The whole request failed: nothing was written where it was throttled, else nobody knows."""
        throttled = reason == THROTTLED
        self.throttles += throttled
        for queued in batch:
            queued.uncertain = queued.uncertain or not throttled
            queued.failures += not throttled
        if not throttled and self._is_its_own_fault(batch):
            self.queue.answered(batch, ["InternalServerError"], 0.0, sent_at)
            self._settle(batch[0], "InternalServerError", reason)
            return
        self.queue.put_back(batch, throttled)
        if throttled:
            for lane in {queued.lane for queued in batch}:
                lane.throttled(sent_at, time.monotonic())
        try:
            self.requests.backoff.failed(reason, time.monotonic())
        except MigrationError as error:
            for queued in self.queue.remove(lambda queued: True):
                queued.answer.set_exception(error)

    def _settle(self, queued: QueuedWrite, code: Optional[str], message: str) -> None:
        if code in THROTTLE_CODES:
            self.throttles += 1
            if queued.apart:
                wait = min(APART_SECONDS, 0.05 * 2 ** min(queued.refusals, 10))
                self.loop.call_later(random.uniform(wait / 2, wait), self._add, queued)
        elif code in PASSING_CODES and self._may_pass(queued):
            queued.uncertain = True
            self.loop.call_later(random.uniform(0.05, 0.5), self._add, queued)
        elif code is not None and code.startswith(("AccessDenied", "ResourceNotFound")):
            queued.answer.set_exception(fatal_error(code, message, "write to table %s" % queued.key[0]))
        else:
            self.done += code is None
            queued.answer.set_result(Refusal(code, message, queued.uncertain) if code else None)

    def _is_its_own_fault(self, batch: List[QueuedWrite]) -> bool:
        """Whether a request failed because of its one write: for long, and others were served meanwhile."""
        may_pass = [self._may_pass(queued) for queued in batch]
        return may_pass == [False] and self.served_at > batch[0].failing_since

    @staticmethod
    def _may_pass(queued: QueuedWrite) -> bool:
        """Whether a write that DynamoDB failed to do is to be sent again: not for ever."""
        now = time.monotonic()
        queued.failing_since = queued.failing_since or now
        return now - queued.failing_since <= PATIENCE_SECONDS


def log_writes(batch: List[QueuedWrite], codes: List[Optional[str]], units: Optional[float]) -> None:
    """What came of a request, for --log-level DEBUG; of the assets only keys."""
    counts = collections.Counter(queued.key[0] for queued in batch)
    text = ", ".join("%d writes to %s" % (count, table) for table, count in sorted(counts.items()))
    LOG.debug("%s: %s units", text, "unknown" if units is None else "%g" % units)
    for queued, code in zip(batch, codes):
        if code:
            LOG.debug("refused: %s: %s: %s", queued.key[0], name_of(*queued.key[1:]), code)


def without_suspects(batch: List[QueuedWrite]) -> List[List[QueuedWrite]]:
    """A batch in parts: alone each write with which whole requests failed again and again, a very large one perhaps."""
    others = [queued for queued in batch if queued.failures < SUSPECT_FAILURES]
    suspects = [[queued] for queued in batch if queued.failures >= SUSPECT_FAILURES]
    return ([others] if others else []) + suspects


class Lookup:
    """Items wanted by key; `answer` is a future of a dict of those that exist."""

    def __init__(self, keys: Iterable[Key], answer: Any) -> None:
        self.missing = {key for key in keys if can_exist(key)}
        self.found = {}  # type: Dict[Key, Item]
        self.answer = answer


class PageRequest(NamedTuple):
    """A page wanted; `arguments` of Database.read_page, `answer` is a future of what that returns."""

    arguments: Tuple
    answer: Any


class Reader:
    """Reads items by key, many coroutines' at once, and pages; again and again, until DynamoDB serves it."""

    def __init__(self, database: Database, loop: Any, max_units: Optional[int] = None) -> None:
        """max_units: read units a second."""
        self.database = database
        self.loop = loop
        self.requests = Requests(loop, READERS, self._send_next)
        self.ceiling = Ceiling(max_units, time.monotonic()) if max_units else None
        self.likely_units = 1.0  # of the next request: what the last one took
        self.lookup_items = LOOKUP_ASSETS  # whole items wanted by one request
        # The lookups of each key that is wanted: of whole items, and of those wanted only as far as they exist.
        self.wanted = {False: collections.OrderedDict(), True: collections.OrderedDict()}  # type: Dict[bool, Any]
        self.pages = collections.deque()  # type: collections.deque
        self.stopping = self.abandoning = False
        self.units = 0.0

    def get(self, keys: Iterable[Key], keys_only: bool = False) -> Any:
        """A future: the items under these keys that exist, as a dict."""
        lookup = Lookup(keys, self.loop.create_future())
        if self.abandoning:
            lookup.answer.set_exception(Stopped())
        elif not lookup.missing:
            lookup.answer.set_result({})
        else:
            for key in lookup.missing:
                self.wanted[keys_only].setdefault(key, []).append(lookup)
            self.requests.alarm.soon()
        return lookup.answer

    def read_page(self, *arguments: Any) -> Any:
        """A future with the answer of Database.read_page."""
        page = PageRequest(arguments, self.loop.create_future())
        if self.stopping:
            page.answer.set_exception(Stopped())
        else:
            self.pages.append(page)
            self.requests.alarm.soon()
        return page.answer

    def stop(self, abandoning: bool) -> None:
        """Read no more pages; where everything is abandoned, nothing at all."""
        self.stopping = True
        self.abandoning = self.abandoning or abandoning
        for page in self.pages:
            page.answer.set_exception(Stopped())
        self.pages.clear()
        if abandoning:
            for waiting in self.wanted.values():
                self._fail(waiting, Stopped())
                waiting.clear()

    def _send_next(self) -> None:
        """Items before pages: what is under way is to be finished."""
        now = time.monotonic()
        while self.requests.room(now) and (self.pages or any(self.wanted.values())):
            if self.ceiling and not self.ceiling.pay(self.likely_units, now):
                self.requests.alarm.at(self.ceiling.ready_at())
                break
            if any(self.wanted.values()):
                self.requests.begin(self._look_up(self.likely_units, *self._next_keys()))
            else:
                self.requests.begin(self._read(self.likely_units, self.pages.popleft()))
        if self.requests.backoff.waits(now):
            self.requests.alarm.at(self.requests.backoff.until)

    def _next_keys(self) -> Tuple[collections.OrderedDict, bool]:
        keys_only = bool(self.wanted[True])
        waiting = self.wanted[keys_only]
        most = LOOKUP_KEYS if keys_only else self.lookup_items
        return collections.OrderedDict(waiting.popitem(last=False) for _ in range(min(most, len(waiting)))), keys_only

    def _took(self, units: float, paid: float) -> None:
        self.units += units
        self.likely_units = max(1.0, units)
        if self.ceiling:
            self.ceiling.tokens += paid - units

    async def _look_up(self, paid: float, batch: Dict[Key, List[Lookup]], keys_only: bool) -> None:
        try:
            found, unread, units = await self._served(False, self.database.get_items, list(batch), keys_only)
            if found or not unread:
                self.requests.backoff.succeeded()
            if unread:
                self.requests.backoff.failed(THROTTLED, time.monotonic())
            self._took(units, paid)
            LOG.debug("looked up %d items, %d found, %d not read: %g units", len(batch), len(found), len(unread), units)
            again = {key: batch.pop(key) for key in unread}
        except Exception as error:
            self._fail(batch, error)
            return
        if units and not keys_only:
            self.lookup_items = max(1, min(LOOKUP_KEYS, int(LOOKUP_UNITS * len(batch) / units)))
        for key, lookups in batch.items():
            for lookup in lookups:
                lookup.missing.discard(key)
                if key in found:
                    lookup.found[key] = found[key]
                if not lookup.missing and not lookup.answer.done():
                    lookup.answer.set_result(lookup.found)
        if self.abandoning:
            self._fail(again, Stopped())
        else:
            for key, lookups in again.items():
                self.wanted[keys_only].setdefault(key, []).extend(lookups)

    async def _read(self, paid: float, page: PageRequest) -> None:
        try:
            answer = await self._served(True, self.database.read_page, *page.arguments)
        except Exception as error:
            page.answer.set_exception(error)
            return
        self.requests.backoff.succeeded()
        self._took(answer.units, paid)
        LOG.debug("read %s: %d items, %g units", page.arguments[0], len(answer.items), answer.units)
        page.answer.set_result(answer)

    async def _served(self, droppable: bool, function: Callable, *arguments: Any) -> Any:
        """What a request returns; it is sent again until it is served. Raises Stopped where it is not sent any more.
        droppable: it is not sent again when the run is stopped."""
        while True:
            try:
                return await self.requests.in_thread(function, *arguments)
            except TryAgain as error:
                self.requests.backoff.failed(str(error), time.monotonic())
            while self.requests.backoff.waits(time.monotonic()):
                if self.abandoning or (droppable and self.stopping):
                    raise Stopped()
                await asyncio.sleep(min(TICK_SECONDS, self.requests.backoff.until - time.monotonic()))

    def _fail(self, batch: Dict[Key, List[Lookup]], error: BaseException) -> None:
        for lookup in itertools.chain.from_iterable(batch.values()):
            if not lookup.answer.done():
                lookup.answer.set_exception(error)


class Tables:
    """The two tables as a coroutine sees them."""

    def __init__(self, database: Database, reader: Reader, writer: Writer) -> None:
        self.database = database
        self.get = reader.get
        self.write = writer.write

    def prepared(self, change: Change) -> Change:
        """A change ready to be sent, which needs little memory while it waits. May be called in any thread."""
        return Change(change.kind, change.key, change.size, statement=self.database.statement_of(change))


class UnitCounts:
    """The write units that writes would take: by table, and of the assets table by databaseId."""

    def __init__(self, assets: str, versions: str) -> None:
        self.assets = assets
        self.by_table = collections.OrderedDict([(assets, 0.0), (versions, 0.0)])
        self.by_database = collections.Counter()  # type: Any

    def add(self, key: Key, units: float) -> None:
        self.by_table[key[0]] += units
        if key[0] == self.assets:
            self.add_databases({key[1]: units})

    def add_databases(self, units: Mapping[str, float]) -> None:
        self.by_database.update(units)
        if len(self.by_database) > 2000:  # there may be as many as assets; the large ones count
            self.by_database = collections.Counter(dict(self.by_database.most_common(1000)))


class DryRunTables:
    """The tables as they would be: reads are real, writes are judged by the same conditions and then pretended.

    What was pretended is kept as changes, in a temporary file, and done again to what is read.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.units = UnitCounts(reader.database.assets, reader.database.versions)
        self.pretended = temporary_database("CREATE TABLE pretended (key TEXT PRIMARY KEY, changes TEXT) WITHOUT ROWID")

    def prepared(self, change: Change) -> Change:
        return change

    async def get(self, keys: Iterable[Key], keys_only: bool = False) -> Dict[Key, Item]:
        keys = list(keys)
        found = await self.reader.get(keys, keys_only)
        items = {}
        for key in keys:
            item = found.get(key)
            for change in self._changes(key):
                item = changed_item(change, item)
            if item is not None:
                items[key] = item
        return items

    async def write(self, change: Change, droppable: bool = False) -> Optional[Refusal]:
        earlier = self._changes(change.key)
        item = change.was
        if item is None or earlier:
            item = (await self.get([change.key], keys_only=change.kind == "INSERT")).get(change.key)
            earlier = self._changes(change.key)
        code = refusal_code(change, item)
        if code:
            return Refusal(code, "DynamoDB would refuse it.", False)
        row = (to_json(change.key), to_json(earlier + [change._replace(expected={}, was=None)]))
        self.pretended.execute("INSERT OR REPLACE INTO pretended VALUES (?, ?)", row)
        self.units.add(change.key, self.reader.database.units_of(change))
        return None

    def _changes(self, key: Key) -> List[Change]:
        query = "SELECT changes FROM pretended WHERE key = ?"
        row = self.pretended.execute(query, (to_json(key),)).fetchone()
        return [Change(*fields) for fields in json.loads(row[0])] if row else []


def temporary_database(create: str) -> sqlite3.Connection:
    """An SQLite database with one table, in a temporary file that is gone when it is closed:
    what may grow with the tables does not stay in memory. One thread at a time may use it."""
    database = sqlite3.connect("", check_same_thread=False)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute(create)
    return database


class GroupCommit:
    """Saves in a journal: on the disk or in S3 when a coroutine returns, by one write for all that wait then, one such
    write after the other."""

    def __init__(self, journal: Journal, loop: Any) -> None:
        self._journal = journal
        self._loop = loop
        self._thread = ThreadPoolExecutor(1)
        self._waiting = None  # type: Any
        self._task = None  # type: Any
        self._grew = False
        if journal.remote:
            self._show_life()

    def _show_life(self) -> None:
        """Others see only by its growth that the run goes on, and writes that are held back may take it hours after the
        last before image. Nothing else is saved then, so that it does not matter that the loop waits for it."""
        self._loop.call_later(SIGN_OF_LIFE_SECONDS, self._show_life)
        if self._journal.counts["before_images"] and not self._grew and not self._task:
            self._journal.add_nothing()
            self._journal.sync()
        self._grew = False

    async def save_asset(self, asset: str, facts: Facts, again: bool) -> None:
        self._journal.add_asset(asset, facts, again)
        await self._synced()

    async def save_claim(self, database_id: str, claim: Claim) -> None:
        self._journal.add_claim(database_id, claim)
        await self._synced()

    def note_untouched(self, key: Key) -> None:
        """With what is saved next. Where that is never, the before image stays, which does no harm."""
        self._journal.add_untouched(key)

    def _synced(self) -> Any:
        if self._waiting is None:
            self._waiting = self._loop.create_future()
            self._task = self._task or self._loop.create_task(self._sync())
        return self._waiting

    async def _sync(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, None
            self._grew = True
            try:
                if self._journal.remote:
                    await self._loop.run_in_executor(self._thread, self._journal.sync)
                else:  # a thread would take longer than the disk
                    self._journal.sync()
            except Exception as error:
                waiting.set_exception(error)
            else:
                waiting.set_result(None)
        self._task = None


class NothingSaved:
    """In the place of GroupCommit in a dry run: counts the bytes that a journal would take."""

    size = 0

    async def save_asset(self, asset: str, facts: Facts, again: bool) -> None:
        self.size += len('{"asset":}\n') + len(asset)

    async def save_claim(self, database_id: str, claim: Claim) -> None:
        pass

    def note_untouched(self, key: Key) -> None:
        pass


@contextlib.contextmanager
def noting_untouched(journal: Any, key: Key, nothing_written: bool):
    """Where an asset's way ends in here, its journal says that nothing was written for it, if nothing was before."""
    try:
        yield
    except (AssetFails, Stopped) as end:
        if nothing_written and getattr(end, "unsent", True):
            journal.note_untouched(key)
        raise


class Turns:
    """Lets the coroutines of one assetId, which may share version records, go one after the other, in order."""

    def __init__(self) -> None:
        self._locks = weakref.WeakValueDictionary()  # type: weakref.WeakValueDictionary

    def of(self, asset_id: str) -> asyncio.Lock:
        return self._locks.setdefault(asset_id, asyncio.Lock())


class Segment:
    """A part of a table and how far it has been read; `pending` of its items are under way."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.request = request
        self.finished = False
        self.pending = 0


class Page(NamedTuple):
    """Items that were read together; size: their bytes, about."""

    items: List[Any]
    size: int
    segment: Segment


def query_of(partition_key: str, value: str) -> Dict[str, Any]:
    """The request for the items of one partition key, named and given."""
    return {
        "KeyConditionExpression": "%s = :value" % partition_key,
        "ExpressionAttributeValues": {":value": {"S": value}},
    }


def query_of_asset(database_id: str, asset_id: str) -> Dict[str, Any]:
    return {
        "KeyConditionExpression": "databaseId = :database AND assetId = :asset",
        "ExpressionAttributeValues": {":database": {"S": database_id}, ":asset": {"S": asset_id}},
    }


def segments_of_table(item_count: int, most: int = SEGMENTS) -> List[Segment]:
    """The segments of a parallel scan, `most` at most. item_count: of the table, about."""
    total = min(most, 1 + item_count // SEGMENT_ITEMS)
    return [Segment({"Segment": number, "TotalSegments": total}) for number in range(total)]


def segments_of_assets(settings: Settings, item_count: int, most: int = SEGMENTS) -> List[Segment]:
    """What is to be read of the assets table: named partition keys, or everything; with a limit in table order."""
    if settings.asset_id is not None:
        return [Segment(query_of_asset(settings.database_id[0], settings.asset_id))]
    if settings.database_id:
        return [Segment(query_of("databaseId", name)) for name in settings.database_id]
    return [Segment({})] if settings.limit is not None else segments_of_table(item_count, most)


async def table_pages(
    reader: Reader,
    table: str,
    segments: Iterable[Segment],
    limit: Optional[int] = None,
    prepare: Callable[[Item, str], Any] = item_as_it_is,
):
    """Pages of segments of a table, several read at a time, each one only when it is asked for.

    The next page is that of the segment with the fewest items under way, so that batches mix partition keys and a
    throttled one holds up no other. With a limit, one segment after the other, and exactly so many items.
    prepare: what to make of each item, in the thread that reads it (`Database.read_page`).
    """
    segments = iter(segments)
    left = limit
    idle = []  # type: List[Segment]
    reading = {}  # type: Dict[Any, Segment]
    try:
        while True:
            most_open = SEGMENTS if limit is None else 1
            idle += itertools.islice(segments, most_open - len(idle) - len(reading))
            page_items = max(LANE_ITEMS, PAGE_ITEMS // max(1, len(idle) + len(reading)))
            while idle and len(reading) < READERS and left != 0:
                segment = min(idle, key=lambda segment: segment.pending)
                idle.remove(segment)
                request = {**segment.request, "Limit": page_items if left is None else min(PAGE_ITEMS, left)}
                reading[reader.read_page(table, request, prepare)] = segment
            if not reading:
                return
            done, _ = await asyncio.wait(list(reading), return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                segment = reading.pop(future)
                answer = future.result()
                segment.request["ExclusiveStartKey"] = answer.next_key
                segment.finished = answer.next_key is None
                idle += [] if segment.finished else [segment]
                left = None if left is None else left - len(answer.items)
                yield Page(answer.items, answer.size, segment)
    finally:
        await asyncio.gather(*reading, return_exceptions=True)


class Run:
    """Awaits one coroutine for each item of pages: so many at a time as keep the writes busy, and so many bytes.

    The first error ends it, and so does `stop`: nothing new is begun, what is under way comes to its end.
    `stopping`: either has come; `stopped`: and something was left undone.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._unexpected)
        self.reader = Reader(database, self.loop, settings.max_read_units)
        self.writer = Writer(database, settings, self.loop)
        self.tables = Tables(database, self.reader, self.writer)  # type: Any
        if settings.dry_run:
            self.tables = DryRunTables(self.reader)
        self.least_items = 4 * settings.workers * settings.batch_size
        self.stopping = False
        self.stopped_by = ""  # the name of a signal
        self.stopped = False
        self.error = None  # type: Optional[BaseException]
        self._tasks = set()  # type: set
        self._held_bytes = 0.0
        self._room_made = self.loop.create_future()  # done when there is room for another page

    def execute(self, pages: Any, do: Callable[[Any], Any], tick: Callable[["Run"], None]) -> None:
        """Await do(item) for each item of the pages, an asynchronous generator; call tick(self) twice a second.
        Raises what made it end early."""
        try:
            self._tick(tick)
            self.loop.run_until_complete(self._follow(pages, do))
        finally:
            self.close()
        if self.error:
            raise self.error

    def close(self) -> None:
        """Give back threads and loop; `execute` does it too."""
        self.reader.requests.threads.shutdown()
        self.writer.requests.threads.shutdown()
        self.loop.close()
        asyncio.set_event_loop(None)

    def stop(self) -> None:
        """Begin nothing new. May be called from a signal handler and from another thread."""
        self.stopping = True
        with contextlib.suppress(RuntimeError):  # it has just ended
            self.loop.call_soon_threadsafe(self._stop)

    def hold(self, size: float) -> None:
        """So many bytes more are in memory; negative: not any more. No page is read while there are too many."""
        self._held_bytes += size
        if not self._room_made.done() and not self._is_full():
            self._room_made.set_result(None)

    def waiting_for(self) -> str:
        """Why it is slow at the moment, in words; "" when it is not."""
        now = time.monotonic()
        backoffs = (self.writer.requests.backoff, self.reader.requests.backoff)
        reasons = [backoff.reason for backoff in backoffs if backoff.waits(now)]
        throttled = self.writer.queue.lanes.throttled(now)
        if throttled:
            more = " and %d more" % (len(throttled) - 3) if len(throttled) > 3 else ""
            reasons.append("throttled: %s%s" % (", ".join(throttled[:3]), more))
        ceiling = self.writer.queue.ceiling
        if ceiling and ceiling.short and self.writer.queue.count:
            reasons.append("held at %d write units/s" % ceiling.rate)
        ceiling = self.reader.ceiling
        if ceiling and ceiling.short and (self.reader.pages or any(self.reader.wanted.values())):
            reasons.append("held at %d read units/s" % ceiling.rate)
        return "; ".join(reasons)

    @property
    def write_units(self) -> float:
        return self.writer.units

    @property
    def under_way(self) -> int:
        """How many items are begun and not at their end."""
        return len(self._tasks)

    async def _follow(self, pages: Any, do: Callable[[Any], Any]) -> None:
        try:
            async for page in pages:
                if self.stopping:
                    self.stopped = True
                    break
                self._begin(page, do)
                while self._is_full() and not self.stopping:
                    self._room_made = self.loop.create_future()
                    await self._room_made
        except Stopped:
            self.stopped = True
        except Exception as error:
            self._fail(error)
        finally:
            await pages.aclose()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _begin(self, page: Page, do: Callable[[Any], Any]) -> None:
        if not page.items:
            return
        page.segment.pending += len(page.items)
        self._held_bytes += page.size
        ended = functools.partial(self._ended, page)
        for item in page.items:
            task = self.loop.create_task(do(item))
            self._tasks.add(task)
            task.add_done_callback(ended)

    def _ended(self, page: Page, task: Any) -> None:
        self._tasks.discard(task)
        page.segment.pending -= 1
        self.hold(-page.size / len(page.items))
        error = task.exception()
        if isinstance(error, Stopped):
            self.stopped = True
        elif error is not None:
            self._fail(error)

    def _is_full(self) -> bool:
        """Whether enough is under way to keep all lanes busy, or as much as the memory is to hold."""
        most = max(self.least_items, LANE_ITEMS * len(self.writer.queue.lanes.by_key))
        return len(self._tasks) >= most or self._held_bytes >= PENDING_BYTES

    def _fail(self, error: BaseException) -> None:
        """Stop because of an error; what is half-way, the next run finishes."""
        self.error = self.error or error
        self.stopping = True
        self._stop()

    def _stop(self) -> None:
        self.reader.stop(abandoning=self.error is not None)
        self.writer.stop(abandoning=self.error is not None)
        if not self._room_made.done():
            self._room_made.set_result(None)

    def _unexpected(self, loop: Any, context: Dict[str, Any]) -> None:
        """An error in a callback, which no coroutine sees."""
        self._fail(context.get("exception") or RuntimeError(context["message"]))

    def _tick(self, tick: Callable[["Run"], None]) -> None:
        """It also wakes the loop, so that a signal is heard on every platform."""
        self.loop.call_later(TICK_SECONDS, self._tick, tick)
        self.writer.queue.lanes.forget_idle(time.monotonic())
        tick(self)


# --------------------------------------------------------------------------------------
# Assets as they are read and planned, and outcomes
# --------------------------------------------------------------------------------------

OUTCOMES = ("migrated", "already_migrated", "failed", "vanished", "not_finished")
Outcome = Tuple[str, Tuple[Finding, ...]]  # its name, and why
NOT_FINISHED = (
    "not_finished",
    (Finding("not_finished", "", "The run was stopped before its end; the next one finishes it."),),
)  # type: Outcome


class Tally:
    """Counts; each asset scanned is in exactly one outcome, and all but success is in the report."""

    def __init__(self, report: Any) -> None:
        self.report = report
        self.scanned = 0
        self.outcomes = collections.Counter()  # type: collections.Counter
        self.codes = collections.Counter()  # type: collections.Counter
        self.first_migrated = []  # type: List[Key]
        self.version_records = 0
        self.assets = 0

    @property
    def finished(self) -> int:
        return sum(self.outcomes.values()) - self.outcomes["not_finished"]

    async def outcome_of(self, key: Key, way: Any) -> None:
        """Await an asset's way, and count its end, whatever that is."""
        outcome, findings = NOT_FINISHED
        try:
            outcome, findings = await way
        except AssetFails as problem:
            outcome, findings = "failed", (problem.finding,)
        finally:
            self.count(key, outcome, findings)

    def count(self, key: Key, outcome: str, findings: Tuple[Finding, ...]) -> None:
        self.outcomes[outcome] += 1
        for finding in findings:
            self.codes[finding.code] += 1
            self.report.add(key[1], key[2], outcome, finding)
        if outcome == "migrated" and len(self.first_migrated) < SHOWN_ASSETS:
            self.first_migrated.append(key)
        if outcome == "failed":
            beyond = self.outcomes["failed"] > SHOWN_FAILURES  # the log file has them all
            told = (self.called(outcome), name_of(*key[1:]), findings[0].message)
            LOG.error("%s: %s: %s", *told, extra={"announced": beyond})

    def called(self, outcome: str) -> str:
        """An outcome as the report calls it, which may be that of a dry run, in words."""
        return self.report.names.get(outcome, outcome).replace("_", " ")


class ReadAsset(NamedTuple):
    """An asset as it was read and, unless it has questions, what is planned for it, ready to be sent. With questions
    its outcome is "" until `Planner.plan_with` has the answers.

    Many are under way at the same time, so of the asset only its text is kept, and of the plan what decides its way.
    """

    key: Key
    text: str  # the asset's JSON, on one line
    questions: Dict[str, Key]  # facts that must be looked up before it can be planned: whether these items exist
    facts: Facts = NO_FACTS
    outcome: str = ""
    findings: Tuple[Finding, ...] = ()
    record: Any = None  # the version record, None where none is to be written
    insertion: Any = None  # the write of the version record
    change: Any = None  # the write of the asset


class Planner:
    """Plans assets, and has their writes ready to be sent.

    It does so as they are read, and in the thread that reads them: it takes half the time while an asset is in the
    processor's cache (benchmarks/README.md).
    """

    def __init__(
        self, database: Database, prepared: Callable[[Change], Change], settings: Settings, started: str
    ) -> None:
        """started: when the run did, as ISO 8601 UTC."""
        self.database = database
        self.prepared = prepared
        self.bucket = settings.asset_bucket_name
        self.started = started
        self.facts = Facts(repair=settings.repair)

    def plan(self, item: Item, text: str) -> ReadAsset:
        """item: an asset as it was read; text: its JSON on one line."""
        key = self.database.key_of(self.database.assets, item)
        questions = {}
        if is_archived(item):
            questions["live_twin"] = twin_key(key)
        if "currentVersion" in item and text_of(item.get("currentVersionId")):
            questions["current_record"] = (self.database.versions, key[2], item["currentVersionId"]["S"])
        return ReadAsset(key, text, questions) if questions else self._planned(key, item, text, self.facts)

    def plan_with(self, asset: ReadAsset, answers: Dict[str, bool]) -> ReadAsset:
        """An asset that had questions, planned."""
        facts = self.facts._replace(**answers)
        return self._planned(asset.key, json.loads(asset.text), asset.text, facts)

    def whole_plan(self, asset: ReadAsset) -> Plan:
        return plan_asset(json.loads(asset.text), self.bucket, self.started, asset.facts)

    def _planned(self, key: Key, item: Item, text: str, facts: Facts) -> ReadAsset:
        plan = plan_asset(item, self.bucket, self.started, facts)
        insertion = change = None
        if plan.record:
            record_key = self.database.record_key(plan.record)
            insertion = self.prepared(Change("INSERT", record_key, record_size(plan.record), plan.record))
        if plan.outcome == "migrated":
            how = Change("UPDATE", key, len(text), plan.set_attributes, plan.remove_attributes, plan.expected, item)
            change = self.prepared(how)
        return ReadAsset(key, text, {}, facts, plan.outcome, plan.findings, plan.record, insertion, change)


# --------------------------------------------------------------------------------------
# Version records: whose they are
# --------------------------------------------------------------------------------------

# The asset versions table does not hold the databaseId, so assets of several databases, and live and archived ones,
# share its records. The rule (spec.md section 3, guarantee 4): a version record is removed or replaced only by what is
# known to have made it, only while it is as that made it, and only while no other asset needs it. An asset needs the
# record of its currentVersionId (`needs_record`). In doubt the record stays, and the report says so.
#
# What was done to a record for an asset is a Claim; the journal keeps it where the record was not simply made. It is
# taken back by the migration when the asset does not come to its end, and by the rollback.
#
# Two runs at once do not see what the other one is about to do. So whoever takes a record back looks afterwards whether
# somebody needs it now, and puts it back; and whoever relies on another's record looks, when its asset has come to need
# it, whether it is still there. Whichever is later sees the other; only who is killed in between does not.

KEPT = (
    "Another asset has the same assetId and version, so both share its version record."
    " What this archived one said in its own is in the journal."
)
KEPT_WITHOUT_TWIN = (
    "There was a version record of its assetId and version, with other content, which was kept: another asset's, the"
    " application's, or a killed run's, after which the asset was edited. What this one said is in the journal."
)
REPLACED = (
    "An archived asset has the same assetId and version, so both share the version record of this live one."
    " What the archived one said in its own is in the journal."
)
CURRENT = {"BOOL": True}
NOT_CURRENT = {"BOOL": False}


def may_have_made(asset: Item, record: Item) -> bool:
    """Whether a version record may have been made for an asset: one in the old form tells by the record that it would
    make again, any other by its version alone. A live one's is current."""
    to_make = record_to_make(asset)
    if to_make and set(differing(to_make, record)) - {"dateCreated", "isCurrentVersion"}:
        return False
    may_be_its = is_archived(asset) or record.get("isCurrentVersion") != NOT_CURRENT
    return may_be_its and has_version(asset, record["assetVersionId"]["S"])


def exchange(key: Key, old: Optional[Item], new: Optional[Item]) -> Change:
    """Put one version record in the place of another, None for none, if that is still as given."""
    if old is None:
        return Change("INSERT", key, len(to_json(new)), new or {})
    if new is None:
        return Change("DELETE", key, len(to_json(old)), expected=_without_key(old), was=old)
    extra = tuple(name for name in old if name not in new)
    return Change("UPDATE", key, len(to_json(new)), _without_key(new), extra, _without_key(old), old)


def _without_key(record: Item) -> Item:
    return {name: value for name, value in record.items() if name not in KEY_SCHEMAS["asset_versions_table_name"]}


def differing(one: Item, other: Item) -> List[str]:
    """The names of the attributes in which two items differ."""
    return sorted(name for name in {*one, *other} if not same(one.get(name), other.get(name)))


KEYS_OF_OWNER = ("databaseId", "assetId", "currentVersionId")  # what is to be known of the others with an assetId


class AssetKeys:
    """The databaseId and version id of the assets with each assetId; in a temporary file."""

    def __init__(self) -> None:
        self._rows = temporary_database(
            "CREATE TABLE owners (asset_id BLOB, database_id BLOB, version_id TEXT,"
            " PRIMARY KEY (asset_id, database_id)) WITHOUT ROWID"
        )

    def add(self, database_id: str, asset_id: str, version_id: Optional[str]) -> None:
        row = (utf8(asset_id), utf8(database_id), to_json(version_id))
        self._rows.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?)", row)

    def add_asset(self, asset: Item) -> None:
        """asset: keys and currentVersionId of it."""
        self.add(asset["databaseId"]["S"], asset["assetId"]["S"], text_of(asset.get("currentVersionId")))

    def versions(self, asset_id: str) -> Dict[str, Optional[str]]:
        """The version ids by databaseId."""
        query = "SELECT database_id, version_id FROM owners WHERE asset_id = ?"
        rows = self._rows.execute(query, (utf8(asset_id),))
        return {str(name, "utf-8", "surrogatepass"): json.loads(version_id) for name, version_id in rows}

    def with_version(self) -> Iterator[Tuple[str, str]]:
        """The databaseId and assetId of those that have a version id."""
        query = "SELECT database_id, asset_id FROM owners WHERE version_id != 'null'"
        for row in self._rows.execute(query):
            database_id, asset_id = (str(name, "utf-8", "surrogatepass") for name in row)
            yield database_id, asset_id


class Owners:
    """Which assets have an assetId, by keys that are read once. Whether one of them needs a version record is looked up
    again whenever that is asked."""

    def __init__(self, tables: Any, reader: Reader, known: Optional[AssetKeys] = None) -> None:
        """known: the keys of all assets with the assetIds that will be asked for; None: they are read."""
        self.tables = tables
        self.reader = reader
        self.database = reader.database
        self.keys = AssetKeys() if known is None else known
        self.all_known = known is not None
        self._reading = collections.OrderedDict()  # type: collections.OrderedDict

    async def read_all(self, item_count: int = SEGMENTS * SEGMENT_ITEMS) -> None:
        """Have the keys of all assets. Raises Stopped when the run is stopped."""
        if not self.all_known:
            await self._once("", lambda: segments_of_table(item_count))

    async def has_archived_twin(self, key: Key) -> bool:
        """Whether an asset of the same assetId was in the archive when that was read, once. Raises Stopped."""
        archive = twin_database(key[1])
        if not can_exist((self.database.assets, archive, key[2])):
            return False
        if not self.all_known and not await self._once(archive, lambda: [Segment(query_of("databaseId", archive))]):
            return False
        return archive in self.keys.versions(key[2])

    async def find(self, record: Key, besides: Sequence[str], test: Callable[[Item, str], bool]) -> Optional[str]:
        """The databaseId of an asset of a record's assetId for which, as it is now, test(asset, version id of the
        record) holds; None where there is none other than under `besides`. It may have been archived since."""
        for keys in self._keys(record, besides):
            for key, asset in (await self.tables.get(keys)).items():
                if test(asset, record[2]):
                    return key[1]
        return None

    async def find_whose_history(self, record: Key, besides: Sequence[str]) -> Optional[str]:
        """The databaseId of an asset of a record's assetId whose history the record may be, for the application has
        made the version that it has now, and counts upwards; None where there is none other than under `besides`."""
        for keys in self._keys(record, besides):
            for key, asset in (await self.tables.get(keys)).items():
                version_id = text_of(asset.get("currentVersionId"))
                if version_id is None or not is_before(record[2], version_id) or record_to_make(asset) is not None:
                    continue
                current = (record[0], record[1], version_id)
                found = (await self.tables.get([current])).get(current)
                if found is None or not looks_like_ours(found):
                    return key[1]
        return None

    async def third_needs(self, record: Key, asset: Key) -> bool:
        """Whether another asset than the one under this key and its twin needs a record of their assetId."""
        await self.read_all()
        return await self.find(record, twin_databases(asset), needs_record) is not None

    async def other_with(self, asset: Key, claim: Claim, test: Callable[[Item, str], bool]) -> Optional[str]:
        """Another asset, in words, for which test(asset, version id) holds; where it is not certain that the claim's
        record was made for the one under this key, its twin may have made it."""
        try:
            await self.read_all()
        except Stopped:
            # What this run did for others it knows, for they come in turn; two runs at once are rare.
            return None if claim.certain else "another asset, which was not looked for,"
        besides = twin_databases(asset) if claim.certain else asset[1:2]
        name = await self.find(self.database.record_key(claim.now), besides, test)
        return None if name is None else "the asset under databaseId %s" % one_name(name)

    def note(self, asset: Key, version_id: str) -> None:
        """An asset has come to rely on a version record. It may be newer than what was read of the others."""
        if self.all_known or "" in self._reading:
            self.keys.add(asset[1], asset[2], version_id)

    async def own_and_twin(self, asset: Key) -> Tuple[Optional[Item], Optional[Item]]:
        """The asset under a key and its live or archived twin, as they are now."""
        found = await self.tables.get([asset, twin_key(asset)])
        return found.get(asset), found.get(twin_key(asset))

    def _keys(self, record: Key, besides: Sequence[str]) -> Iterator[List[Key]]:
        """The keys under which there may be an asset of a record's assetId, so many at a time as are looked up."""
        _, asset_id, version_id = record
        versions = self.keys.versions(asset_id)
        # Those that had this version come first.
        known = sorted(versions, key=lambda name: versions[name] != version_id)
        both = (name for one in known for name in (one, twin_database(one)))
        names = [name for name in collections.OrderedDict.fromkeys(both) if name not in besides]
        for start in range(0, len(names), LOOKUP_ASSETS):
            yield [(self.database.assets, name, asset_id) for name in names[start : start + LOOKUP_ASSETS]]

    async def _once(self, name: str, segments: Callable[[], List[Segment]]) -> int:
        """How many assets there are under a databaseId, "" for all; read where they have not been."""
        if name not in self._reading:
            if len(self._reading) >= 1000:  # there may be as many databases as assets
                self._reading.popitem(last=False)
            self._reading[name] = self.reader.loop.create_task(self._read(segments()))
        self._reading.move_to_end(name)
        return await self._reading[name]

    async def _read(self, segments: List[Segment]) -> int:
        count = 0
        for segment in segments:
            segment.request["ProjectionExpression"] = ", ".join(KEYS_OF_OWNER)
        async for page in table_pages(self.reader, self.database.assets, segments):
            for asset in page.items:
                self.keys.add_asset(asset)
            count += len(page.items)
        return count


class VersionRecords:
    """Claims a version record for each asset that is to have one. The assets of one assetId come in turn."""

    def __init__(self, owners: Owners, journal: Any, tally: Tally, started: str) -> None:
        """started: when the run did, as ISO 8601 UTC."""
        self.owners = owners
        self.database = owners.database
        self.tables = owners.tables
        self.journal = journal
        self.tally = tally
        self.started = started
        # What this run has made for archived assets with a live twin.
        self.archived = temporary_database("CREATE TABLE archived (key TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID")

    async def claim(
        self, asset: ReadAsset, earlier: Optional[Claim], nothing_written: bool
    ) -> Tuple[Claim, Tuple[Finding, ...]]:
        """Have an asset's version record under its key (spec.md section 2, "the version key exists").

        earlier: the claim that was made for an earlier state of the asset, of the same version. nothing_written: for
        the asset so far, so that it need not be begun when the run is stopped.
        Raises AssetFails where the record that is there is none of the asset's.
        """
        claim, unheard = await self._renewed(asset, earlier) if earlier and earlier.wrote else (None, None)
        findings = twin_findings(REPLACED) if claim and claim.was else ()
        if claim is None:
            claim, findings = await self._inserted(asset, unheard, earlier is not None, nothing_written)
        self.owners.note(asset.key, asset.insertion.key[2])
        return claim, findings

    async def _renewed(self, asset: ReadAsset, earlier: Claim) -> Tuple[Optional[Claim], Optional[Claim]]:
        """Bring the record that this run wrote for an earlier state of an asset up to date, unless others have it too.
        Returns the claim; and where that is None, what was done if the answer to our write was lost, None if it was
        not."""
        if await self.owners.other_with(asset.key, earlier, has_version):
            return None, None
        renewed = earlier._replace(now=asset.record)
        if renewed != Claim(None, asset.record):
            await self.journal.save_claim(asset.key[1], renewed)
        if earlier.now == renewed.now:
            return renewed, None
        refusal = await self.tables.write(exchange(asset.insertion.key, earlier.now, renewed.now))
        if refusal is None:
            return renewed, None
        require_overtaken(refusal, "The version record")
        self.tally.version_records -= 1  # it is the work of others now
        return None, renewed if refusal.uncertain else None

    async def _inserted(
        self, asset: ReadAsset, unheard: Optional[Claim], is_told: bool, nothing_written: bool
    ) -> Tuple[Claim, Tuple[Finding, ...]]:
        """Make an asset's record, or have the one that is there.
        unheard: what we did if that turns out to be as we want it: the answer to our write was lost.
        is_told: the journal may say something else of it."""
        key, record = asset.insertion.key, asset.record
        for attempt in range(PLAN_ATTEMPTS):
            if attempt or is_told:
                await self.journal.save_claim(asset.key[1], Claim(None, record))
            first = nothing_written and attempt == 0
            with noting_untouched(self.journal, asset.key, first):
                refusal = await self.tables.write(asset.insertion, droppable=first)
            if refusal is None:
                return self._made(asset), ()
            if refusal.code != "DuplicateItem":
                raise rejected(refusal, "The version record")
            if refusal.uncertain:
                unheard = unheard or Claim(None, record, certain=False)
            present = (await self.tables.get([key])).get(key)
            if present is None:
                continue
            with noting_untouched(self.journal, asset.key, first and not unheard):
                claim, findings = await self._claim_of_present(asset, present, unheard)
            await self.journal.save_claim(asset.key[1], claim)
            if claim.now != present:
                refusal = await self.tables.write(exchange(key, present, record))
                if refusal:
                    require_overtaken(refusal, "The version record")
                    unheard = claim if refusal.uncertain else unheard
                    continue
            self.tally.version_records += claim.wrote
            return claim, findings
        raise changed_by_others("changed_during_migration")

    async def confirm(self, asset: ReadAsset, claims: List[Claim]) -> Tuple[Finding, ...]:
        """Have the record of an asset there that has come to need it, if it relies on what another made or may have."""
        if not claims or (claims[0].wrote and claims[0].certain):
            return ()
        key = asset.insertion.key
        if key in await self.tables.get([key], keys_only=True):
            return ()
        own_and_twin = await self.owners.own_and_twin(asset.key)
        if not any(item and needs_record(item, key[2]) for item in own_and_twin):
            return ()
        self.tally.version_records -= claims[0].wrote
        relied_on = Claim(asset.record, asset.record)  # so that the journal says anew what was done
        claims[0], findings = await self.claim(asset, relied_on, nothing_written=False)
        return findings

    async def _claim_of_present(
        self, asset: ReadAsset, present: Item, unheard: Optional[Claim]
    ) -> Tuple[Claim, Tuple[Finding, ...]]:
        """What comes of a record that is there already."""
        differences = differing(present, asset.record)
        if unheard and not differences:
            return unheard, twin_findings(REPLACED) if unheard.was else ()
        found = Claim(present, present)
        if not differences:
            return found, ()
        if differences == ["dateCreated"]:
            # An asset without a date gets the start of the run, which may have been an earlier one.
            undated = asset.record["dateCreated"] == {"S": self.started}
            return found, () if undated else shared_findings(asset.record, present)
        if in_archive(asset.key[1]):
            return found, twin_findings(KEPT if asset.facts.live_twin else KEPT_WITHOUT_TWIN)
        own, twin = await self.owners.own_and_twin(asset.key)
        if own and needs_record(own, asset.insertion.key[2]):
            # The application made it for the asset since that was read; the asset's change will be refused.
            return found, ()
        if not await self._is_of_archived_twin(asset, twin, present):
            raise AssetFails("version_conflict", "assetVersionId", in_the_way(asset.record, present))
        return Claim(present, asset.record), twin_findings(REPLACED)

    async def _is_of_archived_twin(self, asset: ReadAsset, twin: Optional[Item], present: Item) -> bool:
        """Whether a record was made for a live asset's archived twin, and no third asset needs it.

        Of what an earlier run did nothing is known: there it may also be the history of a third asset.
        """
        key, by_this_run = asset.insertion.key, self._was_made_for(twin_key(asset.key), present)
        if not by_this_run and not (twin and may_be_made_for_archived(twin, present)):
            return False
        if await self.owners.third_needs(key, asset.key):
            return False
        return by_this_run or await self.owners.find_whose_history(key, twin_databases(asset.key)) is None

    def _made(self, asset: ReadAsset) -> Claim:
        self.tally.version_records += 1
        if in_archive(asset.key[1]) and asset.facts.live_twin:
            row = (to_json(asset.key), to_json(asset.record))
            self.archived.execute("INSERT OR REPLACE INTO archived VALUES (?, ?)", row)
        return Claim(None, asset.record)

    def _was_made_for(self, archived: Key, record: Item) -> bool:
        query = "SELECT record FROM archived WHERE key = ?"
        row = self.archived.execute(query, (to_json(archived),)).fetchone()
        return row is not None and not differing(json.loads(row[0]), record)


class Rivals:
    """Version records of archived assets that are current, though the live asset of the assetId has one now."""

    def __init__(self, owners: Owners, journal: Any) -> None:
        self.owners = owners
        self.database = owners.database
        self.tables = owners.tables
        self.journal = journal

    async def find(self, asset: ReadAsset) -> Optional[Item]:
        """The record of a live asset's archived twin which was migrated before, as another version, and is not to be
        current any more; None where there is none, or others need it."""
        if asset.record is None or in_archive(asset.key[1]) or not await self.owners.has_archived_twin(asset.key):
            return None
        _, twin = await self.owners.own_and_twin(asset.key)
        version_id = text_of(twin.get("currentVersionId")) if twin else None
        key = (asset.insertion.key[0], asset.key[2], version_id or "")
        if twin is None or version_id is None or key == asset.insertion.key or not needs_record(twin, version_id):
            return None
        record = (await self.tables.get([key])).get(key)
        if record is None or record.get("isCurrentVersion") != CURRENT or not looks_like_ours(record):
            return None  # that of the application an archived asset may have kept
        if await self.owners.third_needs(key, asset.key):
            return None
        return record

    async def overrule(self, asset: ReadAsset, rival: Item) -> List[Claim]:
        """Make the record that `find` has found not current. Nothing is done where others were faster."""
        claim = Claim(rival, {**rival, "isCurrentVersion": NOT_CURRENT})
        await self.journal.save_claim(asset.key[1], claim)
        key = self.database.record_key(rival)
        refusal = await self.tables.write(exchange(key, rival, claim.now))
        if refusal and not refusal.uncertain:
            await self.journal.save_claim(asset.key[1], Claim(claim.now, claim.now))  # whoever did it, it was not we
            require_overtaken(refusal, "The version record of the archived asset")
            return []
        return [claim]


class Withdrawals:
    """Take back what was done to version records for assets that do not come to their end."""

    def __init__(self, owners: Owners, tally: Tally) -> None:
        self.owners = owners
        self.database = owners.database
        self.tables = owners.tables
        self.tally = tally

    async def withdraw(self, asset: ReadAsset, claims: Sequence[Claim]) -> Tuple[Finding, ...]:
        """Take back what was done to version records for an asset, the last first, unless somebody needs it.
        claims: the asset's own record first. Returns findings on what stays."""
        ours = [claim for claim in claims if claim.wrote]
        if not ours:
            return ()
        own, _ = await self.owners.own_and_twin(asset.key)
        if own and needs_record(own, claims[0].now["assetVersionId"]["S"]):
            return ()
        findings = ()  # type: Tuple[Finding, ...]
        for claim in reversed(ours):
            reason = await self._take_back(asset, claim)
            if reason:
                findings += (record_stays(self.database.record_key(claim.now), reason),)
            elif claim is claims[0]:
                self.tally.version_records -= 1
        return findings

    async def _take_back(self, asset: ReadAsset, claim: Claim) -> Optional[str]:
        """Take back what was done to one version record. Returns why it stays as it is, None where it does not."""
        key, needed = self.database.record_key(claim.now), "%s needs it or may have made it"
        needing = await self._needing(asset, claim)
        if needing:
            return needed % needing
        refusal = await self.tables.write(exchange(key, claim.now, claim.was))
        if refusal is None or refusal.uncertain:
            needing = await self._needing(asset, claim)
            if needing:
                await self.tables.write(exchange(key, claim.was, claim.now))
                return needed % needing
        if refusal:
            stored = (await self.tables.get([key])).get(key)
            if stored and (claim.was is None or differing(stored, claim.was)):
                return "it was changed by others, or DynamoDB does not take its removal"
        return None

    async def _needing(self, asset: ReadAsset, claim: Claim) -> Optional[str]:
        """The asset, in words, that needs a version record which was claimed for this one, or may have made it."""
        own, twin = await self.owners.own_and_twin(asset.key)
        if twin and claim.was is not None and not may_be_archived(asset, own, twin):
            twin = None  # it needs what was there before
        for item in (own, twin):
            if item and needs_record(item, claim.now["assetVersionId"]["S"]):
                return "the asset under databaseId %s" % one_name(item["databaseId"]["S"])
        if claim.certain:
            return await self.owners.other_with(asset.key, claim, needs_record)
        return await self.owners.other_with(
            asset.key, claim, lambda other, version: needs_record(other, version) or may_have_made(other, claim.now)
        )


def looks_like_ours(record: Item) -> bool:
    """Whether the migration may have made a version record: it has its attributes, and no user made it."""
    return has_our_attributes(record) and record["createdBy"] == {"S": "system"}


# datetime.utcnow().isoformat(), as v2.3 dates what users make (its createAsset.py). Nothing of v2.2 has a fraction.
V23_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}")


def made_by_user(record: Optional[Item]) -> bool:
    """Whether v2.3 made a version record: it is not as the migration makes them without a name in v2.2, and has a date
    as v2.3 writes it. The migration takes names over, with the dates of v2.2 or that of its own start."""
    if record is None or looks_like_ours(record):
        return False
    return V23_DATE.match(text_of(record.get("dateCreated")) or "") is not None


def has_our_attributes(record: Item) -> bool:
    return set(record) == {*KEY_SCHEMAS["asset_versions_table_name"], *RECORD_FIELDS}


def may_be_made_for_archived(twin: Item, record: Item) -> bool:
    """Whether an earlier run may have made a version record for an archived asset, and have changed that or not."""
    # The application leaves an asset's own record current, whoever made it.
    not_current = has_our_attributes(record) and record["isCurrentVersion"] == NOT_CURRENT
    by_content = record_to_make(twin) is not None
    return may_have_made(twin, record) and (by_content or not_current or looks_like_ours(record))


def may_be_archived(asset: ReadAsset, own: Optional[Item], twin: Item) -> bool:
    """Whether a live asset is gone and its archived twin looks like it: the application may have archived it."""
    read, aside = json.loads(asset.text), {*OWNED_FIELDS, "databaseId"}
    return own is None and version_id_of(read) == version_id_of(twin) and not set(differing(read, twin)) - aside


def is_of_version(record: Item, other: Item) -> bool:
    return record["assetVersionId"] == other["assetVersionId"]


def twin_findings(message: str) -> Tuple[Finding, ...]:
    return (Finding("archived_twin", "assetVersionId", message),)


def shared_findings(record: Item, present: Item) -> Tuple[Finding, ...]:
    message = (
        "The version record %s was there already, of an asset of another database or an earlier run:"
        " dateCreated is %s, not %s."
    )
    dates = (shown(item.get("dateCreated", NULL)) for item in (present, record))
    message %= (record["assetVersionId"]["S"], *dates)
    return (Finding("shared_version_record", "dateCreated", message),)


def record_stays(record: Key, reason: str) -> Finding:
    return Finding("record_stays", "assetVersionId", "The version record %s stays: %s." % (record[2], reason))


def require_overtaken(refusal: Refusal, what: str) -> None:
    """Raises AssetFails unless others were faster with a write, so that its condition does not hold any more."""
    if refusal.code != "ConditionalCheckFailed":
        raise rejected(refusal, what)


def rejected(refusal: Refusal, what: str) -> AssetFails:
    return AssetFails("rejected_by_dynamodb", "", "%s was rejected: %s: %s" % (what, refusal.code, refusal.message))


def changed_by_others(code: str) -> AssetFails:
    return AssetFails(code, "", "It or its version record was changed by others %d times in a row." % PLAN_ATTEMPTS)


def in_the_way(record: Item, present: Item) -> str:
    """What says that a record is under the key of another one that is to be made."""
    names = [name for name in differing(record, present) if name != "dateCreated"]
    return "Its version record %s would take the place of another one, which differs in %s." % (
        record["assetVersionId"]["S"],
        ", ".join("%s (%s)" % (name, shown(present.get(name, NULL))) for name in names),
    )


# --------------------------------------------------------------------------------------
# The migration: an asset's way from its plan to its outcome
# --------------------------------------------------------------------------------------


class Migration:
    """Brings each asset from its plan to its outcome, in the order of spec.md section 3:
    before image on the disk, version record confirmed, asset changed."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        tally: Tally,
        journal: Optional[Journal],
        started: str,
        show: Callable,
        known: Optional[AssetKeys] = None,
    ) -> None:
        """journal: None in a dry run; started: when the run did, as ISO 8601 UTC; show: says what a dry run
        would change; known: as Owners have it."""
        self.database = run.reader.database
        self.tables = run.tables
        self.dry_run = settings.dry_run
        self.planner = Planner(self.database, run.tables.prepared, settings, started)
        self.journal = GroupCommit(journal, run.loop) if journal else NothingSaved()  # type: Any
        owners = Owners(run.tables, run.reader, known)
        self.records = VersionRecords(owners, self.journal, tally, started)
        self.rivals = Rivals(owners, self.journal)
        self.withdrawals = Withdrawals(owners, tally)
        self.turns = Turns()
        self.tally = tally
        self.show = show
        self.shown = 0
        self.unseen = set(settings.database_id)  # of those that were named

    async def migrate(self, asset: ReadAsset) -> None:
        self.tally.scanned += 1
        self.unseen.discard(asset.key[1])
        turn = self.turns.of(asset.key[2])
        async with turn:
            await self.tally.outcome_of(asset.key, self.way_of(asset))

    async def way_of(self, asset: ReadAsset) -> Outcome:
        """Bring one asset to its outcome. What was done to version records stays only with the asset."""
        claims, stays = [], []  # type: List[Claim], List[Finding]
        try:
            outcome, findings = await self.attempts(asset, claims, stays)
        except AssetFails as problem:
            outcome, findings = "failed", (problem.finding,)
        if outcome != "migrated":
            stays += await self.withdrawals.withdraw(asset, claims)
        self.tally.assets += outcome == "migrated"
        return outcome, findings + tuple(stays)

    async def attempts(self, asset: ReadAsset, claims: List[Claim], stays: List[Finding]) -> Outcome:
        """Bring one asset from its plan to its outcome; when others were faster, from a new plan.
        claims: gets what was done to version records, the asset's own first; stays: what was not taken back of it."""
        for attempt in range(PLAN_ATTEMPTS):
            if asset.questions:
                found = await self.tables.get(asset.questions.values(), keys_only=True)
                answers = {name: key in found for name, key in asset.questions.items()}
                asset = self.planner.plan_with(asset, answers)
            if claims and not (asset.record and is_of_version(asset.record, claims[0].now)):
                stays += await self.withdrawals.withdraw(asset, claims)
                claims.clear()
            if asset.outcome != "migrated":
                return asset.outcome, asset.findings
            rival = None if claims else await self.rivals.find(asset)
            await self.journal.save_asset(asset.text, asset.facts, again=attempt > 0)
            findings = asset.findings
            if asset.record:
                claim, further = await self.records.claim(asset, claims[0] if claims else None, attempt == 0)
                claims[:1] = [claim]
                findings += further
                if rival:
                    claims += await self.rivals.overrule(asset, rival)
            self.show_change(asset, claims)
            nothing_written = attempt == 0 and asset.record is None
            with noting_untouched(self.journal, asset.key, nothing_written):
                refusal = await self.tables.write(asset.change, droppable=nothing_written)
            if refusal is None:
                return "migrated", findings + await self.records.confirm(asset, claims)
            if refusal.code != "ConditionalCheckFailed":
                raise rejected(refusal, "The change of the asset")
            item = (await self.tables.get([asset.key])).get(asset.key)
            if item is None:
                message = "The asset was deleted while the migration ran; it was not brought back."
                return "vanished", (Finding("vanished", "", message),)
            plan = self.planner.whole_plan(asset)
            if as_planned(item, plan) or (refusal.uncertain and goes_on_from(item, plan)):
                return "migrated", findings + await self.records.confirm(asset, claims)
            asset = self.planner.plan(item, to_json(item))
        raise changed_by_others("changed_during_migration")

    def show_change(self, asset: ReadAsset, claims: Sequence[Claim]) -> None:
        if self.dry_run and self.shown < SHOWN_CHANGES:
            self.shown += 1
            plan = self.planner.whole_plan(asset)
            there_already = bool(claims) and not claims[0].wrote
            self.show(json.loads(asset.text), plan._replace(record=None) if there_already else plan)


def describe_change(asset: Item, plan: Plan, whole: bool = False) -> str:
    """The change of one asset, an attribute a line, unabridged. whole: also what stays."""
    lines = [name_of(asset["databaseId"]["S"], asset["assetId"]["S"])]
    for name, value in (plan.record or {}).items():
        why = "  (archived, and the live asset of its assetId has the current one)" if value == NOT_CURRENT else ""
        lines.append("  + version record, %s: %s%s" % (printable(name), readable(value), why))
    for name in sorted({*asset, *plan.set_attributes}):
        before, after = asset.get(name), plan.set_attributes.get(name)
        if after is not None and before is not None and before != after:
            lines.append("  - %s: %s" % (printable(name), readable(before)))
        if after is not None and before != after:
            lines.append("  + %s: %s" % (printable(name), readable(after)))
        elif name in plan.remove_attributes:
            lines.append("  - %s: %s" % (printable(name), readable(before)))
        elif whole:
            lines.append("    %s: %s" % (printable(name), readable(before)))
    return "\n".join(lines)


def redacted(text: str) -> str:
    """Text without the user and password that a URL in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", text)


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
    capacity: Mapping[str, float] = {}  # write units a second that each table takes from the start, about
    storage: Any = None  # the Storage of its journals and reports


def preflight(
    session: Any,
    database: Database,
    settings: Settings,
    writing: bool = True,
    journal: bool = True,
    reports: bool = True,
) -> Site:
    """Run all checks, whatever the first ones say (spec.md section 4). Writes nothing.
    writing: False leaves out what only a run that writes needs; journal: False what only one that writes a journal
    does, recovery and room for it; reports: False what one does that writes into the report folder. Has the database
    know the indexes."""
    client, account, checks = database.client, None, []  # type: Any, Optional[str], List[Check]
    aws, journal = is_aws(settings), writing and journal
    if aws:
        account, credentials = check_credentials(session, settings)
        checks.append(credentials)
    else:
        text = "account, point-in-time recovery and bucket: %s is not AWS" % settings.endpoint_url
        checks.append(Check("skipped", text))
    descriptions, sound = {}, {}
    for key, name in (("assets_table_name", database.assets), ("asset_versions_table_name", database.versions)):
        descriptions[key], found = check_table(client, name, KEY_SCHEMAS[key], settings)
        checks += found
        table, sound[key] = descriptions[key], all(check.level != "error" for check in found)
        checks += check_owner(getattr(settings, key), table, account)
        if table:
            indexes = written_indexes(table, OWNED_FIELDS if name == database.assets else None)
            database.indexes[name] = len(indexes)
            checks += [Check("ok", "index %s of %s: written too, with each item" % (index, name)) for index in indexes]
        if table and writing:
            checks += check_replicas(table)
        if table and journal and aws:
            checks.append(check_recovery(client, name))
    checks += check_distinct(descriptions)
    if aws:
        checks.append(check_bucket(session, settings))
        if journal and sound["assets_table_name"] and checks[-1].level == "ok":
            checks.append(check_bucket_files(session, client, settings))
    assets = descriptions["assets_table_name"] or {}
    storage = Storage(session, settings, S3_WAITS[:3])  # where S3 cannot be reached, the operator is not to wait long
    kept = [("report_dir", reports), ("journal_dir", journal and not settings.dry_run)]
    checks += check_folders(storage, settings, [key for key, needed in kept if needed])
    if assets and journal:
        checks += check_disk(settings, assets.get("TableSizeBytes", 0))
        checks += check_cloudshell(settings)
    if aws and assets:
        account = account or assets["TableArn"].split(":")[4]
    region = client.meta.region_name
    checks += check_other_runs(storage, settings, account, region) if journal else []
    if writing and not settings.dry_run and not any(check.level == "error" for check in checks):
        checks += check_writes(database)
    capacity = {table["TableName"]: write_capacity(table) for table in descriptions.values() if table}
    return Site(account, region, assets.get("ItemCount", 0), checks, capacity, Storage(session, settings))


def write_capacity(table: Dict[str, Any]) -> float:
    """Write units a second of a described table: as provisioned; on demand what it is warm for, so far as that is
    known."""
    if table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return table.get("WarmThroughput", {}).get("WriteUnitsPerSecond") or TABLE_UNITS
    return table.get("ProvisionedThroughput", {}).get("WriteCapacityUnits") or TABLE_UNITS


def check_other_runs(storage: Storage, settings: Settings, account: Optional[str], region: str) -> List[Check]:
    """Whether another run on these tables uses its journal at the moment, or had one other table or bucket."""
    journals, checks = journals_of_tables(storage, settings, account, region)
    idle, of_rollback = [], []  # type: List[Tuple[Any, Dict[str, Any]]], List[str]
    for journal, header in journals:
        user = ""
        with contextlib.suppress(SettingsError, OSError):
            user = journal.user()
        if user == USED_BY[0]:
            text = "another run on these tables is under way, with the journal %s" % journal.path
            fix = "let one of them end: their reports overlap, and neither may have all assets."
            if is_s3(journal.path):
                text = "another run on these tables may be under way: its journal %s has no end, and grew in the last"
                text = (text + " %d minutes") % (journal.path, GOES_ON_SECONDS / 60)
                fix = "if it was killed, go on; else " + fix
            checks.append(Check("warning", text, fix))
        elif user:
            of_rollback.append(journal.path)
        else:
            idle.append((journal, header))
    headers = [header for _, header in idle]
    rollbacks = functools.lru_cache(maxsize=None)(
        lambda: list(rollback_summaries(storage, settings.report_dir, headers))
    )
    runs = functools.lru_cache(maxsize=None)(lambda: runs_of_all(storage, settings, headers))
    checks += check_killed_runs(idle, rollbacks, runs)
    if idle and len(idle) == len(journals):  # else one may be under way
        of_these = [summary for summary in rollbacks() if of_same_tables(summary, headers[0])]
        left = rollback_to_finish(of_these, {journal_mark(*pair) for pair in idle}, runs)
        checks += check_unfinished_rollback(left)
    if of_rollback:
        text = "a rollback on these tables is under way, with " + journals_text(of_rollback)
        level = "warning" if settings.dry_run else "error"
        checks.append(Check(level, text, "wait until it has ended: it takes back what a run would rely on."))
    return checks


Runs = List[Tuple[str, int]]  # as runs_of_all has them


def check_killed_runs(
    journals: List[Tuple[Any, Dict[str, Any]]], rollbacks: Callable[[], List[Dict[str, Any]]], runs: Callable[[], Runs]
) -> List[Check]:
    """Whether a run of these journals was killed, no later run of all assets has come to its end, and it was not taken
    back: what it left half-way may be out of date. journals: those that nobody uses, with their headers. The others are
    read where they are needed: summaries of rollbacks of all tables, the oldest first, and what runs_of_all returns."""
    cut = {journal_mark(*pair): pair for pair in journals if is_cut(pair[0])}
    cut = {mark: pair for mark, pair in cut.items() if not was_finished(pair[1]["started"], runs())}
    ended = filter(has_ended, rollbacks() if cut else ())
    taken_back = {mark for summary in ended for mark in summary.get("images_of_journals", {})}
    killed = [journal.path for mark, (journal, _) in cut.items() if mark not in taken_back]
    text = "a run on these tables was killed, or this is a part of its journal: %s" % ", ".join(killed)
    fix = (
        "if nobody has edited assets since, go on: a run of all finishes it, unless assets fail with version_conflict."
        " Else roll that back first, by its name."
    )
    return [Check("warning", text, fix)] if killed else []


def check_unfinished_rollback(left: Optional[Dict[str, Any]]) -> List[Check]:
    """left: as rollback_to_finish returns it."""
    if left is None:
        return []
    text = "the rollback of these tables that began %s did not come to its end" % left.get("started", "")
    fix = "to go back, type its command again. To migrate, finish it first if users edited assets since; else go on."
    return [Check("warning", text, fix)]


def rollback_to_finish(
    rollbacks: List[Dict[str, Any]], marks: Set[str], runs: Callable[[], Runs]
) -> Optional[Dict[str, Any]]:
    """The summary of the last unfinished rollback, unless a migration of all assets since has done what it left.
    rollbacks, marks: as unfinished_rollback has them; runs: as check_killed_runs has it."""
    left = unfinished_rollback(rollbacks, marks)
    return None if left is None or was_finished(left.get("started", ""), runs()) else left


def unfinished_rollback(rollbacks: List[Dict[str, Any]], marks: Set[str]) -> Optional[Dict[str, Any]]:
    """The summary of the last rollback that did not come to its end, while no later one by its journals did: it has
    left version records of assets that are in the old form again, and may be edited. A journal that a later one went
    without does not count where it is not there any more.
    rollbacks: the summaries of those of these tables, the oldest first. marks: of the journals that are there."""
    done = set()  # type: Set[str]
    for summary in reversed(rollbacks):
        journals = set(summary.get("images_of_journals", {}))
        if came_to_its_end(summary):
            done |= journals
            continue
        left = journals - done
        if left == journals or left & marks:
            return summary
    return None


def is_cut(journal: Any) -> bool:
    """Whether a journal that nobody uses lacks its end and holds before images, or is damaged; not one that is gone."""
    try:
        return not is_whole(journal) and next(read_journal_backwards(journal), None) is not None
    except MigrationError:
        return True
    except OSError:
        return False


def runs_of_all(storage: Storage, settings: Settings, headers: List[Dict[str, Any]]) -> Runs:
    """When each migration of all assets of these tables began that has come to its end, the oldest first, and how many
    assets it has left for version_conflict. headers: of journals of these tables."""
    runs = []
    for place in summaries_in(storage, report_folders(settings.report_dir, headers), "migration_"):
        summary = read_summary(storage, *place)
        of_all = all(summary.get("settings", {}).get(name) in (None, []) for name in CHOOSING)
        if of_same_tables(summary, headers[0]) and of_all and came_to_its_end(summary):
            conflicts = summary.get("codes", {}).get("version_conflict", 0)
            runs.append((summary.get("started", ""), conflicts if isinstance(conflicts, int) else 0))
    return runs


def was_finished(started: str, runs: Runs) -> bool:
    """Whether a run has done what one that began then and was killed has left: it left no more assets for
    version_conflict than were left before that. runs: as runs_of_all has them."""
    before = [conflicts for start, conflicts in runs if start <= started][-1:] or [0]
    return any(start > started and conflicts <= before[0] for start, conflicts in runs)


def journals_text(paths: Sequence[str]) -> str:
    return "the journal %s" % paths[0] if len(paths) == 1 else "%d journals, %s first" % (len(paths), paths[0])


def journals_of_tables(
    storage: Storage, settings: Settings, account: Optional[str], region: str
) -> Tuple[List[Tuple[Any, Dict[str, Any]]], List[Check]]:
    """The journals in the folder of runs on these tables, with their headers; and a warning for each other table and
    each other bucket that runs on one of them had: a typing error, now or then. But not where that was taken back."""
    journals, others = journals_of_either_table(storage, settings, account, region)
    text = "an earlier run on this %s table had the %s %s, not %s: journal %s"
    fix = (
        "check %s first: if it is another stage's, the earlier run was right. Else check %s, and if the earlier run had"
    )
    fix += " the wrong one, roll it back, with %s."
    checks = []
    for (key, name), path in others.items():
        of_assets = key != "assets_table_name"
        table, flag = "assets" if of_assets else "asset versions", SETTINGS[key].flag
        shared = SETTINGS["assets_table_name" if of_assets else "asset_versions_table_name"].flag
        wanted = plain_table_name(getattr(settings, key)) if key in KEY_SCHEMAS else getattr(settings, key)
        checks.append(
            Check("warning", text % (table, key, name, wanted, path), fix % (shared, flag, shell_text([flag, name])))
        )
    tables = {key: plain_table_name(getattr(settings, key)) for key in KEY_SCHEMAS}
    return [pair for pair in journals if all(pair[1].get(key) == tables[key] for key in tables)], checks


def journals_of_either_table(
    storage: Storage, settings: Settings, account: Optional[str], region: str
) -> Tuple[List[Tuple[Any, Dict[str, Any]]], Dict[Tuple[str, str], str]]:
    """The journals in the folder of runs on this assets table or this versions table, with their headers; and of each
    other versions table and bucket that those of this assets table had, and each other assets table, by its setting and
    its name, a journal that holds something and was not taken back."""
    facts = journal_header(settings, account, region)
    tables = {key: facts.pop(key) for key in KEY_SCHEMAS}
    wanted = {**tables, "asset_bucket_name": settings.asset_bucket_name}
    either = journals_of(storage, settings.journal_dir, facts)
    journals = [pair for pair in either if any(pair[1].get(key) == tables[key] for key in tables)]
    found = []  # type: List[Tuple[str, Any, Dict[str, Any]]]
    for journal, header in journals:
        is_of_assets = header.get("assets_table_name") == wanted["assets_table_name"]
        keys = ("asset_versions_table_name", "asset_bucket_name") if is_of_assets else ("assets_table_name",)
        found += [(key, journal, header) for key in keys if header[key] != wanted[key]]
    headers = (header for _, header in journals)
    taken_back = marks_taken_back(rollback_summaries(storage, settings.report_dir, headers) if found else ())
    others = collections.OrderedDict()  # type: Dict[Tuple[str, str], str]
    for key, journal, header in found:
        if journal_mark(journal, header) not in taken_back and not is_empty(journal):
            others.setdefault((key, header[key]), journal.path)
    return journals, others


def is_empty(journal: Any) -> bool:
    """Whether a journal has no before images. One that is damaged has, or had."""
    with contextlib.suppress(MigrationError, OSError):
        return next(read_journal_backwards(journal), None) is None
    return False


STEPS_OF_OTHER_TABLE = {
    "asset_versions_table_name": (
        "see first whether {assets} is the right assets table: if it is another stage's, give yours. If it is right,"
        " see which asset versions table is, {versions} or {other}, which an earlier run had (journal {journal}). Roll"
        " back what was migrated with the wrong one, with that as --asset-versions-table, as the README says under"
        " Going back; then migrate again with the right one"
    ),
    "assets_table_name": (
        "see first whose asset versions table {versions} is, that of {assets} or of {other}, which an earlier run had"
        " (journal {journal}). Roll back what was migrated from the wrong one, with that as --assets-table and"
        " {versions} as --asset-versions-table, as the README says under Going back; then migrate it again with its own"
    ),
}


def step_of_other_table(
    storage: Storage,
    settings: Settings,
    account: Optional[str],
    region: str,
    keys: Sequence[str] = ("asset_versions_table_name",),
) -> Optional[str]:
    """What to do, in words, where a run on one of these tables whose journal is there had another one in the place of
    the other, and was not taken back. keys: the settings of which that is asked, the one that matters most first."""
    _, others = journals_of_either_table(storage, settings, account, region)
    found = [(key, *other) for key in keys for other in others.items() if other[0][0] == key]
    if not found:
        return None
    key, (_, name), path = found[0]
    return STEPS_OF_OTHER_TABLE[key].format(
        assets=plain_table_name(settings.assets_table_name),
        versions=plain_table_name(settings.asset_versions_table_name),
        other=name,
        journal=path,
    )


def journal_mark(journal: Any, header: Mapping[str, Any]) -> str:
    """The same of a journal and of its copies, of no others, also of runs of one second: for a summary."""
    return "%s %r" % (header.get("stem", journal.stem), header.get("opened"))


def came_to_its_end(summary: Mapping[str, Any]) -> bool:
    """Whether a run was neither killed nor stopped, by whom or what ever, as its summary says."""
    return summary.get("exit_status") in (EXIT_DONE, EXIT_FAILED_ASSETS) and not summary.get("error")


def has_ended(summary: Mapping[str, Any]) -> bool:
    """Whether a rollback has done all that it could, as its summary says."""
    outcomes = summary.get("outcomes", {})
    return came_to_its_end(summary) and not outcomes.get("not_finished") and not outcomes.get("failed")


def ended_journals(summary: Mapping[str, Any]) -> Dict[str, int]:
    """The journals by which a rollback came to its end, as its summary says, so that another one by them could do no
    more: by their marks, how many before images they had. Not those of which something was superseded by journals that
    it was not given; and none of a rollback in which an asset failed."""
    if not has_ended(summary):
        return {}
    superseded = summary.get("superseded_of_journals", {})
    return {mark: count for mark, count in summary.get("images_of_journals", {}).items() if mark not in superseded}


def marks_taken_back(rollbacks: Iterable[Mapping[str, Any]]) -> Set[str]:
    """Of the journals by which one of these rollbacks came to its end."""
    return {mark for summary in rollbacks for mark in ended_journals(summary)}


def undone_journals(rollbacks: Iterable[Mapping[str, Any]]) -> Dict[str, Tuple[str, float]]:
    """The marks of the journals that a rollback has taken back whole, as its summary says, each with when that first
    was, as journals have it. A summary that is lost does no harm: its journals are only named once more.
    rollbacks: the oldest first."""
    undone = {}  # type: Dict[str, Tuple[str, float]]
    for summary in rollbacks:
        if summary.get("undone"):
            for mark in summary.get("images_of_journals", {}):
                undone.setdefault(mark, (summary.get("started", ""), summary.get("opened", 0.0)))
    return undone


def report_folders(report_dir: str, headers: Iterable[Mapping[str, Any]]) -> List[str]:
    """Where reports may lie: the folder of this run, and those of the runs that wrote the journals of these headers."""
    folders = [report_dir, *(header.get("report_dir", report_dir) for header in headers)]
    return list(collections.OrderedDict((folder_identity(folder), folder) for folder in folders).values())


def folder_identity(folder: str) -> str:
    return folder.rstrip("/") if is_s3(folder) else os.path.realpath(folder)


def rollback_summaries(
    storage: Storage, report_dir: str, headers: Iterable[Mapping[str, Any]]
) -> Iterator[Dict[str, Any]]:
    """Those of rollbacks, the oldest first. report_dir and headers: as report_folders has them."""
    for folder, name in summaries_in(storage, report_folders(report_dir, headers), "rollback_"):
        yield read_summary(storage, folder, name)


def summaries_in(storage: Storage, folders: List[str], beginning: str) -> List[Tuple[str, str]]:
    """The folders and names of the summaries of runs of a kind, the oldest first; none of a folder that cannot be
    read."""
    end, found = "_summary.json", []  # type: str, List[Tuple[str, str]]
    for folder in folders:
        with contextlib.suppress(OSError, MigrationError):
            found += [(folder, name) for name in storage.folder(folder).names(beginning) if name.endswith(end)]
    return sorted(found, key=lambda place: (place[1][: -len(end)], place[0]))


# What a journal's first line, and the summary of a run, tell of the tables.
SAME_TABLES = ("assets_table_name", "asset_versions_table_name", "account", "region", "endpoint_url")


def of_same_tables(summary: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    facts = {**summary.get("settings", {}), **summary}
    return all(facts.get(name) == header.get(name) for name in SAME_TABLES)


# Of what summaries are read for, as runs write it.
SUMMARY_TYPES = {
    "started": str,
    "opened": float,
    "outcomes": dict,
    "codes": dict,
    "settings": dict,
    "files": dict,
    "tasks": list,
    "journals": list,
    "images_of_journals": dict,
    "superseded_of_journals": dict,
}


def read_summary(storage: Any, folder: str, name: str) -> Dict[str, Any]:
    """With the `folder` where it lies; {} where there is none that can be read."""
    try:
        found = dict(json.loads(str(storage.folder(folder).read(name), "utf-8")), folder=folder)
    except (OSError, ValueError, TypeError, RecursionError, MigrationError):
        return {}
    is_one = all(isinstance(found[key], kind) for key, kind in SUMMARY_TYPES.items() if key in found)
    return found if is_one else {}


def journals_of(
    storage: Storage,
    folder: str,
    facts: Mapping[str, Any],
    known: Any = frozenset(),
    damaged: Optional[List[DamagedJournal]] = None,
) -> Iterator[Tuple[Any, Dict[str, Any]]]:
    """The journals in a folder whose headers say these facts, so far as they can be read, each with its header.
    known: a set, the identities of those to leave out. damaged: gets the errors of those that may be one, or not."""
    with contextlib.suppress(MigrationError):
        for journal in storage.journals(folder):
            if journal.identity in known:
                continue
            try:
                header = read_journal_header(journal)
            except SettingsError as error:
                if damaged is not None and isinstance(error, DamagedJournal):
                    damaged.append(error)
                continue
            if all(header.get(name) == value for name, value in facts.items()):
                yield journal, header


def journal_header(settings: Settings, account: Optional[str], region: str) -> Dict[str, Any]:
    """What the first line of a journal says of the tables."""
    return collections.OrderedDict(
        [
            ("assets_table_name", plain_table_name(settings.assets_table_name)),
            ("asset_versions_table_name", plain_table_name(settings.asset_versions_table_name)),
            ("account", account),
            ("region", region),
            ("endpoint_url", redacted(settings.endpoint_url) if settings.endpoint_url else None),
        ]
    )


def check_credentials(session: Any, settings: Settings) -> Tuple[Optional[str], Check]:
    """The account, None where STS does not say it; the tables' ARNs do, then."""
    try:
        with explained("ask STS for the account", "STS"):
            caller = make_client(session, "sts", settings).get_caller_identity()
    except (TryAgain, Denied) as error:
        # Nobody needs a permission to ask, but the policy of a VPC endpoint for STS may deny it.
        cause = getattr(error, "cause", error)
        fix = "none is needed where only DynamoDB can be reached; the account is read from the tables then."
        return None, Check("warning", "credentials: the account is unknown: %s" % cause, fix)
    except MigrationError as error:
        return None, Check("error", "credentials: %s" % error.cause, error.fix)
    return caller["Account"], Check("ok", "credentials: account %s, %s" % (caller["Account"], caller["Arn"]))


# What waiting does not cure (API reference, TableDescription).
STATUS_FIXES = {
    "INACCESSIBLE_ENCRYPTION_CREDENTIALS": "have the KMS key of the table enabled, and DynamoDB permitted to use it, "
    "within seven days: then DynamoDB archives the table.",
    "ARCHIVED": "restore it from the backup that DynamoDB made of it, under its name.",
    "DELETING": "find out who deletes it; restore it from a backup.",
}


def check_table(
    client: Any, name: str, schema: Tuple[str, str], settings: Settings
) -> Tuple[Optional[Dict], List[Check]]:
    """The table's description, None where it cannot be had, and what is wrong with it."""
    from botocore import exceptions

    where, hint = "in %s" % client.meta.region_name, ""
    if settings.endpoint_url:
        where += " at %s" % settings.endpoint_url
        hint = " For tables in AWS, leave out endpoint_url (--endpoint-url)."
    try:
        table = client.describe_table(TableName=name)["Table"]
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        code = plain_code(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code == "ResourceNotFound":
            fix = "check the table names and --region; `aws dynamodb list-tables` shows what this profile can see."
            return None, [Check("error", "table %s was not found %s" % (name, where), fix + hint)]
        if code.startswith("AccessDenied"):
            fix = "grant dynamodb:DescribeTable and what else the README's IAM policy lists."
            return None, [Check("error", "table %s: %s" % (name, error), fix)]
        fix = "check the network, the credentials, --endpoint-url and --region."
        if settings.endpoint_url and isinstance(error, exceptions.EndpointConnectionError):
            fix = "start what serves %s; `python local_dynamodb.py` does for sample assets." % settings.endpoint_url
        return None, [Check("error", "table %s: %s" % (name, error), fix + hint)]
    busy = ["%s is %s" % (index["IndexName"], index["IndexStatus"]) for index in busy_indexes(table)]
    if table["TableStatus"] != "ACTIVE" and not (table["TableStatus"] == "UPDATING" and busy):
        fix = STATUS_FIXES.get(table["TableStatus"], "wait until it is ACTIVE.")
        return table, [Check("error", "table %s is %s" % (name, table["TableStatus"]), fix)]
    types = {part["AttributeName"]: part["AttributeType"] for part in table["AttributeDefinitions"]}
    keys = [(part["AttributeName"], types[part["AttributeName"]]) for part in table["KeySchema"]]
    wanted = [(part, "S") for part in schema]
    if keys != wanted:
        text = "table %s has the key %s, not %s" % (name, _key_text(keys), _key_text(wanted))
        return table, [Check("error", text, "check that the two table names are right and not exchanged.")]
    if busy:
        text = "table %s: %s, index %s" % (name, table["TableStatus"], ", ".join(busy))
        return table, [Check("warning", text, "better wait until it is ACTIVE; the index slows all writes meanwhile.")]
    return table, [Check("ok", "table %s: ACTIVE, key %s" % (name, _key_text(keys)))]


def check_replicas(table: Dict[str, Any]) -> List[Check]:
    """Between the Regions of a global table the last write wins, whatever its condition was, unless they are strongly
    consistent. Source: developer guide, "How DynamoDB global tables work"."""
    others = {replica["RegionName"] for replica in table.get("Replicas", ())} - {table["TableArn"].split(":")[3]}
    if not others or table.get("MultiRegionConsistency") == "STRONG":
        return []
    text = "table %s has replicas: what is written in %s meanwhile can get lost"
    fix = "have nobody write there until the run has ended and its changes have arrived."
    return [Check("warning", text % (table["TableName"], ", ".join(sorted(others))), fix)]


def busy_indexes(table: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The indexes that are being made, changed or deleted."""
    return [
        index for index in table.get("GlobalSecondaryIndexes", ()) if index.get("IndexStatus", "ACTIVE") != "ACTIVE"
    ]


def written_indexes(table: Dict[str, Any], fields: Optional[Sequence[str]]) -> List[str]:
    """The names of a table's indexes that a write of these attributes changes too; None: of whole items."""
    names = []
    for index in table.get("GlobalSecondaryIndexes", []) + table.get("LocalSecondaryIndexes", []):
        projection = index.get("Projection", {})
        held = {part["AttributeName"] for part in index["KeySchema"]}.union(projection.get("NonKeyAttributes", ()))
        if fields is None or projection.get("ProjectionType") == "ALL" or held.intersection(fields):
            names.append(index["IndexName"])
    return names


def check_owner(given: str, table: Optional[Dict[str, Any]], account: Optional[str]) -> List[Check]:
    """A table given by its ARN is to be this account's and region's: BatchExecuteStatement reaches no other.
    Source: developer guide, "DynamoDB API operations supported by resource-based policies".
    table: what was found under its name."""
    if not given.startswith("arn:") or (table and table["TableArn"] == given):
        return []
    region, owner = given.split(":")[3:5]
    if table is None and owner == account:
        return []
    text = "table %s is of account %s, region %s; this is account %s" % (given, owner, region, account or "unknown")
    return [Check("error", text, "use credentials of account %s and --region %s." % (owner, region))]


PROBE_KEY = "vams-migration-preflight-"
PROBE_ATTEMPTS = 8


class Probe(NamedTuple):
    """A write that changes nothing, whatever DynamoDB makes of its condition."""

    change: Change
    item: str  # which one, in words
    answers: Tuple[Optional[str], ...]  # the codes that are right, None for success


def check_writes(database: Database) -> List[Check]:
    """Send what a run that writes sends, by the same path."""
    probes, found = probes_of_absent_items(database), []  # type: List[Probe], List[Check]
    try:
        with _errors_in(found):
            probes += _until_served(probe_of_asset, database)
        try:
            found += _probed(database, probes)
        except MigrationError:
            for probe in probes:  # each alone, so that all that is missing shows at once
                with _errors_in(found):
                    found += _probed(database, [probe])
    except TryAgain as error:
        text = "writes could not be tried, DynamoDB did not serve them: %s" % error
        found.append(Check("warning", text, "see whether the run gets on."))
    return found or [Check("ok", "writes: permitted, and refused where their conditions do not hold")]


@contextlib.contextmanager
def _errors_in(checks: List[Check]):
    try:
        yield
    except MigrationError as error:
        checks.append(Check("error", error.cause, error.fix))


def probes_of_absent_items(database: Database) -> List[Probe]:
    """Conditional writes of items that do not exist, and an insert of one that cannot: its key is empty."""
    expected = {"currentVersion": NULL, "currentVersionId": None}  # type: Dict[str, Optional[Value]]
    probes = []
    for table in (database.assets, database.versions):
        # A batch may name an item once only.
        own, other = [(table, name, name) for name in (_unused_key(), _unused_key())]
        update = Change("UPDATE", own, 1, {"currentVersionId": {"S": "0"}}, ("currentVersion",), expected)
        probes.append(Probe(update, "that does not exist", ("ConditionalCheckFailed",)))
        delete = Change("DELETE", other, 1, expected=expected)
        # AWS documents success.
        probes.append(Probe(delete, "that does not exist", ("ConditionalCheckFailed", None)))
    key = (database.versions, _unused_key(), "")
    record = dict(zip(database.key_names[database.versions], ({"S": key[1]}, {"S": key[2]})))
    return probes + [Probe(Change("INSERT", key, 1, record), "with an empty key", ("ValidationError",))]


def probe_of_asset(database: Database) -> List[Probe]:
    """A write of an asset, if there is any, whose condition does not hold. All that it would do is to remove an
    attribute that no asset has. Where it is done, conditions are not looked at, and nothing protects the assets."""
    request = {"Limit": 1, "ProjectionExpression": "databaseId, assetId"}
    probes = []
    for item in database.read_page(database.assets, request).items:
        key = database.key_of(database.assets, item)
        change = Change("UPDATE", key, 1, removed=(PROBE_KEY,), expected={PROBE_KEY: NULL})
        probes.append(Probe(change, "whose condition does not hold", ("ConditionalCheckFailed",)))
    return probes


def _unused_key() -> str:
    return "%s%032x" % (PROBE_KEY, random.getrandbits(128))


def _until_served(function: Callable, *arguments: Any) -> Any:
    """What a request returns. Raises TryAgain where it is never served."""
    for attempt in range(PROBE_ATTEMPTS - 1):
        with contextlib.suppress(TryAgain):
            return function(*arguments)
        time.sleep(random.uniform(0.0, 0.05 * 2**attempt))
    return function(*arguments)


def _answers(database: Database, probes: List[Probe]) -> List[Tuple[Optional[str], str]]:
    answers, _ = database.execute([database.statement_of(probe.change) for probe in probes])
    for code, _ in answers:
        if code in THROTTLE_CODES + PASSING_CODES:
            raise TryAgain(code)
    return answers


def _probed(database: Database, probes: List[Probe]) -> List[Check]:
    """What is wrong with the answers to these writes."""
    checks = []
    for probe, (code, message) in zip(probes, _until_served(_answers, database, probes)):
        kind, (table, *key) = probe.change.kind, probe.change.key
        if code is not None and code.startswith(("AccessDenied", "ResourceNotFound")):
            error = fatal_error(code, message, "%s items of table %s" % (kind, table))
            checks.append(Check("error", error.cause, error.fix))
        elif code not in probe.answers:
            text = "%s of an item of table %s %s (%s): expected %s, came %s" % (
                *(kind, table, probe.item, name_of(*key), probe.answers[0]),
                "success" if code is None else "%s: %s" % (code, message),
            )
            fix = "do not migrate by this endpoint: its conditions are not to be trusted. Show this to the VAMS team."
            checks.append(Check("error", text, fix))
    return checks


def check_cloudshell(settings: Settings) -> List[Check]:
    if os.environ.get("AWS_EXECUTION_ENV") != "CloudShell":
        return []
    room = "" if is_s3(settings.journal_dir) else "its home folder holds 1 GB, and "
    text = "this is AWS CloudShell: %san idle session ends, and the run with it" % room
    return [Check("warning", text, 'read "AWS CloudShell" in the README, or use another machine.')]


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
    except exceptions.BotoCoreError as error:
        return Check("warning", "bucket %s could not be looked at: %s" % (name, error), "check the name yourself.")
    return Check("ok", "bucket %s exists" % name)


def check_bucket_files(session: Any, client: Any, settings: Settings) -> Check:
    """Whether the bucket is that of these assets: another stage's would make every one of them wrong.
    Of a sample whose old key begins with <assetId>/, does any have files there?"""
    from botocore import exceptions

    name = settings.asset_bucket_name
    if settings.bucket_without_files:
        return Check("skipped", "files in bucket %s were not looked for" % name)
    request = {"TableName": plain_table_name(settings.assets_table_name), "Limit": SCANNED_FOR_FILES}
    request["ProjectionExpression"] = "databaseId, assetId, assetLocation"
    looked_at = 0
    try:
        s3 = make_client(session, "s3", settings)
        for asset in client.scan(**request)["Items"]:
            prefix = asset["assetId"]["S"] + "/"
            key = usable_key(asset.get("assetLocation")) or ""
            if is_archived(asset) or not key.startswith(prefix) or looked_at == LOOKED_FOR_FILES:
                continue
            if s3.list_objects_v2(Bucket=name, Prefix=prefix, MaxKeys=1).get("KeyCount"):
                return Check("ok", "bucket %s holds files of the assets" % name)
            looked_at += 1
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        return Check(
            "warning", "files of the assets could not be looked for: %s" % error, "check --asset-bucket yourself."
        )
    if looked_at < TELLING_WITHOUT_FILES:
        return Check("skipped", "too few assets have keys that tell whether bucket %s is theirs" % name)
    fix = "check --asset-bucket: it may be another stage's. If it is right, give --bucket-without-files."
    return Check("error", "bucket %s holds no files of any of %d assets" % (name, looked_at), fix)


def check_folders(storage: Storage, settings: Settings, keys: Sequence[str]) -> List[Check]:
    """Whether report and journal can be written where they are to be. keys: of the settings that say where."""
    checks = []  # type: List[Check]
    for path in dict.fromkeys(getattr(settings, key) for key in keys if is_s3(getattr(settings, key))):
        found = check_s3_folder(storage.folder(path), settings)
        checks += [check for check in found if check not in checks]  # both may be in one bucket
    for key in keys:
        path = getattr(settings, key)
        folder = existing_part(path)
        if not is_s3(path) and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
            text = "%s: nothing can be written in %s" % (key, folder)
            checks.append(Check("error", text, "choose another folder with %s." % SETTINGS[key].flag))
    return checks


PROBE_NAME = "vams_migration_may_write_here.txt"


def check_s3_folder(folder: S3Folder, settings: Settings) -> List[Check]:
    """Whether objects can be stored and listed there, and whether the public could read them."""
    try:
        # It is not removed, so that no permission to delete is needed.
        folder.write(PROBE_NAME, io.BytesIO(b"The preflight stores this object to see that it may.\n"))
        folder.names(PROBE_NAME)
    except MigrationError as error:
        return [Check("error", error.cause.rstrip("."), error.fix)]
    checks = [Check("ok", "%s can be written" % folder.path), check_not_public(folder)]
    if folder.bucket == settings.asset_bucket_name:
        text = "%s is in the bucket of the assets, which the application knows" % folder.path
        checks.append(Check("warning", text, "take a bucket of its own: it holds whole assets, and no file of one."))
    return checks


def check_not_public(folder: S3Folder) -> Check:
    """Objects are private of themselves; the bucket's policy could open them to everybody."""
    bucket, fix = folder.bucket, "turn on Block Public Access for it: `aws s3api put-public-access-block`."
    try:
        answer = _asked(folder, folder.client.get_public_access_block, "NoSuchPublicAccessBlockConfiguration")
        blocked = answer.get("PublicAccessBlockConfiguration", {})
        if blocked.get("RestrictPublicBuckets") and blocked.get("IgnorePublicAcls"):
            return Check("ok", "bucket %s is not public" % bucket)
        answer = _asked(folder, folder.client.get_bucket_policy_status, "NoSuchBucketPolicy")
    except MigrationError as error:
        fix = "look yourself, or grant s3:GetBucketPublicAccessBlock and s3:GetBucketPolicyStatus."
        return Check("warning", "bucket %s may be public: %s" % (bucket, error.cause.rstrip(".")), fix)
    if answer.get("PolicyStatus", {}).get("IsPublic"):
        return Check("error", "bucket %s is public: everybody could read the assets" % bucket, fix)
    return Check("warning", "public access to bucket %s is not blocked; at present its policy gives none" % bucket, fix)


def _asked(folder: S3Folder, operation: Callable[..., Dict[str, Any]], nothing: str) -> Dict[str, Any]:
    """What S3 says of a bucket; {} for the code that says that there is nothing."""
    from botocore import exceptions

    def ask() -> Dict[str, Any]:
        try:
            return operation(Bucket=folder.bucket)
        except exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != nothing:
                raise
            return {}

    return folder.served("see whether bucket %s is public" % folder.bucket, ask)


def existing_part(path: str) -> str:
    """The path itself, or the nearest one above it that exists."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def check_disk(settings: Settings, table_bytes: int) -> List[Check]:
    """The journal takes about one and a half times the table's size."""
    if is_s3(settings.journal_dir):
        return []
    needed = 1.5 * table_bytes + 10**7
    try:
        free = shutil.disk_usage(existing_part(settings.journal_dir)).free
    except OSError as error:  # a drive or share that is not there
        return [Check("warning", "disk: %s: %s" % (settings.journal_dir, error.strerror), "check --journal-dir.")]
    text = "disk: %s MB free for the journal, about %s MB needed" % (free // 10**6, int(needed) // 10**6)
    if free < needed and not settings.dry_run:
        return [Check("warning", text, "make room, or choose another --journal-dir.")]
    return [Check("ok", text)]


# --------------------------------------------------------------------------------------
# Report and progress
# --------------------------------------------------------------------------------------

REPORT_COLUMNS = ("database_id", "asset_id", "outcome", "code", "field", "message")

# What a dry run calls an outcome, so that nobody takes its report for that of a migration.
DRY_RUN_OUTCOMES = {"migrated": "would_migrate", "failed": "would_fail"}

FAILURES = collections.OrderedDict(
    [
        ("invalid_version_id", 'the version number is not an integer once every "v" is out'),
        ("invalid_current_version", "`currentVersion` is neither a map nor null"),
        (
            "conflicting_version_ids",
            "`currentVersionId` and `currentVersion.Version` differ, and no version record has that id",
        ),
        (
            "version_conflict",
            "this assetId and version has a version record already, with other content; the verification by the"
            " journals says whether another asset has them too",
        ),
        ("changed_during_migration", "others changed the asset five times in a row"),
        (
            "rejected_by_dynamodb",
            "DynamoDB does not accept the item, for example because it would exceed 400 KB",
        ),
    ]
)
WARNINGS = collections.OrderedDict(
    [
        ("version_missing", 'no version number was found; "0" was used'),
        ("version_from_history", "there was no `currentVersion`; the last entry of `versions` was used"),
        (
            "date_not_recognised",
            "`DateModified` had another form and was taken over as it is; but for an ISO date the application may show"
            ' "Invalid Date"',
        ),
        ("pipelines_dropped", "something in `specifiedPipelines` was no name and was left out"),
        (
            "files_outside_prefix",
            "the old key did not begin with `<assetId>/`; those files stay where they are in S3 and need moving",
        ),
        (
            "preview_location_removed",
            "`previewLocation` named no file; the application could not have listed any asset with it",
        ),
        ("preview_bucket_replaced", "`previewLocation` named another bucket"),
        (
            "archived_twin",
            "an archived asset has the same assetId and version as another one; both share that one's version record",
        ),
        (
            "shared_version_record",
            "its version record was there already with another date, of an asset of another database that has the same"
            " assetId, version and content, or of an earlier run; both use it",
        ),
        (
            "record_stays",
            "a version record was left where it is, because another asset needs it or may have made it, or no journal"
            " given says that the tool made it",
        ),
        ("repaired", "with `--repair`: an attribute that the application would refuse was set right"),
        ("is_distributable_not_boolean", "`isDistributable` is not true or false; not ours to change"),
        (
            "asset_id_is_shared_prefix",
            "the assetId is `previews`, `pipelines` or `temp-uploads`, under which other files lie",
        ),
        ("name_or_description_missing", "`assetName` or `description` is missing or not text; not ours to change"),
    ]
)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def iso_utc(moment: datetime.datetime) -> str:
    """2025-06-24T17:59:56Z; year in four digits on every platform."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


LOG_TIME = re.compile(r"_([0-9]{8}T[0-9]{6}Z(_[0-9]+)?)\.log\Z")


def unused_stem(folders: Sequence[Any], prefix: str, moment: datetime.datetime, log_file: Optional[str] = None) -> str:
    """A file name without ending, after the time, that no file in these folders has.
    folders: as Storage.folder gives them, that of the report first. In S3 the report's name is taken at once.
    log_file: where its name ends with a time, as a wrapper names it, the files of the run have that time too.
    Makes the folders. Raises PreflightError where that cannot be."""
    of_log = LOG_TIME.search(log_file or "")
    stem = stem_without_number = "%s_%s" % (prefix, of_log.group(1) if of_log else moment.strftime("%Y%m%dT%H%M%SZ"))
    taken = set()  # type: set
    for folder in folders:
        try:
            with preparing():
                folder.make()
                taken.update(name.rstrip("/").split(".")[0] for name in folder.names(stem))
        except OSError as error:
            raise PreflightError(
                "Folder %s cannot be used: %s." % (folder.path, error.strerror),
                "choose others with --journal-dir and --report-dir.",
            )
    number = 2
    while stem in taken:
        stem = "%s_%d" % (stem_without_number, number)
        number += 1
    with preparing():
        folders[0].reserve(stem + ".csv")
    return stem


def create_private(path: str, **options: Any) -> Any:
    """open_private, with a PreflightError where the file cannot be made."""
    with beginning(path):
        return open_private(path, **options)


@contextlib.contextmanager
def beginning(path: str):
    """Nothing was written in DynamoDB yet: a file that cannot be written is a PreflightError."""
    try:
        yield
    except OSError as error:
        raise PreflightError(
            "%s cannot be written: %s." % (path, error.strerror), "make room, or choose a folder where you may write."
        )


@contextlib.contextmanager
def preparing():
    """Nothing was written in DynamoDB yet: what S3 refuses is a PreflightError."""
    try:
        yield
    except (SettingsError, PreflightError):
        raise
    except MigrationError as error:
        raise PreflightError(error.cause, error.fix)


class CsvReport:
    """A CSV file, readable by its owner only, that gets its rows one by one."""

    def __init__(self, path: str, columns: Iterable[str]) -> None:
        self.path = path
        # Excel takes UTF-8 for what it is by its mark. A row is in the file as soon as it is added: who kills
        # the run loses none.
        self._file = create_private(path, newline="", encoding="utf-8-sig", buffering=1)
        self._writer = csv.writer(self._file)
        self.rows = 0
        self._complete = True
        with beginning(path):
            self._writer.writerow(list(columns))

    def add_row(self, cells: Iterable[Any]) -> None:
        self.rows += 1
        with self._writing():
            self._writer.writerow([spreadsheet_safe(cell) for cell in cells])

    def close(self) -> None:
        with self._writing():
            self._file.close()

    @contextlib.contextmanager
    def _writing(self):
        """As reporting; says so at once, for something else may have ended the run before."""
        try:
            with reporting(self.path):
                yield
        except MigrationError as error:
            if self._complete:
                LOG.error("%s Rows may be missing in it.", error.cause)
            self._complete = False
            raise


class Report(CsvReport):
    """One row for each warning, failure and vanished asset of a migration."""

    def __init__(self, path: str, names: Mapping[str, str] = MappingProxyType({})) -> None:
        """names: other names of outcomes."""
        super().__init__(path, REPORT_COLUMNS)
        self.names = names

    def add(self, database_id: str, asset_id: str, outcome: str, finding: Finding) -> None:
        outcome = self.names.get(outcome, outcome)
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
    """A JSON file, readable by its owner only; whole at once, also in the place of another one. Where that cannot be,
    the summary does not name it any more."""
    part = path + ".part"
    try:
        with reporting(path):
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)  # of a run that was killed
            with open_private(part) as file:
                json.dump(summary, file, indent=2)
                file.write("\n")
            os.replace(part, path)
    except BaseException:
        del summary["files"]["summary"]
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


class Outputs:
    """The files that a run writes. Those with names in S3 are written on this machine and stored there at its end."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._folder = ""
        self._copies = collections.OrderedDict()  # type: collections.OrderedDict

    def path_of(self, name: str) -> str:
        """Where a file of this name is written."""
        if not is_s3(name):
            return name
        self._folder = self._folder or tempfile.mkdtemp(prefix="vams-migration-")
        copy = os.path.join(self._folder, "%d_%s" % (len(self._copies), name.rpartition("/")[2]))
        return self._copies.setdefault(name, copy)

    def store(self) -> None:
        """Raises MigrationError, and leaves them on this machine, where they cannot be stored."""
        for name in self._copies:
            self.store_one(name)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def store_despite(self, error: Optional[BaseException]) -> Optional[BaseException]:
        """Store them whatever came before. Returns the first error; one of here says where the files lie, and is said
        where it comes later."""
        later = ending(self.store)
        if error is not None and isinstance(later, MigrationError):
            announce("error: %s" % later, sys.stderr)
        return error or later

    def store_one(self, name: str) -> None:
        """Store the file of this name as it is now. Raises as `store`."""
        if not is_s3(name):
            return
        folder, _, file_name = name.rpartition("/")
        try:
            with reporting(self._copies[name]), open(self._copies[name], "rb") as file:
                self._storage.folder(folder).write(file_name, file)
        except MigrationError as error:
            text = "%s. What was to be stored lies in %s" % (error.cause.rstrip("."), self._folder)
            raise MigrationError(text, "copy it from there; " + error.fix)


def public_settings(settings: Settings) -> Dict[str, Any]:
    """The settings as they may be written down."""
    values = collections.OrderedDict(settings._asdict())
    for key in KEY_SCHEMAS:
        values[key] = plain_table_name(values[key])
    if settings.endpoint_url:
        values["endpoint_url"] = redacted(settings.endpoint_url)
    return values


def counted(count: int, name: str) -> str:
    return "{} {}{}".format("{:,}".format(count) if count else "no", name, "" if count == 1 else "s")


def duration_text(seconds: float) -> str:
    if seconds < 90:
        return "%d s" % seconds
    if seconds < 5400:
        return "%d min" % round(seconds / 60)
    return "%.1f h" % (seconds / 3600)


class Progress:
    """How far it is: a bar on a terminal where tqdm is installed, and a line in the log every few seconds.

    `total` is DynamoDB's own count, up to six hours old. Where it turns out too low, neither
    percentage nor time left is shown.
    """

    def __init__(self, total: int, terminal: bool, writes: bool = True) -> None:
        """writes: whether it is of a run that writes, or shows what one would."""
        self.total = total
        self.writes = writes
        self.samples = collections.deque([(time.monotonic(), 0, 0.0)], 60)  # type: collections.deque
        self.shown_at = time.monotonic()
        self.stopping = False
        self.bar = _make_bar(total) if terminal else None

    def show(self, finished: int, counts: str, run: Run) -> None:
        """finished: assets; counts: how many of each kind, in words; run: tells its units and why it waits."""
        now = time.monotonic()
        self.samples.append((now, finished, run.write_units))
        # Half a second after the stop what is not begun is dropped.
        pace = "stopping, {:,} still under way".format(run.under_way) if self.stopping else self.pace()
        self.stopping = run.stopping
        reason = redacted(run.waiting_for())
        if reason:
            pace += "  [%s]" % reason
        if self.bar is not None:
            self.bar.n = finished
            self.bar.total = max(self.total, finished)
            with despite_a_closed_terminal(sys.stderr):
                # What a narrow terminal cuts off comes last.
                self.bar.set_description_str(encodable("%s  %s" % (pace, counts), sys.stderr), refresh=True)
        if now - self.shown_at >= STATUS_SECONDS:
            self.shown_at = now
            # Beside a bar, only the log file gets it.
            LOG.info("%s  %s", counts, pace, extra={"announced": self.bar is not None})

    def pace(self) -> str:
        """How far, how fast and how long still, by the last half minute."""
        first, middle, last = self.samples[0], self.samples[len(self.samples) // 2], self.samples[-1]
        rate, units_rate = rates(first, last)
        finished = last[1]
        parts = ["{:,.0f}/s".format(rate)]
        if units_rate > 0:
            parts.append("{:,.0f} units/s".format(units_rate))
        if 0 < finished <= self.total:
            parts.insert(0, "%d%%" % (100 * finished // self.total))
            # Unchanged assets go by far faster than those that are written: where the rate has just changed it says
            # nothing of what comes, and where nothing was written, what there is to write is still to come.
            earlier, later = rates(first, middle)[0], rates(middle, last)[0]
            left = (self.total - finished) / max(rate, 0.001)
            if left >= 1 and max(earlier, later) < 1.5 * min(earlier, later):
                to_come = self.writes and units_rate == 0
                parts.append("%s %s left" % ("at least" if to_come else "about", duration_text(left)))
        return "  ".join(parts)

    def close(self) -> None:
        if self.bar is not None:
            with despite_a_closed_terminal(sys.stderr):
                self.bar.close()


def rates(start: Tuple[float, int, float], end: Tuple[float, int, float]) -> Tuple[float, float]:
    """Assets and write units a second between two samples of (seconds, assets, write units)."""
    seconds = max(end[0] - start[0], 0.001)
    return (end[1] - start[1]) / seconds, (end[2] - start[2]) / seconds


def _make_bar(total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    with contextlib.suppress(OSError):  # not asked of what is no terminal to the system
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return None  # `script` without a terminal of its own makes such a one
    return tqdm(total=total, bar_format="{bar:10} {desc}", file=sys.stderr, leave=False)


def encodable(text: str, stream: Any) -> str:
    """Text as a console can show it: a character that its encoding lacks is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextlib.contextmanager
def despite_a_closed_terminal(stream: Any):
    """A terminal that was closed takes no more output, which is no reason to stop: then it goes nowhere."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        silence(stream)


def silence(stream: Any) -> None:
    """What is written goes nowhere from now on, and the interpreter has nothing to complain of at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def above_the_bar():
    """What is written meanwhile stands above the progress bar, if there is one."""
    if "tqdm" not in sys.modules:
        yield
        return
    with sys.modules["tqdm"].tqdm.external_write_mode(file=sys.stderr):
        yield


class OutputClosed(Exception):
    """Nobody reads the output any more."""


def show(text: str, stream: Any) -> None:
    """Print something. What stdout cannot take, for its disk is full, goes to stderr from then on.
    Raises OutputClosed where nobody reads stdout any more."""
    try:
        with despite_a_closed_terminal(stream), above_the_bar():
            print(encodable(text, stream), file=stream, flush=True)
    except OSError as error:
        silence(stream)
        if stream is not sys.stdout:
            return
        if error.errno in (errno.EPIPE, errno.EINVAL):  # the latter on Windows
            raise OutputClosed
        stream.flush()  # what it still holds of the text goes nowhere
        show("error: The output cannot be written: %s. What is left of it comes here." % error.strerror, sys.stderr)
        show(text, sys.stderr)
        divert_output()


class Console(logging.StreamHandler):
    """Log messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_the_bar():
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return encodable(super().format(record), self.stream)

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):  # nobody can see it any more
            silence(self.stream)
        else:
            super().handleError(record)


class LogFile(logging.FileHandler):
    """Log messages in a file. That it cannot be written any more is said once, and no reason to stop."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            silence(self.stream)
            show("error: The log %s cannot be written any more: %s." % (self.baseFilename, error.strerror), sys.stderr)
        else:
            super().handleError(record)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def script_path(file: str) -> str:
    """Where a script lies, by its __file__, also where it was started by a symbolic link."""
    return os.path.realpath(file) if os.path.islink(file) else os.path.abspath(file)


def script_folder() -> str:
    """Where all files of this tool are to be."""
    return os.path.dirname(script_path(__file__))


SCRIPT = os.path.basename(script_path(__file__))
ORIGINAL = "v2.2_to_v2.3_migration.py"  # whose CONFIG the other scripts have, not that of a copy
VERIFICATION_SCRIPT = "v2.2_to_v2.3_migration_verify.py"
BEGINNING = 10  # assets, for the first migration
# Names the file that gets the next step, for whom one screen has several steps; a run that an error stopped gives none.
NEXT_VARIABLE = "VAMS_MIGRATION_NEXT"
# How the migration was called there, in JSON: the words of a command, and those flags that any run after it needs too.
WRAPPER_VARIABLE = "VAMS_MIGRATION_WRAPPER"


def guarded(command: Callable[[Optional[List[str]]], int], argv: Optional[List[str]]) -> int:
    """Run a command; turn an expected failure into one message and its exit status."""
    with contextlib.ExitStack() as at_the_end:
        try:
            with terminated_as_interrupted(at_the_end):
                return command(argv)
        except MigrationError as error:
            announce("error: " + "\n".join(map(printable, str(error).split("\n"))), sys.stderr)
            return error.exit_status
        except KeyboardInterrupt as interrupt:
            announce(str(interrupt) or "Interrupted.", sys.stderr)
            return EXIT_INTERRUPTED
        except OutputClosed:
            with contextlib.suppress(OutputClosed):
                announce("Nobody reads the output any more, so nothing more is begun here.", sys.stderr)
            return EXIT_INTERRUPTED
        finally:
            close_log()


def close_log() -> None:
    for handler in list(LOG.handlers):
        LOG.removeHandler(handler)
        handler.close()


def announce(text: str, stream: Any = None, level: Optional[int] = None) -> None:
    """Say something and log it; whatever the log level is, unless a `level` is given.
    Raises OutputClosed where nobody reads the results any more."""
    text = redacted(text)
    stream = stream or sys.stdout
    if LOG.handlers:
        logged_at = level or (logging.CRITICAL if stream is sys.stderr else logging.INFO)
        LOG.log(logged_at, "%s", text, extra={"announced": True})
    if level is None or LOG.isEnabledFor(level):
        show(text, stream)


def tell(text: str, level: Optional[int] = None) -> None:
    """Say something of a run on its way, as announce does. That nobody reads it changes nothing of what is done."""
    with contextlib.suppress(OutputClosed):
        announce(text, level=level)


def insist(text: str) -> None:
    """Say what came of a run; where nobody reads stdout any more, as when Ctrl-C has ended `tee` too, on stderr, as all
    that follows."""
    try:
        announce(text)
    except OutputClosed:
        divert_output()
        show(redacted(text), sys.stderr)


def divert_output() -> None:
    """What goes to stdout comes on stderr from now on."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def configured(parser: Parser, argv: Optional[List[str]]) -> Tuple[Settings, Dict[str, Any]]:
    """The settings, and what was typed. The log is set up; if it was typed, it gets what is wrong with the settings."""
    typed = parsed(parser, argv)
    if typed.get("log_file"):
        configure_logging("INFO", typed["log_file"])
    settings, configured_values = read_settings(typed.get("config"), typed)
    configure_logging(settings.log_level, settings.log_file)
    warn_of_placeholders(settings, configured_values)
    if typed.get("dry_run") and configured_values.get("dry_run"):
        del typed["dry_run"]  # said twice: without it the next command, which is to write, says --no-dry-run
    return settings, typed


def warn_of_placeholders(settings: Settings, configured_values: Dict[str, Any]) -> None:
    """Without a profile or a region of its own it may be another account that the environment's are for."""
    for key in ("aws_profile", "aws_region") if is_aws(settings) else ():
        value = configured_values.get(key)
        if isinstance(value, str) and PLACEHOLDER.match(value) and getattr(settings, key) is None:
            text = 'warning: %s still is %s, so the environment\'s own is used. If that is meant, make it "".'
            LOG.warning(text, key, value)


def parsed(parser: Parser, argv: Optional[List[str]]) -> Dict[str, Any]:
    """What was typed. The texts of --help and --version are shown as all others are. Raises SettingsError for an empty
    value, which a variable of a shell that is not set may be, and for a setting's placeholder: without it other assets
    or tables may be meant."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            typed = vars(parser.parse_args(argv))
    except SystemExit:
        announce(text.getvalue().rstrip("\n"))
        raise
    for name, value in typed.items():
        if flag_of(name) in parser._option_string_actions and has_empty_text(value):
            raise SettingsError("%s is empty." % flag_of(name), "give a value, or leave it out.")
        if name in SETTINGS and isinstance(value, str) and PLACEHOLDER.match(value):
            raise SettingsError("%s still is %s." % (flag_of(name), value), "give your own, or leave it out.")
    return typed


def has_empty_text(value: Any) -> bool:
    return value == "" or (isinstance(value, list) and any(map(has_empty_text, value)))


def configure_logging(level: str, path: Optional[str]) -> None:
    """The console gets messages, the file gets them with time and level."""
    close_log()
    LOG.setLevel(level)
    LOG.propagate = False
    console = Console(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: not getattr(record, "announced", False))
    LOG.addHandler(console)
    if path is None:
        return
    if is_s3(path):
        raise SettingsError("Log file %s is in S3, where nothing can be appended." % path, "give one on this machine.")
    try:
        folder = os.path.dirname(path)
        if folder:
            make_folder(folder)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        require_log(path)
        file = LogFile(path)
    except OSError as error:
        raise SettingsError("Log file %s cannot be written: %s." % (path, error.strerror), "choose another --log-file.")
    file.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(message)s"))
    file.formatter.converter = time.gmtime  # type: ignore[union-attr]
    LOG.addHandler(file)


def require_log(path: str) -> None:
    """Raises SettingsError where a log would be appended to another kind of file, such as a journal."""
    # Of a device, which /dev/stderr names, who called this tool has chosen the file. /dev/shm is a folder in memory.
    if not os.path.isfile(path) or re.match("/dev/(?!shm/)", os.path.abspath(path)):
        return
    with open(path, "rb") as file:
        beginning = file.read(100000)  # that of an older log may have been cut off
    if beginning and not LOG_LINE.search(beginning):
        raise SettingsError("%s is there, and is no log of this tool." % path, "choose another --log-file.")


LOG_LINE = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}Z [A-Z]+ ", re.MULTILINE)


def stopping_signals() -> List[int]:
    """SIGHUP is that of a closed terminal, which `nohup` has ignored; SIGBREAK that of Ctrl-Break on Windows."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in numbers if number != hangup or signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def terminated_as_interrupted(at_the_end: contextlib.ExitStack):
    """Where nothing else is done about them, SIGTERM and a closed terminal raise KeyboardInterrupt, as Ctrl-C does.
    Afterwards none of them does anything: what came of it is said in peace. `at_the_end` all is as it was."""

    signalled_at = []  # type: List[float]

    def interrupt(signal_number, frame):
        now = time.monotonic()
        # They arrive twice: from the sender and from the wrapper; the hangup of a shell that ends later too.
        if signalled_at and (now - signalled_at[0] < 1 or signal_number == getattr(signal, "SIGHUP", None)):
            return
        signalled_at.append(now)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in stopping_signals()}
    for number, handler in before.items():
        at_the_end.callback(signal.signal, number, handler)
        if handler == signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def interruptible(run: Run):
    """Ctrl-C, SIGTERM and a closed terminal stop the run in good order, and leave it the time to report; the second one
    ends the process."""

    signalled_at = []  # type: List[float]

    def stop(signal_number, frame):
        now = time.monotonic()
        # A signal to the process group arrives twice: from the sender and from the wrapper.
        if signalled_at and now - signalled_at[0] > 1 and signal_number != hangup:
            say("\nStopped at once. Run the same command again to finish.\n")
            os._exit(EXIT_INTERRUPTED)
        if not signalled_at:
            signalled_at.append(now)
            run.stopped_by = signal.Signals(signal_number).name
            run.stop()
            say("\nFinishing what is under way. Ctrl-C again, after a second, stops at once.\n")

    def say(text):
        with contextlib.suppress(OSError, AttributeError):  # nobody can see it
            # Not by its buffer, which may be in use when the signal comes.
            os.write(sys.stderr.fileno(), text.encode("ascii"))

    hangup = getattr(signal, "SIGHUP", None)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in stopping_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            # The second hangup, of a shell that ends, is not to end the process before its report is written.
            signal.signal(number, signal.SIG_IGN if number == hangup and signalled_at else handler)


def run_to_end(
    run: Run,
    pages: Any,
    do: Callable[[Any], Any],
    progress: Progress,
    counts: Callable[[], Tuple[int, str]],
) -> Optional[BaseException]:
    """Execute a run with its progress; counts() says how much is finished, and that in words.
    Returns what made it stop early, for the report comes first."""
    try:
        with rare_garbage_collection():
            return ending(lambda: run.execute(pages, do, lambda run: progress.show(*counts(), run)))
    finally:
        progress.close()
        if run.stopped_by:
            LOG.info("%s stopped it.", run.stopped_by, extra={"announced": True})


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


def despite(error: Optional[BaseException], function: Callable[[], None]) -> Optional[BaseException]:
    """Call a function whatever came before. Returns the first error."""
    later = ending(function)
    return error or later


def connect(settings: Settings) -> Tuple[Any, Database]:
    session = make_session(settings)
    client = make_client(session, "dynamodb", settings)
    return session, Database(client, settings.assets_table_name, settings.asset_versions_table_name)


def announce_checks(checks: List[Check]) -> None:
    levels = {"warning": logging.WARNING, "error": logging.ERROR}
    for check in checks:
        fix = "\n           Fix: " + check.fix if check.fix else ""
        announce("  %-8s %s%s" % (check.level, check.text, fix), level=levels.get(check.level, logging.INFO))


def require(checks: List[Check]) -> None:
    """Show the checks of a preflight. Raises PreflightError, which names the remedies, if any failed."""
    announce_checks([check._replace(fix="") if check.level == "error" else check for check in checks])
    errors = [check for check in checks if check.level == "error"]
    if errors:
        first, *others = dict.fromkeys(check.fix for check in errors)
        raise PreflightError(
            "Preflight failed, nothing was written: %s." % "; ".join(check.text for check in errors),
            " ".join([first] + [fix[:1].upper() + fix[1:] for fix in others]),
        )


def confirm(question: str, settings: Settings, unattended: bool = True) -> None:
    """Ask on a terminal before anything is written; raises KeyboardInterrupt for anything but yes, and OutputClosed
    where nobody reads stdout any more.
    unattended: whether to go on where nobody can be asked; else SettingsError."""
    if settings.yes or settings.dry_run:
        return
    try:
        answer = ask(question, False)
    except KeyboardInterrupt:
        answer = False
    if answer is None and not unattended:
        raise SettingsError("Nobody can be asked: %s Nothing was written." % question, "give --yes to mean yes.")
    if answer is None:
        text = 'Nobody is asked "%s", for its input is no terminal, as under cron or behind a pipe. It goes on.'
        announce(text % question)
    if answer is False:
        raise KeyboardInterrupt("Nothing was written.")
    if answer:
        show("", sys.stdout)  # raises where the reader of stdout, and with it the plan, went while the question stood


def ask(question: str, default: bool) -> Optional[bool]:
    """Ask on the terminal until the answer is yes or no, or Enter for `default`. None where nobody can be asked.
    Raises KeyboardInterrupt for Ctrl-C and for the end of input."""
    if not is_terminal(sys.stdin):
        return None
    answers = {"": default, "y": True, "yes": True, "n": False, "no": False}
    if not is_terminal(sys.stdout):
        time.sleep(TEE_SECONDS)  # the plan may come to the terminal by way of another program
    while True:
        prompt("%s %s " % (question, "[Y/n]" if default else "[y/N]"))
        try:
            line = typed_line()
        except (KeyboardInterrupt, OSError):  # the latter of a terminal that was closed
            line = ""
        if not line:
            prompt("\n")
            raise KeyboardInterrupt
        answer = answers.get(line.strip().lower())
        if answer is None:
            prompt("Please answer y or n. ")
        else:
            LOG.info("%s %s", question, "yes" if answer else "no", extra={"announced": True})
            return answer


def typed_line() -> str:
    """What somebody types on the terminal, "" at its end. On POSIX a signal that comes just before a read is heard only
    after it, so nothing is read before it is there."""
    while os.name != "nt" and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline()


def prompt(text: str) -> None:
    """Show a question where somebody sees it, also when the output is redirected."""
    if not is_terminal(sys.stderr):
        with contextlib.suppress(OSError), open("CONOUT$" if os.name == "nt" else "/dev/tty", "w") as terminal:
            print(encodable(text, terminal), end="", file=terminal)
            return
    with despite_a_closed_terminal(sys.stderr):
        print(encodable(text, sys.stderr), end="", file=sys.stderr, flush=True)


TEE_SECONDS = 0.5
MINTTY_PIPE = re.compile(r"\\(msys|cygwin)-[0-9a-f]+-pty[0-9]+-(from|to)-master")


def is_terminal(stream: Any) -> bool:
    """Whether a person sits at a stream. `isatty` does not tell on Windows: it is true of NUL, and false in the
    window of Git Bash, which is a pipe with a name of its own."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or nothing of the system is behind it
        return False
    return _is_windows_terminal(descriptor) if os.name == "nt" else os.isatty(descriptor)


def _is_windows_terminal(descriptor: int) -> bool:
    """Source: Windows API, GetConsoleMode and GetFileInformationByHandleEx (2: FileNameInfo, which is
    the length of the name in bytes as a DWORD, then the name)."""
    import ctypes
    import msvcrt

    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))  # type: ignore[attr-defined]
    if kernel.GetConsoleMode(handle, ctypes.byref(ctypes.c_ulong())):
        return True
    info = ctypes.create_string_buffer(1024)
    if not kernel.GetFileInformationByHandleEx(handle, 2, info, len(info)):
        return False
    size = int.from_bytes(info.raw[:4], "little")
    return MINTTY_PIPE.search(info.raw[4 : 4 + size].decode("utf-16-le", "replace")) is not None


def tables_text(settings: Settings, site: Site) -> str:
    """The tables and where they are, for a question."""
    where = settings.endpoint_url or "account %s, region %s" % (site.account, site.region)
    return redacted("%s and %s (%s)" % (settings.assets_table_name, settings.asset_versions_table_name, where))


def describe_scope(settings: Settings) -> str:
    scope = "all assets"
    if settings.limit is not None:
        scope = counted(settings.limit, "asset") + ", in table order"
    if settings.database_id:
        scope += " of databaseId %s" % ", ".join(map(one_name, settings.database_id))
    if settings.asset_id is not None:
        scope = "asset %s" % name_of(settings.database_id[0], settings.asset_id)
    return scope


def describe_run(settings: Settings, site: Site, typed: Mapping[str, Any]) -> str:
    where = "CONFIG" if CONFIG.get("dry_run") else typed.get("config")
    dry = "DRY RUN%s, nothing is written" % ("" if "dry_run" in typed else " (dry_run in %s)" % where)
    rows = [
        ("mode", dry if settings.dry_run else "MIGRATION, the tables are changed in place"),
        ("assets table", "%s, about %s items" % (settings.assets_table_name, "{:,}".format(site.item_count))),
        ("versions table", settings.asset_versions_table_name),
        ("asset bucket", settings.asset_bucket_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("what", describe_scope(settings) + (", with repairs" if settings.repair else "")),
    ]
    return "\n".join("  %-15s %s" % row for row in rows)


def migrate(argv: Optional[List[str]]) -> int:
    return run_migration(*agreed_run(argv, "Migrate VAMS assets from v2.2 to v2.3, in place, in DynamoDB."))


def agreed_run(argv: Optional[List[str]], description: str) -> Tuple[Database, Settings, Site, Dict[str, Any]]:
    """Settings, preflight, plan on one screen, and the operator's yes: what a run needs, and the flags typed."""
    examples = ("--config my_config.json --dry-run", "--config my_config.json --limit 10")
    parser = make_parser(description, SETTINGS, examples)
    settings, typed = configured(parser, argv)
    session, database = connect(settings)
    announce("VAMS v2.2 to v2.3 migration %s\n\nPreflight:" % TOOL_VERSION, level=logging.INFO)
    site = preflight(session, database, settings)
    require(site.checks)
    announce("\nPlan:\n%s\n" % describe_run(settings, site, typed))
    confirm("Migrate %s now?" % tables_text(settings, site), settings)
    return database, settings, site, typed


class RunFiles(NamedTuple):
    """The files of a run, begun."""

    start: datetime.datetime
    stem: str  # of their names
    report: Report
    journal: Optional[Journal]  # None in a dry run
    names: Dict[str, str]  # of report and summary, as the operator finds them
    outputs: Outputs

    @property
    def started(self) -> str:
        return iso_utc(self.start)


class Usage(NamedTuple):
    """What a run took of DynamoDB."""

    writes: int
    write_units: float
    write_units_estimated: bool
    read_units: float
    throttles: int


class Work(NamedTuple):
    """How a run ended, beside its tally."""

    stopped: bool
    error: Optional[BaseException]  # what made it end early
    usage: Usage
    journal: Optional[str]  # where the before images are, None where there are none
    details: Dict[str, Any]  # further parts of the summary
    not_found: Sequence[str] = ()  # of what was named, in words


def run_migration(database: Database, settings: Settings, site: Site, typed: Optional[Dict[str, Any]] = None) -> int:
    """Migrate, or plan what would be, and report. Returns the exit status.
    typed: the flags, where the operator is to be told the next command."""
    files = begin_files(settings, site)
    tally = Tally(files.report)
    run = Run(database, settings)
    show = functools.partial(announce_change, settings)
    migration = Migration(run, settings, tally, files.journal, files.started, show)
    segments = segments_of_assets(settings, site.item_count)
    pages = table_pages(run.reader, database.assets, segments, settings.limit, migration.planner.plan)
    progress = Progress(expected_assets(settings, site), is_terminal(sys.stderr))
    with interruptible(run):
        error = run_to_end(run, pages, migration.migrate, progress, lambda: (tally.finished, counts_line(tally)))
        details = {}  # type: Dict[str, Any]
        journal = None
        if files.journal:
            journal, details["journal_holds"] = end_journal(files.journal)
            error = despite(error, files.journal.require_kept)
        else:
            details["estimate"] = estimate(run.tables.units, migration.journal.size, site)
        stopped = run.stopped or error is not None
        missing = [] if stopped else not_found(settings, tally.scanned, migration.unseen)
        work = Work(stopped, error, usage_of(run), journal, details, missing)
        return conclude(settings, site, files, tally, work, typed)


def begin_files(settings: Settings, site: Site) -> RunFiles:
    """Begin the report and, unless it is a dry run, the journal. Raises PreflightError where that cannot be."""
    start = utc_now()
    reports, journals = site.storage.folder(settings.report_dir), site.storage.folder(settings.journal_dir)
    folders = [reports] if settings.dry_run else [reports, journals]
    stem = unused_stem(folders, "dryrun" if settings.dry_run else "migration", start, settings.log_file)
    names, outputs = report_files(reports, stem), Outputs(site.storage)
    report = Report(outputs.path_of(names["report"]), DRY_RUN_OUTCOMES if settings.dry_run else {})
    journal = None
    if settings.dry_run:
        tell("The first changes, and what would fail:", level=logging.INFO)
    else:
        journal = open_journal(journal_path(journals, stem), settings, site, iso_utc(start))
    return RunFiles(start, stem, report, journal, names, outputs)


def end_journal(journal: Journal) -> Tuple[Optional[str], Optional[Dict[str, int]]]:
    """End a journal; an empty one leaves nothing, so that nobody needs to ask what it is for.
    Returns its path, None where it leaves nothing, and what it holds, None where it may not be whole."""
    if not journal.counts["before_images"]:
        journal.discard()
        return None, journal.counts
    return journal.path, journal.counts if journal.close() else None


def usage_of(run: Run) -> Usage:
    writer = run.writer
    return Usage(writer.done, writer.units, not writer.units_reported, run.reader.units, writer.throttles)


def expected_assets(settings: Settings, site: Site) -> int:
    """How many assets a run will come to, about; 0 where that is not known."""
    if settings.database_id:
        return 0
    return site.item_count if settings.limit is None else min(settings.limit, site.item_count)


def conclude(
    settings: Settings,
    site: Site,
    files: RunFiles,
    tally: Tally,
    work: Work,
    typed: Optional[Dict[str, Any]],
    script: str = SCRIPT,
) -> int:
    """End the report, write the summary, say what came of it and what is next. Returns the exit status; raises what
    made the run end early. typed, script: for the next command, none where typed is None."""
    error = despite(work.error, files.report.close)
    paths = dict(files.names)
    if work.journal:
        paths["journal"] = work.journal
    if settings.log_file:
        paths["log"] = settings.log_file
    status = exit_status_of(tally.outcomes["failed"] + len(work.not_found), work.stopped, error)
    summary = summarise(settings, site, tally, work.usage, files.start, status, error, paths)
    summary["not_found"] = list(work.not_found)
    summary.update((name, value) for name, value in work.details.items() if value is not None)
    if settings.dry_run:
        summary["outcomes"] = {DRY_RUN_OUTCOMES.get(name, name): n for name, n in summary["outcomes"].items()}
        summary["version_records_to_write"] = summary.pop("version_records_written")
        summary["assets_to_change"] = summary.pop("assets_changed")
    error = despite(error, lambda: write_summary(files.outputs.path_of(paths["summary"]), summary))
    error = files.outputs.store_despite(error)
    tell_result(result_text(summary, settings, tally, expected_assets(settings, site) if work.stopped else None), error)
    if typed is not None:
        announce_next(*next_step(summary, settings, site.storage, typed, script))
    return status


def report_files(folder: Any, stem: str) -> Dict[str, str]:
    """The names of a run's report and summary."""
    return collections.OrderedDict(report=folder.path_of(stem + ".csv"), summary=folder.path_of(stem + "_summary.json"))


def tell_result(text: str, error: Optional[BaseException]) -> None:
    """Show the last screen, then raise what ended the run."""
    insist(text)
    if error is not None:
        raise error


def announce_change(settings: Settings, asset: Item, plan: Plan) -> None:
    tell("\n" + describe_change(asset, plan, whole=settings.asset_id is not None), level=logging.INFO)


def estimate(units: UnitCounts, journal_size: int, site: Site) -> Dict[str, Any]:
    """What a migration would take: write units by table, and the least time that they need."""
    busiest = units.by_database.most_common(1)
    seconds = [count / site.capacity.get(table, TABLE_UNITS) for table, count in units.by_table.items()]
    return collections.OrderedDict(
        [
            ("write_units", units.by_table),
            ("busiest_database_id", busiest[0][0] if busiest else None),
            ("busiest_write_units", busiest[0][1] if busiest else 0.0),
            ("busiest_seconds", round(busiest[0][1] / PARTITION_UNITS, 1) if busiest else 0.0),
            ("tables_seconds", round(max(seconds), 1)),
            ("journal_bytes", journal_size),
        ]
    )


def where_all_are() -> str:
    """Of failures, of which there are more than are shown; at a log level that shows none, too."""
    if LOG.isEnabledFor(logging.ERROR):
        return "  The first %d are named above, all of them in the report." % SHOWN_FAILURES
    return "  All of them are in the report."


def estimate_lines(numbers: Dict[str, Any]) -> List[str]:
    """An estimate in words."""
    units = numbers["write_units"]
    rows = [("write units", ", ".join("{:,.0f} of {}".format(count, table) for table, count in units.items()))]
    if numbers["busiest_database_id"]:
        share = "databaseId {} takes {:,.0f}: {} at {:,.0f} a second, the most for one databaseId".format(
            one_name(numbers["busiest_database_id"]),
            numbers["busiest_write_units"],
            duration_text(numbers["busiest_seconds"]),
            PARTITION_UNITS,
        )
        rows.append(("busiest", share))
        rows.append(("tables", "%s with their capacity" % duration_text(numbers["tables_seconds"])))
    rows.append(("journal", "{:,.1f} MB".format(numbers["journal_bytes"] / 1e6)))
    rows.append(
        (
            "price",
            "on demand: {:,.0f} x your region's price of a million write units / 1,000,000".format(sum(units.values())),
        )
    )
    return ["", "Estimate of the migration, about:"] + ["  %-12s %s" % row for row in rows if row[1]]


def open_journal(path: str, settings: Settings, site: Site, started: str) -> Journal:
    """path: as journal_path gives it, s3://BUCKET/PREFIX/<stem>/ or <folder>/<stem>.jsonl."""
    file = (site.storage or Storage(None, settings)).journal(path)
    reports = settings.report_dir
    header = collections.OrderedDict(
        [
            ("tool_version", TOOL_VERSION),
            ("started", started),
            # Where its run's summary is, whatever a copy of it is called and wherever that lies.
            ("stem", file.stem),
            ("report_dir", reports if is_s3(reports) else os.path.abspath(reports)),
            ("opened", time.time()),  # tells which of two runs of one second was later
            ("asset_bucket_name", settings.asset_bucket_name),
            *journal_header(settings, site.account, site.region).items(),
        ]
    )
    try:
        return Journal(file, header)
    except OSError as error:
        raise PreflightError(
            "The journal %s cannot be written: %s." % (path, error.strerror),
            "make room or choose another --journal-dir.",
        )


def not_found(settings: Settings, scanned: int, unseen: Iterable[str]) -> List[str]:
    """What was named and does not exist, in words. An archive may be empty.
    unseen: those of the databaseIds named of which no asset was met, when all were read that were to be."""
    if settings.limit == 0:
        return []
    if not scanned and settings.asset_id is not None:
        return ["asset %s" % name_of(settings.database_id[0], settings.asset_id)]
    if not scanned and settings.database_id:
        return ["databaseId %s" % ", ".join(map(one_name, settings.database_id))]
    if settings.limit is not None:
        return []
    return ["databaseId %s" % one_name(name) for name in sorted(unseen) if not in_archive(name)]


def exit_status_of(failures: int, stopped: bool, error: Optional[BaseException]) -> int:
    """The exit status of a run that ended, was stopped, or was stopped by an error."""
    if error is not None:
        return getattr(error, "exit_status", EXIT_FAILED_ASSETS)
    if stopped:
        return EXIT_INTERRUPTED
    return EXIT_FAILED_ASSETS if failures else EXIT_DONE


def counts_line(tally: Tally) -> str:
    return "scanned {:,}  {} {:,}  unchanged {:,}  {} {:,}".format(
        *(tally.scanned, tally.called("migrated"), tally.outcomes["migrated"], tally.outcomes["already_migrated"]),
        *(tally.called("failed"), tally.outcomes["failed"]),
    )


def summarise(settings, site, tally, usage, start, status, error, files) -> Dict[str, Any]:
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
            *usage._asdict().items(),
            ("settings", public_settings(settings)),
            ("files", files),
        ]
    )


def result_text(summary: Dict[str, Any], settings: Settings, tally: Tally, total: Optional[int]) -> str:
    """The last screen: what happened and where it is written.
    total: of a run that was stopped, how many assets there are, about; 0 where that is not known."""
    would = "would be " if settings.dry_run else ""
    lines = ["", "Result%s:" % (" of the dry run" if settings.dry_run else "")]
    if total is not None:
        of_total = " of about {:,}".format(total) if total and total >= tally.finished else ""
        lines.append("  stopped: {:,}{} done".format(tally.finished, of_total))
    lines.append(count_line(summary["scanned"], "assets scanned, in %.1f s" % summary["duration_seconds"]))
    meanings = [
        ("migrated", would + "migrated"),
        ("already_migrated", "already migrated, unchanged"),
        ("failed", "would fail" if settings.dry_run else "failed, untouched"),
        ("vanished", "deleted by others meanwhile"),
        # Whatever is begun is finished, unless an error stopped it.
        ("not_finished", "under way when it was stopped" if summary["error"] else "stopped before their turn"),
    ]
    for name, meaning in meanings:
        if tally.outcomes[name] or name in ("migrated", "already_migrated", "failed"):
            lines.append(count_line(tally.outcomes[name], meaning))
        if name == "migrated" and tally.outcomes[name] == len(tally.first_migrated):
            lines += ["               " + name_of(*key[1:]) for key in tally.first_migrated]
            archived_only = tally.first_migrated and all(in_archive(key[1]) for key in tally.first_migrated)
            if archived_only and settings.asset_id is None:
                live = shell_text(["--database-id", twin_database(tally.first_migrated[0][1])])
                lines.append("               Archived assets only; %s looks at live ones, if it has any." % live)
    for title, codes in (
        ("Failures", FAILURES),
        ("Warnings", WARNINGS),
    ):
        found = [code for code in codes if summary["codes"].get(code)]
        lines += ["", title + ":"] if found else []
        lines += [count_line(summary["codes"][code], "%s: %s" % (code, codes[code])) for code in found]
        if codes is FAILURES and tally.outcomes["failed"] > SHOWN_FAILURES:
            lines.append(where_all_are())
    if "estimate" in summary:
        lines += estimate_lines(summary["estimate"])
    lines.append("")
    lines += ["  %-9s %s" % file for file in summary["files"].items()]
    lines += ["No asset was found: %s. Is it spelled right?" % name for name in summary["not_found"]]
    if summary["not_found"]:
        lines.append(where_names_are(settings))
    return "\n".join(lines)


def where_names_are(settings: Settings) -> str:
    """What helps to find the right name of what was not found."""
    if settings.asset_id is None:
        names = "The application's list of databases shows the databaseIds."
        return "%s If all assets of one are archived, add %s to it." % (names, ARCHIVED_SUFFIX)
    named = settings.database_id[0]
    twin = ("live" if in_archive(named) else "archived", one_name(twin_database(named)))
    return "An assetId is a key, not the asset's name. If the asset is %s, its databaseId is %s." % twin


def count_line(count: int, meaning: str) -> str:
    return "  {:>11,}  {}".format(count, meaning)


def next_step(
    summary: Dict[str, Any], settings: Settings, storage: Storage, typed: Dict[str, Any], script: str = SCRIPT
) -> Tuple[str, Optional[str], Dict[str, Any]]:
    """What to do after a migration or a dry run, the script for it and its flags; no script where nothing is to be
    typed. script: the one that ran."""
    outcomes = summary["outcomes"]
    if summary["exit_status"] == EXIT_INTERRUPTED:
        return "finish what is left", script, typed
    if summary["not_found"]:
        return "give the right names and run it again", None, {}
    if settings.limit == 0:
        return "the preflight has ended well; give a limit above 0, or none", None, {}
    if not summary["scanned"]:
        return "nothing was looked at: name the table that holds the assets", None, {}
    if outcomes.get("would_migrate"):
        if settings.limit is None and not settings.database_id and outcomes["would_migrate"] > BEGINNING:
            return "begin small", script, {**for_real(typed), "limit": BEGINNING}
        return "migrate", script, for_real(typed)
    failed = outcomes.get("would_fail") or outcomes.get("failed")
    if failed and (settings.limit is None or not (outcomes.get("migrated") or outcomes.get("already_migrated"))):
        return "mend what %s, then run it again" % ("would fail" if settings.dry_run else "failed"), script, typed
    flags = connection_of(typed)
    flags.update({name: typed[name] for name in CHOOSING if name in typed})
    # Those of earlier runs count too, also where this one has written nothing.
    tables = journal_header(settings, summary["account"], summary["region"])
    own = summary["files"].get("journal")
    earlier = any(journal.path != own for journal, _ in journals_of(storage, settings.journal_dir, tables))
    if own or earlier:
        flags["journal"] = settings.journal_dir
    step = "verify; what failed may wait" if failed else "verify"
    if outcomes.get("already_migrated") and not earlier:
        of_other_table = step_of_other_table(storage, settings, summary["account"], summary["region"])
        if of_other_table:
            return of_other_table, None, {}
        count = outcomes["already_migrated"]
        were, them = ("one asset was", "it") if count == 1 else (counted(count, "asset") + " were", "them")
        missing = "%s in the new form before, by no journal in %s: look for it, unless users made %s; then %s"
        step = missing % (were, settings.journal_dir, them, step)
    return step, VERIFICATION_SCRIPT, {**flags, "html": True}


def for_real(typed: Dict[str, Any]) -> Dict[str, Any]:
    """The flags of a dry run, for what it looked at; a yes was to that alone."""
    flags = without(typed, ("dry_run", "yes"))
    return flags if typed.get("dry_run") else {**flags, "dry_run": False}  # a configuration says so


def without(typed: Dict[str, Any], names: Iterable[str]) -> Dict[str, Any]:
    """The other flags."""
    return {name: value for name, value in typed.items() if name not in names}


def without_flags(typed: Dict[str, Any]) -> Dict[str, Any]:
    """What CONFIG sets and then the configuration file, whatever was typed."""
    values = {}  # type: Dict[str, Any]
    for source in (without_comments(CONFIG), read_config_file(typed.get("config"))):
        values.update((key, value) for key, value in source.items() if not _is_unset(key, value))
    return values


def unless_configured(typed: Dict[str, Any], names: Sequence[str] = CHOOSING) -> str:
    """What a step for all assets says where CONFIG or the file, whatever was typed, chooses some of them. names: of the
    settings that count."""
    configured_values = {}  # type: Dict[str, Any]
    with contextlib.suppress(MigrationError):  # the file may be gone meanwhile
        configured_values = without_flags(typed)
    chosen = any(configured_values.get(name, []) != [] for name in names)
    return "; for that, take what chooses assets out of the configuration" if chosen else ""


def connection_of(typed: Dict[str, Any]) -> Dict[str, Any]:
    """Those of the flags that say which tables, and where the reports are."""
    names = ("config", *SHARED_SETTINGS[:-2], "report_dir")
    return {name: value for name, value in typed.items() if name in names}


class NextStep(NamedTuple):
    """What to do after a run, for whom one screen has several steps."""

    text: str  # as it is shown
    script: Optional[str]  # None where nothing is to be typed
    flags: Dict[str, Any]


def announce_next(step: str, script: Optional[str], flags: Dict[str, Any]) -> None:
    """Say what to do next; the last line is the command, if there is one."""
    folder = script_folder()
    if script and not os.path.exists(os.path.join(folder, script)):
        step = "copy all files of this tool to %s; then %s" % (shell_text([folder]), step)
    text = "\nNext: %s" % (step + "." if script is None else "%s:\n%s" % (step, command_text(script, flags)))
    if NEXT_VARIABLE in os.environ:
        write_next(os.environ[NEXT_VARIABLE], NextStep(text, script, flags))
    else:
        insist(text)


def write_next(path: str, step: Optional[NextStep]) -> None:
    """Leave the next step, or that there is none, in the file that NEXT_VARIABLE names, in the place of an earlier
    one, which a Ctrl-C in between leaves whole."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(step, file)
    os.replace(path + ".new", path)


def read_next(path: str) -> Optional[NextStep]:
    with open(path, encoding="utf-8") as file:
        step = json.load(file)
    return step and NextStep(*step)


def command_text(script: str, flags: Dict[str, Any]) -> str:
    """A command to type where the operator stands; for the migration the wrapper, where that was typed.
    flags: as flag_words has them; a log of a run's own is left out."""
    folder = script_folder()
    if SCRIPT not in (script, ORIGINAL) and "config" not in flags:
        set_here = {name: value for name, value in connection_of(CONFIG).items() if value not in (None, "")}
        flags = {**set_here, **flags}
    words = [python_name(), script if folder == os.getcwd() else os.path.join(folder, script)]
    flags = {name: value for name, value in flags.items() if name != "log_file" or not LOG_TIME.search(value)}
    if script == SCRIPT and WRAPPER_VARIABLE in os.environ:
        words, typed = json.loads(os.environ[WRAPPER_VARIABLE])
        flags = {**typed, **flags}
        words.append(flags.pop("config"))
    return shell_text(words + flag_words(flags))


BARE = re.compile(r"[A-Za-z0-9_.:/\\=+-]+\Z")  # what PowerShell and cmd take without quotes


def shell_text(words: Sequence[str]) -> str:
    """A command for the shell of this system; on Windows PowerShell, or Git Bash where we are in it."""
    if os.name != "nt" or "MSYSTEM" in os.environ:
        return " ".join(map(shlex.quote, words))
    texts = [word if BARE.match(word) else _quoted_for_powershell(word) for word in words]
    # A quoted program is only a text to PowerShell.
    return ("" if texts[0] == words[0] else "& ") + " ".join(texts)


def _quoted_for_powershell(word: str) -> str:
    if re.search(r"\s", word):
        word = re.sub(r"(\\+)\Z", r"\1\1", word)  # 5.1 does not escape a backslash before its closing quote
    if not re.search('[$`"\u201c-\u201e]', word):
        return '"%s"' % word  # cmd takes these too
    return "'%s'" % re.sub("(['\u2018-\u201b])", r"\1\1", word)


def flag_of(name: str) -> str:
    """Of a setting, or a flag that only one script has."""
    return SETTINGS[name].flag if name in SETTINGS else "--" + name.replace("_", "-")


def flag_words(flags: Dict[str, Any]) -> List[str]:
    """Flags as they are typed. flags: values by the names of settings, and of the flags that only one script has."""
    words = []  # type: List[str]
    for name, value in flags.items():
        flag = flag_of(name)
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
            continue
        for text in map(str, value if isinstance(value, list) else [value]):
            words += ["%s=%s" % (flag, text)] if text.startswith("-") else [flag, text]
    return words


def python_name() -> str:
    """What calls this Python."""
    for name in ("python", "python3"):
        if os.path.normcase(shutil.which(name) or "") == os.path.normcase(sys.executable):
            return name
    return sys.executable


def leave(status: int) -> None:
    """End the process. A Ctrl-C from here on has nothing to stop, and would show a traceback of Python's own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def main(argv: Optional[List[str]] = None) -> int:
    return guarded(migrate, argv)


if __name__ == "__main__":
    leave(main())
