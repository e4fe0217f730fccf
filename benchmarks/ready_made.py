"""What the engine takes at most: the migration's requests and nothing between them.

The statements are made beforehand and sent in full batches from as many threads as the migration has
workers, while the table is read in the migration's pages, which are dropped. Nothing is
planned, saved or reported. The last line of its output is the seconds that this took.
"""

import asyncio
import itertools
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from sequential import parse_options

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from load_migration import migration  # noqa: E402

BATCH_SIZE = migration.SETTINGS["batch_size"].default
WORKERS = migration.SETTINGS["workers"].default


def statements_of(client, database, bucket):
    """The writes that migrate all assets, those on the two tables by turns, as the migration mixes them."""
    inserts, updates = {}, []
    for page in client.get_paginator("scan").paginate(TableName=database.assets):
        for asset in page["Items"]:
            plan = migration.plan_asset(asset, bucket, "2025-01-01T00:00:00Z")
            if plan.record:
                # One for each key: an archived asset may share its record's with its live twin.
                key = database.key_of(database.versions, plan.record)
                inserts[key] = migration.insert_statement(database.versions, plan.record)
            if plan.outcome == "migrated":
                key = {name: asset[name] for name in database.key_names[database.assets]}
                change = (plan.set_attributes, plan.remove_attributes, plan.expected)
                updates.append(migration.update_statement(database.assets, key, *change))
    return [write for pair in itertools.zip_longest(inserts.values(), updates) for write in pair if write]


def read(database, item_count):
    """Read the table as the migration does, a page at a time."""

    async def pages():
        async for _ in migration.table_pages(reader, database.assets, migration.segments_of_table(item_count)):
            pass

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    reader = migration.Reader(database, loop)
    loop.run_until_complete(pages())
    reader.requests.threads.shutdown()
    loop.close()


def read_and_write(database, statements, item_count):
    batches = [statements[at : at + BATCH_SIZE] for at in range(0, len(statements), BATCH_SIZE)]
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(WORKERS) as writers:
        reading = reader.submit(read, database, item_count)
        codes = {code for answers, _ in writers.map(database.execute, batches) for code, _ in answers}
        reading.result()
    assert codes == {None}, codes


def main():
    options = parse_options(__doc__)
    client = boto3.client("dynamodb", endpoint_url=options.endpoint_url)
    database = migration.Database(client, options.assets_table, options.asset_versions_table)
    statements = statements_of(client, database, options.asset_bucket)
    item_count = client.describe_table(TableName=database.assets)["Table"]["ItemCount"]
    start = time.monotonic()
    read_and_write(database, statements, item_count)
    print("%.3f" % (time.monotonic() - start))


if __name__ == "__main__":
    main()
