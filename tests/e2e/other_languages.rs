//! A gRPC client in another language needs nothing of ours but the schema, or not even that.

use std::path::Path;

use netloft_tests::running::Running;
use netloft_tests::{Lab, programs};

pub(crate) fn a_python_client_with_generated_stubs_does_everything() {
    let schema = programs::source_dir().join("proto");
    let said = run("client.py", Some(&schema));
    let expected = [
        "registered, resolved and listed",
        "watched what was registered, deregistered and drained",
        "resumed a watch from a revision",
        "kept a session of 2 s alive for 3.5 s",
        "was refused what is wrong, with the code that says why",
        "closed its session, and its registration was gone at once",
    ];
    assert!(said.lines().eq(expected), "{said}");
}

pub(crate) fn a_python_client_knows_the_schema_by_reflection() {
    let said = run("reflecting.py", None);
    let expected = ["learnt the schema, registered and resolved", "found the registry healthy"];
    assert!(said.lines().eq(expected), "{said}");
}

/// Runs a client against a registry of its own; what it said.
fn run(script: &str, schema: Option<&Path>) -> String {
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let mut python = lab.python(script);
    python.args(schema).arg(registry.address.to_string());
    let said = Running::spawn(python).wait().success();
    registry.stop();
    lab.finish();
    said
}
