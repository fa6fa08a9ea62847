//! What can be chosen about a channel.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::Code;

use super::tls::TlsOptions;

/// What can be chosen about a [`BalancedChannel`](crate::BalancedChannel).
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelOptions {
    /// Which calls are repeated after they failed, and how. `None`, the default, repeats only what no instance has begun.
    pub retry: Option<RetryOptions>,
    /// Which calls are sent to a second instance when the first is slow to answer. `None`, the default, is none.
    pub hedge: Option<HedgeOptions>,
    /// What retries and hedges of the channel may cost together. The default is that of [`BudgetOptions`]; `None` is no limit.
    pub budget: Option<BudgetOptions>,
    /// Whether connections are made before calls need them. On by default; `None` connects when a call comes.
    pub connect_ahead: Option<ConnectAheadOptions>,
    /// How instances prove who they are. `None`, the default, speaks in clear text.
    pub tls: Option<TlsOptions>,
    /// How long connecting may take, TLS included, before the next instance is tried. The default of 1 s allows for one
    /// lost packet nearby.
    pub connect_timeout: Duration,
    /// Instances that are tried for one attempt, as long as none of them has begun with it. The default is 3.
    pub tries_max: u32,
    /// Bytes of a request that are kept until its call is answered, so that it can be repeated. The default is 64 KiB.
    /// Longer requests are not repeated once more than that was sent.
    pub request_kept_max: usize,
    /// How long a connection to an instance beyond [`connections_max`](ConnectAheadOptions::connections_max) is kept
    /// without a call. The default is 5 minutes.
    pub idle_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            retry: None,
            hedge: None,
            budget: Some(BudgetOptions::default()),
            connect_ahead: Some(ConnectAheadOptions::default()),
            tls: None,
            connect_timeout: Duration::from_secs(1),
            tries_max: 3,
            request_kept_max: 64 * 1024,
            idle_timeout: Duration::from_mins(5),
        }
    }
}

/// Connections that are made before calls need them: to the instances that get calls, at the start and whenever they change,
/// and again when one breaks. An instance that cannot be reached is tried again after a growing pause of up to 5 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAheadOptions {
    /// The most connections that are made so. The default is 100: of larger services a client should use a subset. Each
    /// channel begins at another place among the instances, so that clients do not all connect to the same ones.
    pub connections_max: usize,
    /// The most that are made at once. The default is 8.
    pub at_once_max: usize,
}

impl Default for ConnectAheadOptions {
    fn default() -> Self {
        Self { connections_max: 100, at_once_max: 8 }
    }
}

/// Retries after gRPC proposal A6. Each goes to another instance, as long as there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryOptions {
    /// Which calls may be repeated though an instance may have carried them out. The default is none but those that say so
    /// by a [`Repeat`].
    pub methods: Methods,
    /// The most attempts of a call, the first included. The default is 3.
    pub attempts_max: u32,
    /// The codes after which a call is repeated. The default is UNAVAILABLE.
    pub codes: Codes,
    /// The wait before the first retry, give or take a fifth. The default is 10 ms: mostly another instance answers it.
    pub initial_backoff: Duration,
    /// The longest wait. The default is 1 s.
    pub max_backoff: Duration,
    /// How many times longer each wait is than the one before. The default is 2.
    pub backoff_multiplier: f64,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            attempts_max: 3,
            codes: Codes::default(),
            initial_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_secs(1),
            backoff_multiplier: 2.0,
        }
    }
}

/// Hedging after gRPC proposal A6: a call that has no answer after a while is sent to another instance, too. The first good
/// answer counts, and the other attempts are cancelled. An attempt that fails has the next one sent at once.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeOptions {
    /// Which calls may be carried out more than once. The default is none but those that say so by a [`Repeat`]. A call that
    /// may be hedged is not retried besides.
    pub methods: Methods,
    /// The most attempts of a call, the first included. The default is 2.
    pub attempts_max: u32,
    /// How long each attempt is waited for before the next one. The default is 100 ms; it should be what one call in twenty
    /// or fewer takes longer than.
    pub delay: Duration,
    /// The codes after which the answers of others are waited for; any other ends the call. The default is UNAVAILABLE.
    pub codes: Codes,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            attempts_max: 2,
            delay: Duration::from_millis(100),
            codes: Codes::default(),
        }
    }
}

/// What repeats may cost (gRPC proposal A6, "retry throttling"): a bucket of tokens, of which each failed attempt takes one
/// and each success returns a part. While no more than half of them are left, nothing is retried or hedged. What no
/// instance has begun is repeated all the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetOptions {
    /// The tokens of a full bucket. The default of 200 lets a hundred calls that were under way on an instance that died be
    /// repeated at once.
    pub max_tokens: u32,
    /// What a success returns. The default of 0.1 lets one call in ten be repeated in the long run.
    pub token_ratio: f64,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { max_tokens: 200, token_ratio: 0.1 }
    }
}

/// Whether one call may be repeated, whatever its method: an extension of its request.
///
/// ```
/// # use netloft_client::Repeat;
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(Repeat::Allowed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Carried out twice, it does no harm.
    Allowed,
    /// It is carried out once at most.
    Forbidden,
}

/// The methods that something is for, in the words of gRPC: `package.Service/Method`, or `package.Service/*` for all of a
/// service. The default is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods(Named);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    All,
    Only(BTreeSet<String>),
}

impl Methods {
    /// Every method. It is right for services where everything can be carried out twice.
    pub fn all() -> Self {
        Self(Named::All)
    }

    /// The methods of these names.
    pub fn of<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self(Named::Only(names.into_iter().map(Into::into).collect()))
    }

    /// Whether the call of a path is one of them.
    pub(super) fn contain(&self, path: &str) -> bool {
        let names = match &self.0 {
            Named::All => return true,
            Named::Only(names) => names,
        };
        let name = path.trim_start_matches('/');
        let service = || name.split_once('/').map(|(service, _)| format!("{service}/*"));
        !names.is_empty() && (names.contains(name) || service().is_some_and(|all| names.contains(&all)))
    }
}

impl Default for Methods {
    fn default() -> Self {
        Self(Named::Only(BTreeSet::new()))
    }
}

/// Codes of gRPC. The default is UNAVAILABLE alone. The type of tonic is in it because whoever has this channel has tonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes(u32);

impl Codes {
    /// These codes.
    pub fn of(codes: impl IntoIterator<Item = Code>) -> Self {
        Self(codes.into_iter().fold(0, |all, code| all | bit(code)))
    }

    pub(super) fn contain(self, code: Code) -> bool {
        self.0 & bit(code) != 0
    }
}

impl Default for Codes {
    fn default() -> Self {
        Self::of([Code::Unavailable])
    }
}

fn bit(code: Code) -> u32 {
    1 << i32::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_one_by_one_or_by_service() {
        let some = Methods::of(["api.Greeter/Hello", "api.Store/*"]);
        for (path, is_one) in [
            ("/api.Greeter/Hello", true),
            ("/api.Greeter/Bye", false),
            ("/api.Store/Get", true),
            ("/api.Stores/Get", false),
            ("/", false),
        ] {
            assert_eq!(some.contain(path), is_one, "{path}");
            assert!(Methods::all().contain(path));
            assert!(!Methods::default().contain(path));
        }
    }

    #[test]
    fn codes_are_those_that_were_named() {
        let codes = Codes::of([Code::Aborted, Code::Unauthenticated]);
        let all = (0..17).map(Code::from_i32).filter(|code| codes.contain(*code));
        assert_eq!(all.collect::<Vec<_>>(), [Code::Aborted, Code::Unauthenticated]);
        assert!(Codes::default().contain(Code::Unavailable) && !Codes::default().contain(Code::Ok));
    }
}
