"""Text on the device: operations on `Text`, grammars, tokenizers and templates."""

from arl.text.grammar import any_text, automaton, edges_of, free, join, legal_strings, longest
from arl.text.holes import Hole, choice, grid, nested, number, subset
from arl.text.template import Template, check, check_text, template, when
from arl.text.text import checked, concatenate, constant, cut, empty, flatten, keep_last, lookup, only_if, pad, stack, to_string
from arl.text.tokenizer import encode, load_tokenizer, token_ids
from arl.text.walk import accepts, candidate_index, forced_run, pack, pad_legal, parse, say_choice, support, unpack

__all__ = [
    "Hole",
    "Template",
    "accepts",
    "any_text",
    "automaton",
    "candidate_index",
    "check",
    "check_text",
    "checked",
    "choice",
    "concatenate",
    "constant",
    "cut",
    "edges_of",
    "empty",
    "encode",
    "flatten",
    "forced_run",
    "free",
    "grid",
    "join",
    "keep_last",
    "legal_strings",
    "load_tokenizer",
    "longest",
    "lookup",
    "nested",
    "number",
    "only_if",
    "pack",
    "pad",
    "pad_legal",
    "parse",
    "say_choice",
    "stack",
    "subset",
    "support",
    "template",
    "to_string",
    "token_ids",
    "unpack",
    "when",
]
