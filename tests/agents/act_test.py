"""`Act` over an environment of chance, against its account in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.agents import Act
from arl.types import ArlError, Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny

ENVIRONMENTS = {
    "ends": (plain.make_riddle(3), {}),
    "is cut": (plain.make_riddle(5), {"time_limit": 2}),
    "costs": (plain.make_riddle(3), {"step_cost": 0.5}),
}


def act(name="ends", resets_context=False):
    """A recipe, as in `agents_fixtures`."""
    environment, options = ENVIRONMENTS[name]
    return "act", environment, {"illegal_penalty": 0.125, "resets_context": resets_context, **options}


@pytest.mark.parametrize("resets_context", [False, True])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_turns_are_those_of_the_environment(name, resets_context):
    recipe = act(name, resets_context)
    episodes = plain.live(recipe, plain.build(recipe), range(12))
    illegal = ENVIRONMENTS[name][0].worst_reward - recipe[2].get("step_cost", 0.0) - 0.125
    assert any(turn.reward == illegal for episode in episodes for turn in episode), "illegal texts are among them"
    assert all(turn.reset_context == resets_context and turn.kind == Kind.ACTION for episode in episodes for turn in episode)
    assert any(episode[-1].terminated for episode in episodes) or name == "is cut"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_truncated_turn_asks_for_nothing_and_says_what_happened(name):
    recipe = act(name)
    ends = [episode[-1] for episode in plain.live(recipe, plain.build(recipe), range(12), longest=True)]
    assert all(turn.truncated and turn.budget == 0 and turn.read for turn in ends), (
        "illegal turns count, so that no episode goes on for ever"
    )


@pytest.mark.parametrize(("max_steps", "time_limit", "wanted"), [(3, 0, 3), (3, 2, 2), (3, 5, 3), (None, 4, 4)])
def test_the_shorter_of_time_limit_and_max_steps_truncates_an_attempt(max_steps, time_limit, wanted):
    """Counted in actions, legal or not, and in the size of the episode."""
    environment = plain.make_riddle(5)._replace(max_steps=max_steps)
    interaction = tiny.make(environment, Act(time_limit=time_limit))
    assert interaction.size.turns == wanted
    state, _ = interaction.start(jax.random.key(0), {})
    illegal = Segment(text.empty(interaction.size.written), jnp.int32(-1), jnp.bool_(False))
    for count in range(1, wanted + 1):
        state, turn = interaction.advance(jax.random.key(count), {}, state, illegal)
        assert (bool(turn.truncated), bool(turn.terminated)) == (count == wanted, False)


@pytest.mark.parametrize("resets_context", [False, True])
def test_bounds_of_the_size_are_reached(resets_context):
    recipe = ("act", plain.make_riddle(3, full=True), {"illegal_penalty": 0.125, "resets_context": resets_context})
    interaction = plain.build(recipe)
    for episode in plain.live(recipe, interaction, range(3), longest=True):
        assert plain.extent(episode) == (interaction.size.episode, interaction.size.context)
        assert len(episode) - 1 == interaction.size.turns and max(len(turn.read) for turn in episode) == interaction.size.read


def test_an_illegal_text_is_no_step_whatever_string_it_resembles():
    """A string that exists in the grammar but not in this state is illegal: the state stays, the least is earned, the penalty charged."""
    interaction = tiny.make(plain.make_riddle(3), Act(illegal_penalty=0.25, step_cost=0.5))
    state, turn = interaction.start(jax.random.key(0), {})
    missing = int(jnp.argmin(turn.legal))
    said = text.pad(text.constant(plain.STRINGS[missing]), interaction.size.written)
    written = Segment(said, jnp.int32(-1), jnp.bool_(False))
    after, answer = interaction.advance(jax.random.key(1), {}, state, written)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(a == b), after.environment, state.environment))
    assert [int(num_turns) for num_turns in (*state.layers, *after.layers)] == [0, 1]
    assert (float(answer.reward.process), float(answer.reward.outcome)) == (-0.25, -0.5)


@pytest.mark.parametrize("resets_context", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_of_a_long_first_text_the_end_is_read_after_an_illegal_text(full, resets_context):
    """And so the answers, as long as they are said to be, bound the episode; with `full`, to the token."""
    environment = plain.make_riddle(4, full, answer_capacity=3)
    recipe = ("act", environment, {"illegal_penalty": 0.125, "resets_context": resets_context})
    interaction, seen = plain.build(recipe), 0
    size, whole = interaction.size, tiny.make(environment._replace(answer_capacity=None), Act(resets_context=resets_context)).size
    for episode in plain.live(recipe, interaction, range(8), longest=full):
        plain.assert_fits(episode, size)
        assert plain.extent(episode)[0] == size.episode or not full
        first, second = episode[:2]
        assert len(first.read) == size.read == 5 and all(len(turn.read) <= 3 for turn in episode[1:])
        if first.written not in first.legal:
            assert second.read == first.read[-3:] and second.legal == first.legal and second.reward == -0.125
            seen += 1
    assert seen > 0
    assert whole.episode - size.episode == 4 * (5 - 3) and (size.read, size.turns) == (whole.read, whole.turns)
    assert size.context == (whole.context if resets_context else size.episode)


@pytest.mark.parametrize("answer_capacity", [0, -1, 6])
def test_an_answer_that_has_no_room_or_more_than_any_text_is_refused(answer_capacity):
    environment = plain.make_riddle(3)._replace(answer_capacity=answer_capacity)
    with pytest.raises(ArlError, match=rf"answer_capacity is {answer_capacity}; set it between 1 and 5, the capacity of describe") as error:
        tiny.make(environment, Act())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("worst", [0.25, float("-inf"), float("nan")])
def test_an_illegal_text_cannot_pay_or_cost_without_bound(worst):
    with pytest.raises(ArlError, match="set it to the least that a step can earn, or to 0"):
        tiny.make(plain.make_riddle(3)._replace(worst_reward=worst), Act())


def test_the_expert_of_actions_is_that_of_the_environment():
    """It writes the string of the action, and is asked in the environment's state; where there is none nobody is an expert."""
    environment = tiny.make_guess()
    interaction = tiny.make(environment, Act())
    state, _ = interaction.start(jax.random.key(0), {})
    guess = environment.expert(jax.random.key(1), state.environment)
    said = interaction.experts[Kind.ACTION](jax.random.key(1), state, jnp.int32(0))
    assert plain.ids(said) == text.token_ids(tiny.TOKENIZER, f" {int(guess)}")
    assert interaction.has_expert and set(interaction.experts) == {Kind.ACTION}
    assert tiny.make(tiny.make_walk(), Act()).experts == {} and not tiny.make(tiny.make_walk(), Act()).has_expert


def test_experts_of_the_task_are_asked_in_the_environments_state_and_of_the_attempt():
    """The task's own expert of actions goes before that of the environment; that of notes reflects too."""
    say = lambda index: text.say_choice(tiny.make_guess().grammar, index)
    experts = {
        Kind.ACTION: lambda key, state, attempt: say((state.number + attempt) % 4),
        Kind.NOTE: lambda key, state, attempt: say(state.number),
    }
    given = []
    interaction = tiny.make(tiny.make_guess(), Act(step_cost=0.5), experts=lambda limits: given.append(limits) or experts)
    assert [(limits.time_limit, limits.step_cost, limits.num_attempts) for limits in given] == [(0, 0.5, 1)]
    state, _ = interaction.start(jax.random.key(0), {})
    number = int(state.environment.number)
    for kind, wanted in [(Kind.ACTION, (number + 1) % 4), (Kind.NOTE, number), (Kind.REFLECTION, number)]:
        said = interaction.experts[kind](jax.random.key(0), state, jnp.int32(1))
        assert plain.ids(said) == text.token_ids(tiny.TOKENIZER, f" {wanted}")


def test_the_state_is_the_environments_and_the_number_of_turns():
    """So that the hash of a state is that of the environment's."""
    environment = tiny.make_guess()
    state, _ = tiny.make(environment, Act()).start(jax.random.key(0), {})
    same = jax.tree.map(lambda a, b: bool(a == b), state.environment, environment.reset(jax.random.key(0)))
    assert jax.tree.all(same) and len(state.layers) == 1 and int(state.layers[0]) == 0
    assert int(environment.state_hash(state.environment)) == int(environment.state_hash(environment.reset(jax.random.key(0))))


def test_an_environment_without_end_is_refused():
    with pytest.raises(ArlError, match=r"no bound on its steps; set Act\.time_limit >= 1"):
        tiny.make(plain.make_riddle()._replace(max_steps=None), Act())


def test_a_description_that_is_no_text_is_refused():
    with pytest.raises(ArlError, match=r"describe returns str, not a Text.*arl\.text\.template"):
        tiny.make(plain.make_riddle()._replace(describe=lambda state: "Guess:"), Act())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(illegal_penalty=-0.1), r"Act\.illegal_penalty is -0\.1; set it to a number >= 0"),
        (dict(illegal_penalty=float("inf")), r"Act\.illegal_penalty is inf"),
        (dict(step_cost=float("nan")), r"Act\.step_cost is nan; set it to a number >= 0"),
        (dict(information_bonus=-1.0), r"Act\.information_bonus is -1\.0; set it to a number >= 0"),
        (dict(discount=1.5), r"Act\.discount is 1\.5, .* between 0 and 1"),
        (dict(time_limit=-1), r"Act\.time_limit is -1; set it >= 0"),
        (dict(time_limit=2.0), r"Act\.time_limit is 2\.0; set it to a whole number"),
    ],
)
def test_options_of_act_that_cannot_be_are_refused(options, words):
    with pytest.raises(ArlError, match=words):
        Act(**options)


def lived(environment):
    """Traces the first turns of an episode."""
    interaction = tiny.make(environment, Act())
    state, _ = interaction.start(jax.random.key(0), {})
    silence = Segment(text.empty(interaction.size.written), jnp.int32(0), jnp.bool_(True))
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
        (lambda game: stepping(game, step=tuple), r"anything but \(state, Step\)"),
        (lambda game: stepping(game, step=lambda step: step._replace(reward=jnp.ones(1))), "no scalar"),
    ],
)
def test_an_environment_whose_parts_do_not_fit_is_refused(wrong, words):
    game = tiny.make_guess()
    lived(game)
    with pytest.raises(ArlError, match=words) as error:
        lived(wrong(game))
    assert "\n" not in str(error.value)


def stepping(game, state=lambda state: state, step=lambda step: step):
    """A game whose step returns something else."""

    def other(key, before, action):
        after, followed = game.step(key, before, action)
        return state(after), step(followed)

    return game._replace(step=other)


def test_an_expert_that_speaks_instead_of_acting_is_refused():
    game = tiny.make_guess()
    interaction = tiny.make(game._replace(expert=lambda key, state: text.say_choice(game.grammar, state.number)), Act())
    with pytest.raises(ArlError, match="no index of a legal string"):
        interaction.experts[Kind.ACTION](jax.random.key(0), interaction.start(jax.random.key(0), {})[0], jnp.int32(0))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_bits_are_paid_for_legal_actions_alone(scale):
    """By the environment's states before and after; the answer to an illegal text tells nothing."""

    def bits(before, after):
        return jnp.log2((before.high - before.low) / (after.high - after.low))

    environment = envs.make_number_guess(tiny.TOKENIZER, 8)
    interaction = tiny.make(
        environment, Act(illegal_penalty=0.25, discount=0.5, time_limit=5, information_bonus=scale), information_gain=bits
    )
    state, _ = interaction.start(jax.random.key(0), {})
    low, high = 0, 8
    for guess in (3, 5):
        said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, f" {guess}")), interaction.size.written)
        illegal = interaction.advance(jax.random.key(1), {}, state, Segment(said, jnp.int32(-1), jnp.bool_(False)))[1]
        assert (float(illegal.reward.process), float(illegal.discount)) == (-0.25, 0.5)
        number = int(state.environment.number)
        now = (guess, guess + 1) if guess == number else (max(low, guess + 1), high) if number > guess else (low, min(high, guess))
        state, turn = interaction.advance(jax.random.key(1), {}, state, Segment(said, jnp.int32(guess), jnp.bool_(True)))
        assert float(turn.reward.process) == pytest.approx(scale * float(np.log2((high - low) / (now[1] - now[0]))))
        assert (float(turn.reward.outcome), float(turn.discount)) == (-1.0, 0.5)
        low, high = now


def test_bits_that_nobody_counts_are_refused():
    with pytest.raises(ArlError, match=r"set Act\.information_bonus=0, or take Mastermind or TwentyQuestions"):
        tiny.make(tiny.make_guess(), Act(information_bonus=1.0))


def test_an_act_that_is_not_innermost_is_refused():
    with pytest.raises(ArlError, match="innermost layer; put it first, and once"):
        tiny.make(tiny.make_guess(), Act(), Act(name="again"))
