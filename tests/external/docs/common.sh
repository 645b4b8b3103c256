# What the commands of every page find: a network and directories that nobody else has, the program, and `run`, which runs them.
set -u # a variable that nobody has set ends it, in the words of the shell
ip link set lo up
for directory in /tmp /mnt; do mount -t tmpfs none "$directory"; done
mkdir "$WORK/lib" && mount --bind "$WORK/lib" /var/lib
mkdir -p "$WORK/etc" && cp -a /etc/. "$WORK/etc" && mount --bind "$WORK/etc" /etc
mkdir -p /backups "$WORK/backups" /mnt/elsewhere /var/lib/countersign /etc/countersign && mount --bind "$WORK/backups" /backups
printf '127.0.0.1 localhost db.internal countersign.internal\n' >/etc/hosts
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
mkdir "$WORK/home"
export HOME="$WORK/home" PATH="$PWD/target/release:$PATH:/usr/sbin:/sbin"
ROOT=$PWD

listening() { cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == "0A"' | wc -l; }

# Waits until something more listens than before, and what it says goes to the log.
settle() { # settle HOW_MANY_BEFORE PID
    for _ in $(seq 600); do
        [ "$(listening)" -le "$1" ] || { sleep 0.2; return 0; }
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

# One command of the page, and its comment. What serves is left running; before_command and at_comment are the page's own.
trap '[ $? = 0 ] || tail -3 "$WORK/out" 2>/dev/null' EXIT
run() {
    [ -z "$2" ] || at_comment "$2" || exit 1
    [ -n "$1" ] || return 0
    before_command "$1" || exit 1
    local command=$1 before status
    case $command in
        'countersign serve'* | 'countersign quickstart'* | 'cargo run '*) command="${command%&} &" ;;
    esac
    if [ "${command: -1}" = '&' ]; then
        before=$(listening)
        eval "${command%&} >>\"$WORK/log\" 2>&1 &"
        settle "$before" $! || { echo "it does not serve: $command"; tail -20 "$WORK/log"; exit 1; }
        after_command "$1" || exit 1
        return 0
    fi
    eval "$command" >"$WORK/out" 2>&1
    status=$?
    [ $status = 0 ] || { echo "\$ $command"; cat "$WORK/out"; echo "(ended with $status)"; exit 1; }
    case $command:$2 in
        curl\ -i*:[1-5][0-9][0-9]*)
            grep -q "^HTTP/1.[01] ${2:0:3}" "$WORK/out" || { echo "\$ $command  # $2"; cat "$WORK/out"; exit 1; }
            ;;
    esac
    after_command "$1" || exit 1
}
before_command() { :; }
after_command() { :; }
at_comment() { :; }

# Nothing is built here: it is there.
cargo() {
    case $* in
        'build --release') ;;
        'run --release -- '*) exec countersign "${@:4}" ;;
        'run --example embedded -- '*) exec "$EXAMPLE" "${@:5}" ;;
        *) echo "cargo $*: not here" >&2; return 1 ;;
    esac
}
member() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
platform() { PLATFORM=$(countersign platform create --name Acme --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["platform"]["id"])'); }
token() { # token PERMISSIONS: a token, and its parts in variables
    TOKEN=$(countersign token create --platform "$PLATFORM" --environment sandbox --name ours --permissions "$1" --output json) || exit 1
    CLIENT_ID=$(echo "$TOKEN" | member clientId) CLIENT_SECRET=$(echo "$TOKEN" | member clientSecret) ID=$(echo "$TOKEN" | member id)
    export CLIENT_ID CLIENT_SECRET ID PLATFORM
}
serve() { # serve FLAGS: a server, beside which the commands run
    local before
    before=$(listening)
    countersign serve "$@" >>"$WORK/log" 2>&1 &
    SERVER=$!
    settle "$before" $SERVER || { echo 'no server'; cat "$WORK/log"; exit 1; }
}
# A certificate of this name, by an authority that the machine trusts.
certificate() { # certificate NAME
    mkdir -p "$WORK/tls" && (
        cd "$WORK/tls" || exit
        [ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
        printf 'subjectAltName=DNS:%s\n' "$1" >extensions
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -out "$1.pem" -days 30 -extfile extensions
    ) >>"$WORK/log" 2>&1
    export SSL_CERT_FILE=$WORK/tls/ca.pem
}
# PostgreSQL as db.internal, which anybody may enter by TLS.
cluster() {
    local bin
    bin=$(ls -d /usr/lib/postgresql/*/bin | sort -t/ -k5 -n | tail -1)
    certificate db.internal
    mkdir "$WORK/postgres" && chown postgres "$WORK/postgres"
    (cd / && runuser -u postgres -- "$bin/initdb" -D "$WORK/postgres/data" -A trust -E UTF8 --locale=C -N) >>"$WORK/log" 2>&1
    install -o postgres -m 600 "$WORK/tls/db.internal.key" "$WORK/tls/db.internal.pem" "$WORK/postgres/data"
    printf 'hostssl all all 127.0.0.1/32 trust\nlocal all all trust\n' >"$WORK/postgres/data/pg_hba.conf"
    (cd / && runuser -u postgres -- "$bin/pg_ctl" -D "$WORK/postgres/data" -l "$WORK/postgres/log" -w -o "-c ssl=on \
        -c ssl_cert_file=db.internal.pem -c ssl_key_file=db.internal.key -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories=$WORK/postgres" start) >>"$WORK/log" 2>&1 || { cat "$WORK/postgres/log"; exit 1; }
    export PGHOST=$WORK/postgres PGUSER=postgres
}
