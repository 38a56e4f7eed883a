"""`seatrial doctor`: what will and won't work on the cluster that kubeconfig names."""

from seatrial.doctor.diagnose import Diagnosis, diagnose
from seatrial.doctor.finding import Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "diagnose"]
