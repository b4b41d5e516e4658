"""Writes SASS the way nvdisasm prints it, with control codes of our choice."""

from lisa_kernels.testing.static.sass import NO_BARRIER, Instruction, parse_sass


def control(stall=1, write=NO_BARRIER, read=NO_BARRIER, waits=()):
    """Return the upper 64 bits of an encoding."""
    mask = sum(1 << scoreboard for scoreboard in waits)
    return stall << 41 | write << 46 | read << 49 | mask << 52


def instruction(text, address=0, **codes):
    """Return one instruction: ``instruction("@P0 LDG.E.128 R4, [R2.64]", stall=4, write=0)``."""
    predicate = ""
    if text.startswith("@"):
        predicate, _, text = text.partition(" ")
    opcode, _, operands = text.partition(" ")
    return Instruction(address, predicate, opcode, operands, control(**codes))


def body(*texts, **codes):
    """Return instructions that share their control codes."""
    return tuple(instruction(text, 16 * i, **codes) for i, text in enumerate(texts))


def listing(lines, *, capability=80, name="kernel"):
    """Return the text of a kernel; a line is a label (``".L_x_0:"``), an instruction, or (instruction, control)."""
    text = [f"\t.target\tsm_{capability}", f'\t.section\t.text.{name},"ax",@progbits', f"{name}:", f".text.{name}:"]
    address = 0
    for line in lines:
        if isinstance(line, str) and line.endswith(":"):
            text.append(line)
            continue
        code, upper = line if isinstance(line, tuple) else (line, control())
        predicate, code = code.split(" ", 1) if code.startswith("@") else ("", code)
        text.append(f"        /*{address:04x}*/       {predicate:>5} {code} ;      /* 0x0000000000007a02 */")
        text.append(f"                                                        /* 0x{upper:016x} */")
        address += 16
    return "\n".join(text)


def function(lines, **where):
    """Return the one parsed kernel of a listing."""
    return next(iter(parse_sass(listing(lines, **where)).functions.values()))
