//! The plan of the house, checked: which crate may depend on which, and what only one crate may use.
//!
//! The rules and their reasons are in docs/ARCHITECTURE.md. This reads what cargo resolves, not what anybody says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Each crate of ours with the only crates of ours it may depend on. Development dependencies are free.
const ALLOWED: [(&str, &[&str]); 23] = [
    // Values only.
    ("types", &[]),
    // The network wing.
    ("ipam", &["types"]),
    ("netlink", &[]),
    ("netns", &["types"]),
    ("link", &["netlink", "netns", "types"]),
    ("nft", &["netlink", "netns", "types"]),
    ("network", &["ipam", "link", "netns", "nft", "types"]),
    // The discovery wing.
    ("access", &["types"]),
    ("balance", &["types"]),
    ("health", &["types"]),
    ("registry", &["health", "types"]),
    ("registry-etcd", &["health", "registry", "types"]),
    ("checker", &["health", "registry", "types"]),
    ("proto", &["types"]),
    ("rpc", &["access", "balance", "checker", "health", "proto", "registry", "types"]),
    ("metrics", &["checker", "registry", "types"]),
    ("client", &["balance", "proto", "types"]),
    // Binaries join the wings.
    (
        "registry-server",
        &["access", "checker", "health", "metrics", "registry", "registry-etcd", "rpc", "types"],
    ),
    ("netloftd", &["checker", "client", "health", "netns", "network", "proto", "registry", "rpc", "types"]),
    ("netloft", &["balance", "client", "netns", "network", "netloftd", "rpc", "types"]),
    // Tests may use everything.
    ("tests", &["client", "link", "netns", "network", "nft", "types"]),
    ("sim", &[]),
    ("sim-fleet", &["balance", "types"]),
];

/// Crates of others that only some of ours may use, because they are a door to the kernel or a policy of programs.
const RESERVED: [(&str, &[&str]); 17] = [
    ("rtnetlink", &["link"]),
    ("netlink-sys", &["netlink"]),
    ("netlink-packet-route", &["link"]),
    ("netlink-packet-core", &["link"]),
    (
        "nix",
        &["checker", "link", "netlink", "netloft", "netloftd", "netns", "network", "nft", "rpc", "tests"],
    ),
    ("clap", &["netloft", "netloftd", "registry-server"]),
    ("anyhow", &["netloft", "netloftd", "registry-server", "tests"]),
    ("tracing-subscriber", &["netloft", "netloftd", "registry-server"]),
    ("tonic", &["checker", "client", "netloftd", "proto", "registry-etcd", "rpc"]),
    ("prost", &["proto", "registry-etcd"]),
    ("toml", &["netloft", "netloftd", "registry-server"]),
    ("serde_json", &["netloft", "netloftd", "network", "rpc", "tests"]),
    // Secrets and certificates: few doors, and one library of ciphers behind them.
    ("ring", &["access"]),
    ("rustls", &["client", "rpc"]),
    ("tokio-rustls", &["client", "rpc"]),
    ("x509-parser", &["rpc"]),
    ("redb", &["network"]),
];

/// Crates without I/O, clock, threads or ambient chance, and what they therefore never depend on.
const PURE: [&str; 5] = ["types", "access", "ipam", "balance", "health"];
const IMPURE: [&str; 7] = ["tokio", "nix", "tonic", "rtnetlink", "netlink-sys", "tracing", "arc-swap"];

#[test]
fn no_crate_reaches_beyond_its_place() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let crates = our_crates();
    let known: BTreeSet<_> = allowed.keys().copied().collect();
    assert_eq!(
        crates.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "a crate has no place in the plan"
    );
    for (name, dependencies) in &crates {
        let ours = dependencies.iter().filter(|one| crates.contains_key(*one));
        let beyond: Vec<_> = ours.filter(|one| !allowed[name.as_str()].contains(&one.as_str())).collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
}

#[test]
fn the_wings_never_meet_below_the_binaries() {
    let crates = our_crates();
    let network_wing = ["ipam", "netlink", "netns", "link", "nft", "network"];
    let discovery_wing = [
        "access",
        "balance",
        "health",
        "registry",
        "registry-etcd",
        "checker",
        "metrics",
        "proto",
        "rpc",
        "client",
    ];
    for (one, other) in
        [(network_wing.as_slice(), discovery_wing.as_slice()), (&discovery_wing, &network_wing)]
    {
        for name in one {
            let met: Vec<_> =
                all_below(name, &crates).into_iter().filter(|it| other.contains(&it.as_str())).collect();
            assert!(met.is_empty(), "{name} reaches {met:?}");
        }
    }
}

#[test]
fn doors_to_the_kernel_have_one_keeper() {
    for (name, dependencies) in &our_crates() {
        for (reserved, keepers) in RESERVED {
            let is_keeper = keepers.contains(&name.as_str());
            assert!(
                is_keeper || !dependencies.contains(reserved),
                "{name} must not use {reserved}: {keepers:?} do"
            );
        }
    }
}

#[test]
fn pure_crates_stay_pure() {
    let crates = our_crates();
    for name in PURE {
        for impure in IMPURE {
            assert!(!crates[name].contains(impure), "{name} is pure, {impure} is not");
        }
    }
}

/// Every crate of ours, by name without the prefix, with its dependencies other than those for development.
fn our_crates() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let short = |name: &str| name.strip_prefix("netloft-").unwrap_or(name).to_owned();
    let normal = |package: &cargo_metadata::Package| {
        let dependencies = package.dependencies.iter();
        let normal = dependencies.filter(|one| one.kind == DependencyKind::Normal);
        normal.map(|one| short(&one.name)).collect()
    };
    metadata.workspace_packages().iter().map(|package| (short(&package.name), normal(package))).collect()
}

fn all_below(name: &str, crates: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        let Some(dependencies) = crates.get(&next) else { continue };
        open.extend(dependencies.iter().filter(|one| found.insert((*one).clone())).cloned());
    }
    found
}
