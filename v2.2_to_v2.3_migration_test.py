#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Prove the migration on the tables named, with items of its own.

    settings -> preflight -> try what the migration relies on -> create test assets -> migrate -> verify
             -> roll back -> compare with the originals -> migrate again -> verify -> remove everything

Its items lie under a databaseId made up for the run, and their assetIds begin with it. Only these
are written and removed, and of others no more than keys is read, so the tables may be in use. They
are removed also after a failure or an interruption, unless --no-cleanup is given. What a killed run
has left, `--cleanup DATABASE_ID` removes; the run names its databaseId before it creates anything.

Exit status:
    0    passed
    1    DynamoDB differs from what is expected, a step failed, or something could not be removed
    2    wrong usage or settings, nothing written
    3    preflight failed, nothing written
    130  interrupted or declined by the operator
"""

import argparse
import functools
import json
import os
import re
import sys
import uuid
from typing import Any, Callable, Dict, List, Optional, Tuple

try:
    from load_migration import load_script, migration
except ModuleNotFoundError as missing:
    if missing.name != "load_migration":
        raise
    sys.stderr.write("error: load_migration.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")
samples = load_script("sample_assets.py")
trials = load_script("trials.py")

SCRIPT = os.path.basename(migration.script_path(__file__))
DEFAULT_ASSETS = 5  # beside one of each shape
MOST_ASSETS = verify.QUERIED_ASSETS - 100  # beyond, the verification reads other assets' records too
OWN_DATABASE_ID = re.compile(r"vams-migration-test-[0-9a-f]{16}\Z")

Item = Dict[str, Dict[str, Any]]
DONE, FAILED, INTERRUPTED = migration.EXIT_DONE, migration.EXIT_FAILED_ASSETS, migration.EXIT_INTERRUPTED


# --------------------------------------------------------------------------------------
# Test assets
# --------------------------------------------------------------------------------------


def new_database_id() -> str:
    return "vams-migration-test-" + uuid.uuid4().hex[:16]


def partitions(database_id: str) -> List[str]:
    return [database_id, database_id + migration.ARCHIVED_SUFFIX]


def make_assets(count: int, database_id: str) -> List[Item]:
    """One sample asset of each shape and `count` more, under keys of this run. The versions table is
    keyed by assetId alone, so that begins with the databaseId too. Twins keep a common one."""
    assets = []
    new_ids = {}  # type: Dict[str, str]
    for asset in samples.sample_assets(number_of_shapes() + count, databases=1):
        old_id = asset["assetId"]["S"]
        new_id = new_ids.setdefault(old_id, "%s-%d" % (database_id, len(new_ids) + 1))
        # Everywhere in the asset: the keys of its files begin with the assetId.
        asset = json.loads(json.dumps(asset).replace(old_id, new_id))
        asset["databaseId"] = {"S": partitions(database_id)[migration.is_archived(asset)]}
        assets.append(asset)
    return assets


def number_of_shapes() -> int:
    """How many sample assets it takes for one of each shape in one database."""
    return sum(name != "two_databases_twin" for name, _ in samples.sample_shapes())


async def list_pages(items: List[Any]):
    """Items of a list as pages for a Run."""
    segment = migration.Segment({})
    for start in range(0, len(items), migration.PAGE_ITEMS):
        yield migration.Page(items[start : start + migration.PAGE_ITEMS], 0, segment)


class TestData:
    """The items of one databaseId in the tables: created, read, and removed with their version records.

    Each step returns whether it came to its end, or what it was asked for; None or False where it was interrupted.
    """

    def __init__(self, database: Any, settings: Any, database_id: str, removal: str) -> None:
        """removal: the command that removes what is left."""
        self.database = database
        self.settings = settings
        self.database_id = database_id
        self.removal = removal
        self.removed = (0, 0)

    def try_all(self) -> Optional[List[Any]]:
        """Try what the migration relies on. Returns the checks."""
        run = migration.Run(self.database, self.settings)
        found = trials.Trials(run, self.database_id)
        with migration.interruptible(run):
            run.execute(list_pages([*trials.TRIALS, None]), found.outcome_of, lambda run: None)
        return None if run.stopping else found.checks

    def create(self, assets: List[Item]) -> bool:
        async def insert(run: Any, asset: Item) -> None:
            # DuplicateItem: our own write, whose answer was lost. Nobody else makes such keys.
            await self.write(run, "INSERT", self.database.assets, asset, "DuplicateItem")

        return self.run(lambda reader: list_pages(assets), insert)

    def read(self) -> Optional[Tuple[List[Item], List[Item]]]:
        """The assets and their version records."""
        assets, records = [], []  # type: List[Item], List[Item]

        async def collect_asset(run: Any, asset: Item) -> None:
            if asset["assetId"]["S"].startswith(self.database_id + "-"):
                assets.append(asset)

        async def collect_record(run: Any, record: Item) -> None:
            records.append(record)

        names = partitions(self.database_id)
        queries = [migration.Segment(migration.query_of("databaseId", name)) for name in names]
        if not self.run(lambda reader: migration.table_pages(reader, self.database.assets, queries), collect_asset):
            return None
        asset_ids = sorted({asset["assetId"]["S"] for asset in assets})
        histories = [migration.Segment(migration.query_of("assetId", asset_id)) for asset_id in asset_ids]
        if not self.run(
            lambda reader: migration.table_pages(reader, self.database.versions, histories), collect_record
        ):
            return None
        return assets, records

    def remove(self) -> bool:
        """The version records, then the assets, by which what is left can be found. `removed` says how many."""

        async def delete_record(run: Any, record: Item) -> None:
            await self.write(run, "DELETE", self.database.versions, record, "ConditionalCheckFailed")

        async def delete_asset(run: Any, asset: Item) -> None:
            await self.write(run, "DELETE", self.database.assets, asset, "ConditionalCheckFailed")

        found = self.read()
        if found is None:
            return False
        assets, records = found
        self.removed = (len(assets), len(records))
        return self.run(lambda reader: list_pages(records), delete_record) and self.run(
            lambda reader: list_pages(assets), delete_asset
        )

    async def write(self, run: Any, kind: str, table: str, item: Item, done_code: str) -> None:
        """done_code: the refusal of a write that was done before, or needs not be done any more."""
        key = self.database.key_of(table, item)
        values = item if kind == "INSERT" else {}
        change = migration.Change(kind, key, len(migration.to_json(item)), values)
        refusal = await run.tables.write(change, droppable=True)
        if refusal and refusal.code != done_code:
            raise migration.MigrationError(
                "DynamoDB rejected a write to the test item %s / %s: %s: %s" % (key[1:] + refusal[:2]),
                "mend what it says, then run again.",
            )

    def run(self, pages: Callable[[Any], Any], do: Callable[[Any, Any], Any]) -> bool:
        """Do something for each item of pages."""
        run = migration.Run(self.database, self.settings)
        with migration.interruptible(run):
            run.execute(pages(run.reader), functools.partial(do, run), lambda run: None)
        return not run.stopping


# --------------------------------------------------------------------------------------
# The test
# --------------------------------------------------------------------------------------


class Proof:
    """The steps of the test, each of which returns an exit status."""

    def __init__(self, data: TestData, settings: Any, site: Any, count: int) -> None:
        self.data = data
        self.settings = settings
        self.site = site
        self.assets = make_assets(count, data.database_id)
        self.journals = []  # type: List[Any]  # of the last migration

    def steps(self) -> List[Tuple[str, Callable[[], int]]]:
        number = len(self.assets)
        return [
            ("Trying what the migration relies on:", self.try_all),
            ("Creating %d test assets." % number, self.create),
            ("Migrating them.", self.migrate),
            ("Verifying them.", self.verify),
            ("Rolling them back.", self.roll_back),
            ("Comparing them with the originals.", self.compare),
            ("Migrating them again.", self.migrate),
            ("Verifying them again.", self.verify),
        ]

    def execute(self) -> int:
        """All steps, until one does not succeed."""
        for title, step in self.steps():
            migration.announce("\n" + title)
            status = step()
            if status != DONE:
                return status
        return DONE

    def try_all(self) -> int:
        checks = self.data.try_all()
        if checks is None:
            return INTERRUPTED
        migration.announce_checks(checks)
        if any(check.level == "error" for check in checks):
            return FAILED
        return DONE if self.data.remove() else INTERRUPTED

    def create(self) -> int:
        return DONE if self.data.create(self.assets) else INTERRUPTED

    def migrate(self) -> int:
        before = self.journal_paths()
        status = migration.run_migration(self.data.database, self.settings, self.site)
        paths = [path for path in self.journal_paths() if path not in before]
        self.journals = rollback.open_journals(paths, self.site.storage, rollback.Skipped())
        # Had it found no asset at all, nothing would have failed.
        if status == DONE and sum(rollback.survey(self.journals)[0]) < len(self.assets):
            migration.announce("Not all of the %d test assets were migrated." % len(self.assets))
            return FAILED
        return status

    def verify(self) -> int:
        requests = verify.RequestCounts(self.data.database.client)
        _, archive = rollback.survey(self.journals)
        case = verify.Case(self.data.database, self.settings, self.site, self.journals, archive)
        return verify.run_verification(case, requests.counts)

    def roll_back(self) -> int:
        journals, later = self.journals, rollback.LaterImages([], [])
        counts, archive = rollback.survey(journals)
        summary = rollback.run_rollback(self.data.database, self.settings, self.site, journals, counts, archive, later)
        return summary["exit_status"]

    def compare(self) -> int:
        found = self.data.read()
        if found is None:
            return INTERRUPTED
        assets, records = found
        now = {self.key_of(asset): asset for asset in assets}
        wrong = [name_of(asset) for asset in self.assets if not migration.same(now.get(self.key_of(asset)), asset)]
        wrong += ["version record of " + record["assetId"]["S"] for record in records]
        if len(assets) != len(self.assets):
            wrong.append("%d assets instead of %d" % (len(assets), len(self.assets)))
        if wrong:
            migration.announce("Not as before the migration: %s." % ", ".join(wrong))
        return FAILED if wrong else DONE

    def key_of(self, asset: Item) -> Any:
        return self.data.database.key_of(self.data.database.assets, asset)

    def journal_paths(self) -> List[str]:
        return [journal.path for journal in self.site.storage.journals(self.settings.journal_dir)]


def name_of(asset: Item) -> str:
    return migration.name_of(asset["databaseId"]["S"], asset["assetId"]["S"])


def clean_up(data: TestData) -> int:
    """Remove what is there; say what is left where that does not succeed. Returns the exit status."""
    status = INTERRUPTED
    migration.announce("\nRemoving the test assets of databaseId %s." % data.database_id)
    try:
        if data.remove():
            names = tuple(map(migration.counted, data.removed, ("asset", "version record")))
            migration.announce("Removed: %s, %s." % names if any(data.removed) else "There was nothing to remove.")
            return DONE
    except migration.MigrationError as error:
        migration.announce("error: %s" % error, sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        pass
    announce_left(data)
    return status


def announce_left(data: TestData) -> None:
    names = " and ".join(partitions(data.database_id))
    migration.announce("Test assets are left under databaseId %s. This removes them:\n%s" % (names, data.removal))


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def number_of_assets(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_ASSETS:
        raise argparse.ArgumentTypeError("give a whole number, 1 to %d" % MOST_ASSETS)
    return int(text)


def own_database_id(text: str) -> str:
    if not OWN_DATABASE_ID.match(text):
        raise argparse.ArgumentTypeError("%r is none that this script makes, vams-migration-test-..." % text)
    return text


def make_parser() -> Any:
    parser = migration.make_parser(
        "Prove the migration on the tables named, with items of its own.",
        (*migration.SHARED_SETTINGS, "journal_dir", "report_dir", "yes"),
    )
    parser.add_argument(
        "--num-assets",
        type=number_of_assets,
        default=DEFAULT_ASSETS,
        metavar="N",
        help="test assets to create beside one of each shape, 1 to %d; default: %d" % (MOST_ASSETS, DEFAULT_ASSETS),
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--no-cleanup", action="store_true", default=False, help="leave the test assets in the tables")
    either.add_argument(
        "--cleanup",
        type=own_database_id,
        default=None,
        metavar="DATABASE_ID",
        help="only remove what a test run has left under this databaseId",
    )
    return parser


def test(argv: Optional[List[str]]) -> int:
    """Settings, preflight, then the test or the removal of what one has left."""
    settings, typed = migration.configured(make_parser(), argv)
    count, keep, left = typed["num_assets"], typed["no_cleanup"], typed["cleanup"]
    database_id = left or new_database_id()
    session, database = migration.connect(settings)
    storage = migration.Storage(session, settings)
    settings = settings._replace(
        dry_run=False,
        limit=None,
        database_id=partitions(database_id),
        asset_id=None,
        # Folders of its own, so that nobody takes its journal, or its summary, for those of a real migration.
        journal_dir=storage.folder(settings.journal_dir).path_of(database_id),
        report_dir=storage.folder(settings.report_dir).path_of(database_id),
    )
    migration.announce("Test of the VAMS v2.2 to v2.3 migration %s\n\nPreflight:" % migration.TOOL_VERSION)
    site = migration.preflight(session, database, settings, journal=left is None)
    migration.require(site.checks)
    removal = {**migration.connection_of(typed), "cleanup": database_id}
    data = TestData(database, settings, database_id, migration.command_text(SCRIPT, removal))
    if left:
        return clean_up(data)
    proof = Proof(data, settings, site, count)
    announce_plan(settings, site, proof)
    migration.confirm("Create these items in these tables and remove them again now?", settings)
    return run_test(proof, keep)


def announce_plan(settings: Any, site: Any, proof: Proof) -> None:
    number, shapes, database_id = len(proof.assets), number_of_shapes(), proof.data.database_id
    rows = [
        ("mode", "TEST, whatever dry_run says: only items of its own are created, changed and removed"),
        ("assets table", settings.assets_table_name),
        ("versions table", settings.asset_versions_table_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("test assets", "%d, one of each of %d shapes and %d more" % (number, shapes, number - shapes)),
        ("under", "databaseId %s" % database_id),
        ("if killed", "this removes them: %s" % proof.data.removal),
    ]
    migration.announce("\nPlan:\n%s\n" % "\n".join("  %-15s %s" % row for row in rows))


def run_test(proof: Proof, keep: bool) -> int:
    """Execute the steps, and clean up whatever happens. Returns the exit status."""
    cleaned = DONE
    try:
        status = proof.execute()
    except (migration.PreflightError, migration.SettingsError) as error:
        raise migration.MigrationError(error.cause, error.fix)  # "nothing was written" is true of that step only
    finally:
        if keep:
            announce_left(proof.data)
        else:
            cleaned = clean_up(proof.data)
    if status == DONE or cleaned == INTERRUPTED:
        status = cleaned
    if status == DONE:
        text = "\nPASSED: %d trials; %d test assets were migrated, verified, rolled back and migrated again."
        migration.announce(text % (len(trials.TRIALS) + 1, len(proof.assets)))
    elif status != INTERRUPTED:
        migration.announce("\nFAILED: the messages above and the reports say why.", sys.stderr)
    return status


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(test, argv)


if __name__ == "__main__":
    migration.leave(main())
