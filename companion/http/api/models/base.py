"""Define what all models of the API share, for its OpenAPI document.

The answers themselves are made by companion.query. A member more than is described is passed on: clients must ignore
members they do not know.
"""

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    model_config = ConfigDict(extra="allow")
