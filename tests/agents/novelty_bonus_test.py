"""`NoveltyBonus`: a state that is new in an episode pays, once."""

import pytest

from arl import envs, text
from arl.agents import Act, Attempts, Nothing, NoveltyBonus, Think, Window
from arl.types import ArlError, Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny


def bonus(state_hashes, script=None, truncated=False, **options):
    """The layer around a script, whose environment has the hashes."""
    script = script or rewards.scripted(state_hashes, truncated=truncated)
    return tiny.wrap(NoveltyBonus(**{"scale": 0.5, **options}), script, rewards.hashed(state_hashes))


def earned(state_hashes, truncated=False, **options):
    """What each segment of a script earns."""
    _, turns = rewards.play(bonus(state_hashes, truncated=truncated, **options), [1] * (len(state_hashes) - 1))
    assert not any(turns[0].reward)
    return rewards.paid(turns, "exploration")


@pytest.mark.parametrize("truncated", [False, True])
def test_a_state_pays_when_it_is_visited_for_the_first_time(truncated):
    """Where the episode begins is not new when it is visited again; where it ends is."""
    assert earned([1, 2, 1, 2, 3], truncated=truncated) == [0.5, 0.0, 0.0, 0.5]
    assert earned([7, 7, 0, 7], truncated=truncated) == [0.0, 0.5, 0.0]


def test_walking_to_and_fro_pays_no_more_than_the_first_visits():
    assert sum(earned([1, *[2, 3] * 6])) == 1.0


def test_every_episode_begins_anew():
    agent = bonus([1, 2, 3], scale=1.0)
    assert [rewards.paid(rewards.play(agent, [1, 1])[1], "exploration") for _ in range(2)] == [[1.0, 1.0]] * 2


def test_what_shares_a_bucket_is_not_new_and_nothing_pays_twice():
    state_hashes = [5, 6, 7, 8, 9, 10, 11, 12, 5]
    few = earned(state_hashes, num_buckets=2, scale=1.0)
    assert sum(few) == 1.0 and few[-1] == 0.0
    assert sum(earned(state_hashes, num_buckets=2**20, scale=1.0)) == 7.0


@pytest.mark.parametrize("stride", [1, 256, 2**20, 2**24 + 1])
def test_state_hashes_in_a_row_fall_into_different_buckets(stride):
    """Thrown at random, 24 more state hashes among 256 buckets would meet 1.2 times; all could be in one bucket without a hash."""
    state_hashes = [index * stride % 2**32 for index in range(25)]
    assert sum(earned(state_hashes, scale=1.0)) >= 20


def test_the_bonus_adds_to_what_is_paid_within():
    state_hashes = [1, 2, 1]
    script = rewards.scripted(state_hashes, rewards=[Reward(exploration=4.0, outcome=1.0)])
    _, turns = rewards.play(bonus(state_hashes, script, scale=1.0), [1, 1])
    assert rewards.paid(turns, "exploration") == [5.0, 0.0] and rewards.paid(turns, "outcome") == [1.0, 0.0]


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_but_the_reward_is_changed(truncated):
    state_hashes, kinds = [3, 3, 9, 3], [Kind.THINK, Kind.ACTION, Kind.NOTE, Kind.ACTION]
    script = rewards.scripted(state_hashes, kinds, truncated=truncated)
    rewards.check_laws(lambda inner: bonus(state_hashes, inner, scale=3.0), script, {})


MEMORIES = {"nothing": Nothing(), "window": Window(4), "note": tiny.NOTE}


@pytest.mark.parametrize(("memory", "resets_context"), [("nothing", True), ("window", False), ("note", True)])
def test_the_same_attempt_again_pays_nothing(memory, resets_context):
    """Three attempts at one number, the same guesses in each: what they told is collected once, whatever is forgotten between them."""
    environment = envs.make_number_guess(tiny.TOKENIZER, 8)
    layers = Act(time_limit=3, resets_context=resets_context), Attempts(3, MEMORIES[memory]), NoveltyBonus(1.0)
    agent = tiny.make(environment, *layers)

    def write(draw, grammar, turn):
        """Guesses 3, then 5 and 5 again; a note says nothing."""
        if turn.kind != Kind.ACTION:
            return []
        attempts.append(int(turn.attempt))
        return text.token_ids(tiny.TOKENIZER, " 3" if attempts.count(attempts[-1]) == 1 else " 5")

    for seed in range(3):
        attempts = []
        ((first, episode),) = rewards.live(agent, {}, [seed], write)
        number = int(first.environment.number)
        pay = [float(segment.followed.reward.exploration) for segment in episode if segment.asked.kind == Kind.ACTION]
        assert pay == account(number, attempts, sees_ends=memory == "note")
        assert sum(float(segment.followed.reward.exploration) for segment in episode) == sum(pay) <= 2.0


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
        (dict(scale=0.0), r"NoveltyBonus\.scale is 0\.0, .* set it > 0"),
        (dict(scale=-1.0), r"NoveltyBonus\.scale is -1\.0, .* set it > 0"),
        (dict(scale=float("nan")), r"NoveltyBonus\.scale is nan, .* set it > 0"),
        (dict(scale=1.0, num_buckets=1), r"NoveltyBonus\.num_buckets >= 2"),
        (dict(scale=1.0, num_buckets=2.0), r"NoveltyBonus\.num_buckets is 2\.0; set it to a whole number"),
    ],
)
def test_a_bonus_that_cannot_be_is_refused(options, words):
    with pytest.raises(ArlError, match=words):
        NoveltyBonus(**options)


def test_an_environment_without_hashes_of_states_is_refused():
    with pytest.raises(ArlError, match="give the environment a state_hash, or leave NoveltyBonus out"):
        tiny.make(tiny.make_walk(), Act(), NoveltyBonus(1.0))


def test_what_is_new_is_never_paid_for_twice():
    """By no second bonus, however deep the first one lies, and by no attempt within attempts."""
    with pytest.raises(ArlError, match="paid for twice; leave one NoveltyBonus out"):
        tiny.guess(NoveltyBonus(1.0), Think(2), NoveltyBonus(0.5, name="second"))
    with pytest.raises(ArlError, match="again in every attempt; put that layer around Attempts"):
        tiny.guess(NoveltyBonus(1.0), Think(2), Attempts(3))
    around = tiny.guess(Attempts(3), NoveltyBonus(1.0))
    assert [layer.one_time_reward for layer in around.layers] == ["", "", "new states (NoveltyBonus)"]
