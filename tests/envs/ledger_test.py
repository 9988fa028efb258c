import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import ledger
from arl.envs.ledger import make_ledger
from tests.second_tokenizer import second_tokenizer


def circles(num_entries):
    """All tables that lead through all rows in one circle."""
    for order in itertools.permutations(range(1, num_entries)):
        rows = (0, *order)
        table = dict(zip(rows, rows[1:] + rows[:1], strict=True))
        yield tuple(table[row] for row in range(num_entries))


@pytest.mark.parametrize("num_entries, num_hops", [(64, 1), (9, 1), (9, 4), (9, 8)])
def test_expert_and_random_answers_earn_what_is_computed(tokenizer, episodes, uniform, agrees, num_entries, num_hops):
    environment = make_ledger(tokenizer, num_entries, num_hops)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 1000, 2)
    assert is_over.all() and set(num_steps) == {1}
    assert np.all(returns == 1.0)
    returns, num_steps, is_over = episodes(environment, uniform(environment), 1, 20_000, 2)
    assert is_over.all() and set(num_steps) == {1}
    assert agrees(returns, ledger.random_return(num_entries))


@pytest.mark.parametrize("num_hops", [1, 3])
def test_who_looks_up_is_right_and_who_does_not_guesses_among_the_other_rows(tokenizer, episodes, agrees, num_hops):
    environment = make_ledger(tokenizer, 12, num_hops)

    def looks_up(key, state):
        row = state.row
        for _ in range(num_hops):
            row = ledger.look_up(state, row)
        return row

    assert np.all(episodes(environment, looks_up, 0, 2000, 1)[0] == 1.0)
    returns = episodes(environment, lambda key, state: (state.row + 5) % 12, 1, 20_000, 1)[0]
    assert agrees(returns, 1 / 11)
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(2), 11_000))
    counts = np.bincount(np.asarray((state.value - state.row) % 12), minlength=12)
    assert counts[0] == 0 and np.all(abs(counts[1:] - 1000) < 5 * np.sqrt(1000))


def test_tables_are_uniform_circles_and_rows_uniform(tokenizer):
    environment, num_samples = make_ledger(tokenizer, 4, 2), 12_000
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), num_samples))
    table, row, value = (np.asarray(x) for x in (state.table, state.row, state.value))
    seen = collections.Counter(zip(map(tuple, table.tolist()), row.tolist(), strict=True))
    assert set(seen) == set(itertools.product(circles(4), range(4)))
    expected = num_samples / len(seen)
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in seen.values())
    lanes = np.arange(num_samples)
    assert np.array_equal(value, table[lanes, table[lanes, row]])


def test_look_up(tokenizer):
    environment = make_ledger(tokenizer, 7)
    state = environment.reset(jax.random.key(3))
    found = jax.vmap(ledger.look_up, (None, 0))(state, jnp.array([0, 3, 6, -2, 9]))
    table = np.asarray(state.table)
    assert found.dtype == jnp.int32 and found.tolist() == table[[0, 3, 6, 0, 6]].tolist()
    assert ledger.look_up(state, state.row) == state.value


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
@pytest.mark.parametrize("num_hops, asks", [(1, "Row 17:"), (2, "Row 17, 2 steps:")])
def test_text_of_an_episode(load, num_hops, asks):
    tokenizer = load()
    environment = make_ledger(tokenizer, 64, num_hops)
    state = environment.reset(jax.random.key(0))._replace(row=jnp.int32(17), value=jnp.int32(42))
    for action, end in ((42, " correct\n"), (5, " wrong\n")):
        after, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        whole = text.concatenate(environment.describe(state), text.say_choice(environment.grammar, action), environment.describe(after))
        assert text.to_string(tokenizer, whole) == f"{asks} {action}{end}"
        assert text.check_text(tokenizer, whole) == []


def test_no_text_shows_the_table(tokenizer):
    """What is read is a function of the row asked for and of what was answered, alone."""
    environment = make_ledger(tokenizer, 8)
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 200))
    assert len({tuple(x) for x in np.asarray(state.table).tolist()}) > 150
    said = np.asarray(jax.vmap(environment.describe)(state).ids)
    row = np.asarray(state.row)
    assert all(len(np.unique(said[row == i], axis=0)) == 1 for i in range(8))
    assert environment.describe(environment.reset(jax.random.key(0))).ids.shape == (3,)


def test_paid_once(tokenizer):
    environment = make_ledger(tokenizer, 8)
    start = environment.reset(jax.random.key(0))
    wrong = (start.value + 1) % 8
    for actions, rewards, said in (((start.value, start.value), (1, 0), ledger.CORRECT), ((wrong, start.value), (0, 0), ledger.WRONG)):
        state = start
        for action, reward in zip(actions, rewards, strict=True):
            state, answer = environment.step(jax.random.key(0), state, action)
            assert float(answer.reward) == reward and bool(answer.terminated) and not bool(answer.truncated)
            assert int(state.answer) == said


def test_what_is_asked_and_answered_is_the_state_hash(tokenizer):
    environment = make_ledger(tokenizer, 8)
    start = environment.reset(jax.random.key(0))
    state_hashes = {int(environment.state_hash(start._replace(row=jnp.int32(r), answer=jnp.int32(a)))) for r in range(8) for a in range(3)}
    assert len(state_hashes) == 24
    assert environment.state_hash(start._replace(table=start.table[::-1])) == environment.state_hash(start)


@pytest.mark.parametrize(
    "options, says",
    [(dict(num_entries=2), "at least 3"), (dict(num_hops=0), "num_hops to 1, ..., 63"), (dict(num_entries=5, num_hops=5), "to 1, ..., 4")],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        make_ledger(tokenizer, **options)
