"""Published counts of published networks."""

from __future__ import annotations

import pytest

from search_spaces.networks import NETWORKS
from search_spaces.ops import OpKind, total_macs, total_params

# Patches, then 12 blocks of linear layers (192 x (576 + 192 + 768 + 768)) and attention over 197 tokens, then the
# classifier.
VIT_MACS = 196 * 768 * 192 + 12 * (197 * 192 * 2304 + 2 * 3 * 197 * 197 * 64) + 192 * 1000

# Parameters and multiply-accumulates at 224 x 224, 1,000 classes, of torchvision's and DeiT's reference models.
# ViT-Tiny's parameters lack the class token (192) and the positions (197 x 192), which belong to no op.
PUBLISHED = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet50": (25_557_032, 4_089_184_256),
    "mobilenetv2": (3_504_872, 300_774_272),
    "vit-tiny": (5_717_416 - 192 - 197 * 192, VIT_MACS),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_counts_are_the_published_ones(name: str) -> None:
    params, macs = PUBLISHED[name]
    table = NETWORKS[name](224, 1000)
    assert int(total_params(table)[0]) == params
    assert int(total_macs(table)[0]) == macs


def test_resnet18_has_the_twelve_distinct_convolutions_and_products_of_its_table() -> None:
    table = NETWORKS["resnet18"](64, 1000)
    nests = {
        tuple(
            int(getattr(table, c)[i]) for c in ("in_channels", "out_channels", "out_height", "kernel_height", "stride")
        )
        for i in range(len(table))
        if table.kind[i] in (OpKind.CONV, OpKind.LINEAR)
    }
    assert len(nests) == 12
