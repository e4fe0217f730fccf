"""--repair: what the v2.3 application would refuse and the migration does not own is set right, and taken back."""

import pytest
from test_shared_ids import roll_back, run, verify
from v22 import NULL, M, S, asset, changed, migrated, record

TRUE, FALSE = {"BOOL": True}, {"BOOL": False}


@pytest.mark.parametrize(
    "name, before, after",
    [
        ("isDistributable", M(label="No", value=FALSE), FALSE),
        ("isDistributable", M(label="Yes", value=TRUE), TRUE),
        ("isDistributable", S("True"), TRUE),
        ("isDistributable", S("False"), FALSE),
        ("assetName", None, S("a")),
        ("assetName", NULL, S("a")),
        ("description", None, S("")),
        ("description", NULL, S("")),
    ],
)
@pytest.mark.parametrize("first_without", [True, False])
def test_it_is_set_right_reported_verified_and_taken_back(tables, name, before, after, first_without):
    old = asset("a", **{name: before})
    tables.put(old)
    runs = [tables.migrate()] if first_without else []
    between = tables.contents()
    dry = tables.migrate("--dry-run", "--repair")
    assert tables.contents() == between and "repaired" in dry.codes
    done = tables.migrate("--repair")
    assert (done.status, [(row["code"], row["field"]) for row in done.rows]) == (0, [("repaired", name)])
    assert tables.asset("db01", "a") == migrated("a", **{name: after})
    assert tables.record("a", "3") == record("a")
    assert run(tables, verify, *runs, done).status == 0
    assert tables.migrate("--repair").summary["writes"] == 0
    assert roll_back(tables, done).status == 0
    assert tables.contents() == between
    assert roll_back(tables, done).summary["writes"] == 0


@pytest.mark.parametrize("value", [M(label="No"), M(value="No"), S("no"), {"N": "1"}, NULL])
def test_what_is_not_clear_is_left_alone(tables, value):
    tables.put(asset("a", isDistributable=value))
    done = tables.migrate("--repair")
    assert done.codes == {"is_distributable_not_boolean"}
    assert tables.asset("db01", "a") == migrated("a", isDistributable=value)


def test_without_the_flag_nothing_of_it_is_touched(tables):
    tables.put(asset("a", assetName=None, isDistributable=S("True")))
    assert tables.migrate().codes == {"is_distributable_not_boolean", "name_or_description_missing"}
    assert tables.asset("db01", "a") == migrated("a", assetName=None, isDistributable=S("True"))


def test_what_a_user_made_of_it_since_stays(tables):
    tables.put(asset("a", assetName=None))
    done = tables.migrate("--repair")
    tables.put(migrated("a", assetName="By a user"))
    undone = roll_back(tables, done)
    assert (undone.status, [row["outcome"] for row in undone.rows]) == (1, ["changed_since"])
    assert tables.asset("db01", "a") == migrated("a", assetName="By a user")


@pytest.mark.parametrize("edited", [{"assetName": "By a user"}, {"assetName": "By a user", "isDistributable": FALSE}])
def test_a_user_who_edits_what_a_later_run_repaired_does_not_hold_up_the_way_back(tables, edited):
    old = asset("a", assetName=None, isDistributable=S("True"))
    tables.put(old)
    runs = [tables.migrate(), tables.migrate("--repair")]
    tables.put(changed(tables.asset("db01", "a"), edited))
    for writes in (True, False):
        undone = roll_back(tables, *runs)
        assert (undone.status, undone.rows, undone.summary["writes"] > 0) == (0, [], writes)
        assert tables.contents() == ({("db01", "a"): changed(old, edited)}, {})


def test_an_asset_that_users_went_on_from_keeps_its_repairs(tables):
    tables.put(asset("a", assetName=None))
    runs = [tables.migrate(), tables.migrate("--repair")]
    tables.put(changed(tables.asset("db01", "a"), {"currentVersionId": "4"}))
    before = tables.contents()
    assert roll_back(tables, *runs).status == 1 and tables.contents() == before


def test_another_asset_made_in_the_place_of_a_repaired_one_is_left_alone(tables):
    """By v2.3, with the same version number, and what the application would refuse set as the repair had set it."""
    tables.put(asset("a", isDistributable=S("True"), description=None))
    runs = [tables.migrate(), tables.migrate("--repair")]
    tables.put(migrated("a", assetName="Another", description=S("Its own"), isDistributable=TRUE))
    tables.put_records(record("a", comment="new", createdBy="ann"))
    before = tables.contents()
    for given in (runs[1:], runs):
        assert roll_back(tables, *given).status == 1 and tables.contents() == before
