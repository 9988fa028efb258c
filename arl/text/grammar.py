"""Grammars as token automata, built from strings on the host; `arl.text.walk` follows them on the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arl.text.tokenizer import token_ids
from arl.types import ArlError, Grammar


def legal_strings(tokenizer: Any, strings: Sequence[str], prefix: str = "") -> Grammar:
    """Returns the grammar of a list of strings, a trie of their tokens; string `i` is choice `i`.

    A string whose tokens are the beginning of another's ends with the stop token; any other string ends by itself.

    Args:
      tokenizer: a `transformers` fast tokenizer with an end token.
      strings: `A` strings, with the space before a word, such as " left".
      prefix: end of the text before them, if it changes how they are tokenised.

    Returns:
      The grammar.

    Raises:
      ArlError: if a string has no token, has the tokens of another, contains the stop token or shares a token with `prefix`.
    """
    if isinstance(strings, str):
        raise ArlError(f"strings is the string {strings!r}; set it to a list of strings, such as [{strings!r}]")
    if not strings:
        raise ArlError("a grammar needs at least one legal string")
    stop_id = _stop_id(tokenizer)
    trie: dict = {}
    for index, string in enumerate(strings):
        ids = token_ids(tokenizer, string, after=prefix)
        if not ids:
            raise ArlError(f"legal string {index} ({string!r}) has no tokens; every legal string needs at least one")
        if stop_id in ids:
            raise ArlError(f"legal string {index} ({string!r}) contains the stop token; take it out")
        node = trie
        for token in ids:
            node = node.setdefault(token, {})
        if None in node:
            raise ArlError(f"legal strings {node[None]} and {index} ({string!r}) have the same tokens; make them differ")
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
    """Returns the grammar of free text of any length over some symbols, which is choice 0.

    Args:
      tokenizer: a `transformers` fast tokenizer with an end token.
      symbols: strings of one token each; None for the whole vocabulary without its special tokens.
      stop: whether the stop token may end the text; otherwise only its budget does.

    Returns:
      The grammar.

    Raises:
      ArlError: if a symbol is not one token, or is the stop token.
    """
    if isinstance(symbols, str):
        raise ArlError(f"symbols is the string {symbols!r}; set it to a tuple of strings, such as ({symbols!r},)")
    stop_id = _stop_id(tokenizer)
    if symbols is None:
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        candidates = sorted(set(tokenizer.get_vocab().values()) - special - set(tokenizer.all_special_ids))
    else:
        candidates = []
        for symbol in symbols:
            ids = token_ids(tokenizer, symbol)
            if len(ids) != 1 or ids[0] == stop_id:
                raise ArlError(
                    f"symbol {symbol!r} must be one token other than the stop token, but is {ids}; take another, or None for all tokens"
                )
            candidates += ids
    if not candidates:
        raise ArlError("free text needs at least one symbol")
    edges: list[dict[int, int]] = [{}, dict.fromkeys(candidates, 1)]
    choice = [-1, 0]
    if stop:
        edges[1][stop_id] = 2
        edges.append({})
        choice.append(0)
    return automaton(edges, choice, 1, stop_id, root=1)


def automaton(edges: Sequence[Mapping[int, int]], choice: Sequence[int], num_choices: int, stop_id: int, root: int) -> Grammar:
    """Returns the grammar of a graph of `S` states, of which state 0 is dead.

    Args:
      edges: `{token id: state}` of each state. Edges lead to states with larger numbers, or to the state itself.
      choice: index of the legal string that ends in each state; -1 for none.
      num_choices: `A`, number of legal strings.
      stop_id: token id that ends a text where it could go on.
      root: state in which a text begins.

    Returns:
      The grammar.
    """
    candidates = np.asarray(sorted({token for row in edges for token in row}), np.int32)
    shape = len(edges), len(candidates)
    next_state = np.zeros(shape, np.int32)
    for state, row in enumerate(edges):
        if row:
            next_state[state, np.searchsorted(candidates, list(row))] = list(row.values())
    is_accepting = np.asarray(choice) >= 0
    has_next = np.asarray([bool(row) for row in edges])

    forced, forced_state = [], []
    for state in range(len(edges)):
        run: list[int] = []
        while len(edges[state]) == 1 and not is_accepting[state]:  # where the text may also end, nothing is forced
            ((token, state),) = edges[state].items()
            run.append(token)
        forced.append(run)
        forced_state.append(state)
    width = max(1, *map(len, forced))
    return Grammar(
        candidates=candidates,
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
    """Returns one automaton that holds two grammars.

    Args:
      first: grammar whose states keep their numbers, so that its roots stay valid.
      second: grammar whose root becomes that of the result.

    Returns:
      The grammar.

    Raises:
      ArlError: if their stop tokens differ.
    """
    if first.stop_id != second.stop_id:
        raise ArlError(f"grammars with stop tokens {first.stop_id} and {second.stop_id} cannot be joined; build both with one tokenizer")
    candidates = np.union1d(first.candidates, second.candidates).astype(np.int32)
    shift = len(first.choice) - 1  # the dead state is shared
    moved = lambda states: np.where(states > 0, states + shift, 0).astype(np.int32)
    stack = lambda a, b: np.concatenate([a, b[1:]])
    width = max(first.forced.shape[1], second.forced.shape[1])
    wide = lambda x: np.pad(x, ((0, 0), (0, width - x.shape[1])))
    spread = lambda grammar, table: _spread(table, grammar.candidates, candidates)
    return Grammar(
        candidates=candidates,
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
    """Returns the same automaton over the whole vocabulary, for unconstrained decoding.

    Illegal tokens lead to the dead state, and no token is forced.

    Args:
      grammar: any grammar.
      vocabulary_size: `U` of the result, number of token ids.

    Returns:
      The grammar.

    Raises:
      ArlError: if the grammar has candidates beyond the vocabulary.
    """
    if grammar.candidates[-1] >= vocabulary_size:
        raise ArlError(f"token {grammar.candidates[-1]} of the grammar is outside a vocabulary of {vocabulary_size}; make it larger")
    candidates = np.arange(vocabulary_size, dtype=np.int32)
    spread = lambda table: _spread(table, grammar.candidates, candidates)
    num_states = len(grammar.choice)
    return grammar._replace(
        candidates=candidates,
        next_state=spread(grammar.next_state),
        forced=np.zeros((num_states, 1), np.int32),
        forced_length=np.zeros(num_states, np.int32),
        forced_state=np.arange(num_states, dtype=np.int32),
    )


def edges_of(grammar: Grammar) -> list[dict[int, int]]:
    """Returns the edges of each state, `{token id: state}`, as `automaton` takes them."""
    return [{int(grammar.candidates[i]): int(row[i]) for i in np.flatnonzero(row)} for row in grammar.next_state]


def longest(grammar: Grammar) -> int:
    """Returns the length of the longest text from the grammar's root, tokens, its stop token included.

    Args:
      grammar: a grammar without loops.

    Raises:
      ArlError: if texts have no longest length, as in free text.
    """
    length = np.zeros(len(grammar.choice), np.int64)
    for state in reversed(range(grammar.root, len(length))):
        after = grammar.next_state[state][grammar.next_state[state] > 0]
        if state in after:
            raise ArlError("free text has no longest text; give it a budget")
        length[state] = (1 + length[after]).max(initial=0)
    return int(length[grammar.root])


def _stop_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ArlError("the tokenizer has no end token, which stops a text; set tokenizer.eos_token")
    return tokenizer.eos_token_id


def _spread(table: np.ndarray, some: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns a table `[S, U]` over `some` candidates as one over `candidates`, with 0 for the others."""
    result = np.zeros((table.shape[0], len(candidates)), np.int32)
    result[:, np.searchsorted(candidates, some)] = table
    return result
