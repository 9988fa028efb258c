"""`Confidence`: when it is asked for, what it is paid, and whom that pays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text, training
from arl.agents import Act, AskForHelp, Attempts, Confidence, History
from arl.training import ESTIMATORS, LearnerConfig, Rule, rules
from arl.training.config import OWN_RULE
from arl.training.credit import total_reward
from arl.types import ArlError, Kind, Reward, Segment
from tests import tiny
from tests.training.credit_test import hand_trajectory as lanes

LEVELS = (10, 50, 90)


WITNESSES = envs.Witnesses(2)


def make(*layers, config=WITNESSES):
    return agents.make_agent(config.make(tiny.TOKENIZER), (Act(), *layers))


def live(interaction, say, seed=0):
    """An episode in which `say(turn, state) -> Text` writes: yields each turn, its string, its state, and the segment."""
    advance, parse = jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))
    state, turn = jax.jit(interaction.start)(jax.random.key(seed), {})
    for _ in range(20):
        said = None if turn.terminated | turn.truncated else say(turn, state)
        yield turn, text.to_string(tiny.TOKENIZER, turn.read), said
        if said is None:
            return
        choice, is_legal = parse(turn.grammar_state, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        written = Segment(text.pad(said, interaction.size.written), jnp.where(is_legal, choice, -1), is_legal)
        state, turn = advance(jax.random.key(1), {}, state, written)


def sayer(confidence=" 90%", action=" A"):
    words = {Kind.ACTION: action, Kind.CONFIDENCE: confidence, Kind.CONTROL: " no"}
    return lambda turn, state: text.encode(tiny.TOKENIZER, words[Kind(int(turn.kind))])


# ---------------------------------------------------------------- what is asked and paid


def test_the_answer_is_paid_at_once_and_heard_only_after_the_confidence():
    for seed in range(6):
        turns = list(live(make(Confidence(LEVELS)), sayer(), seed))
        assert [Kind(int(turn.kind)) for turn, _, _ in turns[:2]] == [Kind.ACTION, Kind.CONFIDENCE] and len(turns) == 3
        (_, question, _), (asked, read, _), (end, _, _) = turns
        assert question.startswith("Guess") and read == " score" and end.terminated
        outcome = float(asked.reward.outcome)
        assert outcome in (0.0, 1.0) and float(asked.reward.own) == 0.0
        assert [float(x) for x in end.reward] == [0, 0, 0, 0, pytest.approx(-((outcome - 0.9) ** 2), abs=1e-6)]


def test_what_follows_in_other_attempts_is_as_without_confidences():
    layers = Confidence(LEVELS), Attempts(3, History())
    turns = [(turn, read) for turn, read, _ in live(make(*layers), sayer()) if turn.kind != Kind.CONFIDENCE]
    bare = [(turn, read) for turn, read, _ in live(make(layers[1]), sayer())]
    assert [read for _, read in turns] == [read for _, read in bare] and len(bare) == 4
    assert [int(turn.attempt) for turn, _ in turns] == [int(turn.attempt) for turn, _ in bare]
    own = [float(turn.reward.own) for turn, _ in turns]
    assert own[0] == 0 and len(set(own[1:])) == 1 and own[1] < 0


def test_every_step_of_a_longer_attempt_is_asked_about():
    """Arms that pay or not: each confidence is scored by the pull that it follows."""
    turns = list(live(make(Confidence((20, 80)), config=envs.Bandit(2, 4)), sayer(" 20%")))
    asked = [turn for turn, _, _ in turns if turn.kind == Kind.CONFIDENCE and not turn.terminated]
    scored = [
        float(after.reward.own) for (before, _, _), (after, _, _) in zip(turns, turns[1:], strict=False) if before.kind == Kind.CONFIDENCE
    ]
    assert len(asked) == len(scored) == 4
    np.testing.assert_allclose(scored, [-((float(turn.reward.outcome) - 0.2) ** 2) for turn in asked], atol=1e-6)


def test_an_illegal_text_is_paid_as_the_most_wrong_confidence():
    for answer in (" A", " 90%"):
        *_, (end, _, _) = live(make(Confidence((10, 90))), sayer(" A", answer))
        assert float(end.reward.own) == pytest.approx(-0.81)


def test_help_is_not_asked_how_sure_it_is():
    say = lambda word: lambda turn, state: text.encode(tiny.TOKENIZER, word) if turn.kind == Kind.CONTROL else sayer()(turn, state)
    kinds = lambda word: [int(turn.kind) for turn, _, said in live(make(AskForHelp(0.1), Confidence(LEVELS)), say(word)) if said]
    assert kinds(" yes") == [Kind.CONTROL] and kinds(" no") == [Kind.CONTROL, Kind.ACTION, Kind.CONFIDENCE]


@pytest.mark.parametrize("score", ["quadratic", "log"])
def test_no_other_level_is_paid_more_than_the_true_one(score):
    layer = Confidence(tuple(range(5, 100, 10)), score=score)
    right, wrong = np.asarray(layer.scores(jnp.bool_(True))), np.asarray(layer.scores(jnp.bool_(False)))
    for index, chance in enumerate(layer.probabilities):
        assert np.argmax(chance * right + (1 - chance) * wrong) == index
    np.testing.assert_allclose(layer.squared_error(right), (1 - layer.probabilities) ** 2, rtol=1e-4)
    np.testing.assert_allclose(layer.squared_error(wrong), layer.probabilities**2, rtol=1e-4)


@pytest.mark.parametrize("config", [envs.Witnesses(2), envs.NumberGuess(4)])
def test_the_expert_states_the_posterior_if_it_is_known(config):
    interaction, task = make(Confidence((10, 44, 90)), config=config), config.make(tiny.TOKENIZER)
    for seed in range(4):
        state, _ = interaction.start(jax.random.key(seed), {})
        said = text.pad(text.say_choice(task.environment.grammar, 0), interaction.size.written)
        known = task.posterior(state.environment, 0) if task.posterior else 0.5
        state, _ = interaction.advance(jax.random.key(0), {}, state, Segment(said, jnp.int32(0), jnp.bool_(True)))
        stated = text.to_string(tiny.TOKENIZER, interaction.experts[Kind.CONFIDENCE](jax.random.key(0), state, jnp.int32(0)))
        assert stated == f" {min((10, 44, 90), key=lambda level: abs(level / 100 - float(known)))}%"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(levels=(50,)), "set it to a tuple of two percents or more"),
        (dict(levels=(50, 50)), "different percents from 0 to 100 in ascending order"),
        (dict(levels=(0, 101)), "different percents from 0 to 100 in ascending order"),
        (dict(levels=(0.5, 1)), "set it to a tuple of whole numbers"),
        (dict(score="brier"), "set it to one of quadratic, log"),
        (dict(levels=(0, 50), score="log"), "set Confidence.levels between 1 and 99"),
        (dict(ask=""), "Confidence.ask is empty"),
    ],
)
def test_what_cannot_be_stated_is_refused(options, words):
    with pytest.raises(ArlError, match=words):
        Confidence(**options)


def test_one_confidence_is_enough():
    with pytest.raises(ArlError, match="leave one Confidence out"):
        make(Confidence(), Confidence(name="again"))


# ---------------------------------------------------------------- whom it pays: gradients by enumeration

RIGHT = np.array([0.9, 0.25])  # of either answer: the exact posterior
STATED = Confidence(LEVELS).probabilities
ANSWER, SURE = jnp.array([0.3, -0.2]), jnp.array([[0.4, -0.1, 0.2], [-0.3, 0.1, 0.5]])  # logits, of confidences by answer


def enumerated():
    """All answers, confidences and outcomes, one a lane, and how probable each is."""
    cases = [(a, c, y) for a in range(2) for c in range(3) for y in (1, 0)]
    answer, sure, right = (np.array(x) for x in zip(*cases, strict=True))
    chance = jax.nn.softmax(ANSWER)[answer] * jax.nn.softmax(SURE, axis=1)[answer, sure]
    return answer, sure, right, chance * np.where(right, RIGHT[answer], 1 - RIGHT[answer])


def played(own=1.0, outcome=1.0):
    """These lanes as trajectories: the answer is sampled after the first token, the confidence after the second, which ends the episode."""
    answer, _, right, _ = enumerated()
    score = -((STATED[enumerated()[1]] - right) ** 2)
    whole = jax.tree.map(lambda x: x[:, :2], lanes(len(answer)))
    place = lambda index, x: jnp.zeros((len(answer), 2), jnp.float32).at[:, index].set(jnp.asarray(x, jnp.float32))
    ones, last = jnp.ones((len(answer), 2), bool), jnp.broadcast_to(jnp.arange(2) == 1, (len(answer), 2))
    paid = Reward(place(0, right * outcome), *[place(0, 0.0)] * 3, place(1, score * own))
    kind = jnp.broadcast_to(jnp.array([Kind.ACTION, Kind.CONFIDENCE]), ones.shape)
    return whole._replace(
        is_sampled=ones,
        has_choice=ones,
        author=jnp.zeros(ones.shape, jnp.int8),
        kind=kind,
        ends_segment=ones,
        ends_episode=last,
        discount=1.0 - last,
        value=place(0, 0.0),
        reward=paid,
    )


def advantages(trajectory, **options):
    config = rules.with_own_rules(LearnerConfig(estimator="monte_carlo", normalize=False, **options), (Kind.ACTION, Kind.CONFIDENCE))
    return rules.assign(trajectory, total_reward(trajectory.reward), config, ESTIMATORS["monte_carlo"]).advantage


def gradient(advantage):
    """The expected policy gradient, summed over all that can happen."""
    answer, sure, _, chance = enumerated()

    def surrogate(logits):
        log_prob = jax.nn.log_softmax(logits[0])[answer], jax.nn.log_softmax(logits[1], axis=1)[answer, sure]
        return jnp.sum(jax.lax.stop_gradient(chance) * (advantage[:, 0] * log_prob[0] + advantage[:, 1] * log_prob[1]))

    return jax.grad(surrogate)((ANSWER, SURE))


def outcome_and_score(logits):
    """In closed form: the expected outcome, and the expected score given how often each answer is given."""
    answers, stated = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1], axis=1)
    score = -(RIGHT[:, None] * (1 - STATED) ** 2 + (1 - RIGHT[:, None]) * STATED**2)
    return answers @ jnp.asarray(RIGHT), jnp.sum(jax.lax.stop_gradient(answers)[:, None] * stated * score)


def test_answers_follow_the_outcome_and_confidences_the_score_exactly():
    found = gradient(advantages(played()))
    np.testing.assert_allclose(found[0], jax.grad(lambda x: outcome_and_score(x)[0])((ANSWER, SURE))[0], atol=1e-6)
    np.testing.assert_allclose(found[1], jax.grad(lambda x: outcome_and_score(x)[1])((ANSWER, SURE))[1], atol=1e-6)


def test_a_score_that_paid_the_answer_too_would_move_it():
    """Where outcomes are worth little, it would make the answer of the surer failure the better one."""
    shared = played(outcome=0.0)
    honest = advantages(shared)
    assert np.all(np.asarray(honest[:, 0]) == 0)
    spread = shared._replace(reward=shared.reward._replace(own=0 * shared.reward.own, process=shared.reward.own))
    assert np.abs(np.asarray(gradient(advantages(spread))[0])).max() > 1e-3


@pytest.mark.parametrize("factor", [0.0, 100.0])
def test_neither_pays_the_other(factor):
    np.testing.assert_array_equal(advantages(played(own=factor))[:, 0], advantages(played())[:, 0])
    np.testing.assert_array_equal(advantages(played(outcome=factor))[:, 1], advantages(played())[:, 1])


def test_a_confidence_that_the_trajectory_cuts_off_is_not_learned():
    """Its score comes in the next one."""
    cut = played()
    cut = cut._replace(ends_segment=cut.ends_segment.at[:, 1].set(False), ends_episode=jnp.zeros_like(cut.ends_episode))
    config = rules.with_own_rules(LearnerConfig(estimator="monte_carlo"), (Kind.CONFIDENCE,))
    mask = rules.assign(cut, total_reward(cut.reward), config, ESTIMATORS["monte_carlo"]).policy_mask
    assert mask[:, 0].all() and not mask[:, 1].any()


def test_the_rule_is_there_by_itself_for_those_who_state_confidences():
    plain, own = LearnerConfig(), LearnerConfig(rules={"confidence": Rule("monte_carlo", span="segment", weight=2.0)})
    assert rules.with_own_rules(plain, (Kind.ACTION,)) is plain
    assert rules.with_own_rules(plain, (Kind.ACTION, Kind.CONFIDENCE)).rules == {"confidence": OWN_RULE}
    assert rules.with_own_rules(own, (Kind.CONFIDENCE,)) is own


@pytest.mark.parametrize(
    ("rule", "words"),
    [(Rule("gae", span="segment"), "estimator='monte_carlo'"), (Rule("monte_carlo"), "set LearnerConfig.rules.confidence.span='segment'")],
)
def test_other_rules_are_refused(rule, words):
    config = LearnerConfig(num_lanes=32, microbatch_size=8, rules={"confidence": rule})
    interaction = make(Confidence(LEVELS))
    with pytest.raises(ArlError, match=words):
        training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
