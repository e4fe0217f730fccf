"""The guarantees of spec.md section 3, again and again, on random tables with random faults.

    python tests/soak.py --minutes 30

Each round migrates other assets, through another mixture of faults and kills, alone, twice at once or in the
company of other clients, or lives through small worlds of both applications and the tool (tests/world.py), and checks
what must hold. It prints a line; the first difference ends the soak with exit
status 1 and says what differed and how to repeat that round alone:

    python tests/soak.py --seed 4711 --rounds 1
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import pytest  # noqa: E402
from faults import (  # noqa: E402
    MIGRATION,
    ROLLBACK,
    SMALL_BATCHES,
    VERIFY,
    Scene,
    check_order,
    check_outcomes,
    check_same,
    hostile_assets,
    new_tables,
    random_faults,
    random_kill,
    run_until_done,
    undisturbed,
)
from world import live_through_drawn, stage  # noqa: E402
from writers import Writers  # noqa: E402

import local_dynamodb  # noqa: E402
from benchmarks.front import Front  # noqa: E402
from sample_assets import sample_assets  # noqa: E402

WORLDS = 60  # of a round
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class TracingFront(Front):
    """Remembers what it answered to writes, for the analysis of a difference."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.trace = []

    def _executed(self, request):
        answer = super()._executed(request)
        if request.operation == "BatchExecuteStatement" and answer.status == 200:
            for statement, response in zip(request.payload["Statements"], answer.payload["Responses"]):
                self.trace.append((time.monotonic(), statement, response.get("Error", {}).get("Code", "done")))
        return answer


# --------------------------------------------------------------------------------------
# Rounds
# --------------------------------------------------------------------------------------


def drawn(engine, rng, folder, most):
    """Assets, of those that samples are like no more than that, version records in their way, and what an undisturbed
    run makes of them."""
    assets = list(sample_assets(rng.randint(10, most), seed=rng.randrange(10**9)))
    assets += list(hostile_assets(rng, rng.randint(0, 30)))
    records = conflicts(rng, assets)
    return assets, records, undisturbed(engine, folder, assets, records)


def check_migrated(scene, expected, assets, status, *flags):
    """After the last of some runs, which ended with this status; flags: of the verification."""
    check_outcomes(scene.last_summary(), scene.rows())
    check_same(scene.tables.contents(), expected.contents, assets)
    assert status == expected.status, "exit status %s, not %s" % (status, expected.status)
    verdict = scene.run(VERIFY, *scene.rollback_flags(), *flags)
    assert verdict == expected.status, "the verification says %s, not %s" % (verdict, expected.status)


def check_as_before(tables, before, rows):
    check_same(without_doubted(tables.contents(), rows), without_doubted(before, rows))


def alone(engine, rng, folder):
    """Killed, disturbed and run again: as undisturbed; then rolled back in the same way: as before."""
    assets, records, expected = drawn(engine, rng, folder, 80)
    faults = random_faults(rng, rng.choice([0.0, 0.1, 0.3]))
    with new_tables(engine, folder) as tables, TracingFront(engine.port, 0, None, faults, rng.random()) as front:
        scene = Scene(tables, front, folder / "scene")
        tables.load(assets)
        tables.put_records(*records)
        before = tables.contents()

        def check_now():
            scene.cut_power(rng)
            check_order(before, tables.contents(), scene.journals)

        batch_size = rng.choice([1, 3, 25])
        flags = ["--batch-size", str(batch_size), "--workers", str(rng.choice([1, 3, 8]))]
        requests = 12 + 2 * len(assets) // batch_size  # of a run, about
        forth = run_until_done(
            scene, rng, MIGRATION, *flags,
            kills=rng.randint(0, 4), requests=requests, signals=SIGNALS, after_kill=check_now,
        )  # fmt: skip
        check_migrated(scene, expected, assets, forth[-1], "--html", "page.html")
        assert scene.run(MIGRATION, *flags) == expected.status
        check_nothing_written(scene)
        back = run_until_done(
            scene, rng, ROLLBACK, *scene.rollback_flags(), *flags,
            kills=rng.randint(0, 3), requests=requests, signals=SIGNALS,
        )  # fmt: skip
        assert back[-1] == 0, "the rollback ends with %s: %s" % (back[-1], scene.rows())
        check_as_before(tables, before, scene.rows())
        return "%d assets, %d records, runs %s and back %s, %s" % (
            len(assets), len(records), forth, back, faulted(front),
        )  # fmt: skip


def two_at_once(engine, rng, folder):
    """Two runs at the same time, one of them maybe killed: as one; and by the journals of both all is as before."""
    assets, records, expected = drawn(engine, rng, folder, 60)
    faults = random_faults(rng, rng.choice([0.0, 0.0, 0.1]))
    with new_tables(engine, folder) as tables, TracingFront(
        engine.port, (0, 0.02), None, faults, rng.random()
    ) as front:
        scene = Scene(tables, front, folder / "scene")
        tables.load(assets)
        tables.put_records(*records)
        before = tables.contents()
        flags = ["--batch-size", str(rng.choice([1, 3, 25])), "--workers", str(rng.choice([1, 3]))]
        other = scene.start(MIGRATION, *flags)
        time.sleep(rng.choice([0, 0, 0.2, 0.6]))
        kill = random_kill(rng, 60, rng.choice(SIGNALS)) if rng.random() < 0.3 else None
        statuses = [scene.run(MIGRATION, *flags, kill=kill)]
        other.join(120)
        statuses += [other.exitcode, scene.run(MIGRATION, *flags)]
        check_migrated(scene, expected, assets, statuses[-1])
        back = scene.run(ROLLBACK, *scene.rollback_flags(), *flags)
        # A killed run does not say whether it had found another's record, or made its own, which others changed.
        theirs = {item["assetId"]["S"] for item in records} if kill else set()
        kept = [row for row in scene.rows() if row["outcome"] == "record_kept"]
        assert {row["asset_id"] for row in kept} <= theirs, "other records are kept: %s" % kept
        assert back == bool(kept), "the rollback ends with %s: %s" % (back, scene.rows())
        check_as_before(tables, before, scene.rows())
        return "%d assets, %d records, runs %s and back, %s" % (len(assets), len(records), statuses, faulted(front))


def in_company(engine, rng, folder):
    """Both applications write meanwhile: nothing of theirs is lost, and the next run finishes."""
    assets = list(sample_assets(rng.randint(20, 100), seed=rng.randrange(10**9)))
    faults = random_faults(rng, rng.choice([0.0, 0.1, 0.2]))
    with new_tables(engine, folder) as tables, TracingFront(
        engine.port, (0, 0.02), None, faults, rng.random()
    ) as front:
        scene = Scene(tables, front, folder / "scene")
        tables.load(assets)
        with tracing(front, Writers(tables, assets, rng, threads=rng.randint(1, 3))) as writers:
            with writers:
                first = scene.run(MIGRATION, *SMALL_BATCHES)
            check_outcomes(scene.last_summary(), scene.rows())
            writers.check_nothing_lost()
            again = finish(scene, writers)
        return "%d assets, runs %s, %s, %s" % (len(assets), [first, again], acted(writers), faulted(front))


def killed_in_company(engine, rng, folder):
    """v2.2 goes on while the migration is killed again and again. Interrupted runs may leave records of versions
    that are no more; rolling back, then running again, gives a whole result."""
    assets = list(sample_assets(rng.randint(20, 80), seed=rng.randrange(10**9)))
    faults = random_faults(rng, rng.choice([0.0, 0.1]))
    with new_tables(engine, folder) as tables, TracingFront(
        engine.port, (0, 0.02), None, faults, rng.random()
    ) as front:
        scene = Scene(tables, front, folder / "scene")
        tables.load(assets)
        with tracing(front, Writers(tables, assets, rng, rng.randint(1, 3), v23=False)) as writers:
            with writers:
                statuses = run_until_done(
                    scene, rng, MIGRATION, *SMALL_BATCHES,
                    kills=rng.randint(1, 3), requests=60, signals=SIGNALS,
                )  # fmt: skip
            writers.check_nothing_lost()
            back = scene.run(ROLLBACK, *scene.rollback_flags())
            assert back in (0, 1), "the rollback ends with %s" % back
            writers.check_nothing_lost()
            again = finish(scene, writers)
        return "%d assets, runs %s, back %d, then %d, %s, %s" % (
            len(assets), statuses, back, again, acted(writers), faulted(front),
        )  # fmt: skip


def without_doubted(contents, rows):
    """Without the version records of which a rollback says that another asset may have made them: after a lost answer
    nobody knows which of two assets, that would make the same one, did."""
    doubted = {
        (row["asset_id"], re.match("The version record (.*?) stays: ", row["message"]).group(1))
        for row in rows
        if row["code"] == "record_stays" and row["message"].endswith(", or of its history.")
    }
    return contents[0], {key: record for key, record in contents[1].items() if key not in doubted}


def small_worlds(engine, rng, folder):
    """One assetId in several places, users of both applications, and the tool."""
    with pytest.MonkeyPatch.context() as monkeypatch, stage(engine, monkeypatch) as the_stage:
        live_through_drawn(the_stage, rng.randrange(10**9), WORLDS)
    return "%d worlds" % WORLDS


ROUNDS = {
    "alone": alone,
    "two at once": two_at_once,
    "in company": in_company,
    "killed in company": killed_in_company,
    "small worlds": small_worlds,
}


def finish(scene, writers):
    """The run that finds everybody gone; its exit status."""
    status = scene.run(MIGRATION, *SMALL_BATCHES)
    check_outcomes(scene.last_summary(), scene.rows())
    writers.check_nothing_lost()
    assert status == 0, "the last run ends with %s: %s" % (status, scene.rows())
    writers.check_migrated()
    verdict = scene.run(VERIFY)
    assert verdict == 0, "the verification says %s: %s" % (verdict, scene.rows())
    return status


def conflicts(rng, assets):
    """Version records that others have written under the keys of some of these assets."""
    records = []
    for asset in rng.sample(assets, len(assets) // 10):
        version = asset.get("currentVersion", {}).get("M", {}).get("Version", {}).get("S")
        if version:
            record = {"assetId": asset["assetId"], "assetVersionId": {"S": version}, "comment": {"S": "Another's"}}
            if record not in records:
                records.append(record)
    return records


def check_nothing_written(scene):
    writes = scene.last_summary()["writes"]
    assert writes == 0, "a rerun wrote %d times" % writes


# --------------------------------------------------------------------------------------
# What is said
# --------------------------------------------------------------------------------------


def faulted(front):
    return "faults %d of %d requests" % (sum(front.faulted.values()), sum(front.requests.values()))


def acted(writers):
    return "acts %d" % sum(writers.counts.values())


@contextlib.contextmanager
def tracing(front, writers):
    """Where the round fails, say of each asset that the failure names what was done to it."""
    try:
        yield writers
    except AssertionError as error:
        named = {key[1] for _, _, key in writers.acts if key and key[1] in str(error)}
        lines = [str(error)]
        for asset_id in sorted(named)[:3]:
            events = [
                (when, "user: %s %s" % (act, key)) for when, act, key in writers.acts if key and key[1] == asset_id
            ]
            events += [
                (when, "%s: %s" % (code, json.dumps(statement)))
                for when, statement, code in front.trace
                if {"S": asset_id} in statement["Parameters"]
            ]
            lines += ["%.3f %s" % event for event in sorted(events)]
            lines += [str(item) for part in writers.tables.contents() for key, item in part.items() if asset_id in key]
        raise AssertionError("\n".join(lines))


def run_round(engine, seed, folder, kinds):
    """One line on a round that went well; raises AssertionError for a difference."""
    rng = random.Random(seed)
    kind = rng.choice(kinds)
    start = time.monotonic()
    with open(folder / "own_output.txt", "w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(
        quiet
    ):
        text = ROUNDS[kind](engine, rng, folder)
    return "%s, %.0f s: %s" % (kind, time.monotonic() - start, text)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=None, help="stop after so many")
    parser.add_argument(
        "--kind", choices=list(ROUNDS), action="append", help="rounds of this kind only; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next have the next numbers")
    options = parser.parse_args(argv)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    end = time.monotonic() + 60 * options.minutes
    rounds = 0
    with local_dynamodb.LocalDynamoDB() as engine:
        os.environ.update(engine.environment())
        while time.monotonic() < end and rounds != options.rounds:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    line = run_round(engine, seed, Path(folder), options.kind or list(ROUNDS))
                except Exception as error:
                    print("\n".join(["seed %d: DIFFERENCE: %s" % (seed, error), *getattr(error, "__notes__", [])]))
                    kinds = "".join(' --kind "%s"' % kind for kind in options.kind or ())
                    print("Repeat it with `python tests/soak.py --seed %d --rounds 1%s`." % (seed, kinds), flush=True)
                    if not isinstance(error, AssertionError):
                        raise
                    return 1
            print("seed %d: %s" % (seed, line), flush=True)
            seed, rounds = seed + 1, rounds + 1
    print("No difference in %d rounds." % rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
