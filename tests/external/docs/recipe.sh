# What each recipe begins with: the page before says it. Then the recipe's directory.
recipe() { # recipe NAME PROGRAM
    command -v "$2" >/dev/null || { echo "$2 is not here"; exit 77; }
    platform
    token VIEW,TRANSACT
    CREDENTIAL=$CLIENT_ID:$CLIENT_SECRET
    token VIEW
    VIEWER=$CLIENT_ID:$CLIENT_SECRET
    export CREDENTIAL VIEWER
    countersign operations load examples/operations/payments.openapi.yaml --operation-rules 'tag=Reports -> VIEW' >/dev/null || exit 1
    [ "$1" = envoy-grpc ] || serve --trusted-proxies 127.0.0.1/32 ${3:-}
    [ "$1" = assertion ] || cd "examples/gateways/$1" || exit 1
}
