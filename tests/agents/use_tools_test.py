"""`UseTools`: the language of calls against an enumeration, turns against an account in plain Python, trajectories, losses, and tasks."""

import collections
import dataclasses
import functools
import itertools
import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, rollout, text
from arl.agents import Act, Attempts, Reflection, Think, UseTools, imagine
from arl.agents import calls as language
from arl.envs import arithmetic, calculator, ledger, table
from arl.models import Policy
from arl.task import Task, Tool
from arl.training import LearnerConfig, Schedule, loss
from arl.training import credit as credits
from arl.types import ArlError, Kind, Segment, Text, select
from tests import agents_fixtures as plain
from tests import tiny
from tests.second_tokenizer import second_tokenizer

# ---------------------------------------------------------------- three tools for riddles, told twice

ANSWERS = [" lower", " higher lower", " yes\n", ":"]
WORD = text.template(tiny.TOKENIZER, "{word}", word=text.choice(ANSWERS))
PAIR = text.template(tiny.TOKENIZER, " is {number} right right right right", number=text.number(0, 3))
HINT = Tool(" hint", ((" 0", " 1", " 2"),), lambda key, state, n: WORD(word=(state.secret + n[0]) % 4), WORD.capacity)
CHANCE = Tool(" key", (), lambda key, state, n: WORD(word=jax.random.randint(key, (), 0, 4)), WORD.capacity)
LONG = Tool(
    " row", ((" up", " up up"), (" X",), (" left", " left left")), lambda key, state, n: PAIR(number=2 * n[0] + n[2]), PAIR.capacity
)
TOOLS = [HINT, CHANCE, LONG]


ASK, GO_ON = text.token_ids(tiny.TOKENIZER, " so"), text.token_ids(tiny.TOKENIZER, " action")
OPTIONS = {"ask": " so", "go_on": " action", "call_cost": 0.25, "illegal_penalty": 0.5}


def strings(tool):
    """Every call of a tool, with which string each of its arguments is."""
    for which in itertools.product(*(range(len(options)) for options in tool.arguments)):
        yield tool.name + "".join(options[i] for options, i in zip(tool.arguments, which, strict=True)), which


CALLS = [text.token_ids(tiny.TOKENIZER, string) for tool in TOOLS for string, _ in strings(tool)]
BUDGET = 6  # " row up up X left left"


class PlainUseTools:
    """`UseTools`, told again."""

    def __init__(self, inner, options):
        self.inner, self.options, self.held = inner, options, None

    def _ask(self, turn, read):
        return dataclasses.replace(turn, read=read + ASK, kind=Kind.TOOL, budget=BUDGET, legal=[GO_ON, *CALLS])

    def _hold(self, turn):
        self.held, self.num_calls = None, 0
        if turn.kind != Kind.ACTION or turn.terminated or turn.truncated:
            return turn
        self.held = turn
        return self._ask(turn, turn.read)

    def start(self, key):
        return self._hold(self.inner.start(key))

    def _say(self, key, written):
        account = self.inner
        while hasattr(account, "inner"):
            account = account.inner
        riddle = account.state
        name, *rest = tiny.TOKENIZER.decode(written).split()
        if name == "row":
            return text.token_ids(tiny.TOKENIZER, f" is {2 * (rest.count('up') - 1) + rest.count('left') - 1} right right right right")
        index = jax.random.randint(key, (), 0, 4) if name == "key" else riddle.secret + int(rest[0])
        return text.token_ids(tiny.TOKENIZER, ANSWERS[int(index) % 4])

    def advance(self, key, written, legal):
        if self.held is None:
            return self._hold(self.inner.advance(key, written, legal))
        turn = dataclasses.replace(self.held, reset_context=False, reward=0.0, discount=1.0)
        if written == GO_ON:
            self.held = None
            return dataclasses.replace(turn, read=[])
        self.num_calls += 1
        is_call = written in CALLS
        said = self._say(key, written) if is_call else []
        turn = dataclasses.replace(turn, reward=-self.options["call_cost"] if is_call else -self.options["illegal_penalty"])
        if self.num_calls < self.options["max_calls"]:
            return self._ask(turn, said)
        self.held = None
        return dataclasses.replace(turn, read=said + GO_ON)


PLAIN = plain.plain


@pytest.fixture(autouse=True)
def recipes_with_tools(monkeypatch):
    def account(recipe):
        maker, inner, options = recipe
        return PlainUseTools(plain.plain(inner), options) if maker == "use_tools" else PLAIN(recipe)

    monkeypatch.setattr(plain, "LAYERS", {**plain.LAYERS, "use_tools": functools.partial(UseTools, tuple(TOOLS))})
    monkeypatch.setattr(plain, "plain", account)
    monkeypatch.setattr(tiny, "COMPOSITIONS", {**tiny.COMPOSITIONS, **COMPOSITIONS})


def recipe(inner=None, max_calls=2, full=False, resets_context=False, steps=3, name=""):
    inner = inner or ("act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "resets_context": resets_context, "discount": 0.75})
    return "use_tools", inner, {"max_calls": max_calls, "name": name, **OPTIONS}


def insert(inner, depth, max_calls):
    """A recipe with tools so many layers above the action."""
    levels = []
    while isinstance(inner[1], tuple) and isinstance(inner[1][0], str):
        levels.append(inner)
        inner = inner[1]
    for level in range(len(levels) + 1):
        inner = recipe(inner, max_calls) if level == depth else inner
        if level < len(levels):
            maker, _, options = levels[-1 - level]
            inner = (maker, inner, options)
    return inner


def depth_of(composed):
    return 0 if composed[0] == "act" else 1 + depth_of(composed[1])


def random_recipe(seed, full=False):
    draw, composed = random.Random(seed), plain.random_recipe(seed, full)
    return insert(composed, draw.randint(0, depth_of(composed)), draw.choice([1, 2, 3]))


# ---------------------------------------------------------------- the language of calls


def test_the_language_is_that_of_all_its_strings():
    """State by state against the trie of an enumeration: the same candidates, ends and forced runs; each string is read as it was said."""
    names = [(" action", 0, ())] + [(string, i + 1, which) for i, tool in enumerate(TOOLS) for string, which in strings(tool)]
    wanted = text.legal_strings(tiny.TOKENIZER, [name for name, *_ in names])
    calls = language.make_calls(tiny.TOKENIZER, TOOLS, " action")
    found = calls.grammar
    read = jax.jit(functools.partial(language.read_call, calls))
    pairs, seen = [(wanted.root, found.root)], set()
    edges = tiny.edges
    while pairs:
        a, b = pair = pairs.pop()
        if pair in seen:
            continue
        seen.add(pair)
        assert edges(wanted, a).keys() == edges(found, b).keys() and all(after > b for after in edges(found, b).values())
        assert (wanted.is_accepting[a], wanted.must_end[a]) == (found.is_accepting[b], found.must_end[b])
        run = wanted.forced[a, : wanted.forced_length[a]].tolist()
        assert found.forced[b, : found.forced_length[b]].tolist() == run
        state = b
        for token in run:
            state = edges(found, state)[token]
        assert found.forced_state[b] == state
        if wanted.is_accepting[a]:
            assert found.choice[b] == names[wanted.choice[a]][1]
        pairs += [(after, edges(found, b)[token]) for token, after in edges(wanted, a).items()]
    for string, choice, which in names:
        said = text.pad(text.encode(tiny.TOKENIZER, string), 8)
        which_tool, arguments = read(said)
        assert int(which_tool) == choice and arguments[: len(which)].tolist() == list(which)
        assert [int(which_tool)] == [int(x) for x in text.parse(found, found.root, said)[:1]]
        if choice:
            write = language.say_call(tiny.TOKENIZER, TOOLS[choice - 1])
            assert plain.ids(write(jnp.asarray(which, jnp.int32))) == text.token_ids(tiny.TOKENIZER, string)
    for string in (" action action", " hint", " row up X", " row up up up X left", " hint 0 0", " key 1", "", " left"):
        assert int(read(text.pad(text.constant(text.token_ids(tiny.TOKENIZER, string)), 8))[0]) == -1, string
    assert text.longest(found) == BUDGET


def test_a_calculator_of_8100_calls_has_a_state_for_each_factor():
    calls = language.make_calls(tiny.TOKENIZER, [calculator(tiny.TOKENIZER)], " action")
    assert len(calls.grammar.choice) < 250 and calls.grammar.num_choices == 2


# ---------------------------------------------------------------- turns


@pytest.mark.parametrize("seed", range(4))
def test_random_compositions_are_what_they_say(seed):
    """Each text, budget, kind, reward, discount, attempt and reset of whole episodes, with illegal calls among them."""
    composed = random_recipe(seed)
    plain.live(composed, plain.build(composed), range(3))


@pytest.mark.parametrize("max_calls", [1, 3])
@pytest.mark.parametrize("resets_context", [False, True])
def test_calls_stand_before_every_action(resets_context, max_calls):
    composed = recipe(resets_context=resets_context, max_calls=max_calls)
    counts = collections.Counter()
    for episode in plain.live(composed, plain.build(composed), range(12)):
        num_calls, heard = 0, []
        for turn, after in itertools.pairwise(episode):
            heard += turn.read
            if turn.kind == Kind.ACTION:
                assert heard[-1:] == GO_ON, "an action always follows the same word"
                counts[num_calls] += 1
                num_calls = 0
            elif turn.written != GO_ON:
                num_calls += 1
                wanted = -0.25 if turn.written in CALLS else -0.5
                assert after.reward == wanted and after.discount == 1 and not after.reset_context
            heard += turn.written
    assert set(counts) == set(range(max_calls + 1))


def test_tools_upon_tools_and_thoughts_in_both_orders():
    inner = ("act", plain.make_riddle(2), {"illegal_penalty": 0.125, "resets_context": False})
    thought = {"budget": 2, "symbols": tiny.SYMBOLS, "stop": False}
    orders = {
        "think first": (recipe(("think", inner, thought), 1), [Kind.THINK, Kind.TOOL, Kind.ACTION]),
        "call first": (("think", recipe(inner, 1), thought), [Kind.TOOL, Kind.THINK, Kind.ACTION]),
        "twice": (recipe(recipe(inner, 1), 1, name="outer"), [Kind.TOOL, Kind.TOOL, Kind.ACTION]),
    }
    for composed, wanted in orders.values():
        for episode in plain.live(composed, plain.build(composed), range(3)):
            kinds = [turn.kind for turn in episode[:-1]]
            assert kinds == wanted * (len(kinds) // 3) and kinds


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_random_compositions_are_true(seed, monkeypatch):
    """The longest calls with the longest answers, and every other budget used up."""
    monkeypatch.setattr(plain, "any_writing", write_longest)
    composed = random_recipe(seed, full=True)
    interaction = plain.build(composed)
    size = interaction.size
    for episode in plain.live(composed, interaction, range(2)):
        tokens, context = plain.extent(episode)
        assert tokens <= size.episode and context <= size.context and len(episode) - 1 <= size.turns
        assert max(len(turn.read) for turn in episode) <= size.read and max(turn.budget for turn in episode) <= size.written
        assert sum(turn.reset_context for turn in episode[1:]) <= size.context_resets


def write_longest(draw, turn):
    if turn.kind == Kind.TOOL:
        return max(CALLS, key=len)
    return [draw.choice(turn.symbols or plain.CANDIDATES) for _ in range(turn.budget)]


@pytest.mark.parametrize("max_calls", [1, 3])
def test_bounds_are_reached(max_calls, monkeypatch):
    monkeypatch.setattr(plain, "any_writing", write_longest)
    composed = recipe(full=True, max_calls=max_calls)
    interaction = plain.build(composed)
    size = interaction.size
    for episode in plain.live(composed, interaction, range(3)):
        assert plain.extent(episode) == (size.episode, size.context) and len(episode) - 1 == size.turns
        assert max(len(turn.read) for turn in episode) == size.read and max(turn.budget for turn in episode) == size.written


def test_what_is_kept_by_attempts_stands_before_calls():
    inner = recipe(resets_context=True, steps=2)
    memory = Reflection(2, tiny.SYMBOLS)
    composed = ("attempts", inner, {"num_attempts": 2, "memory": memory, "discount": 0.5, "name": "level 0"})
    for episode in plain.live(composed, plain.build(composed), range(4)):
        kept = []
        for turn, before in zip(episode[1:], episode, strict=False):
            kept = text.token_ids(tiny.TOKENIZER, " note") + before.written if before.kind == Kind.REFLECTION else kept
            assert turn.terminated or not turn.reset_context or turn.read[: len(kept)] == kept
        assert {Kind.REFLECTION, Kind.TOOL} <= {turn.kind for turn in episode}


def test_adapt_passes_through():
    inner = tiny.guess()._replace(update_curriculum=lambda curriculum, outcomes: {**curriculum, "seen": outcomes})
    assert tiny.wrap(UseTools((CHANCE,)), inner).update_curriculum({}, 3) == {"seen": 3} and tiny.guess(UseTools((CHANCE,))).has_expert
    silent = tiny.make(tiny.make_walk(), Act(), UseTools((CHANCE,)))
    assert not silent.has_expert and Kind.ACTION not in silent.experts and silent.update_curriculum is None


# ---------------------------------------------------------------- trajectories and losses


def walk_tools():
    """The tools of the walk: its own step, a sum of two numbers, chance."""
    return imagine(tiny.TOKENIZER, tiny.make_walk()), LONG, CHANCE


COMPOSITIONS = {
    "walk with tools": lambda: tiny.make(tiny.make_walk(), Act(), UseTools(walk_tools(), 2, **OPTIONS)),
    "walk with tools resets": lambda: tiny.make(tiny.make_walk(), Act(resets_context=True), UseTools(walk_tools(), 1, **OPTIONS)),
    "thoughts and tools in attempts": lambda: tiny.make(
        tiny.make_walk(2), Act(), UseTools(walk_tools()[1:], 2), Think(2, tiny.SYMBOLS), Attempts(2, tiny.NOTE)
    ),
}


def roll(name):
    """Eight episodes of a composition: keys of lanes and of tasks, the trajectory on the host."""
    keys = tiny.keys(8)
    return *keys, _trajectories(name)


@functools.cache
def _trajectories(name):
    interaction, model, params = tiny.agent(name), tiny.model(), tiny.params()
    shape = tiny.config(interaction)
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(8))
    run = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, tiny.CURRICULUM, lanes)[1])
    return jax.tree.map(np.asarray, run(lanes))


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_trajectory_tells_what_the_interaction_said(name):
    """Tokens, contexts, kinds, rewards, legality; what tools say stands in it as observations."""
    lane_keys, task_keys, trajectory = roll(name)
    num_calls = num_passes = 0
    for lane in range(8):
        told = tiny.retell(name, trajectory, lane, lane_keys[lane], task_keys[lane])
        slots = jax.tree.map(lambda x, lane=lane: x[lane], trajectory)
        is_read = slots.token_kind > 0
        assert slots.token[is_read].tolist() == told["token"] and slots.token_kind[is_read].tolist() == told["kind"]
        assert slots.context_start[is_read].tolist() == told["context_start"]
        np.testing.assert_allclose(tiny.total(slots.reward)[slots.ends_segment], told["reward"], rtol=1e-6)
        assert slots.is_legal[slots.ends_segment].tolist() == told["is_legal"] and slots.ends_episode.sum() == 1
        is_tool = slots.kind[slots.ends_segment] == Kind.TOOL
        passes = np.array([words == text.token_ids(tiny.TOKENIZER, " action") for words in told["text"]])
        assert all(legal for legal, tool in zip(told["is_legal"], is_tool, strict=True) if tool), "the grammar masks what is sampled"
        num_calls, num_passes = num_calls + (is_tool & ~passes).sum(), num_passes + passes.sum()
        cost = slots.reward.efficiency[slots.ends_segment]
        assert cost.tolist() == (-0.25 * (is_tool & ~passes) * (name != "thoughts and tools in attempts")).tolist()
    assert num_calls > 8 and num_passes > 1


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_no_loss_stands_on_what_a_tool_says(name):
    """The gradient of the whole loss by the logits of each slot: none before a token that was read, some before one that was written."""
    trajectory = jax.tree.map(jnp.asarray, roll(name)[-1])
    grammar, shape = tiny.agent(name).grammar, trajectory.token.shape
    free = Policy(
        init=lambda key, pretrained=None: None,
        empty_cache=lambda *_: None,
        read=lambda *_: (None, None),
        forward=lambda params, tokens, context_start: None,
        logits=lambda params, features, candidates: params["logits"],
        heads={"value": lambda params, features: params["value"]},
        vocab_size=len(tiny.TOKENIZER),
    )
    params = {"logits": jax.random.normal(jax.random.key(0), (*shape, len(grammar.candidates))), "value": jnp.zeros(shape)}
    decides = credits.is_decision(trajectory)
    advantage = 1.0 + jax.random.uniform(jax.random.key(1), shape)
    batch = loss.Batch(trajectory, advantage, advantage, decides, decides, trajectory.log_prob, trajectory.log_prob - 1.0)
    config = LearnerConfig(entropy_weight=Schedule(0.1), kl_weight=0.1, policy_loss="policy_gradient")
    totals = loss.count(batch, config)
    total = lambda p: loss.loss(free, grammar, config, 1.0, jnp.float32(0.1), totals, p, batch)[0]
    gradient = jax.jit(jax.grad(total))(params)
    learns = np.abs(np.asarray(gradient["logits"])).sum(-1) > 0
    values = np.asarray(gradient["value"]) != 0
    kind = np.asarray(trajectory.token_kind)
    goes_on = np.asarray(trajectory.context_start)[:, 1:] <= np.arange(
        shape[1] - 1
    )  # what was written last before all is forgotten is not read
    is_said = (kind[:, 1:] == Kind.OBSERVATION) & goes_on  # what tools and the environment say, and the words that ask
    before_said, before_call = learns[:, :-1] & is_said, learns[:, :-1] & (kind[:, 1:] == Kind.TOOL)
    assert is_said.sum() > 40 and not before_said.any() and not (values[:, :-1] & is_said).any()
    assert before_call.sum() > 8, "what was written of a call is learned from"
    forced = (kind[:, 1:] == Kind.TOOL) & ~np.asarray(trajectory.is_sampled)[:, :-1]
    assert forced.any() and not (learns[:, :-1] & forced).any(), "the words that the grammar forces are not"


# ---------------------------------------------------------------- tasks


def compiled(interaction):
    """Start, advance and parse, to be run a few times."""
    return jax.jit(interaction.start), jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))


def live(interaction, tokenizer, policy, num_episodes):
    """Plays episodes by a policy from the string read and written so far, and the kind of the segment, to a string.

    Yields:
      Of each episode everything read and written as a string, its tokens, the rewards and the kinds of the turns.
    """
    start, advance, parse = compiled(interaction)
    for key in jax.random.split(jax.random.key(0), num_episodes):
        state, turn = start(key, {})
        ids, rewards, kinds = plain.ids(turn.read), [], []
        while not (turn.terminated or turn.truncated):
            words = text.token_ids(tokenizer, policy(text.to_string(tokenizer, ids), int(turn.kind)))
            said = Text(jnp.asarray(words + [0] * (interaction.size.written - len(words)), jnp.int32), jnp.int32(len(words)))
            choice, is_legal = parse(turn.grammar_state, said)
            kinds.append(int(turn.kind))
            state, turn = advance(jax.random.fold_in(key, len(ids)), {}, state, Segment(said, choice, is_legal))
            ids += words + plain.ids(turn.read)
            rewards.append(turn.reward)
        yield text.to_string(tokenizer, ids), ids, rewards, kinds


def multiplies(heard, kind):
    """Calls the calculator with the factors that it has read, and copies what it says, digit by digit."""
    question, _, rest = heard.partition(":")
    if kind == Kind.TOOL:
        return " action" if " is" in rest else " number" + question
    return " " + re.findall(r"\d+", rest.split(" is ")[1])[rest.count(" action") - 1]


def looks_up(heard, kind):
    """Follows the table as often as the question says, and copies the last number."""
    steps = int(heard.split(", ")[1].split()[0]) if "steps" in heard else 1
    last = heard.split(" is ")[-1].split()[0] if " is " in heard else heard.removeprefix("Row ").split(":")[0].split(",")[0]
    if kind == Kind.TOOL:
        return " action" if heard.count(" is ") == steps else f" row {last}"
    return f" {last}"


def tool_user(environment, tool, tokenizer=tiny.TOKENIZER, **options):
    return agents.make_agent(Task(environment, tokenizer), (Act(), UseTools((tool,), **{"ask": " try", **options})))


TOKENIZERS = pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])


@TOKENIZERS
@pytest.mark.parametrize(("num_digits", "digits_per_word"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_who_calls_the_calculator_and_copies_is_always_right(load, num_digits, digits_per_word):
    tokenizer = load()
    environment = arithmetic.make_arithmetic(tokenizer, num_digits, digits_per_word)
    tool = calculator(tokenizer, num_digits, digits_per_word)
    interaction = tool_user(environment, tool, tokenizer, max_calls=2, call_cost=0.25)
    num_actions = environment.max_steps
    for heard, ids, rewards, kinds in live(interaction, tokenizer, multiplies, 8):
        assert heard.endswith(" correct\n") and sum(float(r.outcome) for r in rewards) == 1
        assert [float(r.efficiency) for r in rewards] == [-0.25] + [0.0] * (2 * num_actions)
        assert kinds == [Kind.TOOL] + [Kind.TOOL, Kind.ACTION] * num_actions
        assert text.check_text(tokenizer, text.constant(ids)) == []


def test_the_text_of_a_call():
    environment = arithmetic.make_arithmetic(tiny.TOKENIZER)
    reset = lambda key: arithmetic.ArithmeticState(jnp.int32(37), jnp.int32(84), jnp.int32(0), jnp.int32(0))
    interaction = tool_user(environment._replace(reset=reset), calculator(tiny.TOKENIZER))
    ((heard, *_),) = live(interaction, tiny.TOKENIZER, multiplies, 1)
    begins = " 37 X 84: try number 37 X 84 is 3, 1, 0, 8 action 3, try action 1, try action 0"
    assert heard == begins + ", try action 8 correct\n"


def test_a_calculator_knows_every_product():
    tool = calculator(tiny.TOKENIZER)
    left, right = (x.ravel() for x in np.meshgrid(np.arange(90), np.arange(90)))
    arguments = jnp.stack([jnp.asarray(left), jnp.zeros(8100, jnp.int32), jnp.asarray(right)], 1)
    said = jax.jit(jax.vmap(lambda n: tool.call(jax.random.key(0), None, n)))(arguments)
    word = {text.token_ids(tiny.TOKENIZER, f" {digit}")[0]: digit for digit in range(10)}
    found = [int("".join(str(word[token]) for token in row if token in word)) for row in np.asarray(said.ids).tolist()]
    assert found == ((left + 10) * (right + 10)).tolist()


@TOKENIZERS
@pytest.mark.parametrize("num_hops", [1, 3])
def test_who_looks_up_and_copies_is_always_right(load, num_hops):
    tokenizer = load()
    environment = ledger.make_ledger(tokenizer, 64, num_hops)
    interaction = tool_user(environment, table(tokenizer, ledger.look_up, 64), tokenizer, max_calls=num_hops, call_cost=0.5)
    for heard, ids, rewards, kinds in live(interaction, tokenizer, looks_up, 8):
        assert heard.endswith(" correct\n") and sum(float(r.outcome) for r in rewards) == 1
        assert sum(float(r.efficiency) for r in rewards) == -0.5 * num_hops
        assert kinds == [Kind.TOOL] * num_hops + [Kind.ACTION], "with the calls used up nothing is left to be asked"
        assert text.check_text(tokenizer, text.constant(ids)) == []


def episodes(interaction, num_lanes, write, num_turns):
    """Outcomes of many episodes in which `write(key, state, turn)` writes."""

    def one(key):
        state, turn = interaction.start(key, {})
        total, is_over = 0.0, jnp.bool_(False)
        for index in range(num_turns):
            key_write, key_advance = jax.random.split(jax.random.fold_in(key, index))
            said = text.pad(write(key_write, state, turn), interaction.size.written)
            choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
            state, turn = interaction.advance(key_advance, {}, state, Segment(said, choice, is_legal))
            total += jnp.where(is_over, 0.0, turn.reward.outcome)
            is_over |= turn.terminated
        return total, is_over

    outcome, is_over = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), num_lanes))
    assert is_over.all()
    return np.asarray(outcome)


def test_without_calls_all_are_at_chance_and_an_expert_that_calls_is_always_right():
    """Two look-ups are needed; the expert's calls are its own, what it then acts is the environment's."""
    environment = ledger.make_ledger(tiny.TOKENIZER, 12, 2)

    def expert(key, state, num_calls):
        row = jnp.where(num_calls == 0, state.row, ledger.look_up(state, state.row))
        return num_calls < 2, row[None]

    interaction = tool_user(environment, table(tiny.TOKENIZER, ledger.look_up, 12)._replace(expert=expert), max_calls=3)
    go_on, capacity = text.encode(tiny.TOKENIZER, " action"), interaction.size.written

    def guess(key, state, turn):
        said = text.say_choice(environment.grammar, jax.random.randint(key, (), 0, 12))
        return select(turn.kind == Kind.TOOL, text.pad(go_on, capacity), text.pad(said, capacity))

    def follow_experts(key, state, turn):
        call, action = (text.pad(interaction.experts[kind](key, state, jnp.int32(0)), capacity) for kind in (Kind.TOOL, Kind.ACTION))
        return select(turn.kind == Kind.TOOL, call, action)

    wanted = ledger.random_return(12)
    outcome = episodes(interaction, 4000, guess, 2)
    assert abs(outcome.mean() - wanted) < 4 * (wanted * (1 - wanted) / 4000) ** 0.5
    assert (episodes(interaction, 200, follow_experts, 4) == 1).all()


def test_an_expert_goes_on_at_once_unless_it_is_told_what_to_call():
    interaction, inner = tiny.guess(UseTools((CHANCE,), 2, go_on=" action")), tiny.guess()
    state, turn = interaction.start(jax.random.key(0), {})
    said = interaction.experts[Kind.TOOL](jax.random.key(1), state, jnp.int32(0))
    assert turn.kind == Kind.TOOL and plain.ids(said) == GO_ON
    said = text.pad(said, interaction.size.written)
    state, turn = interaction.advance(jax.random.key(2), {}, state, Segment(said, jnp.int32(0), jnp.bool_(True)))
    assert turn.kind == Kind.ACTION
    found, wanted = (
        agent.experts[Kind.ACTION](jax.random.key(1), at, jnp.int32(0)) for agent, at in ((interaction, state), (inner, state.pop()[0]))
    )
    assert plain.ids(found) == plain.ids(wanted)


def test_an_expert_calls_nothing_whose_answer_it_knows_from_an_earlier_attempt():
    """It is told how many attempts it remembers."""
    tool = HINT._replace(expert=lambda key, state, num_calls: (num_calls == 0, jnp.ones(1, jnp.int32)))
    interaction = tiny.make(plain.make_riddle(), Act(), UseTools((tool,), 2))
    state, _ = interaction.start(jax.random.key(0), {})
    said = [interaction.experts[Kind.TOOL](jax.random.key(0), state, jnp.int32(attempt)) for attempt in (0, 1)]
    assert [plain.ids(x) for x in said] == [text.token_ids(tiny.TOKENIZER, " hint 1"), GO_ON]


# ---------------------------------------------------------------- the environment's own step, imagined


def test_an_imagined_move_says_what_the_move_will_say_and_changes_nothing():
    environment = tiny.make_walk(3)
    interaction = tiny.make(environment, Act(time_limit=3), UseTools(("imagine",), 2, ask=" try"), can_imagine=True)
    start, advance, parse = compiled(interaction)
    first = start(jax.random.key(0), {})

    def write(state, turn, string):
        said = text.pad(text.encode(tiny.TOKENIZER, string), interaction.size.written)
        return advance(jax.random.key(1), {}, state, Segment(said, *parse(turn.grammar_state, said)))

    asked = text.token_ids(tiny.TOKENIZER, " try")
    for action, word in enumerate(tiny.WORDS):
        state, turn = write(*first, f" if{word}")
        same = jax.tree.map(lambda a, b: bool((a == b).all()), state.pop()[0], first[0].pop()[0])
        assert jax.tree.all(same) and turn.kind == Kind.TOOL and tiny.total(turn.reward) == 0
        imagined = plain.ids(turn.read)
        if action == 0:  # it does not exist in the first step
            assert imagined == plain.ids(environment.describe(first[0].environment)) + asked
            continue
        state, turn = write(*write(state, turn, " action"), word)
        assert plain.ids(turn.read) == imagined and float(turn.reward.outcome) == action + 0.5


def test_imagined_chance_is_another_chance():
    """It is drawn as the environment draws it."""
    environment = envs.make_bandit(tiny.TOKENIZER)
    tool = imagine(tiny.TOKENIZER, environment)
    state = environment.reset(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 64)
    found = jax.vmap(lambda key: tool.call(key, state, jnp.zeros(1, jnp.int32)))(keys)
    wanted = jax.vmap(lambda key: environment.describe(environment.step(key, state, jnp.int32(0))[0]))(keys)
    assert np.asarray(found.ids).tolist() == np.asarray(wanted.ids).tolist() and len(np.unique(np.asarray(found.ids), axis=0)) > 1


# ---------------------------------------------------------------- what cannot be


def simple(name, *arguments):
    return Tool(name, arguments, lambda key, state, n: text.empty(1), 1)


@pytest.mark.parametrize(
    ("tools", "options", "words"),
    [
        ([], {}, "at least one of each"),
        ([CHANCE], {"max_calls": 0}, "at least one of each"),
        ([CHANCE], {"call_cost": -0.5}, "which charges nothing; set it to a number >= 0"),
        ([CHANCE], {"illegal_penalty": -0.5}, "which charges nothing; set it to a number >= 0"),
        ([simple(" action", (" 0", " 1"))], {}, "give each tool, and go_on, its own word"),
        ([simple(" key"), simple(" key", (" 1",))], {}, "' key' cannot be told from the beginning of ' key'"),
        ([simple(" row up", (" 1",)), simple(" row")], {}, "' row' cannot be told from the beginning of ' row up'"),
        ([simple(" row", ())], {}, "argument 1 of tool ' row' can be nothing"),
        ([simple(" row", (" 1", " 1"))], {}, "make them differ"),
        ([simple("", (" 1",))], {}, "has no tokens|cannot be told"),
        ([simple(" row", (" up", " up left"), (" left", " down"))], {}, "argument 2 of tool ' row' can begin with what goes on"),
        ([simple(" 0")], {"ask": " hint"}, "' 0' is a call and an action as well"),
        ([CHANCE], {"go_on": " 3"}, "' 3' is a call and an action as well"),
        ([simple(" row", (tiny.TOKENIZER.eos_token,))], {}, "stop token"),
        (CHANCE, {}, "UseTools.tools is one tool; put it into a tuple"),
        ([CHANCE._replace(arguments=(" left", " up"))], {}, "a tuple of strings for each"),
    ],
)
def test_what_cannot_be_is_refused(tools, options, words):
    with pytest.raises(ArlError, match=words) as error:
        tiny.guess(UseTools(tools if isinstance(tools, Tool) else tuple(tools), **options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tools", "known", "words"),
    [
        (("hint",), {}, "no tool hint; leave UseTools out"),
        (("hint",), {"tools": {"key": CHANCE}, "can_imagine": True}, "no tool hint; set UseTools.tools to some of key, imagine"),
        (("imagine",), {"tools": {"key": CHANCE}}, "take imagine out of UseTools.tools"),
        (("key",), {"tools": {"key": CHANCE._replace(num_calls=2)}}, "after 2 calls; set UseTools.max_calls to as many"),
        ("key", {"tools": {"key": CHANCE}}, "UseTools.tools is one tool; put it into a tuple"),
    ],
)
def test_a_tool_that_the_task_does_not_offer_is_refused(tools, known, words):
    with pytest.raises(ArlError, match=words):
        tiny.make(tiny.make_guess(), Act(), UseTools(tools), **known)


def test_a_tool_is_no_list_of_tools():
    with pytest.raises(ArlError, match="' key' itself; put it into a list"):
        language.make_calls(tiny.TOKENIZER, CHANCE, " action")


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (CHANCE._replace(call=lambda key, state, n: "yes"), "tool ' key' returns str, not a Text"),
        (CHANCE._replace(call=lambda key, state, n: text.empty(CHANCE.capacity + 1)), "set its capacity"),
    ],
)
def test_an_answer_that_is_no_text_or_has_no_room_is_refused_where_it_is_compiled(tool, words):
    interaction = tiny.guess(UseTools((tool, LONG)))
    state, _ = interaction.start(jax.random.key(0), {})
    written = Segment(text.empty(interaction.size.written), jnp.int32(0), jnp.bool_(True))
    with pytest.raises(ArlError, match=words):
        jax.eval_shape(lambda: interaction.advance(jax.random.key(0), {}, state, written))


def test_a_call_that_is_an_action_only_as_a_whole_is_refused():
    with pytest.raises(ArlError, match="' left down' is a call and an action as well; give the tool, or go_on, another word"):
        tiny.make(tiny.make_walk(), Act(), UseTools((simple(" left", (" up", " down")),)))
    tiny.make(tiny.make_walk(), Act(), UseTools((simple(" left", (" up", " left")),)))


def test_free_text_clashes_with_nothing():
    calls = language.make_calls(tiny.TOKENIZER, TOOLS, " action").grammar
    assert language.common_string(calls, text.any_text(tiny.TOKENIZER)) is None
    assert language.common_string(calls, text.legal_strings(tiny.TOKENIZER, [" row up", " key"])) == CALLS[3]


def test_two_tokenizers_are_refused():
    with pytest.raises(ArlError, match="build both with one tokenizer"):
        UseTools((simple(" key"),)).wrap(tiny.guess(), Task(tiny.make_guess(), second_tokenizer()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: calculator(tiny.TOKENIZER, 0), "set num_digits to 1"),
        (lambda: calculator(tiny.TOKENIZER, 5), "set num_digits to 1"),
        (lambda: calculator(tiny.TOKENIZER, 2, 3), "digits_per_word to a divisor"),
        (lambda: table(tiny.TOKENIZER, ledger.look_up, 0), "at least 1"),
        (lambda: table(tiny.TOKENIZER, ledger.look_up, 2, num_values=0), "at least 1"),
    ],
)
def test_tools_that_cannot_be_are_refused(make, words):
    with pytest.raises(ArlError, match=words):
        make()
