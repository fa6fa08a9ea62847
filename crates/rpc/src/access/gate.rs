//! Tells who calls, before anything else looks at the call.

use std::sync::Arc;

use netloft_access::{Account, Credential, Token};
use nix::unistd::geteuid;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::{Access, Event, Outcome, Requester, exhausted, now};
use crate::Peer;

/// What nobody gets past who is not known. Stands before every service but `grpc.health.v1`, which tells whoever can
/// connect only whether there is a server.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Access);

/// What is said to everybody who is not admitted, whatever the reason: the log has it.
const NOT_ADMITTED: &str =
    "who are you? present a client certificate or a bearer token that this server knows";

impl Gate {
    pub(crate) fn new(access: Access) -> Self {
        Self(access)
    }

    fn admit(&self, metadata: &MetadataMap, peer: &Peer) -> Result<Requester, String> {
        let credential = credential(metadata, peer)?;
        let list = Arc::clone(&self.0.0.list.borrow());
        let admitted = list.admit(&credential, now()).map_err(|error| error.to_string())?;
        Ok(Requester { access: self.0.clone(), credential, admitted, peer: peer.clone() })
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection does not say whose it is"))?;
        let requester = self.admit(request.metadata(), &peer).map_err(|why| {
            self.0.tell(|| Event::of_peer(&peer, "admit", Outcome::Refused(why)));
            Status::unauthenticated(NOT_ADMITTED)
        })?;
        requester.account(Account::call).map_err(|exceeded| {
            self.0.tell(|| Event::of(&requester, "call", Outcome::Refused(exceeded.to_string())));
            exhausted(&exceeded)
        })?;
        request.extensions_mut().insert(Arc::new(requester));
        Ok(request)
    }
}

/// What the caller proves who they are with. A token says more than the connection: whoever sends one means it, so a bad
/// one is not made good by a certificate.
fn credential(metadata: &MetadataMap, peer: &Peer) -> Result<Credential, String> {
    let mut sent = metadata.get_all("authorization").iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => return Err("more than one token".to_owned()),
        (Some(value), None) => {
            let text = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            let token: Option<Token> = text.and_then(|text| text.trim().parse().ok());
            return Ok(Credential::Token(token.ok_or("no token of ours")?.hash()));
        }
        (None, _) => {}
    }
    match peer {
        Peer::Tls { identity: Some(id), .. } => Ok(Credential::Certificate(id.clone())),
        Peer::Tls { identity: None, .. } => Err("no token, and no certificate with a SPIFFE id".to_owned()),
        Peer::Tcp(_) => Err("no token".to_owned()),
        // Root can read our memory and our files; we are ourselves.
        Peer::Unix { uid, .. } if *uid == 0 || *uid == geteuid().as_raw() => Ok(Credential::Owner(*uid)),
        Peer::Unix { uid, .. } => Err(format!("no token, and user {uid} does not own the server")),
    }
}
