"""Memory of fine-tuning, prediction and probing, and how they are cut to fit a device.

How a program is cut changes no result beyond rounding: it follows from the device, not from the
study, and the plan and the programs take it from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from scaling.costs.accelerators import ACCELERATORS
from scaling.study.config import Finetune, Remat, Shape3, Task, Transfer
from scaling.study.ladder import Encoder
from scaling.study.objectives import Work
from scaling.study.shapes import DecoderShape, Setting
from scaling.study.task_kinds import kind_of

CASES = 8  # predicted or encoded at a time, where there is room
FLOAT32 = 4  # bytes
NO_DECODER = DecoderShape("none")


@dataclass(frozen=True)
class Layout:
    """How a program of transfer is cut."""

    remat: Remat
    """What the backward pass computes again."""
    rows: int
    """Fine-tunes computed at once on a device."""
    cases: int
    """Cases predicted at once."""
    fitting: int
    """Bytes that fitting the networks takes on a device."""
    predicting: int
    """Bytes that predicting the cases takes on a device."""

    @property
    def memory(self) -> int:
        """Bytes that it takes on a device: fitting and predicting follow each other."""
        return max(self.fitting, self.predicting)


def finetune_layout(
    encoder: Encoder,
    recipe: Finetune,
    masks: bool,
    sequences: int,
    volume: Shape3,
    rows: int,
    accelerator: str,
) -> Layout:
    """How fine-tuning `rows` networks on one accelerator is cut: as little as has room.

    Where nothing has room, the layout that takes least.
    """
    tried = []
    for remat, count in cuts(rows if encoder.vmapped else 1):
        setting = finetune_setting(remat, recipe, masks, volume, accelerator)
        fitting = fitting_memory(encoder, recipe, masks, sequences, setting, rows, count)
        for cases in (CASES, 4, 2, 1):
            predicting = predicting_memory(
                encoder, masks, sequences, setting, volume, rows, count * cases
            )
            layout = Layout(remat, count, cases, round(fitting), round(predicting))
            if layout.memory <= ACCELERATORS[accelerator].usable:
                return layout
            tried.append(layout)
    return min(tried, key=lambda layout: layout.memory)


def finetune_setting(
    remat: Remat, recipe: Finetune, masks: bool, volume: Shape3, accelerator: str
) -> Setting:
    """How a recipe is computed on an accelerator: by windows where it has them."""
    window = recipe.window if masks and recipe.window else volume
    return Setting(window, recipe.dtype, remat, ACCELERATORS[accelerator].platform)


def cuts(rows: int) -> Iterator[tuple[Remat, int]]:
    """Ways to cut a fine-tuning program, the fastest first: recomputing costs a third of the time,
    and few rows at once leave a device idle.
    """
    yield "none", rows
    while rows >= 1:
        yield "blocks", rows
        rows //= 2


def fitting_memory(
    encoder: Encoder,
    recipe: Finetune,
    masks: bool,
    sequences: int,
    setting: Setting,
    rows: int,
    at_once: int,
) -> float:
    """Bytes of training `rows` networks, `at_once` of them together."""
    sample = encoder.memory(NO_DECODER, setting, Work())
    # The volumes drawn, augmented, and cut into patches, in float32: gone when the backward pass
    # takes its work.
    case = sequences * (sample.kept + max(sample.work, 3 * FLOAT32 * setting.voxels))
    if masks:
        case += encoder.segmentation_memory(sequences, setting)
    # Parameters, gradients and two moments of what is trained now; parameters of the rest.
    trained = 4 * FLOAT32 * encoder.parameters * at_once
    finished = FLOAT32 * encoder.parameters * (rows + 1)
    return at_once * recipe.batch * case + trained + finished


def predicting_memory(
    encoder: Encoder,
    masks: bool,
    sequences: int,
    setting: Setting,
    volume: Shape3,
    rows: int,
    at_once: int,
) -> float:
    """Bytes of predicting `at_once` pairs of a network and a case."""
    depth, height, width = volume
    case = sequences * encoder.forward_memory(setting)
    if masks:
        # A window's logits, the sum over windows, and its weights.
        case += encoder.segmentation_memory(sequences, setting)
        case += 3 * FLOAT32 * depth * height * width
    return at_once * case + FLOAT32 * encoder.parameters * rows


def probe_cases(encoder: Encoder, sequences: int, volume: Shape3, accelerator: str) -> int:
    """Cases whose volumes are encoded at once for a probe, in float32: at most `CASES`."""
    setting = Setting(volume, platform=ACCELERATORS[accelerator].platform)
    case = sequences * encoder.forward_memory(setting)
    room = ACCELERATORS[accelerator].usable - FLOAT32 * encoder.parameters
    return int(min(CASES, max(1, room // case)))


def probe_bytes(encoder: Encoder, sequences: int, volume: Shape3, accelerator: str) -> int:
    """Bytes of encoding the cases that `probe_cases` allows at once."""
    setting = Setting(volume, platform=ACCELERATORS[accelerator].platform)
    cases = probe_cases(encoder, sequences, volume, accelerator)
    return round(cases * sequences * encoder.forward_memory(setting))


@lru_cache(maxsize=1024)
def transfer_memory(
    task: Task, transfer: Transfer, encoder: Encoder, volume: Shape3, accelerator: str
) -> int:
    """Bytes that trying one checkpoint on one task takes on one accelerator, cut to fit."""
    masks, sequences = kind_of(task).masks, len(task.sequences)
    taken = [FLOAT32 * encoder.parameters]
    recipes = [(transfer.finetune, len(task.shots) * task.draws)]
    recipes.append((transfer.supervised, task.draws))
    for recipe, rows in recipes:
        if recipe is not None:
            layout = finetune_layout(encoder, recipe, masks, sequences, volume, rows, accelerator)
            taken.append(layout.memory)
    if transfer.probe is not None:
        taken.append(probe_bytes(encoder, sequences, volume, accelerator))
    return max(taken)
