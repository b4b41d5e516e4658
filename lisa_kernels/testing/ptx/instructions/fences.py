"""Fences (PTX ISA, section "Parallel Synchronization and Communication Instructions: membar, fence")."""

from __future__ import annotations

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.syntax import instruction


@instruction("fence[.sc|.acq_rel|.acquire|.release].(cta|cluster|gpu|sys)", "membar.(cta|gl|sys)")
def memory_fence(block: Block, inst: Instruction) -> None:
    block.clocks.fence_memory(block.active_warps())


@instruction("fence.proxy.async[.global|.shared::cta|.shared::cluster]")
def proxy_fence(block: Block, inst: Instruction) -> None:
    if "global" not in inst.modifiers:
        block.clocks.fence_proxy(block.active_warps())


@instruction("fence.mbarrier_init.release.cluster")
def mbarrier_init_fence(block: Block, inst: Instruction) -> None:
    """For other blocks of a cluster; a cluster is one block here."""


@instruction("fence.proxy.alias", "membar.proxy.alias", "griddepcontrol.(launch_dependents|wait)")
def no_effect(block: Block, inst: Instruction) -> None:
    """One grid runs here, through one address for each byte."""
