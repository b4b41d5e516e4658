"""LISA: towers by modality, heads by objective. A new modality is one more entry in a dict."""

from torch import nn

from lisa.data import Batch, Sequence


class LISA(nn.Module):
    """Runs the towers whose modality the batch holds, then the heads whose tower ran."""

    def __init__(self, towers: dict[str, nn.Module], heads: dict[str, nn.Module], *, reads: dict[str, str]):
        """Take modules by name; ``reads`` gives the tower of each head."""
        super().__init__()
        self.towers = nn.ModuleDict(towers)
        self.heads = nn.ModuleDict(heads)
        self.reads = dict(reads)

    def forward(self, batch: Batch) -> dict[str, Sequence]:
        """Return the outputs by name: each tower's vectors and each head's scores; absent modalities have none."""
        outputs = {name: tower(batch.inputs[name]) for name, tower in self.towers.items() if name in batch.inputs}
        for name, head in self.heads.items():
            if self.reads[name] in outputs:
                outputs[name] = head(outputs[self.reads[name]])
        return outputs
