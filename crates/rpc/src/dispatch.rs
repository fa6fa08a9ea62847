//! Which service a call is for.
//!
//! The router of tonic finds it by patterns, and makes some twenty small copies on the way, for every call. Paths of gRPC
//! have one form, and a server has a handful of services.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, Service, StdError, http};
use tower::ServiceExt as _;

use crate::trace::traced;

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// A service of some type. A cheap handle, to be cloned.
#[derive(Clone)]
pub struct AnyService(Arc<dyn Served>);

/// What is needed of a service. Tower's own has to be cloned for every call, which a trait object cannot.
pub(crate) trait Served: Send + Sync {
    fn call(&self, request: http::Request<Body>) -> Answer;
}

impl<S, B> Served for S
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    fn call(&self, request: http::Request<Body>) -> Answer {
        let answer = self.clone().oneshot(request);
        Box::pin(async move { Ok(answer.await?.map(Body::new)) })
    }
}

impl AnyService {
    pub(crate) fn of(service: impl Served + 'static) -> Self {
        Self(Arc::new(service))
    }
}

impl Service<http::Request<Body>> for AnyService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        self.0.call(request)
    }
}

/// Services by their names; asked by the path of a call, `/SERVICE/METHOD` (gRPC over HTTP/2, "Requests").
#[derive(Clone, Default)]
pub(crate) struct Services(Arc<Vec<(&'static str, AnyService)>>);

impl Services {
    pub(crate) fn add(&mut self, name: &'static str, service: AnyService) {
        Arc::make_mut(&mut self.0).push((name, service));
    }

    pub(crate) fn layer(&mut self, layer: impl Fn(AnyService) -> AnyService) {
        for (_, service) in Arc::make_mut(&mut self.0) {
            *service = layer(service.clone());
        }
    }

    fn find(&self, path: &str) -> Option<&AnyService> {
        let (name, _) = path.strip_prefix('/')?.split_once('/')?;
        self.0.iter().find(|(known, _)| *known == name).map(|(_, service)| service)
    }

    /// Answers a call, or that there is no such service.
    pub(crate) fn call(&self, request: http::Request<Body>) -> Answer {
        match self.find(request.uri().path()) {
            Some(service) => traced(request, |request| service.0.call(request)),
            None => Box::pin(async { Ok(Status::unimplemented("there is no such service").into_http()) }),
        }
    }
}
