. "$REPOSITORY/tests/external/docs/recipe.sh"
recipe nginx nginx
