//! How large a host's rules may be.

/// The most rules of a table: the kernel walks all of them when it takes a change, which at this
/// size is a few hundred milliseconds.
pub const RULES_MAX: usize = 200_000;
/// The most bytes of a table as messages, which the kernel takes as one: 200 000 rules of 400
/// bytes. Names of 63 bytes make a rule longer.
pub const BYTES_MAX: usize = 80 << 20;
/// The most endpoints of one side: each is a rule, and a new flow walks them in order.
pub const ENDPOINTS_MAX: usize = 1_000;
/// The most networks in the client rows of one plan and the egress of its gateways: each is a rule
/// in every service of it.
pub const NETWORKS_MAX: usize = 4_096;
/// The most networks of stragglers noted of one service and family: a busy list to act on has some
/// hundred, and an element takes about 200 bytes of the kernel's memory.
pub const STRAGGLERS_MAX: u32 = 4_096;
