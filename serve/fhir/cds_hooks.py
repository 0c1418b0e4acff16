"""CDS Hooks 2.0: discovery, the service for the hook patient-view, and feedback on its cards.

Data come from the prefetch only. The service never calls `fhirServer`, so a request cannot make it call
an address, and it has no use for an access token.
"""

import asyncio
from contextlib import nullcontext
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError
from starlette.types import Receive, Scope, Send

from heart.http.access import require_json
from heart.http.request_body import read_body
from heart.http.tokens import FEEDBACK, PREDICT
from heart.predictions.cards import CardFeedback
from heart.utc import in_utc
from serve.api.bodies import validate_body
from serve.api.protected import LARGE_BATCH_BYTES, TOKEN, Protection, token_of
from serve.fhir.cards import (
    OVERRIDE_REASONS,
    PATH,
    SERVICE_ID,
    SERVICE_PATH,
    no_risk_card,
    risk_card,
)
from serve.fhir.codes import ENTRIES
from serve.fhir.errors import RESPONSES, with_outcomes
from serve.fhir.measurements import MAX_PATIENT_VALUES, Reading, count_values, read
from serve.middleware.admission import has_slot
from serve.offload import Offload
from serve.service import Service

MAX_BYTES = 1024 * 1024
MAX_FEEDBACK = 100
FHIR_ID = "^[A-Za-z0-9.-]{1,64}$"
TAG = "cds-hooks"
TITLE = "Risk of coronary artery disease"
DESCRIPTION = (
    "Probability of coronary artery disease from up to 13 measurements, with its interval. Not a medical "
    "device: for research and teaching only."
)


class Context(BaseModel):
    """The context of the hook patient-view."""

    patient_id: Annotated[str, Field(alias="patientId", pattern=FHIR_ID)]
    user_id: Annotated[str, Field(alias="userId", min_length=1, max_length=200)]


class HookRequest(BaseModel):
    """A call of the service. Other members, such as the access token, are ignored."""

    hook: Literal["patient-view"]
    hook_instance: Annotated[str, Field(alias="hookInstance", min_length=1, max_length=100)]
    context: Context
    prefetch: dict[str, Any] | None = None


class Coding(BaseModel):
    """A code of a system."""

    code: Annotated[str, Field(max_length=200)]
    system: Annotated[str, Field(max_length=200)]


class OverrideReason(BaseModel):
    """Why a card was overridden. The clinician's comment is not read: it may name the patient."""

    reason: Coding | None = None


class Feedback(BaseModel):
    """What was done with a card."""

    card: UUID
    outcome: Literal["accepted", "overridden"]
    override_reason: Annotated[OverrideReason | None, Field(alias="overrideReason")] = None
    outcome_timestamp: Annotated[
        AwareDatetime, AfterValidator(in_utc), Field(alias="outcomeTimestamp")
    ]


class FeedbackRequest(BaseModel):
    """Feedback on cards."""

    feedback: Annotated[list[Feedback], Field(min_length=1, max_length=MAX_FEEDBACK)]


def cds_hooks(service: Service, protection: Protection, url: str) -> list[APIRouter]:
    """The routes of CDS Hooks; `url` is that of the service, without a slash at its end."""
    discovery = APIRouter(tags=[TAG])
    calls = APIRouter(tags=[TAG], route_class=with_outcomes(_route_class(protection, PREDICT)))
    reports = APIRouter(tags=[TAG], route_class=with_outcomes(_route_class(protection, FEEDBACK)))

    @discovery.get(PATH, operation_id="discover_cds_services", summary="Describe the CDS services")
    async def discover() -> dict[str, Any]:
        """Describe the CDS services, as CDS Hooks 2.0 has it. It needs no token."""
        return {"services": [description()]}

    @calls.post(
        SERVICE_PATH,
        operation_id="call_cds_service",
        summary="Return a card for a patient",
        responses=RESPONSES,
    )
    async def call(hook: HookRequest, request: Request) -> Response:  # noqa: ARG001
        """Return a card with the risk of the patient of the hook patient-view. The prediction is logged."""
        return JSONResponse({"cards": await _cards(service, protection.offload, hook, url)})

    @reports.post(
        f"{SERVICE_PATH}/feedback",
        operation_id="record_card_feedback",
        summary="Record what was done with cards",
        responses=RESPONSES,
    )
    async def feedback(report: FeedbackRequest, request: Request) -> Response:
        """Record whether cards were accepted or overridden. Of several reports on a card the last counts."""
        entries = [_entry(item) for item in report.feedback]
        record, sender = service.log.record_card_feedback, token_of(request.scope).name
        if unknown := await asyncio.to_thread(record, entries, sender):
            raise HTTPException(
                404,
                f"{unknown} of {len(entries)} cards are unknown: their predictions were erased, or the "
                "uuid is wrong; the others are recorded",
            )
        return JSONResponse({})

    return [discovery, calls, reports]


async def _cards(
    service: Service, offload: Offload, hook: HookRequest, url: str
) -> list[dict[str, Any]]:
    """The card for the patient of a hook; none for a deceased one."""
    reading = await offload.run(_read, hook)
    if reading.deceased:
        return []
    if not {"age", "sex"} <= reading.values.keys():
        return [no_risk_card(reading, url)]
    model = service.model()
    prediction = (await service.predict([reading.values]))[0]
    same = model if model.version == prediction["model_version"] else None
    # The models of fhir.resources take some milliseconds: not on the event loop.
    patient = hook.context.patient_id
    return [await offload.run(risk_card, reading, prediction, same, url, patient)]


def description() -> dict[str, Any]:
    """The entry of the service in the discovery."""
    codes = {code for entry in ENTRIES.values() for code in (*entry.codes, *entry.within)}
    listed = ",".join(sorted(f"{code.system}|{code.code}" for code in codes))
    patient = "{{context.patientId}}"
    return {
        "hook": "patient-view",
        "title": TITLE,
        "description": DESCRIPTION,
        "id": SERVICE_ID,
        "prefetch": {
            "patient": f"Patient/{patient}",
            "observations": f"Observation?patient={patient}&code={listed}&_sort=-date&_count=200",
        },
        "usageRequirements": "The prefetch is required: the service does not call the FHIR server.",
    }


def _read(hook: HookRequest) -> Reading:
    """The measurements in the prefetch. Raises HTTPException without a Patient of the right id."""
    prefetch, patient_id = hook.prefetch or {}, hook.context.patient_id
    patient = prefetch.get("patient")
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        raise HTTPException(412, "the prefetch has no Patient with the key patient: it is required")
    if count_values(patient, MAX_PATIENT_VALUES) > MAX_PATIENT_VALUES:
        raise HTTPException(
            413,
            f"prefetch.patient has more than {MAX_PATIENT_VALUES:,} values: id, gender, birthDate and "
            "deceased suffice",
        )
    if patient.get("id", patient_id) != patient_id:
        raise HTTPException(422, "prefetch.patient is not the patient of context.patientId")
    bundle = prefetch.get("observations")
    bundle = bundle if isinstance(bundle, dict) else {}
    resources = [entry.get("resource") for entry in _objects(bundle.get("entry"))]
    if bundle.get("resourceType") == "OperationOutcome":
        resources = [bundle]
    try:
        reading = read(patient, resources, patient_id)
    except ValidationError as error:
        raise HTTPException(
            422, f"prefetch.patient is not valid FHIR R4: {_place(error)}"
        ) from None
    if bundle.get("resourceType") not in ("Bundle", "OperationOutcome"):
        reading.problems.append("The client sent no Bundle of observations.")
    if any(link.get("relation") == "next" for link in _objects(bundle.get("link"))):
        reading.problems.append("The observations have further pages, which were not read.")
    return reading


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list of JSON; none if it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _place(error: ValidationError) -> str:
    """The place of the first problem, without the value."""
    return ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))


def _entry(item: Feedback) -> CardFeedback:
    """The feedback as it is recorded: a code of another list than the service's is `other`."""
    coding = item.override_reason.reason if item.override_reason else None
    reason = None
    if item.outcome == "overridden" and coding is not None:
        reason = coding.code if coding.code in OVERRIDE_REASONS else "other"
    return CardFeedback(item.card.hex, item.outcome, reason)


def _route_class(protection: Protection, required: str) -> type[APIRoute]:
    """A class of routes that authenticate, read a body within limits, and pass it to the endpoint."""

    class HookRoute(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] not in (self.methods or ()):
                await super().handle(scope, receive, send)  # 405
                return
            scope[TOKEN] = protection.tokens.identify(scope, required)
            require_json(scope)
            limit = min(MAX_BYTES, protection.max_body_bytes)
            body = await read_body(
                scope, receive, limit, protection.limiter, has_slot=has_slot(scope)
            )
            is_long = len(body) > LARGE_BATCH_BYTES
            with protection.limiter.long_body() if is_long else nullcontext():
                assert self.body_field is not None
                model: Any = self.body_field.field_info.annotation
                value = await protection.offload.run(validate_body, model, body)
                response: Response = await self.endpoint(value, Request(scope))
            await response(scope, receive, send)

    return HookRoute
