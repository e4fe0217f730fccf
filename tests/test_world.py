"""Small worlds of both applications and the tool (tests/world.py): some that failed once, and some drawn."""

import pytest
from v22 import DELETED
from world import (
    ANSWER_LOST,
    CTRL_C,
    KILLED,
    KILLED_AFTER,
    REQUEST_LOST,
    Archive,
    Create,
    Delete,
    Edit,
    Migrate,
    NewVersion,
    RollBack,
    live_through,
    live_through_drawn,
    stage,
)

ARCHIVE1, ARCHIVE2 = "db01" + DELETED, "db02" + DELETED


@pytest.fixture(scope="module")
def the_stage(engine):
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in engine.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        with stage(engine, monkeypatch) as made:
            yield made


def only(database_id, **options):
    return Migrate(("--database-id", database_id), **options)


FOUND = {
    "an archived one beside a live one that is not migrated": [
        Create("db01"), Create(ARCHIVE1), only(ARCHIVE1),
    ],
    "an archived one whose record is another database's": [
        Create("db01", "2"), Create(ARCHIVE1), Create("db02"), Migrate(),
    ],
    "an archived one whose record is not current for another's sake": [
        Create("db02", "2"), Create(ARCHIVE1), Create(ARCHIVE2), Migrate(),
    ],
    "two dates": [
        Create("db01", "1", 1), Create("db02"), Migrate(), RollBack(),
    ],
    "two dates, one of an archived asset": [
        Create(ARCHIVE2), Create("db01", "1", 1), Migrate(), RollBack(),
    ],
    "a rollback that is cut off": [
        Create("db02"), Create("db01"), Migrate(), RollBack(events=((3, KILLED),)),
    ],
    "damage of an archived one's record": [
        Create("db01", "1"), Create(ARCHIVE1), Migrate(), only(ARCHIVE1, damage=36),
    ],
    "a record that v2.3 made not current": [
        Create("db02"), Create(ARCHIVE2), Migrate(), NewVersion("db02", v23=True), RollBack(),
    ],
    "the record of an archived twin that a third needs": [
        Create("db01"), Create("db02", "1", 2), Create(ARCHIVE2), Migrate(),
    ],
    "the record of another's archived twin": [
        Create("db02"), Create(ARCHIVE2), Create("db01", "1", 3), Migrate(),
    ],
    "an archived third": [
        Create(ARCHIVE2, "1", 3), Create("db02"), Create(ARCHIVE1), only(ARCHIVE2), only(ARCHIVE1), only("db02"),
    ],
    "a record that is withdrawn while another relies on it": [
        Create("db02"), Create(ARCHIVE1), Migrate(events=((1, NewVersion("db02", 3)),)),
    ],
    "a part of the way back": [
        Create(ARCHIVE1), Create("db02"), only(ARCHIVE1), Migrate(), RollBack(frozenset([0])), RollBack(),
    ],
    "a part of the way back, and an exchange": [
        Create("db02", "2", 3), Create(ARCHIVE2, "2"), Migrate(), Create(ARCHIVE1, "2", 2), Migrate(),
        RollBack(frozenset([0])),
    ],
    "v2.3 makes a version in the middle of a run": [
        Create("db02"), Create(ARCHIVE2), Migrate(events=((1, NewVersion("db02", v23=True)),)),
    ],
    "v2.3 makes a version of one that shares a record": [
        Create("db02"), Create("db01"), Create(ARCHIVE2), only(ARCHIVE2), only("db01"), NewVersion("db01", v23=True),
        Migrate(),
    ],
    "a record of v2.3 that an archived asset keeps": [
        Create("db01", v23=True), Create(ARCHIVE2), Migrate(), Create("db02"), Delete("db01"), Migrate(),
    ],
    "one content in three places": [
        Create("db02"), Create("db01"), Create(ARCHIVE2), Migrate(), RollBack(),
    ],
    "archived over an older one": [
        Create("db01"), Create(ARCHIVE1, "1", 2), Migrate(), Archive("db01"), RollBack(),
    ],
    "archived over an older one whose record it had": [
        Create(ARCHIVE2), Create("db02", "1", 1), Migrate(), Archive("db02"), RollBack(),
    ],
    "archived over an older one whose record it had, and another one of v2.2 in its place": [
        Create(ARCHIVE2, "2"), Create("db02", "2", 1), Migrate(), Archive("db02"), Create("db02"), RollBack(),
    ],
    "archived, and made anew": [
        Create("db01"), Migrate(), Archive("db01"), Create("db01", v23=True), RollBack(),
    ],
    "archived between two migrations, the first of which was taken back": [
        Create("db01"), Migrate(), RollBack(), Archive("db01"), Migrate(), RollBack(),
    ],
    "deleted between two migrations, the first of which was taken back": [
        Create("db01"), Create(ARCHIVE1, "1", 2), Migrate(), RollBack(), Delete("db01"), Migrate(), RollBack(),
    ],
    "archived over one that was the same before": [
        Create("db01"), Create(ARCHIVE1), Migrate(), Archive("db01"), RollBack(),
    ],
    "archived over an older one in the middle of a rollback": [
        Create("db01", v23=True), Create(ARCHIVE1, "1", 1), Migrate(), RollBack(events=((2, Archive("db01")),)),
    ],
    "archived, and made anew in the middle of a run": [
        Create(ARCHIVE1), Create("db02", "1", 1),
        Migrate(events=((2, Archive("db02")), (3, Create("db02", v23=True)))), Migrate(), RollBack(),
    ],
    "killed after the record of an archived asset whose live one is of v2.3, and older": [
        Create("db01", v23=True), Create(ARCHIVE1, "2"), Migrate(events=((2, KILLED_AFTER),)), RollBack(), Migrate(),
    ],
    "a lost answer": [
        Create("db01"), Create(ARCHIVE2), Migrate(events=((1, ANSWER_LOST),)), RollBack(),
    ],
    "a lost request, then a lost answer": [
        Create("db02"), Create("db01"), Migrate(events=((1, REQUEST_LOST), (2, ANSWER_LOST))), RollBack(),
    ],
    "a record of v2.3 that an archived asset kept, whose live twin has another version": [
        Create("db02", "2"), Create(ARCHIVE2), Create("db01", v23=True), Delete("db01"), Migrate(), RollBack(),
    ],
    "killed after the record, edited, run again": [
        Create("db01", "1", 3), Migrate(events=((1, KILLED_AFTER),)), Edit("db01"), RollBack(), Migrate(), RollBack(),
    ],
    "deleted while Ctrl-C stops it": [
        Create("db01"), Create("db02"), Migrate((), 1, ((1, CTRL_C),)), Delete("db01"), Migrate(), RollBack(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_a_world(the_stage, name):
    live_through(the_stage, FOUND[name])


@pytest.mark.parametrize("number", range(4))
def test_drawn_worlds(the_stage, number):
    live_through_drawn(the_stage, number, 10)  # the soak lives through thousands
