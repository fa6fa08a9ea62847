//! What the benches share: arguments, peers and their processes, what the machine is, and how figures are shown.

pub mod arguments;
pub mod load;
pub mod machine;
pub mod peers;
pub mod process;
pub mod samples;
pub mod table;
