"""Check [remediation] and its rules."""

import re
import warnings
from typing import Literal, Self

from pydantic import Field, model_validator

from companion.config.section import ConfigSection


class Rule(ConfigSection):
    """Choose the action for contacts that match all of its patterns (as in a shell, `*` and `?`)."""

    domain: str = "*"
    aor: str = "*"
    user_agent: str = "*"
    node: str = "*"
    action: Literal["auto", "push", "remove", "keep"]


class RemediationSection(ConfigSection):
    mode: Literal["observe", "enforce"] = "observe"
    sweep_interval: float = Field(15, gt=0, le=3600)
    warm_up: float = Field(0, ge=0)
    disconnect_grace: float = Field(15, ge=0)
    ghost_grace: float = Field(10, ge=0)
    breaker_candidates: int = Field(50, ge=0)
    breaker_share: float = Field(0.2, ge=0, le=1)
    breaker_calm: float = Field(60, ge=0)
    node_lost_after: float = Field(3600, ge=60)
    suspects_per_hour: int = Field(5, ge=0)
    max_per_sweep: int = Field(200, ge=1)
    max_per_minute: int = Field(400, ge=1)
    push_event: str = Field("E_COMPANION_PUSH", pattern=r"^E_[A-Z0-9_]{1,60}$")
    push_grace: float = Field(30, gt=0)
    push_attempts: int = Field(4, ge=1, le=100)
    push_per_day: int = Field(24, ge=1)
    push_fallback: Literal["keep", "remove"] = "keep"
    push_attr: str = ""
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            with warnings.catch_warnings(action="error"):
                re.compile(self.push_attr)
        except (re.error, Warning) as error:
            raise ValueError(f"push_attr is not a regular expression: {error}") from None
        return self
