"""The ``lisa`` command: data get, train, eval, transcribe, align, demo."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import torch

from lisa import asterisk, checkpoint, settings, synthetic
from lisa.builders import PRESETS, build_model, preset
from lisa.config import Config
from lisa.errors import InputError
from lisa.steps import load_samples
from lisa.tasks import alignment, asr
from lisa.train import train

READER_LEFT = 141  # What a shell reports for a process that wrote to a closed pipe.
INTERRUPTED = 130  # What a shell reports for a process ended by Ctrl-C.


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit status: 0, 2 for a user's error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        return options.run_verb(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
            return 2
        # The reader, such as head, has left; what Python still wants to flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    except KeyboardInterrupt:
        print("interrupted: nothing was saved by this command", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=_positive, help="CPU threads for torch (default: torch's own choice)")
    parser = argparse.ArgumentParser(prog="lisa", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    data = verbs.add_parser("data", help="fetch data").add_subparsers(required=True, metavar="VERB")
    get = data.add_parser("get", parents=[common], help="fetch the Asterisk prompts and split them")
    get.add_argument("--folder", type=Path, default=Path("data/asterisk"), help="where to write (%(default)s)")
    get.add_argument("--from", dest="source", type=Path, help="folder with the .deb files, or with their contents")
    get.set_defaults(run_verb=_data_get)

    fit = verbs.add_parser("train", parents=[common], help="train a model")
    fit.add_argument("config", nargs="?", type=Path, help="YAML file laid over the preset")
    fit.add_argument("--preset", help=f"starting point: {', '.join(PRESETS)} (asr-tiny)")
    fit.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY.KEY=VALUE")
    fit.add_argument("--run", type=Path, default=Path("runs/asr"), help="folder for checkpoints and log (%(default)s)")
    fit.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of --run, bit for bit")
    fit.add_argument("--stop-at", type=_positive, metavar="STEP", help="save and stop there; --resume goes on")
    fit.add_argument("--synthetic", action="store_true", help="made-up tones for data: tries the plumbing")
    fit.set_defaults(run_verb=_train)

    judge = verbs.add_parser("eval", parents=[common], help="error rates beside answers that know no audio")
    judge.add_argument("checkpoint", type=Path, help="run folder (its best step) or step-… folder")
    judge.add_argument("--split", default="test", help="train, dev or test (%(default)s)")
    judge.add_argument("--folder", help="data folder, if not the one trained on")
    judge.set_defaults(run_verb=_eval)

    write = verbs.add_parser("transcribe", parents=[common], help="print what is said in audio files")
    write.add_argument("checkpoint", type=Path, help="run folder (its best step) or step-… folder")
    write.add_argument("files", type=Path, nargs="+", metavar="FILE", help="wav, flac, ogg, mp3 or g722")
    write.set_defaults(run_verb=_transcribe)

    place = verbs.add_parser("align", parents=[common], help="print when each word of a known text is said")
    place.add_argument("checkpoint", type=Path, help="run folder (its best step) or step-… folder")
    place.add_argument("file", type=Path, metavar="FILE", help="wav, flac, ogg, mp3 or g722")
    place.add_argument("text", help="what is said in it: a-z, apostrophe and spaces")
    place.set_defaults(run_verb=_align)

    demo = verbs.add_parser("demo", parents=[common], help="the whole story, with a report page")
    demo.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder for everything (%(default)s)")
    demo.add_argument("--folder", type=Path, default=Path("data/asterisk"), help="data folder (%(default)s)")
    demo.add_argument("--from", dest="source", type=Path, help="folder with the .deb files, or with their contents")
    demo.add_argument("--synthetic", action="store_true", help="made-up tones for data: tries the plumbing")
    demo.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY.KEY=VALUE")
    demo.set_defaults(run_verb=_demo)
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _data_get(options: argparse.Namespace) -> int:
    manifest = asterisk.get(options.folder, source=options.source)
    print(f"{manifest['name']} ({manifest['licence']}), {', '.join(manifest['packages'])}")
    print(f"{manifest['prompts']} prompts, {manifest['minutes']} min, split {manifest['split']} in {options.folder}")
    return 0


def wanted_config(name: str | None, file: Path | None, changes: list[str], *, made_up: bool) -> Config:
    """Return the preset with the file and then the settings laid over it."""
    result = preset(name or ("asr-test" if made_up else "asr-tiny"))
    if file is not None:
        result = settings.merge(result, settings.read_yaml(file))
    if made_up:
        result.data.source = "synthetic"
    return settings.merge(result, settings.parse_settings(changes))


def _train(options: argparse.Namespace) -> int:
    given = options.preset or options.config or options.settings or options.synthetic
    if options.resume and not given and checkpoint.steps(options.run):
        wanted = stored_config(checkpoint.steps(options.run)[-1])
    else:
        wanted = wanted_config(options.preset, options.config, options.settings, made_up=options.synthetic)
    outcome = train(wanted, options.run, resume=options.resume, stop_at=options.stop_at)
    if outcome.interrupted:
        print(f"interrupted: saved step {outcome.step} in {outcome.checkpoint}; --resume goes on from there")
        return INTERRUPTED
    print(f"step {outcome.step} is in {outcome.checkpoint}")
    return 0


def stored_config(path: Path) -> Config:
    """Return the config a checkpoint was trained with."""
    return settings.merge(Config(), checkpoint.read(path)["config"])


def load(path: Path) -> tuple:
    """Return model and config of a checkpoint or run folder, ready to be asked."""
    folder = checkpoint.resolve(path)
    stored = stored_config(folder)
    model = build_model(stored)
    checkpoint.load_model(folder, model)
    return model.eval(), stored


def _eval(options: argparse.Namespace) -> int:
    model, stored = load(options.checkpoint)
    stored.data.folder = options.folder or stored.data.folder
    samples = load_samples(stored, options.split)
    references = [sample.text for sample in samples]
    rows = {"model": asr.score(references, asr.transcribe(model, stored, samples))}
    answers = asr.constant_answers([sample.text for sample in load_samples(stored, "train")])
    rows |= asr.score_constants(answers, references)
    note = f"  ({synthetic.NOTE})" if stored.data.source == "synthetic" else ""
    print(f"{options.split}: {rows['model'].prompts} prompts, {rows['model'].words} words")
    for name, scores in rows.items():
        print(f"CER {scores.cer:7.1%}  WER {scores.wer:7.1%}  {name}{note}")
    return 0


def _transcribe(options: argparse.Namespace) -> int:
    model, stored = load(options.checkpoint)
    samples = asr.samples_of_files(options.files)
    for path, text in zip(options.files, asr.transcribe(model, stored, samples), strict=True):
        print(f"{path}\t{text}")
    return 0


def _align(options: argparse.Namespace) -> int:
    model, stored = load(options.checkpoint)
    (heard,) = asr.samples_of_files([options.file])
    spans = alignment.characters(model, stored, dataclasses.replace(heard, text=options.text))
    print("from, s\tto, s\tmean log-probability\tword")
    for word in alignment.words(spans):
        print(f"{word.start_s:.2f}\t{word.end_s:.2f}\t{word.score:.2f}\t{word.text}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from lisa.demo import demo  # Imports matplotlib, which the other verbs do without.

    wanted = wanted_config(None, None, options.settings, made_up=options.synthetic)
    wanted.data.folder = str(options.folder)
    page = demo(wanted, options.run, source=options.source)
    if page is None:
        return INTERRUPTED
    print(f"report: {page}")
    return 0
