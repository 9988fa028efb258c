"""What users of other systems report, one test each, named after the report. Each fails if the defect were here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, rollout, text, training
from arl.agents import Act
from arl.models import Variables
from arl.rollout import Decoding
from arl.training import credit, loss, scoring
from arl.types import Kind
from tests import tiny

NAME = "thoughts in attempts"  # several turns, thoughts, notes and forgetting


def trajectory_of(name=NAME, num_lanes=6, **options):
    keys = tiny.keys(num_lanes)
    return tiny.roll(name, *keys, **options)[1]


def test_rllm_272_trl_5242_no_retokenisation_drift():
    """What was sampled is what is read next, id by id, and what is scored; no string lies between."""
    trajectory = trajectory_of()
    lane, slot = np.nonzero(trajectory.is_sampled & ~trajectory.ends_segment)
    assert len(slot) and (trajectory.token[lane, slot + 1] == trajectory.sampled[lane, slot]).all()


def test_trl_5144_masks_and_log_probs_fit_the_tokens():
    trajectory = trajectory_of()
    assert (trajectory.log_prob[~trajectory.is_sampled] == 0).all() and (trajectory.kind[~trajectory.is_sampled] == Kind.PAD).all()
    assert (trajectory.kind[trajectory.is_sampled] >= Kind.THINK).all()
    assert (trajectory.token_kind[trajectory.is_sampled] > 0).all(), "a decision stands at a slot that was read"


def test_verl_2953_6780_sampler_and_trainer_agree():
    trajectory, grammar = trajectory_of(), tiny.agent(NAME).grammar
    log_prob, _, _ = scoring.score(tiny.model(), grammar, tiny.params(), jax.tree.map(jnp.asarray, trajectory), 1.0)
    assert np.abs(np.asarray(log_prob) - trajectory.log_prob)[trajectory.is_sampled].max() < 1e-4


def test_verl_6280_log_probs_do_not_depend_on_the_microbatch():
    trajectory, grammar = jax.tree.map(jnp.asarray, trajectory_of()), tiny.agent(NAME).grammar
    whole = scoring.score(tiny.model(), grammar, tiny.params(), trajectory, 1.0)[0]
    for lane in range(6):
        alone = scoring.score(tiny.model(), grammar, tiny.params(), jax.tree.map(lambda x, lane=lane: x[lane : lane + 1], trajectory), 1.0)[
            0
        ]
        np.testing.assert_allclose(alone[0], whole[lane], atol=1e-5)


def test_vllm_42259_log_probs_are_those_of_the_renormalised_nucleus():
    trajectory, grammar = trajectory_of(decoding=Decoding(top_p=0.5)), tiny.agent(NAME).grammar
    features = tiny.model().forward(tiny.params(), jnp.asarray(trajectory.token), jnp.asarray(trajectory.context_start))
    logits = np.asarray(tiny.model().logits(tiny.params(), features, grammar.candidates), np.float64)
    kept = tiny.kept(grammar, trajectory)
    weights = np.where(kept, np.exp(logits - logits.max(-1, keepdims=True)), 0.0)
    wanted = np.log(np.take_along_axis(weights / weights.sum(-1, keepdims=True), tiny.sampled(grammar, trajectory), -1)[..., 0])
    np.testing.assert_allclose(trajectory.log_prob[trajectory.is_sampled], wanted[trajectory.is_sampled], atol=1e-4)
    assert (kept.sum(-1)[trajectory.is_sampled] < np.asarray(kept.shape[-1])).all()


def test_verl_6392_what_the_environment_says_has_no_gradient():
    """Logits are nudged at each slot by hand: the loss sees those after which a token was chosen among several, and no others."""
    interaction, config = tiny.agent(NAME), training.LearnerConfig(policy_loss="policy_gradient", value_weight=0.0)
    trajectory = jax.tree.map(jnp.asarray, trajectory_of())
    given, decides = credit.monte_carlo(trajectory, credit.total_reward(trajectory.reward), config), credit.is_decision(trajectory)
    batch = loss.Batch(
        trajectory,
        given.advantage + 1.0,
        given.target,
        given.policy_mask,
        decides,
        trajectory.log_prob,
        jnp.zeros_like(trajectory.log_prob),
    )
    totals = loss.count(batch, config)

    def nudged(nudge):
        model = tiny.model()._replace(logits=lambda *arguments: tiny.model().logits(*arguments) + nudge)
        return loss.loss(model, interaction.grammar, config, 1.0, jnp.float32(0.01), totals, tiny.params(), batch)[0]

    sees = np.asarray(jnp.any(jax.grad(nudged)(jnp.zeros((*trajectory.token.shape, len(interaction.grammar.candidates)))) != 0, axis=-1))
    read = np.isin(trajectory_of().token_kind, (Kind.PROMPT, Kind.OBSERVATION))
    assert sees.any() and not (sees & ~np.asarray(decides)).any() and (sees == np.asarray(decides)).mean() > 0.99
    inside = read[:, :-1] & read[:, 1:]  # a slot whose next token was read as well: nothing was chosen there
    assert inside.any() and not sees[:, :-1][inside].any()


def test_verl_6392_what_the_environment_says_has_no_advantage():
    """The tokens that were read, and those that the grammar forced, are no decisions."""
    trajectory = jax.tree.map(jnp.asarray, trajectory_of("act"))
    decides = credit.is_decision(trajectory)
    given = credit.monte_carlo(trajectory, credit.total_reward(trajectory.reward), training.LearnerConfig())
    assert not np.asarray(given.policy_mask & ~trajectory.is_sampled).any()
    assert np.asarray(given.advantage)[~np.asarray(trajectory.is_sampled)].sum() == 0
    own = np.asarray(trajectory.token_kind == Kind.ACTION).sum()
    assert own > np.asarray(decides).sum() > 0, "forced tokens belong to what was written, without a loss"


def test_verl_6376_return_to_go_passes_over_observations():
    trajectory = trajectory_of("act")
    reward = tiny.total(trajectory.reward)
    found = np.asarray(credit.monte_carlo(jax.tree.map(jnp.asarray, trajectory), jnp.asarray(reward), training.LearnerConfig()).advantage)
    for lane in range(6):
        first = int(np.argmax(trajectory.is_sampled[lane]))
        np.testing.assert_allclose(found[lane, first], reward[lane].sum(), rtol=1e-5)


def test_skyrl_201_the_reward_of_every_turn_counts():
    trajectory = trajectory_of("act")
    reward = tiny.total(trajectory.reward)
    assert (np.count_nonzero(reward, axis=1) >= 2).all()
    given = credit.rloo(jax.tree.map(jnp.asarray, trajectory), jnp.asarray(reward), training.LearnerConfig(group_size=3))
    whole = reward.sum(1).reshape(2, 3)
    wanted = (whole - (whole.sum(1, keepdims=True) - whole) / 2).reshape(6, 1)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(np.asarray(given.advantage), np.where(trajectory.is_sampled, wanted, 0.0), atol=1e-5)


def test_agent_lightning_489_groups_do_not_mix_tasks():
    """Prompts tell the task. The learner's own groups are those of equal prompts, and an episode is compared with them alone."""
    say = text.template(tiny.TOKENIZER, "{number}", number=text.choice(["Move:", " higher", " lower", " yes:"]))
    environment = envs.make_number_guess(tiny.TOKENIZER, 4, one_guess=True)
    interaction = tiny.make(environment._replace(describe=lambda state: say(number=state.number)), Act())
    config = training.LearnerConfig(
        num_lanes=32, group_size=4, num_blocks=2, num_minibatches=1, microbatch_size=16, num_updates=1, num_epochs=1, estimator="rloo"
    )

    def watch(trajectory, reward, config):
        given = credit.rloo(trajectory, reward, config)
        advantage = jnp.sum(jnp.where(trajectory.is_sampled, given.advantage, 0.0), axis=1)
        seen = {"prompt": trajectory.token[:, 0], "reward": reward.sum(1), "advantage": advantage}
        return given._replace(metrics={f"{name} {lane}": values[lane] for name, values in seen.items() for lane in range(32)})

    shape = tiny.config(interaction)
    learner = training.make_learner(interaction, tiny.model(), shape, config, estimator=watch)
    metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))[1]
    seen = {name: np.array([float(metrics[f"{name} {lane}"]) for lane in range(32)]) for name in ("prompt", "reward", "advantage")}
    prompt, reward, advantage = seen.values()
    groups = prompt.reshape(8, 4)
    assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) > 1
    for lane in range(32):
        others = [other for other in range(lane // 4 * 4, lane // 4 * 4 + 4) if other != lane]
        np.testing.assert_allclose(advantage[lane], reward[lane] - reward[others].mean(), atol=1e-6)
    assert reward.std() > 0


def test_rllm_575_later_turns_are_not_cut_silently():
    """A trajectory that is too short leaves episodes unfinished, and says so; a context that is too short is refused."""
    name, interaction = "act", tiny.agent("act")
    trajectory = trajectory_of(name, trajectory_length=interaction.size.read + interaction.size.written + 2)
    usage = rollout.Usage(jnp.float32(1.0), jnp.int32(1))
    metrics = training.metrics.trajectory_metrics(jax.tree.map(jnp.asarray, trajectory), usage)
    assert float(metrics["unfinished_fraction"]) == 1.0
    assert float(training.metrics.trajectory_metrics(jax.tree.map(jnp.asarray, trajectory_of(name)), usage)["unfinished_fraction"]) == 0.0
    with pytest.raises(ValueError, match="set RolloutConfig.context_length >="):
        rollout.check_rollout(interaction, tiny.config(interaction, context_length=interaction.size.context - 1), len(tiny.TOKENIZER))
    with pytest.raises(ValueError, match="set RolloutConfig.trajectory_length >"):  # else what goes on is read again for ever
        shape = tiny.config(interaction, restarts=True, trajectory_length=interaction.size.context)
        rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))


def test_tinker_cookbook_506_truncation_is_not_failure():
    """The value of the last observation stands for what would have followed a truncated episode."""
    trajectory = jax.tree.map(jnp.asarray, trajectory_of("limit"))
    reward = credit.total_reward(trajectory.reward)
    found = np.asarray(credit.monte_carlo(trajectory, reward, training.LearnerConfig()).advantage)
    closing = np.asarray(jnp.sum(jnp.where(trajectory.is_truncated, trajectory.value, 0.0), 1))
    for lane in range(6):
        first = int(np.argmax(np.asarray(trajectory.is_sampled[lane])))
        np.testing.assert_allclose(found[lane, first], float(reward[lane].sum()) + closing[lane], rtol=1e-4)


def test_gymnax_109_terminated_is_not_truncated():
    ended, cut = trajectory_of("act"), trajectory_of("limit")
    assert ended.ends_episode.any(1).all() and not ended.is_truncated.any()
    assert cut.is_truncated.any(1).all() and (cut.is_truncated <= cut.ends_episode).all()
    last = np.argmax(ended.ends_episode, axis=1)
    assert (ended.discount[np.arange(6), last] == 0).all() and ended.is_sampled[np.arange(6), last].all()


def test_verl_2445_no_lane_waits_for_a_straggler():
    """Lanes of different lengths all finish: at one token a call there are as many calls as the longest episode has tokens, and no more."""
    _, trajectory, usage = tiny.roll("think", *tiny.keys(8), widths=())
    num_tokens = (trajectory.token_kind > 0).sum(1)
    assert trajectory.ends_episode.any(1).all() and len(set(num_tokens.tolist())) > 1
    assert int(usage.num_calls) == num_tokens.max(), "no lane waits for another at the end of a turn"


def test_ragen_52_what_the_grammar_does_not_know_cannot_be_written():
    """A model that has collapsed, to where it gives one token nearly all its probability, still writes legal strings of several tokens."""
    interaction = tiny.agent("act")
    weights = tiny.params().trainable
    loud = Variables({**weights, "head": weights["head"] * 1e4})
    shape = tiny.config(interaction)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(8))
    _, trajectory, _ = jax.jit(lambda lanes: rollout.roll_out(interaction, tiny.model(), shape, loud, {}, lanes))(lanes)
    grammar, ends = interaction.grammar, np.asarray(trajectory.ends_segment)
    assert np.asarray(trajectory.is_legal)[ends].all() and ends.sum() >= 8
    logits = tiny.model().logits(loud, tiny.model().forward(loud, trajectory.token, trajectory.context_start), grammar.candidates)
    favourite, written = np.asarray(jnp.argmax(logits, -1)), np.asarray(trajectory.is_sampled)
    assert (grammar.candidates[favourite] != np.asarray(trajectory.sampled))[written].any(), "the grammar had to overrule the model"
