#!/usr/bin/env bash
# Puts a bundle on the claim seatrial-bundles of the cluster that kubectl speaks to:
# put-bundle.sh BUNDLE PATH... With the path fraud/v1 it is what pvc://seatrial-bundles/fraud/v1 serves.
set -euo pipefail

bundle=${1:?"give a bundle's folder"}
: "${2:?"give a path on the claim, such as fraud/v1"}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ -f "$bundle/bundle.json" ]] || { echo "error: $bundle is no bundle: it has no bundle.json" >&2; exit 2; }
seatrial() { kubectl --namespace seatrial "$@"; }

# The image that runs there already: all of ours have a shell and tar.
image=$(seatrial get deployments --output 'jsonpath={.items[*].spec.template.spec.containers[*].image}')
image=${image%% *}
[[ -n "$image" ]] || { echo "error: nothing runs in the namespace seatrial; apply an overlay first" >&2; exit 1; }
trap 'seatrial delete pod put-bundle --ignore-not-found --wait=false >/dev/null' EXIT
sed "s|image: .*|image: $image|" "$here/put-bundle.yaml" | seatrial apply --filename - >/dev/null
seatrial wait --for=condition=Ready pod/put-bundle --timeout=180s >/dev/null
for path in "${@:2}"; do
  # When a predictor has already looked for it, the folder is there, empty and the kubelet's: tar must
  # not touch it, so the archive has no entry for the folder itself.
  (cd "$bundle" && tar --create --file - -- *) | seatrial exec --stdin put-bundle -- \
    sh -c 'mkdir -p "/bundles/$0" && tar --extract --file - --directory "/bundles/$0"' "$path"
  echo "pvc://seatrial-bundles/$path"
done
