"""Shows: the plan's estimate of a program's memory against XLA's own account, setting by setting,
each compiled for its accelerator, which need not be at hand; and what the program does there.

Costs: 10 to 120 CPU seconds a setting. A GPU wants the extra `[cuda]`, a TPU `[tpu]`.
Run:   python experiments/benchmarks/compiled_memory.py [NUMBER ...]

Ends in `tests/costs/compiled_memory.csv`: the settings are read from it and the rows of these
numbers (without any: those that have no figure yet) are written anew; `--again NUMBER` prints one.
The column `flags` has what XLA_FLAGS was set to.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.costs.memory import step_memory
from scaling.costs.transfer_memory import finetune_layout
from scaling.files import write_text
from scaling.study.config import Finetune, Mae, Mesh, Pretrain, Shape3
from scaling.study.families import validate_family
from scaling.study.ladder import Decoder, Encoder, resolve_decoder, resolve_encoder

TABLE = Path(__file__).parents[2] / "tests" / "costs" / "compiled_memory.csv"
MEASURED = ["xla", "estimate", "kernels", "milliseconds", "utilisation", "cpu_seconds"]
CASES = 21  # labelled cases of a fine-tuning
PATCH = {"resenc": 32}

Row = Mapping[str, Any]


def main(numbers: list[int]) -> None:
    """Compile rows of the table, each in a process of its own, and write each as it is done."""
    table = read()
    for number in numbers or [int(n) for n in table.index[table["xla"] == ""]]:
        result = compiled(table.loc[number])
        table = read()  # another process may have written rows of its own meanwhile
        for name in MEASURED:
            table.loc[number, name] = f"{result[name]:.6g}"
        write_text(TABLE, table.to_csv(index=False))
        print(number, *table.loc[number].tolist(), flush=True)


def read() -> pd.DataFrame:
    """The table, a row a setting, as text."""
    return pd.read_csv(TABLE, dtype=str, keep_default_na=False)


def compiled(row: Row) -> dict[str, float]:
    """What XLA says of a setting, the estimate of its memory, and the CPU seconds to compile."""
    command = [sys.executable, __file__, "--one", json.dumps(dict(row))]
    environment = {**os.environ, "XLA_FLAGS": row["flags"], "JAX_COMPILATION_CACHE_DIR": ""}
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{dict(row)} does not compile:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def shape3(text: str) -> Shape3:
    """Voxels of a volume: "96" is a cube, "160x192x160" is not."""
    lengths = [int(length) for length in text.split("x")]
    depth, height, width = lengths if len(lengths) == 3 else 3 * lengths
    return depth, height, width


def networks(row: Row) -> tuple[Encoder, Decoder]:
    """Encoder and decoder of a setting."""
    kind = row["family"]
    family = validate_family({"kind": kind, "patch": PATCH.get(kind, 8)})
    return resolve_encoder(family, row["size"]), resolve_decoder(family)


def pretraining_recipe(row: Row) -> Pretrain:
    """How a setting pretrains."""
    batch = int(row["batch"])
    return Pretrain(
        crop=shape3(row["crop"]),
        batch=batch,
        warmup=batch,
        dtype=row["dtype"],
        remat=row["remat"],
        augment=row["augment"],
    )


def finetuning_recipe(row: Row) -> Finetune:
    """How a setting fine-tunes."""
    return Finetune(
        batch=int(row["batch"]),
        window=shape3(row["crop"]),
        dtype=row["dtype"],
        augment=row["augment"],
    )


def mesh_of(row: Row) -> Mesh:
    """Devices of a setting: replica, fsdp, tensor."""
    replica, fsdp, tensor = map(int, row["mesh"].split("x"))
    return replica, fsdp, tensor


def estimate(row: Row) -> int:
    """Bytes of a setting by the closed form."""
    encoder, decoder = networks(row)
    accelerator = row["accelerator"]
    if row["program"] == "pretraining":
        recipe = pretraining_recipe(row)
        return step_memory(Mae(), encoder, decoder, recipe, mesh_of(row), accelerator)
    masks, sequences = row["task"] == "segmentation", int(row["sequences"])
    volume, rows = shape3(row["volume"]), int(row["rows"])
    recipe = finetuning_recipe(row)
    layout = finetune_layout(encoder, recipe, masks, sequences, volume, rows, accelerator)
    return layout.fitting if row["program"] == "fine-tuning" else layout.predicting


def compile_one(row: Row) -> None:
    """Compile one setting in this process, and print what `compiled` reads."""
    from scaling.processes.xla import configure_compiler

    replica, fsdp, tensor = mesh_of(row)
    configure_compiler(replica * fsdp * tensor)
    import time

    import jax

    from scaling.costs.accelerators import ACCELERATORS
    from scaling.engines.compiling import account
    from scaling.engines.plan_programs import lowered_finetuning
    from scaling.training.mesh import abstract_batch
    from scaling.training.program import NEVER, pretraining_program
    from scaling.training.topology import devices_of, mesh_on
    from scaling.transfer.kinds import LEARNERS

    accelerator = row["accelerator"]
    devices = devices_of(accelerator, replica * fsdp * tensor)
    encoder, decoder = networks(row)

    def lowered() -> jax.stages.Lowered:
        if row["program"] == "pretraining":
            objective, recipe = Mae(), pretraining_recipe(row)
            mesh = mesh_on(devices, mesh_of(row))
            program = pretraining_program(objective, encoder, decoder, recipe, mesh)
            volumes = abstract_batch(mesh, objective.batch_shape(recipe.batch, recipe.crop))
            key = jax.eval_shape(lambda: jax.random.key(0))
            return program.step.lower(program.abstract, volumes, key, 1e-3, 1, NEVER)
        return lowered_finetuning(
            row["program"],
            encoder,
            LEARNERS[row["task"]](()),
            int(row["sequences"]),
            shape3(row["volume"]),
            finetuning_recipe(row),
            int(row["rows"]),
            CASES,
            devices[0],
        )

    began = time.process_time()
    result = account(lowered().compile(), accelerator)
    ideal = result.flops / ACCELERATORS[accelerator].peak
    values = (
        result.memory,
        estimate(row),
        result.kernels,
        1e3 * result.seconds,
        ideal / result.seconds,
        time.process_time() - began,
    )
    print(json.dumps(dict(zip(MEASURED, values, strict=True))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        compile_one(json.loads(sys.argv[2]))
    elif sys.argv[1:2] == ["--again"]:
        print(json.dumps(compiled(read().loc[int(sys.argv[2])])))
    else:
        main([int(number) for number in sys.argv[1:]])
