"""How fast a partition key is written: the pace learns from what DynamoDB accepts and refuses."""

import pytest

from load_migration import migration


def lane(rate=1000.0):
    return migration.Lane("assets db01", rate, 0.0)


def test_grows_twofold_a_second_while_nothing_was_ever_refused():
    hot = lane(100.0)
    for tenth in range(1000, 1010):
        hot.accepted(hot.rate / 10, tenth / 10, tenth / 10)
    assert hot.rate == pytest.approx(200.0, rel=0.01)


def test_grows_slowly_after_a_cut_and_ever_faster():
    hot = lane(100.0)
    hot.accepted(100.0, 10.0, 10.0)
    hot.throttled(10.0, 10.0)
    rates = [hot.rate]
    for second in range(11, 21):
        hot.accepted(hot.rate, second, second)
        rates.append(hot.rate)
    growth = [later / earlier for earlier, later in zip(rates, rates[1:])]
    assert growth == sorted(growth) and growth[0] == pytest.approx(1.03) and growth[-1] == pytest.approx(2.0)


def test_a_pace_that_is_not_used_does_not_grow():
    cool = lane(1000.0)
    for second in range(100, 110):
        cool.accepted(1.0, second, second)
    assert cool.rate < 1010.0


def test_the_first_refusal_cuts_to_a_little_below_what_was_accepted_in_the_last_second():
    hot = lane()
    hot.accepted(500.0, 1.0, 1.0)
    hot.accepted(80.0, 9.5, 9.6)
    hot.throttled(9.6, 9.7)
    assert hot.rate == pytest.approx(0.95 * 80.0)
    assert hot.tokens <= 0.0


def test_what_was_under_way_at_a_cut_and_is_accepted_raises_the_pace_again():
    """The first answer may be that to a refused write; those of the many accepted ones come right after it."""
    hot = lane()
    hot.accepted(2.0, 9.6, 9.7)
    hot.throttled(9.6, 9.7)
    assert hot.rate < 2.0
    hot.accepted(88.0, 9.6, 9.8)
    assert hot.rate == pytest.approx(0.95 * 90.0)


def test_what_was_sent_after_a_cut_does_not_raise_the_pace_to_what_was_accepted_before_it():
    hot = lane()
    hot.accepted(90.0, 9.6, 9.7)
    for number in range(3):
        hot.throttled(9.7 + number / 10, 9.75 + number / 10)
    least = hot.rate
    hot.accepted(1.0, 10.0, 10.05)
    assert least < 80.0 and hot.rate == pytest.approx(least, rel=0.01)


def test_refusals_of_writes_that_were_under_way_at_a_cut_cut_no_further():
    hot = lane()
    hot.accepted(80.0, 9.6, 9.7)
    hot.throttled(9.6, 9.7)
    rate = hot.rate
    for _ in range(20):
        hot.throttled(9.65, 9.8)
    assert hot.rate == rate


def test_later_cuts_take_30_percent_at_most():
    hot = lane()
    hot.accepted(100.0, 9.6, 9.7)
    hot.throttled(9.6, 9.7)
    for second in range(11, 14):
        rate = hot.rate
        hot.throttled(second, second)
        assert 0.7 * rate <= hot.rate < rate


def test_never_below_one_unit_a_second():
    hot = lane(2.0)
    for second in range(1, 20):
        hot.throttled(second, second)
    assert hot.rate == 1.0 and hot.ready_at() < 19 + 2


@pytest.mark.parametrize("rate", [1.0, 3.0, 50.0, 1000.0])
def test_after_a_large_write_a_slow_partition_key_waits_for_seconds_only(rate):
    """What is left after many cuts says little: a write of 400 units would have it wait for minutes."""
    hot = lane(rate)
    hot.fill(10.0)
    hot.take(400.0)
    assert hot.ready_at() <= 10.0 + 1.001 * min(400.0 / rate, migration.LONGEST_PAUSE)


def test_a_cut_does_not_make_what_was_taken_before_a_wait_of_minutes():
    hot = lane(1000.0)
    hot.fill(10.0)
    hot.take(400.0)
    for tenth in range(101, 130):
        hot.throttled(tenth / 10, tenth / 10)
    hot.fill(13.0)
    assert hot.rate < 5.0 and hot.ready_at() <= 13.0 + 1.001 * migration.LONGEST_PAUSE


@pytest.mark.parametrize("units", [1.0, 400.0])
def test_what_is_given_back_is_not_more_than_was_there(units):
    hot = lane(1.0)
    hot.fill(10.0)
    tokens = hot.tokens
    hot.take(units)
    hot.give_back(units)
    assert hot.tokens == tokens


def test_a_slow_partition_key_that_takes_large_writes_is_soon_fast_again():
    """From one unit a second to the 400 that it takes at once."""
    hot, now, count = lane(1.0), 10.0, 0
    hot.cut_at = now
    while hot.rate < 400.0:
        hot.fill(now)
        if hot.tokens > 0:
            hot.take(400.0)
            hot.accepted(400.0, now, now)
            count += 1
        now = max(now + 0.001, hot.ready_at())
    assert now - 10.0 < 60.0 and count < 20


def test_waits_as_the_status_line_says_only_with_something_to_write_and_shortly_after_a_refusal():
    hot = lane()
    hot.throttled(10.0, 10.0)
    assert not hot.waits(10.1)
    hot.queue.append("write")
    assert hot.waits(10.1) and not hot.waits(10.0 + migration.STATUS_SECONDS)


def test_nothing_is_paid_out_of_a_ceiling_before_all_its_units_are_there():
    """Also a write of more units than the ceiling has in a second."""
    ceiling = migration.Ceiling(2, 100.0)
    assert not ceiling.pay(5.0, 100.0) and ceiling.short
    assert ceiling.ready_at() == pytest.approx(102.5)
    assert not ceiling.pay(5.0, 102.4)
    assert ceiling.pay(5.0, 102.5) and not ceiling.short
    assert not ceiling.pay(1.0, 102.9) and ceiling.pay(1.0, 103.0)
