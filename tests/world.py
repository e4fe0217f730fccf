"""A small world: one assetId in up to four partitions, both VAMS applications, and the tool.

A world is a list of steps. Each is what a user does in v2.2 or v2.3 (Create, Edit, NewVersion, Archive, Delete), or a
run of a script (Migrate, RollBack), whole or with events at its write requests: a user acts meanwhile, the process
dies, Ctrl-C, an answer or a request gets lost. `World.take` takes a step and then checks what spec.md section 3
promises:

- an asset is as its users left it, or that in v2.3's form, or back in v2.2's; none is lost, none is back from the dead;
- an asset in v2.3's form has its version record, and nobody takes that away or makes another of it;
- what the application wrote in the versions table stays;
- a run that ends 0 is verified with its journals, and a damage is not; running it again writes nothing;
- a rollback of all journals, with nobody's action in between, is exact and ends 0;
- a dry run writes nothing, and says what the run then does.

`live_through_drawn` lives through worlds that Hypothesis draws, and makes the first one that fails as small as it can.
"""

import contextlib
import csv
import datetime
import io
import json
import os
import random
import tempfile
import threading
import types
import typing
from pathlib import Path

import hypothesis
from conftest import BUCKET, Tables
from hypothesis import strategies as st
from v22 import DELETED, LEGACY, M, S, asset, version

import local_dynamodb
from load_migration import load_script, migration

rollback = load_script("v2.2_to_v2.3_migration_rollback.py")
verify = load_script("v2.2_to_v2.3_migration_verify.py")

ID = "a"
LIVE = ("db01", "db02")
PARTITIONS = ("db01", "db01" + DELETED, "db02", "db02" + DELETED)
OLD_FIELDS = {*LEGACY, "currentVersion"}
NOT_CURRENT = "which differs in isCurrentVersion ("
FIRST_DAY = datetime.datetime(2025, 7, 1, 12)

# What versions hold: some are equal but for the date, and some take a part of the record from elsewhere.
CONTENTS = (
    {},
    {"DateModified": S("June 25 2025 - 08:00:00")},
    {"Comment": S("Another upload")},
    {"description": None},  # the asset's own counts
    {"DateModified": None},  # the start of the run counts
)


# --------------------------------------------------------------------------------------
# What the applications write
# --------------------------------------------------------------------------------------


def old_asset(database_id, number, content, **changes):
    """As v2.2 leaves it."""
    current = version(Version=number, **CONTENTS[content])
    return asset(
        ID, database_id, currentVersion=current, previewLocation=None if content % 2 else M(Key="p"), **changes
    )


def native_asset(database_id):
    """As v2.3 creates it."""
    new = new_form(old_asset(database_id, "1", 1))
    return {**new, "description": S("Created by v2.3")}


def application_record(number, comment):
    """A version record as v2.3 writes it."""
    return {
        "assetId": S(ID),
        "assetVersionId": S(number),
        "isCurrentVersion": {"BOOL": True},
        "dateCreated": S("2025-06-30T00:00:00Z"),
        "comment": S(comment),
        "description": S(""),
        "createdBy": S("ann@example.com"),
        "specifiedPipelines": {"L": []},
    }


# --------------------------------------------------------------------------------------
# What the tool makes of them: spec.md section 2, for the few shapes above
# --------------------------------------------------------------------------------------


def is_new(item):
    return not OLD_FIELDS & set(item)


def version_id(item):
    """Of the version that is current, whatever the form."""
    return (item.get("currentVersionId") or item["currentVersion"]["M"]["Version"])["S"]


def new_form(item):
    """An asset of v2.2 in v2.3's form."""
    new = {name: value for name, value in item.items() if name not in OLD_FIELDS}
    new.update(currentVersionId=S(version_id(item)), assetLocation=M(Key=ID + "/", Bucket=BUCKET))
    if "previewLocation" in item:
        new["previewLocation"] = M(Key=item["previewLocation"]["M"]["Key"]["S"], Bucket=BUCKET)
    return new


def record_content(item):
    """What an asset of v2.2 has in its version record, but for date and isCurrentVersion; None: that is v2.3's."""
    if "currentVersion" not in item:
        return None
    current = item["currentVersion"]["M"]
    return {
        "assetId": S(ID),
        "assetVersionId": current["Version"],
        "comment": current["Comment"],
        "description": current.get("description", item["description"]),
        "createdBy": S("system"),
        "specifiedPipelines": current["specifiedPipelines"],
    }


def record_date(item):
    """None where it is the start of the run."""
    date = item["currentVersion"]["M"].get("DateModified")
    parsed = date and datetime.datetime.strptime(date["S"], "%B %d %Y - %H:%M:%S")
    return parsed and S(parsed.isoformat() + "Z")


def content_of(record):
    return {name: value for name, value in record.items() if name not in ("dateCreated", "isCurrentVersion")}


def is_current(record):
    return record["isCurrentVersion"] == {"BOOL": True}


def is_archived(key):
    return key[0].endswith(DELETED)


def live_twin(key):
    return key[0][: -len(DELETED)], key[1]


# --------------------------------------------------------------------------------------
# Steps
# --------------------------------------------------------------------------------------


class Create(typing.NamedTuple):
    """By a user of v2.2, who may have made more versions since, or of v2.3."""

    database_id: str
    number: str = "1"
    content: int = 0
    v23: bool = False

    def act(self, world):
        if world.asset(self.database_id):
            return
        if self.v23 and not is_archived([self.database_id]):
            world.put_record(application_record("1", world.new_text()))
            world.put(native_asset(self.database_id))
        else:
            world.put(old_asset(self.database_id, self.number, self.content))


class Edit(typing.NamedTuple):
    database_id: str
    name: str = "description"

    def act(self, world):
        item = world.asset(self.database_id)
        if item:
            world.change(item, {**item, self.name: S(world.new_text())})


class NewVersion(typing.NamedTuple):
    database_id: str
    content: int = 0
    v23: bool = False

    def act(self, world):
        item = world.asset(self.database_id)
        if item and self.v23:
            self.by_v23(world, item)
        elif item and "currentVersion" in item:
            former = item["currentVersion"]
            number = str(int(former["M"]["Version"]["S"]) + 1)
            history = {"L": item.get("versions", {"L": []})["L"] + [former]}
            current = version(Version=number, **CONTENTS[self.content])
            world.change(item, {**item, "currentVersion": current, "versions": history})

    def by_v23(self, world, item):
        former = item.get("currentVersionId", S("0"))["S"]
        number = str(int(former) + 1)
        record = world.record(former)
        world.put_record(application_record(number, world.new_text()))
        if record:
            world.put_record({**record, "isCurrentVersion": {"BOOL": False}})
        kept = {name: value for name, value in item.items() if name not in ("currentVersion", "versions")}
        world.change(item, {**kept, "currentVersionId": S(number)})


class Archive(typing.NamedTuple):
    database_id: str

    def act(self, world):
        item = world.asset(self.database_id)
        if item and not is_archived([self.database_id]):
            world.move(item, self.database_id + DELETED)


class Delete(typing.NamedTuple):
    """For good; the records stay."""

    database_id: str

    def act(self, world):
        if world.asset(self.database_id):
            world.remove(self.database_id)


# What happens to a script at one of its write requests.
KILLED, KILLED_AFTER, CTRL_C = "killed", "killed after it", "Ctrl-C"
ANSWER_LOST, REQUEST_LOST = "answer lost", "request lost"


class Migrate(typing.NamedTuple):
    """A run, after a dry run where nothing is to happen meanwhile.

    scope: flags. events: (number of the write request, counted from 1; a user's step or one of the above).
    damage: which attribute to damage after a verified run.
    """

    scope: typing.Tuple[str, ...] = ()
    batch_size: int = 25
    events: typing.Tuple[typing.Tuple[int, typing.Any], ...] = ()
    damage: int = 0

    def act(self, world):
        world.migrate(self)


class RollBack(typing.NamedTuple):
    """journals: which, by their number, oldest first, from 0; None: all."""

    journals: typing.Optional[typing.FrozenSet[int]] = None
    batch_size: int = 25
    events: typing.Tuple[typing.Tuple[int, typing.Any], ...] = ()

    def act(self, world):
        world.roll_back(self)


TOOL = (Migrate, RollBack)


# --------------------------------------------------------------------------------------
# The stage: the tables, and the scripts in this process
# --------------------------------------------------------------------------------------


class Killed(migration.MigrationError):
    """Nothing is sent any more."""

    def __init__(self):
        super().__init__("The process was killed.", "none")


class Stage:
    """Two tables, for one world after the other, and what stands between the scripts and the engine."""

    def __init__(self, tables):
        self.tables = tables
        self.world = None
        self.running = None  # the migration.Run under way
        self.lock = threading.RLock()
        self.begin({})

    def begin(self, events):
        """events: by number of the write request."""
        self.events = dict(events)
        self.requests = 0
        self.happened = []
        self.on_disk = None  # what was in the journals when the process was killed

    def call(self, send, operation):
        """Pass a request on, and have happen what is to happen meanwhile."""
        from botocore import exceptions

        with self.lock:
            if self.on_disk is not None:
                raise Killed
            if operation != "BatchExecuteStatement":
                return send()
            self.requests += 1
            event = self.events.get(self.requests)
            self.happened += [event] if event else []
            if event == KILLED:
                self.kill()
            elif event == REQUEST_LOST:
                raise exceptions.ConnectionError(error="lost")
            elif event == CTRL_C:
                self.running.stop()
            elif isinstance(event, tuple):
                event.act(self.world)
            answer = send()
            if event == KILLED_AFTER:
                self.kill()
            elif event == ANSWER_LOST:
                raise exceptions.ConnectionError(error="lost")
            return answer

    def kill(self):
        self.on_disk = {path: path.read_bytes() for path in self.world.journals}
        raise Killed

    def clear(self):
        tables = {self.tables.assets: ("databaseId", "assetId"), self.tables.versions: ("assetId", "assetVersionId")}
        for table, keys in tables.items():
            for item in local_dynamodb.all_items(self.tables.client, table):
                self.tables.client.delete_item(TableName=table, Key={name: item[name] for name in keys})


def once_a_world(stage, make):
    """A function that makes something at its first call in a world."""

    def first(*arguments):
        if make not in stage.world.made:
            stage.world.made[make] = make(*arguments)
        return stage.world.made[make]

    return first


@contextlib.contextmanager
def stage(engine, monkeypatch):
    """Two tables, and scripts that run in this process: with one client a world, for most of the time goes into making
    it, a clock that goes on a minute from run to run, and no pause before a request is sent again."""
    tables = Tables(engine, "assets-world-%d" % os.getpid(), "versions-world-%d" % os.getpid(), None)
    local_dynamodb.create_tables(tables.client, tables.assets, tables.versions)
    stage = Stage(tables)
    call = migration.Wire.call
    connected = {name: once_a_world(stage, getattr(migration, name)) for name in ("make_session", "make_client")}

    def watched_call(wire, operation, request):
        return stage.call(lambda: call(wire, operation, request), operation)

    @contextlib.contextmanager
    def interruptible(run):
        stage.running = run
        yield

    for name, make in connected.items():
        monkeypatch.setattr(migration, name, make)
    monkeypatch.setattr(migration.Wire, "call", watched_call)
    monkeypatch.setattr(migration, "interruptible", interruptible)
    monkeypatch.setattr(migration, "utc_now", lambda: stage.world.now.replace(tzinfo=datetime.timezone.utc))
    monkeypatch.setattr(
        migration, "random", types.SimpleNamespace(uniform=lambda low, high: low, getrandbits=random.getrandbits)
    )
    try:
        yield stage
    finally:
        for name in (tables.assets, tables.versions):
            tables.client.delete_table(TableName=name)


# --------------------------------------------------------------------------------------
# The world
# --------------------------------------------------------------------------------------


class Life(typing.NamedTuple):
    """An asset as its users left it and, where they left it in v2.3's form, which attributes of v2.2 may come back."""

    left: dict
    former: typing.Optional[dict] = None

    @property
    def restored(self):
        """In v2.2's form, if there is one."""
        if self.former is None:
            return self.left
        kept = {name: value for name, value in self.left.items() if name not in migration.OWNED_FIELDS}
        return {**kept, **self.former}

    @property
    def forms(self):
        """What it may be after a run of the tool."""
        return [self.left, self.restored, new_form(self.restored)]

    def attributes_to_come_back(self, present):
        """Of v2.2, when a user goes on from what is present."""
        if migration.same(self.left, present):
            return self.former
        return owned(self.left) if is_new(present) else None


def owned(item):
    return {name: value for name, value in item.items() if name in migration.OWNED_FIELDS}


class Ended(typing.NamedTuple):
    """A run of a script."""

    status: int
    killed: bool
    summary: dict
    rows: list


class World:
    def __init__(self, stage, folder):
        self.stage = stage
        self.tables = stage.tables
        self.folder = Path(folder)
        self.now = FIRST_DAY
        self.lives = {}  # (databaseId, assetId) -> Life
        self.written = {}  # the version records that v2.3 wrote or changed, as it left them
        self.base = ({}, {})  # contents when nothing of the tool's stood
        self.stands = False  # whether something of the tool's stands
        self.undisturbed = True  # whether no user has acted since the base
        self.older_journals = 0  # so many are older than the last action of a user
        self.lost = False  # whether the answer to a write ever was, so that somebody else may have made a record
        self.count = 0  # of runs and texts
        self.said = ""  # by the last script
        self.made = {}  # session and client of the scripts
        stage.world = self
        stage.clear()

    def take(self, step):
        try:
            step.act(self)
        except AssertionError as error:
            raise AssertionError("%s\nin %r, of which the last script said:\n%s" % (error, step, self.said)) from error
        if not isinstance(step, TOOL):
            self.user_acted()

    # What users do.

    def asset(self, database_id):
        return self.tables.asset(database_id, ID)

    def record(self, number):
        return self.tables.record(ID, number)

    def new_text(self):
        self.count += 1
        return "written %d" % self.count

    def put(self, item):
        """Another asset than the one, if any, that was there."""
        self.tables.put(item)
        self.lives[item["databaseId"]["S"], ID] = Life(item)

    def change(self, old, new):
        """An asset as a user goes on from it."""
        life = self.lives[new["databaseId"]["S"], ID]
        former = life.attributes_to_come_back(old) if owned(old) == owned(new) else None
        self.tables.put(new)
        self.lives[new["databaseId"]["S"], ID] = Life(new, former)

    def move(self, item, database_id):
        """In the place of the asset, if any, that was there. Where both were the same before the tool came, and it has
        changed that one too, so that a journal tells of it, it may come back as that."""
        life, there = self.lives[item["databaseId"]["S"], ID], self.lives.get((database_id, ID))
        moved = {**item, "databaseId": S(database_id)}
        former = life.attributes_to_come_back(item)
        told_of = there is not None and self.asset(database_id) != there.restored
        self.put(moved)
        if told_of and there.restored == {**life.restored, "databaseId": S(database_id)}:
            self.lives[database_id, ID] = Life(moved, former)
        self.remove(item["databaseId"]["S"])

    def remove(self, database_id):
        key = {"databaseId": S(database_id), "assetId": S(ID)}
        self.tables.client.delete_item(TableName=self.tables.assets, Key=key)
        del self.lives[database_id, ID]

    def put_record(self, record):
        self.tables.put_records(record)
        self.written[ID, record["assetVersionId"]["S"]] = record

    def user_acted(self):
        self.older_journals = len(self.journals)
        if self.stands:
            self.undisturbed = False
        else:
            self.base = self.tables.contents()

    # What the scripts do.

    @property
    def journals(self):
        """The oldest first."""
        return sorted((self.folder / "backups").glob("*.jsonl"))

    def run(self, script, flags, events=()):
        self.count += 1
        self.now += datetime.timedelta(minutes=1)
        reports = self.folder / ("reports-%d" % self.count)
        argv = self.tables.flags + ["--report-dir", str(reports)] + [str(flag) for flag in flags]
        said = io.StringIO()
        self.stage.begin(events)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = script.main(argv)
        self.said = said.getvalue()
        if self.stage.on_disk is not None:
            for path, data in self.stage.on_disk.items():
                path.write_bytes(data)
            return Ended(status, True, {}, [])
        (summary,), (report,) = reports.glob("*_summary.json"), reports.glob("*.csv")
        with open(report, newline="", encoding="utf-8-sig") as file:
            return Ended(status, False, json.loads(summary.read_text()), list(csv.DictReader(file)))

    def look(self, script, flags, present):
        """A run that writes nothing. present: the contents."""
        run = self.run(script, flags)
        assert self.tables.contents() == present, "it was to look only, but wrote"
        return run

    def migrate(self, step):
        flags = [*step.scope, "--journal-dir", self.folder / "backups", "--batch-size", step.batch_size, "--workers", 1]
        before = self.tables.contents()
        predicted = None if step.events else self.look(migration, [*flags, "--dry-run"], before)
        run = self.run(migration, flags, step.events)
        after = self.tables.contents()
        self.stands = True
        if not self.still_holds(before, after, run):
            return
        self.check_outcomes(run, before, after)
        if CTRL_C in self.stage.happened:
            return
        self.check_end(run)
        if predicted and not self.arrival_matters(before):
            assert said_by(predicted) == said_by(run), "the dry run said %s" % (said_by(predicted),)
        if run.status == 0:
            again = self.look(migration, flags, after)
            assert again.status == 0 and again.summary["writes"] == 0, "run again, it writes"
            self.check_verified(step, before, after)

    def roll_back(self, step):
        chosen = [path for n, path in enumerate(self.journals) if step.journals is None or n in step.journals]
        if not chosen:
            return
        flags = [flag for path in chosen for flag in ("--journal", path)]
        flags += ["--yes", "--batch-size", step.batch_size, "--workers", 1]
        before = self.tables.contents()
        predicted = None if step.events else self.look(rollback, [*flags, "--dry-run"], before)
        run = self.run(rollback, flags, step.events)
        after = self.tables.contents()
        if not self.still_holds(before, after, run) or CTRL_C in self.stage.happened:
            return
        if predicted:
            assert said_by(predicted) == said_by(run), "the dry run said %s" % (said_by(predicted),)
        if len(chosen) < len(self.journals):
            return
        if self.undisturbed:
            self.check_exact(run, after)
            self.stands, self.base = False, after
        else:
            self.check_restored(run, after)

    # What must hold after every run.

    def still_holds(self, before, after, run):
        """Returns whether it came to its end, or was stopped in good order, and no user acted meanwhile."""
        acted = any(isinstance(event, tuple) for event in self.stage.happened)
        self.lost = self.lost or bool({ANSWER_LOST, REQUEST_LOST} & set(self.stage.happened))
        if acted:
            self.user_acted()
        self.check_assets(after)
        self.check_records(after)
        if not acted:
            self.check_needs(before, after, run)
        return not acted and not run.killed

    def check_assets(self, after):
        """No user's action is undone."""
        assert set(after[0]) == set(self.lives), "gone or back: %s" % (set(after[0]) ^ set(self.lives))
        for key, life in self.lives.items():
            assert any(migration.same(form, after[0][key]) for form in life.forms), (
                "%s is not as its users left it, but %s; they left %s" % (key, after[0][key], life)
            )

    def check_records(self, after):
        """What the application wrote stays, and each asset in v2.3's form has its record."""
        for key, record in list(self.written.items()):
            if after[1].get(key) != record and self.is_taken_over(key, after):
                del self.written[key]
                continue
            assert after[1].get(key) == record, "the application's record is %s, not %s" % (after[1].get(key), record)
        missing = needed(after) - set(after[1])
        assert not missing, "assets without their records %s" % missing

    def is_taken_over(self, key, after):
        """Whether a live asset has replaced the record that its archived twin, and no third asset, relied on."""
        of_version = [name for name, item in after[0].items() if version_id(item) == key[1]]
        for archived in filter(is_archived, of_version):
            live = live_twin(archived)
            thirds = [name for name, item in after[0].items() if is_new(item) and name not in (live, archived)]
            if live in of_version and is_new(after[0][archived]) and not thirds:
                return key in after[1] and content_of(after[1][key]) == record_content(self.lives[live].restored)
        return False

    def check_needs(self, before, after, run):
        """The record of an asset that was in v2.3's form before and is it now stays what it was."""
        for key, item in after[0].items():
            old, record_key = before[0][key], (ID, version_id(item))
            if not (is_new(old) and is_new(item)) or self.is_live_ones(key, before, after, run):
                continue
            was, now = before[1][record_key], after[1][record_key]
            assert {**was, "isCurrentVersion": None} == {**now, "isCurrentVersion": None}, (
                "the record of %s was %s and is %s" % (key, was, now)
            )
            assert is_current(now) or not is_current(was) or is_archived(key), "the record of %s is not current" % (
                key,
            )

    @staticmethod
    def is_live_ones(key, before, after, run):
        """Whether an archived asset's live twin has just taken the record over, or given it back."""
        twin = live_twin(key)
        return is_archived(key) and twin in before[0] and (run.killed or before[0][twin] != after[0][twin])

    # What must hold after a migration.

    def check_outcomes(self, run, before, after):
        """It came to its end, or was stopped in good order."""
        outcomes = run.summary["outcomes"]
        changed = [key for key in after[0] if before[0][key] != after[0][key]]
        assert run.summary["scanned"] == sum(outcomes.values())
        assert outcomes["migrated"] == len(changed), "%s, but what changed is %s" % (outcomes, changed)
        for row in run.rows:
            assert row["outcome"] != "failed" or (row["database_id"], ID) not in changed, (
                "failed, but touched: %s" % row
            )
        orphans = set(after[1]) - set(before[1]) - needed(after)
        assert not orphans, "records without an asset: %s" % orphans
        for key in changed:
            twin = live_twin(key) if is_archived(key) else key
            codes = {row["code"] for row in run.rows if (row["database_id"], ID) in (key, twin)}
            self.check_new_record(key, before[0][key], after, codes)

    @staticmethod
    def check_new_record(key, old, after, codes):
        """The record of an asset that was just migrated. codes: of its findings and its twin's."""
        expected = record_content(old)
        if expected is None:
            return
        record = after[1][ID, version_id(old)]
        if is_archived(key):
            assert content_of(record) == expected or "archived_twin" in codes, "the record of %s is %s" % (key, record)
            return
        assert content_of(record) == expected and is_current(record), "the record of %s is %s" % (key, record)
        assert record_date(old) in (None, record["dateCreated"]) or "shared_version_record" in codes, (
            "%s has lost its date without a word: %s" % (key, record)
        )

    def check_end(self, run):
        """It came to its end."""
        outcomes = run.summary["outcomes"]
        assert outcomes["not_finished"] == outcomes["vanished"] == 0
        wrong = outcomes["failed"] or run.summary["not_found"]
        assert (run.status == 0) == (not wrong), "status %s: %s" % (run.status, run.rows)
        # Whether a record is current is content too: another database's archived asset may have made it.
        failed = [row for row in run.rows if row["outcome"] == "failed" and NOT_CURRENT not in row["message"]]
        assert not failed or not self.undisturbed or self.may_conflict(), "nothing is in the way, but: %s" % failed

    def may_conflict(self):
        """Whether assets of several databases, or one and the application, want the same version record; or a live and
        an archived one, where nobody can tell for a third whose the record is."""
        wishes = {}
        for (database_id, _), item in self.base[0].items():
            if (ID, version_id(item)) in self.written and not is_new(item):
                return True
            wish = database_id.replace(DELETED, ""), migration.to_json(record_content(item))
            wishes.setdefault(version_id(item), set()).add(wish)
        several = len({name for of_one in wishes.values() for name, _ in of_one}) > 1
        return several and any(len({what for _, what in of_one}) > 1 for of_one in wishes.values())

    @staticmethod
    def arrival_matters(before):
        """Whether assets want the same version record: which comes first may differ between a dry run and the run."""
        wanted = [version_id(item) for item in before[0].values() if not is_new(item)]
        return len(set(wanted)) < len(wanted)

    def check_verified(self, step, before, after):
        """It ended 0 within its scope."""
        journals = self.journals[self.older_journals :]
        flags = [*step.scope, *[flag for path in journals for flag in ("--journal", path)]]
        checked = self.look(verify, flags, after)
        problems = [row for row in checked.rows if row["error_type"] not in verify.NOTES]
        unknown = [row for row in problems if not self.is_of_application(row, step.scope, before, after)]
        assert not unknown, "the verification says: %s" % unknown
        if checked.status == 0 and "--limit" not in step.scope:
            self.check_damage(step, flags, self.places(step.scope, journals, after))

    def is_of_application(self, row, scope, before, after):
        """Whether a problem was there before, comes of what the application leaves when an asset is deleted, or is that
        there is nothing."""
        if row["error_type"] == "several_current_versions":
            return any(is_current(record) and key not in needed(after) for key, record in before[1].items())
        if row["error_type"] == "not_current_version":
            return (ID, version_id(before[0][row["database_id"], ID])) in self.written
        return row["error_type"] == "nothing_found" and (row["expected"] == "before images" or not within(scope, after))

    def places(self, scope, journals, after):
        """What may be damaged: each attribute of a migrated asset and of its record, as (table, item, name)."""
        entries = [
            entry
            for path in journals
            for entry in migration.read_journal_backwards(migration.JournalFile(str(path)))
            if entry.asset
        ]
        found = []
        for database_id in sorted({entry.asset["databaseId"]["S"] for entry in entries}):
            item = after[0].get((database_id, ID))
            if not item or not is_new(item) or (database_id, ID) not in within(scope, after):
                continue
            found += [
                (self.tables.assets, item, name) for name in sorted(item) if name not in ("databaseId", "assetId")
            ]
            if (ID, version_id(item)) not in self.written:
                record = after[1][ID, version_id(item)]
                names = sorted(set(record) - {"assetId", "assetVersionId"})
                found += 2 * [(self.tables.versions, record, name) for name in names]
        return found

    def check_damage(self, step, flags, places):
        """One of them is damaged, and mended again: meanwhile it is not verified."""
        if not places:
            return
        table, item, name = places[step.damage % len(places)]
        damaged = {"BOOL": not is_current(item)} if name == "isCurrentVersion" else S("damaged")
        if name == "isCurrentVersion" and all(map(is_archived, within(step.scope, self.tables.contents()))):
            return  # the archived ones alone do not tell
        self.tables.client.put_item(TableName=table, Item={**item, name: damaged})
        checked = self.run(verify, flags)
        self.tables.client.put_item(TableName=table, Item=item)
        # A user may have edited what is not the migration's.
        edited = table == self.tables.assets and name not in migration.OWNED_FIELDS
        found = {row["error_type"] for row in checked.rows}
        assert checked.status == 1 or (edited and "edited_since" in found), "damaged, but VERIFIED: %s of %s" % (
            name,
            item,
        )

    # What must hold after a rollback of all journals.

    def check_exact(self, run, after):
        """No user acted since the base. But an asset stays as it is where the live one that an older journal tells of
        may have been archived in its place."""
        doubted = doubted_in(run) if self.older_journals else set()
        in_doubt = {(name, ID) for name in doubted} | needed(({key: after[0][key, ID] for key in doubted}, {}))
        maybe = self.lost and "record_stays" in {row["code"] for row in run.rows}
        for name, present, expected in zip(("asset", "record"), after, self.base):
            for key in {*present, *expected}:
                stays = key in in_doubt or (maybe and name == "record" and key not in expected)
                assert present.get(key) == expected.get(key) or stays, "%s %s is %s, it was %s; %s" % (
                    name, key, present.get(key), expected.get(key), run.rows,
                )  # fmt: skip
        # A user may have deleted what an earlier rollback restored.
        assert run.status == 0 or self.older_journals, "it is exact, but ends %s: %s" % (run.status, run.rows)

    def check_restored(self, run, after):
        """What is as the tool left it is restored, and of its records that stay the report says so."""
        not_restored = [row for row in run.rows if row["outcome"] in rollback.NOT_RESTORED]
        doubted = doubted_in(run)
        for key, life in self.lives.items():
            restored = life.former is None or migration.same(life.restored, after[0][key])
            assert restored or key[0] in doubted, "%s was not restored: %s; %s" % (key, after[0][key], run.rows)
        unneeded = set(after[1]) - set(self.written) - needed(after)
        said = not_restored or "record_stays" in {row["code"] for row in run.rows}
        assert said or not unneeded, "%s stay without a word" % unneeded


def doubted_in(run):
    """The databaseIds of the assets that a rollback has not touched, for they may be others."""
    return {row["database_id"] for row in run.rows if "may be another" in row["message"]}


def within(scope, contents):
    """The keys of the assets that flags choose, among others where there is a limit."""
    return {key for key in contents[0] if "--database-id" not in scope or key[0] in scope}


def needed(contents):
    """The keys of the version records that assets in v2.3's form need."""
    return {(ID, version_id(item)) for item in contents[0].values() if is_new(item)}


def said_by(run):
    """What a run says of its assets, in the words of one that is not dry."""
    planned = {**migration.DRY_RUN_OUTCOMES, **rollback.DRY_RUN_OUTCOMES}
    words = {dry: done for done, dry in planned.items()}
    outcomes = {words.get(name, name): count for name, count in run.summary["outcomes"].items()}
    rows = [(row["database_id"], words.get(row["outcome"], row["outcome"]), row["code"]) for row in run.rows]
    return run.status, outcomes, sorted(rows)


def live_through(stage, steps):
    """A world from its first step to its last."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(stage, folder)
        for step in steps:
            world.take(step)


# --------------------------------------------------------------------------------------
# Worlds as Hypothesis draws them
# --------------------------------------------------------------------------------------

contents = st.just(0) | st.integers(0, len(CONTENTS) - 1)
live = st.sampled_from(LIVE)
partitions = st.sampled_from(PARTITIONS)
creations = st.builds(Create, partitions, st.sampled_from("1112"), contents)
actions = st.one_of(
    st.builds(Edit, live, st.sampled_from(["description", "tags"])),
    st.builds(NewVersion, live, contents, st.booleans()),
    st.builds(Archive, live),
    st.builds(Create, live, st.just("1"), contents, st.booleans()),
    st.builds(Delete, partitions),
)
disturbances = st.sampled_from([KILLED, KILLED_AFTER, CTRL_C, ANSWER_LOST, REQUEST_LOST])
events = st.just(()) | st.lists(st.tuples(st.integers(1, 8), disturbances | actions), max_size=3).map(tuple)
scopes = st.sampled_from(
    [()] * 4 + [("--limit", "1"), ("--limit", "2")] + [("--database-id", name) for name in PARTITIONS]
)
batch_sizes = st.sampled_from([25, 1])
migrations = st.builds(Migrate, scopes, batch_sizes, events, st.integers(0, 60))
rollbacks = st.builds(RollBack, st.none() | st.frozensets(st.integers(0, 3), min_size=1), batch_sizes, events)
# A choice among choices gives each its weight. Any step may be missing, so that long worlds can become short.
steps = st.sampled_from([migrations] * 4 + [actions] * 3 + [rollbacks] * 2 + [st.none()]).flatmap(lambda kind: kind)
worlds = st.tuples(*[st.none() | creations | creations] * 4, *[steps] * 8).map(
    lambda drawn: [step for step in drawn if step]
)


def live_through_drawn(stage, number, count):
    """Live through so many worlds. number: chooses which."""

    @hypothesis.seed(number)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )
    @hypothesis.given(worlds)
    def drawn(steps):
        live_through(stage, steps)

    drawn()
