"""An engine that does something else than the migration relies on fails the operator's proof, with a line that
names it; where that shows without a write, the preflight stops before anything is written."""

import json
import re

import pytest
from v22 import asset, record

from benchmarks.front import Answer, Faults, Front, statement_error
from load_migration import load_script, migration
from sample_assets import sample_shapes

script = load_script("v2.2_to_v2.3_migration_test.py")
trials = script.trials


class OtherEngine(Front):
    """DynamoDB Local, but for what a function makes of each batch of writes.
    differ(engine, statements) returns the responses; `send` has the engine do some."""

    def __init__(self, tables, differ):
        super().__init__(tables.engine.port)
        self.tables = tables
        self.differ = differ

    def _forward(self, request):
        if request.operation != "BatchExecuteStatement":
            return super()._forward(request)
        responses = self.differ(self, lambda statements: self._done(request, statements), request.payload["Statements"])
        return Answer(200, json.dumps({"Responses": responses}).encode())

    def _done(self, request, statements):
        if not statements:
            return []
        body = json.dumps({"Statements": statements}).encode()
        return super()._forward(request._replace(body=body)).payload["Responses"]

    def item(self, statement):
        """The table and key of a statement, and the item there."""
        table, key = key_of(statement)
        if {"S": ""} in key.values():
            return table, key, None
        return table, key, self.tables.client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def kind_of(statement):
    return statement["Statement"].split()[0]


def conditions_of(statement):
    """The values that a statement's WHERE clause compares with, but for the key."""
    first = statement["Statement"].partition(" WHERE ")[0].count("?")
    return statement["Parameters"][first + 2 :] if " WHERE " in statement["Statement"] else []


def key_of(statement):
    text = statement["Statement"]
    table = re.search(r'"([^"]+)"', text).group(1)
    if kind_of(statement) == "INSERT":
        values = dict(zip(re.findall(r"'([^']+)': \?", text), statement["Parameters"]))
        return table, {name: values[name] for name in key_names(values)}
    first = text.partition(" WHERE ")[0].count("?")
    names = re.findall(r'"([^"]+)" = \?', text.partition(" WHERE ")[2])[:2]
    return table, dict(zip(names, statement["Parameters"][first : first + 2]))


def key_names(values):
    return ("databaseId", "assetId") if "databaseId" in values else ("assetId", "assetVersionId")


def sets_in(value):
    if isinstance(value, list):
        return [found for inner in value for found in sets_in(inner)]
    if not isinstance(value, dict):
        return []
    own = [inner for kind, inner in value.items() if kind in ("SS", "NS", "BS") and isinstance(inner, list)]
    return own + [found for inner in value.values() for found in sets_in(inner)]


def refusing(code, judge):
    """An engine that refuses what is judged so."""

    def differ(engine, send, statements):
        done = iter(send([statement for statement in statements if not judge(engine, statement)]))
        responses = []
        for statement in statements:
            table = re.search(r'"([^"]+)"', statement["Statement"]).group(1)
            responses.append(statement_error(table, code) if judge(engine, statement) else next(done))
        return responses

    return differ


def one_by_one(do):
    """An engine that does something of its own for each statement: do(engine, send, statement) -> response."""

    def differ(engine, send, statements):
        return [do(engine, lambda statement: send([statement])[0], statement) for statement in statements]

    return differ


# --------------------------------------------------------------------------------------
# Engines that differ
# --------------------------------------------------------------------------------------

null_never_equal = refusing(
    "ConditionalCheckFailed", lambda engine, statement: {"NULL": True} in conditions_of(statement)
)
null_never_equal_in_deletes = refusing(
    "ConditionalCheckFailed",
    lambda engine, statement: kind_of(statement) == "DELETE" and {"NULL": True} in conditions_of(statement),
)
sets_compared_in_order = refusing(
    "ConditionalCheckFailed",
    lambda engine, statement: any(found != sorted(found) for found in sets_in(conditions_of(statement))),
)
is_missing_refused = refusing("ValidationError", lambda engine, statement: " IS MISSING" in statement["Statement"])


@one_by_one
def is_missing_holds_for_null(engine, send, statement):
    """Of what is NULL it takes the condition away."""
    _, _, item = (
        engine.item(statement)
        if kind_of(statement) == "UPDATE" and "SETS" not in statement["Statement"]
        else (0, 0, {})
    )
    text = statement["Statement"]
    for name, value in (item or {}).items():
        if value == {"NULL": True}:
            text = text.replace(' AND "%s" IS MISSING' % name, "")
    return send({**statement, "Statement": text})


def kept_conditions(statement, keep):
    """A statement with those of its conditions, beside the key, for which keep(number, value) is true; the value is
    None where an attribute is to be MISSING."""
    text, where, conditions = statement["Statement"].partition(" WHERE ")
    if not where:
        return statement
    first = text.count("?")
    values = iter(statement["Parameters"][first:])
    kept, parameters = [], statement["Parameters"][:first]
    for number, test in enumerate(conditions.split(" AND "), -2):
        value = next(values) if test.endswith(" = ?") else None
        if number < 0 or keep(number, value):
            kept.append(test)
            parameters += [value] if value is not None else []
    return {"Statement": text + where + " AND ".join(kept), "Parameters": parameters}


def ignoring(ignored):
    """An engine that does not look at some conditions on items that there are: those of which ignored(kind, value) is
    true, for the kind of statement and the value wanted."""

    @one_by_one
    def differ(engine, send, statement):
        kind = kind_of(statement)
        if kind != "INSERT" and engine.item(statement)[2] is not None:
            statement = kept_conditions(statement, lambda number, value: not ignored(kind, value))
        return send(statement)

    return differ


conditions_ignored = ignoring(lambda kind, value: True)
conditions_of_updates_ignored = ignoring(lambda kind, value: kind == "UPDATE")
conditions_of_deletes_ignored = ignoring(lambda kind, value: kind == "DELETE")
conditions_on_lists_and_maps_ignored = ignoring(lambda kind, value: set(value or ()) & {"L", "M"})
conditions_of_deletes_on_lists_ignored = ignoring(lambda kind, value: kind == "DELETE" and "L" in (value or ()))
is_missing_ignored = ignoring(lambda kind, value: value is None)
is_missing_of_deletes_ignored = ignoring(lambda kind, value: kind == "DELETE" and value is None)


@one_by_one
def only_the_first_condition_counts(engine, send, statement):
    return send(kept_conditions(statement, lambda number, value: number == 0))


@one_by_one
def only_the_last_comparison_counts(engine, send, statement):
    """Comparisons come before IS MISSING."""
    last = len(conditions_of(statement)) - 1
    return send(kept_conditions(statement, lambda number, value: number == max(0, last)))


def writing_otherwise(otherwise):
    """An engine whose UPDATEs set something else: otherwise(value), None to leave an attribute out."""

    @one_by_one
    def differ(engine, send, statement):
        text = statement["Statement"]
        if kind_of(statement) != "UPDATE" or "SETS" in text:
            return send(statement)
        head, where, conditions = text.partition(" WHERE ")
        first = head.count("?")
        sets = re.findall(r' SET "[^"]+" = \?', head)
        values = [otherwise(value) for value in statement["Parameters"][:first]]
        for clause, value in zip(sets, values):
            head = head if value is not None else head.replace(clause, "")
        if " SET " not in head and " REMOVE " not in head:
            head += ' REMOVE "no-such-attribute"'
        kept = [value for value in values if value is not None]
        return send({"Statement": head + where + conditions, "Parameters": kept + statement["Parameters"][first:]})

    return differ


nulls_not_written = writing_otherwise(lambda value: None if value == {"NULL": True} else value)
empty_texts_not_written = writing_otherwise(lambda value: None if value == {"S": ""} else value)
binary_written_as_text = writing_otherwise(lambda value: {"S": value["B"]} if "B" in value else value)
sets_written_as_lists = writing_otherwise(
    lambda value: {"L": [{"S": text} for text in value["SS"]]} if "SS" in value else value
)
empty_maps_written_as_null = writing_otherwise(lambda value: {"NULL": True} if value == {"M": {}} else value)


@one_by_one
def null_equals_missing(engine, send, statement):
    """Of what is not there it takes the condition away."""
    if kind_of(statement) == "INSERT" or "SETS" in statement["Statement"]:
        return send(statement)
    item = engine.item(statement)[2]
    names = re.findall(r'"([^"]+)" = \?', statement["Statement"].partition(" WHERE ")[2])[2:]
    nulls = [
        number
        for number, (name, value) in enumerate(zip(names, conditions_of(statement)))
        if item and name not in item and value == {"NULL": True}
    ]
    return send(kept_conditions(statement, lambda number, value: number not in nulls))


@one_by_one
def nothing_removed(engine, send, statement):
    """By an UPDATE that sets something, too."""
    text = statement["Statement"]
    return send({**statement, "Statement": re.sub(' REMOVE "[^"]+"', "", text) if " SET " in text else text})


@one_by_one
def others_removed_by_update(engine, send, statement):
    """As if the item had been put."""
    if kind_of(statement) != "UPDATE" or "SETS" in statement["Statement"]:
        return send(statement)
    table, _, before = engine.item(statement)
    answer = send(statement)
    if "Error" not in answer:
        after = engine.item(statement)[2]
        kept = {name: value for name, value in after.items() if name.endswith("Id") or value != before.get(name)}
        engine.tables.client.put_item(TableName=table, Item=kept)
    return answer


@one_by_one
def conditional_deletes_not_done(engine, send, statement):
    """Those without a condition are, for the items of the test are removed by them."""
    if kind_of(statement) != "DELETE" or not conditions_of(statement):
        return send(statement)
    table, _, before = engine.item(statement)
    answer = send(statement)
    if "Error" not in answer and before:
        engine.tables.client.put_item(TableName=table, Item=before)
    return answer


@one_by_one
def same_item_inserted_again(engine, send, statement):
    answer = send(statement)
    if answer.get("Error", {}).get("Code") == "DuplicateItem":
        table, _, item = engine.item(statement)
        if sorted(map(str, item.values())) == sorted(map(str, statement["Parameters"])):
            return {"TableName": table}
    return answer


@one_by_one
def inserts_not_done(engine, send, statement):
    answer = send(statement)
    if kind_of(statement) == "INSERT" and "Error" not in answer:
        table, key, _ = engine.item(statement)
        engine.tables.client.delete_item(TableName=table, Key=key)
    return answer


@one_by_one
def conditional_update_creates(engine, send, statement):
    """Of an item that does not exist, if its conditions hold for one without attributes."""
    answer = send(statement)
    if kind_of(statement) == "UPDATE" and " IS MISSING" in statement["Statement"] and not conditions_of(statement):
        table, key, item = engine.item(statement)
        if item is None:
            engine.tables.client.put_item(TableName=table, Item=key)
            return {"TableName": table}
    return answer


@one_by_one
def deletes_of_absent_items_invalid(engine, send, statement):
    if kind_of(statement) == "DELETE" and engine.item(statement)[2] is None:
        return statement_error(engine.item(statement)[0], "ValidationError")
    return send(statement)


def unknown_codes(engine, send, statements):
    """What an API that has grown may answer."""
    return [
        {**answer, "Error": {**answer["Error"], "Code": "SomethingNew"}} if "Error" in answer else answer
        for answer in send(statements)
    ]


def old_items_in_answers(engine, send, statements):
    """As with ReturnValuesOnConditionCheckFailure; they are of no use."""
    items = [engine.item(statement)[2] for statement in statements]
    answers = send(statements)
    for answer, item in zip(answers, items):
        if item:
            answer.get("Error", answer)["Item"] = item
    return answers


@one_by_one
def refused_and_yet_done(engine, send, statement):
    answer = send(statement)
    if answer.get("Error", {}).get("Code") == "ConditionalCheckFailed" and kind_of(statement) == "UPDATE":
        table, key, item = engine.item(statement)
        if item:
            engine.tables.client.put_item(TableName=table, Item={**item, "written": {"S": "nevertheless"}})
    return answer


@one_by_one
def insert_overwrites(engine, send, statement):
    answer = send(statement)
    if answer.get("Error", {}).get("Code") == "DuplicateItem":
        table, key, _ = engine.item(statement)
        engine.tables.client.delete_item(TableName=table, Key=key)
        return send(statement)
    return answer


@one_by_one
def update_creates(engine, send, statement):
    """Of an item that does not exist."""
    answer = send(statement)
    if kind_of(statement) == "UPDATE" and "Error" in answer and "SETS" not in statement["Statement"]:
        table, key, item = engine.item(statement)
        if item is None:
            engine.tables.client.put_item(TableName=table, Item=key)
            return {"TableName": table}
    return answer


def answers_out_of_order(engine, send, statements):
    return send(statements)[::-1]


def answers_out_of_order_where_one_is_malformed(engine, send, statements):
    order = -1 if any("SETS" in statement["Statement"] for statement in statements) else 1
    return send(statements)[::order]


@one_by_one
def numbers_rounded(engine, send, statement):
    rounded = [{"N": "%.15e" % float(value["N"])} if "N" in value else value for value in statement["Parameters"]]
    return send({**statement, "Parameters": rounded})


@one_by_one
def delete_of_an_absent_item_refused(engine, send, statement):
    if kind_of(statement) == "DELETE":
        table, key, item = engine.item(statement)
        if item is None:
            return statement_error(table, "ConditionalCheckFailed")
    return send(statement)


@one_by_one
def large_items_refused(engine, send, statement):
    return statement_error("t", "ValidationError") if len(json.dumps(statement)) > 3000000 else send(statement)


# What the lines of the trials that each engine fails have in common, and whether the preflight sees it too.
DONE_INSTEAD = ": expected ConditionalCheckFailed, came success"
ANY_ONE = "no UPDATE and no DELETE while any one condition of several does not hold: UPDATE" + DONE_INSTEAD
OTHERS = {
    "null_never_equal": (
        null_never_equal,
        ["UPDATE and DELETE only while a null (NULL) is as it was read: UPDATE: expected success, came Conditional"],
        False,
    ),
    "null_never_equal_in_deletes": (
        null_never_equal_in_deletes,
        ["only while a null (NULL) is as it was read: DELETE: expected success, came Conditional"],
        False,
    ),
    "sets_compared_in_order": (
        sets_compared_in_order,
        ["a set of text (SS) is as it was read, in whichever order: UPDATE: expected success, came Conditional"],
        False,
    ),
    "is_missing_refused": (
        is_missing_refused,
        ["an attribute IS MISSING: UPDATE: expected success, came ValidationError"],
        True,
    ),
    "is_missing_holds_for_null": (
        is_missing_holds_for_null,
        ["no UPDATE while an attribute is null that is to be MISSING: UPDATE: expected ConditionalCheckFailed, came"],
        False,
    ),
    "conditions_ignored": (
        conditions_ignored,
        [
            "UPDATE and DELETE only while a text (S) is as it was read: UPDATE" + DONE_INSTEAD,
            "no DELETE while an attribute is not as given: DELETE" + DONE_INSTEAD,
            ANY_ONE,
        ],
        True,
    ),
    "conditions_of_updates_ignored": (conditions_of_updates_ignored, [ANY_ONE], True),
    "conditions_of_deletes_ignored": (
        conditions_of_deletes_ignored,
        ["only while a boolean (BOOL) is as it was read: DELETE" + DONE_INSTEAD],
        False,
    ),
    "conditions_on_lists_and_maps_ignored": (
        conditions_on_lists_and_maps_ignored,
        [
            "only while a list (L) is as it was read: UPDATE" + DONE_INSTEAD,
            "only while an empty map is as it was read: UPDATE" + DONE_INSTEAD,
        ],
        False,
    ),
    "conditions_of_deletes_on_lists_ignored": (
        conditions_of_deletes_on_lists_ignored,
        ["only while a list (L) is as it was read: DELETE" + DONE_INSTEAD],
        False,
    ),
    "is_missing_ignored": (
        is_missing_ignored,
        ["no UPDATE while an attribute is there that is to be MISSING: UPDATE" + DONE_INSTEAD],
        False,
    ),
    "is_missing_of_deletes_ignored": (
        is_missing_of_deletes_ignored,
        ["no DELETE while an attribute is there that is to be MISSING: DELETE" + DONE_INSTEAD],
        False,
    ),
    "only_the_first_condition_counts": (only_the_first_condition_counts, [ANY_ONE], False),
    "only_the_last_comparison_counts": (only_the_last_comparison_counts, [ANY_ONE], False),
    "nulls_not_written": (
        nulls_not_written,
        ['a null (NULL) is as it was read: UPDATE: expected {"M":{"written":{"NULL":true}}}, came {"M":{}}'],
        False,
    ),
    "empty_texts_not_written": (empty_texts_not_written, ["an empty text is as it was read: UPDATE: expected"], False),
    "binary_written_as_text": (binary_written_as_text, ["a binary (B) is as it was read: UPDATE: expected"], False),
    "sets_written_as_lists": (sets_written_as_lists, ["set of text (SS) is as it was read: UPDATE: expected"], False),
    "empty_maps_written_as_null": (
        empty_maps_written_as_null,
        ["an empty map is as it was read: UPDATE: expected"],
        False,
    ),
    "null_equals_missing": (
        null_equals_missing,
        ["no UPDATE while an attribute is MISSING that is to be null: UPDATE" + DONE_INSTEAD],
        True,
    ),
    "nothing_removed": (nothing_removed, ["UPDATE sets, removes and leaves alone at once: UPDATE: expected"], False),
    "others_removed_by_update": (
        others_removed_by_update,
        ["UPDATE sets, removes and leaves alone at once: UPDATE: expected", '"kept"'],
        False,
    ),
    "conditional_deletes_not_done": (
        conditional_deletes_not_done,
        ["  error    DELETE: DELETE: expected no item, came"],
        False,
    ),
    "same_item_inserted_again": (
        same_item_inserted_again,
        ["no second INSERT of the same: INSERT: expected DuplicateItem, came success"],
        False,
    ),
    "inserts_not_done": (inserts_not_done, ["INSERT: INSERT: expected", "came no item"], False),
    "conditional_update_creates": (
        conditional_update_creates,
        ["no UPDATE of an absent item whose attribute IS MISSING: UPDATE" + DONE_INSTEAD],
        False,
    ),
    "deletes_of_absent_items_invalid": (
        deletes_of_absent_items_invalid,
        ["DELETE of an item that is absent: DELETE: expected success or ConditionalCheckFailed, came ValidationError"],
        True,
    ),
    "unknown_codes": (unknown_codes, ["expected ConditionalCheckFailed, came SomethingNew"], True),
    "refused_and_yet_done": (
        refused_and_yet_done,
        ["UPDATE and DELETE only while a text (S) is as it was read: UPDATE: expected", "nevertheless"],
        False,
    ),
    "insert_overwrites": (
        insert_overwrites,
        ["no INSERT over an item: INSERT: expected DuplicateItem, came success"],
        False,
    ),
    "update_creates": (
        update_creates,
        [
            "no UPDATE of an item that is absent: UPDATE" + DONE_INSTEAD,
            "no UPDATE of an absent item with a condition: UPDATE" + DONE_INSTEAD,
        ],
        True,
    ),
    "answers_out_of_order": (answers_out_of_order, ["four answers in order: "], True),
    "answers_out_of_order_where_one_is_malformed": (
        answers_out_of_order_where_one_is_malformed,
        ["four answers in order: INSERT: expected success, came ValidationError"],
        False,
    ),
    "numbers_rounded": (
        numbers_rounded,
        ["a number (N) is as it was read: INSERT: expected", "12345678901234567890123456789012345678"],
        False,
    ),
    "large_items_refused": (
        large_items_refused,
        ["UPDATE of an item of nearly 400 KB, in a request of 5 MB: UPDATE: expected success, came"],
        False,
    ),
}


@pytest.fixture
def used_tables(tables, any_pace):
    tables.load(item for name, item in sample_shapes())
    tables.put_records(record("b"))
    return tables


def prove(tables, front, *flags):
    return script.main([*tables.flags, "--endpoint-url", front.endpoint_url, *flags])


@pytest.mark.parametrize("differ, lines, seen", OTHERS.values(), ids=list(OTHERS))
def test_an_engine_that_differs(used_tables, capsys, monkeypatch, differ, lines, seen):
    before = used_tables.contents()
    with monkeypatch.context() as patch:
        patch.setattr(migration, "check_writes", lambda database: [])  # its turn comes below
        if differ is not large_items_refused:  # 5 MB cost a second
            patch.setattr(trials, "TRIALS", [trial for trial in trials.TRIALS if "400 KB" not in trial.name])
        with OtherEngine(used_tables, differ) as front:
            assert prove(used_tables, front) == 1
    output = capsys.readouterr()
    errors = [line for line in output.out.splitlines() if line.startswith("  error ")]
    for line in lines:
        assert [error for error in errors if line in error], output.out
    assert "PASSED" not in output.out and "Creating" not in output.out and "FAILED" in output.err
    assert used_tables.contents() == before


@pytest.mark.parametrize("name", [name for name, other in OTHERS.items() if other[2]])
@pytest.mark.parametrize("run", [script.main, migration.main], ids=["proof", "migration"])
def test_the_preflight_sees_it_before_anything_is_changed(used_tables, capsys, run, name):
    before = used_tables.contents()
    with OtherEngine(used_tables, OTHERS[name][0]) as front:
        assert run([*used_tables.flags, "--endpoint-url", front.endpoint_url]) == migration.EXIT_PREFLIGHT
    assert re.search("(that does not exist|whose condition does not hold) .*: expected", capsys.readouterr().err)
    made = [key for now, then in zip(used_tables.contents(), before) for key in now if key not in then]
    assert all(key[0].startswith(migration.PROBE_KEY) for key in made)  # by an engine that makes items of updates
    assert all(now[key] == then[key] for now, then in zip(used_tables.contents(), before) for key in then)


def test_a_delete_of_an_absent_item_may_be_answered_either_way(used_tables, capsys):
    """DynamoDB Local answers with success, as AWS documents it."""
    before = used_tables.contents()
    with OtherEngine(used_tables, delete_of_an_absent_item_refused) as front:
        assert prove(used_tables, front) == 0
    assert "PASSED" in capsys.readouterr().out
    assert used_tables.contents() == before


def test_a_migration_and_its_rollback_with_deletes_of_absent_items_refused(tables):
    """The code is right for both answers."""
    rollback = script.rollback
    tables.put(asset("a"), asset("b"))
    before = tables.contents()
    with OtherEngine(tables, delete_of_an_absent_item_refused) as front:
        run = tables.migrate("--endpoint-url", front.endpoint_url)
        assert run.status == 0
        tables.client.delete_item(TableName=tables.versions, Key={"assetId": {"S": "a"}, "assetVersionId": {"S": "3"}})
        flags = [*tables.flags, "--yes", "--endpoint-url", front.endpoint_url, "--journal", str(run.journal)]
        assert rollback.main(flags) == 0
    assert tables.contents() == before


def test_items_in_answers_do_not_disturb(used_tables, capsys):
    with OtherEngine(used_tables, old_items_in_answers) as front:
        assert prove(used_tables, front) == 0
    assert "PASSED" in capsys.readouterr().out


class StaleReads(Front):
    """A query is answered as the same one was the last time."""

    def __init__(self, engine_port):
        super().__init__(engine_port)
        self.answers = {}

    def _forward(self, request):
        answer = super()._forward(request)
        if request.operation != "Query":
            return answer
        last = self.answers.get(request.body, answer)
        self.answers[request.body] = answer
        return last


def test_reads_that_are_not_consistent(used_tables, capsys):
    before = used_tables.contents()
    with StaleReads(used_tables.engine.port) as front:
        assert prove(used_tables, front) == 1
    output = capsys.readouterr()
    assert re.search(r"^  error +UPDATE while an attribute IS MISSING: UPDATE: expected", output.out, re.M)
    assert "PASSED" not in output.out and used_tables.contents() == before


def test_fewer_answers_than_writes(used_tables, capsys, monkeypatch):
    """Nobody knows whose answer is missing: nothing counts as done."""
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(migration.time, "sleep", lambda seconds: None)  # between the tries of the preflight
    before = used_tables.contents()
    fewer = OtherEngine(used_tables, lambda engine, send, statements: send(statements)[1:])
    with fewer as front:
        assert prove(used_tables, front) == 1
    output = capsys.readouterr()
    assert "writes could not be tried, DynamoDB did not serve them: a garbled answer" in output.out
    assert "not answered" in output.err and "garbled" in output.err
    left = re.search(r"--cleanup (\S+)", output.out).group(1)
    assert script.main([*used_tables.flags, "--cleanup", left]) == 0
    assert used_tables.contents() == before


@pytest.fixture
def only_trials(monkeypatch):
    """The proof comes to its trials only."""
    monkeypatch.setattr(script.Proof, "steps", lambda proof: [("Trying", proof.try_all)])


@pytest.mark.parametrize("answer", ["ThrottlingError", "InternalServerError", "lost"])
def test_a_batch_that_is_not_served_is_tried_again(tables, only_trials, capsys, answer):
    times = []

    def differ(engine, send, statements):
        if not any("SETS" in statement["Statement"] for statement in statements) or len(times) == 2:
            return send(statements)
        times.append(1)
        return [] if answer == "lost" else [statement_error("t", answer) for _ in statements]

    with OtherEngine(tables, differ) as front:
        assert prove(tables, front) == 0, capsys.readouterr().out
    assert "error" not in capsys.readouterr().out and len(times) == 2


@pytest.mark.parametrize("name, holds", [("absent", True), ("assetName", False), ("executionId", False)])
def test_what_could_take_the_place_of_is_missing(tables, name, holds):
    """Should DynamoDB not take IS MISSING as it does now: see `where_text`."""
    tables.put(asset("a"))
    assert tables.asset("db01", "a")["executionId"] == {"NULL": True}
    text = 'UPDATE "%s" SET "written" = ? WHERE "databaseId" = ? AND "assetId" = ? AND attribute_not_exists("%s")'
    statement = {"Statement": text % (tables.assets, name), "Parameters": [{"S": "x"}, {"S": "db01"}, {"S": "a"}]}
    (answer,) = tables.client.batch_execute_statement(Statements=[statement])["Responses"]
    assert answer.get("Error", {}).get("Code") == (None if holds else "ConditionalCheckFailed")


def test_it_leaves_no_trial_untried(tables, only_trials, capsys):
    assert script.main(tables.flags) == 0
    lines = [line for line in capsys.readouterr().out.split("Trying")[1].splitlines() if line.startswith("  ok ")]
    assert [line.split(None, 1)[1] for line in lines] == [trial.name for trial in trials.TRIALS] + [trials.BATCH]
    assert len({trial.name for trial in trials.TRIALS}) == len(trials.TRIALS)


def test_the_values_that_are_tried_are_of_every_type():
    kinds = {kind for _, value, _ in trials.VALUES for kind in value}
    assert kinds == {"S", "N", "BOOL", "NULL", "B", "SS", "NS", "BS", "M", "L"}
    assert all(not migration.same(value, other) for _, value, other in trials.VALUES)


@pytest.mark.parametrize("fault", ["answer_lost", "statement_internal_done"])
def test_faults_do_not_look_like_differences(used_tables, capsys, fault):
    before = used_tables.contents()
    operations = ("Query", "BatchGetItem", "BatchExecuteStatement")
    with Front(used_tables.engine.port, faults=Faults(operations=operations, **{fault: 0.1}), seed=1) as front:
        assert prove(used_tables, front) == 0, capsys.readouterr().out
    assert used_tables.contents() == before
