"""Token automata: what may be written, built on the host from strings, and followed on the device, token by token.

Which strings exist may change from turn to turn (`legal`, bool `[A]`). Every state knows as a set of bits which strings can still be
completed from it; a letter is legal where that set and `legal` meet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.text.text import lookup, stack
from arl.text.tokenizer import token_ids
from arl.types import Grammar, Text

WORD = 32  # bits of a packed word


# ---------------------------------------------------------------- built on the host


def legal_strings(tokenizer: Any, strings: Sequence[str], prefix: str = "") -> Grammar:
    """Returns the grammar of a list of strings: a trie of their tokens; string `i` is choice `i`.

    A string that cannot go on ends by itself. One that is the beginning of another (token by token) ends with the stop token.

    Args:
      tokenizer: a `transformers` fast tokenizer with an end token.
      strings: `A` strings, each tokenised as the tokenizer does after `prefix` (" left" with the space before it is one string).
      prefix: the end of the text that they follow, where it matters to the tokenizer.

    Raises:
      ValueError: if a string has no token, is equal to another, contains the stop token or flows into `prefix`.
    """
    if isinstance(strings, str):
        raise ValueError(f"strings is the string {strings!r}; set it to a list of strings, such as [{strings!r}]")
    if not strings:
        raise ValueError("a grammar needs at least one legal string")
    stop_id = _stop_id(tokenizer)
    trie: dict = {}
    for index, string in enumerate(strings):
        ids = token_ids(tokenizer, string, after=prefix)
        if not ids:
            raise ValueError(f"legal string {index} ({string!r}) has no tokens; every legal string needs at least one")
        if stop_id in ids:
            raise ValueError(f"legal string {index} ({string!r}) contains the stop token; take it out")
        node = trie
        for token in ids:
            node = node.setdefault(token, {})
        if None in node:
            raise ValueError(f"legal strings {node[None]} and {index} ({string!r}) have the same tokens; make them differ")
        node[None] = index

    edges: list[dict[int, int]] = [{}]
    choice = [-1]

    def add(node: dict) -> int:
        state, ends_here = len(edges), node.get(None, -1)
        edges.append({})
        choice.append(ends_here)
        for token, child in node.items():
            if token is not None:
                edges[state][token] = add(child)
        if ends_here >= 0 and edges[state]:
            edges[state][stop_id] = add({None: ends_here})
        return state

    root = add(trie)
    return automaton(edges, choice, len(strings), stop_id, root)


def any_text(tokenizer: Any, symbols: Sequence[str] | None = None, stop: bool = True) -> Grammar:
    """Returns the grammar of free text of any length over some symbols; it is choice 0.

    Args:
      tokenizer: a `transformers` fast tokenizer with an end token.
      symbols: strings of one token each; None for the whole vocabulary without its special tokens.
      stop: whether the stop token ends the text; if not, it goes on until its budget ends it.

    Raises:
      ValueError: if a symbol is not one token, or is the stop token.
    """
    if isinstance(symbols, str):
        raise ValueError(f"symbols is the string {symbols!r}; set it to a tuple of strings, such as ({symbols!r},)")
    stop_id = _stop_id(tokenizer)
    if symbols is None:
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        letters = sorted(set(tokenizer.get_vocab().values()) - special - set(tokenizer.all_special_ids))
    else:
        letters = []
        for symbol in symbols:
            ids = token_ids(tokenizer, symbol)
            if len(ids) != 1 or ids[0] == stop_id:
                raise ValueError(
                    f"symbol {symbol!r} must be one token other than the stop token, but is {ids}; take another, or None for all tokens"
                )
            letters += ids
    if not letters:
        raise ValueError("free text needs at least one symbol")
    edges: list[dict[int, int]] = [{}, dict.fromkeys(letters, 1)]
    choice = [-1, 0]
    if stop:
        edges[1][stop_id] = 2
        edges.append({})
        choice.append(0)
    return automaton(edges, choice, 1, stop_id, root=1)


def automaton(edges: Sequence[Mapping[int, int]], choice: Sequence[int], num_choices: int, stop_id: int, root: int) -> Grammar:
    """Returns the grammar of a graph of `S` states, of which state 0 is dead.

    Args:
      edges: of each state, `{token id: state}`. All edges lead to states with larger numbers, or to the state itself.
      choice: of each state, index of the legal string that ends in it, or -1.
      num_choices: how many legal strings there are.
      stop_id: token id that ends a text that could go on.
      root: state in which a text begins.
    """
    alphabet = np.asarray(sorted({token for row in edges for token in row}), np.int32)
    shape = len(edges), len(alphabet)
    next_state = np.zeros(shape, np.int32)
    for state, row in enumerate(edges):
        if row:
            next_state[state, np.searchsorted(alphabet, list(row))] = list(row.values())
    is_accepting = np.asarray(choice) >= 0
    has_next = np.asarray([bool(row) for row in edges])

    forced, forced_state = [], []
    for state in range(len(edges)):
        run: list[int] = []
        while len(edges[state]) == 1 and not is_accepting[state]:  # where it may end as well, there is a choice
            ((token, state),) = edges[state].items()
            run.append(token)
        forced.append(run)
        forced_state.append(state)
    width = max(1, *map(len, forced))
    return Grammar(
        alphabet=alphabet,
        next_state=next_state,
        choice=np.asarray(choice, np.int32),
        is_accepting=is_accepting,
        is_final=is_accepting & ~has_next,
        forced=np.asarray([run + [0] * (width - len(run)) for run in forced], np.int32),
        forced_length=np.asarray([len(run) for run in forced], np.int32),
        forced_state=np.asarray(forced_state, np.int32),
        num_choices=num_choices,
        stop_id=stop_id,
        root=root,
    )


def join(first: Grammar, second: Grammar) -> Grammar:
    """Returns one automaton that holds both grammars.

    States of `first` keep their numbers, so that roots already handed out stay valid; the result's `root` is the root of `second`.

    Raises:
      ValueError: if their stop tokens differ.
    """
    if first.stop_id != second.stop_id:
        raise ValueError(f"grammars with stop tokens {first.stop_id} and {second.stop_id} cannot be joined; build both with one tokenizer")
    alphabet = np.union1d(first.alphabet, second.alphabet).astype(np.int32)
    shift = len(first.choice) - 1  # the dead state is shared
    moved = lambda states: np.where(states > 0, states + shift, 0).astype(np.int32)
    stack = lambda a, b: np.concatenate([a, b[1:]])
    width = max(first.forced.shape[1], second.forced.shape[1])
    wide = lambda x: np.pad(x, ((0, 0), (0, width - x.shape[1])))
    spread = lambda grammar, table: _spread(table, grammar.alphabet, alphabet)
    return Grammar(
        alphabet=alphabet,
        next_state=stack(spread(first, first.next_state), spread(second, moved(second.next_state))),
        choice=stack(first.choice, second.choice),
        is_accepting=stack(first.is_accepting, second.is_accepting),
        is_final=stack(first.is_final, second.is_final),
        forced=stack(wide(first.forced), wide(second.forced)),
        forced_length=stack(first.forced_length, second.forced_length),
        forced_state=stack(first.forced_state, moved(second.forced_state)),
        num_choices=max(first.num_choices, second.num_choices),
        stop_id=first.stop_id,
        root=int(moved(np.asarray(second.root))),
    )


def free(grammar: Grammar, vocabulary_size: int) -> Grammar:
    """Returns the same automaton over the whole vocabulary, for decoding without a mask: an illegal token leads to the dead state.

    Nothing is forced in it: where every token can be written, no token is the only way on.

    Args:
      grammar: any grammar.
      vocabulary_size: number of token ids, `U` of the result.

    Raises:
      ValueError: if the grammar has letters beyond the vocabulary.
    """
    if grammar.alphabet[-1] >= vocabulary_size:
        raise ValueError(f"token {grammar.alphabet[-1]} of the grammar is outside a vocabulary of {vocabulary_size}; make it larger")
    alphabet = np.arange(vocabulary_size, dtype=np.int32)
    spread = lambda table: _spread(table, grammar.alphabet, alphabet)
    num_states = len(grammar.choice)
    return grammar._replace(
        alphabet=alphabet,
        next_state=spread(grammar.next_state),
        forced=np.zeros((num_states, 1), np.int32),
        forced_length=np.zeros(num_states, np.int32),
        forced_state=np.arange(num_states, dtype=np.int32),
    )


def edges_of(grammar: Grammar) -> list[dict[int, int]]:
    """Returns the edges of each state, `{token id: state}`, from which `automaton` builds the grammar again."""
    return [{int(grammar.alphabet[i]): int(row[i]) for i in np.flatnonzero(row)} for row in grammar.next_state]


def longest(grammar: Grammar) -> int:
    """Returns how many tokens the longest text from the grammar's root holds, its stop token included: the budget that always suffices.

    Raises:
      ValueError: if there is none, as in free text.
    """
    length = np.zeros(len(grammar.choice), np.int64)
    for state in reversed(range(grammar.root, len(length))):
        after = grammar.next_state[state][grammar.next_state[state] > 0]
        if state in after:
            raise ValueError("free text has no longest text; give it a budget")
        length[state] = (1 + length[after]).max(initial=0)
    return int(length[grammar.root])


def _stop_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, which stops a text; set tokenizer.eos_token")
    return tokenizer.eos_token_id


def _spread(table: np.ndarray, letters: np.ndarray, alphabet: np.ndarray) -> np.ndarray:
    """Columns of a table `[S, U]` over some letters, put in their places in a larger alphabet."""
    result = np.zeros((table.shape[0], len(alphabet)), np.int32)
    result[:, np.searchsorted(alphabet, letters)] = table
    return result


def _reach(grammar: Grammar) -> np.ndarray:
    """Bits of the strings that can be completed from each state, uint32 `[S, ceil(A / 32)]`."""
    order = grammar.choice[grammar.choice >= 0]
    member = np.zeros((len(grammar.choice), _num_words(grammar.num_choices) * WORD), bool)
    states = np.flatnonzero(grammar.choice >= 0)
    member[states, order] = True
    edges = [np.unique(row[row > 0]) for row in grammar.next_state]
    for state in reversed(range(len(edges))):  # a state's successors have larger numbers, or are itself
        member[state] |= member[edges[state]].any(0)
    return _pack(member, np)


# ---------------------------------------------------------------- followed on the device


def support(grammar: Grammar, state: jax.Array | int, legal: jax.Array) -> jax.Array:
    """Returns which letters are legal now.

    Args:
      grammar: `S` states, `U` letters, `A` choices.
      state: int32 `[...]`.
      legal: bool `[..., A]`, which of the strings exist now.

    Returns:
      bool `[..., U]`; all false in the dead state and in final ones.

    Raises:
      ValueError: if `legal` is not over all choices of the grammar.
    """
    _check_legal(grammar, legal)
    after = jnp.asarray(grammar.next_state)[jnp.asarray(state)]
    exists = pack(legal)[..., None, :]
    return jnp.any((jnp.asarray(_reach(grammar))[after] & exists) != 0, axis=-1)


def pad_legal(legal: jax.Array, num_choices: int) -> jax.Array:
    """Returns which strings are legal, bool `[..., a]`, as bool `[..., num_choices]`: those added by a join are not."""
    return jnp.pad(legal, [(0, 0)] * (legal.ndim - 1) + [(0, num_choices - legal.shape[-1])])


def accepts(grammar: Grammar, state: jax.Array | int, legal: jax.Array) -> jax.Array:
    """Returns whether a text may end in a state, bool `[...]`: a string ends there, and it exists now.

    Args:
      grammar: `S` states, `A` choices.
      state: int32 `[...]`.
      legal: bool `[..., A]`, which of the strings exist now.

    Raises:
      ValueError: if `legal` is not over all choices of the grammar.
    """
    _check_legal(grammar, legal)
    choice = jnp.asarray(grammar.choice)[jnp.asarray(state)]
    exists = jnp.take_along_axis(legal, jnp.maximum(choice, 0)[..., None], axis=-1)[..., 0]
    return jnp.asarray(grammar.is_accepting)[jnp.asarray(state)] & exists


def forced_run(grammar: Grammar, state: jax.Array | int) -> tuple[Text, jax.Array]:
    """Returns the tokens that are the only way on from a state (none where there is a choice), and the state after them.

    Args:
      grammar: `S` states, forced runs of at most `F` tokens.
      state: int32 `[]`.

    Returns:
      Text of ids `[F]`, and int32 `[]`.
    """
    state = jnp.asarray(state)
    ids, length = jnp.asarray(grammar.forced)[state], jnp.asarray(grammar.forced_length)[state]
    return Text(ids, length), jnp.asarray(grammar.forced_state)[state]


def say_choice(grammar: Grammar, choice: jax.Array | int) -> Text:
    """Returns a legal string of the part that was added last, without stop token.

    Args:
      grammar: one whose root begins `legal_strings`.
      choice: int32 `[]`.

    Returns:
      Text whose capacity is that of the longest string.
    """
    strings: dict[int, list[int]] = {}
    paths: list[tuple[int, list[int]]] = [(grammar.root, [])]
    while paths:
        state, ids = paths.pop()
        if grammar.choice[state] >= 0:
            strings.setdefault(int(grammar.choice[state]), ids)  # the shorter way to a choice, without stop token, comes first
        for column in np.flatnonzero(grammar.next_state[state]):
            if grammar.next_state[state, column] != state:
                paths.append((int(grammar.next_state[state, column]), [*ids, int(grammar.alphabet[column])]))
    return lookup(stack([strings[i] for i in range(len(strings))]), choice)


def letter(grammar: Grammar, ids: jax.Array) -> jax.Array:
    """Returns the index in the alphabet of token ids, int32 `[...]`; `U` for a token that is not a letter.

    Args:
      grammar: `U` letters.
      ids: int32 `[...]`.
    """
    size = len(grammar.alphabet)
    table = np.full(grammar.alphabet[-1] + 2, size, np.int32)  # the last entry stands for all larger ids
    table[grammar.alphabet] = np.arange(size)
    return jnp.asarray(table)[jnp.clip(ids, 0, len(table) - 1)]


def parse(grammar: Grammar, root: jax.Array | int, text: Text) -> tuple[jax.Array, jax.Array]:
    """Returns which string a text is, for one lane.

    Args:
      grammar: `S` states.
      root: int32 `[]`, state in which the text begins.
      text: ids `[capacity]`, with or without its final stop token.

    Returns:
      choice: int32 `[]`, -1 for a text that is not legal.
      is_legal: bool `[]`.
    """
    next_state = jnp.pad(jnp.asarray(grammar.next_state), ((0, 0), (0, 1)))  # a token that is not a letter leads to the dead state
    index = jnp.arange(text.ids.shape[-1])
    is_stop = text.ids == grammar.stop_id
    length = text.length - jnp.any(is_stop & (index == text.length - 1))
    columns = jnp.where(is_stop, len(grammar.alphabet), letter(grammar, text.ids))  # nothing follows a stop token

    def walk(state, inputs):
        column, is_valid = inputs
        return jnp.where(is_valid, next_state[state, column], state), None

    state, _ = jax.lax.scan(walk, jnp.asarray(root, jnp.int32), (columns, index < length))
    is_legal = jnp.asarray(grammar.is_accepting)[state]
    return jnp.where(is_legal, jnp.asarray(grammar.choice)[state], -1), is_legal


def pack(support: jax.Array) -> jax.Array:
    """Returns `support` as bits, bool `[..., U]` -> uint32 `[..., ceil(U / 32)]`; letter `u` is bit `u % 32` of word `u // 32`."""
    size = support.shape[-1]
    padding = [(0, 0)] * (support.ndim - 1) + [(0, _num_words(size) * WORD - size)]
    return _pack(jnp.pad(support, padding), jnp)


def unpack(bits: jax.Array, num_letters: int) -> jax.Array:
    """Returns bits as bools, uint32 `[..., ceil(U / 32)]` -> bool `[..., U]` for `num_letters` letters, the inverse of `pack`."""
    is_set = (bits[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1 > 0
    return is_set.reshape(*bits.shape[:-1], bits.shape[-1] * WORD)[..., :num_letters]


def _num_words(size: int) -> int:
    return -(-size // WORD)


def _pack(bools: Any, numpy: Any) -> Any:
    words = bools.reshape(*bools.shape[:-1], -1, WORD).astype(numpy.uint32)
    return numpy.sum(words << numpy.arange(WORD, dtype=numpy.uint32), axis=-1, dtype=numpy.uint32)


def _check_legal(grammar: Grammar, legal: jax.Array) -> None:
    if legal.shape[-1] != grammar.num_choices:
        raise ValueError(
            f"`legal` has {legal.shape[-1]} entries and the grammar {grammar.num_choices} legal strings; make the two numbers equal"
        )
