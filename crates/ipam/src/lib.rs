//! Hands out addresses and subnets to owners, never one twice.
//!
//! A [`Pool`] hands out the addresses of one subnet to endpoints; a [`Space`] hands out subnets to networks.
//! Both are plain values: they do no I/O, and whoever must remember them over a restart journals what they
//! answered and asks for exactly that again.
//!
//! ```
//! use netloft_ipam::{Pool, PoolOptions, Request, Space};
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
//! // An address in it for an endpoint; the first one went to the gateway.
//! let mut pool = Pool::new(subnet, &PoolOptions::default())?;
//! let owner = EndpointId::from_number(7);
//! let address = pool.allocate(owner, Request::Any)?;
//! assert_eq!(address.to_string(), "10.89.1.2");
//!
//! // Whoever asks for it now is told who holds it; once released it is not the next to be handed out.
//! let late = pool.allocate(EndpointId::from_number(8), Request::Exact(address)).unwrap_err();
//! assert_eq!(late.to_string(), "address 10.89.1.2 is held by endpoint 0000000000000007: choose another");
//! assert!(pool.release(owner, address));
//! assert_eq!(pool.allocate(owner, Request::Any)?.to_string(), "10.89.1.3");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bitmap;
mod error;
mod number;
mod pool;
mod runs;
mod slots;
mod space;

pub use error::{Error, Reservation};
pub use pool::{Allocation, Gateway, Pool, PoolOptions, Request};
pub use space::Space;
