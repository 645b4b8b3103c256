. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe caddy caddy
