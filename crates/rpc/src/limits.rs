//! What one peer can cost the server, and why that much.
//!
//! tonic leaves most of these to its HTTP/2 libraries or to nobody. They are all set here, so that an upgrade
//! of a library cannot move them.

use std::time::Duration;

use tonic::transport::Server;

/// Calls that one connection can have open: a program that watches a thousand services over one connection.
pub const STREAMS_MAX: u32 = 1_024;
/// Calls of one connection that are worked on at a time. More wait for their turn on that connection, while
/// others go on. A watch counts only until its stream is open.
pub const CALLS_MAX: usize = 128;
/// Time within which a call must be answered or its stream opened; it frees those whose request never ends.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request. The largest legal instance is 50 KiB of text, and its encoding adds little to that.
pub const REQUEST_LEN_MAX: usize = 256 * 1024;
/// Bytes of an answer. A batch of a watch is applied whole, so it cannot be split: this bounds what one query
/// can select, at some 200 bytes for a plain instance to 300,000 of them. Many clients accept 4 MiB unless
/// they are told otherwise, which is some 20,000.
pub const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// Bytes of the headers of a call. Ours are a few hundred.
pub const HEADERS_LEN_MAX: u32 = 8 * 1024;
/// Calls that a peer opened and reset before they were looked at, above which its connection is closed
/// (CVE-2023-44487). The value that h2 chose when it answered that attack.
pub const PENDING_RESETS_MAX: usize = 20;
/// Calls reset for errors of the peer, above which its connection is closed.
pub const ERROR_RESETS_MAX: usize = 128;
/// Silence after which a peer is asked whether it is there.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time to answer that. So a peer that lost power holds its watches for 25 seconds, not for hours.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to send the 24 bytes that begin an HTTP/2 connection. Before them there is nothing to ping.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients whose load reports are remembered, of all services together: one for each service that each of some thousand
/// programs calls. More are refused until one has been silent for three intervals.
pub const REPORTERS_MAX: usize = 16_384;
/// Instances that they have seen, each counted for each of them: some 200 bytes each, and so 50 MiB.
pub const SEEN_MAX: usize = 262_144;

/// Time to negotiate TLS.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server with the bounds that HTTP/2 knows. There is no greatest age of a connection: watches live long,
/// and ending them would only bring them back.
pub(crate) fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .concurrency_limit_per_connection(CALLS_MAX)
        .timeout(CALL_TIMEOUT)
        .http2_max_header_list_size(HEADERS_LEN_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
}
