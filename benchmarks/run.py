"""Measure the migration against a plain sequential loop.

    python benchmarks/run.py                    everything: three runs of each, half an hour
    python benchmarks/run.py --quick            one run of each on little data, a few minutes
    python benchmarks/run.py speed partitions   only these parts
    python benchmarks/run.py --against FOLDER   another version's scripts too, run by run in turn

It needs what the migration and local_dynamodb.py need. benchmarks/README.md says what the rows mean.
"""

import argparse
import collections
import glob
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing
from contextlib import ExitStack, contextmanager, suppress

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, ROOT)

from front import UNLIMITED, Front  # noqa: E402
from instant_server import BUCKET, InstantServer  # noqa: E402

import local_dynamodb  # noqa: E402
from sample_assets import sample_assets  # noqa: E402

MIGRATION = "v2.2_to_v2.3_migration.py"
VERIFICATION = "v2.2_to_v2.3_migration_verify.py"
ROLLBACK = "v2.2_to_v2.3_migration_rollback.py"
SPARK = "v2.2_to_v2.3_migration_spark.py"
SEQUENTIAL = os.path.join(HERE, "sequential.py")
READY_MADE = os.path.join(HERE, "ready_made.py")
ENVIRONMENT = {
    **local_dynamodb.LocalDynamoDB().environment(),
    "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell",
}
LATENCY = 0.005
UNITS_OF_AN_ASSET = 1.6  # on its partition, about, as the front counts
LARGEST_WRITE = 4  # units


# The cores of this machine, where the system lets a process choose: on Linux.
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


class Sizes(typing.NamedTuple):
    rounds: int
    speed_assets: int
    partition_seconds: int  # of work for each partition
    client_assets: typing.Tuple[int, ...]


FULL = Sizes(3, 5000, 20, (10000, 100000, 1000000))
QUICK = Sizes(1, 600, 10, (10000, 50000))


class Version(typing.NamedTuple):
    """One version of the tool."""

    folder: str  # holds its scripts
    label: str  # ends the names of its rows


class Run(typing.NamedTuple):
    """One run of a script: what it says of itself, and what the system says of its process."""

    summary: dict
    cpu: float
    peak_mb: float

    @property
    def seconds(self):
        return self.summary["duration_seconds"]


# --- Running ---------------------------------------------------------------------------------


def flags_of(endpoint_url, assets="assets", versions="versions"):
    names = ["--assets-table", assets, "--asset-versions-table", versions, "--asset-bucket", BUCKET]
    return ["--endpoint-url", endpoint_url] + names


@contextmanager
def servers_apart():
    """DynamoDB has machines of its own. So the engine, and what stands before it, keep to half the cores meanwhile,
    and whatever is measured to the others."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, sorted(CORES)[: len(CORES) // 2])
    try:
        yield
    finally:
        if CORES:
            os.sched_setaffinity(0, CORES)


def on_other_cores():
    """In a new process: keep to the cores that its parent leaves free. Where it leaves none, to all."""
    if CORES:
        os.sched_setaffinity(0, CORES - os.sched_getaffinity(0) or CORES)


def run_tool(version, script, flags, work):
    """Run a script of the tool in a process of its own; its files are in a new folder below `work`."""
    folder = tempfile.mkdtemp(dir=work)
    command = [sys.executable, os.path.join(version.folder, script), "--report-dir", folder] + flags
    with open(os.path.join(folder, "output"), "w+") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        options = {"env": ENVIRONMENT, "start_new_session": script == SPARK, "preexec_fn": on_other_cores}
        process = subprocess.Popen(command, **options, **streams)
        cpu, peak_mb = watch_session(process) if script == SPARK else watch(process)
        if process.returncode:
            output.seek(0)
            raise SystemExit("%s failed:\n%s" % (command[1], output.read()[-2000:]))
    (name,) = [name for name in os.listdir(folder) if name.endswith("_summary.json")]
    with open(os.path.join(folder, name)) as file:
        return Run(json.load(file), cpu, peak_mb)


def migrate(version, count, flags, script=MIGRATION):
    """Migrate so many assets; the files of the run are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as work:
        return migrate_below(work, version, count, flags, script)


def migrate_below(work, version, count, flags, script=MIGRATION):
    run = run_tool(version, script, flags + ["--journal-dir", work, "--yes"], work)
    check_count(run.summary["scanned"], count)
    return run


def verification_seconds(version, count, flags, work):
    """The seconds of a verification. Its summary rounds them to tenths, so they are told by its files: the
    report is made when it begins and read by nobody, the summary is written when it ends."""
    summary = run_tool(version, VERIFICATION, flags, work).summary
    check_count(summary["assets"], count)
    return os.stat(summary["files"]["summary"]).st_mtime - os.stat(summary["files"]["report"]).st_atime


def check_count(found, expected):
    assert found == expected, "%d of %d assets" % (found, expected)


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


def watch_session(process):
    """Like `watch`, for all processes of its session: their CPU seconds, about, and the size of the largest that
    runs Python. On Linux."""
    seconds, peak_mb = {}, 0.0
    while process.poll() is None:
        time.sleep(0.5)
        for path in glob.glob("/proc/[0-9]*/stat"):
            with suppress(OSError), open(path) as file:
                pid_and_name, _, rest = file.read().rpartition(") ")
                fields = rest.split()
                if int(fields[3]) != process.pid:
                    continue
                seconds[path] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                pid, _, name = pid_and_name.partition(" (")
                if name.startswith("python"):
                    peak_mb = max(peak_mb, resident_peak(int(pid)))
    return sum(seconds.values()), peak_mb


def resident_peak(pid):
    """Of a process, in MB; 0.0 where it cannot be told (after its end, or no Linux)."""
    try:
        with open("/proc/%d/status" % pid) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10
    except OSError:
        return 0.0


def measure(script, flags):
    """Run one of the scripts beside this one; the seconds that its work took, without the start of its process."""
    command = [sys.executable, script] + flags
    return float(subprocess.check_output(command, env=ENVIRONMENT, preexec_fn=on_other_cores))


def record_requests(work, flags):
    """Migrate; the name of a file below `work` with the requests for it."""
    path = os.path.join(work, "requests")
    command = [sys.executable, READY_MADE, "--record", path] + flags + ["--journal-dir", work, "--report-dir", work]
    subprocess.check_output(command, env=ENVIRONMENT, preexec_fn=on_other_cores, stderr=subprocess.STDOUT)
    return path


class Tables:
    """A pair of tables in the engine."""

    def __init__(self, engine):
        self.client = engine.client()

    def fresh(self, assets):
        """The names of the pair, made anew, with these assets."""
        for name in self.client.list_tables()["TableNames"]:
            self.client.delete_table(TableName=name)
        local_dynamodb.create_tables(self.client, "assets", "versions")
        local_dynamodb.load_items(self.client, "assets", assets)
        return "assets", "versions"


# --- Parts -----------------------------------------------------------------------------------


def speed(sizes, versions):
    """How fast beside the plain loop and the ready-made requests, and all else beside the migration."""
    assets = list(sample_assets(sizes.speed_assets))
    seconds = collections.defaultdict(list)
    with servers_apart(), local_dynamodb.LocalDynamoDB() as engine:
        tables = Tables(engine)
        # The engine's Java gets several times as fast during its first minutes.
        for _ in range(5):
            measure(SEQUENTIAL, flags_of(engine.endpoint_url, *tables.fresh(assets[:1000])))
            migrate(versions[0], len(assets), flags_of(engine.endpoint_url, *tables.fresh(assets)))
        for _ in range(sizes.rounds):
            for latency in (0.0, LATENCY):
                with Front(engine.port, latency=latency) as front:
                    url = front.endpoint_url if latency else engine.endpoint_url
                    flags = flags_of(url, *tables.fresh(assets))
                    seconds["loop", latency].append(measure(SEQUENTIAL, flags))
                    with tempfile.TemporaryDirectory(prefix="benchmark-") as work:
                        requests = record_requests(work, flags_of(url, *tables.fresh(assets)))
                        flags = flags_of(url, *tables.fresh(assets))
                        seconds["ready-made", latency].append(measure(READY_MADE, [requests] + flags))
                    for version in versions:
                        flags = flags_of(url, *tables.fresh(assets))
                        for kind, taken in seconds_of_each(version, len(assets), flags):
                            seconds[kind, latency, version].append(taken)
    for latency, where in ((0.0, "DynamoDB Local"), (LATENCY, "with 5 ms latency")):
        loop, ready_made = seconds["loop", latency], seconds["ready-made", latency]
        shown = times(loop, ready_made, len(assets))
        row("ready-made requests / plain loop, " + where, shown, "the engine's limit")
        for version in versions:
            migration = seconds["migration", latency, version]
            name = where + version.label
            rates = rate(migration, len(assets)), rate(loop, len(assets))
            shown = "%.1f times (%.0f assets/s, loop %.0f/s)" % (median_ratio(loop, migration), *rates)
            row("migration / plain loop, " + name, shown)
            share = median_ratio(ready_made, migration)
            row("migration / ready-made requests, " + name, "%.0f %%" % (100 * share), ">= 90 %", share >= 0.9)
            for kind in ("dry run", "rerun"):
                ratio = median_ratio(migration, seconds[kind, latency, version])
                row("%s / migration, %s" % (kind, name), "%.1f times" % ratio, ">= 3", ratio >= 3)
            for kind in ("verification", "verification with the journal", "rollback"):
                shown = times(migration, seconds[kind, latency, version], len(assets))
                row("%s / migration, %s" % (kind, name), shown, "no slower than before")


def seconds_of_each(version, count, flags):
    """Yield what was run on a pair of tables, and the seconds that it took."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as work:
        yield "dry run", migrate(version, count, flags + ["--dry-run"]).seconds
        migration = migrate_below(work, version, count, flags)
        yield "migration", migration.seconds
        journal = ["--journal", migration.summary["files"]["journal"]]
        yield "verification", verification_seconds(version, count, flags, work)
        yield "verification with the journal", verification_seconds(version, count, flags + journal, work)
        yield "rerun", migrate(version, count, flags).seconds
        rollback = run_tool(version, ROLLBACK, flags + journal + ["--yes"], work)
        check_count(rollback.summary["outcomes"]["restored"], migration.summary["outcomes"]["migrated"])
        yield "rollback", rollback.seconds


def times(slow, fast, count):
    return "%.2f times (%.0f assets/s)" % (median_ratio(slow, fast), rate(fast, count))


def rate(seconds, count):
    return count / statistics.median(seconds)


def median_ratio(slow, fast):
    """Median over the rounds, each against its neighbour in time."""
    return statistics.median(one / other for one, other in zip(slow, fast))


def partitions(sizes, versions):
    """How much of a hot partition's write units is used, at how many rejections."""
    for databases, units in ((1, 150.0), (4, 150.0), (32, 25.0)):
        used, used_by_run, rejections = (collections.defaultdict(list) for _ in range(3))
        count = int(sizes.partition_seconds * units * databases / UNITS_OF_AN_ASSET)
        for version in versions * sizes.rounds:
            with ExitStack() as stack:
                server = stack.enter_context(InstantServer(count, databases))
                front = stack.enter_context(Front(server.port, latency=LATENCY, partition_units=units))
                run = migrate(version, count, flags_of(front.endpoint_url))
            limited = [partition for (table, _), partition in front.partitions.items() if table == "assets"]
            hottest = max(limited, key=lambda partition: partition.units)
            used[version].append(hottest.used())
            used_by_run[version].append(hottest.units / (units * (1.0 + run.seconds)))
            rejections[version].append(sum(p.rejected for p in limited) / sum(p.accepted for p in limited))
        for version in versions:
            name = "%d database%s of %d units/s" % (databases, "" if databases == 1 else "s", units) + version.label
            median = statistics.median(used[version])
            of_the_run = statistics.median(used_by_run[version])
            shown = "%.0f %% (of the whole run %.0f %%)" % (100 * median, 100 * of_the_run)
            row("units of the hottest partition used, " + name, shown, ">= 90 %", median >= 0.9)
            median = statistics.median(rejections[version])
            row("rejections for each accepted write, " + name, "%.3f" % median, "<= 0.1", median <= 0.1)


def client(sizes, versions):
    """CPU time and memory of the migration's process."""
    peaks = {}
    for count in sizes.client_assets:
        runs = collections.defaultdict(list)
        with InstantServer(count) as server:
            for version in versions * (sizes.rounds if count < 1000000 else 1):
                runs[version].append(migrate(version, count, flags_of(server.endpoint_url)))
        for version in versions:
            name = "{:,} assets{}".format(count, version.label)
            cpu = 1000 * statistics.median(run.cpu for run in runs[version]) / count
            # In fewer assets, the start of Python and boto3 is much of it.
            bound = ("<= 0.20 ms", cpu <= 0.2) if count >= 100000 else ()
            row("client CPU for each of " + name, "%.3f ms" % cpu, *bound)
            peak = peaks[count, version] = statistics.median(run.peak_mb for run in runs[version])
            row("peak memory at " + name, "%.0f MB" % peak, "<= 100 MB", peak <= 100)
    for version in versions:
        last, before = (peaks[count, version] for count in sizes.client_assets[:-3:-1])
        growth = last / before - 1
        name = "growth of peak memory between the last two" + version.label
        row(name, "%.0f %%" % (100 * growth), "<= 15 %", growth <= 0.15)


def ceiling(sizes, versions):
    """What comes of --max-write-units during ten seconds."""
    for limit in (1, 50, 500):
        mean, worst = collections.defaultdict(list), collections.defaultdict(list)
        count = max(8, int(limit * 14 / 2.5))
        for version in versions * sizes.rounds:
            with InstantServer(count) as server, Front(server.port, partition_units=UNLIMITED) as front:
                migrate(version, count, flags_of(front.endpoint_url) + ["--max-write-units", str(limit)])
            start = front.accepted[0][0]
            mean[version].append(units_between(front.accepted, start, start + 10) / 10)
            worst[version].append(max(units_between(front.accepted, at, at + 1) for at, _ in front.accepted))
        for version in versions:
            median, most = statistics.median(mean[version]), statistics.median(worst[version])
            shown = "%.1f units/s over ten seconds, most in one second %.0f" % (median, most)
            # The window begins with a write that was waited for before.
            met = 0.9 * limit <= median <= 1.05 * limit + LARGEST_WRITE / 10
            row("--max-write-units %d" % limit + version.label, shown, "90 to 105 %, and one write", met)


def units_between(accepted, start, end):
    return sum(units for at, units in accepted if start <= at < end)


def spark(sizes, versions):
    """Two processes of Spark against one process. The difference between two sizes is free of what a start costs."""
    if importlib.util.find_spec("pyspark") is None:
        return row("Spark", "not measured: `pip install -r requirements-spark.txt`")
    cpu = {}
    for count in sizes.client_assets[:2]:
        runs = collections.defaultdict(list)
        with InstantServer(count) as server:
            for version, script in itertools.product(versions * sizes.rounds, (MIGRATION, SPARK)):
                runs[version, script].append(migrate(version, count, flags_of(server.endpoint_url), script))
        for version in versions:
            alone, spread = ([run.seconds for run in runs[version, script]] for script in (MIGRATION, SPARK))
            name = "Spark, local[2] / one process, {:,} assets{}".format(count, version.label)
            row(name, times(alone, spread, count))
            peak = statistics.median(run.peak_mb for run in runs[version, SPARK])
            row(
                "peak memory of a Python process of Spark, {:,} assets{}".format(count, version.label), "%.0f MB" % peak
            )
        cpu.update(((key, count), statistics.median(run.cpu for run in runs[key])) for key in runs)
    few, many = sizes.client_assets[:2]
    for version, script in itertools.product(versions, (MIGRATION, SPARK)):
        key = version, script
        each = (cpu[key, many] - cpu[key, few]) / (many - few)
        label = "Spark" if script == SPARK else "one process"
        row("CPU for each further asset, " + label + version.label, "%.3f ms" % (1000 * each))
    return None


# --- Command line ----------------------------------------------------------------------------


def row(what, result, target="", met=None):
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


PARTS = {"speed": speed, "partitions": partitions, "client": client, "ceiling": ceiling, "spark": spark}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of each on little data")
    parser.add_argument(
        "--against", metavar="FOLDER", help="a folder with another version of the scripts, to be measured in turn"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="of %s; default: all" % ", ".join(PARTS))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error("there is no part %r" % unknown[0])
    versions = [Version(ROOT, "")]
    if options.against:
        if not os.path.isfile(os.path.join(options.against, MIGRATION)):
            parser.error("%s holds no %s" % (options.against, MIGRATION))
        versions = [Version(ROOT, " (this)"), Version(os.path.abspath(options.against), " (other)")]
    print("Machine: %s\n\n| what | result | target | met |\n|---|---|---|---|" % machine(), flush=True)
    for name in options.parts or PARTS:
        PARTS[name](QUICK if options.quick else FULL, versions)
    print("\nAfterwards: %s" % machine())


if __name__ == "__main__":
    main()
