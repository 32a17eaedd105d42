//! Servers that the gateway works with, started for a test: the real ones, on free ports, in
//! folders of their own. They die with the value that stands for them.

pub(crate) mod postgres;
pub(crate) mod redis;
