"""Which architectures have published weights, and what `--weights` may be; without Keras.

A new architecture with published weights needs one line in `PUBLISHED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """ImageNet weights of keras.applications, without the classifier.

    Args:
        module: Of `keras.src.applications`.
        file: Its name, by which Keras keeps it in its cache, too.
        hashed: Its key among the module's hashes; None where it has none.
    """

    module: str
    file: str
    hashed: str | None


PUBLISHED: dict[str, Published] = {
    **{
        name: Published("resnet", f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5", name)
        for name in ("resnet50", "resnet101", "resnet152")
    },
    "mobilenetv2": Published(
        "mobilenet_v2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", None
    ),
    "mobilenetv3": Published(
        "mobilenet_v3",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "large_224_1.0_float",
    ),
    "efficientnet": Published("efficientnet", "efficientnetb0_notop.h5", "b0"),
    "efficientnet-b5": Published("efficientnet", "efficientnetb5_notop.h5", "b5"),
    "convnext": Published("convnext", "convnext_tiny_notop.h5", "convnext_tiny"),
}


def weights_problems(
    choice: str, words: Iterable[str], name: str, offered: Iterable[str] = PUBLISHED
) -> list[str]:
    """A sentence where `--weights` names what there is not.

    Args:
        choice: A word, or the path of a file.
        words: Beside `imagenet`, which only some architectures have.
        name: Of the architecture.
        offered: Names of the architectures that there are to choose from.
    """
    if choice in words:
        return []
    if choice != "imagenet":
        return file_problems(choice)
    if name in PUBLISHED:
        return []
    having = ", ".join(one for one in offered if one in PUBLISHED)
    return [
        f"--weights imagenet: {name} has no published Keras weights; take none, a snapshot, or "
        f"one of {having}"
    ]


def file_problems(choice: str | Path) -> list[str]:
    """A sentence where `--weights` is no file."""
    if Path(choice).is_file():
        return []
    return [f"--weights {choice}: there is no such file; correct the path"]
