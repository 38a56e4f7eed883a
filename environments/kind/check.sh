#!/usr/bin/env bash
# Installs the suite on the cluster of KUBECONFIG and checks it: check.sh BUNDLE. Stable answers, a
# canary gets 10 % of the route, and goes back to 0 %. Conditions of an InferenceService cannot be
# waited for after an edit, so everything is waited for on routes and Deployments.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bundle=${1:?"give a bundle's folder"}
image=$(sed -n 's/^ *image: \(seatrial\/gate:.*\)$/\1/p' "$root/manifests/rendered/cpu.yaml" | head -1)
readonly SECONDS_LIMIT=300
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

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
weight() { # ARM
  kubectl get httproute fraud --namespace seatrial --output \
    jsonpath="{.spec.rules[0].backendRefs[?(@.name==\"fraud-$1-predictor\")].weight}"
}
ask() {
  kubectl run "ask-$RANDOM" --namespace default --rm --stdin --quiet --restart=Never \
    --image="$image" --image-pull-policy=IfNotPresent --command -- python -c "
import urllib.request
request = urllib.request.Request(
    'http://kserve-ingress-gateway.envoy-gateway-system/v2/models/fraud/ready',
    headers={'host': 'fraud-seatrial.example.com'})
print(urllib.request.urlopen(request, timeout=10).status)"
}

# The admission webhooks see everything first; without its namespace nothing can be seen.
kubectl apply --filename "$root/manifests/base/predictor/namespace.yaml"
kubectl apply --dry-run=server --kustomize "$root" >/dev/null
kubectl apply --kustomize "$root"

# The bundle, on the claim, under the names of both arms.
kubectl apply --namespace seatrial --filename - <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: bundles
spec:
  automountServiceAccountToken: false
  securityContext:
    {runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: shell
      image: $image
      command: [sleep, "600"]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: bundles, mountPath: /bundles}]
  volumes: [{name: bundles, persistentVolumeClaim: {claimName: seatrial-bundles}}]
YAML
kubectl wait --namespace seatrial --for=condition=Ready pod/bundles --timeout=120s
for arm in v1 v2; do
  kubectl exec --namespace seatrial bundles -- mkdir -p "/bundles/fraud/$arm"
  tar --create --directory "$bundle" . |
    kubectl exec --stdin --namespace seatrial bundles -- tar --extract --directory "/bundles/fraud/$arm"
done
kubectl delete pod bundles --namespace seatrial --wait=false

until_equal "ready pods of v1" 1 ready v1
until_equal "an answer through the gateway" 200 ask
kubectl rollout status deployment/seatrial-gate --namespace seatrial --timeout=120s
kubectl rollout status deployment/seatrial-retrain --namespace seatrial --timeout=120s

# A rollout by hand, in a copy: dark, 10 %, dark.
cp -r "$root/manifests" "$work/manifests"
overlay=$work/manifests/overlays/cpu
canary() { # PERCENT
  cat >"$overlay/rollout.yaml" <<YAML
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: fraud
  namespace: seatrial
spec:
  predictor:
    name: v1
    minReplicas: 2
    model:
      storageUri: pvc://seatrial-bundles/fraud/v1
  canary:
    - trafficPercent: $1
      predictor:
        name: v2
        minReplicas: 1
        model:
          modelFormat:
            name: onnx
          storageUri: pvc://seatrial-bundles/fraud/v2
YAML
  kubectl apply --kustomize "$overlay" >/dev/null
}
canary 0
until_equal "ready pods of v2" 1 ready v2
canary 10
until_equal "v2's weight" 10 weight v2
canary 0
until_equal "v1's weight" 100 weight v1
kubectl apply --kustomize "$root" >/dev/null
echo "all checks passed"
