#!/usr/bin/env bash
# Asks a running controller everything that its OpenAPI document allows and much that it forbids.
#
#     tests/schemathesis.sh http://127.0.0.1:7400
#
# The controller is changed: use one made for it. Watches never end, so tests of their own ask them;
# a backup is large and tested apart. What the plan's rules refuse (409, 412, 422) is a good answer to
# a well-formed call.
set -euo pipefail

url=${1:?the URL of a controller made for this}
python=${CROSSFADE_TEST_PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)

# Something to ask about; calls that change or delete it come too.
sed 's/^\( *name:\) billing$/\1 shop/; s/metadata: *{ *name: billing *}/metadata: { name: shop }/' \
    "$here/../examples/gradual.yaml" |
    curl -sf -X PUT -H 'content-type: application/yaml' --data-binary @- "$url/v1/plans/shop" >/dev/null

exec "$(dirname "$python")/schemathesis" --config-file "$here/schemathesis.toml" run \
    "$url/openapi.json" --url "$url" \
    --exclude-path /v1/watch --exclude-path /v1/backup \
    --max-examples "${EXAMPLES:-25}" --seed 1 --request-timeout 20 --no-color
