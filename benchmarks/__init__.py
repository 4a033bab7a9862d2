"""The speed of the engine, as ratios to the plain training steps that it watches."""
