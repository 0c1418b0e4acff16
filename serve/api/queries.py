"""Query parameters: their models, and the rejection of unknown ones on every route."""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.types import Receive, Scope, Send

from heart.dataset.codings import AUTO, parse_setting
from heart.schema import SchemaError
from serve.api.bodies import MAX_ERRORS, InvalidBody
from serve.explain import Parts

# Patients of a batch, with what takes longer than the risk: 8,192 predictions for the contributions of
# one patient with all measurements, some 40 for the details of one with age and sex alone.
MAX_EXPLAINED, MAX_DETAILED = 100, 1000


class PredictQuery(BaseModel):
    """What a prediction shall have beside the risk."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    explain: Annotated[
        bool, Field(description="Also contributions and baseline_risk; some milliseconds a patient")
    ] = False
    details: Annotated[
        bool,
        Field(description="Also interval, hospital_interval, average_risk and missing_effects"),
    ] = False

    @cached_property
    def parts(self) -> Parts:
        """The parts of the predictions."""
        return Parts(details=self.details, contributions=self.explain)


class BatchQuery(PredictQuery):
    """What the predictions of a batch shall have, and how a table is read."""

    explain: Annotated[
        bool,
        Field(
            description=f"Also contributions and baseline_risk, for at most {MAX_EXPLAINED} patients"
        ),
    ] = False
    details: Annotated[
        bool,
        Field(
            description="Also interval, hospital_interval, average_risk and missing_effects, for at most "
            f"{MAX_DETAILED:,} patients"
        ),
    ] = False
    coding: Annotated[
        str,
        Field(
            description="Of a table: auto, a coding such as uci, or the codings of single columns, such as "
            "auto,thallium=heart_csv"
        ),
    ] = AUTO

    @field_validator("coding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            parse_setting(value)
        except SchemaError as error:
            raise ValueError(str(error)) from None
        return value

    def require_short(self, patients: int) -> None:
        """Raise InvalidBody if there are more patients than the parts allow."""
        for name, limit in (("explain", MAX_EXPLAINED), ("details", MAX_DETAILED)):
            if getattr(self, name) and patients > limit:
                text = (
                    f"{name}=true takes at most {limit:,} patients, the batch has {patients:,}: send "
                    f"smaller batches, or leave {name} out"
                )
                item = {"type": "too_many_patients", "msg": text, "loc": ("query", name)}
                raise InvalidBody([item], complete=True)


class StrictRoute(APIRoute):
    """A route that rejects query parameters that it does not have: a misspelled one would be ignored."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] and scope["method"] in (self.methods or ()):
            self.require_known(scope)
        await super().handle(scope, receive, send)

    def require_known(self, scope: Scope) -> dict[str, str]:
        """The query of a request, of repeated parameters the last. Raises InvalidBody for unknown ones."""
        text = scope["query_string"].decode("latin-1")
        query = dict(parse_qsl(text, keep_blank_values=True))
        known = list(_names(self))
        expected = f"expected {' or '.join(known)}" if known else "this route has none"
        errors = [
            {
                "type": "unknown_parameter",
                "msg": f"unknown query parameter: {expected}",
                "loc": ("query", name),
                "input": value,
                "choices": known,
            }
            for name, value in query.items()
            if name not in known
        ]
        if errors:
            raise InvalidBody(errors[: MAX_ERRORS + 1], complete=len(errors) <= MAX_ERRORS)
        return query

    def validated(self, query: dict[str, str]) -> Any:
        """A query as the model that the route has for it. Raises InvalidBody."""
        if not query:
            return self._empty_query
        try:
            return self._query_model.model_validate(query)
        except ValidationError as error:
            items = error.errors(include_url=False, include_context=False)
            errors: list[dict[str, Any]] = [
                {**i, "msg": i["msg"].removeprefix("Value error, "), "loc": ("query", *i["loc"])}
                for i in items
            ]
            raise InvalidBody(errors, complete=True) from None

    @cached_property
    def _empty_query(self) -> BaseModel:
        return self._query_model()

    @cached_property
    def _query_model(self) -> type[BaseModel]:
        kinds: list[Any] = [field.field_info.annotation for field in self.dependant.query_params]
        return next(
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        )


def _names(route: APIRoute) -> Iterator[str]:
    """The query parameters of a route: those of its models, and single ones."""
    for field in route.dependant.query_params:
        kind: Any = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from kind.model_fields
        else:
            yield field.alias
