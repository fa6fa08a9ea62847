//! Hands out addresses, subnets and host ports to owners, never one twice, and rests addresses before reuse.
//!
//! A [`Pool`] hands out the addresses of one subnet to endpoints; a [`Space`] hands out subnets to networks;
//! [`Ports`] hands out the ports of a host to endpoints. All are plain values: they do no I/O and read no clock,
//! and whoever must have them again after a restart journals what they answered and restores exactly that.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use netloft_ipam::{Pool, PoolOptions, Ports, PortsOptions, Request, Space, Tenant};
//! use netloft_types::{EndpointId, NetworkName, Subnet};
//!
//! // A subnet for the network `blue`, clear of what the host already routes elsewhere.
//! let mut space = Space::default();
//! let blue: NetworkName = "blue".parse()?;
//! let ranges: [Subnet; 1] = ["10.89.0.0/16".parse()?];
//! let foreign: [Subnet; 1] = ["10.89.0.0/24".parse()?];
//! let subnet = space.carve(blue, &ranges, 24, &foreign)?;
//! assert_eq!(subnet.to_string(), "10.89.1.0/24");
//!
//! // An address in it for an endpoint of a sandbox; the first one went to the gateway.
//! let mut pool = Pool::new(subnet, &PoolOptions::default())?;
//! let (web, other) = (Tenant::from_number(0x77_6562), Tenant::from_number(1));
//! let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
//! let owner = EndpointId::from_number(7);
//! let address = pool.allocate(owner, web, Request::Any, now)?.address;
//! assert_eq!(address.to_string(), "10.89.1.2");
//!
//! // Released, it rests: another sandbox is told to wait, its own has it back at once.
//! pool.release(owner, address, now).expect("it was held");
//! let late = pool.allocate(EndpointId::from_number(8), other, Request::Exact(address), now).unwrap_err();
//! assert_eq!(
//!     late.to_string(),
//!     "address 10.89.1.2 rests after its last owner for 130 s more: wait or choose another"
//! );
//! assert_eq!(pool.allocate(EndpointId::from_number(9), web, Request::Any, now)?.address, address);
//!
//! // A port of the host that leads to its port 80; a listener already has the first.
//! let mut ports = Ports::new(&PortsOptions::default());
//! let is_busy = |_, _, port: netloft_types::Port| port.number() == 61_000;
//! let published = ports.claim(EndpointId::from_number(9), "80".parse()?, is_busy)?;
//! assert_eq!(published.to_string(), "61001:80/tcp");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod allocation;
mod bitmap;
mod clock;
mod coverage;
mod error;
mod number;
mod pool;
mod ports;
mod queue;
mod runs;
mod slots;
mod space;
mod store;

pub use allocation::{Allocated, Allocation, Released, Request, Rested, Tenant};
pub use error::{Error, Reservation};
pub use pool::{Gateway, Pool, PoolOptions};
pub use ports::{Ports, PortsOptions};
pub use space::{Overlap, Space, ula};
