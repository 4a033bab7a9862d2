"""The study: the same training at several places, in several dtype policies, from several seeds."""
