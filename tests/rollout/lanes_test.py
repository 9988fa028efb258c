"""A lane by itself: what it reads and writes when candidates are chosen by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.agents import Act
from arl.rollout import lanes as lane_steps
from arl.types import Kind, Text
from tests import agents_fixtures as plain
from tests import tiny


def say(string):
    return text.token_ids(tiny.TOKENIZER, string)


def act(words, **options):
    walk = tiny.make_walk()
    legal = lambda state: jnp.ones(len(words), bool)
    return tiny.make(walk._replace(grammar=text.legal_strings(tiny.TOKENIZER, words), legal=legal), Act(**options))


def open_lane(interaction, context=0, seed=0):
    capacity = lane_steps.inbox_capacity(interaction, context)
    return lane_steps.open_lane(interaction, tiny.CURRICULUM, capacity, jax.random.key(seed), jax.random.key(seed + 1))


def read(lane):
    """The lane has read its inbox."""
    return lane._replace(position=lane.position + lane.inbox_length - lane.next_unread, next_unread=lane.inbox_length)


def unread(lane):
    return np.asarray(lane.inbox)[int(lane.next_unread) : int(lane.inbox_length)].tolist()


def kinds(lane):
    return np.asarray(lane.inbox_kind)[int(lane.next_unread) : int(lane.inbox_length)].tolist()


def write(interaction, lane, token):
    return lane_steps.write(interaction, lane, jnp.int32(token))


def test_an_episode_begins_with_its_prompt():
    lane = open_lane(act(tiny.WORDS))
    assert unread(lane) == say("Move:") and set(kinds(lane)) == {Kind.PROMPT}
    assert int(lane.position) == int(lane.context_start) == int(lane.turn) == int(lane.episode) == 0


def test_what_the_grammar_forces_is_written_without_being_sampled():
    interaction = act(tiny.WORDS)
    up, right, down, left = say(" up right down left")
    lane, ends, own = write(interaction, read(open_lane(interaction)), up)
    assert not ends and plain.ids(own) == [up] == unread(lane), "it might end here, or go on"
    lane, ends, own = write(interaction, read(lane), right)
    assert ends and plain.ids(own) == [right, down, left] == unread(lane) and int(lane.num_sampled) == 2
    assert plain.ids(lane.written) == [up, right, down, left] and set(kinds(lane)) == {Kind.ACTION}


def test_a_forced_beginning_is_read_with_the_turn():
    interaction = act([" left right", " left down"])
    lane = open_lane(interaction)
    assert unread(lane) == say("Move:") + say(" left") and kinds(lane)[-1] == Kind.ACTION
    assert int(lane.budget) == 1, "it counts as written"
    lane, ends, _ = write(interaction, read(lane), say(" down")[0])
    assert ends and plain.ids(lane.written) == say(" left down")


def test_a_string_that_is_forced_to_its_end_is_a_decision_all_the_same():
    lane = open_lane(act([" left down"]))
    assert unread(lane) == say("Move:") and int(lane.budget) == 2


def test_a_stop_token_is_read_but_does_not_belong_to_the_text():
    interaction = act(tiny.WORDS)
    lane, _, _ = write(interaction, read(open_lane(interaction)), say(" up")[0])
    lane, ends, own = write(interaction, read(lane), plain.STOP)
    assert ends and plain.ids(own) == [plain.STOP] == unread(lane) and plain.ids(lane.written) == say(" up")
    after, event = lane_steps.end_segment(interaction, {}, False, lane, own)
    assert event.is_legal and int(after.state.environment.last) == 3
    assert unread(after) == [plain.STOP, *say(":")] and kinds(after)[0] == Kind.ACTION and kinds(after)[-1] == Kind.OBSERVATION


@pytest.mark.parametrize(("string", "choice"), [(" left down", 1), (" left up", -1), (" right right right right", -1)])
def test_without_a_grammar_a_segment_ends_where_the_text_does_or_at_its_budget(string, choice):
    """A text that is not in the grammar uses up its budget, and is illegal then."""
    interaction = act(tiny.WORDS)
    interaction = interaction._replace(grammar=text.free(interaction.grammar, len(tiny.TOKENIZER)))
    lane, ends, own = read(open_lane(interaction)), False, text.empty(0)
    tokens = (say(string) + say(" up") * 4)[:4]
    while not ends:
        lane, ends, own = write(interaction, lane, tokens[int(lane.num_sampled)])
        lane = lane if ends else read(lane)
    assert int(lane.num_sampled) == (2 if choice >= 0 else 4) and (int(lane.budget) == 0) == (choice < 0)
    after, event = lane_steps.end_segment(interaction, {}, False, lane, own)
    assert bool(event.is_legal) == (choice >= 0) and bool(event.ends_segment)
    assert float(event.reward.process) == pytest.approx(0.0 if choice >= 0 else -0.1)
    assert int(after.state.environment.last) == choice and int(after.turn) == 1


def test_what_is_forced_but_does_not_fit_its_budget_is_not_written():
    interaction = act(tiny.WORDS)
    lane = read(open_lane(interaction))._replace(budget=jnp.int32(3))
    lane, _, _ = write(interaction, lane, say(" up")[0])
    lane, ends, own = write(interaction, read(lane), say(" right")[0])
    assert not ends and plain.ids(own) == say(" right") and int(lane.budget) == 1
    lane, ends, own = write(interaction, read(lane), say(" down")[0])
    _, event = lane_steps.end_segment(interaction, {}, False, lane, own)
    assert ends and not event.is_legal, "a beginning of a legal string is no legal string"


def test_to_forget_is_to_begin_anew_without_the_last_word():
    interaction = act(tiny.WORDS, resets_context=True)
    lane, _, own = write(interaction, read(open_lane(interaction)), say(" left")[0])
    lane, ends, own = write(interaction, read(lane), say(" down")[0])
    after, _ = lane_steps.end_segment(interaction, {}, False, lane, own)
    assert ends and unread(after) == say(" higher paid reward:") and int(after.context_start) == int(after.position) > 0


@pytest.mark.parametrize("restarts", [False, True])
def test_an_episode_that_ends_is_followed_by_another_or_by_nothing(restarts):
    interaction = tiny.guess()
    lane, _, own = write(interaction, read(open_lane(interaction)), say(" 2")[0])
    after, event = lane_steps.end_segment(interaction, {}, restarts, lane, own)
    assert event.ends_episode and not event.is_truncated and float(event.discount) == 0
    assert unread(after) == (say("Guess:") if restarts else [])
    if restarts:
        assert int(after.context_start) == int(after.position) == int(lane.position) and int(after.episode) == 1 and int(after.turn) == 0
        numbers = {
            int(lane_steps.restart(interaction, {}, read(open_lane(interaction, seed=seed))).state.environment.number) for seed in range(12)
        }
        assert len(numbers) > 1, "the next task comes from the lane's key"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_truncated_episode_ends_without_reward_once_it_has_been_read(restarts):
    lane, event = lane_steps.end_truncated(tiny.guess(), {}, restarts, read(open_lane(tiny.guess())))
    assert event.ends_episode and event.is_truncated and not event.ends_segment and tiny.total(event.reward) == 0
    assert bool(unread(lane)) == restarts and float(event.discount) == 0


def test_a_live_context_crosses_trajectories_with_what_was_not_read():
    interaction = act(tiny.WORDS)
    lane = open_lane(interaction, context=12)
    tokens = jnp.arange(100, 110)
    lane = lane._replace(position=jnp.int32(10), context_start=jnp.int32(6), next_unread=jnp.int32(1), episode=jnp.int32(3))
    rest = unread(lane)
    after = lane_steps.carry_over(lane, tokens)
    assert unread(after) == [106, 107, 108, 109, *rest] and kinds(after)[:4] == [Kind.PROMPT] * 4
    assert int(after.position) == int(after.context_start) == int(after.episode) == 0
    assert int(after.num_sampled) == int(lane.num_sampled) and int(after.turn) == int(lane.turn), "the episode goes on"


def test_an_inbox_holds_a_live_context_and_the_longest_turn():
    interaction = act(tiny.WORDS)
    assert lane_steps.inbox_capacity(interaction, 40) >= 40 + interaction.size.read
    size, forced = interaction.size, interaction.grammar.forced.shape[1]
    assert lane_steps.inbox_capacity(interaction, 0) >= 1 + forced + size.read + forced


def test_numbers_belong_to_the_lane_and_to_how_much_it_has_sampled():
    """Neither to what it has read, nor to where it stands in a trajectory."""
    lane = open_lane(act(tiny.WORDS))
    elsewhere = read(lane)._replace(context_start=jnp.int32(2), turn=jnp.int32(1))
    assert float(lane_steps.draw(lane)) == float(lane_steps.draw(elsewhere))
    drawn = [float(lane_steps.draw(lane._replace(num_sampled=jnp.int32(i)))) for i in range(50)]
    drawn += [float(lane_steps.draw(open_lane(act(tiny.WORDS), seed=seed))) for seed in range(1, 4)]
    assert len(set(drawn)) == len(drawn)


def test_a_stopped_lane_reads_and_writes_nothing():
    lane = lane_steps.stop(open_lane(act(tiny.WORDS)))
    assert unread(lane) == [] and int(lane.budget) == 0


def test_a_batch_of_lanes_is_each_lane():
    interaction = tiny.guess()
    keys, task_keys = tiny.keys(3)
    capacity = lane_steps.inbox_capacity(interaction, 0)
    batch = lane_steps.open_lanes(interaction, {}, capacity, keys, task_keys)
    for index in range(3):
        alone = lane_steps.open_lane(interaction, {}, capacity, keys[index], task_keys[index])
        assert jax.tree.all(jax.tree.map(lambda a, b, index=index: bool((a[index] == b).all()), batch, alone))


def test_no_event_is_worth_nothing():
    event = lane_steps.no_event()
    assert tiny.total(event.reward) == 0 and float(event.discount) == 1 and not any(map(bool, event[2:]))
    assert isinstance(open_lane(tiny.guess()).written, Text)
