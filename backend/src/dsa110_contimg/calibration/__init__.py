"""Flag, predict the sky model, solve K, BP and G, apply."""
