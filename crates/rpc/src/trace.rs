//! What is told of a call: who made it, how it ended, and which trace it belongs to.

use std::time::Instant;

use tonic::body::Body;
use tonic::codegen::http;
use tracing::{Instrument as _, Level, debug, debug_span};

use crate::Peer;
use crate::dispatch::Answer;

/// The header that says which trace a call belongs to (W3C Trace Context, section 3.2).
const TRACEPARENT: &str = "traceparent";

/// Puts a call into a span, so that whatever is logged while it is answered names it, and tells how it ended. At debug:
/// whoever does not look at calls one by one has metrics, and pays nothing.
pub(crate) fn traced(
    request: http::Request<Body>,
    call: impl FnOnce(http::Request<Body>) -> Answer,
) -> Answer {
    if !tracing::enabled!(Level::DEBUG) {
        return call(request);
    }
    let (headers, began) = (request.headers(), Instant::now());
    let trace = headers.get(TRACEPARENT).and_then(|header| trace_of(header.to_str().ok()?));
    let peer = request.extensions().get::<Peer>().map(tracing::field::display);
    let span = debug_span!("call", method = request.uri().path().trim_start_matches('/'), peer, trace);
    let answer = span.in_scope(|| call(request));
    let told = async move {
        let answer = answer.await?;
        // A stream that began well has its code at its end.
        let code = answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
        debug!(code, took = ?began.elapsed(), "answered");
        Ok(answer)
    };
    Box::pin(told.instrument(span))
}

/// The id in `VERSION-TRACE-PARENT-FLAGS`, each in lower-case hexadecimal; none of what has another form.
fn trace_of(header: &str) -> Option<&str> {
    let (version, rest) = header.split_once('-')?;
    let (trace, rest) = rest.split_once('-')?;
    let (parent, flags) = rest.split_once('-')?;
    // Later versions may say more after the flags.
    let flags = if version == "00" { flags } else { flags.split('-').next()? };
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_said = |text: &str| text.bytes().any(|byte| byte != b'0');
    let is_whole = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    (is_whole && version != "ff" && is_said(trace) && is_said(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_what_the_header_says_if_it_has_its_form() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let whole = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(trace_of(&whole), Some(trace));
        assert_eq!(trace_of(&format!("cc{}-what-the-future-will-bring", &whole[2..])), Some(trace));
        let zeros = "0".repeat(32);
        for other in [
            String::new(),
            trace.to_owned(),
            format!("{whole}-more"),
            whole.to_uppercase(),
            format!("ff{}", &whole[2..]),
            whole.replace(trace, &zeros),
            whole.replace("00f067aa0ba902b7", &zeros[..16]),
            whole.replace(trace, "4bf9\nforged=line"),
        ] {
            assert_eq!(trace_of(&other), None, "{other:?}");
        }
    }
}
