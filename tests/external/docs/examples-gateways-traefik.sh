. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe traefik traefik
