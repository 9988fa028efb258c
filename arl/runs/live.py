"""An agent in its environment, segment by segment, on the host: for debugging and for notebooks."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import rollout, text, training
from arl.checks import check_whole
from arl.models import Policy
from arl.rollout import Decoding, Lane, RolloutConfig, sampling, writers
from arl.rollout import lanes as lane_steps
from arl.runs import transcript
from arl.runs.check_policy import check_policy
from arl.types import ArlError, Curriculum, Interaction, Kind, Reward, Text

AUTHORS = {"policy": writers.POLICY, "expert": writers.EXPERT, "hand": 2}  # numbers as in `Trajectory.author`
MOST_TEXTS = 2000  # legal texts that are listed; tools with several arguments have many more
MOST_SHOWN = 12  # legal texts that are shown


class _Position(NamedTuple):
    """Where the policy is after the last token that it has read; nothing without a policy."""

    cache: Any = ()
    features: Any = ()
    value: jax.Array | None = None


class _Programs(NamedTuple):
    """The programs of an agent, for one lane, `[1]`; each is compiled at its first call."""

    start: Callable[[jax.Array], tuple[Lane, _Position]]
    read: Callable[[Lane, _Position], tuple[Lane, _Position]]
    ask_expert: Callable[[Lane], Any]
    write_token: Callable[[Lane, Any], tuple[Lane, jax.Array, Text, jax.Array]]
    end_segment: Callable[[Lane, Text], tuple[Lane, lane_steps.Event]]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Live:
    """An agent at one point of an episode, made by `live`. It never changes: each method returns the point that comes next.

    Attributes:
      agent: the agent in its environment.
      tokenizer: tokenizer of its texts.
      history: what was read and written so far, as `transcript.events`. A segment also has its `text`; its `author`, "policy", "expert" or
        "hand"; `rewards`, by component; `ids` of its tokens, forced ones and a stop token included; and their `log_probs` under the policy,
        None for a forced token and without a policy.
      tokens: ids of all tokens that the model has read, its own ones included.
      is_truncated: whether the episode is over because it was truncated.
    """

    agent: Interaction
    tokenizer: Any
    history: tuple[dict[str, Any], ...]
    tokens: tuple[int, ...]
    is_truncated: bool
    _programs: _Programs
    _lane: Lane  # of one lane, which has read its inbox
    _position: _Position

    @property
    def is_over(self) -> bool:
        """Whether the episode is over, and nothing more can be written."""
        return self.budget == 0

    @property
    def kind(self) -> Kind:
        """Kind of the segment to be written; after the end, that of the last one."""
        return Kind(int(self._lane.kind[0]))

    @property
    def budget(self) -> int:
        """Most tokens that can be written, a stop token included; 0 after the end."""
        return int(self._lane.budget[0])

    @property
    def attempt(self) -> int:
        """Index of the attempt."""
        return int(self._lane.attempt[0])

    @property
    def context(self) -> str:
        """All that is in the model's context now."""
        return text.to_string(self.tokenizer, self.tokens[int(self._lane.context_start[0]) :])

    @property
    def rewards(self) -> Reward:
        """Components of the reward so far, floats in the environment's units."""
        return Reward(*map(sum, zip(Reward(), *(event["rewards"] for event in self.history if event["who"] == transcript.WROTE))))

    @property
    def value(self) -> float | None:
        """The policy's value of this point, in the units of the scaled reward; None without a policy."""
        return None if self._position.value is None else float(self._position.value[0])

    @functools.cached_property
    def legal(self) -> dict[str, list[int]] | None:
        """The legal texts with their token ids, in the order of their indices, at most 2000; None for free text."""
        found = [] if self.is_over else _legal_ids(self.agent, self._lane)
        return None if found is None else {text.to_string(self.tokenizer, ids): ids for ids in found}

    def write(self, string: str) -> "Live":
        """Returns the point after a segment that is written by hand, with the tokens, forced ones included, that a rollout would write.

        A text that the grammar does not accept, or that is not legal in this turn, ends as an illegal segment. A text that is too long ends
        at the budget: free text is legal then, and any other is not.

        Args:
          string: the text, with the space before a word, such as " left".

        Raises:
          ArlError: if no rollout can write that text here, because the grammar forces or ends it otherwise, or if the episode is over.
        """
        if not isinstance(string, str):
            raise ArlError(f"{string!r} is no text; write a string, such as ' left'")
        ids = (self.legal or {}).get(string) or text.token_ids(self.tokenizer, string)
        if self.agent.grammar.stop_id in ids:
            raise ArlError(f"{string!r} contains the stop token, which ends a text by itself; leave it out")
        said = text.cut(text.constant(ids), self.agent.size.written)
        return self._write("hand", Text(said.ids[None], jnp.full(1, said.length, jnp.int32)), ids)

    def sample(self) -> "Live":
        """Lets the policy write the segment; raises `ArlError` if there is none, or if the episode is over."""
        if self.value is None:
            raise ArlError("there is no policy that could write; give live(agent, policy=..., variables=...), or write a text")
        return self._write("policy")

    def expert(self) -> "Live":
        """Lets the agent's expert write the segment; raises `ArlError` if there is none, its text does not fit, or the episode is over."""
        self._check_not_over()
        if self.kind not in self.agent.experts:
            raise ArlError(f"there is no expert for {self.kind.name}; write a text, or add an expert to Interaction.experts")
        writing = self._programs.ask_expert(self._lane)
        if int(writing.author[0]) != AUTHORS["expert"]:
            said = text.to_string(self.tokenizer, _ids(writing.proposed))
            raise ArlError(f"the expert's text {said!r} is not legal here, or too short or too long; write {self.hint(said)}")
        return self._write("expert", writing.proposed)

    def restart(self, seed: int | jax.Array) -> "Live":
        """Returns the beginning of another episode, for which nothing is compiled again; arguments as `live`."""
        return _begin(self.agent, self.tokenizer, self._programs, seed)

    def hint(self, string: str) -> str:
        """Returns the legal texts that are most like a `string`, as words."""
        return _quoted(difflib.get_close_matches(string, self.legal or {}, n=3, cutoff=0.0), between=" or ") or "free text"

    def describe(self) -> str:
        """Returns words for what may be written next, or for how the episode ended."""
        parts = ", ".join(f"{name} {part:+.2f}" for name, part in zip(Reward._fields, self.rewards) if part)
        earned = f"return {sum(self.rewards) - self.rewards.own:+.2f}{parts and f' ({parts})'}"
        if self.is_over:
            return f"the episode is over ({'truncated' if self.is_truncated else 'terminated'}); {earned}"
        value = "" if self.value is None else f", value {self.value:+.2f}"
        grammar, state = self.agent.grammar, int(self._lane.grammar_state[0])
        symbols = [text.to_string(self.tokenizer, [token]) for token in grammar.token[state][grammar.next_state[state] == state]]
        may = f"free text{_quoted(symbols, ' of ')}" if self.legal is None else _quoted([*self.legal], "legal: ")
        return f"next: {self.kind.name}, attempt {self.attempt + 1}, token budget {self.budget}; {earned} so far{value}\n{may}"

    def __repr__(self) -> str:
        return f"{transcript.to_text(list(self.history))}\n{self.describe()}"

    def _check_not_over(self) -> None:
        if self.is_over:
            raise ArlError("the episode is over; start another with restart(seed)")

    def _write(self, author: str, proposed: Text | None = None, wanted: Sequence[int] | None = None) -> "Live":
        """Returns the point after a segment: `proposed`, `[1]`, or else the policy's. It is refused if its ids are not those `wanted`."""
        self._check_not_over()
        writing: Any = self._lane.writing
        writing = writing._replace(author=jnp.full(1, AUTHORS[author], jnp.int32), proposed=proposed or writing.proposed)
        programs, lane, position, stream = self._programs, self._lane._replace(writing=writing), self._position, self.tokens
        ids, ends = list(_ids(lane.written)), False  # the tokens that the grammar forces at the beginning have been read
        log_probs, own = [None] * len(ids), lane.written
        while not ends:
            lane, ends, own, log_prob = programs.write_token(lane, position.features)
            ids += _ids(own)
            log_probs += [None if self.value is None else float(log_prob), *[None] * (len(_ids(own)) - 1)]
            if not ends:
                lane, position = programs.read(lane, position)
                stream += _ids(own)
        written = _ids(lane.written)
        if wanted is not None:
            self._check_written(wanted, written, lane)
        context_start, (lane, event) = lane.context_start, programs.end_segment(lane, own)
        event = jax.tree.map(lambda x: x[0].item(), event)
        probabilities = (None if log_prob is None else float(np.exp(log_prob)) for log_prob in log_probs)
        tokens = [(text.to_string(self.tokenizer, [token]), probability) for token, probability in zip(ids, probabilities)]
        segment = {"who": transcript.WROTE, "kind": self.kind.name, "attempt": self.attempt, "tokens": tokens, "is_over": True}
        segment |= {"is_legal": event.is_legal, "reward": sum(event.reward), "rewards": event.reward, "author": author}
        segment |= {"text": text.to_string(self.tokenizer, written), "ids": tuple(ids), "log_probs": tuple(log_probs)}
        history = (*self.history, segment, *_received(self.tokenizer, lane, bool(lane.context_start > context_start)))
        is_truncated = int(lane.budget[0]) == 0 and not event.ends_episode
        return Live(self.agent, self.tokenizer, history, stream + _inbox(lane), is_truncated, programs, *programs.read(lane, position))

    def _check_written(self, wanted: Sequence[int], written: tuple[int, ...], lane: Lane) -> None:
        """Raises `ArlError` if something else was written than `wanted`, or its beginning where the budget did not end it."""
        is_cut = int(lane.budget[0]) <= 0 and not self.agent.grammar.must_end[int(lane.grammar_state[0])]
        if tuple(wanted[: len(written)]) != written or not (is_cut or len(written) == len(wanted)):
            string, found = (text.to_string(self.tokenizer, ids) for ids in (wanted, written))
            raise ArlError(f"{string!r} cannot be written here, because the grammar makes {found!r} of it; write {self.hint(string)}")


def live(
    agent: Interaction,
    *,
    seed: int | jax.Array = 0,
    policy: Policy | None = None,
    variables: Any = None,
    curriculum: Curriculum | None = None,
    decoding: Decoding | None = None,
    tokenizer: Any = None,
) -> Live:
    """Returns an agent at the beginning of an episode.

    It is that of a lane with the two keys of `jax.random.split(key)`, its own and that of its start; `evaluation.play` plays it in lane `i`
    for its key with `i` folded in. Programs are compiled when they are first used; `Live.restart` keeps them.

    Args:
      agent: the agent in its environment.
      seed: seed of the episode, or its random key, `[]`.
      policy: the policy, for `Live.sample`, and for the log-probs of what others write; None for none.
      variables: its variables.
      curriculum: curriculum of the agent; None for schedules of 0, with which an annealed context is never kept and a scheduled reward or
        cost is not counted.
      decoding: how the policy samples a token; None for `Decoding()`.
      tokenizer: tokenizer of the texts; None for that of the agent's task.

    Raises:
      ArlError: if there is no tokenizer, or the policy, its variables and the agent do not fit together.
    """
    if not isinstance(agent, Interaction):
        raise ArlError(f"the agent is of type {type(agent).__name__}; give what agents.make_agent returns")
    tokenizer = tokenizer or (agent.task and agent.task.tokenizer)
    text.check_tokenizer(tokenizer)
    config = rollout.resolve_lengths(RolloutConfig(decoding=decoding or Decoding()), agent)
    check_policy(agent, config, policy, variables)
    if not isinstance(curriculum, Mapping | None):
        raise ArlError(f"the curriculum is {curriculum!r}; give a dict, by names of layers")
    if curriculum is None:
        curriculum = training.curriculum_at({name: training.Schedule() for layer in agent.layers for name in layer.schedules}, 0.0)
    return _begin(agent, tokenizer, _make_programs(agent, policy, variables, curriculum, config), seed)


def _begin(agent: Interaction, tokenizer: Any, programs: _Programs, seed: int | jax.Array) -> Live:
    if not isinstance(seed, jax.Array):
        check_whole(seed=seed)
        seed = jax.random.key(seed)
    lane, position = programs.start(seed)
    history = _received(tokenizer, lane, resets_context=False)
    return Live(agent, tokenizer, history, _inbox(lane), False, programs, *programs.read(lane, position))


def _make_programs(agent: Interaction, policy: Policy | None, variables: Any, curriculum: Curriculum, config: RolloutConfig) -> _Programs:
    candidates = agent.grammar.candidates
    silent = {kind: lambda key, state, attempt: text.empty(0) for kind in agent.writes}
    everything = agent._replace(experts={**silent, **agent.experts})  # an expert may know one kind of segment alone
    of_expert = {name: values for name, values in curriculum.items() if name != "expert"}
    asking = lambda lane, is_waiting: lane._replace(writing=lane.writing._replace(is_waiting=jnp.full(1, is_waiting)))

    def start(curriculum, key):
        return asking(rollout.start_lanes(agent, curriculum, config, *jax.random.split(key, (2, 1)), has_writer=True), False)

    def read(width, variables, lane, cache):
        count, offset = jnp.minimum(lane.inbox_length - lane.next_unread, width), jnp.arange(width)
        after = lane._replace(position=lane.position + count, next_unread=lane.next_unread + count)
        if policy is None:
            return after, _Position()
        index = jnp.clip(lane.next_unread[:, None] + offset, 0, lane.inbox.shape[1] - 1)
        position, tokens = lane.position[:, None] + offset, jnp.take_along_axis(lane.inbox, index, 1)
        context_start = jnp.broadcast_to(lane.context_start[:, None], position.shape)
        features, cache = policy.read(variables, tokens, position, context_start, offset < count[:, None], cache)
        features = jax.tree.map(lambda x: x[:, count[0] - 1], features)
        return after, _Position(cache, features, policy.value(variables, features))

    start_lane, read_some = jax.jit(start), jax.jit(read, static_argnums=0)

    def read_all(lane, position):
        while unread := int(lane.inbox_length[0] - lane.next_unread[0]):
            lane, position = read_some(1 if unread == 1 else config.widest, variables, lane, position.cache)
        return lane, position

    def ask_expert(variables, curriculum, lane):
        return writers.ask(agent, rollout.expert_writer(everything), variables, curriculum, asking(lane, True)).writing

    def write_token(variables, lane, features):
        logits = policy.logits(variables, features, candidates) if policy else jnp.zeros((1, len(candidates)))
        sample = sampling.choose(agent.grammar, config.decoding, lane, logits)
        column = sampling.candidate_index(candidates, sample.token)[0]
        options = sampling.options(agent.grammar, lane.grammar_state, sample.support, sample.narrowed)[0]
        is_option = options[column] & (jnp.asarray(candidates)[column] == sample.token[0])  # what is written by hand may be none
        lane, ends, own = jax.vmap(functools.partial(lane_steps.write, agent))(lane, sample.token)
        return lane, ends[0], own, jnp.where(is_option, sample.log_prob[0], -jnp.inf)

    end = lambda curriculum, *ended: jax.vmap(functools.partial(lane_steps.end_segment, agent, curriculum, False))(*ended)
    return _Programs(
        start=lambda key: (start_lane(curriculum, key), _Position(policy.empty_cache(1, config.num_slots) if policy else ())),
        read=read_all,
        ask_expert=functools.partial(jax.jit(ask_expert), variables, of_expert),
        write_token=functools.partial(jax.jit(write_token), variables),
        end_segment=functools.partial(jax.jit(end), curriculum),
    )


def _ids(said: Text) -> tuple[int, ...]:
    """Returns the token ids of a `Text` `[1]`."""
    return tuple(np.asarray(said.ids)[0, : int(said.length[0])].tolist())


def _inbox(lane: Lane) -> tuple[int, ...]:
    return _ids(Text(lane.inbox, lane.inbox_length))


def _received(tokenizer: Any, lane: Lane, resets_context: bool) -> tuple[dict[str, Any], ...]:
    """Returns the text of a turn in the inbox of a lane as an event, as in `transcript.events`; none if there is no text."""
    kinds = np.asarray(lane.inbox_kind[0])
    ids = [token for token, kind in zip(_inbox(lane), kinds) if kind in (Kind.PROMPT, Kind.OBSERVATION)]
    kind = Kind.PROMPT if Kind.PROMPT in kinds else Kind.OBSERVATION
    told = {"who": transcript.READ, "kind": kind.name, "attempt": int(lane.attempt[0]), "resets_context": resets_context}
    return ({**told, "text": text.to_string(tokenizer, ids)},) if ids else ()


def _legal_ids(agent: Interaction, lane: Lane) -> list[list[int]] | None:
    """Returns the ids of the legal texts that a lane can write, in the order of their indices; None if its text is free."""
    grammar, legal, begun = agent.grammar, np.asarray(lane.legal[0]), list(_ids(lane.written))
    edges = np.asarray(jax.vmap(lambda state: text.legal_edges(grammar, state, lane.legal[0]))(jnp.arange(len(grammar.choice))))
    waiting, found, longest = [(int(lane.grammar_state[0]), begun)], [], len(begun) + int(lane.budget[0])
    while waiting and len(found) < MOST_TEXTS:
        state, ids = waiting.pop()
        after = grammar.next_state[state]
        if (grammar.mask_index[state] >= 0 and grammar.mask_state[state] > 0) or np.any(after == state):
            return None
        if grammar.is_accepting[state] and legal[grammar.choice[state]]:
            found.append((int(grammar.choice[state]), ids))
        for edge in np.flatnonzero(edges[state])[::-1] if len(ids) < longest else ():
            if (token := int(grammar.token[state, edge])) != grammar.stop_id:  # the text without it has been found
                waiting.append((int(after[edge]), [*ids, token]))
    return [ids for _, ids in sorted(found, key=lambda pair: pair[0])]


def _quoted(strings: Sequence[str], before: str = "", between: str = ", ") -> str:
    """Returns strings in quotes, with words before them; those beyond the first few are counted. Empty if there are none."""
    rest = f", and {len(strings) - MOST_SHOWN} more" if len(strings) > MOST_SHOWN else ""
    return before + between.join(map(repr, strings[:MOST_SHOWN])) + rest if strings else ""
