"""While the migration runs, other clients write too (spec.md section 3, guarantees 1 and 6).
Prints its seed; VAMS_FAULT_SEED chooses another."""

import pytest
from faults import SMALL_BATCHES, check_outcomes, random_faults, seeded
from v22 import M, S, asset, record
from writers import Writers

from benchmarks.front import Faults, Front
from load_migration import load_script
from sample_assets import sample_assets

verify = load_script("v2.2_to_v2.3_migration_verify.py")

# What the application may have made of an asset at the moment when it was planned for the last time.
PASSING = {"changed_during_migration", "conflicting_version_ids", "version_conflict"}


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("disturbed", [False, True], ids=["calm", "faults"])
def test_live_writers(tables, engine, number, disturbed):
    rng = seeded("writers %d" % number)
    assets = list(sample_assets(80, seed=rng.randrange(10**9)))
    tables.load(assets)
    faults = random_faults(rng, 0.2) if disturbed else Faults()
    print(faults)
    with Front(engine.port, latency=(0, 0.02), faults=faults, seed=rng.random()) as front:
        through = ["--endpoint-url", front.endpoint_url, *SMALL_BATCHES]
        with Writers(tables, assets, rng, threads=3) as writers:
            run = tables.migrate(*through)
        check_outcomes(run.summary, run.rows)
        assert {row["code"] for row in run.rows if row["outcome"] == "failed"} <= PASSING
        writers.check_nothing_lost()
        again = tables.migrate(*through)
    check_outcomes(again.summary, again.rows)
    print(writers.counts)
    writers.check_nothing_lost()
    assert again.status == 0, again.rows
    writers.check_migrated()
    assert verify.main(tables.flags) == 0


def test_a_version_added_by_v23_before_the_migration_came(tables):
    """The locations still need mending: an empty previewLocation makes the application refuse every listing,
    and once the old attributes are gone no later run looks at the asset again."""
    tables.put(asset("a", currentVersionId=S("4"), previewLocation=M(Key="")))
    tables.put_records(record("a", assetVersionId=S("4")))
    assert tables.migrate().status == 0
    assert verify.main(tables.flags) == 0
    assert tables.asset("db01", "a")["currentVersionId"] == S("4")
