"""``ModalityLayout``: which sample, which modality and which causal position each token of a packed sequence has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from lisa_kernels.core import checks
from lisa_kernels.ops.attention.policy import MAX_MODALITIES

_NAME = "ModalityLayout"
# Tokens between the starts of samples where there is one sample at the most.
_NO_SECOND = 2**31 - 1
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclasses.dataclass(frozen=True)
class Packing:
    """What the host knows about a layout without looking at a device.

    Attributes:
        min_sample: Least tokens of storage from the start of a sample id to the start of the next id; 0: unknown.
        min_tokens: Least tokens of a sample id, padding not counted; 0: unknown.
        max_sample: Most tokens of storage from the first to the last token of a sample; None: unknown.
        runs: Stretches of one modality of one sample; None: unknown.
        causal_order: Whether positions never decrease within a modality of a sample; None: unknown.
        modalities: The largest modality id and one; None: unknown.
    """

    min_sample: int = 0
    min_tokens: int = 0
    max_sample: int | None = None
    runs: int | None = None
    causal_order: bool | None = None
    modalities: int | None = None


class ModalityLayout:
    """Sample, modality and position of each token of a packed sequence: what attention needs to know of a batch.

    Args:
        modality: Integers ``[T]``, 0 to 31; what padding holds does not matter.
        sample: Integers ``[T]``, the sample of each token, from 0 on and never decreasing; -1 is padding, which may
            stand anywhere.
        position: Integers ``[T]`` that causal heads compare; None for the token's index.  Tokens that share a position
            see each other.
        min_sample: For tensors on a device: a promise that every sample id from 0 to the largest takes at least so many
            tokens.  43 and more, with at most 4 modalities, give the faster bit form of the mask.
        max_sample: For tensors on a device: a promise that no sample stretches over more tokens from its first to its
            last, padding between them included; makes the plan smaller.

    Tensors stay where they are and are never waited for.  On the CPU they are checked and looked through instead.  A
    promise that does not hold gives wrong results on a device: tiles are left out, or samples see each other.

    Raises:
        TypeError: A tensor of a dtype that is no integer.
        ValueError: Shapes or devices that differ; on the CPU also ids out of range, sample ids that decrease, promises
            that do not hold.  On a device tokens with ids out of range are taken as padding.
    """

    def __init__(
        self,
        modality: Tensor,
        sample: Tensor,
        position: Tensor | None = None,
        *,
        min_sample: int | None = None,
        max_sample: int | None = None,
    ) -> None:
        _check(modality, sample, position)
        self.modality = modality.to(torch.int32).contiguous()
        self.sample = sample.to(torch.int32).contiguous()
        default = position is None
        if default:
            position = torch.arange(modality.shape[0], dtype=torch.int32, device=modality.device)
        self.position = position.to(torch.int32).contiguous()
        self.packing = Packing(min_sample or 0, min_sample or 0, max_sample, None, True if default else None)
        if self.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_ids(modality, sample)
            self.packing = _look_through(self, default)
            _check_promises(self.packing, min_sample, max_sample)

    @classmethod
    def from_runs(
        cls,
        modalities: Sequence[int],
        lengths: Sequence[int],
        samples: Sequence[int],
        *,
        bidirectional: Sequence[int] = (),
        device: torch.device | str | None = None,
    ) -> ModalityLayout:
        """Return the layout of runs of tokens, given as host lists of equal length.

        Args:
            modalities: Modality of each run.
            lengths: Tokens of each run, 0 and more.
            samples: Sample of each run, never decreasing; -1 is a run of padding.
            bidirectional: Modalities whose runs share one position: causal heads see all of such a run (the patches of
                an image) from within it.
            device: Where the tensors go; None for the CPU.
        """
        for name, values in (("modalities", modalities), ("lengths", lengths), ("samples", samples)):
            if len(values) != len(lengths):
                raise ValueError(f"{_NAME}: {name} has {len(values)} runs; lengths has {len(lengths)}.")
        if negative := [length for length in lengths if length < 0]:
            raise ValueError(f"{_NAME}: lengths holds {negative[0]}; it takes 0 tokens and more.")
        # Host lists become CPU tensors, whatever torch's default device is: they are looked through.
        times = torch.tensor(lengths, dtype=torch.int64, device="cpu")
        modality, sample = (
            torch.tensor(values, dtype=torch.int32, device="cpu").repeat_interleave(times)
            for values in (modalities, samples)
        )
        position = torch.arange(modality.shape[0], dtype=torch.int32, device="cpu")
        if bidirectional:
            starts = (times.cumsum(0) - times).repeat_interleave(times).to(torch.int32)
            shared = torch.isin(modality, torch.tensor(list(bidirectional), dtype=torch.int32, device="cpu"))
            position = torch.where(shared, starts, position)
        layout = cls(modality, sample, position)
        return layout if device is None else layout.to(device)

    @classmethod
    def from_cu_seqlens(
        cls,
        modality: Tensor,
        cu_seqlens: Tensor,
        *,
        position: Tensor | None = None,
        min_sample: int | None = None,
        max_sample: int | None = None,
    ) -> ModalityLayout:
        """Return the layout of samples that lie one behind the other.

        Args:
            modality: As in the constructor.
            cu_seqlens: Integers ``[samples + 1]`` from 0 to T: sample i is tokens ``cu_seqlens[i]`` to
                ``cu_seqlens[i + 1] - 1``.  Tokens behind the last one are padding.
            position: As in the constructor.
            min_sample: As in the constructor.
            max_sample: As in the constructor.
        """
        checks.check_tensor(_NAME, "cu_seqlens", cu_seqlens)
        checks.check_rank(_NAME, "cu_seqlens", cu_seqlens, (1,), "[samples + 1]")
        checks.check_dtype(_NAME, "cu_seqlens", cu_seqlens, _INTEGERS, "Use .long().")
        checks.check_tensor(_NAME, "modality", modality)
        checks.check_rank(_NAME, "modality", modality, (1,), "[T]")
        checks.check_device(_NAME, "cu_seqlens", cu_seqlens, "modality", modality)
        if cu_seqlens.shape[0] == 0:
            raise ValueError(f"{_NAME}: cu_seqlens is empty; it takes [samples + 1] offsets, at least [0].")
        total = modality.shape[0]
        if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_offsets(cu_seqlens, total)
        token = torch.arange(total, dtype=cu_seqlens.dtype, device=modality.device)
        sample = torch.searchsorted(cu_seqlens, token, right=True, out_int32=True) - 1
        sample = torch.where(token < cu_seqlens[-1], sample, -1)
        return cls(modality, sample, position, min_sample=min_sample, max_sample=max_sample)

    @classmethod
    def from_padded(cls, modality: Tensor, mask: Tensor) -> ModalityLayout:
        """Return the layout of a padded batch; nothing is moved, token ``b * L + l`` is entry ``[b, l]``, position l.

        Args:
            modality: Integers ``[B, L]``, or ``[L]`` where all rows are alike.
            mask: ``[B, L]``, true for tokens and false for padding.  Row b is sample b.
        """
        checks.check_tensor(_NAME, "modality", modality)
        checks.check_tensor(_NAME, "mask", mask)
        checks.check_rank(_NAME, "mask", mask, (2,), "[B, L]")
        checks.check_rank(_NAME, "modality", modality, (1, 2), "[B, L] or [L]")
        checks.check_device(_NAME, "mask", mask, "modality", modality)
        batch, length = mask.shape
        if modality.shape not in ((batch, length), (length,)):
            raise ValueError(
                f"{_NAME}: modality has shape {tuple(modality.shape)}; it takes {(batch, length)}, the shape of mask."
            )
        row = torch.arange(batch, dtype=torch.int32, device=mask.device)[:, None]
        sample = torch.where(mask.bool(), row, -1).flatten()
        position = torch.arange(length, dtype=torch.int32, device=mask.device).expand(batch, length).flatten()
        layout = cls(modality.expand(batch, length).flatten(), sample, position)
        # By the rows, not by the tokens: padding to the left or an empty row would look like short samples.
        layout.packing = dataclasses.replace(layout.packing, min_sample=length, max_sample=length)
        return layout

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.sample.device

    def __len__(self) -> int:
        return self.sample.shape[0]

    def __repr__(self) -> str:
        return f"ModalityLayout({len(self)} tokens on {self.device}, {self.packing})"

    def to(self, device: torch.device | str) -> ModalityLayout:
        """Return the same layout on another device; what the host knows of it is kept."""
        return ModalityLayout._of(
            *(x.to(device, non_blocking=True) for x in (self.modality, self.sample, self.position)), self.packing
        )

    @classmethod
    def _of(cls, modality: Tensor, sample: Tensor, position: Tensor, packing: Packing) -> ModalityLayout:
        """Without checks: tensors of a layout that was checked."""
        layout = cls.__new__(cls)
        layout.modality, layout.sample, layout.position, layout.packing = modality, sample, position, packing
        return layout


def _check(modality: Tensor, sample: Tensor, position: Tensor | None) -> None:
    named = {"sample": sample, "modality": modality} | ({} if position is None else {"position": position})
    for name, value in named.items():
        checks.check_tensor(_NAME, name, value)
        checks.check_rank(_NAME, name, value, (1,), "[T]")
        checks.check_dtype(_NAME, name, value, _INTEGERS, "Use .int().")
        checks.check_size(_NAME, name, value, 0, sample.shape[0], "the number of tokens T of sample")
        checks.check_device(_NAME, name, value, "sample", sample)


def _check_ids(modality: Tensor, sample: Tensor) -> None:
    last = torch.iinfo(torch.int32).max
    checks.check_range(_NAME, "sample", sample, -1, last, "sample ids, or -1 for padding")
    real = torch.where(sample >= 0, modality, 0)
    checks.check_range(_NAME, "modality", real, 0, MAX_MODALITIES - 1, "modality ids")


def _check_offsets(cu_seqlens: Tensor, total: int) -> None:
    if int(cu_seqlens[0]) != 0:
        raise ValueError(f"{_NAME}: cu_seqlens[0] is {int(cu_seqlens[0])}; it takes 0.")
    falls = cu_seqlens[1:] < cu_seqlens[:-1]
    if falls.any():
        place = int(falls.to(torch.int8).argmax()) + 1
        raise ValueError(
            f"{_NAME}: cu_seqlens[{place}] is {int(cu_seqlens[place])}; it takes offsets that do not decrease, and "
            f"before it stands {int(cu_seqlens[place - 1])}."
        )
    if int(cu_seqlens[-1]) > total:
        raise ValueError(f"{_NAME}: cu_seqlens[-1] is {int(cu_seqlens[-1])}; modality has {total} tokens.")


def _look_through(layout: ModalityLayout, default_position: bool) -> Packing:
    """Return what CPU tensors say, and raise where sample ids decrease."""
    token = torch.arange(len(layout), device=layout.device)
    real = layout.sample >= 0
    sample, modality, position = layout.sample, layout.modality, layout.position
    if not real.all():
        token, sample, modality, position = (x[real] for x in (token, sample, modality, position))
    if token.shape[0] == 0:
        return Packing(_NO_SECOND, _NO_SECOND, 0, 0, True, 0)
    step = sample[1:] - sample[:-1]
    if (step < 0).any():
        place = int((step < 0).to(torch.int8).argmax()) + 1
        raise ValueError(
            f"{_NAME}: sample[{int(token[place])}] is {int(sample[place])} after {int(sample[place - 1])}; it takes "
            "ids that do not decrease along the packing. Sort the tokens by sample, stably."
        )
    new = step > 0
    starts = torch.cat([token[:1], token[1:][new]])
    ends = torch.cat([token[:-1][new], token[-1:]])
    # An id that is left out takes no storage.
    gap = bool((step > 1).any())
    single = starts.shape[0] == 1
    spacing = _NO_SECOND if single else int((starts[1:] - starts[:-1]).min())
    tokens = _NO_SECOND if single else _least_tokens(new)
    runs = 1 + int((new | (modality[1:] != modality[:-1])).sum())
    ordered = default_position or _in_causal_order(sample, modality, position)
    longest = int((ends - starts).max()) + 1
    modalities = int(modality.max()) + 1
    return Packing(0 if gap else spacing, 0 if gap else tokens, longest, runs, ordered, modalities)


def _least_tokens(new: Tensor) -> int:
    """Return the tokens of the smallest sample; ``new`` tells which tokens, from the second on, begin one."""
    sample = torch.cat([new.new_zeros(1), new]).cumsum(0)
    return int(sample.new_zeros(int(sample[-1]) + 1).index_add_(0, sample, torch.ones_like(sample)).min())


def _in_causal_order(sample: Tensor, modality: Tensor, position: Tensor) -> bool:
    """Whether positions never decrease within a modality of a sample."""
    key = sample.long() * 2**32 + position
    if (key[1:] >= key[:-1]).all():
        return True
    groups = (key[modality == m] for m in range(int(modality.max()) + 1))
    return all(bool((group[1:] >= group[:-1]).all()) for group in groups)


def _check_promises(found: Packing, min_sample: int | None, max_sample: int | None) -> None:
    if min_sample is not None and found.min_tokens < min_sample:
        raise ValueError(
            f"{_NAME}: min_sample is {min_sample}; a sample has {found.min_tokens} tokens (0: an id is left out)."
        )
    if max_sample is not None and found.max_sample > max_sample:
        raise ValueError(f"{_NAME}: max_sample is {max_sample}; a sample takes {found.max_sample} tokens.")
