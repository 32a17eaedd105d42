//! When an answer that was given to other words may be given again: the decision, and nothing of
//! how it is carried out.
//!
//! A semantic cache compares embeddings, and embeddings do not see what matters most: "how do I
//! enable the alarm" and "how do I disable the alarm" have a cosine of 0.95. Three guards stand
//! between a near neighbour and a caller:
//!
//! 1. [`traits`]: what both texts say is read out of them, number by number and word by word. Every
//!    doubt is a difference, and a difference is a miss, whatever the cosine.
//! 2. [`threshold`]: what passes is labelled by a judge before anything is served. A namespace
//!    serves from the lowest cosine for which the labels prove at most so many errors per hit.
//! 3. [`audit`]: a part of the hits is answered anew and judged. Evidence of more errors than
//!    allowed sends the namespace back to the beginning.
//!
//! [`bounds`] holds the arithmetic. All of it is pure; the state of the second and the third guard
//! is serialisable.

pub mod audit;
pub mod bounds;
pub mod threshold;
pub mod traits;
