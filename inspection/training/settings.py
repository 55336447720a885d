"""Settings that the trainings of several rooms share, and what they come to.

Only what is light is imported: `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from pydantic import BaseModel

from inspection.fields import Background, Bits, Clahe, Fit, Flatten, Roi, RoiMask

if TYPE_CHECKING:
    from inspection.data.preparation import Preparation


class PreparationSettings(BaseModel):
    """The settings of a preparation; a room names the limits and the default of `size`."""

    size: int
    fit: Fit = "stretch"
    bits: Bits = 16
    roi: Roi = None
    roi_mask: RoiMask = None
    background: Background = False
    clahe: Clahe = 0.0
    flatten: Flatten = False

    @property
    def preparation(self) -> Preparation:
        """How images are brought to the network.

        Raises:
            InputError: The mask cannot be read.
        """
        from inspection.data.masks import encode_mask
        from inspection.data.preparation import Preparation

        told = {one.name for one in fields(Preparation)} & type(self).model_fields.keys()
        values = {name: getattr(self, name) for name in told}
        mask = encode_mask(self.roi_mask) if self.roi_mask else None
        return Preparation(**values | {"roi_mask": mask})
