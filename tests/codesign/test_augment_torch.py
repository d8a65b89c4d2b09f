"""Augmentation: each change against what it must keep, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from codesign.augment_torch import augmentation, cutout, flip, translate
from codesign.errors import InputError
from codesign.recipe import Recipe

pytestmark = pytest.mark.torch


def _images(n: int = 64, dtype: torch.dtype = torch.uint8, height: int = 8, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(1, 256, (n, 3, height, width), generator=generator).to(dtype)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    images = _images(400)
    flipped = flip(images, _generator())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_is_a_window_of_the_image_padded_with_zeros(dtype: torch.dtype) -> None:
    images = _images(200, dtype)
    cropped = translate(images, _generator(), 2, "constant")
    assert cropped.dtype == dtype
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    offsets = set()
    for i in range(200):
        found = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(padded[i, :, dy : dy + 8, dx : dx + 6], cropped[i])
        ]
        assert found, "every result is some window"
        offsets.add(found[0])
    assert len(offsets) == 25, "every window occurs"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shift_repeats_the_border(dtype: torch.dtype) -> None:
    images = _images(50, dtype)
    shifted = translate(images, _generator(), 1, "replicate").numpy()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    for i in range(50):
        windows = [padded[i, :, dy : dy + 8, dx : dx + 6] for dy in range(3) for dx in range(3)]
        assert any(np.array_equal(window, shifted[i]) for window in windows)


def test_cutout_fills_one_square_with_the_mean() -> None:
    images = _images(300)
    cut = cutout(images, _generator(), 4, (0.4, 0.0, 0.0))
    sides = []
    for before, after in zip(images.numpy(), cut.numpy(), strict=True):
        is_cut = (before != after).all(axis=0)  # the images hold no zero
        rows, columns = np.flatnonzero(is_cut.any(axis=1)), np.flatnonzero(is_cut.any(axis=0))
        assert is_cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert np.array_equal(before[:, ~is_cut], after[:, ~is_cut])
        assert (after[:, is_cut] == 0).all()
        sides.append((int(rows[0]), len(rows), int(columns[0]), len(columns)))
    # Centres 0..7 and 0..5: squares of 4 reach 2 before their centre and 1 after it, and are cut off at every border.
    assert {(top, n) for top, n, _, _ in sides} == {(0, 2), (0, 3), (0, 4), (1, 4), (2, 4), (3, 4), (4, 4), (5, 3)}
    assert {(left, n) for _, _, left, n in sides} == {(0, 2), (0, 3), (0, 4), (1, 4), (2, 4), (3, 3)}


def test_cutout_of_floats_leaves_the_mean_itself() -> None:
    cut = cutout(torch.ones(4, 2, 4, 4), _generator(), 8, (0.25, 0.5))
    assert (cut[:, 0] == 0.25).any()
    assert (cut[:, 1] == 0.5).any()


def test_a_recipe_chooses_changes_and_their_reach() -> None:
    images = _images(8, height=32, width=32)
    mean = (1.0, 2.0, 3.0)
    nothing = augmentation(Recipe(), (3, 32, 32), mean)
    assert nothing(images, _generator()) is images
    both = augmentation(Recipe(augment=("crop", "flip")), (3, 32, 32), mean)
    generator = _generator()
    expected = translate(flip(images, generator), generator, 4, "constant")  # 4 of 32, as in published recipes
    assert torch.equal(both(images, _generator()), expected)
    square = augmentation(Recipe(augment=("cutout",)), (3, 32, 32), mean)
    assert torch.equal(square(images, _generator()), cutout(images, _generator(), 16, mean))
    shift = augmentation(Recipe(augment=("shift",), shift_pixels=3), (3, 32, 32), mean)
    assert torch.equal(shift(images, _generator()), translate(images, _generator(), 3, "replicate"))


def test_a_reach_beyond_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"crop_pixels: 8 is not allowed; use fewer pixels than the images have \(8\)"):
        augmentation(Recipe(augment=("crop",), crop_pixels=8), (1, 8, 8), (0.0,))
    augmentation(Recipe(augment=("flip",), crop_pixels=8), (1, 8, 8), (0.0,))
