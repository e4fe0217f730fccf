"""What the migration relies on of DynamoDB, tried on throwaway items by the migration's own writes.

    an item of a trial -> conditional writes of it -> what DynamoDB answers, and the item that it leaves

`v2.2_to_v2.3_migration_test.py` runs them. An engine that differs in any of it is not to be trusted
with assets: each write of the migration holds only while its conditions are taken as they are here.
"""

import asyncio
import uuid
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from load_migration import migration

Value = Dict[str, Any]  # DynamoDB JSON, as in the migration
Item = Dict[str, Value]
Expected = Union[None, Value, Callable[[Value], Value]]  # absent, a value, or what to make of the value as it was read

ATTEMPTS = 10  # of a trial whose answers say nothing: a request was lost, or throttled

# --------------------------------------------------------------------------------------
# The trials: what is expected of DynamoDB
# --------------------------------------------------------------------------------------

# What a write is answered with: None where it is done, else an error code.
DONE = (None,)
REFUSED = ("ConditionalCheckFailed",)
DUPLICATE = ("DuplicateItem",)
MALFORMED = ("ValidationError",)
# AWS documents that it is done; refused would do as well.
DONE_OR_REFUSED = (None, "ConditionalCheckFailed")


class Write(NamedTuple):
    """A conditional write of a trial's item, and the answers that are right."""

    kind: str
    answers: Tuple[Optional[str], ...]
    values: Item
    removed: Tuple[str, ...]
    expected: Dict[str, Expected]


class Trial(NamedTuple):
    """An item, None for an absent one, and writes of it, one after the other.
    A write that is refused must leave the item as it is; one that is done must leave what it says."""

    name: str
    item: Optional[Item]
    writes: Tuple[Write, ...]


def as_read(value: Value) -> Value:
    return value


def in_another_order(value: Value) -> Value:
    """A set with its elements the other way round."""
    ((kind, elements),) = value.items()
    return {kind: elements[::-1]}


def insert(answers: Tuple, values: Item) -> Write:
    return Write("INSERT", answers, values, (), {})


def update(answers: Tuple, expected: Dict[str, Expected], values: Optional[Item] = None, removed: Tuple = ()) -> Write:
    return Write("UPDATE", answers, values or {"written": {"S": "by the trial"}}, removed, expected)


def delete(answers: Tuple, expected: Dict[str, Expected]) -> Write:
    return Write("DELETE", answers, {}, (), expected)


def nested(value: Value, levels: int) -> Value:
    """The value inside of so many maps and lists."""
    for level in range(levels):
        value = {"M": {"inner": value}} if level % 2 else {"L": [value]}
    return value


TEXT = {"S": "text"}
NULL = {"NULL": True}
SEVERAL = {"a": TEXT, "b": NULL, "c": {"N": "1"}}  # type: Item
LARGE = "\x01" * 408000  # bytes: nearly an item's 400 KB; in a request each has six
VALUES = (  # type: Tuple[Tuple[str, Value, Value], ...]
    # what it is, a value, the same with one thing in it changed
    (
        "a text (S)",
        {"S": "Caf\u00e9 \u6a21\u578b \U0001f4e6 'one' \"two\"\n"},
        {"S": "Cafe\u0301 \u6a21\u578b \U0001f4e6"},
    ),
    ("an empty text", {"S": ""}, NULL),
    ("a number (N)", {"N": "12345678901234567890123456789012345678"}, {"N": "12345678901234567890123456789012345679"}),
    ("a small number", {"N": "-0.00000000000000000001234567890123"}, {"N": "-0.00000000000000000001234567890124"}),
    ("a boolean (BOOL)", {"BOOL": False}, {"BOOL": True}),
    ("a null (NULL)", NULL, {"S": ""}),
    ("a binary (B)", {"B": "AAEC/w=="}, {"B": "AAEC/g=="}),
    ("an empty binary", {"B": ""}, {"B": "AA=="}),
    ("a set of text (SS)", {"SS": ["b", "a", "\u00e9"]}, {"SS": ["b", "a", "e"]}),
    ("a set of numbers (NS)", {"NS": ["4", "7.5", "-12"]}, {"NS": ["4", "7.5"]}),
    ("a set of binary (BS)", {"BS": ["AAEC", "AQID/w=="]}, {"BS": ["AAEC", "AQID/g=="]}),
    ("a map (M)", {"M": {"a": TEXT, "b": NULL, "c": {"N": "1"}}}, {"M": {"a": TEXT, "b": NULL, "c": {"N": "2"}}}),
    ("an empty map", {"M": {}}, {"M": {"a": NULL}}),
    ("a list (L)", {"L": [TEXT, {"BOOL": True}, {"L": []}]}, {"L": [{"BOOL": True}, TEXT, {"L": []}]}),
    ("an empty list", {"L": []}, {"L": [NULL]}),
    ("a value of 31 levels", nested(TEXT, 31), nested({"S": "other"}, 31)),
    ("a set inside of a map", {"M": {"a": {"SS": ["y", "x"]}}}, {"M": {"a": {"SS": ["y", "z"]}}}),
)
TRIALS = (
    *(
        Trial(
            "UPDATE and DELETE only while %s is as it was read" % name,
            {"tried": value},
            (
                update(REFUSED, {"tried": other}),
                update(DONE, {"tried": as_read}, {"written": value}),
                delete(REFUSED, {"tried": other}),
                delete(DONE, {"tried": as_read}),
            ),
        )
        for name, value, other in VALUES
    ),
    *(
        Trial(
            "UPDATE while %s is as it was read, in whichever order" % name,
            {"tried": value},
            (update(DONE, {"tried": in_another_order}),),
        )
        for name, value, _ in VALUES
        if set(value) & {"SS", "NS", "BS"}
    ),
    Trial("UPDATE while an attribute IS MISSING", {"tried": TEXT}, (update(DONE, {"absent": None}),)),
    Trial(
        "no UPDATE while an attribute is there that is to be MISSING",
        {"tried": TEXT},
        (update(REFUSED, {"tried": None}),),
    ),
    Trial(
        "no UPDATE while an attribute is null that is to be MISSING",
        {"tried": NULL},
        (update(REFUSED, {"tried": None}),),
    ),
    Trial(
        "no UPDATE while an attribute is MISSING that is to be null",
        {"tried": TEXT},
        (update(REFUSED, {"absent": NULL}),),
    ),
    Trial(
        "no UPDATE and no DELETE while any one condition of several does not hold",
        SEVERAL,
        tuple(
            write(REFUSED, {**dict.fromkeys(SEVERAL, as_read), "absent": None, **wrong})
            for wrong in ({"a": {"S": "other"}}, {"b": TEXT}, {"c": {"N": "2"}}, {"a": None}, {"absent": NULL})
            for write in (update, delete)
        ),
    ),
    Trial(
        "UPDATE sets, removes and leaves alone at once",
        {"set": TEXT, "removed": NULL, "kept": {"SS": ["b", "a"]}},
        (update(DONE, {"set": as_read, "removed": as_read}, {"set": {"N": "1"}, "new": {"L": []}}, ("removed",)),),
    ),
    Trial("no UPDATE of an item that is absent", None, (update(REFUSED, {}),)),
    Trial("no UPDATE of an absent item with a condition", None, (update(REFUSED, {"tried": TEXT}),)),
    Trial("no UPDATE of an absent item whose attribute IS MISSING", None, (update(REFUSED, {"tried": None}),)),
    Trial("INSERT", None, (insert(DONE, {"tried": TEXT}),)),
    Trial("no INSERT over an item", {"tried": TEXT}, (insert(DUPLICATE, {"tried": NULL}),)),
    Trial("no second INSERT of the same", {"tried": TEXT}, (insert(DUPLICATE, {"tried": TEXT}),)),
    Trial("DELETE", {"tried": TEXT}, (delete(DONE, {"tried": as_read, "absent": None}),)),
    Trial("no DELETE while an attribute is not as given", {"tried": TEXT}, (delete(REFUSED, {"tried": NULL}),)),
    Trial(
        "no DELETE while an attribute is there that is to be MISSING",
        {"tried": TEXT},
        (delete(REFUSED, {"tried": None}),),
    ),
    Trial("DELETE of an item that is absent", None, (delete(DONE_OR_REFUSED, {"tried": TEXT, "absent": None}),)),
    Trial(
        "UPDATE of an item of nearly 400 KB, in a request of 5 MB",
        {"tried": {"S": LARGE}},
        (update(DONE, {"tried": as_read}, {"tried": {"M": {"Key": {"S": LARGE}, "Bucket": TEXT}}}),),
    ),
)
BATCH = "one request with a success, a duplicate, a failed condition and a malformed statement: four answers in order"

# --------------------------------------------------------------------------------------
# Trying them
# --------------------------------------------------------------------------------------


class Again(Exception):
    """Nobody knows what came of a write: the trial says nothing."""


class Differs(Exception):
    """DynamoDB does something else than is expected."""


class Trials:
    """Tries what is expected, on items under one databaseId, whose assetIds begin with it.

    `checks` are the results, in the order of the list. Whoever runs this removes the items.
    """

    def __init__(self, run: Any, database_id: str) -> None:
        self.run = run
        self.database = run.reader.database
        self.database_id = database_id
        self.found = {}  # type: Dict[str, str]  # by the name of a trial: what differs, or ""

    @property
    def checks(self) -> List[Any]:
        names = [trial.name for trial in TRIALS] + [BATCH]
        return [self._check(name, self.found[name]) for name in names if name in self.found]

    @staticmethod
    def _check(name: str, difference: str) -> Any:
        if not difference:
            return migration.Check("ok", name)
        fix = "do not migrate: the tables would not be safe. Show this to the VAMS team."
        return migration.Check("error", "%s: %s" % (name, difference), fix)

    async def outcome_of(self, trial: Optional[Trial]) -> None:
        """trial: None for the batch."""
        name = trial.name if trial else BATCH
        for attempt in range(ATTEMPTS):
            try:
                await (self.try_writes(trial, self.new_key()) if trial else self.try_batch())
                self.found[name] = ""
                return
            except Differs as difference:
                self.found[name] = str(difference)
                return
            except Again:
                await asyncio.sleep(0.05 * 2**attempt)
        self.found[name] = "DynamoDB did not answer %d times in a row" % ATTEMPTS

    def new_key(self) -> Any:
        return (self.database.assets, self.database_id, "%s-%s" % (self.database_id, uuid.uuid4().hex[:16]))

    async def try_writes(self, trial: Trial, key: Any) -> None:
        before = None
        if trial.item is not None:
            before = await self.write(insert(DONE, trial.item), key, None)
        for write in trial.writes:
            before = await self.write(write, key, before)

    async def write(self, write: Write, key: Any, before: Optional[Item]) -> Optional[Item]:
        """Returns the item afterwards. Raises Differs where that, or the answer, is not as expected."""
        change = change_of(write, key, before)
        refusal = await self.run.tables.write(change)
        if refusal and refusal.uncertain:
            raise Again
        require_answer(write, refusal and refusal.code, refusal and refusal.message)
        after = await self.read(key)
        right = before if refusal else migration.changed_item(change, before)
        if not migration.same(after, right):
            raise Differs(
                "%s: expected %s, came %s" % (write.kind, difference_of(right, after), difference_of(after, right))
            )
        return after

    async def read(self, key: Any) -> Optional[Item]:
        """An item as the migration reads assets."""
        request = migration.query_of("databaseId", key[1])
        request["KeyConditionExpression"] += " AND assetId = :id"
        request["ExpressionAttributeValues"][":id"] = {"S": key[2]}
        page = await self.run.reader.read_page(key[0], request)
        return page.items[0] if page.items else None

    async def try_batch(self) -> None:
        """Four writes of four items in one request, past the queue, which would mix them with others."""
        keys = [self.new_key() for _ in range(4)]
        for key in keys[1:3]:
            await self.write(insert(DONE, {"tried": TEXT}), key, None)
        writes = (insert(DONE, {"tried": TEXT}), insert(DUPLICATE, {"tried": NULL}), update(REFUSED, {"tried": NULL}))
        changes = [change_of(write, key, {}) for write, key in zip(writes, keys)]
        statements = [self.database.statement_of(change) for change in changes]
        # As a correct one, but for a letter.
        last = self.database.statement_of(change_of(update(REFUSED, {}), keys[3], None))
        statements.append(last.replace(" SET ", " SETS ", 1))
        try:
            answers, _ = await self.run.writer.requests.in_thread(self.database.execute, statements)
        except migration.TryAgain:
            raise Again
        if any(code in migration.THROTTLE_CODES + migration.PASSING_CODES for code, _ in answers):
            raise Again
        for write, (code, message) in zip(writes + (Write("malformed", MALFORMED, {}, (), {}),), answers):
            require_answer(write, code, message)


def change_of(write: Write, key: Any, item: Optional[Item]) -> Any:
    """The migration's own form of a write of an item as it was read."""
    expected = {name: value((item or {})[name]) if callable(value) else value for name, value in write.expected.items()}
    values = write.values
    if write.kind == "INSERT":
        values = {"databaseId": {"S": key[1]}, "assetId": {"S": key[2]}, **values}
    size = len(migration.to_json(values)) + len(migration.to_json(item))
    return migration.Change(write.kind, key, size, values, write.removed, expected)


def require_answer(write: Write, code: Optional[str], message: Optional[str]) -> None:
    if code not in write.answers:
        right = " or ".join(answer or "success" for answer in write.answers)
        came = "%s (%s)" % (code, message) if code else "success"
        raise Differs("%s: expected %s, came %s" % (write.kind, right, came))


def difference_of(item: Optional[Item], other: Optional[Item]) -> str:
    """What of an item is not so in another, for a message."""
    if item is None:
        return "no item"
    return migration.shown(
        {"M": {name: value for name, value in item.items() if not migration.same(value, (other or {}).get(name))}}
    )
