"""An expert in the model's place: what stands in a stream is what the expert writes, by a plain account of lives and grammars."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, rollout, text
from arl.agents.remember import remember
from arl.agents.tools import calculator
from arl.agents.use_tools import use_tools
from arl.rollout import Decoding
from arl.training import loss
from arl.types import Kind, Written, select
from tests import agents_fixtures as plain
from tests import tiny

WORDS = [text.token_ids(tiny.TOKENIZER, word) for word in tiny.WORDS]


def walk(num_steps=3):
    """Its expert takes any of the words that exist: some begin others, some are forced to their ends."""
    environment = tiny.make_walk(num_steps)
    return environment._replace(expert=lambda key, state: jax.random.categorical(key, jnp.log(1.0 * environment.legal(state))))


def thoughtful(inner, **options):
    """The expert says a number to itself before each action, and stops."""
    interaction = tiny.think(inner, budget=3, symbols=list(tiny.SYMBOLS), **options)
    numbers = text.stack([text.token_ids(tiny.TOKENIZER, symbol) for symbol in tiny.SYMBOLS])

    def expert(key, state):
        thought = text.pad(text.lookup(numbers, jax.random.randint(key, (), 0, 4)), interaction.size.written)
        return select(state.is_thinking, thought, interaction.expert(key, state))

    return interaction._replace(expert=expert)


def two_numbers(key, state, attempt):
    """What an expert notes down: two of the symbols, by chance and by the attempt that is over."""
    numbers = text.stack([text.token_ids(tiny.TOKENIZER, symbol) for symbol in tiny.SYMBOLS])
    last = agents.environment_state(state).last
    return text.concatenate(text.lookup(numbers, jax.random.randint(key, (), 0, 4)), text.lookup(numbers, last))


AGENTS = {
    "bisection": lambda: agents.act(envs.time_limit(envs.make_number_guess(tiny.TOKENIZER, 16), 5)),
    "bandit": lambda: agents.act(envs.make_bandit(tiny.TOKENIZER, 2, 5)),
    "words": lambda: agents.act(walk()),
    "limit": lambda: agents.act(envs.time_limit(walk(5), 2)),
    "silence": lambda: tiny.think(agents.act(walk()), budget=3, symbols=list(tiny.SYMBOLS)),
    "thoughts": lambda: thoughtful(agents.act(walk())),
    "history": lambda: tiny.attempts(agents.act(walk(2)), carry=agents.history()),
    "window": lambda: tiny.attempts(thoughtful(agents.act(walk(2))), 2, carry=agents.window(5)),
    "notes": lambda: tiny.attempts(thoughtful(agents.act(walk(2))), 2, carry=agents.reflection(2, symbols=tiny.SYMBOLS, stop=True)),
    "expert notes": lambda: tiny.attempts(agents.act(walk(2)), carry=agents.reflection(2, symbols=tiny.SYMBOLS, expert_note=two_numbers)),
    "annealed": lambda: tiny.attempts(agents.act(walk(2)), carry=agents.reflection(2, stop=True, annealed=True)),
    "memory": lambda: remember(agents.act(walk(4)), tiny.TOKENIZER, num_slots=2, budget=2, every=2, symbols=list(tiny.SYMBOLS)),
    "tools": lambda: use_tools(agents.act(walk(2)), tiny.TOKENIZER, [calculator(tiny.TOKENIZER)], max_calls=1),
}


@functools.cache
def agent(name):
    return AGENTS[name]()


@functools.cache
def _program(name, options):
    interaction = agent(name)
    shape = tiny.config(interaction, **{"expert": True, **dict(options)})
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    model, params = tiny.model(), tiny.params()
    start = jax.jit(lambda *keys: rollout.start_lanes(interaction, tiny.SETTING, shape, *keys))
    go_on = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, tiny.SETTING, lanes))
    return start, go_on


def roll(name, num_lanes=4, num_streams=1, seed=0, **options):
    """Streams on the host, one after the other, and the keys of lanes and tasks."""
    start, go_on = _program(name, tuple(sorted(options.items())))
    keys = tiny.keys(num_lanes, seed)
    lanes, streams = start(*keys), []
    for _ in range(num_streams):
        lanes, stream, _ = go_on(lanes)
        streams.append(jax.tree.map(np.asarray, stream))
    return streams, keys


def sampled_tokens(name, streams, lane):
    """Tokens sampled in a lane, over all its streams."""
    alphabet = agent(name).grammar.alphabet
    return [int(alphabet[x]) for stream in streams for x in stream.written[lane][stream.is_written[lane]]]


def dictate(grammar, root, budget, ids):
    """The tokens of a text that have to be sampled: those that nothing forces, and a stop token where the text could go on."""
    state, place, left, sampled = root, 0, budget, []
    forced = lambda: grammar.forced[state][: grammar.forced_length[state]].tolist()
    run = forced()
    if run and not grammar.is_final[grammar.forced_state[state]] and len(run) < left:
        assert ids[: len(run)] == run
        state, place, left = int(grammar.forced_state[state]), len(run), left - len(run)
    while True:
        token = ids[place] if place < len(ids) else grammar.stop_id
        column = int(np.searchsorted(grammar.alphabet, token))
        state = int(grammar.next_state[state, column]) if grammar.alphabet[column] == token else 0
        assert state, "an expert writes what is legal"
        sampled.append(token)
        place, left = place + 1, left - 1
        run = forced()
        if len(run) <= left:
            assert ids[place : place + len(run)] == run
            state, place, left = int(grammar.forced_state[state]), place + len(run), left - len(run)
        if token == grammar.stop_id or grammar.is_final[state] or left <= 0:
            return sampled


@functools.cache
def _functions(name):
    interaction = agent(name)

    def advance(key, state, turn, said):
        choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        return is_legal, interaction.advance(key, tiny.SETTING, state, Written(said, jnp.where(is_legal, choice, -1), is_legal))

    expert = lambda key, state: text.cut(interaction.expert(key, state), interaction.size.written)
    return jax.jit(lambda key: interaction.start(key, tiny.SETTING)), jax.jit(advance), jax.jit(expert)


def live(name, lane_key, task_key):
    """Yields each segment that an expert writes in a lane, life after life: its kind, text and sampled tokens, and what it earned."""
    start, advance, expert = _functions(name)
    grammar, count = agent(name).grammar, 0
    for life in itertools.count():
        state, turn = start(jax.random.fold_in(lane_key, 3 * count + 2) if life else task_key)
        while not (turn.terminated or turn.truncated):
            said = expert(jax.random.fold_in(jax.random.fold_in(lane_key, 3 * count), 1), state)
            sampled, kind = dictate(grammar, int(turn.grammar), int(turn.budget), plain.ids(said)), int(turn.kind)
            count += len(sampled)
            is_legal, (state, turn) = advance(jax.random.fold_in(lane_key, 3 * count + 1), state, turn, said)
            assert is_legal
            yield kind, plain.ids(said), sampled, sum(float(part) for part in turn.reward)
        yield None


def segments_of(name, lane_key, task_key, num_lives=None, num_tokens=None):
    """Those of whole lives, or as many as hold so many sampled tokens."""
    found, lives, tokens = [], 0, 0
    for segment in live(name, lane_key, task_key):
        lives += segment is None
        if segment:
            found.append(segment)
            tokens += len(segment[2])
        if lives == num_lives or (num_tokens is not None and tokens >= num_tokens):
            return found


@pytest.mark.parametrize("name", AGENTS)
def test_a_stream_is_the_experts(name):
    """Its tokens, kinds and rewards; each sampled token stands in its support."""
    [stream], (lane_keys, task_keys) = roll(name)
    for lane in range(4):
        told = segments_of(name, lane_keys[lane], task_keys[lane], num_lives=1)
        assert sampled_tokens(name, [stream], lane) == [token for _, _, sampled, _ in told for token in sampled]
        ends = stream.ends_segment[lane]
        assert stream.kind[lane][ends].tolist() == [kind for kind, _, _, _ in told]
        np.testing.assert_allclose(tiny.total(stream.reward)[lane][ends], [reward for _, _, _, reward in told], rtol=1e-6)
        assert stream.is_legal[lane][ends].all() and stream.ends_life[lane].sum() == 1
    support = np.asarray(text.unpack(jnp.asarray(stream.support), len(agent(name).grammar.alphabet)))
    assert np.take_along_axis(support, stream.written[..., None], -1)[..., 0][stream.is_written].all()


def test_the_bisection_is_played():
    """By hand: each guess is the middle of what the answers leave."""
    [stream], _ = roll("bisection", num_lanes=16)
    numbers = set()
    for lane in range(16):
        low, high, guesses = 0, 16, [int(tiny.TOKENIZER.decode([token])) for token in sampled_tokens("bisection", [stream], lane)]
        number = guesses[-1]  # five halvings find one of sixteen
        for guess in guesses:
            assert guess == (low + high - 1) // 2
            low, high = (guess + 1, high) if number > guess else (low, guess)
        numbers.add(number)
    assert len(numbers) > 4


@pytest.mark.parametrize("name", AGENTS)
def test_log_probs_are_those_of_the_model(name):
    """Sampler and learner agree; choices are those that the model would have had."""
    [stream], _ = roll(name)
    grammar, stream = agent(name).grammar, jax.tree.map(jnp.asarray, stream)
    score = jax.jit(lambda s: loss.score(tiny.model(), grammar, tiny.params(), s, 1.0))
    log_prob, entropy, _ = score(stream)
    np.testing.assert_allclose(np.where(stream.is_written, log_prob, 0), stream.log_prob, atol=1e-4)
    assert np.asarray(entropy)[np.asarray(stream.is_written)].max() > 0.05 and np.exp(np.asarray(stream.log_prob)).min() < 0.5


@pytest.mark.parametrize("name", ["bandit", "window", "notes", "limit"])
def test_lanes_restart_and_cross_streams(name):
    """A segment that is cut by the end of a stream is written to its end in the next one."""
    size = agent(name).size
    streams, (lane_keys, task_keys) = roll(name, num_streams=3, restarts=True, stream_length=size.context + 9)
    assert sum(stream.ends_life.sum() for stream in streams) > 4
    for lane in range(4):
        sampled = sampled_tokens(name, streams, lane)
        told = segments_of(name, lane_keys[lane], task_keys[lane], num_tokens=len(sampled))
        assert sampled == [token for segment in told for token in segment[2]][: len(sampled)] and len(sampled) > 10


@pytest.mark.parametrize(("name", "widths"), [("words", ()), ("notes", ((1, 3), (2, 2)))], ids=str)
def test_scheduling_changes_nothing(name, widths):
    options = {"restarts": True, "stream_length": agent(name).size.context + 9}
    [wanted], _ = roll(name, **options)
    [stream], _ = roll(name, widths=widths, **options)
    for field, value in stream._asdict().items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(wanted, field)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


def test_an_expert_draws_anew_in_each_segment_and_lane():
    """The choices of a random expert are independent: with the key of a life, all would be the same."""
    [stream], _ = roll("thoughts", num_lanes=16)
    alphabet, is_thought = agent("thoughts").grammar.alphabet, stream.is_written & (stream.kind == Kind.THINK)
    thoughts = [[x for x in alphabet[stream.written[lane][is_thought[lane]]] if x != tiny.TOKENIZER.eos_token_id] for lane in range(16)]
    assert {len(own) for own in thoughts} == {3}
    assert len({own[0] for own in thoughts}) == 4 and len({tuple(own) for own in thoughts}) > 8


def test_free_tokens_are_the_experts_too():
    """Without a grammar the model could write anything, and the expert still writes what is legal."""
    interaction = agent("words")
    free = interaction._replace(grammar=text.free(interaction.grammar, len(tiny.TOKENIZER)))
    shape = tiny.config(free, expert=True, decoding=Decoding(constrained=False))
    rollout.check_rollout(free, shape, len(tiny.TOKENIZER))
    keys = tiny.keys(4)
    lanes = rollout.start_lanes(free, {}, shape, *keys)
    _, stream, _ = jax.jit(lambda p: rollout.roll_out(free, tiny.model(), shape, p, {}, lanes))(tiny.params())
    stream = jax.tree.map(np.asarray, stream)
    assert stream.is_legal[stream.ends_segment].all()
    bits = np.asarray(jax.lax.population_count(jnp.asarray(stream.support)).sum(-1))
    assert (bits[stream.is_written] == len(tiny.TOKENIZER)).all(), "every token could have been written"
    for lane in range(4):
        written = stream.written[lane][stream.is_written[lane]].tolist()
        texts, left = [], written
        while left:
            whole = [w for w in [*WORDS[:3], [*WORDS[3], free.grammar.stop_id]] if left[: len(w)] == w]
            assert len(whole) == 1
            texts, left = [*texts, whole[0]], left[len(whole[0]) :]
        assert len(texts) == 3


def with_expert(interaction, string):
    ids = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, string)), interaction.size.written)
    return interaction._replace(expert=lambda key, state: ids)


ILLEGAL = {  # what an expert wants to write, and how much of it stands, whatever else is drawn
    " right right": 0,
    " left up": 1,
    " left": 1,
    " up right": 2,
    "": 0,
}


@pytest.mark.parametrize(("string", "num_followed"), ILLEGAL.items(), ids=str)
def test_what_an_expert_may_not_write_is_drawn_and_not_learned(string, num_followed):
    """From where it goes wrong on the model writes the segment; those tokens are recorded as without alternative."""
    environment = tiny.make_walk()._replace(legal=lambda state: jnp.ones(4, bool))
    interaction = with_expert(agents.act(environment), string)
    shape = tiny.config(interaction, expert=True)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(8))
    program = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, {}, lanes))
    stream = jax.tree.map(np.asarray, program(tiny.params())[1])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(stream))
    assert stream.is_legal[stream.ends_segment].all() and stream.ends_life.sum(1).tolist() == [1] * 8, "lives go on all the same"
    wanted = text.token_ids(tiny.TOKENIZER, string)
    bits, drawn = np.asarray(jax.lax.population_count(jnp.asarray(stream.support)).sum(-1)), set()
    for lane in range(8):
        place = 0
        for slot in np.flatnonzero(stream.is_written[lane]):
            token = int(interaction.grammar.alphabet[stream.written[lane, slot]])
            if place < num_followed and bits[lane, slot] > 1:
                assert token == wanted[place]
            elif place >= num_followed:
                assert bits[lane, slot] == 1 and stream.log_prob[lane, slot] == 0
                drawn.add(token)
            place = 0 if stream.ends_segment[lane, slot] else place + 1
    assert len(drawn) > 1 or string == " up right", "they are the model's own choices; nothing is left to choose where the rest is forced"


def test_what_an_expert_leaves_open_is_drawn_and_not_learned():
    """A thought of fixed length of an expert that thinks nothing; its actions are its own all the same."""
    interaction = tiny.think(agents.act(walk()), budget=2, symbols=list(tiny.SYMBOLS), stop=False)
    shape = tiny.config(interaction, expert=True)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(8))
    stream = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, {}, lanes)[1])(tiny.params())
    stream = jax.tree.map(np.asarray, stream)
    is_thought = stream.is_written & (stream.kind == Kind.THINK)
    bits = np.asarray(jax.lax.population_count(jnp.asarray(stream.support)).sum(-1))
    assert (bits[is_thought] == 1).all() and len(np.unique(stream.written[is_thought])) > 2
    assert (bits[stream.is_written & ~is_thought] > 1).any() and (stream.log_prob[is_thought] == 0).all()


def test_without_the_option_there_is_no_expert_in_the_program():
    """An expert that cannot be asked changes nothing, and lanes hold nothing of it."""

    def never(key, state):
        raise AssertionError("nobody may ask")

    interaction = agent("notes")
    shape = tiny.config(interaction, restarts=True, stream_length=interaction.size.life + 1)
    keys, programs = tiny.keys(4), []
    for expert in (never, None):
        changed = interaction._replace(expert=expert)
        lanes = rollout.start_lanes(changed, tiny.SETTING, shape, *keys)
        assert lanes.expert is None
        roll_out = functools.partial(rollout.roll_out, changed, tiny.model(), shape)
        programs.append(jax.jit(roll_out).lower(tiny.params(), tiny.SETTING, lanes).as_text())
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoding": Decoding(top_k=2)}, "top_k=0"),
        ({"decoding": Decoding(temperature=0.0)}, "decoding.temperature > 0"),
        ({"decoding": Decoding(top_p=0.9)}, "top_p=1"),
        ({"decoding": Decoding(min_p=0.1)}, "min_p=0"),
    ],
    ids=str,
)
def test_decoding_that_may_drop_what_an_expert_writes_is_refused(change, words):
    interaction = agent("words")
    rollout.check_rollout(interaction, tiny.config(interaction, expert=True), len(tiny.TOKENIZER))
    with pytest.raises(ValueError, match=words):
        rollout.check_rollout(interaction, tiny.config(interaction, expert=True, **change), len(tiny.TOKENIZER))


def test_an_agent_without_expert_is_refused():
    with pytest.raises(ValueError, match="give the environment an expert, or set rollout.expert=False"):
        rollout.check_rollout(tiny.agent("act"), tiny.config(tiny.agent("act"), expert=True), len(tiny.TOKENIZER))
