"""`act` over an environment of chance, against its account in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.types import Kind, Written
from tests import agents_fixtures as plain
from tests import tiny


def act(environment, illegal_penalty=0.125, forgets=False):
    return "act", environment, {"illegal_penalty": illegal_penalty, "forgets": forgets}


ENVIRONMENTS = {
    "ends": plain.make_riddle(3),
    "is cut": envs.time_limit(plain.make_riddle(5), 2),
    "costs": envs.turn_cost(plain.make_riddle(3), 0.5),
}


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_turns_are_those_of_the_environment(name, forgets):
    recipe = act(ENVIRONMENTS[name], forgets=forgets)
    lives = plain.live(recipe, plain.build(recipe), range(12))
    illegal = ENVIRONMENTS[name].worst_reward - 0.125
    assert any(turn.reward == illegal for life in lives for turn in life), "illegal texts are among them"
    assert all(turn.forget == forgets and turn.kind == Kind.ACTION for life in lives for turn in life)
    assert any(life[-1].terminated for life in lives) or name == "is cut"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_cut_turn_has_nothing_to_write_and_says_what_happened(name):
    recipe = act(ENVIRONMENTS[name])
    ends = [life[-1] for life in plain.live(recipe, plain.build(recipe), range(12), longest=True)]
    assert all(turn.truncated and turn.budget == 0 and turn.read for turn in ends), "illegal turns count, so that no life goes on for ever"


@pytest.mark.parametrize("forgets", [False, True])
def test_bounds_are_reached(forgets):
    recipe = act(plain.make_riddle(3, full=True), forgets=forgets)
    interaction = plain.build(recipe)
    for life in plain.live(recipe, interaction, range(3), longest=True):
        assert plain.extent(life) == (interaction.size.life, interaction.size.context)
        assert len(life) - 1 == interaction.size.turns and max(len(turn.read) for turn in life) == interaction.size.read


def test_an_illegal_text_is_no_step_whatever_string_it_resembles():
    """A string that exists in the grammar but not in this state is illegal: the state stays, the least is earned, the penalty charged."""
    environment = envs.turn_cost(plain.make_riddle(3), 0.5)
    interaction = agents.act(environment, illegal_penalty=0.25)
    state, turn = interaction.start(jax.random.key(0), {})
    missing = int(jnp.argmin(turn.legal))
    said = text.pad(text.constant(plain.STRINGS[missing]), interaction.size.written)
    written = plain.Written(said, jnp.int32(-1), jnp.bool_(False))
    after, answer = interaction.advance(jax.random.key(1), {}, state, written)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(a == b), after[0], state[0])) and int(after[1]) == 1
    assert (float(answer.reward.process), float(answer.reward.outcome)) == (-0.25, -0.5)


@pytest.mark.parametrize("worst", [0.25, float("-inf"), float("nan")])
def test_an_illegal_text_cannot_pay_or_cost_without_bound(worst):
    with pytest.raises(ValueError, match="set it to the least that a step can earn, or to 0"):
        agents.act(plain.make_riddle(3)._replace(worst_reward=worst))


def test_expert_and_anchor_are_those_of_the_environment():
    environment = envs.make_number_guess(tiny.TOKENIZER, 4, one_guess=True)
    interaction = agents.act(environment)
    state, _ = interaction.start(jax.random.key(0), {})
    guess = environment.expert(jax.random.key(1), state[0])
    assert plain.ids(interaction.expert(jax.random.key(1), state)) == text.token_ids(tiny.TOKENIZER, f" {int(guess)}")
    assert int(interaction.anchor(state)) == int(environment.anchor(state[0]))
    assert agents.act(tiny.make_walk()).expert is None and agents.act(tiny.make_walk()).anchor is None


def test_an_environment_without_end_is_refused():
    with pytest.raises(ValueError, match=r"time_limit\(environment, num_steps\)"):
        agents.act(plain.make_riddle()._replace(max_steps=None))


def test_words_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match=r"describe returns str, not a Text.*arl\.text\.template"):
        agents.act(plain.make_riddle()._replace(describe=lambda state: "Guess:"))


def lived(environment):
    """Traces the first turns of a life."""
    interaction = agents.act(environment)
    state, _ = interaction.start(jax.random.key(0), {})
    silence = Written(text.empty(interaction.size.written), jnp.int32(0), jnp.bool_(True))
    return jax.eval_shape(lambda key: interaction.advance(key, {}, state, silence), jax.random.key(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda game: game._replace(max_steps=0), "max_steps is 0"),
        (lambda game: game._replace(legal=lambda state: jnp.ones(3, bool)), r"legal is of shape \(3,\); .* \(4,\)"),
        (lambda game: game._replace(legal=lambda state: True), r"legal is of shape \(\)"),
        (
            lambda game: stepping(game, state=lambda state: state._replace(low=state.low * 1.0)),
            "state.low float32.* in place of state.low int32",
        ),
        (lambda game: stepping(game, state=tuple), "another form of state"),
        (lambda game: stepping(game, step=tuple), r"something else than \(state, Step\)"),
        (lambda game: stepping(game, step=lambda step: step._replace(reward=jnp.ones(1))), "no scalar"),
    ],
)
def test_an_environment_whose_parts_do_not_fit_is_refused(wrong, words):
    game = envs.make_number_guess(tiny.TOKENIZER, 4, one_guess=True)
    lived(game)
    with pytest.raises(ValueError, match=words) as error:
        lived(wrong(game))
    assert "\n" not in str(error.value)


def stepping(game, state=lambda state: state, step=lambda step: step):
    """A game whose step returns something else."""

    def other(key, before, action):
        after, followed = game.step(key, before, action)
        return state(after), step(followed)

    return game._replace(step=other)


def test_an_expert_that_speaks_instead_of_acting_is_refused():
    game = envs.make_number_guess(tiny.TOKENIZER, 4, one_guess=True)
    interaction = agents.act(game._replace(expert=lambda key, state: text.say_choice(game.grammar, state.number)))
    with pytest.raises(ValueError, match="no index of a legal string"):
        interaction.expert(jax.random.key(0), interaction.start(jax.random.key(0), {})[0])


def test_what_is_paid_on_the_way_is_paid_for_legal_actions_alone():
    """Such as the bits that an answer gave: a function of the states before and after."""
    environment = envs.time_limit(envs.make_number_guess(tiny.TOKENIZER, 8), 5)

    def bits(before, after):
        return jnp.log2((before.inner.high - before.inner.low) / (after.inner.high - after.inner.low))

    interaction = agents.act(environment, illegal_penalty=0.25, discount=0.5, process=bits)
    state, _ = interaction.start(jax.random.key(0), {})
    low, high = 0, 8
    for guess in (3, 5):
        said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, f" {guess}")), interaction.size.written)
        illegal = interaction.advance(jax.random.key(1), {}, state, plain.Written(said, jnp.int32(-1), jnp.bool_(False)))[1]
        assert (float(illegal.reward.process), float(illegal.discount)) == (-0.25, 0.5)
        number = int(state[0].inner.number)
        now = (guess, guess + 1) if guess == number else (max(low, guess + 1), high) if number > guess else (low, min(high, guess))
        state, turn = interaction.advance(jax.random.key(1), {}, state, plain.Written(said, jnp.int32(guess), jnp.bool_(True)))
        assert float(turn.reward.process) == pytest.approx(float(np.log2((high - low) / (now[1] - now[0]))))
        assert (float(turn.reward.outcome), float(turn.discount)) == (-1.0, 0.5)
        low, high = now
