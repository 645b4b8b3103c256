# Steps that are a server's, or wait for what tokens do.
ROOTS=$(countersign platform create --name Acme --output json | python3 -c 'import json, sys; print(*(t["clientId"] + ":" + t["clientSecret"] for t in json.load(sys.stdin)["tokens"]))')
serve --flush-interval 200ms
at_comment() {
    case $1 in
        *SIGHUP*) kill -HUP "$SERVER"; sleep 0.5 ;;
    esac
}
before_command() {
    case $1 in
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
