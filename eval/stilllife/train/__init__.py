"""Training of the Still Life networks, a module a part, and the exam of what they learnt."""
