"""What all parts of the site file's model share: the base class and the types of values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""Names that end up in topics, file names and log lines."""


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


Positive = Annotated[float, Field(gt=0.0)]


NotNegative = Annotated[float, Field(ge=0.0)]


ChemistryName = Literal["LMO", "NMC", "LFP", "NCA"]


SECONDS_PER_DAY = 86_400.0


class Section(BaseModel):
    """Base of all parts of a site file: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
