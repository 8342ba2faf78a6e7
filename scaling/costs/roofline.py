"""The least time of a compiled program: each kernel reads and writes memory at the full bandwidth,
or multiplies at the peak, whichever takes longer.

A kernel reads every operand and writes its result once. Of an operand that it slices it reads the
slice; a slice that it updates in place is all it writes. A loop counts as often as XLA knows it to
run.
"""

import math
import re
from dataclasses import dataclass

from scaling.costs.accelerators import Accelerator
from scaling.costs.hlo import (
    Computation,
    Instruction,
    Module,
    Shape,
    numbers_after,
    parse,
    shapes_of,
)

# What needs no kernel: names of memory, and the ends of what has been started.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "add-dependency",
    "domain",
}
SLICING = {"dynamic-slice", "slice", "gather"}


@dataclass(frozen=True)
class Work:
    """What a program does on one device."""

    kernels: int = 0
    """Kernels launched."""
    bytes: float = 0.0
    """Bytes read and written."""
    flops: float = 0.0
    """FLOPs of matrix products and convolutions."""
    seconds: float = 0.0
    """Sum of the kernels' least times."""
    launched_seconds: float = 0.0
    """The same, a kernel taking at least the time of its launch."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.kernels + other.kernels,
            self.bytes + other.bytes,
            self.flops + other.flops,
            self.seconds + other.seconds,
            self.launched_seconds + other.launched_seconds,
        )

    def times(self, count: int) -> "Work":
        """The work of `count` repetitions."""
        return Work(
            self.kernels * count,
            self.bytes * count,
            self.flops * count,
            self.seconds * count,
            self.launched_seconds * count,
        )


def work_of(text: str, accelerator: Accelerator) -> Work:
    """The work of a compiled program, given as XLA's text, on one device of an accelerator."""
    module = parse(text)
    return computation_work(module, module.entry, accelerator)


def computation_work(module: Module, name: str, accelerator: Accelerator) -> Work:
    """The work of one computation and of all that it calls."""
    computation = module.computations[name]
    total = Work()
    for instruction in computation.instructions.values():
        total += instruction_work(module, computation, instruction, accelerator)
    return total


def instruction_work(
    module: Module, computation: Computation, instruction: Instruction, accelerator: Accelerator
) -> Work:
    """The work of one instruction."""
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith(("-done", "-update")):
        return Work()
    if opcode == "while":
        body = computation_work(module, instruction.called("body"), accelerator)
        return body.times(repetitions(instruction))
    if opcode == "conditional":
        return branch_work(module, instruction, accelerator)
    if opcode == "call":
        return computation_work(module, instruction.called("to_apply"), accelerator)
    if opcode == "async-start":
        return computation_work(module, instruction.called("calls"), accelerator)
    moved = moved_bytes(module, computation, instruction)
    flops = instruction_flops(module, computation, instruction)
    seconds = max(moved / accelerator.bandwidth, flops / accelerator.peak)
    return Work(1, moved, flops, seconds, max(seconds, accelerator.launch))


def repetitions(instruction: Instruction) -> int:
    """How often a loop runs; 1 where XLA does not know it."""
    match = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
    return int(match.group(1)) if match else 1


def branch_work(module: Module, instruction: Instruction, accelerator: Accelerator) -> Work:
    """The work of the branch that takes longest."""
    match = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    if match:
        names = re.findall(r"%?([\w.\-]+)", match.group(1))
    else:
        names = [instruction.called(f"{answer}_computation") for answer in ("true", "false")]
    branches = [computation_work(module, name, accelerator) for name in names]
    return max(branches, key=lambda work: work.seconds)


def moved_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes that a kernel reads and writes."""
    operands = [computation.instructions[name] for name in instruction.operands]
    match instruction.opcode:
        case "fusion":
            return fusion_bytes(module.computations[instruction.called("calls")])
        case "dynamic-slice" | "slice" | "gather":
            return 2 * instruction.bytes
        case "dynamic-update-slice":
            return 2 * operands[1].bytes
        case _:
            return instruction.bytes + sum(operand.bytes for operand in operands)


def fusion_bytes(fused: Computation) -> float:
    """Bytes that a fusion reads of its operands and writes."""
    root = fused.instructions[fused.root]
    written = sum(written_bytes(fused, one) for one in results_of(fused, root))
    read = 0.0
    for instruction in fused.instructions.values():
        if instruction.opcode == "parameter":
            read += read_bytes(fused, instruction)
    return written + read


def results_of(fused: Computation, root: Instruction) -> list[Instruction]:
    """The instructions that a fusion gives out."""
    if root.opcode == "tuple":
        return [fused.instructions[name] for name in root.operands]
    return [root]


def written_bytes(fused: Computation, result: Instruction) -> float:
    """Bytes that one result of a fusion takes to write: an update's are those of its slice."""
    while result.opcode == "bitcast":
        result = fused.instructions[result.operands[0]]
    if result.opcode == "dynamic-update-slice":
        return fused.instructions[result.operands[1]].bytes
    return result.bytes


def read_bytes(fused: Computation, parameter: Instruction) -> float:
    """Bytes that a fusion reads of one operand: the slices, where it uses nothing else of it."""
    total = 0.0
    for user in users_of(fused, parameter):
        of_whole = user.operands[0] == parameter.name
        if user.opcode in SLICING and of_whole:
            total += user.bytes
        elif user.opcode == "dynamic-update-slice" and of_whole:
            continue
        elif user.opcode == "bitcast":
            total += read_bytes(fused, user)
        else:
            return parameter.bytes
    return min(total, parameter.bytes)


def users_of(fused: Computation, instruction: Instruction) -> list[Instruction]:
    """The instructions that read another one."""
    everything = fused.instructions.values()
    return [other for other in everything if instruction.name in other.operands]


def instruction_flops(module: Module, computation: Computation, instruction: Instruction) -> float:
    """FLOPs of the matrix products and convolutions of a kernel, a multiply-add being two."""
    match instruction.opcode:
        case "fusion":
            fused = module.computations[instruction.called("calls")]
            inside = fused.instructions.values()
            return sum(instruction_flops(module, fused, one) for one in inside)
        case "dot":
            contracted = numbers_after("lhs_contracting_dims", instruction.attributes)
            return product_flops(computation, instruction, contracted)
        case "convolution":
            kernel = shape_of(computation, instruction.operands[1])
            labels = instruction.attributes
            return convolution_flops(shapes_of(instruction.result)[0], kernel, labels)
        case "custom-call":
            return library_flops(computation, instruction)
        case _:
            return 0.0


def shape_of(computation: Computation, name: str) -> Shape:
    """The shape of an instruction's result."""
    return shapes_of(computation.instructions[name].result)[0]


def product_flops(
    computation: Computation, instruction: Instruction, contracted: list[int]
) -> float:
    """FLOPs of a matrix product over the `contracted` axes of its first operand."""
    left = shape_of(computation, instruction.operands[0])
    result = shapes_of(instruction.result)[0]
    return 2.0 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def convolution_flops(output: Shape, kernel: Shape, attributes: str) -> float:
    """FLOPs of a convolution, its borders counted whole; `dim_labels` say which axis of the kernel
    holds the output's features.
    """
    match = re.search(r"dim_labels=\w+_(\w+)->", attributes)
    features = kernel[match.group(1).index("o")] if match else 1
    return 2.0 * math.prod(output) * math.prod(kernel) / features


def library_flops(computation: Computation, instruction: Instruction) -> float:
    """FLOPs of a call into cuBLAS or cuDNN; 0 for any other."""
    match = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    target = match.group(1) if match else ""
    if target.startswith("__cublas$"):
        axes = numbers_after("lhs_contracting_dimensions", instruction.attributes)
        return product_flops(computation, instruction, axes)
    if target.startswith("__cudnn$fmha"):
        # Two products forward, five backward, each over queries x keys x channels.
        weights = numbers_after("dimensions", instruction.attributes)
        channels = shape_of(computation, instruction.operands[0])[-1]
        products = 5 if "Backward" in target else 2
        return 2.0 * products * math.prod(weights) * channels
    if target.startswith("__cudnn$conv"):
        first, second = (shape_of(computation, name) for name in instruction.operands[:2])
        result = shapes_of(instruction.result)[0]
        if target == "__cudnn$convBackwardInput":
            return convolution_flops(first, second, instruction.attributes)
        if target == "__cudnn$convBackwardFilter":
            return convolution_flops(second, result, instruction.attributes)
        return convolution_flops(result, second, instruction.attributes)
    return 0.0
