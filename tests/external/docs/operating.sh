export COUNTERSIGN_DATA=/var/lib/countersign
cluster
createuser countersign && createdb countersign --owner countersign --encoding UTF8 --template template0
certificate_of_the_server() {
    certificate countersign.internal
    cat "$WORK/tls/countersign.internal.pem" "$WORK/tls/countersign.internal.key" >"$WORK/tls/both.pem"
    printf 'defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nfrontend f\n bind 127.0.0.1:443 ssl crt %s\n default_backend b\nbackend b\n server s 127.0.0.1:8421\n' "$WORK/tls/both.pem" >"$WORK/haproxy.cfg"
    haproxy -D -f "$WORK/haproxy.cfg"
}
platform; token VIEW; serve
cp config.default.toml /etc/countersign/countersign.toml
sed -i 's|^data = .*|data = "/var/lib/countersign"|' /etc/countersign/countersign.toml
before_command() {
    case $1 in
        # A database that is gone, and one that went back.
        'countersign restore --from'*)
            kill "$SERVER"; wait "$SERVER"
            rm /var/lib/countersign/countersign.db*
            ;;
        *'--finish')
            [ -z "${SERVER:-}" ] || { kill "$SERVER"; wait "$SERVER"; SERVER=; } ;;
        'countersign doctor'*) unset COUNTERSIGN_DATABASE; export COUNTERSIGN_DATABASE=postgres://countersign@db.internal/countersign; serve ;;
        'countersign operator token create'*) countersign operator create alice --role owner >/dev/null; token VIEW ;;
        'countersign token revoke'*)
            certificate_of_the_server
            # What the page calls an operator's token.
            COUNTERSIGN_OPERATOR_TOKEN=$MADE
            unset COUNTERSIGN_DATABASE COUNTERSIGN_DATA
            ;;
    esac
}
after_command() {
    case $1 in
        *'--expect 0') BULK=$(countersign token bulk-revokes --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["bulkRevokes"][0]["id"])') ;;
        'countersign restore --journal'*) serve ;;
        'countersign operator token create'*) MADE=$(grep -o 'csop_[A-Za-z0-9_-]*' "$WORK/out") ;;
    esac
}
