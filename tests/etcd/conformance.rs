//! The contract of stores, on one node of etcd.

use std::sync::Arc;

use netloft_registry::StoreOptions;
use netloft_registry::testing::{Churn, churn, conformance, conformance_over_restarts};

use crate::world::{Node, block_on, new_prefix, open};

pub(crate) fn a_store_in_etcd_conforms() {
    let _node = Node::start();
    block_on(conformance(|options| async move { open(&Node::endpoints(), &new_prefix(), options).await }));
}

pub(crate) fn a_store_in_etcd_conforms_over_restarts() {
    let _node = Node::start();
    block_on(conformance_over_restarts(|| {
        let prefix = new_prefix();
        move |options| {
            let prefix = prefix.clone();
            async move { open(&Node::endpoints(), &prefix, options).await }
        }
    }));
}

pub(crate) fn every_promise_holds_on_several_threads() {
    let _node = Node::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        for seed in 0..2 {
            let store = open(&Node::endpoints(), &new_prefix(), StoreOptions::default()).await;
            let load = Churn { seed, writers: 4, readers: 12, commands: 200 };
            let report = churn(Arc::new(store), load).await;
            assert!(report.revisions > 300 && report.resumed > 0, "seed {seed}: {report:?}");
        }
    });
}
