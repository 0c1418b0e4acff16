"""Model cards for programs."""

import json
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from huggingface_hub import ModelCard

from heart.governance.answers import NOT_AVAILABLE
from heart.governance.cards import CHAI, chai, hugging_face
from tests.heart.governance.documents import complete

# The elements of CHAI's schema 0.2 in their order, without those that may be left out and those of a single result.
METRIC = "MetricGoal Results Interpretation TestType TestingDataDescription ValidationProcessAndJustification"
REQUIRED = f"""AppliedModelCard BasicInfo ModelName ModelDeveloper DeveloperContact ReleaseInfo ReleaseStage ReleaseDate
ReleaseVersion GlobalAvailability ModelSummary Summary Keywords UsesAndDirections IntendedUseAndWorkflow
PrimaryIntendedUsers HowToUse TargetedPatientPopulation CautionedOutOfScopeSettings Warnings KnownRisksAndLimitations
KnownBiasesOrEthicalConsiderations ClinicalRiskLevel TrustIngredients AISystemFacts OutcomesAndOutputs ModelType
InputDataSource OutputAndInputDataTypes DevelopmentDataCharacterization BiasMitigationApproaches OngoingMaintenance
TransparencyInformation FundingSource StakeholdersConsulted KeyMetrics UsefulnessUsabilityEfficacy {METRIC}
FairnessEquity {METRIC} SafetyReliability {METRIC} Resources PeerReviewedPublications PatientConsentOrDisclosure
Bibliography""".split()
OPTIONAL = {
    *(
        "RegulatoryApproval",
        "FoundationModels",
        "Security",
        "Transparency",
        "ThirdPartyInformation",
    ),
    *("EvaluationReferences", "ClinicalTrial", "ReimbursementStatus"),
    *("Keyword", "MetricResult", "Label", "ValueJson"),
}


def elements(documents: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each element, in order."""
    root = ET.fromstring(chai(documents))  # noqa: S314  # written just now
    assert all(element.tag.startswith(f"{{{CHAI}}}") for element in root.iter())
    return [(element.tag.partition("}")[2], element.text or "") for element in root.iter()]


def test_the_applied_model_card_has_every_required_element_in_order() -> None:
    names = [name for name, _ in elements(complete())]

    assert [name for name in names if name in REQUIRED] == REQUIRED
    assert set(names) - set(REQUIRED) <= OPTIONAL


def test_results_are_the_pipeline_s_figures_with_their_intervals() -> None:
    documents = complete()
    texts = elements(documents)
    results = {
        label: json.loads(value) for (name, label), (_, value) in pairwise(texts) if name == "Label"
    }

    evaluated = documents["evaluate"]
    assert results["ROC AUC"]["estimate"] == evaluated["roc_auc"]
    assert results["ROC AUC"]["upper"] == evaluated["roc_auc_high"]
    groups = {label for label in results if label.startswith("Recall, ")}
    assert len(groups) == len(evaluated["groups"])


def test_a_name_from_a_file_of_patients_cannot_break_the_xml() -> None:
    documents = complete()
    group = documents["evaluate"]["groups"]["sex_male"]
    documents["evaluate"]["groups"] = {"ward_<a>\x00\x1b&": group}

    labels = [text for name, text in elements(documents) if name == "Label"]

    assert "ROC AUC, ward <a>&" in labels


def test_a_figure_that_cannot_be_computed_is_left_out() -> None:
    documents = complete()
    documents["evaluate"] = dict.fromkeys(documents["evaluate"]) | {"groups": {}}

    results = [text for name, text in elements(documents) if name in ("Label", "ValueJson")]

    assert results[::2] == [NOT_AVAILABLE] * 3
    metadata = yaml.safe_load(hugging_face(documents, "").split(b"---")[1])
    assert metadata["model-index"][0]["results"][0]["metrics"] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_hub_reads_the_metadata_with_the_pipeline_s_figures() -> None:
    documents = complete()

    card = ModelCard(hugging_face(documents, "# Text of the card\n").decode())

    data: Any = card.data
    figures = {result.metric_type: result.metric_value for result in data.eval_results}
    assert figures["roc_auc"] == documents["evaluate"]["roc_auc"]
    assert data.library_name == "onnx"
    assert re.match(r"\s*# Text of the card", card.text)
