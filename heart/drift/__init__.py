"""Drift: the baseline of the training patients, the statistics, their thresholds, and the simulation
behind those. Pure functions of counts.
"""
