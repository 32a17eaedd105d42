//! Streams over answers that a test makes up, on a paused clock.
