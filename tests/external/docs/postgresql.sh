cluster
cp "$WORK/tls/ca.pem" /etc/ssl/db-ca.pem
# It asks for a password, twice.
createuser() { printf 'PASSWORD\nPASSWORD\n' | command createuser "$@"; }
