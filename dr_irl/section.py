"""The base of every class of options: frozen, unknown names refused, a docstring for each."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Options of one stage or rule: at once a section of the settings and what the method is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
