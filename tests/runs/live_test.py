"""Stepping through an episode on the host, against rollouts with the same keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, rollout, text
from arl.agents import Act, Attempts, History, Reflection
from arl.rollout import Decoding
from arl.runs import transcript
from arl.runs.live import live
from arl.types import ArlError, Kind
from tests import tiny

SEEDS = range(3)


def with_policy(name: str, **options):
    """A composition at the beginning of an episode, with the model that `tiny.roll` rolls out."""
    return live(tiny.agent(name), policy=tiny.model(), variables=tiny.params(), curriculum=tiny.CURRICULUM, **options)


def segments(here) -> list[dict]:
    """What was written."""
    return [event for event in here.history if event["who"] == transcript.WROTE]


def same_as_rollout(here, trajectory):
    """Whether an episode that is over is the one in the only lane of a trajectory."""
    trajectory = jax.tree.map(lambda x: x[0], trajectory)
    is_read, is_sampled, ends = trajectory.token_kind > 0, trajectory.is_sampled, trajectory.ends_segment
    assert list(here.tokens) == trajectory.token[is_read].tolist()
    wrote = segments(here)
    sampled = [pair for event in wrote for pair in zip(event["ids"], event["log_probs"], strict=True) if pair[1] is not None]
    assert [token for token, _ in sampled] == trajectory.sampled[is_sampled].tolist()
    np.testing.assert_allclose([log_prob for _, log_prob in sampled], trajectory.log_prob[is_sampled], atol=1e-5)
    assert [event["is_legal"] for event in wrote] == trajectory.is_legal[ends].tolist()
    assert [event["rewards"] for event in wrote] == list(zip(*(part[ends].tolist() for part in trajectory.reward)))
    assert [event["kind"] for event in wrote] == [Kind(kind).name for kind in trajectory.kind[ends]]
    assert [event["attempt"] for event in wrote] == trajectory.attempt[ends].tolist()
    assert here.is_truncated == trajectory.is_truncated.any()
    np.testing.assert_allclose(here.rewards, [part.sum() for part in trajectory.reward], atol=1e-6)


@pytest.mark.parametrize("name", ["act resets", "limit", "think", "annealed", "free notes", "memory", "tools", "thoughts in attempts"])
def test_sampled_episodes_are_those_of_a_rollout(name):
    here = with_policy(name)
    for seed in SEEDS:
        key = jax.random.fold_in(jax.random.key(7), seed)
        here, values = here.restart(key), []
        while not here.is_over:
            values.append(here.value)
            here = here.sample()
        _, trajectory, _ = tiny.roll(name, *jax.random.split(key, (2, 1)))
        same_as_rollout(here, trajectory)
        assert {event["author"] for event in segments(here)} == {"policy"}
        begins = np.flatnonzero(trajectory.has_value[0] & trajectory.is_sampled[0])
        after_end = np.concatenate([[True], trajectory.ends_segment[0][trajectory.is_sampled[0]][:-1]])
        np.testing.assert_allclose(values, trajectory.value[0, begins[after_end]], atol=1e-4)
        shown = transcript.to_text(transcript.events(here.agent, tiny.TOKENIZER, trajectory, 0))
        assert repr(here).startswith(shown + "\nthe episode is over")


@pytest.mark.parametrize("decoding", [Decoding(temperature=0.0), Decoding(temperature=0.7, top_k=3)])
def test_narrowed_episodes_are_those_of_a_rollout(decoding):
    here = with_policy("free notes", decoding=decoding, seed=5)
    while not here.is_over:
        here = here.sample()
    _, trajectory, _ = tiny.roll("free notes", *jax.random.split(jax.random.key(5), (2, 1)), decoding=decoding)
    same_as_rollout(here, trajectory)


def test_expert_episodes_are_those_of_a_rollout():
    """Actions and reflections that depend on the key, in attempts whose first words the grammar goes on from."""
    walk = tiny.make_walk(2)
    walk = walk._replace(expert=lambda key, state: jax.random.categorical(key, jnp.log(1.0 * walk.legal(state))))
    numbers = text.stack([text.token_ids(tiny.TOKENIZER, symbol) for symbol in tiny.SYMBOLS])
    note = lambda key, state, attempt: text.lookup(numbers, jax.random.randint(key, (), 0, 4))
    agent = tiny.make(walk, Act(), Attempts(3, Reflection(2, tiny.SYMBOLS, stop=True)), experts=lambda limits: {Kind.NOTE: note})
    config, key = tiny.config(agent), jax.random.key(2)
    here = live(agent, seed=2, policy=tiny.model(), variables=tiny.params())
    while not here.is_over:
        here = here.expert()

    @jax.jit
    def roll():
        lanes = rollout.start_lanes(agent, {}, config, *jax.random.split(key, (2, 1)), has_writer=True)
        return rollout.roll_out(agent, tiny.model(), config, tiny.params(), {}, lanes, rollout.expert_writer(agent))[1]

    same_as_rollout(here, jax.tree.map(np.asarray, roll()))
    assert {event["author"] for event in segments(here)} == {"expert"}


def test_an_expert_may_know_some_kinds_of_segments_alone():
    walk = tiny.make_walk(2)._replace(expert=lambda key, state: jnp.int32(0))  # which is not legal at first
    agent = tiny.make(walk, Act(), agents.Think(2, tiny.SYMBOLS))
    agent = agent._replace(experts={Kind.ACTION: agent.experts[Kind.ACTION]})
    here = live(agent, curriculum={"expert": {"fraction": 0.0}})
    with pytest.raises(ArlError, match="there is no expert for THINK"):
        here.expert()
    with pytest.raises(
        ArlError, match="the expert's text ' left right' is not legal here, or too short or too long; write ' left down' or "
    ):
        here.write(" 1 1").expert()
    assert segments(here.write(" 1 1").write(" up").write(" 1 1").expert())[-1]["text"] == " left right"


def test_what_was_sampled_can_be_written_by_hand():
    """Whoever writes, the same tokens earn the same, and have the same log-probs."""
    here = with_policy("tools", seed=1)
    other = here
    while not here.is_over:
        here = here.sample()
        other = other.write(segments(here)[-1]["text"])
    assert other.tokens == here.tokens and other.rewards == here.rewards and other.value == here.value
    for mine, theirs in zip(segments(other), segments(here), strict=True):
        assert mine == {**theirs, "author": "hand"}


def test_a_point_can_be_left_in_many_ways():
    here = live(tiny.agent("act"))
    before = repr(here)
    points = {string: here.write(string) for string in here.legal or ()}
    assert list(points) == [" left down", " up right down left", " up"]  # the first string is not legal at the first step
    assert [point.rewards.outcome for point in points.values()] == [1.5, 2.5, 3.5]
    assert repr(here) == before and here.write(" up").tokens == points[" up"].tokens
    assert segments(points[" up"])[0]["log_probs"] == (None, None) and points[" up"].value is None


def test_it_shows_what_is_read_and_what_may_be_written():
    here = live(tiny.agent("reflection"))
    assert here.kind == Kind.ACTION and here.budget == 1 and here.attempt == 0 and not here.is_over
    assert list(here.legal) == list(tiny.SYMBOLS) and here.context == here.history[-1]["text"] == "Guess:"
    assert "next: ACTION, attempt 1, token budget 1;" in repr(here) and "legal: ' 0', ' 1', ' 2', ' 3'" in repr(here)
    here = here.write(" 3")
    assert here.kind == Kind.REFLECTION and here.legal is None and "free text of ' 0', ' 1', ' 2', ' 3'" in here.describe()
    here = here.write(" 1 2")
    assert here.kind == Kind.ACTION and here.attempt == 1 and here.history[-1]["resets_context"]
    assert here.context.endswith(" 1 2Guess:") and "Guess: 3" not in here.context and "the context begins anew" in repr(here)
    assert not any(words in repr(here) for words in ("Array", "int32", "Lane"))


def test_many_legal_texts_are_abbreviated():
    task = envs.NumberGuess(num_numbers=40).make(tiny.TOKENIZER)
    here = live(agents.make_agent(task, [Act()]))
    assert len(here.legal) == 40 and here.describe().endswith("' 11', and 28 more")


def test_a_text_that_is_not_legal_is_illegal():
    here = live(tiny.agent("act"), policy=tiny.model(), variables=tiny.params())
    unknown, not_now, begun = here.write(" reward"), here.write(" left right"), here.write(" left")
    for point in (unknown, not_now, begun):
        last = segments(point)[-1]
        assert not last["is_legal"] and point.rewards.process < 0 and "illegal" in repr(point)
        assert -np.inf in last["log_probs"], "the policy could not have written it"
    assert unknown.kind == Kind.ACTION and unknown.write(" up").rewards.outcome > 0


def test_the_budget_ends_a_text():
    here = live(tiny.agent("reflection")).write(" 0")
    note = segments(here.write(" 1 2 3 1"))[-1]
    assert note["text"] == " 1 2" and note["is_legal"], "a text that may end anywhere is legal up to its budget"
    long = segments(live(tiny.agent("act")).write(" right" * 9))[-1]
    assert long["text"] == " right" * 4 and not long["is_legal"]


def test_a_text_that_no_rollout_can_write_is_refused():
    words = [" up left", " up right down", " down down down"]
    environment = tiny.make_walk(2)._replace(grammar=text.legal_strings(tiny.TOKENIZER, words), legal=lambda state: jnp.ones(3, bool))
    here = live(tiny.make(environment, Act()))
    assert segments(here.write(" up right down"))[-1]["log_probs"] == (None,) * 3
    for string in (" down left", " up left left", " up right left", ""):
        if string:
            with pytest.raises(ArlError, match="cannot be written here, because the grammar makes .* of it; write ' "):
                here.write(string)
        else:
            assert not segments(here.write(string))[-1]["is_legal"], "a stop token that the grammar does not know"
    with pytest.raises(ArlError, match="stop token"):
        here.write(tiny.TOKENIZER.eos_token)
    assert here.hint(" up rihgt down").startswith("' up right down'")


def test_what_the_grammar_forces_at_the_beginning_is_part_of_the_text():
    environment = tiny.make_walk(2)._replace(
        grammar=text.legal_strings(tiny.TOKENIZER, [" up left", " up right"]), legal=lambda state: jnp.ones(2, bool)
    )
    here = live(tiny.make(environment, Act()), policy=tiny.model(), variables=tiny.params())
    assert list(here.legal) == [" up left", " up right"] and here.context == "Move: up" and here.budget == 1
    last = segments(here.write(" up right"))[-1]
    assert last["text"] == " up right" and last["is_legal"] and last["log_probs"][0] is None and last["log_probs"][1] < 0
    with pytest.raises(ArlError, match="cannot be written here"):
        here.write(" right")


def test_after_the_end_nothing_is_written():
    here = live(tiny.agent("limit"), policy=tiny.model(), variables=tiny.params())
    while not here.is_over:
        here = here.sample()
    assert here.is_truncated and here.budget == 0 and not here.legal
    assert here.describe().startswith("the episode is over (truncated); return +")
    for step in (here.sample, lambda: here.write(" up"), here.expert):
        with pytest.raises(ArlError, match=r"^the episode is over; start another with restart\(seed\)$"):
            step()


def test_programs_are_compiled_once():
    counts = {"step": 0, "describe": 0}
    walk = tiny.make_walk(4)

    def counted(name):
        def function(*arguments):
            counts[name] += 1
            return getattr(walk, name)(*arguments)

        return function

    environment = walk._replace(step=counted("step"), describe=counted("describe"))
    here = live(tiny.make(environment, Act(), Attempts(2, History())), policy=tiny.model(), variables=tiny.params())
    here = here.write(" up").sample()
    before = dict(counts)
    while not here.is_over:
        here = here.sample()
    here.restart(3).write(" up")
    assert counts == before


def test_what_is_missing_is_told():
    agent = tiny.agent("act")
    cases = {
        "tokenizer": lambda: live(agent._replace(task=None)),
        "make_agent": lambda: live(tiny.make_walk()),
        "the policy has no variables; give": lambda: live(agent, policy=tiny.model()),
        "there are variables, and no policy that reads them; give": lambda: live(agent, variables=tiny.params()),
        "the policy is a str; give an arl.Policy": lambda: live(agent, policy="0.1M", variables=tiny.params()),
        "the variables are a dict; give arl.Variables": lambda: live(agent, policy=tiny.model(), variables=tiny.params().trainable),
        r"variables.trainable\['head'\] is nothing where this policy has float32": lambda: live(
            agent, policy=tiny.model(), variables=tiny.params()._replace(trainable={})
        ),
        r"variables.trainable\['head'\] is str where": lambda: live(
            agent, policy=tiny.model(), variables=tiny.params()._replace(trainable={**tiny.params().trainable, "head": "loud"})
        ),
        "3 is no text; write a string, such as ' left'": lambda: live(agent).write(3),  # pyright: ignore[reportArgumentType]
        "context_length": lambda: live(agent, policy=tiny.model(context_length=8), variables=tiny.params()),
        "seed": lambda: live(agent, seed=0.5),
        "no policy": lambda: live(agent).sample(),
        "no expert for ACTION": lambda: live(agent).expert(),
    }
    for said, call in cases.items():
        with pytest.raises(ArlError, match=said):
            call()
    assert live(agent._replace(task=None), tokenizer=tiny.TOKENIZER).write(" up").rewards.outcome == 3.5


def test_schedules_are_0_unless_they_are_given():
    agent = tiny.agent("annealed")
    reset = live(agent).write(" 0").write(" 1 2")
    assert reset.history[-1]["resets_context"]
    kept = live(agent, curriculum={"attempts": {"keep": jnp.float32(1.0)}}).write(" 0").write(" 1 2")
    assert not kept.history[-1]["resets_context"]
    with pytest.raises(ArlError, match="attempts.keep"):
        live(agent, curriculum={}).write(" 0").write(" 1 2")
