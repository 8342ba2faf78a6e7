"""Compiled programs as XLA prints them: computations, instructions and sizes of arrays."""

import math
import re
from dataclasses import dataclass

BYTES = {
    "pred": 1,
    "bf16": 2,
    "token": 0,
    "c64": 8,
    "c128": 16,
}
ARRAY = re.compile(r"\b(pred|token|bf16|[a-z]\d+[a-z0-9]*)\[([\d,]*)\]")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
OPCODE = re.compile(r"^ ?([\w\-]+)\(")
OPERAND = re.compile(r"%([\w.\-]+)")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    result: str
    """Type and shape of the result, a tuple's in parentheses."""
    operands: tuple[str, ...]
    """Names of instructions of the same computation."""
    attributes: str
    """The rest of the line."""

    @property
    def bytes(self) -> float:
        """Bytes of the result."""
        return bytes_of(self.result)

    def called(self, attribute: str) -> str:
        """The computation that an attribute names; "" where there is none."""
        match = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return match.group(1) if match else ""


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in order, and the name of the one that is the result."""

    instructions: dict[str, Instruction]
    root: str


@dataclass(frozen=True)
class Module:
    """The computations of a compiled program by name, and the one that it starts with."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """A compiled program from its text, `jax.stages.Compiled.as_text()`.

    Raises ValueError for a text that has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, root = "", "", ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        header = HEADER.match(line)
        if header:
            name, root, instructions = header.group(2), "", {}
            entry = name if header.group(1) else entry
        elif line.startswith("}"):
            computations[name] = Computation(instructions, root)
        elif match := INSTRUCTION.match(line):
            instruction = parse_instruction(match.group(2), match.group(3))
            instructions[instruction.name] = instruction
            root = instruction.name if match.group(1) else root
    if not entry:
        raise ValueError("the compiled program has no entry computation; expected the text of XLA")
    return Module(computations, entry)


def parse_instruction(name: str, line: str) -> Instruction:
    """An instruction from what follows its name: `RESULT OPCODE(OPERANDS), ATTRIBUTES`."""
    # A tuple of results stands in parentheses, with spaces in it.
    result_end = closing(line, 0) if line.startswith("(") else line.index(" ")
    result, rest = line[:result_end], line[result_end:]
    match = OPCODE.match(rest)
    if match is None:
        raise ValueError(f"instruction {name} of the compiled program is not understood: {line}")
    operands_start = match.end() - 1  # at the opening parenthesis
    operands_end = closing(rest, operands_start)
    operands = tuple(OPERAND.findall(rest[operands_start:operands_end]))
    return Instruction(name, match.group(1), result, operands, rest[operands_end:])


def closing(text: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    return len(text)


def shapes_of(result: str) -> list[Shape]:
    """The shapes of an array, or of the arrays of a tuple."""
    shapes = []
    for _, lengths in ARRAY.findall(result):
        shapes.append(tuple(int(length) for length in lengths.split(",") if length))
    return shapes


def bytes_of(result: str) -> float:
    """Bytes of an array, or of all arrays of a tuple, without padding."""
    total = 0.0
    for kind, lengths in ARRAY.findall(result):
        count = math.prod(int(length) for length in lengths.split(",") if length)
        total += count * bytes_of_type(kind)
    return total


def bytes_of_type(kind: str) -> float:
    """Bytes of one number: f8e4m3fn has 8 bits, s4 has 4."""
    if kind in BYTES:
        return BYTES[kind]
    bits = re.match(r"[a-z]+(\d+)", kind)
    assert bits is not None
    return int(bits.group(1)) / 8


def numbers_after(name: str, text: str) -> list[int]:
    """The numbers of `NAME={1,2}` or of `"NAME":["1","2"]`; an empty list where neither is."""
    match = re.search(rf'\b{name}"?[=:] ?[\[{{]([\d", ]*)[\]}}]', text)
    if match is None:
        return []
    return [int(number) for number in re.findall(r"\d+", match.group(1))]
