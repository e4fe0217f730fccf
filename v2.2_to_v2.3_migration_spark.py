#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = ["boto3", "pyspark"]
# ///
"""Migrate the assets of VAMS v2.2 to the form of v2.3 on Spark: on AWS Glue, EMR Serverless, or all cores of a machine.

    settings -> preflight -> tasks read segments -> shuffle by assetId -> tasks migrate -> one report

It is the migration of v2.2_to_v2.3_migration.py, run by many processes: settings, preflight, an asset's way, journal,
report and exit status are that script's. The driver reads no assets. What it adds up is what the tasks whose results
Spark accepted have counted, so that each asset counts once however often its task was tried.

All assets of one assetId come to the same task. So they take turns there as they do in one process, each task knows who
else has an assetId without asking, and a table with a single databaseId keeps all tasks busy.

Exit status: as the migration's.
"""

import collections
import concurrent.futures
import contextlib
import functools
import json
import logging
import os
import queue
import re
import sys
import tempfile
import time
import zlib
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

try:
    from load_migration import migration
except ModuleNotFoundError as missing:
    if missing.name != "load_migration":
        raise
    sys.stderr.write("error: load_migration.py is missing.\n  Fix: keep all files of this tool in one folder.\n")
    sys.exit(2)

SCRIPT = os.path.basename(migration.script_path(__file__))
TASK_ASSETS = 250000  # of one writing task, about, in a large table
LIMITED_TASK_ASSETS = 10000  # with a limit: each task looks up itself who else has an assetId
TASKS_FOR_EACH_CORE = 4  # so that one that ends leaves room for the next
EXECUTORS_SECONDS = 5.0  # without another one, and all of them are there
WATCH_SECONDS = 2.0  # how often a task looks whether the job is being stopped
PAGE_ITEMS = 100  # handed out at once, so that planning them goes beside what they wait for
PAGE_BYTES = 1000 * 1000

Job = Dict[str, Any]  # what the executors are told: plain values, for they do not share our classes
Result = Dict[str, Any]  # what a writing task has to say, in plain values too


# --------------------------------------------------------------------------------------
# Arguments
# --------------------------------------------------------------------------------------

# What Glue gives a script beside the job's own arguments: JOB_NAME, TempDir and others that begin with a capital, and
# what the AWS Glue developer guide lists under "Using job parameters in AWS Glue jobs". None of our flags is like them.
PIPS_OPTIONS = "--python-modules-installer-option"  # its value begins with dashes
GLUES_OWN = re.compile(
    r"(--([A-Z]\w*|scriptLocation|class|conf|encryption-type|executor-cores|user-jars-first"
    r"|additional-python-modules|datalake-formats|spark-event-logs-path"
    r"|(auto-scale|continuous-log|customer|disable|enable|extra|job|starting-events|use|write-shuffle)-[A-Za-z0-9-]+)"
    r"|%s)\Z" % PIPS_OPTIONS
)
SWITCHES = [setting.flag for setting in migration.SETTINGS.values() if setting.kind is bool]


def own_arguments(argv: Sequence[str]) -> List[str]:
    """The arguments as they are typed at a prompt. Glue adds its own, has `_` for each `-`, and gives even a flag
    without a value one: `true`, or nothing."""
    words, own = collections.deque(argv), []  # type: Any, List[str]
    while words:
        name, equals, value = words.popleft().partition("=")
        followed = bool(words) and (name == PIPS_OPTIONS or not words[0].startswith("--"))
        if GLUES_OWN.match(name):
            if followed and not equals:
                words.popleft()
            continue
        if name.startswith("--"):
            name = name.replace("_", "-")
        if name in SWITCHES and followed and words[0].lower() in ("true", "false", ""):
            if words.popleft().lower() != "false":
                own.append(name)
            elif name == "--dry-run":
                own.append("--no-dry-run")
            continue
        own.append(name + equals + value)
    return own


# --------------------------------------------------------------------------------------
# On the executors: reading
# --------------------------------------------------------------------------------------


def connected(job: Job) -> Tuple[Any, Any, Any]:
    """The settings, the tables and the storage of journals; made once for each process of an executor."""
    if not migration.LOG.handlers:
        # An executor's log is no place for what an operator's log may hold.
        migration.LOG.addHandler(logging.NullHandler())
        migration.LOG.propagate = False
    settings = migration.Settings(**job["settings"])
    session, database = _connected(json.dumps(job["settings"], sort_keys=True))
    database.indexes.update(job["indexes"])
    return settings, database, migration.Storage(session, settings)


@functools.lru_cache(maxsize=1)
def _connected(settings: str) -> Any:
    return migration.connect(migration.Settings(**json.loads(settings)))


def read_segments(job: Job, read_units: Any, lists: Iterator[List[Dict[str, Any]]]) -> Iterator[Tuple[str, str]]:
    """Read the segments of a task. lists: of their requests; read_units: an accumulator.
    Returns for each asset its assetId and what the writing task needs of it, JSON on one line."""
    settings, database, _ = connected(job)
    for requests in lists:
        run = migration.Run(database, settings._replace(max_read_units=job["read_units_each"]))
        segments = [migration.Segment(request) for request in requests]
        prepare = functools.partial(pair_of, settings)
        pages = migration.table_pages(run.reader, database.assets, segments, settings.limit, prepare)
        try:
            page = run.loop.run_until_complete(next_page(pages))
            while page is not None:
                yield from page.items
                page = run.loop.run_until_complete(next_page(pages))
        finally:
            run.loop.run_until_complete(pages.aclose())
            run.close()
            read_units.add(run.reader.units)


async def next_page(pages: Any) -> Any:
    """The next one of an asynchronous generator, None after the last one."""
    try:
        return await pages.__anext__()
    except StopAsyncIteration:
        return None


def pair_of(settings: Any, item: Dict[str, Any], text: str) -> Tuple[str, str]:
    """Of what is migrated already only the keys travel: they give the same plan."""
    if is_done(settings, item) and not settings.repair:
        text = migration.to_json({name: item[name] for name in migration.KEYS_OF_OWNER})
    return item["assetId"]["S"], text


def is_done(settings: Any, item: Dict[str, Any]) -> bool:
    """Whether nothing is planned for an asset."""
    if "currentVersionId" not in item:
        return False  # as all before a migration, and that is quickly seen
    facts = migration.Facts(repair=settings.repair)
    return migration.plan_asset(item, settings.asset_bucket_name, "", facts).outcome == "already_migrated"


# --------------------------------------------------------------------------------------
# On the executors: writing
# --------------------------------------------------------------------------------------


class TaskTally(migration.Tally):
    """Counts the assets of which there is nothing to tell, and keeps what there is to tell of the others, packed, for
    the driver's tally to count."""

    def __init__(self) -> None:
        super().__init__(None)
        self._packer = zlib.compressobj()
        self._packed = b""

    def count(self, key: Sequence[str], outcome: str, findings: Sequence[Any]) -> None:
        if findings:
            self._packed += self._packer.compress(migration.to_json([key, outcome, findings]).encode() + b"\n")
        else:
            super().count(key, outcome, findings)

    def told(self) -> bytes:
        return self._packed + self._packer.flush()


def tell(tally: Any, told: bytes) -> None:
    """Count what a task has kept for the driver."""
    for line in zlib.decompress(told).splitlines():
        key, outcome, findings = json.loads(line)
        tally.count(tuple(key), outcome, tuple(migration.Finding(*finding) for finding in findings))


class Spool:
    """The assets of a task in a temporary file, which is gone when it is closed."""

    def __init__(self, pairs: Iterable[Tuple[str, str]], known: Any) -> None:
        """known: AssetKeys that get their keys, or None."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        for _, text in pairs:
            self._file.write(migration.utf8(text) + b"\n")
            if known is not None:
                known.add_asset(json.loads(text))
        self._file.seek(0)
        self._segment = migration.Segment({})

    async def pages(self, reader: Any, plan: Any):
        """For a Run; plan(item, text) of each asset, in another thread."""
        while True:
            page = await reader.requests.in_thread(self._next_page, plan)
            if not page.items:
                return
            yield page

    def _next_page(self, plan: Any) -> Any:
        items, size = [], 0
        for line in self._file:
            text = line[:-1].decode("utf-8", "surrogatepass")
            items.append(plan(json.loads(text), text))
            size += len(line)
            if len(items) == PAGE_ITEMS or size >= PAGE_BYTES:
                break
        return migration.Page(items, size, self._segment)

    def close(self) -> None:
        self._file.close()


class EarlierAttempts:
    """Assets as earlier attempts at a task have read them: their before images.

    Where Spark has lost what was read, it has that read again. Then an asset that a lost attempt migrated looks
    like one migrated before. With what it was before, it is found to be as planned, and counts as migrated.
    """

    def __init__(self, journals: Sequence[Any]) -> None:
        """journals: their files, the last one last."""
        self.texts = migration.temporary_database("CREATE TABLE texts (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        self.empty = True
        for journal in reversed(journals):  # the first reading of an asset stays
            with contextlib.suppress(FileNotFoundError):  # another attempt had nothing to save and has removed it
                for entry in migration.read_journal_backwards(journal):
                    if entry.asset:
                        self.empty = False
                        row = (_key_text(entry.asset), migration.to_json(entry.asset))
                        self.texts.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", row)

    def text_of(self, item: Dict[str, Any]) -> Optional[str]:
        if self.empty:
            return None
        row = self.texts.execute("SELECT text FROM texts WHERE key = ?", (_key_text(item),)).fetchone()
        return row[0] if row else None


def _key_text(item: Dict[str, Any]) -> str:
    return migration.to_json([item["databaseId"]["S"], item["assetId"]["S"]])


def as_first_read(settings: Any, plan: Any, earlier: EarlierAttempts, item: Dict[str, Any], text: str) -> Any:
    """The plan of an asset; where it seems to be done, of what an earlier attempt began with."""
    before = earlier.text_of(item) if is_done(settings, item) else None
    return plan(item, text) if before is None else plan(json.loads(before), before)


def task_stem(stem: str, number: int) -> str:
    """What the names of the journals of a task's attempts begin with; that of the attempt follows."""
    return "%s_p%05d_a" % (stem, number)


def journal_paths(folder: Any, beginning: str) -> List[str]:
    """The paths of the journals whose names begin so."""
    return [folder.path_of(name) for name in sorted(folder.names(beginning))]


# How fast each partition key takes writes, which the next task of this process need not find out anew.
lanes = {}  # type: Dict[Any, Any]


def run_task(job: Job, number: int, pairs: Iterator[Tuple[str, str]]) -> Iterator[Result]:
    """Yields the one Result of a task. number: of the task."""
    from pyspark import TaskContext

    # Spark's own number of an attempt: no two of a job have the same.
    yield migrate_assets(job, number, TaskContext.get().taskAttemptId(), pairs)


def migrate_assets(job: Job, number: int, attempt: int, pairs: Iterator[Tuple[str, str]]) -> Result:
    """Migrate the assets of a task in the ordinary flow."""
    settings, database, storage = connected(job)
    settings = settings._replace(max_write_units=job["write_units_each"], max_read_units=job["lookup_units_each"])
    require_the_jobs_folder(job)
    tally, known = TaskTally(), migration.AssetKeys() if job["whole"] else None
    changes, show_whole = [], settings.asset_id is not None  # type: List[str], bool
    saved, holds = None, None
    with contextlib.closing(Spool(pairs, known)) as spool:
        journal, earlier = begin_journal(job, settings, storage, number, attempt)
        try:
            run = migration.Run(database, settings)
            run.writer.queue.lanes.by_key.update(lanes)
            flow = migration.Migration(
                *(run, settings, tally, journal, job["started"]),
                lambda asset, plan: changes.append(migration.describe_change(asset, plan, show_whole)),
                known,
            )
            pages = spool.pages(run.reader, functools.partial(as_first_read, settings, flow.planner.plan, earlier))
            with migration.rare_garbage_collection():
                run.execute(pages, flow.migrate, Watch(job).look)
            lanes.clear()
            lanes.update(run.writer.queue.lanes.by_key)
        finally:
            if journal:
                saved, holds = migration.end_journal(journal)
    return {
        "task": number,
        "stopped": run.stopped,
        "counts": {name: getattr(tally, name) for name in ADDED},
        "outcomes": dict(tally.outcomes),
        "first_migrated": tally.first_migrated,
        "told": tally.told(),
        "usage": migration.usage_of(run)._asdict(),
        "journal": saved,
        "journal_holds": holds,
        "changes": changes,
        "units": [dict(run.tables.units.by_table), dict(run.tables.units.by_database)] if settings.dry_run else None,
        "journal_size": flow.journal.size if settings.dry_run else 0,
    }


ADDED = ("scanned", "version_records", "assets")  # of a tally


def begin_journal(job: Job, settings: Any, storage: Any, number: int, attempt: int) -> Tuple[Any, EarlierAttempts]:
    """The journal of an attempt, None in a dry run, and what the task's earlier attempts have saved."""
    if settings.dry_run:
        return None, EarlierAttempts([])
    folder, stem = storage.folder(settings.journal_dir), task_stem(job["stem"], number)
    earlier = EarlierAttempts([storage.journal(path) for path in journal_paths(folder, stem)])
    site = migration.Site(job["account"], job["region"], 0, [], storage=storage)
    path = migration.journal_path(folder, "%s%08d" % (stem, attempt))
    return migration.open_journal(path, settings, site, job["started"]), earlier


def require_the_jobs_folder(job: Job) -> None:
    """Raises MigrationError unless the file that the driver has begun is seen here too."""
    if job["mark"] and not os.path.exists(job["mark"]):
        raise migration.MigrationError(
            "An executor does not see %s, which the driver has written." % job["mark"],
            "give a --journal-dir that all executors share: before images on one of them would be lost with it.",
        )


class Watch:
    """Looks now and then whether the job is being stopped: then the driver's journal is gone."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.looked_at = time.monotonic()

    def look(self, run: Any) -> None:
        if self.job["mark"] and time.monotonic() - self.looked_at >= WATCH_SECONDS and not run.stopping:
            self.looked_at = time.monotonic()
            if not os.path.exists(self.job["mark"]):
                run.stop()


# --------------------------------------------------------------------------------------
# On the driver
# --------------------------------------------------------------------------------------


def remote(name: str, *bound: Any) -> Any:
    """A function for the executors: the one of this file that has this name, which they load for themselves, with its
    first arguments. Spark sends inner functions by value, others by a module's name, and ours is none."""
    script = SCRIPT

    def call(*arguments: Any) -> Any:
        from load_migration import load_script

        return getattr(load_script(script), name)(*bound, *arguments)

    return call


def start_spark() -> Any:
    """The SparkContext. Where Spark was not told another master, it is this machine with all its cores."""
    try:
        from pyspark import SparkConf, SparkContext
    except ImportError:
        raise migration.SettingsError(
            "Python has no pyspark.", "`pip install -r requirements-spark.txt`, or start it by spark-submit."
        )
    try:
        SparkContext._ensure_initialized()  # from here on SparkConf knows what spark-submit was told
        conf = SparkConf()
        conf.setIfMissing("spark.app.name", "VAMS v2.2 to v2.3 migration")
        conf.setIfMissing("spark.master", "local[*]")
        conf.set("spark.ui.showConsoleProgress", "false")  # we have our own
        # What is shuffled are before images.
        conf.setIfMissing("spark.io.encryption.enabled", "true")
        if conf.get("spark.master").startswith("local"):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            conf.setIfMissing("spark.driver.bindAddress", "127.0.0.1")
            conf.setIfMissing("spark.driver.host", "127.0.0.1")
            conf.setIfMissing("spark.ui.enabled", "false")
        context = SparkContext.getOrCreate(conf)
    except Exception as error:
        raise migration.PreflightError(
            "Spark could not be started: %s." % str(error).strip().split("\n")[0],
            "it needs a Java that this Spark knows (17 for both 3.5 and 4): `java -version`, and JAVA_HOME.",
        )
    if context.master.startswith("local"):
        context.setLogLevel("FATAL")  # what a task meets is said by us; elsewhere the log is the cluster's
    brought = [os.path.basename(path) for path in context.listFiles]  # by spark-submit already
    for path in map(os.path.abspath, (__file__, load_migration_file(), migration.__file__)):
        if os.path.basename(path) not in brought:
            context.addPyFile(path)
    return context


def load_migration_file() -> str:
    import load_migration

    return load_migration.__file__


class Writing:
    """The tasks that migrate: so many at once, each a Spark job of its own over one partition of the shuffle.

    So their results come one by one, how many are under way is up to us whatever the cluster has, and Spark retries
    each.
    """

    def __init__(self, context: Any, partitions: Any, at_once: int, job: Job, files: Any, journals: Any) -> None:
        """partitions: the RDD of Results; journals: the folder."""
        self.context = context
        self.partitions = partitions
        self.at_once = at_once
        self.job = job
        self.files = files
        self.journals = journals
        self.count = partitions.getNumPartitions()
        self.tally = migration.Tally(files.report)
        self.usage = migration.Usage(0, 0.0, False, 0.0, 0)
        self.tasks = []  # type: List[Dict[str, Any]]
        self.units = migration.UnitCounts(job["tables"][0], job["tables"][1])
        self.journal_size = 0
        self.shown_changes = 0
        self.stopping = False
        self.stopped = False  # something was left undone
        self.error = None  # type: Optional[BaseException]
        self._ended = queue.Queue()  # type: queue.Queue
        self._shown_at = time.monotonic()

    def stop(self) -> None:
        """Begin no more tasks. May be called from a signal handler."""
        self.stopping = True

    def execute(self) -> None:
        """Raises what made it end early, once the tasks under way have come to their end."""
        with concurrent.futures.ThreadPoolExecutor(self.at_once) as threads:
            for number in range(self.count):
                threads.submit(self._run, number)
            left, told = self.count, False
            while left:
                with contextlib.suppress(queue.Empty):
                    ended = self._ended.get(timeout=migration.TICK_SECONDS)
                    left -= 1
                    self._take(ended)
                if self.stopping and not told:
                    told = self._tell_tasks()
                self._show(left)
        if self.error:
            raise self.error

    def _run(self, number: int) -> None:
        """In a thread of its own, because Spark's answer is waited for."""
        ended = None  # type: Any
        try:
            if not self.stopping:
                (ended,) = self.context.runJob(self.partitions, list, [number])
        except Exception as error:
            ended = error
        self._ended.put(ended)

    def _take(self, ended: Any) -> None:
        """Add up what a task has to say, None of one that was not begun. The first error stops the others."""
        self.stopped = self.stopped or not isinstance(ended, dict) or ended["stopped"]
        error = explained(ended) if isinstance(ended, Exception) and not self.stopping else None
        if isinstance(ended, dict):
            error = migration.ending(lambda: self._add(ended))
        if error:
            self.error = self.error or error
            self.stop()

    def _add(self, result: Result) -> None:
        for name, count in result["counts"].items():
            setattr(self.tally, name, getattr(self.tally, name) + count)
        self.tally.outcomes.update(result["outcomes"])
        room = migration.SHOWN_ASSETS - len(self.tally.first_migrated)
        self.tally.first_migrated += [tuple(key) for key in result["first_migrated"]][:room]
        tell(self.tally, result["told"])
        self.usage = added(self.usage, migration.Usage(**result["usage"]))
        self.journal_size += result["journal_size"]
        for by_table, by_database in filter(None, [result["units"]]):
            for table, units in by_table.items():
                self.units.by_table[table] += units
            self.units.add_databases(by_database)
        for text in result["changes"][: migration.SHOWN_CHANGES - self.shown_changes]:
            self.shown_changes += 1
            migration.announce("\n" + text, level=logging.INFO)
        self.tasks.append(
            {
                "task": result["task"],
                "scanned": result["counts"]["scanned"],
                "assets": result["counts"]["assets"],
                "write_units": result["usage"]["write_units"],
                "journal": result["journal"],
                "journal_holds": result["journal_holds"],
            }
        )

    def _tell_tasks(self) -> bool:
        """Have the tasks under way come to their end. Returns whether they need not be told again."""
        self.end_mark()
        if self.job["mark"] and journal_paths(self.journals, self.files.stem + "_p"):
            return True  # they write, and look for the mark
        self.context.cancelAllJobs()
        return False

    def end_mark(self) -> None:
        """End the driver's own journal: it says that the job goes on."""
        journal, self.files = self.files.journal, self.files._replace(journal=None)
        if journal:
            migration.end_journal(journal)

    def _show(self, left: int) -> None:
        now = time.monotonic()
        if now - self._shown_at < migration.STATUS_SECONDS:
            return
        self._shown_at = now
        text = "%s  tasks %d of %d done" % (migration.counts_line(self.tally), self.count - left, self.count)
        if left == self.count:
            text = self._reading() or text
        migration.LOG.info("%s", text)

    def _reading(self) -> str:
        """How far the segments have been read, while they are."""
        status = self.context.statusTracker()
        stages = [status.getStageInfo(number) for number in status.getActiveStageIds()]
        stages = [stage for stage in stages if stage and stage.numTasks > 1]
        done, of = (sum(getattr(stage, name) for stage in stages) for name in ("numCompletedTasks", "numTasks"))
        return "reading: %d of %d segments done" % (done, of) if stages else ""


def added(one: Any, other: Any) -> Any:
    """Two Usages together."""
    return migration.Usage(*(a or b if isinstance(a, bool) else a + b for a, b in zip(one, other)))


OUR_ERROR = re.compile(r"^[\w.]+: (.+)\n  Fix: (.+)$", re.MULTILINE)


def explained(error: Exception) -> Exception:
    """What made a task fail: the MigrationError that an executor raised, which Spark hands on as text."""
    found = OUR_ERROR.search(str(error))
    return migration.MigrationError(*found.groups()) if found else error


class Tasks(NamedTuple):
    """How the work is divided."""

    segments: List[Any]
    reading: int  # tasks
    writing: int
    at_once: int  # of the writing ones
    cores: int


def cores_of(context: Any) -> int:
    """The cores for the job. Those of a cluster come one executor after the other, and until then Spark says 2."""
    cores = context.defaultParallelism
    if context.master.startswith("local") or context.getConf().contains("spark.default.parallelism"):
        return cores
    context.parallelize([0], 1).count()  # it waits for the first one
    while True:
        time.sleep(EXECUTORS_SECONDS)
        known, cores = cores, context.defaultParallelism
        if cores == known:
            return cores


def tasks_of(settings: Any, site: Any, cores: int) -> Tasks:
    """More tasks than cores, and none with more assets than fit on its disk. With a limit one task reads, the first
    assets in table order. A ceiling leaves each task a unit."""
    many = TASKS_FOR_EACH_CORE * cores
    segments = migration.segments_of_assets(settings, site.item_count, max(migration.SEGMENTS, many))
    reading = 1 if settings.limit is not None else min(len(segments), settings.max_read_units or len(segments))
    few = 1 if settings.asset_id is not None else settings.limit
    if few is None:
        writing = max(many, site.item_count // TASK_ASSETS)
    else:
        writing = max(1, min(many, few // LIMITED_TASK_ASSETS))
    at_once = min(writing, cores, settings.max_write_units or cores, settings.max_read_units or cores)
    return Tasks(segments, reading, writing, at_once, cores)


def job_of(settings: Any, site: Any, database: Any, files: Any, tasks: Tasks) -> Job:
    """What the executors are told. They stand in another folder."""
    values = dict(settings._asdict(), aws_region=site.region, log_file=None, yes=True)
    on_disk = not migration.is_s3(settings.journal_dir)
    values["journal_dir"] = os.path.abspath(settings.journal_dir) if on_disk else settings.journal_dir
    return {
        "settings": values,
        "tables": [database.assets, database.versions],
        "indexes": database.indexes,
        "account": site.account,
        "region": site.region,
        "stem": files.stem,
        "started": files.started,
        # The driver's own journal, a file that is there as long as the job is to go on. S3 has none.
        "mark": os.path.abspath(files.journal.path) if files.journal and on_disk else None,
        "whole": settings.limit is None and not settings.database_id,
        "write_units_each": settings.max_write_units and settings.max_write_units // tasks.at_once,
        "lookup_units_each": settings.max_read_units and settings.max_read_units // tasks.at_once,
        "read_units_each": settings.max_read_units and settings.max_read_units // min(tasks.reading, tasks.cores),
    }


def results_of(context: Any, tasks: Tasks, job: Job, read_units: Any) -> Any:
    """The RDD of Results: the segments read, and their assets dealt to the writing tasks by assetId."""
    lists = [[segment.request for segment in tasks.segments[start :: tasks.reading]] for start in range(tasks.reading)]
    pairs = context.parallelize(lists, tasks.reading).mapPartitions(remote("read_segments", job, read_units))
    dealt = pairs.partitionBy(tasks.writing, lambda asset_id: zlib.crc32(asset_id.encode("utf-8", "surrogatepass")))
    return dealt.mapPartitionsWithIndex(remote("run_task", job))


def run_job(context: Any, database: Any, settings: Any, site: Any, typed: Dict[str, Any]) -> int:
    """Migrate, or plan what would be, and report. Returns the exit status."""
    files = migration.begin_files(settings, site)
    tasks = tasks_of(settings, site, cores_of(context))
    job, read_units = job_of(settings, site, database, files, tasks), context.accumulator(0.0)
    folder = site.storage.folder(settings.journal_dir)
    writing = Writing(context, results_of(context, tasks, job, read_units), tasks.at_once, job, files, folder)
    with migration.interruptible(writing):
        error = migration.ending(writing.execute)
        writing.end_mark()
        usage = writing.usage._replace(read_units=writing.usage.read_units + read_units.value)
        details = {"tasks": sorted(writing.tasks, key=lambda task: task["task"])}  # type: Dict[str, Any]
        journal = None
        if settings.dry_run:
            details["estimate"] = migration.estimate(writing.units, writing.journal_size, site)
        else:
            details["journals"] = journal_paths(folder, files.stem + "_p")
            if details["journals"]:
                journal = migration.journal_path(folder, files.stem + "_p*")
        # Of several databaseIds only the tasks know which they met.
        missing = [] if writing.stopped else migration.not_found(settings, writing.tally.scanned, ())
        work = migration.Work(writing.stopped, error, usage, journal, details, missing)
        return migration.conclude(settings, site, files, writing.tally, work, typed, SCRIPT)


# --------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------


def migrate(argv: Optional[List[str]]) -> int:
    """What the migration does before a run, then the job."""
    words = own_arguments(sys.argv[1:] if argv is None else argv)
    agreed = migration.agreed_run(words, "Migrate VAMS assets from v2.2 to v2.3 on Spark.")
    context = start_spark()
    try:
        return run_job(context, *agreed)
    finally:
        context.stop()


def main(argv: Optional[List[str]] = None) -> int:
    return migration.guarded(migrate, argv)


if __name__ == "__main__":
    status = main()
    if status:  # Glue takes any other way out for a failure
        sys.exit(status)
