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

import asyncio
import collections
import contextlib
import glob
import json
import os
import sys
import weakref
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

try:
    from load_migration import migration
except ModuleNotFoundError as missing:
    if missing.name != "load_migration":
        raise
    sys.stderr.write("error: load_migration.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

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
FLAGS = (*migration.SHARED_SETTINGS, "dry_run", "batch_size", "workers", "max_write_units", "report_dir", "yes")
# What a journal's first line tells of the tables, and what the settings must agree with.
SAME_TABLES = ("assets_table_name", "asset_versions_table_name", "account", "region", "endpoint_url")
SAME_SETTINGS = ("assets_table_name", "asset_versions_table_name", "asset_bucket_name", "endpoint_url")
PAGE_IMAGES = 100  # handed out at once, so that reading them goes beside what they wait for
PAGE_BYTES = 1000 * 1000

Value = Dict[str, Any]  # DynamoDB JSON, as in the migration
Item = Dict[str, Value]
Key = Tuple[str, str, str]
Finding = migration.Finding


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


class BeforeImage:
    """An asset as it was before the migration, with the plan that was made from it then.

    before, after: the attributes that the migration owns, as it found and as it left them;
    None for an absent one.
    """

    def __init__(self, entry: Any, header: Dict[str, Any], superseded: bool) -> None:
        self.asset = entry.asset
        self.key = (header["assets_table_name"], entry.asset["databaseId"]["S"], entry.asset["assetId"]["S"])
        self.bucket = header["asset_bucket_name"]
        self.started = header["started"]
        self.plan = migration.plan_asset(entry.asset, self.bucket, self.started, entry.facts)
        self.record = self.plan.record
        self.before = {name: entry.asset.get(name) for name in migration.OWNED_FIELDS}
        self.after = {**self.before, **self.plan.set_attributes, **dict.fromkeys(self.plan.remove_attributes)}
        self.size = entry.size
        self.superseded = superseded
        # Another's version record that stood under the version key: what the asset's replaced, or whether it was kept.
        self.replaced_record = None  # type: Optional[Item]
        self.kept_record = False


def open_journals(paths: List[str]) -> List[Journal]:
    """The journals, newest first, each once. Raises SettingsError for any other file."""
    unique = collections.OrderedDict((os.path.realpath(path), path) for path in paths)
    journals = [Journal(path, migration.read_journal_header(path)) for path in unique.values()]
    return sorted(journals, key=lambda journal: (journal.started, os.path.basename(journal.path)), reverse=True)


def count_before_images(journal: Journal) -> int:
    """Reads it whole, so that damage shows before anything is written."""
    return sum(entry.asset is not None for entry in migration.read_journal_backwards(journal.path))


def read_before_images(journals: List[Journal]) -> Iterator[BeforeImage]:
    """All before images, the newest first. An image brings along what its journal says of another's
    version record under its version key."""
    for journal in journals:
        others = OtherRecords()
        superseded: Set[Tuple[str, str]] = set()
        for entry in migration.read_journal_backwards(journal.path):
            if entry.asset is None:
                others.add(entry)
                continue
            key = (entry.asset["databaseId"]["S"], entry.asset["assetId"]["S"])
            image = BeforeImage(entry, journal.header, key in superseded)
            if image.record:
                image.replaced_record, image.kept_record = others.of(key[0], image.record)
            # "again" means: older images of this asset follow, up to the first without it.
            (superseded.add if entry.again else superseded.discard)(key)
            yield image


class OtherRecords:
    """What a journal says of other assets' version records; on disk, for there may be as many as assets."""

    def __init__(self) -> None:
        create = "CREATE TABLE others (key TEXT PRIMARY KEY, replaced TEXT) WITHOUT ROWID"
        self.database = migration.temporary_database(create)

    def add(self, entry: Any) -> None:
        """Of several for one key, the first that is read, the newest, counts."""
        key = self._key(entry.database_id, entry.replaced_record or entry.kept_record)
        self.database.execute(
            "INSERT OR IGNORE INTO others VALUES (?, ?)", (key, migration.to_json(entry.replaced_record))
        )

    def of(self, database_id: str, record: Item) -> Tuple[Optional[Item], bool]:
        """The record that an asset's replaced, and whether one was kept."""
        query = "SELECT replaced FROM others WHERE key = ?"
        row = self.database.execute(query, (self._key(database_id, record),)).fetchone()
        replaced = json.loads(row[0]) if row else None
        return replaced, bool(row) and replaced is None

    @staticmethod
    def _key(database_id: str, record: Item) -> str:
        return migration.to_json([database_id, record["assetId"]["S"], record["assetVersionId"]["S"]])


async def image_pages(reader: Any, journals: List[Journal]):
    """Pages of before images for a Run, one read after the other, so their order holds."""
    images = read_before_images(journals)
    journal = migration.Segment({})
    while True:
        page = await reader.requests.in_thread(_next_images, images)
        if not page:
            return
        yield migration.Page(page, sum(image.size for image in page), journal)


def _next_images(images: Iterator[BeforeImage]) -> List[BeforeImage]:
    page, size = [], 0
    for image in images:
        page.append(image)
        size += image.size
        if len(page) == PAGE_IMAGES or size >= PAGE_BYTES:
            break
    return page


# --------------------------------------------------------------------------------------
# Decision: before image and what is there now in, Verdict out
# --------------------------------------------------------------------------------------

DELETE, PUT_BACK, KEEP = "delete", "put back", "keep"


class Now(NamedTuple):
    """What is stored under the keys that concern a before image; None: nothing."""

    asset: Optional[Item]
    twin: Optional[Item]  # the archived asset of a live one's assetId, or the other way round
    record: Optional[Item]


class Verdict(NamedTuple):
    """What takes one asset back: whether it is written, and what becomes of its record."""

    outcome: str
    restore: bool
    record: str
    findings: Tuple[Any, ...]


def judge(image: BeforeImage, now: Now, sent: bool) -> Verdict:
    """Say what takes one asset back. sent: whether its restoration was asked for already."""
    outcome, findings = judge_asset(image, now)
    restore = outcome == "restored"
    if outcome == "changed_since":
        return Verdict(outcome, restore, KEEP, findings)
    if outcome == "nothing_to_restore" and sent:
        outcome = "restored"  # by us, a moment ago
    step = judge_record(image, now)
    if step is None and outcome == "restored":
        message = "The version record was changed since the migration and was kept: %s." % _shown({"M": now.record})
        finding = Finding("version_record_changed", "assetVersionId", message)
        return Verdict("record_kept", restore, KEEP, (finding,))
    return Verdict(outcome, restore, step or KEEP, findings)


def judge_asset(image: BeforeImage, now: Now) -> Tuple[str, Tuple[Any, ...]]:
    if image.superseded:
        return "superseded", ()
    if now.asset is None:
        message = "It was deleted or archived since the migration."
        if now.twin:
            message += " The asset of its assetId under databaseId %s was left alone." % now.twin["databaseId"]["S"]
        return "asset_deleted", (Finding("asset_deleted", "", message),)
    changed = [name for name, value in image.after.items() if not migration.same(now.asset.get(name), value)]
    if not changed:
        return "restored", ()
    if was_not_migrated(image, now.asset):
        return "nothing_to_restore", ()
    differences = [
        "%s is %s, not %s" % (name, _shown(now.asset.get(name)), _shown(image.after[name])) for name in changed
    ]
    message = "It is not as the migration left it: %s." % "; ".join(differences)
    return "changed_since", (Finding("changed_since", ", ".join(changed), message),)


def judge_record(image: BeforeImage, now: Now) -> Optional[str]:
    """What becomes of the version record; None where it should go, but others changed it."""
    if image.record is None or now.record is None:
        return KEEP
    if image.superseded and has_version(now.asset, now.record):
        return KEEP
    ours = as_written(now.record, image.record, image.started)
    if has_version(now.twin, now.record):
        return PUT_BACK if ours and image.replaced_record else KEEP
    if ours:
        return DELETE
    if now.twin and migration.is_archived(image.asset):
        # An archived asset may have been content with the live one's record, which needs it no more.
        plan = migration.plan_asset(now.twin, image.bucket, image.started)
        if plan.record and as_written(now.record, plan.record, image.started):
            return DELETE
    return KEEP if image.kept_record else None


def was_not_migrated(image: BeforeImage, asset: Item) -> bool:
    """Whether none of the fields is gone that the migration removes all at once."""
    removed = [name for name in image.plan.remove_attributes if name in migration.REMOVED_FIELDS]
    same_id = migration.same(asset.get("currentVersionId"), image.asset.get("currentVersionId"))
    return same_id and all(name in asset for name in removed)


def has_version(asset: Optional[Item], record: Item) -> bool:
    """Whether a migrated asset's current version is that of the record."""
    return asset is not None and asset.get("currentVersionId") == record["assetVersionId"]


def as_written(record: Item, written: Item, started: str) -> bool:
    """Whether a record is what the migration wrote. Where that took the time of its start
    for the date, it may be the time of an earlier, interrupted run."""
    undated = written["dateCreated"] == {"S": started}
    return migration.same_record(record, written) and (undated or record.get("dateCreated") == written["dateCreated"])


def _shown(value: Optional[Value]) -> str:
    return "absent" if value is None else migration.shown(value)


# --------------------------------------------------------------------------------------
# The rollback: a before image's way to its outcome
# --------------------------------------------------------------------------------------


class Rollback:
    """Brings each before image to its outcome: asset restored, then version record removed or put back.

    Images of one assetId, which may share a version record, take turns, the newest first.
    """

    def __init__(self, run: Any, settings: Any, tally: Any, show: Callable) -> None:
        """show: says what a dry run would change."""
        self.database = run.reader.database
        self.tables = run.tables
        self.settings = settings
        self.tally = tally
        self.show = show
        self.turns = weakref.WeakValueDictionary()  # type: weakref.WeakValueDictionary

    async def roll_back(self, image: BeforeImage) -> None:
        # A lock lets those in first that came first.
        turn = self.turns.setdefault(image.key[2], asyncio.Lock())
        async with turn:
            await self.tally.outcome_of(image.key, self.way_of(image))

    async def way_of(self, image: BeforeImage) -> Any:
        """Take one asset back; whenever a write finds it changed, look again."""
        untouched, sent = True, False
        for _ in range(migration.PLAN_ATTEMPTS):
            now = await self.look(image)
            verdict = judge(image, now, sent)
            if verdict.restore:
                change = restoration(image, now)
                self.show_change(now, change)
                refusal = await self.tables.write(change, droppable=untouched)
                untouched, sent = False, True
                if refusal:
                    migration.require_passed_by(refusal, "The restoration of the asset")
                    continue
            if verdict.record != KEEP:
                refusal = await self.tables.write(self.settlement(image, now, verdict), droppable=untouched)
                untouched = False
                if refusal:
                    migration.require_passed_by(refusal, "The removal of the version record")
                    continue
                self.tally.version_records += 1
            self.tally.assets += verdict.outcome in ("restored", "record_kept")
            return verdict.outcome, verdict.findings
        raise migration.changed_by_others("changed_during_rollback")

    async def look(self, image: BeforeImage) -> Now:
        """See what is stored now."""
        keys = [image.key, migration.twin_key(image.key)]
        if image.record:
            keys.append(self.database.key_of(self.database.versions, image.record))
        found = await self.tables.get(keys)
        return Now(*[found.get(key) for key in keys] + [None] * (3 - len(keys)))

    def settlement(self, image: BeforeImage, now: Now, verdict: Verdict) -> Any:
        """The change of the version record."""
        key = self.database.key_of(self.database.versions, now.record)
        if verdict.record == PUT_BACK:
            return migration.exchange(key, now.record, image.replaced_record)
        return migration.removal(key, now.record)

    def show_change(self, now: Now, change: Any) -> None:
        if self.settings.dry_run and self.tally.assets < migration.SHOWN_CHANGES:
            plan = migration.Plan("restored", None, change.values, change.removed)
            self.show(migration.describe_change(now.asset, plan))


def restoration(image: BeforeImage, now: Now) -> Any:
    """The change of the asset, which holds while that is as the migration left it."""
    values = {name: value for name, value in image.before.items() if value is not None and value != image.after[name]}
    removed = tuple(name for name in image.before if image.before[name] is None and image.after[name] is not None)
    return migration.Change("UPDATE", image.key, image.size, values, removed, image.after, now.asset)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def check_journals(journals: List[Journal], facts: Dict[str, Any]) -> None:
    """Raise SettingsError unless the journals are of these tables, this region and so on.
    facts: names in the journals' headers, and the values they should have."""
    for journal in journals:
        for name, value in facts.items():
            written = journal.header.get(name)
            if written != value:
                raise migration.SettingsError(
                    "Journal %s is of another migration: its %s is %s, not %s." % (journal.path, name, written, value),
                    "give the connection flags of that migration, or the journals of these tables.",
                )


def journals_beside(journals: List[Journal]) -> List[str]:
    """Other journals of the same tables that lie beside those given."""
    given = {os.path.realpath(journal.path) for journal in journals}
    tables = [journals[0].header.get(name) for name in SAME_TABLES]
    found = []
    for folder in sorted({os.path.dirname(journal.path) for journal in journals}):
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.jsonl"))):
            with contextlib.suppress(migration.SettingsError):
                header = migration.read_journal_header(path)
                if [header.get(name) for name in SAME_TABLES] == tables and os.path.realpath(path) not in given:
                    found.append(path)
    return found


def journals_not_given(journals: List[Journal]) -> List[str]:
    """Those beside that are not empty: an interrupted migration that was run again has two."""
    return [path for path in journals_beside(journals) if not is_empty(path)]


def is_empty(path: str) -> bool:
    """Whether a journal has no before images that can be read."""
    try:
        return next(migration.read_journal_backwards(path), None) is None
    except migration.SettingsError:
        return True


def require_ended(paths: List[str]) -> None:
    """Raises PreflightError where a migration still writes one of these journals: it may rely on what is taken back."""
    for path in paths:
        with open(path, "rb") as file:
            if not migration.lock(file):
                raise migration.PreflightError(
                    "The migration that writes journal %s is still running; nothing was written." % path,
                    "wait until it has ended, or stop it with Ctrl-C and wait, then run the same command again.",
                )


def describe_rollback(settings: Any, site: Any, journals: List[Journal], counts: List[int]) -> str:
    mode = "DRY RUN, nothing is written" if settings.dry_run else "ROLLBACK, the tables are changed in place"
    rows = [("mode", mode)]
    rows += [
        ("journal", "{}, started {}, {:,} before images".format(journal.path, journal.started, count))
        for journal, count in zip(journals, counts)
    ]
    rows += [
        ("assets table", settings.assets_table_name),
        ("versions table", settings.asset_versions_table_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("kept", "whatever was changed since the migration; the report names it"),
    ]
    not_given = "%s, of the same tables; give it too if that run is to be undone"
    rows += [("NOT GIVEN", not_given % path) for path in journals_not_given(journals)]
    return "\n".join("  %-15s %s" % row for row in rows)


def roll_back(argv: Optional[List[str]]) -> int:
    """Journals, settings, preflight, plan on one screen, then the run."""
    parser = migration.make_parser("Take a migration from VAMS v2.2 to v2.3 back, from its journals.", FLAGS)
    parser.add_argument(
        "--journal",
        action="append",
        required=True,
        metavar="FILE",
        help="journal of the migration, backups/migration_<time>.jsonl; may be given several times",
    )
    flags = vars(parser.parse_args(argv))
    journals = open_journals(flags.pop("journal"))
    file_values = migration.read_config_file(flags.pop("config", None))
    settings = migration.resolve_settings(migration.CONFIG, file_values, flags)
    # What they choose among is in the journals already.
    settings = settings._replace(limit=None, database_id=[])
    migration.configure_logging(settings.log_level, settings.log_file)
    public = migration.public_settings(settings)
    check_journals(journals, {name: public[name] for name in SAME_SETTINGS})
    session, database = migration.connect(settings)
    migration.announce("VAMS v2.2 to v2.3 rollback %s\n\nPreflight:" % migration.TOOL_VERSION)
    site = migration.preflight(session, database.client, settings, writing=False)
    migration.announce_checks(site.checks)
    migration.require(site.checks)
    check_journals(journals, {"account": site.account, "region": site.region})
    require_ended([journal.path for journal in journals] + journals_beside(journals))
    counts = [count_before_images(journal) for journal in journals]
    migration.announce("\nPlan:\n%s\n" % describe_rollback(settings, site, journals, counts))
    migration.confirm("Roll these tables back now?", settings)
    return run_rollback(database, settings, site, journals, sum(counts))


def run_rollback(database: Any, settings: Any, site: Any, journals: List[Journal], total: int) -> int:
    """Restore, or say what would be, and report. Returns the exit status."""
    start = migration.utc_now()
    stem = migration.unused_stem([settings.report_dir], "rollback", start)
    report = migration.Report(os.path.join(settings.report_dir, stem + ".csv"))
    if settings.dry_run:
        migration.announce("The first changes:")
    tally = migration.Tally(report)
    run = migration.Run(database, settings)
    rollback = Rollback(run, settings, tally, migration.announce)
    progress = migration.Progress(total, sys.stderr.isatty())
    error = migration.run_to_end(
        run,
        image_pages(run.reader, journals),
        rollback.roll_back,
        progress,
        lambda: (tally.finished, counts_line(tally)),
    )
    tally.outcomes["not_finished"] += max(0, total - tally.finished)
    status = migration.exit_status_of(not_restored(tally), run, error)
    files = {"report": report.path, "summary": os.path.join(settings.report_dir, stem + "_summary.json")}
    summary = migration.summarise(settings, site, tally, run, start, status, error, files)
    summary["outcomes"] = {name: tally.outcomes[name] for name in OUTCOMES}
    summary["assets_restored"] = summary.pop("assets_changed")
    summary["version_records_removed"] = summary.pop("version_records_written")
    summary["journals"] = [journal.path for journal in journals]
    report.close()
    migration.write_summary(files["summary"], summary)
    migration.announce(result_text(summary))
    if error is not None:
        raise error
    return status


def not_restored(tally: Any) -> int:
    return sum(tally.outcomes[name] for name in NOT_RESTORED)


def counts_line(tally: Any) -> str:
    return "done {:,}  restored {:,}  not restored {:,}".format(
        tally.finished, tally.outcomes["restored"], not_restored(tally)
    )


def result_text(summary: Dict[str, Any]) -> str:
    """The last screen: what happened, where it is written, what to do next."""
    verb = "would be " if summary["dry_run"] else ""
    meanings = [
        ("restored", verb + "restored"),
        ("nothing_to_restore", "not migrated or restored already, nothing to do"),
        ("superseded", "superseded by a later before image"),
        ("record_kept", verb + "restored, but the version record was changed by others and stays"),
        ("changed_since", "changed since the migration, left as they are"),
        ("asset_deleted", "deleted or archived since the migration, left as it is"),
        ("failed", "failed"),
        ("not_finished", "not finished; run the same command again"),
    ]
    lines = ["", "Result%s:" % (" of the dry run" if summary["dry_run"] else "")]
    for name, meaning in meanings:
        if summary["outcomes"][name] or name == "restored":
            lines.append("  {:>11,}  {}".format(summary["outcomes"][name], meaning))
    lines.append("  {:>11,}  version records {}removed or put back".format(summary["version_records_removed"], verb))
    lines += ["  %-9s %s" % file for file in summary["files"].items()]
    return "\n".join(lines)


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(roll_back, argv)


if __name__ == "__main__":
    sys.exit(main())
