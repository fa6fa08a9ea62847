//! What reads bytes from outside, each as one function of bytes that must return, whatever they are.
//!
//! The fuzzers in `fuzz_targets` call these, and so does the test `hostile` of the workspace, with what is in `seeds`
//! and with bytes made at random.

use std::fmt::Display;
use std::str::FromStr;

use netloft_proto::network::v1 as network;
use netloft_proto::registry::v1 as registry;
use netloft_proto::{from_wire, to_wire};
use netloft_types as types;
use prost::Message;

/// Every text that has a meaning, chosen by the first byte. What is read and printed is read again as the same.
pub fn text(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let readers: [fn(&str); 29] = [
        again::<types::Subnet>,
        again::<types::MacAddr>,
        again::<types::Port>,
        again::<types::Protocol>,
        again::<types::PortRange>,
        again::<types::PublishSpec>,
        again::<types::InterfaceAddr>,
        again::<types::Weight>,
        again::<types::Tag>,
        again::<types::Check>,
        again::<types::CheckName>,
        again::<types::Span>,
        again::<types::Percent>,
        again::<types::Reason>,
        again::<types::RouteSpec>,
        again::<types::Rate>,
        again::<types::Mtu>,
        again::<types::ReadyCount>,
        again::<types::InterfaceName>,
        again::<types::NetworkName>,
        again::<types::SandboxName>,
        again::<types::ServiceName>,
        again::<types::EndpointId>,
        again::<types::InstanceId>,
        again::<types::SessionId>,
        |text| drop(text.parse::<types::HttpMethod>()),
        again::<types::HttpPath>,
        again::<types::HostHeader>,
        again::<types::StatusRange>,
    ];
    readers[usize::from(*choice) % readers.len()](&text);
}

/// Reads a text; if it means something, prints it and reads that.
fn again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let printed = read.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == read), "{text:?} is printed as {printed:?}");
    }
}

/// Every message that a server or a client of ours translates, chosen by the first byte. What is translated can be
/// translated back and again, and is the same.
pub fn wire(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match choice % 15 {
        0 => {
            let Some(Ok(instance)) = decoded(rest).map(from_wire::instance) else { return };
            assert_eq!(from_wire::instance(to_wire::instance(&instance)), Ok(instance));
        }
        1 => {
            let Some(Ok(update)) = decoded(rest).map(from_wire::update) else { return };
            assert_eq!(from_wire::update(to_wire::update(&update)), Ok(update));
        }
        2 => {
            let Some(Ok(query)) = decoded(rest).map(|query| from_wire::query(Some(query))) else { return };
            assert_eq!(from_wire::query(Some(to_wire::query(&query))), Ok(query));
        }
        3 => {
            let Some(Ok(check)) = decoded(rest).map(from_wire::check) else { return };
            assert_eq!(from_wire::check(to_wire::check(&check)), Ok(check));
        }
        4 => {
            let Some(Ok(report)) = decoded(rest).map(from_wire::report) else { return };
            assert_eq!(from_wire::report(to_wire::report(&report)), Ok(report));
        }
        5 => {
            let Some(Ok(spec)) = decoded(rest).map(from_wire::network_spec) else { return };
            assert_eq!(from_wire::network_spec(to_wire::network_spec(&spec)), Ok(spec));
        }
        6 => {
            let Some(Ok(network)) = decoded(rest).map(from_wire::network) else { return };
            assert_eq!(from_wire::network(to_wire::network(&network)), Ok(network));
        }
        7 => {
            let Some(request) = decoded::<network::AttachRequest>(rest) else { return };
            let _ = from_wire::attach_spec(&request);
            let _ = request.service.map(from_wire::service_spec);
            let _ = from_wire::lifetime(request.lifetime);
        }
        8 => {
            let Some(Ok(attachment)) = decoded(rest).map(|it| from_wire::attachment(&it)) else { return };
            assert_eq!(from_wire::attachment(&to_wire::attachment(&attachment)), Ok(attachment));
        }
        9 => {
            let Some(request) = decoded::<registry::UpdateRequest>(rest) else { return };
            let _ = from_wire::weight(request.weight);
            let _ = request.tags.map(|wire| from_wire::tags(wire.tags));
            let _ = request.metadata.map(|wire| from_wire::metadata(wire.entries));
            let _ = from_wire::locality(request.locality.as_ref());
            let _ = from_wire::span(request.drain_window_ms);
        }
        10 => {
            let Some(batch) = decoded::<registry::WatchResponse>(rest) else { return };
            let _ = batch.updates.into_iter().map(from_wire::update).collect::<Vec<_>>();
        }
        12 => {
            let Some(Ok(report)) = decoded(rest).map(from_wire::load_report) else { return };
            assert_eq!(from_wire::load_report(to_wire::load_report(&report)), Ok(report));
        }
        13 => {
            let Some(Ok(load)) = decoded(rest).map(|it| from_wire::instance_load(&it)) else { return };
            assert_eq!(from_wire::instance_load(&to_wire::instance_load(&load)), Ok(load));
        }
        14 => {
            let _ = netloft_proto::orca::load(rest);
            let Some(Ok((id, advice))) = decoded(rest).map(|it| from_wire::advised(&it)) else { return };
            assert_eq!(from_wire::advised(&to_wire::advised(&id, advice)), Ok((id, advice)));
        }
        _ => {
            let Some(batch) = decoded::<registry::ResolveResponse>(rest) else { return };
            let _ = batch.instances.into_iter().map(from_wire::instance).collect::<Vec<_>>();
        }
    }
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

/// What the files of the embedded store can hold.
pub fn disk(bytes: &[u8]) {
    netloft_registry::testing::read_hostile_bytes(bytes);
}

/// Attributes of netlink, as deep as they go.
pub fn attributes(bytes: &[u8]) {
    let mut open = vec![bytes];
    while let Some(next) = open.pop() {
        for (_, value) in netloft_netlink::attributes(next) {
            assert!(value.len() < next.len(), "an attribute is longer than what holds it");
            open.push(value);
        }
    }
}
