"""Streams as people read them: who wrote what, how sure it was, what it earned, what was forgotten."""

import pathlib
from typing import Any

import numpy as np

from arl.types import Interaction, Kind, Stream

READ, WROTE = "read", "wrote"
MARGIN = 14  # columns, for the names of segments
SHOWN = {"the 10th percentile": 0.1, "the median": 0.5, "the best": 1.0}  # which of many lives, by the quantile of their return


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


def pieces(event: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns one of `events` as people read it: pairs of a role and text, which one after the other are its lines.

    Roles are "border" (the context begins anew), "label", "read", "token", "sure" and "unsure" (probabilities, in brackets behind their
    tokens), "paid", "charged" and "illegal". Line breaks are those of the text; what follows them is indented under the label.

    Args:
      event: what was read, or a segment that was written.
    """
    found = [("border", f"{'':{MARGIN}}--- the context begins anew ---\n")] if event.get("forgets") else []
    label = f"{'>' if event['who'] == WROTE else ' '} {event['kind'].lower():>{MARGIN - 3}} "
    if event["who"] == READ:
        lines = [line.removeprefix(" ").rstrip() for line in event["text"].strip("\n").split("\n")]
        return [*found, ("label", label), (READ, f"\n{'':{MARGIN}}".join(lines))]
    found.append(("label", label))
    for index, (token, probability) in enumerate(event["tokens"]):
        token = token if index else token.removeprefix(" ") or token
        # A line break that was written is a token as any other, and one at the end is seen by its sign alone.
        token = token.replace("\n", "\u21b5\n" if index + 1 < len(event["tokens"]) else "\u21b5").replace("\n", f"\n{'':{MARGIN}}")
        found.append(("token", token))
        if probability is not None:
            found.append(("sure" if probability > 0.5 else "unsure", f"({probability:.2f})"))
    if event["reward"]:
        found.append(("paid" if event["reward"] > 0 else "charged", f"   reward {event['reward']:+.2f}"))
    return found if event["is_legal"] else [*found, ("illegal", "   illegal")]


def to_text(happened: list[dict[str, Any]]) -> str:
    """Returns `events` as plain text, with the probability of each token that was chosen behind it."""
    return "\n".join("".join(text for _, text in pieces(event)) for event in happened)


def typical(returned: np.ndarray) -> dict[int, str]:
    """Returns which of many lives to show, and as what: those at a few quantiles of the return; of equal ones the first come first.

    Args:
      returned: `[N]`, the return of each life.
    """
    order, found = np.argsort(returned, kind="stable"), {}
    for name, quantile in SHOWN.items():
        found.setdefault(int(order[round(quantile * (len(order) - 1))]), []).append(name)
    return {life: " and ".join(names) for life, names in found.items()}


def typical_lives(interaction: Interaction, tokenizer: Any, stream: Stream) -> str:
    """Returns the typical ones of many lives as text, each under a line that says which one it is.

    Args:
      interaction: what the lives did.
      tokenizer: of their text.
      stream: `[N, T]`, on the host, a whole life in each lane.
    """
    returned = np.sum([np.sum(part, axis=1) for part in stream.reward], axis=0)
    shown = typical(returned)
    greedily = "" if np.any(stream.log_prob) else "; written greedily, so that all probabilities are 1"
    said = [f"{len(shown)} of {len(returned)} held-out lives, chosen by their return (mean {returned.mean():.2f}){greedily}"]
    for life, place in shown.items():
        title = f"life {life + 1} of {len(returned)}: return {returned[life]:.2f}, {place}"
        said.append(f"{title}\n{to_text(events(interaction, tokenizer, stream, life))}")
    return "\n\n".join(said)


def add_section(path: pathlib.Path, title: str, text: str) -> None:
    """Writes a part of a file of transcripts; what stands from a part of that title on is replaced.

    Args:
      path: of the file; it need not be there.
      title: of the part.
      text: what stands in it.
    """
    heading = f"===== {title}\n"
    before = path.read_text(errors="replace").split(heading)[0] if path.exists() else ""
    path.write_text(f"{before}{heading}{text}\n\n")
