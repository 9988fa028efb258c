"""Streams as people read them: who wrote what, how sure it was, what it earned, what was forgotten."""

from typing import Any

import numpy as np

from arl.types import Interaction, Kind, Stream

READ, WROTE = "read", "wrote"


def events(interaction: Interaction, tokenizer: Any, stream: Stream, lane: int) -> list[dict[str, Any]]:
    """Returns what happened in a lane: runs of text that were read, and segments that were written.

    Args:
      interaction: what the lane did.
      tokenizer: of its text.
      stream: `[B, T]`, on the host.
      lane: which one.

    Returns:
      Dicts with `who`, `kind`, `attempt`, `text`, and for what was written `tokens` (pairs of text and probability, None where forced),
      `reward`, `is_legal`; `forgets` where the context begins anew.
    """
    alphabet, found = interaction.grammar.alphabet, []
    say = lambda token: tokenizer.decode([int(token)], skip_special_tokens=False)
    own_length = 0  # tokens of the segment that stand in the stream again, as the model reads what it wrote
    for slot in np.flatnonzero(np.asarray(stream.token_kind[lane]) > 0):
        kind = Kind(int(stream.token_kind[lane, slot]))
        forgets = slot > 0 and int(stream.begin[lane, slot]) == slot
        if forgets or kind in (Kind.PROMPT, Kind.OBSERVATION):
            if not found or found[-1]["who"] != READ or forgets or found[-1]["kind"] != kind.name:
                found.append({"who": READ, "kind": kind.name, "attempt": int(stream.attempt[lane, slot]), "text": "", "forgets": forgets})
            found[-1]["text"] += say(stream.token[lane, slot])
            own_length = 0
        elif own_length:
            own_length -= 1
        elif found and found[-1]["who"] == WROTE:
            found[-1]["tokens"].append((say(stream.token[lane, slot]), None))
        if stream.is_written[lane, slot]:
            if not found or found[-1]["who"] != WROTE or found[-1]["is_over"]:
                attempt, kind = int(stream.attempt[lane, slot]), Kind(int(stream.kind[lane, slot])).name
                found.append(
                    {"who": WROTE, "kind": kind, "attempt": attempt, "tokens": [], "is_over": False, "reward": 0.0, "is_legal": True}
                )
            probability = float(np.exp(stream.log_prob[lane, slot]))
            found[-1]["tokens"].append((say(alphabet[int(stream.written[lane, slot])]), probability))
            own_length = 1
            if stream.ends_segment[lane, slot]:
                reward = sum(float(part[lane, slot]) for part in stream.reward)
                found[-1] |= {"is_over": True, "reward": reward, "is_legal": bool(stream.is_legal[lane, slot])}
    return found


def to_text(happened: list[dict[str, Any]]) -> str:
    """Returns `events` as lines of plain text, one a segment."""
    lines = []
    for event in happened:
        if event.get("forgets"):
            lines.append("        --- the context begins anew ---")
        if event["who"] == READ:
            lines.append(f"  {event['kind'].lower():>11} {event['text']!r}")
        else:
            said = " ".join(f"{token!r}" + ("" if p is None else f" ({p:.2f})") for token, p in event["tokens"])
            reward = f"   reward {event['reward']:+.2f}" if event["reward"] else ""
            illegal = "" if event["is_legal"] else "   illegal"
            lines.append(f"> {event['kind'].lower():>11} {said}{reward}{illegal}")
    return "\n".join(lines)
