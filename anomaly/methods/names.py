"""Which methods there are, and where; importing one of them takes seconds."""

from __future__ import annotations

CLASSES = {
    "patchcore": ("anomaly.methods.patchcore", "PatchCore"),
    "cs-flow": ("anomaly.methods.cs_flow", "CSFlow"),
    "cfa": ("anomaly.methods.cfa", "CFA"),
    "self-supervised": ("anomaly.methods.self_supervised", "SelfSupervised"),
    "padim": ("anomaly.methods.padim", "PaDiM"),
    "fastflow": ("anomaly.methods.fastflow", "FastFlow"),
    "cflow": ("anomaly.methods.cflow", "CFlow"),
    "vae": ("anomaly.methods.vae", "VAE"),
    "vae-denoising": ("anomaly.methods.vae", "DenoisingVAE"),
    "ocr-gan": ("anomaly.methods.ocr_gan", "OCRGAN"),
    "oc-svm": ("anomaly.methods.pooled", "OneClassSVM"),
    "isolation-forest": ("anomaly.methods.pooled", "IsolationForest"),
}
"""Module and class of each method."""

METHODS = tuple(CLASSES)
