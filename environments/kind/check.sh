#!/usr/bin/env bash
# Installs the suite on the cluster of KUBECONFIG and runs tests/e2e/test_served.py against it:
# check.sh BUNDLE. The same tests run against the player in CI. Conditions of an InferenceService
# cannot be waited for after an edit: everything is waited for on routes and Deployments. GATEWAY
# names the Service that the gateway listens on, as NAMESPACE/NAME.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bundle=$(realpath "${1:?"give a bundle's folder"}")
gateway=${GATEWAY:-envoy-gateway-system/kserve-ingress-gateway}
python=$root/.venv/bin/python
readonly SECONDS_LIMIT=300
readonly PORT=18080
[[ -x "$python" ]] || { echo "error: no .venv; run 'make environments'" >&2; exit 2; }

until_equal() { # WHAT WANTED COMMAND...
  local what=$1 wanted=$2 deadline=$((SECONDS + SECONDS_LIMIT)) found
  shift 2
  until found=$("$@" 2>/dev/null) && [[ "$found" == "$wanted" ]]; do
    if ((SECONDS > deadline)); then
      echo "error: $what is '$found' and not '$wanted' after $SECONDS_LIMIT s" >&2
      return 1
    fi
    sleep 1
  done
  echo "$what: $wanted"
}
ready() { # ARM
  kubectl get deployment "fraud-$1-predictor" --namespace seatrial \
    --output jsonpath='{.status.readyReplicas}'
}
answer() {
  curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' \
    --header "host: $(kubectl get httproute fraud --namespace seatrial \
      --output jsonpath='{.spec.hostnames[0]}')" "http://127.0.0.1:$PORT/v2/models/fraud/ready"
}

# The admission webhooks see everything first; without its namespace nothing can be seen.
kubectl apply --filename "$root/manifests/base/predictor/namespace.yaml"
kubectl apply --dry-run=server --kustomize "$root" >/dev/null
kubectl apply --kustomize "$root"

"$root/manifests/put-bundle.sh" "$bundle" fraud/v1 fraud/v2

until_equal "ready pods of v1" 1 ready v1
kubectl rollout status deployment/seatrial-gate --namespace seatrial --timeout=120s
kubectl rollout status deployment/seatrial-retrain --namespace seatrial --timeout=120s

kubectl port-forward --namespace "${gateway%/*}" "service/${gateway#*/}" "$PORT:80" >/dev/null &
forward=$!
trap 'kill "$forward" 2>/dev/null || true' EXIT
until_equal "an answer through the gateway" 200 answer
cd "$root"
SEATRIAL_GATEWAY=http://127.0.0.1:$PORT SEATRIAL_BUNDLE=$bundle \
  "$python" -m pytest tests/e2e/test_served.py --verbose
echo "all checks passed"
