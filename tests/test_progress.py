"""What the operator sees while a run goes on: how far, how fast, how long still, and why it waits."""

import os
import re
import sys
import types

import pytest
from conftest import on_a_terminal
from v22 import S, asset

from benchmarks.front import Front
from load_migration import migration

COUNTS = "scanned 600  migrated 500"


def progress(total, *points):
    """A progress without a bar, looked at twice a second between points of (seconds, finished assets, write units)."""
    shown = migration.Progress(total, terminal=False)
    shown.samples.clear()
    for start, end in zip(points, points[1:]):
        steps = int(2 * (end[0] - start[0]))
        shown.samples.extend(tuple(a + (b - a) * n / steps for a, b in zip(start, end)) for n in range(steps))
    shown.samples.append(points[-1])
    return shown


@pytest.mark.parametrize(
    "total, samples, pace",
    [
        (1000, [(0.0, 0, 0.0), (10.0, 500, 900.0)], "50%  50/s  90 units/s  about 10 s left"),
        (1000, [(0.0, 0, 0.0), (10.0, 999, 10.0)], "99%  100/s  1 units/s"),
        (1000, [(0.0, 0, 0.0), (10.0, 1000, 10.0)], "100%  100/s  1 units/s"),
        # The table has more items than DynamoDB said.
        (1000, [(0.0, 0, 0.0), (10.0, 1001, 900.0)], "100/s  90 units/s"),
        (0, [(0.0, 0, 0.0), (10.0, 500, 900.0)], "50/s  90 units/s"),
        # A dry run, or a rerun that has not come to what is to be done, if anything is.
        (1000, [(0.0, 0, 0.0), (10.0, 500, 0.0)], "50%  50/s  at least 10 s left"),
        # A rerun that has come to it says nothing until that is what the last half minute was about.
        (100000, [(0.0, 0, 0.0), (10.0, 50000, 0.0), (15.0, 52500, 9000.0)], "52%  3,500/s  600 units/s"),
        (100000, [(0.0, 0, 0.0), (10.0, 50000, 0.0), (38.0, 64000, 50400.0)], "64%  729/s  1,708 units/s"),
        (
            100000,
            [(0.0, 0, 0.0), (10.0, 50000, 0.0), (40.0, 65000, 54000.0)],
            "65%  500/s  1,800 units/s  about 70 s left",
        ),
        # Nothing was finished lately.
        (1000, [(0.0, 500, 900.0), (10.0, 500, 900.0)], "50%  0/s"),
        (1000, [(0.0, 0, 900.0), (2.5, 500, 900.0), (14.5, 500, 900.0)], "50%  34/s"),
        (1000, [(0.0, 0, 0.0)], "0/s"),
        # Only what the samples cover counts, not the quick beginning.
        (100000, [(60.0, 40000, 9000.0), (90.0, 41500, 12000.0)], "41%  50/s  100 units/s  about 20 min left"),
    ],
)
def test_pace(total, samples, pace):
    assert progress(total, *samples).pace() == pace


def test_what_only_reads_has_nothing_to_write_to_come():
    shown = migration.Progress(1000, terminal=False, writes=False)
    shown.samples = [(0.0, 0, 0.0), (5.0, 250, 0.0), (10.0, 500, 0.0)]
    assert shown.pace() == "50%  50/s  about 10 s left"


def test_what_was_under_way_when_it_was_stopped_is_not_finished():
    tally = migration.Tally(types.SimpleNamespace(names={}, add=lambda *row: None))
    for outcome, findings in (("migrated", ()), migration.NOT_FINISHED, ("already_migrated", ())):
        tally.count(("assets", "db01", "a"), outcome, findings)
    assert tally.finished == 2


def test_the_log_gets_a_line_every_few_seconds_that_says_why_it_waits(monkeypatch):
    clock, lines = [1000.0], []
    monkeypatch.setattr(migration.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(migration.LOG, "info", lambda text, *values, **options: lines.append(text % values))
    shown = migration.Progress(1000, terminal=False)
    run = types.SimpleNamespace(stopping=False, under_way=1200, write_units=0.0)
    run.waiting_for = lambda: "throttled: assets db01"
    for _ in range(20):
        clock[0] += 0.5
        run.write_units += 100.0
        shown.show(int(run.write_units) // 4, COUNTS, run)
    pace = "%d%%  50/s  200 units/s  about %d s left  [throttled: assets db01]"
    assert lines == [COUNTS + "  " + pace % (25, 15), COUNTS + "  " + pace % (50, 10)]
    # When it is stopped, what counts is what has still to be finished.
    run.stopping = True
    for _ in range(10):
        clock[0] += 0.5
        shown.show(500, COUNTS, run)
    assert lines[2:] == [COUNTS + "  stopping, 1,200 still under way  [throttled: assets db01]"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_narrow_terminal_shows_the_pace_and_the_throttled_key_and_no_message_is_mixed_with_the_bar(tables):
    """80 columns; the log file gets the whole line. Whether a time left is shown depends on how steady the pace is."""
    assets = [asset("a%03d" % n) for n in range(280)]
    for broken in assets[100:280:30]:
        broken["currentVersion"] = S("odd")
    tables.load(assets)
    with Front(tables.engine.port, partition_units=40.0) as front:
        flags = ["--endpoint-url", front.endpoint_url, "--log-file", "run.log", "--yes"]
        status, output = on_a_terminal([sys.executable, migration.__file__] + tables.flags + flags, tables.folder)
    assert status == 1
    lines = [line for line in re.split(r"[\r\n]+", output) if line]
    bars = [line for line in lines if " units/s  " in line]
    assert bars and max(len(re.sub(r"\x1b\[[A-Z]", "", line)) for line in bars) <= 80
    pace = r"\d%  \d+/s  \d+ units/s(  about \d+ (s|min) left)?  \[throttled: assets"
    assert any(re.search(pace, line) for line in bars)
    failures = [line for line in lines if "failed: db01" in line]
    assert len(failures) == 6 and all(line.startswith("failed: db01 / a") for line in failures)
    with open("run.log", encoding="utf-8") as file:
        log = file.read()
    whole = r"INFO scanned \d+  migrated \d+  unchanged 0  failed \d  \d+%%  \d+/s .*  \[throttled: %s db01"
    assert re.search(whole % tables.assets, log)


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns, is_bar", [(80, True), (0, False)])
def test_a_terminal_that_has_no_width_gets_no_bar_but_lines(tmp_path, columns, is_bar):
    """As `script` makes one where it has none itself: a bar would show nothing at all there."""
    code = "import sys; sys.path.insert(0, %r); from load_migration import migration; bar = migration._make_bar(5);"
    code = (code + " print('bar is there:', bar is not None)") % os.path.dirname(migration.__file__)
    status, shown = on_a_terminal([sys.executable, "-c", code], tmp_path, columns=columns)
    assert (status, "bar is there: %s" % is_bar in shown) == (0, True)
