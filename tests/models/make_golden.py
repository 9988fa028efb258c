"""Makes the golden checkpoints of `golden/`: tiny random models of each family, and what `transformers` computes with them.

    python -m tests.models.make_golden        # needs torch (extra `parity`)

Each folder is a checkpoint as `save_pretrained` writes it, and `expected.npz`: `tokens` `[2, T]`, their `logits` `[2, T, V]`, and the 64
tokens of `continuation` that the model writes greedily after the first `PROMPT` tokens of the first row.
"""

import pathlib
import shutil

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"
PROMPT, LENGTH, CONTINUED, VOCAB = 6, 40, 64, 48
MARGIN = 1e-3  # between the best and the second best token: rounding cannot change which is written
SIZES = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
MAX = dict(max_position_embeddings=128)
LLAMA3 = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = dict(factor=4.0, original_max_position_embeddings=32, beta_fast=8.0)
GEMMA = dict(num_hidden_layers=3, head_dim=8, query_pre_attn_scalar=12, sliding_window=8)
FAMILIES = {
    "llama2": ("llama", dict(num_key_value_heads=4)),
    "llama3": ("llama", dict(rope_parameters=dict(rope_type="llama3", rope_theta=5e5, **LLAMA3))),
    "smollm2": ("llama", dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e5))),
    "mistral": ("mistral", dict(head_dim=8, sliding_window=5)),
    "qwen2": (
        "qwen2",
        dict(
            use_sliding_window=True, sliding_window=8, max_window_layers=1, rope_parameters=dict(rope_type="yarn", rope_theta=1e6, **YARN)
        ),
    ),
    "qwen3": ("qwen3", dict(head_dim=6, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "gemma2": ("gemma2", dict(attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **GEMMA)),
    "gemma3": (
        "gemma3_text",
        dict(
            num_key_value_heads=1,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            rope_parameters={
                "sliding_attention": dict(rope_type="default", rope_theta=1e4),
                "full_attention": dict(rope_type="linear", rope_theta=1e6, factor=8.0),
            },
            **GEMMA,
        ),
    ),
}
BFLOAT16, SHARDED = ("smollm2", "gemma2"), ("llama3", "gemma3")


def main() -> None:
    """Writes all folders anew."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for name, (model_type, changes) in FAMILIES.items():
        generator = torch.Generator().manual_seed(len(name))
        config = AutoConfig.for_model(model_type, **{**SIZES, **MAX, **changes})
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for weights in model.parameters():
                random = torch.randn(weights.shape, generator=generator)
                weights.copy_(weights + 0.3 * random if weights.ndim == 1 else 1.5 * random / weights.shape[1] ** 0.5)
        folder = GOLDEN / name
        shutil.rmtree(folder, ignore_errors=True)
        if name in BFLOAT16:
            model = model.to(torch.bfloat16)
        model.save_pretrained(folder, max_shard_size="8KB" if name in SHARDED else "1GB")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

        def logits(tokens, model=model):
            with torch.no_grad():
                return model(tokens, use_cache=False).logits

        tokens = torch.randint(VOCAB, (2, LENGTH), generator=generator)
        written, margin = tokens[:1, :PROMPT], np.inf
        for _ in range(CONTINUED):
            best, second = logits(written)[0, -1].topk(2).values
            margin = min(margin, float(best - second))
            written = torch.cat([written, logits(written)[:, -1:].argmax(-1)], 1)
        if margin < MARGIN:
            raise SystemExit(f"{name}: the best two tokens differ by {margin}; take another seed")
        expected = dict(tokens=tokens.numpy().astype(np.int32), continuation=written[0, PROMPT:].numpy().astype(np.int32))
        np.savez_compressed(folder / "expected.npz", logits=logits(tokens).numpy(), **expected)
        print(f"{name}: logits up to {float(logits(tokens).abs().max()):.1f}, margin {margin:.3f}")


if __name__ == "__main__":
    main()
