"""What XLA says of a plan's programs, as a table for the terminal."""

from collections.abc import Sequence

from rich.console import Console

from scaling.costs.accelerators import ACCELERATORS
from scaling.engines.compiling import NOT_COMPILED, Outcome
from scaling.engines.listing import aligned, count

HEADINGS = (
    "program",
    "network",
    "devices",
    "XLA",
    "plan",
    "plan/XLA",
    "kernels",
    "bytes",
    "FLOPs",
    "ms at least",
    "with launches",
    "utilisation at most",
    "first step",
)


def print_compiled(outcomes: Sequence[Outcome], accelerator: str, console: Console) -> None:
    """Every program with XLA's memory beside the plan's, what it does and its least time; then the
    assumptions, and what was not compiled.
    """
    rows = [list(HEADINGS)]
    rows += [compiled_row(outcome, accelerator) for outcome in outcomes]
    console.print("\n".join(aligned(rows)), markup=False, highlight=False)
    device = ACCELERATORS[accelerator]
    console.print(
        f"\nPer device and call. Least times: every kernel at {device.peak / 1e12:.3g} TFLOP/s or "
        f"{device.bandwidth / 1e9:.4g} GB/s, whichever takes longer, and then "
        f"{1e6 * device.launch:.0f} us at least; no communication, no waiting, no cuDNN workspace. "
        f"Programs may take {device.usable / 1e9:.0f} GB.",
        markup=False,
        highlight=False,
    )
    for outcome in outcomes:
        if outcome.compiled and outcome.compiled.memory > device.usable:
            console.print(
                f"{outcome.program.kind} of {outcome.program.network} does not fit: it takes "
                f"{outcome.compiled.memory / 1e9:.1f} GB",
                style="red",
                markup=False,
            )
    left = sum(outcome.reason == NOT_COMPILED for outcome in outcomes)
    if left:
        console.print(
            f"{left} of {len(outcomes)} programs are not compiled yet; the same command goes on "
            "with them, and --compile-minutes gives it longer",
            markup=False,
        )


def compiled_row(outcome: Outcome, accelerator: str) -> list[str]:
    """The cells of one program."""
    program, compiled = outcome.program, outcome.compiled
    estimate = f"{count(program.estimate)}B" if program.estimate else "-"
    cells = [program.kind, program.network, str(program.devices)]
    if compiled is None:
        return [*cells, "-", estimate, *["-"] * 7, outcome.reason]
    ratio = f"{program.estimate / compiled.memory:.2f}" if program.estimate else "-"
    ideal = compiled.flops / ACCELERATORS[accelerator].peak
    return [
        *cells,
        f"{count(compiled.memory)}B",
        estimate,
        ratio,
        str(compiled.kernels),
        f"{count(compiled.bytes)}B",
        count(compiled.flops).strip(),
        f"{1e3 * compiled.seconds:.3g}",
        f"{1e3 * compiled.launched_seconds:.3g}",
        f"{ideal / max(compiled.seconds, 1e-12):.2f}",
        program.step,
    ]
