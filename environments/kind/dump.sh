#!/usr/bin/env bash
# What is needed to see why a check failed, on standard error.
set -uo pipefail
{
  kubectl get all,httproutes,inferenceservices,servingruntimes,pvc --namespace seatrial --output wide
  kubectl describe inferenceservice,replicaset --namespace seatrial
  kubectl get events --all-namespaces --sort-by=.lastTimestamp | tail -60
  for pod in $(kubectl get pods --namespace seatrial --output name); do
    kubectl logs --namespace seatrial "$pod" --all-containers --prefix --tail=60
  done
  kubectl logs --namespace kserve deployment/kserve-controller-manager --tail=100
} >&2 2>&1
