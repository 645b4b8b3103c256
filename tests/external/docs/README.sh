# After quickstart its own token is in the environment, as it says.
after_command() {
    case $1 in
        *quickstart*)
            eval "$(grep -E '^ *export CLIENT_' "$WORK/log")"
            PLATFORM=$(countersign platform list --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["platforms"][0]["id"])')
            ID=$(countersign token list --platform "$PLATFORM" --environment sandbox --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["tokens"][0]["id"])')
            ;;
        # It was the root token, which the rest asks with.
        *'token revoke'*) token VIEW,TRANSACT ;;
    esac
}
