//! Published ports, over the fake kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use netloft_network::testing::FakeKernel;
use netloft_network::{Host, HostOptions};
use netloft_types::{AttachSpec, NetworkSpec, Port, Segment};

#[tokio::test]
async fn of_a_thousand_ports_that_are_chosen_at_once_no_two_are_alike_and_none_is_busy() {
    const COUNT: usize = 1_000;
    let kernel = FakeKernel::new().unwrap();
    let busy: BTreeSet<Port> = (61_000..62_000).step_by(7).map(|number| number.try_into().unwrap()).collect();
    for port in &busy {
        kernel.plant_listener(*port);
    }
    let host = Host::open_over(Box::new(kernel.clone()), HostOptions::default()).unwrap();
    let segments = vec![Segment::new("10.89.0.0/20".parse().unwrap()).unwrap()];
    let blue = NetworkSpec { segments, ..NetworkSpec::new("blue".parse().unwrap()) };
    host.create_network(blue).await.unwrap();

    let attaching: Vec<_> = (0..COUNT)
        .map(|number| {
            let host = host.clone();
            tokio::spawn(async move { host.attach(publishing(number)).await })
        })
        .collect();
    let mut chosen = BTreeSet::new();
    for attached in attaching {
        let endpoint = attached.await.unwrap().unwrap().endpoint;
        let [tcp, udp] = endpoint.ports[..] else { panic!("{:?}", endpoint.ports) };
        chosen.extend([tcp, udp].map(|port| (port.protocol, port.host.first())));
    }
    assert_eq!(chosen.len(), 2 * COUNT, "no two are alike");
    assert!(chosen.iter().all(|(_, port)| !busy.contains(port)));
    host.close().await.unwrap();
    assert!(kernel.is_empty());
}

fn publishing(number: usize) -> AttachSpec {
    let publish = vec!["80".parse().unwrap(), "80/udp".parse().unwrap()];
    AttachSpec { publish, ..AttachSpec::new("blue".parse().unwrap(), format!("s{number}").parse().unwrap()) }
}
