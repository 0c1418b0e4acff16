"""FHIR R4 for programs in hospitals: predictions of the log as resources RiskAssessment.

The models of fhir.resources check every resource. That library is optional (`requirements/fhir.txt`), so
only `serve/app.py` imports this package, and only if the setting HEART_FHIR is true.
"""
