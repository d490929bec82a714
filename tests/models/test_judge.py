"""The CLIP judge of generated images picks the most similar prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalft.errors import CausalFTError
from causalft.pipelines.workflows.check_images import clip_judge, open_judge
from synthetic.prompts import default_prompts


class Oracle:
    """A stratum that reads an image's cell from its first pixel; texts lie on the axes of feature space."""

    def __init__(self):
        self.asked: list[str] = []

    def text_features(self, class_names, template):
        self.asked = [template.format(name) for name in class_names]
        return torch.eye(len(class_names))

    def crop(self, image):
        return np.asarray(image)

    def image_features(self, pixels, batch_size):
        return torch.nn.functional.one_hot(pixels[:, 0, 0, 0].long(), 12).float()


def test_image_passes_if_its_own_prompt_is_most_similar():
    stratum, prompts = Oracle(), default_prompts()
    judge = clip_judge(stratum, prompts)
    assert stratum.asked[0] == "a photo of a airplane's head (cockpit)" and len(set(stratum.asked)) == 12
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    pictures[:, 0, 0, 0] = [6, 7, 8, 11]  # cat head, cat body, dog head, truck tail
    verdict = judge(pictures, ["cat", "cat", "cat", "truck"], [0, 0, 0, 1])
    assert verdict.tolist() == [True, False, False, True]


def test_a_judge_that_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CausalFTError, match="did you mean 'clip'"):
        open_judge("clop", default_prompts())
    with pytest.raises(
        CausalFTError, match="check clip: .*check_weights=FILE.safetensors, or leave check out"
    ):
        open_judge("clip", default_prompts())
    (tmp_path / "w.safetensors").write_bytes(b"x")
    with pytest.raises(CausalFTError, match="w.safetensors is not a file of weights"):
        open_judge("ViT-B-32/openai", default_prompts(), weights=tmp_path / "w.safetensors")
