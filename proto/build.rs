//! Compiles the schema without protoc: protox parses it, prost and tonic generate the code.

use std::path::PathBuf;

use prost::Message as _;

const SCHEMA: [&str; 2] = ["netloft/registry/v1/registry.proto", "netloft/network/v1/network.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in SCHEMA {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(SCHEMA, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
