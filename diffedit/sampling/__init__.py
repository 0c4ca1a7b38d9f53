"""From noise to pictures and back: schedule, DDIM, seeded noise."""
