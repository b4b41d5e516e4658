"""What the attention tests share: random layouts, and a judge of plans that trusts the definition alone."""

import torch

from lisa_kernels import AttentionPolicy, ModalityLayout
from lisa_kernels.ops.attention import reference

SIX = ("full", "causal", "within", "cross", "prefix_lm", "cross-causal")
TILE = 128


def six_types(n_modality=3):
    return AttentionPolicy.of(SIX, n_modality=n_modality, prefix=(1, 2))


def random_layout(seed, *, lengths=(70, 300, 90, 400), run=20, n_modality=3, padding=0, bidirectional=()):
    """Samples of given lengths in random runs of 1 to 2 * run - 1 tokens, padding behind each."""
    generator = torch.Generator().manual_seed(seed)
    modalities, runs, samples = [], [], []
    for sample, left in enumerate(lengths):
        while left > 0:
            tokens = min(left, int(torch.randint(1, 2 * run, (), generator=generator)))
            modalities.append(int(torch.randint(0, n_modality, (), generator=generator)))
            runs.append(tokens)
            samples.append(sample)
            left -= tokens
        if padding:
            modalities.append(0), runs.append(padding), samples.append(-1)
    return ModalityLayout.from_runs(modalities, runs, samples, bidirectional=bidirectional)


def unknown(layout):
    """The same layout as a device would give it: nothing is known on the host."""
    from lisa_kernels.ops.attention.layout import Packing

    return ModalityLayout._of(layout.modality, layout.sample, layout.position, Packing())


def block_mask(plan):
    """FlexAttention's mask of a plan, from the layout and the policy, in blocks of 128."""
    from torch.nn.attention.flex_attention import create_block_mask

    table, head_type = torch.tensor(plan.policy.visibility), torch.tensor(plan.policy.head_type)
    queries, keys = plan.layout, plan.layout_k

    def seen(batch, head, q, k):
        entry = table[head_type[head], queries.modality[q], keys.modality[k]]
        same = (queries.sample[q] == keys.sample[k]) & (queries.sample[q] >= 0)
        return same & ((entry == 1) | ((entry == 2) & (queries.position[q] >= keys.position[k])))

    sizes = (1, plan.policy.heads, len(queries), len(keys))
    return create_block_mask(seen, *sizes, device="cpu", BLOCK_SIZE=TILE)


def by_slot(plan):
    """Who sees whom by the definition, in slots: [types, NQ * 128, NK * 128]."""
    mask = reference.visible(plan)
    _, queries, keys = mask.shape
    if plan.reordered:
        mask = mask[:, plan.tokens_q[4, :queries].long()][:, :, plan.tokens_k[4, :keys].long()]
    return torch.nn.functional.pad(mask, (0, -keys % TILE, 0, -queries % TILE))


def tiles(mask):
    """[types, NQ * 128, NK * 128] as [types, NQ, NK, 128, 128]."""
    return mask.unflatten(1, (-1, TILE)).unflatten(3, (-1, TILE)).transpose(2, 3)


def states_of(lists, columns):
    """States of tile pairs by walking lists one entry at a time: 0 absent, 1 partial, 2 full, -1 where listed twice."""
    types, rows, _ = lists.shape
    states = torch.zeros(types, rows, columns, dtype=torch.int64)
    for kind in range(types):
        for row in range(rows):
            n_partial, n_all, *entries = lists[kind, row].tolist()
            for place, tile in enumerate(entries[:n_all]):
                states[kind, row, tile] = -1 if states[kind, row, tile] else 1 + (place >= n_partial)
    return states


def in_order(lists):
    """Whether partial tiles ascend, then full ones do, and zeros follow."""
    for row in lists.flatten(0, 1).tolist():
        n_partial, n_all, *entries = row
        parts = entries[:n_partial], entries[n_partial:n_all]
        if any(part != sorted(part) for part in parts) or any(entries[n_all:]):
            return False
    return True


def decided(plan, owner):
    """What words and bits say of every pair of slots, [types, NQ * 128, NK * 128]; ``owner`` is "queries" or "keys"."""
    queries, keys = plan.tokens_q, plan.tokens_k
    own, rows = (queries, (0, 1)) if owner == "queries" else (keys, (2, 3))
    reach, later = (plan.words[:, row].index_select(1, own[3]) for row in rows)
    not_later = queries[1][:, None] >= keys[1][None, :]
    if owner == "queries":
        word, bit = torch.where(not_later, reach[:, :, None], later[:, :, None]), keys[0][None, None, :]
    else:
        word, bit = torch.where(not_later, reach[:, None, :], later[:, None, :]), queries[0][None, :, None]
    seen = (word & bit) != 0
    return seen & (queries[2][:, None] == keys[2][None, :]) if plan.exact else seen


def faults(plan):
    """Names of what is wrong with a plan; empty for a right one."""
    mask = tiles(by_slot(plan))
    states = states_of(plan.lists_q, plan.lists_k.shape[1])
    transposed = states_of(plan.lists_k, plan.lists_q.shape[1]).transpose(1, 2)
    partial = (states == 1)[..., None, None]
    heads = plan.head_type.long()
    work_q, work_k = plan.lists_q[..., 1][heads], plan.lists_k[..., 1][heads].sum(0)
    checks = {
        "a tile is listed twice": (states >= 0).all() and (transposed >= 0).all(),
        "both directions agree": torch.equal(states, transposed),
        "lists are in order": in_order(plan.lists_q) and in_order(plan.lists_k),
        "skipped tiles hold nothing seen": not mask[states == 0].any(),
        "full tiles are seen whole": mask[states == 2].all(),
        "words of queries decide": not ((tiles(decided(plan, "queries")) != mask) & partial).any(),
        "words of keys decide": not ((tiles(decided(plan, "keys")) != mask) & partial).any(),
        "queries are in order": longest_first(plan.order_q, work_q.t().flatten()),
        "keys are in order": longest_first(plan.order_k, work_k),
        "slots hold each token once": all(
            torch.equal(tokens[4, :count].sort().values, torch.arange(count, dtype=torch.int32))
            for tokens, count in ((plan.tokens_q, len(plan.layout)), (plan.tokens_k, len(plan.layout_k)))
            if plan.reordered
        ),
    }
    return [name for name, right in checks.items() if not right]


def longest_first(order, work):
    """Whether ``order`` holds every place once, longest work first, equal work by place."""
    expected = sorted(range(len(work)), key=lambda place: (-int(work[place]), place))
    return order.tolist() == expected


def random_qkv(plan, *, heads=None, key_heads=2, width=32, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    heads = heads or plan.policy.heads
    shapes = (
        (len(plan.layout), heads, width),
        (len(plan.layout_k), key_heads, width),
        (len(plan.layout_k), key_heads, width),
    )
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
