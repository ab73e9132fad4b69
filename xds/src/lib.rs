//! An xDS push engine that knows what arrived.

pub mod bootstrap;
pub mod causes;
pub mod client;
pub mod follow;
pub mod join;
pub mod lrs;
pub mod name;
pub mod own;
pub mod registry;
pub mod render;
pub mod resources;
pub mod server;
pub mod session;
pub mod table;
pub mod version;

pub use client::{Client, View, Viewer};
pub use name::{Name, Scope, TypeUrl};
pub use registry::{Publisher, Registry, SinkState, Standings};
pub use resources::Resources;
pub use session::Close;
pub use table::{Change, Edit, Encoded, Generation, Resource, Table, Tables, Urgency};
pub use version::Version;
