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
    let codec = "crate::codec::SmallCodec";
    tonic_prost_build::configure().build_server(false).codec_path(codec).compile_fds(descriptors.clone())?;
    // Servers use the same messages, but for the answers that they encode themselves.
    let servers = out.join("servers");
    std::fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path(codec)
        .extern_path(".netloft.registry.v1", "crate::registry::v1")
        .extern_path(".netloft.network.v1", "crate::network::v1")
        .extern_path(".netloft.registry.v1.ResolveResponse", "crate::answer::ResolveAnswer")
        .extern_path(".netloft.registry.v1.WatchResponse", "crate::answer::WatchAnswer")
        .out_dir(&servers)
        .compile_fds(descriptors)?;
    Ok(())
}
