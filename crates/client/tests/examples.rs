//! The programs in `examples` do what they say: each makes all its calls while a server dies.

#[path = "../examples/pick_reqwest.rs"]
mod pick_reqwest;
#[path = "../examples/tonic_channel.rs"]
mod tonic_channel;
#[path = "../examples/tower_layer.rs"]
mod tower_layer;

#[test]
fn a_generated_client_loses_no_call_to_a_server_that_dies() {
    tonic_channel::main().unwrap();
}

#[test]
fn a_client_beneath_a_layer_loses_no_request_that_it_sends_again() {
    tower_layer::main().unwrap();
}

#[test]
fn a_client_that_walks_the_candidates_loses_no_request() {
    pick_reqwest::main().unwrap();
}
