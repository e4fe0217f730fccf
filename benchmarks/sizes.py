"""Print how long tables of 10,000 to a billion assets take, for the table in README.md.

    python benchmarks/sizes.py

The write units of 10,000 sample assets come from a dry run, the times from the migration's own estimate.
"""

import math
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE)]

from instant_server import InstantServer  # noqa: E402
from run import MIGRATION, ROOT, Version, flags_of, run_tool  # noqa: E402

from load_migration import migration  # noqa: E402

SAMPLE = 10000  # assets
CAPACITIES = (4000, 40000, 200000)  # write units a second of each table
# Of a core at full speed, by the CPU for each asset in README.md: 0.191 ms, and half as much again on Spark.
ASSETS_A_SECOND = {"processes that use it": 5200, "cores of Spark that use it": 3500}


def estimate_of_sample():
    """What a dry run says of the sample."""
    with InstantServer(SAMPLE) as server, tempfile.TemporaryDirectory(prefix="benchmark-") as work:
        dry = run_tool(Version(ROOT, ""), MIGRATION, flags_of(server.endpoint_url) + ["--dry-run"], work)
        return dry.summary["estimate"]


def scaled(sample, assets, capacity):
    """The migration's estimate for so many assets like the sample, in tables of this capacity."""
    factor = assets / SAMPLE
    tables = list(sample["write_units"])
    units = migration.UnitCounts(*tables)
    units.by_table.update((name, count * factor) for name, count in sample["write_units"].items())
    units.add_databases({sample["busiest_database_id"]: sample["busiest_write_units"] * factor})
    site = migration.Site(None, "", assets, [], dict.fromkeys(tables, capacity))
    return migration.estimate(units, sample["journal_bytes"] * factor, site)


def cores(sample, capacity, assets_a_second):
    """How many can use that capacity, of the table that takes more."""
    for_each_asset = max(sample["write_units"].values()) / SAMPLE
    return math.ceil(capacity / for_each_asset / assets_a_second)


def main():
    sample = estimate_of_sample()
    heads = ["at {:,} a second".format(capacity) for capacity in CAPACITIES]
    print("| assets | write units | journal | %s | busiest databaseId |" % " | ".join(heads))
    print("|---|---|---|%s---|" % ("---|" * len(heads)))
    for power in range(4, 10):
        numbers = [scaled(sample, 10**power, capacity) for capacity in CAPACITIES]
        cells = ["{:,}".format(10**power), "{:,.0f}".format(sum(numbers[0]["write_units"].values()))]
        cells.append("{:,.2f} GB".format(numbers[0]["journal_bytes"] / 1e9))
        cells += [migration.duration_text(number["tables_seconds"]) for number in numbers]
        print("| %s | %s |" % (" | ".join(cells), migration.duration_text(numbers[0]["busiest_seconds"])))
    for name, assets_a_second in ASSETS_A_SECOND.items():
        needed = [str(cores(sample, capacity, assets_a_second)) for capacity in CAPACITIES]
        print("| %s | | | %s | 1 |" % (name, " | ".join(needed)))


if __name__ == "__main__":
    main()
