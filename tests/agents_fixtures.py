"""Random agents, and a plain account of each in Python lists that shares no code with `arl.agents` or `arl.rollout`.

A composition is a recipe of nested tuples, innermost first: `("act", environment, options)`, `("think", inner, options)`,
`("attempts", inner, options)`, `("remember", inner, options)`, `("plan", inner, options)`, `("menu", inner, options)`. `build` makes the
interaction of it, `Plain` the account.
"""

import dataclasses
import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, text
from arl.task import Environment, Step
from arl.types import Interaction, Kind, Segment, Size, Text, Trajectory
from tests import tiny

STOP = tiny.TOKENIZER.eos_token_id
STRINGS = [text.token_ids(tiny.TOKENIZER, word) for word in tiny.WORDS]
CANDIDATES = sorted({token for string in STRINGS for token in string} | {text.token_ids(tiny.TOKENIZER, x)[0] for x in tiny.SYMBOLS})
DIGITS = [text.token_ids(tiny.TOKENIZER, f" {i}") for i in range(10)]


class RiddleState(NamedTuple):
    """A hidden number, steps taken, and what was answered last; -1 at first."""

    secret: jax.Array
    steps: jax.Array
    answer: jax.Array


@functools.cache
def make_riddle(num_steps: int = 3, full: bool = False, answer_capacity: int | None = None) -> Environment:
    """Chance decides the secret, the pay and the end; texts differ in length, unless all are as long as can be (`full`).

    With an `answer_capacity` of 3 the first text is the longest.
    """
    longest = " higher lower higher lower:"
    answers = [longest] * 5 if full else ["Move:", " lower\n", " higher", " yes lower right:", longest]
    if answer_capacity == 3:
        answers = [longest, *([" lower yes:"] * 4 if full else [" lower\n", " higher", " yes lower:", ":"])]
    say = text.template(tiny.TOKENIZER, "{answer}", answer=text.choice(answers))

    def step(key, state, action):
        key_pay, key_end = jax.random.split(key)
        pay = jax.random.randint(key_pay, (), -3, 4) + (action == state.secret)
        ends = (jax.random.uniform(key_end) < 0.2) & (not full)
        state = RiddleState(state.secret, state.steps + 1, (action + state.secret) % 4)
        return state, Step(0.25 * pay, ends | (state.steps >= num_steps), jnp.bool_(False))

    return Environment(
        reset=lambda key: RiddleState(jax.random.randint(key, (), 0, 4), jnp.int32(0), jnp.int32(-1)),
        step=step,
        describe=lambda state: say(answer=state.answer + 1),
        grammar=text.legal_strings(tiny.TOKENIZER, tiny.WORDS),
        legal=lambda state: jnp.arange(4) != (state.secret + state.steps) % 4,
        max_steps=num_steps,
        answer_capacity=answer_capacity,
    )


# ---------------------------------------------------------------- recipes


LAYERS = {"think": agents.Think, "attempts": agents.Attempts, "remember": agents.Remember, "plan": agents.Plan}
LAYERS |= {"menu": agents.Menu}


def build(recipe) -> Interaction:
    """The interaction of a recipe."""
    return tiny.make(*parts(recipe))


def parts(recipe) -> list:
    """The environment of a recipe, and its layers from the inside out."""
    maker, inner, options = recipe
    return [inner, agents.Act(**options)] if maker == "act" else [*parts(inner), LAYERS[maker](**options)]


def random_recipe(seed: int, full: bool = False):
    """A recipe of one or two layers over `Act`, whose schedules are all named; `full` as in `make_riddle`."""
    draw = random.Random(seed)
    environment, limit = make_riddle(draw.choice([1, 2, 3]), full), 0
    if draw.random() < 0.4:
        environment, limit = make_riddle(5, full), draw.choice([1, 2])
    options = {"time_limit": limit, "step_cost": 0.5 if draw.random() < 0.3 else 0.0, "illegal_penalty": draw.choice([0.125, 1.0])}
    recipe = ("act", environment, {**options, "discount": draw.choice([1.0, 0.75]), "resets_context": draw.random() < 0.4})
    for level, maker in enumerate(draw.choice([["attempts"], ["think", "attempts"], ["attempts", "think"], ["attempts", "attempts"]])):
        if maker == "think":
            symbols, stop = draw.choice([tiny.SYMBOLS, "any"]), draw.random() < 0.5
            recipe = ("think", recipe, {"budget": draw.choice([1, 3]), "symbols": symbols, "stop": stop})
        else:
            memories = [agents.Nothing(), agents.History(), agents.Window(draw.choice([1, 6, 40]))]
            annealed, stop, symbols = draw.random() < 0.5, draw.random() < 0.5, draw.choice([tiny.SYMBOLS, "any"])
            memories += [agents.Reflection(draw.choice([1, 3]), symbols, stop=stop, annealed=annealed)] * 3
            memories = [memory for memory in memories if memory.resets_context or not build(recipe).size.context_resets]
            options = {"memory": draw.choice(memories), "discount": draw.choice([1.0, 0.5]), "num_attempts": draw.choice([2, 3])}
            recipe = ("attempts", recipe, {**options, "name": f"level {level}"})
    return recipe


def random_notes(seed: int, orders: list[list[str]], full: bool = False):
    """A recipe whose layers over `Act` are one of `orders`, with schedules that are all named; `full` as in `make_riddle`."""
    draw = random.Random(seed)
    environment, limit = make_riddle(draw.choice([2, 3, 4]), full), 0
    if draw.random() < 0.3:
        environment, limit = make_riddle(5, full), draw.choice([2, 3])
    options = {"illegal_penalty": draw.choice([0.125, 1.0]), "discount": draw.choice([1.0, 0.75]), "resets_context": draw.random() < 0.4}
    composed = ("act", environment, {"time_limit": limit, **options})
    for level, maker in enumerate(draw.choice(orders)):
        symbols, stop = draw.choice([tiny.SYMBOLS, "any"]), draw.random() < 0.5
        name = f"level {level % 2}"
        if maker == "think":
            composed = ("think", composed, {"budget": draw.choice([1, 3]), "symbols": symbols, "stop": stop})
        elif maker == "attempts":
            memories = [agents.Nothing(), agents.Window(draw.choice([1, 9])), agents.History()]
            memories.append(agents.Reflection(2, tiny.SYMBOLS, stop=stop, annealed=draw.random() < 0.5))
            memories = [memory for memory in memories if memory.resets_context or not build(composed).size.context_resets]
            composed = ("attempts", composed, {"memory": draw.choice(memories), "discount": 0.5, "num_attempts": 2, "name": name})
        elif maker == "plan":
            turns = build(composed).size.turns
            plan = dict(budget=draw.choice([1, 3]), first=draw.choice([0, 0, 1, turns - 1]), every=draw.choice([0, 1, 2, 3]))
            composed = ("plan", composed, {**plan, "symbols": symbols, "stop": stop, "annealed": draw.random() < 0.3, "name": name})
        else:
            every = draw.randint(1, min(4, build(composed).size.turns - 1))
            memory = dict(num_notes=draw.choice([1, 2, 3]), budget=draw.choice([1, 3]), every=every, symbols=symbols, stop=stop)
            composed = ("remember", composed, {**memory, "annealed": draw.random() < 0.3, "name": name})
    return composed


CURRICULUM = {f"level {level}": {"keep": jnp.float32(0.5)} for level in range(2)}


# ---------------------------------------------------------------- the plain account


@dataclasses.dataclass
class Told:
    """A turn in plain Python; `legal` are the strings that may be written, None for free text over `symbols`."""

    read: list
    kind: Kind
    budget: int
    legal: list | None
    symbols: list | None = None
    stop: bool = True
    reset_context: bool = False
    reward: float = 0.0
    discount: float = 1.0
    attempt: int = 0
    terminated: bool = False
    truncated: bool = False
    written: list | None = None  # what answered it


def ids(said) -> list[int]:
    """Tokens of a `Text`."""
    return np.asarray(said.ids)[: int(said.length)].tolist()


def _free(symbols):
    grammar = text.any_text(tiny.TOKENIZER, None if symbols == "any" else symbols, stop=False)
    return list(tiny.edges(grammar, grammar.root))


@functools.cache
def _compiled(reset, step, describe, legal):
    return jax.jit(reset), jax.jit(step), jax.jit(lambda state: (describe(state), legal(state)))


class PlainAct:
    """`act`, told again."""

    def __init__(self, environment, options):
        self.options, self.cost, limit = options, options.get("step_cost", 0.0), options.get("time_limit", 0)
        self.max_steps = min(steps for steps in (environment.max_steps, limit) if steps)
        self.worst_reward, self.answer_capacity = environment.worst_reward - self.cost, environment.answer_capacity
        self.reset, self.step, self.say = _compiled(environment.reset, environment.step, environment.describe, environment.legal)

    def _ask(self, **rest):
        said, exists = self.say(self.state)
        legal = [string for string, here in zip(STRINGS, np.asarray(exists), strict=True) if here]
        budget = 0 if rest.get("truncated") else max(map(len, STRINGS)) + (0 if self._longest_is_final() else 1)
        return Told(ids(said), Kind.ACTION, budget, legal, reset_context=self.options["resets_context"], **rest)

    def _longest_is_final(self):
        longest = max(STRINGS, key=len)
        return not any(other != longest and other[: len(longest)] == longest for other in STRINGS)

    def start(self, key):
        self.state, self.turns = self.reset(key), 0
        return self._ask()

    def advance(self, key, written, legal):
        self.turns += 1
        over = self.turns >= self.max_steps
        discount = self.options.get("discount", 1.0)
        if written not in legal:
            reward = self.worst_reward - self.options["illegal_penalty"]
            again = self._ask(reward=reward, truncated=over, discount=discount)
            return dataclasses.replace(again, read=again.read[-self.answer_capacity :] if self.answer_capacity else again.read)
        self.state, step = self.step(key, self.state, jnp.int32(STRINGS.index(written)))
        terminated = bool(step.terminated)
        truncated = not terminated and (bool(step.truncated) or over)
        return self._ask(reward=float(step.reward) - self.cost, terminated=terminated, truncated=truncated, discount=discount)


class PlainThink:
    """`think`, told again."""

    def __init__(self, inner, options):
        self.inner, self.options, self.held = inner, options, None
        self.candidates = _free(options["symbols"])

    def _hold(self, turn):
        if turn.kind.name.lower() != self.options.get("precedes", "action") or turn.terminated or turn.truncated:
            return turn
        self.held = turn
        return dataclasses.replace(
            turn, read=turn.read + text.token_ids(tiny.TOKENIZER, " think"), kind=Kind.THINK, budget=self.options["budget"], legal=None,
            symbols=self.candidates, stop=self.options["stop"],
        )  # fmt: skip

    def start(self, key):
        return self._hold(self.inner.start(key))

    def advance(self, key, written, legal):
        if self.held is None:
            return self._hold(self.inner.advance(key, written, legal))
        turn, self.held = self.held, None
        return dataclasses.replace(turn, read=text.token_ids(tiny.TOKENIZER, " so"), reset_context=False, reward=0.0, discount=1.0)


class PlainAttempts:
    """`attempts`, told again: the transcript is kept whole, and cut where it is used."""

    def __init__(self, inner, options):
        self.inner, self.options, self.memory = inner, options, options["memory"]
        self.note = self.memory if isinstance(self.memory, agents.Reflection) else None
        self.window = getattr(self.memory, "num_tokens", 0)
        self.ask = text.token_ids(tiny.TOKENIZER, self.note.ask) if self.note else []
        self.candidates = _free(self.note.symbols) if self.note else []

    def start(self, key):
        self.task, self.attempt, self.reflecting, self.kept, self.dying = key, 0, False, [], 1.0
        turn = self.inner.start(key)
        self.transcript = list(turn.read)
        return turn

    def _next(self, key, ended, note, reward):
        first, reset_context = self.inner.start(self.task), self.memory.resets_context
        if self.note and self.note.annealed:
            reset_context &= bool(jax.random.uniform(key) >= CURRICULUM[self.options["name"]]["keep"])
        self.transcript += ended
        self.kept = (self.transcript[-self.window :] if self.window else []) + self.ask + note
        read = (self.kept if reset_context else ended + self.ask + note) + first.read
        self.transcript += self.ask + note + first.read
        self.attempt, self.reflecting = self.attempt + 1, False
        return dataclasses.replace(
            first, read=read, reset_context=reset_context, reward=reward, discount=self.options["discount"], attempt=self.attempt
        )

    def advance(self, key, written, legal):
        key_inner, key_forget = jax.random.split(key)
        self.transcript += written
        if self.reflecting:
            return self._next(key_forget, [], written, 0.0)
        turn = self.inner.advance(key_inner, written, legal)
        is_last = self.attempt == self.options["num_attempts"] - 1
        before = self.kept if turn.reset_context else []
        if is_last or not (turn.terminated or turn.truncated):
            self.transcript += turn.read
            return dataclasses.replace(turn, read=before + turn.read, attempt=self.attempt)
        if not self.note:
            return self._next(key_forget, turn.read, [], turn.reward)
        self.reflecting = True
        self.transcript += turn.read + self.ask
        return dataclasses.replace(
            turn, read=before + turn.read + self.ask, kind=Kind.REFLECTION, budget=self.note.budget, legal=None, symbols=self.candidates,
            stop=self.note.stop, attempt=self.attempt, terminated=False, truncated=False, discount=1.0,
        )  # fmt: skip


class PlainRemember:
    """`remember`, told again."""

    kind, ask, reads_first = Kind.NOTE, text.token_ids(tiny.TOKENIZER, " note"), False

    def __init__(self, inner, options):
        self.inner, self.options = inner, {"num_notes": 1, "symbols": "any", "stop": False, "annealed": False, **options}
        self.first, self.every = options.get("first") or options["every"], options["every"] or 10**6
        self.candidates = _free(self.options["symbols"])

    def start(self, key):
        self.notes, self.count, self.doing, self.place = [[] for _ in range(self.options["num_notes"])], 0, "turn", 0
        turn = self.inner.start(key)
        self.attempt = turn.attempt
        return self._follow(turn, [])

    def _page(self):
        many = len(self.notes) > 1
        return sum([self.ask + (DIGITS[i] if many else []) + note for i, note in enumerate(self.notes)], [])

    def _ask_note(self, read, **rest):
        self.doing = "note"
        return Told(read, self.kind, self.options["budget"], None, self.candidates, self.options["stop"], attempt=self.attempt, **rest)

    def _follow(self, turn, page):
        is_due = self.count in range(self.first, self.count + 1, self.every) and not (turn.terminated or turn.truncated)
        if not is_due or self.reads_first:
            self.attempt = turn.attempt
        if not is_due:
            return dataclasses.replace(turn, read=page + turn.read)
        self.held, paid = turn, {"reward": turn.reward, "discount": turn.discount}
        if self.reads_first:
            return self._ask_note(page + turn.read + self.ask, reset_context=turn.reset_context, **paid)
        if len(self.notes) == 1:
            return self._ask_note(self.ask, **paid)
        self.doing = "place"
        return Told(self.ask, Kind.CONTROL, 1, DIGITS[: len(self.notes)], attempt=self.attempt, **paid)

    def advance(self, key, written, legal):
        key_inner, key_cut = jax.random.split(key)
        if self.doing == "place":
            self.place = DIGITS.index(written) if written in legal else 0
            return self._ask_note([])
        if self.doing == "note":
            self.notes[self.place], self.doing, self.attempt = written, "turn", self.held.attempt
            reset_context = True
            if self.options["annealed"]:
                drawn = bool(jax.random.uniform(key_cut) >= CURRICULUM[self.options["name"]]["keep"])
                reset_context = self.held.reset_context or drawn
            return dataclasses.replace(self.held, read=self._page() + self.held.read, reset_context=reset_context, reward=0.0, discount=1.0)
        turn = self.inner.advance(key_inner, written, legal)
        self.count += 1
        return self._follow(turn, self._page() if turn.reset_context else [])


class PlainPlan(PlainRemember):
    """`plan`, told again."""

    kind, ask, reads_first = Kind.PLAN, text.token_ids(tiny.TOKENIZER, " plan"), True

    def __init__(self, inner, options):
        super().__init__(inner, {"every": 0, **options})
        self.first, self.every = options.get("first", 0), options.get("every") or 10**6


class PlainMenu:
    """`menu`, told again; of the layers that are its moves only their fields are read."""

    def __init__(self, inner, options):
        self.inner, self.budget, self.doing, self.kept = inner, options["budget"], "inner", {}
        self.moves, ids_of = options["moves"], functools.partial(text.token_ids, tiny.TOKENIZER)
        self.words = [ids_of(move.before if isinstance(move, agents.Think) else move.ask) for move in self.moves]
        self.act, self.ask = ids_of(options.get("act", " action")), ids_of(options["ask"]) if options["ask"] else []

    def _page(self):
        return sum([self.words[index] + said for index, said in sorted(self.kept.items()) if said], [])

    def _ask(self, turn, read):
        self.doing = "choice"
        most = [getattr(move, "max_calls", self.budget if isinstance(move, agents.Think) else 1) for move in self.moves]
        legal = [word for word, count, limit in zip(self.words, self.counts, most, strict=True) if count < limit]
        return dataclasses.replace(turn, read=read + self.ask, kind=Kind.CONTROL, budget=1, legal=[*legal, self.act])

    def _hold(self, turn):
        self.doing, self.counts, self.held = "inner", [0] * len(self.moves), turn
        read = (self._page() if turn.reset_context else []) + turn.read
        if turn.kind != Kind.ACTION or turn.terminated or turn.truncated:
            return dataclasses.replace(turn, read=read)
        return self._ask(turn, read)

    def _calls(self, move):
        (tool,) = move.tools
        return [text.token_ids(tiny.TOKENIZER, tool.name + argument) for argument in tool.arguments[0]]

    def _answer(self, move, written):
        """What is read after a move, and its reward."""
        if isinstance(move, agents.Think):
            return text.token_ids(tiny.TOKENIZER, move.after) if move.after else [], 0.0
        if not isinstance(move, agents.UseTools):
            return [], 0.0
        if written not in self._calls(move):
            return [], -move.illegal_penalty
        account = self.inner
        while hasattr(account, "inner"):
            account = account.inner
        number = (int(account.state.secret) + self._calls(move).index(written)) % 4
        return text.token_ids(tiny.TOKENIZER, f" is {number} right"), -move.call_cost

    def start(self, key):
        return self._hold(self.inner.start(key))

    def advance(self, key, written, legal):
        if self.doing == "inner":
            return self._hold(self.inner.advance(key, written, legal))
        turn = dataclasses.replace(self.held, reset_context=False, reward=0.0, discount=1.0)
        if self.doing == "choice":
            if written not in legal or written == self.act:
                self.doing = "inner"
                return dataclasses.replace(turn, read=[] if written in legal else self.act)
            self.doing = self.words.index(written)
            move = self.moves[self.doing]
            if isinstance(move, agents.UseTools):
                calls = self._calls(move)
                return dataclasses.replace(turn, read=[], kind=Kind.TOOL, budget=max(map(len, calls)), legal=calls)
            asked = dict(kind=move.writes[0], budget=move.budget, legal=None, symbols=_free(move.symbols), stop=move.stop)
            return dataclasses.replace(turn, read=[], **asked)
        move = self.moves[self.doing]
        self.counts[self.doing] += 1
        read, reward = self._answer(move, written)
        turn = dataclasses.replace(turn, reward=reward)
        if isinstance(move, agents.Plan | agents.Remember):
            self.kept[self.doing] = written
            read, turn = self._page() + self.held.read, dataclasses.replace(turn, reset_context=True)
        if sum(self.counts) < self.budget:
            return self._ask(turn, read)
        self.doing = "inner"
        return dataclasses.replace(turn, read=read + self.act)


def plain(recipe):
    """The account of a recipe: `start(key)`, `advance(key, written, legal)`, which return a `Told`."""
    maker, inner, options = recipe
    if maker == "act":
        return PlainAct(inner, options)
    accounts = {"think": PlainThink, "attempts": PlainAttempts, "remember": PlainRemember, "plan": PlainPlan, "menu": PlainMenu}
    return accounts[maker](plain(inner), options)


# ---------------------------------------------------------------- episodes


def any_writing(draw: random.Random, turn: Told) -> list[int]:
    """What somebody might write in a turn: mostly legal, sometimes not, of any length that the budget allows."""
    if turn.legal is None:
        length = draw.randint(0, turn.budget) if turn.stop else turn.budget
        return [draw.choice(turn.symbols) for _ in range(length)]
    if draw.random() < 0.8:
        return list(draw.choice(turn.legal))
    return [draw.choice(CANDIDATES) for _ in range(draw.randint(1, turn.budget))]


def compare(turn, told: Told, where: str):
    """Whether an interaction's turn is what the account tells; of an episode that terminated nothing is read or written."""
    is_over = told.terminated
    found = [bool(turn.terminated), bool(turn.truncated), sum(float(part) for part in turn.reward), float(turn.discount), int(turn.attempt)]
    assert found == [told.terminated, told.truncated, told.reward, told.discount, told.attempt], where
    if is_over:
        return
    assert ids(turn.read) == told.read, where
    assert [int(turn.kind), int(turn.budget), bool(turn.reset_context)] == [told.kind, told.budget, told.reset_context], where


def live(recipe, interaction: Interaction, seeds, longest: bool = False) -> list[list[Told]]:
    """Plays episodes of an interaction and of its account, text by text, and compares all turns; `longest` uses up every budget."""

    @jax.jit
    def advance(key, state, turn, said):
        choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        return is_legal, interaction.advance(key, CURRICULUM, state, Segment(said, jnp.where(is_legal, choice, -1), is_legal))

    start, episodes = jax.jit(interaction.start), []
    for seed in seeds:
        draw, account, key, told_turns = random.Random(seed), plain(recipe), jax.random.key(seed), []
        (state, turn), told = start(key, CURRICULUM), account.start(key)
        compare(turn, told, "start")
        told_turns.append(told)
        while not (told.terminated or told.truncated):
            writing = [draw.choice(told.symbols or CANDIDATES) for _ in range(told.budget)] if longest else any_writing(draw, told)
            told.written = writing
            said = np.zeros(interaction.size.written, np.int32)
            said[: len(writing)] = writing
            key = jax.random.fold_in(key, len(told_turns))
            is_legal, (state, turn) = advance(key, state, turn, Text(jnp.asarray(said), jnp.int32(len(writing))))
            assert bool(is_legal) == (told.legal is None or writing in told.legal)
            told = account.advance(key, writing, told.legal)
            compare(turn, told, f"seed {seed}, turn {len(told_turns)}")
            told_turns.append(told)
        episodes.append(told_turns)
    return episodes


def extent(episode: list[Told]) -> tuple[int, int]:
    """Tokens of an episode, and of the longest of its contexts; an episode that terminated does not read its last turn."""
    contexts = [0]
    for turn in episode:
        contexts += [0] if turn.reset_context else []
        contexts[-1] += 0 if turn.terminated else len(turn.read) + len(turn.written or ())
    return sum(contexts), max(contexts)


def assert_fits(episode: list[Told], size: Size):
    """Nothing of an episode is larger than a size says."""
    tokens, context = extent(episode)
    assert tokens <= size.episode and context <= size.context and len(episode) - 1 <= size.turns
    assert max(len(turn.read) for turn in episode) <= size.read and max(turn.budget for turn in episode) <= size.written
    assert sum(turn.reset_context for turn in episode[1:]) <= size.context_resets
    in_context = [0]
    for turn in episode[:-1]:
        in_context += [0] if turn.reset_context else []
        in_context[-1] += 1
    assert max(in_context) <= size.context_turns


def walk(interaction, writer, seeds):
    """Plays episodes with a writer, `(live context, kind, legal) -> ids`; returns pay, longest context, and the last context of each."""

    @jax.jit
    def advance(key, state, turn, said):
        choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        return interaction.advance(key, {}, state, Segment(said, jnp.where(is_legal, choice, -1), is_legal))

    start, found = jax.jit(interaction.start), []
    for seed in seeds:
        state, turn = start(jax.random.key(seed), {})
        context, longest, paid = ids(turn.read), 0, 0.0
        while not turn.terminated and not turn.truncated:
            at_last = list(context)
            written = writer(context, int(turn.kind), np.asarray(turn.legal))
            state, turn = advance(jax.random.key(0), state, turn, text.pad(text.constant(written), interaction.size.written))
            longest = max(longest, len(context) + len(written))
            context = ([] if turn.reset_context else context + written) + ids(turn.read)
            paid += float(turn.reward.outcome)
        found.append((paid, longest, at_last))
    return found


def longest_context(trajectory: Trajectory) -> int:
    """Tokens of the longest context of a trajectory."""
    index = np.arange(trajectory.token.shape[1])
    return int(np.where(trajectory.token_kind > 0, index - trajectory.context_start + 1, 0).max())


def retell(recipe, trajectory: Trajectory, lane: int, lane_key: jax.Array, task_key: jax.Array, episode: int = 0) -> dict[str, list]:
    """What should stand in a lane's trajectory in one of its episodes, by the account and the tokens that were sampled alone.

    Returns:
      For each slot read: `token`, `kind`, `begin`; for each segment: `reward`, `is_legal`, `attempt`, `discount`; and `end`.
    """
    account, is_here = plain(recipe), trajectory.episode[lane] == episode
    sampled = trajectory.sampled[lane][trajectory.is_sampled[lane] & is_here].tolist()
    first, earlier = int(np.argmax(is_here)), int(trajectory.is_sampled[lane][trajectory.episode[lane] < episode].sum())
    task_key = jax.random.fold_in(lane_key, 3 * earlier + 2) if episode else task_key
    told = {name: [] for name in ("token", "kind", "context_start", "reward", "is_legal", "attempt", "discount")}
    context_start, count = first, 0

    def read(tokens, kind):
        (
            told["token"].extend(tokens),
            told["kind"].extend([int(kind)] * len(tokens)),
            told["context_start"].extend([context_start] * len(tokens)),
        )

    turn = account.start(task_key)
    read(turn.read, Kind.PROMPT)
    while not turn.truncated:
        written, unread = [], []
        left, is_over = turn.budget, False
        run = _forced(turn, written)
        if run and not _is_final(turn, run) and len(run) < left:
            read(run, turn.kind)
            written, left = written + run, left - len(run)
        while not is_over:
            read(unread, turn.kind)
            token = sampled[count]
            count += 1
            written = written if token == STOP else [*written, token]
            run = [] if token == STOP else _forced(turn, written)
            run = run if len(run) < left else []
            written, left, unread = written + run, left - 1 - len(run), [token, *run]
            is_over = token == STOP or left <= 0 or _is_final(turn, written)
        is_legal = written in turn.legal if turn.legal is not None else True
        kind = turn.kind
        told["is_legal"].append(is_legal), told["attempt"].append(turn.attempt)
        turn = account.advance(jax.random.fold_in(lane_key, 3 * (earlier + count) + 1), written, turn.legal)
        told["reward"].append(turn.reward), told["discount"].append(0.0 if turn.terminated else turn.discount)
        if turn.terminated:
            break
        if turn.reset_context:
            context_start, unread = first + len(told["token"]), []
        read(unread, kind)
        read(turn.read, Kind.OBSERVATION)
    told["end"] = "truncated" if turn.truncated else "terminated"
    assert count == len(sampled), "all that was sampled belongs to the episode"
    return told


def _forced(turn: Told, written: list) -> list:
    """The tokens that are the only way on; which strings exist now does not matter to it."""
    if turn.legal is not None:
        run = []
        while True:
            far = len(written) + len(run)
            going = [string for string in STRINGS if string[:far] == written + run]
            following = {string[far] for string in going if len(string) > far}
            if len(following) != 1 or any(len(string) == far for string in going):
                return run
            run.append(following.pop())
    return []


def _is_final(turn: Told, written: list) -> bool:
    if turn.legal is None:
        return False
    if turn.kind == Kind.CONTROL:
        return written in turn.legal
    going = [string for string in STRINGS if string[: len(written)] == written]
    return going == [written]


def assert_retold(recipe, trajectory: Trajectory, lane: int, keys: tuple[jax.Array, jax.Array]):
    """Whether the first two episodes of a lane are what the account tells; `keys` are those of lanes and tasks."""
    slots = jax.tree.map(lambda x: x[lane], trajectory)
    assert slots.ends_episode.sum() >= 2
    for episode in range(2):
        told = retell(recipe, trajectory, lane, keys[0][lane], keys[1][lane], episode)
        here = (slots.token_kind > 0) & (slots.episode == episode)
        assert slots.token[here].tolist() == told["token"] and slots.context_start[here].tolist() == told["context_start"]
        assert tiny.total(slots.reward)[slots.ends_segment & here].tolist() == told["reward"]
        assert slots.discount[slots.ends_segment & here].tolist() == told["discount"]
