"""The study on 8, 64 and 512 accelerators, on paper: memory, communication and time per rung, from
the formulas that `scaling plan` uses.

python experiments/clusters/on_paper.py
"""

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.memory import step_memory
from scaling.costs.seconds import pretraining_step_seconds
from scaling.study.config import Mae, Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder

RECIPE = Pretrain(crop=(96, 96, 96), batch=512, dtype="bfloat16", remat="dots")
LONGEST, DURATIONS, DECAY = 4_000_000, (500_000, 1_000_000, 2_000_000, 4_000_000), 0.2
ACCELERATOR, FAMILY = "h100", ViT(decoder_width=512, decoder_depth=4)


def main() -> None:
    """Print the table: a device's memory, what it sends in a step, and minutes of a rung (a trunk
    and four cooldowns).
    """
    samples = (1 - DECAY) * LONGEST + DECAY * sum(DURATIONS)
    print(
        "| size | parameters | devices | memory a device | sent a step | minutes a rung | device "
        "hours |\n|---|---|---|---|---|---|---|"
    )
    for size in ("m", "l", "xl", "2xl", "3xl", "4xl"):
        encoder, decoder = resolve_encoder(FAMILY, size), resolve_decoder(FAMILY)
        parameters = encoder.parameters + decoder.parameters(encoder)
        for devices in (8, 64, 512):
            memory = step_memory(Mae(), encoder, decoder, RECIPE, (1, devices, 1), ACCELERATOR)
            # Fully sharded: weights are gathered forward and again backward, gradients are reduced
            # and scattered; bfloat16.
            sent = 3 * 2 * parameters * (devices - 1) / devices
            step = pretraining_step_seconds(Mae(), encoder, decoder, RECIPE, ACCELERATOR)
            alone = samples / RECIPE.batch * step / 3600
            fits = "" if memory < ACCELERATORS[ACCELERATOR].memory else " (does not fit)"
            print(
                f"| {size} | {parameters / 1e6:.0f} M | {devices} | {memory / 1e9:.2f} GB{fits} | "
                f"{sent / 1e9:.2f} GB | {60 * alone / devices:.1f} | {alone:.1f} |"
            )


if __name__ == "__main__":
    main()
