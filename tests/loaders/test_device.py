"""What happens to a batch on the device."""

import torch
from kornia.augmentation import RandomHorizontalFlip

from rasteret_torch.loaders.device import augmentation, augmented


def test_augmentations_move_the_masks_with_the_image():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    batch = {"image": image, "mask": image[0].long(), "mask_valid": (image[0] > 3).byte(), "bounds": torch.zeros(1, 9)}
    out = augmented(augmentation([RandomHorizontalFlip(p=1.0)]), batch)
    assert torch.equal(out["image"], image.flip(-1))
    assert torch.equal(out["mask"], batch["mask"].flip(-1))
    assert torch.equal(out["mask_valid"], batch["mask_valid"].flip(-1))
    assert out["mask"].dtype == torch.int64
    assert out["mask_valid"].dtype == torch.uint8
    assert torch.equal(out["bounds"], batch["bounds"])


def test_steps_of_a_time_series_move_together_and_float_masks_keep_their_values():
    image = torch.rand(2, 3, 2, 4, 4)
    batch = {"image": image, "mask": image[:, 0, 0] + 0.25, "mask_valid": (image[:, :, 0] > 0.5).byte()}
    out = augmented(augmentation([RandomHorizontalFlip(p=1.0)]), batch)
    assert all(torch.equal(out[key], batch[key].flip(-1)) for key in batch)
