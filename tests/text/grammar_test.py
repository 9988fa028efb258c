"""Token automata against brute force over their strings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.types import Grammar, Text
from tests.second_tokenizer import second_tokenizer

SMALL = text.load_tokenizer()
STOP = SMALL.eos_token_id
TOKENIZERS = {"small": lambda: SMALL, "second": second_tokenizer}

# Strings whose tokens (bytes, in the small tokenizer) share beginnings, are beginnings of each other, and are not in their trie's order.
PREFIXES = ["ab", "abc", "ba", "a", "abd", "bac", "b"]
SETS = [
    PREFIXES,
    [" left", " right", " up", " down"],
    [f" {i}" for i in range(97, 131)],
    ["only this"],
    [" go", " go north", " go north now", " stay"],
]


def as_text(ids: list[int], capacity: int = 26) -> Text:
    return Text(jnp.asarray(ids + [5] * (capacity - len(ids)), jnp.int32), jnp.int32(len(ids)))


def support(grammar: Grammar, state, legal: jax.Array) -> jax.Array:
    """The candidates that may follow, bool `[..., U]`."""
    return text.support(grammar, state, text.legal_edges(grammar, state, legal))


def written_forms(tokenizer, strings: list[str]) -> list[list[int]]:
    """The tokens of each string as they are written: with a stop token if a longer string begins with them."""
    lists = [text.token_ids(tokenizer, string) for string in strings]
    goes_on = lambda ids: any(other[: len(ids)] == ids and len(other) > len(ids) for other in lists)
    return [ids + [tokenizer.eos_token_id] * goes_on(ids) for ids in lists]


def states_of(grammar: Grammar, root: int, forms: list[list[int]]) -> dict[tuple[int, ...], int]:
    """The state after every beginning of every form."""
    states = {(): root}
    for form in forms:
        for n, token in enumerate(form):
            states[tuple(form[: n + 1])] = int(text.follow(grammar, states[tuple(form[:n])], token))
    return states


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("strings", SETS, ids=lambda strings: strings[0])
def test_support_is_what_some_legal_string_goes_on_with(name, strings):
    tokenizer = TOKENIZERS[name]()
    grammar = text.legal_strings(tokenizer, strings)
    forms = written_forms(tokenizer, strings)
    states = states_of(grammar, grammar.root, forms)
    assert 0 not in states.values() and len(set(states.values())) == len(states) == len(grammar.choice) - 1
    generator = np.random.default_rng(0)
    legal = np.stack([np.ones(len(strings), bool), np.zeros(len(strings), bool), *(generator.random((6, len(strings))) < 0.4)])
    beginnings = list(states)
    found = jax.jit(jax.vmap(lambda state: support(grammar, jnp.full(8, state), jnp.asarray(legal))))(jnp.asarray(list(states.values())))
    assert found.shape == (len(states), 8, len(grammar.candidates))
    for begun, rows in zip(beginnings, np.asarray(found)):
        for is_legal, row in zip(legal, rows):
            wanted = {
                form[len(begun)] for form, x in zip(forms, is_legal) if x and tuple(form[: len(begun)]) == begun and len(form) > len(begun)
            }
            assert set(grammar.candidates[row].tolist()) == wanted


@pytest.mark.parametrize("symbols", [None, ["a", " left"]])
def test_support_without_a_table_is_the_same(symbols, monkeypatch):
    """A grammar too large for a table of states and candidates scatters its edges; where an edge is illegal the mask does not help."""
    grammar = text.join(text.any_text(SMALL, symbols), text.legal_strings(SMALL, PREFIXES))
    mixed = text.automaton([{}, {5: 2, 9: 3}, {}, {}], [-1, -1, 0, 1], 2, STOP, root=1, masks={1: (range(4, 12), 1)})
    grammar = text.join(grammar, mixed)
    states = jnp.arange(len(grammar.choice))
    legal = jnp.asarray(np.random.default_rng(3).random((len(states), grammar.num_choices)) < 0.4)
    with_table = support(grammar, states, legal)
    monkeypatch.setattr(text.walk, "MOST_ENTRIES", 0)
    np.testing.assert_array_equal(support(grammar, states, legal), with_table)
    only_second = support(grammar, grammar.root, jnp.zeros(grammar.num_choices, bool).at[1].set(True))
    assert np.flatnonzero(only_second).tolist() == [4, 6, 7, 8, 9, 10, 11], "5 has an edge, to a string that is not legal"


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("strings", SETS, ids=lambda strings: strings[0])
def test_what_is_legal_parses_to_its_choice(name, strings):
    tokenizer = TOKENIZERS[name]()
    stop = tokenizer.eos_token_id
    grammar = text.legal_strings(tokenizer, strings)
    lists = [text.token_ids(tokenizer, string) for string in strings]
    parse = jax.jit(jax.vmap(lambda t: text.parse(grammar, grammar.root, t)))
    many = [*lists, *(ids + [stop] for ids in lists)]
    texts = jax.tree.map(lambda *x: jnp.stack(x), *map(as_text, many))
    choice, is_legal = parse(texts)
    assert choice.tolist() == list(range(len(strings))) * 2 and is_legal.all()

    others = [
        [],
        [stop],
        *(ids + [stop, stop] for ids in lists),
        *(ids + ids for ids in lists),
        *(ids[:-1] + [3] for ids in lists),
        *([10**6] + ids for ids in lists),
    ]
    choice, is_legal = parse(jax.tree.map(lambda *x: jnp.stack(x), *map(as_text, others)))
    wanted = [lists.index(ids) if ids in lists else -1 for ids in others]
    assert choice.tolist() == wanted and is_legal.tolist() == [x >= 0 for x in wanted]


def test_what_lies_beyond_a_text_is_not_parsed():
    grammar = text.legal_strings(SMALL, PREFIXES)
    parse = jax.jit(lambda said: text.parse(grammar, grammar.root, said))
    for index, string in enumerate(PREFIXES):
        ids = text.token_ids(SMALL, string)
        for beyond in (STOP, ids[0]):
            said = Text(jnp.asarray(ids + [beyond] * (6 - len(ids)), jnp.int32), jnp.int32(len(ids)))
            assert parse(said) == (index, True)


@pytest.mark.parametrize("strings", SETS, ids=lambda strings: strings[0])
def test_a_walk_over_the_support_ends_in_a_legal_choice(strings):
    grammar = text.legal_strings(SMALL, strings)
    follows = jax.jit(lambda state, legal: support(grammar, state, legal))
    accepts = jax.jit(lambda state, legal: text.accepts(grammar, state, legal))
    generator = np.random.default_rng(1)
    budget = text.longest(grammar)
    walks, choices = [], []
    for _ in range(40):
        legal = generator.random(len(strings)) < 0.5
        legal[generator.integers(len(strings))] = True
        state, ids = grammar.root, []
        while not grammar.must_end[state]:
            ids.append(int(grammar.candidates[generator.choice(np.flatnonzero(follows(state, legal)))]))
            state = text.edges_of(grammar)[state][ids[-1]]
        assert len(ids) <= budget and legal[grammar.choice[state]] and accepts(state, legal)
        walks.append(as_text(ids))
        choices.append(grammar.choice[state])
    parsed, is_legal = jax.jit(jax.vmap(lambda t: text.parse(grammar, grammar.root, t)))(jax.tree.map(lambda *x: jnp.stack(x), *walks))
    assert is_legal.all() and parsed.tolist() == choices
    assert len(set(choices)) > len(strings) // 3, "the walks must reach many strings"


def test_accepts_asks_whether_the_string_exists():
    grammar = text.legal_strings(SMALL, ["a", "ab"])
    after_a = states_of(grammar, grammar.root, written_forms(SMALL, ["a", "ab"]))[tuple(text.token_ids(SMALL, "a"))]
    legal = jnp.asarray([[True, True], [False, True]])
    assert text.accepts(grammar, after_a, legal[0]) and not text.accepts(grammar, after_a, legal[1])
    assert text.accepts(grammar, jnp.asarray([after_a, after_a]), legal).tolist() == [True, False]
    assert not text.accepts(grammar, 0, legal[0])


@pytest.mark.parametrize("strings", SETS, ids=lambda strings: strings[0])
def test_candidates_are_those_of_the_strings_that_exist(strings):
    """In a joined automaton, a candidate is legal where some existing string goes on with it."""
    grammar = text.join(text.any_text(SMALL, ["a", " left"]), text.legal_strings(SMALL, strings))
    forms = written_forms(SMALL, strings)
    generator = np.random.default_rng(2)
    for legal in (np.ones(len(strings), bool), *(generator.random((4, len(strings))) < 0.3)):
        firsts = {form[0] for form, exists in zip(forms, legal) if exists}
        found = np.asarray(support(grammar, grammar.root, jnp.asarray(legal)))
        assert set(grammar.candidates[found].tolist()) == firsts


# ---------------------------------------------------------------- forced runs


@pytest.mark.parametrize("strings", SETS, ids=lambda strings: strings[0])
def test_forced_runs_follow_the_only_way(strings):
    grammar = text.legal_strings(SMALL, strings)
    num_ways = (grammar.next_state > 0).sum(1)
    for state in range(1, len(num_ways)):
        run, after = text.forced_run(grammar, state)
        for token in np.asarray(run.ids)[: int(run.length)]:
            assert num_ways[state] == 1 and not grammar.is_accepting[state]
            state = text.edges_of(grammar)[state][token]
        assert state == after and (num_ways[state] > 1 or grammar.is_accepting[state]), "a run goes as far as it can"


def test_forced_runs_by_hand():
    ids = lambda string: text.token_ids(SMALL, string)
    grammar = text.legal_strings(SMALL, ["xyz1", "xyz2a", "xyz2ab"])
    run, state = text.forced_run(grammar, grammar.root)
    assert np.asarray(run.ids)[: int(run.length)].tolist() == ids("xyz")
    after_2 = text.edges_of(grammar)[int(state)][ids("2")[0]]
    run, state = text.forced_run(grammar, after_2)
    assert np.asarray(run.ids)[: int(run.length)].tolist() == ids("a"), "it may end or go on: a choice"
    assert grammar.is_accepting[state] and not grammar.must_end[state]
    assert text.longest(grammar) == 6 and text.longest(text.legal_strings(SMALL, ["abc"])) == 3


# ---------------------------------------------------------------- free text


def test_free_text_with_a_stop():
    grammar = text.any_text(SMALL, [" left", " 7", "a"])
    assert grammar.candidates.tolist() == sorted([SMALL.eos_token_id, *(text.token_ids(SMALL, x)[0] for x in (" left", " 7", "a"))])
    yes, no = jnp.ones(1, bool), jnp.zeros(1, bool)
    assert support(grammar, grammar.root, yes).all() and not support(grammar, grammar.root, no).any()
    assert grammar.is_accepting[grammar.root] and not grammar.must_end[grammar.root] and grammar.forced_length.tolist() == [0, 0, 0]
    for string in ("", " left", "aa 7 left", "aa 7<|end|>"):
        assert text.parse(grammar, grammar.root, as_text(text.token_ids(SMALL, string))) == (0, True)
    for string in ("b", "a<|end|>a", "a<|end|><|end|>"):
        assert text.parse(grammar, grammar.root, as_text(text.token_ids(SMALL, string))) == (-1, False)
    with pytest.raises(ValueError, match="give it a budget"):
        text.longest(grammar)


def test_free_text_that_only_its_budget_ends():
    grammar = text.any_text(SMALL, ["a"], stop=False)
    assert STOP not in grammar.candidates and grammar.forced_length.tolist() == [0, 0], "one symbol again and again is not forced"
    assert grammar.is_accepting[grammar.root] and not grammar.must_end.any()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_free_text_of_the_whole_vocabulary(name):
    tokenizer = TOKENIZERS[name]()
    grammar = text.any_text(tokenizer)
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    assert set(text.mask_tokens(grammar, grammar.root).tolist()) == set(range(len(tokenizer))) - special
    found = np.flatnonzero(support(grammar, grammar.root, jnp.ones(1, bool)))
    assert set(grammar.candidates[found].tolist()) == set(range(len(tokenizer))) - special | {tokenizer.eos_token_id}
    ids = text.token_ids(tokenizer, "Anything\n at all: é")
    assert text.parse(grammar, grammar.root, as_text(ids)) == (0, True)
    joined = text.join(text.legal_strings(tokenizer, [f" {i}" for i in range(100)]), grammar)
    assert sum(np.asarray(table).nbytes for table in joined) <= 8 * 4 * len(joined.choice) * joined.token.shape[1] + len(tokenizer) / 8 + 4


# ---------------------------------------------------------------- grammars of grammars


def test_join_keeps_both():
    first, second, third = text.legal_strings(SMALL, PREFIXES), text.any_text(SMALL, ["a", " 7"]), text.legal_strings(SMALL, SETS[1])
    both = text.join(text.join(first, second), third)
    roots = (first.root, text.join(first, second).root, both.root)
    assert both.num_choices == len(PREFIXES) and both.stop_id == STOP
    assert (np.diff(both.candidates) > 0).all()
    probes = ["a", "abc", "ba", "b", " left", " down", "a 7", " 7 7", "abd", "c", ""]
    texts = jax.tree.map(lambda *x: jnp.stack(x), *(as_text(text.token_ids(SMALL, x)) for x in probes))
    parse = jax.jit(jax.vmap(lambda root, t: text.parse(both, root, t), in_axes=(None, 0)))
    for part, root in zip((first, second, third), roots):
        alone = jax.jit(jax.vmap(lambda t, part=part: text.parse(part, part.root, t)))(texts)
        np.testing.assert_array_equal(alone, parse(root, texts))
        legal = jnp.asarray(list(itertools.product([False, True], repeat=part.num_choices)))
        wanted = support(part, jnp.full(len(legal), part.root), legal)
        found = np.asarray(support(both, jnp.full(len(legal), root), text.pad_legal(legal, both.num_choices)))
        columns = np.searchsorted(both.candidates, part.candidates)
        np.testing.assert_array_equal(found[:, columns], wanted)
        assert found.sum() == wanted.sum(), "nothing of the other parts is legal"
    for state in range(1, len(third.choice)):
        run, after = text.forced_run(third, state)
        moved_run, moved_after = text.forced_run(both, state + len(both.choice) - len(third.choice))
        assert run.length == moved_run.length and (np.asarray(run.ids) == np.asarray(moved_run.ids)[: len(run.ids)]).all()
        assert moved_after == int(after) + len(both.choice) - len(third.choice)


def test_join_needs_one_stop_token():
    with pytest.raises(ValueError, match="one tokenizer"):
        text.join(text.any_text(SMALL), text.any_text(second_tokenizer()))


def test_free_is_the_same_automaton_without_a_mask():
    grammar = text.join(text.any_text(SMALL, ["a"]), text.legal_strings(SMALL, SETS[4]))
    unmasked = text.free(grammar, len(SMALL))
    assert unmasked.candidates.tolist() == list(range(len(SMALL)))
    everything = np.arange(len(SMALL))
    after = jax.jit(jax.vmap(jax.vmap(lambda state, token: text.follow(unmasked, state, token), (None, 0)), (0, None)))
    for state, found in enumerate(np.asarray(after(jnp.arange(len(grammar.choice)), everything))):
        edges = text.edges_of(grammar)[state]
        assert found.tolist() == [edges.get(token, 0) for token in everything.tolist()], "an illegal token leads to the dead state"
    assert text.follow(unmasked, unmasked.root, jnp.int32(10**6)) == text.follow(unmasked, unmasked.root, jnp.int32(-1)) == 0
    assert not unmasked.forced_length.any() and (unmasked.forced_state == np.arange(len(grammar.choice))).all()
    np.testing.assert_array_equal(unmasked.must_end, grammar.must_end)
    for string in SETS[4]:
        t = as_text(text.token_ids(SMALL, string))
        assert text.parse(unmasked, grammar.root, t) == text.parse(grammar, grammar.root, t) == (SETS[4].index(string), True)
    legal = jnp.ones(grammar.num_choices, bool)
    states = jnp.arange(len(grammar.choice))
    edges = lambda grammar: jax.vmap(lambda state: text.legal_edges(grammar, state, legal))(states)
    np.testing.assert_array_equal(edges(unmasked), edges(grammar))
    assert support(unmasked, unmasked.root, legal).all()
    with pytest.raises(ValueError, match="make it larger"):
        text.free(grammar, 11)


# ---------------------------------------------------------------- candidates, bits, errors


@pytest.mark.parametrize("num_candidates", [1, 31, 32, 33, 100])
def test_bits(num_candidates):
    bools = np.random.default_rng(num_candidates).random((3, 2, num_candidates)) < 0.5
    bits = text.pack(jnp.asarray(bools))
    assert bits.shape == (3, 2, -(-num_candidates // 32)) and bits.dtype == jnp.uint32
    np.testing.assert_array_equal(text.unpack(bits, num_candidates), bools)
    assert [int(x) for x in bits[0, 0]] == [
        sum(1 << i for i, x in enumerate(bools[0, 0, n : n + 32]) if x) for n in range(0, num_candidates, 32)
    ]


def test_strings_are_tokenised_after_their_prefix():
    tokenizer = second_tokenizer()
    grammar = text.legal_strings(tokenizer, [" 7", " 12"], prefix="Guess:")
    assert grammar.candidates.tolist() == sorted(text.token_ids(tokenizer, x)[0] for x in (" 7", " 12"))
    with pytest.raises(ValueError, match="joins '7' with the end of the text before it"):
        text.legal_strings(tokenizer, ["7"], prefix="Guess 1")


def test_say_choice():
    for strings in SETS:
        grammar = text.join(text.any_text(SMALL, ["a"]), text.legal_strings(SMALL, strings))
        say = jax.jit(lambda choice, grammar=grammar: text.say_choice(grammar, choice))
        assert [text.to_string(SMALL, say(i)) for i in range(len(strings))] == strings


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: text.legal_strings(SMALL, []), "at least one legal string"),
        (lambda: text.legal_strings(SMALL, ["a", ""]), "legal string 1 .* no tokens"),
        (lambda: text.legal_strings(SMALL, ["a", "b", "a"]), "legal strings 0 and 2 .* same tokens"),
        (lambda: text.legal_strings(SMALL, ["a<|end|>"]), "contains the stop token"),
        (lambda: text.any_text(SMALL, ["ab"]), "symbol 'ab' must be one token"),
        (lambda: text.any_text(SMALL, ["<|end|>"]), "must be one token other than the stop token"),
        (lambda: text.any_text(SMALL, []), "at least one symbol"),
        (lambda: text.legal_edges(text.any_text(SMALL, ["a"]), 1, jnp.ones(2, bool)), "has 2 entries .* grammar 1 .* equal"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
