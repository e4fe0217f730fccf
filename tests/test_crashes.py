"""Killed at random requests, run again until it finishes: the tables are as if nothing had happened
(spec.md section 3, guarantees 2 to 4). Each test prints its seed; VAMS_FAULT_SEED chooses another."""

import signal

import pytest
from faults import (
    MIGRATION,
    ROLLBACK,
    SMALL_BATCHES,
    Scene,
    check_order,
    check_same,
    hostile_assets,
    run_until_done,
    seeded,
    undisturbed,
)

import local_dynamodb
from benchmarks.front import Front

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
    assets = list(local_dynamodb.sample_assets(100, seed=rng.randrange(10**9))) + list(hostile_assets(rng, 30))
    return assets


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("signals", SIGNALS)
def test_killed_and_run_again(tables, engine, scene, tmp_path, signals, number):
    rng = seeded(number)
    assets = some_assets(rng)
    tables.load(assets)
    before = tables.contents()
    expected = undisturbed(engine, tmp_path, assets)

    def check_now():
        scene.cut_power(rng)
        check_order(before, tables.contents(), scene.journals)

    statuses = run_until_done(
        scene, rng, MIGRATION, *SMALL_BATCHES,
        kills=6, requests=REQUESTS, signals=SIGNALS[signals], after_kill=check_now,
    )  # fmt: skip
    print("exit statuses", statuses)
    assert set(statuses[:-1]) - {0, 1}, "it was never interrupted"
    assert statuses[-1] == expected.status
    check_same(tables.contents(), expected.contents, assets)

    statuses = run_until_done(
        scene, rng, ROLLBACK, *scene.rollback_flags(), *SMALL_BATCHES,
        kills=4, requests=REQUESTS, signals=SIGNALS[signals],
    )  # fmt: skip
    print("exit statuses", statuses)
    assert statuses[-1] == 0, scene.output
    check_same(tables.contents(), before)
