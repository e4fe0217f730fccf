"""What a plain script does, as the measure of everything else: one asset after the other,
one PutItem for its version record and one for the asset, with boto3 as it comes.

It plans as the migration does, so that both write the same. It saves no before images, sets
no conditions and reports nothing. The last line of its output is the seconds that the loop took.
"""

import argparse
import os
import sys
import time

import boto3

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from load_migration import migration  # noqa: E402


def migrate(client, assets_table, versions_table, bucket):
    for page in client.get_paginator("scan").paginate(TableName=assets_table, PaginationConfig={"PageSize": 300}):
        for asset in page["Items"]:
            plan = migration.plan_asset(asset, bucket, "2025-01-01T00:00:00Z")
            if plan.record:
                client.put_item(TableName=versions_table, Item=plan.record)
            if plan.outcome == "migrated":
                kept = {name: value for name, value in asset.items() if name not in plan.remove_attributes}
                client.put_item(TableName=assets_table, Item={**kept, **plan.set_attributes})


def parse_options(description):
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    for flag in ("--endpoint-url", "--assets-table", "--asset-versions-table", "--asset-bucket"):
        parser.add_argument(flag, required=True)
    return parser.parse_args()


def main():
    options = parse_options(__doc__)
    client = boto3.client("dynamodb", endpoint_url=options.endpoint_url)
    start = time.monotonic()
    migrate(client, options.assets_table, options.asset_versions_table, options.asset_bucket)
    print("%.3f" % (time.monotonic() - start))


if __name__ == "__main__":
    main()
