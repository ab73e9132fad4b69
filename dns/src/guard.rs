//! Limits that keep one client from taking what belongs to all.

pub(crate) mod connections;
