//! An xDS push engine that knows what arrived.

pub mod client;
pub mod lrs;
pub mod name;
pub mod own;
pub mod render;
pub mod session;
pub mod table;
pub mod version;

pub use client::{Client, View, Viewer};
pub use name::{Name, Scope, TypeUrl};
pub use session::Close;
pub use table::{Change, Edit, Encoded, Generation, Resource, Table, Tables, Urgency};
pub use version::Version;
