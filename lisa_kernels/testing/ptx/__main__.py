"""Prints what the emulator understands, or how long one tile takes: ``python -m lisa_kernels.testing.ptx --list``."""

from __future__ import annotations

import argparse

from lisa_kernels.testing.ptx.syntax import supported


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lisa_kernels.testing.ptx", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--list", action="store_true", help="print the instructions and modifiers that are modelled")
    choice.add_argument("--speed", action="store_true", help="print the seconds one 128x128x64 matmul tile takes")
    if parser.parse_args().list:
        forms = supported()
        print("[...] is optional, (a|b) is one of, # is a number")
        for opcode in forms:
            print("\n".join(forms[opcode]))
        print(f"{len(forms)} opcodes, {sum(map(len, forms.values()))} forms")
        return
    from lisa_kernels.testing.ptx.speed import time_tile

    for target in ("sm_80", "sm_90"):
        for warps in (4, 8):
            print(f"{target}, {warps} warps: {time_tile(target, warps):.2f} s for one 128x128x64 bf16 tile")


if __name__ == "__main__":
    main()
