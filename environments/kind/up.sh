#!/usr/bin/env bash
# Brings up a kind cluster with Gateway API, Envoy Gateway, KServe in Standard mode and this suite,
# and checks it: environments/kind/up.sh BUNDLE. It needs docker, kind, kubectl, curl and this
# repository's .venv; KEEP=1 leaves the cluster, CLUSTER names it. With KUBECONFIG of a cluster that
# has all that, check.sh alone will do.
set -euo pipefail

readonly KSERVE=v0.21.0
# As that KServe's own tests have them.
readonly CERT_MANAGER=v1.17.0
readonly ENVOY_GATEWAY=v1.8.1
readonly RELEASES=https://github.com

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cluster=${CLUSTER:-seatrial}
bundle=${1:?"give a bundle's folder, as 'seatrial train' makes one"}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")

for tool in docker kind kubectl curl; do
  command -v "$tool" >/dev/null || { echo "error: $tool is not on PATH" >&2; exit 2; }
done
[[ -f "$bundle/bundle.json" ]] || { echo "error: $bundle is no bundle" >&2; exit 2; }

work=$(mktemp -d)
finish() {
  local status=$?
  if ((status)); then "$here/dump.sh" || true; fi
  rm -rf "$work"
  if [[ ${KEEP:-0} == 1 ]]; then
    echo "kept: kind export kubeconfig --name $cluster; kind delete cluster --name $cluster"
  else
    kind delete cluster --name "$cluster"
  fi
  exit "$status"
}
trap finish EXIT

export KUBECONFIG=$work/kubeconfig
kind create cluster --name "$cluster" --config "$here/kind.yaml" --wait 120s

for image in predictor drift gate; do
  docker build --file "$root/environments/docker/$image.Dockerfile" \
    --tag "seatrial/$image:$version" "$root"
  kind load docker-image --name "$cluster" "seatrial/$image:$version"
done

kubectl apply --server-side --filename \
  "$RELEASES/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml"
kubectl wait --namespace cert-manager --for=condition=Available deployment --all --timeout=180s

# It brings the CRDs of Gateway API with it.
kubectl apply --server-side --force-conflicts --filename \
  "$RELEASES/envoyproxy/gateway/releases/download/$ENVOY_GATEWAY/install.yaml"
kubectl wait --namespace envoy-gateway-system --for=condition=Available deployment --all \
  --timeout=180s

# The release's manifests leave the namespace out, and hold an object of a kind that is defined in its
# CRDs: those must be there first.
kubectl create namespace kserve
kubectl apply --server-side --filename \
  "$RELEASES/kserve/kserve/releases/download/$KSERVE/kserve-crds.yaml"
kubectl wait --for=condition=Established customresourcedefinition --all --timeout=60s
kubectl apply --server-side --force-conflicts --filename \
  "$RELEASES/kserve/kserve/releases/download/$KSERVE/kserve.yaml"
kubectl wait --namespace kserve --for=condition=Available deployment/kserve-controller-manager \
  --timeout=180s
# Standard mode, and weights on HTTPRoutes: both are off as shipped.
kubectl get configmap inferenceservice-config --namespace kserve --output yaml |
  sed -e 's/"enableGatewayApi": false/"enableGatewayApi": true/' \
    -e 's/"disableIstioVirtualHost": false/"disableIstioVirtualHost": true/' \
    -e 's/"defaultDeploymentMode": "[A-Za-z]*"/"defaultDeploymentMode": "Standard"/' |
  kubectl replace --filename -
kubectl rollout restart --namespace kserve deployment/kserve-controller-manager
kubectl rollout status --namespace kserve deployment/kserve-controller-manager --timeout=180s
kubectl apply --filename "$here/gateway.yaml"
kubectl wait --namespace kserve --for=condition=Programmed gateway/kserve-ingress-gateway \
  --timeout=180s

"$here/check.sh" "$bundle"
