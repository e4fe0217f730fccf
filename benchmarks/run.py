"""Measure the migration against a plain sequential loop.

    python benchmarks/run.py                    everything: three runs of each, half an hour
    python benchmarks/run.py --quick            one run of each on little data, a few minutes
    python benchmarks/run.py speed partitions   only these parts

It needs what the migration and local_dynamodb.py need. benchmarks/README.md says what the rows mean.
"""

import argparse
import collections
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing
from contextlib import ExitStack

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, ROOT)

from front import UNLIMITED, Front  # noqa: E402
from instant_server import BUCKET, InstantServer  # noqa: E402

import local_dynamodb  # noqa: E402
from sample_assets import sample_assets  # noqa: E402

MIGRATION = os.path.join(ROOT, "v2.2_to_v2.3_migration.py")
SEQUENTIAL = os.path.join(HERE, "sequential.py")
READY_MADE = os.path.join(HERE, "ready_made.py")
ENVIRONMENT = local_dynamodb.LocalDynamoDB().environment()
LATENCY = 0.005
UNITS_OF_AN_ASSET = 1.6  # on its partition, about, as the front counts
LARGEST_WRITE = 4  # units


class Sizes(typing.NamedTuple):
    rounds: int
    speed_assets: int
    partition_seconds: int  # of work for each partition
    client_assets: typing.Tuple[int, ...]


FULL = Sizes(3, 5000, 20, (10000, 100000, 1000000))
QUICK = Sizes(1, 600, 10, (10000, 50000))


class Run(typing.NamedTuple):
    """One run of the migration: its own figures, and what the system says of its process."""

    seconds: float
    cpu: float
    peak_mb: float
    summary: dict


# --- Running ---------------------------------------------------------------------------------


def flags_of(endpoint_url, assets="assets", versions="versions"):
    names = ["--assets-table", assets, "--asset-versions-table", versions, "--asset-bucket", BUCKET]
    return ["--endpoint-url", endpoint_url] + names


def migrate(count, flags):
    """Run the migration of so many assets in a process of its own."""
    folder = tempfile.mkdtemp(prefix="benchmark-")
    try:
        command = [sys.executable, MIGRATION, "--report-dir", folder, "--journal-dir", folder] + flags
        with open(os.path.join(folder, "output"), "w+") as output:
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
            cpu, peak_mb = watch(process)
            if process.returncode:
                output.seek(0)
                raise SystemExit("the migration failed:\n" + output.read()[-2000:])
        (name,) = [name for name in os.listdir(folder) if name.endswith("_summary.json")]
        with open(os.path.join(folder, name)) as file:
            summary = json.load(file)
        assert summary["scanned"] == count, "%d of %d assets" % (summary["scanned"], count)
    finally:
        shutil.rmtree(folder)
    return Run(summary["duration_seconds"], cpu, peak_mb, summary)


def watch(process):
    """Wait for a process. Returns the CPU seconds it took and its largest resident size in MB, looked
    at every tenth of a second: what the system counts at its end, on Linux, is at least our own size."""
    peak_mb, ended = 0.0, 0
    while not ended:
        time.sleep(0.1)
        peak_mb = max(peak_mb, resident_peak(process.pid))
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, peak_mb or usage.ru_maxrss / 2**20  # macOS: in bytes


def resident_peak(pid):
    """Of a process, in MB; 0.0 where it cannot be told (after its end, or no Linux)."""
    try:
        with open("/proc/%d/status" % pid) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10
    except OSError:
        return 0.0


def measure(script, flags):
    """Run one of the scripts beside this one; the seconds that its work took, without the start of its process."""
    return float(subprocess.check_output([sys.executable, script] + flags, env=ENVIRONMENT))


class Tables:
    """Pairs of tables in the engine that hold the same assets."""

    def __init__(self, engine):
        self.client = engine.client()
        self.number = 0

    def fresh(self, assets):
        """The names of a new pair; the former pair is gone."""
        if self.number:
            for name in self.names():
                self.client.delete_table(TableName=name)
        self.number += 1
        local_dynamodb.create_tables(self.client, *self.names())
        local_dynamodb.load_items(self.client, self.names()[0], assets)
        return self.names()

    def names(self):
        return "assets-%d" % self.number, "versions-%d" % self.number


# --- Parts -----------------------------------------------------------------------------------


def speed(sizes):
    """How much faster than the plain loop, and a dry run and a rerun than the migration."""
    assets = list(sample_assets(sizes.speed_assets))
    seconds = collections.defaultdict(list)
    with local_dynamodb.LocalDynamoDB() as engine:
        tables = Tables(engine)
        # The engine's Java gets several times as fast during its first minutes.
        for _ in range(5):
            measure(SEQUENTIAL, flags_of(engine.endpoint_url, *tables.fresh(assets[:1000])))
            migrate(len(assets), flags_of(engine.endpoint_url, *tables.fresh(assets)))
        for _ in range(sizes.rounds):
            for latency in (0.0, LATENCY):
                with Front(engine.port, latency=latency) as front:
                    url = front.endpoint_url if latency else engine.endpoint_url
                    for kind, script in (("loop", SEQUENTIAL), ("ready-made", READY_MADE)):
                        seconds[kind, latency].append(measure(script, flags_of(url, *tables.fresh(assets))))
                    flags = flags_of(url, *tables.fresh(assets))
                    seconds["dry run", latency].append(migrate(len(assets), flags + ["--dry-run"]).seconds)
                    seconds["migration", latency].append(migrate(len(assets), flags).seconds)
                    seconds["rerun", latency].append(migrate(len(assets), flags).seconds)
    for latency, where in ((0.0, "DynamoDB Local"), (LATENCY, "with 5 ms latency")):
        rates = {kind: len(assets) / statistics.median(seconds[kind, latency]) for kind, _ in seconds}
        ratio = median_ratio(seconds["loop", latency], seconds["migration", latency])
        target = 20 if latency else 5
        result = "%.1f times (%.0f assets/s, loop %.0f/s)" % (ratio, rates["migration"], rates["loop"])
        row("migration / plain loop, " + where, result, ">= %d" % target, ratio >= target)
        ratio = median_ratio(seconds["loop", latency], seconds["ready-made", latency])
        result = "%.1f times (%.0f assets/s)" % (ratio, rates["ready-made"])
        row("ready-made requests / plain loop, " + where, result, "the engine's limit")
        for kind in ("dry run", "rerun"):
            ratio = median_ratio(seconds["migration", latency], seconds[kind, latency])
            row("%s / migration, %s" % (kind, where), "%.1f times" % ratio, ">= 3", ratio >= 3)


def median_ratio(slow, fast):
    """Median over the rounds, each against its neighbour in time."""
    return statistics.median(one / other for one, other in zip(slow, fast))


def partitions(sizes):
    """How much of a hot partition's write units is used, at how many rejections."""
    for databases, units in ((1, 150.0), (4, 150.0), (32, 25.0)):
        used, used_by_run, rejections = [], [], []
        count = int(sizes.partition_seconds * units * databases / UNITS_OF_AN_ASSET)
        for _ in range(sizes.rounds):
            with ExitStack() as stack:
                server = stack.enter_context(InstantServer(count, databases))
                front = stack.enter_context(Front(server.port, latency=LATENCY, partition_units=units))
                run = migrate(count, flags_of(front.endpoint_url))
            limited = [partition for (table, _), partition in front.partitions.items() if table == "assets"]
            hottest = max(limited, key=lambda partition: partition.units)
            used.append(hottest.used())
            used_by_run.append(hottest.units / (units * (1.0 + run.seconds)))
            rejections.append(sum(p.rejected for p in limited) / sum(p.accepted for p in limited))
        name = "%d database%s of %d units/s" % (databases, "" if databases == 1 else "s", units)
        median = statistics.median(used)
        shown = "%.0f %% (of the whole run %.0f %%)" % (100 * median, 100 * statistics.median(used_by_run))
        row("units of the hottest partition used, " + name, shown, ">= 90 %", median >= 0.9)
        median = statistics.median(rejections)
        row("rejections for each accepted write, " + name, "%.3f" % median, "<= 0.1", median <= 0.1)


def client(sizes):
    """CPU time and memory of the migration's process."""
    peaks = {}
    for count in sizes.client_assets:
        rounds = sizes.rounds if count < 1000000 else 1
        with InstantServer(count) as server:
            runs = [migrate(count, flags_of(server.endpoint_url)) for _ in range(rounds)]
        cpu = 1000 * statistics.median(run.cpu for run in runs) / count
        peaks[count] = statistics.median(run.peak_mb for run in runs)
        row("client CPU for each of {:,} assets".format(count), "%.3f ms" % cpu, "<= 0.25 ms", cpu <= 0.25)
        row("peak memory at {:,} assets".format(count), "%.0f MB" % peaks[count], "< 150 MB", peaks[count] < 150)
    last, before = (peaks[count] for count in sizes.client_assets[:-3:-1])
    growth = last / before - 1
    row("growth of peak memory between the last two", "%.0f %%" % (100 * growth), "<= 15 %", growth <= 0.15)


def ceiling(sizes):
    """What comes of --max-write-units during ten seconds."""
    for limit in (1, 50, 500):
        mean, worst = [], []
        count = max(8, int(limit * 14 / 2.5))
        for _ in range(sizes.rounds):
            with InstantServer(count) as server, Front(server.port, partition_units=UNLIMITED) as front:
                migrate(count, flags_of(front.endpoint_url) + ["--max-write-units", str(limit)])
            start = front.accepted[0][0]
            mean.append(units_between(front.accepted, start, start + 10) / 10)
            worst.append(max(units_between(front.accepted, at, at + 1) for at, _ in front.accepted))
        median = statistics.median(mean)
        shown = "%.1f units/s over ten seconds, most in one second %.0f" % (median, statistics.median(worst))
        # The window begins with a write that was waited for before.
        met = 0.9 * limit <= median <= 1.05 * limit + LARGEST_WRITE / 10
        row("--max-write-units %d" % limit, shown, "90 to 105 %, and one write", met)


def units_between(accepted, start, end):
    return sum(units for at, units in accepted if start <= at < end)


# --- Command line ----------------------------------------------------------------------------


def row(what, result, target, met=None):
    verdict = {True: "yes", False: "NO", None: ""}[met]
    print("| %s | %s | %s | %s |" % (what, result, target, verdict), flush=True)


def machine():
    """One line about it; the time of a plain loop tells how busy or slow it is."""
    start = time.process_time()
    for _ in range(10**7):
        pass
    loop = time.process_time() - start
    text = "%d cores, load %.1f, Python %s, ten million empty loops in %.2f s"
    return text % (os.cpu_count(), os.getloadavg()[0], sys.version.split()[0], loop)


PARTS = {"speed": speed, "partitions": partitions, "client": client, "ceiling": ceiling}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of each on little data")
    parser.add_argument("parts", nargs="*", metavar="PART", help="of %s; default: all" % ", ".join(PARTS))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error("there is no part %r" % unknown[0])
    print("Machine: %s\n\n| what | result | target | met |\n|---|---|---|---|" % machine(), flush=True)
    for name in options.parts or PARTS:
        PARTS[name](QUICK if options.quick else FULL)
    print("\nAfterwards: %s" % machine())


if __name__ == "__main__":
    main()
