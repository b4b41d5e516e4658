"""``python -m bench run|report|overhead|memory|static|gpu``."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

_FOLDER = pathlib.Path("runs/bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 1 where an op failed its verification, 2 for a bad command line."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    from bench.run import Options, run

    rounds = options.rounds if options.rounds is not None else 7 if options.quick else 25
    return run(
        Options(
            ops=tuple(options.ops),
            device=options.device,
            cases=tuple(options.case),
            rounds=rounds,
            threads=options.threads,
            one_thread=options.one_thread,
            quick=options.quick,
            json=options.json,
        )
    )


def _report(options: argparse.Namespace) -> int:
    from bench.report import write_report

    print(f"report: {write_report(options.json or [_FOLDER / 'run.json'], options.out)}")
    return 0


def _overhead(options: argparse.Namespace) -> int:
    from bench.overhead import run

    return run(tuple(options.ops), json_path=options.json)


def _memory(options: argparse.Namespace) -> int:
    from bench.allocations import run

    return run(tuple(options.ops), target=options.target, measure=options.measure)


def _gpu(options: argparse.Namespace) -> int:
    from bench.gpu.command import interrupt_on_hangup, run

    interrupt_on_hangup()
    return run(fresh=options.fresh, repeat=tuple(options.repeat))


def _static(options: argparse.Namespace) -> int:
    from bench.static import COMPILED_TARGETS, RECORDED, Options, run

    targets = COMPILED_TARGETS if options.target is None else tuple(options.target.split(","))
    return run(
        Options(
            ops=tuple(options.ops),
            targets=targets,
            source=options.source,
            json=options.json,
            record=options.record,
            recorded=options.recorded or RECORDED,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="run|report|overhead|memory|static|gpu")

    run = commands.add_parser("run", help="time every provider of every case, forward and backward, interleaved")
    run.add_argument("ops", nargs="*", metavar="OP", help="folder or function; all for none")
    run.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    run.add_argument("--quick", action="store_true", help="7 rounds, fp32 alone, no peers that compile")
    run.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case; may be repeated")
    run.add_argument("--rounds", type=int, help="turns of each provider (25; 7 with --quick)")
    run.add_argument("--threads", type=int, help="CPU threads (torch's default)")
    run.add_argument("--one-thread", action="store_true", help="CPU time of one thread: stable on a busy machine")
    run.add_argument("--json", type=pathlib.Path, default=_FOLDER / "run.json", metavar="FILE", help="%(default)s")
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="write an HTML page with plots")
    report.add_argument("--json", type=pathlib.Path, action="append", metavar="FILE", help="of `run`; may be repeated")
    report.add_argument("--out", type=pathlib.Path, default=_FOLDER / "report.html", metavar="FILE", help="%(default)s")
    report.set_defaults(command=_report)

    overhead = commands.add_parser("overhead", help="cost of one call at a tiny size, in microseconds")
    overhead.add_argument("ops", nargs="*", metavar="OP", help="folder or function; all for none")
    overhead.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows there")
    overhead.set_defaults(command=_overhead)

    memory = commands.add_parser("memory", help="bytes and launches of a step, at sizes that need not fit this machine")
    memory.add_argument("ops", nargs="*", metavar="OP", help="folder or function; all for none")
    memory.add_argument("--target", default="sm_90", metavar="NAME", help="GPU whose tiles are taken (%(default)s)")
    memory.add_argument("--measure", action="store_true", help="also run the CPU kernels and the peers: gigabytes")
    memory.set_defaults(command=_memory)

    static = commands.add_parser("static", help="compile every configuration for GPUs that are not here, and judge it")
    static.add_argument("ops", nargs="*", metavar="OP", help="folder or function; all for none")
    static.add_argument("--target", metavar="NAMES", help="sm_80,sm_90,sm_100,sm_120,gfx942 (all for none)")
    static.add_argument("--from", dest="source", metavar="MODULE:FUNCTION", help="launches of a function of yours")
    static.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows there")
    static.add_argument("--record", action="store_true", help="keep the figures as those that later ones are held to")
    static.add_argument("--recorded", type=pathlib.Path, metavar="FOLDER", help="of kept figures (bench/recorded)")
    static.set_defaults(command=_static)

    gpu = commands.add_parser("gpu", help="judge and time everything on this machine's GPU; goes on where it stopped")
    gpu.add_argument("--fresh", action="store_true", help="repeat what an earlier run finished")
    gpu.add_argument("--repeat", action="append", default=[], metavar="STEP", help="repeat one step; more than once")
    gpu.set_defaults(command=_gpu)
    return parser


if __name__ == "__main__":
    sys.exit(main())
