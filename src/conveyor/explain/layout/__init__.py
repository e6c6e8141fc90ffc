"""Where everything of a diagram lies: scheme (what is to be placed), place, route, space; `arrange` does all."""
