"""Shows: the plan's estimate of a training step's memory against XLA's own account, setting by
setting, each compiled for its accelerator, which need not be at hand.

Costs: 10 to 120 CPU seconds a setting. A GPU wants the extra `[cuda]`, a TPU `[tpu]`.
Run:   python experiments/benchmarks/compiled_memory.py [NUMBER ...]

Ends in `tests/costs/compiled_memory.csv`: the settings are read from it and the rows of these
numbers (without any: those that have no figure yet) are written anew; `--again NUMBER` prints one.
On NVIDIA GPUs convolutional networks were compiled with
XLA_FLAGS=--xla_gpu_enable_triton_gemm=false (column `flags`).
"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from scaling.files import write_text

TABLE = Path(__file__).parents[2] / "tests" / "costs" / "compiled_memory.csv"


def main(numbers: list[int]) -> None:
    """Compile rows of the table, each in a process of its own, and write each as it is done."""
    table = read()
    for number in numbers or [int(n) for n in table.index[table["xla"].isna()]]:
        xla, estimate, seconds = compiled(table.loc[number])
        table.loc[number, ["xla", "estimate", "seconds"]] = [xla, estimate, seconds]
        print(number, *table.loc[number].tolist(), flush=True)
        write_text(TABLE, table.to_csv(index=False, float_format="%.6g"))


def read() -> pd.DataFrame:
    """The table, a row a setting."""
    return pd.read_csv(TABLE, dtype={"flags": str}, keep_default_na=True).fillna({"flags": ""})


def compiled(row: pd.Series) -> tuple[int, int, float]:
    """Bytes of a setting by XLA's account and by the closed form, and the seconds to compile."""
    command = [sys.executable, __file__, "--one", row.to_json()]
    environment = {**os.environ, "XLA_FLAGS": row["flags"]}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    xla, estimate, seconds = result.stdout.split()[-3:]
    return int(xla), int(estimate), float(seconds)


def compile_one(row: dict[str, object]) -> None:
    """Compile one setting in this process, and print what `compiled` reads."""
    from scaling.processes.xla import configure_compiler

    replica, fsdp, tensor = map(int, str(row["mesh"]).split("x"))
    configure_compiler(replica * fsdp * tensor)
    import time

    import jax

    from scaling.costs.memory import step_memory
    from scaling.engines.compiling import account
    from scaling.study.config import Mae, Pretrain
    from scaling.study.families import validate_family
    from scaling.study.ladder import resolve_decoder, resolve_encoder
    from scaling.training.mesh import abstract_batch
    from scaling.training.program import NEVER, pretraining_program
    from scaling.training.topology import devices_of, mesh_on

    family = validate_family({"kind": row["family"]})
    encoder, decoder = resolve_encoder(family, str(row["size"])), resolve_decoder(family)
    batch, crop, accelerator = (
        int(str(row["batch"])),
        int(str(row["crop"])),
        str(row["accelerator"]),
    )
    recipe = Pretrain(
        crop=(crop,) * 3,
        batch=batch,
        warmup=batch,
        dtype=row["dtype"],  # type: ignore[arg-type]
        remat=row["remat"],  # type: ignore[arg-type]
        augment=row["augment"],  # type: ignore[arg-type]
    )
    objective, shape = Mae(), (replica, fsdp, tensor)
    mesh = mesh_on(devices_of(accelerator, replica * fsdp * tensor), shape)
    program = pretraining_program(objective, encoder, decoder, recipe, mesh)
    began = time.monotonic()
    volumes = abstract_batch(mesh, objective.batch_shape(batch, recipe.crop))
    key = jax.eval_shape(lambda: jax.random.key(0))
    lowered = program.step.lower(program.abstract, volumes, key, 1e-3, 1, NEVER)
    xla = account(lowered.compile(), accelerator).memory
    seconds = time.monotonic() - began
    estimate = step_memory(objective, encoder, decoder, recipe, shape, accelerator)
    print(xla, estimate, round(seconds, 1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        import json

        compile_one(json.loads(sys.argv[2]))
    elif sys.argv[1:2] == ["--again"]:
        print(*compiled(read().loc[int(sys.argv[2])]))
    else:
        main([int(number) for number in sys.argv[1:]])
