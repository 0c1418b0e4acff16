"""Monitoring: drift, performance without outcomes, reports, simulated patients; and retraining in `retraining`."""
