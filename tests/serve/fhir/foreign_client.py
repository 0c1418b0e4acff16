"""healthchain's clients of CDS Hooks and FHIR, run in an environment of their own (`.venv-peers/healthchain`).

It takes the URL of a service, and on stdin a patient's id with the data for the prefetch; it prints JSON.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from fhir.resources.R4B.riskassessment import RiskAssessment
from healthchain.gateway.clients.fhir.base import FHIRAuthConfig
from healthchain.gateway.clients.fhir.sync.client import create_fhir_client
from healthchain.models.responses.cdsdiscovery import CDSServiceInformation
from healthchain.models.responses.cdsfeedback import CDSFeedback
from healthchain.models.responses.cdsresponse import Card
from healthchain.sandbox.sandboxclient import SandboxClient


def main(url: str, patient_id: str, prefetch: dict[str, Any]) -> dict[str, Any]:
    listed = CDSServiceInformation.model_validate(httpx.get(f"{url}/cds-services").json())
    (service,) = listed.services
    address = f"{url}/cds-services/{service.id}"

    client = SandboxClient(address, workflow=service.hook)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefetch.json"
        file.write_text(json.dumps({key: prefetch[key] for key in service.prefetch or {}}))
        client.load_from_path(file)
    client.requests[0].context.patientId = patient_id
    (response,) = client.send_requests()
    (content,) = response["cards"]
    # Its model of a link requires `autoLaunchable`, which CDS Hooks does not.
    links = [{**link, "autoLaunchable": None} for link in content["links"]]
    card = Card.model_validate({**content, "links": links})

    feedback = CDSFeedback(
        card=card.uuid, outcome="overridden", outcomeTimestamp="2026-11-27T08:00:00Z"
    )
    entry = feedback.model_dump(mode="json", exclude_none=True)
    recorded = httpx.post(f"{address}/feedback", json={"feedback": [entry]})

    fhir = create_fhir_client(FHIRAuthConfig(base_url=f"{url}/fhir"))
    resource = fhir.read(RiskAssessment, card.uuid.replace("-", ""))
    return {
        "summary": card.summary,
        "indicator": card.indicator.value,
        "feedback": recorded.status_code,
        "probability": float(resource.prediction[0].probabilityDecimal),
        "contained": len(resource.contained),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.load(sys.stdin))))
