# wheels: PyJWT[crypto]>=2.10
. "$REPOSITORY/tests/external/docs/recipe.sh"
command -v nginx >/dev/null || { echo 'nginx is not here'; exit 77; }
platform
token VIEW,TRANSACT
export CREDENTIAL=$CLIENT_ID:$CLIENT_SECRET
countersign operations load examples/operations/payments.openapi.yaml --operation-rules 'tag=Reports -> VIEW' >/dev/null || exit 1
