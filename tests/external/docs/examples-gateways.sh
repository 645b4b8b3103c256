before_command() {
    case $1 in
        *attack.py*)
            cd examples/gateways/nginx || return 1
            run 'python3 ../upstream/upstream.py &' ''
            mkdir -p /tmp/gateway
            run 'nginx -p /tmp/gateway -e stderr -c "$PWD/nginx.conf" &' ''
            ;;
    esac
}
