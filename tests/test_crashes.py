"""Killed at random requests, run again until it finishes: the tables are as if nothing had happened
(spec.md section 3, guarantees 2 to 4). Each test prints its seed; VAMS_FAULT_SEED chooses another."""

import signal

import pytest
from faults import (
    MIGRATION,
    ROLLBACK,
    SMALL_BATCHES,
    VERIFY,
    Kill,
    Scene,
    check_order,
    check_same,
    hostile_assets,
    run_until_done,
    seeded,
    undisturbed,
)
from v22 import S, asset, record, version

from benchmarks.front import Front
from sample_assets import sample_assets

SIGNALS = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM and Ctrl-C": (signal.SIGTERM, signal.SIGINT),
    "all": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
}
REQUESTS = 60  # fewer than a run over these assets in small batches sends


@pytest.fixture
def scene(tables, engine, tmp_path):
    with Front(engine.port, latency=(0, 0.004)) as front:
        yield Scene(tables, front, tmp_path / "scene")


def some_assets(rng):
    return list(sample_assets(80, seed=rng.randrange(10**9))) + list(hostile_assets(rng, 30))


@pytest.mark.parametrize("signals", SIGNALS)
def test_killed_and_run_again(tables, engine, scene, tmp_path, signals):
    rng = seeded(signals)
    assets = some_assets(rng)
    tables.load(assets)
    before = tables.contents()
    expected = undisturbed(engine, tmp_path, assets)

    def check_now():
        scene.cut_power(rng)
        check_order(before, tables.contents(), scene.journals)

    statuses = run_until_done(
        scene, rng, MIGRATION, *SMALL_BATCHES,
        kills=5, requests=REQUESTS, signals=SIGNALS[signals], after_kill=check_now,
    )  # fmt: skip
    print("exit statuses", statuses)
    assert set(statuses[:-1]) - {0, 1}, "it was never interrupted"
    assert statuses[-1] == expected.status
    check_same(tables.contents(), expected.contents, assets)

    statuses = run_until_done(
        scene, rng, ROLLBACK, *scene.rollback_flags(), *SMALL_BATCHES,
        kills=3, requests=REQUESTS, signals=SIGNALS[signals],
    )  # fmt: skip
    print("exit statuses", statuses)
    assert statuses[-1] == 0, scene.output
    check_same(tables.contents(), before)


# --------------------------------------------------------------------------------------
# Killed between record and asset; then a user changes the asset
# --------------------------------------------------------------------------------------


def upload(tables):
    tables.put(asset("a", currentVersion=version(Version="4", Comment="Fourth upload")))


def correct_the_comment(tables):
    tables.put(asset("a", currentVersion=version(Comment="Corrected")))


def delete(tables):
    tables.client.delete_item(TableName=tables.assets, Key={"databaseId": S("db01"), "assetId": S("a")})


# What the next run ends with, its codes, and what the verification then says: the record of the interrupted run
# is not known to that run, so it stays. Of the deleted one nothing is left that could be verified.
CHANGES = [(upload, 0, set(), 1), (correct_the_comment, 1, {"version_conflict"}, 1), (delete, 0, set(), 1)]


def killed_between_record_and_asset(tables, scene, change):
    tables.put(asset("a"))
    # Two tables described, a key read and writes tried, a page and the archive's keys read, the record written; the
    # asset's write does not arrive.
    assert scene.run(MIGRATION, kill=Kill(signal.SIGKILL, 8, False)) == -signal.SIGKILL
    assert tables.asset("db01", "a") == asset("a") and tables.record("a", "3") == record("a")
    change(tables)
    return tables.contents()


@pytest.mark.parametrize("change, status, codes, verdict", CHANGES)
def test_changed_after_the_kill(tables, scene, change, status, codes, verdict):
    changed = killed_between_record_and_asset(tables, scene, change)
    assert scene.run(MIGRATION) == status
    assert {row["code"] for row in scene.rows()} == codes
    assert tables.record("a", "3") == record("a")
    assert scene.run(VERIFY) == verdict
    if status:
        assert tables.contents() == changed


@pytest.mark.parametrize("change, status, codes, verdict", CHANGES)
def test_changed_after_the_kill_and_rolled_back_first(tables, scene, change, status, codes, verdict):
    """The journal of the interrupted run knows its record. Without it, the next run gives a verified result."""
    changed = killed_between_record_and_asset(tables, scene, change)
    assert scene.run(ROLLBACK, *scene.rollback_flags()) == (1 if change == delete else 0)  # 1: the asset is gone
    assert tables.contents() == (changed[0], {})
    assert scene.run(MIGRATION) == 0
    assert scene.run(VERIFY) == (1 if change == delete else 0)
    assert len(tables.contents()[1]) == len(tables.contents()[0])
