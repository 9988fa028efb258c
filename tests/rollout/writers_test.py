"""Writers in the policy's place: what an expert writes stands in a trajectory, by a plain account of episodes and grammars."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, rollout, text
from arl.agents import Act, Attempts, History, Reflection, Remember, Think, UseTools, Window
from arl.rollout import Decoding
from arl.training import scoring
from arl.types import Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny

WORDS = [text.token_ids(tiny.TOKENIZER, word) for word in tiny.WORDS]


def walk(num_steps=3):
    """Its expert takes any of the words that exist: some begin others, some are forced to their ends."""
    environment = tiny.make_walk(num_steps)
    return environment._replace(expert=lambda key, state: jax.random.categorical(key, jnp.log(1.0 * environment.legal(state))))


NUMBERS = text.stack([text.token_ids(tiny.TOKENIZER, symbol) for symbol in tiny.SYMBOLS])


@dataclasses.dataclass(frozen=True)
class ThinkAloud(Think):
    """Its expert says a number to itself before each action, and stops."""

    def wrap(self, inner, task):
        interaction = super().wrap(inner, task)
        say = lambda key, state, attempt: text.lookup(NUMBERS, jax.random.randint(key, (), 0, 4))
        return interaction._replace(experts={**interaction.experts, Kind.THINK: say})


def two_numbers(key, state, attempt):
    """What an expert notes down: two of the symbols, by chance and by the attempt that is over."""
    return text.concatenate(text.lookup(NUMBERS, jax.random.randint(key, (), 0, 4)), text.lookup(NUMBERS, state.last))


NUMBER, NOTE = ThinkAloud(3, tiny.SYMBOLS), Reflection(2, tiny.SYMBOLS)
AGENTS = {
    "bisection": lambda: tiny.make(envs.make_number_guess(tiny.TOKENIZER, 16), Act(time_limit=5)),
    "bandit": lambda: tiny.make(envs.make_bandit(tiny.TOKENIZER, 2, 5), Act()),
    "words": lambda: tiny.make(walk(), Act()),
    "limit": lambda: tiny.make(walk(5), Act(time_limit=2)),
    "silence": lambda: tiny.make(walk(), Act(), Think(3, tiny.SYMBOLS)),
    "thoughts": lambda: tiny.make(walk(), Act(), NUMBER),
    "history": lambda: tiny.make(walk(2), Act(), Attempts(3, History())),
    "window": lambda: tiny.make(walk(2), Act(), NUMBER, Attempts(2, Window(5))),
    "notes": lambda: tiny.make(walk(2), Act(), NUMBER, Attempts(2, Reflection(2, tiny.SYMBOLS, stop=True))),
    "expert notes": lambda: tiny.make(walk(2), Act(), Attempts(3, NOTE), experts=lambda limits: {Kind.NOTE: two_numbers}),
    "annealed": lambda: tiny.make(walk(2), Act(), Attempts(3, Reflection(2, "any", stop=True, annealed=True))),
    "memory": lambda: tiny.make(walk(4), Act(), Remember(2, 2, 2, tiny.SYMBOLS)),
    "tools": lambda: tiny.make(walk(2), Act(), UseTools((envs.calculator(tiny.TOKENIZER),))),
}


@functools.cache
def agent(name):
    return AGENTS[name]()


@functools.cache
def _program(name, options):
    interaction = agent(name)
    shape, writer = tiny.config(interaction, **dict(options)), rollout.expert_writer(interaction)
    rollout.check_rollout(interaction, dataclasses.replace(shape, expert_fraction=1.0), len(tiny.TOKENIZER))
    model, params = tiny.model(), tiny.params()
    start = jax.jit(lambda *keys: rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *keys, has_writer=True))
    go_on = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, tiny.CURRICULUM, lanes, writer))
    return start, go_on


def roll(name, num_lanes=4, num_trajectories=1, seed=0, **options):
    """Trajectories on the host, one after the other, and the keys of lanes and tasks."""
    start, go_on = _program(name, tuple(sorted(options.items())))
    keys = tiny.keys(num_lanes, seed)
    lanes, trajectories = start(*keys), []
    for _ in range(num_trajectories):
        lanes, trajectory, _ = go_on(lanes)
        trajectories.append(jax.tree.map(np.asarray, trajectory))
    return trajectories, keys


def sampled_tokens(name, trajectories, lane):
    """Tokens sampled in a lane, over all its trajectories."""
    return [int(x) for trajectory in trajectories for x in trajectory.sampled[lane][trajectory.is_sampled[lane]]]


def dictate(grammar, root, budget, ids):
    """The tokens of a text that have to be sampled: those that nothing forces, and a stop token where the text could go on."""
    state, place, left, sampled = root, 0, budget, []
    forced = lambda: grammar.forced[state][: grammar.forced_length[state]].tolist()
    run = forced()
    if run and not grammar.must_end[grammar.forced_state[state]] and len(run) < left:
        assert ids[: len(run)] == run
        state, place, left = int(grammar.forced_state[state]), len(run), left - len(run)
    while True:
        token = ids[place] if place < len(ids) else grammar.stop_id
        state = tiny.edges(grammar, state).get(token, 0)
        assert state, "an expert writes what is legal"
        sampled.append(token)
        place, left = place + 1, left - 1
        run = forced()
        if len(run) <= left:
            assert ids[place : place + len(run)] == run
            state, place, left = int(grammar.forced_state[state]), place + len(run), left - len(run)
        if token == grammar.stop_id or grammar.must_end[state] or left <= 0:
            return sampled


@functools.cache
def _functions(name):
    interaction = agent(name)

    def advance(key, state, turn, said):
        choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        return is_legal, interaction.advance(key, tiny.CURRICULUM, state, Segment(said, jnp.where(is_legal, choice, -1), is_legal))

    def expert(kind, key, state):
        return text.cut(interaction.experts[kind](key, state, jnp.int32(0)), interaction.size.written)

    return jax.jit(lambda key: interaction.start(key, tiny.CURRICULUM)), jax.jit(advance), jax.jit(expert, static_argnums=0)


def play(name, lane_key, task_key):
    """Yields each segment that an expert writes in a lane, episode after episode: its kind, text and sampled tokens, and what it earned."""
    start, advance, expert = _functions(name)
    grammar, count = agent(name).grammar, 0
    for episode in itertools.count():
        state, turn = start(jax.random.fold_in(lane_key, 3 * count + 2) if episode else task_key)
        while not (turn.terminated or turn.truncated):
            kind = Kind(int(turn.kind))
            said = expert(kind, jax.random.fold_in(jax.random.fold_in(lane_key, 3 * count), 1), state)
            sampled = dictate(grammar, int(turn.grammar_state), int(turn.budget), plain.ids(said))
            count += len(sampled)
            is_legal, (state, turn) = advance(jax.random.fold_in(lane_key, 3 * count + 1), state, turn, said)
            assert is_legal
            yield kind, plain.ids(said), sampled, sum(float(part) for part in turn.reward)
        yield None


def segments_of(name, lane_key, task_key, num_episodes=None, num_tokens=None):
    """Those of whole episodes, or as many as hold so many sampled tokens."""
    found, episodes, tokens = [], 0, 0
    for segment in play(name, lane_key, task_key):
        episodes += segment is None
        if segment:
            found.append(segment)
            tokens += len(segment[2])
        if episodes == num_episodes or (num_tokens is not None and tokens >= num_tokens):
            return found


@pytest.mark.parametrize("name", AGENTS)
def test_a_trajectory_is_the_experts(name):
    """Its tokens, kinds and rewards; each sampled token stands in its support."""
    [trajectory], (lane_keys, task_keys) = roll(name)
    for lane in range(4):
        told = segments_of(name, lane_keys[lane], task_keys[lane], num_episodes=1)
        assert sampled_tokens(name, [trajectory], lane) == [token for _, _, sampled, _ in told for token in sampled]
        ends = trajectory.ends_segment[lane]
        assert trajectory.kind[lane][ends].tolist() == [kind for kind, _, _, _ in told]
        np.testing.assert_allclose(tiny.total(trajectory.reward)[lane][ends], [reward for _, _, _, reward in told], rtol=1e-6)
        assert trajectory.is_legal[lane][ends].all() and trajectory.ends_episode[lane].sum() == 1
    kept, sampled = tiny.kept(agent(name).grammar, trajectory), tiny.sampled(agent(name).grammar, trajectory)
    assert np.take_along_axis(kept, sampled, -1)[..., 0][trajectory.is_sampled].all()


def test_the_bisection_is_played():
    """By hand: each guess is the middle of what the answers leave."""
    [trajectory], _ = roll("bisection", num_lanes=16)
    numbers = set()
    for lane in range(16):
        low, high, guesses = 0, 16, [int(tiny.TOKENIZER.decode([token])) for token in sampled_tokens("bisection", [trajectory], lane)]
        number = guesses[-1]  # five halvings find one of sixteen
        for guess in guesses:
            assert guess == (low + high - 1) // 2
            low, high = (guess + 1, high) if number > guess else (low, guess)
        numbers.add(number)
    assert len(numbers) > 4


@pytest.mark.parametrize("name", AGENTS)
def test_log_probs_are_those_of_the_model(name):
    """Sampler and learner agree; choices are those that the model would have had."""
    [trajectory], _ = roll(name)
    grammar, trajectory = agent(name).grammar, jax.tree.map(jnp.asarray, trajectory)
    score = jax.jit(lambda s: scoring.score(tiny.model(), grammar, tiny.params(), s, 1.0))
    log_prob, entropy, _ = score(trajectory)
    np.testing.assert_allclose(np.where(trajectory.is_sampled, log_prob, 0), trajectory.log_prob, atol=1e-4)
    assert np.asarray(entropy)[np.asarray(trajectory.is_sampled)].max() > 0.05 and np.exp(np.asarray(trajectory.log_prob)).min() < 0.5


@pytest.mark.parametrize("name", ["bandit", "window", "notes", "limit"])
def test_lanes_restart_and_cross_trajectories(name):
    """A segment that is cut by the end of a trajectory is written to its end in the next one."""
    size = agent(name).size
    trajectories, (lane_keys, task_keys) = roll(name, num_trajectories=3, restarts=True, trajectory_length=size.context + 9)
    assert sum(trajectory.ends_episode.sum() for trajectory in trajectories) > 4
    for lane in range(4):
        sampled = sampled_tokens(name, trajectories, lane)
        told = segments_of(name, lane_keys[lane], task_keys[lane], num_tokens=len(sampled))
        assert sampled == [token for segment in told for token in segment[2]][: len(sampled)] and len(sampled) > 10


@pytest.mark.parametrize(("name", "widths"), [("limit", ((1, 4),)), ("notes", ((1, 3), (2, 2)))], ids=str)
def test_scheduling_changes_nothing(name, widths):
    options = {"restarts": True, "trajectory_length": agent(name).size.context + 9}
    [wanted], _ = roll(name, **options)
    [trajectory], _ = roll(name, widths=widths, **options)
    for field, value in trajectory._asdict().items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(wanted, field)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


def test_an_expert_draws_anew_in_each_segment_and_lane():
    """The choices of a random expert are independent: with the key of an episode, all would be the same."""
    [trajectory], _ = roll("thoughts", num_lanes=16)
    is_thought = trajectory.is_sampled & (trajectory.kind == Kind.THINK)
    thoughts = [[x for x in trajectory.sampled[lane][is_thought[lane]] if x != tiny.TOKENIZER.eos_token_id] for lane in range(16)]
    assert {len(own) for own in thoughts} == {3}
    assert len({own[0] for own in thoughts}) == 4 and len({tuple(own) for own in thoughts}) > 8


def test_free_tokens_are_the_experts_too():
    """Without a grammar the model could write anything, and the expert still writes what is legal."""
    interaction = agent("words")
    free = interaction._replace(grammar=text.free(interaction.grammar, len(tiny.TOKENIZER)))
    trajectory = written_with(free, rollout.expert_writer(free), num_lanes=4, decoding=Decoding(constrained=False))
    assert trajectory.is_legal[trajectory.ends_segment].all()
    assert tiny.kept(free.grammar, trajectory)[trajectory.is_sampled].all(), "every token could have been written"
    for lane in range(4):
        written = trajectory.sampled[lane][trajectory.is_sampled[lane]].tolist()
        texts, left = [], written
        while left:
            whole = [w for w in [*WORDS[:3], [*WORDS[3], free.grammar.stop_id]] if left[: len(w)] == w]
            assert len(whole) == 1
            texts, left = [*texts, whole[0]], left[len(whole[0]) :]
        assert len(texts) == 3


ILLEGAL = [" right right", " left up", " left", " up right", ""]


def written_with(interaction, writer, num_lanes=8, **options):
    """The trajectory of lanes that have a writer, on the host."""
    shape = tiny.config(interaction, **options)
    lanes = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(num_lanes), has_writer=writer is not None)
    program = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, tiny.CURRICULUM, lanes, writer)[1])
    return jax.tree.map(np.asarray, program(tiny.params()))


def assert_same(found, wanted):
    for field, value in wanted._asdict().items():
        for a, b in zip(jax.tree.leaves(getattr(found, field)), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


@functools.cache
def dictated(num_words):
    """What the policy alone writes with so many words, and a program that rolls out with an expert that always wants the text given."""
    interaction = tiny.make(tiny.make_walk()._replace(legal=lambda state: jnp.arange(4) < num_words), Act())
    shape, model, params = tiny.config(interaction), tiny.model(), tiny.params()

    def play(ids):
        writer = rollout.expert_writer(interaction._replace(experts={Kind.ACTION: lambda key, state, attempt: ids}))
        lanes = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(8), has_writer=True)
        return rollout.roll_out(interaction, model, shape, params, tiny.CURRICULUM, lanes, writer)[1]

    return interaction.size.written, written_with(interaction, None), jax.jit(play)


@pytest.mark.parametrize(("string", "num_words"), [*((string, 4) for string in ILLEGAL), (" up", 3)])
def test_a_text_that_cannot_be_written_leaves_the_whole_segment_to_the_policy(string, num_words):
    """One that is no legal string, or is not in this turn, from its first token on: as if there were no writer."""
    capacity, wanted, program = dictated(num_words)
    found = jax.tree.map(np.asarray, program(text.pad(text.constant(text.token_ids(tiny.TOKENIZER, string)), capacity)))
    assert not found.author.any()
    assert_same(found, wanted)


def test_what_an_expert_leaves_open_the_policy_writes():
    """A thought of fixed length of an expert that thinks nothing; its actions are its own all the same."""
    interaction = tiny.make(walk(), Act(), Think(2, tiny.SYMBOLS, stop=False))
    trajectory = written_with(interaction, rollout.expert_writer(interaction))
    is_thought = trajectory.is_sampled & (trajectory.kind == Kind.THINK)
    assert not trajectory.author[is_thought].any() and len(np.unique(trajectory.sampled[is_thought])) > 2
    assert trajectory.author[trajectory.is_sampled & ~is_thought].all()


# ---------------------------------------------------------------- writers of your own


def counting(author_of, num_lanes=0):
    """A writer that writes the word of the lane's step, where `author_of(request)` is above 0."""
    words = text.stack(WORDS)

    def write(variables, curriculum, request, is_waiting):
        said = jax.vmap(lambda steps: text.lookup(words, (steps + 1) % 4))(request.state.environment.steps)
        return rollout.Proposal(said, author_of(request))

    return rollout.Writer(write, num_lanes)


def test_half_of_the_lanes_have_a_writer_of_their_own():
    """Its lanes hold its words and its number, the others what the policy alone writes."""
    interaction, wanted = agent("words"), written_with(agent("words"), None)
    chosen = lambda request: 7 * (request.episode_draw < 0.5)
    found = written_with(interaction, counting(chosen))
    is_own = found.author.any(1)
    draws = np.asarray(rollout.start_lanes(interaction, {}, tiny.config(interaction), *tiny.keys(8), has_writer=True).writing.episode_draw)
    assert np.array_equal(is_own, draws < 0.5) and 0 < is_own.sum() < 8
    for lane in range(8):
        if not is_own[lane]:
            assert_same(jax.tree.map(lambda x, lane=lane: x[lane], found), jax.tree.map(lambda x, lane=lane: x[lane], wanted))
            continue
        assert set(found.author[lane][found.is_sampled[lane]]) == {7}
        said = [dictate(interaction.grammar, interaction.grammar.root, interaction.size.written, WORDS[step + 1]) for step in range(3)]
        assert found.sampled[lane][found.is_sampled[lane]].tolist() == sum(said, [])


@pytest.mark.parametrize(("num_lanes", "restarts"), [(1, True), (3, False), (8, True)])
def test_lanes_that_wait_for_a_writer_lose_nothing(num_lanes, restarts):
    """However many are served at once: the same trajectory."""
    interaction = agent("thoughts")
    lengths = {"restarts": restarts, "trajectory_length": interaction.size.context + 9 * restarts + 1}
    chosen = lambda request: jnp.where((request.kind == Kind.ACTION) & (request.state.environment.steps != 1), 2, 0)
    wanted = written_with(interaction, counting(chosen), **lengths)
    assert 0 < wanted.author.astype(bool).sum() < wanted.is_sampled.sum()
    assert_same(written_with(interaction, counting(chosen, num_lanes), **lengths), wanted)


def test_the_lanes_of_a_group_have_one_writer():
    interaction = agent("words")
    own, _ = tiny.keys(16)
    tasks = jnp.repeat(tiny.keys(4)[1], 4)
    lanes = rollout.start_lanes(interaction, {}, tiny.config(interaction), own, tasks, has_writer=True)
    draws = np.asarray(lanes.writing.episode_draw).reshape(4, 4)
    assert (draws == draws[:, :1]).all() and len(np.unique(draws)) == 4


@pytest.mark.parametrize("unit", ["episode", "segment"])
def test_a_share_is_the_experts(unit):
    """Of episodes, or of segments within them; a curriculum takes its place."""
    interaction = agent("words")
    writer = rollout.expert_writer(interaction, 0.5, unit)
    found = written_with(interaction, writer, num_lanes=128)
    share = found.author[found.ends_segment].mean()
    is_mixed = found.author.any(1) & (found.is_sampled & (found.author == 0)).any(1)
    assert abs(share - 0.5) < 0.12 and is_mixed.any() == (unit == "segment")
    request = rollout.Request(*[None] * 9)._replace(key=tiny.keys(4)[0], episode_draw=jnp.full(4, 0.3), kind=jnp.zeros(4, jnp.int32))
    nobody = interaction._replace(layers=())
    of = lambda curriculum: rollout.expert_writer(nobody, 0.5).write(None, curriculum, request, None).author
    assert of({}).tolist() == [1] * 4 and of({"expert": {"fraction": jnp.float32(0.2)}}).tolist() == [0] * 4


@pytest.mark.parametrize("has_writer", [False, True])
def test_lanes_and_a_rollout_that_disagree_on_a_writer_are_refused(has_writer):
    interaction = agent("words")
    shape, writer = tiny.config(interaction), None if has_writer else rollout.expert_writer(interaction)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(2), has_writer=has_writer)
    with pytest.raises(ValueError, match="give start_lanes has_writer=True and roll_out a writer, or neither"):
        rollout.roll_out(interaction, tiny.model(), shape, tiny.params(), {}, lanes, writer)


def test_without_the_option_there_is_no_expert_in_the_program():
    """An expert that cannot be asked changes nothing, and lanes hold nothing of it."""

    def never(key, state, attempt):
        raise AssertionError("nobody may ask")

    interaction = agent("notes")
    shape = tiny.config(interaction, restarts=True, trajectory_length=interaction.size.episode + 1)
    keys, programs = tiny.keys(4), []
    for experts in (dict.fromkeys(interaction.experts, never), {}):
        changed = interaction._replace(experts=experts)
        lanes = rollout.start_lanes(changed, tiny.CURRICULUM, shape, *keys)
        assert lanes.writing is None
        roll_out = functools.partial(rollout.roll_out, changed, tiny.model(), shape)
        programs.append(jax.jit(roll_out).lower(tiny.params(), tiny.CURRICULUM, lanes).as_text())
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoding": Decoding(top_k=2)}, "top_k=0"),
        ({"decoding": Decoding(temperature=0.0)}, "set Decoding.temperature > 0"),
        ({"decoding": Decoding(top_p=0.9)}, "top_p=1"),
        ({"decoding": Decoding(min_p=0.1)}, "min_p=0"),
    ],
    ids=str,
)
def test_decoding_that_may_drop_what_an_expert_writes_is_refused(change, words):
    interaction = agent("words")
    rollout.check_rollout(interaction, tiny.config(interaction, expert_fraction=1.0), len(tiny.TOKENIZER))
    with pytest.raises(ValueError, match=words):
        rollout.check_rollout(interaction, tiny.config(interaction, expert_fraction=0.5, **change), len(tiny.TOKENIZER))


def test_an_agent_without_expert_is_refused():
    with pytest.raises(ValueError, match="give the environment an expert, or set RolloutConfig.expert_fraction=0"):
        rollout.check_rollout(tiny.agent("act"), tiny.config(tiny.agent("act"), expert_fraction=1.0), len(tiny.TOKENIZER))
