"""Evaluation: whole episodes, an expert at the optimum, notes that come from others, and intervals against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.models import Policy
from arl.task import Bounds
from arl.training import evaluation
from arl.training.evaluation import Episodes, Estimate
from arl.types import Kind
from tests import tiny

NUM_EPISODES = 12


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _play(interaction_name, options, num_attempts, key):
    interaction = tiny.agent(interaction_name)
    shape = tiny.config(interaction, **dict(options))
    return evaluation.play(interaction, tiny.model(), shape, tiny.params(), tiny.CURRICULUM, key, NUM_EPISODES, num_attempts)


def play(name, num_attempts=1, **options):
    tiny.agent(name), tiny.params()  # built before the program is traced
    return jax.tree.map(np.asarray, _play(name, tuple(sorted(options.items())), num_attempts, jax.random.key(7)))


@pytest.mark.parametrize("name", ["limits in attempts", "reflection"])
def test_episodes_are_whole_however_they_were_trained(name):
    """Neither the length of a trajectory in training nor restarts cut an evaluation short or change what happens in it."""
    wanted, trajectory = play(name, 2)
    trained_on, _ = play(name, 2, trajectory_length=40, restarts=True)
    assert wanted.is_finished.all() and trajectory.ends_episode.sum() == NUM_EPISODES
    for a, b in zip(wanted, trained_on, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_seen_of_an_episode():
    """Each number is that of the episode told again by the interaction alone."""
    name = "thoughts in attempts"
    episodes, trajectory = play(name, 2)
    assert float(episodes.gap.max()) < 1e-4
    np.testing.assert_array_equal(episodes.turns, trajectory.ends_segment.sum(1))
    np.testing.assert_array_equal(
        episodes.actions, [sum(trajectory.ends_segment[i] & (trajectory.kind[i] == Kind.ACTION)) for i in range(NUM_EPISODES)]
    )
    assert (episodes.actions < episodes.turns).all() and (episodes.illegal == 0).all()
    np.testing.assert_allclose(episodes.returned, tiny.total(trajectory.reward).sum(1), rtol=1e-6)
    np.testing.assert_allclose(episodes.outcome_by_attempt.sum(1), episodes.outcome, rtol=1e-6)
    for attempt in range(2):
        of_attempt = [trajectory.reward.outcome[i][trajectory.attempt[i] == attempt].sum() for i in range(NUM_EPISODES)]
        np.testing.assert_allclose(episodes.outcome_by_attempt[:, attempt], of_attempt, rtol=1e-6)


def follow(preferred: dict[str, str]) -> Policy:
    """A model that looks at the last token alone, and after some of them strongly prefers one."""

    def token(word):
        [single] = text.token_ids(tiny.TOKENIZER, word)
        return single

    size = len(tiny.TOKENIZER)
    logits = jnp.zeros((size, size))
    for last, following in preferred.items():
        logits = logits.at[token(last), token(following)].set(50.0)
    return Policy(
        init=lambda key, pretrained=None: {},
        empty_cache=lambda num_lanes, num_slots: jnp.zeros((num_lanes, num_slots)),
        read=lambda params, tokens, position, context_start, is_valid, cache, lane=None: (tokens[..., None], cache),
        forward=lambda params, tokens, context_start: tokens[..., None],
        logits=lambda params, features, candidates: logits[features[..., 0]][..., jnp.asarray(candidates)],
        heads={"value": lambda params, features: jnp.zeros(features.shape[:-1])},
        vocab_size=len(tiny.TOKENIZER),
    )


def walk_outcome(action_of_step):
    return sum(action_of_step(step) + 0.5 * (step + 1) for step in range(3))


def test_an_expert_goes_all_the_way():
    """A walk pays the index of each action: " up", the last of four, is the best at every step, and earns the optimum."""
    interaction = tiny.agent("act")
    up_first = follow({":": " up"})
    is_up = text.token_ids(tiny.TOKENIZER, " up")[0]

    def after(params, features, candidates):
        wants_stop = (features[..., :1] == is_up) & (jnp.asarray(candidates) == interaction.grammar.stop_id)
        return up_first.logits(params, features, candidates) + 50.0 * wants_stop

    expert = up_first._replace(logits=after)
    random = walk_outcome(lambda step: np.mean([a for a in range(4) if a != step]))
    optimal = walk_outcome(lambda step: 3)
    episodes, _ = evaluation.play(interaction, expert, tiny.config(interaction), {}, {}, jax.random.key(0), NUM_EPISODES)
    told = evaluation.summarise(episodes, Bounds(random, optimal, success_at=optimal))
    assert told["normalised_score"] == pytest.approx(1.0) and told["interval"] == pytest.approx(0.0, abs=1e-6) and told["success"] == 1.0
    assert told["turns"] == told["actions"] == 3 and told["unfinished_fraction"] == 0


def test_a_sampler_that_disagrees_with_the_learner_is_seen():
    interaction, model = tiny.agent("act"), follow({":": " up"})
    other = model._replace(forward=lambda params, tokens, context_start: jnp.zeros_like(tokens)[..., None])
    for which, gap in ((model, 0.0), (other, np.log(2.0))):  # nats: sure of " up" or of its end, and even between two candidates
        episodes, _ = evaluation.play(interaction, which, tiny.config(interaction), {}, {}, jax.random.key(0), NUM_EPISODES)
        assert float(episodes.gap.max()) == pytest.approx(gap, abs=1e-5)


def notes_heard(interaction, trajectory):
    """The tokens that each later attempt of each episode begins with, between the words that ask for a note and the task."""
    ask = text.token_ids(tiny.TOKENIZER, " note")
    heard = {}
    for lane in range(len(trajectory.token)):
        for attempt in range(1, 3):
            slots = np.flatnonzero((trajectory.attempt[lane] == attempt) & (trajectory.token_kind[lane] > 0))
            tokens = trajectory.token[lane, slots].tolist()
            assert tokens[: len(ask)] == ask
            heard[lane, attempt] = tuple(tokens[len(ask) : len(ask) + 2])
    return heard


@pytest.mark.parametrize("how", ["shuffled", "blanked"])
def test_ablated_episodes_hear_what_others_wrote(how):
    """The same episodes again: what an attempt begins with is the note of one other episode, or nothing."""
    name = "reflection"
    _, source = play(name, 3)
    tokens = source.sampled
    is_note = source.is_sampled & (source.kind == Kind.REFLECTION)
    written = [[tuple(tokens[i][is_note[i] & (source.attempt[i] == k)].tolist()) for k in range(3)] for i in range(NUM_EPISODES)]
    interaction = evaluation.ablated(tiny.agent(name), source, Kind.REFLECTION, how)
    arguments = (interaction, tiny.model(), tiny.config(interaction), tiny.params(), tiny.CURRICULUM, jax.random.key(7), NUM_EPISODES, 3)
    episodes, trajectory = jax.tree.map(np.asarray, jax.jit(lambda: evaluation.play(*arguments))())
    assert episodes.is_finished.all()
    heard, intact = notes_heard(interaction, trajectory), notes_heard(interaction, source)
    assert all(intact[i, k] == written[i][k - 1] for i, k in intact), "an intact episode hears its own notes"
    if how == "blanked":
        guess = text.token_ids(tiny.TOKENIZER, "Guess:")
        assert all(list(note) == guess[:2] for note in heard.values()), "the task follows at once"
        return
    speakers = [[j for j in range(NUM_EPISODES) if all(heard[i, k] == written[j][k - 1] for k in (1, 2))] for i in range(NUM_EPISODES)]
    assert all(speakers), "one episode speaks throughout"
    assert sum(i not in speakers[i] for i in range(NUM_EPISODES)) > NUM_EPISODES // 2


def test_other_ablations_are_refused():
    _, source = play("reflection", 3)
    with pytest.raises(ValueError, match="choose one of shuffled, blanked, expert"):
        evaluation.ablated(tiny.agent("reflection"), source, Kind.REFLECTION, "burnt")


@pytest.mark.parametrize(("successes", "number"), [(30, 100), (1, 4), (50, 50)])
def test_an_interval_is_the_closed_form_of_a_proportion(successes, number):
    estimate = Estimate.of(np.arange(number) < successes)
    share = successes / number
    assert estimate.mean == pytest.approx(share)
    assert estimate.interval == pytest.approx(1.96 * np.sqrt(share * (1 - share) / (number - 1)))


def test_an_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 64))
    estimates = [Estimate.of(row) for row in draws]
    covered = np.mean([abs(estimate.mean - 3.0) <= estimate.interval for estimate in estimates])
    assert 0.93 < covered < 0.965
    assert Estimate.of(draws[0, :1]).interval == float("inf")


def test_a_summary_by_hand():
    outcome = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    episodes = Episodes(
        returned=outcome - 0.5,
        outcome=outcome,
        outcome_by_attempt=np.stack([outcome, 0 * outcome], 1),
        turns=np.array([2, 2, 4, 0]),
        actions=np.array([1, 1, 2, 0]),
        illegal=np.array([1, 0, 1, 0]),
        is_finished=np.array([True, True, True, False]),
        gap=np.array([0.0, 1e-6, 0.0, 2e-6]),
        recorded=(),
    )
    told = evaluation.summarise(episodes, Bounds(random=0.5, optimal=2.5, success_at=2.0))
    interval = 1.96 * np.sqrt(5 / 3 / 4)
    wanted = dict(
        score=1.5, normalised_score=0.5, interval=interval / 2, success=0.5, turns=2.0, actions=1.0, illegal_fraction=(0.5 + 0.25) / 4
    )
    wanted |= {
        "return": 1.0,
        "return_interval": interval,
        "unfinished_fraction": 0.25,
        "max_log_prob_gap": 2e-6,
        "random": 0.5,
        "optimal": 2.5,
    }
    assert {name: told[name] for name in wanted} == pytest.approx(wanted)
    assert told["outcome_by_attempt"] == [1.5, 0.0]


def test_an_episode_succeeds_in_an_attempt_and_not_by_adding_up_half_ones():
    by_attempt = np.array([[0.6, 0.6], [0.0, 1.0], [1.0, 0.0], [0.9, 0.9]], np.float32)
    nothing = np.zeros(4)
    episodes = Episodes(by_attempt.sum(1), by_attempt.sum(1), by_attempt, nothing, nothing, nothing, nothing, nothing, ())
    assert evaluation.summarise(episodes, Bounds(random=0.0, optimal=2.0, success_at=0.95))["success"] == 0.5


def test_where_a_cost_is_measured_the_way_goes_down():
    """Guesses that cost 1 each: 6 at random, 4 at best."""
    assert evaluation.normalised_score(-5.0, Bounds(random=-6.0, optimal=-4.0)) == pytest.approx(0.5)


def test_mutual_information_is_that_of_known_channels():
    """A copy tells all of two bits, one of its bits tells one, noise and a constant tell nothing, a noisy copy what its capacity is."""
    random = np.random.default_rng(1)
    task = random.integers(4, size=8192)
    assert evaluation.mutual_information(task, task) == pytest.approx(2.0, abs=0.01)
    assert evaluation.mutual_information(np.stack([task % 2, np.zeros_like(task)], 1), task) == pytest.approx(1.0, abs=0.01)
    assert evaluation.mutual_information(random.integers(4, size=8192), task) == pytest.approx(0.0, abs=0.01)
    assert evaluation.mutual_information(np.zeros(8192, int), task) == 0.0
    bit = task % 2
    flipped = np.where(random.random(8192) < 0.1, 1 - bit, bit)
    capacity = 1 + 0.1 * np.log2(0.1) + 0.9 * np.log2(0.9)
    assert evaluation.mutual_information(flipped, bit) == pytest.approx(capacity, abs=0.03)


def test_mutual_information_of_few_samples_is_not_taken_for_knowledge():
    """As many notes as samples: the plug-in estimate alone would say that they tell everything."""
    random = np.random.default_rng(2)
    assert evaluation.mutual_information(np.arange(64), random.integers(8, size=64)) < 0.2


def test_bits_are_those_of_each_segment_about_what_was_hidden():
    """Notes that are made to be the hidden number, or half of it, or nothing, segment by segment."""
    _, source = play("reflection", 3)
    number = np.arange(NUM_EPISODES) % 4
    candidate = np.asarray([text.token_ids(tiny.TOKENIZER, symbol)[0] for symbol in tiny.SYMBOLS])
    is_first = (source.kind == Kind.REFLECTION) & source.is_sampled & (source.attempt == 0)
    told = np.where(is_first, candidate[number][:, None], np.where(source.kind == Kind.REFLECTION, candidate[0], source.sampled))
    found = evaluation.segment_information(tiny.agent("reflection"), source._replace(sampled=told), Kind.REFLECTION, number)
    assert len(found) == 2 and found[0] > 1.2 and found[1] == 0.0
