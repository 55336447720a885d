"""anomalib's PatchCore, one image for each line read; run by an interpreter that has it."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image


def main() -> None:
    path, size, bank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    model.memory_bank = torch.randn(bank, 384)
    model.eval()
    for _ in sys.stdin:
        began = time.perf_counter()
        with torch.inference_mode():
            image = Image.open(path).convert("RGB").resize((size, size))
            pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
            score = float(model(torch.from_numpy(pixels)).pred_score.max())
        decision = "NG" if score >= 1 else "OK"
        print(json.dumps({"decision": decision, "s": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
