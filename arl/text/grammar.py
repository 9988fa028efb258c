"""Grammars as token automata, built from strings on the host; `arl.text.walk` follows them on the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arl.text.tokenizer import check_tokenizer, token_ids
from arl.types import ArlError, Grammar

WORD = 32  # bits of a packed word
NO_TOKEN = 2**31 - 1  # in the place of a token id where there is no edge
MAX_SYMBOL_EDGES = 256  # larger sets of symbols are masks


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
        ids = sorted(set(tokenizer.get_vocab().values()) - special - set(tokenizer.all_special_ids))
    else:
        ids = [_symbol_id(tokenizer, symbol, stop_id) for symbol in symbols]
    if not ids:
        raise ArlError("free text needs at least one symbol")
    is_free = len(ids) > MAX_SYMBOL_EDGES
    edges: list[dict[int, int]] = [{}, {} if is_free else dict.fromkeys(ids, 1)]
    choice = [-1, 0]
    if stop:
        edges[1][stop_id] = 2
        edges.append({})
        choice.append(0)
    return automaton(edges, choice, 1, stop_id, root=1, masks={1: (ids, 1)} if is_free else {})


def automaton(
    edges: Sequence[Mapping[int, int]],
    choice: Sequence[int],
    num_choices: int,
    stop_id: int,
    root: int,
    masks: Mapping[int, tuple[Sequence[int], int]] = {},
) -> Grammar:
    """Returns the grammar of a graph of `S` states, of which state 0 is dead.

    Args:
      edges: `{token id: state}` of each state. Edges lead to states with larger numbers, or to the state itself.
      choice: index of the legal string that ends in each state; -1 for none.
      num_choices: `A`, number of legal strings.
      stop_id: token id that ends a text where it could go on.
      root: state in which a text begins.
      masks: `{state: (token ids, state after them)}` of the free states; a token that has an edge as well follows the edge.

    Returns:
      The grammar.

    Raises:
      ArlError: if the strings reachable from a state are not contiguous in depth-first order.
    """
    is_accepting = np.asarray(choice) >= 0
    has_next = np.asarray([bool(row) or state in masks for state, row in enumerate(edges)])
    forced, forced_state = [], []
    for state in range(len(edges)):
        run: list[int] = []
        while len(edges[state]) == 1 and not is_accepting[state] and state not in masks:  # where the text may end, nothing is forced
            ((token, state),) = edges[state].items()
            run.append(token)
        forced.append(run)
        forced_state.append(state)
    width = max(1, *map(len, forced))
    order, interval = _intervals(edges, choice, root)
    rows = [sorted(row.items()) for row in edges]
    num_edges = max(1, *map(len, rows))
    mask_index = np.full(len(edges), -1, np.int32)
    mask_index[list(masks)] = np.arange(len(masks))
    all_ids = [*(token for row in edges for token in row), *(token for ids, _ in masks.values() for token in ids)]
    num_tokens = 1 + max(all_ids) if masks else 0
    return Grammar(
        token=np.asarray([[token for token, _ in row] + [NO_TOKEN] * (num_edges - len(row)) for row in rows], np.int32),
        next_state=np.asarray([[after for _, after in row] + [0] * (num_edges - len(row)) for row in rows], np.int32),
        interval=interval,
        order=order,
        mask=np.stack([_mask(ids, num_tokens) for ids, _ in masks.values()]) if masks else np.zeros((0, 0), np.uint32),
        mask_index=mask_index,
        mask_state=np.asarray([masks[state][1] if state in masks else 0 for state in range(len(edges))], np.int32),
        choice=np.asarray(choice, np.int32),
        is_accepting=is_accepting,
        must_end=is_accepting & ~has_next,
        forced=np.asarray([run + [0] * (width - len(run)) for run in forced], np.int32),
        forced_length=np.asarray([len(run) for run in forced], np.int32),
        forced_state=np.asarray(forced_state, np.int32),
        num_choices=num_choices,
        num_tokens=num_tokens,
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
    num_tokens = _num_tokens(first, second)
    shift = len(first.choice) - 1  # the dead state is shared
    moved = lambda states: np.where(states > 0, states + shift, 0).astype(np.int32)
    stack = lambda a, b: np.concatenate([a, b[1:]])

    def wide(a: np.ndarray, b: np.ndarray, value: int = 0) -> tuple[np.ndarray, np.ndarray]:
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=value) for x in (a, b))
        return a, b

    return Grammar(
        token=stack(*wide(first.token, second.token, NO_TOKEN)),
        next_state=stack(*wide(first.next_state, moved(second.next_state))),
        interval=stack(first.interval, second.interval + np.int32(len(first.order))),
        order=np.concatenate([first.order, second.order]),
        mask=np.concatenate([np.pad(x, ((0, 0), (0, num_words(num_tokens) - x.shape[1]))) for x in (first.mask, second.mask)]),
        mask_index=stack(first.mask_index, np.where(second.mask_index >= 0, second.mask_index + len(first.mask), -1).astype(np.int32)),
        mask_state=stack(first.mask_state, moved(second.mask_state)),
        choice=stack(first.choice, second.choice),
        is_accepting=stack(first.is_accepting, second.is_accepting),
        must_end=stack(first.must_end, second.must_end),
        forced=stack(*wide(first.forced, second.forced)),
        forced_length=stack(first.forced_length, second.forced_length),
        forced_state=stack(first.forced_state, moved(second.forced_state)),
        num_choices=max(first.num_choices, second.num_choices),
        num_tokens=num_tokens,
        stop_id=first.stop_id,
        root=int(moved(np.asarray(second.root))),
    )


def free(grammar: Grammar, vocabulary_size: int) -> Grammar:
    """Returns the same automaton over the whole vocabulary, for unconstrained decoding.

    Every state is free; illegal tokens lead to the dead state, and no token is forced.

    Args:
      grammar: any grammar.
      vocabulary_size: `V`, number of token ids.

    Returns:
      The grammar.

    Raises:
      ArlError: if the grammar has tokens beyond the vocabulary.
    """
    last = max(grammar.edge_tokens.max(initial=-1), grammar.num_tokens - 1)
    if last >= vocabulary_size:
        raise ArlError(f"token {last} of the grammar is outside a vocabulary of {vocabulary_size}; make it larger")
    num_states = len(grammar.choice)
    return grammar._replace(
        mask=_mask(range(vocabulary_size), vocabulary_size)[None],
        mask_index=np.zeros(num_states, np.int32),
        num_tokens=vocabulary_size,
        forced=np.zeros((num_states, 1), np.int32),
        forced_length=np.zeros(num_states, np.int32),
        forced_state=np.arange(num_states, dtype=np.int32),
    )


def edges_of(grammar: Grammar) -> list[dict[int, int]]:
    """Returns the edges of each state, `{token id: state}`, as `automaton` takes them; masks are left out."""
    rows = zip(grammar.token, grammar.next_state)
    return [{int(token): int(state) for token, state in zip(tokens, states) if state} for tokens, states in rows]


def mask_tokens(grammar: Grammar, state: int) -> np.ndarray:
    """Returns the token ids of the mask of a state, int `[n]`, ascending; none if it is not free."""
    row = grammar.mask_index[state]
    words = grammar.mask[row] if row >= 0 else np.zeros(0, np.uint32)
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))


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
        if state in after or grammar.mask_index[state] >= 0:
            raise ArlError("free text has no longest text; give it a budget")
        length[state] = (1 + length[after]).max(initial=0)
    return int(length[grammar.root])


def _num_tokens(first: Grammar, second: Grammar) -> int:
    """Returns the number of token ids of two joined grammars; 0 if no state of either is free."""
    if not first.num_tokens and not second.num_tokens:
        return 0
    return max(1 + int(part.candidates.max(initial=-1)) for part in (first, second))


def num_words(size: int) -> int:
    """Returns the words of 32 bits that hold `size` bits."""
    return -(-size // WORD)


def _symbol_id(tokenizer: Any, symbol: str, stop_id: int) -> int:
    ids = token_ids(tokenizer, symbol)
    if len(ids) != 1 or ids[0] == stop_id:
        raise ArlError(
            f"symbol {symbol!r} must be one token other than the stop token, but is {ids}; take another, or all tokens ('any' in a layer)"
        )
    return ids[0]


def _mask(ids: Sequence[int], num_tokens: int) -> np.ndarray:
    """Returns the bits of token ids, uint32 `[ceil(V / 32)]`."""
    is_in = np.zeros(num_words(num_tokens) * WORD, bool)
    is_in[np.asarray(ids, np.int64)] = True
    return np.packbits(is_in, bitorder="little").view(np.uint32)


def _intervals(edges: Sequence[Mapping[int, int]], choice: Sequence[int], root: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the strings in depth-first order from the root, and the interval of each state in it."""
    rank: dict[int, int] = {}
    seen: set[int] = set()
    waiting = [*reversed(range(len(edges))), root]
    while waiting:
        state = waiting.pop()
        if state in seen:
            continue
        seen.add(state)
        if choice[state] >= 0:
            rank.setdefault(choice[state], len(rank))
        waiting += [after for _, after in sorted(edges[state].items(), reverse=True)]
    interval = np.zeros((len(edges), 2), np.int32)
    for state in reversed(range(len(edges))):  # successors have larger numbers, or are the state itself
        parts = [interval[after] for after in edges[state].values() if after != state]
        own = [(rank[choice[state]], rank[choice[state]] + 1)] if choice[state] >= 0 else []
        parts = sorted((int(first), int(last)) for first, last in [*own, *parts] if first < last)
        for first, last in parts:
            begin, end = interval[state]
            if end and first > end:
                raise ArlError(
                    f"the strings reachable from state {state} are not contiguous; do not share states between strings with a common suffix"
                )
            interval[state] = (begin if end else first), max(end, last)
    return np.asarray(list(rank), np.int32), interval


def _stop_id(tokenizer: Any) -> int:
    check_tokenizer(tokenizer)
    if tokenizer.eos_token_id is None:
        raise ArlError("the tokenizer has no end token, which stops a text; set tokenizer.eos_token")
    return tokenizer.eos_token_id
