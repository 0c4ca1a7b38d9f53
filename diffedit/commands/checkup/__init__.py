"""The parts of `diffedit doctor`: what it looks with, what it looks at, and how it tells."""
