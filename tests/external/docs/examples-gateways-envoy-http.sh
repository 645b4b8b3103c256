. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe envoy-http envoy
