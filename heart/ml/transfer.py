"""How much the log odds of the disease differ between hospitals, for patients with the same measurements.

A model of one hospital has seen no other, so its own data cannot tell: BETWEEN_HOSPITALS is a stated prior, the standard
deviation of a random effect on the log odds. It lies between two published figures:

- 0.18 within one region and health system: the probability of death within a year for the same patient was between
  0.168 and 0.290 for 95 % of 90 hospitals (P. Austin et al., "Validation of prediction models: examining temporal and
  geographic stability of baseline risk and estimated covariate effects", Diagnostic and Prognostic Research 1:12,
  2017). (logit 0.290 - logit 0.168) / (2 x 1.96) = 0.18.
- 0.75 between countries, before any measurement is known: 36, 75 and 64 % of the patients in Budapest, Long Beach,
  and Zurich and Basel had the disease (R. Detrano et al., "International application of a new probability
  algorithm for the diagnosis of coronary artery disease", American Journal of Cardiology 64:304, 1989), and 46 % of
  those of Cleveland. That is the standard deviation of the four logits; measurements explain a part of it.

So the odds at a new hospital are within a factor of 2.7 of the model's for 95 % of hospitals. A random effect shifts all
patients of a hospital alike: outcomes of the hospital show it (`make validate`), the patient's measurements do not.
"""

BETWEEN_HOSPITALS = 0.5
