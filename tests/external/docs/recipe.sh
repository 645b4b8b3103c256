# What each recipe begins with: the page before says it. Then the recipe's directory.
recipe() { # recipe NAME PROGRAM
    # Those from PyPI are where setup.sh has put them, which gateways.py asks for.
    local venv=$REPOSITORY/target/external/gateways-venv envoy
    mkdir "$WORK/bin"
    for envoy in "$venv"/lib/python3*/site-packages/envoy/_bin/envoy; do [ ! -x "$envoy" ] || ln -s "$envoy" "$WORK/bin/envoy"; done
    PATH=$PATH:$venv/bin:$WORK/bin
    command -v "$2" >/dev/null || { echo "$2 is not here"; exit 77; }
    platform
    token VIEW,TRANSACT
    CREDENTIAL=$CLIENT_ID:$CLIENT_SECRET
    token VIEW
    VIEWER=$CLIENT_ID:$CLIENT_SECRET
    export CREDENTIAL VIEWER
    countersign operations load examples/operations/payments.openapi.yaml --operation-rules 'tag=Reports -> VIEW' >/dev/null || exit 1
    case $1 in
        # Its page starts the server, where the data are, before it goes on in its own directory.
        envoy-grpc) after_command() { case $1 in 'countersign serve'*) cd examples/gateways/envoy-grpc ;; esac; } ;;
        *) serve --trusted-proxies 127.0.0.1/32 && cd "examples/gateways/$1" || exit 1 ;;
    esac
}
