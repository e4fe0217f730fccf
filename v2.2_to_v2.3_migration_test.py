#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3"]
# ///
"""Test the migration on real tables, with assets of its own.

    settings -> preflight -> create test assets -> migrate them -> verify them -> remove them

The test assets lie under a databaseId made up for the run, and their assetIds begin with it.
Only these are read, migrated and removed, so the tables may be in use. They are removed also
after a failure or an interruption, unless --no-cleanup is given. What a killed run has left,
`--cleanup DATABASE_ID` removes; the run names its databaseId before it creates anything.

Exit status:
    0    passed: the test assets were migrated, verified and removed
    1    the migration or the verification failed, or something could not be removed
    2    wrong usage or settings, nothing written
    3    preflight failed, nothing written
    130  interrupted
"""

import argparse
import contextlib
import functools
import glob
import json
import os
import re
import signal
import sys
import threading
import uuid
from typing import Any, Callable, Dict, Iterator, List, Optional

try:
    from load_migration import load_script, migration
except ModuleNotFoundError as missing:
    if missing.name != "load_migration":
        raise
    sys.stderr.write("error: load_migration.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")
sample_assets = load_script("sample_assets.py").sample_assets

DEFAULT_ASSETS = 5
MOST_ASSETS = verify.QUERIED_ASSETS  # beyond, the verification reads other assets' records too
OWN_DATABASE_ID = re.compile(r"vams-migration-test-[0-9a-f]{16}\Z")

Item = Dict[str, Dict[str, Any]]


# --------------------------------------------------------------------------------------
# Test assets
# --------------------------------------------------------------------------------------


def new_database_id() -> str:
    return "vams-migration-test-" + uuid.uuid4().hex[:16]


def partitions(database_id: str) -> List[str]:
    return [database_id, database_id + migration.ARCHIVED_SUFFIX]


def make_assets(count: int, database_id: str) -> Iterator[Item]:
    """Sample assets under keys of this run. The versions table is keyed by assetId alone, so
    that begins with the databaseId too. Twins keep a common one."""
    new_ids = {}  # type: Dict[str, str]
    for asset in sample_assets(count, databases=1):
        old_id = asset["assetId"]["S"]
        new_id = new_ids.setdefault(old_id, "%s-%d" % (database_id, len(new_ids) + 1))
        # Everywhere in the asset: the keys of its files begin with the assetId.
        asset = json.loads(json.dumps(asset).replace(old_id, new_id))
        asset["databaseId"] = {"S": partitions(database_id)[migration.is_archived(asset)]}
        yield asset


async def list_pages(items: List[Any]):
    """Items of a list as pages for a Run."""
    segment = migration.Segment({})
    for start in range(0, len(items), migration.PAGE_ITEMS):
        yield migration.Page(items[start : start + migration.PAGE_ITEMS], 0, segment)


class TestData:
    """The test assets of one databaseId in the tables: created, and removed with their records.

    Each step returns whether it came to its end, not interrupted.
    """

    def __init__(self, database: Any, settings: Any, database_id: str) -> None:
        self.database = database
        self.settings = settings
        self.database_id = database_id

    def create(self, count: int) -> bool:
        async def insert(run: Any, asset: Item) -> None:
            # DuplicateItem: our own write, whose answer was lost. Nobody else makes such keys.
            await self.write(run, "INSERT", self.database.assets, asset, "DuplicateItem")

        assets = list(make_assets(count, self.database_id))
        return self.run(lambda reader: list_pages(assets), insert)

    def remove(self) -> bool:
        """The version records, then the assets, by which what is left can be found."""
        assets = []  # type: List[Item]

        async def collect(run: Any, asset: Item) -> None:
            if asset["assetId"]["S"].startswith(self.database_id + "-"):
                assets.append(asset)

        async def delete_record(run: Any, record: Item) -> None:
            await self.write(run, "DELETE", self.database.versions, record, "ConditionalCheckFailed")

        async def delete_asset(run: Any, asset: Item) -> None:
            await self.write(run, "DELETE", self.database.assets, asset, "ConditionalCheckFailed")

        names = partitions(self.database_id)
        queries = [migration.Segment(migration.query_of("databaseId", name)) for name in names]
        if not self.run(lambda reader: migration.table_pages(reader, self.database.assets, queries), collect):
            return False
        asset_ids = sorted({asset["assetId"]["S"] for asset in assets})
        histories = [migration.Segment(migration.query_of("assetId", asset_id)) for asset_id in asset_ids]
        return self.run(
            lambda reader: migration.table_pages(reader, self.database.versions, histories), delete_record
        ) and self.run(lambda reader: list_pages(assets), delete_asset)

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


def create_migrate_verify(data: TestData, settings: Any, site: Any, count: int) -> int:
    """Returns the exit status."""
    database = data.database
    migration.announce("\nCreating %d test assets." % count)
    if not data.create(count):
        return migration.EXIT_INTERRUPTED
    migration.announce("\nMigrating them.")
    status = migration.run_migration(database, settings, site)
    if status == migration.EXIT_INTERRUPTED:
        return status
    migration.announce("\nVerifying them.")
    journals = rollback.open_journals(glob.glob(os.path.join(glob.escape(settings.journal_dir), "*.jsonl")))
    requests = verify.RequestCounts(database.client)
    verified = verify.run_verification(database, settings, site, journals, None, None, requests.counts)
    # Had it found no asset at all, nothing would have failed.
    if sum(rollback.survey(journals)[0]) < count:
        migration.announce("Not all of the %d test assets were migrated." % count)
        return migration.EXIT_FAILED_ASSETS
    return verified if verified == migration.EXIT_INTERRUPTED else max(status, verified)


def clean_up(data: TestData) -> int:
    """Remove what is there; say what is left where that does not succeed. Returns the exit status."""
    status = migration.EXIT_INTERRUPTED
    migration.announce("\nRemoving the test assets of databaseId %s." % data.database_id)
    try:
        if data.remove():
            return migration.EXIT_DONE
    except migration.MigrationError as error:
        migration.announce("error: %s" % error, sys.stderr)
        status = migration.EXIT_FAILED_ASSETS
    except KeyboardInterrupt:
        pass
    announce_left(data.database_id)
    return status


def announce_left(database_id: str) -> None:
    command = "%s --cleanup %s" % (os.path.basename(__file__), database_id)
    migration.announce(
        "Test assets are left under databaseId %s. `python %s`,"
        " with the same configuration or connection flags, removes them."
        % (" and ".join(partitions(database_id)), command)
    )


@contextlib.contextmanager
def terminated_as_interrupted():
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that the test assets get removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signal_number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def number_of_assets(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_ASSETS:
        raise argparse.ArgumentTypeError("give a whole number, 1 to %d" % MOST_ASSETS)
    return int(text)


def own_database_id(text: str) -> str:
    if not OWN_DATABASE_ID.match(text):
        raise argparse.ArgumentTypeError("%r is no databaseId that this script makes" % text)
    return text


def make_parser() -> Any:
    parser = migration.make_parser(
        "Test the migration on the tables named, with assets of its own.", migration.SHARED_SETTINGS
    )
    parser.add_argument(
        "--num-assets",
        type=number_of_assets,
        default=DEFAULT_ASSETS,
        metavar="N",
        help="test assets to create, 1 to %d; default: %d" % (MOST_ASSETS, DEFAULT_ASSETS),
    )
    parser.add_argument("--no-cleanup", action="store_true", default=False, help="leave the test assets in the tables")
    parser.add_argument(
        "--cleanup",
        type=own_database_id,
        default=None,
        metavar="DATABASE_ID",
        help="only remove what a test run has left under this databaseId",
    )
    return parser


def test(argv: Optional[List[str]]) -> int:
    """Settings, preflight, then the test or the removal of what one has left."""
    flags = vars(make_parser().parse_args(argv))
    count, keep, left = flags.pop("num_assets"), flags.pop("no_cleanup"), flags.pop("cleanup")
    file_values = migration.read_config_file(flags.pop("config", None))
    settings = migration.resolve_settings(migration.CONFIG, file_values, flags)
    database_id = left or new_database_id()
    settings = settings._replace(
        dry_run=False,
        limit=None,
        database_id=partitions(database_id),
        asset_id=None,
        # A folder of its own, so that nobody takes its journal for that of a real migration.
        journal_dir=os.path.join(settings.journal_dir, database_id),
    )
    migration.configure_logging(settings.log_level, settings.log_file)
    session, database = migration.connect(settings)
    migration.announce("Test of the VAMS v2.2 to v2.3 migration %s\n\nPreflight:" % migration.TOOL_VERSION)
    site = migration.preflight(session, database.client, settings)
    migration.announce_checks(site.checks)
    migration.require(site.checks)
    data = TestData(database, settings, database_id)
    if left:
        return clean_up(data)
    announce_plan(settings, site, database_id, count)
    return run_test(data, settings, site, count, keep)


def announce_plan(settings: Any, site: Any, database_id: str, count: int) -> None:
    rows = [
        ("mode", "TEST, only assets of its own are created, migrated and removed"),
        ("assets table", settings.assets_table_name),
        ("versions table", settings.asset_versions_table_name),
        ("where", settings.endpoint_url or "account %s, region %s" % (site.account, site.region)),
        ("test assets", "%d, under databaseId %s" % (count, database_id)),
        ("if killed", "`python %s --cleanup %s` removes them" % (os.path.basename(__file__), database_id)),
    ]
    migration.announce("\nPlan:\n" + "\n".join("  %-15s %s" % row for row in rows))


def run_test(data: TestData, settings: Any, site: Any, count: int, keep: bool) -> int:
    """Create, migrate and verify, and clean up whatever happens. Returns the exit status."""
    cleaned = migration.EXIT_DONE
    with terminated_as_interrupted():
        try:
            status = create_migrate_verify(data, settings, site, count)
        finally:
            if keep:
                announce_left(data.database_id)
            else:
                cleaned = clean_up(data)
    if status == migration.EXIT_DONE or cleaned == migration.EXIT_INTERRUPTED:
        status = cleaned
    if status == migration.EXIT_DONE:
        migration.announce("\nPASSED: %d test assets were migrated and verified." % count)
    elif status != migration.EXIT_INTERRUPTED:
        migration.announce("\nFAILED: the messages above and the reports say why.", sys.stderr)
    return status


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(test, argv)


if __name__ == "__main__":
    sys.exit(main())
