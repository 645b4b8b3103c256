. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe haproxy haproxy
