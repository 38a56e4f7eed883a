"""Evidence on counts: e-processes that may be looked at as often as one likes.

Each value is frozen and grows by `updated(...)` with the increments of one interval. Under its null
ln E reaches ln(1/rate) with probability `rate` at most, over the whole run and however many looks
are taken (Ville 1939; Ramdas, Grünwald, Vovk & Shafer, "Game-theoretic statistics and safe
anytime-valid inference", 2023). An interval without data adds nothing.

    RelativeEvidence   worse than stable (log_e_bad); not psi_max times worse (log_e_good)
    AbsoluteEvidence   below the SLO's maximum rate (log_e_good), above it (log_e_bad)
    ShiftEvidence      scores or decisions past their tolerance (log_e), within it (log_e_good)
    Overdispersion     phi of bursty events, which the evidence is divided by
"""

from serving.rollout.evidence.absolute import AbsoluteEvidence
from serving.rollout.evidence.bins import deciles, rebinned
from serving.rollout.evidence.dispersion import Overdispersion, phi_of_bursts
from serving.rollout.evidence.hypergeometric import log_mean_power
from serving.rollout.evidence.mixture import log_mean, threshold
from serving.rollout.evidence.relative import PSIS, RelativeEvidence
from serving.rollout.evidence.shift import TOLERANCE, ShiftEvidence, shift_gains

__all__ = [
    "PSIS",
    "TOLERANCE",
    "AbsoluteEvidence",
    "Overdispersion",
    "RelativeEvidence",
    "ShiftEvidence",
    "deciles",
    "log_mean",
    "log_mean_power",
    "phi_of_bursts",
    "rebinned",
    "shift_gains",
    "threshold",
]
