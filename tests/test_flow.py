"""The parts of the flow by themselves: which writes go next, requests sent again, pages, dry runs, the run."""

import asyncio
import collections
import random
import threading
import time
import types

import pytest
from conftest import normal

from load_migration import migration

SETTINGS = types.SimpleNamespace(max_write_units=None, max_read_units=None, batch_size=25, workers=8, dry_run=False)


def settings(**values):
    return types.SimpleNamespace(**{**vars(SETTINGS), **values})


class FakeDatabase:
    """The requests of Database, answered by functions of a test."""

    assets, versions = "assets", "versions"

    def __init__(self, execute=None, get_items=None, read_page=None):
        self.execute, self.get_items, self.read_page = execute, get_items, read_page

    def statement_of(self, change):
        return ".".join(change.key)

    def units_of(self, change):
        return migration.write_units(change.size)


def in_loop(coroutine_function):
    """Await a coroutine, in a loop of its own, as a Run does."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine_function(loop), 30))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


# --------------------------------------------------------------------------------------
# Which writes go next
# --------------------------------------------------------------------------------------


def queue_of(*counts, units=1.0, **options):
    """A queue with so many writes of each of some partition keys."""
    writes = migration.WriteQueue("versions", settings(**options), 0.0)
    for number, count in enumerate(counts):
        for item in range(count):
            add(writes, "db%02d" % number, str(item), units)
    return writes


def add(writes, database_id, asset_id, units=1.0, now=0.0):
    queued = migration.QueuedWrite(("assets", database_id, asset_id), units, "", False, None)
    writes.add(queued, now)
    return queued


def partitions(batch):
    return collections.Counter(queued.key[1] for queued in batch)


def test_a_batch_mixes_partition_keys():
    assert partitions(queue_of(100, 100, 3).next_batch(1.0, True)) == {"db00": 11, "db01": 11, "db02": 3}


def test_partition_keys_take_turns():
    writes = queue_of(*[100] * 60)
    for lane in writes.lanes.by_key.values():
        lane.rate = 1000.0
    sent = sum((partitions(writes.next_batch(1.0, True)) for _ in range(12)), collections.Counter())
    assert set(sent.values()) == {5}


def test_a_batch_that_would_not_be_full_waits_for_company():
    writes = queue_of(10, 10)
    assert writes.next_batch(1.0, False) == []
    assert len(writes.next_batch(1.0, True)) == 20


def test_a_throttled_partition_key_waits_alone():
    writes = queue_of(40, 40)
    hot = writes.lanes.by_key["assets", "db00"]
    batch = writes.next_batch(1.0, True)
    writes.answered(batch, ["ThrottlingError" if q.lane is hot else None for q in batch], None, 1.0)
    assert hot.tokens <= 0 and partitions(writes.next_batch(hot.filled_at, True)) == {"db01": 25}
    while writes.next_batch(hot.filled_at, True):
        pass
    assert writes.next_at() == hot.ready_at()
    assert "db00" in partitions(writes.next_batch(hot.ready_at() + 0.5, True))


def test_a_large_write_to_a_partition_key_that_was_cut_holds_it_up_for_seconds_only():
    writes = queue_of(2, units=400.0)
    (lane,) = writes.lanes.by_key.values()
    lane.rate, lane.filled_at = 1.0, 100.0
    assert len(writes.next_batch(101.0, True)) == 1 and writes.next_batch(101.0, True) == []
    assert writes.next_at() <= 101.0 + 1.001 * migration.LONGEST_PAUSE
    assert len(writes.next_batch(writes.next_at() + 0.001, True)) == 1


def test_no_item_is_in_two_requests_at_once():
    writes = queue_of()
    for _ in range(3):
        add(writes, "db00", "same")
    (first,) = writes.next_batch(1.0, True)
    assert writes.next_batch(1.0, True) == []
    writes.answered([first], [None], None, 1.0)
    assert len(writes.next_batch(1.1, True)) == 1


def test_what_a_batch_costs_does_not_grow_with_the_number_of_partition_keys(monkeypatch):
    writes = queue_of(*[4] * 5000)
    filled = []
    fill = migration.Lane.fill
    monkeypatch.setattr(migration.Lane, "fill", lambda lane, now: filled.append(lane) or fill(lane, now))
    batches = [writes.next_batch(1.0, True) for _ in range(20)]
    assert {len(batch) for batch in batches} == {25} and len(filled) < 3 * 20 * 25
    # Also while hardly one of them may send.
    for lane in writes.lanes.by_key.values():
        lane.tokens = -1.0
    while writes.next_batch(1.0, True):
        pass
    filled.clear()
    assert [writes.next_batch(1.0, True) for _ in range(20)] == [[]] * 20 and len(filled) <= 25


def test_a_new_partition_key_does_not_start_at_a_crawl():
    writes = queue_of(*[1] * 3000)
    rates = [lane.rate for lane in writes.lanes.by_key.values()]
    assert rates[:4] == [migration.PARTITION_UNITS] * 4 and min(rates) == migration.LEAST_START_UNITS


def test_a_write_that_its_partition_key_does_not_explain_waits_apart(monkeypatch):
    """An index key that many items share throttles single writes of all partition keys: these keep their pace."""
    clock = [1.0]
    monkeypatch.setattr(migration.time, "monotonic", lambda: clock[0])
    writes = queue_of(2000)
    (lane,) = writes.lanes.by_key.values()
    hot = lane.queue[0]

    def answer_a_batch_with_the_hot_one_refused():
        clock[0] += 0.1
        lane.tokens = 100.0
        batch = writes.next_batch(clock[0], True)
        assert hot in batch and len(batch) == 25
        writes.answered(batch, ["ThrottlingError" if one is hot else None for one in batch], None, clock[0])

    for _ in range(migration.EXPLAINED_REFUSALS):
        answer_a_batch_with_the_hot_one_refused()
        assert lane.queue[0] is hot and lane.cut_at == clock[0]
    rate, cut_at = lane.rate, lane.cut_at
    for _ in range(20):
        answer_a_batch_with_the_hot_one_refused()
        assert hot.apart and hot not in lane.queue and hot.key not in writes.in_flight
        writes.put_back([hot], False)  # to the head, so that the next batch has it
    assert lane.cut_at == cut_at and lane.rate > rate


def test_a_write_that_waits_apart_is_cut_for_where_nothing_of_its_lane_is_taken(monkeypatch):
    clock = [1.0]
    monkeypatch.setattr(migration.time, "monotonic", lambda: clock[0])
    writes = queue_of(3)
    lane = writes.lanes.by_key["assets", "db00"]
    for _ in range(10):
        clock[0] += 2.0
        batch = writes.next_batch(clock[0], True)
        writes.answered(batch, ["ThrottlingError"] * len(batch), None, clock[0])
    assert len(lane.queue) == writes.count == 3 and lane.rate < 100.0


def test_a_throttled_partition_key_does_not_hold_up_others_below_a_ceiling():
    """What the ceiling said of an earlier write does not count while that waits for its partition."""
    writes = queue_of(1, 30, max_write_units=1000)
    hot = writes.lanes.by_key["assets", "db00"]
    writes.ceiling.short = True
    hot.tokens, hot.rate = -1000.0, 1.0
    assert partitions(writes.next_batch(1.0, True)) == {"db01": 25}
    for lane in writes.lanes.by_key.values():
        lane.tokens, lane.rate = -1000.0, 1.0
    writes.ceiling.short = True
    assert writes.next_batch(1.0, True) == [] and writes.next_at() > 900


@pytest.mark.parametrize("units", [1.0, 3.0])
def test_below_a_ceiling_all_partition_keys_are_written_side_by_side(units):
    """Else the records of all assets under way would come before the first asset, and a stop would take long."""
    writes = queue_of(*[100] * 3, max_write_units=10, units=units)
    sent = collections.Counter()
    for moment in range(1, 500):
        sent += partitions(writes.next_batch(0.04 * moment, True))
        assert max(sent.values(), default=0) - min(sent["db%02d" % n] for n in range(3)) <= 1
    assert sum(sent.values()) * units > 0.8 * 10 * 20


def test_nothing_is_waited_for_while_all_requests_are_under_way():
    """The next answer wakes the writer; a clock that rings meanwhile would only take processor time."""
    pumped, release = [], threading.Event()

    def execute(statements):
        release.wait(5)
        return [(None, "")] * len(statements), None

    async def run(loop):
        writer = migration.Writer(FakeDatabase(execute), settings(workers=1, batch_size=1), loop)
        next_batch = writer.queue.next_batch
        writer.queue.next_batch = lambda *arguments: pumped.append(1) or next_batch(*arguments)
        call_at = loop.call_at
        loop.call_at = lambda when, *arguments, **named: pumped.append(when) or call_at(when, *arguments, **named)
        writes = [writer.write(change(name)) for name in "abc"]
        await asyncio.sleep(0.1)
        rung = len(pumped)
        release.set()
        await asyncio.gather(*writes)
        writer.requests.threads.shutdown()
        return rung

    assert in_loop(run) < 10


def test_a_partition_key_that_was_forgotten_while_a_write_was_under_way():
    """The process was suspended, and there are very many keys."""
    writes = queue_of(1, *[0] * 5)
    batch = writes.next_batch(1.0, True)
    writes.lanes.by_key.update({("assets", "x%d" % n): migration.Lane("", 1.0, 1.0) for n in range(1001)})
    writes.lanes.forget_idle(100.0)
    assert not writes.lanes.by_key
    writes.answered(batch, ["ThrottlingError"], None, 1.0)
    assert writes.remove(lambda queued: True) == batch and writes.count == 0


# --------------------------------------------------------------------------------------
# Writes until they are answered
# --------------------------------------------------------------------------------------


def change(name="a", **fields):
    return migration.Change("UPDATE", ("assets", "db", name), 100, **fields)


def write_all(*answers, changes=None, first=False, meanwhile=None):
    """What comes of writes where the requests are answered so, one after the other; an exception is raised."""
    left = list(answers)

    def execute(statements):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(code, "why") for code in answer], None

    async def run(loop):
        writer = migration.Writer(FakeDatabase(execute), SETTINGS, loop)
        futures = [writer.write(one, first) for one in changes or [change()]]
        writer.sent_at = time.monotonic()  # so that they go in one request, however slow this machine is
        if meanwhile:
            meanwhile(loop, writer)
        results = await asyncio.gather(*futures, return_exceptions=True)
        writer.requests.threads.shutdown()
        return results, writer

    return in_loop(run)


LOST = migration.TryAgain("no answer from DynamoDB")
THROTTLED = migration.TryAgain("throttled")


@pytest.mark.parametrize(
    "before, uncertain",
    [
        ([], False),
        ([THROTTLED], False),
        ([["ThrottlingError"]], False),
        ([LOST], True),
        ([["InternalServerError"]], True),
        ([["ReplicatedWriteConflict"]], True),
        ([LOST, THROTTLED, ["ProvisionedThroughputExceeded"]], True),
    ],
)
def test_a_refusal_says_whether_the_write_may_have_been_done_before(before, uncertain):
    (refusal,), writer = write_all(*before, ["DuplicateItem"])
    assert refusal == ("DuplicateItem", "why", uncertain)
    assert writer.done == 0 and writer.throttles == sum(
        answer is THROTTLED or (isinstance(answer, list) and answer[0] in migration.THROTTLE_CODES) for answer in before
    )


def test_answers_belong_to_their_writes():
    changes = [change(name) for name in "abc"]
    results, writer = write_all([None, "DuplicateItem", None], changes=changes)
    assert [result and result.code for result in results] == [None, "DuplicateItem", None] and writer.done == 2


def test_a_fatal_answer_is_raised_where_the_write_is_awaited():
    results, _ = write_all(["AccessDenied", None], changes=[change("a"), change("b")])
    assert isinstance(results[0], migration.MigrationError) and results[1] is None


def test_an_unexpected_error_is_raised_too():
    results, _ = write_all(KeyError("odd"), changes=[change("a"), change("b")])
    assert [repr(result) for result in results] == ["KeyError('odd')"] * 2


def test_a_statement_that_fails_for_ever_fails_its_asset_only(monkeypatch):
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", 0.3)
    answers = [["InternalServerError", None]] + [["InternalServerError"]] * 20
    results, _ = write_all(*answers, changes=[change("a"), change("b")])
    assert results == [("InternalServerError", "why", True), None]


def test_a_request_that_is_throttled_as_a_whole_cuts_the_lanes_of_its_batch():
    _, writer = write_all(THROTTLED, [None])
    (lane,) = writer.queue.lanes.by_key.values()
    assert lane.cut_at > 0.0 and lane.rate < 0.6 * migration.PARTITION_UNITS


def test_one_request_that_never_comes_back_fails_its_write_only(monkeypatch):
    """A proxy that cannot carry one large request, for example: sent alone in the end, it holds up no others."""
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", 2.0)
    sent = []

    def execute(statements):
        sent.append(statements)
        if any("poison" in statement for statement in statements):
            raise LOST
        return [(None, "")] * len(statements), None

    async def run(loop):
        writer = migration.Writer(FakeDatabase(execute), SETTINGS, loop)
        results = await asyncio.gather(*[writer.write(change(name)) for name in ("a", "poison", "b")])
        writer.requests.threads.shutdown()
        return results

    first, poisoned, last = in_loop(run)
    assert first is None and last is None
    assert poisoned.code == "InternalServerError" and "no answer" in poisoned.message and poisoned.uncertain
    together = [statements for statements in sent if len(statements) == 3]
    assert len(together) == migration.SUSPECT_FAILURES and all(len(statements) == 1 for statements in sent[3:])


def test_an_answer_in_which_nothing_succeeded_says_nothing_of_units():
    """AWS reports none there; DynamoDB Local never does."""
    _, writer = write_all(["DuplicateItem"])
    assert writer.units_reported
    _, writer = write_all([None])
    assert not writer.units_reported


def test_to_throttle_is_to_answer():
    """After an hour of it, one error of the server is not "no answer"."""
    backoff = migration.Backoff()
    for minute in range(60):
        backoff.failed(migration.THROTTLED, 60.0 * minute)
    backoff.failed("server error", 3600.0)
    backoff.failed(migration.THROTTLED, 4100.0)
    backoff.failed("server error", 4300.0)
    with pytest.raises(migration.MigrationError, match="has not answered"):
        backoff.failed("server error", 4301.0 + migration.PATIENCE_SECONDS)


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", 0.05)
    (error,), _ = write_all(*[LOST] * 100)
    assert isinstance(error, migration.MigrationError) and "has not answered" in str(error)


@pytest.mark.parametrize("first, abandoning, dropped", [(1, 0, 1), (0, 0, 0), (1, 1, 1), (0, 1, 1)])
def test_stop_drops_what_would_begin_something_and_an_error_everything(first, abandoning, dropped):
    (result,), _ = write_all([None], first=bool(first), meanwhile=lambda loop, writer: writer.stop(bool(abandoning)))
    assert isinstance(result, migration.Stopped) if dropped else result is None


def test_what_may_have_been_done_is_not_dropped_by_a_stop():
    """Or it would be a record without its asset."""

    def stop_soon(loop, writer):
        loop.call_later(0.1, writer.stop, False)

    (result,), _ = write_all(["InternalServerError"], [None], first=True, meanwhile=stop_soon)
    assert result is None


# --------------------------------------------------------------------------------------
# Items by key
# --------------------------------------------------------------------------------------


def key(number):
    return ("versions", "a%03d" % number, "1")


def test_lookups_of_many_coroutines_share_requests_and_unprocessed_keys_are_asked_for_again():
    asked = []

    def get_items(keys, keys_only):
        asked.append(list(keys))
        if len(asked) == 2:
            raise LOST
        unread = keys[90:] if len(keys) == 100 else []
        return {one: {"is": one} for one in keys if one not in unread}, unread, 1.0

    async def run(loop):
        reader = migration.Reader(FakeDatabase(get_items=get_items), loop)
        found = await asyncio.gather(*(reader.get([key(n), key(n + 1)]) for n in range(0, 300, 2)))
        reader.requests.threads.shutdown()
        return found

    assert in_loop(run) == [{key(n): {"is": key(n)}, key(n + 1): {"is": key(n + 1)}} for n in range(0, 300, 2)]
    assert max(map(len, asked)) == 100 and len(asked) <= 9  # the first four do not know how large the items are


@pytest.mark.parametrize("units, most", [(1.0, 100), (10.0, 25), (100.0, 2), (1000.0, 1), (0.0, 25)])
def test_a_lookup_asks_for_as_many_items_as_their_size_permits(units, most):
    """DynamoDB tells the size by the units; one that tells nothing is asked for few."""
    asked = []

    def get_items(keys, keys_only):
        asked.append(len(keys))
        return {one: {"is": one} for one in keys}, [], units * len(keys)

    async def run(loop):
        reader = migration.Reader(FakeDatabase(get_items=get_items), loop)
        await reader.get([key(0)])
        found = await asyncio.gather(*(reader.get([key(n)]) for n in range(200)))
        reader.requests.threads.shutdown()
        return found

    assert in_loop(run) == [{key(n): {"is": key(n)}} for n in range(200)]
    assert asked[0] == 1 and max(asked[1:]) == most


def test_an_error_of_a_lookup_reaches_all_that_wait_for_it():
    def get_items(keys, keys_only):
        raise migration.MigrationError("The table is gone.", "restore it.")

    async def run(loop):
        reader = migration.Reader(FakeDatabase(get_items=get_items), loop)
        lookups = [reader.get([key(1)]), reader.get([key(1), key(2)]), reader.get([])]
        results = await asyncio.gather(*lookups, return_exceptions=True)
        reader.requests.threads.shutdown()
        return results

    results = in_loop(run)
    assert [type(result) for result in results] == [migration.MigrationError] * 2 + [dict]


# --------------------------------------------------------------------------------------
# Pages
# --------------------------------------------------------------------------------------


class FakeTable:
    """Segments of so many items each, read in pages."""

    def __init__(self, *counts):
        self.counts = counts
        self.limits = []
        self.lock, self.under_way, self.most = threading.Lock(), 0, 0

    def read_page(self, table, request, prepare):
        with self.lock:
            self.limits.append(request["Limit"])
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0.005)
        start = request.get("ExclusiveStartKey") or 0
        end = min(self.counts[request["Segment"]], start + request["Limit"])
        with self.lock:
            self.under_way -= 1
        items = [prepare((request["Segment"], number), "") for number in range(start, end)]
        return migration.PageRead(items, end if end < self.counts[request["Segment"]] else None, 1.0, 10 * len(items))


def read_pages(table, take, limit=None, max_units=None):
    """await take(pages, segments) with the pages of a table."""

    async def run(loop):
        reader = migration.Reader(FakeDatabase(read_page=table.read_page), loop, max_units)
        segments = [migration.Segment({"Segment": number}) for number in range(len(table.counts))]
        pages = migration.table_pages(reader, "assets", segments, limit, lambda item, text: item)
        try:
            return await take(pages, segments)
        finally:
            await pages.aclose()
            reader.requests.threads.shutdown()

    return in_loop(run)


async def items_of(pages, segments):
    return [item async for page in pages for item in page.items]


def test_every_item_comes_once():
    table = FakeTable(0, 1, 250, 1000, *[7] * 100)
    expected = [(segment, number) for segment, count in enumerate(table.counts) for number in range(count)]
    assert sorted(read_pages(table, items_of)) == expected
    assert 1 < table.most <= migration.READERS


def test_reads_keep_below_the_ceiling():
    class Costly(FakeTable):
        def read_page(self, table, request, prepare):
            page = super().read_page(table, request, prepare)
            with self.lock:
                read_at.append(time.monotonic())
            return page._replace(units=10.0)

    read_at, table, start = [], Costly(*[500] * 6), time.monotonic()
    assert len(read_pages(table, items_of, max_units=200)) == 3000
    # What the first ones take is not known before; they are paid for afterwards.
    for number, moment in enumerate(read_at):
        assert 10.0 * (number + 1) <= 200 * (moment - start) + 10.0 * (migration.READERS + 1)
    assert len(read_at) >= 24


@pytest.mark.parametrize("limit", [0, 1, 250, 251, 300, 5000])
def test_a_limit_is_exact_and_in_order(limit):
    table = FakeTable(250, 1000)
    expected = [(segment, number) for segment, count in enumerate(table.counts) for number in range(count)]
    assert read_pages(table, items_of, limit) == expected[:limit]
    assert sum(table.limits) >= len(expected[:limit])


def test_the_next_page_is_that_of_the_segment_with_the_fewest_items_under_way():
    table = FakeTable(*[1000] * 10)

    async def take(pages, segments):
        """Segment 0 is throttled: what was read of it stays under way."""
        read = collections.Counter()
        async for page in pages:
            read[segments.index(page.segment)] += len(page.items)
            if page.segment is segments[0]:
                page.segment.pending += len(page.items)
            if sum(read.values()) >= 5000:
                break
        return read

    read = read_pages(table, take)
    assert read[0] <= 2 * migration.LANE_ITEMS and min(count for number, count in read.items() if number) > 300


def test_what_is_being_read_is_awaited_when_no_more_pages_are_wanted():
    table = FakeTable(*[1000] * 10)

    async def take(pages, segments):
        async for _ in pages:
            break
        await pages.aclose()
        assert table.under_way == 0

    read_pages(table, take)


# --------------------------------------------------------------------------------------
# Dry runs
# --------------------------------------------------------------------------------------


def random_change(rng, tables):
    name = rng.choice("abc")
    value = {"N": str(rng.randint(1, 2))}
    names = {"SS": ["y", "x"]} if rng.random() < 0.3 else value
    kind = rng.choice(["INSERT", "UPDATE", "UPDATE", "DELETE"])
    item_key = {"databaseId": {"S": "db"}, "assetId": {"S": name}}
    expected = rng.choice([{}, {"x": value}, {"x": None}, {"x": value, "y": None}, {"names": {"SS": ["x", "y"]}}])
    if kind == "INSERT":
        return migration.Change(kind, (tables.assets, "db", name), 100, {**item_key, "x": value, "names": names})
    if kind == "UPDATE":
        removed = rng.choice([(), ("y",)])
        values = {"x": value} if removed else {"y": value}
        return migration.Change(kind, (tables.assets, "db", name), 100, values, removed, expected)
    return migration.Change(kind, (tables.assets, "db", name), 100, expected=expected)


def test_a_dry_run_judges_writes_as_dynamodb_does(tables):
    """The same random changes, one by one, in an empty table and pretended: same answers, same items."""
    rng = random.Random(1)
    changes = [random_change(rng, tables) for _ in range(400)]
    database = migration.Database(tables.client, tables.assets, tables.versions)
    keys = [(tables.assets, "db", name) for name in "abc"]

    async def run(loop):
        reader, writer = migration.Reader(database, loop), migration.Writer(database, SETTINGS, loop)
        pretended, real = migration.DryRunTables(reader), migration.Tables(database, reader, writer)
        foreseen = [await pretended.write(one) for one in changes]
        items = await pretended.get(keys)
        assert tables.contents() == ({}, {})
        done = [await real.write(real.prepared(one)) for one in changes]
        for part in (reader, writer):
            part.requests.threads.shutdown()
        return [[refusal and refusal.code for refusal in some] for some in (foreseen, done)], items

    (foreseen, done), items = in_loop(run)
    assert foreseen == done and set(done) == {None, "DuplicateItem", "ConditionalCheckFailed"}
    stored = {one: tables.asset("db", one[2]) for one in keys}
    assert {one: normal(item) for one, item in items.items()} == {
        one: normal(item) for one, item in stored.items() if item
    }
    assert any(stored.values())


# --------------------------------------------------------------------------------------
# The journal, and the run
# --------------------------------------------------------------------------------------


class CountingJournal:
    remote = False

    def __init__(self, error=None):
        self.added = self.syncs = 0
        self.error = error

    def add_asset(self, asset, facts, again):
        self.added += 1

    def sync(self):
        self.syncs += 1
        if self.error:
            raise self.error


def save_at_once(journal, count):
    async def run(loop):
        commit = migration.GroupCommit(journal, loop)
        saves = [commit.save_asset("{}", migration.NO_FACTS, False) for _ in range(count)]
        return await asyncio.gather(*saves, return_exceptions=True)

    return in_loop(run)


def test_all_that_wait_are_saved_by_one_sync():
    journal = CountingJournal()
    assert save_at_once(journal, 100) == [None] * 100
    assert (journal.added, journal.syncs) == (100, 1)


def test_a_failed_sync_reaches_all_that_wait():
    error = migration.MigrationError("No space left.", "make room.")
    assert save_at_once(CountingJournal(error), 3) == [error] * 3


def run_over(count, do, size=0, page_items=10):
    """A Run of do(run, item) over so many items; the run, and what it raised."""
    run = migration.Run(FakeDatabase(), settings())
    segment = migration.Segment({})

    async def pages():
        for start in range(0, count, page_items):
            yield migration.Page(list(range(start, start + page_items)), size, segment)

    try:
        run.execute(pages(), lambda item: do(run, item), lambda run: None)
    except Exception as error:
        return run, error
    assert segment.pending == 0
    return run, None


@pytest.mark.parametrize("size, most", [(0, 800), (10**6, 40)])
def test_so_many_items_and_bytes_are_under_way(size, most):
    under_way, seen = [0], []

    async def do(run, item):
        under_way[0] += 1
        await asyncio.sleep(0.001)
        seen.append(under_way[0])
        under_way[0] -= 1

    assert run_over(3000, do, size)[1] is None
    assert len(seen) == 3000 and most - 10 <= max(seen) < most + 10  # a page more or less


def test_the_first_error_is_raised_when_what_was_under_way_has_ended():
    ended = []

    async def do(run, item):
        if item == 3:
            raise ValueError("the first")
        await asyncio.sleep(0.05)
        ended.append(item)
        raise ValueError("another")

    run, error = run_over(10**5, do)
    assert str(error) == "the first" and run.stopping
    assert len(ended) >= 9 and len(ended) < 2000


def test_an_error_in_a_callback_is_not_lost():
    async def do(run, item):
        if item == 0:
            run.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    assert isinstance(run_over(10**5, do)[1], ZeroDivisionError)


def test_an_error_of_the_progress_ends_the_run(monkeypatch):
    monkeypatch.setattr(migration, "TICK_SECONDS", 0.01)
    run = migration.Run(FakeDatabase(), settings())
    ticks = []

    async def pages():
        while True:
            await asyncio.sleep(0.001)
            yield migration.Page([1], 0, migration.Segment({}))

    async def do(item):
        pass

    def tick(run):
        ticks.append(1)
        if len(ticks) == 3:
            raise ValueError("no terminal")

    with pytest.raises(ValueError, match="no terminal"):
        run.execute(pages(), do, tick)


def test_stopped_from_another_thread():
    begun = []

    async def do(run, item):
        if not begun:
            threading.Timer(0.05, run.stop).start()
        begun.append(item)
        await asyncio.sleep(0.01)

    run, error = run_over(10**6, do)
    assert error is None and run.stopping and 0 < len(begun) < 10**6
