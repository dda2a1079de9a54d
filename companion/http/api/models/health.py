"""Describe the answers of the probes."""

from typing import Literal

from pydantic import BaseModel, Field


class AliveModel(BaseModel):
    status: Literal["alive"]


class ReadyModel(BaseModel):
    status: Literal["ready", "not ready"]
    reasons: list[str] = Field(default=[], description="Why not; told only to who may read.")
    names: list[str] | None = Field(None, description="The names of these reasons, for programs.")
    notes: list[str] | None = Field(None, description="What should be looked at, though it is ready.")
