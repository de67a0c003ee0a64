"""What the book does not do: a state that is carried, noise, a teacher, other optimisers and schedules."""
