//! The client of a registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use netloft_balance::{Composition, Strategy};
use netloft_types::{Instance, InstanceId, InstanceLoad, Query, ReadMode, Reason, Revision, ServiceName};

use crate::calls::{Calls, Examined, Resolved, ServiceSummary, Watch};
use crate::registration::{RegisterOptions, Registration, Registrations};
use crate::session::Session;
use crate::{Balanced, Credentials, Discovery, Error, Target, Targets};

/// What can be chosen about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// The longest wait for a connection. The default of 2 seconds allows for one lost packet.
    pub connect_timeout: Duration,
    /// The longest wait for an answer, connecting included. The default is 5 seconds.
    pub call_timeout: Duration,
    /// Who the client is, and whom it believes. The default is nobody.
    pub credentials: Credentials,
    /// Whether balancers tell the registry what they see of the instances that they call, and take its advice: how many calls
    /// ended how, and how long they took. The default is that they do; only balancers of one service do.
    pub reports_load: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(5),
            credentials: Credentials::default(),
            reports_load: true,
        }
    }
}

/// A client of one registry. Cheap to clone; clones share the connection, and the registrations.
///
/// Of several servers of the registry one is asked, and the next when that is not available or does not answer: sessions,
/// watches and all that hangs on them follow, and go on where they were.
#[derive(Debug, Clone)]
pub struct Client {
    calls: Calls,
    reports_load: bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By time to live. Each is kept by its registrations.
    sessions: Mutex<BTreeMap<Duration, Weak<Session>>>,
    registrations: Registrations,
}

impl Client {
    /// Makes a client of the registry at `targets`, which is connected to when it is first needed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn connect(targets: Targets) -> Self {
        Self::connect_with(&targets, &ClientOptions::default())
    }

    /// Like [`connect`](Self::connect), with options.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn connect_with(targets: &Targets, options: &ClientOptions) -> Self {
        Self {
            calls: Calls::new(targets, options),
            reports_load: options.reports_load,
            shared: Arc::default(),
        }
    }

    /// The server that is asked now.
    pub fn target(&self) -> &Target {
        self.calls.connection().target()
    }

    /// Registers an instance, and keeps it registered for as long as the guard lives.
    ///
    /// An instance registered through this client already is replaced, and its guard of before lets go of it. An
    /// instance that could not be registered in the first place is not tried again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the instance is removed again, as when a guard is dropped.
    pub async fn register(
        &self,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error> {
        let session = self.session(options.ttl);
        let calls = self.calls.clone();
        self.shared.registrations.register(calls, session, instance).await
    }

    /// Finds an instance by id, whatever its health and lifecycle.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn get(&self, id: &InstanceId) -> Result<Instance, Error> {
        self.calls.examine(id).await.map(|examined| examined.instance)
    }

    /// Finds an instance as [`get`](Self::get) does, and how its checks stand.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn examine(&self, id: &InstanceId) -> Result<Examined, Error> {
        self.calls.examine(id).await
    }

    /// Keeps an instance out of every default lookup for a reason, or ends that. It is for operators: the instance may
    /// be anybody's, and nothing else of it changes.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have been done or not. It can be repeated.
    pub async fn set_maintenance(&self, id: &InstanceId, reason: Option<Reason>) -> Result<(), Error> {
        self.calls.set_maintenance(id, reason).await
    }

    /// Lists the services that have an instance, in order of their names.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn services(&self) -> Result<Vec<ServiceSummary>, Error> {
        self.calls.services().await
    }

    /// Lists what the clients of a service report of its instances, and what the registry advises by it: who is slow, and why.
    /// All of its instances, in order of their ids, as far as the server that is asked now knows. It is refused as
    /// [`Unknown`](crate::Refusal::Unknown) by a server that takes no reports.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn load(&self, service: &ServiceName) -> Result<Vec<InstanceLoad>, Error> {
        self.calls.load(service).await
    }

    /// Lists the instances that `query` selects, now. To call a service often, [`discover`](Self::discover) it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn resolve(&self, query: &Query) -> Result<Resolved, Error> {
        self.resolve_with(query, ReadMode::Linearizable).await
    }

    /// Lists as [`resolve`](Self::resolve) does, with as much certainty as `mode` asks for. A registry of several
    /// servers answers a stale read also when they have lost each other, and says how old its answer may be.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn resolve_with(&self, query: &Query, mode: ReadMode) -> Result<Resolved, Error> {
        self.calls.resolve(query, mode).await
    }

    /// Watches what `query` selects: from now on, or after a revision got from a watch of the same query. It ends
    /// with the connection; [`discover`](Self::discover) goes on by itself.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no watch begins.
    pub async fn watch(&self, query: &Query, after: Option<Revision>) -> Result<Watch, Error> {
        self.calls.watch(query, after).await
    }

    /// Follows what `query` selects, in a task, through whatever happens to the registry.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn discover(&self, query: Query) -> Discovery {
        Discovery::start(self.calls.clone(), query)
    }

    /// Follows what `query` selects, and chooses from it by `strategy`, after the parts that a [`Composition`] has by
    /// default: health, outliers, load and a slow start.
    ///
    /// Where a composition has the part health, those that `query` would not select only because they do not work, or want no
    /// calls, are watched too: they get no calls either, and [`Balanced::explain`] says why.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn balance(&self, query: Query, strategy: impl Strategy + 'static) -> Balanced {
        self.balance_with(query, Composition::default(), strategy)
    }

    /// The same with parts of your choice.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn balance_with(
        &self,
        query: Query,
        composition: Composition,
        strategy: impl Strategy + 'static,
    ) -> Balanced {
        Balanced::start(self.calls.clone(), query, composition, Box::new(strategy), self.reports_load)
    }

    /// The session of that time to live; a new one if none is left.
    fn session(&self, ttl: Duration) -> Arc<Session> {
        // A map of weak references has no state that a panic could leave half changed.
        let mut sessions = self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(&ttl).and_then(Weak::upgrade) {
            return session;
        }
        sessions.retain(|_, session| session.strong_count() > 0);
        let session = Arc::new(Session::start(self.calls.clone(), ttl));
        sessions.insert(ttl, Arc::downgrade(&session));
        session
    }
}
