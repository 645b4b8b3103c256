. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe envoy-grpc envoy
