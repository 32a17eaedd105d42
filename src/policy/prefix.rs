//! What providers' prefix caches hold, and what that is worth: pure.
//!
//! A provider that has read the beginning of a prompt before reads it faster and cheaper, as long
//! as it comes back to the same place within a few minutes. A gateway has three means: it can send
//! what belongs together to the same target ([`homes`]), it can say which requests belong together
//! ([`shard`]), and it can mark what is worth keeping ([`Reuse`]).
//!
//! # What a target holds
//!
//! A prompt is cut into blocks of [`BLOCK_BYTES`], each hashed with all that stands before it
//! ([`Chain`]): equal hashes mean equal prefixes. [`Memory`] keeps the hashes that a target was
//! sent of late. What a request finds there is its cached share `h`, which goes into the price and
//! the time to the first token of its score ([`Prefill`] learns what a token costs in time).
//!
//! # Homes
//!
//! Scores alone are drawn from at random, and a conversation that is drawn away leaves its cache
//! behind. So one target of those that serve the same model is at home: the one that holds the
//! most, and for a prefix that nobody holds the one that rendezvous hashing prefers, on which all
//! gateways agree without sharing anything. Being at home divides the score. It is no pin: a home
//! that is sick or slow loses all the same, and one that carries more than its bound of the load is
//! no home (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2016).

mod chain;
mod homes;
mod memory;
mod prefill;
mod reuse;
mod shards;

pub use chain::{BLOCK_BYTES, Chain, MAX_BLOCKS, Parts};
pub use homes::{Home, Resident, Settings, homes};
pub use memory::{Memory, Recent};
pub use prefill::Prefill;
pub use reuse::{BREAK_EVEN_FIVE_MINUTES, Reuse};
pub use shards::{REQUESTS_A_SHARD, Rates, shard, shards};
