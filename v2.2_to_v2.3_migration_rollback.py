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
what users made of them. A version record goes only if a journal says that the migration made
it, and no asset needs it. Nothing depends on how far an earlier rollback came: it can be
interrupted at any moment and run again.

Each before image has one outcome:
    restored            the asset is as before, and so are the version records
    nothing_to_restore  the asset was not migrated, or is restored already
    superseded          a later before image of the same asset counts: in the same journal, in that of a later
                        run beside it that was not given, or one that was not restored
    record_kept         the asset is restored; its version record is another than the run left and stays
    changed_since       the asset is not as the migration left it, or another one; it was not touched
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
import contextlib
import csv
import functools
import glob
import io
import json
import logging
import os
import re
import sys
import time
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

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
# What a dry run calls them.
DRY_RUN_OUTCOMES = {"restored": "would_restore", "record_kept": "would_keep_record", "failed": "would_fail"}
NOT_RESTORED = ("record_kept", "changed_since", "asset_deleted", "failed")
# What the codes of findings mean, on the last screen.
FAILURES = collections.OrderedDict(
    [
        (
            "changed_since",
            "the asset is not as the migration left it, or may be another one; it was not touched",
        ),
        (
            "migrated_again",
            "an earlier rollback took the asset back, or may have, and a run whose journal was not given migrated it"
            " again, or may have; it was not touched",
        ),
        ("asset_deleted", "the asset is gone or was archived; it was not brought back"),
        (
            "version_record_changed",
            "the asset is restored; its version record is another than that run left, by users or by a run whose"
            " journal was not given, and stays",
        ),
        ("changed_during_rollback", "others changed the asset five times in a row"),
        ("rejected_by_dynamodb", migration.FAILURES["rejected_by_dynamodb"]),
    ]
)
WARNINGS = {
    "record_stays": migration.WARNINGS["record_stays"],
    "edited_in_old_form": "the asset is in the old form, but not as before that run: users may have edited it since",
}
FLAGS = (
    *migration.SHARED_SETTINGS,
    "dry_run",
    "batch_size",
    "workers",
    "max_write_units",
    "max_read_units",
    "report_dir",
    "yes",
)
SCRIPT = os.path.basename(migration.script_path(__file__))
# What the settings must agree with in a journal's first line.
SAME_SETTINGS = ("assets_table_name", "asset_versions_table_name", "asset_bucket_name", "endpoint_url")
NOT_WHOLE = "(its run was INTERRUPTED, or this is a part of it)"
BEING_WRITTEN = "(its run is STILL UNDER WAY)"
MAY_BE_WRITTEN = "(its run MAY BE UNDER WAY; if it was killed, that is known in %d minutes)"
OF_TASK = re.compile("_p[0-9]{5}_a[0-9]{8,}$")  # what the name of a journal of a job on Spark has after that of the job
SHOWN_JOURNALS = 20
SHOWN_NEAR = 5  # journals, where the one given is not there
PAGE_IMAGES = 100  # handed out at once, so that reading them goes beside what they wait for
PAGE_BYTES = 1000 * 1000

Value = Dict[str, Any]  # DynamoDB JSON, as in the migration
Item = Dict[str, Value]
Key = Tuple[str, str, str]
Finding = migration.Finding
Claim = migration.Claim


# --------------------------------------------------------------------------------------
# Journals
# --------------------------------------------------------------------------------------


def keys_of(asset: Item) -> Tuple[str, str]:
    """Its databaseId and assetId."""
    return asset["databaseId"]["S"], asset["assetId"]["S"]


class Journal(NamedTuple):
    """A journal of the migration, not yet read beyond its first line."""

    file: Any  # as migration.Storage gives it
    header: Dict[str, Any]
    state: str  # as state_of has it
    named: bool  # itself, not only the folder that it lies in
    # The assets that a rollback by it left, if one came to its end; and LostJournals, of runs after one that took
    # something of it back.
    left: Optional[FrozenSet[Tuple[str, str]]] = None
    again: Tuple[Any, ...] = ()

    @property
    def path(self) -> str:
        return self.file.path

    def key_of(self, asset: Item) -> Key:
        return (self.header["assets_table_name"], *keys_of(asset))

    def gave_back(self, key: Sequence[str]) -> bool:
        """Whether a rollback by it that came to its end restored the asset of this databaseId and assetId."""
        return self.left is not None and tuple(map(migration.spreadsheet_safe, key)) not in self.left

    @property
    def started(self) -> str:
        return self.header["started"]

    @property
    def stem(self) -> str:
        """Its own name, whatever a copy of it is called."""
        return self.header.get("stem", self.file.stem)

    @property
    def stem_of_run(self) -> str:
        """That of the job, where it is of one of its tasks."""
        return OF_TASK.sub("", self.stem)

    @property
    def run(self) -> str:
        """The same of a journal and of its copies, of no others."""
        return migration.to_json(self.header)

    @property
    def mark(self) -> str:
        """As migration.journal_mark has it."""
        return migration.journal_mark(self.file, self.header)

    @property
    def whole(self) -> bool:
        return not self.state

    @property
    def order(self) -> Tuple[str, float]:
        """What tells which of two runs was later."""
        return self.started, self.header.get("opened", 0.0)


def is_overruled(record: Item) -> bool:
    """Whether a version record, put in the place of another, is still that of an archived asset, not current any more:
    what is put there for a live asset is current."""
    return record.get("isCurrentVersion") == migration.NOT_CURRENT


class BeforeImage:
    """An asset as it was before the migration, with the plan that was made from it then.

    before, after: the attributes that the migration owns, as it found and as it left them;
    None for an absent one.
    claims: what was done to version records for it, the last first.
    """

    def __init__(self, entry: Any, journal: Journal, superseded: bool = False, by_another: bool = False) -> None:
        """superseded: by a later one of its run; by_another: by one of a run that was not given."""
        header = journal.header
        self.journal = journal
        self.asset = entry.asset
        self.key = journal.key_of(entry.asset)
        self.plan = migration.plan_asset(entry.asset, header["asset_bucket_name"], header["started"], entry.facts)
        self.record = self.plan.record
        written = (*migration.OWNED_FIELDS, *self.plan.set_attributes)
        self.before = {name: entry.asset.get(name) for name in written}
        self.after = {**self.before, **self.plan.set_attributes, **dict.fromkeys(self.plan.remove_attributes)}
        self.size = entry.size
        self.superseded = superseded or by_another
        self.superseded_by_another = by_another
        self.given_back = journal.gave_back(self.key[1:])  # by an earlier rollback
        self.claims = []  # type: List[Any]

    @property
    def taken_back(self) -> bool:
        """Whether an earlier rollback may have taken it back, so that another run has left what is there."""
        return self.given_back or any(lost.may_have(self.key) for lost in self.journal.again)

    @property
    def version_id(self) -> str:
        """Of the version record that was planned for it."""
        return self.record["assetVersionId"]["S"]

    @property
    def is_repair(self) -> bool:
        """Whether its run has only set right, by --repair, what the migration does not own."""
        changed = (*self.plan.set_attributes, *self.plan.remove_attributes)
        return self.record is None and not set(migration.OWNED_FIELDS).intersection(changed)

    def still_repaired(self, asset: Item) -> List[str]:
        """What is still as a repair left it: what users have edited since is theirs."""
        return [name for name, value in self.plan.set_attributes.items() if migration.same(asset.get(name), value)]

    @property
    def whole_after(self) -> Item:
        """The whole asset as the migration left it."""
        return {name: value for name, value in {**self.asset, **self.after}.items() if value is not None}

    def set_claims(self, said: List[Any]) -> None:
        """said: by the journal, the last first. Of several on one record the last one counts."""
        if self.record:
            said = said + [Claim(None, self.record)]
        versions = set()  # type: Set[str]
        for claim in said:
            version_id = claim.now["assetVersionId"]["S"]
            if version_id not in versions:
                self.claims.append(claim)
            versions.add(version_id)

    def may_be_dated_by(self, starts: Iterable[str], stored: Item) -> bool:
        """Whether a version record is the asset's own but for its date, which another of two runs at once has given it
        that found none either. starts: as Archive has them."""
        dates = [migration.text_of(record.get("dateCreated")) for record in (self.record, stored)]
        undated = dates[0] == self.journal.started and dates[1] in starts
        return undated and migration.differing(stored, self.own_claim.now) == ["dateCreated"]

    @property
    def own_claim(self) -> Any:
        """What was done to the asset's own version record."""
        return next(filter(self.is_own, self.claims))

    def is_own(self, claim: Any) -> bool:
        """Whether a claim is on the asset's own version record, and not on that of its archived twin."""
        return migration.is_of_version(claim.now, self.record)


def journal_rows(journals: List[Journal], counts: List[int]) -> List[Tuple[str, str]]:
    """The journals for a screen, as many as it holds: a job on Spark has one for each task."""
    text = "%s%s, started %s, %s"
    rows = [
        (
            "journal",
            text
            % (
                *(journal.path, " " + journal.state if journal.state else ""),
                *(journal.started, migration.counted(count, "before image")),
            ),
        )
        for journal, count in zip(journals[:SHOWN_JOURNALS], counts)
    ]
    others = journals[SHOWN_JOURNALS:]
    if others:
        interrupted = sum(not journal.whole for journal in others)
        more = "%s more, %d of them INTERRUPTED, %s"
        images = migration.counted(sum(counts[SHOWN_JOURNALS:]), "before image")
        rows.append(("journals", more % ("{:,}".format(len(others)), interrupted, images)))
    return rows


def journal_warnings(interrupted: Sequence[str], not_given: Sequence[str]) -> List[str]:
    """What a result does not tell of: lines for its end. Both are paths."""
    harmless = "; harmless if it was killed and a later run of all assets came to its end without version_conflict"
    rows = [(path, NOT_WHOLE[1:-1] + harmless) for path in interrupted]
    rows += [(path, "NOT GIVEN; what its run migrated is not in this result") for path in not_given]
    lines = ["  warning  journal %s: %s" % row for row in rows[:SHOWN_JOURNALS]]
    more = len(rows) - SHOWN_JOURNALS
    return lines + (["  warning  {:,} more such journals; the summary names all".format(more)] if more > 0 else [])


def add_journal_flag(parser: Any, required: bool) -> None:
    parser.add_argument(
        "--journal",
        action="append",
        nargs="+",
        required=required,
        metavar="FILE",
        help="journals of the migration, backups/migration_<time>.jsonl: files, a folder or a pattern; in S3 the folder"
        " of one, s3://BUCKET/PREFIX/migration_<time>/, or of several; may be repeated",
    )


def named_journals(typed: Dict[str, Any]) -> List[str]:
    """What was typed after --journal, in one list, also in what was typed."""
    typed["journal"] = [name for names in typed.get("journal", []) for name in names]
    return typed["journal"]


class Skipped:
    """What lies beside journals and is left out: why, by the kind of the reason."""

    def __init__(self) -> None:
        self.causes = collections.OrderedDict()  # type: Dict[str, List[str]]
        self.damaged = []  # type: List[Any]  # the errors of journals

    def add_error(self, path: str, error: Any) -> None:
        self.add(error.cause.replace(path, ""), error.cause)
        if isinstance(error, migration.DamagedJournal):
            self.damaged.append(error)

    def require_undamaged(self) -> None:
        for error in self.damaged:
            raise error

    def add(self, kind: str, cause: str) -> None:
        self.causes.setdefault(kind, []).append(cause)

    def rows(self) -> List[Tuple[str, str]]:
        """For a screen: of each kind how many, and one of them."""
        every = self.causes.values()
        return [("skipped", ("{:,}, such as: ".format(len(one)) if one[1:] else "") + one[0]) for one in every]


def open_journals(names: Iterable[str], storage: Any, skipped: Skipped) -> List[Journal]:
    """The journals, newest first, each once.

    names: files, folders, in S3 too, and patterns, for PowerShell does not expand those. skipped: gets what a killed
    run has not begun, and what is no journal, or a damaged one, and only lies in a folder. Raises SettingsError for one
    that was named, for a folder without any, and where nothing but such is left.
    """
    return journals_in((found for name in names for found in journal_files(name, storage)), skipped)


def journals_in(files: Iterable[Tuple[Any, bool]], skipped: Skipped) -> List[Journal]:
    """files: as journal_files has them. The rest as open_journals has it."""
    journals = collections.OrderedDict()  # type: Dict[str, Journal]
    for file, named in files:
        try:
            header = migration.read_journal_header(file)
        except migration.SettingsError as error:
            if named and not isinstance(error, migration.JournalNotBegun):
                raise
            skipped.add_error(file.path, error)
            continue
        known = journals.get(file.identity)
        if known is None or named > known.named:  # it may lie in a folder given, too
            journals[file.identity] = Journal(file, header, state_of(file), named)
    if skipped.causes and not journals:
        skipped.require_undamaged()
        raise migration.SettingsError(next(iter(skipped.causes.values()))[0], "give journals that hold before images.")
    found = without_copies(list(journals.values()), skipped)
    return sorted(found, key=lambda journal: journal.order, reverse=True)


def state_of(file: Any) -> str:
    """Of a journal that is not whole, as its last line says: why, as far as can be seen; "" of a whole one."""
    with contextlib.suppress(migration.DamagedJournal):
        if migration.is_whole(file):
            return ""
        if file.user() == migration.USED_BY[0]:
            minutes = migration.GOES_ON_SECONDS / 60
            return MAY_BE_WRITTEN % minutes if migration.is_s3(file.path) else BEING_WRITTEN
        if migration.is_whole(file):  # it has come to its end just now
            return ""
    return NOT_WHOLE


def without_copies(journals: List[Journal], skipped: Skipped) -> List[Journal]:
    """Without copies, and parts, of those that are whole. Of several whole ones an undamaged one counts, and of those
    the one that has its first name."""
    of_run = collections.Counter(journal.run for journal in journals if journal.whole)
    best_last = sorted(
        (journal for journal in journals if journal.whole),
        key=lambda journal: (of_run[journal.run] == 1 or is_undamaged(journal), journal.file.stem == journal.stem),
    )
    whole = {journal.run: journal for journal in best_last}
    for journal in journals:
        first = whole.get(journal.run, journal)
        if first is not journal:
            text = "Journal %s is a copy of %s." if journal.whole else "Journal %s is a part of %s."
            skipped.add("copy", text % (journal.path, first.path))
    return [journal for journal in journals if whole.get(journal.run, journal) is journal]


def is_undamaged(journal: Journal) -> bool:
    """Whether it can be read from its end to its beginning."""
    with contextlib.suppress(migration.DamagedJournal):
        survey([journal])
        return True
    return False


def journal_files(name: str, storage: Any) -> List[Tuple[Any, bool]]:
    """What a name given means: files, and whether they were named themselves, not only the folder they lie in.
    Raises SettingsError where there are none."""
    if migration.is_s3(name):
        paths = [name] if storage.journal(name).exists() else []
    elif os.path.isdir(name):
        paths = []
    else:
        paths = [name] if os.path.lexists(name) else sorted(glob.glob(name))
    found = [(storage.journal(path), True) for path in paths] or [(file, False) for file in storage.journals(name)]
    if not found:
        near = journals_near(name, storage)
        fix = "give the file or folder that the migration named."
        if near:
            folders = sorted({storage.journal(path).folder or os.curdir for path in near})
            shown = [migration.shell_text([path]) for path in near[-SHOWN_NEAR:]]
            shown += ["and {:,} older".format(len(near) - SHOWN_NEAR)] if near[SHOWN_NEAR:] else []
            fix = "give the %s of all, %s, or what you need of it: %s." % (
                "folder" if len(folders) == 1 else "folders",
                migration.shell_text(folders),
                ", ".join(shown),
            )
        kind = "" if migration.is_s3(name) else ": neither that file nor files *.jsonl in that folder"
        raise migration.SettingsError("No journal was found under %s%s." % (name, kind), fix)
    return found


def journals_near(name: str, storage: Any) -> List[str]:
    """The journals of the folder in which one was looked for; where it has none, of those beside it."""
    found = []  # type: List[str]
    if migration.is_s3(name):
        with contextlib.suppress(migration.MigrationError):  # that may not be permitted
            found = [journal.path for journal in storage.journals(storage.journal(name).folder)]
    else:
        folder = os.path.dirname(name)
        for start, pattern in ((folder, "*.jsonl"), (os.path.dirname(folder), os.path.join("*", "*.jsonl"))):
            found = found or sorted(glob.glob(os.path.join(glob.escape(start), pattern)))
    return found


def of_these_tables(journals: List[Journal], facts: Dict[str, Any], skipped: Skipped) -> List[Journal]:
    """The journals of these tables, this region and so on. Raises SettingsError for another one that was named, and
    where none is left, of the one that differs least. facts: names in the journals' headers, and the values they should
    have. skipped: gets the others, which only lie in a folder."""
    chosen = []  # type: List[Journal]
    others = []  # type: List[Tuple[int, str, str]]
    for journal in journals:
        wrong = [name for name, value in facts.items() if journal.header.get(name) != value]
        if not wrong:
            chosen.append(journal)
            continue
        name, theirs = wrong[0], journal.header.get(wrong[0])
        cause = "Journal %s is of another migration: its %s is %s, not %s." % (journal.path, name, theirs, facts[name])
        if journal.named:
            raise error_of_other_migration(name, cause)
        others.append((len(wrong), name, cause))
        skipped.add(name, cause)
    if others and not chosen:
        raise error_of_other_migration(*min(others, key=lambda other: other[0])[1:])
    return chosen


def error_of_other_migration(name: str, cause: str) -> Any:
    """name: what a journal's header has otherwise."""
    flag = migration.SETTINGS[{"account": "aws_profile", "region": "aws_region"}.get(name, name)].flag
    fix = "give the journals of this one, or their folder; or, to go on with that one, the %s that it had." % flag
    return migration.SettingsError(cause, fix)


def without_undone(
    journals: List[Journal], summaries: "Summaries", skipped: Skipped, afterwards: bool = False
) -> Tuple[List[Journal], List[Journal]]:
    """The journals without those that an earlier rollback has taken back whole: what users have made of their assets
    since is theirs; and these. Those of one run, which were named, count all the same. Where all were taken back those
    count, as taken back, of which that was after the last run.
    afterwards: these count too, for the rollback has just ended. skipped: gets those that are left out."""
    undone = summaries.undone()
    if not undone or are_meant(journals):
        return journals, []
    newest = max(journal.order for journal in journals)
    left = [journal for journal in journals if journal.mark not in undone]
    lately = [journal for journal in journals if undone.get(journal.mark, newest) >= newest] or journals
    chosen = lately if afterwards else left or [journal._replace(left=frozenset()) for journal in lately]
    kept = {journal.path for journal in chosen}
    left_out = [journal for journal in journals if journal.path not in kept]
    for journal in left_out:
        skipped.add("undone", "Journal %s was taken back by an earlier rollback." % journal.path)
    return chosen, left_out


def are_meant(journals: List[Journal]) -> bool:
    """Whether the journals were named themselves, and are of a single run: then it does not matter what rollbacks have
    taken back before. A pattern, which the shell may have made names of, does not mean each."""
    return all(journal.named for journal in journals) and len({journal.stem_of_run for journal in journals}) == 1


class Keys:
    """A set of keys, in a temporary file."""

    def __init__(self) -> None:
        self.rows = migration.temporary_database("CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self.unused = True

    def has(self, key: Iterable[str]) -> bool:
        if self.unused:
            return False
        row = (migration.to_json(list(key)),)
        return self.rows.execute("SELECT 1 FROM keys WHERE key = ?", row).fetchone() is not None

    def add(self, key: Iterable[str]) -> bool:
        """Returns whether it was not there."""
        self.unused = False
        row = (migration.to_json(list(key)),)
        return self.rows.execute("INSERT OR IGNORE INTO keys VALUES (?)", row).rowcount == 1

    def discard(self, key: Iterable[str]) -> bool:
        """Returns whether it was there."""
        if self.unused:
            return False
        return self.rows.execute("DELETE FROM keys WHERE key = ?", (migration.to_json(list(key)),)).rowcount == 1

    def pages(self, count: int) -> Iterator[List[List[str]]]:
        """So many keys at a time, in order."""
        page = self.first(count)
        while page:
            yield page
            last = migration.to_json(page[-1])
            rows = self.rows.execute("SELECT key FROM keys WHERE key > ? ORDER BY key LIMIT ?", (last, count))
            page = [json.loads(key) for (key,) in rows]

    def first(self, count: int) -> List[List[str]]:
        return [json.loads(key) for (key,) in self.rows.execute("SELECT key FROM keys ORDER BY key LIMIT ?", (count,))]

    def __len__(self) -> int:
        return self.rows.execute("SELECT COUNT(*) FROM keys").fetchone()[0]


class Archive:
    """The archived assets that the journals have before images of, as the migration found and as it left them; and what
    was put in the place of their version records.

    It tells an archived asset that was there before from one that the application has archived since. On disk, for
    there may be many.
    """

    def __init__(self, starts: Iterable[str]) -> None:
        """starts: of the runs, as Journal has them."""
        self.starts = frozenset(starts)
        columns = "key TEXT, before TEXT, after TEXT, given INTEGER, PRIMARY KEY (key, before, after)"
        self.database = migration.temporary_database("CREATE TABLE images (%s) WITHOUT ROWID" % columns)
        self.empty = True
        self.without_exchanges = True
        self.database.execute("CREATE TABLE exchanges (record TEXT, database_id TEXT, claim TEXT, settled INTEGER)")
        self.database.execute("CREATE INDEX by_record ON exchanges (record)")

    def add_claim(self, database_id: str, claim: Any) -> None:
        if claim.was and claim.wrote:
            self.without_exchanges = False
            record = [claim.now[name]["S"] for name in ("assetId", "assetVersionId")]
            row = [migration.to_json(value) for value in (record, database_id, claim)]
            self.database.execute("INSERT INTO exchanges VALUES (?, ?, ?, 0)", row)

    def exchanges_by_others(self, image: BeforeImage, record: Key, pending: bool = False) -> List[Any]:
        """Claims of other assets than an image's, which put theirs in the place of a version record.
        pending: only of those whose turn is still to come."""
        if self.without_exchanges:
            return []
        rows = self.database.execute(
            "SELECT claim FROM exchanges WHERE record = ? AND database_id != ? AND settled <= ?",
            [*(migration.to_json(value) for value in (record[1:], image.key[1])), not pending],
        )
        return [Claim(*json.loads(text)) for (text,) in rows]

    def settle(self, image: BeforeImage, records: Iterable[Key]) -> None:
        """What an image's asset put in the place of these version records was taken back, so far as it is to be."""
        for record in records:
            row = [migration.to_json(value) for value in (record[1:], image.key[1])]
            self.database.execute("UPDATE exchanges SET settled = 1 WHERE record = ? AND database_id = ?", row)

    def add(self, image: BeforeImage, given: bool = True) -> None:
        self.empty = False
        row = [migration.to_json(value) for value in (image.key, image.asset, image.whole_after)]
        self.database.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?)", [*row, given])

    def explaining(self, key: Key, asset: Item) -> Iterator[Item]:
        """The assets of this key, each as the migration found it, for which an asset is as it found or left that."""
        rows = self.database.execute("SELECT before, after FROM images WHERE key = ?", (migration.to_json(key),))
        for row in rows.fetchall():
            before, after = map(json.loads, row)
            if not migration.differing(asset, before) or not migration.differing(asset, after):
                yield before

    def explains(self, key: Key, asset: Item) -> bool:
        """Whether an asset is as the migration found or left that of this key."""
        return any(True for _ in self.explaining(key, asset))

    def has(self, key: Key) -> bool:
        """Whether a journal that was given tells of an asset."""
        query = "SELECT 1 FROM images WHERE key = ? AND given"
        return self.database.execute(query, (migration.to_json(key),)).fetchone() is not None

    def may_hold_the_live_one(self, image: BeforeImage, asset: Item, twin: Optional[Item]) -> bool:
        """Whether the live one of its assetId may be under an archived asset's key: what is there looks like it, and
        that one is not in its own place any more. It does not matter where both were the same before."""
        live = migration.twin_key(image.key)
        if not self.has(live) or (twin is not None and self.explains(live, twin)):
            return False
        there, found = ({**item, "databaseId": {"S": live[1]}} for item in (asset, image.asset))
        return any(migration.differing(before, found) for before in self.explaining(live, there))

    def add_live_twins(self, journals: List[Journal]) -> None:
        """Add the before images of the live assets that have archived ones here."""
        if self.empty:
            return
        for journal in journals:
            for entry in migration.read_journal_backwards(journal.file):
                key = journal.key_of(entry.asset) if entry.asset else None
                if key and not migration.in_archive(key[1]) and self.has(migration.twin_key(key)):
                    self.add(BeforeImage(entry, journal))

    def add_from_others(self, journals: List[Journal]) -> None:
        """Add what journals that were not given, or that were taken back, tell of archived assets, and of the live ones
        that are here."""
        for journal in journals:
            for entry in migration.read_journal_backwards(journal.file):
                key = journal.key_of(entry.asset) if entry.asset else None
                if key and (migration.in_archive(key[1]) or self.has(key)):
                    migration.require_items(entry, journal.path)
                    self.add(BeforeImage(entry, journal), given=False)


def survey(journals: List[Journal]) -> Tuple[List[int], Archive]:
    """Read the journals whole, so that damage shows before anything is written.
    Returns how many before images each has, and the archived ones among them."""
    counts, archive = [], Archive(journal.started for journal in journals)
    for journal in journals:
        counts.append(0)
        for entry in migration.read_journal_backwards(journal.file):
            migration.require_items(entry, journal.path)
            if entry.asset:
                counts[-1] += 1
                if migration.is_archived(entry.asset):
                    archive.add(BeforeImage(entry, journal))
            elif entry.claim:
                archive.add_claim(entry.database_id, entry.claim)
    return counts, archive


class Summaries:
    """What the summaries of runs say of their journals; each is read once. A job on Spark has one for the journals of
    all its tasks."""

    def __init__(self, storage: Any, report_dir: str, journals: Iterable[Journal]) -> None:
        """report_dir: of this run. A journal says where that of its own run was."""
        self.storage = storage
        self.report_dir = report_dir
        headers = [journal.header for journal in journals]
        # Those of the rollbacks that had their reports in these folders, the oldest first.
        self.rollbacks = functools.lru_cache(maxsize=None)(
            lambda: list(migration.rollback_summaries(storage, report_dir, headers))
        )
        self._read = functools.lru_cache(maxsize=None)(functools.partial(migration.read_summary, storage))
        self._left_by = functools.lru_cache(maxsize=None)(self._assets_in)

    def _folders_of(self, journals: Iterable[Journal]) -> List[str]:
        return migration.report_folders(self.report_dir, (journal.header for journal in journals))

    def of(self, journal: Journal) -> Dict[str, Any]:
        """{} where there is none."""
        name = journal.stem_of_run + "_summary.json"
        for folder in self._folders_of([journal])[::-1]:
            summary = self._read(folder, name)
            if summary.get("started") == journal.started:
                return summary
        return {}

    def images_of(self, journal: Journal) -> int:
        """How many before images a journal holds; 0 where that is not said."""
        summary = self.of(journal)
        return self._of_tasks(summary).get(journal.stem, ("", 0))[1]

    def missing(self, journals: List[Journal]) -> Dict[str, "LostJournal"]:
        """The other journals of runs on the same tables that had their reports in the same folders, by their own
        names."""
        stems = {journal.stem for journal in journals}
        found = {}  # type: Dict[str, LostJournal]
        for folder, name in migration.summaries_in(self.storage, self._folders_of(journals), "migration_"):
            summary = self._read(folder, name)
            if migration.of_same_tables(summary, journals[0].header):
                of_run = (summary.get("started", ""), summary.get("settings", {}))
                tasks = self._of_tasks(summary).items()
                found.update((stem, LostJournal(*of_task, *of_run)) for stem, of_task in tasks)
        return {stem: found[stem] for stem in sorted(found) if stem not in stems}

    def undone(self) -> Dict[str, Tuple[str, float]]:
        """As migration.undone_journals has it."""
        return migration.undone_journals(self.rollbacks())

    def taken_back(self, journals: List[Journal], counts: List[int], lost: Sequence["LostJournal"]) -> List[Journal]:
        """The journals, marked where a rollback has taken them back: whole, or but for what its report says; and where
        one took something back before runs began whose journals are lost. What is there as they have it, another run
        has made, or may have. Those of one run, which were named, are taken as they are. counts: of before images."""
        if are_meant(journals):
            return journals
        rollbacks, first = self.rollbacks(), {}  # type: List[Dict[str, Any]], Dict[str, str]
        undone = migration.undone_journals(rollbacks)
        for summary in rollbacks:
            for mark in summary.get("images_of_journals", {}):  # also of one that was killed
                first.setdefault(mark, summary.get("started", ""))

        def marked(journal: Journal, count: int) -> Journal:
            if journal.left is not None or journal.mark in undone:
                return journal._replace(left=frozenset())
            rolled_back = first.get(journal.mark)
            again = tuple(run for run in lost if rolled_back is not None and run.started >= rolled_back)
            return journal._replace(left=self._left_by_all(rollbacks, journal, count), again=again)

        return list(map(marked, journals, counts))

    def _left_by_all(
        self, rollbacks: List[Dict[str, Any]], journal: Journal, count: int
    ) -> Optional[FrozenSet[Tuple[str, str]]]:
        """By databaseId and assetId, as a report has them: the assets that each of these rollbacks has left that came
        to its end by this journal; None where there is none whose report can be read."""
        lefts = [
            self._left_by(
                summary["folder"], summary.get("files", {}).get("report", ""), sum(summary.get("codes", {}).values())
            )
            for summary in rollbacks
            if migration.ended_journals(summary).get(journal.mark) == count
        ]
        found = [left for left in lefts if left is not None]
        return frozenset.intersection(*found) if found else None

    def _assets_in(self, folder: str, report: str, count: int) -> Optional[FrozenSet[Tuple[str, str]]]:
        """Those that the report of a rollback, of so many rows, names as not restored; it lies beside its summary,
        whatever its path was then."""
        try:
            text = str(self.storage.folder(folder).read(re.split(r"[/\\]", report)[-1]), "utf-8-sig")
        except (OSError, ValueError, migration.MigrationError):
            return None
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        if len(rows) != count:
            return None
        left = (row for row in rows if row.get("outcome") not in ("restored", "record_kept", "nothing_to_restore"))
        return frozenset((row.get("database_id", ""), row.get("asset_id", "")) for row in left)

    def _of_tasks(self, summary: Dict[str, Any]) -> Dict[str, Tuple[str, int]]:
        """Of a run, or of each task of a job: by its journal's own name, the path of that and how many before images it
        holds."""
        runs = summary.get("tasks") or [{**summary, "journal": summary.get("files", {}).get("journal")}]
        runs = [run for run in runs if run.get("journal")]
        return {self.storage.journal(run["journal"]).stem: (run["journal"], images_held(run)) for run in runs}


class LostJournal(NamedTuple):
    """A journal that is elsewhere, or lost, as the summary of its run says."""

    path: str
    images: int  # 0 where that is not said
    started: str
    settings: Mapping[str, Any]  # of its run

    def may_have(self, key: Key) -> bool:
        """Whether its run looked at the databaseId and assetId of an asset's key."""
        database_ids, asset_id = self.settings.get("database_id") or [key[1]], self.settings.get("asset_id")
        return key[1] in database_ids and asset_id in (None, key[2])


def images_held(said: Dict[str, Any]) -> int:
    return (said.get("journal_holds") or {}).get("before_images", 0)


def require_images(journals: List[Journal], counts: List[int], summaries: Summaries) -> None:
    """Raises DamagedJournal for one with fewer before images than the summary of its run says."""
    for journal, count in zip(journals, counts):
        expected = 0 if journal.whole else summaries.images_of(journal)
        if count < expected:
            text = "Journal %s is a part only: it holds %d of %d before images."
            raise migration.DamagedJournal(journal.path, text % (journal.path, count, expected))


class LaterImages:
    """The assets of which runs that are not taken back have before images: what they left is not an earlier run's."""

    def __init__(self, journals: Iterable[Journal], lost: Sequence[LostJournal]) -> None:
        """journals: those that are not given, the newest first, marked as Summaries.taken_back does. lost: what cannot
        be read."""
        self.journals = list(journals)[::-1]
        self.lost = lost
        self.superseded = collections.Counter()  # type: collections.Counter  # by marks, images that do not count
        self.database = migration.temporary_database(
            "CREATE TABLE later (key TEXT PRIMARY KEY, started TEXT) WITHOUT ROWID"
        )
        for journal in self.journals:
            for entry in migration.read_journal_backwards(journal.file):
                if entry.asset and not journal.gave_back(keys_of(entry.asset)):
                    row = (migration.to_json(keys_of(entry.asset)), migration.to_json(journal.order))
                    self.database.execute("INSERT OR REPLACE INTO later VALUES (?, ?)", row)

    def have(self, key: Sequence[str], journal: Journal) -> bool:
        """Whether there is a before image of an asset that is later than this journal."""
        latest = self._order(key)
        is_later = latest is not None and latest > journal.order
        self.superseded.update([journal.mark] * is_later)
        return is_later

    def __contains__(self, key: Sequence[str]) -> bool:
        return self._order(key) is not None

    def _order(self, key: Sequence[str]) -> Any:
        """That of the latest journal with a before image of an asset, None where there is none."""
        query = "SELECT started FROM later WHERE key = ?"
        row = self.database.execute(query, (migration.to_json(list(key)),)).fetchone()
        return row and tuple(json.loads(row[0]))

    def __len__(self) -> int:
        return self.database.execute("SELECT COUNT(*) FROM later").fetchone()[0]

    @property
    def paths(self) -> List[str]:
        """Of the journals that are not given, the oldest first."""
        return [journal.path for journal in self.journals] + [run.path for run in self.lost]

    @property
    def texts(self) -> List[str]:
        """The same with what the plan says of each."""
        lost = [
            "%s, %s, with %s"
            % (
                run.path,
                "not beside those given" if os.path.exists(run.path) else "lost or elsewhere",
                migration.counted(run.images, "before image") if run.images else "images",
            )
            for run in self.lost
        ]
        return ["%s, of the same tables" % journal.path for journal in self.journals] + lost


def read_before_images(journals: List[Journal], later: Optional[LaterImages] = None) -> Iterator[BeforeImage]:
    """All before images, the newest first, each with what its journal says of version records."""
    claims = Claims()
    for journal in journals:
        superseded: Set[Tuple[str, str]] = set()
        for entry in migration.read_journal_backwards(journal.file):
            if entry.asset is None:
                claims.add(entry)
                continue
            key = keys_of(entry.asset)
            image = BeforeImage(entry, journal, key in superseded, later is not None and later.have(key, journal))
            image.set_claims(claims.of(*key))
            # "again" means: older images of this asset follow, up to the first without it.
            (superseded.add if entry.again else superseded.discard)(key)
            yield image


class Claims:
    """What journals say of version records, as far as they have been read; on disk, for there may be as many as assets.

    A journal is read backwards, so what was said of an asset's record comes before its image.
    """

    def __init__(self) -> None:
        self.database = migration.temporary_database(
            "CREATE TABLE claims (number INTEGER PRIMARY KEY, asset TEXT, claim TEXT, assigned INTEGER DEFAULT 0)"
        )
        self.database.execute("CREATE INDEX by_asset ON claims (asset)")
        self.empty = True

    def add(self, entry: Any) -> None:
        self.empty = False
        asset = (entry.database_id, entry.claim.now["assetId"]["S"])
        row = (migration.to_json(asset), migration.to_json(entry.claim))
        self.database.execute("INSERT INTO claims (asset, claim) VALUES (?, ?)", row)

    def of(self, database_id: str, asset_id: str) -> List[Any]:
        """What is said between an image of this asset and the next later one, the last first."""
        if self.empty:
            return []
        asset = (migration.to_json((database_id, asset_id)),)
        where = "WHERE asset = ? AND NOT assigned"
        query = "SELECT claim FROM claims %s ORDER BY number" % where
        found = [Claim(*json.loads(text)) for (text,) in self.database.execute(query, asset)]
        if found:
            self.database.execute("UPDATE claims SET assigned = 1 %s" % where, asset)
        return found


async def image_pages(reader: Any, journals: List[Journal], later: Optional[LaterImages] = None):
    """Pages of before images for a Run, one read after the other, so their order holds."""
    images = read_before_images(journals, later)
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

# What becomes of a version record. GONE: there is nothing to be done any more. CHANGED: it should go, but others
# changed it. The last ones need a reason, which the report gives where the record is still there at the end.
DELETE, PUT_BACK, GONE, CHANGED = "delete", "put back", "gone", "changed"
NEEDED, NOT_OURS, IN_DOUBT, HELD = "needed", "not ours", "in doubt", "held"
REASONS = {
    NEEDED: "the asset under databaseId {} needs it",
    NOT_OURS: "it was there before the migration came to this asset, or another's journal tells of it",
    IN_DOUBT: "it may be of the asset under databaseId {}, or of its history",
    HELD: "it may be of an asset that was not taken back",
}
UNUSED = "that run made it, but the asset has another one, and none needs it"
UNNEEDED = "it is as it was before that run, and no asset needs it"


class Step(NamedTuple):
    """What becomes of a version record; where it stays, or is put back, for an asset's sake, the databaseId of that."""

    what: str  # one of the above
    whose: Optional[str] = None


class Now(NamedTuple):
    """What is stored under the keys that concern a before image; None: nothing."""

    asset: Optional[Item]
    twin: Optional[Item]  # the archived asset of a live one's assetId, or the other way round
    records: List[Optional[Item]]  # for each of its claims

    def twin_needs(self, version_id: str) -> bool:
        return self.twin is not None and migration.needs_record(self.twin, version_id)


OF_ANOTHER_RUN = "If a run made it whose journal was not given, roll back by that too. "
# By these, of the attributes that the migration leaves alone, one asset is told from another.
SELDOM_EDITED = ("assetName", "assetType", "snsTopic")
MIGRATED_AGAIN = (
    "An earlier rollback took it back, and a run whose journal was not given has migrated it again, or somebody by"
    " hand: give that one. "
)
MAYBE_MIGRATED_AGAIN = (
    "An earlier rollback may have taken it back, and the run of the journal %s, which is lost or elsewhere, may have"
    " migrated it again: give that one. "
)
EDITED_JOURNAL = (
    "No migration leaves the before image that the journal %s has of it: that was edited. Give the original."
)
ALL_THE_SAME = "To have it as it was before the run of %s all the same, name that journal and no other."


def judge_asset(image: BeforeImage, now: Now, archive: Archive) -> Tuple[str, Tuple[Any, ...]]:
    """What becomes of the asset: an outcome, "restored" where it is to be written; and findings."""
    if image.superseded:
        return "superseded", ()
    if image.plan.outcome != "migrated":
        return "changed_since", (Finding("changed_since", "", EDITED_JOURNAL % image.journal.path),)
    if now.asset is None:
        message = "It was deleted or archived since the migration."
        if now.twin:
            message += " The asset of its assetId under databaseId %s was left alone." % now.twin["databaseId"]["S"]
        return "asset_deleted", (Finding("asset_deleted", "", message),)
    changed = [name for name, value in image.after.items() if not migration.same(now.asset.get(name), value)]
    if changed and image.is_repair and image.still_repaired(now.asset):
        edited = migration.differing(now.asset, image.whole_after)
        if set(edited) <= set(image.plan.set_attributes):  # of another asset more differs than what was repaired
            changed = []
    if not changed and image.taken_back:
        return "changed_since", (Finding("migrated_again", "", migrated_again(image)),)
    if not changed and may_be_another(image, now, archive):
        names = ", ".join(migration.differing(now.asset, image.whole_after))
        message = "It may be another asset than the migration left: "
        if names:
            message += "these attributes differ, and its version record is another one, or an asset of its assetId"
            message += " was archived or made since: %s." % names
        else:
            message += "that under databaseId %s looked like it, and may have been archived since."
            message += " If both are to go back, set that one right first, then roll back again."
            message %= migration.twin_database(image.key[1])
        return "changed_since", (Finding("changed_since", names, message),)
    if not changed:
        return "restored", ()
    if was_not_migrated(image, now.asset):
        return "nothing_to_restore", edited_before(image, now.asset)
    differences = [
        "%s is %s, not %s" % (name, _shown(now.asset.get(name)), _shown(image.after[name])) for name in changed
    ]
    message = "It is not as the migration left it: %s." % "; ".join(differences)
    others = [name for name in SELDOM_EDITED if not migration.same(now.asset.get(name), image.asset.get(name))]
    if others:
        message += " It may be another asset, made in its place: it differs in %s too." % ", ".join(others)
    return "changed_since", (Finding("changed_since", ", ".join(changed), message),)


def edited_before(image: BeforeImage, asset: Item) -> Tuple[Any, ...]:
    """What users have changed in the old form, of what a rollback would set back: findings."""
    edited = [name for name in migration.differing(image.asset, asset) if name in image.before]
    if image.is_repair or not edited:
        return ()
    message = "It is in the old form, but not as before that run: %s. Users may have edited it since; it stays so."
    return (Finding("edited_in_old_form", ", ".join(edited), message % ", ".join(edited)),)


def migrated_again(image: BeforeImage) -> str:
    message = MIGRATED_AGAIN
    if not image.given_back:
        message = MAYBE_MIGRATED_AGAIN % next(lost.path for lost in image.journal.again if lost.may_have(image.key))
    return message + ALL_THE_SAME % image.journal.path


def may_be_another(image: BeforeImage, now: Now, archive: Archive) -> bool:
    """Whether the application may have put another asset in the place of the one that the migration left.

    It archives an asset in the place of an older archived one, which nobody edits; and after a live one was archived,
    another can be created under its keys.
    """
    archived = migration.is_archived(image.asset)
    if archived and archive.may_hold_the_live_one(image, now.asset or {}, now.twin):
        return True
    suspicious = (
        archived
        or any(is_of_others(image, claim, stored) for claim, stored in zip(image.claims, now.records))
        or (now.twin is not None and not archive.explains(migration.twin_key(image.key), now.twin))
    )
    return suspicious and bool(migration.differing(now.asset, image.whole_after))


def is_of_others(image: BeforeImage, claim: Any, stored: Optional[Item]) -> bool:
    """Whether there is another version record in the place of the one that the migration left for an asset: also where
    that found the application's there, which it only relied on until its change of the asset was refused."""
    if stored is None or not image.is_own(claim):
        return False
    if not claim.wrote:
        return bool({*migration.differing(stored, image.record)} - {"dateCreated"})
    return all(migration.differing(stored, item) for item in (claim.now, claim.was) if item)


def was_not_migrated(image: BeforeImage, asset: Item) -> bool:
    """Whether none of the fields is gone that the migration removes all at once; without such fields, whether what it
    set is as before, or, of a repair, not there any more."""
    if image.is_repair:
        return not image.still_repaired(asset)
    if not any(name in migration.REMOVED_FIELDS for name in image.plan.remove_attributes):
        return all(migration.same(asset.get(name), image.before[name]) for name in image.plan.set_attributes)
    removed = [name for name in image.plan.remove_attributes if name in migration.REMOVED_FIELDS]
    same_id = migration.same(asset.get("currentVersionId"), image.asset.get("currentVersionId"))
    return same_id and all(name in asset for name in removed)


def judge_record(
    claim: Any, own: bool, stored: Item, owed: Sequence[Item], reason: Optional[str], twin_needs: bool
) -> str:
    """What becomes of a stored version record that was claimed for an asset, now that this is taken back.

    What is there     and the asset made it       replaced it     only relied on it
    as we left it     DELETE                      PUT_BACK        NOT_OURS
    as it was before  -                           GONE            NOT_OURS
    one that is owed  DELETE                      DELETE          DELETE
    something else    CHANGED                     CHANGED         NOT_OURS
    It stays for a reason, where there is one, instead of DELETE and PUT_BACK; and with a reason, or a need of the
    twin, the other cases need not be reported, but for something else that another asset needs, in the place of what
    this one made. What is owed is not put back, but for the twin's need.

    own: it is the asset's own, not that of its archived twin. owed: what journals of ours have put under its key for
    other assets, and could not remove at their turns. reason: NEEDED, IN_DOUBT or HELD, where nothing must be done to
    it. twin_needs: the asset's twin needs a record under its key, its own or another.
    """
    if claim.wrote and not migration.differing(stored, claim.now):
        if claim.was is not None and (twin_needs or not (own or is_among(owed, claim.was))):
            return reason or PUT_BACK
    elif not is_among(owed, stored):
        if claim.was and claim.wrote and not migration.differing(stored, claim.was):
            return GONE
        if reason == IN_DOUBT and migration.differing(stored, claim.now) == ["isCurrentVersion"]:
            return IN_DOUBT  # the application has made it not current for another one
        if reason == NEEDED and own and claim.wrote:
            return NEEDED
        unreported = reason or twin_needs or (claim.wrote and not own)
        return GONE if unreported else CHANGED if claim.wrote else NOT_OURS
    return reason or (NEEDED if twin_needs else DELETE)


def is_among(records: Iterable[Item], record: Item) -> bool:
    return any(not migration.differing(one, record) for one in records)


def outcome_with(steps: Sequence[str], outcome: str) -> str:
    """The outcome of an asset, after what became of its version records."""
    return "record_kept" if CHANGED in steps and outcome == "restored" else outcome


def by_hand(record: Key) -> str:
    """What to do about a version record that stays."""
    text = "If it is not wanted, delete it by hand, or a new migration uses it, or says version_conflict: %s."
    return text % place_of(record)


def place_of(record: Key) -> str:
    names = migration.KEY_SCHEMAS["asset_versions_table_name"]
    return "%s %s, %s %s in %s" % (
        *(names[0], migration.one_name(record[1]), names[1], migration.one_name(record[2])),
        record[0],
    )


def _shown(value: Optional[Value]) -> str:
    return "absent" if value is None else migration.shown(value)


class KeptRecords:
    """Version records that could not be removed when their asset was taken back: why, and what journals of ours put
    there.

    They are removed when that is not so any more; what is left at the end is reported. On disk.
    """

    def __init__(self) -> None:
        self.database = migration.temporary_database("CREATE TABLE kept (key TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID")
        self.database.execute("CREATE TABLE owed (key TEXT, record TEXT, PRIMARY KEY (key, record)) WITHOUT ROWID")
        self.held = Keys()
        self.none_owed = True

    def hold(self, asset: Key, key: Key) -> None:
        """The asset is not taken back: nor is its record by an older before image of it, or by one of its twin."""
        self.held.add((*asset, *key))

    def is_held(self, asset: Key, key: Key) -> bool:
        return self.held.has((*asset, *key)) or self.held.has((*migration.twin_key(asset), *key))

    def owe(self, key: Key, record: Item) -> None:
        """A journal of ours put it there."""
        self.none_owed = False
        row = (migration.to_json(key), migration.to_json(record))
        self.database.execute("INSERT OR IGNORE INTO owed VALUES (?, ?)", row)

    def report(self, key: Key, *row: str) -> None:
        """row: databaseId, assetId, outcome of the asset, and why the record stays."""
        rows = (migration.to_json(key), migration.to_json(row))
        self.database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)

    def owed(self, key: Key) -> List[Item]:
        if self.none_owed:
            return []
        rows = self.database.execute("SELECT record FROM owed WHERE key = ?", (migration.to_json(key),))
        return [json.loads(text) for (text,) in rows]

    def remove(self, key: Key) -> None:
        self.database.execute("DELETE FROM kept WHERE key = ?", (migration.to_json(key),))

    def left(self) -> Iterator[Tuple[str, str, str, str]]:
        """What is to be reported: databaseId, assetId and outcome of the asset, and in words what stays and why."""
        for key, row in self.database.execute("SELECT key, row FROM kept"):
            *asset, reason = json.loads(row)
            yield (*asset, "The version record %s stays: %s." % (json.loads(key)[2], reason))


# --------------------------------------------------------------------------------------
# The rollback: a before image's way to its outcome
# --------------------------------------------------------------------------------------


class ClaimedRecords:
    """Takes back what was done to version records for assets. Which of them stay, and why, is in `kept`."""

    def __init__(self, owners: Any, tally: Any, archive: Archive) -> None:
        self.owners = owners
        self.database = owners.database
        self.tables = owners.tables
        self.tally = tally
        self.archive = archive
        self.kept = KeptRecords()

    async def settle(self, image: BeforeImage, now: Now, outcome: str, untouched: bool) -> Optional[List[str]]:
        """Take back what was done to version records for an asset. Returns what became of each; None where others
        were faster with one."""
        if outcome == "changed_since" or image.superseded_by_another:
            self.leave(image)
            if outcome == "changed_since":
                await self.report_unneeded(image, now)
            return [HELD] * len(image.claims)
        self.settle_exchanges(image)
        steps = []  # type: List[Step]
        for claim, stored in zip(image.claims, now.records):
            step = await self.step_for(image, claim, stored, now, outcome)
            if stored and step.what in (DELETE, PUT_BACK):
                taken = await self.take_back(image, claim, stored, step, untouched)
                if taken is None:
                    return None
                step, untouched = taken, False
            steps.append(step)
        self.keep(image, steps, outcome)
        return [step.what for step in steps]

    def settle_exchanges(self, image: BeforeImage) -> None:
        exchanges = (claim.now for claim in image.claims if claim.was and claim.wrote)
        self.archive.settle(image, map(self.database.record_key, exchanges))

    def leave(self, image: BeforeImage) -> None:
        """Keep what belongs to an asset that is not taken back; its archived twin may be, and its record then go."""
        self.settle_exchanges(image)
        for claim in image.claims:
            key = self.database.record_key(claim.now)
            if image.is_own(claim):
                self.kept.hold(image.key, key)
            elif claim.wrote and claim.certain:
                self.kept.owe(key, claim.now)

    async def report_unneeded(self, image: BeforeImage, now: Now) -> None:
        """Report the version record that was made for an asset which users have changed before that relied on it: a run
        was killed in between."""
        version_id = migration.text_of((now.asset or {}).get("currentVersionId"))
        for claim, stored in zip(image.claims, now.records):
            if stored is None or not (claim.wrote and image.is_own(claim)) or migration.differing(stored, claim.now):
                continue
            key = self.database.record_key(claim.now)
            if version_id is None or migration.is_before(key[2], version_id):
                continue  # it may be its history
            if await self.owners.find(key, (), migration.needs_record) is None:
                self.kept.report(key, *image.key[1:], "changed_since", UNUSED)

    async def step_for(self, image: BeforeImage, claim: Any, stored: Optional[Item], now: Now, outcome: str) -> Step:
        """What is to become of a version record that was claimed for an asset."""
        if stored is None:
            return Step(GONE)
        key = self.database.record_key(claim.now)
        twin_needs = now.twin_needs(key[2])
        reason, whose = await self.reason_to_keep(image, claim, key, now, outcome)
        what = judge_record(claim, image.is_own(claim), stored, self.owed(image, key), reason, twin_needs)
        if what in (CHANGED, DELETE) and self.is_of_pending(image, key, stored):
            return Step(HELD)  # of two runs at once the journal read first may tell only of this asset
        if what == CHANGED and image.is_own(claim) and image.may_be_dated_by(self.archive.starts, stored):
            return Step(HELD)
        if what == PUT_BACK and now.asset is None and not twin_needs:
            return Step(HELD)
        if what in (DELETE, PUT_BACK) and self.may_be_others(claim, stored, outcome):
            twin_is_given = self.archive.has(migration.twin_key(image.key))  # then its own image tells
            besides = migration.twin_databases(image.key)[: 1 + twin_is_given]
            maker = await self.owners.find_whose_history(key, besides)
            if maker is not None:
                return Step(IN_DOUBT, maker)
        if what == PUT_BACK and twin_needs:
            whose = migration.twin_database(image.key[1])
        return Step(what, whose)

    def owed(self, image: BeforeImage, key: Key) -> List[Item]:
        """What journals of ours have put under a version record's key for other assets than an image's, and is to go
        with them; also that of an archived asset which they made not current."""
        by_others = (claim.now for claim in self.archive.exchanges_by_others(image, key))
        return self.kept.owed(key) + list(filter(is_overruled, by_others))

    def is_of_pending(self, image: BeforeImage, key: Key, stored: Item) -> bool:
        """Whether a version record is what another asset, whose turn is still to come, put in the place of one, or what
        it found there: users who have gone on from it leave it as that, too."""
        pending = self.archive.exchanges_by_others(image, key, pending=True)
        of_their_own = [claim for claim in pending if not is_overruled(claim.now)]
        return is_among((record for claim in of_their_own for record in (claim.was, claim.now)), stored)

    def may_be_others(self, claim: Any, stored: Item, outcome: str) -> bool:
        """Whether a version record that is to go may have become the history of another asset: it is not current, as
        the application leaves it then, or not as this one left it; or what this one put in another's place was perhaps
        taken back before."""
        other = is_overruled(stored) or bool(migration.differing(stored, claim.now))
        return other or (claim.was is not None and outcome != "restored")

    def may_be_archived_since(self, image: BeforeImage, now: Now, outcome: str) -> bool:
        """Whether the twin may be an image's asset, archived since: there is none in its place; or there is another
        one, and the twin is not the archived asset that the journals tell of."""
        if now.asset is None or outcome != "nothing_to_restore" or migration.is_archived(image.asset):
            return now.asset is None
        twin_key = migration.twin_key(image.key)
        return self.archive.has(twin_key) and not self.archive.explains(twin_key, now.twin or {})

    async def take_back(
        self, image: BeforeImage, claim: Any, stored: Item, step: Step, untouched: bool
    ) -> Optional[Step]:
        """Delete a version record, or put back what was there. Returns what became of it, None where others were
        faster."""
        key = self.database.record_key(claim.now)
        left = claim.was if step.what == PUT_BACK else None
        refusal = await self.tables.write(migration.exchange(key, stored, left), droppable=untouched)
        if refusal:
            migration.require_overtaken(refusal, "The removal of the version record")
            return None
        self.kept.remove(key)
        needs_what_was = migration.twin_databases(image.key)[1:] if step.what == PUT_BACK else ()
        whose = await self.owners.find(key, needs_what_was, migration.needs_record)
        if whose is None:
            self.tally.version_records += 1
            return step
        await self.tables.write(migration.exchange(key, left, stored))  # a migration at the same time relies on it
        return Step(NEEDED, whose)

    def keep(self, image: BeforeImage, steps: List[Step], outcome: str) -> None:
        """Note which version records stay, and why."""
        outcome_of_asset = outcome_with([step.what for step in steps], outcome)
        for claim, step in zip(image.claims, steps):
            key = self.database.record_key(claim.now)
            # Of an asset that was restored before, or never migrated: the run may have found it there, and failed.
            reported = step.what == CHANGED and outcome == "nothing_to_restore"
            reason = "it is another than the migration wrote. " + by_hand(key).rstrip(".") if reported else ""
            if step.what in REASONS:
                if claim.wrote and claim.certain and step.what != IN_DOUBT:
                    self.kept.owe(key, claim.now)
                reported = outcome in ("restored", "nothing_to_restore") or step.what == IN_DOUBT
                reason = REASONS[step.what].format(step.whose or migration.twin_database(image.key[1]))
            if step.what == PUT_BACK and step.whose is None and not image.is_own(claim):
                reported, reason = True, UNNEEDED
            if reported:
                self.kept.report(key, *image.key[1:], outcome_of_asset, reason)

    async def reason_to_keep(
        self, image: BeforeImage, claim: Any, key: Key, now: Now, outcome: str
    ) -> Tuple[Optional[str], Optional[str]]:
        """Why nothing must be done to a version record, but for the twin's need; and the databaseId of the asset
        that this is for.

        An asset that is not as the migration left it does not tell whether this has made its record: a run may have
        been killed before that, and the record be the history of another asset."""
        if self.kept.is_held(image.key, key):
            return HELD, None
        if now.twin_needs(key[2]) and self.may_be_archived_since(image, now, outcome):
            return HELD, None
        if now.asset and migration.needs_record(now.asset, key[2]):
            return NEEDED, image.key[1]
        besides = migration.twin_databases(image.key)
        needing = await self.owners.find(key, besides, migration.needs_record)
        if needing is not None:
            return NEEDED, needing
        maker = None
        if not claim.certain:
            maker = await self.owners.find(key, besides[:1], lambda other, _: migration.may_have_made(other, claim.now))
        if maker is None and claim.was is None and outcome != "restored":
            maker = await self.owners.find_whose_history(key, besides[:1])
        return (IN_DOUBT, maker) if maker is not None else (None, None)


class Rollback:
    """Brings each before image to its outcome: asset restored, then what was done to version records taken back.

    Images of one assetId, which may share a version record, take turns, the newest first.
    """

    def __init__(
        self, run: Any, settings: Any, tally: Any, archive: Archive, later: LaterImages, show: Callable
    ) -> None:
        """show: says what a dry run would change."""
        self.database = run.reader.database
        self.tables = run.tables
        self.owners = migration.Owners(run.tables, run.reader)
        self.records = ClaimedRecords(self.owners, tally, archive)
        self.settings = settings
        self.tally = tally
        self.archive = archive
        self.later = later
        self.show = show
        self.shown = 0
        self.turns = migration.Turns()
        self.told = Keys()
        self.unsettled = Keys()  # assets of which a before image was not restored

    async def roll_back(self, image: BeforeImage) -> None:
        turn = self.turns.of(image.key[2])
        async with turn:
            await self.tally.outcome_of(image.key, self.told_once(image))

    async def told_once(self, image: BeforeImage) -> Any:
        """Take one asset back, unless its newer before image, of another run, is still to be. What it was reported for
        by that, it is not once more."""
        if self.unsettled.has(image.key):
            self.records.leave(image)
            return "superseded", ()
        try:
            outcome, findings = await self.way_of(image)
        except BaseException:
            self.unsettled.add(image.key)
            self.tell_of(image, "failed")
            raise
        if outcome == "changed_since":
            self.unsettled.add(image.key)
        if image.given_back and findings and findings[0].code in ("changed_since", "asset_deleted"):
            return "nothing_to_restore", ()  # what is there now, or is not, others have made so
        self.tell_of(image, outcome)
        return outcome, tuple(one for one in findings if self.told.add((*image.key, outcome)))

    def tell_of(self, image: BeforeImage, outcome: str) -> None:
        """Whatever is there, a journal has told of it; and it is not migrated any more, or no other journal is known to
        have migrated it."""
        is_back = outcome in ("restored", "record_kept") and "currentVersionId" not in image.asset
        if is_back or image.key[1:] not in self.later:
            self.owners.keys.add(image.key[1], image.key[2], None)

    async def way_of(self, image: BeforeImage) -> Any:
        """Take one asset back; whenever a write finds it changed, look again."""
        untouched = True
        for _ in range(migration.PLAN_ATTEMPTS):
            now = await self.look(image)
            outcome, findings = judge_asset(image, now, self.archive)
            if outcome == "restored":
                change = restoration(image, now)
                self.show_change(now, change)
                refusal = await self.tables.write(change, droppable=untouched)
                untouched = False
                if refusal:
                    migration.require_overtaken(refusal, "The restoration of the asset")
                    continue
                now = now._replace(asset=image.asset)
            elif outcome == "nothing_to_restore" and not untouched:
                outcome = "restored"  # by us, a moment ago
            steps = await self.records.settle(image, now, outcome, untouched)
            if steps is None:
                untouched = False
                continue
            self.tally.assets += outcome == "restored"
            if outcome_with(steps, outcome) == "record_kept":
                stored = next(record for record, step in zip(now.records, steps) if step == CHANGED)
                message = "Its version record is another than this run left, and stays: %s. %s%s" % (
                    _shown({"M": stored}),
                    OF_ANOTHER_RUN if migration.looks_like_ours(stored) else "",
                    by_hand(self.database.record_key(stored)),
                )
                return "record_kept", (Finding("version_record_changed", "assetVersionId", message),)
            return outcome, findings
        raise migration.changed_by_others("changed_during_rollback")

    async def look(self, image: BeforeImage) -> Now:
        """See what is stored now."""
        keys = [image.key, migration.twin_key(image.key)]
        keys += [self.database.record_key(claim.now) for claim in image.claims]
        found = await self.tables.get(keys)
        asset, twin, *records = [found.get(key) for key in keys]
        return Now(asset, twin, records)

    def show_change(self, now: Now, change: Any) -> None:
        if self.settings.dry_run and self.shown < migration.SHOWN_CHANGES:
            self.shown += 1
            plan = migration.Plan("restored", None, change.values, change.removed)
            self.show(migration.describe_change(now.asset, plan))


def restoration(image: BeforeImage, now: Now) -> Any:
    """The change of the asset, which holds while that is as the migration left it; while all of an archived one is as
    it was seen, for another may be archived in its place, and nobody edits it."""
    expected = dict(image.after)
    if image.is_repair:
        still = image.still_repaired(now.asset or {})
        expected = {name: value for name, value in expected.items() if name in still or name in migration.OWNED_FIELDS}
    before = {name: image.before[name] for name in expected}
    values = {name: value for name, value in before.items() if value is not None and value != expected[name]}
    removed = tuple(name for name, value in before.items() if value is None and expected[name] is not None)
    if now.asset and migration.is_archived(image.asset):
        keys = migration.KEY_SCHEMAS["assets_table_name"]
        expected.update((name, value) for name, value in now.asset.items() if name not in keys)
    return migration.Change("UPDATE", image.key, image.size, values, removed, expected, now.asset)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def journals_beside(journals: List[Journal], storage: Any) -> Tuple[List[Any], List[Any]]:
    """The files of other journals of the same tables that lie beside those given; and the errors of those of which
    nobody knows whether they are: they may tell of a later run."""
    given = frozenset(journal.file.identity for journal in journals)
    tables = {name: journals[0].header.get(name) for name in migration.SAME_TABLES}
    damaged = []  # type: List[Any]
    found = collections.OrderedDict()  # type: Dict[Any, Any]  # one folder may have been named in several ways
    for folder in sorted({journal.file.folder for journal in journals}):
        for file, _ in migration.journals_of(storage, folder, tables, given, damaged):
            found.setdefault(file.identity, file)
    return list(found.values()), damaged


def journals_not_given(
    journals: List[Journal], files: List[Any], storage: Any, summaries: Summaries
) -> Tuple[List[Journal], List[LostJournal]]:
    """Of the files, as journals_beside has them, those neither empty nor undone: an interrupted migration that was run
    again has two. And those that are elsewhere, or lost."""
    undone = summaries.undone()
    given = {journal.run for journal in journals if journal.whole}
    beside = journals_in(((file, True) for file in files if not migration.is_empty(file)), Skipped())
    beside = [journal._replace(named=False) for journal in beside if journal.run not in given]
    missing = summaries.missing(journals + beside)
    undone_stems = {mark.rpartition(" ")[0] for mark in undone}
    return (
        [journal for journal in beside if journal.mark not in undone],
        [missing[stem] for stem in missing if stem not in undone_stems],
    )


def rollbacks_of_tables(journals: List[Journal], summaries: Summaries) -> List[Dict[str, Any]]:
    """The summaries of the rollbacks of these tables, also of those that were killed, the oldest first."""
    return [
        summary
        for summary in summaries.rollbacks()
        if journals and migration.of_same_tables(summary, journals[0].header)
    ]


def images_in(journal: Journal) -> int:
    return sum(1 for entry in migration.read_journal_backwards(journal.file) if entry.asset)


def describe_rollback(settings: Any, site: Any, journals: List[Tuple[str, str]], not_given: Sequence[str]) -> str:
    """journals: rows. not_given: texts."""
    mode = "DRY RUN, nothing is written" if settings.dry_run else "ROLLBACK, the tables are changed in place"
    rows = [
        ("mode", mode),
        *journals,
        ("assets table", settings.assets_table_name),
        ("versions table", settings.asset_versions_table_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("kept", "whatever was changed since the migration; the report names it"),
    ]
    advice = "; give it too, or its bucket, if that run is to be undone"
    rows += [("NOT GIVEN", text + advice) for text in not_given[:SHOWN_JOURNALS]]
    if not_given[SHOWN_JOURNALS:]:
        rows.append(("NOT GIVEN", "{:,} more of the same tables".format(len(not_given) - SHOWN_JOURNALS)))
    return "\n".join("  %-15s %s" % row for row in rows)


def roll_back(argv: Optional[List[str]]) -> int:
    """Journals, settings, preflight, plan on one screen, then the run."""
    examples = ("--config my_config.json --journal backups --dry-run", "--config my_config.json --journal backups")
    parser = migration.make_parser("Take a migration from VAMS v2.2 to v2.3 back, from its journals.", FLAGS, examples)
    add_journal_flag(parser, required=True)
    settings, typed = migration.configured(parser, argv)
    # What they choose among is in the journals already.
    settings = settings._replace(limit=None, database_id=[], asset_id=None)
    public = migration.public_settings(settings)
    configured_bucket = migration.without_flags(typed).get("asset_bucket_name")
    session, database = migration.connect(settings)
    storage = migration.Storage(session, settings)
    with migration.preparing():
        skipped = Skipped()
        journals = open_journals(named_journals(typed), storage, skipped)
        skipped.require_undamaged()
    journals = of_these_tables(journals, {name: public[name] for name in SAME_SETTINGS}, skipped)
    migration.announce("VAMS v2.2 to v2.3 rollback %s\n\nPreflight:" % migration.TOOL_VERSION, level=logging.INFO)
    site = migration.preflight(session, database, settings, journal=False)
    migration.require(site.checks + check_others(storage, settings, site))
    journals = of_these_tables(journals, {"account": site.account, "region": site.region}, skipped)
    summaries = Summaries(storage, settings.report_dir, journals)
    journals, undone = without_undone(journals, summaries, skipped)
    allow_many_files()
    with contextlib.ExitStack() as locks:
        with migration.preparing():
            beside, damaged = journals_beside(journals, storage)
            for error in damaged:
                raise error
            for file in [journal.file for journal in journals] + beside:
                file.take(locks)
            counts, archive = survey(journals)
            require_images(journals, counts, summaries)
            not_given, lost = journals_not_given(journals, beside, storage, summaries)
            archive.add_live_twins(journals)
            archive.add_from_others(not_given + undone)
            later = LaterImages(summaries.taken_back(not_given, list(map(images_in, not_given)), lost), lost)
            journals = summaries.taken_back(journals, counts, lost)
        rows = journal_rows(journals, counts) + skipped.rows()
        migration.announce("\nPlan:\n%s\n" % describe_rollback(settings, site, rows, later.texts))
        migration.confirm("Roll back %s now?" % migration.tables_text(settings, site), settings, unattended=False)
        summary = run_rollback(database, settings, site, journals, counts, archive, later)
    of_other_table = next_step_of_other_table(storage, settings, site, typed)
    migration.announce_next(*next_step(summary, typed, configured_bucket, of_other_table))
    return summary["exit_status"]


def check_others(storage: Any, settings: Any, site: Any) -> List[Any]:
    """A warning for each other assets table that was migrated into this versions table: its assets are not in this one,
    so nobody sees here which records they rely on."""
    text = (
        "journal %s: assets of %s were migrated into this versions table too; of the same assetId, version and content"
        " they rely on records that this rollback may remove"
    )
    fix = "roll that run back before this one, with %s, and migrate those assets again after it."
    return [
        migration.Check("warning", text % (path, name), fix % migration.shell_text(["--assets-table", name]))
        for name, path in other_assets_tables(storage, settings, site.account, site.region)
    ]


def other_assets_tables(storage: Any, settings: Any, account: Optional[str], region: str) -> List[Tuple[str, str]]:
    """Each other assets table that was migrated into this versions table, and not taken back, and a journal of that."""
    _, others = migration.journals_of_either_table(storage, settings, account, region)
    return [(name, path) for (key, name), path in others.items() if key == "assets_table_name"]


def allow_many_files() -> None:
    """Each journal is open while it is locked, and a job on Spark has one for each task."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def after_owners(rollback: Rollback, item_count: int, pages: Any):
    """Pages of before images, once it is known which assets share an assetId."""
    try:
        await rollback.owners.read_all(item_count)
        async for page in pages:
            yield page
    finally:
        await pages.aclose()


def add_kept_records(rollback: Rollback) -> None:
    """Report the version records that stay."""
    for database_id, asset_id, outcome, message in rollback.records.kept.left():
        finding = Finding("record_stays", "assetVersionId", message)
        rollback.tally.codes[finding.code] += 1
        rollback.tally.report.add(database_id, asset_id, outcome, finding)


def still_new(rollback: Rollback, later: LaterImages, database_ids: Sequence[str]) -> Tuple[int, List[str], int]:
    """How many assets had a currentVersionId when the keys were read, and no journal has a before image of them; the
    names of the first; and how many have one in a journal that was not given.
    database_ids: of which it is asked, of all where there is none."""
    count, first, of_later = 0, [], 0
    for key in rollback.owners.keys.with_version():
        if database_ids and key[0] not in database_ids:
            continue
        if key in later:
            of_later += 1
        else:
            count += 1
            first += [migration.name_of(*key)] if count <= migration.SHOWN_ASSETS else []
    return count, first, of_later


def next_step(
    summary: Dict[str, Any],
    typed: Dict[str, Any],
    configured_bucket: Optional[str] = None,
    of_other_table: Optional[Tuple[str, Optional[str], Dict[str, Any]]] = None,
) -> Tuple[str, Optional[str], Dict[str, Any]]:
    """What to do after a rollback or its dry run, the script for it and its flags; no script where there is nothing.
    configured_bucket: whatever was typed; of_other_table: as next_step_of_other_table returns it."""
    outcomes = summary["outcomes"]
    if summary["exit_status"] == migration.EXIT_INTERRUPTED:
        return "finish what is left", SCRIPT, typed
    would_write = summary["version_records_removed"] or any(map(outcomes.get, ("would_restore", "would_keep_record")))
    if summary["dry_run"] and would_write:
        return "; then ".join([*what_is_missing(summary), "roll back"]), SCRIPT, migration.for_real(typed)
    if summary["codes"].get("migrated_again"):
        return "; then ".join([*what_is_missing(summary), "roll back by that journal too"]), None, {}
    if outcomes.get("failed") or outcomes.get("would_fail"):
        return "look at what failed, mend it, and run this again", SCRIPT, typed
    of_killed_runs = not summary["dry_run"] and set(summary["journals"]) == set(summary["interrupted_journals"])
    if of_killed_runs and summary["journals_not_given"]:
        step = (
            "migrate again, if users have edited assets since that run was killed; to take all back, give all journals"
        )
        return step, migration.SCRIPT, migration.connection_of(typed)
    if configured_bucket in summary["other_buckets"]:
        flags = migration.without(migration.connection_of(typed), ["asset_bucket_name"])  # that was taken back
        step = "migrate again, with the bucket %s; or, if what was migrated with that is to go too, roll back by it"
        return step % configured_bucket, migration.SCRIPT, flags
    if summary["other_buckets"]:
        return next_step_of_other_bucket(summary["other_buckets"][0], typed)
    if of_other_table:
        step, script, flags = of_other_table
        if summary["codes"].get("record_stays"):
            step = LOOK_AT_RECORDS + step
        return step, script, flags
    flags = {**migration.connection_of(typed), "journal": typed["journal"], "restored": True, "html": True}
    unless = migration.unless_configured(typed, ("database_id", "asset_id"))  # a limit is none there
    return "; ".join(what_to_see(summary)) + unless, migration.VERIFICATION_SCRIPT, flags


def next_step_of_other_bucket(bucket: str, typed: Dict[str, Any]) -> Tuple[str, Optional[str], Dict[str, Any]]:
    """Where what was migrated with this one, and not with that of the settings, is not taken back."""
    step = "take back what was migrated with the bucket %s, if that is to go too; if it is the right one, migrate again"
    flags = {**migration.connection_of(typed), "asset_bucket_name": bucket, "dry_run": True}
    return step % bucket + " with it", SCRIPT, {**flags, "journal": typed["journal"]}


# Which asset relies on which of the tables is not in the assets table.
LOOK_AT_RECORDS = (
    "look at each record_stays of the report: if that table is another stage's, leave the record, which may be its own;"
    " else delete it by hand where the asset that needs it was migrated with the right table; then "
)


def next_step_of_other_table(
    storage: Any, settings: Any, site: Any, typed: Dict[str, Any]
) -> Optional[Tuple[str, Optional[str], Dict[str, Any]]]:
    """Where the versions table is not the configured one, and the assets table is; or where other runs on this assets
    table had another one, and were not taken back. typed: the flags."""
    name = "asset_versions_table_name"
    configuration = migration.without_flags(typed)
    configured, bucket = configuration.get(name), configuration.get("asset_bucket_name")
    others = [key for key in migration.KEY_SCHEMAS if is_not_as_configured(settings, configuration, key)]
    if not configured or others != [name]:
        step = migration.step_of_other_table(storage, settings, site.account, site.region)
        return step and (step, None, {})
    flags = migration.without(migration.connection_of(typed), [name])
    step = "migrate again, if this is right: the asset versions table %s" % configured
    if bucket and flags.get("asset_bucket_name", bucket) != bucket:
        flags = migration.without(flags, ["asset_bucket_name"])  # that was typed for what was taken back
        step += " and the bucket %s" % bucket
    return step, migration.SCRIPT, flags


def is_not_as_configured(settings: Any, configuration: Dict[str, Any], key: str) -> bool:
    """Whether a table, by its name or its ARN, is another than CONFIG and the file name."""
    name, configured = getattr(settings, key), configuration.get(key, getattr(settings, key))
    return bool(migration.plain_table_name(name) != migration.plain_table_name(configured))


def what_to_see(summary: Dict[str, Any]) -> Iterator[str]:
    """What the verification after a rollback is for, and what it is not about."""
    stays = any(map(summary["codes"].get, ("edited_in_old_form", "record_stays")))
    done = summary["exit_status"] == migration.EXIT_DONE and not stays
    if summary["dry_run"]:
        yield "there is nothing to roll back"
    yield "see that everything is as it was before" if done else "see that all but what users made is as it was before"
    yield from what_is_missing(summary)


def what_is_missing(summary: Dict[str, Any]) -> Iterator[str]:
    """What a rollback by these journals leaves, because others tell of it."""
    if summary["codes"].get("migrated_again"):
        assets = migration.counted(summary["codes"]["migrated_again"], "asset")
        yield "look for the journal of the run that may have migrated %s again" % assets
    if summary["migrated_in_no_journal"]:
        assets = migration.counted(summary["migrated_in_no_journal"], "asset")
        yield "see what is in no journal here, named above: %s, of users, failed, or of a lost or skipped run" % assets
    if summary["journals_not_given"]:
        others = summary["assets_of_journals_not_given"]
        left = "look at the journals not given, by which up to %s may be migrated" % migration.counted(others, "asset")
        yield left if others else "look for the journals not given: what their runs did is not in this"


def run_rollback(
    database: Any,
    settings: Any,
    site: Any,
    journals: List[Journal],
    counts: List[int],
    archive: Archive,
    later: LaterImages,
) -> Dict[str, Any]:
    """Restore, or say what would be, and report. Returns the summary, with the exit status.
    counts, archive: as survey has them of the journals."""
    start, total = migration.utc_now(), sum(counts)
    prefix = "dryrun_rollback" if settings.dry_run else "rollback"
    names = DRY_RUN_OUTCOMES if settings.dry_run else {}
    folder = site.storage.folder(settings.report_dir)
    stem = migration.unused_stem([folder], prefix, start, settings.log_file)
    files, outputs = migration.report_files(folder, stem), migration.Outputs(site.storage)
    report = migration.Report(outputs.path_of(files["report"]), names)
    began = beginning(settings, site, journals, counts, start)
    if settings.dry_run:
        migration.tell("The first changes, and what would fail:")
    else:
        with migration.preparing():
            migration.write_summary(outputs.path_of(files["summary"]), {**began, "files": files})
            outputs.store_one(files["summary"])
    tally = migration.Tally(report)
    run = migration.Run(database, settings)
    rollback = Rollback(run, settings, tally, archive, later, migration.tell)
    progress = migration.Progress(total, migration.is_terminal(sys.stderr))
    with migration.interruptible(run):
        error = migration.run_to_end(
            run,
            after_owners(rollback, site.item_count, image_pages(run.reader, journals, later)),
            rollback.roll_back,
            progress,
            lambda: (tally.finished, counts_line(tally)),
        )
        tally.outcomes["not_finished"] = max(0, total - tally.finished)
        if not run.stopped:  # else what is left may still have them removed
            error = migration.despite(error, lambda: add_kept_records(rollback))
        error = migration.despite(error, report.close)
        status = migration.exit_status_of(not_restored(tally), run.stopped, error)
        if settings.log_file:
            files["log"] = settings.log_file
        summary = migration.summarise(settings, site, tally, migration.usage_of(run), start, status, error, files)
        summary["outcomes"] = {names.get(name, name): tally.outcomes[name] for name in OUTCOMES}
        del summary["scanned"]
        summary["assets_restored"] = summary.pop("assets_changed")
        summary["version_records_removed"] = summary.pop("version_records_written")
        summary["before_images"] = total
        summary.update(began)
        summary["superseded_of_journals"] = dict(later.superseded)
        summary["interrupted_journals"] = [journal.path for journal in journals if not journal.whole]
        summary["journals_not_given"] = later.paths
        in_none, first, of_later = 0, [], len(later)  # type: int, List[str], int
        if not run.stopped and not error:
            in_none, first, of_later = still_new(rollback, later, settings.database_id)
        summary["assets_of_journals_not_given"] = of_later
        summary["migrated_in_no_journal"], summary["first_in_no_journal"] = in_none, first
        untouched = (journal for journal in later.journals if journal.left is None)
        buckets = {journal.header["asset_bucket_name"] for journal in untouched}
        # While a journal of this one is left, that comes first.
        summary["other_buckets"] = [] if settings.asset_bucket_name in buckets else sorted(buckets)
        # Whole: what is left of it, no later rollback by these journals alone would take back.
        whole = not tally.codes["record_stays"] and not later.superseded
        summary["undone"] = status == migration.EXIT_DONE and not settings.dry_run and whole
        path = outputs.path_of(files["summary"])
        error = migration.despite(error, lambda: migration.write_summary(path, summary))
        error = outputs.store_despite(error)
        migration.tell_result(result_text(summary, tally.outcomes), error)
    return summary


def beginning(settings: Any, site: Any, journals: List[Journal], counts: List[int], start: Any) -> Dict[str, Any]:
    """What the summary says before anything is written, for a rollback that is killed has no other."""
    return {
        "started": migration.iso_utc(start),
        "opened": time.time(),  # tells which of two of one second was later
        "account": site.account,
        "region": site.region,
        "settings": migration.public_settings(settings),
        "journals": [journal.path for journal in journals],
        "images_of_journals": {journal.mark: count for journal, count in zip(journals, counts)},
    }


def not_restored(tally: Any) -> int:
    return sum(tally.outcomes[name] for name in NOT_RESTORED)


def counts_line(tally: Any) -> str:
    return "done {:,}  {} {:,}  not restored {:,}".format(
        tally.finished, tally.called("restored"), tally.outcomes["restored"], not_restored(tally)
    )


def result_text(summary: Dict[str, Any], outcomes: Mapping[str, int]) -> str:
    """The last screen: what happened and where it is written."""
    codes = summary["codes"]
    verb = "would be " if summary["dry_run"] else ""
    lines = ["", "Result%s:" % (" of the dry run" if summary["dry_run"] else "")]
    if outcomes["not_finished"]:
        done = summary["before_images"] - outcomes["not_finished"]
        lines.append("  stopped: {:,} of {:,} done".format(done, summary["before_images"]))
    # An asset has one in each journal of a run that changed it.
    lines.append(
        migration.count_line(summary["before_images"], "before images, in %.1f s" % summary["duration_seconds"])
    )
    meanings = [
        ("restored", verb + "restored"),
        ("record_kept", verb + "restored, with a version record that stays"),
        ("nothing_to_restore", "nothing to do: restored already, or not migrated by the run of that journal"),
        ("superseded", "superseded by a later before image"),
        ("not_finished", "under way when it was stopped" if summary.get("error") else "stopped before their turn"),
    ]
    for name, meaning in meanings:
        if outcomes[name] or name == "restored":
            lines.append(migration.count_line(outcomes[name], meaning))
    records = "times a version record %s removed or put back" % (verb.strip() or "was")
    lines.append(migration.count_line(summary["version_records_removed"], records))
    others = summary["assets_of_journals_not_given"]
    if others:
        lines.append(migration.count_line(others, "still migrated, at most, by the journals not given"))
    if summary["migrated_in_no_journal"]:
        meaning = (
            "with a currentVersionId, in no journal here: of users in v2.3, failed in the migration, or of a run whose"
            " journal is missing, or was skipped"
        )
        lines.append(migration.count_line(summary["migrated_in_no_journal"], meaning))
        others = ", and others" if len(summary["first_in_no_journal"]) < summary["migrated_in_no_journal"] else ""
        lines.append(" " * 15 + ", ".join(summary["first_in_no_journal"]) + others)
    for title, known in (
        ("Not restored, or not wholly", FAILURES),
        ("Warnings", WARNINGS),
    ):
        found = [code for code in known if codes.get(code)]
        lines += ["", title + ":"] if found else []
        lines += [migration.count_line(codes[code], "%s: %s" % (code, known[code])) for code in found]
    lines.append("")
    lines += ["  %-9s %s" % file for file in summary["files"].items()]
    # What the part of a journal that is missing tells of would be migrated, and in no journal.
    interrupted = summary["interrupted_journals"] if summary["migrated_in_no_journal"] else []
    lines += journal_warnings(interrupted, summary["journals_not_given"])
    return "\n".join(lines)


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(roll_back, argv)


if __name__ == "__main__":
    migration.leave(main())
