//! The Envoy beside an agent: when it is well, when it is started again, and how. Pure, but for
//! [`grant()`] and [`hand_on_nothing()`], which ask the kernel; the agent's process does what is
//! decided here.
//!
//! It must go on whatever becomes of the agent, so it is found again among the processes by what it
//! was started with ([`Arguments`]), and not by what the agent remembers.

mod grant;
mod health;
mod listening;
mod process;
mod restarts;

pub use self::grant::grant;
pub use self::health::Health;
pub use self::listening::listeners;
pub use self::process::{Arguments, Process, Stat, hand_on_nothing};
pub use self::restarts::Restarts;
