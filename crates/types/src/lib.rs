//! The shared vocabulary of Netloft.
//!
//! Values only: no I/O, no clock, no threads. Text from outside is parsed here, once, into a type whose
//! rules are stated in its documentation; inside the house a bad name, a zero weight or a zero port cannot
//! be spelled. Every bound lives in [`limits`].
//!
//! ```
//! use netloft_types::{Instance, Query, ServiceName};
//!
//! let service: ServiceName = "api".parse()?;
//! let instance = Instance::new("api-1".parse()?, service.clone(), "10.0.0.2".parse().unwrap(), "8080".parse()?);
//! assert!(Query::service(service).matches(&instance));
//!
//! let error = "Not A Name".parse::<ServiceName>().unwrap_err();
//! assert!(error.to_string().starts_with("service name \"Not A Name\""));
//! # Ok::<(), netloft_types::Invalid>(())
//! ```

mod addr;
mod attach;
mod check;
mod endpoint;
mod facts;
mod id;
mod instance;
mod instances;
mod invalid;
pub mod limits;
mod load;
mod name;
mod network;
mod owner;
mod patch;
mod pattern;
mod publish;
mod query;
mod service;
mod update;

pub use addr::{Family, MacAddr, Port, Subnet};
pub use attach::{AttachSpec, Bandwidth, DefaultRoute, Dns, Rate, RouteSpec};
pub use check::{
    Check, CheckKind, CheckName, CheckReport, Checks, Damping, GrpcService, HostHeader, HttpCheck,
    HttpHeaders, HttpMethod, HttpPath, Output, Percent, Reason, Span, StatusRange,
};
pub use endpoint::{Attachment, Driver, Endpoint, InterfaceAddr, Network};
pub use facts::{Locality, Metadata, Tag, Tags};
pub use id::{EndpointId, InstanceId, SessionId};
pub use instance::{Health, Instance, Lifecycle, Weight};
pub use instances::Instances;
pub use invalid::Invalid;
pub use load::{Advice, Ground, InstanceLoad, Load, LoadReport, Reporter, Seen, Utilization};
pub use name::{InterfaceName, NetworkName, SandboxName, ServiceName};
pub use network::{DriverSpec, Mtu, NetworkSpec, ReadyCount, Segment};
pub use patch::Patch;
pub use pattern::ServicePattern;
pub use publish::{PortRange, Protocol, PublishSpec, PublishedPort};
pub use query::{HealthFilter, LifecycleFilter, Query, ReadMode};
pub use service::{Lifetime, ServiceSpec};
pub use update::{Revision, Update};
