"""FHIR R4 and CDS Hooks for programs in hospitals.

`codes` is the table of codes; `measurements` reads a patient from resources with it, `risk_assessment`
writes a prediction; `cds_hooks` has the service and `cards` what it answers; `clients`, `keys` and `cors` say
who may call it. The models of fhir.resources check every resource. The libraries are optional
(`requirements/fhir.txt`), so only `serve/fhir_setup.py` imports this package, if a setting enables it.
"""
