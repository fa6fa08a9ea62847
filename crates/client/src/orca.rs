//! What an instance says of its load with an answer (ORCA).

use netloft_proto::orca;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataMap;

use crate::Pick;

/// Takes note of the load that trailers tell of, if they do; `headers` are those that ended the answer. What is no report is
/// as none.
pub(crate) fn observe(pick: &Pick, headers: &HeaderMap) {
    let Some(value) = headers.get(orca::TRAILER) else { return };
    let mut alone = HeaderMap::with_capacity(1);
    alone.insert(orca::TRAILER, value.clone());
    let metadata = MetadataMap::from_headers(alone);
    let bytes = metadata.get_bin(orca::TRAILER).and_then(|value| value.to_bytes().ok());
    if let Some(load) = bytes.and_then(|bytes| orca::load(&bytes)) {
        pick.observe(load);
    }
}
