"""The gate of a pool: who gets a slot, that all do in the end, and that one slot is enough."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.errors import Interrupted
from selftaught.pool import NodeLost
from selftaught.pools.gate import MAX_OVERTAKEN, Gate, Ticket, Urgency

TURN, ASKED, AHEAD = Urgency.TURN, Urgency.ASKED, Urgency.AHEAD


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def granted(tickets: list[Ticket]) -> list[int]:
    return [i for i, ticket in enumerate(tickets) if ticket.granted.is_set()]


def test_turns_come_before_scores_and_scores_before_what_nobody_asked_for() -> None:
    gate = Gate(2)
    held = [gate.enter(ASKED), gate.enter(ASKED)]
    ahead, asked, turn = gate.enter(AHEAD), gate.enter(ASKED), gate.enter(TURN)
    order = []
    while waiting := [t for t in (ahead, asked, turn) if not t.granted.is_set()]:
        gate.leave(held.pop(0))
        (new,) = [t for t in waiting if t.granted.is_set()]
        order.append(new)
        held.append(new)
    assert order == [turn, asked, ahead]


def test_the_longest_expected_goes_first_and_shares_are_equal() -> None:
    clock = Clock()
    gate = Gate(1, clock)
    first = gate.enter(ASKED, share="a", expected_s=1.0)
    waiting = [
        gate.enter(ASKED, share="a", expected_s=2.0),
        gate.enter(ASKED, share="a", expected_s=3.0),
        gate.enter(ASKED, share="b", expected_s=0.5),
        gate.enter(ASKED, share="b", expected_s=0.7),
    ]
    order, held = [], first
    while len(order) < 4:
        clock.now += held.expected_s
        gate.leave(held)
        (number,) = [n for n in granted(waiting) if n not in order]
        order.append(number)
        held = waiting[number]
    # b starts level with a: the longest of all, then b's two in turn, since a has used 4 s by now.
    assert order == [1, 3, 2, 0]


def test_a_share_pays_for_the_time_it_really_took() -> None:
    clock = Clock()
    gate = Gate(1, clock)
    held = gate.enter(ASKED, share="a")
    b, a = gate.enter(ASKED, share="b"), gate.enter(ASKED, share="a")
    clock.now = 10.0
    gate.leave(held)
    assert b.granted.is_set()
    b2 = gate.enter(ASKED, share="b")
    clock.now = 12.0
    gate.leave(b)
    # 10 s against 2 s.
    assert b2.granted.is_set()
    assert not a.granted.is_set()


def test_the_last_slot_is_never_given_to_what_nobody_asked_for() -> None:
    gate = Gate(3)
    ahead = [gate.enter(AHEAD) for _ in range(5)]
    assert granted(ahead) == [0, 1]
    asked = gate.enter(ASKED)
    assert asked.granted.is_set()
    gate.promote(ahead[0])
    gate.leave(asked)
    assert granted(ahead) == [0, 1, 2]
    assert not Gate(1).enter(AHEAD).granted.is_set()


def test_a_wish_can_be_given_up() -> None:
    gate = Gate(1)
    held, waiting, last = gate.enter(ASKED), gate.enter(ASKED), gate.enter(ASKED)
    gate.leave(waiting)
    gate.leave(held)
    assert last.granted.is_set()
    gate.leave(last)
    assert gate.is_idle


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([TURN, ASKED, AHEAD]), st.sampled_from("abc"), st.integers(0, 9)
            ),
            st.integers(0, 20),
        ),
        max_size=120,
    ),
)
def test_slots_are_counted_and_none_is_left_unused(
    slots: int, steps: list[tuple[Urgency, str, int] | int]
) -> None:
    """Whatever comes and goes: never too many hold one, never a wish waits for nothing."""
    clock = Clock()
    gate = Gate(slots, clock)
    tickets: list[Ticket] = []
    for step in steps:
        clock.now += 1.0
        if isinstance(step, int):
            if tickets:
                gate.leave(tickets.pop(step % len(tickets)))
        else:
            urgency, share, expected = step
            tickets.append(gate.enter(urgency, share=share, expected_s=expected))
        held = [t for t in tickets if t.granted.is_set()]
        waiting = [t for t in tickets if not t.granted.is_set()]
        assert len(held) <= slots
        ahead = sum(t.urgency is AHEAD for t in held)
        assert ahead <= max(0, slots - 1)
        if len(held) < slots:
            assert all(t.urgency is AHEAD for t in waiting)
            assert not waiting or ahead == slots - 1
    for ticket in sorted(tickets, key=lambda t: not t.granted.is_set()):
        gate.leave(ticket)
    assert gate.is_idle


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([TURN, ASKED]), st.integers(0, 50)),
        min_size=MAX_OVERTAKEN + 4,
        max_size=MAX_OVERTAKEN + 4,
    )
)
def test_nobody_who_was_asked_for_starves(stream: list[tuple[Urgency, int]]) -> None:
    """A short score waits while more urgent and longer ones keep coming, but not for ever."""
    gate = Gate(1)
    held = gate.enter(ASKED, share="other")
    victim = gate.enter(ASKED, share="victim", expected_s=0.0)
    gate._shares["victim"].used_s = 1e9
    waiting = [gate.enter(TURN, share="other")]
    for grants, (urgency, expected) in enumerate(stream):
        waiting.append(gate.enter(urgency, share="other", expected_s=expected))
        gate.leave(held)
        if victim.granted.is_set():
            assert grants <= MAX_OVERTAKEN
            return
        (held,) = [t for t in waiting if t.granted.is_set()]
        waiting.remove(held)
    pytest.fail("the victim still waits")


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_many_threads_all_get_through(slots: int) -> None:
    gate = Gate(slots)
    inside = most = done = 0
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal inside, most, done
        for i in range(20):
            urgency = (TURN, ASKED, AHEAD if slots > 1 else ASKED)[(number + i) % 3]
            with gate.slot(urgency, share=str(number % 4), expected_s=i):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0002)
                with lock:
                    inside -= 1
                    done += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == 600
    assert most <= slots
    assert gate.is_idle


def test_who_does_not_care_gets_a_slot_where_most_are_free() -> None:
    gate = Gate(0)
    gate.open("a", 1)
    gate.open("b", 3)
    assert gate.slots == 4
    places = [gate.enter(ASKED).place for _ in range(5)]
    assert sorted(str(place) for place in places) == ["None", "a", "b", "b", "b"]
    assert places[:2] == ["b", "b"]


def test_a_bound_turn_waits_for_its_place_and_holds_up_nobody() -> None:
    gate = Gate(0)
    gate.open("a", 1)
    gate.open("b", 1)
    on_a = gate.enter(TURN, bound="a")
    waiting, other = gate.enter(TURN, bound="a"), gate.enter(ASKED)
    assert (on_a.place, waiting.place, other.place) == ("a", None, "b")
    gate.leave(other)
    assert waiting.place is None
    gate.leave(on_a)
    assert waiting.place == "a"


def test_a_full_place_takes_one_more_turn_that_is_bound_to_it() -> None:
    gate = Gate(0, over=1)
    gate.open("a", 1)
    held, more, too_many = (gate.enter(TURN, bound="a") for _ in range(3))
    unbound = gate.enter(ASKED)
    assert (held.place, more.place, too_many.place, unbound.place) == ("a", "a", None, None)
    gate.leave(held)
    assert (too_many.place, unbound.place) == ("a", None)
    gate.leave(more)
    gate.leave(too_many)
    assert unbound.place == "a"


def test_a_place_that_is_gone_takes_its_slots_and_those_bound_to_it() -> None:
    gate = Gate(0)
    gate.open("a", 1)
    held, bound, unbound = gate.enter(ASKED), gate.enter(TURN, bound="a"), gate.enter(ASKED)
    gate.shut("a")
    assert isinstance(bound.error, NodeLost)
    assert not unbound.granted.is_set()
    with pytest.raises(NodeLost), gate.slot(TURN, bound="a"):
        pass
    gate.leave(bound)
    gate.leave(held)
    assert gate.slots == 0
    gate.open("b", 1)
    assert unbound.place == "b"
    gate.leave(unbound)
    assert gate.is_idle


def test_who_waits_without_a_place_is_given_up_until_one_opens() -> None:
    gate = Gate(0)
    waiting = gate.enter(ASKED)
    gate.fail(Interrupted("stop"))
    assert isinstance(waiting.error, Interrupted)
    gate.leave(waiting)
    with pytest.raises(Interrupted), gate.slot(ASKED):
        pass
    gate.open("a", 1)
    with gate.slot(ASKED) as ticket:
        assert ticket.place == "a"
