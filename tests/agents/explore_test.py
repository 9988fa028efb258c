"""`explore`: a state that is new in a life pays, once."""

import pytest

from arl import agents, envs, text
from arl.agents.explore import explore
from arl.types import Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny


def earned(anchors, truncated=False, **options):
    script = rewards.scripted(anchors, truncated=truncated)
    _, turns = rewards.play(explore(script, **{"scale": 0.5, **options}), [1] * (len(anchors) - 1))
    assert not any(turns[0].reward)
    return rewards.paid(turns, "exploration")


@pytest.mark.parametrize("truncated", [False, True])
def test_a_state_pays_when_it_is_visited_for_the_first_time(truncated):
    """Where the life begins is not new when it is visited again; where it ends is."""
    assert earned([1, 2, 1, 2, 3], truncated=truncated) == [0.5, 0.0, 0.0, 0.5]
    assert earned([7, 7, 0, 7], truncated=truncated) == [0.0, 0.5, 0.0]


def test_walking_to_and_fro_is_no_living():
    assert sum(earned([1, *[2, 3] * 6])) == 1.0


def test_every_life_begins_anew():
    agent = explore(rewards.scripted([1, 2, 3]), scale=1.0)
    assert [rewards.paid(rewards.play(agent, [1, 1])[1], "exploration") for _ in range(2)] == [[1.0, 1.0]] * 2


def test_what_shares_a_bucket_is_not_new_and_nothing_pays_twice():
    anchors = [5, 6, 7, 8, 9, 10, 11, 12, 5]
    few = earned(anchors, num_buckets=2, scale=1.0)
    assert sum(few) == 1.0 and few[-1] == 0.0
    assert sum(earned(anchors, num_buckets=2**20, scale=1.0)) == 7.0


@pytest.mark.parametrize("stride", [1, 256, 2**20, 2**24 + 1])
def test_anchors_in_a_row_fall_into_different_buckets(stride):
    """Thrown at random, 24 more anchors among 256 buckets would meet 1.2 times; all could be in one bucket without a hash."""
    anchors = [index * stride % 2**32 for index in range(25)]
    assert sum(earned(anchors, scale=1.0)) >= 20


def test_the_pay_adds_to_what_is_paid_within():
    script = rewards.scripted([1, 2, 1], rewards=[Reward(exploration=4.0, outcome=1.0)])
    _, turns = rewards.play(explore(script, scale=1.0), [1, 1])
    assert rewards.paid(turns, "exploration") == [5.0, 0.0] and rewards.paid(turns, "outcome") == [1.0, 0.0]


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_else_is_changed(truncated):
    kinds = [Kind.THINK, Kind.ACTION, Kind.NOTE, Kind.ACTION]
    rewards.check_laws(lambda inner: explore(inner, scale=3.0), rewards.scripted([3, 3, 9, 3], kinds, truncated=truncated), {})


CARRIES = {"nothing": agents.nothing(), "window": agents.window(4), "note": tiny.NOTE}


@pytest.mark.parametrize(("carry", "forgets"), [("nothing", True), ("window", False), ("note", True)])
def test_the_same_attempt_again_pays_nothing(carry, forgets):
    """Three attempts at one number, the same guesses in each: what they told is collected once, whatever is forgotten between them."""
    environment = envs.time_limit(envs.make_number_guess(tiny.TOKENIZER, 8), 3)
    agent = explore(tiny.attempts(agents.act(environment, forgets=forgets), carry=CARRIES[carry]), scale=1.0)

    def write(draw, grammar, turn):
        """Guesses 3, then 5 and 5 again; a note says nothing."""
        if turn.kind != Kind.ACTION:
            return []
        attempts.append(int(turn.attempt))
        return text.token_ids(tiny.TOKENIZER, " 3" if attempts.count(attempts[-1]) == 1 else " 5")

    for seed in range(3):
        attempts = []
        ((first, life),) = rewards.live(agent, {}, [seed], write)
        number = int(first.inner.inner[0].inner.number)
        pay = [float(segment.followed.reward.exploration) for segment in life if segment.asked.kind == Kind.ACTION]
        assert pay == account(number, attempts, sees_ends=carry == "note")
        assert sum(float(segment.followed.reward.exploration) for segment in life) == sum(pay) <= 2.0


def account(number, attempts, sees_ends):
    """What the guesses pay, by the intervals that they leave; where the next attempt begins at once, the end of an attempt is not seen."""
    seen, pay, low, high = {(0, 8)}, [], 0, 8
    for index, attempt in enumerate(attempts):
        so_far = attempts[: index + 1].count(attempt)
        low, high = (0, 8) if so_far == 1 else (low, high)
        guess = 3 if so_far == 1 else 5
        if guess == number:
            low, high = number, number + 1
        else:
            low, high = (max(low, guess + 1), high) if number > guess else (low, min(high, guess))
        is_seen = sees_ends or attempt == 2 or not (guess == number or so_far == 3)
        pay.append(float(is_seen and (low, high) not in seen))
        seen |= {(low, high)} if is_seen else set()
    return pay


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(scale=0.0), "scale > 0"),
        (dict(scale=-1.0), "scale > 0"),
        (dict(scale=float("nan")), "scale > 0"),
        (dict(scale=1.0, num_buckets=1), "num_buckets >= 2"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        explore(rewards.scripted([1, 2]), **options)


def test_states_without_anchors_are_refused():
    with pytest.raises(ValueError, match="give the environment an anchor"):
        explore(tiny.agent("act"), scale=1.0)


def test_what_is_new_is_never_paid_for_twice():
    """By no second explore(), however deep the first one lies, and by no attempt within attempts."""
    inner = tiny.guess()
    deep = tiny.think(explore(inner, scale=1.0), budget=2)
    with pytest.raises(ValueError, match="paid for twice"):
        explore(deep, scale=0.5)
    with pytest.raises(ValueError, match=r"again in every attempt; put explore\(\) around attempts\(\)"):
        tiny.attempts(deep)
    assert explore(tiny.attempts(inner), scale=1.0).explores and not tiny.attempts(inner).explores
