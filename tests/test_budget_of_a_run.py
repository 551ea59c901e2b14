"""The account of a run: what may be spent is set aside before a call, and never exceeded."""

import contextvars
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.budget import RunAccount, RunLimits, Spending
from selftaught.errors import Interrupted, ModelUnreachable, RequestRejected, RunBudgetSpent
from selftaught.events import Answered, Unanswered, kind
from selftaught.language_model import Answer, ModelSettings, Request, Usage
from selftaught.models.broker import Broker
from selftaught.models.hosted import Waiting
from selftaught.models.lost import note_lost_request, note_refused_request, note_request
from selftaught.models.openai_compatible import OpenAICompatibleModel
from selftaught.models.prices import flat
from selftaught.models.side_by_side import side_by_side
from selftaught.models.tariff import MESSAGE_OVERHEAD_TOKENS, Tariff
from selftaught.testing import Fault, LoopbackServer

THREADS = 64


class Notes:
    """A journal in memory."""

    run = "r-1"

    def __init__(self) -> None:
        self.events = []
        self._lock = threading.Lock()

    def recorded_answer(self, job, content_hash, occurrence, n_responses):
        return None

    def recorded_rejection(self, job, content_hash, occurrence, n_responses):
        return None

    def record(self, event, texts=()):
        with self._lock:
            self.events.append(event)


class Spendthrift:
    """Uses up to all that it may, at its own price; some of its requests fail and are billed."""

    name = "spendthrift"
    is_language_model = True

    def __init__(self, price, cap, *, at_cap, trouble, seed, latency_s):
        self.price, self.cap, self.at_cap, self.trouble = price, cap, at_cap, trouble
        self.latency_s = latency_s
        self.tokens, self.dollars, self.most_at_once = 0, 0.0, 0
        self._at_once = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def respond(self, request, *, seed, occurrence, key):
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self._respond(request)
        finally:
            with self._lock:
                self._at_once -= 1

    def _respond(self, request):
        for attempt in range(4):
            usage = self._bill(request)
            with self._lock:
                dice = self._random.random()
            if dice > self.trouble:
                texts = ("",) * request.n_responses
                return Answer(texts=texts, usage=usage, attempts=1 + attempt)
            # In a thread of its own, as a model does it that asks for responses one by one.
            side_by_side([partial(note_lost_request, request.n_responses), lambda: None], 2)
            if dice < 0.1 * self.trouble:
                break
        raise ModelUnreachable("the line is dead")

    def _bill(self, request):
        with self._lock:
            share = 1.0 if self.at_cap else self._random.random()
            latency_s = self._random.random() * self.latency_s
        n = request.n_responses
        prompt = n * (len((request.expertise + request.message).encode()) + 100)
        usage = Usage(
            prompt_tokens=int(prompt * share),
            completion_tokens=int(n * self.cap * share),
            cached_tokens=int(prompt * share / 3),
        )
        time.sleep(latency_s)
        with self._lock:
            self.tokens += usage.prompt_tokens + usage.completion_tokens
            self.dollars += self.price.dollars(usage)
        return usage


def spend_all(model, limits, *, calls, largest):
    """Let 64 threads ask for more than the limits allow; return the account and the journal."""
    account, notes = RunAccount(limits), Notes()
    tariff = Tariff(asked=model.name, prices={model.name: model.price}, max_output_tokens=model.cap)
    broker = Broker(model, notes, account, lambda: None, tariff)

    def ask(number):
        request = Request(
            expertise="é" * (number % 7), message="x" * number, n_responses=1 + number % largest
        )
        try:
            broker(f"job/{number}", request, number)
        except (ModelUnreachable, RunBudgetSpent) as error:
            return type(error)
        return None

    with ThreadPoolExecutor(THREADS) as threads:
        ends = list(threads.map(ask, range(calls)))
    return account, notes, ends


@settings(max_examples=40, deadline=None)
@given(
    input_price=st.floats(0, 100),
    output_price=st.floats(0.01, 100),
    cap=st.integers(1, 5_000),
    at_cap=st.booleans(),
    trouble=st.sampled_from([0.0, 0.1, 0.6]),
    worth=st.floats(0.1, 40),
    largest=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_a_limit_of_dollars_is_never_exceeded(
    input_price, output_price, cap, at_cap, trouble, worth, largest, seed
) -> None:
    price = flat(input_price, output_price)
    model = Spendthrift(price, cap, at_cap=at_cap, trouble=trouble, seed=seed, latency_s=0.002)
    dollars = worth * price.at_most(200, cap)
    account, notes, _ = spend_all(model, RunLimits(dollars=dollars), calls=128, largest=largest)
    assert model.dollars <= dollars * (1 + 1e-9)
    assert model.dollars <= account.dollars * (1 + 1e-9)
    assert account.dollars == pytest.approx(
        sum((e.dollars or 0) + e.lost_dollars for e in notes.events if isinstance(e, Answered))
        + sum(e.lost_dollars for e in notes.events if isinstance(e, Unanswered))
    )


@settings(max_examples=25, deadline=None)
@given(
    cap=st.integers(1, 5_000),
    at_cap=st.booleans(),
    trouble=st.sampled_from([0.0, 0.1, 0.6]),
    worth=st.floats(0.1, 40),
    largest=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_a_limit_of_tokens_is_never_exceeded(cap, at_cap, trouble, worth, largest, seed) -> None:
    model = Spendthrift(flat(1, 1), cap, at_cap=at_cap, trouble=trouble, seed=seed, latency_s=0.002)
    tokens = 1 + int(worth * (cap + 300))
    account, _, _ = spend_all(model, RunLimits(tokens=tokens), calls=128, largest=largest)
    assert model.tokens <= account.tokens <= tokens


def test_calls_that_fit_run_at_once_and_all_of_the_budget_can_be_used() -> None:
    model = Spendthrift(flat(0, 1), 1000, at_cap=False, trouble=0, seed=1, latency_s=0.01)
    account, _, ends = spend_all(model, RunLimits(tokens=120_000), calls=300, largest=1)
    assert model.most_at_once > 8
    # One more call of the longest prompt did not fit any more, and nothing smaller is refused.
    assert account.tokens > 120_000 - 1000 - 300 - 2 * MESSAGE_OVERHEAD_TOKENS - 14
    assert ends.count(RunBudgetSpent) > 0


def test_a_call_waits_for_one_under_way_and_gets_what_that_gives_back() -> None:
    account = RunAccount(RunLimits(tokens=100))
    first = account.reserve(Spending(tokens=80))
    order = []

    def second() -> None:
        reservation = account.reserve(Spending(tokens=60))
        order.append("second begins")
        account.settle(reservation, Spending(tokens=60))

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.05)
    order.append("first settles")
    account.settle(first, Spending(tokens=10))
    thread.join(5)
    assert order == ["first settles", "second begins"]
    assert account.tokens == 70
    with pytest.raises(RunBudgetSpent, match=r"70 of the run's 100 tokens are spent.*may take 31"):
        account.reserve(Spending(tokens=31))


def test_what_can_never_fit_is_refused_at_once_though_others_are_under_way() -> None:
    account = RunAccount(RunLimits(dollars=1.0))
    account.record(0, 0.5)
    account.reserve(Spending(dollars=0.4))
    with pytest.raises(RunBudgetSpent, match=r"\$0.5 of the run's \$1 are spent.*cost \$0.6"):
        account.reserve(Spending(dollars=0.6))


def test_who_waits_ends_with_the_run() -> None:
    now = [0.0]
    account = RunAccount(RunLimits(tokens=100, wall_s=5.0), clock=lambda: now[0])
    account.reserve(Spending(tokens=80))
    looks = iter([False, True])

    def check() -> None:
        if next(looks):
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        account.reserve(Spending(tokens=60), check)
    now[0] = 6.0
    with pytest.raises(RunBudgetSpent, match="wall"):
        account.reserve(Spending(tokens=1))


def test_two_calls_that_wait_for_each_other_do_not_wait_for_ever() -> None:
    account = RunAccount(RunLimits(tokens=100))
    calls = [account.reserve(Spending(tokens=50)) for _ in range(2)]
    refused = []

    def again(call) -> None:
        try:
            account.extend(call, Spending(tokens=50))
        except RunBudgetSpent:
            refused.append(call)
            account.settle(call, Spending(tokens=30))
        else:
            account.settle(call, Spending(tokens=20))

    threads = [threading.Thread(target=again, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    # The one that came last is refused. What it gives back is too little for the other one.
    assert len(refused) == 2
    assert account.tokens == 60


def test_a_rejected_request_costs_nothing_and_a_lost_one_all_it_may() -> None:
    class Failing:
        name, is_language_model = "failing", True
        error: Exception
        lost = 0

        def respond(self, request, *, seed, occurrence, key):
            for _ in range(self.lost):
                note_lost_request(1)
            raise self.error

    model, account, notes = Failing(), RunAccount(RunLimits(tokens=10_000)), Notes()
    tariff = Tariff(asked="failing", prices={"failing": None}, max_output_tokens=500)
    broker = Broker(model, notes, account, lambda: None, tariff)
    request = Request(expertise="four", message="four")
    model.error = RequestRejected("no")
    with pytest.raises(RequestRejected):
        broker("job", request, 0)
    assert account.tokens == 0
    model.error, model.lost = ModelUnreachable("lost"), 2
    with pytest.raises(ModelUnreachable):
        broker("job", request, 0)
    assert account.tokens == 2 * (500 + 8 + 2 * MESSAGE_OVERHEAD_TOKENS)
    assert notes.events[-1].lost_tokens == account.tokens
    account.settle(account.reserve(Spending(tokens=10_000 - account.tokens)), Spending())


def asked_for_three(model, check=lambda: None):
    """Ask for three responses, which fails; return the account, what is recorded, and the most
    that each response can cost."""
    account, notes = RunAccount(RunLimits(tokens=10_000)), Notes()
    tariff = Tariff(asked=model.name, prices={model.name: None}, max_output_tokens=500)
    broker = Broker(model, notes, account, check, tariff)
    request = Request(expertise="four", message="four", n_responses=3)
    with pytest.raises((ModelUnreachable, Interrupted)):
        broker("job", request, 0)
    return account, notes.events, 500 + 8 + 2 * MESSAGE_OVERHEAD_TOKENS


def one_by_one(server, check=lambda: None):
    settings = ModelSettings(max_output_tokens=500, concurrency=1)
    waiting = Waiting(max_retries=0, check=check)
    return OpenAICompatibleModel("m", base_url=server.url, settings=settings, waiting=waiting)


@pytest.mark.parametrize(
    ("faults", "in_vain"),
    [
        # Of the three that were asked for at first one came.
        ([None, None, Fault.SERVER_ERROR], 2),
        ([Fault.N_REJECTED, None, Fault.SERVER_ERROR], 1),
        ([None, Fault.EMPTY_BODY], 2),
    ],
)
def test_responses_that_came_in_vain_count_as_lost(faults, in_vain) -> None:
    with LoopbackServer(honours_n=False, faults=faults) as server, one_by_one(server) as model:
        account, events, each = asked_for_three(model)
        assert len(server.log) == len(faults)
    first, *_, unanswered = events
    assert (kind(first), first.worst_tokens) == ("asked", 3 * each)
    # What was refused costs nothing.
    assert (kind(unanswered), unanswered.lost_tokens) == ("unanswered", in_vain * each)
    assert account.tokens == in_vain * each


def test_responses_that_came_before_the_run_was_stopped_count_as_lost() -> None:
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Interrupted("stop")

    with (
        LoopbackServer(honours_n=False, on_answer=lambda received: stop.set()) as server,
        one_by_one(server, check) as model,
    ):
        account, events, each = asked_for_three(model, check)
        assert len(server.log) == 1
    assert events[-1].lost_tokens == account.tokens == each


def test_requests_that_are_on_their_way_when_a_call_fails_are_lost_and_not_repeated() -> None:
    class Scattered:
        name, is_language_model, announces_requests = "scattered", True, True

        def __init__(self):
            self.refused = []
            self.release, self.sent = threading.Event(), threading.Event()
            self.slow = threading.Thread()

        def respond(self, request, *, seed, occurrence, key):
            context = contextvars.copy_context()
            self.slow = threading.Thread(target=context.run, args=(self.stall,))
            self.slow.start()
            note_request(1)
            note_refused_request(1)
            assert self.sent.wait(20)
            raise ModelUnreachable("down")

        def stall(self):
            note_request(1)
            self.sent.set()
            self.release.wait(20)
            note_lost_request(1)
            try:
                note_request(1)
            except ModelUnreachable as failure:
                self.refused.append(str(failure))

    model = Scattered()
    account, events, each = asked_for_three(model)
    assert account.tokens == each
    model.release.set()
    model.slow.join(20)
    assert len(model.refused) == 1
    assert [kind(one) for one in events] == ["asked", "unanswered"]
    assert events[-1].lost_tokens == account.tokens == each
