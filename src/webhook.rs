//! Webhooks as [Standard Webhooks](https://www.standardwebhooks.com) defines them, without the
//! sending: where to, signed how, when again, and to which addresses never.
//!
//! A caller names the address, so the gateway would be a way into the operator's network if it
//! sent anywhere it is told to. [`address`] knows which addresses are anybody's; the sender asks it
//! about every address that a name resolves to, and connects to one of those and no other.

pub mod address;
pub mod receiver;
pub mod schedule;
pub mod signature;
